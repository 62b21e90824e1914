//! What a run would do, decided the way a run decides it: the same requests, the same keys, the
//! same look-ups, up to the call. Nothing here reads or calls anything; both are handed in.

mod again;
mod bounds;
pub mod change;
mod examine;
mod forecast;
mod history;
mod range;
pub mod reach;
mod reason;
mod sample;
pub mod sharing;
mod windows;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::call::{Cut, Delivery, Key, Prefix, Request, Usage};
use crate::config::PrefixOrder;
use crate::graph::Graph;
use crate::names::NodeId;
use crate::tariff::PriceRange;

use examine::{Asked, Node, Seen};
use forecast::{Expected, Load};
use sample::Sample;

pub use bounds::{Binding, Bounds};
pub use examine::Examined;
pub use forecast::{Basis, Call, Costs, Forecast, Part, Shared};
pub use history::{Answered, Counts, History};
pub use range::Range;
pub use reason::Reason;
pub use sample::Tokenizers;
pub use windows::{Course, Windows};

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
    /// Its tokens.
    pub usage: Usage,
    /// How long it took.
    pub latency: Duration,
}

impl Stored {
    fn answered(&self, estimated: u64) -> Answered {
        Answered {
            usage: self.usage,
            estimated: Some(estimated),
            latency: self.latency,
        }
    }
}

/// Gathers outlooks over all personas, and what their stored answers say about the others. Holds
/// nothing of a persona that has passed by but the keys that would be called.
#[derive(Debug)]
pub struct Planner<'a> {
    graph: &'a Graph,
    order: PrefixOrder,
    /// How often a bad answer is asked for again.
    rejected: u32,
    /// Keys that would be called: as much of each as tells one from all others.
    called: HashSet<u128>,
    history: History,
    /// False where its answers have been taken in before.
    learns: bool,
    loads: Vec<Load>,
    tokenizers: Option<Tokenizers<'a>>,
    /// Requests by node, where they may have to be counted.
    samples: Vec<Sample>,
    /// The limits of the nodes, as far as they were seen.
    caps: Vec<Option<u64>>,
    /// What there is to do, and of how many personas.
    shapes: BTreeMap<Vec<Part>, u64>,
}

/// More different shapes than this are taken for one of those that are known.
const MOST_SHAPES: usize = 4_096;

impl<'a> Planner<'a> {
    /// A planner that has seen nothing.
    pub fn new(graph: &'a Graph) -> Self {
        Self::with_history(graph, History::new(graph.len()))
    }

    /// A planner that knows earlier answers.
    pub fn with_history(graph: &'a Graph, history: History) -> Self {
        Self {
            graph,
            order: PrefixOrder::default(),
            rejected: 0,
            called: HashSet::new(),
            history,
            learns: true,
            loads: vec![Load::new(graph.len()); graph.len()],
            tokenizers: None,
            samples: std::iter::repeat_with(Sample::default)
                .take(graph.len())
                .collect(),
            caps: vec![None; graph.len()],
            shapes: BTreeMap::new(),
        }
    }

    /// The same planner for runs in which calls that begin alike are sent in this order.
    pub fn ordered(self, order: PrefixOrder) -> Self {
        Self { order, ..self }
    }

    /// The same planner for runs that ask again for bad answers, so many times for a node.
    pub fn asking_again(self, rejected: u32) -> Self {
        Self { rejected, ..self }
    }

    /// The same planner for nodes whose answers are no longer than this: of a node that is not looked at,
    /// no request says it.
    pub fn within(mut self, caps: impl Iterator<Item = Option<u64>>) -> Self {
        for (node, cap) in caps.enumerate() {
            self.caps[node] = cap;
            self.loads[node].within(cap);
            self.history.capped(node, cap);
        }
        self
    }

    /// The same planner where requests of which no server has counted any may be counted.
    pub fn counting(self, tokenizers: Tokenizers<'a>) -> Self {
        Self {
            tokenizers: Some(tokenizers),
            ..self
        }
    }

    /// Returns the outlook of each node of one persona.
    ///
    /// # Errors
    /// Those of `request` (a prompt that cannot be rendered) and `look` (a store that does not
    /// work).
    pub fn persona<E>(
        &mut self,
        request: impl FnMut(usize, &[(&NodeId, &str)]) -> Result<Request, E>,
        look: impl FnMut(usize, &Key, &Delivery) -> Result<Found, E>,
    ) -> Result<Vec<Outlook>, E> {
        let answered = vec![false; self.graph.len()];
        let examined = Examined::new(self.graph, self.order, answered, request, look)?;
        Ok(self.take(examined))
    }

