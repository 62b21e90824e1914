//! Calls that the server keeps as jobs (the Responses API in background mode): once its name is
//! durable nothing is paid twice, whatever becomes of the run. The server counts.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::interrupt::Running;
use crate::project::{Project, Server};
use crate::wire::{self, Reply, Wire, response};

const WORKING: u8 = 0;
const DONE: u8 = 1;
const FORGOTTEN: u8 = 2;
const FAILING: u8 = 3;
/// What stands before the server says what is no word of it.
const PAGES: u8 = 4;
/// What was begun while it was `WORKING` is cut off.
const CUT: u8 = 5;
/// What was begun while it was `WORKING` has ended without an answer.
const FAILED: u8 = 6;
const CANCELLED: u8 = 7;
const EXPIRED: u8 = 8;
/// The first look at each is refused: too many requests.
const BUSY: u8 = 9;

const PAGE: &str = "<html><head><title>Please wait</title></head><body>One moment.</body></html>";

/// A server of jobs, and what becomes of them.
struct Jobs {
    wire: Wire,
    state: Arc<AtomicU8>,
}

impl Jobs {
    fn start() -> Self {
        let state = Arc::new(AtomicU8::new(WORKING));
        let shared = state.clone();
        let wire = Wire::scripted(None, move |number, asked| {
            let answer = |body: &Value| Reply::Bytes(wire::json("200 OK", body));
            let Some(id) = asked.strip_prefix("GET /v1/responses/") else {
                if asked.contains("\"messages\"") {
                    return Reply::Bytes(wire::good(asked));
                }
                // The name tells which request it is, and when it came.
                let sum = asked.bytes().fold(0u32, |sum, byte| {
                    sum.wrapping_mul(31).wrapping_add(u32::from(byte))
                });
                return answer(
                    &json!({ "id": format!("resp_{sum}_{}", shared.load(Ordering::SeqCst)), "status": "queued", "output": [] }),
                );
            };
            match shared.load(Ordering::SeqCst) {
                WORKING => answer(&json!({ "id": id, "status": "in_progress", "output": [] })),
                FORGOTTEN if id.ends_with("_0") => Reply::Bytes(wire::error(
                    "404 Not Found",
                    "invalid_request_error",
                    "",
                    "Response not found.",
                )),
                PAGES if number == 1 => Reply::Bytes(response("200 OK", "content-type: text/html\r\n", PAGE)),
                PAGES if number == 2 => {
                    Reply::Bytes(response("404 Not Found", "content-type: text/html\r\n", PAGE))
                }
                PAGES if number == 3 => answer(&json!({ "id": "resp_of_another", "status": "failed" })),
                PAGES if number == 4 => Reply::Bytes(wire::error(
                    "404 Not Found",
                    "invalid_request_error",
                    "",
                    "Response not found.",
                )),
                CUT if id.ends_with("_0") => answer(&json!({
                    "id": id,
                    "status": "incomplete",
                    "incomplete_details": { "reason": "max_output_tokens" },
                    "model": "gpt-6-luna",
                    "output": [{ "type": "message", "content": [{ "type": "output_text", "text": "Words th" }] }],
                    "usage": { "input_tokens": 100, "output_tokens": 20, "total_tokens": 120 },
                })),
                ended @ (FAILED | CANCELLED | EXPIRED) if id.ends_with("_0") => {
                    let status = ["failed", "cancelled", "expired"][usize::from(ended - FAILED)];
                    answer(&json!({ "id": id, "status": status, "output": [] }))
                }
                BUSY if number == 1 => Reply::Bytes(response(
                    "429 Too Many Requests",
                    "content-type: application/json\r\nretry-after: 1\r\n",
                    "{\"error\":{\"message\":\"Rate limit reached\",\"type\":\"requests\",\"code\":\"rate_limit_exceeded\"}}",
                )),
                FAILING if number <= 2 => Reply::Bytes(response("503 Service Unavailable", "", "")),
                _ => answer(&json!({
                    "id": id,
                    "status": "completed",
                    "model": "gpt-6-luna",
                    "output": [{ "type": "message", "content": [{ "type": "output_text", "text": format!("Words of {id}.") }] }],
                    "usage": { "input_tokens": 100, "output_tokens": 20, "total_tokens": 120 },
                })),
            }
        });
        Self { wire, state }
    }

