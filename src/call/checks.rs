//! What a node asks of its answer beyond that it came whole: length, patterns, a JSON Schema. They
//! bound what is served and are no part of a key. It does not know what becomes of an answer that
//! does not fit.

use std::fmt;

use regex::Regex;

use crate::call::schema::Schema;
use crate::call::{Answer, Rejection};

/// The checks of one node; by default none.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// The fewest characters; white space at both ends is not counted.
    pub min_chars: Option<u64>,
    /// The most characters, counted the same way.
    pub max_chars: Option<u64>,
    /// Each of these is found in the text.
    pub must_match: Vec<Regex>,
    /// None of these is.
    pub must_not_match: Vec<Regex>,
    /// The text is JSON that fits this.
    pub json_schema: Option<Schema>,
}

/// Why an answer is not served, in its own case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The kind of reason.
    pub rejection: Rejection,
    /// For a check what is told of the answer, as the rest of a sentence.
    told: Option<String>,
}

/// So many characters of what was found, or of a pattern, are shown.
const LONGEST_SHOWN: usize = 60;

impl Checks {
    /// Says whether an answer may be served.
    ///
    /// # Errors
    /// The first reason why not: those of [`Answer::judge`], then the checks in the order of the
    /// fields. An answer that was cut off is that, and not too short.
    pub fn judge(&self, answer: &Answer) -> Result<(), Misfit> {
        answer.judge().map_err(Misfit::from)?;
        match self.misfit(&answer.text) {
            None => Ok(()),
            Some((rejection, told)) => Err(Misfit {
                rejection,
                told: Some(told),
            }),
        }
    }

    fn misfit(&self, text: &str) -> Option<(Rejection, String)> {
        if self.min_chars.is_some() || self.max_chars.is_some() {
            let chars = text.trim().chars().count() as u64;
            if let Some(least) = self.min_chars.filter(|least| chars < *least) {
                let told = format!("has {}, `min_chars` is {least}", characters(chars));
                return Some((Rejection::MinChars, told));
            }
            if let Some(most) = self.max_chars.filter(|most| chars > *most) {
                let told = format!("has {}, `max_chars` is {most}", characters(chars));
                return Some((Rejection::MaxChars, told));
            }
        }
        if let Some(missing) = self.must_match.iter().find(|pattern| !pattern.is_match(text)) {
            let told = format!("has no match for `must_match` = `{}`", shown(missing.as_str()));
            return Some((Rejection::MustMatch, told));
        }
        let found = |pattern: &Regex| Some((pattern.clone(), pattern.find(text)?.as_str()));
        if let Some((pattern, found)) = self.must_not_match.iter().find_map(found) {
            let found = shown(found);
            let told = format!(
                "has a match for `must_not_match` = `{}`: `{found}`",
                shown(pattern.as_str())
            );
            return Some((Rejection::MustNotMatch, told));
        }
        let told = self.json_schema.as_ref()?.judge(text).err()?;
        Some((Rejection::JsonSchema, shown_whole(&told)))
    }
}

impl PartialEq for Checks {
    fn eq(&self, other: &Self) -> bool {
        let patterns = |checks: &Self| {
            let texts = |patterns: &[Regex]| -> Vec<String> {
                patterns
                    .iter()
                    .map(|pattern| pattern.as_str().to_owned())
                    .collect()
            };
            (texts(&checks.must_match), texts(&checks.must_not_match))
        };
        (self.min_chars, self.max_chars, &self.json_schema)
            == (other.min_chars, other.max_chars, &other.json_schema)
            && patterns(self) == patterns(other)
    }
}

impl Eq for Checks {}

impl Misfit {
    /// The same of an answer that lies in the store.
    pub fn of_stored(&self) -> String {
        match &self.told {
            Some(told) => format!("the stored answer {told}"),
            None => self.rejection.to_string(),
        }
    }
}

impl From<Rejection> for Misfit {
    fn from(rejection: Rejection) -> Self {
        Self {
            rejection,
            told: None,
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.told {
            Some(told) => write!(f, "the answer {told}"),
            None => self.rejection.fmt(f),
        }
    }
}

fn characters(count: u64) -> String {
    match count {
        1 => "1 character".to_owned(),
        count => format!("{count} characters"),
    }
}

/// A text in one line, cut where it is long.
fn shown(text: &str) -> String {
    cut(text, LONGEST_SHOWN)
}

fn shown_whole(text: &str) -> String {
    cut(text, 4 * LONGEST_SHOWN)
}

fn cut(text: &str, most: usize) -> String {
    let mut cut: String = text.chars().take(most).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    let controls = cut.chars().any(char::is_control);
    if controls {
        cut.escape_debug().to_string()
    } else {
        cut
    }
}

#[cfg(test)]
#[path = "checks/tests.rs"]
mod tests;
