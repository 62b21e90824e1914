//! Tells a response that has ended apart: an answer, or a fault with everything that goes with it.
//! The way from bytes to [`Answer`] or [`Fault`], without a network and without a clock.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION};
use serde_json::Value;

use crate::call::{Answer, Counted, Fault, FaultKind, Request, Scope};
use crate::provider::Begun;
use crate::provider::openai::classify::{classify, is_daily_quota, limit, reckoned};
use crate::provider::openai::envelope::Envelope;
use crate::provider::openai::receive::{ANSWER_CAP, End, Reply};
use crate::provider::openai::responses::{self, Stage};
use crate::provider::openai::words::{EXCERPT, MESSAGE, Words};
use crate::provider::openai::{answer, json, transport, wait};

const NO_REASON: &str = "the server gives no reason";

/// Reads a response. `now` helps where the server gives a date to wait for and none of its own.
pub(super) fn read(reply: Reply, request: &Request, words: &Words, now: Timestamp) -> Result<Answer, Fault> {
    let Reply {
        url,
        status,
        headers,
        body,
        end,
    } = reply;
    let reading = Reading {
        words,
        status,
        headers: &headers,
        now,
    };
    match status {
        200..300 => reading.success(body, end, request),
        300..400 => Err(reading.finish(transport::redirect(&url, text_of(&headers, &LOCATION)), None)),
        _ => Err(reading.failure(body)),
    }
}

/// Reads what the Responses API answers: an answer, or the name of one that is being made.
pub(super) fn progress(
    reply: Reply,
    request: &Request,
    words: &Words,
    now: Timestamp,
) -> Result<Begun, Fault> {
    if !(200..300).contains(&reply.status) {
        return read(reply, request, words, now).map(|answer| Begun::Answered(answer.into()));
    }
    let reading = Reading {
        words,
        status: reply.status,
        headers: &reply.headers,
        now,
    };
    let bad = |what: String| reading.fault(FaultKind::BadResponse, what);
    let response = reading.json(reply.body, reply.end)?;
    let excerpt = reading.excerpt(&response.to_string());
    match responses::stage(response) {
        // A server may send anything back, the key too.
        Stage::Going(id) if words.name(&id) == id => Ok(Begun::Job(id)),
        Stage::Ended(json) => reading
            .answer(json, request)
            .map(|answer| Begun::Answered(answer.into())),
        Stage::GivenUp(how) => Err(bad(format!("the response {how} at the server"))),
        Stage::Going(_) | Stage::Unknown => Err(bad(format!("the answer is no response: {excerpt}"))),
    }
}

/// What was read where a response was asked for by its id.
pub(super) enum Looked {
    Answered(Box<Answer>),
    /// It is being made.
    Going,
    /// It has ended without an answer.
    Ended(Fault),
    /// The server says that it has no such response.
    Denied(Fault),
    /// What came says nothing of it.
    Nothing(Fault),
}

/// Reads what the Responses API says of the response `job`. Only what is certain ends it: proxies
/// have pages of their own, and what is given up too early is paid again.
pub(super) fn looked(reply: Reply, job: &str, request: &Request, words: &Words, now: Timestamp) -> Looked {
    if !(200..300).contains(&reply.status) {
        return unlooked(reply, request, words, now);
    }
    let reading = Reading {
        words,
        status: reply.status,
        headers: &reply.headers,
        now,
    };
    let response = match reading.json(reply.body, reply.end) {
        Ok(response) => response,
        Err(fault) => return Looked::Nothing(fault),
    };
    let bad = |what: &str| reading.fault(FaultKind::BadResponse, what.to_owned());
    let excerpt = reading.excerpt(&response.to_string());
    let (same, ended) = (response["id"] == job, responses::has_ended(&response));
    match responses::stage(response) {
        _ if !same => Looked::Nothing(bad(&format!(
            "the answer is not the response asked for: {excerpt}"
        ))),
        Stage::Going(_) => Looked::Going,
        Stage::Ended(json) => match reading.answer(json, request) {
            Ok(answer) => Looked::Answered(answer.into()),
            Err(fault) => Looked::Ended(fault),
        },
        Stage::GivenUp(how) => Looked::Ended(bad(&format!("the response {how} at the server"))),
        Stage::Unknown => {
            let fault = bad(&format!("the answer is no response: {excerpt}"));
            if ended {
                Looked::Ended(fault)
            } else {
                Looked::Nothing(fault)
            }
        }
    }
}

