//! What requests have in common at their beginning, for the prompt caches that providers keep:
//! where the shared part ends, what identifies it, and what is known of the models. It does not
//! know how a provider is told, and nothing of it is part of a key.

use std::fmt;
use std::time::Duration;

use crate::call::request::Request;

/// The shortest prefix that a provider caches, in tokens: OpenAI's, and the lowest of most others
/// (OpenAI's prompt caching guide, 2026-11).
pub const LEAST_TOKENS: u64 = 1_024;

/// Parameters that are rendered into a prompt before or beside its messages: requests that differ
/// in one of them share nothing (OpenAI's prompt caching guide, 2026-11).
pub const RENDERED: [&str; 4] = ["reasoning_effort", "response_format", "tools", "verbosity"];

/// Fields by which a request speaks of the prompt cache. Whoever writes one of them into
/// `[model.extra]` says all there is to say.
pub const FIELDS: [&str; 3] = [
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
];

/// How long an entry lives at least after its last use where the model takes breakpoints
/// (OpenAI's prompt caching guide, 2026-11).
pub const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// The same for models before them: the lower end of "5 to 10 minutes" (the same guide).
pub const SHORT_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// The name of what requests share: equal for requests that a provider's cache can serve from one
/// entry. 16 bytes of blake3, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix([u8; 16]);

impl Prefix {
    /// Returns the name of the longest shared part of a request; `None` where it shares nothing.
    pub fn of(request: &Request) -> Option<Self> {
        request.delivery.shared.last()?;
        let mut hasher = blake3::Hasher::new_derive_key("septet prompt prefix v1");
        let mut add = |part: &[u8]| {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        };
        add(request.provider.as_bytes());
        add(request.model.as_bytes());
        for name in RENDERED {
            if let Some(value) = request.parameters.get(name) {
                add(name.as_bytes());
                add(value.to_string().as_bytes());
            }
        }
        for (role, text) in shared_texts(request) {
            add(role.as_bytes());
            add(text.as_bytes());
        }
        let mut short = [0; 16];
        short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Some(Self(short))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefix({self})")
    }
}

impl From<u128> for Prefix {
    fn from(number: u128) -> Self {
        Self(number.to_be_bytes())
    }
}

/// Estimates the tokens of the shared part as [`Request::estimated_input_tokens`] does those of
/// the whole; 0 where nothing is shared.
pub fn shared_tokens(request: &Request) -> u64 {
    let characters: usize = shared_texts(request).map(|(_, text)| text.chars().count()).sum();
    (characters as u64).div_ceil(4)
}

/// True where the shared part has the [`LEAST_TOKENS`] that a provider keeps, as estimated.
pub fn is_long_enough(request: &Request) -> bool {
    // A character has a byte at least: most that are too short need not be counted.
    let bytes: usize = shared_texts(request).map(|(_, text)| text.len()).sum();
    bytes as u64 >= (LEAST_TOKENS - 1) * 4 && shared_tokens(request) >= LEAST_TOKENS
}

/// The messages up to the last mark, with who says them.
fn shared_texts(request: &Request) -> impl Iterator<Item = (&'static str, &str)> {
    let end = request.delivery.shared.last().copied();
    let messages = request.messages.iter().enumerate();
    messages.map_while(move |(index, message)| {
        let end = end.filter(|end| end.message >= index)?;
        let bytes = if end.message == index {
            end.bytes
        } else {
            message.content.len()
        };
        Some((message.role.as_str(), &message.content[..bytes]))
    })
}

/// True for the models that cache up to breakpoints only, and take them from the request: gpt-5.6
/// and later. Older ones answer 400 (OpenAI's API reference, 2026-11).
pub fn takes_breakpoints(model: &str) -> bool {
    version(model).is_some_and(|version| version >= (5, 6))
}

/// True for the models of OpenAI that refuse breakpoints.
pub fn refuses_breakpoints(model: &str) -> bool {
    let older = version(model).is_some_and(|version| version < (5, 6));
    older
        || ["o1", "o3", "o4-mini"]
            .iter()
            .any(|name| is_or_begins(model, name))
}

/// How long a cached prefix lives at least after its last use.
pub fn lifetime(model: &str) -> Duration {
    if takes_breakpoints(model) {
        LIFETIME
    } else {
        SHORT_LIFETIME
    }
}

