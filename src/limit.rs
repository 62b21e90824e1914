//! Requests and tokens a minute, on governor. It is asked before a call and told afterwards what
//! the call really used. It waits for nobody and reads no clock: the time is handed in.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

const MINUTE: Duration = Duration::from_secs(60);

/// The limits of one run.
#[derive(Debug)]
pub struct Limits {
    clock: HandedIn,
    requests: Option<Bucket>,
    tokens: Option<Tokens>,
}

/// Tokens a minute. governor gives nothing back, so the difference between what was reserved and
/// what was used is a balance of our own that the next reservations pay or use.
#[derive(Debug)]
struct Tokens {
    per_minute: NonZeroU32,
    bucket: Bucket,
    burst: u32,
    /// Used but not paid to the bucket yet; negative: paid and not used.
    owed: i64,
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, HandedIn, StateInformationMiddleware>;

impl Limits {
    /// Limits for a run that starts now. Requests are paced evenly with a burst of
    /// `max(1, requests_per_minute / 600)`, tokens with a burst of one second's worth or the
    /// largest single reservation (design, "Limits, in figures").
    pub fn new(requests_per_minute: Option<u32>, tokens_per_minute: Option<u32>) -> Self {
        let clock = HandedIn::default();
        let requests = requests_per_minute.and_then(NonZeroU32::new).map(|per_minute| {
            let burst = (per_minute.get() / 600).max(1);
            bucket(per_minute, burst, clock.clone())
        });
        let tokens = tokens_per_minute.and_then(NonZeroU32::new).map(|per_minute| {
            let burst = (per_minute.get() / 60).max(1);
            let bucket = bucket(per_minute, burst, clock.clone());
            Tokens {
                per_minute,
                bucket,
                burst,
                owed: 0,
            }
        });
        Self {
            clock,
            requests,
            tokens,
        }
    }

    /// Takes one request and so many tokens out of the limits, for a call that starts now.
    ///
    /// `now` is the time since the start of the run. `tokens` above the limit of a whole minute
    /// would wait for ever: see [`Limits::most_tokens`].
    ///
    /// # Errors
    /// Not yet: the time from which it is worth asking again.
    pub fn take(&mut self, now: Duration, tokens: u64) -> Result<(), Duration> {
        self.clock.set(now);
        // Tokens first: if the request has to wait, they are a balance for the next time.
        if let Some(limit) = &mut self.tokens {
            limit.pay(now, tokens, &self.clock)?;
        }
        if let Some(limit) = &self.requests {
            take(limit, 1, now)?;
        }
        if let Some(limit) = &mut self.tokens {
            limit.owed += tokens as i64;
        }
        Ok(())
    }

    /// Says what a call really used of the tokens that were reserved for it.
    pub fn settle(&mut self, reserved: u64, used: u64) {
        if let Some(limit) = &mut self.tokens {
            limit.owed += used as i64 - reserved as i64;
        }
    }

    /// The most tokens that one call can have.
    pub fn most_tokens(&self) -> Option<u64> {
        self.tokens
            .as_ref()
            .map(|limit| u64::from(limit.per_minute.get()))
    }
}

impl Tokens {
    /// Pays until the balance covers `tokens`. Debts of earlier calls first, in parts as large as
    /// the burst; they start nothing. Then the reservation as one.
    fn pay(&mut self, now: Duration, tokens: u64, clock: &HandedIn) -> Result<(), Duration> {
        while self.owed > 0 {
            let part = u32::try_from(self.owed).unwrap_or(u32::MAX).min(self.burst);
            take(&self.bucket, part, now)?;
            self.owed -= i64::from(part);
        }
        let missing = tokens as i64 + self.owed;
        if missing > 0 {
            let missing = u32::try_from(missing).unwrap_or(u32::MAX);
            self.widen(missing, clock);
            take(&self.bucket, missing, now)?;
            self.owed -= i64::from(missing);
        }
        Ok(())
    }

