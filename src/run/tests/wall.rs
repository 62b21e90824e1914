//! Windows and deadlines by a wall clock that goes with the replayed time, and jumps.

use std::cell::Cell;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;
use crate::hours::{Hours, Window};

thread_local! {
    /// What the wall clock showed at the start of the replay, where a test sets it.
    static WALL: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
}

/// The wall clock of all replays; it stands still unless a test sets it.
pub fn unix_ms() -> u64 {
    match WALL.get() {
        Some((start, shown)) => shown + u64::try_from(start.elapsed().as_millis()).unwrap(),
        None => 0,
    }
}

pub fn set(clock: &str) {
    let shown: Timestamp = clock.parse().unwrap();
    WALL.set(Some((
        Instant::now(),
        u64::try_from(shown.as_millisecond()).unwrap(),
    )));
}

/// Sets the clock forward or back by so many milliseconds.
pub fn jump(by_ms: i64) {
    if let Some((start, shown)) = WALL.get() {
        WALL.set(Some((start, shown.saturating_add_signed(by_ms))));
    }
}

fn times(hours: &[&str], until: Option<&str>) -> Times {
    Times {
        until: until.map(|until| until.parse().unwrap()),
        hours: Hours::new(hours.iter().map(|text| Window::parse(text).unwrap()).collect()),
        zone: TimeZone::get("Europe/Berlin").unwrap(),
    }
}

fn night(personas: usize, times: Times) -> Night {
    Night {
        personas,
        concurrency: Some(4),
        seed: 1,
        times,
        ..Night::default()
    }
}

/// Runs a test with a wall clock of its own.
pub fn by_the_clock<T>(clock: &str, test: impl Future<Output = T>) -> T {
    let done = paused(async {
        set(clock);
        test.await
    });
    WALL.set(None);
    done
}

async fn replayed(night: &Night, world: &Arc<World>) -> Told {
    let told = replay(night, world, &Arc::new(MemoryStore::new()), None, vec![]).await;
    check_events(night, &told);
    told
}

fn hours(sent: &[Duration]) -> Vec<u64> {
    let mut hours: Vec<u64> = sent.iter().map(|at| at.as_secs() / 3600).collect();
    hours.dedup();
    hours
}

#[test]
fn nothing_is_sent_outside_the_hours_and_the_run_goes_on_inside() {
    // Local time is an hour ahead: 06:30, so half an hour is left of this night.
    by_the_clock("2026-11-26T05:30:00Z", async {
        let night = night(150, times(&["23:00-07:00"], None));
        let world = Arc::new(World::new(1, 0.0));
        let told = replayed(&night, &world).await;
        assert_eq!(told.outcome, Some(Outcome::Partial), "one of them cannot be read");
        let sent = world.sent.lock().unwrap().clone();
        let minutes = |at: &Duration| at.as_secs_f64() / 60.0;
        assert!(
            sent.iter()
                .all(|at| minutes(at) < 30.0 || minutes(at) >= 16.5 * 60.0)
        );
        assert!(sent.iter().any(|at| minutes(at) < 30.0) && sent.iter().any(|at| minutes(at) >= 16.5 * 60.0));
        let waits: Vec<_> = told
            .events
            .iter()
            .filter_map(|stamped| match &stamped.event {
                Event::Waiting { until, wait } => Some((until.clock.clone(), (wait.as_secs() + 30) / 60)),
                Event::WaitingEnded => Some(("on".to_owned(), stamped.at.as_secs() / 60)),
                _ => None,
            })
            .collect();
        assert_eq!(
            waits,
            [("23:00".to_owned(), 16 * 60), ("on".to_owned(), 16 * 60 + 30)]
        );
    });
}

#[test]
fn a_night_in_which_the_clock_is_set_back_has_an_hour_more() {
    // 23:00 in Berlin before the night of 2026-10-25; the window closes at 07:00, nine hours later.
    by_the_clock("2026-10-24T21:00:00Z", async {
        let night = Night {
            concurrency: Some(1),
            ..night(800, times(&["23:00-07:00"], Some("2026-10-25T20:00:00Z")))
        };
        let world = Arc::new(World::new(1, 0.0));
        let told = replayed(&night, &world).await;
        assert_eq!(told.outcome, Some(Outcome::Deadline));
        assert_eq!(hours(&world.sent.lock().unwrap()), (0..9).collect::<Vec<_>>());
        // The hours would open after the deadline: there is nothing to wait for.
        let end = told.events.last().unwrap().at.as_secs() / 3600;
        assert_eq!(end, 9);
    });
}

