//! The states of the nodes of the open personas. Every change of a state goes through
//! [`States::set`], which keeps the counts, the queue and the timers: they are views of the
//! states and nothing else writes them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::call::{FaultKind, Key};
use crate::events::Failure;
use crate::graph::Graph;
use crate::schedule::prefixes::{Prefixes, SharedPrefix};

/// One node of one open persona.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    /// The slot of the persona; reused once the persona is closed.
    pub slot: usize,
    /// The node, in the order of the pipeline.
    pub node: usize,
}

/// Where a node stands. The way is down the list; `Backoff` goes back to `Held` or `Queued`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its persona is still being read.
    Unread,
    /// So many of its needs are not done yet.
    Waiting(usize),
    /// The driver renders its request.
    Rendering,
    /// The driver looks for its answer in the store. It owns the flight of its key.
    Looking,
    /// Another node with the same request is ahead; this one looks when that one is through.
    Twin,
    /// To be sent once another call with the same prefix is answered: the provider's cache will
    /// hold the prefix then.
    Held,
    /// No answer in the store: to be sent.
    Queued,
    /// Sent; the answer is not there yet, or not durable yet.
    InFlight,
    /// To be sent again, not before this time.
    Backoff(Duration),
    /// Its answer is there.
    Done,
    /// Given up.
    Failed,
    /// A node that it needs failed.
    Skipped,
}

impl State {
    /// True for the states that end a node.
    pub fn is_final(self) -> bool {
        matches!(self, State::Done | State::Failed | State::Skipped)
    }

    /// True for those of whom one goes first.
    fn is_on_its_way(self) -> bool {
        matches!(self, State::Queued | State::InFlight)
    }

    /// True while the driver owes an input for it, calls in flight apart.
    fn is_job(self) -> bool {
        matches!(self, State::Rendering | State::Looking)
    }
}

/// A node's state and what its retries depend on.
#[derive(Clone, Debug)]
pub struct Node {
    pub state: State,
    /// The key of its request, once it is rendered.
    pub key: Option<Key>,
    /// What its request shares with others, where holding others back for it is worth it.
    pub prefix: Option<SharedPrefix>,
    /// Its place in the queue, while it is there.
    order: Order,
    /// Calls sent.
    pub attempts: u32,
    /// Faults that count against `retry.attempts`.
    pub faults: u32,
    /// Bad answers.
    pub rejected: u32,
    /// What its last attempt failed with.
    pub trouble: Option<FaultKind>,
    /// Pauses in a row because of that: the exponent of the next one.
    pub pauses: u32,
    /// The number of its newest call, counted over the run.
    pub call: u64,
    /// How many calls of the run had been answered at its last attempt (design, rule 7).
    pub answered_before: u64,
}

/// An open persona.
#[derive(Debug)]
pub struct Open {
    /// Counts personas as they are opened: the older goes first.
    pub admitted: u64,
    pub nodes: Box<[Node]>,
    /// Nodes that have not ended.
    pub unfinished: usize,
    /// The first failure of a node: that of the persona.
    pub failure: Option<Failure>,
}

/// All open personas.
#[derive(Debug)]
pub struct States {
    graph: Arc<Graph>,
    slots: Vec<Option<Open>>,
    free: Vec<usize>,
    admitted: u64,
    /// What can be sent, the first one first.
    queue: BTreeSet<(Order, Handle)>,
    /// What waits for a time.
    timers: BTreeSet<(Duration, Handle)>,
    prefixes: Prefixes,
    tail: bool,
    in_flight: usize,
    jobs: usize,
    twins: usize,
    opening: usize,
    writing: usize,
}

/// The place in the queue: smaller goes first.
type Order = (Reverse<usize>, u64, usize);

