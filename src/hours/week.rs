//! Windows of the day on some days of the week: `mon-fri 01:00-04:00`. What the time is now is
//! handed in.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

use super::Window;

/// As they are written, from Monday on.
const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

const MINUTES_OF_A_DAY: usize = 24 * 60;

/// Days of the week; never none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days([bool; 7]);

/// Windows of the day on some days of the week. A window belongs to the day on which it begins:
/// that of Friday night goes into Saturday.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weekly {
    days: Days,
    /// All day where there are none.
    windows: Vec<Window>,
}

impl Days {
    /// All seven.
    pub const ALL: Days = Days([true; 7]);

    /// Reads `mon`, or `mon-fri`; `sat-mon` goes over the end of the week.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let ends = number(first).zip(number(last));
        let (first, last) =
            ends.ok_or_else(|| "days like `mon-fri` or `sat`, by their first three letters".to_owned())?;
        let length = (last + 7 - first) % 7;
        let mut days = [false; 7];
        (first..=first + length).for_each(|day| days[day % 7] = true);
        Ok(Self(days))
    }

    /// These and those.
    pub fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|day| self.0[day] || other.0[day]))
    }

    fn has(&self, day: Weekday) -> bool {
        self.0[index(day)]
    }
}

fn number(text: &str) -> Option<usize> {
    let text = text.trim().to_ascii_lowercase();
    NAMES.iter().position(|name| *name == text)
}

fn index(day: Weekday) -> usize {
    usize::from(day.to_monday_zero_offset().unsigned_abs())
}

impl fmt::Display for Days {
    /// Runs of days as they are written: `mon-fri`, `mon, wed-thu`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // From the day after one that is not among them, so that a run over the end of the week
        // stays one.
        let gap = (0..7).rev().find(|&day| !self.0[day]);
        let week = (0..7).map(|day| match self.0[0] && self.0[6] {
            true => (day + gap.map_or(0, |gap| gap + 1)) % 7,
            false => day,
        });
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for day in week.filter(|&day| self.0[day]) {
            match runs.last_mut() {
                Some((_, last)) if (*last + 1) % 7 == day => *last = day,
                _ => runs.push((day, day)),
            }
        }
        let run = |(first, last): &(usize, usize)| match first == last {
            true => NAMES[*first].to_owned(),
            false => format!("{}-{}", NAMES[*first], NAMES[*last]),
        };
        f.write_str(&runs.iter().map(run).collect::<Vec<_>>().join(", "))
    }
}

impl Weekly {
    /// These windows on these days; all day if there are none.
    pub fn new(days: Days, windows: Vec<Window>) -> Self {
        Self { days, windows }
    }

    /// True if one of them is open.
    pub fn is_open(&self, at: Timestamp, zone: &TimeZone) -> bool {
        let local = zone.to_datetime(at);
        let (day, time) = (local.weekday(), local.time());
        if self.windows.is_empty() {
            return self.days.has(day);
        }
        self.windows.iter().any(|window| {
            let (from, to) = window.ends();
            let began = if from > to && time < to {
                day.previous()
            } else {
                day
            };
            window.contains(time) && self.days.has(began)
        })
    }

    /// The moments after `from` and up to `to` at which they may open or close; in no order.
    pub fn edges(&self, from: Timestamp, to: Timestamp, zone: &TimeZone) -> Vec<Timestamp> {
        let mut times = vec![Time::midnight()];
        for window in &self.windows {
            let (from, to) = window.ends();
            times.extend([from, to]);
        }
        let mut edges = Vec::new();
        // A day more on both sides: a clock that is set over midnight shows a time on two of them.
        let first = zone.to_datetime(from).date();
        let first = first.yesterday().unwrap_or(first);
        let last = zone.to_datetime(to).date();
        let last = last.tomorrow().unwrap_or(last);
        let mut day = first;
        loop {
            for time in &times {
                let shown = zone.to_ambiguous_timestamp(day.to_datetime(*time));
                edges.extend(
                    [shown.compatible().ok(), shown.later().ok()]
                        .into_iter()
                        .flatten(),
                );
            }
            day = match day.tomorrow() {
                Ok(next) if next <= last => next,
                _ => break,
            };
        }
        // A clock that is set forward or back can jump into a window or out of it.
        let jumps = zone.following(from).map(|jump| jump.timestamp());
        edges.extend(jumps.take_while(|jump| *jump <= to));
        edges.retain(|edge| *edge > from && *edge <= to);
        edges
    }

    /// A time of the week at which both are open, if there is one: `tue 02:00`.
    pub fn overlap(&self, other: &Self) -> Option<String> {
        let (ours, theirs) = (self.minutes(), other.minutes());
        let both = (0..ours.len()).find(|&minute| ours[minute] && theirs[minute])?;
        let (day, minute) = (both / MINUTES_OF_A_DAY, both % MINUTES_OF_A_DAY);
        Some(format!("{} {:02}:{:02}", NAMES[day], minute / 60, minute % 60))
    }

    /// Which minutes of a week they are open, from Monday on.
    fn minutes(&self) -> Vec<bool> {
        let mut open = vec![false; 7 * MINUTES_OF_A_DAY];
        let of =
            |time: Time| time.hour().unsigned_abs() as usize * 60 + time.minute().unsigned_abs() as usize;
        for day in (0..7).filter(|&day| self.days.0[day]) {
            let stretches = self.windows.iter().map(|window| {
                let (from, to) = (of(window.ends().0), of(window.ends().1));
                (from, if from < to { to } else { to + MINUTES_OF_A_DAY })
            });
            let all_day = self.windows.is_empty().then_some((0, MINUTES_OF_A_DAY));
            for (from, to) in stretches.chain(all_day) {
                let week = open.len();
                (from..to).for_each(|minute| open[(day * MINUTES_OF_A_DAY + minute) % week] = true);
            }
        }
        open
    }
}

