//! Strict templates: a node, a persona and the answers that the node needs → a
//! [`Request`]. It does not know files, and sends nothing.

mod builtins;
mod check;
mod constant;
mod context;
mod environment;
mod error;
mod path;
mod recipe;
mod references;
mod shared;
mod syntax;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::machinery::ast::Stmt;
use minijinja::{Environment, ErrorKind, Value};

use crate::call::{Checks, Delivery, Mark, Message, Request, Role};
use crate::config::{Config, Model};
use crate::names::NodeId;
use crate::persona::Persona;
use context::{Anything, Needs};
use error::{Finding, explain};

pub use error::{PromptError, PromptScope};
pub use recipe::{Recipe, recipes};
pub use references::{clean, references};

/// The most bytes that one template may render to: more than any model reads.
pub(crate) const LARGEST_PART: usize = 16 * 1024 * 1024;

/// The bytes that there is room for before a part grows: most are no longer.
const ROOM: usize = 2048;

/// The templates of a pipeline, compiled once and shared by all threads.
#[derive(Debug)]
pub struct Prompts {
    environment: Environment<'static>,
    provider: Arc<str>,
    nodes: Vec<Node>,
    /// Templates that say the same in all requests of a persona.
    of_persona: BTreeSet<String>,
}

/// What has been rendered of one persona's prompts and says the same in its other requests. Empty at
/// first; for one persona only.
#[derive(Debug, Default)]
pub struct Parts(Mutex<BTreeMap<String, Arc<str>>>);

/// What a node's prompt is made of.
#[derive(Debug)]
struct Node {
    id: NodeId,
    system: Option<String>,
    context: Option<String>,
    prompt: String,
    vars: Value,
    needs: Vec<NodeId>,
    model: Model,
    variant: Option<Arc<str>>,
    checks: Arc<Checks>,
    /// Which of its parts other requests begin with too.
    shared: shared::Shared,
}

impl Prompts {
    /// Compiles the templates that the nodes name, and those that they include, and checks every
    /// name in them that does not depend on a persona, for every node and in every branch that the
    /// node can take. `templates` holds sources by the path that stands in `pipeline.toml`.
    ///
    /// # Errors
    /// All that is wrong, with file and line; at least one, all of [`PromptScope::Template`].
    pub fn compile(config: &Config, templates: &BTreeMap<String, String>) -> Result<Self, Vec<PromptError>> {
        let sources: BTreeMap<String, String> = templates
            .iter()
            .map(|(name, source)| (clean(name), unified(source)))
            .collect();
        let mut nodes: Vec<Node> = config.nodes.iter().map(Node::new).collect();
        let mut errors = absent(config, &nodes, &sources);
        let (trees, wrong) = parsed(&nodes, &sources);
        errors.extend(wrong);
        if !errors.is_empty() {
            return Err(errors);
        }
        for (node, shared) in nodes.iter_mut().zip(shared::of(config, &trees, &sources)) {
            node.shared = shared;
        }
        let environment = compiled(&trees, &sources).map_err(|finding| vec![finding.of(None, None)])?;
        let mut prompts = Self {
            environment,
            provider: config.provider.name.clone(),
            nodes,
            of_persona: BTreeSet::new(),
        };
        let trees = trees.iter().map(|(name, tree)| (*name, tree)).collect();
        prompts.of_persona = shared::of_persona(&trees, &sources);
        for node in &prompts.nodes {
            prompts.check(node, &trees, &mut errors);
        }
        if errors.is_empty() {
            Ok(prompts)
        } else {
            Err(errors)
        }
    }

    /// Checks one node; an error that another node has already had at the same place is not said
    /// again.
    fn check(&self, node: &Node, trees: &check::Trees<'_>, errors: &mut Vec<PromptError>) {
        let seen = node.seen(Value::from_object(Anything::new()), node.rehearsed_needs());
        let mut found = Vec::new();
        for template in node.templates() {
            found.extend(check::check(template, trees, &seen, &self.environment));
        }
        if found.is_empty() {
            let rehearsed = node
                .templates()
                .filter_map(|template| self.rehearse(template, &seen));
            found.extend(rehearsed);
        }
        for finding in found {
            let error = finding.of(Some(&node.id), None);
            let same = |other: &PromptError| {
                (&other.file, other.line, &other.message) == (&error.file, error.line, &error.message)
            };
            if !errors.iter().any(same) {
                errors.push(error);
            }
        }
    }

