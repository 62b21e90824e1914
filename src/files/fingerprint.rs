//! What files look like from outside, without reading them: sizes, times, identities. It does not
//! know what a change of them means.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Project;
use super::personas::{escaped, is_hidden};
use crate::config::Config;
use crate::names::PersonaId;
use crate::persona::{is_persona_file, wrong_name};

/// Within so long two writes may leave the same time: FAT keeps every other second, other file
/// systems the tick of a clock (up to 10 ms), which may be a server's and lag behind.
const TICK: Duration = Duration::from_secs(2);

/// One or several files from outside. Where two fingerprints are the same, so are the files, but for
/// one that was written twice within a tick of the clock: see [`Fingerprint::is_fresh`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    digest: [u8; 16],
    fresh: bool,
}

impl Fingerprint {
    /// blake3 of names, sizes, times and identities, the first half.
    pub fn digest(&self) -> [u8; 16] {
        self.digest
    }

    /// True if a file had been written so shortly before it was looked at that it may have been
    /// written once more since and look the same: git calls such files racy. The content has to
    /// tell. Always true where a program can set back all times that there are.
    pub fn is_fresh(&self) -> bool {
        self.fresh || cfg!(not(unix))
    }
}

/// Looks at the files of personas and at their transcripts.
pub struct Fingerprints<'a> {
    project: &'a Project,
    config: &'a Config,
    /// The folder of the personas.
    personas: PathBuf,
}

impl Project {
    /// Begins to look; `None` if there is no folder of personas.
    pub fn fingerprints<'a>(&'a self, config: &'a Config) -> Option<Fingerprints<'a>> {
        Some(Fingerprints {
            personas: self.personas_folder(config).ok()?,
            project: self,
            config,
        })
    }
}

impl Fingerprints<'_> {
    /// The files of a persona; `None` where they cannot be told: it is to be read then, which says
    /// what is wrong.
    pub fn persona(&self, id: &PersonaId, now: SystemTime) -> Option<Fingerprint> {
        if wrong_name(id.as_str()).is_some() {
            return None;
        }
        let inside = |path: &Path| self.project.real_path(path, &self.personas).ok();
        let folder = inside(&self.personas.join(id.as_str()))?;
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).ok()? {
            let entry = entry.ok()?;
            let name = entry.file_name();
            if !is_hidden(&name) && is_persona_file(&escaped(&name)) {
                let mut meta = entry.metadata().ok()?;
                if meta.is_symlink() {
                    meta = fs::metadata(inside(&entry.path())?).ok()?;
                }
                // As it is read: a folder with such a name is none of them.
                if meta.is_file() {
                    files.push((name, meta));
                }
            }
        }
        files.sort_by(|a, b| a.0.cmp(&b.0));
        let mut taking = Taking::at(now)?;
        for (name, meta) in files {
            taking = taking.with(&name, &meta)?;
        }
        Some(taking.done())
    }

    /// The transcript of a persona; `None` if there is none.
    pub fn transcript(&self, id: &PersonaId, now: SystemTime) -> Option<Fingerprint> {
        let path = self.config.transcript(id);
        let real = self.project.real_path(&path, &self.project.real).ok()?;
        let meta = fs::metadata(real).ok()?;
        let taking = Taking::at(now)?.with(OsStr::new(&path), &meta)?;
        meta.is_file().then(|| taking.done())
    }
}

/// A fingerprint that is being taken, of one file after the other, in the order of their names.
pub(super) struct Taking {
    hasher: blake3::Hasher,
    now: u64,
    newest: u64,
}

impl Taking {
    pub(super) fn at(now: SystemTime) -> Option<Self> {
        Some(Self {
            hasher: blake3::Hasher::new(),
            now: since_1970(Ok(now))?,
            newest: 0,
        })
    }

    /// Takes one more file in; `None` where its times cannot be told.
    pub(super) fn with(mut self, name: &OsStr, meta: &Metadata) -> Option<Self> {
        let name = name.as_encoded_bytes();
        let modified = since_1970(meta.modified())?;
        let [changed, file] = identity(meta);
        for number in [name.len() as u64, meta.len(), modified, changed, file] {
            self.hasher.update(&number.to_le_bytes());
        }
        self.hasher.update(name);
        self.newest = self.newest.max(modified).max(changed);
        Some(self)
    }

    pub(super) fn done(self) -> Fingerprint {
        let mut digest = [0; 16];
        self.hasher.finalize_xof().fill(&mut digest);
        Fingerprint {
            digest,
            fresh: self.now < self.newest.saturating_add(TICK.as_nanos() as u64),
        }
    }
}

