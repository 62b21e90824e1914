use proptest::prelude::*;

use super::*;
use crate::call::{Fault, FaultKind, Rejection};
use crate::names::{Instance, NodeId};

fn started(personas: usize, nodes: usize) -> Event {
    Event::RunStarted(Box::new(RunStarted {
        run: RunId::from("20261123-223015-4f2a"),
        personas,
        longest_persona: 2,
        nodes: (0..nodes).map(|node| NodeId::from(format!("n{node}"))).collect(),
        models: (0..nodes).map(|node| format!("m{}", node % 2).into()).collect(),
        concurrency: Some(4),
        requests_per_minute: None,
        tokens_per_minute: None,
        budget: None,
        until: None,
        provider: "simulator".into(),
        simulated: true,
    }))
}

fn usage(input: u64, output: u64) -> Usage {
    Usage {
        input,
        output,
        cached_input: Some(input / 2),
        reasoning: Some(output / 2),
        ..Usage::default()
    }
}

fn call_ended(instance: &Instance, attempt: u32, outcome: CallOutcome) -> Event {
    let latency = Duration::from_secs(1);
    Event::CallEnded {
        instance: instance.clone(),
        attempt,
        asked: Asked {
            output_limit: None,
            input: Some(100),
            most: Some(Money::from_usd(0.01)),
            ..Asked::default()
        },
        latency,
        outcome,
    }
}

fn node_finished(instance: &Instance, status: NodeStatus, error: Option<Failure>) -> Event {
    Event::NodeFinished(Box::new(NodeFinished {
        instance: instance.clone(),
        status,
        attempts: 0,
        tokens: Usage::default(),
        cost: Some(Money::ZERO),
        saved: Some(Money::from_usd(0.5)),
        error,
    }))
}

fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Tally {
    let mut tally = Tally::default();
    for (second, event) in events.into_iter().enumerate() {
        let at = Duration::from_secs(second as u64);
        tally.apply(&Stamped {
            at,
            event: event.clone(),
        });
    }
    tally
}

fn ok(cost: Option<f64>) -> CallOutcome {
    let cost = cost.map(Money::from_usd);
    CallOutcome::Ok {
        usage: usage(100, 50),
        cost,
        saved: cost,
        hours: None,
    }
}

fn failure(kind: &'static str, http_status: Option<u16>) -> Failure {
    Failure {
        kind,
        message: format!("said {kind}"),
        http_status,
    }
}

fn persona_finished(persona: &str, status: PersonaStatus, error: Option<Failure>) -> Event {
    Event::PersonaFinished {
        persona: persona.into(),
        status,
        error,
        path: None,
    }
}

#[test]
fn a_timeout_is_abandoned_and_other_faults_are_faulted() {
    let instance = Instance::new("p", "n0");
    let start = Event::CallStarted {
        instance: instance.clone(),
        attempt: 1,
    };
    let fault = |kind| call_ended(&instance, 1, CallOutcome::Faulted(Fault::new(kind, "x")));
    let tally = fold(&[
        started(1, 1),
        start.clone(),
        fault(FaultKind::Timeout),
        start.clone(),
        fault(FaultKind::Connection),
        start,
        call_ended(&instance, 3, CallOutcome::Abandoned),
    ]);
    let expected = CallCounts {
        sent: 3,
        faulted: 1,
        abandoned: 2,
        ..CallCounts::default()
    };
    assert_eq!(tally.calls, expected);
}

