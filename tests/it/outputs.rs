//! Transcripts: whole, inside the project, and never over what a person wrote.

use crate::project::Project;

#[test]
fn a_transcript_edited_by_hand_is_kept_and_the_new_text_is_beside_it() {
    let project = Project::small(2);
    project.json(&[]).code(0);
    project.write("transcripts/p00.md", "my own words\n");
    let run = project.json(&[]).code(0);
    assert_eq!(
        (run.figure("personas.kept"), run.figure("personas.unchanged")),
        (1, 1)
    );
    assert_eq!(project.read("transcripts/p00.md"), "my own words\n");
    assert!(project.read("transcripts/p00.md.new").contains("conversation"));

    let told = project.run(&["run"]).code(0);
    assert!(told.stderr.contains("--overwrite"), "{}", told.stderr);
    let over = project.json(&["--overwrite"]).code(0);
    assert_eq!(over.figure("personas.written"), 1);
    assert_ne!(project.read("transcripts/p00.md"), "my own words\n");
}

#[test]
fn a_transcript_that_septet_never_wrote_is_kept() {
    let project = Project::small(1).file("transcripts/p00.md", "from the old script\n");
    assert_eq!(project.json(&[]).code(0).figure("personas.kept"), 1);
    assert_eq!(project.read("transcripts/p00.md"), "from the old script\n");
}

#[test]
fn a_missing_transcript_is_written_again_without_a_call() {
    let project = Project::small(2);
    project.json(&[]).code(0);
    std::fs::remove_file(project.path("transcripts/p01.md")).unwrap();
    let run = project.json(&[]).code(0);
    assert_eq!((run.figure("personas.written"), run.figure("calls.sent")), (1, 0));
}

#[test]
fn an_output_outside_the_project_is_refused() {
    for output in ["../{persona}.md", "/tmp/{persona}.md", "transcripts/same.md"] {
        let project = Project::small(1).with("transcripts/{persona}.md", output);
        let ran = project.run(&["run"]).code(2);
        assert!(
            ran.stderr.contains("pipeline.output") && ran.stderr.contains("pipeline.toml:3"),
            "{}",
            ran.stderr
        );
    }
}

#[cfg(unix)]
#[test]
fn an_output_outside_the_project_through_a_link_is_refused() {
    let project = Project::small(1);
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), project.path("transcripts")).unwrap();
    let run = project.json(&[]).code(1);
    assert_eq!(run.figure("personas.failed"), 1);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_persona_that_cannot_be_read_or_rendered_fails_alone_before_its_first_call() {
    let project = Project::small(3)
        .file("personas/p01/facts.toml", "name = \n")
        .file("prompts/persona.md", "{{ persona.id }} {{ persona.profile }}\n");
    std::fs::remove_file(project.path("personas/p02/profile.md")).unwrap();
    let run = project.json(&[]).code(1);
    assert_eq!(
        (run.figure("personas.written"), run.figure("personas.failed")),
        (1, 2)
    );
    assert_eq!((run.figure("calls.sent"), run.figure("nodes.skipped")), (3, 6));
    let failed: Vec<String> = run
        .named("persona_finished")
        .iter()
        .filter(|persona| persona["status"] == "failed")
        .map(|persona| format!("{} {}", persona["error"]["kind"], persona["error"]["message"]))
        .collect();
    assert_eq!(failed.len(), 2);
    assert!(
        failed.iter().any(|why| why.contains("facts.toml:1")),
        "{failed:?}"
    );
    assert!(
        failed.iter().any(|why| why.contains("prompts/persona.md:1")),
        "{failed:?}"
    );
}

/// What nobody's files have is told of three personas, then once of all others.
#[test]
fn a_name_that_no_persona_has_is_told_a_few_times() {
    let project = Project::small(7);
    project.edit("prompts/chunk.md", "Write", "{{ persona.nope }} Write");
    let run = project.run(&["run"]).code(1);
    let told = |text: &str, words: &str| text.lines().filter(|line| line.starts_with(words)).count();
    assert_eq!(told(&run.stderr, "✗ p"), 3, "{}", run.stderr);
    let others = "! others cannot be rendered for the same cause; the end says how many";
    assert_eq!(told(&run.stderr, others), 1, "{}", run.stderr);
    assert!(
        run.stderr.contains("  7 x template: such as p0"),
        "{}",
        run.stderr
    );
    let check = project.run(&["check"]).code(1);
    assert_eq!(told(&check.stdout, "✗ p"), 3, "{}", check.stdout);
    assert_eq!(
        told(
            &check.stdout,
            "✗ and 4 other personas: `persona.nope` is not defined (prompts/chunk.md:1)"
        ),
        1,
        "{}",
        check.stdout
    );
}

/// Two names that nobody has, of which now one is met and now the other: each is told three times.
#[test]
fn each_of_two_causes_is_told_a_few_times() {
    let project = Project::small(12);
    project.edit(
        "prompts/chunk.md",
        "Write",
        "{% if 'Lena' in persona.profile %}{{ persona.nope }}{% endif %}{{ persona.nada }} Write",
    );
    for persona in (0..12).filter(|n| n % 3 == 0) {
        project.write(&format!("personas/p{persona:02}/profile.md"), "Lena\n");
    }
    let told = |text: &str, words: &str| text.lines().filter(|line| line.starts_with(words)).count();
    let run = project.run(&["run", "--workers", "1"]).code(1);
    for cause in ["`persona.nope`", "`persona.nada`"] {
        let lines = run.stderr.lines();
        let told = lines.filter(|line| line.starts_with("✗ p") && line.contains(cause));
        assert_eq!(told.count(), 3, "{cause}: {}", run.stderr);
    }
    let others = "! others cannot be rendered for the same cause; the end says how many";
    assert_eq!(told(&run.stderr, others), 2, "{}", run.stderr);
    // Whatever looks at them tells it so.
    for (command, place) in [("check", false), ("plan", false), ("rehearse", true)] {
        let ran = project.run(&[command]);
        let said = if place { &ran.stderr } else { &ran.stdout };
        assert_eq!(told(said, "✗ p"), 6, "{command}: {said}");
        assert_eq!(told(said, "✗ and 1 other persona: "), 1, "{command}: {said}");
        assert_eq!(told(said, "✗ and 5 other personas: "), 1, "{command}: {said}");
    }
}

#[test]
fn what_lay_beside_a_transcript_goes_when_it_replaces_it() {
    let project = Project::small(1);
    project.json(&[]).code(0);
    project.write("transcripts/p00.md", "my own words\n");
    project.json(&[]).code(0);
    assert!(project.path("transcripts/p00.md.new").is_file());
    project.run(&["run", "--overwrite"]).code(0);
    assert_eq!(project.names("transcripts"), ["p00.md"]);
}
