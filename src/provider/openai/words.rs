//! Makes what a server says fit for a person's screen: one line, harmless, short, and without
//! the key.

use std::fmt;

use reqwest::header::HeaderMap;
use secrecy::{ExposeSecret, SecretString};

use crate::call::Fault;

/// The most characters of a server's message that are shown.
pub(super) const MESSAGE: usize = 300;

/// The most characters of a body that is shown because it is no answer.
pub(super) const EXCERPT: usize = 200;

/// The most characters of a fault's message: our words around the server's.
const WHOLE: usize = 600;

/// The most characters of a short name from outside: a model, a tier, a request's id.
const NAME: usize = 200;

/// Stands where the key stood. Not ASCII, so that it can neither hold a key nor complete one.
const MARK: &str = "•••";

/// The shortest piece of a long key that is hidden: servers and proxies cut messages anywhere.
const PIECE: usize = 12;

/// Longer texts are cut before the key is looked for: bounds the work on a hostile message.
const LOOKED_AT: usize = 16 * 1024;

/// The words of one server's answers, with its key kept out of them.
pub(super) struct Words {
    key: Option<SecretString>,
}

impl Words {
    /// Hides `key` in everything that passes through.
    pub(super) fn hiding(key: Option<SecretString>) -> Self {
        Self { key }
    }

    /// Returns `text` as one line of at most `most` characters, without control characters,
    /// invisible characters and the key.
    pub(super) fn line(&self, text: &str, most: usize) -> String {
        // The key is looked for last, in the very characters that are shown: an invisible
        // character between its letters hides it from nobody.
        cut(self.hide(plain(text)), most)
    }

    /// A short name from outside.
    pub(super) fn name(&self, text: &str) -> String {
        self.line(text, NAME)
    }

    /// A fault whose every text is fit to be shown.
    pub(super) fn fault(&self, fault: Fault) -> Fault {
        Fault {
            message: self.line(&fault.message, WHOLE),
            request_id: fault.request_id.map(|id| self.name(&id)),
            ..fault
        }
    }

    /// The server's name for a request, for its support.
    pub(super) fn request_id(&self, headers: &HeaderMap) -> Option<String> {
        // `request-id` is Anthropic's.
        let id = ["x-request-id", "request-id"]
            .iter()
            .find_map(|name| headers.get(*name))?;
        Some(self.name(&String::from_utf8_lossy(id.as_bytes()))).filter(|id| !id.is_empty())
    }

    /// Puts a mark in the place of every piece of the key.
    fn hide(&self, text: String) -> String {
        let Some(key) = self.key.as_ref().map(|key| key.expose_secret().as_bytes()) else {
            return text;
        };
        let piece = key.len().clamp(1, PIECE);
        let mut secret = vec![false; text.len()];
        for (start, window) in text.as_bytes().windows(piece).enumerate() {
            if key.windows(piece).any(|part| part == window) {
                secret[start..start + piece].fill(true);
            }
        }
        without(&text, &secret)
    }
}

/// Replaces every run of marked bytes. A key is ASCII, so no character is split.
fn without(text: &str, secret: &[bool]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut hidden = false;
    for (at, character) in text.char_indices() {
        match (secret[at], hidden) {
            (true, false) => shown.push_str(MARK),
            (true, true) => {}
            (false, _) => shown.push(character),
        }
        hidden = secret[at];
    }
    shown
}

/// One line: every run of spaces, line ends and control characters becomes one space, what is
/// invisible or turns the direction of writing is left out.
fn plain(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(LOOKED_AT));
    let mut space = false;
    for character in text.chars() {
        if character.is_whitespace() || character.is_control() {
            space = true;
        } else if !is_invisible(character) {
            if space && !line.is_empty() {
                line.push(' ');
            }
            space = false;
            line.push(character);
            if line.len() >= LOOKED_AT {
                break;
            }
        }
    }
    line
}

/// Unicode's invisible formatting characters: zero-width, bidirectional overrides and isolates,
/// the byte order mark, tags (Unicode 16, general category Cf, the ones that reach text).
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The first `most` characters, the last of them `…` where something is missing.
fn cut(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text,
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(key: &str) -> Words {
        Words::hiding(Some(SecretString::from(key)))
    }

    #[test]
    fn a_line_is_one_line_and_harmless() {
        let open = Words::hiding(None);
        for (rule, text, line) in [
            ("line ends", "a\r\nb\n\nc", "a b c"),
            ("terminal escapes", "\u{1b}[31mred\u{1b}[0m\u{7}", "[31mred [0m"),
            ("tabs and unicode spaces", "a\t\u{a0}\u{2028}b", "a b"),
            ("bidirectional override", "a\u{202e}b\u{2069}", "ab"),
            ("zero width", "\u{feff}a\u{200b}b", "ab"),
            ("outer spaces", "  a  ", "a"),
            ("nothing left", "\u{0}\n", ""),
            ("other scripts stay", "größe 大きさ 😀", "größe 大きさ 😀"),
        ] {
            assert_eq!(open.line(text, 100), line, "{rule}");
        }
    }

    #[test]
    fn a_long_line_ends_in_an_ellipsis() {
        let open = Words::hiding(None);
        assert_eq!(open.line("äöüß", 4), "äöüß");
        assert_eq!(open.line("äöüßä", 4), "äöü…");
    }

    #[test]
    fn the_key_is_hidden() {
        let key = "sk-proj-0123456789abcdefghij";
        for (rule, text, line) in [
            ("whole", "key sk-proj-0123456789abcdefghij!", "key •••!"),
            (
                "twice",
                "sk-proj-0123456789abcdefghij,sk-proj-0123456789abcdefghij",
                "•••,•••",
            ),
            ("cut short", "key sk-proj-012345678", "key •••"),
            ("its end", "…456789abcdefghij", "…•••"),
            (
                "split by an invisible character",
                "sk-proj-0123\u{200b}456789abcdefghij",
                "•••",
            ),
            (
                "a short piece, as servers show it",
                "sk-proj-***ghij",
                "sk-proj-***ghij",
            ),
        ] {
            assert_eq!(words(key).line(text, 100), line, "{rule}");
        }
    }

    #[test]
    fn a_short_key_is_hidden_too() {
        assert_eq!(words("EMPTY").line("key EMPTY, EMPTYEMPTY", 100), "key •••, •••");
    }

    #[test]
    fn the_key_is_hidden_before_the_line_is_cut() {
        let key = "sk-proj-0123456789abcdefghij";
        let text = format!("{}{key}", "x".repeat(290));
        assert_eq!(words(key).line(&text, 300), format!("{}•••", "x".repeat(290)));
    }

    #[test]
    fn nothing_prints_the_key() {
        assert_eq!(format!("{:?}", words("sk-secret")), "Words { .. }");
    }

    proptest! {
        #[test]
        fn no_line_holds_the_key(
            key in "[!-~]{1,40}",
            parts in prop::collection::vec(any::<String>(), 1..5),
            most in 0usize..400,
        ) {
            let line = words(&key).line(&parts.join(&key), most);
            prop_assert!(!line.contains(&key));
            prop_assert!(line.chars().count() <= most.max(1));
            prop_assert!(!line.chars().any(|c| c.is_control() || is_invisible(c)));
        }
    }
}
