//! Personas that cannot be worked on, as commands name them that only look: those that fail in the same
//! words are named a few times, and then counted.

use crate::events::{Alike, Failure, SHOWN_ALIKE};
use crate::names::PersonaId;
use crate::printable::one_line;
use crate::report::figures::count;

/// Those that were met.
#[derive(Default)]
pub struct FailedPersonas {
    /// By their words, as they are printed.
    alike: Alike,
}

impl FailedPersonas {
    /// The line about one more; `None` once there are enough of its kind.
    pub fn line(&mut self, persona: &PersonaId, failure: &Failure) -> Option<String> {
        let message = one_line(&failure.message);
        let shown = self.alike.add(&message) <= SHOWN_ALIKE;
        shown.then(|| format!("✗ {}  {message}", one_line(persona.as_str())))
    }

    /// The lines about those that were only counted.
    pub fn others(&self) -> impl Iterator<Item = String> {
        let line =
            |(message, more): (&str, u64)| format!("✗ and {}: {message}", count(more, "other persona"));
        self.alike.others().map(line)
    }
}
