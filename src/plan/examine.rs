//! Renders the nodes of one persona and looks up their answers, as far as that can be done before a call and
//! has to be. It does not put personas beside each other.

use crate::call::{Delivery, Key, Prefix, Request};
use crate::config::PrefixOrder;
use crate::graph::Graph;
use crate::names::NodeId;
use crate::plan::Found;

/// What was found of one persona, before it is put beside the others: several can be looked at at
/// the same time.
pub struct Examined {
    pub(super) nodes: Vec<Node>,
}

/// What is known of a node.
pub(super) enum Node {
    /// It has its answer, of which no more is asked.
    Answered,
    /// One that it needs fails.
    Skipped,
    Asked(Box<Asked>),
}

/// The request of a node, and what was found for it.
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) units: u64,
    pub(super) prefix: Option<(Prefix, bool)>,
    pub(super) seen: Seen,
}

pub(super) enum Seen {
    /// It is known only once some of the nodes that it needs have been called; the answers of these are not
    /// in the request.
    Depends(Vec<usize>),
    Looked(Key, Found),
}

impl Node {
    /// The answer, where it was read.
    fn text(&self) -> Option<&str> {
        match self {
            Node::Asked(asked) => match &asked.seen {
                Seen::Looked(_, Found::Stored(stored)) => Some(&stored.text),
                _ => None,
            },
            _ => None,
        }
    }

    fn fails(&self) -> bool {
        match self {
            Node::Answered => false,
            Node::Skipped => true,
            Node::Asked(asked) => matches!(asked.seen, Seen::Looked(_, Found::CutOff(_))),
        }
    }
}

impl Examined {
    /// Renders and looks up what is known of a persona. `order` is that of calls that begin alike.
    /// Nodes that are known to be `answered` are looked at only where their answers are wanted.
    ///
    /// # Errors
    /// Those of `request` (a prompt that cannot be rendered) and `look` (a store that does not
    /// work).
    pub fn new<E>(
        graph: &Graph,
        order: PrefixOrder,
        answered: Vec<bool>,
        request: impl FnMut(usize, &[(&NodeId, &str)]) -> Result<Request, E>,
        look: impl FnMut(usize, &Key, &Delivery) -> Result<Found, E>,
    ) -> Result<Self, E> {
        let mut examining = Examining {
            graph,
            order,
            nodes: std::iter::repeat_with(|| Node::Answered)
                .take(graph.len())
                .collect(),
            request,
            look,
        };
        // Whoever has the answer of the result wants its text, for the transcript.
        let skips = |node: usize| answered[node] && !answered[graph.result()];
        for node in graph.order().filter(|&node| !skips(node)) {
            examining.node(node)?;
        }
        Ok(Self {
            nodes: examining.nodes,
        })
    }
}

/// A persona while it is examined.
struct Examining<'a, R, L> {
    graph: &'a Graph,
    order: PrefixOrder,
    nodes: Vec<Node>,
    request: R,
    look: L,
}

impl<R, L, E> Examining<'_, R, L>
where
    R: FnMut(usize, &[(&NodeId, &str)]) -> Result<Request, E>,
    L: FnMut(usize, &Key, &Delivery) -> Result<Found, E>,
{
    /// Examines a node; those that it needs have been, or are known to be answered. Where all of them are
    /// there their texts are wanted, and so those of all that they need in turn, however long the chain.
    fn node(&mut self, node: usize) -> Result<(), E> {
        let graph = self.graph;
        // Each with how many of its needs have been seen to.
        let mut open = vec![(node, self.seen_to(node))];
        while let Some((node, seen_to)) = open.last_mut() {
            let (node, rest) = (*node, &graph.needs(*node)[*seen_to..]);
            let wanted = rest
                .iter()
                .position(|&need| matches!(self.nodes[need], Node::Answered));
            match wanted {
                Some(at) => {
                    *seen_to += at + 1;
                    open.push((rest[at], self.seen_to(rest[at])));
                }
                None => {
                    open.pop();
                    self.ask(node)?;
                }
            }
        }
        Ok(())
    }

    /// How many needs of a node need not be examined: all where one of them is called, or else none.
    fn seen_to(&self, node: usize) -> usize {
        let needs = self.graph.needs(node);
        let is_there = |node: &Node| matches!(node, Node::Answered) || node.text().is_some();
        match needs.iter().all(|&need| is_there(&self.nodes[need])) {
            true => 0,
            false => needs.len(),
        }
    }

    /// Renders a node, and looks it up if all that it needs is there.
    fn ask(&mut self, node: usize) -> Result<(), E> {
        let (graph, needs) = (self.graph, self.graph.needs(node));
        let text = |need: usize| self.nodes[need].text();
        let texts: Vec<(&NodeId, &str)> = needs
            .iter()
            .map(|&need| (graph.id(need), text(need).unwrap_or("…")))
            .collect();
        let request = (self.request)(node, &texts)?;
        if needs.iter().any(|&need| self.nodes[need].fails()) {
            self.nodes[node] = Node::Skipped;
            return Ok(());
        }
        let unknown: Vec<usize> = needs
            .iter()
            .copied()
            .filter(|&need| text(need).is_none())
            .collect();
        let seen = match unknown.is_empty() {
            false => Seen::Depends(unknown),
            true => {
                let key = Key::of(&request);
                Seen::Looked(key, (self.look)(node, &key, &request.delivery)?)
            }
        };
        let is_called = !matches!(seen, Seen::Looked(_, Found::Stored(_) | Found::CutOff(_)));
        let prefix = is_called.then(|| Prefix::of(&request)).flatten();
        let asked = Asked {
            units: request.estimated_input_tokens(),
            prefix: prefix.map(|prefix| (prefix, self.order.shares(&request))),
            request,
            seen,
        };
        self.nodes[node] = Node::Asked(asked.into());
        Ok(())
    }
}
