//! The body of a request. Sends what is configured and nothing else: many models refuse fields
//! that others need.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::call::{Message, Request};

/// Fields that this file writes itself, and those of streaming, which [`super::answer`] does not
/// read: a parameter of the same name is left out, since a key twice in JSON is anyone's guess.
const OWN: [&str; 4] = ["model", "messages", "stream", "stream_options"];

/// Returns the JSON of a request. `output_cap_field` is the name for `max_output_tokens`.
pub(super) fn body(request: &Request, output_cap_field: &str) -> Vec<u8> {
    serde_json::to_vec(&Body {
        request,
        output_cap_field,
    })
    .expect("BUG: strings and JSON values are JSON")
}

/// Borrows everything: the texts are copied once, into the bytes that are sent.
struct Body<'a> {
    request: &'a Request,
    output_cap_field: &'a str,
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
        body.serialize_entry("messages", &Messages(messages))?;
        for (name, value) in parameters.iter() {
            let capped = delivery.max_output_tokens.is_some() && name == self.output_cap_field;
            let tiered = tier.is_some() && name == "service_tier";
            if !OWN.contains(&name.as_str()) && !capped && !tiered {
                body.serialize_entry(name, value)?;
            }
        }
        if let Some(most) = delivery.max_output_tokens {
            body.serialize_entry(self.output_cap_field, &most)?;
        }
        if let Some(tier) = tier {
            body.serialize_entry("service_tier", tier)?;
        }
        body.end()
    }
}

struct Messages<'a>(&'a [Message]);

impl Serialize for Messages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for message in self.0 {
            list.serialize_element(&OneMessage(message))?;
        }
        list.end()
    }
}

struct OneMessage<'a>(&'a Message);

impl Serialize for OneMessage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut message = serializer.serialize_map(Some(2))?;
        message.serialize_entry("role", self.0.role.as_str())?;
        message.serialize_entry("content", &self.0.content)?;
        message.end()
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
        serde_json::from_slice(&body(request, output_cap_field)).unwrap()
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
        };
        let names = ["model", "messages", "stream", "max_tokens", "service_tier"];
        let clashing: Vec<_> = names.iter().map(|name| (*name, json!("other"))).collect();
        let body = String::from_utf8(body(&request(&clashing, delivery), "max_tokens")).unwrap();
        assert!(!body.contains("other") && !body.contains("stream"), "{body}");
        for name in ["model", "messages", "max_tokens", "service_tier"] {
            assert_eq!(body.matches(&format!("\"{name}\":")).count(), 1, "{body}");
        }
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
