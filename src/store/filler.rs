//! The thread that fills the trees from the backlog, flushes them every few seconds and then moves
//! the checkpoint. It does not know the journal's files nor who waits for what.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;

use crate::store::StoreError;
use crate::store::attempts::Attempts;
use crate::store::backlog::{Backlog, Batch, End, Next};
use crate::store::checkpoint::{self, Checkpoint};
use crate::store::put::Written;
use crate::store::record::Entry;
use crate::store::segment::Position;
use crate::store::spending::Spending;
use crate::store::trees::Trees;

/// How far the trees are, in terms of the journal.
#[derive(Clone, Debug)]
pub(super) struct Level {
    /// Everything before it is in the trees.
    pub(super) position: Position,
    /// The sequence number of the next entry.
    pub(super) next_seq: u64,
    /// Calls without an end before `position`.
    pub(super) attempts: Attempts,
    /// What was paid before `position`.
    pub(super) spending: Spending,
    /// Where its months begin and end.
    pub(super) zone: TimeZone,
}

impl Level {
    /// Takes one entry of the journal into the trees.
    ///
    /// # Errors
    /// If they fail.
    pub(super) fn fill(&mut self, trees: &Trees, written: &Written) -> Result<(), StoreError> {
        written.puts.iter().try_for_each(|put| trees.put(put))?;
        self.spending.follow(&written.gist, &self.attempts, &self.zone);
        self.attempts.follow(&written.gist, self.position);
        self.next_seq = self.next_seq.max(written.seq + 1);
        Ok(())
    }

    /// Makes the trees durable and writes the checkpoint that says so.
    ///
    /// # Errors
    /// [`StoreError::Tree`] if the trees fail; any other leaves the earlier checkpoint in force.
    pub(super) fn checkpoint(&self, trees: &Trees) -> Result<Checkpoint, StoreError> {
        let mut checkpoint = Checkpoint {
            format: checkpoint::FORMAT,
            store: 0,
            seal: 0,
            segment: self.position.segment,
            offset: self.position.offset,
            next_seq: self.next_seq,
            clean: false,
            records: Default::default(),
            unfinished: self.attempts.calls().into_iter().map(Entry::Attempt).collect(),
            runs: self.attempts.runs().clone(),
            spending: Some(self.spending.clone()),
            keys: None,
        };
        trees.sync(&mut checkpoint)?;
        trees.mark(&checkpoint)?;
        Ok(checkpoint)
    }
}

/// The running thread. Dropped, it ends after the batch that it is at.
pub(super) struct Filler {
    backlog: Arc<Backlog>,
    thread: Option<JoinHandle<Result<Checkpoint, StoreError>>>,
}

impl Filler {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the operating system gives none.
    pub(super) fn start(
        trees: Arc<Trees>,
        backlog: Arc<Backlog>,
        level: Level,
        flush_every: Duration,
    ) -> io::Result<Self> {
        let work = Work {
            trees,
            backlog: backlog.clone(),
            level,
            flush_every,
            flush_at: None,
        };
        let thread = thread::Builder::new()
            .name("store-fill".to_owned())
            .spawn(move || work.run())?;
        Ok(Self {
            backlog,
            thread: Some(thread),
        })
    }

    /// Waits until everything that was handed over is in the trees and durable.
    ///
    /// # Errors
    /// If the trees fail, or the last checkpoint cannot be written.
    pub(super) fn finish(mut self) -> Result<Checkpoint, StoreError> {
        self.backlog.end(End::Drain);
        let thread = self.thread.take().expect("BUG: taken only here and when dropped");
        thread.join().unwrap_or(Err(StoreError::Stopped))
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.backlog.end(End::Abandon);
            let _ = thread.join();
        }
    }
}

struct Work {
    trees: Arc<Trees>,
    backlog: Arc<Backlog>,
    level: Level,
    flush_every: Duration,
    /// When the next flush is due; `None`: nothing to flush.
    flush_at: Option<Instant>,
}

impl Work {
    /// Fills until the end. After a failure of the trees nobody waits for this thread any more.
    fn run(mut self) -> Result<Checkpoint, StoreError> {
        let result = self.fill_and_flush();
        if result.is_err() {
            self.backlog.end(End::Abandon);
        }
        result
    }

    fn fill_and_flush(&mut self) -> Result<Checkpoint, StoreError> {
        loop {
            match self.backlog.next(self.flush_at) {
                Next::Fill(batch) => self.fill(&batch)?,
                Next::Wait => {}
                Next::End(End::Drain) => return self.level.checkpoint(&self.trees),
                Next::End(End::Abandon) => return Err(StoreError::Stopped),
            }
            if self.flush_at.is_some_and(|due| due <= Instant::now()) {
                self.flush()?;
            }
        }
    }

    fn fill(&mut self, batch: &Batch) -> Result<(), StoreError> {
        for written in &batch.entries {
            self.level.fill(&self.trees, written)?;
        }
        if let Some((position, next_seq)) = batch.end {
            self.level.position = position;
            self.level.next_seq = next_seq;
        }
        self.backlog.filled(batch);
        self.flush_at
            .get_or_insert_with(|| Instant::now() + self.flush_every);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.flush_at = None;
        match self.level.checkpoint(&self.trees) {
            Err(StoreError::Io { .. }) => {
                // The checkpoint stays where it was, so more is replayed one day.
                self.flush_at = Some(Instant::now() + self.flush_every);
                Ok(())
            }
            other => other.map(drop),
        }
    }
}
