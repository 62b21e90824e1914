//! `--json` against `docs/json.md`.

use std::time::Duration;

use super::{Written, report};
use crate::budget::{Limit, Used};
use crate::call::{Fault, FaultKind, Money, Rejection};
use crate::events::{CallOutcome, Event, Failure, NodeStatus, Outcome, PersonaStatus, Reckoned, RunSummary};
use crate::hours::Moment;
use crate::names::{Instance, Stop};
use crate::report::json::Json;
use crate::report::script::Script;

const DOCS: &str = include_str!("../../../docs/json.md");

fn json(script: Script) -> String {
    let out = Written::default();
    report(script.events(), vec![Box::new(Json::new(Box::new(out.clone())))]);
    out.text()
}

fn seven() -> Moment {
    Moment {
        rfc3339: "2026-11-27T07:00:00+01:00".to_owned(),
        clock: "07:00".to_owned(),
    }
}

fn used(spent: f64) -> Used {
    Used {
        limit: Limit {
            name: "limits.budget_usd",
            amount: Money::from_usd(0.5),
            before: Money::ZERO,
            since_ms: None,
        },
        spent: Money::from_usd(spent),
        possibly: Money::from_usd(0.002),
    }
}

/// Every event there is.
fn everything() -> Script {
    let script = Script::real(2);
    let ok = script.ok();
    let limited = Fault {
        http_status: Some(429),
        ..Fault::new(FaultKind::RateLimited, "slow down")
    };
    let failure = Some(Failure::from(Rejection::Truncated));
    let rejected = match ok {
        CallOutcome::Ok {
            usage,
            cost,
            saved,
            hours,
        } => CallOutcome::Rejected {
            hours,
            rejection: Rejection::Truncated,
            usage,
            cost,
            saved,
        },
        _ => CallOutcome::Abandoned,
    };
    let cause = "slow down".to_owned();
    script
        .send("tom", "chunk-1", 1)
        .wait(0.25)
        .end("tom", "chunk-1", 1, CallOutcome::Faulted(limited))
        .tell(Event::Paused {
            pause: Duration::from_secs(2),
            until: seven(),
            model: None,
            cause: cause.clone(),
        })
        .tell(Event::Retrying {
            instance: crate::names::Instance::new("tom", "chunk-1"),
            cause: cause.clone(),
            pause: Duration::from_millis(1250),
        })
        .tell(Event::ConcurrencyChanged { concurrency: 3 })
        .tell(Event::OutputLimitReserved {
            model: "gpt-6-luna".into(),
            seen: Some(Reckoned {
                instance: Instance::new("tom", "chunk-1"),
                by_server: 5_365,
                by_septet: 1_625,
            }),
        })
        .called("tom", "chunk-1")
        .node("tom", "chunk-2", NodeStatus::Cached, None)
        .end("tom", "chunk-3", 1, rejected)
        .node("tom", "chunk-3", NodeStatus::Failed, failure.clone())
        .node("tom", "combine", NodeStatus::Skipped, None)
        .persona("tom", PersonaStatus::Failed, failure)
        .persona("bo", PersonaStatus::Kept, None)
        .tell(Event::OutageBegan { cause })
        .tell(Event::OutageEnded {
            lasted: Duration::from_secs(60),
        })
        .tell(Event::Warning {
            message: "look here".to_owned(),
        })
        .tell(Event::Waiting {
            until: seven(),
            wait: Duration::from_secs(3600),
        })
        .tell(Event::WaitingEnded)
        .tell(Event::DeadlineReached {
            until: seven(),
            opens: None,
        })
        .tell(Event::BudgetLow(used(0.42)))
        .tell(Event::BudgetReached {
            used: used(0.4995),
            instance: Instance::new("tom", "chunk-6"),
            next: Money::from_usd(0.001),
        })
        .tell(Event::Stopping(Stop::Drain))
        .end(
            "tom",
            "chunk-4",
            1,
            CallOutcome::Faulted(Fault::new(FaultKind::Timeout, "too slow")),
        )
        .tell(Event::Stopping(Stop::Abort))
        .end("tom", "chunk-5", 1, CallOutcome::Abandoned)
        .finished(
            Outcome::Fatal,
            Some(Failure::from(&Fault::new(FaultKind::NoCredit, "no credit"))),
        )
}

