//! The HTTP provider: Chat Completions at any OpenAI-compatible `base_url`. One call is one POST
//! over pooled connections; what came back is told apart into an answer or a fault by the files
//! below. Knows no retries, no rates and no store.

mod answer;
mod classify;
mod client;
mod envelope;
mod json;
mod lanes;
mod looks;
mod receive;
mod reply;
mod request;
mod responses;
mod told;
mod transport;
mod usage;
mod wait;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::SecretString;
use tokio::time::Instant;
use url::Url;

use crate::call::{Answer, CacheHint, Fault, FaultKind, Quotas, Request, Scope};
use crate::config;
use crate::config::Api;
use crate::provider::openai::lanes::Lanes;
use crate::provider::openai::looks::{Looks, TooLate};
use crate::provider::openai::receive::Patience;
use crate::provider::openai::reply::Looked;
use crate::provider::openai::transport::in_words;
use crate::provider::openai::words::Words;
use crate::provider::{Begun, Lost, Provider};

pub use client::ProviderError;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The first look at a job comes after this time, each next one after twice as long …
const FIRST_LOOK: Duration = Duration::from_millis(100);
/// … up to this.
const SLOWEST_LOOK: Duration = Duration::from_secs(5);

/// So long nobody looks after a server has refused looks without saying for how long.
const UNTOLD_PATIENCE: Duration = Duration::from_secs(1);

/// So long after a server has said that it has no such response it is asked again.
const SECOND_THOUGHT: Duration = Duration::from_secs(1);

/// Calls one OpenAI-compatible server. Cheap to share; calls run side by side.
#[derive(Debug)]
pub struct OpenAi {
    lanes: Lanes,
    looks: Looks,
    /// `base_url` with what calls go to below it.
    url: Url,
    api: Api,
    /// Marked sensitive, so that nothing prints it.
    authorization: Option<HeaderValue>,
    output_cap_field: String,
    connect_timeout: Duration,
    timeout: Duration,
    idle_timeout: Duration,
    /// Set once the server has refused to be told of shared prefixes: a hint is no reason to fail.
    unhinted: AtomicBool,
    /// What was told last of each model, until somebody asks.
    told: Mutex<BTreeMap<Arc<str>, Quotas>>,
    words: Words,
}

impl OpenAi {
    /// Prepares calls to the server of `config`. Nothing is sent yet. `key` is the value of the
    /// environment variable that `api_key_env` names, `None` where it is not set.
    ///
    /// # Errors
    /// A key that is asked for and missing, cannot stand in a header, or would cross a network
    /// unencrypted; a `base_url` that cannot be called; TLS that cannot be set up.
    pub fn new(config: &config::Provider, key: Option<SecretString>) -> Result<Self, ProviderError> {
        let config::ProviderKind::OpenAi {
            base_url,
            api_key_env,
            output_cap_field,
            api,
        } = &config.kind
        else {
            return Err(ProviderError::OtherKind);
        };
        let path: &[&str] = match api {
            Api::Chat => &client::CHAT,
            Api::Responses { .. } => &["responses"],
        };
        let url = client::endpoint(base_url, path)?;
        let key = client::usable_key(&url, api_key_env.as_deref(), key)?;
        Ok(Self {
            lanes: Lanes::open(client::blueprint(&url, config.connect_timeout))?,
            looks: Looks::default(),
            authorization: key.as_ref().map(client::bearer),
            output_cap_field: output_cap_field.clone(),
            connect_timeout: config.connect_timeout,
            timeout: config.timeout,
            idle_timeout: config.idle_timeout,
            unhinted: AtomicBool::new(false),
            told: Mutex::default(),
            words: Words::hiding(key),
            api: *api,
            url,
        })
    }

