//! What a session says between two runs: for people on standard error, the differences on standard
//! output; with `--json` all of it there.

use console::style;
use serde_json::{Value, json};

use super::changes::AllChanged;
use crate::call::Money;
use crate::cli::args::Run;
use crate::cli::failure::CliError;
use crate::cli::print::{errln, outln, told};
use crate::cli::run::Ready;
use crate::events::Tally;
use crate::printable::one_line;
use crate::report::diff::{unified, unified_within};
use crate::report::figures::{count, dollars, number};
use crate::report::json::escape;
use crate::report::style::Palette;

/// More personas than this are worth a warning: each edit may call all of them.
const MANY: usize = 10;
/// Differences that people are shown; the others are counted.
const SHOWN: usize = 5;
/// Files that are named; the others are counted.
const NAMED: usize = 3;

/// What a session has done so far.
#[derive(Debug)]
pub struct Session {
    json: bool,
    quiet: bool,
    runs: u64,
    calls: u64,
    /// `None`: a paid call had no price.
    cost: Option<Money>,
    simulated: bool,
}

impl Session {
    /// Nothing yet.
    pub fn new(args: &Run, simulated: bool) -> Self {
        Self {
            json: args.selection.json,
            quiet: args.quiet || args.selection.json,
            runs: 0,
            calls: 0,
            cost: Some(Money::ZERO),
            simulated,
        }
    }

    /// Adds a run.
    pub fn add(&mut self, tally: &Tally) {
        self.runs += 1;
        self.calls += tally.calls.sent;
        self.cost = self.cost.zip(tally.cost).map(|(sum, cost)| sum + cost);
    }

    /// What it has spent so far, as far as prices are known.
    pub fn spent(&self) -> Money {
        self.cost.unwrap_or(Money::ZERO)
    }

    /// Warns of a session that is larger than most people mean.
    pub fn warn(&self, ready: &Ready) {
        let personas = ready.personas.len();
        if personas > MANY && !ready.has_budget() {
            told(&format!(
                "{} each edit may call all {} personas: choose a few with `--persona` or `--max`, or set `--budget`",
                style("warning:").for_stderr().yellow().bold(),
                number(personas as u64)
            ));
        }
    }

    /// Says what is waited for.
    pub fn watching(&self, files: usize, personas: usize) {
        if self.json {
            return self.tell(&json!({
                "event": "watching", "files": files, "personas": personas, "runs": self.runs,
                "calls": self.calls, "cost_usd": self.cost.map(Money::usd),
            }));
        }
        if !self.quiet {
            let simulated = if self.simulated { " (simulated)" } else { "" };
            errln!("");
            told(&format!(
                "{} {} of {}; so far {} and {}{simulated}; Ctrl+C ends",
                style("watching").for_stderr().bold(),
                count(files as u64, "file"),
                count(personas as u64, "persona"),
                count(self.calls, "call"),
                dollars(self.cost)
            ));
        }
    }

    /// Says which files were edited.
    pub fn edited(&self, files: &[String], running: bool) {
        if self.json {
            return self.tell(&json!({ "event": "edited", "files": files, "running": running }));
        }
        if !self.quiet {
            let mut named: Vec<String> = files.iter().take(NAMED).map(|file| one_line(file)).collect();
            if files.len() > NAMED {
                named.push(format!("{} more", number((files.len() - NAMED) as u64)));
            }
            let when = if running { " during the run" } else { "" };
            errln!("");
            told(&format!(
                "{} {}{when}",
                style("edited").for_stderr().bold(),
                named.join(", ")
            ));
        }
    }

    /// Says why there is nothing to run after an edit.
    pub fn refused(&self, error: &CliError) {
        // For people it is an error like any other.
        _ = error.report();
        if self.json {
            self.tell(&json!({ "event": "edit_refused", "message": error.in_a_line() }));
        }
    }

    /// Shows how transcripts differ from what they were.
    pub fn changed(&self, all: &AllChanged) {
        if self.json {
            let plain = Palette { color: false };
            for changed in &all.kept {
                let diff = unified(&changed.old, &changed.new, &changed.path, plain);
                self.tell(&json!({
                    "event": "transcript_changed", "persona": changed.persona, "path": changed.path, "diff": diff,
                }));
            }
            return;
        }
        if self.quiet {
            return;
        }
        let palette = Palette {
            color: console::colors_enabled(),
        };
        let terminal = console::Term::stdout();
        let columns = terminal.size_checked().filter(|_| terminal.is_term());
        let columns = columns.map(|(_, columns)| usize::from(columns));
        for changed in all.kept.iter().take(SHOWN) {
            let diff = unified_within(&changed.old, &changed.new, &changed.path, palette, columns);
            if !diff.is_empty() {
                outln!("\n{diff}");
            }
        }
        let others = all.kept.len().saturating_sub(SHOWN) as u64 + all.others;
        if others > 0 {
            errln!("\nand {} changed", count(others, "more transcript"));
        }
    }

    fn tell(&self, object: &Value) {
        outln!("{}", escape(&object.to_string()));
    }
}
