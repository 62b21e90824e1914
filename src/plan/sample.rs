//! Tokens of requests of which no server has counted any: some requests of each node, spread
//! evenly, are kept and counted with the tokenizer of the node's model. It does not know what the
//! counts are used for, and counts nothing before it is asked.

use std::fmt;

use crate::call::Request;
use crate::tokenizer::{Encoding, PER_ANSWER, PER_MESSAGE};

/// So many requests of a node are counted, however many there are.
pub(super) const COUNTED: usize = 32;

/// Of a longer request so many characters are kept, …
const KEPT_CHARS: usize = 32_000;
/// … in so many pieces, spread evenly.
const PIECES: usize = 16;

/// How tokens are counted: a tokenizer for each node, where its model has one that is public, and
/// what counts with it.
pub struct Tokenizers<'a> {
    by_node: Vec<Option<Encoding>>,
    count: Box<Count<'a>>,
}

type Count<'a> = dyn Fn(Encoding, &str) -> u64 + 'a;

impl<'a> Tokenizers<'a> {
    /// For nodes that are counted so.
    pub fn new(by_node: Vec<Option<Encoding>>, count: impl Fn(Encoding, &str) -> u64 + 'a) -> Self {
        Self {
            by_node,
            count: Box::new(count),
        }
    }

    pub(super) fn of(&self, node: usize) -> Option<Encoding> {
        self.by_node.get(node).copied().flatten()
    }
}

impl fmt::Debug for Tokenizers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tokenizers").field(&self.by_node).finish()
    }
}

/// Requests of one node: every so-many-th of all.
#[derive(Debug)]
pub(super) struct Sample {
    seen: u64,
    every: u64,
    kept: Vec<Kept>,
}

/// One request.
#[derive(Debug)]
struct Kept {
    texts: Vec<String>,
    /// Characters of all of it for each one that is kept.
    scale: f64,
    messages: u64,
    /// Tokens by our own estimate.
    units: u64,
    tokens: Option<f64>,
}

/// Requests that were counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Counted {
    pub encoding: Encoding,
    pub requests: u64,
    pub tokens: f64,
    /// Of the same requests, by our own estimate.
    pub units: f64,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            seen: 0,
            every: 1,
            kept: Vec::new(),
        }
    }
}

impl Sample {
    /// Takes a request in, if it is one of those to be kept.
    pub(super) fn add(&mut self, request: &Request, units: u64) {
        if self.seen.is_multiple_of(self.every) {
            self.kept.push(Kept::of(request, units));
        }
        self.seen += 1;
        if self.kept.len() == 2 * COUNTED {
            let mut index = 0;
            self.kept.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.every *= 2;
        }
    }

    /// Counts up to so many of them; `None`: there is none.
    pub(super) fn count(&mut self, most: usize, encoding: Encoding, by: &Tokenizers<'_>) -> Option<Counted> {
        let (kept, most) = (self.kept.len(), most.min(self.kept.len()));
        if most == 0 {
            return None;
        }
        let mut counted = Counted {
            encoding,
            requests: most as u64,
            tokens: 0.0,
            units: 0.0,
        };
        for index in (0..most).map(|index| index * kept / most) {
            let request = &mut self.kept[index];
            counted.tokens += request.tokens(encoding, by);
            counted.units += request.units as f64;
        }
        Some(counted)
    }
}

impl Kept {
    fn of(request: &Request, units: u64) -> Self {
        let texts = || request.messages.iter().map(|message| &*message.content);
        let characters: usize = texts().map(|text| text.chars().count()).sum();
        let mut kept = Self {
            texts: texts().map(str::to_owned).collect(),
            scale: 1.0,
            messages: request.messages.len() as u64,
            units,
            tokens: None,
        };
        if characters > KEPT_CHARS {
            let whole: String = texts().collect();
            let piece = |index: usize| {
                let begin = index * (characters - KEPT_CHARS / PIECES) / (PIECES - 1);
                whole.chars().skip(begin).take(KEPT_CHARS / PIECES).collect()
            };
            kept.texts = (0..PIECES).map(piece).collect();
            kept.scale = characters as f64 / KEPT_CHARS as f64;
        }
        kept
    }

    fn tokens(&mut self, encoding: Encoding, by: &Tokenizers<'_>) -> f64 {
        *self.tokens.get_or_insert_with(|| {
            let texts: u64 = self.texts.iter().map(|text| (by.count)(encoding, text)).sum();
            texts as f64 * self.scale + (self.messages * PER_MESSAGE + PER_ANSWER) as f64
        })
    }
}
