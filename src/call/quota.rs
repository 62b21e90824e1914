//! What a server says of its limits with an answer or a refusal, and how a rate changes by it. It
//! does not know how that was said, nor how a rate is kept.

use std::sync::Arc;
use std::time::Duration;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    /// Calls.
    Requests,
    /// Tokens.
    Tokens,
}

impl Counted {
    /// The word for it in `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Counted::Requests => "requests",
            Counted::Tokens => "tokens",
        }
    }
}

/// The limits that a server tells; each of them only where it tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Of calls.
    pub requests: Option<Quota>,
    /// Of tokens.
    pub tokens: Option<Quota>,
}

/// One limit, and how far it is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// So many in each window.
    pub limit: u64,
    /// So many are left.
    pub remaining: Option<u64>,
    /// Until all of them are there again.
    pub reset: Option<Duration>,
    /// The window, where the server names it.
    pub window: Option<Duration>,
}

/// A rate that changed while it was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateChange {
    /// Of what.
    pub counted: Counted,
    /// So many a minute from now on; `None`: as fast as there are calls.
    pub per_minute: Option<u32>,
    /// Why.
    pub cause: RateCause,
    /// Of which model; `None`: of the only one.
    pub model: Option<Arc<str>>,
}

/// Why a rate changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateCause {
    /// The server said how many it allows.
    Told,
    /// The server refused calls.
    Refused,
    /// It has not refused any for a while.
    Recovered,
}

impl RateCause {
    /// The word for it in `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            RateCause::Told => "told",
            RateCause::Refused => "refused",
            RateCause::Recovered => "recovered",
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// A window of at most this length is one that calls are paced by. A longer one (a day: Groq's and
/// Cerebras' requests) may be used up at any pace.
const PACED: Duration = Duration::from_secs(10 * 60);

impl Quota {
    /// How many a minute, where calls are to be paced by that. `fixed`: the server counts in windows
    /// that begin anew all at once.
    pub fn per_minute(&self, fixed: bool) -> Option<u64> {
        let measured = || match fixed {
            true => self.reset,
            false => self.measured(),
        };
        let window = self.window.or_else(measured).unwrap_or(MINUTE);
        if window.is_zero() || window > PACED || self.limit == 0 {
            return None;
        }
        match self.window {
            Some(window) => Some((self.limit as f64 * 60.0 / window.as_secs_f64()) as u64),
            // What is measured is too coarse for more than telling a minute from a day.
            None => Some(self.limit),
        }
    }

    /// Whether the server counts in windows that begin anew all at once, by what it said `before`:
    /// until then the time gets shorter however much is used, where it grows with the use if what
    /// is used comes back bit by bit. `None`: these two do not tell. One alone never does: a minute's
    /// window of which little is used looks like a day that fills up bit by bit.
    pub fn is_fixed_after(&self, before: &Self) -> Option<bool> {
        if self.limit != before.limit {
            return None;
        }
        let used = |quota: &Self| Some(quota.limit - quota.remaining?.min(quota.limit));
        let (used, used_before) = (used(self)?, used(before)?);
        let (reset, reset_before) = (self.reset?.as_secs_f64(), before.reset?.as_secs_f64());
        if used_before == 0 || used <= used_before || reset_before == 0.0 {
            return None;
        }
        let grown = reset_before * used as f64 / used_before as f64;
        Some(reset < (reset_before + grown) / 2.0)
    }

    /// How long to wait for the next one, where nothing is left.
    pub fn exhausted(&self, fixed: bool) -> Option<Duration> {
        let (Some(0), Some(reset)) = (self.remaining, self.reset) else {
            return None;
        };
        if fixed {
            return Some(reset).filter(|wait| !wait.is_zero());
        }
        let used = u32::try_from(self.limit).unwrap_or(u32::MAX).max(1);
        Some(reset / used).filter(|wait| !wait.is_zero())
    }

