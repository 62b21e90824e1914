//! `septet show`: what was sent for a node, what came back, and every attempt; of a persona, the
//! table of its nodes. What is shown is what was paid for, whether or not it is still asked for.

mod json;
mod text;

use std::path::Path;
use std::process::ExitCode;

use crate::call::{Key, Money, Rejection, Request};
use crate::cli::args::Show;
use crate::cli::cache::out::Out;
use crate::cli::failure::{CliError, Complaint};
use crate::cli::plan::found;
use crate::cli::print::errln;
use crate::cli::project::{Loaded, about_prompt};
use crate::cli::{cache, target};
use crate::hours::timestamp;
use crate::names::{Instance, PersonaId};
use crate::plan::{Found, Planner, Reason};
use crate::printable::one_line;
use crate::run::{IN_FLIGHT, Lost, Past, with_causes};
use crate::store::{Entry, LocalStore, Looked, Record, Sent, Store, StoreError};
use crate::tariff::PriceAt;

/// Shows a persona or a node.
pub fn show(directory: Option<&Path>, args: &Show) -> Result<ExitCode, CliError> {
    let project = Loaded::open(directory)?;
    let target = target::read(&project, &args.target)?;
    let store = cache::open_to_read(&project.root)?;
    let nodes = all(&project, &store, &target.persona);
    store.close();
    let nodes = nodes?;
    let mut out = Out::new();
    let transcript = project.config.transcript(&target.persona);
    match (target.node, args.json) {
        (Some(node), true) => out.object(&json::node(&nodes[node]))?,
        (None, true) => {
            for node in &nodes {
                out.object(&json::node(node))?;
            }
            out.object(&json::persona(&target.persona, &transcript))?;
        }
        (Some(node), false) => out.line(&one(&nodes[node], args)?)?,
        (None, false) if args.answer || args.prompt => {
            return Err(Complaint::new("which node?")
                .hint(format!("write `{}/NODE`", target.persona))
                .into());
        }
        (None, false) if args.rejected => {
            let bad = |attempt: &Attempt| matches!(attempt.end, End::Rejected(..));
            let nodes = nodes.iter().filter(|node| node.attempts.iter().any(bad));
            let told: Vec<String> = nodes.map(|node| text::node(node, true)).collect();
            match told.is_empty() {
                true => errln!("{} has no rejected answers", one_line(target.persona.as_str())),
                false => out.line(&told.join("\n\n"))?,
            }
        }
        (None, false) => {
            let is_there = project.root.join(&transcript).is_file();
            out.line(&text::persona(&target.persona, &transcript, is_there, &nodes))?;
        }
    }
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn one(node: &Shown, args: &Show) -> Result<String, CliError> {
    let missing = |what: &str| Complaint::new(format!("{} has no {what}", node.instance));
    if args.answer {
        let record = node.record.as_ref();
        let record =
            record.ok_or_else(|| missing("answer").hint("`septet show` without `--answer` says why"))?;
        return Ok(text::plain(&record.answer.text));
    }
    if args.prompt {
        return match &node.request {
            Some(Ok(request)) => Ok(text::plain(&text::messages(request))),
            Some(Err(lost)) => Err(Complaint::new(format!("the prompt is lost: {lost}")).into()),
            None => Err(missing("prompt").hint("its needs have to be called first").into()),
        };
    }
    Ok(text::node(node, args.rejected))
}

/// All there is to show of one node.
struct Shown {
    instance: Instance,
    state: State,
    /// What was sent, or would be; `None` where that is not known before a need is called.
    request: Option<Result<Request, Lost>>,
    /// The answer, if there is a good one.
    record: Option<Record>,
    /// All calls that were made for it, oldest first.
    attempts: Vec<Attempt>,
    /// Which of the prices that its model has today the answer was paid at.
    rate: Option<PriceAt>,
}

/// How what is shown stands to the request of today.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is the same.
    UpToDate,
    /// Another request was sent last, and is shown.
    Earlier,
    /// What was sent last is shown; the present request is not known before its needs are called.
    Unknown,
    /// The present one has an answer that is not served: asked for again, or beyond the limit.
    NotServed,
    /// The present one was sent, and has no good answer.
    NoAnswer,
    /// Nothing was ever sent.
    NeverCalled,
}

