//! Requests and tokens a minute, on governor. It is asked before a call and told afterwards what
//! the call really used, what the server says of its limits, and what it refused. It waits for
//! nobody and reads no clock: the time is handed in.

mod models;
mod rate;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::call::{self, Counted, Quotas, RateCause, RateChange};
pub use models::{Held, ModelLimits, Refusal};
use rate::Rate;

const MINUTE: Duration = Duration::from_secs(60);
/// So many milliseconds' worth of tokens start at once: a little less than the second's worth that a
/// server is sure to have. A call reaches it later than it was let go; a bucket that is full meanwhile
/// loses what comes in, and ours does not.
const BURST_MILLIS: u64 = 950;
/// So much later than we let a call go it may have reached the server, and so much later than the server
/// booked its end we may have heard of it, both together. More would be safer, and lose more of what
/// comes back.
const ON_THE_WAY: Duration = Duration::from_millis(10);

/// The limits of one run.
#[derive(Debug)]
pub struct Limits {
    clock: HandedIn,
    requests: Option<Bucket>,
    tokens: Option<Tokens>,
    /// What is known of the rates: of requests and of tokens.
    rates: [Rate; 2],
    /// What the buckets keep of them.
    kept: [Option<u32>; 2],
    /// Until when nothing is left, as the server said with its newest answer.
    held: [Duration; 2],
    /// A request was paid for, and waits for something else.
    request_paid: bool,
    /// What the server said last, of requests and of tokens.
    said: [Option<call::Quota>; 2],
    /// It counts in windows that begin anew all at once.
    fixed: [bool; 2],
    /// Calls that started before took nothing out of the bucket of tokens: there was none.
    tokens_since: Duration,
    changes: Vec<RateChange>,
}

/// Tokens a minute. governor gives nothing back, so the difference between what was reserved and
/// what was used is a balance of our own that the next reservations pay or use.
#[derive(Debug)]
struct Tokens {
    per_minute: NonZeroU32,
    bucket: Bucket,
    /// See [`BURST_MILLIS`]. A call that is larger waits for all of it and owes the rest, which is paid
    /// before the next one starts: as much as if it had waited for the whole, and no more than that of
    /// smaller calls ever starts at once.
    burst: u32,
    /// Used but not paid to the bucket yet; negative: paid and not used, and together with what is
    /// in the bucket never more than its burst.
    owed: i64,
}

/// What a call has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hold {
    /// The time from which it is worth asking again.
    until: Duration,
    /// The limit.
    counted: Counted,
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, HandedIn, StateInformationMiddleware>;

impl Limits {
    /// Limits for a run that starts now. Requests are paced evenly with a burst of
    /// `max(1, requests_per_minute / 600)`, tokens with a burst of less than one second's worth or a
    /// single larger reservation (design, "Limits, in figures").
    pub fn new(requests_per_minute: Option<u32>, tokens_per_minute: Option<u32>) -> Self {
        let known = |rate: Option<u32>| rate.filter(|rate| *rate > 0);
        let configured = [known(requests_per_minute), known(tokens_per_minute)];
        let mut limits = Self {
            clock: HandedIn::default(),
            requests: None,
            tokens: None,
            rates: configured.map(Rate::new),
            kept: [None, None],
            held: [Duration::ZERO; 2],
            request_paid: false,
            said: [None, None],
            fixed: [false; 2],
            tokens_since: Duration::ZERO,
            changes: Vec::new(),
        };
        limits.keep(Counted::Requests);
        limits.keep(Counted::Tokens);
        limits
    }

    /// Takes one request and so many tokens out of the limits, for a call that starts now.
    ///
    /// `now` is the time since the start of the run.
    ///
    /// # Errors
    /// Not yet: the time from which it is worth asking again.
    pub fn take(&mut self, now: Duration, tokens: u64) -> Result<(), Duration> {
        self.pay(now, tokens).map_err(|hold| hold.until)?;
        self.start(now, tokens);
        Ok(())
    }

