//! The live part of the display as text: how far a run is, how fast, what it has cost, and what it
//! waits for. It does not know how the text gets onto the screen.

use std::time::Duration;

use crate::call::Counted;
use crate::events::Tally;
use crate::hours::time_over;
use crate::printable::one_line;
use crate::report::figures::{count, dollars, duration, number, roughly};
use crate::report::style::{Palette, cut, fit, width};
use crate::report::wording;

/// The bar itself is never wider than this: beyond it more columns tell nothing more.
const WIDEST_BAR: usize = 40;
/// A narrower bar tells nothing.
const NARROWEST_BAR: usize = 8;

/// Returns two lines, and a third while the run waits for something; none before it has started
/// and after it has ended. Each is at most `columns` wide.
pub fn lines(tally: &Tally, now: Duration, palette: Palette, columns: usize) -> Vec<String> {
    if tally.started.is_none() || tally.outcome.is_some() {
        return Vec::new();
    }
    let mut lines = vec![
        progress(tally, now, palette, columns),
        figures(tally, now, palette, columns),
    ];
    lines.extend(waiting(tally, now).map(|text| palette.warn(&cut(&text, columns))));
    lines
}

fn progress(tally: &Tally, now: Duration, palette: Palette, columns: usize) -> String {
    let (nodes, personas) = (tally.nodes, tally.personas);
    let all_nodes = of(nodes.ended(), Some(nodes.total));
    let all_personas = of(personas.ended(), Some(personas.total));
    let passed = duration(now);
    let time = match tally.time_left(now) {
        Some(left) => format!("{passed}, {} left", roughly(left)),
        None => passed,
    };
    let parts = vec![
        (9, format!("{all_nodes} nodes")),
        (2, format!("{all_personas} personas")),
        (7, time),
    ];
    let text = cut(&fit(parts, Some(columns)), columns);
    let room = columns.saturating_sub(width(&text) + 2).min(WIDEST_BAR);
    if room < NARROWEST_BAR {
        return text;
    }
    format!("{}  {text}", bar(nodes.ended(), nodes.total, room, palette))
}

/// A number, of how many if that is known: `12/64`.
fn of(n: u64, all: Option<u64>) -> String {
    match all {
        Some(all) => format!("{}/{}", number(n), number(all)),
        None => number(n),
    }
}

fn bar(done: u64, total: u64, columns: usize, palette: Palette) -> String {
    let share = if total == 0 {
        1.0
    } else {
        done as f64 / total as f64
    };
    // Rounded down: a full bar is a run that is done.
    let filled = ((share * columns as f64) as usize).min(columns);
    let rest = "░".repeat(columns - filled);
    palette.good(&"█".repeat(filled)) + &palette.faint(&rest)
}

fn figures(tally: &Tally, now: Duration, palette: Palette, columns: usize) -> String {
    let limit = tally.rates[Counted::Requests as usize];
    let rate = of(tally.calls_in_last_minute(now), limit.map(u64::from));
    let in_flight = of(tally.in_flight, tally.concurrency.map(|slots| slots as u64));
    let mut parts = vec![
        (7, format!("{rate} calls/min")),
        (3, format!("{in_flight} in flight")),
        (6, count(tally.tokens.total, "token")),
        (8, cost(tally)),
    ];
    parts.extend(binding(tally).map(|text| (4, text)));
    let (failed, kept) = (tally.personas.failed, tally.personas.kept);
    if failed > 0 {
        parts.push((9, palette.bad(&format!("{} failed", number(failed)))));
    }
    if kept > 0 {
        parts.push((2, palette.warn(&format!("{} kept", number(kept)))));
    }
    cut(&fit(parts, Some(columns)), columns)
}

/// The limit that makes the run as slow as it is.
fn binding(tally: &Tally) -> Option<String> {
    let Some(counted) = tally.binding else {
        let full = tally
            .concurrency
            .is_some_and(|slots| tally.in_flight >= slots as u64);
        return full.then(|| "limited by calls in flight".to_owned());
    };
    let unit = match counted {
        Counted::Requests => "calls/min",
        Counted::Tokens => "tokens/min",
    };
    Some(match tally.rates[counted as usize] {
        Some(rate) => format!("limited by {} {unit}", number(rate.into())),
        None => format!("limited by {unit}"),
    })
}

fn cost(tally: &Tally) -> String {
    let cost = match tally.cost {
        None => return "cost unknown".to_owned(),
        cost => dollars(cost),
    };
    let started = tally.started.as_ref();
    let budget = started.and_then(|started| started.budget);
    let budget = budget.map_or_else(String::new, |budget| format!(" of {}", dollars(Some(budget))));
    let simulated = if started.is_some_and(|started| started.simulated) {
        " (simulated)"
    } else {
        ""
    };
    format!("{cost}{budget}{simulated}")
}

/// What keeps everyone waiting, the most telling first.
fn waiting(tally: &Tally, now: Duration) -> Option<String> {
    if let Some(stop) = tally.stopping {
        return Some(wording::stopping(stop, tally));
    }
    if let Some((until, opens)) = &tally.deadline {
        let over = time_over(until, opens.as_ref());
        return Some(wording::draining(&over, tally.in_flight));
    }
    if let Some((until, at)) = &tally.waiting {
        return Some(wording::waiting(until, at.saturating_sub(now)));
    }
    if let Some((_, instance, _)) = &tally.budget_reached {
        return Some(wording::draining(
            &wording::does_not_fit(instance),
            tally.in_flight,
        ));
    }
    if let Some((since, cause)) = &tally.outage {
        // It is told when it is sure; the faults had begun before.
        let since = tally.silence.as_ref().map_or(*since, |silence| silence.since);
        let lasts = duration(now.saturating_sub(since));
        return Some(format!(
            "no answer for {lasts}, waiting and probing: {}",
            one_line(cause)
        ));
    }
    let paused = tally.paused.as_ref().and_then(|(until, end, model)| {
        let left = end.checked_sub(now)?;
        Some(wording::paused(until, left, model.as_deref()))
    });
    let silence = tally.silence.as_ref().filter(|silence| silence.is_news());
    paused.or_else(|| silence.map(|silence| wording::silent(silence, now)))
}
