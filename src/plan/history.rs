//! What earlier answers say of those to come: how long a node's answers are, how many tokens the
//! server counts for our characters, how long a call takes. It does not know where they are kept.

use std::sync::Arc;
use std::time::Duration;

use crate::call::{UNKNOWN_OUTPUT, Usage};
use crate::events::NodeHistory;
use crate::plan::again::{Again, Bad};
use crate::plan::range::{Range, Spread};
use crate::plan::sample;
use crate::tokenizer::Encoding;

/// Answers to present requests that outweigh what other requests of the node got.
const ENOUGH: f64 = 8.0;

/// What an answer is taken to need of its limit where none of any node is known.
const UNKNOWN_SHARE: f64 = 0.5;

/// How far our count of the input may be off where the server's was never seen: English has some
/// five characters a token, German some four, Greek or Thai two.
const UNSEEN_RATIO: f64 = 0.25;
/// Where a tokenizer counted some requests: what the server puts around them is not known.
const COUNTED_RATIO: f64 = 0.05;
/// And where the server's was seen.
const SEEN_RATIO: f64 = 0.03;

/// An answer, as far as the next one is foreseen from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answered {
    /// Tokens as the server counted them.
    pub usage: Usage,
    /// Input tokens as they were estimated before the call; `None`: not known.
    pub estimated: Option<u64>,
    /// How long the call took.
    pub latency: Duration,
}

/// What is known of the answers of all nodes.
#[derive(Clone, Debug)]
pub struct History {
    nodes: Vec<Node>,
}

/// What is known of one node.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Answers to requests as they are now.
    present: Seen,
    /// Answers to any request of the node.
    past: Seen,
    /// True once one in `past` came from the node's present model.
    same_model: bool,
    /// Nodes of one model have the same number.
    model: usize,
    /// Its bad answers.
    bad: Bad,
    /// The limit of its present requests.
    cap: Option<u64>,
    /// Its requests as a tokenizer counts them.
    sampled: Option<sample::Counted>,
}

/// What the tokens of a node's input rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// The server counted earlier ones of the node's model.
    Server,
    /// A tokenizer counted so many requests.
    Tokenizer {
        /// Which one.
        encoding: Encoding,
        /// How many.
        requests: u64,
    },
    /// Servers counted, but for other models.
    OtherModel,
    /// Nothing: a token for every four characters.
    Characters,
}

/// Answers added up.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    output: Spread,
    /// Output without reasoning: what the nodes that need it read.
    visible: Spread,
    seconds: Spread,
    input: f64,
    cached: f64,
    written: f64,
    /// Server's and our own tokens of those inputs where both are known.
    counted: f64,
    estimated: f64,
}

impl History {
    /// Nothing is known of so many nodes.
    pub fn new(nodes: usize) -> Self {
        Self {
            nodes: vec![Node::default(); nodes],
        }
    }

    /// The same for nodes that have these models: their tokens are not counted alike.
    pub fn answered_by(mut self, models: &[Arc<str>]) -> Self {
        for (node, model) in self.nodes.iter_mut().zip(models) {
            node.model = models.iter().position(|other| other == model).unwrap_or(0);
        }
        self
    }

    /// Takes in the answer that a node's present request has.
    pub fn present(&mut self, node: usize, answered: &Answered) {
        self.nodes[node].present.add(answered);
    }

    /// Takes in any answer that a node had. What another model said counts only as long as
    /// nothing of the present one is known.
    pub fn past(&mut self, node: usize, answered: &Answered, same_model: bool) {
        if let Some(past) = self.nodes[node].past(same_model) {
            past.add(answered);
        }
    }

    /// Takes in what the accounts of earlier runs say of a node, in the same way.
    pub fn account(&mut self, node: usize, known: &NodeHistory, same_model: bool) {
        if let Some(past) = self.nodes[node].past(same_model) {
            past.add_account(known);
            self.nodes[node].bad.add(known);
        }
    }

    /// Takes in what they say of a node that had only bad answers from its model.
    pub fn bad_account(&mut self, node: usize, known: &NodeHistory) {
        self.nodes[node].bad.add(known);
    }

    /// The output limit of a node's present requests.
    pub(super) fn capped(&mut self, node: usize, cap: Option<u64>) {
        self.nodes[node].cap = cap;
    }

    /// How many answers are known of a node.
    pub fn answers(&self, node: usize) -> u64 {
        let node = &self.nodes[node];
        node.past.output.count.max(node.present.output.count) as u64
    }

    /// True if what is known of a node is only what other models said.
    pub fn is_of_another_model(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        node.present.output.count == 0.0 && node.past.output.count > 0.0 && !node.same_model
    }

