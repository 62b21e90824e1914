//! A run in which everything fails the same way: the same refusal or the same bad answer, and not
//! one good answer. It counts nodes that were given up; it does not know calls.

use std::collections::BTreeSet;

use crate::events::Failure;

/// So many nodes must have been given up for the same cause, before anything was accepted …
const NODES: usize = 16;
/// … of so many personas: what is wrong with one of them, or with a few, says nothing of the rest.
const PERSONAS: usize = 5;

/// What the nodes that were given up so far have in common.
#[derive(Debug, Default)]
pub struct Alike {
    /// Something was accepted, or two causes differ: there is nothing to find any more.
    settled: bool,
    cause: Option<(&'static str, Option<u16>)>,
    nodes: usize,
    personas: BTreeSet<u64>,
}

impl Alike {
    /// An answer was accepted.
    pub fn accepted(&mut self) {
        self.settled = true;
        self.personas.clear();
    }

    /// A node of this persona was given up. Returns what to tell once everything fails alike.
    pub fn given_up(&mut self, persona: u64, failure: &Failure) -> Option<Failure> {
        let cause = (failure.kind, failure.http_status);
        if self.settled || *self.cause.get_or_insert(cause) != cause {
            self.accepted();
            return None;
        }
        self.nodes += 1;
        self.personas.insert(persona);
        (self.nodes >= NODES && self.personas.len() >= PERSONAS).then(|| Failure {
            message: format!(
                "all {} nodes that ended, of {} personas, failed the same way, and no answer was accepted: {}",
                self.nodes,
                self.personas.len(),
                failure.message
            ),
            ..failure.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Rejection;

    fn failure(http_status: Option<u16>) -> Failure {
        Failure {
            http_status,
            ..Failure::from(Rejection::Empty)
        }
    }

    /// After how many failed nodes the run ends, if node `n` is of persona `persona(n)`.
    fn ends_after(persona: impl Fn(u64) -> u64, status: impl Fn(u64) -> Option<u16>) -> Option<u64> {
        let mut alike = Alike::default();
        (0..200).find(|&n| alike.given_up(persona(n), &failure(status(n))).is_some())
    }

    #[test]
    fn sixteen_nodes_of_five_personas_are_enough_and_less_is_not() {
        assert_eq!(ends_after(|n| n, |_| None), Some(15));
        assert_eq!(ends_after(|n| n / 7, |_| None), Some(28), "the fifth persona");
        assert_eq!(ends_after(|n| n % 4, |_| None), None);
    }

    #[test]
    fn another_cause_or_one_good_answer_is_enough_to_go_on() {
        assert_eq!(ends_after(|n| n, |n| Some(if n == 9 { 422 } else { 400 })), None);
        let mut alike = Alike::default();
        alike.given_up(0, &failure(None));
        alike.accepted();
        assert!((1..100).all(|n| alike.given_up(n, &failure(None)).is_none()));
    }
}
