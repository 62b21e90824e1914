//! Checks a store without changing it: every checksum of the journal and of the trees, and that
//! each says what the other says. It does not know what is done about what it finds.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::store::changeover;
use crate::store::checkpoint::{self, Checkpoint};
use crate::store::disk::RealDisk;
use crate::store::generations;
use crate::store::keys;
use crate::store::local::Settings;
use crate::store::lock::Lock;
use crate::store::notice::Notice;
use crate::store::open::{self, JOURNAL, STORE};
use crate::store::put::{self, Gist, Shelf, Written};
use crate::store::reader::{Damage, Place, Reader};
use crate::store::segment::{self, Found, Position, Segment};
use crate::store::shelves::{Closed, Value};
use crate::store::trees::Trees;
use crate::store::{StoreError, frame};

/// Before everything.
const BEGIN: Position = Position {
    segment: 0,
    offset: 0,
};

/// So many records of the trees are read at once.
const PAGE: usize = 256;

/// What was looked at.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Files of the journal.
    pub files: u64,
    /// Entries of the journal that are intact.
    pub entries: u64,
    /// Answers among them, replaced ones too.
    pub answers: u64,
    /// Records of the trees that are intact and the same as in the journal.
    pub records: u64,
    /// Entries that the trees need not have yet: the last process did not end cleanly, and the next
    /// one takes them in.
    pub ahead: u64,
    /// The last write was not finished, as after a crash. Nothing that was reported as stored.
    pub unfinished: Option<Damage>,
    /// Trees of earlier times that were kept when something had been lost: they may have what the
    /// journal has not. [`repair`](crate::store::repair) takes it from them.
    pub kept: Vec<PathBuf>,
    /// How many problems were found.
    pub problems: u64,
}

/// Something that is not as it must be.
#[derive(Clone, Debug)]
pub enum Problem {
    /// A place in the journal cannot be read.
    Journal(Damage),
    /// Files of the journal are not there.
    Missing {
        /// The first of them.
        path: PathBuf,
        /// How many.
        files: u32,
    },
    /// The journal ends before the place up to which the trees hold it.
    Short {
        /// The file that ends too early.
        path: PathBuf,
    },
    /// The trees cannot be used as they are.
    Trees {
        /// Their folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A record of the trees.
    Record {
        /// Their folder.
        path: PathBuf,
        /// The tree.
        tree: &'static str,
        /// Under which key, in words.
        key: String,
        /// What is wrong with it.
        wrong: Wrong,
    },
}

/// What is wrong with a record of the trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It cannot be read: why.
    Damaged(String),
    /// The journal does not have it.
    OnlyHere,
    /// The journal has it and the tree has nothing.
    Absent,
    /// It is another one than the journal's newest.
    Other,
    /// The filter of keys says that there is none: whoever looks for it does not find it.
    Denied,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Journal(damage) => damage.fmt(f),
            Problem::Missing { path, files } => Notice::Missing {
                path: path.clone(),
                files: *files,
            }
            .fmt(f),
            Problem::Short { path } => write!(
                f,
                "`{}` has lost its end: the look-up trees hold more than the journal",
                path.display()
            ),
            Problem::Trees { path, reason } => {
                write!(
                    f,
                    "the look-up trees `{}` cannot be used: {reason}",
                    path.display()
                )
            }
            Problem::Record {
                path,
                tree,
                key,
                wrong,
            } => {
                write!(f, "`{tree}` of `{}`: ", path.display())?;
                match wrong {
                    Wrong::Damaged(reason) => write!(f, "the record of `{key}` cannot be read: {reason}"),
                    Wrong::OnlyHere => write!(f, "the journal does not have the record of `{key}`"),
                    Wrong::Absent => write!(f, "the record of `{key}` is missing"),
                    Wrong::Other => write!(f, "the record of `{key}` is not the one that the journal has"),
                    Wrong::Denied => write!(
                        f,
                        "the record of `{key}` is not found, since `{}` says that there is none",
                        keys::NAME
                    ),
                }
            }
        }
    }
}

/// Checks the store in a cache folder, which exists, and names each problem.
///
/// # Errors
/// [`StoreError::Held`] if another process has it open, [`StoreError::Newer`] if a newer septet
/// wrote it, or if files cannot be read.
pub fn verify(cache: &Path, found: &mut dyn FnMut(Problem)) -> Result<Verified, StoreError> {
    let _lock = Lock::take(cache)?;
    verify_locked(cache, found)
}

