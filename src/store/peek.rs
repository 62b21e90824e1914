//! Copies the journal of a cache that another process holds, as far as it is written, so that it can be
//! read elsewhere. The holder is not waited for and nothing of it is locked or changed: files of the
//! journal are only ever added to, and what is not whole at the end is cut off by whoever opens the copy.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::store::StoreError;
use crate::store::changeover::{self, Begin};
use crate::store::open::JOURNAL;
use crate::store::segment::{self, Segment};

/// So often a copy is tried: a journal that was written anew takes its place within milliseconds.
const TRIES: u32 = 20;

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(25);

/// Copies the journal of the cache folder `cache` into the cache folder `into`, which must be empty.
/// Returns `false` if the journal is being written anew, as `cache gc` does, and was not ready within
/// half a second.
///
/// # Errors
/// If a file cannot be read or written.
pub fn copy_journal(cache: &Path, into: &Path) -> Result<bool, StoreError> {
    let (from, to) = (cache.join(JOURNAL), into.join(JOURNAL));
    for again in 0..TRIES {
        if again > 0 {
            fs::remove_dir_all(&to).map_err(|source| StoreError::io("remove", &to, source))?;
            std::thread::sleep(AGAIN);
        }
        fs::create_dir_all(&to).map_err(|source| StoreError::io("make", &to, source))?;
        if copy_once(&from, &to)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns `false` if what it copied may be of two journals, or a part of one.
fn copy_once(from: &Path, to: &Path) -> Result<bool, StoreError> {
    let begin = changeover::read(from);
    let before = in_force(from)?;
    if begin.is_some_and(|begin| is_half_there(from, begin, &before)) {
        return Ok(false);
    }
    // The newest first: one that is copied before the next is begun may not be whole, and then what
    // stands in the next would follow a gap.
    for segment in before.iter().rev() {
        let copy = segment::path(to, segment.number);
        match copy_content(&segment.path, &copy) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(StoreError::io("copy", &segment.path, source)),
        }
    }
    changeover::copy(from, to)?;
    let after = in_force(from)?;
    let numbers = |segments: &[Segment]| segments.iter().map(|s| s.number).collect::<Vec<_>>();
    Ok(changeover::read(from) == begin && numbers(&after).starts_with(&numbers(&before)))
}

/// Copies what is in a file, and not who may write to it: the copy is opened like any journal.
fn copy_content(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (fs::File::open(from)?, fs::File::create(to)?);
    io::copy(&mut from, &mut to).map(drop)
}

/// True between the moment in which a new journal is in force and the one in which all of its files
/// have their names. One that is nowhere was lost: waiting does not bring it back.
fn is_half_there(journal: &Path, begin: Begin, listed: &[Segment]) -> bool {
    (begin.first..=begin.last)
        .filter(|number| listed.iter().all(|segment| segment.number != *number))
        // In this order: it may get its name between the two.
        .any(|number| changeover::beside(journal, number).exists() || segment::path(journal, number).exists())
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
    fn a_journal_that_takes_its_place_is_waited_for() {
        let (cache, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (store, _) = LocalStore::open(cache.path(), |_| {}).unwrap();
        keep(&store, &[samples::answer(1), samples::answer(2)]);
        let settings = crate::store::Settings::default();
        let (store, _) = store.compact(&[1].into(), &settings, |_| {}).unwrap();
        // The moment in which it is in force, and has not got its name yet.
        let journal = cache.path().join(JOURNAL);
        let begin = changeover::read(&journal).unwrap();
        let (name, beside) = (
            segment::path(&journal, begin.first),
            changeover::beside(&journal, begin.first),
        );
        fs::rename(&name, &beside).unwrap();
        assert!(
            !copy_journal(cache.path(), copy.path()).unwrap(),
            "not a half of it"
        );
        fs::rename(&beside, &name).unwrap();
        assert!(copy_journal(cache.path(), copy.path()).unwrap());
        let (read, _) = LocalStore::open(copy.path(), |_| {}).unwrap();
        assert_eq!(read.answers(&samples::key(2)).unwrap().len(), 1);
        store.close().unwrap();
    }

    #[test]
    fn a_journal_that_nobody_may_write_to_is_copied_as_one_that_can_be() {
        let (cache, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (store, _) = LocalStore::open(cache.path(), |_| {}).unwrap();
        keep(&store, &[samples::answer(1)]);
        store.close().unwrap();
        let path = |cache: &Path| segment::path(&cache.join(JOURNAL), 1);
        let mut closed = fs::metadata(path(cache.path())).unwrap().permissions();
        closed.set_readonly(true);
        fs::set_permissions(path(cache.path()), closed).unwrap();
        assert!(copy_journal(cache.path(), copy.path()).unwrap());
        assert!(!fs::metadata(path(copy.path())).unwrap().permissions().readonly());
        let (read, _) = LocalStore::open(copy.path(), |_| {}).unwrap();
        assert_eq!(read.answers(&samples::key(1)).unwrap().len(), 1);
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
