//! `septet cache`: what people and programs read of the store, and what they can do with it.

use serde_json::Value;

use crate::project::{Project, Ran};

/// A project of two personas that was run once.
fn paid() -> Project {
    let project = Project::small(2);
    project.run(&["run", "-q"]).code(0);
    project
}

fn cache(project: &Project, args: &[&str]) -> Ran {
    project.run(&[&["cache"], args].concat())
}

#[track_caller]
fn objects(ran: &Ran) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
    ran.stdout.lines().map(parse).collect()
}

#[track_caller]
fn object(ran: &Ran) -> Value {
    let mut objects = objects(ran);
    assert_eq!(objects.len(), 1, "{objects:#?}");
    objects.remove(0)
}

/// What differs from run to run, replaced.
macro_rules! shown {
    ($text:expr, @$snapshot:literal) => {
        insta::with_settings!({filters => vec![
            (r"\b[0-9a-f]{12}\b", "[key]"),
            (r" +\d+s ago", " [age] ago"),
            (r"septet-test-\w+", "[project]"),
            (r"journal [\d.]+ kB", "journal [size]"),
            (r"trees [\d.]+ MB", "trees [size]"),
            (r"(  +)[\d.]+ kB", "$1[size]"),
            (r"[\d.]+ kB of the journal", "[size] of the journal"),
            (r" +[\d,]+ in  +[\d,]+ out  +\$[\d.]+", " [tokens and cost]"),
            (r"[\d,]+ input and [\d,]+ output tokens, \$[\d.]+", "[tokens and cost]"),
            (r"[\d,]+ +\$[\d.]+", "[tokens and cost]"),
            (r"pid \d+, since [-\d: ]+", "pid [pid], since [time]"),
        ]}, { insta::assert_snapshot!($text, @$snapshot) })
    };
}

#[test]
fn stats_tell_how_much_there_is() {
    let project = paid();
    project.run(&["run", "-q", "--refresh", "p00/chunk-1"]).code(0);
    let ran = cache(&project, &["stats"]).code(0);
    shown!(ran.stdout, @r"
    answers     6, [tokens and cost]
    beside      0 rejected, 1 replaced by a newer one, 0 without their text
    on disk     journal [size] in 1 file, look-up trees [size]
    gc          could free 1 answer, [size] of the journal

    model         answers          tokens         cost    journal
    gpt-6-luna          6           [tokens and cost]     [size]

    age              answers          tokens         cost    journal
    last 24 hours          6           [tokens and cost]     [size]
    ");
    assert_eq!(ran.stderr, "");
    let stats = object(&cache(&project, &["stats", "--json"]).code(0));
    assert_eq!(stats["event"], "cache_stats");
    assert_eq!(stats["answers"]["answers"], 6);
    assert_eq!(stats["replaced"]["answers"], 1);
    assert_eq!(stats["ages"][0]["answers"], 6);
    assert_eq!(stats["models"][0]["answers"], 6);
    assert_eq!(stats["runs"], 2);
    assert_eq!(stats["gc"]["replaced"], 1);
}

#[test]
fn without_a_cache_there_is_nothing_and_none_is_made() {
    let project = Project::small(1);
    let ran = cache(&project, &["stats"]).code(0);
    assert_eq!(ran.stdout, "the cache is empty: nothing was paid for yet\n");
    let stats = object(&cache(&project, &["stats", "--json"]).code(0));
    assert_eq!(stats["answers"]["answers"], 0);
    let ran = cache(&project, &["ls"]).code(0);
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("", "the cache is empty: nothing was paid for yet\n")
    );
    assert!(!project.path("cache").exists());
    let elsewhere = cache(&Project::empty(), &["stats"]).code(2);
    shown!(elsewhere.stderr, @r"
    error: there is no `pipeline.toml` in this folder

    hint: `septet init DIR` makes a project, `septet -C DIR …` works in another folder
    ");
}

#[test]
fn stats_of_a_project_that_cannot_be_read_leave_out_what_gc_could_free() {
    let project = paid();
    project.write("personas/p01/profile.md", b"\xff");
    let ran = cache(&project, &["stats"]).code(0);
    let line = ran.stdout.lines().find(|line| line.starts_with("gc")).unwrap();
    shown!(line, @"gc          what it could free is not known: persona `p01` cannot be rendered: not UTF-8 (personas/p01/profile.md:1)");
    project.write("pipeline.toml", "[pipelin]");
    let stats = object(&cache(&project, &["stats", "--json"]).code(0));
    assert_eq!(
        (&stats["gc"], &stats["answers"]["answers"]),
        (&Value::Null, &Value::from(6))
    );
}

#[test]
fn ls_lists_the_answers_of_those_who_match() {
    let project = paid();
    let ran = cache(&project, &["ls", "p00/combine", "p01/c*e"]).code(0);
    let mut lines: Vec<_> = ran.stdout.lines().collect();
    lines.sort_by_key(|line| line.rsplit(' ').next().unwrap().to_owned());
    shown!(lines.join("\n"), @r"
    [key] [tokens and cost] [age] ago  gpt-6-luna    p00/combine
    [key] [tokens and cost] [age] ago  gpt-6-luna    p01/combine
    ");
    let all = cache(&project, &["ls"]).code(0);
    assert_eq!(all.stdout.lines().count(), 6);
    let one = objects(&cache(&project, &["ls", "--json", "p01"]).code(0));
    let nodes: std::collections::BTreeSet<_> = one
        .iter()
        .map(|answer| answer["node"].as_str().unwrap())
        .collect();
    assert_eq!(Vec::from_iter(nodes), ["chunk-1", "chunk-2", "combine"]);
    assert_eq!(one[0]["key"].as_str().unwrap().len(), 64);
    let none = cache(&project, &["ls", "p0x"]).code(2);
    shown!(none.stderr, @r"
    error: no answer matches `p0x`

    hint: a pattern names PERSONA/NODE, such as `*/combine`, or all nodes of a PERSONA
    ");
    let none = cache(&project, &["ls", "[p"]).code(2);
    shown!(none.stderr, @"error: `cache ls [p` is no pattern: unclosed character class; missing ']'");
}

#[test]
fn ls_shows_only_the_answer_that_is_served() {
    let project = paid();
    project.run(&["run", "-q", "--refresh", "p00/chunk-1"]).code(0);
    let ran = cache(&project, &["ls", "p00/chunk-1"]).code(0);
    assert_eq!(ran.stdout.lines().count(), 1);
}

#[test]
fn ls_lists_rejected_answers_with_their_cause() {
    let project = Project::small(1)
        .with(
            "latency = \"0s\"",
            "latency = \"0s\"\nfaults = { truncated = 1.0 }",
        )
        .with("[retry]", "[retry]\nrejected = 0");
    project.run(&["run", "-q"]).code(1);
    let ran = cache(&project, &["ls", "--rejected", "*/chunk-1"]).code(0);
    shown!(ran.stdout, @"[key] [tokens and cost] [age] ago  gpt-6-luna    p00/chunk-1  answer cut off at the output limit");
    let one = object(&cache(&project, &["ls", "--rejected", "--json", "*/chunk-1"]).code(0));
    assert_eq!(one["rejected"], "truncated");
    let ran = cache(&project, &["ls"]).code(0);
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("", "there is no answer\n")
    );
}
