//! The values on sled's trees: one tree for each shelf, long values in parts, counted, and a seal
//! by which a loss can be told. Anything here may panic on a damaged file; `trees` is the fence
//! around it. It does not know what the values say.
//!
//! sled is 0.34.7; what is said of it here was measured on 2026-11-23.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Bound, Deref};
use std::path::{Path, PathBuf};

use sled::{Db, IVec, Tree};

use crate::store::checkpoint::Checkpoint;
use crate::store::counted::Counted;
use crate::store::frame;
use crate::store::keys;
use crate::store::put::{self, Put, Shelf};
use crate::store::sled_file::{is_no_fault_of_sled, open_unlocked, sync_files, words};

/// Longer frames are cut into parts of this size. sled puts a node (up to 17 values) of more than
/// a quarter of a segment into a file of its own under `blobs/`, which it never syncs.
pub(super) const PART_BYTES: usize = 56_000;

/// The parts of long frames, by sequence number and number of the part. A part is never removed
/// or replaced, so whoever reads needs no lock.
const PARTS: &str = "parts-v1";

const META: &str = "meta-v1";
const SEAL: &str = "seal";

/// sled with all its trees. A panic in here leaves it unusable.
pub(super) struct Shelves {
    shelves: [Counted; Shelf::ALL.len()],
    parts: Counted,
    meta: Tree,
    folder: PathBuf,
    db: Db,
}

/// Set as the last thing before each flush: trees that do not hold it have lost their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    /// The trees it belongs to.
    pub(super) store: u64,
    /// Counts up.
    pub(super) number: u64,
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
    /// As the backlog or sled has it.
    Stored(IVec),
    /// Put together from parts.
    Assembled(Vec<u8>),
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Value::Stored(bytes) => bytes,
            Value::Assembled(bytes) => bytes,
        }
    }
}

impl Shelves {
    /// Opens the trees in a folder and checks that they hold what `expected` says; without it, they
    /// are new. Returns also which trees they are.
    ///
    /// # Errors
    /// [`Closed`].
    pub(super) fn open(folder: &Path, expected: Option<&Checkpoint>) -> Result<(Self, Seal), Closed> {
        let db = open_unlocked(folder)?;
        let records = |name: &str| expected.and_then(|checkpoint| checkpoint.records.get(name).copied());
        let open = |shelf: Shelf| match shelf {
            Shelf::Answers | Shelf::Notes | Shelf::Sources => {
                Counted::open_looked_up(&db, shelf.tree(), records(shelf.tree()))
            }
            _ => Counted::open(&db, shelf.tree(), records(shelf.tree())),
        };
        let [answers, rejected, notes, marks, runs, sources, calls, replaced] = Shelf::ALL.map(open);
        let mut shelves = Self {
            shelves: [
                answers?, rejected?, notes?, marks?, runs?, sources?, calls?, replaced?,
            ],
            parts: Counted::open(&db, PARTS, records(PARTS))?,
            meta: db.open_tree(META)?,
            folder: folder.to_owned(),
            db,
        };
        let seal = match expected {
            Some(checkpoint) => shelves.check(checkpoint)?,
            None => Seal {
                store: fastrand::u64(..),
                number: 0,
            },
        };
        Ok((shelves, seal))
    }

    /// Opens sled anew. It forgets what it has read only then: it looks for what to drop in one of the 256
    /// parts of its cache only once that was asked 64 times.
    pub(super) fn anew(self) -> sled::Result<Self> {
        let Self {
            shelves,
            parts,
            meta,
            folder,
            db,
        } = self;
        let (shelves, parts) = (shelves.map(Counted::close), parts.close());
        drop((meta, db));
        let db = open_unlocked(&folder)?;
        let [answers, rejected, notes, marks, runs, sources, calls, replaced] =
            shelves.map(|known| known.open(&db));
        Ok(Self {
            shelves: [
                answers?, rejected?, notes?, marks?, runs?, sources?, calls?, replaced?,
            ],
            parts: parts.open(&db)?,
            meta: db.open_tree(META)?,
            folder,
            db,
        })
    }

    /// The value under a key.
    pub(super) fn get(&self, shelf: Shelf, key: &[u8]) -> sled::Result<Option<Value>> {
        let value = self.shelf(shelf).get(key)?;
        value.map(|value| self.whole(value)).transpose()
    }

    /// All values whose keys begin with `prefix`, in the order of their keys.
    pub(super) fn with_prefix(&self, shelf: Shelf, prefix: &[u8]) -> sled::Result<BTreeMap<Vec<u8>, Value>> {
        let pairs = self.shelf(shelf).tree.scan_prefix(prefix);
        pairs
            .map(|pair| {
                let (key, value) = pair?;
                Ok((key.to_vec(), self.whole(value)?))
            })
            .collect()
    }