/// The same for a store whose lock is held.
///
/// # Errors
/// As for [`verify`].
pub(super) fn verify_locked(cache: &Path, found: &mut dyn FnMut(Problem)) -> Result<Verified, StoreError> {
    let journal = cache.join(JOURNAL);
    if journal.is_dir() {
        open::check_formats(&segment::list(&journal)?)?;
        // What a killed `gc` left to do: until it is done, nobody can say what belongs to the journal.
        changeover::settle(&RealDisk, &journal)?;
    }
    let segments = segment::list(&journal)?;
    let mut check = Check {
        verified: Verified {
            files: segments.len() as u64,
            ..Verified::default()
        },
        found,
    };
    let trees = check.checkpoint(cache)?;
    let settled = trees.as_ref().map(|(_, checkpoint)| checkpoint.position());
    for problem in gaps(&journal, &segments, settled) {
        check.problem(problem);
    }
    if let Some((folder, _)) = &trees {
        check.verified.kept = older_trees(cache, folder)?;
    }
    // Of trees that are to be built again all is still to come.
    let book = check.journal(segments, settled.unwrap_or(BEGIN))?;
    if let Some((folder, checkpoint)) = trees {
        check.trees(&folder, checkpoint, book)?;
    }
    Ok(check.verified)
}

/// The folders of trees that are older than those in `current`.
fn older_trees(cache: &Path, current: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let all = generations::list(&cache.join(STORE))?.into_iter();
    let folders = all.map(|(_, folder)| folder);
    Ok(folders.take_while(|folder| folder != current).collect())
}

/// What is lost as far as that can be told without reading anything, in words, of a store that is open.
pub(super) fn losses(cache: &Path) -> Result<Vec<String>, StoreError> {
    let journal = cache.join(JOURNAL);
    let missing = gaps(&journal, &segment::list(&journal)?, None);
    let kept = match generations::current(&cache.join(STORE))? {
        Some(current) => older_trees(cache, &current)?,
        None => Vec::new(),
    };
    let missing = missing.iter().map(ToString::to_string);
    Ok(missing
        .chain(kept.iter().map(|folder| kept_words(folder)))
        .collect())
}

/// What there is to say of trees that were kept.
pub(super) fn kept_words(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "the look-up trees `{folder}` were kept when something was lost, and may have what the journal has not"
    )
}

/// What of the files of the journal is not there, where the trees are `settled` up to a place.
pub(super) fn gaps(journal: &Path, segments: &[Segment], settled: Option<Position>) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut expected = changeover::first(journal);
    for segment in segments {
        if segment.number > expected {
            let path = segment::path(journal, expected);
            let files = segment.number - expected;
            found.push(Problem::Missing { path, files });
        }
        expected = segment.number + 1;
    }
    let end = segments.last().map_or(Position::start_of(1), Segment::end);
    match settled {
        Some(settled) if settled.segment >= expected => {
            let path = segment::path(journal, expected);
            let files = settled.segment - expected + 1;
            found.push(Problem::Missing { path, files });
        }
        Some(settled) if settled > end => {
            let path = segment::path(journal, end.segment);
            found.push(Problem::Short { path });
        }
        _ => {}
    }
    found
}

struct Check<'a> {
    verified: Verified,
    found: &'a mut dyn FnMut(Problem),
}

/// What the journal says that the trees hold.
#[derive(Default)]
struct Book {
    /// Up to the checkpoint.
    settled: HashMap<(Shelf, Vec<u8>), Stamp>,
    /// Behind it: the trees have either these or the ones before.
    ahead: HashMap<(Shelf, Vec<u8>), Vec<Stamp>>,
}

/// What tells two frames apart: the sequence number and the checksum of the header, which covers
/// that of the payload.
pub(super) type Stamp = (u64, [u8; 4]);

/// Of a frame, from its bytes.
pub(super) fn stamp(seq: u64, frame: &[u8]) -> Stamp {
    let crc = frame.get(4..8).and_then(|crc| crc.try_into().ok());
    (seq, crc.unwrap_or_default())
}

