//! Lines and summaries as they stand in a log.

use std::time::Duration;

use super::{Written, report};
use crate::budget::{Limit, Used};
use crate::call::{Fault, FaultKind, Money, Rejection, Usage};
use crate::events::{Asked, CallOutcome, Event, Failure, NodeStatus, Outcome, PersonaStatus, Reckoned};
use crate::hours::Moment;
use crate::names::{Instance, Stop};
use crate::report::lines::Lines;
use crate::report::script::Script;
use crate::report::style::Palette;
use crate::report::wording;

const PLAIN: Palette = Palette { color: false };

fn log(script: Script) -> String {
    written(script, false)
}

fn quiet(script: Script) -> String {
    written(script, true)
}

fn written(script: Script, quiet: bool) -> String {
    let out = Written::default();
    report(
        script.events(),
        vec![Box::new(Lines::new(Box::new(out.clone()), PLAIN, quiet))],
    );
    out.text()
}

fn limited() -> Fault {
    Fault {
        http_status: Some(429),
        ..Fault::new(
            FaultKind::RateLimited,
            "rate limit reached: limit 500, used 500, requested 1",
        )
    }
}

fn too_long() -> Fault {
    Fault {
        http_status: Some(400),
        ..Fault::new(
            FaultKind::ContextTooLong,
            "the prompt has 131072 tokens, the model takes 128000",
        )
    }
}

/// Eight personas of which all go well, one of them by a bad answer first.
fn complete(script: Script) -> Script {
    let rejected = match script.ok() {
        CallOutcome::Ok {
            usage,
            cost,
            saved,
            hours,
        } => CallOutcome::Rejected {
            hours,
            rejection: Rejection::Empty,
            usage,
            cost,
            saved,
        },
        other => other,
    };
    script
        .written("young_couple_01_daniel_mary")
        .unchanged("old_man_01_tom")
        .works("nurse_01_anna_maria", 6)
        .persona("nurse_01_anna_maria", PersonaStatus::Written, None)
        .works("farmer_01_bo", 8)
        .persona("farmer_01_bo", PersonaStatus::Written, None)
        .works("farmer_02_ingrid", 7)
        .persona("farmer_02_ingrid", PersonaStatus::Unchanged, None)
        .send("student_01_li_wei", "chunk-1", 1)
        .end("student_01_li_wei", "chunk-1", 1, rejected)
        .written("student_01_li_wei")
        .written("student_02_bo")
        .written("teacher_01_anna_maria")
        .finished(Outcome::Complete, None)
}

