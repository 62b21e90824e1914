//! Decides what happens next: inputs in, actions out. A plain state machine without I/O, clock or
//! chance (design, rules 8 and 9): the time and the random numbers come with the inputs, so that
//! a whole night can be replayed.
//!
//! The approach: personas are opened while there is room, one after the other. A node whose needs
//! are done is rendered, claims the key of its request (one owner for each key, twins wait), and
//! is looked up. A hit is done; a miss is queued. [`Schedule::candidate`] names the node that
//! should be sent next, if one may be; the driver asks the limits and says [`Input::Granted`].
//! What comes back ends the node or sends it to a pause. When all nodes of a persona have ended,
//! its transcript is written and its slot is free.

mod halt;
mod slots;
mod states;

use std::sync::Arc;
use std::time::Duration;

use crate::call::{Fault, FaultKind, Key, Rejection, Scope};
use crate::config::Retry;
use crate::events::{Failure, NodeStatus, Outcome};
use crate::graph::Graph;
use crate::names::{PersonaId, Stop};

pub use halt::Halt;
pub use states::Handle;

use halt::{Change, Gate};
use slots::Slots;
use states::{Flights, State, States};

/// What a run asks of the scheduler.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Calls in flight; `None`: to be found.
    pub concurrency: Option<usize>,
    /// What happens after a fault or a bad answer.
    pub retry: Retry,
    /// End at the first failed node.
    pub fail_fast: bool,
}

/// What happened outside. `jitter` is a random number, at least 0 and below 1.
#[derive(Clone, Debug)]
pub enum Input {
    /// Nothing; begins the run.
    Start,
    /// The persona was read and all its prompts can be rendered, or not.
    Opened {
        slot: usize,
        result: Result<(), Failure>,
    },
    /// The node's request was rendered: its key and the tokens to reserve for it.
    Rendered { handle: Handle, key: Key, tokens: u64 },
    /// The node's request cannot be made.
    Unrenderable { handle: Handle, failure: Failure },
    /// The store has the answer, or not.
    Looked { handle: Handle, hit: bool },
    /// The limits let the candidate go.
    Granted { handle: Handle },
    /// A good answer came and is durable.
    Answered { handle: Handle },
    /// A bad answer came and is durable.
    Rejected {
        handle: Handle,
        rejection: Rejection,
        jitter: f64,
    },
    /// The call failed.
    Faulted {
        handle: Handle,
        fault: Fault,
        jitter: f64,
    },
    /// The call was given up because of [`Action::Abandon`].
    Abandoned { handle: Handle },
    /// The persona's transcript is written, or cannot be, or there was none to write.
    Closed { slot: usize, failed: bool },
    /// A person asked to stop.
    Stop(Stop),
    /// Something that meets every call: the store cannot be written.
    Broken(Failure),
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read the persona into this slot: answered by `Opened`.
    Open { slot: usize, persona: PersonaId },
    /// Render the node's request: answered by `Rendered` or `Unrenderable`.
    Render { handle: Handle },
    /// Look in the store: answered by `Looked`.
    Look { handle: Handle },
    /// Make the call: answered by `Answered`, `Rejected`, `Faulted` or `Abandoned`.
    Send { handle: Handle, attempt: u32 },
    /// The node has ended.
    Finish {
        handle: Handle,
        status: NodeStatus,
        failure: Option<Failure>,
    },
    /// All nodes have ended: write the transcript if the result is there, and forget the persona.
    /// Answered by `Closed`.
    Close { slot: usize, failure: Option<Failure> },
    /// Tell: the call will be made again after this pause.
    Retry {
        handle: Handle,
        cause: String,
        pause: Duration,
    },
    /// Tell: everybody waits.
    Pause { pause: Duration, cause: String },
    /// Tell: the provider does not answer anyone.
    OutageBegan { cause: String },
    /// Tell: it answers again.
    OutageEnded { lasted: Duration },
    /// Tell: so many calls in flight from now on.
    Concurrency(usize),
    /// Tell: a person asked to stop.
    Stopping(Stop),
    /// Give up every call in flight.
    Abandon,
    /// The run is over. Always the last action.
    End(Halt),
}

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
    sent: u64,
    failed_personas: usize,
    ended: bool,
}

