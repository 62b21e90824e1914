//! The file beside the trees that keeps their filters over a clean end. A filter that lacked a key
//! would let an answer that was paid for be paid again, so one is believed only where the checkpoint
//! that was written behind it, at a clean end, names its hash. It does not know what keys mean.
//!
//! Why no stale one is believed, whatever was put after it was written:
//! - A checkpoint that names one says `clean`. Whoever opens the trees replaces it by one that does not,
//!   and that names none, before anything is put (`open`, `replay`); so does each checkpoint while they are open.
//!   A process that is killed leaves such a one, and the next open makes the filters anew while it counts.
//! - A septet that knows nothing of this file writes checkpoints that name none, also at its clean end.
//! - A file of another moment, of other trees, damaged or torn has another hash. So it needs no sync and
//!   no renaming into place: what a power cut leaves of it is none.
//! - Trees with another seal than the checkpoint's were put into since, or are others.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::store::checkpoint::Checkpoint;
use crate::store::filter::Filter;

/// What the file begins with, and the number of its format. It is one of a format that is not known
/// here: as good as none.
const MARK: [u8; 12] = *b"septetK\n\x01\0\0\0";

/// The file's name.
pub(super) const NAME: &str = "keys.filter";

/// Filters by the names of their trees.
pub(super) type Filters = BTreeMap<String, Filter>;

/// Where the filters of the trees in `folder` lie.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// The bytes of a file with these filters: for each the length of its tree's name, the name, and itself.
pub(super) fn encode<'a>(filters: impl Iterator<Item = (&'a str, &'a Filter)>) -> Vec<u8> {
    let mut bytes = MARK.to_vec();
    for (name, filter) in filters {
        bytes.push(u8::try_from(name.len()).expect("BUG: names of trees are short"));
        bytes.extend(name.as_bytes());
        filter.encode(&mut bytes);
    }
    bytes
}

/// Writes a file, and returns the name for a checkpoint that vouches for it. `None` if it cannot be
/// written: then there is none.
pub(super) fn write(folder: &Path, bytes: &[u8]) -> Option<String> {
    fs::write(path(folder), bytes).ok().map(|()| name(bytes))
}

/// The filters that a checkpoint vouches for, which are those of the trees if they have its seal. None
/// where it names none, or another one than is there.
pub(super) fn read(folder: &Path, checkpoint: &Checkpoint) -> Filters {
    let named = checkpoint.keys.as_ref().filter(|_| checkpoint.clean);
    let read = named.and_then(|named| {
        let bytes = fs::read(path(folder)).ok()?;
        (name(&bytes) == *named).then(|| decode(&bytes))?
    });
    read.unwrap_or_default()
}

fn decode(bytes: &[u8]) -> Option<Filters> {
    let mut bytes = bytes.strip_prefix(&MARK)?;
    let mut filters = Filters::new();
    while let Some((len, rest)) = bytes.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(*len))?;
        bytes = rest;
        let filter = Filter::decode(&mut bytes)?;
        filters.insert(String::from_utf8(name.to_vec()).ok()?, filter);
    }
    Some(filters)
}

fn name(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::checkpoint;

    fn filter(keys: &[&[u8]]) -> Filter {
        let filter = Filter::default();
        keys.iter().for_each(|key| filter.note(key));
        filter
    }

    fn two() -> Vec<u8> {
        let (one, other) = (filter(&[b"a", b"b"]), filter(&[]));
        encode([("answers-v1", &one), ("notes-v1", &other)].into_iter())
    }

    /// One of a clean end, that vouches for a file.
    fn vouching(keys: Option<String>) -> Checkpoint {
        Checkpoint {
            clean: true,
            keys,
            ..checkpoint::example()
        }
    }

    #[test]
    fn filters_come_back_by_the_names_of_their_trees() {
        let folder = tempfile::tempdir().unwrap();
        let name = write(folder.path(), &two());
        assert!(name.is_some());
        let filters = read(folder.path(), &vouching(name));
        let names: Vec<_> = filters.keys().map(String::as_str).collect();
        assert_eq!(names, ["answers-v1", "notes-v1"]);
        let holds = |name: &str, key: &[u8]| filters[name].may_hold(key);
        assert!(holds("answers-v1", b"a") && holds("answers-v1", b"b"));
        assert!(!holds("answers-v1", b"c") && !holds("notes-v1", b"a"));
    }

    #[test]
    fn any_flipped_bit_and_any_missing_byte_makes_it_none() {
        let folder = tempfile::tempdir().unwrap();
        let good = two();
        let vouching = vouching(write(folder.path(), &good));
        for at in 0..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << (at % 8);
            for bad in [&flipped, &good[..at]] {
                fs::write(path(folder.path()), bad).unwrap();
                assert!(read(folder.path(), &vouching).is_empty(), "byte {at}");
            }
        }
        fs::remove_file(path(folder.path())).unwrap();
        assert!(read(folder.path(), &vouching).is_empty(), "it is gone");
    }

    #[test]
    fn one_that_nobody_vouches_for_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let name = write(folder.path(), &two());
        let unclean = Checkpoint {
            clean: false,
            ..vouching(name.clone())
        };
        for checkpoint in [unclean, vouching(None), vouching(Some("ab".repeat(32)))] {
            assert!(read(folder.path(), &checkpoint).is_empty(), "{checkpoint:?}");
        }
        assert!(!read(folder.path(), &vouching(name)).is_empty());
    }

    #[test]
    fn one_of_another_format_or_form_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let later = [b"septetK\n\x02\0\0\0", &two()[MARK.len()..]].concat();
        let longer = [&two()[..], b"\x05notes"].concat();
        for bytes in [later, longer, Vec::new(), MARK[..5].to_vec()] {
            let vouching = vouching(write(folder.path(), &bytes));
            assert!(read(folder.path(), &vouching).is_empty(), "{} bytes", bytes.len());
        }
    }
}
