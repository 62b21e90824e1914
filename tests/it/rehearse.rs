//! `septet rehearse` beside the plan and the run that it foresees, and what people and programs read
//! of it.

use serde_json::Value;

use crate::project::{Events, Project, Ran, Server, settled};

const DOCS: &str = include_str!("../../docs/json.md");

#[track_caller]
fn rehearsed(project: &Project, args: &[&str]) -> Value {
    let args: Vec<&str> = ["rehearse", "--json"].iter().chain(args).copied().collect();
    let mut told = Events::of(&project.run(&args).code(0)).all;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["event"], "rehearsal_finished");
    told.remove(0)
}

#[track_caller]
fn figure(value: &Value, path: &str) -> f64 {
    let found = path.split('.').fold(value, |value, name| &value[name]);
    found.as_f64().unwrap_or_else(|| panic!("{path} is {found}"))
}

#[track_caller]
fn near(what: &str, foreseen: f64, real: f64, off: f64) {
    assert!(
        (foreseen / real - 1.0).abs() <= off,
        "{what}: {foreseen} for {real}"
    );
}

/// As `run` has it: where nodes fail, `--fail-fast` ends the night at the first of them.
#[test]
fn a_night_that_fails_fast_ends_at_the_first_failure() {
    let server = Server::start(&["--fault", "filtered=0.3"]);
    let project = Project::small(40)
        .at(&server.url)
        .with("concurrency = 16", "concurrency = 2");
    project.json(&[]).code(1);
    let sent = |args: &[&str]| figure(&rehearsed(&project, args), "calls.sent.likely");
    let (all, fast) = (
        sent(&["--refresh", "*"]),
        sent(&["--refresh", "*", "--fail-fast"]),
    );
    assert!(fast < all / 2.0, "{fast} of {all}");
}

#[test]
fn where_there_is_nothing_to_rehearse_nothing_is_drawn() {
    let project = Project::small(1);
    project.json(&[]).code(0);
    let told = project.run(&["rehearse", "--svg", "night.svg"]).code(0);
    assert!(!told.stdout.contains("drawn"), "{}", told.stdout);
    assert!(!project.path("night.svg").exists());
    let told = project
        .run(&["rehearse", "--svg", "night.svg", "--refresh", "*"])
        .code(0);
    assert!(told.stdout.contains("drawn"), "{}", told.stdout);
    let drawn = std::fs::read_to_string(project.path("night.svg")).unwrap();
    assert!(drawn.contains("<svg"), "{drawn}");
}