/// Nanoseconds since 1970; `None` where a file system keeps no time, or one before that.
fn since_1970(time: io::Result<SystemTime>) -> Option<u64> {
    let since = time.ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

/// When what is known of the file changed last, in nanoseconds since 1970, which no program can set
/// back; and which file it is. Not on which device: its number may be another after each mount.
#[cfg(unix)]
fn identity(meta: &Metadata) -> [u64; 2] {
    use std::os::unix::fs::MetadataExt;
    let changed = meta
        .ctime()
        .wrapping_mul(1_000_000_000)
        .wrapping_add(meta.ctime_nsec());
    [changed.cast_unsigned(), meta.ino()]
}

/// Elsewhere there is only the time at which it was made.
#[cfg(not(unix))]
fn identity(meta: &Metadata) -> [u64; 2] {
    [since_1970(meta.created()).unwrap_or(0), 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    struct Example {
        folder: tempfile::TempDir,
        config: Config,
    }

    impl Example {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for place in ["personas/anna", "transcripts", "elsewhere"] {
                fs::create_dir_all(folder.path().join(place)).unwrap();
            }
            let pipeline = "[provider]\nkind = \"simulator\"\n[model]\nname = \"m\"\n[[node]]\nid = \"a\"\nprompt = \"p\"\n";
            let config = config::load(pipeline, "pipeline.toml").unwrap();
            let example = Self { folder, config };
            example.write("personas/anna/profile.md", "Anna");
            example.write("transcripts/anna.md", "Hello");
            example
        }

        fn write(&self, path: &str, text: &str) {
            fs::write(self.folder.path().join(path), text).unwrap();
        }

        fn at(&self, now: SystemTime) -> [Option<Fingerprint>; 2] {
            let project = Project::open(self.folder.path()).unwrap();
            let fingerprints = project.fingerprints(&self.config).unwrap();
            let anna = "anna".into();
            [
                fingerprints.persona(&anna, now),
                fingerprints.transcript(&anna, now),
            ]
        }

        fn digests(&self) -> [Option<[u8; 16]>; 2] {
            self.at(SystemTime::now())
                .map(|found| found.map(|found| found.digest()))
        }
    }

    #[test]
    fn what_is_left_alone_looks_the_same_and_what_is_written_does_not() {
        let example = Example::new();
        let before = example.digests();
        assert_eq!(example.digests(), before);
        example.write("personas/anna/.hidden", "x");
        example.write("personas/anna/picture.png", "x");
        assert_eq!(example.digests(), before, "no files of the persona");
        example.write("personas/anna/profile.md", "Anna and Ben");
        example.write("transcripts/anna.md", "Hello, you");
        let after = example.digests();
        assert!(before[0] != after[0] && before[1] != after[1]);
        example.write("personas/anna/more.md", "");
        assert_ne!(example.digests()[0], after[0], "another file");
    }

    #[test]
    fn a_persona_that_is_read_looked_as_one_that_is_only_looked_at() {
        let example = Example::new();
        example.write("personas/anna/b.toml", "x = 1");
        example.write("personas/anna/.hidden", "x");
        fs::create_dir(example.folder.path().join("personas/anna/folder.md")).unwrap();
        let (project, now) = (Project::open(example.folder.path()).unwrap(), SystemTime::now());
        let read = project
            .seen_persona(&example.config, &"anna".into(), now)
            .unwrap();
        assert_eq!(read.1.len(), 2);
        assert!(read.2.is_some() && read.2 == example.at(now)[0]);
    }

    #[test]
    fn what_was_just_written_may_be_written_again_unseen() {
        let example = Example::new();
        let now = SystemTime::now();
        let fresh = |now| example.at(now).map(|found| found.unwrap().fresh);
        assert_eq!(fresh(now), [true; 2]);
        assert_eq!(
            fresh(now - Duration::from_secs(3600)),
            [true; 2],
            "a clock that lags"
        );
        assert_eq!(fresh(now + Duration::from_secs(10)), [false; 2]);
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_looked_at_outside_of_the_project() {
        use std::os::unix::fs::symlink;
        let example = Example::new();
        let outside = tempfile::tempdir().unwrap();
        let root = example.folder.path();
        for name in ["transcripts", "personas/anna"] {
            let moved = outside.path().join("moved");
            fs::rename(root.join(name), &moved).unwrap();
            symlink(&moved, root.join(name)).unwrap();
            let of = usize::from(name == "transcripts");
            assert_eq!(example.at(SystemTime::now())[of], None, "{name}");
            fs::remove_file(root.join(name)).unwrap();
            fs::rename(&moved, root.join(name)).unwrap();
        }
        let before = example.digests();
        fs::rename(root.join("transcripts"), root.join("elsewhere/t")).unwrap();
        symlink(root.join("elsewhere/t"), root.join("transcripts")).unwrap();
        assert_eq!(example.digests(), before, "a symlink inside is followed");
    }
}
