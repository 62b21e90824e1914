//! What the figures of a plan rest on, in words and for `--json`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::plan::Foreseen;
use crate::cli::plan::time::LatencyFrom;
use crate::cli::provider;
use crate::config::ProviderKind;
use crate::plan::Counts;
use crate::printable::one_line;
use crate::report::figures::{count, duration as words, number};
use crate::tariff::Tariff;

/// So many nodes are named.
const NAMED: usize = 3;

/// Nodes whose input rests on the same.
struct Input {
    counts: Kind,
    nodes: Vec<usize>,
    /// How many of their requests were counted, and how many there are.
    requests: u64,
    of: u64,
}

/// From what tells most to what tells least.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Server,
    Tokenizer(&'static str),
    OtherModel,
    Characters,
}

fn inputs(foreseen: &Foreseen<'_>) -> Vec<Input> {
    let mut inputs: BTreeMap<Kind, Input> = BTreeMap::new();
    for &(node, counts, of) in &foreseen.forecast.basis.input {
        let (kind, requests) = match counts {
            Counts::Server => (Kind::Server, 0),
            Counts::Tokenizer { encoding, requests } => (Kind::Tokenizer(encoding.name()), requests),
            Counts::OtherModel => (Kind::OtherModel, 0),
            Counts::Characters => (Kind::Characters, 0),
        };
        let input = inputs.entry(kind).or_insert(Input {
            counts: kind,
            nodes: Vec::new(),
            requests: 0,
            of: 0,
        });
        input.nodes.push(node);
        input.requests += requests;
        input.of += of;
    }
    inputs.into_values().collect()
}

/// As people read it.
pub fn text(foreseen: &Foreseen<'_>) -> String {
    let basis = &foreseen.forecast.basis;
    let mut parts = Vec::new();
    match basis.answers {
        0 => parts.push("no earlier answers: each may be as long as its limit allows".to_owned()),
        answers => parts.push(count(answers, "earlier answer")),
    }
    if basis.answers > 0 && !basis.unknown.is_empty() {
        let nodes = named(foreseen, &basis.unknown);
        let share = number((basis.unknown_share * 100.0).round() as u64);
        parts.push(format!(
            "none of {nodes}: taken to use {share} % of the limit, as the others do"
        ));
    }
    if !basis.other_model.is_empty() {
        parts.push(format!(
            "of another model for {}",
            named(foreseen, &basis.other_model)
        ));
    }
    let inputs = inputs(foreseen);
    for input in &inputs {
        let whose = match inputs.len() {
            1 => String::new(),
            _ => format!(" for {}", named(foreseen, &input.nodes)),
        };
        parts.push(format!("{}{whose}", counted(foreseen, input)));
    }
    let call = words(foreseen.time.call);
    parts.push(match foreseen.time.latency {
        LatencyFrom::Answers => format!("{call} a call as before"),
        LatencyFrom::Simulator => format!("{call} a call (`simulator.latency`)"),
        LatencyFrom::Nothing => format!("{call} a call, which is a guess"),
    });
    if has_cache_price(foreseen) && foreseen.forecast.cached == 0.0 {
        parts.push("nothing read from the provider's cache".to_owned());
    }
    parts.join("; ")
}

fn counted(foreseen: &Foreseen<'_>, input: &Input) -> String {
    match input.counts {
        Kind::Server => "input as the server counted before".to_owned(),
        Kind::Tokenizer(name) => {
            let (requests, of) = (number(input.requests), count(input.of, "request"));
            format!("input counted with {name} on {requests} of {of}")
        }
        Kind::OtherModel => "input as another model counted".to_owned(),
        Kind::Characters if provider::is_simulated(&foreseen.project.config.provider) => {
            "a token for 4 characters of input".to_owned()
        }
        Kind::Characters => {
            let nodes = &foreseen.project.config.nodes;
            let models = input.nodes.iter().map(|&node| &*nodes[node].model.name);
            let mut models: Vec<String> = models.map(|name| format!("`{}`", one_line(name))).collect();
            models.sort();
            models.dedup();
            format!(
                "a token for 4 characters of input, since no tokenizer of {} is public",
                models.join(", ")
            )
        }
    }
}

fn named(foreseen: &Foreseen<'_>, nodes: &[usize]) -> String {
    let graph = &foreseen.project.graph;
    let names = nodes.iter().take(NAMED).map(|&node| graph.id(node).as_str());
    let names = names.collect::<Vec<_>>().join(", ");
    match nodes.len().checked_sub(NAMED).filter(|others| *others > 0) {
        Some(others) => one_line(&format!("{names} and {others} others")),
        None => one_line(&names),
    }
}

fn has_cache_price(foreseen: &Foreseen<'_>) -> bool {
    let config = &foreseen.project.config;
    !matches!(config.provider.kind, ProviderKind::Simulator(_))
        && config
            .prices
            .values()
            .map(Tariff::usual)
            .any(|price| price.cached_input < price.input)
}

/// As programs read it (`docs/json.md`).
pub fn json(foreseen: &Foreseen<'_>) -> Value {
    let basis = &foreseen.forecast.basis;
    let ids = |nodes: &[usize]| -> Vec<_> {
        nodes
            .iter()
            .map(|&node| foreseen.project.graph.id(node))
            .collect()
    };
    let inputs = inputs(foreseen);
    let tokenizers = inputs.iter().filter_map(|input| match input.counts {
        Kind::Tokenizer(name) => Some(json!({
            "encoding": name, "requests": input.requests, "of": input.of, "nodes": ids(&input.nodes),
        })),
        _ => None,
    });
    let by_characters = inputs.iter().find(|input| input.counts == Kind::Characters);
    json!({
        "answers": basis.answers,
        "nodes_without_answers": ids(&basis.unknown),
        "share_of_limits": basis.unknown_share,
        "nodes_of_other_models": ids(&basis.other_model),
        // What tells least of all that it rests on.
        "input": inputs.last().map_or("characters", |input| match input.counts {
            Kind::Server => "server_counts",
            Kind::Tokenizer(_) => "tokenizer",
            Kind::OtherModel => "other_models_counts",
            Kind::Characters => "characters",
        }),
        "tokenizers": tokenizers.collect::<Vec<_>>(),
        "nodes_by_characters": ids(by_characters.map_or(&[], |input| &input.nodes)),
        "latency": match foreseen.time.latency {
            LatencyFrom::Answers => "answers",
            LatencyFrom::Simulator => "simulator",
            LatencyFrom::Nothing => "guess",
        },
    })
}
