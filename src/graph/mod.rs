//! The shape of the work: which node needs which. Built once from the pipeline and shared by all
//! personas; it knows nothing of prompts, answers or states.

pub mod draw;

use petgraph::Direction;
use petgraph::algo::toposort;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::config;
use crate::names::NodeId;

/// The pipeline as a graph. Nodes are counted from 0 in the order of `pipeline.toml`.
#[derive(Debug)]
pub struct Graph {
    ids: Vec<NodeId>,
    needs: Vec<Vec<usize>>,
    dependants: Vec<Vec<usize>>,
    height: Vec<usize>,
    order: Vec<usize>,
    result: usize,
}

impl Graph {
    /// Builds the graph of a checked pipeline.
    ///
    /// # Panics
    /// If `needs` has a cycle or an unknown name: [`crate::config`] refuses both.
    pub fn new(nodes: &[config::Node], result: &NodeId) -> Self {
        let mut graph = DiGraph::<(), (), usize>::with_capacity(nodes.len(), nodes.len());
        let position = |id: &NodeId| {
            nodes
                .iter()
                .position(|node| node.id == *id)
                .expect("BUG: a need that config did not check")
        };
        for _ in nodes {
            graph.add_node(());
        }
        for (index, node) in nodes.iter().enumerate() {
            for need in &node.needs {
                graph.add_edge(NodeIndex::new(position(need)), NodeIndex::new(index), ());
            }
        }
        let neighbours = |index: usize, direction| {
            let mut found: Vec<usize> = graph
                .neighbors_directed(NodeIndex::new(index), direction)
                .map(NodeIndex::index)
                .collect();
            found.sort_unstable();
            found
        };
        let needs = (0..nodes.len())
            .map(|i| neighbours(i, Direction::Incoming))
            .collect();
        let dependants: Vec<_> = (0..nodes.len())
            .map(|i| neighbours(i, Direction::Outgoing))
            .collect();
        let mut height = vec![0; nodes.len()];
        let order = toposort(&graph, None).expect("BUG: a cycle that config did not check");
        let order: Vec<usize> = order.into_iter().map(NodeIndex::index).collect();
        for &index in order.iter().rev() {
            height[index] = dependants[index]
                .iter()
                .map(|&next| height[next] + 1)
                .max()
                .unwrap_or(0);
        }
        Self {
            ids: nodes.iter().map(|node| node.id.clone()).collect(),
            needs,
            dependants,
            height,
            order,
            result: position(result),
        }
    }

    /// How many nodes a persona has.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// True for a pipeline without nodes, which config refuses.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The name of a node.
    pub fn id(&self, node: usize) -> &NodeId {
        &self.ids[node]
    }

    /// All names, in the order of the pipeline.
    pub fn ids(&self) -> &[NodeId] {
        &self.ids
    }

    /// The nodes whose answers `node` uses, in the order of the pipeline.
    pub fn needs(&self, node: usize) -> &[usize] {
        &self.needs[node]
    }

    /// The nodes that use the answer of `node`.
    pub fn dependants(&self, node: usize) -> &[usize] {
        &self.dependants[node]
    }

    /// The nodes that need nothing: a persona starts with them.
    pub fn roots(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len()).filter(|&node| self.needs[node].is_empty())
    }

    /// All nodes, each after those that it needs.
    pub fn order(&self) -> impl Iterator<Item = usize> + '_ {
        self.order.iter().copied()
    }

    /// How many calls, one after the other, come after `node` at least: 0 for a last node.
    pub fn height(&self, node: usize) -> usize {
        self.height[node]
    }

    /// The node whose answer is the transcript.
    pub fn result(&self) -> usize {
        self.result
    }

    /// All that would be skipped if `node` failed: its dependants, theirs, and so on.
    pub fn downstream(&self, node: usize) -> Vec<usize> {
        let mut seen = vec![false; self.len()];
        let mut open = vec![node];
        while let Some(next) = open.pop() {
            for &dependant in &self.dependants[next] {
                if !std::mem::replace(&mut seen[dependant], true) {
                    open.push(dependant);
                }
            }
        }
        (0..self.len()).filter(|&index| seen[index]).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    /// The shape that ships: seven chunks and what joins them.
    pub(crate) const SEVEN_AND_ONE: &[&str] = &[
        "c1",
        "c2",
        "c3",
        "c4",
        "c5",
        "c6",
        "c7",
        "combine: c1 c2 c3 c4 c5 c6 c7",
    ];

    /// A graph from lines such as `"c: a b"`: node `c` needs `a` and `b`. The last is the result.
    pub(crate) fn graph(lines: &[&str]) -> Graph {
        let nodes: Vec<config::Node> = lines
            .iter()
            .map(|line| {
                let (id, needs) = line.split_once(':').unwrap_or((line, ""));
                node(id, needs)
            })
            .collect();
        let result = nodes.last().unwrap().id.clone();
        Graph::new(&nodes, &result)
    }

    fn node(id: &str, needs: &str) -> config::Node {
        config::Node {
            id: id.into(),
            needs: needs.split_whitespace().map(NodeId::from).collect(),
            system: None,
            context: None,
            prompt: String::new(),
            vars: BTreeMap::new(),
            model: config::Model {
                name: "m".into(),
                max_output_tokens: None,
                service_tier: None,
                parameters: Arc::default(),
                cache: Default::default(),
            },
            variant: None,
            checks: Arc::default(),
            schema_file: None,
            line: 1,
        }
    }

    #[test]
    fn heights_count_the_calls_that_come_after() {
        let diamond = graph(&["a", "b: a", "c: a", "long: c", "d: b long"]);
        let heights: Vec<usize> = (0..5).map(|i| diamond.height(i)).collect();
        assert_eq!(heights, [3, 1, 2, 1, 0]);
    }

    #[test]
    fn downstream_is_everything_behind_a_node_once() {
        let diamond = graph(&["a", "b: a", "c: a", "alone", "d: b c"]);
        assert_eq!(diamond.downstream(0), [1, 2, 4]);
        assert_eq!(diamond.downstream(3), [] as [usize; 0]);
    }

    #[test]
    fn needs_are_in_the_order_of_the_pipeline_whatever_their_own() {
        let graph = graph(&["a", "b", "c: b a"]);
        assert_eq!(graph.needs(2), [0, 1]);
        assert_eq!(graph.roots().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(graph.result(), 2);
    }
}
