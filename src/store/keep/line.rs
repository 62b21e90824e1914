//! One line of an export: an entry of the journal as JSON, with a checksum. `docs/export.md`
//! describes the format for others; it does not know where lines come from or go to.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::store::record::Entry;

/// The version of the format. A change that an older septet would misread is a new version; new
/// fields and new kinds of entries are none.
pub(super) const VERSION: u32 = 1;

/// What a line says.
pub(super) enum Line<'a> {
    /// The first line.
    Head,
    /// An entry, and its JSON as it stands in the line.
    Entry(Box<Entry>, &'a str),
    /// The last line: how many entries were before it.
    End(u64),
}

/// Any line, as far as it must be read to know which it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Any<'a> {
    septet_export: Option<u32>,
    crc32: Option<Cow<'a, str>>,
    #[serde(borrow)]
    entry: Option<&'a RawValue>,
    end: Option<End>,
}

#[derive(Deserialize)]
struct End {
    entries: u64,
}

/// The first line.
pub(super) fn head() -> String {
    format!("{{\"septet_export\":{VERSION}}}")
}

/// The last line.
pub(super) fn end(entries: u64) -> String {
    format!("{{\"end\":{{\"entries\":{entries}}}}}")
}

/// The line of an entry. `json` has been through [`plain`].
pub(super) fn entry(json: &str) -> String {
    format!(
        "{{\"crc32\":\"{:08x}\",\"entry\":{json}}}",
        crc32fast::hash(json.as_bytes())
    )
}

/// The JSON of an entry with nothing in it that a terminal would obey: JSON escapes control
/// characters but for DEL and the one-byte escape sequences (C1). Outside of strings it has only
/// ASCII, so that escaping them changes no value.
pub(super) fn plain(json: &str) -> Cow<'_, str> {
    let obeyed = |c: char| matches!(c, '\u{7f}'..='\u{9f}');
    if !json.contains(obeyed) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match obeyed(c) {
            true => text.push_str(&format!("\\u{:04x}", c as u32)),
            false => text.push(c),
        }
    }
    Cow::Owned(text)
}

/// Reads a line.
///
/// # Errors
/// In words, why it is none.
pub(super) fn read(line: &str) -> Result<Line<'_>, String> {
    let any: Any<'_> = serde_json::from_str(line)
        .map_err(|error| format!("not a line of an export: {}", in_line(&error)))?;
    match any {
        Any {
            septet_export: Some(version),
            crc32: None,
            entry: None,
            end: None,
        } => match version {
            VERSION => Ok(Line::Head),
            other => Err(format!("has format {other}, this septet reads {VERSION}")),
        },
        Any {
            septet_export: None,
            crc32: Some(crc32),
            entry: Some(raw),
            end: None,
        } => {
            if crc32 != format!("{:08x}", crc32fast::hash(raw.get().as_bytes())) {
                return Err("checksum does not match".to_owned());
            }
            let entry = serde_json::from_str(raw.get())
                .map_err(|error| format!("not readable as an entry: {}", in_line(&error)))?;
            Ok(Line::Entry(Box::new(entry), raw.get()))
        }
        Any {
            septet_export: None,
            crc32: None,
            entry: None,
            end: Some(End { entries }),
        } => Ok(Line::End(entries)),
        _ => Err("not a line of an export".to_owned()),
    }
}

/// What is wrong with a text of one line: which line that is the caller knows, and it is not the first.
fn in_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples;

    #[test]
    fn a_line_comes_back_and_any_flipped_bit_is_seen() {
        for sample in samples::one_of_each() {
            let json = serde_json::to_string(&sample).unwrap();
            let line = entry(&json);
            match read(&line) {
                Ok(Line::Entry(entry, raw)) => assert_eq!((*entry, raw), (sample, json.as_str())),
                Ok(_) => panic!("another kind of line"),
                Err(error) => panic!("{error}"),
            }
            let mut rng = fastrand::Rng::with_seed(1);
            for _ in 0..50 {
                let mut bytes = line.clone().into_bytes();
                bytes[rng.usize(..line.len())] ^= 1 << rng.u32(..7);
                if let Ok(flipped) = std::str::from_utf8(&bytes) {
                    assert!(read(flipped).is_err(), "{flipped}");
                }
            }
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_keeps_its_value() {
        let value = serde_json::json!({ "name": "a\u{9b}31m\u{7f}ü" });
        let json = value.to_string();
        let plain = plain(&json);
        assert_eq!(plain, "{\"name\":\"a\\u009b31m\\u007fü\"}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&plain).unwrap(), value);
    }

    #[test]
    fn wrong_lines_say_why() {
        let rows = [
            (
                "",
                "not a line of an export: EOF while parsing a value at column 0",
            ),
            ("{}", "not a line of an export"),
            ("{\"septet_export\":2}", "has format 2, this septet reads 1"),
            ("{\"crc32\":\"00000000\",\"entry\":{}}", "checksum does not match"),
            ("{\"entry\":{}}", "not a line of an export"),
        ];
        for (line, expected) in rows {
            assert_eq!(read(line).err().as_deref(), Some(expected));
        }
        let newer = entry("{\"entry\":\"prophecy\"}");
        let error = read(&newer).err().unwrap();
        assert!(
            error.starts_with("not readable as an entry: unknown variant `prophecy`"),
            "{error}"
        );
        assert!(matches!(read(&head()), Ok(Line::Head)));
        assert!(matches!(read(&end(7)), Ok(Line::End(7))));
    }
}
