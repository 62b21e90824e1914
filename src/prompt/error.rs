//! What is wrong with a prompt: whom it concerns, where it is, and what was probably meant. It
//! turns the words of the template engine into septet's; it does not render anything.

use std::fmt;
use std::sync::Arc;

use minijinja::machinery::parse_expr;
use minijinja::value::ValueKind;
use minijinja::{ErrorKind, Value};

use super::builtins::IMPLICIT;
use super::context::Needs;
use super::path::{Path, Step};
use crate::names::{Instance, NodeId, PersonaId};
use crate::printable::one_line;
use crate::wording::{listed, nearest};

/// Whom a [`PromptError`] concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptScope {
    /// The template itself is wrong, for every persona: nothing may be sent.
    Template,
    /// The template and this persona do not fit: it fails alone, before its first call.
    Persona,
}

/// Why a prompt cannot be made.
///
/// Its `Display` is the whole of it but the word `error:`: message, place and hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptError {
    /// Whom it concerns.
    pub scope: PromptScope,
    /// The node whose prompt it is; `None` where a template is no template at all.
    pub node: Option<NodeId>,
    /// The persona for which it was rendered, where it was.
    pub persona: Option<PersonaId>,
    /// The template, or `pipeline.toml`.
    pub file: Arc<str>,
    /// The line in it, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong, in one line: lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl PromptError {
    /// Message and place in one line, for a table or a log.
    pub fn summary(&self) -> String {
        format!("{} ({})", self.message, self.place())
    }

    fn place(&self) -> String {
        match self.line {
            Some(line) => format!("{}:{line}", self.file),
            None => self.file.to_string(),
        }
    }
}

