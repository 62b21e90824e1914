//! Money before it is spent: set aside for each call that is sent, settled when it has ended, and
//! never more of it than the limits leave. It knows no prices, no clock and no calls.

use crate::call::Money;

/// A limit on what may be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What it is called where it is set: `limits.budget_usd`.
    pub name: &'static str,
    /// What may be spent under it.
    pub amount: Money,
    /// What was spent under it before this run.
    pub before: Money,
    /// From which moment on (Unix time in milliseconds) what earlier runs set aside for a call is
    /// in `before`, until the call has an end; `None`: it is not.
    pub since_ms: Option<u64>,
}

/// How far a limit is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Which limit.
    pub limit: Limit,
    /// What is spent under it, by this run and before.
    pub spent: Money,
    /// The part of what this run spent that was set aside for calls that may have been billed.
    pub possibly: Money,
}

/// Whether a call fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It does.
    Enough,
    /// It does not, but what is in flight may cost less than was set aside for it.
    Later,
    /// It does not, and nothing is in flight: it never will.
    Never(Used),
}

/// The limits of one run, with what it has spent and set aside.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    limits: Vec<Limit>,
    spent: Money,
    possibly: Money,
    reserved: Money,
    in_flight: usize,
    /// The part of `reserved` for jobs that nobody waits for at the moment.
    held: Money,
    warned: Vec<bool>,
}

/// The share of a limit at which a person is warned, in percent.
const WARN_AT: i32 = 80;

impl Budget {
    /// Nothing spent yet by this run. Without limits everything fits.
    pub fn new(limits: Vec<Limit>) -> Self {
        Self {
            warned: vec![false; limits.len()],
            limits,
            ..Self::default()
        }
    }

    /// Says whether a call that is thought to cost `estimate` may be sent.
    pub fn room(&self, estimate: Money) -> Room {
        let taken = self.spent + self.reserved + estimate;
        let full = self
            .limits
            .iter()
            .find(|limit| limit.before + taken > limit.amount);
        match full {
            None => Room::Enough,
            Some(_) if self.in_flight > 0 => Room::Later,
            Some(limit) => Room::Never(self.used(limit)),
        }
    }

    /// Sets money aside for a call that is sent.
    pub fn reserve(&mut self, estimate: Money) {
        self.reserved += estimate;
        self.in_flight += 1;
    }

    /// Nobody waits any more for a job for which `reserved` was set aside; the server works on.
    pub fn hold(&mut self, reserved: Money) {
        self.held += reserved;
        self.in_flight -= 1;
    }

    /// Somebody waits for such a job again: what was set aside for it still is.
    pub fn resume(&mut self, reserved: Money) {
        self.held = self.held - reserved;
        self.in_flight += 1;
    }

    /// Sets money aside for a job that an earlier run began at `at_ms` (Unix time), and set aside
    /// `counted` for: what counts as spent because of that does so no more.
    pub fn take_over(&mut self, estimate: Money, counted: Money, at_ms: u64) {
        for limit in &mut self.limits {
            if limit.since_ms.is_some_and(|since| since <= at_ms) {
                limit.before = (limit.before - counted).max(Money::ZERO);
            }
        }
        self.reserve(estimate);
    }

    /// A call for which `reserved` was set aside cost this much.
    pub fn settle(&mut self, reserved: Money, cost: Money) {
        self.reserved = self.reserved - reserved;
        self.in_flight -= 1;
        self.spent += cost;
    }

    /// A call for which `reserved` was set aside may have been billed: it counts as spent.
    pub fn settle_unknown(&mut self, reserved: Money) {
        self.settle(reserved, reserved);
        self.possibly += reserved;
    }

    /// The limits that have come to `WARN_AT` since this was asked last.
    pub fn warnings(&mut self) -> Vec<Used> {
        let due: Vec<usize> = (0..self.limits.len())
            .filter(|&i| !self.warned[i] && self.is_low(&self.limits[i]))
            .collect();
        due.iter().for_each(|&i| self.warned[i] = true);
        due.iter().map(|&i| self.used(&self.limits[i])).collect()
    }

    fn is_low(&self, limit: &Limit) -> bool {
        let spent = limit.before + self.spent;
        spent > Money::ZERO && spent.usd() >= limit.amount.usd() * f64::from(WARN_AT) / 100.0
    }

    fn used(&self, limit: &Limit) -> Used {
        Used {
            limit: *limit,
            spent: limit.before + self.spent + self.held,
            possibly: self.possibly + self.held,
        }
    }
}

impl Used {
    /// What is left of it.
    pub fn left(&self) -> Money {
        (self.limit.amount - self.spent).max(Money::ZERO)
    }
}

impl Limit {
    /// What is left of it for a run.
    pub fn left(&self) -> Money {
        (self.amount - self.before).max(Money::ZERO)
    }
}

