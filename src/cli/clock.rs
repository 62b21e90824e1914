//! The wall clock, for records, names, and the times of `--start-at`, `--until` and `limits.hours`.

/// The time.
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

use jiff::tz::TimeZone;

use crate::hours::timestamp;

/// A moment as the machine's clock shows it: `2026-11-23 23:30:15`.
pub fn local(at_ms: u64) -> String {
    let local = TimeZone::system().to_datetime(timestamp(at_ms));
    local.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A moment for programs: `2026-11-23T22:30:15Z`.
pub fn iso(at_ms: u64) -> String {
    timestamp(at_ms).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Unix time in milliseconds.
pub fn unix_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}
