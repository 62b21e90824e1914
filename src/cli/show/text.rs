//! A persona or a node for people, and parts of it for pipes.

use std::io::IsTerminal;
use std::time::Duration;

use super::{Attempt, End, Shown, State};
use crate::call::{Key, Request};
use crate::cli::clock;
use crate::cli::runs::table;
use crate::events::TokenCounts;
use crate::names::PersonaId;
use crate::printable::{lines, one_line};
use crate::report::figures::{dollars, duration, number, tokens};
use crate::report::style::cut;
use crate::store::Record;
use crate::tariff::PriceAt;

/// How much of a rejected answer is shown where it is not asked for.
const BEGINNING: usize = 60;

/// Text for a pipe as it is, for a terminal made harmless.
pub fn plain(text: &str) -> String {
    match std::io::stdout().is_terminal() {
        true => lines(text),
        false => text.to_owned(),
    }
}

/// The messages as they are sent, one after the other.
pub fn messages(request: &Request) -> String {
    let contents: Vec<&str> = request.messages.iter().map(|m| m.content.as_str()).collect();
    contents.join("\n\n")
}

/// The nodes of a persona.
pub fn persona(persona: &PersonaId, transcript: &str, is_there: bool, nodes: &[Shown]) -> String {
    let head = ["node", "status", "attempts", "tokens", "cost", "latency", "run"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for shown in nodes {
        let none = || "–".to_owned();
        let record = shown.record.as_ref();
        let cell = |text: &dyn Fn(&Record) -> String| record.map_or_else(none, text);
        let bad = shown.paid_for_nothing();
        let (status, bad) = match (shown.state, bad) {
            (State::NoAnswer, Some(bad)) => ("no good answer", Some(bad)),
            (state, _) => (word(state), None),
        };
        let paid = |record: &Record| {
            (
                record.answer.usage.input + record.answer.usage.output,
                record.cost,
            )
        };
        let paid = record.map(paid).or(bad);
        rows.push(vec![
            one_line(shown.instance.node.as_str()),
            status.to_owned(),
            number(shown.attempts.len() as u64),
            paid.map_or_else(none, |(tokens, _)| number(tokens)),
            paid.map_or_else(none, |(_, cost)| dollars(cost)),
            cell(&|record| duration(Duration::from_millis(record.latency_ms))),
            cell(&|record| one_line(record.run.as_str())),
        ]);
    }
    let name = one_line(persona.as_str());
    format!(
        "persona     {name}\ntranscript  {}{}\n\n{}\n\n`septet show {name}/NODE` shows a node in full",
        one_line(transcript),
        if is_there { "" } else { " (not there)" },
        table(&rows, &[2, 3, 4, 5])
    )
}

/// One node in full.
pub fn node(shown: &Shown, rejected: bool) -> String {
    let name = one_line(&shown.instance.to_string());
    let mut head = vec![("node", name.clone()), ("status", state(shown.state, &name))];
    let request = shown.request.as_ref().and_then(|request| request.as_ref().ok());
    let key = shown
        .record
        .as_ref()
        .map(|record| record.key)
        .or_else(|| request.map(Key::of));
    head.extend(key.map(|key| ("key", key.to_string())));
    head.extend(request.map(|request| ("asked", one_line(&request.model))));
    if let Some(record) = &shown.record {
        head.extend(about(record, shown));
    }
    let head: Vec<String> = head
        .iter()
        .map(|(name, text)| format!("{name:<9} {text}"))
        .collect();
    let mut parts = vec![head.join("\n")];
    if !shown.attempts.is_empty() {
        let attempts = shown.attempts.iter().map(|attempt| line(attempt, rejected));
        parts.push(format!("attempts\n{}", attempts.collect::<Vec<_>>().join("\n")));
    }
    match &shown.request {
        Some(Ok(request)) => {
            for message in &request.messages {
                parts.push(format!(
                    "--- {}\n{}",
                    message.role.as_str(),
                    lines(&message.content)
                ));
            }
        }
        Some(Err(lost)) => parts.push(format!("--- the prompt is lost: {}", one_line(&lost.to_string()))),
        None => {
            parts.push("--- the prompt is known once the nodes that it needs have been called".to_owned())
        }
    }
    if let Some(record) = &shown.record {
        parts.push(format!("--- answer\n{}", lines(&record.answer.text)));
    }
    parts.join("\n\n")
}

fn about(record: &Record, shown: &Shown) -> Vec<(&'static str, String)> {
    let mut paid = format!(
        "{} in run {}, attempt {}",
        clock::local(record.at_ms),
        one_line(record.run.as_str()),
        record.attempt
    );
    if record.instance != shown.instance {
        paid.push_str(&format!(
            ", for {} which asks the same",
            one_line(&record.instance.to_string())
        ));
    }
    let price = match &shown.rate {
        Some(PriceAt {
            hours: Some(hours), ..
        }) => format!(", at the price of {}", one_line(hours)),
        Some(PriceAt { hours: None, .. }) => ", at the usual price".to_owned(),
        None => String::new(),
    };
    let estimated = if record.answer.usage.estimated {
        ", estimated"
    } else {
        ""
    };
    vec![
        (
            "answered",
            format!("{} by {}", paid, one_line(&record.answer.model)),
        ),
        (
            "tokens",
            tokens(&TokenCounts::from(&record.answer.usage)) + estimated,
        ),
        ("cost", dollars(record.cost) + &price),
        ("latency", duration(Duration::from_millis(record.latency_ms))),
        ("usage", one_line(&record.answer.raw_usage.to_string())),
    ]
}

fn word(state: State) -> &'static str {
    match state {
        State::UpToDate => "up to date",
        State::Earlier => "earlier request",
        State::Unknown => "sent last",
        State::NotServed => "not served",
        State::NoAnswer => "no answer",
        State::NeverCalled => "never called",
    }
}