#[test]
fn at_the_deadline_nothing_more_is_sent_and_what_is_in_flight_is_kept() {
    by_the_clock("2026-11-26T05:30:00Z", async {
        let mut night = night(100, times(&[], Some("2026-11-26T05:40:00Z")));
        let world = Arc::new(World::new(1, 0.0));
        let store = Arc::new(MemoryStore::new());
        let told = replay(&night, &world, &store, None, vec![]).await;
        check_events(&night, &told);
        assert_eq!(told.outcome, Some(Outcome::Deadline));
        let last = *world.sent.lock().unwrap().last().unwrap();
        assert!((540..600).contains(&last.as_secs()), "{last:?}");
        assert!(
            told.events.last().unwrap().at.as_secs() < 625,
            "the longest call lasts 20 s"
        );
        let reached =
            |s: &&Stamped| matches!(&s.event, Event::DeadlineReached { until, .. } if until.clock == "06:40");
        assert_eq!(told.events.iter().filter(reached).count(), 1);
        night.times = Times::default();
        finished_again_costs_nothing(&night, &world, &store).await;
        assert!(world.paid.lock().unwrap().values().all(|paid| *paid == 1));
    });
}

#[test]
fn a_deadline_after_the_last_call_was_sent_is_no_early_end() {
    by_the_clock("2026-11-26T05:30:00Z", async {
        let first = {
            let world = Arc::new(World::new(1, 0.0));
            replayed(&night(2, times(&[], None)), &world).await;
            *world.sent.lock().unwrap().last().unwrap()
        };
        set("2026-11-26T05:30:00Z");
        let deadline: Timestamp = "2026-11-26T05:30:00Z".parse().unwrap();
        let times = Times {
            until: deadline.checked_add(first + Duration::from_millis(50)).ok(),
            ..Times::default()
        };
        let told = replayed(&night(2, times), &Arc::new(World::new(1, 0.0))).await;
        assert_eq!(told.outcome, Some(Outcome::Complete));
    });
}

#[test]
fn a_laptop_that_slept_past_the_deadline_sends_nothing_more() {
    by_the_clock("2026-11-26T05:30:00Z", async {
        let night = night(100, times(&[], Some("2026-11-26T12:00:00Z")));
        let world = Arc::new(World::new(1, 0.0));
        tokio::spawn(async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            set("2026-11-26T12:30:00Z");
        });
        let told = replayed(&night, &world).await;
        assert_eq!(told.outcome, Some(Outcome::Deadline));
        assert!(*world.sent.lock().unwrap().last().unwrap() <= Duration::from_secs(90));
    });
}

#[test]
fn a_laptop_that_slept_into_its_hours_goes_on_within_a_minute() {
    by_the_clock("2026-11-26T12:00:00Z", async {
        let night = night(2, times(&["23:00-07:00"], None));
        let world = Arc::new(World::new(1, 0.0));
        tokio::spawn(async {
            tokio::time::sleep(Duration::from_secs(600)).await;
            set("2026-11-26T22:30:00Z");
        });
        let told = replayed(&night, &world).await;
        assert_eq!(told.outcome, Some(Outcome::Complete));
        let first = world.sent.lock().unwrap()[0].as_secs();
        assert!((600..=631).contains(&first), "{first}");
    });
}

#[test]
fn what_needs_no_call_waits_for_no_hours() {
    by_the_clock("2026-11-26T00:00:00Z", async {
        let mut night = night(3, times(&[], None));
        let world = Arc::new(World::new(1, 0.0));
        let store = Arc::new(MemoryStore::new());
        replay(&night, &world, &store, None, vec![]).await;
        set("2026-11-26T12:00:00Z");
        night.times = times(&["23:00-07:00"], Some("2026-11-26T13:00:00Z"));
        let told = replay(&night, &world, &store, None, vec![]).await;
        assert_eq!(told.outcome, Some(Outcome::Complete));
        assert!(
            told.events
                .iter()
                .all(|s| !matches!(s.event, Event::Waiting { .. }))
        );
    });
}

#[test]
fn a_stop_ends_the_waiting() {
    by_the_clock("2026-11-26T12:00:00Z", async {
        let night = night(3, times(&["23:00-07:00"], None));
        let world = Arc::new(World::new(1, 0.0));
        let stops = vec![(Duration::from_secs(100), Stop::Drain)];
        let told = replay(&night, &world, &Arc::new(MemoryStore::new()), None, stops).await;
        assert_eq!(told.outcome, Some(Outcome::Interrupted));
        assert_eq!(told.events.last().unwrap().at.as_secs(), 100);
        assert!(world.sent.lock().unwrap().is_empty());
    });
}
