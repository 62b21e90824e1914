//! The table of errors, row by row: what a server sends, and what it means. Limits of rate and
//! money are in `limits.rs`.

use super::case;
use crate::call::{FaultKind as Kind, Scope};

#[test]
fn too_long_is_the_nodes() {
    let (kind, scope) = (Kind::ContextTooLong, Scope::Node);
    case(400, "OpenAI: context_length_exceeded")
        .body(r#"{"error":{"message":"This model's maximum context length is 128000 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#)
        .is(kind, scope, "This model's maximum context length");
    case(400, "Anthropic: prompt is too long")
        .header("request-id", "req_1")
        .body(r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 212000 tokens > 200000 maximum"},"request_id":"req_1"}"#)
        .is(kind, scope, "prompt is too long");
    case(400, "LiteLLM: ContextWindowExceededError in the message, code is the status as a string")
        .body(r#"{"error":{"message":"litellm.BadRequestError: litellm.ContextWindowExceededError: too long","type":null,"param":null,"code":"400"}}"#)
        .is(kind, scope, "litellm.BadRequestError");
    case(400, "llama.cpp: its own type")
        .body(r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}"#)
        .is(kind, scope, "the request exceeds");
    case(400, "vLLM: flat, numeric code")
        .body(r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","param":null,"code":400}"#)
        .is(kind, scope, "This model's");
}

#[test]
fn a_wrong_setting_is_the_runs() {
    let (kind, scope) = (Kind::BadParameter, Scope::Run);
    case(400, "unsupported_parameter")
        .body(r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}"#)
        .is(kind, scope, "Unsupported parameter: 'max_tokens'");
    case(400, "unsupported_value")
        .body(r#"{"error":{"message":"'temperature' does not support 0.2 with this model.","type":"invalid_request_error","param":"temperature","code":"unsupported_value"}}"#)
        .is(kind, scope, "'temperature' does not");
    case(400, "unknown field, OpenAI")
        .body(r#"{"error":{"message":"Unknown parameter: 'tempreature'.","type":"invalid_request_error","param":"tempreature","code":"unknown_parameter"}}"#)
        .is(kind, scope, "Unknown parameter");
    case(400, "unknown field, Gemini")
        .body(r#"[{"error":{"code":400,"message":"Invalid JSON payload received. Unknown name \"seed2\": Cannot find field.","status":"INVALID_ARGUMENT"}}]"#)
        .is(kind, scope, "Invalid JSON payload received.");
    case(422, "unknown field, FastAPI's validation with 422")
        .body(r#"{"detail":[{"type":"extra_forbidden","loc":["body","foo"],"msg":"Extra inputs are not permitted","input":1}]}"#)
        .is(kind, scope, "Extra inputs are not permitted");
    case(400, "unknown field, LiteLLM")
        .body(r#"{"error":{"message":"litellm.UnsupportedParamsError: openai does not support parameters: ['reasoning_effort']","type":null,"param":null,"code":"400"}}"#)
        .is(kind, scope, "litellm.UnsupportedParamsError");
    case(400, "param: service_tier")
        .body(r#"{"error":{"message":"Invalid service_tier argument.","type":"invalid_request_error","param":"service_tier","code":null}}"#)
        .is(kind, scope, "Invalid service_tier");
}

#[test]
fn refused_input_is_the_nodes() {
    let (kind, scope) = (Kind::RefusedInput, Scope::Node);
    case(400, "invalid_prompt")
        .body(r#"{"error":{"message":"Invalid prompt: flagged as potentially violating our usage policy.","type":"invalid_request_error","param":null,"code":"invalid_prompt"}}"#)
        .is(kind, scope, "Invalid prompt");
    case(400, "Azure: content_filter")
        .body(r#"{"error":{"message":"The response was filtered","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#)
        .is(kind, scope, "The response was filtered");
    case(400, "Azure: only the inner code")
        .body(r#"{"error":{"message":"filtered","code":null,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#)
        .is(kind, scope, "filtered");
    case(403, "OpenRouter: 403 that is moderation")
        .body(r#"{"error":{"code":403,"message":"Your chosen model requires moderation and your input was flagged","metadata":{"reasons":["violence"],"flagged_input":"…","provider_name":"OpenAI"}}}"#)
        .is(kind, scope, "Your chosen model");
    case(403, "OpenRouter: moderation known only by its details")
        .body(r#"{"error":{"code":403,"message":"Forbidden","metadata":{"reasons":["violence"]}}}"#)
        .is(kind, scope, "Forbidden");
}

#[test]
fn the_key_and_access_are_the_runs() {
    let scope = Scope::Run;
    case(401, "invalid_api_key")
        .header("x-should-retry", "false")
        .body(r#"{"error":{"message":"Incorrect API key provided: sk-canar*****cdef.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#)
        .is(Kind::Authentication, scope, "Incorrect API key provided: sk-canar*****cdef.");
    case(401, "authentication_error")
        .body(r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#)
        .is(Kind::Authentication, scope, "invalid x-api-key");
    case(401, "401 without a word").is(Kind::Authentication, scope, "the server gives no reason");
    case(401, "Ollama: a 401 of type api_error is no server error")
        .body(r#"{"error":{"message":"unauthorized","type":"api_error","param":null,"code":null}}"#)
        .is(Kind::Authentication, scope, "unauthorized");
    case(400, "Gemini: a wrong key is 400")
        .body(r#"[{"error":{"code":400,"message":"Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}]"#)
        .is(Kind::Authentication, scope, "Please pass");
    case(400, "LiteLLM: an unknown key is 400")
        .body(
            r#"{"error":{"message":"No connected db.","type":"no_db_connection","param":null,"code":"400"}}"#,
        )
        .is(Kind::Authentication, scope, "No connected db.");
    case(403, "unsupported country")
        .body(r#"{"error":{"code":"unsupported_country_region_territory","message":"Country, region, or territory not supported","param":null,"type":"request_forbidden"}}"#)
        .is(Kind::Permission, scope, "Country");
    case(403, "permission_error")
        .body(r#"{"type":"error","error":{"type":"permission_error","message":"Your API key does not have permission"}}"#)
        .is(Kind::Permission, scope, "Your API key does not");
    case(403, "an account that is flagged is not moderation of the input")
        .body(r#"{"error":{"message":"Your account has been flagged","code":403}}"#)
        .is(Kind::Permission, scope, "Your account");
    case(404, "model_not_found")
        .body(r#"{"error":{"message":"The model `gpt-7` does not exist","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#)
        .is(Kind::NotFound, scope, "The model `gpt-7`");
    case(404, "a wrong URL")
        .header("content-type", "text/html; charset=utf-8")
        .body("<html><head><TITLE>404 Not\n Found</TITLE></head><body>…</body></html>")
        .is(
            Kind::NotFound,
            scope,
            "the server gives no reason that can be read (content type `text/html`): 404 Not Found",
        );
    case(400, "LiteLLM: 400 Invalid model name")
        .body(r#"{"error":{"message":"/chat/completions: Invalid model name passed in model=gpt-7. Call `/v1/models` to view available models for your key.","type":"invalid_request_error","param":"model","code":"400"}}"#)
        .is(Kind::NotFound, scope, "/chat/completions: Invalid model name");
}

#[test]
fn a_request_that_is_wrong_in_no_known_way_is_the_nodes() {
    let (kind, scope) = (Kind::BadRequest, Scope::Node);
    case(400, "400")
        .body(r#"{"error":{"message":"bad","type":"invalid_request_error","code":null}}"#)
        .is(kind, scope, "bad");
    case(400, "400, FastAPI")
        .body(r#"{"detail":"There was an error parsing the body"}"#)
        .is(kind, scope, "There was");
    case(400, "400, Ollama's string")
        .body(r#"{"error":"unexpected end of JSON"}"#)
        .is(kind, scope, "unexpected end");
    case(422, "422")
        .body(r#"{"detail":[{"type":"missing","msg":"Field required"}]}"#)
        .is(kind, scope, "Field required");
    case(405, "405").body("Method Not Allowed").is(
        kind,
        scope,
        "the server gives no reason that can be read (no content type): Method",
    );
    case(418, "418")
        .body("{}")
        .is(kind, scope, "the server gives no reason");
    case(400, "a prompt quoted far back in a message decides nothing")
        .body(&format!(
            r#"{{"error":{{"message":"{} invalid model name"}}}}"#,
            "x".repeat(300)
        ))
        .is(kind, scope, "xxx");
}

#[test]
fn the_servers_trouble_is_the_attempts() {
    let scope = Scope::Attempt;
    let html = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body></body></html>";
    let message =
        r#"{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}"#;
    case(408, "408").is(Kind::ServerError, scope, "the server");
    case(409, "409").is(Kind::ServerError, scope, "the server");
    case(500, "500")
        .body(message)
        .is(Kind::ServerError, scope, "The server had an error");
    case(501, "501").is(Kind::ServerError, scope, "the server");
    case(502, "502 with a proxy's page")
        .header("content-type", "text/html")
        .body(html)
        .is(
            Kind::ServerError,
            scope,
            "the server gives no reason that can be read (content type `text/html`): 502 Bad Gateway",
        );
    case(504, "504")
        .body("upstream request timeout")
        .is(Kind::ServerError, scope, "the server gives");
    case(520, "520, Cloudflare")
        .body("error code: 520")
        .is(Kind::ServerError, scope, "the server gives");
    case(498, "498, Groq flex")
        .body(r#"{"error":{"message":"full","code":"capacity_exceeded"}}"#)
        .is(Kind::Overloaded, scope, "full");
    case(503, "503, retry-after on any status")
        .header("retry-after", "7")
        .body(r#"{"error":{"message":"overloaded","type":"service_unavailable_error","code":"server_is_overloaded"}}"#)
        .waits(7_000)
        .is(Kind::Overloaded, scope, "overloaded");
    case(503, "503, llama.cpp is loading")
        .body(r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#)
        .is(Kind::Overloaded, scope, "Loading model");
    case(503, "503, Ollama's queue is full")
        .body(r#"{"error":{"message":"server busy, please try again","type":"api_error","param":null,"code":null}}"#)
        .is(Kind::Overloaded, scope, "server busy");
    case(529, "529")
        .body(r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#)
        .is(Kind::Overloaded, scope, "Overloaded");
}

#[test]
fn an_error_within_a_200_counts_as_what_it_is() {
    case(200, "OpenRouter: code is a status")
        .body(r#"{"error":{"code":502,"message":"Provider returned error","metadata":{"raw":"{\"error\":{\"message\":\"upstream is down\"}}","provider_name":"X"}},"user_id":"u"}"#)
        .is(Kind::ServerError, Scope::Attempt, "Provider returned error: upstream is down");
    case(200, "OpenRouter: a rate, with its own hint")
        .body(r#"{"error":{"code":429,"message":"Provider returned error","metadata":{"raw":"busy upstream","retry_after_seconds":17}}}"#)
        .waits(17_000)
        .is(Kind::RateLimited, Scope::Attempt, "Provider returned error: busy upstream");
    case(200, "OpenRouter: in the choice")
        .body(r#"{"id":"g","choices":[{"index":0,"finish_reason":"error","message":{"content":"half"},"error":{"code":503,"message":"no instances"}}]}"#)
        .is(Kind::Overloaded, Scope::Attempt, "no instances");
    case(200, "a name without a status")
        .body(r#"{"error":{"message":"oops","type":"server_error"}}"#)
        .is(Kind::ServerError, Scope::Attempt, "oops");
    case(200, "a code that names it")
        .body(r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#)
        .is(Kind::ContextTooLong, Scope::Node, "too long");
    case(200, "no status, no name")
        .body(r#"{"error":{"message":"oops"}}"#)
        .is(Kind::BadResponse, Scope::Attempt, "oops");
    case(200, "a string")
        .body(r#"{"error":"oops"}"#)
        .is(Kind::BadResponse, Scope::Attempt, "oops");
    case(200, "flat")
        .body(r#"{"object":"error","message":"oops","code":400}"#)
        .is(Kind::BadRequest, Scope::Node, "oops");
    case(200, "only a code").body(r#"{"error":{"code":"weird"}}"#).is(
        Kind::BadResponse,
        Scope::Attempt,
        "weird",
    );
}

#[test]
fn vendors_without_codes_are_known_by_their_words() {
    for (rule, status, message, kind) in [
        (
            "xAI",
            400,
            "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
            Kind::ContextTooLong,
        ),
        (
            "Gemini",
            400,
            "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).",
            Kind::ContextTooLong,
        ),
        (
            "Mistral",
            422,
            "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
            Kind::ContextTooLong,
        ),
        (
            "Anthropic",
            400,
            "Your credit balance is too low to access the Anthropic API.",
            Kind::NoCredit,
        ),
        (
            "Anthropic",
            400,
            "foo: Extra inputs are not permitted",
            Kind::BadParameter,
        ),
        (
            "OpenAI, older",
            400,
            "Unrecognized request argument supplied: foo",
            Kind::BadParameter,
        ),
        (
            "OpenRouter",
            400,
            "openai/gpt-7 is not a valid model ID",
            Kind::NotFound,
        ),
        ("DeepSeek", 400, "Model Not Exist", Kind::NotFound),
        (
            "Gemini",
            400,
            "API key not valid. Please pass a valid API key.",
            Kind::Authentication,
        ),
        (
            "xAI",
            400,
            "Incorrect API key provided: ab***yz.",
            Kind::Authentication,
        ),
        (
            "Gemini",
            400,
            "User location is not supported for the API use.",
            Kind::Permission,
        ),
        (
            "LiteLLM",
            400,
            "litellm.ContentPolicyViolationError: no",
            Kind::RefusedInput,
        ),
        (
            "words of a 400 say nothing in a 500",
            500,
            "API key not valid",
            Kind::ServerError,
        ),
        (
            "words of a 403 say nothing in a 400",
            400,
            "your input was flagged",
            Kind::BadRequest,
        ),
    ] {
        let body = serde_json::json!({"error": {"message": message, "code": null}}).to_string();
        case(status, rule).body(&body).is(kind, kind.scope(), message);
    }
}

#[test]
fn names_mean_the_same_in_code_and_type_and_with_every_status() {
    for (name, kind) in [
        ("context_length_exceeded", Kind::ContextTooLong),
        ("unsupported_parameter", Kind::BadParameter),
        ("invalid_prompt", Kind::RefusedInput),
        ("invalid_api_key", Kind::Authentication),
        ("insufficient_quota", Kind::NoCredit),
        ("unsupported_country_region_territory", Kind::Permission),
        ("model_not_found", Kind::NotFound),
        ("request_too_large", Kind::RequestTooLarge),
        ("slow_down", Kind::RateLimited),
        ("RATE_LIMIT_ERROR", Kind::RateLimited),
        ("overloaded_error", Kind::Overloaded),
    ] {
        for status in [200, 400, 403, 429, 500] {
            for field in ["code", "type"] {
                let body = format!(r#"{{"error":{{"message":"m","{field}":"{name}"}}}}"#);
                case(status, name).body(&body).is(kind, kind.scope(), "m");
            }
        }
    }
}

#[test]
fn the_code_counts_more_than_the_type() {
    case(400, "two names that disagree")
        .body(r#"{"error":{"message":"m","code":"model_not_found","type":"invalid_prompt"}}"#)
        .is(Kind::NotFound, Scope::Run, "m");
}
