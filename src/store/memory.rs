//! A store in memory for tests that replay a night: no disk, no thread, nothing that waits. It can
//! crash, keeping what was synced, and can fail like a full disk.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::tz::TimeZone;

use crate::call::{Delivery, Key, Rejection};
use crate::names::{Instance, PersonaId};
use crate::store::attempts::Attempts;
use crate::store::looked::{self, Numbered, Older};
use crate::store::put::Gist;
use crate::store::record::{Entry, Record, Sent, TranscriptNote};
use crate::store::segment::Position;
use crate::store::source::{Source, SourceId};
use crate::store::spending::Spending;
use crate::store::{Done, Looked, Placed, Safety, Store, StoreError};

/// A store in memory that behaves as the local one does.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The journal. An entry's number is its place in it.
    entries: Vec<Entry>,
    /// So many of them survive a power cut.
    synced: usize,
    answers: HashMap<Key, Numbered<Record>>,
    marks: HashMap<Instance, u64>,
    notes: HashMap<PersonaId, TranscriptNote>,
    /// How many more entries find room.
    room: Option<usize>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store whose disk is full after so many entries: the next one fails, and then all.
    pub fn with_room_for(entries: usize) -> Self {
        let store = Self::new();
        store.state().room = Some(entries);
        store
    }

    /// What would be there after a power cut now: everything up to the last entry that was kept.
    /// There is room again.
    #[must_use]
    pub fn crashed(&self) -> Self {
        let state = self.state();
        state.entries[..state.synced].iter().cloned().collect()
    }

    /// Everything that was stored, in order.
    pub fn entries(&self) -> Vec<Entry> {
        self.state().entries.clone()
    }

    /// What was paid so far, as the local store would say it when it is opened next.
    pub fn spending(&self) -> Spending {
        let (mut spending, mut open) = (Spending::default(), Attempts::default());
        for entry in &self.state().entries {
            let gist = Gist::from(entry);
            spending.follow(&gist, &open, &TimeZone::UTC);
            open.follow(&gist, Position::start_of(1));
        }
        spending.with_unfinished(&open.calls(), &TimeZone::UTC)
    }

    /// Rejected answers to a request, oldest first.
    pub fn rejected(&self, key: &Key) -> Vec<(Record, Rejection)> {
        let rejected = self.state().rejected(key).into_iter();
        rejected.map(|placed| placed.what).collect()
    }

    fn take(&self, entries: &[Entry], safety: Safety) -> Result<(), StoreError> {
        let mut state = self.state();
        for entry in entries {
            state.make_room()?;
            state.take(entry.clone());
        }
        if safety == Safety::Durable {
            state.synced = state.entries.len();
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FromIterator<Entry> for MemoryStore {
    /// A store that holds these entries, synced.
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut state = State::default();
        entries.into_iter().for_each(|entry| state.take(entry));
        state.synced = state.entries.len();
        Self {
            state: Mutex::new(state),
        }
    }
}

impl State {
    /// What `wanted` takes of the entries, in order.
    fn find<T>(&self, wanted: impl Fn(&Entry) -> Option<T>) -> Vec<Placed<T>> {
        let placed = self.entries.iter().zip(0..).filter_map(|(entry, seq)| {
            let what = wanted(entry)?;
            Some(Placed { seq, what })
        });
        placed.collect()
    }

    fn answers(&self, key: &Key) -> Vec<Placed<Record>> {
        self.find(|entry| match entry {
            Entry::Answer(record) if record.key == *key => Some(record.clone()),
            _ => None,
        })
    }

    fn rejected(&self, key: &Key) -> Vec<Placed<(Record, Rejection)>> {
        self.find(|entry| match entry {
            Entry::Rejected { record, rejection } if record.key == *key => Some((record.clone(), *rejection)),
            _ => None,
        })
    }

    fn make_room(&mut self) -> Result<(), StoreError> {
        match &mut self.room {
            None => Ok(()),
            Some(0) => Err(StoreError::Io {
                what: "write",
                path: "memory".into(),
                source: std::io::ErrorKind::StorageFull.into(),
            }),
            Some(room) => {
                *room -= 1;
                Ok(())
            }
        }
    }

    fn take(&mut self, entry: Entry) {
        let number = self.entries.len() as u64;
        match &entry {
            Entry::Answer(record) => {
                self.answers.insert(record.key, (number, record.clone()));
                self.marks.remove(&record.instance);
            }
            Entry::Retired { record, .. } => {
                self.marks.remove(&record.instance);
            }
            Entry::Refresh { instance } => {
                self.marks.insert(instance.clone(), number);
            }
            Entry::Transcript { persona, note } => {
                self.notes.insert(persona.clone(), note.clone());
            }
            Entry::Rejected { .. }
            | Entry::Attempt(_)
            | Entry::Fault { .. }
            | Entry::Source { .. }
            | Entry::Start { .. }
            | Entry::Run { .. } => {}
        }
        self.entries.push(entry);
    }
}

/// What lies in a store beside the newest answer to a request.
struct OlderOf<'a>(&'a State, &'a Key);

impl Older<StoreError> for OlderOf<'_> {
    fn rejected(&self) -> Result<Vec<Numbered<(Record, Rejection)>>, StoreError> {
        Ok(numbered(self.0.rejected(self.1)))
    }

    fn replaced(&self) -> Result<Vec<Numbered<Record>>, StoreError> {
        Ok(numbered(self.0.answers(self.1)))
    }
}

