//! The trees behind a fence: no panic comes out, nothing is asked after a failure, and the
//! checkpoint that vouches for them goes when they are not to be trusted. Knows nothing of the
//! journal.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use crate::store::StoreError;
use crate::store::checkpoint::{self, Checkpoint};
use crate::store::guard;
use crate::store::keys;
use crate::store::put::{Put, Shelf};
use crate::store::shelves::{Closed, Seal, Shelves, Value};
use crate::store::sled_file;

/// After so many values sled is opened once more when it is closed: only then does it note where in its
/// file everything lies, and without that the next open would read all that was written, 6.5 s for a
/// million answers (2026-11-23). Whoever has stored that many waits for it rather than who comes next.
const MANY_PUTS: u64 = 200_000;

/// What it may take to open sled once more.
const REOPEN_LIMIT: Duration = Duration::from_secs(120);

/// After so many bytes that walks have read sled is opened anew, where nothing was put: they are not needed
/// again, and sled keeps all of it ([`Shelves::anew`]).
const WALKED_BYTES: u64 = 8 << 20;

/// Of a large store it is this share of its file: to open it takes as long as it is large (20 ms for 8,000
/// personas, 50 ms for 32,000).
const WALKED_SHARE: u64 = 32;

/// sled with everything in it.
pub(super) struct Trees {
    folder: PathBuf,
    /// `None` while it is being dropped, and after it could not be opened anew.
    shelves: RwLock<Option<Shelves>>,
    store: u64,
    /// The number of the newest seal.
    seal: AtomicU64,
    /// The first failure: nothing is asked of sled after it.
    failed: OnceLock<String>,
    /// What was put since it was opened.
    puts: AtomicU64,
    /// How many bytes walks have read since it was opened.
    walked: AtomicU64,
    /// After how many sled is opened anew.
    most_walked: u64,
    /// Once true, no checkpoint is written any more.
    distrusted: AtomicBool,
    /// Held while the checkpoint's file changes, so that none appears after it was removed.
    marking: Mutex<()>,
}

impl Trees {
    /// Opens the trees in a folder and checks that they hold what `expected` says; `None` for a
    /// folder that has none yet.
    ///
    /// # Errors
    /// [`Closed`].
    pub(super) fn open(folder: &Path, limit: Duration, expected: Option<Checkpoint>) -> Result<Self, Closed> {
        fs::create_dir_all(folder).map_err(Closed::Disk)?;
        let place = folder.to_owned();
        guard::within(limit, move || Self::open_here(place, expected.as_ref())).map_err(Closed::Broken)?
    }

    fn open_here(folder: PathBuf, expected: Option<&Checkpoint>) -> Result<Self, Closed> {
        let (shelves, seal) = Shelves::open(&folder, expected)?;
        let bytes = fs::metadata(folder.join("db")).map_or(0, |file| file.len());
        Ok(Self {
            most_walked: WALKED_BYTES.max(bytes / WALKED_SHARE),
            folder,
            shelves: Some(shelves).into(),
            store: seal.store,
            seal: seal.number.into(),
            puts: 0.into(),
            walked: 0.into(),
            failed: OnceLock::new(),
            distrusted: false.into(),
            marking: Mutex::new(()),
        })
    }

    /// The value under a key.
    ///
    /// # Errors
    /// [`StoreError::Tree`].
    pub(super) fn get(&self, shelf: Shelf, key: &[u8]) -> Result<Option<Value>, StoreError> {
        self.ask(|shelves| shelves.get(shelf, key))
    }

    /// All values whose keys begin with `prefix`, in the order of their keys.
    ///
    /// # Errors
    /// [`StoreError::Tree`].
    pub(super) fn with_prefix(
        &self,
        shelf: Shelf,
        prefix: &[u8],
    ) -> Result<BTreeMap<Vec<u8>, Value>, StoreError> {
        let found = self.ask(|shelves| shelves.with_prefix(shelf, prefix))?;
        // With them sled has read what lies on the same page: up to 17 values, half as many as a rule.
        let sizes = || found.values().map(|value| value.len() as u64);
        let read = sizes().sum::<u64>() + 8 * sizes().max().unwrap_or(0);
        let before = self.walked.fetch_add(read, Ordering::Relaxed);
        if before + read >= self.most_walked && self.puts.load(Ordering::Relaxed) == 0 {
            self.forget_walked()?;
        }
        Ok(found)
    }

    fn forget_walked(&self) -> Result<(), StoreError> {
        let mut place = self.shelves.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have done it meanwhile.
        if self.walked.swap(0, Ordering::Relaxed) < self.most_walked {
            return Ok(());
        }
        let Some(shelves) = place.take() else {
            return Ok(());
        };
        let came = guard::within(REOPEN_LIMIT, move || shelves.anew());
        *place = Some(self.settled(came)?);
        Ok(())
    }

    /// Up to `most` values behind the key `after`, in the order of their keys: a walk through a
    /// shelf that does not hold all of it.
    ///
    /// # Errors
    /// [`StoreError::Tree`].
    pub(super) fn page(
        &self,
        shelf: Shelf,
        after: Option<&[u8]>,
        most: usize,
    ) -> Result<Vec<(Vec<u8>, Value)>, StoreError> {
        self.ask(|shelves| shelves.page(shelf, after, most))
    }

