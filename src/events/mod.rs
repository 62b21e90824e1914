//! All that anyone can be told about a run, as values. Whatever a person or a program sees is
//! drawn from these; [`Tally`] folds them into every figure that is shown.

mod account;
mod alike;
mod history;
mod pace;
mod persona;
mod silence;
mod summary;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use account::{Account, Asked, HoursAccount, ModelAccount, PossiblyBilled};
pub use alike::{Alike, SHOWN_ALIKE};
pub use history::{FaultHistory, History, ModelHistory, NodeHistory, Spread};
pub use persona::PersonaFigures;
pub use silence::Silence;
pub use summary::{
    CallCounts, FailureExample, Failures, NodeCounts, PersonaCounts, PromptCache, RunSummary, Saved,
    TokenCounts,
};
pub use tally::{FailureCause, FailureGroup, Tally};

use crate::budget::Used;
use crate::call::{Counted, Fault, FaultKind, Money, RateChange, Rejection, Usage};
use crate::hours::Moment;
use crate::names::{Instance, NodeId, PersonaId, RunId, Stop};

/// An event with its time since the start of the run. The sender stamps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stamped {
    /// Since the run started.
    pub at: Duration,
    /// What happened.
    pub event: Event,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Always first.
    RunStarted(Box<RunStarted>),
    /// A call was sent.
    CallStarted {
        /// For whom.
        instance: Instance,
        /// Counts from 1.
        attempt: u32,
    },
    /// A server has taken a call as a job, under a name that is durable now: its answer is fetched,
    /// if need be by another run.
    CallQueued {
        /// For whom.
        instance: Instance,
        /// Counts from 1.
        attempt: u32,
        /// The server's name for it.
        job: String,
    },
    /// A call ended.
    CallEnded {
        /// For whom.
        instance: Instance,
        /// Counts from 1.
        attempt: u32,
        /// What was known of it before.
        asked: Asked,
        /// From sending to its end.
        latency: Duration,
        /// How.
        outcome: CallOutcome,
    },
    /// A call that failed will be made again.
    Retrying {
        /// For whom.
        instance: Instance,
        /// What went wrong: a fault's words or a rejection's.
        cause: String,
        /// After this pause, at least.
        pause: Duration,
    },
    /// Everyone waits, or all who ask one model: a server asked for it (429).
    Paused {
        /// At least so long.
        pause: Duration,
        /// Until then.
        until: Moment,
        /// Which model; `None`: there is only one.
        model: Option<Arc<str>>,
        /// The server's words.
        cause: String,
    },
    /// The provider does not answer anyone: the run waits and probes.
    OutageBegan {
        /// The last fault's words.
        cause: String,
    },
    /// A probe succeeded.
    OutageEnded {
        /// How long it was.
        lasted: Duration,
    },
    /// Calls in flight that are allowed from now on (only without `limits.concurrency`).
    ConcurrencyChanged {
        /// The new number.
        concurrency: usize,
    },
    /// Calls or tokens a minute that are asked for from now on: the server said how many it allows,
    /// or refused some, or has not for a while.
    RateChanged(RateChange),
    /// The server takes the output limits of calls that are not answered yet out of a model's tokens a
    /// minute: as much is reserved for each from now on.
    OutputLimitReserved {
        /// The model.
        model: Arc<str>,
        /// The refusal that showed it; `None`: an earlier run saw one.
        seen: Option<Reckoned>,
    },
    /// The limit that holds calls up from now on; `None`: none does any more.
    LimitBinds(Option<Counted>),
    /// A node of a persona has reached its end.
    NodeFinished(Box<NodeFinished>),
    /// A persona needs nothing: its nodes have their answers and its transcript holds them, which was
    /// seen without looking at each. Stands for the ends of its nodes and for its own.
    UpToDate {
        /// Which.
        persona: PersonaId,
        /// What its answers had cost; `None`: not known of one of them.
        saved: Option<Money>,
    },
    /// A persona has reached its end. The ends of its nodes were told before.
    PersonaFinished {
        /// Which.
        persona: PersonaId,
        /// How.
        status: PersonaStatus,
        /// Why, where it failed: the failure of its first failed node as that node told it
        /// (without the node's name, which is added where it is shown), or its own.
        error: Option<Failure>,
        /// Where its transcript is, as the user would type it; for `kept`, where the new text is.
        path: Option<String>,
    },
    /// Something that a person should know and that stops nothing.
    Warning {
        /// One line, lower case, no full stop.
        message: String,
    },
    /// Calls are waiting because it is outside `limits.hours`.
    Waiting {
        /// When they open.
        until: Moment,
        /// In so long.
        wait: Duration,
    },
    /// The hours have opened.
    WaitingEnded,
    /// The time set for the run is over: nothing more is sent.
    DeadlineReached {
        /// That time.
        until: Moment,
        /// Where it is not over yet, but calls may only be sent again after it: when the hours open.
        opens: Option<Moment>,
    },
    /// Most of a budget is spent; told once for each limit.
    BudgetLow(Used),
    /// The next call does not fit into the budget: nothing more is sent.
    BudgetReached {
        /// How far it is used up.
        used: Used,
        /// Whose call it is.
        instance: Instance,
        /// What that is thought to cost.
        next: Money,
    },
    /// A person asked to stop.
    Stopping(Stop),
    /// Always last.
    RunFinished {
        /// How it ended.
        outcome: Outcome,
        /// For `Fatal`, `Budget`, `Deadline`, and for `Partial` by `--fail-fast`: what ended it.
        cause: Option<Failure>,
    },
}

