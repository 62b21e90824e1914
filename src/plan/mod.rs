//! What a run would do, decided the way a run decides it: the same requests, the same keys, the
//! same look-ups, up to the call. Nothing here reads or calls anything; both are handed in.

pub mod change;
pub mod reach;
mod reason;
pub mod sharing;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::call::{Cut, Key, Money, Price, Request, Usage};
use crate::graph::Graph;
use crate::names::NodeId;

pub use reason::Reason;

/// What is known of one node before a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Outlook {
    /// Its answer is in the store.
    Hit,
    /// It would be called, and why.
    Call(Estimate, Reason),
    /// Another node asks the same and would be called for both.
    Twin,
    /// Its request is known only once a node that it needs has been called.
    Depends(Estimate),
    /// It would fail without a call: its answer was cut off at this limit before.
    CutOff(Cut),
    /// A node that it needs would fail.
    Skipped,
}

/// What a look-up found.
pub enum Found {
    /// An answer that serves.
    Stored(Stored),
    /// Only one that was cut off, and would be again.
    CutOff(Cut),
    /// Nothing that serves.
    Missing(Reason),
}

/// Tokens of a call that was not made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Input tokens.
    pub input: u64,
    /// Output tokens that are likely.
    pub output: u64,
    /// Output tokens at the most; `None`: no limit is set.
    pub most_output: Option<u64>,
}

/// A stored answer as far as a plan needs it.
pub struct Stored {
    /// Its text: other nodes use it.
    pub text: String,
    /// Tokens of its output.
    pub output: u64,
    /// How long it took.
    pub latency: Duration,
}

/// Gathers outlooks over all personas, and what their stored answers say about the others.
#[derive(Debug)]
pub struct Planner<'a> {
    graph: &'a Graph,
    /// Keys that would be called.
    called: HashSet<Key>,
    /// Stored answers by node: how many, and their output tokens.
    seen: Vec<(u64, u64)>,
    latency: (u32, Duration),
}

/// What an answer is thought to need when nothing is known and no limit is set.
const UNKNOWN_OUTPUT: u64 = 1_024;

impl<'a> Planner<'a> {
    /// A planner that has seen nothing.
    pub fn new(graph: &'a Graph) -> Self {
        let seen = vec![(0, 0); graph.len()];
        Self {
            graph,
            called: HashSet::new(),
            seen,
            latency: (0, Duration::ZERO),
        }
    }

    /// Returns the outlook of each node of one persona.
    ///
    /// # Errors
    /// Those of `request` (a prompt that cannot be rendered) and `look` (a store that does not
    /// work).
    pub fn persona<E>(
        &mut self,
        mut request: impl FnMut(usize, &[(&NodeId, &str)]) -> Result<Request, E>,
        mut look: impl FnMut(usize, &Key, Option<u64>) -> Result<Found, E>,
    ) -> Result<Vec<Outlook>, E> {
        let graph = self.graph;
        let mut texts: Vec<Option<String>> = vec![None; graph.len()];
        let mut outlooks = vec![Outlook::Hit; graph.len()];
        for node in graph.order() {
            let needs: Vec<(&NodeId, &str)> = graph
                .needs(node)
                .iter()
                .map(|&need| (graph.id(need), texts[need].as_deref().unwrap_or("…")))
                .collect();
            let request = request(node, &needs)?;
            let fails = |&need: &usize| matches!(outlooks[need], Outlook::CutOff(_) | Outlook::Skipped);
            if graph.needs(node).iter().any(fails) {
                outlooks[node] = Outlook::Skipped;
                continue;
            }
            let unknown = graph.needs(node).iter().filter(|&&need| texts[need].is_none());
            let unknown: Vec<usize> = unknown.copied().collect();
            if !unknown.is_empty() {
                let mut estimate = self.estimate(node, &request);
                estimate.input += unknown
                    .iter()
                    .map(|&need| self.likely_output(need, None))
                    .sum::<u64>();
                outlooks[node] = Outlook::Depends(estimate);
                continue;
            }
            let key = Key::of(&request);
            outlooks[node] = match look(node, &key, request.delivery.max_output_tokens)? {
                Found::Stored(stored) => {
                    self.learn(node, &stored);
                    texts[node] = Some(stored.text);
                    Outlook::Hit
                }
                Found::CutOff(cut) => Outlook::CutOff(cut),
                Found::Missing(reason) if self.called.insert(key) => {
                    Outlook::Call(self.estimate(node, &request), reason)
                }
                Found::Missing(_) => Outlook::Twin,
            };
        }
        Ok(outlooks)
    }

    /// The mean time of the stored answers, if there are any.
    pub fn latency(&self) -> Option<Duration> {
        let (count, sum) = self.latency;
        (count > 0).then(|| sum / count)
    }

