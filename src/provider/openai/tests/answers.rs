//! Answers as servers give them: every way to stop, every shape of usage, and what is no answer.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ended, headers, read, request};
use crate::call::{Answer, FaultKind, Finish, Scope, Usage};
use crate::provider::openai::receive::End;
use crate::provider::openai::reply;
use crate::provider::openai::words::Words;

fn answer(body: Value) -> Answer {
    read(200, &[], body.to_string()).unwrap()
}

/// An answer that ended by itself, with this choice.
fn stopped(message: Value) -> Answer {
    answer(json!({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage()}))
}

fn usage() -> Value {
    json!({"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27})
}

fn message_of(body: impl Into<Vec<u8>>) -> String {
    bad(&[("content-type", "application/json")], body)
}

/// The message of a body that is no answer.
fn bad(pairs: &[(&str, &str)], body: impl Into<Vec<u8>>) -> String {
    let fault = read(200, pairs, body).unwrap_err();
    assert_eq!(
        (fault.kind, fault.scope),
        (FaultKind::BadResponse, Scope::Attempt),
        "{fault:?}"
    );
    assert_eq!(fault.http_status, Some(200));
    fault.message
}

#[test]
fn a_whole_answer_is_read() {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1795435200, "model": "gpt-6-luna-2026-10-01",
        "choices": [{"index": 0, "finish_reason": "stop", "logprobs": null, "message": {
            "role": "assistant", "content": "\n I am.  ", "refusal": null, "annotations": [],
            "reasoning_content": "hm", "reasoning": "hm"}}],
        "usage": {"prompt_tokens": 2048, "completion_tokens": 300, "total_tokens": 2348,
            "prompt_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 512, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 200, "rejected_prediction_tokens": 0}},
        "service_tier": "default", "system_fingerprint": null,
    });
    let expected = Answer {
        text: "\n I am.  ".to_owned(),
        finish: Finish::Stop,
        refusal: None,
        model: "gpt-6-luna-2026-10-01".to_owned(),
        service_tier: Some("default".to_owned()),
        usage: Usage {
            input: 2048,
            cached_input: Some(1024),
            cache_write: Some(512),
            output: 300,
            reasoning: Some(200),
            estimated: false,
        },
        raw_usage: body["usage"].clone(),
        id: Some("chatcmpl-1".to_owned()),
    };
    assert_eq!(answer(body.clone()), expected);
    let named = read(200, &[("x-request-id", "req_1")], body.to_string()).unwrap();
    assert_eq!(
        named.id.as_deref(),
        Some("req_1"),
        "the header is what support asks for"
    );
}

#[test]
fn the_least_answer_is_read() {
    let answer =
        answer(json!({"choices": [{"message": {"content": "I am septet."}, "finish_reason": "stop"}]}));
    assert_eq!(answer.text, "I am septet.");
    assert_eq!(answer.model, "gpt-6-luna", "the one that was asked");
    assert_eq!(
        (answer.service_tier, answer.id, answer.raw_usage),
        (None, None, Value::Null)
    );
    assert_eq!(
        answer.usage,
        Usage {
            input: 5,
            output: 3,
            estimated: true,
            ..Usage::default()
        }
    );
}

#[test]
fn every_way_to_stop_has_a_meaning() {
    let other = |word: &str| Finish::Other(word.to_owned());
    for (reason, finish) in [
        ("stop", Finish::Stop),
        ("STOP", Finish::Stop),
        ("length", Finish::Length),
        ("max_tokens", Finish::Length),
        ("MAX_TOKENS", Finish::Length),
        ("model_length", Finish::Length),
        ("model_context_window_exceeded", Finish::Length),
        ("content_filter", Finish::ContentFilter),
        ("refusal", Finish::ContentFilter),
        ("SAFETY", Finish::ContentFilter),
        ("tool_calls", Finish::ToolCall),
        ("function_call", Finish::ToolCall),
        ("eos", other("eos")),
        ("end_turn", other("end_turn")),
        ("\u{1b}[1mweird", other("[1mweird")),
    ] {
        let answer = answer(json!({"choices": [{"message": {"content": "text"}, "finish_reason": reason}]}));
        assert_eq!(
            (answer.finish, answer.text.as_str()),
            (finish, "text"),
            "{reason}"
        );
    }
}

#[test]
fn an_answer_that_did_not_end_is_a_fault() {
    for reason in [json!("error"), Value::Null, json!(""), json!(3), json!([])] {
        let body = json!({"choices": [{"message": {"content": "half"}, "finish_reason": reason}]});
        assert!(
            message_of(body.to_string()).contains("`finish_reason`"),
            "{reason}"
        );
    }
    let absent = json!({"choices": [{"message": {"content": "half"}}]});
    assert!(message_of(absent.to_string()).starts_with("the answer did not end"));
    let full = json!({"choices": [{"message": {"content": "half"}, "finish_reason": "insufficient_system_resource"}]});
    let fault = read(200, &[], full.to_string()).unwrap_err();
    assert_eq!((fault.kind, fault.scope), (FaultKind::Overloaded, Scope::Attempt));
}

#[test]
fn bad_answers_are_answers_all_the_same() {
    let empty = answer(
        json!({"choices": [{"message": {"content": ""}, "finish_reason": "length"}], "usage": usage()}),
    );
    assert_eq!(
        (empty.text.as_str(), empty.finish, empty.usage.output),
        ("", Finish::Length, 7)
    );
    let filtered =
        answer(json!({"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}]}));
    assert_eq!(
        (filtered.text.as_str(), filtered.finish),
        ("", Finish::ContentFilter)
    );
    let called = answer(json!({"choices": [{"message": {"tool_calls": []}, "finish_reason": "tool_calls"}]}));
    assert_eq!(called.finish, Finish::ToolCall);
    let no_message = answer(json!({"choices": [{"finish_reason": "stop"}], "usage": usage()}));
    assert_eq!(no_message.text, "");
}

#[test]
fn a_refusal_is_kept_apart_from_the_text() {
    let refused = stopped(json!({"content": null, "refusal": "I can't."}));
    assert_eq!(
        (refused.text.as_str(), refused.refusal.as_deref()),
        ("", Some("I can't."))
    );
    assert_eq!(stopped(json!({"content": "yes", "refusal": ""})).refusal, None);
    let part = stopped(json!({"content": [{"type": "refusal", "refusal": "No."}]}));
    assert_eq!((part.text.as_str(), part.refusal.as_deref()), ("", Some("No.")));
}

#[test]
fn content_may_be_a_list_of_parts() {
    let parts = json!([
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "reasoning", "text": "hm"},
        {"type": "text", "text": "I "},
        {"text": "am"},
        {"type": "output_text", "text": " sep"},
        "tet",
        {"type": "image_url", "image_url": {"url": "x"}},
        null,
    ]);
    assert_eq!(stopped(json!({"content": parts})).text, "I am septet");
    for nonsense in [json!(3), json!({"text": "x"}), json!(true), json!([3, null, {}])] {
        assert_eq!(stopped(json!({"content": nonsense})).text, "");
    }
}

/// Reads `usage` of an answer with the text "abcdefgh": 2 tokens, if they are estimated.
fn counted(usage: Value) -> Usage {
    let choice = json!({"message": {"content": "abcdefgh"}, "finish_reason": "stop"});
    answer(json!({"choices": [choice], "usage": usage})).usage
}

fn reported(
    input: u64,
    cached: Option<u64>,
    written: Option<u64>,
    output: u64,
    reasoning: Option<u64>,
) -> Usage {
    Usage {
        input,
        cached_input: cached,
        cache_write: written,
        output,
        reasoning,
        estimated: false,
    }
}

#[test]
fn usage_is_read_as_it_is_reported() {
    for (rule, usage, expected) in [
        (
            "no details is unknown, not 0",
            usage(),
            reported(20, None, None, 7, None),
        ),
        (
            "details that are null",
            json!({"prompt_tokens": 20, "completion_tokens": 7, "prompt_tokens_details": null,
                "completion_tokens_details": {"reasoning_tokens": null}}),
            reported(20, None, None, 7, None),
        ),
        (
            "a 0 is a 0",
            json!({"prompt_tokens": 20, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 0}}),
            reported(20, Some(0), None, 7, None),
        ),
        (
            "DeepSeek",
            json!({"prompt_tokens": 20, "completion_tokens": 7, "prompt_cache_hit_tokens": 16, "prompt_cache_miss_tokens": 4}),
            reported(20, Some(16), None, 7, None),
        ),
        (
            "LiteLLM's names for the cache",
            json!({"prompt_tokens": 20, "completion_tokens": 7, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 5}),
            reported(20, Some(3), Some(5), 7, None),
        ),
        (
            "the names of Responses",
            json!({"input_tokens": 20, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 4},
                "output_tokens_details": {"reasoning_tokens": 2}}),
            reported(20, Some(4), None, 7, Some(2)),
        ),
        (
            "xAI counts reasoning beside the completion",
            json!({"prompt_tokens": 10120, "completion_tokens": 1499, "total_tokens": 14428,
                "completion_tokens_details": {"reasoning_tokens": 2809}}),
            reported(10120, None, None, 4308, Some(2809)),
        ),
        (
            "Gemini's thoughts are only in the total",
            json!({"prompt_tokens": 20, "completion_tokens": 151, "total_tokens": 553}),
            reported(20, None, None, 533, None),
        ),
        (
            "a reasoning model that used up its limit",
            json!({"prompt_tokens": 21, "completion_tokens": 0, "completion_tokens_details": {"reasoning_tokens": 60}}),
            reported(21, None, None, 60, Some(60)),
        ),
        (
            "floats and strings that are numbers",
            json!({"prompt_tokens": 20.0, "completion_tokens": "7"}),
            reported(20, None, None, 7, None),
        ),
        (
            "more cached than there is",
            json!({"prompt_tokens": 20, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 50, "cache_write_tokens": 50}}),
            reported(20, Some(20), Some(0), 7, None),
        ),
        (
            "cached and written overlap",
            json!({"prompt_tokens": 20, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 15, "cache_write_tokens": 15}}),
            reported(20, Some(15), Some(5), 7, None),
        ),
        (
            "nonsense in the details counts as unknown",
            json!({"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": "many",
                "prompt_tokens_details": {"cached_tokens": -5}, "completion_tokens_details": 3}),
            reported(20, None, None, 7, None),
        ),
        (
            "a total smaller than its parts",
            json!({"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 3}),
            reported(20, None, None, 7, None),
        ),
    ] {
        assert_eq!(counted(usage), expected, "{rule}");
    }
}

#[test]
fn what_is_not_counted_is_estimated() {
    let estimated = |input, output| Usage {
        input,
        output,
        estimated: true,
        ..Usage::default()
    };
    for (rule, usage, expected) in [
        ("null", Value::Null, estimated(5, 2)),
        ("empty", json!({}), estimated(5, 2)),
        ("not an object", json!("none"), estimated(5, 2)),
        (
            "zeros",
            json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
            estimated(5, 2),
        ),
        (
            "negative",
            json!({"prompt_tokens": -1, "completion_tokens": -1}),
            estimated(5, 2),
        ),
        (
            "words",
            json!({"prompt_tokens": "a", "completion_tokens": [3]}),
            estimated(5, 2),
        ),
        (
            "beyond all reason",
            json!({"prompt_tokens": 1e300, "completion_tokens": u64::MAX}),
            estimated(5, 2),
        ),
        ("only the input", json!({"prompt_tokens": 20}), estimated(20, 2)),
        (
            "text without output",
            json!({"prompt_tokens": 20, "completion_tokens": 0}),
            estimated(20, 2),
        ),
        (
            "a float between two numbers",
            json!({"prompt_tokens": 20, "completion_tokens": 1.5}),
            estimated(20, 2),
        ),
    ] {
        assert_eq!(counted(usage), expected, "{rule}");
    }
}

#[test]
fn no_output_without_text_is_believed() {
    let body = json!({"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 0}});
    assert_eq!(answer(body).usage, reported(20, None, None, 0, None));
}

#[test]
fn an_error_that_is_none_does_not_lose_an_answer() {
    for nothing in [Value::Null, json!({}), json!(""), json!(false), json!([])] {
        let body = json!({"error": nothing, "choices": [{"error": nothing, "message": {"content": "text"}, "finish_reason": "stop"}]});
        assert_eq!(answer(body).text, "text", "{nothing}");
    }
}

#[test]
fn servers_may_be_clumsy_around_an_answer() {
    let body = json!({"choices": [{"message": {"content": "text"}, "finish_reason": "stop"}]}).to_string();
    for (rule, pairs, bytes) in [
        (
            "DeepSeek's empty lines",
            [("content-type", "application/json")],
            format!("\n\n\n\r\n{body}\n"),
        ),
        (
            "byte order mark",
            [("content-type", "application/json")],
            format!("\u{feff}{body}"),
        ),
        (
            "wrong content type",
            [("content-type", "text/html")],
            body.clone(),
        ),
    ] {
        assert_eq!(read(200, &pairs, bytes).unwrap().text, "text", "{rule}");
    }
    let half = r#"{"choices":[{"message":{"content":"end \ud83d"},"finish_reason":"length"}]}"#;
    assert_eq!(
        read(200, &[], half).unwrap().text,
        "end \u{fffd}",
        "a paid answer with half an emoji"
    );
}

#[test]
fn every_success_may_bring_an_answer() {
    let body = json!({"choices": [{"message": {"content": "text"}, "finish_reason": "stop"}]}).to_string();
    for status in [200, 201, 202, 299] {
        assert_eq!(read(status, &[], body.as_str()).unwrap().text, "text");
    }
    let fault = read(204, &[], "").unwrap_err();
    assert_eq!(
        (fault.kind, fault.message.as_str()),
        (FaultKind::BadResponse, "the answer is empty")
    );
}

#[test]
fn what_is_no_answer_is_named_and_quoted() {
    let html = bad(
        &[("content-type", "text/html; charset=utf-8")],
        "<!doctype html><title>Sign in</title><body>",
    );
    insta::assert_snapshot!(html, @"the answer is not JSON (content type `text/html`): Sign in");
    insta::assert_snapshot!(bad(&[], "hello\u{1b}[2J\nworld"), @"the answer is not JSON (no content type): hello [2J world");
    insta::assert_snapshot!(
        bad(&[("content-type", "text/event-stream")], "data: {\"choices\":[]}\n\ndata: [DONE]\n\n"),
        @r#"the answer is not JSON (content type `text/event-stream`): data: {"choices":[]} data: [DONE]"#);
    insta::assert_snapshot!(message_of(""), @"the answer is empty");
    insta::assert_snapshot!(message_of(" \n\n"), @"the answer is empty");
    insta::assert_snapshot!(message_of(r#"{"choices":[{"mess"#), @r#"the answer breaks off in the middle of its JSON: {"choices":[{"mess"#);
    insta::assert_snapshot!(message_of(r#"{"choices":}"#), @r#"the answer is not valid JSON (expected value at line 1 column 12): {"choices":}"#);
    insta::assert_snapshot!(message_of(b"{\"a\":\"\xff\xfe\"}".to_vec()), @r#"the answer is not UTF-8: {"a":"��"}"#);
    insta::assert_snapshot!(message_of(r#"{"choices":[]}"#), @r#"the answer holds no choice: {"choices":[]}"#);
    insta::assert_snapshot!(message_of(r#"{"choices":["x"]}"#), @r#"the answer holds no choice: {"choices":["x"]}"#);
    insta::assert_snapshot!(message_of("[1,2]"), @"the answer holds no choice: [1,2]");
    insta::assert_snapshot!(message_of("null"), @"the answer holds no choice: null");
    insta::assert_snapshot!(bad(&[("content-encoding", "gzip")], b"\x1f\x8b\x08".to_vec()), @"the answer is compressed (`gzip`), which was not asked for");
    assert!(
        message_of("[".repeat(1000)).starts_with("the answer is not valid JSON (recursion limit exceeded")
    );
}

#[test]
fn an_answer_that_is_not_whole_is_a_fault_of_its_own() {
    for (end, kind, scope, message) in [
        (
            End::TooLarge,
            FaultKind::ResponseTooLarge,
            Scope::Node,
            "the answer is larger than 32 MB and was not read",
        ),
        (
            End::Broke("it broke".to_owned()),
            FaultKind::Connection,
            Scope::Attempt,
            "it broke",
        ),
        (
            End::TimedOut("too slow".to_owned()),
            FaultKind::Timeout,
            Scope::Attempt,
            "too slow",
        ),
    ] {
        let reply = ended(200, headers(&[("x-request-id", "req_1")]), "{", end);
        let fault = reply::read(reply, &request(), &Words::hiding(None), super::NOW).unwrap_err();
        assert_eq!(
            (fault.kind, fault.scope, fault.message.as_str()),
            (kind, scope, message)
        );
        assert_eq!(
            (fault.http_status, fault.request_id.as_deref()),
            (Some(200), Some("req_1"))
        );
    }
}

proptest! {
    #[test]
    fn any_text_comes_back_as_it_was(text in any::<String>()) {
        let answer = stopped(json!({"content": text}));
        prop_assert_eq!(answer.text, text);
    }

    #[test]
    fn any_usage_adds_up(
        counts in prop::collection::vec(prop_oneof![
            any::<u64>().prop_map(|n| json!(n)),
            (0u64..5000).prop_map(|n| json!(n)),
            any::<i64>().prop_map(|n| json!(n)),
            any::<f64>().prop_map(|n| json!(n)),
            ".*".prop_map(|text| json!(text)),
            Just(Value::Null),
        ], 6),
    ) {
        let usage = counted(json!({
            "prompt_tokens": counts[0], "completion_tokens": counts[1], "total_tokens": counts[2],
            "prompt_tokens_details": {"cached_tokens": counts[3], "cache_write_tokens": counts[4]},
            "completion_tokens_details": {"reasoning_tokens": counts[5]},
        }));
        prop_assert!(usage.input > 0 && usage.output > 0);
        prop_assert!(usage.cached_input.unwrap_or(0) + usage.cache_write.unwrap_or(0) <= usage.input);
        prop_assert!(usage.reasoning.unwrap_or(0) <= usage.output);
    }
}
