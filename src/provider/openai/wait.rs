//! Reads how long a server asks to wait: headers first, then the body, then the words of the
//! message. Does not decide whether anyone waits.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{DATE, HeaderMap};

use crate::provider::openai::envelope::Envelope;

/// The longest wait that is believed as it stands; a daily quota is the longest that any
/// provider is known to have.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// More seconds than this are no wait but a point in time, or nonsense: a month.
const SILLY: f64 = 31.0 * 24.0 * 60.0 * 60.0;

/// Returns the first hint that makes sense, in the order that official clients read them: the
/// headers, LiteLLM's renamed headers, the body, the message. `now` is used where a date is
/// given and the server does not say what time it has.
pub(super) fn hint(headers: &HeaderMap, error: Option<&Envelope>, now: Timestamp) -> Option<Duration> {
    milliseconds(headers, "retry-after-ms")
        .or_else(|| seconds_or_date(headers, "retry-after", now))
        .or_else(|| milliseconds(headers, "llm_provider-retry-after-ms"))
        .or_else(|| seconds_or_date(headers, "llm_provider-retry-after", now))
        .or_else(|| error?.wait.and_then(sane))
        .or_else(|| told(&error?.message))
}

/// A wait that makes sense: more than nothing, at most [`LONGEST`].
pub(super) fn sane(seconds: f64) -> Option<Duration> {
    // NaN is in no range.
    let sensible = (f64::MIN_POSITIVE..=SILLY).contains(&seconds);
    sensible
        .then(|| Duration::from_secs_f64(seconds).min(LONGEST))
        .filter(|wait| !wait.is_zero())
}

/// When a quota of a day at Gemini is there again. Eight hours behind UTC all year: in summer that
/// is an hour late, and no time zone has to be looked up.
pub(super) fn until_midnight_in_california(now: Timestamp) -> Duration {
    const DAY: i64 = 24 * 60 * 60;
    let there = now.as_second() - 8 * 60 * 60;
    Duration::from_secs((DAY - there.rem_euclid(DAY)).unsigned_abs())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn milliseconds(headers: &HeaderMap, name: &str) -> Option<Duration> {
    sane(header(headers, name)?.parse::<f64>().ok()? / 1000.0)
}

fn seconds_or_date(headers: &HeaderMap, name: &str, now: Timestamp) -> Option<Duration> {
    let value = header(headers, name)?;
    match value.parse() {
        Ok(seconds) => sane(seconds),
        Err(_) => {
            // Against the server's own clock, since ours may be wrong.
            let now = server_time(headers).unwrap_or(now);
            sane(date(value)?.duration_since(now).as_secs_f64())
        }
    }
}

/// What time the server has.
pub(super) fn server_time(headers: &HeaderMap) -> Option<Timestamp> {
    header(headers, DATE.as_str()).and_then(date)
}

/// An HTTP-date as RFC 9110 has it written today: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()
}

/// The wait in a message: "Please try again in 2m5.5s." (OpenAI, Groq), "Please retry in 37.1s"
/// (Gemini), "Please retry after 26 seconds" (Azure).
fn told(message: &str) -> Option<Duration> {
    let message = message.to_ascii_lowercase();
    ["try again in ", "retry in ", "retry after "]
        .iter()
        .find_map(|words| duration(message.split_once(words)?.1))
        .and_then(sane)
}

/// Adds up numbers with units (`1h0m0.5s`, `6ms`, `1 minute 30 seconds`) as far as they go;
/// in seconds. `None` where there is none.
pub(super) fn duration(mut text: &str) -> Option<f64> {
    let mut sum = None;
    while let Some((seconds, rest)) = number_with_unit(text.trim_start_matches(' ')) {
        sum = Some(sum.unwrap_or(0.0) + seconds);
        text = rest;
    }
    sum
}

fn number_with_unit(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(end);
    let rest = rest.trim_start_matches(' ');
    let end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    Some((number.parse::<f64>().ok()? * in_seconds(unit)?, rest))
}

