//! The figures of one persona while it is worked on.

use std::time::Duration;

use crate::call::Money;
use crate::events::{Failure, NodeFinished, NodeStatus, TokenCounts};
use crate::names::{NodeId, PersonaId};

/// What this run did for one persona.
#[derive(Clone, Debug, PartialEq)]
pub struct PersonaFigures {
    /// Which.
    pub persona: PersonaId,
    /// Calls that were started.
    pub calls: u32,
    /// What was paid for.
    pub tokens: TokenCounts,
    /// What was paid; `None`: a paid call had no price.
    pub cost: Option<Money>,
    /// Nodes that were served from the store.
    pub cached: u32,
    /// Nodes that failed, in the order in which they did.
    pub failed: Vec<(NodeId, Failure)>,
    /// When it was first heard of, since the start of the run.
    pub began: Duration,
    /// From then to its end.
    pub took: Duration,
}

impl PersonaFigures {
    pub(super) fn new(persona: PersonaId, began: Duration) -> Self {
        Self {
            persona,
            calls: 0,
            tokens: TokenCounts::default(),
            cost: Some(Money::ZERO),
            cached: 0,
            failed: Vec::new(),
            began,
            took: Duration::ZERO,
        }
    }

    pub(super) fn node_finished(&mut self, node: &NodeFinished) {
        if node.status == NodeStatus::Cached {
            self.cached += 1;
        }
        if let (NodeStatus::Failed, Some(error)) = (node.status, &node.error) {
            self.failed.push((node.instance.node.clone(), error.clone()));
        }
    }

    /// Returns why the persona failed, and the node where it did; none where the persona itself
    /// cannot be worked on. `error` is what its end said.
    pub fn cause<'a>(&'a self, error: Option<&'a Failure>) -> Option<(Option<&'a NodeId>, &'a Failure)> {
        let Some(error) = error else {
            return self.failed.first().map(|(node, failure)| (Some(node), failure));
        };
        let node = self.failed.iter().find(|(_, failure)| failure == error);
        let node = node.filter(|_| error.kind != Failure::PERSONA);
        Some((node.map(|(node, _)| node), error))
    }

    /// Why a template cannot be rendered for it, if it failed for that and before any call: mostly others
    /// fail for the same.
    pub fn unrendered<'a>(&'a self, error: Option<&'a Failure>) -> Option<&'a Failure> {
        let (_, cause) = self.cause(error).filter(|_| self.calls == 0)?;
        (cause.kind == Failure::TEMPLATE).then_some(cause)
    }
}
