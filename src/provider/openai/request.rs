//! The body of a request. Sends what is configured and nothing else: many models refuse fields
//! that others need.

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

use crate::call::prompt_cache::FIELDS;
use crate::call::{CacheHint, Mark, Message, Prefix, Request};

/// Fields that this file writes itself, and those of streaming, which [`super::answer`] does not
/// read: a parameter of the same name is left out, since a key twice in JSON is anyone's guess.
const OWN: [&str; 4] = ["model", "messages", "stream", "stream_options"];

/// Returns the JSON of a request. `output_cap_field` is the name for `max_output_tokens`; `cache`
/// is how the provider's prompt cache is told what is shared.
pub(super) fn body(request: &Request, output_cap_field: &str, cache: CacheHint) -> Vec<u8> {
    // Room for line breaks and quotes, which take a second byte, and for what stands around the texts.
    let texts: usize = request.messages.iter().map(|message| message.content.len()).sum();
    let mut bytes = Vec::with_capacity(texts + texts / 16 + 512);
    let body = Body {
        request,
        output_cap_field,
        cache,
    };
    serde_json::to_writer(&mut bytes, &body).expect("BUG: strings and JSON values are JSON");
    bytes
}

/// Borrows everything: the texts are copied once, into the bytes that are sent.
struct Body<'a> {
    request: &'a Request,
    output_cap_field: &'a str,
    cache: CacheHint,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Request {
            model,
            messages,
            parameters,
            delivery,
            ..
        } = self.request;
        let tier = delivery.service_tier.as_deref();
        let mut body = serializer.serialize_map(None)?;
        body.serialize_entry("model", &**model)?;
        let marks = match self.cache {
            CacheHint::Breakpoints => delivery.shared.as_slice(),
            CacheHint::Nothing | CacheHint::Key => &[],
        };
        body.serialize_entry("messages", &Messages { messages, marks })?;
        for (name, value) in parameters.iter() {
            let capped = delivery.max_output_tokens.is_some() && name == self.output_cap_field;
            let tiered = tier.is_some() && name == "service_tier";
            let hinted = self.cache != CacheHint::Nothing && FIELDS.contains(&name.as_str());
            if !OWN.contains(&name.as_str()) && !capped && !tiered && !hinted {
                body.serialize_entry(name, value)?;
            }
        }
        if let Some(most) = delivery.max_output_tokens {
            body.serialize_entry(self.output_cap_field, &most)?;
        }
        if let Some(tier) = tier {
            body.serialize_entry("service_tier", tier)?;
        }
        match self.cache {
            CacheHint::Nothing => {}
            CacheHint::Key => {
                if let Some(prefix) = Prefix::of(self.request) {
                    body.serialize_entry("prompt_cache_key", &prefix.to_string())?;
                }
            }
            // Also without a mark: the server would set one after the last message, and bill the
            // writing of a prompt that nobody sends again.
            CacheHint::Breakpoints => body.serialize_entry("prompt_cache_options", &EXPLICIT)?,
        }
        body.end()
    }
}

/// The form of a breakpoint, and of the wish for no others.
const EXPLICIT: Explicit = Explicit { mode: "explicit" };

#[derive(Clone, Copy, Serialize)]
struct Explicit {
    mode: &'static str,
}

/// The texts with a breakpoint at each mark.
struct Messages<'a> {
    messages: &'a [Message],
    marks: &'a [Mark],
}

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.messages.len()))?;
        for (index, message) in self.messages.iter().enumerate() {
            let marks = self.marks.iter().filter(|mark| mark.message == index);
            let marks = marks.map(|mark| mark.bytes).collect();
            list.serialize_element(&OneMessage { message, marks })?;
        }
        list.end()
    }
}

struct OneMessage<'a> {
    message: &'a Message,
    marks: Vec<usize>,
}

impl Serialize for OneMessage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut message = serializer.serialize_map(Some(2))?;
        message.serialize_entry("role", self.message.role.as_str())?;
        if self.marks.is_empty() {
            message.serialize_entry("content", &self.message.content)?;
        } else {
            message.serialize_entry("content", &self.parts())?;
        }
        message.end()
    }
}

impl<'a> OneMessage<'a> {
    /// The content cut at its marks; put together again it is the same text.
    fn parts(&self) -> Vec<Part<'a>> {
        let text = self.message.content.as_str();
        let mut parts = Vec::with_capacity(self.marks.len() + 1);
        let mut from = 0;
        for &end in &self.marks {
            parts.push(Part::new(&text[from..end], Some(EXPLICIT)));
            from = end;
        }
        if from < text.len() {
            parts.push(Part::new(&text[from..], None));
        }
        parts
    }
}

#[derive(Serialize)]
struct Part<'a> {
    r#type: &'static str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_breakpoint: Option<Explicit>,
}

