//! Receipts: what they say is up to date is just what looking at every node finds, whatever was edited
//! in between; and where all is, the store stays closed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use serde_json::Value;

use crate::project::{Events, Project, copy};
use crate::wire::{self, Wire, answer};

/// Every file of the store with its content and the time of its last write.
fn store_of(folder: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if !path.ends_with("receipts") && !path.ends_with("lock") {
                let written = fs::metadata(&path).unwrap().modified().unwrap();
                found.insert(path.clone(), (written, fs::read(&path).unwrap()));
            }
        }
    }
    found
}

#[test]
fn what_is_up_to_date_is_seen_without_the_store() {
    let project = Project::small(5);
    project.json(&[]).code(0);
    let before = store_of(&project.path("cache"));
    let again = project.json(&[]).code(0);
    assert_eq!(again.figure("personas.unchanged"), 5);
    assert_eq!(
        (again.figure("nodes.cached"), again.nodes("cached").len()),
        (15, 15)
    );
    assert!(
        store_of(&project.path("cache")) == before,
        "the store was touched"
    );
    let looked = project.json(&["--verify"]).code(0);
    assert!(
        store_of(&project.path("cache")) != before,
        "`--verify` opens the store"
    );
    assert_eq!(differences(&looked, &again), [""; 0]);
}

#[test]
fn another_run_that_holds_the_cache_is_no_obstacle() {
    let project = Project::small(2);
    project.json(&["--persona", "p00"]).code(0);
    let store = project.path("cache/lock");
    let lock = File::options().read(true).write(true).open(&store).unwrap();
    lock.lock().unwrap();
    assert_eq!(
        project
            .json(&["--persona", "p00"])
            .code(0)
            .figure("personas.unchanged"),
        1
    );
    assert_eq!(project.run(&["run", "--persona", "p01"]).code, Some(2));
}

#[test]
fn what_is_refreshed_is_asked_again_also_by_the_next_run() {
    let project = Project::small(3);
    project.json(&[]).code(0);
    let refreshed = project.json(&["--refresh", "p01/chunk-1"]).code(0);
    assert_eq!(refreshed.nodes("called"), ["p01/chunk-1"]);
    assert_eq!(project.json(&[]).code(0).figure("nodes.cached"), 9);
}

#[test]
fn what_changes_answers_takes_all_receipts_back() {
    let project = Project::small(3);
    let receipts = project.path("cache/receipts");
    let run = |args: &[&str]| project.run(args).code(0);
    let write = |prompt: &str| {
        project.write("prompts/chunk.md", prompt);
        project.json(&[]).code(0);
        assert!(receipts.exists());
    };
    write("One {{ vars.title }}");
    // Others may rest on the same answer.
    project
        .json(&["--persona", "p00", "--refresh", "p00/chunk-1"])
        .code(0);
    assert!(!receipts.exists(), "after a refresh");
    write("Two {{ vars.title }}");
    run(&["cache", "export", "all.jsonl"]);
    assert!(receipts.exists(), "an export changes nothing");
    run(&["cache", "import", "all.jsonl"]);
    assert!(!receipts.exists(), "after an import");
    write("Three {{ vars.title }}");
    run(&["cache", "gc"]);
    assert!(receipts.exists(), "nothing was removed");
    run(&["cache", "gc", "--yes", "--keep-earlier", "0"]);
    assert!(!receipts.exists(), "after answers were removed");
    assert_eq!(project.json(&[]).code(0).figure("calls.sent"), 0);
}

#[test]
fn receipts_of_who_was_not_chosen_stay_and_of_who_is_gone_do_not() {
    let project = Project::small(3);
    project.json(&[]).code(0);
    std::fs::remove_dir_all(project.path("personas/p02")).unwrap();
    project.write("personas/p00/profile.md", "Somebody else.\n");
    project.json(&["--persona", "p00"]).code(0);
    let receipts = project.read("cache/receipts");
    let named = ["p00", "p01", "p02"].map(|persona| receipts.contains(persona));
    assert_eq!(named, [true, true, false]);
}

