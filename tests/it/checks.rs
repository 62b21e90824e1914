//! What a node asks of its answer, through the real binary: what does not fit is paid, kept, shown
//! and asked for again; what is stored is judged by what is asked today.

use serde_json::json;

use crate::project::Project;
use crate::wire::{self, Wire, answer, good};

const CHUNK: &str = "vars = { title = \"Arriving\" }";

/// A project whose `chunk-1` asks for something.
fn asking(keys: &str) -> Project {
    Project::small(1).with(CHUNK, &format!("{CHUNK}\n{keys}"))
}

#[test]
fn an_answer_that_does_not_fit_is_paid_kept_and_asked_for_again() {
    let server = Wire::start(|call, body| match call {
        1 => wire::json("200 OK", &answer("too short", "stop")),
        _ => good(body),
    });
    let project = asking("min_chars = 10")
        .at(&server.url())
        .with("concurrency = 16", "concurrency = 1");
    let run = project.json(&[]).code(0);
    assert_eq!((run.figure("calls.ok"), run.figure("calls.rejected")), (3, 1));
    assert_eq!((server.calls(), run.figure("tokens.total")), (4, 480), "paid");
    let calls = run.named("call_ended");
    assert_eq!(calls[0]["error"]["kind"], "min_chars");
    let shown = project.run(&["show", "p00/chunk-1", "--rejected"]).code(0).stdout;
    assert!(
        shown.contains("answer shorter than `min_chars`\n    too short"),
        "{shown}"
    );
    let listed = project.run(&["cache", "ls", "--rejected"]).code(0).stdout;
    assert!(
        listed.contains("min_chars") || listed.contains("shorter"),
        "{listed}"
    );
    assert_eq!(project.json(&[]).code(0).figure("nodes.cached"), 3);
}

#[test]
fn it_fails_its_node_once_enough_were_thrown_away_and_is_told() {
    for (keys, kind) in [
        ("min_chars = 100000", "min_chars"),
        ("max_chars = 5", "max_chars"),
        ("must_match = 'never this'", "must_match"),
        ("must_not_match = '.'", "must_not_match"),
        ("json_schema = { type = \"object\" }", "json_schema"),
    ] {
        let project = asking(keys);
        let run = project.json(&[]).code(1);
        let figures = ["nodes.failed", "nodes.called", "calls.rejected"].map(|path| run.figure(path));
        assert_eq!(figures, [1, 1, 3], "{kind}");
        let failed = run.named("node_finished");
        let failed = failed.iter().find(|node| node["status"] == "failed").unwrap();
        assert_eq!(failed["error"]["kind"], kind);
        assert_eq!(failed["attempts"], 3);
        assert!(failed["cost_usd"].as_f64().unwrap() > 0.0, "{kind}");
    }
    let told = asking("max_chars = 5").run(&["run"]).code(1);
    assert!(
        told.stderr.contains("1 x max_chars: p00/chunk-1")
            || told.stdout.contains("1 x max_chars: p00/chunk-1"),
        "{}{}",
        told.stdout,
        told.stderr
    );
}

#[test]
fn what_is_stored_is_judged_by_what_is_asked_now() {
    let project = Project::small(1);
    project.json(&[]).code(0);
    // Nothing is paid again where the stored answer fits.
    project.edit("pipeline.toml", CHUNK, &format!("{CHUNK}\nmin_chars = 10"));
    assert_eq!(project.json(&[]).code(0).figure("nodes.cached"), 3);
    // Where it does not, that is said before it is paid.
    project.edit("pipeline.toml", "min_chars = 10", "max_chars = 9");
    let planned = project.run(&["plan", "--json"]).code(0).stdout;
    assert!(planned.contains("\"kind\":\"unfit\""), "{planned}");
    assert!(
        planned.contains("the stored answer has ") && planned.contains("`max_chars` is 9"),
        "{planned}"
    );
    let why = project.run(&["why", "p00/chunk-1"]).code(0).stdout;
    assert!(
        why.contains("the stored answer has ") && why.contains("`max_chars` is 9"),
        "{why}"
    );
    let refused = project.json(&[]).code(1);
    assert_eq!(refused.figure("calls.rejected"), 3);
    // What was refused, and what was accepted before, serves once it may.
    project.edit("pipeline.toml", "max_chars = 9", "max_chars = 900000");
    let taken_back = project.json(&[]).code(0);
    assert_eq!(
        (taken_back.figure("nodes.cached"), taken_back.figure("calls.sent")),
        (3, 0)
    );
}

