//! What people read of `show` and `runs`, as whole texts: only what no two runs have in common is
//! replaced.

use crate::project::{Project, settled};
use crate::wire::{self, Wire, answer, error, good};

/// Whether a call is that of a node of [`crate::project::SMALL`].
fn is_of(body: &str, words: &str) -> bool {
    body.contains(words)
}

/// A project at a server that answers `chunk-1` badly in several ways before it answers well.
fn with_troubles() -> (Wire, Project) {
    let server = Wire::start(|number, body| match (is_of(body, "Arriving\\\"."), number) {
        (true, 1) => error(
            "500 Internal Server Error",
            "server_error",
            "x",
            "The server had an error.",
        ),
        (true, 2) => wire::json("200 OK", &answer("", "content_filter")),
        (true, 3) => wire::json(
            "200 OK",
            &answer(
                "They had hardly sat down when it began to rain, and nobody said a word.\n\nThen somebody",
                "length",
            ),
        ),
        (true, 4) => wire::json("200 OK", &answer("", "stop")),
        _ => good(body),
    });
    let project = Project::small(1)
        .at(&server.url())
        .with("base = \"1ms\"", "base = \"1ms\"\nrejected = 5");
    (server, project)
}

#[test]
fn a_node_in_full() {
    let (_server, project) = with_troubles();
    project.run(&["run", "-q"]).code(0);
    let _scope = settled().bind_to_scope();
    let said = |args: &[&str]| project.run(&[&["show"], args].concat()).code(0).stdout;
    insta::assert_snapshot!(said(&["p00"]), @"
    persona     p00
    transcript  transcripts/p00.md

    node     status      attempts  tokens      cost  latency  run
    chunk-1  up to date         5     120  <$0.0001     [s]  YYYYMMDD-hhmmss-[id]
    chunk-2  up to date         1     120  <$0.0001     [s]  YYYYMMDD-hhmmss-[id]
    combine  up to date         1     120  <$0.0001     [s]  YYYYMMDD-hhmmss-[id]

    `septet show p00/NODE` shows a node in full
    ");
    insta::assert_snapshot!(said(&["p00/combine"]), @r#"
    node      p00/combine
    status    up to date
    key       [key]
    asked     gpt-6-luna
    answered  YYYY-MM-DD hh:mm:ss in run YYYYMMDD-hhmmss-[id], attempt 1 by gpt-6-luna-2026-10-01
    tokens    100 input (60 cached), 20 output (5 reasoning)
    cost      <$0.0001
    latency   [s]
    usage     {"completion_tokens":20,"completion_tokens_details":{"reasoning_tokens":5},"prompt_tokens":100,"prompt_tokens_details":{"cached_tokens":60},"total_tokens":120}

    attempts
      YYYY-MM-DD hh:mm:ss  run YYYYMMDD-hhmmss-[id], attempt 1: answered, <$0.0001

    --- system
    You write down a conversation.

    --- user
    # p00

    Person number 0.

    Join:

    ## chunk-1
    Words number 3195102473.

    ## chunk-2
    Words number 1135104983.

    --- answer
    Words number 1521750787.
    "#);
    insta::assert_snapshot!(said(&["p00/chunk-1"]), @r#"
    node      p00/chunk-1
    status    up to date
    key       [key]
    asked     gpt-6-luna
    answered  YYYY-MM-DD hh:mm:ss in run YYYYMMDD-hhmmss-[id], attempt 5 by gpt-6-luna-2026-10-01
    tokens    100 input (60 cached), 20 output (5 reasoning)
    cost      <$0.0001
    latency   [s]
    usage     {"completion_tokens":20,"completion_tokens_details":{"reasoning_tokens":5},"prompt_tokens":100,"prompt_tokens_details":{"cached_tokens":60},"total_tokens":120}

    attempts
      YYYY-MM-DD hh:mm:ss  run YYYYMMDD-hhmmss-[id], attempt 1: The server had an error. (HTTP 500)
      YYYY-MM-DD hh:mm:ss  run YYYYMMDD-hhmmss-[id], attempt 2: rejected, <$0.0001: answer withheld by the provider's filter
      YYYY-MM-DD hh:mm:ss  run YYYYMMDD-hhmmss-[id], attempt 3: rejected, <$0.0001: answer cut off at the output limit
        They had hardly sat down when it began to rain, and nobody …
      YYYY-MM-DD hh:mm:ss  run YYYYMMDD-hhmmss-[id], attempt 4: rejected, <$0.0001: answer without text
      YYYY-MM-DD hh:mm:ss  run YYYYMMDD-hhmmss-[id], attempt 5: answered, <$0.0001

    --- system
    You write down a conversation.

    --- user
    # p00

    Person number 0.

    Write the part "Arriving".

    --- answer
    Words number 3195102473.
    "#);
    insta::assert_snapshot!(said(&["p00/chunk-1", "--rejected"]), @r#"
    node      p00/chunk-1
    status    up to date
    key       [key]
    asked     gpt-6-luna
    answered  YYYY-MM-DD hh:mm:ss in run YYYYMMDD-hhmmss-[id], attempt 5 by gpt-6-luna-2026-10-01
    tokens    100 input (60 cached), 20 output (5 reasoning)
    cost      <$0.0001
    latency   [s]
    usage     {"completion_tokens":20,"completion_tokens_details":{"reasoning_tokens":5},"prompt_tokens":100,"prompt_tokens_details":{"cached_tokens":60},"total_tokens":120}

    attempts
      YYYY-MM-DD hh:mm:ss  run YYYYMMDD-hhmmss-[id], attempt 1: The server had an error. (HTTP 500)
      YYYY-MM-DD hh:mm:ss  run YYYYMMDD-hhmmss-[id], attempt 2: rejected, <$0.0001: answer withheld by the provider's filter
      YYYY-MM-DD hh:mm:ss  run YYYYMMDD-hhmmss-[id], attempt 3: rejected, <$0.0001: answer cut off at the output limit
        They had hardly sat down when it began to rain, and nobody said a word.

        Then somebody
      YYYY-MM-DD hh:mm:ss  run YYYYMMDD-hhmmss-[id], attempt 4: rejected, <$0.0001: answer without text
      YYYY-MM-DD hh:mm:ss  run YYYYMMDD-hhmmss-[id], attempt 5: answered, <$0.0001

    --- system
    You write down a conversation.

    --- user
    # p00

    Person number 0.

    Write the part "Arriving".

    --- answer
    Words number 3195102473.
    "#);
    project.edit("prompts/chunk.md", "Write", "Tell");
    insta::assert_snapshot!(said(&["p00"]), @"
    persona     p00
    transcript  transcripts/p00.md

    node     status           attempts  tokens      cost  latency  run
    chunk-1  earlier request         5     120  <$0.0001     [s]  YYYYMMDD-hhmmss-[id]
    chunk-2  earlier request         1     120  <$0.0001     [s]  YYYYMMDD-hhmmss-[id]
    combine  sent last               1     120  <$0.0001     [s]  YYYYMMDD-hhmmss-[id]

    `septet show p00/NODE` shows a node in full
    ");
    insta::assert_snapshot!(said(&["p00/chunk-2"]), @r#"
    node      p00/chunk-2
    status    of an earlier request, not of the present one: `septet why p00/chunk-2` says what differs
    key       [key]
    asked     gpt-6-luna
    answered  YYYY-MM-DD hh:mm:ss in run YYYYMMDD-hhmmss-[id], attempt 1 by gpt-6-luna-2026-10-01
    tokens    100 input (60 cached), 20 output (5 reasoning)
    cost      <$0.0001
    latency   [s]
    usage     {"completion_tokens":20,"completion_tokens_details":{"reasoning_tokens":5},"prompt_tokens":100,"prompt_tokens_details":{"cached_tokens":60},"total_tokens":120}

    attempts
      YYYY-MM-DD hh:mm:ss  run YYYYMMDD-hhmmss-[id], attempt 1: answered, <$0.0001

    --- system
    You write down a conversation.

    --- user
    # p00

    Person number 0.

    Write the part "Leaving".

    --- answer
    Words number 1135104983.
    "#);
    insta::assert_snapshot!(said(&["p00/combine", "--answer"]), @"Words number 1521750787.");
}

#[test]
fn a_node_that_was_never_called_and_one_without_a_good_answer() {
    let server = Wire::always(wire::json(
        "200 OK",
        &answer("I cannot help with that.", "content_filter"),
    ));
    let project = Project::small(1).at(&server.url());
    let _scope = settled().bind_to_scope();
    let said = |node: &str| project.run(&["show", node]).code(0).stdout;
    insta::assert_snapshot!(said("p00"), @"
    persona     p00
    transcript  transcripts/p00.md (not there)

    node     status        attempts  tokens  cost  latency  run
    chunk-1  never called         0       –     –        –  –
    chunk-2  never called         0       –     –        –  –
    combine  never called         0       –     –        –  –

    `septet show p00/NODE` shows a node in full
    ");
    insta::assert_snapshot!(said("p00/combine"), @"
    node      p00/combine
    status    never called

    --- the prompt is known once the nodes that it needs have been called
    ");
    project.run(&["run", "-q"]).code(1);
    insta::assert_snapshot!(said("p00"), @"
    persona     p00
    transcript  transcripts/p00.md (not there)

    node     status          attempts  tokens      cost  latency  run
    chunk-1  no good answer         3     360  <$0.0001        –  –
    chunk-2  no good answer         3     360  <$0.0001        –  –
    combine  never called           0       –         –        –  –

    `septet show p00/NODE` shows a node in full
    ");
    insta::assert_snapshot!(said("p00/chunk-1"), @r#"
    node      p00/chunk-1
    status    no good answer to the present request so far
    key       [key]
    asked     gpt-6-luna

    attempts
      YYYY-MM-DD hh:mm:ss  run YYYYMMDD-hhmmss-[id], attempt 1: rejected, <$0.0001: answer withheld by the provider's filter
        I cannot help with that.
      YYYY-MM-DD hh:mm:ss  run YYYYMMDD-hhmmss-[id], attempt 2: rejected, <$0.0001: answer withheld by the provider's filter
        I cannot help with that.
      YYYY-MM-DD hh:mm:ss  run YYYYMMDD-hhmmss-[id], attempt 3: rejected, <$0.0001: answer withheld by the provider's filter
        I cannot help with that.

    --- system
    You write down a conversation.

    --- user
    # p00

    Person number 0.

    Write the part "Arriving".
    "#);
    let none = project.run(&["show", "p00/chunk-1", "--answer"]).code(2);
    insta::assert_snapshot!(none.errors(), @"
    error: p00/chunk-1 has no answer

    hint: `septet show` without `--answer` says why
    ");
}

/// Kills the program once the first calls are in flight.
#[cfg(unix)]
pub fn killed() -> Project {
    use std::io::{BufRead, BufReader};
    let project = Project::small(2).with("latency = \"0s\"", "latency = \"60s\"");
    let mut child = project.command(&["run", "--json"]).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let sent = lines
        .map(Result::unwrap)
        .filter(|line| line.contains("call_started"));
    assert_eq!(sent.take(4).count(), 4);
    child.kill().unwrap();
    child.wait().unwrap();
    project
}

#[cfg(unix)]
#[test]
fn a_call_that_was_open_when_the_program_was_killed() {
    let project = killed();
    let _scope = settled().bind_to_scope();
    let shown = project.run(&["show", "p00/chunk-1"]).code(0);
    insta::assert_snapshot!(shown.errors(), @"warning: run YYYYMMDD-hhmmss-[id] ended without a word (killed?); what it paid for is kept, and 4 calls were open: possibly billed, at most about $0.0080");
    insta::assert_snapshot!(shown.stdout, @r#"
    node      p00/chunk-1
    status    no good answer to the present request so far
    key       [key]
    asked     gpt-6-luna

    attempts
      YYYY-MM-DD hh:mm:ss  run YYYYMMDD-hhmmss-[id], attempt 1: septet ended while waiting for the answer (possibly billed, at most about $0.0020)

    --- system
    You write down a conversation.

    --- user
    # p00

    Person number 0.

    Write the part "Arriving".
    "#);
    insta::assert_snapshot!(project.run(&["runs"]).code(0).stdout, @"
    run                   started           outcome  calls  tokens   cost  time
    YYYYMMDD-hhmmss-[id]  YYYY-MM-DD hh:mm  died         4       0  $0.00  [s]  simulated
    total                                   1 run        4       0  $0.00
    ");
    insta::assert_snapshot!(project.run(&["runs", "last"]).code(0).stdout, @"
    run       YYYYMMDD-hhmmss-[id]
    started   YYYY-MM-DD hh:mm:ss, took [s]
    outcome   died: it ended without a word, and this is put together from what it left
    provider  simulator (simulated)
    limits    16 in flight
    personas  2: 2 left
    nodes     6: 6 left
    calls     4: 4 abandoned
    tokens    0 input, 0 output
    cost      $0.00 (simulated)
    billed?   4 calls possibly billed, at most about $0.0080
    ");
}

#[test]
fn runs_as_a_list_in_full_and_added_up() {
    let (_server, project) = with_troubles();
    let project = project.file("personas/p01/profile.md", "Person number 1.\n");
    let _scope = settled().bind_to_scope();
    let said = |args: &[&str]| project.run(&[&["runs"], args].concat()).code(0);
    let none = said(&[]);
    assert_eq!(
        (none.stdout.as_str(), none.errors().as_str()),
        ("", "no run has ended yet\n")
    );
    project.run(&["run", "-q", "--max", "1"]).code(0);
    project.run(&["run", "-q"]).code(0);
    // One that finds nothing to do without looking leaves no trace.
    project.run(&["run", "-q"]).code(0);
    project.run(&["run", "-q", "--verify"]).code(0);
    insta::assert_snapshot!(said(&[]).stdout, @"
    run                   started           outcome   calls  tokens     cost  time
    YYYYMMDD-hhmmss-[id]  YYYY-MM-DD hh:mm  complete      7     720  $0.0001  [s]
    YYYYMMDD-hhmmss-[id]  YYYY-MM-DD hh:mm  complete      7     720  $0.0001  [s]
    YYYYMMDD-hhmmss-[id]  YYYY-MM-DD hh:mm  complete      0       0    $0.00  [s]
    total                                   3 runs       14   1,440  $0.0002
    ");
    insta::assert_snapshot!(said(&["last"]).stdout, @"
    run       YYYYMMDD-hhmmss-[id]
    started   YYYY-MM-DD hh:mm:ss, took [s]
    outcome   complete
    provider  test
    limits    16 in flight
    personas  2: 2 unchanged
    nodes     6: 6 cached
    calls     0
    tokens    0 input, 0 output
    cost      $0.00
    saved     $0.00 by the provider's cache, $0.0001 by septet's
    ");
    let first = project.json(&["--verify"]).code(0).summary()["run"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        said(&[&first])
            .stdout
            .starts_with(&format!("run       {first}\n"))
    );
    insta::assert_snapshot!(said(&["--by", "model"]).stdout, @"
    model       runs  answers  input  output     cost
    gpt-6-luna     2       12  1,200     240  $0.0002
    total          4       12  1,200     240  $0.0002
    ");
    insta::assert_snapshot!(said(&["--by", "month"]).stdout, @"
    month    runs  answers  input  output     cost
    YYYY-MM     4       12  1,200     240  $0.0002
    total       4       12  1,200     240  $0.0002
    ");
    let listed = said(&["--json"]).stdout;
    let oldest: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    insta::assert_snapshot!(said(&[oldest["run"].as_str().unwrap()]).stdout, @"
    run       YYYYMMDD-hhmmss-[id]
    started   YYYY-MM-DD hh:mm:ss, took [s]
    outcome   complete
    provider  test
    limits    16 in flight
    personas  1: 1 written
    nodes     3: 3 called
    calls     7: 3 ok, 3 rejected, 1 faulted
    tokens    600 input (360 cached), 120 output (30 reasoning)
    cost      $0.0001
    saved     <$0.0001 by the provider's cache, $0.00 by septet's

    model       answers  input  output     cost
    gpt-6-luna        6    600     120  $0.0001

    node     answers  rejected  output, 10 to 90 %  latency, mean
    chunk-1        1         3       20 (20 to 20)           [s]
    chunk-2        1         0       20 (20 to 20)           [s]
    combine        1         0       20 (20 to 20)           [s]
    ");
}

/// One call at a time, and money for one: which of two that are ready alike is chance.
#[test]
fn runs_that_stopped_at_a_budget_and_went_on() {
    let server = Wire::start(|_, body| good(body));
    let project = Project::small(1)
        .at(&server.url())
        .with("concurrency = 16", "concurrency = 1");
    let project = project.with("max_output_tokens = 4000", "max_output_tokens = 20");
    let mut settings = settled();
    settings.add_filter("chunk-[12]", "chunk-[n]");
    let _scope = settings.bind_to_scope();
    project.run(&["run", "-q", "--budget", "0.00002"]).code(3);
    project.run(&["run", "-q"]).code(0);
    let said = |args: &[&str]| project.run(&[&["runs"], args].concat()).code(0).stdout;
    insta::assert_snapshot!(said(&[]), @"
    run                   started           outcome   calls  tokens      cost  time
    YYYYMMDD-hhmmss-[id]  YYYY-MM-DD hh:mm  budget        1     120  <$0.0001  [s]
    YYYYMMDD-hhmmss-[id]  YYYY-MM-DD hh:mm  complete      2     240  <$0.0001  [s]
    total                                   2 runs        3     360  <$0.0001
    ");
    let listed = said(&["--json"]);
    let stopped: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    insta::assert_snapshot!(said(&[stopped["run"].as_str().unwrap()]), @"
    run       YYYYMMDD-hhmmss-[id]
    started   YYYY-MM-DD hh:mm:ss, took [s]
    outcome   budget: the next call did not fit into it
    provider  test
    limits    1 in flight
    personas  1: 1 left
    nodes     3: 1 called, 2 left
    calls     1: 1 ok
    tokens    100 input (60 cached), 20 output (5 reasoning)
    cost      <$0.0001
    saved     <$0.0001 by the provider's cache, $0.00 by septet's

    model       answers  input  output      cost
    gpt-6-luna        1    100      20  <$0.0001

    node     answers  rejected  output, 10 to 90 %  latency, mean
    chunk-[n]        1         0       20 (20 to 20)           [s]
    ");
}

#[test]
fn check_says_what_a_ping_cost_which_price_was_meant_and_what_failed() {
    let project = Project::small(2);
    let told = project.run(&["check", "--ping"]).code(0).stdout;
    assert!(told.lines().last().unwrap().contains("tokens, cost "), "{told}");
    let project = project.with("[prices.\"gpt-6-luna\"]", "[prices.\"gpt-6-lunna\"]");
    let told = project.run(&["check"]).code(0).stdout;
    assert!(
        told.contains("there is `[prices.\"gpt-6-lunna\"]`: did you mean this model?"),
        "{told}"
    );
    let told = project.run(&["plan", "--budget", "1"]).code(2).stderr;
    assert!(
        told.contains("there is `[prices.\"gpt-6-lunna\"]`: did you mean"),
        "{told}"
    );
    project.write("personas/p00/data.toml", "a = ");
    let told = project.run(&["check"]).code(1).stdout;
    assert_eq!(told.lines().last(), Some("✗ 1 of 2 personas cannot be rendered"));
    let missing = project.with("personas = \"personas\"", "personas = \"persons\"");
    let told = missing.run(&["check"]).code(2).stderr;
    insta::assert_snapshot!(told, @"
    error: no personas: `persons` does not exist
      --> pipeline.toml:2

    hint: make it, with one folder for each persona, or name another as `personas` in `[pipeline]`
    ");
}
