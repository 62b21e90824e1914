//! What happens to one request for a completion: key → body → model → outage → concurrency →
//! limits → the built-in model → its time → what was drawn for it. Knows no routes.
//!
//! A request ends in a response or, by `?`, in a [`Halt`]. Whoever leaves earlier is noticed by
//! the drop of its [`Visit`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use futures_util::StreamExt;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::Peer;
use super::counters::{BodyHash, Book, Counters, Outcome};
use super::limits::{Bucket, Limits};
use super::refusal::{self, Refusal};
use super::reply;
use super::responses::{self, Jobs};
use super::{Options, body};
use crate::call::{Finish, Request};
use crate::provider::simulator::{self, Simulator, Trouble};

/// The largest body that is read: more than any prompt here, less than would hurt.
pub(super) const LARGEST_BODY: usize = 4 * 1024 * 1024;
/// What is read of a larger one, so that its sender gets to read the refusal.
const LARGEST_DRAINED: usize = 64 * 1024 * 1024;

/// The one server behind all connections.
pub struct Service {
    options: Options,
    simulator: Simulator,
    /// Held for moments, never across an await.
    state: Mutex<Situation>,
    outage: watch::Sender<Option<Outage>>,
    stopped: watch::Receiver<bool>,
    born: Instant,
    /// Unix time in seconds.
    born_at: i64,
    /// Tells its responses from those of the process before it: one that is gone is not another's.
    tag: String,
}

struct Situation {
    book: Book,
    limits: Limits,
    /// Requests that were admitted and have not ended.
    busy: usize,
    /// Requests that ended before they had a name from the model.
    nameless: u64,
    jobs: Jobs,
    /// Responses that had a name so far.
    responses: u64,
}

#[derive(Clone, Copy)]
struct Outage {
    until: Instant,
    mode: OutageMode,
}

/// An outage as it is asked for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutageOrder {
    /// From now on; 0 ends one.
    pub seconds: f64,
    /// What it looks like.
    #[serde(default)]
    pub mode: OutageMode,
}

/// How an outage looks from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutageMode {
    /// 503.
    #[default]
    Error,
    /// Connections are reset.
    Reset,
    /// No answer while it lasts, and then a reset.
    Hang,
}

/// A request, by the way in which it came.
enum Asked {
    Chat(Body),
    /// As one of Chat Completions, and the id that its response has.
    Response(Vec<u8>, String),
}

/// What ends a request before its answer.
enum Halt {
    /// With an error.
    Refused(Refusal),
    /// With a reset, and nothing sent.
    Reset(Outcome),
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Halt::Refused(refusal)
    }
}

impl Service {
    /// A server; `stopped` becomes true when it shall end.
    pub fn new(options: Options, stopped: watch::Receiver<bool>) -> Arc<Self> {
        let born = Instant::now();
        let bucket = |limit: Option<u32>| limit.map(|limit| Bucket::new(limit, options.burst, born));
        let state = Situation {
            limits: Limits {
                requests: bucket(options.requests_per_minute),
                tokens: bucket(options.tokens_per_minute),
            },
            book: Book::new(),
            busy: 0,
            nameless: 0,
            jobs: Jobs::default(),
            responses: 0,
        };
        // The only patience that ends here is the client's.
        let simulator = Simulator::new(options.model.clone(), Duration::MAX);
        Arc::new(Self {
            simulator: simulator.with_cache_lifetime(options.cache_lifetime),
            options,
            state: Mutex::new(state),
            outage: watch::Sender::new(None),
            stopped,
            born,
            born_at: jiff::Timestamp::now().as_second(),
            tag: format!("{:08x}", fastrand::u32(..)),
        })
    }

    /// The models that are served; none: any.
    pub fn models(&self) -> &[String] {
        &self.options.models
    }

    /// What it has seen.
    pub fn counters(&self) -> Counters {
        self.state().book.counters()
    }

    /// What it has seen, which it then forgets.
    pub fn reset_counters(&self) -> Counters {
        let mut state = self.state();
        let counters = state.book.counters();
        state.book.reset();
        counters
    }

    /// Begins or ends an outage.
    pub fn order_outage(&self, order: &OutageOrder) {
        let lasts = Duration::from_secs_f64(order.seconds);
        self.outage.send_replace((!lasts.is_zero()).then(|| Outage {
            until: Instant::now() + lasts,
            mode: order.mode,
        }));
    }

    /// Takes a request to its end, or to that of the server.
    pub async fn complete(self: &Arc<Self>, peer: Peer, headers: &HeaderMap, body: Body) -> Response {
        self.take(peer, headers, Asked::Chat(body)).await
    }

