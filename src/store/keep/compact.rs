//! Writes the journal anew without the text of answers that nobody wants any more, and lets the
//! trees be built from it: what `cache gc` does. Which answers those are is handed in.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use sled::IVec;

use crate::store::changeover;
use crate::store::checkpoint;
use crate::store::disk::{Disk, DiskFile, sync_folder};
use crate::store::keep::verify::{Problem, kept_words, verify_locked};
use crate::store::local::{Settings, Stats};
use crate::store::notice::Progress;
use crate::store::open::{JOURNAL, STORE};
use crate::store::reader::Reader;
use crate::store::record::{Entry, Record, Retirement};
use crate::store::segment::{self, Found, Position, Segment};
use crate::store::{LocalStore, StoreError, frame, generations};

/// So much is gathered before it is written, in bytes.
const WRITE_BYTES: usize = 1 << 20;

/// What a compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Answers whose text was removed.
    pub retired: u64,
    /// What there was before.
    pub before: Stats,
    /// What there is now.
    pub after: Stats,
}

impl LocalStore {
    /// Removes the text of the answers with these numbers, in the journal and in the trees. All
    /// other entries stay as they are, also those of kinds that are not known here. Killed at any
    /// moment, the store has either all of what it had or all of what it was to have.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if the journal does not have all that it had: the trees may be all that
    /// has the rest, and they are built from the journal then. If files cannot be written, the store
    /// is as it was, or as it was to be.
    pub fn compact(
        self,
        retire: &HashSet<u64>,
        settings: &Settings,
        progress: impl FnMut(Progress),
    ) -> Result<(Self, Compacted), StoreError> {
        let before = self.stats()?;
        let cache = self.cache().to_owned();
        let lock = self.end()?;
        refuse_lost(&cache)?;
        let retired = rewrite(&cache, retire, settings)?;
        let (store, _) = Self::open_locked(lock, &cache, settings, progress)?;
        let after = store.stats()?;
        Ok((
            store,
            Compacted {
                retired,
                before,
                after,
            },
        ))
    }
}

/// Looks at all of the store before anything of it goes. A file that is gone, or that ends between two
/// entries, is no damage to whoever reads the journal alone.
fn refuse_lost(cache: &Path) -> Result<(), StoreError> {
    let (mut first, mut found) = (None, 0);
    let verified = verify_locked(cache, &mut |problem| {
        // Whoever copies the journal sees those, and takes entries of kinds that are not known along.
        if !matches!(problem, Problem::Journal(_)) {
            first.get_or_insert_with(|| problem.to_string());
            found += 1;
        }
    })?;
    let kept = verified.kept.iter().map(|folder| kept_words(folder));
    match first.into_iter().chain(kept).next() {
        Some(problem) => Err(StoreError::Lost {
            problem,
            others: found + verified.kept.len() as u64 - 1,
        }),
        None => Ok(()),
    }
}

/// Writes the journal anew and puts it in force.
fn rewrite(cache: &Path, retire: &HashSet<u64>, settings: &Settings) -> Result<u64, StoreError> {
    let journal = cache.join(JOURNAL);
    let disk = &*settings.disk;
    let segments = segment::list(&journal)?;
    let first = segments.last().map_or(0, |newest| newest.number) + 1;
    let mut copy = Copy {
        out: Anew::begin(disk, &journal, first, settings.segment_bytes)?,
        retire,
        retired: 0,
    };
    let last = match copy.all(segments).and_then(|()| copy.out.finish()) {
        Ok(last) => last,
        Err(error) => {
            // What is left of this is in nobody's way, and the next open removes it.
            let _ = changeover::settle(disk, &journal);
            return Err(error);
        }
    };
    // Trees that were made from the old journal must not outlive it: they would serve what is
    // removed. Without a checkpoint they are built again, whichever journal is then in force.
    distrust(&cache.join(STORE))?;
    changeover::commit(disk, &journal, first, last)?;
    Ok(copy.retired)
}

/// Lets the next open build all trees in a folder again.
///
/// # Errors
/// If it would not.
pub(super) fn distrust(store: &Path) -> Result<(), StoreError> {
    for (_, folder) in generations::list(store)? {
        checkpoint::remove(&folder);
        if checkpoint::path(&folder).exists() {
            let source = io::Error::other("it is still there");
            return Err(StoreError::io("remove", &checkpoint::path(&folder), source));
        }
        sync_folder(&folder).map_err(|source| StoreError::io("sync", &folder, source))?;
    }
    Ok(())
}