    /// Takes in what was found of a persona, and returns the outlook of each of its nodes. Personas
    /// are to be taken in by their order: of two that ask the same, the first one is called.
    pub fn take(&mut self, examined: Examined) -> Vec<Outlook> {
        let graph = self.graph;
        let mut outlooks = vec![Outlook::Hit; graph.len()];
        let mut prefixes = vec![None; graph.len()];
        let mut nodes = examined.nodes;
        for node in graph.order() {
            let Asked {
                request,
                units,
                prefix,
                seen,
            } = match std::mem::replace(&mut nodes[node], Node::Answered) {
                Node::Answered => continue,
                Node::Skipped => {
                    outlooks[node] = Outlook::Skipped;
                    continue;
                }
                Node::Asked(asked) => *asked,
            };
            let cap = request.delivery.max_output_tokens;
            self.caps[node] = cap;
            self.history.capped(node, cap);
            outlooks[node] = match seen {
                Seen::Depends(unknown) => {
                    prefixes[node] = prefix;
                    self.loads[node].depends(units, cap, &unknown);
                    self.sample(node, &request, units);
                    Outlook::Depends(self.estimate(node, units, &unknown))
                }
                Seen::Looked(_, Found::Stored(stored)) => {
                    if self.learns {
                        self.history.present(node, &stored.answered(units));
                    }
                    Outlook::Hit
                }
                Seen::Looked(_, Found::CutOff(cut)) => Outlook::CutOff(cut),
                Seen::Looked(key, Found::Missing(reason)) if self.called.insert(short(&key)) => {
                    prefixes[node] = prefix;
                    self.loads[node].call(units, cap, reason.cut_off_at());
                    self.sample(node, &request, units);
                    let mut estimate = self.estimate(node, units, &[]);
                    // What was cut off is longer than that.
                    estimate.output = estimate.output.max(reason.cut_off_at().unwrap_or(0));
                    Outlook::Call(estimate, reason)
                }
                Seen::Looked(_, Found::Missing(_)) => Outlook::Twin,
            };
        }
        for (node, prefix) in prefixes.iter().enumerate() {
            let Some((prefix, waits)) = *prefix else { continue };
            let alike = |other: &Option<(Prefix, bool)>| other.is_some_and(|(other, _)| other == prefix);
            let group = prefixes.iter().position(alike).unwrap_or(node);
            self.loads[node].shares(prefix, waits, group);
        }
        self.remember(&outlooks);
        outlooks
    }

    /// Keeps a request if it may have to be counted. The first of a node is counted at once, for
    /// the figures of the personas that follow.
    fn sample(&mut self, node: usize, request: &Request, units: u64) {
        let Some(tokenizers) = self.tokenizers.as_ref().filter(|_| self.learns) else {
            return;
        };
        let Some(encoding) = tokenizers.of(node).filter(|_| !self.history.has_server(node)) else {
            return;
        };
        self.samples[node].add(request, units);
        if !self.history.is_sampled(node)
            && let Some(counted) = self.samples[node].count(1, encoding, tokenizers)
        {
            self.history.sampled(node, counted);
        }
    }

    /// Counts what was kept of the nodes of which no server has counted any: to be done before a
    /// forecast, when all personas have passed by.
    pub fn count(&mut self) {
        let Some(tokenizers) = &self.tokenizers else {
            return;
        };
        for (node, sample) in self.samples.iter_mut().enumerate() {
            let encoding = tokenizers.of(node).filter(|_| !self.history.has_server(node));
            let counted = encoding.and_then(|encoding| sample.count(sample::COUNTED, encoding, tokenizers));
            if let Some(counted) = counted {
                self.history.sampled(node, counted);
            }
        }
    }

    /// Begins anew with what is known by now, to go through the same personas once more.
    pub fn again(self) -> Self {
        Self {
            learns: false,
            order: self.order,
            rejected: self.rejected,
            ..Self::with_history(self.graph, self.history)
        }
        .within(self.caps.into_iter())
    }

    /// What all calls so far come to, by the prices of the nodes' models while they are made.
    pub fn forecast(&self, prices: &[Option<PriceRange>]) -> Forecast {
        forecast::forecast(&self.expected(), prices, self.sharing())
    }

    fn expected(&self) -> Expected<'_> {
        Expected::new(self.graph, &self.loads, &self.history, self.rejected)
    }

    /// What one call of each node is like.
    pub fn calls(&self) -> Vec<Call> {
        forecast::calls(&self.expected(), self.sharing())
    }

    /// What there is to do of a persona, node by node, and of how many: those with nothing to do
    /// are left out.
    pub fn shapes(&self) -> impl Iterator<Item = (&[Part], u64)> {
        self.shapes.iter().map(|(parts, &count)| (&parts[..], count))
    }

    fn remember(&mut self, outlooks: &[Outlook]) {
        let parts: Vec<Part> = outlooks.iter().map(Part::from).collect();
        if parts.iter().all(|&part| part == Part::Nothing) {
            return;
        }
        if let Some(count) = self.shapes.get_mut(&parts) {
            *count += 1;
        } else if self.shapes.len() < MOST_SHAPES {
            self.shapes.insert(parts, 1);
        } else if let Some(mut last) = self.shapes.last_entry() {
            *last.get_mut() += 1;
        }
    }

    /// Of the other nodes of a persona that has something to do, the share that is called too.
    fn sharing(&self) -> f64 {
        let (mut called, mut personas) = (0, 0);
        for (parts, count) in self.shapes() {
            let calls = parts.iter().filter(|part| **part != Part::Nothing).count() as u64;
            called += (calls - 1) * count;
            personas += count;
        }
        let others = personas * (self.graph.len() as u64 - 1);
        if others == 0 {
            0.0
        } else {
            called as f64 / others as f64
        }
    }

    fn estimate(&self, node: usize, units: u64, unknown: &[usize]) -> Estimate {
        forecast::estimate(&self.history, node, units, unknown, &self.caps, self.caps[node])
    }
}

/// Half of a key: two of them are never the same by chance.
fn short(key: &Key) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&key.as_bytes()[..16]);
    u128::from_le_bytes(half)
}

/// All nodes of a plan, counted.
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
    /// How many calls of which node for which reason, in its words.
    pub reasons: BTreeMap<String, BTreeMap<usize, usize>>,
}

impl Totals {
    /// Adds one node.
    pub fn add(&mut self, node: usize, outlook: &Outlook) {
        match outlook {
            Outlook::Hit | Outlook::Twin => self.hits += 1,
            Outlook::CutOff(_) => self.failed += 1,
            Outlook::Skipped => self.skipped += 1,
            Outlook::Call(_, reason) => {
                self.calls += 1;
                let nodes = self.reasons.entry(reason.summary()).or_default();
                *nodes.entry(node).or_default() += 1;
            }
            Outlook::Depends(_) => self.depends += 1,
        }
    }
}

#[cfg(test)]
mod tests;
