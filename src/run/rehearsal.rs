//! How long a run would take, found out by running it: the same scheduler and the same limits, on
//! answers that are as long and take as long as earlier ones, and a clock that only counts. It
//! makes no call, reads nothing, and knows no prompts.

mod chance;
mod course;
mod night;
mod stage;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::budget::{Limit, Used};
use crate::call::{FaultKind, Money, Price};
use crate::events::Spread;
use crate::graph::Graph;
use crate::run::Times;
use crate::run::estimate::{Longest, Reserves};
use crate::schedule::Settings;
use crate::tariff::Tariff;

use chance::Chance;
use stage::Stage;

pub use course::{Course, Holds, Part, Phase};
pub use night::Night;

/// More calls than this are not rehearsed: from the second half of so many it is plain how the
/// rest goes on.
const MOST_CALLS: u64 = 12_000;

/// A run to be rehearsed.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The pipeline's shape.
    pub graph: Arc<Graph>,
    /// The model that each node asks.
    pub models: Vec<Arc<str>>,
    /// How nodes are scheduled.
    pub settings: Settings,
    /// Requests a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute.
    pub tokens_per_minute: Option<u32>,
    /// One call of each node.
    pub nodes: Vec<Rehearsed>,
    /// Which nodes are called, and for how many personas.
    pub personas: Vec<(Vec<bool>, u64)>,
    /// What it may spend.
    pub budget: Vec<Limit>,
}

/// One call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rehearsed {
    /// Input tokens.
    pub input: f64,
    /// Output tokens.
    pub output: f64,
    /// What a run takes the output to be before it has seen any.
    pub first_output: f64,
    /// Its limit.
    pub cap: Option<f64>,
    /// What the server reserves for it.
    pub reserves: Reserves,
    /// How often it is made again because its answer is bad; at most `retry.rejected`.
    pub again: f64,
    /// The part of its nodes whose answers are all bad, 0 to 1: these fail.
    pub lost: f64,
    /// Output tokens of a bad answer.
    pub bad_output: f64,
    /// How long it takes, in seconds.
    pub seconds: f64,
    /// How far that strays, in seconds.
    pub stray: f64,
    /// How the lengths and the times of earlier answers were spread: what is drawn is like them, and
    /// has the means above.
    pub lengths: Option<Spread>,
    /// See `lengths`.
    pub latencies: Option<Spread>,
    /// How far the two go together, -1 to 1.
    pub correlation: f64,
    /// Where no lengths are known: true if any up to twice the mean is as likely as another.
    pub evenly: bool,
    /// What goes wrong, and how often.
    pub faults: Vec<RehearsedFault>,
    /// What it begins with, where calls that begin alike wait for the first of them.
    pub prefix: Option<RehearsedPrefix>,
    /// Its money; `None`: no price.
    pub money: Option<RehearsedMoney>,
}

impl Rehearsed {
    /// The tokens that a run reserves for it, as `estimate` does, after so many answers in the run;
    /// `seen`: one of them was its own.
    pub fn reserved(&self, seen: bool, answers: u32) -> u64 {
        let expected = if seen { self.output } else { self.first_output };
        let new = self.cap.is_some_and(|cap| self.first_output >= cap);
        let output = self.reserves.output(expected, self.cap, new.then_some(answers));
        (self.input + output).ceil() as u64
    }
}

/// Calls that end in a fault.
#[derive(Clone, Debug, PartialEq)]
pub struct RehearsedFault {
    /// Of this kind.
    pub kind: FaultKind,
    /// The part of all calls of the node, 0 to 1.
    pub share: f64,
    /// From sending to the fault, in seconds.
    pub seconds: f64,
    /// How that was spread.
    pub latencies: Option<Spread>,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
    /// Such a call may have been billed.
    pub may_be_billed: bool,
}

/// What is set aside for a call, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RehearsedMoney {
    /// The dearest price that it can meet.
    pub dearest: Price,
    /// The price that it has.
    pub price: Price,
    /// The parts of its input that are read from the provider's cache and written to it.
    pub cached: (f64, f64),
    /// What earlier runs saw.
    pub longest: Longest,
}

/// The clock on the wall of a run that is rehearsed.
#[derive(Clone, Debug)]
pub struct Wall {
    /// When it starts.
    pub start: Timestamp,
    /// When it may send.
    pub times: Times,
    /// By node: prices that depend on the time, instead of those of [`RehearsedMoney`].
    pub tariffs: Vec<Option<Tariff>>,
    /// No call takes longer: its price is one of those that hold until then.
    pub longest_call: Duration,
}

