//! The budget through the real binary: it stops in time, says so, and what comes later pays exactly
//! the rest. The server's own counters are the witness of what was paid.

use serde_json::Value;

use crate::project::{Events, Project, Server};

/// What the server's answers cost at the prices of [`crate::project::SMALL`], cached input as read.
fn billed(server: &Server) -> f64 {
    let stats = server.stats();
    let tokens = |kind: &str| stats["tokens"][kind].as_f64().unwrap_or(0.0);
    let plain = tokens("input") - tokens("cached_input") - tokens("cache_write");
    (plain * 0.10 + tokens("cached_input") * 0.01 + tokens("cache_write") * 0.125 + tokens("output") * 0.50)
        / 1e6
}

fn cost(run: &Events) -> f64 {
    run.summary()["cost_usd"].as_f64().unwrap()
}

fn dear() -> (Server, Project) {
    let server = Server::start(&[]);
    let project = Project::small(20)
        .at(&server.url)
        .with("max_output_tokens = 4000", "max_output_tokens = 600")
        .with("concurrency = 16", "concurrency = 4");
    (server, project)
}

#[test]
fn a_budget_stops_in_time_and_the_next_run_pays_exactly_the_rest() {
    let (server, project) = dear();
    let run = project.json(&["--budget", "0.003"]).code(3);
    assert_eq!(run.summary()["outcome"], "budget");
    let (spent, calls) = (cost(&run), run.figure("calls.sent"));
    assert!(spent > 0.002 && spent <= 0.003, "{spent}");
    assert!(
        (billed(&server) - spent).abs() < 1e-9,
        "{} {spent}",
        billed(&server)
    );
    assert_eq!(run.named("run_started")[0]["budget_usd"], 0.003);
    assert_eq!(run.named("budget_low").len(), 1, "told once at 80 %");
    let reached = run.named("budget_reached");
    assert_eq!(
        (&reached[0]["limit"], &reached[0]["budget_usd"]),
        (&"--budget".into(), &0.003.into())
    );
    assert_eq!(run.named("run_stopped")[0]["error"]["kind"], "budget");
    assert!(run.figure("personas.pending") > 0 && run.figure("nodes.failed") == 0);
    let rest = project.json(&["--budget", "1"]).code(0);
    assert_eq!(calls + rest.figure("calls.sent"), 60, "every node is paid once");
    assert_eq!(server.stats()["bodies"]["paid_twice"], 0);
    assert!(rest.named("budget_low").is_empty());
    assert_eq!(
        project.json(&["--budget", "0"]).code(0).figure("calls.sent"),
        0,
        "nothing to pay"
    );
}

#[test]
fn a_budget_over_all_runs_counts_what_was_paid_before() {
    let (server, project) = dear();
    let project = project.with(
        "[limits]",
        "[limits]\nbudget_usd_total = 0.004\nbudget_usd = 0.0025",
    );
    let first = project.json(&[]).code(3);
    assert!(cost(&first) <= 0.0025);
    assert_eq!(first.named("budget_reached")[0]["limit"], "limits.budget_usd");
    let second = project.json(&[]).code(3);
    assert_eq!(
        second.named("budget_reached")[0]["limit"],
        "limits.budget_usd_total"
    );
    let sum = cost(&first) + cost(&second);
    assert!(sum > 0.003 && sum <= 0.004, "{sum}");
    // The total is that of the journal, also after the look-up trees are gone.
    std::fs::remove_dir_all(project.path("cache/store")).unwrap();
    let third = project.json(&[]).code(3);
    let spent = third.named("budget_reached")[0]["spent_usd"].as_f64().unwrap();
    assert!(
        (spent - sum).abs() < 1e-9 || third.figure("calls.sent") > 0,
        "{spent} {sum}"
    );
    assert!(billed(&server) <= 0.004);
    project.edit(
        "pipeline.toml",
        "budget_usd_total = 0.004",
        "budget_usd_month = 0.004",
    );
    let month = project.json(&[]).code(3);
    assert_eq!(
        month.named("budget_reached")[0]["limit"],
        "limits.budget_usd_month"
    );
}

