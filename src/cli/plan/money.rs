//! Whether a budget would end the run, and where: rehearsed with the money that is set aside for each
//! call, so that a plan says what the run does.

use std::fmt;

use crate::budget::{Limit, tightest};
use crate::call::{Money, Price};
use crate::cli::plan::time;
use crate::cli::project::Loaded;
use crate::config::Limits;
use crate::events::History as Accounts;
use crate::plan::{Call, Costs, Planner, Range};
use crate::printable::one_line;
use crate::report::figures::{count, dollars, number};
use crate::run::{Longest, OutOfMoney, Rehearsal, RehearsedMoney};
use crate::tariff::PriceRange;

/// A budget that would not last.
pub struct Passed {
    pub limit: Limit,
    /// It would be used up after so many calls.
    pub calls: u64,
    of: u64,
    /// False if it would last where calls cost what is likely, and not where they cost the most.
    pub likely: bool,
    /// The call that would not fit then; `None`: it comes so late that it was not rehearsed.
    pub next: Option<Next>,
}

/// A call that does not fit.
pub struct Next {
    pub node: String,
    pub usd: Money,
    pub left: Money,
}

/// What a run is planned from.
pub struct Planned<'a> {
    pub project: &'a Loaded,
    pub limits: &'a Limits,
    pub planner: &'a Planner<'a>,
    pub accounts: &'a Accounts,
    pub prices: &'a [Option<PriceRange>],
    /// All calls.
    pub calls: u64,
    /// What they cost; `None`: a model has no price.
    pub costs: Option<Costs>,
    /// True if earlier answers tell how long they are.
    pub known: bool,
}

impl Planned<'_> {
    /// The limit that would end the run: where calls cost what is likely, else where they cost the
    /// most. Without earlier answers only the most is known.
    pub fn passed(&self, budget: &[Limit]) -> Option<Passed> {
        let (limit, costs) = (*tightest(budget)?, self.costs?);
        let calls = self.planner.calls();
        let likely = || self.rehearsed(&calls, |range| range.likely, |price| price.likely, budget);
        let most = || self.rehearsed(&calls, |range| range.high, |price| price.high, budget);
        let passed = |likely: bool, (limit, calls, next)| Passed {
            limit,
            calls,
            of: self.calls,
            likely,
            next,
        };
        let stopped = |stopped: OutOfMoney| {
            let next = Next {
                node: self.project.graph.id(stopped.node).to_string(),
                usd: stopped.next,
                left: stopped.used.left(),
            };
            (stopped.used.limit, stopped.called, Some(next))
        };
        // Of a very large run the end is not rehearsed: there the mean of all calls tells.
        let evenly = |cost: Money| {
            (cost > limit.left()).then(|| {
                let calls = self.calls as f64 * limit.left().usd() / cost.usd();
                (limit, calls as u64, None)
            })
        };
        if self.known
            && let Some(found) = likely().map(stopped).or_else(|| evenly(costs.likely))
        {
            return Some(passed(true, found));
        }
        // Answers that need less may bring a dear call earlier.
        let earliest = most()
            .into_iter()
            .chain(likely())
            .min_by_key(|stopped| stopped.called);
        let found = earliest.map(stopped).or_else(|| evenly(costs.high?))?;
        Some(passed(false, found))
    }

    fn rehearsed(
        &self,
        calls: &[Call],
        which: fn(Range) -> f64,
        price: fn(&PriceRange) -> Price,
        budget: &[Limit],
    ) -> Option<OutOfMoney> {
        let (planner, accounts) = (self.planner, self.accounts);
        let mut rehearsal = time::rehearsal(self.project, self.limits, accounts, planner, calls, which, true);
        rehearsal.budget = budget.to_vec();
        pay(&mut rehearsal, self.project, calls, accounts, self.prices, price);
        rehearsal.out_of_money()
    }
}

/// Gives the nodes of a rehearsal their prices, each one of its range.
pub fn pay(
    rehearsal: &mut Rehearsal,
    project: &Loaded,
    calls: &[Call],
    accounts: &Accounts,
    prices: &[Option<PriceRange>],
    price: fn(&PriceRange) -> Price,
) {
    let config = &project.config.nodes;
    for (node, rehearsed) in rehearsal.nodes.iter_mut().enumerate() {
        let known = accounts.of(&config[node].id, &config[node].model.name);
        rehearsed.money = prices[node].as_ref().map(|prices| RehearsedMoney {
            dearest: prices.high,
            price: price(prices),
            cached: calls[node].cached,
            longest: known.map_or_else(Longest::default, |known| Longest::of_earlier(&known.output)),
        });
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (would, about) = match self.likely {
            true => ("would", "after about"),
            false => ("might", "at the earliest after"),
        };
        let amount = format!("{} (`{}`)", dollars(Some(self.limit.amount)), self.limit.name);
        match self.calls {
            0 => write!(f, "{would} end the run before its first call")?,
            calls => write!(
                f,
                "{would} end the run {about} {} of {}",
                number(calls),
                count(self.of, "call")
            )?,
        }
        match &self.next {
            Some(next) => write!(
                f,
                ": {} is set aside for the next one, of {}, and {} of {amount} is left",
                dollars(Some(next.usd)),
                one_line(&next.node),
                dollars(Some(next.left)),
            ),
            None => write!(
                f,
                ": {} of {amount} is left now",
                dollars(Some(self.limit.left()))
            ),
        }
    }
}
