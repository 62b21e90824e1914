use std::time::Duration;
use std::{fs, thread};

use super::*;
use crate::store::put::{Gist, Written};
use crate::store::record::Entry;
use crate::store::samples;

#[test]
fn a_long_value_with_a_part_missing_is_no_right_frame() {
    let folder = tempfile::tempdir().unwrap();
    let (shelves, _) = Shelves::open(folder.path(), None).unwrap();
    let entry = Entry::Answer(samples::record(1, &samples::prose(1, 600_000)));
    let mut frame = frame::encode(&entry).unwrap();
    frame::stamp(&mut frame, 7);
    let (gist, seq, frame) = (Gist::from(&entry), 7, frame);
    let written = Written::new(gist, seq, frame);
    shelves.put(&written.puts[0]).unwrap();
    assert!(shelves.parts.tree.len() > 3);
    let whole = || {
        let value = shelves.get(Shelf::Answers, samples::key(1).as_bytes()).unwrap();
        frame::parse_whole(&value.unwrap()).map(|frame| frame.seq)
    };
    assert_eq!(whole(), Ok(7));
    shelves.parts.tree.remove(part_key(7, 1)).unwrap();
    assert_eq!(whole(), Err("checksum does not match".to_owned()));
}

#[test]
fn a_lock_that_is_let_go_in_a_moment_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    drop(Shelves::open(folder.path(), None).unwrap());
    let file = fs::File::open(folder.path().join("db")).unwrap();
    file.lock().unwrap();
    thread::scope(|scope| {
        let opened = scope.spawn(|| Shelves::open(folder.path(), None).is_ok());
        thread::sleep(Duration::from_millis(100));
        assert!(!opened.is_finished());
        drop(file);
        assert!(opened.join().unwrap());
    });
}

#[test]
fn a_seal_comes_back_and_a_damaged_one_does_not() {
    let seal = Seal {
        store: u64::MAX - 1,
        number: 7,
    };
    let bytes = seal.bytes();
    assert_eq!(Seal::from_bytes(&bytes), Some(seal));
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        assert_eq!(Seal::from_bytes(&flipped), None);
        assert_eq!(Seal::from_bytes(&bytes[..at]), None);
    }
}
