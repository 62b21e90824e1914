//! Ctrl+C, SIGTERM and kill -9 for real, and the run after it. The server counts what was paid.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::Value;

use crate::project::{Events, Project, Server};

/// A run whose events are read one by one.
pub struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
    events: Vec<Value>,
}

impl Running {
    pub fn start(project: &Project, args: &[&str]) -> Self {
        let args: Vec<&str> = ["run", "--json"].iter().chain(args).copied().collect();
        Self::of(project.command(&args).spawn().unwrap())
    }

    /// A process that tells its events.
    pub fn of(mut child: Child) -> Self {
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            lines,
            events: Vec::new(),
        }
    }

    /// Reads on until so many events of a name have come.
    pub fn wait_for(&mut self, event: &str, count: usize) {
        let mut seen = 0;
        while seen < count {
            let mut line = String::new();
            assert!(
                self.lines.read_line(&mut line).unwrap() > 0,
                "the run ended before {event}"
            );
            let value: Value = serde_json::from_str(&line).unwrap();
            seen += usize::from(value["event"] == event);
            self.events.push(value);
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Reads to the end, and what was said on standard error.
    pub fn end_and_errors(mut self) -> (Events, String) {
        let mut errors = self.child.stderr.take().unwrap();
        let reading = thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).unwrap();
            text
        });
        (self.end(), reading.join().unwrap())
    }

    /// Reads to the end.
    pub fn end(mut self) -> Events {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        let whole = rest.lines().filter_map(|line| serde_json::from_str(line).ok());
        self.events.extend(whole);
        let code = self.child.wait().unwrap().code();
        Events {
            all: self.events,
            code,
        }
    }
}

fn answered(server: &Server) -> u64 {
    server.stats()["outcomes"]["answered"].as_u64().unwrap_or(0)
}

fn paid_twice(server: &Server) -> u64 {
    server.stats()["bodies"]["paid_twice"].as_u64().unwrap()
}

#[test]
fn the_first_ctrl_c_keeps_what_is_in_flight_and_nothing_is_paid_twice() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let server = Server::start(&["--latency", "300ms"]);
        let project = Project::small(40).at(&server.url);
        let mut running = Running::start(&project, &[]);
        running.wait_for("node_finished", 5);
        running.wait_for("call_started", 1);
        running.signal(signal);
        let stopped = running.end().code(130);
        assert_eq!(stopped.summary()["outcome"], "interrupted");
        assert_eq!(stopped.figure("calls.abandoned"), 0);
        assert_eq!(
            stopped.figure("calls.ok"),
            answered(&server),
            "what was in flight was waited for"
        );
        assert!(stopped.figure("personas.pending") > 0);

        let rest = project.json(&[]).code(0);
        assert_eq!(rest.figure("nodes.cached"), stopped.figure("nodes.called"));
        assert_eq!((answered(&server), paid_twice(&server)), (120, 0));
    }
}

#[test]
fn the_second_ctrl_c_gives_up_what_is_in_flight() {
    let server = Server::start(&["--latency", "60s", "--jitter", "0"]);
    let project = Project::small(8).at(&server.url);
    let mut running = Running::start(&project, &[]);
    running.wait_for("call_started", 16);
    running.signal(Signal::SIGINT);
    running.wait_for("stopping", 1);
    running.signal(Signal::SIGINT);
    let stopped = running.end().code(130);
    assert_eq!(
        (stopped.figure("calls.abandoned"), stopped.figure("calls.ok")),
        (16, 0)
    );
}

#[test]
fn a_stop_says_what_is_left_and_how_to_go_on() {
    let project = Project::small(30).with("latency = \"0s\"", "latency = \"200ms\"");
    let mut child = project.command(&["run"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with('✓')));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let rest = rest.join("\n");
    assert!(rest.contains("left") && rest.contains("septet run"), "{rest}");
}

#[test]
fn after_kill_9_only_what_was_in_flight_is_paid_again() {
    const IN_FLIGHT: u64 = 16;
    let server = Server::start(&["--latency", "20ms"]);
    let project = Project::small(60).at(&server.url);
    let mut chance = fastrand::Rng::with_seed(7);
    let mut kills = 0;
    for _ in 0..6 {
        let mut running = Running::start(&project, &[]);
        running.wait_for("call_started", chance.usize(1..20));
        running.signal(Signal::SIGKILL);
        let killed = running.end();
        kills += u64::from(killed.code.is_none());
        // Whatever was told as called is there.
        let names = killed.nodes("called");
        let plan = project.run(&["plan", "--json"]).code(0);
        for name in names {
            let (persona, node) = name.split_once('/').unwrap();
            let line = plan.stdout.lines().find(|line| {
                line.contains(&format!("\"persona\":\"{persona}\""))
                    && line.contains(&format!("\"node\":\"{node}\""))
            });
            assert!(
                line.is_some_and(|line| line.contains("\"status\":\"cached\"")),
                "{name} was told and is lost"
            );
        }
    }
    project.json(&[]).code(0);
    let again = paid_twice(&server);
    assert!(
        again <= kills * IN_FLIGHT,
        "{again} paid twice over {kills} kills"
    );
    assert_eq!(
        project.names("transcripts").len(),
        60,
        "nothing half-written is left"
    );
    assert_eq!(project.json(&[]).code(0).figure("personas.unchanged"), 60);
}

