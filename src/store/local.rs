//! The store of one machine: the journal makes an entry durable, the trees answer look-ups, and
//! between the two lies the backlog. This file says how a look-up is answered from the three; how
//! they work, and how they are opened, is written elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use sled::IVec;

use crate::call::{Delivery, Key, Rejection};
use crate::events::History;
use crate::names::{Instance, PersonaId, RunId};
use crate::store::backlog::Backlog;
use crate::store::disk::{Disk, RealDisk};
use crate::store::filler::Filler;
use crate::store::lock::Lock;
use crate::store::looked::{self, Numbered, Older};
use crate::store::mend::{Mended, Search};
use crate::store::notice::{Notice, Progress};
use crate::store::open::{self, JOURNAL, STORE};
use crate::store::put::{self, Gist, Shelf};
use crate::store::reader::{Entries, Reader};
use crate::store::record::{Entry, Record, Sent, TranscriptNote};
use crate::store::segment::{self, Position};
use crate::store::shelves::Value;
use crate::store::source::{Source, SourceId};
use crate::store::spending::Spending;
use crate::store::trees::Trees;
use crate::store::writer::{Piece, Writer};
use crate::store::{Done, Looked, Miss, Placed, Safety, Store, StoreError, frame};

/// So many runs are looked at for what answers are like; what was before is no guide any more.
const HISTORY_RUNS: usize = 100;

/// The store in a cache folder. Dropped without [`LocalStore::close`] it loses nothing, but the
/// next open takes longer.
pub struct LocalStore {
    // In the order in which they have to end.
    writer: Writer,
    filler: Filler,
    view: View,
    unfinished: Vec<Sent>,
    spending: Spending,
    /// Runs that earlier processes began and did not end, and from where on to look for them.
    begun: BTreeMap<RunId, Position>,
    lock: Lock,
}

/// What can be chosen about a local store; the defaults are right for everything but tests.
#[derive(Clone)]
pub struct Settings {
    /// The size at which a file of the journal is followed by the next one, in bytes.
    pub segment_bytes: u64,
    /// How often the trees are made durable, and how long an entry that nobody waits for stays
    /// without a sync.
    pub flush_every: Duration,
    /// How long sled may take to open a small store.
    pub open_limit: Duration,
    /// What the journal is written to.
    pub disk: Arc<dyn Disk>,
    /// Whose months what was paid is summed up by.
    pub zone: TimeZone,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            flush_every: Duration::from_secs(5),
            open_limit: Duration::from_secs(60),
            disk: Arc::new(RealDisk),
            zone: TimeZone::system(),
        }
    }
}

/// How much there is in a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Answers that may be served; replaced ones are not counted.
    pub answers: u64,
    /// Rejected answers.
    pub rejected: u64,
    /// Transcripts that were written.
    pub transcripts: u64,
    /// Runs that ended.
    pub runs: u64,
    /// Files of the journal.
    pub journal_files: u64,
    /// Their size.
    pub journal_bytes: u64,
    /// The size of the look-up trees on the disk.
    pub tree_bytes: u64,
}

/// What look-ups read.
struct View {
    cache: PathBuf,
    trees: Arc<Trees>,
    backlog: Arc<Backlog>,
    mended: Mended,
}

impl LocalStore {
    /// Opens the store in a cache folder, which is made if there is none. Blocking: usually some
    /// ten milliseconds; `progress` is told when it takes longer.
    ///
    /// # Errors
    /// [`StoreError::Held`] if another process has it open, [`StoreError::Newer`] if a newer septet
    /// wrote it (nothing is changed then), or if files cannot be read or written. Damage is no
    /// error: what was done about it is in the notices.
    pub fn open(cache: &Path, progress: impl FnMut(Progress)) -> Result<(Self, Vec<Notice>), StoreError> {
        Self::open_with(cache, &Settings::default(), progress)
    }

    /// Opens a store with settings of one's own.
    ///
    /// # Errors
    /// As for [`LocalStore::open`].
    pub fn open_with(
        cache: &Path,
        settings: &Settings,
        progress: impl FnMut(Progress),
    ) -> Result<(Self, Vec<Notice>), StoreError> {
        Self::open_locked(open::lock(cache)?, cache, settings, progress)
    }

