//! Every figure that is shown of a run, folded from its events. The terminal, `--json`, the exit
//! code and whatever comes later read it; nothing counts for itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::budget::Used;
use crate::call::{Counted, Money, Rejection, Usage};
use crate::events::pace::Pace;
use crate::events::silence::Silence;
use crate::events::summary::{CallCounts, FailureExample, Failures, NodeCounts, PersonaCounts, Saved};
use crate::events::{
    Account, Alike, Asked, CallOutcome, Event, Failure, NodeFinished, NodeStatus, Outcome, PersonaFigures,
    PersonaStatus, RunStarted, RunSummary, Stamped, TokenCounts,
};
use crate::hours::Moment;
use crate::names::{Instance, NodeId, PersonaId, RunId, Stop};

#[cfg(test)]
mod tests;

/// What is known of a run after the events so far. Its size does not grow with the number of
/// personas: of each one it holds figures only while it is worked on.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// What the run set out to do; `None` before its first event.
    pub started: Option<RunStarted>,
    /// The time of the newest event.
    pub at: Duration,
    /// Personas by how they ended.
    pub personas: PersonaCounts,
    /// Of the unchanged ones, those for which nothing was called.
    pub untouched: u64,
    /// Nodes by how they ended.
    pub nodes: NodeCounts,
    /// Calls that have ended, by how they did.
    pub calls: CallCounts,
    /// Whose job lives on, and has not been fetched since: the next run can.
    pub fetchable: BTreeSet<Instance>,
    /// Calls that were given up for good.
    pub lost: u64,
    /// Calls that have not ended.
    pub in_flight: u64,
    /// Those of them that the server keeps as jobs: given up, the next run can fetch them.
    pub jobs: BTreeSet<Instance>,
    /// What this run paid for, rejected answers included.
    pub tokens: TokenCounts,
    /// The same by model and by node, and what may have been billed beyond it.
    pub account: Account,
    /// True where a server counted nothing and some of `tokens` are estimates.
    pub estimated: bool,
    /// What this run paid; `None`: a paid call had no price.
    pub cost: Option<Money>,
    /// What the provider's cache saved; `None`: a paid call had no price.
    pub saved_by_provider: Option<Money>,
    /// What the answers served from the store had cost; `None`: not known of one of them.
    pub saved_by_septet: Option<Money>,
    /// What failed, by cause.
    pub failures: BTreeMap<FailureCause, FailureGroup>,
    /// Personas that a template cannot be rendered for, before any call, by the words of the cause.
    pub unrendered: Alike,
    /// The first node that failed: the one at which `--fail-fast` stops.
    pub first_failed: Option<Instance>,
    /// Calls in flight that are allowed; `None`: not known.
    pub concurrency: Option<usize>,
    /// Requests and tokens a minute that are asked for; `None`: not limited, or by model.
    pub rates: [Option<u32>; 2],
    /// Which of them holds calls up.
    pub binding: Option<Counted>,
    /// Until when everyone waits, or all who ask one model, because a server asked for it: by the
    /// clock and by the time of the run.
    pub paused: Option<(Moment, Duration, Option<Arc<str>>)>,
    /// Since when nobody gets an answer, and the last fault's words.
    pub outage: Option<(Duration, String)>,
    /// The faults since the newest answer; `None`: an answer was the last that came.
    pub silence: Option<Silence>,
    /// Until when calls wait for `limits.hours`, by the clock and by the time of the run.
    pub waiting: Option<(Moment, Duration)>,
    /// The deadline that has passed, or before which calls may not be sent any more: then with the
    /// time when the hours open.
    pub deadline: Option<(Moment, Option<Moment>)>,
    /// The budget into which the next call did not fit, whose that was, and what it was thought to
    /// cost.
    pub budget_reached: Option<(Used, Instance, Money)>,
    /// What a person asked for.
    pub stopping: Option<Stop>,
    /// How the run ended; `None` while it goes on.
    pub outcome: Option<Outcome>,
    /// What ended it early.
    pub cause: Option<Failure>,
    /// The persona that ended last.
    pub last_persona: Option<PersonaFigures>,
    open: HashMap<PersonaId, PersonaFigures>,
    pace: Pace,
}

