//! What a person reads while a run goes on: at most one line for an event. The same lines are
//! printed above the live bar and into a log.

use std::time::Duration;

use crate::budget::Used;
use crate::call::{RateCause, RateChange};
use crate::events::{Event, PersonaStatus, Reckoned, RunStarted, Silence, Tally};
use crate::hours::{Moment, time_over};
use crate::names::{Instance, Stop};
use crate::printable::one_line;
use crate::report::figures::{count, dollars, duration, number};
use crate::report::persona_line::{LONGEST_CAUSE, PersonaLine};
use crate::report::style::{Palette, cut};

/// From this length on a pause is told with the clock, and above the bar too.
const LONG_PAUSE: Duration = Duration::from_secs(60);

/// A line and who wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The line, without its end.
    pub text: String,
    /// Whom it is for.
    pub weight: Weight,
}

/// After the personas that a template cannot be rendered for and that are shown comes a line for all
/// others.
const ALIKE_TOLD: u64 = crate::events::SHOWN_ALIKE + 1;

/// Whom a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Not printed with `--quiet`.
    Routine,
    /// Always printed.
    Notice,
    /// Printed where there is no live status that says the same for as long as it holds.
    Passing,
}

/// Says what happened, if a person wants to know. `tally` has the event folded in already;
/// `columns` is the width of the terminal, if there is one.
pub fn line(event: &Event, tally: &Tally, palette: Palette, columns: Option<usize>) -> Option<Line> {
    let (weight, text) = match event {
        Event::RunStarted(started) => (Weight::Routine, run_started(started, tally)),
        Event::PersonaFinished {
            persona,
            status,
            error,
            path,
        } => {
            let line = PersonaLine {
                tally,
                palette,
                columns,
            };
            match line.alike(persona, error.as_ref()) {
                0..ALIKE_TOLD => {}
                ALIKE_TOLD => {
                    let text = "others cannot be rendered for the same cause; the end says how many";
                    let text = notice(text, palette);
                    return Some(Line {
                        text,
                        weight: Weight::Notice,
                    });
                }
                _ => return None,
            }
            if *status == PersonaStatus::Unchanged && line.nothing_was_done(persona) {
                let text = line.unchanged(persona)?;
                let weight = Weight::Routine;
                return Some(Line { text, weight });
            }
            let weight = match status {
                PersonaStatus::Written | PersonaStatus::Unchanged => Weight::Routine,
                PersonaStatus::Kept | PersonaStatus::Failed => Weight::Notice,
            };
            (weight, line.of(persona, *status, error.as_ref(), path.as_deref()))
        }
        Event::UpToDate { persona, .. } => {
            let line = PersonaLine {
                tally,
                palette,
                columns,
            };
            (Weight::Routine, line.unchanged(persona)?)
        }
        Event::CallEnded { .. } if tally.outage.is_none() => {
            let silence = tally.silence.as_ref().filter(|silence| silence.is_due)?;
            (Weight::Passing, notice(&silent(silence, tally.at), palette))
        }
        Event::OutageBegan { cause } => (Weight::Passing, outage_began(cause, palette)),
        Event::OutageEnded { lasted } => {
            let text = format!("the provider answers again after {}", duration(*lasted));
            (Weight::Notice, notice(&text, palette))
        }
        Event::RateChanged(change) if change.cause != RateCause::Recovered => {
            let weight = match change.cause {
                RateCause::Told => Weight::Routine,
                // Every so often all night where the limit is not known.
                RateCause::Refused | RateCause::Recovered => Weight::Passing,
            };
            (weight, notice(&rate(change), palette))
        }
        Event::OutputLimitReserved {
            model,
            seen: Some(seen),
        } => (
            Weight::Notice,
            notice(&output_limit_reserved(model, seen), palette),
        ),
        Event::Warning { message } => {
            let text = format!("{} {}", palette.warn("warning:"), one_line(message));
            (Weight::Notice, text)
        }
        Event::Waiting { until, wait } => (Weight::Passing, notice(&waiting(until, *wait), palette)),
        Event::Paused {
            pause,
            until,
            model,
            cause,
        } if *pause >= LONG_PAUSE => {
            let cause = cut(&one_line(cause), LONGEST_CAUSE);
            let text = format!("{}: {cause}", paused(until, *pause, model.as_deref()));
            (Weight::Notice, notice(&text, palette))
        }
        Event::WaitingEnded => (
            Weight::Passing,
            notice("`limits.hours` have begun: going on", palette),
        ),
        Event::DeadlineReached { until, opens } => (
            Weight::Passing,
            notice(
                &draining(&time_over(until, opens.as_ref()), tally.in_flight),
                palette,
            ),
        ),
        Event::BudgetLow(used) => {
            let text = format!("{} {}", palette.warn("warning:"), budget_low(used));
            (Weight::Notice, text)
        }
        Event::BudgetReached { instance, .. } => {
            let text = draining(&does_not_fit(instance), tally.in_flight);
            (Weight::Passing, notice(&text, palette))
        }
        Event::Stopping(stop) => (Weight::Passing, notice(&stopping(*stop, tally), palette)),
        _ => return None,
    };
    Some(Line { text, weight })
}

