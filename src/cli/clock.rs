//! The wall clock, for records, names, and the times of `--start-at`, `--until` and `limits.hours`.

/// The time.
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Unix time in milliseconds.
pub fn unix_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}
