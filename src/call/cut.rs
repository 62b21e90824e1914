//! Where an answer was cut off, and what can be done about it: the same limit would cut it off
//! again, a larger one may not.

use std::fmt;

use crate::call::answer::Usage;

/// The end of a truncated answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The `max_output_tokens` that was sent; `None`: none.
    pub limit: Option<u64>,
    /// Its tokens.
    pub usage: Usage,
}

impl Cut {
    /// True if an answer to the same request would be cut off under `limit` too, as far as can be
    /// told: it is no larger than the one that this answer met.
    pub fn holds_at(&self, limit: Option<u64>) -> bool {
        self.limit.unwrap_or(u64::MAX) >= limit.unwrap_or(u64::MAX)
    }

    /// True if the answer ended well before our limit (or there was none): the model's context was
    /// full, or the server has a limit of its own. Servers count a few tokens more or less.
    pub fn is_elsewhere(&self) -> bool {
        let reached = |limit: u64| self.usage.output.saturating_add((limit / 20).max(8)) >= limit;
        !self
            .limit
            .is_some_and(|limit| self.usage.estimated || reached(limit))
    }

    /// What helps, to follow the words of [`Cut`].
    pub fn advice(&self) -> &'static str {
        match (self.is_elsewhere(), self.limit) {
            (false, _) => "raise it",
            (true, None) => {
                "the model's context is full, or the server has a limit of its own: shorten the prompt"
            }
            (true, Some(_)) => {
                "the model's context is full, or the server has a limit of its own: shorten the prompt, or raise it"
            }
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let output = self.usage.output;
        match self.limit {
            Some(limit) if self.is_elsewhere() => write!(
                f,
                "answer cut off after {output} tokens, before `max_output_tokens` = {limit}"
            ),
            None => write!(
                f,
                "answer cut off after {output} tokens, without a `max_output_tokens`"
            ),
            Some(limit) => {
                write!(f, "answer cut off at `max_output_tokens` = {limit}")?;
                match self.usage.reasoning {
                    Some(reasoning) if reasoning > 0 && reasoning >= output => {
                        f.write_str(", all of it reasoning")
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(limit: Option<u64>, output: u64) -> Cut {
        let usage = Usage {
            output,
            ..Usage::default()
        };
        Cut { limit, usage }
    }

    #[test]
    fn it_holds_at_the_same_and_at_smaller_limits_and_none_is_the_largest() {
        let rows = [
            (Some(4000), Some(4000), true),
            (Some(4000), Some(3999), true),
            (Some(4000), Some(4001), false),
            (Some(4000), None, false),
            (None, None, true),
            (None, Some(8000), true),
        ];
        for (was, is, holds) in rows {
            assert_eq!(cut(was, 4000).holds_at(is), holds, "{was:?}, now {is:?}");
        }
    }

    #[test]
    fn the_end_of_the_context_is_told_from_our_limit() {
        for (limit, output, elsewhere) in [
            (Some(4000), 4000, false),
            (Some(4000), 4003, false),
            (Some(4000), 3801, false),
            (Some(4000), 3799, true),
            (Some(10), 3, false),
            (None, 3000, true),
        ] {
            assert_eq!(
                cut(limit, output).is_elsewhere(),
                elsewhere,
                "{limit:?}, {output}"
            );
        }
        let mut guessed = cut(Some(4000), 100);
        guessed.usage.estimated = true;
        assert!(
            !guessed.is_elsewhere(),
            "a server that counts nothing tells nothing"
        );
    }

    #[test]
    fn it_says_where_it_was_cut_off_and_what_helps() {
        let mut reasoning = cut(Some(4000), 4000);
        reasoning.usage.reasoning = Some(4000);
        let said: Vec<String> = [
            cut(Some(4000), 4000),
            reasoning,
            cut(Some(4000), 900),
            cut(None, 900),
        ]
        .map(|cut| format!("{cut}; {}", cut.advice()))
        .into();
        insta::assert_snapshot!(said.join("\n"), @r"
        answer cut off at `max_output_tokens` = 4000; raise it
        answer cut off at `max_output_tokens` = 4000, all of it reasoning; raise it
        answer cut off after 900 tokens, before `max_output_tokens` = 4000; the model's context is full, or the server has a limit of its own: shorten the prompt, or raise it
        answer cut off after 900 tokens, without a `max_output_tokens`; the model's context is full, or the server has a limit of its own: shorten the prompt
        ");
    }
}