    /// The window by how long it takes until what is used is there again.
    fn measured(&self) -> Option<Duration> {
        let (remaining, reset) = (self.remaining?, self.reset?);
        let used = self.limit.checked_sub(remaining).filter(|used| *used > 0)?;
        Duration::try_from_secs_f64(reset.as_secs_f64() / used as f64 * self.limit as f64).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(limit: u64, remaining: u64, reset_ms: u64) -> Quota {
        Quota {
            limit,
            remaining: Some(remaining),
            reset: Some(Duration::from_millis(reset_ms)),
            window: None,
        }
    }

    #[test]
    fn a_minute_is_told_from_a_day() {
        // (limit, left, reset in ms) → a minute
        let cases = [
            (quota(60, 59, 1_000), Some(60)),
            (quota(5_000, 4_000, 12_000), Some(5_000)),
            (quota(5_000, 5_000, 0), Some(5_000)),
            // Groq: requests a day (https://console.groq.com/docs/rate-limits).
            (quota(14_400, 14_370, 179_560), None),
            (quota(1_000, 999, 86_400), None),
        ];
        for (quota, per_minute) in cases {
            assert_eq!(quota.per_minute(false), per_minute, "{quota:?}");
        }
    }

    #[test]
    fn a_window_that_is_named_is_believed() {
        let named = |limit, seconds| Quota {
            window: Some(Duration::from_secs(seconds)),
            ..quota(limit, 1, 3_600_000)
        };
        assert_eq!(named(100, 60).per_minute(false), Some(100));
        assert_eq!(named(2, 1).per_minute(false), Some(120));
        assert_eq!(named(14_400, 86_400).per_minute(false), None);
        let silent = Quota {
            remaining: None,
            reset: None,
            ..quota(100, 0, 0)
        };
        assert_eq!(silent.per_minute(false), Some(100), "LiteLLM gives no reset");
    }

    #[test]
    fn nothing_left_is_a_wait_for_the_next_one() {
        assert_eq!(
            quota(60, 0, 60_000).exhausted(false),
            Some(Duration::from_secs(1))
        );
        assert_eq!(quota(60, 1, 59_000).exhausted(false), None);
        assert_eq!(quota(60, 0, 0).exhausted(false), None);
    }

    /// A minute's window of 500, little used: the time until it begins anew says nothing of the use.
    #[test]
    fn a_fixed_window_is_known_by_its_second_response_and_is_no_day() {
        let (first, second) = (quota(500, 499, 58_000), quota(500, 490, 57_500));
        assert_eq!(second.is_fixed_after(&first), Some(true));
        assert_eq!(second.per_minute(false), None, "alone it looks like a day");
        assert_eq!(second.per_minute(true), Some(500));
        assert_eq!(
            quota(500, 0, 20_000).exhausted(true),
            Some(Duration::from_secs(20))
        );
        let hours = quota(500, 490, 7_200_000);
        assert_eq!(hours.per_minute(true), None, "used at any pace");
    }

    /// Groq's requests of a day, and a minute that fills up evenly: what is used takes longer.
    #[test]
    fn what_comes_back_bit_by_bit_is_no_fixed_window() {
        let day = |used: u64| quota(14_400, 14_400 - used, used * 6_000);
        assert_eq!(day(10).is_fixed_after(&day(1)), Some(false));
        assert_eq!(day(101).is_fixed_after(&day(100)), Some(false));
        let minute = |used: u64| quota(600, 600 - used, used * 100);
        assert_eq!(minute(40).is_fixed_after(&minute(20)), Some(false));
        // A new window, another limit, nothing used: these say nothing.
        assert_eq!(minute(1).is_fixed_after(&minute(20)), None);
        assert_eq!(minute(0).is_fixed_after(&minute(0)), None);
        assert_eq!(quota(500, 400, 100).is_fixed_after(&minute(20)), None);
    }
}
