//! What was up to date when a run ended, in a file of its own beside the store: a run that finds
//! everything as it was then need not open the store at all. It does not know how inputs are
//! looked at or compared.
#![expect(
    clippy::disallowed_methods,
    reason = "reads, writes and removes a file of the cache"
)]

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::call::Money;
use crate::names::{NodeId, PersonaId};
use crate::store::checkpoint::checked;
use crate::store::disk::sync_folder;
use crate::store::lock::Lock;

/// The name of the file in the folder of the cache.
const NAME: &str = "receipts";

/// Another form of the file is another number: it is read as if it were not there.
const FORMAT: u32 = 2;

/// So many bases are kept: those of the newest receipts.
const MOST_BASES: usize = 16;

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
    /// True where a check refused one of them when it came ([`Receipts::drop_readmitted`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub readmitted: bool,
}

/// What receipts rest on besides their persona: the pipeline, its templates, this version of septet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// The name of all of it: with another one, a persona is not up to date.
    pub whole: String,
    /// What each node rests on. A node with the same here has its answer, whatever else was edited.
    pub nodes: BTreeMap<NodeId, Digest>,
}

/// The receipts of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    format: u32,
    /// The first is the one of now, the others are of receipts from before an edit.
    bases: Vec<Basis>,
    /// Each with the place of its basis, in the order of the personas: there may be very many, and a list
    /// takes half of what a map does.
    personas: Vec<Kept>,
}

type Kept = (PersonaId, u8, Receipt);

impl Receipts {
    /// None yet; those that are kept rest on `basis`.
    pub fn new(basis: Basis) -> Self {
        Self {
            format: FORMAT,
            bases: vec![basis],
            personas: Vec::new(),
        }
    }

    /// Reads those in the folder of a cache that rest on `basis`. A file that cannot be read or is
    /// damaged is as good as none: everything is looked at in full then.
    pub fn read(cache: &Path, basis: Basis) -> Self {
        let bytes = fs::read(path(cache)).unwrap_or_default();
        // Those that rest on anything else need not be read to their end: after an edit they are in the
        // way of the first call.
        let whole = format!("\"whole\":\"{}\"", basis.whole);
        let there = checked(&bytes).filter(|line| names(line, &whole));
        let mut receipts = Self::new(basis);
        if let Some(mut there) = there.and_then(Self::parsed) {
            let place = there.bases.iter().position(|of| *of == receipts.bases[0]);
            there
                .personas
                .retain(|(_, on, _)| Some(usize::from(*on)) == place);
            receipts.keep_others(there);
        }
        receipts
    }

    /// Reads all of them, also those from before an edit. New ones rest on `basis`.
    pub fn read_all(cache: &Path, basis: Basis) -> Self {
        let bytes = fs::read(path(cache)).unwrap_or_default();
        let mut receipts = Self::new(basis);
        if let Some(there) = checked(&bytes).and_then(Self::parsed) {
            receipts.keep_others(there);
        }
        receipts
    }

    fn parsed(line: &[u8]) -> Option<Self> {
        let read: Self = serde_json::from_slice(line).ok()?;
        let sound = read
            .personas
            .iter()
            .all(|(_, on, _)| usize::from(*on) < read.bases.len())
            && read.personas.is_sorted_by(|(one, ..), (next, ..)| one < next);
        (read.format == FORMAT && sound).then_some(read)
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
    pub fn renew(cache: &Path, basis: Basis, newer: Vec<(PersonaId, Receipt)>) -> io::Result<()> {
        let Ok(_lock) = Lock::take(cache) else {
            return Ok(());
        };
        let mut there = Self::read_all(cache, basis);
        // What was taken back meanwhile stays away.
        for (persona, receipt) in newer {
            if let Some((_, 0, old)) = there.place(&persona).map(|at| &mut there.personas[at]) {
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

    /// The receipt of a persona, if nothing that it rests on was edited since.
    pub fn of(&self, persona: &PersonaId) -> Option<&Receipt> {
        match &self.personas[self.place(persona)?] {
            (_, 0, receipt) => Some(receipt),
            _ => None,
        }
    }

    /// True if a node of a persona whose files say `content` rests on what it rested on when it had its
    /// answer: it is there.
    pub fn has_answer(&self, persona: &PersonaId, content: Digest, node: &NodeId) -> bool {
        let Some((_, on, receipt)) = self.place(persona).map(|at| &self.personas[at]) else {
            return false;
        };
        let now = self.bases[0].nodes.get(node);
        receipt.content == content && now.is_some() && self.bases[usize::from(*on)].nodes.get(node) == now
    }

    fn place(&self, persona: &PersonaId) -> Option<usize> {
        self.personas
            .binary_search_by(|(other, ..)| other.cmp(persona))
            .ok()
    }

    /// Keeps the receipts of personas of whom there is none yet.
    pub fn keep(&mut self, receipts: impl IntoIterator<Item = (PersonaId, Receipt)>) {
        let rests_on_now = |(persona, receipt)| (persona, 0, receipt);
        self.add(receipts.into_iter().map(rests_on_now).collect());
    }

    fn add(&mut self, mut others: Vec<Kept>) {
        match self.personas.is_empty() {
            true => self.personas = others,
            false => self.personas.append(&mut others),
        }
        self.personas
            .sort_unstable_by(|(one, ..), (other, ..)| one.cmp(other));
        self.personas.dedup_by(|(one, ..), (other, ..)| one == other);
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.personas.is_empty()
    }

    /// Drops those that rest on an answer that a check refused when it came. False if there are none.
    pub fn drop_readmitted(&mut self) -> bool {
        let before = self.personas.len();
        self.personas.retain(|(.., receipt)| !receipt.readmitted);
        self.personas.len() < before
    }

    /// Drops those of some personas.
    pub fn forget(&mut self, personas: &HashSet<PersonaId>) {
        self.personas.retain(|(persona, ..)| !personas.contains(persona));
    }

    /// Drops those of whom `is_there` denies.
    pub fn retain(&mut self, is_there: impl Fn(&PersonaId) -> bool) {
        self.personas.retain(|(persona, ..)| is_there(persona));
    }

    /// Adds those of `others` that are of nobody here.
    pub fn keep_others(&mut self, mut others: Self) {
        others
            .personas
            .retain(|(persona, ..)| self.place(persona).is_none());
        let mut used = vec![false; others.bases.len()];
        for (_, on, _) in &others.personas {
            used[usize::from(*on)] = true;
        }
        let place = |(basis, used): (Basis, bool)| {
            let there = self.bases.iter().position(|other| *other == basis);
            let place = match there {
                None if used && self.bases.len() < MOST_BASES => {
                    self.bases.push(basis);
                    Some(self.bases.len() - 1)
                }
                there => there,
            };
            place.and_then(|place| u8::try_from(place).ok())
        };
        let places: Vec<Option<u8>> = others.bases.into_iter().zip(used).map(place).collect();
        let with_place = |(persona, on, receipt): Kept| Some((persona, places[usize::from(on)]?, receipt));
        self.add(others.personas.into_iter().filter_map(with_place).collect());
    }
}

/// True if what stands before the personas names `whole`.
fn names(line: &[u8], whole: &str) -> bool {
    let find = |text: &[u8], what: &str| text.windows(what.len()).position(|part| part == what.as_bytes());
    let end = find(line, "\"personas\":[").unwrap_or(0);
    find(&line[..end], whole).is_some()
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
mod tests;
