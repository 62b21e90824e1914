//! A rehearsal as people read it: when it ends and what it costs first, then why.

use std::time::Duration;

use crate::cli::plan::ends::soon;
use crate::cli::plan::text::{cut_off, failed, line, too_large, unpriced};
use crate::cli::print::outln;
use crate::cli::provider;
use crate::cli::rehearse::what_if::WhatIf;
use crate::cli::rehearse::{Middle, Rehearsed, rests};
use crate::events::Outcome;
use crate::printable::one_line;
use crate::report::figures::{count, dollars, duration as words, number};
use crate::run::Holds;

/// So many phases are named.
const MOST_PHASES: usize = 8;
/// A part of the time that is smaller is not named.
const LEAST_SHARE: f64 = 0.005;

/// Prints all of it.
pub fn tell(rehearsed: &Rehearsed<'_>) {
    let (counted, totals) = (&rehearsed.foreseen.counted, &rehearsed.foreseen.counted.totals);
    let (to_do, all) = (number(counted.to_do as u64), number(counted.personas as u64));
    line("personas", &format!("{to_do} of {all} have something to call"));
    failed(counted.failed, "files or prompts");
    cut_off(totals);
    if rehearsed.nights.is_empty() {
        return outln!("nothing to call: nothing to rehearse");
    }
    line("calls", &calls(rehearsed));
    line("cost", &cost(rehearsed));
    for (label, text) in ends(rehearsed) {
        line(label, &text);
    }
    too_large(rehearsed.foreseen);
    line("held by", &shares(rehearsed));
    for (at, phase) in phases(rehearsed).iter().enumerate() {
        line(if at == 0 { "course" } else { "" }, phase);
    }
    for (at, other) in others(&rehearsed.others).iter().enumerate() {
        line(if at == 0 { "with" } else { "" }, other);
    }
    line("rests on", &rests::text(rehearsed));
    let times = match rehearsed.nights.len() {
        1 => "once".to_owned(),
        times => format!("{} times with other chances", number(times as u64)),
    };
    outln!("\nrehearsed {times}; nothing was called");
}

fn calls(rehearsed: &Rehearsed<'_>) -> String {
    let nodes = rehearsed.foreseen.time.calls;
    let sent = about(rehearsed.figure(|night| night.calls), |&sent| number(sent));
    let again = [
        (rehearsed.figure(|night| night.rejected).likely, "bad answer"),
        (rehearsed.figure(|night| night.faulted).likely, "fault"),
    ];
    let again = again.iter().filter(|(calls, _)| *calls > 0);
    let again: Vec<String> = again.map(|(calls, what)| count(*calls, what)).collect();
    let again = match again.is_empty() {
        true => String::new(),
        false => format!(", with {}", again.join(" and ")),
    };
    format!("{sent} for {}{again}", count(nodes, "node"))
}

fn cost(rehearsed: &Rehearsed<'_>) -> String {
    let simulated = match provider::is_simulated(&rehearsed.foreseen.project.config.provider) {
        true => " (simulated)",
        false => "",
    };
    match rehearsed.cost() {
        Some(cost) => format!("about {}{simulated}", range(cost, |usd| dollars(Some(*usd)))),
        None => format!("unknown: no price for {}", unpriced(rehearsed.foreseen)),
    }
}

/// What is likely, and between what it lies, unless it is always the same.
fn about<T>(figure: Middle<T>, told: impl Fn(&T) -> String) -> String {
    match told(&figure.low) == told(&figure.high) {
        true => told(&figure.likely),
        false => {
            let [low, likely, high] = [&figure.low, &figure.likely, &figure.high].map(told);
            format!("about {likely} ({low} to {high})")
        }
    }
}

/// What is likely, and between what it lies.
fn range<T>(figure: Middle<T>, told: impl Fn(&T) -> String) -> String {
    let [low, likely, high] = [&figure.low, &figure.likely, &figure.high].map(told);
    match low == high {
        true => likely,
        false => format!("{likely}; {low} to {high}"),
    }
}

fn ends(rehearsed: &Rehearsed<'_>) -> Vec<(&'static str, String)> {
    let took = rehearsed.figure(|night| night.took);
    let asleep = rehearsed.figure(|night| night.asleep);
    let mut lines = vec![("time", format!("about {}", range(took, |took| words(*took))))];
    let time = &rehearsed.foreseen.time;
    let told = |at: &Duration| soon(time, rehearsed.moment(*at));
    let start = match time.windows.start {
        Some(start) => {
            lines.push(("starts", format!("at {} (`--start-at`)", soon(time, start))));
            ""
        }
        None => ", if it started now",
    };
    let [low, likely, high] = [&took.low, &took.likely, &took.high].map(told);
    let strays = match low == high {
        true => String::new(),
        false => format!("; {low} to {high}"),
    };
    lines.push(("ends", format!("at {likely}{start}{strays}")));
    if !asleep.high.is_zero() {
        let asleep = range(asleep, |asleep| words(*asleep));
        lines.push(("sleeps", format!("{asleep}, outside `limits.hours`")));
    }
    lines.extend(stops(rehearsed));
    let failed = rehearsed.figure(|night| night.failed + night.skipped);
    if failed.high > 0 {
        let without = match (failed.low, failed.high) {
            (1, 1) => "1 node that fails".to_owned(),
            _ => {
                let nodes = range(failed, |nodes| number(*nodes));
                format!("{nodes} nodes that fail, or need one that does")
            }
        };
        lines.push(("without", without));
    }
    lines
}