impl States {
    pub fn new(graph: Arc<Graph>) -> Self {
        Self {
            graph,
            slots: Vec::new(),
            free: Vec::new(),
            admitted: 0,
            queue: BTreeSet::new(),
            timers: BTreeSet::new(),
            prefixes: Prefixes::default(),
            tail: false,
            in_flight: 0,
            jobs: 0,
            twins: 0,
            opening: 0,
            writing: 0,
        }
    }

    /// Opens a persona; its nodes are unread until [`States::begin`].
    pub fn open(&mut self) -> usize {
        let fresh = Node {
            state: State::Unread,
            key: None,
            prefix: None,
            order: Order::default(),
            attempts: 0,
            faults: 0,
            rejected: 0,
            trouble: None,
            pauses: 0,
            call: 0,
            answered_before: 0,
        };
        let open = Open {
            admitted: self.admitted,
            nodes: vec![fresh; self.graph.len()].into(),
            unfinished: self.graph.len(),
            failure: None,
        };
        self.admitted += 1;
        self.opening += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(open);
        slot
    }

    /// A persona's files are read (or cannot be): from now on its nodes have their own states.
    pub fn begin(&mut self, slot: usize) {
        self.opening -= 1;
        for node in 0..self.graph.len() {
            let waiting = State::Waiting(self.graph.needs(node).len());
            self.set(Handle { slot, node }, waiting);
        }
    }

    /// The driver begins to write the transcript of a persona whose nodes have all ended.
    pub fn begin_writing(&mut self) {
        self.writing += 1;
    }

    /// Forgets a persona that was being written.
    pub fn close(&mut self, slot: usize) {
        self.writing -= 1;
        self.free.push(slot);
        let open = self.slots[slot]
            .take()
            .expect("BUG: a closed slot is closed again");
        debug_assert_eq!(open.unfinished, 0);
        for prefix in open.nodes.iter().filter_map(|node| node.prefix) {
            self.prefixes.remove(prefix.id);
        }
    }

    pub fn at(&self, slot: usize) -> &Open {
        self.slots[slot]
            .as_ref()
            .expect("BUG: an input for a closed slot")
    }

    pub fn at_mut(&mut self, slot: usize) -> &mut Open {
        self.slots[slot]
            .as_mut()
            .expect("BUG: an input for a closed slot")
    }

    pub fn node(&self, handle: Handle) -> &Node {
        &self.at(handle.slot).nodes[handle.node]
    }

    pub fn node_mut(&mut self, handle: Handle) -> &mut Node {
        &mut self.at_mut(handle.slot).nodes[handle.node]
    }

    /// The one door: changes a state and every view of it.
    pub fn set(&mut self, handle: Handle, to: State) {
        let from = std::mem::replace(&mut self.node_mut(handle).state, to);
        debug_assert!(!from.is_final(), "BUG: {handle:?} leaves {from:?} for {to:?}");
        let prefix = self.node(handle).prefix.map(|prefix| prefix.id);
        match from {
            State::InFlight => self.in_flight -= 1,
            State::Queued => _ = self.queue.remove(&(self.node(handle).order, handle)),
            State::Backoff(until) => _ = self.timers.remove(&(until, handle)),
            State::Held => prefix.iter().for_each(|&id| self.prefixes.unhold(id, handle)),
            _ => {}
        }
        if let Some(prefix) = prefix.filter(|_| from.is_on_its_way() && !to.is_on_its_way()) {
            self.prefixes.left(prefix, handle);
        }
        match to {
            State::InFlight => self.in_flight += 1,
            State::Queued => self.enqueue(handle),
            State::Backoff(until) => _ = self.timers.insert((until, handle)),
            State::Held => prefix.iter().for_each(|&id| self.prefixes.hold(id, handle)),
            _ => {}
        }
        self.twins -= usize::from(from == State::Twin);
        self.twins += usize::from(to == State::Twin);
        self.jobs -= usize::from(from.is_job());
        self.jobs += usize::from(to.is_job());
        self.at_mut(handle.slot).unfinished -= usize::from(to.is_final());
    }

