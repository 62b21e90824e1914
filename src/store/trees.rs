//! sled behind a fence: values by shelf and key, checked counts, and its one durable flush. Knows
//! sled's faults (it panics on damage, its flush does not sync, it writes blobs without syncing
//! them) and nothing of the journal.
//!
//! sled is 0.34.7; what is said of it here was measured on 2026-11-23.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use sled::{Db, IVec, Tree};

use crate::store::StoreError;
use crate::store::checkpoint::{self, Checkpoint};
use crate::store::frame;
use crate::store::guard;
use crate::store::put::{Put, Shelf};

/// The unit in which sled writes. A larger one makes every open of a small store slower (64
/// answers: 4 ms at 4 MiB, 50 ms at 16 MiB), a smaller one makes it write more blobs. It cannot
/// be changed once a store exists.
const SEGMENT_BYTES: usize = 4 << 20;

/// Longer frames are cut into parts of this size. sled puts a node (up to 17 values) of more than
/// a quarter of a segment into a file of its own under `blobs/`, which it never syncs.
const PART_BYTES: usize = 56_000;

/// What sled may use for its cache, in bytes. It takes this as a hint.
const CACHE_BYTES: u64 = 64 << 20;

/// The parts of long frames, by sequence number and number of the part. A part is never removed
/// or replaced, so whoever reads needs no lock.
const PARTS: &str = "parts-v1";

const META: &str = "meta-v1";
const SEAL: &str = "seal";

/// sled with everything in it.
pub(super) struct Trees {
    folder: PathBuf,
    /// `None` only while it is being dropped.
    sled: Option<Sled>,
    store: u64,
    seal: AtomicU64,
    /// The first failure: nothing is asked of sled after it.
    failed: OnceLock<String>,
    /// Once true, no checkpoint is written any more.
    distrusted: AtomicBool,
    /// Held while the checkpoint's file changes, so that none appears after it was removed.
    marking: Mutex<()>,
}

struct Sled {
    shelves: [Counted; Shelf::ALL.len()],
    parts: Counted,
    meta: Tree,
    db: Db,
}

/// A tree and how many values it holds.
struct Counted {
    name: &'static str,
    tree: Tree,
    records: AtomicU64,
}

/// Why the trees could not be opened.
#[derive(Debug)]
pub(super) enum Closed {
    /// They are not to be trusted: build new ones.
    Broken(String),
    /// The disk is full, or the like: the trees may be as good as before.
    Disk(io::Error),
}

/// A value of the trees, or of the backlog before them.
pub(super) enum Value {
    /// Not in the trees yet.
    Pending(Arc<[u8]>),
    /// As sled has it.
    Stored(IVec),
    /// Put together from parts.
    Assembled(Vec<u8>),
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Value::Pending(bytes) => bytes,
            Value::Stored(bytes) => bytes,
            Value::Assembled(bytes) => bytes,
        }
    }
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
        guard::within(limit, move || open_checked(place, expected)).map_err(Closed::Broken)?
    }

    /// The value under a key.
    ///
    /// # Errors
    /// [`StoreError::Tree`].
    pub(super) fn get(&self, shelf: Shelf, key: &[u8]) -> Result<Option<Value>, StoreError> {
        self.ask(|sled| {
            let Some(value) = sled.shelf(shelf).tree.get(key)? else {
                return Ok(None);
            };
            sled.whole(value).map(Some)
        })
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
        self.ask(|sled| {
            let pairs = sled.shelf(shelf).tree.scan_prefix(prefix);
            pairs
                .map(|pair| {
                    let (key, value) = pair?;
                    Ok((key.to_vec(), sled.whole(value)?))
                })
                .collect()
        })
    }

    /// Puts a value under its key, in place of an older one.
    ///
    /// # Errors
    /// [`StoreError::Tree`].
    pub(super) fn put(&self, put: &Put) -> Result<(), StoreError> {
        self.ask(|sled| sled.put(put))
    }

    /// True if a mark was ever set.
    ///
    /// # Errors
    /// [`StoreError::Tree`].
    pub(super) fn have_marks(&self) -> Result<bool, StoreError> {
        self.ask(|sled| Ok(!sled.shelf(Shelf::Marks).tree.is_empty()))
    }

    /// How many values there are on a shelf.
    pub(super) fn count(&self, shelf: Shelf) -> u64 {
        let sled = self.sled.as_ref().expect("BUG: used while dropped");
        sled.shelf(shelf).records.load(Ordering::Relaxed)
    }

    /// Makes everything that was put so far survive a power cut, and notes in `checkpoint` how
    /// that can be told: the seal and the counts.
    ///
    /// # Errors
    /// [`StoreError::Tree`].
    pub(super) fn sync(&self, checkpoint: &mut Checkpoint) -> Result<(), StoreError> {
        let seal = self.seal.load(Ordering::Relaxed) + 1;
        let records = self.ask(|sled| {
            let records = sled.counted().map(|counted| counted.entry()).collect();
            // The last thing written: what sled loses, it loses from the end.
            sled.meta.insert(SEAL, sealed(self.store, seal))?;
            sled.db.flush()?;
            sync_files(&self.folder)?;
            Ok(records)
        })?;
        self.seal.store(seal, Ordering::Relaxed);
        checkpoint.store = self.store;
        checkpoint.seal = seal;
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

    /// Closes sled and writes `checkpoint` as the one after a clean end.
    ///
    /// # Errors
    /// If sled fails or the files cannot be synced.
    pub(super) fn close(mut self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let sled = self.sled.take();
        guard::catch(|| drop(sled)).map_err(|message| self.give_up(message))?;
        sync_files(&self.folder).map_err(|source| StoreError::io("sync", &self.folder, source))?;
        self.mark(&Checkpoint {
            clean: true,
            ..checkpoint
        })
    }

    /// The only way to sled: not after a failure, and no panic comes out.
    fn ask<T>(&self, work: impl FnOnce(&Sled) -> sled::Result<T>) -> Result<T, StoreError> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let sled = self.sled.as_ref().expect("BUG: used while dropped");
        match guard::catch(|| work(sled)) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(sled::Error::Io(error))) if is_no_fault_of_sled(error.kind()) => {
                // What the checkpoint vouches for is still right.
                let _ = self.failed.set(error.to_string());
                Err(self.failure().expect("BUG: set one line above"))
            }
            Ok(Err(error)) => Err(self.give_up(words(&error))),
            Err(panic) => Err(self.give_up(panic)),
        }
    }
}