impl fmt::Display for Weekly {
    /// As it is written: `mon-fri 01:00-04:00, 06:00-10:00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let windows: Vec<String> = self.windows.iter().map(Window::to_string).collect();
        match (self.days == Days::ALL, windows.is_empty()) {
            (true, true) => f.write_str("all hours"),
            (true, false) => f.write_str(&windows.join(", ")),
            (false, true) => self.days.fmt(f),
            (false, false) => write!(f, "{} {}", self.days, windows.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weekly(days: &str, windows: &[&str]) -> Weekly {
        let windows = windows.iter().map(|text| Window::parse(text).unwrap());
        Weekly::new(Days::parse(days).unwrap(), windows.collect())
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn days_are_read_and_written() {
        let rows = [
            ("mon", "mon"),
            ("Mon-Fri", "mon-fri"),
            ("sat - mon", "sat-mon"),
            ("sun-thu", "sun-thu"),
            ("sat-sun", "sat-sun"),
            ("sun-sun", "sun"),
            ("mon-sun", "mon-sun"),
        ];
        for (text, written) in rows {
            assert_eq!(Days::parse(text).unwrap().to_string(), written, "{text}");
        }
        let both = Days::parse("mon").unwrap().and(Days::parse("wed-thu").unwrap());
        assert_eq!(both.to_string(), "mon, wed-thu");
        for text in ["", "monday", "mo-fr", "mon-", "mon-fri-sat", "1-5"] {
            assert!(Days::parse(text).is_err(), "{text}");
        }
    }

    /// 2026-11-27 is a Friday.
    #[test]
    fn a_window_belongs_to_the_day_on_which_it_begins() {
        let friday = weekly("fri", &["22:00-06:00"]);
        let rows = [
            ("2026-11-27T05:59:59Z", false),
            ("2026-11-27T21:59:59Z", false),
            ("2026-11-27T22:00:00Z", true),
            ("2026-11-28T05:59:59Z", true),
            ("2026-11-28T06:00:00Z", false),
            ("2026-11-28T22:00:00Z", false),
        ];
        for (moment, open) in rows {
            assert_eq!(friday.is_open(at(moment), &TimeZone::UTC), open, "{moment}");
        }
        let weekend = weekly("sat-sun", &[]);
        for (moment, open) in [
            ("2026-11-27T23:59:59Z", false),
            ("2026-11-28T00:00:00Z", true),
            ("2026-11-29T23:59:59Z", true),
            ("2026-11-30T00:00:00Z", false),
        ] {
            assert_eq!(weekend.is_open(at(moment), &TimeZone::UTC), open, "{moment}");
        }
    }

    #[test]
    fn an_overlap_is_named_by_its_first_minute() {
        let rows = [
            (
                weekly("mon-fri", &["01:00-04:00"]),
                weekly("mon-fri", &["04:00-06:00"]),
                None,
            ),
            (
                weekly("mon-fri", &["01:00-04:00"]),
                weekly("tue", &["03:59-06:00"]),
                Some("tue 03:59"),
            ),
            (
                weekly("mon-fri", &["01:00-04:00"]),
                weekly("sat-sun", &["01:00-04:00"]),
                None,
            ),
            (
                weekly("sun", &["22:00-02:00"]),
                weekly("mon", &["01:00-03:00"]),
                Some("mon 01:00"),
            ),
            (
                weekly("sat-sun", &[]),
                weekly("fri", &["22:00-06:00"]),
                Some("sat 00:00"),
            ),
        ];
        for (one, other, overlap) in rows {
            assert_eq!(one.overlap(&other).as_deref(), overlap, "{one} and {other}");
            assert_eq!(other.overlap(&one).as_deref(), overlap, "{other} and {one}");
        }
    }

    proptest! {
        /// Nothing is missed: minute by minute, the state only changes at one of the edges.
        #[test]
        fn no_change_is_missed(
            windows in proptest::collection::vec((0u32..288, 0u32..288), 0..3),
            days in (0usize..7, 0usize..7),
            start in 0i64..525_600,
        ) {
            let clock = |n: u32| format!("{:02}:{:02}", n / 12, n % 12 * 5);
            let windows = windows
                .iter()
                .filter_map(|&(from, to)| Window::parse(&format!("{}-{}", clock(from), clock(to))).ok());
            let days = Days::parse(&format!("{}-{}", NAMES[days.0], NAMES[days.1])).unwrap();
            let weekly = Weekly::new(days, windows.collect());
            let zone = TimeZone::get("Europe/Berlin").unwrap();
            let start = at("2026-01-01T00:00:00Z").as_second() / 60 + start;
            let moment = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
            let end = start + 4_000;
            let edges = weekly.edges(moment(start), moment(end), &zone);
            for minute in start + 1..=end {
                let changed = weekly.is_open(moment(minute), &zone) != weekly.is_open(moment(minute - 1), &zone);
                prop_assert!(!changed || edges.contains(&moment(minute)), "{}", moment(minute));
            }
        }
    }
}
