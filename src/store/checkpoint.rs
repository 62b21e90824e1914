//! The small file beside the trees that says how far into the journal they are known to be right.
//! Written whole or not at all. It does not know how the trees are made right.
//!
//! One line of JSON, one line with its crc32: a flipped digit of an offset would otherwise hide
//! answers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::names::RunId;
use crate::store::StoreError;
use crate::store::disk::sync_folder;
use crate::store::record::Entry;
use crate::store::segment::Position;
use crate::store::spending::Spending;

/// The format of the trees and of this file. An older septet refuses a newer one; older trees are
/// built again from the journal (the rule stands at `segment::FORMAT`). 2: with the shelves of
/// sources, calls and replaced answers.
pub(super) const FORMAT: u32 = 2;

const NAME: &str = "checkpoint.json";

/// Everything that the journal says before `position` is in the trees, and survives a power cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) format: u32,
    /// The trees that are meant: they hold the same number.
    pub(super) store: u64,
    /// The newest seal in them. They have lost something if they do not hold it.
    pub(super) seal: u64,
    pub(super) segment: u32,
    pub(super) offset: u64,
    /// The sequence number of the next entry, unless the journal has more behind `position`.
    pub(super) next_seq: u64,
    /// True if the trees were closed after this was written.
    pub(super) clean: bool,
    /// How many values each tree holds, by the tree's name. They never get fewer.
    pub(super) records: BTreeMap<String, u64>,
    /// Calls without an end before `position`.
    pub(super) unfinished: Vec<Entry>,
    /// Runs without an end before `position`, and where what they did begins.
    #[serde(default)]
    pub(super) runs: BTreeMap<RunId, Position>,
    /// What was paid before `position`; `None` where an older septet wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) spending: Option<Spending>,
    /// The hash of the file with the filters of the trees, as they were closed; only of a `clean` one, and
    /// `None` where an older septet wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) keys: Option<String>,
}

/// What stands in place of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    Absent,
    /// In words, what is wrong with it.
    Damaged(&'static str),
    /// Right, and of an older format: the trees lack something.
    Older(Box<Checkpoint>),
    Good(Box<Checkpoint>),
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Checkpoint {
    pub(super) fn position(&self) -> Position {
        Position {
            segment: self.segment,
            offset: self.offset,
        }
    }

    /// The same of trees that are open: what is put into them from now on is not counted in it, and is
    /// not in the file of their filters.
    pub(super) fn of_open_trees(&self) -> Self {
        Self {
            clean: false,
            keys: None,
            ..self.clone()
        }
    }

    /// Writes it in place of an earlier one, durably.
    ///
    /// # Errors
    /// If it cannot be written; the earlier one is still there then.
    pub(super) fn write(&self, folder: &Path) -> Result<(), StoreError> {
        let path = path(folder);
        self.replace(&path, folder)
            .map_err(|source| StoreError::io("write", &path, source))
    }

    fn replace(&self, path: &Path, folder: &Path) -> io::Result<()> {
        let line = serde_json::to_string(self)?;
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        writeln!(file, "{line}\n{:08x}", crc32fast::hash(line.as_bytes()))?;
        file.sync_all()?;
        drop(file);
        fs::rename(&new, path)?;
        sync_folder(folder)
    }
}

/// Where the checkpoint of the trees in `folder` lies.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// Reads the checkpoint of the trees in `folder`.
///
/// # Errors
/// If the file cannot be read, or is right and of a newer format.
pub(super) fn read(folder: &Path) -> Result<Found, StoreError> {
    let path = path(folder);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Absent),
        other => other.map_err(|source| StoreError::io("read", &path, source))?,
    };
    let Some(line) = checked(&bytes) else {
        return Ok(Found::Damaged("the checksum of its checkpoint does not match"));
    };
    match serde_json::from_slice::<Format>(line) {
        Ok(Format { format }) if format > FORMAT => Err(StoreError::Newer {
            path,
            found: format,
            known: FORMAT,
        }),
        Ok(Format { format }) => Ok(match serde_json::from_slice(line) {
            Ok(checkpoint) if format < FORMAT => Found::Older(checkpoint),
            Ok(checkpoint) => Found::Good(checkpoint),
            Err(_) => Found::Damaged("its checkpoint is not readable"),
        }),
        Err(_) => Ok(Found::Damaged("its checkpoint is not readable")),
    }
}

/// Removes the checkpoint, so that the next open does not trust the trees. A failure is not
/// reported: this follows a failure that is, and an unclean checkpoint is checked as well.
pub(super) fn remove(folder: &Path) {
    let _ = fs::remove_file(path(folder));
}

/// The first line, if the second is its checksum.
pub(super) fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at(end);
    let expected = format!("\n{:08x}\n", crc32fast::hash(line));
    (rest == expected.as_bytes()).then_some(line)
}

#[cfg(test)]
pub(super) fn example() -> Checkpoint {
    Checkpoint {
        format: FORMAT,
        store: u64::MAX,
        seal: 3,
        segment: 2,
        offset: 4711,
        next_seq: 99,
        clean: true,
        records: [("answers-v1".to_owned(), 7)].into(),
        unfinished: Vec::new(),
        runs: BTreeMap::new(),
        spending: Some(Spending::default()),
        keys: Some("ab".repeat(32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was_and_replaces_an_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), Found::Absent);
        example().write(folder.path()).unwrap();
        let later = Checkpoint { seal: 4, ..example() };
        later.write(folder.path()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Found::Good(Box::new(later)));
        remove(folder.path());
        assert_eq!(read(folder.path()).unwrap(), Found::Absent);
    }

    #[test]
    fn any_flipped_bit_and_any_missing_byte_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        example().write(folder.path()).unwrap();
        let good = fs::read(path(folder.path())).unwrap();
        for at in 0..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << (at % 8);
            for bad in [&flipped, &good[..at]] {
                fs::write(path(folder.path()), bad).unwrap();
                assert!(
                    matches!(read(folder.path()).unwrap(), Found::Damaged(_)),
                    "byte {at}"
                );
            }
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let folder = tempfile::tempdir().unwrap();
        let line = r#"{"format":3,"something":"else"}"#;
        let text = format!("{line}\n{:08x}\n", crc32fast::hash(line.as_bytes()));
        fs::write(path(folder.path()), text).unwrap();
        let error = read(folder.path()).unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::Newer {
                    found: 3,
                    known: 2,
                    ..
                }
            ),
            "{error}"
        );
    }
}
