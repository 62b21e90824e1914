//! The body of `POST /v1/chat/completions` → a request, checked as OpenAI's servers check it.
//! Knows no limits and no connections.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::call::prompt_cache::refuses_breakpoints;
use crate::call::{CacheHint, Delivery, Mark, Message, Request, Role};
use crate::provider::simulator;

/// The names of the output limit.
const CAPS: [&str; 2] = ["max_completion_tokens", "max_tokens"];

/// Reads a body.
///
/// # Errors
/// The 400 that OpenAI's servers send, with the field in `param`.
pub fn read(body: &[u8]) -> Result<Request, Refusal> {
    let mut fields: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
        let message = format!("We could not parse the JSON body of your request. ({error})");
        Refusal::bad_request(message, None, None)
    })?;
    let model = model(fields.remove("model"))?;
    let (messages, mut shared) = messages(fields.remove("messages"))?;
    let cache = cache(&mut fields, &model, &messages, &mut shared)?;
    let max_output_tokens = output_cap(&mut fields)?;
    let service_tier = match fields.remove("service_tier") {
        None | Some(Value::Null) => None,
        Some(Value::String(tier)) => Some(tier.into()),
        Some(other) => return Err(wrong_type("service_tier", "a string", &other)),
    };
    only_one_whole_answer(&fields)?;
    Ok(Request {
        provider: simulator::PROVIDER.into(),
        model,
        messages,
        parameters: Arc::new(fields.into_iter().collect::<BTreeMap<_, _>>()),
        variant: None,
        delivery: Delivery {
            max_output_tokens,
            service_tier,
            shared,
            cache,
            ..Delivery::default()
        },
    })
}

fn model(value: Option<Value>) -> Result<Arc<str>, Refusal> {
    match value {
        Some(Value::String(model)) if !model.is_empty() => Ok(model.into()),
        None | Some(Value::Null | Value::String(_)) => Err(Refusal::bad_request(
            "you must provide a model parameter",
            None,
            None,
        )),
        Some(other) => Err(wrong_type("model", "a string", &other)),
    }
}

/// The messages, and where in them the breakpoints are.
fn messages(value: Option<Value>) -> Result<(Vec<Message>, Vec<Mark>), Refusal> {
    match value {
        None | Some(Value::Null) => Err(Refusal::bad_request(
            "Missing required parameter: 'messages'.",
            Some("messages"),
            Some("missing_required_parameter"),
        )),
        Some(Value::Array(messages)) if messages.is_empty() => Err(Refusal::bad_request(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            Some("messages"),
            Some("empty_array"),
        )),
        Some(Value::Array(messages)) => {
            let mut marks = Vec::new();
            let messages = messages.into_iter().enumerate();
            let messages: Result<_, _> = messages.map(|each| message(each, &mut marks)).collect();
            Ok((messages?, marks))
        }
        Some(other) => Err(wrong_type("messages", "an array of objects", &other)),
    }
}

/// Reads one message. The built-in model knows instructions and everything else.
fn message((index, value): (usize, Value), marks: &mut Vec<Mark>) -> Result<Message, Refusal> {
    let invalid = |what: &str| {
        let message = format!("Invalid value for 'messages[{index}]': {what}.");
        Refusal::bad_request(message, Some("messages"), Some("invalid_value"))
    };
    let Value::Object(mut fields) = value else {
        return Err(invalid("expected an object"));
    };
    let role = match fields.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user" | "assistant" | "tool" | "function") => Role::User,
        _ => {
            return Err(invalid(
                "'role' must be one of 'system', 'developer', 'user', 'assistant', 'tool', and 'function'",
            ));
        }
    };
    let content = match fields.remove("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => {
            let (text, ends) =
                text_of(&parts).ok_or_else(|| invalid("only parts of type 'text' are served"))?;
            let ends = ends.into_iter();
            marks.extend(ends.map(|bytes| Mark {
                message: index,
                bytes,
            }));
            text
        }
        Some(Value::Null) | None if role == Role::User && fields.contains_key("tool_calls") => String::new(),
        _ => return Err(invalid("'content' must be a string or an array of parts")),
    };
    Ok(Message { role, content })
}

/// Puts parts together; returns the ends of those with a breakpoint as well.
fn text_of(parts: &[Value]) -> Option<(String, Vec<usize>)> {
    let mut whole = String::new();
    let mut ends = Vec::new();
    for part in parts {
        let text = part
            .get("text")
            .filter(|_| part.get("type").is_some_and(|t| t == "text"))?;
        whole.push_str(text.as_str()?);
        if part
            .get("prompt_cache_breakpoint")
            .is_some_and(|mark| !mark.is_null())
        {
            ends.push(whole.len());
        }
    }
    Some((whole, ends))
}

