//! The lock of a cache folder: one process at a time. The file says who holds it, because the
//! operating system only says that someone does.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use crate::store::StoreError;

/// The name of the lock file in the cache folder.
pub(super) const NAME: &str = "lock";

/// Held as long as this value lives; also released when the process dies.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a cache folder, or says at once who has it.
    ///
    /// # Errors
    /// [`StoreError::Held`]; or if the file cannot be made.
    pub(super) fn take(cache: &Path) -> Result<Self, StoreError> {
        let path = cache.join(NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| StoreError::io("open", &path, source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Held {
                    path: cache.to_owned(),
                    holder: holder(&mut file),
                });
            }
            Err(TryLockError::Error(source)) => return Err(StoreError::io("lock", &path, source)),
        }
        sign(&mut file).map_err(|source| StoreError::io("write", &path, source))?;
        Ok(Self { _file: file })
    }
}

fn sign(file: &mut File) -> io::Result<()> {
    let since = jiff::ZonedDateTime::now()
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string();
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "pid {}, since {since}", std::process::id())
}

/// What the holder wrote. It may have written nothing yet, and Windows lets nobody read a locked
/// file.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(100).read_to_string(&mut text) {
        Ok(_) if text.starts_with("pid ") => text.lines().next().unwrap_or_default().to_owned(),
        _ => "it has not said which".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it_and_gets_it_when_the_first_lets_go() {
        let cache = tempfile::tempdir().unwrap();
        let first = Lock::take(cache.path()).unwrap();
        let Err(StoreError::Held { path, holder }) = Lock::take(cache.path()) else {
            panic!("two hold the same lock");
        };
        assert_eq!(path, cache.path());
        if !cfg!(windows) {
            let pid = format!("pid {}, since 20", std::process::id());
            assert!(holder.starts_with(&pid), "{holder}");
        }
        drop(first);
        Lock::take(cache.path()).unwrap();
    }

    #[test]
    fn what_an_earlier_holder_left_is_no_lock() {
        let cache = tempfile::tempdir().unwrap();
        std::fs::write(
            cache.path().join(NAME),
            "pid 1, since 2001-01-01 00:00:00 and more than the next one writes",
        )
        .unwrap();
        let _held = Lock::take(cache.path()).unwrap();
        let text = std::fs::read_to_string(cache.path().join(NAME)).unwrap_or_default();
        assert!(cfg!(windows) || !text.contains("more"), "{text}");
    }
}
