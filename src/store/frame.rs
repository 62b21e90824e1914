//! How one entry lies on a disk: a header of 64 bytes and a payload, the same in the journal and
//! in the trees. It does not know where a frame lies or what its entry means.
//!
//! All numbers are little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0–3 | mark: `F7 73 65 70`. `F7` is in no UTF-8 text, so a payload that is not packed cannot hold it |
//! | 4–7 | crc32 of bytes 8–63 |
//! | 8–15 | sequence number: counts up over the whole life of a store |
//! | 16–19 | length of the payload |
//! | 20–23 | crc32 of the payload |
//! | 24–27 | length of the payload once unpacked |
//! | 28 | version of this layout: 1 |
//! | 29 | codec: 0 as it is, 1 zstd, 2 a list of parts (in the trees only) |
//! | 30–31 | zero |
//! | 32–63 | key of the answer; zero where an entry has none |
//! | 64– | payload: the entry as JSON, packed |
//!
//! The header has a checksum of its own, so that a damaged payload costs its own record and
//! nothing behind it, and the record can still be named.

use std::borrow::Cow;
use std::cell::RefCell;

use sled::IVec;

use crate::call::Key;
use crate::store::codec::{self, Codec};
use crate::store::record::Entry;

/// The length of a header, in bytes.
pub(super) const HEADER: usize = 64;

/// The version of the layout above. A change that this reader would misread is a new version; what
/// else goes with one stands at [`segment::FORMAT`](crate::store::segment::FORMAT).
pub(super) const VERSION: u8 = 1;

/// The most bytes an entry may have once unpacked: twice the largest answer that is accepted.
pub(super) const RAW_LIMIT: usize = 64 << 20;

pub(super) const MARK: [u8; 4] = *b"\xF7sep";

const NO_KEY: [u8; 32] = [0; 32];

/// How an answer begins. What is known to be one is read without being taken apart first, which is
/// what finding the kind of an entry takes; nearly all that is read is an answer.
const ANSWER: &[u8] = br#"{"entry":"answer","#;

/// A frame whose checksums are right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    /// Where it stands in the order of all entries.
    pub(super) seq: u64,
    /// The key in the header.
    key: [u8; 32],
    codec: u8,
    raw_len: usize,
    payload: &'a [u8],
}

/// A header whose checksum is right.
#[derive(Clone, Copy, Debug)]
struct Header {
    seq: u64,
    payload_len: usize,
    payload_crc: u32,
    raw_len: usize,
    version: u8,
    codec: u8,
    key: [u8; 32],
}

/// What is wrong with the bytes where a frame should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// They end before the header does, or it is damaged.
    Header,
    /// The header is right, the payload is not: cut off or damaged.
    Payload {
        /// The key in the header, if the entry has one.
        key: Option<Key>,
    },
    /// A newer septet wrote it.
    Newer {
        /// The version of its layout.
        version: u8,
    },
}

/// Buffers that grew beyond this are not kept, in bytes.
const KEPT: usize = 1 << 20;

