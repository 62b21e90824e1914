//! What a node's calls were like: how long its answers, how large its prompts, how slow. Kept
//! compactly for each run, so that the next one is foreseen without reading a single answer. It
//! does not know who counts nor what is made of it.

use serde::{Deserialize, Serialize};

use crate::call::{FaultKind, Rejection, Usage};
use crate::names::NodeId;

/// So many buckets halve or double a value: each is 9 % wide.
const BUCKETS_PER_DOUBLING: f64 = 8.0;

/// Runs are merged, newest first, until there are so many answers of a node.
const ENOUGH: u64 = 50;

/// The same for the calls of a model, of which few end in a fault.
const ENOUGH_CALLS: u64 = 1_000;

/// Figures of one kind, by which their like can be foreseen: sums, extremes, and how many fell
/// into which range.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// How many.
    pub n: u64,
    /// Their sum.
    pub sum: u64,
    /// The sum of their squares.
    pub squares: f64,
    /// The smallest.
    pub min: u64,
    /// The largest.
    pub max: u64,
    /// How many there are by bucket, sorted: the logarithm of the value, in eighths of a doubling.
    // No map: serde reads no numbers as keys inside of a tagged enum, and the store's entries are one.
    #[serde(default)]
    buckets: Vec<(u16, u64)>,
}

/// What the answers of one node by one model were like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeHistory {
    /// The node's id.
    pub node: NodeId,
    /// The model that was asked.
    pub model: String,
    /// Answers that were accepted.
    pub answers: u64,
    /// Bad answers, paid all the same.
    #[serde(default)]
    pub rejected: u64,
    /// Nodes that were given up for bad answers.
    #[serde(default)]
    pub given_up: u64,
    /// Those of both that were cut off, and the largest limit at which one was: larger ones are not
    /// known to cut anything off.
    #[serde(default)]
    pub cut_off: u64,
    #[serde(default)]
    pub given_up_cut_off: u64,
    #[serde(default)]
    pub cut_off_at: u64,
    /// Output tokens of accepted answers, as the server counted them.
    pub output: Spread,
    /// Input tokens of the same answers as the server counted them, …
    pub input: u64,
    /// … and as they were estimated before the call.
    pub estimated_input: u64,
    /// From sending to the last byte, in milliseconds.
    pub latency_ms: Spread,
    /// What was in these tokens. Accounts of older runs do not have it.
    #[serde(default)]
    pub parts: Parts,
    /// How the lengths of answers and their times go together. Accounts of older runs do not have it.
    #[serde(default)]
    pub pace: Pace,
}

/// Sums over answers of which both are known, the output tokens and the milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    n: u64,
    tokens: f64,
    ms: f64,
    tokens_squared: f64,
    ms_squared: f64,
    tokens_ms: f64,
}

/// Calls to one model that ended in one kind of fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultHistory {
    /// The model that was asked.
    pub model: String,
    /// What happened.
    pub kind: FaultKind,
    /// How many of them may have been billed.
    pub may_be_billed: u64,
    /// From sending to the fault, in milliseconds; one for each call.
    pub latency_ms: Spread,
    /// How long the server asked to wait, in milliseconds, where it did.
    #[serde(default)]
    pub retry_after_ms: Spread,
}

/// What is known of the calls to one model, whatever came of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelHistory {
    /// All of them.
    pub calls: u64,
    /// Those that ended in a fault, by kind.
    pub faults: Vec<FaultHistory>,
}

/// Parts of the tokens of answers, and all tokens of the same answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// All input tokens.
    pub input: u64,
    /// Those that were read from the provider's cache.
    pub cached_input: u64,
    /// Those that were written to it.
    pub cache_write: u64,
    /// All output tokens.
    pub output: u64,
    /// Those that nobody gets to read.
    pub reasoning: u64,
}

/// What is known of all nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    nodes: Vec<NodeHistory>,
    models: Vec<(String, ModelHistory)>,
    /// Provider and model, see [`History::reserves_limits`].
    reserved_limits: Vec<(String, String)>,
}

