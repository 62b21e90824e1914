//! `--json`: one object a line. The names and fields are a contract with other programs, described
//! in `docs/json.md`; readers ignore what they do not know, so fields may be added, never changed.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::budget::Used;
use crate::call::{Counted, Money, Usage};
use crate::events::{
    CallOutcome, Event, Failure, ModelAccount, NodeFinished, NodeStatus, PersonaStatus, RunStarted,
    RunSummary, Stamped, Tally, TokenCounts,
};
use crate::names::{Instance, NodeId, PersonaId, Stop};
use crate::report::Sink;

/// Writes events as JSON lines.
pub struct Json {
    out: BufWriter<Box<dyn Write + Send>>,
}

impl Json {
    /// Writes to `out`, where nothing else may be written.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self {
            out: BufWriter::new(out),
        }
    }
}

impl Sink for Json {
    fn name(&self) -> &'static str {
        "standard output"
    }

    fn event(&mut self, stamped: &Stamped, tally: &Tally) -> io::Result<()> {
        if let Event::UpToDate { persona, .. } = &stamped.event {
            return self.up_to_date(persona, tally);
        }
        if let Some(object) = object(stamped) {
            self.line(&object)?;
        }
        if let Event::RunFinished { .. } = stamped.event
            && let Some(summary) = tally.summary()
        {
            self.line(&Finished {
                summary,
                cost_by_hours: by_hours(tally),
            })?;
        }
        Ok(())
    }

    fn draw(&mut self, _now: Duration, _tally: &Tally) -> io::Result<()> {
        self.out.flush()
    }
}

impl Json {
    /// The ends of the nodes and of the persona, as where each was looked at.
    fn up_to_date(&mut self, persona: &PersonaId, tally: &Tally) -> io::Result<()> {
        let started = tally.started.as_ref();
        for node in started.iter().flat_map(|started| &started.nodes) {
            let instance = Instance {
                persona: persona.clone(),
                node: node.clone(),
            };
            self.line(&node_finished(&NodeFinished::cached(instance)))?;
        }
        self.line(&Object::PersonaFinished {
            persona: persona.as_str(),
            status: PersonaStatus::Unchanged,
            error: None,
        })
    }
}

/// The last line, with what only some runs have.
#[derive(Serialize)]
struct Finished {
    #[serde(flatten)]
    summary: RunSummary,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cost_by_hours: Vec<CostAtHours>,
}

/// The part of the cost that was paid to a model at hours with a price of their own.
#[derive(Serialize)]
struct CostAtHours {
    model: String,
    hours: String,
    answers: u64,
    cost_usd: f64,
}

fn by_hours(tally: &Tally) -> Vec<CostAtHours> {
    let of = |model: &ModelAccount| {
        let name = model.model.clone();
        let hours = model.hours.clone().into_iter();
        hours.map(move |at| CostAtHours {
            model: name.clone(),
            hours: at.hours,
            answers: at.answers,
            cost_usd: at.cost.usd(),
        })
    };
    tally.account.models.iter().flat_map(of).collect()
}

impl Json {
    fn line(&mut self, object: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(object)?;
        self.out.write_all(escape(&text).as_bytes())?;
        self.out.write_all(b"\n")
    }
}

/// JSON lets one-byte escape sequences (C1) and DEL through as they are; a terminal would obey
/// them. Outside of strings JSON has only ASCII, so that escaping them changes no value.
pub fn escape(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' => text.push_str(&format!("\\u{:04x}", c as u32)),
            c => text.push(c),
        }
    }
    text
}