    fn project(&self, personas: usize) -> Project {
        background(Project::small(personas).at(&self.wire.url())).with("concurrency = 16", "concurrency = 4")
    }

    fn now(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }

    /// Waits until so many jobs were asked for.
    fn wait_for_looks_at(&self, jobs: usize) {
        let begun = Instant::now();
        loop {
            let lines = self.wire.lines();
            let looks: BTreeSet<&String> = lines.iter().filter(|line| line.starts_with("GET")).collect();
            if looks.len() >= jobs {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{lines:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How many requests were sent, and how many of them more than once.
    fn paid(&self) -> (usize, usize) {
        let mut sent = self.wire.bodies();
        sent.retain(|asked| asked.starts_with('{'));
        let all = sent.len();
        sent.sort();
        sent.dedup();
        (all, all - sent.len())
    }
}

fn background(project: Project) -> Project {
    project.with(
        "name = \"test\"",
        "name = \"test\"\napi = \"responses\"\nbackground = true",
    )
}

#[test]
fn after_kill_9_the_answers_are_fetched_and_nothing_is_paid_twice() {
    let server = Jobs::start();
    let project = server.project(2);
    let mut running = Running::start(&project, &[]);
    running.wait_for("call_queued", 4);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.end().code, None);
    assert_eq!(server.paid(), (4, 0));
    // And once more, while they are still worked on.
    let mut running = Running::start(&project, &[]);
    running.wait_for("call_queued", 4);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.end().code, None);
    assert_eq!(server.paid(), (4, 0), "they were taken over, not sent again");

    server.now(DONE);
    let ran = project.run(&["run", "--json"]).code(0);
    let run = crate::project::Events::of(&ran);
    assert_eq!(server.paid(), (6, 0), "the two combines");
    assert_eq!((run.figure("calls.ok"), run.figure("tokens.total")), (6, 6 * 120));
    assert!(
        ran.stderr
            .contains("4 calls were open, whose answers can still be fetched"),
        "{}",
        ran.stderr
    );
    assert_eq!(project.names("transcripts"), ["p00.md", "p01.md"]);
    assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0);
    let shown = project.run(&["show", "p00/chunk-1"]).code(0).stdout;
    assert!(shown.contains("nobody waited for its answer any more"), "{shown}");
    assert!(!shown.contains("billed"), "{shown}");
}

#[test]
fn what_the_server_has_forgotten_is_told_and_called_again() {
    let server = Jobs::start();
    let project = server.project(1);
    let mut running = Running::start(&project, &[]);
    running.wait_for("call_queued", 2);
    running.signal(Signal::SIGKILL);
    running.end();
    server.now(FORGOTTEN);
    let run = project.json(&[]).code(0);
    assert_eq!(
        server.paid().1,
        2,
        "two were paid again, and could not be fetched"
    );
    let warnings = run.named("warning");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let message = warnings[0]["message"].as_str().unwrap();
    assert!(
        message.contains("the server does not have the response `resp_") && message.contains("called again"),
        "{message}"
    );
}

#[test]
fn a_second_ctrl_c_leaves_the_job_to_the_next_run() {
    let server = Jobs::start();
    let project = server.project(2);
    let mut running = Running::start(&project, &[]);
    running.wait_for("call_queued", 4);
    running.signal(Signal::SIGINT);
    running.wait_for("stopping", 1);
    running.signal(Signal::SIGINT);
    let run = running.end();
    assert_eq!((run.code, run.figure("calls.abandoned")), (Some(130), 4));
    server.now(DONE);
    project.json(&[]).code(0);
    assert_eq!(server.paid(), (6, 0));
}

/// As a person reads it: nothing is dropped that the next run fetches.
#[test]
fn a_second_ctrl_c_says_that_the_next_run_fetches_the_jobs() {
    let server = Jobs::start();
    let project = server.project(2);
    let mut child = project.command(&["run"]).spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    let stop = || kill(pid, Signal::SIGINT).unwrap();
    // Who looks for a job has told before that it is one.
    server.wait_for_looks_at(4);
    stop();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let drains = lines.find(|line| line.contains("stopping")).unwrap();
    assert!(
        drains.ends_with("stopping: waiting for 4 calls in flight; Ctrl+C again leaves them to the next run"),
        "{drains}"
    );
    stop();
    let rest: Vec<String> = lines.collect();
    assert!(
        rest[0].ends_with("stopping now: leaving 4 calls in flight, which the next run fetches"),
        "{rest:#?}"
    );
    assert!(!rest.iter().any(|line| line.contains("billed")), "{rest:#?}");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    server.now(DONE);
    project.json(&[]).code(0);
    assert_eq!(server.paid(), (6, 0));
}

/// Two calls whose run was killed while the server worked on them.
fn killed(server: &Jobs, project: &Project) {
    let mut running = Running::start(project, &[]);
    running.wait_for("call_queued", 2);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.end().code, None);
    assert_eq!(server.paid(), (2, 0));
}

