//! The limits against a server that keeps the same ones.

use super::*;
use proptest::prelude::*;

/// Starts calls as early as the limits allow from `now` on; returns when each started.
fn starts(limits: &mut Limits, mut now: Duration, tokens: &[u64]) -> Vec<Duration> {
    tokens
        .iter()
        .map(|&tokens| {
            while let Err(later) = limits.take(now, tokens) {
                assert!(later > now, "a refusal names a later time");
                now = later;
            }
            now
        })
        .collect()
}

/// The most that starts in any 60 seconds.
fn most_in_a_minute(starts: &[Duration], amounts: &[u64]) -> u64 {
    let windows = (0..starts.len()).map(|first| {
        let inside = starts[first..]
            .iter()
            .take_while(|at| **at < starts[first] + MINUTE)
            .count();
        amounts[first..first + inside].iter().sum()
    });
    windows.max().unwrap_or(0)
}

#[test]
fn requests_are_paced_evenly_after_the_burst() {
    let starts = starts(&mut Limits::new(Some(1200), None), Duration::ZERO, &[0; 5]);
    let millis: Vec<u128> = starts.iter().map(Duration::as_millis).collect();
    assert_eq!(millis, [0, 0, 50, 100, 150]);
}

#[test]
fn without_limits_everything_starts_at_once() {
    let starts = starts(&mut Limits::new(None, None), Duration::ZERO, &[1_000_000; 100]);
    assert_eq!(starts.last(), Some(&Duration::ZERO));
}

#[test]
fn a_call_larger_than_a_second_is_paid_for_before_the_next_one() {
    let mut limits = Limits::new(None, Some(60_000));
    let tokens = [5_000, 500, 400, 5_000, 5_000, 100];
    let starts = starts(&mut limits, Duration::ZERO, &tokens);
    let millis: Vec<u128> = starts.iter().map(Duration::as_millis).collect();
    assert_eq!(
        millis,
        [0, 4_550, 4_950, 5_900, 10_900, 15_050],
        "950 are there at the start, then 1,000 a second"
    );
}

#[test]
fn what_was_not_used_is_there_for_the_next_call() {
    let mut limits = Limits::new(None, Some(60_000));
    assert_eq!(limits.take(Duration::ZERO, 950), Ok(()));
    let now = Duration::from_millis(50);
    limits.settle(now, now, Duration::MAX, 950, 400);
    assert_eq!(limits.take(now, 600), Ok(()));
    assert!(limits.take(now, 10).is_err());
}

#[test]
fn what_a_full_bucket_at_the_server_has_lost_does_not_come_back() {
    let mut limits = Limits::new(None, Some(60_000));
    let (before, heard) = (Duration::from_secs(10), Duration::from_secs(20));
    assert_eq!(limits.take(before, 500), Ok(()));
    // The server booked the end of the first while the second was on its way there.
    assert_eq!(limits.take(heard, 900), Ok(()));
    limits.settle(heard, heard, before, 500, 100);
    assert!(limits.take(heard, 51).is_err());
    assert_eq!(limits.take(heard, 40), Ok(()));
}

#[test]
fn what_was_used_beyond_the_reservation_is_paid_before_the_next_call() {
    let mut limits = Limits::new(None, Some(60_000));
    assert_eq!(limits.take(Duration::ZERO, 1_000), Ok(()));
    limits.settle(Duration::ZERO, Duration::ZERO, Duration::MAX, 1_000, 6_000);
    let starts = starts(&mut limits, Duration::ZERO, &[1_000]);
    assert_eq!(starts[0].as_secs(), 6);
}

#[test]
fn tokens_of_a_request_that_has_to_wait_are_not_paid_twice() {
    let mut limits = Limits::new(Some(60), Some(60_000));
    let starts = starts(&mut limits, Duration::ZERO, &[1_000, 1_000, 1_000]);
    let seconds: Vec<u64> = starts.iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [0, 1, 2]);
}

