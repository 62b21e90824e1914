//! Does what the scheduler decides: a loop that hands in what happened and carries out the
//! actions. All I/O is in tasks of their own that report back; the loop itself never waits for
//! one of them, and decides nothing.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::call::{Fault, FaultKind, Key, Money, Request, Usage};
use crate::events::{Event, Failure, NodeFinished, NodeStatus, Outcome, PersonaStatus, RunStarted};
use crate::limit::Limits;
use crate::names::{Instance, PersonaId, Stop};
use crate::run::attempt::{Attempt, Ended, with_causes};
use crate::run::estimate::Estimates;
use crate::run::transcript::{Written, bring_up_to_date, job};
use crate::run::{Jobs, Requests, Services, Task, Teller};
use crate::schedule::{Action, Halt, Handle, Input, Schedule};
use crate::store::{Looked, Miss, Record};

/// What a task reports back.
enum Report {
    Opened {
        slot: usize,
        opened: Result<Opened, Failure>,
    },
    Rendered {
        handle: Handle,
        rendered: Result<Rendered, Failure>,
    },
    Looked {
        looked: Vec<(Handle, Found)>,
    },
    Ended {
        handle: Handle,
        ended: Ended,
    },
    Closed {
        slot: usize,
        written: Option<Written>,
    },
}

/// A persona that was read, with the requests of the nodes that need nothing.
struct Opened {
    requests: Arc<dyn Requests>,
    roots: Vec<(usize, Rendered)>,
}

struct Rendered {
    request: Arc<Request>,
    key: Key,
}

/// What a look-up found, reduced to what the run needs of it.
enum Found {
    Hit { text: Arc<str>, cost: Option<Money> },
    Miss { damaged: Option<String> },
    Broken(String),
}

/// An open persona's data, by slot.
struct Persona {
    id: PersonaId,
    requests: Option<Arc<dyn Requests>>,
    nodes: Vec<Work>,
}

/// One node's data; whatever is no longer needed is dropped.
#[derive(Default)]
struct Work {
    rendered: Option<Rendered>,
    text: Option<Arc<str>>,
    attempts: u32,
    reserved: u64,
    spent: Usage,
    /// What this run paid; `None` once a call had no price.
    cost: Option<Money>,
    /// What the answer that was served had cost.
    served: Option<Money>,
}

pub struct Driver {
    task: Task,
    services: Services,
    teller: Teller,
    schedule: Schedule,
    limits: Limits,
    estimates: Estimates,
    chance: fastrand::Rng,
    open: Vec<Option<Persona>>,
    reports: mpsc::UnboundedReceiver<Report>,
    reporter: mpsc::UnboundedSender<Report>,
    abort: watch::Sender<bool>,
    /// Nodes to look up, gathered until all actions of a turn are done.
    looks: Vec<Handle>,
    end: Option<Halt>,
}

impl Driver {
    pub fn new(task: Task, services: Services, teller: Teller) -> Self {
        let (reporter, reports) = mpsc::unbounded_channel();
        Self {
            schedule: Schedule::new(task.graph.clone(), task.personas.clone(), task.settings.clone()),
            limits: Limits::new(task.requests_per_minute, task.tokens_per_minute),
            estimates: Estimates::new(task.graph.len(), task.reserves_output_cap),
            chance: fastrand::Rng::with_seed(task.seed),
            open: Vec::new(),
            reports,
            reporter,
            abort: watch::Sender::new(false),
            looks: Vec::new(),
            end: None,
            task,
            services,
            teller,
        }
    }

    /// Runs to the end.
    pub async fn run(mut self, mut stops: mpsc::UnboundedReceiver<Stop>) -> Outcome {
        self.tell_start();
        self.turn([Input::Start]);
        while self.end.is_none() {
            let wake = self.send_candidates();
            if self.end.is_some() {
                break;
            }
            tokio::select! {
                biased;
                Some(stop) = stops.recv() => self.turn([Input::Stop(stop)]),
                Some(report) = self.reports.recv() => self.take_reports(report),
                () = sleep_until(wake.map(|at| self.teller.start + at)) => {}
            }
        }
        let halt = self.end.take().expect("BUG: the loop has ended");
        self.teller.tell(Event::RunFinished {
            outcome: halt.outcome,
            cause: halt.cause,
        });
        halt.outcome
    }

    fn now(&self) -> Duration {
        self.teller.start.elapsed()
    }