/// What failures have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailureCause {
    /// The kind: one of those listed in `docs/json.md`.
    pub kind: &'static str,
    /// The HTTP status, where there was one.
    pub http_status: Option<u16>,
}

/// What failed for the same cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureGroup {
    /// Nodes.
    pub nodes: u64,
    /// Personas that they belong to, or that failed as a whole.
    pub personas: u64,
    /// The first of them, or the first that was paid for.
    pub example: FailureExample,
    /// True if that was.
    pub paid: bool,
}

impl From<&Failure> for FailureCause {
    fn from(failure: &Failure) -> Self {
        Self {
            kind: failure.kind,
            http_status: failure.http_status,
        }
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            started: None,
            at: Duration::ZERO,
            personas: PersonaCounts::default(),
            untouched: 0,
            nodes: NodeCounts::default(),
            calls: CallCounts::default(),
            fetchable: BTreeSet::new(),
            lost: 0,
            in_flight: 0,
            jobs: BTreeSet::new(),
            tokens: TokenCounts::default(),
            account: Account::default(),
            estimated: false,
            cost: Some(Money::ZERO),
            saved_by_provider: Some(Money::ZERO),
            saved_by_septet: Some(Money::ZERO),
            failures: BTreeMap::new(),
            unrendered: Alike::default(),
            first_failed: None,
            concurrency: None,
            rates: [None; 2],
            binding: None,
            paused: None,
            outage: None,
            silence: None,
            waiting: None,
            deadline: None,
            budget_reached: None,
            stopping: None,
            outcome: None,
            cause: None,
            last_persona: None,
            open: HashMap::new(),
            pace: Pace::default(),
        }
    }
}

impl Tally {
    /// Folds one event in. Events come in the order in which they happened.
    pub fn apply(&mut self, stamped: &Stamped) {
        let at = stamped.at;
        self.at = self.at.max(at);
        match &stamped.event {
            Event::RunStarted(started) => self.run_started(started),
            Event::CallStarted { instance, .. } => {
                self.in_flight += 1;
                self.pace.call_started(at);
                self.figures(&instance.persona, at).calls += 1;
            }
            Event::CallQueued { instance, .. } => _ = self.jobs.insert(instance.clone()),
            Event::CallEnded {
                instance,
                asked,
                latency,
                outcome,
                ..
            } => {
                self.call_ended(instance, *asked, outcome);
                self.heard(at, outcome);
                self.book(&instance.node, *asked, *latency, outcome);
            }
            Event::Paused {
                pause, until, model, ..
            } => {
                let end = at.saturating_add(*pause);
                if self.paused.as_ref().is_none_or(|(_, before, _)| *before < end) {
                    self.paused = Some((until.clone(), end, model.clone()));
                }
            }
            Event::OutageBegan { cause } => {
                self.outage = Some((at, cause.clone()));
                self.pace.outage_began(at);
            }
            Event::OutageEnded { .. } => {
                self.outage = None;
                self.pace.outage_ended(at);
            }
            Event::ConcurrencyChanged { concurrency } => self.concurrency = Some(*concurrency),
            Event::RateChanged(change) if change.model.is_none() => {
                self.rates[change.counted as usize] = change.per_minute;
            }
            Event::RateChanged(_) => {}
            Event::OutputLimitReserved { model, .. } => {
                let provider = self.started.as_ref().map(|started| started.provider.to_string());
                self.account
                    .reserved_limits
                    .push((provider.unwrap_or_default(), model.to_string()));
            }
            Event::LimitBinds(limit) => self.binding = *limit,
            Event::NodeFinished(node) => self.node_finished(node, at),
            Event::UpToDate { persona, saved } => self.up_to_date(persona, *saved, at),
            Event::PersonaFinished {
                persona,
                status,
                error,
                ..
            } => {
                self.persona_finished(persona, *status, error.as_ref(), at);
            }
            Event::Stopping(stop) => self.stopping = self.stopping.max(Some(*stop)),
            Event::RunFinished { outcome, cause } => self.run_finished(*outcome, cause.clone()),
            Event::Waiting { until, wait } => {
                self.waiting = Some((until.clone(), at + *wait));
                self.pace.outage_began(at);
            }
            Event::WaitingEnded => {
                self.waiting = None;
                self.pace.outage_ended(at);
            }
            Event::DeadlineReached { until, opens } => {
                self.waiting = None;
                self.deadline = Some((until.clone(), opens.clone()));
            }
            Event::BudgetReached { used, instance, next } => {
                self.budget_reached = Some((*used, instance.clone(), *next));
            }
            Event::Retrying { .. } | Event::Warning { .. } | Event::BudgetLow(_) => {}
        }
    }