impl Drop for Trees {
    fn drop(&mut self) {
        let sled = self.sled.take();
        if self.failed.get().is_some() {
            // Its destructor would flush what is half done, and may wait for a thread that died.
            std::mem::forget(sled);
        } else {
            // The checkpoint is not marked clean: the next open checks.
            let _ = guard::catch(|| drop(sled));
        }
    }
}

impl Sled {
    fn shelf(&self, shelf: Shelf) -> &Counted {
        &self.shelves[shelf as usize]
    }

    fn counted(&self) -> impl Iterator<Item = &Counted> {
        self.shelves.iter().chain([&self.parts])
    }

    fn put(&self, put: &Put) -> sled::Result<()> {
        let shelf = self.shelf(put.shelf);
        if put.ends_a_mark() && !shelf.tree.contains_key(&put.key)? {
            return Ok(());
        }
        if put.frame.len() <= PART_BYTES {
            return shelf.put(&put.key, &put.frame);
        }
        let list = self.put_parts(put)?;
        shelf.put(&put.key, &list)
    }

    /// Puts the parts of a long frame, and returns the short one that stands for it.
    fn put_parts(&self, put: &Put) -> sled::Result<Vec<u8>> {
        let mut parts = 0;
        for part in put.frame.chunks(PART_BYTES) {
            self.parts.put(&part_key(put.seq, parts), part)?;
            parts += 1;
        }
        let (whole, _) = frame::parse(&put.frame).expect("BUG: put without being checked");
        Ok(frame::encode_parts(&whole, &parts.to_le_bytes()))
    }

    /// Puts a long frame together again. Where a part is missing or anything is damaged the result
    /// is no right frame, and whoever reads it will see that.
    fn whole(&self, value: IVec) -> sled::Result<Value> {
        let Ok((frame, _)) = frame::parse(&value) else {
            return Ok(Value::Stored(value));
        };
        let Some(parts) = frame.parts().and_then(|list| list.try_into().ok()) else {
            return Ok(Value::Stored(value));
        };
        let mut whole = Vec::new();
        for part in 0..u32::from_le_bytes(parts) {
            let Some(bytes) = self.parts.tree.get(part_key(frame.seq, part))? else {
                break;
            };
            whole.extend_from_slice(&bytes);
        }
        Ok(Value::Assembled(whole))
    }
}

