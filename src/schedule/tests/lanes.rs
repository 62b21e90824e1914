//! Nodes of several lanes: what holds up one of them holds up nobody else.

use super::*;

/// Sends what may go outside of lane 0, which is held up, and answers it, until nothing may go.
fn play_beside_a_held_lane(world: &mut World) {
    world.give(Input::Start);
    world.give(Input::Held { lanes: vec![0] });
    while let Some(handle) = world.schedule.candidate_but(world.now, |lane| lane == 0) {
        world.give(Input::Granted { handle });
        world.give(Input::Answered { handle });
    }
}

fn two_lanes(count: usize, slots: usize) -> World {
    let mut world = World::new(&["a", "b", "c: a b"], count, settings(slots));
    world.schedule =
        Schedule::new(world.graph.clone(), personas(count), settings(slots)).in_lanes(vec![0, 1, 1]);
    world
}

#[test]
fn personas_are_opened_past_a_lane_that_is_held_up() {
    let mut world = two_lanes(200, 4);
    play_beside_a_held_lane(&mut world);
    assert_eq!(world.sent.iter().filter(|name| name.ends_with("/b")).count(), 200);
}

#[test]
fn what_is_open_beside_a_held_lane_is_bounded() {
    let mut world = two_lanes(5_000, 4);
    play_beside_a_held_lane(&mut world);
    assert!(
        world.most_open <= 400,
        "{} personas open at once",
        world.most_open
    );
}

#[test]
fn a_retry_does_not_sleep_as_long_as_another_lanes_hold() {
    let mut world = two_lanes(1, 4);
    world.give(Input::Start);
    world.give(Input::Held { lanes: vec![0] });
    let handle = world.schedule.candidate_but(world.now, |lane| lane == 0).unwrap();
    world.give(Input::Granted { handle });
    world.give(Input::Faulted {
        handle,
        fault: crate::call::Fault::new(FaultKind::ServerError, "down".to_owned()),
        jitter: 0.5,
    });
    assert_eq!(world.schedule.candidate_but(world.now, |lane| lane == 0), None);
    let wake = world.schedule.wake_at(world.now).unwrap();
    assert!(wake <= Duration::from_secs(60), "{wake:?}");
}
