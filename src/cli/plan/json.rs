//! The plan as `--json` prints it (`docs/json.md`).

use serde_json::{Value, json};

use crate::call::{Money, Rejection};
use crate::cli::plan::prices::ModelPrices;
use crate::cli::plan::{Foreseen, basis};
use crate::cli::print::outln;
use crate::cli::project::Loaded;
use crate::cli::provider;
use crate::events::Failure;
use crate::names::PersonaId;
use crate::plan::{Outlook, Range};
use crate::tariff::PriceAt;

/// The nodes of one persona, or that it would fail.
pub fn persona(project: &Loaded, persona: &PersonaId, outlooks: &Result<Vec<Outlook>, Failure>) {
    match outlooks {
        Ok(outlooks) => {
            for (node, outlook) in outlooks.iter().enumerate() {
                say(persona, project.graph.id(node).as_str(), outlook);
            }
        }
        Err(failure) => {
            let error = json!({ "kind": failure.kind, "message": failure.message, "http_status": null });
            outln!(
                "{}",
                json!({ "event": "persona_planned", "persona": persona, "status": "failed", "error": error })
            );
        }
    }
}

fn say(persona: &PersonaId, node: &str, outlook: &Outlook) {
    let (status, estimate, reason) = match outlook {
        Outlook::Hit | Outlook::Twin => ("cached", None, None),
        Outlook::Call(estimate, reason) => ("call", Some(estimate), Some(reason)),
        Outlook::Depends(estimate) => ("depends", Some(estimate), None),
        Outlook::CutOff(_) => ("failed", None, None),
        Outlook::Skipped => ("skipped", None, None),
    };
    let tokens =
        estimate.map(|e| json!({ "input": e.input, "output": e.output, "most_output": e.most_output }));
    let reason = reason.map(|reason| json!({ "kind": reason.kind(), "message": reason.to_string() }));
    let error = match outlook {
        Outlook::CutOff(cut) => json!({
            "kind": Rejection::Truncated.as_str(), "message": cut.to_string(), "http_status": null
        }),
        _ => Value::Null,
    };
    outln!(
        "{}",
        json!({
            "event": "node_planned", "persona": persona, "node": node, "status": status,
            "tokens": tokens, "reason": reason, "error": error,
        })
    );
}

/// The last line.
pub fn totals(foreseen: &Foreseen<'_>) {
    let (totals, forecast, time) = (&foreseen.counted.totals, &foreseen.forecast, &foreseen.time);
    let usd = |money: Option<Money>| money.map(Money::usd);
    let cost = forecast.cost;
    let whole = |figure: f64| figure.is_finite().then(|| figure.round() as u64);
    let range = |range: Range| json!({ "low": whole(range.low), "high": whole(range.high) });
    outln!(
        "{}",
        json!({
            "event": "plan_finished",
            "personas": {
                "total": foreseen.counted.personas,
                "to_do": foreseen.counted.to_do,
                "failed": foreseen.counted.failed,
            },
            "transcripts": {
                "unchanged": foreseen.counted.transcripts.unchanged,
                "to_write": foreseen.counted.transcripts.to_write,
                "kept": foreseen.counted.transcripts.kept,
            },
            "nodes": {
                "cached": totals.hits, "call": totals.calls, "depends": totals.depends,
                "failed": totals.failed, "skipped": totals.skipped,
            },
            "tokens": {
                "input": whole(forecast.input.likely),
                "cached_input": whole(forecast.cached),
                "output": whole(forecast.output.likely),
                "most_output": forecast.most_output,
                "input_range": range(forecast.input),
                "output_range": range(forecast.output),
            },
            "calls_again": { "likely": whole(forecast.again.likely), "high": whole(forecast.again.high) },
            "cost_usd": usd(cost.map(|cost| cost.likely)),
            "low_cost_usd": usd(cost.map(|cost| cost.low)),
            "high_cost_usd": usd(cost.and_then(|cost| cost.high)),
            "most_cost_usd": usd(forecast.most_cost),
            "most_cost_once_usd": usd(forecast.once_cost),
            "prices": foreseen.prices.models.iter().map(prices).collect::<Vec<_>>(),
            "seconds": time.likely.as_secs_f64(),
            "low_seconds": time.low.as_secs_f64(),
            "high_seconds": time.high.as_secs_f64(),
            "starts_at": time.windows.starts().to_string(),
            "ends_at": time.course.ends.to_string(),
            "latest_ends_at": time.latest.ends.to_string(),
            "asleep_seconds": time.course.asleep.as_secs_f64(),
            "until": time.windows.until.map(|until| json!({
                "at": until.to_string(),
                "calls_left": time.left.0,
                "most_calls_left": time.left.1,
            })),
            "too_large": time.too_large.iter().map(|(node, tokens)| json!({
                "node": node, "tokens": tokens,
            })).collect::<Vec<_>>(),
            "bound_by": time.binding.as_str(),
            "passes_budget": foreseen.over.as_ref().map(|over| json!({
                "limit": over.limit.name,
                "budget_usd": over.limit.amount.usd(),
                "left_usd": over.limit.left().usd(),
                "after_calls": over.calls,
                "likely": over.likely,
                "next": over.next.as_ref().map(|next| json!({
                    "node": next.node, "usd": next.usd.usd(), "left_usd": next.left.usd(),
                })),
            })),
            "rests_on": basis::json(foreseen),
            "simulated": provider::is_simulated(&foreseen.project.config.provider),
        })
    );
}

/// The prices of a model that depend on the time, with the share of the run for which each holds.
fn prices(prices: &ModelPrices) -> Value {
    let per_million = |money: Money| (money.usd() * 1e12).round() / 1e6;
    let part = |(rate, share): &(PriceAt, f64)| {
        json!({
            "hours": rate.hours,
            "share": (share * 1e4).round() / 1e4,
            "usd_per_million_tokens": {
                "input": per_million(rate.price.input),
                "cached_input": per_million(rate.price.cached_input),
                "cache_write": per_million(rate.price.cache_write),
                "output": per_million(rate.price.output),
            },
        })
    };
    json!({ "model": prices.model, "parts": prices.parts.iter().map(part).collect::<Vec<_>>() })
}
