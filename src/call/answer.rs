//! What a server answered, and whether it may be served.

use std::fmt;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An answer as it came: stored whole before it is judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The text of the answer; empty where the server sent none.
    pub text: String,
    /// Why the model stopped.
    pub finish: Finish,
    /// The text of a refusal, where the model refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// The model that answered: often a dated snapshot of the one that was asked.
    pub model: String,
    /// The tier that the server says it used; prices follow it and not the one that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
    /// Tokens as counted by the server, or estimated if it counted none.
    pub usage: Usage,
    /// The server's `usage` object as it came; null where there was none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub raw_usage: Value,
    /// The server's name for this answer or request, for its support.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Tokens of one answer. Parts that a server did not report are `None`: unknown, not 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All input, cached and written tokens included.
    pub input: u64,
    /// The part of `input` that was read from the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<u64>,
    /// The part of `input` that was written to the provider's cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
    /// All output, reasoning included.
    pub output: u64,
    /// The part of `output` that was reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
    /// True where the server counted nothing and the figures are estimates.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

impl AddAssign<&Usage> for Usage {
    /// Adds tokens up; a part that one of both did not report counts as 0 there.
    fn add_assign(&mut self, other: &Usage) {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0) + b.unwrap_or(0)),
        };
        self.input += other.input;
        self.output += other.output;
        self.cached_input = sum(self.cached_input, other.cached_input);
        self.cache_write = sum(self.cache_write, other.cache_write);
        self.reasoning = sum(self.reasoning, other.reasoning);
        self.estimated |= other.estimated;
    }
}

/// Why a model stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It ended by itself or at a stop sequence.
    #[default]
    Stop,
    /// It met `max_output_tokens` or the end of its context.
    Length,
    /// A filter withheld it.
    ContentFilter,
    /// It wanted to call a tool; septet offers none.
    ToolCall,
    /// A word that is not in the protocol; accepted where there is text.
    Other(String),
}

/// Why an answer is kept as evidence and never served (design, rule 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// Cut off at `max_output_tokens` or at the end of the context.
    Truncated,
    /// Withheld by a filter.
    Filtered,
    /// The model refused in so many words.
    Refused,
    /// No text.
    Empty,
    /// A tool call instead of an answer.
    ToolCall,
    /// Shorter than the node's `min_chars`.
    MinChars,
    /// Longer than its `max_chars`.
    MaxChars,
    /// Without a match for its `must_match`.
    MustMatch,
    /// With a match for its `must_not_match`.
    MustNotMatch,
    /// No JSON, or none that fits its `json_schema`.
    JsonSchema,
}

impl Answer {
    /// Says whether the answer may be served, and if not why.
    ///
    /// # Errors
    /// The first reason that holds, the most telling first: a truncated answer without text is
    /// truncated (a reasoning model that used up its limit), not empty.
    pub fn judge(&self) -> Result<(), Rejection> {
        match self.finish {
            Finish::Length => return Err(Rejection::Truncated),
            Finish::ContentFilter => return Err(Rejection::Filtered),
            Finish::ToolCall => return Err(Rejection::ToolCall),
            Finish::Stop | Finish::Other(_) => {}
        }
        if self.refusal.is_some() {
            Err(Rejection::Refused)
        } else if self.text.trim().is_empty() {
            Err(Rejection::Empty)
        } else {
            Ok(())
        }
    }
}

impl Rejection {
    /// True where the answer came whole and only a check of its node refused it: another day's check
    /// may accept it.
    pub const fn is_by_check(self) -> bool {
        use Rejection::*;
        match self {
            MinChars | MaxChars | MustMatch | MustNotMatch | JsonSchema => true,
            Truncated | Filtered | Refused | Empty | ToolCall => false,
        }
    }

    /// All of them.
    pub const ALL: [Rejection; 10] = {
        use Rejection::*;
        [
            Truncated,
            Filtered,
            Refused,
            Empty,
            ToolCall,
            MinChars,
            MaxChars,
            MustMatch,
            MustNotMatch,
            JsonSchema,
        ]
    };

    /// The one with this word in `--json`.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rejection| rejection.as_str() == word)
    }

    /// The word for it in `--json` and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Rejection::Truncated => "truncated",
            Rejection::Filtered => "filtered",
            Rejection::Refused => "refused",
            Rejection::Empty => "empty",
            Rejection::ToolCall => "tool_call",
            Rejection::MinChars => "min_chars",
            Rejection::MaxChars => "max_chars",
            Rejection::MustMatch => "must_match",
            Rejection::MustNotMatch => "must_not_match",
            Rejection::JsonSchema => "json_schema",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rejection::Truncated => "answer cut off at the output limit",
            Rejection::Filtered => "answer withheld by the provider's filter",
            Rejection::Refused => "the model refused",
            Rejection::Empty => "answer without text",
            Rejection::ToolCall => "a tool call instead of an answer",
            Rejection::MinChars => "answer shorter than `min_chars`",
            Rejection::MaxChars => "answer longer than `max_chars`",
            Rejection::MustMatch => "answer without a match for `must_match`",
            Rejection::MustNotMatch => "answer with a match for `must_not_match`",
            Rejection::JsonSchema => "answer that does not fit `json_schema`",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str, finish: Finish, refusal: Option<&str>) -> Answer {
        Answer {
            text: text.to_owned(),
            finish,
            refusal: refusal.map(str::to_owned),
            model: "m".to_owned(),
            service_tier: None,
            usage: Usage::default(),
            raw_usage: Value::Null,
            id: None,
        }
    }

    #[test]
    fn only_an_answer_that_ended_by_itself_and_says_something_is_served() {
        let foreign = || Finish::Other("eos".to_owned());
        let rows = [
            ("good", answer("Yes.", Finish::Stop, None), Ok(())),
            ("foreign word with text", answer("Yes.", foreign(), None), Ok(())),
            (
                "foreign word without text",
                answer(" ", foreign(), None),
                Err(Rejection::Empty),
            ),
            (
                "blank",
                answer(" \n\t", Finish::Stop, None),
                Err(Rejection::Empty),
            ),
            (
                "cut off",
                answer("Yes, bec", Finish::Length, None),
                Err(Rejection::Truncated),
            ),
            (
                "all reasoning",
                answer("", Finish::Length, None),
                Err(Rejection::Truncated),
            ),
            (
                "filter",
                answer("Yes", Finish::ContentFilter, None),
                Err(Rejection::Filtered),
            ),
            (
                "tool",
                answer("", Finish::ToolCall, None),
                Err(Rejection::ToolCall),
            ),
            (
                "refusal",
                answer("", Finish::Stop, Some("No.")),
                Err(Rejection::Refused),
            ),
            (
                "refusal with text",
                answer("Well", Finish::Stop, Some("No.")),
                Err(Rejection::Refused),
            ),
        ];
        for (name, answer, verdict) in rows {
            assert_eq!(answer.judge(), verdict, "{name}");
        }
    }

    #[test]
    fn unknown_parts_stay_unknown_until_one_is_known() {
        let mut sum = Usage {
            input: 10,
            output: 5,
            ..Usage::default()
        };
        sum += &Usage {
            input: 1,
            output: 1,
            ..Usage::default()
        };
        assert_eq!((sum.input, sum.output, sum.cached_input), (11, 6, None));
        sum += &Usage {
            input: 1,
            cached_input: Some(1),
            estimated: true,
            ..Usage::default()
        };
        assert_eq!(
            (sum.cached_input, sum.reasoning, sum.estimated),
            (Some(1), None, true)
        );
    }
}