#[test]
fn what_was_not_used_for_a_long_time_is_gone() {
    // A hundred calls that wait for something else than tokens, each reserving five seconds'
    // worth and using a tenth of it.
    let mut limits = Limits::new(None, Some(60_000));
    let mut now = Duration::ZERO;
    for _ in 0..100 {
        while let Err(later) = limits.take(now, 5_000) {
            now = later;
        }
        now += Duration::from_secs(10);
        limits.settle(now, now, Duration::MAX, 5_000, 500);
    }
    let starts = starts(&mut limits, now, &[1_000; 60]);
    let at_once = starts.iter().filter(|at| **at == now).count();
    assert_eq!(
        at_once, 1,
        "the bucket holds a second's worth and not what was saved up"
    );
}

/// The server's bucket as a provider keeps it: the same reservation at the start, corrected at
/// the end, never more in it than it holds. A call that is larger than the bucket needs all of it.
struct Server {
    per_minute: f64,
    capacity: f64,
    level: f64,
    at: Duration,
}

impl Server {
    fn new(per_minute: u32, capacity: u64) -> Self {
        let capacity = capacity as f64;
        Self {
            per_minute: f64::from(per_minute),
            capacity,
            level: capacity,
            at: Duration::ZERO,
        }
    }

    /// How much more there is than such a call needs.
    fn spare(&mut self, now: Duration, call: &Call) -> f64 {
        self.add(now, 0.0);
        self.level - self.capacity.min(call.reserved as f64)
    }

    fn add(&mut self, now: Duration, tokens: f64) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        self.level = (self.level + passed * self.per_minute / 60.0).min(self.capacity);
        self.level = (self.level + tokens).min(self.capacity);
    }
}

/// A call of a made-up run.
#[derive(Clone, Debug)]
struct Call {
    reserved: u64,
    used: u64,
    millis: u64,
}

#[derive(Clone, Copy)]
enum Seen {
    Started,
    Ended,
}

/// Plays calls against limits, so many at once, each started as early as the limits allow.
/// Returns when the last one started.
fn play(
    limits: &mut Limits,
    calls: &[Call],
    slots: usize,
    mut seen: impl FnMut(Duration, &Call, Seen),
) -> Duration {
    let mut running = std::collections::BTreeSet::new();
    let mut started = Vec::new();
    let (mut now, mut next, mut last) = (Duration::ZERO, 0, Duration::ZERO);
    while next < calls.len() || !running.is_empty() {
        let mut wake = None;
        while next < calls.len() && running.len() < slots {
            match limits.take(now, calls[next].reserved) {
                Ok(()) => {
                    seen(now, &calls[next], Seen::Started);
                    running.insert((now + Duration::from_millis(calls[next].millis), next));
                    started.push(now);
                    (next, last) = (next + 1, now);
                }
                Err(later) => {
                    assert!(later > now, "a refusal names a later time");
                    wake = Some(later);
                    break;
                }
            }
        }
        let end = running.first().map(|&(at, _)| at);
        now = match (end, wake) {
            (Some(end), Some(wake)) => end.min(wake),
            (end, wake) => end.or(wake).unwrap_or(now),
        };
        while let Some(&(at, ended)) = running.first().filter(|(at, _)| *at <= now) {
            running.remove(&(at, ended));
            let call = &calls[ended];
            limits.settle(now, now, started[ended], call.reserved, call.used);
            seen(now, call, Seen::Ended);
        }
    }
    last
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    // Phases of a run: what is reserved and what of it is used, and how long calls take.
    let phase = (1u64..8_000, 0.0..1.5f64, 1u64..90_000, 1usize..80);
    proptest::collection::vec(phase, 1..6).prop_map(|phases| {
        let phase = |(reserved, share, millis, count): (u64, f64, u64, usize)| {
            let used = (reserved as f64 * share) as u64;
            vec![
                Call {
                    reserved,
                    used,
                    millis
                };
                count
            ]
        };
        phases.into_iter().flat_map(phase).collect()
    })
}

