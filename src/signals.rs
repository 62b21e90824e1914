//! Ctrl+C and SIGTERM, as what they ask of a run. Others hand in a channel of their own.
#![expect(
    clippy::disallowed_methods,
    reason = "a third Ctrl+C ends the program at once"
)]

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::names::Stop;

/// Exit code of a program that was interrupted: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Listens from now on. The first Ctrl+C asks to drain, the second to abort, the third ends the
/// program at once; SIGTERM (and on Windows the closing of the console) asks to drain.
///
/// # Errors
/// If the system lets nobody listen.
pub fn listen() -> std::io::Result<UnboundedReceiver<Stop>> {
    let (asked, stops) = unbounded_channel();
    let mut terminate = Terminate::listen()?;
    tokio::spawn(async move {
        let mut interrupts = 0;
        loop {
            let stop = tokio::select! {
                pressed = tokio::signal::ctrl_c() => {
                    if pressed.is_err() {
                        return;
                    }
                    interrupts += 1;
                    match interrupts {
                        1 => Stop::Drain,
                        2 => Stop::Abort,
                        _ => std::process::exit(INTERRUPTED),
                    }
                }
                () = terminate.asked() => Stop::Drain,
            };
            // After the end of the run nobody listens, and a third press still ends the program.
            _ = asked.send(stop);
        }
    });
    Ok(stops)
}

#[cfg(unix)]
struct Terminate(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Terminate {
    fn listen() -> std::io::Result<Self> {
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map(Self)
    }

    async fn asked(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

#[cfg(windows)]
struct Terminate(tokio::signal::windows::CtrlClose);

#[cfg(windows)]
impl Terminate {
    fn listen() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_close().map(Self)
    }

    async fn asked(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

#[cfg(not(any(unix, windows)))]
struct Terminate;

#[cfg(not(any(unix, windows)))]
impl Terminate {
    fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn asked(&mut self) {
        std::future::pending().await
    }
}