fn state(state: State, name: &str) -> String {
    match state {
        State::UpToDate => "up to date".to_owned(),
        State::Earlier => {
            format!("of an earlier request, not of the present one: `septet why {name}` says what differs")
        }
        State::Unknown => {
            "what was sent last; the present request is known once its needs have been called".to_owned()
        }
        State::NotServed => {
            format!(
                "an answer that is not served now (asked for again, or over the limit): see `septet why {name}`"
            )
        }
        State::NoAnswer => "no good answer to the present request so far".to_owned(),
        State::NeverCalled => "never called".to_owned(),
    }
}

fn line(attempt: &Attempt, whole: bool) -> String {
    let Attempt { sent, end } = attempt;
    let when = format!(
        "  {}  run {}, attempt {}",
        clock::local(sent.at_ms),
        one_line(sent.run.as_str()),
        sent.attempt
    );
    let billed = |may: bool| match (may, sent.most_cost) {
        (false, _) => String::new(),
        (true, Some(most)) => format!(" (possibly billed, at most about {})", dollars(Some(most))),
        (true, None) => " (possibly billed)".to_owned(),
    };
    match end {
        End::Answered(record) => format!("{when}: answered, {}", dollars(record.cost)),
        End::Rejected(record, rejection) => {
            let said = match (whole, record.answer.text.is_empty()) {
                (_, true) => String::new(),
                (true, false) => format!("\n{}", indented(&record.answer.text)),
                (false, false) => format!("\n    {}", cut(&one_line(&record.answer.text), BEGINNING)),
            };
            format!("{when}: rejected, {}: {rejection}{said}", dollars(record.cost))
        }
        End::Faulted {
            message,
            may_be_billed,
            ..
        } => format!("{when}: {}{}", one_line(message), billed(*may_be_billed)),
        End::Unknown => format!("{when}: its answer is not in the store any more"),
    }
}

fn indented(text: &str) -> String {
    let text = lines(text);
    let indented: Vec<String> = text
        .lines()
        .map(|line| format!("    {line}").trim_end().to_owned())
        .collect();
    indented.join("\n")
}
