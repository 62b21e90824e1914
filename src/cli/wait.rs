//! `--start-at`: waits before anything is opened or held. The wall clock is looked at again and
//! again, because a machine that slept has timers that know nothing of it.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::cli::failure::CliError;
use crate::cli::print::{errln, outln};
use crate::cli::{clock, runtime};
use crate::hours::Moment;
use crate::names::Stop;
use crate::report;
use crate::report::figures::duration;

/// The longest time between two looks at the wall clock.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Waits until a time; returns what a person asked for if they asked to stop before.
pub fn until(
    at: Timestamp,
    stops: &mut UnboundedReceiver<Stop>,
    shown: report::Options,
) -> Result<Option<Stop>, CliError> {
    say(at, shown);
    let waited = runtime()?.block_on(async {
        loop {
            let left = Duration::try_from(clock::now().duration_until(at)).ok()?;
            if left.is_zero() {
                return None;
            }
            tokio::select! {
                Some(stop) = stops.recv() => return Some(stop),
                () = tokio::time::sleep(left.min(LOOK_EVERY)) => {}
            }
        }
    });
    Ok(waited)
}

fn say(at: Timestamp, shown: report::Options) {
    let now = clock::now();
    let moment = Moment::of(at, now, &TimeZone::system());
    let wait = Duration::try_from(now.duration_until(at)).unwrap_or_default();
    if shown.json {
        let until = &moment.rfc3339;
        let wait_s = wait.as_millis() as f64 / 1000.0;
        outln!(
            "{}",
            json!({ "event": "waiting", "cause": "start_at", "until": until, "wait_s": wait_s, "at_s": 0.0 })
        );
    } else if !shown.quiet {
        errln!(
            "waiting until {} ({}); Ctrl+C ends it",
            moment.clock,
            duration(wait)
        );
    }
}
