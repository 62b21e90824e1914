//! The project as a run sees it, with an eye on the transcripts that the run changes. It keeps the
//! first of them, to show how they differ.

use std::sync::{Mutex, PoisonError};

use crate::events::Failure;
use crate::names::PersonaId;
use crate::run::{Folder, Project, Replaced, Requests};

/// Transcripts of which both versions are kept; the others are counted.
const KEPT: usize = 20;

/// A transcript that a run replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Whose.
    pub persona: PersonaId,
    /// Where it is, as a person types it.
    pub path: String,
    /// Its text before.
    pub old: String,
    /// Its text now.
    pub new: String,
}

/// What a run changed.
#[derive(Debug, Default)]
pub struct AllChanged {
    /// The first that were written.
    pub kept: Vec<Changed>,
    /// How many others there are.
    pub others: u64,
}

/// A folder whose changes are noted.
pub struct Noted {
    folder: Folder,
    changed: Mutex<AllChanged>,
}

impl Noted {
    /// Nothing has changed yet.
    pub fn new(folder: Folder) -> Self {
        Self {
            folder,
            changed: Mutex::default(),
        }
    }

    /// Takes out what has changed so far, by the names of the personas.
    pub fn take(&self) -> AllChanged {
        let mut all = std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner));
        all.kept.sort_by(|a, b| a.persona.cmp(&b.persona));
        all
    }

    fn note(&self, changed: Changed) {
        let mut all = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        match all.kept.len() < KEPT {
            true => all.kept.push(changed),
            false => all.others += 1,
        }
    }
}

impl Project for Noted {
    fn open(&self, persona: &PersonaId) -> Result<Box<dyn Requests>, Failure> {
        self.folder.open(persona)
    }

    fn transcript(&self, persona: &PersonaId) -> Result<Option<Vec<u8>>, Failure> {
        self.folder.transcript(persona)
    }

    fn answer_replaced(&self, replaced: Replaced) -> Result<(), Failure> {
        self.folder.answer_replaced(replaced)
    }

    fn write(&self, persona: &PersonaId, text: &str, beside: bool) -> Result<String, Failure> {
        // One that cannot be read is not written over either: `write` says why.
        let old = self.folder.transcript(persona).ok().flatten();
        let path = self.folder.write(persona, text, beside)?;
        if let Some(old) = old {
            self.note(Changed {
                persona: persona.clone(),
                path: path.clone(),
                old: String::from_utf8_lossy(&old).into_owned(),
                new: text.to_owned(),
            });
        }
        Ok(path)
    }
}
