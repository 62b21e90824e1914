//! One attempt: noted, sent, stored, judged. What it tells has happened for good: an answer is
//! durable before anybody hears of it (design, rule 3).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::call::{
    self, Answer, Cut, Fault, FaultKind, Key, Misfit, Money, Price, Rejection, Request, Usage,
};
use crate::events::{Asked, CallOutcome, Event};
use crate::hours::timestamp;
use crate::names::{Instance, RunId};
use crate::provider::{Begun, Lost};
use crate::run::snapshot::Snapshot;
use crate::run::{Services, Teller};
use crate::store::{Done, Entry, Record, Safety, Sent, Store, StoreError};
use crate::tariff::Tariff;

/// What an attempt is made of.
pub struct Attempt {
    pub run: RunId,
    pub instance: Instance,
    pub request: Arc<Request>,
    pub key: Key,
    /// Input tokens as they were estimated.
    pub input: u64,
    pub inputs: Inputs,
    /// Counts from 1.
    pub number: u32,
    /// What its model costs; `None`: no price.
    pub tariff: Option<Arc<Tariff>>,
    /// The dearest price that its end can meet.
    pub dearest: Option<Price>,
    /// What it is thought to cost at most.
    pub reserved: Option<Money>,
    /// An earlier attempt whose job it asks for the answer, instead of sending the request again.
    pub resumes: Option<Sent>,
    /// Earlier attempts whose jobs nobody will ask for any more.
    pub gives_up: Vec<Sent>,
    /// Turns true when calls in flight are to be given up.
    pub abort: watch::Receiver<bool>,
}

/// What a request was made of.
pub struct Inputs {
    pub pipeline: Option<Arc<Snapshot>>,
    pub persona: Option<Arc<Snapshot>>,
    /// The answers it uses, in the order of the node's needs.
    pub needs: Vec<Key>,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Ended {
    Answered(Paid, Arc<str>),
    Rejected(Paid, Misfit, Option<Cut>),
    Faulted(Fault),
    /// It failed, but its job may still bring the answer: whoever tries next fetches that.
    Unfetched(Fault, Box<Sent>),
    Abandoned,
    /// The store cannot be written, or septet has a bug: the run must end.
    Broken(String),
}

/// What came of a call.
enum Called {
    Answered(Box<Answer>),
    Faulted(Fault),
    /// Its job lives.
    Unfetched(Fault),
    Abandoned,
    /// The name of its job could not be stored.
    Unstored(StoreError),
}

/// What an answer used and cost, good or bad.
#[derive(Clone, Debug)]
pub struct Paid {
    pub usage: Usage,
    /// `None`: no price.
    pub cost: Option<Money>,
    /// The model that answered, where it is not the one that was asked.
    pub stranger: Option<String>,
    /// When it came.
    pub heard: Instant,
}

impl Attempt {
    /// What is noted before it is sent: without an end it may have been billed.
    pub fn note(&self, at_ms: u64) -> Entry {
        let job = self.resumes.as_ref().and_then(|earlier| earlier.job.clone());
        Entry::Attempt(self.sent(at_ms, job))
    }

    /// The ends of the attempts whose jobs it takes over or gives up; they stand behind the note.
    pub fn ends(&self, at_ms: u64) -> impl Iterator<Item = Entry> {
        let taken_over = self.resumes.iter().map(move |earlier| Entry::Fault {
            run: earlier.run.clone(),
            instance: earlier.instance.clone(),
            attempt: earlier.attempt,
            kind: Some(FaultKind::Connection),
            message: format!(
                "nobody waited for its answer any more; attempt {} of run {} fetches it",
                self.number, self.run
            ),
            at_ms,
            may_be_billed: false,
        });
        let given_up = self.gives_up.iter().map(move |earlier| {
            earlier.given_up(at_ms, &format!("attempt {} of run {}", self.number, self.run))
        });
        taken_over.chain(given_up)
    }

    /// The `max_output_tokens` that its answer is made with: that of the job, where it fetches one.
    fn output_limit(&self) -> Option<u64> {
        let earlier = self.resumes.as_ref();
        let of_the_job = earlier.and_then(|earlier| earlier.max_output_tokens);
        of_the_job.or(self.request.delivery.max_output_tokens)
    }

