//! What goes wrong with a call to the built-in model, drawn from the shares in `[simulator]`,
//! and what a client sees of it. The texts are those that OpenAI's servers use.

use std::time::Duration;

use crate::call::{Fault, FaultKind};
use crate::config::SimulatorFaults;

/// How long an injected 429 asks to wait.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The words of an injected 500.
pub const SERVER_ERROR: &str =
    "The server had an error while processing your request. Sorry about that! (injected by the simulator)";

/// Something that goes wrong with one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// 429.
    RateLimited,
    /// 500.
    ServerError,
    /// The connection breaks in the middle of the answer.
    Connection,
    /// No answer, ever.
    Timeout,
    /// An answer cut off at half its length.
    Truncated,
    /// An answer withheld by a filter.
    Filtered,
    /// An answer without text.
    Empty,
    /// A body that is no JSON.
    Malformed,
}

/// The shares with what they bring, in the order in which they are drawn.
pub fn shares(faults: &SimulatorFaults) -> [(f64, Trouble); 8] {
    [
        (faults.rate_limited, Trouble::RateLimited),
        (faults.server_error, Trouble::ServerError),
        (faults.connection, Trouble::Connection),
        (faults.timeout, Trouble::Timeout),
        (faults.truncated, Trouble::Truncated),
        (faults.filtered, Trouble::Filtered),
        (faults.empty, Trouble::Empty),
        (faults.malformed, Trouble::Malformed),
    ]
}

impl Trouble {
    /// Draws what goes wrong, if anything; `chance` is even between 0 and 1.
    pub fn draw(faults: &SimulatorFaults, chance: f64) -> Option<Self> {
        let mut below = 0.0;
        shares(faults).into_iter().find_map(|(share, trouble)| {
            below += share;
            (chance < below).then_some(trouble)
        })
    }

    /// The part of an answer's time that passes until it happens. A refusal comes at once.
    pub fn share_of_latency(self) -> f64 {
        match self {
            Trouble::RateLimited => 0.0,
            Trouble::ServerError | Trouble::Connection => 0.5,
            _ => 1.0,
        }
    }

    /// The fault that a client makes of it; `None` where it gets an answer, if a bad one.
    pub fn fault(self, model: &str, request_id: String) -> Option<Fault> {
        let (kind, status, message) = match self {
            Trouble::RateLimited => (FaultKind::RateLimited, Some(429), rate_limited(model)),
            Trouble::ServerError => (FaultKind::ServerError, Some(500), SERVER_ERROR.to_owned()),
            Trouble::Connection => (
                FaultKind::Connection,
                None,
                "connection reset before the answer was whole".to_owned(),
            ),
            Trouble::Malformed => (FaultKind::BadResponse, Some(200), "answer is not JSON".to_owned()),
            Trouble::Timeout | Trouble::Truncated | Trouble::Filtered | Trouble::Empty => return None,
        };
        let mut fault = Fault::new(kind, message);
        fault.http_status = status;
        fault.retry_after = (self == Trouble::RateLimited).then_some(RETRY_AFTER);
        fault.request_id = status.map(|_| request_id);
        Some(fault)
    }
}

/// The words of an injected 429.
pub fn rate_limited(model: &str) -> String {
    format!("Rate limit reached for {model}. Please try again in 1s. (injected by the simulator)")
}
