//! How long it takes and when it ends, in words: within the times that are set, and by the clock
//! that was handed in.

use std::time::Duration;

use jiff::Timestamp;

use crate::cli::plan::time::Timing;
use crate::plan::Binding;
use crate::report::figures::{count, duration as words, number};

/// The lines of the plan about time, with what each is about.
pub fn lines(time: &Timing) -> Vec<(&'static str, String)> {
    let mut lines = vec![("time", takes(time))];
    let windows = &time.windows;
    if let Some(start) = windows.start {
        lines.push((
            "starts",
            format!("at {} (`--start-at`)", clock(time, start, false)),
        ));
    }
    if let (Some(opens), Some(until)) = (windows.shut(), windows.until) {
        let told = |at| clock(time, at, false);
        let none = match time.calls {
            1 => "the call would not".to_owned(),
            calls => format!("none of {} would", count(calls, "call")),
        };
        let shut = format!(
            "{} (`--until`) comes before `limits.hours` open, at {}: {none} be sent",
            told(until),
            told(opens)
        );
        lines.push(("until", shut));
        return lines;
    }
    lines.push(("ends", ends(time)));
    if !time.latest.asleep.is_zero() {
        lines.push(("sleeps", sleeps(time)));
    }
    if let Some(until) = windows.until {
        lines.push(("until", deadline(time, until)));
    }
    lines
}

fn takes(time: &Timing) -> String {
    let bound = match time.binding {
        Binding::Requests => "bound by requests per minute",
        Binding::Tokens => "bound by tokens per minute",
        Binding::Concurrency => "bound by calls in flight",
        Binding::Needs => "bound by calls that wait for others",
    };
    let range = match (words(time.low), words(time.high)) {
        (low, high) if low == high => String::new(),
        (low, high) => format!("; {low} to {high}"),
    };
    format!("about {}{range}, {bound}", words(time.likely))
}

fn ends(time: &Timing) -> String {
    let told = |end: Timestamp| soon(time, end);
    let (likely, latest) = (told(time.course.ends), told(time.latest.ends));
    let latest = match likely == latest {
        true => String::new(),
        false => format!(", {latest} at the latest"),
    };
    let start = match time.windows.start {
        Some(_) => "",
        None => ", if it started now",
    };
    format!("at {likely}{latest}{start}")
}

fn sleeps(time: &Timing) -> String {
    let [likely, most] = [&time.course, &time.latest].map(|course| course.asleep);
    let told = match (words(likely), words(most)) {
        (likely, most) if likely == most => likely,
        (_, most) if likely.is_zero() => format!("up to {most}"),
        (likely, most) => format!("{likely}, up to {most},"),
    };
    format!("{told} outside `limits.hours`")
}

/// What the deadline leaves.
fn deadline(time: &Timing, until: Timestamp) -> String {
    let until = soon(time, until);
    let all = count(time.calls, "call");
    match time.left {
        (0, 0) => format!("{until} (`--until`) is time enough"),
        (0, most) => format!("{until} (`--until`) may leave up to {} of {all}", number(most)),
        (likely, _) if likely == time.calls => format!("{until} (`--until`) leaves all of {all}"),
        (likely, most) if likely == most => format!("{until} (`--until`) leaves {} of {all}", number(likely)),
        (likely, most) => format!(
            "{until} (`--until`) leaves about {} of {all}, {} at the most",
            number(likely),
            number(most)
        ),
    }
}

/// The local time, with the seconds where these tell something: where it is soon.
pub fn soon(time: &Timing, at: Timestamp) -> String {
    clock(time, at, span(time.windows.now, at) < Duration::from_secs(120))
}

/// The local time: with the day where it is not this one.
fn clock(time: &Timing, at: Timestamp, seconds: bool) -> String {
    if at == Timestamp::MAX {
        return "no time that a calendar has".to_owned();
    }
    let zone = &time.windows.zone;
    let (now, at) = (zone.to_datetime(time.windows.now), zone.to_datetime(at));
    let told = match seconds {
        true => at.strftime("%H:%M:%S").to_string(),
        false => at.strftime("%H:%M").to_string(),
    };
    let days = now.date().until(at.date()).map_or(0, |span| span.get_days());
    match days {
        0 => told,
        1..=6 => format!("{} {told}", at.strftime("%A")),
        _ => format!("{} {told}", at.strftime("%Y-%m-%d")),
    }
}

