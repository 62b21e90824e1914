//! `septet graph` through the binary: every format, and what it sees of a persona.

use crate::project::Project;

#[test]
fn the_pipeline_is_drawn_without_a_cache() {
    let project = Project::small(1);
    let dot = project.run(&["graph"]).code(0);
    assert!(dot.stdout.starts_with("digraph pipeline {\n"), "{}", dot.stdout);
    assert_eq!(
        project.run(&["graph", "--format", "dot"]).code(0).stdout,
        dot.stdout
    );
    let svg = project.run(&["graph", "--format", "svg"]).code(0).stdout;
    assert!(
        svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"),
        "{svg}"
    );
    let mermaid = project.run(&["graph", "--format", "mermaid"]).code(0).stdout;
    assert!(mermaid.starts_with("flowchart LR\n"), "{mermaid}");
    let text = project.run(&["graph", "--format", "text"]).code(0);
    insta::assert_snapshot!(text.stdout, @r"
    1  chunk-1
       chunk-2
    2  combine  needs chunk-1, chunk-2; its text is the transcript
    ");
    assert!(!project.path("cache").exists(), "nothing was looked up");
}

#[test]
fn a_persona_is_drawn_as_plan_sees_it() {
    let project = Project::small(2);
    let text = || project.run(&["graph", "p01", "--format", "text"]).code(0).stdout;
    insta::assert_snapshot!(text(), @r"
    p01
     1  ▸ chunk-1  to be called
        ▸ chunk-2  to be called
     2  · combine  depends on an answer; needs chunk-1, chunk-2; its text is the transcript
    ");
    project.json(&[]).code(0);
    insta::assert_snapshot!(text(), @r"
    p01
     1  ○ chunk-1  cached
        ○ chunk-2  cached
     2  ○ combine  cached; needs chunk-1, chunk-2; its text is the transcript
    ");
    project.edit("pipeline.toml", "Leaving", "Staying");
    insta::assert_snapshot!(text(), @r"
    p01
     1  ○ chunk-1  cached
        ▸ chunk-2  to be called
     2  · combine  depends on an answer; needs chunk-1, chunk-2; its text is the transcript
    ");
    // Answers that are bad, and one that is cut off.
    project.edit(
        "pipeline.toml",
        "latency = \"0s\"",
        "latency = \"0s\"\nfaults = { filtered = 1.0 }",
    );
    project.json(&[]).code(1);
    insta::assert_snapshot!(text(), @r"
    p01
     1  ○ chunk-1  cached
        ! chunk-2  rejected last time, to be called (answer withheld by the provider's filter)
     2  · combine  depends on an answer; needs chunk-1, chunk-2; its text is the transcript
    ");
    project.edit("pipeline.toml", "filtered = 1.0", "truncated = 1.0");
    project.json(&[]).code(1);
    insta::assert_snapshot!(text(), @r"
    p01
     1  ○ chunk-1  cached
        ✗ chunk-2  fails (answer cut off after 189 tokens, before `max_output_tokens` = 4000)
     2  - combine  skipped; needs chunk-1, chunk-2; its text is the transcript
    ");
}

#[test]
fn what_cannot_be_drawn_is_said() {
    let project = Project::small(2);
    project.write("personas/broken/facts.toml", "a = ");
    let ran = project.run(&["graph", "p0", "--format", "svg"]).code(2);
    insta::assert_snapshot!(ran.errors(), @r"
    error: there is no persona `p0`

    hint: did you mean `p00`?
    ");
    let ran = project.run(&["graph", "broken"]).code(2);
    insta::assert_snapshot!(ran.errors(), @r"
    error: broken: not valid TOML: string values must be quoted, expected literal string (personas/broken/facts.toml:1)

    hint: `septet check` looks at all of them
    ");
    let ran = project.run(&["graph", "--format", "png"]).code(2);
    insta::assert_snapshot!(ran.errors(), @r"
    error: invalid value 'png' for '--format <FORMAT>'
      [possible values: text, dot, mermaid, svg]

    For more information, try '--help'.
    ");
}