    /// Lets the burst grow to the largest reservation: a new limiter (governor cannot change one)
    /// that has just as much left as the old one.
    fn widen(&mut self, burst: u32, clock: &HandedIn) {
        if burst <= self.burst {
            return;
        }
        let left = match self.bucket.check() {
            Ok(snapshot) => snapshot.remaining_burst_capacity() + 1,
            Err(_) => 0,
        };
        let wider = bucket(self.per_minute, burst, clock.clone());
        if let Some(used) = NonZeroU32::new(burst - left.min(burst)) {
            let taken = wider.check_n(used);
            debug_assert!(matches!(taken, Ok(Ok(_))), "BUG: a new limiter is full");
        }
        self.bucket = wider;
        self.burst = burst;
    }
}

fn bucket(per_minute: NonZeroU32, burst: u32, clock: HandedIn) -> Bucket {
    // Rounded up: a nanosecond too long is within the limit, one too short is not.
    let nanos = MINUTE.as_nanos().div_ceil(u128::from(per_minute.get()));
    let period = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
    let quota = Quota::with_period(period).expect("BUG: a minute is longer than nothing");
    let burst = NonZeroU32::new(burst).expect("BUG: a burst of nothing");
    RateLimiter::direct_with_clock(quota.allow_burst(burst), clock).with_middleware()
}

fn take(bucket: &Bucket, cells: u32, now: Duration) -> Result<(), Duration> {
    let Some(cells) = NonZeroU32::new(cells) else {
        return Ok(());
    };
    match bucket.check_n(cells).expect("BUG: more than the burst") {
        Ok(_) => Ok(()),
        Err(not_until) => Err(now + not_until.wait_time_from(now)),
    }
}

/// The clock of the limiters: it shows what it was last told.
#[derive(Clone, Debug, Default)]
struct HandedIn(Arc<AtomicU64>);

impl HandedIn {
    fn set(&self, now: Duration) {
        self.0.store(
            u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }
}

impl Clock for HandedIn {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Starts calls as early as the limits allow; returns when each started.
    fn starts(limits: &mut Limits, tokens: &[u64]) -> Vec<Duration> {
        let mut now = Duration::ZERO;
        tokens
            .iter()
            .map(|&tokens| {
                while let Err(later) = limits.take(now, tokens) {
                    assert!(later > now, "a refusal names a later time");
                    now = later;
                }
                now
            })
            .collect()
    }

    /// The most that starts in any 60 seconds.
    fn most_in_a_minute(starts: &[Duration], amounts: &[u64]) -> u64 {
        let windows = (0..starts.len()).map(|first| {
            let inside = starts[first..]
                .iter()
                .take_while(|at| **at < starts[first] + MINUTE)
                .count();
            amounts[first..first + inside].iter().sum()
        });
        windows.max().unwrap_or(0)
    }

    #[test]
    fn requests_are_paced_evenly_after_the_burst() {
        let starts = starts(&mut Limits::new(Some(1200), None), &[0; 5]);
        let millis: Vec<u128> = starts.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [0, 0, 50, 100, 150]);
    }

    #[test]
    fn without_limits_everything_starts_at_once() {
        let starts = starts(&mut Limits::new(None, None), &[1_000_000; 100]);
        assert_eq!(starts.last(), Some(&Duration::ZERO));
    }

    #[test]
    fn a_call_larger_than_a_second_widens_the_burst_and_no_more() {
        let mut limits = Limits::new(None, Some(60_000));
        let starts = starts(&mut limits, &[5_000, 5_000, 5_000]);
        let seconds: Vec<u64> = starts.iter().map(Duration::as_secs).collect();
        assert_eq!(
            seconds,
            [4, 9, 14],
            "1,000 are there at the start, then 1,000 a second"
        );
    }

    #[test]
    fn what_was_not_used_is_there_for_the_next_call() {
        let mut limits = Limits::new(None, Some(60_000));
        assert_eq!(limits.take(Duration::ZERO, 1_000), Ok(()));
        limits.settle(1_000, 400);
        assert_eq!(limits.take(Duration::ZERO, 600), Ok(()));
        assert!(limits.take(Duration::ZERO, 1).is_err());
    }

    #[test]
    fn what_was_used_beyond_the_reservation_is_paid_before_the_next_call() {
        let mut limits = Limits::new(None, Some(60_000));
        assert_eq!(limits.take(Duration::ZERO, 1_000), Ok(()));
        limits.settle(1_000, 6_000);
        let starts = starts(&mut limits, &[1_000]);
        assert_eq!(starts[0].as_secs(), 6);
    }

    #[test]
    fn tokens_of_a_request_that_has_to_wait_are_not_paid_twice() {
        let mut limits = Limits::new(Some(60), Some(60_000));
        let starts = starts(&mut limits, &[1_000, 1_000, 1_000]);
        let seconds: Vec<u64> = starts.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [0, 1, 2]);
    }

    proptest! {
        #[test]
        fn no_minute_sees_more_than_limit_and_burst(
            rpm in 1u32..5_000,
            tpm in 1_000u32..1_000_000,
            tokens in proptest::collection::vec(1u64..1_000, 1..300),
        ) {
            let starts = starts(&mut Limits::new(Some(rpm), Some(tpm)), &tokens);
            let requests = most_in_a_minute(&starts, &vec![1; tokens.len()]);
            prop_assert!(requests <= u64::from(rpm + (rpm / 600).max(1)));
            let burst = u64::from(tpm / 60).max(*tokens.iter().max().unwrap());
            prop_assert!(most_in_a_minute(&starts, &tokens) <= u64::from(tpm) + burst);
        }

        #[test]
        fn the_rate_is_used_up(rpm in 1u32..5_000, calls in 2usize..300) {
            let starts = starts(&mut Limits::new(Some(rpm), None), &vec![0; calls]);
            let ideal = MINUTE.mul_f64((calls - 1) as f64 / f64::from(rpm));
            prop_assert!(*starts.last().unwrap() <= ideal + Duration::from_micros(10));
        }
    }
}