thread_local! {
    // Two buffers that every entry of a thread is written to, so that none of them grows from
    // nothing each time: the JSON, and the frame.
    static BUFFERS: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Encodes an entry. Its sequence number comes later, see [`stamp`]. The bytes are of the kind that
/// sled keeps: what is put into the trees is not copied again.
///
/// # Errors
/// In words, if the entry is too large to be read back.
pub(super) fn encode(entry: &Entry) -> Result<IVec, String> {
    BUFFERS.with_borrow_mut(|(raw, bytes)| {
        raw.clear();
        serde_json::to_writer(&mut *raw, entry).map_err(|e| format!("cannot be written as JSON: {e}"))?;
        let encoded = encode_into(bytes, entry, raw);
        raw.clear();
        raw.shrink_to(KEPT);
        encoded
    })
}

/// Encodes an entry whose JSON is there already.
///
/// # Errors
/// In words, if it is too large to be read back.
pub(super) fn encode_json(entry: &Entry, raw: &[u8]) -> Result<IVec, String> {
    BUFFERS.with_borrow_mut(|(_, bytes)| encode_into(bytes, entry, raw))
}

fn encode_into(bytes: &mut Vec<u8>, entry: &Entry, raw: &[u8]) -> Result<IVec, String> {
    if raw.len() > RAW_LIMIT {
        return Err(format!(
            "has {} bytes, the limit for one entry is {RAW_LIMIT}",
            raw.len()
        ));
    }
    bytes.clear();
    bytes.resize(HEADER, 0);
    let codec = codec::pack(raw, bytes);
    complete(bytes, codec, raw.len(), key_bytes(entry));
    let frame = IVec::from(bytes.as_slice());
    bytes.clear();
    bytes.shrink_to(KEPT);
    Ok(frame)
}

/// A frame around a list of parts: `list` takes the place of the entry that lies elsewhere.
pub(super) fn encode_parts(whole: &Frame<'_>, list: &[u8]) -> Vec<u8> {
    let mut bytes = assemble(Codec::Parts, list.len(), whole.key, list);
    stamp(&mut bytes, whole.seq);
    bytes
}

/// A frame that says only that something was so at `seq`: it has no payload.
pub(super) fn empty(seq: u64) -> Vec<u8> {
    let mut bytes = assemble(Codec::Raw, 0, NO_KEY, &[]);
    stamp(&mut bytes, seq);
    bytes
}

/// Writes the sequence number into an encoded frame and completes its header.
pub(super) fn stamp(bytes: &mut [u8], seq: u64) {
    bytes[8..16].copy_from_slice(&seq.to_le_bytes());
    let crc = crc32fast::hash(&bytes[8..HEADER]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Reads the frame at the start of `bytes`, and says how long it is.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<(Frame<'_>, usize), Flaw> {
    let header = header(bytes)?;
    let damaged = Flaw::Payload {
        key: named(header.key),
    };
    let len = HEADER + header.payload_len;
    let payload = bytes.get(HEADER..len).ok_or(damaged)?;
    if crc32fast::hash(payload) != header.payload_crc {
        return Err(damaged);
    }
    let frame = Frame {
        seq: header.seq,
        key: header.key,
        codec: header.codec,
        raw_len: header.raw_len,
        payload,
    };
    Ok((frame, len))
}

/// Reads a frame that must fill `bytes` to their end.
///
/// # Errors
/// In words, what is wrong with it.
pub(super) fn parse_whole(bytes: &[u8]) -> Result<Frame<'_>, String> {
    match parse(bytes) {
        Ok((frame, len)) if len == bytes.len() => Ok(frame),
        Ok((_, len)) => Err(format!("has {} bytes behind its end", bytes.len() - len)),
        Err(Flaw::Header) => Err("checksum of the header does not match".to_owned()),
        Err(Flaw::Payload { .. }) => Err("checksum does not match".to_owned()),
        Err(Flaw::Newer { version }) => Err(format!("has format {version}, known up to {VERSION}")),
    }
}

/// Finds the next place, from byte `from` on, where a header with a right checksum stands.
pub(super) fn find(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == MARK[0])?;
        match header(&bytes[at..]) {
            Err(Flaw::Header) => at += 1,
            Ok(_) | Err(_) => return Some(at),
        }
    }
}

impl<'a> Frame<'a> {
    /// The key in the header, if the entry has one.
    pub(super) fn key(&self) -> Option<Key> {
        named(self.key)
    }

