//! The limits of a run whose nodes ask several models. Providers limit each model by itself, so what
//! is told and refused is kept by model; what is configured holds for all of them together.

use std::sync::Arc;
use std::time::Duration;

use crate::call::{Counted, Quotas, RateChange};
use crate::limit::{Hold, Limits};

/// The limits of one run, by model.
#[derive(Debug)]
pub struct ModelLimits {
    /// By node: which of the models it asks.
    lanes: Vec<usize>,
    names: Vec<Arc<str>>,
    models: Vec<Limits>,
    /// What is configured, where there is more than one model; else it is in that one's limits.
    all: Option<Limits>,
}

/// Why a call may not start yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// From when it is worth asking again.
    pub until: Duration,
    /// Which limit it is.
    pub counted: Counted,
    /// The calls of other models may start all the same.
    pub alone: bool,
    /// Nothing is left, as the server said.
    pub by_the_server: bool,
}

impl ModelLimits {
    /// Limits for nodes that ask these models, for a run that starts now.
    pub fn new(
        models: &[Arc<str>],
        requests_per_minute: Option<u32>,
        tokens_per_minute: Option<u32>,
    ) -> Self {
        let mut names: Vec<Arc<str>> = Vec::new();
        let lane = |model: &Arc<str>| {
            names.iter().position(|name| name == model).unwrap_or_else(|| {
                names.push(model.clone());
                names.len() - 1
            })
        };
        let lanes: Vec<usize> = models.iter().map(lane).collect();
        let configured = || Limits::new(requests_per_minute, tokens_per_minute);
        let (models, all) = match names.len() {
            0 | 1 => (vec![configured()], None),
            several => {
                let learned = || Limits::new(None, None);
                (
                    vec![(); several].into_iter().map(|()| learned()).collect(),
                    Some(configured()),
                )
            }
        };
        Self {
            lanes,
            names,
            models,
            all,
        }
    }

    /// By node: which model it asks, counted from 0.
    pub fn lanes(&self) -> &[usize] {
        &self.lanes
    }

    /// The name of a model, where there are several.
    pub fn model(&self, lane: usize) -> Option<Arc<str>> {
        self.all.as_ref()?;
        self.names.get(lane).cloned()
    }

    /// Takes one request and so many tokens out of the limits, for a call of a node that starts now.
    ///
    /// # Errors
    /// Not yet.
    pub fn take(&mut self, now: Duration, node: usize, tokens: u64) -> Result<(), Held> {
        let lane = self.lanes[node];
        let model = &mut self.models[lane];
        let alone = self.all.is_some();
        let held = |hold: Hold, alone, held_until| Held {
            until: hold.until,
            counted: hold.counted,
            alone,
            by_the_server: hold.until == held_until,
        };
        // The model's first: what is configured for all is not to be taken for a call that waits.
        model
            .pay(now, tokens)
            .map_err(|hold| held(hold, alone, model.held_until()))?;
        if let Some(all) = &mut self.all {
            all.pay(now, tokens)
                .map_err(|hold| held(hold, false, all.held_until()))?;
            all.start(now, tokens);
        }
        model.start(now, tokens);
        Ok(())
    }

    /// Says what a call of a node that has ended now really used of the tokens that were reserved
    /// for it when it started. `heard` is when its answer came.
    pub fn settle(
        &mut self,
        now: Duration,
        heard: Duration,
        node: usize,
        started: Duration,
        reserved: u64,
        used: u64,
    ) {
        let model = &mut self.models[self.lanes[node]];
        for limits in self.all.iter_mut().chain([model]) {
            limits.settle(now, heard, started, reserved, used);
        }
    }

    /// Says what the server told of the limits of a node's model.
    pub fn told(&mut self, now: Duration, node: usize, quotas: &Quotas) {
        self.models[self.lanes[node]].told(now, quotas);
    }

    /// Says that a call of a node which started then with so many tokens was refused for its rate,
    /// and what the server said of that.
    pub fn refused(&mut self, now: Duration, node: usize, refusal: &Refusal) {
        let model = &mut self.models[self.lanes[node]];
        let tokens = i64::try_from(refusal.tokens).unwrap_or(i64::MAX / 4);
        let Refusal {
            started, limit, wait, ..
        } = *refusal;
        match refusal.reckoned {
            Some(reckoned) => {
                let reckoned = i64::try_from(reckoned).unwrap_or(i64::MAX / 4);
                model.drain(now, wait, -reckoned);
            }
            None => {
                model.refused(started, refusal.tokens, limit);
                if limit == Some(Counted::Tokens) {
                    // What the server counts of calls in flight and we do not: once they are in flight
                    // again, two calls' worth.
                    model.drain(now, wait, 2 * tokens);
                }
            }
        }
    }

