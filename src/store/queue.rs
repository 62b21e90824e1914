//! Where entries wait for the writer: what has to be written goes at once, what has to be durable is
//! gathered until the next sync is due. It does not know the journal, nor what an entry is.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::store::{Done, Safety};

/// From one sync for those who wait to the next, unless there is enough for one. A sync takes as much
/// processor time as storing an answer or two, so where they come in by the thousand a second those of
/// two milliseconds share one; whoever comes alone is not kept waiting.
const PACE: Duration = Duration::from_millis(2);

/// So many entries are enough for a batch.
pub(super) const BATCH_ENTRIES: usize = 256;

/// So many bytes are enough for a batch.
pub(super) const BATCH_BYTES: usize = 4 << 20;

/// The queue before the writer. Nothing bounds it but those who hand something in: each waits for it
/// before the next, or has a bound of its own (an import has 256 under way).
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

/// Pieces that were handed in together.
pub(super) struct Job<T> {
    pub(super) pieces: Vec<T>,
    /// Of all pieces.
    pub(super) bytes: usize,
    pub(super) done: Done,
}

/// What the writer does next.
pub(super) enum Next<T> {
    Write(Vec<Job<T>>),
    /// Written, and synced before anybody is told.
    Sync(Vec<Job<T>>),
    /// Nothing came before the deadline.
    Wait,
    /// Nothing will come any more.
    End,
}

