//! Which other templates a template names, so that whoever reads files can read them too. It does
//! not read any.

use std::collections::BTreeMap;

use minijinja::machinery::ast::{Expr, Stmt};

use super::error::Finding;
use super::syntax::tree;
use super::walk::bodies;
use crate::wording::suggest;

/// A template named by another.
pub(super) struct Reference {
    /// The names that are tried in turn; `None` where they are known only when it is rendered.
    pub(super) names: Option<Vec<String>>,
    /// From 1.
    pub(super) line: usize,
    /// `{% include … ignore missing %}`.
    pub(super) may_be_missing: bool,
}

/// Returns the names of the templates that a template includes, extends or imports. Empty for a
/// template with a syntax error, which [`super::Prompts::compile`] reports.
pub fn references(source: &str) -> Vec<String> {
    // Most templates name no other, and to read one takes a while.
    if !["include", "extends", "import"]
        .iter()
        .any(|tag| source.contains(tag))
    {
        return Vec::new();
    }
    match tree(source, "") {
        Ok(template) => of(&template)
            .into_iter()
            .flat_map(|reference| reference.names.unwrap_or_default())
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// What is wrong with the references in a template.
pub(super) fn wrong(template: &str, tree: &Stmt<'_>, sources: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut found = Vec::new();
    for reference in of(tree) {
        let line = Some(reference.line);
        let Some(names) = reference.names else {
            let message =
                "the name of an included template must stand in quotes, it cannot be put together".to_owned();
            let hint = "choose with `{% if %}` between two inclusions".to_owned();
            found.push(Finding::template(template, line, message, Some(hint)));
            continue;
        };
        if !reference.may_be_missing && !names.iter().any(|name| sources.contains_key(name)) {
            let name = names.first().map_or("", String::as_str);
            let message = format!(
                "the template `{name}` does not exist, or is not in the folder of one that `pipeline.toml` names"
            );
            let hint = suggest(name, "the templates are", sources.keys().map(String::as_str));
            found.push(Finding::template(template, line, message, hint));
        }
    }
    found
}

/// The references of a statement and of those within it.
pub(super) fn of<'a>(stmt: &'a Stmt<'a>) -> Vec<Reference> {
    let mut found = Vec::new();
    collect(stmt, &mut found);
    found
}

fn collect<'a>(stmt: &'a Stmt<'a>, found: &mut Vec<Reference>) {
    let (expr, may_be_missing, line) = match stmt {
        Stmt::Include(include) => (
            Some(&include.name),
            include.ignore_missing,
            include.span().start_line,
        ),
        Stmt::Extends(extends) => (Some(&extends.name), false, extends.span().start_line),
        Stmt::Import(import) => (Some(&import.expr), false, import.span().start_line),
        Stmt::FromImport(import) => (Some(&import.expr), false, import.span().start_line),
        _ => (None, false, 0),
    };
    if let Some(expr) = expr {
        found.push(Reference {
            names: literal(expr),
            line: usize::from(line),
            may_be_missing,
        });
    }
    bodies(stmt)
        .into_iter()
        .flatten()
        .for_each(|stmt| collect(stmt, found));
}

/// The name, or the names of a list, where they stand as such in the template.
fn literal(expr: &Expr<'_>) -> Option<Vec<String>> {
    let text = |expr: &Expr<'_>| Some(clean(expr.as_const()?.as_str()?));
    match expr {
        Expr::List(list) => list.items.iter().map(text).collect(),
        Expr::Tuple(tuple) => tuple.items.iter().map(text).collect(),
        _ => Some(vec![text(expr)?]),
    }
}

/// A path without empty parts and `.`, so that one file has one name.
pub fn clean(path: &str) -> String {
    let absolute = if path.starts_with('/') { "/" } else { "" };
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    format!("{absolute}{}", parts.join("/"))
}
