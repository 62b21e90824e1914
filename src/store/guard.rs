//! Runs foreign code that may panic or never return: sled's answer to a damaged file. A panic
//! becomes a value, prints nothing, and does not end the program.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// What the names of sled's own threads begin with (sled 0.34.7, `threadpool.rs`). They catch
/// their panics themselves, but the text would be printed.
const SLEDS_THREADS: &str = "sled-io-";

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic comes back as its message.
///
/// What `work` changed before a panic may be half done: whoever calls must not use it any more.
pub(super) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    silence();
    let before = QUIET.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    result.map_err(|payload| {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied());
        format!("panic: {}", text.unwrap_or("without a message"))
    })
}

/// Runs `work` on a thread of its own and waits for it no longer than `limit`. A thread that does
/// not end in time is left alone.
///
/// # Errors
/// In words: that it panicked, or took too long.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("store-open".to_owned())
        .spawn(move || {
            // Nobody waits any more after the limit; the result is then dropped here.
            let _ = sender.send(catch(work));
        })
        .map_err(|error| format!("no thread: {error}"))?;
    match receiver.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(format!("no end after {} s", limit.as_secs())),
        Err(RecvTimeoutError::Disconnected) => Err("its thread ended without a word".to_owned()),
    }
}

/// Keeps panics that are caught here, and those of sled's threads, off the terminal. All others
/// are reported as before.
fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let sleds = thread::current()
                .name()
                .is_some_and(|name| name.starts_with(SLEDS_THREADS));
            if !sleds && !QUIET.get() {
                report(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_value() {
        assert_eq!(catch(|| 7), Ok(7));
        assert_eq!(
            catch(|| panic!("at {}", 7)),
            Err::<(), _>("panic: at 7".to_owned())
        );
        assert_eq!(catch(|| panic!("plain")), Err::<(), _>("panic: plain".to_owned()));
        assert!(!QUIET.get());
    }

    #[test]
    fn work_that_never_ends_is_left() {
        let (release, blocked) = mpsc::channel::<()>();
        let result = within(Duration::from_millis(1), move || blocked.recv().is_ok());
        assert_eq!(result, Err("no end after 0 s".to_owned()));
        drop(release);
        assert_eq!(within(Duration::from_secs(60), || 7), Ok(7));
        let result: Result<(), _> = within(Duration::from_secs(60), || panic!("in there"));
        assert_eq!(result, Err("panic: in there".to_owned()));
    }
}
