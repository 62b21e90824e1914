//! Makes a damaged store whole again: what the journal has lost and any look-up trees still have is
//! put back into it, what is damaged is set aside, and the trees are built anew. It decides nothing
//! about what is worth keeping: everything that can be read is.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::call::Key;
use crate::store::disk::sync_folder;
use crate::store::frame::{self, Frame};
use crate::store::keep::compact::{Anew, distrust};
use crate::store::keep::verify::{self, Problem, Stamp, Verified, verify_locked};
use crate::store::notice::Progress;
use crate::store::open::{self, JOURNAL, STORE};
use crate::store::reader::{Damage, Reader};
use crate::store::record::Entry;
use crate::store::salvage::{self, Frames};
use crate::store::segment::{self, Found, Position, Segment};
use crate::store::{LocalStore, Receipts, Settings, StoreError, changeover, generations};

/// The folder, in the cache folder, where damaged files are put.
const ASIDE: &str = "damaged";

/// What a repair did.
#[derive(Clone, Debug, Default)]
pub struct Repaired {
    /// What was found before it.
    pub before: Verified,
    /// What is found now; the same where there was nothing to repair.
    pub after: Verified,
    /// Entries that only the look-up trees had, and the journal has again.
    pub saved: u64,
    /// Answers among them: paid once, and not to be paid again.
    pub saved_answers: u64,
    /// Requests that are named in the damage and have no answer anywhere. What was lost of them may
    /// also have been an attempt or a rejected answer.
    pub lost_answers: Vec<Key>,
    /// Damaged places of the journal that do not say what stood there, and of which not everything is
    /// known to be saved.
    pub nameless: u64,
    /// Where the damaged files are kept.
    pub aside: Option<PathBuf>,
}

/// Repairs the store in a cache folder, which exists. `found` is told each problem first, as by
/// [`verify`](crate::store::verify). Killed at any moment, it can be begun again.
///
/// # Errors
/// As for [`verify`](crate::store::verify), or if files cannot be written: then the store is as it
/// was.
pub fn repair(
    cache: &Path,
    settings: &Settings,
    found: &mut dyn FnMut(Problem),
    progress: impl FnMut(Progress),
) -> Result<Repaired, StoreError> {
    let lock = open::lock(cache)?;
    // What is lost may be asked for anew. Nobody else writes receipts while the lock is held.
    Receipts::remove(cache).map_err(|source| StoreError::io("remove the receipts of", cache, source))?;
    let mut list = Vec::new();
    let mut broken = BTreeSet::new();
    let before = verify_locked(cache, &mut |problem| {
        list.push(problem.to_string());
        if let Problem::Trees { path, .. } = &problem {
            broken.insert(path.clone());
        }
        found(problem);
    })?;
    let mut repaired = Repaired {
        before: before.clone(),
        after: before,
        ..Repaired::default()
    };
    if list.is_empty() && repaired.before.kept.is_empty() {
        return Ok(repaired);
    }
    let journal = Book::read(&cache.join(JOURNAL), repaired.before.unfinished.as_ref())?;
    let salvaged = Salvaged::take(cache, settings, &journal, broken)?;
    let mut aside = Aside::new(cache)?;
    repaired.saved = salvaged.frames.len() as u64;
    let saved = salvaged.frames.values().filter_map(|frame| answered(frame));
    let saved: HashSet<Key> = saved.collect();
    repaired.saved_answers = saved.len() as u64;
    let known = |key: &&Key| journal.answered.contains(*key) || saved.contains(*key);
    repaired.lost_answers = journal.named.iter().filter(|key| !known(key)).copied().collect();
    repaired.nameless = journal.nameless_but(&salvaged.frames);
    for path in &journal.damaged {
        aside.keep_copy(path)?;
    }
    if !journal.is_whole() || !salvaged.frames.is_empty() {
        rewrite(cache, settings, &salvaged.frames, &journal)?;
    }
    distrust(&cache.join(STORE))?;
    for folder in &salvaged.damaged {
        aside.take(folder)?;
    }
    aside.note(&list)?;
    repaired.aside = aside.made.then_some(aside.folder);
    let (store, _) = LocalStore::open_locked(lock, cache, settings, progress)?;
    let lock = store.end()?;
    repaired.after = verify_locked(cache, &mut |_| {})?;
    drop(lock);
    Ok(repaired)
}

/// The request that a frame is an answer to, one that may be served.
fn answered(bytes: &[u8]) -> Option<Key> {
    answer_of(frame::parse_whole(bytes).ok()?.entry().ok()?)
}

