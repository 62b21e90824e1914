//! Does what the scheduler decides: a loop that hands in what happened and carries out the
//! actions. All I/O is in jobs of its own that report back; the loop itself never waits for one
//! of them, and decides nothing.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::budget::{Budget, Room, Used};
use crate::call::{Fault, FaultKind, Money, Prefix, Price, Request, Scope, prompt_cache};
use crate::events::{Event, Failure, NodeStatus, Outcome, PersonaStatus};
use crate::limit::Limits;
use crate::names::{PersonaId, Stop};
use crate::run::attempt::{Attempt, Ended, Inputs, Paid};
use crate::run::desk::{Desk, Rendered};
use crate::run::estimate::Estimates;
use crate::run::job::{self, Found, Opened, Report, Reporter};
use crate::run::times::Now;
use crate::run::transcript::{Written, bring_up_to_date};
use crate::run::{Services, Task, Teller};
use crate::schedule::{Action, Halt, Handle, Input, Schedule, SharedPrefix};
use crate::store::{Done, Rejected, Safety, StoreError};

pub struct Driver {
    task: Task,
    services: Services,
    teller: Teller,
    schedule: Schedule,
    limits: Limits,
    budget: Budget,
    estimates: Estimates,
    chance: fastrand::Rng,
    desk: Desk,
    reports: mpsc::UnboundedReceiver<Report>,
    reporter: Reporter,
    abort: watch::Sender<bool>,
    /// Nodes to look up, gathered until all actions of a turn are done.
    looks: Vec<Handle>,
    /// Attempts to be noted and sent, gathered likewise.
    sends: Vec<(Handle, Attempt)>,
    /// A hint was refused, and that was told.
    unhinted: bool,
    /// The hours are closed, and that has been told.
    waiting: bool,
    /// The deadline has passed.
    over: bool,
    end: Option<Halt>,
}

impl Driver {
    pub fn new(task: Task, services: Services, teller: Teller) -> Self {
        let (sender, reports) = mpsc::unbounded_channel();
        Self {
            schedule: Schedule::new(task.graph.clone(), task.personas.clone(), task.settings.clone()),
            limits: Limits::new(task.requests_per_minute, task.tokens_per_minute),
            budget: Budget::new(task.budget.clone()),
            estimates: Estimates::new(
                task.graph.ids(),
                &task.models,
                &task.history,
                task.reserves_output_cap,
            ),
            chance: fastrand::Rng::with_seed(task.seed),
            desk: Desk::new(task.graph.clone()),
            reports,
            reporter: Reporter {
                reports: sender,
                jobs: services.jobs,
            },
            abort: watch::Sender::new(false),
            looks: Vec::new(),
            sends: Vec::new(),
            unhinted: false,
            waiting: false,
            over: false,
            end: None,
            task,
            services,
            teller,
        }
    }

    /// Runs to the end.
    pub async fn run(mut self, mut stops: mpsc::UnboundedReceiver<Stop>) -> Outcome {
        self.tell_start();
        self.warn_of_budget();
        // Who asked to stop before the start wants nothing to be begun.
        self.turn([stops.try_recv().map_or(Input::Start, Input::Stop)]);
        let halt = loop {
            let wake = match self.may_send() {
                true => self.send_candidates(),
                false => None,
            };
            let wake = wake.into_iter().chain(self.look_again()).min();
            self.note_sends();
            if let Some(halt) = self.end.take() {
                break halt;
            }
            tokio::select! {
                biased;
                Some(stop) = stops.recv() => self.turn([Input::Stop(stop)]),
                Some(report) = self.reports.recv() => self.take_reports(report),
                () = sleep_until(wake.map(|at| self.teller.start + at)) => {}
            }
        };
        self.teller.tell(Event::RunFinished {
            outcome: halt.outcome,
            cause: halt.cause,
        });
        halt.outcome
    }

    /// Looks at the wall clock: waits outside the hours, ends at the deadline.
    fn may_send(&mut self) -> bool {
        let wall = (self.services.unix_ms)();
        match self.task.times.look(wall) {
            Now::Open => {
                if std::mem::take(&mut self.waiting) {
                    self.teller.tell(Event::WaitingEnded);
                    self.turn([Input::Reopened]);
                }
                return true;
            }
            Now::Over(deadline) => self.end_at(deadline, wall),
            // Without a call that waits there is nothing to wait for.
            Now::Closed(_) if self.schedule.candidate(self.teller.now()).is_none() => {}
            Now::Closed(opens) => match self.task.times.until {
                Some(deadline) if deadline <= opens => self.end_at(deadline, wall),
                _ if self.waiting => {}
                _ => {
                    self.waiting = true;
                    let (until, wait) = self.task.times.tell(opens, wall);
                    self.teller.tell(Event::Waiting { until, wait });
                }
            },
        }
        false
    }

