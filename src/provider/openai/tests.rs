//! What the tests of the provider share: a request, a response as it ended, and the way from the
//! one to the other.

mod answers;
mod chance;
mod errors;
mod fuzz;
mod limits;
mod patience;
mod server;
mod shown;
mod tls;
mod usual;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;

use crate::call::{Answer, Delivery, Fault, FaultKind, Message, Request, Role, Scope};
use crate::provider::openai::receive::{End, Reply};
use crate::provider::openai::reply;
use crate::provider::openai::words::Words;

/// The key of all tests: no fault may show it.
const KEY: &str = "sk-canary-0123456789abcdef";

/// 2026-11-23 12:00:00 UTC.
pub(super) const NOW: Timestamp = Timestamp::constant(1_795_435_200, 0);

/// A request whose input is estimated at 5 tokens.
fn request() -> Request {
    Request {
        provider: "test".into(),
        model: "gpt-6-luna".into(),
        messages: vec![
            Message {
                role: Role::System,
                content: "Be brief.".to_owned(),
            },
            Message {
                role: Role::User,
                content: "Who are you".to_owned(),
            },
        ],
        parameters: Arc::new(BTreeMap::new()),
        variant: None,
        delivery: Delivery::default(),
    }
}

pub(super) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let parsed = |(name, value): &(&str, &str)| {
        (
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        )
    };
    pairs.iter().map(parsed).collect()
}

fn ended(status: u16, headers: HeaderMap, body: impl Into<Vec<u8>>, end: End) -> Reply {
    let url = "https://api.example.com/v1/chat/completions".parse().unwrap();
    Reply {
        url,
        status,
        headers,
        body: body.into(),
        end,
    }
}

/// Reads a response that is whole.
fn read(status: u16, pairs: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Result<Answer, Fault> {
    let words = Words::hiding(Some(SecretString::from(KEY)));
    reply::read(
        ended(status, headers(pairs), body, End::Whole),
        &request(),
        &words,
        NOW,
    )
}

/// One row of the table of errors: what a server sends.
#[must_use]
struct Case<'a> {
    rule: &'a str,
    status: u16,
    headers: Vec<(&'a str, &'a str)>,
    body: &'a str,
    wait: Option<Duration>,
}

fn case(status: u16, rule: &str) -> Case<'_> {
    Case {
        rule,
        status,
        headers: Vec::new(),
        body: "",
        wait: None,
    }
}

impl<'a> Case<'a> {
    fn header(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn body(self, body: &'a str) -> Self {
        Self { body, ..self }
    }

    /// Expects this hint to wait, in milliseconds, instead of none.
    fn waits(self, milliseconds: u64) -> Self {
        Self {
            wait: Some(Duration::from_millis(milliseconds)),
            ..self
        }
    }

    /// Expects this fault; `message` is how its message begins.
    #[track_caller]
    fn is(self, kind: FaultKind, scope: Scope, message: &str) {
        let fault = read(self.status, &self.headers, self.body).expect_err(self.rule);
        assert_eq!(
            (fault.kind, fault.scope),
            (kind, scope),
            "{}: {fault:?}",
            self.rule
        );
        assert_eq!(fault.retry_after, self.wait, "{}", self.rule);
        assert_eq!(fault.http_status, Some(self.status), "{}", self.rule);
        assert!(
            fault.message.starts_with(message),
            "{}: {}",
            self.rule,
            fault.message
        );
    }
}
