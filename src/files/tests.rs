//! Files as they are found on a disk.

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::*;
use crate::config::{self, Config};
use crate::names::PersonaId;

/// A project in a temporary folder, with another folder beside it.
struct Disk {
    _temp: TempDir,
    beside: PathBuf,
    root: PathBuf,
    project: Project,
}

impl Disk {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let (root, beside) = (temp.path().join("project"), temp.path().join("beside"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(&beside).unwrap();
        Self {
            project: Project::open(&root).unwrap(),
            _temp: temp,
            beside,
            root,
        }
    }

    fn with(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn holds(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap()
    }

    /// The names in a folder, sorted.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(folder)).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn listed(&self) -> Vec<(String, Option<String>)> {
        let listed = self.project.personas(&config("")).unwrap();
        let row = |listed: Listed| (listed.id.to_string(), listed.refused.map(|error| error.message));
        listed.into_iter().map(row).collect()
    }

    /// What templates see of a persona, or why they do not.
    fn persona(&self, id: &str) -> String {
        match self.project.persona(&config(""), &PersonaId::from(id)) {
            Ok((persona, _)) => persona.value().to_string(),
            Err(error) => error.to_string(),
        }
    }
}

fn config(extra: &str) -> Config {
    let text = format!(
        "{extra}\n[[node]]\nid = \"a\"\nprompt = \"prompts/a.md\"\n[[node]]\nid = \"b\"\nneeds = [\"a\"]\nprompt = \"prompts/b.md\"\n"
    );
    config::load(&text, "pipeline.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

mod reading;
mod watching;
mod writing;
