//! Reads the body of a response: piece by piece, never more than the cap, never longer than the
//! patience. Knows nothing of what a body means.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::HeaderMap;
use tokio::time::Instant;
use url::Url;

use crate::provider::openai::transport::{causes, host, in_words};

/// The largest answer, in bytes; design.md, `response_too_large`. Four million tokens of text
/// are half of it.
pub(super) const ANSWER_CAP: usize = 32 * 1024 * 1024;

/// The largest explanation of an error that is read, in bytes.
const ERROR_CAP: usize = 1024 * 1024;

/// A response that has ended, one way or the other.
#[derive(Debug)]
pub(super) struct Reply {
    /// Where it came from.
    pub url: Url,
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// What arrived of the body.
    pub body: Vec<u8>,
    /// Whether that is all of it.
    pub end: End,
}

/// How a body ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It is whole.
    Whole,
    /// It is longer than the cap; the rest was not read.
    TooLarge,
    /// The connection broke; the cause in words.
    Broke(String),
    /// It began and then nothing came for too long; what happened in words.
    TimedOut(String),
}

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// When it was sent.
    pub started: Instant,
    /// From then to the last byte.
    pub timeout: Duration,
    /// Between two pieces of a body that has begun.
    pub idle_timeout: Duration,
}

impl Patience {
    /// What is left of the whole call's time.
    fn left(&self) -> Duration {
        self.timeout.saturating_sub(self.started.elapsed())
    }
}

/// Reads what there is of the body.
pub(super) async fn whole(mut response: Response, url: &Url, patience: Patience) -> Reply {
    let status = response.status().as_u16();
    let cap = if response.status().is_success() {
        ANSWER_CAP
    } else {
        ERROR_CAP
    };
    let mut body = Vec::new();
    let end = read(&mut response, &mut body, cap, url, patience).await;
    Reply {
        url: url.clone(),
        status,
        headers: std::mem::take(response.headers_mut()),
        body,
        end,
    }
}

async fn read(response: &mut Response, body: &mut Vec<u8>, cap: usize, url: &Url, patience: Patience) -> End {
    let announced = response.content_length().unwrap_or(0);
    if announced > cap as u64 {
        return End::TooLarge;
    }
    body.reserve(announced as usize);
    loop {
        let left = patience.left();
        // Some servers send headers at once and think afterwards, so the first piece may take
        // as long as the whole call.
        let idle = if body.is_empty() {
            left
        } else {
            left.min(patience.idle_timeout)
        };
        match tokio::time::timeout(idle, response.chunk()).await {
            Ok(Ok(Some(piece))) if body.len() + piece.len() > cap => return End::TooLarge,
            Ok(Ok(Some(piece))) => body.extend_from_slice(&piece),
            Ok(Ok(None)) => return End::Whole,
            Ok(Err(error)) => return End::Broke(broke(url, body.len(), error)),
            Err(_) => return End::TimedOut(gave_up(url, body.len(), patience)),
        }
    }
}

fn broke(url: &Url, received: usize, error: reqwest::Error) -> String {
    format!(
        "the connection to `{}` broke before the answer was whole ({received} bytes came): {}",
        host(url),
        causes(&error.without_url())
    )
}

fn gave_up(url: &Url, received: usize, patience: Patience) -> String {
    let host = host(url);
    if patience.left().is_zero() {
        let timeout = in_words(patience.timeout);
        format!("no whole answer from `{host}` within {timeout} ({received} bytes came)")
    } else {
        let idle = in_words(patience.idle_timeout);
        format!("`{host}` fell silent in the middle of its answer: nothing for {idle} after {received} bytes")
    }
}