proptest! {
    #[test]
    fn a_server_with_the_same_limit_refuses_nothing(
        tpm in 8_000u32..1_000_000,
        calls in calls(),
        slots in 1usize..200,
        seconds in 1u32..60,
    ) {
        // From a second's worth to a minute's.
        let mut server = Server::new(tpm, u64::from(tpm / 60 * seconds));
        let mut lowest = f64::MAX;
        play(&mut Limits::new(None, Some(tpm)), &calls, slots, |now, call, seen| match seen {
            Seen::Started => {
                lowest = lowest.min(server.spare(now, call));
                server.add(now, -(call.reserved as f64));
            }
            Seen::Ended => server.add(now, call.reserved as f64 - call.used as f64),
        });
        // governor counts whole tokens, and a nanosecond is rounded now and then.
        prop_assert!(lowest >= -2.0, "{lowest} tokens were left");
    }

    /// A call reaches the server a while after it was let go, and its end us a while after it was
    /// booked there. None uses more than was reserved: that nobody can know before it is told, and a call
    /// that is let go in between may be refused.
    #[test]
    fn what_is_on_the_way_makes_no_difference(
        tpm in 8_000u32..1_000_000,
        calls in calls(),
        slots in 1usize..200,
        seconds in 1u32..60,
        seed in any::<u64>(),
    ) {
        let within = |call: Call| Call { used: call.used.min(call.reserved), ..call };
        let calls: Vec<Call> = calls.into_iter().map(within).collect();
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut way = move || Duration::from_micros(chance.u64(..5_000));
        let mut at_the_server = Vec::new();
        play(&mut Limits::new(None, Some(tpm)), &calls, slots, |now, call, seen| match seen {
            Seen::Started => {
                let arrives = now + way().min(Duration::from_millis(call.millis));
                at_the_server.push((arrives, true, call.clone()));
            }
            Seen::Ended => {
                let booked = now.saturating_sub(way().min(Duration::from_millis(call.millis / 2)));
                at_the_server.push((booked, false, call.clone()));
            }
        });
        at_the_server.sort_by_key(|(at, ..)| *at);
        let mut server = Server::new(tpm, u64::from(tpm / 60 * seconds));
        let mut lowest = f64::MAX;
        for (now, starts, call) in at_the_server {
            let (reserved, used) = (call.reserved as f64, call.used as f64);
            // A larger one needs a full bucket, which may be full only once it arrives.
            if starts && call.reserved < u64::from(tpm) * BURST_MILLIS / 60_000 {
                lowest = lowest.min(server.spare(now, &call));
            }
            server.add(now, if starts { -reserved } else { reserved - used });
        }
        prop_assert!(lowest >= -2.0, "{lowest} tokens were left");
    }

    #[test]
    fn the_rate_is_used_up_although_too_much_is_reserved(
        tpm in 100_000u32..1_000_000,
        over in 1.0..1.5f64,
        millis in 1_000u64..20_000,
    ) {
        let used = 1_200;
        let reserved = (used as f64 * over) as u64;
        let mut chance = fastrand::Rng::with_seed(millis);
        let count = u64::from(tpm) * 5 / used;
        let calls: Vec<Call> = (0..count)
            .map(|_| Call {
                reserved,
                used,
                millis: millis / 2 + chance.u64(0..millis),
            })
            .collect();
        let last = play(&mut Limits::new(None, Some(tpm)), &calls, usize::MAX, |_, _, _| {});
        // Before the first ones have ended nobody knows that less was used.
        let took = last.as_secs_f64() - millis as f64 * 0.0015;
        let ideal = (count * used) as f64 / f64::from(tpm) * 60.0;
        prop_assert!(took * 0.9 <= ideal, "{last:?} for {ideal} s");
    }

    #[test]
    fn no_minute_sees_more_than_limit_and_burst(
        rpm in 1u32..5_000,
        tpm in 1_000u32..1_000_000,
        tokens in proptest::collection::vec(1u64..1_000, 1..300),
    ) {
        let starts = starts(&mut Limits::new(Some(rpm), Some(tpm)), Duration::ZERO, &tokens);
        let requests = most_in_a_minute(&starts, &vec![1; tokens.len()]);
        prop_assert!(requests <= u64::from(rpm + (rpm / 600).max(1)));
        let burst = u64::from(tpm / 60).max(*tokens.iter().max().unwrap());
        prop_assert!(most_in_a_minute(&starts, &tokens) <= u64::from(tpm) + burst);
    }

    #[test]
    fn the_rate_is_used_up(rpm in 1u32..5_000, calls in 2usize..300) {
        let starts = starts(&mut Limits::new(Some(rpm), None), Duration::ZERO, &vec![0; calls]);
        let ideal = MINUTE.mul_f64((calls - 1) as f64 / f64::from(rpm));
        prop_assert!(*starts.last().unwrap() <= ideal + Duration::from_micros(10));
    }
}