/// The same of what is no success.
fn unlooked(reply: Reply, request: &Request, words: &Words, now: Timestamp) -> Looked {
    let about_it = matches!(reply.status, 400 | 404 | 410);
    let told = about_it
        && reply.end == End::Whole
        && json::parse(reply.body.clone()).is_ok_and(|json| Envelope::of_failure(&json).is_some());
    let fault = match read(reply, request, words, now) {
        Ok(answer) => return Looked::Answered(answer.into()),
        Err(fault) => fault,
    };
    match fault.kind {
        // Some refuse a key with a 400.
        FaultKind::Authentication | FaultKind::Permission | FaultKind::NoCredit => Looked::Nothing(fault),
        _ if told => Looked::Denied(fault),
        _ if about_it => Looked::Nothing(Fault {
            kind: FaultKind::BadResponse,
            scope: Scope::Attempt,
            ..fault
        }),
        _ => Looked::Nothing(fault),
    }
}

/// What every fault of one response needs.
struct Reading<'a> {
    words: &'a Words,
    status: u16,
    headers: &'a HeaderMap,
    now: Timestamp,
}

impl Reading<'_> {
    /// A 2xx: an answer, if it is whole, JSON, without an error in it, and ended.
    fn success(&self, body: Vec<u8>, end: End, request: &Request) -> Result<Answer, Fault> {
        self.ended(end)?;
        let id = self.words.request_id(self.headers);
        if let Some(answer) = answer::usual(&body, request, id.as_deref(), self.words) {
            return Ok(answer);
        }
        let json = self.json(body, End::Whole)?;
        self.answer(json, request)
    }

    /// The JSON of a body, if it is whole.
    fn json(&self, body: Vec<u8>, end: End) -> Result<Value, Fault> {
        self.ended(end)?;
        json::parse(body)
            .map_err(|(body, error)| self.fault(FaultKind::BadResponse, self.no_json(&body, &error)))
    }

    fn ended(&self, end: End) -> Result<(), Fault> {
        match end {
            End::Whole => Ok(()),
            End::TooLarge => Err(self.fault(FaultKind::ResponseTooLarge, too_large())),
            End::Broke(what) => Err(self.fault(FaultKind::Connection, what)),
            End::TimedOut(what) => Err(self.fault(FaultKind::Timeout, what)),
        }
    }

    /// The answer in the JSON of a Chat Completion.
    fn answer(&self, mut json: Value, request: &Request) -> Result<Answer, Fault> {
        let id = self.words.request_id(self.headers);
        if let Some(error) = error_within(&json) {
            return Err(self.told(&error));
        }
        answer::take(&mut json, request, id, self.words)
            .map_err(|(kind, what)| self.fault(kind, format!("{what}: {}", self.excerpt(&json.to_string()))))
    }

    /// A 4xx or 5xx. What arrived of its body explains it; a body that broke off does not make
    /// it another fault.
    fn failure(&self, body: Vec<u8>) -> Fault {
        match json::parse(body) {
            Ok(json) => match Envelope::of_failure(&json) {
                Some(error) => self.told(&error),
                None => self.untold(json.to_string().as_bytes()),
            },
            Err((body, _)) => self.untold(&body),
        }
    }

    /// The fault of an error that the server explains.
    fn told(&self, error: &Envelope) -> Fault {
        let (kind, scope) = classify(self.status, Some(error));
        let texts = std::iter::once(&error.message).chain(&error.names);
        let mut shown = texts
            .map(|text| self.words.line(text, MESSAGE))
            .filter(|text| !text.is_empty());
        let mut message = shown.next().unwrap_or_else(|| NO_REASON.to_owned());
        // What is only a hint can be left out: it must be told apart from what is asked for.
        if let Some(param) = error
            .param
            .as_deref()
            .filter(|param| param.contains("prompt_cache"))
            && !message.contains(param)
        {
            message = format!("{message} (`{}`)", self.words.name(param));
        }
        self.finish(
            Fault {
                scope,
                ..Fault::new(kind, message)
            },
            Some(error),
        )
    }

    /// The fault of a status alone, with what there is in place of an explanation: the title of
    /// a proxy's page, the beginning of a text.
    fn untold(&self, body: &[u8]) -> Fault {
        let (kind, scope) = classify(self.status, None);
        let text = String::from_utf8_lossy(head(body));
        let excerpt = self.excerpt(visible(&text));
        let message = if self.encoding().is_some() || excerpt.is_empty() {
            NO_REASON.to_owned()
        } else {
            format!(
                "{NO_REASON} that can be read ({}): {excerpt}",
                self.content_type()
            )
        };
        self.finish(
            Fault {
                scope,
                ..Fault::new(kind, message)
            },
            None,
        )
    }

    fn fault(&self, kind: FaultKind, message: String) -> Fault {
        self.finish(Fault::new(kind, message), None)
    }

    /// Adds what the headers say, and makes every text fit to be shown.
    fn finish(&self, fault: Fault, error: Option<&Envelope>) -> Fault {
        let request_id = self.words.request_id(self.headers);
        let limit = match fault.kind {
            FaultKind::RateLimited => error.and_then(limit),
            _ => None,
        };
        self.words.fault(Fault {
            scope: self.overridden(fault.scope),
            http_status: Some(self.status),
            retry_after: self.hint(error),
            limit,
            reckoned: match limit {
                Some(Counted::Tokens) => error.and_then(reckoned),
                _ => None,
            },
            request_id: request_id.or_else(|| error?.request_id.clone()),
            ..fault
        })
    }

    fn hint(&self, error: Option<&Envelope>) -> Option<Duration> {
        match error {
            Some(error) if is_daily_quota(error) => Some(wait::until_midnight_in_california(self.now)),
            _ => wait::hint(self.headers, error, self.now),
        }
    }

    /// `x-should-retry` (OpenAI, Anthropic) knows better whether this call can succeed; that
    /// every call would fail it does not undo.
    fn overridden(&self, scope: Scope) -> Scope {
        match (
            scope,
            text_of(self.headers, &HeaderName::from_static("x-should-retry")),
        ) {
            (Scope::Node, Some("true")) => Scope::Attempt,
            (Scope::Attempt, Some("false")) => Scope::Node,
            _ => scope,
        }
    }

    /// Why a 2xx is no JSON.
    fn no_json(&self, body: &[u8], error: &serde_json::Error) -> String {
        if body.trim_ascii().is_empty() {
            return "the answer is empty".to_owned();
        }
        if let Some(encoding) = self.encoding() {
            return format!("the answer is compressed (`{encoding}`), which was not asked for");
        }
        let Ok(text) = std::str::from_utf8(body) else {
            return format!(
                "the answer is not UTF-8: {}",
                self.excerpt(&String::from_utf8_lossy(head(body)))
            );
        };
        let looks_like_json = text
            .trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n'])
            .starts_with(['{', '[']);
        if looks_like_json && error.is_eof() {
            return format!(
                "the answer breaks off in the middle of its JSON: {}",
                self.excerpt(text)
            );
        }
        if looks_like_json {
            return format!("the answer is not valid JSON ({error}): {}", self.excerpt(text));
        }
        format!(
            "the answer is not JSON ({}): {}",
            self.content_type(),
            self.excerpt(visible(text))
        )
    }

    fn excerpt(&self, text: &str) -> String {
        self.words.line(text, EXCERPT)
    }

    fn content_type(&self) -> String {
        match text_of(self.headers, &CONTENT_TYPE).and_then(|kind| kind.split(';').next()) {
            Some(kind) if !kind.trim().is_empty() => format!("content type `{}`", self.words.name(kind)),
            _ => "no content type".to_owned(),
        }
    }

    fn encoding(&self) -> Option<String> {
        let encoding = text_of(self.headers, &CONTENT_ENCODING)?;
        (!encoding.eq_ignore_ascii_case("identity")).then(|| self.words.name(encoding))
    }
}

fn too_large() -> String {
    format!(
        "the answer is larger than {} MB and was not read",
        ANSWER_CAP >> 20
    )
}

fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// An error in the body of a 2xx: beside the choices, or in the first of them (OpenRouter).
pub(super) fn error_within(json: &Value) -> Option<Envelope> {
    Envelope::of_success(json).or_else(|| Envelope::of_success(json.get("choices")?.get(0)?))
}

/// The beginning of a body, enough for an excerpt after everything invisible is gone.
fn head(body: &[u8]) -> &[u8] {
    &body[..body.len().min(64 * 1024)]
}

/// The title of an HTML page; any other text as it is.
fn visible(text: &str) -> &str {
    // ASCII only, so that places in the one are places in the other.
    let lower = text.to_ascii_lowercase();
    let title = lower
        .find("<title>")
        .map(|start| start + "<title>".len())
        .and_then(|start| {
            let end = start + lower[start..].find("</title>")?;
            Some(&text[start..end]).filter(|title| !title.trim().is_empty())
        });
    title.unwrap_or(text)
}
