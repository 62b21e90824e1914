//! Opens a cache folder: takes the lock, looks how far the trees are to be trusted, and reads into
//! them what the journal has beyond that, or all of it into new ones. What was wrong is handed
//! back as notices.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::store::StoreError;
use crate::store::attempts::Attempts;
use crate::store::changeover;
use crate::store::checkpoint::{self, Checkpoint};
use crate::store::disk::sync_folder;
use crate::store::filler::Level;
use crate::store::generations;
use crate::store::journal::Journal;
use crate::store::local::Settings;
use crate::store::lock::Lock;
use crate::store::notice::{Notice, Progress};
use crate::store::put::Gist;
use crate::store::reader::{Entries, Reader};
use crate::store::replay::Replay;
use crate::store::salvage;
use crate::store::segment::{self, Found, Position, Segment};
use crate::store::shelves::Closed;
use crate::store::spending::Spending;
use crate::store::trees::Trees;

/// The folder of the journal in the cache folder.
pub(super) const JOURNAL: &str = "journal";

/// The folder of the trees in the cache folder.
pub(super) const STORE: &str = "store";

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

/// Locks a cache folder, which is made if there is none.
///
/// # Errors
/// If another process holds it, or it cannot be made.
pub(super) fn lock(cache: &Path) -> Result<Lock, StoreError> {
    make_folders(cache)?;
    Lock::take(cache)
}

