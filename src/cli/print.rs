//! Prints what a command was asked for, and what it has to say beside that. A reader that has gone
//! (`septet plan | head -1`) ends no command.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use crate::report::style::wrap;

/// `println!` that does not panic where it cannot write: see [`line()`].
macro_rules! outln {
    ($($text:tt)*) => { $crate::cli::print::line(format_args!($($text)*)) };
}

/// `eprintln!` that does not panic where it cannot write: see [`aside`].
macro_rules! errln {
    ($($text:tt)*) => { $crate::cli::print::aside(format_args!($($text)*)) };
}

pub(in crate::cli) use {errln, outln};

/// Prints a line on standard output. If that fails for another reason than that nobody reads it,
/// standard error tells.
pub fn line(text: impl Display) {
    let printed = writeln!(io::stdout(), "{text}");
    tell_failure(printed);
}

/// Prints text as it is on standard output, as [`line()`] does.
pub fn whole(text: &[u8]) {
    let mut out = io::stdout();
    let printed = out.write_all(text).and_then(|()| out.flush());
    tell_failure(printed);
}

/// Prints a line on standard error. Where that fails there is nobody left to tell.
pub fn aside(text: impl Display) {
    _ = writeln!(io::stderr(), "{text}");
}

/// Prints a text on standard error, broken between words where that is a terminal.
pub fn told(text: &str) {
    let terminal = console::Term::stderr();
    let columns = terminal.size_checked().filter(|_| terminal.is_term());
    let columns = columns.map_or(usize::MAX, |(_, columns)| usize::from(columns));
    for line in wrap(text, columns) {
        aside(line);
    }
}

fn tell_failure(printed: io::Result<()>) {
    match printed {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            aside(format_args!("warning: cannot write to standard output: {error}"));
        }
        _ => {}
    }
}
