//! Every error becomes words here: a message, where it is, what to do next, and an exit code.

use std::fmt;
use std::process::ExitCode;

use console::style;

use crate::cli::print::errln;
use crate::printable::one_line;
pub use crate::run::with_causes;
use crate::wording::{FILES_RAN_OUT, MORE_FILES};

/// Why a command ends without having done its work.
#[derive(Debug)]
pub struct CliError {
    /// One or more complaints, each whole.
    complaints: Vec<Complaint>,
    code: u8,
}

/// One complaint, as a person reads it.
#[derive(Debug)]
pub struct Complaint {
    /// What is wrong: lower case, no full stop; its causes after colons.
    pub message: String,
    /// `pipeline.toml:52`, where there is a place.
    pub place: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl Complaint {
    /// Words without a place; a hint only where it is the same whatever could not be opened.
    pub fn new(message: impl Into<String>) -> Self {
        let message = message.into();
        let files_ran_out = message.contains(FILES_RAN_OUT);
        Self {
            hint: files_ran_out.then(|| MORE_FILES.to_owned()),
            place: None,
            message,
        }
    }

    /// Adds the place.
    #[must_use]
    pub fn at(self, place: impl Into<String>) -> Self {
        Self {
            place: Some(place.into()),
            ..self
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

impl CliError {
    /// Nothing was called: the command line, `pipeline.toml`, a template, the key or the cache is
    /// not as it must be. Exit code 2.
    pub fn refused(complaints: impl IntoIterator<Item = Complaint>) -> Self {
        Self {
            complaints: complaints.into_iter().collect(),
            code: 2,
        }
    }

    /// Something that was under way cannot go on. Exit code 3.
    pub fn stopped(complaint: Complaint) -> Self {
        Self {
            complaints: vec![complaint],
            code: 3,
        }
    }

    /// All that is wrong, in one line and without advice.
    pub fn in_a_line(&self) -> String {
        let line = |complaint: &Complaint| match &complaint.place {
            Some(place) => format!("{} ({place})", complaint.message),
            None => complaint.message.clone(),
        };
        self.complaints.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    /// Its exit code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Prints it and returns its exit code.
    pub fn report(&self) -> ExitCode {
        let complaints: Vec<String> = self.complaints.iter().map(Complaint::to_string).collect();
        errln!("{}", complaints.join("\n").trim_end());
        ExitCode::from(self.code)
    }
}

impl From<Complaint> for CliError {
    fn from(complaint: Complaint) -> Self {
        Self::refused([complaint])
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = style("error:").for_stderr().red().bold();
        writeln!(f, "{error} {}", one_line(&self.message))?;
        if let Some(place) = &self.place {
            writeln!(
                f,
                "  {} {}",
                style("-->").for_stderr().cyan().bold(),
                one_line(place)
            )?;
        }
        if let Some(hint) = &self.hint {
            let word = style("hint:").for_stderr().yellow().bold();
            writeln!(f, "\n{word} {}", one_line(hint))?;
        }
        Ok(())
    }
}
