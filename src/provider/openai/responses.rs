//! OpenAI's Responses API: what is sent there, and what comes back, turned into the shape of Chat
//! Completions, which the files beside this one read. Knows no HTTP.

use serde_json::{Map, Value, json};

use crate::call::prompt_cache::FIELDS;
use crate::call::{CacheHint, Mark, Message, Prefix, Request};

/// Fields that this file writes itself.
const OWN: [&str; 6] = [
    "model",
    "messages",
    "input",
    "stream",
    "stream_options",
    "background",
];

/// The most characters of the id of a response.
const LONGEST_NAME: usize = 200;

/// How far a response is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    /// It has ended, with an answer or without one: the same as a Chat Completion.
    Ended(Value),
    /// It is being made, under this id.
    Going(String),
    /// The server gave it up: somebody asked for that, or it was kept too long.
    GivenUp(&'static str),
    /// None of these.
    Unknown,
}

/// Returns the JSON of a request. With `background` the server answers at once with an id, under
/// which it keeps the response: `store`, since without it it forgets it after ten minutes.
pub(super) fn body(request: &Request, cache: CacheHint, background: bool) -> Vec<u8> {
    let mut fields = Map::new();
    fields.insert("model".into(), json!(&*request.model));
    let marks = match cache {
        CacheHint::Breakpoints => request.delivery.shared.as_slice(),
        CacheHint::Nothing | CacheHint::Key => &[],
    };
    let input = request.messages.iter().enumerate().map(|(index, message)| {
        let content = content(message, marks.iter().filter(|mark| mark.message == index));
        json!({ "role": message.role.as_str(), "content": content })
    });
    fields.insert("input".into(), input.collect());
    for (name, value) in request.parameters.iter() {
        let hinted = cache != CacheHint::Nothing && FIELDS.contains(&name.as_str());
        match name.as_str() {
            name if OWN.contains(&name) || hinted => {}
            "reasoning_effort" => within(&mut fields, "reasoning", "effort", value.clone()),
            "verbosity" => within(&mut fields, "text", "verbosity", value.clone()),
            "response_format" => within(&mut fields, "text", "format", format(value)),
            "reasoning" | "text" => {
                for (inner, value) in value.as_object().into_iter().flatten() {
                    within(&mut fields, name, inner, value.clone());
                }
            }
            _ => _ = fields.insert(name.clone(), value.clone()),
        }
    }
    if let Some(most) = request.delivery.max_output_tokens {
        fields.insert("max_output_tokens".into(), json!(most));
    }
    if let Some(tier) = &request.delivery.service_tier {
        fields.insert("service_tier".into(), json!(&**tier));
    }
    match cache {
        CacheHint::Nothing => {}
        CacheHint::Key => {
            if let Some(prefix) = Prefix::of(request) {
                fields.insert("prompt_cache_key".into(), json!(prefix.to_string()));
            }
        }
        CacheHint::Breakpoints => {
            fields.insert("prompt_cache_options".into(), json!({ "mode": "explicit" }));
        }
    }
    if background {
        fields.insert("background".into(), json!(true));
    }
    // What is not fetched later need not be kept there; whoever wants it says so.
    fields.entry("store").or_insert(json!(background));
    serde_json::to_vec(&fields).expect("BUG: strings and JSON values are JSON")
}

/// Sets a field of an object within the body.
fn within(fields: &mut Map<String, Value>, object: &str, name: &str, value: Value) {
    let object = fields.entry(object).or_insert_with(|| json!({}));
    object[name] = value;
}

/// `response_format` of Chat Completions has its schema one level deeper.
fn format(chat: &Value) -> Value {
    let mut format = chat.clone();
    if let Some(Value::Object(schema)) = format
        .as_object_mut()
        .and_then(|format| format.remove("json_schema"))
    {
        for (name, value) in schema {
            format[name] = value;
        }
    }
    format
}

