//! `septet cache gc`: removes the text of answers that nothing of the project leads to.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::cache::reach::{Unreadable, fates_of, present};
use crate::cli::cache::words;
use crate::cli::project::Loaded;
use crate::plan::reach::Fate;
use crate::report::figures::{bytes, count};
use crate::store::{LocalStore, Sum, Survey};

/// How many earlier requests of each node of each persona are kept, unless the command line says.
pub const EARLIER: usize = 1;

/// What could be freed, by the reason.
#[derive(Debug, Default)]
pub struct Freed {
    pub by_fate: BTreeMap<Fate, Sum>,
}

/// Finds out what could be freed.
///
/// # Errors
/// In words, why that is not known.
pub fn foresee(root: &Path, store: &LocalStore, survey: &Survey, earlier: usize) -> Result<Freed, String> {
    let project = Loaded::open(Some(root)).map_err(|error| error.in_a_line())?;
    let present = present(&project, store).map_err(|error| error.in_a_line())?;
    let present = present.map_err(|unreadable| unreadable_words(&unreadable))?;
    let mut freed = Freed::default();
    for (held, fate) in survey.answers.iter().zip(fates_of(survey, &present, earlier)) {
        if !fate.is_kept() {
            let sum = freed.by_fate.entry(fate).or_default();
            sum.add(held.bytes, &held.usage, held.cost);
        }
    }
    Ok(freed)
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
    /// All of it.
    pub fn sum(&self) -> Sum {
        let mut all = Sum::default();
        for sum in self.by_fate.values() {
            all.answers += sum.answers;
            all.bytes += sum.bytes;
            all.usage += &sum.usage;
            all.cost = all.cost.zip(sum.cost).map(|(all, cost)| all + cost);
        }
        all
    }

    pub fn json(&self) -> Value {
        let of = |fate| self.by_fate.get(&fate).map_or(0, |sum| sum.answers);
        let sum = self.sum();
        json!({
            "answers": sum.answers,
            "tokens": words::tokens(&sum.usage),
            "cost_usd": sum.cost.map(crate::call::Money::usd),
            "bytes": sum.bytes,
            "outlived": of(Fate::Outlived),
            "gone": of(Fate::Gone),
            "replaced": of(Fate::Replaced),
        })
    }

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
