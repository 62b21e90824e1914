//! Finds what a server says about an error in the envelopes of the vendors: OpenAI's object,
//! Gemini's array around it, Mistral's flat form, Anthropic's and OpenRouter's details, FastAPI's
//! `detail`. Does not know what any of it means.

use serde_json::Value;

/// What a server says about an error. Its texts are as they came: not fit to be shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Envelope {
    /// For people; empty where there is none.
    pub message: String,
    /// Everything that names the error by a word, in lower case, the most exact first: `code`,
    /// then `type`, then what vendors hide deeper.
    pub names: Vec<String>,
    /// `code` where it is an HTTP status (OpenRouter, Gemini, LiteLLM as a string).
    pub status: Option<u16>,
    /// `param`: the field of the request that is meant.
    pub param: Option<String>,
    /// How many seconds to wait, from the body.
    pub wait: Option<f64>,
    /// Gemini's names of the quotas that were exceeded.
    pub quotas: Vec<String>,
    /// OpenRouter's moderation found something.
    pub flagged: bool,
    /// Anthropic's name for the request.
    pub request_id: Option<String>,
}

impl Envelope {
    /// Looks for an error in the JSON of a response whose status says that it is one.
    pub(super) fn of_failure(reply: &Value) -> Option<Self> {
        let reply = first(reply);
        Self::of_success(reply).or_else(|| {
            let told = ["message", "detail", "code", "type"];
            let flat = told.iter().any(|name| !reply[*name].is_null());
            flat.then(|| Self::of_error(reply, reply))
        })
    }

    /// Looks for an error in the JSON of a response whose status says that all is well:
    /// OpenRouter reports what goes wrong after routing this way. A null or empty `error`, which
    /// some servers send next to an answer, is none.
    pub(super) fn of_success(reply: &Value) -> Option<Self> {
        let reply = first(reply);
        let flat = reply["object"] == "error";
        match &reply["error"] {
            Value::Object(error) if !error.is_empty() => Some(Self::of_error(&reply["error"], reply)),
            Value::String(text) if !text.trim().is_empty() => {
                let message = text.clone();
                Some(Self {
                    message,
                    ..Self::of_error(&Value::Null, reply)
                })
            }
            _ if flat => Some(Self::of_error(reply, reply)),
            _ => None,
        }
    }

    /// Reads an error object found in `reply`.
    fn of_error(error: &Value, reply: &Value) -> Self {
        let details = details(error);
        Self {
            message: message(error),
            names: names(error, &details),
            status: status(&error["code"]).or_else(|| status(&error["status"])),
            param: error["param"]
                .as_str()
                .map(str::to_owned)
                .or_else(|| place(error)),
            wait: wait(error, &details),
            quotas: quotas(&details),
            flagged: is_flagged(&error["metadata"]),
            request_id: reply["request_id"].as_str().map(str::to_owned),
        }
    }
}

/// Gemini's OpenAI endpoint wraps the object in an array.
fn first(reply: &Value) -> &Value {
    reply.as_array().and_then(|items| items.first()).unwrap_or(reply)
}

/// `details`: a list at Gemini, one object at Anthropic.
fn details(error: &Value) -> Vec<&Value> {
    match &error["details"] {
        Value::Array(items) => items.iter().collect(),
        Value::Object(_) => vec![&error["details"]],
        _ => Vec::new(),
    }
}

/// The message; with what OpenRouter's upstream said, since its own is only "Provider returned
/// error".
fn message(error: &Value) -> String {
    let own = [&error["message"], &error["detail"], &error["error_description"]]
        .into_iter()
        .find_map(text)
        .unwrap_or_default();
    match upstream(&error["metadata"]["raw"]) {
        Some(upstream) if own.is_empty() => upstream,
        Some(upstream) => format!("{own}: {upstream}"),
        None => own,
    }
}

/// What OpenRouter's upstream answered: JSON inside a string, or just words.
fn upstream(raw: &Value) -> Option<String> {
    let said = raw.as_str().map_or_else(
        || raw.clone(),
        |raw| serde_json::from_str(raw).unwrap_or(raw.into()),
    );
    match &first(&said)["error"] {
        Value::Null => text(&said["message"]).or_else(|| text(raw)),
        error => text(&error["message"]).or_else(|| text(error)),
    }
}

/// A text, or what stands for one: the messages of FastAPI's validation errors, else the JSON.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
        Value::Array(items) => {
            let told: Vec<&str> = items.iter().filter_map(|item| item["msg"].as_str()).collect();
            Some(if told.is_empty() {
                value.to_string()
            } else {
                told.join("; ")
            })
        }
        Value::Object(object) => object
            .get("detail")
            .and_then(text)
            .or_else(|| Some(value.to_string())),
        other => Some(other.to_string()),
    }
}

/// FastAPI's validation (Mistral, vLLM) tells each error in an item of its own.
fn validation(error: &Value) -> impl Iterator<Item = &Value> {
    let items = error["detail"]
        .as_array()
        .or_else(|| error["message"]["detail"].as_array());
    items.into_iter().flatten()
}

/// The field that FastAPI's first error is about: `["body", "messages", 0]` is `messages.0`.
fn place(error: &Value) -> Option<String> {
    let steps = validation(error).next()?["loc"].as_array()?.iter();
    let steps = steps.map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned));
    Some(
        steps
            .skip_while(|step| step == "body")
            .collect::<Vec<_>>()
            .join("."),
    )
}

fn names(error: &Value, details: &[&Value]) -> Vec<String> {
    let fields = [
        &error["code"],
        &error["type"],
        &error["innererror"]["code"],
        &error["limit_source"],
        &error["metadata"]["limit_source"],
        &error["metadata"]["error_type"],
    ];
    let detailed = details
        .iter()
        .flat_map(|detail| [&detail["error_code"], &detail["reason"]]);
    let validation = validation(error).map(|item| &item["type"]);
    let all = fields.into_iter().chain(detailed).chain(validation);
    all.filter_map(Value::as_str).map(str::to_lowercase).collect()
}

/// An HTTP status of an error, as a number or in a string.
fn status(code: &Value) -> Option<u16> {
    let number = code.as_u64().or_else(|| code.as_str()?.parse().ok())?;
    u16::try_from(number)
        .ok()
        .filter(|status| (400..600).contains(status))
}

/// Gemini's `RetryInfo` (`"37s"`), OpenRouter's `retry_after_seconds`.
fn wait(error: &Value, details: &[&Value]) -> Option<f64> {
    let delay = details.iter().find_map(|detail| detail["retryDelay"].as_str());
    let seconds = delay.and_then(|delay| delay.trim().strip_suffix('s')?.parse().ok());
    seconds.or_else(|| error["metadata"]["retry_after_seconds"].as_f64())
}

fn quotas(details: &[&Value]) -> Vec<String> {
    let violations = details
        .iter()
        .filter_map(|detail| detail["violations"].as_array())
        .flatten();
    violations
        .filter_map(|violation| violation["quotaId"].as_str())
        .map(str::to_owned)
        .collect()
}

/// OpenRouter's moderation lists its reasons and quotes the input.
fn is_flagged(metadata: &Value) -> bool {
    metadata["reasons"].is_array() || metadata["flagged_input"].is_string()
}
