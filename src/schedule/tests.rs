//! The scheduler played against a small world: what it asks is answered at once or later, in any
//! order, with any fault.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::call::{FaultKind, Rejection};
use crate::graph::tests::SEVEN_AND_ONE;
use crate::graph::tests::graph;
use world::{Reply, World, personas, settings};

mod lanes;
mod sharing;
mod world;

#[test]
fn every_node_of_every_persona_is_called_once() {
    let mut world = World::new(SEVEN_AND_ONE, 10, settings(16));
    assert_eq!(world.run(), Outcome::Complete);
    assert_eq!((world.sent.len(), world.count(NodeStatus::Called)), (80, 80));
    assert_eq!(world.most_in_flight, 16);
}

#[test]
fn slots_are_never_idle_before_the_last_wave() {
    // 102 personas at 64 in flight, as the benchmark has them: 816 calls in 13 waves.
    let mut world = World::new(SEVEN_AND_ONE, 102, settings(64));
    world.run();
    let (last, full) = world.waves.split_last().unwrap();
    assert!(full.iter().all(|&wave| wave == 64), "{:?}", world.waves);
    assert_eq!((full.len(), *last), (12, 816 - 12 * 64));
}

#[test]
fn started_personas_are_finished_before_new_ones_start() {
    let mut world = World::new(SEVEN_AND_ONE, 20, settings(4));
    world.run();
    let combine = |p: usize| {
        world
            .sent
            .iter()
            .position(|s| *s == format!("p{p:03}/combine"))
            .unwrap()
    };
    let first = |p: usize| {
        world
            .sent
            .iter()
            .position(|s| s.starts_with(&format!("p{p:03}/")))
            .unwrap()
    };
    for p in 0..14 {
        assert!(
            combine(p) < first(p + 2),
            "persona {p} is finished before persona {} starts",
            p + 2
        );
    }
}

#[test]
fn what_waits_is_not_open() {
    let mut world = World::new(SEVEN_AND_ONE, 5_000, settings(4));
    world.stored = BTreeSet::new();
    world.run();
    assert!(world.most_open <= 16, "{} personas open at once", world.most_open);
}

#[test]
fn a_full_store_calls_nothing() {
    let mut world = World::new(SEVEN_AND_ONE, 50, settings(8));
    world.run();
    let mut again = World::new(SEVEN_AND_ONE, 50, settings(8));
    again.stored = world.stored;
    assert_eq!(again.run(), Outcome::Complete);
    assert_eq!((again.sent.len(), again.count(NodeStatus::Cached)), (0, 400));
}

#[test]
fn equal_requests_are_one_call() {
    let mut world = World::new(SEVEN_AND_ONE, 10, settings(64));
    world.key = Box::new(|persona, node| {
        if node == 0 {
            "the same".into()
        } else {
            format!("{persona}/{node}")
        }
    });
    assert_eq!(world.run(), Outcome::Complete);
    assert_eq!(world.sent.len(), 71);
    assert_eq!(world.count(NodeStatus::Cached), 9);
}

#[test]
fn twins_of_a_failed_request_fail_without_a_call_of_their_own() {
    let mut world = World::new(SEVEN_AND_ONE, 3, settings(64));
    world.key = Box::new(|persona, node| {
        if node == 0 {
            "the same".into()
        } else {
            format!("{persona}/{node}")
        }
    });
    world.answer = Box::new(|_, node, _| match node {
        0 => Reply::Fault(FaultKind::ContextTooLong, None),
        _ => Reply::Good,
    });
    assert_eq!(world.run(), Outcome::Partial);
    assert_eq!(world.sent.iter().filter(|s| s.ends_with("/c1")).count(), 1);
    assert_eq!(
        (world.count(NodeStatus::Failed), world.count(NodeStatus::Skipped)),
        (3, 3)
    );
}

#[test]
fn a_failed_node_takes_its_dependants_and_nothing_else() {
    let mut world = World::new(&["a", "b: a", "c: b", "d: a", "e: d"], 2, settings(4));
    world.answer = Box::new(|persona, node, _| match (persona, node) {
        ("p000", 1) => Reply::Fault(FaultKind::BadRequest, None),
        _ => Reply::Good,
    });
    assert_eq!(world.run(), Outcome::Partial);
    assert_eq!(world.finished["p000/b"], NodeStatus::Failed);
    assert_eq!(world.finished["p000/c"], NodeStatus::Skipped);
    assert_eq!(world.count(NodeStatus::Called), 8);
}