/// A job past its timeout is one call that takes long, and no fault of the model: plans and rehearsals
/// rest on that.
#[test]
fn a_job_that_lives_on_is_booked_once_with_all_its_time() {
    let instance = Instance::new("tom", "n0");
    let began = |attempt| Event::CallStarted {
        instance: instance.clone(),
        attempt,
    };
    let ended = |attempt, asked, seconds, outcome| Event::CallEnded {
        instance: instance.clone(),
        attempt,
        asked,
        latency: Duration::from_secs(seconds),
        outcome,
    };
    let late = |kind| CallOutcome::Faulted(Fault::new(kind, "not yet"));
    let lives = Asked {
        lives: true,
        ..Asked::default()
    };
    let fetches = |waited: Option<u64>| Asked {
        fetches: true,
        waited: waited.map(Duration::from_secs),
        ..Asked::default()
    };
    let events = [
        started(1, 1),
        began(1),
        ended(1, lives, 600, late(FaultKind::Unfinished)),
        began(2),
        ended(
            2,
            Asked {
                lives: true,
                ..fetches(Some(600))
            },
            30,
            late(FaultKind::BadResponse),
        ),
        began(3),
        ended(3, fetches(Some(630)), 90, ok(Some(0.1))),
    ];
    let tally = fold(&events);
    assert_eq!(
        (tally.calls.sent, tally.calls.fetched, tally.calls.faulted),
        (3, 2, 2)
    );
    let account = &tally.account;
    assert_eq!(account.calls(), [("m0", 1, vec![])]);
    assert_eq!(account.nodes[0].latency_ms.mean(), Some(720_000.0));
    assert_eq!(account.possibly_billed.calls, 0);
    // What an earlier run began was there who knows when: nothing is learned of its time.
    let tally = fold(&[started(1, 1), began(1), ended(1, fetches(None), 1, ok(Some(0.1)))]);
    let node = &tally.account.nodes[0];
    assert_eq!((node.answers, node.output.n, node.latency_ms.n), (1, 1, 0));
    // And one that ended without an answer is a fault like any other.
    let tally = fold(&[
        started(1, 1),
        began(1),
        ended(1, fetches(Some(9)), 1, late(FaultKind::BadResponse)),
    ]);
    let (_, calls, faults) = &tally.account.calls()[0];
    assert_eq!((*calls, faults[0].may_be_billed), (1, 1));
}

#[test]
fn cost_and_savings_are_unknown_once_a_paid_call_had_no_price() {
    let instance = Instance::new("p", "n0");
    let finished = Event::RunFinished {
        outcome: Outcome::Complete,
        cause: None,
    };
    let priced = call_ended(&instance, 1, ok(Some(0.25)));
    let unpriced = call_ended(&instance, 1, ok(None));

    let known = fold(&[started(1, 1), priced.clone(), priced.clone(), finished.clone()]);
    let summary = known.summary().unwrap();
    assert_eq!(summary.cost_usd, Some(0.5));
    assert_eq!(
        summary.saved_usd,
        Some(Saved {
            provider_cache: 0.5,
            septet_cache: 0.0
        })
    );

    let unknown = fold(&[started(1, 1), priced.clone(), unpriced, priced, finished]);
    let summary = unknown.summary().unwrap();
    assert_eq!((summary.cost_usd, summary.saved_usd), (None, None));
    assert_eq!(summary.tokens.input, 300, "tokens are counted all the same");
}

#[test]
fn an_unknown_price_of_a_served_answer_leaves_the_cost_known() {
    let mut cached = node_finished(&Instance::new("p", "n0"), NodeStatus::Cached, None);
    if let Event::NodeFinished(node) = &mut cached {
        node.saved = None;
    }
    let finished = Event::RunFinished {
        outcome: Outcome::Complete,
        cause: None,
    };
    let summary = fold(&[started(1, 1), cached, finished]).summary().unwrap();
    assert_eq!((summary.cost_usd, summary.saved_usd), (Some(0.0), None));
}

#[test]
fn exit_codes_follow_the_outcome() {
    let code = |outcome| fold(&[Event::RunFinished { outcome, cause: None }]).exit_code();
    assert_eq!(Tally::default().exit_code(), None);
    assert_eq!(code(Outcome::Complete), Some(0));
    assert_eq!(code(Outcome::Partial), Some(1));
    assert_eq!(code(Outcome::Fatal), Some(3));
    assert_eq!(code(Outcome::Interrupted), Some(130));
    // 130 before 3 before 1: the order of the enum is the order in which one replaces another.
    assert!(Outcome::Interrupted > Outcome::Fatal && Outcome::Fatal > Outcome::Partial);
}

