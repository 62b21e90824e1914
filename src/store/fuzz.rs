//! Any bytes as a file of the journal or as one stored record: what is intact is
//! found, the rest has a place or a reason, and nothing is made up.

use std::path::Path;

use crate::fuzzed;
use crate::store::codec::Codec;
use crate::store::record::Entry;
use crate::store::segment::{self, Found};
use crate::store::{frame, samples};

/// One entry of each kind, one after the other, as they lie in a file.
fn file() -> Vec<u8> {
    let mut bytes = segment::header().to_vec();
    for (entry, seq) in samples::one_of_each().iter().zip(1..) {
        let mut frame = frame::encode(entry).unwrap();
        frame::stamp(&mut frame, seq);
        bytes.extend_from_slice(&frame);
    }
    bytes
}

#[test]
fn journal_files_fuzz() {
    let file = file();
    bolero::check!(name = "journal_files_fuzz").for_each(move |bytes: &[u8]| {
        let bytes = fuzzed::input(bytes, &[&file]);
        let _ = segment::check_header(Path::new("00000001.log"), &bytes);
        let mut at = segment::HEADER.min(bytes.len());
        while let Some((found, next)) = segment::scan(&bytes, at) {
            assert!(next > at && next <= bytes.len());
            match found {
                Found::Frame { frame, bytes: lies } => {
                    assert_eq!(lies, &bytes[at..next]);
                    // The trees keep the same bytes: both must read them alike.
                    let again = frame::parse_whole(lies).unwrap();
                    assert_eq!(again.seq, frame.seq);
                    assert_eq!(frame.entry().is_ok(), again.entry().is_ok());
                    let _ = frame.json();
                }
                Found::Damage { len, .. } => assert_eq!(at + len, next),
                Found::Newer { version } => assert!(version > frame::VERSION),
            }
            at = next;
        }
    });
}

/// The checksums are right here, which no fuzzer would hit: what is inside of them is not.
#[test]
fn stored_records_fuzz() {
    let jsons: Vec<Vec<u8>> = samples::one_of_each()
        .iter()
        .map(|entry| serde_json::to_vec(entry).unwrap())
        .collect();
    let packed = zstd::bulk::compress(&jsons.concat().repeat(4), 1).unwrap();
    bolero::check!(name = "stored_records_fuzz").for_each(move |bytes: &[u8]| {
        let mut head = [0; 8];
        let taken = bytes.len().min(head.len());
        head[..taken].copy_from_slice(&bytes[..taken]);
        let mut examples: Vec<&[u8]> = jsons.iter().map(Vec::as_slice).collect();
        examples.push(&packed);
        let payload = fuzzed::input(&bytes[taken..], &examples);
        let codec = Codec::from_number(head[0] % 3).unwrap();
        let raw_len = match head[1] % 2 {
            0 => payload.len(),
            _ => u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize,
        };
        let mut key = [0; 32];
        if head[6] % 2 == 1 {
            key = *samples::key(u64::from(head[7])).as_bytes();
        }
        let mut bytes = frame::assembled(codec, raw_len, key, &payload);
        frame::stamp(&mut bytes, 1);
        let frame = frame::parse_whole(&bytes).unwrap();
        if let Ok(entry) = frame.entry() {
            comes_back(&entry);
        }
        let _ = frame.json();
    });
}

/// An entry that was read is written as one that reads the same.
pub(super) fn comes_back(entry: &Entry) {
    let again = frame::encode(entry).unwrap();
    let read = frame::parse(&again_stamped(again.to_vec()))
        .unwrap()
        .0
        .entry()
        .unwrap();
    assert_eq!(format!("{read:?}"), format!("{entry:?}"));
}

fn again_stamped(mut bytes: Vec<u8>) -> Vec<u8> {
    frame::stamp(&mut bytes, 1);
    bytes
}
