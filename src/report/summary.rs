//! The end of a run in words: what was done, what it cost, what failed, what is left and how to go
//! on.

use crate::budget::Used;
use crate::call::Money;
use crate::events::{Failure, Failures, ModelAccount, Outcome, Tally};
use crate::hours::time_over;
use crate::names::{Instance, Stop};
use crate::printable::one_line;
use crate::report::advice::{BEGINS_ANEW, TRUNCATED, advice, begins_anew};
use crate::report::figures::{count, counted, dollars, duration, number};
use crate::report::style::{Palette, pad_before, wrap};

/// The width of the first column.
const LABEL: usize = 10;
/// Groups of failures that are shown; the rest is counted.
const MOST_GROUPS: usize = 10;

/// Returns the whole summary, opened by a blank line; empty while the run goes on.
pub fn lines(tally: &Tally, palette: Palette, columns: Option<usize>) -> Vec<String> {
    let Some(outcome) = tally.outcome else {
        return Vec::new();
    };
    if is_restarted(tally) {
        let (calls, paid) = (count(tally.calls.sent, "call"), dollars(tally.cost));
        return vec![
            String::new(),
            format!("cut short by the edit, after {calls} and {paid}; all of it is kept"),
        ];
    }
    let summary = Summary {
        tally,
        palette,
        columns,
    };
    let mut lines = vec![String::new()];
    lines.extend(summary.counts());
    if tally.tokens.total > 0 {
        lines.push(String::new());
        lines.extend(summary.tokens());
    }
    lines.push(String::new());
    lines.extend(summary.money());
    if !tally.failures.is_empty() {
        lines.push(String::new());
        lines.extend(summary.failures());
    }
    lines.push(String::new());
    lines.extend(summary.ending(outcome));
    lines.extend(summary.hints(outcome));
    lines
}

/// Returns the end of a run of a session, in which one that changes nothing is worth a line.
pub fn of_session(tally: &Tally, palette: Palette, columns: Option<usize>) -> Vec<String> {
    let idle = tally.outcome == Some(Outcome::Complete) && tally.calls.sent == 0 && tally.personas.kept == 0;
    if !idle {
        return lines(tally, palette, columns);
    }
    let written = match tally.personas.written {
        0 => String::new(),
        n => format!(", {} written", count(n, "transcript")),
    };
    let personas = count(tally.personas.total, "persona");
    let done = palette.good("nothing to call");
    vec![String::new(), format!("{done}: {personas} up to date{written}")]
}

/// True if it was cut short to be run again.
fn is_restarted(tally: &Tally) -> bool {
    tally.outcome == Some(Outcome::Interrupted) && tally.stopping == Some(Stop::Restart)
}

/// Returns only what is not well: for `--quiet`.
pub fn brief(tally: &Tally, palette: Palette, columns: Option<usize>) -> Vec<String> {
    let summary = Summary {
        tally,
        palette,
        columns,
    };
    match tally.outcome {
        _ if is_restarted(tally) => Vec::new(),
        None | Some(Outcome::Complete) => Vec::new(),
        Some(outcome) => summary.ending(outcome),
    }
}

/// What was paid to a model at hours with a price of their own, a line for each price.
pub fn at_hours(model: &ModelAccount) -> impl Iterator<Item = String> {
    model.hours.iter().map(|at| {
        format!(
            "{} of it for {} of {} at {}",
            dollars(Some(at.cost)),
            count(at.answers, "answer"),
            one_line(&model.model),
            one_line(&at.hours)
        )
    })
}

struct Summary<'a> {
    tally: &'a Tally,
    palette: Palette,
    columns: Option<usize>,
}

