//! What opening a store may have to tell: things that were wrong and were put right or could not
//! be. Each is one line for a person; nothing here decides anything.

use std::fmt;
use std::path::PathBuf;

use crate::store::reader::Damage;

/// Something that a person should know and that did not keep the store from opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The last write was not finished, as after a crash; nothing was reported as stored that is
    /// gone by this.
    Torn {
        /// The file of the journal.
        path: PathBuf,
        /// Where it was cut, in bytes from its start.
        offset: u64,
        /// How many bytes were removed.
        len: u64,
    },
    /// A record of the journal cannot be read.
    Damaged(Damage),
    /// Files of the journal are not there.
    Missing {
        /// The first one.
        path: PathBuf,
        /// How many.
        files: u32,
    },
    /// The journal ends before what the look-up trees hold or held.
    Short {
        /// The file that ends too early.
        path: PathBuf,
        /// True if the trees still serve what it held.
        served: bool,
    },
    /// Entries that only the look-up trees had are in the journal again.
    WrittenBack {
        /// The first file that has them now.
        path: PathBuf,
        /// How many.
        entries: u64,
    },
    /// The look-up trees were built again from the journal.
    Rebuilt {
        /// The folder of those that could not be used.
        path: PathBuf,
        /// Why not.
        reason: String,
        /// Entries that were read from the journal.
        entries: u64,
        /// True if the old folder was left in place, because the journal is not whole.
        kept: bool,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Torn { path, offset, len } => write!(
                f,
                "the last write to `{}` was not finished: removed {len} bytes from byte {offset} on",
                path.display()
            ),
            Notice::Damaged(damage) => damage.fmt(f),
            Notice::Missing { path, files: 1 } => {
                write!(f, "`{}` is missing: what only it held is lost", path.display())
            }
            Notice::Missing { path, files } => write!(
                f,
                "{files} files of the journal are missing, the first is `{}`: what only they held is lost",
                path.display()
            ),
            Notice::Short { path, served } => {
                write!(f, "`{}` has lost its end: ", path.display())?;
                f.write_str(match served {
                    true => "what the look-up trees have of it is still served",
                    false => "what only it held is lost",
                })
            }
            Notice::WrittenBack { path, entries } => {
                let entries = match entries {
                    1 => "1 entry that only the look-up trees had was".to_owned(),
                    n => format!("{n} entries that only the look-up trees had were"),
                };
                write!(
                    f,
                    "{entries} written back to the journal, from `{}` on",
                    path.display()
                )
            }
            Notice::Rebuilt {
                path,
                reason,
                entries,
                kept,
            } => {
                write!(f, "`{}` could not be used ({reason}): ", path.display())?;
                write!(f, "built again from {entries} entries of the journal")?;
                if *kept {
                    write!(
                        f,
                        "; the old folder is still there, since the journal is damaged: `septet cache verify --repair` takes out of it what it can"
                    )?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "the record of `{}` in `{}`", key.short(), self.path.display())?,
            None => write!(f, "{} bytes of `{}`", self.len, self.path.display())?,
        }
        write!(f, " at byte {} cannot be read: {}", self.offset, self.reason)
    }
}

/// How far a long opening has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes of the journal that are done.
    pub done_bytes: u64,
    /// Bytes of the journal that there are to do.
    pub total_bytes: u64,
    /// Entries that were read.
    pub entries: u64,
}

/// What takes long about opening a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The end of the journal is read into the look-up trees: the usual end of a crash.
    Replay,
    /// The look-up trees are built again from the whole journal.
    Rebuild,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Key;

    #[test]
    fn notices_read_well() {
        let path = PathBuf::from("cache/journal/00000002.log");
        let damage = |key| {
            Notice::Damaged(Damage {
                path: path.clone(),
                offset: 1234,
                len: 56,
                key,
                reason: "checksum does not match".to_owned(),
            })
        };
        let rebuilt = |kept| Notice::Rebuilt {
            path: PathBuf::from("cache/store/0001"),
            reason: "panic: tried to serialize Uninitialized".to_owned(),
            entries: 8160,
            kept,
        };
        let notices = [
            Notice::Torn {
                path: path.clone(),
                offset: 4096,
                len: 17,
            },
            damage(None),
            damage(Some(Key::from([0xab; 32]))),
            Notice::Missing {
                path: path.clone(),
                files: 1,
            },
            Notice::Missing {
                path: path.clone(),
                files: 3,
            },
            Notice::Short {
                path: path.clone(),
                served: true,
            },
            Notice::Short {
                path: path.clone(),
                served: false,
            },
            Notice::WrittenBack { path, entries: 12 },
            rebuilt(false),
            rebuilt(true),
        ];
        let lines: Vec<_> = notices.iter().map(Notice::to_string).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        the last write to `cache/journal/00000002.log` was not finished: removed 17 bytes from byte 4096 on
        56 bytes of `cache/journal/00000002.log` at byte 1234 cannot be read: checksum does not match
        the record of `abababababab` in `cache/journal/00000002.log` at byte 1234 cannot be read: checksum does not match
        `cache/journal/00000002.log` is missing: what only it held is lost
        3 files of the journal are missing, the first is `cache/journal/00000002.log`: what only they held is lost
        `cache/journal/00000002.log` has lost its end: what the look-up trees have of it is still served
        `cache/journal/00000002.log` has lost its end: what only it held is lost
        12 entries that only the look-up trees had were written back to the journal, from `cache/journal/00000002.log` on
        `cache/store/0001` could not be used (panic: tried to serialize Uninitialized): built again from 8160 entries of the journal
        `cache/store/0001` could not be used (panic: tried to serialize Uninitialized): built again from 8160 entries of the journal; the old folder is still there, since the journal is damaged: `septet cache verify --repair` takes out of it what it can
        ");
    }
}
