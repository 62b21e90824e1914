//! `septet cache gc`: removes the text of answers that nothing of the project leads to. Shows what
//! that is, and does it only where it is told to.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::call::Money;
use crate::cli::cache::args::Gc;
use crate::cli::cache::out::Out;
use crate::cli::cache::reach::{Unreadable, fates_of, present};
use crate::cli::cache::words::{self, age};
use crate::cli::cache::{self, Opened, bar, close, existing, refused, warn_of_damage};
use crate::cli::clock;
use crate::cli::failure::{CliError, Complaint};
use crate::cli::project::Loaded;
use crate::cli::receipts;
use crate::plan::reach::{Fate, Present};
use crate::printable::one_line;
use crate::report::figures::{bytes, count, dollars, number};
use crate::report::style::pad_before;
use crate::store::{Compacted, Held, LocalStore, Settings, Sum, Survey};

/// How many earlier requests of each node of each persona are kept, unless the command line says.
pub const EARLIER: usize = 1;

/// So many personas that cannot be rendered are named.
const NAMED: usize = 5;

/// Shows what can be removed, and removes it with `--yes`.
pub fn gc(directory: Option<&Path>, args: &Gc) -> Result<ExitCode, CliError> {
    let project = Loaded::open(directory)?;
    if project.personas()?.is_empty() {
        // All answers would be free: more likely the folder is not where it was.
        let folder = &project.config.personas;
        return Err(Complaint::new(format!("`{folder}` has no personas"))
            .hint("what nobody asks for is removed, and here nobody asks for anything: look at `pipeline.personas`")
            .into());
    }
    let Opened { store, .. } = existing(directory)?;
    let Some(store) = store else {
        cache::print("the cache is empty: nothing was paid for yet")?;
        return Ok(ExitCode::SUCCESS);
    };
    let survey = store.survey().map_err(|error| refused(&error))?;
    refuse_damaged(&survey)?;
    let present = present(&project, &store)?.map_err(|unreadable| refuse_unreadable(&unreadable))?;
    let plan = Plan::new(survey, &present, args.keep_earlier);
    if !args.json {
        plan.show(args)?;
    }
    let compacted = match args.yes && !plan.retire().is_empty() {
        true => {
            // One of another pipeline could vouch for an answer that goes.
            receipts::take_back(&project.root)?;
            Some(remove(store, &plan.retire())?)
        }
        false => {
            close(store.into());
            None
        }
    };
    plan.end(args, compacted.as_ref())?;
    Ok(ExitCode::SUCCESS)
}

/// Removes, and closes the store.
fn remove(store: LocalStore, retire: &HashSet<u64>) -> Result<Compacted, CliError> {
    let bar = bar();
    let done = store.compact(retire, &Settings::default(), |progress| bar.tell(progress));
    bar.clear();
    let (store, compacted) = done.map_err(|error| refused(&error))?;
    close(store.into());
    Ok(compacted)
}

fn refuse_damaged(survey: &Survey) -> Result<(), CliError> {
    if survey.damaged.is_empty() && survey.lost.is_empty() {
        return Ok(());
    }
    warn_of_damage(&survey.damaged);
    let lost = survey.lost.iter().map(|lost| Complaint::new(one_line(lost)));
    let mut complaints: Vec<_> = lost.take(NAMED).collect();
    let last = "the journal does not have all that was stored: nothing was removed";
    complaints.push(Complaint::new(last).hint(cache::REPAIR));
    Err(CliError::refused(complaints))
}

fn refuse_unreadable(unreadable: &[Unreadable]) -> CliError {
    let named = unreadable.iter().take(NAMED).map(|one| {
        Complaint::new(format!(
            "persona `{}` cannot be rendered: {}",
            one.persona, one.failure.message
        ))
    });
    let mut complaints: Vec<_> = named.collect();
    if let Some(others) = unreadable.len().checked_sub(NAMED).filter(|others| *others > 0) {
        complaints.push(Complaint::new(format!("and {}", count(others as u64, "other"))));
    }
    let last = complaints.pop().expect("BUG: refused without a reason");
    complaints.push(last.hint(
        "what it asks for is not known, so nothing was removed: mend it, or move it out of the folder of personas",
    ));
    CliError::refused(complaints)
}

/// What becomes of each answer.
struct Plan {
    survey: Survey,
    fates: Vec<Fate>,
    freed: Freed,
}

impl Plan {
    fn new(survey: Survey, present: &Present, earlier: usize) -> Self {
        let fates = fates_of(&survey, present, earlier);
        let freed = Freed::of(&survey, &fates);
        Self { survey, fates, freed }
    }

    fn retire(&self) -> HashSet<u64> {
        self.free().map(|(held, _)| held.seq).collect()
    }

    fn free(&self) -> impl Iterator<Item = (&Held, Fate)> {
        let all = self.survey.answers.iter().zip(self.fates.iter().copied());
        all.filter(|(_, fate)| !fate.is_kept())
    }

    fn kept(&self, fate: Fate) -> u64 {
        self.fates.iter().filter(|other| **other == fate).count() as u64
    }

