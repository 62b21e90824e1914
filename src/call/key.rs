//! The key of a request: blake3 over a canonical, length-prefixed list of everything that decides
//! the answer. The list itself ([`fields`]) is public, so that what makes the key can also
//! explain it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::call::request::Request;

/// The context of blake3's `derive_key`. A change of the list below is a new version here, and
/// with it a store whose old answers are not found: change it only when an answer could be wrong.
const CONTEXT: &str = "septet request v1";

/// The name of a stored answer: 32 bytes of blake3, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// Returns the key of a request.
    pub fn of(request: &Request) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        fields(request, |name, value| {
            for part in [name.as_bytes(), value] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        });
        Self(*hasher.finalize().as_bytes())
    }

    /// The key's bytes, in the order in which they are stored and sorted.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 digits: enough to tell keys apart on a screen.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

/// Calls `each` with the name and the value of every field that decides the answer, always in
/// the same order.
///
/// Which fields there are is a rule of the design (rule 1) and described in `docs/keys.md`.
pub fn fields(request: &Request, mut each: impl FnMut(&str, &[u8])) {
    each("provider", request.provider.as_bytes());
    each("model", request.model.as_bytes());
    for message in &request.messages {
        each(message.role.as_str(), message.content.as_bytes());
    }
    let mut text = String::new();
    for (name, value) in request.parameters.iter() {
        text.clear();
        canonical(value, &mut text);
        each(&format!("parameter {name}"), text.as_bytes());
    }
    if let Some(variant) = &request.variant {
        each("variant", variant.as_bytes());
    }
}

/// Writes a JSON value so that equal values give equal text: object keys sorted, no spaces, a
/// whole number without a fraction (`1.0` is `1`).
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            // Sorted here and not by the map: a crate elsewhere may switch on serde_json's
            // `preserve_order`, and keys must not depend on that.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(name, _)| name.as_str());
            out.push('{');
            for (i, (name, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        Value::Number(number) => match number.as_f64() {
            // 2^53: above it not every whole number is a float of its own.
            Some(x) if number.is_f64() && x.fract() == 0.0 && x.abs() < 9_007_199_254_740_992.0 => {
                out.push_str(&(x as i64).to_string());
            }
            _ => out.push_str(&number.to_string()),
        },
        other => out.push_str(&other.to_string()),
    }
}

impl From<[u8; 32]> for Key {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        blake3::Hash::from_hex(text)
            .map(|hash| Self(*hash.as_bytes()))
            .map_err(|_| format!("not a key (64 hexadecimal digits): {text}"))
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Delivery, Message, Role};
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::Arc;

    fn request() -> Request {
        let message = |role, content: &str| Message {
            role,
            content: content.to_owned(),
        };
        let parameters =
            json!({ "temperature": 0.8, "stop": ["END"], "extra": { "b": 1, "a": [true, null] } });
        Request {
            provider: "api.openai.com/v1".into(),
            model: "gpt-6-luna".into(),
            messages: vec![
                message(Role::System, "Be brief."),
                message(Role::User, "Who is Daniel?"),
            ],
            parameters: Arc::new(serde_json::from_value(parameters).unwrap()),
            variant: None,
            delivery: Delivery {
                max_output_tokens: Some(4000),
                service_tier: Some("flex".into()),
                ..Delivery::default()
            },
        }
    }

    fn changed(change: impl FnOnce(&mut Request)) -> Key {
        let mut request = request();
        change(&mut request);
        Key::of(&request)
    }

    fn parameter(name: &str, value: Value) -> Key {
        changed(|r| _ = Arc::make_mut(&mut r.parameters).insert(name.to_owned(), value))
    }

    /// If this changes, every stored answer is lost to every user: see `CONTEXT`.
    #[test]
    fn the_key_of_a_known_request_stays() {
        let known = "0fae6576009c5dc32f7648ff82fb74bfb7b93737205b5c98230e8d9f91a320b2";
        assert_eq!(Key::of(&request()).to_string(), known);
    }

    #[test]
    fn what_can_change_a_finished_answer_changes_the_key() {
        let rows: &[(&str, Key)] = &[
            ("provider", changed(|r| r.provider = "localhost/v1".into())),
            ("model", changed(|r| r.model = "gpt-6-sol".into())),
            ("system message", changed(|r| r.messages[0].content.push('!'))),
            ("user message", changed(|r| r.messages[1].content.push('!'))),
            ("role", changed(|r| r.messages[0].role = Role::User)),
            ("order of messages", changed(|r| r.messages.reverse())),
            ("a message less", changed(|r| _ = r.messages.pop())),
            ("temperature", parameter("temperature", json!(0.9))),
            ("reasoning_effort", parameter("reasoning_effort", json!("low"))),
            ("an extra parameter", parameter("top_p", json!(0.5))),
            (
                "inside an extra parameter",
                parameter("extra", json!({ "a": [true, 0], "b": 1 })),
            ),
            ("variant", changed(|r| r.variant = Some("b".into()))),
        ];
        let mut keys: Vec<Key> = rows
            .iter()
            .map(|(_, key)| *key)
            .chain([Key::of(&request())])
            .collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), rows.len() + 1, "each row has a key of its own");
    }

    #[test]
    fn what_only_bounds_or_delivers_does_not() {
        let same = Key::of(&request());
        assert_eq!(changed(|r| r.delivery.max_output_tokens = None), same);
        assert_eq!(changed(|r| r.delivery.service_tier = None), same);
    }

    #[test]
    fn equal_parameters_have_equal_keys_however_they_are_written() {
        assert_eq!(parameter("n", json!(1)), parameter("n", json!(1.0)));
        assert_eq!(parameter("n", json!(-0.0)), parameter("n", json!(0)));
        let reordered: Value = serde_json::from_str(r#"{"a":[true,null],"b":1.0}"#).unwrap();
        assert_eq!(parameter("extra", reordered), Key::of(&request()));
        assert_ne!(parameter("n", json!("1")), parameter("n", json!(1)));
        assert_ne!(parameter("n", json!(1.5)), parameter("n", json!(1)));
    }

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let key = Key::of(&request());
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(serde_json::from_value::<Key>(json!(key)).unwrap(), key);
        assert!("abc".parse::<Key>().is_err());
    }

    proptest! {
        #[test]
        fn text_moved_over_a_boundary_is_another_request(text in ".{2,40}", at in 0usize..40, to in 0usize..40) {
            let split = |at: usize| {
                let at = text.char_indices().map(|(i, _)| i).nth(at % text.chars().count()).unwrap();
                changed(|r| {
                    r.messages[0].content = text[..at].to_owned();
                    r.messages[1].content = text[at..].to_owned();
                })
            };
            let chars = text.chars().count();
            prop_assert_eq!(split(at) == split(to), at % chars == to % chars);
        }
    }
}
