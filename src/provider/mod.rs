//! Whoever answers a request: a server over HTTP, or the built-in model. An implementation makes
//! one attempt and reports it; it never retries, waits for a limit, or stores anything.

pub mod openai;
pub mod serve;
pub mod simulator;

use async_trait::async_trait;

use crate::call::{Answer, Fault, FaultKind, Quotas, Request};

pub use openai::{OpenAi, ProviderError};
pub use simulator::Simulator;

/// What an attempt has come to at first.
#[derive(Clone, Debug, PartialEq)]
pub enum Begun {
    /// To its end.
    Answered(Box<Answer>),
    /// The server works on it, under this name.
    Job(String),
}

/// Why there is no answer of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Lost {
    /// What happened.
    pub fault: Fault,
    /// The job may still bring its answer.
    pub lives: bool,
}

/// Makes calls.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Makes one attempt. `attempt` counts from 1 within one node and one run; it decides
    /// nothing about the answer (the built-in model draws its faults from it).
    ///
    /// Dropping the future gives the attempt up: it may have been billed.
    ///
    /// # Errors
    /// A [`Fault`] for everything but an answer. A bad answer (cut off, filtered, empty) is an
    /// answer here: it was paid, so it is stored before it is judged.
    async fn call(&self, request: &Request, attempt: u32) -> Result<Answer, Fault>;

    /// True where calls are jobs that the server keeps: [`Provider::begin`] names one, and
    /// [`Provider::fetch`] waits for its answer, now or in a later run.
    fn has_jobs(&self) -> bool {
        false
    }

    /// Makes one attempt, or begins the job that does.
    ///
    /// # Errors
    /// As [`Provider::call`].
    async fn begin(&self, request: &Request, attempt: u32) -> Result<Begun, Fault> {
        self.call(request, attempt)
            .await
            .map(|answer| Begun::Answered(answer.into()))
    }

    /// Waits for the answer of a job. Dropping the future leaves the job as it is.
    ///
    /// # Errors
    /// A [`Lost`], which says whether the job can still be asked for.
    async fn fetch(&self, request: &Request, job: &str) -> Result<Answer, Lost> {
        let _ = (request, job);
        Err(Lost {
            fault: Fault::new(FaultKind::BadResponse, "this provider has no jobs"),
            lives: false,
        })
    }

    /// What the server has said of its limits for a model since this was last asked.
    fn told(&self, model: &str) -> Quotas {
        let _ = model;
        Quotas::default()
    }
}