#[test]
fn failures_are_grouped_by_cause_with_the_first_as_example() {
    let limited = failure("rate_limited", Some(429));
    let unreadable = failure("persona", None);
    let fails = |persona: &str, failure: &Failure| {
        let node = Instance::new(persona, "n0");
        [
            node_finished(&node, NodeStatus::Failed, Some(failure.clone())),
            persona_finished(persona, PersonaStatus::Failed, Some(failure.clone())),
        ]
    };
    let mut events = vec![started(4, 1)];
    events.extend(fails("p1", &limited));
    events.extend(fails("p2", &limited));
    events.push(persona_finished("p3", PersonaStatus::Failed, Some(unreadable)));
    let tally = fold(&events);
    let groups: Vec<_> = tally
        .failures
        .values()
        .map(|g| (g.nodes, g.personas, g.example.place()))
        .collect();
    assert_eq!(groups, [(0, 1, "p3".to_owned()), (2, 2, "p1/n0".to_owned())]);
}

/// Two nodes of one persona that were cut off before, one of another that was paid for now, and a
/// node with another cause beside it.
#[test]
fn failures_count_nodes_and_personas_and_show_one_that_was_paid() {
    let fails = |persona: &str, node: &str, kind: &'static str, output: u64| {
        let instance = Instance::new(persona, node);
        let Event::NodeFinished(mut finished) =
            node_finished(&instance, NodeStatus::Failed, Some(failure(kind, None)))
        else {
            unreachable!()
        };
        finished.tokens.output = output;
        Event::NodeFinished(finished)
    };
    let tally = fold(&[
        started(2, 3),
        fails("p", "n0", "truncated", 0),
        fails("p", "n1", "truncated", 0),
        persona_finished("p", PersonaStatus::Failed, Some(failure("truncated", None))),
        fails("q", "n0", "truncated", 900),
        fails("q", "n1", "filtered", 900),
        persona_finished("q", PersonaStatus::Failed, None),
    ]);
    let told: Vec<String> = tally
        .failures()
        .iter()
        .map(|group| format!("{} {}{}", group.nodes, group.kind, group.words()))
        .collect();
    assert_eq!(
        told,
        ["3 truncated in 2 personas: such as q/n0", "1 filtered: q/n1"]
    );
    assert_eq!(tally.summary(), None, "it goes on");
}

#[test]
fn nothing_is_held_of_a_persona_that_has_ended() {
    let node = Instance::new("p", "n0");
    let tally = fold(&[
        started(1, 1),
        Event::CallStarted {
            instance: node.clone(),
            attempt: 1,
        },
        persona_finished("p", PersonaStatus::Failed, None),
        call_ended(&node, 1, CallOutcome::Abandoned), // late
    ]);
    assert!(tally.open.is_empty());
    assert_eq!(tally.last_persona.unwrap().took, Duration::from_secs(1));
}