#[test]
fn an_edit_that_is_undone_and_one_that_touches_nothing_find_everybody_up_to_date() {
    let project = Project::small(3);
    project.json(&[]).code(0);
    let untouched = |why: &str| {
        let before = store_of(&project.path("cache"));
        let again = project.json(&[]).code(0);
        assert_eq!(again.figure("personas.unchanged"), 3, "{why}");
        assert!(
            store_of(&project.path("cache")) == before,
            "{why}: the store was touched"
        );
    };
    let pipeline = project.read("pipeline.toml");
    let slower = pipeline.replace("concurrency = 16", "concurrency = 9");
    assert_ne!(pipeline, slower);
    project.write("pipeline.toml", format!("# A comment.\n{slower}"));
    untouched("a comment and another rate");
    let prompt = project.read("prompts/chunk.md");
    project.write("prompts/chunk.md", format!("{prompt}More.\n"));
    project.run(&["plan", "-q"]).code(0);
    project.write("prompts/chunk.md", prompt);
    untouched("an edit that was undone");
}

#[test]
fn of_what_an_edit_leaves_alone_nothing_is_looked_up() {
    let project = Project::small(3);
    project.json(&[]).code(0);
    project.json(&["--persona", "p00"]).code(0);
    let pipeline = project.read("pipeline.toml");
    // Of two chunks the second.
    let edited = pipeline.replacen("title = \"", "title = \"Edited: ", 2);
    let edited = edited.replacen("Edited: ", "", 1);
    assert_ne!(pipeline, edited);
    project.write("pipeline.toml", edited);
    let statuses = |args: &[&str]| {
        let ran = project.run(&[&["plan", "--json"], args].concat()).code(0);
        let lines = ran
            .stdout
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let planned = lines.filter(|line| line["event"] == "node_planned");
        planned
            .map(|line| line["status"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let expected = ["cached", "call", "depends"].repeat(3);
    assert_eq!(statuses(&[]), expected);
    assert_eq!(statuses(&["--verify"]), expected);
    // Some are brought up to date, and then all are planned.
    project.json(&["--persona", "p00"]).code(0);
    let expected = [&["cached"; 3][..], &["cached", "call", "depends"].repeat(2)].concat();
    assert_eq!(statuses(&[]), expected);
    // What is not looked at is not missed: the answers are gone, and only a look at all of them says so.
    std::fs::remove_dir_all(project.path("cache/journal")).unwrap();
    std::fs::remove_dir_all(project.path("cache/store")).unwrap();
    assert_eq!(statuses(&[]), expected);
    assert_ne!(statuses(&["--verify"]), expected);
}

#[test]
fn an_answer_that_only_a_check_refused_does_not_change_under_receipts_of_before_an_edit() {
    // Another text each time. Both personas ask the same with `chunk-1`.
    let server = Wire::start(|number, _| wire::json("200 OK", &answer(&format!("Text {number}."), "stop")));
    let title = "vars = { title = \"Arriving\" }";
    let project = Project::small(2)
        .at(&server.url())
        .with("concurrency = 16", "concurrency = 1")
        .file("prompts/persona.md", "Somebody.\n")
        .file(
            "prompts/combine.md",
            "{{ persona.profile }}{% for need in needs %}{{ need.text }}{% endfor %}\n",
        )
        .with(title, &format!("{title}\nmust_match = 'NEVER'"));
    project.json(&[]).code(1);
    project.edit("pipeline.toml", "\nmust_match = 'NEVER'", "");
    assert_eq!(
        project.json(&[]).code(0).figure("personas.written"),
        2,
        "the refused one serves"
    );
    // One of them is asked for it once more, in vain.
    project.edit(
        "pipeline.toml",
        title,
        &format!("{title}\nmust_match = 'NOT THIS'"),
    );
    project.json(&["--persona", "p00"]).code(1);
    project.edit("pipeline.toml", "\nmust_match = 'NOT THIS'", "");
    assert_eq!(to_do(&project), [2, 2].map(Value::from));
}

/// Two nodes that print a file of their persona each, and one that joins them. The answers to the prompt
/// `THE SAME` are `answers`, one after the other; those to others rest on what is asked.
fn asking_the_same(answers: &'static [&'static str], second: &str, files: [[&str; 2]; 2]) -> (Wire, Project) {
    let asked = AtomicUsize::new(0);
    let server = Wire::start(move |_, body| match body.contains("\"THE SAME\"") {
        true => {
            let text = answers[asked.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)];
            wire::json("200 OK", &answer(text, "stop"))
        }
        false => wire::good(body),
    });
    let pipeline = format!(
        "[pipeline]\npersonas = 'personas'\noutput = 'transcripts/{{persona}}.md'\nresult = 'c'\n\
         [provider]\nkind = 'openai'\nbase_url = '{}'\n[model]\nname = 'm'\n[limits]\nconcurrency = 1\n\
         [[node]]\nid = 'x'\nprompt = 'prompts/x.md'\n\
         [[node]]\nid = 'y'\nprompt = 'prompts/y.md'\n{second}\
         [[node]]\nid = 'c'\nneeds = ['x', 'y']\nprompt = 'prompts/c.md'\n",
        server.url()
    );
    let mut project = Project::empty()
        .file("pipeline.toml", &pipeline)
        .file("prompts/x.md", "{{ persona.a }}\n")
        .file("prompts/y.md", "{{ persona.b }}\n")
        .file("prompts/c.md", "Join {{ needs.x }} and {{ needs.y }}\n");
    for (n, [a, b]) in files.into_iter().enumerate() {
        project = project
            .file(&format!("personas/p{n}/a.md"), a)
            .file(&format!("personas/p{n}/b.md"), b);
    }
    (server, project)
}

/// How many personas have something to do, by receipts and by a full look.
fn to_do(project: &Project) -> [Value; 2] {
    [&[][..], &["--verify"]].map(|args| {
        let planned = project.run(&[&["plan", "--json"], args].concat()).code(0).stdout;
        let last: Value = serde_json::from_str(planned.lines().last().unwrap()).unwrap();
        last["personas"]["to_do"].clone()
    })
}

#[test]
fn an_answer_that_a_refresh_asked_for_in_vain_does_not_change_under_receipts() {
    let (_server, project) = asking_the_same(
        &["FIRST", "", "", "", "SECOND"],
        "",
        [["THE SAME", "Mine."], ["THE SAME", "Another."]],
    );
    assert_eq!(project.json(&[]).code(0).figure("personas.written"), 2);
    project.json(&["--refresh", "p1/x"]).code(1);
    // One after the other: who looks at the same time is served whichever is there by then.
    assert_eq!(
        project.json(&["--persona", "p0"]).code(0).figure("nodes.cached"),
        3
    );
    assert_eq!(
        project.json(&["--persona", "p1"]).code(0).figure("nodes.called"),
        2
    );
    assert_eq!(to_do(&project), [1, 1].map(Value::from));
}

#[test]
fn an_answer_that_the_check_of_one_node_refused_does_not_change_under_receipts_of_another() {
    let (_server, project) = asking_the_same(
        &["BAD", "BAD", "BAD", "GOOD"],
        "must_match = 'GOOD|Words'\n",
        [["Mine.", "THE SAME"], ["THE SAME", "Another."]],
    );
    project.json(&["--persona", "p0"]).code(1);
    let other = project.json(&["--persona", "p1"]).code(0);
    assert_eq!(other.figure("nodes.cached"), 1, "without a check it serves");
    assert_eq!(to_do(&project), [1, 1].map(Value::from));
    project.json(&["--persona", "p0"]).code(0);
    assert_eq!(to_do(&project), [1, 1].map(Value::from));
    project.json(&[]).code(0);
    assert_eq!(to_do(&project), [0, 0].map(Value::from));
}

#[test]
fn an_empty_template_that_appears_in_a_list_is_seen() {
    let project = Project::small(1).file("prompts/default.md", "The usual.\n").file(
        "prompts/chunk.md",
        "{{ vars.title }} {% include ['prompts/custom.md', 'prompts/default.md'] %}",
    );
    project.json(&[]).code(0);
    let cached = |args: &[&str]| project.json(args).code(0).figure("nodes.cached");
    assert_eq!(cached(&[]), 3);
    project.write("prompts/custom.md", "");
    let why = project.run(&["why", "p00/chunk-1"]).code(0).stdout;
    assert!(why.contains("prompts/custom.md"), "{why}");
    assert_eq!(cached(&[]), 0, "its prompt is another now");
    std::fs::remove_file(project.path("prompts/custom.md")).unwrap();
    let planned = project.run(&["plan", "--json", "--verify"]).code(0).stdout;
    assert_eq!(planned.matches("\"status\":\"cached\"").count(), 3, "{planned}");
}

#[test]
fn what_only_looks_different_is_read_once() {
    let project = Project::small(2);
    project.json(&[]).code(0);
    let before = project.read("cache/receipts");
    let profile = project.read("personas/p01/profile.md");
    project.write("personas/p01/profile.md", profile);
    assert_eq!(project.json(&[]).code(0).figure("personas.unchanged"), 2);
    assert_ne!(project.read("cache/receipts"), before, "its new looks are noted");
}

#[test]
fn damaged_receipts_are_as_good_as_none() {
    let project = Project::small(3);
    project.json(&[]).code(0);
    let mut receipts = project.read_bytes("cache/receipts");
    let middle = receipts.len() / 2;
    receipts[middle] ^= 1;
    project.write("cache/receipts", receipts);
    let again = project.json(&[]).code(0);
    assert_eq!(
        (again.figure("personas.unchanged"), again.figure("calls.sent")),
        (3, 0)
    );
}

/// What a run told, without what no two runs have in common.
fn told(events: &Events) -> BTreeMap<String, Value> {
    let finished = events.all.iter().filter_map(|event| {
        let name = event["event"].as_str()?;
        let of = format!("{name} {} {}", event["persona"], event["node"]);
        matches!(name, "node_finished" | "persona_finished").then(|| (of, event.clone()))
    });
    let mut told: BTreeMap<String, Value> = finished.collect();
    let mut summary = events.summary().clone();
    for differs in ["run", "elapsed_s"] {
        summary.as_object_mut().unwrap().remove(differs);
    }
    told.insert("run_finished".to_owned(), summary);
    told
}

/// What only one of two runs told.
fn differences(one: &Events, other: &Events) -> Vec<String> {
    let (one, other) = (told(one), told(other));
    let names = one
        .keys()
        .chain(other.keys().filter(|name| !one.contains_key(*name)));
    names
        .filter(|name| one.get(*name) != other.get(*name))
        .map(|name| format!("{name}: {:?}, {:?}", one.get(name), other.get(name)))
        .collect()
}

/// Writes a file so that it looks as it did: as long, with the same time.
fn write_unseen(path: &Path, text: &str) {
    let modified = fs::metadata(path).and_then(|meta| meta.modified());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    if let Ok(modified) = modified {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(modified)
            .unwrap();
    }
}

/// One edit, drawn at random; returns what was done and the arguments of the run after it.
fn edit(project: &Project, chance: &mut fastrand::Rng) -> (String, Vec<&'static str>) {
    let persona = format!("p{:02}", chance.u8(0..4));
    let profile = project.path(&format!("personas/{persona}/profile.md"));
    let notes = project.path(&format!("personas/{persona}/notes.md"));
    let transcript = project.path(&format!("transcripts/{persona}.md"));
    let text = ["One text.\n", "Two text.\n", "Another text, longer.\n"][chance.usize(0..3)];
    let prompt = [
        "Write \"{{ vars.title }}\".\n",
        "Writ{# #}e \"{{ vars.title }}\".\n",
    ][chance.usize(0..2)];
    let what = chance.u8(0..14);
    match what {
        0 | 1 => write_unseen(&profile, text),
        2 => write_unseen(&notes, text),
        3 => drop(fs::remove_file(&notes)),
        4 => drop(fs::remove_file(&transcript)),
        5 => write_unseen(&transcript, text),
        6 => {
            // The same content in another file.
            if let Ok(content) = fs::read(&transcript) {
                fs::remove_file(&transcript).unwrap();
                fs::write(&transcript, content).unwrap();
            }
        }
        7 => project.write("prompts/chunk.md", prompt),
        8 => {
            let pipeline = project.read("pipeline.toml");
            project.write("pipeline.toml", format!("{pipeline}# A comment.\n"));
        }
        11 | 12 => {
            // One chunk of two, to and fro.
            let pipeline = project.read("pipeline.toml");
            let [plain, edited] = ["title = \"", "title = \"Edited: "];
            let pipeline = match pipeline.contains(edited) {
                true => pipeline.replace(edited, plain),
                false => pipeline.replacen(plain, edited, 1),
            };
            project.write("pipeline.toml", pipeline);
        }
        9 => {
            let other = project.path("personas/p00/profile.md");
            if profile.exists() && other.exists() && profile != other {
                let aside = project.path("aside.md");
                fs::rename(&profile, &aside).unwrap();
                fs::rename(&other, &profile).unwrap();
                fs::rename(&aside, &other).unwrap();
            }
        }
        10 => drop(fs::remove_dir_all(project.path(&format!("personas/{persona}")))),
        _ => return (format!("refresh {persona}"), vec!["--refresh", "p0*/chunk-1"]),
    }
    (format!("{what} of {persona}"), Vec::new())
}

/// The transcripts, and what lies beside them.
fn transcripts(project: &Project) -> Vec<(String, Vec<u8>)> {
    let names = project.names("transcripts").into_iter();
    names
        .map(|name| (name.clone(), project.read_bytes(&format!("transcripts/{name}"))))
        .collect()
}

#[test]
fn receipts_say_what_looking_at_every_node_finds() {
    for seed in 0..4 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let project = Project::small(4);
        project.json(&[]).code(0);
        let mut done = Vec::new();
        for _ in 0..12 {
            // Also without an edit, and after several.
            let mut args = Vec::new();
            for _ in 0..chance.u8(0..3) {
                let (what, with) = edit(&project, &mut chance);
                done.push(what);
                if project.path("personas/p00").exists() || !with.is_empty() {
                    args = with;
                }
            }
            let twin = Project::empty();
            copy(&project.path(""), &twin.path(""));
            let mut verify = args.clone();
            verify.push("--verify");
            let plan = |verify: &[&str]| {
                let args = [&["plan", "--json"], &args[..], verify].concat();
                let ran = project.run(&args).code(0);
                // How long the plan's own figures say it takes depends on the time of day.
                let lines = ran
                    .stdout
                    .lines()
                    .map(|line| serde_json::from_str::<Value>(line).unwrap());
                let told = [
                    "event",
                    "persona",
                    "node",
                    "status",
                    "reason",
                    "nodes",
                    "transcripts",
                ];
                lines
                    .map(|line| told.map(|name| line[name].clone()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(plan(&[]), plan(&["--verify"]), "seed {seed}: {done:?}");
            let (short, long) = (project.json(&args), twin.json(&verify));
            assert_eq!(short.code, long.code, "seed {seed}: {done:?}");
            assert_eq!(differences(&short, &long), [""; 0], "seed {seed}: {done:?}");
            assert_eq!(transcripts(&project), transcripts(&twin), "seed {seed}: {done:?}");
            done.push("run".to_owned());
        }
    }
}
