use super::*;
use crate::call::{Delivery, Message, Rejection, Role};
use crate::graph::tests::graph;
use std::collections::HashMap;
use std::sync::Arc;

fn request(text: &str, cap: Option<u64>) -> Request {
    Request {
        provider: "p".into(),
        model: "m".into(),
        messages: vec![Message {
            role: Role::User,
            content: text.to_owned(),
        }],
        parameters: Arc::default(),
        variant: None,
        delivery: Delivery {
            max_output_tokens: cap,
            ..Delivery::default()
        },
    }
}

/// In place of an answer: one that was cut off.
const CUT_OFF: &str = "cut o";

fn cut() -> Cut {
    Cut {
        limit: Some(100),
        usage: Usage {
            output: 100,
            ..Usage::default()
        },
    }
}

/// Plans personas of the pipeline `a, b, c: a b`; `store` answers by the text of the request.
fn plan(personas: &[&str], store: &HashMap<String, &str>) -> Vec<Vec<Outlook>> {
    let graph = graph(&["a", "b", "c: a b"]);
    let mut planner = Planner::new(&graph);
    let mut rendered = HashMap::new();
    let mut outlooks = Vec::new();
    for persona in personas {
        let texts = std::cell::RefCell::new(HashMap::new());
        let request = |node: usize, needs: &[(&NodeId, &str)]| {
            let needs: Vec<&str> = needs.iter().map(|(_, text)| *text).collect();
            let text = format!("{persona} {node} {}", needs.join("+"));
            let request = request(&text, Some(100));
            texts.borrow_mut().insert(Key::of(&request), text);
            Ok::<_, ()>(request)
        };
        let look = |_: usize, key: &Key, limit: Option<u64>| {
            assert_eq!(limit, Some(100));
            let text = texts.borrow()[key].clone();
            Ok(match store.get(&text) {
                Some(&CUT_OFF) => Found::CutOff(cut()),
                Some(answer) => Found::Stored(Stored {
                    text: (*answer).to_owned(),
                    output: 10,
                    latency: Duration::from_secs(2),
                }),
                None => Found::Missing(Reason::New),
            })
        };
        outlooks.push(planner.persona(request, look).unwrap());
        rendered.extend(texts.into_inner());
    }
    outlooks
}

#[test]
fn a_node_depends_until_all_its_needs_are_stored() {
    let empty = HashMap::new();
    let outlooks = plan(&["p"], &empty);
    assert!(matches!(
        outlooks[0][..],
        [Outlook::Call(..), Outlook::Call(..), Outlook::Depends(_)]
    ));
    let one = HashMap::from([("p 0 ".to_owned(), "A")]);
    assert!(matches!(
        plan(&["p"], &one)[0][..],
        [Outlook::Hit, Outlook::Call(..), Outlook::Depends(_)]
    ));
    let both = HashMap::from([("p 0 ".to_owned(), "A"), ("p 1 ".to_owned(), "B")]);
    assert!(matches!(
        plan(&["p"], &both)[0][..],
        [Outlook::Hit, Outlook::Hit, Outlook::Call(..)]
    ));
    let all = HashMap::from([
        ("p 0 ".to_owned(), "A"),
        ("p 1 ".to_owned(), "B"),
        ("p 2 A+B".to_owned(), "C"),
    ]);
    assert_eq!(plan(&["p"], &all)[0], [Outlook::Hit, Outlook::Hit, Outlook::Hit]);
}

#[test]
fn equal_requests_are_counted_once() {
    let outlooks = plan(&["p", "p"], &HashMap::new());
    assert!(matches!(
        outlooks[1][..],
        [Outlook::Twin, Outlook::Twin, Outlook::Depends(_)]
    ));
}

#[test]
fn output_is_what_the_same_node_produced_before_else_its_limit() {
    let store = HashMap::from([("p 0 ".to_owned(), "A")]);
    let outlooks = plan(&["p", "q"], &store);
    let output = |outlook: &Outlook| match outlook {
        Outlook::Call(estimate, _) | Outlook::Depends(estimate) => estimate.output,
        other => panic!("{other:?}"),
    };
    assert_eq!(output(&outlooks[1][0]), 10);
    assert_eq!(output(&outlooks[1][1]), 100);
}

#[test]
fn a_model_without_a_price_makes_the_cost_unknown_and_not_nothing() {
    let estimate = Estimate {
        input: 1_000_000,
        output: 100_000,
        most_output: Some(1_000_000),
    };
    let price = Price::per_million(1.0, None, None, 2.0);
    let mut totals = Totals::new();
    totals.add(&Outlook::Call(estimate, Reason::New), Some(&price));
    assert_eq!(totals.cost, Some(Money::from_usd(1.2)));
    assert_eq!(totals.most_cost, Some(Money::from_usd(3.0)));
    totals.add(&Outlook::Call(estimate, Reason::New), None);
    assert_eq!((totals.cost, totals.most_cost), (None, None));
    assert_eq!(totals.calls, 2);
}

#[test]
fn the_slowest_bound_binds() {
    let totals = Totals {
        calls: 600,
        input: 50_000,
        output: 10_000,
        ..Totals::new()
    };
    let second = Duration::from_secs(1);
    let cases = [
        (None, None, 10, 60, Binding::Concurrency),
        (Some(300), None, 10, 120, Binding::Requests),
        (Some(300), Some(20_000), 10, 180, Binding::Tokens),
    ];
    for (rpm, tpm, concurrency, seconds, binding) in cases {
        let (time, bound) = duration(&totals, rpm, tpm, concurrency, second);
        assert_eq!((time.as_secs(), bound), (seconds, binding));
    }
}

#[test]
fn what_was_cut_off_at_this_limit_fails_and_what_needs_it_is_skipped() {
    let store = HashMap::from([("p 0 ".to_owned(), "A"), ("p 1 ".to_owned(), CUT_OFF)]);
    let outlooks = plan(&["p"], &store).remove(0);
    assert_eq!(outlooks, [Outlook::Hit, Outlook::CutOff(cut()), Outlook::Skipped]);
    let mut totals = Totals::new();
    outlooks.iter().for_each(|outlook| totals.add(outlook, None));
    assert_eq!(
        (
            totals.hits,
            totals.failed,
            totals.skipped,
            totals.calls,
            totals.cost
        ),
        (1, 1, 1, 0, Some(Money::ZERO))
    );
}

#[test]
fn reasons_are_counted_by_their_words() {
    let reasons = [
        Reason::New,
        Reason::Refreshed,
        Reason::Damaged("checksum does not match".to_owned()),
        Reason::Damaged("it is no answer".to_owned()),
        Reason::Rejected(Rejection::Refused),
        Reason::TooLong {
            output: 700,
            limit: Some(500),
        },
        Reason::TooLong {
            output: 600,
            limit: Some(500),
        },
        Reason::CutOff {
            cut: cut(),
            limit: Some(200),
        },
        Reason::CutOff {
            cut: cut(),
            limit: None,
        },
    ];
    let mut totals = Totals::new();
    for reason in reasons {
        totals.add(&Outlook::Call(Estimate::default(), reason), None);
    }
    let told = totals
        .reasons
        .iter()
        .map(|(reason, calls)| format!("{calls} {reason}"));
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @r"
    1 asked for by `--refresh`
    1 cut off at 100 tokens; the limit is now 200
    1 cut off at 100 tokens; there is no limit now
    2 damaged records
    1 new
    1 rejected last time: the model refused
    2 stored answers longer than the limit; the limit is now 500
    ");
}
