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
/// With each answer, so much is left of the difference between the output limit and what is expected.
const STEP: f64 = 0.8;
/// Weight of the newest answer in the running means.
const NEWEST: f64 = 0.1;

/// What a server takes out of its tokens a minute for the output of a call that is not answered yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reserves {
    /// What the answers use; until they are there nobody knows, and what is expected is near it.
    #[default]
    Expected,
    /// The output limit, and gives back what was not used when the answer is there.
    LimitUntilAnswered,
    /// The output limit, whatever is used.
    Limit,
}

impl Reserves {
    /// The same, or what earlier runs saw of a provider's model.
    pub fn or_learned(self, history: &History, provider: &str, model: &str) -> Self {
        match self {
            Reserves::Expected if history.reserves_limits(provider, model) => Reserves::LimitUntilAnswered,
            known => known,
        }
    }

    /// The output tokens to reserve for a call with this limit. Where answers are `new`, so many of the
    /// model have come: what is expected is come down to step by step, so that a server that reserves
    /// limits refuses one or two calls and not a burst of them.
    pub fn output(self, expected: f64, cap: Option<f64>, new: Option<u32>) -> f64 {
        match (self, cap) {
            (_, None) => expected,
            (Reserves::Expected, Some(cap)) => {
                let expected = expected.min(cap);
                let share = new.map_or(0.0, |answers| STEP.powf(f64::from(answers)));
                // The last step is a whole one.
                expected
                    + if share < 0.05 {
                        0.0
                    } else {
                        (cap - expected) * share
                    }
            }
            (Reserves::LimitUntilAnswered | Reserves::Limit, Some(cap)) => cap,
        }
    }

