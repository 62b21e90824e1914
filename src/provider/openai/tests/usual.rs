//! The short way through a reply of the usual form says just what the long way says.

use proptest::prelude::*;
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

prop_compose! {
    fn message()(
        content in one_of(vec![json!("Hello\n\"you\" é"), json!("x"), json!(""), json!(null), json!([{"type": "text", "text": "a"}])]),
        refusal in one_of(vec![json!(null), json!("no"), json!(" "), json!(1)]),
        role in one_of(vec![json!("assistant")]),
        reasoning in one_of(vec![json!("thinking \u{1f600}"), json!({"a": [1]})]),
    ) -> Value {
        object(vec![("role", role), ("reasoning_content", reasoning), ("content", content), ("refusal", refusal)])
    }
}

prop_compose! {
    fn choice()(
        message in message(),
        finish in one_of(vec![json!("stop"), json!("length"), json!("STOP "), json!("error"), json!(null), json!("x\ny"), json!(3)]),
        error in one_of(vec![json!(null), json!({}), json!(""), json!({"message": "bad"})]),
    ) -> Value {
        object(vec![("index", Some(json!(0))), ("error", error), ("message", Some(message)), ("finish_reason", finish)])
    }
}

prop_compose! {
    fn reply()(
        choices in prop::collection::vec(choice(), 0..3),
        usage in one_of(vec![json!(null), json!({"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}}), json!("many")]),
        names in prop::collection::vec(one_of(vec![json!("gpt-6\u{202e}"), json!(""), json!(null), json!(7), json!("a/b")]), 3),
        error in one_of(vec![json!(null), json!({}), json!(""), json!({"message": "bad"}), json!("bad")]),
        kind in one_of(vec![json!("chat.completion"), json!("error"), json!(null)]),
    ) -> Value {
        object(vec![
            ("id", names[0].clone()), ("object", kind), ("model", names[1].clone()), ("error", error),
            ("choices", Some(Value::Array(choices))), ("usage", usage), ("service_tier", names[2].clone()),
        ])
    }
}

fn short_way(body: &[u8]) -> Option<Answer> {
    answer::usual(body, &request(), Some("req-1"), &Words::hiding(None))
}

#[test]
fn the_usual_form_takes_the_short_way() {
    let body = json!({
        "id": "x", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    });
    assert_eq!(short_way(body.to_string().as_bytes()).unwrap().text, "Hello");
}

proptest! {
    #[test]
    fn both_ways_say_the_same(mut reply in reply()) {
        if let Some(answer) = short_way(reply.to_string().as_bytes()) {
            let long = answer::take(&mut reply, &request(), Some("req-1".to_owned()), &Words::hiding(None));
            prop_assert_eq!(long.as_ref(), Ok(&answer));
        }
    }

    #[test]
    fn an_error_beside_an_answer_is_seen(mut reply in reply()) {
        let faulty = reply["error"]["message"].is_string() || reply["object"] == "error";
        if faulty {
            reply["choices"] = json!([{"message": {"content": "Hello"}, "finish_reason": "stop"}]);
            prop_assert!(short_way(reply.to_string().as_bytes()).is_none());
        }
    }
}
