//! The Responses API in the server's words: its requests turned into those of Chat Completions and
//! back, and the jobs of background mode. Knows no limits and no connections.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::refusal::Refusal;

/// The responses that are kept, by their id.
#[derive(Debug, Default)]
pub struct Jobs {
    by_id: HashMap<String, Job>,
}

#[derive(Debug)]
enum Job {
    Going,
    Ended(Value),
    Cancelled,
}

impl Jobs {
    /// A job begins.
    pub fn begin(&mut self, id: &str) {
        self.by_id.insert(id.to_owned(), Job::Going);
    }

    /// It has ended so; one that was cancelled stays that.
    pub fn end(&mut self, id: &str, response: Value) {
        if let Some(job @ Job::Going) = self.by_id.get_mut(id) {
            *job = Job::Ended(response);
        }
    }

    /// Gives it up. False: there is none of that name.
    pub fn cancel(&mut self, id: &str) -> bool {
        match self.by_id.get_mut(id) {
            None => false,
            Some(job @ Job::Going) => {
                *job = Job::Cancelled;
                true
            }
            Some(Job::Ended(_) | Job::Cancelled) => true,
        }
    }

    /// All are forgotten.
    pub fn forget(&mut self) {
        self.by_id.clear();
    }

    /// How far it is.
    pub fn get(&self, id: &str) -> Option<Value> {
        Some(match self.by_id.get(id)? {
            Job::Going => going(id),
            Job::Cancelled => json!({ "id": id, "object": "response", "status": "cancelled", "output": [] }),
            Job::Ended(response) => response.clone(),
        })
    }
}

/// A response that is being made.
pub fn going(id: &str) -> Value {
    json!({ "id": id, "object": "response", "status": "in_progress", "background": true, "output": [] })
}

/// The same request as one of Chat Completions, and whether it is a job.
///
/// # Errors
/// The 400 of a body that is none.
pub fn chat(body: &[u8]) -> Result<(Vec<u8>, bool), Refusal> {
    let mut fields: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
        let message = format!("We could not parse the JSON body of your request. ({error})");
        Refusal::bad_request(message, None, None)
    })?;
    let background = fields.remove("background") == Some(Value::Bool(true));
    fields.remove("store");
    let messages = match fields.remove("input") {
        Some(Value::String(text)) => json!([{ "role": "user", "content": text }]),
        Some(Value::Array(items)) => items.into_iter().map(message).collect(),
        _ => {
            let message = "Missing required parameter: 'input'.";
            return Err(Refusal::bad_request(
                message,
                Some("input"),
                Some("missing_required_parameter"),
            ));
        }
    };
    fields.insert("messages".into(), messages);
    if let Some(most) = fields.remove("max_output_tokens") {
        fields.insert("max_completion_tokens".into(), most);
    }
    for (object, name, flat) in [
        ("reasoning", "effort", "reasoning_effort"),
        ("text", "verbosity", "verbosity"),
    ] {
        if let Some(value) = fields.get(object).and_then(|object| object.get(name)).cloned() {
            fields.insert(flat.into(), value);
        }
    }
    let bytes = serde_json::to_vec(&fields).expect("BUG: it was JSON just now");
    Ok((bytes, background))
}

fn message(mut item: Value) -> Value {
    for part in item["content"].as_array_mut().into_iter().flatten() {
        if part["type"] == "input_text" {
            part["type"] = json!("text");
        }
    }
    item
}

/// A whole Chat Completion as a response of this id.
pub fn response(id: &str, completion: &[u8]) -> Value {
    let mut chat: Value = serde_json::from_slice(completion).expect("BUG: the server's own types are JSON");
    let usage = &chat["usage"];
    let usage = json!({
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": usage["prompt_tokens_details"],
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": usage["completion_tokens_details"],
        "total_tokens": usage["total_tokens"],
    });
    let (status, details) = match chat["choices"][0]["finish_reason"].as_str() {
        Some("length") => ("incomplete", json!({ "reason": "max_output_tokens" })),
        Some("content_filter") => ("incomplete", json!({ "reason": "content_filter" })),
        _ => ("completed", Value::Null),
    };
    let text = chat["choices"][0]["message"]["content"].take();
    json!({
        "id": id,
        "object": "response",
        "created_at": chat["created"],
        "status": status,
        "incomplete_details": details,
        "error": null,
        "model": chat["model"],
        "output": [{
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{ "type": "output_text", "text": text, "annotations": [] }],
        }],
        "usage": usage,
    })
}