    /// The same by the Responses API. A job is begun and left to itself.
    pub async fn respond(self: &Arc<Self>, peer: Peer, headers: &HeaderMap, body: Body) -> Response {
        let received = receive(body).await;
        let (chat, background) = match received.and_then(|body| responses::chat(&body)) {
            Ok(read) => read,
            Err(refusal) => return refusal.into_response(),
        };
        let id = {
            let mut state = self.state();
            state.responses += 1;
            format!("resp_{}_{:012}", self.tag, state.responses)
        };
        if !background {
            return self.take(peer, headers, Asked::Response(chat, id)).await;
        }
        if let Err(refusal) = self.authorize(headers) {
            return refusal.into_response();
        }
        self.state().jobs.begin(&id);
        let (service, headers, job) = (self.clone(), headers.clone(), id.clone());
        tokio::spawn(async move {
            let response = service
                .take(peer, &headers, Asked::Response(chat, job.clone()))
                .await;
            let ended = axum::body::to_bytes(response.into_body(), LARGEST_BODY).await;
            let mut ended: Value = ended
                .ok()
                .and_then(|body| serde_json::from_slice(&body).ok())
                .unwrap_or_default();
            if ended["object"] != "response" {
                let error = ended["error"].take();
                ended = json!({ "id": job, "object": "response", "status": "failed", "error": error });
            }
            service.state().jobs.end(&job, ended);
        });
        reply::json(StatusCode::OK, &responses::going(&id))
    }

    /// How far a job is; with `cancel` it is given up first.
    pub fn job(&self, headers: &HeaderMap, id: &str, cancel: bool) -> Response {
        if let Err(refusal) = self.authorize(headers) {
            return refusal.into_response();
        }
        let mut state = self.state();
        if cancel {
            state.jobs.cancel(id);
        }
        match state.jobs.get(id) {
            Some(response) => reply::json(StatusCode::OK, &response),
            None => refusal::unknown_response(id).into_response(),
        }
    }

    /// Forgets all responses, as a server does after a while.
    pub fn forget_jobs(&self) {
        self.state().jobs.forget();
    }

    async fn take(self: &Arc<Self>, peer: Peer, headers: &HeaderMap, asked: Asked) -> Response {
        let mut visit = Visit::new(self);
        let mut stopped = self.stopped.clone();
        let end = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return reply::broken(Vec::new(), peer),
            end = self.answer(&mut visit, &peer, headers, asked) => end,
        };
        let (outcome, mut response) = match end {
            Ok(answered) => answered,
            Err(Halt::Refused(refusal)) => (refusal.outcome, refusal.into_response()),
            Err(Halt::Reset(outcome)) => {
                visit.end(outcome, None);
                return reply::broken(Vec::new(), peer);
            }
        };
        let whole = outcome != Outcome::ConnectionReset;
        visit.end(outcome, whole.then(|| response.status().as_u16()));
        let request_id = visit.request_id.take().unwrap_or_else(|| self.next_name());
        let gauges = self.state().limits.gauges(Instant::now());
        reply::stamp(&mut response, &request_id, gauges);
        response
    }

    async fn answer(
        &self,
        visit: &mut Visit,
        peer: &Peer,
        headers: &HeaderMap,
        asked: Asked,
    ) -> Result<(Outcome, Response), Halt> {
        self.authorize(headers)?;
        let (body, as_response) = match asked {
            Asked::Chat(body) => (receive(body).await?, None),
            Asked::Response(body, id) => (body, Some(id)),
        };
        let request = body::read(&body)?;
        self.look_up(&request.model)?;
        self.meet_outage(visit).await?;
        let hash = hash(&body);
        let reserved = self.reservation(&request);
        let attempt = self.admit(visit, &request.model, hash, reserved)?;
        let call = self.simulator.begin(&request, attempt);
        visit.request_id = Some(call.request_id());
        self.state().book.will_use(&call.billed(), Instant::now());
        if call.trouble == Some(Trouble::Timeout) {
            visit.if_dropped = Outcome::Hung;
        }
        call.wait().await;
        self.meet_outage(visit).await?;
        match call.trouble {
            Some(Trouble::RateLimited) => return Err(refusal::injected_429(&request.model).into()),
            Some(Trouble::ServerError) => return Err(refusal::injected_500().into()),
            Some(Trouble::Timeout) => std::future::pending().await,
            _ => {}
        }
        let (usage, outcome) = (call.billed(), outcome(&call));
        let answer = self.simulator.deliver(call);
        let body = reply::completion(&answer, self.born_at + self.born.elapsed().as_secs() as i64);
        let body = match as_response {
            Some(id) => {
                let response = responses::response(&id, &body);
                serde_json::to_vec(&response).expect("BUG: the server's own types are JSON")
            }
            None => body,
        };
        let mut state = self.state();
        state
            .limits
            .settle(reserved, usage.input + usage.output, Instant::now());
        state.book.answering(hash, outcome, &usage);
        let response = match outcome {
            Outcome::ConnectionReset => reply::broken(body, peer.clone()),
            Outcome::Malformed => reply::malformed(body),
            _ => reply::whole(body),
        };
        Ok((outcome, response))
    }

    fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(key) = &self.options.api_key else {
            return Ok(());
        };
        let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        match given.and_then(|value| value.strip_prefix(b"Bearer ")) {
            Some(given) if given == key.expose_secret().as_bytes() => Ok(()),
            given => Err(refusal::unauthorized(given.is_some())),
        }
    }

    fn look_up(&self, model: &str) -> Result<(), Refusal> {
        let models = &self.options.models;
        if models.is_empty() || models.iter().any(|served| served == model) {
            return Ok(());
        }
        Err(refusal::unknown_model(model))
    }

    /// Ends the request if there is an outage now.
    async fn meet_outage(&self, visit: &mut Visit) -> Result<(), Halt> {
        let mut news = self.outage.subscribe();
        let Some(outage) = current(&mut news) else {
            return Ok(());
        };
        match outage.mode {
            OutageMode::Error => return Err(refusal::outage().into()),
            OutageMode::Reset => {}
            OutageMode::Hang => {
                visit.if_dropped = Outcome::Outage;
                while let Some(outage) = current(&mut news) {
                    // Over when its time has come or another order is given.
                    let _ = tokio::time::timeout_at(outage.until, news.changed()).await;
                }
            }
        }
        Err(Halt::Reset(Outcome::Outage))
    }

    /// What a request is reckoned at before it is answered: its prompt and all that it may get.
    fn reservation(&self, request: &Request) -> u64 {
        let expected = self.simulator.reply_tokens(request);
        request
            .estimated_input_tokens()
            .saturating_add(request.delivery.max_output_tokens.unwrap_or(expected))
    }

    /// Lets a request start; returns which of its body it is, from 1.
    fn admit(&self, visit: &mut Visit, model: &str, body: BodyHash, reserved: u64) -> Result<u32, Refusal> {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(most) = self.options.concurrency.filter(|most| state.busy >= *most) {
            return Err(refusal::crowded(self.options.crowded, most));
        }
        state
            .limits
            .admit(reserved, now)
            .map_err(|over| refusal::over_limit(over, model))?;
        state.busy += 1;
        visit.admitted = true;
        Ok(state.book.admitted(body, now))
    }

    fn next_name(&self) -> String {
        let mut state = self.state();
        state.nameless += 1;
        format!("req_{:012}", state.nameless)
    }

    fn state(&self) -> MutexGuard<'_, Situation> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request from its arrival to its end, however that comes.
