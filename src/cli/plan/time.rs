//! How long it would take and when it would end: a rehearsal on the limits and the latencies that
//! are known.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::call::{Scope, UNKNOWN_OUTPUT, prompt_cache};
use crate::cli::args::Selection;
use crate::cli::project::Loaded;
use crate::cli::provider;
use crate::config::{Limits, ProviderKind};
use crate::events::{FaultHistory, History as Accounts, Spread};
use crate::names::NodeId;
use crate::plan::{Binding, Bounds, Call, Course, Forecast, Part, Planner, Range, Shared, Totals, Windows};
use crate::run::{Rehearsal, Rehearsed, RehearsedFault, RehearsedPrefix};
use crate::schedule::{MOST_IN_FLIGHT, Settings};

/// What one call is taken to last where nothing is known of it, in seconds.
const UNKNOWN_SECONDS: Range = Range {
    low: 2.0,
    likely: 10.0,
    high: 40.0,
};

/// Where a larger part of all calls ended in a fault, that is not taken to come again.
pub const MOST_FAULTS: f64 = 0.3;

/// From the start of a run to its end.
pub struct Timing {
    /// How long it works: without the time that it sleeps outside its hours.
    pub low: Duration,
    pub likely: Duration,
    pub high: Duration,
    /// What sets the time.
    pub binding: Binding,
    /// Of one call, on the average.
    pub call: Duration,
    pub latency: LatencyFrom,
    pub windows: Windows,
    /// How it passes through them.
    pub course: Course,
    /// The same if everything takes as long as it may.
    pub latest: Course,
    /// All calls.
    pub calls: u64,
    /// Nodes whose calls are larger than `tokens_per_minute`, and the tokens of one: a run fails them.
    pub too_large: Vec<(NodeId, u64)>,
    /// Those that are not sent before the deadline: what is likely, and the most.
    pub left: (u64, u64),
}

/// What the time of a call rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyFrom {
    /// Earlier answers.
    Answers,
    /// `simulator.latency`.
    Simulator,
    /// Nothing.
    Nothing,
}

/// Rehearses what is planned.
pub fn timing(
    project: &Loaded,
    limits: &Limits,
    accounts: &Accounts,
    planner: &Planner<'_>,
    totals: &Totals,
    forecast: &Forecast,
    windows: Windows,
) -> Timing {
    let calls = planner.calls();
    let rehearsal = |which, perhaps| rehearsal(project, limits, accounts, planner, &calls, which, perhaps);
    // What depends may turn out to be there only where it was there before.
    let known = forecast.basis.unknown.is_empty();
    let low = rehearsal(|range| range.low, !known).duration();
    let middle = rehearsal(|range| range.likely, true);
    let likely = middle.duration();
    let slow = rehearsal(|range| range.high, true);
    let high = slow.duration().max(likely);
    let seen = calls.iter().filter(|call| call.seconds.is_some()).count();
    let sum = |of: fn(&Rehearsed) -> f64| -> f64 {
        let all = middle.personas.iter().flat_map(|(called, count)| {
            let nodes = called.iter().zip(&middle.nodes).filter(|(called, _)| **called);
            nodes.map(move |(_, node)| of(node) * *count as f64)
        });
        all.sum()
    };
    let count = (totals.calls + totals.depends) as f64;
    let bounds = Bounds {
        calls: count,
        tokens: sum(|node| node.input + node.output),
        seconds: sum(|node| node.seconds),
        requests_per_minute: limits.requests_per_minute,
        tokens_per_minute: limits.tokens_per_minute,
        concurrency: limits.concurrency,
    };
    let (course, latest) = (windows.course(likely), windows.course(high));
    let all = (totals.calls + totals.depends) as u64;
    let left = |course: &Course, rehearsal: &Rehearsal| match course.cut {
        Some(worked) => all.saturating_sub(rehearsal.sent_by(worked)),
        None => 0,
    };
    let likely_left = left(&course, &middle);
    let most = limits.tokens_per_minute.map_or(u64::MAX, u64::from);
    let is_called = |node: usize| middle.personas.iter().any(|(called, _)| called[node]);
    let sizes = middle
        .nodes
        .iter()
        .map(|node| node.reserved(false, 0))
        .enumerate();
    let too_large = sizes.filter(|(node, tokens)| *tokens > most && is_called(*node));
    let too_large = too_large.map(|(node, tokens)| (project.graph.id(node).clone(), tokens));
    Timing {
        low: low.min(likely),
        likely,
        high,
        too_large: too_large.collect(),
        left: (likely_left, left(&latest, &slow).max(likely_left)),
        calls: all,
        binding: bounds.binding(likely),
        call: Duration::from_secs_f64(if count > 0.0 { bounds.seconds / count } else { 0.0 }),
        latency: match (seen, &project.config.provider.kind) {
            (0, ProviderKind::Simulator(_)) => LatencyFrom::Simulator,
            (0, _) => LatencyFrom::Nothing,
            _ => LatencyFrom::Answers,
        },
        course,
        latest,
        windows,
    }
}

