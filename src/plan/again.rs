//! What is paid more than once: an answer that is cut off, or bad in another way, is asked for again
//! as often as `retry.rejected` allows, and each time is paid. How often that is to be expected.

use crate::events::NodeHistory;
use crate::plan::range::{Range, Spread};

/// The bad answers of a node that are known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bad {
    /// Nodes that got an answer, be it only bad ones.
    nodes: f64,
    /// Bad answers, and nodes that were given up for them: for other reasons than …
    other: Counts,
    /// … being cut off.
    cut_off: Counts,
    /// The largest limit at which that was.
    cut_off_at: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    answers: f64,
    given_up: f64,
}

/// What bad answers bring, for each node that is called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Again {
    /// How many more calls.
    pub times: Range,
    /// The part of the likely ones that is cut off, 0 to 1.
    pub cut_off: f64,
    /// How often the answer is good in the end.
    pub good: Range,
}

impl Bad {
    pub fn add(&mut self, known: &NodeHistory) {
        let less = |all: u64, part: u64| all.saturating_sub(part) as f64;
        self.nodes += (known.answers + known.given_up) as f64;
        self.other.answers += less(known.rejected, known.cut_off);
        self.other.given_up += less(known.given_up, known.given_up_cut_off);
        self.cut_off.answers += known.cut_off as f64;
        self.cut_off.given_up += known.given_up_cut_off as f64;
        self.cut_off_at = self.cut_off_at.max(known.cut_off_at);
    }

    /// For so many nodes whose answers are as long as `seen`, and are asked for again at most
    /// `rejected` times. What was cut off under a smaller limit says nothing of this one.
    pub fn again(&self, seen: Spread, nodes: u64, cap: Option<u64>, rejected: u32) -> Again {
        let most = f64::from(rejected);
        let cut_off = match cap.unwrap_or(u64::MAX) <= self.cut_off_at {
            true => self.cut_off,
            false => Counts::default(),
        };
        // Where nothing tells how long answers are, each may be cut off. Else those are that would be
        // longer than the limit, and they are each time.
        let lengths = seen.range(nodes);
        let over = |mean: f64| cap.map_or(0.0, |cap| above((cap as f64 - mean) / seen.deviation()));
        let (over, most_over) = lengths.map_or((0.0, 1.0), |mean| (over(mean.likely), over(mean.high)));
        let per_node = |count: f64| {
            if count > 0.0 {
                count / self.nodes.max(1.0)
            } else {
                0.0
            }
        };
        let (cut, other) = (per_node(cut_off.answers), per_node(self.other.answers));
        let cut = cut.max(over * most);
        let likely = (cut + other).min(most);
        let lost = per_node(cut_off.given_up).max(over) + per_node(self.other.given_up);
        // As if each bad answer was bad each time.
        let bad = if most > 0.0 { likely / most } else { lost.min(1.0) };
        let known = self.nodes.max(seen.count).max(1.0);
        let chance = 2.0 * (bad * (1.0 - bad) * (1.0 / known + 1.0 / nodes.max(1) as f64)).sqrt();
        let high = (bad + chance).max(most_over).min(1.0);
        Again {
            times: Range {
                low: 0.0,
                likely,
                high: high * most,
            },
            cut_off: if likely > 0.0 { cut / (cut + other) } else { 0.0 },
            good: Range {
                low: 1.0 - high,
                likely: (1.0 - lost).max(0.0),
                high: 1.0,
            },
        }
    }
}

/// The share of values that lie so many deviations above their mean: the logistic distribution,
/// near enough to the normal one, and not as sure that nothing lies far out.
fn above(deviations: f64) -> f64 {
    // The logistic function comes closest to the normal one with its argument times this.
    const NORMAL: f64 = 1.702;
    1.0 / (1.0 + (NORMAL * deviations).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Rejection, Usage};

    const REJECTED: u32 = 2;

    /// Of a node with these answers, others that were cut off at `cut_off_at` each of three times,
    /// and others that were empty once.
    fn again(accepted: &[u64], cut_off: u64, cut_off_at: u64, empty: u64, cap: u64) -> Again {
        let mut known = NodeHistory::new("a".into(), "m");
        let mut seen = Spread::default();
        for &output in accepted {
            let usage = Usage {
                output,
                ..Usage::default()
            };
            known.answered(&usage, None, 1);
            seen.add(output as f64);
        }
        for _ in 0..cut_off {
            (0..=REJECTED).for_each(|_| known.rejected(Rejection::Truncated, Some(cut_off_at)));
            known.gave_up(Rejection::Truncated);
        }
        (0..empty).for_each(|_| known.rejected(Rejection::Empty, Some(cap)));
        let mut bad = Bad::default();
        bad.add(&known);
        bad.again(seen, 100, Some(cap), REJECTED)
    }

    #[test]
    fn what_was_cut_off_counts_until_the_limit_is_larger() {
        let same = again(&[200; 75], 25, 300, 0, 300);
        assert_eq!((same.times.likely, same.good.likely), (0.75, 0.75));
        assert!(same.times.high > 0.75 && same.times.high < 1.3, "{same:?}");
        let larger = again(&[200; 75], 25, 300, 0, 1_000);
        assert!(
            larger.times.high < 1e-6 && larger.good.low > 0.999_999,
            "{larger:?}"
        );
    }

    #[test]
    fn answers_near_the_limit_may_be_cut_off_though_none_was() {
        let lengths: Vec<u64> = (0..50).map(|i| 200 + 4 * i).collect();
        let far = again(&lengths, 0, 0, 0, 4_000);
        assert!(far.times.high < 1e-6, "{far:?}");
        let near = again(&lengths, 0, 0, 0, 400);
        assert!(
            near.times.likely < 0.2 && near.times.high > near.times.likely,
            "{near:?}"
        );
        let below = again(&lengths, 0, 0, 0, 150);
        assert!(below.times.likely > 1.8 && below.good.likely < 0.1, "{below:?}");
    }

    #[test]
    fn without_any_length_each_may_be_bad() {
        let unknown = again(&[], 0, 0, 0, 300);
        assert_eq!((unknown.times.likely, unknown.times.high), (0.0, 2.0));
        assert_eq!((unknown.good.likely, unknown.good.low), (1.0, 0.0));
        let only_bad = again(&[], 6, 300, 0, 300);
        assert_eq!(
            (only_bad.times.likely, only_bad.cut_off, only_bad.good.likely),
            (2.0, 1.0, 0.0)
        );
    }

    #[test]
    fn what_was_good_the_second_time_is_one_more_call() {
        let some = again(&[100; 100], 0, 0, 10, 4_000);
        assert_eq!((some.times.likely, some.good.likely), (0.1, 1.0));
        assert!((0.1..0.3).contains(&some.times.high), "{some:?}");
        assert_eq!(some.cut_off, 0.0);
    }
}
