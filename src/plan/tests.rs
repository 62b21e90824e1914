use super::*;
use crate::call::{Delivery, Message, Money, Price, Rejection, Role};
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

fn usage(input: u64, output: u64) -> Usage {
    Usage {
        input,
        output,
        ..Usage::default()
    }
}

/// Plans personas of the pipeline `a, b, c: a b`; `store` answers by the text of the request.
fn plan(personas: &[&str], store: &HashMap<String, &str>) -> Vec<Vec<Outlook>> {
    let graph = graph(&["a", "b", "c: a b"]);
    plan_with(&mut Planner::new(&graph), personas, store)
}

fn plan_with(
    planner: &mut Planner<'_>,
    personas: &[&str],
    store: &HashMap<String, &str>,
) -> Vec<Vec<Outlook>> {
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
                    usage: usage(5, 10),
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

/// What the calls of some personas come to, by a price of one dollar a million tokens of input and
/// two of output.
fn forecast(planner: &mut Planner<'_>, personas: &[&str], store: &HashMap<String, &str>) -> Forecast {
    plan_with(planner, personas, store);
    let price = Price::per_million(1.0, Some(0.0), None, 2.0);
    planner.forecast(&[Some(price.into()); 3])
}

#[test]
fn without_history_everything_is_as_long_as_its_limit() {
    let graph = graph(&["a", "b", "c: a b"]);
    let forecast = forecast(&mut Planner::new(&graph), &["p", "q"], &HashMap::new());
    // `p 0 ` is a token, `p 2 …+…` two, and each answer that it lacks a hundred.
    assert_eq!(forecast.input.likely, 2.0 * (1.0 + 1.0 + 2.0 + 200.0));
    assert_eq!((forecast.output.likely, forecast.output.low), (600.0, 0.0));
    assert_eq!(forecast.most_output, Some(600));
    assert_eq!(forecast.cost.unwrap().likely, Money::from_usd(1_608e-6));
    assert_eq!(forecast.basis.unknown, [0, 1, 2]);
    assert!(!forecast.basis.counted);
}

#[test]
fn answers_that_come_late_tell_of_calls_that_came_first() {
    let graph = graph(&["a", "b", "c: a b"]);
    let store = HashMap::from([("q 0 ".to_owned(), "A"), ("q 1 ".to_owned(), "B")]);
    let mut planner = Planner::new(&graph);
    let forecast = forecast(&mut planner, &["p", "q"], &store);
    let output = forecast.output;
    assert_eq!(
        output.likely,
        10.0 + 10.0 + 2.0 * 100.0,
        "nothing is known of `c`"
    );
    assert_eq!(forecast.basis.unknown, [2]);
    assert_eq!(forecast.basis.answers, 2);
    // The server counted 5 tokens where we count one.
    assert!(forecast.basis.counted);
    let (rendered, answers) = (5.0 * (1.0 + 1.0 + 2.0 + 2.0), 20.0);
    assert_eq!(forecast.input.likely, rendered + answers);
    // Another time the same, and nothing is learned twice.
    let mut planner = planner.again();
    assert_eq!(
        super::tests::forecast(&mut planner, &["p", "q"], &store),
        forecast
    );
}

#[test]
fn what_depends_may_be_there_only_where_something_was() {
    let graph = graph(&["a", "b", "c: a b"]);
    let mut history = History::new(3);
    let answered = Answered {
        usage: usage(10, 50),
        estimated: Some(10),
        latency: Duration::from_secs(1),
    };
    (0..100).for_each(|i| history.past(i % 2, &answered, true));
    let low = |history: History| {
        let mut planner = Planner::with_history(&graph, history);
        forecast(&mut planner, &["p"], &HashMap::new()).input.low
    };
    let sure = low(history.clone());
    history.past(2, &answered, true);
    let perhaps = low(history);
    assert!(perhaps < 2.0 && sure > 30.0, "{perhaps} and {sure}");
}

#[test]
fn what_was_cut_off_is_longer_than_where_it_was_cut() {
    let graph = graph(&["a", "b", "c: a b"]);
    let output = |reason: Reason| {
        let mut history = History::new(3);
        let answered = Answered {
            usage: usage(10, 50),
            estimated: Some(10),
            latency: Duration::from_secs(1),
        };
        history.past(0, &answered, true);
        let mut planner = Planner::with_history(&graph, history);
        let request = |node: usize, _: &[(&NodeId, &str)]| Ok::<_, ()>(request(&node.to_string(), Some(200)));
        let look = |node: usize, _: &Key, _: Option<u64>| match node {
            0 => Ok(Found::Missing(reason.clone())),
            _ => Ok(Found::CutOff(cut())),
        };
        planner.persona(request, look).unwrap();
        planner.forecast(&[None; 3]).output.likely
    };
    assert_eq!(output(Reason::New), 50.0);
    let cut_off = Reason::CutOff {
        cut: cut(),
        limit: Some(200),
    };
    assert_eq!(output(cut_off), 100.0);
}

#[test]
fn the_providers_cache_is_read_by_as_many_as_share_a_prefix() {
    let graph = graph(&["a", "b", "c: a b"]);
    let mut history = History::new(3);
    let answered = Answered {
        usage: Usage {
            cached_input: Some(5),
            ..usage(10, 50)
        },
        estimated: Some(10),
        latency: Duration::from_secs(1),
    };
    (0..3).for_each(|node| history.past(node, &answered, true));
    let all = forecast(
        &mut Planner::with_history(&graph, history.clone()),
        &["p"],
        &HashMap::new(),
    );
    assert_eq!(all.cached, all.input.likely / 2.0);
    let store = HashMap::from([("p 0 ".to_owned(), "A"), ("p 1 ".to_owned(), "B")]);
    let alone = forecast(&mut Planner::with_history(&graph, history), &["p"], &store);
    assert_eq!(alone.cached, 0.0, "nobody else sends it");
    assert!(alone.input.likely > 0.0);
}

#[test]
fn a_model_without_a_price_makes_the_cost_unknown_and_not_nothing() {
    let graph = graph(&["a", "b", "c: a b"]);
    let mut planner = Planner::new(&graph);
    plan_with(&mut planner, &["p"], &HashMap::new());
    let price = Price::per_million(1.0, None, None, 2.0);
    let forecast = planner.forecast(&[Some(price.into()), None, Some(price.into())]);
    assert_eq!((forecast.cost, forecast.most_cost), (None, None));
    assert_eq!(forecast.most_output, Some(300));
}

#[test]
fn shapes_are_counted_and_nothing_else_is_kept_of_a_persona() {
    let graph = graph(&["a", "b", "c: a b"]);
    let mut planner = Planner::new(&graph);
    let store = HashMap::from([
        ("p 0 ".to_owned(), "A"),
        ("q 0 ".to_owned(), "A"),
        ("r 0 ".to_owned(), "A"),
        ("r 1 ".to_owned(), "B"),
        ("r 2 A+B".to_owned(), "C"),
    ]);
    plan_with(&mut planner, &["p", "q", "r"], &store);
    let shapes: Vec<_> = planner.shapes().collect();
    assert_eq!(shapes, [(&[Part::Nothing, Part::Call, Part::Perhaps][..], 2)]);
}

#[test]
fn what_was_cut_off_at_this_limit_fails_and_what_needs_it_is_skipped() {
    let store = HashMap::from([("p 0 ".to_owned(), "A"), ("p 1 ".to_owned(), CUT_OFF)]);
    let outlooks = plan(&["p"], &store).remove(0);
    assert_eq!(outlooks, [Outlook::Hit, Outlook::CutOff(cut()), Outlook::Skipped]);
    let mut totals = Totals::default();
    let numbered = outlooks.iter().enumerate();
    numbered.for_each(|(node, outlook)| totals.add(node, outlook));
    assert_eq!(
        (totals.hits, totals.failed, totals.skipped, totals.calls),
        (1, 1, 1, 0)
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
    let mut totals = Totals::default();
    for reason in reasons {
        totals.add(0, &Outlook::Call(Estimate::default(), reason));
    }
    let told = totals
        .reasons
        .iter()
        .map(|(reason, calls)| format!("{} {reason}", calls[&0]));
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
