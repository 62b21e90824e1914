//! What the calls of a plan come to: tokens and dollars as ranges, and what they rest on. The
//! figures of a node are added up while personas pass by; history turns them into tokens at the
//! end, when most is known.

use crate::call::{Money, Prefix, Price, Usage};
use crate::graph::Graph;
use crate::plan::history::{Counts, History, Range};
use crate::plan::{Estimate, Outlook};
use crate::tariff::PriceRange;

/// What is to be called of one node, over all personas.
#[derive(Clone, Debug, Default)]
pub(super) struct Load {
    /// Nodes that are called for sure, and their input by our own count.
    calls: u64,
    sure_input: u64,
    /// Nodes that may turn out to be hits, and theirs.
    depends: u64,
    perhaps_input: u64,
    /// How many prompts lack the answer of which node.
    unknown: Vec<u64>,
    /// The limit of each call.
    cap: Option<u64>,
    /// How many answers were cut off at a smaller limit, and how many tokens those had.
    cut_off: u64,
    cut_off_at: u64,
    shared: Option<Shared>,
}

/// What the requests of a node begin with, and who else's do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The first node of a persona that begins alike: the same for all that do.
    pub group: usize,
    /// True where all personas begin alike.
    pub of_all: bool,
    /// True if the calls that begin so wait for the first of them, as the request of the persona
    /// that was seen last has it.
    pub waits: bool,
    last: Prefix,
}

/// What all calls come to. Ranges go from the least that is to be expected to the most.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Input tokens.
    pub input: Range,
    /// The part of them that is likely to be read from the provider's cache.
    pub cached: f64,
    /// Output tokens; `high` is infinite where nothing bounds them.
    pub output: Range,
    /// Output tokens if every answer is as long as its limit allows; `None`: a node has no limit.
    pub most_output: Option<u64>,
    /// What it costs; `None`: a model has no price.
    pub cost: Option<Costs>,
    /// What it costs if every answer is as long as its limit allows; `None`: not known.
    pub most_cost: Option<Money>,
    /// What the figures rest on.
    pub basis: Basis,
}

/// Dollars as a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// The least.
    pub low: Money,
    /// What is likely.
    pub likely: Money,
    /// The most; `None`: nothing bounds the output.
    pub high: Option<Money>,
}

/// What a forecast rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Basis {
    /// Earlier answers of the nodes that are to be called.
    pub answers: u64,
    /// Nodes to be called of which no answer is known.
    pub unknown: Vec<usize>,
    /// Nodes to be called of which only answers of other models are known.
    pub other_model: Vec<usize>,
    /// What the input of each node to be called rests on, and how many calls it has.
    pub input: Vec<(usize, Counts, u64)>,
}

/// What one call of a node is like, for whoever says how long it all takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    /// Input tokens.
    pub input: f64,
    /// Output tokens.
    pub output: Range,
    /// Its limit.
    pub cap: Option<u64>,
    /// Seconds, and how far one call strays from that; `None`: not known.
    pub seconds: Option<(Range, f64)>,
    /// What it begins with.
    pub shared: Option<Shared>,
}

impl Load {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            unknown: vec![0; nodes],
            ..Self::default()
        }
    }

    pub(super) fn call(&mut self, units: u64, cap: Option<u64>, cut_off: Option<u64>) {
        self.calls += 1;
        self.sure_input += units;
        self.cap = cap;
        if let Some(tokens) = cut_off {
            self.cut_off += 1;
            self.cut_off_at += tokens;
        }
    }

    pub(super) fn depends(&mut self, units: u64, cap: Option<u64>, unknown: &[usize]) {
        self.depends += 1;
        self.perhaps_input += units;
        self.cap = cap;
        for &need in unknown {
            self.unknown[need] += 1;
        }
    }

    /// A request begins with `prefix`, as those of the node `group` of the same persona do.
    pub(super) fn shares(&mut self, prefix: Prefix, waits: bool, group: usize) {
        let before = self.shared;
        self.shared = Some(Shared {
            group: before.map_or(group, |shared| shared.group.min(group)),
            of_all: before.is_none_or(|shared| shared.of_all && shared.last == prefix),
            waits,
            last: prefix,
        });
    }

    pub(super) fn count(&self) -> u64 {
        self.calls + self.depends
    }

    /// Nodes that are called whatever comes: one that never had an answer is no hit.
    fn sure(&self, history: &History, node: usize) -> u64 {
        match history.answers(node) {
            0 => self.count(),
            _ => self.calls,
        }
    }

    fn output(&self, history: &History, node: usize) -> Range {
        let each = history.output(node, self.count(), self.cap);
        let (sure, all) = (self.sure(history, node) as f64, self.count() as f64);
        let all = each.times(Range {
            low: sure,
            likely: all,
            high: all,
        });
        // What was cut off was longer than where it was cut.
        let longer = (self.cut_off_at as f64 - self.cut_off as f64 * each.likely).max(0.0);
        let most = self.cap.map_or(f64::INFINITY, |cap| (cap * self.count()) as f64);
        Range {
            likely: (all.likely + longer).min(most),
            high: (all.high + 2.0 * longer).min(most),
            ..all
        }
    }

    fn input(&self, graph_loads: &[Load], history: &History, node: usize) -> Range {
        let perhaps_is_sure = self.sure(history, node) == self.count();
        let all = (self.sure_input + self.perhaps_input) as f64;
        let rendered = Range {
            low: if perhaps_is_sure {
                all
            } else {
                self.sure_input as f64
            },
            likely: all,
            high: all,
        };
        let mut input = rendered.times(history.ratio(node));
        for (need, &prompts) in self
            .unknown
            .iter()
            .enumerate()
            .filter(|(_, prompts)| **prompts > 0)
        {
            let each = history.visible(need, prompts, graph_loads[need].cap);
            let low = if perhaps_is_sure { prompts as f64 } else { 0.0 };
            let (likely, high) = (prompts as f64, prompts as f64);
            input = input.plus(each.times(Range { low, likely, high }));
        }
        input
    }
}