    /// Opens a store whose lock is held already.
    pub(super) fn open_locked(
        lock: Lock,
        cache: &Path,
        settings: &Settings,
        mut progress: impl FnMut(Progress),
    ) -> Result<(Self, Vec<Notice>), StoreError> {
        let opened = open::open(lock, cache, settings, &mut progress)?;
        let unfinished = opened.level.attempts.calls();
        let spending = opened.level.spending.clone();
        let spending = spending.with_unfinished(&unfinished, &settings.zone);
        let begun = opened.level.attempts.runs().clone();
        let next_seq = opened.level.next_seq;
        let trees = Arc::new(opened.trees);
        let backlog = Arc::new(Backlog::new(trees.have_marks()?));
        let every = settings.flush_every;
        let no_thread = |source: io::Error| StoreError::io("start a thread for", cache, source);
        let filler = Filler::start(trees.clone(), backlog.clone(), opened.level, every).map_err(no_thread)?;
        let writer = Writer::start(opened.journal, next_seq, trees.clone(), backlog.clone(), every)
            .map_err(no_thread)?;
        let store = Self {
            writer,
            filler,
            view: View {
                cache: cache.to_owned(),
                trees,
                backlog,
                mended: Mended::default(),
            },
            unfinished,
            spending,
            begun,
            lock: opened.lock,
        };
        Ok((store, opened.notices))
    }

    /// Writes everything that is under way, makes the trees durable and marks the end as clean,
    /// so that the next open has nothing to check. Blocking.
    ///
    /// # Errors
    /// If any of it fails. What was reported as stored is in the journal all the same.
    pub fn close(self) -> Result<(), StoreError> {
        self.end().map(drop)
    }

    /// Closes it and goes on to hold its lock.
    pub(super) fn end(self) -> Result<Lock, StoreError> {
        let Self {
            writer,
            filler,
            view,
            unfinished: _,
            spending: _,
            begun: _,
            lock,
        } = self;
        let written = writer.finish();
        let checkpoint = filler.finish();
        written?;
        match Arc::into_inner(view.trees) {
            Some(trees) => trees.close(checkpoint?)?,
            None => drop(checkpoint?),
        }
        Ok(lock)
    }

    /// The file of the journal that is written to, where it is not in its place any more: somebody
    /// moved or deleted it, or a folder above it.
    pub fn missing(&self) -> Option<PathBuf> {
        let path = segment::path(&self.view.cache.join(JOURNAL), self.writer.written().segment);
        // What cannot be looked at is not gone.
        matches!(path.try_exists(), Ok(false)).then_some(path)
    }

    /// True once somebody else has changed the file of the journal that is written to: what it lost is
    /// served from the trees.
    pub fn is_disturbed(&self) -> bool {
        self.writer.is_disturbed()
    }

    /// The folder.
    pub(super) fn cache(&self) -> &Path {
        &self.view.cache
    }

    /// The answer that was stored last under a key, whatever a refresh says.
    ///
    /// # Errors
    /// If the store does not work.
    pub fn stored(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let Some(value) = self.view.get(Shelf::Answers, key.as_bytes())? else {
            return Ok(None);
        };
        match answer(&value, key) {
            Ok((_, record)) => Ok(Some(record)),
            Err(reason) => Ok(self.mend(key, reason)?.ok().map(|(_, record)| record)),
        }
    }

    /// Up to so many of the answers that may be served, picked by chance and always the same: those
    /// whose keys, which are hashes, come first. Damaged ones are left out, and those that were
    /// stored in the last moments.
    ///
    /// # Errors
    /// If the store does not work.
    pub fn sample(&self, most: usize) -> Result<Vec<Record>, StoreError> {
        let values = self.view.trees.page(Shelf::Answers, None, most)?;
        let read = |(key, value): &(Vec<u8>, Value)| {
            let key: [u8; 32] = key.as_slice().try_into().ok()?;
            answer(value, &Key::from(key)).ok().map(|(_, record)| record)
        };
        Ok(values.iter().filter_map(read).collect())
    }