#[test]
fn every_event_is_one_object() {
    insta::assert_snapshot!(json(everything()), @r#"
    {"event":"run_started","run":"20261123-223015-4f2a","personas":2,"nodes":["chunk-1","chunk-2","chunk-3","chunk-4","chunk-5","chunk-6","chunk-7","combine"],"models":["gpt-6-luna","gpt-6-luna","gpt-6-luna","gpt-6-luna","gpt-6-luna","gpt-6-luna","gpt-6-luna","gpt-6-luna"],"concurrency":64,"requests_per_minute":500,"tokens_per_minute":null,"budget_usd":null,"until":null,"provider":"api.openai.com/v1","simulated":false}
    {"event":"call_started","persona":"tom","node":"chunk-1","attempt":1,"at_s":0.0}
    {"event":"call_ended","persona":"tom","node":"chunk-1","attempt":1,"outcome":"faulted","latency_s":1.5,"tokens":{"input":0,"output":0,"reasoning":0,"cached_input":0,"cache_write":0,"total":0},"cost_usd":0.0,"error":{"kind":"rate_limited","message":"slow down","http_status":429},"at_s":0.25}
    {"event":"paused","cause":"slow down","until":"2026-11-27T07:00:00+01:00","pause_s":2.0,"at_s":0.25}
    {"event":"retrying","persona":"tom","node":"chunk-1","cause":"slow down","pause_s":1.25,"at_s":0.25}
    {"event":"concurrency_changed","concurrency":3,"at_s":0.25}
    {"event":"output_limit_reserved","model":"gpt-6-luna","persona":"tom","node":"chunk-1","reckoned":5365,"reserved":1625,"at_s":0.25}
    {"event":"call_started","persona":"tom","node":"chunk-1","attempt":1,"at_s":0.25}
    {"event":"call_ended","persona":"tom","node":"chunk-1","attempt":1,"outcome":"ok","latency_s":1.5,"tokens":{"input":1200,"output":340,"reasoning":40,"cached_input":600,"cache_write":0,"total":1540},"cost_usd":0.000236,"error":null,"at_s":1.75}
    {"event":"node_finished","persona":"tom","node":"chunk-1","status":"called","attempts":1,"tokens":{"input":1200,"output":340,"reasoning":40,"cached_input":600,"cache_write":0,"total":1540},"cost_usd":0.000236,"error":null}
    {"event":"node_finished","persona":"tom","node":"chunk-2","status":"cached","attempts":0,"tokens":{"input":0,"output":0,"reasoning":0,"cached_input":0,"cache_write":0,"total":0},"cost_usd":0.0,"error":null}
    {"event":"call_ended","persona":"tom","node":"chunk-3","attempt":1,"outcome":"rejected","latency_s":1.5,"tokens":{"input":1200,"output":340,"reasoning":40,"cached_input":600,"cache_write":0,"total":1540},"cost_usd":0.000236,"error":{"kind":"truncated","message":"answer cut off at the output limit","http_status":null},"at_s":1.75}
    {"event":"node_finished","persona":"tom","node":"chunk-3","status":"failed","attempts":0,"tokens":{"input":0,"output":0,"reasoning":0,"cached_input":0,"cache_write":0,"total":0},"cost_usd":0.0,"error":{"kind":"truncated","message":"answer cut off at the output limit","http_status":null}}
    {"event":"node_finished","persona":"tom","node":"combine","status":"skipped","attempts":0,"tokens":{"input":0,"output":0,"reasoning":0,"cached_input":0,"cache_write":0,"total":0},"cost_usd":0.0,"error":null}
    {"event":"persona_finished","persona":"tom","status":"failed","error":{"kind":"truncated","message":"answer cut off at the output limit","http_status":null}}
    {"event":"persona_finished","persona":"bo","status":"kept","error":null}
    {"event":"outage_began","cause":"slow down","at_s":1.75}
    {"event":"outage_ended","lasted_s":60.0,"at_s":1.75}
    {"event":"warning","message":"look here","at_s":1.75}
    {"event":"waiting","cause":"hours","until":"2026-11-27T07:00:00+01:00","wait_s":3600.0,"at_s":1.75}
    {"event":"waiting_ended","at_s":1.75}
    {"event":"deadline_reached","until":"2026-11-27T07:00:00+01:00","opens":null,"at_s":1.75}
    {"event":"budget_low","limit":"limits.budget_usd","budget_usd":0.5,"spent_usd":0.42,"maybe_billed_usd":0.002,"at_s":1.75}
    {"event":"budget_reached","limit":"limits.budget_usd","budget_usd":0.5,"spent_usd":0.4995,"maybe_billed_usd":0.002,"left_usd":0.0005,"persona":"tom","node":"chunk-6","next_usd":0.001,"at_s":1.75}
    {"event":"stopping","level":"drain","at_s":1.75}
    {"event":"call_ended","persona":"tom","node":"chunk-4","attempt":1,"outcome":"abandoned","latency_s":1.5,"tokens":{"input":0,"output":0,"reasoning":0,"cached_input":0,"cache_write":0,"total":0},"cost_usd":0.0,"error":{"kind":"timeout","message":"too slow","http_status":null},"at_s":1.75}
    {"event":"stopping","level":"abort","at_s":1.75}
    {"event":"call_ended","persona":"tom","node":"chunk-5","attempt":1,"outcome":"abandoned","latency_s":1.5,"tokens":{"input":0,"output":0,"reasoning":0,"cached_input":0,"cache_write":0,"total":0},"cost_usd":0.0,"error":null,"at_s":1.75}
    {"event":"run_stopped","error":{"kind":"no_credit","message":"no credit","http_status":null},"at_s":1.75}
    {"event":"run_finished","run":"20261123-223015-4f2a","outcome":"fatal","personas":{"total":2,"written":0,"unchanged":0,"kept":1,"failed":1,"pending":0},"nodes":{"total":16,"called":1,"cached":1,"failed":1,"skipped":1,"pending":12},"calls":{"sent":5,"ok":1,"rejected":1,"faulted":1,"abandoned":2},"tokens":{"input":2400,"output":680,"reasoning":80,"cached_input":1200,"cache_write":0,"total":3080},"cost_usd":0.000472,"saved_usd":{"provider_cache":0.000108,"septet_cache":0.0002},"elapsed_s":1.75,"prompt_cache":{"read_share":0.5,"write_share":0.0},"failures":[{"kind":"truncated","http_status":null,"nodes":1,"personas":1,"example":{"persona":"tom","node":"chunk-3","message":"answer cut off at the output limit"}}]}
    "#);
}

fn in_docs(word: &str) -> bool {
    DOCS.contains(&format!("`{word}`")) || DOCS.contains(&format!("\"{word}\""))
}

#[test]
fn every_event_and_kind_is_in_the_docs() {
    let text = json(everything());
    for line in text.lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = object["event"].as_str().unwrap();
        assert!(in_docs(name), "docs/json.md does not tell of `{name}`");
        for field in object.as_object().unwrap().keys() {
            assert!(in_docs(field), "docs/json.md does not tell of `{name}.{field}`");
        }
    }
    // serde lists all variants when it meets one that it does not know.
    let faults = serde_json::from_str::<FaultKind>("\"?\"")
        .unwrap_err()
        .to_string();
    let rejections = serde_json::from_str::<Rejection>("\"?\"")
        .unwrap_err()
        .to_string();
    let listed = faults
        .split('`')
        .chain(rejections.split('`'))
        .filter(|word| !word.contains([' ', '?']));
    let kinds: Vec<_> = listed
        .filter(|word| !word.is_empty())
        .chain(Failure::OTHER_KINDS)
        .collect();
    assert_eq!(kinds.len(), 18 + 10 + Failure::OTHER_KINDS.len(), "{kinds:?}");
    for kind in kinds {
        assert!(
            DOCS.contains(&format!("\n| `{kind}` |")),
            "docs/json.md does not list the kind `{kind}`"
        );
    }
}

