//! The faults between two answers, as a person is told of them: the same while an outage is not
//! declared yet, and where there is none, because one request alone is left and fails. It does not
//! know what is done about them.

use std::time::Duration;

/// Fewer faults in a row are no news: each of them is tried again.
const FEW: u64 = 3;
/// A log has a word on it after so long, and again each time that it has lasted [`LONGER`] times
/// as long.
const FIRST_WORD: Duration = Duration::from_secs(5);
const LONGER: u32 = 4;

/// Faults as an outage has them that came one after the other, without an answer between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// When the first of them came.
    pub since: Duration,
    /// The words of the newest.
    pub cause: String,
    /// True if the newest event is a fault at which it is time to say so in a log.
    pub is_due: bool,
    faults: u64,
    next_word: Duration,
}

impl Silence {
    pub(super) fn new(since: Duration) -> Self {
        Self {
            since,
            cause: String::new(),
            is_due: false,
            faults: 0,
            next_word: FIRST_WORD,
        }
    }

    pub(super) fn faulted(&mut self, at: Duration, cause: &str) {
        self.faults += 1;
        cause.clone_into(&mut self.cause);
        let lasts = at.saturating_sub(self.since);
        self.is_due = self.is_news() && lasts >= self.next_word;
        if self.is_due {
            self.next_word = lasts.saturating_mul(LONGER);
        }
    }

    /// The call that has ended says nothing of it.
    pub(super) fn passed_over(self) -> Self {
        Self {
            is_due: false,
            ..self
        }
    }

    /// True where it is more than the odd fault, which the next try mends.
    pub fn is_news(&self) -> bool {
        self.faults >= FEW
    }
}
