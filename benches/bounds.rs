//! What septet takes, beside what it cannot go below. Each line: the figure, its bound, their
//! ratio, and the goal. `cargo bench --bench bounds` runs all, `cargo bench --bench bounds -- rate`
//! one of: makespan, speedup, rate, tokens, prefix, overhead, unchanged, edit, decide, memory, store, start,
//! plan, rehearse, night, size.
//!
//! Ratios are taken within one run; absolute times say little on a busy machine.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark reaches the world, keeps real time and may fail loudly"
)]

#[path = "bounds/child.rs"]
mod child;
#[path = "bounds/edit.rs"]
mod edit;
#[path = "bounds/memory.rs"]
mod memory;
#[path = "bounds/overhead.rs"]
mod overhead;
#[path = "bounds/project.rs"]
mod project;
#[path = "bounds/rehearse.rs"]
mod rehearse;
#[path = "bounds/size.rs"]
mod size;
#[path = "bounds/start.rs"]
mod start;
#[path = "bounds/store.rs"]
mod store;
#[path = "bounds/unchanged.rs"]
mod unchanged;

use project::{Project, Server};

fn main() {
    if let Some((part, args)) = child::asked() {
        return match part.as_str() {
            "store-alone" => memory::store_alone(&args),
            "store-fill" => store::fill(&args),
            "store-open" => store::open(&args),
            "store-compact" => store::compact(&args),
            part => panic!("there is no part `{part}`"),
        };
    }
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let rows: [(&str, fn()); 16] = [
        ("makespan", makespan),
        ("speedup", speedup),
        ("rate", rate),
        ("tokens", tokens),
        ("prefix", prefix),
        ("overhead", overhead::overhead),
        ("unchanged", unchanged::unchanged),
        ("edit", edit::edit),
        ("decide", edit::decide),
        ("memory", memory::memory),
        ("store", store::store),
        ("start", start::start),
        ("plan", plan),
        ("rehearse", rehearse::rehearse),
        ("night", rehearse::night),
        ("size", size::size),
    ];
    for (name, row) in rows {
        if wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            row();
        }
    }
}

/// Prints one line of the table.
fn row(name: &str, figure: f64, bound: f64, goal: &str) {
    println!(
        "{name:<44} {figure:>9.3}  bound {bound:>9.3}  ratio {:>6.3}  goal {goal}",
        figure / bound
    );
}

/// 102 personas × 8 calls of 500 ms: ⌈816 / 64⌉ waves, and two where all may be in flight.
fn makespan() {
    for (workers, waves) in [("64", 13.0), ("816", 2.0)] {
        let project = Project::new(102).simulator("500ms");
        let ran = project.run(&["--workers", workers]);
        // From the process's start to its end, and as the run counts.
        for (what, took) in [("process", ran.elapsed()), ("run", ran.figure("elapsed_s"))] {
            let name = format!("makespan, 816 calls of 0.5 s, {workers} in flight, {what}, s");
            row(&name, took, waves * 0.5, "<= 1.02");
        }
    }
}

/// The same work with 1, 4, 8 and 16 calls in flight; calls of 100 ms, so that one at a time
/// ends in a minute and a half.
fn speedup() {
    let time = |workers: usize| {
        let project = Project::new(102).simulator("100ms");
        project.run(&["--workers", &workers.to_string()]).elapsed()
    };
    let alone = time(1);
    for workers in [4, 8, 16] {
        let speedup = alone / time(workers);
        row(
            &format!("speed-up of {workers} workers over 1"),
            speedup,
            workers as f64,
            ">= 0.95",
        );
    }
}

/// Against a server that lets 1,200 requests a minute through, with a burst of one second.
fn rate() {
    const RPM: f64 = 1200.0;
    let server = Server::start(&["--rpm", "1200", "--latency", "200ms", "--jitter", "0"]);
    let project = Project::new(75).server(&server.url);
    let ran = project.run(&["--rpm", "1200", "--workers", "64"]);
    let calls = ran.figure("calls.ok");
    // What is sent in the first second is not counted, nor are the two last answers of a persona.
    let first = RPM / 60.0;
    let allowed = (ran.elapsed() - 1.0 - 0.2) * RPM / 60.0;
    row(
        "calls after the first second, 1,200 a minute",
        calls - first,
        allowed,
        ">= 0.99",
    );
    refusals(&server, calls, "over_requests_limit");
}

/// The same for tokens.
fn tokens() {
    const TPM: f64 = 600_000.0;
    let server = Server::start(&["--tpm", "600000", "--latency", "200ms", "--jitter", "0"]);
    let project = Project::new(75).server(&server.url);
    let ran = project.run(&["--tpm", "600000", "--workers", "64"]);
    let used = ran.figure("tokens.total");
    let allowed = (ran.elapsed() - 1.0 - 0.2) * TPM / 60.0;
    row(
        "tokens after the first second, 600,000 a minute",
        used - TPM / 60.0,
        allowed,
        ">= 0.99",
    );
    refusals(&server, ran.figure("calls.ok"), "over_tokens_limit");
}

/// 102 personas whose calls share 2,000 tokens, against a server that keeps prefixes: what the
/// chunks' calls read of them, and what holding them back costs in time.
fn prefix() {
    const SHARED: f64 = 2_000.0;
    let run = |order: &str| {
        let server = Server::start(&["--latency", "500ms", "--jitter", "0.3"]);
        let project = Project::new(102)
            .sharing(SHARED as usize)
            .server(&server.url)
            .with("name = \"m\"", "name = \"gpt-6-luna\"");
        let project = project
            .with("[provider]\n", "[provider]\nprompt_cache = \"explicit\"\n")
            .with(
                "[limits]\n",
                &format!("[schedule]\nprefix = \"{order}\"\n[limits]\n"),
            );
        let ran = project.run(&["--workers", "64"]);
        let chunks = ran.events("call_ended");
        let chunks = chunks.iter().filter(|call| call["node"] != "combine");
        let read: f64 = chunks
            .map(|call| call["tokens"]["cached_input"].as_f64().unwrap().min(SHARED))
            .sum();
        (ran.elapsed(), read)
    };
    let shared = 102.0 * 7.0 * SHARED;
    let (share, eager) = (run("share"), run("eager"));
    row("shared tokens read, one call first", share.1, shared, ">= 0.857");
    row("shared tokens read, all at once", eager.1, shared, "near 0");
    row(
        "makespan, one call first, beside all at once, s",
        share.0,
        eager.0,
        "<= 1.05",
    );
}

fn refusals(server: &Server, calls: f64, kind: &str) {
    let refused = server.stats()["outcomes"][kind].as_f64().unwrap_or(0.0);
    row("calls answered 429", refused, calls, "<= 0.001");
}

/// What a plan says beside what the run does.
fn plan() {
    for (limit, amount) in [("--rpm", "1200"), ("--tpm", "600000")] {
        let server = Server::start(&[limit, amount, "--latency", "200ms", "--jitter", "0.25"]);
        let project = Project::new(75).server(&server.url);
        project.run(&[limit, amount]);
        project.write(
            "prompts/chunk.md",
            "Write the part {{ vars.part }} of the conversation.\n",
        );
        let planned = project.json("plan", &[limit, amount]);
        let ran = project.run(&[limit, amount]);
        row(
            &format!("end that plan foresees under {limit} {amount}, s"),
            planned.figure("seconds"),
            ran.elapsed(),
            "0.90 to 1.10",
        );
        row(
            "tokens that it foresees",
            planned.figure("tokens.input") + planned.figure("tokens.output"),
            ran.figure("tokens.total"),
            "0.85 to 1.15",
        );
    }
}