struct Visit {
    service: Arc<Service>,
    /// The name that the model gave it.
    request_id: Option<String>,
    admitted: bool,
    ended: bool,
    /// How it ended if nobody says otherwise.
    if_dropped: Outcome,
}

impl Visit {
    fn new(service: &Arc<Service>) -> Self {
        service.state().book.arrived(Instant::now());
        Self {
            service: service.clone(),
            request_id: None,
            admitted: false,
            ended: false,
            if_dropped: Outcome::Abandoned,
        }
    }

    fn end(&mut self, outcome: Outcome, status: Option<u16>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let mut state = self.service.state();
        state.busy -= usize::from(self.admitted);
        state.book.ended(outcome, status);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.end(self.if_dropped, None);
    }
}

fn current(outage: &mut watch::Receiver<Option<Outage>>) -> Option<Outage> {
    outage
        .borrow_and_update()
        .filter(|outage| outage.until > Instant::now())
}

/// Reads a body, all of it even if it is too large: a client that is still sending would not read
/// the refusal.
async fn receive(body: Body) -> Result<Vec<u8>, Refusal> {
    let (mut kept, mut length) = (Vec::new(), 0);
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| Refusal::bad_request("The body ended early.", None, None))?;
        length += part.len();
        if length <= LARGEST_BODY {
            kept.extend_from_slice(&part);
        } else if length > LARGEST_DRAINED {
            break;
        }
    }
    if length > LARGEST_BODY {
        return Err(refusal::too_large(LARGEST_BODY));
    }
    Ok(kept)
}

fn hash(body: &[u8]) -> BodyHash {
    let mut short = BodyHash::default();
    short.copy_from_slice(&blake3::hash(body).as_bytes()[..16]);
    short
}

fn outcome(call: &simulator::Call) -> Outcome {
    match (call.trouble, call.finish()) {
        (Some(Trouble::Connection), _) => Outcome::ConnectionReset,
        (Some(Trouble::Malformed), _) => Outcome::Malformed,
        (Some(Trouble::Empty), _) => Outcome::Empty,
        (_, Finish::Length) => Outcome::Truncated,
        (_, Finish::ContentFilter) => Outcome::Filtered,
        _ => Outcome::Answered,
    }
}
