//! What differs between the inputs of two requests of one node: which template, variable, persona
//! file, parameter or need. Values in, a list out; whether a difference matters is for whoever can
//! render to say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::config::{Config, Node};
use crate::names::NodeId;
use crate::prompt::references;

/// What a request of one node is made of.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The pipeline.
    pub config: Arc<Config>,
    /// Which of its nodes.
    pub node: usize,
    /// Sources of the templates by path.
    pub templates: Arc<BTreeMap<String, String>>,
    /// The persona's files by name.
    pub persona_files: Arc<BTreeMap<String, String>>,
    /// The answers that the prompt uses, in the order of the node's needs.
    pub needs: Vec<(NodeId, String)>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// `provider.name`, or what it defaults to.
    Provider {
        /// As it was.
        before: String,
        /// As it is.
        now: String,
    },
    /// The name of the model.
    Model {
        /// As it was.
        before: String,
        /// As it is.
        now: String,
    },
    /// A parameter of the model; `None`: not set.
    Parameter {
        /// Its name.
        name: String,
        /// As it was.
        before: Option<Value>,
        /// As it is.
        now: Option<Value>,
    },
    /// `variant` of the node; `None`: not set.
    Variant {
        /// As it was.
        before: Option<String>,
        /// As it is.
        now: Option<String>,
    },
    /// Another template takes the part of `system`, `context` or `prompt`; `None`: none does.
    Part {
        /// Which part.
        part: &'static str,
        /// Its template as it was.
        before: Option<String>,
        /// Its template as it is.
        now: Option<String>,
    },
    /// The text of a template that the node uses, itself or through another.
    Template {
        /// Its path.
        path: String,
    },
    /// A variable of the node; `None`: not set.
    Var {
        /// Its name.
        name: String,
        /// As it was.
        before: Option<Value>,
        /// As it is.
        now: Option<Value>,
    },
    /// A file of the persona.
    PersonaFile {
        /// Its name in the persona's folder.
        name: String,
        /// What became of it.
        fate: Fate,
    },
    /// The answer of a node that this one needs.
    Need {
        /// Which node.
        node: NodeId,
        /// What became of it: added and removed are said of the need itself.
        fate: Fate,
    },
}

/// What became of something that is there by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// Its content is another.
    Edited,
}

impl Inputs {
    fn node(&self) -> &Node {
        &self.config.nodes[self.node]
    }

    /// The templates that the node uses, itself or through another.
    fn used_templates(&self) -> BTreeSet<&str> {
        let mut used = BTreeSet::new();
        let mut open: Vec<&str> = parts(self.node())
            .into_iter()
            .filter_map(|(_, path)| path)
            .collect();
        while let Some(path) = open.pop() {
            let Some((path, source)) = self.templates.get_key_value(path) else {
                continue;
            };
            if used.insert(path.as_str()) {
                let named = references(source);
                let known = named.iter().filter_map(|name| self.templates.get_key_value(name));
                open.extend(known.map(|(path, _)| path.as_str()));
            }
        }
        used
    }

    /// These inputs, with one difference to `before` undone.
    pub fn without(&self, change: &Change, before: &Inputs) -> Inputs {
        let mut inputs = self.clone();
        let (index, then) = (self.node, before.node());
        let config = Arc::make_mut(&mut inputs.config);
        let node = &mut config.nodes[index];
        match change {
            Change::Provider { .. } => config.provider.name = before.config.provider.name.clone(),
            Change::Model { .. } => node.model.name = then.model.name.clone(),
            Change::Parameter { .. } => node.model.parameters = then.model.parameters.clone(),
            Change::Variant { .. } => node.variant = then.variant.clone(),
            Change::Part { part, .. } => {
                match *part {
                    "system" => node.system = then.system.clone(),
                    "context" => node.context = then.context.clone(),
                    _ => node.prompt = then.prompt.clone(),
                }
                // The template that took the part may be gone.
                let templates = Arc::make_mut(&mut inputs.templates);
                for (path, source) in &*before.templates {
                    templates.entry(path.clone()).or_insert_with(|| source.clone());
                }
            }
            Change::Template { path } => {
                put_back(Arc::make_mut(&mut inputs.templates), path, &before.templates);
            }
            Change::Var { name, .. } => put_back(&mut node.vars, name, &then.vars),
            Change::PersonaFile { name, .. } => {
                put_back(
                    Arc::make_mut(&mut inputs.persona_files),
                    name,
                    &before.persona_files,
                );
            }
            Change::Need { .. } => {
                node.needs = then.needs.clone();
                inputs.needs = before.needs.clone();
            }
        }
        inputs
    }
}