    /// Sends what may be sent now; returns when it is worth trying again though nothing happens.
    fn send_candidates(&mut self) -> Option<Duration> {
        loop {
            let now = self.now();
            let Some((handle, tokens)) = self.schedule.candidate(now) else {
                return self.schedule.wake_at(now);
            };
            if let Err(later) = self.limits.take(now, tokens) {
                return Some(later);
            }
            self.turn([Input::Granted { handle }]);
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
            for action in self.schedule.on(self.now(), input) {
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
                let instance = self.instance(handle);
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
        if self.open.len() <= slot {
            self.open.resize_with(slot + 1, || None);
        }
        let nodes = std::iter::repeat_with(Work::fresh)
            .take(self.task.graph.len())
            .collect();
        self.open[slot] = Some(Persona {
            id: persona.clone(),
            requests: None,
            nodes,
        });
        let (project, graph) = (self.services.project.clone(), self.task.graph.clone());
        let work = move || {
            let opened = project.open(&persona).and_then(|requests| {
                let requests: Arc<dyn Requests> = requests.into();
                let roots = graph
                    .roots()
                    .map(|node| Ok((node, render(&*requests, node, &[])?)));
                Ok(Opened {
                    roots: roots.collect::<Result<_, Failure>>()?,
                    requests: requests.clone(),
                })
            });
            Report::Opened { slot, opened }
        };
        self.job(work, move |bug| Report::Opened {
            slot,
            opened: Err(bug),
        });
    }

    /// Renders a node whose needs are there; those that need nothing have been rendered already.
    fn render(&mut self, handle: Handle, inputs: &mut VecDeque<Input>) {
        if let Some(rendered) = self.work(handle).rendered.take() {
            inputs.push_back(self.keep_rendered(handle, rendered));
            return;
        }
        let persona = self.persona(handle.slot);
        let requests = persona
            .requests
            .clone()
            .expect("BUG: rendered before it was read");
        let graph = self.task.graph.clone();
        let texts: Vec<Arc<str>> = graph
            .needs(handle.node)
            .iter()
            .map(|&need| persona.text(need))
            .collect();
        let work = move || {
            let ids = graph.needs(handle.node).iter().map(|&need| graph.id(need));
            let needs: Vec<_> = ids.zip(texts.iter().map(|text| &**text)).collect();
            Report::Rendered {
                handle,
                rendered: render(&*requests, handle.node, &needs),
            }
        };
        self.job(work, move |bug| Report::Rendered {
            handle,
            rendered: Err(bug),
        });
    }

    /// Keeps a request until its node has ended, and says what the scheduler needs of it.
    fn keep_rendered(&mut self, handle: Handle, rendered: Rendered) -> Input {
        let tokens = self.estimates.reserve(handle.node, &rendered.request);
        let key = rendered.key;
        let work = self.work(handle);
        work.reserved = tokens;
        work.rendered = Some(rendered);
        Input::Rendered { handle, key, tokens }
    }

    fn look(&mut self, handles: Vec<Handle>) {
        let wanted: Vec<(Handle, Instance, Key)> = handles
            .iter()
            .map(|&handle| {
                let key = self
                    .work(handle)
                    .rendered
                    .as_ref()
                    .expect("BUG: looked up unrendered")
                    .key;
                (handle, self.instance(handle), key)
            })
            .collect();
        let store = self.services.store.clone();
        let work = move || {
            let look = |instance: &Instance, key: &Key| match store.look(instance, key) {
                Ok(Looked::Hit(record)) => Found::Hit {
                    cost: record.cost,
                    text: record.answer.text.into(),
                },
                Ok(Looked::Miss(Miss::Damaged(reason))) => Found::Miss {
                    damaged: Some(reason),
                },
                Ok(Looked::Miss(_)) => Found::Miss { damaged: None },
                Err(error) => Found::Broken(with_causes(&error)),
            };
            let looked = wanted
                .iter()
                .map(|(handle, instance, key)| (*handle, look(instance, key)));
            Report::Looked {
                looked: looked.collect(),
            }
        };
        self.job(work, move |bug| {
            let found = |handle| (handle, Found::Broken(bug.message.clone()));
            Report::Looked {
                looked: handles.into_iter().map(found).collect(),
            }
        });
    }

    fn send(&mut self, handle: Handle, number: u32) {
        let price = self.task.prices[handle.node];
        let instance = self.instance(handle);
        let abort = self.abort.subscribe();
        let run = self.task.run.clone();
        let work = self.work(handle);
        work.attempts = number;
        let rendered = work.rendered.as_ref().expect("BUG: sent unrendered");
        let (request, key) = (rendered.request.clone(), rendered.key);
        let attempt = Attempt {
            run,
            instance,
            request,
            key,
            number,
            price,
            abort,
        };
        let (services, teller, reporter) =
            (self.services.clone(), self.teller.clone(), self.reporter.clone());
        tokio::spawn(async move {
            let ended = attempt.make(&services, &teller).await;
            _ = reporter.send(Report::Ended { handle, ended });
        });
    }

    fn finish(&mut self, handle: Handle, status: NodeStatus, failure: Option<Failure>) {
        let instance = self.instance(handle);
        let work = self.work(handle);
        work.rendered = None;
        let finished = NodeFinished {
            instance,
            status,
            attempts: work.attempts,
            tokens: work.spent,
            cost: work.cost,
            saved: work.served.filter(|_| status == NodeStatus::Cached),
            error: failure,
        };
        self.teller.tell(Event::NodeFinished(Box::new(finished)));
    }

    /// Writes the transcript if the result is there, also when another node failed.
    fn close(&mut self, slot: usize, failure: Option<Failure>) {
        let result = self.task.graph.result();
        let persona = self.persona(slot);
        let (id, text) = (persona.id.clone(), persona.nodes[result].text.clone());
        // What failed in the persona is told with it, whatever becomes of its transcript.
        let failed = failure.map(Err);
        let (services, overwrite) = (self.services.clone(), self.task.overwrite);
        let work = async move {
            let written = match text {
                Some(text) => Some(bring_up_to_date(&services, &id, text, overwrite).await),
                None => None,
            };
            Report::Closed {
                slot,
                written: failed.or(written),
            }
        };
        self.spawn(work, move |bug| Report::Closed {
            slot,
            written: Some(Err(bug)),
        });
    }

    fn take(&mut self, report: Report, inputs: &mut Vec<Input>) {
        match report {
            Report::Opened { slot, opened } => inputs.push(self.opened(slot, opened)),
            Report::Rendered { handle, rendered } => inputs.push(match rendered {
                Ok(rendered) => self.keep_rendered(handle, rendered),
                Err(failure) => Input::Unrenderable { handle, failure },
            }),
            Report::Looked { looked } => {
                for (handle, found) in looked {
                    let input = self.looked(handle, found, inputs);
                    inputs.push(input);
                }
            }
            Report::Ended { handle, ended } => self.ended(handle, ended, inputs),
            Report::Closed { slot, written } => self.closed(slot, written, inputs),
        }
    }

    fn opened(&mut self, slot: usize, opened: Result<Opened, Failure>) -> Input {
        let result = opened.map(|opened| {
            let persona = self.open[slot].as_mut().expect("BUG: a closed slot was opened");
            persona.requests = Some(opened.requests);
            for (node, rendered) in opened.roots {
                persona.nodes[node].rendered = Some(rendered);
            }
        });
        Input::Opened { slot, result }
    }

    fn looked(&mut self, handle: Handle, found: Found, inputs: &mut Vec<Input>) -> Input {
        match found {
            Found::Hit { text, cost } => {
                let work = self.work(handle);
                work.text = Some(text);
                work.served = cost;
                return Input::Looked { handle, hit: true };
            }
            Found::Broken(message) => inputs.push(broken(message)),
            Found::Miss {
                damaged: Some(reason),
            } => {
                let instance = self.instance(handle);
                let message = format!("{instance}: stored answer is damaged ({reason}); calling again");
                self.teller.tell(Event::Warning { message });
            }
            Found::Miss { damaged: None } => {}
        }
        match self.limits.most_tokens() {
            Some(most) if self.work(handle).reserved > most => self.too_large(handle, most),
            _ => Input::Looked { handle, hit: false },
        }
    }

    /// Such a call would wait for ever.
    fn too_large(&mut self, handle: Handle, most: u64) -> Input {
        let tokens = self.work(handle).reserved;
        let message = format!(
            "the call needs about {tokens} tokens and `tokens_per_minute` is {most}; \
             shorten the prompt, lower `max_output_tokens` or raise the limit"
        );
        Input::Unrenderable {
            handle,
            failure: Failure::from(&Fault::new(FaultKind::RequestTooLarge, message)),
        }
    }

    fn ended(&mut self, handle: Handle, ended: Ended, inputs: &mut Vec<Input>) {
        let jitter = self.chance.f64();
        let input = match ended {
            Ended::Answered(record) => {
                self.paid(handle, &record);
                self.work(handle).text = Some(record.answer.text.into());
                Input::Answered { handle }
            }
            Ended::Rejected(record, rejection) => {
                self.paid(handle, &record);
                Input::Rejected {
                    handle,
                    rejection,
                    jitter,
                }
            }
            Ended::Faulted(fault) => Input::Faulted {
                handle,
                fault,
                jitter,
            },
            Ended::Abandoned => Input::Abandoned { handle },
            Ended::Broken(message) => {
                inputs.push(broken(message));
                Input::Abandoned { handle }
            }
        };
        inputs.push(input);
    }

    /// Books what an answer cost, good or bad.
    fn paid(&mut self, handle: Handle, record: &Record) {
        let usage = record.answer.usage;
        let work = self.work(handle);
        work.spent += &usage;
        work.cost = work.cost.zip(record.cost).map(|(sum, cost)| sum + cost);
        let reserved = work.reserved;
        let request = work.rendered.as_ref().map(|rendered| rendered.request.clone());
        self.limits
            .settle(reserved, self.estimates.used(reserved, &usage));
        if let Some(request) = request {
            self.estimates.learn(handle.node, &request, &usage);
        }
    }

    fn closed(&mut self, slot: usize, written: Option<Written>, inputs: &mut Vec<Input>) {
        let persona = self.open[slot]
            .take()
            .expect("BUG: a closed slot was closed again")
            .id;
        let (status, error, path) = match written {
            Some(Ok((status, path))) => (status, None, path),
            Some(Err(failure)) => (PersonaStatus::Failed, Some(failure), None),
            None => unreachable!("BUG: {persona} ended without a result and without a failure"),
        };
        let store_broke = error.as_ref().filter(|failure| failure.kind == "store").cloned();
        self.teller.tell(Event::PersonaFinished {
            persona,
            status,
            error,
            path,
        });
        inputs.push(Input::Closed {
            slot,
            failed: status == PersonaStatus::Failed,
        });
        inputs.extend(store_broke.map(Input::Broken));
    }

    fn tell_start(&self) {
        self.teller.tell(Event::RunStarted(Box::new(RunStarted {
            run: self.task.run.clone(),
            personas: self.task.personas.len(),
            nodes: self.task.graph.ids().to_vec(),
            concurrency: self.task.settings.concurrency,
            requests_per_minute: self.task.requests_per_minute,
            tokens_per_minute: self.task.tokens_per_minute,
            provider: self.task.provider.clone(),
            simulated: self.task.simulated,
        })));
    }

    /// Does blocking work; `lost` is reported if it panics.
    fn job(
        &self,
        work: impl FnOnce() -> Report + Send + 'static,
        lost: impl FnOnce(Failure) -> Report + Send + 'static,
    ) {
        match self.services.jobs {
            Jobs::Inline => _ = self.reporter.send(work()),
            Jobs::Threads => self.spawn(job(Jobs::Threads, work), lost),
        }
    }

    /// Spawns what reports back. The scheduler would wait for ever for a task that panicked, so
    /// that is reported too, as the failure of just that task.
    fn spawn(
        &self,
        work: impl Future<Output = Report> + Send + 'static,
        lost: impl FnOnce(Failure) -> Report + Send + 'static,
    ) {
        let reporter = self.reporter.clone();
        tokio::spawn(async move {
            let report = AssertUnwindSafe(work).catch_unwind().await;
            let message = "septet has a bug: this panicked; please report it".to_owned();
            let bug = Failure {
                kind: "bug",
                message,
                http_status: None,
            };
            _ = reporter.send(report.unwrap_or_else(|_| lost(bug)));
        });
    }

    fn persona(&self, slot: usize) -> &Persona {
        self.open[slot]
            .as_ref()
            .expect("BUG: an action for a closed slot")
    }

    fn work(&mut self, handle: Handle) -> &mut Work {
        let persona = self.open[handle.slot]
            .as_mut()
            .expect("BUG: an action for a closed slot");
        &mut persona.nodes[handle.node]
    }

    fn instance(&self, handle: Handle) -> Instance {
        Instance {
            persona: self.persona(handle.slot).id.clone(),
            node: self.task.graph.id(handle.node).clone(),
        }
    }
}

impl Persona {
    fn text(&self, node: usize) -> Arc<str> {
        self.nodes[node]
            .text
            .clone()
            .expect("BUG: a need that is done has its text")
    }
}

impl Work {
    fn fresh() -> Self {
        Self {
            cost: Some(Money::ZERO),
            ..Self::default()
        }
    }
}

fn render(
    requests: &dyn Requests,
    node: usize,
    needs: &[(&crate::names::NodeId, &str)],
) -> Result<Rendered, Failure> {
    let request = requests.request(node, needs)?;
    Ok(Rendered {
        key: Key::of(&request),
        request: Arc::new(request),
    })
}

fn broken(message: String) -> Input {
    Input::Broken(Failure {
        kind: "store",
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
