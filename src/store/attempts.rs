//! Calls and runs that were begun and have not ended, followed entry by entry: the one thing that
//! cannot be seen from a single entry. Does not know what is done about them.

use std::collections::{BTreeMap, HashMap};

use crate::call::Money;
use crate::names::RunId;
use crate::store::put::{Call, Gist};
use crate::store::record::{Entry, Sent};
use crate::store::segment::Position;

/// What has no end so far: a handful of calls and one run in a running program, and after a crash
/// those that may have been billed though no answer was stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts {
    calls: HashMap<Call, Sent>,
    /// And where in the journal the first entry of a run stands, or before that.
    runs: BTreeMap<RunId, Position>,
}

impl Attempts {
    /// Those that were listed before.
    pub(super) fn of(calls: &[Entry], runs: &BTreeMap<RunId, Position>) -> Self {
        let mut attempts = Self::default();
        for call in calls {
            attempts.follow(&Gist::from(call), Position::start_of(1));
        }
        attempts.runs.clone_from(runs);
        attempts
    }

    /// Takes the next entry of the journal into account. It stands at `at` or behind it.
    pub(super) fn follow(&mut self, gist: &Gist, at: Position) {
        match gist {
            Gist::Attempt(sent) => {
                let call = Call::new(&sent.run, &sent.instance, sent.attempt);
                self.calls.insert(call, Sent::clone(sent));
            }
            Gist::Answer { call, .. }
            | Gist::Rejected { call, .. }
            | Gist::Retired { call, .. }
            | Gist::Fault { call, .. } => {
                self.calls.remove(call);
            }
            Gist::Start(run) => _ = self.runs.entry(run.clone()).or_insert(at),
            Gist::Run(run) => _ = self.runs.remove(run),
            Gist::Refresh(_) | Gist::Transcript(_) | Gist::Source(_) => {}
        }
    }

    /// What was set aside for a call that has not ended.
    pub(super) fn reserved(&self, call: &Call) -> Option<Money> {
        self.calls.get(call)?.reserved
    }

    /// The calls without an end as they were noted, sorted.
    pub(super) fn calls(&self) -> Vec<Sent> {
        let mut calls: Vec<_> = self.calls.iter().collect();
        calls.sort_by_key(|(call, _)| *call);
        calls.into_iter().map(|(_, sent)| sent.clone()).collect()
    }

    /// The runs without an end, and where to look for what they did.
    pub(super) fn runs(&self) -> &BTreeMap<RunId, Position> {
        &self.runs
    }
}
