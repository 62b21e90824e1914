//! `septet run --watch` through the binary: what an edit runs again, what it shows, and how it ends.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::project::{Project, Server};

/// Longer than anything here takes, however busy the machine is.
const LONG: Duration = Duration::from_secs(120);

/// A session whose events are read one by one; ended when it is dropped.
struct Watching {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Watching {
    fn start(project: &Project, args: &[&str]) -> Self {
        let args: Vec<&str> = ["run", "--watch"].iter().chain(args).copied().collect();
        let mut child = project.command(&args).spawn().unwrap();
        Self {
            lines: lines(child.stdout.take().unwrap()),
            errors: lines(child.stderr.take().unwrap()),
            child,
        }
    }

    fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(LONG) {
            Ok(line) => Some(line),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads on to an event, and returns all that came, it included.
    fn until(&self, event: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let line = self
                .line()
                .unwrap_or_else(|| panic!("ended before {event}: {events:#?}"));
            let value: Value = serde_json::from_str(&line).unwrap();
            let last = value["event"] == event;
            events.push(value);
            if last {
                return events;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for the end: the exit code and standard error.
    fn end(mut self) -> (Option<i32>, String) {
        while self.line().is_some() {}
        let errors: Vec<String> = self.errors.iter().collect();
        (self.child.wait().unwrap().code(), errors.join("\n"))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            _ = sender.send(line.unwrap());
        }
    });
    receiver
}

fn named<'a>(events: &'a [Value], event: &str) -> Vec<&'a Value> {
    events.iter().filter(|value| value["event"] == event).collect()
}

/// `PERSONA/NODE` of the nodes that were called, sorted.
fn called(events: &[Value]) -> Vec<String> {
    let finished = named(events, "node_finished").into_iter();
    let called = finished.filter(|node| node["status"] == "called");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut names: Vec<String> = called
        .map(|node| format!("{}/{}", text(&node["persona"]), text(&node["node"])))
        .collect();
    names.sort();
    names
}

#[test]
fn an_edit_runs_exactly_what_it_changes_and_shows_how_the_transcripts_differ() {
    let project = Project::small(3);
    let watching = Watching::start(&project, &["--json", "--max", "2"]);
    let first = watching.until("watching");
    assert_eq!(called(&first).len(), 6);
    assert!(
        named(&first, "transcript_changed").is_empty(),
        "there was none before"
    );
    assert_eq!(first.last().unwrap()["calls"], 6);
    assert_eq!(
        first.last().unwrap()["files"],
        7,
        "the pipeline, four templates, two personas"
    );

    // The pipeline: one node and what needs it.
    project.edit("pipeline.toml", "Leaving", "Staying");
    let second = watching.until("watching");
    assert_eq!(
        named(&second, "edited")[0]["files"],
        serde_json::json!(["pipeline.toml"])
    );
    assert_eq!(
        called(&second),
        ["p00/chunk-2", "p00/combine", "p01/chunk-2", "p01/combine"]
    );
    let changed = named(&second, "transcript_changed");
    assert_eq!(changed.len(), 2);
    assert_eq!(changed[0]["path"], "transcripts/p00.md");
    let diff = changed[0]["diff"].as_str().unwrap();
    assert!(
        diff.starts_with("--- transcripts/p00.md\n+++ transcripts/p00.md\n@@ "),
        "{diff}"
    );
    let session = second.last().unwrap();
    assert_eq!((&session["runs"], &session["calls"]), (&2.into(), &10.into()));
    let costs: f64 = [&first, &second]
        .map(|events| named(events, "run_finished")[0]["cost_usd"].as_f64().unwrap())
        .iter()
        .sum();
    assert!((session["cost_usd"].as_f64().unwrap() - costs).abs() < 1e-9);

    // A persona, saved as editors do: written beside it and renamed into place.
    project.write("personas/p01/profile.md~", "Somebody else.\n");
    std::fs::rename(
        project.path("personas/p01/profile.md~"),
        project.path("personas/p01/profile.md"),
    )
    .unwrap();
    let third = watching.until("watching");
    assert_eq!(called(&third), ["p01/chunk-1", "p01/chunk-2", "p01/combine"]);

    // A prompt.
    project.edit("prompts/combine.md", "Join", "Put together");
    assert_eq!(
        called(&watching.until("watching")),
        ["p00/combine", "p01/combine"]
    );

    // A persona that is not among those chosen, and a file that says the same, are no edits: the
    // next one is told alone.
    project.write("personas/p02/profile.md", "Nobody looks.\n");
    project.write("prompts/system.md", project.read("prompts/system.md"));
    project.edit("prompts/combine.md", "Put together", "Join");
    let last = watching.until("watching");
    assert_eq!(
        named(&last, "edited")[0]["files"],
        serde_json::json!(["prompts/combine.md"])
    );
    assert_eq!(called(&last), Vec::<String>::new(), "the older answers are there");
    assert_eq!(
        named(&last, "transcript_changed").len(),
        2,
        "and become the transcripts again"
    );
    watching.signal(Signal::SIGINT);
    assert_eq!(watching.end().0, Some(0), "nothing was interrupted");
    assert_eq!(project.json(&["--max", "2"]).code(0).figure("calls.sent"), 0);
}

