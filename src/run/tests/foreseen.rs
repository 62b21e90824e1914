//! What a rehearsal says beside what the real driver takes, in the same world: it knows of it only
//! what earlier answers would have told.

use super::*;
use crate::run::{Rehearsal, Rehearsed};

/// How long a night without faults takes for real, and how long its rehearsal.
fn night(night: &Night) -> (f64, f64) {
    let task = night.task();
    let (told, answers) = paused(async {
        let world = Arc::new(World::new(night.seed, 0.0));
        let store = Arc::new(MemoryStore::new());
        let told = replay(night, &world, &store, None, vec![]).await;
        let answers = store.entries().into_iter().filter_map(|entry| match entry {
            Entry::Answer(record) => Some(record),
            _ => None,
        });
        (told, answers.collect::<Vec<_>>())
    });
    assert_eq!(told.outcome, Some(Outcome::Partial), "one persona cannot be read");
    let count = answers.len() as f64;
    let mean = |of: fn(&crate::store::Record) -> f64| answers.iter().map(of).sum::<f64>() / count;
    let seconds = mean(|answer| answer.latency_ms as f64 / 1e3);
    let square = mean(|answer| (answer.latency_ms as f64 / 1e3).powi(2));
    let node = Rehearsed {
        input: mean(|answer| answer.answer.usage.input as f64),
        output: mean(|answer| answer.answer.usage.output as f64),
        first_output: 1_024.0,
        seconds,
        stray: (square - seconds * seconds).sqrt(),
        ..Rehearsed::default()
    };
    // Some personas ask the same: who is served from another's answer is not called.
    let personas = (count / 8.0).round() as u64;
    let rehearsal = Rehearsal {
        graph: task.graph.clone(),
        models: task.models.clone(),
        settings: task.settings.clone(),
        requests_per_minute: night.rpm,
        tokens_per_minute: night.tpm,
        nodes: vec![node; task.graph.len()],
        personas: vec![(vec![true; task.graph.len()], personas)],
        budget: vec![],
    };
    let took = told.events.last().unwrap().at.as_secs_f64();
    (took, rehearsal.duration().as_secs_f64())
}

#[test]
fn a_rehearsal_ends_when_the_run_does() {
    let cases = [
        (Some(64), Some(120), None),
        (Some(64), None, Some(120_000)),
        (None, Some(300), None),
        (Some(16), None, None),
        (Some(1), None, None),
    ];
    for (concurrency, rpm, tpm) in cases {
        for seed in 0..4 {
            let (took, foreseen) = night(&Night {
                personas: 60,
                concurrency,
                rpm,
                tpm,
                seed,
                ..Night::default()
            });
            let off = (foreseen / took - 1.0).abs();
            let limits = format!("{concurrency:?} {rpm:?} {tpm:?}");
            assert!(off < 0.1, "{limits}, seed {seed}: {foreseen} for {took}");
        }
    }
}
