//! Calls that were begun and have not ended, followed entry by entry: the one thing about attempts
//! that cannot be seen from a single entry. Does not know what is done about them.

use std::collections::HashMap;

use crate::store::put::{Call, Gist};
use crate::store::record::Entry;

/// The calls without an end so far: a handful in a running program, and after a crash those that
/// may have been billed though no answer was stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts {
    open: HashMap<Call, Entry>,
}

impl Attempts {
    /// Takes the next entry of the journal into account.
    pub(super) fn follow(&mut self, gist: &Gist) {
        match gist {
            Gist::Attempt(entry) => {
                if let Entry::Attempt {
                    run,
                    instance,
                    attempt,
                    ..
                } = &**entry
                {
                    let call = Call::new(run, instance, *attempt);
                    self.open.insert(call, Entry::clone(entry));
                }
            }
            Gist::Answer { call, .. }
            | Gist::Rejected { call, .. }
            | Gist::Retired(call)
            | Gist::Fault(call) => {
                self.open.remove(call);
            }
            Gist::Refresh(_) | Gist::Transcript(_) | Gist::Run(_) => {}
        }
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
        entries
            .into_iter()
            .for_each(|entry| attempts.follow(&Gist::from(&entry)));
        attempts
    }
}