/// The limit that leaves a run the least, if there is one.
pub fn tightest(limits: &[Limit]) -> Option<&Limit> {
    limits.iter().min_by_key(|limit| limit.left())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd(usd: f64) -> Money {
        Money::from_usd(usd)
    }

    fn limit(amount: f64, before: f64) -> Limit {
        Limit {
            name: "limits.budget_usd",
            amount: usd(amount),
            before: usd(before),
            since_ms: None,
        }
    }

    #[test]
    fn what_is_in_flight_is_waited_for_before_it_is_too_late() {
        let mut budget = Budget::new(vec![limit(1.0, 0.0)]);
        assert_eq!(budget.room(usd(0.6)), Room::Enough);
        budget.reserve(usd(0.6));
        assert_eq!(budget.room(usd(0.6)), Room::Later, "the first may cost less");
        budget.settle(usd(0.6), usd(0.3));
        assert_eq!(budget.room(usd(0.6)), Room::Enough);
        budget.reserve(usd(0.6));
        budget.settle(usd(0.6), usd(0.6));
        let Room::Never(used) = budget.room(usd(0.2)) else {
            panic!("nothing is in flight")
        };
        assert_eq!((used.spent, used.possibly), (usd(0.9), Money::ZERO));
        assert_eq!(budget.room(usd(0.1)), Room::Enough, "to the last cent");
    }

    #[test]
    fn what_may_have_been_billed_is_spent() {
        let mut budget = Budget::new(vec![limit(1.0, 0.0)]);
        budget.reserve(usd(0.6));
        budget.settle_unknown(usd(0.6));
        let Room::Never(used) = budget.room(usd(0.5)) else {
            panic!("0.6 is spent")
        };
        assert_eq!((used.spent, used.possibly), (usd(0.6), usd(0.6)));
    }

    #[test]
    fn a_job_that_nobody_waits_for_keeps_what_is_set_aside_for_it() {
        let mut budget = Budget::new(vec![limit(1.0, 0.0)]);
        budget.reserve(usd(0.6));
        budget.hold(usd(0.6));
        let Room::Never(used) = budget.room(usd(0.6)) else {
            panic!("the server works on it")
        };
        assert_eq!((used.spent, used.possibly), (usd(0.6), usd(0.6)));
        budget.resume(usd(0.6));
        assert_eq!(budget.room(usd(0.6)), Room::Later, "it may cost less");
        budget.settle(usd(0.6), usd(0.1));
        assert_eq!(budget.room(usd(0.9)), Room::Enough);
    }

    #[test]
    fn a_job_of_an_earlier_run_counts_once() {
        let run = limit(1.0, 0.0);
        let total = Limit {
            since_ms: Some(0),
            ..limit(2.0, 0.6)
        };
        let month = Limit {
            since_ms: Some(100),
            ..limit(2.0, 0.3)
        };
        let mut budget = Budget::new(vec![run, total, month]);
        budget.take_over(usd(0.6), usd(0.6), 99);
        let before: Vec<Money> = budget.limits.iter().map(|limit| limit.before).collect();
        assert_eq!(
            before,
            [usd(0.0), usd(0.0), usd(0.3)],
            "it is of the month before"
        );
        budget.settle(usd(0.6), usd(0.5));
        assert!(matches!(budget.room(usd(0.6)), Room::Never(used) if used.spent == usd(0.5)));
    }

    #[test]
    fn each_limit_counts_what_was_spent_before_and_warns_once() {
        let mut budget = Budget::new(vec![limit(10.0, 0.0), limit(3.0, 2.0)]);
        assert!(budget.warnings().is_empty());
        budget.reserve(usd(0.5));
        budget.settle(usd(0.5), usd(0.5));
        let warned: Vec<Money> = budget.warnings().iter().map(|used| used.spent).collect();
        assert_eq!(warned, [usd(2.5)], "5/6 of the second");
        assert!(budget.warnings().is_empty());
        assert!(matches!(budget.room(usd(0.6)), Room::Never(used) if used.limit.amount == usd(3.0)));
    }

    #[test]
    fn a_limit_of_nothing_lets_nothing_through_and_the_least_is_the_tightest() {
        let mut budget = Budget::new(vec![limit(0.0, 0.0)]);
        assert!(matches!(budget.room(usd(0.01)), Room::Never(_)));
        assert!(budget.warnings().is_empty(), "nothing of nothing is spent");
        let limits = [limit(10.0, 0.0), limit(3.0, 5.0)];
        assert_eq!(tightest(&limits).map(Limit::left), Some(Money::ZERO));
    }

    proptest! {
        /// Calls come and go in any order; what is known of one is off by up to a factor of two.
        #[test]
        fn never_above_by_more_than_the_estimates_of_what_was_in_flight(
            amount in 1u64..5_000,
            calls in proptest::collection::vec((1u64..100, 0.0f64..2.0, 0usize..8, 0u8..10), 1..300),
        ) {
            let money = |cents: u64| usd(cents as f64 / 100.0);
            let mut budget = Budget::new(vec![limit(amount as f64 / 100.0, 0.0)]);
            let mut in_flight: Vec<(Money, Money)> = Vec::new();
            let mut spent = Money::ZERO;
            let mut end = |budget: &mut Budget, (estimate, cost): (Money, Money), lost: bool| {
                if lost {
                    budget.settle_unknown(estimate);
                    spent += estimate;
                } else {
                    budget.settle(estimate, cost);
                    spent += cost;
                }
                spent
            };
            let mut most = Money::ZERO;
            'calls: for (cents, error, ended, lost) in calls {
                let estimate = money(cents);
                for _ in 0..ended.min(in_flight.len()) {
                    end(&mut budget, in_flight.remove(0), lost == 0);
                }
                loop {
                    match budget.room(estimate) {
                        Room::Enough => break,
                        Room::Later => _ = end(&mut budget, in_flight.remove(0), lost == 0),
                        Room::Never(_) => break 'calls,
                    }
                }
                budget.reserve(estimate);
                in_flight.push((estimate, usd(estimate.usd() * error)));
                most = in_flight.iter().map(|(estimate, _)| *estimate).sum();
            }
            let mut total = Money::ZERO;
            for call in in_flight {
                total = end(&mut budget, call, false);
            }
            prop_assert!(total <= money(amount) + most, "{total} of {}", money(amount));
        }
    }
}
