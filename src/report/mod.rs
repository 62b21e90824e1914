//! Shows a run: one task reads the events, folds the tally and hands both to each sink. It knows
//! nothing of how a run is made, and nothing that goes wrong here can harm one.

mod advice;
mod bar;
pub mod diff;
pub mod figures;
pub mod json;
pub mod lines;
mod persona_line;
pub mod style;
pub mod summary;
pub mod terminal;
mod wording;

#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::events::{Event, Stamped, Tally};
use crate::report::style::{Color, Palette};

pub use summary::at_hours;

/// Between two draws there is at least this much time.
const FASTEST: Duration = Duration::from_millis(50);
/// While a run goes on, what is shown is never older than this.
const SLOWEST: Duration = Duration::from_millis(500);
/// Events that come within so short a time are taken together.
const GATHER: Duration = Duration::from_millis(5);
/// Events that are folded between two looks at the clock.
const BATCH: usize = 1024;

/// One way to show a run.
pub trait Sink: Send {
    /// What it writes to, for the warning if that breaks: `standard output`.
    fn name(&self) -> &'static str;

    /// Takes in an event; `tally` has it folded in already. What there is to write may wait for
    /// the next [`Sink::draw`].
    ///
    /// # Errors
    /// If it cannot be written. The sink is dropped then.
    fn event(&mut self, stamped: &Stamped, tally: &Tally) -> io::Result<()>;

    /// Brings out what is new. Called often enough for a live display and not more, and once at
    /// the end. `now` is the time since the start of the run.
    ///
    /// # Errors
    /// As for [`Sink::event`].
    fn draw(&mut self, now: Duration, tally: &Tally) -> io::Result<()>;
}

/// How a run is to be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--json`: events on standard output; standard error is as with `quiet`.
    pub json: bool,
    /// `--quiet`: only warnings and what is not well.
    pub quiet: bool,
    /// `--watch`: it is one of many runs.
    pub session: bool,
    /// `--color`.
    pub color: Color,
}

/// Returns the sinks for these options: lines for people on standard error, with a live bar where
/// it is a terminal, and on standard output nothing but `--json`.
pub fn sinks(options: Options) -> Vec<Box<dyn Sink>> {
    let palette = Palette {
        color: options.color.on_stderr(),
    };
    let quiet = options.quiet || options.json;
    let terminal = console::Term::buffered_stderr();
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    if options.json {
        sinks.push(Box::new(json::Json::new(Box::new(io::stdout()))));
    }
    if terminal.is_term() && !console::is_dumb() && !quiet {
        sinks.push(Box::new(
            terminal::Terminal::new(terminal, palette).of_session(options.session),
        ));
    } else {
        let lines = lines::Lines::new(Box::new(io::stderr()), palette, quiet);
        sinks.push(Box::new(lines.of_session(options.session)));
    }
    sinks
}

/// Shows a run on a thread of its own and returns its tally at the end: a terminal or a pipe that
/// does not take more holds up nobody else. Must be called within a tokio runtime.
pub fn spawn(events: UnboundedReceiver<Stamped>, sinks: Vec<Box<dyn Sink>>) -> JoinHandle<Tally> {
    let handle = Handle::current();
    tokio::task::spawn_blocking(move || handle.block_on(run(events, sinks)))
}

/// Shows a run until every sender of `events` is dropped, and returns its tally. Writing blocks:
/// see [`spawn`].
pub async fn run(mut events: UnboundedReceiver<Stamped>, sinks: Vec<Box<dyn Sink>>) -> Tally {
    let mut report = Report::new(sinks);
    let mut batch = Vec::new();
    let mut drawn = Instant::now();
    let mut news = false;
    loop {
        let due = drawn + if news { FASTEST } else { SLOWEST };
        tokio::select! {
            // Draws come first when they are due, however many events wait.
            biased;
            () = sleep_until(due) => {
                report.draw();
                drawn = Instant::now();
                news = false;
            }
            received = events.recv_many(&mut batch, BATCH) => {
                if received == 0 {
                    break;
                }
                batch.drain(..).for_each(|stamped| report.event(&stamped));
                news = true;
                // The next ones are gathered: to be woken for each of them would cost the run
                // more than to make them. Where a batch was full, more are waiting already.
                if received < BATCH && report.tally.outcome.is_none() {
                    sleep(GATHER).await;
                }
            }
        }
    }
    report.draw();
    report.tally
}

/// The fold, and the sinks that still work.
struct Report {
    tally: Tally,
    sinks: Vec<Box<dyn Sink>>,
    /// When the run started, as near as events tell: they arrive late, never early.
    start: Option<Instant>,
}

impl Report {
    fn new(sinks: Vec<Box<dyn Sink>>) -> Self {
        Self {
            tally: Tally::default(),
            sinks,
            start: None,
        }
    }

    fn event(&mut self, stamped: &Stamped) {
        let start = Instant::now().checked_sub(stamped.at);
        self.start = match self.start {
            None => start,
            known => known.min(start.or(known)),
        };
        self.tally.apply(stamped);
        let broken = self.each(|sink, tally| sink.event(stamped, tally));
        self.warn(broken);
    }

    fn draw(&mut self) {
        let now = self.now();
        let broken = self.each(|sink, tally| sink.draw(now, tally));
        self.warn(broken);
    }

    fn now(&self) -> Duration {
        let elapsed = self.start.map_or(Duration::ZERO, |start| start.elapsed());
        elapsed.max(self.tally.at)
    }

    /// Hands something to each sink, drops those that fail and returns what there is to say about
    /// that. A reader that went away (a closed pipe) wanted no more: nothing.
    fn each(&mut self, mut hand: impl FnMut(&mut dyn Sink, &Tally) -> io::Result<()>) -> Vec<String> {
        let mut broken = Vec::new();
        let tally = &self.tally;
        self.sinks.retain_mut(|sink| match hand(sink.as_mut(), tally) {
            Ok(()) => true,
            Err(error) => {
                if error.kind() != io::ErrorKind::BrokenPipe {
                    broken.push(format!(
                        "cannot write to {}: {error}; the run goes on without it",
                        sink.name()
                    ));
                }
                false
            }
        });
        broken
    }

    /// Tells the sinks that still work about those that broke, each once.
    fn warn(&mut self, mut messages: Vec<String>) {
        while let Some(message) = messages.pop() {
            let at = self.now();
            let event = Event::Warning { message };
            let warning = Stamped { at, event };
            messages.extend(self.each(|sink, tally| sink.event(&warning, tally)));
        }
    }
}