#[test]
fn a_fault_of_the_run_stops_sending_at_once() {
    let mut world = World::new(SEVEN_AND_ONE, 100, settings(4));
    world.answer = Box::new(|_, _, sent| match sent {
        0..=8 => Reply::Good,
        _ => Reply::Fault(FaultKind::NoCredit, None),
    });
    assert_eq!(world.run(), Outcome::Fatal);
    assert!(world.sent.len() <= 12, "{} calls were sent", world.sent.len());
    assert_eq!(
        world.count(NodeStatus::Failed),
        0,
        "what was not done is left, not failed"
    );
}

#[test]
fn fail_fast_ends_at_the_first_failure() {
    let mut world = World::new(
        SEVEN_AND_ONE,
        100,
        Settings {
            fail_fast: true,
            ..settings(4)
        },
    );
    world.answer = Box::new(|_, node, _| match node {
        2 => Reply::Fault(FaultKind::BadRequest, None),
        _ => Reply::Good,
    });
    assert_eq!(world.run(), Outcome::Partial);
    assert!(world.sent.len() <= 8, "{} calls were sent", world.sent.len());
}

#[test]
fn faults_that_pass_are_tried_again_up_to_the_bound() {
    let mut world = World::new(&["a"], 30, settings(4));
    world.answer = Box::new(|persona, _, _| match persona {
        "p000" => Reply::Fault(FaultKind::BadResponse, None),
        _ => Reply::Good,
    });
    assert_eq!(world.run(), Outcome::Partial);
    assert_eq!(world.sent.iter().filter(|s| *s == "p000/a").count(), 6);
}

#[test]
fn bad_answers_have_a_bound_of_their_own() {
    let mut world = World::new(&["a"], 3, settings(4));
    world.answer = Box::new(|persona, _, _| match persona {
        "p000" => Reply::Bad(Rejection::Truncated),
        _ => Reply::Good,
    });
    assert_eq!(world.run(), Outcome::Partial);
    assert_eq!(
        world.sent.iter().filter(|s| *s == "p000/a").count(),
        3,
        "2 thrown away, the next one fails it"
    );
}

#[test]
fn a_run_in_which_everything_fails_alike_ends_early_and_leaves_the_rest() {
    for (reply, calls) in [
        (Reply::Fault(FaultKind::BadRequest, None), 1),
        (Reply::Bad(Rejection::MinChars), 3),
    ] {
        let mut world = World::new(SEVEN_AND_ONE, 10_000, settings(8));
        world.answer = Box::new(move |_, _, _| reply.clone());
        assert_eq!(world.run(), Outcome::Fatal);
        let failed = world.count(NodeStatus::Failed);
        assert!((16..=40).contains(&failed), "{failed}");
        assert!(world.sent.len() <= 60 * calls, "{} calls", world.sent.len());
    }
}

#[test]
fn one_good_answer_or_a_run_that_is_over_fails_its_nodes_only() {
    let mut world = World::new(&["a"], 200, settings(4));
    world.answer = Box::new(|persona, _, _| match persona {
        "p003" => Reply::Good,
        _ => Reply::Fault(FaultKind::BadRequest, None),
    });
    assert_eq!(world.run(), Outcome::Partial);
    assert_eq!(world.count(NodeStatus::Failed), 199);
    let mut world = World::new(&["a"], 16, settings(64));
    world.answer = Box::new(|_, _, _| Reply::Fault(FaultKind::BadRequest, None));
    assert_eq!(world.run(), Outcome::Partial, "nothing was left to stop");
}

#[test]
fn a_rate_limit_uses_up_no_attempt_and_pauses_everybody_once() {
    let mut world = World::new(&["a"], 40, settings(4));
    world.answer = Box::new(|_, _, sent| match sent {
        8 => Reply::Fault(FaultKind::RateLimited, Some(100)),
        _ => Reply::Good,
    });
    assert_eq!(world.run(), Outcome::Complete);
    let pauses: Vec<&String> = world.log.iter().filter(|line| line.contains("Pause")).collect();
    assert_eq!(pauses.len(), 1, "{pauses:?}");
    assert!(
        world.now >= Duration::from_secs(100),
        "an hour would be obeyed as well"
    );
}

