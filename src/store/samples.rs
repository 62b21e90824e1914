//! Entries for the tests of the store. Number `n` always gives the same ones.

use crate::call::{Answer, Delivery, FaultKind, Key, Rejection, Usage};
use crate::names::Instance;
use crate::store::record::{Entry, Record, Retirement, Sent, TranscriptNote};
use crate::store::source::{Source, SourceId};

pub(super) fn key(n: u64) -> Key {
    Key::from(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

/// What bounds an answer: a limit.
pub(super) fn bounds(max_output_tokens: Option<u64>) -> Delivery {
    Delivery {
        max_output_tokens,
        ..Delivery::default()
    }
}

pub(super) fn instance(n: u64) -> Instance {
    Instance::new(format!("persona-{n}").as_str(), "chunk-1")
}

/// An answer to request `n`, for instance `n`, with a text of its own.
pub(super) fn record(n: u64, text: &str) -> Record {
    Record {
        key: key(n),
        instance: instance(n),
        run: "20261123-223015-4f2a".into(),
        attempt: 1,
        at_ms: 1_795_473_015_000 + n,
        latency_ms: 12_345,
        max_output_tokens: Some(4000),
        cost: None,
        answer: Answer {
            text: text.to_owned(),
            model: "gpt-6-luna-2026-09-01".to_owned(),
            usage: Usage {
                input: 2000,
                output: 700,
                ..Usage::default()
            },
            raw_usage: serde_json::json!({"prompt_tokens": 2000, "completion_tokens": 700}),
            id: Some(format!("chatcmpl-{n}")),
            ..Answer::default()
        },
    }
}

pub(super) fn answer(n: u64) -> Entry {
    Entry::Answer(record(n, &prose(n, 1500)))
}

pub(super) fn rejected(n: u64) -> Entry {
    Entry::Rejected {
        record: record(n, "cut o"),
        rejection: Rejection::Truncated,
    }
}

pub(super) fn retired(n: u64) -> Entry {
    Entry::Retired {
        record: record(n, ""),
        why: Retirement::Collected,
    }
}

pub(super) fn attempt(n: u64) -> Entry {
    Entry::Attempt(sent(n))
}

pub(super) fn sent(n: u64) -> Sent {
    Sent {
        run: "20261123-223015-4f2a".into(),
        instance: instance(n),
        key: key(n),
        attempt: 1,
        at_ms: 1_795_473_000_000,
        job: None,
        input: None,
        most_cost: None,
        max_output_tokens: None,
        reserved: None,
        pipeline: None,
        persona_files: None,
        needs: Vec::new(),
        waited_ms: None,
    }
}

pub(super) fn fault(n: u64) -> Entry {
    Entry::Fault {
        run: "20261123-223015-4f2a".into(),
        instance: instance(n),
        attempt: 1,
        kind: Some(FaultKind::ServerError),
        message: "internal error".to_owned(),
        at_ms: 1_795_473_020_000,
        may_be_billed: false,
    }
}

fn persona_files(n: u64) -> Source {
    let profile = ("profile.md".to_owned(), prose(n, 1000));
    Source::Persona {
        files: [profile].into(),
    }
}

pub(super) fn source_id(n: u64) -> SourceId {
    persona_files(n).id()
}

pub(super) fn source(n: u64) -> Entry {
    Entry::Source {
        id: source_id(n),
        at_ms: 1_795_473_000_000,
        source: persona_files(n),
    }
}

pub(super) fn refresh(n: u64) -> Entry {
    Entry::Refresh {
        instance: instance(n),
    }
}

pub(super) fn transcript(n: u64, written: &str) -> Entry {
    Entry::Transcript {
        persona: instance(n).persona,
        note: TranscriptNote {
            written: written.to_owned(),
            before: None,
        },
    }
}

pub(super) fn run(n: u64) -> Entry {
    Entry::Run {
        run: format!("20261123-223015-{n:04x}").as_str().into(),
        at_ms: 1_795_473_999_000,
        summary: serde_json::json!({"event": "run_finished", "n": n}),
        account: None,
        about: serde_json::Value::Null,
    }
}

pub(super) fn start(n: u64) -> Entry {
    Entry::Start {
        run: format!("20261123-223015-{n:04x}").as_str().into(),
        at_ms: 1_795_473_000_000,
        about: serde_json::json!({"event": "run_started", "n": n}),
    }
}

/// One entry of each kind.
pub(super) fn one_of_each() -> Vec<Entry> {
    vec![
        answer(1),
        rejected(2),
        attempt(3),
        fault(3),
        refresh(4),
        transcript(5, "aa"),
        run(6),
        retired(7),
        source(8),
        start(9),
    ]
}

/// Text that packs about as well as an answer does.
pub(super) fn prose(seed: u64, len: usize) -> String {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut text = String::new();
    while text.len() < len {
        let word: String = (0..rng.usize(2..9)).map(|_| rng.lowercase()).collect();
        text += &word;
        text.push(' ');
    }
    text
}
