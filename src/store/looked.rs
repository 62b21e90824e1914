//! What a look-up finds, and the rule by which that is decided (design, rules 1 and 4): values in,
//! a value out. It does not know how a store keeps them.

use crate::call::{Cut, Delivery, Misfit, Rejection};
use crate::names::{Instance, RunId};
use crate::store::record::Record;

/// The result of a look-up.
#[derive(Clone, Debug, PartialEq)]
pub enum Looked {
    /// An answer that may be served.
    Hit(Box<Record>),
    /// Likewise, but a check refused it when it came: where that check holds another may be asked for, which
    /// is served in its place then.
    Readmitted(Box<Record>),
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
    /// The stored answer does not pass the checks that the node has now.
    Unfit(Misfit),
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

/// What lies in a store beside the newest answer to a request: asked for only if that one does not
/// serve.
pub(super) trait Older<E> {
    /// The bad answers, oldest first.
    fn rejected(&self) -> Result<Vec<Numbered<(Record, Rejection)>>, E>;

    /// The good answers in whose place the newest one stands, oldest first; the newest may be among
    /// them.
    fn replaced(&self) -> Result<Vec<Numbered<Record>>, E>;
}

/// Decides what a look-up finds within what `bounds` an answer: `answer` is the newest that was
/// stored under the key, `mark` the refresh of the instance that has not ended.
///
/// The checks of a node are no part of a key, so an answer is judged by those of today: one that
/// was accepted may not serve any more, and one that only a check refused may.
pub(super) fn decide<E>(
    answer: Option<Numbered<Record>>,
    mark: Option<u64>,
    bounds: &Delivery,
    older: &impl Older<E>,
) -> Result<Looked, E> {
    let counts = |seq: u64| mark.is_none_or(|mark| seq > mark);
    let mut outdated = false;
    let mut instead = None;
    match answer {
        Some((seq, _)) if !counts(seq) => outdated = true,
        Some((_, record)) => match unserved(&record, bounds) {
            None => return Ok(Looked::Hit(Box::new(record))),
            Some(miss) => instead = Some(miss),
        },
        None => {}
    }
    let (newer, past): (Vec<_>, Vec<_>) = older.rejected()?.into_iter().partition(|(seq, _)| counts(*seq));
    outdated |= !past.is_empty();
    // Whatever came whole is the answer to this request: paid for, and judged by today's checks.
    // Each with whether a check refused it.
    let mut whole: Vec<(Numbered<Record>, bool)> = Vec::new();
    if let Some(Miss::Unfit(_)) = &instead {
        let replaced = older.replaced()?.into_iter().filter(|(seq, _)| counts(*seq));
        whole.extend(replaced.map(|record| (record, false)));
    }
    let refused = newer.iter().filter(|(_, (_, rejection))| rejection.is_by_check());
    whole.extend(refused.map(|(seq, (record, _))| ((*seq, record.clone()), true)));
    let serving = whole
        .into_iter()
        .filter(|((_, record), _)| unserved(record, bounds).is_none());
    if let Some(((_, record), refused)) = serving.max_by_key(|((seq, _), _)| *seq) {
        let record = Box::new(record);
        return Ok(match refused {
            true => Looked::Readmitted(record),
            false => Looked::Hit(record),
        });
    }
    let rejected: Vec<Numbered<Rejected>> = newer
        .iter()
        .map(|(seq, (record, rejection))| (*seq, Rejected::new(record, *rejection)))
        .collect();
    // The newest of those with the largest limit.
    let cut_off = rejected
        .iter()
        .filter(|(_, rejected)| rejected.rejection == Rejection::Truncated)
        .max_by_key(|(seq, rejected)| (rejected.cut.limit.unwrap_or(u64::MAX), *seq));
    let newest = rejected.iter().max_by_key(|(seq, _)| *seq);
    Ok(match (cut_off, instead, newest) {
        (Some((_, it)), ..) if it.cut.holds_at(bounds.max_output_tokens) => Looked::CutOff(it.clone()),
        (_, Some(miss), _) => Looked::Miss(miss),
        (Some((_, it)), ..) => Looked::Miss(Miss::CutOff(it.clone())),
        (.., Some((_, it))) => Looked::Miss(Miss::Rejected(it.clone())),
        _ if outdated => Looked::Miss(Miss::Refreshed),
        _ => Looked::Miss(Miss::Absent),
    })
}

/// Why an answer that ended by itself does not serve within `bounds`; `None`: it does.
fn unserved(record: &Record, bounds: &Delivery) -> Option<Miss> {
    if !is_served(record, bounds.max_output_tokens) {
        let output = record.answer.usage.output;
        return Some(Miss::TooLong { output });
    }
    bounds.checks.judge(&record.answer).err().map(Miss::Unfit)
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

#[cfg(test)]
mod tests;