struct Attempt {
    sent: Sent,
    end: End,
}

enum End {
    Answered(Box<Record>),
    Rejected(Box<Record>, Rejection),
    Faulted {
        kind: Option<&'static str>,
        message: String,
        may_be_billed: bool,
    },
    /// Nothing more is known: its answer was removed, say.
    Unknown,
}

impl Shown {
    /// The tokens and the cost of all bad answers; `None`: there are none. The cost is `None` where that
    /// of one is not known.
    fn paid_for_nothing(&self) -> Option<(u64, Option<Money>)> {
        let bad = self.attempts.iter().filter_map(|attempt| match &attempt.end {
            End::Rejected(record, _) => Some(record),
            _ => None,
        });
        bad.map(|record| {
            (
                record.answer.usage.input + record.answer.usage.output,
                record.cost,
            )
        })
        .reduce(|(tokens, cost), (more, dearer)| {
            (
                tokens + more,
                cost.zip(dearer).map(|(cost, dearer)| cost + dearer),
            )
        })
    }
}

/// What of the present is known of a node.
#[derive(Default)]
struct Now {
    request: Option<Request>,
    hit: Option<Record>,
}

fn all(project: &Loaded, store: &LocalStore, persona: &PersonaId) -> Result<Vec<Shown>, CliError> {
    let now = present(project, store, persona)?;
    let mut past = Past::new(store);
    let nodes = project.graph.ids().iter().zip(now);
    nodes
        .map(|(node, now)| {
            let instance = Instance::new(persona.clone(), node.clone());
            let mut shown = shown(store, &mut past, instance, now).map_err(|error| stopped(&error))?;
            shown.rate = rate(project, &shown);
            Ok(shown)
        })
        .collect()
}

/// The price at which an answer was paid, where that depends on the time and is still the one of
/// today: what was written down is the sum.
fn rate(project: &Loaded, shown: &Shown) -> Option<PriceAt> {
    let (record, request) = (shown.record.as_ref()?, shown.request.as_ref()?.as_ref().ok()?);
    let tariff = project.config.prices.get(&*request.model)?;
    let rate = tariff.at(timestamp(record.at_ms));
    let paid = record.cost == Some(rate.price.cost(&record.answer.usage));
    (tariff.changes() && paid).then_some(rate)
}

/// The present request of each node and its answer, as far as they are known without a call. A
/// persona or a prompt that is broken today has none.
fn present(project: &Loaded, store: &LocalStore, persona: &PersonaId) -> Result<Vec<Now>, CliError> {
    let graph = &project.graph;
    let mut requests: Vec<Option<Request>> = vec![None; graph.len()];
    let mut now: Vec<Now> = std::iter::repeat_with(Now::default).take(graph.len()).collect();
    let Ok((built, _)) = project.files.persona(&project.config, persona) else {
        return Ok(now);
    };
    let mut looked_up = vec![false; graph.len()];
    let mut broken = None;
    let planned = Planner::new(graph).persona(
        |node, needs| {
            let request = project.prompts.request(node, &built, needs);
            requests[node] = request.as_ref().ok().cloned();
            request.map_err(|error| about_prompt(&error))
        },
        |node, key, bounds| {
            let instance = Instance::new(persona.clone(), graph.id(node).clone());
            looked_up[node] = true;
            Ok(match store.look(&instance, key, bounds) {
                Ok(looked) => {
                    if let Looked::Hit(record) | Looked::Readmitted(record) = &looked {
                        now[node].hit = Some(Record::clone(record));
                    }
                    found(looked, bounds)
                }
                Err(error) => {
                    broken = Some(error);
                    Found::Missing(Reason::New)
                }
            })
        },
    );
    // A prompt that cannot be rendered today hides nothing of what was sent.
    drop(planned);
    // Only of what is looked up is the request the one that would be sent.
    let known = requests
        .into_iter()
        .zip(looked_up)
        .map(|(request, known)| request.filter(|_| known));
    now.iter_mut()
        .zip(known)
        .for_each(|(now, request)| now.request = request);
    match broken {
        Some(error) => Err(stopped(&error)),
        None => Ok(now),
    }
}

