//! What a provider's prompt cache makes of a run: the server's own counters and the figures of the
//! run are the witnesses.

use crate::project::{Project, Server};

/// Tokens of the persona's text.
const PERSONA: u64 = 2_000;

/// A project whose nodes share a long context, on the server.
fn project(personas: usize, url: &str, model: &str, provider: &str) -> Project {
    let project = Project::small(personas)
        .at(url)
        .with("name = \"gpt-6-luna\"", &format!("name = \"{model}\""))
        .with("name = \"test\"", &format!("name = \"test\"\n{provider}"));
    for i in 0..personas {
        let profile = format!("Person number {i:02} counts days. ").repeat(PERSONA as usize / 7);
        project.write(&format!("personas/p{i:02}/profile.md"), profile);
    }
    project
}

#[test]
fn breakpoints_are_written_once_and_read_by_all_others() {
    let server = Server::start(&["--latency", "20ms"]);
    let project = project(20, &server.url, "gpt-6-luna", "prompt_cache = \"explicit\"");
    let run = project.json(&[]).code(0);
    assert_eq!(run.figure("calls.sent"), 60);
    // The leader of each persona writes; the other chunk and the combine read.
    assert_eq!(
        run.figure("tokens.cached_input"),
        2 * run.figure("tokens.cache_write")
    );
    assert!(run.figure("tokens.cache_write") >= 20 * PERSONA);
    let stats = server.stats();
    assert_eq!(stats["tokens"]["cached_input"], run.figure("tokens.cached_input"));
}

#[test]
fn an_eager_run_writes_everything_again() {
    // Long enough for all chunks to be in flight before the first of them is answered.
    let server = Server::start(&["--latency", "1s", "--jitter", "0"]);
    let project = project(10, &server.url, "gpt-6-luna", "prompt_cache = \"explicit\"");
    project.write(
        "pipeline.toml",
        format!(
            "{}\n[schedule]\nprefix = \"eager\"\n",
            project.read("pipeline.toml")
        ),
    );
    let run = project.json(&["--workers", "64"]).code(0);
    // Both chunks of each persona at once: only the combines find something.
    assert_eq!(
        run.figure("tokens.cache_write"),
        2 * run.figure("tokens.cached_input")
    );
}

#[test]
fn a_server_that_refuses_the_hint_is_asked_without_it_and_the_run_goes_on() {
    let server = Server::start(&[]);
    let project = project(5, &server.url, "gpt-4.1", "prompt_cache = \"explicit\"");
    project.edit("pipeline.toml", "base = \"1ms\"", "attempts = 1\nbase = \"1ms\"");
    let run = project.json(&[]).code(0);
    assert_eq!((run.figure("personas.written"), run.figure("calls.ok")), (5, 15));
    // One leader for each persona was sent before the first refusal came back, at the most.
    assert!(
        (1..=5).contains(&run.figure("calls.faulted")),
        "{}",
        run.summary()
    );
    let warnings = run.named("warning").len();
    assert_eq!(warnings, 1);
}

/// What `check` says beside what is well.
fn warnings(project: &Project) -> String {
    let told = project.run(&["check"]).code(0).stdout;
    let lines = told.lines().filter(|line| line.starts_with(['!', ' ']));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn check_says_what_prompts_leave_on_the_table() {
    let long = |sentences: usize| -> String {
        (0..sentences)
            .map(|i| format!("Sentence number {i:03} of a long life.\n"))
            .collect()
    };
    let project = Project::small(10);
    for i in 0..10 {
        project.write(
            &format!("personas/p{i:02}/profile.md"),
            format!("Person {i}.\n{}", long(200)),
        );
    }
    insta::assert_snapshot!(warnings(&project), @"");

    // The persona behind the part.
    project.write(
        "prompts/chunk.md",
        "Write \"{{ vars.title }}\".\n\n{{ persona.profile }}\n",
    );
    project.write("prompts/persona.md", "");
    insta::assert_snapshot!(warnings(&project), @"
    ! about 1,802 tokens that the 2 calls of a persona have in common stand behind what differs: the provider's cache cannot serve them (in a run with 10 personas 18,110 tokens could be read instead, which would save $0.0012)
      hint: put what they share (the persona) into `context`, which comes first, and what differs into `prompt`
    ");

    // A name in front of long instructions.
    project.write("prompts/chunk.md", "Write \"{{ vars.title }}\".\n");
    project.write("prompts/persona.md", "{{ persona.profile }}\n");
    project.write(
        "prompts/system.md",
        format!("You write for {{{{ persona.id }}}}.\n{}", long(150)),
    );
    insta::assert_snapshot!(warnings(&project), @"
    ! the system message differs from persona to persona: about 1,350 tokens of instructions could be read from the provider's cache and are paid in full for each (in a run with 10 personas 12,150 tokens could be read instead, which would save $0.0011)
      hint: move what is the persona's into `context`, or to the end of the system message
    ");

    // Just too short.
    project.write("prompts/system.md", "You write.\n");
    for i in 0..10 {
        project.write(
            &format!("personas/p{i:02}/profile.md"),
            format!("Person {i}.\n{}", long(100)),
        );
    }
    insta::assert_snapshot!(warnings(&project), @"
    ! the 3 calls of a persona share about 906 tokens, and providers keep 1,024 or more: a longer shared part would cost less than this one (in a run with 10 personas 20,480 tokens could be read instead, which would save $0.0012)
      hint: add to `context` or the system message what helps every part, or move it there from the prompts
    ");
    project.edit("pipeline.toml", "cached_input = 0.01\n", "");
    insta::assert_snapshot!(warnings(&project), @"");
}
