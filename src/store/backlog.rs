//! What the journal has and the trees have not yet: a queue for the filler, and a view for those
//! who look. Bounded: whoever hands over more than the filler can take waits. It does not know
//! the journal nor the trees.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sled::IVec;

use crate::store::put::{self, Put, Shelf, Written};
use crate::store::segment::Position;

/// How many bytes of frames may wait for the filler.
const BYTES: usize = 8 << 20;

/// How many entries may wait for the filler.
const ENTRIES: usize = 2048;

/// The queue between the writer and the filler.
pub(super) struct Backlog {
    state: Mutex<State>,
    /// Something changed: a batch came or went, or the end.
    changed: Condvar,
    /// False until a mark is held for the first time: spares every look-up one question.
    marks: AtomicBool,
}

#[derive(Default)]
struct State {
    /// What look-ups find, whether queued or still waiting for its sync.
    view: [BTreeMap<Vec<u8>, Shown>; Shelf::ALL.len()],
    queue: VecDeque<Batch>,
    /// Of the queue and of the batch that the filler is at.
    bytes: usize,
    entries: usize,
    /// Batches that were taken in, to see whether the filler still moves.
    filled: u64,
    end: Option<End>,
}

/// A value that look-ups find here.
struct Shown {
    seq: u64,
    frame: IVec,
}

/// How the filling ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// After everything that is queued.
    Drain,
    /// At once: the journal has what is left.
    Abandon,
}

/// Synced entries on their way into the trees.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Written>,
    /// The first byte of the journal behind them, and the next sequence number.
    pub(super) end: Option<(Position, u64)>,
}

/// What the filler does next.
#[derive(Debug)]
pub(super) enum Next {
    Fill(Batch),
    /// Nothing came before the deadline.
    Wait,
    End(End),
}

impl Batch {
    fn bytes(&self) -> usize {
        self.entries.iter().map(|written| written.frame.len()).sum()
    }
}

impl Backlog {
    /// `marks`: whether there is a mark in the trees.
    pub(super) fn new(marks: bool) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            marks: marks.into(),
        }
    }

    /// True once any instance was ever marked.
    pub(super) fn have_marks(&self) -> bool {
        self.marks.load(Ordering::Acquire)
    }

    /// Lets look-ups see entries. They stay until their batch is [`Backlog::filled`].
    pub(super) fn show(&self, entries: &[Written]) {
        let mut state = self.lock();
        for put in entries.iter().flat_map(|written| &written.puts) {
            if put.shelf == Shelf::Marks && !self.concerns_a_mark(put) {
                continue;
            }
            let (seq, frame) = (put.seq, put.value());
            let before = state.on(put.shelf).insert(put.key.clone(), Shown { seq, frame });
            // An answer stays where one is looked for that was replaced, as it will in the trees.
            if let Some(before) = before.filter(|_| put.shelf == Shelf::Answers) {
                let key = put::numbered(&put.key, before.seq);
                state.on(Shelf::Replaced).insert(key, before);
            }
        }
    }

    fn concerns_a_mark(&self, put: &Put) -> bool {
        if !put.ends_a_mark() {
            self.marks.store(true, Ordering::Release);
        }
        self.have_marks()
    }

    /// The value under a key, if it is on its way.
    pub(super) fn get(&self, shelf: Shelf, key: &[u8]) -> Option<IVec> {
        let state = self.lock();
        let shown = state.view[shelf as usize].get(key)?;
        Some(shown.frame.clone())
    }

    /// All values on their way whose keys begin with `prefix`.
    pub(super) fn with_prefix(&self, shelf: Shelf, prefix: &[u8]) -> Vec<(Vec<u8>, IVec)> {
        let state = self.lock();
        let from = state.view[shelf as usize].range(prefix.to_vec()..);
        from.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, shown)| (key.clone(), shown.frame.clone()))
            .collect()
    }

    /// Hands a batch to the filler. Waits while that has enough to do, but not for one that has
    /// ended.
    ///
    /// # Errors
    /// If the filler takes in nothing for `patience`.
    pub(super) fn hand_over(&self, batch: Batch, patience: Duration) -> Result<(), Stuck> {
        let mut state = self.lock();
        let mut moved = (state.filled, Instant::now());
        while state.is_full() {
            let left = patience.checked_sub(moved.1.elapsed()).ok_or(Stuck)?;
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            if state.filled != moved.0 {
                moved = (state.filled, Instant::now());
            }
        }
        if state.end.is_none() {
            state.bytes += batch.bytes();
            state.entries += batch.entries.len();
            state.queue.push_back(batch);
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Waits for a batch, but not longer than to `deadline`.
    pub(super) fn next(&self, deadline: Option<Instant>) -> Next {
        let mut state = self.lock();
        loop {
            if state.end == Some(End::Abandon) {
                return Next::End(End::Abandon);
            }
            if let Some(batch) = state.queue.pop_front() {
                return Next::Fill(batch);
            }
            if let Some(end) = state.end {
                return Next::End(end);
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return Next::Wait,
                Some(left) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// The trees have all of a batch: look-ups go there from now on.
    pub(super) fn filled(&self, batch: &Batch) {
        let mut state = self.lock();
        for put in batch.entries.iter().flat_map(|written| &written.puts) {
            let replaced = state.on(Shelf::Replaced);
            if put.shelf == Shelf::Answers && !replaced.is_empty() {
                replaced.remove(&put::numbered(&put.key, put.seq));
            }
            let view = state.on(put.shelf);
            if view.get(&put.key).is_some_and(|shown| shown.seq == put.seq) {
                view.remove(&put.key);
            }
        }
        state.bytes -= batch.bytes();
        state.entries -= batch.entries.len();
        state.filled += 1;
        self.changed.notify_all();
    }

    /// Ends the filling. What is handed over after this goes nowhere.
    pub(super) fn end(&self, end: End) {
        let mut state = self.lock();
        state.end = Some(end);
        if end == End::Abandon {
            state.queue.clear();
            state.view = Default::default();
        }
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn on(&mut self, shelf: Shelf) -> &mut BTreeMap<Vec<u8>, Shown> {
        &mut self.view[shelf as usize]
    }

    fn is_full(&self) -> bool {
        self.end.is_none() && self.entries > 0 && (self.bytes > BYTES || self.entries > ENTRIES)
    }
}

/// The filler takes in nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stuck;

#[cfg(test)]
mod tests;