/// The version in `gpt-5.6-sol`, `gpt-4o` or `gpt-6-luna-2026-10-01`.
fn version(model: &str) -> Option<(u32, u32)> {
    let rest = model.strip_prefix("gpt-")?;
    let end = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (major, rest) = rest.split_at(end(rest));
    let minor = rest.strip_prefix('.').map_or("0", |minor| &minor[..end(minor)]);
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn is_or_begins(model: &str, name: &str) -> bool {
    model
        .strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::call::{CacheHint, Delivery, Key, Mark, Message, Role};

    /// `context` and `prompt` in one message, with a mark after the context.
    fn request(system: &str, context: &str, prompt: &str) -> Request {
        let message = |role, content: String| Message { role, content };
        Request {
            provider: "api.openai.com/v1".into(),
            model: "gpt-6-luna".into(),
            messages: vec![
                message(Role::System, system.to_owned()),
                message(Role::User, format!("{context}{prompt}")),
            ],
            parameters: Arc::default(),
            variant: None,
            delivery: Delivery {
                shared: vec![
                    Mark {
                        message: 0,
                        bytes: system.len(),
                    },
                    Mark {
                        message: 1,
                        bytes: context.len(),
                    },
                ],
                ..Delivery::default()
            },
        }
    }

    fn changed(change: impl FnOnce(&mut Request)) -> Option<Prefix> {
        let mut request = request("Be brief.", "Daniel, 41.", "Who is he?");
        change(&mut request);
        Prefix::of(&request)
    }

    fn parameter(name: &str) -> Option<Prefix> {
        changed(|r| _ = Arc::make_mut(&mut r.parameters).insert(name.to_owned(), "low".into()))
    }

    #[test]
    fn what_a_cache_can_serve_from_one_entry_has_one_name() {
        let same = changed(|_| {});
        assert!(same.is_some());
        let rows = [
            ("another brief", changed(|r| r.messages[1].content.push('!'))),
            (
                "another limit",
                changed(|r| r.delivery.max_output_tokens = Some(1)),
            ),
            ("another variant", changed(|r| r.variant = Some("b".into()))),
            ("another temperature", parameter("temperature")),
        ];
        for (name, prefix) in rows {
            assert_eq!(prefix, same, "{name}");
        }
    }

    #[test]
    fn what_breaks_a_prefix_has_a_name_of_its_own() {
        let mut names = vec![
            changed(|_| {}),
            changed(|r| r.model = "gpt-6-sol".into()),
            changed(|r| r.messages[0].content.insert(0, '!')),
            changed(|r| r.messages[1].content.replace_range(0..1, "d")),
            changed(|r| r.delivery.shared.truncate(1)),
            changed(|r| r.messages[1].role = Role::System),
        ];
        names.extend(RENDERED.map(parameter));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(changed(|r| r.delivery.shared.clear()), None, "nothing is shared");
    }

    #[test]
    fn hints_and_marks_are_no_part_of_the_key() {
        let marked = request("Be brief.", "Daniel, 41.", "Who is he?");
        let mut bare = marked.clone();
        bare.delivery = Delivery::default();
        assert_eq!(Key::of(&marked), Key::of(&bare));
        bare.delivery.cache = CacheHint::Breakpoints;
        assert_eq!(Key::of(&marked), Key::of(&bare));
    }

    #[test]
    fn only_what_stands_before_the_last_mark_is_counted() {
        let mut request = request("größe", "seven..", "and much more than that");
        assert_eq!(shared_tokens(&request), 3, "5 + 7 characters");
        request.delivery.shared.pop();
        assert_eq!(shared_tokens(&request), 2);
        assert!(!is_long_enough(&request));
        request.delivery.shared.pop();
        assert_eq!(shared_tokens(&request), 0);
    }

    #[test]
    fn characters_and_not_bytes_make_a_prefix_long_enough() {
        for (letter, characters, long) in [
            ("a", 4_092, false),
            ("a", 4_093, true),
            ("ä", 4_092, false),
            ("ä", 4_093, true),
        ] {
            let request = request("", &letter.repeat(characters), "and more");
            assert_eq!(is_long_enough(&request), long, "{characters} × {letter}");
        }
    }

    #[test]
    fn models_are_told_apart_by_their_version_and_never_guessed() {
        let rows = [
            ("gpt-6-luna", true, false),
            ("gpt-6.1-sol", true, false),
            ("gpt-5.6-terra", true, false),
            ("gpt-5.10", true, false),
            ("gpt-10", true, false),
            ("gpt-5.5", false, true),
            ("gpt-5", false, true),
            ("gpt-5-mini-2025-08-07", false, true),
            ("gpt-4o", false, true),
            ("gpt-4.1", false, true),
            ("gpt-3.5-turbo", false, true),
            ("o3", false, true),
            ("o4-mini-2025-04-16", false, true),
            ("gpt-oss-120b", false, false),
            ("openai/gpt-6-luna", false, false),
            ("o30", false, false),
            ("simulator", false, false),
            ("", false, false),
        ];
        for (model, takes, refuses) in rows {
            assert_eq!(
                (takes_breakpoints(model), refuses_breakpoints(model)),
                (takes, refuses),
                "{model}"
            );
        }
    }
}
