//! The display on a terminal: finished lines scroll up, below them a live bar is drawn over and
//! over. What the lines and the bar say is decided elsewhere.

use std::io;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use crate::events::{Event, Stamped, Tally};
use crate::report::style::Palette;
use crate::report::wording::{self, Weight};
use crate::report::{Sink, bar, summary};

/// Draws on a terminal.
pub struct Terminal<T> {
    terminal: T,
    live: MultiProgress,
    bar: ProgressBar,
    palette: Palette,
    session: bool,
    /// Finished lines that are not printed yet.
    lines: Vec<String>,
}

impl<T: TermLike + Clone + 'static> Terminal<T> {
    /// Draws on `terminal`, whose clones must share its buffer.
    pub fn new(terminal: T, palette: Palette) -> Self {
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let live = MultiProgress::with_draw_target(target);
        // All of the layout is in the message: what is shown depends on the width, and indicatif
        // would ask the environment for colour, not `--color`.
        let style = ProgressStyle::with_template("{msg}").expect("BUG: the template is a constant");
        let bar = live.add(ProgressBar::no_length().with_style(style));
        Self {
            terminal,
            live,
            bar,
            palette,
            session: false,
            lines: Vec::new(),
        }
    }

    /// The same for one of many runs.
    pub fn of_session(mut self, session: bool) -> Self {
        self.session = session;
        self
    }

    fn columns(&self) -> usize {
        usize::from(self.terminal.width())
    }

    /// Prints finished lines where the bar was. They are not given to indicatif, which would fill
    /// them up with spaces: a narrower window would break every line in two.
    fn print(&mut self) -> io::Result<()> {
        self.live.clear()?;
        for line in self.lines.drain(..) {
            self.terminal.write_line(&line)?;
        }
        self.terminal.flush()
    }
}

impl<T: TermLike + Clone + 'static> Sink for Terminal<T> {
    fn name(&self) -> &'static str {
        "the terminal"
    }

    fn event(&mut self, stamped: &Stamped, tally: &Tally) -> io::Result<()> {
        let columns = Some(self.columns());
        if let Some(line) = wording::line(&stamped.event, tally, self.palette, columns)
            && line.weight != Weight::Passing
        {
            self.lines.push(line.text);
        }
        if let Event::RunFinished { .. } = stamped.event {
            let text = match self.session {
                true => summary::of_session,
                false => summary::lines,
            };
            self.lines.extend(text(tally, self.palette, columns));
        }
        Ok(())
    }

    fn draw(&mut self, now: Duration, tally: &Tally) -> io::Result<()> {
        let live = bar::lines(tally, now, self.palette, self.columns());
        if !self.lines.is_empty() || live.is_empty() {
            self.print()?;
        }
        if !live.is_empty() {
            self.bar.set_message(live.join("\n"));
            // indicatif leaves the cursor behind the last column, where the `^C` that a terminal
            // shows for the key would begin a line of its own, and the next bar a line too low.
            self.terminal.write_str("\r")?;
            self.terminal.flush()?;
        }
        Ok(())
    }
}

impl<T> Drop for Terminal<T> {
    /// Whatever happened, no dead bar is left on the screen.
    fn drop(&mut self) {
        // There is nobody left to tell.
        _ = self.live.clear();
    }
}
