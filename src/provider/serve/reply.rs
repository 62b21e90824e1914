//! What the server sends, in the shapes of OpenAI's Chat Completions: answers and headers (errors
//! in `refusal`). Decides nothing.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::Value;

use super::connection::Peer;
use super::limits::Gauge;
use crate::call::{Answer, Finish};

/// A response with a JSON body.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("BUG: the server's own types are JSON");
    response(status, body.into())
}

/// A JSON body with the end of a line behind it, for those who read it in a terminal.
pub fn line(body: &impl Serialize) -> Response {
    let mut body = serde_json::to_vec(body).expect("BUG: the server's own types are JSON");
    body.push(b'\n');
    response(StatusCode::OK, body.into())
}

fn response(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The object `chat.completion` of an answer; `created` in Unix seconds.
pub fn completion(answer: &Answer, created: i64) -> Vec<u8> {
    #[derive(Serialize)]
    struct Completion<'a> {
        id: &'a str,
        object: &'a str,
        created: i64,
        model: &'a str,
        choices: [Choice<'a>; 1],
        usage: &'a Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        service_tier: Option<&'a str>,
        system_fingerprint: &'a str,
    }
    #[derive(Serialize)]
    struct Choice<'a> {
        index: u32,
        message: Message<'a>,
        logprobs: Option<()>,
        finish_reason: &'a str,
    }
    #[derive(Serialize)]
    struct Message<'a> {
        role: &'a str,
        content: &'a str,
        refusal: Option<&'a str>,
    }
    let completion = Completion {
        id: answer.id.as_deref().unwrap_or_default(),
        object: "chat.completion",
        created,
        model: &answer.model,
        choices: [Choice {
            index: 0,
            message: Message {
                role: "assistant",
                content: &answer.text,
                refusal: None,
            },
            logprobs: None,
            finish_reason: finish_word(&answer.finish),
        }],
        usage: &answer.raw_usage,
        service_tier: answer.service_tier.as_deref(),
        system_fingerprint: "fp_septet",
    };
    serde_json::to_vec(&completion).expect("BUG: an answer is JSON")
}

fn finish_word(finish: &Finish) -> &str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ContentFilter => "content_filter",
        Finish::ToolCall => "tool_calls",
        Finish::Other(word) => word,
    }
}

/// A whole answer.
pub fn whole(body: Vec<u8>) -> Response {
    response(StatusCode::OK, body.into())
}

/// The first half of an answer as if it were all.
pub fn malformed(mut body: Vec<u8>) -> Response {
    body.truncate(body.len() / 2);
    whole(body)
}

/// The first half of an answer, and then the connection is reset; without an answer at once.
pub fn broken(body: Vec<u8>, peer: Peer) -> Response {
    let length = body.len().max(1);
    let half = Bytes::from(body).slice(..length / 2);
    let reset = async move {
        if length > 1 {
            // Gives what was sent so far the time to leave.
            tokio::task::yield_now().await;
        }
        peer.reset_on_close();
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    };
    let parts = stream::iter([Ok(half)]).chain(stream::once(reset));
    let mut response = response(StatusCode::OK, Body::from_stream(parts));
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length.into());
    response
}

/// Adds the headers that every response has.
pub fn stamp(response: &mut Response, request_id: &str, gauges: [Option<Gauge>; 2]) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert("x-request-id", value);
    }
    let names = [
        [
            "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        ],
        [
            "x-ratelimit-limit-tokens",
            "x-ratelimit-remaining-tokens",
            "x-ratelimit-reset-tokens",
        ],
    ];
    for ([limit, remaining, reset], gauge) in names.into_iter().zip(gauges) {
        let Some(gauge) = gauge else { continue };
        headers.insert(limit, gauge.limit.into());
        headers.insert(remaining, gauge.remaining.into());
        headers.insert(
            reset,
            go_duration(gauge.reset)
                .parse()
                .expect("BUG: a duration is a header's value"),
        );
    }
}

/// A duration as Go prints it, in whole milliseconds, rounded up: `20ms`, `7.66s`, `6m0s`,
/// `1h0m0s`.
pub fn go_duration(duration: Duration) -> String {
    let ms = whole_ms(duration);
    if ms == 0 {
        return "0s".to_owned();
    }
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let (minutes, ms) = (ms / 60_000, ms % 60_000);
    let seconds = format!("{}.{:03}", ms / 1000, ms % 1000);
    let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

pub(super) fn whole_ms(duration: Duration) -> u64 {
    duration.as_nanos().div_ceil(1_000_000) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        // The first six stand in OpenAI's documentation.
        let cases = [
            (20, "20ms"),
            (7660, "7.66s"),
            (1000, "1s"),
            (360_000, "6m0s"),
            (179_560, "2m59.56s"),
            (3_600_000, "1h0m0s"),
            (0, "0s"),
            (60_001, "1m0.001s"),
            (10_000, "10s"),
        ];
        for (ms, expected) in cases {
            assert_eq!(go_duration(Duration::from_millis(ms)), expected);
        }
        assert_eq!(go_duration(Duration::from_nanos(1)), "1ms", "never too short");
    }
}
