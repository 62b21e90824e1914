//! The writing side of the journal: appends to the newest segment, syncs it, begins the next one,
//! and cuts back what could not be written. It does not know what it writes or who waits for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::store::StoreError;
use crate::store::disk::{Disk, DiskFile};
use crate::store::segment::{self, Position, Segment};

/// The journal, open for writing at its end.
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// A segment that has reached this many bytes is not appended to any more.
    segment_bytes: u64,
    file: Box<dyn DiskFile>,
    path: PathBuf,
    end: Position,
    /// True while a power cut could lose something.
    unsynced: bool,
    /// True once its file was not as long as what was written: somebody else has changed it.
    disturbed: bool,
}

impl Journal {
    /// Begins a new segment. The folder exists.
    ///
    /// # Errors
    /// If the file cannot be made durable.
    pub(super) fn create(
        disk: Arc<dyn Disk>,
        folder: &Path,
        number: u32,
        segment_bytes: u64,
    ) -> Result<Self, StoreError> {
        let path = segment::path(folder, number);
        let file = begin(&*disk, folder, &path).map_err(|source| StoreError::io("create", &path, source))?;
        Ok(Self {
            disk,
            folder: folder.to_owned(),
            segment_bytes,
            file,
            path,
            end: Position::start_of(number),
            unsynced: false,
            disturbed: false,
        })
    }

    /// Goes on in a segment that exists, at byte `end`; what lies behind it is cut off.
    ///
    /// # Errors
    /// If the file cannot be opened, cut and synced.
    pub(super) fn resume(
        disk: Arc<dyn Disk>,
        folder: &Path,
        segment: &Segment,
        end: u64,
        segment_bytes: u64,
    ) -> Result<Self, StoreError> {
        let path = segment.path.clone();
        let file =
            reopen(&*disk, folder, segment, end).map_err(|source| StoreError::io("open", &path, source))?;
        let end = Position {
            segment: segment.number,
            offset: end.max(segment::HEADER as u64),
        };
        Ok(Self {
            disk,
            folder: folder.to_owned(),
            segment_bytes,
            file,
            path,
            end,
            unsynced: false,
            disturbed: false,
        })
    }

    /// The first byte that is not written yet.
    pub(super) fn end(&self) -> Position {
        self.end
    }

    /// True if somebody else has changed what was written: what it lost only the trees have.
    pub(super) fn is_disturbed(&self) -> bool {
        self.disturbed
    }

    /// Appends whole frames, in a new segment if this one is full.
    ///
    /// # Errors
    /// If they are not all written. None of them is there then, unless cutting back failed too;
    /// the journal must not be written to any more.
    pub(super) fn append(&mut self, frames: &[u8]) -> Result<(), StoreError> {
        let len = frames.len() as u64;
        let begun = self.end.offset > segment::HEADER as u64;
        if begun && self.end.offset + len > self.segment_bytes {
            self.roll()?;
        }
        self.disturbed |= self.file.length().is_ok_and(|len| len != self.end.offset);
        if let Err(source) = self.file.append(frames) {
            self.cut_back();
            return Err(StoreError::io("write", &self.path, source));
        }
        self.end.offset += len;
        self.unsynced = true;
        Ok(())
    }

    /// Returns when everything that was appended would survive a power cut.
    ///
    /// # Errors
    /// If that is not so. Nothing is known of what was appended since the last sync; the journal
    /// must not be written to any more.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        if self.unsynced {
            self.file
                .sync()
                .map_err(|source| StoreError::io("sync", &self.path, source))?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Takes the last `len` bytes off again: they could not be synced.
    pub(super) fn take_back(&mut self, len: usize) {
        self.end.offset -= len as u64;
        self.cut_back();
    }

    /// A failure here is not reported: there was one before it, which was, and the next open cuts
    /// what is left.
    fn cut_back(&mut self) {
        let _ = self.file.cut(self.end.offset);
        let _ = self.file.sync();
    }

    fn roll(&mut self) -> Result<(), StoreError> {
        // A later sync reaches the new file only.
        self.sync()?;
        let number = self.end.segment + 1;
        let next = Self::create(self.disk.clone(), &self.folder, number, self.segment_bytes)?;
        *self = Self {
            disturbed: self.disturbed,
            ..next
        };
        Ok(())
    }
}

/// Creates a segment's file, durable with its name before anything counts on it.
fn begin(disk: &dyn Disk, folder: &Path, path: &Path) -> io::Result<Box<dyn DiskFile>> {
    let mut file = disk.create(path)?;
    file.append(&segment::header())?;
    file.sync()?;
    disk.sync_folder(folder)?;
    Ok(file)
}

fn reopen(disk: &dyn Disk, folder: &Path, segment: &Segment, end: u64) -> io::Result<Box<dyn DiskFile>> {
    let mut file = disk.open(&segment.path)?;
    if end < segment.len {
        file.cut(end)?;
    }
    if end < segment::HEADER as u64 {
        // A crash in the middle of `begin`.
        file.cut(0)?;
        file.append(&segment::header())?;
    }
    // Also where nothing was cut: a process that was killed may have written what it never
    // synced, and from now on it is served.
    file.sync()?;
    disk.sync_folder(folder)?;
    Ok(file)
}
