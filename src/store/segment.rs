//! One file of the journal: its name, its header, and how frames and damage are told apart in its
//! bytes. It does not know what order files are read in or what is done about damage.

use std::fs;
use std::path::{Path, PathBuf};

use crate::call::Key;
use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::frame::{self, Flaw, Frame};

/// The format of the journal as a whole. An older septet refuses a newer one.
///
/// The journal is what was paid for, so a change of any format reads or migrates what is there,
/// and never asks for it to be deleted:
/// - A new field of an entry, or a new kind of entry, is no new format. A field has a default for
///   the entries that lack it; a kind that an older septet does not know is named by it as
///   unreadable and left in its place.
/// - What an older reader would misread is a new number here (whole files) or in
///   [`frame::VERSION`] (single entries). The old reader stays beside the new one, and both kinds
///   of files or frames may lie in one journal: nothing is rewritten for it.
/// - The trees are built from the journal. Another meaning of their keys or values is another
///   name in `Shelf::tree`, and of their checkpoint another `checkpoint::FORMAT`; they are
///   then built again.
/// - A journal and an export of each format that ever was lie in `fixtures/`, and
///   `formats.rs` holds every later septet to them.
pub(super) const FORMAT: u32 = 1;

/// The length of a file's header: mark, format, crc32 of both.
pub(super) const HEADER: usize = 16;

const MARK: [u8; 8] = *b"septetJ\n";

/// A place in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The number of the file: 1 is `00000001.log`.
    pub segment: u32,
    /// Bytes from its start.
    pub offset: u64,
}

impl Position {
    /// Where the first entry of a segment stands.
    pub(super) fn start_of(segment: u32) -> Self {
        let offset = HEADER as u64;
        Self { segment, offset }
    }
}

/// A file of the journal that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) path: PathBuf,
    /// In bytes, header included.
    pub(super) len: u64,
}

impl Segment {
    /// The first byte behind it.
    pub(super) fn end(&self) -> Position {
        Position {
            segment: self.number,
            offset: self.len,
        }
    }
}

/// Where the segment of this number lies.
pub(super) fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:08}.log"))
}

/// The segments in a folder by number; an absent folder has none. Other files are no concern of
/// the journal.
///
/// # Errors
/// If the folder cannot be read.
pub(super) fn list(folder: &Path) -> Result<Vec<Segment>, StoreError> {
    let failed = |source| StoreError::io("read", folder, source);
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut segments = Vec::new();
    for file in files {
        let file = file.map_err(failed)?;
        if let Some(number) = file.file_name().to_str().and_then(number) {
            let len = file.metadata().map_err(failed)?.len();
            let path = file.path();
            segments.push(Segment { number, path, len });
        }
    }
    segments.sort_by_key(|segment| segment.number);
    Ok(segments)
}

/// The number in the name of a segment, if it is one.
pub(super) fn number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".log")?;
    let written = digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| written && *number > 0)
}

/// The header of a new segment.
pub(super) fn header() -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(&MARK);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Checks the header at the start of a segment's bytes: true if it is right, false if it is
/// damaged or not all there.
///
/// # Errors
/// [`StoreError::Newer`] for a right header of a newer format.
pub(super) fn check_header(path: &Path, bytes: &[u8]) -> Result<bool, StoreError> {
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        return Ok(false);
    };
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if header[..8] != MARK || crc32fast::hash(&header[..12]) != number(12) {
        return Ok(false);
    }
    match number(8) {
        found if found > FORMAT => Err(newer(path, found)),
        _ => Ok(true),
    }
}

/// The error for a file that only a newer septet can read.
pub(super) fn newer(path: &Path, found: u32) -> StoreError {
    StoreError::Newer {
        path: path.to_owned(),
        found,
        known: FORMAT,
    }
}

/// What stands at a place in a segment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    /// A frame that is intact as far as its checksums tell.
    Frame {
        frame: Frame<'a>,
        /// The frame as it lies there.
        bytes: &'a [u8],
    },
    /// Bytes that are no frame, up to the next one or the end.
    Damage {
        /// How many.
        len: usize,
        /// The answer that stood there, where the header still tells.
        key: Option<Key>,
    },
    /// A frame that a newer septet wrote.
    Newer {
        /// The version of its layout.
        version: u8,
    },
}

/// Says what stands at byte `at`, and where to go on; `None` at the end.
pub(super) fn scan(bytes: &[u8], at: usize) -> Option<(Found<'_>, usize)> {
    let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
    let key = match frame::parse(rest) {
        Ok((frame, len)) => {
            let bytes = &rest[..len];
            return Some((Found::Frame { frame, bytes }, at + len));
        }
        Err(Flaw::Newer { version }) => return Some((Found::Newer { version }, bytes.len())),
        Err(Flaw::Payload { key }) => key,
        Err(Flaw::Header) => None,
    };
    // Also inside of what the damaged frame claims as its own: its bytes may have gone missing.
    let next = frame::find(bytes, at + 1).unwrap_or(bytes.len());
    let len = next - at;
    Some((Found::Damage { len, key }, next))
}

#[cfg(test)]
mod tests;
