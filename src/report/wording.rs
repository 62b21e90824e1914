//! What a person reads while a run goes on: at most one line for an event. The same lines are
//! printed above the live bar and into a log.

use std::time::Duration;

use crate::budget::Used;
use crate::call::{RateCause, RateChange};
use crate::events::{Event, Failure, PersonaFigures, PersonaStatus, Reckoned, RunStarted, Silence, Tally};
use crate::hours::{Moment, time_over};
use crate::names::{Instance, PersonaId, Stop};
use crate::printable::one_line;
use crate::report::figures::{count, dollars, duration, number};
use crate::report::style::{Palette, cut, fit, pad, pad_before, width};

/// From this length on a pause is told with the clock, and above the bar too.
const LONG_PAUSE: Duration = Duration::from_secs(60);
/// The widest that the column of names gets where there is no terminal to fill.
const WIDEST_NAMES: usize = 60;
/// The longest cause of a failure where there is no terminal to fill.
const LONGEST_CAUSE: usize = 400;
/// A cause is not cut shorter than this, however narrow the terminal is.
const SHORTEST_CAUSE: usize = 24;

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

/// So many personas of which nothing was to be done are named on a terminal; a log names all.
const UNCHANGED_SHOWN: u64 = 20;

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
            let weight = match status {
                PersonaStatus::Unchanged if line.nothing_was_done(persona) => {
                    return line.unchanged(persona);
                }
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
            return line.unchanged(persona);
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

/// Lays out the line of a persona that has ended.
struct PersonaLine<'a> {
    tally: &'a Tally,
    palette: Palette,
    columns: Option<usize>,
}

impl PersonaLine<'_> {
    /// How many personas have failed, this one included, for want of the same name in a template or the
    /// like, if this one has; else 0.
    fn alike(&self, persona: &PersonaId, error: Option<&Failure>) -> u64 {
        let figures = self.tally.last_persona.as_ref();
        let figures = figures.filter(|last| last.persona == *persona);
        let cause = figures.and_then(|figures| figures.unrendered(error));
        cause.map_or(0, |cause| self.tally.unrendered.of(&cause.message))
    }

    fn of(
        &self,
        persona: &PersonaId,
        status: PersonaStatus,
        error: Option<&Failure>,
        path: Option<&str>,
    ) -> String {
        let name = pad(&one_line(persona.as_str()), self.name_columns());
        let room = self
            .columns
            .map(|columns| columns.saturating_sub(width(&name) + 4));
        let figures = self
            .tally
            .last_persona
            .as_ref()
            .filter(|last| last.persona == *persona);
        let palette = self.palette;
        match status {
            PersonaStatus::Written => {
                let text = figures.map_or_else(String::new, |figures| self.figures(figures, None, room));
                format!("{} {name}  {text}", palette.good("✓"))
            }
            PersonaStatus::Unchanged => {
                let unchanged = Some("unchanged");
                let text = figures.map_or_else(String::new, |figures| self.figures(figures, unchanged, room));
                format!("{} {name}  {}", palette.faint("○"), palette.faint(&text))
            }
            PersonaStatus::Kept => format!("{} {name}  {}", palette.warn("≠"), kept(path, room)),
            PersonaStatus::Failed => {
                let cause = figures.and_then(|figures| figures.cause(error));
                let text = match (figures, cause) {
                    (Some(figures), Some((node, failure))) => {
                        let node = node.map(|node| one_line(node.as_str()));
                        failed(node.as_deref(), failure, figures.failed.len(), room)
                    }
                    _ => "failed".to_owned(),
                };
                format!("{} {name}  {text}", palette.bad("✗"))
            }
        }
    }

    /// True if nothing was called for a persona.
    fn nothing_was_done(&self, persona: &PersonaId) -> bool {
        let last = self.tally.last_persona.as_ref();
        last.is_some_and(|last| last.persona == *persona && last.calls == 0)
    }

    /// The line of a persona of which nothing was to be done: on a terminal thousands of them would push
    /// everything else out of sight.
    fn unchanged(&self, persona: &PersonaId) -> Option<Line> {
        let text = match (self.tally.untouched, self.columns) {
            (0..=UNCHANGED_SHOWN, _) | (_, None) => self.of(persona, PersonaStatus::Unchanged, None, None),
            (n, Some(_)) if n == UNCHANGED_SHOWN + 1 => {
                let text = "more are up to date: the end says how many";
                format!("{} {}", self.palette.faint("○"), self.palette.faint(text))
            }
            _ => return None,
        };
        let weight = Weight::Routine;
        Some(Line { text, weight })
    }

    fn name_columns(&self) -> usize {
        let longest = self
            .tally
            .started
            .as_ref()
            .map_or(0, |started| started.longest_persona);
        longest.min(self.columns.map_or(WIDEST_NAMES, |columns| columns / 2))
    }

    /// Calls, tokens, dollars, time; in a narrow terminal the least telling are left out.
    fn figures(&self, figures: &PersonaFigures, status: Option<&str>, room: Option<usize>) -> String {
        let mut parts: Vec<(u8, String)> = status.map(|status| (9, status.to_owned())).into_iter().collect();
        if figures.calls == 0 {
            if status.is_none() {
                parts.push((8, "from the cache".to_owned()));
            }
            return fit(parts, room);
        }
        let noun = if figures.calls == 1 { "call " } else { "calls" };
        parts.push((8, format!("{:>2} {noun}", figures.calls)));
        parts.push((6, format!("{:>7} tokens", number(figures.tokens.total))));
        parts.push((7, pad_before(&dollars(figures.cost), 7)));
        parts.push((5, pad_before(&duration(figures.took), 6)));
        if figures.cached > 0 {
            parts.push((3, format!("{} cached", figures.cached)));
        }
        if self
            .tally
            .started
            .as_ref()
            .is_some_and(|started| started.simulated)
        {
            parts.push((4, "(simulated)".to_owned()));
        }
        fit(parts, room)
    }
}

fn kept(path: Option<&str>, room: Option<usize>) -> String {
    let kept = "kept: edited by hand (`--overwrite`)";
    match path {
        Some(path) => {
            let whole = format!("{kept}; new text: {}", one_line(path));
            let fits = room.is_none_or(|room| width(&whole) <= room);
            if fits { whole } else { kept.to_owned() }
        }
        None => kept.to_owned(),
    }
}

/// The cause in one line. Where it must be cut, status and count stay: they stand at the end.
fn failed(node: Option<&str>, failure: &Failure, failed_nodes: usize, room: Option<usize>) -> String {
    let mut end = failure
        .http_status
        .map_or_else(String::new, |status| format!(" (HTTP {status})"));
    let others = failed_nodes.saturating_sub(1) as u64;
    if others > 0 && node.is_some() {
        end.push_str(&format!(" ({} failed too)", count(others, "other node")));
    }
    let message = one_line(&failure.message);
    let text = match node {
        Some(node) if !message.starts_with(node) => format!("{node}: {message}"),
        _ => message,
    };
    let room = room.unwrap_or(LONGEST_CAUSE).saturating_sub(width(&end));
    cut(&text, room.max(SHORTEST_CAUSE)) + &end
}