impl Spread {
    /// Takes one more value in.
    pub fn add(&mut self, value: u64) {
        self.min = if self.n == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.n += 1;
        self.sum = self.sum.saturating_add(value);
        self.squares += (value as f64).powi(2);
        self.count(bucket(value), 1);
    }

    /// Takes all values of another one in.
    pub fn merge(&mut self, other: &Spread) {
        if other.n == 0 {
            return;
        }
        self.min = if self.n == 0 {
            other.min
        } else {
            self.min.min(other.min)
        };
        self.max = self.max.max(other.max);
        self.n += other.n;
        self.sum = self.sum.saturating_add(other.sum);
        self.squares += other.squares;
        for (bucket, n) in &other.buckets {
            self.count(*bucket, *n);
        }
    }

    fn count(&mut self, bucket: u16, n: u64) {
        match self.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => self.buckets[at].1 += n,
            Err(at) => self.buckets.insert(at, (bucket, n)),
        }
    }

    /// The mean; `None` of nothing.
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum as f64 / self.n as f64)
    }

    /// How far a value strays from the mean: the standard deviation of the values. `None` of fewer
    /// than two.
    pub fn deviation(&self) -> Option<f64> {
        let mean = self.mean().filter(|_| self.n > 1)?;
        let n = self.n as f64;
        Some(((self.squares - n * mean * mean).max(0.0) / (n - 1.0)).sqrt())
    }

    /// The value below which a share of them lies, to some 5 %; `None` of nothing.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = (share.clamp(0.0, 1.0) * self.n as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        let found = self.buckets.iter().find(|(_, n)| {
            below += *n;
            below >= wanted
        });
        let (bucket, _) = found?;
        Some((middle(*bucket).round() as u64).clamp(self.min, self.max))
    }

    /// Between which values how many of them lie, from the smallest to the largest.
    pub fn ranges(&self) -> impl Iterator<Item = (f64, f64, u64)> {
        let (min, max) = (self.min as f64, self.max as f64);
        self.buckets.iter().map(move |&(bucket, n)| {
            let edge = |steps: f64| (steps / BUCKETS_PER_DOUBLING).exp2().clamp(min, max);
            match bucket {
                0 => (0.0, 0.0, n),
                bucket => (edge(f64::from(bucket) - 1.0), edge(f64::from(bucket)), n),
            }
        })
    }
}

impl Pace {
    fn add(&mut self, tokens: u64, ms: u64) {
        let (tokens, ms) = (tokens as f64, ms as f64);
        self.n += 1;
        self.tokens += tokens;
        self.ms += ms;
        self.tokens_squared += tokens * tokens;
        self.ms_squared += ms * ms;
        self.tokens_ms += tokens * ms;
    }

    fn merge(&mut self, other: &Pace) {
        self.n += other.n;
        self.tokens += other.tokens;
        self.ms += other.ms;
        self.tokens_squared += other.tokens_squared;
        self.ms_squared += other.ms_squared;
        self.tokens_ms += other.tokens_ms;
    }

    /// How far the time of an answer goes with its length: 0 not at all, 1 wholly, -1 against it.
    /// `None`: too few answers, or all of one length or one time.
    pub fn correlation(&self) -> Option<f64> {
        let n = self.n as f64;
        let tokens = self.tokens_squared - self.tokens * self.tokens / n;
        let ms = self.ms_squared - self.ms * self.ms / n;
        let both = self.tokens_ms - self.tokens * self.ms / n;
        // What is left of sums that should cancel out is no spread.
        let strays = tokens > 1e-6 * self.tokens_squared && ms > 1e-6 * self.ms_squared;
        (self.n >= 3 && strays).then(|| (both / (tokens * ms).sqrt()).clamp(-1.0, 1.0))
    }
}

impl FaultHistory {
    /// Nothing yet.
    pub fn new(model: &str, kind: FaultKind) -> Self {
        Self {
            model: model.to_owned(),
            kind,
            may_be_billed: 0,
            latency_ms: Spread::default(),
            retry_after_ms: Spread::default(),
        }
    }

