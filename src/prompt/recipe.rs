//! What decides whether a node has an answer, besides the files of its persona: one digest, by which
//! receipts tell what an edit of the pipeline touches. It does not render.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::references::{clean, references};
use crate::call::Checks;
use crate::config::{Config, Model, Node, ProviderKind, Simulator};
use crate::names::NodeId;

/// The name of a node's recipe: half a blake3.
pub type Recipe = [u8; 16];

/// The recipes of all nodes, in the order of the pipeline. Where a node has the same one as on an
/// earlier day, and its persona the same files, its request is the same, and an answer that served it
/// then serves it now: its templates and those that they include, `vars`, model, limit and checks are
/// the same, and so are those of all nodes that it needs. `templates` holds sources by path, as for
/// [`super::Prompts::compile`].
pub fn recipes(config: &Config, templates: &BTreeMap<String, String>) -> Vec<Recipe> {
    let sources: BTreeMap<String, &str> = templates
        .iter()
        .map(|(name, source)| (clean(name), source.as_str()))
        .collect();
    let mut recipes: HashMap<&NodeId, Recipe> = HashMap::new();
    // Each after those that it needs, whose recipes stand for all that is behind them. A chain may be long:
    // no recursion.
    let nodes: HashMap<&NodeId, &Node> = config.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut open: Vec<(&Node, bool)> = config.nodes.iter().rev().map(|node| (node, false)).collect();
    while let Some((node, needs_are_there)) = open.pop() {
        if recipes.contains_key(&node.id) {
            continue;
        }
        let needs = node.needs.iter().filter_map(|id| nodes.get(id).copied());
        if !needs_are_there {
            open.push((node, true));
            open.extend(needs.map(|need| (need, false)));
            continue;
        }
        // Their names and order are in what is said of the node itself.
        let mut hasher = own(config, node, &sources);
        needs
            .filter_map(|need| recipes.get(&need.id))
            .for_each(|need| _ = hasher.update(need));
        recipes.insert(&node.id, half(&hasher));
    }
    config.nodes.iter().map(|node| recipes[&node.id]).collect()
}

/// What is said of a node itself. Every field is looked at here: one that decides nothing, as `docs/keys.md`
/// says, is named and left out.
fn own(config: &Config, node: &Node, sources: &BTreeMap<String, &str>) -> blake3::Hasher {
    let Node {
        id: _,
        needs,
        system,
        context,
        prompt,
        vars,
        model,
        variant,
        checks,
        schema_file: _,
        line: _,
    } = node;
    let Model {
        name,
        max_output_tokens,
        service_tier: _,
        parameters,
        cache: _,
    } = model;
    let Checks {
        min_chars,
        max_chars,
        must_match,
        must_not_match,
        json_schema,
    } = &**checks;
    let built_in = match &config.provider.kind {
        ProviderKind::Simulator(Simulator {
            reply_tokens, seed, ..
        }) => Some((reply_tokens, seed)),
        ProviderKind::OpenAi { .. } => None,
    };
    let said = format!(
        "{:?}",
        (
            (&config.provider.name, built_in),
            (needs, system, context, prompt, vars),
            (name, max_output_tokens, parameters, variant),
            (min_chars, max_chars, must_match, must_not_match, json_schema),
        )
    );
    let mut hasher = blake3::Hasher::new();
    let mut part = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    part(&said);
    let named = [system.as_deref(), context.as_deref(), Some(prompt.as_str())];
    for name in included(named.into_iter().flatten(), sources) {
        part(&name);
        // Of a list the first that is there is taken, also if it is empty.
        let source = sources.get(&name).copied();
        part(if source.is_some() { "there" } else { "missing" });
        part(source.unwrap_or_default());
    }
    hasher
}

/// These templates and all that they include, by name.
fn included<'a>(named: impl Iterator<Item = &'a str>, sources: &BTreeMap<String, &str>) -> BTreeSet<String> {
    let (mut found, mut open) = (BTreeSet::new(), named.map(clean).collect::<Vec<_>>());
    while let Some(name) = open.pop() {
        if found.insert(name.clone()) {
            open.extend(sources.get(&name).into_iter().flat_map(|text| references(text)));
        }
    }
    found
}

