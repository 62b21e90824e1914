//! Times of day in a time zone: windows such as `23:00-07:00`, and the next time that a clock on the
//! wall shows a given time. What the time is now is handed in.
//!
//! A window is open while the clock on the wall shows a time in it, so that a change to summer time
//! makes it shorter and a change back longer.

mod week;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

pub use week::{Days, Weekly};

/// How a time of day is written.
const CLOCK: &str = "%H:%M";
/// The longest duration that may be written for a time: more is a mistake.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Windows of the day; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours(Vec<Window>);

/// From the first time until just before the second, over midnight if that is earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    from: Time,
    to: Time,
}

/// A moment in milliseconds of Unix time, as records and the wall clock have it.
pub fn timestamp(unix_ms: u64) -> Timestamp {
    let at = i64::try_from(unix_ms).ok();
    at.and_then(|at| Timestamp::from_millisecond(at).ok())
        .unwrap_or(Timestamp::MAX)
}

/// A time to come, as a person names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The next time that the clock shows this.
    Clock(Time),
    /// After this time has passed.
    In(Duration),
}

/// A moment as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// With its offset: `2026-11-26T23:00:00+01:00`.
    pub rfc3339: String,
    /// As a clock shows it, `23:00`; with the date if it is more than a day away.
    pub clock: String,
}

/// Says why nothing more is sent: the time set by `--until` has come, or the hours open only after it.
pub fn time_over(until: &Moment, opens: Option<&Moment>) -> String {
    let until = &until.clock;
    match opens {
        None => format!("the time set by `--until` has come ({until})"),
        Some(opens) => format!(
            "`limits.hours` open at {}, after the time set by `--until` ({until})",
            opens.clock
        ),
    }
}

impl Window {
    /// Reads `23:00-07:00`. `24:00` is the end of a day.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split_once('-').map(|(from, to)| (from.trim(), to.trim()));
        let times = parts.and_then(|(from, to)| {
            let to = if to == "24:00" { "00:00" } else { to };
            Some((clock(from)?, clock(to)?))
        });
        match times {
            None => Err("hours like `23:00-07:00`".to_owned()),
            // `00:00-24:00` too: no hours at all say the same.
            Some((from, to)) if from == to => {
                Err("hours that begin and end at different times (leave them out for all day)".to_owned())
            }
            Some((from, to)) => Ok(Self { from, to }),
        }
    }

    /// When it begins and when it ends: earlier in the day where it goes over midnight.
    pub fn ends(&self) -> (Time, Time) {
        (self.from, self.to)
    }

    /// True if the clock shows a time in it.
    pub fn contains(&self, time: Time) -> bool {
        match self.from < self.to {
            true => self.from <= time && time < self.to,
            false => self.from <= time || time < self.to,
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.from.strftime(CLOCK);
        match self.to == Time::midnight() {
            true => write!(f, "{from}-24:00"),
            false => write!(f, "{from}-{}", self.to.strftime(CLOCK)),
        }
    }
}

impl Hours {
    /// These windows; `None` if there are none.
    pub fn new(windows: Vec<Window>) -> Option<Self> {
        (!windows.is_empty()).then_some(Self(windows))
    }

    /// True if one of the windows is open.
    pub fn are_open(&self, at: Timestamp, zone: &TimeZone) -> bool {
        let time = zone.to_datetime(at).time();
        self.0.iter().any(|window| window.contains(time))
    }

    /// The stretches of time from `from` on in which they are open, `length` of them altogether.
    pub fn stretches(
        &self,
        from: Timestamp,
        length: Duration,
        zone: &TimeZone,
    ) -> Vec<(Timestamp, Timestamp)> {
        let (mut at, mut left) = (from, length);
        let mut stretches = Vec::new();
        while !left.is_zero() {
            let change = self.next_change(at, zone).unwrap_or(Timestamp::MAX);
            if self.are_open(at, zone) {
                let end = at.checked_add(left).unwrap_or(Timestamp::MAX).min(change);
                stretches.push((at, end));
                left = left.saturating_sub(Duration::try_from(at.duration_until(end)).unwrap_or(left));
            }
            if change == Timestamp::MAX {
                break;
            }
            at = change;
        }
        stretches
    }

    /// The next moment after `at` at which they open, or close if they are open; `None` if that
    /// never happens.
    pub fn next_change(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let open = self.are_open(at, zone);
        let ends = self.0.iter().flat_map(|window| [window.from, window.to]);
        let shown = ends.flat_map(|time| times_shown(time, at, zone));
        // A clock that is set forward or back can jump into a window or out of it.
        let jumps = zone.following(at).take(2).map(|jump| jump.timestamp());
        shown
            .chain(jumps)
            .filter(|&moment| moment > at && self.are_open(moment, zone) != open)
            .min()
    }
}

