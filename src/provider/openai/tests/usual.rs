//! The short way through a reply of the usual form says just what the long way says.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Value, json};

use super::*;
use crate::provider::openai::answer;

fn one_of(values: Vec<Value>) -> impl Strategy<Value = Option<Value>> {
    let values: Vec<Option<Value>> = values.into_iter().map(Some).chain([None]).collect();
    prop::sample::select(values)
}

fn object(fields: Vec<(&'static str, Option<Value>)>) -> Value {
    let there = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(there.collect())
}

/// The usual value four times out of five.
fn mostly(usual: Value, others: Vec<Value>) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![4 => Just(Some(usual)), 1 => one_of(others)]
}

prop_compose! {
    fn message()(
        content in mostly(json!("Hello\n\"you\" é"), vec![json!("x"), json!(""), json!(null), json!([{"type": "text", "text": "a"}])]),
        refusal in mostly(json!(null), vec![json!("no"), json!(" "), json!(1)]),
        reasoning in one_of(vec![json!("thinking \u{1f600}"), json!({"a": [1]})]),
    ) -> Value {
        let role = Some(json!("assistant"));
        object(vec![("role", role), ("reasoning_content", reasoning), ("content", content), ("refusal", refusal)])
    }
}

prop_compose! {
    fn choice()(
        message in message(),
        finish in mostly(json!("stop"), vec![json!("length"), json!("STOP "), json!("error"), json!(null), json!("x\ny"), json!(3)]),
        error in mostly(json!(null), vec![json!({}), json!(""), json!({"message": "bad"})]),
        kind in mostly(json!(null), vec![json!("error"), json!("choice")]),
    ) -> Value {
        object(vec![("error", error), ("object", kind), ("message", Some(message)), ("finish_reason", finish)])
    }
}

prop_compose! {
    fn reply()(
        choices in prop_oneof![6 => prop::collection::vec(choice(), 1..=1), 1 => prop::collection::vec(choice(), 0..3)],
        usage in one_of(vec![json!(null), json!({"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}}), json!("many")]),
        names in prop::collection::vec(mostly(json!("a name"), vec![json!("gpt-6\u{202e}"), json!(""), json!(null), json!(7), json!("a/b"), json!(KEY)]), 3),
        error in mostly(json!(null), vec![json!({}), json!(""), json!({"message": "bad"}), json!("bad")]),
        kind in mostly(json!("chat.completion"), vec![json!("error"), json!(null)]),
    ) -> Value {
        object(vec![
            ("id", names[0].clone()), ("object", kind), ("model", names[1].clone()), ("error", error),
            ("choices", Some(Value::Array(choices))), ("usage", usage), ("service_tier", names[2].clone()),
        ])
    }
}

fn words() -> Words {
    Words::hiding(Some(SecretString::from(KEY)))
}

fn short_way(body: &[u8], id: Option<&str>) -> Option<Answer> {
    answer::usual(body, &request(), id, &words())
}

#[test]
fn the_usual_form_takes_the_short_way() {
    let body = json!({
        "id": "x", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    });
    assert_eq!(
        short_way(body.to_string().as_bytes(), None).unwrap().text,
        "Hello"
    );
}

#[test]
fn both_ways_say_the_same() {
    let mut runner = proptest::test_runner::TestRunner::default();
    let (mut short, mut of) = (0, 0);
    let ids = prop::sample::select(vec![None, Some("req-1")]);
    // Not `proptest!`: how often the short way is taken has to be counted.
    for _ in 0..2_000 {
        let (mut reply, id) = (reply(), ids.clone()).new_tree(&mut runner).unwrap().current();
        of += 1;
        if let Some(answer) = short_way(reply.to_string().as_bytes(), id) {
            short += 1;
            assert!(reply::error_within(&reply).is_none(), "{reply}");
            let long = answer::take(&mut reply, &request(), id.map(str::to_owned), &words());
            assert_eq!(long.as_ref(), Ok(&answer));
        }
    }
    assert!(short * 20 > of, "{short} of {of} are usual");
}