    /// Switches the order of the queue. At first the oldest persona goes first, so that started
    /// ones are finished. In the tail (no more personas unfinished than slots) the node farthest
    /// from the end goes first: the last wave is then short combines and not a lone long chain.
    pub fn set_tail(&mut self, tail: bool) {
        if self.tail != tail {
            self.tail = tail;
            let queue = std::mem::take(&mut self.queue);
            queue.into_iter().for_each(|(_, handle)| self.enqueue(handle));
        }
    }

    /// True once no more personas are unfinished than there are slots.
    pub fn is_tail(&self) -> bool {
        self.tail
    }

    fn enqueue(&mut self, handle: Handle) {
        let order = self.order(handle);
        self.node_mut(handle).order = order;
        self.queue.insert((order, handle));
    }

    /// In the tail, whoever others wait for is one call farther from the end than they are.
    fn order(&self, handle: Handle) -> Order {
        let leads = self
            .node(handle)
            .prefix
            .is_some_and(|prefix| self.prefixes.leads(prefix.id, handle));
        let height = if self.tail {
            self.graph.height(handle.node) + usize::from(leads)
        } else {
            0
        };
        (Reverse(height), self.at(handle.slot).admitted, handle.node)
    }

    /// Notes what the request of a node shares with others.
    pub fn share(&mut self, handle: Handle, prefix: SharedPrefix) {
        self.node_mut(handle).prefix = Some(prefix);
        self.prefixes.add(prefix.id);
    }

    /// To be sent, as soon as its prefix allows.
    pub fn queue(&mut self, now: Duration, handle: Handle) {
        if self.goes(now, handle) {
            self.set(handle, State::Queued);
        } else {
            self.set(handle, State::Held);
        }
    }

    /// False if a node has to wait for another with the same prefix; else that is settled, and
    /// the others may have to wait for it.
    fn goes(&mut self, now: Duration, handle: Handle) -> bool {
        let Some(prefix) = self.node(handle).prefix else {
            return true;
        };
        let goes = self.prefixes.may_go(now, prefix.id, handle);
        if goes {
            self.prefixes.goes(now, prefix.id, handle);
        }
        goes
    }

    /// A node is sent.
    pub fn send(&mut self, now: Duration, handle: Handle) {
        self.goes(now, handle);
        self.set(handle, State::InFlight);
    }

    /// A call was answered, badly or well: from now on the provider keeps its prefix for a while,
    /// and those who waited for that can go.
    pub fn keeps_prefix(&mut self, now: Duration, handle: Handle) {
        if let Some(prefix) = self.node(handle).prefix {
            for held in self.prefixes.answered(now, prefix) {
                self.set(held, State::Queued);
            }
        }
    }

    /// Where the one that went first has gone without an answer, the next one does.
    pub fn succeed(&mut self, now: Duration) {
        for held in self.prefixes.orphans() {
            if self.goes(now, held) {
                self.set(held, State::Queued);
            }
        }
    }

    /// Looks at everyone in the queue anew: after a long silence the provider may keep nothing.
    pub fn regroup(&mut self, now: Duration) {
        let queue: Vec<Handle> = self.queue.iter().map(|&(_, handle)| handle).collect();
        for handle in queue {
            if !self.goes(now, handle) {
                self.set(handle, State::Held);
            }
        }
    }

    /// The queue, the first one first.
    pub fn queued(&self) -> impl Iterator<Item = Handle> {
        self.queue.iter().map(|&(_, handle)| handle)
    }

    /// Who waits for which time, the earliest first.
    pub fn timers(&self) -> impl Iterator<Item = (Duration, Handle)> {
        self.timers.iter().copied()
    }

