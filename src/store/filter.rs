//! Tells of a key that it was never put, without asking the trees: a Bloom filter that grows in
//! layers. What it takes for put may not have been; what it denies surely was not. It knows nothing
//! of values, and only those trees have one that were empty when they were opened.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{PoisonError, RwLock};

/// So many keys fill the first layer; each further one takes twice as many.
const FIRST: usize = 1 << 14;

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
        let size = FIRST << layers.len();
        match layers.last_mut().filter(|layer| layer.room > 0) {
            Some(layer) => layer.note(hash),
            None => {
                let mut layer = Layer::new(size);
                layer.note(hash);
                layers.push(layer);
            }
        }
    }

    /// False for a key that was surely never noted.
    pub(super) fn may_hold(&self, key: &[u8]) -> bool {
        let hash = hash(key);
        let layers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        layers.iter().rev().any(|layer| layer.may_hold(hash))
    }
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

fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
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
}