/// A server whose bucket of calls nobody knows of: what it takes, and what it refuses.
fn against_a_bucket(limits: &mut Limits, per_minute: f64, burst: f64, until: Duration) -> (u64, u64) {
    let (mut level, mut at) = (burst, Duration::ZERO);
    let (mut taken, mut refused) = (0, 0);
    let mut now = Duration::ZERO;
    while now < until {
        if let Err(later) = limits.take(now, 0) {
            now = later;
            continue;
        }
        level = (level + (now - at).as_secs_f64() * per_minute / 60.0).min(burst);
        at = now;
        if level >= 1.0 {
            level -= 1.0;
            taken += 1;
        } else {
            refused += 1;
            limits.refused(now, 0, None);
            // What the server asks everybody to wait.
            now += Duration::from_secs(1);
        }
        // No more than forty calls a second are there to be made.
        now += Duration::from_millis(25);
    }
    (taken, refused)
}

#[test]
fn a_limit_that_nobody_knows_is_found_and_used() {
    let hour = Duration::from_secs(3_600);
    for (configured, per_minute) in [
        (None, 600.0),
        (Some(2_000), 600.0),
        (Some(600), 200.0),
        (None, 60.0),
    ] {
        let mut limits = Limits::new(configured, None);
        let (taken, refused) = against_a_bucket(&mut limits, per_minute, 10.0, hour);
        let share = taken as f64 / (per_minute * 60.0);
        assert!(share >= 0.93, "{configured:?} at {per_minute}: {share} used");
        let lost = refused as f64 / (taken + refused) as f64;
        assert!(lost <= 0.05, "{configured:?} at {per_minute}: {lost} refused");
    }
}

/// A window of a minute that begins anew, and refusals that ask to wait for its end.
#[test]
fn a_limit_in_fixed_windows_is_found_though_each_pause_is_long() {
    let mut limits = Limits::new(None, None);
    let (mut now, mut window, mut level) = (Duration::ZERO, Duration::ZERO, 300);
    let (mut taken, mut refused) = (0_u32, 0_u32);
    while now < Duration::from_secs(3_600) {
        if let Err(later) = limits.take(now, 0) {
            now = later;
            continue;
        }
        if now >= window + MINUTE {
            window = Duration::from_secs(now.as_secs() / 60 * 60);
            level = 300;
        }
        if level > 0 {
            (level, taken) = (level - 1, taken + 1);
            now += Duration::from_millis(25);
        } else {
            refused += 1;
            limits.refused(now, 0, None);
            now = window + MINUTE;
        }
    }
    assert!(taken >= 300 * 60 * 9 / 10, "{taken} of 18,000");
    assert!(refused <= 60, "{refused} refused: at most one a minute");
}

