//! What a run's calls came to beyond its summary: by model, by node, and what may have been billed
//! though no answer came. Kept with the run. Events fold into it while a run goes on, and what the
//! store has of a run that died.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::call::{FaultKind, Money, Rejection, Usage};
use crate::events::{FaultHistory, NodeHistory, TokenCounts};
use crate::names::NodeId;

/// The account of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// By the model that was asked, in the order of first use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelAccount>,
    /// By node and model, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeHistory>,
    /// Calls that ended in a fault, by model and kind. Accounts of older runs do not have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultHistory>,
    /// Models whose server takes the output limits of calls that are not answered yet out of its
    /// tokens a minute, and the name of the provider where that was so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved_limits: Vec<(String, String)>,
    /// Calls whose answer never came.
    #[serde(default)]
    pub possibly_billed: PossiblyBilled,
}

/// What was paid to one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelAccount {
    /// The model that was asked.
    pub model: String,
    /// Its answers, bad ones included.
    pub answers: u64,
    /// Their tokens.
    pub tokens: TokenCounts,
    /// What they cost; `None`: one of them had no price.
    pub cost: Option<Money>,
    /// The part of it that was paid at hours with a price of their own, in the order of first use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<HoursAccount>,
}

/// What was paid to a model at hours with a price of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoursAccount {
    /// The hours as people are told: `mon-fri 01:00-04:00 UTC`.
    pub hours: String,
    /// Answers that ended then, bad ones included.
    pub answers: u64,
    /// What they cost.
    pub cost: Money,
}

/// Calls that were given up while waiting, that broke off after they were sent, or that were open
/// when the program died: nobody knows if they were billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PossiblyBilled {
    /// How many.
    pub calls: u64,
    /// The most that they can have cost; `None`: not known of one of them.
    pub most: Option<Money>,
}

/// What is known of a call beside how it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Input tokens as they were estimated.
    pub input: Option<u64>,
    /// The most that it can cost.
    pub most: Option<Money>,
    /// The output limit that was sent with it.
    pub output_limit: Option<u64>,
    /// An earlier attempt sent it: this one only asked for the answer.
    pub fetches: bool,
    /// How long attempts of this run waited for it before; `None`: none did.
    pub waited: Option<Duration>,
    /// It is a job that lives on: its answer can still be fetched.
    pub lives: bool,
}

impl Asked {
    /// How long its answer took in all, if its last attempt took so long; `None`: an earlier run sent
    /// it, and nobody knows when its answer was there.
    pub fn took(&self, latency: Duration) -> Option<Duration> {
        match (self.fetches, self.waited) {
            (true, None) => None,
            (_, waited) => Some(waited.unwrap_or_default() + latency),
        }
    }
}

impl Default for PossiblyBilled {
    fn default() -> Self {
        let most = Some(Money::ZERO);
        Self { calls: 0, most }
    }
}

impl PossiblyBilled {
    /// Takes one more call in.
    pub fn add(&mut self, most: Option<Money>) {
        self.calls += 1;
        self.most = self.most.zip(most).map(|(sum, most)| sum + most);
    }

    /// Takes the calls of another run in.
    pub fn merge(&mut self, other: PossiblyBilled) {
        self.calls += other.calls;
        self.most = self.most.zip(other.most).map(|(sum, most)| sum + most);
    }
}

impl Account {
    /// Books an accepted answer; `latency_ms`: how long it took, where that is known.
    pub fn answered(
        &mut self,
        node: &NodeId,
        model: &str,
        usage: &Usage,
        cost: Option<Money>,
        asked: Asked,
        latency_ms: Option<u64>,
    ) {
        self.model(model).add(usage, cost);
        let node = self.node(node, model);
        match latency_ms {
            Some(latency_ms) => node.answered(usage, asked.input, latency_ms),
            None => node.fetched(usage, asked.input),
        }
    }

    /// Books a bad answer.
    pub fn rejected(
        &mut self,
        node: &NodeId,
        model: &str,
        rejection: Rejection,
        usage: &Usage,
        cost: Option<Money>,
        asked: Asked,
    ) {
        self.model(model).add(usage, cost);
        self.node(node, model).rejected(rejection, asked.output_limit);
    }

    /// Books that a node was given up for a bad answer that was paid.
    pub fn gave_up(&mut self, node: &NodeId, model: &str, rejection: Rejection) {
        self.node(node, model).gave_up(rejection);
    }

    /// Books that a call ended in a fault, after so long and with the server's word how long to wait,
    /// both in milliseconds.
    pub fn faulted(
        &mut self,
        model: &str,
        kind: FaultKind,
        latency_ms: u64,
        retry_after_ms: Option<u64>,
        may_be_billed: bool,
    ) {
        let same = |known: &FaultHistory| known.model == model && known.kind == kind;
        let at = self.faults.iter().position(same).unwrap_or_else(|| {
            self.faults.push(FaultHistory::new(model, kind));
            self.faults.len() - 1
        });
        self.faults[at].add(latency_ms, retry_after_ms, may_be_billed);
    }

    /// By model: how many calls it was sent, and which of them ended in a fault.
    pub fn calls(&self) -> Vec<(&str, u64, Vec<FaultHistory>)> {
        let mut models: Vec<&str> = self.models.iter().map(|known| &*known.model).collect();
        models.extend(self.faults.iter().map(|fault| &*fault.model));
        models.sort_unstable();
        models.dedup();
        let of = |model| {
            let faults = self.faults.iter().filter(|fault| fault.model == model);
            let faults: Vec<FaultHistory> = faults.cloned().collect();
            let faulted: u64 = faults.iter().map(FaultHistory::calls).sum();
            let known = self.models.iter().find(|known| known.model == model);
            let answers = known.map_or(0, |known| known.answers);
            (model, answers + faulted, faults)
        };
        models.into_iter().map(of).collect()
    }

    /// Books that an answer, which is booked already, had the price of these hours.
    pub fn at_hours(&mut self, model: &str, hours: &str, cost: Money) {
        let account = &mut self.model(model).hours;
        match account.iter_mut().find(|known| known.hours == hours) {
            Some(known) => {
                known.answers += 1;
                known.cost += cost;
            }
            None => account.push(HoursAccount {
                hours: hours.to_owned(),
                answers: 1,
                cost,
            }),
        }
    }

    fn model(&mut self, model: &str) -> &mut ModelAccount {
        let at = self.models.iter().position(|known| known.model == model);
        let at = at.unwrap_or_else(|| {
            self.models.push(ModelAccount::new(model));
            self.models.len() - 1
        });
        &mut self.models[at]
    }

    fn node(&mut self, node: &NodeId, model: &str) -> &mut NodeHistory {
        let same = |known: &NodeHistory| known.node == *node && known.model == model;
        let at = self.nodes.iter().position(same);
        let at = at.unwrap_or_else(|| {
            self.nodes.push(NodeHistory::new(node.clone(), model));
            self.nodes.len() - 1
        });
        &mut self.nodes[at]
    }
}

impl ModelAccount {
    /// Nothing yet.
    pub fn new(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            answers: 0,
            tokens: TokenCounts::default(),
            cost: Some(Money::ZERO),
            hours: Vec::new(),
        }
    }

    fn add(&mut self, usage: &Usage, cost: Option<Money>) {
        self.answers += 1;
        self.tokens.add(usage);
        self.cost = self.cost.zip(cost).map(|(sum, cost)| sum + cost);
    }
}