impl Counted {
    fn open(db: &Db, name: &'static str, expected: Option<&Checkpoint>) -> sled::Result<Self> {
        let records = expected.and_then(|checkpoint| checkpoint.records.get(name));
        Ok(Self {
            name,
            tree: db.open_tree(name)?,
            records: records.copied().unwrap_or(0).into(),
        })
    }

    fn put(&self, key: &[u8], value: &[u8]) -> sled::Result<()> {
        if self.tree.insert(key, value)?.is_none() {
            self.records.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn entry(&self) -> (String, u64) {
        (self.name.to_owned(), self.records.load(Ordering::Relaxed))
    }

    /// Counts for real: reads every node.
    ///
    /// # Errors
    /// If there are fewer than there were.
    fn recount(&self) -> Result<(), Closed> {
        let mut found = 0;
        for pair in self.tree.iter() {
            pair?;
            found += 1;
        }
        match self.records.swap(found, Ordering::Relaxed) {
            expected if found < expected => Err(Closed::Broken(format!(
                "`{}` has {found} of {expected} records",
                self.name
            ))),
            _ => Ok(()),
        }
    }
}

impl From<sled::Error> for Closed {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) if is_no_fault_of_sled(error.kind()) => Closed::Disk(error),
            other => Closed::Broken(words(&other)),
        }
    }
}

fn open_checked(folder: PathBuf, expected: Option<Checkpoint>) -> Result<Trees, Closed> {
    let expected = expected.as_ref();
    let db = sled::Config::default()
        .path(&folder)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None)
        .open()?;
    let open = |shelf: Shelf| Counted::open(&db, shelf.tree(), expected);
    let [answers, rejected, notes, marks, runs] = Shelf::ALL.map(open);
    let sled = Sled {
        shelves: [answers?, rejected?, notes?, marks?, runs?],
        parts: Counted::open(&db, PARTS, expected)?,
        meta: db.open_tree(META)?,
        db,
    };
    let (store, seal) = match expected {
        Some(checkpoint) => check(&sled, checkpoint)?,
        None => (fastrand::u64(..), 0),
    };
    Ok(Trees {
        folder,
        sled: Some(sled),
        store,
        seal: seal.into(),
        failed: OnceLock::new(),
        distrusted: false.into(),
        marking: Mutex::new(()),
    })
}

/// Checks that the trees hold what the checkpoint says. Counting reads everything (6 s for a
/// million answers), so after a clean end the seal has to do.
fn check(sled: &Sled, checkpoint: &Checkpoint) -> Result<(u64, u64), Closed> {
    let seal = match sled.meta.get(SEAL)?.as_deref().and_then(unsealed) {
        Some((store, seal)) if store == checkpoint.store && seal >= checkpoint.seal => seal,
        Some((store, _)) if store != checkpoint.store => {
            return Err(Closed::Broken("it belongs to another checkpoint".to_owned()));
        }
        _ => return Err(Closed::Broken("what was written last is not there".to_owned())),
    };
    if !checkpoint.clean {
        sled.counted().try_for_each(Counted::recount)?;
    }
    Ok((checkpoint.store, seal))
}

fn sealed(store: u64, seal: u64) -> Vec<u8> {
    let mut bytes = [store.to_le_bytes(), seal.to_le_bytes()].concat();
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn unsealed(bytes: &[u8]) -> Option<(u64, u64)> {
    let (store, rest) = bytes.split_first_chunk()?;
    let (seal, _) = rest.split_first_chunk()?;
    let (store, seal) = (u64::from_le_bytes(*store), u64::from_le_bytes(*seal));
    (sealed(store, seal) == bytes).then_some((store, seal))
}

fn part_key(seq: u64, part: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&seq.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

/// Syncs sled's file through a handle of our own: its `flush` asks Linux to begin writing and does
/// not wait for the disk. `blobs/` should be empty; were it not, sled would need those too.
fn sync_files(folder: &Path) -> io::Result<()> {
    let sync = |path: &Path| OpenOptions::new().write(true).open(path)?.sync_data();
    sync(&folder.join("db"))?;
    for blob in fs::read_dir(folder.join("blobs"))? {
        sync(&blob?.path())?;
    }
    Ok(())
}

/// What sled says, without its debugging aids.
fn words(error: &sled::Error) -> String {
    error.to_string().replace(" backtrace ()", "")
}

/// True for errors after which what lies on the disk is as good as before.
fn is_no_fault_of_sled(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::*;
    matches!(
        kind,
        StorageFull | QuotaExceeded | FileTooLarge | PermissionDenied | ReadOnlyFilesystem
    )
}

#[cfg(test)]
mod tests;