    /// The number of the entry that was stored last as the answer to a request, if there is one
    /// that can be read.
    ///
    /// # Errors
    /// If the store does not work.
    pub fn newest(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        let value = self.view.get(Shelf::Answers, key.as_bytes())?;
        Ok(value.and_then(|value| frame::parse_whole(&value).ok().map(|frame| frame.seq)))
    }

    /// Rejected answers to a request, oldest first: evidence, never served.
    ///
    /// # Errors
    /// If the store does not work.
    pub fn rejected(&self, key: &Key) -> Result<Vec<(Record, Rejection)>, StoreError> {
        let values = self.view.with_prefix(Shelf::Rejected, key.as_bytes())?;
        let entries = values.values().map(|value| self.view.entry(value));
        entries
            .filter_map(|entry| match entry {
                Ok(Entry::Rejected { record, rejection }) => Some(Ok((record, rejection))),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            })
            .collect()
    }

    /// The summaries of all runs that ended ([`Entry::Run`]), oldest first.
    ///
    /// # Errors
    /// If the store does not work.
    pub fn runs(&self) -> Result<Vec<Entry>, StoreError> {
        let runs = self.runs_in_order()?;
        runs.iter().map(|run| self.view.entry(run)).collect()
    }

    /// The summary of the run that ended last.
    pub(super) fn last_run(&self) -> Result<Option<Entry>, StoreError> {
        let runs = self.runs_in_order()?;
        runs.last().map(|run| self.view.entry(run)).transpose()
    }

    /// As they ended: their names sort by time, which may have been set back. Not unpacked, since mostly
    /// a few of very many are wanted.
    fn runs_in_order(&self) -> Result<Vec<Value>, StoreError> {
        let values = self.view.with_prefix(Shelf::Runs, &[])?;
        let mut runs: Vec<(u64, Value)> = values
            .into_values()
            .map(|value| Ok((self.view.seq(&value)?, value)))
            .collect::<Result<_, StoreError>>()?;
        runs.sort_by_key(|(seq, _)| *seq);
        Ok(runs.into_iter().map(|(_, run)| run).collect())
    }

    /// What the answers of earlier runs were like, by node and model: of the newest runs, as far
    /// back as it takes to know enough.
    ///
    /// # Errors
    /// If the store does not work.
    pub fn history(&self) -> Result<History, StoreError> {
        let mut history = History::default();
        for run in self.runs_in_order()?.iter().rev().take(HISTORY_RUNS) {
            if let Entry::Run {
                account: Some(account),
                ..
            } = self.view.entry(run)?
            {
                for (model, calls, faults) in account.calls() {
                    history.add_older_calls(model, calls, faults);
                }
                history.add_older(account.nodes);
                history.add_older_reserved(account.reserved_limits);
            }
        }
        Ok(history)
    }

    /// The calls ([`Entry::Attempt`]) that earlier processes began and whose end the journal does
    /// not have: they may have been billed. Each is listed until an [`Entry::Fault`] with `kind:
    /// None` (or another end) is stored for it.
    pub fn unfinished(&self) -> &[Sent] {
        &self.unfinished
    }

    /// True for one of them.
    pub fn is_unfinished(&self, sent: &Sent) -> bool {
        let same = |open: &&Sent| {
            (&open.run, &open.instance, open.attempt) == (&sent.run, &sent.instance, sent.attempt)
        };
        self.unfinished.iter().any(|open| same(&open))
    }

    /// Those of them whose answers can still be fetched, by the key of their request, the newest
    /// last.
    pub fn fetchable(&self) -> HashMap<Key, Vec<Sent>> {
        let with_a_job = self.unfinished.iter().filter(|sent| sent.job.is_some());
        let mut fetchable: HashMap<Key, Vec<Sent>> = HashMap::new();
        for sent in with_a_job {
            fetchable.entry(sent.key).or_default().push(sent.clone());
        }
        for jobs in fetchable.values_mut() {
            jobs.sort_by_key(|sent| sent.at_ms);
        }
        fetchable
    }