    fn run_started(&mut self, started: &RunStarted) {
        self.personas.total = started.personas as u64;
        self.personas.pending = self.personas.total;
        self.nodes.total = self.personas.total.saturating_mul(started.nodes.len() as u64);
        self.nodes.pending = self.nodes.total;
        self.concurrency = started.concurrency;
        self.rates = [started.requests_per_minute, started.tokens_per_minute];
        self.started = Some(started.clone());
    }

    fn call_ended(&mut self, instance: &Instance, asked: Asked, outcome: &CallOutcome) {
        let persona = &instance.persona;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.jobs.remove(instance);
        if asked.lives {
            self.fetchable.insert(instance.clone());
        } else {
            self.fetchable.remove(instance);
        }
        self.calls.sent += 1;
        self.calls.fetched += u64::from(asked.fetches);
        match outcome {
            CallOutcome::Ok {
                usage, cost, saved, ..
            } => {
                self.calls.ok += 1;
                self.pay(persona, usage, *cost, *saved);
            }
            CallOutcome::Rejected {
                usage, cost, saved, ..
            } => {
                self.calls.rejected += 1;
                self.pay(persona, usage, *cost, *saved);
            }
            lost if lost.is_abandoned() => {
                self.calls.abandoned += 1;
                self.lost += u64::from(!asked.lives);
            }
            _ => self.calls.faulted += 1,
        }
    }

    fn heard(&mut self, at: Duration, outcome: &CallOutcome) {
        match outcome {
            CallOutcome::Ok { .. } | CallOutcome::Rejected { .. } => self.silence = None,
            CallOutcome::Faulted(fault) if fault.kind.is_outage() => {
                let silence = self.silence.get_or_insert_with(|| Silence::new(at));
                silence.faulted(at, &fault.message);
            }
            // A refusal is no answer, and no silence either.
            CallOutcome::Faulted(_) | CallOutcome::Abandoned => {
                self.silence = self.silence.take().map(Silence::passed_over);
            }
        }
    }

    fn book(&mut self, node: &NodeId, asked: Asked, latency: Duration, outcome: &CallOutcome) {
        let model = &*self.model(node);
        let in_ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match outcome {
            // It has not ended: who fetches its answer books it, with all the time that it took.
            CallOutcome::Faulted(_) if asked.lives => {}
            CallOutcome::Faulted(fault) => {
                let wait = fault.retry_after.map(in_ms);
                let may_be_billed = fault.may_be_billed();
                self.account
                    .faulted(model, fault.kind, in_ms(latency), wait, may_be_billed);
            }
            _ => {}
        }
        match outcome {
            CallOutcome::Ok { usage, cost, .. } => {
                let latency_ms = asked.took(latency).map(in_ms);
                self.account
                    .answered(node, model, usage, *cost, asked, latency_ms);
            }
            CallOutcome::Rejected {
                rejection,
                usage,
                cost,
                ..
            } => self
                .account
                .rejected(node, model, *rejection, usage, *cost, asked),
            CallOutcome::Faulted(fault) if !fault.may_be_billed() => {}
            // Whoever fetches it pays it.
            CallOutcome::Faulted(_) | CallOutcome::Abandoned if asked.lives => {}
            CallOutcome::Faulted(_) | CallOutcome::Abandoned => {
                self.account.possibly_billed.add(asked.most);
            }
        }
        let at_hours = match outcome {
            CallOutcome::Ok { cost, hours, .. } | CallOutcome::Rejected { cost, hours, .. } => {
                hours.as_ref().zip(*cost)
            }
            _ => None,
        };
        if let Some((hours, cost)) = at_hours {
            self.account.at_hours(model, hours, cost);
        }
    }

    /// The model that a node asks.
    fn model(&self, node: &NodeId) -> Arc<str> {
        let started = self.started.as_ref();
        let model = started.and_then(|started| {
            let at = started.nodes.iter().position(|known| known == node)?;
            started.models.get(at).cloned()
        });
        model.unwrap_or_else(|| "unknown".into())
    }

