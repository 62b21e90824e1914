//! The plan as people read it: totals first, names after them.

use crate::cli::args::Plan;
use crate::cli::plan::{Foreseen, Transcripts, basis, ends};
use crate::cli::print::outln;
use crate::cli::project::Loaded;
use crate::cli::provider;
use crate::names::PersonaId;
use crate::plan::{Estimate, Outlook, Reason, Totals};
use crate::printable::one_line;
use crate::report::figures::{count, dollars, number};

/// How wide a line may be.
const WIDTH: usize = 80;
/// Where what is said begins; before it stands what it is about.
const INDENT: usize = 10;
/// So many nodes are named for one reason.
const NAMED: usize = 3;

/// Everything in figures; with `--quiet` without the reasons and what the figures rest on.
pub fn totals(foreseen: &Foreseen<'_>, args: &Plan) {
    let (counted, totals) = (&foreseen.counted, &foreseen.counted.totals);
    line(
        "personas",
        &format!(
            "{} of {} have something to do",
            number(counted.to_do as u64),
            number(counted.personas as u64)
        ),
    );
    line(
        "nodes",
        &format!(
            "{} cached, {} to call, {} that depend on their answers",
            number(totals.hits as u64),
            number(totals.calls as u64),
            number(totals.depends as u64)
        ),
    );
    failed(counted.failed, "files, prompts or transcripts");
    cut_off(totals);
    let files = &counted.transcripts;
    if let Some(files) = transcripts(files) {
        line("files", &files);
    }
    if totals.calls + totals.depends == 0 {
        return match files.to_write {
            0 => outln!("nothing to call"),
            n => outln!("nothing to call; `septet run` writes {}", count(n, "transcript")),
        };
    }
    if !args.quiet {
        for (at, reason) in reasons(foreseen.project, totals).iter().enumerate() {
            line(if at == 0 { "because" } else { "" }, reason);
        }
    }
    calls(totals);
    line("tokens", &tokens(foreseen));
    line("cost", &cost(foreseen));
    if let Some(again) = again(foreseen) {
        line("again", &again);
    }
    for (at, prices) in foreseen.prices.models.iter().enumerate().filter(|_| !args.quiet) {
        line(if at == 0 { "prices" } else { "" }, &prices.words());
    }
    if let Some(over) = &foreseen.over {
        line("budget", &over.to_string());
    }
    for (label, text) in ends::lines(&foreseen.time) {
        line(label, &text);
    }
    too_large(foreseen);
    if args.quiet {
        return;
    }
    line("rests on", &basis::text(foreseen));
    match args.verbose {
        true => outln!(""),
        false => outln!("\n`septet plan -v` names the nodes, `septet run` does it"),
    }
}

/// Calls that a run does not make.
pub fn too_large(foreseen: &Foreseen<'_>) {
    let nodes = &foreseen.time.too_large;
    let Some((node, tokens)) = nodes.iter().max_by_key(|(_, tokens)| *tokens) else {
        return;
    };
    let fails = match nodes.len() {
        1 => format!("each `{node}` fails: it needs"),
        several => format!("{several} nodes of a persona fail: `{node}` needs"),
    };
    line(
        "too large",
        &format!(
            "{fails} about {} tokens, which is more than `tokens_per_minute`; shorten the prompt, lower \
             `max_output_tokens` or raise the limit",
            number(*tokens)
        ),
    );
}

fn calls(totals: &Totals) {
    let (calls, all) = (totals.calls as u64, (totals.calls + totals.depends) as u64);
    match calls == all {
        true => line("calls", &number(calls)),
        false => line("calls", &format!("{} to {}", number(calls), number(all))),
    }
}

