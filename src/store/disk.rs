//! The file operations of the journal's writing side, and nothing else of a file system. They are
//! a trait so that tests can let the n-th one fail, stop half way, or be watched.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use crate::wording::DELETED;

/// Makes and opens the files of the journal.
pub trait Disk: Send + Sync {
    /// Creates a file that does not exist yet.
    ///
    /// # Errors
    /// The operating system's.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens an existing file to append to it.
    ///
    /// # Errors
    /// The operating system's.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, in place of a file that has it.
    ///
    /// # Errors
    /// The operating system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The operating system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// The operating system's.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// A file that grows at its end.
pub trait DiskFile: Send {
    /// Writes all of `bytes` behind the end. After an error, any part of them may be there.
    ///
    /// # Errors
    /// The operating system's.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns when what was written would survive a power cut.
    ///
    /// # Errors
    /// The operating system's. What was written since the last sync may or may not be there then.
    fn sync(&mut self) -> io::Result<()>;

    /// How long the file is.
    ///
    /// # Errors
    /// The operating system's.
    fn length(&self) -> io::Result<u64>;

    /// Cuts the file to `len` bytes; the next append starts there.
    ///
    /// # Errors
    /// The operating system's.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

/// An error if a file has no name any more: what is written to it is gone when it is closed.
fn demand_a_name(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) == 0 {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{DELETED}, and what it held is lost"),
        ));
    }
    // Windows does not delete what is open.
    let _ = file;
    Ok(())
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(
            OpenOptions::new().write(true).create_new(true).open(path)?,
        ))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        // Not in append mode: Windows does not let such a handle cut the file.
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        sync_folder(path)
    }
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()?;
        demand_a_name(self)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)?;
        self.seek(SeekFrom::Start(len)).map(drop)
    }
}

/// Makes the names in a folder durable.
///
/// # Errors
/// The operating system's.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(path)?.sync_all()
    } else {
        // Windows has no handle to sync for this: NTFS journals names itself, in order.
        fs::metadata(path).map(drop)
    }
}