    /// Up to `most` values behind the key `after`, in the order of their keys.
    pub(super) fn page(
        &self,
        shelf: Shelf,
        after: Option<&[u8]>,
        most: usize,
    ) -> sled::Result<Vec<(Vec<u8>, Value)>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let pairs = self.shelf(shelf).tree.range::<&[u8], _>((from, Bound::Unbounded));
        pairs
            .take(most)
            .map(|pair| {
                let (key, value) = pair?;
                Ok((key.to_vec(), self.whole(value)?))
            })
            .collect()
    }

    /// Puts a value under its key, in place of an older one.
    pub(super) fn put(&self, put: &Put) -> sled::Result<()> {
        let shelf = self.shelf(put.shelf);
        if put.ends_a_mark() && (shelf.count() == 0 || !shelf.tree.contains_key(&put.key)?) {
            return Ok(());
        }
        // A copy: what sled keeps then lies by itself, and not between what other threads have long
        // given back (of 10,000 personas a cold run takes 28 MB less).
        let mut value = IVec::from(&*put.value());
        if value.len() > PART_BYTES {
            value = self.put_parts(put.seq, &value)?;
        }
        if put.shelf == Shelf::Answers {
            // Nearly always the first one to its request: told in the same walk.
            let Some(before) = shelf.put_first(&put.key, &value)? else {
                return Ok(());
            };
            self.keep_replaced(put, &before)?;
        }
        shelf.put(&put.key, value)
    }

    /// Keeps the answer in whose place another is about to be put: it was paid for, and others were
    /// asked with it. First, so that no crash comes between; what is put once more after one
    /// replaces nothing.
    fn keep_replaced(&self, put: &Put, before: &IVec) -> sled::Result<()> {
        match frame::parse(before) {
            Ok((frame, _)) if frame.seq < put.seq => {
                let key = put::numbered(&put.key, frame.seq);
                self.shelf(Shelf::Replaced).put(&key, before.clone())
            }
            _ => Ok(()),
        }
    }

    /// True if a shelf never held anything.
    pub(super) fn is_empty(&self, shelf: Shelf) -> bool {
        self.shelf(shelf).tree.is_empty()
    }

    /// How many values a shelf holds.
    pub(super) fn count(&self, shelf: Shelf) -> u64 {
        self.shelf(shelf).count()
    }

    /// True for a key that is surely not there, as can be told without asking the trees.
    #[cfg(test)]
    pub(super) fn denies(&self, shelf: Shelf, key: &[u8]) -> bool {
        self.shelf(shelf).denies(key)
    }

    /// How many values each tree holds, by the tree's name.
    pub(super) fn records(&self) -> BTreeMap<String, u64> {
        let entry = |counted: &Counted| (counted.name.to_owned(), counted.count());
        self.counted().map(entry).collect()
    }

    /// The bytes of a file with the filters of those trees that have one.
    pub(super) fn filters(&self) -> Vec<u8> {
        keys::encode(
            self.counted()
                .filter_map(|counted| Some((counted.name, counted.filter()?))),
        )
    }

    /// Sets a seal and makes everything up to it survive a power cut.
    pub(super) fn sync(&self, seal: Seal) -> sled::Result<()> {
        // The last thing written: what sled loses, it loses from the end.
        self.meta.insert(SEAL, seal.bytes())?;
        self.db.flush()?;
        sync_files(&self.folder)?;
        Ok(())
    }

    /// Checks that the trees hold what the checkpoint says. Counting reads everything (6 s for a
    /// million answers), so after a clean end the seal has to do, and the filters are those of then.
    fn check(&mut self, checkpoint: &Checkpoint) -> Result<Seal, Closed> {
        let seal = match self.meta.get(SEAL)?.as_deref().and_then(Seal::from_bytes) {
            Some(seal) if seal.store != checkpoint.store => {
                return Err(Closed::Broken("it belongs to another checkpoint".to_owned()));
            }
            Some(seal) if seal.number >= checkpoint.seal => seal,
            _ => return Err(Closed::Broken("what was written last is not there".to_owned())),
        };
        if !checkpoint.clean {
            self.counted_mut().try_for_each(Counted::recount)?;
        } else if seal.number == checkpoint.seal {
            let mut filters = keys::read(&self.folder, checkpoint);
            for counted in self.counted_mut() {
                filters
                    .remove(counted.name)
                    .into_iter()
                    .for_each(|filter| counted.trust(filter));
            }
        }
        Ok(seal)
    }

    fn shelf(&self, shelf: Shelf) -> &Counted {
        &self.shelves[shelf as usize]
    }

    fn counted(&self) -> impl Iterator<Item = &Counted> {
        self.shelves.iter().chain([&self.parts])
    }

    fn counted_mut(&mut self) -> impl Iterator<Item = &mut Counted> {
        self.shelves.iter_mut().chain([&mut self.parts])
    }

    /// Puts the parts of a long frame, and returns the short one that stands for it.
    fn put_parts(&self, seq: u64, bytes: &[u8]) -> sled::Result<IVec> {
        let mut parts = 0;
        for part in bytes.chunks(PART_BYTES) {
            self.parts.put(&part_key(seq, parts), part)?;
            parts += 1;
        }
        let (whole, _) = frame::parse(bytes).expect("BUG: put without being checked");
        Ok(frame::encode_parts(&whole, &parts.to_le_bytes()).into())
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

impl From<sled::Error> for Closed {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) if is_no_fault_of_sled(error.kind()) => Closed::Disk(error),
            other => Closed::Broken(words(&other)),
        }
    }
}

impl Seal {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = [self.store.to_le_bytes(), self.number.to_le_bytes()].concat();
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (store, rest) = bytes.split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        let seal = Self {
            store: u64::from_le_bytes(*store),
            number: u64::from_le_bytes(*number),
        };
        (seal.bytes() == bytes).then_some(seal)
    }
}

fn part_key(seq: u64, part: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&seq.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

#[cfg(test)]
mod tests;