    /// How many there were.
    pub fn calls(&self) -> u64 {
        self.latency_ms.n
    }

    /// Takes one more in.
    pub fn add(&mut self, latency_ms: u64, retry_after_ms: Option<u64>, may_be_billed: bool) {
        self.latency_ms.add(latency_ms);
        self.may_be_billed += u64::from(may_be_billed);
        if let Some(asked) = retry_after_ms {
            self.retry_after_ms.add(asked);
        }
    }

    fn merge(&mut self, other: &FaultHistory) {
        self.may_be_billed += other.may_be_billed;
        self.latency_ms.merge(&other.latency_ms);
        self.retry_after_ms.merge(&other.retry_after_ms);
    }
}

impl ModelHistory {
    fn merge(&mut self, calls: u64, faults: Vec<FaultHistory>) {
        self.calls += calls;
        for fault in faults {
            match self.faults.iter_mut().find(|known| known.kind == fault.kind) {
                Some(known) => known.merge(&fault),
                None => self.faults.push(fault),
            }
        }
    }
}

/// The bucket of a value. 0 has one of its own.
fn bucket(value: u64) -> u16 {
    match value {
        0 => 0,
        value => 1 + ((value as f64).log2() * BUCKETS_PER_DOUBLING) as u16,
    }
}

/// The value in the middle of a bucket.
fn middle(bucket: u16) -> f64 {
    match bucket {
        0 => 0.0,
        bucket => ((f64::from(bucket) - 0.5) / BUCKETS_PER_DOUBLING).exp2(),
    }
}

impl NodeHistory {
    /// Nothing yet.
    pub fn new(node: NodeId, model: &str) -> Self {
        Self {
            node,
            model: model.to_owned(),
            answers: 0,
            rejected: 0,
            given_up: 0,
            cut_off: 0,
            given_up_cut_off: 0,
            cut_off_at: 0,
            output: Spread::default(),
            input: 0,
            estimated_input: 0,
            latency_ms: Spread::default(),
            parts: Parts::default(),
            pace: Pace::default(),
        }
    }

    /// Takes an accepted answer in. What a server did not count is no evidence of tokens.
    pub fn answered(&mut self, usage: &Usage, estimated_input: Option<u64>, latency_ms: u64) {
        self.fetched(usage, estimated_input);
        self.latency_ms.add(latency_ms);
        if !usage.estimated {
            self.pace.add(usage.output, latency_ms);
        }
    }

    /// The same of an answer of which nobody knows how long it took.
    pub fn fetched(&mut self, usage: &Usage, estimated_input: Option<u64>) {
        self.answers += 1;
        if usage.estimated {
            return;
        }
        self.output.add(usage.output);
        self.parts.add(usage);
        if let Some(estimated) = estimated_input {
            self.input += usage.input;
            self.estimated_input += estimated;
        }
    }

    /// Takes a bad answer in, of a request with this output limit.
    pub fn rejected(&mut self, rejection: Rejection, limit: Option<u64>) {
        self.rejected += 1;
        if rejection == Rejection::Truncated {
            self.cut_off += 1;
            self.cut_off_at = self.cut_off_at.max(limit.unwrap_or(u64::MAX));
        }
    }

    /// A node was given up for a bad answer that was paid.
    pub fn gave_up(&mut self, rejection: Rejection) {
        self.given_up += 1;
        self.given_up_cut_off += u64::from(rejection == Rejection::Truncated);
    }

    /// The server's input tokens for each one of ours; `None` where nothing was counted.
    pub fn input_ratio(&self) -> Option<f64> {
        (self.estimated_input > 0 && self.input > 0).then(|| self.input as f64 / self.estimated_input as f64)
    }

    fn merge(&mut self, other: &NodeHistory) {
        self.answers += other.answers;
        self.rejected += other.rejected;
        self.given_up += other.given_up;
        self.cut_off += other.cut_off;
        self.given_up_cut_off += other.given_up_cut_off;
        self.cut_off_at = self.cut_off_at.max(other.cut_off_at);
        self.output.merge(&other.output);
        self.input += other.input;
        self.estimated_input += other.estimated_input;
        self.latency_ms.merge(&other.latency_ms);
        self.parts.merge(&other.parts);
        self.pace.merge(&other.pace);
    }
}

