//! Calls that were begun and have not ended, followed entry by entry: the one thing about attempts
//! that cannot be seen from a single entry. Does not know what is done about them.

use std::collections::HashMap;

use crate::names::{Instance, RunId};
use crate::store::record::Entry;

/// The calls without an end so far: a handful in a running program, and after a crash those that
/// may have been billed though no answer was stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts {
    open: HashMap<(RunId, Instance, u32), Entry>,
}

impl Attempts {
    /// Takes the next entry of the journal into account.
    pub(super) fn follow(&mut self, entry: &Entry) {
        match entry {
            Entry::Attempt {
                run,
                instance,
                attempt,
                ..
            } => {
                let call = (run.clone(), instance.clone(), *attempt);
                self.open.insert(call, entry.clone());
            }
            Entry::Answer(record) | Entry::Rejected { record, .. } | Entry::Retired { record, .. } => {
                self.end(&record.run, &record.instance, record.attempt);
            }
            Entry::Fault {
                run,
                instance,
                attempt,
                ..
            } => self.end(run, instance, *attempt),
            Entry::Refresh { .. } | Entry::Transcript { .. } | Entry::Run { .. } => {}
        }
    }

    fn end(&mut self, run: &RunId, instance: &Instance, attempt: u32) {
        self.open.remove(&(run.clone(), instance.clone(), attempt));
    }

    /// The calls without an end as they were noted, sorted.
    pub(super) fn list(&self) -> Vec<Entry> {
        let mut open: Vec<_> = self.open.iter().collect();
        open.sort_by_key(|(call, _)| *call);
        open.into_iter().map(|(_, entry)| entry.clone()).collect()
    }
}

impl FromIterator<Entry> for Attempts {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut attempts = Self::default();
        entries.into_iter().for_each(|entry| attempts.follow(&entry));
        attempts
    }
}
