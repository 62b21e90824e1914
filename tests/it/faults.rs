//! What a provider can answer instead of an answer, each through the real binary: how far it
//! reaches, what it costs in calls, what other programs and people read of it.

use serde_json::{Value, json};

use crate::project::{Events, Project, Server};
use crate::wire::{self, Wire, answer, error, good, response};

/// One persona of two chunks and a combine, one call at a time.
fn one(server: &Wire) -> Project {
    Project::small(1)
        .at(&server.url())
        .with("concurrency = 16", "concurrency = 1")
}

/// What a run says of a fault: its kind and status.
fn kind(error: &Value) -> (String, Value) {
    (
        error["kind"].as_str().unwrap().to_owned(),
        error["http_status"].clone(),
    )
}

/// The kinds in the calls that ended badly, each once.
fn kinds(run: &Events) -> Vec<(String, Value)> {
    let mut kinds: Vec<_> = run
        .named("call_ended")
        .iter()
        .filter(|call| !call["error"].is_null())
        .map(|call| kind(&call["error"]))
        .collect();
    kinds.dedup();
    kinds
}

#[test]
fn what_meets_every_call_ends_the_run_after_one_call() {
    let rows = [
        (
            "authentication",
            401,
            error(
                "401 Unauthorized",
                "invalid_request_error",
                "invalid_api_key",
                "Incorrect API key provided.",
            ),
        ),
        (
            "no_credit",
            402,
            wire::json(
                "402 Payment Required",
                &json!({"type": "error", "error": {"type": "billing_error", "message": "Your credit is used up."}}),
            ),
        ),
        (
            "permission",
            403,
            error(
                "403 Forbidden",
                "request_forbidden",
                "unsupported_country_region_territory",
                "Country, region, or territory not supported",
            ),
        ),
        (
            "not_found",
            404,
            error(
                "404 Not Found",
                "invalid_request_error",
                "model_not_found",
                "The model `gpt-6-luna` does not exist or you do not have access to it.",
            ),
        ),
        (
            "not_found",
            404,
            response(
                "404 Not Found",
                "content-type: text/html\r\n",
                "<html><h1>404 Not Found</h1></html>",
            ),
        ),
        (
            "bad_parameter",
            400,
            error(
                "400 Bad Request",
                "invalid_request_error",
                "unsupported_parameter",
                "Unsupported parameter: 'max_tokens' is not supported with this model.",
            ),
        ),
        (
            "no_credit",
            429,
            error(
                "429 Too Many Requests",
                "insufficient_quota",
                "insufficient_quota",
                "You exceeded your current quota, please check your plan and billing details.",
            ),
        ),
        (
            "redirect",
            307,
            response(
                "307 Temporary Redirect",
                "location: https://elsewhere.example/v1/chat/completions\r\n",
                "",
            ),
        ),
        (
            "no_credit",
            200,
            wire::json(
                "200 OK",
                &json!({"error": {"message": "Insufficient credits", "code": 402}}),
            ),
        ),
    ];
    for (expected, status, bytes) in rows {
        let server = Wire::always(bytes);
        let project = one(&server);
        let run = project.json(&[]).code(3);
        assert_eq!(server.calls(), 1, "{expected} {status}");
        assert_eq!(run.summary()["outcome"], "fatal");
        assert_eq!((run.figure("calls.sent"), run.figure("calls.faulted")), (1, 1));
        assert_eq!(
            (run.figure("nodes.failed"), run.figure("nodes.pending")),
            (0, 3),
            "{expected}: the rest is left"
        );
        let stopped = run.named("run_stopped");
        assert_eq!(stopped.len(), 1);
        assert_eq!(kind(&stopped[0]["error"]), (expected.to_owned(), json!(status)));
        assert_eq!(kinds(&run), [(expected.to_owned(), json!(status))]);
        assert_eq!(project.names("transcripts"), [""; 0]);
    }
}