/// The run, with a figure of each range; what may turn out to be there is called only with `perhaps`.
pub fn rehearsal(
    project: &Loaded,
    limits: &Limits,
    accounts: &Accounts,
    planner: &Planner<'_>,
    calls: &[Call],
    which: fn(Range) -> f64,
    perhaps: bool,
) -> Rehearsal {
    let nodes = calls.iter().enumerate();
    let nodes = nodes.map(|(node, call)| rehearsed(project, accounts, node, call, which));
    let shape = |(parts, count): (&[Part], u64)| {
        let called = |part: &Part| *part == Part::Call || (perhaps && *part == Part::Perhaps);
        (parts.iter().map(called).collect(), count)
    };
    Rehearsal {
        graph: project.graph.clone(),
        models: project.models(),
        settings: Settings {
            concurrency: limits.concurrency,
            most: MOST_IN_FLIGHT,
            retry: project.config.retry.clone(),
            fail_fast: false,
        },
        requests_per_minute: limits.requests_per_minute,
        tokens_per_minute: limits.tokens_per_minute,
        nodes: nodes.collect(),
        personas: planner.shapes().map(shape).collect(),
        budget: Vec::new(),
    }
}

/// When it may send, seen from `now`. A duration for `--until` counts from the start.
pub fn windows(selection: &Selection, limits: &Limits, now: Timestamp, zone: TimeZone) -> Windows {
    let start = selection.start_at.map(|when| when.after(now, &zone));
    Windows {
        until: selection
            .until
            .map(|when| when.after(start.unwrap_or(now), &zone)),
        hours: limits.hours.clone(),
        now,
        start,
        zone,
    }
}

/// The prefix of a node, if a run would let its calls wait for the first that has it.
fn prefix(project: &Loaded, node: usize, shared: Shared) -> Option<RehearsedPrefix> {
    shared.waits.then(|| RehearsedPrefix {
        group: shared.group,
        of_all: shared.of_all,
        lifetime: prompt_cache::lifetime(&project.config.nodes[node].model.name),
    })
}

fn rehearsed(
    project: &Loaded,
    accounts: &Accounts,
    node: usize,
    call: &Call,
    which: fn(Range) -> f64,
) -> Rehearsed {
    let config = &project.config.nodes[node];
    let known = accounts.of(&config.id, &config.model.name);
    let spread = |seen: &Spread| Some(seen.clone()).filter(|seen| seen.n > 0);
    let (seconds, stray) = match (call.seconds, &project.config.provider.kind) {
        (Some(seen), _) => seen,
        (None, ProviderKind::Simulator(model)) => {
            let seconds = Range::exactly(model.latency.as_secs_f64());
            // Evenly to both sides, as far as the jitter goes.
            (seconds, seconds.likely * model.jitter / 3.0_f64.sqrt())
        }
        (None, ProviderKind::OpenAi { .. }) => (UNKNOWN_SECONDS, 0.0),
    };
    let bounded = |output: f64| {
        if output.is_finite() {
            output
        } else {
            UNKNOWN_OUTPUT
        }
    };
    Rehearsed {
        input: call.input,
        output: bounded(which(call.output)),
        // A run's first reservations rest on earlier answers too.
        first_output: match call.cap {
            Some(cap) if call.seconds.is_none() => cap as f64,
            _ => bounded(call.output.likely),
        },
        again: which(call.again),
        lost: call.lost,
        bad_output: bounded(call.bad_output),
        lengths: known.and_then(|known| spread(&known.output)),
        latencies: known.and_then(|known| spread(&known.latency_ms)),
        correlation: known.and_then(|known| known.pace.correlation()).unwrap_or(0.0),
        evenly: call.answers == 0,
        faults: faults(accounts, &config.model.name).faults,
        cap: call.cap.map(|cap| cap as f64),
        reserves: provider::reserves(&project.config.provider).or_learned(
            accounts,
            &project.config.provider.name,
            &config.model.name,
        ),
        seconds: which(seconds),
        stray,
        prefix: call.shared.and_then(|shared| prefix(project, node, shared)),
        money: None,
    }
}

/// What is known of calls to a model that ended in a fault.
pub struct Faults {
    pub faults: Vec<RehearsedFault>,
    /// So many of so many calls.
    pub calls: u64,
    pub of: u64,
}

/// Faults that come again as often as they did. Where most calls ended in one there was an outage or
/// nothing was set up yet, which says nothing of the next run.
pub fn faults(accounts: &Accounts, model: &str) -> Faults {
    let known = accounts.of_model(model);
    let all: &[FaultHistory] = known.map_or(&[], |known| &known.faults);
    // What ends a run at once is no part of one.
    let some: Vec<&FaultHistory> = all
        .iter()
        .filter(|fault| fault.kind.scope() < Scope::Run)
        .collect();
    let calls: u64 = some.iter().map(|fault| fault.calls()).sum();
    let of = known.map_or(0, |known| known.calls);
    let fault = |fault: &&FaultHistory| RehearsedFault {
        kind: fault.kind,
        share: fault.calls() as f64 / of as f64,
        seconds: fault.latency_ms.mean().unwrap_or(0.0) / 1e3,
        latencies: Some(fault.latency_ms.clone()),
        retry_after: fault
            .retry_after_ms
            .mean()
            .map(|asked| Duration::from_secs_f64(asked / 1e3)),
        may_be_billed: fault.may_be_billed * 2 > fault.calls(),
    };
    Faults {
        faults: match calls as f64 > of as f64 * MOST_FAULTS {
            true => Vec::new(),
            false => some.iter().map(fault).collect(),
        },
        calls,
        of,
    }
}
