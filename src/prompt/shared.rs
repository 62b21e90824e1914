//! Which parts of a node's prompt other requests begin with too, read off the pipeline: a mark
//! after a part that nobody else sends would pay a provider for keeping it, and nobody would read
//! it. It does not render.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::machinery::ast::Stmt;
use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::check::{Trees, reachable};
use super::references::clean;
use crate::call::prompt_cache::RENDERED;
use crate::config::{Config, Node};

/// The parts of a node's prompt after which a mark is worth it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shared {
    pub(super) system: bool,
    pub(super) context: bool,
}

/// The templates that say the same in all requests of a persona: they are made of its files alone.
pub(super) fn of_persona(trees: &Trees<'_>, sources: &BTreeMap<String, String>) -> BTreeSet<String> {
    let depends = |template: &str| {
        let within = reachable(template, trees);
        let words = ["vars", "needs"];
        within
            .iter()
            .any(|name| words.iter().any(|word| mentions(&sources[*name], word)))
    };
    let alone = trees.keys().filter(|template| !depends(template));
    alone.map(|template| (*template).to_owned()).collect()
}

/// Looks through the pipeline; one for each node.
pub(super) fn of(
    config: &Config,
    trees: &BTreeMap<&str, Stmt<'_>>,
    sources: &BTreeMap<String, String>,
) -> Vec<Shared> {
    let trees: Trees<'_> = trees.iter().map(|(name, tree)| (*name, tree)).collect();
    let mentions = |template: &Option<String>, word: &str| {
        template.as_ref().is_some_and(|template| {
            let template = clean(template);
            let within = reachable(&template, &trees);
            within.iter().any(|name| mentions(&sources[*name], word))
        })
    };
    let same_for_all = |template| !mentions(template, "persona") && !mentions(template, "needs");
    let alike = |one: &Node, other: &Node| {
        let parts = |node: &Node| [node.system.clone(), node.context.clone()];
        let uses = |word| parts(one).iter().any(|part| mentions(part, word));
        one.model.name == other.model.name
            && RENDERED
                .iter()
                .all(|name| one.model.parameters.get(*name) == other.model.parameters.get(*name))
            && parts(one) == parts(other)
            && (one.vars == other.vars || !uses("vars"))
            && (one.needs == other.needs || !uses("needs"))
    };
    let nodes = config.nodes.iter().enumerate();
    nodes
        .map(|(index, node)| {
            let mut others = config
                .nodes
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index);
            let siblings = others.any(|(_, other)| alike(node, other));
            Shared {
                system: same_for_all(&node.system) || siblings && node.context.is_none(),
                context: siblings || same_for_all(&node.system) && same_for_all(&node.context),
            }
        })
        .collect()
}

/// True where a name stands anywhere in a template's code.
fn mentions(source: &str, word: &str) -> bool {
    tokenize(source, false, SyntaxConfig::default())
        .map_while(Result::ok)
        .any(|(token, _)| matches!(token, Token::Ident(name) if name == word))
}
