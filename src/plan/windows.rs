//! When a run would be over by the clock on the wall: it starts at a time, sleeps outside its
//! hours, and sends nothing more from a deadline on. What the time is now is handed in.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::hours::Hours;

/// More changes from open to closed than this are not followed: that is more than ten years.
const MOST_CHANGES: usize = 10_000;

/// The times within which a run may send.
#[derive(Clone, Debug)]
pub struct Windows {
    /// Now.
    pub now: Timestamp,
    /// When it starts, if not now.
    pub start: Option<Timestamp>,
    /// Nothing is sent from then on.
    pub until: Option<Timestamp>,
    /// Calls are sent only while these are open.
    pub hours: Option<Hours>,
    /// Where a clock on the wall shows them.
    pub zone: TimeZone,
}

/// How a run passes through its windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// When nothing more is sent.
    pub ends: Timestamp,
    /// How long it sleeps outside its hours.
    pub asleep: Duration,
    /// Where the deadline comes before the end: how long it worked until then.
    pub cut: Option<Duration>,
}

impl Windows {
    /// When it starts.
    pub fn starts(&self) -> Timestamp {
        self.start.unwrap_or(self.now)
    }

    /// Where no call can be sent, since its hours open only after the deadline: when they do.
    pub fn shut(&self) -> Option<Timestamp> {
        let (start, hours) = (self.starts(), self.hours.as_ref()?);
        if hours.are_open(start, &self.zone) {
            return None;
        }
        let opens = hours.next_change(start, &self.zone).unwrap_or(Timestamp::MAX);
        self.until
            .is_some_and(|until| start < until && until <= opens)
            .then_some(opens)
    }

    /// The course of a run that takes so long without windows.
    pub fn course(&self, work: Duration) -> Course {
        let mut at = self.starts();
        let (mut left, mut asleep) = (work, Duration::ZERO);
        let over = |at, left: Duration, asleep| Course {
            ends: at,
            asleep,
            cut: (!left.is_zero()).then(|| work.saturating_sub(left)),
        };
        for _ in 0..MOST_CHANGES {
            if left.is_zero() || self.until.is_some_and(|until| until <= at) {
                return over(at, left, asleep);
            }
            let hours = self.hours.as_ref();
            let change = hours.and_then(|hours| hours.next_change(at, &self.zone));
            if hours.is_some_and(|hours| !hours.are_open(at, &self.zone)) {
                let opens = change.unwrap_or(Timestamp::MAX);
                // A run does not sleep towards its deadline.
                if self.until.is_some_and(|until| until <= opens) {
                    return over(at, left, asleep);
                }
                asleep += between(at, opens);
                at = opens;
                continue;
            }
            let end = at.checked_add(left).unwrap_or(Timestamp::MAX);
            let stop = self.until.into_iter().chain(change).min();
            match stop.filter(|stop| *stop < end) {
                Some(stop) => {
                    left = left.saturating_sub(between(at, stop));
                    at = stop;
                }
                None => return over(end, Duration::ZERO, asleep),
            }
        }
        over(Timestamp::MAX, Duration::ZERO, asleep)
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(from.duration_until(to)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hours::Window;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn windows(start: Option<&str>, until: Option<&str>, hours: Option<&str>) -> Windows {
        let hours = hours.and_then(|text| Hours::new(vec![Window::parse(text).unwrap()]));
        Windows {
            now: at("2026-11-26T20:00:00Z"),
            start: start.map(at),
            until: until.map(at),
            hours,
            zone: TimeZone::UTC,
        }
    }

    fn hours(count: u64) -> Duration {
        Duration::from_secs(count * 3_600)
    }

    #[test]
    fn a_run_starts_sleeps_and_is_cut() {
        let (night, till) = (Some("23:00-07:00"), Some("2026-11-27T05:00:00Z"));
        let cases = [
            (
                "nothing set",
                (None, None, None),
                3,
                ("2026-11-26T23:00:00Z", 0, None),
            ),
            (
                "a start",
                (Some("2026-11-26T22:00:00Z"), None, None),
                3,
                ("2026-11-27T01:00:00Z", 0, None),
            ),
            (
                "hours that open later",
                (None, None, night),
                8,
                ("2026-11-27T07:00:00Z", 3, None),
            ),
            (
                "more than a night",
                (None, None, night),
                9,
                ("2026-11-28T00:00:00Z", 19, None),
            ),
            (
                "three nights",
                (None, None, night),
                17,
                ("2026-11-29T00:00:00Z", 35, None),
            ),
            (
                "in time",
                (None, till, None),
                9,
                ("2026-11-27T05:00:00Z", 0, None),
            ),
            (
                "cut",
                (None, till, None),
                10,
                ("2026-11-27T05:00:00Z", 0, Some(9)),
            ),
            (
                "cut in its hours",
                (None, till, night),
                8,
                ("2026-11-27T05:00:00Z", 3, Some(6)),
            ),
            (
                "the deadline lies outside the hours",
                (None, Some("2026-11-27T12:00:00Z"), night),
                10,
                ("2026-11-27T07:00:00Z", 3, Some(8)),
            ),
            (
                "never open before the deadline",
                (None, Some("2026-11-26T22:00:00Z"), night),
                1,
                ("2026-11-26T20:00:00Z", 0, Some(0)),
            ),
            (
                "nothing to do",
                (None, till, night),
                0,
                ("2026-11-26T20:00:00Z", 0, None),
            ),
        ];
        for (name, (start, until, open), work, (ends, asleep, cut)) in cases {
            let course = windows(start, until, open).course(hours(work));
            let expected = Course {
                ends: at(ends),
                asleep: hours(asleep),
                cut: cut.map(hours),
            };
            assert_eq!(course, expected, "{name}");
        }
    }

    #[test]
    fn a_deadline_before_the_hours_open_shuts_all_out() {
        let night = Some("23:00-07:00");
        let shut = |start, until, open| windows(start, until, open).shut();
        let opens = Some(at("2026-11-26T23:00:00Z"));
        assert_eq!(shut(None, Some("2026-11-26T22:00:00Z"), night), opens);
        assert_eq!(shut(None, Some("2026-11-26T23:00:00Z"), night), opens);
        assert_eq!(shut(None, Some("2026-11-26T23:01:00Z"), night), None);
        assert_eq!(
            shut(Some("2026-11-26T23:30:00Z"), Some("2026-11-26T23:40:00Z"), night),
            None
        );
        assert_eq!(shut(None, Some("2026-11-26T22:00:00Z"), None), None);
        assert_eq!(shut(None, None, night), None);
    }

    /// 2026-10-25 in Berlin has 25 hours: the night from 23:00 to 07:00 has nine.
    #[test]
    fn a_night_is_as_long_as_its_clock_says() {
        let night = Windows {
            now: at("2026-10-24T21:00:00Z"),
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            ..windows(None, None, Some("23:00-07:00"))
        };
        assert_eq!(night.course(hours(9)).asleep, Duration::ZERO);
        assert_eq!(night.course(hours(10)).asleep, hours(16));
    }

    #[test]
    fn what_takes_for_ever_ends_at_the_end_of_time() {
        let night = windows(None, None, Some("23:00-07:00"));
        assert_eq!(night.course(Duration::MAX).ends, Timestamp::MAX);
        assert_eq!(
            windows(None, None, None).course(Duration::MAX).ends,
            Timestamp::MAX
        );
    }
}