    fn learn(&mut self, node: usize, stored: &Stored) {
        self.seen[node].0 += 1;
        self.seen[node].1 += stored.output;
        self.latency.0 += 1;
        self.latency.1 += stored.latency;
    }

    fn estimate(&self, node: usize, request: &Request) -> Estimate {
        let most_output = request.delivery.max_output_tokens;
        Estimate {
            input: request.estimated_input_tokens(),
            output: self.likely_output(node, most_output),
            most_output,
        }
    }

    /// What the same node produced before, else its limit.
    fn likely_output(&self, node: usize, most: Option<u64>) -> u64 {
        match self.seen[node] {
            (0, _) => most.unwrap_or(UNKNOWN_OUTPUT),
            (count, sum) => (sum / count).min(most.unwrap_or(u64::MAX)),
        }
    }
}

/// All calls of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Nodes whose answer is in the store, twins included.
    pub hits: usize,
    /// Nodes that would be called.
    pub calls: usize,
    /// Nodes that may be called: it depends on the answers of others.
    pub depends: usize,
    /// Nodes that would fail without a call.
    pub failed: usize,
    /// Nodes that need one that would fail.
    pub skipped: usize,
    /// How many calls for which reason, in its words.
    pub reasons: BTreeMap<String, usize>,
    /// Tokens if all that depends is called.
    pub input: u64,
    /// Likely output tokens.
    pub output: u64,
    /// Most output tokens; `None`: a node has no limit.
    pub most_output: Option<u64>,
    /// Likely cost; `None`: a model has no price.
    pub cost: Option<Money>,
    /// Most that it can cost; `None`: not known.
    pub most_cost: Option<Money>,
}

impl Totals {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            most_output: Some(0),
            cost: Some(Money::ZERO),
            most_cost: Some(Money::ZERO),
            ..Self::default()
        }
    }

    /// Adds one node.
    pub fn add(&mut self, outlook: &Outlook, price: Option<&Price>) {
        let estimate = match outlook {
            Outlook::Hit | Outlook::Twin => {
                self.hits += 1;
                return;
            }
            Outlook::CutOff(_) => {
                self.failed += 1;
                return;
            }
            Outlook::Skipped => {
                self.skipped += 1;
                return;
            }
            Outlook::Call(estimate, reason) => {
                self.calls += 1;
                *self.reasons.entry(reason.summary()).or_default() += 1;
                estimate
            }
            Outlook::Depends(estimate) => {
                self.depends += 1;
                estimate
            }
        };
        let cost = |output: u64| {
            price.map(|price| {
                price.cost(&Usage {
                    input: estimate.input,
                    output,
                    ..Usage::default()
                })
            })
        };
        let sum = |a: Option<Money>, b: Option<Money>| a.zip(b).map(|(a, b)| a + b);
        self.input += estimate.input;
        self.output += estimate.output;
        self.most_output = self.most_output.zip(estimate.most_output).map(|(a, b)| a + b);
        self.cost = sum(self.cost, cost(estimate.output));
        self.most_cost = sum(self.most_cost, estimate.most_output.and_then(cost));
    }
}

/// What bounds the time of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// `requests_per_minute`.
    Requests,
    /// `tokens_per_minute`.
    Tokens,
    /// Calls in flight and how long one takes.
    Concurrency,
}

/// How long all calls take, and what binds.
pub fn duration(
    totals: &Totals,
    requests_per_minute: Option<u32>,
    tokens_per_minute: Option<u32>,
    concurrency: usize,
    latency: Duration,
) -> (Duration, Binding) {
    let calls = (totals.calls + totals.depends) as f64;
    let tokens = (totals.input + totals.output) as f64;
    let minutes = |amount: f64, rate: Option<u32>| rate.map_or(0.0, |rate| amount / f64::from(rate) * 60.0);
    // A node waits for those that it needs, however many slots are free.
    let in_a_row = if totals.depends > 0 {
        2.0
    } else {
        1.0_f64.min(calls)
    };
    let waves = (calls / concurrency as f64).ceil().max(in_a_row) * latency.as_secs_f64();
    let bounds = [
        (waves, Binding::Concurrency),
        (minutes(calls, requests_per_minute), Binding::Requests),
        (minutes(tokens, tokens_per_minute), Binding::Tokens),
    ];
    let (seconds, binding) = bounds
        .into_iter()
        .fold((0.0, Binding::Concurrency), |longest, bound| {
            if bound.0 > longest.0 { bound } else { longest }
        });
    (Duration::from_secs_f64(seconds), binding)
}

#[cfg(test)]
mod tests;
