//! Decides what happens next: inputs in, actions out. A plain state machine without I/O, clock or
//! chance (design, rules 8 and 9): the time and the random numbers come with the inputs, so that
//! a whole night can be replayed.
//!
//! The approach: personas are opened while there is room, one after the other. A node whose needs
//! are done is rendered, claims the key of its request (one owner for each key, twins wait), and
//! is looked up. A hit is done; a miss is queued, or held while the first call with the same long
//! prefix is on its way, so that the provider's cache serves the others. [`Schedule::candidate`]
//! names the node that should be sent next, if one may be; the driver asks the limits and says
//! [`Input::Granted`].
//! What comes back ends the node or sends it to a pause. When all nodes of a persona have ended,
//! its transcript is written and its slot is free.

mod alike;
mod exchange;
mod finish;
mod halt;
mod prefixes;
mod reply;
mod slots;
mod states;

use std::sync::Arc;
use std::time::Duration;

use crate::call::Key;
use crate::config::Retry;
use crate::events::{Failure, NodeStatus, Outcome};
use crate::graph::Graph;
use crate::names::{PersonaId, Stop};

pub use exchange::{Action, Idle, Input, Settings};
pub use halt::Halt;
pub use prefixes::SharedPrefix;
pub use slots::MOST as MOST_IN_FLIGHT;
pub use states::Handle;

use alike::Alike;
use halt::Gate;
use slots::Slots;
use states::{Flights, State, States};

/// Of nodes whose lane is held up there may be so many times what is opened for those that may go.
const MOST_STUCK: usize = 8;

/// The scheduler of one run.
#[derive(Debug)]
pub struct Schedule {
    graph: Arc<Graph>,
    retry: Retry,
    fail_fast: bool,
    /// Names only: what waits costs nothing else (design, rule 10). The next one is the last.
    waiting: Vec<PersonaId>,
    states: States,
    flights: Flights,
    slots: Slots,
    gate: Gate,
    alike: Alike,
    /// By node: the lane in which it goes. What a server says of one lane's rate says nothing of
    /// another's.
    lanes: Vec<usize>,
    /// The lanes that the limits hold up.
    held: Vec<usize>,
    sent: u64,
    failed_personas: usize,
    ended: bool,
}

impl Schedule {
    /// A scheduler for these personas, in this order.
    pub fn new(graph: Arc<Graph>, mut personas: Vec<PersonaId>, settings: Settings) -> Self {
        personas.reverse();
        let slots = Slots::new(settings.concurrency, settings.most);
        Self {
            lanes: vec![0; graph.len()],
            held: Vec::new(),
            states: States::new(graph.clone()),
            graph,
            gate: Gate::new(settings.retry.base, slots.allowed()),
            alike: Alike::default(),
            retry: settings.retry,
            fail_fast: settings.fail_fast,
            waiting: personas,
            flights: Flights::default(),
            slots,
            sent: 0,
            failed_personas: 0,
            ended: false,
        }
    }

    /// Puts each node into a lane, by its place in the pipeline: without this all are in one.
    pub fn in_lanes(mut self, lanes: Vec<usize>) -> Self {
        assert_eq!(lanes.len(), self.graph.len(), "BUG: a node without a lane");
        self.gate.divide(lanes.iter().max().map_or(1, |last| last + 1));
        self.lanes = lanes;
        self
    }

    /// Takes what happened and returns what is to be done. `now` is the time since the start of
    /// the run and never goes back.
    ///
    /// # Panics
    /// If an input answers nothing that was asked, or nothing can go on although the run has not
    /// ended: both are bugs.
    pub fn on(&mut self, now: Duration, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        self.take(now, input, &mut actions);
        self.wake(now);
        self.admit(now, &mut actions);
        self.end_if_over(&mut actions);
        actions
    }

    /// The node to send next, if a call may be sent now.
    pub fn candidate(&mut self, now: Duration) -> Option<Handle> {
        self.candidate_but(now, |_| false)
    }

    /// The same of those lanes only that are not `held` up.
    pub fn candidate_but(&mut self, now: Duration, held: impl Fn(usize) -> bool) -> Option<Handle> {
        self.wake(now);
        if self.states.in_flight() >= self.slots.allowed() || !self.gate.is_open(now) {
            return None;
        }
        let (lanes, gate) = (&self.lanes, &self.gate);
        let free = |node: usize| now >= gate.paused_until(lanes[node]) && !held(lanes[node]);
        if gate.is_probing() {
            self.states.probe(now, free)
        } else {
            self.states.next(now, free)
        }
    }

