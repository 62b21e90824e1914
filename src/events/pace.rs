//! How fast a run goes: the calls that it started in the last minute, and how long the rest will
//! take. Memory is the same however long the run is.

use std::time::Duration;

/// The window of "calls per minute", in seconds.
const WINDOW: usize = 60;

/// How fast what happened loses weight in the estimate, in seconds: after twice this time little
/// of it is left. Long enough to hold a few answers of a slow model, short enough to follow a rate
/// that changed.
const FADE: f64 = 300.0;

/// No estimate before this time after the first call.
const EVIDENCE: Duration = Duration::from_secs(3);

/// Counts starts of calls and ends of nodes as they happen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pace {
    /// Calls started in each of the last 60 seconds; second `s` of the run is at `s % 60`.
    started: [u32; WINDOW],
    /// The newest second in `started`.
    second: u64,
    first_call: Option<Duration>,
    /// Time spent in outages that are over: no work could end then, so it does not count.
    waited: Duration,
    waiting_since: Option<Duration>,
    /// Ends of nodes since the first call, each weighing less the longer ago it was.
    ended: f64,
    /// The working time of the last change of `ended`.
    ended_at: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            started: [0; WINDOW],
            second: 0,
            first_call: None,
            waited: Duration::ZERO,
            waiting_since: None,
            ended: 0.0,
            ended_at: Duration::ZERO,
        }
    }
}

impl Pace {
    /// A call was started.
    pub fn call_started(&mut self, at: Duration) {
        self.first_call.get_or_insert(at);
        let second = at.as_secs().max(self.second);
        for passed in (self.second + 1..=second).take(WINDOW) {
            self.started[passed as usize % WINDOW] = 0;
        }
        self.second = second;
        self.started[second as usize % WINDOW] += 1;
    }

    /// A node ended. What was served before the first call says nothing about the work ahead.
    pub fn node_ended(&mut self, at: Duration) {
        if self.first_call.is_some() {
            let worked = self.worked(at);
            self.ended = self.faded(worked) + 1.0;
            self.ended_at = worked;
        }
    }

    /// An outage began.
    pub fn outage_began(&mut self, at: Duration) {
        self.waiting_since.get_or_insert(at);
    }

    /// An outage ended.
    pub fn outage_ended(&mut self, at: Duration) {
        if let Some(since) = self.waiting_since.take() {
            self.waited += at.saturating_sub(since);
        }
    }

    /// Returns how many calls were started in the 60 seconds before `now`.
    pub fn calls_in_last_minute(&self, now: Duration) -> u64 {
        let now = now.as_secs().max(self.second);
        let oldest = now.saturating_sub(WINDOW as u64 - 1);
        (oldest..=self.second)
            .map(|second| u64::from(self.started[second as usize % WINDOW]))
            .sum()
    }

    /// Estimates how long `pending` nodes will take at the pace of the last minutes; `None`
    /// without evidence.
    pub fn time_left(&self, now: Duration, pending: u64) -> Option<Duration> {
        let worked = self.worked(now);
        if worked < EVIDENCE || self.waiting_since.is_some() {
            return None;
        }
        // The weight that one end a second since the first call would have by now.
        let time = FADE * (1.0 - (-worked.as_secs_f64() / FADE).exp());
        let seconds = pending as f64 * time / self.faded(worked);
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Time since the first call, without outages.
    fn worked(&self, now: Duration) -> Duration {
        let Some(first) = self.first_call else {
            return Duration::ZERO;
        };
        let until = self.waiting_since.map_or(now, |since| since.min(now));
        until.saturating_sub(first).saturating_sub(self.waited)
    }

    fn faded(&self, worked: Duration) -> f64 {
        let passed = worked.saturating_sub(self.ended_at).as_secs_f64();
        self.ended * (-passed / FADE).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn calls_leave_the_window_after_a_minute() {
        let mut pace = Pace::default();
        for second in 0..100 {
            pace.call_started(at(second));
            pace.call_started(at(second));
        }
        for (now, expected) in [(99, 120), (100, 118), (129, 60), (158, 2), (159, 0), (9999, 0)] {
            assert_eq!(pace.calls_in_last_minute(at(now)), expected, "at {now} s");
        }
    }

    #[test]
    fn a_gap_clears_the_seconds_it_passes() {
        let mut pace = Pace::default();
        pace.call_started(at(5));
        pace.call_started(at(65));
        assert_eq!(pace.calls_in_last_minute(at(65)), 1);
        pace.call_started(at(10_000));
        assert_eq!(pace.calls_in_last_minute(at(10_000)), 1);
    }

    #[test]
    fn no_estimate_without_evidence() {
        let mut pace = Pace::default();
        pace.node_ended(at(1)); // served from the store
        assert_eq!(pace.time_left(at(100), 10), None, "no call yet");
        pace.call_started(at(100));
        assert_eq!(pace.time_left(at(101), 10), None, "too early");
        assert_eq!(pace.time_left(at(110), 10), None, "nothing has ended");
    }

    #[test]
    fn a_steady_pace_is_carried_on() {
        let mut pace = Pace::default();
        pace.call_started(at(0));
        for second in 1..=1000 {
            pace.node_ended(at(second));
        }
        let left = pace.time_left(at(1000), 600).unwrap().as_secs();
        assert!(
            (590..=610).contains(&left),
            "{left} s for 600 nodes at one a second"
        );
    }

    #[test]
    fn time_in_an_outage_is_not_working_time() {
        let mut pace = Pace::default();
        pace.call_started(at(0));
        for second in 1..=100 {
            pace.node_ended(at(second));
        }
        let before = pace.time_left(at(100), 60).unwrap();
        pace.outage_began(at(100));
        assert_eq!(pace.time_left(at(2000), 60), None);
        pace.outage_ended(at(4000));
        assert_eq!(pace.time_left(at(4000), 60), Some(before));
    }
}