#[test]
fn a_budget_without_a_price_is_refused_before_anything_is_called() {
    let project = Project::small(1).with(
        "vars = { title = \"Leaving\" }",
        "vars = { title = \"Leaving\" }\nmodel = { name = \"gpt-6-sol\" }",
    );
    for command in ["run", "plan"] {
        let told = project.run(&[command, "--budget", "5"]).code(2);
        insta::allow_duplicates! {
            insta::assert_snapshot!(told.errors(), @r#"
            error: there is a budget, and the model `gpt-6-sol` of node `chunk-2` has no price
              --> pipeline.toml:37

            hint: add `[prices."gpt-6-sol"]` with `input` and `output`, in USD per million tokens
            "#);
        }
    }
    project.run(&["run"]).code(0);
}

#[test]
fn what_people_read_of_a_budget() {
    let project = Project::small(20).with("concurrency = 16", "concurrency = 1");
    let plan = project.run(&["plan", "--budget", "0.05"]).code(0);
    let told = plan.stdout.lines().skip_while(|line| !line.starts_with("budget"));
    let budget: Vec<&str> = told.take_while(|line| !line.starts_with("time")).collect();
    insta::assert_snapshot!(budget.join("\n"), @"
    budget    might end the run at the earliest after 24 of 60 calls: $0.0020 is set
              aside for the next one, of chunk-1, and $0.0019 of $0.0500
              (`--budget`) is left
    ");
    let told = project.run(&["run", "--budget", "0.0040"]).code(3);
    let ending: Vec<&str> = told
        .stderr
        .lines()
        .skip_while(|line| !line.starts_with("stopped"))
        .collect();
    // How far it comes depends on which of two nodes is ready first.
    insta::with_settings!({filters => vec![
        (r"\d+ of 20 (.*), \d+ left", "[n] of 20 $1, [n] left"),
        (r"\$0\.00[0-3]\d+", "[usd]"),
        (r"p\d\d/[a-z0-9-]+", "[node]"),
        (r"--budget 0\.0\d+", "--budget [usd]"),
    ]}, {
        insta::assert_snapshot!(ending.join("\n"), @"
        stopped by the budget: [n] of 20 personas up to date, [n] left
        budget: [usd] of $0.0040 (`--budget`) is spent; the next call, of [node], may cost [usd], and [usd] is left
        hint: `septet run --budget [usd]` should do for the rest: a budget is for one run, and what was paid for is stored and not paid twice
        hint: `septet plan` says what the rest would cost
        ");
    });
    let told = project.run(&["plan", "--json", "--budget", "0.01"]).code(0);
    let last: Value = serde_json::from_str(told.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["passes_budget"]["budget_usd"], 0.01);
    let wrong = project.run(&["run", "--budget", "plenty"]).code(2);
    assert!(wrong.stderr.contains("an amount in dollars"), "{}", wrong.stderr);
}

fn plan_of(project: &Project, args: &[&str]) -> Value {
    let args: Vec<&str> = ["plan", "--json"].iter().chain(args).copied().collect();
    let told = project.run(&args).code(0);
    serde_json::from_str(told.stdout.lines().last().unwrap()).unwrap()
}

/// What is set aside for a call is that of the run, so the plan ends it where the run ends: also
/// where a dear call does not fit though what the calls would cost does.
#[test]
fn a_plan_says_where_a_budget_ends_the_run() {
    // One at a time: side by side the calls end in any order, and the next one is another.
    for budget in ["0.0045", "0.0090"] {
        let project = Project::small(20).with("concurrency = 16", "concurrency = 1");
        project.json(&["--max", "4"]).code(0);
        project.edit("prompts/system.md", "You write", "You will write");
        let args = ["--budget", budget];
        let over = plan_of(&project, &args)["passes_budget"].clone();
        let run = project.json(&args).code(3);
        let (foreseen, sent) = (
            over["after_calls"].as_f64().unwrap(),
            run.figure("calls.sent") as f64,
        );
        assert!(
            (foreseen - sent).abs() <= 1.0 + 0.15 * sent,
            "{foreseen} for {sent}"
        );
        let reached = &run.named("budget_reached")[0];
        let next = |value: &Value, name: &str| value[name].as_f64().unwrap();
        let (planned, real) = (next(&over["next"], "usd"), next(reached, "next_usd"));
        // Which of two nodes is ready first the run decides: a chunk's call is no combine's.
        if over["next"]["node"] == reached["node"] {
            assert!((planned / real - 1.0).abs() < 0.3, "${planned} for ${real}");
        }
        assert!((planned / real - 1.0).abs() < 0.6, "${planned} for ${real}");
        assert!(next(reached, "left_usd") < real);
    }
}

#[test]
fn one_dear_call_that_does_not_fit_is_named_with_what_would_do() {
    let project = Project::small(3)
        .with(
            "needs = [\"chunk-*\"]",
            "needs = [\"chunk-*\"]\nmodel = { max_output_tokens = 64000 }",
        )
        .with("concurrency = 16", "concurrency = 1");
    let told = project.run(&["plan", "--budget", "0.02"]).code(0).stdout;
    let text = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("might end the run at the earliest after 2 of 9 calls: $0.032"),
        "{text}"
    );
    let told = project.run(&["run", "--budget", "0.02"]).code(3).stderr;
    let text = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("; the next call, of p00/combine, may cost $0.032"),
        "{text}"
    );
    // What the hint names does for the rest.
    let (_, hint) = text.split_once("hint: `septet run --budget ").unwrap();
    let amount = hint.split('`').next().unwrap();
    project.json(&["--budget", amount]).code(0);
}
