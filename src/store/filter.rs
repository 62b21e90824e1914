//! Tells of a key that it was never put, without asking the trees: a Bloom filter that grows in
//! layers. What it takes for put may not have been; what it denies surely was not. It knows nothing
//! of values, nor which trees it stands for or where it is kept.

use std::sync::{PoisonError, RwLock};

/// So many keys fill the first layer; each further one takes [`GROWTH`] times as many. Few, since
/// most caches are small and all of it is written when one is closed.
const FIRST: usize = 1 << 10;

/// Each layer is asked of a key that is in none: a million keys fill six.
const GROWTH: usize = 4;

/// More than ever were, and few enough that their sizes are numbers.
const MOST_LAYERS: usize = 10;

/// For each key: one in 400 that were not put is taken for put.
const BITS_A_KEY: usize = 16;

/// Bits that stand for one key.
const PROBES: u32 = 4;

/// The keys that were put since it was made. Shared by whoever puts and whoever looks.
#[derive(Default)]
pub(super) struct Filter(RwLock<Vec<Layer>>);

/// Keys until it is full.
struct Layer {
    words: Vec<u64>,
    /// How many more keys it takes.
    room: usize,
}

impl Filter {
    /// Notes a key. Before it is put: whoever finds the key in the trees is not told otherwise.
    pub(super) fn note(&self, key: &[u8]) {
        let hash = hash(key);
        let mut layers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // It is never denied: most likely it was put before, and would only take room once more.
        if layers.iter().rev().any(|layer| layer.may_hold(hash)) {
            return;
        }
        if layers.last().is_none_or(|layer| layer.room == 0) {
            let layer = Layer::new(keys_of(layers.len()));
            layers.push(layer);
        }
        if let Some(layer) = layers.last_mut() {
            layer.note(hash);
        }
    }

    /// False for a key that was surely never noted.
    pub(super) fn may_hold(&self, key: &[u8]) -> bool {
        let hash = hash(key);
        let layers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        layers.iter().rev().any(|layer| layer.may_hold(hash))
    }

    /// Writes it behind `bytes`: how many layers, and of each its room and its bits, in
    /// little-endian order.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        let layers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        bytes.extend((layers.len() as u64).to_le_bytes());
        for layer in &*layers {
            bytes.extend((layer.room as u64).to_le_bytes());
            bytes.extend(layer.words.iter().flat_map(|word| word.to_le_bytes()));
        }
    }

    /// Reads what [`Filter::encode`] wrote, and moves `bytes` behind it; `None` if that is not there.
    pub(super) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let layers = usize::try_from(take_number(bytes)?).ok()?;
        if layers > MOST_LAYERS {
            return None;
        }
        let layer = |index| {
            let room = usize::try_from(take_number(bytes)?).ok()?;
            let keys = keys_of(index);
            let (words, rest) = bytes.split_at_checked(keys * BITS_A_KEY / 8)?;
            *bytes = rest;
            let words = words.chunks_exact(8).map(number).collect();
            (room <= keys).then_some(Layer { words, room })
        };
        (0..layers)
            .map(layer)
            .collect::<Option<_>>()
            .map(|layers| Self(RwLock::new(layers)))
    }
}

/// How many keys the layer of this index takes.
fn keys_of(index: usize) -> usize {
    FIRST * GROWTH.pow(index as u32)
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_at_checked(8)?;
    *bytes = rest;
    Some(number(first))
}

/// Of eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Layer {
    fn new(keys: usize) -> Self {
        Self {
            words: vec![0; keys * BITS_A_KEY / 64],
            room: keys,
        }
    }

    fn note(&mut self, hash: u64) {
        let bits = self.words.len() * 64;
        for (word, bit) in places(hash, bits) {
            self.words[word] |= bit;
        }
        self.room -= 1;
    }

    fn may_hold(&self, hash: u64) -> bool {
        let bits = self.words.len() * 64;
        places(hash, bits).all(|(word, bit)| self.words[word] & bit != 0)
    }
}

