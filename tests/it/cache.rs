//! `septet cache`: what people and programs read of the store, and what they can do with it.

use std::fs;

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
            (r"[\d.]+ kB (->|of)", "[size] $1"),
            (r"-> [\d.]+ kB", "-> [size]"),
            (r"[\d.]+ MB -> [\d.]+ MB", "[size] -> [size]"),
            (r"paid for with \$[\d.]+", "paid for with $$[cost]"),
            (r"\d+ of \d+ entries", "[n] of [n] entries"),
            (r"\d+ (entries|records)", "[n] $1"),
            (r"pid \d+, since [-\d: ]+", "pid [pid], since [time]"),
        ]}, { insta::assert_snapshot!($text, @$snapshot) })
    };
}

#[test]
fn stats_tell_how_much_there_is() {
    let project = paid();
    // Twice: the combine was made with the first answer, which is kept for it.
    for _ in 0..2 {
        project.run(&["run", "-q", "--refresh", "p00/chunk-1"]).code(0);
    }
    let ran = cache(&project, &["stats"]).code(0);
    shown!(ran.stdout, @r"
    answers     6, [tokens and cost]
    beside      0 rejected, 2 replaced by a newer one, 0 without their text
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
    assert_eq!(stats["replaced"]["answers"], 2);
    assert_eq!(stats["ages"][0]["answers"], 6);
    assert_eq!(stats["models"][0]["answers"], 6);
    assert_eq!(stats["runs"], 3);
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

#[test]
fn verify_says_that_all_is_intact() {
    let project = paid();
    let ran = cache(&project, &["verify"]).code(0);
    shown!(ran.stdout, @"✓ all intact: [n] entries in 1 file of the journal (6 answers), [n] records in the look-up trees");
    let verified = object(&cache(&project, &["verify", "--json"]).code(0));
    assert_eq!(
        (&verified["event"], &verified["problems"]),
        (&"cache_verified".into(), &0.into())
    );
    assert_eq!(cache(&Project::small(1), &["verify"]).code(0).stderr, "");
}

#[test]
fn verify_repairs_a_journal_from_the_trees_and_says_what_was_saved() {
    let project = paid();
    let journal = project.path("cache/journal/00000001.log");
    let mut bytes = fs::read(&journal).unwrap();
    let third = bytes.len() / 3;
    bytes[third] ^= 1;
    bytes.truncate(bytes.len() - 5000);
    fs::write(&journal, bytes).unwrap();
    let problems = objects(&cache(&project, &["verify", "--json"]).code(1)).len() - 1;
    let ran = cache(&project, &["verify", "--repair", "--json"]).code(0);
    let told = objects(&ran);
    let [.., repaired, verified] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(repaired["event"], "cache_repaired");
    assert_eq!(repaired["problems"], problems);
    assert!(repaired["saved_answers"].as_u64().unwrap() > 0);
    assert_eq!(repaired["lost_answers"], serde_json::json!([]));
    assert_eq!(
        (&verified["event"], &verified["problems"]),
        (&"cache_verified".into(), &0.into())
    );
    assert!(project.path("cache/damaged/0001/found.txt").is_file());
    cache(&project, &["verify"]).code(0);
    // All of it is still there, from the journal alone, and nothing is paid again.
    fs::remove_dir_all(project.path("cache/store")).unwrap();
    let again = project.json(&[]).code(0);
    assert_eq!(
        (again.figure("calls.sent"), again.figure("personas.unchanged")),
        (0, 2)
    );
}

#[test]
fn verify_names_what_is_damaged_with_file_and_offset() {
    let project = paid();
    let path = project.path("cache/journal/00000001.log");
    let mut bytes = std::fs::read(&path).unwrap();
    // The payload of an answer: the longest of the entries.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let ran = cache(&project, &["verify"]).code(1);
    let first = ran.stdout.lines().next().unwrap();
    assert!(first.contains("cache/journal/00000001.log` at byte "), "{first}");
    shown!(ran.stderr, @"hint: `septet cache verify --repair` puts back what can be saved and sets aside what is damaged; until then what is intact is served");
    let objects = objects(&cache(&project, &["verify", "--json"]).code(1));
    assert_eq!(
        (&objects[0]["event"], &objects[0]["kind"]),
        (&"cache_problem".into(), &"journal".into())
    );
    let offset = objects[0]["offset"].as_u64().unwrap();
    assert!(offset <= middle as u64, "{objects:#?}");
    let last = objects.last().unwrap();
    assert_eq!(last["problems"].as_u64().unwrap(), objects.len() as u64 - 1);
    // An export says what it lacks.
    let export = cache(&project, &["export", "all.jsonl"]).code(1);
    assert!(
        export.stderr.ends_with("without 1 place that cannot be read\n"),
        "{}",
        export.stderr
    );
}

#[test]
fn a_cache_is_moved_by_export_and_import() {
    let project = paid();
    let ran = cache(&project, &["export", "all.jsonl"]).code(0);
    assert_eq!(ran.stdout, "");
    let lines = project.read("all.jsonl");
    assert!(
        lines.starts_with("{\"septet_export\":1}\n{\"crc32\":\""),
        "{lines}"
    );
    assert_eq!(cache(&project, &["export"]).code(0).stdout, lines);
    // Moved: nothing is paid again.
    std::fs::remove_dir_all(project.path("cache")).unwrap();
    let ran = cache(&project, &["import", "all.jsonl"]).code(0);
    shown!(ran.stdout, @"imported [n] of [n] entries; 0 were here already");
    assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0);
    // Repeated, also from standard input.
    let again = object(&cache(&project, &["import", "--json", "all.jsonl"]).code(0));
    assert_eq!((&again["added"], &again["known"]), (&0.into(), &again["entries"]));
    let mut command = project.command(&["cache", "import", "-"]);
    let input = std::fs::File::open(project.path("all.jsonl")).unwrap();
    let output = command.stdin(input).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    cache(&project, &["verify"]).code(0);
}

#[test]
fn an_import_that_cannot_be_finished_says_where_and_why() {
    let project = paid();
    cache(&project, &["export", "all.jsonl"]).code(0);
    let lines = project.read("all.jsonl");
    let other = Project::small(2).file("cut.jsonl", &lines[..lines.rfind("{\"end\"").unwrap()]);
    let ran = cache(&other, &["import", "cut.jsonl"]).code(1);
    assert_eq!(
        ran.stderr,
        "warning: the export has no last line: it may have been cut off\n"
    );
    other.write("wrong.jsonl", lines.replacen("crc32\":\"", "crc32\":\"0", 1));
    let ran = cache(&other, &["import", "wrong.jsonl"]).code(2);
    shown!(ran.stderr, @r"
    error: line 2: checksum does not match
      --> wrong.jsonl

    hint: what stands before this line was taken in; an import can be repeated, nothing is taken twice
    ");
    let ran = cache(&other, &["import", "none.jsonl"]).code(2);
    shown!(ran.stderr, @"error: cannot read `none.jsonl`: No such file or directory (os error 2)");
    let ran = cache(&Project::small(1), &["export"]).code(2);
    shown!(ran.stderr, @"error: there is no cache to export");
}

#[test]
fn what_an_import_brings_cannot_act_on_a_terminal() {
    let project = paid();
    let lines = cache(&project, &["export"]).code(0).stdout;
    let line = lines
        .lines()
        .find(|line| line.contains("\"entry\":\"answer\""))
        .unwrap();
    let json = line
        .split_once("\"entry\":")
        .unwrap()
        .1
        .strip_suffix('}')
        .unwrap();
    let json = json
        .replace("gpt-6-luna", "a\\u001b[2Jb\\u009b1m")
        .replace("p00", "p\u{9b}");
    let line = format!(
        "{{\"crc32\":\"{:08x}\",\"entry\":{json}}}",
        crc32fast::hash(json.as_bytes())
    );
    let other = Project::small(1).file("odd.jsonl", &(line + "\n"));
    cache(&other, &["import", "odd.jsonl"]).code(1);
    for args in [
        ["ls"].as_slice(),
        &["ls", "--json"],
        &["stats"],
        &["stats", "--json"],
        &["export"],
        &["verify"],
    ] {
        let ran = cache(&other, args).code(0);
        let obeyed = |c: char| c.is_control() && c != '\n';
        assert!(
            !ran.stdout.contains(obeyed) && !ran.stderr.contains(obeyed),
            "{args:?} {ran:?}"
        );
    }
}

#[test]
fn a_cache_in_use_is_left_alone() {
    let project = paid();
    let lock = std::fs::OpenOptions::new()
        .write(true)
        .open(project.path("cache/lock"))
        .unwrap();
    lock.lock().unwrap();
    project.write("all.jsonl", "");
    for args in [
        ["verify"].as_slice(),
        &["export"],
        &["gc"],
        &["import", "all.jsonl"],
    ] {
        let ran = cache(&project, args).code(2);
        assert!(
            ran.stderr.contains("another process holds the cache"),
            "{args:?}: {}",
            ran.stderr
        );
        assert_eq!(ran.stdout, "");
    }
}

/// Edits the prompt of the chunks `edits` times and pays for each.
fn edited(edits: u32) -> Project {
    let project = paid();
    for edit in 0..edits {
        project.edit("prompts/chunk.md", "Write", &format!("Do {edit}. Write"));
        project.run(&["run", "-q"]).code(0);
    }
    project
}

#[test]
fn gc_shows_what_is_free_and_removes_it_when_told() {
    // Three generations of four chunks and two combines; the first is free.
    let project = edited(2);
    let shown = cache(&project, &["gc"]).code(0);
    shown!(shown.stdout, @r"
    kept      6 in use, 6 of earlier requests (up to 1 of each node), 0 that these were made with
    free      6 answers, [size] of the journal, paid for with $[cost]
              6 of older requests

    nothing was removed: `septet cache gc --yes` does it, `-v` names the answers first
    ");
    let named = cache(&project, &["gc", "-v"]).code(0);
    assert_eq!(
        named.stdout.lines().filter(|line| line.contains("ago")).count(),
        6
    );
    let before = object(&cache(&project, &["gc", "--json"]).code(0));
    assert_eq!(
        (&before["removed"], &before["free"]["outlived"]),
        (&false.into(), &6.into())
    );
    let removed = cache(&project, &["gc", "--yes"]).code(0);
    assert_eq!(removed.stderr, "");
    shown!(removed.stdout.lines().last().unwrap(), @"on disk   journal [size] -> [size], look-up trees [size] -> [size]");
    let after = object(&cache(&project, &["gc", "--yes", "--json"]).code(0));
    assert_eq!(
        (&after["removed"], &after["free"]["answers"]),
        (&false.into(), &0.into())
    );
    // What is in use costs nothing, and neither does one edit that is taken back.
    cache(&project, &["verify"]).code(0);
    assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0);
    project.edit("prompts/chunk.md", "Do 1. ", "");
    assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0);
    project.edit("prompts/chunk.md", "Do 0. ", "");
    assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 6);
    let stats = object(&cache(&project, &["stats", "--json"]).code(0));
    assert_eq!(stats["retired"]["answers"], 6);
    assert!(
        stats["retired"]["cost_usd"].as_f64().unwrap() > 0.0,
        "it stays in the book"
    );
}

