//! Writes a file whole or not at all, and only if it changes (design, rule 5). It does not know
//! what it writes.
#![expect(
    clippy::disallowed_methods,
    reason = "the one place where files of the project are written"
)]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{FileError, Project, Refusal, stays_inside};

/// What became of a file that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It holds the new content, durably.
    Written,
    /// It held that content already and was not touched.
    Unchanged,
}

impl Project {
    /// Writes a file of the project: to a temporary file beside it, synced, then renamed over it.
    /// Folders on the way are made. Whoever reads the path sees the old content or the new. Two
    /// writers of one path at once may fail; the lock of the cache keeps them apart.
    ///
    /// # Errors
    /// If it cannot be written; the file is as it was then. If the path leaves the project, as it
    /// is written or through a symlink.
    pub fn write(&self, path: &str, content: &[u8]) -> Result<Written, FileError> {
        self.write_to(path, content).map_err(|refusal| match refusal {
            Refusal::Io(error) => FileError::io("write", path, &error),
            refusal => FileError::refused(path, refusal),
        })
    }

    /// Removes a file of the project that holds just this.
    ///
    /// # Errors
    /// If it cannot be read or removed, or the path leaves the project.
    pub fn remove_same(&self, path: &str, content: &[u8]) -> Result<(), FileError> {
        let remove = || -> Result<(), Refusal> {
            let target = self.target(Path::new(path))?;
            if holds(&target, content)? {
                fs::remove_file(&target)?;
            }
            Ok(())
        };
        remove().map_err(|refusal| match refusal {
            Refusal::Io(error) => FileError::io("remove", path, &error),
            refusal => FileError::refused(path, refusal),
        })
    }

    fn write_to(&self, path: &str, content: &[u8]) -> Result<Written, Refusal> {
        let target = self.target(Path::new(path))?;
        if holds(&target, content)? {
            return Ok(Written::Unchanged);
        }
        let folder = target.parent().ok_or(Refusal::NoFile)?;
        let mut file = temporary(&target, folder)?;
        file.as_file_mut().write_all(content)?;
        if let Ok(old) = fs::metadata(&target) {
            file.as_file().set_permissions(old.permissions())?;
        }
        file.as_file().sync_all()?;
        file.persist(&target).map_err(|error| error.error)?;
        sync_folder(folder)?;
        Ok(Written::Written)
    }

    /// Where the file really goes, with its folder made.
    fn target(&self, path: &Path) -> Result<PathBuf, Refusal> {
        let name = path
            .file_name()
            .filter(|_| stays_inside(path))
            .ok_or(Refusal::LeadsOut)?;
        let folder = self.real.join(path.parent().unwrap_or(Path::new("")));
        self.make_folder(&folder)?;
        let target = self.real_path(&folder, &self.real)?.join(name);
        match fs::symlink_metadata(&target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(target),
            Err(error) => Err(error.into()),
            Ok(meta) if meta.is_dir() => Err(Refusal::NoFile),
            // The file that it leads to is replaced, so that the symlink stays one.
            Ok(meta) if meta.is_symlink() => self.real_path(&target, &self.real),
            Ok(_) => Ok(target),
        }
    }

    /// Makes a folder and those above it, durably; nothing is made outside of the project.
    fn make_folder(&self, folder: &Path) -> Result<(), Refusal> {
        let existing = folder
            .ancestors()
            .find(|folder| fs::symlink_metadata(folder).is_ok());
        let existing = existing.unwrap_or(&self.real);
        let real = self.real_path(existing, &self.real)?;
        if existing != folder {
            fs::create_dir_all(folder)?;
            let made = folder
                .ancestors()
                .skip(1)
                .take_while(|above| above.starts_with(existing));
            made.chain([real.as_path()]).try_for_each(sync_folder)?;
        }
        Ok(())
    }
}

/// True if the file is there and holds just that.
fn holds(file: &Path, content: &[u8]) -> io::Result<bool> {
    match fs::metadata(file) {
        Ok(meta) if !meta.is_file() || meta.len() != content.len() as u64 => Ok(false),
        Ok(_) => Ok(fs::read(file)? == content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// An empty file in a folder, which goes away unless it is renamed.
fn temporary(target: &Path, folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    // Always the same name for one target: what a killed process left is replaced by the next one,
    // which has the same file to write.
    let path = folder.join(format!(".{name}.septet-tmp"));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Not by `tempfile`: its errors name the path, which nobody knows, and its files are their owner's
    // alone, where a transcript is an ordinary one.
    let file = fs::File::create_new(&path)?;
    Ok(tempfile::NamedTempFile::from_parts(
        file,
        tempfile::TempPath::try_from_path(path)?,
    ))
}

/// Makes the names in a folder durable: after a rename only the file's content is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// Windows has no such call: NTFS keeps names in a journal of its own.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