#[test]
fn a_rate_limit_of_hours_fails_nobody_once_something_was_answered() {
    let mut world = World::new(&["a"], 8, settings(4));
    world.answer = Box::new(|_, _, sent| match sent {
        5..1_000 => Reply::Fault(FaultKind::RateLimited, None),
        _ => Reply::Good,
    });
    assert_eq!(world.run(), Outcome::Complete);
    assert!(world.now > Duration::from_secs(3600));
}

#[test]
fn nothing_but_rate_limits_ends_a_run_after_an_hour_if_nobody_says_how_long() {
    let mut world = World::new(SEVEN_AND_ONE, 4, settings(4));
    world.answer = Box::new(|_, _, _| Reply::Fault(FaultKind::RateLimited, None));
    assert_eq!(world.run(), Outcome::Fatal);
    let minutes = world.now.as_secs_f64() / 60.0;
    assert!((60.0..62.0).contains(&minutes), "{minutes}");
    assert_eq!(world.count(NodeStatus::Failed), 0, "it is left, not failed");
    let cause = world.end.unwrap().cause.unwrap();
    assert_eq!((cause.kind, cause.http_status), ("rate_limited", None));
    assert_eq!(
        cause.message,
        "nothing but refusals for 60 minutes, and no word how long to wait: broken"
    );
}

#[test]
fn a_server_that_says_how_long_is_obeyed_for_longer_than_an_hour() {
    let mut world = World::new(&["a"], 4, settings(4));
    let mut refused = 0;
    world.answer = Box::new(move |_, _, _| {
        refused += 1;
        match refused {
            1..=4 => Reply::Fault(FaultKind::RateLimited, Some(3 * 3600)),
            5..=20 => Reply::Fault(FaultKind::RateLimited, None),
            _ => Reply::Good,
        }
    });
    assert_eq!(world.run(), Outcome::Complete);
    assert!(world.now >= Duration::from_secs(3 * 3600));
}

#[test]
fn nothing_but_rate_limits_for_a_day_ends_the_run_whatever_it_had_before() {
    let mut world = World::new(&["a"], 40, settings(4));
    world.answer = Box::new(|_, _, sent| match sent {
        0..=8 => Reply::Good,
        _ => Reply::Fault(FaultKind::RateLimited, Some(30)),
    });
    assert_eq!(world.run(), Outcome::Fatal);
    let hours = world.now.as_secs_f64() / 3600.0;
    assert!((24.0..24.1).contains(&hours), "{hours}");
    assert_eq!(world.count(NodeStatus::Failed), 0);
}

#[test]
fn the_last_node_that_failed_while_others_were_answered_is_given_up_after_half_an_hour() {
    let mut world = World::new(SEVEN_AND_ONE, 10, settings(16));
    world.answer = Box::new(|persona, node, _| match (persona, node) {
        ("p005", 3) => Reply::Fault(FaultKind::ServerError, None),
        _ => Reply::Good,
    });
    assert_eq!(world.run(), Outcome::Partial);
    assert_eq!(world.finished["p005/c4"], NodeStatus::Failed);
    assert_eq!(
        (world.count(NodeStatus::Failed), world.count(NodeStatus::Called)),
        (1, 78)
    );
    let minutes = world.now.as_secs_f64() / 60.0;
    assert!((30.0..36.0).contains(&minutes), "{minutes}");
}

#[test]
fn the_last_ones_that_all_failed_while_others_were_answered_are_given_up_together() {
    let mut world = World::new(SEVEN_AND_ONE, 10, settings(16));
    world.answer = Box::new(|persona, node, _| match (persona, node) {
        ("p003" | "p004" | "p005", 3) => Reply::Fault(FaultKind::Connection, None),
        _ => Reply::Good,
    });
    assert_eq!(world.run(), Outcome::Partial);
    assert_eq!(
        (world.count(NodeStatus::Failed), world.count(NodeStatus::Called)),
        (3, 74)
    );
    assert!(world.now < Duration::from_secs(60 * 60), "{:?}", world.now);
}

