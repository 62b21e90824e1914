//! Which limit sets the time of a run.

use std::time::Duration;

/// What bounds the time of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// `requests_per_minute`.
    Requests,
    /// `tokens_per_minute`.
    Tokens,
    /// Calls in flight and how long one takes.
    Concurrency,
    /// Calls that wait for the answers of others, however many may be in flight.
    Needs,
}

/// All that is to be done, and the limits for it.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Calls.
    pub calls: f64,
    /// Their tokens.
    pub tokens: f64,
    /// The time that they take, one after the other, in seconds.
    pub seconds: f64,
    /// Requests a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute.
    pub tokens_per_minute: Option<u32>,
    /// Calls in flight; `None`: to be found.
    pub concurrency: Option<usize>,
}

/// The share of the time that a limit takes by itself from which on it is the one that binds.
const MOST_OF_IT: f64 = 0.5;

impl Bounds {
    /// What sets the time, where it all takes `took`.
    pub fn binding(&self, took: Duration) -> Binding {
        let minutes =
            |amount: f64, rate: Option<u32>| rate.map_or(0.0, |rate| amount / f64::from(rate) * 60.0);
        let in_flight = match self.concurrency {
            Some(concurrency) if self.calls > concurrency as f64 => self.seconds / concurrency as f64,
            _ => 0.0,
        };
        let bounds = [
            (in_flight, Binding::Concurrency),
            (minutes(self.calls, self.requests_per_minute), Binding::Requests),
            (minutes(self.tokens, self.tokens_per_minute), Binding::Tokens),
        ];
        let longest = bounds.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
        match longest {
            Some((alone, binding)) if alone >= took.as_secs_f64() * MOST_OF_IT && alone > 0.0 => binding,
            // Too few calls to fill what may be in flight; where that is still to be found, it
            // grows while they go on.
            _ if self
                .concurrency
                .is_some_and(|concurrency| self.calls <= concurrency as f64) =>
            {
                Binding::Needs
            }
            _ => Binding::Concurrency,
        }
    }
}

impl Binding {
    /// The word for it in `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Binding::Requests => "requests_per_minute",
            Binding::Tokens => "tokens_per_minute",
            Binding::Concurrency => "concurrency",
            Binding::Needs => "needs",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_most_of_the_time_by_itself_binds() {
        let cases = [
            (None, None, Some(10), 60, Binding::Concurrency),
            (Some(300), None, Some(10), 121, Binding::Requests),
            (Some(300), Some(20_000), Some(10), 182, Binding::Tokens),
            (Some(300), None, None, 121, Binding::Requests),
            (None, None, None, 20, Binding::Concurrency),
            (None, None, Some(600), 2, Binding::Needs),
        ];
        for (requests_per_minute, tokens_per_minute, concurrency, took, binding) in cases {
            let bounds = Bounds {
                calls: 600.0,
                tokens: 60_000.0,
                seconds: 600.0,
                requests_per_minute,
                tokens_per_minute,
                concurrency,
            };
            let took = Duration::from_secs(took);
            assert_eq!(bounds.binding(took), binding, "{bounds:?}");
        }
    }
}