/// What a run is about to do.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStarted {
    /// Its name.
    pub run: RunId,
    /// How many personas were chosen.
    pub personas: usize,
    /// The length of their longest name in characters: columns are laid out before the names
    /// are known.
    pub longest_persona: usize,
    /// The nodes of the pipeline in order.
    pub nodes: Vec<NodeId>,
    /// The model that each of them asks.
    pub models: Vec<Arc<str>>,
    /// Calls in flight; `None`: starts at 4 and grows.
    pub concurrency: Option<usize>,
    /// The limit, where there is one.
    pub requests_per_minute: Option<u32>,
    /// The limit, where there is one.
    pub tokens_per_minute: Option<u32>,
    /// Nothing is sent from then on.
    pub until: Option<Moment>,
    /// What this run may spend, where that is limited: what its tightest budget leaves.
    pub budget: Option<Money>,
    /// The provider's name.
    pub provider: Arc<str>,
    /// True for the built-in model: costs are simulated.
    pub simulated: bool,
}

/// A call that was refused for its tokens, and how many these were taken to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reckoned {
    /// Whose call it was.
    pub instance: Instance,
    /// As the server says.
    pub by_server: u64,
    /// What was reserved for it.
    pub by_septet: u64,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum CallOutcome {
    /// An answer that may be served; it is stored.
    Ok {
        /// Its tokens.
        usage: Usage,
        /// What it cost; `None`: no price.
        cost: Option<Money>,
        /// What the provider's cache saved on it; `None`: no price.
        saved: Option<Money>,
        /// The hours whose price it has; `None`: the usual one.
        hours: Option<Arc<str>>,
    },
    /// A bad answer; it is stored as evidence and was paid.
    Rejected {
        /// Why.
        rejection: Rejection,
        /// Its tokens.
        usage: Usage,
        /// What it cost; `None`: no price.
        cost: Option<Money>,
        /// What the provider's cache saved on it; `None`: no price.
        saved: Option<Money>,
        /// The hours whose price it has; `None`: the usual one.
        hours: Option<Arc<str>>,
    },
    /// No usable answer.
    Faulted(Fault),
    /// Given up while waiting: a timeout or a second Ctrl+C. It may have been billed.
    Abandoned,
}

