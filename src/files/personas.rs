//! The folders of the personas: which there are, and the files of one. It does not know what the
//! files mean, only which are a persona's.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::fingerprint::{Fingerprint, Taking};
use super::{FileError, Project, Refusal, stays_inside};
use crate::config::Config;
use crate::names::PersonaId;
use crate::persona::{LARGEST, Persona, PersonaError, PersonaFile, is_persona_file, too_large, wrong_name};

/// A folder among the personas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The folder's name; of a name that no persona can have, the printable form.
    pub id: PersonaId,
    /// Why it cannot be a persona, where it cannot: it fails alone.
    pub refused: Option<PersonaError>,
}

impl Project {
    /// Lists the personas by name: every folder in `pipeline.personas` that is no dotfile. Reads
    /// nothing but names.
    ///
    /// # Errors
    /// If that folder cannot be read.
    pub fn personas(&self, config: &Config) -> Result<Vec<Listed>, FileError> {
        let folder = config.personas.as_str();
        let unreadable = |refusal| unreadable(config, folder, refusal);
        let real = self.personas_folder(config).map_err(unreadable)?;
        let entries = fs::read_dir(real).map_err(|error| unreadable(error.into()))?;
        let mut listed = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(error.into()))?;
            let name = entry.file_name();
            if !is_hidden(&name) && is_folder(&entry) {
                listed.push(listed_as(folder, &name));
            }
        }
        listed.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(listed)
    }

    /// Reads one persona and builds what templates see of it; hands back its files too.
    ///
    /// # Errors
    /// Why this persona cannot be used; the others can.
    pub fn persona(
        &self,
        config: &Config,
        id: &PersonaId,
    ) -> Result<(Persona, Vec<PersonaFile>), PersonaError> {
        let (persona, files, _) = self.seen_persona(config, id, SystemTime::UNIX_EPOCH)?;
        Ok((persona, files))
    }

    /// The same, and how the files looked before each was read; `now` is the time before that.
    ///
    /// # Errors
    /// Those of [`Project::persona`].
    pub fn seen_persona(
        &self,
        config: &Config,
        id: &PersonaId,
        now: SystemTime,
    ) -> Result<(Persona, Vec<PersonaFile>, Option<Fingerprint>), PersonaError> {
        let folder = format!("{}/{id}", config.personas.trim_end_matches('/'));
        if let Some(wrong) = wrong_name(id.as_str()) {
            return Err(refused_name(id, &folder, wrong));
        }
        let unreadable = |refusal: Refusal| refused(id, &folder, &refusal);
        let within = self.personas_folder(config).map_err(unreadable)?;
        let real = self
            .real_path(within.join(id.as_str()), &within)
            .map_err(unreadable)?;
        let names = file_names(&real).map_err(|error| unreadable(error.into()))?;
        let mut files = Vec::new();
        let mut left = LARGEST;
        let mut taking = Taking::at(now);
        for name in names {
            let file = self.persona_file(id, &folder, &real, &within, &name, left)?;
            if let Some((file, meta)) = file {
                left -= file.bytes.len();
                taking = taking.and_then(|taking| taking.with(&name, &meta));
                files.push(file);
            }
        }
        let persona = Persona::build(id, &folder, &files)?;
        Ok((persona, files, taking.map(Taking::done)))
    }

    /// One file of a persona; `None` if it is none of its files.
    fn persona_file(
        &self,
        id: &PersonaId,
        folder: &str,
        real: &Path,
        within: &Path,
        name: &OsStr,
        left: usize,
    ) -> Result<Option<(PersonaFile, Metadata)>, PersonaError> {
        let shown = escaped(name);
        if is_hidden(name) || !is_persona_file(&shown) {
            return Ok(None);
        }
        let file = format!("{folder}/{shown}");
        let error = |message: String| PersonaError::new(id, &file, message);
        let Some(name) = name.to_str() else {
            return Err(error("the file's name is not UTF-8".to_owned()));
        };
        match self.looked_at(real.join(name), within, left) {
            Ok((bytes, meta)) => {
                let name = name.to_owned();
                Ok(Some((PersonaFile { name, bytes }, meta)))
            }
            Err(Refusal::NoFile) => Ok(None),
            Err(Refusal::TooLarge) => Err(error(too_large())),
            Err(refusal) => Err(refused(id, &file, &refusal)),
        }
    }

    /// The folder of the personas, without symlinks. As written it may lie outside of the project,
    /// but not be led there.
    pub(super) fn personas_folder(&self, config: &Config) -> Result<PathBuf, Refusal> {
        let path = Path::new(&config.personas);
        if stays_inside(path) {
            self.real_path(path, &self.real)
        } else {
            Ok(fs::canonicalize(self.real.join(path))?)
        }
    }
}

fn refused(id: &PersonaId, file: &str, refusal: &Refusal) -> PersonaError {
    PersonaError {
        hint: refusal.hint().map(str::to_owned),
        ..PersonaError::new(id, file, refusal.words(file))
    }
}

fn unreadable(config: &Config, folder: &str, refusal: Refusal) -> FileError {
    let hint = match &refusal {
        Refusal::LeadsOut => "write the path that it leads to as `personas` in `[pipeline]`",
        Refusal::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            "make it, with one folder for each persona, or name another as `personas` in `[pipeline]`"
        }
        _ => "`personas` in `[pipeline]` names the folder of the personas",
    };
    let words = match &refusal {
        Refusal::Io(error) if error.kind() == io::ErrorKind::NotADirectory => {
            format!("`{folder}` is not a folder")
        }
        refusal => refusal.words(folder),
    };
    let error = FileError::new(&config.file, format!("no personas: {words}"));
    FileError {
        line: config.personas_line,
        ..error.with_hint(Some(hint.to_owned()))
    }
}

/// The names in a folder, sorted.
fn file_names(folder: &Path) -> io::Result<Vec<OsString>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    let mut names: Vec<OsString> = names.collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// True for a folder and for a symlink to one; also for one that leads in a circle or where nobody may
/// look: it is meant as a persona, which fails with its reason instead of missing without a word.
fn is_folder(entry: &fs::DirEntry) -> bool {
    match entry.file_type() {
        Ok(kind) if kind.is_symlink() => match fs::metadata(entry.path()) {
            Ok(meta) => meta.is_dir(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        },
        Ok(kind) => kind.is_dir(),
        Err(_) => false,
    }
}

fn listed_as(folder: &str, name: &OsStr) -> Listed {
    let shown = escaped(name);
    let wrong = match name.to_str() {
        Some(name) => wrong_name(name),
        None => Some("it is not UTF-8"),
    };
    let id = PersonaId::from(shown.as_str());
    let path = format!("{}/{shown}", folder.trim_end_matches('/'));
    Listed {
        refused: wrong.map(|wrong| refused_name(&id, &path, wrong)),
        id,
    }
}

fn refused_name(id: &PersonaId, path: &str, wrong: &str) -> PersonaError {
    PersonaError {
        hint: Some("rename the folder".to_owned()),
        ..PersonaError::new(id, path, format!("this cannot be the name of a persona: {wrong}"))
    }
}

/// The name with what is not UTF-8 or not printable escaped, so that two names never look the same.
pub(super) fn escaped(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c.is_control() {
                true => text.extend(c.escape_default()),
                false => text.push(c),
            }
        }
        chunk
            .invalid()
            .iter()
            .for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}
