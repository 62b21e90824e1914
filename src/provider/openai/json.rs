//! Parses the JSON of a body, also where its text is damaged in the one way that answers are.

use serde_json::Value;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Parses a body.
///
/// # Errors
/// The body comes back with the error.
pub(super) fn parse(mut body: Vec<u8>) -> Result<Value, (Vec<u8>, serde_json::Error)> {
    let parse = |body: &[u8]| serde_json::from_slice(body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body));
    parse(&body).or_else(|error| {
        if !mend_surrogates(&mut body) {
            return Err((body, error));
        }
        parse(&body).map_err(|error| (body, error))
    })
}

/// Puts U+FFFD in the place of every half of a surrogate pair; says whether there was any.
///
/// A model that is cut off, or a server that cuts its text, in the middle of an emoji makes
/// Python's `json.dumps` write one. No strict parser takes it, but the answer was paid.
fn mend_surrogates(body: &mut [u8]) -> bool {
    let (mut at, mut mended) = (0, false);
    while at < body.len() {
        match escape(body, at) {
            Some(0xd800..=0xdbff) if matches!(escape(body, at + 6), Some(0xdc00..=0xdfff)) => at += 12,
            Some(0xd800..=0xdfff) => {
                body[at + 2..at + 6].copy_from_slice(b"fffd");
                mended = true;
                at += 6;
            }
            // Two bytes, so that the backslash of `\\` begins no escape.
            _ if body[at] == b'\\' => at += 2,
            _ => at += 1,
        }
    }
    mended
}

/// The number in `\uXXXX` at a place of the body.
fn escape(body: &[u8], at: usize) -> Option<u16> {
    let digits = body.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parsed(text: &str) -> Value {
        parse(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn half_surrogates_become_replacement_characters() {
        assert_eq!(parsed(r#""end \ud83d""#), json!("end \u{fffd}"));
        assert_eq!(parsed(r#""\ude00 start""#), json!("\u{fffd} start"));
        assert_eq!(parsed(r#""\ud83d\ud83d\ude00""#), json!("\u{fffd}😀"));
        assert_eq!(parsed(r#""\ud83dx\\ud83d""#), json!("\u{fffd}x\\ud83d"));
    }

    #[test]
    fn whole_pairs_stay() {
        assert_eq!(parsed(r#""\ud83d\ude00""#), json!("😀"));
    }

    #[test]
    fn a_byte_order_mark_and_empty_lines_are_no_matter() {
        assert_eq!(parsed("\u{feff}{\"a\":1}"), json!({"a": 1}));
        assert_eq!(parsed("\n\n\r\n{\"a\":1}\n\n"), json!({"a": 1}));
    }

    #[test]
    fn the_body_comes_back_with_the_error() {
        let (body, error) = parse(b"<html>".to_vec()).unwrap_err();
        assert_eq!(body, b"<html>");
        assert!(!error.is_eof());
    }

    proptest! {
        #[test]
        fn mending_leaves_valid_json_alone(text in any::<String>()) {
            let mut body = serde_json::to_vec(&text).unwrap();
            let before = body.clone();
            prop_assert!(!mend_surrogates(&mut body));
            prop_assert_eq!(body, before);
        }

        #[test]
        fn every_string_of_escapes_parses(units in prop::collection::vec(any::<u16>(), 0..20)) {
            let text: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let parsed = parse(format!("\"{text}\"").into_bytes());
            prop_assert_eq!(parsed.unwrap(), json!(String::from_utf16_lossy(&units)));
        }
    }
}