    /// Output tokens of each of `calls` answers of a node, on the average; `cap` is its limit.
    pub(super) fn output(&self, node: usize, calls: u64, cap: Option<u64>) -> Range {
        let cap = cap.map(|cap| cap as f64);
        let seen = self.nodes[node].best(|seen| seen.output);
        match seen.range(calls) {
            Some(range) => range.at_most(cap.unwrap_or(f64::INFINITY)),
            None => Range {
                low: 0.0,
                likely: cap.map_or(UNKNOWN_OUTPUT, |cap| cap * self.share_of_limits()),
                high: cap.unwrap_or(f64::INFINITY),
            },
        }
    }

    /// The share of its limit that an answer of a node takes of which nothing is known: what those
    /// of the others take on the average, since whoever sets the limits has the same idea of each.
    /// Without any, half: the middle of what is possible.
    pub fn share_of_limits(&self) -> f64 {
        let known = self.nodes.iter().filter_map(|node| {
            let (output, cap) = (node.best(|seen| seen.output), node.cap? as f64);
            (output.count > 0.0 && cap > 0.0).then(|| (output.mean.min(cap), cap))
        });
        match sum(known) {
            (_, 0.0) => UNKNOWN_SHARE,
            (outputs, caps) => outputs / caps,
        }
    }

    /// How often calls of a node, of which there are so many, are made again for bad answers, at most
    /// `rejected` times each.
    pub(super) fn bad(&self, node: usize, calls: u64, cap: Option<u64>, rejected: u32) -> Again {
        let seen = self.nodes[node].best(|seen| seen.output);
        self.nodes[node].bad.again(seen, calls, cap, rejected)
    }

    /// Tokens that an answer of a node puts into the prompts of those that need it.
    pub(super) fn visible(&self, node: usize, calls: u64, cap: Option<u64>) -> Range {
        let seen = self.nodes[node].best(|seen| seen.visible);
        match seen.range(calls) {
            Some(range) => range.at_most(cap.map_or(f64::INFINITY, |cap| cap as f64)),
            None => self.output(node, calls, cap),
        }
    }

    /// Tokens that the server counts for each one of our own count of a node's input.
    pub(super) fn ratio(&self, node: usize) -> Range {
        let (ratio, off) = match self.counts(node) {
            Counts::Server => (share(self.server(node)), SEEN_RATIO),
            Counts::Tokenizer { .. } => {
                let sampled = self.nodes[node].sampled;
                let sums = sampled.map(|counted| (counted.tokens, counted.units));
                (share(sums.unwrap_or_default()), COUNTED_RATIO)
            }
            Counts::OtherModel => (share(self.foreign(node)), UNSEEN_RATIO),
            Counts::Characters => (1.0, UNSEEN_RATIO),
        };
        Range::around(ratio, off)
    }

    /// What that rests on.
    pub fn counts(&self, node: usize) -> Counts {
        match self.nodes[node].sampled {
            _ if self.has_server(node) => Counts::Server,
            Some(sampled) => Counts::Tokenizer {
                encoding: sampled.encoding,
                requests: sampled.requests,
            },
            None if self.foreign(node).1 > 0.0 => Counts::OtherModel,
            None => Counts::Characters,
        }
    }

    /// True if the server counted any input of the node's model.
    pub(super) fn has_server(&self, node: usize) -> bool {
        self.server(node).1 > 0.0
    }

    /// Takes in what a tokenizer counted, which says something where no server did.
    pub(super) fn sampled(&mut self, node: usize, counted: sample::Counted) {
        self.nodes[node].sampled = Some(counted);
    }

    /// True if a tokenizer has counted any request of a node.
    pub(super) fn is_sampled(&self, node: usize) -> bool {
        self.nodes[node].sampled.is_some()
    }

    /// The server's and our own tokens of the node's input, or of all nodes that have its model.
    fn server(&self, node: usize) -> (f64, f64) {
        let own = &self.nodes[node];
        match own.counted() {
            (_, 0.0) => sum(self
                .nodes
                .iter()
                .filter(|other| other.model == own.model)
                .map(Node::counted)),
            counted => counted,
        }
    }

    /// The same of other models.
    fn foreign(&self, node: usize) -> (f64, f64) {
        let of = |node: &Node| (node.past.counted, node.past.estimated);
        match of(&self.nodes[node]) {
            (_, 0.0) => sum(self.nodes.iter().flat_map(|node| [of(node), node.counted()])),
            counted => counted,
        }
    }

    /// The shares of a node's input that were read from and written to the provider's cache.
    pub(super) fn cache_shares(&self, node: usize) -> (f64, f64) {
        let node = &self.nodes[node];
        let seen = if node.present.output.count >= ENOUGH || node.past.input == 0.0 {
            &node.present
        } else {
            &node.past
        };
        match seen.input {
            0.0 => (0.0, 0.0),
            input => (seen.cached / input, seen.written / input),
        }
    }

