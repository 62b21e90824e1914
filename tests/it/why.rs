//! `septet why`: each reason by a test of its own, in the words that a person reads.

use serde_json::{Value, json};

use crate::project::Project;
use crate::wire::{self, Wire, answer, error, good};

/// What `why` says of one node: its reason's kind and words, and the diff.
struct Told {
    status: String,
    reason: Value,
    message: String,
    diff: Option<String>,
    object: Value,
}

#[track_caller]
fn why(project: &Project, node: &str) -> Told {
    let ran = project.run(&["why", "--json", node]).code(0);
    let object: Value = serde_json::from_str(ran.stdout.lines().next().unwrap()).unwrap();
    let text = |name: &str| object[name].as_str().map(str::to_owned);
    Told {
        status: text("status").unwrap(),
        reason: object["reason"].clone(),
        message: text("message").unwrap(),
        diff: text("diff"),
        object,
    }
}

/// A project that is up to date, and then edited.
#[track_caller]
fn edited(edit: impl FnOnce(&Project)) -> Project {
    let project = Project::small(1);
    project.json(&[]).code(0);
    edit(&project);
    project
}

/// The node is to be called, for this reason.
#[track_caller]
fn changed(project: &Project, node: &str, message: &str) -> Told {
    let told = why(project, node);
    assert_eq!(
        (told.status.as_str(), &told.reason, told.message.as_str()),
        ("call", &json!("changed"), message)
    );
    told
}

#[test]
fn what_was_never_sent_is_new() {
    let project = Project::small(1);
    let told = why(&project, "p00/chunk-1");
    assert_eq!((told.status.as_str(), told.reason), ("call", json!("new")));
    assert_eq!(told.message, "new: nothing was sent for it yet");
    let told = why(&project, "p00/combine");
    assert_eq!((told.status.as_str(), told.reason), ("depends", json!("depends")));
    assert_eq!(
        told.message,
        "its request is known once `chunk-1`, `chunk-2` have been called"
    );
}

#[test]
fn what_is_up_to_date_says_when_it_was_paid() {
    let project = edited(|_| {});
    let told = why(&project, "p00/chunk-1");
    assert_eq!((told.status.as_str(), told.reason), ("cached", Value::Null));
    assert_eq!(told.object["paid"]["persona"], "p00");
    assert!(told.object["paid"]["cost_usd"].as_f64().unwrap() > 0.0);
    let run = told.object["paid"]["run"].as_str().unwrap();
    assert!(
        told.message.ends_with(&format!("in run {run}")),
        "{}",
        told.message
    );
}

#[test]
fn a_template_is_named_and_its_text_compared() {
    let project = edited(|project| project.edit("prompts/chunk.md", "Write the part", "Write well the part"));
    let told = changed(&project, "p00/chunk-1", "template `prompts/chunk.md` changed");
    let diff = told.diff.unwrap();
    assert!(
        diff.contains("\n-Write the part") && diff.contains("\n+Write well the part"),
        "{diff}"
    );
}

#[test]
fn a_template_whose_change_does_not_matter_is_not_blamed() {
    let project = edited(|project| {
        project.edit("prompts/chunk.md", "Write the part", "{# a note #}Write the part");
        project.edit("pipeline.toml", "title = \"Arriving\"", "title = \"Coming\"");
    });
    changed(
        &project,
        "p00/chunk-1",
        "`vars.title`: \"Arriving\" -> \"Coming\"",
    );
    assert_eq!(why(&project, "p00/chunk-2").status, "cached");
}

#[test]
fn a_persona_file_is_named() {
    let project = edited(|project| project.write("personas/p00/profile.md", "Somebody else.\n"));
    changed(&project, "p00/chunk-1", "persona file `profile.md` changed");
    let project = edited(|project| project.write("personas/p00/unused.md", "nobody reads this\n"));
    assert_eq!(why(&project, "p00/chunk-1").status, "cached");
}

#[test]
fn model_parameter_variant_and_provider_are_told_from_old_to_new() {
    let rows = [
        (
            ("name = \"gpt-6-luna\"", "name = \"gpt-6-sol\""),
            "`model.name`: gpt-6-luna -> gpt-6-sol",
        ),
        (
            (
                "max_output_tokens = 4000",
                "max_output_tokens = 4000\ntemperature = 0.5",
            ),
            "`temperature`: not set -> 0.5",
        ),
        (
            ("id = \"chunk-1\"", "id = \"chunk-1\"\nvariant = \"b\""),
            "`variant`: none -> b",
        ),
        (
            ("kind = \"simulator\"", "kind = \"simulator\"\nname = \"other\""),
            "`provider.name`: simulator -> other",
        ),
    ];
    for ((from, to), message) in rows {
        let project = edited(|project| project.edit("pipeline.toml", from, to));
        changed(&project, "p00/chunk-1", message);
    }
}

#[test]
fn the_answer_of_a_need_is_named() {
    let project = edited(|project| {
        // Only the chunks run, so that their new answers are there and combine is not called yet.
        let whole = project.read("pipeline.toml");
        let combine = whole.find("[[node]]\nid = \"combine\"").unwrap();
        let chunks = whole[..combine].replace("title = \"Arriving\"", "title = \"Coming\"");
        project.write(
            "pipeline.toml",
            chunks.replace("[pipeline]", "[pipeline]\nresult = \"chunk-1\""),
        );
        project.json(&["--overwrite"]).code(0);
        project.write("pipeline.toml", chunks + &whole[combine..]);
    });
    changed(&project, "p00/combine", "answer of `chunk-1` changed");
}