#[test]
fn refusals_and_nothing_else_bring_a_known_rate_down_once() {
    let mut limits = Limits::new(Some(600), None);
    let mut now = Duration::ZERO;
    for minute in 0..30 {
        now = now.max(Duration::from_secs(100 + 120 * minute));
        for _ in 0..5 {
            while let Err(later) = limits.take(now, 0) {
                now = later;
            }
            limits.refused(now, 0, None);
        }
    }
    let least = limits
        .changes()
        .iter()
        .filter_map(|change| change.per_minute)
        .min();
    assert_eq!(least, Some(420));
}

#[test]
fn a_call_that_took_nothing_from_the_bucket_gives_nothing_back() {
    let mut limits = Limits::new(None, None);
    assert_eq!(limits.take(Duration::ZERO, 50_000), Ok(()));
    let now = Duration::from_secs(5);
    let tokens = Some(call::Quota {
        limit: 60_000,
        remaining: None,
        reset: None,
        window: None,
    });
    limits.told(
        now,
        &Quotas {
            requests: None,
            tokens,
        },
    );
    assert_eq!(limits.take(now, 1_000), Ok(()), "a second's worth is there");
    limits.settle(now, now, Duration::ZERO, 50_000, 100);
    assert!(limits.take(now, 1_000).is_err());
}

#[test]
fn what_the_server_tells_is_kept_and_told_once() {
    let mut limits = Limits::new(None, None);
    let quota = |limit, remaining| call::Quota {
        limit,
        remaining: Some(remaining),
        reset: Some(Duration::from_secs(1)),
        window: Some(MINUTE),
    };
    let told = Quotas {
        requests: Some(quota(1_200, 1_100)),
        tokens: Some(quota(60_000, 50_000)),
    };
    limits.told(Duration::ZERO, &told);
    limits.told(Duration::ZERO, &told);
    let change = |counted, per_minute| RateChange {
        counted,
        per_minute: Some(per_minute),
        cause: RateCause::Told,
        model: None,
    };
    assert_eq!(
        limits.changes(),
        [change(Counted::Requests, 1_200), change(Counted::Tokens, 60_000)]
    );
    assert_eq!(
        limits.most_tokens(),
        None,
        "a call that the server takes is not refused by us"
    );
    let paced = starts(&mut limits, Duration::ZERO, &[0; 5]);
    let millis: Vec<u128> = paced.iter().map(Duration::as_millis).collect();
    assert_eq!(millis, [0, 0, 50, 100, 150]);
    assert_eq!(limits.changes(), []);
}

#[test]
fn a_limit_that_is_used_up_is_waited_for_before_it_refuses() {
    let mut limits = Limits::new(None, None);
    let requests = Some(call::Quota {
        limit: 1_000,
        remaining: Some(0),
        reset: Some(Duration::from_secs(86_400)),
        window: Some(Duration::from_secs(86_400)),
    });
    limits.told(
        Duration::from_secs(1),
        &Quotas {
            requests,
            tokens: None,
        },
    );
    assert_eq!(
        limits.take(Duration::from_secs(1), 0),
        Err(Duration::from_millis(87_400))
    );
    assert_eq!(limits.most_tokens(), None);
    assert_eq!(limits.changes(), [], "a day's limit is no pace");
}

proptest! {
    /// Whatever is told and refused, what is configured is never exceeded.
    #[test]
    fn nothing_learned_raises_what_is_configured(
        steps in prop::collection::vec((0u8..4, 0u64..3_000, 1u64..5_000), 1..300),
    ) {
        let (per_minute, tokens_per_minute) = (600, 60_000);
        let mut limits = Limits::new(Some(per_minute), Some(tokens_per_minute));
        let mut now = Duration::ZERO;
        let (mut started, mut reserved) = (Vec::new(), Vec::new());
        for (what, wait, amount) in steps {
            now += Duration::from_millis(wait);
            match what {
                0 | 1 => {
                    while let Err(later) = limits.take(now, amount) {
                        prop_assert!(later > now);
                        now = later;
                    }
                    started.push(now);
                    reserved.push(amount);
                }
                2 => {
                    let quota = call::Quota { limit: amount * 10, remaining: None, reset: None, window: None };
                    limits.told(now, &Quotas { requests: Some(quota), tokens: Some(quota) });
                }
                _ => if let (Some(at), Some(tokens)) = (started.last(), reserved.last()) {
                    let limit = [None, Some(Counted::Requests), Some(Counted::Tokens)][(amount % 3) as usize];
                    limits.refused(*at, *tokens, limit);
                }
            }
        }
        let ones = vec![1; started.len()];
        prop_assert!(most_in_a_minute(&started, &ones) <= u64::from(per_minute) + 1);
        let burst = 5_000;
        prop_assert!(most_in_a_minute(&started, &reserved) <= u64::from(tokens_per_minute) + burst);
    }
}