#[test]
fn the_last_node_of_which_nothing_is_known_outlasts_an_outage_of_two_hours() {
    // The combine of the last persona: an outage and a poisoned request look the same from here.
    for (hours, outcome) in [(2, Outcome::Complete), (20, Outcome::Partial)] {
        let mut world = World::new(SEVEN_AND_ONE, 1, settings(16));
        let clock = std::rc::Rc::new(std::cell::Cell::new(Duration::ZERO));
        let seen = clock.clone();
        world.answer = Box::new(
            move |_, node, _| match seen.get() < Duration::from_secs(hours * 3600) {
                true if node == 7 => Reply::Fault(FaultKind::ServerError, None),
                _ => Reply::Good,
            },
        );
        world.give(Input::Start);
        while world.end.is_none() {
            world.send();
            world.step();
            clock.set(world.now);
        }
        assert_eq!(world.end.as_ref().unwrap().outcome, outcome, "{hours} hours");
        assert!(
            world.now < Duration::from_secs(3 * 3600 + 6 * 60),
            "{:?}",
            world.now
        );
    }
}

#[test]
fn an_outage_that_begins_at_the_end_of_a_run_costs_no_node() {
    // What is in flight then fails while others have just been answered: no reason to suspect it.
    for left in 2..=16 {
        let mut world = World::new(&["a"], 60, settings(16));
        let clock = std::rc::Rc::new(std::cell::Cell::new(Duration::ZERO));
        let seen = clock.clone();
        let up = Duration::from_secs(12 * 3600);
        let mut answered = 0;
        world.answer = Box::new(move |_, _, _| {
            if answered >= 60 - left && seen.get() < up {
                return Reply::Fault(FaultKind::Connection, None);
            }
            answered += 1;
            Reply::Good
        });
        world.latency = Box::new(|persona, _| Duration::from_secs(1 + u64::from(persona.as_bytes()[3] % 7)));
        world.give(Input::Start);
        while world.end.is_none() {
            world.send();
            world.step();
            clock.set(world.now);
        }
        assert_eq!(
            world.end.as_ref().unwrap().outcome,
            Outcome::Complete,
            "{left} left"
        );
    }
}

#[test]
fn an_outage_of_two_hours_costs_two_hours_and_no_node() {
    let mut world = World::new(SEVEN_AND_ONE, 50, settings(16));
    let clock = std::rc::Rc::new(std::cell::Cell::new(Duration::ZERO));
    let seen = clock.clone();
    let down = Duration::from_secs(5)..Duration::from_secs(2 * 3600);
    world.answer = Box::new(move |_, _, _| match down.contains(&seen.get()) {
        true => Reply::Fault(FaultKind::Connection, None),
        false => Reply::Good,
    });
    world.give(Input::Start);
    while world.end.is_none() {
        world.send();
        world.step();
        clock.set(world.now);
    }
    assert_eq!(world.end.as_ref().unwrap().outcome, Outcome::Complete);
    assert_eq!(world.count(NodeStatus::Called), 400);
    assert!(
        world.now < Duration::from_secs(2 * 3600 + 6 * 60),
        "{:?}",
        world.now
    );
    let wasted = world.sent.len() - 400;
    assert!(
        wasted < 16 * 4 + 40,
        "{wasted} calls into the outage: probes grow apart"
    );
    let outage: Vec<&str> = world
        .log
        .iter()
        .filter(|line| line.contains("Outage"))
        .map(String::as_str)
        .collect();
    assert_eq!(
        outage,
        [
            r#"6s OutageBegan { cause: "broken" }"#,
            "7449s OutageEnded { lasted: 7443s }"
        ],
        "told once"
    );
}

#[test]
fn a_provider_that_never_answers_is_given_up_after_five_minutes() {
    let mut world = World::new(SEVEN_AND_ONE, 10, settings(16));
    world.answer = Box::new(|_, _, _| Reply::Fault(FaultKind::Connection, None));
    assert_eq!(world.run(), Outcome::Fatal);
    let minutes = world.now.as_secs_f64() / 60.0;
    assert!((5.0..5.2).contains(&minutes), "{minutes}");
    assert_eq!(world.count(NodeStatus::Failed), 0);
}

