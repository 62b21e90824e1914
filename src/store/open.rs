//! Opens a cache folder: takes the lock, looks how far the trees are to be trusted, and reads into
//! them what the journal has beyond that, or all of it into new ones. What was wrong is handed
//! back as notices.
//!
//! Trees that cannot be used stay where they are and new ones are made beside them, in a folder
//! with the next number: a thread that hangs inside sled may still write to the old one.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::store::StoreError;
use crate::store::attempts::Attempts;
use crate::store::checkpoint::{self, Checkpoint};
use crate::store::disk::sync_folder;
use crate::store::filler::Level;
use crate::store::journal::Journal;
use crate::store::local::Settings;
use crate::store::lock::Lock;
use crate::store::notice::{Notice, Phase, Progress};
use crate::store::put::Written;
use crate::store::reader::{Damage, Place, Reader};
use crate::store::segment::{self, Found, Position, Segment};
use crate::store::trees::{Closed, Trees};

/// The folder of the journal in the cache folder.
pub(super) const JOURNAL: &str = "journal";

/// The folder of the trees in the cache folder.
pub(super) const STORE: &str = "store";

/// While much is read, a checkpoint is written after so many bytes, so that a crash in between
/// does not begin at the start again.
const CHECKPOINT_BYTES: u64 = 64 << 20;

/// Progress is told after so many bytes.
const PROGRESS_BYTES: u64 = 1 << 20;

/// What the first open of a large store may take beyond the limit for a small one, for each
/// gigabyte of sled's file. sled reads all of it after a bulk load: 1.1 s a gigabyte on an idle
/// machine (2026-11-23).
const OPEN_PER_GIGABYTE: Duration = Duration::from_secs(20);

/// What making new trees may take: there is nothing in them that sled could stumble over.
const NEW_LIMIT: Duration = Duration::from_secs(60);

/// A cache folder that is open.
pub(super) struct Opened {
    pub(super) lock: Lock,
    pub(super) journal: Journal,
    pub(super) trees: Trees,
    pub(super) level: Level,
    pub(super) notices: Vec<Notice>,
}

/// Opens a cache folder, which is made if there is none.
///
/// # Errors
/// If another process holds it, a newer septet wrote it, or files cannot be read or written.
pub(super) fn open(
    cache: &Path,
    settings: &Settings,
    progress: &mut dyn FnMut(Progress),
) -> Result<Opened, StoreError> {
    make_folders(cache)?;
    let lock = Lock::take(cache)?;
    let segments = segment::list(&cache.join(JOURNAL))?;
    check_formats(&segments)?;
    settle(&segments, settings)?;
    let mut opening = Opening {
        store: cache.join(STORE),
        journal: cache.join(JOURNAL),
        segments,
        settings,
        progress,
        notices: Vec::new(),
    };
    let (trees, mut level, known) = opening.trees()?;
    let journal = opening.journal(known.as_ref(), level.position)?;
    // Where the journal has lost its end, all that comes now stands behind what was lost.
    let moved = level.position != journal.end();
    level.position = journal.end();
    match known {
        Some(checkpoint) if !moved && checkpoint.position() == level.position => trees.mark(&Checkpoint {
            clean: false,
            ..checkpoint
        })?,
        _ => level.checkpoint(&trees).map(drop)?,
    }
    Ok(Opened {
        lock,
        journal,
        trees,
        level,
        notices: opening.notices,
    })
}

/// What opening works with.
struct Opening<'a> {
    store: PathBuf,
    journal: PathBuf,
    segments: Vec<Segment>,
    settings: &'a Settings,
    progress: &'a mut dyn FnMut(Progress),
    notices: Vec<Notice>,
}

