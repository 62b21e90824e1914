use super::*;
use crate::config::Retry;
use crate::events::Outcome;
use crate::graph::tests::graph;

/// Seven chunks and a combine for so many personas; each call takes two seconds and 1,000 tokens.
fn rehearsal(personas: u64, concurrency: Option<usize>) -> Rehearsal {
    let graph = graph(&["1", "2", "3", "4", "5", "6", "7", "all: 1 2 3 4 5 6 7"]);
    let node = Rehearsed {
        input: 800.0,
        output: 200.0,
        first_output: 200.0,
        cap: Some(4_000.0),
        bad_output: 200.0,
        seconds: 2.0,
        ..Rehearsed::default()
    };
    Rehearsal {
        graph: graph.into(),
        models: vec!["m".into(); 8],
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
    for node in &mut limited.nodes {
        node.reserves = Reserves::LimitUntilAnswered;
    }
    let seconds = limited.duration().as_secs_f64();
    assert!(
        (59.0..90.0).contains(&seconds),
        "{seconds}: 600,000 tokens, after a slow start"
    );
    for node in &mut limited.nodes {
        node.reserves = Reserves::Limit;
    }
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
fn a_call_that_no_minute_has_room_for_fails_as_in_a_run() {
    let mut small = rehearsal(2, Some(4));
    small.tokens_per_minute = Some(500);
    assert_eq!(small.duration(), Duration::ZERO);
    let night = small.night(&any_time(8), 1);
    assert_eq!((night.calls, night.failed, night.skipped), (0, 14, 2));
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

/// Any time is right, and the prices are those of the nodes.
fn any_time(nodes: usize) -> Wall {
    Wall {
        start: "2026-11-26T22:00:00Z".parse().unwrap(),
        times: Times::default(),
        tariffs: vec![None; nodes],
        longest_call: Duration::from_secs(600),
    }
}

fn server_errors(share: f64) -> RehearsedFault {
    RehearsedFault {
        kind: FaultKind::ServerError,
        share,
        seconds: 1.0,
        latencies: None,
        retry_after: None,
        may_be_billed: false,
    }
}

fn priced(rehearsal: &mut Rehearsal) {
    let price = Price::per_million(1.0, None, None, 10.0);
    rehearsal.nodes.iter_mut().for_each(|node| {
        node.money = Some(RehearsedMoney {
            dearest: price,
            price,
            cached: (0.0, 0.0),
            longest: Longest::default(),
        });
    });
}

#[test]
fn a_night_without_chance_is_what_a_plan_says() {
    let mut certain = rehearsal(102, Some(64));
    priced(&mut certain);
    let night = certain.night(&any_time(8), 1);
    assert_eq!(night.took.as_secs(), 26);
    assert_eq!((night.calls, night.called, night.failed), (816, 816, 0));
    // 800 and 200 tokens each.
    let cost = night.cost.unwrap().usd();
    assert!((cost - 816.0 * (0.0008 + 0.002)).abs() < 1e-9, "{cost}");
    assert_eq!(night.outcome, Outcome::Complete);
    let by = |night: &Night| night.course.shares()[0].0;
    assert_eq!(by(&night), Holds::InFlight);
    certain.requests_per_minute = Some(600);
    assert_eq!(by(&certain.night(&any_time(8), 1)), Holds::Requests);
    (certain.requests_per_minute, certain.tokens_per_minute) = (None, Some(600_000));
    assert_eq!(by(&certain.night(&any_time(8), 1)), Holds::Tokens);
    assert_eq!(by(&rehearsal(2, Some(64)).night(&any_time(8), 1)), Holds::Needs);
}

#[test]
fn nights_stray_around_what_a_plan_says() {
    let mut straying = rehearsal(102, Some(16));
    priced(&mut straying);
    for node in &mut straying.nodes {
        let mut seen = Spread::default();
        (1..=8).for_each(|part| seen.add(50 * part));
        (node.lengths, node.stray, node.correlation) = (Some(seen), 0.5, 0.8);
    }
    let planned = straying.duration().as_secs_f64();
    let nights: Vec<Night> = (1..=5).map(|seed| straying.night(&any_time(8), seed)).collect();
    for night in &nights {
        let took = night.took.as_secs_f64();
        assert!((0.95..1.05).contains(&(took / planned)), "{took} for {planned}");
        let output = night.output / 816.0;
        assert!((0.95..1.05).contains(&(output / 200.0)), "{output}");
    }
    assert!(nights.windows(2).any(|pair| pair[0].cost != pair[1].cost));
    assert_eq!(
        straying.night(&any_time(8), 1).cost,
        nights[0].cost,
        "a seed is always the same night"
    );
}

#[test]
fn faults_are_tried_again_by_the_rules_of_a_run() {
    let mut faulty = rehearsal(102, Some(64));
    faulty
        .nodes
        .iter_mut()
        .for_each(|node| node.faults = vec![server_errors(0.1)]);
    let night = faulty.night(&any_time(8), 1);
    assert_eq!(
        (night.called, night.failed, night.outcome),
        (816, 0, Outcome::Complete)
    );
    // One in nine that are answered.
    assert!((70..115).contains(&night.faulted), "{}", night.faulted);
    assert_eq!(night.calls, 816 + night.faulted);
    assert!(night.took > rehearsal(102, Some(64)).duration());
    // The plan deals them out evenly.
    let (planned, took) = (faulty.duration().as_secs_f64(), night.took.as_secs_f64());
    assert!((0.85..1.15).contains(&(took / planned)), "{took} for {planned}");
    // What is refused for its rate makes everybody wait.
    let refused = RehearsedFault {
        kind: FaultKind::RateLimited,
        seconds: 0.0,
        retry_after: Some(Duration::from_secs(20)),
        ..server_errors(0.005)
    };
    faulty
        .nodes
        .iter_mut()
        .for_each(|node| node.faults = vec![refused.clone()]);
    let night = faulty.night(&any_time(8), 1);
    let paused = night
        .course
        .shares()
        .into_iter()
        .find(|(by, _)| *by == Holds::Paused);
    assert!(
        paused.is_some_and(|(_, share)| share > 0.2),
        "{:?}",
        night.course.shares()
    );
}

#[test]
fn nodes_that_fail_leave_others_out() {
    let mut lost = rehearsal(100, Some(64));
    (lost.nodes[0].lost, lost.nodes[0].again) = (0.5, 1.0);
    let night = lost.night(&any_time(8), 1);
    assert!((35..65).contains(&night.failed), "{}", night.failed);
    assert_eq!(night.skipped, night.failed, "each has a combine");
    assert_eq!(night.outcome, Outcome::Partial);
    assert_eq!(night.rejected, 3 * night.failed);
    assert_eq!(night.called, 800 - night.failed - night.skipped);
}

#[test]
fn a_night_sleeps_outside_its_hours_and_ends_at_its_deadline() {
    let mut paced = rehearsal(900, Some(64));
    paced.requests_per_minute = Some(60);
    let mut wall = any_time(8);
    let window = crate::hours::Window::parse("23:00-01:00").unwrap();
    wall.times.hours = crate::hours::Hours::new(vec![window]);
    // 7,200 calls in two hours; an hour until they begin.
    let night = paced.night(&wall, 1);
    assert_eq!(night.asleep.as_secs() / 60, 60, "{night:?}");
    assert!((night.took.as_secs_f64() / 3_600.0 - 3.0).abs() < 0.01);
    let phases = night.course.phases(night.took);
    assert_eq!(
        phases.iter().map(|phase| phase.by).collect::<Vec<_>>(),
        [Holds::Hours, Holds::Requests]
    );
    // Half of them the next night.
    paced.requests_per_minute = Some(30);
    assert_eq!(paced.night(&wall, 1).asleep.as_secs() / 3_600, 23);
    wall.times.until = Some("2026-11-26T23:30:00Z".parse().unwrap());
    let cut = paced.night(&wall, 1);
    assert_eq!(cut.outcome, Outcome::Deadline);
    assert!(
        (895..=905).contains(&cut.calls),
        "{}: half an hour of thirty a minute",
        cut.calls
    );
    assert_eq!(cut.called, cut.calls, "what is in flight is waited for");
    wall.times.until = Some("2026-11-26T22:30:00Z".parse().unwrap());
    let none = paced.night(&wall, 1);
    assert_eq!(
        (none.calls, none.outcome, none.took),
        (0, Outcome::Deadline, Duration::ZERO)
    );
}

#[test]
fn a_night_pays_what_the_hour_costs() {
    let mut paced = rehearsal(15, Some(64));
    paced.requests_per_minute = Some(1);
    priced(&mut paced);
    let mut wall = any_time(8);
    let price = Price::per_million(1.0, None, None, 10.0);
    let twice = Price::per_million(2.0, None, None, 20.0);
    let hours = crate::hours::Weekly::new(
        crate::hours::Days::ALL,
        vec![crate::hours::Window::parse("23:00-01:00").unwrap()],
    );
    let tariff = Tariff::new(price, jiff::tz::TimeZone::UTC, "UTC", vec![(hours, twice)]);
    wall.tariffs = vec![Some(tariff); 8];
    // 120 calls, one a minute: one hour at the usual price, the other at twice.
    let cost = paced.night(&wall, 1).cost.unwrap().usd();
    assert!((cost / (0.0028 * 180.0) - 1.0).abs() < 0.02, "{cost}");
}

#[test]
fn a_budget_ends_a_night_before_it_is_passed() {
    let mut dear = rehearsal(102, Some(16));
    priced(&mut dear);
    dear.budget = vec![Limit {
        name: "--budget",
        amount: Money::from_usd(1.0),
        before: Money::ZERO,
        since_ms: None,
    }];
    let night = dear.night(&any_time(8), 1);
    assert_eq!(night.outcome, Outcome::Budget);
    let cost = night.cost.unwrap().usd();
    assert!((0.9..=1.0).contains(&cost), "{cost}");
    assert_eq!(night.out_of_money, dear.out_of_money(), "as the plan says");
}

mod more {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// With the same chances: not but for the last calls of all, which another order may put
        /// after each other, and the pauses between their tries.
        #[test]
        fn more_of_a_limit_never_makes_it_slower(
            personas in 1u64..40,
            workers in 1usize..40,
            rpm in proptest::option::of(20u32..2_000),
            tpm in proptest::option::of(20_000u32..2_000_000),
            faults in 0.0f64..0.1,
            stray in 0.0f64..1.0,
            seed in 0u64..1_000,
            which in 0usize..3,
        ) {
            let mut less = rehearsal(personas, Some(workers));
            (less.requests_per_minute, less.tokens_per_minute) = (rpm, tpm);
            less.settings.retry.max = Duration::from_secs(4);
            for node in &mut less.nodes {
                (node.faults, node.stray) = (vec![server_errors(faults)], stray);
            }
            let mut more = less.clone();
            match which {
                0 => more.requests_per_minute = rpm.map(|rpm| rpm * 2),
                1 => more.tokens_per_minute = tpm.map(|tpm| tpm * 2),
                _ => more.settings.concurrency = Some(workers * 2),
            }
            let wall = any_time(8);
            let (less, more) = (less.night(&wall, seed), more.night(&wall, seed));
            prop_assert_eq!((less.calls, less.called), (more.calls, more.called), "the same chances");
            let slack = 2.0 * (2.0 + stray * 1.8) + 4.0;
            let (before, after) = (less.took.as_secs_f64(), more.took.as_secs_f64());
            prop_assert!(after <= before + slack, "{} instead of {}", after, before);
        }
    }
}