impl Parts {
    fn add(&mut self, usage: &Usage) {
        self.input += usage.input;
        self.cached_input += usage.cached_input.unwrap_or(0).min(usage.input);
        self.cache_write += usage.cache_write.unwrap_or(0).min(usage.input);
        self.output += usage.output;
        self.reasoning += usage.reasoning.unwrap_or(0).min(usage.output);
    }

    fn merge(&mut self, other: &Parts) {
        self.input += other.input;
        self.cached_input += other.cached_input;
        self.cache_write += other.cache_write;
        self.output += other.output;
        self.reasoning += other.reasoning;
    }
}

impl History {
    /// What is known of a node answered by a model, be it by bad answers only; `None` where nothing is.
    pub fn of(&self, node: &NodeId, model: &str) -> Option<&NodeHistory> {
        self.nodes
            .iter()
            .find(|known| known.node == *node && known.model == model)
    }

    /// What is known of a node answered by other models than this one.
    pub fn of_others(&self, node: &NodeId, model: &str) -> impl Iterator<Item = &NodeHistory> {
        self.nodes
            .iter()
            .filter(move |known| known.node == *node && known.model != model && known.answers > 0)
    }

    /// The server's input tokens for each one of ours, over all nodes of a model.
    pub fn input_ratio(&self, model: &str) -> Option<f64> {
        let mut all = NodeHistory::new(NodeId::from(""), model);
        let same = self.nodes.iter().filter(|known| known.model == model);
        same.for_each(|known| all.merge(known));
        all.input_ratio()
    }

    /// Takes an older run in: what it knows of nodes of which there is not enough yet.
    pub fn add_older(&mut self, run: Vec<NodeHistory>) {
        for older in run {
            let same = |known: &&mut NodeHistory| known.node == older.node && known.model == older.model;
            match self.nodes.iter_mut().find(same) {
                Some(known) if known.answers < ENOUGH => known.merge(&older),
                Some(_) => {}
                None => self.nodes.push(older),
            }
        }
    }

    /// Takes in how many calls to a model an older run made and which of them ended in a fault, if
    /// there are not enough of it yet.
    pub fn add_older_calls(&mut self, model: &str, calls: u64, faults: Vec<FaultHistory>) {
        let known = match self.models.iter().position(|(known, _)| known == model) {
            Some(at) => &mut self.models[at].1,
            None => {
                self.models.push((model.to_owned(), ModelHistory::default()));
                &mut self.models.last_mut().expect("BUG: it was pushed").1
            }
        };
        if known.calls < ENOUGH_CALLS {
            known.merge(calls, faults);
        }
    }

    /// Takes in of which models an older run saw that output limits are reserved, by provider and name.
    pub fn add_older_reserved(&mut self, run: Vec<(String, String)>) {
        for older in run {
            if !self.reserved_limits.contains(&older) {
                self.reserved_limits.push(older);
            }
        }
    }

    /// True where a provider takes the output limits of calls to a model that are not answered yet out
    /// of its tokens a minute.
    pub fn reserves_limits(&self, provider: &str, model: &str) -> bool {
        let known = |(of, name): &(String, String)| of == provider && name == model;
        self.reserved_limits.iter().any(known)
    }