fn answer_of(entry: Entry) -> Option<Key> {
    match entry {
        Entry::Answer(record) => Some(record.key),
        _ => None,
    }
}

/// What tells an entry of the journal from others with its number.
enum Known {
    Stamp(Stamp),
    /// Its text was removed, and trees of before may still have it: the request that it answered.
    Retired(Option<Key>),
}

/// What the journal has, and what it has lost as far as that can be told.
#[derive(Default)]
struct Book {
    /// Each intact frame by its number.
    frames: HashMap<u64, Known>,
    answered: HashSet<Key>,
    /// Requests that stand in the headers of damaged frames.
    named: BTreeSet<Key>,
    /// Damage without a name: the number of the last entry before it, and of the first one behind.
    nameless: Vec<(u64, Option<u64>)>,
    /// Files with damage in them.
    damaged: BTreeSet<PathBuf>,
    gaps: bool,
}

impl Book {
    /// Reads it all, but for a last write that was not finished.
    fn read(journal: &Path, unfinished: Option<&Damage>) -> Result<Self, StoreError> {
        let segments = segment::list(journal)?;
        let expected = changeover::first(journal)..;
        let mut book = Self {
            gaps: segments
                .iter()
                .zip(expected)
                .any(|(file, number)| file.number != number),
            ..Self::default()
        };
        let begin = Position {
            segment: 0,
            offset: 0,
        };
        let mut reader = Reader::new(segments, begin, None);
        let mut before = 0;
        while let Some(place) = reader.next()? {
            if unfinished.is_some_and(|last| last.path == place.path && last.offset <= place.at.offset) {
                break;
            }
            match &place.found {
                Found::Frame { frame, bytes } => {
                    for (_, behind) in book.nameless.iter_mut().rev() {
                        if behind.is_some() {
                            break;
                        }
                        *behind = Some(frame.seq);
                    }
                    before = frame.seq;
                    let known = match frame.entry() {
                        Ok(Entry::Retired { .. }) => Known::Retired(frame.key()),
                        entry => {
                            book.answered.extend(entry.ok().and_then(answer_of));
                            Known::Stamp(verify::stamp(frame.seq, bytes))
                        }
                    };
                    book.frames.insert(frame.seq, known);
                }
                Found::Damage { key, .. } => {
                    match key {
                        Some(key) => drop(book.named.insert(*key)),
                        // The header of a file says nothing of what is in it.
                        None if place.at.offset > 0 => book.nameless.push((before, None)),
                        None => {}
                    }
                    book.damaged.insert(place.path.to_owned());
                }
                Found::Newer { .. } => {}
            }
        }
        Ok(book)
    }

    /// How many places without a name there are, but for those of which every number is among what
    /// was saved.
    fn nameless_but(&self, saved: &Frames) -> u64 {
        let numbers: BTreeSet<u64> = saved.keys().map(|(seq, _)| *seq).collect();
        let is_saved = |(before, behind): &&(u64, Option<u64>)| {
            behind.is_some_and(|behind| (before + 1..behind).all(|seq| numbers.contains(&seq)))
        };
        (self.nameless.len() - self.nameless.iter().filter(is_saved).count()) as u64
    }

    fn is_whole(&self) -> bool {
        self.damaged.is_empty() && !self.gaps
    }

    /// True for an entry of the trees that stands here under the same number, or that `gc` removed
    /// the text of.
    fn has(&self, frame: &Frame<'_>, bytes: &[u8]) -> bool {
        self.frames.get(&frame.seq).is_some_and(|known| match known {
            Known::Stamp(stamp) => *stamp == verify::stamp(frame.seq, bytes),
            Known::Retired(key) => *key == frame.key(),
        })
    }
}

/// What only the trees have.
struct Salvaged {
    frames: Frames,
    /// Folders of trees in which something cannot be read.
    damaged: BTreeSet<PathBuf>,
}

impl Salvaged {
    fn take(
        cache: &Path,
        settings: &Settings,
        journal: &Book,
        broken: BTreeSet<PathBuf>,
    ) -> Result<Self, StoreError> {
        let store = cache.join(STORE);
        let mut salvaged = Self {
            frames: Frames::new(),
            damaged: broken.into_iter().filter(|folder| *folder != store).collect(),
        };
        for (_, folder) in generations::list(&store)? {
            let limit = open::limit(settings, &folder);
            let missing = |frame: &Frame<'_>, bytes: &[u8]| !journal.has(frame, bytes);
            match salvage::from_folder(&folder, limit, missing, &mut salvaged.frames) {
                Ok(true) => {}
                Ok(false) | Err(_) => _ = salvaged.damaged.insert(folder),
            }
        }
        Ok(salvaged)
    }
}

