//! The server's own rate limits: a bucket of requests and one of tokens, as a provider keeps
//! them. Knows no HTTP and reads no clock; `now` is handed in.

use std::time::Duration;

use tokio::time::Instant;

/// Units in one token (or request): the nanoseconds of a minute, so that each nanosecond fills a
/// bucket by exactly its limit a minute and nothing is ever rounded.
const UNITS: i128 = 60_000_000_000;

/// Fills evenly up to its capacity. What is larger than the capacity is let through when the
/// bucket is full, and leaves it in debt: no minute brings more than the limit and the greater
/// of capacity and the largest single cost.
#[derive(Debug)]
pub struct Bucket {
    per_minute: u32,
    capacity: i128,
    level: i128,
    at: Instant,
}

/// What a bucket says in headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// A minute.
    pub limit: u32,
    /// That could start now.
    pub remaining: u64,
    /// Until the bucket is full.
    pub reset: Duration,
}

impl Bucket {
    /// A full bucket that holds as much as its limit brings in `burst`, and 1 at least.
    pub fn new(per_minute: u32, burst: Duration, now: Instant) -> Self {
        let per_minute = per_minute.max(1);
        let capacity = (burst.as_nanos() as i128 * i128::from(per_minute)).max(UNITS);
        Self {
            per_minute,
            capacity,
            level: capacity,
            at: now,
        }
    }

    /// How long `cost` has to wait; zero if it may start now.
    fn wait(&mut self, cost: u64, now: Instant) -> Duration {
        self.fill(now);
        let needed = (i128::from(cost) * UNITS).min(self.capacity);
        self.until(needed)
    }

    fn take(&mut self, cost: u64) {
        self.level -= i128::from(cost) * UNITS;
    }

    /// Corrects a cost after the fact; what was too much comes back, up to the capacity.
    fn settle(&mut self, reserved: u64, used: u64, now: Instant) {
        self.fill(now);
        let refund = (i128::from(reserved) - i128::from(used)) * UNITS;
        self.level = (self.level + refund).min(self.capacity);
    }

    fn gauge(&mut self, now: Instant) -> Gauge {
        self.fill(now);
        Gauge {
            limit: self.per_minute,
            remaining: (self.level.max(0) / UNITS) as u64,
            reset: self.until(self.capacity),
        }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_nanos() as i128;
        self.level = (self.level + passed * i128::from(self.per_minute)).min(self.capacity);
        self.at = self.at.max(now);
    }

    fn until(&self, level: i128) -> Duration {
        let lacking = (level - self.level).max(0);
        let per_nanosecond = i128::from(self.per_minute);
        let nanoseconds = (lacking + per_nanosecond - 1) / per_nanosecond;
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// Both limits; none is no limit.
#[derive(Debug)]
pub struct Limits {
    /// Requests a minute.
    pub requests: Option<Bucket>,
    /// Tokens a minute.
    pub tokens: Option<Bucket>,
}

/// Why a request may not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Too many requests.
    Requests {
        /// A minute.
        limit: u32,
        /// Until it may start.
        wait: Duration,
    },
    /// Too many tokens.
    Tokens {
        /// A minute.
        limit: u32,
        /// What the request was reckoned at.
        requested: u64,
        /// Until it may start.
        wait: Duration,
    },
    /// More tokens than a minute has: it can never start.
    TooLarge {
        /// A minute.
        limit: u32,
        /// What the request was reckoned at.
        requested: u64,
    },
}

impl Limits {
    /// Lets one request with so many tokens start.
    ///
    /// # Errors
    /// The limit that forbids it, the one with the longer wait first; nothing is taken then.
    pub fn admit(&mut self, tokens: u64, now: Instant) -> Result<(), Over> {
        let mut over = Vec::new();
        if let Some(bucket) = &mut self.tokens {
            let limit = bucket.per_minute;
            if tokens > u64::from(limit) {
                return Err(Over::TooLarge {
                    limit,
                    requested: tokens,
                });
            }
            let wait = bucket.wait(tokens, now);
            over.push((
                wait,
                Over::Tokens {
                    limit,
                    requested: tokens,
                    wait,
                },
            ));
        }
        if let Some(bucket) = &mut self.requests {
            let wait = bucket.wait(1, now);
            over.push((
                wait,
                Over::Requests {
                    limit: bucket.per_minute,
                    wait,
                },
            ));
        }
        match over
            .into_iter()
            .filter(|(wait, _)| !wait.is_zero())
            .max_by_key(|(wait, _)| *wait)
        {
            Some((_, over)) => Err(over),
            None => {
                self.tokens.iter_mut().for_each(|bucket| bucket.take(tokens));
                self.requests.iter_mut().for_each(|bucket| bucket.take(1));
                Ok(())
            }
        }
    }

    /// Corrects the tokens of a request that was let start, once they are known.
    pub fn settle(&mut self, reserved: u64, used: u64, now: Instant) {
        if let Some(bucket) = &mut self.tokens {
            bucket.settle(reserved, used, now);
        }
    }

