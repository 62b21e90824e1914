use super::*;
use crate::call::{Delivery, Message, Money, Price, Rejection, Role};
use crate::graph::tests::graph;
use crate::tokenizer::Encoding;
use std::cell::Cell;
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
        let look = |_: usize, key: &Key, bounds: &Delivery| {
            assert_eq!(bounds.max_output_tokens, Some(100));
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

/// Examines a persona of the pipeline `a, b, c: a b, d: c` whose result is `d`. `answered`: nodes that are
/// known to be; `edited`: those that have no answer. Returns the outlooks and what was looked up.
fn examine(answered: &str, edited: &str) -> (Vec<Outlook>, Vec<usize>) {
    let graph = graph(&["a", "b", "c: a b", "d: c"]);
    let names = ["a", "b", "c", "d"];
    let mut looked = Vec::new();
    let text = |node: usize, needs: &[(&NodeId, &str)]| {
        let needs: Vec<&str> = needs.iter().map(|(_, text)| *text).collect();
        Ok::<_, ()>(request(&format!("{node} {}", needs.join("+")), Some(100)))
    };
    let look = |node: usize, _: &Key, _: &Delivery| {
        looked.push(node);
        Ok(match edited.contains(names[node]) {
            true => Found::Missing(Reason::New),
            false => Found::Stored(Stored {
                text: names[node].to_uppercase(),
                usage: usage(5, 10),
                latency: Duration::from_secs(2),
            }),
        })
    };
    let known = names.map(|name| answered.contains(name)).to_vec();
    let examined = Examined::new(&graph, PrefixOrder::default(), known, text, look).unwrap();
    let mut planner = Planner::new(&graph).within([Some(100); 4].into_iter());
    (planner.take(examined), looked)
}

#[test]
fn what_is_known_to_be_answered_is_looked_at_where_its_text_is_wanted() {
    let told = |outlooks: &[Outlook]| -> String {
        let letter = |outlook: &Outlook| match outlook {
            Outlook::Hit => 'h',
            Outlook::Call(..) => 'c',
            Outlook::Depends(_) => 'd',
            other => panic!("{other:?}"),
        };
        outlooks.iter().map(letter).collect()
    };
    let both = |answered, edited| {
        let (outlooks, looked) = examine(answered, edited);
        let (whole, _) = examine("", edited);
        assert_eq!(told(&outlooks), told(&whole), "{answered}: as by looking at all");
        (told(&outlooks), looked)
    };
    let edited = |answered, edited, what: &str, looked: &[usize]| {
        assert_eq!(
            both(answered, edited),
            (what.to_owned(), looked.to_vec()),
            "{answered}"
        );
    };
    // The prompt of `b` was edited: nobody wants the text of `a` before `b` is called.
    edited("a", "bcd", "hcdd", &[1]);
    // It was edited, and that text is there already: `c` is asked with it, and so with that of `a`.
    edited("a", "cd", "hhcd", &[1, 0, 2]);
    // The prompt of `c` was edited.
    edited("ab", "cd", "hhcd", &[0, 1, 2]);
    edited("abc", "d", "hhhc", &[0, 1, 2, 3]);
    // The text of the result is wanted for the transcript.
    edited("abcd", "", "hhhh", &[1, 0, 2, 3]);
}

/// Each node of a chain is wanted by the next one, and that of the end was edited.
#[test]
fn a_chain_of_very_many_nodes_is_looked_at_once_each_and_not_by_recursion() {
    const NODES: usize = 3_000;
    let name = |node: usize| format!("n{node}");
    // The last one stands first in the file.
    let line = |node: usize| match node {
        0 => name(0),
        _ => format!("{}: {}", name(node), name(node - 1)),
    };
    let mut lines: Vec<String> = (0..NODES).rev().map(line).collect();
    lines.push(format!("end: {} {}", name(NODES - 1), name(NODES - 2)));
    let graph = graph(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let mut known = vec![true; graph.len()];
    known[graph.result()] = false;
    let mut looked = vec![0; graph.len()];
    let text = |node: usize, _: &[(&NodeId, &str)]| Ok::<_, ()>(request(&node.to_string(), None));
    let look = |node: usize, _: &Key, _: &Delivery| {
        looked[node] += 1;
        Ok(Found::Stored(Stored {
            text: String::new(),
            usage: usage(1, 1),
            latency: Duration::ZERO,
        }))
    };
    let examined = Examined::new(&graph, PrefixOrder::default(), known, text, look).unwrap();
    assert_eq!(looked, vec![1; NODES + 1]);
    assert!(
        Planner::new(&graph)
            .take(examined)
            .iter()
            .all(|outlook| *outlook == Outlook::Hit)
    );
}

#[test]
fn what_waits_for_one_is_as_long_as_the_answers_of_the_others_are() {
    let (outlooks, _) = examine("a", "bcd");
    let Outlook::Depends(estimate) = outlooks[2] else {
        panic!("{outlooks:?}");
    };
    // The prompt without them, and each half of its limit, as long as nothing is known of either.
    assert_eq!(estimate.input, 2 + 50 + 50);
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
fn output_is_what_the_same_node_produced_before_else_as_much_of_the_limit() {
    let store = HashMap::from([("p 0 ".to_owned(), "A")]);
    let outlooks = plan(&["p", "q"], &store);
    let output = |outlook: &Outlook| match outlook {
        Outlook::Call(estimate, _) | Outlook::Depends(estimate) => estimate.output,
        other => panic!("{other:?}"),
    };
    assert_eq!(output(&outlooks[1][0]), 10);
    assert_eq!(output(&outlooks[1][1]), 10, "a tenth of its limit too");
}

/// What the calls of some personas come to, by a price of one dollar a million tokens of input and
/// two of output.
fn forecast(planner: &mut Planner<'_>, personas: &[&str], store: &HashMap<String, &str>) -> Forecast {
    plan_with(planner, personas, store);
    let price = Price::per_million(1.0, Some(0.0), None, 2.0);
    planner.forecast(&[Some(price.into()); 3])
}

#[test]
fn without_history_everything_may_be_as_long_as_its_limit() {
    let graph = graph(&["a", "b", "c: a b"]);
    let forecast = forecast(&mut Planner::new(&graph), &["p", "q"], &HashMap::new());
    // `p 0 ` is a token, `p 2 …+…` two, and each answer that it lacks half of a hundred.
    assert_eq!(forecast.input.likely, 2.0 * (1.0 + 1.0 + 2.0 + 100.0));
    let output = forecast.output;
    assert_eq!((output.low, output.likely, output.high), (0.0, 300.0, 600.0));
    assert_eq!(forecast.most_output, Some(600));
    assert_eq!(forecast.cost.unwrap().likely, Money::from_usd(808e-6));
    assert_eq!(forecast.basis.unknown, [0, 1, 2]);
    assert_eq!(forecast.basis.input[0], (0, Counts::Characters, 2));
}

/// A bad answer is asked for again twice: of `a` and `b` each answer may be bad, and of `c` too.
#[test]
fn each_answer_may_be_paid_as_often_as_a_bad_one_is_asked_for() {
    let graph = graph(&["a", "b", "c: a b"]);
    let once = forecast(&mut Planner::new(&graph), &["p"], &HashMap::new());
    let again = forecast(&mut Planner::new(&graph).asking_again(2), &["p"], &HashMap::new());
    assert_eq!((once.again.high, again.again.high), (0.0, 6.0));
    assert_eq!(again.again.likely, 0.0);
    assert_eq!(again.cost.unwrap().likely, once.cost.unwrap().likely);
    assert_eq!(again.output.high, 3.0 * once.output.high);
    assert_eq!(again.input.high, 3.0 * once.input.high);
    assert_eq!(again.most_output, Some(900));
    let usd = |money: Option<Money>| money.unwrap().usd();
    assert!((usd(again.most_cost) / usd(once.most_cost) - 3.0).abs() < 0.01);
    assert_eq!(again.once_cost, once.most_cost);
    assert_eq!(again.most_cost, again.cost.unwrap().high);
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
        10.0 + 10.0 + 2.0 * 10.0,
        "nothing is known of `c`: a tenth of its limit, as of the others"
    );
    assert!(output.high > 220.0, "or all of it");
    assert_eq!(forecast.basis.unknown, [2]);
    assert_eq!(forecast.basis.answers, 2);
    // The server counted 5 tokens where we count one.
    assert_eq!(forecast.basis.input[2], (2, Counts::Server, 2));
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
        let look = |node: usize, _: &Key, _: &Delivery| match node {
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

/// A planner of the pipeline `a, b, c: a b` that counts the texts of `a` and `b`, and how often it
/// did: a token for each character.
fn counting<'a>(graph: &'a Graph, history: History, texts: &'a Cell<u64>) -> Planner<'a> {
    let by_node = vec![Some(Encoding::O200k), Some(Encoding::Cl100k), None];
    let count = |_: Encoding, text: &str| {
        texts.set(texts.get() + 1);
        text.chars().count() as u64
    };
    Planner::with_history(graph, history).counting(Tokenizers::new(by_node, count))
}

#[test]
fn no_more_requests_are_counted_than_a_sample_however_many_there_are() {
    let graph = graph(&["a", "b", "c: a b"]);
    for personas in [1, 31, 32, 33, 63, 64, 65, 1_000, 10_000] {
        let texts = Cell::new(0);
        let mut planner = counting(&graph, History::new(3), &texts);
        let names: Vec<String> = (0..personas).map(|i| format!("persona {i:06}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        plan_with(&mut planner, &names, &HashMap::new());
        assert_eq!(texts.get(), 2, "the first of each node");
        planner.count();
        let counted = personas.min(32);
        assert_eq!(texts.get(), 2 * counted);
        let forecast = planner.forecast(&[None; 3]);
        let basis = Counts::Tokenizer {
            encoding: Encoding::O200k,
            requests: counted,
        };
        assert_eq!(forecast.basis.input[0], (0, basis, personas));
        assert_eq!(forecast.basis.input[2].1, Counts::Characters);
        // Each is as long as any other: 17 characters, and what a chat has beside them.
        let a = planner.calls()[0].input;
        assert!((a - (17.0 + 7.0)).abs() < 1e-9, "{a}");
        planner.count();
        assert_eq!(texts.get(), 2 * counted, "once");
    }
}

#[test]
fn nothing_is_counted_where_nothing_is_called_or_a_server_counted() {
    let graph = graph(&["a", "b", "c: a b"]);
    let texts = Cell::new(0);
    let stored = HashMap::from([
        ("p 0 ".to_owned(), "A"),
        ("p 1 ".to_owned(), "B"),
        ("p 2 A+B".to_owned(), "C"),
    ]);
    let mut planner = counting(&graph, History::new(3), &texts);
    plan_with(&mut planner, &["p"], &stored);
    planner.count();
    assert_eq!(texts.get(), 0, "all is there");
    let mut history = History::new(3);
    let answered = Answered {
        usage: usage(10, 50),
        estimated: Some(10),
        latency: Duration::from_secs(1),
    };
    history.past(0, &answered, true);
    let mut planner = counting(&graph, history, &texts);
    plan_with(&mut planner, &["q"], &HashMap::new());
    planner.count();
    assert_eq!(texts.get(), 0, "the server counted for this model");
}

/// What stands in the profiles of people, in three languages.
const PROFILES: [(&str, [&str; 6]); 3] = [
    (
        "English",
        [
            "She grew up by the harbour and still wakes before the tide turns.",
            "At fifty-two he left the insurance company, without telling anybody why.",
            "Her two brothers write once a year; the letters lie unopened in a drawer.",
            "He is patient with children, impatient with officials, and fond of plums.",
            "What she fears most is not being ill but being a burden to somebody.",
            "On Thursdays they play cards, and nobody mentions the house that was sold.",
        ],
    ),
    (
        "German",
        [
            "Sie wuchs am Hafen auf und wacht noch heute auf, bevor die Flut kommt.",
            "Mit zweiundfünfzig verließ er die Versicherungsgesellschaft, ohne Gründe zu nennen.",
            "Ihre beiden Brüder schreiben einmal im Jahr; die Briefe liegen ungeöffnet in der Schublade.",
            "Er ist geduldig mit Kindern, ungeduldig mit Behörden und liebt Zwetschgenkuchen.",
            "Am meisten fürchtet sie nicht die Krankheit, sondern jemandem zur Last zu fallen.",
            "Donnerstags spielen sie Karten, und niemand erwähnt das Haus, das verkauft wurde.",
        ],
    ),
    (
        "Chinese",
        [
            "她在港口边长大,至今仍在涨潮之前醒来。",
            "五十二岁那年,他离开了保险公司,没有告诉任何人原因。",
            "她的两个兄弟每年写一封信,信件一直没有拆开,放在抽屉里。",
            "他对孩子很有耐心,对官员却没有耐心,而且喜欢吃李子。",
            "她最害怕的不是生病,而是成为别人的负担。",
            "每到星期四他们就打牌,谁也不提那座已经卖掉的房子。",
        ],
    ),
];

/// The first plan of a project, beside what OpenAI's tokenizer counts in all of its requests.
#[test]
fn a_first_plan_foresees_the_input_in_every_language() {
    let graph = graph(&["a"]);
    for (language, sentences) in PROFILES {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut profile =
            |lines: usize| -> String { (0..lines).map(|_| sentences[rng.usize(0..6)]).collect() };
        // From a few lines to some pages: a request in fifty has more characters than are kept.
        let profiles: Vec<String> = (0..200)
            .map(|i| profile(if i % 50 == 7 { 1_200 } else { 5 + i % 40 }))
            .collect();
        let vocabulary = tiktoken_rs::o200k_base_singleton();
        let exact: u64 = profiles
            .iter()
            // OpenAI's cookbook: three a message and the role, three for the answer.
            .map(|text| vocabulary.count_ordinary(text) as u64 + 3 + 1 + 3)
            .sum();
        let middle = |planner: &mut Planner<'_>| {
            for profile in &profiles {
                planner
                    .persona(
                        |_, _| Ok::<_, ()>(request(profile, Some(100))),
                        |_, _, _| Ok(Found::Missing(Reason::New)),
                    )
                    .unwrap();
            }
            planner.count();
            planner.forecast(&[None]).input
        };
        let tokenizers = Tokenizers::new(vec![Some(Encoding::O200k)], Encoding::count);
        let counted = middle(&mut Planner::new(&graph).counting(tokenizers));
        let exact = exact as f64;
        assert!(
            (counted.likely / exact - 1.0).abs() < 0.05,
            "{language}: {} for {exact}",
            counted.likely
        );
        assert!(
            (counted.low..=counted.high).contains(&exact),
            "{language}: {exact} is not in {counted:?}"
        );
        let by_characters = middle(&mut Planner::new(&graph)).likely;
        let off = (by_characters / exact - 1.0).abs();
        assert!(off > 0.05, "{language}: characters alone are {off} off");
    }
}