fn half(hasher: &blake3::Hasher) -> Recipe {
    let mut half = [0; 16];
    hasher.finalize_xof().fill(&mut half);
    half
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const PIPELINE: &str = r#"
[pipeline]
result = "c"
[provider]
kind = "simulator"
[model]
name = "m"
[[node]]
id = "a"
prompt = "a.md"
[[node]]
id = "b"
prompt = "b.md"
vars = { title = "T" }
[[node]]
id = "c"
prompt = "c.md"
needs = ["b"]
"#;

    fn of(pipeline: &str, templates: &[(&str, &str)]) -> Vec<Recipe> {
        let config = config::load(pipeline, "pipeline.toml").unwrap();
        let template = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        recipes(&config, &templates.iter().map(template).collect())
    }

    const TEMPLATES: [(&str, &str); 5] = [
        ("a.md", "{% include 'parts/one.md' %}"),
        ("b.md", "B"),
        ("c.md", "{{ needs.b }}"),
        ("parts/one.md", "{% include 'parts/two.md' %}"),
        ("parts/two.md", "two"),
    ];

    /// Which of the three nodes another pipeline or another template touches.
    fn touched(edit: impl Fn(&mut String, &mut [(&'static str, &'static str); 5])) -> [bool; 3] {
        let (mut pipeline, mut templates) = (PIPELINE.to_owned(), TEMPLATES);
        let before = of(&pipeline, &templates);
        edit(&mut pipeline, &mut templates);
        let after = of(&pipeline, &templates);
        [0, 1, 2].map(|node| before[node] != after[node])
    }

    #[test]
    fn an_edit_touches_its_nodes_and_those_that_need_them() {
        let template = |at: usize| touched(|_, templates| templates[at].1 = "another");
        assert_eq!(template(0), [true, false, false]);
        assert_eq!(template(1), [false, true, true], "what needs it is touched too");
        assert_eq!(template(2), [false, false, true]);
        assert_eq!(template(4), [true, false, false], "included by an included one");
        let replaced = |from: &str, to: &str| touched(|pipeline, _| *pipeline = pipeline.replace(from, to));
        assert_eq!(replaced("\"T\"", "\"U\""), [false, true, true]);
        assert_eq!(replaced("name = \"m\"", "name = \"n\""), [true; 3]);
        assert_eq!(replaced("[model]", "[model]\nmax_output_tokens = 9"), [true; 3]);
        assert_eq!(replaced("[model]", "[model]\ntemperature = 0.5"), [true; 3]);
        assert_eq!(replaced("[model]", "[simulator]\nseed = 9\n[model]"), [true; 3]);
        assert_eq!(
            replaced("[model]", "[simulator]\nreply_tokens = 9\n[model]"),
            [true; 3]
        );
        let variant = "prompt = \"b.md\"\nvariant = \"v\"";
        assert_eq!(replaced("prompt = \"b.md\"", variant), [false, true, true]);
        let checked = "prompt = \"b.md\"\nmin_chars = 3";
        assert_eq!(replaced("prompt = \"b.md\"", checked), [false, true, true]);
        assert_eq!(
            replaced("needs = [\"b\"]", "needs = [\"a\"]"),
            [false, false, true]
        );
        assert_eq!(replaced("kind =", "name = \"other\"\nkind ="), [true; 3]);
    }

    /// Nodes that each need all before them: with work for each way through them this would not end.
    #[test]
    fn however_many_ways_lead_to_a_node_it_is_looked_at_once() {
        let of = |first: &str| {
            let mut pipeline =
                "[pipeline]\nresult = 'n199'\n[provider]\nkind = 'simulator'\n[model]\nname = 'm'\n"
                    .to_owned();
            let mut needs = Vec::new();
            // The last comes first in the file.
            let mut nodes = Vec::new();
            for n in 0..200 {
                let vars = if n == 0 { first } else { "later" };
                nodes.push(format!(
                    "[[node]]\nid = 'n{n}'\nprompt = 'a.md'\nneeds = {needs:?}\nvars = {{ v = '{vars}' }}\n"
                ));
                needs.push(format!("n{n}"));
            }
            nodes.reverse();
            pipeline.push_str(&nodes.concat());
            of(&pipeline, &TEMPLATES)
        };
        let (one, other) = (of("one"), of("other"));
        assert_eq!(one.len(), 200);
        assert!(
            one.iter().zip(&other).all(|(one, other)| one != other),
            "all need the first"
        );
        assert_eq!(one.iter().collect::<BTreeSet<_>>().len(), 200);
    }

    #[test]
    fn an_empty_template_is_another_than_none() {
        let list = ("a.md", "{% include ['parts/one.md', 'parts/two.md'] %}");
        let of = |templates: &[(&str, &str)]| of(PIPELINE, templates)[0];
        let rest = [("b.md", "B"), ("c.md", "C"), ("parts/two.md", "two")];
        let without = of(&[&[list], &rest[..]].concat());
        assert_ne!(of(&[&[list, ("parts/one.md", "")], &rest[..]].concat()), without);
    }

    #[test]
    fn what_cannot_change_an_answer_touches_nothing() {
        let replaced = |from: &str, to: &str| touched(|pipeline, _| *pipeline = pipeline.replace(from, to));
        assert_eq!(replaced("[model]", "# A comment.\n\n[model]"), [false; 3]);
        assert_eq!(
            replaced("[model]", "[limits]\nrequests_per_minute = 9\n[model]"),
            [false; 3]
        );
        assert_eq!(
            replaced("[model]", "[model]\nservice_tier = \"flex\""),
            [false; 3]
        );
        assert_eq!(replaced("[model]", "[retry]\nattempts = 9\n[model]"), [false; 3]);
        assert_eq!(
            touched(|_, templates| templates[3].0 = "parts/other.md"),
            [true, false, false]
        );
    }
}
