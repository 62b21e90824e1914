//! Tokens to money. Sums are exact: money is a whole number of pico-dollars, because a price of
//! 0.0028 USD per million tokens is 2,800 pico-dollars a token and nothing coarser holds it.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

use crate::call::answer::Usage;

/// An amount in pico-dollars (10⁻¹² USD); may be negative (a cache that cost more than it saved).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);

    /// The amount nearest to `usd` dollars.
    pub fn from_usd(usd: f64) -> Self {
        Self((usd * 1e12).round() as i64)
    }

    /// The amount in dollars.
    pub fn usd(self) -> f64 {
        self.0 as f64 / 1e12
    }
}

impl Add for Money {
    type Output = Money;
    fn add(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }
}

impl Sub for Money {
    type Output = Money;
    fn sub(self, other: Money) -> Money {
        Money(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Money) {
        *self = *self + other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Money>>(items: I) -> Money {
        items.fold(Money::ZERO, Add::add)
    }
}

impl fmt::Display for Money {
    /// Dollars with as many digits as tell something: `$12.30`, `$0.0042`, `-$0.01`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usd = self.usd();
        let sign = if self.0 < 0 { "-" } else { "" };
        match usd.abs() {
            0.0 => f.pad("$0.00"),
            x if x >= 0.995 => f.pad(&format!("{sign}${x:.2}")),
            x => f.pad(&format!("{sign}${x:.4}")),
        }
    }
}

/// The price of a model: pico-dollars a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Input that the provider's cache did not hold.
    pub input: Money,
    /// Input read from the provider's cache.
    pub cached_input: Money,
    /// Input written to the provider's cache, instead of `input`.
    pub cache_write: Money,
    /// Output, reasoning included.
    pub output: Money,
}

impl Price {
    /// From dollars per million tokens; a missing cached or written price is the input price.
    pub fn per_million(input: f64, cached_input: Option<f64>, cache_write: Option<f64>, output: f64) -> Self {
        let per_token = |usd: f64| Money::from_usd(usd / 1e6);
        Self {
            input: per_token(input),
            cached_input: per_token(cached_input.unwrap_or(input)),
            cache_write: per_token(cache_write.unwrap_or(input)),
            output: per_token(output),
        }
    }

    /// The dearer one of each part.
    pub fn max(self, other: Self) -> Self {
        self.with(other, Money::max)
    }

    /// The cheaper one of each part.
    pub fn min(self, other: Self) -> Self {
        self.with(other, Money::min)
    }

    fn with(self, other: Self, of: fn(Money, Money) -> Money) -> Self {
        Self {
            input: of(self.input, other.input),
            cached_input: of(self.cached_input, other.cached_input),
            cache_write: of(self.cache_write, other.cache_write),
            output: of(self.output, other.output),
        }
    }

    /// The mean of prices by their shares, which add up to 1.
    pub fn mean(prices: impl Iterator<Item = (Self, f64)>) -> Self {
        let mut sum = [0.0; 4];
        for (price, share) in prices {
            let parts = [price.input, price.cached_input, price.cache_write, price.output];
            for (sum, part) in sum.iter_mut().zip(parts) {
                *sum += part.0 as f64 * share;
            }
        }
        let [input, cached_input, cache_write, output] = sum.map(|sum| Money(sum.round() as i64));
        Self {
            input,
            cached_input,
            cache_write,
            output,
        }
    }

    /// What reading from the provider's cache and writing to it cost, as shares of the input
    /// price; 1 and 1 where the input is free.
    pub fn shares_of_input(&self) -> (f64, f64) {
        let share = |price: Money| {
            if self.input.0 == 0 {
                1.0
            } else {
                price.0 as f64 / self.input.0 as f64
            }
        };
        (share(self.cached_input), share(self.cache_write))
    }

    /// What these tokens cost. Parts of the input that the server did not report count as 0.
    pub fn cost(&self, usage: &Usage) -> Money {
        let (cached, written) = parts(usage);
        let plain = usage.input - cached - written;
        times(self.input, plain)
            + times(self.cached_input, cached)
            + times(self.cache_write, written)
            + times(self.output, usage.output)
    }

