//! Tokens as OpenAI's models count them, by the vocabularies that OpenAI made public. It knows
//! names of models and texts. A vocabulary is read when the first text is counted with it, which
//! takes a third of a second and 50 MB: whoever may need no count should not ask for one.

use tiktoken_rs::CoreBPE;

/// Tokens of a chat beside those of its texts: of each message (where it begins and ends, who
/// speaks), and before the answer (OpenAI's cookbook, "How to count tokens with tiktoken").
pub const PER_MESSAGE: u64 = 3 + 1;
/// The same, before the answer.
pub const PER_ANSWER: u64 = 3;

/// A text is counted in pieces of so many characters: the time that a very long word takes grows
/// with its square, and the splitting of a very long gap would give up.
const PIECE: usize = 2_000;

/// A vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// `o200k_base`: gpt-4o and all that came after it.
    O200k,
    /// `cl100k_base`: gpt-4 and gpt-3.5.
    Cl100k,
}

/// Names of models and what they count with; a longer name comes before one that it begins with
/// (tiktoken 0.14's `model.py`; for gpt-6 what `ttok` 1.0 says of it).
const MODELS: [(&str, Encoding); 15] = [
    ("gpt-6", Encoding::O200k),
    ("gpt-5", Encoding::O200k),
    ("gpt-4.5", Encoding::O200k),
    ("gpt-4.1", Encoding::O200k),
    ("gpt-4o", Encoding::O200k),
    ("chatgpt-4o", Encoding::O200k),
    ("gpt-oss", Encoding::O200k),
    ("codex-mini", Encoding::O200k),
    ("o1", Encoding::O200k),
    ("o3", Encoding::O200k),
    ("o4", Encoding::O200k),
    ("gpt-4", Encoding::Cl100k),
    ("gpt-3.5-turbo", Encoding::Cl100k),
    ("gpt-35-turbo", Encoding::Cl100k),
    ("gpt-3.5", Encoding::Cl100k),
];

impl Encoding {
    /// What a model counts with, if that is public: `gpt-5.1-mini`, `openai/gpt-4o`,
    /// `ft:gpt-4o:me::1`.
    pub fn of_model(model: &str) -> Option<Self> {
        let model = model.to_lowercase();
        let name = model.rsplit('/').next().unwrap_or(&model);
        let name = name.strip_prefix("ft:").unwrap_or(name);
        let begins = |known: &str| {
            let rest = name.strip_prefix(known);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.', ':', '@']))
        };
        let found = MODELS.iter().find(|(known, _)| begins(known));
        found.map(|(_, encoding)| *encoding)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::O200k => "o200k_base",
            Encoding::Cl100k => "cl100k_base",
        }
    }

    /// The tokens of a text, of which nothing is taken for a command. In a text without gaps each
    /// `PIECE` may count one too many.
    pub fn count(self, text: &str) -> u64 {
        let vocabulary = self.vocabulary();
        let counts = pieces(text).map(|piece| vocabulary.count_ordinary(piece));
        counts.sum::<usize>() as u64
    }

    fn vocabulary(self) -> &'static CoreBPE {
        match self {
            Encoding::O200k => tiktoken_rs::o200k_base_singleton(),
            Encoding::Cl100k => tiktoken_rs::cl100k_base_singleton(),
        }
    }
}

/// A text in pieces that end where a word does, as far as there are words: words are counted with
/// the gap before them.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.char_indices().nth(PIECE).map_or(rest.len(), |(at, _)| at);
        let end = match end == rest.len() {
            true => end,
            false => last_gap(&rest[..end]).unwrap_or(end),
        };
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

/// Where the last gap behind a word begins.
fn last_gap(text: &str) -> Option<usize> {
    let mut before: Option<char> = None;
    let mut found = None;
    for (at, character) in text.char_indices() {
        if character == ' ' && before.is_some_and(|before| !before.is_whitespace()) {
            found = Some(at);
        }
        before = Some(character);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_and_what_they_count_with() {
        let cases = [
            ("gpt-4o", Some(Encoding::O200k)),
            ("gpt-4o-mini-2024-07-18", Some(Encoding::O200k)),
            ("GPT-5.6-luna", Some(Encoding::O200k)),
            ("gpt-6-luna", Some(Encoding::O200k)),
            ("openai/gpt-oss-120b:free", Some(Encoding::O200k)),
            ("ft:gpt-4.1-nano:me::8kD", Some(Encoding::O200k)),
            ("o3-mini", Some(Encoding::O200k)),
            ("gpt-4-turbo", Some(Encoding::Cl100k)),
            ("gpt-35-turbo-16k", Some(Encoding::Cl100k)),
            ("claude-opus-5", None),
            ("gemini-3.5-flash", None),
            ("o10", None),
            ("gpt-7-nova", None),
            ("gpt-50", None),
            ("my-deployment", None),
            ("", None),
        ];
        for (model, encoding) in cases {
            assert_eq!(Encoding::of_model(model), encoding, "{model}");
        }
    }

    /// The counts that tiktoken's documentation and tests have.
    #[test]
    fn texts_have_the_tokens_that_are_known_of_them() {
        assert_eq!(Encoding::O200k.count("hello world"), 2);
        assert_eq!(Encoding::Cl100k.count("hello world"), 2);
        assert_eq!(Encoding::Cl100k.count("tiktoken is great!"), 6);
        assert_eq!(Encoding::O200k.count(""), 0);
        // What would end the text is a text here.
        assert!(Encoding::O200k.count("<|endoftext|>") > 1);
    }

    #[test]
    fn a_long_text_has_the_tokens_of_its_words() {
        let prose = "Anna lives by the sea, and counts the days.\n\nThen she sleeps. ".repeat(200);
        let whole = tiktoken_rs::o200k_base_singleton().count_ordinary(&prose);
        assert_eq!(Encoding::O200k.count(&prose), whole as u64);
        let chinese = "她住在海边,数着日子。".repeat(600);
        let whole = tiktoken_rs::o200k_base_singleton().count_ordinary(&chinese) as f64;
        assert!((Encoding::O200k.count(&chinese) as f64 / whole - 1.0).abs() < 0.005);
    }

    #[test]
    fn texts_that_are_no_texts_are_counted_too() {
        for text in [" ".repeat(300_000), "a".repeat(300_000), "\n \n".repeat(100_000)] {
            assert!(Encoding::O200k.count(&text) > 100);
        }
        assert_eq!(pieces("").count(), 0);
        let odd = "ä".repeat(PIECE * 2 + 1);
        assert_eq!(pieces(&odd).map(str::len).sum::<usize>(), odd.len());
        assert_eq!(pieces(&odd).count(), 3);
    }
}