impl Opening<'_> {
    /// The trees with everything in them that the journal has; and their checkpoint, where they
    /// were there already.
    fn trees(&mut self) -> Result<(Trees, Level, Option<Checkpoint>), StoreError> {
        let Some(folder) = current(&self.store)? else {
            return self.rebuild(self.store.clone(), "it is empty".into(), None);
        };
        let checkpoint = match checkpoint::read(&folder)? {
            checkpoint::Found::Good(checkpoint) => *checkpoint,
            checkpoint::Found::Absent => return self.rebuild(folder, "it has no checkpoint".into(), None),
            checkpoint::Found::Damaged(reason) => return self.rebuild(folder, reason.into(), None),
        };
        let trees = match Trees::open(&folder, self.limit(&folder), Some(checkpoint.clone())) {
            Ok(trees) => trees,
            Err(Closed::Broken(reason)) => return self.rebuild(folder, reason, Some(checkpoint)),
            Err(Closed::Disk(source)) => return Err(StoreError::io("open", &folder, source)),
        };
        let mut level = Level::of(&checkpoint);
        match self.replay(&trees, &mut level) {
            Ok(()) => Ok((trees, level, Some(checkpoint))),
            Err(StoreError::Tree { message, .. }) if trees.are_distrusted() => {
                self.rebuild(folder, message, Some(checkpoint))
            }
            Err(other) => Err(other),
        }
    }

    fn new_trees(&self, number: u32) -> Result<Trees, StoreError> {
        let folder = self.store.join(format!("{number:04}"));
        Trees::open(&folder, NEW_LIMIT, None).map_err(|closed| match closed {
            Closed::Broken(message) => StoreError::Tree {
                path: folder.clone(),
                message,
            },
            Closed::Disk(source) => StoreError::io("create", &folder, source),
        })
    }

    /// Reads what the journal has beyond the checkpoint.
    fn replay(&mut self, trees: &Trees, level: &mut Level) -> Result<(), StoreError> {
        let begin = level.position;
        let before = self.notices.len();
        self.notice_gaps(begin);
        let short = |segment: &&Segment| segment.number == begin.segment && segment.len < begin.offset;
        if let Some(segment) = self.segments.iter().find(short) {
            let path = segment.path.clone();
            self.notices.push(Notice::Short { path });
        }
        let read = self.read_into(trees, level, begin, Phase::Replay);
        // Trees that fail now are built again, and then everything is noticed again.
        read.map(drop).inspect_err(|_| self.notices.truncate(before))
    }

    /// Makes new trees and reads all of the journal into them.
    fn rebuild(
        &mut self,
        path: PathBuf,
        reason: String,
        known: Option<Checkpoint>,
    ) -> Result<(Trees, Level, Option<Checkpoint>), StoreError> {
        let last = generations(&self.store)?.pop();
        let number = last.map_or(0, |(number, _)| number);
        let trees = self.new_trees(number + 1)?;
        let mut level = Level::start();
        level.next_seq = known.as_ref().map_or(1, |checkpoint| checkpoint.next_seq);
        let before = self.notices.len();
        // Old trees without any journal: who knows what they held.
        let nothing_left = self.segments.is_empty() && number > 0;
        let end = if nothing_left { u64::MAX } else { 0 };
        self.notice_gaps(known.map_or(
            Position {
                segment: 1,
                offset: end,
            },
            |known| match nothing_left {
                true => known.position(),
                false => Position::start_of(1),
            },
        ));
        let begin = Position {
            segment: 0,
            offset: 0,
        };
        let entries = self.read_into(&trees, &mut level, begin, Phase::Rebuild)?;
        let torn = |notice: &Notice| matches!(notice, Notice::Torn { .. });
        let kept = !self.notices[before..].iter().all(torn);
        if !kept {
            level.checkpoint(&trees)?;
            remove_older(&self.store, number);
        }
        if entries > 0 || kept {
            self.notices.push(Notice::Rebuilt {
                path,
                reason,
                entries,
                kept,
            });
        }
        Ok((trees, level, None))
    }

    /// Notices the segments that are not there, of those from a place on.
    fn notice_gaps(&mut self, from: Position) {
        let mut expected = from.segment;
        for segment in &self.segments {
            if segment.number > expected {
                self.notices.push(Notice::Missing {
                    path: segment::path(&self.journal, expected),
                    files: segment.number - expected,
                });
            }
            expected = expected.max(segment.number + 1);
        }
        if expected == from.segment && from > Position::start_of(1) {
            let path = segment::path(&self.journal, from.segment);
            self.notices.push(Notice::Missing { path, files: 1 });
        }
    }

    /// Reads the journal from a place on into the trees. Returns how many entries there were.
    fn read_into(
        &mut self,
        trees: &Trees,
        level: &mut Level,
        begin: Position,
        phase: Phase,
    ) -> Result<u64, StoreError> {
        let mut reader = Reader::new(self.segments.clone(), begin, None);
        let mut told = Progress {
            phase,
            done_bytes: 0,
            total_bytes: reader.len(),
            entries: 0,
        };
        let (mut told_at, mut marked_at) = (0, 0);
        let mut tail = Tail::default();
        while let Some(place) = reader.next()? {
            told.done_bytes += place.len();
            let at = place.end;
            match tail.take(&place, &mut self.notices) {
                Some(written) => {
                    level.fill(trees, &written)?;
                    told.entries += 1;
                }
                None => continue,
            }
            level.position = at;
            if told.done_bytes - told_at >= PROGRESS_BYTES {
                told_at = told.done_bytes;
                (self.progress)(told);
            }
            if told.done_bytes - marked_at >= CHECKPOINT_BYTES {
                marked_at = told.done_bytes;
                level.checkpoint(trees)?;
            }
        }
        self.end_tail(tail, level);
        if told_at > 0 {
            (self.progress)(told);
        }
        Ok(told.entries)
    }

    /// Damage at the very end of the newest segment is a write that was not finished; anywhere
    /// else it is damage.
    fn end_tail(&mut self, tail: Tail, level: &mut Level) {
        let Some(segment) = self.segments.last() else {
            return;
        };
        level.position = Position {
            segment: segment.number,
            offset: segment.len,
        };
        match tail.damage.first() {
            Some(first) if first.path == segment.path => {
                level.position.offset = first.offset;
                self.notices.push(Notice::Torn {
                    path: first.path.clone(),
                    offset: first.offset,
                    len: segment.len - first.offset,
                });
            }
            _ => self.notices.extend(tail.damage.into_iter().map(Notice::Damaged)),
        }
    }

    /// The journal, open at its end.
    fn journal(&self, known: Option<&Checkpoint>, end: Position) -> Result<Journal, StoreError> {
        let disk = || Arc::clone(&self.settings.disk);
        let limit = self.settings.segment_bytes;
        let beyond = known.map(Checkpoint::position);
        match self.segments.last() {
            // Behind the checkpoint, or what comes now would never be replayed.
            Some(newest) if beyond.is_some_and(|known| known > end) => {
                let number = newest.number.max(beyond.map_or(0, |known| known.segment)) + 1;
                Journal::create(disk(), &self.journal, number, limit)
            }
            Some(newest) => Journal::resume(disk(), &self.journal, newest, end.offset, limit),
            None => {
                let number = beyond.map_or(0, |known| known.segment) + 1;
                Journal::create(disk(), &self.journal, number, limit)
            }
        }
    }

    fn limit(&self, folder: &Path) -> Duration {
        let bytes = fs::metadata(folder.join("db")).map_or(0, |file| file.len());
        let gigabytes = u32::try_from(bytes >> 30).unwrap_or(u32::MAX);
        self.settings.open_limit + OPEN_PER_GIGABYTE.saturating_mul(gigabytes)
    }
}