/// Says what a stop waits for, or gives up. What the server keeps as a job is not lost: the next run
/// fetches it.
pub fn stopping(stop: Stop, tally: &Tally) -> String {
    let calls = count(tally.in_flight, "call");
    let jobs = tally.jobs.len() as u64;
    let all_jobs = jobs >= tally.in_flight;
    match stop {
        Stop::Restart if tally.in_flight == 0 => "edited: starting again".to_owned(),
        _ if tally.in_flight == 0 => "stopping".to_owned(),
        Stop::Restart => format!("edited: waiting for {calls} in flight, then starting again; Ctrl+C ends"),
        Stop::Drain => {
            let them = if tally.in_flight == 1 { "it" } else { "them" };
            let again = match all_jobs {
                true => format!("leaves {them} to the next run"),
                false => format!("drops {them}"),
            };
            format!("stopping: waiting for {calls} in flight; Ctrl+C again {again}")
        }
        Stop::Abort if all_jobs => {
            format!("stopping now: leaving {calls} in flight, which the next run fetches")
        }
        Stop::Abort if jobs > 0 => format!(
            "stopping now: dropping {calls} in flight; the next run fetches {jobs} of them, the others may be \
             billed"
        ),
        Stop::Abort => format!("stopping now: dropping {calls} in flight, which may be billed"),
    }
}

/// Says what calls wait for.
pub fn waiting(until: &Moment, wait: Duration) -> String {
    format!(
        "outside `limits.hours`: waiting until {} ({})",
        until.clock,
        duration(wait)
    )
}

/// Says what a provider asked for; a longer wait with the clock, by which a person can plan.
pub fn paused(until: &Moment, left: Duration, model: Option<&str>) -> String {
    let asked = match model {
        Some(model) => format!("the provider asked to wait with `{}`", one_line(model)),
        None => "the provider asked to wait".to_owned(),
    };
    let left_over = duration(left);
    match left >= LONG_PAUSE {
        true => format!("{asked}: waiting until {} ({left_over} left)", until.clock),
        false => format!("{asked}: {left_over} left"),
    }
}

/// Says that only faults have come for a while, and that it goes on all the same.
pub fn silent(silence: &Silence, now: Duration) -> String {
    format!(
        "no answer for {}, trying again: {}",
        duration(now.saturating_sub(silence.since)),
        cut(&one_line(&silence.cause), LONGEST_CAUSE)
    )
}

/// Says whose call does not fit into the budget.
pub fn does_not_fit(instance: &Instance) -> String {
    format!(
        "the next call, of {}, does not fit into the budget",
        one_line(&instance.to_string())
    )
}

/// Says that nothing more is sent, and what is waited for.
pub fn draining(why: &str, in_flight: u64) -> String {
    match in_flight {
        0 => format!("{why}: stopping"),
        n => format!("{why}: waiting for {} in flight", count(n, "call")),
    }
}

fn budget_low(used: &Used) -> String {
    let share = used.spent.usd() / used.limit.amount.usd() * 100.0;
    let share = share.min(999.0);
    format!(
        "{share:.0} % of the budget is spent: {} of {} (`{}`)",
        dollars(Some(used.spent)),
        dollars(Some(used.limit.amount)),
        used.limit.name
    )
}

fn run_started(started: &RunStarted, tally: &Tally) -> String {
    format!(
        "run {}: {}, {}, {}{}",
        started.run,
        count(tally.personas.total, "persona"),
        count(tally.nodes.total, "node"),
        one_line(&started.provider),
        if started.simulated { " (simulated)" } else { "" },
    )
}

fn rate(change: &RateChange) -> String {
    let what = change.counted.as_str();
    let of_model = change
        .model
        .as_ref()
        .map_or_else(String::new, |model| format!(" of `{}`", one_line(model)));
    let rate = match change.per_minute {
        Some(per_minute) => format!("{} {what} a minute{of_model}", number(per_minute.into())),
        None => format!("any number of {what} a minute{of_model}"),
    };
    match change.cause {
        RateCause::Told => format!("the provider allows {rate}: keeping to that"),
        RateCause::Refused => {
            format!("the provider refuses calls: down to {rate}, until it takes more again")
        }
        RateCause::Recovered => format!("the provider takes calls again: {rate}"),
    }
}

fn output_limit_reserved(model: &str, seen: &Reckoned) -> String {
    format!(
        "`{}`: a call's whole `max_output_tokens` count in its tokens per minute until it is answered ({}: {} \
         tokens); keeping to that",
        one_line(model),
        one_line(&seen.instance.to_string()),
        number(seen.by_server),
    )
}

fn outage_began(cause: &str, palette: Palette) -> String {
    let cause = cut(&one_line(cause), LONGEST_CAUSE);
    notice(
        &format!("the provider does not answer ({cause}): waiting, probing with one call"),
        palette,
    )
}

fn notice(text: &str, palette: Palette) -> String {
    format!("{} {text}", palette.warn("!"))
}
