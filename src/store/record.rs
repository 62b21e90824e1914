//! What an entry of the store is. [`Entry`] is the whole list of what the journal can say; each
//! is JSON inside a frame (see `journal`), so that a later septet can add fields and still read
//! this one's.
//!
//! What refers to what: an [`Entry::Attempt`] names the sources that its request was made of
//! ([`Entry::Source`], by id) and the answers that it used ([`Entry::Answer`], by key). All other
//! entries stand for themselves.

use serde::{Deserialize, Serialize};

use crate::call::{Answer, Cut, FaultKind, Key, Money, Rejection};
use crate::events::Account;
use crate::names::{Instance, PersonaId, RunId};
use crate::store::source::{Source, SourceId};

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
    Attempt(Sent),
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
        /// True where it may have been billed all the same; without a `kind` it always may.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        may_be_billed: bool,
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
    /// Inputs as they were read: once for each content, before the first attempt that names it.
    Source {
        /// The name of its content.
        id: SourceId,
        /// When it was first used: Unix time in milliseconds.
        at_ms: u64,
        /// The inputs.
        source: Source,
    },
    /// The start of a run, before its first call. One without an [`Entry::Run`] died.
    Start {
        /// Which.
        run: RunId,
        /// Unix time in milliseconds.
        at_ms: u64,
        /// What it set out to do: its `run_started` object as `--json` prints it.
        about: serde_json::Value,
    },
    /// The end of a run, in its own words or (outcome `died`) as it was put together from what it
    /// left behind: its `run_finished` object as `--json` prints it.
    Run {
        /// Which.
        run: RunId,
        /// Unix time in milliseconds.
        at_ms: u64,
        /// The object.
        summary: serde_json::Value,
        /// The same by model and node; missing where an older septet ran.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<Box<Account>>,
        /// What it set out to do, as in [`Entry::Start`]; null where an older septet ran.
        #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
        about: serde_json::Value,
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

/// A call that is about to be sent, and what its request was made of. The fields from `input` on
/// are missing where an older septet sent it, and where there is nothing to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// In which run.
    pub run: RunId,
    /// For whom.
    pub instance: Instance,
    /// The request.
    pub key: Key,
    /// Counts from 1 within run and instance.
    pub attempt: u32,
    /// Unix time in milliseconds.
    pub at_ms: u64,
    /// The server's name for the job that makes its answer: noted again with it, durably, before
    /// the answer is waited for. Such a call without an end can still be fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Input tokens as they were estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    /// The most that it can cost by the price table of that day: the estimated input and an answer
    /// as long as its limit allows. `None` without a price or a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_cost: Option<Money>,
    /// Where it is a job, the `max_output_tokens` that it was begun with; `None`: none, or an older
    /// septet began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// What a budget set aside for it; `None`: no price. It counts as spent where the call may have
    /// been billed and no answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<Money>,
    /// The pipeline: an [`Entry::Source`], unless it was too large to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<SourceId>,
    /// The files of the persona: an [`Entry::Source`], unless they were too large to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persona_files: Option<SourceId>,
    /// The answers that its prompt used, in the order of the node's needs. Which answer, where
    /// there were several to one request: the newest one before this entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Key>,
    /// How long this run has waited for its job already, in milliseconds; `None`: not at all. Of no
    /// worth to another run, which cannot know when the answer was there: not stored.
    #[serde(skip)]
    pub waited_ms: Option<u64>,
}

impl Sent {
    /// The end of a call whose answer could still be fetched and will not be, because of `whom`.
    pub fn given_up(&self, at_ms: u64, whom: &str) -> Entry {
        Entry::Fault {
            run: self.run.clone(),
            instance: self.instance.clone(),
            attempt: self.attempt,
            kind: None,
            message: format!("its answer was not fetched and never will be: {whom} gave it up"),
            at_ms,
            may_be_billed: true,
        }
    }
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
    /// Where it ended, and under which limit.
    pub fn cut(&self) -> Cut {
        Cut {
            limit: self.max_output_tokens,
            usage: self.answer.usage,
        }
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

impl TranscriptNote {
    /// The name of a text: its blake3 in hexadecimal digits.
    pub fn digest(text: &[u8]) -> String {
        blake3::hash(text).to_hex().to_string()
    }

    /// True if septet wrote the text with this digest.
    pub fn is_ours(&self, digest: &str) -> bool {
        self.written == digest || self.before.as_deref() == Some(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples;

    #[test]
    fn an_attempt_of_an_older_septet_is_read_and_one_without_news_is_written_as_it_did() {
        let old = format!(
            r#"{{"entry":"attempt","run":"20261123-223015-4f2a","instance":{{"persona":"persona-3","node":"chunk-1"}},"key":"{}","attempt":1,"at_ms":1795473000000}}"#,
            samples::key(3)
        );
        let entry: Entry = serde_json::from_str(&old).unwrap();
        assert_eq!(entry, samples::attempt(3));
        assert_eq!(serde_json::to_string(&entry).unwrap(), old);
    }
}