/// Writes the journal anew, with what was saved in its place in the order, and puts it in force.
fn rewrite(cache: &Path, settings: &Settings, saved: &Frames, book: &Book) -> Result<(), StoreError> {
    let journal = cache.join(JOURNAL);
    let disk = &*settings.disk;
    let segments = segment::list(&journal)?;
    let first = segments.last().map_or(0, |newest| newest.number) + 1;
    let first = first.max(changeover::first(&journal));
    // Two entries with one number (a store that had lost its counter): all get new ones, in their order.
    let numbers: BTreeSet<u64> = saved.keys().map(|(seq, _)| *seq).collect();
    let collide = numbers.len() < saved.len() || numbers.iter().any(|seq| book.frames.contains_key(seq));
    let mut out = Merged {
        out: Anew::begin(disk, &journal, first, settings.segment_bytes)?,
        next_seq: collide.then_some(1),
    };
    let last = match out.all(segments, saved) {
        Ok(last) => last,
        Err(error) => {
            let _ = changeover::settle(disk, &journal);
            return Err(error);
        }
    };
    // Trees that were made from the old journal are built again, if only because their checkpoint
    // stands before its first file.
    changeover::commit(disk, &journal, first, last)
}

struct Merged<'a> {
    out: Anew<'a>,
    /// The next new number, if all get one.
    next_seq: Option<u64>,
}

impl Merged<'_> {
    fn all(&mut self, segments: Vec<Segment>, saved: &Frames) -> Result<u32, StoreError> {
        let mut saved = saved.iter().peekable();
        let begin = Position {
            segment: 0,
            offset: 0,
        };
        let mut reader = Reader::new(segments, begin, None);
        while let Some(place) = reader.next()? {
            let Found::Frame { frame, bytes } = place.found else {
                continue;
            };
            while let Some((_, earlier)) = saved.next_if(|((seq, _), _)| *seq <= frame.seq) {
                self.append(earlier)?;
            }
            self.append(bytes)?;
        }
        for (_, later) in saved {
            self.append(later)?;
        }
        self.out.finish()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(seq) = &mut self.next_seq else {
            return self.out.append(bytes);
        };
        let mut bytes = bytes.to_vec();
        frame::stamp(&mut bytes, *seq);
        *seq += 1;
        self.out.append(&bytes)
    }
}

/// A folder for what is damaged. Nothing of it is read again by septet.
struct Aside {
    cache: PathBuf,
    folder: PathBuf,
    made: bool,
}

impl Aside {
    fn new(cache: &Path) -> Result<Self, StoreError> {
        let all = cache.join(ASIDE);
        let free = (1_u32..).find(|number| !all.join(format!("{number:04}")).exists());
        Ok(Self {
            cache: cache.to_owned(),
            folder: all.join(format!("{:04}", free.unwrap_or(1))),
            made: false,
        })
    }

    /// Where a file or folder of the cache is put.
    fn place(&mut self, path: &Path) -> io::Result<PathBuf> {
        let place = self
            .folder
            .join(path.strip_prefix(&self.cache).unwrap_or(Path::new("other")));
        fs::create_dir_all(place.parent().unwrap_or(&self.folder))?;
        self.made = true;
        Ok(place)
    }

    /// Keeps a copy of a file that is still in force.
    fn keep_copy(&mut self, path: &Path) -> Result<(), StoreError> {
        let copy = |place: PathBuf| {
            fs::copy(path, &place)?;
            File::open(&place)?.sync_all()
        };
        let copied = self.place(path).and_then(copy);
        copied.map_err(|source| StoreError::io("set aside", path, source))
    }

    /// Takes a folder away.
    fn take(&mut self, path: &Path) -> Result<(), StoreError> {
        let moved = self.place(path).and_then(|place| fs::rename(path, place));
        moved.map_err(|source| StoreError::io("set aside", path, source))
    }

    /// Writes down what was found, and makes the names here durable.
    fn note(&mut self, list: &[String]) -> Result<(), StoreError> {
        if !self.made {
            return Ok(());
        }
        let path = self.folder.join("found.txt");
        let write = || {
            let mut file = File::create(&path)?;
            for line in list {
                writeln!(file, "{line}")?;
            }
            file.sync_all()?;
            sync_folder(&self.folder)?;
            sync_folder(&self.cache)
        };
        write().map_err(|source| StoreError::io("write", &path, source))
    }
}

#[cfg(test)]
mod tests;