    /// True for a frame made by [`empty`].
    pub(super) fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// The list of parts that stands here in place of an entry, if one does.
    pub(super) fn parts(&self) -> Option<&'a [u8]> {
        (self.codec == Codec::Parts as u8).then_some(self.payload)
    }

    /// Unpacks the entry and checks it against the header.
    ///
    /// # Errors
    /// In words, why it cannot be read.
    pub(super) fn entry(&self) -> Result<Entry, String> {
        let raw = self.raw()?;
        let entry = match raw.starts_with(ANSWER) {
            true => serde_json::from_slice(&raw).map(Entry::Answer),
            false => serde_json::from_slice(&raw),
        };
        let entry = entry.map_err(|e| format!("not readable as an entry: {e}"))?;
        if key_bytes(&entry) == self.key {
            Ok(entry)
        } else {
            Err("the key in its header is another than the one inside".to_owned())
        }
    }

    /// Unpacks the entry and leaves it as JSON: also one that only a newer septet understands.
    ///
    /// # Errors
    /// In words, why it cannot be read.
    pub(super) fn json(&self) -> Result<String, String> {
        let text = String::from_utf8(self.raw()?.into_owned()).map_err(|_| "not UTF-8".to_owned())?;
        match text.contains(['\n', '\r']) || serde_json::from_str::<serde::de::IgnoredAny>(&text).is_err() {
            true => Err("not JSON in one line".to_owned()),
            false => Ok(text),
        }
    }

    fn raw(&self) -> Result<Cow<'a, [u8]>, String> {
        if self.raw_len > RAW_LIMIT {
            return Err(format!("claims {} bytes, the limit is {RAW_LIMIT}", self.raw_len));
        }
        let codec = Codec::from_number(self.codec)
            .ok_or_else(|| format!("packed in an unknown way: {}", self.codec))?;
        codec::unpack(codec, self.payload, self.raw_len)
    }
}

/// Right checksums around anything.
#[cfg(test)]
pub(super) fn assembled(codec: Codec, raw_len: usize, key: [u8; 32], payload: &[u8]) -> Vec<u8> {
    assemble(codec, raw_len, key, payload)
}

fn assemble(codec: Codec, raw_len: usize, key: [u8; 32], payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&[0; HEADER], payload].concat();
    complete(&mut bytes, codec, raw_len, key);
    bytes
}

/// Writes the header of the payload that lies behind it in `bytes`, but for what [`stamp`] writes.
fn complete(bytes: &mut [u8], codec: Codec, raw_len: usize, key: [u8; 32]) {
    let length = |len: usize| {
        u32::try_from(len)
            .expect("BUG: lengths are bounded")
            .to_le_bytes()
    };
    let (header, payload) = bytes.split_at_mut(HEADER);
    header[0..4].copy_from_slice(&MARK);
    header[16..20].copy_from_slice(&length(payload.len()));
    header[20..24].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    header[24..28].copy_from_slice(&length(raw_len));
    header[28] = VERSION;
    header[29] = codec as u8;
    header[32..64].copy_from_slice(&key);
}

fn header(bytes: &[u8]) -> Result<Header, Flaw> {
    let bytes: &[u8; HEADER] = bytes.first_chunk().ok_or(Flaw::Header)?;
    let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if bytes[..4] != MARK || crc32fast::hash(&bytes[8..]) != number(4) {
        return Err(Flaw::Header);
    }
    let header = Header {
        seq: u64::from(number(8)) | u64::from(number(12)) << 32,
        payload_len: number(16) as usize,
        payload_crc: number(20),
        raw_len: number(24) as usize,
        version: bytes[28],
        codec: bytes[29],
        key: *bytes.last_chunk().expect("BUG: a header is longer than a key"),
    };
    if header.version > VERSION {
        return Err(Flaw::Newer {
            version: header.version,
        });
    }
    Ok(header)
}

/// The key that stands in the header of an entry's frame.
fn key_bytes(entry: &Entry) -> [u8; 32] {
    match entry {
        Entry::Answer(record) | Entry::Rejected { record, .. } | Entry::Retired { record, .. } => {
            *record.key.as_bytes()
        }
        Entry::Attempt(sent) => *sent.key.as_bytes(),
        Entry::Fault { .. }
        | Entry::Refresh { .. }
        | Entry::Transcript { .. }
        | Entry::Source { .. }
        | Entry::Start { .. }
        | Entry::Run { .. } => NO_KEY,
    }
}

fn named(key: [u8; 32]) -> Option<Key> {
    (key != NO_KEY).then(|| Key::from(key))
}

#[cfg(test)]
mod tests;
