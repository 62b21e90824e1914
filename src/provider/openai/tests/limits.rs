//! The rows of the table of errors that say how much is too much: money, rates, the size of a
//! call.

use serde_json::json;

use super::case;
use crate::call::{FaultKind as Kind, Scope};
use crate::provider::openai::classify::reckoned;
use crate::provider::openai::envelope::Envelope;

#[test]
fn money_is_the_runs() {
    let (kind, scope) = (Kind::NoCredit, Scope::Run);
    case(400, "Anthropic: self-set spend limit, 400")
        .body(r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."}}"#)
        .is(kind, scope, "You have reached your specified API usage limits");
    case(400, "Anthropic: the workspace's limit")
        .body(r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified workspace API usage limits."}}"#)
        .is(kind, scope, "You have reached your specified workspace");
    case(402, "402 Anthropic billing_error")
        .body(r#"{"type":"error","error":{"type":"billing_error","message":"no"}}"#)
        .is(kind, scope, "no");
    case(402, "402 OpenRouter: no credit")
        .body(r#"{"error":{"code":402,"message":"Insufficient credits","metadata":{"limit_source":"openrouter_credits"}}}"#)
        .is(kind, scope, "Insufficient credits");
    case(402, "402 OpenRouter: the key's limit")
        .body(r#"{"error":{"code":402,"message":"Key limit exceeded","metadata":{"limit_source":"openrouter_key_limit"}}}"#)
        .is(kind, scope, "Key limit");
    case(402, "402 DeepSeek")
        .body(r#"{"error":{"message":"Insufficient Balance"}}"#)
        .is(kind, scope, "Insufficient");
    case(429, "429 insufficient_quota")
        .header("x-should-retry", "false")
        .body(r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#)
        .is(kind, scope, "You exceeded your current quota");
    case(429, "429 type insufficient_quota beside another code")
        .body(r#"{"error":{"message":"no","type":"insufficient_quota","code":"rate_limit_exceeded"}}"#)
        .is(kind, scope, "no");
    case(429, "429 Anthropic: monthly cap in the details, without retry-after")
        .body(r#"{"type":"error","error":{"type":"rate_limit_error","message":"spend limit","details":{"error_code":"enforced_spend_limit_reached"}}}"#)
        .is(kind, scope, "spend limit");

    for code in [
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
    ] {
        let body = format!(r#"{{"error":{{"message":"no","type":"rate_limit_error","code":"{code}"}}}}"#);
        case(429, code).body(&body).is(kind, scope, "no");
    }
}

#[test]
fn a_rate_is_waited_for() {
    let (kind, scope) = (Kind::RateLimited, Scope::Attempt);
    case(429, "rate_limit_exceeded, type requests, hint in the header")
        .header("retry-after", "20")
        .header("retry-after-ms", "1500")
        .body(r#"{"error":{"message":"Rate limit reached. Please try again in 9s.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#)
        .waits(1_500)
        .is(kind, scope, "Rate limit reached.");
    case(429, "rate_limit_exceeded, type tokens, hint in the message")
        .body(r#"{"error":{"message":"Rate limit reached for gpt-6-luna on tokens per min (TPM): Limit 10000. Please try again in 2m5.5s.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#)
        .waits(125_500)
        .is(kind, scope, "Rate limit reached for");
    case(429, "Anthropic: rate_limit_error")
        .header("retry-after", "3600")
        .body(r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed"}}"#)
        .waits(3_600_000)
        .is(kind, scope, "This request");
    case(429, "slow_down")
        .body(r#"{"error":{"message":"Your traffic grew too fast","type":"rate_limit_error","code":"slow_down"}}"#)
        .is(kind, scope, "Your traffic");
    case(503, "slow_down with 503")
        .body(r#"{"error":{"message":"Slow down","type":"server_error","code":"slow_down"}}"#)
        .is(kind, scope, "Slow down");
    case(429, "LiteLLM: renamed header, its own type")
        .header("llm_provider-retry-after", "60")
        .body(r#"{"error":{"message":"litellm.RateLimitError: limit","type":"throttling_error","param":null,"code":"429"}}"#)
        .waits(60_000)
        .is(kind, scope, "litellm.RateLimitError");
    case(429, "LiteLLM: no deployment, said to be its own error")
        .body(r#"{"error":{"message":"No deployments available for selected model","type":"internal_server_error","param":"None","code":"429"}}"#)
        .is(kind, scope, "No deployments");
    case(429, "Mistral: flat")
        .body(r#"{"object":"error","message":"Requests rate limit exceeded","type":"rate_limited","param":null,"code":"1300"}"#)
        .is(kind, scope, "Requests rate limit exceeded");
    case(429, "flex without room")
        .body(r#"{"error":{"message":"Resource Unavailable","type":"resource_unavailable","code":"resource_unavailable"}}"#)
        .is(kind, scope, "Resource Unavailable");
    case(429, "Gemini: RetryInfo")
        .body(r#"[{"error":{"code":429,"message":"Quota exceeded","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"37s"}]}}]"#)
        .waits(37_000)
        .is(kind, scope, "Quota exceeded");
    case(429, "Gemini: spend-based rate is a rate")
        .body(r#"[{"error":{"code":429,"message":"You exceeded the spend-based rate limit. Please retry in 45.5s.","status":"RESOURCE_EXHAUSTED"}}]"#)
        .waits(45_500)
        .is(kind, scope, "You exceeded");
    case(402, "402 OpenRouter: too many paid calls in the air")
        .header("retry-after", "2")
        .body(r#"{"error":{"code":402,"message":"In-flight budget exceeded","metadata":{"limit_source":"openrouter_in_flight_budget"}}}"#)
        .waits(2_000)
        .is(kind, scope, "In-flight");
    case(429, "429 without a word").is(kind, scope, "the server gives no reason");
}

#[test]
fn a_quota_of_a_day_is_waited_for_until_the_next_one() {
    case(429, "Gemini: PerDay, however short its retryDelay")
        .body(r#"[{"error":{"code":429,"message":"You exceeded your current quota","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"37s"}]}}]"#)
        // From noon in UTC to midnight eight hours behind it.
        .waits(20 * 60 * 60 * 1_000)
        .is(Kind::RateLimited, Scope::Attempt, "You exceeded");
}

#[test]
fn what_a_call_was_taken_for_is_read_where_it_is_named() {
    let reckoned = |message: &str| {
        let error = json!({ "error": { "message": message, "code": "rate_limit_exceeded" } });
        reckoned(&Envelope::of_failure(&error).unwrap())
    };
    for (message, tokens) in [
        (
            "Rate limit reached for gpt-6-luna on tokens per min (TPM): Limit 600000, Used 598000, Requested 5365. Please try again in 82ms.",
            Some(5_365),
        ),
        (
            "Rate limit reached on tokens per minute (TPM): Limit 6000, Used 5990, Requested 1,234. Please",
            Some(1_234),
        ),
        ("Too many tokens, please wait before trying again.", None),
        ("you have requested too many tokens per minute", None),
    ] {
        assert_eq!(reckoned(message), tokens, "{message}");
    }
}

#[test]
fn a_call_larger_than_the_limit_is_the_nodes() {
    let (kind, scope) = (Kind::RequestTooLarge, Scope::Node);
    let too_large = r#"{"error":{"message":"Request too large for gpt-6-luna in organization org on tokens per min (TPM): Limit 10000, Requested 12000. Try again in 9s.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#;
    case(429, "429 Request too large (TPM)")
        .header("x-should-retry", "false")
        .body(too_large)
        .waits(9_000)
        .is(kind, scope, "Request too large");
    case(413, "the same with Groq's 413")
        .body(too_large)
        .waits(9_000)
        .is(kind, scope, "Request too large");
    case(413, "413 request_too_large")
        .body(r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#)
        .is(kind, scope, "Request exceeds");
    case(413, "413 from a proxy")
        .header("content-type", "text/html")
        .body("<html><head><title>413 Request Entity Too Large</title></head></html>")
        .is(
            kind,
            scope,
            "the server gives no reason that can be read (content type `text/html`): 413 Request",
        );
}
