//! `septet plan`: what `run` would do, by the same path up to the call.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::call::{Money, Rejection};
use crate::cli::args::Plan;
use crate::cli::budget::{self, Passed};
use crate::cli::cache;
use crate::cli::failure::{CliError, Complaint};
use crate::cli::print::outln;
use crate::cli::project::Loaded;
use crate::cli::refresh::Refresh;
use crate::config::{Limits, ProviderKind};
use crate::events::Failure;
use crate::names::{Instance, PersonaId};
use crate::plan::{Binding, Estimate, Found, Outlook, Planner, Reason, Stored, Totals, duration};
use crate::printable::one_line;
use crate::report::figures::{count, dollars, duration as words, number};
use crate::run::{Folder, Project, with_causes};
use crate::store::{LocalStore, Looked, Miss, Store};

/// What one call is taken to last where nothing is known of it.
const UNKNOWN_LATENCY: Duration = Duration::from_secs(10);

/// Calls in flight that are assumed where they are to be found out.
const UNKNOWN_CONCURRENCY: usize = 4;

/// Prints what a run would do.
pub fn plan(directory: Option<&Path>, args: &Plan) -> Result<ExitCode, CliError> {
    let project = Loaded::open(directory)?;
    let personas = project.select(&args.selection)?;
    let refresh = Refresh::new(&args.selection.refresh, &project.graph, &personas)?;
    let limits = args.selection.limits(&project.config.limits);
    budget::demand_prices(&project, &limits)?;
    let store = cache::open(&project.root)?;
    let folder = project.folder();
    let mut planner = Planner::new(&project.graph);
    let mut foreseen = Foreseen::new(&project);
    for persona in &personas {
        let outlooks = outlooks(&mut planner, &folder, &store, &refresh, &project, persona)?;
        foreseen.add(persona, outlooks, args);
    }
    let by_option = args.selection.budget.is_some();
    let budget = budget::limits(&limits, by_option, Money::ZERO, store.spending());
    let over = budget::passed(&budget, &foreseen.totals);
    foreseen.print_totals(args, &limits, planner.latency(), over.as_ref());
    cache::close(store.into());
    Ok(ExitCode::SUCCESS)
}

/// The outlook of each node of one persona, or why the persona would fail.
pub fn outlooks(
    planner: &mut Planner<'_>,
    folder: &Folder,
    store: &LocalStore,
    refresh: &Refresh,
    project: &Loaded,
    persona: &PersonaId,
) -> Result<Result<Vec<Outlook>, Failure>, CliError> {
    let requests = match folder.open(persona) {
        Ok(requests) => requests,
        Err(failure) => return Ok(Err(failure)),
    };
    // The store's errors end the command, the persona's only its part of it.
    let mut broken = None;
    let outlooks = planner.persona(
        |node, needs| requests.request(node, needs),
        |node, key, limit| {
            let instance = Instance {
                persona: persona.clone(),
                node: project.graph.id(node).clone(),
            };
            if refresh.wants(&instance) {
                return Ok(Found::Missing(Reason::Refreshed));
            }
            match store.look(&instance, key, limit) {
                Ok(looked) => Ok(found(looked, limit)),
                Err(error) => {
                    broken = Some(with_causes(&error));
                    Ok(Found::Missing(Reason::New))
                }
            }
        },
    );
    match broken {
        Some(message) => Err(CliError::stopped(Complaint::new(message))),
        None => Ok(outlooks),
    }
}

/// A look-up as the planner takes it; `limit` is the output limit that was asked with.
pub fn found(looked: Looked, limit: Option<u64>) -> Found {
    let reason = match looked {
        Looked::Hit(record) => {
            return Found::Stored(Stored {
                output: record.answer.usage.output,
                latency: Duration::from_millis(record.latency_ms),
                text: record.answer.text,
            });
        }
        Looked::CutOff(rejected) => return Found::CutOff(rejected.cut),
        Looked::Miss(Miss::Absent) => Reason::New,
        Looked::Miss(Miss::Refreshed) => Reason::Refreshed,
        Looked::Miss(Miss::Damaged(reason)) => Reason::Damaged(reason),
        Looked::Miss(Miss::TooLong { output }) => Reason::TooLong { output, limit },
        Looked::Miss(Miss::CutOff(rejected)) => Reason::CutOff {
            cut: rejected.cut,
            limit,
        },
        Looked::Miss(Miss::Rejected(rejected)) => Reason::Rejected(rejected.rejection),
    };
    Found::Missing(reason)
}

