//! `docs/keys.md`, row by row: one thing is changed in a pipeline, and the keys of its requests
//! change or do not.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::call::Key;
use crate::persona::PersonaFile;

/// What can be changed: files by name, the persona's under `ann/`; the answers under `answer/`.
type Files = BTreeMap<String, String>;

/// The files with a change: from which text to which, in which file.
type Edit = (&'static str, &'static str, &'static str);

/// Which keys change.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Effect {
    /// Those of all nodes.
    All,
    /// Those of these nodes, by their place.
    Nodes(&'static [usize]),
    None,
}

/// A row of the documentation and the changes that try it; each of them has the effect alone.
struct Row(&'static str, Effect, &'static [&'static [Edit]]);

const PIPELINE: &str = r#"
[pipeline]
personas = "personas"
output = "transcripts/{persona}.md"
result = "combine"

[provider]
kind = "openai"
base_url = "https://api.example.com/v1"
api_key_env = "KEY"
output_cap_field = "max_tokens"
timeout = "10m"
connect_timeout = "10s"
idle_timeout = "60s"

[model]
name = "m"
max_output_tokens = 4000
temperature = 0.5
reasoning_effort = "low"
service_tier = "flex"

[model.extra]
top_p = 0.5
more = { b = 1, a = 2 }

[limits]
concurrency = 64
requests_per_minute = 500
tokens_per_minute = 200000

[retry]
attempts = 6
base = "1s"
max = "60s"
rejected = 2

[prices.m]
input = 0.1
cached_input = 0.01
cache_write = 0.125
output = 0.5

[prompts]
system = "system.md"
context = "context.md"

[[node]]
id = "one"
prompt = "chunk.md"
vars = { part = 1, title = "Arriving" }

[[node]]
id = "two"
prompt = "chunk.md"
vars = { part = 2, title = "Leaving" }

[[node]]
id = "combine"
needs = ["one", "two"]
prompt = "combine.md"
context = ""
"#;

const SIMULATED: &[Edit] = &[(
    "pipeline.toml",
    "[provider]\nkind = \"openai\"\nbase_url = \"https://api.example.com/v1\"\napi_key_env = \"KEY\"\n\
     output_cap_field = \"max_tokens\"\n",
    "[simulator]\nlatency = \"1s\"\njitter = 0.3\nreply_tokens = 400\nseed = 0\n\
     faults = { server_error = 0.1 }\n[provider]\n",
)];

const P: &str = "pipeline.toml";

const IN_THE_KEY: &[Row] = &[
    Row(
        "`provider.name`",
        Effect::All,
        &[&[(P, "kind = \"openai\"", "kind = \"openai\"\nname = \"proxy\"")]],
    ),
    Row(
        "`provider.kind`, `provider.base_url`",
        Effect::All,
        &[
            SIMULATED,
            &[(P, "api.example.com", "api.example.org")],
            &[(P, "example.com/v1", "example.com:8443/v1")],
            &[(P, "example.com/v1", "example.com/v2")],
        ],
    ),
    Row(
        "`model.name`",
        Effect::All,
        &[&[(P, "name = \"m\"", "name = \"n\"")]],
    ),
    Row(
        "the text of a message",
        Effect::All,
        &[
            &[("system.md", "Be kind.", "Be brief.")],
            &[(P, "system = \"system.md\"", "system = \"\"")],
        ],
    ),
    Row(
        "the text of a message",
        Effect::Nodes(&[0, 1]),
        &[
            &[("context.md", "about", "on")],
            &[("chunk.md", "Write", "Tell")],
            &[("ann/profile.md", "old", "young")],
            &[(P, "context = \"context.md\"", "context = \"\"")],
        ],
    ),
    Row(
        "the text of a message",
        Effect::Nodes(&[1]),
        &[
            &[(P, "title = \"Leaving\"", "title = \"Staying\"")],
            &[(
                P,
                "id = \"two\"\nprompt = \"chunk.md\"",
                "id = \"two\"\nprompt = \"system.md\"",
            )],
        ],
    ),
    Row(
        "the text of a message",
        Effect::Nodes(&[2]),
        &[
            &[("answer/two", "goodbye", "farewell")],
            &[("combine.md", "Join", "Merge")],
            &[(P, "needs = [\"one\", \"two\"]", "needs = [\"two\"]")],
            &[(P, "context = \"\"", "context = \"context.md\"")],
        ],
    ),
    Row(
        "the role of a message",
        Effect::Nodes(&[2]),
        // The same text, as instructions and as a question.
        &[&[
            (
                P,
                "prompt = \"combine.md\"",
                "prompt = \"combine.md\"\nsystem = \"\"",
            ),
            ("combine.md", "Join", "Be kind.\n\nJoin"),
        ]],
    ),
    Row(
        "`model.temperature`",
        Effect::All,
        &[
            &[(P, "temperature = 0.5", "temperature = 0.6")],
            &[(P, "temperature = 0.5", "")],
        ],
    ),
    Row(
        "`model.reasoning_effort`",
        Effect::All,
        &[&[(P, "reasoning_effort = \"low\"", "reasoning_effort = \"high\"")]],
    ),
    Row(
        "`model.extra`",
        Effect::All,
        &[
            &[(P, "top_p = 0.5", "top_p = 0.6")],
            &[(P, "top_p = 0.5", "top_k = 0.5")],
            &[(P, "top_p = 0.5", "top_p = \"0.5\"")],
            &[(P, "a = 2", "a = 3")],
            &[(P, "top_p = 0.5", "top_p = 0.5\nseed = 1")],
        ],
    ),
    Row(
        "`node.model`",
        Effect::Nodes(&[0]),
        &[
            &[(P, "id = \"one\"", "id = \"one\"\nmodel = { name = \"n\" }")],
            &[(P, "id = \"one\"", "id = \"one\"\nmodel = { temperature = 0.6 }")],
            &[(
                P,
                "id = \"one\"",
                "id = \"one\"\nmodel = { extra = { top_p = 0.6 } }",
            )],
        ],
    ),
    Row(
        "`node.variant`",
        Effect::Nodes(&[0]),
        &[&[(P, "id = \"one\"", "id = \"one\"\nvariant = \"b\"")]],
    ),
];

const IN_THE_KEY_OF_THE_SIMULATOR: &[Row] = &[Row(
    "`simulator.reply_tokens`, `simulator.seed`",
    Effect::All,
    &[
        &[(P, "reply_tokens = 400", "reply_tokens = 401")],
        &[(P, "seed = 0", "seed = 1")],
    ],
)];

const NOT_IN_THE_KEY: &[Row] = &[
    Row(
        "`model.max_output_tokens`",
        Effect::None,
        &[
            &[(P, "max_output_tokens = 4000", "max_output_tokens = 8000")],
            &[(P, "max_output_tokens = 4000", "")],
            &[(
                P,
                "id = \"one\"",
                "id = \"one\"\nmodel = { max_output_tokens = 1 }",
            )],
        ],
    ),
    Row(
        "`model.service_tier`",
        Effect::None,
        &[
            &[(P, "\"flex\"", "\"priority\"")],
            &[(P, "service_tier = \"flex\"", "")],
        ],
    ),
    Row(
        "`provider.timeout`, `provider.connect_timeout`, `provider.idle_timeout`",
        Effect::None,
        &[
            &[(P, "\ntimeout = \"10m\"", "\ntimeout = \"11m\"")],
            &[(P, "connect_timeout = \"10s\"", "connect_timeout = \"11s\"")],
            &[(P, "idle_timeout = \"60s\"", "idle_timeout = \"61s\"")],
        ],
    ),
    Row(
        "`provider.output_cap_field`",
        Effect::None,
        &[&[(P, "\"max_tokens\"", "\"max_completion_tokens\"")]],
    ),
    Row(
        "`provider.api`, `provider.background`",
        Effect::None,
        &[
            &[(P, "\"max_tokens\"", "\"max_tokens\"\napi = \"responses\"")],
            &[(
                P,
                "\"max_tokens\"",
                "\"max_tokens\"\napi = \"responses\"\nbackground = true",
            )],
        ],
    ),
    Row(
        "`provider.prompt_cache`",
        Effect::None,
        &[
            &[(P, "\"max_tokens\"", "\"max_tokens\"\nprompt_cache = \"explicit\"")],
            &[(P, "\"max_tokens\"", "\"max_tokens\"\nprompt_cache = \"key\"")],
            &[(P, "\"max_tokens\"", "\"max_tokens\"\nprompt_cache = \"off\"")],
        ],
    ),
    Row(
        "`schedule`",
        Effect::None,
        &[
            &[(P, "[retry]", "[schedule]\nprefix = \"share\"\n[retry]")],
            &[(P, "[retry]", "[schedule]\nprefix = \"eager\"\n[retry]")],
        ],
    ),
    Row(
        "`provider.api_key_env`",
        Effect::None,
        &[&[(P, "\"KEY\"", "\"OTHER\"")]],
    ),
    Row(
        "`retry`",
        Effect::None,
        &[
            &[(P, "attempts = 6", "attempts = 7")],
            &[(P, "base = \"1s\"", "base = \"2s\"")],
            &[(P, "max = \"60s\"", "max = \"61s\"")],
            &[(P, "rejected = 2", "rejected = 3")],
        ],
    ),
    Row(
        "`node.min_chars`, `node.max_chars`, `node.must_match`, `node.must_not_match`, `node.json_schema`",
        Effect::None,
        &[
            &[(P, "id = \"one\"", "id = \"one\"\nmin_chars = 3")],
            &[(P, "id = \"one\"", "id = \"one\"\nmax_chars = 3")],
            &[(P, "id = \"one\"", "id = \"one\"\nmust_match = \"a\"")],
            &[(P, "id = \"one\"", "id = \"one\"\nmust_not_match = [\"a\", \"b\"]")],
            &[(
                P,
                "id = \"one\"",
                "id = \"one\"\njson_schema = { type = \"object\" }",
            )],
            &[(P, "id = \"one\"", "id = \"one\"\njson_schema = \"s.json\"")],
        ],
    ),
    Row(
        "`limits`",
        Effect::None,
        &[
            &[(P, "concurrency = 64", "concurrency = 65")],
            &[(P, "concurrency = 64", "")],
            &[(P, "requests_per_minute = 500", "requests_per_minute = 501")],
            &[(P, "tokens_per_minute = 200000", "tokens_per_minute = 200001")],
        ],
    ),
    Row(
        "`prices`",
        Effect::None,
        &[
            &[(P, "output = 0.5", "output = 0.6")],
            &[(P, "[prices.m]", "[prices.n]")],
            &[(
                P,
                "[prices.m]",
                "[prices.m]\nwhen = [{ days = \"sun\", output = 0.1 }]",
            )],
            &[(
                P,
                "[prices.m]",
                "[prices.m]\nwhen = [{ hours = \"01:00-04:00\", input = 1 }]\nzone = \"Asia/Tokyo\"",
            )],
        ],
    ),
    Row(
        "`pipeline.personas`, `pipeline.output`, `pipeline.result`",
        Effect::None,
        &[
            &[(P, "personas = \"personas\"", "personas = \"people\"")],
            &[(P, "transcripts/", "texts/")],
            &[(P, "result = \"combine\"", "result = \"one\"")],
        ],
    ),
    Row(
        "`node.id`",
        Effect::None,
        &[&[
            (P, "id = \"two\"", "id = \"leaving\""),
            (P, "\"one\", \"two\"", "\"one\", \"leaving\""),
        ]],
    ),
    Row(
        "names of personas and of their files",
        Effect::None,
        &[
            &[("persona", "ann", "anna")],
            &[
                ("context.md", "persona.profile", "persona.portrait"),
                ("names", "profile.md", "portrait.txt"),
            ],
        ],
    ),
    Row(
        "names of templates",
        Effect::None,
        &[&[
            (P, "context = \"context.md\"", "context = \"shared.md\""),
            ("names", "context.md", "shared.md"),
        ]],
    ),
    Row(
        "a template that renders to the same text",
        Effect::None,
        &[
            &[("chunk.md", "Write", "{# what to do #}Write")],
            &[(
                "chunk.md",
                "{{ vars.title }}",
                "{% for t in [vars.title] %}{{ t }}{% endfor %}",
            )],
            &[(
                "context.md",
                "about {{ persona.profile }}",
                "{% include \"part.md\" %}",
            )],
        ],
    ),
    Row(
        "a part of a persona that no template uses",
        Effect::None,
        &[&[("ann/unused.md", "Nobody", "No one")]],
    ),
    Row(
        "how a value is written",
        Effect::None,
        &[
            &[(P, "b = 1, a = 2", "a = 2.0, b = 1.0")],
            &[(P, "top_p = 0.5", "top_p = 5e-1 # a comment")],
            &[
                (
                    P,
                    "[model]\n",
                    "[model]\nextra = { more = { b = 1, a = 2 }, top_p = 0.5 }\n",
                ),
                (P, "[model.extra]\ntop_p = 0.5\nmore = { b = 1, a = 2 }\n", ""),
            ],
        ],
    ),
    Row(
        "line ends, a byte order mark, newlines at the end",
        Effect::None,
        &[
            &[("context.md", "\n", "\r\n")],
            &[("system.md", "Be kind.", "\u{feff}Be kind.\n\n\n")],
            &[("chunk.md", "\n", "\n\n")],
            &[("ann/profile.md", "old.", "old.\r\n")],
        ],
    ),
    Row(
        "the answers that a node does not use",
        Effect::None,
        &[&[(P, "id = \"two\"", "id = \"two\"\nneeds = [\"one\"]")]],
    ),
];

const NOT_IN_THE_KEY_OF_THE_SIMULATOR: &[Row] = &[Row(
    "`simulator.latency`, `simulator.jitter`, `simulator.faults`",
    Effect::None,
    &[
        &[(P, "latency = \"1s\"", "latency = \"2s\"")],
        &[(P, "jitter = 0.3", "jitter = 0.4")],
        &[(P, "server_error = 0.1", "truncated = 0.2")],
    ],
)];

/// The row that has a test of another kind.
const NO_SUCH_FIELD: &str = "the run, the time, the attempt";

fn files() -> Files {
    let files = [
        (P, PIPELINE),
        ("system.md", "Be kind."),
        ("context.md", "Something\nabout {{ persona.profile }}"),
        ("part.md", "about {{ persona.profile }}"),
        ("chunk.md", "Write {{ vars.title }}.\n"),
        (
            "combine.md",
            "Join{% for need in needs %} {{ need.text }}{% endfor %}",
        ),
        ("ann/profile.md", "Ann is old."),
        ("ann/unused.md", "Nobody reads this."),
        ("answer/one", "hello"),
        ("answer/two", "goodbye"),
        ("persona", "ann"),
    ];
    files
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into()
}

/// Changes files. In `names`, it is the name of a file that changes.
#[track_caller]
fn edited(mut files: Files, edits: &[Edit]) -> Files {
    for &(file, from, to) in edits {
        if file == "names" {
            let name = |name: &str| name.rsplit('/').next() == Some(from);
            let old = files.keys().find(|key| name(key)).unwrap().clone();
            let text = files.remove(&old).unwrap();
            files.insert(old.replace(from, to), text);
            continue;
        }
        let text = files.get_mut(file).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}");
        *text = text.replacen(from, to, 1);
    }
    files
}

/// The keys of all nodes in the order of the pipeline, by the way that a run takes.
fn keys(files: &Files) -> Vec<Key> {
    let config = config::load(&files[P], P).unwrap_or_else(|errors| panic!("{errors}"));
    let prompts = Prompts::compile(&config, files).unwrap_or_else(|errors| panic!("{}", errors[0]));
    let of_ann = files.iter().filter_map(|(name, text)| {
        let name = name.strip_prefix("ann/")?.to_owned();
        let bytes = text.as_bytes().to_vec();
        Some(PersonaFile { name, bytes })
    });
    let of_ann: Vec<_> = of_ann.collect();
    let persona = Persona::build(&files["persona"].as_str().into(), "personas/ann", &of_ann).unwrap();
    let answers = ["answer/one", "answer/two", "answer/one"].map(|name| files[name].as_str());
    let needs: Vec<(&NodeId, &str)> = config.nodes.iter().map(|node| &node.id).zip(answers).collect();
    let key = |node| Key::of(&prompts.request(node, &persona, &needs).unwrap());
    (0..config.nodes.len()).map(key).collect()
}

fn check(rows: &[Row], base: &Files) {
    let before = keys(base);
    for Row(name, effect, changes) in rows {
        for edits in *changes {
            let after = keys(&edited(base.clone(), edits));
            for (node, (before, after)) in before.iter().zip(&after).enumerate() {
                let changes = match effect {
                    Effect::All => true,
                    Effect::Nodes(nodes) => nodes.contains(&node),
                    Effect::None => false,
                };
                assert_eq!(before != after, changes, "{name}: node {node} after {edits:?}");
            }
        }
    }
}

#[test]
fn what_can_change_a_finished_answer_is_in_the_key() {
    check(IN_THE_KEY, &files());
    check(IN_THE_KEY_OF_THE_SIMULATOR, &edited(files(), SIMULATED));
}

#[test]
fn what_only_bounds_or_delivers_it_is_not() {
    check(NOT_IN_THE_KEY, &files());
    check(NOT_IN_THE_KEY_OF_THE_SIMULATOR, &edited(files(), SIMULATED));
}

/// A name for the provider keeps answers when the way to it changes.
#[test]
fn a_proxy_in_between_costs_nothing_if_it_is_given_the_name_of_before() {
    let proxied = [
        (P, "api.example.com/v1", "proxy.example.org:8443/x"),
        (
            P,
            "kind = \"openai\"",
            "kind = \"openai\"\nname = \"api.example.com/v1\"",
        ),
    ];
    assert_eq!(keys(&files()), keys(&edited(files(), &proxied)));
}

/// A new field of a request fails to compile here: put it into one of the two tables of
/// `docs/keys.md`, and into the list of `src/call/key.rs` or into `Delivery`.
#[test]
fn a_request_has_no_field_for_the_run_the_time_or_the_attempt() {
    let request = Project::new("").request(1).unwrap();
    let Request {
        provider: _,
        model: _,
        messages: _,
        parameters: _,
        variant: _,
        delivery:
            Delivery {
                max_output_tokens: _,
                service_tier: _,
                shared: _,
                cache: _,
                checks: _,
            },
    } = request;
}

/// The first cells of the tables below a heading of `docs/keys.md`.
fn rows(heading: &str) -> BTreeSet<String> {
    let text = include_str!("../../../docs/keys.md");
    let section = text
        .split("\n## ")
        .find(|section| section.starts_with(heading))
        .unwrap();
    let cells = section
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| ")?.split(" |").next()?.to_owned()));
    cells
        .filter(|cell| cell != "what" && !cell.starts_with("---"))
        .collect()
}

fn tested(rows: &[&[Row]]) -> BTreeSet<String> {
    rows.iter()
        .flat_map(|rows| rows.iter())
        .map(|row| row.0.to_owned())
        .collect()
}

#[test]
fn each_row_has_its_test_and_each_test_its_row() {
    let inside = tested(&[IN_THE_KEY, IN_THE_KEY_OF_THE_SIMULATOR]);
    assert_eq!(rows("In the key"), inside);
    let mut outside = tested(&[NOT_IN_THE_KEY, NOT_IN_THE_KEY_OF_THE_SIMULATOR]);
    outside.insert(NO_SUCH_FIELD.to_owned());
    assert_eq!(rows("Not in the key"), outside);
}

/// The keys of `pipeline.toml`, as the code that reads it lists them: `section.key`.
fn keys_of_the_file() -> Vec<String> {
    let code = concat!(
        include_str!("../../config/file.rs"),
        include_str!("../../config/prices.rs")
    );
    let mut keys = Vec::new();
    for function in code.split("\nfn ").skip(1) {
        let name = function.split(['(', '<']).next().unwrap();
        let list = match function.split_once(".only(&[") {
            Some((_, rest)) => rest.split_once("])").unwrap().0,
            None => continue,
        };
        let section = if name == "when" { "prices" } else { name };
        let names = list.split('"').skip(1).step_by(2);
        keys.extend(names.map(|key| format!("{section}.{key}")));
    }
    keys
}

#[test]
fn each_key_of_the_file_is_in_a_row() {
    let text = include_str!("../../../docs/keys.md");
    let table: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
    let named = |name: &str| table.iter().any(|line| line.contains(&format!("`{name}`")));
    let keys = keys_of_the_file();
    assert!(keys.len() > 25, "the lists were found: {keys:?}");
    for key in keys {
        let section = key.split('.').next().unwrap();
        assert!(
            named(&key) || named(section),
            "`{key}` of pipeline.toml is in no table of docs/keys.md: can it change a finished answer?"
        );
    }
}
