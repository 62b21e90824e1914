//! A provider's prompt cache as OpenAI's behaves: prefixes of a prompt, from 1,024 tokens up, that
//! are read cheaper by whoever sends them again soon. Older models cache by themselves, in blocks
//! of 128 tokens, and writing is free; from gpt-5.6 on a prefix ends at a breakpoint and nowhere
//! else, and writing is billed. Keeps hashes, never text, and of those a bounded number. Reads no
//! clock.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use crate::call::prompt_cache::{self, LEAST_TOKENS, RENDERED, refuses_breakpoints, takes_breakpoints};
use crate::call::{CacheHint, Mark, Request, Role};

/// The grain in which automatically cached tokens are reported (OpenAI's prompt caching guide,
/// 2026).
pub const BLOCK_TOKENS: u64 = 128;
const CHARACTERS_PER_TOKEN: usize = 4;
/// A block in characters.
const BLOCK_CHARACTERS: usize = BLOCK_TOKENS as usize * CHARACTERS_PER_TOKEN;
/// Breakpoints that one request can write: the last ones (the same guide).
const MOST_WRITTEN: usize = 4;
/// Blocks that are kept, about 3 MB of hashes: the prompts of some hundred thousand characters
/// a second within a lifetime of five minutes.
const MOST_BLOCKS: usize = 65_536;

/// A year: an end that any clock can hold.
const LONGEST_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The prefixes of a prompt that can be read from a cache or written to it, the shortest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefixes {
    ends: Vec<End>,
    /// Writing is billed.
    billed: bool,
    /// How long an entry lives after its last use.
    lifetime: Duration,
}

/// Where a prefix ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    /// Of everything up to here.
    hash: u64,
    tokens: u64,
    /// It is kept once an answer has begun; otherwise only looked for.
    written: bool,
}

impl Prefixes {
    /// Hashes a request's prompt at every place where a prefix of it may end.
    pub fn of(request: &Request) -> Self {
        let model = &*request.model;
        let asked = request.delivery.cache == CacheHint::Breakpoints;
        // What such a model is asked for over HTTP is a 400; in this process nobody asks.
        let exact = takes_breakpoints(model) || asked && !refuses_breakpoints(model);
        let mut ends = match exact {
            true => at_breakpoints(request, asked),
            false => at_blocks(request),
        };
        ends.retain(|end| end.tokens >= LEAST_TOKENS);
        Self {
            ends,
            billed: exact,
            lifetime: if exact {
                prompt_cache::LIFETIME
            } else {
                prompt_cache::SHORT_LIFETIME
            },
        }
    }

    /// The tokens that are written, beyond those that were read; 0 where writing is free.
    pub fn written(&self, read: u64) -> u64 {
        let longest = self.ends.iter().rfind(|end| end.written);
        longest
            .filter(|_| self.billed)
            .map_or(0, |end| end.tokens.saturating_sub(read))
    }
}

/// The ends of all messages and all marks; only the marks are written where that was `asked` for,
/// else the end of the last message of the user.
fn at_breakpoints(request: &Request, asked: bool) -> Vec<End> {
    let marks = &request.delivery.shared;
    if asked && marks.is_empty() {
        return Vec::new();
    }
    let last = request.messages.iter().rposition(|m| m.role == Role::User);
    let mut text = Text::beginning(request);
    let mut ends = Vec::new();
    for (index, message) in request.messages.iter().enumerate() {
        text.hasher.write(message.role.as_str().as_bytes());
        let mut from = 0;
        let whole = Mark {
            message: index,
            bytes: message.content.len(),
        };
        let within = marks.iter().filter(|mark| mark.message == index && asked);
        for mark in within.copied().chain([whole]) {
            text.add(&message.content[from..mark.bytes], |_| {});
            from = mark.bytes;
            let written = if asked {
                marks.contains(&mark)
            } else {
                last == Some(index)
            };
            let end = End {
                written,
                ..text.end()
            };
            if ends.last().is_none_or(|last: &End| last.hash != end.hash) {
                ends.push(end);
            }
        }
    }
    let surplus = ends
        .iter()
        .filter(|end| end.written)
        .count()
        .saturating_sub(MOST_WRITTEN);
    ends.iter_mut()
        .filter(|end| end.written)
        .take(surplus)
        .for_each(|end| end.written = false);
    ends
}