impl Check<'_> {
    fn problem(&mut self, problem: Problem) {
        self.verified.problems += 1;
        (self.found)(problem);
    }

    /// The trees that are in force and how far they are; `None` if the next septet builds them again.
    fn checkpoint(&mut self, cache: &Path) -> Result<Option<(PathBuf, Checkpoint)>, StoreError> {
        let store = cache.join(STORE);
        let current = match store.is_dir() {
            true => generations::current(&store)?,
            false => None,
        };
        let Some(folder) = current else {
            let reason = "there are none".to_owned();
            self.problem(Problem::Trees { path: store, reason });
            return Ok(None);
        };
        let reason = match checkpoint::read(&folder)? {
            checkpoint::Found::Good(checkpoint) => return Ok(Some((folder, *checkpoint))),
            checkpoint::Found::Older(_) => return Ok(None),
            checkpoint::Found::Absent => "they have no checkpoint",
            checkpoint::Found::Damaged(reason) => reason,
        };
        self.problem(Problem::Trees {
            path: folder.clone(),
            reason: reason.to_owned(),
        });
        Ok(None)
    }

    /// Reads all of the journal.
    fn journal(&mut self, segments: Vec<Segment>, settled: Position) -> Result<Book, StoreError> {
        let newest = segments.last().map(|segment| segment.path.clone());
        let mut reader = Reader::new(segments, BEGIN, None);
        let mut book = Book::default();
        // Damage behind the last intact frame of the newest file is a write that was not finished.
        let mut tail: Vec<Damage> = Vec::new();
        while let Some(place) = reader.next()? {
            match (place.line(), &place.found) {
                (Ok(logged), Found::Frame { bytes, .. }) => {
                    let ahead = place.at >= settled;
                    self.verified.entries += 1;
                    self.verified.answers += u64::from(is_answer(&logged.entry));
                    self.verified.ahead += u64::from(ahead);
                    let written = Written::new(Gist::from(&logged.entry), logged.seq, (*bytes).into());
                    book.take(&written, ahead);
                }
                (Err(damage), _) => {
                    if is_frame(&place) {
                        self.problem(Problem::Journal(damage));
                    } else {
                        tail.push(damage);
                        continue;
                    }
                }
                (Ok(_), _) => {}
            }
            for damage in tail.drain(..) {
                self.problem(Problem::Journal(damage));
            }
        }
        let (unfinished, damaged): (Vec<_>, Vec<_>) = tail
            .into_iter()
            .partition(|damage| Some(&damage.path) == newest.as_ref());
        damaged
            .into_iter()
            .for_each(|damage| self.problem(Problem::Journal(damage)));
        self.verified.unfinished = unfinished.into_iter().next();
        Ok(book)
    }

    /// Reads all of the trees and compares them.
    fn trees(&mut self, folder: &Path, checkpoint: Checkpoint, mut book: Book) -> Result<(), StoreError> {
        let filters = keys::read(folder, &checkpoint);
        // Not trusted to be clean: then every record is counted.
        let expected = Checkpoint {
            clean: false,
            ..checkpoint
        };
        let limit = open::limit(&Settings::default(), folder);
        let trees = match Trees::open(folder, limit, Some(expected)) {
            Ok(trees) => trees,
            Err(Closed::Broken(reason)) => {
                let path = folder.to_owned();
                self.problem(Problem::Trees { path, reason });
                return Ok(());
            }
            Err(Closed::Disk(source)) => return Err(StoreError::io("open", folder, source)),
        };
        for shelf in Shelf::ALL {
            let filter = filters.get(shelf.tree());
            let denied = |key: &[u8]| filter.is_some_and(|filter| !filter.may_hold(key));
            let mut after: Option<Vec<u8>> = None;
            loop {
                let page = match trees.page(shelf, after.as_deref(), PAGE) {
                    Ok(page) => page,
                    Err(error) => {
                        let path = folder.to_owned();
                        let reason = error.to_string();
                        self.problem(Problem::Trees { path, reason });
                        return Ok(());
                    }
                };
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                for (key, value) in &page {
                    let wrong = book.compare(shelf, key, value);
                    if let Some(wrong) = wrong.or_else(|| denied(key).then_some(Wrong::Denied)) {
                        self.record(folder, shelf, key, wrong);
                    } else {
                        self.verified.records += 1;
                    }
                }
            }
        }
        let mut absent: Vec<_> = book.settled.into_keys().collect();
        absent.sort();
        for (shelf, key) in absent {
            self.record(folder, shelf, &key, Wrong::Absent);
        }
        Ok(())
    }

    fn record(&mut self, folder: &Path, shelf: Shelf, key: &[u8], wrong: Wrong) {
        self.problem(Problem::Record {
            path: folder.to_owned(),
            tree: shelf.tree(),
            key: shown(shelf, key),
            wrong,
        });
    }
}

