//! Nights with too little money: the budget is never passed by more than what the calls in flight
//! cost beyond what was set aside for them, and the next run goes on exactly where it stopped.

use super::*;
use crate::budget::Limit;
use crate::events::NodeHistory;
use crate::store::Entry;

pub fn usd(usd: f64) -> Money {
    Money::from_usd(usd)
}

pub fn per_run(amount: Money) -> Limit {
    Limit {
        name: "limits.budget_usd",
        amount,
        before: Money::ZERO,
        since_ms: None,
    }
}

/// What each call of a run cost, with the time of its end; lost ones count as set aside.
pub fn calls(told: &Told, store: &MemoryStore) -> (Vec<(Duration, Money, Money)>, Duration) {
    let entries = store.entries();
    let reserved: HashMap<(RunId, Instance, u32), Money> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Attempt(sent) => Some((
                (sent.run.clone(), sent.instance.clone(), sent.attempt),
                sent.reserved?,
            )),
            _ => None,
        })
        .collect();
    let run = told.events.iter().find_map(|stamped| match &stamped.event {
        Event::RunStarted(started) => Some(started.run.clone()),
        _ => None,
    });
    let run = run.unwrap();
    let mut last_sent = Duration::ZERO;
    let mut calls = Vec::new();
    for stamped in &told.events {
        match &stamped.event {
            Event::CallStarted { .. } => last_sent = stamped.at,
            Event::CallEnded {
                instance,
                attempt,
                outcome,
                ..
            } => {
                let reserved = reserved[&(run.clone(), instance.clone(), *attempt)];
                let cost = match outcome {
                    CallOutcome::Ok { cost, .. } | CallOutcome::Rejected { cost, .. } => cost.unwrap(),
                    CallOutcome::Faulted(fault) if !fault.may_be_billed() => Money::ZERO,
                    CallOutcome::Faulted(_) | CallOutcome::Abandoned => reserved,
                };
                calls.push((stamped.at, reserved, cost));
            }
            _ => {}
        }
    }
    (calls, last_sent)
}

/// Holds a run to its budget. What was in flight at the last send may have cost more than was set
/// aside for it; nothing else may.
pub fn check_budget(told: &Told, store: &MemoryStore, left: Money) {
    let (calls, last_sent) = calls(told, store);
    let spent: Money = calls.iter().map(|(_, _, cost)| *cost).sum();
    let in_flight = calls.iter().filter(|(ended, ..)| *ended >= last_sent);
    let beyond: Money = in_flight
        .clone()
        .map(|(_, reserved, cost)| (*cost - *reserved).max(Money::ZERO))
        .sum();
    assert!(spent <= left + beyond, "{spent} of {left}, {beyond} beyond");
    let reserved: Money = in_flight.map(|(_, reserved, _)| *reserved).sum();
    assert!(
        spent <= left + reserved,
        "{spent} of {left}, {reserved} in flight"
    );
}

/// Many short runs, each with its budget, some killed and some stopped, until all is done.
fn night_with_a_budget(seed: u64) {
    paused(async {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut night = Night {
            personas: 60,
            concurrency: [None, Some(1), Some(16), Some(64), Some(200)][chance.usize(0..5)],
            rpm: [None, Some(500), Some(2_000)][chance.usize(0..3)],
            tpm: None,
            seed,
            ..Night::default()
        };
        let world = Arc::new(World::new(seed, chance.f64() * 0.3));
        let mut store = Arc::new(MemoryStore::new());
        let mut lost: HashMap<Key, u32> = HashMap::new();
        let (mut budgets, mut ended) = (0, false);
        for number in 0..300 {
            let amount = usd(0.01 + chance.f64() * 0.15);
            night.budget = vec![per_run(amount)];
            night.run = number;
            let at = Duration::from_secs_f64(1.0 + chance.f64() * 300.0);
            let kill = (chance.u8(0..4) == 0).then_some(at);
            let stops = match chance.u8(0..4) {
                0 => vec![(at, Stop::Drain), (Duration::from_secs(2), Stop::Abort)],
                _ => vec![],
            };
            let told = replay(&night, &world, &store, kill, stops).await;
            check_budget(&told, &store, amount);
            match told.outcome {
                None => {
                    for (key, count) in world.in_flight.lock().unwrap().iter().filter(|(_, n)| **n > 0) {
                        *lost.entry(*key).or_default() += count;
                    }
                    store = Arc::new(store.crashed());
                }
                Some(outcome) => {
                    check_events(&night, &told);
                    budgets += u32::from(outcome == Outcome::Budget);
                    ended = matches!(outcome, Outcome::Complete | Outcome::Partial);
                }
            }
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            if ended {
                break;
            }
        }
        assert!(ended && budgets > 1, "{budgets} runs met their budget");
        for (key, paid) in world.paid.lock().unwrap().iter() {
            let excuse = lost.get(key).copied().unwrap_or(0);
            assert!(*paid <= 1 + excuse, "{} was paid {paid} times", key.short());
        }
        night.budget.clear();
        finished_again_costs_nothing(&night, &world, &store).await;
    });
}

#[test]
fn nights_with_too_little_money_stop_in_time_and_go_on_exactly() {
    for seed in 0..40 {
        let replayed = std::panic::catch_unwind(|| night_with_a_budget(seed));
        assert!(replayed.is_ok(), "seed {seed}");
    }
}

