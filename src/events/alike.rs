//! What fails in the same words, counted by them: a few of it are told one by one, the others as a
//! number. It does not know what fails.

use std::collections::BTreeMap;

/// So many that fail in the same words are told one by one.
pub const SHOWN_ALIKE: u64 = 3;

/// More different words than this are not kept: what fails in further ones is told each time.
const MOST: usize = 1_000;

/// How often something failed in the same words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alike(BTreeMap<String, u64>);

impl Alike {
    /// Takes one more in, and returns how many there are of it now.
    pub fn add(&mut self, words: &str) -> u64 {
        if let Some(known) = self.0.get_mut(words) {
            *known += 1;
            return *known;
        }
        if self.0.len() < MOST {
            self.0.insert(words.to_owned(), 1);
        }
        1
    }

    /// How many there are of it; 0 where that is not kept.
    pub fn of(&self, words: &str) -> u64 {
        self.0.get(words).copied().unwrap_or(0)
    }

    /// The words of which there are more than are told one by one, and how many more.
    pub fn others(&self) -> impl Iterator<Item = (&str, u64)> {
        let others = self.0.iter().filter(|(_, n)| **n > SHOWN_ALIKE);
        others.map(|(words, n)| (&**words, n - SHOWN_ALIKE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_counted_by_itself_and_their_number_is_bounded() {
        let mut alike = Alike::default();
        let added: Vec<u64> = ["a", "b", "a", "a", "a", "b"]
            .map(|words| alike.add(words))
            .into();
        assert_eq!(added, [1, 1, 2, 3, 4, 2]);
        assert_eq!((alike.of("a"), alike.of("b"), alike.of("c")), (4, 2, 0));
        assert_eq!(alike.others().collect::<Vec<_>>(), [("a", 1)]);
        (0..2 * MOST).for_each(|n| _ = alike.add(&n.to_string()));
        assert_eq!(alike.0.len(), MOST);
        assert_eq!(alike.add("another"), 1);
        assert_eq!(alike.add("another"), 1, "it is not kept");
    }
}
