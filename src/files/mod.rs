//! The files of a project: reads the pipeline, its templates and personas, writes a file whole or
//! not at all, and follows no symlink out of the project. It does not know what is in them. All
//! of it blocks.

mod error;
mod fingerprint;
mod mounted;
mod personas;
mod templates;
#[cfg(test)]
mod tests;
pub mod watch;
mod write;

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

pub use error::FileError;
pub use fingerprint::{Fingerprint, Fingerprints};
pub use mounted::network;
pub use personas::Listed;
pub use write::Written;

/// The most bytes of a pipeline or template: more is a mistake.
const LARGEST_TEXT: usize = 16 * 1024 * 1024;

/// The most room that is made for a file before it is read, in bytes: its size is only what it says.
const ROOM: usize = 1 << 20;

/// The folder of a `pipeline.toml`.
#[derive(Clone, Debug)]
pub struct Project {
    folder: PathBuf,
    /// The same, absolute and without symlinks: what "in the project" is measured by.
    real: PathBuf,
}

/// Why something is not read.
enum Refusal {
    /// The path leads out of the project, as it is written or through a symlink.
    LeadsOut,
    /// More bytes than are allowed.
    TooLarge,
    /// A folder, a device, a pipe.
    NoFile,
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Project {
    /// Opens the project in a folder, which need not hold anything yet.
    ///
    /// # Errors
    /// If there is no such folder.
    pub fn open(folder: &Path) -> Result<Self, FileError> {
        let shown = folder.display().to_string();
        let real = fs::canonicalize(folder).map_err(|error| FileError::io("open", &shown, &error))?;
        if !real.is_dir() {
            return Err(FileError::new(&shown, format!("`{shown}` is not a folder")));
        }
        Ok(Self {
            folder: folder.to_owned(),
            real,
        })
    }

    /// The folder, as it was given.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads a text of the project: `pipeline.toml`.
    ///
    /// # Errors
    /// If it cannot be read or is not UTF-8.
    pub fn text(&self, path: &str) -> Result<String, FileError> {
        let bytes = self.bytes_in(path, &self.real, LARGEST_TEXT);
        let bytes = bytes.map_err(|refusal| FileError::refused(path, refusal))?;
        String::from_utf8(bytes).map_err(|error| FileError::not_utf8(path, error.as_bytes()))
    }

    /// Reads a file of the project that was written before, such as a transcript. `None` if there
    /// is none.
    ///
    /// # Errors
    /// If it is there and cannot be read, or a symlink on the way leads out of the project.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FileError> {
        match self.bytes_in(path, &self.real, usize::MAX) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Refusal::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(refusal) => Err(FileError::refused(path, refusal)),
        }
    }

    /// Reads a file that lies, symlinks followed, in the project or in `within`.
    fn bytes_in(&self, path: impl AsRef<Path>, within: &Path, most: usize) -> Result<Vec<u8>, Refusal> {
        self.looked_at(path, within, most).map(|(bytes, _)| bytes)
    }

    /// The same, and how the file looked before it was read.
    fn looked_at(
        &self,
        path: impl AsRef<Path>,
        within: &Path,
        most: usize,
    ) -> Result<(Vec<u8>, Metadata), Refusal> {
        let real = self.real_path(path, within)?;
        // Opening a pipe would wait for somebody to write into it.
        let meta = fs::metadata(&real)?;
        if !meta.is_file() {
            return Err(Refusal::NoFile);
        }
        let expected = usize::try_from(meta.len()).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(expected.min(most).min(ROOM) + 1);
        let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        File::open(real)?.take(limit).read_to_end(&mut bytes)?;
        if bytes.len() > most {
            Err(Refusal::TooLarge)
        } else {
            Ok((bytes, meta))
        }
    }

    /// The path, absolute and with no symlink on its way, if it lies in the project or in `within`.
    fn real_path(&self, path: impl AsRef<Path>, within: &Path) -> Result<PathBuf, Refusal> {
        let path = self.real.join(path);
        if is_real_below(within, &path)? || is_real_below(&self.real, &path)? {
            return Ok(path);
        }
        let real = fs::canonicalize(path)?;
        if real.starts_with(&self.real) || real.starts_with(within) {
            Ok(real)
        } else {
            Err(Refusal::LeadsOut)
        }
    }
}

/// True if a path leads from `folder`, which has no symlinks, down to where it says without any:
/// nearly every path does, and asking for each step below is cheaper than resolving all of it.
fn is_real_below(folder: &Path, path: &Path) -> io::Result<bool> {
    let Ok(rest) = path.strip_prefix(folder) else {
        return Ok(false);
    };
    let mut place = folder.to_owned();
    for part in rest.components() {
        let Component::Normal(part) = part else {
            return Ok(false);
        };
        place.push(part);
        if fs::symlink_metadata(&place)?.is_symlink() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// True for a path that, as it is written, stays where it begins: relative, without `..`.
fn stays_inside(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}
