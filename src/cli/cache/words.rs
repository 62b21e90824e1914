//! How ages and sizes are told to people, and tokens to programs.

use serde_json::{Value, json};

use crate::call::Usage;
use crate::report::figures::number;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The ages by which answers are grouped: in words, in JSON, and how many milliseconds of age they
/// stop at.
pub const AGES: [(&str, &str, u64); 5] = [
    ("last 24 hours", "day", DAY_MS),
    ("last 7 days", "week", 7 * DAY_MS),
    ("last 30 days", "month", 30 * DAY_MS),
    ("last 365 days", "year", 365 * DAY_MS),
    ("older", "older", u64::MAX),
];

/// Which of [`AGES`] something from `at_ms` has.
pub fn age_group(now_ms: u64, at_ms: u64) -> usize {
    let age = now_ms.saturating_sub(at_ms);
    AGES.iter()
        .position(|(_, _, end)| age < *end)
        .unwrap_or(AGES.len() - 1)
}

/// How long ago something was: `42s`, `5m`, `3h 05m`, `12d`.
pub fn age(now_ms: u64, at_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(at_ms) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d", number(seconds / 86_400)),
    }
}

/// The tokens of an answer or of many.
pub fn tokens(usage: &Usage) -> Value {
    json!({
        "input": usage.input,
        "output": usage.output,
        "reasoning": usage.reasoning.unwrap_or(0),
        "cached_input": usage.cached_input.unwrap_or(0),
        "cache_write": usage.cache_write.unwrap_or(0),
        "total": usage.input + usage.output,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units_at_most() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (11_100, "3h 05m"),
            (172_799, "47h 59m"),
            (172_800, "2d"),
            (86_400 * 1500, "1,500d"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(
                age(5_000_000_000_000, 5_000_000_000_000 - seconds * 1000),
                expected
            );
        }
        assert_eq!(age(0, 1000), "0s", "a clock that was set back");
    }

    #[test]
    fn each_age_has_its_group() {
        let now = 1000 * DAY_MS;
        let groups = [0, DAY_MS - 1, DAY_MS, 7 * DAY_MS, 30 * DAY_MS, 365 * DAY_MS]
            .map(|age| age_group(now, now - age));
        assert_eq!(groups, [0, 0, 1, 2, 3, 4]);
        assert_eq!(age_group(0, now), 0, "a clock that was set back");
    }
}
