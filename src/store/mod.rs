//! What was paid for, durable before it counts (design, rule 3). A synced journal is the book of
//! everything that is known; sled in front of it answers look-ups and can be rebuilt from it.
#![expect(
    clippy::disallowed_methods,
    reason = "the store is files, and threads that keep real time"
)]

mod attempts;
mod backlog;
mod changeover;
mod checkpoint;
mod codec;
mod counted;
mod died;
mod disk;
mod done;
#[cfg(test)]
mod faulty;
mod filler;
mod filter;
#[cfg(test)]
mod formats;
mod frame;
#[cfg(test)]
mod fuzz;
mod generations;
mod guard;
mod journal;
mod keep;
mod keys;
mod local;
mod lock;
mod looked;
mod memory;
mod mend;
mod notice;
mod open;
mod peek;
mod put;
mod queue;
mod reader;
mod receipts;
pub mod record;
mod replay;
mod salvage;
#[cfg(test)]
mod samples;
mod segment;
mod shelves;
mod sled_file;
mod source;
mod spending;
mod trees;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::call::{Delivery, Key};
use crate::names::{Instance, PersonaId};

pub use died::{DIED, Died};
pub use disk::{Disk, DiskFile, RealDisk};
pub use done::Done;
pub use keep::{
    Compacted, Conflict, ExportError, Exported, Held, ImportError, Imported, Problem, Repaired, Sum, Survey,
    Verified, Wrong, repair, verify,
};
pub use local::{LocalStore, Settings, Stats};
pub use looked::{Looked, Miss, Rejected};
pub use memory::MemoryStore;
pub use notice::{Notice, Phase, Progress};
pub use peek::copy_journal;
pub use reader::{Damage, Entries, Line, Logged};
pub use receipts::{Basis, Digest, Receipt, Receipts};
pub use record::{Entry, Record, Retirement, Sent, TranscriptNote};
pub use segment::Position;
pub use source::{LARGEST as LARGEST_SOURCE, Source, SourceId};
pub use spending::{Spending, Spent};

/// Holds answers by the key of their request. The local one is the journal with sled; tests use
/// one in memory, and a shared one over PostgreSQL has the same face.
#[async_trait]
pub trait Store: Send + Sync {
    /// Looks for the answer that serves `key` for `instance` within what bounds an answer now: its
    /// `max_output_tokens`, the checks of its node. Blocking, some ten microseconds.
    ///
    /// # Errors
    /// Only if the store as a whole does not work; one unreadable record is a [`Miss::Damaged`].
    fn look(&self, instance: &Instance, key: &Key, bounds: &Delivery) -> Result<Looked, StoreError>;

    /// What septet last wrote as the transcript of a persona.
    ///
    /// # Errors
    /// If the store does not work.
    fn transcript(&self, persona: &PersonaId) -> Result<Option<TranscriptNote>, StoreError>;

    /// True if a source is kept already. Blocking, some ten microseconds.
    ///
    /// # Errors
    /// If the store does not work.
    fn has_source(&self, id: &SourceId) -> Result<bool, StoreError>;

    /// A source; `None` if it was never kept.
    ///
    /// # Errors
    /// If the store does not work.
    fn source(&self, id: &SourceId) -> Result<Option<Source>, StoreError>;

    /// The calls that were made for an instance ([`Entry::Attempt`]) and how they ended where no
    /// answer came ([`Entry::Fault`]), oldest first.
    ///
    /// # Errors
    /// If the store does not work.
    fn calls(&self, instance: &Instance) -> Result<Vec<Placed<Entry>>, StoreError>;

    /// The good answers to a request, oldest first. Only the last one is served; the others were
    /// replaced, by `--refresh` for one. Damaged ones are left out.
    ///
    /// # Errors
    /// If the store does not work.
    fn answers(&self, key: &Key) -> Result<Vec<Placed<Record>>, StoreError>;

    /// The answers to a request that only a check of the node refused, oldest first: they came
    /// whole, and one that passes the checks of another day is served.
    ///
    /// # Errors
    /// If the store does not work.
    fn refused(&self, key: &Key) -> Result<Vec<Placed<Record>>, StoreError>;

    /// Appends entries in their order, and calls `done` once they are as safe as `safety` says:
    /// whoever looks after that finds them. `done` is called on a thread of the store, which waits
    /// for it: it must only hand on. It is told of an error if the entries cannot be made so safe;
    /// the run must end then, since the next answer would be lost too.
    fn append(&self, entries: &[Entry], safety: Safety, done: Done);

    /// Appends an entry and returns when it is durable.
    ///
    /// # Errors
    /// If it cannot be made durable. The run must end then: the next answer would be lost too.
    async fn keep(&self, entry: Entry) -> Result<(), StoreError> {
        let (done, told) = Done::wait();
        self.append(&[entry], Safety::Durable, done);
        told.await
    }

    /// Appends an entry and returns when it is written. It comes after every entry whose end was
    /// waited for, and may come before others.
    ///
    /// # Errors
    /// As for [`Store::keep`].
    async fn note(&self, entry: Entry) -> Result<(), StoreError> {
        let (done, told) = Done::wait();
        self.append(&[entry], Safety::Written, done);
        told.await
    }
}

/// Something with its place in the order of all entries.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed<T> {
    /// Counts up over the whole life of a store; numbers may be left out.
    pub seq: u64,
    /// What stands there.
    pub what: T,
}

/// What an entry survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// The end of the process, but not a power cut: handed to the operating system.
    Written,
    /// A power cut: synced.
    Durable,
}

/// A store that does not work, or cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("another process holds the cache {path}: {holder}")]
    Held {
        /// The folder.
        path: PathBuf,
        /// Who, as far as its lock file tells: `pid 4711, since 22:30:15`.
        holder: String,
    },
    /// Written by a newer septet.
    #[error("the cache {path} has format {found}, this septet reads up to {known}")]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that is known here.
        known: u32,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried: `write`, `sync`, `open`.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// sled failed in mid-run; the journal has everything.
    #[error("the look-up tree {path} failed: {message}")]
    Tree {
        /// Its folder.
        path: PathBuf,
        /// sled's words.
        message: String,
    },
    /// The journal and the trees do not have the same, so that what only the trees have would go with
    /// the journal that is to be written anew.
    #[error("{problem}{}: nothing was removed", and_others(*others))]
    Lost {
        /// The first thing that is wrong.
        problem: String,
        /// How many others there are.
        others: u64,
    },
    /// The writer has ended after an earlier error, which was reported then.
    #[error("the store has stopped after an earlier error")]
    Stopped,
}

impl StoreError {
    /// True where whoever runs septet may not write, or nobody can.
    pub fn is_read_only(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        matches!(self, StoreError::Io { source, .. } if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem))
    }

    fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Io { what, path, source }
    }

    /// The same error once more, for the next of those who wait for the same write.
    fn again(&self) -> Self {
        match self {
            StoreError::Io { what, path, source } => Self::io(what, path, same(source)),
            StoreError::Tree { path, message } => Self::Tree {
                path: path.clone(),
                message: message.clone(),
            },
            // Not met by those who wait for a write.
            StoreError::Held { .. }
            | StoreError::Newer { .. }
            | StoreError::Lost { .. }
            | StoreError::Stopped => Self::Stopped,
        }
    }
}

fn and_others(others: u64) -> String {
    match others {
        0 => String::new(),
        1 => " (and 1 other problem)".to_owned(),
        others => format!(" (and {others} other problems)"),
    }
}

fn same(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
