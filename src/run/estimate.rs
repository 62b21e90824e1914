//! Tokens of a call before it is made: characters of the input over the characters a token had so
//! far, and the output that the same node had so far. Before there is experience it is careful.

use std::sync::Arc;

use crate::call::{Request, UNKNOWN_OUTPUT, Usage};
use crate::events::{History, Spread};
use crate::names::NodeId;

/// All answers of earlier runs count as so many where money is set aside. One: at least half the
/// limit is set aside before this run has seen an answer of the node, so that none costs more than
/// twice of that, however much longer answers became since (an edited prompt, a new model behind
/// an old name).
const EARLIER: f64 = 1.0;
/// Weight of the newest answer in the running means.
const NEWEST: f64 = 0.1;

/// The size of a request, in tokens.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// By its characters, see [`Request::estimated_input_tokens`].
    pub input: u64,
    /// The output limit that is sent with it.
    pub output_cap: Option<u64>,
}

impl Size {
    /// Counts the characters.
    pub fn of(request: &Request) -> Self {
        Self {
            input: request.estimated_input_tokens(),
            output_cap: request.delivery.max_output_tokens,
        }
    }
}

/// What was learned from answers, by node.
#[derive(Debug)]
pub struct Estimates {
    /// Server's input tokens for each one of ours, by model.
    input_ratios: Vec<f64>,
    /// By node: which of them is its model's.
    models: Vec<usize>,
    output: Vec<Option<f64>>,
    /// By node.
    longest: Vec<Longest>,
    reserves_output_cap: bool,
}

/// The longest output of a node so far, and of how many answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Longest {
    tokens: f64,
    answers: f64,
}

impl Longest {
    /// What earlier runs tell.
    pub fn of_earlier(output: &Spread) -> Self {
        Self {
            tokens: output.max as f64,
            answers: (output.n as f64).min(EARLIER),
        }
    }

    /// The output to set money aside for, see `Estimates::careful`.
    pub fn careful(&self, cap: Option<f64>) -> u64 {
        let most = cap.unwrap_or(UNKNOWN_OUTPUT.max(self.tokens));
        let longest = self.tokens.min(most);
        (longest + (most - longest) / (self.answers + 1.0)).ceil() as u64
    }

    /// Takes one more in.
    pub fn add(&mut self, output: f64) {
        self.tokens = self.tokens.max(output);
        self.answers += 1.0;
    }
}

impl Estimates {
    /// For nodes with these models, with what is known of them from earlier runs.
    pub fn new(nodes: &[NodeId], models: &[Arc<str>], history: &History, reserves_output_cap: bool) -> Self {
        let pairs = || nodes.iter().zip(models);
        let mut names: Vec<&Arc<str>> = Vec::new();
        let by_node = models.iter().map(|model| {
            names.iter().position(|name| *name == model).unwrap_or_else(|| {
                names.push(model);
                names.len() - 1
            })
        });
        let by_node: Vec<usize> = by_node.collect();
        // Another model's tokens are nearer than our own guess.
        let any = pairs().find_map(|(_, model)| history.input_ratio(model));
        let ratio = |model: &&Arc<str>| history.input_ratio(model).or(any);
        let ratio = |model| ratio(model).map_or(1.0, |ratio| ratio.clamp(0.1, 10.0));
        let output = |(node, model): (&NodeId, &Arc<str>)| Some(&history.of(node, model)?.output);
        let longest = |known: Option<&Spread>| known.map_or_else(Longest::default, Longest::of_earlier);
        Self {
            input_ratios: names.iter().map(ratio).collect(),
            models: by_node,
            longest: pairs().map(output).map(longest).collect(),
            output: pairs().map(|pair| output(pair)?.mean()).collect(),
            reserves_output_cap,
        }
    }

    fn input(&self, node: usize, size: Size) -> f64 {
        size.input as f64 * self.input_ratios[self.models[node]]
    }

    /// The tokens to reserve for a request of this node.
    pub fn reserve(&self, node: usize, size: Size) -> u64 {
        let input = self.input(node, size);
        let cap = size.output_cap.map(|cap| cap as f64);
        let learned = self.output[node].unwrap_or_else(|| cap.unwrap_or(UNKNOWN_OUTPUT));
        let output = match cap {
            Some(cap) if self.reserves_output_cap => cap,
            Some(cap) => learned.min(cap),
            None => learned,
        };
        (input + output).ceil() as u64
    }

