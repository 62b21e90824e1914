//! The end of a node and of a persona: what goes on with it, and what ends with it.

use crate::events::{Failure, NodeStatus, Outcome};
use crate::schedule::states::State;
use crate::schedule::{Action, Handle, Schedule};

impl Schedule {
    pub(super) fn done(&mut self, handle: Handle, status: NodeStatus, actions: &mut Vec<Action>) {
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
    pub(super) fn fail(&mut self, handle: Handle, failure: Failure, actions: &mut Vec<Action>) {
        let mut failed = vec![handle];
        failed.extend(self.release(handle));
        self.fail_all(failed, &failure, actions);
    }

    /// Ends a node whose answers its checks refused. Another node that waits for the same answer may
    /// have other checks: it looks for itself.
    pub(super) fn refuse(&mut self, handle: Handle, failure: Failure, actions: &mut Vec<Action>) {
        let twins = self.release(handle).into_iter();
        let (mut failed, others): (Vec<_>, Vec<_>) = twins.partition(|twin| twin.node == handle.node);
        failed.push(handle);
        self.fail_all(failed, &failure, actions);
        for twin in others {
            let key = self.states.node(twin).key.expect("BUG: a twin without a key");
            self.claim(twin, key, actions);
        }
    }

    fn fail_all(&mut self, failed: Vec<Handle>, failure: &Failure, actions: &mut Vec<Action>) {
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

    pub(super) fn end_node(
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

    pub(super) fn skip_rest(&mut self, slot: usize, actions: &mut Vec<Action>) {
        for node in 0..self.graph.len() {
            let handle = Handle { slot, node };
            if !self.states.node(handle).state.is_final() {
                self.end_node(handle, State::Skipped, None, actions);
            }
        }
    }

    /// The end of a flight: returns the twins. A node that never claimed its key has none.
    pub(super) fn release(&mut self, handle: Handle) -> Vec<Handle> {
        match self.states.node(handle).key {
            Some(key) => self.flights.release(key),
            None => Vec::new(),
        }
    }

    pub(super) fn close_if_finished(&mut self, slot: usize, actions: &mut Vec<Action>) {
        let open = self.states.at(slot);
        if open.unfinished == 0 {
            actions.push(Action::Close {
                slot,
                failure: open.failure.clone(),
            });
            self.states.begin_writing();
        }
    }

    pub(super) fn closed(&mut self, slot: usize, failed: bool) {
        self.states.close(slot);
        self.failed_personas += usize::from(failed);
    }
}
