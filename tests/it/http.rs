//! The main job over real HTTP, against the simulator's server: the server's own counters are the
//! witness.

use crate::project::{Project, Server};

fn stat(stats: &serde_json::Value, path: &str) -> u64 {
    let value = path.split('.').fold(stats, |value, name| &value[name]);
    value.as_u64().unwrap_or(0)
}

#[test]
fn the_main_job_over_http_and_nothing_twice() {
    let server = Server::start(&[]);
    let project = Project::small(20).at(&server.url);
    let run = project.json(&[]).code(0);
    assert_eq!(
        (run.figure("personas.written"), run.figure("calls.sent")),
        (20, 60)
    );
    let stats = server.stats();
    assert_eq!(
        (
            stat(&stats, "outcomes.answered"),
            stat(&stats, "bodies.paid_twice")
        ),
        (60, 0)
    );
    assert_eq!(run.figure("tokens.input"), stat(&stats, "tokens.input"));
    assert_eq!(run.figure("tokens.output"), stat(&stats, "tokens.output"));
    assert!(stat(&stats, "most_in_flight") <= 16);
    assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0);
}

#[test]
fn faults_that_pass_cost_attempts_and_no_persona() {
    let faults = [
        "rate_limited=0.05",
        "server_error=0.08",
        "connection=0.05",
        "malformed=0.02",
        "empty=0.03",
    ];
    let args: Vec<&str> = faults.iter().flat_map(|fault| ["--fault", fault]).collect();
    let server = Server::start(&args);
    let project = Project::small(40).at(&server.url);
    let run = project.json(&[]).code(0);
    assert_eq!(
        (run.figure("personas.written"), run.figure("nodes.called")),
        (40, 120)
    );
    assert!(
        run.figure("calls.faulted") > 0 && run.figure("calls.rejected") > 0,
        "{}",
        run.summary()
    );
    let sum: u64 = ["ok", "rejected", "faulted", "abandoned"]
        .map(|kind| run.figure(&format!("calls.{kind}")))
        .iter()
        .sum();
    assert_eq!(run.figure("calls.sent"), sum);
    let stats = server.stats();
    assert_eq!(run.figure("calls.sent"), stat(&stats, "requests"));
    assert_eq!(
        (
            stat(&stats, "outcomes.answered"),
            stat(&stats, "bodies.paid_twice")
        ),
        (120, 0)
    );
}

#[test]
fn a_rate_that_only_the_server_knows_is_learned_from_its_first_answers() {
    let server = Server::start(&["--rpm", "1200", "--tpm", "3000000"]);
    let project = Project::small(40).at(&server.url);
    let run = project.json(&[]).code(0);
    assert_eq!(run.figure("nodes.called"), 120);
    let told: Vec<_> = run
        .named("rate_changed")
        .into_iter()
        .map(|event| {
            (
                event["counted"].clone(),
                event["per_minute"].clone(),
                event["cause"].clone(),
            )
        })
        .take(2)
        .collect();
    let expected = [("requests", 1_200, "told"), ("tokens", 3_000_000, "told")];
    assert_eq!(
        told,
        expected.map(|(counted, rate, cause)| (counted.into(), rate.into(), cause.into()))
    );
    // Those that were sent before the first answer came; 16 are in flight at the most.
    let stats = server.stats();
    assert!(stat(&stats, "outcomes.over_requests_limit") <= 16, "{stats}");
    assert_eq!(stat(&stats, "bodies.paid_twice"), 0);
}

#[test]
fn a_rate_that_the_server_enforces_is_kept() {
    let server = Server::start(&["--rpm", "3000", "--tpm", "3000000"]);
    let project = Project::small(30).at(&server.url);
    let run = project.json(&["--rpm", "3000", "--tpm", "2500000"]).code(0);
    assert_eq!(run.figure("nodes.called"), 90);
    let stats = server.stats();
    assert_eq!(
        stat(&stats, "outcomes.over_requests_limit") + stat(&stats, "outcomes.over_tokens_limit"),
        0
    );
}

#[test]
fn a_refusal_makes_everybody_wait_as_the_server_says() {
    let server = Server::start(&["--fault", "rate_limited=0.1"]);
    let project = Project::small(15).at(&server.url);
    let run = project.json(&[]).code(0);
    assert_eq!(run.figure("nodes.called"), 45);
    assert!(!run.named("paused").is_empty(), "a 429 pauses everybody");
    assert_eq!(stat(&server.stats(), "bodies.paid_twice"), 0);
}