/// The model's faults depend on the requests alone, so the counts are the same each time.
#[test]
fn a_run_makes_the_calls_that_were_rehearsed() {
    let faults = [
        "server_error=0.05",
        "connection=0.03",
        "malformed=0.02",
        "empty=0.03",
    ];
    let mut args: Vec<&str> = faults.iter().flat_map(|fault| ["--fault", fault]).collect();
    args.extend(["--latency", "20ms", "--rpm", "9000"]);
    let server = Server::start(&args);
    // Enough calls in flight that the limit binds, however slow the machine is.
    let project = Project::small(120)
        .at(&server.url)
        .with("concurrency = 16", "concurrency = 64");
    let limits = ["--rpm", "6000"];
    project.json(&limits).code(0);
    project.edit("pipeline.toml", "Leaving", "Staying");
    project.edit("prompts/persona.md", "# ", "## About ");
    let foreseen = rehearsed(&project, &limits);
    let planned = Events::of(&project.run(&["plan", "--json", "--rpm", "6000"]).code(0));
    let planned = planned.all.last().unwrap().clone();
    let ran = project.json(&limits).code(0);
    let ran = ran.summary();
    let sent = figure(ran, "calls.sent");
    for kind in ["faulted", "rejected"] {
        let foreseen = figure(&foreseen, &format!("calls.{kind}.likely"));
        let real = figure(ran, &format!("calls.{kind}"));
        assert!(
            real > 0.0 && (foreseen - real).abs() <= 0.05 * sent,
            "{kind}: {foreseen} for {real}"
        );
    }
    // Plan and rehearsal foresee the same.
    for (what, path, beside, other, off) in [
        ("calls", "calls.sent.likely", ran, "calls.sent", 0.05),
        ("nodes", "called.likely", ran, "nodes.called", 0.0),
        ("dollars", "cost_usd.likely", ran, "cost_usd", 0.05),
        ("tokens", "tokens.output.likely", ran, "tokens.output", 0.05),
        ("planned time", "seconds.likely", &planned, "seconds", 0.1),
        ("planned dollars", "cost_usd.likely", &planned, "cost_usd", 0.05),
    ] {
        near(what, figure(&foreseen, path), figure(beside, other), off);
    }
    assert_eq!(foreseen["held_by"][0]["by"], "requests_per_minute");
    let twice = foreseen["others"].as_array().unwrap();
    let twice = twice.iter().find(|other| other["with"] == "--rpm 12000").unwrap();
    assert!(
        figure(twice, "seconds") < 0.7 * figure(&foreseen, "seconds.likely"),
        "{twice}"
    );
    assert_eq!(figure(twice, "called"), 360.0);
    let known = &foreseen["rests_on"]["faults"][0];
    assert!(known["faulted"].as_u64() > Some(10), "{known}");
    let nights = foreseen["nights"].as_array().unwrap();
    assert_eq!(nights.len(), 5);
    assert!(
        nights.iter().any(|night| night["calls"] != nights[0]["calls"]),
        "{nights:?}"
    );
    // It paid nothing and left nothing behind.
    assert_eq!(figure(&rehearsed(&project, &[]), "nodes.call"), 0.0);
}

#[test]
fn every_field_is_in_the_docs() {
    let project = Project::small(4);
    let told = rehearsed(&project, &["--rpm", "60"]);
    fn names(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                found.push(name.clone());
                names(value, found);
            }),
            Value::Array(items) => items.iter().for_each(|item| names(item, found)),
            _ => {}
        }
    }
    let mut found = vec![told["event"].as_str().unwrap().to_owned()];
    names(&told, &mut found);
    for name in found {
        let there = DOCS.contains(&format!("\"{name}\"")) || DOCS.contains(&format!("`{name}`"));
        assert!(there, "docs/json.md does not tell of `{name}`");
    }
}

/// Without the time of day, and without the time that earlier calls took on this machine.
fn read(project: &Project, args: &[&str]) -> String {
    let args: Vec<&str> = ["rehearse"].iter().chain(args).copied().collect();
    project.run(&args).code(0).stdout
}