    fn pay(&mut self, persona: &PersonaId, usage: &Usage, cost: Option<Money>, saved: Option<Money>) {
        self.tokens.add(usage);
        self.estimated |= usage.estimated;
        add(&mut self.cost, cost);
        add(&mut self.saved_by_provider, saved);
        // Not `figures`: a persona that has ended would be opened again and stay.
        if let Some(figures) = self.open.get_mut(persona) {
            figures.tokens.add(usage);
            add(&mut figures.cost, cost);
        }
    }

    fn node_finished(&mut self, node: &NodeFinished, at: Duration) {
        match node.status {
            NodeStatus::Called => self.nodes.called += 1,
            NodeStatus::Cached => {
                self.nodes.cached += 1;
                add(&mut self.saved_by_septet, node.saved);
            }
            NodeStatus::Failed => {
                self.nodes.failed += 1;
                let paid = node.tokens.input + node.tokens.output > 0;
                if let Some(error) = node.error.as_ref().filter(|error| error.kind != Failure::PERSONA) {
                    let (persona, name) = (&node.instance.persona, &node.instance.node);
                    self.group(error, persona, Some(name), paid).nodes += 1;
                }
                let error = node.error.as_ref().filter(|_| node.attempts > 0);
                if let Some(rejection) = error.and_then(|error| Rejection::named(error.kind)) {
                    let (name, model) = (&node.instance.node, self.model(&node.instance.node));
                    self.account.gave_up(name, &model, rejection);
                }
                self.first_failed.get_or_insert_with(|| node.instance.clone());
            }
            NodeStatus::Skipped => self.nodes.skipped += 1,
        }
        self.nodes.pending = self.nodes.pending.saturating_sub(1);
        self.pace.node_ended(at);
        self.figures(&node.instance.persona, at).node_finished(node);
    }

    /// What the ends of the nodes would have done, in one step.
    fn up_to_date(&mut self, persona: &PersonaId, saved: Option<Money>, at: Duration) {
        let nodes = self.started.as_ref().map_or(0, |started| started.nodes.len());
        self.nodes.cached += nodes as u64;
        self.nodes.pending = self.nodes.pending.saturating_sub(nodes as u64);
        add(&mut self.saved_by_septet, saved);
        self.figures(persona, at).cached = u32::try_from(nodes).unwrap_or(u32::MAX);
        self.persona_finished(persona, PersonaStatus::Unchanged, None, at);
    }

    fn persona_finished(
        &mut self,
        persona: &PersonaId,
        status: PersonaStatus,
        error: Option<&Failure>,
        at: Duration,
    ) {
        let opened = self.open.remove(persona);
        let mut figures = opened.unwrap_or_else(|| PersonaFigures::new(persona.clone(), at));
        figures.took = at.saturating_sub(figures.began);
        self.personas.pending = self.personas.pending.saturating_sub(1);
        match status {
            PersonaStatus::Written => self.personas.written += 1,
            PersonaStatus::Unchanged => {
                self.personas.unchanged += 1;
                self.untouched += u64::from(figures.calls == 0);
            }
            PersonaStatus::Kept => self.personas.kept += 1,
            PersonaStatus::Failed => {
                self.personas.failed += 1;
                self.failed(&figures, error);
            }
        }
        self.last_persona = Some(figures);
    }

    /// The group of a failure, which becomes its example if there is none, or if it was paid for and
    /// the one before was not.
    fn group(
        &mut self,
        failure: &Failure,
        persona: &PersonaId,
        node: Option<&NodeId>,
        paid: bool,
    ) -> &mut FailureGroup {
        let example = || FailureExample {
            persona: persona.clone(),
            node: node.cloned(),
            message: failure.message.clone(),
        };
        let new = || FailureGroup {
            nodes: 0,
            personas: 0,
            example: example(),
            paid,
        };
        let group = self.failures.entry(failure.into()).or_insert_with(new);
        if paid && !group.paid {
            (group.example, group.paid) = (example(), true);
        }
        group
    }

