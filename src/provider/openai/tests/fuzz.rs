//! Anything that a server may send: an answer or a fault that is fit to be shown, without the key,
//! and no wait that nobody meant.

use super::*;
use crate::fuzzed;
use crate::provider::openai::{told, wait};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const BODIES: [&str; 8] = [
    r#"{"id":"chatcmpl-1","model":"gpt-6-luna","choices":[{"index":0,"message":{"role":"assistant","content":"Hello \ud83d\ude00","refusal":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":4}},"service_tier":"default"}"#,
    r#"{"choices":[{"message":{"content":[{"type":"text","text":"a"},{"type":"refusal","refusal":"no"}]},"finish_reason":"content_filter"}],"usage":null}"#,
    r#"{"error":{"message":"Rate limit reached for sk-canary-0123456789abcdef. Please try again in 1m2.5s","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
    r#"[{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"37.5s"},{"violations":[{"quotaId":"GenerateRequestsPerDay"}]}]}}]"#,
    r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#,
    "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>",
    r#"{"detail":[{"loc":["body","messages"],"msg":"field required","type":"value_error"}],"message":"x","statusCode":400}"#,
    "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n",
];

const STATUSES: [u16; 16] = [
    200, 201, 204, 301, 307, 400, 401, 402, 403, 404, 408, 413, 429, 500, 503, 529,
];

fn is_fit_to_be_shown(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?}");
    // Shorter pieces give nothing away.
    let shown = (0..=KEY.len() - 12).any(|at| text.contains(&KEY[at..at + 12]));
    assert!(!shown, "{text:?}");
    assert!(text.chars().count() <= 640, "{text:?}");
}

fn holds(read: Result<Answer, Fault>) {
    match read {
        Ok(answer) => {
            is_fit_to_be_shown(&answer.model);
            answer.id.iter().for_each(|id| is_fit_to_be_shown(id));
        }
        Err(fault) => {
            assert!(!fault.message.is_empty());
            is_fit_to_be_shown(&fault.message);
            fault.request_id.iter().for_each(|id| is_fit_to_be_shown(id));
            assert!(
                fault
                    .retry_after
                    .is_none_or(|wait| !wait.is_zero() && wait <= DAY)
            );
        }
    }
}

#[test]
fn answer_bodies_fuzz() {
    bolero::check!(name = "answer_bodies_fuzz").for_each(|bytes: &[u8]| {
        let (status, bytes) = bytes.split_first().unwrap_or((&0, bytes));
        let body = fuzzed::input(bytes, &BODIES.map(str::as_bytes));
        holds(read(
            STATUSES[usize::from(*status) % STATUSES.len()],
            &[("content-type", "application/json")],
            body,
        ));
    });
}

const HEADERS: [&str; 4] = [
    "x-ratelimit-limit-requests: 5000\nx-ratelimit-remaining-requests: 4999\nx-ratelimit-reset-requests: 12ms\nx-ratelimit-limit-tokens: 2000000\nx-ratelimit-remaining-tokens: 0\nx-ratelimit-reset-tokens: 1m0.5s",
    "retry-after: Mon, 23 Nov 2026 12:01:00 GMT\ndate: Mon, 23 Nov 2026 12:00:50 GMT\nretry-after-ms: 1500.5\nx-should-retry: true\nx-request-id: req_1",
    "anthropic-ratelimit-requests-limit: 50\nanthropic-ratelimit-requests-remaining: 0\nanthropic-ratelimit-requests-reset: 2026-11-23T12:00:30Z\nrequest-id: sk-canary-0123456789abcdef",
    "x-ratelimit-limit: 20\nx-ratelimit-remaining: -1\nx-ratelimit-reset: 1795435260000\nx-ratelimit-limit-req-minute: 1e3\nx-tokenlimit-limit: 7\ncontent-encoding: gzip\nlocation: https://example.com/\ncontent-type: text/html; charset=utf-8",
];

#[test]
fn headers_fuzz() {
    bolero::check!(name = "headers_fuzz").for_each(|bytes: &[u8]| {
        let (status, bytes) = bytes.split_first().unwrap_or((&0, bytes));
        let mut headers = HeaderMap::new();
        for line in fuzzed::input(bytes, &HEADERS.map(str::as_bytes)).split(|byte| *byte == b'\n') {
            let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let (name, value) = line.split_at(at);
            if let (Ok(name), Ok(value)) = (
                HeaderName::from_bytes(name),
                HeaderValue::from_bytes(value.get(1..).unwrap_or_default()),
            ) && headers.try_append(name, value).is_err()
            {
                break;
            }
        }
        if let Some(wait) = wait::hint(&headers, None, NOW) {
            assert!(!wait.is_zero() && wait <= DAY, "{wait:?}");
        }
        let quotas = told::quotas(&headers, NOW);
        for quota in [quotas.requests, quotas.tokens].into_iter().flatten() {
            assert!(quota.limit > 0);
            assert!(
                quota.remaining.is_none_or(|left| left <= quota.limit),
                "{quota:?}"
            );
            assert!(quota.reset.is_none_or(|reset| reset <= DAY), "{quota:?}");
        }
        let status = STATUSES[usize::from(*status) % STATUSES.len()];
        let words = Words::hiding(Some(SecretString::from(KEY)));
        let reply = ended(status, headers, r#"{"error":{"message":"x"}}"#, End::Whole);
        holds(reply::read(reply, &request(), &words, NOW));
    });
}