struct State<T> {
    written: Vec<Job<T>>,
    durable: Vec<Job<T>>,
    /// Of those that have to be durable.
    entries: usize,
    bytes: usize,
    /// Until when they are gathered.
    paced_until: Option<Instant>,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                written: Vec::new(),
                durable: Vec::new(),
                entries: 0,
                bytes: 0,
                paced_until: None,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Hands a job in. What has to be durable may be overtaken by what is only written: whoever hands
    /// in a job that must not come before another one waits for that to be done. After the end it is
    /// dropped, and tells so itself.
    pub(super) fn push(&self, job: Job<T>, safety: Safety) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        let wakes = match safety {
            Safety::Written => {
                state.written.push(job);
                true
            }
            Safety::Durable => {
                state.entries += job.pieces.len();
                state.bytes += job.bytes;
                state.durable.push(job);
                // Else the writer wakes up by itself when the time is over.
                state.paced_until.is_none() || state.is_enough()
            }
        };
        drop(state);
        if wakes {
            self.changed.notify_one();
        }
    }

    /// Waits for something to do, but not longer than to `deadline`.
    pub(super) fn next(&self, deadline: Option<Instant>) -> Next<T> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            state.paced_until = state.paced_until.filter(|until| *until > now);
            // First: a write is short, and where each sync takes longer than the pace there is
            // always one due. The notes of calls to be sent would wait for all of them.
            if !state.written.is_empty() {
                return Next::Write(std::mem::take(&mut state.written));
            }
            let due = state.paced_until.is_none() || state.is_enough() || state.closed;
            if due && !state.durable.is_empty() {
                state.paced_until = Some(now + PACE);
                (state.entries, state.bytes) = (0, 0);
                return Next::Sync(std::mem::take(&mut state.durable));
            }
            if state.closed {
                return Next::End;
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Next::Wait;
            }
            state = match deadline.into_iter().chain(state.paced_until).min() {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let waited = self.changed.wait_timeout(state, until - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Nothing comes any more; what is there is still taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Nobody takes anything any more: what is there is told so.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        let left = (
            std::mem::take(&mut state.written),
            std::mem::take(&mut state.durable),
        );
        drop(state);
        drop(left);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn is_enough(&self) -> bool {
        self.entries >= BATCH_ENTRIES || self.bytes >= BATCH_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: u32) -> Job<u32> {
        Job {
            pieces: vec![number],
            bytes: 1,
            done: Done::new(|_| ()),
        }
    }

    fn pieces(jobs: Vec<Job<u32>>) -> Vec<u32> {
        jobs.into_iter().flat_map(|job| job.pieces).collect()
    }

    /// What the writer is given, until there is nothing to do.
    fn taken(queue: &Queue<u32>) -> Vec<(&'static str, Vec<u32>)> {
        let mut all = Vec::new();
        loop {
            match queue.next(Some(Instant::now())) {
                Next::Write(jobs) => all.push(("write", pieces(jobs))),
                Next::Sync(jobs) => all.push(("sync", pieces(jobs))),
                Next::Wait | Next::End => return all,
            }
        }
    }

    #[test]
    fn whoever_comes_alone_is_synced_at_once() {
        let queue = Queue::new();
        queue.push(job(1), Safety::Durable);
        queue.push(job(2), Safety::Written);
        queue.push(job(3), Safety::Durable);
        queue.push(job(4), Safety::Written);
        assert_eq!(taken(&queue), [("write", vec![2, 4]), ("sync", vec![1, 3])]);
    }

    /// A disk whose syncs take longer than the pace: there is one due whenever the writer asks.
    #[test]
    fn what_is_only_written_waits_for_one_sync_at_most() {
        let queue = Queue::new();
        for round in 0..10 {
            queue.push(job(2 * round), Safety::Durable);
            queue.lock().paced_until = None;
            assert!(matches!(queue.next(None), Next::Sync(_)));
            // During that sync.
            queue.push(job(2 * round + 1), Safety::Durable);
            queue.push(job(100 + round), Safety::Written);
            queue.lock().paced_until = None;
            assert!(matches!(queue.next(None), Next::Write(_)));
        }
    }

    #[test]
    fn what_comes_soon_after_a_sync_shares_the_next_one() {
        let queue = Queue::new();
        queue.push(job(0), Safety::Durable);
        assert_eq!(taken(&queue), [("sync", vec![0])]);
        // As if that had been this moment, however slow the test is.
        queue.lock().paced_until = Some(Instant::now() + Duration::from_secs(3600));
        queue.push(job(1), Safety::Durable);
        queue.push(job(2), Safety::Durable);
        queue.push(job(3), Safety::Written);
        assert_eq!(taken(&queue), [("write", vec![3])]);
        queue.lock().paced_until = Some(Instant::now());
        assert_eq!(taken(&queue), [("sync", vec![1, 2])]);
    }

    #[test]
    fn enough_for_a_batch_waits_for_nobody() {
        let queue = Queue::new();
        queue.lock().paced_until = Some(Instant::now() + Duration::from_secs(3600));
        for number in 1..BATCH_ENTRIES as u32 {
            queue.push(job(number), Safety::Durable);
        }
        assert_eq!(taken(&queue), []);
        queue.push(job(0), Safety::Durable);
        assert_eq!(taken(&queue).len(), 1);
        queue.lock().paced_until = Some(Instant::now() + Duration::from_secs(3600));
        let bytes = BATCH_BYTES;
        queue.push(Job { bytes, ..job(1) }, Safety::Durable);
        assert_eq!(taken(&queue), [("sync", vec![1])]);
    }

    #[test]
    fn what_is_held_is_taken_at_the_end_and_nothing_after_it() {
        let queue = Queue::new();
        queue.lock().paced_until = Some(Instant::now() + Duration::from_secs(3600));
        queue.push(job(1), Safety::Durable);
        queue.close();
        queue.push(job(2), Safety::Durable);
        assert_eq!(taken(&queue), [("sync", vec![1])]);
    }

    #[test]
    fn what_nobody_takes_is_told_so() {
        let queue = Queue::new();
        let (sender, told) = std::sync::mpsc::channel();
        for safety in [Safety::Durable, Safety::Written] {
            let sender = sender.clone();
            let done = Done::new(move |result| sender.send(result.is_ok()).unwrap());
            queue.push(Job { done, ..job(1) }, safety);
        }
        queue.abandon();
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [false, false]);
    }

    /// Each pacing ends by itself: nobody wakes the writer for what is held.
    #[test]
    fn the_writer_wakes_up_for_what_is_held() {
        let queue = Queue::new();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut all = Vec::new();
                loop {
                    match queue.next(None) {
                        Next::Write(jobs) | Next::Sync(jobs) => all.extend(pieces(jobs)),
                        Next::Wait | Next::End => return all,
                    }
                    if all.len() == 100 {
                        return all;
                    }
                }
            });
            (0..100).for_each(|number| queue.push(job(number), Safety::Durable));
            assert_eq!(writer.join().unwrap(), Vec::from_iter(0..100));
        });
    }
}
