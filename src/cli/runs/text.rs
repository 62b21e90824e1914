//! Earlier runs for people.

use std::time::Duration;

use super::Told;
use super::sums::{self, Sum};
use crate::cli::args::By;
use crate::cli::clock;
use crate::events::{NodeHistory, PossiblyBilled};
use crate::printable::one_line;
use crate::report::at_hours;
use crate::report::figures::{count, counted, dollars, duration, number, tokens};
use crate::report::style::{pad, pad_before, width};

/// One run a line, the newest last, and what all of them add up to.
pub fn list(all: &[Told]) -> String {
    let mut rows = vec![row([
        "run", "started", "outcome", "calls", "tokens", "cost", "time", "",
    ])];
    rows.extend(all.iter().map(|told| {
        let cost = dollars(told.cost());
        row([
            &one_line(told.run.as_str()),
            &clock::local(told.started_ms())[..16],
            &one_line(&told.summary.outcome),
            &number(told.summary.calls.sent),
            &number(told.summary.tokens.total),
            &cost,
            &duration(elapsed(told)),
            &remarks(told),
        ])
    }));
    let sum = Sum::of(all);
    rows.push(row([
        "total",
        "",
        &count(sum.runs, "run"),
        &number(sum.calls.sent),
        &number(sum.tokens.total),
        &money(&sum),
        "",
        &billed(sum.possibly).unwrap_or_default(),
    ]));
    table(&rows, &[3, 4, 5, 6])
}

/// What runs add up to by model or month.
pub fn by(all: &[Told], by: By) -> String {
    let (what, groups) = match by {
        By::Model => ("model", sums::models(all)),
        By::Month => ("month", sums::months(all)),
    };
    let mut rows = vec![row([what, "runs", "answers", "input", "output", "cost"])];
    let line = |name: &str, sum: &Sum| {
        row([
            &one_line(name),
            &number(sum.runs),
            &number(sum.answers),
            &number(sum.tokens.input),
            &number(sum.tokens.output),
            &money(sum),
        ])
    };
    rows.extend(groups.iter().map(|(name, sum)| line(name, sum)));
    rows.push(line("total", &Sum::of(all)));
    table(&rows, &[1, 2, 3, 4, 5])
}

/// One run in full.
pub fn run(told: &Told) -> String {
    let Told { summary, about, .. } = told;
    let mut lines = Vec::new();
    let mut say = |name: &str, text: String| lines.push(format!("{name:<9} {text}"));
    say("run", one_line(told.run.as_str()));
    let took = duration(elapsed(told));
    say(
        "started",
        format!("{}, took {took}", clock::local(told.started_ms())),
    );
    say("outcome", outcome(&summary.outcome));
    if let Some(provider) = &about.provider {
        say(
            "provider",
            one_line(provider) + if about.simulated { " (simulated)" } else { "" },
        );
    }
    let limits = [
        (about.concurrency, "in flight"),
        (about.requests_per_minute, "requests a minute"),
        (about.tokens_per_minute, "tokens a minute"),
    ];
    let limits = limits
        .iter()
        .filter_map(|(n, what)| Some(format!("{} {what}", number((*n)?))));
    let limits: Vec<String> = limits.collect();
    if !limits.is_empty() {
        say("limits", limits.join(", "));
    }
    let (p, n, c) = (summary.personas, summary.nodes, summary.calls);
    say("personas", counted(p.total, &p.parts()));
    say("nodes", counted(n.total, &n.parts()));
    say("calls", counted(c.sent, &c.parts()) + &c.fetched_words());
    say("tokens", tokens(&summary.tokens));
    let simulated = if about.simulated { " (simulated)" } else { "" };
    say("cost", dollars(told.cost()) + simulated);
    let models = told.account.iter().flat_map(|account| &account.models);
    models.flat_map(at_hours).for_each(|text| say("", text));
    if let Some(saved) = summary.saved_usd {
        let usd = |usd| dollars(Some(crate::call::Money::from_usd(usd)));
        say(
            "saved",
            format!(
                "{} by the provider's cache, {} by septet's",
                usd(saved.provider_cache),
                usd(saved.septet_cache)
            ),
        );
    }
    if let Some(billed) = billed(sums::possibly(told)) {
        say("billed?", billed);
    }
    for (at, group) in summary.failures.iter().enumerate() {
        let n = number(group.nodes.max(group.personas));
        let words = group.words();
        say(
            if at == 0 { "failures" } else { "" },
            format!("{n} x {}{words}", one_line(&group.kind)),
        );
        say("", format!("    {}", one_line(&group.example.message)));
    }
    let Some(account) = told.account.as_ref().filter(|account| !account.nodes.is_empty()) else {
        return lines.join("\n");
    };
    let mut models = vec![row(["model", "answers", "input", "output", "cost"])];
    models.extend(account.models.iter().map(|model| {
        row([
            &one_line(&model.model),
            &number(model.answers),
            &number(model.tokens.input),
            &number(model.tokens.output),
            &dollars(model.cost),
        ])
    }));
    let mut nodes = vec![row([
        "node",
        "answers",
        "rejected",
        "output, 10 to 90 %",
        "latency, mean",
    ])];
    let mut by_name: Vec<&NodeHistory> = account.nodes.iter().collect();
    by_name.sort_by_key(|node| &node.node);
    nodes.extend(by_name.into_iter().map(node));
    [
        lines.join("\n"),
        table(&models, &[1, 2, 3, 4]),
        table(&nodes, &[1, 2, 3, 4]),
    ]
    .join("\n\n")
}

