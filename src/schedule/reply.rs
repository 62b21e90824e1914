//! What comes back of a call, sorted: done, again after a pause, or given up; and what it says of
//! the run as a whole.

use std::time::Duration;

use crate::call::{Cut, Fault, FaultKind, Misfit, Scope};
use crate::config::Retry;
use crate::events::{Failure, NodeStatus, Outcome};
use crate::schedule::halt::{GateChange, in_words};
use crate::schedule::states::State;
use crate::schedule::{Action, Handle, Schedule};

/// So many faults while others were answered make a node a suspect. One tells nothing: an outage
/// meets everyone in flight when it begins, and others were answered since they were sent.
const SUSPECT: u32 = 2;
/// How long only faults must come before they are held against the last nodes, where each of them
/// is a suspect, in times of `retry.max`: 30 minutes where that is a minute, its default. Much
/// longer than a provider's hiccup, and what is known speaks against them.
const PATIENCE_WITH_SUSPECTS: u32 = 30;
/// The same for one last node of which nothing is known: an outage of two hours costs no node.
const PATIENCE_WITH_THE_LAST: Duration = Duration::from_secs(3 * 60 * 60);

impl Schedule {
    pub(super) fn answered(&mut self, now: Duration, handle: Handle, actions: &mut Vec<Action>) {
        self.server_works(now, actions);
        self.alike.accepted();
        let before = self.slots.allowed();
        self.slots.answered(self.states.in_flight());
        self.tell_concurrency(before, actions);
        self.states.keeps_prefix(now, handle);
        self.done(handle, NodeStatus::Called, actions);
    }

    pub(super) fn rejected(
        &mut self,
        now: Duration,
        handle: Handle,
        misfit: &Misfit,
        cut: Option<Cut>,
        jitter: f64,
        actions: &mut Vec<Action>,
    ) {
        self.server_works(now, actions);
        let cause = cut.map_or_else(|| misfit.to_string(), |cut| cut.to_string());
        let advice = cut.map_or_else(String::new, |cut| format!("; {}", cut.advice()));
        // A bad answer is one: its prompt was read.
        self.states.keeps_prefix(now, handle);
        let node = self.states.node_mut(handle);
        node.rejected += 1;
        if node.rejected > self.retry.rejected {
            let mut failure = Failure::from(misfit.rejection);
            failure.message = times(cause, node.rejected) + &advice;
            self.end_if_all_fail_alike(handle, &failure);
            match misfit.rejection.is_by_check() {
                true => self.refuse(handle, failure, actions),
                false => self.fail(handle, failure, actions),
            }
        } else {
            let pause = self.retry.base.mul_f64(jitter);
            self.pause(now, handle, cause, pause, actions);
        }
    }

    /// Sorts a fault by its scope (design, rules 6 and 7).
    pub(super) fn faulted(
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
                let failure = Failure::from(fault);
                self.end_if_all_fail_alike(handle, &failure);
                self.fail(handle, failure, actions);
            }
            Scope::Attempt => self.attempt_failed(now, handle, fault, jitter, actions),
        }
    }

    /// Where everything fails the same way the rest would too: it is left, unpaid.
    fn end_if_all_fail_alike(&mut self, handle: Handle, failure: &Failure) {
        let persona = self.states.at(handle.slot).admitted;
        let left = !self.waiting.is_empty() || self.states.sendable() > 0;
        if let Some(cause) = self.alike.given_up(persona, failure)
            && left
        {
            self.gate.end(Outcome::Fatal, Some(cause));
        }
    }

    pub(super) fn attempt_failed(
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
        let others = self.states.in_flight() - 1;
        let lane = self.lanes[handle.node];
        match self.gate.faulted(now, call, lane, fault, others) {
            Some(GateChange::OutageBegan) => actions.push(Action::OutageBegan {
                cause: fault.to_string(),
            }),
            Some(GateChange::Paused { pause }) => actions.push(Action::Pause {
                lane,
                pause,
                cause: fault.to_string(),
            }),
            Some(GateChange::OutageEnded { .. }) | None => {}
        }
        let answered = self.gate.answered_calls();
        let limit = self.retry.attempts;
        let node = self.states.node_mut(handle);
        // An outage is not a failure: what fails while nothing else succeeds does not count.
        let counts = match fault.kind {
            // A hint that is refused is left out the next time.
            FaultKind::RateLimited | FaultKind::BadParameter => false,
            kind if kind.is_outage() => answered > node.answered_before,
            _ => true,
        };
        node.answered_before = answered;
        node.faults += u32::from(counts);
        if node.faults >= limit {
            let mut failure = Failure::from(fault);
            failure.message = times(failure.message, node.faults);
            return self.fail(handle, failure, actions);
        }
        if fault.kind.is_outage()
            && let Some(lasted) = self.hopeless_for(now)
        {
            let mut failure = Failure::from(fault);
            let lasted = in_words(lasted);
            failure.message = format!(
                "{}, for {lasted}, and nothing else was left to try",
                fault.message
            );
            self.gate.let_last_tries_go();
            self.states.release(now);
            return self.fail(handle, failure, actions);
        }
        let node = self.states.node_mut(handle);
        // Each kind of trouble has a ceiling of its own: being told to slow down often must not
        // make the first broken connection wait for a minute.
        if node.trouble.replace(fault.kind) != Some(fault.kind) {
            node.pauses = 0;
        }
        node.pauses += 1;
        let pause = self.retry.pause(node.pauses, jitter, fault.retry_after);
        self.pause(now, handle, fault.to_string(), pause, actions);
    }

    /// For how long faults have come and nothing else, once that is too long for the nodes that are
    /// left: nobody else can show that the provider works, so an outage and requests that fail
    /// every time look the same, and only time can tell.
    fn hopeless_for(&self, now: Duration) -> Option<Duration> {
        let failing = self.gate.failing_for(now);
        // Without any answer the run as a whole is given up, long before this.
        let with_suspects = self.retry.max * PATIENCE_WITH_SUSPECTS;
        if failing < with_suspects || self.gate.answered_calls() == 0 || !self.waiting.is_empty() {
            return None;
        }
        let (mut nodes, mut suspects) = (0, 0);
        for node in self.states.left()? {
            nodes += 1;
            suspects += usize::from(node.faults >= SUSPECT);
        }
        let patience = match nodes {
            _ if nodes == suspects => with_suspects,
            1 => PATIENCE_WITH_THE_LAST,
            _ => return None,
        };
        (failing >= patience).then_some(failing)
    }

    /// A node waits and is sent again, unless the run is about to end anyway.
    pub(super) fn pause(
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

    pub(super) fn server_works(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if let Some(GateChange::OutageEnded { lasted }) = self.gate.answered(now) {
            // Whoever waits does so because of the outage, and that is over.
            self.states.release(now);
            self.states.regroup(now);
            actions.push(Action::OutageEnded { lasted });
        }
    }

    pub(super) fn tell_concurrency(&self, before: usize, actions: &mut Vec<Action>) {
        if before != self.slots.allowed() {
            actions.push(Action::Concurrency(self.slots.allowed()));
        }
    }
}

/// A message that came so often.
fn times(message: String, count: u32) -> String {
    match count {
        1 => message,
        count => format!("{message}, {count} times"),
    }
}

impl Retry {
    /// The pause before the next attempt: full jitter under a ceiling that doubles from `base` to
    /// `max`; what the server asked for is a minimum, and a little more is added so that not all
    /// come back at the same moment.
    pub(super) fn pause(&self, pauses: u32, jitter: f64, retry_after: Option<Duration>) -> Duration {
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