#[test]
fn what_only_a_check_refused_is_served_unpaid_once_the_check_is_gone() {
    let project = asking("min_chars = 100000");
    assert_eq!(project.json(&[]).code(1).figure("calls.rejected"), 3);
    project.edit("pipeline.toml", "min_chars = 100000", "min_chars = 10");
    let run = project.json(&[]).code(0);
    assert_eq!(run.nodes("cached"), ["p00/chunk-1", "p00/chunk-2"]);
    assert_eq!((run.figure("calls.ok"), run.figure("calls.rejected")), (1, 0));
    // What was made with it can be rendered again.
    project.edit("prompts/combine.md", "Join", "Put together");
    let why = project.run(&["why", "p00/combine"]).code(0).stdout;
    assert!(
        why.contains("prompts/combine.md") && !why.contains("not in the store"),
        "{why}"
    );
}

#[test]
fn a_schema_has_a_file_of_its_own_or_is_an_error_with_its_line() {
    let schema = json!({"type": "object", "required": ["title"]}).to_string();
    let server = Wire::start(|call, body| match call {
        1 => wire::json("200 OK", &answer("```json\n{}\n```", "stop")),
        2 => wire::json("200 OK", &answer(r#"{"titel": 1}"#, "stop")),
        3 => wire::json("200 OK", &answer(r#"{"title": 1}"#, "stop")),
        _ => good(body),
    });
    let project = asking("json_schema = \"schemas/part.json\"")
        .file("schemas/part.json", &schema)
        .at(&server.url())
        .with("concurrency = 16", "concurrency = 1");
    let run = project.json(&[]).code(0);
    assert_eq!((run.figure("calls.ok"), run.figure("calls.rejected")), (3, 2));
    let retries: Vec<_> = run
        .named("retrying")
        .iter()
        .map(|retry| retry["cause"].clone())
        .collect();
    assert!(
        format!("{retries:?}").contains("missing properties 'title'"),
        "{retries:?}"
    );
    let calls = server.calls();
    for text in ["{", "{\"type\": \"objekt\"}"] {
        project.write("schemas/part.json", text);
        let errors = project.run(&["run"]).code(2).stderr;
        assert!(
            errors.contains("`schemas/part.json`") && errors.contains("pipeline.toml:"),
            "{errors}"
        );
    }
    project.edit("pipeline.toml", "schemas/part.json", "schemas/prat.json");
    let errors = project.run(&["check"]).code(2).stderr;
    assert!(errors.contains("did you mean `schemas/part.json`?"), "{errors}");
    assert_eq!(server.calls(), calls, "nothing was called");
}

#[test]
fn a_run_in_which_everything_fails_alike_ends_early_and_says_what_it_is() {
    let project = Project::small(40).with(CHUNK, &format!("{CHUNK}\nmust_match = 'never this'"));
    let project = project.with(
        "title = \"Leaving\" }",
        "title = \"Leaving\" }\nmust_match = 'never this'",
    );
    let run = project.json(&[]).code(3);
    assert_eq!(run.summary()["outcome"], "fatal");
    assert!(run.figure("nodes.failed") < 40 && run.figure("personas.pending") > 10);
    let told = project.run(&["run"]).code(3);
    assert!(
        told.stderr
            .contains("failed the same way, and no answer was accepted: the answer has no match")
            || told
                .stdout
                .contains("failed the same way, and no answer was accepted: the answer has no match"),
        "{}{}",
        told.stdout,
        told.stderr
    );
}