/// A text, in parts where the provider's cache is told what is shared.
fn content<'a>(message: &Message, marks: impl Iterator<Item = &'a Mark>) -> Value {
    let text = message.content.as_str();
    let ends: Vec<usize> = marks.map(|mark| mark.bytes).collect();
    if ends.is_empty() {
        return json!(text);
    }
    let mut parts = Vec::new();
    let mut from = 0;
    for end in ends {
        parts.push(json!({
            "type": "input_text",
            "text": &text[from..end],
            "prompt_cache_breakpoint": { "mode": "explicit" },
        }));
        from = end;
    }
    if from < text.len() {
        parts.push(json!({ "type": "input_text", "text": &text[from..] }));
    }
    Value::Array(parts)
}

/// True for what may be the id of a response: it goes into files, into terminals and into a path.
fn is_name(id: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=LONGEST_NAME).contains(&id.len()) && id.bytes().all(fits)
}

/// True for a response that has ended, whatever came of it.
pub(super) fn has_ended(response: &Value) -> bool {
    let ends = ["completed", "incomplete", "failed", "cancelled", "expired"];
    response["status"]
        .as_str()
        .is_some_and(|status| ends.contains(&status))
}

/// Says how far a response is. One that failed is an error inside a success, as others have it.
pub(super) fn stage(mut response: Value) -> Stage {
    let id = response["id"]
        .as_str()
        .filter(|id| is_name(id))
        .map(str::to_owned);
    let finish = match (response["status"].as_str(), id) {
        (Some("queued" | "in_progress"), Some(id)) => return Stage::Going(id),
        (Some("cancelled"), _) => return Stage::GivenUp("was cancelled"),
        (Some("expired"), _) => return Stage::GivenUp("has expired"),
        (Some("failed"), _) => return Stage::Ended(json!({ "error": failure(&response) })),
        (Some("completed"), _) => "stop".to_owned(),
        (Some("incomplete"), _) => match response["incomplete_details"]["reason"].as_str() {
            Some("max_output_tokens") => "length".to_owned(),
            Some(other) => other.to_owned(),
            None => return Stage::Unknown,
        },
        _ => return Stage::Unknown,
    };
    let (text, refusal) = texts(&response["output"]);
    Stage::Ended(json!({
        "id": response["id"].take(),
        "model": response["model"].take(),
        "service_tier": response["service_tier"].take(),
        "usage": response["usage"].take(),
        "choices": [{ "finish_reason": finish, "message": { "content": text, "refusal": refusal } }],
    }))
}

fn failure(response: &Value) -> Value {
    match &response["error"] {
        Value::Object(error) if !error.is_empty() => response["error"].clone(),
        _ => json!({ "message": "the response failed", "code": "server_error" }),
    }
}