/// Reads what a request says of the prompt cache. Without the wish for no other breakpoint there
/// is one after the last message of the user.
fn cache(
    fields: &mut Map<String, Value>,
    model: &str,
    messages: &[Message],
    marks: &mut Vec<Mark>,
) -> Result<CacheHint, Refusal> {
    let options = fields
        .remove("prompt_cache_options")
        .filter(|options| !options.is_null());
    let field = match (&options, marks.is_empty()) {
        (Some(_), _) => "prompt_cache_options",
        (None, false) => "prompt_cache_breakpoint",
        (None, true) => return Ok(CacheHint::Nothing),
    };
    if refuses_breakpoints(model) {
        let message = format!("Unsupported parameter: '{field}' is not supported with this model.");
        return Err(Refusal::bad_request(
            message,
            Some(field),
            Some("unsupported_parameter"),
        ));
    }
    match options
        .as_ref()
        .map(|options| options.get("mode").unwrap_or(&Value::Null))
    {
        Some(mode) if mode == "explicit" => return Ok(CacheHint::Breakpoints),
        None | Some(Value::Null) => {}
        Some(mode) if mode == "implicit" => {}
        Some(_) => {
            return Err(Refusal::bad_request(
                "Invalid value for 'prompt_cache_options.mode': expected 'implicit' or 'explicit'.",
                Some(field),
                Some("invalid_value"),
            ));
        }
    }
    if marks.is_empty() {
        return Ok(CacheHint::Nothing);
    }
    if let Some(message) = messages.iter().rposition(|message| message.role == Role::User) {
        let bytes = messages[message].content.len();
        marks.push(Mark { message, bytes });
        marks.sort_unstable_by_key(|mark| (mark.message, mark.bytes));
        marks.dedup();
    }
    Ok(CacheHint::Breakpoints)
}

fn output_cap(fields: &mut Map<String, Value>) -> Result<Option<u64>, Refusal> {
    let mut cap = None;
    for name in CAPS {
        match fields.remove(name) {
            None | Some(Value::Null) => {}
            Some(_) if cap.is_some() => {
                return Err(Refusal::bad_request(
                    "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
                    Some("max_tokens"),
                    Some("invalid_parameter_combination"),
                ));
            }
            Some(value) => match value.as_u64() {
                Some(0) => {
                    let message =
                        format!("Invalid '{name}': integer below minimum value. Expected a value >= 1.");
                    return Err(Refusal::bad_request(
                        message,
                        Some(name),
                        Some("integer_below_min_value"),
                    ));
                }
                Some(tokens) => cap = Some(tokens),
                None => return Err(wrong_type(name, "an integer", &value)),
            },
        }
    }
    Ok(cap)
}

fn only_one_whole_answer(fields: &Map<String, Value>) -> Result<(), Refusal> {
    let unsupported = |name: &'static str, what: &str| {
        let message = format!("Unsupported value: '{name}'. The simulator {what}.");
        Err(Refusal::bad_request(
            message,
            Some(name),
            Some("unsupported_value"),
        ))
    };
    if fields.get("stream").is_some_and(|stream| stream == true) {
        return unsupported("stream", "sends whole answers and no streams");
    }
    if fields
        .get("n")
        .is_some_and(|n| !n.is_null() && n.as_u64() != Some(1))
    {
        return unsupported("n", "gives one answer to a request");
    }
    Ok(())
}