impl Summary<'_> {
    fn counts(&self) -> Vec<String> {
        let (p, n, c) = (self.tally.personas, self.tally.nodes, self.tally.calls);
        let mut lines = vec![
            self.labelled("personas", &counted(p.total, &p.parts())),
            self.labelled("nodes", &counted(n.total, &n.parts())),
            self.labelled("calls", &(counted(c.sent, &c.parts()) + &c.fetched_words())),
        ];
        let (fetchable, lost) = (self.tally.fetchable.len() as u64, self.tally.lost);
        if fetchable > 0 {
            let calls = count(fetchable, "call");
            lines.push(self.labelled(
                "",
                &format!("{calls} can still be fetched, which the next run does"),
            ));
        }
        if lost > 0 {
            lines.push(self.labelled("", "abandoned calls may have been billed"));
        }
        // Answers that came and cannot be read.
        let unread = self.tally.account.possibly_billed.calls.saturating_sub(lost);
        if unread > 0 {
            let calls = count(unread, "faulted call");
            lines.push(self.labelled("", &format!("{calls} may have been billed")));
        }
        lines.push(self.labelled("time", &duration(self.tally.at)));
        lines
    }

    fn labelled(&self, label: &str, text: &str) -> String {
        format!("{label:LABEL$}{text}")
    }

    fn tokens(&self) -> Vec<String> {
        let tokens = self.tally.tokens;
        let of_input = |part| share(part, tokens.input);
        let mut rows = vec![
            ("input", tokens.input, String::new()),
            ("  cached", tokens.cached_input, of_input(tokens.cached_input)),
        ];
        if tokens.cache_write > 0 {
            rows.push(("  written", tokens.cache_write, of_input(tokens.cache_write)));
        }
        rows.extend([
            ("output", tokens.output, String::new()),
            ("  reasoning", tokens.reasoning, String::new()),
            ("total", tokens.total, String::new()),
        ]);
        let widest = number(tokens.total.max(tokens.input)).len().max(7);
        let mut lines: Vec<_> = rows
            .iter()
            .zip(["tokens"].into_iter().chain(std::iter::repeat("")))
            .map(|((kind, n, share), label)| {
                let n = pad_before(&number(*n), widest);
                self.labelled(label, &format!("{kind:<13}{n}{share}"))
            })
            .collect();
        if self.tally.estimated {
            lines.push(self.labelled("", "partly estimated: the provider did not count them all"));
        }
        lines
    }

    fn money(&self) -> Vec<String> {
        let tally = self.tally;
        let simulated = tally.started.as_ref().is_some_and(|started| started.simulated);
        let label = if simulated { " (simulated)" } else { "" };
        let why = match tally.cost {
            None => ": a model that was called has no price in `pipeline.toml`",
            Some(_) => "",
        };
        let saved = |amount| format!("{}{}", dollars(amount), if amount.is_none() { "" } else { label });
        let loss = match tally.saved_by_provider {
            Some(saved) if saved < Money::ZERO => ": writing to it cost more than reading saved",
            _ => "",
        };
        let mut lines = vec![self.labelled(
            "cost",
            &format!(
                "{}{why}{}",
                dollars(tally.cost),
                if why.is_empty() { label } else { "" }
            ),
        )];
        let by_hours = tally.account.models.iter().flat_map(at_hours);
        lines.extend(by_hours.map(|text| self.labelled("", &text)));
        let septet = format!("{} by septet's cache", saved(tally.saved_by_septet));
        // Without a call the provider had nothing to save.
        if tally.calls.sent == 0 {
            lines.push(self.labelled("saved", &septet));
            return lines;
        }
        let provider = format!("{} by the provider's cache{loss}", saved(tally.saved_by_provider));
        // With the loss it is longer than many a terminal is wide.
        let room = self
            .columns
            .map_or(usize::MAX, |columns| columns.saturating_sub(LABEL));
        let labels = std::iter::once("saved").chain(std::iter::repeat(""));
        lines.extend(
            labels
                .zip(wrap(&provider, room))
                .map(|(label, text)| self.labelled(label, &text)),
        );
        lines.push(self.labelled("", &septet));
        lines
    }

    fn failures(&self) -> Vec<String> {
        let groups = self.tally.failures();
        let mut lines = vec![self.palette.strong("failures")];
        for group in groups.iter().take(MOST_GROUPS) {
            lines.extend(self.group(group));
        }
        if groups.len() > MOST_GROUPS {
            lines.push(format!(
                "  and {}",
                count((groups.len() - MOST_GROUPS) as u64, "other cause")
            ));
        }
        lines
    }

    fn group(&self, group: &Failures) -> Vec<String> {
        let n = number(group.nodes.max(group.personas));
        let (kind, words) = (self.palette.bad(&group.kind), group.words());
        let mut lines = vec![format!("  {n} x {kind}{words}")];
        lines.extend(self.wrapped("      ", &one_line(&group.example.message)));
        lines.extend(
            advice(&group.kind, &group.example.message)
                .into_iter()
                .flat_map(|advice| self.hint("      ", &advice)),
        );
        lines
    }

    fn ending(&self, outcome: Outcome) -> Vec<String> {
        let (tally, palette) = (self.tally, self.palette);
        let p = tally.personas;
        let mut parts = vec![format!(
            "{} of {} up to date",
            number(p.up_to_date()),
            count(p.total, "persona")
        )];
        let others = [
            (p.kept, "kept as edited by hand"),
            (p.failed, "failed"),
            (p.pending, "left"),
        ];
        let others = others.iter().filter(|(n, _)| *n > 0);
        parts.extend(others.map(|(n, word)| format!("{} {word}", number(*n))));
        let word = match outcome {
            Outcome::Complete => palette.good("complete"),
            Outcome::Partial if p.pending > 0 => palette.bad("stopped at a failure"),
            Outcome::Partial => palette.bad("partial"),
            Outcome::Interrupted => palette.warn("interrupted"),
            Outcome::Budget => palette.warn("stopped by the budget"),
            Outcome::Deadline => match &tally.deadline {
                Some((until, None)) => palette.warn(&format!("stopped at {}", until.clock)),
                _ => palette.warn("stopped by `--until`"),
            },
            Outcome::Fatal => palette.bad("stopped early"),
        };
        let mut lines = vec![format!("{word}: {}", parts.join(", "))];
        match (outcome, &tally.budget_reached) {
            (Outcome::Budget, Some((used, instance, next))) => {
                lines.extend(self.wrapped("", &budget_reached(used, instance, *next)));
            }
            // Nothing is wrong: the words above say it, but for a time that has not come yet.
            (Outcome::Deadline, _) => {
                if let Some((until, opens @ Some(_))) = &tally.deadline {
                    lines.extend(self.wrapped("", &time_over(until, opens.as_ref())));
                }
            }
            _ => lines.extend(self.cause(outcome)),
        }
        lines
    }

    /// What ended the run before its time, as an error: what would meet every call, or the first
    /// failure with `--fail-fast`. That node's persona has no line of its own if others of its
    /// nodes were not sent any more.
    fn cause(&self, outcome: Outcome) -> Vec<String> {
        let Some(cause) = &self.tally.cause else {
            return Vec::new();
        };
        let mut message = one_line(&cause.message);
        if let (Outcome::Partial, Some(instance)) = (outcome, &self.tally.first_failed) {
            message = format!("{}: {message}", one_line(&instance.to_string()));
        }
        if let Some(status) = cause.http_status {
            message.push_str(&format!(" (HTTP {status})"));
        }
        let mut lines = self.wrapped("", &format!("error: {message}"));
        if let Some(first) = lines.first_mut() {
            *first = first.replacen("error:", &self.palette.bad("error:"), 1);
        }
        lines.extend(
            advice(cause.kind, &cause.message)
                .into_iter()
                .flat_map(|advice| self.hint("", &advice)),
        );
        lines
    }

    fn hints(&self, outcome: Outcome) -> Vec<String> {
        let mut hints: Vec<&str> = Vec::new();
        let budget = self.tally.budget_reached.as_ref();
        let go_on = budget.map(|(used, _, next)| go_on_with_money(self.tally, used, *next));
        match outcome {
            Outcome::Complete => {}
            Outcome::Partial if self.tally.personas.pending == 0 && self.only_cut_off() => {
                hints.push("`septet run` calls what was cut off again once `max_output_tokens` is larger");
            }
            Outcome::Fatal
                if self
                    .tally
                    .cause
                    .as_ref()
                    .is_some_and(|cause| cause.kind == Failure::STORE) =>
            {
                let gone = self.tally.cause.as_ref().is_some_and(begins_anew);
                hints.push(match gone {
                    true => BEGINS_ANEW,
                    false => "`septet run` goes on from here once that is mended; what was stored before is not paid twice",
                });
            }
            Outcome::Fatal if !self.tally.failures.is_empty() && self.only_cut_off() => {
                hints.push("`septet run` goes on, and calls what was cut off again, once `max_output_tokens` is larger");
            }
            Outcome::Partial if self.tally.personas.pending == 0 => {
                hints.push(
                    "`septet run` tries what failed again; what was paid for is stored and not paid twice",
                );
            }
            Outcome::Budget if go_on.is_some() => {
                hints.extend(go_on.as_deref());
                hints.push("`septet plan` says what the rest would cost");
            }
            Outcome::Partial => {
                hints.push(
                    "`septet run` goes on from here, and without `--fail-fast` past failures; what was paid for is stored and not paid twice",
                );
            }
            Outcome::Budget | Outcome::Deadline | Outcome::Fatal | Outcome::Interrupted => {
                hints.push("`septet run` goes on from here; what was paid for is stored and not paid twice");
            }
        }
        if self.tally.personas.kept > 0 {
            hints.push("`septet run --overwrite` replaces transcripts that were edited by hand");
        }
        hints.into_iter().flat_map(|hint| self.hint("", hint)).collect()
    }

    fn only_cut_off(&self) -> bool {
        self.tally.failures.keys().all(|cause| cause.kind == TRUNCATED)
    }

    fn hint(&self, indent: &str, text: &str) -> Vec<String> {
        let mut lines = self.wrapped(indent, &format!("hint: {text}"));
        if let Some(first) = lines.first_mut() {
            *first = first.replacen("hint:", &self.palette.strong("hint:"), 1);
        }
        lines
    }

    fn wrapped(&self, indent: &str, text: &str) -> Vec<String> {
        let columns = self
            .columns
            .map_or(usize::MAX, |columns| columns.saturating_sub(indent.len()));
        wrap(text, columns)
            .into_iter()
            .map(|line| format!("{indent}{line}"))
            .collect()
    }
}

