//! `needs` of the nodes: wildcards become nodes, and a circle is named by its path. It does not
//! know what a node does with what it needs.

use globset::Glob;
use toml::Spanned;

use super::file::Node;
use super::source::Source;
use crate::wording::suggest;

/// What makes an entry of `needs` a pattern instead of a name. No id holds any of these.
pub(super) const WILDCARDS: [char; 4] = ['*', '?', '[', '{'];

/// Comes before the names that there are.
const OTHERS: &str = "the other nodes are";

/// Returns for each node the indices of the nodes it needs, in the order of the file, each once.
/// `None` if an entry could not be resolved or the nodes need each other in a circle: that is
/// noted in `source`.
pub(super) fn resolve(source: &Source<'_>, nodes: &[Node<'_>]) -> Option<Vec<Vec<usize>>> {
    let resolved: Vec<Option<Vec<usize>>> = (0..nodes.len())
        .map(|index| needs_of(source, nodes, index))
        .collect();
    let resolved: Vec<Vec<usize>> = resolved.into_iter().collect::<Option<_>>()?;
    match circle(&resolved) {
        Some(path) => {
            report_circle(source, nodes, &path);
            None
        }
        None => Some(resolved),
    }
}

fn needs_of(source: &Source<'_>, nodes: &[Node<'_>], index: usize) -> Option<Vec<usize>> {
    let node = &nodes[index];
    let mut chosen = vec![false; nodes.len()];
    let mut all_right = true;
    for need in node.needs.as_ref()? {
        let found = if need.get_ref().contains(WILDCARDS) {
            matching(source, nodes, index, need)
        } else {
            named(source, nodes, index, need)
        };
        all_right &= !found.is_empty();
        found.into_iter().for_each(|index| chosen[index] = true);
    }
    all_right.then(|| (0..nodes.len()).filter(|index| chosen[*index]).collect())
}

/// The node of that name, or none with an error.
fn named(source: &Source<'_>, nodes: &[Node<'_>], index: usize, need: &Spanned<String>) -> Vec<usize> {
    let (name, id) = (need.get_ref(), nodes[index].id.get_ref());
    let found = nodes.iter().position(|node| node.id.get_ref() == name);
    if found.is_none() {
        let message = format!("node `{id}` needs `{name}`, which does not exist");
        let hint = suggest(name, OTHERS, others(nodes, index).map(|(_, id)| id));
        source.error(need.span().start, message, hint);
    }
    found.into_iter().collect()
}

/// All other nodes that the pattern matches, or none with an error.
fn matching(source: &Source<'_>, nodes: &[Node<'_>], index: usize, need: &Spanned<String>) -> Vec<usize> {
    let (pattern, id) = (need.get_ref(), nodes[index].id.get_ref());
    let wrong = |what: String, hint: Option<String>| {
        let message = format!("node `{id}` needs `{pattern}`, which {what}");
        source.error(need.span().start, message, hint);
        Vec::new()
    };
    let matcher = match Glob::new(pattern) {
        Ok(glob) => glob.compile_matcher(),
        Err(error) => {
            let hint = "`*` stands for any text, `?` for one character".to_owned();
            return wrong(format!("is no pattern: {}", error.kind()), Some(hint));
        }
    };
    let matches = others(nodes, index).filter(|(_, id)| matcher.is_match(id));
    let found: Vec<usize> = matches.map(|(other, _)| other).collect();
    if found.is_empty() {
        let hint = suggest("", OTHERS, others(nodes, index).map(|(_, id)| id));
        return wrong("matches no other node".to_owned(), hint);
    }
    found
}

/// All nodes but this one, with their ids.
fn others<'n>(nodes: &'n [Node<'_>], index: usize) -> impl Iterator<Item = (usize, &'n str)> {
    let ids = nodes.iter().map(|node| node.id.get_ref().as_str());
    ids.enumerate().filter(move |(other, _)| *other != index)
}

/// A circle, as the nodes on it in order; each needs the next and the last needs the first. The
/// first in the order of the file, if there are several.
fn circle(needs: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut done = vec![false; needs.len()];
    for start in 0..needs.len() {
        // An own stack instead of recursion: a pipeline may be a chain of thousands of nodes.
        let mut path = vec![start];
        let mut next = vec![0];
        let mut on_path = vec![false; needs.len()];
        on_path[start] = true;
        while let (Some(&node), Some(position)) = (path.last(), next.last_mut()) {
            match needs[node].get(*position) {
                Some(&need) if on_path[need] => {
                    let from = path.iter().position(|node| *node == need)?;
                    return Some(path.split_off(from));
                }
                Some(&need) => {
                    *position += 1;
                    if !done[need] {
                        on_path[need] = true;
                        path.push(need);
                        next.push(0);
                    }
                }
                None => {
                    done[node] = true;
                    on_path[node] = false;
                    path.pop();
                    next.pop();
                }
            }
        }
    }
    None
}

fn report_circle(source: &Source<'_>, nodes: &[Node<'_>], path: &[usize]) {
    let Some((&first, at)) = path
        .first()
        .map(|first| (first, nodes[*first].needs.iter().flatten().next()))
    else {
        return;
    };
    let ids = path
        .iter()
        .chain([&first])
        .map(|index| nodes[*index].id.get_ref().as_str());
    let message = format!(
        "nodes need each other in a circle: `{}`",
        ids.collect::<Vec<_>>().join(" -> ")
    );
    let at = at.map_or(nodes[first].section.at, |need| need.span().start);
    let hint = "`a -> b` says that `a` needs `b`: take one of them out of a `needs`".to_owned();
    source.error(at, message, Some(hint));
}
