//! Reads the journal into the trees, from a place on to its end, and tells apart a write that was
//! not finished from damage. It does not know why it is read.

use crate::store::StoreError;
use crate::store::checkpoint::Checkpoint;
use crate::store::filler::Level;
use crate::store::notice::{Notice, Phase, Progress};
use crate::store::put::{Gist, Written};
use crate::store::reader::{Damage, Place, Reader};
use crate::store::segment::{Found, Position, Segment};
use crate::store::trees::Trees;

/// While much is read, a checkpoint is written after so many bytes, so that a crash in between
/// does not begin at the start again.
const CHECKPOINT_BYTES: u64 = 64 << 20;

/// Progress is told after so many bytes.
const PROGRESS_BYTES: u64 = 1 << 20;

/// What is read, and into what.
pub(super) struct Replay<'a> {
    pub(super) segments: &'a [Segment],
    pub(super) trees: &'a Trees,
    /// Of trees that were there: they hold what is before it. `None`: they are new.
    pub(super) known: Option<&'a Checkpoint>,
    pub(super) level: &'a mut Level,
    pub(super) notices: &'a mut Vec<Notice>,
    pub(super) progress: &'a mut dyn FnMut(Progress),
}

impl Replay<'_> {
    /// Reads from `begin` on. Returns how many entries there were; the level is then at the place
    /// where the journal goes on.
    ///
    /// # Errors
    /// If the trees fail or a file cannot be read.
    pub(super) fn run(mut self, begin: Position) -> Result<u64, StoreError> {
        let phase = match self.known {
            Some(_) => Phase::Replay,
            None => Phase::Rebuild,
        };
        let mut reader = Reader::new(self.segments.to_vec(), begin, None);
        let mut told = Progress {
            phase,
            done_bytes: 0,
            total_bytes: reader.len(),
            entries: 0,
        };
        let mut tail = Tail::default();
        let (mut told_at, mut marked_at) = (0, 0);
        while let Some(place) = reader.next()? {
            told.done_bytes += place.len();
            let Some(written) = tail.take(&place, self.notices) else {
                continue;
            };
            if told.entries == 0
                && let Some(known) = self.known.filter(|known| known.clean)
            {
                // Before anything is put. Killed on the way, the trees hold more than was counted, and
                // more than their filters know.
                self.trees.mark(&known.of_open_trees())?;
            }
            told.entries += 1;
            self.level.fill(self.trees, &written)?;
            self.level.position = place.end;
            if passed(&mut told_at, told.done_bytes, PROGRESS_BYTES) {
                (self.progress)(told);
            }
            if passed(&mut marked_at, told.done_bytes, CHECKPOINT_BYTES) {
                self.level.checkpoint(self.trees)?;
            }
        }
        self.end(tail);
        if told_at > 0 {
            (self.progress)(told);
        }
        Ok(told.entries)
    }

    /// Damage at the very end of the newest segment is a write that was not finished; anywhere
    /// else it is damage.
    fn end(&mut self, tail: Tail) {
        let Some(segment) = self.segments.last() else {
            return;
        };
        self.level.position = segment.end();
        match tail.damage.first() {
            Some(first) if first.path == segment.path => {
                self.level.position.offset = first.offset;
                self.notices.push(Notice::Torn {
                    path: first.path.clone(),
                    offset: first.offset,
                    len: segment.len - first.offset,
                });
            }
            _ => self.notices.extend(tail.damage.into_iter().map(Notice::Damaged)),
        }
    }
}

/// True once for every `step` that `now` gets ahead of `last`.
fn passed(last: &mut u64, now: u64, step: u64) -> bool {
    let passed = now - *last >= step;
    if passed {
        *last = now;
    }
    passed
}

/// Damage behind the last intact frame, until it is known whether another one follows.
#[derive(Default)]
struct Tail {
    damage: Vec<Damage>,
}

impl Tail {
    /// Takes the next place; an entry comes back as one to fill in.
    fn take(&mut self, place: &Place<'_>, notices: &mut Vec<Notice>) -> Option<Written> {
        let other_file = self.damage.last().is_some_and(|last| last.path != place.path);
        let intact = matches!(place.found, Found::Frame { .. });
        if intact || other_file {
            notices.extend(self.damage.drain(..).map(Notice::Damaged));
        }
        match (place.line(), place.found) {
            (Ok(logged), Found::Frame { bytes, .. }) => {
                return Some(Written::new(Gist::from(&logged.entry), logged.seq, bytes.into()));
            }
            (Err(damage), Found::Frame { .. }) => notices.push(Notice::Damaged(damage)),
            (Err(damage), _) => self.damage.push(damage),
            (Ok(_), _) => {}
        }
        None
    }
}
