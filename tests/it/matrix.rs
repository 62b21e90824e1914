//! The fault matrix: every way in which a provider can fail, by name, at the first, a middle and the
//! last call of a persona, through the real binary and over real HTTP. For each: how the run ends,
//! how many calls came to the server, what is said; and that the run after it, with a server that
//! works again, ends well and pays nothing twice.

mod answers;
mod limits;
mod outage;
mod poison;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::project::{Events, Project, Ran};
use crate::wire::{Reply, Wire, good};

/// The calls of a persona, and what is in the body of each and in no other.
const PLACES: [(&str, &str, &str); 3] = [
    ("first", "chunk-1", "Arriving"),
    ("middle", "chunk-2", "Leaving"),
    ("last", "combine", "Join:"),
];

/// What is in every body of the persona that meets the fault.
const VICTIM: &str = "Person number 0.";

/// One class of faults.
struct Class {
    name: &'static str,
    reply: Reply,
    ends: Ends,
    /// The error of the call: kind, status, words. The server's address is `[server]`, and `*` is
    /// anything.
    error: (&'static str, Option<u16>, &'static str),
    /// Changes to `pipeline.toml`.
    with: Vec<(&'static str, &'static str)>,
}

/// How far a class reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// Met once, it costs one call more and nobody fails.
    Passes,
    /// Met always, its node is given up after so many calls, and everything else goes on.
    Node(u64),
    /// Met once, the run ends and leaves the rest.
    Run,
}

impl Class {
    fn new(name: &'static str, reply: Vec<u8>, ends: Ends, error: (&'static str, u16, &'static str)) -> Self {
        let (kind, status, words) = error;
        Self {
            name,
            reply: Reply::Bytes(reply),
            ends,
            error: (kind, Some(status), words),
            with: Vec::new(),
        }
    }

    /// The class of a call that had no response.
    fn without_status(mut self) -> Self {
        self.error.1 = None;
        self
    }

    fn replying(mut self, reply: Reply) -> Self {
        self.reply = reply;
        self
    }

    fn with(mut self, from: &'static str, to: &'static str) -> Self {
        self.with.push((from, to));
        self
    }
}

/// Tries every class at every place, and only then fails, if one did.
fn hold(classes: &[Class]) {
    let failed = |class: &Class| {
        std::thread::scope(|threads| {
            let cases = PLACES.map(|place| threads.spawn(move || hold_at(class, place)));
            cases.map(|case| case.join().is_err()).contains(&true)
        })
    };
    let failed: Vec<&str> = classes
        .iter()
        .filter(|class| failed(class))
        .map(|class| class.name)
        .collect();
    assert!(failed.is_empty(), "of {} classes: {failed:?}", classes.len());
}

fn hold_at(class: &Class, (place, node, mark): (&str, &str, &'static str)) {
    let case = format!("{}, {place} call", class.name);
    let healed = Arc::new(AtomicBool::new(false));
    let server = Wire::scripted(None, {
        let (healed, reply, once) = (
            healed.clone(),
            class.reply.clone(),
            !matches!(class.ends, Ends::Node(_)),
        );
        move |number, body| {
            let met = body.contains(VICTIM) && body.contains(mark) && !healed.load(Ordering::SeqCst);
            match met && (number == 1 || !once) {
                true => reply.clone(),
                false => Reply::Bytes(good(body)),
            }
        }
    });
    let project = class
        .with
        .iter()
        .fold(one_by_one(2, &server.url()), |project, (from, to)| {
            project.with(from, to)
        });
    let ran = project.run(&["run", "--json"]);
    let run = Events::of(&ran);
    let sent = server.calls();
    assert_eq!(
        run.figure("calls.sent"),
        sent,
        "{case}: the bill is the server's count"
    );
    let good_calls = run.figure("calls.ok");
    let bad_calls = sent - good_calls;
    let failed = format!("p00/{node}");
    match class.ends {
        Ends::Passes => {
            assert_eq!((run.code, sent, bad_calls), (Some(0), 7, 1), "{case}");
            assert_eq!(attempts(&run, &failed), 2, "{case}");
        }
        Ends::Node(calls) => {
            let others = if place == "last" { 5 } else { 4 };
            assert_eq!(
                (run.code, bad_calls, good_calls),
                (Some(1), calls, others),
                "{case}"
            );
            assert_eq!(run.nodes("failed"), [failed.as_str()], "{case}");
            assert_eq!(run.figure("personas.written"), 1, "{case}: the rest goes on");
        }
        Ends::Run => {
            assert_eq!((run.code, bad_calls), (Some(3), 1), "{case}");
            assert_eq!(run.summary()["outcome"], "fatal", "{case}");
            assert_eq!(run.figure("nodes.failed"), 0, "{case}: the rest is left");
        }
    }
    says(&case, class, &run, &ran, &server);
    // Good answers count what they count, and so do bad ones; a fault counts nothing.
    let paid = good_calls + run.figure("calls.rejected");
    assert_eq!(run.figure("tokens.total"), 120 * paid, "{case}");

    if class.ends == Ends::Passes {
        return;
    }
    healed.store(true, Ordering::SeqCst);
    let again = project.json(&[]).code(0);
    assert_eq!(
        again.figure("calls.sent"),
        6 - good_calls,
        "{case}: nothing is paid twice"
    );
    assert_eq!(server.calls(), sent + 6 - good_calls, "{case}");
    assert_eq!(project.names("transcripts"), ["p00.md", "p01.md"], "{case}");
}

/// What programs and people read of the fault.
fn says(case: &str, class: &Class, run: &Events, ran: &Ran, server: &Wire) {
    let host = server.address().to_string();
    let (kind, status, words) = class.error;
    let (begins, ends) = words.split_once('*').unwrap_or((words, ""));
    for call in run.named("call_ended") {
        let error = &call["error"];
        if error.is_null() {
            continue;
        }
        let told = error["message"].as_str().unwrap().replace(&host, "[server]");
        assert!(
            told.starts_with(begins) && told.ends_with(ends) && (begins != words || told == words),
            "{case}: {told:?} is not {words:?}"
        );
        assert_eq!(
            (&error["kind"], &error["http_status"]),
            (&json!(kind), &json!(status)),
            "{case}"
        );
    }
    if class.ends != Ends::Passes {
        let people = ran.stderr.replace(&host, "[server]");
        assert!(people.contains(begins), "{case}: people read\n{people}");
    }
}

/// Calls that a run made for a node.
fn attempts(run: &Events, name: &str) -> u64 {
    let finished = run.named("node_finished");
    let of_node = finished.iter().find(|node| {
        let text = |field: &str| node[field].as_str().unwrap_or_default().to_owned();
        format!("{}/{}", text("persona"), text("node")) == name
    });
    of_node.unwrap_or_else(|| panic!("{name} has not ended"))["attempts"]
        .as_u64()
        .unwrap()
}

/// Personas of two chunks and a combine, one call at a time.
fn one_by_one(personas: usize, url: &str) -> Project {
    Project::small(personas)
        .at(url)
        .with("concurrency = 16", "concurrency = 1")
}
