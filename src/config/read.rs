//! Reads typed values out of the tables of a TOML document and notes everything that is not as it
//! should be. It does not know which keys there are or what they mean.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeArray, DeFloat, DeInteger, DeTable, DeValue};

use super::source::Source;
use crate::wording::{nearest, suggest};

/// The longest duration that can be written: more is a mistake, and timers stay far from overflow.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Keys whose values are never shown, because a secret may have been written there by mistake.
const NEVER_SHOWN: [&str; 2] = ["base_url", "api_key_env"];

/// One table of the document.
#[derive(Clone)]
pub(super) struct Section<'a> {
    source: &'a Source<'a>,
    table: &'a DeTable<'a>,
    /// Stands before a key in messages: `limits.`, or `model.` in a node.
    prefix: String,
    /// Stands after a key in messages: empty, or ` of node …`.
    owner: String,
    /// Where the table begins.
    pub(super) at: usize,
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn root(source: &'a Source<'a>, table: &'a DeTable<'a>) -> Self {
        Self {
            source,
            table,
            prefix: String::new(),
            owner: String::new(),
            at: 0,
        }
    }

    /// The same table, named in messages as part of `owner`.
    pub(super) fn of(mut self, owner: &str) -> Self {
        self.prefix.clear();
        self.owner = format!(" of {owner}");
        self
    }

    /// The name of a key in messages.
    pub(super) fn label(&self, key: &str) -> String {
        format!("`{}{}`{}", self.prefix, bare(key), self.owner)
    }

    /// Notes every key that is not one of `known`.
    pub(super) fn only(self, known: &[&str]) -> Self {
        for key in self.table.keys() {
            let name = key.get_ref();
            if !known.contains(&name.as_ref()) {
                let known = known.iter().copied();
                self.source.error(
                    key.span().start,
                    format!("unknown key {}", self.label(name)),
                    suggest(name, "known keys are", known),
                );
            }
        }
        self
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// True where the value of a key is a text.
    pub(super) fn is_text(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value.get_ref().is_str())
    }

    /// Where the value of a key stands; the table where there is none.
    pub(super) fn place(&self, key: &str) -> usize {
        self.get(key).map_or(self.at, |value| value.span().start)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &'a Spanned<toml::de::DeString<'a>>> + use<'a> {
        self.table.keys()
    }

    /// The name of the table in messages.
    pub(super) fn name(&self) -> &str {
        self.prefix.trim_end_matches('.')
    }

    /// The line of a byte of the document, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.source.line(at)
    }

    /// How many errors were noted so far, in the whole document.
    pub(super) fn errors(&self) -> usize {
        self.source.count_errors()
    }

    pub(super) fn error(&self, at: usize, message: String, hint: Option<String>) {
        self.source.error(at, message, hint);
    }

    /// True where an unknown key is near to `key`: whoever misses it has the error already.
    pub(super) fn misspells(&self, key: &str) -> bool {
        let names = self.table.keys().map(|name| name.get_ref().as_ref());
        !self.has(key) && names.into_iter().any(|name| nearest(name, [key]).is_some())
    }

    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    /// Notes that a value is not what was expected.
    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str, hint: Option<String>) {
        let found = if NEVER_SHOWN.contains(&key) {
            String::new()
        } else {
            format!(", not {}", self.source.shown(value.span()))
        };
        let message = format!("{} must be {expected}{found}", self.label(key));
        self.error(value.span().start, message, hint);
    }

    /// A text.
    pub(super) fn text(&self, key: &str) -> Option<Spanned<String>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Spanned::new(value.span(), text.to_string())),
            other => {
                let hint = (other.is_integer() || other.is_float() || other.is_bool()).then(|| {
                    format!(
                        "put it in quotes: `{key} = \"{}\"`",
                        self.source.slice(value.span())
                    )
                });
                self.wrong(key, value, "a text in quotes", hint);
                None
            }
        }
    }

    /// A text that is not empty.
    pub(super) fn filled(&self, key: &str) -> Option<Spanned<String>> {
        let text = self.text(key)?;
        if text.get_ref().trim().is_empty() {
            let message = format!("{} is empty", self.label(key));
            self.error(text.span().start, message, None);
            return None;
        }
        Some(text)
    }

    /// A whole number within `range`.
    pub(super) fn whole(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.get(key)?;
        let found = value.get_ref().as_integer().and_then(whole);
        if let Some(number) = found.filter(|number| range.contains(number)) {
            return Some(number);
        }
        let expected = format!(
            "a whole number {}",
            bounds(*range.start(), *range.end(), u64::MAX)
        );
        self.wrong(key, value, &expected, unquote(key, value));
        None
    }

    /// `true` or `false`.
    pub(super) fn yes_or_no(&self, key: &str) -> Option<Spanned<bool>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(yes) => Some(Spanned::new(value.span(), *yes)),
            _ => {
                self.wrong(key, value, "`true` or `false`", None);
                None
            }
        }
    }

    /// A number within `range`; never NaN or infinite.
    pub(super) fn number(&self, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let value = self.get(key)?;
        let found = match value.get_ref() {
            DeValue::Integer(number) => integer(number).map(|number| number as f64),
            DeValue::Float(number) => float(number),
            _ => None,
        };
        if let Some(number) = found.filter(|number| range.contains(number)) {
            return Some(number);
        }
        let expected = format!("a number {}", bounds(*range.start(), *range.end(), f64::MAX));
        self.wrong(key, value, &expected, unquote(key, value));
        None
    }

    /// A duration, at least `least` and at most a day.
    pub(super) fn duration(&self, key: &str, least: Duration) -> Option<Spanned<Duration>> {
        let value = self.get(key)?;
        let found = value
            .get_ref()
            .as_str()
            .and_then(|text| text.parse::<jiff::SignedDuration>().ok())
            .and_then(|duration| Duration::try_from(duration).ok());
        match found {
            Some(duration) if duration > LONGEST => self.wrong(key, value, "at most 24 hours", None),
            Some(duration) if duration < least => {
                let expected = if least > Duration::from_millis(1) {
                    "longer"
                } else {
                    "longer than 0"
                };
                self.wrong(key, value, expected, None);
            }
            Some(duration) => return Some(Spanned::new(value.span(), duration)),
            None => {
                let hint = match value.get_ref() {
                    DeValue::Integer(number) => {
                        format!("write it with its unit: `{key} = \"{}s\"`", number.as_str())
                    }
                    _ => "units are `ms`, `s`, `m` and `h`".to_owned(),
                };
                let expected = r#"a duration like `"500ms"`, `"10s"`, `"10m"` or `"1h 30m"`"#;
                self.wrong(key, value, expected, Some(hint));
            }
        }
        None
    }

    /// A text, or a list of texts.
    pub(super) fn text_or_texts(&self, key: &str) -> Option<Vec<Spanned<String>>> {
        match self.get(key)?.get_ref() {
            DeValue::Array(_) => self.texts(key),
            _ => self.text(key).map(|text| vec![text]),
        }
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str) -> Option<Vec<Spanned<String>>> {
        let value = self.get(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            let hint = value.get_ref().is_str().then(|| {
                format!(
                    "put it in brackets: `{key} = [{}]`",
                    self.source.slice(value.span())
                )
            });
            self.wrong(key, value, "a list of texts", hint);
            return None;
        };
        let text = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
            DeValue::String(text) => Some(Spanned::new(item.span(), text.to_string())),
            _ => {
                self.wrong(key, item, "a list of texts in quotes", None);
                None
            }
        };
        Some(items.iter().filter_map(text).collect())
    }

    /// A table with any keys in it.
    pub(super) fn table(&self, key: &str) -> Option<Section<'a>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section {
                source: self.source,
                table,
                prefix: format!("{}{}.", self.prefix, bare(key)),
                owner: self.owner.clone(),
                at: value.span().start,
            }),
            DeValue::Array(items)
                if items.iter().all(|item| item.get_ref().is_table()) && !items.is_empty() =>
            {
                let hint = Some(format!(
                    "write `[{}{}]` once, in single brackets",
                    self.prefix,
                    bare(key)
                ));
                self.wrong(key, value, "one table", hint);
                None
            }
            _ => {
                let hint = if self.owner.is_empty() {
                    let name = format!("{}{}", self.prefix, bare(key));
                    format!("write `[{name}]` on a line of its own and its keys below")
                } else {
                    format!("write it like `{key} = {{ name = \"value\" }}`")
                };
                self.wrong(key, value, "a table", Some(hint));
                None
            }
        }
    }

    /// All tables of an array of tables (`[[key]]`).
    pub(super) fn tables(&self, key: &str) -> Vec<Section<'a>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let name = format!("{}{}", self.prefix, bare(key));
        let expected = format!("a list of tables, each under `[[{name}]]`");
        match value.get_ref() {
            DeValue::Array(items) => items
                .iter()
                .filter_map(|item| match item.get_ref() {
                    DeValue::Table(table) => Some(Section {
                        source: self.source,
                        table,
                        prefix: format!("{name}."),
                        owner: self.owner.clone(),
                        at: item.span().start,
                    }),
                    _ => {
                        self.wrong(key, item, &expected, None);
                        None
                    }
                })
                .collect(),
            other => {
                let hint = other
                    .is_table()
                    .then(|| format!("write `[[{name}]]` instead of `[{name}]`"));
                self.wrong(key, value, &expected, hint);
                Vec::new()
            }
        }
    }

    /// Every key of this table with its value as JSON; dates become texts.
    pub(super) fn values(&self) -> Vec<(Spanned<String>, Value)> {
        self.table
            .iter()
            .filter_map(|(key, value)| {
                let json = self.json(key.get_ref(), value)?;
                Some((Spanned::new(key.span(), key.get_ref().to_string()), json))
            })
            .collect()
    }

    fn json(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        match value.get_ref() {
            DeValue::String(text) => Some(Value::from(text.as_ref())),
            DeValue::Boolean(truth) => Some(Value::from(*truth)),
            DeValue::Datetime(date) => Some(Value::from(date.to_string())),
            DeValue::Integer(number) => self.json_number(key, value, json_integer(number)),
            DeValue::Float(number) => self.json_number(key, value, float(number).and_then(Number::from_f64)),
            DeValue::Array(items) => self.json_array(key, items),
            DeValue::Table(table) => {
                let mut map = Map::new();
                for (name, value) in table {
                    map.insert(name.get_ref().to_string(), self.json(key, value)?);
                }
                Some(Value::Object(map))
            }
        }
    }

    fn json_array(&self, key: &str, items: &DeArray<'_>) -> Option<Value> {
        let items: Option<Vec<Value>> = items.iter().map(|item| self.json(key, item)).collect();
        items.map(Value::Array)
    }

    fn json_number(&self, key: &str, value: &Spanned<DeValue<'_>>, number: Option<Number>) -> Option<Value> {
        if number.is_none() {
            self.wrong(
                key,
                value,
                "a number that JSON has: finite, and 64 bits if whole",
                None,
            );
        }
        number.map(Value::Number)
    }
}

/// The key as it would be typed: in quotes if it has to be.
fn bare(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(plain) {
        key.to_owned()
    } else {
        format!("{key:?}")
    }
}

fn whole(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn json_integer(number: &DeInteger<'_>) -> Option<Number> {
    integer(number)
        .map(Number::from)
        .or_else(|| whole(number).map(Number::from))
}

fn float(number: &DeFloat<'_>) -> Option<f64> {
    number
        .as_str()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}

/// `of at least 1` where there is no upper end worth naming, else `from 0 to 1`.
fn bounds<T: PartialEq + std::fmt::Display>(least: T, most: T, no_end: T) -> String {
    if most == no_end {
        format!("of at least {least}")
    } else {
        format!("from {least} to {most}")
    }
}

/// The hint for a number that was written as a text.
fn unquote(key: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
    let text = value.get_ref().as_str()?;
    text.parse::<f64>().ok().filter(|number| number.is_finite())?;
    Some(format!("write it without quotes: `{key} = {text}`"))
}
