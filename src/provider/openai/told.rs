//! Reads what the headers say of a server's limits, in the forms that vendors have for it
//! (OpenAI and most clones, Anthropic, Groq, Cerebras, Mistral, Together, LiteLLM). What is missing
//! or makes no sense says nothing.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderMap;

use crate::call::{Quota, Quotas};
use crate::provider::openai::wait;

const SECOND: Option<Duration> = Some(Duration::from_secs(1));
const MINUTE: Option<Duration> = Some(Duration::from_secs(60));
const DAY: Option<Duration> = Some(Duration::from_secs(24 * 60 * 60));

/// A time of this many seconds or more is a point in time: Unix seconds; from [`EPOCH_MS`] on
/// milliseconds.
const EPOCH: f64 = 1e9;
const EPOCH_MS: f64 = 1e12;

/// The names of one limit: before and behind `limit`, `remaining`, `reset`; and its window, where
/// the name tells it.
type Form = (&'static str, &'static str, Option<Duration>);

/// The most exact first.
const REQUESTS: &[Form] = &[
    ("anthropic-ratelimit-requests-", "", MINUTE),
    ("x-ratelimit-", "-requests-minute", MINUTE),
    ("x-ratelimit-", "-req-minute", MINUTE),
    ("x-ratelimit-", "-requests", None),
    ("x-ratelimit-", "-requests-day", DAY),
    // Together, whose window is a second; others have the same name for other windows.
    ("x-ratelimit-", "", SECOND),
];

const TOKENS: &[Form] = &[
    // The tightest of its limits of tokens.
    ("anthropic-ratelimit-tokens-", "", MINUTE),
    ("x-ratelimit-", "-project-tokens", None),
    ("x-ratelimit-", "-tokens-minute", MINUTE),
    ("x-ratelimit-", "-tokens", None),
    ("x-tokenlimit-", "", SECOND),
];

/// What these headers say. `now` is for points in time, where the server does not say what time it
/// has.
pub(super) fn quotas(headers: &HeaderMap, now: Timestamp) -> Quotas {
    // Most servers say nothing, and every response asks.
    if !headers.keys().any(|name| name.as_str().contains("limit-")) {
        return Quotas::default();
    }
    let now = wait::server_time(headers).unwrap_or(now);
    let first = |forms: &[Form]| forms.iter().find_map(|form| quota(headers, *form, now));
    Quotas {
        requests: first(REQUESTS),
        tokens: first(TOKENS),
    }
}

fn quota(headers: &HeaderMap, (before, behind, window): Form, now: Timestamp) -> Option<Quota> {
    let text = |what: &str| {
        let value = headers.get(format!("{before}{what}{behind}"))?;
        value.to_str().ok().map(str::trim)
    };
    let number = |what| {
        text(what)?
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
    };
    let limit = number("limit").filter(|limit| *limit >= 1.0)? as u64;
    let reset = text("reset").and_then(|text| until(text, now));
    let fits =
        |window: &Duration| *window > Duration::from_secs(1) || reset.is_some_and(|reset| reset <= *window);
    Some(Quota {
        limit,
        // LiteLLM's can be below nothing.
        remaining: number("remaining").map(|left| (left.max(0.0) as u64).min(limit)),
        reset,
        window: window.filter(fits),
    })
}

/// A time to wait: `1m30.5s`, seconds, a point in time (RFC 3339, Unix seconds or milliseconds).
fn until(text: &str, now: Timestamp) -> Option<Duration> {
    let since = |point: Timestamp| wait::sane(point.duration_since(now).as_secs_f64());
    if let Ok(number) = text.parse::<f64>() {
        let milliseconds = match number {
            EPOCH_MS.. => number,
            EPOCH.. => number * 1e3,
            _ => return wait::sane(number),
        };
        return Timestamp::from_millisecond(milliseconds as i64)
            .ok()
            .and_then(since);
    }
    if let Ok(point) = text.parse::<Timestamp>() {
        return since(point);
    }
    wait::duration(text).and_then(wait::sane)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::openai::tests::{NOW, headers};

    /// Limit, remaining, reset in milliseconds, window in seconds.
    type Told = Option<(u64, Option<u64>, Option<u128>, Option<u64>)>;

    /// Of requests and of tokens.
    fn told(pairs: &[(&str, &str)]) -> [Told; 2] {
        let quotas = quotas(&headers(pairs), NOW);
        [quotas.requests, quotas.tokens].map(|quota| {
            let quota = quota?;
            let reset = quota.reset.map(|reset| reset.as_millis());
            Some((
                quota.limit,
                quota.remaining,
                reset,
                quota.window.map(|w| w.as_secs()),
            ))
        })
    }

    #[test]
    fn the_forms_of_the_vendors() {
        let openai = [
            ("x-ratelimit-limit-requests", "5000"),
            ("x-ratelimit-remaining-requests", "4999"),
            ("x-ratelimit-reset-requests", "12ms"),
            ("x-ratelimit-limit-tokens", "2000000"),
            ("x-ratelimit-remaining-tokens", "1999000"),
            ("x-ratelimit-reset-tokens", "1m0.5s"),
        ];
        assert_eq!(
            told(&openai),
            [
                Some((5_000, Some(4_999), Some(12), None)),
                Some((2_000_000, Some(1_999_000), Some(60_500), None)),
            ]
        );
        let anthropic = [
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-ratelimit-requests-reset", "2026-11-23T12:00:30Z"),
            ("anthropic-ratelimit-tokens-limit", "40000"),
        ];
        assert_eq!(
            told(&anthropic),
            [
                Some((50, Some(0), Some(30_000), Some(60))),
                Some((40_000, None, None, Some(60))),
            ]
        );
        let cerebras = [
            ("x-ratelimit-limit-requests-day", "14400"),
            ("x-ratelimit-remaining-requests-day", "14399"),
            ("x-ratelimit-reset-requests-day", "33011.382867"),
            ("x-ratelimit-limit-tokens-minute", "60000"),
        ];
        assert_eq!(
            told(&cerebras),
            [
                Some((14_400, Some(14_399), Some(33_011_382), Some(86_400))),
                Some((60_000, None, None, Some(60))),
            ]
        );
        let together = [
            ("x-ratelimit-limit", "10"),
            ("x-ratelimit-remaining", "9"),
            ("x-ratelimit-reset", "1"),
        ];
        assert_eq!(told(&together)[0], Some((10, Some(9), Some(1_000), Some(1))));
        let openrouter = [
            ("x-ratelimit-limit", "20"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1795435260000"),
        ];
        assert_eq!(told(&openrouter)[0], Some((20, Some(0), Some(60_000), None)));
        let litellm = [
            ("x-ratelimit-limit-requests", "3"),
            ("x-ratelimit-remaining-requests", "-2"),
        ];
        assert_eq!(told(&litellm)[0], Some((3, Some(0), None, None)));
    }

    #[test]
    fn what_makes_no_sense_says_nothing() {
        for value in ["", "many", "-1", "0", "NaN", "inf"] {
            assert_eq!(
                told(&[("x-ratelimit-limit-requests", value)]),
                [None, None],
                "{value}"
            );
        }
        for reset in ["", "soon", "-5", "NaN", "1e300", "5000000000000000h"] {
            let pairs = [
                ("x-ratelimit-limit-requests", "60"),
                ("x-ratelimit-reset-requests", reset),
            ];
            let [requests, _] = told(&pairs);
            assert!(
                matches!(requests, Some((60, None, None | Some(0), None))),
                "{reset}"
            );
        }
    }
}
