//! What an entry of the store is. [`Entry`] is the whole list of what the journal can say; each
//! is JSON inside a frame (see `journal`), so that a later septet can add fields and still read
//! this one's.

use serde::{Deserialize, Serialize};

use crate::call::{Answer, Cut, FaultKind, Key, Money, Rejection};
use crate::names::{Instance, PersonaId, RunId};

/// One line of the book.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// An answer that may be served. Ends a refresh of its instance.
    Answer(Record),
    /// A bad answer: evidence, never served.
    Rejected {
        /// What came, whole.
        record: Record,
        /// Why it is not served.
        rejection: Rejection,
    },
    /// An answer that was paid for and is not served any more. It stays in the book for what it
    /// cost, and ends a refresh and an attempt as the answer did.
    Retired {
        /// What came; without its text where that was removed.
        record: Record,
        /// Why it is not served.
        why: Retirement,
    },
    /// A call that is about to be sent. One without an end (an answer, a rejection or a fault
    /// with the same run, instance and number) may have been billed.
    Attempt {
        /// In which run.
        run: RunId,
        /// For whom.
        instance: Instance,
        /// The request.
        key: Key,
        /// Counts from 1 within run and instance.
        attempt: u32,
        /// Unix time in milliseconds.
        at_ms: u64,
    },
    /// A call that ended without an answer.
    Fault {
        /// In which run.
        run: RunId,
        /// For whom.
        instance: Instance,
        /// Which attempt.
        attempt: u32,
        /// What happened; `None`: given up while waiting (timeout, second Ctrl+C).
        kind: Option<FaultKind>,
        /// In words.
        message: String,
        /// Unix time in milliseconds.
        at_ms: u64,
    },
    /// `--refresh`: the next look-up of this instance is a miss, until its new answer is stored.
    Refresh {
        /// Whose answer is asked for again.
        instance: Instance,
    },
    /// A transcript that septet is about to write.
    Transcript {
        /// Whose.
        persona: PersonaId,
        /// What is known of it from now on.
        note: TranscriptNote,
    },
    /// The end of a run: its `run_finished` object as `--json` prints it.
    Run {
        /// Which.
        run: RunId,
        /// Unix time in milliseconds.
        at_ms: u64,
        /// The object.
        summary: serde_json::Value,
    },
}

/// Why an answer is not served any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retirement {
    /// `cache gc` removed its text: no request of the project led to it.
    Collected,
    /// An import brought it when another answer to the same request was to be kept.
    Outdated,
}

/// An answer and where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The request that it answers.
    pub key: Key,
    /// For whom it was paid; others with the same request are served from it too.
    pub instance: Instance,
    /// In which run.
    pub run: RunId,
    /// By which attempt, from 1.
    pub attempt: u32,
    /// When it came: Unix time in milliseconds.
    pub at_ms: u64,
    /// From sending to the last byte, in milliseconds.
    pub latency_ms: u64,
    /// The output limit that was sent with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// What it cost by the price table of that day; `None`: no price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// What came, whole.
    pub answer: Answer,
}

impl Record {
    /// Where it was cut off, if `rejection` says that it was.
    pub fn cut(&self, rejection: Rejection) -> Option<Cut> {
        (rejection == Rejection::Truncated).then_some(Cut {
            limit: self.max_output_tokens,
            usage: self.answer.usage,
        })
    }
}

/// What septet knows of a transcript's file: the blake3 of the text it last wrote, and of the one
/// before, since a crash between this note and the rename leaves the older one in place. A file
/// with any other content was edited by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptNote {
    /// blake3 of the newest text, in hexadecimal digits.
    pub written: String,
    /// blake3 of the text before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}
