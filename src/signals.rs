//! Ctrl+C and SIGTERM, as what they ask of a run. Others hand in a channel of their own.
#![expect(
    clippy::disallowed_methods,
    reason = "a third Ctrl+C ends the program at once"
)]

use std::thread;

use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::names::Stop;

/// Exit code of a program that was interrupted: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Listens from now on: when this returns, a signal no longer ends the program by itself, and each
/// is in the channel, whether anybody waits for it yet or not. The first Ctrl+C asks to drain, the
/// second to abort, the third ends the program at once, whatever it is busy with; SIGTERM (and on
/// Windows the closing of the console, the end of the session or of the system) asks to drain.
///
/// # Errors
/// If the system lets nobody listen.
pub fn listen() -> std::io::Result<UnboundedReceiver<Stop>> {
    let (asked, stops) = unbounded_channel();
    // A thread of its own: the program may be busy with something that is no task.
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _context = runtime.enter();
        system::Signals::listen()?
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let mut interrupts = 0;
            loop {
                let stop = match signals.next().await {
                    Signal::Terminate => Stop::Drain,
                    Signal::Interrupt => {
                        interrupts += 1;
                        match interrupts {
                            1 => Stop::Drain,
                            2 => Stop::Abort,
                            _ => std::process::exit(INTERRUPTED),
                        }
                    }
                };
                // After the end of the run nobody listens, and a third press still ends the program.
                _ = asked.send(stop);
            }
        });
    })?;
    Ok(stops)
}

/// Lets the first Ctrl+C or SIGTERM end the program, as it would by itself, but with `last` done before.
///
/// # Errors
/// If the system lets nobody listen.
pub fn end_with(last: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let mut stops = listen()?;
    thread::Builder::new().name("last".to_owned()).spawn(move || {
        if stops.blocking_recv().is_some() {
            last();
            std::process::exit(INTERRUPTED);
        }
    })?;
    Ok(())
}

/// What the system tells.
enum Signal {
    /// Ctrl+C.
    Interrupt,
    /// Someone else wants the program to end.
    Terminate,
}

#[cfg(unix)]
mod system {
    use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

    use super::Signal;

    pub struct Signals {
        interrupt: Stream,
        terminate: Stream,
    }

    impl Signals {
        pub fn listen() -> std::io::Result<Self> {
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
            })
        }

        pub async fn next(&mut self) -> Signal {
            tokio::select! {
                Some(()) = self.interrupt.recv() => Signal::Interrupt,
                Some(()) = self.terminate.recv() => Signal::Terminate,
                else => std::future::pending().await,
            }
        }
    }
}

#[cfg(windows)]
mod system {
    use tokio::signal::windows::{
        CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_logoff,
        ctrl_shutdown,
    };

    use super::Signal;

    pub struct Signals {
        interrupt: CtrlC,
        interrupt_break: CtrlBreak,
        close: CtrlClose,
        logoff: CtrlLogoff,
        shutdown: CtrlShutdown,
    }

    impl Signals {
        pub fn listen() -> std::io::Result<Self> {
            Ok(Self {
                interrupt: ctrl_c()?,
                interrupt_break: ctrl_break()?,
                close: ctrl_close()?,
                logoff: ctrl_logoff()?,
                shutdown: ctrl_shutdown()?,
            })
        }

        pub async fn next(&mut self) -> Signal {
            tokio::select! {
                Some(()) = self.interrupt.recv() => Signal::Interrupt,
                Some(()) = self.interrupt_break.recv() => Signal::Interrupt,
                Some(()) = self.close.recv() => Signal::Terminate,
                Some(()) = self.logoff.recv() => Signal::Terminate,
                Some(()) = self.shutdown.recv() => Signal::Terminate,
                else => std::future::pending().await,
            }
        }
    }
}

#[cfg(not(any(unix, windows)))]
mod system {
    use super::Signal;

    pub struct Signals;

    impl Signals {
        pub fn listen() -> std::io::Result<Self> {
            Ok(Self)
        }

        pub async fn next(&mut self) -> Signal {
            std::future::pending().await
        }
    }
}
