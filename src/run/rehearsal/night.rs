//! A whole run, rehearsed with chance: what comes of it, and how it passes.

use std::time::Duration;

use crate::call::Money;
use crate::events::Outcome;

use super::{Chance, Course, OutOfMoney, Rehearsal, Stage, Wall};

/// What comes of a run.
#[derive(Clone, Debug)]
pub struct Night {
    /// From its start to the last answer, sleep included.
    pub took: Duration,
    /// The part of it outside its hours.
    pub asleep: Duration,
    /// How it ends.
    pub outcome: Outcome,
    /// Calls that were sent.
    pub calls: u64,
    /// Those that brought a bad answer, and those that ended in a fault.
    pub rejected: u64,
    /// See `rejected`.
    pub faulted: u64,
    /// Nodes that got their answer by a call.
    pub called: u64,
    /// Nodes that failed, and that were skipped since they need such a one.
    pub failed: u64,
    /// See `failed`.
    pub skipped: u64,
    /// Input and output tokens of all answers.
    pub input: f64,
    /// See `input`.
    pub output: f64,
    /// What they cost; `None`: a call had no price.
    pub cost: Option<Money>,
    /// Where the budget ends it.
    pub out_of_money: Option<OutOfMoney>,
    /// How it passes.
    pub course: Course,
}

impl Default for Night {
    fn default() -> Self {
        Self {
            took: Duration::ZERO,
            asleep: Duration::ZERO,
            outcome: Outcome::Complete,
            calls: 0,
            rejected: 0,
            faulted: 0,
            called: 0,
            failed: 0,
            skipped: 0,
            input: 0.0,
            output: 0.0,
            cost: Some(Money::ZERO),
            out_of_money: None,
            course: Course::default(),
        }
    }
}

impl Rehearsal {
    /// Rehearses all of it by a clock on the wall, with the chances that a seed draws.
    pub fn night(&self, wall: &Wall, seed: u64) -> Night {
        let chance = Chance::seeded(self, seed);
        let stage = Stage::new(
            self,
            &self.personas,
            Duration::MAX,
            &self.budget,
            chance,
            Some(wall),
        );
        stage.play().night
    }
}