fn tokens(foreseen: &Foreseen<'_>) -> String {
    let forecast = &foreseen.forecast;
    let whole = |figure: f64| number(figure.round() as u64);
    let cached = match forecast.cached.round() as u64 {
        0 => String::new(),
        cached => format!(" ({} of it cached)", number(cached)),
    };
    let input = |figure: f64| format!("{} input{cached}", whole(figure));
    if is_a_limit(foreseen) {
        return match forecast.most_output {
            Some(most) => format!("at most {}, {} output", input(forecast.input.high), number(most)),
            None => format!("about {}, output without a limit", input(forecast.input.likely)),
        };
    }
    let input = input(forecast.input.likely);
    let output = whole(forecast.output.likely);
    let low = whole(forecast.input.low + forecast.output.low);
    match forecast.input.high + forecast.output.high {
        high if high.is_finite() => {
            format!("about {input}, {output} output; {low} to {} in all", whole(high))
        }
        _ => format!("about {input}, {output} output; at least {low} in all"),
    }
}

/// True where nothing but `max_output_tokens` tells how long answers are.
fn is_a_limit(foreseen: &Foreseen<'_>) -> bool {
    foreseen.forecast.basis.answers == 0
}

fn cost(foreseen: &Foreseen<'_>) -> String {
    let forecast = &foreseen.forecast;
    let simulated = match provider::is_simulated(&foreseen.project.config.provider) {
        true => " (simulated)",
        false => "",
    };
    let Some(cost) = forecast.cost else {
        return format!("unknown: no price for {}", unpriced(foreseen));
    };
    let most = forecast.most_cost.map(|most| dollars(Some(most)));
    if is_a_limit(foreseen) {
        return match most {
            Some(most) => format!("at most {most}{simulated}"),
            None => "without a limit".to_owned(),
        };
    }
    let (low, likely) = (dollars(Some(cost.low)), dollars(Some(cost.likely)));
    let range = match cost.high {
        Some(high) => format!("{low} to {}", dollars(Some(high))),
        None => format!("at least {low}"),
    };
    let most = most.map_or_else(|| "no limit to it".to_owned(), |most| format!("at most {most}"));
    format!("about {likely}; {range}, {most}{simulated}")
}

/// What is asked for again, where that is to be expected or bounds the cost.
fn again(foreseen: &Foreseen<'_>) -> Option<String> {
    let (forecast, rejected) = (&foreseen.forecast, foreseen.project.config.retry.rejected);
    let whole = |figure: f64| figure.round() as u64;
    let (likely, high) = (whole(forecast.again.likely), whole(forecast.again.high));
    if high == 0 {
        return None;
    }
    let bad = format!(
        "an answer that is cut off at `max_output_tokens`, or bad in another way, is asked for again up to {} \
         (`retry.rejected`)",
        if rejected == 1 {
            "once".to_owned()
        } else {
            format!("{} times", number(rejected.into()))
        }
    );
    let once = || Some(dollars(Some(forecast.once_cost?)));
    Some(match once().filter(|_| is_a_limit(foreseen)) {
        Some(once) => format!("{bad}; at most {once} if all are good at once"),
        None if is_a_limit(foreseen) => bad,
        None => {
            let calls = match likely {
                0 => format!("up to {}", count(high, "more call")),
                likely if likely == high => format!("about {}", count(high, "more call")),
                likely => format!("about {}, up to {}", count(likely, "more call"), number(high)),
            };
            format!("{calls}: {bad}")
        }
    })
}

/// The models that have no price, as `[prices]` wants to have them.
pub fn unpriced(foreseen: &Foreseen<'_>) -> String {
    let config = &foreseen.project.config;
    let mut names: Vec<String> = config
        .nodes
        .iter()
        .filter(|node| !config.prices.contains_key(&*node.model.name))
        .map(|node| format!("`{}`", one_line(&node.model.name)))
        .collect();
    names.sort();
    names.dedup();
    names.join(", ")
}

