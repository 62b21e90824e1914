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
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
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
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