#[test]
fn slow_calls_are_no_silence_because_one_of_them_fails_late() {
    // Sixteen slow answers and one broken connection in minute seven, before any of them is there.
    let mut world = World::new(&["a"], 16, settings(16));
    world.latency = Box::new(|persona, _| Duration::from_secs(if persona == "p003" { 420 } else { 480 }));
    let mut first = true;
    world.answer = Box::new(move |_, _, _| match std::mem::take(&mut first) {
        true => Reply::Fault(FaultKind::Connection, None),
        false => Reply::Good,
    });
    assert_eq!(world.run(), Outcome::Complete);
    assert_eq!(world.count(NodeStatus::Called), 16);
}

#[test]
fn what_is_in_flight_may_still_answer_before_a_run_without_answers_is_given_up() {
    // One node is refused again and again from the first second on; the others take nine minutes.
    let mut world = World::new(&["a"], 16, settings(16));
    world.latency = Box::new(|persona, _| Duration::from_secs(if persona == "p003" { 1 } else { 540 }));
    let mut sent_again = 0;
    world.answer = Box::new(move |persona, _, _| {
        sent_again += usize::from(persona == "p003");
        match persona {
            "p003" if sent_again < 20 => Reply::Fault(FaultKind::Connection, None),
            _ => Reply::Good,
        }
    });
    assert_eq!(world.run(), Outcome::Complete);
}

#[test]
fn five_minutes_without_an_answer_count_from_the_first_fault() {
    // Each call hangs for ten minutes: one fault is no five minutes of faults.
    let mut world = World::new(&["a"], 8, settings(8));
    world.latency = Box::new(|_, _| Duration::from_secs(600));
    world.answer = Box::new(|_, _, _| Reply::Fault(FaultKind::Timeout, None));
    assert_eq!(world.run(), Outcome::Fatal);
    assert_eq!(
        world.sent.len(),
        9,
        "eight that time out, and the probe after them"
    );
    assert_eq!(world.now.as_secs(), 1201);
}

#[test]
fn a_node_that_always_fails_does_not_look_like_an_outage_to_the_others() {
    let mut world = World::new(SEVEN_AND_ONE, 30, settings(8));
    world.answer = Box::new(|persona, node, _| match (persona, node) {
        ("p000", 0) => Reply::Fault(FaultKind::ServerError, None),
        _ => Reply::Good,
    });
    assert_eq!(world.run(), Outcome::Partial);
    assert_eq!(world.count(NodeStatus::Failed), 1);
    assert!(!world.log.iter().any(|line| line.contains("Outage")));
}

#[test]
fn the_first_stop_waits_for_what_is_in_flight_and_the_second_does_not() {
    for (stops, paid) in [(1, 8), (2, 4)] {
        let mut world = World::new(SEVEN_AND_ONE, 100, settings(4));
        world.give(Input::Start);
        world.send();
        world.step();
        world.send();
        for stop in [Stop::Drain, Stop::Abort].into_iter().take(stops) {
            world.give(Input::Stop(stop));
        }
        while world.end.is_none() {
            world.send();
            world.step();
        }
        assert_eq!(world.end.as_ref().unwrap().outcome, Outcome::Interrupted);
        assert_eq!(
            (world.sent.len(), world.count(NodeStatus::Called)),
            (8, paid),
            "{stops} stops"
        );
    }
}

#[test]
fn a_stop_while_everybody_waits_ends_the_run_at_once() {
    let mut world = World::new(&["a"], 4, settings(4));
    world.answer = Box::new(|_, _, _| Reply::Fault(FaultKind::RateLimited, Some(3600)));
    world.give(Input::Start);
    world.send();
    world.step();
    world.give(Input::Stop(Stop::Drain));
    assert_eq!(world.end.as_ref().unwrap().outcome, Outcome::Interrupted);
}

