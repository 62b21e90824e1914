//! The text of a data file → the value that a template sees, with keys in the order of the file.
//! It does not know whose file it is or where it lies.

use std::fmt;

use minijinja::Value;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{MessageFormatter, UserMessageFormatter};
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// What is wrong with a data file.
#[derive(Debug, PartialEq)]
pub(super) struct DataError {
    /// From 1, where it is known.
    pub(super) line: Option<usize>,
    pub(super) message: String,
    pub(super) hint: Option<&'static str>,
}

/// Reads TOML. Dates become texts, as they stand in the file.
pub(super) fn toml(text: &str) -> Result<Value, DataError> {
    let document = DeTable::parse(text).map_err(|error| DataError {
        line: error.span().map(|span| line_of(text, span.start)),
        message: format!("not valid TOML: {}", error.message()),
        hint: None,
    })?;
    table(text, document.get_ref())
}

fn table(text: &str, table: &DeTable<'_>) -> Result<Value, DataError> {
    // The parser sorts keys by name; their places have the order in which they were written.
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let pairs = entries
        .into_iter()
        .map(|(key, value)| Ok((key.get_ref().as_ref(), toml_value(text, value)?)));
    Ok(Value::from_pairs(
        pairs.collect::<Result<Vec<(&str, Value)>, _>>()?,
    ))
}

fn toml_value(text: &str, value: &Spanned<DeValue<'_>>) -> Result<Value, DataError> {
    let wrong = |what: &str| DataError {
        line: Some(line_of(text, value.span().start)),
        message: format!("`{}` is {what}", &text[value.span()]),
        hint: None,
    };
    match value.get_ref() {
        DeValue::String(text) => Ok(Value::from(text.as_ref())),
        DeValue::Boolean(truth) => Ok(Value::from(*truth)),
        DeValue::Datetime(date) => Ok(Value::from(date.to_string())),
        DeValue::Integer(number) => integer(number).ok_or_else(|| wrong("too large a number")),
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::from(number)),
            _ => Err(wrong("no finite number")),
        },
        DeValue::Array(items) => {
            let items: Result<Vec<Value>, _> = items.iter().map(|item| toml_value(text, item)).collect();
            Ok(Value::from(items?))
        }
        DeValue::Table(inner) => table(text, inner),
    }
}

fn integer(number: &DeInteger<'_>) -> Option<Value> {
    let (digits, radix) = (number.as_str(), number.radix());
    i64::from_str_radix(digits, radix)
        .map(Value::from)
        .or_else(|_| u64::from_str_radix(digits, radix).map(Value::from))
        .ok()
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// Reads JSON.
pub(super) fn json(text: &str) -> Result<Value, DataError> {
    match serde_json::from_str::<Data>(text) {
        Ok(data) => Ok(data.0),
        Err(error) => {
            let whole = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            let what = whole.strip_suffix(&place).unwrap_or(&whole);
            Err(DataError {
                line: Some(error.line()).filter(|line| *line > 0),
                message: format!("not valid JSON: {what}"),
                hint: None,
            })
        }
    }
}

/// Reads YAML 1.2: `yes` and `no` are texts, and there is one document.
pub(super) fn yaml(text: &str) -> Result<Value, DataError> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    match serde_saphyr::from_str_with_options::<Data>(text, options) {
        Ok(data) => Ok(data.0),
        Err(error) => Err(DataError {
            line: error
                .location()
                .and_then(|place| usize::try_from(place.line()).ok()),
            message: format!(
                "not valid YAML: {}",
                UserMessageFormatter.format_message(error.without_snippet())
            ),
            hint: None,
        }),
    }
}

/// A value of any shape. minijinja's own is not used, because serde gives it no say in keys that
/// come twice.
struct Data(Value);

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DataVisitor).map(Data)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::from(()))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::from(()))
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        inner.deserialize_any(DataVisitor)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::from(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Data(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::from(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut pairs: Vec<(Value, Value)> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(Data(key)) = entries.next_key()? {
            if key.as_object().is_some() {
                return Err(A::Error::custom(
                    "a key must be a text or a number, not a list or a map",
                ));
            }
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!("the key `{key}` comes twice")));
            }
            let Data(value) = entries.next_value()?;
            pairs.push((key, value));
        }
        Ok(Value::from_pairs(pairs))
    }
}
