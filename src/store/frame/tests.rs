use proptest::prelude::*;

use super::*;
use crate::store::samples;

fn stamped(entry: &Entry, seq: u64) -> Vec<u8> {
    let mut bytes = encode(entry).unwrap();
    stamp(&mut bytes, seq);
    bytes.to_vec()
}

/// A frame whose header says what it likes, with a right checksum.
fn forged(bytes: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    change(&mut bytes);
    let crc = crc32fast::hash(&bytes[HEADER..]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32fast::hash(&bytes[8..HEADER]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn every_kind_of_entry_comes_back() {
    for (seq, entry) in samples::one_of_each().into_iter().enumerate() {
        let seq = seq as u64 + (1 << 40);
        let bytes = stamped(&entry, seq);
        let frame = parse_whole(&bytes).unwrap();
        assert_eq!(frame.seq, seq);
        assert_eq!(frame.entry().unwrap(), entry);
    }
}

/// The short way for answers is taken, and finds what the long one finds.
#[test]
fn answers_are_read_alike_in_both_ways() {
    let answers = samples::one_of_each()
        .into_iter()
        .filter(|entry| matches!(entry, Entry::Answer(_)));
    let mut tried = 0;
    for entry in answers {
        let json = serde_json::to_vec(&entry).unwrap();
        assert!(json.starts_with(ANSWER));
        assert_eq!(serde_json::from_slice::<Entry>(&json).unwrap(), entry);
        assert_eq!(parse_whole(&stamped(&entry, 7)).unwrap().entry().unwrap(), entry);
        tried += 1;
    }
    assert!(tried > 0);
}

#[test]
fn the_layout_is_the_one_that_is_written_down() {
    let bytes = stamped(&samples::refresh(7), 0x0102_0304_0506_0708);
    let payload = br#"{"entry":"refresh","instance":{"persona":"persona-7","node":"chunk-1"}}"#;
    let mut expected = Vec::new();
    expected.extend([0xF7, b's', b'e', b'p']);
    expected.extend(crc32fast::hash(&bytes[8..64]).to_le_bytes());
    expected.extend([8, 7, 6, 5, 4, 3, 2, 1]);
    expected.extend((payload.len() as u32).to_le_bytes());
    expected.extend(crc32fast::hash(payload).to_le_bytes());
    expected.extend((payload.len() as u32).to_le_bytes());
    expected.extend([1, 0, 0, 0]);
    expected.extend([0; 32]);
    expected.extend(payload);
    assert_eq!(bytes, expected);
    let answer = stamped(&samples::answer(7), 1);
    assert_eq!(answer[29], 1, "an answer of usual length is packed");
    assert_eq!(answer[32..64], *samples::key(7).as_bytes());
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let bytes = stamped(&samples::answer(1), 9);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let flaw = parse(&flipped).unwrap_err();
        let expected = match bit / 8 < HEADER {
            true => Flaw::Header,
            false => Flaw::Payload {
                key: Some(samples::key(1)),
            },
        };
        assert_eq!(flaw, expected, "bit {bit}");
    }
}

#[test]
fn no_missing_byte_goes_unnoticed() {
    let bytes = stamped(&samples::answer(1), 9);
    for len in 0..bytes.len() {
        assert!(parse(&bytes[..len]).is_err(), "{len} bytes");
    }
    let more = [&bytes[..], b"x"].concat();
    assert_eq!(parse_whole(&more).unwrap_err(), "has 1 bytes behind its end");
}

#[test]
fn what_a_right_checksum_hides_is_still_checked() {
    let small = stamped(&samples::refresh(1), 1);
    let large = stamped(&samples::answer(1), 1);
    let length = |bytes: &mut [u8], len: u32| bytes[24..28].copy_from_slice(&len.to_le_bytes());
    let cases = [
        (
            "a key that is not the entry's",
            forged(&large, |bytes| bytes[40] ^= 1),
            "the key in its header",
        ),
        (
            "a raw length over the limit",
            forged(&large, |bytes| length(bytes, RAW_LIMIT as u32 + 1)),
            "the limit is",
        ),
        (
            "a raw length that is too short",
            forged(&large, |bytes| length(bytes, 10)),
            "cannot be unpacked",
        ),
        (
            "a raw length that is too long",
            forged(&large, |bytes| length(bytes, 1 << 20)),
            "unpacks to",
        ),
        (
            "an unknown codec",
            forged(&small, |bytes| bytes[29] = 9),
            "packed in an unknown way: 9",
        ),
        (
            "a codec that is not the payload's",
            forged(&small, |bytes| bytes[29] = 1),
            "cannot be unpacked",
        ),
        (
            "a list of parts",
            forged(&small, |bytes| bytes[29] = 2),
            "a list of parts",
        ),
        (
            "no JSON",
            forged(&small, |bytes| bytes[HEADER] = b'x'),
            "not readable as an entry",
        ),
    ];
    for (name, bytes, expected) in cases {
        let error = parse_whole(&bytes).unwrap().entry().unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn a_newer_layout_is_told_from_damage() {
    let bytes = forged(&stamped(&samples::refresh(1), 1), |bytes| bytes[28] = VERSION + 1);
    assert_eq!(parse(&bytes).unwrap_err(), Flaw::Newer { version: 2 });
}

#[test]
fn an_entry_that_could_not_be_read_back_is_not_written() {
    let mut record = samples::record(1, "");
    record.answer.text = "a".repeat(RAW_LIMIT);
    let error = encode(&Entry::Answer(record)).unwrap_err();
    assert!(error.ends_with("the limit for one entry is 67108864"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), sign: bool) {
        if sign && bytes.len() >= HEADER {
            bytes[..4].copy_from_slice(&MARK);
            let seq = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
            stamp(&mut bytes, seq);
        }
        if let Ok((frame, _)) = parse(&bytes) {
            let _ = frame.entry();
        }
        let _ = find(&bytes, 0);
    }
}