/// Whoever only reads tells of a run that was killed, and does not keep it from the next run.
#[test]
fn the_next_run_says_what_a_killed_one_left_open_whoever_looked_before() {
    let project = killed_with_eight_calls_open();
    let told = |args: &[&str]| project.run(args).code(0).stderr.contains(LEFT_OPEN);
    assert!(told(&["plan"]));
    assert!(!told(&["plan"]) && !told(&["runs"]), "once");
    assert!(told(&["run", "--max", "2"]), "and once more to the run that pays");
    assert!(!told(&["plan"]) && !told(&["run"]) && !told(&["run", "--verify"]));
}

/// What is said of [`killed_with_eight_calls_open`].
const LEFT_OPEN: &str = "ended without a word (killed?); what it paid for is kept, and 8 calls were open: possibly billed, at most about $";

fn killed_with_eight_calls_open() -> Project {
    let project = Project::small(4).with("latency = \"0s\"", "latency = \"20s\"");
    let mut running = Running::start(&project, &[]);
    running.wait_for("call_started", 8);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.end().code, None);
    project.edit("pipeline.toml", "latency = \"20s\"", "latency = \"0s\"");
    project
}

/// A session of runs pays as well.
#[test]
fn a_session_says_what_a_killed_run_left_open() {
    let project = killed_with_eight_calls_open();
    project.run(&["plan"]).code(0);
    let mut session = project.command(&["run", "--watch"]).spawn().unwrap();
    let mut errors = BufReader::new(session.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("watching") {
        assert!(errors.read_line(&mut said).unwrap() > 0, "{said}");
    }
    kill(Pid::from_raw(session.id() as i32), Signal::SIGINT).unwrap();
    session.wait().unwrap();
    assert_eq!(said.matches(LEFT_OPEN).count(), 1, "{said}");
}

#[test]
fn a_second_process_is_told_who_holds_the_cache() {
    let project = Project::small(4).with("latency = \"0s\"", "latency = \"5s\"");
    let mut running = Running::start(&project, &[]);
    running.wait_for("call_started", 1);
    let pid = running.child.id();
    let refused = project.run(&["run"]).code(2);
    assert!(
        refused.stderr.contains(&format!("pid {pid}")),
        "{}",
        refused.stderr
    );
    assert_eq!(refused.stdout, "");
    running.signal(Signal::SIGINT);
    running.signal(Signal::SIGINT);
    running.end();
}

/// What is only read is read meanwhile, from a copy of what the run has written until then.
#[test]
fn while_a_run_is_at_work_its_cache_can_be_read() {
    let project = Project::small(4);
    project.json(&["--max", "2"]).code(0);
    let project = project.with("latency = \"0s\"", "latency = \"5s\"");
    let mut running = Running::start(&project, &[]);
    running.wait_for("call_started", 1);
    let pid = running.child.id();
    for args in [
        ["plan"].as_slice(),
        &["why", "p00"],
        &["show", "p00/combine"],
        &["graph", "p00"],
        &["runs"],
        &["cache", "stats"],
        &["cache", "ls"],
    ] {
        let read = project.run(args).code(0);
        assert!(
            read.stderr
                .contains(&format!("is at work in this cache (pid {pid}")),
            "{args:?}: {}",
            read.stderr
        );
        assert!(
            !read.stderr.contains("without a word"),
            "nobody has died: {}",
            read.stderr
        );
    }
    assert_eq!(project.run(&["cache", "ls"]).code(0).stdout.lines().count(), 6);
    let plan = project.run(&["plan"]).code(0).stdout;
    assert!(plan.contains("6 cached, 4 to call, 2 that depend"), "{plan}");
    assert!(!plan.contains("damaged") && plan.contains("no answer"), "{plan}");
    let shown = project.run(&["show", "p02/chunk-1"]).code(0).stdout;
    assert!(shown.contains("it is in flight (possibly billed"), "{shown}");
    running.signal(Signal::SIGINT);
    running.signal(Signal::SIGINT);
    running.end();
    let told = project.run(&["runs"]).code(0);
    assert!(
        told.stdout.contains("interrupted") && !told.stderr.contains("at work"),
        "{}",
        told.stderr
    );
}

#[test]
fn a_signal_while_the_cache_is_opened_is_honoured_at_once() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let project = Project::small(3);
        project.json(&[]).code(0);
        // A file whose reader waits until somebody writes: opening takes for ever.
        let journal = project.path("cache/journal/00000001.log");
        let text = fs::read(&journal).unwrap();
        fs::remove_file(&journal).unwrap();
        mkfifo(&journal, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let running = Running::start(&project, &["--refresh", "*"]);
        let pid = running.child.id().to_string();
        let holder = || fs::read_to_string(project.path("cache/lock"));
        while !holder().is_ok_and(|text| text.contains(&pid)) {
            thread::sleep(Duration::from_millis(2));
        }
        running.signal(signal);
        let stopped = running.end().code(130);
        assert_eq!(stopped.summary()["outcome"], "interrupted");
        assert_eq!(
            (stopped.figure("calls.sent"), stopped.figure("personas.pending")),
            (0, 3)
        );
        assert_eq!(stopped.all[0]["event"], "run_started");
        // Nothing was changed, nothing is marked to be called again.
        fs::remove_file(&journal).unwrap();
        fs::write(&journal, text).unwrap();
        let next = project.json(&[]).code(0);
        assert_eq!(next.figure("personas.unchanged"), 3);
    }
}

