//! One row for each kind of difference; undoing a difference leaves none.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::config as pipeline;

const PIPELINE: &str = r#"
[provider]
kind = "simulator"
[model]
name = "m"
temperature = 0.5
[prompts]
system = "p/system.md"
context = "p/context.md"
[[node]]
id = "a"
prompt = "p/chunk.md"
vars = { brief = "One" }
[[node]]
id = "z"
needs = ["a"]
prompt = "p/combine.md"
"#;

fn inputs(node: usize) -> Inputs {
    let templates = [
        ("p/system.md", "{% include \"p/who.md\" %}"),
        ("p/who.md", "a writer"),
        ("p/context.md", "{{ persona.profile }}"),
        ("p/chunk.md", "{{ vars.brief }}"),
        ("p/combine.md", "{{ needs.a }}"),
        ("p/unused.md", "x"),
    ];
    Inputs {
        config: pipeline::load(PIPELINE, "pipeline.toml").unwrap().into(),
        node,
        templates: Arc::new(
            templates
                .map(|(path, text)| (path.to_owned(), text.to_owned()))
                .into(),
        ),
        persona_files: Arc::new([("profile.md".to_owned(), "Anna".to_owned())].into()),
        needs: match node {
            0 => Vec::new(),
            _ => vec![("a".into(), "an answer".to_owned())],
        },
    }
}

/// Edits a node's inputs, and checks that the difference is told in these words and that undoing
/// it leaves none.
#[track_caller]
fn told(node: usize, edit: impl FnOnce(&mut Inputs), words: &[&str]) {
    let before = inputs(node);
    let mut now = before.clone();
    edit(&mut now);
    let found = changes(&before, &now);
    let texts: Vec<String> = found.iter().map(Change::to_string).collect();
    assert_eq!(texts, words);
    let undone = found.iter().fold(now, |now, change| now.without(change, &before));
    assert_eq!(changes(&before, &undone), []);
}

fn config(inputs: &mut Inputs) -> &mut Config {
    Arc::make_mut(&mut inputs.config)
}

fn files(inputs: &mut Inputs) -> &mut BTreeMap<String, String> {
    Arc::make_mut(&mut inputs.persona_files)
}

fn map(inputs: &mut Inputs, path: &str, text: &str) {
    Arc::make_mut(&mut inputs.templates).insert(path.to_owned(), text.to_owned());
}

#[test]
fn nothing_differs_from_itself() {
    told(0, |_| {}, &[]);
}

#[test]
fn provider_model_parameters_and_variant_are_told_from_old_to_new() {
    told(
        0,
        |now| config(now).provider.name = "proxy".into(),
        &["`provider.name`: simulator -> proxy"],
    );
    told(
        0,
        |now| config(now).nodes[0].model.name = "n".into(),
        &["`model.name`: m -> n"],
    );
    let parameter = |name: &'static str, value: Value| {
        move |now: &mut Inputs| {
            Arc::make_mut(&mut config(now).nodes[0].model.parameters).insert(name.to_owned(), value);
        }
    };
    told(
        0,
        parameter("temperature", json!(1)),
        &["`temperature`: 0.5 -> 1"],
    );
    told(0, parameter("top_p", json!(0.9)), &["`top_p`: not set -> 0.9"]);
    told(
        0,
        |now| _ = Arc::make_mut(&mut config(now).nodes[0].model.parameters).remove("temperature"),
        &["`temperature`: 0.5 -> not set"],
    );
    told(
        0,
        |now| config(now).nodes[0].variant = Some("b".into()),
        &["`variant`: none -> b"],
    );
}

#[test]
fn templates_are_told_by_part_and_by_path() {
    told(
        0,
        |now| map(now, "p/chunk.md", "x"),
        &["template `p/chunk.md` changed"],
    );
    told(
        0,
        |now| map(now, "p/who.md", "a poet"),
        &["template `p/who.md` changed"],
    );
    told(0, |now| map(now, "p/unused.md", "y"), &[]);
    told(0, |now| map(now, "p/combine.md", "y"), &[]);
    told(
        0,
        |now| config(now).nodes[0].system = None,
        &["`system`: p/system.md -> none"],
    );
    told(
        0,
        |now| config(now).nodes[0].prompt = "p/unused.md".to_owned(),
        &["`prompt`: p/chunk.md -> p/unused.md"],
    );
}

#[test]
fn a_part_whose_template_was_renamed_can_be_undone() {
    let rename = |now: &mut Inputs| {
        let text = Arc::make_mut(&mut now.templates).remove("p/chunk.md").unwrap();
        map(now, "p/part.md", &text);
        config(now).nodes[0].prompt = "p/part.md".to_owned();
    };
    told(0, rename, &["`prompt`: p/chunk.md -> p/part.md"]);
}

#[test]
fn variables_are_told_from_old_to_new_and_cut_where_they_are_long() {
    let var = |name: &'static str, value: Value| {
        move |now: &mut Inputs| _ = config(now).nodes[0].vars.insert(name.to_owned(), value)
    };
    told(
        0,
        var("brief", json!("Two")),
        &["`vars.brief`: \"One\" -> \"Two\""],
    );
    told(0, var("part", json!(1)), &["`vars.part`: not set -> 1"]);
    let long = "ä".repeat(80);
    let cut = format!("`vars.brief`: \"One\" -> \"{}…", "ä".repeat(59));
    told(0, var("brief", json!(long)), &[&cut]);
    told(
        0,
        |now| config(now).nodes[0].vars.clear(),
        &["`vars.brief`: \"One\" -> not set"],
    );
}

#[test]
fn long_values_are_told_from_where_they_differ() {
    let text = |word: &str| json!(format!("{} {word} {}", "same ".repeat(30), "after ".repeat(30)));
    let (before, now) = values(&Some(text("red")), &Some(text("blue")));
    assert_eq!(
        before,
        "… same same  red after after after after after after after af…"
    );
    assert_eq!(
        now,
        "… same same  blue after after after after after after after a…"
    );
}

#[test]
fn persona_files_and_needs_are_told_by_name() {
    let file =
        |name: &'static str| move |now: &mut Inputs| _ = files(now).insert(name.to_owned(), "new".to_owned());
    told(0, file("profile.md"), &["persona file `profile.md` changed"]);
    told(0, file("facts.md"), &["persona file `facts.md` added"]);
    told(
        0,
        |now| files(now).clear(),
        &["persona file `profile.md` removed"],
    );
    told(
        1,
        |now| now.needs[0].1 = "another".to_owned(),
        &["answer of `a` changed"],
    );
    told(
        1,
        |now| {
            now.needs.push(("b".into(), "more".to_owned()));
            config(now).nodes[1].needs.push("b".into());
        },
        &["need `b` added"],
    );
}

#[test]
fn several_differences_are_all_told() {
    let edit = |now: &mut Inputs| {
        map(now, "p/chunk.md", "x");
        config(now).nodes[0].model.name = "n".into();
        files(now).insert("profile.md".to_owned(), "Bo".to_owned());
    };
    told(
        0,
        edit,
        &[
            "`model.name`: m -> n",
            "template `p/chunk.md` changed",
            "persona file `profile.md` changed",
        ],
    );
}
