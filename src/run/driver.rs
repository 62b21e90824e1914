//! Does what the scheduler decides: a loop that hands in what happened and carries out the
//! actions. All I/O is in jobs of its own that report back; the loop itself never waits for one
//! of them, and decides nothing.

mod begin;
mod binding;
mod hours;
mod money;
mod reports;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::budget::{Budget, Room};
use crate::call::Counted;
use crate::events::{Event, Failure, Outcome};
use crate::hours::timestamp;
use crate::limit::{Held, ModelLimits};
use crate::names::Stop;
use crate::run::attempt::Attempt;
use crate::run::desk::Desk;
use crate::run::driver::binding::Binding;
use crate::run::estimate::{Estimates, Reserves, Size};
use crate::run::job::{Report, Reporter};
use crate::run::{Services, Task, Teller};
use crate::schedule::{Action, Halt, Handle, Input, Schedule};

/// A shorter wait for a provider's quota is not worth a word.
const LONG_WAIT: Duration = Duration::from_secs(10);

pub struct Driver {
    task: Task,
    services: Services,
    teller: Teller,
    schedule: Schedule,
    limits: ModelLimits,
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
    /// The limit that held the newest call up.
    holding: Option<Counted>,
    binding: Binding,
    /// Until when the provider's quota is used up, as it was told last.
    held_told: Duration,
    /// The lanes that the limits hold up, as the scheduler was told.
    held: Vec<usize>,
    /// A hint was refused, and that was told.
    unhinted: bool,
    /// Which other models answered, by the one that was asked: each is told once.
    strangers: BTreeSet<(Arc<str>, String)>,
    /// The hours are closed, and that has been told.
    waiting: bool,
    /// The deadline has passed.
    over: bool,
    end: Option<Halt>,
}

impl Driver {
    pub fn new(task: Task, services: Services, teller: Teller) -> Self {
        let (sender, reports) = mpsc::unbounded_channel();
        let limits = ModelLimits::new(&task.models, task.requests_per_minute, task.tokens_per_minute);
        let schedule = Schedule::new(task.graph.clone(), task.personas.clone(), task.settings.clone());
        Self {
            schedule: schedule.in_lanes(limits.lanes().to_vec()),
            limits,
            budget: Budget::new(task.budget.clone()),
            estimates: Estimates::new(task.graph.ids(), &task.models, &task.history, |model| {
                task.reserves(model)
            }),
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
            holding: None,
            binding: Binding::default(),
            held_told: Duration::ZERO,
            held: Vec::new(),
            unhinted: false,
            strangers: BTreeSet::new(),
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
        self.teller.tell_up_to_date(&self.task.up_to_date);
        self.warn_of_budget();
        // Who asked to stop before the start wants nothing to be begun.
        self.turn([stops.try_recv().map_or(Input::Start, Input::Stop)]);
        let halt = loop {
            let wake = match self.may_send() {
                true => self.send_candidates(),
                false => None,
            };
            for change in self.limits.changes() {
                self.teller.tell(Event::RateChanged(change));
            }
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

    /// Sends what may be sent now; returns when it is worth trying again though nothing happens.
    fn send_candidates(&mut self) -> Option<Duration> {
        // The models whose limits hold their next call up: those of others may go.
        let mut held: Vec<(usize, Duration)> = Vec::new();
        let earliest = |held: &[(usize, Duration)]| held.iter().map(|(_, until)| *until).min();
        loop {
            let now = self.teller.now();
            let is_held = |lane| held.iter().any(|(other, _)| *other == lane);
            let Some(handle) = self.schedule.candidate_but(now, is_held) else {
                let lanes: Vec<usize> = held.iter().map(|(lane, _)| *lane).collect();
                if self.held != lanes {
                    self.held.clone_from(&lanes);
                    self.turn([Input::Held { lanes }]);
                }
                self.note_binding(now, self.holding.filter(|_| !held.is_empty()));
                let wake = self.schedule.wake_at(now);
                return wake.into_iter().chain(earliest(&held)).min();
            };
            let job = self.open_job(handle);
            let of_the_job = job.and_then(|job| job.reserved);
            let cost = of_the_job.or_else(|| self.likely_cost(handle));
            // What a job costs it costs, whether it is fetched or not.
            let room = match job {
                Some(_) => Room::Enough,
                None => self.budget.room(cost.unwrap_or_default()),
            };
            match room {
                Room::Enough => {}
                // The end of what is in flight is reported.
                Room::Later => return earliest(&held),
                // Whoever is being looked up may fetch what an earlier run set money aside for, and it
                // may cost less; its report wakes.
                Room::Never(_) if !self.task.fetchable.is_empty() && self.schedule.is_looking() => {
                    return earliest(&held);
                }
                Room::Never(used) => {
                    self.out_of_budget(handle, used, cost.unwrap_or_default());
                    continue;
                }
            }
            let tokens = self.estimates.reserve(handle.node, self.size(handle));
            if let Err(hold) = self.limits.take(now, handle.node, tokens) {
                self.tell_of_a_long_wait(now, handle.node, &hold);
                self.holding = Some(hold.counted);
                if hold.alone {
                    held.push((self.limits.lanes()[handle.node], hold.until));
                    continue;
                }
                self.note_binding(now, self.holding);
                return earliest(&held).into_iter().chain([hold.until]).min();
            }
            let work = self.desk.work_mut(handle);
            (work.set_aside, work.reserved, work.started) = (cost, tokens, now);
            self.set_aside(handle, cost.unwrap_or_default());
            self.turn([Input::Granted { handle }]);
        }
    }

    /// The size of a request that is rendered.
    fn size(&self, handle: Handle) -> Size {
        let rendered = self.desk.work(handle).rendered.as_ref();
        rendered.expect("BUG: a call that is not rendered").size
    }

    /// A wait that the server's quota asks for is told as a pause that it asks for.
    fn tell_of_a_long_wait(&mut self, now: Duration, node: usize, hold: &Held) {
        let pause = hold.until.saturating_sub(now);
        if pause >= LONG_WAIT && hold.by_the_server && hold.until > self.held_told {
            self.held_told = hold.until;
            let cause = "the provider says that nothing is left of its limit".to_owned();
            self.tell_pause(self.limits.lanes()[node], pause, cause);
        }
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
            Action::Pause { lane, pause, cause } => self.tell_pause(lane, pause, cause),
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

    fn tell_pause(&self, lane: usize, pause: Duration, cause: String) {
        let wall = (self.services.unix_ms)();
        let end = wall.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        let (until, _) = self.task.times.tell(timestamp(end), wall);
        let model = self.limits.model(lane);
        self.teller.tell(Event::Paused {
            pause,
            until,
            model,
            cause,
        });
    }

    fn tell_start(&self) {
        let started = Box::new(self.task.started());
        self.teller.tell(Event::RunStarted(started));
        // Noted again with each run, so that it is not forgotten with the one that saw it.
        let mut told: Vec<&Arc<str>> = Vec::new();
        for model in &self.task.models {
            if self.task.reserves(model) == Reserves::LimitUntilAnswered && !told.contains(&model) {
                told.push(model);
                self.teller.tell(Event::OutputLimitReserved {
                    model: model.clone(),
                    seen: None,
                });
            }
        }
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