#[test]
fn an_edit_that_cannot_be_read_is_told_and_the_session_goes_on() {
    let project = Project::small(1);
    let watching = Watching::start(&project, &["--json"]);
    watching.until("watching");
    project.edit("pipeline.toml", "[model]", "[modell]");
    let refused = watching.until("watching");
    let message = named(&refused, "edit_refused")[0]["message"].as_str().unwrap();
    assert!(
        message.contains("modell") && message.contains("pipeline.toml:"),
        "{message}"
    );
    assert!(named(&refused, "run_started").is_empty());
    // Another mistake: a template that is not there yet, in a folder that is not watched yet.
    project.edit("pipeline.toml", "[modell]", "[model]");
    assert_eq!(
        called(&watching.until("watching")),
        Vec::<String>::new(),
        "as it was"
    );
    project.edit("pipeline.toml", "prompts/combine.md", "more/join.md");
    watching.until("edit_refused");
    watching.until("watching");
    project.write(
        "more/join.md",
        "{% for need in needs %}{{ need.text }} and {% endfor %}",
    );
    assert_eq!(called(&watching.until("watching")), ["p00/combine"]);
    project.write("more/join.md", "{{ nobody }}");
    watching.until("edit_refused");
    watching.until("watching");
    watching.signal(Signal::SIGTERM);
    let (code, errors) = watching.end();
    assert_eq!(code, Some(2), "the last edit cannot be run");
    assert!(errors.contains("more/join.md:1"), "{errors}");
}

#[test]
fn an_edit_during_a_run_keeps_what_is_in_flight_and_pays_nothing_twice() {
    let server = Server::start(&["--latency", "200ms"]);
    let project = Project::small(12).at(&server.url);
    let watching = Watching::start(&project, &["--json", "--workers", "4"]);
    watching.until("node_finished");
    project.edit("prompts/combine.md", "Join", "Put together");
    let mut events = watching.until("edited");
    let drained = named(&events, "run_finished")[0].clone();
    assert_eq!(drained["outcome"], "interrupted");
    assert_eq!(drained["calls"]["abandoned"], 0);
    assert_eq!(events.last().unwrap()["running"], true);
    events = watching.until("watching");
    assert_eq!(named(&events, "run_finished")[0]["outcome"], "complete");
    assert_eq!(server.stats()["bodies"]["paid_twice"], 0);
    assert_eq!(
        server.stats()["outcomes"]["answered"],
        events.last().unwrap()["calls"]
    );

    // In the middle of a run, Ctrl+C interrupts it.
    project.edit("prompts/chunk.md", "Write", "Tell");
    watching.until("call_started");
    watching.signal(Signal::SIGINT);
    let (code, _) = watching.end();
    assert_eq!(code, Some(130));
    let rest = project.json(&[]).code(0);
    assert_eq!(server.stats()["bodies"]["paid_twice"], 0);
    assert!(rest.figure("nodes.cached") > 0);
}

#[test]
fn between_two_runs_the_cache_is_free_for_other_commands() {
    let project = Project::small(1);
    let watching = Watching::start(&project, &["--json"]);
    watching.until("watching");
    let plan = project.run(&["plan"]).code(0);
    assert!(plan.stdout.contains("nothing to call"), "{}", plan.stdout);
    watching.signal(Signal::SIGINT);
    assert_eq!(watching.end().0, Some(0));
}

