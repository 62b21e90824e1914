//! `septet plan` beside the run that follows it, and what people read of it.

use serde_json::Value;

use crate::project::{Events, Project};

/// The last line of `plan --json`.
#[track_caller]
fn planned(project: &Project, args: &[&str]) -> Value {
    let args: Vec<&str> = ["plan", "--json"].iter().chain(args).copied().collect();
    let ran = Events::of(&project.run(&args).code(0));
    let last = ran.all.last().unwrap().clone();
    assert_eq!(last["event"], "plan_finished");
    last
}

fn figure(value: &Value, path: &str) -> f64 {
    let found = path.split('.').fold(value, |value, name| &value[name]);
    found.as_f64().unwrap_or_else(|| panic!("{path} is {found}"))
}

/// Plans, runs, and holds the plan to what the run did: calls exactly, tokens and dollars within
/// 15 % of the middle and inside the range.
#[track_caller]
fn runs_as_planned(project: &Project, args: &[&str]) {
    let plan = planned(project, args);
    let ran = project.json(args).code(0);
    let ran = ran.summary();
    let calls = figure(&plan, "nodes.call") + figure(&plan, "nodes.depends");
    assert_eq!(calls, figure(ran, "calls.sent"));
    for kind in ["input", "output"] {
        let real = figure(ran, &format!("tokens.{kind}"));
        let middle = figure(&plan, &format!("tokens.{kind}"));
        let [low, high] = ["low", "high"].map(|end| figure(&plan, &format!("tokens.{kind}_range.{end}")));
        assert!((middle / real - 1.0).abs() < 0.15, "{kind}: {middle} for {real}");
        assert!(
            (low..=high).contains(&real),
            "{kind}: {real} is not in {low} to {high}"
        );
    }
    let real = figure(ran, "cost_usd");
    let [low, middle, high] = ["low_cost_usd", "cost_usd", "high_cost_usd"].map(|name| figure(&plan, name));
    assert!((middle / real - 1.0).abs() < 0.15, "${middle} for ${real}");
    assert!(
        (low..=high).contains(&real),
        "${real} is not in ${low} to ${high}"
    );
    assert!(high <= figure(&plan, "most_cost_usd"));
}

/// Forty personas of which half speak a lot.
fn forty() -> Project {
    let project = Project::small(40);
    for i in (0..40).step_by(2) {
        let profile = format!(
            "Person number {i} has a long story. {}\n",
            "She tells it. ".repeat(60)
        );
        project.write(&format!("personas/p{i:02}/profile.md"), profile);
    }
    project
}

#[test]
fn an_edited_prompt_costs_what_was_planned() {
    let project = forty();
    project.json(&[]).code(0);
    project.edit("pipeline.toml", "Leaving", "Staying");
    runs_as_planned(&project, &[]);
    project.edit("prompts/persona.md", "# ", "## About ");
    runs_as_planned(&project, &[]);
    runs_as_planned(&project, &["--refresh", "*"]);
}

#[test]
fn three_personas_tell_what_all_of_them_cost() {
    for chosen in [["--max", "4"], ["--persona", "p1[0-3]"]] {
        let project = forty();
        project.json(&chosen).code(0);
        runs_as_planned(&project, &[]);
    }
}

#[test]
fn without_history_a_plan_says_the_most_and_says_so() {
    let project = Project::small(2);
    let plan = planned(&project, &[]);
    let ran = project.json(&[]).code(0);
    assert!(figure(&plan, "most_cost_usd") > figure(ran.summary(), "cost_usd"));
    assert_eq!(plan["rests_on"]["answers"], 0);
    assert_eq!(
        plan["rests_on"]["nodes_without_answers"],
        serde_json::json!(["chunk-1", "chunk-2", "combine"])
    );
    assert_eq!(plan["rests_on"]["input"], "characters");
    assert_eq!(plan["tokens"]["output"], 3 * 2 * 4000 / 2, "half their limit");
    assert_eq!(
        plan["tokens"]["most_output"],
        3 * 2 * 4000 * 3,
        "each answer asked for three times"
    );
    project.edit("pipeline.toml", "Leaving", "Staying");
    let known = planned(&project, &[]);
    assert_eq!(known["rests_on"]["input"], "server_counts");
    assert_eq!(known["rests_on"]["nodes_without_answers"], serde_json::json!([]));
}

