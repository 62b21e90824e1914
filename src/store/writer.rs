//! The one thread that writes the journal: many wait, one sync. It takes what the queue hands out,
//! appends it, syncs what has to be durable, and only then tells those who wait. It does not know
//! what entries mean.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sled::IVec;

use crate::store::backlog::{Backlog, Batch, End, Stuck};
use crate::store::frame;
use crate::store::journal::Journal;
use crate::store::put::{Gist, Written};
use crate::store::queue::{BATCH_BYTES, BATCH_ENTRIES, Job, Next, Queue};
use crate::store::segment::Position;
use crate::store::trees::Trees;
use crate::store::{Done, Safety, StoreError};

/// After this time without a single entry taken into the trees they count as hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// An entry on its way into the journal.
pub(super) struct Piece {
    pub(super) gist: Gist,
    /// Encoded, but for its sequence number.
    pub(super) frame: IVec,
}

/// The way to the running thread. Dropped, the thread writes what is queued, syncs and ends.
pub(super) struct Writer {
    queue: Arc<Queue<Piece>>,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
    written: Arc<Mutex<Position>>,
    disturbed: Arc<AtomicBool>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the operating system gives none.
    pub(super) fn start(
        journal: Journal,
        next_seq: u64,
        trees: Arc<Trees>,
        backlog: Arc<Backlog>,
        sync_every: Duration,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::new());
        let written = Arc::new(Mutex::new(journal.end()));
        let disturbed = Arc::new(AtomicBool::new(false));
        let work = Work {
            journal,
            next_seq,
            trees,
            backlog,
            sync_every,
            written: written.clone(),
            disturbed: disturbed.clone(),
            unsynced: Vec::new(),
            sync_at: None,
            stopped: false,
            untold: None,
            bytes: Vec::new(),
        };
        let jobs = queue.clone();
        let thread = thread::Builder::new()
            .name("store-write".to_owned())
            .spawn(move || work.run(&jobs))?;
        Ok(Self {
            queue,
            thread: Some(thread),
            written,
            disturbed,
        })
    }

    /// Appends entries, and tells `done` when they are as safe as asked, or that the writer has
    /// stopped.
    pub(super) fn append(&self, pieces: Vec<Piece>, safety: Safety, done: Done) {
        let bytes = pieces.iter().map(|piece| piece.frame.len()).sum();
        self.queue.push(Job { pieces, bytes, done }, safety);
    }

    /// The first byte of the journal that is not written yet.
    pub(super) fn written(&self) -> Position {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True once somebody else has changed the file that is written to.
    pub(super) fn is_disturbed(&self) -> bool {
        self.disturbed.load(Ordering::Relaxed)
    }

    /// Writes and syncs what is queued, and ends the thread.
    ///
    /// # Errors
    /// If the last sync fails, or the writer had stopped before.
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        self.join()
    }

    fn join(&mut self) -> Result<(), StoreError> {
        self.queue.close();
        match self.thread.take() {
            Some(thread) => thread.join().unwrap_or(Err(StoreError::Stopped)),
            None => Ok(()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

struct Work {
    journal: Journal,
    next_seq: u64,
    trees: Arc<Trees>,
    backlog: Arc<Backlog>,
    sync_every: Duration,
    written: Arc<Mutex<Position>>,
    disturbed: Arc<AtomicBool>,
    /// Written, seen by look-ups, and not synced: the trees must not have them yet.
    unsynced: Vec<Written>,
    /// When to sync although nobody waits for it.
    sync_at: Option<Instant>,
    /// After a failure nothing is written any more.
    stopped: bool,
    /// The failure, until someone is told of it.
    untold: Option<StoreError>,
    /// The bytes of the batch, kept to be used again.
    bytes: Vec<u8>,
}

impl Work {
    fn run(mut self, queue: &Queue<Piece>) -> Result<(), StoreError> {
        let _end = Abandoned(queue);
        loop {
            match queue.next(self.sync_at) {
                Next::Write(batch) => self.take(batch, false),
                Next::Sync(batch) => self.take(batch, true),
                Next::Wait => {}
                Next::End => break,
            }
            if self.sync_at.is_some_and(|due| due <= Instant::now()) {
                self.sync();
            }
        }
        self.sync();
        match self.stopped {
            true => Err(self.untold.take().unwrap_or(StoreError::Stopped)),
            false => Ok(()),
        }
    }

    /// Writes a batch and tells those who wait for it. A batch that has to be durable is told of
    /// as one: if its sync fails, all of it is cut off again.
    fn take(&mut self, batch: Vec<Job<Piece>>, durable: bool) {
        let (entries, waiting) = self.number(batch);
        let written = self.write(entries, durable);
        for done in waiting {
            done.tell(match &written {
                Ok(()) => Ok(()),
                Err(error) => Err(error.again()),
            });
        }
        if written.is_ok() && (durable || self.has_enough_unsynced()) {
            self.sync();
        }
    }

    /// Gives the entries their numbers, and gathers their bytes.
    fn number(&mut self, batch: Vec<Job<Piece>>) -> (Vec<Written>, Vec<Done>) {
        self.bytes.clear();
        self.bytes.shrink_to(BATCH_BYTES);
        let mut waiting = Vec::with_capacity(batch.len());
        let mut entries = Vec::with_capacity(batch.iter().map(|job| job.pieces.len()).sum());
        for job in batch {
            waiting.push(job.done);
            for Piece { gist, mut frame } in job.pieces {
                let seq = self.next_seq;
                self.next_seq += 1;
                frame::stamp(&mut frame, seq);
                self.bytes.extend_from_slice(&frame);
                entries.push(Written::new(gist, seq, frame));
            }
        }
        (entries, waiting)
    }

    fn write(&mut self, entries: Vec<Written>, durable: bool) -> Result<(), StoreError> {
        if self.stopped {
            return Err(self.untold.take().unwrap_or(StoreError::Stopped));
        }
        self.append(durable).inspect_err(|_| self.stopped = true)?;
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = self.journal.end();
        self.disturbed
            .store(self.journal.is_disturbed(), Ordering::Relaxed);
        if self.trees.failure().is_none() {
            self.backlog.show(&entries);
            self.unsynced.extend(entries);
        }
        self.sync_at
            .get_or_insert_with(|| Instant::now() + self.sync_every);
        Ok(())
    }

    fn append(&mut self, durable: bool) -> Result<(), StoreError> {
        self.journal.append(&self.bytes)?;
        if durable {
            let synced = self.journal.sync();
            return synced.inspect_err(|_| self.journal.take_back(self.bytes.len()));
        }
        Ok(())
    }

    /// Syncs what is written, although nobody waits for it, and hands it to the filler.
    fn sync(&mut self) {
        self.sync_at = None;
        if self.stopped {
            return;
        }
        if let Err(error) = self.journal.sync() {
            self.stopped = true;
            self.untold = Some(error);
            return;
        }
        let batch = Batch {
            entries: std::mem::take(&mut self.unsynced),
            end: Some((self.journal.end(), self.next_seq)),
        };
        if let Err(Stuck) = self.backlog.hand_over(batch, PATIENCE) {
            let seconds = PATIENCE.as_secs();
            // Look-ups report it; the journal goes on, so that what is in flight is kept. Before the
            // backlog is emptied: what is found in neither would be paid again.
            let _ = self.trees.give_up(format!("takes nothing in for {seconds} s"));
            self.backlog.end(End::Abandon);
        }
    }

    fn has_enough_unsynced(&self) -> bool {
        let bytes: usize = self.unsynced.iter().map(|written| written.frame.len()).sum();
        self.unsynced.len() >= BATCH_ENTRIES || bytes >= BATCH_BYTES
    }
}

/// Whoever waits when the writer ends is told, also if it panics.
struct Abandoned<'a>(&'a Queue<Piece>);

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