/// Opens a cache folder that is locked.
///
/// # Errors
/// If a newer septet wrote it, or files cannot be read or written.
pub(super) fn open(
    lock: Lock,
    cache: &Path,
    settings: &Settings,
    progress: &mut dyn FnMut(Progress),
) -> Result<Opened, StoreError> {
    // Before anything is changed.
    check_formats(&segment::list(&cache.join(JOURNAL))?)?;
    changeover::settle(&*settings.disk, &cache.join(JOURNAL))?;
    let mut segments = segment::list(&cache.join(JOURNAL))?;
    if segments.is_empty() && generations::list(&cache.join(STORE))?.is_empty() {
        // Before there are trees: trees without a journal would look as if it had been lost.
        let first = changeover::first(&cache.join(JOURNAL));
        Journal::create(
            Arc::clone(&settings.disk),
            &cache.join(JOURNAL),
            first,
            settings.segment_bytes,
        )?;
        segments = segment::list(&cache.join(JOURNAL))?;
    }
    settle(&segments, settings)?;
    let mut opening = Opening {
        store: cache.join(STORE),
        journal: cache.join(JOURNAL),
        first: changeover::first(&cache.join(JOURNAL)),
        segments,
        settings,
        progress,
        notices: Vec::new(),
    };
    let (mut trees, mut level, mut known) = opening.trees()?;
    let mut journal = opening.journal(known.as_ref(), level.position)?;
    let held = known.as_ref().map(Checkpoint::position);
    if let Some(held) = held.filter(|held| opening.has_lost(*held)) {
        opening.write_back(&trees, held, &mut journal)?;
        if trees.failure().is_some() {
            // They broke while they were read. What was read before is in the journal now.
            drop(trees);
            opening.segments = segment::list(&opening.journal)?;
            (trees, level, known) = opening.trees()?;
        }
    }
    // Where the journal has lost its end, all that comes now stands behind what was lost.
    let moved = level.position != journal.end();
    level.position = journal.end();
    match known {
        Some(checkpoint) if !moved && checkpoint.position() == level.position => {
            trees.mark(&checkpoint.of_open_trees())?;
        }
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
    /// The number of the first segment that is in force.
    first: u32,
    segments: Vec<Segment>,
    settings: &'a Settings,
    progress: &'a mut dyn FnMut(Progress),
    notices: Vec<Notice>,
}

impl Opening<'_> {
    /// The trees with everything in them that the journal has; and their checkpoint, where they
    /// were there already.
    fn trees(&mut self) -> Result<(Trees, Level, Option<Checkpoint>), StoreError> {
        let Some(folder) = generations::current(&self.store)? else {
            return self.rebuild(self.store.clone(), "it is empty".into(), None);
        };
        let checkpoint = match checkpoint::read(&folder)? {
            // A journal that was written anew is in force, and they were made from the one before.
            checkpoint::Found::Good(checkpoint) if checkpoint.segment < self.first => {
                let reason = "it was made from an earlier journal".into();
                return self.rebuild(folder, reason, Some(*checkpoint));
            }
            checkpoint::Found::Good(checkpoint) => *checkpoint,
            checkpoint::Found::Absent => return self.rebuild(folder, "it has no checkpoint".into(), None),
            checkpoint::Found::Older(checkpoint) => {
                return self.rebuild(folder, "an older septet wrote it".into(), Some(*checkpoint));
            }
            checkpoint::Found::Damaged(reason) => return self.rebuild(folder, reason.into(), None),
        };
        let trees = match Trees::open(&folder, limit(self.settings, &folder), Some(checkpoint.clone())) {
            Ok(trees) => trees,
            Err(Closed::Broken(reason)) => return self.rebuild(folder, reason, Some(checkpoint)),
            Err(Closed::Disk(source)) => return Err(StoreError::io("open", &folder, source)),
        };
        let mut level = self.level(&checkpoint)?;
        match self.replay(&trees, &mut level, &checkpoint) {
            Ok(()) => Ok((trees, level, Some(checkpoint))),
            Err(StoreError::Tree { message, .. }) if trees.are_distrusted() => {
                self.rebuild(folder, message, Some(checkpoint))
            }
            Err(other) => Err(other),
        }
    }

    fn new_trees(&self, number: u32) -> Result<Trees, StoreError> {
        let folder = generations::path(&self.store, number);
        Trees::open(&folder, NEW_LIMIT, None).map_err(|closed| match closed {
            Closed::Broken(message) => StoreError::Tree {
                path: folder.clone(),
                message,
            },
            Closed::Disk(source) => StoreError::io("create", &folder, source),
        })
    }

    /// How far trees with this checkpoint are. What was paid is counted once where an older septet
    /// wrote it.
    fn level(&self, checkpoint: &Checkpoint) -> Result<Level, StoreError> {
        let zone = self.settings.zone.clone();
        let spending = match &checkpoint.spending {
            Some(spending) => spending.clone(),
            None => self.spending_before(checkpoint.position())?,
        };
        Ok(Level {
            position: checkpoint.position(),
            next_seq: checkpoint.next_seq,
            attempts: Attempts::of(&checkpoint.unfinished, &checkpoint.runs),
            spending,
            zone,
        })
    }

    fn spending_before(&self, end: Position) -> Result<Spending, StoreError> {
        let begin = Position {
            segment: 0,
            offset: 0,
        };
        let (mut spending, mut open) = (Spending::default(), Attempts::default());
        for line in Entries::new(Reader::new(self.segments.clone(), begin, Some(end))) {
            // Damage was told when it was met first.
            if let Ok(logged) = line? {
                let gist = Gist::from(&logged.entry);
                spending.follow(&gist, &open, &self.settings.zone);
                open.follow(&gist, logged.at);
            }
        }
        Ok(spending)
    }

    /// Reads what the journal has beyond the checkpoint.
    fn replay(
        &mut self,
        trees: &Trees,
        level: &mut Level,
        checkpoint: &Checkpoint,
    ) -> Result<(), StoreError> {
        let begin = level.position;
        let before = self.notices.len();
        self.notice_gaps(begin);
        let end = self.segments.last().map_or(Position::start_of(1), Segment::end);
        self.notice_lost_end(Some(begin), end, true);
        let read = self.read_into(trees, level, begin, Some(checkpoint));
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
        let last = generations::list(&self.store)?.pop();
        let number = last.map_or(0, |(number, _)| number);
        let trees = self.new_trees(number + 1)?;
        let mut level = Level::start(self.settings.zone.clone());
        level.next_seq = known.as_ref().map_or(1, |checkpoint| checkpoint.next_seq);
        let before = self.notices.len();
        // Old trees without a checkpoint and without any journal: who knows what they held.
        let unknown = known.is_none() && number > 0 && self.segments.is_empty();
        self.notice_gaps(match unknown {
            true => Position {
                segment: 1,
                offset: u64::MAX,
            },
            false => Position::start_of(1),
        });
        let begin = Position {
            segment: 0,
            offset: 0,
        };
        let entries = self.read_into(&trees, &mut level, begin, None)?;
        self.notice_lost_end(
            known.map(|checkpoint| checkpoint.position()),
            level.position,
            false,
        );
        let torn = |notice: &Notice| matches!(notice, Notice::Torn { .. });
        let kept = !self.notices[before..].iter().all(torn);
        if !kept {
            level.checkpoint(&trees)?;
            generations::remove_older(&self.store, number);
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
        let from = from.max(Position::start_of(self.first));
        let mut expected = from.segment;
        let numbers: Vec<_> = self.segments.iter().map(|segment| segment.number).collect();
        for number in numbers {
            if number > expected {
                self.notice_missing(expected, number - expected);
            }
            expected = expected.max(number + 1);
        }
        if expected == from.segment && from > Position::start_of(1) {
            self.notice_missing(expected, 1);
        }
    }

    /// True if the journal ended before a place up to which trees held it. What stands behind does not
    /// count: a process may have been killed while it wrote back what was lost, and the next one goes on.
    fn has_lost(&self, held: Position) -> bool {
        let end = self.segments.last().map_or(Position::start_of(1), Segment::end);
        held > end
            || self.is_short(held)
            || (self.segments.iter()).all(|segment| segment.number != held.segment)
    }

    /// True if the file with this place in it ends before it.
    fn is_short(&self, held: Position) -> bool {
        let mut segments = self.segments.iter();
        segments.any(|segment| segment.number == held.segment && segment.end() < held)
    }

    /// Notices a journal that ends before the place up to which the trees held it.
    fn notice_lost_end(&mut self, held: Option<Position>, end: Position, served: bool) {
        let Some(held) = held.filter(|held| *held > end || self.is_short(*held)) else {
            return;
        };
        match self
            .segments
            .iter()
            .find(|segment| segment.number == held.segment)
        {
            Some(segment) => {
                let path = segment.path.clone();
                self.notices.push(Notice::Short { path, served });
            }
            // In the trees' place, it was noticed as a gap.
            None if served => {}
            None => self.notice_missing(held.segment, 1),
        }
    }

    fn notice_missing(&mut self, first: u32, files: u32) {
        let path = segment::path(&self.journal, first);
        self.notices.push(Notice::Missing { path, files });
    }

    fn read_into(
        &mut self,
        trees: &Trees,
        level: &mut Level,
        begin: Position,
        known: Option<&Checkpoint>,
    ) -> Result<u64, StoreError> {
        let replay = Replay {
            segments: &self.segments,
            trees,
            known,
            level,
            notices: &mut self.notices,
            progress: self.progress,
        };
        replay.run(begin)
    }

    /// Puts what the journal has lost at its end, and the trees still have, behind that end: they are
    /// not the book, and could be lost one day.
    /// What is left of a record that was cut through goes then.
    fn write_back(&mut self, trees: &Trees, held: Position, journal: &mut Journal) -> Result<(), StoreError> {
        let mut newest = 0;
        let (mut torn, mut later): (Option<(PathBuf, u64)>, bool) = (None, false);
        let begin = Position {
            segment: 0,
            offset: 0,
        };
        let mut reader = Reader::new(self.segments.clone(), begin, None);
        while let Some(place) = reader.next()? {
            let short = place.at.segment == held.segment;
            match place.found {
                Found::Frame { frame, .. } => {
                    newest = newest.max(frame.seq);
                    later |= place.at.segment > held.segment;
                    torn = torn.filter(|_| !short);
                }
                Found::Damage { .. } if short && torn.is_none() => {
                    torn = Some((place.path.to_owned(), place.at.offset));
                }
                Found::Damage { .. } => {}
                Found::Newer { .. } => torn = torn.filter(|_| !short),
            }
        }
        let mut frames = salvage::Frames::new();
        // In their order, and all behind what is there: whoever reads the journal finds the newest last.
        let whole = salvage::from_trees(trees, |frame, _| frame.seq > newest, &mut frames);
        if !whole {
            trees.distrust();
        }
        self.append_all(frames, journal)?;
        match torn {
            // Where more was written behind it, what it held may be in the trees alone.
            Some((path, offset)) if whole && !later => self.cut(&path, offset),
            _ => Ok(()),
        }
    }

    /// Takes off what is left of a record at the end of a file that is not written to any more.
    fn cut(&self, path: &Path, offset: u64) -> Result<(), StoreError> {
        let cut = self.settings.disk.open(path).and_then(|mut file| {
            file.cut(offset)?;
            file.sync()
        });
        cut.map_err(|source| StoreError::io("cut", path, source))
    }

    fn append_all(&mut self, frames: salvage::Frames, journal: &mut Journal) -> Result<(), StoreError> {
        if frames.is_empty() {
            return Ok(());
        }
        let entries = frames.len() as u64;
        let mut first = None;
        for frame in frames.into_values() {
            journal.append(&frame)?;
            first.get_or_insert(journal.end().segment);
        }
        journal.sync()?;
        let path = segment::path(&self.journal, first.unwrap_or(1));
        self.notices.push(Notice::WrittenBack { path, entries });
        Ok(())
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
}

/// How long sled may take to open the trees in a folder.
pub(super) fn limit(settings: &Settings, folder: &Path) -> Duration {
    let bytes = fs::metadata(folder.join("db")).map_or(0, |file| file.len());
    let gigabytes = u32::try_from(bytes >> 30).unwrap_or(u32::MAX);
    settings.open_limit + OPEN_PER_GIGABYTE.saturating_mul(gigabytes)
}

impl Level {
    /// Before the first entry.
    fn start(zone: TimeZone) -> Self {
        Self {
            position: Position::start_of(1),
            next_seq: 1,
            attempts: Attempts::default(),
            spending: Spending::default(),
            zone,
        }
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
pub(super) fn check_formats(segments: &[Segment]) -> Result<(), StoreError> {
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

#[cfg(test)]
mod tests;