#[test]
fn the_summary_has_the_fields_of_the_contract_in_its_order() {
    let finished = Event::RunFinished {
        outcome: Outcome::Partial,
        cause: None,
    };
    let tally = fold(&[
        started(2, 8),
        persona_finished("p", PersonaStatus::Kept, None),
        finished,
    ]);
    insta::assert_snapshot!(serde_json::to_string(&tally.summary()).unwrap(), @r#"{"event":"run_finished","run":"20261123-223015-4f2a","outcome":"partial","personas":{"total":2,"written":0,"unchanged":0,"kept":1,"failed":0,"pending":1},"nodes":{"total":16,"called":0,"cached":0,"failed":0,"skipped":0,"pending":16},"calls":{"sent":0,"ok":0,"rejected":0,"faulted":0,"abandoned":0},"tokens":{"input":0,"output":0,"reasoning":0,"cached_input":0,"cache_write":0,"total":0},"cost_usd":0.0,"saved_usd":{"provider_cache":0.0,"septet_cache":0.0},"elapsed_s":2.0,"prompt_cache":{"read_share":null,"write_share":null},"failures":[]}"#);
}

#[test]
fn the_summary_reads_what_it_wrote() {
    let finished = Event::RunFinished {
        outcome: Outcome::Fatal,
        cause: None,
    };
    let summary = fold(&[started(2, 8), finished]).summary().unwrap();
    let text = serde_json::to_string(&summary).unwrap();
    assert_eq!(serde_json::from_str::<RunSummary>(&text).unwrap(), summary);
}

/// How one node goes: the calls that come first and how it ends.
type Script = (Vec<CallOutcome>, NodeStatus);

fn outcome() -> impl Strategy<Value = CallOutcome> {
    let cost = prop_oneof![9 => (0u32..1000).prop_map(|c| Some(f64::from(c) / 1e4)), 1 => Just(None)];
    let paid = (0u64..9999, 0u64..999, cost).prop_map(|(input, output, cost)| {
        let cost = cost.map(Money::from_usd);
        (usage(input, output), cost, cost.map(|cost| Money::ZERO - cost))
    });
    let paid_and_bad = paid.clone();
    prop_oneof![
        paid.prop_map(|(usage, cost, saved)| CallOutcome::Ok {
            usage,
            cost,
            saved,
            hours: None,
        }),
        paid_and_bad.prop_map(|(usage, cost, saved)| CallOutcome::Rejected {
            rejection: Rejection::Empty,
            usage,
            cost,
            saved,
            hours: None,
        }),
        Just(CallOutcome::Faulted(Fault::new(FaultKind::Timeout, "too slow"))),
        Just(CallOutcome::Faulted(Fault::new(
            FaultKind::RateLimited,
            "too fast"
        ))),
        Just(CallOutcome::Abandoned),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    let status = prop_oneof![
        Just(NodeStatus::Called),
        Just(NodeStatus::Cached),
        Just(NodeStatus::Failed),
        Just(NodeStatus::Skipped)
    ];
    (prop::collection::vec(outcome(), 0..4), status)
}

/// The events of one node of one persona, in their order.
fn events_of(persona: usize, node: usize, (calls, status): Script) -> Vec<Event> {
    let instance = Instance::new(format!("p{persona}"), format!("n{node}"));
    let mut events = Vec::new();
    for (attempt, outcome) in (1..).zip(calls) {
        events.push(Event::CallStarted {
            instance: instance.clone(),
            attempt,
        });
        events.push(call_ended(&instance, attempt, outcome));
    }
    let error = (status == NodeStatus::Failed).then(|| failure("timeout", None));
    events.push(node_finished(&instance, status, error));
    events
}

fn persona_status(number: usize) -> PersonaStatus {
    [
        PersonaStatus::Written,
        PersonaStatus::Unchanged,
        PersonaStatus::Kept,
        PersonaStatus::Failed,
    ][number % 4]
}

/// Runs: the nodes of all personas, interleaved anyhow, and ended at any moment.
fn run() -> impl Strategy<Value = Vec<Event>> {
    (1usize..6, 1usize..4).prop_flat_map(|(personas, nodes)| {
        let scripts = prop::collection::vec(script(), personas * nodes);
        let order = prop::collection::vec(any::<prop::sample::Index>(), 0..200);
        (scripts, order).prop_map(move |(scripts, order)| interleave(nodes, personas, scripts, &order))
    })
}

fn interleave(
    nodes: usize,
    personas: usize,
    scripts: Vec<Script>,
    order: &[prop::sample::Index],
) -> Vec<Event> {
    let mut queues: Vec<_> = scripts
        .into_iter()
        .enumerate()
        .map(|(i, script)| (i / nodes, events_of(i / nodes, i % nodes, script).into_iter()))
        .collect();
    let mut events = vec![started(personas, nodes)];
    for index in order {
        if queues.is_empty() {
            break;
        }
        let chosen = index.index(queues.len());
        let persona = queues[chosen].0;
        match queues[chosen].1.next() {
            Some(event) => events.push(event),
            None => {
                queues.swap_remove(chosen);
                if queues.iter().all(|(other, _)| *other != persona) {
                    events.push(persona_finished(
                        &format!("p{persona}"),
                        persona_status(persona),
                        None,
                    ));
                }
            }
        }
    }
    let outcome = if queues.is_empty() {
        Outcome::Complete
    } else {
        Outcome::Interrupted
    };
    events.push(Event::RunFinished { outcome, cause: None });
    events
}

fn count(events: &[Event], matches: impl Fn(&Event) -> bool) -> u64 {
    events.iter().filter(|event| matches(event)).count() as u64
}

proptest! {
    #[test]
    fn sums_agree_after_every_event(events in run()) {
        for length in 1..=events.len() {
            let tally = fold(&events[..length]);
            let Tally { personas: p, nodes: n, calls: c, tokens: t, .. } = &tally;
            prop_assert_eq!(p.total, p.written + p.unchanged + p.kept + p.failed + p.pending);
            prop_assert_eq!(n.total, n.called + n.cached + n.failed + n.skipped + n.pending);
            prop_assert_eq!(c.sent, c.ok + c.rejected + c.faulted + c.abandoned);
            prop_assert_eq!(t.total, t.input + t.output);
            prop_assert!(t.reasoning <= t.output && t.cached_input + t.cache_write <= t.input);
            let begun = count(&events[..length], |e| matches!(e, Event::CallStarted { .. }));
            prop_assert_eq!(c.sent + tally.in_flight, begun);
            let grouped: u64 = tally.failures.values().map(|group| group.nodes).sum();
            prop_assert!(grouped <= n.failed);
            prop_assert!(tally.failures.values().all(|group| group.personas <= p.failed));
        }
    }

    #[test]
    fn the_end_agrees_with_a_plain_count(events in run()) {
        let tally = fold(&events);
        let ended = |status| count(&events, |e| matches!(e, Event::NodeFinished(n) if n.status == status));
        prop_assert_eq!(tally.nodes.called, ended(NodeStatus::Called));
        prop_assert_eq!(tally.nodes.cached, ended(NodeStatus::Cached));
        prop_assert_eq!(tally.nodes.failed, ended(NodeStatus::Failed));
        prop_assert_eq!(tally.nodes.skipped, ended(NodeStatus::Skipped));
        prop_assert_eq!(tally.in_flight, 0);
        let paid: Vec<_> = events.iter().filter_map(|event| match event {
            Event::CallEnded {
                outcome: CallOutcome::Ok { usage, cost, .. } | CallOutcome::Rejected { usage, cost, .. }, ..
            } => Some((usage.input, *cost)),
            _ => None,
        }).collect();
        prop_assert_eq!(tally.calls.ok + tally.calls.rejected, paid.len() as u64);
        prop_assert_eq!(tally.tokens.input, paid.iter().map(|(input, _)| input).sum::<u64>());
        let models = &tally.account.models;
        prop_assert_eq!(models.iter().map(|model| model.answers).sum::<u64>(), paid.len() as u64);
        prop_assert_eq!(models.iter().map(|model| model.tokens.input).sum::<u64>(), tally.tokens.input);
        prop_assert_eq!(models.iter().map(|model| model.cost).sum::<Option<Money>>(), tally.cost);
        let nodes = &tally.account.nodes;
        prop_assert_eq!(nodes.iter().map(|node| node.answers).sum::<u64>(), tally.calls.ok);
        prop_assert_eq!(nodes.iter().map(|node| node.rejected).sum::<u64>(), tally.calls.rejected);
        prop_assert!(tally.account.possibly_billed.calls >= tally.calls.abandoned);
        // A sum of options is `None` as soon as one of them is.
        prop_assert_eq!(tally.cost, paid.iter().map(|(_, cost)| *cost).sum::<Option<Money>>());
        if tally.outcome == Some(Outcome::Complete) {
            prop_assert_eq!((tally.personas.pending, tally.nodes.pending), (0, 0));
            prop_assert!(tally.open.is_empty());
        }
    }

    #[test]
    fn personas_add_up_to_the_run(events in run()) {
        // Where every persona ended, their figures together are those of the run.
        let mut tally = Tally::default();
        let (mut calls, mut tokens) = (0, 0);
        for event in &events {
            tally.apply(&Stamped { at: Duration::ZERO, event: event.clone() });
            if let (Event::PersonaFinished { .. }, Some(figures)) = (event, &tally.last_persona) {
                calls += u64::from(figures.calls);
                tokens += figures.tokens.total;
            }
        }
        prop_assert!(calls <= tally.calls.sent && tokens <= tally.tokens.total);
        if tally.outcome == Some(Outcome::Complete) {
            prop_assert_eq!((calls, tokens), (tally.calls.sent, tally.tokens.total));
        }
    }
}
