//! What can go wrong with a call, and how far it reaches (design, rule 6): this attempt, this
//! node, or the whole run.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::call::quota::Counted;

/// A call that brought no usable answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What happened; decides scope and wording.
    pub kind: FaultKind,
    /// What to do about it. By default `kind.scope()`; a server can override it.
    pub scope: Scope,
    /// One line for a person: the server's own words where there are any. Never holds a key.
    pub message: String,
    /// The HTTP status, where there was one.
    pub http_status: Option<u16>,
    /// True where a connection broke once the request could be sent: it may have arrived.
    pub arrived: bool,
    /// How long the server asked to wait, at least.
    pub retry_after: Option<Duration>,
    /// Of which limit it speaks, where it is a refusal for one.
    pub limit: Option<Counted>,
    /// The tokens that the server took the call for, where it was refused for them and the server says so.
    pub reckoned: Option<u64>,
    /// The server's name for the request, for its support.
    pub request_id: Option<String>,
}

/// How far a fault reaches. Ordered: a wider one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// This attempt: try again.
    Attempt,
    /// This node: the same request would fail again.
    Node,
    /// This run: every call would fail the same way.
    Run,
}

/// The kinds of faults. Their names in `--json` are listed in `docs/json.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// No connection, or it broke before the answer was whole.
    Connection,
    /// No answer within `provider.timeout`, or a pause longer than `provider.idle_timeout`.
    Timeout,
    /// The server still works on a response, longer than `provider.timeout`: it is fetched later.
    Unfinished,
    /// 408, 409, 500, 502, 504 and other 5xx.
    ServerError,
    /// 503, 529, 498: the server has no room; not our rate.
    Overloaded,
    /// 429: the rate, or too many in flight.
    RateLimited,
    /// A 200 whose body is no answer: not JSON, no choices, an error object, no finish reason.
    BadResponse,
    /// An answer larger than 32 MB.
    ResponseTooLarge,
    /// 3xx: redirects are not followed.
    Redirect,
    /// The prompt is longer than the model's context.
    ContextTooLong,
    /// One call is larger than the tokens-per-minute limit.
    RequestTooLarge,
    /// The input was refused: a content policy.
    RefusedInput,
    /// 400 or 422 for this request alone.
    BadRequest,
    /// A parameter that the model does not take: every call would meet it.
    BadParameter,
    /// 401: the key.
    Authentication,
    /// 403: no access from here, or to this.
    Permission,
    /// 404: the model or the URL.
    NotFound,
    /// No credit, or a spending limit reached.
    NoCredit,
}

impl FaultKind {
    /// How far a fault of this kind reaches unless the server says otherwise.
    pub fn scope(self) -> Scope {
        use FaultKind::*;
        match self {
            Connection | Timeout | Unfinished | ServerError | Overloaded | RateLimited | BadResponse => {
                Scope::Attempt
            }
            ResponseTooLarge | ContextTooLong | RequestTooLarge | RefusedInput | BadRequest => Scope::Node,
            Redirect | BadParameter | Authentication | Permission | NotFound | NoCredit => Scope::Run,
        }
    }

    /// True for what an outage looks like: the provider cannot be reached or does not work.
    pub fn is_outage(self) -> bool {
        matches!(
            self,
            FaultKind::Connection | FaultKind::Timeout | FaultKind::ServerError | FaultKind::Overloaded
        )
    }

    /// The word for it in `--json`.
    pub fn as_str(self) -> &'static str {
        use FaultKind::*;
        match self {
            Connection => "connection",
            Timeout => "timeout",
            Unfinished => "unfinished",
            ServerError => "server_error",
            Overloaded => "overloaded",
            RateLimited => "rate_limited",
            BadResponse => "bad_response",
            ResponseTooLarge => "response_too_large",
            Redirect => "redirect",
            ContextTooLong => "context_too_long",
            RequestTooLarge => "request_too_large",
            RefusedInput => "refused_input",
            BadRequest => "bad_request",
            BadParameter => "bad_parameter",
            Authentication => "authentication",
            Permission => "permission",
            NotFound => "not_found",
            NoCredit => "no_credit",
        }
    }
}

impl Fault {
    /// A fault of the kind's usual scope, without status or hints.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            scope: kind.scope(),
            message: message.into(),
            http_status: None,
            arrived: false,
            retry_after: None,
            limit: None,
            reckoned: None,
            request_id: None,
        }
    }
}

impl Fault {
    /// True where an answer may have been made, and billed, though none reached us whole: no
    /// answer in time, one that broke off, is too large or cannot be read, a connection that broke
    /// while an answer was waited for. Where there never was one nothing was billed.
    pub fn may_be_billed(&self) -> bool {
        match self.kind {
            FaultKind::Timeout
            | FaultKind::Unfinished
            | FaultKind::BadResponse
            | FaultKind::ResponseTooLarge => true,
            FaultKind::Connection => self.arrived || self.http_status.is_some(),
            _ => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.http_status {
            Some(status) => write!(f, "{} (HTTP {status})", self.message),
            None => f.write_str(&self.message),
        }
    }
}