/// What is spent, and what did not fit.
fn budget_reached(used: &Used, instance: &Instance, next: Money) -> String {
    let possibly = match used.possibly {
        Money::ZERO => String::new(),
        possibly => format!(
            ", of which {} for calls that may have been billed",
            dollars(Some(possibly))
        ),
    };
    let (next, left) = told_apart(next, used.left());
    format!(
        "budget: {} of {} (`{}`) is spent{possibly}; the next call, of {}, may cost {next}, and {left} is left",
        dollars(Some(used.spent)),
        dollars(Some(used.limit.amount)),
        used.limit.name,
        one_line(&instance.to_string()),
    )
}

/// Two amounts that differ, with as many places as it takes to see that.
fn told_apart(one: Money, other: Money) -> (String, String) {
    let short = (dollars(Some(one)), dollars(Some(other)));
    if one == other || short.0 != short.1 {
        return short;
    }
    let long = |money: Money, places| format!("${:.places$}", money.usd());
    let places = (5..9).find(|&places| long(one, places) != long(other, places));
    let places = places.unwrap_or(9);
    (long(one, places), long(other, places))
}

/// How a run goes on whose budget is used up.
fn go_on_with_money(tally: &Tally, used: &Used, next: Money) -> String {
    const STORED: &str = "what was paid for is stored and not paid twice";
    let key = used.limit.name.trim_start_matches("limits.");
    let rest = likely_rest(tally, next);
    let all = amount(used.spent + rest);
    match key {
        "budget_usd_total" => format!(
            "raise `{key}` in `[limits]` to {all}, which should do for the rest; then `septet run` goes on from \
             here; {STORED}"
        ),
        "budget_usd_month" => format!(
            "`septet run` goes on from here next month, or once `{key}` in `[limits]` is raised to {all}, which \
             should do for the rest; {STORED}"
        ),
        _ => format!(
            "`septet run --budget {}` should do for the rest: a budget is for one run, and {STORED}",
            amount(rest)
        ),
    }
}