    /// What changed since this was last asked.
    pub fn changes(&mut self) -> Vec<RateChange> {
        let several = self.all.is_some();
        let mut changes = Vec::new();
        for (limits, name) in self.models.iter_mut().zip(&self.names) {
            changes.extend(limits.changes().into_iter().map(|change| RateChange {
                model: several.then(|| name.clone()),
                ..change
            }));
        }
        changes
    }

    /// The most tokens that one call can have, as configured.
    pub fn most_tokens(&self) -> Option<u64> {
        self.all.as_ref().unwrap_or(&self.models[0]).most_tokens()
    }
}

/// A call that was refused for its rate.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// When it started.
    pub started: Duration,
    /// What was reserved for it.
    pub tokens: u64,
    /// The limit that it met, where the server says which.
    pub limit: Option<Counted>,
    /// How long the server asks to wait.
    pub wait: Duration,
    /// The tokens that the server took it for, where that is what was wrong: less was reserved than the
    /// server counts, which says nothing of the rate.
    pub reckoned: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Quota, RateCause};

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn models(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    fn told(per_minute: u64) -> Quotas {
        Quotas {
            requests: Some(Quota {
                limit: per_minute,
                remaining: None,
                reset: None,
                window: Some(seconds(60.0)),
            }),
            tokens: None,
        }
    }

    /// How many calls of a node start within a minute.
    fn in_a_minute(limits: &mut ModelLimits, node: usize) -> usize {
        let hundredths = (0..6_000).map(|at| seconds(f64::from(at) / 100.0));
        hundredths
            .filter(|now| limits.take(*now, node, 0).is_ok())
            .count()
    }

    #[test]
    fn what_is_told_of_one_model_holds_for_it_alone() {
        let mut limits = ModelLimits::new(&models(&["a", "b", "a"]), None, None);
        limits.told(Duration::ZERO, 0, &told(60));
        let changes = limits.changes();
        assert_eq!(changes.len(), 1);
        assert_eq!(
            (
                changes[0].model.as_deref(),
                changes[0].per_minute,
                changes[0].cause
            ),
            (Some("a"), Some(60), RateCause::Told)
        );
        assert_eq!(in_a_minute(&mut limits, 1), 6_000, "nothing is known of `b`");
        let held = limits
            .take(seconds(60.0), 0, 0)
            .and_then(|()| limits.take(seconds(60.0), 2, 0));
        let held = held.unwrap_err();
        assert!(held.alone && held.counted == Counted::Requests);
    }

    #[test]
    fn what_is_configured_holds_for_all_together() {
        let mut limits = ModelLimits::new(&models(&["a", "b"]), Some(60), None);
        assert_eq!(limits.take(Duration::ZERO, 0, 0), Ok(()));
        let held = limits.take(Duration::ZERO, 1, 0).unwrap_err();
        assert!(!held.alone);
        assert_eq!(held.until, seconds(1.0));
        let mut limits = ModelLimits::new(&models(&["a", "b"]), Some(60), None);
        assert!(in_a_minute(&mut limits, 0) <= 61);
    }

    /// A model whose turn comes while the others use up what is configured has paid its own limit
    /// once, and not each time that it is held up.
    #[test]
    fn a_call_that_is_held_up_by_all_does_not_pay_its_model_twice() {
        let mut limits = ModelLimits::new(&models(&["a", "b"]), Some(600), None);
        limits.told(Duration::ZERO, 0, &told(60));
        let mut started = [0, 0];
        for at in 0..6_000 {
            let now = seconds(f64::from(at) / 100.0);
            for node in [0, 1] {
                started[node] += usize::from(limits.take(now, node, 0).is_ok());
            }
        }
        assert!(started[0] >= 55 && started[0] <= 62, "{started:?}");
        assert!((598..=602).contains(&(started[0] + started[1])), "{started:?}");
    }

    #[test]
    fn one_model_has_what_is_configured_and_what_is_told() {
        let mut limits = ModelLimits::new(&models(&["a", "a"]), Some(600), Some(6_000));
        limits.told(Duration::ZERO, 0, &told(60));
        assert_eq!(limits.changes()[0].model, None);
        assert_eq!(limits.most_tokens(), Some(6_000));
        assert!(in_a_minute(&mut limits, 1) <= 61);
    }
}
