//! Answers that are none, broken off, too large, too slow, bad or strange.

use serde_json::{Value, json};

use super::Ends::{Node, Passes};
use super::{Class, PLACES, VICTIM, hold, one_by_one};
use crate::wire::{self, Reply, Wire, answer, good, response};

fn ok(kind: &str, body: &str) -> Vec<u8> {
    response("200 OK", &format!("content-type: {kind}\r\n"), body)
}

fn ended(finish: Value) -> Vec<u8> {
    let mut body = answer("Words.", "stop");
    body["choices"][0]["finish_reason"] = finish;
    wire::json("200 OK", &body)
}

/// A good answer with a byte in it that no UTF-8 has.
fn latin() -> Vec<u8> {
    let mut bytes = ok("application/json", &answer("Words.", "stop").to_string());
    let at = bytes.windows(6).position(|window| window == b"Words.").unwrap();
    bytes[at] = 0xff;
    bytes
}

/// The head of a response of this length, and the beginning of its body.
fn begun(length: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{length}\r\nconnection: close\r\n\r\n")
        .into_bytes()
}

#[test]
fn what_is_no_answer_is_asked_for_again() {
    let whole = answer("Words.", "stop").to_string();
    let piece = json!({"choices": [{"index": 0, "delta": {"content": "Wo"}}]});
    let stream = format!("data: {piece}\n\ndata: [DONE]\n\n");
    hold(&[
        Class::new(
            "JSON that breaks off",
            ok("application/json", &whole[..20]),
            Passes,
            (
                "bad_response",
                200,
                "the answer breaks off in the middle of its JSON: {\"choices\":[{\"finish",
            ),
        ),
        Class::new(
            "JSON that is none",
            ok("application/json", "{'choices': []}"),
            Passes,
            (
                "bad_response",
                200,
                "the answer is not valid JSON (key must be a string at line 1 column 2): {'choices': []}",
            ),
        ),
        Class::new(
            "JSON of another kind",
            ok("application/json", r#"{"status":"ok"}"#),
            Passes,
            (
                "bad_response",
                200,
                "the answer holds no choice: {\"status\":\"ok\"}",
            ),
        ),
        Class::new(
            "HTML from a proxy",
            ok(
                "text/html",
                "<!doctype html><html><head><title>Sign in to the network</title></head></html>",
            ),
            Passes,
            (
                "bad_response",
                200,
                "the answer is not JSON (content type `text/html`): Sign in to the network",
            ),
        ),
        Class::new(
            "a wrong content type",
            ok("image/gif", "GIF89a not an answer"),
            Passes,
            (
                "bad_response",
                200,
                "the answer is not JSON (content type `image/gif`): GIF89a not an answer",
            ),
        ),
        Class::new(
            "an empty body",
            ok("application/json", ""),
            Passes,
            ("bad_response", 200, "the answer is empty"),
        ),
        Class::new(
            "no choices",
            ok("application/json", r#"{"choices":[]}"#),
            Passes,
            (
                "bad_response",
                200,
                "the answer holds no choice: {\"choices\":[]}",
            ),
        ),
        Class::new(
            "no end",
            ended(Value::Null),
            Passes,
            (
                "bad_response",
                200,
                "the answer did not end: it has no `finish_reason`: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"message\":{\"content\":\"Words.\",\"refusal\":null,\"role\":\"assistant\"}}],\"id\":\"chatcmpl-1\",\"model\":\"gpt-6-luna-2026-10-01\",\"object\":\"chat.completion\",\"usage\":{\"c…",
            ),
        ),
        Class::new(
            "an error for an end",
            ended("error".into()),
            Passes,
            (
                "bad_response",
                200,
                "the answer broke off: `finish_reason` is `error`: {\"choices\":[{\"finish_reason\":\"error\",\"index\":0,\"message\":{\"content\":\"Words.\",\"refusal\":null,\"role\":\"assistant\"}}],\"id\":\"chatcmpl-1\",\"model\":\"gpt-6-luna-2026-10-01\",\"object\":\"chat.completion\",\"usage\":…",
            ),
        ),
        Class::new(
            "not UTF-8",
            latin(),
            Passes,
            (
                "bad_response",
                200,
                "the answer is not UTF-8: {\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"message\":{\"content\":\"�ords.\",\"refusal\":null,\"role\":\"assistant\"}}],\"id\":\"chatcmpl-1\",\"model\":\"gpt-6-luna-2026-10-01\",\"object\":\"chat.completion\",\"usage\":{…",
            ),
        ),
        Class::new(
            "compressed, though that was not asked for",
            response(
                "200 OK",
                "content-type: application/json\r\ncontent-encoding: br\r\n",
                "\u{b}\u{2}\u{80}",
            ),
            Passes,
            (
                "bad_response",
                200,
                "the answer is compressed (`br`), which was not asked for",
            ),
        ),
        Class::new(
            "a stream that nobody asked for",
            ok("text/event-stream", &stream),
            Passes,
            (
                "bad_response",
                200,
                "the answer is not JSON (content type `text/event-stream`): data: {\"choices\":[{\"delta\":{\"content\":\"Wo\"},\"index\":0}]} data: [DONE]",
            ),
        ),
        Class::new(
            "an error inside a success",
            ok(
                "application/json",
                r#"{"error":{"message":"Provider returned error","code":502}}"#,
            ),
            Passes,
            ("server_error", 200, "Provider returned error"),
        ),
    ]);
}

#[test]
fn an_answer_that_does_not_come_whole_is_asked_for_again() {
    let with = |bytes: Vec<u8>, more: &[u8]| [&bytes[..], more].concat();
    hold(&[
        Class::new(
            "a body that breaks off",
            with(begun("content-length: 500"), b"{\"choices\""),
            Passes,
            ("connection", 200, "the connection to `[server]` broke before the answer was whole (10 bytes came): end of file before message length reached"),
        ),
        Class::new(
            "a chunked body that breaks off",
            with(begun("transfer-encoding: chunked"), b"a\r\n{\"choices\"\r\n"),
            Passes,
            ("connection", 200, "the connection to `[server]` broke before the answer was whole (10 bytes came): unexpected EOF during chunk size line"),
        ),
        Class::new(
            "a close before any answer",
            Vec::new(),
            Passes,
            ("connection", 0, "the connection to `[server]` broke before an answer came: connection closed before message completed"),
        )
        .without_status(),
        Class::new(
            "what is not HTTP",
            b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
            Passes,
            ("connection", 0, "the connection to `[server]` broke before an answer came: invalid HTTP version parsed"),
        )
        .without_status(),
        Class::new(
            "a body that falls silent",
            Vec::new(),
            Passes,
            ("timeout", 200, "`[server]` fell silent in the middle of its answer: nothing for 1s after 10 bytes"),
        )
        .replying(Reply::Held(with(begun("content-length: 500"), b"{\"choices\"")))
        .with("name = \"test\"", "name = \"test\"\nidle_timeout = \"1s\""),
        Class::new("a slow drip", Vec::new(), Passes, ("timeout", 200, "no whole answer from `[server]` within 4s (* bytes came)"))
            .replying(Reply::Dripped(begun("content-length: 500000"), b" ".to_vec()))
            .with("name = \"test\"", "name = \"test\"\ntimeout = \"4s\""),
        Class::new(
            "headers and then nothing",
            Vec::new(),
            Passes,
            ("timeout", 200, "no whole answer from `[server]` within 4s (0 bytes came)"),
        )
        .replying(Reply::Held(begun("content-length: 500")))
        .with("name = \"test\"", "name = \"test\"\ntimeout = \"4s\""),
        Class::new("silence", Vec::new(), Passes, ("timeout", 0, "no answer from `[server]` within 4s"))
            .without_status()
            .replying(Reply::Held(Vec::new()))
            .with("name = \"test\"", "name = \"test\"\ntimeout = \"4s\""),
    ]);
}

#[test]
fn an_answer_that_is_too_large_is_given_up() {
    let megabyte = [b"100000\r\n", &[b' '; 1 << 20][..], b"\r\n"].concat();
    hold(&[
        Class::new(
            "an answer that is announced too large",
            Vec::new(),
            Node(1),
            (
                "response_too_large",
                200,
                "the answer is larger than 32 MB and was not read",
            ),
        )
        .replying(Reply::Held(begun("content-length: 40000000"))),
        Class::new(
            "an answer that grows too large",
            Vec::new(),
            Node(1),
            (
                "response_too_large",
                200,
                "the answer is larger than 32 MB and was not read",
            ),
        )
        .replying(Reply::Dripped(begun("transfer-encoding: chunked"), megabyte)),
    ]);
}

#[test]
fn an_answer_that_is_bad_every_time_is_paid_three_times_and_given_up() {
    let bad = |text: &str, finish: &str| wire::json("200 OK", &answer(text, finish));
    let refusal = {
        let mut refusal = answer("", "stop");
        refusal["choices"][0]["message"]["refusal"] = json!("I cannot write this.");
        wire::json("200 OK", &refusal)
    };
    hold(&[
        Class::new(
            "the same filter",
            bad("", "content_filter"),
            Node(3),
            ("filtered", 0, "answer withheld by the provider's filter"),
        )
        .without_status(),
        Class::new(
            "the same refusal",
            refusal,
            Node(3),
            ("refused", 0, "the model refused"),
        )
        .without_status(),
        Class::new(
            "no text",
            bad(" \n", "stop"),
            Node(3),
            ("empty", 0, "answer without text"),
        )
        .without_status(),
        Class::new(
            "a tool call",
            bad("Let me see.", "tool_calls"),
            Node(3),
            ("tool_call", 0, "a tool call instead of an answer"),
        )
        .without_status(),
    ]);
}

/// A server whose answers to one call of a persona are good and strange.
fn strange(mark: &'static str, make: fn(&mut Value)) -> Wire {
    Wire::start(move |_, body| {
        if !(body.contains(VICTIM) && body.contains(mark)) {
            return good(body);
        }
        let mut odd = answer(&format!("Words of {} letters.", body.len()), "stop");
        make(&mut odd);
        wire::json("200 OK", &odd)
    })
}

#[test]
fn an_answer_without_usage_is_kept_and_its_tokens_are_marked_as_estimated() {
    for (place, node, mark) in PLACES {
        let server = strange(mark, |odd| _ = odd.as_object_mut().unwrap().remove("usage"));
        let project = one_by_one(2, &server.url());
        let ran = project.run(&["run", "--json"]).code(0);
        let run = crate::project::Events::of(&ran);
        assert_eq!((server.calls(), run.figure("calls.ok")), (6, 6), "{place}");
        let estimated: Vec<_> = run
            .named("call_ended")
            .into_iter()
            .filter(|call| call["estimated"] == true)
            .map(|call| (call["persona"].as_str().unwrap(), call["node"].as_str().unwrap()))
            .collect();
        assert_eq!(estimated, [("p00", node)], "{place}");
        assert!(
            run.figure("tokens.total") > 5 * 120,
            "{place}: estimated, not nothing"
        );
        let shown = project.run(&["show", &format!("p00/{node}")]).code(0);
        assert!(shown.stdout.contains("estimated"), "{place}: {}", shown.stdout);
        assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0, "{place}");
    }
}

#[test]
fn an_answer_of_another_model_is_kept_and_told_once() {
    for (place, node, mark) in PLACES {
        let server = strange(mark, |odd| odd["model"] = json!("llama-3-8b"));
        let project = one_by_one(2, &server.url());
        let ran = project.run(&["run", "--json"]).code(0);
        let run = crate::project::Events::of(&ran);
        assert_eq!((server.calls(), run.figure("calls.ok")), (6, 6), "{place}");
        let warnings: Vec<_> = run
            .named("warning")
            .into_iter()
            .map(|warning| warning["message"].clone())
            .collect();
        assert_eq!(
            warnings,
            [
                "`gpt-6-luna` was asked and `llama-3-8b` answers; its answers are kept and paid at the price of `gpt-6-luna`; nothing is wrong if the server calls it so"
            ],
            "{place}"
        );
        assert!(ran.stderr.contains("llama-3-8b"), "{place}: {}", ran.stderr);
        let shown = project.run(&["show", &format!("p00/{node}")]).code(0);
        assert!(shown.stdout.contains("llama-3-8b"), "{place}: {}", shown.stdout);
        assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0, "{place}");
    }
}