/// Tokens of one node, as its line in the plan says.
pub(super) fn estimate(
    history: &History,
    node: usize,
    units: u64,
    unknown: &[usize],
    caps: &[Option<u64>],
    cap: Option<u64>,
) -> Estimate {
    let rendered = units as f64 * history.ratio(node).likely;
    let missing = unknown
        .iter()
        .map(|&need| history.visible(need, 1, caps[need]).likely);
    Estimate {
        input: (rendered + missing.sum::<f64>()).round() as u64,
        output: history.output(node, 1, cap).likely.round() as u64,
        most_output: cap,
    }
}

/// Adds everything up. `sharing`: of the other nodes of a persona, the share that is called too.
pub(super) fn forecast(
    graph: &Graph,
    loads: &[Load],
    history: &History,
    prices: &[Option<PriceRange>],
    sharing: f64,
) -> Forecast {
    let mut sum = Forecast {
        input: Range::default(),
        cached: 0.0,
        output: Range::default(),
        most_output: Some(0),
        cost: Some(Costs {
            low: Money::ZERO,
            likely: Money::ZERO,
            high: Some(Money::ZERO),
        }),
        most_cost: Some(Money::ZERO),
        basis: Basis::default(),
    };
    for node in (0..graph.len()).filter(|&node| loads[node].count() > 0) {
        let load = &loads[node];
        let (input, output) = (load.input(loads, history, node), load.output(history, node));
        let most = load.cap.map(|cap| cap * load.count());
        // A prefix is read from the cache only if somebody else of the persona sends it too.
        let (read, written) = history.cache_shares(node);
        let (read, written) = (read * sharing, written * sharing);
        sum.input = sum.input.plus(input);
        sum.output = sum.output.plus(output);
        sum.cached += input.likely * read;
        sum.most_output = sum.most_output.zip(most).map(|(a, b)| a + b);
        sum.basis.answers += history.answers(node);
        sum.basis.input.push((node, history.counts(node), load.count()));
        if history.answers(node) == 0 {
            sum.basis.unknown.push(node);
        } else if history.is_of_another_model(node) {
            sum.basis.other_model.push(node);
        }
        let Some(price) = &prices[node] else {
            (sum.cost, sum.most_cost) = (None, None);
            continue;
        };
        let cost = |price: &Price, input: f64, read: f64, output: f64| {
            output.is_finite().then(|| {
                price.cost(&Usage {
                    input: input.round() as u64,
                    cached_input: Some((input * read).round() as u64),
                    cache_write: Some((input * written).round() as u64),
                    output: output.round() as u64,
                    ..Usage::default()
                })
            })
        };
        sum.cost = sum.cost.map(|costs| Costs {
            low: costs.low + cost(&price.low, input.low, read, output.low).unwrap_or_default(),
            likely: costs.likely + cost(&price.likely, input.likely, read, output.likely).unwrap_or_default(),
            high: costs
                .high
                .zip(cost(&price.high, input.high, 0.0, output.high))
                .map(|(a, b)| a + b),
        });
        sum.most_cost = sum
            .most_cost
            .zip(most.and_then(|most| cost(&price.high, input.high, 0.0, most as f64)))
            .map(|(a, b)| a + b);
    }
    sum
}

/// What one call of each node is like.
pub(super) fn calls(loads: &[Load], history: &History) -> Vec<Call> {
    let call = |node: usize| {
        let load: &Load = &loads[node];
        let count = load.count().max(1);
        Call {
            input: load.input(loads, history, node).likely / count as f64,
            output: history.output(node, count, load.cap),
            cap: load.cap,
            seconds: history.seconds(node, count),
            shared: load.shared,
        }
    };
    (0..loads.len()).map(call).collect()
}

/// What a run would do of one persona: for each node whether it is called, and if that is sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Nothing.
    Nothing,
    /// A call.
    Call,
    /// A call, unless the answers of others turn out as they were.
    Perhaps,
}

impl From<&Outlook> for Part {
    fn from(outlook: &Outlook) -> Self {
        match outlook {
            Outlook::Call(..) => Part::Call,
            Outlook::Depends(_) => Part::Perhaps,
            Outlook::Hit | Outlook::Twin | Outlook::CutOff(_) | Outlook::Skipped => Part::Nothing,
        }
    }
}
