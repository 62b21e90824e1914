//! `septet why` of what is there and cannot be served, or may have been paid without an answer: a
//! damaged record, a call that was open when the program was killed. And its whole texts.

use serde_json::{Value, json};

use crate::project::{Project, settled};

fn why(project: &Project, node: &str) -> Value {
    let ran = project.run(&["why", "--json", node]).code(0);
    serde_json::from_str(ran.stdout.lines().next().unwrap()).unwrap()
}

fn said(project: &Project, node: &str) -> String {
    project.run(&["why", node]).code(0).stdout
}

/// Flips a bit of the answer that a node has, in the look-up trees and in the journal. A frame has
/// its key in its header, 32 bytes in, and its payload begins after 64.
fn damage(project: &Project, key: &str) {
    let byte = |at: usize| u8::from_str_radix(&key[at..at + 2], 16).unwrap();
    let key: Vec<u8> = (0..key.len()).step_by(2).map(byte).collect();
    let db = sled::Config::default()
        .path(project.path("cache/store/0001"))
        .segment_size(4 << 20)
        .open()
        .unwrap();
    let tree = db.open_tree("answers-v1").unwrap();
    let mut frame = tree.get(&key).unwrap().expect("the trees have it").to_vec();
    *frame.last_mut().unwrap() ^= 1;
    tree.insert(&key, frame).unwrap();
    db.flush().unwrap();
    let path = project.path("cache/journal/00000001.log");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = bytes.windows(key.len()).rposition(|window| window == key);
    bytes[header.expect("the journal has it") + 32 + 10] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn a_damaged_record_says_so() {
    let project = Project::small(1);
    project.json(&[]).code(0);
    let key = why(&project, "p00/chunk-1")["key"].as_str().unwrap().to_owned();
    let spoiled = || {
        let copy = Project::small(1);
        for path in ["cache/journal", "cache/store/0001", "cache/store/0001/blobs"] {
            for name in project.names(path) {
                let file = project.path(&format!("{path}/{name}"));
                if file.is_file() {
                    copy.write(&format!("{path}/{name}"), std::fs::read(file).unwrap());
                }
            }
        }
        copy.write("transcripts/p00.md", project.read("transcripts/p00.md"));
        damage(&copy, &key);
        copy
    };
    // A copy for each command: once a record is found to be damaged, the next one builds the trees
    // anew without it.
    let told = why(&spoiled(), "p00/chunk-1");
    assert_eq!(
        (&told["status"], &told["reason"]),
        (&json!("call"), &json!("damaged"))
    );
    assert_eq!(why(&spoiled(), "p00/chunk-2")["status"], "cached");
    let _scope = settled().bind_to_scope();
    insta::assert_snapshot!(said(&spoiled(), "p00"), @"
    p00: 1 of 3 nodes up to date
      chunk-1     to call     stored answer is damaged (checksum does not match)
      chunk-2     up to date  paid YYYY-MM-DD hh:mm in run YYYYMMDD-hhmmss-[id]
      combine     depends     its request is known once `chunk-1` has been called
      transcript  as written  transcripts/p00.md: by an earlier run; `septet run` brings it up to date
    ");
    insta::assert_snapshot!(said(&spoiled(), "p00/chunk-1"), @"
    p00/chunk-1: to call
      stored answer is damaged (checksum does not match)

    rests on   prompts/system.md, prompts/persona.md, prompts/chunk.md, vars.title, persona files profile.md, model gpt-6-luna
    key        [key]
    ");
    // `plan` and `run` tell the same story.
    let plan = spoiled().run(&["plan", "--json"]).code(0).stdout;
    assert!(plan.contains("\"kind\":\"damaged\""), "{plan}");
    let run = spoiled().json(&[]).code(0);
    assert_eq!(run.nodes("called"), ["p00/chunk-1"]);
    let warned = run.named("warning");
    assert!(
        warned[0]["message"]
            .as_str()
            .unwrap()
            .starts_with("p00/chunk-1: stored answer is damaged")
    );
}

#[cfg(unix)]
#[test]
fn a_call_that_was_open_at_a_kill_may_have_been_billed() {
    let project = crate::reading::killed();
    let told = why(&project, "p00/chunk-1");
    assert_eq!(
        (&told["status"], &told["reason"]),
        (&json!("call"), &json!("unanswered"))
    );
    assert!(told["last_sent"]["run"].is_string(), "{told}");
    let _scope = settled().bind_to_scope();
    insta::assert_snapshot!(said(&project, "p00"), @"
    p00: 0 of 3 nodes up to date
      chunk-1     to call     sent before, no answer came: septet ended while waiting for the answer; possibly billed, at most about $0.0020 (YYYY-MM-DD hh:mm in run YYYYMMDD-hhmmss-[id])
      chunk-2     to call     sent before, no answer came: septet ended while waiting for the answer; possibly billed, at most about $0.0020 (YYYY-MM-DD hh:mm in run YYYYMMDD-hhmmss-[id])
      combine     depends     its request is known once `chunk-1`, `chunk-2` have been called
      transcript  not there   transcripts/p00.md: not written yet
    ");
    insta::assert_snapshot!(said(&project, "p00/chunk-1"), @"
    p00/chunk-1: to call
      sent before, no answer came: septet ended while waiting for the answer; possibly billed, at most about $0.0020 (YYYY-MM-DD hh:mm in run YYYYMMDD-hhmmss-[id])

    last sent  YYYY-MM-DD hh:mm in run YYYYMMDD-hhmmss-[id]
    rests on   prompts/system.md, prompts/persona.md, prompts/chunk.md, vars.title, persona files profile.md, model gpt-6-luna
    key        [key]
    ");
}

#[test]
fn whole_texts() {
    let project = Project::small(1);
    let _scope = settled().bind_to_scope();
    insta::assert_snapshot!(said(&project, "p00"), @"
    p00: 0 of 3 nodes up to date
      chunk-1     to call     new: nothing was sent for it yet
      chunk-2     to call     new: nothing was sent for it yet
      combine     depends     its request is known once `chunk-1`, `chunk-2` have been called
      transcript  not there   transcripts/p00.md: not written yet
    ");
    insta::assert_snapshot!(said(&project, "p00/combine"), @"
    p00/combine: depends
      its request is known once `chunk-1`, `chunk-2` have been called

    rests on   prompts/system.md, prompts/persona.md, prompts/combine.md, persona files profile.md, model gpt-6-luna, answer of chunk-1, answer of chunk-2
    ");
    project.json(&[]).code(0);
    insta::assert_snapshot!(said(&project, "p00"), @"
    p00: 3 of 3 nodes up to date
      chunk-1     up to date  paid YYYY-MM-DD hh:mm in run YYYYMMDD-hhmmss-[id]
      chunk-2     up to date  paid YYYY-MM-DD hh:mm in run YYYYMMDD-hhmmss-[id]
      combine     up to date  paid YYYY-MM-DD hh:mm in run YYYYMMDD-hhmmss-[id]
      transcript  as written  transcripts/p00.md
    ");
    insta::assert_snapshot!(said(&project, "p00/combine"), @"
    p00/combine: up to date

    paid       YYYY-MM-DD hh:mm in run YYYYMMDD-hhmmss-[id], attempt 1: 844 input and 363 output tokens, $0.0003, by gpt-6-luna
    rests on   prompts/system.md, prompts/persona.md, prompts/combine.md, persona files profile.md, model gpt-6-luna, answer of chunk-1, answer of chunk-2
    key        [key]
    ");
    project.edit("prompts/chunk.md", "Write the part", "Write well the part");
    project.edit("pipeline.toml", "title = \"Leaving\"", "title = \"Going\"");
    insta::assert_snapshot!(said(&project, "p00"), @r#"
    p00: 0 of 3 nodes up to date
      chunk-1     to call     template `prompts/chunk.md` changed
      chunk-2     to call     template `prompts/chunk.md` changed; `vars.title`: "Leaving" -> "Going"
      combine     depends     its request is known once `chunk-1`, `chunk-2` have been called
      transcript  as written  transcripts/p00.md: by an earlier run; `septet run` brings it up to date

    `septet why p00/chunk-1` shows the difference
    "#);
    insta::assert_snapshot!(said(&project, "p00/chunk-2"), @r#"
    p00/chunk-2: to call
      template `prompts/chunk.md` changed
      `vars.title`: "Leaving" -> "Going"

    last sent  YYYY-MM-DD hh:mm in run YYYYMMDD-hhmmss-[id]
    rests on   prompts/system.md, prompts/persona.md, prompts/chunk.md, vars.title, persona files profile.md, model gpt-6-luna
    key        [key]

    --- user, YYYY-MM-DD hh:mm in run YYYYMMDD-hhmmss-[id]
    +++ user, now
    @@ -2,4 +2,4 @@
     
     Person number 0.
     
    -Write the part "Leaving".
    +Write well the part "Going".
    "#);
    project.write("transcripts/p00.md", "My own words.\n");
    std::fs::remove_file(project.path("personas/p00/profile.md")).unwrap();
    project.write("personas/p00/profile.md", "Somebody else.\n");
    insta::assert_snapshot!(said(&project, "p00"), @r#"
    p00: 0 of 3 nodes up to date
      chunk-1     to call     template `prompts/chunk.md` changed; persona file `profile.md` changed
      chunk-2     to call     template `prompts/chunk.md` changed; `vars.title`: "Leaving" -> "Going"; persona file `profile.md` changed
      combine     depends     its request is known once `chunk-1`, `chunk-2` have been called
      transcript  by hand     transcripts/p00.md: not as septet wrote it; a new text goes beside it, `--overwrite` replaces it

    `septet why p00/chunk-1` shows the difference
    "#);
}
