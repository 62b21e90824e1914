//! Finds an answer in the journal that the trees have lost to damage: it was paid for, and
//! reading on is cheaper than paying again. It does not know how the damage was found.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sled::IVec;

use crate::call::Key;
use crate::store::StoreError;
use crate::store::reader::Reader;
use crate::store::record::Entry;
use crate::store::segment::{self, Found, Position};

/// With more damaged answers than this in one run, reading the journal for each would take longer
/// than building the trees again.
pub(super) const LIMIT: usize = 16;

/// The answers that were looked for in the journal during this run.
#[derive(Default)]
pub(super) struct Mended {
    /// Held during a search, so that there is one at a time.
    found: Mutex<HashMap<Key, Option<IVec>>>,
}

/// What a search gave.
pub(super) enum Search {
    /// The frame of the newest intact answer.
    Intact(IVec),
    /// The journal has none either.
    Nothing,
    /// Too many searches: the trees are not worth mending.
    TooMany,
}

impl Mended {
    /// The newest answer to `key` that is intact in the journal before `end`.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub(super) fn search(&self, journal: &Path, end: Position, key: &Key) -> Result<Search, StoreError> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if !found.contains_key(key) {
            if found.len() >= LIMIT {
                return Ok(Search::TooMany);
            }
            found.insert(*key, newest(journal, end, key)?);
        }
        Ok(match &found[key] {
            Some(frame) => Search::Intact(frame.clone()),
            None => Search::Nothing,
        })
    }
}

fn newest(journal: &Path, end: Position, key: &Key) -> Result<Option<IVec>, StoreError> {
    let begin = Position {
        segment: 0,
        offset: 0,
    };
    let mut reader = Reader::new(segment::list(journal)?, begin, Some(end));
    let mut newest = None;
    while let Some(place) = reader.next()? {
        if let Found::Frame { frame, bytes } = place.found
            && frame.key() == Some(*key)
            && matches!(frame.entry(), Ok(Entry::Answer(_)))
        {
            newest = Some(bytes.into());
        }
    }
    Ok(newest)
}