    /// Puts a value under its key, in place of an older one.
    ///
    /// # Errors
    /// [`StoreError::Tree`].
    pub(super) fn put(&self, put: &Put) -> Result<(), StoreError> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.ask(|shelves| shelves.put(put))
    }

    /// True if a mark was ever set.
    ///
    /// # Errors
    /// [`StoreError::Tree`].
    pub(super) fn have_marks(&self) -> Result<bool, StoreError> {
        self.ask(|shelves| Ok(!shelves.is_empty(Shelf::Marks)))
    }

    /// How many values there are on a shelf.
    pub(super) fn count(&self, shelf: Shelf) -> u64 {
        let place = self.shelves.read().unwrap_or_else(PoisonError::into_inner);
        place.as_ref().map_or(0, |shelves| shelves.count(shelf))
    }

    /// Makes everything that was put so far survive a power cut, and notes in `checkpoint` how
    /// that can be told: the seal and the counts.
    ///
    /// # Errors
    /// [`StoreError::Tree`].
    pub(super) fn sync(&self, checkpoint: &mut Checkpoint) -> Result<(), StoreError> {
        let seal = Seal {
            store: self.store,
            number: self.seal.load(Ordering::Relaxed) + 1,
        };
        let records = self.ask(|shelves| {
            let records = shelves.records();
            shelves.sync(seal)?;
            Ok(records)
        })?;
        self.seal.store(seal.number, Ordering::Relaxed);
        checkpoint.store = seal.store;
        checkpoint.seal = seal.number;
        checkpoint.records = records;
        Ok(())
    }

    /// Writes the checkpoint, unless the trees are distrusted by now.
    ///
    /// # Errors
    /// If the file cannot be written; the earlier one holds then.
    pub(super) fn mark(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let _one = self.marking.lock().unwrap_or_else(PoisonError::into_inner);
        if self.are_distrusted() {
            return Ok(());
        }
        checkpoint.write(&self.folder)
    }

    /// Lets the next open build new trees.
    pub(super) fn distrust(&self) {
        let _one = self.marking.lock().unwrap_or_else(PoisonError::into_inner);
        self.distrusted.store(true, Ordering::Relaxed);
        checkpoint::remove(&self.folder);
    }

    /// True if the next open will build new trees.
    pub(super) fn are_distrusted(&self) -> bool {
        self.distrusted.load(Ordering::Relaxed)
    }

    /// Stops using sled for good, and lets the next open build new trees.
    pub(super) fn give_up(&self, message: String) -> StoreError {
        let _ = self.failed.set(message);
        self.distrust();
        self.failure().expect("BUG: set two lines above")
    }

    /// The failure after which nothing works any more, if there was one.
    pub(super) fn failure(&self) -> Option<StoreError> {
        self.failed.get().map(|message| StoreError::Tree {
            path: self.folder.clone(),
            message: message.clone(),
        })
    }

    /// True for a key that is surely not there, as can be told without asking sled.
    #[cfg(test)]
    pub(super) fn denies(&self, shelf: Shelf, key: &[u8]) -> bool {
        let place = self.shelves.read().unwrap();
        place.as_ref().unwrap().denies(shelf, key)
    }

    /// Closes sled and writes `checkpoint`, which is the one of the newest seal and behind which nothing was
    /// put, as the one after a clean end.
    ///
    /// # Errors
    /// If sled fails or the files cannot be synced.
    pub(super) fn close(mut self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let shelves = self.take();
        let filters = shelves.as_ref().map(Shelves::filters).unwrap_or_default();
        guard::catch(|| drop(shelves)).map_err(|message| self.give_up(message))?;
        if self.puts.load(Ordering::Relaxed) >= MANY_PUTS {
            // What goes wrong with it goes wrong at the next open too, which sees to it.
            let folder = self.folder.clone();
            _ = guard::within(REOPEN_LIMIT, move || Shelves::open(&folder, None).map(drop));
        }
        sled_file::sync_files(&self.folder).map_err(|source| StoreError::io("sync", &self.folder, source))?;
        // Before what vouches for it.
        let keys = keys::write(&self.folder, &filters);
        self.mark(&Checkpoint {
            clean: true,
            keys,
            ..checkpoint
        })
    }

    /// The only way to sled: not after a failure, and no panic comes out.
    fn ask<T>(&self, work: impl FnOnce(&Shelves) -> sled::Result<T>) -> Result<T, StoreError> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let place = self.shelves.read().unwrap_or_else(PoisonError::into_inner);
        match &*place {
            Some(shelves) => self.settled(guard::catch(|| work(shelves))),
            None => Err(self.failure().expect("BUG: used while closed or dropped")),
        }
    }

    /// What came of a question.
    fn settled<T>(&self, came: Result<sled::Result<T>, String>) -> Result<T, StoreError> {
        match came {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(sled::Error::Io(error)))
                if sled_file::is_no_fault_of_sled(error.kind()) || sled_file::is_lock(&error) =>
            {
                // What the checkpoint vouches for is still right.
                let _ = self.failed.set(error.to_string());
                Err(self.failure().expect("BUG: set one line above"))
            }
            Ok(Err(error)) => Err(self.give_up(sled_file::words(&error))),
            Err(panic) => Err(self.give_up(panic)),
        }
    }

    fn take(&mut self) -> Option<Shelves> {
        self.shelves
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl Drop for Trees {
    fn drop(&mut self) {
        let shelves = self.take();
        if self.failed.get().is_some() {
            // Its destructor would flush what is half done, and may wait for a thread that died.
            std::mem::forget(shelves);
        } else {
            // The checkpoint is not marked clean: the next open checks.
            let _ = guard::catch(|| drop(shelves));
        }
    }
}

#[cfg(test)]
mod tests;