#[test]
fn a_budget_over_all_runs_counts_an_open_job_once() {
    // About 0.002 is set aside for a call: both jobs fit, and no third one before they are fetched.
    for limit in ["budget_usd_total", "budget_usd_month"] {
        let server = Jobs::start();
        let project = server
            .project(1)
            .with("[limits]", &format!("[limits]\n{limit} = 0.005"));
        killed(&server, &project);
        server.now(DONE);
        let run = project.json(&[]).code(0);
        assert_eq!((server.paid(), run.figure("calls.ok")), ((3, 0), 3));
        assert_eq!(run.named("budget_reached").len(), 0);
        // And as little as they cost counts from now on.
        project.edit("pipeline.toml", "= 0.005", "= 0.0025");
        project.edit("prompts/combine.md", "Join", "Bind");
        project.json(&[]).code(0);
        assert_eq!(server.paid(), (4, 0));
    }
}

#[test]
fn who_has_open_jobs_is_first_where_there_is_a_budget() {
    let server = Jobs::start();
    let project = server
        .project(2)
        .with("[limits]", "[limits]\nbudget_usd_total = 0.005");
    let mut running = Running::start(&project, &["--persona", "p01"]);
    running.wait_for("call_queued", 2);
    running.signal(Signal::SIGKILL);
    running.end();
    server.now(DONE);
    let run = project.json(&["--workers", "1"]).code(0);
    assert_eq!((server.paid(), run.figure("calls.ok")), ((6, 0), 6));
}

#[test]
fn a_page_in_place_of_an_answer_ends_no_job() {
    let server = Jobs::start();
    let project = server.project(1).with("[retry]", "[retry]\nattempts = 5");
    killed(&server, &project);
    server.now(PAGES);
    let run = project.json(&[]).code(0);
    assert_eq!((server.paid(), run.figure("calls.ok")), ((3, 0), 3));
    assert_eq!(run.named("warning").len(), 0, "none is gone");
    // The killed run may have had the first looks at the chunks.
    let retried = run.named("retrying");
    assert!((7..=9).contains(&retried.len()), "{retried:?}");
}

#[test]
fn an_answer_belongs_to_the_limit_that_it_was_asked_with() {
    let server = Jobs::start();
    let project = server.project(1);
    killed(&server, &project);
    project.edit(
        "pipeline.toml",
        "max_output_tokens = 4000",
        "max_output_tokens = 8000",
    );
    server.now(CUT);
    let run = project.json(&[]).code(0);
    assert_eq!(server.paid(), (5, 0), "two with the new limit, and the combine");
    assert_eq!((run.figure("calls.rejected"), run.figure("calls.ok")), (2, 3));
    let rejected = project.run(&["show", "p00/chunk-1", "--json"]).code(0).stdout;
    let shown: Value = serde_json::from_str(&rejected).unwrap();
    let mut calls = shown["attempts"].as_array().unwrap().iter();
    let cut = calls.find(|call| call["outcome"] == "rejected").unwrap();
    assert!(
        cut["most_usd"].as_f64().unwrap() < 0.0021,
        "4000 tokens at the most: {cut:#}"
    );
}

#[test]
fn without_background_what_is_open_is_fetched_all_the_same() {
    let server = Jobs::start();
    let project = server.project(1);
    killed(&server, &project);
    project.edit("pipeline.toml", "background = true", "background = false");
    server.now(DONE);
    let run = project.json(&[]).code(0);
    assert_eq!((server.paid(), run.figure("calls.ok")), ((3, 0), 3));
}