#[test]
fn what_one_request_cannot_help_fails_its_node_after_one_call() {
    let large = "x".repeat(33 * 1024 * 1024);
    let rows = [
        (
            "context_too_long",
            400,
            error(
                "400 Bad Request",
                "invalid_request_error",
                "context_length_exceeded",
                "This model's maximum context length is 128000 tokens.",
            ),
        ),
        (
            "refused_input",
            400,
            error(
                "400 Bad Request",
                "invalid_request_error",
                "content_policy_violation",
                "The prompt was flagged.",
            ),
        ),
        (
            "request_too_large",
            429,
            error(
                "429 Too Many Requests",
                "tokens",
                "rate_limit_exceeded",
                "Request too large for gpt-6-luna on tokens per min (TPM): Limit 30000, Requested 40000.",
            ),
        ),
        (
            "request_too_large",
            413,
            response(
                "413 Payload Too Large",
                "content-type: text/plain\r\n",
                "too large",
            ),
        ),
        (
            "bad_request",
            422,
            error(
                "422 Unprocessable Entity",
                "invalid_request_error",
                "odd",
                "messages: must not be odd",
            ),
        ),
        (
            "response_too_large",
            200,
            wire::json("200 OK", &answer(&large, "stop")),
        ),
    ];
    for (expected, status, bytes) in rows {
        let server = Wire::always(bytes);
        let project = one(&server);
        let run = project.json(&[]).code(1);
        assert_eq!(server.calls(), 2, "{expected}: one for each chunk");
        assert_eq!(run.summary()["outcome"], "partial");
        assert_eq!(run.nodes("failed"), ["p00/chunk-1", "p00/chunk-2"]);
        assert_eq!(run.nodes("skipped"), ["p00/combine"]);
        assert_eq!(kinds(&run), [(expected.to_owned(), json!(status))]);
        let persona = run.named("persona_finished")[0];
        assert_eq!(
            (&persona["status"], kind(&persona["error"])),
            (&json!("failed"), (expected.to_owned(), json!(status)))
        );
        assert_eq!(project.names("transcripts"), [""; 0]);
    }
}