/// Everything that is said in the messages of a response, and what is said instead of it.
fn texts(output: &Value) -> (String, Option<String>) {
    let items = output.as_array().into_iter().flatten();
    let messages = items.filter(|item| item["type"] == "message");
    let (mut text, mut refusal) = (String::new(), None);
    for part in messages.flat_map(|item| item["content"].as_array().into_iter().flatten()) {
        match part["type"].as_str() {
            Some("output_text") => text.push_str(part["text"].as_str().unwrap_or_default()),
            Some("refusal") => refusal = part["refusal"].as_str().map(str::to_owned),
            _ => {}
        }
    }
    (text, refusal)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::call::{Delivery, Role};

    fn request(parameters: Value) -> Request {
        let Value::Object(parameters) = parameters else {
            panic!("no parameters")
        };
        let message = |role, content: &str| Message {
            role,
            content: content.to_owned(),
        };
        Request {
            provider: "api.openai.com/v1".into(),
            model: "gpt-6-luna".into(),
            messages: vec![
                message(Role::System, "Be brief."),
                message(Role::User, "One. Two."),
            ],
            parameters: Arc::new(parameters.into_iter().collect()),
            variant: None,
            delivery: Delivery {
                max_output_tokens: Some(100),
                service_tier: Some("flex".into()),
                ..Delivery::default()
            },
        }
    }

    fn sent(request: &Request, cache: CacheHint, background: bool) -> Value {
        serde_json::from_slice(&body(request, cache, background)).unwrap()
    }

    #[test]
    fn what_is_configured_has_its_own_place_there() {
        let request = request(json!({
            "reasoning_effort": "low",
            "verbosity": "low",
            "temperature": 0.5,
            "stream": true,
            "response_format": { "type": "json_schema", "json_schema": { "name": "a", "schema": {}, "strict": true } },
        }));
        assert_eq!(
            sent(&request, CacheHint::Nothing, true),
            json!({
                "model": "gpt-6-luna",
                "input": [
                    { "role": "system", "content": "Be brief." },
                    { "role": "user", "content": "One. Two." },
                ],
                "reasoning": { "effort": "low" },
                "text": {
                    "verbosity": "low",
                    "format": { "type": "json_schema", "name": "a", "schema": {}, "strict": true },
                },
                "temperature": 0.5,
                "max_output_tokens": 100,
                "service_tier": "flex",
                "background": true,
                "store": true,
            })
        );
        assert_eq!(sent(&request, CacheHint::Nothing, false)["store"], false);
    }

    #[test]
    fn what_is_shared_is_marked() {
        let mut request = request(json!({}));
        request.delivery.shared = vec![Mark { message: 1, bytes: 4 }];
        let sent = sent(&request, CacheHint::Breakpoints, false);
        assert_eq!(
            sent["input"][1]["content"],
            json!([
                { "type": "input_text", "text": "One.", "prompt_cache_breakpoint": { "mode": "explicit" } },
                { "type": "input_text", "text": " Two." },
            ])
        );
    }

    #[test]
    fn a_response_is_going_on_or_has_ended_one_way_or_the_other() {
        let output = json!([
            { "type": "reasoning", "summary": [] },
            { "type": "message", "content": [{ "type": "output_text", "text": "One" }, { "type": "output_text", "text": " two." }] },
        ]);
        let Stage::Ended(chat) = stage(json!({
            "id": "resp_1", "status": "completed", "model": "gpt-6-luna", "output": output,
            "usage": { "input_tokens": 5, "output_tokens": 2 },
        })) else {
            panic!("it has ended")
        };
        assert_eq!(chat["choices"][0]["message"]["content"], "One two.");
        assert_eq!(
            (
                &chat["choices"][0]["finish_reason"],
                &chat["usage"]["input_tokens"]
            ),
            (&json!("stop"), &json!(5))
        );
        let ended = |status: &str, more: Value| {
            let mut response = json!({ "id": "resp_1", "status": status, "output": [] });
            response
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            stage(response)
        };
        assert_eq!(ended("queued", json!({})), Stage::Going("resp_1".to_owned()));
        assert_eq!(ended("in_progress", json!({})), Stage::Going("resp_1".to_owned()));
        assert_eq!(ended("cancelled", json!({})), Stage::GivenUp("was cancelled"));
        assert_eq!(ended("expired", json!({})), Stage::GivenUp("has expired"));
        assert_eq!(ended("odd", json!({})), Stage::Unknown);
        for id in ["", "../models", "a/b", "resp 1", "\u{1b}[2J", &"r".repeat(201)] {
            let named = stage(json!({ "id": id, "status": "queued" }));
            assert_eq!(named, Stage::Unknown, "{id}");
        }
        let longest = "r".repeat(200);
        let named = stage(json!({ "id": longest, "status": "queued" }));
        assert_eq!(named, Stage::Going(longest));
        let Stage::Ended(cut) = ended(
            "incomplete",
            json!({ "incomplete_details": { "reason": "max_output_tokens" } }),
        ) else {
            panic!("it has ended")
        };
        assert_eq!(cut["choices"][0]["finish_reason"], "length");
        let Stage::Ended(failed) = ended(
            "failed",
            json!({ "error": { "code": "server_error", "message": "sorry" } }),
        ) else {
            panic!("it has ended")
        };
        assert_eq!(failed["error"]["message"], "sorry");
    }
}
