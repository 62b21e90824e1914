//! A figure that is foreseen: between what it lies, and the mean and spread of those that were seen
//! before, from which that follows. It does not know what they are figures of.

use crate::events;

/// How far the mean of a few answers may be off, as a share of it, before their own spread tells.
const PRIOR: f64 = 0.3;

/// How far a mean may move from one day, or from one wording of a prompt, to the next.
const DRIFT: f64 = 0.1;

/// A figure that is not known yet: the least, what is likely, the most.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    /// The least that is to be expected.
    pub low: f64,
    /// What is likely.
    pub likely: f64,
    /// The most that is to be expected.
    pub high: f64,
}

/// Mean and spread of a figure, without keeping what was added.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    pub(super) count: f64,
    pub(super) mean: f64,
    squares: f64,
}

impl Spread {
    /// What was added up elsewhere, each figure so many times as large.
    pub(super) fn of(known: &events::Spread, scale: f64) -> Self {
        let count = known.n as f64;
        let mean = known.mean().unwrap_or(0.0);
        let squares = (known.squares - count * mean * mean).max(0.0);
        Self {
            count,
            mean: mean * scale,
            squares: squares * scale * scale,
        }
    }

    pub(super) fn add(&mut self, figure: f64) {
        self.count += 1.0;
        let off = figure - self.mean;
        self.mean += off / self.count;
        self.squares += off * (figure - self.mean);
    }

    /// The same, as if there were at most so many.
    pub(super) fn as_of(self, count: f64) -> Self {
        if count >= self.count {
            return self;
        }
        Self {
            count,
            mean: self.mean,
            squares: self.squares * count / self.count,
        }
    }

    pub(super) fn merged(self, other: Self) -> Self {
        let count = self.count + other.count;
        if count == 0.0 {
            return self;
        }
        let off = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + off * other.count / count,
            squares: self.squares + other.squares + off * off * self.count * other.count / count,
        }
    }

    /// How far one figure strays from the mean; with few of them, from what is usual.
    pub(super) fn deviation(&self) -> f64 {
        let usual = PRIOR * self.mean;
        ((self.squares + usual * usual) / self.count.max(1.0)).sqrt()
    }

    /// The mean of so many more.
    pub(super) fn range(&self, of: u64) -> Option<Range> {
        if self.count == 0.0 {
            return None;
        }
        let chance = 2.0 * self.deviation() * (1.0 / self.count + 1.0 / of.max(1) as f64).sqrt();
        let off = chance + DRIFT * self.mean;
        Some(Range {
            low: (self.mean - off).max(0.0),
            likely: self.mean,
            high: self.mean + off,
        })
    }
}

impl Range {
    /// What is known.
    pub fn exactly(figure: f64) -> Self {
        Self::around(figure, 0.0)
    }

    pub(super) fn around(likely: f64, share: f64) -> Self {
        Self {
            low: likely * (1.0 - share),
            likely,
            high: likely * (1.0 + share),
        }
    }

    pub(super) fn at_most(self, most: f64) -> Self {
        Self {
            low: self.low.min(most),
            likely: self.likely.min(most),
            high: self.high.min(most),
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            low: self.low + other.low,
            likely: self.likely + other.likely,
            high: self.high + other.high,
        }
    }

    pub(super) fn times(self, other: Self) -> Self {
        Self {
            low: self.low * other.low,
            likely: self.likely * other.likely,
            high: self.high * other.high,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_can_be_merged() {
        let add = |figures: &[f64]| {
            let mut spread = Spread::default();
            figures.iter().for_each(|&figure| spread.add(figure));
            spread
        };
        let merged = add(&[1.0, 2.0, 4.0]).merged(add(&[8.0, 16.0]));
        let whole = add(&[1.0, 2.0, 4.0, 8.0, 16.0]);
        assert!((merged.mean - whole.mean).abs() < 1e-9 && (merged.squares - whole.squares).abs() < 1e-9);
        assert_eq!(merged.count, whole.count);
    }
}
