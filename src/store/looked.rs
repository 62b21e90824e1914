//! What a look-up finds, and the rule by which that is decided (design, rules 1 and 4): values in,
//! a value out. It does not know how a store keeps them.

use std::collections::HashMap;

use crate::call::{Cut, Key, Rejection};
use crate::names::{Instance, RunId};
use crate::store::record::{Entry, Record};

/// The result of a look-up.
#[derive(Clone, Debug, PartialEq)]
pub enum Looked {
    /// An answer that may be served.
    Hit(Box<Record>),
    /// None, and asking again would pay for another one that is cut off at the same place.
    CutOff(Rejected),
    /// None, and why.
    Miss(Miss),
}

/// Why there is no answer to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Never stored.
    Absent,
    /// `--refresh` asked for a new one, and it has not come yet.
    Refreshed,
    /// The stored record is damaged: what is wrong with it.
    Damaged(String),
    /// The stored answer is longer than the limit allows, in tokens.
    TooLong {
        /// Its output tokens.
        output: u64,
    },
    /// An answer was cut off, at a smaller limit.
    CutOff(Rejected),
    /// The newest answer was bad in another way.
    Rejected(Rejected),
}

/// A bad answer: evidence, never served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Why it is not served.
    pub rejection: Rejection,
    /// Where it ended.
    pub cut: Cut,
    /// The run that paid for it.
    pub run: RunId,
}

/// Something and its place in the book: a later one has a larger number.
pub(super) type Numbered<T> = (u64, T);

/// Decides what a look-up finds under `limit`: `answer` is the newest that was stored under the
/// key, `mark` the refresh of the instance that has not ended. The bad answers (`rejected`) are
/// asked for only if there is none to serve.
pub(super) fn decide<E>(
    answer: Option<Numbered<Record>>,
    mark: Option<u64>,
    limit: Option<u64>,
    rejected: impl FnOnce() -> Result<Vec<Numbered<Rejected>>, E>,
) -> Result<Looked, E> {
    let counts = |seq: u64| mark.is_none_or(|mark| seq > mark);
    let mut outdated = false;
    let mut too_long = None;
    match answer {
        Some((seq, _)) if !counts(seq) => outdated = true,
        Some((_, record)) if is_served(&record, limit) => return Ok(Looked::Hit(Box::new(record))),
        Some((_, record)) => too_long = Some(record.answer.usage.output),
        None => {}
    }
    let (newer, older): (Vec<_>, Vec<_>) = rejected()?.into_iter().partition(|(seq, _)| counts(*seq));
    outdated |= !older.is_empty();
    // The newest of those with the largest limit.
    let cut_off = newer
        .iter()
        .filter(|(_, rejected)| rejected.rejection == Rejection::Truncated)
        .max_by_key(|(seq, rejected)| (rejected.cut.limit.unwrap_or(u64::MAX), *seq));
    let newest = newer.iter().max_by_key(|(seq, _)| *seq);
    Ok(match (cut_off, too_long, newest) {
        (Some((_, it)), ..) if it.cut.holds_at(limit) => Looked::CutOff(it.clone()),
        (_, Some(output), _) => Looked::Miss(Miss::TooLong { output }),
        (Some((_, it)), ..) => Looked::Miss(Miss::CutOff(it.clone())),
        (.., Some((_, it))) => Looked::Miss(Miss::Rejected(it.clone())),
        _ if outdated => Looked::Miss(Miss::Refreshed),
        _ => Looked::Miss(Miss::Absent),
    })
}

/// True if an answer that ended by itself ends so under `limit` too: it fits, or it was asked for
/// under a limit that was no larger (servers do not all count the same tokens).
fn is_served(record: &Record, limit: Option<u64>) -> bool {
    limit.is_none_or(|limit| {
        record.answer.usage.output <= limit || record.max_output_tokens.is_some_and(|sent| sent <= limit)
    })
}

impl Rejected {
    pub(super) fn new(record: &Record, rejection: Rejection) -> Self {
        Self {
            rejection,
            cut: record.cut(),
            run: record.run.clone(),
        }
    }

    /// Why `instance` is not called, and what to do about it.
    pub fn refusal(&self, instance: &Instance) -> String {
        let Self { cut, run, .. } = self;
        let advice = cut.advice();
        format!("not called: {cut} in run {run}; {advice}, or ask again with `--refresh {instance}`")
    }
}

/// Bad answers by key, for a store that has them in memory.
#[derive(Debug, Default)]
pub(super) struct AllRejected(HashMap<Key, Vec<Numbered<Rejected>>>);

impl AllRejected {
    /// Takes the next entry into account.
    pub(super) fn follow(&mut self, seq: u64, entry: &Entry) {
        if let Entry::Rejected { record, rejection } = entry {
            let rejected = Rejected::new(record, *rejection);
            self.0.entry(record.key).or_default().push((seq, rejected));
        }
    }

    /// Those of one request, oldest first.
    pub(super) fn of(&self, key: &Key) -> Vec<Numbered<Rejected>> {
        self.0.get(key).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
