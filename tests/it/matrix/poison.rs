//! Requests that fail every time, and what would meet every request.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use super::Ends::{Node, Run};
use super::{Class, PLACES, VICTIM, attempts, hold, one_by_one};
use crate::project::Project;
use crate::wire::{self, Wire, answer, error, error_with, good, response};

fn refusal(status: &str, code: &str, message: &str) -> Vec<u8> {
    error(status, "invalid_request_error", code, message)
}

#[test]
fn a_request_that_is_refused_is_given_up_at_once() {
    hold(&[
        Class::new(
            "the same 400",
            refusal("400 Bad Request", "odd", "messages.1: must not be odd"),
            Node(1),
            ("bad_request", 400, "messages.1: must not be odd"),
        ),
        Class::new(
            "the same 422",
            response(
                "422 Unprocessable Entity",
                "content-type: application/json\r\n",
                r#"{"detail":[{"loc":["body","messages",1],"msg":"field required","type":"missing"}]}"#,
            ),
            Node(1),
            ("bad_request", 422, "field required"),
        ),
        Class::new(
            "a prompt that is too long",
            refusal(
                "400 Bad Request",
                "context_length_exceeded",
                "This model's maximum context length is 8 tokens.",
            ),
            Node(1),
            (
                "context_too_long",
                400,
                "This model's maximum context length is 8 tokens.",
            ),
        ),
        Class::new(
            "a prompt that is refused",
            refusal(
                "400 Bad Request",
                "content_policy_violation",
                "The prompt was flagged.",
            ),
            Node(1),
            ("refused_input", 400, "The prompt was flagged."),
        ),
        Class::new(
            "a request that is too large",
            response(
                "413 Payload Too Large",
                "content-type: text/plain\r\n",
                "too large",
            ),
            Node(1),
            (
                "request_too_large",
                413,
                "the server gives no reason that can be read (content type `text/plain`): too large",
            ),
        ),
        Class::new(
            "a call larger than the rate",
            error(
                "429 Too Many Requests",
                "tokens",
                "rate_limit_exceeded",
                "Request too large for gpt-6-luna on tokens per min (TPM): Limit 30000, Requested 40000.",
            ),
            Node(1),
            (
                "request_too_large",
                429,
                "Request too large for gpt-6-luna on tokens per min (TPM): Limit 30000, Requested 40000.",
            ),
        ),
    ]);
}

#[test]
fn what_would_meet_every_call_ends_the_run_and_leaves_the_rest() {
    let plain = |status: &str, text: &str| response(status, "content-type: text/plain\r\n", text);
    hold(&[
        Class::new(
            "a wrong key",
            refusal(
                "401 Unauthorized",
                "invalid_api_key",
                "Incorrect API key provided.",
            ),
            Run,
            ("authentication", 401, "Incorrect API key provided."),
        ),
        Class::new(
            "no credit",
            refusal("402 Payment Required", "billing_error", "Your credit is used up."),
            Run,
            ("no_credit", 402, "Your credit is used up."),
        ),
        Class::new(
            "a quota that is used up",
            refusal(
                "429 Too Many Requests",
                "insufficient_quota",
                "You exceeded your current quota.",
            ),
            Run,
            ("no_credit", 429, "You exceeded your current quota."),
        ),
        Class::new(
            "no access",
            refusal(
                "403 Forbidden",
                "unsupported_country_region_territory",
                "Country not supported",
            ),
            Run,
            ("permission", 403, "Country not supported"),
        ),
        Class::new(
            "an unknown model",
            refusal(
                "404 Not Found",
                "model_not_found",
                "The model `gpt-6-luna` does not exist.",
            ),
            Run,
            ("not_found", 404, "The model `gpt-6-luna` does not exist."),
        ),
        Class::new(
            "a wrong address",
            plain("404 Not Found", "page not found"),
            Run,
            (
                "not_found",
                404,
                "the server gives no reason that can be read (content type `text/plain`): page not found",
            ),
        ),
        Class::new(
            "a parameter that is not taken",
            refusal(
                "400 Bad Request",
                "unsupported_parameter",
                "Unsupported parameter: 'max_tokens'.",
            ),
            Run,
            ("bad_parameter", 400, "Unsupported parameter: 'max_tokens'."),
        ),
        Class::new(
            "a redirect to another host",
            response(
                "307 Temporary Redirect",
                "location: https://elsewhere.example/v1/chat/completions\r\n",
                "",
            ),
            Run,
            (
                "redirect",
                307,
                "the server at `[server]` redirects to `https://elsewhere.example/v1/chat/completions`: redirects are not followed, so that the key goes nowhere else; set `provider.base_url` to the right address",
            ),
        ),
    ]);
}

/// A server that cannot do one call of one persona, and does all others, each once that one was
/// tried in between (or not for a while): so its tries and other answers take turns.
fn poisoned(mark: &'static str) -> Wire {
    let tries = AtomicU64::new(0);
    let seen = Mutex::new(0);
    Wire::start(move |_, body| {
        if body.contains(VICTIM) && body.contains(mark) {
            tries.fetch_add(1, Ordering::SeqCst);
            return error_with(
                "500 Internal Server Error",
                "",
                "server_error",
                "The server had an error.",
            );
        }
        let mut seen = seen.lock().unwrap();
        for _ in 0..20 {
            if tries.load(Ordering::SeqCst) > *seen {
                break;
            }
            sleep(Duration::from_millis(1));
        }
        *seen = tries.load(Ordering::SeqCst);
        good(body)
    })
}