    /// What is known of the calls to a model; `None`: nothing.
    pub fn of_model(&self, model: &str) -> Option<&ModelHistory> {
        self.models
            .iter()
            .find(|(known, _)| known == model)
            .map(|(_, known)| known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usage(input: u64, output: u64) -> Usage {
        Usage {
            input,
            output,
            ..Usage::default()
        }
    }

    fn node(answers: u64, output: u64) -> NodeHistory {
        let mut node = NodeHistory::new("a".into(), "m");
        for _ in 0..answers {
            node.answered(&usage(110, output), Some(100), 1_000);
        }
        node
    }

    #[test]
    fn the_newest_runs_count_until_there_is_enough() {
        let mut history = History::default();
        assert_eq!(history.of(&"a".into(), "m"), None);
        history.add_older(vec![node(3, 100)]);
        history.add_older(vec![node(ENOUGH, 200)]);
        history.add_older(vec![node(ENOUGH, 900)]);
        let known = history.of(&"a".into(), "m").unwrap();
        assert_eq!((known.answers, known.output.max), (ENOUGH + 3, 200));
        assert_eq!(history.of(&"a".into(), "n"), None);
        assert_eq!(history.of_others(&"a".into(), "n").count(), 1);
        assert_eq!(history.of_others(&"a".into(), "m").count(), 0);
        assert_eq!(history.input_ratio("m"), Some(1.1));
        assert_eq!(history.input_ratio("n"), None);
    }

    #[test]
    fn what_no_server_counted_says_nothing_of_tokens() {
        let mut node = node(0, 0);
        let guessed = Usage {
            estimated: true,
            ..usage(900, 900)
        };
        node.answered(&guessed, Some(100), 70);
        assert_eq!((node.output.mean(), node.input_ratio()), (None, None));
        assert_eq!(node.latency_ms.mean(), Some(70.0));
    }

    #[test]
    fn bad_answers_are_counted_and_where_they_were_cut_off() {
        let mut node = node(3, 100);
        node.rejected(Rejection::Empty, Some(900));
        node.rejected(Rejection::Truncated, Some(300));
        node.rejected(Rejection::Truncated, Some(200));
        node.gave_up(Rejection::Truncated);
        node.gave_up(Rejection::Empty);
        assert_eq!((node.rejected, node.cut_off, node.cut_off_at), (3, 2, 300));
        assert_eq!((node.given_up, node.given_up_cut_off), (2, 1));
        let mut history = History::default();
        history.add_older(vec![node]);
        let mut older = NodeHistory::new("a".into(), "m");
        older.rejected(Rejection::Truncated, Some(400));
        history.add_older(vec![older]);
        let known = history.of(&"a".into(), "m").unwrap();
        assert_eq!((known.rejected, known.cut_off, known.cut_off_at), (4, 3, 400));
    }

    #[test]
    fn parts_are_counted_with_what_they_are_parts_of() {
        let mut old = node(2, 500);
        // As a run before they were counted left it.
        old.parts = Parts::default();
        let mut history = History::default();
        let usage = Usage {
            reasoning: Some(40),
            cached_input: Some(64),
            cache_write: Some(32),
            ..usage(128, 100)
        };
        let mut new = NodeHistory::new("a".into(), "m");
        new.answered(&usage, None, 1_000);
        history.add_older(vec![new]);
        history.add_older(vec![old]);
        let known = history.of(&"a".into(), "m").unwrap();
        let parts = Parts {
            input: 128,
            cached_input: 64,
            cache_write: 32,
            output: 100,
            reasoning: 40,
        };
        assert_eq!((known.answers, known.parts), (3, parts));
    }

    #[test]
    fn an_account_of_an_older_run_can_be_read() {
        let mut value = serde_json::to_value(node(1, 100)).unwrap();
        value.as_object_mut().unwrap().remove("parts").unwrap();
        let read: NodeHistory = serde_json::from_value(value).unwrap();
        assert_eq!((read.output.sum, read.parts), (100, Parts::default()));
    }

    #[test]
    fn a_long_answer_takes_long_where_earlier_ones_did() {
        let pace = |answers: &[(u64, u64)]| {
            let mut pace = Pace::default();
            answers.iter().for_each(|(tokens, ms)| pace.add(*tokens, *ms));
            pace.correlation()
        };
        assert_eq!(pace(&[(1, 10), (2, 20)]), None, "two prove nothing");
        assert_eq!(pace(&[(7, 10), (7, 20), (7, 30)]), None, "all of one length");
        assert_eq!(pace(&[(100, 1_000), (200, 2_000), (300, 3_000)]), Some(1.0));
        assert_eq!(pace(&[(100, 3_000), (200, 2_000), (300, 1_000)]), Some(-1.0));
        let some = pace(&[(100, 1_000), (200, 900), (300, 2_000), (400, 1_500)]).unwrap();
        assert!((0.6..0.8).contains(&some), "{some}");
    }

    #[test]
    fn faults_of_the_newest_runs_count_by_model_and_kind() {
        let faults = |count: u64, kind| {
            let mut known = FaultHistory::new("m", kind);
            (0..count).for_each(|_| known.add(40, Some(2_000), kind == FaultKind::Timeout));
            vec![known]
        };
        let mut history = History::default();
        history.add_older_calls("m", 600, faults(3, FaultKind::RateLimited));
        history.add_older_calls("n", 10, Vec::new());
        history.add_older_calls("m", 600, faults(6, FaultKind::RateLimited));
        history.add_older_calls("m", 600, faults(600, FaultKind::Timeout));
        let known = history.of_model("m").unwrap();
        assert_eq!(
            (known.calls, known.faults.len()),
            (1_200, 1),
            "the third is older than needed"
        );
        assert_eq!(known.faults[0].calls(), 9);
        assert_eq!(known.faults[0].retry_after_ms.mean(), Some(2_000.0));
        assert_eq!(history.of_model("n").unwrap().faults, []);
        assert_eq!(history.of_model("o"), None);
    }

    #[test]
    fn nothing_is_known_of_nothing() {
        let empty = Spread::default();
        assert_eq!(
            (empty.mean(), empty.deviation(), empty.quantile(0.5)),
            (None, None, None)
        );
        let mut one = Spread::default();
        one.add(0);
        assert_eq!(
            (one.mean(), one.deviation(), one.quantile(0.5)),
            (Some(0.0), None, Some(0))
        );
    }

    #[test]
    fn a_run_of_eight_nodes_is_a_few_kilobytes() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut node = node(0, 0);
        for _ in 0..10_000 {
            let latency = 1_000 + rng.u64(0..9_000);
            node.answered(&usage(2_000, 500 + rng.u64(0..400)), Some(1_900), latency);
        }
        let bytes = serde_json::to_vec(&node).unwrap().len();
        assert!(bytes < 1_000, "{bytes}");
    }

    proptest! {
        #[test]
        fn a_spread_knows_its_values(values in proptest::collection::vec(0u64..1_000_000, 1..200), cut in 0usize..200) {
            let (mut all, mut head, mut tail) = (Spread::default(), Spread::default(), Spread::default());
            let cut = cut.min(values.len());
            values.iter().for_each(|value| all.add(*value));
            values[..cut].iter().for_each(|value| head.add(*value));
            values[cut..].iter().for_each(|value| tail.add(*value));
            head.merge(&tail);
            prop_assert_eq!((head.n, head.sum, head.min, head.max, &head.buckets), (all.n, all.sum, all.min, all.max, &all.buckets));
            let mut sorted = values.clone();
            sorted.sort_unstable();
            for share in [0.1, 0.5, 0.9] {
                let exact = sorted[((share * values.len() as f64).ceil() as usize).max(1) - 1] as f64;
                let near = all.quantile(share).unwrap() as f64;
                prop_assert!((near - exact).abs() <= exact * 0.05 + 1.0, "{} for {}", near, exact);
            }
            let ranges: Vec<(f64, f64, u64)> = all.ranges().collect();
            prop_assert_eq!(ranges.iter().map(|(.., n)| n).sum::<u64>(), all.n);
            prop_assert!(ranges.iter().all(|(low, high, _)| low <= high));
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0 + 1e-9));
            let (first, last) = (ranges[0].0, ranges[ranges.len() - 1].1);
            prop_assert!(first >= all.min as f64 && last <= all.max as f64);
            let text = serde_json::to_string(&all).unwrap();
            prop_assert_eq!(serde_json::from_str::<Spread>(&text).unwrap(), all);
        }
    }
}