/// The limit under which this share of the answers of a project ends by itself.
fn limit_for(share: f64, personas: usize) -> u64 {
    let project = Project::small(personas);
    let ran = project.json(&[]).code(0);
    let nodes = ran.named("node_finished").into_iter();
    let mut outputs: Vec<u64> = nodes
        .map(|node| node["tokens"]["output"].as_u64().unwrap())
        .collect();
    outputs.sort_unstable();
    outputs[(outputs.len() as f64 * share) as usize]
}

/// Each answer that is cut off is paid three times.
#[test]
fn what_is_cut_off_is_planned_as_often_as_it_is_paid() {
    let limit = format!("max_output_tokens = {}", limit_for(0.85, 40));
    let project = Project::small(40).with("max_output_tokens = 4000", &limit);
    let within = |plan: &Value, ran: &Events, most: &str| {
        let (real, most) = (figure(ran.summary(), "cost_usd"), figure(plan, most));
        assert!(real <= most, "${real} for ${most} at the most");
        let calls = ["nodes.call", "nodes.depends", "calls_again.high"].map(|name| figure(plan, name));
        assert!(ran.figure("calls.sent") as f64 <= calls.iter().sum(), "{calls:?}");
    };
    let first = planned(&project, &["--max", "20"]);
    let ran = project.json(&["--max", "20"]).code(1);
    assert!(ran.figure("calls.rejected") > 6, "{}", ran.summary());
    within(&first, &ran, "high_cost_usd");
    within(&first, &ran, "most_cost_usd");
    let once = figure(&first, "most_cost_once_usd");
    assert!(figure(&first, "most_cost_usd") > 2.9 * once);
    // What was seen tells the rest.
    project.edit("prompts/persona.md", "# ", "## ");
    let known = planned(&project, &[]);
    assert!(figure(&known, "calls_again.likely") > 3.0);
    let ran = project.json(&[]).code(1);
    within(&known, &ran, "high_cost_usd");
    let (real, middle) = (figure(ran.summary(), "cost_usd"), figure(&known, "cost_usd"));
    assert!((middle / real - 1.0).abs() < 0.15, "${middle} for ${real}");
    // A limit that cuts nothing off has nothing to repeat.
    let project = project.with(&limit, "max_output_tokens = 4000");
    let raised = planned(&project, &[]);
    assert_eq!(
        raised["calls_again"],
        serde_json::json!({ "likely": 0, "high": 0 })
    );
    runs_as_planned(&project, &[]);
}

#[test]
fn a_node_without_answers_is_taken_to_use_its_limit_as_the_others_do() {
    let project = forty();
    project.json(&["--max", "4"]).code(0);
    project.edit("pipeline.toml", "id = \"chunk-2\"", "id = \"chunk-b\"");
    project.edit("pipeline.toml", "Leaving", "Staying");
    runs_as_planned(&project, &[]);
}

#[test]
fn a_reader_that_knows_another_model_only_is_told() {
    let project = Project::small(2);
    project.json(&[]).code(0);
    let text = project.read("pipeline.toml").replace("gpt-6-luna", "gpt-7-nova");
    project.write("pipeline.toml", text);
    let plan = planned(&project, &[]);
    assert_eq!(
        plan["rests_on"]["nodes_of_other_models"],
        serde_json::json!(["chunk-1", "chunk-2", "combine"])
    );
}

/// The cache has one answer to each request, the accounts of the runs have both that were paid.
#[test]
fn a_plan_rests_on_the_accounts_of_earlier_runs() {
    let project = Project::small(2);
    project.json(&[]).code(0);
    project.json(&["--refresh", "*"]).code(0);
    project.edit("prompts/persona.md", "# ", "## About ");
    let plan = planned(&project, &[]);
    assert_eq!(plan["rests_on"]["answers"], 2 * 3 * 2);
    // Of a node with a new name neither accounts nor answers tell.
    project.edit("pipeline.toml", "id = \"chunk-2\"", "id = \"chunk-b\"");
    let plan = planned(&project, &[]);
    assert_eq!(
        plan["rests_on"]["nodes_without_answers"],
        serde_json::json!(["chunk-b"])
    );
}