    /// Renders a template for a persona of which nothing is known; says only what would go wrong
    /// for every persona.
    fn rehearse(&self, template: &str, seen: &Value) -> Option<Finding> {
        let error = self.render(template, seen).err()?;
        let finding = explain(&error, seen, template);
        let certain = finding.scope == PromptScope::Template && error::is_certain(&error);
        let certain = certain || error::is_endless(&error);
        certain.then_some(Finding {
            scope: PromptScope::Template,
            ..finding
        })
    }

    /// Renders what is sent for a node of a persona. `needs` are the accepted answers of the nodes
    /// that it needs, in any order.
    ///
    /// # Errors
    /// With [`PromptScope::Persona`], what this persona lacks; with [`PromptScope::Template`],
    /// what is wrong for all of them and could not be seen before.
    ///
    /// # Panics
    /// If `node` is no index of the pipeline's nodes, or a needed answer is not among `needs`.
    pub fn request(
        &self,
        node: usize,
        persona: &Persona,
        needs: &[(&NodeId, &str)],
    ) -> Result<Request, PromptError> {
        self.next_request(node, persona, needs, &Parts::default())
    }

    /// As [`Prompts::request`], for one who renders several nodes of the persona: what they share
    /// is rendered once, and taken from `parts` from then on.
    ///
    /// # Errors
    /// Those of [`Prompts::request`].
    ///
    /// # Panics
    /// Where [`Prompts::request`] does.
    pub fn next_request(
        &self,
        node: usize,
        persona: &Persona,
        needs: &[(&NodeId, &str)],
        parts: &Parts,
    ) -> Result<Request, PromptError> {
        let node = &self.nodes[node];
        let needs = node.needs.iter().map(|id| {
            let found = needs.iter().find(|(other, _)| *other == id);
            *found.expect("BUG: a node is rendered before what it needs is answered")
        });
        let seen = node.seen(persona.value().clone(), Needs::new(needs));
        let (messages, shared) = self
            .messages(node, &seen, parts)
            .map_err(|finding| finding.of(Some(&node.id), Some(persona.id())))?;
        Ok(Request {
            provider: self.provider.clone(),
            model: node.model.name.clone(),
            messages,
            parameters: node.model.parameters.clone(),
            variant: node.variant.clone(),
            delivery: Delivery {
                max_output_tokens: node.model.max_output_tokens,
                service_tier: node.model.service_tier.clone(),
                shared,
                cache: node.model.cache,
                checks: node.checks.clone(),
            },
        })
    }

    /// What is said, and where in it the shared parts end.
    fn messages(
        &self,
        node: &Node,
        seen: &Value,
        parts: &Parts,
    ) -> Result<(Vec<Message>, Vec<Mark>), Finding> {
        let part = |template: &str| {
            let rendered = self.render(template, seen);
            rendered.map_err(|error| explain(&error, seen, template))
        };
        let once = |template: &str| match self.of_persona.contains(template) {
            true => parts.get_or(template, || part(template)),
            false => part(template),
        };
        let system = node.system.as_deref().map(once).transpose()?.unwrap_or_default();
        let context = node.context.as_deref().map(once).transpose()?.unwrap_or_default();
        let prompt = part(&node.prompt)?;
        if context.is_empty() && prompt.is_empty() {
            return Err(Finding {
                scope: PromptScope::Persona,
                file: node.prompt.clone(),
                line: None,
                message: "the prompt is empty".to_owned(),
                hint: Some("its template prints nothing here: is a file of the persona empty?".to_owned()),
            });
        }
        let mut messages = Vec::with_capacity(2);
        let mut marks = Vec::new();
        if !system.is_empty() {
            if node.shared.system {
                let bytes = system.len();
                marks.push(Mark { message: 0, bytes });
            }
            messages.push(Message {
                role: Role::System,
                content: system,
            });
        }
        let mut content = context;
        content.reserve_exact(prompt.len() + 2);
        if !content.is_empty() && !prompt.is_empty() {
            content.push_str("\n\n");
        }
        if node.shared.context && !content.is_empty() {
            let (message, bytes) = (messages.len(), content.len());
            marks.push(Mark { message, bytes });
        }
        content.push_str(&prompt);
        messages.push(Message {
            role: Role::User,
            content,
        });
        Ok((messages, marks))
    }

    /// Renders one template, without newlines at its end; only white space is nothing.
    fn render(&self, template: &str, seen: &Value) -> Result<String, minijinja::Error> {
        let mut output = Bounded(Vec::with_capacity(ROOM));
        self.environment
            .get_template(template)?
            .render_captured_to(seen.clone(), &mut output)?;
        let mut text =
            String::from_utf8(output.0).map_err(|_| minijinja::Error::from(ErrorKind::WriteFailure))?;
        text.truncate(text.trim_end_matches('\n').len());
        if text.trim().is_empty() {
            text.clear();
        }
        Ok(text)
    }
}

