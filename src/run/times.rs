//! When a run may send: inside its hours and before its deadline. The wall clock decides, and is
//! handed in; it is looked at again at least every half minute, because a machine that slept or
//! whose clock was set has timers that know nothing of it.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::hours::{Hours, Moment, timestamp};

/// The longest time between two looks at the wall clock.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The times of one run.
#[derive(Clone, Debug)]
pub struct Times {
    /// Nothing is sent from then on.
    pub until: Option<Timestamp>,
    /// Calls are sent only while these are open.
    pub hours: Option<Hours>,
    /// Where a clock on the wall shows them.
    pub zone: TimeZone,
}

/// What the wall clock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Now {
    /// Calls may be sent.
    Open,
    /// Not before this time, which may be after the deadline.
    Closed(Timestamp),
    /// The deadline has passed.
    Over(Timestamp),
}

impl Default for Times {
    /// Any time is right.
    fn default() -> Self {
        Self {
            until: None,
            hours: None,
            zone: TimeZone::UTC,
        }
    }
}

impl Times {
    /// Says what may be done at this time, in milliseconds of Unix time.
    pub(super) fn look(&self, unix_ms: u64) -> Now {
        let at = timestamp(unix_ms);
        if let Some(until) = self.until.filter(|until| *until <= at) {
            return Now::Over(until);
        }
        let Some(hours) = self
            .hours
            .as_ref()
            .filter(|hours| !hours.are_open(at, &self.zone))
        else {
            return Now::Open;
        };
        Now::Closed(hours.next_change(at, &self.zone).unwrap_or(Timestamp::MAX))
    }

    /// How long until it is worth looking again; `None`: never.
    pub(super) fn look_again(&self, unix_ms: u64) -> Option<Duration> {
        Some(self.next_change(unix_ms)?.min(LOOK_EVERY))
    }

    /// How long until the hours open or close or the deadline comes; `None`: none of them does.
    pub(super) fn next_change(&self, unix_ms: u64) -> Option<Duration> {
        let at = timestamp(unix_ms);
        let hours = self.hours.as_ref();
        let change = hours.and_then(|hours| hours.next_change(at, &self.zone));
        let until = self.until.filter(|until| *until > at);
        let next = until.into_iter().chain(change).min()?;
        Some(wait(at, next))
    }

    /// The deadline as it is told at the start.
    pub(super) fn told_until(&self) -> Option<Moment> {
        self.until.map(|until| Moment::of(until, until, &self.zone))
    }

    /// A moment as it is told at this time, and how far away it is.
    pub(super) fn tell(&self, moment: Timestamp, unix_ms: u64) -> (Moment, Duration) {
        let at = timestamp(unix_ms);
        (Moment::of(moment, at, &self.zone), wait(at, moment))
    }
}

fn wait(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(from.duration_until(to)).unwrap_or_default()
}
