//! Who goes first for a prefix that a provider could keep, and who waits until it is kept: an
//! entry exists only once the first answer with it has begun, so calls that are sent at once all
//! pay for the whole of it. A view of the states; it decides nothing about the order of the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::call::Prefix;
use crate::schedule::Handle;

/// What a node's request shares with others, and for how long a provider keeps it after its last
/// use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedPrefix {
    pub id: Prefix,
    pub lifetime: Duration,
}

/// The prefixes of the open personas.
#[derive(Debug, Default)]
pub struct Prefixes {
    entries: BTreeMap<Prefix, Entry>,
    held: usize,
    /// Whoever led has gone without an answer, and others wait.
    orphaned: Vec<Prefix>,
}

/// One prefix.
#[derive(Debug, Default)]
struct Entry {
    /// Nodes of open personas that have it; with the last of them it is forgotten.
    nodes: usize,
    /// The provider keeps it until then.
    warm_until: Duration,
    /// The node that goes first: queued or in flight, while the provider does not keep the prefix.
    leader: Option<Handle>,
    /// Those who wait for it.
    held: BTreeSet<Handle>,
}

impl Prefixes {
    /// A node has this prefix.
    pub fn add(&mut self, prefix: Prefix) {
        self.entries.entry(prefix).or_default().nodes += 1;
    }

    /// A node that had this prefix is forgotten.
    pub fn remove(&mut self, prefix: Prefix) {
        if let Some(entry) = self.entries.get_mut(&prefix) {
            entry.nodes -= 1;
            if entry.nodes == 0 {
                self.entries.remove(&prefix);
            }
        }
    }

    /// True if a node may be sent: the provider keeps its prefix, or nobody else goes first.
    pub fn may_go(&self, now: Duration, prefix: Prefix, handle: Handle) -> bool {
        let entry = &self.entries[&prefix];
        now < entry.warm_until || entry.leader.is_none_or(|leader| leader == handle)
    }

    /// A node that may go does: it goes first if the provider does not keep its prefix.
    pub fn goes(&mut self, now: Duration, prefix: Prefix, handle: Handle) {
        let entry = self.entry(prefix);
        if now >= entry.warm_until && entry.leader.is_none() {
            entry.leader = Some(handle);
        }
    }

    /// True for the node that others may come to wait for.
    pub fn leads(&self, prefix: Prefix, handle: Handle) -> bool {
        self.entries[&prefix].leader == Some(handle)
    }

    /// A node is neither queued nor in flight any more.
    pub fn left(&mut self, prefix: Prefix, handle: Handle) {
        let entry = self.entry(prefix);
        if entry.leader == Some(handle) {
            entry.leader = None;
            if !entry.held.is_empty() {
                self.orphaned.push(prefix);
            }
        }
    }

    pub fn hold(&mut self, prefix: Prefix, handle: Handle) {
        self.held += 1;
        self.entry(prefix).held.insert(handle);
    }

    pub fn unhold(&mut self, prefix: Prefix, handle: Handle) {
        self.held -= 1;
        self.entry(prefix).held.remove(&handle);
    }

    /// An answer came, so the provider keeps the prefix. Returns who waited for that.
    pub fn answered(&mut self, now: Duration, prefix: SharedPrefix) -> Vec<Handle> {
        let entry = self.entry(prefix.id);
        entry.warm_until = now + prefix.lifetime;
        entry.leader = None;
        entry.held.iter().copied().collect()
    }

    /// The prefixes whose leader has gone without an answer, with those who wait: one of them is
    /// to go first.
    pub fn orphans(&mut self) -> Vec<Handle> {
        let orphaned = std::mem::take(&mut self.orphaned).into_iter();
        let waiting = orphaned.flat_map(|prefix| self.entries.get(&prefix).map(|entry| &entry.held));
        waiting.flatten().copied().collect()
    }

    /// Nodes that wait.
    pub fn held(&self) -> usize {
        self.held
    }

    /// True while any open persona has a node with a prefix that others may have.
    pub fn is_in_use(&self) -> bool {
        !self.entries.is_empty()
    }

    fn entry(&mut self, prefix: Prefix) -> &mut Entry {
        self.entries
            .get_mut(&prefix)
            .expect("BUG: a prefix that no open persona has")
    }
}