/// The end of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeFinished {
    /// Which.
    pub instance: Instance,
    /// How.
    pub status: NodeStatus,
    /// Calls that were made for it in this run.
    pub attempts: u32,
    /// Tokens that this run paid for it, rejected answers included.
    pub tokens: Usage,
    /// What this run paid for it, rejected answers included; `None`: no price.
    pub cost: Option<Money>,
    /// For `Cached`: what the answer had cost when it was paid; `None`: not known.
    pub saved: Option<Money>,
    /// Why, where it failed.
    pub error: Option<Failure>,
}

impl NodeFinished {
    /// A node that is served from the store, of whose answer nothing else is known.
    pub fn cached(instance: Instance) -> Self {
        Self {
            instance,
            status: NodeStatus::Cached,
            attempts: 0,
            tokens: Usage::default(),
            cost: Some(Money::ZERO),
            saved: None,
            error: None,
        }
    }
}

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeStatus {
    /// An accepted answer was paid for in this run.
    Called,
    /// Served from the store.
    Cached,
    /// Given up.
    Failed,
    /// A node that it needs failed.
    Skipped,
}

/// How a persona ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonaStatus {
    /// Its transcript was written.
    Written,
    /// Its transcript was up to date.
    Unchanged,
    /// Its transcript was edited by hand: the new text is beside it.
    Kept,
    /// There is no new transcript.
    Failed,
}

/// How a run ended. Ordered: a stronger one replaces a weaker one, and each has its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything is up to date.
    Complete,
    /// Some personas failed.
    Partial,
    /// The time set for it was over.
    Deadline,
    /// The next call did not fit into the budget.
    Budget,
    /// A fault that would meet every call, an outage without an end, or a store that cannot be
    /// written.
    Fatal,
    /// A person stopped it.
    Interrupted,
}

/// Why something failed, as `--json` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The kind: one of those listed in `docs/json.md`.
    pub kind: &'static str,
    /// One line for a person.
    pub message: String,
    /// The HTTP status, where there was one.
    pub http_status: Option<u16>,
}

impl Outcome {
    /// Returns the exit code of a run that ended so.
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Complete => 0,
            Outcome::Partial => 1,
            Outcome::Deadline | Outcome::Budget | Outcome::Fatal => 3,
            Outcome::Interrupted => 130,
        }
    }
}

impl Outcome {
    /// True for the ends that only leave the rest for later: nothing is wrong.
    pub fn leaves_a_rest(self) -> bool {
        matches!(self, Outcome::Deadline | Outcome::Budget)
    }
}

impl Failure {
    /// The kind of a budget that is used up.
    pub const BUDGET: &'static str = "budget";
    /// The kind of a time that is over.
    pub const DEADLINE: &'static str = "deadline";
    /// The kind of a persona that cannot be read: all its nodes fail, and none of them is the
    /// place.
    pub const PERSONA: &'static str = "persona";
    /// The kind of a prompt that cannot be rendered.
    pub const TEMPLATE: &'static str = "template";
    /// The kind of a transcript that cannot be read or written.
    pub const OUTPUT: &'static str = "output";
    /// The kind of a store that does not work.
    pub const STORE: &'static str = "store";
    /// The kind of a panic inside septet.
    pub const BUG: &'static str = "bug";
    /// The kinds that are neither a fault's nor a rejection's.
    pub const OTHER_KINDS: [&'static str; 7] = [
        Self::BUDGET,
        Self::DEADLINE,
        Self::PERSONA,
        Self::TEMPLATE,
        Self::OUTPUT,
        Self::STORE,
        Self::BUG,
    ];
}

impl From<&Fault> for Failure {
    fn from(fault: &Fault) -> Self {
        Self {
            kind: fault.kind.as_str(),
            message: fault.message.clone(),
            http_status: fault.http_status,
        }
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self {
            kind: rejection.as_str(),
            message: rejection.to_string(),
            http_status: None,
        }
    }
}

impl CallOutcome {
    /// True where the attempt was given up while waiting, so that nobody knows if it was billed.
    pub fn is_abandoned(&self) -> bool {
        match self {
            CallOutcome::Abandoned => true,
            CallOutcome::Faulted(fault) => fault.kind == FaultKind::Timeout,
            _ => false,
        }
    }
}
