//! `max_output_tokens`: what was cut off is paid for once at each limit, and what ended by itself
//! once at all.

use serde_json::Value;

use crate::project::{Events, Project};

const LIMIT: &str = "vars = { title = \"Arriving\" }";

/// Two personas, of which `chunk-1` is cut off: the built-in model writes some 220 tokens.
fn cut_off_at(limit: u64) -> Project {
    let project = Project::small(2);
    limit_chunk_1(&project, LIMIT, limit);
    project
}

fn limit_chunk_1(project: &Project, from: &str, limit: u64) {
    let to = format!("{LIMIT}\nmodel = {{ max_output_tokens = {limit} }}");
    project.edit("pipeline.toml", from, &to);
}

fn raised(project: &Project, from: u64, to: u64) {
    let line = |limit| format!("max_output_tokens = {limit} }}");
    project.edit("pipeline.toml", &line(from), &line(to));
}

#[test]
fn what_was_cut_off_is_paid_for_again_only_under_a_larger_limit() {
    let project = cut_off_at(20);
    let first = project.json(&[]).code(1);
    assert_eq!(
        (first.figure("calls.rejected"), first.figure("calls.ok")),
        (6, 2),
        "three times each, as `retry.rejected` says"
    );
    for smaller in [20, 12] {
        raised(&project, 20, smaller);
        let again = project.json(&[]).code(1);
        assert_eq!(again.figure("calls.sent"), 0, "{smaller}");
        assert_eq!(again.nodes("failed"), ["p00/chunk-1", "p01/chunk-1"]);
        assert_eq!(again.nodes("skipped"), ["p00/combine", "p01/combine"]);
        let error = &again
            .named("node_finished")
            .into_iter()
            .find(|n| n["status"] == "failed")
            .unwrap()["error"];
        assert_eq!(error["kind"], "truncated");
        raised(&project, smaller, 20);
    }
    raised(&project, 20, 4000);
    let raised = project.json(&[]).code(0);
    assert_eq!(raised.figure("calls.sent"), 4);
    assert_eq!(
        raised.nodes("called"),
        ["p00/chunk-1", "p00/combine", "p01/chunk-1", "p01/combine"],
        "exactly what was cut off, and what needs it"
    );
}

#[test]
fn a_refresh_asks_once_more_for_what_was_cut_off() {
    let project = cut_off_at(20);
    project.json(&[]).code(1);
    let refreshed = project.json(&["--refresh", "p00/chunk-1"]).code(1);
    assert_eq!(
        refreshed.figure("calls.rejected"),
        3,
        "those of p00 and no others"
    );
    assert_eq!(
        project.json(&[]).code(1).figure("calls.sent"),
        0,
        "and it is over"
    );
}

#[test]
fn what_ended_by_itself_is_served_under_any_limit_that_it_fits() {
    let project = Project::small(1);
    project.json(&[]).code(0);
    limit_chunk_1(&project, LIMIT, 3000);
    assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0);
    raised(&project, 3000, 9000);
    assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0);
    raised(&project, 9000, 20);
    let too_small = project.json(&[]).code(1);
    assert_eq!(
        too_small.figure("calls.rejected"),
        3,
        "longer than the limit: asked again"
    );
    assert_eq!(project.json(&[]).code(1).figure("calls.sent"), 0);
    raised(&project, 20, 4000);
    assert_eq!(
        project.json(&[]).code(0).figure("calls.sent"),
        0,
        "the first answer is still there"
    );
}

