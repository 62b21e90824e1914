//! What a person reads of a persona that has ended: one line, as wide as there is room.

use crate::events::{Failure, PersonaFigures, PersonaStatus, Tally};
use crate::names::PersonaId;
use crate::printable::one_line;
use crate::report::figures::{count, dollars, duration, number};
use crate::report::style::{Palette, cut, fit, pad, pad_before, width};

/// The widest that the column of names gets where there is no terminal to fill.
const WIDEST_NAMES: usize = 60;
/// The longest cause of a failure where there is no terminal to fill.
pub const LONGEST_CAUSE: usize = 400;
/// A cause is not cut shorter than this, however narrow the terminal is.
const SHORTEST_CAUSE: usize = 24;
/// So many personas of which nothing was to be done are named on a terminal; a log names all.
const UNCHANGED_SHOWN: u64 = 20;

/// Lays out the line of a persona that has ended.
pub struct PersonaLine<'a> {
    /// With its end folded in.
    pub tally: &'a Tally,
    pub palette: Palette,
    /// The width of the terminal, if there is one.
    pub columns: Option<usize>,
}

impl PersonaLine<'_> {
    /// How many personas have failed, this one included, for want of the same name in a template or the
    /// like, if this one has; else 0.
    pub fn alike(&self, persona: &PersonaId, error: Option<&Failure>) -> u64 {
        let figures = self.tally.last_persona.as_ref();
        let figures = figures.filter(|last| last.persona == *persona);
        let cause = figures.and_then(|figures| figures.unrendered(error));
        cause.map_or(0, |cause| self.tally.unrendered.of(&cause.message))
    }

    /// The line.
    pub fn of(
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
    pub fn nothing_was_done(&self, persona: &PersonaId) -> bool {
        let last = self.tally.last_persona.as_ref();
        last.is_some_and(|last| last.persona == *persona && last.calls == 0)
    }

    /// The line of a persona of which nothing was to be done: on a terminal thousands of them would push
    /// everything else out of sight.
    pub fn unchanged(&self, persona: &PersonaId) -> Option<String> {
        match (self.tally.untouched, self.columns) {
            (0..=UNCHANGED_SHOWN, _) | (_, None) => {
                Some(self.of(persona, PersonaStatus::Unchanged, None, None))
            }
            (n, Some(_)) if n == UNCHANGED_SHOWN + 1 => {
                let text = "more are up to date: the end says how many";
                Some(format!(
                    "{} {}",
                    self.palette.faint("○"),
                    self.palette.faint(text)
                ))
            }
            _ => None,
        }
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