#[test]
fn a_persona_that_cannot_be_read_fails_alone() {
    let graph = Arc::new(graph(SEVEN_AND_ONE));
    let mut schedule = Schedule::new(graph, personas(1), settings(4));
    let Action::Open { slot, .. } = schedule.on(Duration::ZERO, Input::Start)[0] else {
        panic!()
    };
    let failure = Failure {
        kind: "persona",
        message: "no".into(),
        http_status: None,
    };
    let actions = schedule.on(
        Duration::ZERO,
        Input::Opened {
            slot,
            result: Err(failure.clone()),
        },
    );
    assert_eq!(actions.len(), 9, "eight skipped nodes and the end of the persona");
    assert_eq!(
        actions[8],
        Action::Close {
            slot,
            failure: Some(failure)
        }
    );
    let actions = schedule.on(Duration::ZERO, Input::Closed { slot, failed: true });
    assert_eq!(
        actions,
        [Action::End(Halt {
            outcome: Outcome::Partial,
            cause: None
        })]
    );
}

#[test]
fn pauses_double_up_to_the_longest_and_a_server_may_ask_for_more() {
    let retry = settings(1).retry;
    let ceilings: Vec<u64> = (1..9).map(|n| retry.pause(n, 1.0, None).as_secs()).collect();
    assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(
        retry.pause(1, 0.5, Some(Duration::from_secs(3600))),
        Duration::from_millis(3_600_500)
    );
    assert_eq!(retry.pause(u32::MAX, 0.0, None), Duration::ZERO);
}

/// A random acyclic pipeline: each node needs some of those before it.
fn pipelines() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(any::<u8>(), 1..7).prop_map(|masks| {
        let line = |(node, mask): (usize, &u8)| {
            let needs: Vec<String> = (0..node)
                .filter(|need| mask >> need & 1 == 1)
                .map(|need| format!("n{need}"))
                .collect();
            format!("n{node}: {}", needs.join(" "))
        };
        masks.iter().enumerate().map(line).collect()
    })
}

fn replies() -> impl Strategy<Value = Reply> {
    prop_oneof![
        12 => Just(Reply::Good),
        1 => Just(Reply::Bad(Rejection::Empty)),
        1 => Just(Reply::Fault(FaultKind::ServerError, None)),
        1 => Just(Reply::Fault(FaultKind::Connection, None)),
        1 => Just(Reply::Fault(FaultKind::RateLimited, Some(7))),
        1 => Just(Reply::Fault(FaultKind::BadRequest, None)),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_every_node_ends_once_and_nothing_is_paid_twice(
        lines in pipelines(),
        count in 1usize..12,
        slots in 1usize..9,
        shared in 1usize..5,
        fixed in any::<bool>(),
        groups in 0usize..4,
        lifetime in 1u64..200,
        replies in proptest::collection::vec(replies(), 1..200),
        latencies in proptest::collection::vec(1u64..30, 1..50),
    ) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let settings = Settings { concurrency: fixed.then_some(slots), ..settings(slots) };
        let mut world = World::new(&lines, count, settings);
        // Some personas ask the same.
        world.key = Box::new(move |persona, node| {
            let number: usize = persona[1..].parse().unwrap();
            format!("{}/{node}", number % shared)
        });
        // Their nodes begin alike, in no, one or more ways.
        world.prefix = Box::new(move |persona, node| {
            let number: usize = persona[1..].parse().unwrap();
            (groups > 0).then(|| (number % shared * 10 + node % groups) as u128 + 1)
        });
        world.lifetime = Duration::from_secs(lifetime);
        let mut reply = replies.into_iter();
        world.answer = Box::new(move |_, _, _| reply.next().unwrap_or(Reply::Good));
        let mut latency = latencies.into_iter().cycle();
        world.latency = Box::new(move |_, _| Duration::from_secs(latency.next().unwrap()));
        let outcome = world.run();
        if fixed {
            prop_assert!(world.most_in_flight <= slots);
        }
        if outcome != Outcome::Fatal {
            prop_assert_eq!(world.finished.len(), count * lines.len());
            let failed = world.count(NodeStatus::Failed) > 0;
            prop_assert_eq!(outcome, if failed { Outcome::Partial } else { Outcome::Complete });
        }
        prop_assert!(world.names.is_empty() || outcome == Outcome::Fatal, "all slots are free again");
    }
}