#[test]
fn a_cache_that_cannot_be_closed_is_told_and_changes_no_exit_code() {
    for (stop, code) in [(true, 130), (false, 0)] {
        let server = Server::start(&["--latency", "100ms"]);
        let project = Project::small(12).at(&server.url);
        let mut running = Running::start(&project, &[]);
        running.wait_for("node_finished", 3);
        fs::remove_dir_all(project.path("cache/store")).unwrap();
        if stop {
            running.signal(Signal::SIGINT);
        }
        let mut errors = BufReader::new(running.child.stderr.take().unwrap());
        let ended = running.end().code(code);
        let mut text = String::new();
        errors.read_to_string(&mut text).unwrap();
        assert!(text.contains("warning: the cache could not be closed"), "{text}");
        assert!(!text.contains("\nerror:"), "{text}");
        // What was paid is in the journal.
        let rest = project.json(&[]).code(0);
        assert_eq!(rest.figure("nodes.cached"), ended.figure("nodes.called"));
        assert_eq!(paid_twice(&server), 0);
    }
}

/// Whatever is waited for, Ctrl+C ends it, and a wait before the start holds nothing.
#[test]
fn ctrl_c_ends_the_waiting() {
    let far = |hours: i64| {
        let at = jiff::Timestamp::now()
            .checked_add(jiff::ToSpan::hours(hours))
            .unwrap();
        jiff::tz::TimeZone::UTC
            .to_datetime(at)
            .time()
            .strftime("%H:%M")
            .to_string()
    };
    let hours = format!("[limits]\nhours = \"{}-{}\"", far(3), far(4));
    let project = Project::small(2).variable("TZ", "UTC");
    let mut later = Running::start(&project, &["--start-at", "3h"]);
    later.wait_for("waiting", 1);
    assert!(!project.path("cache").exists(), "nothing is held while it waits");
    later.signal(Signal::SIGINT);
    let end = later.end().code(130);
    assert_eq!(
        (&end.summary()["outcome"], end.figure("personas.pending")),
        (&"interrupted".into(), 2)
    );
    let project = project.with("[limits]", &hours);
    let mut outside = Running::start(&project, &[]);
    outside.wait_for("waiting", 1);
    outside.signal(Signal::SIGINT);
    let end = outside.end().code(130);
    assert_eq!(
        (&end.summary()["outcome"], end.figure("calls.sent")),
        (&"interrupted".into(), 0)
    );
}

#[cfg(unix)]
#[test]
fn a_journal_that_is_deleted_under_a_run_stops_it() {
    let project = Project::small(12).with("latency = \"0s\"", "latency = \"300ms\"");
    project.edit("pipeline.toml", "concurrency = 16", "concurrency = 2");
    let mut running = Running::start(&project, &[]);
    running.wait_for("node_finished", 1);
    fs::remove_dir_all(project.path("cache/journal")).unwrap();
    let (run, said) = running.end_and_errors();
    assert_eq!(run.code, Some(3), "{said}");
    assert!(said.contains("it was deleted while septet was at work"), "{said}");
    assert!(!said.contains("is stored and not paid twice"), "{said}");
    // The next run begins anew, without help.
    project.edit("pipeline.toml", "latency = \"300ms\"", "latency = \"0s\"");
    project.json(&[]).code(0);
}
