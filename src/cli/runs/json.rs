//! Earlier runs for programs: see `docs/json.md`.

use serde_json::{Value, json};

use super::Told;
use super::sums::{self, Sum};
use crate::call::Money;
use crate::cli::args::By;
use crate::cli::cache::out::Out;
use crate::cli::clock;
use crate::cli::failure::CliError;
use crate::events::{ModelAccount, NodeHistory, PossiblyBilled};

/// All runs, or what they add up to by something; the sum of all comes last.
pub fn list(all: &[Told], by: Option<By>, out: &mut Out) -> Result<(), CliError> {
    match by {
        None => all.iter().try_for_each(|told| out.object(&brief(told)))?,
        Some(By::Model) => group("model", sums::models(all), out)?,
        Some(By::Month) => group("month", sums::months(all), out)?,
    }
    out.object(&sum("runs_total", &Sum::of(all)))
}

/// One run in full.
pub fn run(told: &Told) -> Value {
    let mut object = brief(told);
    let (models, nodes) = match &told.account {
        Some(account) => (account.models.as_slice(), account.nodes.as_slice()),
        None => (&[][..], &[][..]),
    };
    object["models"] = models.iter().map(model).collect();
    object["failures"] = json!(told.summary.failures);
    object["by_node"] = nodes.iter().map(node).collect();
    object
}

fn group(what: &str, groups: impl IntoIterator<Item = (String, Sum)>, out: &mut Out) -> Result<(), CliError> {
    for (name, group) in groups {
        let mut object = sum(&format!("{what}_total"), &group);
        object[what] = name.into();
        out.object(&object)?;
    }
    Ok(())
}

fn brief(told: &Told) -> Value {
    let Told {
        run, summary, about, ..
    } = told;
    json!({
        "event": "run",
        "run": run,
        "started": clock::iso(told.started_ms()),
        "ended": clock::iso(told.at_ms),
        "outcome": summary.outcome,
        "provider": about.provider,
        "simulated": about.simulated,
        "personas": summary.personas,
        "nodes": summary.nodes,
        "calls": summary.calls,
        "tokens": summary.tokens,
        "cost_usd": summary.cost_usd,
        "saved_usd": summary.saved_usd,
        "possibly_billed": possibly(sums::possibly(told)),
        "elapsed_s": summary.elapsed_s,
    })
}

fn sum(event: &str, sum: &Sum) -> Value {
    json!({
        "event": event,
        "runs": sum.runs,
        "answers": sum.answers,
        "tokens": sum.tokens,
        "cost_usd": sum.cost.usd(),
        "simulated_usd": sum.simulated.usd(),
        "unpriced": sum.unpriced,
        "possibly_billed": possibly(sum.possibly),
    })
}

fn possibly(possibly: PossiblyBilled) -> Value {
    json!({ "calls": possibly.calls, "most_usd": possibly.most.map(Money::usd) })
}

fn model(model: &ModelAccount) -> Value {
    json!({
        "model": model.model,
        "answers": model.answers,
        "tokens": model.tokens,
        "cost_usd": model.cost.map(Money::usd),
        "cost_by_hours": model.hours.iter().map(|at| json!({
            "hours": at.hours, "answers": at.answers, "cost_usd": at.cost.usd(),
        })).collect::<Vec<_>>(),
    })
}

fn node(node: &NodeHistory) -> Value {
    json!({
        "node": node.node,
        "model": node.model,
        "answers": node.answers,
        "rejected": node.rejected,
        "output_tokens": {
            "mean": node.output.mean(),
            "p10": node.output.quantile(0.1),
            "p90": node.output.quantile(0.9),
        },
        "latency_s": {
            "mean": node.latency_ms.mean().map(|ms| ms / 1000.0),
            "p90": node.latency_ms.quantile(0.9).map(|ms| ms as f64 / 1000.0),
        },
    })
}
