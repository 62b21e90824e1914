//! What goes in and out of the scheduler, as values.

use std::time::Duration;

use crate::call::{Cut, Fault, Key, Misfit};
use crate::config::Retry;
use crate::events::{Failure, NodeStatus, Outcome};
use crate::names::{PersonaId, Stop};
use crate::schedule::{Halt, Handle, SharedPrefix};

/// What a run asks of the scheduler.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Calls in flight; `None`: to be found.
    pub concurrency: Option<usize>,
    /// Where the search for it ends: files run out.
    pub most: usize,
    /// What happens after a fault or a bad answer.
    pub retry: Retry,
    /// End at the first failed node.
    pub fail_fast: bool,
}

/// What happened outside. `jitter` is a random number, at least 0 and below 1.
#[derive(Clone, Debug)]
pub enum Input {
    /// Nothing; begins the run.
    Start,
    /// The persona was read and all its prompts can be rendered, or not.
    Opened {
        slot: usize,
        result: Result<(), Failure>,
    },
    /// The node's request was rendered: its key, and its prefix where calls that have it are to wait
    /// for the first of them.
    Rendered {
        handle: Handle,
        key: Key,
        prefix: Option<SharedPrefix>,
    },
    /// The limits hold up these lanes, and no others.
    Held { lanes: Vec<usize> },
    /// The node's request cannot be made.
    Unrenderable { handle: Handle, failure: Failure },
    /// The store has the answer, or not.
    Looked { handle: Handle, hit: bool },
    /// The limits let the candidate go.
    Granted { handle: Handle },
    /// A good answer came and is durable.
    Answered { handle: Handle },
    /// A bad answer came and is durable.
    Rejected {
        handle: Handle,
        misfit: Misfit,
        /// Where, if it was cut off.
        cut: Option<Cut>,
        jitter: f64,
    },
    /// The call failed.
    Faulted {
        handle: Handle,
        fault: Fault,
        jitter: f64,
    },
    /// The call was given up because of [`Action::Abandon`].
    Abandoned { handle: Handle },
    /// The persona's transcript is written, or cannot be, or there was none to write.
    Closed { slot: usize, failed: bool },
    /// A person asked to stop.
    Stop(Stop),
    /// Calls may be sent again, after a time in which nobody tried.
    Reopened,
    /// Nothing more is to be sent, since no more money or time is left for it. What is in flight is
    /// waited for.
    Enough { outcome: Outcome, cause: Failure },
    /// Something that meets every call: the store cannot be written.
    Broken(Failure),
}

/// Why nothing can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// As many calls are in flight as may be.
    Full,
    /// The provider does not answer: the run probes.
    Outage,
    /// A server asked to wait.
    Paused,
    /// What is left waits for the first call that begins as it does.
    Leaders,
    /// What is left waits for its next try.
    Retries,
    /// What is left waits for the answers of others.
    Needs,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read the persona into this slot: answered by `Opened`.
    Open { slot: usize, persona: PersonaId },
    /// Render the node's request: answered by `Rendered` or `Unrenderable`.
    Render { handle: Handle },
    /// Look in the store: answered by `Looked`.
    Look { handle: Handle },
    /// Make the call: answered by `Answered`, `Rejected`, `Faulted` or `Abandoned`.
    Send { handle: Handle, attempt: u32 },
    /// The node has ended.
    Finish {
        handle: Handle,
        status: NodeStatus,
        failure: Option<Failure>,
    },
    /// All nodes have ended: write the transcript if the result is there, and forget the persona.
    /// Answered by `Closed`.
    Close { slot: usize, failure: Option<Failure> },
    /// Tell: the call will be made again after this pause.
    Retry {
        handle: Handle,
        cause: String,
        pause: Duration,
    },
    /// Tell: everybody in the lane waits.
    Pause {
        lane: usize,
        pause: Duration,
        cause: String,
    },
    /// Tell: the provider does not answer anyone.
    OutageBegan { cause: String },
    /// Tell: it answers again.
    OutageEnded { lasted: Duration },
    /// Tell: so many calls in flight from now on.
    Concurrency(usize),
    /// Tell: a person asked to stop.
    Stopping(Stop),
    /// Give up every call in flight.
    Abandon,
    /// The run is over. Always the last action.
    End(Halt),
}
