//! Figures as people read them: thousands apart, durations, dollars.

use std::time::Duration;

use crate::call::Money;
use crate::events::TokenCounts;

/// Returns a number with its thousands apart: `12,345`.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a number with its noun: `1 call`, `8 calls`.
pub fn count(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", number(n), if n == 1 { "" } else { "s" })
}

/// Returns a size in bytes: `512 B`, `1.5 kB`, `2.4 MB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut size = n as f64 / 1000.0;
    let mut unit = 0;
    // Rounded to a tenth it may be a thousand.
    while size >= 999.95 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// Returns a duration: `4.2s`, `3m 09s`, `1h 05m`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    // Rounded to a tenth it may be a minute.
    if duration.as_millis() < 59_950 {
        format!("{:.1}s", duration.as_secs_f64())
    } else if seconds < 3600 {
        let seconds = seconds.max(60);
        format!("{}m {:02}s", seconds / 60, seconds % 60)
    } else {
        format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60)
    }
}

/// Returns a duration that is only roughly known: `~25s`, `~12m`, `~1h 05m`.
pub fn roughly(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 55 {
        format!("~{}s", seconds / 5 * 5 + 5)
    } else {
        let minutes = (seconds + 30) / 60;
        match minutes / 60 {
            0 => format!("~{}m", minutes.max(1)),
            hours => format!("~{hours}h {:02}m", minutes % 60),
        }
    }
}

/// Returns a total and the parts of it that are there: `8: 6 written, 2 failed`.
pub fn counted(total: u64, parts: &[(u64, &str)]) -> String {
    let there = parts.iter().filter(|(n, _)| *n > 0);
    let there: Vec<String> = there.map(|(n, word)| format!("{} {word}", number(*n))).collect();
    match there.is_empty() {
        true => number(total),
        false => format!("{}: {}", number(total), there.join(", ")),
    }
}

/// Returns tokens by kind, in one line.
pub fn tokens(tokens: &TokenCounts) -> String {
    let parts = |parts: &[(u64, &str)]| {
        let there = parts.iter().filter(|(n, _)| *n > 0);
        let there: Vec<String> = there.map(|(n, what)| format!("{} {what}", number(*n))).collect();
        match there.is_empty() {
            true => String::new(),
            false => format!(" ({})", there.join(", ")),
        }
    };
    format!(
        "{} input{}, {} output{}",
        number(tokens.input),
        parts(&[
            (tokens.cached_input, "cached"),
            (tokens.cache_write, "written to the cache")
        ]),
        number(tokens.output),
        parts(&[(tokens.reasoning, "reasoning")]),
    )
}

/// Returns an amount with its thousands apart, or `unknown` where a price is missing.
pub fn dollars(amount: Option<Money>) -> String {
    let Some(amount) = amount else {
        return "unknown".to_owned();
    };
    if amount != Money::ZERO && amount.usd().abs() < 0.000_05 {
        return match amount < Money::ZERO {
            // Neither `-<$0.0001` nor `>-$0.0001` is a way to write it.
            true => "-$0.0001".to_owned(),
            false => "<$0.0001".to_owned(),
        };
    }
    let text = amount.to_string();
    let Some((before, cents)) = text.split_once('.') else {
        return text;
    };
    let Some((sign, whole)) = before.split_once('$') else {
        return text;
    };
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), number);
    format!("{sign}${whole}.{cents}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12_345, "12,345"),
            (100_000, "100,000"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ];
        for (n, expected) in cases {
            assert_eq!(number(n), expected);
        }
        assert_eq!(
            (count(1, "call"), count(0, "call")),
            ("1 call".into(), "0 calls".into())
        );
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (2_440_000_000, "2.4 GB"),
            (u64::MAX, "18446744.1 TB"),
        ];
        for (n, expected) in cases {
            assert_eq!(bytes(n), expected);
        }
    }

    #[test]
    fn durations_have_two_units_at_most() {
        let cases = [
            (0, "0.0s"),
            (4_249, "4.2s"),
            (59_949, "59.9s"),
            (59_950, "1m 00s"),
            (189_999, "3m 09s"),
            (3_599_999, "59m 59s"),
            (3_600_000, "1h 00m"),
            (90_000_000, "25h 00m"),
        ];
        for (milliseconds, expected) in cases {
            assert_eq!(duration(Duration::from_millis(milliseconds)), expected);
        }
    }

    #[test]
    fn rough_durations_do_not_pretend() {
        let cases = [
            (0, "~5s"),
            (22, "~25s"),
            (54, "~55s"),
            (55, "~1m"),
            (89, "~1m"),
            (725, "~12m"),
            (3900, "~1h 05m"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(roughly(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn dollars_are_never_shown_as_nothing_unless_they_are() {
        let cases = [
            (Some(0.0), "$0.00"),
            (Some(0.00001), "<$0.0001"),
            (Some(-0.00001), "-$0.0001"),
            (Some(0.0123), "$0.0123"),
            (Some(-0.0123), "-$0.0123"),
            (Some(12.345), "$12.35"),
            (Some(-1234.5), "-$1,234.50"),
            (None, "unknown"),
        ];
        for (usd, expected) in cases {
            assert_eq!(dollars(usd.map(Money::from_usd)), expected);
        }
    }
}