/// Everything but `run_finished`, which is [`crate::events::RunSummary`].
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Object<'a> {
    RunStarted {
        run: &'a str,
        personas: usize,
        nodes: &'a [NodeId],
        models: &'a [Arc<str>],
        concurrency: Option<usize>,
        requests_per_minute: Option<u32>,
        tokens_per_minute: Option<u32>,
        budget_usd: Option<f64>,
        until: Option<&'a str>,
        provider: &'a str,
        simulated: bool,
    },
    CallStarted {
        persona: &'a str,
        node: &'a str,
        attempt: u32,
        at_s: f64,
    },
    CallQueued {
        persona: &'a str,
        node: &'a str,
        attempt: u32,
        response: &'a str,
        at_s: f64,
    },
    CallEnded {
        persona: &'a str,
        node: &'a str,
        attempt: u32,
        outcome: &'static str,
        latency_s: f64,
        tokens: TokenCounts,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        estimated: bool,
        cost_usd: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        hours: Option<&'a str>,
        error: Option<Failure>,
        at_s: f64,
    },
    Retrying {
        persona: &'a str,
        node: &'a str,
        cause: &'a str,
        pause_s: f64,
        at_s: f64,
    },
    Paused {
        cause: &'a str,
        until: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        model: Option<&'a str>,
        pause_s: f64,
        at_s: f64,
    },
    OutageBegan {
        cause: &'a str,
        at_s: f64,
    },
    OutageEnded {
        lasted_s: f64,
        at_s: f64,
    },
    ConcurrencyChanged {
        concurrency: usize,
        at_s: f64,
    },
    RateChanged {
        counted: &'static str,
        per_minute: Option<u32>,
        cause: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        model: Option<&'a str>,
        at_s: f64,
    },
    OutputLimitReserved {
        model: &'a str,
        persona: Option<&'a str>,
        node: Option<&'a str>,
        reckoned: Option<u64>,
        reserved: Option<u64>,
        at_s: f64,
    },
    LimitBinds {
        counted: Option<&'static str>,
        at_s: f64,
    },
    Warning {
        message: &'a str,
        at_s: f64,
    },
    Waiting {
        cause: &'static str,
        until: &'a str,
        wait_s: f64,
        at_s: f64,
    },
    WaitingEnded {
        at_s: f64,
    },
    DeadlineReached {
        until: &'a str,
        opens: Option<&'a str>,
        at_s: f64,
    },
    BudgetLow {
        #[serde(flatten)]
        budget: Budget,
        at_s: f64,
    },
    BudgetReached {
        #[serde(flatten)]
        budget: Budget,
        left_usd: f64,
        persona: &'a str,
        node: &'a str,
        next_usd: f64,
        at_s: f64,
    },
    Stopping {
        level: &'static str,
        at_s: f64,
    },
    NodeFinished {
        persona: &'a str,
        node: &'a str,
        status: NodeStatus,
        attempts: u32,
        tokens: TokenCounts,
        cost_usd: Option<f64>,
        error: Option<&'a Failure>,
    },
    PersonaFinished {
        persona: &'a str,
        status: PersonaStatus,
        error: Option<&'a Failure>,
    },
    RunStopped {
        error: &'a Failure,
        at_s: f64,
    },
}

/// How far a limit on money is used up.
#[derive(Serialize)]
struct Budget {
    limit: &'static str,
    budget_usd: f64,
    spent_usd: f64,
    maybe_billed_usd: f64,
}

impl From<&Used> for Budget {
    fn from(used: &Used) -> Self {
        Self {
            limit: used.limit.name,
            budget_usd: used.limit.amount.usd(),
            spent_usd: used.spent.usd(),
            maybe_billed_usd: used.possibly.usd(),
        }
    }
}

/// The object of an event. The last event has one only where something ended the run early; its
/// summary comes from the tally.
fn object(stamped: &Stamped) -> Option<Object<'_>> {
    let at_s = seconds(stamped.at);
    Some(match &stamped.event {
        Event::RunStarted(started) => run_started(started),
        Event::CallStarted { instance, attempt } => Object::CallStarted {
            persona: instance.persona.as_str(),
            node: instance.node.as_str(),
            attempt: *attempt,
            at_s,
        },
        Event::CallQueued {
            instance,
            attempt,
            job,
        } => Object::CallQueued {
            persona: instance.persona.as_str(),
            node: instance.node.as_str(),
            attempt: *attempt,
            response: job,
            at_s,
        },
        Event::CallEnded {
            instance,
            attempt,
            latency,
            outcome,
            ..
        } => call_ended(instance, *attempt, *latency, outcome, at_s),
        Event::Retrying {
            instance,
            cause,
            pause,
        } => Object::Retrying {
            persona: instance.persona.as_str(),
            node: instance.node.as_str(),
            cause,
            pause_s: seconds(*pause),
            at_s,
        },
        Event::Paused {
            pause,
            until,
            model,
            cause,
        } => Object::Paused {
            cause,
            until: &until.rfc3339,
            model: model.as_deref(),
            pause_s: seconds(*pause),
            at_s,
        },
        Event::OutageBegan { cause } => Object::OutageBegan { cause, at_s },
        Event::OutageEnded { lasted } => Object::OutageEnded {
            lasted_s: seconds(*lasted),
            at_s,
        },
        Event::RateChanged(change) => Object::RateChanged {
            counted: change.counted.as_str(),
            per_minute: change.per_minute,
            cause: change.cause.as_str(),
            model: change.model.as_deref(),
            at_s,
        },
        Event::OutputLimitReserved { model, seen } => Object::OutputLimitReserved {
            model,
            persona: seen.as_ref().map(|seen| seen.instance.persona.as_str()),
            node: seen.as_ref().map(|seen| seen.instance.node.as_str()),
            reckoned: seen.as_ref().map(|seen| seen.by_server),
            reserved: seen.as_ref().map(|seen| seen.by_septet),
            at_s,
        },
        Event::ConcurrencyChanged { concurrency } => Object::ConcurrencyChanged {
            concurrency: *concurrency,
            at_s,
        },
        Event::UpToDate { .. } => return None,
        Event::NodeFinished(node) => node_finished(node),
        Event::PersonaFinished {
            persona,
            status,
            error,
            ..
        } => Object::PersonaFinished {
            persona: persona.as_str(),
            status: *status,
            error: error.as_ref(),
        },
        Event::LimitBinds(limit) => Object::LimitBinds {
            counted: limit.map(Counted::as_str),
            at_s,
        },
        Event::Warning { message } => Object::Warning { message, at_s },
        Event::Waiting { until, wait } => Object::Waiting {
            cause: "hours",
            until: &until.rfc3339,
            wait_s: seconds(*wait),
            at_s,
        },
        Event::WaitingEnded => Object::WaitingEnded { at_s },
        Event::DeadlineReached { until, opens } => Object::DeadlineReached {
            until: &until.rfc3339,
            opens: opens.as_ref().map(|opens| &*opens.rfc3339),
            at_s,
        },
        Event::BudgetLow(used) => Object::BudgetLow {
            budget: used.into(),
            at_s,
        },
        Event::BudgetReached { used, instance, next } => Object::BudgetReached {
            budget: used.into(),
            left_usd: used.left().usd(),
            persona: instance.persona.as_str(),
            node: instance.node.as_str(),
            next_usd: next.usd(),
            at_s,
        },
        Event::Stopping(stop) => Object::Stopping {
            level: match stop {
                Stop::Restart | Stop::Drain => "drain",
                Stop::Abort => "abort",
            },
            at_s,
        },
        Event::RunFinished { cause, .. } => Object::RunStopped {
            error: cause.as_ref()?,
            at_s,
        },
    })
}

