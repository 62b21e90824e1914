//! From the file as written to a pipeline that can be run: defaults filled in, what bears on
//! something else checked against it. It does not know TOML.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Number, Value};
use toml::Spanned;

use super::file::{self, File};
use super::source::Source;
use super::{Config, Model, Node, ProviderKind, Retry, Schedule, Simulator};
use super::{cache, needs, paths, provider};
use crate::call::CacheHint;
use crate::names::NodeId;
use crate::wording::{listed, suggest};

/// The model of the simulator where none is named: a server has no such default.
const SIMULATED_MODEL: &str = "simulator";

/// Longer names serve nobody and break tables.
const LONGEST_ID: usize = 100;

/// Resolves the file. What is wrong is noted in `source`; `None` if there was nothing to resolve.
pub(super) fn check(source: &Source<'_>, file: File<'_>) -> Option<Config> {
    ids(source, &file.nodes);
    let needs = needs::resolve(source, &file.nodes);
    let result = result(source, &file, needs.as_deref());
    let provider = provider::check(source, &file.provider, simulator(&file.simulator));
    let retry = retry(source, &file.retry);
    let cache = cache::setting(source, file.provider.prompt_cache.as_ref());
    let prefix = cache::order(source, file.prefix.as_ref());
    let paths = paths::check(source, &file);
    let simulated = match &provider {
        Some(provider) => match &provider.kind {
            ProviderKind::Simulator(simulator) => Some(simulator),
            ProviderKind::OpenAi { .. } => None,
        },
        None => None,
    };
    let models: Vec<Option<Model>> = file
        .nodes
        .iter()
        .map(|node| {
            let mut model = model(&file.model, node, simulated, provider.is_some())?;
            model.cache = cache::hint(cache, &provider.as_ref()?.kind, &model.name, &model.parameters);
            Some(model)
        })
        .collect();
    let nodes = file
        .nodes
        .iter()
        .zip(models)
        .zip(needs?)
        .map(|((node, model), needs)| {
            Some(Node {
                id: id(node),
                needs: needs.into_iter().map(|index| id(&file.nodes[index])).collect(),
                system: template(&node.system, &file.system),
                context: template(&node.context, &file.context),
                prompt: node.prompt.as_ref()?.get_ref().clone(),
                vars: node.vars.clone(),
                model: model?,
                variant: node.variant.as_deref().map(Arc::from),
                checks: Arc::new(node.checks.0.clone()),
                schema_file: node.checks.1.clone(),
                line: source.line(node.section.at),
            })
        });
    Some(Config {
        file: source.file().clone(),
        nodes: nodes.collect::<Option<_>>()?,
        personas: paths.personas,
        personas_line: file
            .pipeline
            .personas
            .as_ref()
            .map(|folder| source.line(folder.span().start)),
        output: paths.output,
        result: result?,
        provider: provider?,
        limits: file.limits.clone(),
        retry,
        schedule: Schedule { prefix },
        prices: file.prices.clone(),
        template_lines: template_lines(source, &file),
    })
}

fn id(node: &file::Node<'_>) -> NodeId {
    NodeId::from(node.id.get_ref().as_str())
}

/// A node's template: its own, else the default; an empty text is none.
fn template(own: &Option<Spanned<String>>, default: &Option<Spanned<String>>) -> Option<String> {
    let path = own.as_ref().or(default.as_ref())?.get_ref();
    (!path.is_empty()).then(|| path.clone())
}

/// The line that first names each template.
fn template_lines(source: &Source<'_>, file: &File<'_>) -> BTreeMap<String, usize> {
    let own = file
        .nodes
        .iter()
        .flat_map(|node| [&node.system, &node.context, &node.prompt]);
    let mut lines = BTreeMap::new();
    for path in [&file.system, &file.context].into_iter().chain(own).flatten() {
        let line = source.line(path.span().start);
        lines.entry(path.get_ref().clone()).or_insert(line);
    }
    lines
}

/// Checks the names of the nodes and that there is one.
fn ids(source: &Source<'_>, nodes: &[file::Node<'_>]) {
    if nodes.is_empty() && !source.has_errors() {
        let hint = "add one: `[[node]]` with `id` and `prompt`".to_owned();
        source.error(0, "the pipeline has no node".to_owned(), Some(hint));
    }
    let mut lines = BTreeMap::new();
    for node in nodes {
        let (id, at) = (node.id.get_ref().as_str(), node.id.span().start);
        if let Some(wrong) = wrong_id(id) {
            let message = match id {
                "" => "the `id` of a node is empty".to_owned(),
                _ => format!("`{id}` cannot be the `id` of a node: {wrong}"),
            };
            let hint = "an id is part of `PERSONA/NODE`: use letters, digits, `-`, `_` and `.`".to_owned();
            source.error(at, message, Some(hint));
        } else if let Some(line) = lines.insert(id, source.line(at)) {
            let message = format!("two nodes have the id `{id}`: the other is in line {line}");
            source.error(at, message, Some("give each node an id of its own".to_owned()));
        }
    }
}