#[test]
fn complete_with_eight_personas() {
    insta::assert_snapshot!(log(complete(Script::new(8))), @"
    run 20261123-223015-4f2a: 8 personas, 64 nodes, simulator (simulated)
    ✓ young_couple_01_daniel_mary   8 calls   12,320 tokens  $0.0019   12.0s  (simulated)
    ○ old_man_01_tom               unchanged
    ✓ nurse_01_anna_maria           2 calls    3,080 tokens  $0.0005    3.0s  6 cached  (simulated)
    ✓ farmer_01_bo                 from the cache
    ○ farmer_02_ingrid             unchanged   1 call     1,540 tokens  $0.0002    1.5s  7 cached  (simulated)
    ✓ student_01_li_wei             9 calls   13,860 tokens  $0.0021   12.0s  (simulated)
    ✓ student_02_bo                 8 calls   12,320 tokens  $0.0019   12.0s  (simulated)
    ✓ teacher_01_anna_maria         8 calls   12,320 tokens  $0.0019   12.0s  (simulated)

    personas  8: 6 written, 2 unchanged
    nodes     64: 35 called, 29 cached
    calls     36: 35 ok, 1 rejected
    time      52.5s

    tokens    input         43,200
                cached      21,600  50 %
              output        12,240
                reasoning    1,440
              total         55,440

    cost      $0.0085 (simulated)
    saved     $0.0019 (simulated) by the provider's cache
              $0.0058 (simulated) by septet's cache

    complete: 8 of 8 personas up to date
    ");
}

#[test]
fn partial_with_failures_in_groups() {
    let script = Script::real(5)
        .fails("young_couple_01_daniel_mary", limited())
        .fails("old_man_01_tom", too_long())
        .fails("old_man_02_tom", limited())
        .written("student_01_li_wei")
        .unreadable("teacher_01", unreadable())
        .finished(Outcome::Partial, None);
    insta::assert_snapshot!(log(script), @"
    run 20261123-223015-4f2a: 5 personas, 40 nodes, api.openai.com/v1
    ✗ young_couple_01_daniel_mary  chunk-3: rate limit reached: limit 500, used 500, requested 1 (HTTP 429)
    ✗ old_man_01_tom               chunk-3: the prompt has 131072 tokens, the model takes 128000 (HTTP 400)
    ✗ old_man_02_tom               chunk-3: rate limit reached: limit 500, used 500, requested 1 (HTTP 429)
    ✓ student_01_li_wei             8 calls   12,320 tokens  $0.0019   12.0s
    ✗ teacher_01                   personas/teacher_01/data.toml:3: expected `=`

    personas  5: 1 written, 4 failed
    nodes     40: 26 called, 10 failed, 4 skipped
    calls     29: 26 ok, 3 faulted
    time      39.0s

    tokens    input         31,200
                cached      15,600  50 %
              output         8,840
                reasoning    1,040
              total         40,040

    cost      $0.0061
    saved     $0.0014 by the provider's cache
              $0.00 by septet's cache

    failures
      2 x rate_limited (HTTP 429) in 2 personas: such as young_couple_01_daniel_mary/chunk-3
          rate limit reached: limit 500, used 500, requested 1
          hint: look at what the account may use; `--workers` and `--rpm` ask for less at once
      1 x context_too_long (HTTP 400): old_man_01_tom/chunk-3
          the prompt has 131072 tokens, the model takes 128000
          hint: shorten the prompt or the persona, or choose a model with a longer context
      1 x persona: teacher_01
          personas/teacher_01/data.toml:3: expected `=`

    partial: 1 of 5 personas up to date, 4 failed
    hint: `septet run` tries what failed again; what was paid for is stored and not paid twice
    ");
}

fn unreadable() -> Failure {
    Failure {
        kind: Failure::PERSONA,
        message: "personas/teacher_01/data.toml:3: expected `=`".to_owned(),
        http_status: None,
    }
}

#[test]
fn more_nodes_of_a_persona_that_failed_are_counted() {
    let failure = Some(Failure::from(Rejection::Truncated));
    let script = Script::real(1)
        .node("farmer", "chunk-1", NodeStatus::Failed, failure.clone())
        .node("farmer", "chunk-2", NodeStatus::Failed, failure.clone())
        .node("farmer", "chunk-3", NodeStatus::Failed, failure.clone())
        .persona("farmer", PersonaStatus::Failed, failure);
    insta::assert_snapshot!(log(script), @"
    run 20261123-223015-4f2a: 1 persona, 8 nodes, api.openai.com/v1
    ✗ farmer                       chunk-1: answer cut off at the output limit (2 other nodes failed too)
    ");
}

#[test]
fn a_stop_says_which_calls_the_next_run_fetches() {
    let queued = |node: &str| Event::CallQueued {
        instance: Instance::new("old_man_01_tom", node),
        attempt: 1,
        job: "resp_1".to_owned(),
    };
    let script = Script::real(102)
        .send("old_man_01_tom", "chunk-1", 1)
        .tell(queued("chunk-1"));
    let mixed = script
        .clone()
        .send("old_man_01_tom", "chunk-2", 1)
        .send("old_man_01_tom", "chunk-3", 1)
        .tell(queued("chunk-3"));
    let told = |script: Script| {
        let script = script
            .tell(Event::Stopping(Stop::Drain))
            .tell(Event::Stopping(Stop::Abort));
        let log = log(script);
        log.lines().skip(1).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(told(script), @"
    ! stopping: waiting for 1 call in flight; Ctrl+C again leaves it to the next run
    ! stopping now: leaving 1 call in flight, which the next run fetches
    ");
    insta::assert_snapshot!(told(mixed), @"
    ! stopping: waiting for 3 calls in flight; Ctrl+C again drops them
    ! stopping now: dropping 3 calls in flight; the next run fetches 2 of them, the others may be billed
    ");
}

#[test]
fn interrupted_while_the_server_works_on_jobs() {
    let end = |node: &str, lives| Event::CallEnded {
        instance: Instance::new("old_man_01_tom", node),
        attempt: 1,
        asked: Asked {
            lives,
            ..Asked::default()
        },
        latency: Duration::from_secs(1),
        outcome: CallOutcome::Abandoned,
    };
    let told = |others: bool| {
        let script = Script::real(102)
            .send("old_man_01_tom", "chunk-1", 1)
            .send("old_man_01_tom", "chunk-2", 1)
            .tell(end("chunk-1", true))
            .tell(end("chunk-2", !others))
            .finished(Outcome::Interrupted, None);
        let log = log(script);
        let lines = log.lines().skip_while(|line| !line.starts_with("calls"));
        lines
            .take_while(|line| !line.starts_with("time"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    insta::assert_snapshot!(told(false), @r"
    calls     2: 2 abandoned
              2 calls can still be fetched, which the next run does
    ");
    insta::assert_snapshot!(told(true), @r"
    calls     2: 2 abandoned
              1 call can still be fetched, which the next run does
              abandoned calls may have been billed
    ");
}

#[test]
fn interrupted_twice() {
    let script = Script::real(102)
        .written("young_couple_01_daniel_mary")
        .send("old_man_01_tom", "chunk-1", 1)
        .send("old_man_01_tom", "chunk-2", 1)
        .tell(Event::Stopping(Stop::Drain))
        .wait(3.0)
        .tell(Event::Stopping(Stop::Abort))
        .end("old_man_01_tom", "chunk-1", 1, CallOutcome::Abandoned)
        .end("old_man_01_tom", "chunk-2", 1, CallOutcome::Abandoned)
        .finished(Outcome::Interrupted, None);
    insta::assert_snapshot!(log(script), @"
    run 20261123-223015-4f2a: 102 personas, 816 nodes, api.openai.com/v1
    ✓ young_couple_01_daniel_mary   8 calls   12,320 tokens  $0.0019   12.0s
    ! stopping: waiting for 2 calls in flight; Ctrl+C again drops them
    ! stopping now: dropping 2 calls in flight, which may be billed

    personas  102: 1 written, 101 left
    nodes     816: 8 called, 808 left
    calls     10: 8 ok, 2 abandoned
              abandoned calls may have been billed
    time      15.0s

    tokens    input          9,600
                cached       4,800  50 %
              output         2,720
                reasoning      320
              total         12,320

    cost      $0.0019
    saved     $0.0004 by the provider's cache
              $0.00 by septet's cache

    interrupted: 1 of 102 personas up to date, 101 left
    hint: `septet run` goes on from here; what was paid for is stored and not paid twice
    ");
}

fn wrong_key() -> Script {
    let fault = Fault {
        http_status: Some(401),
        ..Fault::new(FaultKind::Authentication, "incorrect API key provided")
    };
    let cause = Failure::from(&fault);
    Script::real(102)
        .send("old_man_01_tom", "chunk-1", 1)
        .wait(0.3)
        .end("old_man_01_tom", "chunk-1", 1, CallOutcome::Faulted(fault))
        .finished(Outcome::Fatal, Some(cause))
}

#[test]
fn fatal() {
    insta::assert_snapshot!(log(wrong_key()), @"
    run 20261123-223015-4f2a: 102 personas, 816 nodes, api.openai.com/v1

    personas  102: 102 left
    nodes     816: 816 left
    calls     1: 1 faulted
    time      0.3s

    cost      $0.00
    saved     $0.00 by the provider's cache
              $0.00 by septet's cache

    stopped early: 0 of 102 personas up to date, 102 left
    error: incorrect API key provided (HTTP 401)
    hint: check the key in the variable that `api_key_env` names
    hint: `septet run` goes on from here; what was paid for is stored and not paid twice
    ");
}

#[test]
fn stopped_at_the_first_failure() {
    let cause = Failure::from(&limited());
    let script = Script::real(3)
        .fails("farmer_01_bo", limited())
        .finished(Outcome::Partial, Some(cause));
    insta::assert_snapshot!(log(script), @"
    run 20261123-223015-4f2a: 3 personas, 24 nodes, api.openai.com/v1
    ✗ farmer_01_bo                 chunk-3: rate limit reached: limit 500, used 500, requested 1 (HTTP 429)

    personas  3: 1 failed, 2 left
    nodes     24: 6 called, 1 failed, 1 skipped, 16 left
    calls     7: 6 ok, 1 faulted
    time      9.0s

    tokens    input          7,200
                cached       3,600  50 %
              output         2,040
                reasoning      240
              total          9,240

    cost      $0.0014
    saved     $0.0003 by the provider's cache
              $0.00 by septet's cache

    failures
      1 x rate_limited (HTTP 429): farmer_01_bo/chunk-3
          rate limit reached: limit 500, used 500, requested 1
          hint: look at what the account may use; `--workers` and `--rpm` ask for less at once

    stopped at a failure: 0 of 3 personas up to date, 1 failed, 2 left
    error: farmer_01_bo/chunk-3: rate limit reached: limit 500, used 500, requested 1 (HTTP 429)
    hint: look at what the account may use; `--workers` and `--rpm` ask for less at once
    hint: `septet run` goes on from here, and without `--fail-fast` past failures; what was paid for is stored and not paid twice
    ");
}

#[test]
fn what_fail_fast_stopped_at_is_named_though_its_persona_never_ended() {
    // The other chunks of the persona are not sent any more, so the persona itself has no line.
    let failure = Failure::from(&too_long());
    let script = Script::real(3)
        .send("farmer_01_bo", "chunk-3", 1)
        .end("farmer_01_bo", "chunk-3", 1, CallOutcome::Faulted(too_long()))
        .node(
            "farmer_01_bo",
            "chunk-3",
            NodeStatus::Failed,
            Some(failure.clone()),
        )
        .finished(Outcome::Partial, Some(failure));
    let text = quiet(script.clone());
    insta::assert_snapshot!(text, @"
    stopped at a failure: 0 of 3 personas up to date, 3 left
    error: farmer_01_bo/chunk-3: the prompt has 131072 tokens, the model takes 128000 (HTTP 400)
    hint: shorten the prompt or the persona, or choose a model with a longer context
    ");
    let text = log(script);
    let end = text.find("stopped at").expect("an ending");
    insta::assert_snapshot!(text[end..], @"
    stopped at a failure: 0 of 3 personas up to date, 3 left
    error: farmer_01_bo/chunk-3: the prompt has 131072 tokens, the model takes 128000 (HTTP 400)
    hint: shorten the prompt or the persona, or choose a model with a longer context
    hint: `septet run` goes on from here, and without `--fail-fast` past failures; what was paid for is stored and not paid twice
    ");
}

#[test]
fn all_cached() {
    let script = Script::real(2)
        .unchanged("farmer_01_bo")
        .unchanged("farmer_02_ingrid");
    insta::assert_snapshot!(log(script.finished(Outcome::Complete, None)), @"
    run 20261123-223015-4f2a: 2 personas, 16 nodes, api.openai.com/v1
    ○ farmer_01_bo                 unchanged
    ○ farmer_02_ingrid             unchanged

    personas  2: 2 unchanged
    nodes     16: 16 cached
    calls     0
    time      0.0s

    cost      $0.00
    saved     $0.0032 by septet's cache

    complete: 2 of 2 personas up to date
    ");
}

#[test]
fn a_price_is_missing() {
    let script = Script::real(2)
        .unpriced()
        .written("farmer_01_bo")
        .written("farmer_02_ingrid");
    insta::assert_snapshot!(log(script.finished(Outcome::Complete, None)), @"
    run 20261123-223015-4f2a: 2 personas, 16 nodes, api.openai.com/v1
    ✓ farmer_01_bo                  8 calls   12,320 tokens  unknown   12.0s
    ✓ farmer_02_ingrid              8 calls   12,320 tokens  unknown   12.0s

    personas  2: 2 written
    nodes     16: 16 called
    calls     16: 16 ok
    time      24.0s

    tokens    input         19,200
                cached       9,600  50 %
              output         5,440
                reasoning      640
              total         24,640

    cost      unknown: a model that was called has no price in `pipeline.toml`
    saved     unknown by the provider's cache
              $0.00 by septet's cache

    complete: 2 of 2 personas up to date
    ");
}

#[test]
fn some_of_it_was_paid_at_hours_with_a_price_of_their_own() {
    let script = Script::real(3)
        .written("farmer_01_bo")
        .at_hours("mon-fri 01:00-04:00, 06:00-10:00 UTC")
        .written("farmer_02_ingrid")
        .at_hours("sat-sun UTC")
        .written("farmer_03_sven");
    insta::assert_snapshot!(log(script.finished(Outcome::Complete, None)), @"
    run 20261123-223015-4f2a: 3 personas, 24 nodes, api.openai.com/v1
    ✓ farmer_01_bo                  8 calls   12,320 tokens  $0.0019   12.0s
    ✓ farmer_02_ingrid              8 calls   12,320 tokens  $0.0019   12.0s
    ✓ farmer_03_sven                8 calls   12,320 tokens  $0.0019   12.0s

    personas  3: 3 written
    nodes     24: 24 called
    calls     24: 24 ok
    time      36.0s

    tokens    input         28,800
                cached      14,400  50 %
              output         8,160
                reasoning      960
              total         36,960

    cost      $0.0057
              $0.0019 of it for 8 answers of gpt-6-luna at mon-fri 01:00-04:00, 06:00-10:00 UTC
              $0.0019 of it for 8 answers of gpt-6-luna at sat-sun UTC
    saved     $0.0013 by the provider's cache
              $0.00 by septet's cache

    complete: 3 of 3 personas up to date
    ");
}

#[test]
fn the_providers_cache_cost_more_than_it_saved() {
    let usage = Usage {
        input: 20_000_000,
        cache_write: Some(20_000_000),
        output: 3_000_000_000,
        estimated: true,
        ..Usage::default()
    };
    let script = Script::real(1).usage(usage).called("farmer_01_bo", "chunk-1");
    insta::assert_snapshot!(log(script.finished(Outcome::Interrupted, None)), @"
    run 20261123-223015-4f2a: 1 persona, 8 nodes, api.openai.com/v1

    personas  1: 1 left
    nodes     8: 1 called, 7 left
    calls     1: 1 ok
    time      1.5s

    tokens    input           20,000,000
                cached                 0
                written       20,000,000 100 %
              output       3,000,000,000
                reasoning              0
              total        3,020,000,000
              partly estimated: the provider did not count them all

    cost      $1,502.50
    saved     -$0.5000 by the provider's cache: writing to it cost more than reading saved
              $0.00 by septet's cache

    interrupted: 0 of 1 persona up to date, 1 left
    hint: `septet run` goes on from here; what was paid for is stored and not paid twice
    ");
}

#[test]
fn a_transcript_that_was_edited_by_hand_is_kept() {
    let script = Script::real(2)
        .works("farmer_01_bo", 7)
        .persona("farmer_01_bo", PersonaStatus::Kept, None)
        .unchanged("farmer_02_ingrid")
        .finished(Outcome::Complete, None);
    insta::assert_snapshot!(log(script), @"
    run 20261123-223015-4f2a: 2 personas, 16 nodes, api.openai.com/v1
    ≠ farmer_01_bo                 kept: edited by hand (`--overwrite`); new text: transcripts/farmer_01_bo.new.md
    ○ farmer_02_ingrid             unchanged

    personas  2: 1 unchanged, 1 kept
    nodes     16: 1 called, 15 cached
    calls     1: 1 ok
    time      1.5s

    tokens    input          1,200
                cached         600  50 %
              output           340
                reasoning       40
              total          1,540

    cost      $0.0002
    saved     $0.0001 by the provider's cache
              $0.0030 by septet's cache

    complete: 1 of 2 personas up to date, 1 kept as edited by hand
    hint: `septet run --overwrite` replaces transcripts that were edited by hand
    ");
}

#[test]
fn outages_and_warnings_are_told() {
    let script = Script::real(2)
        .tell(Event::OutageBegan {
            cause: "connection refused".to_owned(),
        })
        .tell(Event::OutageEnded {
            lasted: Duration::from_secs(723),
        })
        .tell(Event::OutputLimitReserved {
            model: "gpt-6-luna".into(),
            seen: Some(Reckoned {
                instance: Instance::new("farmer_01_bo", "chunk-1"),
                by_server: 5_365,
                by_septet: 1_625,
            }),
        })
        // As an earlier run saw it: nothing new.
        .tell(Event::OutputLimitReserved {
            model: "gpt-6-luna".into(),
            seen: None,
        })
        .tell(Event::Warning {
            message: "farmer_01_bo/chunk-1: stored answer is damaged".to_owned(),
        });
    insta::assert_snapshot!(log(script), @"
    run 20261123-223015-4f2a: 2 personas, 16 nodes, api.openai.com/v1
    ! the provider does not answer (connection refused): waiting, probing with one call
    ! the provider answers again after 12m 03s
    ! `gpt-6-luna`: a call's whole `max_output_tokens` count in its tokens per minute until it is answered (farmer_01_bo/chunk-1: 5,365 tokens); keeping to that
    warning: farmer_01_bo/chunk-1: stored answer is damaged
    ");
}

#[test]
fn quiet_tells_only_what_is_not_well() {
    assert_eq!(quiet(complete(Script::new(8))), "");
    let script = Script::real(3)
        .written("farmer_01_bo")
        .works("farmer_02_ingrid", 8)
        .persona("farmer_02_ingrid", PersonaStatus::Kept, None)
        .fails("farmer_03_tom", limited())
        .finished(Outcome::Partial, None);
    insta::assert_snapshot!(quiet(script), @"
    ≠ farmer_02_ingrid             kept: edited by hand (`--overwrite`); new text: transcripts/farmer_02_ingrid.new.md
    ✗ farmer_03_tom                chunk-3: rate limit reached: limit 500, used 500, requested 1 (HTTP 429)
    partial: 1 of 3 personas up to date, 1 kept as edited by hand, 1 failed
    ");
    insta::assert_snapshot!(quiet(wrong_key()), @"
    stopped early: 0 of 102 personas up to date, 102 left
    error: incorrect API key provided (HTTP 401)
    hint: check the key in the variable that `api_key_env` names
    ");
}

#[test]
fn names_and_messages_do_not_reach_the_terminal_as_commands() {
    let hostile = "\x1b[2Jgone\r\n\u{9b}1A\u{202e}";
    let fault = Fault::new(FaultKind::BadRequest, hostile);
    let script = Script::real(1)
        .fails(hostile, fault.clone())
        .tell(Event::Warning {
            message: hostile.to_owned(),
        })
        .tell(Event::OutageBegan {
            cause: hostile.to_owned(),
        })
        .finished(Outcome::Fatal, Some(Failure::from(&fault)));
    let text = log(script);
    let obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!text.contains(obeyed), "{text:?}");
    assert!(text.contains("✗ ␛[2Jgone"), "{text}");
}

#[test]
fn lines_fit_a_terminal_of_80_columns() {
    let long = Fault {
        http_status: Some(400),
        ..Fault::new(FaultKind::BadRequest, "a very long explanation ".repeat(20))
    };
    let script = Script::new(4)
        .written("young_couple_01_daniel_mary")
        .works("young_couple_02_li_wei", 6)
        .persona("young_couple_02_li_wei", PersonaStatus::Unchanged, None)
        .works("young_couple_03_bo", 6)
        .persona("young_couple_03_bo", PersonaStatus::Kept, None)
        .fails("young_couple_04_bo", long);
    let mut tally = crate::events::Tally::default();
    let mut text = String::new();
    for stamped in script.events() {
        tally.apply(&stamped);
        if let Some(line) = wording::line(&stamped.event, &tally, PLAIN, Some(80)) {
            assert!(crate::report::style::width(&line.text) <= 80, "{}", line.text);
            text.push_str(&line.text);
            text.push('\n');
        }
    }
    insta::assert_snapshot!(text, @"
    run 20261123-223015-4f2a: 4 personas, 32 nodes, simulator (simulated)
    ✓ young_couple_01_daniel_mary   8 calls   12,320 tokens  $0.0019   12.0s
    ○ young_couple_02_li_wei       unchanged   2 calls    3,080 tokens  $0.0005
    ≠ young_couple_03_bo           kept: edited by hand (`--overwrite`)
    ✗ young_couple_04_bo           chunk-3: a very long explanation a ve… (HTTP 400)
    ");
}

#[test]
fn the_mark_has_the_colour() {
    let out = Written::default();
    let palette = Palette { color: true };
    let script = Script::real(1).written("farmer").fails("nurse", limited());
    report(
        script.events(),
        vec![Box::new(Lines::new(Box::new(out.clone()), palette, false))],
    );
    let text = out.text();
    assert!(
        text.contains("\x1b[32m✓\x1b[0m farmer") && text.contains("\x1b[31m✗\x1b[0m nurse"),
        "{text:?}"
    );
}

/// The last node that is left and fails is no outage, and is tried for hours.
#[test]
fn faults_in_a_row_are_told_now_and_then() {
    let refused = || Fault::new(FaultKind::Connection, "connection refused");
    let script = (1..=60).fold(Script::real(1).works("farmer", 7), |script, attempt| {
        script.send("farmer", "combine", attempt).wait(1.0).end(
            "farmer",
            "combine",
            attempt,
            CallOutcome::Faulted(refused()),
        )
    });
    let script = script.called("farmer", "combine");
    insta::assert_snapshot!(log(script), @"
    run 20261123-223015-4f2a: 1 persona, 8 nodes, api.openai.com/v1
    ! no answer for 5.0s, trying again: connection refused
    ! no answer for 20.0s, trying again: connection refused
    ");
}

fn used(name: &'static str, spent: f64, possibly: f64) -> Used {
    Used {
        limit: Limit {
            name,
            amount: Money::from_usd(0.0025),
            before: Money::ZERO,
            since_ms: None,
        },
        spent: Money::from_usd(spent),
        possibly: Money::from_usd(possibly),
    }
}

/// `may cost $0.0003, and $0.0003 is left` would be a riddle.
#[test]
fn what_does_not_fit_is_told_apart_from_what_is_left() {
    let script = Script::new(1)
        .tell(Event::BudgetReached {
            used: used("--budget", 0.002_23, 0.0),
            instance: Instance::new("old_man_02_jim", "chunk-2"),
            next: Money::from_usd(0.000_31),
        })
        .finished(Outcome::Budget, None);
    let text = log(script);
    let budget = text.lines().find(|line| line.starts_with("budget"));
    insta::assert_snapshot!(budget.unwrap(), @"budget: $0.0022 of $0.0025 (`--budget`) is spent; the next call, of old_man_02_jim/chunk-2, may cost $0.00031, and $0.00027 is left");
}

/// A larger `max_output_tokens` is no cure then, and the failure itself names those that are.
#[test]
fn an_answer_that_was_cut_off_before_the_limit() {
    let message = "answer cut off after 96 tokens, before `max_output_tokens` = 4000; shorten the prompt";
    let failure = Some(Failure {
        message: message.to_owned(),
        ..Failure::from(Rejection::Truncated)
    });
    let script = Script::real(1)
        .node("farmer", "chunk-1", NodeStatus::Failed, failure.clone())
        .persona("farmer", PersonaStatus::Failed, failure)
        .finished(Outcome::Partial, None);
    let text = log(script);
    let hints: Vec<_> = text.lines().filter(|line| line.contains("hint:")).collect();
    insta::assert_snapshot!(hints.join("\n"), @"
          hint: at this limit only `--refresh` asks again
    hint: `septet run` calls what was cut off again once `max_output_tokens` is larger
    ");
}

fn out_of_money(name: &'static str, possibly: f64) -> Script {
    let next = Money::from_usd(0.00031);
    Script::new(3)
        .written("old_man_01_tom")
        .tell(Event::BudgetLow(used(name, 0.0021, 0.0)))
        .send("old_man_02_jim", "chunk-1", 1)
        .tell(Event::BudgetReached {
            used: used(name, 0.0023, possibly),
            instance: Instance::new("old_man_02_jim", "chunk-2"),
            next,
        })
        .end("old_man_02_jim", "chunk-1", 1, CallOutcome::Abandoned)
        .finished(Outcome::Budget, None)
}

#[test]
fn a_budget_that_is_used_up() {
    insta::assert_snapshot!(log(out_of_money("--budget", 0.0002)), @"
    run 20261123-223015-4f2a: 3 personas, 24 nodes, simulator (simulated)
    ✓ old_man_01_tom                8 calls   12,320 tokens  $0.0019   12.0s  (simulated)
    warning: 84 % of the budget is spent: $0.0021 of $0.0025 (`--budget`)
    ! the next call, of old_man_02_jim/chunk-2, does not fit into the budget: waiting for 1 call in flight

    personas  3: 1 written, 2 left
    nodes     24: 8 called, 16 left
    calls     9: 8 ok, 1 abandoned
              abandoned calls may have been billed
    time      12.0s

    tokens    input          9,600
                cached       4,800  50 %
              output         2,720
                reasoning      320
              total         12,320

    cost      $0.0019 (simulated)
    saved     $0.0004 (simulated) by the provider's cache
              $0.00 (simulated) by septet's cache

    stopped by the budget: 1 of 3 personas up to date, 2 left
    budget: $0.0023 of $0.0025 (`--budget`) is spent, of which $0.0002 for calls that may have been billed; the next call, of old_man_02_jim/chunk-2, may cost $0.0003, and $0.0002 is left
    hint: `septet run --budget 0.01` should do for the rest: a budget is for one run, and what was paid for is stored and not paid twice
    hint: `septet plan` says what the rest would cost
    ");
    let hints = |name| {
        let text = quiet(out_of_money(name, 0.0)) + &log(out_of_money(name, 0.0));
        let hint = |line: &&str| line.starts_with("hint") || line.starts_with("budget");
        text.lines().filter(hint).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(hints("limits.budget_usd_month"), @"
    budget: $0.0023 of $0.0025 (`limits.budget_usd_month`) is spent; the next call, of old_man_02_jim/chunk-2, may cost $0.0003, and $0.0002 is left
    budget: $0.0023 of $0.0025 (`limits.budget_usd_month`) is spent; the next call, of old_man_02_jim/chunk-2, may cost $0.0003, and $0.0002 is left
    hint: `septet run` goes on from here next month, or once `budget_usd_month` in `[limits]` is raised to 0.01, which should do for the rest; what was paid for is stored and not paid twice
    hint: `septet plan` says what the rest would cost
    ");
    insta::assert_snapshot!(hints("limits.budget_usd_total"), @"
    budget: $0.0023 of $0.0025 (`limits.budget_usd_total`) is spent; the next call, of old_man_02_jim/chunk-2, may cost $0.0003, and $0.0002 is left
    budget: $0.0023 of $0.0025 (`limits.budget_usd_total`) is spent; the next call, of old_man_02_jim/chunk-2, may cost $0.0003, and $0.0002 is left
    hint: raise `budget_usd_total` in `[limits]` to 0.01, which should do for the rest; then `septet run` goes on from here; what was paid for is stored and not paid twice
    hint: `septet plan` says what the rest would cost
    ");
}

fn seven() -> Moment {
    Moment {
        rfc3339: "2026-11-27T07:00:00+01:00".to_owned(),
        clock: "07:00".to_owned(),
    }
}

#[test]
fn hours_and_a_deadline() {
    let script = Script::new(3)
        .tell(Event::Waiting {
            until: Moment {
                clock: "23:00".to_owned(),
                ..seven()
            },
            wait: Duration::from_secs(4 * 3600 + 60),
        })
        .tell(Event::WaitingEnded)
        .written("old_man_01_tom")
        .send("old_man_02_jim", "chunk-1", 1)
        .tell(Event::DeadlineReached {
            until: seven(),
            opens: None,
        })
        .finished(Outcome::Deadline, None);
    let text = log(script);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with(' ') && !line.is_empty())
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    run 20261123-223015-4f2a: 3 personas, 24 nodes, simulator (simulated)
    ! outside `limits.hours`: waiting until 23:00 (4h 01m)
    ! `limits.hours` have begun: going on
    ✓ old_man_01_tom                8 calls   12,320 tokens  $0.0019   12.0s  (simulated)
    ! the time set by `--until` has come (07:00): waiting for 1 call in flight
    personas  3: 1 written, 2 left
    nodes     24: 8 called, 16 left
    calls     9: 8 ok, 1 abandoned
    time      12.0s
    tokens    input          9,600
    cost      $0.0019 (simulated)
    saved     $0.0004 (simulated) by the provider's cache
    stopped at 07:00: 1 of 3 personas up to date, 2 left
    hint: `septet run` goes on from here; what was paid for is stored and not paid twice
    ");
}
