//! A provider's prompt cache as OpenAI's automatic one behaves: prefixes of a prompt, in blocks
//! of 128 tokens and from 1,024 tokens up, that are read cheaper by whoever sends them again
//! soon. Keeps hashes, never text, and of those a bounded number. Reads no clock.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use crate::call::Request;

/// The grain in which cached tokens are reported (OpenAI's prompt caching guide, 2026).
pub const BLOCK_TOKENS: u64 = 128;
/// Shorter prefixes are not cached (the same guide).
pub const LEAST_TOKENS: u64 = 1024;
/// A block in characters, four to a token.
const BLOCK_CHARACTERS: usize = 512;
/// Blocks that are kept, about 3 MB of hashes: the prompts of some hundred thousand characters
/// a second within a lifetime of five minutes.
const MOST_BLOCKS: usize = 65_536;

/// A year: an end that any clock can hold.
const LONGEST_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The parameters that are rendered into a prompt besides its messages.
const RENDERED: [&str; 4] = ["reasoning_effort", "response_format", "tools", "verbosity"];

/// The prefixes of a prompt that can be cached: a hash of everything up to the end of each
/// block, from the shortest that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefixes(Vec<u64>);

impl Prefixes {
    /// Hashes the blocks of a request's prompt.
    pub fn of(request: &Request) -> Self {
        let mut blocks = Blocks::default();
        blocks.hasher.write(request.model.as_bytes());
        for name in RENDERED {
            if let Some(value) = request.parameters.get(name) {
                blocks.hasher.write(value.to_string().as_bytes());
            }
        }
        for message in &request.messages {
            blocks.hasher.write(message.role.as_str().as_bytes());
            blocks.add(&message.content);
        }
        let short = (LEAST_TOKENS / BLOCK_TOKENS) as usize - 1;
        blocks.ends.drain(..short.min(blocks.ends.len()));
        Self(blocks.ends)
    }

    /// Tokens of the prefix that ends at the block with this index.
    fn tokens(index: usize) -> u64 {
        LEAST_TOKENS + index as u64 * BLOCK_TOKENS
    }
}

/// Runs through a prompt and notes the hash at the end of each block.
#[derive(Default)]
struct Blocks {
    hasher: DefaultHasher,
    filled: usize,
    ends: Vec<u64>,
}

impl Blocks {
    fn add(&mut self, content: &str) {
        let ascii = content.is_ascii();
        let mut rest = content;
        while !rest.is_empty() {
            let room = BLOCK_CHARACTERS - self.filled;
            let (end, taken) = if ascii {
                (room.min(rest.len()), room.min(rest.len()))
            } else {
                up_to(rest, room)
            };
            self.hasher.write(&rest.as_bytes()[..end]);
            self.filled += taken;
            rest = &rest[end..];
            if self.filled == BLOCK_CHARACTERS {
                self.ends.push(self.hasher.finish());
                self.filled = 0;
            }
        }
    }
}

/// The bytes and the number of the first characters, at most `most`.
fn up_to(text: &str, most: usize) -> (usize, usize) {
    match text.char_indices().nth(most) {
        Some((end, _)) => (end, most),
        None => (text.len(), text.chars().count()),
    }
}

/// Which prefixes are cached, and how long yet.
#[derive(Debug)]
pub struct PrefixCache {
    lifetime: Duration,
    most: usize,
    /// When each entry ends.
    entries: HashMap<u64, Instant>,
    /// The entries, and when each would have ended when it was put here: a later end is looked
    /// up, and the entry put back, when its turn to leave comes.
    queue: VecDeque<(u64, Instant)>,
}

impl PrefixCache {
    /// An empty cache whose entries live so long after they were last read or written.
    pub fn new(lifetime: Duration) -> Self {
        Self::with_capacity(lifetime, MOST_BLOCKS)
    }

    fn with_capacity(lifetime: Duration, most: usize) -> Self {
        Self {
            lifetime: lifetime.min(LONGEST_LIFETIME),
            most,
            entries: HashMap::new(),
            queue: VecDeque::new(),
        }
    }

    /// Reads the longest cached prefix, which keeps it alive; returns its tokens.
    pub fn read(&mut self, prefixes: &Prefixes, now: Instant) -> u64 {
        let alive = |hash: &u64| self.entries.get(hash).is_some_and(|end| *end > now);
        let Some(longest) = prefixes.0.iter().rposition(alive) else {
            return 0;
        };
        let end = now + self.lifetime;
        for hash in &prefixes.0[..=longest] {
            if let Some(entry) = self.entries.get_mut(hash) {
                *entry = end;
            }
        }
        Prefixes::tokens(longest)
    }

    /// Enters all prefixes of a prompt whose answer has begun.
    pub fn write(&mut self, prefixes: &Prefixes, now: Instant) {
        let end = now + self.lifetime;
        for hash in &prefixes.0 {
            if self.entries.insert(*hash, end).is_none() {
                self.queue.push_back((*hash, end));
            }
        }
        self.shrink(now);
    }