#[test]
fn a_request_that_always_meets_a_500_is_given_up_and_the_rest_goes_on() {
    for (place, node, mark) in PLACES {
        let server = poisoned(mark);
        let project = Project::small(20)
            .at(&server.url())
            .with("[retry]", "[retry]\nattempts = 2");
        let ran = project.run(&["run", "--json"]).code(1);
        let run = crate::project::Events::of(&ran);
        let name = format!("p00/{node}");
        assert_eq!(run.nodes("failed"), [name.as_str()], "{place}");
        assert_eq!(run.figure("personas.written"), 19, "{place}");
        let tried = attempts(&run, &name);
        assert_eq!(
            server.times(mark).len() as u64,
            19 + tried,
            "{place}: named by its calls"
        );
        assert_eq!(run.figure("calls.faulted"), tried, "{place}");
        assert!(
            ran.stderr.contains("The server had an error."),
            "{place}: {}",
            ran.stderr
        );
    }
}

/// When a node that fails every time is the last one left, nobody else can show that the provider
/// works. What it showed before is held against it: it failed while others were answered.
#[test]
fn the_last_node_left_is_given_up_after_half_an_hour_of_retry_max_if_it_was_a_suspect() {
    for (place, node, mark) in PLACES {
        let server = poisoned(mark);
        // 30 times `retry.max`, which is 5 ms here.
        let project = Project::small(20)
            .at(&server.url())
            .with("[retry]", "[retry]\nattempts = 1000");
        let run = project.json(&[]).code(1);
        assert_eq!(run.nodes("failed"), [format!("p00/{node}")], "{place}");
        assert_eq!(run.figure("personas.written"), 19, "{place}");
        assert_eq!(run.figure("calls.sent"), server.calls(), "{place}");
        let failed = run
            .named("node_finished")
            .into_iter()
            .find(|node| node["status"] == "failed");
        let message = failed.unwrap()["error"]["message"].to_string();
        assert!(
            message.contains("and nothing else was left to try"),
            "{place}: {message}"
        );
    }
}

/// Where everything fails alike, the rest is not paid for.
#[test]
fn a_run_in_which_everything_fails_alike_ends_early_and_says_what_they_have_in_common() {
    let odd = refusal("400 Bad Request", "odd", "messages.1: must not be odd");
    let filtered = wire::json("200 OK", &answer("", "content_filter"));
    let classes = [
        (
            "the same 400",
            odd,
            "bad_request",
            400.into(),
            1,
            "messages.1: must not be odd",
        ),
        (
            "the same filter",
            filtered,
            "filtered",
            serde_json::Value::Null,
            3,
            "answer withheld by the provider's filter, 3 times",
        ),
    ];
    for (name, bytes, kind, status, calls_each, words) in classes {
        let server = Wire::always(bytes);
        let project = one_by_one(40, &server.url());
        let ran = project.run(&["run", "--json"]).code(3);
        let run = crate::project::Events::of(&ran);
        assert_eq!(run.summary()["outcome"], "fatal", "{name}");
        let cause = &run.named("run_stopped")[0]["error"];
        assert_eq!(
            (&cause["kind"], &cause["http_status"]),
            (&kind.into(), &status),
            "{name}"
        );
        // While a node pauses after a bad answer others go, so that the sixteenth may be of a ninth
        // persona, and the seventeenth has been asked already.
        let told = cause["message"].as_str().unwrap();
        let ends = format!(" personas, failed the same way, and no answer was accepted: {words}");
        assert!(
            told.starts_with("all 16 nodes that ended, of ") && told.ends_with(&ends),
            "{name}: {told}"
        );
        assert!(ran.stderr.contains(told), "{name}: {}", ran.stderr);
        assert_eq!(run.figure("nodes.failed"), 16, "{name}");
        let calls = server.calls();
        let beyond = if calls_each == 1 { 0 } else { 2 * 16 };
        assert!(
            (16 * calls_each..=16 * calls_each + beyond).contains(&calls),
            "{name}: {calls} calls, where all would be {}",
            80 * calls_each
        );
        assert_eq!(run.figure("calls.sent"), calls, "{name}");
        assert!(run.figure("personas.pending") >= 24, "{name}");
    }
}

/// One good answer, or a second cause, and it is no longer everything.
#[test]
fn what_does_not_fail_alike_does_not_end_the_run() {
    let odd = |status: &str| refusal(status, "odd", "messages.1: must not be odd");
    let server = Wire::start(move |_, body| match body.contains("Person number 3.") {
        true => odd("422 Unprocessable Entity"),
        false => odd("400 Bad Request"),
    });
    let run = one_by_one(20, &server.url()).json(&[]).code(1);
    assert_eq!((run.figure("nodes.failed"), server.calls()), (40, 40));
    let server = Wire::start(move |_, body| match body.contains("Person number 3.") {
        true => good(body),
        false => odd("400 Bad Request"),
    });
    let run = one_by_one(20, &server.url()).json(&[]).code(1);
    assert_eq!(
        (run.figure("personas.written"), run.figure("personas.failed")),
        (1, 19)
    );
    assert_eq!(server.calls(), 19 * 2 + 3);
}