#[test]
fn what_passes_is_tried_again_and_fails_nothing() {
    let cut_off = {
        let mut whole = good("");
        whole.truncate(whole.len() - 20);
        whole
    };
    let unended = {
        let mut unended = answer("Words.", "stop");
        unended["choices"][0]["finish_reason"] = Value::Null;
        unended
    };
    let no_status = Value::Null;
    let rows = [
        (
            "rate_limited",
            json!(429),
            error_with("429 Too Many Requests", "retry-after: 0\r\n"),
        ),
        (
            "rate_limited",
            json!(429),
            error_with("429 Too Many Requests", "retry-after-ms: 5\r\n"),
        ),
        (
            "server_error",
            json!(500),
            error_with("500 Internal Server Error", ""),
        ),
        ("server_error", json!(408), error_with("408 Request Timeout", "")),
        (
            "overloaded",
            json!(503),
            response(
                "503 Service Unavailable",
                "content-type: text/html\r\n",
                "<html>busy</html>",
            ),
        ),
        ("overloaded", json!(529), error_with("529 Overloaded", "")),
        (
            "bad_response",
            json!(200),
            response(
                "200 OK",
                "content-type: text/html\r\n",
                "<html><title>Sign in</title></html>",
            ),
        ),
        (
            "bad_response",
            json!(200),
            response("200 OK", "content-type: application/json\r\n", ""),
        ),
        (
            "bad_response",
            json!(200),
            wire::json("200 OK", &json!({"choices": []})),
        ),
        ("bad_response", json!(200), wire::json("200 OK", &unended)),
        (
            "server_error",
            json!(200),
            wire::json(
                "200 OK",
                &json!({"error": {"message": "Provider returned error", "code": 502}}),
            ),
        ),
        ("connection", json!(200), cut_off),
        ("connection", no_status.clone(), Vec::new()),
        ("connection", no_status, b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
    ];
    for (expected, status, bytes) in rows {
        let server = Wire::at_first(bytes.clone());
        let project = one(&server);
        let run = project.json(&[]).code(0);
        let row = format!(
            "{expected} {status}: {}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(300)])
        );
        assert_eq!(server.calls(), 6, "{row}: two for each node");
        assert_eq!(
            (run.figure("calls.ok"), run.figure("calls.faulted")),
            (3, 3),
            "{row}"
        );
        assert_eq!(kinds(&run), [(expected.to_owned(), status)], "{row}");
        assert!(
            run.named("node_finished")
                .iter()
                .all(|node| node["attempts"] == 2 && node["error"].is_null())
        );
        assert_eq!(run.figure("tokens.total"), 360, "{row}: faults cost nothing");
    }
}

fn error_with(status: &str, headers: &str) -> Vec<u8> {
    response(
        status,
        headers,
        r#"{"error":{"message":"Not now.","type":"x","code":null}}"#,
    )
}

#[test]
fn a_persona_whose_calls_always_fail_fails_alone() {
    let server = Wire::start(|_, body| match body.contains("Person number 0.") {
        true => error_with("500 Internal Server Error", ""),
        false => good(body),
    });
    let project = Project::small(30).at(&server.url());
    let run = project.json(&[]).code(1);
    assert_eq!(
        (run.figure("personas.written"), run.figure("personas.failed")),
        (29, 1)
    );
    assert_eq!(run.nodes("failed"), ["p00/chunk-1", "p00/chunk-2"]);
    assert_eq!(run.nodes("skipped"), ["p00/combine"]);
    assert_eq!(kinds(&run), [("server_error".to_owned(), json!(500))]);
    assert_eq!(run.figure("calls.sent"), server.calls());
}

#[test]
fn bad_answers_are_paid_shown_and_never_served() {
    let refusal = {
        let mut refusal = answer("", "stop");
        refusal["choices"][0]["message"]["content"] = Value::Null;
        refusal["choices"][0]["message"]["refusal"] = json!("I cannot write this.");
        refusal
    };
    let rows = [
        ("truncated", answer("Half a sen", "length")),
        ("filtered", answer("", "content_filter")),
        ("refused", refusal),
        ("empty", answer(" \n", "stop")),
        ("tool_call", answer("Let me see.", "tool_calls")),
    ];
    for (expected, body) in rows {
        let server = Wire::always(wire::json("200 OK", &body));
        let project = one(&server);
        let run = project.json(&[]).code(1);
        assert_eq!(
            (server.calls(), run.figure("calls.rejected")),
            (6, 6),
            "{expected}: three for each chunk"
        );
        assert_eq!(
            kinds(&run).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>(),
            [expected]
        );
        assert_eq!(run.figure("tokens.total"), 720, "{expected}: paid");
        let node = run.named("node_finished")[0];
        assert_eq!(
            (&node["status"], &node["attempts"]),
            (&json!("failed"), &json!(3))
        );
        assert_eq!(node["tokens"]["total"], 360);
        assert!(node["cost_usd"].as_f64().unwrap() > 0.0);
        // What was cut off would be cut off again at the same limit; the others are asked for again.
        let paid_again = if expected == "truncated" { 0 } else { 6 };
        let again = project.json(&[]).code(1);
        assert_eq!(again.figure("nodes.cached"), 0, "{expected}: never a hit");
        assert_eq!(again.figure("calls.rejected"), paid_again, "{expected}");
    }
}

#[test]
fn a_bad_answer_at_first_costs_one_call_more() {
    let server = Wire::at_first(wire::json("200 OK", &answer("Half a sen", "length")));
    let run = one(&server).json(&[]).code(0);
    assert_eq!((run.figure("calls.ok"), run.figure("calls.rejected")), (3, 3));
    assert_eq!(run.figure("tokens.total"), 6 * 120);
}

#[test]
fn without_usage_tokens_are_estimated_and_it_is_said() {
    let server = Wire::start(|_, body| {
        let mut plain = answer(&format!("Words of {} letters.", body.len()), "stop");
        plain.as_object_mut().unwrap().remove("usage");
        wire::json("200 OK", &plain)
    });
    let project = one(&server);
    let run = project.json(&[]).code(0);
    assert!(run.figure("tokens.input") > 0 && run.figure("tokens.output") > 0);
    assert!(run.summary()["cost_usd"].as_f64().unwrap() > 0.0);
    let told = one(&server).run(&["run"]).code(0);
    assert!(told.stderr.contains("partly estimated"), "{}", told.stderr);
}

/// The end of what a person reads, without what differs from run to run.
fn told(server: &Wire, code: i32) -> String {
    let told = one(server).run(&["run"]).code(code).errors();
    let host = server
        .url()
        .trim_start_matches("http://")
        .trim_end_matches("/v1")
        .to_owned();
    let told = told.replace(&host, "[server]");
    let lines = told.lines().skip(1).filter(|line| !line.starts_with("time "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_person_reads_what_ended_the_run() {
    let server = Wire::always(error(
        "401 Unauthorized",
        "invalid_request_error",
        "invalid_api_key",
        "Incorrect API key provided.",
    ));
    insta::assert_snapshot!(told(&server, 3), @r"

    personas  1: 1 left
    nodes     3: 3 left
    calls     1: 1 faulted

    cost      $0.00
    saved     $0.00 by the provider's cache
              $0.00 by septet's cache

    stopped early: 0 of 1 persona up to date, 1 left
    error: Incorrect API key provided. (HTTP 401)
    hint: check the key in the variable that `api_key_env` names
    hint: `septet run` goes on from here; what was paid for is stored and not paid twice
    ");
    let server = Wire::always(response(
        "404 Not Found",
        "content-type: text/html\r\n",
        "<html><title>404</title><h1>Not Found</h1></html>",
    ));
    insta::assert_snapshot!(told(&server, 3), @r"

    personas  1: 1 left
    nodes     3: 3 left
    calls     1: 1 faulted

    cost      $0.00
    saved     $0.00 by the provider's cache
              $0.00 by septet's cache

    stopped early: 0 of 1 persona up to date, 1 left
    error: the server gives no reason that can be read (content type `text/html`): 404 (HTTP 404)
    hint: check `model.name` and `provider.base_url`
    hint: `septet run` goes on from here; what was paid for is stored and not paid twice
    ");
    let server = Wire::always(error(
        "400 Bad Request",
        "invalid_request_error",
        "unsupported_parameter",
        "Unsupported parameter: 'temperature' is not supported with this model.",
    ));
    insta::assert_snapshot!(told(&server, 3), @r"

    personas  1: 1 left
    nodes     3: 3 left
    calls     1: 1 faulted

    cost      $0.00
    saved     $0.00 by the provider's cache
              $0.00 by septet's cache

    stopped early: 0 of 1 persona up to date, 1 left
    error: Unsupported parameter: 'temperature' is not supported with this model. (HTTP 400)
    hint: take the parameter out of `[model]`; many models refuse some
    hint: `septet run` goes on from here; what was paid for is stored and not paid twice
    ");
    let server = Wire::always(error(
        "429 Too Many Requests",
        "insufficient_quota",
        "insufficient_quota",
        "You exceeded your current quota.",
    ));
    insta::assert_snapshot!(told(&server, 3), @r"

    personas  1: 1 left
    nodes     3: 3 left
    calls     1: 1 faulted

    cost      $0.00
    saved     $0.00 by the provider's cache
              $0.00 by septet's cache

    stopped early: 0 of 1 persona up to date, 1 left
    error: You exceeded your current quota. (HTTP 429)
    hint: add credit or raise the spending limit at the provider
    hint: `septet run` goes on from here; what was paid for is stored and not paid twice
    ");
    let server = Wire::always(response(
        "308 Permanent Redirect",
        "location: https://elsewhere.example/v1/chat/completions\r\n",
        "",
    ));
    insta::assert_snapshot!(told(&server, 3), @r"

    personas  1: 1 left
    nodes     3: 3 left
    calls     1: 1 faulted

    cost      $0.00
    saved     $0.00 by the provider's cache
              $0.00 by septet's cache

    stopped early: 0 of 1 persona up to date, 1 left
    error: the server at `[server]` redirects to `https://elsewhere.example/v1/chat/completions`: redirects are not followed, so that the key goes nowhere else; set `provider.base_url` to the right address (HTTP 308)
    hint: `septet run` goes on from here; what was paid for is stored and not paid twice
    ");
}

#[test]
fn a_person_reads_what_failed() {
    let server = Wire::always(error(
        "400 Bad Request",
        "invalid_request_error",
        "context_length_exceeded",
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 130123 tokens.",
    ));
    insta::assert_snapshot!(told(&server, 1), @"
    ✗ p00  chunk-1: This model's maximum context length is 128000 tokens. However, your messages resulted in 130123 tokens. (HTTP 400) (1 other node failed too)

    personas  1: 1 failed
    nodes     3: 2 failed, 1 skipped
    calls     2: 2 faulted

    cost      $0.00
    saved     $0.00 by the provider's cache
              $0.00 by septet's cache

    failures
      2 x context_too_long (HTTP 400) in 1 persona: such as p00/chunk-1
          This model's maximum context length is 128000 tokens. However, your messages resulted in 130123 tokens.
          hint: shorten the prompt or the persona, or choose a model with a longer context

    partial: 0 of 1 persona up to date, 1 failed
    hint: `septet run` tries what failed again; what was paid for is stored and not paid twice
    ");
    let server = Wire::always(wire::json("200 OK", &answer("Half a sen", "length")));
    insta::assert_snapshot!(told(&server, 1), @"
    ✗ p00  chunk-1: answer cut off after 20 tokens, before `max_output_tokens` = 4000, 3 times; the model's context is full, or the server has a limit of its own: shorten the prompt, or raise it (1 other node failed too)

    personas  1: 1 failed
    nodes     3: 2 failed, 1 skipped
    calls     6: 6 rejected

    tokens    input            600
                cached         360  60 %
              output           120
                reasoning       30
              total            720

    cost      $0.0001
    saved     <$0.0001 by the provider's cache
              $0.00 by septet's cache

    failures
      2 x truncated in 1 persona: such as p00/chunk-1
          answer cut off after 20 tokens, before `max_output_tokens` = 4000, 3 times; the model's context is full, or the server has a limit of its own: shorten the prompt, or raise it
          hint: at this limit only `--refresh` asks again

    partial: 0 of 1 persona up to date, 1 failed
    hint: `septet run` calls what was cut off again once `max_output_tokens` is larger
    ");
    let server = Wire::always(wire::json("200 OK", &answer("", "content_filter")));
    insta::assert_snapshot!(told(&server, 1), @"
    ✗ p00  chunk-1: answer withheld by the provider's filter, 3 times (1 other node failed too)

    personas  1: 1 failed
    nodes     3: 2 failed, 1 skipped
    calls     6: 6 rejected

    tokens    input            600
                cached         360  60 %
              output           120
                reasoning       30
              total            720

    cost      $0.0001
    saved     <$0.0001 by the provider's cache
              $0.00 by septet's cache

    failures
      2 x filtered in 1 persona: such as p00/chunk-1
          answer withheld by the provider's filter, 3 times

    partial: 0 of 1 persona up to date, 1 failed
    hint: `septet run` tries what failed again; what was paid for is stored and not paid twice
    ");
}

#[test]
fn answers_that_cannot_be_read_are_told_as_possibly_billed() {
    let server = Server::start(&["--fault", "malformed=0.4"]);
    let project = Project::small(4).at(&server.url);
    let said = project.run(&["run"]).stderr;
    let faulted = said.split_once(" faulted").expect("some are").0;
    let n = faulted.rsplit(' ').next().unwrap().trim_start_matches("(");
    assert!(
        said.contains(&format!("{n} faulted calls may have been billed")),
        "{said}"
    );
}
