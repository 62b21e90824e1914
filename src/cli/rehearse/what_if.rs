//! What other limits would change: each of them one step up by itself, and half the calls in flight,
//! with the chances that the first rehearsal had.

use std::time::Duration;

use crate::call::Money;
use crate::run::{Night, Rehearsal};

/// A smaller difference than this is none.
const DIFFERENT: f64 = 0.02;

/// A limit that is another one.
pub struct WhatIf {
    /// As it is typed: `--rpm 1000`.
    pub option: String,
    pub rehearsal: Rehearsal,
    pub night: Night,
    /// What it would be instead of.
    pub now: Now,
}

/// The night that it is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Now {
    pub took: Duration,
    pub called: u64,
    pub cost: Option<Money>,
}

/// The questions that there are; they are answered later.
pub fn ask(rehearsal: &Rehearsal, budget: Option<Money>) -> Vec<WhatIf> {
    let mut asked = Vec::new();
    let mut ask = |option: String, change: &dyn Fn(&mut Rehearsal)| {
        let mut other = rehearsal.clone();
        change(&mut other);
        asked.push(WhatIf {
            option,
            rehearsal: other,
            night: Night::default(),
            now: Now {
                took: Duration::ZERO,
                called: 0,
                cost: None,
            },
        });
    };
    if let Some(rpm) = rehearsal.requests_per_minute.map(|rpm| rpm.saturating_mul(2)) {
        ask(format!("--rpm {rpm}"), &|other| {
            other.requests_per_minute = Some(rpm)
        });
    }
    if let Some(tpm) = rehearsal.tokens_per_minute.map(|tpm| tpm.saturating_mul(2)) {
        ask(format!("--tpm {tpm}"), &|other| {
            other.tokens_per_minute = Some(tpm)
        });
    }
    if let Some(workers) = rehearsal.settings.concurrency {
        for workers in [(workers * 2).min(100_000), workers / 2] {
            if workers > 0 {
                ask(format!("--workers {workers}"), &|other| {
                    other.settings.concurrency = Some(workers);
                });
            }
        }
    }
    if let Some(budget) = budget {
        let twice = Money::from_usd(budget.usd() * 2.0);
        ask(format!("--budget {}", twice.usd()), &|other| {
            // That of the run comes first.
            if let Some(limit) = other.budget.first_mut() {
                limit.amount = twice;
            }
        });
    }
    asked
}

impl WhatIf {
    /// With what came of it, beside what comes of the run as it is.
    pub fn answered(self, now: &Night, night: Night) -> Self {
        Self {
            night,
            now: Now {
                took: now.took,
                called: now.called,
                cost: now.cost,
            },
            ..self
        }
    }

    /// True if it takes another time.
    pub fn is_another_time(&self) -> bool {
        differs(self.now.took.as_secs_f64(), self.night.took.as_secs_f64())
    }

    /// True if more nodes get their answer, or fewer.
    pub fn is_another_rest(&self) -> bool {
        differs(self.now.called as f64, self.night.called as f64)
    }

    /// True if it costs something else.
    pub fn is_another_cost(&self) -> bool {
        let costs = self.now.cost.zip(self.night.cost);
        costs.is_some_and(|(now, then)| differs(now.usd(), then.usd()))
    }

    /// True if it changes anything.
    pub fn matters(&self) -> bool {
        // What a deadline cuts off elsewhere costs something else, and that is all.
        self.is_another_time() || self.is_another_rest()
    }
}

fn differs(now: f64, then: f64) -> bool {
    (then - now).abs() > DIFFERENT * now.max(then)
}
