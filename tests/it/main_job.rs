//! The main job, as a new user meets it: transcripts appear, nothing is done twice, an edit runs
//! what it touches.

use crate::project::Project;

#[test]
fn eight_transcripts_appear_and_the_second_time_nothing_is_called() {
    let project = Project::shipped().with("# latency      = \"500ms\"", "latency = \"10ms\"");
    let first = project.json(&[]).code(0);
    assert_eq!(first.figure("personas.written"), 8);
    assert_eq!(
        (first.figure("nodes.called"), first.figure("calls.sent")),
        (64, 64)
    );
    assert_eq!(project.names("transcripts").len(), 8);
    let text = project.read("transcripts/young_couple_01_daniel_mary.md");
    assert!(text.contains("Daniel") && text.contains("## Part 7"), "{text}");

    let before = project.written();
    let second = project.json(&[]).code(0);
    assert_eq!(
        (second.figure("personas.unchanged"), second.figure("calls.sent")),
        (8, 0)
    );
    assert_eq!(second.figure("nodes.cached"), 64);
    assert_eq!(project.written(), before, "no file of the project was touched");
}

#[test]
fn an_edited_chunk_runs_that_chunk_and_the_combine() {
    let project = Project::shipped().with("# latency      = \"500ms\"", "latency = \"10ms\"");
    project.json(&[]).code(0);
    project.edit(
        "pipeline.toml",
        "The figures: what comes in",
        "The plain figures: what comes in",
    );
    let again = project.json(&[]).code(0);
    assert_eq!(
        (again.figure("calls.sent"), again.figure("nodes.cached")),
        (16, 48)
    );
    let called = again.nodes("called");
    assert!(
        called
            .iter()
            .all(|name| name.ends_with("/chunk-3") || name.ends_with("/combine")),
        "{called:?}"
    );
}

#[test]
fn an_edit_that_renders_the_same_runs_nothing() {
    let project = Project::small(3);
    project.json(&[]).code(0);
    project.edit(
        "prompts/chunk.md",
        "Write the part",
        "{# a note to myself #}Write the part",
    );
    assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0);
}

#[test]
fn a_changed_persona_runs_that_persona() {
    let project = Project::small(5);
    project.json(&[]).code(0);
    project.write("personas/p03/profile.md", "Somebody else.\n");
    let again = project.json(&[]).code(0);
    assert_eq!(
        (again.figure("calls.sent"), again.figure("personas.written")),
        (3, 1)
    );
}

#[test]
fn what_only_delivers_an_answer_calls_nothing() {
    let project = Project::small(3);
    project.json(&[]).code(0);
    project.edit(
        "pipeline.toml",
        "max_output_tokens = 4000",
        "max_output_tokens = 5000\nservice_tier = \"flex\"",
    );
    project.edit(
        "pipeline.toml",
        "concurrency = 16",
        "concurrency = 2\nrequests_per_minute = 6000",
    );
    assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0);
}

#[test]
fn a_variant_is_another_sample() {
    let project = Project::small(2);
    project.json(&[]).code(0);
    project.edit(
        "pipeline.toml",
        "id = \"chunk-1\"",
        "id = \"chunk-1\"\nvariant = \"b\"",
    );
    assert_eq!(project.json(&[]).code(0).nodes("called").len(), 4);
}

#[test]
fn personas_are_chosen_by_pattern_and_number() {
    let project = Project::small(12);
    assert_eq!(
        project
            .json(&["--persona", "p0*", "--max", "4"])
            .code(0)
            .figure("personas.total"),
        4
    );
    let one = project.json(&["--persona", "p11", "--persona", "p05"]).code(0);
    assert_eq!(
        (one.figure("personas.total"), one.figure("personas.written")),
        (2, 2)
    );
    assert_eq!(
        project.names("transcripts"),
        ["p00.md", "p01.md", "p02.md", "p03.md", "p05.md", "p11.md"]
    );
}

#[test]
fn refresh_calls_again_and_a_plain_run_after_it_does_not() {
    let project = Project::small(3);
    project.json(&[]).code(0);
    let refreshed = project.json(&["--refresh", "p01/chunk-2"]).code(0);
    assert_eq!(
        refreshed.nodes("called"),
        ["p01/chunk-2"],
        "the built-in model gives the same text: early cutoff"
    );
    assert_eq!(
        project.json(&["--refresh", "p02"]).code(0).nodes("called").len(),
        3
    );
    assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0);
}

