//! Calls with one prefix: who goes first, who waits, and that nothing idles meanwhile.

use std::time::Duration;

use super::world::{Reply, World, settings};
use crate::call::{FaultKind, Key, Rejection};
use crate::events::{NodeStatus, Outcome};
use crate::graph::tests::SEVEN_AND_ONE;
use crate::names::Stop;
use crate::schedule::Input;

/// Each persona has a prefix of its own.
fn sharing(count: usize, slots: usize) -> World {
    let mut world = World::new(SEVEN_AND_ONE, count, settings(slots));
    world.prefix = Box::new(|persona, _| persona[1..].parse().ok());
    world
}

#[test]
fn one_goes_first_and_the_others_read_what_it_left() {
    let mut world = sharing(3, 64);
    assert_eq!(world.run(), Outcome::Complete);
    assert_eq!(
        world.waves,
        [3, 18, 3],
        "three leaders, their siblings, the combines"
    );
    assert_eq!(world.sent[..3], ["p000/c1", "p001/c1", "p002/c1"]);
    assert_eq!(world.reads, 3 * 7, "all but the leaders");
}

#[test]
fn without_a_prefix_nobody_waits() {
    let mut world = World::new(SEVEN_AND_ONE, 3, settings(64));
    world.run();
    assert_eq!(world.waves, [21, 3]);
}

#[test]
fn others_fill_the_gap_and_no_wave_is_lost() {
    for (count, slots) in [(102, 64), (102, 16), (102, 4), (300, 64), (64, 64), (30, 7)] {
        let mut world = sharing(count, slots);
        assert_eq!(world.run(), Outcome::Complete);
        assert_eq!(world.reads, count * 7, "{count} at {slots}");
        let mut eager = World::new(SEVEN_AND_ONE, count, settings(slots));
        eager.run();
        assert_eq!(world.now, eager.now, "{count} at {slots}: {:?}", world.waves);
        let (_, full) = world.waves.split_last().unwrap();
        assert!(
            full.iter().all(|&wave| wave == slots),
            "{count} at {slots}: {full:?}"
        );
    }
}

#[test]
fn started_personas_are_still_finished_first_and_few_are_open() {
    let mut world = sharing(5_000, 4);
    world.run();
    assert!(world.most_open <= 16, "{} personas open at once", world.most_open);
    let mut world = sharing(1_000, 64);
    world.run();
    assert!(
        world.most_open <= 2 * 64,
        "{} personas open at once",
        world.most_open
    );
}

#[test]
fn one_slot_goes_through_persona_after_persona() {
    let mut world = sharing(4, 1);
    world.run();
    assert_eq!(world.reads, 4 * 7);
    let second = world.sent.iter().position(|sent| sent.starts_with("p001/"));
    assert!(second >= Some(6), "{:?}", world.sent);
}

#[test]
fn a_hit_sends_nothing_so_the_next_to_be_called_goes_first() {
    let mut world = sharing(2, 64);
    for key in ["p000/0", "p000/1", "p001/6"] {
        world
            .stored
            .insert(Key::from(*blake3::hash(key.as_bytes()).as_bytes()));
    }
    assert_eq!(world.run(), Outcome::Complete);
    assert_eq!(world.sent[..2], ["p000/c3", "p001/c1"]);
    assert_eq!(world.reads, 16 - 3 - 2);
}

#[test]
fn whoever_fails_holds_nobody_up() {
    // The first of each persona never gets an answer.
    let mut world = sharing(3, 64);
    world.answer = Box::new(|_, node, _| match node {
        0 => Reply::Fault(FaultKind::BadResponse, None),
        _ => Reply::Good,
    });
    assert_eq!(world.run(), Outcome::Partial);
    assert_eq!(
        world.waves[..3],
        [3, 3, 18],
        "leaders, the next ones, all the others"
    );
    for kind in [FaultKind::BadRequest, FaultKind::Timeout, FaultKind::RateLimited] {
        let mut world = sharing(1, 64);
        world.answer = Box::new(move |_, node, sent| match (node, sent) {
            (0, 1) => Reply::Fault(kind, None),
            _ => Reply::Good,
        });
        world.run();
        assert_eq!(world.sent[..2], ["p000/c1", "p000/c2"], "{kind:?}");
        assert_eq!(world.waves[..2], [1, 1], "{kind:?}");
    }
}

#[test]
fn a_bad_answer_is_one_for_the_cache() {
    let mut world = sharing(1, 64);
    world.answer = Box::new(|_, _, sent| match sent {
        1 => Reply::Bad(Rejection::Truncated),
        _ => Reply::Good,
    });
    assert_eq!(world.run(), Outcome::Complete);
    assert_eq!(world.waves[..2], [1, 6]);
    assert_eq!(world.reads, 8);
}

#[test]
fn after_an_outage_longer_than_the_cache_lives_one_goes_first_again() {
    let mut world = sharing(10, 64);
    let clock = std::rc::Rc::new(std::cell::Cell::new(Duration::ZERO));
    let seen = clock.clone();
    let down = Duration::from_secs(2)..Duration::from_secs(2 * 3600);
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
    // `look_at_prefix` has seen that nobody was sent beside a leader.
    assert_eq!(world.count(NodeStatus::Called), 80);
    let paid_for_nothing = 80 - 10 - world.reads.min(70);
    assert!(paid_for_nothing <= 20, "{} of 70 found their prefix", world.reads);
}

#[test]
fn nodes_of_other_models_have_leaders_of_their_own() {
    let mut world = sharing(2, 64);
    world.prefix = Box::new(|persona, node| {
        let number: u128 = persona[1..].parse().unwrap();
        match node {
            0..3 => Some(number * 10 + 1),
            3..6 => Some(number * 10 + 2),
            _ => None,
        }
    });
    assert_eq!(world.run(), Outcome::Complete);
    assert_eq!(
        world.sent[..6],
        ["p000/c1", "p000/c4", "p001/c1", "p001/c4", "p000/c7", "p001/c7"]
    );
    assert_eq!(world.waves, [6, 8, 2]);
}

#[test]
fn a_prefix_of_the_whole_run_is_waited_for_once() {
    let mut world = sharing(40, 64);
    world.prefix = Box::new(|_, _| Some(1));
    assert_eq!(world.run(), Outcome::Complete);
    assert_eq!(world.waves[0], 1);
    assert_eq!(world.reads, 319);
}

#[test]
fn a_twin_of_one_who_waits_is_no_call() {
    let mut world = sharing(10, 64);
    world.prefix = Box::new(|_, _| Some(1));
    world.key = Box::new(|persona, node| match node {
        0..3 => format!("the same {node}"),
        _ => format!("{persona}/{node}"),
    });
    assert_eq!(world.run(), Outcome::Complete);
    assert_eq!(world.sent.len(), 80 - 3 * 9);
}

#[test]
fn those_who_wait_hold_up_no_stop() {
    for (stops, paid) in [(1, 4), (2, 0)] {
        let mut world = sharing(100, 4);
        world.give(Input::Start);
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
            (4, paid),
            "{stops} stops"
        );
    }
}