fn node(node: &NodeHistory) -> Vec<String> {
    let spread = node
        .output
        .mean()
        .zip(node.output.quantile(0.1).zip(node.output.quantile(0.9)));
    let output = spread.map_or_else(
        || "–".to_owned(),
        |(mean, (low, high))| {
            format!(
                "{} ({} to {})",
                number(mean.round() as u64),
                number(low),
                number(high)
            )
        },
    );
    let latency = node
        .latency_ms
        .mean()
        .map_or_else(|| "–".to_owned(), |ms| duration(Duration::from_millis(ms as u64)));
    row([
        &one_line(node.node.as_str()),
        &number(node.answers),
        &number(node.rejected),
        &output,
        &latency,
    ])
}

fn outcome(word: &str) -> String {
    match word {
        "died" => "died: it ended without a word, and this is put together from what it left".to_owned(),
        "budget" => "budget: the next call did not fit into it".to_owned(),
        "deadline" => "deadline: its time was over".to_owned(),
        word => one_line(word),
    }
}

fn elapsed(told: &Told) -> Duration {
    Duration::try_from_secs_f64(told.summary.elapsed_s).unwrap_or_default()
}

fn remarks(told: &Told) -> String {
    let simulated = told.about.simulated.then(|| "simulated".to_owned());
    let billed = billed(sums::possibly(told)).filter(|_| !told.about.simulated);
    let remarks: Vec<String> = simulated.into_iter().chain(billed).collect();
    remarks.join(", ")
}

fn billed(possibly: PossiblyBilled) -> Option<String> {
    let most = match possibly.most {
        Some(most) => format!("at most about {}", dollars(Some(most))),
        None => "at a cost that is not known".to_owned(),
    };
    (possibly.calls > 0).then(|| format!("{} possibly billed, {most}", count(possibly.calls, "call")))
}

/// What is known of a sum, and what is not.
fn money(sum: &Sum) -> String {
    let mut text = dollars(Some(sum.cost));
    if sum.simulated != crate::call::Money::ZERO {
        match sum.cost == crate::call::Money::ZERO {
            true => text = format!("{} simulated", dollars(Some(sum.simulated))),
            false => text.push_str(&format!(" + {} simulated", dollars(Some(sum.simulated)))),
        }
    }
    if sum.unpriced > 0 {
        text.push_str(" + unknown");
    }
    text
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Columns two spaces apart; those in `right` end together.
pub fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widest = |column: usize| rows.iter().map(|row| width(&row[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .enumerate()
            .map(|(column, cell)| match right.contains(&column) {
                true => pad_before(cell, widths[column]),
                false => pad(cell, widths[column]),
            });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