/// The end of every block, wherever messages begin.
fn at_blocks(request: &Request) -> Vec<End> {
    let mut text = Text::beginning(request);
    let mut ends = Vec::new();
    for message in &request.messages {
        text.hasher.write(message.role.as_str().as_bytes());
        text.add(&message.content, |end| ends.push(end));
    }
    ends
}

/// Runs through a prompt.
struct Text {
    hasher: DefaultHasher,
    characters: usize,
}

impl Text {
    /// With what is rendered in front of the messages.
    fn beginning(request: &Request) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(request.model.as_bytes());
        for name in RENDERED {
            if let Some(value) = request.parameters.get(name) {
                hasher.write(value.to_string().as_bytes());
            }
        }
        Self {
            hasher,
            characters: 0,
        }
    }

    /// A prefix that ends here.
    fn end(&self) -> End {
        End {
            hash: self.hasher.finish(),
            tokens: (self.characters / CHARACTERS_PER_TOKEN) as u64,
            written: true,
        }
    }

    /// Adds text and says where blocks end in it.
    fn add(&mut self, content: &str, mut block: impl FnMut(End)) {
        let ascii = content.is_ascii();
        let mut rest = content;
        while !rest.is_empty() {
            let room = BLOCK_CHARACTERS - self.characters % BLOCK_CHARACTERS;
            let (end, taken) = if ascii {
                (room.min(rest.len()), room.min(rest.len()))
            } else {
                up_to(rest, room)
            };
            self.hasher.write(&rest.as_bytes()[..end]);
            self.characters += taken;
            rest = &rest[end..];
            if self.characters.is_multiple_of(BLOCK_CHARACTERS) {
                block(self.end());
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
    /// In place of the lifetimes that models have.
    lifetime: Option<Duration>,
    most: usize,
    /// When each entry ends.
    entries: HashMap<u64, Instant>,
    /// The entries, and when each would have ended when it was put here: a later end is looked
    /// up, and the entry put back, when its turn to leave comes.
    queue: VecDeque<(u64, Instant)>,
}

impl PrefixCache {
    /// An empty cache whose entries live so long after they were last read or written; `None`: as
    /// long as their model keeps them.
    pub fn new(lifetime: Option<Duration>) -> Self {
        Self::with_capacity(lifetime, MOST_BLOCKS)
    }

    fn with_capacity(lifetime: Option<Duration>, most: usize) -> Self {
        Self {
            lifetime,
            most,
            entries: HashMap::new(),
            queue: VecDeque::new(),
        }
    }

    /// Reads the longest cached prefix, which keeps it alive; returns its tokens.
    pub fn read(&mut self, prefixes: &Prefixes, now: Instant) -> u64 {
        let alive = |end: &End| self.entries.get(&end.hash).is_some_and(|until| *until > now);
        let Some(longest) = prefixes.ends.iter().rposition(alive) else {
            return 0;
        };
        let until = self.until(prefixes, now);
        for end in &prefixes.ends[..=longest] {
            if let Some(entry) = self.entries.get_mut(&end.hash) {
                *entry = until;
            }
        }
        prefixes.ends[longest].tokens
    }

    fn until(&self, prefixes: &Prefixes, now: Instant) -> Instant {
        now + self.lifetime.unwrap_or(prefixes.lifetime).min(LONGEST_LIFETIME)
    }

    /// Enters all prefixes of a prompt whose answer has begun.
    pub fn write(&mut self, prefixes: &Prefixes, now: Instant) {
        let until = self.until(prefixes, now);
        for end in prefixes.ends.iter().filter(|end| end.written) {
            if self.entries.insert(end.hash, until).is_none() {
                self.queue.push_back((end.hash, until));
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
            model: "gpt-4.1".into(),
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
                let mut cache = PrefixCache::new(None);
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
        other_model.model = "gpt-4o".into();
        let mut other_effort = base.clone();
        other_effort.parameters = Arc::new([("reasoning_effort".to_owned(), "low".into())].into());
        let mut other_temperature = base.clone();
        other_temperature.parameters = Arc::new([("temperature".to_owned(), 0.5.into())].into());
        let other_border = request(&letters("a", 2999), &letters("a", 3001));

        let of = Prefixes::of(&base);
        assert_eq!(of.ends.len(), 6000 / 512 - 7);
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
        let mut cache = PrefixCache::new(None);
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
        let mut cache = PrefixCache::new(Some(Duration::MAX));
        let prompt = Prefixes::of(&request(&letters("a", 5000), ""));
        cache.write(&prompt, Instant::now());
        assert_eq!(cache.read(&prompt, Instant::now()), 1152);
    }

    #[test]
    fn the_number_of_entries_is_bounded_and_the_oldest_leave_first() {
        let now = Instant::now();
        let mut cache = PrefixCache::with_capacity(None, 10);
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

    /// A prompt for a model with breakpoints: `marks` are ends in the two messages.
    fn exact(system: usize, shared: usize, own: &str, cache: CacheHint) -> Request {
        let mut request = request(&letters("s", system), &format!("{}{own}", letters("a", shared)));
        request.model = "gpt-6-luna".into();
        request.delivery.cache = cache;
        let mark = |message, bytes| Mark { message, bytes };
        request.delivery.shared = vec![mark(0, system), mark(1, shared)];
        request
    }

    /// What two requests one after the other read and write.
    fn one_after_the_other(first: &Request, second: &Request) -> [(u64, u64); 2] {
        let now = Instant::now();
        let mut cache = PrefixCache::new(None);
        [first, second].map(|request| {
            let prefixes = Prefixes::of(request);
            let read = cache.read(&prefixes, now);
            cache.write(&prefixes, now);
            (read, prefixes.written(read))
        })
    }

    #[test]
    fn a_prefix_with_a_breakpoint_is_read_to_its_exact_end_and_writing_it_is_billed() {
        use CacheHint::{Breakpoints, Nothing};
        let (one, two) = (letters("x", 400), letters("y", 800));
        // (rule, system, shared, hint, what the first reads and writes, what the second does)
        let rows = [
            ("both marks", 4400, 4000, Breakpoints, (0, 2100), (2100, 0)),
            (
                "the context alone is long enough",
                40,
                4060,
                Breakpoints,
                (0, 1025),
                (1025, 0),
            ),
            (
                "together just long enough",
                96,
                4000,
                Breakpoints,
                (0, 1024),
                (1024, 0),
            ),
            ("one token short", 92, 4000, Breakpoints, (0, 0), (0, 0)),
            // The default marks the end of the whole prompt, which nobody sends again.
            (
                "no breakpoints asked for",
                4400,
                4000,
                Nothing,
                (0, 2200),
                (0, 2300),
            ),
        ];
        for (rule, system, shared, hint, first, second) in rows {
            let seen = one_after_the_other(
                &exact(system, shared, &one, hint),
                &exact(system, shared, &two, hint),
            );
            assert_eq!(seen, [first, second], "{rule}");
        }
        let same = exact(4400, 4000, &one, Nothing);
        assert_eq!(
            one_after_the_other(&same, &same),
            [(0, 2200), (2200, 0)],
            "the very same"
        );
    }

    #[test]
    fn instructions_with_a_mark_are_shared_by_all_personas() {
        let ann = exact(4400, 4000, "", CacheHint::Breakpoints);
        let mut bob = ann.clone();
        bob.messages[1].content = letters("b", 4000);
        assert_eq!(one_after_the_other(&ann, &bob), [(0, 2100), (1100, 1000)]);
        let mut unmarked = [ann, bob];
        for request in &mut unmarked {
            request.delivery.shared.remove(0);
        }
        let [ann, bob] = unmarked;
        assert_eq!(
            one_after_the_other(&ann, &bob),
            [(0, 2100), (0, 2100)],
            "no shorter prefix stands in"
        );
    }

    #[test]
    fn without_a_mark_and_with_none_wanted_nothing_is_kept() {
        let mut alone = exact(4400, 4000, "", CacheHint::Breakpoints);
        alone.delivery.shared.clear();
        assert_eq!(one_after_the_other(&alone, &alone), [(0, 0), (0, 0)]);
    }

    #[test]
    fn an_older_model_knows_no_breakpoints() {
        let older = |own: &str| Request {
            model: "gpt-4.1".into(),
            ..exact(4400, 4000, own, CacheHint::Breakpoints)
        };
        assert_eq!(
            one_after_the_other(&older("x"), &older("y")),
            [(0, 0), (2048, 0)],
            "in whole blocks, and free"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_breakpoint_lives_longer() {
        let mut cache = PrefixCache::new(None);
        let prompt = Prefixes::of(&exact(4400, 4000, "", CacheHint::Breakpoints));
        cache.write(&prompt, Instant::now());
        for (minutes, read) in [(29, 2100), (29, 2100), (30, 0)] {
            tokio::time::advance(Duration::from_secs(minutes * 60)).await;
            assert_eq!(cache.read(&prompt, Instant::now()), read);
        }
    }
}
