//! What was up to date when a run ended, in a file of its own beside the store: a run that finds
//! everything as it was then need not open the store at all. It does not know how inputs are
//! looked at or compared.
#![expect(
    clippy::disallowed_methods,
    reason = "reads, writes and removes a file of the cache"
)]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::call::Money;
use crate::names::PersonaId;
use crate::store::checkpoint::checked;
use crate::store::disk::sync_folder;
use crate::store::lock::Lock;

/// The name of the file in the folder of the cache.
const NAME: &str = "receipts";

/// Another form of the file is another number: it is read as if it were not there.
const FORMAT: u32 = 1;

/// Half a blake3: tells contents or the looks of files apart. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub [u8; 16]);

/// What a persona was when all its nodes had their answers and its transcript was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// How its files looked from outside.
    pub files: Digest,
    /// What was in them.
    pub content: Digest,
    /// How its transcript looked from outside.
    pub transcript: Digest,
    /// What was in it.
    pub text: Digest,
    /// True where looks do not tell, because something had just been written.
    pub fresh: bool,
    /// What its answers had cost; `None`: not known of one of them.
    pub saved: Option<Money>,
}

/// The receipts of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    format: u32,
    /// What all of them rest on: the pipeline, its templates and this version of septet.
    basis: String,
    personas: HashMap<PersonaId, Receipt>,
}

impl Receipts {
    /// None yet.
    pub fn new(basis: String) -> Self {
        Self {
            format: FORMAT,
            basis,
            personas: HashMap::new(),
        }
    }

    /// Reads those in the folder of a cache that rest on `basis`. A file that cannot be read, is
    /// damaged or rests on anything else is as good as none: everything is looked at in full then.
    pub fn read(cache: &Path, basis: String) -> Self {
        let bytes = fs::read(path(cache)).unwrap_or_default();
        // Those that rest on anything else need not be read to their end: after an edit they are in the
        // way of the first call.
        let none = serde_json::to_vec(&Self::new(basis.clone())).unwrap_or_default();
        let begin = none.strip_suffix(b"{}}").unwrap_or_default();
        let line = checked(&bytes).filter(|line| line.starts_with(begin));
        let read = line.and_then(|line| serde_json::from_slice::<Self>(line).ok());
        let usable = read.filter(|read| read.format == FORMAT && read.basis == basis);
        usable.unwrap_or_else(|| Self::new(basis))
    }

    /// Writes them in place of those that are there. Only for who holds the lock of the cache: another
    /// septet may have taken back what was read before.
    ///
    /// # Errors
    /// If they cannot be written; the earlier ones are still there then.
    pub fn write(&self, cache: &Path) -> io::Result<()> {
        self.replace(cache, File::sync_all)?;
        sync_folder(cache)
    }

    /// Writes them; `settle` sees the new file before it takes the earlier one's place.
    fn replace(&self, cache: &Path, settle: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        let (path, new) = (path(cache), cache.join(format!("{NAME}.new")));
        // As it is made: all of it would be as much memory as the receipts once more.
        let mut summed = Summed {
            out: BufWriter::new(File::create(&new)?),
            sum: crc32fast::Hasher::new(),
        };
        serde_json::to_writer(&mut summed, self)?;
        let Summed { mut out, sum } = summed;
        write!(out, "\n{:08x}\n", sum.finalize())?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        settle(&file)?;
        drop(file);
        fs::rename(&new, path)
    }

    /// Puts newer receipts in the place of those that are there, unless another septet is at work. The
    /// disk is not waited for: after a power cut there may be these, the earlier ones, or a file that is
    /// as good as none.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn renew(cache: &Path, basis: String, newer: Vec<(PersonaId, Receipt)>) -> io::Result<()> {
        let Ok(_lock) = Lock::take(cache) else {
            return Ok(());
        };
        let mut there = Self::read(cache, basis);
        // What was taken back meanwhile stays away.
        for (persona, receipt) in newer {
            if let Some(old) = there.personas.get_mut(&persona) {
                *old = receipt;
            }
        }
        match there.is_empty() {
            true => Ok(()),
            false => there.replace(cache, |_| Ok(())),
        }
    }

    /// Takes all of them back, durably: what is asked for anew is not up to date, whatever becomes of
    /// the run that asks.
    ///
    /// # Errors
    /// If they are still there.
    pub fn remove(cache: &Path) -> io::Result<()> {
        match fs::remove_file(path(cache)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.and_then(|()| sync_folder(cache)),
        }
    }

    /// The receipt of a persona.
    pub fn of(&self, persona: &PersonaId) -> Option<&Receipt> {
        self.personas.get(persona)
    }

    /// Keeps a receipt.
    pub fn keep(&mut self, persona: PersonaId, receipt: Receipt) {
        self.personas.insert(persona, receipt);
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.personas.is_empty()
    }

    /// Drops those of some personas.
    pub fn forget(&mut self, personas: &[PersonaId]) {
        for persona in personas {
            self.personas.remove(persona);
        }
    }

    /// Drops those of whom `is_there` denies.
    pub fn retain(&mut self, is_there: impl Fn(&PersonaId) -> bool) {
        self.personas.retain(|persona, _| is_there(persona));
    }

    /// Adds those of `others` that are of nobody here.
    pub fn keep_others(&mut self, others: Self) {
        for (persona, receipt) in others.personas {
            self.personas.entry(persona).or_insert(receipt);
        }
    }
}

