//! Takes lines of an export into a store: what is there already is passed over, so that an import
//! can be interrupted and repeated. Where two stores have different answers to one request it
//! decides which is served, and keeps the other as a retired one.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, Read};
use std::pin::Pin;

use crate::call::Key;
use crate::names::PersonaId;
use crate::store::frame::{self, RAW_LIMIT};
use crate::store::keep::line::{self, Line};
use crate::store::record::{Entry, Record, Retirement};
use crate::store::segment::Found;
use crate::store::{LocalStore, StoreError};

/// The longest line, in bytes: the largest entry and what stands around it.
const LINE_LIMIT: u64 = RAW_LIMIT as u64 + 1024;

/// Entries that are on their way into the journal at the same time.
const UNDER_WAY: usize = 256;

/// Which of two different answers to one request is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conflict {
    /// The one that was paid for last.
    #[default]
    Newest,
    /// The one that is there.
    Existing,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Entries in the lines.
    pub entries: u64,
    /// Of these, taken in.
    pub added: u64,
    /// Of these, there already.
    pub known: u64,
    /// Notes about transcripts of which there are others here.
    pub notes_left: u64,
    /// Answers that took the place of another one here. They are among those added.
    pub replacing: u64,
    /// Answers that are kept as retired ones because another one is served. Among those added.
    pub outdated: u64,
    /// True if the last line was there, and as many entries before it as it says.
    pub complete: bool,
}

/// Why an import ended early. What it took in until then stays, and repeating it goes on.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lines cannot be read.
    #[error("cannot read the export")]
    Read(#[source] io::Error),
    /// A line is not as it must be.
    #[error("line {number}: {reason}")]
    Line {
        /// Counts from 1.
        number: u64,
        /// What is wrong with it.
        reason: String,
    },
}

impl LocalStore {
    /// Takes lines of an export in. What was taken is durable once the store is closed.
    ///
    /// # Errors
    /// [`ImportError`].
    pub async fn import(&self, lines: &mut dyn BufRead, conflict: Conflict) -> Result<Imported, ImportError> {
        let mut import = Import {
            here: Here::read(self)?,
            conflict,
            brought: Brought::default(),
            imported: Imported::default(),
        };
        let mut way = Way::default();
        let read = self.take_lines(lines, &mut import, &mut way).await;
        // Also where a line was wrong: what stands before it was taken in.
        way.finish().await?;
        read.map(|()| import.imported)
    }