/// Plays a minute against a server that counts the whole output limit of a call while it is in flight,
/// and gives back what was not used when it ends. Returns how many calls it took and how many it
/// refused. `named`: it says what it took a refused call for, and that is reserved from then on.
fn against_limits_in_flight(named: bool) -> (u32, u32) {
    let mut reserved = 490;
    let mut limits = ModelLimits::new(&["m".into()], None, Some(PER_MINUTE as u32));
    let (mut level, mut filled) = (PER_MINUTE / 60.0, Duration::ZERO);
    let mut in_flight: std::collections::VecDeque<(Duration, u64)> = Default::default();
    let (mut taken, mut refused) = (0, 0);
    let (mut now, mut paused) = (Duration::ZERO, Duration::ZERO);
    let latency = Duration::from_millis(200);
    while now < Duration::from_secs(60) {
        let fill = (now - filled).as_secs_f64() * PER_MINUTE / 60.0;
        (level, filled) = ((level + fill).min(PER_MINUTE / 60.0), now);
        while let Some(&(started, reserved)) =
            in_flight.front().filter(|(started, _)| *started + latency <= now)
        {
            in_flight.pop_front();
            level = (level + COUNTED - USED).min(PER_MINUTE / 60.0);
            limits.settle(now, now, 0, started, reserved, USED as u64);
        }
        if now >= paused && limits.take(now, 0, reserved).is_ok() {
            if level >= COUNTED {
                level -= COUNTED;
                in_flight.push_back((now, reserved));
                taken += 1;
            } else {
                refused += 1;
                let wait = Duration::from_secs_f64((COUNTED - level) * 60.0 / PER_MINUTE);
                paused = now + wait;
                let refusal = Refusal {
                    started: now,
                    tokens: reserved,
                    limit: Some(Counted::Tokens),
                    wait,
                    reckoned: named
                        .then_some(COUNTED as u64)
                        .filter(|counted| reserved < *counted),
                };
                limits.refused(now, 0, &refusal);
                reserved = refusal.reckoned.unwrap_or(reserved);
            }
        }
        now += Duration::from_millis(1);
    }
    assert_eq!(limits.changes(), [], "the rate is what it was");
    (taken, refused)
}

const PER_MINUTE: f64 = 600_000.0;
const COUNTED: f64 = 1_270.0;
const USED: f64 = 490.0;

/// More than what we reserve, by all that is in flight. After a refusal we are behind it, and stay
/// there.
#[test]
fn a_server_that_counts_more_in_flight_refuses_few_calls_and_no_rate_is_lost() {
    let (taken, refused) = against_limits_in_flight(false);
    let most = PER_MINUTE / USED;
    assert!(f64::from(refused) <= 0.005 * most, "{refused} of {taken}");
    assert!(f64::from(taken) >= 0.98 * most, "{taken} of {most}");
}

#[test]
fn a_server_that_names_what_it_counts_refuses_one_call() {
    let (taken, refused) = against_limits_in_flight(true);
    assert_eq!(refused, 1, "of {taken}");
    assert!(f64::from(taken) >= 0.98 * PER_MINUTE / USED, "{taken}");
}
