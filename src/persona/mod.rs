//! The files of one persona → the values that a template sees. It does not know where the files
//! come from or which templates there are.

mod data;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use minijinja::Value;

use crate::names::PersonaId;
use crate::printable::one_line;
use data::DataError;

/// The most bytes that the files of one persona may have together: far more than any model reads,
/// far less than what `limits.concurrency` personas at once would fill the memory with.
pub const LARGEST: usize = 64 * 1024 * 1024;

/// The most bytes of a name: with an extension and what a temporary file adds, it stays below the
/// 255 that file systems take.
const LONGEST_NAME: usize = 200;

/// A persona as templates see it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Persona {
    id: PersonaId,
    value: Value,
}

/// A file of a persona: its name within the persona's folder, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonaFile {
    /// Such as `profile.md`.
    pub name: String,
    /// As it was read.
    pub bytes: Vec<u8>,
}

/// Why a persona cannot be used. It fails alone, before its first call.
///
/// Its `Display` is the whole of it but the word `error:`: message, place and hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonaError {
    /// Which persona.
    pub persona: PersonaId,
    /// The file or folder as the user would type it.
    pub file: String,
    /// The line in it, from 1, where there is one.
    pub line: Option<usize>,
    /// What is wrong, in one line: lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What a file is by its extension.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Toml,
    Json,
    Yaml,
}

impl Persona {
    /// Builds what templates see of a persona: its `id`, and each file under its stem. `folder` is
    /// where the files lie, as the user would type it. Files that are none of a persona's (see
    /// [`is_persona_file`]) are passed over.
    ///
    /// # Errors
    /// The first file, by name, that cannot be used, and why.
    pub fn build(id: &PersonaId, folder: &str, files: &[PersonaFile]) -> Result<Self, PersonaError> {
        let size: usize = files.iter().map(|file| file.bytes.len()).sum();
        if size > LARGEST {
            return Err(PersonaError::new(id, folder, too_large()));
        }
        let mut files: Vec<&PersonaFile> = files.iter().collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let mut stems: BTreeMap<&str, &str> = BTreeMap::new();
        let mut values = vec![("id", Value::from(id.as_str()))];
        for file in files {
            let Some((stem, format)) = parts(&file.name) else {
                continue;
            };
            let value = check_stem(stem, stems.insert(stem, &file.name))
                .and_then(|()| value(format, &file.bytes))
                .map_err(|wrong| PersonaError {
                    line: wrong.line,
                    hint: wrong.hint.map(str::to_owned),
                    ..PersonaError::new(id, &format!("{folder}/{}", file.name), wrong.message)
                })?;
            values.push((stem, value));
        }
        Ok(Self {
            id: id.clone(),
            value: Value::from_pairs(values),
        })
    }

    /// Its name.
    pub fn id(&self) -> &PersonaId {
        &self.id
    }

    /// What templates see as `persona`.
    pub fn value(&self) -> &Value {
        &self.value
    }
}

/// Says whether a file of that name in a persona's folder belongs to the persona: a text (`.md`,
/// `.txt`) or data (`.toml`, `.json`, `.yaml`), and no dotfile.
pub fn is_persona_file(name: &str) -> bool {
    parts(name).is_some()
}

/// What is wrong with the name of a persona, if anything: it becomes a part of `PERSONA/NODE` and
/// of the transcript's path, on every system.
pub fn wrong_name(name: &str) -> Option<&'static str> {
    // Windows has devices by these names, with any extension (Microsoft, "Naming Files, Paths, and
    // Namespaces", 2024-08).
    const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
    let stem = name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    let is_port = |kind| {
        stem.strip_prefix(kind)
            .is_some_and(|n: &str| n.len() == 1 && n.as_bytes()[0].is_ascii_digit())
    };
    if name.is_empty() || name.starts_with('.') {
        Some("it is empty or begins with a dot")
    } else if name.chars().any(char::is_control) {
        Some("it has a control character")
    } else if name.contains(['/', '\\', ':', '*', '?', '"', '<', '>', '|']) {
        Some("it has one of `/ \\ : * ? \" < > |`")
    } else if name.trim() != name || name.ends_with('.') {
        Some("it begins or ends with a space, or ends with a dot")
    } else if DEVICES.contains(&stem.as_str()) || is_port("com") || is_port("lpt") {
        Some("it is the name of a device on Windows")
    } else if name.len() > LONGEST_NAME {
        Some("it has more than 200 bytes")
    } else {
        None
    }
}

/// The words for a persona beyond [`LARGEST`].
pub fn too_large() -> String {
    format!(
        "the files of one persona may have {} MB together",
        LARGEST / 1024 / 1024
    )
}

/// Stem and format of a persona's file.
fn parts(name: &str) -> Option<(&str, Format)> {
    let (stem, extension) = name.rsplit_once('.')?;
    let format = match extension.to_ascii_lowercase().as_str() {
        "md" | "txt" => Format::Text,
        "toml" => Format::Toml,
        "json" => Format::Json,
        "yaml" => Format::Yaml,
        _ => return None,
    };
    (!name.starts_with('.')).then_some((stem, format))
}

/// Checks that a template can tell the file from others by its stem.
fn check_stem(stem: &str, other: Option<&str>) -> Result<(), DataError> {
    let wrong = |message: String, hint| {
        Err(DataError {
            line: None,
            message,
            hint: Some(hint),
        })
    };
    if stem == "id" {
        wrong(
            "a file with the stem `id` would hide `persona.id`, the persona's name".to_owned(),
            "rename it",
        )
    } else if let Some(other) = other {
        wrong(
            format!("`{other}` has the same stem: both would be `persona.{stem}`"),
            "rename one of them",
        )
    } else if stem.chars().any(char::is_control) {
        wrong("the file's name has a control character".to_owned(), "rename it")
    } else {
        Ok(())
    }
}

fn value(format: Format, bytes: &[u8]) -> Result<Value, DataError> {
    let text = text(bytes)?;
    match format {
        Format::Text => Ok(Value::from(text.trim_end_matches('\n'))),
        Format::Toml => data::toml(&text),
        Format::Json => data::json(&text),
        Format::Yaml => data::yaml(&text),
    }
}

/// UTF-8 without a byte order mark, with CRLF as LF: what an editor on another system did to a file
/// must not change a key.
fn text(bytes: &[u8]) -> Result<String, DataError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        DataError {
            line: Some(1 + before.iter().filter(|byte| **byte == b'\n').count()),
            message: "not UTF-8".to_owned(),
            hint: Some("save it as UTF-8"),
        }
    })?;
    Ok(text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .replace("\r\n", "\n"))
}

impl PersonaError {
    /// An error of a whole file or folder, without a hint.
    pub fn new(persona: &PersonaId, file: &str, message: String) -> Self {
        Self {
            persona: persona.clone(),
            file: one_line(file),
            line: None,
            message: one_line(&message),
            hint: None,
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

impl fmt::Display for PersonaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "persona `{}`: {}\n  --> {}",
            self.persona,
            self.message,
            self.place()
        )?;
        match &self.hint {
            Some(hint) => write!(f, "\n\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for PersonaError {}