/// The `run_started` object.
///
/// # Panics
/// Never: it has nothing that JSON cannot say.
pub fn started(started: &RunStarted) -> serde_json::Value {
    serde_json::to_value(run_started(started)).expect("BUG: names and numbers are JSON")
}

fn run_started(started: &RunStarted) -> Object<'_> {
    Object::RunStarted {
        run: started.run.as_str(),
        personas: started.personas,
        nodes: &started.nodes,
        models: &started.models,
        concurrency: started.concurrency,
        requests_per_minute: started.requests_per_minute,
        tokens_per_minute: started.tokens_per_minute,
        budget_usd: started.budget.map(Money::usd),
        until: started.until.as_ref().map(|until| &*until.rfc3339),
        provider: &started.provider,
        simulated: started.simulated,
    }
}

fn call_ended<'a>(
    instance: &'a Instance,
    attempt: u32,
    latency: Duration,
    outcome: &'a CallOutcome,
    at_s: f64,
) -> Object<'a> {
    let hours = match outcome {
        CallOutcome::Ok { hours, .. } | CallOutcome::Rejected { hours, .. } => hours.as_deref(),
        CallOutcome::Faulted(_) | CallOutcome::Abandoned => None,
    };
    let nothing = (Usage::default(), Some(Money::ZERO));
    let (word, (usage, cost), error) = match outcome {
        CallOutcome::Ok { usage, cost, .. } => ("ok", (*usage, *cost), None),
        CallOutcome::Rejected {
            rejection,
            usage,
            cost,
            ..
        } => ("rejected", (*usage, *cost), Some(Failure::from(*rejection))),
        CallOutcome::Faulted(fault) if !outcome.is_abandoned() => {
            ("faulted", nothing, Some(Failure::from(fault)))
        }
        CallOutcome::Faulted(fault) => ("abandoned", nothing, Some(Failure::from(fault))),
        CallOutcome::Abandoned => ("abandoned", nothing, None),
    };
    Object::CallEnded {
        persona: instance.persona.as_str(),
        node: instance.node.as_str(),
        attempt,
        outcome: word,
        latency_s: seconds(latency),
        tokens: TokenCounts::from(&usage),
        estimated: usage.estimated,
        cost_usd: cost.map(Money::usd),
        hours,
        error,
        at_s,
    }
}

fn node_finished(node: &NodeFinished) -> Object<'_> {
    Object::NodeFinished {
        persona: node.instance.persona.as_str(),
        node: node.instance.node.as_str(),
        status: node.status,
        attempts: node.attempts,
        tokens: TokenCounts::from(&node.tokens),
        // Without a call nothing was paid, whatever the prices are.
        cost_usd: if node.attempts == 0 {
            Some(0.0)
        } else {
            node.cost.map(Money::usd)
        },
        error: node.error.as_ref(),
    }
}

/// Seconds, to the millisecond.
fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}