/// What has been foreseen so far; what there is to say of a node is said at once.
struct Foreseen<'a> {
    project: &'a Loaded,
    totals: Totals,
    personas: usize,
    to_do: usize,
    failed: usize,
}

impl<'a> Foreseen<'a> {
    fn new(project: &'a Loaded) -> Self {
        Self {
            project,
            totals: Totals::new(),
            personas: 0,
            to_do: 0,
            failed: 0,
        }
    }

    fn add(&mut self, persona: &PersonaId, outlooks: Result<Vec<Outlook>, Failure>, args: &Plan) {
        self.personas += 1;
        let outlooks = match outlooks {
            Ok(outlooks) => outlooks,
            Err(failure) => {
                self.failed += 1;
                return say_failure(persona, &failure, args);
            }
        };
        let called = |outlook: &Outlook| matches!(outlook, Outlook::Call(..) | Outlook::Depends(_));
        self.to_do += usize::from(outlooks.iter().any(called));
        let prices = self.project.prices();
        for (node, outlook) in outlooks.iter().enumerate() {
            self.totals.add(outlook, prices[node].as_ref());
            say_node(persona, self.project.graph.id(node).as_str(), outlook, args);
        }
    }

    fn print_totals(&self, args: &Plan, limits: &Limits, seen: Option<Duration>, over: Option<&Passed>) {
        let (latency, known) = match (seen, &self.project.config.provider.kind) {
            (Some(seen), _) => (seen, "as long as stored ones took"),
            (None, ProviderKind::Simulator(model)) => (model.latency, "as `simulator.latency` says"),
            (None, _) => (UNKNOWN_LATENCY, "a guess: nothing is stored yet"),
        };
        let concurrency = limits.concurrency.unwrap_or(UNKNOWN_CONCURRENCY);
        let (time, binding) = duration(
            &self.totals,
            limits.requests_per_minute,
            limits.tokens_per_minute,
            concurrency,
            latency,
        );
        if args.selection.json {
            outln!("{}", self.json(time, binding, over));
        } else {
            self.print_text(
                args,
                time,
                binding,
                &format!("{} a call, {known}", words(latency)),
                over,
            );
        }
    }

    fn json(&self, time: Duration, binding: Binding, over: Option<&Passed>) -> Value {
        let totals = &self.totals;
        json!({
            "event": "plan_finished",
            "personas": { "total": self.personas, "to_do": self.to_do, "failed": self.failed },
            "nodes": {
                "cached": totals.hits, "call": totals.calls, "depends": totals.depends,
                "failed": totals.failed, "skipped": totals.skipped,
            },
            "tokens": { "input": totals.input, "output": totals.output, "most_output": totals.most_output },
            "cost_usd": totals.cost.map(crate::call::Money::usd),
            "most_cost_usd": totals.most_cost.map(crate::call::Money::usd),
            "seconds": time.as_secs_f64(),
            "bound_by": match binding {
                Binding::Requests => "requests_per_minute",
                Binding::Tokens => "tokens_per_minute",
                Binding::Concurrency => "concurrency",
            },
            "passes_budget": over.map(|over| json!({
                "limit": over.limit.name,
                "budget_usd": over.limit.amount.usd(),
                "left_usd": over.limit.left().usd(),
                "after_calls": over.calls,
            })),
            "simulated": crate::cli::provider::is_simulated(&self.project.config.provider),
        })
    }

    fn print_text(
        &self,
        args: &Plan,
        time: Duration,
        binding: Binding,
        latency: &str,
        over: Option<&Passed>,
    ) {
        let totals = &self.totals;
        let most = |tokens: Option<u64>| tokens.map_or("no limit".to_owned(), number);
        let simulated = match crate::cli::provider::is_simulated(&self.project.config.provider) {
            true => " (simulated)",
            false => "",
        };
        outln!(
            "personas  {} of {} have something to do",
            number(self.to_do as u64),
            number(self.personas as u64)
        );
        outln!(
            "nodes     {} cached, {} to call, {} that depend on their answers",
            number(totals.hits as u64),
            number(totals.calls as u64),
            number(totals.depends as u64)
        );
        if self.failed > 0 {
            outln!(
                "failed    {} cannot be read or rendered: see `septet check`",
                count(self.failed as u64, "persona")
            );
        }
        self.print_cut_off();
        if totals.calls + totals.depends == 0 {
            return outln!("nothing to call");
        }
        outln!(
            "calls     {} to {}",
            number(totals.calls as u64),
            number((totals.calls + totals.depends) as u64)
        );
        self.print_reasons();
        outln!(
            "tokens    about {} input, {} output; at most {} output",
            number(totals.input),
            number(totals.output),
            most(totals.most_output)
        );
        outln!(
            "cost      about {}, at most {}{simulated}",
            dollars(totals.cost),
            dollars(totals.most_cost)
        );
        if let Some(over) = over {
            outln!("budget    {over}");
        }
        outln!(
            "time      about {} ({}; {latency})",
            words(time),
            bound_by(binding)
        );
        if !args.verbose {
            outln!("\n`septet plan -v` names the nodes, `septet run` does it");
        }
    }