/// What is written, and its checksum so far.
struct Summed<W> {
    out: W,
    sum: crc32fast::Hasher,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn path(cache: &Path) -> PathBuf {
    cache.join(NAME)
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", u128::from_be_bytes(self.0)))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        let number = u128::from_str_radix(text, 16).map_err(serde::de::Error::custom)?;
        Ok(Self(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(n: u8) -> Receipt {
        let digest = |m: u8| Digest([n.wrapping_mul(m); 16]);
        Receipt {
            files: digest(1),
            content: digest(3),
            transcript: digest(5),
            text: digest(7),
            fresh: n.is_multiple_of(2),
            saved: Some(Money::ZERO),
        }
    }

    fn example() -> Receipts {
        let mut receipts = Receipts::new("basis".to_owned());
        (0..20).for_each(|n| receipts.keep(format!("anna-{n}").into(), receipt(n)));
        receipts
    }

    #[test]
    fn come_back_as_they_were_and_can_be_taken_back() {
        let cache = tempfile::tempdir().unwrap();
        let read = || Receipts::read(cache.path(), "basis".to_owned());
        let none = Receipts::new("basis".to_owned());
        assert_eq!(read(), none);
        example().write(cache.path()).unwrap();
        assert_eq!(read(), example());
        assert_eq!(
            Receipts::read(cache.path(), "other".to_owned()).of(&"anna-1".into()),
            None
        );
        Receipts::remove(cache.path()).unwrap();
        Receipts::remove(cache.path()).unwrap();
        assert_eq!(read(), none);
    }

    #[test]
    fn any_flipped_bit_and_any_missing_byte_makes_them_none() {
        let cache = tempfile::tempdir().unwrap();
        example().write(cache.path()).unwrap();
        let good = fs::read(path(cache.path())).unwrap();
        for at in 0..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << (at % 8);
            for bad in [&flipped, &good[..at]] {
                fs::write(path(cache.path()), bad).unwrap();
                let read = Receipts::read(cache.path(), "basis".to_owned());
                assert_eq!(read, Receipts::new("basis".to_owned()), "byte {at}");
            }
        }
    }

    #[test]
    fn what_is_renewed_replaces_and_does_not_bring_back() {
        let cache = tempfile::tempdir().unwrap();
        let read = || Receipts::read(cache.path(), "basis".to_owned());
        let renew = |n: u8| {
            let newer = vec![(format!("anna-{n}").into(), receipt(99))];
            Receipts::renew(cache.path(), "basis".to_owned(), newer).unwrap();
        };
        renew(1);
        assert!(read().is_empty());
        let mut some = example();
        some.forget(&["anna-2".into()]);
        some.write(cache.path()).unwrap();
        renew(1);
        renew(2);
        assert_eq!(read().of(&"anna-1".into()), Some(&receipt(99)));
        assert_eq!(read().of(&"anna-2".into()), None);
        let _held = Lock::take(cache.path()).unwrap();
        renew(3);
        assert_eq!(read().of(&"anna-3".into()), Some(&receipt(3)));
    }

    #[test]
    fn newer_receipts_stand_before_others() {
        let mut newer = Receipts::new("basis".to_owned());
        newer.keep("anna-1".into(), receipt(99));
        newer.keep_others(example());
        assert_eq!(newer.of(&"anna-1".into()), Some(&receipt(99)));
        assert_eq!(newer.of(&"anna-2".into()), Some(&receipt(2)));
    }
}