fn shown(store: &LocalStore, past: &mut Past<'_>, instance: Instance, now: Now) -> Result<Shown, StoreError> {
    let attempts = attempts(store, &instance)?;
    if now.hit.is_some() {
        return Ok(Shown {
            instance,
            state: State::UpToDate,
            request: now.request.map(Ok),
            record: now.hit,
            attempts,
            rate: None,
        });
    }
    let Some(newest) = past.newest(&instance)? else {
        return Ok(Shown {
            instance,
            state: State::NeverCalled,
            request: now.request.map(Ok),
            record: None,
            attempts,
            rate: None,
        });
    };
    let present = now.request.as_ref().map(Key::of);
    let record = store.answers(&newest.sent.key)?.pop().map(|answer| answer.what);
    let state = match (present, &record) {
        (None, _) => State::Unknown,
        (Some(present), _) if present != newest.sent.key => State::Earlier,
        (Some(_), None) => State::NoAnswer,
        (Some(_), Some(_)) => State::NotServed,
    };
    Ok(Shown {
        instance,
        state,
        request: Some(newest.request),
        record,
        attempts,
        rate: None,
    })
}

/// All calls that were made for an instance, with their ends.
fn attempts(store: &LocalStore, instance: &Instance) -> Result<Vec<Attempt>, StoreError> {
    let (mut attempts, mut faults) = (Vec::new(), Vec::new());
    for call in store.calls(instance)? {
        match call.what {
            Entry::Attempt(sent) => {
                // Noted again with the name of its job.
                attempts.retain(|other: &Attempt| {
                    (&other.sent.run, other.sent.attempt) != (&sent.run, sent.attempt)
                });
                attempts.push(Attempt {
                    sent,
                    end: End::Unknown,
                });
            }
            Entry::Fault {
                run,
                attempt,
                kind,
                message,
                may_be_billed,
                ..
            } => {
                let kind = kind.map(crate::call::FaultKind::as_str);
                let end = End::Faulted {
                    kind,
                    message,
                    may_be_billed: may_be_billed || kind.is_none(),
                };
                faults.push((run, attempt, end));
            }
            _ => {}
        }
    }
    for Attempt { sent, end } in &mut attempts {
        let is_its = |record: &Record| {
            (&record.run, &record.instance, record.attempt) == (&sent.run, &sent.instance, sent.attempt)
        };
        let fault = faults
            .iter()
            .position(|(run, attempt, _)| (run, *attempt) == (&sent.run, sent.attempt));
        if let Some(at) = fault {
            *end = faults.swap_remove(at).2;
            continue;
        }
        let answers = store.answers(&sent.key)?.into_iter().map(|answer| answer.what);
        if let Some(record) = answers.into_iter().find(is_its) {
            *end = End::Answered(Box::new(record));
            continue;
        }
        let rejected = store.rejected(&sent.key)?;
        if let Some((record, rejection)) = rejected.into_iter().find(|(record, _)| is_its(record)) {
            *end = End::Rejected(Box::new(record), rejection);
            continue;
        }
        if store.is_unfinished(sent) {
            *end = End::Faulted {
                kind: None,
                message: IN_FLIGHT.to_owned(),
                may_be_billed: true,
            };
        }
    }
    Ok(attempts)
}

fn stopped(error: &StoreError) -> CliError {
    CliError::stopped(Complaint::new(with_causes(error)))
}