/// Entry by entry from the old journal to the new one.
struct Copy<'a> {
    out: Anew<'a>,
    retire: &'a HashSet<u64>,
    retired: u64,
}

impl Copy<'_> {
    fn all(&mut self, segments: Vec<Segment>) -> Result<(), StoreError> {
        let begin = Position {
            segment: 0,
            offset: 0,
        };
        let mut reader = Reader::new(segments, begin, None);
        while let Some(place) = reader.next()? {
            let Found::Frame { frame, bytes } = &place.found else {
                let message = format!("the journal is damaged at byte {}", place.at.offset);
                return Err(StoreError::io("compact", place.path, io::Error::other(message)));
            };
            match self.retire.contains(&frame.seq).then(|| frame.entry()) {
                Some(Ok(Entry::Answer(record))) => {
                    let retired = retired(record, frame.seq).map_err(|message| {
                        StoreError::io("compact", place.path, io::Error::other(message))
                    })?;
                    self.out.append(&retired)?;
                    self.retired += 1;
                }
                _ => self.out.append(bytes)?,
            }
        }
        Ok(())
    }
}

/// The frame that takes the place of an answer's.
fn retired(mut record: Record, seq: u64) -> Result<IVec, String> {
    record.answer.text = String::new();
    let why = Retirement::Collected;
    let mut bytes = frame::encode(&Entry::Retired { record, why })?;
    frame::stamp(&mut bytes, seq);
    Ok(bytes)
}

/// The files of a journal that is not in force yet.
pub(super) struct Anew<'a> {
    disk: &'a dyn Disk,
    journal: &'a Path,
    segment_bytes: u64,
    number: u32,
    file: Box<dyn DiskFile>,
    /// Bytes of this file, those that are gathered too.
    len: u64,
    gathered: Vec<u8>,
}

impl<'a> Anew<'a> {
    /// Begins with file `first`, beside the journal that is in force.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn begin(
        disk: &'a dyn Disk,
        journal: &'a Path,
        number: u32,
        segment_bytes: u64,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            disk,
            journal,
            segment_bytes,
            number,
            file: create(disk, journal, number)?,
            len: segment::HEADER as u64,
            gathered: segment::header().to_vec(),
        })
    }

    /// Appends one frame.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn append(&mut self, frame: &[u8]) -> Result<(), StoreError> {
        let begun = self.len > segment::HEADER as u64;
        if begun && self.len + frame.len() as u64 > self.segment_bytes {
            self.end_file()?;
            self.number += 1;
            self.file = create(self.disk, self.journal, self.number)?;
            self.len = segment::HEADER as u64;
            self.gathered.extend_from_slice(&segment::header());
        }
        self.len += frame.len() as u64;
        self.gathered.extend_from_slice(frame);
        match self.gathered.len() >= WRITE_BYTES {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        let written = self.file.append(&self.gathered);
        self.gathered.clear();
        written.map_err(|source| self.failed("write", source))
    }

    fn end_file(&mut self) -> Result<(), StoreError> {
        self.write()?;
        let synced = self.file.sync();
        synced.map_err(|source| self.failed("sync", source))
    }

    /// Makes everything durable. Returns the number of the last file.
    ///
    /// # Errors
    /// If it cannot be.
    pub(super) fn finish(&mut self) -> Result<u32, StoreError> {
        self.end_file()?;
        let synced = self.disk.sync_folder(self.journal);
        synced.map_err(|source| self.failed("sync", source))?;
        Ok(self.number)
    }

    fn failed(&self, what: &'static str, source: io::Error) -> StoreError {
        StoreError::io(what, &changeover::beside(self.journal, self.number), source)
    }
}

fn create(disk: &dyn Disk, journal: &Path, number: u32) -> Result<Box<dyn DiskFile>, StoreError> {
    let path = changeover::beside(journal, number);
    disk.create(&path)
        .map_err(|source| StoreError::io("create", &path, source))
}

#[cfg(test)]
mod tests;
