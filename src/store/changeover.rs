//! Lets a journal that was written anew take the place of the old one, so that a crash at any
//! moment leaves one of the two in force. It does not know what is in them.
//!
//! The new files lie beside the old ones as `NNNNNNNN.log.new`, with numbers behind all of theirs;
//! nobody reads them. Once they are durable, one small file says from which number on the journal
//! is in force: its renaming into place is the moment of the change. What is left to do after it
//! (the new files get their names, the old ones go) is done again by the next open, until it is
//! done.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::disk::Disk;
use crate::store::segment;

/// The file that says where the journal begins.
const NAME: &str = "begin.json";

/// What stands behind the name of a file that is not in force yet.
const NEW: &str = ".new";

/// The files of the journal that are in force since the last changeover, and those behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begin {
    /// The number of the first one.
    pub(super) first: u32,
    /// The last of those that were new then.
    pub(super) last: u32,
}

/// Where a new file lies until it is in force.
pub(super) fn beside(journal: &Path, number: u32) -> PathBuf {
    let mut path = segment::path(journal, number).into_os_string();
    path.push(NEW);
    path.into()
}

/// The number of the first file of the journal that is in force.
pub(super) fn first(journal: &Path) -> u32 {
    read(journal).map_or(1, |begin| begin.first)
}

/// Copies what says where the journal begins, if anything does.
///
/// # Errors
/// If it cannot be written.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    match fs::copy(from.join(NAME), to.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("copy", &from.join(NAME), error))
        }
        _ => Ok(()),
    }
}

/// Puts the new files `first` to `last` in force. They are durable, and have numbers behind all of
/// the journal's.
///
/// # Errors
/// If that cannot be made durable: the next open finds either the old files or the new ones in
/// force.
pub(super) fn commit(disk: &dyn Disk, journal: &Path, first: u32, last: u32) -> Result<(), StoreError> {
    let path = journal.join(NAME);
    let failed = |source| StoreError::io("write", &path, source);
    let new = journal.join(format!("{NAME}{NEW}"));
    let line = serde_json::to_string(&Begin { first, last }).expect("BUG: two numbers");
    let write = || -> io::Result<()> {
        let mut file = disk.create(&new)?;
        file.append(format!("{line}\n{:08x}\n", crc32fast::hash(line.as_bytes())).as_bytes())?;
        file.sync()?;
        drop(file);
        disk.rename(&new, &path)?;
        disk.sync_folder(journal)
    };
    write().map_err(failed)?;
    settle(disk, journal)
}

/// Ends a changeover that was begun and removes what is left of one that was not.
///
/// # Errors
/// If a file cannot be renamed or removed.
pub(super) fn settle(disk: &dyn Disk, journal: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::io("change over", journal, source);
    let (new, other) = leftovers(journal).map_err(failed)?;
    let begin = read(journal);
    let in_force = |number: u32| begin.is_some_and(|begin| (begin.first..=begin.last).contains(&number));
    let mut changed = false;
    for number in new {
        let (from, to) = (beside(journal, number), segment::path(journal, number));
        match in_force(number) && !to.exists() {
            true => disk.rename(&from, &to),
            false => disk.remove(&from),
        }
        .map_err(failed)?;
        changed = true;
    }
    for path in other {
        disk.remove(&path).map_err(failed)?;
    }
    let Some(begin) = begin else { return Ok(()) };
    if changed {
        // The new names first: without them the old files must stay.
        disk.sync_folder(journal).map_err(failed)?;
    }
    let old: Vec<_> = segment::list(journal)?;
    let whole = (begin.first..=begin.last).all(|number| old.iter().any(|segment| segment.number == number));
    let old = old.into_iter().filter(|segment| segment.number < begin.first);
    for segment in old.filter(|_| whole) {
        disk.remove(&segment.path).map_err(failed)?;
        changed = true;
    }
    if changed {
        disk.sync_folder(journal).map_err(failed)?;
    }
    Ok(())
}

/// The new files by their numbers, and what else was not finished.
fn leftovers(journal: &Path) -> io::Result<(Vec<u32>, Vec<PathBuf>)> {
    let (mut new, mut other) = (Vec::new(), Vec::new());
    for file in fs::read_dir(journal)? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.and_then(|name| name.strip_suffix(NEW)) else {
            continue;
        };
        match segment::number(name) {
            Some(number) => new.push(number),
            None if name == NAME => other.push(path),
            None => {}
        }
    }
    new.sort_unstable();
    Ok((new, other))
}

/// What is in force. A damaged file is none: it says nothing that the files themselves do not say,
/// once a changeover has ended.
pub(super) fn read(journal: &Path) -> Option<Begin> {
    let bytes = fs::read(journal.join(NAME)).ok()?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at(end);
    let right = rest == format!("\n{:08x}\n", crc32fast::hash(line)).as_bytes();
    right.then(|| serde_json::from_slice(line).ok()).flatten()
}