fn put_back<T: Clone>(map: &mut BTreeMap<String, T>, name: &str, before: &BTreeMap<String, T>) {
    match before.get(name) {
        Some(value) => _ = map.insert(name.to_owned(), value.clone()),
        None => _ = map.remove(name),
    }
}

/// The parts of a node's messages and their templates.
fn parts(node: &Node) -> [(&'static str, Option<&str>); 3] {
    [
        ("system", node.system.as_deref()),
        ("context", node.context.as_deref()),
        ("prompt", Some(node.prompt.as_str())),
    ]
}

/// Everything that differs, the most telling first.
pub fn changes(before: &Inputs, now: &Inputs) -> Vec<Change> {
    let (then, node) = (before.node(), now.node());
    let mut changes = Vec::new();
    if before.config.provider.name != now.config.provider.name {
        changes.push(Change::Provider {
            before: before.config.provider.name.to_string(),
            now: now.config.provider.name.to_string(),
        });
    }
    if then.model.name != node.model.name {
        changes.push(Change::Model {
            before: then.model.name.to_string(),
            now: node.model.name.to_string(),
        });
    }
    for (name, before, now) in unequal(&then.model.parameters, &node.model.parameters) {
        changes.push(Change::Parameter { name, before, now });
    }
    if then.variant != node.variant {
        changes.push(Change::Variant {
            before: then.variant.as_deref().map(str::to_owned),
            now: node.variant.as_deref().map(str::to_owned),
        });
    }
    for ((part, before), (_, now)) in parts(then).into_iter().zip(parts(node)) {
        if before != now {
            let (before, now) = (before.map(str::to_owned), now.map(str::to_owned));
            changes.push(Change::Part { part, before, now });
        }
    }
    let (was_used, used) = (before.used_templates(), now.used_templates());
    let template = |path: &&str| Change::Template {
        path: (*path).to_owned(),
    };
    let edited = |path: &&&str| before.templates.get(**path) != now.templates.get(**path);
    changes.extend(used.intersection(&was_used).filter(edited).map(template));
    // One that only one of both uses is said by what leads to it, unless it came or went by itself: the first
    // of a list that is there is taken.
    let leads = |change: &Change| matches!(change, Change::Part { .. } | Change::Template { .. });
    if !changes.iter().any(leads) {
        changes.extend(used.symmetric_difference(&was_used).map(template));
    }
    for (name, before, now) in unequal(&then.vars, &node.vars) {
        changes.push(Change::Var { name, before, now });
    }
    for (name, before, now) in unequal(&before.persona_files, &now.persona_files) {
        let fate = Fate::of(before.is_some(), now.is_some());
        changes.push(Change::PersonaFile { name, fate });
    }
    let texts = |inputs: &Inputs| inputs.needs.iter().cloned().collect::<BTreeMap<_, _>>();
    for (node, before, now) in unequal(&texts(before), &texts(now)) {
        let fate = Fate::of(before.is_some(), now.is_some());
        changes.push(Change::Need { node, fate });
    }
    changes
}

/// What two maps do not have in common.
fn unequal<K: Ord + Clone, T: PartialEq + Clone>(
    before: &BTreeMap<K, T>,
    now: &BTreeMap<K, T>,
) -> Vec<(K, Option<T>, Option<T>)> {
    let names: BTreeSet<&K> = before.keys().chain(now.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != now.get(*name))
        .map(|name| (name.clone(), before.get(name).cloned(), now.get(name).cloned()))
        .collect()
}

impl Fate {
    fn of(before: bool, now: bool) -> Self {
        match (before, now) {
            (false, _) => Fate::Added,
            (true, false) => Fate::Removed,
            (true, true) => Fate::Edited,
        }
    }
}

impl Change {
    /// The word for it in `--json`.
    pub fn kind(&self) -> &'static str {
        match self {
            Change::Provider { .. } => "provider",
            Change::Model { .. } => "model",
            Change::Parameter { .. } => "parameter",
            Change::Variant { .. } => "variant",
            Change::Part { .. } => "part",
            Change::Template { .. } => "template",
            Change::Var { .. } => "var",
            Change::PersonaFile { .. } => "persona_file",
            Change::Need { .. } => "need",
        }
    }

    /// The words under which many are counted together: without what differs from one persona to
    /// the next.
    pub fn summary(&self) -> String {
        match self {
            Change::Var { name, .. } => format!("`vars.{name}` changed"),
            other => other.to_string(),
        }
    }
}

