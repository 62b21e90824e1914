//! The built-in model behind an OpenAI-compatible port on loopback: with limits, faults, outages
//! and a book of all that was asked, for tests, benchmarks and rehearsals. The body of
//! `septet simulate`; knows nothing of command lines. What happens to one request stands in
//! `service`.
//!
//! `POST /v1/chat/completions` and `GET /v1/models` as with OpenAI (also without `/v1`);
//! `GET /stats` gives the [`Counters`], `POST /stats/reset` gives them and begins anew,
//! `POST /outage` with `{"seconds": 30, "mode": "error" | "reset" | "hang"}` begins an outage,
//! and ends it with 0 seconds.

mod body;
mod connection;
mod counters;
mod limits;
mod refusal;
mod reply;
mod responses;
mod service;

#[cfg(test)]
mod tests;

use std::future::{Future, IntoFuture};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use secrecy::SecretString;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config;
use crate::provider::simulator;

pub use counters::{Bodies, Counters, Outcome, Peaks, Tokens};

use connection::{Door, Peer};
use refusal::{INVALID_REQUEST, Refusal};
use service::{OutageOrder, Service};

/// How long open connections may take to end after a stop.
const GRACE: Duration = Duration::from_secs(1);
/// The model that is listed where any is served.
const ANY_MODEL: &str = "septet-simulator";

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The model; `reply_tokens` and `seed` are for requests whose body has none.
    pub model: config::Simulator,
    /// How long a cached prefix lives after its last use; `None`: as long as with OpenAI.
    pub cache_lifetime: Option<Duration>,
    /// Requests a minute; `None`: no limit and no headers of it.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute, input and output; `None`: no limit and no headers of it.
    pub tokens_per_minute: Option<u32>,
    /// How much of its limit a bucket holds, as a time; 1 request at least.
    pub burst: Duration,
    /// Calls in flight; `None`: no limit.
    pub concurrency: Option<usize>,
    /// What meets a call above `concurrency`.
    pub crowded: Crowded,
    /// The key that is asked for; `None`: none.
    pub api_key: Option<SecretString>,
    /// The models that are served; empty: any.
    pub models: Vec<String>,
}

/// What a server without room says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    /// 429, as if it were a rate.
    RateLimited,
    /// 503.
    Overloaded,
}

impl Options {
    /// The model without limits, and without a key.
    pub fn new(model: config::Simulator) -> Self {
        Self {
            model,
            cache_lifetime: None,
            requests_per_minute: None,
            tokens_per_minute: None,
            burst: Duration::from_secs(1),
            concurrency: None,
            crowded: Crowded::RateLimited,
            api_key: None,
            models: Vec::new(),
        }
    }

    /// Says whether the shares make sense.
    ///
    /// # Errors
    /// [`ServeError::Shares`] with what is wrong.
    pub fn check(&self) -> Result<(), ServeError> {
        let shares = simulator::shares(&self.model.faults).map(|(share, _)| share);
        if let Some(share) = shares
            .iter()
            .chain([&self.model.jitter])
            .find(|share| !(0.0..=1.0).contains(*share))
        {
            return Err(ServeError::Shares(format!(
                "`{share}` is no share: expected 0 to 1"
            )));
        }
        let sum: f64 = shares.iter().sum();
        // Ten shares of 0.1 are a little more than 1.
        if sum > 1.0 + 1e-9 {
            return Err(ServeError::Shares(format!(
                "the shares of all faults add up to {sum}: expected at most 1"
            )));
        }
        Ok(())
    }
}

/// Why a server did not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address could be reached from outside.
    #[error("`{0}` is not a loopback address: the simulator serves this machine only")]
    NotLoopback(SocketAddr),
    /// The shares of the faults, or the jitter.
    #[error("{0}")]
    Shares(String),
    /// The listener broke.
    #[error("cannot listen on loopback")]
    Io(#[from] io::Error),
}

/// Listens on a port of 127.0.0.1; 0 chooses a free one (see `local_addr`).
///
/// # Errors
/// As binding does: the port is taken, or not allowed.
pub async fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await
}

