//! What the calls of a plan come to: tokens and dollars as ranges, and what they rest on. The
//! figures of a node are added up while personas pass by; history turns them into tokens at the
//! end, when most is known.

use crate::call::{Money, Prefix, Price, Usage};
use crate::graph::Graph;
use crate::plan::again::Again;
use crate::plan::history::{Counts, History};
use crate::plan::range::Range;
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
    /// Calls that are made because the answer before was bad.
    pub again: Range,
    /// Input tokens.
    pub input: Range,
    /// The part of them that is likely to be read from the provider's cache.
    pub cached: f64,
    /// Output tokens; `high` is infinite where nothing bounds them.
    pub output: Range,
    /// Output tokens if every answer is as long as its limit allows, and asked for as often as may
    /// be; `None`: a node has no limit.
    pub most_output: Option<u64>,
    /// What it costs; `None`: a model has no price.
    pub cost: Option<Costs>,
    /// What it costs then; `None`: not known.
    pub most_cost: Option<Money>,
    /// The same if each answer is good the first time.
    pub once_cost: Option<Money>,
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Basis {
    /// Earlier answers of the nodes that are to be called.
    pub answers: u64,
    /// Nodes to be called of which no answer is known.
    pub unknown: Vec<usize>,
    /// The share of their limit that these are taken to use.
    pub unknown_share: f64,
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
    /// How often it is made again because its answer was bad.
    pub again: Range,
    /// The part of its nodes that fail for bad answers, 0 to 1.
    pub lost: f64,
    /// Output tokens of a bad answer.
    pub bad_output: f64,
    /// How many earlier answers are known.
    pub answers: u64,
    /// The shares of them that are read from the provider's cache and written to it.
    pub cached: (f64, f64),
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

    /// Its answers are no longer than this.
    pub(super) fn within(&mut self, cap: Option<u64>) {
        self.cap = cap;
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
}

/// What is to be expected of the calls of each node.
pub(super) struct Expected<'a> {
    graph: &'a Graph,
    loads: &'a [Load],
    history: &'a History,
    /// How often a bad answer is asked for again.
    rejected: u32,
    /// What comes of that, by node.
    bad: Vec<Again>,
}

impl<'a> Expected<'a> {
    pub(super) fn new(graph: &'a Graph, loads: &'a [Load], history: &'a History, rejected: u32) -> Self {
        let bad = |(node, load): (usize, &Load)| history.bad(node, load.count(), load.cap, rejected);
        Self {
            bad: loads.iter().enumerate().map(bad).collect(),
            graph,
            loads,
            history,
            rejected,
        }
    }

    /// Whether one that never had an answer is called: it is no hit.
    fn perhaps_is_sure(&self, node: usize) -> bool {
        self.history.answers(node) == 0
    }

    /// How often what a node needs is there in the end.
    fn needs_are_good(&self, node: usize) -> Range {
        let needs = self.graph.needs(node).iter();
        let called = needs.filter(|&&need| self.loads[need].count() > 0);
        called.fold(Range::exactly(1.0), |all, &need| all.times(self.bad[need].good))
    }

    /// A figure of the calls that are sure, with that of those that may turn out to be hits, or
    /// lack what they need.
    fn of_calls(&self, node: usize, sure: u64, perhaps: u64) -> Range {
        let (sure, perhaps, good) = (sure as f64, perhaps as f64, self.needs_are_good(node));
        Range {
            low: if self.perhaps_is_sure(node) {
                sure + perhaps * good.low
            } else {
                sure
            },
            likely: sure + perhaps * good.likely,
            high: sure + perhaps,
        }
    }

    /// Nodes that are called.
    fn nodes(&self, node: usize) -> Range {
        let load = &self.loads[node];
        self.of_calls(node, load.calls, load.depends)
    }

    /// Calls that are made because the answer before was bad.
    fn again(&self, node: usize) -> Range {
        let load = &self.loads[node];
        let again = self.bad[node].times;
        let all = self.nodes(node).times(again);
        // What was cut off may be twice as long, and is not as the others are.
        let near = load
            .cap
            .is_some_and(|cap| cap * load.cut_off < 2 * load.cut_off_at);
        let more = if near {
            load.cut_off as f64 * (f64::from(self.rejected) - again.high)
        } else {
            0.0
        };
        Range {
            high: all.high + more,
            ..all
        }
    }