    fn show(&self, args: &Gc) -> Result<(), CliError> {
        let mut out = Out::new();
        if args.verbose {
            let now = clock::unix_ms();
            for (held, fate) in self.free() {
                out.line(&format!(
                    "{}  {}  {} ago  {}  {}",
                    held.key.short(),
                    pad_before(&bytes(held.bytes), 9),
                    pad_before(&age(now, held.at_ms), 7),
                    reason(fate),
                    one_line(&held.instance.to_string()),
                ))?;
            }
        }
        let kept = format!(
            "kept      {} in use, {} of earlier requests (up to {} of each node), {} that these were made with",
            number(self.kept(Fate::Present)),
            number(self.kept(Fate::Earlier)),
            args.keep_earlier,
            number(self.kept(Fate::Used)),
        );
        out.line(&kept)?;
        let sum = self.freed.sum();
        if sum.answers == 0 {
            out.line("free      none")?;
            return out.finish();
        }
        out.line(&format!(
            "free      {}, {} of the journal, paid for with {}",
            count(sum.answers, "answer"),
            bytes(sum.bytes),
            dollars(sum.cost)
        ))?;
        for (fate, sum) in &self.freed.by_fate {
            out.line(&format!("          {} {}", number(sum.answers), reason(*fate)))?;
        }
        out.finish()
    }

    fn end(&self, args: &Gc, compacted: Option<&Compacted>) -> Result<(), CliError> {
        if args.json {
            let mut out = Out::new();
            out.object(&self.json(compacted))?;
            return out.finish();
        }
        match compacted {
            Some(compacted) => cache::print(&format!(
                "removed   the text of {}; what was paid stays in the book\non disk   journal {} -> {}, look-up trees {} -> {}",
                count(compacted.retired, "answer"),
                bytes(compacted.before.journal_bytes),
                bytes(compacted.after.journal_bytes),
                bytes(compacted.before.tree_bytes),
                bytes(compacted.after.tree_bytes),
            )),
            None if self.freed.sum().answers > 0 => cache::print(
                "\nnothing was removed: `septet cache gc --yes` does it, `-v` names the answers first",
            ),
            None => Ok(()),
        }
    }

    fn json(&self, compacted: Option<&Compacted>) -> Value {
        let sizes = |stats: &crate::store::Stats| json!({ "journal": stats.journal_bytes, "trees": stats.tree_bytes });
        json!({
            "event": "cache_gc",
            "removed": compacted.is_some(),
            "free": self.freed.json(),
            "kept": {
                "present": self.kept(Fate::Present),
                "earlier": self.kept(Fate::Earlier),
                "used": self.kept(Fate::Used),
            },
            "bytes_before": compacted.map(|compacted| sizes(&compacted.before)),
            "bytes_after": compacted.map(|compacted| sizes(&compacted.after)),
        })
    }
}

fn reason(fate: Fate) -> &'static str {
    match fate {
        Fate::Present => "in use",
        Fate::Earlier => "of an earlier request",
        Fate::Used => "used by a kept one",
        Fate::Outlived => "of older requests",
        Fate::Gone => "of personas or nodes that are gone",
        Fate::Replaced => "replaced by a newer answer",
    }
}

/// What could be freed, by the reason.
#[derive(Debug, Default)]
pub struct Freed {
    by_fate: BTreeMap<Fate, Sum>,
}

/// Finds out what could be freed.
///
/// # Errors
/// In words, why that is not known.
pub fn foresee(root: &Path, store: &LocalStore, survey: &Survey, earlier: usize) -> Result<Freed, String> {
    let project = Loaded::open(Some(root)).map_err(|error| error.in_a_line())?;
    let present = present(&project, store).map_err(|error| error.in_a_line())?;
    let present = present.map_err(|unreadable| unreadable_words(&unreadable))?;
    Ok(Freed::of(survey, &fates_of(survey, &present, earlier)))
}

fn unreadable_words(unreadable: &[Unreadable]) -> String {
    let first = &unreadable[0];
    let others = match unreadable.len() - 1 {
        0 => String::new(),
        others => format!(", nor can {}", count(others as u64, "other")),
    };
    format!(
        "persona `{}` cannot be rendered: {}{others}",
        first.persona, first.failure.message
    )
}

impl Freed {
    fn of(survey: &Survey, fates: &[Fate]) -> Self {
        let mut freed = Self::default();
        for (held, fate) in survey.answers.iter().zip(fates) {
            if !fate.is_kept() {
                let sum = freed.by_fate.entry(*fate).or_default();
                sum.add(held.bytes, &held.usage, held.cost);
            }
        }
        freed
    }

    /// All of it.
    fn sum(&self) -> Sum {
        let mut all = Sum::default();
        for sum in self.by_fate.values() {
            all.answers += sum.answers;
            all.bytes += sum.bytes;
            all.usage += &sum.usage;
            all.cost = all.cost.zip(sum.cost).map(|(all, cost)| all + cost);
        }
        all
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let of = |fate| self.by_fate.get(&fate).map_or(0, |sum| sum.answers);
        let sum = self.sum();
        json!({
            "answers": sum.answers,
            "tokens": words::tokens(&sum.usage),
            "cost_usd": sum.cost.map(Money::usd),
            "bytes": sum.bytes,
            "outlived": of(Fate::Outlived),
            "gone": of(Fate::Gone),
            "replaced": of(Fate::Replaced),
        })
    }

    /// For people.
    pub fn words(&self) -> String {
        let sum = self.sum();
        match sum.answers {
            0 => "nothing to free".to_owned(),
            answers => format!(
                "could free {}, {} of the journal",
                count(answers, "answer"),
                bytes(sum.bytes)
            ),
        }
    }
}