fn wrong_type(name: &'static str, expected: &str, value: &Value) -> Refusal {
    let got = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    let message = format!("Invalid type for '{name}': expected {expected}, but got {got} instead.");
    Refusal::bad_request(message, Some(name), Some("invalid_type"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(body: &str) -> (String, Option<&'static str>, Option<&'static str>) {
        let refusal = read(body.as_bytes()).unwrap_err();
        (refusal.message, refusal.param, refusal.code)
    }

    #[test]
    fn a_body_is_refused_with_the_field_that_is_wrong() {
        let (message, param, code) = refused("{\"model\": \"m\"");
        assert!(
            message.starts_with("We could not parse the JSON body of your request. (EOF"),
            "{message}"
        );
        assert_eq!((param, code), (None, None));
        let hello = json!([{"role": "user", "content": "hello"}]);
        let cases = [
            ("no model", json!({"messages": hello}), None, None),
            ("empty model", json!({"model": "", "messages": hello}), None, None),
            (
                "model of a wrong type",
                json!({"model": 6, "messages": hello}),
                Some("model"),
                Some("invalid_type"),
            ),
            (
                "no messages",
                json!({"model": "m"}),
                Some("messages"),
                Some("missing_required_parameter"),
            ),
            (
                "empty messages",
                json!({"model": "m", "messages": []}),
                Some("messages"),
                Some("empty_array"),
            ),
            (
                "messages of a wrong type",
                json!({"model": "m", "messages": "hi"}),
                Some("messages"),
                Some("invalid_type"),
            ),
            (
                "a message that is no object",
                json!({"model": "m", "messages": ["hi"]}),
                Some("messages"),
                Some("invalid_value"),
            ),
            (
                "an unknown role",
                json!({"model": "m", "messages": [{"role": "boss", "content": "x"}]}),
                Some("messages"),
                Some("invalid_value"),
            ),
            (
                "no content",
                json!({"model": "m", "messages": [{"role": "user"}]}),
                Some("messages"),
                Some("invalid_value"),
            ),
            (
                "an image",
                json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
                Some("messages"),
                Some("invalid_value"),
            ),
            (
                "a stream",
                json!({"model": "m", "messages": hello, "stream": true}),
                Some("stream"),
                Some("unsupported_value"),
            ),
            (
                "two answers",
                json!({"model": "m", "messages": hello, "n": 2}),
                Some("n"),
                Some("unsupported_value"),
            ),
            (
                "a limit of 0",
                json!({"model": "m", "messages": hello, "max_tokens": 0}),
                Some("max_tokens"),
                Some("integer_below_min_value"),
            ),
            (
                "a limit that is no number",
                json!({"model": "m", "messages": hello, "max_completion_tokens": "9"}),
                Some("max_completion_tokens"),
                Some("invalid_type"),
            ),
            (
                "two limits",
                json!({"model": "m", "messages": hello, "max_tokens": 1, "max_completion_tokens": 1}),
                Some("max_tokens"),
                Some("invalid_parameter_combination"),
            ),
            (
                "a wrong tier",
                json!({"model": "m", "messages": hello, "service_tier": 1}),
                Some("service_tier"),
                Some("invalid_type"),
            ),
        ];
        for (rule, body, param, code) in cases {
            let refusal = refused(&body.to_string());
            assert_eq!((refusal.1, refusal.2), (param, code), "{rule}: {}", refusal.0);
        }
    }

    #[test]
    fn what_decides_is_a_parameter_and_what_delivers_is_not() {
        let body = json!({
            "model": "gpt-6-luna",
            "messages": [
                {"role": "developer", "content": "be kind"},
                {"role": "user", "content": [{"type": "text", "text": "who"}, {"type": "text", "text": "what"}]},
            ],
            "max_tokens": 7,
            "service_tier": "flex",
            "stream": false,
            "n": 1,
            "temperature": 0.5,
            "seed": 3,
        });
        let request = read(body.to_string().as_bytes()).unwrap();
        assert_eq!(&*request.model, "gpt-6-luna");
        let said: Vec<_> = request
            .messages
            .iter()
            .map(|m| (m.role, m.content.as_str()))
            .collect();
        assert_eq!(said, [(Role::System, "be kind"), (Role::User, "whowhat")]);
        assert_eq!(request.delivery.max_output_tokens, Some(7));
        assert_eq!(request.delivery.service_tier.as_deref(), Some("flex"));
        let names: Vec<_> = request.parameters.keys().map(String::as_str).collect();
        assert_eq!(names, ["n", "seed", "stream", "temperature"]);
    }

    fn parts(model: &str, options: Value) -> Value {
        let mark = json!({"mode": "explicit"});
        json!({
            "model": model,
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "be kind", "prompt_cache_breakpoint": mark}]},
                {"role": "user", "content": [
                    {"type": "text", "text": "who ", "prompt_cache_breakpoint": mark},
                    {"type": "text", "text": "is it"},
                ]},
            ],
            "prompt_cache_options": options,
        })
    }

    #[test]
    fn breakpoints_are_read_and_are_no_parameters() {
        let read = |body: Value| read(body.to_string().as_bytes()).unwrap();
        let request = read(parts("gpt-6-luna", json!({"mode": "explicit", "ttl": "30m"})));
        let mark = |message, bytes| Mark { message, bytes };
        assert_eq!(request.messages[1].content, "who is it");
        assert_eq!(request.delivery.shared, [mark(0, 7), mark(1, 4)]);
        assert_eq!(request.delivery.cache, CacheHint::Breakpoints);
        assert!(request.parameters.is_empty());
        let implicit = read(parts("gpt-6-luna", Value::Null)).delivery;
        assert_eq!(
            implicit.shared,
            [mark(0, 7), mark(1, 4), mark(1, 9)],
            "one more of its own"
        );
        let hello = json!([{"role": "user", "content": "hello"}]);
        let bare = read(json!({"model": "gpt-6-luna", "messages": hello})).delivery;
        assert_eq!((bare.shared, bare.cache), (vec![], CacheHint::Nothing));
    }

    #[test]
    fn models_before_breakpoints_refuse_them() {
        let unsupported = Some("unsupported_parameter");
        let explicit = json!({"mode": "explicit"});
        let refusal = refused(&parts("gpt-5.5", explicit.clone()).to_string());
        assert_eq!(
            (refusal.1, refusal.2),
            (Some("prompt_cache_options"), unsupported)
        );
        let refusal = refused(&parts("gpt-4.1", Value::Null).to_string());
        assert_eq!(
            (refusal.1, refusal.2),
            (Some("prompt_cache_breakpoint"), unsupported)
        );
        let refusal = refused(&parts("gpt-6-luna", json!({"mode": "magic"})).to_string());
        assert_eq!(refusal.2, Some("invalid_value"));
        assert!(
            read(parts("m", explicit).to_string().as_bytes()).is_ok(),
            "nobody knows `m`"
        );
    }
}
