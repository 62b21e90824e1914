//! Whatever a server sends: no panic, no key on the screen, nothing that a terminal obeys.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{KEY, NOW, ended, headers, request};
use crate::provider::openai::receive::End;
use crate::provider::openai::reply;
use crate::provider::openai::words::Words;

/// Bodies of all shapes that the reader knows its way in; `KEY` stands for the key.
const BODIES: &[&str] = &[
    r#"{"id":"c","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"text KEY","refusal":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":7,"total_tokens":27,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}},"service_tier":"default"}"#,
    r#"{"choices":[{"message":{"content":[{"type":"text","text":"KEY"},{"type":"refusal","refusal":"no"}]},"finish_reason":"length"}]}"#,
    r#"{"error":{"message":"bad key KEY, try again in 1m2.5s","type":"requests","param":"service_tier","code":"rate_limit_exceeded"}}"#,
    r#"[{"error":{"code":429,"message":"KEY","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"PerDay"}]},{"retryDelay":"37s"}]}}]"#,
    r#"{"type":"error","error":{"type":"rate_limit_error","message":"KEY","details":{"error_code":"KEY"}},"request_id":"KEY"}"#,
    r#"{"object":"error","message":{"detail":[{"type":"KEY","msg":"KEY"}]},"type":"KEY","code":"KEY"}"#,
    r#"{"error":{"code":502,"message":"KEY","metadata":{"raw":"{\"error\":{\"message\":\"KEY\"}}","reasons":[],"retry_after_seconds":3}}}"#,
    r#"{"detail":[{"type":"missing","msg":"KEY"}],"error":"KEY"}"#,
    "<html><head><title>KEY</title></head><body>KEY</body></html>",
    "KEY",
    "",
];

/// Any JSON, with the key here and there.
fn any_json() -> impl Strategy<Value = Value> {
    let names = [
        "error", "message", "code", "type", "details", "choices", "usage", "content", "metadata", "raw",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!(KEY)),
        Just(json!(format!("try again in 5s {KEY}\u{1b}[0m"))),
        Just(json!("stop")),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        let name = prop_oneof![8 => prop::sample::select(names.to_vec()).prop_map(str::to_owned), 1 => any::<String>()];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A known body with some of its bytes changed, doubled or cut off.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4u8);
    (
        prop::sample::select(BODIES.to_vec()),
        prop::collection::vec(change, 0..4),
    )
        .prop_map(|(body, changes)| {
            let mut body = body.replace("KEY", KEY).into_bytes();
            for (at, byte, way) in changes {
                if body.is_empty() {
                    break;
                }
                let at = at.index(body.len());
                match way {
                    0 => body[at] = byte,
                    1 => body.insert(at, byte),
                    2 => body.truncate(at),
                    _ => body.extend_from_within(at..),
                }
            }
            body
        })
}

/// A known body with one of its values replaced by any JSON.
fn transplanted() -> impl Strategy<Value = Vec<u8>> {
    let places = [
        "/choices",
        "/choices/0",
        "/choices/0/message",
        "/choices/0/message/content",
        "/choices/0/finish_reason",
        "/usage",
        "/usage/prompt_tokens",
        "/usage/prompt_tokens_details",
        "/error",
        "/error/message",
        "/error/code",
        "/error/type",
        "/error/details",
        "/error/metadata",
        "/error/metadata/raw",
        "/0/error/details/0",
        "/model",
        "/id",
        "/message",
        "/detail",
    ];
    (
        prop::sample::select(BODIES[..8].to_vec()),
        prop::sample::select(places.to_vec()),
        any_json(),
    )
        .prop_map(|(body, place, value)| {
            let mut body: Value = serde_json::from_str(&body.replace("KEY", KEY)).unwrap();
            if let Some(spot) = body.pointer_mut(place) {
                *spot = value;
            }
            body.to_string().into_bytes()
        })
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        any_json().prop_map(|json| json.to_string().into_bytes()),
        mutated(),
        transplanted(),
    ]
}

fn ends() -> impl Strategy<Value = End> {
    prop_oneof![8 => Just(End::Whole), 1 => Just(End::TooLarge), 1 => Just(End::Broke("broke".to_owned()))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn nothing_panics_and_nothing_shows_the_key(
        status in prop_oneof![3 => Just(200u16), 1 => 200u16..600],
        body in bodies(),
        end in ends(),
        header in "[ -~]{0,30}",
    ) {
        let echoed = format!("{header}{KEY}");
        let pairs = [
            ("retry-after", header.as_str()), ("retry-after-ms", &header), ("date", &header), ("location", &echoed),
            ("content-type", &echoed), ("x-request-id", &echoed), ("x-should-retry", &header),
        ];
        let words = Words::hiding(Some(KEY.into()));
        match reply::read(ended(status, headers(&pairs), body, end), &request(), &words, NOW) {
            Ok(answer) => {
                prop_assert!((200..300).contains(&status));
                let shown = format!("{:?}", (answer.finish, answer.model, answer.service_tier, answer.id));
                prop_assert!(!shown.contains(KEY), "{}", shown);
            }
            Err(fault) => {
                prop_assert!(!format!("{fault:?}").contains(KEY), "{:?}", fault);
                prop_assert!(!fault.message.is_empty());
                prop_assert!(fault.message.chars().count() <= 600);
                prop_assert!(!fault.message.chars().any(char::is_control), "{:?}", fault);
                prop_assert_eq!(fault.http_status, Some(status));
            }
        }
    }
}
