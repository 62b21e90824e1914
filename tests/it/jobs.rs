//! Calls that the server keeps as jobs (the Responses API in background mode): once its name is
//! durable nothing is paid twice, whatever becomes of the run. The server counts.
#![cfg(unix)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::interrupt::Running;
use crate::project::{Project, Server};
use crate::wire::{self, Reply, Wire, response};

const WORKING: u8 = 0;
const DONE: u8 = 1;
const FORGOTTEN: u8 = 2;
const FAILING: u8 = 3;

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