    /// Input and output tokens to set money aside for, on the careful side: the longest output of
    /// the node so far, and of what lies between it and the limit the share that stands for the
    /// chance of a longer one: of n answers in any order the newest is the longest with 1/n. So
    /// the first call is taken to need its limit, the second half of what lies between, and so on.
    /// Earlier runs count as one answer: theirs may have been to other prompts.
    pub fn careful(&self, node: usize, size: Size) -> (u64, u64) {
        let input = self.input(node, size);
        let cap = size.output_cap.map(|cap| cap as f64);
        (input.ceil() as u64, self.longest[node].careful(cap))
    }

    /// What the server counted of a reservation in the end.
    pub fn used(&self, reserved: u64, usage: &Usage) -> u64 {
        let used = usage.input + usage.output;
        if self.reserves_output_cap {
            used.max(reserved)
        } else {
            used
        }
    }

    /// Learns from an answer.
    pub fn learn(&mut self, node: usize, size: Size, usage: &Usage) {
        if usage.estimated {
            return;
        }
        let ratio = usage.input as f64 / size.input as f64;
        let known = &mut self.input_ratios[self.models[node]];
        *known += NEWEST * (ratio.clamp(0.1, 10.0) - *known);
        let output = usage.output as f64;
        self.longest[node].add(output);
        let mean = self.output[node].get_or_insert(output);
        *mean += NEWEST * (output - *mean);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::NodeHistory;

    fn size(output_cap: Option<u64>) -> Size {
        let input = 100;
        Size { input, output_cap }
    }

    fn usage(output: u64) -> Usage {
        Usage {
            input: 100,
            output,
            ..Usage::default()
        }
    }

    fn unknown() -> Estimates {
        Estimates::new(&["a".into()], &["m".into()], &History::default(), false)
    }

    #[test]
    fn what_earlier_runs_saw_counts_in_full_for_tokens_and_as_one_answer_for_money() {
        let mut known = NodeHistory::new("a".into(), "m");
        let size = size(Some(1_000));
        let mut seen = unknown();
        for output in [200, 400, 300] {
            let usage = Usage {
                input: 150,
                ..usage(output)
            };
            known.answered(&usage, Some(100), 1);
            seen.learn(0, size, &usage);
        }
        let mut history = History::default();
        history.add_older(vec![known]);
        let fresh = Estimates::new(
            &["a".into(), "b".into()],
            &["m".into(), "m".into()],
            &history,
            false,
        );
        assert_eq!(fresh.reserve(0, size), 150 + 300);
        assert_eq!(fresh.careful(0, size).1, 400 + 600 / 2);
        assert_eq!(seen.careful(0, size).1, 400 + 600 / 4);
        assert_eq!(
            fresh.reserve(1, size),
            150 + 1_000,
            "nothing is known of another node's output"
        );
    }

    #[test]
    fn money_is_set_aside_for_the_limit_at_first_and_for_the_longest_answer_in_the_end() {
        let mut estimates = unknown();
        let size = size(Some(1_000));
        assert_eq!(estimates.careful(0, size), (100, 1_000));
        estimates.learn(0, size, &usage(200));
        assert_eq!(estimates.careful(0, size), (100, 600));
        estimates.learn(0, size, &usage(400));
        assert_eq!(estimates.careful(0, size), (100, 600));
        (0..997).for_each(|_| estimates.learn(0, size, &usage(300)));
        assert_eq!(estimates.careful(0, size), (100, 401));
    }

    #[test]
    fn without_a_limit_a_thousand_tokens_or_the_longest_answer() {
        let mut estimates = unknown();
        let size = size(None);
        assert_eq!(estimates.careful(0, size).1, 1_024);
        estimates.learn(0, size, &usage(5_000));
        assert_eq!(estimates.careful(0, size).1, 5_000);
    }

    #[test]
    fn each_model_counts_its_own_tokens() {
        let (nodes, models) = (
            ["a".into(), "b".into(), "c".into()],
            ["m".into(), "n".into(), "m".into()],
        );
        let mut estimates = Estimates::new(&nodes, &models, &History::default(), false);
        let mut answer = usage(100);
        answer.input = 200;
        (0..100).for_each(|_| estimates.learn(0, size(Some(100)), &answer));
        assert_eq!(estimates.careful(2, size(Some(100))).0, 200);
        assert_eq!(
            estimates.careful(1, size(Some(100))).0,
            100,
            "the other one counts others"
        );
    }
}