impl Node {
    fn new(node: &crate::config::Node) -> Self {
        let path = |path: &Option<String>| path.as_deref().map(clean);
        Self {
            id: node.id.clone(),
            system: path(&node.system),
            context: path(&node.context),
            prompt: clean(&node.prompt),
            vars: Value::from(minijinja::value::Serde(&node.vars)),
            needs: node.needs.clone(),
            model: node.model.clone(),
            variant: node.variant.clone(),
            checks: node.checks.clone(),
            shared: shared::Shared::default(),
        }
    }

    /// Its templates in the order in which they are sent.
    fn templates(&self) -> impl Iterator<Item = &str> {
        [
            self.system.as_deref(),
            self.context.as_deref(),
            Some(&*self.prompt),
        ]
        .into_iter()
        .flatten()
    }

    /// The names in its templates and what they stand for.
    fn seen(&self, persona: Value, needs: Needs) -> Value {
        Value::from_pairs([
            ("persona", persona),
            ("vars", self.vars.clone()),
            ("needs", Value::from_object(needs)),
        ])
    }

    fn rehearsed_needs(&self) -> Needs {
        Needs::new(self.needs.iter().map(|id| (id, "…")))
    }
}

impl Parts {
    /// The text of a template, rendered unless it has been.
    fn get_or<E>(&self, template: &str, render: impl FnOnce() -> Result<String, E>) -> Result<String, E> {
        let rendered = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = rendered().get(template).cloned();
        if let Some(text) = known {
            return Ok(text.to_string());
        }
        let text = render()?;
        rendered().insert(template.to_owned(), text.as_str().into());
        Ok(text)
    }
}

/// Takes bytes until they are too many.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LARGEST_PART {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A source as the engine gets it: what an editor on another system did to a file must not change
/// a key.
fn unified(source: &str) -> String {
    let source = source
        .strip_prefix('\u{feff}')
        .unwrap_or(source)
        .replace("\r\n", "\n");
    source.trim_end_matches('\n').to_owned()
}

/// The templates that nodes name and that are not there.
fn absent(config: &Config, nodes: &[Node], sources: &BTreeMap<String, String>) -> Vec<PromptError> {
    let mut errors = Vec::new();
    for (node, written) in nodes.iter().zip(&config.nodes) {
        for name in node.templates().filter(|name| !sources.contains_key(*name)) {
            let names = sources.keys().map(String::as_str);
            let finding = Finding::template(
                &config.file,
                Some(written.line),
                format!("the template `{name}` does not exist"),
                crate::wording::nearest(name, names).map(|name| format!("did you mean `{name}`?")),
            );
            errors.push(finding.of(Some(&node.id), None));
        }
    }
    errors
}

/// The syntax trees of all templates that can be reached, and what is wrong with the others.
fn parsed<'a>(
    nodes: &[Node],
    sources: &'a BTreeMap<String, String>,
) -> (BTreeMap<&'a str, Stmt<'a>>, Vec<PromptError>) {
    let mut trees = BTreeMap::new();
    let mut errors = Vec::new();
    let mut waiting: Vec<String> = nodes
        .iter()
        .flat_map(Node::templates)
        .map(str::to_owned)
        .collect();
    while let Some(name) = waiting.pop() {
        let Some((name, source)) = sources
            .get_key_value(&name)
            .filter(|(name, _)| !trees.contains_key(name.as_str()))
        else {
            continue;
        };
        match syntax::tree(source, name) {
            Ok(tree) => {
                errors.extend(
                    references::wrong(name, &tree, sources)
                        .into_iter()
                        .map(|finding| finding.of(None, None)),
                );
                waiting.extend(
                    references::of(&tree)
                        .into_iter()
                        .flat_map(|reference| reference.names.unwrap_or_default()),
                );
                trees.insert(name.as_str(), tree);
            }
            Err(finding) => {
                let error = finding.of(None, None);
                if !errors.contains(&error) {
                    errors.push(error);
                }
            }
        }
    }
    (trees, errors)
}

/// An engine with all these templates.
fn compiled(
    trees: &BTreeMap<&str, Stmt<'_>>,
    sources: &BTreeMap<String, String>,
) -> Result<Environment<'static>, Finding> {
    let mut environment = environment::environment();
    for name in trees.keys() {
        environment
            .add_template_owned((*name).to_owned(), sources[*name].clone())
            .map_err(|error| explain(&error, &Value::UNDEFINED, name))?;
    }
    Ok(environment)
}