    /// Sends the request and waits for status and headers of the response.
    async fn send(
        &self,
        client: &reqwest::Client,
        request: &Request,
        cache: CacheHint,
    ) -> Result<reqwest::Response, Fault> {
        let body = match self.api {
            Api::Chat => request::body(request, &self.output_cap_field, cache),
            Api::Responses { background } => responses::body(request, cache, background),
        };
        let post = client
            .post(self.url.clone())
            .header(CONTENT_TYPE, JSON)
            .body(body);
        self.exchange(post, self.timeout).await
    }

    /// Sends a prepared request and waits for status and headers of the response.
    async fn exchange(
        &self,
        prepared: reqwest::RequestBuilder,
        timeout: Duration,
    ) -> Result<reqwest::Response, Fault> {
        let mut prepared = prepared.header(ACCEPT, JSON);
        if let Some(authorization) = &self.authorization {
            prepared = prepared.header(AUTHORIZATION, authorization.clone());
        }
        match tokio::time::timeout(timeout, prepared.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                Err(self
                    .words
                    .fault(transport::unsent(&self.url, self.connect_timeout, error)))
            }
            Err(_) => Err(Fault::new(
                FaultKind::Timeout,
                format!(
                    "no answer from `{}` within {}",
                    transport::host(&self.url),
                    in_words(self.timeout)
                ),
            )),
        }
    }

    /// Keeps what a response says of the server's limits.
    fn hear(&self, model: &Arc<str>, headers: &HeaderMap) {
        let said = told::quotas(headers, Timestamp::now());
        if said == Quotas::default() {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let told = told.entry(model.clone()).or_default();
        told.requests = said.requests.or(told.requests);
        told.tokens = said.tokens.or(told.tokens);
    }

    /// What is sent for the provider's prompt cache: what is configured, until it is refused.
    fn cache(&self, request: &Request) -> CacheHint {
        if self.unhinted.load(Ordering::Relaxed) {
            CacheHint::Nothing
        } else {
            request.delivery.cache
        }
    }

    /// Makes a refusal of the hint one of this attempt alone: the next one goes without.
    fn take_back_the_hint(&self, fault: Fault) -> Fault {
        self.unhinted.store(true, Ordering::Relaxed);
        Fault {
            scope: Scope::Attempt,
            kind: FaultKind::BadParameter,
            message: format!(
                "the server refuses a hint for its prompt cache, which is left out from now on: {}",
                fault.message
            ),
            ..fault
        }
    }
}

impl OpenAi {
    /// Asks once how far a job is.
    async fn look(&self, request: &Request, job: &str, started: Instant) -> Looked {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(job);
        }
        let lane = self.lanes.enter();
        let left = self.timeout.saturating_sub(started.elapsed());
        let response = match self.exchange(lane.client().get(url), left).await {
            Ok(response) => response,
            Err(fault) => return Looked::Nothing(fault),
        };
        let patience = Patience {
            started,
            timeout: self.timeout,
            idle_timeout: self.idle_timeout,
        };
        let reply = receive::whole(response, &self.url, patience).await;
        reply::looked(reply, job, request, &self.words, Timestamp::now())
    }

    /// What is said of a job that lives on when its time is over.
    fn unfinished(&self, job: &str) -> Fault {
        let message = format!(
            "the response `{}` has not ended within {}; it is asked for again",
            self.words.name(job),
            in_words(self.timeout)
        );
        Fault::new(FaultKind::Unfinished, message)
    }

    /// The end of a job that the server has said twice it does not have. It forgets them after a
    /// while, and never knew those of another account.
    fn gone(&self, job: &str, fault: Fault) -> Lost {
        let job = self.words.name(job);
        let message = match fault.http_status {
            Some(400) => format!(
                "the server refuses to give the response `{job}`, which may have been billed; it is \
                 called again: {}",
                fault.message
            ),
            _ => format!(
                "the server does not have the response `{job}` any more, which may have been billed; \
                 it is called again"
            ),
        };
        Lost {
            fault: Fault {
                kind: FaultKind::BadResponse,
                scope: Scope::Attempt,
                message,
                ..fault
            },
            lives: false,
        }
    }
}

