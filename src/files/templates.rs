//! The templates that a pipeline names, and those that they include; the JSON Schemas that it names.
//! It does not know what is in a template but which others it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{FileError, LARGEST_TEXT, Project, Refusal, stays_inside};
use crate::call::Schema;
use crate::config::{Config, Node};
use crate::prompt::{clean, references};
use crate::wording::nearest;

impl Project {
    /// Reads every template that the pipeline names, and each that one of them includes if it lies
    /// in or below the folder of a named one. What [`crate::prompt::Prompts::compile`] needs.
    ///
    /// # Errors
    /// All named templates that cannot be read. An included one that is not there is left out:
    /// the compiler knows the line that includes it.
    pub fn templates(&self, config: &Config) -> Result<BTreeMap<String, String>, Vec<FileError>> {
        let mut read = BTreeMap::new();
        let mut errors: Vec<FileError> = Vec::new();
        let mut tried = BTreeSet::new();
        for path in config.nodes.iter().flat_map(named) {
            let name = clean(path);
            if !tried.insert(name.clone()) {
                continue;
            }
            match self.named(&name) {
                Ok(text) => drop(read.insert(name, text)),
                Err(error) => errors.push(error.of(config, "template", config.template_lines.get(path))),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        self.included_templates(&mut read);
        Ok(read)
    }

    /// Reads the JSON Schemas that nodes name by their files, and adds each to the checks of its
    /// node.
    ///
    /// # Errors
    /// All that cannot be read, or are none.
    pub fn schemas(&self, config: &mut Config) -> Result<(), Vec<FileError>> {
        let mut errors = Vec::new();
        for node in 0..config.nodes.len() {
            let Some(file) = config.nodes[node].schema_file.clone() else {
                continue;
            };
            let read = self.named(&clean(&file.path));
            match read.and_then(|text| schema(&text, &file.path)) {
                Ok(schema) => config.set_schema(node, schema),
                Err(error) => errors.push(error.of(config, "JSON Schema", Some(&file.line))),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// A file that the pipeline names.
    fn named(&self, name: &str) -> Result<String, Unreadable> {
        let path = Path::new(name);
        let within = match stays_inside(path) {
            true => self.real.clone(),
            // Who writes `..` into the pipeline means it.
            false => self.real_folder(path).unwrap_or_else(|| self.real.clone()),
        };
        let bytes = self.bytes_in(path, &within, LARGEST_TEXT);
        let bytes = bytes.map_err(|refusal| Unreadable {
            hint: self.hint(name, &refusal),
            words: refusal.words(name),
        })?;
        String::from_utf8(bytes).map_err(|_| Unreadable {
            words: format!("`{name}` is not UTF-8"),
            hint: Some("save it as UTF-8".to_owned()),
        })
    }

    fn hint(&self, name: &str, refusal: &Refusal) -> Option<String> {
        match refusal {
            Refusal::Io(error) if error.kind() == io::ErrorKind::NotFound => Some(match self.near(name) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "make it, or name another".to_owned(),
            }),
            refusal => refusal.hint().map(str::to_owned),
        }
    }

    /// A file in the same folder, with the same extension, whose name is like that of one that is
    /// missing.
    fn near(&self, name: &str) -> Option<String> {
        let (folder, file) = name
            .rfind('/')
            .map_or(("", name), |slash| name.split_at(slash + 1));
        let (stem, extension) = file.rfind('.').map_or((file, ""), |dot| file.split_at(dot));
        let entries = fs::read_dir(self.real.join(folder)).ok()?;
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut stems: Vec<String> = names
            .filter_map(|name| Some(name.strip_suffix(extension)?.to_owned()))
            .collect();
        stems.sort();
        let near = nearest(stem, stems.iter().map(String::as_str))?;
        Some(format!("{folder}{near}{extension}"))
    }

    /// Adds what the templates include, what that includes, and so on.
    fn included_templates(&self, read: &mut BTreeMap<String, String>) {
        let folders: Vec<PathBuf> = read
            .keys()
            .map(|name| folder_of(Path::new(name)).to_owned())
            .collect();
        let mut waiting: Vec<String> = read.values().flat_map(|text| references(text)).collect();
        while let Some(name) = waiting.pop() {
            if read.contains_key(&name) {
                continue;
            }
            if let Some(text) = self.included_template(&name, &folders) {
                waiting.extend(references(&text));
                read.insert(name, text);
            }
        }
    }

    fn included_template(&self, name: &str, folders: &[PathBuf]) -> Option<String> {
        let path = Path::new(name);
        let mut inside = folders
            .iter()
            .filter(|folder| path.strip_prefix(folder).is_ok_and(stays_inside));
        let within = self.real_folder(&inside.next()?.join("x"))?;
        let bytes = self.bytes_in(path, &within, LARGEST_TEXT).ok()?;
        String::from_utf8(bytes).ok()
    }

    /// The folder that a file is in, without symlinks.
    fn real_folder(&self, file: &Path) -> Option<PathBuf> {
        fs::canonicalize(self.real.join(folder_of(file))).ok()
    }
}

fn schema(text: &str, path: &str) -> Result<Schema, Unreadable> {
    let value = serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| Unreadable {
        words: format!("`{path}` is no JSON: {error}"),
        hint: None,
    })?;
    Schema::compile(value).map_err(|wrong| Unreadable {
        words: format!("`{path}` cannot be used: {wrong}"),
        hint: None,
    })
}

/// A file that cannot be used, before it is known who names it.
struct Unreadable {
    words: String,
    hint: Option<String>,
}

impl Unreadable {
    /// `line` is the one of the pipeline that names it as its `what`.
    fn of(self, config: &Config, what: &str, line: Option<&usize>) -> FileError {
        let message = format!("the {what} {}", self.words);
        FileError {
            line: line.copied(),
            ..FileError::new(&config.file, message).with_hint(self.hint)
        }
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

/// The templates of a node, as they stand in the pipeline.
fn named(node: &Node) -> impl Iterator<Item = &str> {
    let paths = [
        node.system.as_deref(),
        node.context.as_deref(),
        Some(&*node.prompt),
    ];
    paths.into_iter().flatten()
}