impl When {
    /// Reads `07:00` or `8h`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(time) = clock(text) {
            return Ok(Self::Clock(time));
        }
        // jiff would read `07:00:00` as seven hours.
        let duration = Some(text).filter(|text| !text.contains(':'));
        let duration = duration.and_then(|text| text.parse::<jiff::SignedDuration>().ok());
        let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
        match duration.filter(|duration| !duration.is_zero() && *duration <= LONGEST) {
            Some(duration) => Ok(Self::In(duration)),
            None => Err("expected a time like 07:00 or a duration like 8h or 1h 30m".to_owned()),
        }
    }

    /// The moment that is meant, seen from `now`. A time that the clock jumps over is taken to be
    /// as long after the jump; of one that it shows twice, the first that is still to come.
    pub fn after(self, now: Timestamp, zone: &TimeZone) -> Timestamp {
        match self {
            When::Clock(time) => {
                let shown = times_shown(time, now, zone).into_iter();
                shown.filter(|&moment| moment > now).min().unwrap_or(now)
            }
            When::In(duration) => now.checked_add(duration).unwrap_or(Timestamp::MAX),
        }
    }
}

impl Moment {
    /// A moment as it is told at `now`.
    pub fn of(at: Timestamp, now: Timestamp, zone: &TimeZone) -> Self {
        let local = at.to_zoned_datetime(zone.clone());
        let far = now.duration_until(at) > jiff::SignedDuration::from_hours(24);
        // What is over in a moment is told to the second.
        let away = now.duration_until(at);
        let soon = !far && away < jiff::SignedDuration::from_mins(2) && local.second() != 0;
        let clock = match (far, soon) {
            (true, _) => "%Y-%m-%d %H:%M",
            (_, true) => "%H:%M:%S",
            _ => CLOCK,
        };
        Self {
            rfc3339: local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            clock: local.strftime(clock).to_string(),
        }
    }
}

/// The moments around `at` at which the clock shows a time, on four days.
fn times_shown(time: Time, at: Timestamp, zone: &TimeZone) -> Vec<Timestamp> {
    let today = zone.to_datetime(at).date();
    let days = [
        today.yesterday().ok(),
        Some(today),
        today.tomorrow().ok(),
        today.tomorrow().and_then(|day| day.tomorrow()).ok(),
    ];
    let shown = days.into_iter().flatten().flat_map(|day| {
        let moment = zone.to_ambiguous_timestamp(day.to_datetime(time));
        [moment.compatible().ok(), moment.later().ok()]
    });
    shown.flatten().collect()
}