fn in_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "d" | "day" | "days" => 86_400.0,
        "h" | "hour" | "hours" => 3_600.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "ms" | "millisecond" | "milliseconds" => 1e-3,
        "us" | "µs" | "μs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    /// 2026-11-23 12:00:00 UTC.
    const NOW: Timestamp = Timestamp::constant(1_795_435_200, 0);

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let parsed = |(name, value): &(&str, &str)| {
            (
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            )
        };
        pairs.iter().map(parsed).collect()
    }

    fn milliseconds_of(hint: Option<Duration>) -> Option<u128> {
        hint.map(|wait| wait.as_millis())
    }

    #[test]
    fn headers_are_read_in_order() {
        for (rule, pairs, expected) in [
            (
                "milliseconds first",
                vec![("retry-after", "9"), ("retry-after-ms", "1500.5")],
                Some(1500),
            ),
            ("whole seconds", vec![("retry-after", "20")], Some(20_000)),
            ("seconds as a float", vec![("retry-after", "1.5")], Some(1_500)),
            ("an hour survives", vec![("retry-after", "3600")], Some(3_600_000)),
            (
                "two days are cut to one",
                vec![("retry-after", "172800")],
                Some(86_400_000),
            ),
            (
                "LiteLLM's name",
                vec![("llm_provider-retry-after", "60")],
                Some(60_000),
            ),
            (
                "LiteLLM's name, milliseconds",
                vec![("llm_provider-retry-after-ms", "60")],
                Some(60),
            ),
            (
                "plain before LiteLLM's",
                vec![("llm_provider-retry-after", "60"), ("retry-after", "2")],
                Some(2_000),
            ),
            (
                "silly milliseconds are passed over",
                vec![("retry-after-ms", "soon"), ("retry-after", "2")],
                Some(2_000),
            ),
            ("spaces", vec![("retry-after", " 7 ")], Some(7_000)),
            ("none", vec![], None),
        ] {
            assert_eq!(
                milliseconds_of(hint(&headers(&pairs), None, NOW)),
                expected,
                "{rule}"
            );
        }
    }

    #[test]
    fn silly_values_are_no_hint() {
        for value in [
            "",
            "-1",
            "0",
            "0.0",
            "NaN",
            "inf",
            "1e300",
            "1795435200000",
            "soon",
            "1,5",
            "5s",
            "é",
        ] {
            let headers = headers(&[("retry-after", value), ("retry-after-ms", value)]);
            assert_eq!(hint(&headers, None, NOW), None, "{value:?}");
        }
    }

    #[test]
    fn a_date_is_read_against_the_servers_clock() {
        let at = ("retry-after", "Mon, 23 Nov 2026 12:01:00 GMT");
        for (rule, pairs, expected) in [
            ("our clock where there is no other", vec![at], Some(60_000)),
            (
                "the server's clock first",
                vec![at, ("date", "Mon, 23 Nov 2026 12:00:50 GMT")],
                Some(10_000),
            ),
            (
                "a date in the past",
                vec![("retry-after", "Mon, 23 Nov 2026 11:59:00 GMT")],
                None,
            ),
            (
                "a date in a year",
                vec![("retry-after", "Tue, 23 Nov 2027 12:00:00 GMT")],
                None,
            ),
            (
                "a broken date",
                vec![("retry-after", "Mon, 99 Nov 2026 12:00:00 GMT")],
                None,
            ),
        ] {
            assert_eq!(
                milliseconds_of(hint(&headers(&pairs), None, NOW)),
                expected,
                "{rule}"
            );
        }
    }

    #[test]
    fn the_message_is_the_last_resort() {
        for (message, expected) in [
            (
                "Rate limit reached. Please try again in 1.2s. Visit …",
                Some(1_200),
            ),
            ("Please try again in 6ms.", Some(6)),
            ("Please try again in 2m5.5s. Need more?", Some(125_500)),
            ("Please try again in 1h0m0s", Some(3_600_000)),
            ("Please Try Again In 20 seconds", Some(20_000)),
            ("Please retry in 45.578569677s.", Some(45_578)),
            ("Please retry after 26 seconds.", Some(26_000)),
            ("try again in 1 minute 30 seconds", Some(90_000)),
            ("try again in 2 hours, or never", Some(7_200_000)),
            ("try again in 1.2.3s", None),
            ("try again in a while", None),
            ("try again in 5", None),
            ("try again in 5 parsecs", None),
            ("try again in ", None),
            ("try again later", None),
        ] {
            let error = Envelope {
                message: message.to_owned(),
                ..Envelope::default()
            };
            assert_eq!(
                milliseconds_of(hint(&HeaderMap::new(), Some(&error), NOW)),
                expected,
                "{message}"
            );
        }
    }

    #[test]
    fn the_body_comes_before_the_message_and_after_the_headers() {
        let error = Envelope {
            message: "try again in 3s".to_owned(),
            wait: Some(37.5),
            ..Envelope::default()
        };
        assert_eq!(
            milliseconds_of(hint(&HeaderMap::new(), Some(&error), NOW)),
            Some(37_500)
        );
        let headers = headers(&[("llm_provider-retry-after", "1")]);
        assert_eq!(milliseconds_of(hint(&headers, Some(&error), NOW)), Some(1_000));
    }

    proptest! {
        #[test]
        fn no_hint_is_longer_than_a_day(value in "[0-9.e+ a-zA-Z:,-]{0,30}", message in any::<String>()) {
            let headers = headers(&[("retry-after", &value), ("retry-after-ms", &value), ("date", &value)]);
            let message = format!("try again in {value}{message}");
            let error = Envelope { message, ..Envelope::default() };
            if let Some(wait) = hint(&headers, Some(&error), NOW) {
                prop_assert!(wait > Duration::ZERO && wait <= LONGEST);
            }
        }
    }
}