impl<'a> Part<'a> {
    fn new(text: &'a str, prompt_cache_breakpoint: Option<Explicit>) -> Self {
        Self {
            r#type: "text",
            text,
            prompt_cache_breakpoint,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::call::{Delivery, Role};

    fn request(parameters: &[(&str, Value)], delivery: Delivery) -> Request {
        let parameters: BTreeMap<_, _> = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        Request {
            provider: "api.example.com/v1".into(),
            model: "gpt-6-luna".into(),
            messages: vec![
                Message {
                    role: Role::System,
                    content: "Be \"brief\".\n".to_owned(),
                },
                Message {
                    role: Role::User,
                    content: "größe 😀".to_owned(),
                },
            ],
            parameters: Arc::new(parameters),
            variant: Some("b".into()),
            delivery,
        }
    }

    fn sent(request: &Request, output_cap_field: &str) -> Value {
        serde_json::from_slice(&body(request, output_cap_field, request.delivery.cache)).unwrap()
    }

    #[test]
    fn nothing_is_sent_that_is_not_configured() {
        let bare = request(&[], Delivery::default());
        assert_eq!(
            sent(&bare, "max_tokens"),
            json!({
                "model": "gpt-6-luna",
                "messages": [
                    {"role": "system", "content": "Be \"brief\".\n"},
                    {"role": "user", "content": "größe 😀"},
                ],
            })
        );
    }

    #[test]
    fn what_is_configured_is_sent_under_its_name() {
        let delivery = Delivery {
            max_output_tokens: Some(4000),
            service_tier: Some("flex".into()),
            ..Delivery::default()
        };
        let full = request(
            &[
                ("temperature", json!(0.8)),
                ("seed", json!(7)),
                ("top", json!({"a": [1]})),
            ],
            delivery,
        );
        let sent = sent(&full, "max_completion_tokens");
        assert_eq!(sent["temperature"], json!(0.8));
        assert_eq!(sent["seed"], json!(7));
        assert_eq!(sent["top"], json!({"a": [1]}));
        assert_eq!(sent["max_completion_tokens"], json!(4000));
        assert_eq!(sent["service_tier"], json!("flex"));
        assert_eq!(sent.as_object().unwrap().len(), 7);
    }

    #[test]
    fn no_field_stands_twice() {
        let delivery = Delivery {
            max_output_tokens: Some(10),
            service_tier: Some("flex".into()),
            ..Delivery::default()
        };
        let names = ["model", "messages", "stream", "max_tokens", "service_tier"];
        let clashing: Vec<_> = names.iter().map(|name| (*name, json!("other"))).collect();
        let body = String::from_utf8(body(
            &request(&clashing, delivery),
            "max_tokens",
            CacheHint::Nothing,
        ))
        .unwrap();
        assert!(!body.contains("other") && !body.contains("stream"), "{body}");
        for name in ["model", "messages", "max_tokens", "service_tier"] {
            assert_eq!(body.matches(&format!("\"{name}\":")).count(), 1, "{body}");
        }
    }

    /// With marks after the system message and in the user's.
    fn marked(cache: CacheHint) -> Request {
        let mark = |message, bytes| Mark { message, bytes };
        let delivery = Delivery {
            shared: vec![mark(0, 12), mark(1, "größe ".len())],
            cache,
            ..Delivery::default()
        };
        request(&[], delivery)
    }

    #[test]
    fn breakpoints_cut_the_texts_without_changing_them() {
        let text = String::from_utf8(body(
            &marked(CacheHint::Breakpoints),
            "max_tokens",
            CacheHint::Breakpoints,
        ));
        insta::assert_snapshot!(text.unwrap(), @r#"{"model":"gpt-6-luna","messages":[{"role":"system","content":[{"type":"text","text":"Be \"brief\".\n","prompt_cache_breakpoint":{"mode":"explicit"}}]},{"role":"user","content":[{"type":"text","text":"größe ","prompt_cache_breakpoint":{"mode":"explicit"}},{"type":"text","text":"😀"}]}],"prompt_cache_options":{"mode":"explicit"}}"#);
        let mut whole = marked(CacheHint::Breakpoints);
        whole.delivery.shared[1].bytes = whole.messages[1].content.len();
        let parts = &sent(&whole, "max_tokens")["messages"][1]["content"];
        assert_eq!(parts.as_array().unwrap().len(), 1, "no empty part");
    }

    #[test]
    fn without_a_shared_part_no_other_breakpoint_is_wanted_either() {
        let mut alone = marked(CacheHint::Breakpoints);
        alone.delivery.shared.clear();
        let sent = sent(&alone, "max_tokens");
        assert_eq!(sent["prompt_cache_options"], json!({"mode": "explicit"}));
        assert_eq!(sent["messages"][1]["content"], json!("größe 😀"));
    }

    #[test]
    fn a_cache_key_is_the_same_for_what_shares_a_prefix() {
        let one = sent(&marked(CacheHint::Key), "max_tokens");
        let key = one["prompt_cache_key"].as_str().unwrap();
        assert_eq!(key.len(), 32);
        let mut other = marked(CacheHint::Key);
        other.messages[1].content.push('!');
        assert_eq!(sent(&other, "max_tokens")["prompt_cache_key"], key);
        other.messages[0].content.replace_range(0..1, "b");
        assert_ne!(sent(&other, "max_tokens")["prompt_cache_key"], key);
        other.delivery.shared.clear();
        assert_eq!(sent(&other, "max_tokens").get("prompt_cache_key"), None);
        assert_eq!(one["messages"][1]["content"], json!("größe 😀"), "no parts");
    }

    #[test]
    fn without_a_hint_nothing_of_the_cache_is_sent() {
        let text = String::from_utf8(body(
            &marked(CacheHint::Breakpoints),
            "max_tokens",
            CacheHint::Nothing,
        ));
        assert!(!text.unwrap().contains("cache"));
    }

    #[test]
    fn a_parameter_stands_where_nothing_else_sets_it() {
        let sent = sent(
            &request(&[("max_tokens", json!(5))], Delivery::default()),
            "max_tokens",
        );
        assert_eq!(sent["max_tokens"], json!(5));
    }
}
