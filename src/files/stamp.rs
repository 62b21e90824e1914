//! What files look like from outside, without reading them: sizes, times, identities. It does not
//! know what a change of them means.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::personas::{escaped, is_hidden};
use super::{Project, stays_inside};
use crate::config::Config;
use crate::names::PersonaId;
use crate::persona::{is_persona_file, wrong_name};

/// Within so long two writes may leave the same time: the tick of a kernel's clock is up to 10 ms.
const TICK: Duration = Duration::from_millis(20);

/// The same where times are kept in whole seconds: FAT keeps every other one.
const COARSE_TICK: Duration = Duration::from_secs(2);

/// One or several files from outside. Where two stamps are the same, so are the files, unless one
/// was written twice within a tick of the clock: see [`Stamp::is_fresh`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// blake3 of names, sizes, times and identities, the first half.
    digest: [u8; 16],
    /// From when on another write leaves another time, in nanoseconds since 1970.
    settled_ns: u64,
}

impl Stamp {
    /// The digest of all that was looked at.
    pub fn digest(&self) -> [u8; 16] {
        self.digest
    }

    /// True if a file was written so shortly before `now` (nanoseconds since 1970) that it may be
    /// written once more and look the same: git calls such files racy. The content has to tell.
    pub fn is_fresh(&self, now: u64) -> bool {
        now < self.settled_ns
    }
}

/// Looks at the files of many personas: what holds for all of them is found out once.
pub struct Stamps<'a> {
    project: &'a Project,
    config: &'a Config,
    /// The folder of the personas.
    personas: PathBuf,
}

impl Project {
    /// Begins to look at personas and their transcripts; `None` if there is no folder of personas.
    pub fn stamps<'a>(&'a self, config: &'a Config) -> Option<Stamps<'a>> {
        Some(Stamps {
            personas: self.personas_folder(config).ok()?,
            project: self,
            config,
        })
    }
}

impl Stamps<'_> {
    /// The files of a persona, its folder's name included; `None` where they cannot be told: the
    /// persona is to be read then.
    pub fn persona(&self, id: &PersonaId) -> Option<Stamp> {
        if wrong_name(id.as_str()).is_some() {
            return None;
        }
        let folder = self.personas.join(id.as_str());
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).ok()? {
            let entry = entry.ok()?;
            let name = entry.file_name();
            if !is_hidden(&name) && is_persona_file(&escaped(&name)) {
                let mut meta = entry.metadata().ok()?;
                if meta.is_symlink() {
                    meta = fs::metadata(entry.path()).ok()?;
                }
                files.push((name, meta));
            }
        }
        files.sort_by(|a, b| a.0.cmp(&b.0));
        let mut stamping = Stamping::default();
        for (name, meta) in files {
            stamping.take(name.as_encoded_bytes(), &meta)?;
        }
        Some(stamping.done())
    }

    /// The transcript of a persona; `None` if there is none.
    pub fn transcript(&self, id: &PersonaId) -> Option<Stamp> {
        let path = self.config.transcript(id);
        let path = Path::new(&path);
        let meta = fs::metadata(self.project.real.join(path)).ok()?;
        let mut stamping = Stamping::default();
        stamping.take(path.as_os_str().as_encoded_bytes(), &meta)?;
        (meta.is_file() && stays_inside(path)).then(|| stamping.done())
    }
}

#[derive(Default)]
struct Stamping {
    hasher: blake3::Hasher,
    settled_ns: u64,
}

impl Stamping {
    fn take(&mut self, name: &[u8], meta: &Metadata) -> Option<()> {
        let modified = since_1970(meta.modified())?;
        let identity = identity(meta);
        let numbers = [name.len() as u64, meta.len(), u64::from(meta.is_file()), modified];
        for number in numbers.into_iter().chain(identity) {
            self.hasher.update(&number.to_le_bytes());
        }
        self.hasher.update(name);
        for time in [modified, identity[0]] {
            let tick = match time % 1_000_000_000 {
                0 => COARSE_TICK,
                _ => TICK,
            };
            self.settled_ns = self.settled_ns.max(time.saturating_add(tick.as_nanos() as u64));
        }
        Some(())
    }

    fn done(self) -> Stamp {
        let mut digest = [0; 16];
        self.hasher.finalize_xof().fill(&mut digest);
        Stamp {
            digest,
            settled_ns: self.settled_ns,
        }
    }
}

/// Nanoseconds since 1970; `None` where a file system keeps no time, or one before that.
fn since_1970(time: io::Result<std::time::SystemTime>) -> Option<u64> {
    let since = time.ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

/// When what is known of the file changed last, in nanoseconds since 1970, which no program can set
/// back; and which file it is.
#[cfg(unix)]
fn identity(meta: &Metadata) -> [u64; 3] {
    use std::os::unix::fs::MetadataExt;
    let changed = meta
        .ctime()
        .wrapping_mul(1_000_000_000)
        .wrapping_add(meta.ctime_nsec());
    [changed.cast_unsigned(), meta.ino(), meta.dev()]
}

/// Elsewhere there is only the time at which it was made.
#[cfg(not(unix))]
fn identity(meta: &Metadata) -> [u64; 3] {
    [since_1970(meta.created()).unwrap_or(0), 0, 0]
}