    /// What was paid up to the moment this store was opened, by every process that had it open
    /// before; calls without an end count with what was reserved for them.
    pub fn spending(&self) -> &Spending {
        &self.spending
    }

    /// True if earlier processes began runs and did not end them.
    pub fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    pub(super) fn begun(&self) -> &BTreeMap<RunId, Position> {
        &self.begun
    }

    pub(super) fn has(&self, shelf: Shelf, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.view.get(shelf, key)?.is_some())
    }

    /// Everything that the journal says, in order, up to what is written now.
    ///
    /// # Errors
    /// If its folder cannot be read.
    pub fn entries(&self) -> Result<Entries, StoreError> {
        Ok(Entries::new(self.reader(None)?))
    }

    /// The journal from a place on up to what is written now.
    pub(super) fn reader(&self, begin: Option<Position>) -> Result<Reader, StoreError> {
        let begin = begin.unwrap_or(Position {
            segment: 0,
            offset: 0,
        });
        let segments = segment::list(&self.view.cache.join(JOURNAL))?;
        let end = self.writer.written();
        Ok(Reader::new(segments, begin, Some(end)))
    }

    /// Counts what there is. Entries that were stored in the last moments may be missing.
    ///
    /// # Errors
    /// If folders cannot be read.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let journal = segment::list(&self.view.cache.join(JOURNAL))?;
        let count = |shelf| self.view.trees.count(shelf);
        Ok(Stats {
            answers: count(Shelf::Answers),
            rejected: count(Shelf::Rejected),
            transcripts: count(Shelf::Notes),
            runs: count(Shelf::Runs),
            journal_files: journal.len() as u64,
            journal_bytes: journal.iter().map(|segment| segment.len).sum(),
            tree_bytes: bytes_in(&self.view.cache.join(STORE))?,
        })
    }

    fn piece(&self, entry: &Entry) -> Result<Piece, StoreError> {
        let frame = frame::encode(entry).map_err(|message| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, format!("an entry {message}"));
            StoreError::io("write", &self.view.cache.join(JOURNAL), source)
        })?;
        let gist = Gist::from(entry);
        Ok(Piece { gist, frame })
    }

    /// Appends an entry that is encoded already; what it returns waits until it is written.
    pub(super) fn append_frame(
        &self,
        entry: &Entry,
        frame: IVec,
    ) -> impl Future<Output = Result<(), StoreError>> + use<> {
        let (done, told) = Done::wait();
        let gist = Gist::from(entry);
        self.writer
            .append(vec![Piece { gist, frame }], Safety::Written, done);
        told
    }

    /// Where the trees have a damaged record: the intact one of the journal, or the miss.
    fn mend(&self, key: &Key, reason: String) -> Result<Result<(u64, Record), Miss>, StoreError> {
        let journal = self.view.cache.join(JOURNAL);
        let trees = &self.view.trees;
        // What sled got wrong once it may get wrong again.
        trees.distrust();
        match self.view.mended.search(&journal, self.writer.written(), key)? {
            Search::Intact(frame) => Ok(answer(&frame, key).map_err(Miss::Damaged)),
            Search::Nothing => Ok(Err(Miss::Damaged(reason))),
            Search::TooMany => {
                Err(trees.give_up("many records are damaged: start again to rebuild it".to_owned()))
            }
        }
    }
}

#[async_trait]
impl Store for LocalStore {
    fn look(&self, instance: &Instance, key: &Key, bounds: &Delivery) -> Result<Looked, StoreError> {
        // The mark first: it ends only after its new answer can be seen.
        let mark = self.view.mark(instance)?;
        let found = match self.view.get(Shelf::Answers, key.as_bytes())? {
            None => None,
            Some(value) => Some(match answer(&value, key) {
                Ok(found) => Ok(found),
                Err(reason) => self.mend(key, reason)?,
            }),
        };
        let answer = match found.transpose() {
            Ok(answer) => answer,
            Err(miss) => return Ok(Looked::Miss(miss)),
        };
        looked::decide(answer, mark, bounds, &OlderOf { store: self, key })
    }