/// `7:00` or `07:00`.
fn clock(text: &str) -> Option<Time> {
    let (hour, minute) = text.trim().split_once(':')?;
    let digits = |text: &str| text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hour) || minute.len() != 2 || !digits(minute) {
        return None;
    }
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn hours(windows: &[&str]) -> Hours {
        let parsed = windows.iter().map(|text| Window::parse(text).unwrap());
        Hours::new(parsed.collect()).unwrap()
    }

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    /// The next changes from a moment on, as local times.
    fn changes(windows: &[&str], from: &str, zone: &TimeZone, count: usize) -> Vec<String> {
        let hours = hours(windows);
        let mut moment = at(from);
        let next = || {
            moment = hours.next_change(moment, zone)?;
            let open = hours.are_open(moment, zone);
            let local = moment.to_zoned_datetime(zone.clone());
            Some(format!("{} {open}", local.strftime("%d. %H:%M%:z")))
        };
        std::iter::from_fn(next).take(count).collect()
    }

    #[test]
    fn a_window_over_midnight_opens_and_closes() {
        let seen = changes(&["23:00-07:00"], "2026-11-26T12:00:00Z", &berlin(), 3);
        assert_eq!(
            seen,
            [
                "26. 23:00+01:00 true",
                "27. 07:00+01:00 false",
                "27. 23:00+01:00 true"
            ]
        );
    }

    #[test]
    fn several_windows_and_two_that_touch() {
        let seen = changes(
            &["20:00-24:00", "0:00-06:00", "12:00-13:00"],
            "2026-11-26T03:00:00Z",
            &TimeZone::UTC,
            4,
        );
        assert_eq!(
            seen,
            [
                "26. 06:00+00:00 false",
                "26. 12:00+00:00 true",
                "26. 13:00+00:00 false",
                "26. 20:00+00:00 true"
            ]
        );
        let always = hours(&["00:00-12:00", "12:00-24:00"]);
        assert_eq!(
            always.next_change(at("2026-11-26T03:00:00Z"), &TimeZone::UTC),
            None
        );
    }

    /// 2026-03-29 in Berlin: 02:00 is followed by 03:00.
    #[test]
    fn a_clock_that_is_set_forward_jumps_into_a_window() {
        let seen = changes(&["02:30-05:00"], "2026-03-28T12:00:00Z", &berlin(), 2);
        assert_eq!(seen, ["29. 03:00+02:00 true", "29. 05:00+02:00 false"]);
        let seen = changes(&["01:00-02:30"], "2026-03-28T12:00:00Z", &berlin(), 2);
        assert_eq!(
            seen,
            ["29. 01:00+01:00 true", "29. 03:00+02:00 false"],
            "and out of one"
        );
    }

    /// 2026-10-25 in Berlin: 03:00 is followed by 02:00.
    #[test]
    fn a_clock_that_is_set_back_shows_a_window_twice() {
        let seen = changes(&["01:30-02:30"], "2026-10-24T12:00:00Z", &berlin(), 4);
        assert_eq!(
            seen,
            [
                "25. 01:30+02:00 true",
                "25. 02:30+02:00 false",
                "25. 02:00+01:00 true",
                "25. 02:30+01:00 false"
            ]
        );
        let seen = changes(&["23:00-07:00"], "2026-10-24T12:00:00Z", &berlin(), 2);
        assert_eq!(
            seen,
            ["24. 23:00+02:00 true", "25. 07:00+01:00 false"],
            "nine hours"
        );
    }

    #[test]
    fn stretches_are_as_long_as_asked_and_lie_inside() {
        let stretches = |windows: &[&str], from: &str, length: u64| -> Vec<String> {
            let length = Duration::from_secs(length * 3600);
            let all = hours(windows).stretches(at(from), length, &TimeZone::UTC);
            let clock = |at: &Timestamp| at.strftime("%d. %H:%M").to_string();
            all.iter()
                .map(|(from, to)| clock(from) + " to " + &clock(to))
                .collect()
        };
        assert_eq!(
            stretches(&["23:00-07:00"], "2026-11-26T05:00:00Z", 11),
            [
                "26. 05:00 to 26. 07:00",
                "26. 23:00 to 27. 07:00",
                "27. 23:00 to 28. 00:00"
            ]
        );
        assert_eq!(
            stretches(&["23:00-07:00"], "2026-11-26T12:00:00Z", 1),
            ["26. 23:00 to 27. 00:00"]
        );
        assert_eq!(
            stretches(&["00:00-12:00", "12:00-24:00"], "2026-11-26T05:00:00Z", 48),
            ["26. 05:00 to 28. 05:00"]
        );
    }

    #[test]
    fn the_next_time_that_a_clock_shows() {
        let next = |text: &str, now: &str| {
            let moment = When::parse(text).unwrap().after(at(now), &berlin());
            moment
                .to_zoned_datetime(berlin())
                .strftime("%d. %H:%M%:z")
                .to_string()
        };
        assert_eq!(next("07:00", "2026-11-26T12:00:00Z"), "27. 07:00+01:00");
        assert_eq!(next("7:00", "2026-11-26T05:59:59Z"), "26. 07:00+01:00");
        assert_eq!(
            next("07:00", "2026-11-26T06:00:00Z"),
            "27. 07:00+01:00",
            "not now"
        );
        assert_eq!(next("8h", "2026-11-26T12:00:00Z"), "26. 21:00+01:00");
        assert_eq!(
            next("02:30", "2026-03-28T12:00:00Z"),
            "29. 03:30+02:00",
            "it is jumped over"
        );
        assert_eq!(
            next("02:30", "2026-10-24T12:00:00Z"),
            "25. 02:30+02:00",
            "the first of two"
        );
        assert_eq!(
            next("02:30", "2026-10-25T00:45:00Z"),
            "25. 02:30+01:00",
            "the second of two"
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "", "25:00", "7", "07:60", "7:5", "-8h", "0s", "900h", "now", "07:00:00", "+7:00",
        ] {
            assert!(When::parse(text).is_err(), "{text}");
        }
        for text in [
            "",
            "23:00",
            "23:00-23:00",
            "23-7",
            "24:00-07:00",
            "23:00-07:00-08:00",
        ] {
            assert!(Window::parse(text).is_err(), "{text}");
        }
        assert_eq!(Window::parse(" 9:00 - 17:30").unwrap().to_string(), "09:00-17:30");
        assert_eq!(Window::parse("20:00-0:00").unwrap().to_string(), "20:00-24:00");
    }

    proptest! {
        /// Nothing is missed: minute by minute, the state only changes where it was foretold.
        #[test]
        fn no_change_is_missed(
            windows in proptest::collection::vec((0u32..288, 0u32..288), 1..4),
            start in 0i64..525_600,
        ) {
            let clock = |n: u32| format!("{:02}:{:02}", n / 12, n % 12 * 5);
            let windows: Vec<Window> = windows
                .iter()
                .filter_map(|&(from, to)| Window::parse(&format!("{}-{}", clock(from), clock(to))).ok())
                .collect();
            let Some(hours) = Hours::new(windows) else { return Ok(()) };
            let zone = berlin();
            let start = at("2026-01-01T00:00:00Z").as_second() / 60 + start;
            let moment = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
            let foretold = hours.next_change(moment(start), &zone);
            let open = hours.are_open(moment(start), &zone);
            let seen = (start + 1..start + 3_000).map(moment).find(|at| hours.are_open(*at, &zone) != open);
            prop_assert_eq!(foretold, seen);
        }
    }
}