#[test]
fn a_budget_is_that_of_the_session() {
    let project = Project::small(2).with("max_output_tokens = 4000", "max_output_tokens = 800");
    let cost = |events: &[Value]| named(events, "run_finished")[0]["cost_usd"].as_f64().unwrap();
    let alone = Project::small(2).json(&[]).code(0).summary()["cost_usd"]
        .as_f64()
        .unwrap();
    // Enough for one run of all, not for two.
    let budget = format!("{:.6}", alone * 1.5);
    let watching = Watching::start(&project, &["--json", "--budget", &budget]);
    let first = watching.until("watching");
    assert_eq!(named(&first, "run_finished")[0]["outcome"], "complete");
    project.edit("prompts/chunk.md", "Write", "Tell");
    let second = watching.until("watching");
    assert_eq!(named(&second, "run_finished")[0]["outcome"], "budget");
    assert!(
        cost(&first) + cost(&second) <= alone * 1.5,
        "{} {}",
        cost(&first),
        cost(&second)
    );
    watching.signal(Signal::SIGINT);
    assert_eq!(watching.end().0, Some(3));
}

#[test]
fn what_people_see_of_a_session() {
    let project = Project::small(11);
    let watching = Watching::start(&project, &["--color", "never"]);
    let mut errors: Vec<String> = Vec::new();
    let mut until = |start: &str| {
        errors.push(watching.errors.recv_timeout(LONG).unwrap());
        while !errors.last().unwrap().starts_with(start) {
            errors.push(watching.errors.recv_timeout(LONG).unwrap());
        }
    };
    until("watching");
    project.edit("prompts/combine.md", "Join", "Put together");
    until("watching");
    let said = |start: &str| {
        errors
            .iter()
            .filter(|line| line.starts_with(start))
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    };
    insta::assert_snapshot!(said("warning"), @r"warning: each edit may call all 11 personas: choose a few with `--persona` or `--max`, or set `--budget`");
    insta::assert_snapshot!(said("edited"), @r"edited prompts/combine.md");
    insta::assert_snapshot!(said("watching"), @r"
    watching 16 files of 11 personas; so far 33 calls and $0.0076 (simulated); Ctrl+C ends
    watching 16 files of 11 personas; so far 44 calls and $0.0107 (simulated); Ctrl+C ends
    ");
    insta::assert_snapshot!(said("and "), @r"and 4 more transcripts changed");
    watching.signal(Signal::SIGINT);
    let differences: Vec<String> = watching
        .lines
        .iter()
        .filter(|line| line.starts_with("+++ "))
        .collect();
    assert_eq!(differences.len(), 5, "{differences:?}");
}

#[test]
fn what_is_wrong_at_the_start_ends_it() {
    let project = Project::small(1).with("[model]", "[modell]");
    let ran = project.run(&["run", "--watch"]).code(2);
    assert!(ran.stderr.contains("did you mean"), "{}", ran.stderr);
}

#[test]
fn an_edit_during_a_run_and_one_that_is_undone_are_told_in_a_line() {
    let project = Project::small(3)
        .with("latency = \"0s\"", "latency = \"200ms\"")
        .with("concurrency = 16", "concurrency = 1");
    let watching = Watching::start(&project, &["--color", "never"]);
    let until = |start: &str| {
        let mut errors: Vec<String> = Vec::new();
        while !errors.last().is_some_and(|line| line.starts_with(start)) {
            errors.push(watching.errors.recv_timeout(LONG).unwrap());
        }
        errors
    };
    until("✓ p00");
    project.edit("prompts/combine.md", "Join", "Put together");
    let told = until("edited").join("\n");
    assert!(
        told.contains("! edited: waiting for 1 call in flight, then starting again"),
        "{told}"
    );
    assert!(told.contains("cut short by the edit, after "), "{told}");
    assert!(!told.contains("interrupted") && !told.contains("hint:"), "{told}");
    let told = until("watching").join("\n");
    assert!(told.contains("complete: 3 of 3 personas up to date"), "{told}");
    // All of it is there already: once more, and back.
    project.edit("prompts/combine.md", "Put together", "Join");
    until("watching");
    project.edit("prompts/combine.md", "Join", "Put together");
    let told = until("watching").join("\n");
    assert!(told.contains("nothing to call: 3 personas up to date"), "{told}");
    assert!(!told.contains("personas  3"), "{told}");
    watching.signal(Signal::SIGINT);
}