    async fn take_lines(
        &self,
        lines: &mut dyn BufRead,
        import: &mut Import,
        way: &mut Way,
    ) -> Result<(), ImportError> {
        let mut bytes = Vec::new();
        for number in 1.. {
            let wrong = |reason| ImportError::Line { number, reason };
            bytes.clear();
            let read = lines.take(LINE_LIMIT).read_until(b'\n', &mut bytes);
            if read.map_err(ImportError::Read)? == 0 {
                break;
            }
            if bytes.pop_if(|last| *last == b'\n').is_none() && bytes.len() as u64 == LINE_LIMIT {
                return Err(wrong(format!("is longer than {LINE_LIMIT} bytes")));
            }
            let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is not UTF-8".to_owned()))?;
            if text.trim().is_empty() {
                continue;
            }
            match line::read(text).map_err(wrong)? {
                Line::Head => {}
                Line::End(entries) => import.imported.complete = import.imported.entries >= entries,
                Line::Entry(entry, json) => {
                    if let Some((entry, json)) = import.take(*entry, json) {
                        let frame = frame::encode_json(&entry, json.as_bytes()).map_err(wrong)?;
                        way.send(self.append_frame(&entry, frame)).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// What tells two entries apart: a hash of their lines.
type Digest = [u8; 16];

fn digest(json: &str) -> Digest {
    let hash = blake3::hash(line::plain(json).as_bytes());
    *hash.as_bytes().first_chunk().expect("BUG: a hash has 32 bytes")
}

/// What the store had before the import, and has by now.
#[derive(Default)]
struct Here {
    /// Entries that no line was found to repeat yet, by how often they are there.
    entries: HashMap<Digest, u32>,
    /// The answers that are served, and when they came.
    answers: HashMap<Key, (Digest, u64)>,
    notes: HashMap<PersonaId, Digest>,
}

impl Here {
    fn read(store: &LocalStore) -> Result<Self, StoreError> {
        let mut here = Self::default();
        let mut journal = store.reader(None)?;
        while let Some(place) = journal.next()? {
            if let Found::Frame { frame, .. } = &place.found
                && let Ok(json) = frame.json()
                && let Ok(entry) = serde_json::from_str(&json)
            {
                let digest = digest(&json);
                *here.entries.entry(digest).or_default() += 1;
                here.follow(&entry, digest);
            }
        }
        Ok(here)
    }

    fn follow(&mut self, entry: &Entry, digest: Digest) {
        match entry {
            Entry::Answer(record) => drop(self.answers.insert(record.key, (digest, record.at_ms))),
            Entry::Transcript { persona, .. } => drop(self.notes.insert(persona.clone(), digest)),
            _ => {}
        }
    }

    /// True once for each time that the entry is there.
    fn has(&mut self, digest: &Digest) -> bool {
        match self.entries.get_mut(digest) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }
}

/// What the lines brought last. Of these, and not of what was there before, a later line takes the
/// place whatever its time: they come in the order in which they were stored.
#[derive(Default)]
struct Brought {
    answers: HashMap<Key, Digest>,
    notes: HashMap<PersonaId, Digest>,
}

struct Import {
    here: Here,
    conflict: Conflict,
    brought: Brought,
    imported: Imported,
}

impl Import {
    /// Decides about an entry. Returns what is to be stored, if anything.
    fn take<'a>(&mut self, entry: Entry, json: &'a str) -> Option<(Entry, std::borrow::Cow<'a, str>)> {
        self.imported.entries += 1;
        let digest = digest(json);
        let known = self.here.has(&digest);
        let taken = match &entry {
            _ if known => None,
            Entry::Answer(record) if !self.is_served(record) => {
                self.brought.follow(&entry, digest);
                return self.retire(record.clone());
            }
            Entry::Transcript { persona, .. } if !self.is_own_note(persona) => {
                self.imported.notes_left += 1;
                None
            }
            _ => Some(()),
        };
        self.brought.follow(&entry, digest);
        self.imported.known += u64::from(known);
        taken?;
        if let Entry::Answer(record) = &entry
            && self.here.answers.contains_key(&record.key)
        {
            self.imported.replacing += 1;
        }
        self.here.follow(&entry, digest);
        self.imported.added += 1;
        Some((entry, json.into()))
    }

    /// True if a new answer takes the place of the one that is there, or there is none.
    fn is_served(&self, record: &Record) -> bool {
        let Some((here, at_ms)) = self.here.answers.get(&record.key) else {
            return true;
        };
        self.brought.answers.get(&record.key) == Some(here)
            || (self.conflict == Conflict::Newest && record.at_ms > *at_ms)
    }

    /// True if the note that is there came from these lines, or there is none: another one tells of
    /// the transcripts of this folder.
    fn is_own_note(&self, persona: &PersonaId) -> bool {
        let here = self.here.notes.get(persona);
        here.is_none_or(|here| self.brought.notes.get(persona) == Some(here))
    }

    /// Keeps an answer that is not to be served.
    fn retire<'a>(&mut self, record: Record) -> Option<(Entry, std::borrow::Cow<'a, str>)> {
        let why = Retirement::Outdated;
        let entry = Entry::Retired { record, why };
        let json = serde_json::to_string(&entry).expect("BUG: it was read from JSON");
        if self.here.has(&digest(&json)) {
            self.imported.known += 1;
            return None;
        }
        self.imported.outdated += 1;
        self.imported.added += 1;
        Some((entry, json.into()))
    }
}

impl Brought {
    fn follow(&mut self, entry: &Entry, digest: Digest) {
        match entry {
            Entry::Answer(record) => drop(self.answers.insert(record.key, digest)),
            Entry::Transcript { persona, .. } => drop(self.notes.insert(persona.clone(), digest)),
            _ => {}
        }
    }
}

/// What became of an entry, once that is known.
type Told = Pin<Box<dyn Future<Output = Result<(), StoreError>>>>;

/// Entries on their way into the journal, in order.
#[derive(Default)]
struct Way {
    pending: VecDeque<Told>,
}

impl Way {
    /// Takes one more, and waits for the first ones where there are many.
    async fn send(
        &mut self,
        told: impl Future<Output = Result<(), StoreError>> + 'static,
    ) -> Result<(), StoreError> {
        self.pending.push_back(Box::pin(told));
        match self.pending.len() > UNDER_WAY {
            true => self.first().await,
            false => Ok(()),
        }
    }

    async fn first(&mut self) -> Result<(), StoreError> {
        match self.pending.pop_front() {
            Some(first) => first.await,
            None => Ok(()),
        }
    }

    async fn finish(mut self) -> Result<(), StoreError> {
        while !self.pending.is_empty() {
            self.first().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
