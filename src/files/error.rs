//! Why a file cannot be read or written, with its place and what to do about it.

use std::fmt;
use std::io;

use super::Refusal;
use crate::printable::one_line;
use crate::wording::{FILES_RAN_OUT, MORE_FILES};

/// Why a file cannot be read or written.
///
/// Its `Display` is the whole of it but the word `error:`: message, place and hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The file or folder as the user would type it, or the file that names it.
    pub file: String,
    /// The line in it, from 1, where there is one.
    pub line: Option<usize>,
    /// What is wrong, in one line: lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl FileError {
    pub(super) fn new(file: &str, message: String) -> Self {
        Self {
            file: one_line(file),
            line: None,
            message: one_line(&message),
            hint: None,
        }
    }

    pub(super) fn with_hint(self, hint: Option<String>) -> Self {
        Self {
            hint: hint.as_deref().map(one_line),
            ..self
        }
    }

    /// What the system says about an attempt to `verb` a file.
    pub(super) fn io(verb: &str, file: &str, error: &io::Error) -> Self {
        let message = format!("cannot {verb} `{file}`: {error}");
        let files_ran_out = message.contains(FILES_RAN_OUT);
        Self::new(file, message).with_hint(files_ran_out.then(|| MORE_FILES.to_owned()))
    }

    pub(super) fn refused(file: &str, refusal: Refusal) -> Self {
        Self::new(file, refusal.words(file)).with_hint(refusal.hint().map(str::to_owned))
    }

    pub(super) fn not_utf8(file: &str, bytes: &[u8]) -> Self {
        let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
        Self {
            line: Some(1 + bytes[..valid].iter().filter(|byte| **byte == b'\n').count()),
            ..Self::new(file, format!("`{file}` is not UTF-8")).with_hint(Some("save it as UTF-8".to_owned()))
        }
    }

    /// Message and place in one line, for a table or a log.
    pub fn summary(&self) -> String {
        format!("{} ({})", self.message, self.place())
    }

    fn place(&self) -> String {
        match self.line {
            Some(line) => format!("{}:{line}", self.file),
            None => self.file.clone(),
        }
    }
}

impl Refusal {
    /// What to do about it, where that can be said without knowing what the file is for.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Refusal::LeadsOut => {
                Some("a symlink is followed only within the project: put the file itself there")
            }
            Refusal::Io(error) if error.to_string().contains(FILES_RAN_OUT) => Some(MORE_FILES),
            _ => None,
        }
    }

    /// Why `file` is not read.
    pub(super) fn words(&self, file: &str) -> String {
        match self {
            Refusal::LeadsOut => format!("`{file}` leads out of the project"),
            Refusal::TooLarge => format!(
                "`{file}` is larger than {} MB, and nothing of that size is read",
                super::LARGEST_TEXT / 1024 / 1024
            ),
            Refusal::NoFile => format!("`{file}` is not a file"),
            Refusal::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                format!("`{file}` does not exist")
            }
            Refusal::Io(error) => format!("cannot read `{file}`: {error}"),
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  --> {}", self.message, self.place())?;
        match &self.hint {
            Some(hint) => write!(f, "\n\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for FileError {}