    /// Pays for a call that may then start, at once or later: what is paid is not paid again.
    fn pay(&mut self, now: Duration, tokens: u64) -> Result<(), Hold> {
        self.clock.set(now);
        for counted in [Counted::Requests, Counted::Tokens] {
            let cause = match self.rates[counted as usize].look(now) {
                true => RateCause::Refused,
                false => RateCause::Recovered,
            };
            self.retune(now, counted, cause);
        }
        let until = self.held_until();
        if now < until {
            let counted = match until == self.held[Counted::Requests as usize] {
                true => Counted::Requests,
                false => Counted::Tokens,
            };
            return Err(Hold { until, counted });
        }
        // Tokens first: if the request has to wait, they are a balance for the next time.
        if let Some(limit) = &mut self.tokens {
            let counted = Counted::Tokens;
            limit.pay(now, tokens).map_err(|until| Hold { until, counted })?;
        }
        if let Some(limit) = self.requests.as_ref().filter(|_| !self.request_paid) {
            let counted = Counted::Requests;
            take(limit, 1, now).map_err(|until| Hold { until, counted })?;
            self.request_paid = true;
        }
        Ok(())
    }

    /// A call that has been paid for starts.
    fn start(&mut self, now: Duration, tokens: u64) {
        self.request_paid = false;
        if let Some(limit) = &mut self.tokens {
            limit.owed += tokens as i64;
        }
        self.rates[Counted::Requests as usize].started(now, 1);
        self.rates[Counted::Tokens as usize].started(now, tokens);
    }

    /// Says what a call that has ended now really used of the tokens that were reserved for it when
    /// it started. `heard` is when its answer came.
    pub fn settle(&mut self, now: Duration, heard: Duration, started: Duration, reserved: u64, used: u64) {
        self.clock.set(now);
        let rate = &mut self.rates[Counted::Tokens as usize];
        rate.settled(started, reserved, used);
        if let Some(limit) = &mut self.tokens
            && started >= self.tokens_since
        {
            // It was surely there when its own end was booked, and all that had started before it.
            let newest = rate.started_after(heard.saturating_sub(ON_THE_WAY).max(started));
            limit.settle(reserved, used, newest);
        }
    }

    /// Says what the server told of its limits.
    pub fn told(&mut self, now: Duration, quotas: &Quotas) {
        self.clock.set(now);
        let told: [(Counted, Option<call::Quota>); 2] = [
            (Counted::Requests, quotas.requests),
            (Counted::Tokens, quotas.tokens),
        ];
        for (counted, quota) in told {
            let Some(quota) = quota else { continue };
            let at = counted as usize;
            if let Some(before) = self.said[at].replace(quota) {
                self.fixed[at] = quota.is_fixed_after(&before).unwrap_or(self.fixed[at]);
            }
            if let Some(per_minute) = quota.per_minute(self.fixed[at]) {
                self.rates[at].told(now, per_minute);
                self.retune(now, counted, RateCause::Told);
            }
            let wait = quota.exhausted(self.fixed[at]);
            self.held[at] = wait.map_or(Duration::ZERO, |wait| now + wait);
        }
    }

    /// Says that a call which started then with so many tokens was refused for its rate; `limit` is
    /// the one that it met, where the server says which.
    pub fn refused(&mut self, started: Duration, tokens: u64, limit: Option<Counted>) {
        match limit.unwrap_or(Counted::Requests) {
            Counted::Requests => self.rates[0].refused(started, 1),
            Counted::Tokens => self.rates[1].refused(started, tokens),
        }
    }

    /// A call was refused for its tokens: the server has less than we think. When the wait it asks for
    /// is over it has just enough for this call, and we are to have `beyond` less than that; else all
    /// that piled up here meanwhile would be refused too. That is paid once, and takes nothing from
    /// the rate.
    fn drain(&mut self, now: Duration, wait: Duration, beyond: i64) {
        self.clock.set(now);
        let Some(limit) = &mut self.tokens else { return };
        let piled = f64::from(limit.per_minute.get()) * wait.as_secs_f64() / 60.0;
        let then = (f64::from(left(&limit.bucket)) + piled).min(f64::from(limit.burst)) as i64;
        limit.owed = limit.owed.max(then + beyond);
    }

    /// Until when nothing is left of a limit, by what the server said last.
    pub fn held_until(&self) -> Duration {
        self.held[0].max(self.held[1])
    }

    /// What changed since this was last asked.
    pub fn changes(&mut self) -> Vec<RateChange> {
        std::mem::take(&mut self.changes)
    }

    /// Lets the bucket follow its rate, and notes the change.
    fn retune(&mut self, now: Duration, counted: Counted, cause: RateCause) {
        let per_minute = self.rates[counted as usize].per_minute();
        if per_minute != self.kept[counted as usize] {
            if counted == Counted::Tokens && self.tokens.is_none() {
                self.tokens_since = now;
            }
            self.keep(counted);
            self.changes.push(RateChange {
                counted,
                per_minute,
                cause,
                model: None,
            });
        }
    }