impl Change {
    /// In so few words that the same change of many personas is told in the same ones.
    pub fn in_short(&self) -> String {
        match self {
            Change::Var { name, .. } => format!("`vars.{name}` changed"),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from_to = |f: &mut fmt::Formatter<'_>, what: &str, before: &str, now: &str| {
            write!(f, "`{what}`: {before} -> {now}")
        };
        match self {
            Change::Provider { before, now } => from_to(f, "provider.name", before, now),
            Change::Model { before, now } => from_to(f, "model.name", before, now),
            Change::Parameter { name, before, now } => {
                let (before, now) = values(before, now);
                from_to(f, name, &before, &now)
            }
            Change::Variant { before, now } => from_to(f, "variant", none(before), none(now)),
            Change::Part { part, before, now } => from_to(f, part, none(before), none(now)),
            Change::Template { path } => write!(f, "template `{path}` changed"),
            Change::Var { name, before, now } => {
                let (before, now) = values(before, now);
                from_to(f, &format!("vars.{name}"), &before, &now)
            }
            Change::PersonaFile { name, fate } => write!(f, "persona file `{name}` {}", fate.word()),
            Change::Need {
                node,
                fate: Fate::Edited,
            } => write!(f, "answer of `{node}` changed"),
            Change::Need { node, fate } => write!(f, "need `{node}` {}", fate.word()),
        }
    }
}

impl Fate {
    fn word(self) -> &'static str {
        match self {
            Fate::Added => "added",
            Fate::Removed => "removed",
            Fate::Edited => "changed",
        }
    }
}

/// The most characters of a value: a brief may be long, and the diff has it whole.
const LONGEST: usize = 60;
/// Characters that are shown before the first difference of two long values.
const LEAD: usize = 12;

/// Two values, long ones from where they differ.
fn values(before: &Option<Value>, now: &Option<Value>) -> (String, String) {
    let text = |value: &Option<Value>| {
        value
            .as_ref()
            .map_or_else(|| "not set".to_owned(), Value::to_string)
    };
    let (before, now) = (text(before), text(now));
    let is_long = |text: &str| text.chars().count() > LONGEST;
    let same = before
        .chars()
        .zip(now.chars())
        .take_while(|(a, b)| a == b)
        .count();
    let from = match is_long(&before) || is_long(&now) {
        true => same.saturating_sub(LEAD),
        false => 0,
    };
    (window(&before, from), window(&now, from))
}

/// So much of a text from a character on, the cuts shown by `…`.
fn window(text: &str, from: usize) -> String {
    let shown: String = text.chars().skip(from).take(LONGEST).collect();
    let begin = if from > 0 { "…" } else { "" };
    let end = if text.chars().count() > from + LONGEST {
        "…"
    } else {
        ""
    };
    format!("{begin}{shown}{end}")
}

fn none(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("none")
}

#[cfg(test)]
#[path = "change/tests.rs"]
mod tests;
