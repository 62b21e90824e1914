//! Walks through the journal once and says which answers there are: those that are served, those
//! that a newer one has replaced, and what the rest adds up to. It does not know what is still
//! wanted.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use crate::call::{Key, Money, Usage};
use crate::names::{Instance, NodeId, PersonaId};
use crate::store::keep::verify;
use crate::store::put::Call;
use crate::store::reader::{Damage, Entries, Logged};
use crate::store::record::{Entry, Record};
use crate::store::{LocalStore, StoreError};

/// All that the journal has.
#[derive(Debug, Default)]
pub struct Survey {
    /// Answers with their text, in the order in which they were stored.
    pub answers: Vec<Held>,
    /// Rejected answers.
    pub rejected: Sum,
    /// Answers whose text `cache gc` removed, or that an import did not let be served.
    pub retired: Sum,
    /// Entries of all kinds.
    pub entries: u64,
    /// Places of the journal that cannot be read.
    pub damaged: Vec<Damage>,
    /// What of the journal is not there, in words, as far as its files and the folders of trees tell.
    pub lost: Vec<String>,
}

/// One answer, without its text.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its place in the book: a later one has a larger number.
    pub seq: u64,
    /// The request that it answers.
    pub key: Key,
    /// For whom it was paid.
    pub instance: Instance,
    /// The model that answered.
    pub model: std::sync::Arc<str>,
    /// When it came: Unix time in milliseconds.
    pub at_ms: u64,
    /// Tokens.
    pub usage: Usage,
    /// What it cost; `None`: no price.
    pub cost: Option<Money>,
    /// What it takes in the journal.
    pub bytes: u64,
    /// False where a newer answer to the same request has taken its place.
    pub served: bool,
    /// The answers that its request was made with, by their places in the survey.
    pub uses: Vec<usize>,
}

/// Answers added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub answers: u64,
    /// What they take in the journal.
    pub bytes: u64,
    /// Their tokens.
    pub usage: Usage,
    /// What they cost; `None`: one of them has no price.
    pub cost: Option<Money>,
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            answers: 0,
            bytes: 0,
            usage: Usage::default(),
            cost: Some(Money::ZERO),
        }
    }
}

impl Sum {
    /// Takes one more answer in.
    pub fn add(&mut self, bytes: u64, usage: &Usage, cost: Option<Money>) {
        self.answers += 1;
        self.bytes += bytes;
        self.usage += usage;
        self.cost = self.cost.zip(cost).map(|(sum, cost)| sum + cost);
    }
}

impl<'a> FromIterator<&'a Held> for Sum {
    fn from_iter<I: IntoIterator<Item = &'a Held>>(answers: I) -> Self {
        let mut sum = Self::default();
        for held in answers {
            sum.add(held.bytes, &held.usage, held.cost);
        }
        sum
    }
}

impl LocalStore {
    /// Walks through the whole journal. Holds some 200 bytes for each answer.
    ///
    /// # Errors
    /// If the journal cannot be read; damage is no error.
    pub fn survey(&self) -> Result<Survey, StoreError> {
        let mut survey = Survey::of(self.entries()?)?;
        survey.lost = verify::losses(self.cache())?;
        Ok(survey)
    }
}

impl Survey {
    fn of(entries: Entries) -> Result<Self, StoreError> {
        let mut survey = Self::default();
        let mut known = Known::default();
        for line in entries {
            match line? {
                Ok(logged) => survey.take(logged, &mut known),
                Err(damage) => survey.damaged.push(damage),
            }
        }
        Ok(survey)
    }

