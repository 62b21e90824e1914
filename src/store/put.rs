//! What an entry changes in the trees: which value is put under which key. It does not know how
//! the trees keep them.

use std::sync::Arc;

use crate::names::Instance;
use crate::store::frame;
use crate::store::record::Entry;

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
}

impl Shelf {
    /// All of them.
    pub(super) const ALL: [Shelf; 5] = [
        Shelf::Answers,
        Shelf::Rejected,
        Shelf::Notes,
        Shelf::Marks,
        Shelf::Runs,
    ];

    /// The name of its tree. Another meaning of keys or values is another version in the name.
    pub(super) fn tree(self) -> &'static str {
        match self {
            Shelf::Answers => "answers-v1",
            Shelf::Rejected => "rejected-v1",
            Shelf::Notes => "notes-v1",
            Shelf::Marks => "marks-v1",
            Shelf::Runs => "runs-v1",
        }
    }
}

/// One value under one key.
#[derive(Clone, Debug)]
pub(super) struct Put {
    pub(super) shelf: Shelf,
    pub(super) key: Vec<u8>,
    pub(super) seq: u64,
    /// The entry's frame; for a mark that ends, an empty one.
    pub(super) frame: Arc<[u8]>,
}

impl Put {
    /// True for the end of a mark that may never have been set.
    pub(super) fn ends_a_mark(&self) -> bool {
        self.shelf == Shelf::Marks && self.frame.len() == frame::HEADER
    }
}

/// An entry that has its place in the journal.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) entry: Entry,
    pub(super) seq: u64,
    /// As it lies there.
    pub(super) frame: Arc<[u8]>,
}

impl Written {
    /// What it changes, in this order: whoever sees that a mark has ended finds the new answer.
    pub(super) fn puts(&self) -> Vec<Put> {
        let seq = self.seq;
        let put = |shelf, key: &[u8]| Put {
            shelf,
            key: key.to_vec(),
            seq,
            frame: self.frame.clone(),
        };
        let end_of_mark = |instance| Put {
            shelf: Shelf::Marks,
            key: mark_key(instance),
            seq,
            frame: frame::empty(seq).into(),
        };
        match &self.entry {
            Entry::Answer(record) => vec![
                put(Shelf::Answers, record.key.as_bytes()),
                end_of_mark(&record.instance),
            ],
            Entry::Retired { record, .. } => vec![end_of_mark(&record.instance)],
            Entry::Rejected { record, .. } => {
                vec![put(
                    Shelf::Rejected,
                    &[&record.key.as_bytes()[..], &seq.to_be_bytes()].concat(),
                )]
            }
            Entry::Refresh { instance } => vec![put(Shelf::Marks, &mark_key(instance))],
            Entry::Transcript { persona, .. } => vec![put(Shelf::Notes, persona.as_str().as_bytes())],
            Entry::Run { run, .. } => vec![put(Shelf::Runs, run.as_str().as_bytes())],
            Entry::Attempt { .. } | Entry::Fault { .. } => Vec::new(),
        }
    }
}

/// The key of an instance's mark. A persona's name is the name of a folder, so no two instances
/// have the same.
pub(super) fn mark_key(instance: &Instance) -> Vec<u8> {
    instance.to_string().into_bytes()
}