#[test]
fn where_jobs_cannot_be_fetched_that_is_told_and_they_have_an_end() {
    let server = Jobs::start();
    let project = server.project(1);
    killed(&server, &project);
    project.edit(
        "pipeline.toml",
        "api = \"responses\"\nbackground = true",
        "api = \"chat\"",
    );
    let run = project.json(&[]).code(0);
    assert_eq!(run.figure("calls.ok"), 3);
    let warnings = run.named("warning");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let message = warnings[0]["message"].as_str().unwrap();
    assert!(
        message.contains("its answer could still be fetched, but not by `api = \"chat\"`"),
        "{message}"
    );
    let shown = project.run(&["show", "p00/chunk-1"]).code(0).stdout;
    assert!(
        shown.contains("its answer was not fetched and never will be"),
        "{shown}"
    );
}

#[test]
fn a_refresh_gives_open_jobs_up() {
    let server = Jobs::start();
    let project = server.project(1);
    killed(&server, &project);
    server.now(DONE);
    let ran = project.run(&["run", "--refresh", "p00/chunk-1"]).code(0);
    assert!(
        ran.stderr
            .contains("`--refresh` gives up 1 open call that could still be fetched"),
        "{}",
        ran.stderr
    );
    assert_eq!(server.paid(), (4, 1), "one was fetched, one called again");
}

#[test]
fn a_slow_job_is_no_outage_and_is_fetched_by_the_next_run() {
    let server = Jobs::start();
    let project = server
        .project(2)
        .with("name = \"test\"", "name = \"test\"\ntimeout = \"1s\"")
        .with("[retry]", "[retry]\nattempts = 2");
    let run = project.json(&[]).code(1);
    assert_eq!(server.paid(), (4, 0));
    assert_eq!(run.named("outage_began").len(), 0);
    let failed = run
        .named("node_finished")
        .into_iter()
        .filter(|node| node["status"] == "failed");
    let kinds: Vec<&Value> = failed.map(|node| &node["error"]["kind"]).collect();
    assert_eq!(kinds, ["unfinished"; 4]);
    server.now(DONE);
    project.json(&[]).code(0);
    assert_eq!(server.paid(), (6, 0));
}

/// A job that outlives its timeout is one call that takes long: neither a fault to expect again, nor
/// money that may be lost.
#[test]
fn what_took_longer_than_its_timeout_is_foreseen_as_one_long_call() {
    let server = Jobs::start();
    let project = server
        .project(2)
        .with("name = \"test\"", "name = \"test\"\ntimeout = \"1s\"")
        .with("[retry]", "[retry]\nattempts = 50");
    let mut running = Running::start(&project, &[]);
    running.wait_for("retrying", 4);
    server.now(DONE);
    let run = running.end().code(0);
    assert!(run.figure("calls.faulted") >= 4);
    assert_eq!((server.paid(), run.figure("calls.ok")), ((6, 0), 6));

    project.edit("prompts/chunk.md", "", "Anew. ");
    let rehearsed = project.run(&["rehearse", "--json"]).code(0).stdout;
    let rehearsed: Value = serde_json::from_str(&rehearsed).unwrap();
    assert_eq!(
        rehearsed["rests_on"]["faults"],
        json!([{ "model": "gpt-6-luna", "calls": 6, "faulted": 0, "rehearsed": [] }]),
        "{rehearsed:#}"
    );
    assert_eq!(rehearsed["calls"]["faulted"]["high"], 0, "{rehearsed:#}");
    // Who was asked for again had waited nearly its timeout (a look that would come after it is not
    // waited for), where the look that fetched it takes milliseconds.
    assert!(
        rehearsed["seconds"]["likely"].as_f64().unwrap() >= 0.5,
        "{rehearsed:#}"
    );
    let stored = project.run(&["cache", "ls", "--json"]).code(0).stdout;
    let latencies: Vec<f64> = stored
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|answer| answer["latency_s"].as_f64())
        .collect();
    assert!(latencies.iter().any(|latency| *latency >= 0.5), "{latencies:?}");
}