    /// Sends nothing more because of the deadline.
    fn end_at(&mut self, deadline: Timestamp, wall: u64) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let (until, _) = self.task.times.tell(deadline, wall);
        let cause = Failure {
            kind: Failure::DEADLINE,
            message: format!("the time set by `--until` is over ({})", until.clock),
            http_status: None,
        };
        self.teller.tell(Event::DeadlineReached { until });
        let outcome = Outcome::Deadline;
        self.turn([Input::Enough { outcome, cause }]);
    }

    /// When the wall clock is to be looked at again, by the time of the run.
    fn look_again(&self) -> Option<Duration> {
        let again = self.task.times.look_again((self.services.unix_ms)());
        again.map(|wait| self.teller.now() + wait)
    }

    /// Sends what may be sent now; returns when it is worth trying again though nothing happens.
    fn send_candidates(&mut self) -> Option<Duration> {
        loop {
            let now = self.teller.now();
            let Some((handle, tokens)) = self.schedule.candidate(now) else {
                return self.schedule.wake_at(now);
            };
            let cost = self.likely_cost(handle);
            match self.budget.room(cost.unwrap_or_default()) {
                Room::Enough => {}
                // The end of what is in flight is reported.
                Room::Later => return None,
                Room::Never(used) => {
                    self.out_of_budget(used, cost.unwrap_or_default());
                    continue;
                }
            }
            if let Err(later) = self.limits.take(now, tokens) {
                return Some(later);
            }
            self.desk.work_mut(handle).set_aside = cost;
            self.budget.reserve(cost.unwrap_or_default());
            self.turn([Input::Granted { handle }]);
        }
    }

    /// The dearest price that a call of a node can meet if it is sent now; `None`: no price.
    fn dearest(&self, node: usize) -> Option<Price> {
        let tariff = self.task.prices[node].as_ref()?;
        match tariff.changes() {
            true => Some(tariff.dearest((self.services.unix_ms)(), self.task.longest_call)),
            false => Some(tariff.usual()),
        }
    }

    /// What the next call of a node is thought to cost at most; `None`: no price.
    fn likely_cost(&self, handle: Handle) -> Option<Money> {
        let price = self.dearest(handle.node)?;
        let rendered = self.desk.work(handle).rendered.as_ref();
        let size = rendered.expect("BUG: a candidate that is not rendered").size;
        let (input, output) = self.estimates.careful(handle.node, size);
        Some(price.at_most(input, output))
    }

    fn out_of_budget(&mut self, used: Used, next: Money) {
        self.teller.tell(Event::BudgetReached { used, next });
        let cause = Failure {
            kind: Failure::BUDGET,
            message: format!(
                "the next call, about {next}, does not fit into the budget of {} (`{}`): {} is spent",
                used.limit.amount, used.limit.name, used.spent
            ),
            http_status: None,
        };
        let outcome = Outcome::Budget;
        self.turn([Input::Enough { outcome, cause }]);
    }

    fn warn_of_budget(&mut self) {
        for used in self.budget.warnings() {
            self.teller.tell(Event::BudgetLow(used));
        }
    }

    /// Everything that has been reported is taken before anything is sent.
    fn take_reports(&mut self, first: Report) {
        let mut inputs = Vec::new();
        let mut next = Some(first);
        while let Some(report) = next {
            self.take(report, &mut inputs);
            next = self.reports.try_recv().ok();
        }
        self.turn(inputs);
    }

    /// Hands inputs to the scheduler and carries out its actions, and theirs.
    fn turn(&mut self, inputs: impl IntoIterator<Item = Input>) {
        let mut inputs: VecDeque<Input> = inputs.into_iter().collect();
        while let Some(input) = inputs.pop_front() {
            for action in self.schedule.on(self.teller.now(), input) {
                self.act(action, &mut inputs);
            }
        }
        let looks = std::mem::take(&mut self.looks);
        if !looks.is_empty() {
            self.look(looks);
        }
    }

    fn act(&mut self, action: Action, inputs: &mut VecDeque<Input>) {
        match action {
            Action::Open { slot, persona } => self.open(slot, persona),
            Action::Render { handle } => self.render(handle, inputs),
            Action::Look { handle } => self.looks.push(handle),
            Action::Send { handle, attempt } => self.send(handle, attempt),
            Action::Finish {
                handle,
                status,
                failure,
            } => self.finish(handle, status, failure),
            Action::Close { slot, failure } => self.close(slot, failure),
            Action::Retry { handle, cause, pause } => {
                let instance = self.desk.instance(handle);
                self.teller.tell(Event::Retrying {
                    instance,
                    cause,
                    pause,
                });
            }
            Action::Pause { pause, cause } => self.teller.tell(Event::Paused { pause, cause }),
            Action::OutageBegan { cause } => self.teller.tell(Event::OutageBegan { cause }),
            Action::OutageEnded { lasted } => self.teller.tell(Event::OutageEnded { lasted }),
            Action::Concurrency(concurrency) => {
                self.teller.tell(Event::ConcurrencyChanged { concurrency });
            }
            Action::Stopping(stop) => self.teller.tell(Event::Stopping(stop)),
            Action::Abandon => _ = self.abort.send_replace(true),
            Action::End(halt) => self.end = Some(halt),
        }
    }

    fn open(&mut self, slot: usize, persona: PersonaId) {
        self.desk.open(slot, persona.clone());
        let (project, graph) = (self.services.project.clone(), self.task.graph.clone());
        self.reporter.work(
            move || Report::Opened {
                slot,
                opened: job::open(&*project, &graph, &persona),
            },
            move |bug| Report::Opened {
                slot,
                opened: Err(bug),
            },
        );
    }

    /// Renders a node whose needs are there; those that need nothing have been rendered already.
    fn render(&mut self, handle: Handle, inputs: &mut VecDeque<Input>) {
        if let Some(rendered) = self.desk.work_mut(handle).rendered.take() {
            return inputs.push_back(self.rendered(handle, rendered));
        }
        let requests = self.desk.persona(handle.slot).requests.clone();
        let requests = requests.expect("BUG: rendered before it was read");
        let (graph, texts) = (self.task.graph.clone(), self.desk.needs(handle));
        self.reporter.work(
            move || {
                let rendered = job::render(&*requests, &graph, handle.node, &texts);
                Report::Rendered { handle, rendered }
            },
            move |bug| Report::Rendered {
                handle,
                rendered: Err(bug),
            },
        );
    }

    /// Keeps a request until its node has ended, and says what the scheduler needs of it.
    fn rendered(&mut self, handle: Handle, rendered: Rendered) -> Input {
        let tokens = self.estimates.reserve(handle.node, rendered.size);
        let (key, prefix) = (rendered.key, self.shared_prefix(&rendered.request));
        let work = self.desk.work_mut(handle);
        work.reserved = tokens;
        work.key = Some(key);
        work.rendered = Some(rendered);
        Input::Rendered {
            handle,
            key,
            tokens,
            prefix,
        }
    }

    /// The prefix of a request, if calls that share it are to wait for the first of them.
    fn shared_prefix(&self, request: &Request) -> Option<SharedPrefix> {
        let id = self.task.prefix.shares(request).then(|| Prefix::of(request))??;
        let lifetime = prompt_cache::lifetime(&request.model);
        Some(SharedPrefix { id, lifetime })
    }

    fn look(&mut self, handles: Vec<Handle>) {
        let what = |&handle: &Handle| {
            let work = self.desk.work(handle);
            (handle, self.desk.instance(handle), work.key(), work.limit())
        };
        let wanted: Vec<_> = handles.iter().map(what).collect();
        let store = self.services.store.clone();
        self.reporter.work(
            move || {
                let look =
                    |(handle, instance, key, limit)| (handle, job::look(&*store, &instance, &key, limit));
                Report::Looked {
                    looked: wanted.into_iter().map(look).collect(),
                }
            },
            move |bug| {
                let broken = |handle| (handle, Found::Broken(bug.message.clone()));
                Report::Looked {
                    looked: handles.into_iter().map(broken).collect(),
                }
            },
        );
    }

    fn send(&mut self, handle: Handle, number: u32) {
        let instance = self.desk.instance(handle);
        let requests = self.desk.persona(handle.slot).requests.as_ref();
        let inputs = Inputs {
            pipeline: self.task.pipeline.clone(),
            persona: requests.and_then(|requests| requests.files()),
            needs: self.desk.need_keys(handle),
        };
        let dearest = self.dearest(handle.node);
        let work = self.desk.work_mut(handle);
        work.attempts = number;
        let rendered = work.rendered.as_ref().expect("BUG: sent unrendered");
        let attempt = Attempt {
            run: self.task.run.clone(),
            instance,
            request: rendered.request.clone(),
            key: rendered.key,
            input: rendered.size.input,
            inputs,
            number,
            tariff: self.task.prices[handle.node].clone(),
            dearest,
            reserved: work.set_aside,
            abort: self.abort.subscribe(),
        };
        self.sends.push((handle, attempt));
    }

    /// Notes all attempts that are to be sent, as one: they go out once they are written.
    fn note_sends(&mut self) {
        let attempts = std::mem::take(&mut self.sends);
        if attempts.is_empty() {
            return;
        }
        let at_ms = (self.services.unix_ms)();
        let mut notes = Vec::with_capacity(attempts.len() + 1);
        for (_, attempt) in &attempts {
            notes.extend(attempt.sources(&*self.services.store, at_ms));
            notes.push(attempt.note(at_ms));
        }
        let reports = self.reporter.reports.clone();
        let done = Done::new(move |noted| _ = reports.send(Report::Noted { attempts, noted }));
        self.services.store.append(&notes, Safety::Written, done);
    }

    fn noted(
        &mut self,
        attempts: Vec<(Handle, Attempt)>,
        noted: Result<(), StoreError>,
        inputs: &mut Vec<Input>,
    ) {
        for (handle, attempt) in attempts {
            match &noted {
                Ok(()) => self.make(handle, attempt),
                Err(error) => self.ended(handle, Ended::broken(error), inputs),
            }
        }
    }

    fn make(&mut self, handle: Handle, attempt: Attempt) {
        let reports = self.reporter.reports.clone();
        let tell = move |ended| _ = reports.send(Report::Ended { handle, ended });
        self.reporter.begin(
            attempt.make(self.services.clone(), self.teller.clone(), tell),
            move |bug| Report::Ended {
                handle,
                ended: Ended::Broken(bug.message),
            },
        );
    }

    fn finish(&mut self, handle: Handle, status: NodeStatus, failure: Option<Failure>) {
        let finished = self.desk.finish(handle, status, failure);
        self.teller.tell(Event::NodeFinished(Box::new(finished)));
    }

    /// Writes the transcript if the result is there, also when another node failed.
    fn close(&mut self, slot: usize, failure: Option<Failure>) {
        let id = self.desk.persona(slot).id.clone();
        let text = self.desk.result(slot);
        let (services, overwrite) = (self.services.clone(), self.task.overwrite);
        self.reporter.wait(
            async move {
                let written = match text {
                    Some(text) => Some(bring_up_to_date(&services, &id, text, overwrite).await),
                    None => None,
                };
                // What failed before is told, whatever became of the transcript.
                let written = failure.map(Err).or(written);
                Report::Closed {
                    slot,
                    written: written.expect("BUG: neither a result nor a failure"),
                }
            },
            move |bug| Report::Closed {
                slot,
                written: Err(bug),
            },
        );
    }

    fn take(&mut self, report: Report, inputs: &mut Vec<Input>) {
        match report {
            Report::Opened { slot, opened } => inputs.push(self.opened(slot, opened)),
            Report::Rendered { handle, rendered } => inputs.push(match rendered {
                Ok(rendered) => self.rendered(handle, rendered),
                Err(failure) => Input::Unrenderable { handle, failure },
            }),
            Report::Looked { looked } => {
                for (handle, found) in looked {
                    self.looked(handle, found, inputs);
                }
            }
            Report::Noted { attempts, noted } => self.noted(attempts, noted, inputs),
            Report::Ended { handle, ended } => self.ended(handle, ended, inputs),
            Report::Closed { slot, written } => self.closed(slot, written, inputs),
        }
    }

    fn opened(&mut self, slot: usize, opened: Result<Opened, Failure>) -> Input {
        let result = opened.map(|opened| {
            self.desk.persona_mut(slot).requests = Some(opened.requests);
            for (node, rendered) in opened.roots {
                self.desk.work_mut(Handle { slot, node }).rendered = Some(rendered);
            }
        });
        Input::Opened { slot, result }
    }

    fn looked(&mut self, handle: Handle, found: Found, inputs: &mut Vec<Input>) {
        match found {
            Found::Hit { text, cost } => {
                let work = self.desk.work_mut(handle);
                work.text = Some(text);
                work.served = cost;
                return inputs.push(Input::Looked { handle, hit: true });
            }
            Found::CutOff(rejected) => return inputs.push(self.cut_off(handle, &rejected)),
            Found::Broken(message) => inputs.push(broken(message)),
            Found::Miss {
                damaged: Some(reason),
            } => {
                let instance = self.desk.instance(handle);
                let message = format!("{instance}: stored answer is damaged ({reason}); calling again");
                self.teller.tell(Event::Warning { message });
            }
            Found::Miss { damaged: None } => {}
        }
        inputs.push(match self.limits.most_tokens() {
            Some(most) if self.desk.work(handle).reserved > most => self.too_large(handle, most),
            _ => Input::Looked { handle, hit: false },
        });
    }

    /// What was cut off at this limit in an earlier run is not paid for again.
    fn cut_off(&self, handle: Handle, rejected: &Rejected) -> Input {
        let instance = self.desk.instance(handle);
        Input::Unrenderable {
            handle,
            failure: Failure {
                kind: rejected.rejection.as_str(),
                message: rejected.refusal(&instance),
                http_status: None,
            },
        }
    }

    /// Such a call would wait for ever.
    fn too_large(&self, handle: Handle, most: u64) -> Input {
        let tokens = self.desk.work(handle).reserved;
        let message = format!(
            "the call needs about {tokens} tokens and `tokens_per_minute` is {most}; \
             shorten the prompt, lower `max_output_tokens` or raise the limit"
        );
        let fault = Fault::new(FaultKind::RequestTooLarge, message);
        Input::Unrenderable {
            handle,
            failure: Failure::from(&fault),
        }
    }

    fn ended(&mut self, handle: Handle, ended: Ended, inputs: &mut Vec<Input>) {
        let jitter = self.chance.f64();
        self.settle(handle, &ended);
        let input = match ended {
            Ended::Answered(paid, text) => {
                self.paid(handle, &paid);
                self.desk.work_mut(handle).text = Some(text);
                Input::Answered { handle }
            }
            Ended::Rejected(paid, rejection, cut) => {
                self.paid(handle, &paid);
                Input::Rejected {
                    handle,
                    rejection,
                    cut,
                    jitter,
                }
            }
            Ended::Faulted(fault) => {
                self.warn_of_a_refused_hint(&fault);
                Input::Faulted {
                    handle,
                    fault,
                    jitter,
                }
            }
            Ended::Abandoned => Input::Abandoned { handle },
            Ended::Broken(message) => {
                inputs.push(broken(message));
                Input::Abandoned { handle }
            }
        };
        inputs.push(input);
    }

    /// A parameter that one attempt was refused for, and no other will be, was only a hint: once
    /// is enough to know.
    fn warn_of_a_refused_hint(&mut self, fault: &Fault) {
        let hint = fault.kind == FaultKind::BadParameter && fault.scope == Scope::Attempt;
        if hint && !std::mem::replace(&mut self.unhinted, true) {
            let message = format!("{fault}; `prompt_cache = \"off\"` in `[provider]` never sends it");
            self.teller.tell(Event::Warning { message });
        }
    }

    /// Books the end of a call against the budget.
    fn settle(&mut self, handle: Handle, ended: &Ended) {
        let reserved = self.desk.work(handle).set_aside.unwrap_or_default();
        match ended {
            Ended::Answered(paid, _) | Ended::Rejected(paid, ..) => {
                self.budget.settle(reserved, paid.cost.unwrap_or_default());
            }
            Ended::Faulted(fault) if !fault.may_be_billed() => self.budget.settle(reserved, Money::ZERO),
            Ended::Faulted(_) | Ended::Abandoned | Ended::Broken(_) => self.budget.settle_unknown(reserved),
        }
        self.warn_of_budget();
    }

    /// Books what an answer cost, good or bad, and learns from it.
    fn paid(&mut self, handle: Handle, paid: &Paid) {
        let usage = &paid.usage;
        let work = self.desk.work_mut(handle);
        work.paid(paid);
        let used = self.estimates.used(work.reserved, usage);
        self.limits.settle(self.teller.now(), work.reserved, used);
        if let Some(rendered) = &work.rendered {
            self.estimates.learn(handle.node, rendered.size, usage);
        }
    }

    fn closed(&mut self, slot: usize, written: Written, inputs: &mut Vec<Input>) {
        let persona = self.desk.close(slot).id;
        let (status, error, path) = match written {
            Ok((status, path)) => (status, None, path),
            Err(failure) => (PersonaStatus::Failed, Some(failure), None),
        };
        let failed = error.is_some();
        let store_broke = error.clone().filter(|failure| failure.kind == Failure::STORE);
        self.teller.tell(Event::PersonaFinished {
            persona,
            status,
            error,
            path,
        });
        // Before the persona is closed, which may be the end of the run.
        inputs.extend(store_broke.map(Input::Broken));
        inputs.push(Input::Closed { slot, failed });
    }

    fn tell_start(&self) {
        let started = Box::new(self.task.started());
        self.teller.tell(Event::RunStarted(started));
    }
}

fn broken(message: String) -> Input {
    Input::Broken(Failure {
        kind: Failure::STORE,
        message,
        http_status: None,
    })
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