/// What is wrong with the name of a node, if anything.
fn wrong_id(id: &str) -> Option<&'static str> {
    if id.is_empty() {
        Some("it is empty")
    } else if id == "." || id == ".." {
        Some("it means a folder")
    } else if id.chars().any(char::is_control) {
        Some("it has a control character")
    } else if id.contains(['/', '\\']) {
        Some("it has a slash")
    } else if id.contains(needs::WILDCARDS) || id.contains([']', '}']) {
        Some("it has a wildcard")
    } else if id.trim() != id {
        Some("it begins or ends with a space")
    } else if id.chars().count() > LONGEST_ID {
        Some("it has more than 100 characters")
    } else {
        None
    }
}

/// The node whose text is the transcript: the named one, or the one that no other needs.
fn result(source: &Source<'_>, file: &File<'_>, needs: Option<&[Vec<usize>]>) -> Option<NodeId> {
    let ids = || file.nodes.iter().map(|node| node.id.get_ref().as_str());
    if let Some(named) = &file.pipeline.result {
        let name = named.get_ref();
        if !ids().any(|id| id == name) && !file.nodes.is_empty() {
            let message = format!("`pipeline.result` names the node `{name}`, which does not exist");
            source.error(named.span().start, message, suggest(name, "the nodes are", ids()));
        }
        return Some(NodeId::from(name.as_str()));
    }
    let needs = needs?;
    let needed = |index: usize| needs.iter().any(|needs| needs.contains(&index));
    let last: Vec<&str> = ids()
        .enumerate()
        .filter(|(index, _)| !needed(*index))
        .map(|(_, id)| id)
        .collect();
    if let [_, second, ..] = last[..] {
        let at = file
            .nodes
            .iter()
            .find(|node| node.id.get_ref() == second)?
            .section
            .at;
        let message = format!(
            "the transcript could come from {} nodes that no other needs: {}",
            last.len(),
            listed(&last)
        );
        let hint = format!(
            "say which: `result = \"{}\"` in `[pipeline]`",
            last[last.len() - 1]
        );
        source.error(at, message, Some(hint));
    }
    last.first().map(|id| NodeId::from(*id))
}

/// The model of a node. `simulated` adds what changes the simulator's text, so that it is part of
/// the key.
fn model(
    default: &file::Model,
    node: &file::Node<'_>,
    simulated: Option<&Simulator>,
    known_provider: bool,
) -> Option<Model> {
    let own = &node.model;
    let name = own.name.as_deref().or(default.name.as_deref());
    let Some(name) = name.or(simulated.map(|_| SIMULATED_MODEL)) else {
        if known_provider {
            let message = format!("node `{}` has no model", node.id.get_ref());
            let hint = "name one for all nodes: `name = \"…\"` in `[model]`".to_owned();
            node.section.error(node.section.at, message, Some(hint));
        }
        return None;
    };
    let mut parameters = default.extra.clone();
    parameters.extend(own.extra.clone());
    let texts = [(
        "reasoning_effort",
        filled(&own.reasoning_effort, &default.reasoning_effort),
    )];
    parameters.extend(
        texts
            .into_iter()
            .filter_map(|(key, text)| Some((key.to_owned(), Value::from(text?)))),
    );
    if let Some(number) = own.temperature.or(default.temperature).and_then(Number::from_f64) {
        parameters.insert("temperature".to_owned(), Value::Number(number));
    }
    if let Some(simulator) = simulated {
        parameters
            .entry("reply_tokens".to_owned())
            .or_insert(simulator.reply_tokens.into());
        parameters
            .entry("seed".to_owned())
            .or_insert(simulator.seed.into());
    }
    Some(Model {
        name: name.into(),
        max_output_tokens: own.max_output_tokens.or(default.max_output_tokens),
        service_tier: filled(&own.service_tier, &default.service_tier).map(Arc::from),
        parameters: Arc::new(parameters),
        cache: CacheHint::Nothing,
    })
}

/// A node's text, else the default's; an empty one is none.
fn filled<'a>(own: &'a Option<String>, default: &'a Option<String>) -> Option<&'a str> {
    own.as_deref()
        .or(default.as_deref())
        .filter(|text| !text.is_empty())
}

/// `[simulator]` with its defaults: quick enough to watch, slow enough to see something.
fn simulator(written: &file::Simulator) -> Simulator {
    Simulator {
        latency: written.latency.unwrap_or(Duration::from_millis(500)),
        jitter: written.jitter.unwrap_or(0.3),
        reply_tokens: written.reply_tokens.unwrap_or(400),
        seed: written.seed.unwrap_or(0),
        faults: written.faults,
    }
}

/// `[retry]` with the defaults of the design.
fn retry(source: &Source<'_>, written: &file::Retry) -> Retry {
    let whole =
        |number: Option<u64>, default| number.map_or(default, |n| u32::try_from(n).unwrap_or(u32::MAX));
    let retry = Retry {
        attempts: whole(written.attempts, 6),
        base: written
            .base
            .as_ref()
            .map_or(Duration::from_secs(1), |base| *base.get_ref()),
        max: written
            .max
            .as_ref()
            .map_or(Duration::from_secs(60), |max| *max.get_ref()),
        rejected: whole(written.rejected, 2),
    };
    if let Some(at) = written
        .max
        .as_ref()
        .or(written.base.as_ref())
        .filter(|_| retry.max < retry.base)
    {
        let message = format!(
            "`retry.max` ({:?}) is shorter than `retry.base` ({:?})",
            retry.max, retry.base
        );
        let hint = "the pause grows from `base` to `max`".to_owned();
        source.error(at.span().start, message, Some(hint));
    }
    retry
}
