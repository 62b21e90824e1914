//! Reads the journal from a place on to its end, segment by segment, and steps over what is
//! damaged. It changes nothing and knows nothing of what is built from it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::call::Key;
use crate::store::StoreError;
use crate::store::record::Entry;
use crate::store::segment::{self, Found, Position, Segment};

/// A walk through the journal. Holds one segment in memory.
pub(super) struct Reader {
    /// Those to come.
    segments: VecDeque<Segment>,
    /// Where to begin in the first of them; behind its start only once.
    begin: Position,
    /// Where to stop, if not at the end.
    end: Option<Position>,
    current: Current,
}

/// The segment that is being read.
#[derive(Default)]
struct Current {
    number: u32,
    path: PathBuf,
    /// What was read of it, from `base` on.
    bytes: Vec<u8>,
    base: u64,
    at: usize,
}

/// Something in the journal and where it stands.
pub(super) struct Place<'a> {
    pub(super) at: Position,
    /// The first byte behind it.
    pub(super) end: Position,
    pub(super) path: &'a Path,
    pub(super) found: Found<'a>,
}

impl Reader {
    /// Reads `segments`, sorted by number, from `begin` on.
    pub(super) fn new(segments: Vec<Segment>, begin: Position, end: Option<Position>) -> Self {
        let wanted = |segment: &Segment| {
            segment.number >= begin.segment && end.is_none_or(|end| segment.number <= end.segment)
        };
        Self {
            segments: segments.into_iter().filter(wanted).collect(),
            begin,
            end,
            current: Current::default(),
        }
    }

    /// How many bytes there are to read.
    pub(super) fn len(&self) -> u64 {
        let all: u64 = self.segments.iter().map(|segment| segment.len).sum();
        let first = self
            .segments
            .front()
            .filter(|first| first.number == self.begin.segment);
        all - first.map_or(0, |first| self.begin.offset.min(first.len))
    }

    /// The next frame or damage; `None` at the end.
    ///
    /// # Errors
    /// If a file cannot be read or only a newer septet can.
    pub(super) fn next(&mut self) -> Result<Option<Place<'_>>, StoreError> {
        while self.current.at >= self.current.bytes.len() {
            let Some(segment) = self.segments.pop_front() else {
                return Ok(None);
            };
            if let Some(len) = self.load(segment)? {
                let found = Found::Damage { len, key: None };
                return Ok(Some(self.current.place(0, found)));
            }
        }
        let at = self.current.at;
        let (found, next) = segment::scan(&self.current.bytes, at).expect("BUG: there are bytes left");
        if let Found::Newer { version } = found {
            return Err(segment::newer(&self.current.path, u32::from(version)));
        }
        self.current.at = next;
        Ok(Some(self.current.place(at, found)))
    }

    /// Reads a segment into memory. Returns the length of its header where that is damaged.
    fn load(&mut self, segment: Segment) -> Result<Option<usize>, StoreError> {
        let base = match self.begin {
            begin if begin.segment == segment.number => begin.offset,
            _ => 0,
        };
        let end = self.end.filter(|end| end.segment == segment.number);
        let bytes = read(&segment.path, base, end.map(|end| end.offset))
            .map_err(|source| StoreError::io("read", &segment.path, source))?;
        let mut damaged = None;
        let mut at = 0;
        if base == 0 {
            at = segment::HEADER.min(bytes.len());
            let right = segment::check_header(&segment.path, &bytes)?;
            damaged = (!right && at > 0).then_some(at);
        }
        self.current = Current {
            number: segment.number,
            path: segment.path,
            bytes,
            base,
            at,
        };
        Ok(damaged)
    }
}

impl Current {
    fn place<'a>(&'a self, at: usize, found: Found<'a>) -> Place<'a> {
        let len = match found {
            Found::Frame { bytes, .. } => bytes.len(),
            Found::Damage { len, .. } => len,
            Found::Newer { .. } => 0,
        };
        let position = |at: usize| Position {
            segment: self.number,
            offset: self.base + at as u64,
        };
        Place {
            at: position(at),
            end: position(at + len),
            path: &self.path,
            found,
        }
    }
}

/// The bytes of a file from one place to another, or to its end.
fn read(path: &Path, from: u64, to: Option<u64>) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    let limit = to.map_or(u64::MAX, |to| to.saturating_sub(from));
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An entry as the journal has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    /// Where it stands.
    pub at: Position,
    /// Counts up over the whole life of a store; numbers may be left out.
    pub seq: u64,
    /// How many bytes it takes up.
    pub len: u64,
    /// What it says.
    pub entry: Entry,
}

/// A place in the journal that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes from its start.
    pub offset: u64,
    /// How many bytes it takes up.
    pub len: u64,
    /// The answer that stood there, where that can still be told.
    pub key: Option<Key>,
    /// What is wrong.
    pub reason: String,
}

/// All entries of the journal in order, damage included.
pub struct Entries {
    reader: Reader,
    ended: bool,
}

/// What [`Entries`] yields: an entry or a place that cannot be read.
pub type Line = Result<Logged, Damage>;

impl Entries {
    pub(super) fn new(reader: Reader) -> Self {
        let ended = false;
        Self { reader, ended }
    }
}

impl Iterator for Entries {
    type Item = Result<Line, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let line = self.reader.next().map(|place| place.map(|place| place.line()));
        self.ended = !matches!(line, Ok(Some(_)));
        line.transpose()
    }
}

impl Place<'_> {
    /// How many bytes it takes up.
    pub(super) fn len(&self) -> u64 {
        self.end.offset - self.at.offset
    }

    /// Decodes what was found.
    ///
    /// # Errors
    /// Where it cannot be read: which place, and why.
    pub(super) fn line(&self) -> Line {
        let (key, reason) = match &self.found {
            Found::Frame { frame, .. } => match frame.entry() {
                Ok(entry) => {
                    return Ok(Logged {
                        at: self.at,
                        seq: frame.seq,
                        len: self.len(),
                        entry,
                    });
                }
                Err(reason) => (frame.key(), reason),
            },
            Found::Damage { .. } if self.at.offset == 0 => {
                (None, "the header of the file is damaged".to_owned())
            }
            Found::Damage { key, .. } => (*key, "checksum does not match".to_owned()),
            Found::Newer { version } => (None, format!("has the newer format {version}")),
        };
        Err(Damage {
            path: self.path.to_owned(),
            offset: self.at.offset,
            len: self.len(),
            key,
            reason,
        })
    }
}