#[test]
fn equal_requests_are_one_call() {
    let project = Project::small(4)
        .file("prompts/persona.md", "The same for everybody.\n")
        .with("concurrency = 16", "concurrency = 64");
    let run = project.json(&[]).code(0);
    assert_eq!(
        (
            run.figure("calls.sent"),
            run.figure("nodes.called"),
            run.figure("nodes.cached")
        ),
        (3, 3, 9)
    );
    assert_eq!(run.figure("personas.written"), 4);
}

#[test]
fn any_acyclic_graph_runs() {
    let rows = [
        (
            "one node",
            "[[node]]\nid = \"a\"\nprompt = \"prompts/chunk.md\"\nvars = { title = \"x\" }\n",
            1,
        ),
        (
            "a chain",
            "[[node]]\nid = \"a\"\nprompt = \"prompts/chunk.md\"\nvars = { title = \"x\" }\n\
             [[node]]\nid = \"b\"\nneeds = [\"a\"]\nprompt = \"prompts/combine.md\"\n\
             [[node]]\nid = \"c\"\nneeds = [\"b\"]\nprompt = \"prompts/combine.md\"\n",
            3,
        ),
        (
            "a diamond",
            "[[node]]\nid = \"a\"\nprompt = \"prompts/chunk.md\"\nvars = { title = \"x\" }\n\
             [[node]]\nid = \"b\"\nneeds = [\"a\"]\nprompt = \"prompts/combine.md\"\n\
             [[node]]\nid = \"c\"\nneeds = [\"a\"]\nprompt = \"prompts/combine.md\"\nvariant = \"2\"\n\
             [[node]]\nid = \"d\"\nneeds = [\"b\", \"c\"]\nprompt = \"prompts/combine.md\"\n",
            4,
        ),
    ];
    for (name, nodes, calls) in rows {
        let project = Project::small(2);
        let text = project.read("pipeline.toml");
        let head = &text[..text.find("[[node]]").unwrap()];
        project.write("pipeline.toml", format!("{head}{nodes}"));
        let run = project.json(&[]).code(0);
        assert_eq!(run.figure("nodes.called"), calls * 2, "{name}");
        assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0, "{name}");
    }
}

#[test]
fn a_project_made_by_init_runs_as_it_is() {
    let project = Project::empty();
    project.run(&["init", "new"]).code(0);
    assert!(project.read("new/cache/.gitignore").starts_with('*'));
    project.edit(
        "new/pipeline.toml",
        "# latency      = \"500ms\"",
        "latency = \"1ms\"",
    );
    let ran = project.run(&["-C", "new", "run"]).code(0);
    assert!(
        ran.stderr.contains("8 of 8 personas up to date"),
        "{}",
        ran.stderr
    );
    let again = project.run(&["init", "new"]).code(2);
    assert!(
        again.stderr.contains("already has a `pipeline.toml`"),
        "{}",
        again.stderr
    );
}

#[test]
fn a_plan_says_what_a_run_does() {
    let project = Project::small(4);
    let plan = |args: &[&str]| {
        let args: Vec<&str> = ["plan", "--json"].iter().chain(args).copied().collect();
        let ran = project.run(&args).code(0);
        let last: serde_json::Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(last["event"], "plan_finished");
        last["nodes"].clone()
    };
    assert_eq!(
        plan(&[]),
        serde_json::json!({ "cached": 0, "call": 8, "depends": 4, "failed": 0, "skipped": 0 })
    );
    assert_eq!(
        project.names("transcripts").len(),
        0,
        "nothing was called or written"
    );
    project.json(&[]).code(0);
    assert_eq!(
        plan(&[]),
        serde_json::json!({ "cached": 12, "call": 0, "depends": 0, "failed": 0, "skipped": 0 })
    );
    project.edit("pipeline.toml", "Leaving", "Staying");
    assert_eq!(
        plan(&["--max", "3"]),
        serde_json::json!({ "cached": 3, "call": 3, "depends": 3, "failed": 0, "skipped": 0 })
    );
    assert_eq!(project.json(&["--max", "3"]).code(0).figure("calls.sent"), 6);
    assert_eq!(plan(&["--refresh", "p00/chunk-1", "--max", "1"])["call"], 1);
}