fn numbered<T>(placed: Vec<Placed<T>>) -> Vec<Numbered<T>> {
    placed
        .into_iter()
        .map(|placed| (placed.seq, placed.what))
        .collect()
}

#[async_trait]
impl Store for MemoryStore {
    fn look(&self, instance: &Instance, key: &Key, bounds: &Delivery) -> Result<Looked, StoreError> {
        let state = self.state();
        let answer = state.answers.get(key).cloned();
        let mark = state.marks.get(instance).copied();
        looked::decide(answer, mark, bounds, &OlderOf(&state, key))
    }

    fn transcript(&self, persona: &PersonaId) -> Result<Option<TranscriptNote>, StoreError> {
        Ok(self.state().notes.get(persona).cloned())
    }

    fn has_source(&self, id: &SourceId) -> Result<bool, StoreError> {
        Ok(self.source(id)?.is_some())
    }

    fn source(&self, id: &SourceId) -> Result<Option<Source>, StoreError> {
        let mut found = self.state().find(|entry| match entry {
            Entry::Source {
                id: other, source, ..
            } if other == id => Some(source.clone()),
            _ => None,
        });
        Ok(found.pop().map(|found| found.what))
    }

    fn calls(&self, instance: &Instance) -> Result<Vec<Placed<Entry>>, StoreError> {
        Ok(self.state().find(|entry| match entry {
            Entry::Attempt(Sent { instance: whose, .. }) | Entry::Fault { instance: whose, .. } => {
                (whose == instance).then(|| entry.clone())
            }
            _ => None,
        }))
    }

    fn answers(&self, key: &Key) -> Result<Vec<Placed<Record>>, StoreError> {
        Ok(self.state().answers(key))
    }

    fn refused(&self, key: &Key) -> Result<Vec<Placed<Record>>, StoreError> {
        let rejected = self.state().rejected(key).into_iter();
        let refused = rejected.filter(|placed| placed.what.1.is_by_check());
        let record = |placed: Placed<(Record, Rejection)>| Placed {
            seq: placed.seq,
            what: placed.what.0,
        };
        Ok(refused.map(record).collect())
    }

    fn append(&self, entries: &[Entry], safety: Safety, done: Done) {
        done.tell(self.take(entries, safety));
    }
}

#[cfg(test)]
mod tests;