    /// Seconds that each of `calls` calls of a node takes, on the average, and how far one strays
    /// from that; `None`: not known.
    pub(super) fn seconds(&self, node: usize, calls: u64) -> Option<(Range, f64)> {
        let own = self.nodes[node].best(|seen| seen.seconds);
        let all = || {
            let nodes = self.nodes.iter().map(|node| node.best(|seen| seen.seconds));
            nodes.fold(Spread::default(), Spread::merged)
        };
        let seen = if own.count > 0.0 { own } else { all() };
        Some((seen.range(calls)?, seen.deviation()))
    }
}

impl Node {
    /// Where an answer to any request of the node is added, if it tells anything.
    fn past(&mut self, same_model: bool) -> Option<&mut Seen> {
        if self.same_model && !same_model {
            return None;
        }
        if same_model && !self.same_model {
            (self.past, self.bad) = (Seen::default(), Bad::default());
            self.same_model = true;
        }
        Some(&mut self.past)
    }

    /// Answers to present requests where there are enough of them, else filled up with others.
    fn best(&self, what: impl Fn(&Seen) -> Spread) -> Spread {
        let (present, past) = (what(&self.present), what(&self.past));
        match present.count {
            0.0 => past,
            count => present.merged(past.as_of((ENOUGH - count).max(0.0))),
        }
    }

    /// The server's and our own tokens of the same inputs, for the node's present model.
    fn counted(&self) -> (f64, f64) {
        match self.present.estimated {
            0.0 if self.same_model => (self.past.counted, self.past.estimated),
            0.0 => (0.0, 0.0),
            estimated => (self.present.counted, estimated),
        }
    }
}

fn sum(pairs: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    pairs.fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1))
}

fn share((counted, estimated): (f64, f64)) -> f64 {
    counted / estimated
}

impl Seen {
    fn add(&mut self, answered: &Answered) {
        let usage = &answered.usage;
        self.output.add(usage.output as f64);
        let visible = usage.output.saturating_sub(usage.reasoning.unwrap_or(0));
        self.visible.add(visible as f64);
        self.seconds.add(answered.latency.as_secs_f64());
        self.input += usage.input as f64;
        self.cached += usage.cached_input.unwrap_or(0).min(usage.input) as f64;
        self.written += usage.cache_write.unwrap_or(0).min(usage.input) as f64;
        // What the server did not count says nothing of how it counts.
        if let Some(estimated) = answered.estimated.filter(|_| !usage.estimated) {
            self.counted += usage.input as f64;
            self.estimated += estimated as f64;
        }
    }