/// What ends it before everything is called.
fn stops(rehearsed: &Rehearsed<'_>) -> Vec<(&'static str, String)> {
    let time = &rehearsed.foreseen.time;
    let all = count(time.calls, "node");
    let stopped = |outcome: Outcome| {
        let nights = rehearsed.nights.iter().filter(|night| night.outcome == outcome);
        nights.count()
    };
    let of = rehearsed.nights.len();
    let often = |times: usize| match times == of {
        true => String::new(),
        false => format!(" in {times} of {of} rehearsals"),
    };
    let called = || about(rehearsed.figure(|night| night.called), |called| number(*called));
    let mut lines = Vec::new();
    if let Some(until) = time.windows.until {
        let until = soon(time, until);
        lines.push((
            "until",
            match stopped(Outcome::Deadline) {
                0 => format!("{until} (`--until`) is time enough"),
                times => format!(
                    "{until} (`--until`) ends it{}, with {} of {all} called",
                    often(times),
                    called()
                ),
            },
        ));
    }
    let out = rehearsed
        .nights
        .iter()
        .find_map(|night| night.out_of_money.as_ref());
    if let Some(out) = out {
        let limit = &out.used.limit;
        let amount = format!("{} (`{}`)", dollars(Some(limit.amount)), limit.name);
        let often = often(stopped(Outcome::Budget));
        lines.push((
            "budget",
            format!("{amount} ends it{often}, with {} of {all} called", called()),
        ));
    }
    if stopped(Outcome::Fatal) > 0 {
        let often = often(stopped(Outcome::Fatal));
        lines.push((
            "stops",
            format!("it is given up{often}: as many faults as before are too many"),
        ));
    }
    lines
}

/// What it is, in words.
pub fn name(by: Holds) -> &'static str {
    match by {
        Holds::Requests => "requests per minute",
        Holds::Tokens => "tokens per minute",
        Holds::InFlight => "calls in flight",
        Holds::Leaders => "the first call of each persona",
        Holds::Needs => "answers that others need",
        Holds::Retries => "pauses before another try",
        Holds::Paused => "pauses that the server asks for",
        Holds::Outage => "an outage",
        Holds::Budget => "the budget",
        Holds::Hours => "`limits.hours`",
    }
}

fn shares(rehearsed: &Rehearsed<'_>) -> String {
    let shares = rehearsed.middle().course.shares();
    let told = shares.iter().filter(|(_, share)| *share >= LEAST_SHARE);
    let told: Vec<String> = told
        .map(|(by, share)| format!("{} {:.0} %", name(*by), share * 100.0))
        .collect();
    match told.is_empty() {
        true => "nothing".to_owned(),
        false => format!("{} of the time", told.join(", ")),
    }
}

/// Which limit binds when, where it is not the same all the time.
fn phases(rehearsed: &Rehearsed<'_>) -> Vec<String> {
    let night = rehearsed.middle();
    let phases = night.course.phases(night.took);
    if phases.len() < 2 {
        return Vec::new();
    }
    let time = &rehearsed.foreseen.time;
    let mut told: Vec<String> = phases
        .iter()
        .take(MOST_PHASES)
        .map(|phase| {
            let from = soon(time, rehearsed.moment(phase.from));
            let lasts = words(phase.to.saturating_sub(phase.from));
            format!("{from} {}, for {lasts}", name(phase.by))
        })
        .collect();
    if let Some(more) = phases.len().checked_sub(MOST_PHASES).filter(|more| *more > 0) {
        told.push(format!("and so on: {} more changes", number(more as u64)));
    }
    told
}

/// What other limits would change.
fn others(others: &[WhatIf]) -> Vec<String> {
    let mut told: Vec<String> = others
        .iter()
        .filter(|other| other.matters())
        .map(|other| format!("`{}`: {}", one_line(&other.option), change(other)))
        .collect();
    let same = others.iter().filter(|other| !other.matters());
    let same: Vec<String> = same
        .map(|other| format!("`{}`", one_line(&other.option)))
        .collect();
    if !same.is_empty() {
        told.push(format!("{}: no difference", same.join(", ")));
    }
    told
}

fn change(other: &WhatIf) -> String {
    let (then, now) = (&other.night, &other.now);
    let mut parts = Vec::new();
    if other.is_another_time() {
        parts.push(format!("{} instead of {}", words(then.took), words(now.took)));
    }
    if other.is_another_rest() {
        parts.push(format!(
            "{} called instead of {}",
            count(then.called, "node"),
            number(now.called)
        ));
    }
    if other.is_another_cost() {
        parts.push(format!("{} instead of {}", dollars(then.cost), dollars(now.cost)));
    }
    parts.join(", ")
}