    /// What the server counts in the end of a call for which so much was reserved.
    pub fn counted(self, reserved: u64, used: u64) -> u64 {
        match self {
            Reserves::Expected | Reserves::LimitUntilAnswered => used,
            Reserves::Limit => used.max(reserved),
        }
    }
}

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
    /// By node: earlier runs knew nothing of it.
    new: Vec<bool>,
    /// By model: in this run.
    answers: Vec<u32>,
    /// By node.
    longest: Vec<Longest>,
    /// By model.
    reserves: Vec<Reserves>,
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
    /// For nodes with these models, with what is known of them from earlier runs and of the server.
    pub fn new(
        nodes: &[NodeId],
        models: &[Arc<str>],
        history: &History,
        reserves: impl Fn(&str) -> Reserves,
    ) -> Self {
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
            reserves: names.iter().map(|model| reserves(model)).collect(),
            models: by_node,
            longest: pairs().map(output).map(longest).collect(),
            output: pairs().map(|pair| output(pair)?.mean()).collect(),
            new: pairs()
                .map(|pair| output(pair).is_none_or(|known| known.n == 0))
                .collect(),
            answers: vec![0; names.len()],
        }
    }

    fn input(&self, node: usize, size: Size) -> f64 {
        size.input as f64 * self.input_ratios[self.models[node]]
    }

    /// The tokens to reserve for a request of this node.
    pub fn reserve(&self, node: usize, size: Size) -> u64 {
        self.reserve_as(self.reserves(node), node, size)
    }

    /// At least one token for four characters: servers count no tokens before they let a call in, they
    /// go by its length.
    fn reserve_as(&self, reserves: Reserves, node: usize, size: Size) -> u64 {
        let cap = size.output_cap.map(|cap| cap as f64);
        let expected = self.output[node].unwrap_or_else(|| cap.unwrap_or(UNKNOWN_OUTPUT));
        let new = self.new[node].then(|| self.answers[self.models[node]]);
        let input = self.input(node, size).max(size.input as f64);
        (input + reserves.output(expected, cap, new)).ceil() as u64
    }

    fn reserves(&self, node: usize) -> Reserves {
        self.reserves[self.models[node]]
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

    /// What the server counts of a call that was answered.
    pub fn answered(&self, node: usize, reserved: u64, usage: &Usage) -> u64 {
        self.reserves(node).counted(reserved, usage.input + usage.output)
    }

    /// What the server may count of a call that brought no answer.
    pub fn lost(&self, node: usize, size: Size, reserved: u64) -> u64 {
        let expected = self.reserve_as(Reserves::Expected, node, size);
        self.reserves(node).counted(reserved, expected.min(reserved))
    }

    /// True if a refusal shows that the server reserves output limits: it took a call for about what it
    /// can use at most.
    pub fn shows_limits(&self, node: usize, size: Size, reckoned: u64) -> bool {
        let Some(cap) = size.output_cap else { return false };
        reckoned as f64 > self.input(node, size).max(size.input as f64) + 0.75 * cap as f64
    }

    /// True if such a refusal says nothing of the rate: less was reserved for it than the server took it
    /// for.
    pub fn mistook(&self, node: usize, size: Size, reserved: u64, reckoned: u64) -> bool {
        self.shows_limits(node, size, reckoned) && reserved + reserved / 50 < reckoned
    }

    /// Reserves output limits from now on. False if that was known.
    pub fn reserve_limits(&mut self, node: usize) -> bool {
        let reserves = &mut self.reserves[self.models[node]];
        let news = *reserves == Reserves::Expected;
        if news {
            *reserves = Reserves::LimitUntilAnswered;
        }
        news
    }

    /// Learns from an answer.
    pub fn learn(&mut self, node: usize, size: Size, usage: &Usage) {
        if usage.estimated {
            return;
        }
        let ratio = usage.input as f64 / size.input as f64;
        let known = &mut self.input_ratios[self.models[node]];
        *known += NEWEST * (ratio.clamp(0.1, 10.0) - *known);
        self.answers[self.models[node]] += 1;
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
        Estimates::new(&["a".into()], &["m".into()], &History::default(), |_| {
            Reserves::Expected
        })
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
            |_| Reserves::Expected,
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
        let mut estimates = Estimates::new(&nodes, &models, &History::default(), |_| Reserves::Expected);
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

    /// A limit of 4,000 for answers of 150 tokens.
    fn learned(reserves: Reserves) -> Estimates {
        let mut estimates = Estimates::new(&["a".into()], &["m".into()], &History::default(), |_| reserves);
        (0..20).for_each(|_| estimates.learn(0, size(Some(4_000)), &usage(150)));
        estimates
    }

    #[test]
    fn from_the_limit_to_what_is_expected_it_goes_step_by_step() {
        let size = size(Some(4_000));
        let mut estimates = unknown();
        let mut reserved = vec![estimates.reserve(0, size)];
        for _ in 0..14 {
            estimates.learn(0, size, &usage(150));
            reserved.push(estimates.reserve(0, size));
        }
        assert_eq!(reserved[..3], [4_100, 3_330, 2_715]);
        assert!(reserved.windows(2).all(|two| two[0] > two[1]), "{reserved:?}");
        assert_eq!(reserved[14], 250);
    }

    #[test]
    fn a_refusal_that_names_the_limit_shows_that_limits_are_reserved() {
        let size = size(Some(4_000));
        let mut estimates = learned(Reserves::Expected);
        let reserved = estimates.reserve(0, size);
        assert_eq!(reserved, 250);
        let other_characters = 260;
        assert!(!estimates.mistook(0, size, reserved, other_characters));
        assert!(!estimates.shows_limits(0, size, other_characters));
        assert!(estimates.mistook(0, size, reserved, 4_130));
        assert!(estimates.shows_limits(0, size, 4_130));
        assert!(estimates.reserve_limits(0));
        assert!(!estimates.reserve_limits(0), "it is known");
        assert_eq!(estimates.reserve(0, size), 4_100);
        assert!(
            !estimates.mistook(0, size, 4_100, 4_130),
            "that is about the rate"
        );
        assert!(
            estimates.mistook(0, size, 250, 4_130),
            "a call that had started before"
        );
        let unlimited = Size {
            output_cap: None,
            ..size
        };
        assert!(!estimates.mistook(0, unlimited, 250, 4_130));
        assert!(!estimates.shows_limits(0, unlimited, 4_130));
        let first = unknown();
        assert!(
            first.shows_limits(0, size, 4_130) && !first.mistook(0, size, 4_100, 4_130),
            "before there is an answer the limit is reserved anyway"
        );
    }

    #[test]
    fn what_a_server_gives_back() {
        let size = size(Some(4_000));
        for (reserves, reserved, answered, lost) in [
            (Reserves::Expected, 250, 240, 250),
            (Reserves::LimitUntilAnswered, 4_100, 240, 250),
            (Reserves::Limit, 4_100, 4_100, 4_100),
        ] {
            let estimates = learned(reserves);
            assert_eq!(estimates.reserve(0, size), reserved);
            assert_eq!(estimates.answered(0, reserved, &usage(140)), answered);
            assert_eq!(estimates.lost(0, size, reserved), lost);
        }
    }

    #[test]
    fn characters_count_in_full_for_what_is_reserved() {
        let mut estimates = unknown();
        let mut answer = usage(100);
        for (input, reserved) in [(50, 200), (200, 300)] {
            answer.input = input;
            (0..100).for_each(|_| estimates.learn(0, size(Some(100)), &answer));
            assert_eq!(estimates.reserve(0, size(Some(100))), reserved);
        }
    }

    #[test]
    fn what_earlier_runs_saw_of_a_server_holds_for_that_provider_and_model() {
        let mut history = History::default();
        let seen = ("x.example".to_owned(), "m".to_owned());
        history.add_older_reserved(vec![seen.clone(), seen]);
        let of = |known: Reserves, provider, model| known.or_learned(&history, provider, model);
        assert_eq!(
            of(Reserves::Expected, "x.example", "m"),
            Reserves::LimitUntilAnswered
        );
        assert_eq!(of(Reserves::Expected, "x.example", "n"), Reserves::Expected);
        assert_eq!(of(Reserves::Expected, "y.example", "m"), Reserves::Expected);
        assert_eq!(of(Reserves::Limit, "x.example", "m"), Reserves::Limit);
    }
}