    fn transcript(&self, persona: &PersonaId) -> Result<Option<TranscriptNote>, StoreError> {
        let Some(value) = self.view.get(Shelf::Notes, persona.as_str().as_bytes())? else {
            return Ok(None);
        };
        match self.view.entry(&value)? {
            Entry::Transcript { persona: other, note } if other == *persona => Ok(Some(note)),
            _ => Err(self.view.wrong("another entry stands in place of a transcript's")),
        }
    }

    fn has_source(&self, id: &SourceId) -> Result<bool, StoreError> {
        self.has(Shelf::Sources, id.as_bytes())
    }

    fn source(&self, id: &SourceId) -> Result<Option<Source>, StoreError> {
        let Some(value) = self.view.get(Shelf::Sources, id.as_bytes())? else {
            return Ok(None);
        };
        match self.view.entry(&value)? {
            Entry::Source { source, .. } => Ok(Some(source)),
            _ => Err(self.view.wrong("another entry stands in place of a source")),
        }
    }

    fn calls(&self, instance: &Instance) -> Result<Vec<Placed<Entry>>, StoreError> {
        let prefix = put::calls_prefix(instance);
        let values = self.view.with_prefix(Shelf::Calls, &prefix)?;
        values.values().map(|value| self.view.placed(value)).collect()
    }

    fn answers(&self, key: &Key) -> Result<Vec<Placed<Record>>, StoreError> {
        // In the order in which an answer moves that is replaced meanwhile.
        let leaving = self.view.backlog.with_prefix(Shelf::Replaced, key.as_bytes());
        let newest = self.view.get(Shelf::Answers, key.as_bytes())?;
        let in_trees = self.view.trees.get(Shelf::Answers, key.as_bytes())?;
        let replaced = self.view.trees.with_prefix(Shelf::Replaced, key.as_bytes())?;
        let leaving = leaving.into_iter().map(|(_, frame)| Value::Stored(frame));
        let mut answers: BTreeMap<u64, Record> = leaving
            .chain(replaced.into_values())
            .chain(in_trees)
            .filter_map(|value| answer(&value, key).ok())
            .collect();
        if let Some(value) = newest {
            let newest = match answer(&value, key) {
                Ok(found) => Ok(found),
                Err(reason) => self.mend(key, reason)?,
            };
            answers.extend(newest);
        }
        let placed = answers.into_iter().map(|(seq, what)| Placed { seq, what });
        Ok(placed.collect())
    }

    fn refused(&self, key: &Key) -> Result<Vec<Placed<Record>>, StoreError> {
        let rejected = self.view.rejected(key)?.into_iter();
        let refused = rejected.filter(|(_, (_, rejection))| rejection.is_by_check());
        Ok(refused.map(|(seq, (what, _))| Placed { seq, what }).collect())
    }

    fn append(&self, entries: &[Entry], safety: Safety, done: Done) {
        match entries.iter().map(|entry| self.piece(entry)).collect() {
            Ok(pieces) => self.writer.append(pieces, safety, done),
            Err(error) => done.tell(Err(error)),
        }
    }
}

impl View {
    /// What was stored last under a key: in the backlog, or else in the trees. In this order, or
    /// an entry that moves from one to the other could be missed.
    fn get(&self, shelf: Shelf, key: &[u8]) -> Result<Option<Value>, StoreError> {
        if let Some(failure) = self.trees.failure() {
            return Err(failure);
        }
        match self.backlog.get(shelf, key) {
            Some(frame) => Ok(Some(Value::Stored(frame))),
            None => self.trees.get(shelf, key),
        }
    }

