//! What a node asks of its answer: `min_chars`, `max_chars`, `must_match`, `must_not_match`,
//! `json_schema`, checked and compiled. It does not read a schema that has a file of its own.

use regex::Regex;
use serde_json::Value;

use super::SchemaFile;
use super::read::Section;
use crate::call::{Checks, Schema};

/// More characters than any model writes; more is a mistake.
const MOST_CHARS: u64 = 100_000_000;

/// Reads the checks of a node; what is wrong is noted.
pub(super) fn read(section: &Section<'_>) -> (Checks, Option<SchemaFile>) {
    let (json_schema, file) = schema(section);
    let checks = Checks {
        min_chars: section.whole("min_chars", 1..=MOST_CHARS),
        max_chars: section.whole("max_chars", 1..=MOST_CHARS),
        must_match: patterns(section, "must_match"),
        must_not_match: patterns(section, "must_not_match"),
        json_schema,
    };
    contradictions(section, &checks);
    (checks, file)
}

/// What no answer could fit.
fn contradictions(section: &Section<'_>, checks: &Checks) {
    if let (Some(least), Some(most)) = (checks.min_chars, checks.max_chars)
        && least > most
    {
        let message = format!(
            "{} is {least}, more than `max_chars` = {most}: no answer has so many characters",
            section.label("min_chars")
        );
        section.error(section.place("min_chars"), message, None);
    }
    for pattern in &checks.must_match {
        let forbids = |other: &Regex| other.as_str() == pattern.as_str();
        if checks.must_not_match.iter().any(forbids) {
            let message = format!(
                "{} and `must_not_match` are both `{pattern}`: no answer fits",
                section.label("must_match"),
            );
            section.error(section.place("must_match"), message, None);
        }
    }
}

/// Regular expressions: one or a list.
fn patterns(section: &Section<'_>, key: &str) -> Vec<Regex> {
    let written = section.text_or_texts(key).unwrap_or_default();
    let compile = |text: &toml::Spanned<String>| {
        let at = text.span().start;
        if text.get_ref().is_empty() {
            let message = format!("{} is empty, which matches everything", section.label(key));
            section.error(at, message, None);
            return None;
        }
        let compiled = Regex::new(text.get_ref());
        let noted = compiled.map_err(|error| {
            let message = format!(
                "{} = `{}` is not a regular expression: {}",
                section.label(key),
                text.get_ref(),
                words(&error)
            );
            let hint = "in single quotes backslashes are as they are: `'^\\d+'`; look-around and \
                        back-references do not exist";
            section.error(at, message, Some(hint.to_owned()));
        });
        noted.ok()
    };
    written.iter().filter_map(compile).collect()
}

/// The last line of what the compiler says: the ones before repeat the pattern.
fn words(error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(most) = error {
        return format!("compiled it is larger than {} MB", most >> 20);
    }
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// A table is the schema, a text the path of one.
fn schema(section: &Section<'_>) -> (Option<Schema>, Option<SchemaFile>) {
    const KEY: &str = "json_schema";
    if section.is_text(KEY) {
        let file = section.filled(KEY).map(|path| SchemaFile {
            line: section.line(path.span().start),
            path: path.into_inner(),
        });
        return (None, file);
    }
    let Some(table) = section.table(KEY) else {
        return (None, None);
    };
    let values = table.values().into_iter();
    let value = Value::Object(values.map(|(key, value)| (key.into_inner(), value)).collect());
    let compiled = Schema::compile(value).map_err(|wrong| {
        let message = format!("{} cannot be used: {wrong}", section.label(KEY));
        section.error(section.place(KEY), message, None);
    });
    (compiled.ok(), None)
}