#[test]
fn people_read_what_was_cut_off_and_what_helps() {
    let project = cut_off_at(20);
    let said = project.run(&["run", "--max", "1"]).code(1);
    insta::assert_snapshot!(about_limits(&said.stderr), @r"
    ✗ p00  chunk-1: answer cut off at `max_output_tokens` = 20, 3 times; raise it
    nodes     3: 1 called, 1 failed, 1 skipped
          answer cut off at `max_output_tokens` = 20, 3 times; raise it
          hint: raise `max_output_tokens`, or ask for a shorter answer; at this limit only `--refresh` asks again
    hint: `septet run` calls what was cut off again once `max_output_tokens` is larger
    ");
    let again = project.run(&["run", "--max", "1"]).code(1);
    insta::assert_snapshot!(about_limits(&again.stderr), @r"
    ✗ p00  chunk-1: not called: answer cut off at `max_output_tokens` = 20 in run [run]; raise it, or ask again with `--refresh p00/chunk-1`
    nodes     3: 1 cached, 1 failed, 1 skipped
          not called: answer cut off at `max_output_tokens` = 20 in run [run]; raise it, or ask again with `--refresh p00/chunk-1`
          hint: raise `max_output_tokens`, or ask for a shorter answer; at this limit only `--refresh` asks again
    hint: `septet run` calls what was cut off again once `max_output_tokens` is larger
    ");
    let plan = project.run(&["plan", "-v", "--max", "1"]).code(0);
    insta::assert_snapshot!(about_limits(&plan.stdout), @r"
    cut off   1 node, which is not called again at this limit, and 1 skipped; raise
              `max_output_tokens`, or `--refresh` it
    failed   p00/chunk-1  answer cut off at `max_output_tokens` = 20
    skipped  p00/combine  needs one that fails
    ");
    raised(&project, 20, 50);
    let plan = project.run(&["plan", "-v"]).code(0);
    insta::assert_snapshot!(about_limits(&plan.stdout), @"
    because   1 chunk-1: cut off at 20 tokens; the limit is now 50
    again     up to 8 more calls: an answer that is cut off at `max_output_tokens`,
              limit, as the others do; input as the server counted before; 0.0s a
    call     p00/chunk-1  about 41 tokens, cut off at 20 tokens; the limit is now 50
    ");
}

#[test]
fn programs_read_why_a_node_is_called_or_not() {
    let project = cut_off_at(20);
    project.json(&["--max", "1"]).code(1);
    let planned = |args: &[&str]| {
        let args: Vec<&str> = ["plan", "--json"].iter().chain(args).copied().collect();
        Events::of(&project.run(&args).code(0))
    };
    let refused = planned(&["--max", "1"]);
    let nodes = refused.named("node_planned");
    assert_eq!(
        (&nodes[0]["status"], &nodes[2]["status"]),
        (&"failed".into(), &"skipped".into())
    );
    assert_eq!(nodes[0]["error"]["kind"], "truncated");
    assert_eq!(refused.all.last().unwrap()["nodes"]["failed"], 1);
    assert_eq!(refused.all.last().unwrap()["nodes"]["skipped"], 1);
    raised(&project, 20, 50);
    let raised = planned(&[]);
    let reasons: Vec<&Value> = raised
        .named("node_planned")
        .into_iter()
        .map(|node| &node["reason"])
        .collect();
    assert_eq!(reasons[0]["kind"], "cut_off");
    assert_eq!(reasons[0]["message"], "cut off at 20 tokens; the limit is now 50");
    assert_eq!(reasons[1], &Value::Null, "an answer is there");
    assert_eq!(reasons[3]["kind"], "new");
    let refreshed = planned(&["--refresh", "p00/chunk-2"]);
    assert_eq!(refreshed.named("node_planned")[1]["reason"]["kind"], "refreshed");
}

/// The lines that say something of limits, without the names of runs.
fn about_limits(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| match (line.find(" in run "), line.find("; raise")) {
            (Some(from), Some(to)) => format!("{} in run [run]{}", &line[..from], &line[to..]),
            _ => line.to_owned(),
        });
    let told = ["cut off", "limit", "output_tokens", "skipped"];
    let about = lines.filter(|line| told.iter().any(|word| line.contains(word)));
    about.collect::<Vec<_>>().join("\n")
}