#[test]
fn gc_keeps_as_many_earlier_requests_as_it_is_told() {
    let project = edited(2);
    let free = |args: &[&str]| {
        let all = [&["gc", "--json"], args].concat();
        object(&cache(&project, &all).code(0))["free"]["answers"]
            .as_u64()
            .unwrap()
    };
    let figures = ["0", "1", "2", "9"].map(|n| free(&["--keep-earlier", n]));
    assert_eq!(figures, [12, 6, 0, 0]);
    // Before an edit is paid for, the answers that the transcripts rest on are kept all the same.
    project.edit("prompts/chunk.md", "Write", "Never sent. Write");
    assert_eq!(free(&["--keep-earlier", "0"]), 12);
}

#[test]
fn gc_frees_what_was_paid_for_those_who_are_gone() {
    let project = paid();
    std::fs::remove_dir_all(project.path("personas/p01")).unwrap();
    let gc = object(&cache(&project, &["gc", "--yes", "--json"]).code(0));
    assert_eq!((&gc["removed"], &gc["free"]["gone"]), (&true.into(), &3.into()));
    assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0);
    let ls = cache(&project, &["ls"]).code(0);
    assert!(
        ls.stdout.lines().count() == 3 && !ls.stdout.contains("p01"),
        "{}",
        ls.stdout
    );
}