/// Serves until `shutdown` is ready; then resets what is in flight and returns what it has seen.
///
/// # Errors
/// An address that is not loopback, shares that make no sense, or a listener that broke.
pub async fn serve(
    options: Options,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Counters, ServeError> {
    options.check()?;
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        return Err(ServeError::NotLoopback(address));
    }
    let (stop, mut stopped) = watch::channel(false);
    let service = Service::new(options, stopped.clone());
    let connections = router(service.clone()).into_make_service_with_connect_info::<Peer>();
    let serving = axum::serve(Door(listener), connections).with_graceful_shutdown(async move {
        shutdown.await;
        stop.send_replace(true);
    });
    let overdue = async {
        // An error is that `serving` has ended, which the other branch sees.
        let _ = stopped.wait_for(|stopped| *stopped).await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = serving.into_future() => result?,
        () = overdue => {}
    }
    Ok(service.counters())
}

fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/chat/completions", post(complete))
        .route("/v1/responses", post(respond))
        .route("/responses", post(respond))
        .route("/v1/responses/{id}", get(response))
        .route("/responses/{id}", get(response))
        .route("/v1/responses/{id}/cancel", post(cancel))
        .route("/responses/{id}/cancel", post(cancel))
        .route("/responses/forget", post(forget))
        .route("/v1/models", get(models))
        .route("/models", get(models))
        .route("/stats", get(stats))
        .route("/stats/reset", post(reset_stats))
        .route("/outage", post(outage))
        .method_not_allowed_fallback(wrong_method)
        .fallback(wrong_url)
        .with_state(service)
}

async fn complete(
    State(service): State<Arc<Service>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    service.complete(peer, &headers, body).await
}

async fn respond(
    State(service): State<Arc<Service>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    service.respond(peer, &headers, body).await
}

async fn response(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    service.job(&headers, &id, false)
}

async fn cancel(State(service): State<Arc<Service>>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    service.job(&headers, &id, true)
}

async fn forget(State(service): State<Arc<Service>>) -> Response {
    service.forget_jobs();
    reply::json(StatusCode::OK, &json!({}))
}

async fn models(State(service): State<Arc<Service>>) -> Response {
    let served = service.models();
    let listed = if served.is_empty() {
        vec![ANY_MODEL]
    } else {
        served.iter().map(String::as_str).collect()
    };
    let data: Vec<_> = listed
        .into_iter()
        .map(|id| json!({ "id": id, "object": "model", "created": 0, "owned_by": "septet" }))
        .collect();
    reply::json(StatusCode::OK, &json!({ "object": "list", "data": data }))
}

async fn stats(State(service): State<Arc<Service>>) -> Response {
    reply::line(&service.counters())
}

async fn reset_stats(State(service): State<Arc<Service>>) -> Response {
    reply::json(StatusCode::OK, &service.reset_counters())
}

async fn outage(State(service): State<Arc<Service>>, body: Bytes) -> Response {
    match serde_json::from_slice::<OutageOrder>(&body) {
        Ok(order) if (0.0..=1e9).contains(&order.seconds) => {
            service.order_outage(&order);
            reply::json(StatusCode::OK, &order)
        }
        Ok(_) => Refusal::bad_request("'seconds' must be 0 or more.", Some("seconds"), None).into_response(),
        Err(error) => Refusal::bad_request(error.to_string(), None, None).into_response(),
    }
}

async fn wrong_url(method: Method, uri: Uri) -> Response {
    let message = format!("Invalid URL ({method} {})", uri.path());
    Refusal::new(
        Outcome::BadRequest,
        StatusCode::NOT_FOUND,
        INVALID_REQUEST,
        message,
    )
    .into_response()
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let message = format!("Not allowed to {method} on {}.", uri.path());
    Refusal::new(
        Outcome::BadRequest,
        StatusCode::METHOD_NOT_ALLOWED,
        INVALID_REQUEST,
        message,
    )
    .code("method_not_supported")
    .into_response()
}
