//! The wall clock, for records and names. It decides nothing.

/// Unix time in milliseconds.
pub fn unix_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}