    /// Nodes that fail at once, and those that need them.
    fn print_cut_off(&self) {
        let Totals { failed, skipped, .. } = self.totals;
        if failed == 0 {
            return;
        }
        let (are, them) = if failed == 1 {
            ("is", "it")
        } else {
            ("are", "them")
        };
        outln!(
            "cut off   {}, which {are} not called again at this limit, and {} skipped; \
             raise `max_output_tokens`, or `--refresh` {them}",
            count(failed as u64, "node"),
            number(skipped as u64),
        );
    }

    /// Why there are calls, unless all of them are simply new.
    fn print_reasons(&self) {
        let reasons = &self.totals.reasons;
        if reasons.keys().all(|reason| *reason == Reason::New.summary()) {
            return;
        }
        for (at, (reason, calls)) in reasons.iter().enumerate() {
            let label = if at == 0 { "because" } else { "" };
            outln!("{label:<9} {} {reason}", number(*calls as u64));
        }
    }
}

fn bound_by(binding: Binding) -> &'static str {
    match binding {
        Binding::Requests => "bound by requests per minute",
        Binding::Tokens => "bound by tokens per minute",
        Binding::Concurrency => "bound by calls in flight",
    }
}

fn say_failure(persona: &PersonaId, failure: &Failure, args: &Plan) {
    let error = json!({ "kind": failure.kind, "message": failure.message, "http_status": null });
    if args.selection.json {
        outln!(
            "{}",
            json!({ "event": "persona_planned", "persona": persona, "status": "failed", "error": error })
        );
    } else if !args.quiet {
        outln!("✗ {}  {}", one_line(persona.as_str()), one_line(&failure.message));
    }
}

fn say_node(persona: &PersonaId, node: &str, outlook: &Outlook, args: &Plan) {
    let (status, estimate, reason) = match outlook {
        Outlook::Hit | Outlook::Twin => ("cached", None, None),
        Outlook::Call(estimate, reason) => ("call", Some(estimate), Some(reason)),
        Outlook::Depends(estimate) => ("depends", Some(estimate), None),
        Outlook::CutOff(_) => ("failed", None, None),
        Outlook::Skipped => ("skipped", None, None),
    };
    if args.selection.json {
        let tokens =
            estimate.map(|e| json!({ "input": e.input, "output": e.output, "most_output": e.most_output }));
        let reason = reason.map(|reason| json!({ "kind": reason.kind(), "message": reason.to_string() }));
        let error = match outlook {
            Outlook::CutOff(cut) => json!({
                "kind": Rejection::Truncated.as_str(), "message": cut.to_string(), "http_status": null
            }),
            _ => Value::Null,
        };
        return outln!(
            "{}",
            json!({
                "event": "node_planned", "persona": persona, "node": node, "status": status,
                "tokens": tokens, "reason": reason, "error": error,
            })
        );
    }
    if !args.verbose {
        return;
    }
    let about = match (outlook, estimate, reason) {
        (_, Some(estimate), Some(reason)) if *reason != Reason::New => {
            format!("{}, {reason}", about(estimate))
        }
        (_, Some(estimate), _) => about(estimate),
        (Outlook::CutOff(cut), ..) => cut.to_string(),
        (Outlook::Skipped, ..) => "needs one that fails".to_owned(),
        _ => return,
    };
    outln!(
        "{status:<8} {}/{}  {}",
        one_line(persona.as_str()),
        one_line(node),
        one_line(&about)
    );
}

fn about(estimate: &Estimate) -> String {
    format!("about {} tokens", number(estimate.input + estimate.output))
}
