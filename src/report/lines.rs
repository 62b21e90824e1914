//! Lines for people where there is no terminal, and for `--quiet`: the same as above the live bar,
//! without the bar.

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use crate::events::{Event, Stamped, Tally};
use crate::report::style::Palette;
use crate::report::wording::{self, Weight};
use crate::report::{Sink, summary};

/// Writes lines to a log, a pipe, or a terminal that wants no bar.
pub struct Lines {
    out: BufWriter<Box<dyn Write + Send>>,
    palette: Palette,
    quiet: bool,
    session: bool,
}

impl Lines {
    /// Writes to `out`; with `quiet` only warnings and what is not well.
    pub fn new(out: Box<dyn Write + Send>, palette: Palette, quiet: bool) -> Self {
        Self {
            out: BufWriter::new(out),
            palette,
            quiet,
            session: false,
        }
    }

    /// The same for one of many runs.
    pub fn of_session(self, session: bool) -> Self {
        Self { session, ..self }
    }
}

impl Sink for Lines {
    fn name(&self) -> &'static str {
        "standard error"
    }

    fn event(&mut self, stamped: &Stamped, tally: &Tally) -> io::Result<()> {
        if let Some(line) = wording::line(&stamped.event, tally, self.palette, None)
            && !(self.quiet && line.weight == Weight::Routine)
        {
            writeln!(self.out, "{}", line.text)?;
        }
        if let Event::RunFinished { .. } = stamped.event {
            let text = match (self.quiet, self.session) {
                (true, _) => summary::brief,
                (false, true) => summary::of_session,
                (false, false) => summary::lines,
            };
            for line in text(tally, self.palette, None) {
                writeln!(self.out, "{line}")?;
            }
        }
        Ok(())
    }

    fn draw(&mut self, _now: Duration, _tally: &Tally) -> io::Result<()> {
        self.out.flush()
    }
}