    fn take(&mut self, logged: Logged, known: &mut Known) {
        self.entries += 1;
        let Logged { seq, len, entry, .. } = logged;
        match entry {
            Entry::Answer(record) => {
                if let Some(before) = known.newest.insert(record.key, self.answers.len()) {
                    self.answers[before].served = false;
                }
                let uses = known.uses.remove(&Call::of(&record)).unwrap_or_default();
                self.answers.push(known.names.held(seq, len, &record, uses));
            }
            Entry::Attempt(sent) if !sent.needs.is_empty() => {
                let needs = sent.needs.iter().filter_map(|key| known.newest.get(key).copied());
                let call = Call::new(&sent.run, &sent.instance, sent.attempt);
                known.uses.insert(call, needs.collect());
            }
            Entry::Rejected { record, .. } => self.rejected.add(len, &record.answer.usage, record.cost),
            Entry::Retired { record, .. } => self.retired.add(len, &record.answer.usage, record.cost),
            // What is not listed here takes little room and is always kept.
            _ => {}
        }
    }
}

/// What is known while the journal is read.
#[derive(Default)]
struct Known {
    /// The newest answer to each request so far.
    newest: HashMap<Key, usize>,
    /// What the requests of calls that have no answer yet were made with.
    uses: HashMap<Call, Vec<usize>>,
    names: Names,
}

/// One copy of each name: there are thousands of answers with the same few.
#[derive(Default)]
struct Names {
    personas: HashSet<PersonaId>,
    nodes: HashSet<NodeId>,
    models: HashSet<std::sync::Arc<str>>,
}

impl Names {
    fn held(&mut self, seq: u64, bytes: u64, record: &Record, uses: Vec<usize>) -> Held {
        Held {
            seq,
            key: record.key,
            instance: Instance {
                persona: one(&mut self.personas, &record.instance.persona),
                node: one(&mut self.nodes, &record.instance.node),
            },
            model: one(&mut self.models, &record.answer.model.as_str().into()),
            at_ms: record.at_ms,
            usage: record.answer.usage,
            cost: record.cost,
            bytes,
            served: true,
            uses,
        }
    }
}

fn one<T: Clone + Eq + Hash>(known: &mut HashSet<T>, name: &T) -> T {
    match known.get(name) {
        Some(known) => known.clone(),
        None => {
            known.insert(name.clone());
            name.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, samples};

    #[tokio::test]
    async fn answers_are_told_apart_by_what_became_of_them() {
        let cache = tempfile::tempdir().unwrap();
        let (store, _) = LocalStore::open(cache.path(), |_| {}).unwrap();
        let again = Entry::Answer(samples::record(1, "another sample"));
        for entry in samples::one_of_each().into_iter().chain([again]) {
            store.keep(entry).await.unwrap();
        }
        let survey = store.survey().unwrap();
        let served: Vec<_> = survey
            .answers
            .iter()
            .map(|held| (held.key, held.served))
            .collect();
        assert_eq!(served, [(samples::key(1), false), (samples::key(1), true)]);
        assert!(survey.answers[0].seq < survey.answers[1].seq);
        assert_eq!((survey.rejected.answers, survey.retired.answers), (1, 1));
        assert_eq!(survey.answers[1].uses, [] as [usize; 0]);
        assert_eq!(survey.entries, samples::one_of_each().len() as u64 + 1);
        let sum: Sum = survey.answers.iter().collect();
        assert_eq!((sum.usage.input, sum.usage.output, sum.cost), (4000, 1400, None));
        let bytes = sum.bytes + survey.rejected.bytes + survey.retired.bytes;
        assert!(sum.bytes > 0 && bytes < store.stats().unwrap().journal_bytes);
    }

    #[tokio::test]
    async fn an_answer_knows_what_its_request_was_made_with() {
        let cache = tempfile::tempdir().unwrap();
        let (store, _) = LocalStore::open(cache.path(), |_| {}).unwrap();
        let mut sent = samples::sent(2);
        sent.needs = vec![samples::key(1), samples::key(5)];
        for entry in [
            samples::answer(1),
            Entry::Attempt(sent),
            samples::answer(1),
            samples::answer(2),
        ] {
            store.keep(entry).await.unwrap();
        }
        let survey = store.survey().unwrap();
        let uses: Vec<_> = survey.answers.iter().map(|held| held.uses.clone()).collect();
        assert_eq!(uses, [vec![], vec![], vec![0]], "the newest before it was sent");
    }
}
