//! Reads an answer out of the JSON of a Chat Completion. Whether the answer is any good is not
//! decided here: a bad one was paid too.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::call::{Answer, FaultKind, Finish, Request};
use crate::provider::openai::usage;
use crate::provider::openai::words::Words;

/// Why JSON is no answer: the kind of fault, and what is wrong in words.
pub(super) type NoAnswer = (FaultKind, String);

/// A reply as nearly all are: one choice with a text, nothing wrong. Read without building the rest
/// of its JSON. What is passed over need not be valid, as UTF-8 or as numbers: it was paid all the
/// same. (Lists in the place of these objects would be read too; nobody sends any.)
#[derive(Deserialize)]
struct Usual<'a> {
    error: Option<IgnoredAny>,
    object: Option<&'a str>,
    choices: [UsualChoice<'a>; 1],
    usage: Option<Value>,
    model: Option<&'a str>,
    service_tier: Option<&'a str>,
    id: Option<&'a str>,
}

#[derive(Deserialize)]
struct UsualChoice<'a> {
    error: Option<IgnoredAny>,
    object: Option<&'a str>,
    finish_reason: &'a str,
    message: UsualMessage,
}

#[derive(Deserialize)]
struct UsualMessage {
    content: String,
    refusal: Option<String>,
}

/// Reads the answer to `request` out of a body of the usual form; `None` for every other, also for
/// one that is no answer: [`take`] says what is wrong with it. `id` is as there.
pub(super) fn usual(body: &[u8], request: &Request, id: Option<&str>, words: &Words) -> Option<Answer> {
    let reply: Usual<'_> = serde_json::from_slice(body).ok()?;
    let [choice] = reply.choices;
    let is_error = |object: Option<&str>| object == Some("error");
    if reply.error.is_some() || choice.error.is_some() || is_error(reply.object) || is_error(choice.object) {
        return None;
    }
    let finish = finish(Some(choice.finish_reason), words).ok()?;
    let UsualMessage { content, refusal } = choice.message;
    let raw_usage = reply.usage.unwrap_or_default();
    let name = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(|text| words.name(text));
    Some(Answer {
        usage: usage::count(&raw_usage, request, &content),
        text: content,
        finish,
        refusal: refusal.filter(|refusal| !refusal.trim().is_empty()),
        model: name(reply.model).unwrap_or_else(|| request.model.to_string()),
        service_tier: name(reply.service_tier),
        raw_usage,
        id: id.map(str::to_owned).or_else(|| name(reply.id)),
    })
}

/// Takes the answer to `request` out of `reply`. `id` is the server's name for it from the
/// headers.
///
/// # Errors
/// `reply` is as it was.
pub(super) fn take(
    reply: &mut Value,
    request: &Request,
    id: Option<String>,
    words: &Words,
) -> Result<Answer, NoAnswer> {
    let choice = reply.get("choices").and_then(|choices| choices.get(0));
    let Some(choice) = choice.filter(|choice| choice.is_object()) else {
        return Err((FaultKind::BadResponse, "the answer holds no choice".to_owned()));
    };
    let finish = finish(choice["finish_reason"].as_str(), words)?;
    let (text, refusal) = content(reply.pointer_mut("/choices/0/message"));
    let raw_usage = field(reply, "usage");
    let name = |value: &Value| {
        value
            .as_str()
            .filter(|text| !text.is_empty())
            .map(|text| words.name(text))
    };
    Ok(Answer {
        usage: usage::count(&raw_usage, request, &text),
        text,
        finish,
        refusal,
        model: name(&reply["model"]).unwrap_or_else(|| request.model.to_string()),
        service_tier: name(&reply["service_tier"]),
        raw_usage,
        id: id.or_else(|| name(&reply["id"])),
    })
}

/// The word for why the model stopped, with what other vendors' words mean that reach clients
/// through gateways. An answer without one did not end.
fn finish(reason: Option<&str>, words: &Words) -> Result<Finish, NoAnswer> {
    let broken = |what: String| Err((FaultKind::BadResponse, what));
    let Some(reason) = reason.map(str::trim).filter(|reason| !reason.is_empty()) else {
        return broken("the answer did not end: it has no `finish_reason`".to_owned());
    };
    Ok(match reason.to_ascii_lowercase().as_str() {
        "stop" => Finish::Stop,
        // Anthropic, Gemini; Mistral; Anthropic.
        "length" | "max_tokens" | "model_length" | "model_context_window_exceeded" => Finish::Length,
        // Anthropic; Gemini.
        "content_filter" | "refusal" | "safety" | "recitation" | "prohibited_content" => {
            Finish::ContentFilter
        }
        "tool_calls" | "function_call" | "tool_use" => Finish::ToolCall,
        "error" => return broken("the answer broke off: `finish_reason` is `error`".to_owned()),
        // DeepSeek ran out of room in the middle of the text. To take it for whole would put a
        // torso into the store for good.
        "insufficient_system_resource" => {
            let message = "the answer broke off: `finish_reason` is `insufficient_system_resource`";
            return Err((FaultKind::Overloaded, message.to_owned()));
        }
        _ => Finish::Other(words.name(reason)),
    })
}

/// Text and refusal. Reasoning that servers put beside the text is never the answer.
fn content(message: Option<&mut Value>) -> (String, Option<String>) {
    let Some(message) = message else {
        return (String::new(), None);
    };
    let refusal = match field(message, "refusal") {
        Value::String(refusal) if !refusal.trim().is_empty() => Some(refusal),
        _ => None,
    };
    match field(message, "content") {
        Value::String(text) => (text, refusal),
        Value::Array(parts) => {
            let refused = parts.iter().find_map(|part| part["refusal"].as_str());
            (
                parts.iter().filter_map(part).collect(),
                refusal.or_else(|| refused.map(str::to_owned)),
            )
        }
        _ => (String::new(), refusal),
    }
}

/// Moves a field out; null where there is none.
fn field(value: &mut Value, name: &str) -> Value {
    value.get_mut(name).map(Value::take).unwrap_or_default()
}

/// The text of a part of a content list; `None` for thinking, pictures, refusals.
fn part(part: &Value) -> Option<&str> {
    match part["type"].as_str() {
        Some("text" | "output_text") => part["text"].as_str(),
        Some(_) => None,
        None => part.as_str().or_else(|| part["text"].as_str()),
    }
}