impl fmt::Display for PromptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.persona, &self.node) {
            (Some(persona), Some(node)) => write!(f, "`{}`: ", Instance::new(persona.clone(), node.clone()))?,
            (_, Some(node)) => write!(f, "node `{node}`: ")?,
            _ => {}
        }
        write!(f, "{}\n  --> {}", self.message, self.place())?;
        match &self.hint {
            Some(hint) => write!(f, "\n\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for PromptError {}

/// What is wrong at one place of a template, before it is known whose prompt it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) scope: PromptScope,
    pub(super) file: String,
    pub(super) line: Option<usize>,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Finding {
    /// A finding about a template itself.
    pub(super) fn template(file: &str, line: Option<usize>, message: String, hint: Option<String>) -> Self {
        Self {
            scope: PromptScope::Template,
            file: file.to_owned(),
            line,
            message,
            hint,
        }
    }

    /// The error of a node's prompt, rendered for a persona or not.
    pub(super) fn of(self, node: Option<&NodeId>, persona: Option<&PersonaId>) -> PromptError {
        PromptError {
            scope: self.scope,
            node: node.cloned(),
            persona: persona.cloned(),
            file: one_line(&self.file).into(),
            line: self.line,
            message: one_line(&self.message),
            hint: self.hint.as_deref().map(one_line),
        }
    }
}

/// Explains an error of the engine. `seen` is what the template saw; `template` is the file that
/// was rendered, for an error that names none.
pub(super) fn explain(error: &minijinja::Error, seen: &Value, template: &str) -> Finding {
    let error = innermost(error);
    let detail = error.detail().unwrap_or_default();
    let (scope, message, hint) = match undefined_path(detail) {
        Some(path) if !is_dynamic(path) => missing(path, seen),
        // What the engine says of such a path is only half of it.
        Some(_) => (
            PromptScope::Persona,
            format!("{} is not defined", code(error)),
            None,
        ),
        None => (scope_of(error.kind()), words(error, detail), hint_for(error)),
    };
    let (file, line) = origin(detail).unwrap_or((None, None));
    Finding {
        scope,
        file: file.or(error.name()).unwrap_or(template).to_owned(),
        line: line.or(error.line()),
        message,
        hint,
    }
}

/// An error in an included template comes wrapped in one about the inclusion.
fn innermost(mut error: &minijinja::Error) -> &minijinja::Error {
    while let Some(inner) = std::error::Error::source(error).and_then(|e| e.downcast_ref()) {
        error = inner;
    }
    error
}

/// What the template says where the error is, in backticks; `a value` where that is not known.
fn code(error: &minijinja::Error) -> String {
    let range = error.range();
    let code = error
        .template_source()
        .zip(range)
        .and_then(|(source, range)| source.get(range));
    match code.map(str::trim) {
        Some(code) if !code.is_empty() && !code.contains('\n') && code.len() <= 80 => format!("`{code}`"),
        _ => "a value".to_owned(),
    }
}

/// True for an error that says that a template goes on for ever, or prints too much: not what a
/// persona of which nothing is known can be the cause of.
pub(super) fn is_endless(error: &minijinja::Error) -> bool {
    let error = innermost(error);
    matches!(error.kind(), ErrorKind::OutOfFuel | ErrorKind::WriteFailure) || is_too_deep(error)
}

fn is_too_deep(error: &minijinja::Error) -> bool {
    error.detail() == Some("recursion limit exceeded")
}

/// True for an error that no persona could have avoided: it concerns the template by its kind, or
/// by a name without anything dynamic in it.
pub(super) fn is_certain(error: &minijinja::Error) -> bool {
    let path = innermost(error).detail().and_then(undefined_path);
    path.is_none_or(|path| !is_dynamic(path))
}

/// True where the engine leaves a part of a path out.
fn is_dynamic(path: &str) -> bool {
    path.contains("(...)") || path.contains("[...]")
}

/// The name that the engine calls undefined in its words: "`persona.x` is undefined".
fn undefined_path(detail: &str) -> Option<&str> {
    let before = &detail[..detail.find("` is undefined")?];
    Some(&before[before.rfind('`')? + 1..])
}

/// Where an undefined value came from, if not from where it was used: "(from line 3)" or "(from
/// prompts/part.md:3)".
fn origin(detail: &str) -> Option<(Option<&str>, Option<usize>)> {
    let place = detail.rsplit_once("from ")?.1.trim_end_matches(')');
    match place.strip_prefix("line ") {
        Some(line) => Some((None, line.parse().ok())),
        None => {
            let (file, line) = place.rsplit_once(':')?;
            Some((Some(file), Some(line.parse().ok()?)))
        }
    }
}

/// The words for a name that is not there, with the names that are.
fn missing(text: &str, seen: &Value) -> (PromptScope, String, Option<String>) {
    let message = format!("`{text}` is not defined");
    let parsed = parse_expr(text).ok();
    let Some(path) = parsed.as_ref().and_then(Path::of) else {
        return (PromptScope::Persona, message, None);
    };
    let scope = match path.root {
        root if root == "vars" || root == "needs" || IMPLICIT.contains(&root) => PromptScope::Template,
        _ => PromptScope::Persona,
    };
    (scope, message, hint_for_path(&path, seen))
}

/// The nearest name to the first step of a path that leads nowhere, or all that there are.
pub(super) fn hint_for_path(path: &Path<'_>, seen: &Value) -> Option<String> {
    let mut at = seen.get_attr(path.root).ok()?;
    if at.is_undefined() {
        return None;
    }
    let mut so_far = path.root.to_owned();
    for step in &path.steps {
        let next = step.of(&at)?;
        if next.is_undefined() {
            return Some(names_of(&at, &so_far, step));
        }
        step.append_to(&mut so_far);
        at = next;
    }
    None
}

/// What there is instead of `wanted` in a value.
fn names_of(value: &Value, path: &str, wanted: &Step<'_>) -> String {
    let names: Vec<String> = match value.downcast_object_ref::<Needs>() {
        Some(needs) => needs.ids().map(str::to_owned).collect(),
        None if value.kind() == ValueKind::Map => {
            let keys = value.try_iter().into_iter().flatten();
            keys.map(|key| key.to_string()).collect()
        }
        None => return without_names(value, path, wanted),
    };
    let Step::Name(word) = wanted else {
        return format!("`{path}` has {}", all(&names));
    };
    if names.is_empty() && path == "needs" {
        return format!("this node needs no other: write `needs = [\"{word}\"]` in `pipeline.toml`");
    }
    match nearest(word, names.iter().map(String::as_str)) {
        Some(name) => {
            let mut near = path.to_owned();
            Step::Name(name).append_to(&mut near);
            format!("did you mean `{near}`?")
        }
        None => format!("`{path}` has {}", all(&names)),
    }
}

/// The hint for a step into something that is no table.
fn without_names(value: &Value, path: &str, wanted: &Step<'_>) -> String {
    match (value.kind(), wanted, value.len()) {
        (ValueKind::Seq, Step::Index(_), Some(length)) => {
            format!("`{path}` has {length} items, the first is 0")
        }
        (ValueKind::Seq, ..) => format!("`{path}` is a list: use `{{% for item in {path} %}}`"),
        (ValueKind::String, ..) => format!("`{path}` is a text and has nothing in it"),
        (kind, ..) => format!("`{path}` is a {kind} and has nothing in it"),
    }
}

fn all(names: &[String]) -> String {
    if names.is_empty() {
        "nothing in it".to_owned()
    } else {
        listed(names)
    }
}

/// What the engine calls by these kinds is wrong with every persona; the others depend on values.
pub(super) fn scope_of(kind: ErrorKind) -> PromptScope {
    match kind {
        ErrorKind::SyntaxError
        | ErrorKind::TemplateNotFound
        | ErrorKind::UnknownFilter
        | ErrorKind::UnknownTest
        | ErrorKind::UnknownFunction
        | ErrorKind::UnknownMethod
        | ErrorKind::UnknownBlock
        | ErrorKind::MissingArgument
        | ErrorKind::TooManyArguments => PromptScope::Template,
        _ => PromptScope::Persona,
    }
}

fn words(error: &minijinja::Error, detail: &str) -> String {
    match error.kind() {
        ErrorKind::OutOfFuel => "the template does not come to an end: it was stopped".to_owned(),
        _ if is_too_deep(error) => "templates include or call each other without an end".to_owned(),
        ErrorKind::WriteFailure => format!(
            "the prompt is longer than {} MB",
            super::LARGEST_PART / 1024 / 1024
        ),
        ErrorKind::UndefinedError => format!("{} gets a value that is not defined", code(error)),
        ErrorKind::SyntaxError => format!("not a valid template: {detail}"),
        kind if detail.is_empty() => format!("{kind} in {}", code(error)),
        _ => format!("{detail} in {}", code(error)),
    }
}

fn hint_for(error: &minijinja::Error) -> Option<String> {
    let hint = match error.kind() {
        ErrorKind::OutOfFuel => "a loop in it runs too long",
        ErrorKind::WriteFailure => {
            "a loop in it prints too much, or a file of the persona is too long for any model"
        }
        ErrorKind::UnknownMethod => {
            "texts and tables have no methods here: use a filter, as in `{{ vars.title | upper }}`"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}
