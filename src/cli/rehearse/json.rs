//! A rehearsal as `--json` prints it (`docs/json.md`).

use std::time::Duration;

use serde_json::{Value, json};

use crate::call::Money;
use crate::cli::print::outln;
use crate::cli::provider;
use crate::cli::rehearse::what_if::WhatIf;
use crate::cli::rehearse::{Middle, Rehearsed, rests};
use crate::run::{Night, Phase};

/// Prints the one line that there is.
pub fn tell(rehearsed: &Rehearsed<'_>) {
    outln!("{}", line(rehearsed));
}

fn line(rehearsed: &Rehearsed<'_>) -> Value {
    let foreseen = rehearsed.foreseen;
    let (counted, totals) = (&foreseen.counted, &foreseen.counted.totals);
    let mut line = json!({
        "event": "rehearsal_finished",
        "personas": { "total": counted.personas, "to_do": counted.to_do, "failed": counted.failed },
        "nodes": {
            "cached": totals.hits, "call": totals.calls, "depends": totals.depends,
            "failed": totals.failed, "skipped": totals.skipped,
        },
        "nights": rehearsed.nights.iter().zip(1..).map(night).collect::<Vec<_>>(),
        "starts_at": rehearsed.start.to_string(),
        "rests_on": rests::json(rehearsed),
        "simulated": provider::is_simulated(&foreseen.project.config.provider),
    });
    // Without a call there is no night, and nothing to be said of one.
    let middle = (!rehearsed.nights.is_empty()).then(|| rehearsed.middle());
    let took = middle.map(|_| rehearsed.figure(|night| night.took));
    let at = |took: Duration| rehearsed.moment(took).to_string();
    line["seconds"] = range(took, |took| took.as_secs_f64().into());
    line["ends_at"] = range(took, |took| at(took).into());
    line["asleep_seconds"] = middle.map(|night| night.asleep.as_secs_f64()).into();
    line["outcome"] = json!(middle.map(|night| night.outcome));
    let figure = |of: fn(&Night) -> u64| range(middle.map(|_| rehearsed.figure(of)), Value::from);
    line["calls"] = json!({
        "sent": figure(|night| night.calls),
        "rejected": figure(|night| night.rejected),
        "faulted": figure(|night| night.faulted),
    });
    line["called"] = figure(|night| night.called);
    line["tokens"] = json!({
        "input": figure(|night| night.input.round() as u64),
        "output": figure(|night| night.output.round() as u64),
    });
    let cost = middle.and_then(|_| rehearsed.cost());
    line["cost_usd"] = range(cost, |cost: Money| cost.usd().into());
    let held = middle.map_or_else(Vec::new, |night| night.course.shares());
    let share = |(by, share): &(crate::run::Holds, f64)| json!({ "by": by.as_str(), "share": share });
    line["held_by"] = held.iter().map(share).collect();
    let phases = middle.map_or_else(Vec::new, |night| night.course.phases(night.took));
    line["course"] = phases.iter().map(phase).collect();
    line["others"] = rehearsed.others.iter().map(other).collect();
    line
}

fn range<T: Copy>(figure: Option<Middle<T>>, told: impl Fn(T) -> Value) -> Value {
    figure.map_or(
        Value::Null,
        |figure| json!({ "low": told(figure.low), "likely": told(figure.likely), "high": told(figure.high) }),
    )
}

fn night((night, seed): (&Night, u64)) -> Value {
    json!({
        "seed": seed,
        "outcome": night.outcome,
        "seconds": night.took.as_secs_f64(),
        "calls": night.calls,
        "called": night.called,
        "failed": night.failed,
        "skipped": night.skipped,
        "cost_usd": night.cost.map(Money::usd),
    })
}

fn phase(phase: &Phase) -> Value {
    json!({
        "by": phase.by.as_str(),
        "from_seconds": phase.from.as_secs_f64(),
        "to_seconds": phase.to.as_secs_f64(),
    })
}

fn other(other: &WhatIf) -> Value {
    json!({
        "with": other.option,
        "matters": other.matters(),
        "outcome": other.night.outcome,
        "seconds": other.night.took.as_secs_f64(),
        "calls": other.night.calls,
        "called": other.night.called,
        "cost_usd": other.night.cost.map(Money::usd),
    })
}