#[test]
fn what_would_meet_every_call_ends_the_run_at_once() {
    let server = Server::start(&["--key", "sk-right"]);
    let project = Project::small(50)
        .at(&server.url)
        .with("base_url", "api_key_env = \"SEPTET_TEST_KEY\"\nbase_url")
        .variable("SEPTET_TEST_KEY", "sk-wrong-0123456789");
    let run = project.json(&[]).code(3);
    assert_eq!(run.summary()["outcome"], "fatal");
    assert!(run.figure("calls.sent") <= 16, "only what was in flight");
    assert_eq!(
        (run.figure("nodes.failed"), run.figure("personas.pending")),
        (0, 50)
    );
    let told = project.run(&["run"]).code(3);
    assert!(told.stderr.contains("HTTP 401"), "{}", told.stderr);
    assert!(!told.stderr.contains("sk-wrong-0123456789"), "{}", told.stderr);
}

#[test]
fn the_key_is_in_no_output_and_in_no_file() {
    let key = "sk-canary-7f3a9b2c1d";
    let server = Server::start(&[
        "--key",
        key,
        "--fault",
        "server_error=0.2",
        "--fault",
        "malformed=0.2",
    ]);
    let project = Project::small(6)
        .at(&server.url)
        .with("base_url", "api_key_env = \"SEPTET_TEST_KEY\"\nbase_url")
        .variable("SEPTET_TEST_KEY", key);
    for args in [
        &["run", "--json"][..],
        &["run"],
        &["plan", "-v"],
        &["check", "--ping"],
    ] {
        let ran = project.run(args);
        assert!(!ran.stdout.contains(key) && !ran.stderr.contains(key), "{args:?}");
    }
    let mut open = vec![project.path(".")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            assert!(
                !bytes.windows(key.len()).any(|window| window == key.as_bytes()),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn a_ping_says_why_it_failed() {
    let project = Project::small(1).at("http://127.0.0.1:9/v1");
    let told = project.run(&["check", "--ping"]).code(3);
    assert!(
        told.stderr.contains("127.0.0.1:9") || told.stderr.contains("refused"),
        "{}",
        told.stderr
    );
}

#[test]
fn a_key_is_not_sent_over_plain_http_to_another_host() {
    let project = Project::small(1)
        .at("http://llm.example/v1")
        .with("base_url", "api_key_env = \"SEPTET_TEST_KEY\"\nbase_url")
        .variable("SEPTET_TEST_KEY", "sk-canary-7f3a9b2c1d");
    let told = project.run(&["run"]).code(2);
    insta::assert_snapshot!(told.errors(), @r"
    error: the API key would go to `llm.example` unencrypted: use `https://` in `provider.base_url` (plain `http://` takes a key to this machine only)
      --> pipeline.toml: `[provider]`
    ");
}

#[test]
fn a_missing_key_is_named_before_anything_is_called() {
    let project = Project::small(1)
        .at("https://llm.example/v1")
        .with("base_url", "api_key_env = \"SEPTET_TEST_KEY\"\nbase_url");
    insta::assert_snapshot!(project.run(&["run"]).code(2).errors(), @r"
    error: the environment variable `SEPTET_TEST_KEY` is not set: set it to the API key; `provider.api_key_env` in `pipeline.toml` names the variable
      --> pipeline.toml: `[provider]`
    ");
}

/// `septet simulate` takes the output limit of a call out of the tokens a minute until it is answered.
#[test]
fn a_server_that_reserves_output_limits_is_found_out_by_its_first_refusals_and_then_known() {
    let server = Server::start(&["--tpm", "600000", "--latency", "100ms"]);
    let project = Project::small(20).at(&server.url);
    let run = project.json(&["--tpm", "600000"]).code(0);
    assert_eq!(run.figure("nodes.called"), 60);
    let learned = run.named("output_limit_reserved");
    assert_eq!(learned.len(), 1, "{learned:?}");
    let reckoned = learned[0]["reckoned"].as_u64().unwrap();
    assert!(reckoned >= 4_000, "{learned:?}");
    let refused = stat(&server.stats(), "outcomes.over_tokens_limit");
    assert!((1..=16).contains(&refused), "{refused}: what was in flight then");
    let cuts = run.named("rate_changed");
    let cuts = cuts.iter().filter(|change| change["cause"] == "refused");
    assert_eq!(cuts.count(), 0, "that says nothing of the rate");

    project.edit("prompts/chunk.md", "Write", "Describe");
    let run = project.json(&["--tpm", "600000"]).code(0);
    assert_eq!(run.figure("nodes.called"), 60);
    let known = run.named("output_limit_reserved");
    assert!(known.len() == 1 && known[0]["reckoned"].is_null(), "{known:?}");
}