    fn output(&self, node: usize) -> Range {
        let load = &self.loads[node];
        let each = self.history.output(node, load.count(), load.cap);
        let all = each.times(self.nodes(node));
        // What was cut off was longer than where it was cut.
        let longer = (load.cut_off_at as f64 - load.cut_off as f64 * each.likely).max(0.0);
        let most = load.cap.map_or(f64::INFINITY, |cap| (cap * load.count()) as f64);
        let all = Range {
            likely: (all.likely + longer).min(most),
            high: (all.high + 2.0 * longer).min(most),
            ..all
        };
        let bad = Range {
            low: each.low,
            likely: self.bad_output(node, each),
            high: load.cap.map_or(each.high, |cap| cap as f64),
        };
        let again = self.again(node);
        match again.high {
            0.0 => all,
            _ => all.plus(bad.times(again)),
        }
    }

    /// Output tokens of a bad answer of a node whose good ones have so many.
    fn bad_output(&self, node: usize, each: Range) -> f64 {
        let (cap, cut_off) = (self.loads[node].cap, self.bad[node].cut_off);
        let cut = cap.map_or(each.likely, |cap| cap as f64);
        cut_off * cut + (1.0 - cut_off) * each.likely
    }

    fn input(&self, node: usize) -> Range {
        let load = &self.loads[node];
        let rendered = self.of_calls(node, load.sure_input, load.perhaps_input);
        let mut input = rendered.times(self.history.ratio(node));
        for (need, &prompts) in load
            .unknown
            .iter()
            .enumerate()
            .filter(|(_, prompts)| **prompts > 0)
        {
            let each = self.history.visible(need, prompts, self.loads[need].cap);
            input = input.plus(each.times(self.of_calls(node, 0, prompts)));
        }
        let (nodes, again) = (self.nodes(node), self.again(node));
        let times = |again: f64, nodes: f64| if nodes > 0.0 { 1.0 + again / nodes } else { 1.0 };
        input.times(Range {
            low: 1.0,
            likely: times(again.likely, nodes.likely),
            high: times(again.high, nodes.high),
        })
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
pub(super) fn forecast(expected: &Expected<'_>, prices: &[Option<PriceRange>], sharing: f64) -> Forecast {
    let Expected { loads, history, .. } = *expected;
    let mut sum = Forecast {
        again: Range::default(),
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
        once_cost: Some(Money::ZERO),
        basis: Basis {
            unknown_share: history.share_of_limits(),
            ..Basis::default()
        },
    };
    let times = u64::from(expected.rejected) + 1;
    for (node, load) in loads.iter().enumerate().filter(|(_, load)| load.count() > 0) {
        let (input, output) = (expected.input(node), expected.output(node));
        let again = expected.again(node);
        let most = load.cap.map(|cap| cap * load.count() * times);
        // A prefix is read from the cache only if somebody else of the persona sends it too.
        let (read, written) = history.cache_shares(node);
        let (read, written) = (read * sharing, written * sharing);
        sum.again = sum.again.plus(again);
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
            (sum.cost, sum.most_cost, sum.once_cost) = (None, None, None);
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
        // As often as it may be asked for, and each time as long as it may be.
        let once = expected.nodes(node).high;
        let asked = |input: f64| input / (once + again.high) * once * times as f64;
        let cost_of = |output: u64, input: f64| cost(&price.high, input, 0.0, output as f64);
        sum.most_cost = sum
            .most_cost
            .zip(most.and_then(|most| cost_of(most, asked(input.high))))
            .map(|(a, b)| a + b);
        sum.once_cost = sum
            .once_cost
            .zip(most.and_then(|most| cost_of(most / times, asked(input.high) / times as f64)))
            .map(|(a, b)| a + b);
    }
    sum
}

/// What one call of each node is like.
pub(super) fn calls(expected: &Expected<'_>, sharing: f64) -> Vec<Call> {
    let Expected { loads, history, .. } = *expected;
    let call = |node: usize| {
        let load: &Load = &loads[node];
        let count = load.count().max(1);
        let (nodes, again) = (expected.nodes(node), expected.again(node));
        let all = (nodes.likely + again.likely).max(f64::MIN_POSITIVE);
        let (read, written) = history.cache_shares(node);
        let output = history.output(node, count, load.cap);
        Call {
            lost: 1.0 - expected.bad[node].good.likely,
            bad_output: expected.bad_output(node, output),
            answers: history.answers(node),
            cached: (read * sharing, written * sharing),
            input: expected.input(node).likely / all,
            again: Range {
                low: 0.0,
                likely: again.likely / count as f64,
                high: again.high / count as f64,
            },
            output,
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