/// Where a budget ends a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutOfMoney {
    /// How far the budget is used up.
    pub used: Used,
    /// The node whose call does not fit.
    pub node: usize,
    /// What is set aside for such a call.
    pub next: Money,
    /// Nodes that were called.
    pub called: u64,
}

/// What calls begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RehearsedPrefix {
    /// The same for the nodes of a persona that begin alike.
    pub group: usize,
    /// True where all personas begin alike.
    pub of_all: bool,
    /// How long a provider keeps it after its last use.
    pub lifetime: Duration,
}

impl Rehearsal {
    /// From the start to the last answer.
    pub fn duration(&self) -> Duration {
        let all = calls(&self.personas);
        if all <= MOST_CALLS {
            return self.rehearse(&self.personas, Duration::MAX).took;
        }
        let (half, whole) = self.begin();
        let rehearsed = calls(&self.part(MOST_CALLS as f64 / all as f64));
        // Of the others as many fail as of these.
        let rest = whole.sent as f64 * (all as f64 / rehearsed as f64 - 1.0).max(0.0);
        let took = whole.took;
        took + took
            .saturating_sub(half.took)
            .mul_f64(rest / second(&half, &whole))
    }

    /// How many nodes have been called by then, if nothing is sent from that time on.
    pub fn sent_by(&self, time: Duration) -> u64 {
        let all = calls(&self.personas);
        if all <= MOST_CALLS {
            return self.rehearse(&self.personas, time).sent;
        }
        let (half, whole) = self.begin();
        if time <= half.took {
            return self
                .rehearse(&self.part(MOST_CALLS as f64 / all as f64), time)
                .sent;
        }
        let second_took = whole.took.saturating_sub(half.took).as_secs_f64();
        let share = time.saturating_sub(half.took).as_secs_f64() / second_took.max(f64::MIN_POSITIVE);
        let sent = half.sent as f64 + share * second(&half, &whole);
        (sent as u64).min(all)
    }

    /// Where the budget ends it; `None`: it does not, as far as it is rehearsed.
    pub fn out_of_money(&self) -> Option<OutOfMoney> {
        if self.budget.is_empty() {
            return None;
        }
        let share = (MOST_CALLS as f64 / calls(&self.personas).max(1) as f64).min(1.0);
        let stage = |budget: &[Limit]| self.stage(&self.part(share), Duration::MAX, budget);
        stage(&self.budget).play().out_of_money
    }

    /// Where there are more calls than are rehearsed: half of those that are, and all of them.
    fn begin(&self) -> (Played, Played) {
        let share = MOST_CALLS as f64 / calls(&self.personas) as f64;
        let rehearse = |share| self.rehearse(&self.part(share), Duration::MAX);
        (rehearse(share / 2.0), rehearse(share))
    }

    fn part(&self, share: f64) -> Vec<(Vec<bool>, u64)> {
        let some = |count: u64| ((count as f64 * share).round() as u64).max(1);
        let of = |(called, count): &(Vec<bool>, u64)| (called.clone(), some(*count));
        self.personas.iter().map(of).collect()
    }

    /// Plays these personas; nothing is sent at `until` or later.
    fn rehearse(&self, personas: &[(Vec<bool>, u64)], until: Duration) -> Played {
        self.stage(personas, until, &[]).play()
    }

    fn stage(&self, personas: &[(Vec<bool>, u64)], until: Duration, budget: &[Limit]) -> Stage<'_> {
        Stage::new(self, personas, until, budget, Chance::even(self), None)
    }
}

/// What came of it.
struct Played {
    took: Duration,
    sent: u64,
    out_of_money: Option<OutOfMoney>,
    night: Night,
}

fn calls(personas: &[(Vec<bool>, u64)]) -> u64 {
    let of = |(called, count): &(Vec<bool>, u64)| called.iter().filter(|c| **c).count() as u64 * count;
    personas.iter().map(of).sum()
}

/// The calls of the second half.
fn second(half: &Played, whole: &Played) -> f64 {
    whole.sent.saturating_sub(half.sent).max(1) as f64
}

/// Which shape each persona has: evenly mixed, as names mix them.
fn mixed(personas: &[(Vec<bool>, u64)]) -> Vec<usize> {
    let mut places: Vec<(f64, usize)> = Vec::new();
    for (shape, (_, count)) in personas.iter().enumerate() {
        places.extend((0..*count).map(|i| ((i as f64 + 0.5) / *count as f64, shape)));
    }
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    places.into_iter().map(|(_, shape)| shape).collect()
}

#[cfg(test)]
mod tests;
