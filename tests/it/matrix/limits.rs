//! Refusals for a limit: waited for as the server says, counted against nobody.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::Ends::Passes;
use super::{Class, PLACES, hold, one_by_one};
use crate::interrupt::Running;
use crate::wire::{Wire, error_with, good, response};

const SLOW_DOWN: &str = "Rate limit reached for gpt-6-luna.";

#[test]
fn a_429_is_waited_for_and_counts_against_nobody() {
    let refused =
        |headers: &str| error_with("429 Too Many Requests", headers, "rate_limit_exceeded", SLOW_DOWN);
    let class =
        |name, headers: &str| Class::new(name, refused(headers), Passes, ("rate_limited", 429, SLOW_DOWN));
    hold(&[
        class("429 with Retry-After: 1", "retry-after: 1\r\n"),
        class("429 with Retry-After: 0", "retry-after: 0\r\n"),
        class("429 with retry-after-ms", "retry-after-ms: 30\r\n"),
        class(
            "429 with a date",
            "date: Thu, 26 Nov 2026 23:00:00 GMT\r\nretry-after: Thu, 26 Nov 2026 23:00:01 GMT\r\n",
        ),
        class("429 without a word", ""),
        class("429 with nonsense", "retry-after: soon\r\n"),
    ]);
}

#[test]
fn no_call_comes_before_the_time_that_a_429_names() {
    for (header, least) in [("retry-after: 1", 1_000), ("retry-after-ms: 700", 700)] {
        for (place, _, mark) in PLACES {
            let refused = error_with(
                "429 Too Many Requests",
                &format!("{header}\r\n"),
                "rate_limit_exceeded",
                SLOW_DOWN,
            );
            let server = Wire::start(move |number, body| match body.contains(mark) && number == 1 {
                true => refused.clone(),
                false => good(body),
            });
            let run = one_by_one(1, &server.url()).json(&[]).code(0);
            assert_eq!(server.calls(), 4, "{header}, {place}");
            let times = server.times(mark);
            assert!(
                times[1] - times[0] >= Duration::from_millis(least),
                "{header}, {place}"
            );
            let paused = run.named("paused");
            assert_eq!(paused.len(), 1, "{header}, {place}");
            assert!(
                paused[0]["pause_s"].as_f64().unwrap() * 1e3 >= least as f64,
                "{header}, {place}"
            );
        }
    }
}

/// An hour, a date and a quota of the day are obeyed, shown with the time at which they end, and
/// nobody fails; Ctrl+C does not wait for them.
#[test]
fn a_long_wait_is_obeyed_and_told_with_the_clock() {
    let in_an_hour = "date: Thu, 26 Nov 2026 23:00:00 GMT\r\nretry-after: Fri, 27 Nov 2026 00:00:00 GMT\r\n";
    let error =
        |headers: &str| error_with("429 Too Many Requests", headers, "rate_limit_exceeded", SLOW_DOWN);
    let quota = r#"[{"error":{"code":429,"message":"You exceeded your current quota.","status":"RESOURCE_EXHAUSTED","details":[
        {"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},
        {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"37s"}]}}]"#;
    let day = response(
        "429 Too Many Requests",
        "content-type: application/json\r\n",
        quota,
    );
    let classes = [
        ("an hour in seconds", error("retry-after: 3600\r\n"), 3_600..3_602),
        ("an hour by a date", error(in_an_hour), 3_600..3_602),
        ("a quota of the day", day, 1..86_402),
    ];
    for (name, bytes, seconds) in classes {
        for (place, _, mark) in PLACES {
            let case = format!("{name}, {place} call");
            let bytes = bytes.clone();
            let server = Wire::start(move |_, body| match body.contains(mark) {
                true => bytes.clone(),
                false => good(body),
            });
            let project = one_by_one(1, &server.url()).variable("TZ", "UTC");
            let mut running = Running::start(&project, &[]);
            running.wait_for("paused", 1);
            let sent = server.calls();
            running.signal(Signal::SIGINT);
            let run = running.end();
            assert_eq!(run.code, Some(130), "{case}");
            assert_eq!(server.calls(), sent, "{case}: nothing is sent in between");
            assert_eq!(run.figure("nodes.failed"), 0, "{case}");
            let paused = run.named("paused")[0];
            let pause = paused["pause_s"].as_f64().unwrap();
            assert!(seconds.contains(&(pause as u64)), "{case}: {pause} s");
            let until = paused["until"].as_str().unwrap_or_default();
            assert!(until.contains('T'), "{case}: {until:?}");
        }
    }
}

/// A provider that only ever refuses is waited for, without a failed node, until the time is over.
#[test]
fn nothing_but_429s_ends_with_the_deadline() {
    for headers in ["", "retry-after: 1\r\n"] {
        let server = Wire::always(error_with(
            "429 Too Many Requests",
            headers,
            "rate_limit_exceeded",
            SLOW_DOWN,
        ));
        let project = one_by_one(2, &server.url());
        let ran = project.run(&["run", "--json", "--until", "2s"]).code(3);
        let run = crate::project::Events::of(&ran);
        assert_eq!(run.summary()["outcome"], "deadline", "{headers:?}");
        assert_eq!(
            (run.figure("nodes.failed"), run.figure("nodes.pending")),
            (0, 6),
            "{headers:?}"
        );
        assert_eq!(run.figure("calls.sent"), server.calls(), "{headers:?}");
        assert_eq!(run.figure("calls.faulted"), server.calls(), "{headers:?}");
    }
}

/// A model that is refused for an hour holds up nobody who asks another one.
#[test]
fn a_refusal_of_one_model_pauses_that_model_alone() {
    let refused = error_with(
        "429 Too Many Requests",
        "retry-after: 3600\r\n",
        "rate_limit_exceeded",
        SLOW_DOWN,
    );
    let server = Wire::start(move |_, body| match body.contains("\"model\":\"slow-one\"") {
        true => refused.clone(),
        false => good(body),
    });
    let project = one_by_one(6, &server.url()).with(
        "id = \"chunk-1\"",
        "id = \"chunk-1\"\nmodel = { name = \"slow-one\" }",
    );
    let mut running = Running::start(&project, &[]);
    running.wait_for("node_finished", 6);
    running.signal(Signal::SIGINT);
    let run = running.end();
    assert_eq!(run.code, Some(130));
    let called: Vec<String> = (0..6).map(|persona| format!("p0{persona}/chunk-2")).collect();
    assert_eq!(run.nodes("called"), called);
    assert_eq!(run.named("paused")[0]["model"], "slow-one");
    assert_eq!(
        (run.figure("nodes.failed"), run.figure("calls.faulted")),
        (0, 1),
        "one refusal is enough"
    );
}
