//! What files hold, by names, in little: to see that one was edited. It asks again and again
//! instead of being told, since editors save by renaming, and network drives and containers tell
//! nothing. It does not know what an edit means.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::Project;
use crate::config::Config;
use crate::names::PersonaId;

/// The blake3 of each file that is there, by its path as a person types it.
pub type Contents = BTreeMap<String, blake3::Hash>;

/// What was read before: a file that looks the same is not read again.
#[derive(Debug, Default)]
pub struct Known(HashMap<String, (Stamp, blake3::Hash)>);

/// By what a file that may have changed is told from one that has not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
    /// A file that was renamed into place is another one.
    file: u64,
}

impl Project {
    /// What the files with these names hold now. One that cannot be read is left out, like one
    /// that is not there: whoever needs it will say so.
    pub fn contents(&self, names: impl IntoIterator<Item = String>, known: &mut Known) -> Contents {
        let mut contents = Contents::new();
        let mut still = HashMap::new();
        for name in names {
            let read = stamp_of(&self.real.join(&name)).and_then(|stamp| match known.0.remove(&name) {
                Some((before, hash)) if before == stamp => Ok((stamp, hash)),
                _ => Ok((stamp, hash_of(&self.real.join(&name))?)),
            });
            if let Ok((stamp, hash)) = read {
                contents.insert(name.clone(), hash);
                still.insert(name, (stamp, hash));
            }
        }
        known.0 = still;
        contents
    }

    /// The files in a persona's folder, dotfiles left out; none if it cannot be read.
    pub fn names_of_persona(&self, config: &Config, persona: &PersonaId) -> Vec<String> {
        self.names_in(&format!("{}/{persona}", config.personas.trim_end_matches('/')))
    }

    /// The files in a folder, dotfiles left out; none if it cannot be read.
    pub fn names_in(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.real.join(folder)) else {
            return Vec::new();
        };
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let visible = names.filter(|name| !name.starts_with('.'));
        match folder {
            "" => visible.collect(),
            folder => visible.map(|name| format!("{folder}/{name}")).collect(),
        }
    }
}

fn stamp_of(path: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(Stamp {
        len: metadata.len(),
        modified: metadata.modified().ok(),
        file: number(&metadata),
    })
}

#[cfg(unix)]
fn number(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn number(_: &Metadata) -> u64 {
    0
}

fn hash_of(path: &Path) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize())
}
