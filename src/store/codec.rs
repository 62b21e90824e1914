//! Packs the bytes of an entry: zstd at level 1 where it pays, else as they are. Knows nothing of
//! what the bytes say or where they are put.

use std::borrow::Cow;
use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::compress_bound;

/// Entries from this size up are worth a try, in bytes.
const WORTH_PACKING: usize = 512;

/// zstd's fastest ordinary level: on 8 KiB of prose it packs as well as level 3 in two thirds of
/// the time (measured 2026-11-23).
const LEVEL: i32 = 1;

/// How bytes are packed. The number is what stands in a frame: never change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Codec {
    /// As they are.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
    /// Only inside the trees: a list of parts, see `trees`.
    Parts = 2,
}

impl Codec {
    /// The codec with this number.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Codec::Raw, Codec::Zstd, Codec::Parts]
            .into_iter()
            .find(|codec| *codec as u8 == number)
    }
}

thread_local! {
    // A context costs about as much to set up as 8 KiB cost to pack, so each thread keeps one.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Appends `raw` to `out`, packed if that gains at least a tenth.
pub(super) fn pack(raw: &[u8], out: &mut Vec<u8>) -> Codec {
    let start = out.len();
    if raw.len() >= WORTH_PACKING {
        out.resize(start + compress_bound(raw.len()), 0);
        let packed = compress(raw, &mut out[start..]);
        out.truncate(start + packed.unwrap_or(0));
        if packed.is_some_and(|packed| packed <= raw.len() / 10 * 9) {
            return Codec::Zstd;
        }
    }
    out.truncate(start);
    out.extend_from_slice(raw);
    Codec::Raw
}

/// Undoes [`pack`]. `raw_len` is what the frame says; the caller has bounded it.
///
/// # Errors
/// In words, where the bytes are not what the frame says.
pub(super) fn unpack(codec: Codec, packed: &[u8], raw_len: usize) -> Result<Cow<'_, [u8]>, String> {
    let raw = match codec {
        Codec::Raw => Cow::Borrowed(packed),
        Codec::Zstd => Cow::Owned(decompress(packed, raw_len)?),
        Codec::Parts => return Err("a list of parts where an entry should be".to_owned()),
    };
    if raw.len() == raw_len {
        Ok(raw)
    } else {
        Err(format!("unpacks to {} bytes instead of {raw_len}", raw.len()))
    }
}

/// Returns how many bytes it wrote to `out`; `None` where zstd refuses: the bytes are then kept as
/// they are.
fn compress(raw: &[u8], out: &mut [u8]) -> Option<usize> {
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Compressor::new(LEVEL).ok();
        }
        slot.as_mut()?.compress_to_buffer(raw, out).ok()
    })
}

fn decompress(packed: &[u8], raw_len: usize) -> Result<Vec<u8>, String> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Some(Decompressor::new().map_err(|e| e.to_string())?);
        }
        let decompressor = slot.as_mut().expect("BUG: set two lines above");
        decompressor
            .decompress(packed, raw_len)
            .map_err(|e| format!("cannot be unpacked: {e}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_only_what_is_long_enough_and_gains_a_tenth() {
        let mut rng = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = (0..4096).map(|_| rng.u8(..)).collect();
        let prose = "the same words again and again. ".repeat(64).into_bytes();
        let cases: [(&str, &[u8], Codec); 4] = [
            ("prose", &prose, Codec::Zstd),
            ("just too short", &prose[..WORTH_PACKING - 1], Codec::Raw),
            ("just long enough", &prose[..WORTH_PACKING], Codec::Zstd),
            ("noise", &noise, Codec::Raw),
        ];
        for (name, raw, expected) in cases {
            let mut packed = b"before".to_vec();
            let codec = pack(raw, &mut packed);
            assert_eq!(codec, expected, "{name}");
            let packed = packed.strip_prefix(b"before").unwrap();
            assert_eq!(unpack(codec, packed, raw.len()).unwrap(), raw, "{name}");
        }
    }

    #[test]
    fn a_wrong_length_is_an_error_and_never_a_larger_buffer() {
        let raw = vec![b'a'; 100_000];
        let mut packed = Vec::new();
        let codec = pack(&raw, &mut packed);
        assert_eq!(codec, Codec::Zstd);
        assert!(unpack(codec, &packed, 99_999).is_err());
        assert!(unpack(codec, &packed, 100_001).is_err());
        assert!(unpack(Codec::Raw, b"abc", 4).is_err());
    }
}