    /// What a call of so many tokens costs at the most: all of its input at the dearest of the prices
    /// that input can have.
    pub fn at_most(&self, input: u64, output: u64) -> Money {
        let dearest = self.input.max(self.cache_write).max(self.cached_input);
        times(dearest, input) + times(self.output, output)
    }

    /// What the provider's cache saved: cached × (input − cached price) − written × (write price
    /// − input). Negative if writing cost more than reading saved.
    pub fn saved_by_provider_cache(&self, usage: &Usage) -> Money {
        let (cached, written) = parts(usage);
        times(self.input - self.cached_input, cached) - times(self.cache_write - self.input, written)
    }
}

/// Cached and written tokens, never more than the input they are parts of, whatever a server says.
fn parts(usage: &Usage) -> (u64, u64) {
    let cached = usage.cached_input.unwrap_or(0).min(usage.input);
    let written = usage.cache_write.unwrap_or(0).min(usage.input - cached);
    (cached, written)
}

fn times(price: Money, tokens: u64) -> Money {
    Money(price.0.saturating_mul(i64::try_from(tokens).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usage(input: u64, cached: u64, written: u64, output: u64) -> Usage {
        Usage {
            input,
            cached_input: Some(cached),
            cache_write: Some(written),
            output,
            reasoning: None,
            estimated: false,
        }
    }

    /// gpt-6-luna (2026-11): 0.10, 0.01, 0.125 and 0.50 USD a million.
    fn luna() -> Price {
        Price::per_million(0.10, Some(0.01), Some(0.125), 0.50)
    }

    #[test]
    fn parts_of_the_input_have_their_own_prices() {
        let million = 1_000_000;
        let rows = [
            (usage(million, 0, 0, 0), 0.10),
            (usage(million, million, 0, 0), 0.01),
            (usage(million, 0, million, 0), 0.125),
            (
                usage(million, 500_000, 250_000, million),
                0.025 + 0.005 + 0.03125 + 0.50,
            ),
            (
                Usage {
                    input: million,
                    output: 1,
                    ..Usage::default()
                },
                0.1000005,
            ),
        ];
        for (usage, usd) in rows {
            assert_eq!(luna().cost(&usage), Money::from_usd(usd), "{usage:?}");
        }
    }

    #[test]
    fn a_cache_that_is_written_and_not_read_costs_money() {
        assert_eq!(
            luna().saved_by_provider_cache(&usage(1_000_000, 0, 1_000_000, 0)),
            Money::from_usd(-0.025)
        );
        assert_eq!(
            luna().saved_by_provider_cache(&usage(1_000_000, 1_000_000, 0, 0)),
            Money::from_usd(0.09)
        );
    }

    #[test]
    fn a_missing_price_is_the_input_price() {
        let price = Price::per_million(2.0, None, None, 10.0);
        assert_eq!(
            price.cost(&usage(100, 50, 50, 0)),
            price.cost(&usage(100, 0, 0, 0))
        );
        assert_eq!(price.saved_by_provider_cache(&usage(100, 50, 50, 0)), Money::ZERO);
    }

    #[test]
    fn money_is_shown_with_the_digits_that_tell() {
        let shown = [0.0, 0.0042, 0.5, 12.3, -0.01, 1234.567].map(|usd| Money::from_usd(usd).to_string());
        assert_eq!(
            shown,
            ["$0.00", "$0.0042", "$0.5000", "$12.30", "-$0.0100", "$1234.57"]
        );
    }

    proptest! {
        #[test]
        fn sums_do_not_depend_on_the_order(inputs in proptest::collection::vec(0u64..5_000, 1..50)) {
            let costs: Vec<Money> = inputs.iter().map(|&n| luna().cost(&usage(n, n / 3, n / 5, n / 2))).collect();
            let forth: Money = costs.iter().copied().sum();
            prop_assert_eq!(forth, costs.into_iter().rev().sum());
        }

        #[test]
        fn nonsense_from_a_server_costs_at_most_what_its_input_says(input in 0u64..1_000, cached: u64, written: u64) {
            let cost = luna().cost(&usage(input, cached, written, 0));
            prop_assert!(cost >= Money::ZERO && cost <= luna().cost(&usage(input, 0, input, 0)));
        }
    }
}
