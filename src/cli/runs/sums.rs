//! What runs add up to: all of them, by model and by month.

use std::collections::BTreeMap;

use super::Told;
use crate::call::Money;
use crate::cli::clock;
use crate::events::{CallCounts, PossiblyBilled, TokenCounts};

/// The name under which runs are added up that did not keep their models.
pub const NOT_KEPT: &str = "(not kept)";

/// What several runs add up to. Simulated amounts are none and are kept apart.
#[derive(Clone, Default)]
pub struct Sum {
    pub runs: u64,
    pub calls: CallCounts,
    /// Answers that were paid for, bad ones included.
    pub answers: u64,
    pub tokens: TokenCounts,
    pub cost: Money,
    pub simulated: Money,
    /// Parts of it, runs or models, whose cost is not known.
    pub unpriced: u64,
    pub possibly: PossiblyBilled,
}

impl Sum {
    pub fn of<'a>(all: impl IntoIterator<Item = &'a Told>) -> Self {
        let mut sum = Self::default();
        all.into_iter().for_each(|told| sum.add(told));
        sum
    }

    fn add(&mut self, told: &Told) {
        let calls = told.summary.calls;
        self.runs += 1;
        self.calls += calls;
        self.answers += calls.ok + calls.rejected;
        self.tokens_and_cost(&told.summary.tokens, told.cost(), told.about.simulated);
        if !told.about.simulated {
            self.possibly.merge(possibly(told));
        }
    }

    fn tokens_and_cost(&mut self, tokens: &TokenCounts, cost: Option<Money>, simulated: bool) {
        self.tokens += *tokens;
        match (cost, simulated) {
            (None, _) => self.unpriced += 1,
            (Some(cost), true) => self.simulated += cost,
            (Some(cost), false) => self.cost += cost,
        }
    }
}

/// What may have been billed to a run beyond what it paid; an older septet counted the calls only.
pub fn possibly(told: &Told) -> PossiblyBilled {
    match (&told.account, told.summary.calls.abandoned) {
        (Some(account), _) => account.possibly_billed,
        (None, 0) => PossiblyBilled::default(),
        (None, calls) => PossiblyBilled { calls, most: None },
    }
}

/// By the model that was asked, in the order of their names.
pub fn models(all: &[Told]) -> BTreeMap<String, Sum> {
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for told in all {
        let simulated = told.about.simulated;
        let Some(account) = &told.account else {
            let calls = told.summary.calls;
            if calls.ok + calls.rejected > 0 {
                let sum = sums.entry(NOT_KEPT.to_owned()).or_default();
                sum.runs += 1;
                sum.answers += calls.ok + calls.rejected;
                sum.tokens_and_cost(&told.summary.tokens, told.cost(), simulated);
            }
            continue;
        };
        for model in &account.models {
            let sum = sums.entry(model.model.clone()).or_default();
            sum.runs += 1;
            sum.answers += model.answers;
            sum.tokens_and_cost(&model.tokens, model.cost, simulated);
        }
    }
    sums
}

/// By the month of their start, in local time: `2026-11`.
pub fn months(all: &[Told]) -> BTreeMap<String, Sum> {
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for told in all {
        let month = clock::local(told.started_ms()).chars().take(7).collect();
        sums.entry(month).or_default().add(told);
    }
    sums
}
