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

    /// What these tokens cost. Parts of the input that the server did not report count as 0.
    pub fn cost(&self, usage: &Usage) -> Money {
        let (cached, written) = parts(usage);
        let plain = usage.input - cached - written;
        times(self.input, plain)
            + times(self.cached_input, cached)
            + times(self.cache_write, written)
            + times(self.output, usage.output)
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