    fn sent(&self, at_ms: u64, job: Option<String>) -> Sent {
        let id = |snapshot: &Arc<Snapshot>| snapshot.id();
        Sent {
            run: self.run.clone(),
            instance: self.instance.clone(),
            key: self.key,
            attempt: self.number,
            at_ms,
            max_output_tokens: self.output_limit().filter(|_| job.is_some()),
            job,
            input: Some(self.input),
            most_cost: self.most_cost(),
            reserved: self.reserved,
            pipeline: self.inputs.pipeline.as_ref().map(id),
            persona_files: self.inputs.persona.as_ref().map(id),
            needs: self.inputs.needs.clone(),
            waited_ms: None,
        }
    }

    /// Calls, or begins a job and waits for its answer. The name of a job goes to `queued`.
    async fn called(&self, services: &Services, teller: &Teller, queued: &OnceLock<Sent>) -> Called {
        let provider = &*services.provider;
        if let Some(earlier) = &self.resumes {
            _ = queued.set(self.sent((services.unix_ms)(), earlier.job.clone()));
        } else {
            match provider.begin(&self.request, self.number).await {
                Ok(Begun::Answered(answer)) => return Called::Answered(answer),
                Err(fault) => return Called::Faulted(fault),
                Ok(Begun::Job(job)) => {
                    let sent = self.sent((services.unix_ms)(), Some(job));
                    let entry = Entry::Attempt(sent.clone());
                    // Who gives up meanwhile leaves it open: it is on its way to the disk.
                    _ = queued.set(sent);
                    // Durable before it is waited for: from now on a crash pays nothing twice.
                    if let Err(error) = services.store.keep(entry).await {
                        return Called::Unstored(error);
                    }
                }
            }
        }
        let sent = queued.get().expect("BUG: it was set just now");
        let job = sent.job.as_deref().unwrap_or_default();
        teller.tell(Event::CallQueued {
            instance: self.instance.clone(),
            attempt: self.number,
            job: job.to_owned(),
        });
        match provider.fetch(&self.request, job).await {
            Ok(answer) => Called::Answered(answer.into()),
            Err(Lost { fault, lives: true }) => Called::Unfetched(fault),
            Err(Lost { fault, .. }) => Called::Faulted(fault),
        }
    }

    /// What has to stand before that note: what its request was made of, where it is not kept yet.
    pub fn sources(&self, store: &dyn Store, at_ms: u64) -> impl Iterator<Item = Entry> {
        let snapshots = self.inputs.pipeline.iter().chain(&self.inputs.persona);
        snapshots.filter_map(move |snapshot| snapshot.entry(store, at_ms))
    }

    /// What it can cost at the most, if its estimate holds; `None`: no price or no limit.
    fn most_cost(&self) -> Option<Money> {
        let price = self.dearest?;
        let usage = Usage {
            input: self.input,
            cache_write: (price.cache_write > price.input).then_some(self.input),
            output: self.output_limit()?,
            ..Usage::default()
        };
        Some(price.cost(&usage))
    }