    fn with_prefix(&self, shelf: Shelf, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, Value>, StoreError> {
        let pending = self.backlog.with_prefix(shelf, prefix);
        let mut values = match self.trees.count(shelf) {
            // Nearly always so for bad answers, which each look-up that finds nothing asks for.
            0 => BTreeMap::new(),
            _ => self.trees.with_prefix(shelf, prefix)?,
        };
        values.extend(
            pending
                .into_iter()
                .map(|(key, frame)| (key, Value::Stored(frame))),
        );
        Ok(values)
    }

    /// The sequence number of an instance's mark, if it has one that has not ended.
    fn mark(&self, instance: &Instance) -> Result<Option<u64>, StoreError> {
        if !self.backlog.have_marks() {
            return Ok(None);
        }
        let Some(value) = self.get(Shelf::Marks, &put::mark_key(instance))? else {
            return Ok(None);
        };
        let frame = frame::parse_whole(&value).map_err(|reason| self.wrong(&reason))?;
        Ok((!frame.is_empty()).then_some(frame.seq))
    }

    /// The bad answers to a request. A record of the trees that cannot be read is passed over: it
    /// is evidence and no answer, and the next open builds it again.
    fn rejected(&self, key: &Key) -> Result<Vec<Numbered<(Record, Rejection)>>, StoreError> {
        let mut all = Vec::new();
        for value in self.with_prefix(Shelf::Rejected, key.as_bytes())?.values() {
            let read = frame::parse_whole(value).and_then(|frame| Ok((frame.seq, frame.entry()?)));
            match read {
                Ok((seq, Entry::Rejected { record, rejection })) => {
                    all.push((seq, (record, rejection)));
                }
                Ok(_) | Err(_) => self.trees.distrust(),
            }
        }
        Ok(all)
    }

    /// An entry of the trees that is no answer. Damage to one is damage to the trees, since
    /// nothing was paid for it: the next open builds them again.
    fn entry(&self, value: &Value) -> Result<Entry, StoreError> {
        let entry = frame::parse_whole(value).and_then(|frame| frame.entry());
        entry.map_err(|reason| self.wrong(&reason))
    }

    /// The number of an entry, which stands before what is packed.
    fn seq(&self, value: &Value) -> Result<u64, StoreError> {
        let frame = frame::parse_whole(value).map_err(|reason| self.wrong(&reason))?;
        Ok(frame.seq)
    }

    fn placed(&self, value: &Value) -> Result<Placed<Entry>, StoreError> {
        let frame = frame::parse_whole(value).map_err(|reason| self.wrong(&reason))?;
        let what = frame.entry().map_err(|reason| self.wrong(&reason))?;
        Ok(Placed { seq: frame.seq, what })
    }

    fn wrong(&self, reason: &str) -> StoreError {
        self.trees.give_up(format!(
            "a record is damaged ({reason}): start again to rebuild it"
        ))
    }
}

/// What lies in a store beside the newest answer to a request.
struct OlderOf<'a> {
    store: &'a LocalStore,
    key: &'a Key,
}

impl Older<StoreError> for OlderOf<'_> {
    fn rejected(&self) -> Result<Vec<Numbered<(Record, Rejection)>>, StoreError> {
        self.store.view.rejected(self.key)
    }

    fn replaced(&self) -> Result<Vec<Numbered<Record>>, StoreError> {
        let answers = self.store.answers(self.key)?.into_iter();
        Ok(answers.map(|answer| (answer.seq, answer.what)).collect())
    }
}

/// Decodes the answer to `key`, and says when it was stored.
///
/// # Errors
/// In words, why it cannot be served.
fn answer(value: &[u8], key: &Key) -> Result<(u64, Record), String> {
    let frame = frame::parse_whole(value)?;
    match frame.entry()? {
        Entry::Answer(record) if record.key == *key => Ok((frame.seq, record)),
        Entry::Answer(record) => Err(format!("it is the answer to `{}`", record.key.short())),
        _ => Err("it is no answer".to_owned()),
    }
}

/// The size of all files in a folder.
fn bytes_in(folder: &Path) -> Result<u64, StoreError> {
    let failed = |source| StoreError::io("read", folder, source);
    let mut bytes = 0;
    for file in std::fs::read_dir(folder).map_err(failed)? {
        let file = file.map_err(failed)?;
        bytes += match file.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_in(&file.path())?,
            Ok(metadata) => metadata.len(),
            // sled removes files of its own while it runs.
            Err(_) => 0,
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
