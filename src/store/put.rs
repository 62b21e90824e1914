//! What an entry means beyond its bytes: which value is put under which key of the trees, and
//! which call it begins or ends. It does not know how the trees keep values.

use sled::IVec;

use crate::call::{Key, Money};
use crate::names::{Instance, PersonaId, RunId};
use crate::store::frame;
use crate::store::record::{Entry, Record, Sent};
use crate::store::source::SourceId;

/// The kinds of values that are looked up. Each is one tree of sled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Shelf {
    /// Answers that may be served, by key.
    Answers,
    /// Rejected answers, by key and sequence number.
    Rejected,
    /// What is known of transcripts, by persona.
    Notes,
    /// Marks of `--refresh`, by instance. An empty frame is a mark that has ended.
    Marks,
    /// Summaries of runs, by run.
    Runs,
    /// Sources, by id.
    Sources,
    /// Attempts and faults, by instance and sequence number.
    Calls,
    /// Answers in whose place a newer one is served, by key and sequence number. The trees move
    /// them here when the newer one is put.
    Replaced,
}

impl Shelf {
    /// All of them.
    pub(super) const ALL: [Shelf; 8] = [
        Shelf::Answers,
        Shelf::Rejected,
        Shelf::Notes,
        Shelf::Marks,
        Shelf::Runs,
        Shelf::Sources,
        Shelf::Calls,
        Shelf::Replaced,
    ];

    /// The name of its tree. Another meaning of keys or values is another version in the name.
    pub(super) fn tree(self) -> &'static str {
        match self {
            Shelf::Answers => "answers-v1",
            Shelf::Rejected => "rejected-v1",
            Shelf::Notes => "notes-v1",
            Shelf::Marks => "marks-v1",
            Shelf::Runs => "runs-v1",
            Shelf::Sources => "sources-v1",
            Shelf::Calls => "calls-v1",
            Shelf::Replaced => "replaced-v1",
        }
    }
}

/// One value under one key.
#[derive(Clone, Debug)]
pub(super) struct Put {
    pub(super) shelf: Shelf,
    pub(super) key: Vec<u8>,
    pub(super) seq: u64,
    /// The entry's frame; `None` for the end of a mark that may never have been set.
    pub(super) frame: Option<IVec>,
}

impl Put {
    /// True for the end of a mark that may never have been set.
    pub(super) fn ends_a_mark(&self) -> bool {
        self.frame.is_none()
    }

    /// The value: the entry's frame; for the end of a mark, an empty one.
    pub(super) fn value(&self) -> IVec {
        let empty = || frame::empty(self.seq).into();
        self.frame.clone().unwrap_or_else(empty)
    }
}

/// What is needed of an entry once it is encoded. Its text is not: it lies in the frame, and a
/// second copy would be made, kept and dropped for each answer.
#[derive(Clone, Debug)]
pub(super) enum Gist {
    Answer {
        key: Key,
        call: Call,
        bill: Bill,
    },
    Rejected {
        key: Key,
        call: Call,
        bill: Bill,
    },
    Retired {
        call: Call,
        bill: Bill,
    },
    /// Whole: it is listed where it has no end.
    Attempt(Box<Sent>),
    Fault {
        call: Call,
        /// When, if it may have been billed.
        billed_at_ms: Option<u64>,
    },
    Refresh(Instance),
    Transcript(PersonaId),
    Source(SourceId),
    Start(RunId),
    Run(RunId),
}

/// What was paid for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bill {
    pub(super) at_ms: u64,
    /// `None`: no price.
    pub(super) cost: Option<Money>,
}

impl Bill {
    fn of(record: &Record) -> Self {
        Self {
            at_ms: record.at_ms,
            cost: record.cost,
        }
    }
}

/// What tells one call from all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Call {
    pub(super) run: RunId,
    pub(super) instance: Instance,
    pub(super) attempt: u32,
}

impl Call {
    pub(super) fn new(run: &RunId, instance: &Instance, attempt: u32) -> Self {
        Self {
            run: run.clone(),
            instance: instance.clone(),
            attempt,
        }
    }

    pub(super) fn of(record: &Record) -> Self {
        Self::new(&record.run, &record.instance, record.attempt)
    }
}