    /// When it is worth asking for a candidate again though nothing happens: a pause ends, of a lane
    /// that is not held up. Always after `now`.
    pub fn wake_at(&self, now: Duration) -> Option<Duration> {
        let reopens = self.gate.reopens_at()?;
        // In one lane the first of all is the first of it.
        let looked_at = if self.lanes.iter().all(|lane| *lane == 0) {
            1
        } else {
            usize::MAX
        };
        let paused = |handle: Handle| self.gate.paused_until(self.lanes[handle.node]);
        let free = |handle: &Handle| !self.held.contains(&self.lanes[handle.node]);
        let queued = self.states.queued().filter(free).take(looked_at).map(paused);
        let timers = self.states.timers().filter(|(_, handle)| free(handle));
        let timers = timers.take(looked_at).map(|(until, handle)| {
            // A probe does not wait for the pause of its node.
            let until = if self.gate.is_probing() {
                Duration::ZERO
            } else {
                until
            };
            until.max(paused(handle))
        });
        // Of those that may go now too: in an outage they wait for the probe.
        let ready = queued.chain(timers).min()?;
        Some(ready.max(reopens)).filter(|at| *at > now)
    }

    /// True while the driver reads personas, renders nodes, looks them up or writes transcripts.
    pub fn is_looking(&self) -> bool {
        self.states.has_jobs()
    }

    /// Calls in flight that are allowed now.
    pub fn concurrency(&self) -> usize {
        self.slots.allowed()
    }

    /// Calls in flight now.
    pub fn in_flight(&self) -> usize {
        self.states.in_flight()
    }

    /// Why there is no candidate, where there is none.
    pub fn idle(&self, now: Duration) -> Idle {
        if self.states.in_flight() >= self.slots.allowed() {
            return Idle::Full;
        }
        if self.gate.is_probing() {
            return Idle::Outage;
        }
        if self.lanes.iter().any(|lane| now < self.gate.paused_until(*lane)) {
            return Idle::Paused;
        }
        // What is queued here could go but for a hold of its lane.
        match (self.states.held(), self.states.sendable()) {
            (0, 0) => Idle::Needs,
            (0, _) => Idle::Retries,
            _ => Idle::Leaders,
        }
    }

    /// Moves the nodes whose pause is over back to the queue.
    fn wake(&mut self, now: Duration) {
        while let Some((_, handle)) = self.states.next_timer().filter(|(until, _)| *until <= now) {
            self.states.queue(now, handle);
        }
        self.states.succeed(now);
    }