impl Level {
    /// Before the first entry.
    fn start() -> Self {
        Self {
            position: Position::start_of(1),
            next_seq: 1,
            attempts: Attempts::default(),
        }
    }

    fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            position: checkpoint.position(),
            next_seq: checkpoint.next_seq,
            attempts: checkpoint.unfinished.iter().cloned().collect(),
        }
    }
}

/// Damage behind the last intact frame, until it is known whether another one follows.
#[derive(Default)]
struct Tail {
    damage: Vec<Damage>,
}

impl Tail {
    /// Takes the next place; an entry comes back as one to fill in.
    fn take(&mut self, place: &Place<'_>, notices: &mut Vec<Notice>) -> Option<Written> {
        let other_file = self.damage.last().is_some_and(|last| last.path != place.path);
        let intact = matches!(place.found, Found::Frame { .. });
        if intact || other_file {
            notices.extend(self.damage.drain(..).map(Notice::Damaged));
        }
        match (place.line(), place.found) {
            (Ok(logged), Found::Frame { bytes, .. }) => {
                return Some(Written {
                    entry: logged.entry,
                    seq: logged.seq,
                    frame: bytes.into(),
                });
            }
            (Err(damage), Found::Frame { .. }) => notices.push(Notice::Damaged(damage)),
            (Err(damage), _) => self.damage.push(damage),
            (Ok(_), _) => {}
        }
        None
    }
}