fn span(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(from.duration_until(to)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::cli::plan::time::LatencyFrom;
    use crate::hours::{Hours, Window};
    use crate::plan::{Course, Windows};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Ten minutes after eleven in the evening in Berlin, and a run that takes so many minutes; a
    /// tenth more at the most.
    fn timing(minutes: u64, set: impl FnOnce(&mut Windows)) -> Timing {
        let mut windows = Windows {
            now: at("2026-11-26T22:10:05Z"),
            start: None,
            until: None,
            hours: None,
            zone: TimeZone::get("Europe/Berlin").unwrap(),
        };
        set(&mut windows);
        let [low, likely, high] = [9, 10, 11].map(|tenths| Duration::from_secs(minutes * 6 * tenths));
        let (course, latest) = (windows.course(likely), windows.course(high));
        // Calls are sent evenly.
        let left = |course: &Course, of: Duration| {
            let share = course
                .cut
                .map_or(1.0, |worked| worked.as_secs_f64() / of.as_secs_f64());
            816 - (816.0 * share) as u64
        };
        Timing {
            low,
            likely,
            high,
            binding: Binding::Requests,
            call: Duration::from_secs(5),
            latency: LatencyFrom::Answers,
            too_large: Vec::new(),
            left: (left(&course, likely), left(&latest, high)),
            calls: 816,
            course,
            latest,
            windows,
        }
    }

    fn told(minutes: u64, set: impl FnOnce(&mut Windows)) -> String {
        let lines = lines(&timing(minutes, set));
        let line = |(about, text): &(&str, String)| format!("{about}: {text}");
        lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn without_windows_it_ends_when_it_is_done() {
        insta::assert_snapshot!(told(1, |_| {}), @r"
        time: about 1m 00s; 54.0s to 1m 06s, bound by requests per minute
        ends: at 23:11:05, 23:11:11 at the latest, if it started now
        ");
        insta::assert_snapshot!(told(30, |_| {}), @r"
        time: about 30m 00s; 27m 00s to 33m 00s, bound by requests per minute
        ends: at 23:40, 23:43 at the latest, if it started now
        ");
        insta::assert_snapshot!(told(100, |_| {}), @r"
        time: about 1h 40m; 1h 30m to 1h 50m, bound by requests per minute
        ends: at Friday 00:50, Friday 01:00 at the latest, if it started now
        ");
        insta::assert_snapshot!(told(60 * 24 * 9, |_| {}), @r"
        time: about 216h 00m; 194h 24m to 237h 36m, bound by requests per minute
        ends: at 2026-12-05 23:10, 2026-12-06 20:46 at the latest, if it started now
        ");
    }

    #[test]
    fn a_start_comes_before_all() {
        insta::assert_snapshot!(told(300, |windows| windows.start = Some(at("2026-11-27T01:00:00Z"))), @r"
        time: about 5h 00m; 4h 30m to 5h 30m, bound by requests per minute
        starts: at Friday 02:00 (`--start-at`)
        ends: at Friday 07:00, Friday 07:30 at the latest
        ");
    }

    #[test]
    fn outside_its_hours_it_sleeps() {
        let night = |windows: &mut Windows| {
            windows.hours = Hours::new(vec![Window::parse("23:00-07:00").unwrap()]);
        };
        insta::assert_snapshot!(told(300, night), @r"
        time: about 5h 00m; 4h 30m to 5h 30m, bound by requests per minute
        ends: at Friday 04:10, Friday 04:40 at the latest, if it started now
        ");
        insta::assert_snapshot!(told(450, night), @r"
        time: about 7h 30m; 6h 45m to 8h 15m, bound by requests per minute
        ends: at Friday 06:40, Friday 23:25 at the latest, if it started now
        sleeps: up to 16h 00m outside `limits.hours`
        ");
        insta::assert_snapshot!(told(600, night), @r"
        time: about 10h 00m; 9h 00m to 11h 00m, bound by requests per minute
        ends: at Saturday 01:10, Saturday 02:10 at the latest, if it started now
        sleeps: 16h 00m outside `limits.hours`
        ");
    }

    #[test]
    fn a_deadline_leaves_what_is_not_sent() {
        let seven = |windows: &mut Windows| windows.until = Some(at("2026-11-27T06:00:00Z"));
        insta::assert_snapshot!(told(300, seven), @r"
        time: about 5h 00m; 4h 30m to 5h 30m, bound by requests per minute
        ends: at Friday 04:10, Friday 04:40 at the latest, if it started now
        until: Friday 07:00 (`--until`) is time enough
        ");
        insta::assert_snapshot!(told(450, seven), @r"
        time: about 7h 30m; 6h 45m to 8h 15m, bound by requests per minute
        ends: at Friday 06:40, Friday 07:00 at the latest, if it started now
        until: Friday 07:00 (`--until`) may leave up to 42 of 816 calls
        ");
        insta::assert_snapshot!(told(600, seven), @r"
        time: about 10h 00m; 9h 00m to 11h 00m, bound by requests per minute
        ends: at Friday 07:00, if it started now
        until: Friday 07:00 (`--until`) leaves about 177 of 816 calls, 236 at the most
        ");
        let never = |windows: &mut Windows| {
            seven(windows);
            windows.start = Some(at("2026-11-27T06:00:00Z"));
        };
        insta::assert_snapshot!(told(600, never), @r"
        time: about 10h 00m; 9h 00m to 11h 00m, bound by requests per minute
        starts: at Friday 07:00 (`--start-at`)
        ends: at Friday 07:00
        until: Friday 07:00 (`--until`) leaves all of 816 calls
        ");
    }

    #[test]
    fn a_deadline_before_the_hours_open_leaves_everything() {
        let early = |windows: &mut Windows| {
            windows.hours = Hours::new(vec![Window::parse("23:30-07:00").unwrap()]);
            windows.until = Some(at("2026-11-26T22:20:00Z"));
        };
        insta::assert_snapshot!(told(1, early), @"
        time: about 1m 00s; 54.0s to 1m 06s, bound by requests per minute
        until: 23:20 (`--until`) comes before `limits.hours` open, at 23:30: none of 816 calls would be sent
        ");
    }

    #[test]
    fn what_never_ends_has_no_time() {
        let mut forever = timing(1, |_| {});
        forever.latest = forever.windows.course(Duration::MAX);
        assert!(ends(&forever).contains("no time that a calendar has"));
    }
}