#[test]
fn an_answer_that_was_rejected_says_how() {
    let server = Wire::always(wire::json("200 OK", &answer("", "content_filter")));
    let project = Project::small(1).at(&server.url());
    project.json(&[]).code(1);
    let told = why(&project, "p00/chunk-1");
    assert_eq!((told.status.as_str(), told.reason), ("call", json!("rejected")));
    assert!(
        told.message
            .starts_with("rejected last time: answer withheld by the provider's filter ("),
        "{}",
        told.message
    );
}

#[test]
fn a_call_that_failed_says_with_what() {
    let server = Wire::always(error(
        "422 Unprocessable Entity",
        "invalid_request_error",
        "x",
        "No such thing.",
    ));
    let project = Project::small(1).at(&server.url());
    project.json(&[]);
    let told = why(&project, "p00/chunk-1");
    assert_eq!((told.status.as_str(), told.reason), ("call", json!("unanswered")));
    assert!(
        told.message
            .starts_with("sent before, no answer came: No such thing."),
        "{}",
        told.message
    );
}

#[test]
fn an_interrupted_refresh_is_still_asked_for() {
    let server = Wire::start(|_, body| good(body));
    let project = Project::small(1).at(&server.url());
    project.json(&[]).code(0);
    let refusing = Wire::always(error(
        "401 Unauthorized",
        "invalid_request_error",
        "invalid_api_key",
        "No.",
    ));
    project.edit("pipeline.toml", &server.url(), &refusing.url());
    project.json(&["--refresh", "p00/chunk-1"]).code(3);
    let told = why(&project, "p00/chunk-1");
    assert_eq!((told.status.as_str(), told.reason), ("call", json!("refreshed")));
    assert_eq!(told.message, "asked for by `--refresh`");
    assert_eq!(why(&project, "p00/chunk-2").status, "cached");
}

#[test]
fn a_smaller_limit_and_a_cut_off_answer_are_told_with_the_limit() {
    let project = edited(|project| {
        project.edit(
            "pipeline.toml",
            "max_output_tokens = 4000",
            "max_output_tokens = 20",
        );
    });
    let told = why(&project, "p00/chunk-1");
    assert_eq!((told.status.as_str(), told.reason), ("call", json!("too_long")));
    assert!(told.message.ends_with("the limit is now 20"), "{}", told.message);
    project.json(&[]).code(1);
    let told = why(&project, "p00/chunk-1");
    assert_eq!((told.status.as_str(), told.reason), ("failed", json!("cut_off")));
    assert!(
        told.message
            .starts_with("answer cut off at `max_output_tokens` = 20"),
        "{}",
        told.message
    );
}

#[test]
fn a_person_reads_it() {
    let project = edited(|project| {
        project.edit("pipeline.toml", "title = \"Arriving\"", "title = \"Coming\"");
        std::fs::remove_file(project.path("transcripts/p00.md")).unwrap();
    });
    let said = |node: &str| {
        let text = project.run(&["why", node]).code(0).stdout;
        let text = text.lines().map(|line| match line.find("20") {
            Some(at) if line[at..].len() > 40 && !line.starts_with(['-', '+', ' ', '@', 'r', 'k']) => {
                format!("{}TIME in run RUN", &line[..at])
            }
            _ => line.to_owned(),
        });
        text.collect::<Vec<_>>().join("\n")
    };
    let persona = said("p00");
    let lines: Vec<&str> = persona.lines().collect();
    assert_eq!(lines[0], "p00: 1 of 3 nodes up to date");
    assert_eq!(
        lines[1],
        "  chunk-1     to call     `vars.title`: \"Arriving\" -> \"Coming\""
    );
    assert!(
        lines[2].starts_with("  chunk-2     up to date  paid "),
        "{}",
        lines[2]
    );
    assert_eq!(
        lines[3],
        "  combine     depends     its request is known once `chunk-1` has been called"
    );
    assert_eq!(
        lines[4],
        "  transcript  missing     transcripts/p00.md: it was removed; `septet run` writes it again, unpaid"
    );
    assert_eq!(lines[6], "`septet why p00/chunk-1` shows the difference");
    let node = said("p00/chunk-1");
    assert!(
        node.starts_with(
            "p00/chunk-1: to call\n  `vars.title`: \"Arriving\" -> \"Coming\"\n\nlast sent  TIME in run RUN\n"
        ),
        "{node}"
    );
    project.run(&["run"]).code(0);
    project.write("transcripts/p00.md", "My own words.\n");
    let persona = said("p00");
    assert!(
        persona.ends_with(
            "transcript  by hand     transcripts/p00.md: not as septet wrote it; a new text goes beside it, \
             `--overwrite` replaces it"
        ),
        "{persona}"
    );
}

#[test]
fn an_unknown_name_gets_the_nearest_one() {
    let project = Project::small(1);
    let persona = project.run(&["why", "p0"]).code(2);
    insta::assert_snapshot!(persona.errors(), @r"
    error: there is no persona `p0` in `personas`

    hint: did you mean `p00`?
    ");
    let node = project.run(&["why", "p00/chunk1"]).code(2);
    insta::assert_snapshot!(node.errors(), @r"
    error: the pipeline has no node `chunk1`

    hint: did you mean `chunk-1`?
    ");
}
