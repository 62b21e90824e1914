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
    let server = Server::start(&["--latency", "20ms"]);
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