/// What is set aside for the next call, and half as much again as the rest would cost at the mean of
/// the calls so far: what is left may be dearer than what came first. Before the first of them each
/// is taken to cost as much as the next.
fn likely_rest(tally: &Tally, next: Money) -> Money {
    let calls = tally.calls.ok + tally.calls.rejected;
    let mean = match (tally.cost, calls) {
        (Some(cost), 1..) => cost.usd() / calls as f64 * 1.5,
        _ => next.usd(),
    };
    next + Money::from_usd(mean * tally.nodes.pending as f64)
}

/// A round amount that is not less, in dollars: two figures of it, and no parts of a cent.
fn amount(money: Money) -> f64 {
    let cents = (money.usd() * 100.0 - 1e-6).ceil().max(1.0);
    let unit = 10_f64.powf(cents.log10().floor() - 1.0).max(1.0);
    (cents / unit).ceil() * unit / 100.0
}

/// A part of the input in percent; nothing where there is none.
fn share(part: u64, input: u64) -> String {
    match u128::from(part) * 100 {
        0 => String::new(),
        hundred if hundred < u128::from(input) => "  <1 %".to_owned(),
        hundred => format!(
            "{:>4} %",
            (hundred + u128::from(input) / 2) / u128::from(input).max(1)
        ),
    }
}