    /// What the headers say: requests, tokens.
    pub fn gauges(&mut self, now: Instant) -> [Option<Gauge>; 2] {
        [
            self.requests.as_mut().map(|bucket| bucket.gauge(now)),
            self.tokens.as_mut().map(|bucket| bucket.gauge(now)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(requests: Option<u32>, tokens: Option<u32>, burst_ms: u64, now: Instant) -> Limits {
        let burst = Duration::from_millis(burst_ms);
        Limits {
            requests: requests.map(|limit| Bucket::new(limit, burst, now)),
            tokens: tokens.map(|limit| Bucket::new(limit, burst, now)),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_as_it_is_told_gets_exactly_the_limit() {
        let begun = Instant::now();
        let mut limits = limits(Some(120), None, 1000, begun);
        let mut started = 0;
        while begun.elapsed() < Duration::from_secs(60) {
            match limits.admit(1, Instant::now()) {
                Ok(()) => started += 1,
                Err(Over::Requests { limit: 120, wait }) => {
                    assert_eq!(wait, Duration::from_millis(500));
                    tokio::time::advance(wait).await;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(
            started,
            120 + 1,
            "a minute's worth and the burst of 2, whose last is due at 60 s"
        );
    }

    #[test]
    fn the_longer_wait_is_reported_and_nothing_is_taken() {
        let now = Instant::now();
        let mut limits = limits(Some(60), Some(6000), 1000, now);
        assert_eq!(limits.admit(50, now), Ok(()));
        let second = Duration::from_secs(1);
        // Requests: full again in a second. Tokens: 50 of 100 are left.
        assert_eq!(
            limits.admit(50, now),
            Err(Over::Requests {
                limit: 60,
                wait: second
            })
        );
        assert_eq!(limits.admit(50, now + second), Ok(()));
        limits.requests = None;
        assert_eq!(limits.admit(50, now + second), Ok(()));
        let wait = Duration::from_millis(500);
        assert_eq!(
            limits.admit(50, now + second),
            Err(Over::Tokens {
                limit: 6000,
                requested: 50,
                wait
            })
        );
    }

    #[test]
    fn a_request_larger_than_the_burst_waits_for_a_full_bucket_and_leaves_a_debt() {
        let now = Instant::now();
        let mut limits = limits(None, Some(6000), 1000, now);
        assert_eq!(
            limits.admit(6001, now),
            Err(Over::TooLarge {
                limit: 6000,
                requested: 6001
            })
        );
        assert_eq!(limits.admit(600, now), Ok(()));
        let wait = Duration::from_secs(6);
        assert_eq!(
            limits.admit(6000, now),
            Err(Over::Tokens {
                limit: 6000,
                requested: 6000,
                wait
            })
        );
        limits.settle(600, 100, now);
        assert_eq!(
            limits.gauges(now),
            [
                None,
                Some(Gauge {
                    limit: 6000,
                    remaining: 0,
                    reset: Duration::from_secs(1)
                })
            ]
        );
        limits.settle(100, 0, now);
        limits.settle(100, 0, now);
        let full = Gauge {
            limit: 6000,
            remaining: 100,
            reset: Duration::ZERO,
        };
        assert_eq!(
            limits.gauges(now),
            [None, Some(full)],
            "no more than the capacity"
        );
    }

    proptest! {
        /// In any 60 seconds: at most limit + burst (or + the largest cost, if greater), whatever
        /// is tried and settled, in any order.
        #[test]
        fn no_minute_brings_more_than_limit_and_burst(
            limit in 1u32..200,
            burst_ms in 0u64..5000,
            steps in prop::collection::vec((0u64..4000, 1u64..150, 0u64..200, any::<bool>()), 1..300),
        ) {
            let begun = Instant::now();
            let mut now = begun;
            let mut limits = limits(Some(limit), Some(limit), burst_ms, begun);
            // (time, requests, tokens; a settlement is a negative cost)
            let mut started: Vec<(Duration, i64, i64)> = Vec::new();
            for (pause_ms, cost, used, settle) in steps {
                now += Duration::from_millis(pause_ms);
                if limits.admit(cost, now).is_ok() {
                    started.push((now - begun, 1, cost as i64));
                    if settle {
                        limits.settle(cost, used, now);
                        started.push((now - begun, 0, used as i64 - cost as i64));
                    }
                }
            }
            let burst = (f64::from(limit) * burst_ms as f64 / 60_000.0).max(1.0);
            let largest = started.iter().map(|(_, _, tokens)| *tokens).max().unwrap_or(0) as f64;
            for (i, (first, ..)) in started.iter().enumerate() {
                let (mut requests, mut tokens) = (0, 0);
                for (at, one, cost) in &started[i..] {
                    if *at >= *first + Duration::from_secs(60) {
                        break;
                    }
                    requests += one;
                    tokens += cost;
                    prop_assert!(requests as f64 <= f64::from(limit) + burst);
                    // A settlement above the reservation was not known when it was let start.
                    let unknown: i64 = started.iter().filter(|s| s.1 == 0).map(|s| s.2.max(0)).sum();
                    prop_assert!(tokens as f64 <= f64::from(limit) + burst.max(largest) + unknown as f64);
                }
            }
        }
    }
}
