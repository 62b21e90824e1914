//! The budget of a run: the limits of `pipeline.toml` and the command line over what was spent
//! before, and the prices that a budget needs.

use jiff::tz::TimeZone;

use crate::budget::Limit;
use crate::call::Money;
use crate::cli::clock;
use crate::cli::failure::{CliError, Complaint};
use crate::cli::project::Loaded;
use crate::config::Limits;
use crate::hours::timestamp;
use crate::report::figures::count;
use crate::store::Spending;
use crate::wording::nearest;

/// What stands for the limit of one run where the command line sets it.
const OPTION: &str = "--budget";

/// Refuses a budget where a model has no price: nobody could tell when it is used up.
///
/// # Errors
/// Naming each such model and the table to add.
pub fn demand_prices(project: &Loaded, limits: &Limits) -> Result<(), CliError> {
    let set = [
        limits.budget_usd,
        limits.budget_usd_month,
        limits.budget_usd_total,
    ];
    if set.iter().all(Option::is_none) {
        return Ok(());
    }
    let config = &project.config;
    let mut complained: Vec<&str> = Vec::new();
    let mut complaints = Vec::new();
    for node in &config.nodes {
        let model = &*node.model.name;
        if config.prices.contains_key(model) || complained.contains(&model) {
            continue;
        }
        complained.push(model);
        let message = format!(
            "there is a budget, and the model `{model}` of node `{}` has no price",
            node.id
        );
        let table = format!("[prices.{model:?}]");
        complaints.push(
            Complaint::new(message)
                .at(format!("{}:{}", config.file, node.line))
                .hint(match nearest(model, config.prices.keys().map(String::as_str)) {
                    Some(known) => format!("there is `[prices.{known:?}]`: did you mean `{table}`?"),
                    None => format!("add `{table}` with `input` and `output`, in USD per million tokens"),
                }),
        );
    }
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(CliError::refused(complaints)),
    }
}

/// The limits on what a run may spend. `by_option`: that of one run comes from the command line.
/// `spent`: what was spent of it before, where one run is a part of a session.
pub fn limits(limits: &Limits, by_option: bool, spent: Money, spending: &Spending) -> Vec<Limit> {
    let limit = |name, amount: Option<Money>, before: Money, since_ms: Option<u64>| {
        amount.map(|amount| Limit {
            name,
            amount,
            before,
            since_ms,
        })
    };
    // To look the machine's time zone up is a third of what a run with nothing to do takes.
    let month = limits.budget_usd_month.map(|amount| {
        let (now, zone) = (clock::unix_ms(), TimeZone::system());
        let spent = spending.month(now, &zone).counted();
        (amount, spent, start_of_month(now, &zone))
    });
    let run = if by_option { OPTION } else { "limits.budget_usd" };
    [
        limit(run, limits.budget_usd, spent, None),
        month.and_then(|(amount, spent, start)| {
            limit("limits.budget_usd_month", Some(amount), spent, Some(start))
        }),
        limit(
            "limits.budget_usd_total",
            limits.budget_usd_total,
            spending.total().counted(),
            Some(0),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// When the calendar month of a moment began, both as Unix time in milliseconds.
fn start_of_month(at_ms: u64, zone: &TimeZone) -> u64 {
    let first = zone.to_datetime(timestamp(at_ms)).date().first_of_month();
    let start = zone.to_timestamp(first.at(0, 0, 0, 0)).ok();
    let start_ms = start.map(|start| start.as_millisecond());
    start_ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(at_ms)
}

/// What a budget over all runs does not know, if there is such a budget.
pub fn caveat(limits: &Limits, spending: &Spending) -> Option<String> {
    let over_all = limits.budget_usd_month.or(limits.budget_usd_total);
    let unpriced = spending.total().unpriced;
    (over_all.is_some() && unpriced > 0).then(|| {
        format!(
            "{} in this cache had no price when paid and {} not counted in the budget",
            count(unpriced, "answer"),
            if unpriced == 1 { "is" } else { "are" }
        )
    })
}