/// True for a refusal that names what was sent for the prompt cache.
fn is_about_the_hint(fault: &Fault) -> bool {
    matches!(fault.http_status, Some(400 | 422)) && fault.message.contains("prompt_cache")
}

#[async_trait]
impl Provider for OpenAi {
    async fn call(&self, request: &Request, attempt: u32) -> Result<Answer, Fault> {
        match self.begin(request, attempt).await? {
            Begun::Answered(answer) => Ok(*answer),
            Begun::Job(job) => self.fetch(request, &job).await.map_err(|lost| lost.fault),
        }
    }

    fn has_jobs(&self) -> bool {
        // Also where none is begun any more: those that are open are fetched.
        matches!(self.api, Api::Responses { .. })
    }

    async fn begin(&self, request: &Request, _attempt: u32) -> Result<Begun, Fault> {
        let started = Instant::now();
        let lane = self.lanes.enter();
        let cache = self.cache(request);
        let response = self.send(lane.client(), request, cache).await?;
        let patience = Patience {
            started,
            timeout: self.timeout,
            idle_timeout: self.idle_timeout,
        };
        self.hear(&request.model, response.headers());
        let reply = receive::whole(response, &self.url, patience).await;
        let read = match self.api {
            Api::Chat => reply::read(reply, request, &self.words, Timestamp::now())
                .map(|answer| Begun::Answered(answer.into())),
            Api::Responses { .. } => reply::progress(reply, request, &self.words, Timestamp::now()),
        };
        read.map_err(|fault| {
            if cache != CacheHint::Nothing && is_about_the_hint(&fault) {
                self.take_back_the_hint(fault)
            } else {
                fault
            }
        })
    }

    async fn fetch(&self, request: &Request, job: &str) -> Result<Answer, Lost> {
        let started = Instant::now();
        let (mut pause, mut denied) = (FIRST_LOOK, false);
        let lost = |fault, lives| Err(Lost { fault, lives });
        loop {
            match self.looks.turn(started + self.timeout).await {
                Ok(()) => {}
                Err(TooLate::Queue) => {
                    // At once it would use an attempt up for nothing.
                    tokio::time::sleep_until(started + self.timeout).await;
                    return lost(self.unfinished(job), true);
                }
                Err(TooLate::Held(wait)) => {
                    // Like the one that was told so: to wait here would only end in a timeout that says
                    // nothing of the server.
                    let message = format!(
                        "the server asks to look at its responses again in {}, `{}` among them",
                        in_words(Duration::from_secs_f64(wait.as_secs_f64().ceil())),
                        self.words.name(job)
                    );
                    let fault = Fault {
                        retry_after: Some(wait),
                        ..Fault::new(FaultKind::RateLimited, message)
                    };
                    return lost(fault, true);
                }
            }
            match self.look(request, job, started).await {
                Looked::Answered(answer) => return Ok(*answer),
                // To look too often says nothing of the job, nor of the calls that may be sent.
                Looked::Nothing(fault) if fault.kind == FaultKind::RateLimited => {
                    let wait = fault.retry_after.unwrap_or(pause.max(UNTOLD_PATIENCE));
                    self.looks.hold(wait);
                    if started.elapsed() + wait >= self.timeout {
                        return lost(fault, true);
                    }
                }
                Looked::Ended(fault) => return lost(fault, false),
                Looked::Nothing(fault) => return lost(fault, true),
                Looked::Denied(fault) if denied => return Err(self.gone(job, fault)),
                // Once can be a replica that lags behind.
                Looked::Denied(_) => {
                    denied = true;
                    pause = pause.max(SECOND_THOUGHT.min(self.timeout / 4));
                }
                Looked::Going if started.elapsed() + pause >= self.timeout => {
                    return lost(self.unfinished(job), true);
                }
                Looked::Going => denied = false,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(SLOWEST_LOOK);
        }
    }

    fn told(&self, model: &str) -> Quotas {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get_mut(model).map(std::mem::take).unwrap_or_default()
    }
}