#[test]
fn every_end_prints_the_summary_last() {
    for outcome in [
        Outcome::Complete,
        Outcome::Partial,
        Outcome::Deadline,
        Outcome::Budget,
        Outcome::Fatal,
        Outcome::Interrupted,
    ] {
        let text = json(Script::new(1).written("tom").finished(outcome, None));
        let summary: RunSummary = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(
            (summary.event.as_str(), summary.outcome),
            ("run_finished", outcome)
        );
        assert!(!text.contains("run_stopped"));
    }
}

#[test]
fn unknown_costs_are_null() {
    let text = json(
        Script::real(1)
            .unpriced()
            .written("tom")
            .finished(Outcome::Complete, None),
    );
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert!(last["cost_usd"].is_null() && last["saved_usd"].is_null());
}

#[test]
fn a_cached_node_costs_nothing_whatever_the_prices_are() {
    let text = json(
        Script::real(1)
            .unpriced()
            .node("tom", "chunk-1", NodeStatus::Cached, None),
    );
    assert!(
        text.lines().last().unwrap().contains(r#""cost_usd":0.0"#),
        "{text}"
    );
}

#[test]
fn control_characters_are_escaped_and_keep_their_value() {
    let name = "\x1b[1m\u{9b}2J\x7f ü";
    let text = json(Script::real(1).persona(name, PersonaStatus::Written, None));
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    let object: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(object["persona"], name);
}