/// Where the bits of a key lie among so many, which are a power of two: its hash, and steps from there.
fn places(hash: u64, bits: usize) -> impl Iterator<Item = (usize, u64)> {
    let step = (hash >> 32) | 1;
    (0..u64::from(PROBES)).map(move |probe| {
        let at = hash.wrapping_add(step.wrapping_mul(probe)) as usize & (bits - 1);
        (at / 64, 1 << (at % 64))
    })
}

/// The same in every build, since filters outlive them: FNV-1a, and behind it the end of MurmurHash3,
/// without which the upper bits of short keys would be alike. Whoever chose keys that collide would
/// gain nothing but look-ups that take as long as without a filter.
fn hash(key: &[u8]) -> u64 {
    let fnv = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (fnv ^ fnv >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_held_and_few_others_are() {
        const KEYS: u64 = 100_000;
        let filter = Filter::default();
        let key = |n: u64| *blake3::hash(&n.to_le_bytes()).as_bytes();
        assert!(!filter.may_hold(&key(0)), "it is empty");
        for n in 0..KEYS {
            filter.note(&key(n));
            assert!(filter.may_hold(&key(n)));
        }
        assert!((0..KEYS).all(|n| filter.may_hold(&key(n))), "also in full layers");
        let others = (KEYS..2 * KEYS).filter(|n| filter.may_hold(&key(*n))).count();
        assert!(others < 2_000, "{others} of {KEYS} are taken for noted");
    }

    #[test]
    fn short_and_similar_keys_are_told_apart() {
        let filter = Filter::default();
        let key = |n: u64| format!("p{n:06}").into_bytes();
        (0..10_000).for_each(|n| filter.note(&key(n)));
        assert!((0..10_000).all(|n| filter.may_hold(&key(n))));
        let others = (10_000..20_000).filter(|n| filter.may_hold(&key(*n))).count();
        assert!(others < 200, "{others}");
    }

    #[test]
    fn what_is_noted_again_takes_no_room() {
        let filter = Filter::default();
        for _ in 0..5 {
            (0..FIRST as u64).for_each(|n| filter.note(&n.to_le_bytes()));
        }
        let layers = filter.0.read().unwrap();
        assert_eq!(layers.len(), 1);
    }

    /// Files of filters were written with it: another hash is another format of these.
    #[test]
    fn the_hash_stays_what_it_is() {
        let hashes = [&b""[..], b"a", b"p000001", &[7; 32]].map(hash);
        assert_eq!(
            hashes,
            [
                0xefd0_1f60_ba99_2926,
                0x82a2_a958_a9be_ce5b,
                0xd43b_d687_1ff7_b2cb,
                0x7a35_5c64_da2f_31a9
            ]
        );
    }

    #[test]
    fn it_comes_back_from_its_bytes_and_grows_on() {
        let key = |n: u64| *blake3::hash(&n.to_le_bytes()).as_bytes();
        for keys in [0, 1, FIRST as u64, 30_000] {
            let filter = Filter::default();
            (0..keys).for_each(|n| filter.note(&key(n)));
            let mut bytes = Vec::new();
            filter.encode(&mut bytes);
            let whole = bytes.clone();
            bytes.extend(b"more");
            let mut rest = &bytes[..];
            let again = Filter::decode(&mut rest).unwrap();
            assert_eq!(rest, b"more");
            let same = |n| filter.may_hold(&key(n)) == again.may_hold(&key(n));
            assert!((0..2 * keys + 10).all(same));
            (keys..2 * keys).for_each(|n| again.note(&key(n)));
            assert!((0..2 * keys).all(|n| again.may_hold(&key(n))));
            for len in [0, 7, 8, whole.len() / 2, whole.len() - 1] {
                if len < whole.len() {
                    assert!(
                        Filter::decode(&mut &whole[..len]).is_none(),
                        "{len} bytes of {}",
                        whole.len()
                    );
                }
            }
        }
        let mut many = &u64::MAX.to_le_bytes()[..];
        assert!(Filter::decode(&mut many).is_none());
    }
}