    fn add_account(&mut self, known: &NodeHistory) {
        let output = Spread::of(&known.output, 1.0);
        let parts = &known.parts;
        let visible = match parts.output {
            0 => 1.0,
            all => 1.0 - parts.reasoning as f64 / all as f64,
        };
        self.output = self.output.merged(output);
        self.visible = self.visible.merged(Spread::of(&known.output, visible));
        self.seconds = self.seconds.merged(Spread::of(&known.latency_ms, 1e-3));
        self.input += parts.input as f64;
        self.cached += parts.cached_input as f64;
        self.written += parts.cache_write as f64;
        self.counted += known.input as f64;
        self.estimated += known.estimated_input as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(output: u64) -> Answered {
        Answered {
            usage: Usage {
                input: 1_200,
                output,
                reasoning: Some(output / 4),
                cached_input: Some(300),
                ..Usage::default()
            },
            estimated: Some(1_000),
            latency: Duration::from_secs(2),
        }
    }

    fn past(outputs: &[u64], same_model: bool) -> History {
        let mut history = History::new(2);
        for &output in outputs {
            history.past(0, &answered(output), same_model);
        }
        history
    }

    #[test]
    fn without_history_an_answer_may_be_as_long_as_its_limit_allows() {
        let history = History::new(1);
        let range = history.output(0, 10, Some(4_000));
        assert_eq!((range.low, range.likely, range.high), (0.0, 2_000.0, 4_000.0));
        assert_eq!(history.output(0, 10, None).likely, UNKNOWN_OUTPUT);
        assert_eq!(history.output(0, 10, None).high, f64::INFINITY);
        assert!(history.seconds(0, 10).is_none());
        assert_eq!(history.ratio(0).likely, 1.0);
    }

    #[test]
    fn a_node_without_answers_uses_its_limit_as_the_others_do() {
        let mut history = past(&[900, 1_100], true);
        history.capped(0, Some(4_000));
        history.capped(1, Some(16_000));
        assert_eq!(history.output(1, 10, Some(16_000)).likely, 4_000.0);
        history.capped(0, Some(500));
        assert_eq!(history.share_of_limits(), 1.0);
    }

    #[test]
    fn many_answers_make_a_narrow_range_and_one_a_wide_one() {
        let many = past(&[900, 1_100].repeat(50), true);
        let range = many.output(0, 100, Some(4_000));
        assert!((range.likely - 1_000.0).abs() < 1e-6);
        assert!(range.low > 860.0 && range.high < 1_140.0, "{range:?}");
        let one = past(&[1_000], true).output(0, 1, Some(4_000));
        assert!(one.low < 200.0 && one.high > 1_800.0, "{one:?}");
        assert_eq!(past(&[1_000], true).output(0, 1, Some(1_200)).high, 1_200.0);
    }

    #[test]
    fn answers_to_present_requests_outweigh_older_ones() {
        let mut history = past(&[1_000; 50], true);
        history.present(0, &answered(3_000));
        let one = history.output(0, 10, None).likely;
        assert!((1_200.0..1_300.0).contains(&one), "{one}: one of eight");
        (0..9).for_each(|_| history.present(0, &answered(3_000)));
        assert_eq!(history.output(0, 10, None).likely, 3_000.0);
    }

    #[test]
    fn another_model_counts_only_while_nothing_else_is_known() {
        let mut history = past(&[5_000; 3], false);
        assert_eq!(history.output(0, 10, None).likely, 5_000.0);
        assert!(history.is_of_another_model(0));
        history.past(0, &answered(1_000), true);
        history.past(0, &answered(5_000), false);
        assert_eq!(history.output(0, 10, None).likely, 1_000.0);
        assert!(!history.is_of_another_model(0));
        assert_eq!(history.answers(0), 1);
    }

    #[test]
    fn the_servers_count_is_learned_and_serves_other_nodes_too() {
        let history = past(&[1_000; 3], true);
        assert_eq!(history.ratio(0).likely, 1.2);
        assert_eq!(history.ratio(1).likely, 1.2);
        assert_eq!(history.visible(0, 10, None).likely, 750.0);
        assert_eq!(history.cache_shares(0), (0.25, 0.0));
        assert_eq!(history.seconds(1, 10).unwrap().0.likely, 2.0);
    }

    #[test]
    fn what_the_server_did_not_count_teaches_no_ratio() {
        let mut history = History::new(1);
        let mut guessed = answered(1_000);
        guessed.usage.estimated = true;
        history.past(0, &guessed, true);
        assert_eq!(history.counts(0), Counts::Characters);
    }

    #[test]
    fn a_servers_count_comes_before_a_tokenizers_and_that_before_another_models() {
        let counted = sample::Counted {
            encoding: Encoding::O200k,
            requests: 32,
            tokens: 900.0,
            units: 1_000.0,
        };
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        let models = [one.clone(), one, other];
        let mut history = History::new(3).answered_by(&models);
        assert_eq!(history.counts(2), Counts::Characters);
        history.past(0, &answered(100), true);
        assert_eq!(
            (history.counts(1), history.ratio(1).likely),
            (Counts::Server, 1.2)
        );
        assert_eq!(
            (history.counts(2), history.ratio(2).likely),
            (Counts::OtherModel, 1.2)
        );
        (0..3).for_each(|node| history.sampled(node, counted));
        let tokenizer = Counts::Tokenizer {
            encoding: Encoding::O200k,
            requests: 32,
        };
        assert_eq!(
            (history.counts(1), history.ratio(1).likely),
            (Counts::Server, 1.2)
        );
        assert_eq!((history.counts(2), history.ratio(2).likely), (tokenizer, 0.9));
        history.past(2, &answered(100), false);
        assert_eq!(history.counts(2), tokenizer);
    }

    #[test]
    fn an_account_tells_what_its_answers_tell() {
        let outputs = [700, 900, 1_000, 1_400];
        let mut known = NodeHistory::new("a".into(), "m");
        for output in outputs {
            let answered = answered(output);
            known.answered(&answered.usage, answered.estimated, 2_000);
        }
        let mut told = History::new(2);
        told.account(0, &known, true);
        let seen = past(&outputs, true);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6 * b.max(1.0);
        let same =
            |a: Range, b: Range| near(a.low, b.low) && near(a.likely, b.likely) && near(a.high, b.high);
        assert_eq!(told.answers(0), 4);
        assert!(same(told.output(0, 10, None), seen.output(0, 10, None)));
        assert!(near(
            told.visible(0, 10, None).likely,
            seen.visible(0, 10, None).likely
        ));
        assert!(same(
            told.seconds(1, 10).unwrap().0,
            seen.seconds(1, 10).unwrap().0
        ));
        assert_eq!(told.ratio(1), seen.ratio(1));
        assert_eq!(told.cache_shares(0), seen.cache_shares(0));
        told.account(0, &known, false);
        assert_eq!(told.answers(0), 4, "other models tell nothing now");
    }
}