    /// A bucket for what is known of the rate: governor cannot change one. It has as much left as
    /// the one before.
    fn keep(&mut self, counted: Counted) {
        let per_minute = self.rates[counted as usize].per_minute();
        self.kept[counted as usize] = per_minute;
        let Some(per_minute) = per_minute.and_then(NonZeroU32::new) else {
            match counted {
                Counted::Requests => self.requests = None,
                Counted::Tokens => self.tokens = None,
            }
            return;
        };
        match counted {
            Counted::Requests => {
                let burst = (per_minute.get() / 600).max(1);
                let left = self.requests.as_ref().map_or(burst, left);
                self.requests = Some(partly_full(per_minute, burst, left, self.clock.clone()));
            }
            Counted::Tokens => {
                let burst = u64::from(per_minute.get()) * BURST_MILLIS / 60_000;
                let burst = u32::try_from(burst).unwrap_or(u32::MAX).max(1);
                let before = self.tokens.as_ref();
                let left = before.map_or(burst, |before| left(&before.bucket));
                let owed = before.map_or(0, |before| before.owed);
                let bucket = partly_full(per_minute, burst, left, self.clock.clone());
                self.tokens = Some(Tokens {
                    per_minute,
                    bucket,
                    burst,
                    owed,
                });
            }
        }
    }

    /// The most tokens that one call can have. Only what is configured says so: a server that tells
    /// its limit may count other tokens than we set aside, and refuses what is too large by itself.
    pub fn most_tokens(&self) -> Option<u64> {
        self.rates[Counted::Tokens as usize].configured()
    }
}

impl Tokens {
    /// Lets go of the credit for which a bucket that gave back what was not used would have no
    /// room: a server's own bucket is no fuller than full either, however long nothing was used.
    fn forget(&mut self) {
        if self.owed >= 0 {
            return;
        }
        let left = self.left();
        let room = i64::from(self.burst - left.min(self.burst));
        self.owed = self.owed.max(-room);
    }

    /// Books the end of a call. What it did not use comes back only as far as there was room for it
    /// before the `newest` calls started: when the server booked it they may not have been there yet,
    /// and what its full bucket had no room for is lost.
    fn settle(&mut self, reserved: u64, used: u64, newest: u64) {
        // What there was no room for until now pays no debt.
        self.forget();
        let missing = used as i64 - reserved as i64;
        if missing >= 0 {
            self.owed += missing;
            return;
        }
        let level = i64::from(self.left()) - self.owed;
        let room = i64::from(self.burst) - level - newest as i64;
        self.owed -= (-missing).min(room.max(0));
    }

    /// How much is in the bucket. governor tells it only by taking one: that one is paid then.
    fn left(&mut self) -> u32 {
        match self.bucket.check() {
            Ok(snapshot) => {
                self.owed -= 1;
                snapshot.remaining_burst_capacity()
            }
            Err(_) => 0,
        }
    }

    /// Pays until the balance covers `tokens`, or all of the burst. Debts of earlier calls first, in
    /// parts as large as the burst; they start nothing. Then the reservation as one.
    fn pay(&mut self, now: Duration, tokens: u64) -> Result<(), Duration> {
        while self.owed > 0 {
            let part = u32::try_from(self.owed).unwrap_or(u32::MAX).min(self.burst);
            take(&self.bucket, part, now)?;
            self.owed -= i64::from(part);
        }
        self.forget();
        let missing = tokens.min(self.burst.into()) as i64 + self.owed;
        if missing > 0 {
            let missing = u32::try_from(missing).unwrap_or(u32::MAX);
            take(&self.bucket, missing, now)?;
            self.owed -= i64::from(missing);
        }
        Ok(())
    }
}

/// A bucket with so much in it.
fn partly_full(per_minute: NonZeroU32, burst: u32, left: u32, clock: HandedIn) -> Bucket {
    let bucket = bucket(per_minute, burst, clock);
    if let Some(used) = NonZeroU32::new(burst - left.min(burst)) {
        let taken = bucket.check_n(used);
        debug_assert!(matches!(taken, Ok(Ok(_))), "BUG: a new limiter is full");
    }
    bucket
}

/// How much is in a bucket that is about to be replaced: one is taken to see it.
fn left(bucket: &Bucket) -> u32 {
    match bucket.check() {
        Ok(snapshot) => snapshot.remaining_burst_capacity() + 1,
        Err(_) => 0,
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
mod tests;
