//! What fuzz targets share: the bytes of a fuzzer → an input that gets behind the first check of a
//! parser. It does not know which parser that is.
//!
//! A target is a test that ends in `fuzz`. `cargo test` runs each for a second on random bytes and
//! on everything under its `__fuzz__` folder (what was found once is in `crashes`); `.ci/fuzz` runs
//! them under libFuzzer, guided by coverage.

/// Takes the bytes as they are if they begin with a zero (which is cut off); otherwise they say
/// which of the examples to begin with and what to change in it.
pub(crate) fn input(bytes: &[u8], examples: &[&[u8]]) -> Vec<u8> {
    let Some((choice, script)) = bytes.split_first() else {
        return Vec::new();
    };
    let Some(example) = usize::from(*choice).checked_sub(1) else {
        return script.to_vec();
    };
    let mut text = examples[example % examples.len()].to_vec();
    let mut script = Script(script);
    while let Some(what) = script.byte() {
        script.change(what, &mut text, examples);
    }
    text
}

/// As [`input`], for parsers of text: what is no UTF-8 is replaced.
pub(crate) fn text(bytes: &[u8], examples: &[&str]) -> String {
    let examples: Vec<&[u8]> = examples.iter().map(|example| example.as_bytes()).collect();
    String::from_utf8_lossy(&input(bytes, &examples)).into_owned()
}

/// Changes to make, one after the other. What is missing at its end counts as zero.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn below(&mut self, end: usize) -> usize {
        let number = [self.byte(), self.byte()].map(Option::unwrap_or_default);
        usize::from(u16::from_le_bytes(number)) % end.max(1)
    }

    fn change(&mut self, what: u8, text: &mut Vec<u8>, examples: &[&[u8]]) {
        let at = self.below(text.len() + 1);
        let some = at..(at + self.below(64)).min(text.len());
        match what % 7 {
            0 => drop(text.drain(some)),
            1 => text.truncate(at),
            2 => {
                let long = self.0.len().min(usize::from(what / 7));
                let (new, rest) = self.0.split_at(long);
                text.splice(some, new.iter().copied());
                self.0 = rest;
            }
            3 => {
                let new = self.byte().unwrap_or_default();
                some.for_each(|at| text[at] = new);
            }
            4 => some.for_each(|at| text[at] ^= 1 << (what / 7 % 8)),
            5 => {
                // Deep and long things are made by saying one thing again and again.
                let again = text[some.clone()].repeat(self.below(512));
                text.splice(at..at, again);
            }
            _ => {
                let other = examples[self.below(examples.len())];
                let from = self.below(other.len() + 1);
                let part = &other[from..(from + self.below(1024)).min(other.len())];
                text.splice(some, part.iter().copied());
            }
        }
    }
}