    fn take(&mut self, now: Duration, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Start => {}
            Input::Held { lanes } => self.held = lanes,
            Input::Opened { slot, result } => self.opened(slot, result, actions),
            Input::Rendered { handle, key, prefix } => self.rendered(handle, key, prefix, actions),
            Input::Unrenderable { handle, failure } => self.fail(handle, failure, actions),
            Input::Looked { handle, hit: true } => self.done(handle, NodeStatus::Cached, actions),
            Input::Looked { handle, hit: false } => self.states.queue(now, handle),
            Input::Granted { handle } => self.send(now, handle, actions),
            Input::Answered { handle } => self.answered(now, handle, actions),
            Input::Rejected {
                handle,
                misfit,
                cut,
                jitter,
            } => self.rejected(now, handle, &misfit, cut, jitter, actions),
            Input::Faulted {
                handle,
                fault,
                jitter,
            } => self.faulted(now, handle, &fault, jitter, actions),
            Input::Abandoned { handle } => self.states.set(handle, State::Queued),
            Input::Closed { slot, failed } => self.closed(slot, failed),
            Input::Stop(stop) => self.stop(stop, actions),
            Input::Reopened => self.gate.reopened(now),
            Input::Enough { outcome, cause } => self.gate.end(outcome, Some(cause)),
            Input::Broken(failure) => self.gate.end(Outcome::Fatal, Some(failure)),
        }
    }

    fn opened(&mut self, slot: usize, result: Result<(), Failure>, actions: &mut Vec<Action>) {
        self.states.begin(slot);
        match result {
            Ok(()) => {
                for node in self.graph.clone().roots() {
                    self.want(Handle { slot, node }, actions);
                }
            }
            Err(failure) => {
                self.states.at_mut(slot).failure = Some(failure);
                self.skip_rest(slot, actions);
                self.close_if_finished(slot, actions);
            }
        }
    }

    /// All needs are there.
    fn want(&mut self, handle: Handle, actions: &mut Vec<Action>) {
        self.states.set(handle, State::Rendering);
        actions.push(Action::Render { handle });
    }

    fn rendered(
        &mut self,
        handle: Handle,
        key: Key,
        prefix: Option<SharedPrefix>,
        actions: &mut Vec<Action>,
    ) {
        if let Some(prefix) = prefix {
            self.states.share(handle, prefix);
        }
        self.states.node_mut(handle).key = Some(key);
        self.claim(handle, key, actions);
    }

    /// Looks in the store, or waits for the one who is about to ask the same. The key is claimed
    /// before the look, so that no answer can come between the look and the call.
    fn claim(&mut self, handle: Handle, key: Key, actions: &mut Vec<Action>) {
        if self.flights.claim(key, handle) {
            self.states.set(handle, State::Looking);
            actions.push(Action::Look { handle });
        } else {
            self.states.set(handle, State::Twin);
        }
    }

    fn send(&mut self, now: Duration, handle: Handle, actions: &mut Vec<Action>) {
        if matches!(self.states.node(handle).state, State::Backoff(_)) {
            self.states.set(handle, State::Queued);
        }
        self.states.send(now, handle);
        self.sent += 1;
        let (call, answered) = (self.sent, self.gate.answered_calls());
        let node = self.states.node_mut(handle);
        node.call = call;
        if node.attempts == 0 {
            node.answered_before = answered;
        }
        node.attempts += 1;
        actions.push(Action::Send {
            handle,
            attempt: node.attempts,
        });
        self.gate.sent(call);
    }

    fn stop(&mut self, stop: Stop, actions: &mut Vec<Action>) {
        if !self.gate.stop(stop) {
            return;
        }
        actions.push(Action::Stopping(stop));
        if stop == Stop::Abort && self.states.in_flight() > 0 {
            actions.push(Action::Abandon);
        }
    }

    /// Opens personas while what can be sent and what is on its way there does not fill the free
    /// slots with some to spare. Finishing started personas goes before starting new ones: that
    /// is the order of the queue; this only keeps the queue from running dry. Those who are held
    /// can be sent soon but not now: beside them there are always some that go first for another
    /// persona.
    fn admit(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let slots = self.slots.allowed();
        // Reading ahead costs memory and no money; so many look-ups at once keep the disk busy.
        let spare = slots.clamp(32, 1024);
        let unfinished = self.waiting.len() + self.states.open_count();
        self.states.set_tail(unfinished <= slots);
        let stuck = self.stuck(now);
        while !self.gate.is_closing() && self.wants_more(slots, spare, stuck) {
            let Some(persona) = self.waiting.pop() else { break };
            let slot = self.states.open();
            actions.push(Action::Open { slot, persona });
        }
    }

    /// The nodes that could be sent but for a pause or a hold of their lane: they must not keep others
    /// from being opened whose calls may go.
    fn stuck(&self, now: Duration) -> usize {
        let is_stuck = |lane: usize| now < self.gate.paused_until(lane) || self.held.contains(&lane);
        let several = self.lanes.iter().any(|lane| *lane != 0);
        if !several || !self.lanes.iter().any(|lane| is_stuck(*lane)) {
            return 0;
        }
        let timers = self.states.timers().map(|(_, handle)| handle);
        let sendable = self.states.queued().chain(timers);
        sendable
            .filter(|handle| is_stuck(self.lanes[handle.node]))
            .count()
    }

    fn wants_more(&self, slots: usize, spare: usize, stuck: usize) -> bool {
        let states = &self.states;
        // What is open has to be bounded, whatever it waits for.
        if stuck > MOST_STUCK * (slots + spare) {
            return false;
        }
        let ready = states.sendable() - stuck;
        if ready + states.approaching() + states.held() < slots + spare {
            return true;
        }
        // In the tail, whoever goes first for a persona begins a chain of three calls: at once.
        let free = slots.saturating_sub(states.in_flight());
        states.shares()
            && (states.is_tail() || ready + states.leaders_approaching() < free + slots.div_ceil(4).min(64))
    }

    fn end_if_over(&mut self, actions: &mut Vec<Action>) {
        if self.ended || self.states.is_busy() {
            return;
        }
        let all_done = self.waiting.is_empty() && self.states.open_count() == 0;
        let halt = match self.gate.halt() {
            // What was in flight when there was enough was all that was left.
            Some(halt) if !(all_done && halt.outcome.leaves_a_rest()) => halt,
            _ if all_done => Halt {
                outcome: if self.failed_personas > 0 {
                    Outcome::Partial
                } else {
                    Outcome::Complete
                },
                cause: None,
            },
            _ => {
                assert!(
                    self.states.sendable() > 0,
                    "BUG: nothing runs, nothing can be sent, and it is not the end"
                );
                return;
            }
        };
        self.ended = true;
        actions.push(Action::End(halt));
    }
}

#[cfg(test)]
mod tests;