fn is_answer(entry: &crate::store::Entry) -> bool {
    matches!(entry, crate::store::Entry::Answer(_))
}

/// True where the checksums are right: what cannot be read there is no write that was cut off.
fn is_frame(place: &Place<'_>) -> bool {
    matches!(place.found, Found::Frame { .. })
}

impl Book {
    fn take(&mut self, written: &Written, ahead: bool) {
        for put in &written.puts {
            let ends_a_mark = put.ends_a_mark();
            let stamp = stamp(put.seq, &put.value());
            let place = (put.shelf, put.key.clone());
            if put.shelf == Shelf::Answers {
                self.move_replaced(&place.1, put.seq, ahead);
            }
            match ahead {
                true => self.ahead.entry(place).or_default().push(stamp),
                // The trees keep no end of a mark that was never set.
                false if ends_a_mark && !self.settled.contains_key(&place) => {}
                false => drop(self.settled.insert(place, stamp)),
            }
        }
    }

    /// An answer in whose place another one comes goes to a shelf of its own.
    fn move_replaced(&mut self, key: &[u8], seq: u64, ahead: bool) {
        let place = (Shelf::Answers, key.to_vec());
        let settled = self.settled.get(&place).copied();
        let moved = |stamp: &Stamp| ((Shelf::Replaced, put::numbered(key, stamp.0)), *stamp);
        if ahead {
            let before = self.ahead.get(&place).into_iter().flatten().copied();
            let before: Vec<_> = before.chain(settled).filter(|before| before.0 < seq).collect();
            for (place, stamp) in before.iter().map(moved) {
                self.ahead.entry(place).or_default().push(stamp);
            }
        } else if let Some(before) = settled.filter(|before| before.0 < seq) {
            let (place, stamp) = moved(&before);
            self.settled.insert(place, stamp);
        }
    }

    /// Checks a record of the trees, and crosses it off.
    fn compare(&mut self, shelf: Shelf, key: &[u8], value: &Value) -> Option<Wrong> {
        let place = (shelf, key.to_vec());
        let settled = self.settled.remove(&place);
        let frame = match frame::parse_whole(value) {
            Ok(frame) => frame,
            Err(reason) => return Some(Wrong::Damaged(reason)),
        };
        if !frame.is_empty()
            && let Err(reason) = frame.entry()
        {
            return Some(Wrong::Damaged(reason));
        }
        let stamp = stamp(frame.seq, value);
        let ahead = self.ahead.get(&place);
        if settled == Some(stamp) || ahead.is_some_and(|ahead| ahead.contains(&stamp)) {
            return None;
        }
        // The end of a mark says what no mark says: a journal that has lost its beginning lacks nothing.
        if frame.is_empty() && settled.is_none() && ahead.is_none() {
            return None;
        }
        Some(match settled.is_some() || ahead.is_some() {
            true => Wrong::Other,
            false => Wrong::OnlyHere,
        })
    }
}

/// A key of the trees in words: hashes in hexadecimal digits, names as they are.
fn shown(shelf: Shelf, key: &[u8]) -> String {
    let hexadecimal = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match (shelf, std::str::from_utf8(key)) {
        (Shelf::Notes | Shelf::Marks | Shelf::Runs, Ok(name)) => name.to_owned(),
        (Shelf::Calls, _) => match key.split_last_chunk::<8>() {
            Some((name, number)) => format!(
                "{} number {}",
                String::from_utf8_lossy(name).trim_end_matches('\0'),
                u64::from_be_bytes(*number)
            ),
            None => hexadecimal(key),
        },
        _ => hexadecimal(key),
    }
}

#[cfg(test)]
mod tests;
