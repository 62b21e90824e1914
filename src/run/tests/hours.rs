//! Nights in which the price changes while calls are in flight.

use super::money::{calls, check_budget, per_run, usd};
use super::*;
use crate::hours::{Days, Weekly, Window};

/// Calls cost five times as much in fifteen minutes of each half hour.
fn dear_at_times() -> Tariff {
    let window = |n: u32| {
        format!(
            "{:02}:{}-{:02}:{}",
            n / 2,
            n % 2 * 30 + 10,
            n / 2,
            n % 2 * 30 + 25
        )
    };
    let windows = (0..48).map(|n| Window::parse(&window(n)).unwrap());
    let times = Weekly::new(Days::ALL, windows.collect());
    let dear = Price::per_million(5.0, None, None, 10.0);
    Tariff::new(price(), jiff::tz::TimeZone::UTC, "UTC", vec![(times, dear)])
}

fn world(seed: u64, faults: f64) -> Arc<World> {
    Arc::new(World {
        tariff: dear_at_times(),
        ..World::new(seed, faults)
    })
}

/// Many short runs with a budget each, begun at any minute, until all is done. Returns how many met
/// their budget, and how many answers had the usual price and that of hours.
fn night_with_dear_hours(seed: u64) -> [u32; 3] {
    wall::by_the_clock("2026-11-26T22:00:00Z", async {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut night = Night {
            personas: 40,
            concurrency: [None, Some(4), Some(16), Some(64)][chance.usize(0..4)],
            tariff: dear_at_times(),
            seed,
            ..Night::default()
        };
        let world = world(seed, chance.f64() * 0.3);
        let store = Arc::new(MemoryStore::new());
        let mut counts = [0; 3];
        for number in 0..400 {
            let amount = usd(0.02 + chance.f64() * 0.15);
            night.budget = vec![per_run(amount)];
            night.run = number;
            let before = *world.billed.lock().unwrap();
            let told = replay(&night, &world, &store, None, vec![]).await;
            check_events(&night, &told);
            check_budget(&told, &store, amount);
            let paid: Money = told
                .events
                .iter()
                .filter_map(|stamped| cost(&stamped.event))
                .sum();
            assert_eq!(
                paid,
                *world.billed.lock().unwrap() - before,
                "as the provider bills it"
            );
            for (at_hours, count) in prices(&told) {
                counts[1 + usize::from(at_hours)] += count;
            }
            let outcome = told.outcome.unwrap();
            counts[0] += u32::from(outcome == Outcome::Budget);
            if matches!(outcome, Outcome::Complete | Outcome::Partial) {
                return counts;
            }
            tokio::time::sleep(Duration::from_secs(chance.u64(0..1_800))).await;
        }
        panic!("it never ended");
    })
}

fn cost(event: &Event) -> Option<Money> {
    match event {
        Event::CallEnded {
            outcome: CallOutcome::Ok { cost, .. } | CallOutcome::Rejected { cost, .. },
            ..
        } => *cost,
        _ => None,
    }
}

/// How many answers had the price of hours, and how many the usual one.
fn prices(told: &Told) -> HashMap<bool, u32> {
    let mut counts = HashMap::new();
    for stamped in &told.events {
        if let Event::CallEnded {
            outcome: CallOutcome::Ok { hours, .. } | CallOutcome::Rejected { hours, .. },
            ..
        } = &stamped.event
        {
            *counts.entry(hours.is_some()).or_default() += 1;
        }
    }
    counts
}

#[test]
fn a_price_that_rises_while_calls_are_in_flight_passes_no_budget() {
    let mut all = [0; 3];
    for seed in 0..15 {
        let Ok(counts) = std::panic::catch_unwind(|| night_with_dear_hours(seed)) else {
            panic!("seed {seed}");
        };
        all.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let [budgets, usual, dear] = all;
    assert!(budgets > 50 && usual > 500 && dear > 500, "{all:?}");
}

/// One call begun 15 s before its price rises, one that cannot last so long.
#[test]
fn money_is_set_aside_for_the_dearest_price_that_a_call_can_meet() {
    let set_aside = |clock: &str| {
        wall::by_the_clock(clock, async {
            let night = Night {
                personas: 1,
                concurrency: Some(1),
                tariff: dear_at_times(),
                budget: vec![per_run(usd(10.0))],
                ..Night::default()
            };
            let store = Arc::new(MemoryStore::new());
            let told = replay(&night, &world(1, 0.0), &store, None, vec![]).await;
            calls(&told, &store).0[0].1
        })
    };
    let (before, at_the_border) = (
        set_aside("2026-11-26T22:09:00Z"),
        set_aside("2026-11-26T22:09:45Z"),
    );
    assert_eq!(at_the_border.usd(), before.usd() * 5.0);
    assert_eq!(
        set_aside("2026-11-26T22:24:59Z"),
        at_the_border,
        "it may end just before"
    );
    assert_eq!(set_aside("2026-11-26T22:25:00Z"), before);
}
