//! Lines on standard output, many of them: gathered before they are written, and at an end once
//! nobody reads them any more.

use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

use serde_json::Value;

use crate::cli::failure::{CliError, Complaint};
use crate::report::json::escape;

/// Standard output.
pub struct Out {
    out: BufWriter<StdoutLock<'static>>,
    /// False once nobody reads what is written.
    read: bool,
}

impl Out {
    /// Takes standard output.
    pub fn new() -> Self {
        Self {
            out: BufWriter::with_capacity(1 << 16, io::stdout().lock()),
            read: true,
        }
    }

    /// False once nobody reads what is written: there is no reason to go on.
    pub fn is_read(&self) -> bool {
        self.read
    }

    /// Writes one line.
    ///
    /// # Errors
    /// If it cannot be written for another reason than that nobody reads it.
    pub fn line(&mut self, text: &str) -> Result<(), CliError> {
        let written = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.write_all(b"\n"));
        self.met(written)
    }

    /// Writes one object as a line.
    ///
    /// # Errors
    /// As for [`Out::line`].
    pub fn object(&mut self, object: &Value) -> Result<(), CliError> {
        self.line(&escape(&object.to_string()))
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    /// As for [`Out::line`].
    pub fn finish(mut self) -> Result<(), CliError> {
        let flushed = self.out.flush();
        self.met(flushed)
    }

    fn met(&mut self, written: io::Result<()>) -> Result<(), CliError> {
        match written {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.read = false;
                Ok(())
            }
            Err(error) => Err(CliError::stopped(Complaint::new(format!(
                "cannot write to standard output: {error}"
            )))),
        }
    }
}
