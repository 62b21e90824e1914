use super::*;
use crate::config::Retry;
use crate::graph::tests::graph;

/// Seven chunks and a combine for so many personas; each call takes two seconds and 1,000 tokens.
fn rehearsal(personas: u64, concurrency: Option<usize>) -> Rehearsal {
    let graph = graph(&["1", "2", "3", "4", "5", "6", "7", "all: 1 2 3 4 5 6 7"]);
    let node = Rehearsed {
        input: 800.0,
        output: 200.0,
        first_output: 200.0,
        cap: Some(4_000.0),
        again: 0.0,
        seconds: 2.0,
        stray: 0.0,
        prefix: None,
        money: None,
    };
    Rehearsal {
        graph: graph.into(),
        settings: Settings {
            concurrency,
            most: crate::schedule::MOST_IN_FLIGHT,
            retry: Retry {
                attempts: 6,
                base: Duration::from_secs(1),
                max: Duration::from_secs(60),
                rejected: 2,
            },
            fail_fast: false,
        },
        requests_per_minute: None,
        tokens_per_minute: None,
        reserves_output_cap: false,
        nodes: vec![node; 8],
        personas: vec![(vec![true; 8], personas)],
        budget: vec![],
    }
}

#[test]
fn a_combine_waits_for_its_chunks_and_waves_for_slots() {
    assert_eq!(rehearsal(1, Some(64)).duration().as_secs(), 4);
    assert_eq!(rehearsal(1, Some(1)).duration().as_secs(), 16);
    // ⌈816 / 64⌉ waves.
    assert_eq!(rehearsal(102, Some(64)).duration().as_secs(), 26);
    assert_eq!(rehearsal(0, Some(64)).duration().as_secs(), 0);
}

#[test]
fn rates_pace_what_is_sent() {
    let mut limited = rehearsal(75, Some(64));
    limited.requests_per_minute = Some(1_200);
    let seconds = limited.duration().as_secs_f64();
    assert!(
        (29.9 + 2.0..32.5).contains(&seconds),
        "{seconds}: 600 calls, 20 a second"
    );
    limited.requests_per_minute = None;
    limited.tokens_per_minute = Some(600_000);
    let seconds = limited.duration().as_secs_f64();
    assert!((59.0..63.0).contains(&seconds), "{seconds}: 600,000 tokens");
    limited.reserves_output_cap = true;
    let seconds = limited.duration().as_secs_f64();
    assert!(
        (280.0..295.0).contains(&seconds),
        "{seconds}: 4,800 for each call"
    );
}

#[test]
fn calls_in_flight_that_are_to_be_found_out_grow_as_in_a_run() {
    let grown = rehearsal(102, None).duration().as_secs();
    // 4, 8, 16, … in flight: 816 calls are through in eight rounds of two seconds.
    assert!((14..=20).contains(&grown), "{grown}");
}

#[test]
fn what_is_there_takes_no_time() {
    let mut one = rehearsal(0, Some(64));
    let mut called = vec![false; 8];
    called[2] = true;
    one.personas = vec![(called.clone(), 64)];
    assert_eq!(one.duration().as_secs(), 2);
    called[7] = true;
    one.personas = vec![(called, 64)];
    assert_eq!(one.duration().as_secs(), 4);
}

#[test]
fn a_long_run_goes_on_as_its_first_part_does() {
    let long = rehearsal(20_000, Some(64)).duration().as_secs_f64();
    let waves = 160_000.0 / 64.0 * 2.0;
    assert!((long / waves - 1.0).abs() < 0.01, "{long} of {waves}");
}

#[test]
fn times_that_stray_have_the_mean_that_was_seen() {
    let mut straying = rehearsal(102, Some(16));
    straying.nodes.iter_mut().for_each(|node| node.stray = 0.5);
    let seconds = straying.duration().as_secs_f64();
    assert!((102.0 * 0.98..102.0 * 1.05).contains(&seconds), "{seconds}");
}

#[test]
fn a_call_that_never_fits_ends_the_rehearsal_too() {
    let mut small = rehearsal(2, Some(4));
    small.tokens_per_minute = Some(500);
    assert!(small.duration() > Duration::from_secs(60));
}

#[test]
fn calls_that_begin_alike_wait_for_the_first_of_them() {
    let mut shared = rehearsal(4, Some(64));
    let prefix = RehearsedPrefix {
        group: 0,
        of_all: false,
        lifetime: Duration::from_secs(300),
    };
    shared
        .nodes
        .iter_mut()
        .for_each(|node| node.prefix = Some(prefix));
    assert_eq!(shared.duration().as_secs(), 6, "one, six, and the combine");
    shared.personas[0].1 = 102;
    let seconds = shared.duration().as_secs_f64();
    assert!((26.0..28.1).contains(&seconds), "{seconds}: others fill the gap");
}

#[test]
fn what_is_sent_until_a_time_can_be_counted() {
    let waves = rehearsal(102, Some(64));
    let sent = |seconds: u64| waves.sent_by(Duration::from_secs(seconds));
    assert_eq!([sent(0), sent(1), sent(2), sent(3)], [0, 64, 64, 128]);
    assert_eq!(sent(26), 816);
    let mut paced = rehearsal(20_000, Some(256));
    paced.requests_per_minute = Some(1_200);
    for seconds in [60.0, 6_000.0] {
        let sent = paced.sent_by(Duration::from_secs_f64(seconds)) as f64;
        assert!(
            (sent / (seconds * 20.0) - 1.0).abs() < 0.01,
            "{sent} in {seconds} s"
        );
    }
    assert_eq!(paced.sent_by(Duration::from_secs(100_000)), 160_000);
}

#[test]
fn bad_answers_are_asked_for_again() {
    let mut bad = rehearsal(1, Some(64));
    bad.nodes[0].again = 2.0;
    let seconds = bad.duration().as_secs_f64();
    assert!(
        (8.0..10.0).contains(&seconds),
        "{seconds}: three calls and the combine"
    );
    assert_eq!(
        bad.sent_by(Duration::MAX),
        8,
        "a node is called once, however often"
    );
    // Of every second persona one, so every second of seven waves has one more.
    let mut some = rehearsal(102, Some(1));
    some.nodes.iter_mut().for_each(|node| node.again = 0.5);
    let share = some.duration().as_secs_f64() / rehearsal(102, Some(1)).duration().as_secs_f64();
    assert!((1.49..1.51).contains(&share), "{share}");
}

#[test]
fn calls_that_are_made_again_take_their_tokens_once() {
    let mut limited = rehearsal(75, Some(64));
    limited.tokens_per_minute = Some(600_000);
    let once = limited.duration().as_secs_f64();
    limited.nodes.iter_mut().for_each(|node| node.again = 1.0);
    let twice = limited.duration().as_secs_f64();
    assert!(
        (1.8..2.2).contains(&(twice / once)),
        "{once} and {twice}: twice the tokens"
    );
}
