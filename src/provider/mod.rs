//! Whoever answers a request: a server over HTTP, or the built-in model. An implementation makes
//! one attempt and reports it; it never retries, waits for a limit, or stores anything.

pub mod openai;
pub mod serve;
pub mod simulator;

use async_trait::async_trait;

use crate::call::{Answer, Fault, Quotas, Request};

pub use openai::{OpenAi, ProviderError};
pub use simulator::Simulator;

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

    /// What the server has said of its limits for a model since this was last asked.
    fn told(&self, model: &str) -> Quotas {
        let _ = model;
        Quotas::default()
    }
}