#[test]
fn what_people_read_without_history() {
    let project = Project::small(40).with("latency = \"0s\"", "latency = \"2s\"\njitter = 0.2");
    let mut settings = settled();
    // Seconds are told where it is over soon, and a range where it is not the same minute.
    settings.add_filter(r"(?m)^(ends +).*$", "$1[when]");
    settings.add_filter(r"\b\d\d:\d\d(:\d\d)?\b", "hh:mm");
    settings.bind(|| {
        insta::assert_snapshot!(read(&project, &["--rpm", "240"]), @"
        personas  40 of 40 have something to call
        calls     120 for 120 nodes
        cost      about $0.1382; $0.1330 to $0.1528 (simulated)
        time      about [s]; [s] to [s]
        ends      [when]
        held by   requests per minute 94 %, answers that others need 6 % of the time
        course    hh:mm requests per minute, for [s]
                  hh:mm answers that others need, for [s]
        with      `--rpm 480`: [s] instead of [s]
                  `--workers 8`: [s] instead of [s]
                  `--workers 32`: no difference
        rests on  no earlier answers: each may be as long as its limit allows; a token
                  for 4 characters of input; [s] a call (`simulator.latency`); any
                  length up to twice what is likely is taken to come as often as any
                  other; no faults: no earlier calls, assumed

        rehearsed 5 times with other chances; nothing was called
        ");
        let budget = read(&project, &["--budget", "0.05", "--seeds", "1"]);
        assert!(
            budget.contains("\nbudget    $0.0500 (`--budget`) ends it, with "),
            "{budget}"
        );
        assert!(budget.contains("`--budget 0.1`: "), "{budget}");
    });
}

#[test]
fn what_people_read_with_history() {
    let project = Project::small(40);
    project.json(&[]).code(0);
    project.edit("pipeline.toml", "Leaving", "Staying");
    let mut settings = settled();
    // What was answered first differs from time to time.
    settings.add_filter(r"\$0\.0\d{3}\b", "[usd]");
    // Seconds are told where it is over soon, and a range where it is not the same minute.
    settings.add_filter(r"(?m)^(ends +).*$", "$1[when]");
    settings.add_filter(r"\b\d\d:\d\d(:\d\d)?\b", "hh:mm");
    settings.bind(|| {
        insta::assert_snapshot!(read(&project, &["--rpm", "60", "--until", "1m"]), @"
        personas  40 of 40 have something to call
        calls     60 for 80 nodes
        cost      about [usd]; [usd] to [usd] (simulated)
        time      about 1m 00s
        ends      [when]
        until     hh:mm (`--until`) ends it, with 60 of 80 nodes called
        held by   requests per minute 100 % of the time
        with      `--rpm 120`: [s] instead of 1m 00s, 80 nodes called instead of 60,
                  [usd] instead of [usd]
                  `--workers 32`, `--workers 8`: no difference
        rests on  80 earlier answers; input as the server counted before; [s] a call as
                  before; lengths and times spread as they were; no faults: none of 120
                  earlier calls ended in one

        rehearsed 5 times with other chances; nothing was called
        ");
    });
}

#[test]
fn nothing_to_call_is_nothing_to_rehearse() {
    let project = Project::small(2);
    project.json(&[]).code(0);
    insta::assert_snapshot!(read(&project, &[]), @"
    personas  0 of 2 have something to call
    nothing to call: nothing to rehearse
    ");
    let told = rehearsed(&project, &[]);
    assert!(told["seconds"].is_null() && told["cost_usd"].is_null(), "{told}");
}

#[test]
fn a_night_that_is_drawn_is_a_picture() {
    let project = Project::small(40).with("latency = \"0s\"", "latency = \"2s\"");
    let args = ["--rpm", "240", "--svg", "night & day.svg"];
    let told = read(&project, &args);
    assert!(told.ends_with("drawn     night & day.svg\n"), "{told}");
    let svg = project.read("night & day.svg");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    // Each element is closed, and each text is one.
    let mut open: Vec<&str> = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').unwrap();
        assert!(!text.contains('&') || text.contains("&amp;"), "{text}");
        match (tag.strip_prefix('/'), tag.ends_with('/')) {
            (Some(name), _) => assert_eq!(open.pop(), Some(name)),
            (None, true) => {}
            (None, false) => open.push(tag.split(' ').next().unwrap()),
        }
    }
    assert!(open.is_empty(), "{open:?}");
    for told in [
        "nodes answered",
        "calls in flight",
        "calls sent a minute",
        "requests per minute ",
    ] {
        assert!(svg.contains(told), "{told}");
    }
    project.run(&["rehearse", "--svg", "nowhere/night.svg"]).code(3);
}

/// `-C DIR` is as if started there, for what is written too.
#[test]
fn a_picture_lies_where_dash_c_says() {
    let project = Project::small(1);
    std::fs::create_dir(project.path("elsewhere")).unwrap();
    let mut command = project.command(&["rehearse", "-C", "..", "--svg", "night.svg"]);
    command.current_dir(project.path("elsewhere"));
    Ran::of(command.output().unwrap(), &project).code(0);
    assert!(project.path("night.svg").is_file());
    assert!(project.names("elsewhere").is_empty());
}
