//! The errors that the server sends instead of an answer, in OpenAI's envelope and, where it has
//! some, in its words. Decides nothing.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use super::Crowded;
use super::counters::Outcome;
use super::limits::Over;
use super::reply::{self, json, whole_ms};
use crate::provider::simulator::{RETRY_AFTER, SERVER_ERROR, rate_limited};

/// `error.type` of what the client did wrong.
pub const INVALID_REQUEST: &str = "invalid_request_error";

/// An error that is sent instead of an answer.
#[derive(Debug)]
pub struct Refusal {
    /// How it is counted.
    pub outcome: Outcome,
    /// The HTTP status.
    pub status: StatusCode,
    /// `error.message`.
    pub message: String,
    /// `error.type`.
    pub kind: &'static str,
    /// `error.param`.
    pub param: Option<&'static str>,
    /// `error.code`.
    pub code: Option<&'static str>,
    /// How long to wait at least.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// An error without a hint to wait, without `param` and `code`.
    pub fn new(
        outcome: Outcome,
        status: StatusCode,
        kind: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            outcome,
            status,
            message: message.into().into_owned(),
            kind,
            param: None,
            code: None,
            retry_after: None,
        }
    }

    /// A 400.
    pub fn bad_request(
        message: impl Into<Cow<'static, str>>,
        param: Option<&'static str>,
        code: Option<&'static str>,
    ) -> Self {
        Self {
            param,
            code,
            ..Self::new(
                Outcome::BadRequest,
                StatusCode::BAD_REQUEST,
                INVALID_REQUEST,
                message,
            )
        }
    }

    /// With a code.
    #[must_use]
    pub fn code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    /// With a hint to wait.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    /// The response, but for the headers that every one has.
    pub fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Envelope<'a> {
            error: Error<'a>,
        }
        #[derive(Serialize)]
        struct Error<'a> {
            message: &'a str,
            r#type: &'a str,
            param: Option<&'a str>,
            code: Option<&'a str>,
        }
        let error = Error {
            message: &self.message,
            r#type: self.kind,
            param: self.param,
            code: self.code,
        };
        let mut response = json(self.status, &Envelope { error });
        if let Some(wait) = self.retry_after {
            // Whole seconds, as the standard wants them, and exactly, as OpenAI's clients read it.
            let ms = whole_ms(wait).max(1);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, ms.div_ceil(1000).into());
            response.headers_mut().insert("retry-after-ms", ms.into());
        }
        response
    }
}

/// A key that is not the one, or no key.
pub fn unauthorized(given: bool) -> Refusal {
    let refusal = |message| {
        Refusal::new(
            Outcome::Unauthorized,
            StatusCode::UNAUTHORIZED,
            INVALID_REQUEST,
            message,
        )
    };
    if given {
        return refusal("Incorrect API key provided.").code("invalid_api_key");
    }
    refusal(
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer \
         auth (i.e. Authorization: Bearer YOUR_KEY).",
    )
}

/// A model that is not served.
pub fn unknown_model(model: &str) -> Refusal {
    let message = format!("The model `{model}` does not exist or you do not have access to it.");
    Refusal::new(
        Outcome::ModelNotFound,
        StatusCode::NOT_FOUND,
        INVALID_REQUEST,
        message,
    )
    .code("model_not_found")
}

/// A response that is not kept, or never was.
pub fn unknown_response(id: &str) -> Refusal {
    let message = format!("Response with id '{id}' not found.");
    Refusal::new(
        Outcome::BadRequest,
        StatusCode::NOT_FOUND,
        INVALID_REQUEST,
        message,
    )
}

/// A body of more bytes than are read.
pub fn too_large(most: usize) -> Refusal {
    let message = format!("Request body too large: at most {most} bytes are served.");
    Refusal::new(
        Outcome::BodyTooLarge,
        StatusCode::PAYLOAD_TOO_LARGE,
        INVALID_REQUEST,
        message,
    )
    .code("request_too_large")
}

/// The server is out of order.
pub fn outage() -> Refusal {
    let message = "The server is temporarily unavailable. (outage of the simulator)";
    Refusal::new(
        Outcome::Outage,
        StatusCode::SERVICE_UNAVAILABLE,
        "service_unavailable_error",
        message,
    )
}

/// A 429 that was drawn.
pub fn injected_429(model: &str) -> Refusal {
    let message = rate_limited(model);
    Refusal::new(
        Outcome::RateLimited,
        StatusCode::TOO_MANY_REQUESTS,
        "requests",
        message,
    )
    .code("rate_limit_exceeded")
    .retry_after(RETRY_AFTER)
}

/// A 500 that was drawn.
pub fn injected_500() -> Refusal {
    Refusal::new(
        Outcome::ServerError,
        StatusCode::INTERNAL_SERVER_ERROR,
        "server_error",
        SERVER_ERROR,
    )
}

/// No room for one more.
pub fn crowded(crowded: Crowded, most: usize) -> Refusal {
    let message = format!("Too many requests at once: at most {most} are served. Please try again in 1s.");
    let (status, kind, code) = match crowded {
        Crowded::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "requests", "rate_limit_exceeded"),
        Crowded::Overloaded => (
            StatusCode::SERVICE_UNAVAILABLE,
            "service_unavailable_error",
            "server_is_overloaded",
        ),
    };
    Refusal::new(Outcome::OverConcurrency, status, kind, message)
        .code(code)
        .retry_after(RETRY_AFTER)
}

/// The 429 of a limit, in OpenAI's words.
pub fn over_limit(over: Over, model: &str) -> Refusal {
    let (outcome, kind, message, wait) = match over {
        Over::Requests { limit, wait } => (
            Outcome::OverRequestsLimit,
            "requests",
            format!("Rate limit reached for {model} on requests per min (RPM): Limit {limit}, Requested 1."),
            Some(wait),
        ),
        Over::Tokens {
            limit,
            requested,
            wait,
        } => (
            Outcome::OverTokensLimit,
            "tokens",
            format!(
                "Rate limit reached for {model} on tokens per min (TPM): Limit {limit}, Requested {requested}."
            ),
            Some(wait),
        ),
        Over::TooLarge { limit, requested } => (
            Outcome::OverTokensLimit,
            "tokens",
            format!(
                "Request too large for {model} on tokens per min (TPM): Limit {limit}, Requested {requested}. The \
                 input or output tokens must be reduced in order to run successfully."
            ),
            None,
        ),
    };
    let message = match wait {
        Some(wait) => format!("{message} Please try again in {}.", reply::go_duration(wait)),
        None => message,
    };
    let refusal =
        Refusal::new(outcome, StatusCode::TOO_MANY_REQUESTS, kind, message).code("rate_limit_exceeded");
    match wait {
        Some(wait) => refusal.retry_after(wait),
        None => refusal,
    }
}
