//! sled's file: how it is opened and synced, and what sled's errors say of it. Knows nothing of what is in it.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use sled::Db;

/// What sled may use for its cache, in bytes. It takes this as a hint. Of keys that are hashes a cache holds
/// few that are asked for next: with 64 MB a run of 52,500 personas takes 256 MB instead of 209, and no less time.
const CACHE_BYTES: u64 = 32 << 20;

/// How long sled's own lock may be held by what is left of an earlier use.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// The unit in which sled writes. A larger one makes every open of a small store slower (64
/// answers: 4 ms at 4 MiB, 50 ms at 16 MiB), a smaller one makes it write more blobs. It cannot
/// be changed once a store exists.
const SEGMENT_BYTES: usize = 4 << 20;

/// Opens sled, and waits a moment for its lock. No other process has it (the cache's own lock is
/// held), but this one may: sled closes behind the back of whoever drops it, and a child process that
/// is being started holds what its parent held until it runs.
pub(super) fn open_unlocked(folder: &Path) -> sled::Result<Db> {
    let config = config(folder);
    let begun = Instant::now();
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if is_lock(&error) && begun.elapsed() < LOCK_PATIENCE => {
                thread::sleep(Duration::from_millis(20));
            }
            opened => return opened,
        }
    }
}

/// How sled is opened.
pub(super) fn config(folder: &Path) -> sled::Config {
    sled::Config::default()
        .path(folder)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None)
}

/// True if the file is still locked, which sled says in words only.
pub(super) fn is_lock(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

/// Syncs sled's file through a handle of our own: its `flush` asks Linux to begin writing and does
/// not wait for the disk. `blobs/` should be empty; were it not, sled would need those too.
pub(super) fn sync_files(folder: &Path) -> io::Result<()> {
    let sync = |path: &Path| OpenOptions::new().write(true).open(path)?.sync_data();
    sync(&folder.join("db"))?;
    for blob in fs::read_dir(folder.join("blobs"))? {
        sync(&blob?.path())?;
    }
    Ok(())
}

/// What sled says, without its debugging aids.
pub(super) fn words(error: &sled::Error) -> String {
    match error {
        // sled's words for it are those for programmers.
        sled::Error::Io(error) => error.to_string(),
        other => other.to_string().replace(" backtrace ()", ""),
    }
}

/// True for errors after which what lies on the disk is as good as before.
pub(super) fn is_no_fault_of_sled(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::*;
    matches!(
        kind,
        StorageFull | QuotaExceeded | FileTooLarge | PermissionDenied | ReadOnlyFilesystem
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_in_the_systems_words() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let words = words(&sled::Error::Io(io::Error::from_raw_os_error(28)));
        assert!(!words.contains('{') && !words.contains("code:"), "{words}");
        assert_eq!(super::words(&sled::Error::Io(full)), "no storage space");
    }
}