impl Schedule {
    /// A scheduler for these personas, in this order.
    pub fn new(graph: Arc<Graph>, mut personas: Vec<PersonaId>, settings: Settings) -> Self {
        personas.reverse();
        let slots = Slots::new(settings.concurrency);
        Self {
            states: States::new(graph.clone()),
            graph,
            gate: Gate::new(settings.retry.base, slots.allowed()),
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
        self.admit(&mut actions);
        self.end_if_over(&mut actions);
        actions
    }

    /// The node to send next and the tokens to reserve for it, if a call may be sent now.
    pub fn candidate(&mut self, now: Duration) -> Option<(Handle, u64)> {
        self.wake(now);
        if self.states.in_flight() >= self.slots.allowed() || !self.gate.is_open(now) {
            return None;
        }
        let handle = if self.gate.is_probing() {
            self.states.probe()
        } else {
            self.states.first_queued()
        }?;
        Some((handle, self.states.node(handle).tokens))
    }

    /// When it is worth asking for a candidate again though nothing happens: a pause ends.
    /// Always after `now`.
    pub fn wake_at(&self, now: Duration) -> Option<Duration> {
        let reopens = self.gate.reopens_at()?;
        let ready = match self.states.next_timer() {
            _ if self.states.first_queued().is_some() || self.gate.is_probing() => Duration::ZERO,
            Some((until, _)) => until,
            None => return None,
        };
        Some(ready.max(reopens)).filter(|at| *at > now)
    }

    /// Calls in flight that are allowed now.
    pub fn concurrency(&self) -> usize {
        self.slots.allowed()
    }

    /// Moves the nodes whose pause is over back to the queue.
    fn wake(&mut self, now: Duration) {
        while let Some((_, handle)) = self.states.next_timer().filter(|(until, _)| *until <= now) {
            self.states.set(handle, State::Queued);
        }
    }

    fn take(&mut self, now: Duration, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Start => {}
            Input::Opened { slot, result } => self.opened(slot, result, actions),
            Input::Rendered { handle, key, tokens } => self.rendered(handle, key, tokens, actions),
            Input::Unrenderable { handle, failure } => self.fail(handle, failure, actions),
            Input::Looked { handle, hit: true } => self.done(handle, NodeStatus::Cached, actions),
            Input::Looked { handle, hit: false } => self.states.set(handle, State::Queued),
            Input::Granted { handle } => self.send(now, handle, actions),
            Input::Answered { handle } => self.answered(now, handle, actions),
            Input::Rejected {
                handle,
                rejection,
                jitter,
            } => self.rejected(now, handle, rejection, jitter, actions),
            Input::Faulted {
                handle,
                fault,
                jitter,
            } => self.faulted(now, handle, &fault, jitter, actions),
            Input::Abandoned { handle } => self.states.set(handle, State::Queued),
            Input::Closed { slot, failed } => self.closed(slot, failed),
            Input::Stop(stop) => self.stop(stop, actions),
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

    fn rendered(&mut self, handle: Handle, key: Key, tokens: u64, actions: &mut Vec<Action>) {
        let node = self.states.node_mut(handle);
        node.key = Some(key);
        node.tokens = tokens;
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
        self.states.set(handle, State::InFlight);
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
        self.gate.sent(now, call);
    }

    fn answered(&mut self, now: Duration, handle: Handle, actions: &mut Vec<Action>) {
        self.server_works(now, actions);
        let before = self.slots.allowed();
        self.slots.answered(self.states.in_flight());
        self.tell_concurrency(before, actions);
        self.done(handle, NodeStatus::Called, actions);
    }

    fn rejected(
        &mut self,
        now: Duration,
        handle: Handle,
        rejection: Rejection,
        jitter: f64,
        actions: &mut Vec<Action>,
    ) {
        self.server_works(now, actions);
        let node = self.states.node_mut(handle);
        node.rejected += 1;
        if node.rejected > self.retry.rejected {
            let mut failure = Failure::from(rejection);
            failure.message = format!("{rejection}, {} times", node.rejected);
            self.fail(handle, failure, actions);
        } else {
            let pause = self.retry.base.mul_f64(jitter);
            self.pause(now, handle, rejection.to_string(), pause, actions);
        }
    }

    /// Sorts a fault by its scope (design, rules 6 and 7).
    fn faulted(
        &mut self,
        now: Duration,
        handle: Handle,
        fault: &Fault,
        jitter: f64,
        actions: &mut Vec<Action>,
    ) {
        match fault.scope {
            Scope::Run => {
                self.states.set(handle, State::Queued);
                self.gate.end(Outcome::Fatal, Some(Failure::from(fault)));
            }
            Scope::Node => {
                self.server_works(now, actions);
                self.fail(handle, Failure::from(fault), actions);
            }
            Scope::Attempt => self.attempt_failed(now, handle, fault, jitter, actions),
        }
    }

    fn attempt_failed(
        &mut self,
        now: Duration,
        handle: Handle,
        fault: &Fault,
        jitter: f64,
        actions: &mut Vec<Action>,
    ) {
        let call = self.states.node(handle).call;
        if matches!(fault.kind, FaultKind::RateLimited | FaultKind::Overloaded) {
            let before = self.slots.allowed();
            self.slots.refused(call, self.sent);
            self.tell_concurrency(before, actions);
        }
        match self.gate.faulted(now, call, fault) {
            Some(Change::OutageBegan) => actions.push(Action::OutageBegan {
                cause: fault.to_string(),
            }),
            Some(Change::Paused { pause }) => actions.push(Action::Pause {
                pause,
                cause: fault.to_string(),
            }),
            Some(Change::OutageEnded { .. }) | None => {}
        }
        let answered = self.gate.answered_calls();
        let limit = self.retry.attempts;
        let node = self.states.node_mut(handle);
        // An outage is not a failure: what fails while nothing else succeeds does not count.
        let counts = match fault.kind {
            FaultKind::RateLimited => false,
            kind if kind.is_outage() => answered > node.answered_before,
            _ => true,
        };
        node.answered_before = answered;
        node.faults += u32::from(counts);
        if node.faults >= limit {
            let mut failure = Failure::from(fault);
            failure.message = format!("{}, {} times", fault.message, node.faults);
            return self.fail(handle, failure, actions);
        }
        node.pauses += 1;
        let pause = self
            .retry
            .pause(self.states.node(handle).pauses, jitter, fault.retry_after);
        self.pause(now, handle, fault.to_string(), pause, actions);
    }

    /// A node waits and is sent again, unless the run is about to end anyway.
    fn pause(
        &mut self,
        now: Duration,
        handle: Handle,
        cause: String,
        pause: Duration,
        actions: &mut Vec<Action>,
    ) {
        self.states.set(handle, State::Backoff(now + pause));
        if !self.gate.is_closing() {
            actions.push(Action::Retry { handle, cause, pause });
        }
    }

    fn server_works(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if let Some(Change::OutageEnded { lasted }) = self.gate.answered(now) {
            actions.push(Action::OutageEnded { lasted });
        }
    }

    fn tell_concurrency(&self, before: usize, actions: &mut Vec<Action>) {
        if before != self.slots.allowed() {
            actions.push(Action::Concurrency(self.slots.allowed()));
        }
    }

    fn done(&mut self, handle: Handle, status: NodeStatus, actions: &mut Vec<Action>) {
        self.end_node(handle, State::Done, None, actions);
        actions.push(Action::Finish {
            handle,
            status,
            failure: None,
        });
        for twin in self.release(handle) {
            let key = self.states.node(twin).key.expect("BUG: a twin without a key");
            self.claim(twin, key, actions);
        }
        for &dependant in self.graph.clone().dependants(handle.node) {
            let next = Handle {
                slot: handle.slot,
                node: dependant,
            };
            match self.states.node(next).state {
                State::Waiting(1) => self.want(next, actions),
                State::Waiting(needs) => self.states.set(next, State::Waiting(needs - 1)),
                // Another need of it has failed.
                State::Skipped => {}
                other => unreachable!("BUG: {next:?} is {other:?} while a need of it ends"),
            }
        }
        self.close_if_finished(handle.slot, actions);
    }

    /// Ends a node, and with it those that need it and those that wait for the same answer: the
    /// same request would fail again.
    fn fail(&mut self, handle: Handle, failure: Failure, actions: &mut Vec<Action>) {
        let mut failed = vec![handle];
        failed.extend(self.release(handle));
        for handle in failed {
            self.end_node(handle, State::Failed, Some(failure.clone()), actions);
            for node in self.graph.downstream(handle.node) {
                let next = Handle {
                    slot: handle.slot,
                    node,
                };
                if !self.states.node(next).state.is_final() {
                    self.end_node(next, State::Skipped, None, actions);
                }
            }
            if self.fail_fast {
                self.gate.end(Outcome::Partial, Some(failure.clone()));
            }
            self.close_if_finished(handle.slot, actions);
        }
    }

    fn end_node(
        &mut self,
        handle: Handle,
        state: State,
        failure: Option<Failure>,
        actions: &mut Vec<Action>,
    ) {
        self.states.set(handle, state);
        let status = match state {
            State::Failed => NodeStatus::Failed,
            State::Skipped => NodeStatus::Skipped,
            _ => return,
        };
        if state == State::Failed {
            let open = self.states.at_mut(handle.slot);
            open.failure
                .get_or_insert_with(|| failure.clone().expect("BUG: a failure without a cause"));
        }
        actions.push(Action::Finish {
            handle,
            status,
            failure,
        });
    }

    fn skip_rest(&mut self, slot: usize, actions: &mut Vec<Action>) {
        for node in 0..self.graph.len() {
            let handle = Handle { slot, node };
            if !self.states.node(handle).state.is_final() {
                self.end_node(handle, State::Skipped, None, actions);
            }
        }
    }

    /// The end of a flight: returns the twins. A node that never claimed its key has none.
    fn release(&mut self, handle: Handle) -> Vec<Handle> {
        match self.states.node(handle).key {
            Some(key) => self.flights.release(key),
            None => Vec::new(),
        }
    }

    fn close_if_finished(&mut self, slot: usize, actions: &mut Vec<Action>) {
        let open = self.states.at(slot);
        if open.unfinished == 0 {
            actions.push(Action::Close {
                slot,
                failure: open.failure.clone(),
            });
            self.states.begin_writing();
        }
    }

    fn closed(&mut self, slot: usize, failed: bool) {
        self.states.close(slot);
        self.failed_personas += usize::from(failed);
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
    /// is the order of the queue; this only keeps the queue from running dry.
    fn admit(&mut self, actions: &mut Vec<Action>) {
        let slots = self.slots.allowed();
        // Reading ahead costs memory and no money; so many look-ups at once keep the disk busy.
        let spare = slots.clamp(32, 1024);
        while !self.gate.is_closing() && self.states.sendable() + self.states.approaching() < slots + spare {
            let Some(persona) = self.waiting.pop() else { break };
            let slot = self.states.open();
            actions.push(Action::Open { slot, persona });
        }
        let unfinished = self.waiting.len() + self.states.open_count();
        self.states.set_tail(unfinished <= slots);
    }

    fn end_if_over(&mut self, actions: &mut Vec<Action>) {
        if self.ended || self.states.is_busy() {
            return;
        }
        let halt = match self.gate.halt() {
            Some(halt) => halt,
            None if self.waiting.is_empty() && self.states.open_count() == 0 => Halt {
                outcome: if self.failed_personas > 0 {
                    Outcome::Partial
                } else {
                    Outcome::Complete
                },
                cause: None,
            },
            None => {
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

impl Retry {
    /// The pause before the next attempt: full jitter under a ceiling that doubles from `base` to
    /// `max`; what the server asked for is a minimum, and a little more is added so that not all
    /// come back at the same moment.
    fn pause(&self, pauses: u32, jitter: f64, retry_after: Option<Duration>) -> Duration {
        let ceiling = self
            .base
            .saturating_mul(1 << pauses.saturating_sub(1).min(20))
            .min(self.max);
        match retry_after {
            Some(asked) => asked + self.base.min(self.max).mul_f64(jitter),
            None => ceiling.mul_f64(jitter),
        }
    }
}

#[cfg(test)]
mod tests;
