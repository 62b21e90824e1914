//! Which files a session watches, and when one of them has been edited: its content is another one
//! and has stayed so for a moment, since an editor may save several files, or one in parts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cli::args::Selection;
use crate::cli::project::{Loaded, PIPELINE};
use crate::config::{self, Config};
use crate::files;
use crate::files::watch::{Contents, Known};

/// Between two looks at the files. With many files they take time: then it is longer.
const INTERVAL: Duration = Duration::from_millis(150);
/// So many times as long as a look takes is waited for the next.
const REST: u32 = 10;

/// The files of a session.
pub struct Edits<'a> {
    selection: &'a Selection,
    files: files::Project,
    /// That of the last good pipeline.
    config: Arc<Config>,
    templates: Vec<String>,
    /// True after an edit with which there is no project: then a file that is missing may appear.
    broken: bool,
    known: Known,
    settle: Settle,
}

impl<'a> Edits<'a> {
    /// Watches the files of a project as they are now. To be made before the project is read
    /// again, so that no edit falls between the two.
    pub fn new(project: &Loaded, selection: &'a Selection) -> Self {
        let mut edits = Self {
            selection,
            files: project.files.clone(),
            config: project.config.clone(),
            templates: project.templates.keys().cloned().collect(),
            broken: false,
            known: Known::default(),
            settle: Settle::default(),
        };
        edits.settle = Settle::new(edits.look());
        edits
    }

    /// Watches what this project is made of from now on.
    pub fn follow(&mut self, project: &Loaded) {
        self.config = project.config.clone();
        self.templates = project.templates.keys().cloned().collect();
        self.broken = false;
        let now = self.look();
        self.settle.follow(now);
    }

    /// The last edit made a project that cannot be read.
    pub fn refuse(&mut self) {
        self.broken = true;
        let now = self.look();
        self.settle.follow(now);
    }

    /// How many files there are.
    pub fn count(&self) -> usize {
        self.settle.seen.len()
    }

    /// Waits for the next edit, and returns which files it changed.
    pub async fn next(&mut self) -> Vec<String> {
        loop {
            let began = Instant::now();
            let now = self.look();
            if let Some(names) = self.settle.see(now) {
                return names;
            }
            sleep(INTERVAL.max(began.elapsed() * REST)).await;
        }
    }

    fn look(&mut self) -> Contents {
        let names = self.names();
        self.files.contents(names, &mut self.known)
    }

    fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::from([PIPELINE.to_owned()]);
        names.extend(self.templates.iter().cloned());
        let schemas = self
            .config
            .nodes
            .iter()
            .filter_map(|node| node.schema_file.as_ref());
        names.extend(schemas.map(|file| file.path.clone()));
        if self.broken {
            names.extend(self.named_now());
            let folder = |name: &String| name.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
            let folders: BTreeSet<String> = self.templates.iter().map(folder).collect();
            names.extend(folders.iter().flat_map(|folder| self.files.names_in(folder)));
        }
        let listed = self.files.personas(&self.config).unwrap_or_default();
        let all = listed.into_iter().map(|listed| listed.id).collect();
        for persona in self
            .selection
            .choose(all, &self.config.personas)
            .unwrap_or_default()
        {
            names.extend(self.files.names_of_persona(&self.config, &persona));
        }
        names
    }

    /// The templates that the pipeline names as it is now, if it can be read.
    fn named_now(&self) -> Vec<String> {
        let text = self.files.text(PIPELINE).unwrap_or_default();
        let Ok(config) = config::load(&text, PIPELINE) else {
            return Vec::new();
        };
        let nodes = config.nodes.into_iter();
        nodes
            .flat_map(|node| {
                let schema = node.schema_file.map(|file| file.path);
                [node.system, node.context, Some(node.prompt), schema]
            })
            .flatten()
            .collect()
    }
}

/// Tells an edit that is over from one that goes on.
#[derive(Debug, Default)]
struct Settle {
    /// What the last edit left behind.
    seen: Contents,
    /// What was different from that at the last look.
    moving: Option<Contents>,
}

impl Settle {
    fn new(seen: Contents) -> Self {
        Self { seen, moving: None }
    }

    /// Takes in what the files hold now. An edit is told when two looks find the same.
    fn see(&mut self, now: Contents) -> Option<Vec<String>> {
        if now == self.seen {
            self.moving = None;
            return None;
        }
        if self.moving.as_ref() != Some(&now) {
            self.moving = Some(now);
            return None;
        }
        let names: BTreeSet<&String> = self.seen.keys().chain(now.keys()).collect();
        let edited = names
            .into_iter()
            .filter(|name| self.seen.get(*name) != now.get(*name));
        let edited = edited.cloned().collect();
        *self = Self::new(now);
        Some(edited)
    }

    /// Other files are watched from now on: those that are new are no edit, those that were
    /// watched before still are if they have changed.
    fn follow(&mut self, now: Contents) {
        let seen = now.into_iter().map(|(name, hash)| {
            let before = self.seen.get(&name).copied().unwrap_or(hash);
            (name, before)
        });
        *self = Self::new(seen.collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(files: &[(&str, &str)]) -> Contents {
        let hash = |(name, text): &(&str, &str)| ((*name).to_owned(), blake3::hash(text.as_bytes()));
        files.iter().map(hash).collect()
    }

    #[test]
    fn an_edit_is_told_once_when_it_is_over() {
        let before = contents(&[("a", "1"), ("b", "1"), ("gone", "1")]);
        let half = contents(&[("a", "2"), ("b", "1"), ("gone", "1")]);
        let whole = contents(&[("a", "2"), ("b", "1"), ("new", "1")]);
        let mut settle = Settle::new(before.clone());
        assert_eq!(settle.see(before.clone()), None);
        assert_eq!(settle.see(half.clone()), None, "it may go on");
        assert_eq!(settle.see(whole.clone()), None, "and it does");
        assert_eq!(
            settle.see(whole.clone()),
            Some(["a", "gone", "new"].map(str::to_owned).into())
        );
        assert_eq!(settle.see(whole.clone()), None);
        assert_eq!(settle.see(half), None);
        assert_eq!(settle.see(whole.clone()), None, "undone before it was over");
        assert_eq!(settle.see(whole), None);
    }

    #[test]
    fn other_files_to_watch_are_no_edit_and_hide_none() {
        let mut settle = Settle::new(contents(&[("a", "1"), ("b", "1")]));
        settle.follow(contents(&[("a", "2"), ("c", "1")]));
        let now = contents(&[("a", "2"), ("c", "1")]);
        assert_eq!(settle.see(now.clone()), None);
        assert_eq!(settle.see(now), Some(vec!["a".to_owned()]));
    }
}