impl From<&Entry> for Gist {
    fn from(entry: &Entry) -> Self {
        match entry {
            Entry::Answer(record) => Gist::Answer {
                key: record.key,
                call: Call::of(record),
                bill: Bill::of(record),
            },
            Entry::Rejected { record, .. } => Gist::Rejected {
                key: record.key,
                call: Call::of(record),
                bill: Bill::of(record),
            },
            Entry::Retired { record, .. } => Gist::Retired {
                call: Call::of(record),
                bill: Bill::of(record),
            },
            Entry::Attempt(sent) => Gist::Attempt(Box::new(sent.clone())),
            Entry::Fault {
                run,
                instance,
                attempt,
                kind,
                may_be_billed,
                at_ms,
                ..
            } => Gist::Fault {
                call: Call::new(run, instance, *attempt),
                billed_at_ms: (kind.is_none() || *may_be_billed).then_some(*at_ms),
            },
            Entry::Refresh { instance } => Gist::Refresh(instance.clone()),
            Entry::Transcript { persona, .. } => Gist::Transcript(persona.clone()),
            Entry::Source { id, .. } => Gist::Source(*id),
            Entry::Start { run, .. } => Gist::Start(run.clone()),
            Entry::Run { run, .. } => Gist::Run(run.clone()),
        }
    }
}

/// An entry that has its place in the journal.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) gist: Gist,
    pub(super) seq: u64,
    /// As it lies there.
    pub(super) frame: IVec,
    /// What it changes, in this order: whoever sees that a mark has ended finds the new answer.
    pub(super) puts: Vec<Put>,
}

impl Written {
    pub(super) fn new(gist: Gist, seq: u64, frame: IVec) -> Self {
        let puts = gist.puts(seq, &frame);
        Self {
            gist,
            seq,
            frame,
            puts,
        }
    }
}

impl Gist {
    fn puts(&self, seq: u64, frame: &IVec) -> Vec<Put> {
        let put = |shelf, key: Vec<u8>| Put {
            shelf,
            key,
            seq,
            frame: Some(frame.clone()),
        };
        let end_of_mark = |instance| Put {
            shelf: Shelf::Marks,
            key: mark_key(instance),
            seq,
            frame: None,
        };
        match self {
            Gist::Answer { key, call, .. } => {
                vec![
                    put(Shelf::Answers, key.as_bytes().to_vec()),
                    end_of_mark(&call.instance),
                ]
            }
            Gist::Retired { call, .. } => vec![end_of_mark(&call.instance)],
            Gist::Rejected { key, .. } => {
                vec![put(Shelf::Rejected, numbered(key.as_bytes(), seq))]
            }
            Gist::Refresh(instance) => vec![put(Shelf::Marks, mark_key(instance))],
            Gist::Transcript(persona) => vec![put(Shelf::Notes, persona.as_str().into())],
            Gist::Run(run) => vec![put(Shelf::Runs, run.as_str().into())],
            Gist::Source(id) => vec![put(Shelf::Sources, id.as_bytes().to_vec())],
            Gist::Attempt(sent) => vec![put(Shelf::Calls, call_key(&sent.instance, seq))],
            Gist::Fault { call, .. } => {
                vec![put(Shelf::Calls, call_key(&call.instance, seq))]
            }
            Gist::Start(_) => Vec::new(),
        }
    }
}

/// With what the keys of an instance's calls begin. No name has a zero in it, so none of them begins
/// with another's.
pub(super) fn calls_prefix(instance: &Instance) -> Vec<u8> {
    call_key_of(instance, &[])
}

fn call_key(instance: &Instance, seq: u64) -> Vec<u8> {
    call_key_of(instance, &seq.to_be_bytes())
}

fn call_key_of(instance: &Instance, number: &[u8]) -> Vec<u8> {
    let Instance { persona, node } = instance;
    [
        persona.as_str().as_bytes(),
        b"/",
        node.as_str().as_bytes(),
        b"\0",
        number,
    ]
    .concat()
}

/// A key that stands for the entry with this number, among those that begin with `prefix`.
pub(super) fn numbered(prefix: &[u8], seq: u64) -> Vec<u8> {
    [prefix, &seq.to_be_bytes()].concat()
}

/// The key of an instance's mark. A persona's name is the name of a folder, so no two instances
/// have the same.
pub(super) fn mark_key(instance: &Instance) -> Vec<u8> {
    let Instance { persona, node } = instance;
    [persona.as_str(), node.as_str()].join("/").into_bytes()
}
