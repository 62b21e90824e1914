//! Copies the journal of a cache that another process holds, as far as it is written, so that it can be
//! read elsewhere. The holder is not waited for and nothing of it is locked or changed: files of the
//! journal are only ever added to, and what is not whole at the end is cut off by whoever opens the copy.

use std::fs;
use std::path::Path;

use crate::store::StoreError;
use crate::store::changeover;
use crate::store::open::JOURNAL;
use crate::store::segment::{self, Segment};

/// Copies the journal of the cache folder `cache` into the cache folder `into`, which must be empty.
/// Returns `false` if the journal was written anew meanwhile, as `cache gc` does.
///
/// # Errors
/// If a file cannot be read or written.
pub fn copy_journal(cache: &Path, into: &Path) -> Result<bool, StoreError> {
    let (from, to) = (cache.join(JOURNAL), into.join(JOURNAL));
    fs::create_dir_all(&to).map_err(|source| StoreError::io("make", &to, source))?;
    let before = in_force(&from)?;
    // The newest first: one that is copied before the next is begun may not be whole, and then what
    // stands in the next would follow a gap.
    for segment in before.iter().rev() {
        let copy = segment::path(&to, segment.number);
        match fs::copy(&segment.path, &copy) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(StoreError::io("copy", &segment.path, source)),
        }
    }
    changeover::copy(&from, &to)?;
    let after = in_force(&from)?;
    let numbers = |segments: &[Segment]| segments.iter().map(|s| s.number).collect::<Vec<_>>();
    Ok(numbers(&after).starts_with(&numbers(&before)))
}

/// The files of the journal that hold.
fn in_force(journal: &Path) -> Result<Vec<Segment>, StoreError> {
    let first = changeover::first(journal);
    let mut segments = segment::list(journal)?;
    segments.retain(|segment| segment.number >= first);
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Entry, LocalStore, Safety, Store, samples};

    fn keep(store: &LocalStore, entries: &[Entry]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (done, kept) = crate::store::Done::wait();
            store.append(entries, Safety::Durable, done);
            kept.await.unwrap();
        });
    }

    #[test]
    fn what_is_written_is_read_while_another_holds_the_cache_and_writes_on() {
        let (cache, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (held, _) = LocalStore::open(cache.path(), |_| {}).unwrap();
        keep(&held, &[samples::answer(1), samples::answer(2)]);
        assert!(LocalStore::open(cache.path(), |_| {}).is_err(), "it is held");
        assert!(copy_journal(cache.path(), copy.path()).unwrap());
        // Half an entry, as a copy may end with.
        let path = segment::path(&copy.path().join(JOURNAL), 1);
        let whole = fs::metadata(&path).unwrap().len();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(whole - 3).unwrap();
        drop(file);
        let (read, _) = LocalStore::open(copy.path(), |_| {}).unwrap();
        assert_eq!(read.answers(&samples::key(1)).unwrap().len(), 1);
        assert_eq!(read.answers(&samples::key(2)).unwrap().len(), 0);
        keep(&held, &[samples::answer(3)]);
        assert_eq!(held.answers(&samples::key(2)).unwrap().len(), 1);
        assert_eq!(held.answers(&samples::key(3)).unwrap().len(), 1);
    }
}