    /// Sends what has been noted, and hands what came to the store. The store tells the end as an
    /// event and to `tell`, once it is durable: nothing here is woken for that.
    pub async fn make(self, services: Services, teller: Teller, tell: impl FnOnce(Ended) + Send + 'static) {
        teller.tell(Event::CallStarted {
            instance: self.instance.clone(),
            attempt: self.number,
        });
        let sent = Instant::now();
        // An answer that is there is kept, also if the run is given up at the same moment.
        let queued = OnceLock::new();
        let mut abort = self.abort.clone();
        let called = tokio::select! {
            biased;
            called = self.called(&services, &teller, &queued) => called,
            _ = abort.wait_for(|abort| *abort) => Called::Abandoned,
        };
        let queued = queued.into_inner();
        let lives = match &called {
            Called::Unfetched(_) => true,
            Called::Abandoned => queued.is_some(),
            _ => false,
        };
        let latency = sent.elapsed();
        let before = self.resumes.as_ref().and_then(|earlier| earlier.waited_ms);
        let waited = before.map(Duration::from_millis);
        let whole = waited.unwrap_or_default() + latency;
        let at_ms = (services.unix_ms)();
        let (entry, safety, ended, outcome) = match called {
            Called::Answered(answer) => {
                let (entry, safety, ended, outcome) = self.judged(*answer, at_ms, sent + latency, whole);
                (Some(entry), safety, ended, outcome)
            }
            Called::Faulted(fault) => (
                Some(self.fault_entry(at_ms, Some(&fault))),
                Safety::Written,
                Ended::Faulted(fault.clone()),
                CallOutcome::Faulted(fault),
            ),
            // Without an end, so that it can be fetched, whatever happens before that.
            Called::Unfetched(fault) => {
                let mut sent = queued.expect("BUG: a job that was not noted");
                // Of what an earlier run sent it is not known when the answer was there.
                if waited.is_some() || self.resumes.is_none() {
                    sent.waited_ms = Some(in_ms(whole));
                }
                let ended = Ended::Unfetched(fault.clone(), Box::new(sent));
                (None, Safety::Written, ended, CallOutcome::Faulted(fault))
            }
            Called::Abandoned => (
                queued.is_none().then(|| self.fault_entry(at_ms, None)),
                Safety::Written,
                Ended::Abandoned,
                CallOutcome::Abandoned,
            ),
            Called::Unstored(error) => return tell(Ended::broken(&error)),
        };
        let asked = Asked {
            output_limit: self.output_limit(),
            input: Some(self.input),
            most: self.most_cost(),
            fetches: self.resumes.is_some(),
            waited,
            lives,
        };
        let (instance, attempt) = (self.instance, self.number);
        let done = Done::new(move |stored| {
            if let Err(error) = stored {
                return tell(Ended::broken(&error));
            }
            teller.tell(Event::CallEnded {
                instance,
                attempt,
                asked,
                latency,
                outcome,
            });
            tell(ended);
        });
        match entry {
            Some(entry) => services.store.append(&[entry], safety, done),
            None => done.tell(Ok(())),
        }
    }

    /// What is stored of an answer, good or bad, and what it is once it is stored.
    fn judged(
        &self,
        answer: Answer,
        at_ms: u64,
        heard: Instant,
        latency: Duration,
    ) -> (Entry, Safety, Ended, CallOutcome) {
        let usage = answer.usage;
        // What counts is when a call ends (`docs/design.md`, "Prices by the hour").
        let rate = self.tariff.as_ref().map(|tariff| tariff.at(timestamp(at_ms)));
        let cost = rate.as_ref().map(|rate| rate.price.cost(&usage));
        let saved = rate
            .as_ref()
            .map(|rate| rate.price.saved_by_provider_cache(&usage));
        let hours = rate.and_then(|rate| rate.hours);
        let stranger = call::model::differ(&self.request.model, &answer.model);
        let paid = Paid {
            usage,
            cost,
            stranger: stranger.then(|| answer.model.clone()),
            heard,
        };
        let judgement = self.request.delivery.checks.judge(&answer);
        let text = Arc::from(answer.text.as_str());
        let record = Record {
            key: self.key,
            instance: self.instance.clone(),
            run: self.run.clone(),
            attempt: self.number,
            at_ms,
            latency_ms: in_ms(latency),
            max_output_tokens: self.output_limit(),
            cost,
            answer,
        };
        let (entry, ended, outcome) = match judgement {
            Ok(()) => (
                Entry::Answer(record),
                Ended::Answered(paid, text),
                CallOutcome::Ok {
                    usage,
                    cost,
                    saved,
                    hours,
                },
            ),
            Err(misfit) => {
                let rejection = misfit.rejection;
                let cut = (rejection == Rejection::Truncated).then(|| record.cut());
                (
                    Entry::Rejected { record, rejection },
                    Ended::Rejected(paid, misfit, cut),
                    CallOutcome::Rejected {
                        rejection,
                        usage,
                        cost,
                        saved,
                        hours,
                    },
                )
            }
        };
        (entry, Safety::Durable, ended, outcome)
    }

    fn fault_entry(&self, at_ms: u64, fault: Option<&Fault>) -> Entry {
        Entry::Fault {
            run: self.run.clone(),
            instance: self.instance.clone(),
            attempt: self.number,
            kind: fault.map(|fault| fault.kind),
            message: fault.map_or_else(|| "given up while waiting".to_owned(), Fault::to_string),
            at_ms,
            may_be_billed: fault.is_none_or(Fault::may_be_billed),
        }
    }
}

impl Ended {
    /// The end of an attempt that could not be stored.
    pub fn broken(error: &StoreError) -> Self {
        Ended::Broken(with_causes(error))
    }
}

fn in_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// An error and what caused it, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