/// As in a cache from before accounts were kept.
#[test]
fn without_accounts_a_plan_rests_on_the_answers_themselves() {
    let project = Project::small(2);
    project.json(&[]).code(0);
    project.json(&["--refresh", "*"]).code(0);
    let exported = project.run(&["cache", "export"]).code(0).stdout;
    let is_kept = |line: &&str| !line.contains(r#""entry":"run""#) && !line.contains(r#""entry":"start""#);
    let kept: Vec<&str> = exported.lines().filter(is_kept).collect();
    assert!(kept.len() < exported.lines().count());
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    project.write("answers.jsonl", kept.join("\n") + "\n");
    // The last line counts those that are gone too.
    project.run(&["cache", "import", "answers.jsonl"]).code(1);
    project.edit("prompts/persona.md", "# ", "## About ");
    let plan = planned(&project, &[]);
    assert_eq!(plan["rests_on"]["answers"], 2 * 3);
    assert_eq!(plan["rests_on"]["input"], "server_counts");
    assert_eq!(plan["rests_on"]["nodes_without_answers"], serde_json::json!([]));
}

/// A project on a server that is never called.
fn unanswered(model: &str) -> Project {
    let project = Project::small(3);
    let text = project.read("pipeline.toml");
    let (before, rest) = text.split_once("[provider]").unwrap();
    let (_, after) = rest.split_once("[model]").unwrap();
    let provider = "[provider]\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"\n";
    let text = format!("{before}{provider}[model]{after}").replace("gpt-6-luna", model);
    project.write("pipeline.toml", text);
    project
}

#[test]
fn a_first_plan_counts_with_the_models_tokenizer_if_it_is_public() {
    let project = unanswered("gpt-4o-mini");
    let plan = planned(&project, &[]);
    assert_eq!(plan["rests_on"]["input"], "tokenizer");
    assert_eq!(
        plan["rests_on"]["tokenizers"],
        serde_json::json!([{
            "encoding": "o200k_base", "requests": 9, "of": 9, "nodes": ["chunk-1", "chunk-2", "combine"],
        }])
    );
    let text = told(&project, &["plan"]);
    assert!(
        text.contains("input counted with o200k_base on 9 of 9 requests"),
        "{text}"
    );
    let unknown = unanswered("claude-opus-5");
    let plan = planned(&unknown, &[]);
    assert_eq!(plan["rests_on"]["input"], "characters");
    assert_eq!(plan["rests_on"]["tokenizers"], serde_json::json!([]));
    assert_eq!(
        plan["rests_on"]["nodes_by_characters"],
        serde_json::json!(["chunk-1", "chunk-2", "combine"])
    );
    let text = told(&unknown, &["plan"]);
    assert!(
        text.contains("a token for 4 characters of input, since no tokenizer of `claude-opus-5` is public"),
        "{text}"
    );
}

#[test]
fn a_plan_knows_what_becomes_of_transcripts() {
    let project = Project::small(4);
    project.json(&[]).code(0);
    let files = |args: &[&str]| planned(&project, args)["transcripts"].clone();
    assert_eq!(
        files(&[]),
        serde_json::json!({ "unchanged": 4, "to_write": 0, "kept": 0 })
    );
    assert!(told(&project, &["plan"]).ends_with("nothing to call\n"));
    std::fs::remove_file(project.path("transcripts/p00.md")).unwrap();
    project.write("transcripts/p01.md", "my own words\n");
    assert_eq!(
        files(&[]),
        serde_json::json!({ "unchanged": 2, "to_write": 1, "kept": 1 })
    );
    insta::assert_snapshot!(told(&project, &["plan"]), @"
    personas  1 of 4 have something to do
    nodes     12 cached, 0 to call, 0 that depend on their answers
    files     1 transcript to be written from the cache; 1 transcript was edited by hand: a new text comes beside it (`septet run --overwrite` replaces it)
    nothing to call; `septet run` writes 1 transcript
    ");
    let ran = project.json(&[]).code(0);
    let figures = ["written", "kept", "unchanged"].map(|kind| ran.figure(&format!("personas.{kind}")));
    assert_eq!(figures, [1, 1, 2]);
    // What a new answer would be written over.
    project.edit("prompts/combine.md", "Join", "Put together");
    assert_eq!(
        files(&[]),
        serde_json::json!({ "unchanged": 0, "to_write": 0, "kept": 1 })
    );
    let text = told(&project, &["plan"]);
    assert!(
        text.contains("files     1 transcript was edited by hand"),
        "{text}"
    );
}

/// What people read; lines that were broken are whole again.
fn told(project: &Project, args: &[&str]) -> String {
    let told = project.run(args).code(0).stdout;
    let names = |line: &str| line.starts_with("call ") || line.starts_with("depends ");
    let fits = |line: &str| line.chars().count() <= 80 || names(line);
    assert!(told.lines().all(fits), "{told}");
    told.replace(&format!("\n{}", " ".repeat(10)), " ")
}

#[test]
fn what_people_read() {
    // What the cache of the built-in model serves depends on what comes first.
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"[\d.]+s a call", "[time] a call");
    settings.add_filter(r"(?m)^time      about [^,]+,", "time      about [time],");
    let clock = r"([A-Z][a-z]+ )?[\d:]+";
    settings.add_filter(
        &format!("(?m)^ends      at {clock}(, {clock} at the latest)?,"),
        "ends      at [clock],",
    );
    settings.add_filter(r"\([\d,]+ of it cached\)", "([n] of it cached)");
    settings.add_filter(r"about \$[\d.]+; \$[\d.]+ to \$[\d.]+", "about [$]; [$] to [$]");
    settings.add_filter(
        r"after about \d+ of (.*) and \$[\d.]+ of",
        "after about [n] of $1 and [$] of",
    );
    let _scope = settings.bind_to_scope();
    let project = Project::shipped().with("# latency      = \"500ms\"", "latency = \"1ms\"");
    insta::assert_snapshot!(told(&project, &["plan"]), @"
    personas  8 of 8 have something to do
    nodes     0 cached, 56 to call, 8 that depend on their answers
    calls     56 to 64
    tokens    at most 1,013,269 input, 1,056,000 output
    cost      at most $0.6293 (simulated)
    again     an answer that is cut off at `max_output_tokens`, or bad in another way, is asked for again up to 2 times (`retry.rejected`); at most $0.2098 if all are good at once
    time      about [time], bound by calls that wait for others
    ends      at [clock], if it started now
    rests on  no earlier answers: each may be as long as its limit allows; a token for 4 characters of input; [time] a call (`simulator.latency`)

    `septet plan -v` names the nodes, `septet run` does it
    ");
    project.json(&[]).code(0);
    insta::assert_snapshot!(told(&project, &["plan"]), @r"
    personas  0 of 8 have something to do
    nodes     64 cached, 0 to call, 0 that depend on their answers
    nothing to call
    ");
    project.edit(
        "pipeline.toml",
        "The figures: what comes in",
        "The plain figures: what comes in",
    );
    insta::assert_snapshot!(told(&project, &["plan"]), @"
    personas  8 of 8 have something to do
    nodes     48 cached, 8 to call, 8 that depend on their answers
    because   8 chunk-3: `vars.brief` changed
    calls     8 to 16
    tokens    about 45,546 input ([n] of it cached), 6,538 output; 13,504 to 59,838 in all
    cost      about [$]; [$] to [$], at most $0.2555 (simulated)
    time      about [time], bound by calls that wait for others
    ends      at [clock], if it started now
    rests on  16 earlier answers; input as the server counted before; [time] a call as before

    `septet plan -v` names the nodes, `septet run` does it
    ");
    let verbose = told(&project, &["plan", "-v", "--max", "2"]);
    insta::assert_snapshot!(verbose, @"
    personas  2 of 2 have something to do
    nodes     12 cached, 2 to call, 2 that depend on their answers
    because   2 chunk-3: `vars.brief` changed
    calls     2 to 4
    tokens    about 11,388 input ([n] of it cached), 1,635 output; 3,309 to 15,570 in all
    cost      about [$]; [$] to [$], at most $0.0640 (simulated)
    time      about [time], bound by calls that wait for others
    ends      at [clock], if it started now
    rests on  16 earlier answers; input as the server counted before; [time] a call as before

    call     blended_family_06_andre_sofia/chunk-3  about 1,883 tokens, `vars.brief` changed
    depends  blended_family_06_andre_sofia/combine  about 4,733 tokens
    call     early_stop_07_hannah/chunk-3  about 1,778 tokens, `vars.brief` changed
    depends  early_stop_07_hannah/combine  about 4,628 tokens
    ");
    let refreshed = told(&project, &["plan", "--max", "2", "--refresh", "*", "--rpm", "60"]);
    insta::assert_snapshot!(refreshed, @"
    personas  2 of 2 have something to do
    nodes     0 cached, 14 to call, 2 that depend on their answers
    because   14 asked for by `--refresh`
    calls     14 to 16
    tokens    about 28,289 input ([n] of it cached), 6,359 output; 22,864 to 39,265 in all
    cost      about [$]; [$] to [$], at most $0.1414 (simulated)
    time      about [time], bound by requests per minute
    ends      at [clock], if it started now
    rests on  64 earlier answers; input as the server counted before; [time] a call as before

    `septet plan -v` names the nodes, `septet run` does it
    ");
    let priced = project.with(
        "[prompts]  ",
        "[[prices.\"gpt-6-luna\".when]]\nhours = [\"00:00-12:00\", \"12:00-24:00\"]\noutput = 1.0\n\n[prompts]  ",
    );
    let refreshed = told(
        &priced,
        &["plan", "--max", "2", "--refresh", "*", "--budget", "0.01"],
    );
    insta::assert_snapshot!(refreshed, @"
    personas  2 of 2 have something to do
    nodes     0 cached, 14 to call, 2 that depend on their answers
    because   14 asked for by `--refresh`
    calls     14 to 16
    tokens    about 28,289 input ([n] of it cached), 6,359 output; 22,864 to 39,265 in all
    cost      about [$]; [$] to [$], at most $0.2734 (simulated)
    prices    of gpt-6-luna: those of 00:00-12:00, 12:00-24:00 UTC
    budget    would end the run after about [n] of 16 calls: $0.0088 is set aside for the next one, of combine, and [$] of $0.0100 (`--budget`) is left
    time      about [time], bound by calls that wait for others
    ends      at [clock], if it started now
    rests on  64 earlier answers; input as the server counted before; [time] a call as before

    `septet plan -v` names the nodes, `septet run` does it
    ");
}

#[test]
fn what_one_edit_changes_for_many_is_told_of_each_with_what_else_differs() {
    let project = Project::small(4);
    project.json(&[]).code(0);
    project.write("personas/p01/profile.md", "Somebody else.\n");
    project.edit("prompts/chunk.md", "Write", "Do write");
    let reasons = || {
        let planned = project.run(&["plan", "--json"]).code(0).stdout;
        let lines = planned
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let first = lines.filter(|line| line["node"] == "chunk-1");
        first
            .map(|line| line["reason"]["message"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let edited = "template `prompts/chunk.md` changed";
    let both = "template `prompts/chunk.md` changed; persona file `profile.md` changed";
    assert_eq!(reasons(), [edited, both, edited, edited]);
    // Two edits, of which the second is seen only by those who were run after the first.
    project.json(&["--persona", "p02"]).code(0);
    project.edit("prompts/system.md", "You", "And you");
    let system = "template `prompts/system.md` changed";
    let [two, all] = [edited, both].map(|what| what.replace(edited, &format!("{edited}; {system}")));
    assert_eq!(reasons(), [&two, &all, system, &two]);
}

#[test]
fn a_transcript_that_cannot_be_read_is_one_personas_failure() {
    let project = Project::small(3);
    project.json(&[]).code(0);
    std::fs::remove_file(project.path("transcripts/p01.md")).unwrap();
    std::fs::create_dir(project.path("transcripts/p01.md")).unwrap();
    let ran = project.run(&["plan"]).code(0);
    assert!(ran.stdout.contains("✗ p01"), "{}", ran.stdout);
    let ran = project.run(&["plan", "--json"]).code(0);
    assert!(
        ran.stdout.lines().last().unwrap().contains("\"failed\":1"),
        "{}",
        ran.stdout
    );
    let ran = project.run(&["why", "p01"]).code(0);
    assert!(ran.stdout.contains("unreadable"), "{}", ran.stdout);
    assert_eq!(project.json(&[]).code(1).figure("personas.failed"), 1);
}

#[test]
fn calls_that_no_minute_has_room_for_are_foreseen() {
    let project = Project::small(3);
    let tpm = ["--tpm", "2000"];
    let plan = planned(&project, &tpm);
    let nodes: Vec<_> = plan["too_large"].as_array().unwrap().iter().collect();
    assert_eq!(nodes.len(), 3, "each node may use 4,000 tokens: {nodes:?}");
    assert!(
        nodes.iter().all(|node| node["tokens"].as_u64() > Some(4_000)),
        "{nodes:?}"
    );
    let said = told(&project, &["plan", "--tpm", "2000"]);
    assert!(
        said.contains("too large 3 nodes of a persona fail: `combine` needs about 8,0"),
        "{said}"
    );
    let said = told(&project, &["rehearse", "--tpm", "2000"]);
    assert!(said.contains("too large 3 nodes"), "{said}");
    assert!(said.contains("without   9 nodes that fail"), "{said}");
    let ran = project.json(&tpm).code(1);
    assert_eq!(ran.figure("nodes.failed") + ran.figure("nodes.skipped"), 9);
    assert_eq!(ran.figure("calls.sent"), 0);
    assert_eq!(
        planned(&project, &["--tpm", "200000"])["too_large"],
        serde_json::json!([])
    );
}