/// What becomes of transcripts beside those whose text has to be called.
fn transcripts(files: &Transcripts) -> Option<String> {
    let mut parts = Vec::new();
    if files.to_write > 0 {
        parts.push(format!(
            "{} to be written from the cache",
            count(files.to_write, "transcript")
        ));
    }
    if files.kept > 0 {
        let (was, it) = if files.kept == 1 {
            ("was", "it")
        } else {
            ("were", "them")
        };
        parts.push(format!(
            "{} {was} edited by hand: a new text comes beside {it} (`septet run --overwrite` replaces {it})",
            count(files.kept, "transcript")
        ));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// So many personas that cannot be worked on, for want of something (`of_theirs`).
pub fn failed(personas: usize, of_theirs: &str) {
    if personas > 0 {
        let personas = count(personas as u64, "persona");
        line(
            "failed",
            &format!("{personas} would fail: {of_theirs} of theirs cannot be used"),
        );
    }
}

/// Nodes that fail at once, and those that need them.
pub fn cut_off(totals: &Totals) {
    let Totals { failed, skipped, .. } = *totals;
    if failed == 0 {
        return;
    }
    let (are, them) = if failed == 1 {
        ("is", "it")
    } else {
        ("are", "them")
    };
    line(
        "cut off",
        &format!(
            "{}, which {are} not called again at this limit, and {} skipped; raise \
             `max_output_tokens`, or `--refresh` {them}",
            count(failed as u64, "node"),
            number(skipped as u64),
        ),
    );
}

/// Why there are calls, unless all of them are simply new.
fn reasons(project: &Loaded, totals: &Totals) -> Vec<String> {
    let new = Reason::New.summary();
    if totals.reasons.keys().all(|reason| *reason == new) {
        return Vec::new();
    }
    let of_reason = |(reason, nodes): (&String, &std::collections::BTreeMap<usize, usize>)| {
        let reason = one_line(reason);
        if nodes.len() > NAMED || *reason == new {
            let calls: usize = nodes.values().sum();
            return vec![format!("{} {reason}", number(calls as u64))];
        }
        let of_node = |(node, calls): (&usize, &usize)| {
            let id = project.graph.id(*node).as_str();
            format!("{} {}: {reason}", number(*calls as u64), one_line(id))
        };
        nodes.iter().map(of_node).collect()
    };
    totals.reasons.iter().flat_map(of_reason).collect()
}

/// What is to be done of one persona.
pub fn persona(project: &Loaded, persona: &PersonaId, outlooks: &[Outlook]) {
    for (node, outlook) in outlooks.iter().enumerate() {
        let (status, about) = match outlook {
            Outlook::Hit | Outlook::Twin => continue,
            Outlook::Call(estimate, Reason::New) => ("call", about(estimate)),
            Outlook::Call(estimate, reason) => ("call", format!("{}, {reason}", about(estimate))),
            Outlook::Depends(estimate) => ("depends", about(estimate)),
            Outlook::CutOff(cut) => ("failed", cut.to_string()),
            Outlook::Skipped => ("skipped", "needs one that fails".to_owned()),
        };
        outln!(
            "{status:<8} {}/{}  {}",
            one_line(persona.as_str()),
            one_line(project.graph.id(node).as_str()),
            one_line(&about)
        );
    }
}

fn about(estimate: &Estimate) -> String {
    format!("about {} tokens", number(estimate.input + estimate.output))
}

/// Prints a line, broken between words where it is too long.
pub fn line(label: &str, text: &str) {
    let mut rest = text;
    let mut label = label;
    loop {
        let part = &rest[..end_of_line(rest)];
        outln!("{label:<INDENT$}{part}");
        rest = rest[part.len()..].trim_start();
        label = "";
        if rest.is_empty() {
            return;
        }
    }
}

/// Where a text is broken so that it fits into what is left of a line.
fn end_of_line(text: &str) -> usize {
    let room = WIDTH - INDENT;
    let width = console::measure_text_width;
    if width(text) <= room {
        return text.len();
    }
    let breaks = text.match_indices(' ').map(|(at, _)| at);
    let fits = breaks.clone().take_while(|&at| width(&text[..at]) <= room).last();
    fits.or(breaks.into_iter().next()).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_between_words() {
        let text = "word ".repeat(20);
        let first = end_of_line(&text);
        assert_eq!(&text[first..=first], " ");
        assert!(first <= WIDTH - INDENT && first > 60);
        let word = "w".repeat(90);
        assert_eq!(end_of_line(&word), 90);
        assert_eq!(end_of_line(&format!("{word} x")), 90);
    }
}
