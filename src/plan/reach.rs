//! Which stored answers a project can still lead to, and which nobody would miss: the rule by
//! which `septet cache gc` removes. Values in, values out; `docs/cache.md` says it in words.

use std::collections::{HashMap, HashSet};

use crate::call::Key;
use crate::names::Instance;

/// What the project asks for as it stands now.
#[derive(Debug, Default)]
pub struct Present {
    requests: HashSet<Key>,
    /// Every node of every persona; true where its present request has an answer.
    instances: HashMap<Instance, bool>,
}

impl Present {
    /// Takes in the present request of an instance, and whether it has an answer that is stored.
    pub fn request(&mut self, instance: Instance, key: Key, answered: bool) {
        self.requests.insert(key);
        self.instances.insert(instance, answered);
    }

    /// Takes in an instance whose present request is not known yet: a node that it needs has no
    /// answer.
    pub fn unknown(&mut self, instance: Instance) {
        self.instances.insert(instance, false);
    }

    /// How many earlier requests of an instance are kept; `None` if it does not exist any more.
    ///
    /// Without an answer to the present request the newest earlier one is what there is: its
    /// transcript rests on it, and an edit that is taken back leads to it.
    fn kept_earlier(&self, instance: &Instance, earlier: usize) -> Option<usize> {
        let answered = self.instances.get(instance)?;
        Some(if *answered { earlier } else { earlier.max(1) })
    }
}

/// A stored answer, as far as the rule needs it.
#[derive(Clone, Copy, Debug)]
pub struct Paid<'a> {
    /// The request that it answers.
    pub key: Key,
    /// For whom it was paid.
    pub instance: &'a Instance,
    /// False where a newer answer to the same request has taken its place.
    pub served: bool,
    /// The answers that its own request was made with, by their places in the list.
    pub uses: &'a [usize],
}

/// What becomes of a stored answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// Kept: a present request leads to it.
    Present,
    /// Kept: one of the newest earlier requests of its instance leads to it.
    Earlier,
    /// Kept: the request of another one that is kept was made with it.
    Used,
    /// Free: only requests that were sent longer ago lead to it.
    Outlived,
    /// Free: the persona or the node that it was paid for does not exist any more.
    Gone,
    /// Free: a newer answer to the same request has taken its place.
    Replaced,
}

impl Fate {
    /// True if the answer stays.
    pub fn is_kept(self) -> bool {
        matches!(self, Fate::Present | Fate::Earlier | Fate::Used)
    }
}

/// Decides about each of `answers`, which come in the order in which they were stored; `earlier` is
/// how many earlier requests of each instance are kept.
pub fn fates(answers: &[Paid<'_>], present: &Present, earlier: usize) -> Vec<Fate> {
    let kept = kept_earlier(answers, present, earlier);
    let fate = |paid: &Paid<'_>| {
        if !paid.served {
            Fate::Replaced
        } else if present.requests.contains(&paid.key) {
            Fate::Present
        } else if kept.contains(&paid.key) {
            Fate::Earlier
        } else if present.instances.contains_key(paid.instance) {
            Fate::Outlived
        } else {
            Fate::Gone
        }
    };
    let mut fates: Vec<_> = answers.iter().map(fate).collect();
    keep_used(answers, &mut fates);
    fates
}

/// Keeps what the requests of kept answers were made with: without it nobody could say any more
/// what was asked.
fn keep_used(answers: &[Paid<'_>], fates: &mut [Fate]) {
    let mut kept: Vec<usize> = (0..answers.len()).filter(|at| fates[*at].is_kept()).collect();
    while let Some(at) = kept.pop() {
        for &used in answers[at].uses {
            if !fates[used].is_kept() {
                fates[used] = Fate::Used;
                kept.push(used);
            }
        }
    }
}

/// The earlier requests that are kept: of each instance the newest ones.
fn kept_earlier(answers: &[Paid<'_>], present: &Present, earlier: usize) -> HashSet<Key> {
    let mut kept = HashSet::new();
    let mut by_instance: HashMap<&Instance, HashSet<Key>> = HashMap::new();
    let earlier_ones = answers
        .iter()
        .rev()
        .filter(|paid| !present.requests.contains(&paid.key));
    for paid in earlier_ones {
        let Some(room) = present.kept_earlier(paid.instance, earlier) else {
            continue;
        };
        let own = by_instance.entry(paid.instance).or_default();
        if own.len() < room && own.insert(paid.key) {
            kept.insert(paid.key);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