    /// Counts a persona for each cause that it failed for.
    fn failed(&mut self, figures: &PersonaFigures, error: Option<&Failure>) {
        let of_nodes = figures.failed.iter().map(|(_, failure)| failure);
        let of_nodes = of_nodes.filter(|failure| failure.kind != Failure::PERSONA);
        let mut causes: Vec<FailureCause> = of_nodes.map(FailureCause::from).collect();
        causes.sort();
        causes.dedup();
        for cause in &causes {
            if let Some(group) = self.failures.get_mut(cause) {
                group.personas += 1;
            }
        }
        if let Some(cause) = figures.unrendered(error) {
            self.unrendered.add(&cause.message);
        }
        // What failed beside its nodes: its files, its transcript.
        if let Some(error) = error.filter(|error| !causes.contains(&FailureCause::from(*error))) {
            self.group(error, &figures.persona, None, false).personas += 1;
        }
    }

    fn run_finished(&mut self, outcome: Outcome, cause: Option<Failure>) {
        self.outcome = Some(outcome);
        self.cause = cause;
        // A call that nobody waits for any more has been given up, whether someone said so or not.
        let given_up = std::mem::take(&mut self.in_flight);
        self.calls.abandoned += given_up;
        self.calls.sent += given_up;
        let lost = given_up.saturating_sub(self.jobs.len() as u64);
        self.fetchable.append(&mut self.jobs);
        self.lost += lost;
        (0..lost).for_each(|_| self.account.possibly_billed.add(None));
    }

    fn figures(&mut self, persona: &PersonaId, at: Duration) -> &mut PersonaFigures {
        let figures = || PersonaFigures::new(persona.clone(), at);
        self.open.entry(persona.clone()).or_insert_with(figures)
    }

    /// Returns how many calls were started in the 60 seconds before `now`.
    pub fn calls_in_last_minute(&self, now: Duration) -> u64 {
        self.pace.calls_in_last_minute(now)
    }

    /// Estimates how long the rest will take at the pace of the last minutes; `None` while there
    /// is no evidence, in an outage, while only faults come, and once the run is stopping or over.
    pub fn time_left(&self, now: Duration) -> Option<Duration> {
        let too_few = self.calls.sent < self.in_flight.max(1);
        let is_silent = self.silence.as_ref().is_some_and(Silence::is_news);
        let is_ending = self.deadline.is_some() || self.stopping.is_some() || self.outcome.is_some();
        if too_few || is_silent || is_ending {
            return None;
        }
        self.pace.time_left(now, self.nodes.pending)
    }

    /// Returns the cost and both savings in USD, if all are known.
    fn saved_usd(&self) -> Option<Saved> {
        self.cost?;
        Some(Saved {
            provider_cache: self.saved_by_provider?.usd(),
            septet_cache: self.saved_by_septet?.usd(),
        })
    }

    /// Returns what failed, by cause, the most frequent first.
    pub fn failures(&self) -> Vec<Failures> {
        let mut groups: Vec<_> = self.failures.iter().collect();
        groups.sort_by_key(|(cause, group)| (std::cmp::Reverse(group.nodes.max(group.personas)), **cause));
        let failures = |(cause, group): (&FailureCause, &FailureGroup)| Failures {
            kind: cause.kind.to_owned(),
            http_status: cause.http_status,
            nodes: group.nodes,
            personas: group.personas,
            example: group.example.clone(),
        };
        groups.into_iter().map(failures).collect()
    }

    /// Returns the exit code; `None` while the run goes on.
    pub fn exit_code(&self) -> Option<u8> {
        self.outcome.map(Outcome::exit_code)
    }

    /// Returns the `run_finished` object; `None` while the run goes on.
    pub fn summary(&self) -> Option<RunSummary> {
        Some(RunSummary {
            event: "run_finished".to_owned(),
            run: match &self.started {
                Some(started) => started.run.clone(),
                None => RunId::from(""),
            },
            outcome: self.outcome?,
            personas: self.personas,
            nodes: self.nodes,
            calls: self.calls,
            tokens: self.tokens,
            cost_usd: self.cost.map(Money::usd),
            saved_usd: self.saved_usd(),
            prompt_cache: (&self.tokens).into(),
            failures: self.failures(),
            elapsed_s: self.at.as_millis() as f64 / 1000.0,
        })
    }
}

/// Adds to a sum that is unknown as soon as one part of it is.
fn add(sum: &mut Option<Money>, part: Option<Money>) {
    *sum = sum.zip(part).map(|(sum, part)| sum + part);
}