#[test]
fn gc_removes_nothing_where_it_cannot_know_what_is_wanted() {
    let project = edited(2);
    let before = project.read_bytes("cache/journal/00000001.log");
    project.write("personas/p01/profile.md", b"\xff");
    shown!(cache(&project, &["gc", "--yes"]).code(2).stderr, @r"
    error: persona `p01` cannot be rendered: not UTF-8 (personas/p01/profile.md:1)

    hint: what it asks for is not known, so nothing was removed: mend it, or move it out of the folder of personas
    ");
    project.write("personas/p01/profile.md", "Person number 1.\n");
    project.write("prompts/chunk.md", "{{ persona.nobody }}");
    assert!(
        cache(&project, &["gc", "--yes"])
            .code(2)
            .stderr
            .contains("chunk.md:1")
    );
    project.write("prompts/chunk.md", "Write");
    for persona in ["p00", "p01"] {
        std::fs::remove_dir_all(project.path(&format!("personas/{persona}"))).unwrap();
    }
    shown!(cache(&project, &["gc", "--yes"]).code(2).stderr, @r"
    error: `personas` has no personas

    hint: what nobody asks for is removed, and here nobody asks for anything: look at `pipeline.personas`
    ");
    assert_eq!(project.read_bytes("cache/journal/00000001.log"), before);
}

#[test]
fn gc_removes_nothing_where_a_part_of_the_journal_is_gone() {
    let project = edited(2);
    let journal = |number: u32| project.path(&format!("cache/journal/{number:08}.log"));
    // As if a file had been before this one.
    fs::rename(journal(1), journal(2)).unwrap();
    cache(&project, &["gc"]).code(2);
    shown!(cache(&project, &["gc", "--yes"]).code(2).stderr, @r"
    error: `./cache/journal/00000001.log` is missing: what only it held is lost

    error: the journal does not have all that was stored: nothing was removed

    hint: `septet cache verify --repair` first: what only the look-up trees still have is saved by it
    ");
    cache(&project, &["verify"]).code(1);
    cache(&project, &["verify", "--repair"]).code(0);
    cache(&project, &["verify"]).code(0);
    let removed = cache(&project, &["gc", "--yes"]).code(0).stdout;
    assert!(removed.contains("removed   the text of "), "{removed}");
}

#[test]
fn a_refresh_that_was_asked_for_is_still_asked_for_after_gc() {
    let project = edited(2);
    // Marked, and the run ended before its answer came.
    let line = "{\"entry\":\"refresh\",\"instance\":{\"persona\":\"p00\",\"node\":\"chunk-1\"}}";
    let line = format!(
        "{{\"crc32\":\"{:08x}\",\"entry\":{line}}}\n",
        crc32fast::hash(line.as_bytes())
    );
    project.write("mark.jsonl", line);
    cache(&project, &["import", "mark.jsonl"]).code(1);
    cache(&project, &["gc", "--yes"]).code(0);
    let events = project.json(&[]).code(0);
    assert!(
        events.nodes("called").contains(&"p00/chunk-1".to_owned()),
        "{events:?}"
    );
}