#[test]
fn a_fault_while_waiting_is_no_reason_to_pay_again() {
    let server = Jobs::start();
    server.now(FAILING);
    let run = server.project(2).json(&[]).code(0);
    assert_eq!(server.paid(), (6, 0));
    assert_eq!((run.figure("calls.ok"), run.figure("nodes.called")), (6, 6));
    assert!(run.figure("calls.faulted") > 0);
}

#[test]
fn the_built_in_server_has_jobs_too_and_counts_what_is_paid_twice() {
    let server = Server::start(&["--latency", "3s"]);
    let project = background(Project::small(2).at(&server.url));
    let mut running = Running::start(&project, &[]);
    running.wait_for("call_queued", 4);
    running.signal(Signal::SIGKILL);
    running.end();
    let run = project.json(&[]).code(0);
    assert_eq!(run.figure("nodes.called"), 6);
    let stats = server.stats();
    assert_eq!(stats["outcomes"]["answered"], 6, "{stats}");
    assert_eq!(stats["bodies"]["paid_twice"], 0, "{stats}");
}

#[test]
fn without_background_the_responses_api_answers_at_once() {
    let server = Server::start(&[]);
    let project = Project::small(3)
        .at(&server.url)
        .with("name = \"test\"", "name = \"test\"\napi = \"responses\"");
    let run = project.json(&[]).code(0);
    assert_eq!((run.figure("calls.ok"), run.named("call_queued").len()), (9, 0));
    // The same requests have the same keys by either way.
    project.edit("pipeline.toml", "api = \"responses\"", "api = \"chat\"");
    assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0);
    assert_eq!(server.stats()["outcomes"]["answered"], 9);
}

/// What all runs say that they sent, without what was only fetched, and what may have been billed.
fn told_by_all_runs(project: &Project) -> (u64, u64) {
    let listed = project.run(&["runs", "--json"]).code(0).stdout;
    let runs = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (mut sent, mut possibly) = (0, 0);
    for run in runs.filter(|run| run["event"] == "run") {
        sent += run["calls"]["sent"].as_u64().unwrap() - run["calls"]["fetched"].as_u64().unwrap_or(0);
        possibly += run["possibly_billed"]["calls"].as_u64().unwrap_or(0);
    }
    (sent, possibly)
}

#[test]
fn what_is_fetched_is_no_second_call_and_was_never_possibly_billed() {
    // Killed, killed while it fetches as well, given up by a second Ctrl+C, and given up for its timeout.
    for ends in ["killed", "killed twice", "aborted", "timeout"] {
        let server = Jobs::start();
        let mut project = server.project(2);
        if ends == "timeout" {
            project = project
                .with("name = \"test\"", "name = \"test\"\ntimeout = \"1s\"")
                .with("[retry]", "[retry]\nattempts = 2");
            project.json(&[]).code(1);
        } else {
            let mut running = Running::start(&project, &[]);
            running.wait_for("call_queued", 4);
            if ends == "killed twice" {
                running.signal(Signal::SIGKILL);
                running.end();
                running = Running::start(&project, &[]);
                running.wait_for("call_queued", 4);
            }
            if ends.starts_with("killed") {
                running.signal(Signal::SIGKILL);
            } else {
                running.signal(Signal::SIGINT);
                running.wait_for("stopping", 1);
                running.signal(Signal::SIGINT);
            }
            running.end();
            let told = project.run(&["runs", "last"]).code(0);
            assert!(!told.stdout.contains("billed"), "{}", told.stdout);
        }
        server.now(DONE);
        let ran = project.run(&["run"]).code(0);
        assert!(
            ran.stderr.contains("6: 6 ok, of which 4 were fetched"),
            "{ends}: {}",
            ran.stderr
        );
        assert_eq!(server.paid(), (6, 0), "{ends}");
        assert_eq!(
            told_by_all_runs(&project),
            (6, 0),
            "{ends}: the bill is the server's count"
        );
    }
}

