//! Why a node would be called, in words and as a value.

use std::fmt;

use crate::call::{Cut, Misfit, Rejection};

/// Why there is no answer that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// This request was never answered.
    New,
    /// Another request was sent for the node before: what differs.
    Changed(Vec<String>),
    /// This request was sent and no answer came: why.
    Unanswered(String),
    /// Another request was sent before, and cannot be shown: why.
    Lost(String),
    /// Something was sent for the node before; nobody has looked at what differs.
    Unexplained,
    /// `--refresh` asks for another answer.
    Refreshed,
    /// The stored answer cannot be read, and why.
    Damaged(String),
    /// The newest answer was bad in another way than being cut off.
    Rejected(Rejection),
    /// The stored answer has more tokens than the limit allows now.
    TooLong {
        /// Its output tokens.
        output: u64,
        /// The limit now.
        limit: Option<u64>,
    },
    /// The stored answer does not pass the checks that the node has now.
    Unfit(Misfit),
    /// The answer was cut off, and the limit is larger now.
    CutOff {
        /// Where.
        cut: Cut,
        /// The limit now.
        limit: Option<u64>,
    },
}

impl Reason {
    /// The word for it in `--json`.
    pub fn kind(&self) -> &'static str {
        match self {
            Reason::New => "new",
            Reason::Changed(_) => "changed",
            Reason::Unanswered(_) => "unanswered",
            Reason::Lost(_) => "lost",
            Reason::Unexplained => "unexplained",
            Reason::Refreshed => "refreshed",
            Reason::Damaged(_) => "damaged",
            Reason::Rejected(_) => "rejected",
            Reason::TooLong { .. } => "too_long",
            Reason::Unfit(_) => "unfit",
            Reason::CutOff { .. } => "cut_off",
        }
    }

    /// Where the answer was cut off, in tokens: the next one is longer than that.
    pub(super) fn cut_off_at(&self) -> Option<u64> {
        match self {
            Reason::CutOff { cut, .. } => Some(cut.usage.output),
            _ => None,
        }
    }

    /// The words under which many are counted together: without what differs from one to the next.
    pub fn summary(&self) -> String {
        match self {
            Reason::Damaged(_) => "damaged records".to_owned(),
            Reason::Unanswered(_) => "sent before, no answer came".to_owned(),
            Reason::TooLong { limit, .. } => format!("stored answers longer than the limit; {}", now(*limit)),
            Reason::Unfit(misfit) => format!("stored: {}", misfit.rejection),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::New => f.write_str("new"),
            Reason::Changed(changes) => f.write_str(&changes.join("; ")),
            Reason::Unanswered(cause) => write!(f, "sent before, no answer came: {cause}"),
            Reason::Lost(why) => write!(f, "another request was sent last; {why}"),
            Reason::Unexplained => {
                f.write_str("another request than before (`septet why` says what differs)")
            }
            Reason::Refreshed => f.write_str("asked for by `--refresh`"),
            Reason::Damaged(reason) => write!(f, "stored answer is damaged ({reason})"),
            Reason::Rejected(rejection) => write!(f, "rejected last time: {rejection}"),
            Reason::TooLong { output, limit } => {
                write!(f, "stored answer has {output} tokens; {}", now(*limit))
            }
            Reason::Unfit(misfit) => f.write_str(&misfit.of_stored()),
            Reason::CutOff { cut, limit } => {
                let at = cut.limit.unwrap_or(cut.usage.output);
                write!(f, "cut off at {at} tokens; {}", now(*limit))
            }
        }
    }
}

fn now(limit: Option<u64>) -> String {
    limit.map_or_else(
        || "there is no limit now".to_owned(),
        |limit| format!("the limit is now {limit}"),
    )
}