/// Makes the folders, with names that survive a power cut.
fn make_folders(cache: &Path) -> Result<(), StoreError> {
    for name in [JOURNAL, STORE] {
        let folder = cache.join(name);
        if folder.is_dir() {
            continue;
        }
        let parent = cache.parent().filter(|parent| !parent.as_os_str().is_empty());
        fs::create_dir_all(&folder)
            .and_then(|()| sync_folder(cache))
            .and_then(|()| sync_folder(parent.unwrap_or(Path::new("."))))
            .map_err(|source| StoreError::io("create", &folder, source))?;
    }
    Ok(())
}

/// Looks at the header of every segment before anything is changed.
fn check_formats(segments: &[Segment]) -> Result<(), StoreError> {
    for segment in segments {
        let mut header = Vec::new();
        fs::File::open(&segment.path)
            .and_then(|file| file.take(segment::HEADER as u64).read_to_end(&mut header))
            .map_err(|source| StoreError::io("read", &segment.path, source))?;
        segment::check_header(&segment.path, &header)?;
    }
    Ok(())
}

/// Makes what is about to be read durable: a process that was killed may have left behind what it
/// never synced, and the trees must not hold what the journal could still lose.
fn settle(segments: &[Segment], settings: &Settings) -> Result<(), StoreError> {
    let Some(newest) = segments.last() else {
        return Ok(());
    };
    let file = settings.disk.open(&newest.path);
    file.and_then(|mut file| file.sync())
        .map_err(|source| StoreError::io("sync", &newest.path, source))
}

/// The folders of trees by their numbers.
fn generations(store: &Path) -> Result<Vec<(u32, PathBuf)>, StoreError> {
    let failed = |source| StoreError::io("read", store, source);
    let mut found = Vec::new();
    for folder in fs::read_dir(store).map_err(failed)? {
        let folder = folder.map_err(failed)?.path();
        let name = folder.file_name().and_then(|name| name.to_str());
        if let Some(number) = name.and_then(|name| name.parse().ok())
            && folder.is_dir()
        {
            found.push((number, folder));
        }
    }
    found.sort();
    Ok(found)
}

/// The newest folder of trees with a checkpoint: a crash may have left one behind it that is not
/// complete.
fn current(store: &Path) -> Result<Option<PathBuf>, StoreError> {
    let mut folders: Vec<_> = generations(store)?
        .into_iter()
        .map(|(_, folder)| folder)
        .collect();
    let complete = folders
        .iter()
        .rposition(|folder| checkpoint::path(folder).exists());
    Ok(match complete {
        Some(index) => Some(folders.swap_remove(index)),
        None => folders.pop(),
    })
}

/// Removes the trees up to a number: the journal has all that they had. What cannot be removed is
/// in nobody's way.
fn remove_older(store: &Path, number: u32) {
    for (_, folder) in generations(store)
        .unwrap_or_default()
        .into_iter()
        .filter(|(other, _)| *other <= number)
    {
        let _ = fs::remove_dir_all(folder);
    }
}

#[cfg(test)]
mod tests;