/// What became of a job is asked once; where that is no answer, it is called again, once.
#[test]
fn a_job_that_ended_without_an_answer_is_called_again_once() {
    for (ended, words) in [
        (FAILED, "the response failed"),
        (CANCELLED, "the response was cancelled at the server"),
        (EXPIRED, "the response has expired at the server"),
    ] {
        let server = Jobs::start();
        let project = server.project(1);
        killed(&server, &project);
        server.now(ended);
        let run = project.json(&[]).code(0);
        assert_eq!(server.paid(), (5, 2), "{words}");
        assert_eq!(
            (run.figure("calls.ok"), run.figure("calls.faulted")),
            (3, 2),
            "{words}"
        );
        let faults: Vec<&Value> = run.named("call_ended");
        let told = faults.iter().filter(|call| call["outcome"] == "faulted");
        for fault in told {
            let message = fault["error"]["message"].as_str().unwrap();
            assert!(message.contains(words), "{message}");
        }
        assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0);
    }
}

/// Only who holds the cache asks for what is open: whoever reads it beside, or comes too early, does not.
#[test]
fn only_the_run_that_holds_the_cache_fetches() {
    let server = Jobs::start();
    let project = server.project(1);
    killed(&server, &project);
    let looks = || {
        server
            .wire
            .lines()
            .iter()
            .filter(|line| line.starts_with("GET"))
            .count()
    };
    let before = looks();
    for args in [
        ["plan"].as_slice(),
        &["show", "p00/chunk-1"],
        &["why", "p00"],
        &["runs"],
        &["cache", "stats"],
    ] {
        project.run(args).code(0);
    }
    assert_eq!(looks(), before, "reading asks nobody");
    let mut running = Running::start(&project, &[]);
    running.wait_for("call_queued", 2);
    project.run(&["run"]).code(2);
    project.run(&["plan"]).code(0);
    server.now(DONE);
    let run = running.end().code(0);
    assert_eq!((server.paid(), run.figure("calls.ok")), ((3, 0), 3));
    let answers = server.wire.lines();
    let per_job = |line: &&String| line.starts_with("GET");
    assert!(answers.iter().filter(per_job).count() > before);
}

/// Looks that are refused are no faults of the calls, and are not tried again before the server says so.
#[test]
fn looks_that_are_refused_wait_as_the_server_asks() {
    let server = Jobs::start();
    server.now(BUSY);
    let project = server.project(1).with("concurrency = 4", "concurrency = 1");
    let run = project.json(&[]).code(0);
    assert_eq!((server.paid(), run.figure("calls.ok")), ((3, 0), 3));
    assert_eq!((run.figure("calls.faulted"), run.named("retrying").len()), (0, 0));
    assert_eq!(run.named("rate_changed").len() + run.named("paused").len(), 0);
    let looks = server.wire.times("GET /v1/responses/");
    assert_eq!(looks.len(), 6);
    for pair in looks.chunks(2) {
        let waited = pair[1] - pair[0];
        assert!(waited >= std::time::Duration::from_millis(990), "{waited:?}");
    }
}

/// More jobs than can be looked at within their timeout: that they wait for each other is no word of the
/// server, and nobody is slowed down for it.
#[test]
fn a_queue_of_looks_is_no_refusal() {
    let server = Jobs::start();
    let project = server
        .project(40)
        .with("concurrency = 4", "concurrency = 80")
        .with("name = \"test\"", "name = \"test\"\ntimeout = \"1s\"")
        .with("[retry]", "[retry]\nattempts = 1");
    let run = project.json(&[]).code(1);
    assert!(run.figure("calls.faulted") >= 80);
    for call in run.named("call_ended") {
        assert_ne!(call["error"]["kind"], "rate_limited", "{call}");
    }
    let slowed = ["paused", "rate_changed", "concurrency_changed"];
    assert!(slowed.iter().all(|event| run.named(event).is_empty()));
}

#[test]
fn the_built_in_server_names_each_job_anew() {
    let server = Server::start(&["--latency", "10s"]);
    let body = r#"{"model":"gpt-6-luna","background":true,"input":"The same."}"#;
    let names: BTreeSet<String> = (0..5)
        .map(|_| {
            let begun: Value = serde_json::from_str(&server.send("POST", "/v1/responses", body)).unwrap();
            begun["id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(names.len(), 5, "{names:?}");
    for name in names {
        let job: Value =
            serde_json::from_str(&server.send("GET", &format!("/v1/responses/{name}"), "")).unwrap();
        assert_eq!(
            (&job["id"], &job["status"]),
            (&json!(name), &json!("in_progress"))
        );
    }
}
