//! Prices by the hour through the real binary. The hours are those of the whole week, so that the
//! test says the same at any time of day; borders, midnight and summer time are tested below it.

use serde_json::Value;

use crate::project::{Events, Project};

const NAME: &str = "mon-fri UTC";
const OTHER: &str = "sat-sun UTC";

/// At twice the usual price of output on all days, in two parts.
fn twice() -> Project {
    let when = |days: &str| format!("[[prices.\"gpt-6-luna\".when]]\ndays = \"{days}\"\noutput = 1.0\n\n");
    let prompts = format!("{}{}[prompts]", when("mon-fri"), when("sat-sun"));
    Project::small(2).with("[prompts]", &prompts)
}

fn is_name(name: &Value) -> bool {
    [NAME, OTHER].contains(&name.as_str().unwrap_or_default())
}

fn price(summary: &Value, output: f64) -> f64 {
    let tokens = |kind: &str| summary["tokens"][kind].as_f64().unwrap();
    let plain = tokens("input") - tokens("cached_input") - tokens("cache_write");
    let input = plain * 0.10 + tokens("cached_input") * 0.01 + tokens("cache_write") * 0.125;
    (input + tokens("output") * output) / 1e6
}

#[test]
fn what_hours_cost_is_planned_paid_and_told() {
    let project = twice();
    let checked = project.run(&["check"]).code(0).stdout;
    assert!(
        checked.contains("✓ prices of `gpt-6-luna` go by the hour: now those of "),
        "{checked}"
    );
    project.json(&["--max", "1"]).code(0);
    let planned = Events::of(&project.run(&["plan", "--json"]).code(0));
    let planned = planned.all.last().unwrap();
    let parts = planned["prices"][0]["parts"].as_array().unwrap();
    assert!(parts.iter().all(|part| is_name(&part["hours"])), "{parts:?}");
    assert_eq!(parts[0]["usd_per_million_tokens"]["output"], 1.0);
    assert_eq!(parts[0]["usd_per_million_tokens"]["cached_input"], 0.01);
    let text = project.run(&["plan"]).code(0).stdout;
    assert!(text.contains("prices    of gpt-6-luna: "), "{text}");

    let run = project.json(&["--budget", "1"]).code(0);
    let summary = run.summary();
    let cost = summary["cost_usd"].as_f64().unwrap();
    assert!((cost - price(summary, 1.0)).abs() < 1e-9, "{cost}");
    let likely = planned["cost_usd"].as_f64().unwrap();
    assert!(
        (likely / cost - 1.0).abs() < 0.15,
        "{likely} was planned of {cost}"
    );
    let ended = run.named("call_ended");
    assert!(ended.iter().all(|call| is_name(&call["hours"])), "{ended:?}");
    let by_hours = summary["cost_by_hours"].as_array().unwrap();
    let told: f64 = by_hours.iter().map(|at| at["cost_usd"].as_f64().unwrap()).sum();
    assert!((told - cost).abs() < 1e-9 && is_name(&by_hours[0]["hours"]));

    let kept = Events::of(&project.run(&["runs", "last", "--json"]).code(0));
    assert_eq!(
        kept.all[0]["models"][0]["cost_by_hours"][0]["hours"],
        by_hours[0]["hours"]
    );
    let text = project.run(&["runs", "last"]).code(0).stdout;
    assert!(text.contains(" of it for 3 answers of gpt-6-luna at "), "{text}");
    let shown = Events::of(&project.run(&["show", "p01/combine", "--json"]).code(0));
    assert!(is_name(&shown.all[0]["price_hours"]), "{:?}", shown.all);
}

/// What was paid stays what it was when the table changes, and is not said to be today's price.
#[test]
fn an_answer_keeps_what_it_cost_when_its_price_was_another() {
    let project = twice();
    project.json(&[]).code(0);
    let cost = |project: &Project| {
        let shown = Events::of(&project.run(&["show", "p01/combine", "--json"]).code(0));
        (
            shown.all[0]["answer"]["cost_usd"].clone(),
            shown.all[0]["price_hours"].is_string(),
        )
    };
    let (paid, at_hours) = cost(&project);
    assert!(at_hours);
    let text = project
        .read("pipeline.toml")
        .replace("output = 1.0", "output = 2.0");
    project.write("pipeline.toml", text);
    assert_eq!(cost(&project), (paid, false));
    assert_eq!(
        project.json(&[]).code(0).figure("calls.sent"),
        0,
        "prices are no part of the key"
    );
}

/// Hours that open in two to three hours, and a deadline in one: nothing is waited for, and what is
/// said is the same in `plan` and `run`.
#[test]
fn a_deadline_before_the_hours_open_leaves_what_has_to_be_called() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let hour = now.unwrap().as_secs() / 3600 % 24;
    let opens = format!("{:02}:00", (hour + 3) % 24);
    let hours = format!("[limits]\nhours = \"{opens}-{:02}:00\"", (hour + 4) % 24);
    let project = Project::small(5).variable("TZ", "UTC");
    project.json(&["--max", "2"]).code(0);
    let project = project.with("[limits]", &hours);
    project.edit("prompts/combine.md", "Join", "Put together");
    let told = project.run(&["plan", "--until", "1h"]).code(0).stdout;
    let about = |label: &str| told.lines().any(|line| line.starts_with(label));
    assert!(about("until") && !about("ends") && !about("sleeps"), "{told}");
    let text = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("comes before `limits.hours` open"), "{text}");
    assert!(
        text.contains(&format!("{opens}: none of 11 calls would be sent")),
        "{text}"
    );
    for _ in 0..3 {
        let run = project.json(&["--until", "1h"]).code(3);
        assert_eq!(run.summary()["outcome"], "deadline");
        assert_eq!(run.figure("nodes.cached"), 4, "what is there is found, each time");
        assert_eq!(run.figure("nodes.pending"), 11);
        let reached = run.named("deadline_reached");
        assert!(
            reached[0]["opens"].as_str().unwrap().contains(&opens),
            "{reached:?}"
        );
    }
    let told = project.run(&["run", "--until", "1h"]).code(3).stderr;
    let text = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("stopped by `--until`: 0 of 5 personas up to date, 5 left"),
        "{text}"
    );
    assert!(
        text.contains(&format!(
            "`limits.hours` open at {opens}, after the time set by `--until`"
        )),
        "{text}"
    );
}
