use proptest::prelude::*;

use super::*;
use crate::store::frame::{encode, stamp};
use crate::store::samples;

fn frames(count: u64) -> Vec<Vec<u8>> {
    let frame = |seq| {
        let mut bytes = encode(&samples::answer(seq)).unwrap();
        stamp(&mut bytes, seq);
        bytes.to_vec()
    };
    (1..=count).map(frame).collect()
}

/// The numbers of the frames that are found, and the keys of what is damaged.
fn scanned(bytes: &[u8]) -> (Vec<u64>, Vec<Option<Key>>) {
    let (mut intact, mut damaged) = (Vec::new(), Vec::new());
    let (mut at, mut covered) = (0, 0);
    while let Some((found, next)) = scan(bytes, at) {
        match found {
            Found::Frame { frame, bytes } => {
                frame.entry().unwrap();
                intact.push(frame.seq);
                covered += bytes.len();
            }
            Found::Damage { len, key } => {
                damaged.push(key);
                covered += len;
            }
            Found::Newer { .. } => panic!("nothing is newer here"),
        }
        assert!(next > at);
        at = next;
    }
    assert_eq!(covered, bytes.len(), "every byte is one or the other");
    (intact, damaged)
}

#[test]
fn the_header_is_the_one_that_is_written_down() {
    let header = header();
    assert_eq!(header[..12], *b"septetJ\n\x01\0\0\0");
    assert_eq!(header[12..], crc32fast::hash(&header[..12]).to_le_bytes());
    assert!(check_header(Path::new("x"), &header).unwrap());
}

#[test]
fn a_damaged_header_is_told_from_a_newer_one() {
    let path = Path::new("00000001.log");
    for bit in 0..HEADER * 8 {
        let mut flipped = header();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!check_header(path, &flipped).unwrap(), "bit {bit}");
    }
    for len in 0..HEADER {
        assert!(!check_header(path, &header()[..len]).unwrap(), "{len} bytes");
    }
    let mut newer = header();
    newer[8] = 7;
    let crc = crc32fast::hash(&newer[..12]);
    newer[12..].copy_from_slice(&crc.to_le_bytes());
    let error = check_header(path, &newer).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the cache 00000001.log has format 7, this septet reads up to 1"
    );
}

#[test]
fn only_segments_are_listed_and_by_number() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "00000010.log",
        "00000002.log",
        "100000000.log",
        "00000000.log",
        "3.log",
        "0000000a.log",
        "00000004.log.bak",
        "notes.txt",
    ];
    for name in names {
        fs::write(folder.path().join(name), "12345").unwrap();
    }
    let listed: Vec<_> = list(folder.path())
        .unwrap()
        .into_iter()
        .map(|segment| (segment.number, segment.len))
        .collect();
    assert_eq!(listed, [(2, 5), (10, 5), (100_000_000, 5)]);
    assert_eq!(path(Path::new("j"), 42), Path::new("j").join("00000042.log"));
    assert_eq!(list(&folder.path().join("absent")).unwrap(), []);
}

#[test]
fn bytes_that_have_gone_missing_cost_what_they_hit() {
    let frames = frames(5);
    let mut bytes = frames.concat();
    // From the middle of the second to the middle of the third.
    let second = frames[0].len() + frames[1].len() / 2;
    let third = frames[0].len() + frames[1].len() + frames[2].len() / 2;
    bytes.drain(second..third);
    assert_eq!(scanned(&bytes), (vec![1, 4, 5], vec![Some(samples::key(2))]));
}

#[test]
fn neighbours_that_are_damaged_are_named_one_by_one() {
    let frames = frames(4);
    let mut bytes = frames.concat();
    let ends = [frames[0].len(), frames[0].len() + frames[1].len()];
    bytes[ends[0] - 1] ^= 1;
    bytes[ends[1] - 1] ^= 1;
    let damaged = vec![Some(samples::key(1)), Some(samples::key(2))];
    assert_eq!(scanned(&bytes), (vec![3, 4], damaged));
}

proptest! {
    #[test]
    fn a_flip_costs_the_frame_that_it_hits(at in any::<prop::sample::Index>(), bit in 0u32..8) {
        let frames = frames(6);
        let mut bytes = frames.concat();
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        let mut end = 0;
        let hit = 1 + frames.iter().take_while(|frame| { end += frame.len(); end <= at }).count() as u64;
        let (intact, damaged) = scanned(&bytes);
        prop_assert_eq!(intact, (1..=6).filter(|seq| *seq != hit).collect::<Vec<_>>());
        prop_assert_eq!(damaged.len(), 1);
        prop_assert!(damaged[0].is_none_or(|key| key == samples::key(hit)));
    }

    #[test]
    fn a_cut_costs_the_frame_that_it_hits_and_all_behind(len in any::<prop::sample::Index>()) {
        let frames = frames(6);
        let bytes = frames.concat();
        let len = len.index(bytes.len());
        let mut end = 0;
        let whole = frames.iter().take_while(|frame| { end += frame.len(); end <= len }).count() as u64;
        let (intact, damaged) = scanned(&bytes[..len]);
        prop_assert_eq!(intact, (1..=whole).collect::<Vec<_>>());
        prop_assert!(damaged.len() <= 1);
    }

    #[test]
    fn rubbish_between_frames_is_stepped_over(rubbish in prop::collection::vec(any::<u8>(), 1..300)) {
        let frames = frames(2);
        let bytes = [&frames[0][..], &rubbish, &frames[1]].concat();
        prop_assert_eq!(scanned(&bytes).0, vec![1, 2]);
    }
}