    /// The node to send next, of those that are `free`. Who may no longer go, because the provider
    /// has forgotten the prefix and another one is on its way with it, is held on the way.
    pub fn next(&mut self, now: Duration, free: impl Fn(usize) -> bool) -> Option<Handle> {
        loop {
            let handle = self.queued().find(|handle| free(handle.node))?;
            if self.goes(now, handle) {
                return Some(handle);
            }
            self.set(handle, State::Held);
        }
    }

    /// The node to send in an outage, of those that are `free`: the one that was tried least, so
    /// that a node that fails every time does not make an outage look endless.
    pub fn probe(&self, now: Duration, free: impl Fn(usize) -> bool) -> Option<Handle> {
        let queued = self.queued().filter(|handle| free(handle.node));
        let waiting = self.timers().map(|(_, handle)| handle);
        let waiting = waiting.filter(|handle| free(handle.node));
        let may_go = |handle: &Handle| {
            let prefix = self.node(*handle).prefix;
            prefix.is_none_or(|prefix| self.prefixes.may_go(now, prefix.id, *handle))
        };
        queued
            .chain(waiting)
            .filter(may_go)
            .min_by_key(|&handle| self.node(handle).attempts)
    }

    /// The nodes of which something can still be heard: in flight, or to be sent now or after a
    /// pause. `None` while others are on their way there.
    pub fn left(&self) -> Option<impl Iterator<Item = &Node>> {
        let left = |node: &&Node| {
            use State::{Backoff, Held, InFlight, Queued};
            matches!(node.state, InFlight | Queued | Held | Backoff(_))
        };
        let nodes = self.slots.iter().flatten().flat_map(|open| &open.nodes);
        (self.jobs + self.opening == 0).then(|| nodes.filter(left))
    }

    /// Ends every pause.
    pub fn release(&mut self, now: Duration) {
        while let Some((_, handle)) = self.next_timer() {
            self.queue(now, handle);
        }
    }

    /// The earliest time that a node waits for.
    pub fn next_timer(&self) -> Option<(Duration, Handle)> {
        self.timers.first().copied()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Nodes that can be sent, now or after a pause.
    pub fn sendable(&self) -> usize {
        self.queue.len() + self.timers.len()
    }

    /// Nodes on their way to the queue, counting those of personas that are being read and those
    /// that wait for a twin: what is open must be bounded, whatever it waits for.
    pub fn approaching(&self) -> usize {
        self.jobs + self.twins + self.opening * self.graph.roots().count()
    }

    /// Nodes that can be sent once others with the same prefix are answered.
    pub fn held(&self) -> usize {
        self.prefixes.held()
    }

    /// True while open personas have nodes of which one goes first.
    pub fn shares(&self) -> bool {
        self.prefixes.is_in_use()
    }

    /// How many nodes those on their way to the queue will bring into it at least, if of each
    /// persona one goes first.
    pub fn leaders_approaching(&self) -> usize {
        (self.jobs + self.twins).div_ceil(self.graph.roots().count().max(1)) + self.opening
    }

    /// True while the driver owes an input.
    pub fn is_busy(&self) -> bool {
        self.in_flight + self.jobs + self.opening + self.writing > 0
    }

    pub fn has_jobs(&self) -> bool {
        self.jobs + self.opening + self.writing > 0
    }

    pub fn open_count(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

/// Which node makes the call for a key, and who waits for it (single flight).
#[derive(Debug, Default)]
pub struct Flights {
    owners: BTreeMap<Key, Vec<Handle>>,
}

impl Flights {
    /// Claims the key. False: someone else has it, and `handle` was put into its waiting line.
    pub fn claim(&mut self, key: Key, handle: Handle) -> bool {
        match self.owners.get_mut(&key) {
            Some(twins) => {
                twins.push(handle);
                false
            }
            None => {
                self.owners.insert(key, Vec::new());
                true
            }
        }
    }

    /// Gives the key up and returns who waited for it.
    pub fn release(&mut self, key: Key) -> Vec<Handle> {
        self.owners.remove(&key).unwrap_or_default()
    }
}