    /// Drops what has ended, and the oldest of what is too much.
    fn shrink(&mut self, now: Instant) {
        while let Some(&(hash, noted)) = self.queue.front() {
            if noted > now && self.entries.len() <= self.most {
                return;
            }
            self.queue.pop_front();
            match self.entries.get(&hash) {
                Some(end) if *end > noted && *end > now => self.queue.push_back((hash, *end)),
                _ => drop(self.entries.remove(&hash)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::call::{Delivery, Message, Role};

    fn request(system: &str, user: &str) -> Request {
        let message = |role, content: &str| Message {
            role,
            content: content.to_owned(),
        };
        Request {
            provider: "simulator".into(),
            model: "gpt-6-luna".into(),
            messages: vec![message(Role::System, system), message(Role::User, user)],
            parameters: Arc::default(),
            variant: None,
            delivery: Delivery::default(),
        }
    }

    fn letters(letter: &str, characters: usize) -> String {
        letter.repeat(characters)
    }

    #[test]
    fn only_whole_blocks_of_a_long_enough_shared_prefix_are_cached() {
        let now = Instant::now();
        // (rule, shared characters, the first's own, the second's own, tokens read)
        let cases = [
            ("one character short of the least", 4095, "x", "y", 0),
            ("exactly the least", 4096, "x", "y", 1024),
            ("a begun block does not count", 4096 + 511, "x", "y", 1024),
            ("the next block", 4096 + 512, "x", "y", 1152),
            ("the same prompt again, short", 100, "", "", 0),
            ("the same prompt again, long", 5120, "", "", 1280),
            ("nothing shared", 0, "x", "y", 0),
        ];
        for (rule, shared, mine, yours, expected) in cases {
            for letter in ["a", "ü", "語"] {
                let mut cache = PrefixCache::new(Duration::from_secs(300));
                let shared = letters(letter, shared);
                let more = letters(letter, 6000);
                let own = |own: &str| {
                    if own.is_empty() {
                        String::new()
                    } else {
                        format!("{own}{more}")
                    }
                };
                let first = Prefixes::of(&request(&shared, &own(mine)));
                let second = Prefixes::of(&request(&shared, &own(yours)));
                assert_eq!(cache.read(&second, now), 0, "{rule}: before the first answer");
                cache.write(&first, now);
                assert_eq!(cache.read(&second, now), expected, "{rule}: {letter}");
            }
        }
    }

    #[test]
    fn blocks_run_across_messages_and_end_with_the_model_and_what_is_rendered() {
        let base = request(&letters("a", 3000), &letters("a", 3000));
        let mut other_model = base.clone();
        other_model.model = "gpt-6-sol".into();
        let mut other_effort = base.clone();
        other_effort.parameters = Arc::new([("reasoning_effort".to_owned(), "low".into())].into());
        let mut other_temperature = base.clone();
        other_temperature.parameters = Arc::new([("temperature".to_owned(), 0.5.into())].into());
        let other_border = request(&letters("a", 2999), &letters("a", 3001));

        let of = Prefixes::of(&base);
        assert_eq!(of.0.len(), 6000 / 512 - 7);
        assert_ne!(Prefixes::of(&other_model), of);
        assert_ne!(Prefixes::of(&other_effort), of);
        assert_eq!(Prefixes::of(&other_temperature), of, "not part of the prompt");
        assert_ne!(
            Prefixes::of(&other_border),
            of,
            "who says it is part of the prompt"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_lives_from_its_last_use() {
        let mut cache = PrefixCache::new(Duration::from_secs(300));
        let prompt = Prefixes::of(&request(&letters("a", 5000), ""));
        cache.write(&prompt, Instant::now());
        for (rule, seconds, expected) in [
            ("just within its lifetime", 299, 1152),
            ("kept alive by the read before", 299, 1152),
            ("ended", 300, 0),
            ("stays ended", 1, 0),
        ] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert_eq!(cache.read(&prompt, Instant::now()), expected, "{rule}");
        }
        let other = Prefixes::of(&request(&letters("b", 5000), ""));
        cache.write(&other, Instant::now());
        assert_eq!(cache.entries.len(), 2, "the ended ones have left");
        assert_eq!(cache.queue.len(), 2);
    }

    #[test]
    fn the_longest_lifetime_is_no_overflow() {
        let mut cache = PrefixCache::new(Duration::MAX);
        let prompt = Prefixes::of(&request(&letters("a", 5000), ""));
        cache.write(&prompt, Instant::now());
        assert_eq!(cache.read(&prompt, Instant::now()), 1152);
    }

    #[test]
    fn the_number_of_entries_is_bounded_and_the_oldest_leave_first() {
        let now = Instant::now();
        let mut cache = PrefixCache::with_capacity(Duration::from_secs(300), 10);
        let prompts: Vec<Prefixes> = (0..50)
            .map(|i| Prefixes::of(&request(&format!("{i:02}{}", letters("a", 5000)), "")))
            .collect();
        for (i, prompt) in prompts.iter().enumerate() {
            let now = now + Duration::from_secs(i as u64);
            // The very first prompt stays in use.
            assert_eq!(cache.read(&prompts[0], now) > 0, i > 0);
            cache.write(prompt, now);
            assert!(cache.entries.len() <= 10);
            assert_eq!(cache.queue.len(), cache.entries.len());
        }
        let end = now + Duration::from_secs(60);
        assert_eq!(cache.read(&prompts[49], end), 1152);
        assert_eq!(cache.read(&prompts[40], end), 0);
    }
}
