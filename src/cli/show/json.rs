//! A node for programs: see `docs/json.md`.

use serde_json::{Value, json};

use super::{Attempt, End, Shown, State};
use crate::call::{Key, Money};
use crate::cli::clock;
use crate::events::TokenCounts;
use crate::names::PersonaId;
use crate::store::Record;

/// One node in full.
pub fn node(shown: &Shown) -> Value {
    let request = shown.request.as_ref();
    let (request, lost) = match request {
        Some(Ok(request)) => (Some(request), None),
        Some(Err(lost)) => (None, Some(lost.to_string())),
        None => (None, None),
    };
    let messages = request.map(|request| {
        let message = |m: &crate::call::Message| json!({ "role": m.role.as_str(), "content": m.content });
        request.messages.iter().map(message).collect::<Vec<_>>()
    });
    let key = shown.record.as_ref().map(|record| record.key);
    json!({
        "event": "node_shown",
        "persona": shown.instance.persona,
        "node": shown.instance.node,
        "status": status(shown.state),
        "key": key.or_else(|| request.map(Key::of)),
        "model": request.map(|request| &*request.model),
        "messages": messages,
        "lost": lost,
        "answer": shown.record.as_ref().map(answer),
        "price_hours": shown.rate.as_ref().and_then(|rate| rate.hours.as_deref()),
        "attempts": shown.attempts.iter().map(attempt).collect::<Vec<_>>(),
    })
}

/// Where the transcript of a persona is.
pub fn persona(persona: &PersonaId, transcript: &str) -> Value {
    json!({ "event": "persona_shown", "persona": persona, "transcript": transcript })
}

fn status(state: State) -> &'static str {
    match state {
        State::UpToDate => "up_to_date",
        State::Earlier => "earlier",
        State::Unknown => "unknown",
        State::NotServed => "not_served",
        State::NoAnswer => "no_answer",
        State::NeverCalled => "never_called",
    }
}

fn answer(record: &Record) -> Value {
    let answer = &record.answer;
    json!({
        "text": answer.text,
        "finish": answer.finish,
        "refusal": answer.refusal,
        "model": answer.model,
        "id": answer.id,
        "usage": answer.raw_usage,
        "tokens": TokenCounts::from(&answer.usage),
        "cost_usd": record.cost.map(Money::usd),
        "latency_s": record.latency_ms as f64 / 1000.0,
        "run": record.run,
        "attempt": record.attempt,
        "paid_for": record.instance.to_string(),
        "at": clock::iso(record.at_ms),
    })
}

fn attempt(attempt: &Attempt) -> Value {
    let Attempt { sent, end } = attempt;
    let mut object = json!({
        "run": sent.run,
        "attempt": sent.attempt,
        "key": sent.key,
        "at": clock::iso(sent.at_ms),
        "most_usd": sent.most_cost.map(Money::usd),
        "outcome": "unknown",
    });
    match end {
        End::Answered(record) => {
            object["outcome"] = "ok".into();
            object["answer"] = answer(record);
        }
        End::Rejected(record, rejection) => {
            object["outcome"] = "rejected".into();
            object["error"] = json!({ "kind": rejection.as_str(), "message": rejection.to_string() });
            object["answer"] = answer(record);
        }
        End::Faulted {
            kind,
            message,
            may_be_billed,
        } => {
            let abandoned = matches!(kind, None | Some("timeout"));
            object["outcome"] = if abandoned { "abandoned" } else { "faulted" }.into();
            object["error"] = json!({ "kind": kind, "message": message });
            object["possibly_billed"] = (*may_be_billed).into();
        }
        End::Unknown => {}
    }
    object
}