/// One budget over all runs, through crashes and stops.
fn nights_with_one_budget(seed: u64) {
    paused(async {
        let mut chance = fastrand::Rng::with_seed(seed);
        let amount = usd(0.2 + chance.f64() * 0.3);
        let mut night = Night {
            personas: 60,
            concurrency: [Some(1), Some(16), Some(64)][chance.usize(0..3)],
            rpm: None,
            tpm: None,
            seed,
            ..Night::default()
        };
        let world = Arc::new(World::new(seed, chance.f64() * 0.3));
        let mut store = Arc::new(MemoryStore::new());
        let mut beyond = Money::ZERO;
        for number in 0..100 {
            let before = store.spending().total().counted();
            let limit = Limit {
                name: "limits.budget_usd_total",
                amount,
                before,
                since_ms: Some(0),
            };
            (night.budget, night.run) = (vec![limit], number);
            let kill = chance
                .bool()
                .then(|| Duration::from_secs_f64(1.0 + chance.f64() * 60.0));
            let told = replay(&night, &world, &store, kill, vec![]).await;
            check_budget(&told, &store, limit.left());
            let (calls, last_sent) = calls(&told, &store);
            let in_flight = calls.iter().filter(|(ended, ..)| *ended >= last_sent);
            beyond = beyond.max(in_flight.map(|(_, reserved, _)| *reserved).sum());
            if told.outcome.is_none() {
                store = Arc::new(store.crashed());
            }
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            if told.outcome == Some(Outcome::Budget) {
                let billed = *world.billed.lock().unwrap();
                assert!(billed <= amount + beyond, "{billed} of {amount}");
                let again = replay(&night, &world, &store, None, vec![]).await;
                let told = again.events.iter();
                let sent = told
                    .filter(|s| matches!(s.event, Event::CallStarted { .. }))
                    .count();
                assert!(again.outcome == Some(Outcome::Budget) || sent > 0);
                return;
            }
        }
        panic!("the budget lasted");
    });
}

#[test]
fn one_budget_over_all_runs_holds_through_crashes() {
    (0..20).for_each(nights_with_one_budget);
}

/// A hundred answers of 300 tokens to each node, in earlier runs.
fn short_so_far() -> History {
    let known = |node: &NodeId| {
        let mut known = NodeHistory::new(node.clone(), "m");
        let usage = Usage {
            input: 900,
            output: 300,
            ..Usage::default()
        };
        (0..100).for_each(|_| known.answered(&usage, Some(900), 1_000));
        known
    };
    let mut history = History::default();
    history.add_older(graph(NODES).ids().iter().map(known).collect());
    history
}

/// As after a prompt was edited: what earlier runs saw says little of the answers of this one.
#[test]
fn answers_that_are_suddenly_much_longer_pass_no_budget() {
    for seed in 0..20 {
        paused(async {
            let mut chance = fastrand::Rng::with_seed(seed);
            let amount = usd(0.02 + chance.f64() * 0.5);
            let night = Night {
                personas: 40,
                concurrency: [Some(4), Some(64), None][chance.usize(0..3)],
                budget: vec![per_run(amount)],
                history: short_so_far(),
                seed,
                ..Night::default()
            };
            let world = Arc::new(World {
                stretch: 12,
                cap: Some(8_000),
                ..World::new(seed, 0.0)
            });
            let store = Arc::new(MemoryStore::new());
            let told = replay(&night, &world, &store, None, vec![]).await;
            assert_eq!(told.outcome, Some(Outcome::Budget), "seed {seed}");
            check_budget(&told, &store, amount);
        });
    }
}

#[test]
fn a_first_call_that_does_not_fit_is_not_sent() {
    paused(async {
        let night = Night {
            personas: 5,
            concurrency: Some(4),
            rpm: None,
            tpm: None,
            seed: 1,
            budget: vec![per_run(usd(0.001))],
            ..Night::default()
        };
        let world = Arc::new(World::new(1, 0.0));
        let told = replay(&night, &world, &Arc::new(MemoryStore::new()), None, vec![]).await;
        assert_eq!(told.outcome, Some(Outcome::Budget));
        assert!(world.sent.lock().unwrap().is_empty());
    });
}

#[test]
fn a_budget_that_is_enough_is_warned_of_and_not_met() {
    paused(async {
        let mut night = Night {
            personas: 5,
            concurrency: Some(4),
            rpm: None,
            tpm: None,
            seed: 1,
            ..Night::default()
        };
        let spent = {
            let world = Arc::new(World::new(1, 0.0));
            replay(&night, &world, &Arc::new(MemoryStore::new()), None, vec![]).await;
            *world.billed.lock().unwrap()
        };
        night.budget = vec![per_run(usd(spent.usd() * 1.15))];
        let world = Arc::new(World::new(1, 0.0));
        let told = replay(&night, &world, &Arc::new(MemoryStore::new()), None, vec![]).await;
        assert_eq!(told.outcome, Some(Outcome::Complete));
        let low: Vec<f64> = told
            .events
            .iter()
            .filter_map(|stamped| match &stamped.event {
                Event::BudgetLow(used) => Some(used.spent.usd() / used.limit.amount.usd()),
                _ => None,
            })
            .collect();
        assert!(
            matches!(low[..], [share] if (0.8..0.9).contains(&share)),
            "{low:?}"
        );
    });
}
