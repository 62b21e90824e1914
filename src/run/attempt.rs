//! One attempt: noted, sent, stored, judged. What it returns has happened for good: an answer is
//! durable before anybody hears of it (design, rule 3).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::call::{Fault, Key, Price, Rejection, Request};
use crate::events::{CallOutcome, Event};
use crate::names::{Instance, RunId};
use crate::run::{Services, Teller};
use crate::store::{Entry, Record, StoreError};

/// What an attempt is made of.
pub struct Attempt {
    pub run: RunId,
    pub instance: Instance,
    pub request: Arc<Request>,
    pub key: Key,
    /// Counts from 1.
    pub number: u32,
    pub price: Option<Price>,
    /// Turns true when calls in flight are to be given up.
    pub abort: watch::Receiver<bool>,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Ended {
    Answered(Box<Record>),
    Rejected(Box<Record>, Rejection),
    Faulted(Fault),
    Abandoned,
    /// The store cannot be written, or septet has a bug: the run must end.
    Broken(String),
}

impl Attempt {
    /// Makes the attempt.
    pub async fn make(self, services: &Services, teller: &Teller) -> Ended {
        match self.note_send_store(services, teller).await {
            Ok(ended) => ended,
            Err(error) => Ended::Broken(with_causes(&error)),
        }
    }

    async fn note_send_store(mut self, services: &Services, teller: &Teller) -> Result<Ended, StoreError> {
        services.store.note(self.entry((services.unix_ms)())).await?;
        teller.tell(Event::CallStarted {
            instance: self.instance.clone(),
            attempt: self.number,
        });
        let sent = Instant::now();
        // An answer that is there is kept, also if the run is given up at the same moment.
        let called = tokio::select! {
            biased;
            called = services.provider.call(&self.request, self.number) => Some(called),
            _ = self.abort.wait_for(|abort| *abort) => None,
        };
        let latency = sent.elapsed();
        let (ended, outcome) = match called {
            Some(Ok(answer)) => {
                let record = Record {
                    key: self.key,
                    instance: self.instance.clone(),
                    run: self.run.clone(),
                    attempt: self.number,
                    at_ms: (services.unix_ms)(),
                    latency_ms: u64::try_from(latency.as_millis()).unwrap_or(u64::MAX),
                    max_output_tokens: self.request.delivery.max_output_tokens,
                    cost: self.price.map(|price| price.cost(&answer.usage)),
                    answer,
                };
                self.store(services, record).await?
            }
            Some(Err(fault)) => {
                services
                    .store
                    .note(self.fault_entry((services.unix_ms)(), Some(&fault)))
                    .await?;
                (Ended::Faulted(fault.clone()), CallOutcome::Faulted(fault))
            }
            None => {
                services
                    .store
                    .note(self.fault_entry((services.unix_ms)(), None))
                    .await?;
                (Ended::Abandoned, CallOutcome::Abandoned)
            }
        };
        self.tell_end(teller, latency, outcome);
        Ok(ended)
    }

    /// Stores what came, good or bad, and returns when it is durable.
    async fn store(&self, services: &Services, record: Record) -> Result<(Ended, CallOutcome), StoreError> {
        let usage = record.answer.usage;
        let cost = record.cost;
        let saved = self.price.map(|price| price.saved_by_provider_cache(&usage));
        match record.answer.judge() {
            Ok(()) => {
                services.store.keep(Entry::Answer(record.clone())).await?;
                Ok((
                    Ended::Answered(Box::new(record)),
                    CallOutcome::Ok { usage, cost, saved },
                ))
            }
            Err(rejection) => {
                services
                    .store
                    .keep(Entry::Rejected {
                        record: record.clone(),
                        rejection,
                    })
                    .await?;
                let outcome = CallOutcome::Rejected {
                    rejection,
                    usage,
                    cost,
                    saved,
                };
                Ok((Ended::Rejected(Box::new(record), rejection), outcome))
            }
        }
    }

    fn entry(&self, at_ms: u64) -> Entry {
        Entry::Attempt {
            run: self.run.clone(),
            instance: self.instance.clone(),
            key: self.key,
            attempt: self.number,
            at_ms,
        }
    }

    fn fault_entry(&self, at_ms: u64, fault: Option<&Fault>) -> Entry {
        Entry::Fault {
            run: self.run.clone(),
            instance: self.instance.clone(),
            attempt: self.number,
            kind: fault.map(|fault| fault.kind),
            message: fault.map_or_else(|| "given up while waiting".to_owned(), Fault::to_string),
            at_ms,
        }
    }

    fn tell_end(&self, teller: &Teller, latency: Duration, outcome: CallOutcome) {
        let (instance, attempt) = (self.instance.clone(), self.number);
        teller.tell(Event::CallEnded {
            instance,
            attempt,
            latency,
            outcome,
        });
    }
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
