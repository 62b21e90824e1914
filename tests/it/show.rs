//! `septet show` and `septet runs`: what was sent and came back, what runs cost, and what is left
//! of one that was killed.

use serde_json::Value;

use crate::project::Project;

fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_node_is_shown_as_it_was_sent_and_says_so_once_another_is_asked_for() {
    let project = Project::small(1);
    let shown = |node: &str| objects(&project.run(&["show", "--json", node]).code(0).stdout).remove(0);
    let never = shown("p00/chunk-1");
    assert_eq!(
        (&never["status"], &never["answer"]),
        (&"never_called".into(), &Value::Null)
    );
    project.json(&[]).code(0);
    let now = shown("p00/combine");
    assert_eq!(
        (&now["status"], &now["lost"]),
        (&"up_to_date".into(), &Value::Null)
    );
    assert_eq!(now["attempts"][0]["outcome"], "ok");
    assert_eq!(now["attempts"][0]["key"], now["key"]);
    let part = shown("p00/chunk-1");
    let text = part["answer"]["text"].as_str().unwrap();
    assert!(
        now["messages"][1]["content"].as_str().unwrap().contains(text),
        "with the need's answer in it"
    );
    assert_eq!(
        project.run(&["show", "p00/chunk-1", "--answer"]).code(0).stdout,
        format!("{text}\n")
    );
    project.edit("prompts/chunk.md", "Write", "Tell");
    let before = shown("p00/chunk-1");
    assert_eq!(before["status"], "earlier");
    assert_eq!(
        (&before["messages"], &before["answer"]),
        (&part["messages"], &part["answer"])
    );
    assert_eq!(shown("p00/combine")["status"], "unknown");
    let prompt = project.run(&["show", "p00/chunk-1", "--prompt"]).code(0).stdout;
    assert!(prompt.contains("Write the part \"Arriving\"."), "{prompt}");
    let table = project.run(&["show", "p00"]).code(0).stdout;
    assert!(
        table.contains("chunk-1  earlier request") && table.contains("transcripts/p00.md"),
        "{table}"
    );
}

#[test]
fn runs_add_up_over_a_resume() {
    let project = Project::small(2);
    assert_eq!(project.run(&["runs"]).code(0).stdout, "");
    let first = project.json(&["--max", "1"]).code(0);
    let second = project.json(&[]).code(0);
    let listed = objects(&project.run(&["runs", "--json"]).code(0).stdout);
    let names: Vec<&Value> = listed.iter().map(|object| &object["event"]).collect();
    assert_eq!(names, ["run", "run", "runs_total"]);
    for (told, listed) in [first.summary(), second.summary()].into_iter().zip(&listed) {
        for field in [
            "run", "outcome", "personas", "nodes", "calls", "tokens", "cost_usd",
        ] {
            assert_eq!(told[field], listed[field], "{field}");
        }
    }
    assert_eq!(listed[2]["answers"], 6);
    let tokens = first.figure("tokens.total") + second.figure("tokens.total");
    assert_eq!(listed[2]["tokens"]["total"], tokens);
    let models = objects(&project.run(&["runs", "--json", "--by", "model"]).code(0).stdout);
    assert_eq!(
        (&models[0]["model"], &models[0]["answers"]),
        (&"gpt-6-luna".into(), &6.into())
    );
    let one = objects(&project.run(&["runs", "--json", "last"]).code(0).stdout);
    assert_eq!(one[0]["run"], second.summary()["run"]);
    assert_eq!(one[0]["by_node"].as_array().unwrap().len(), 3);
    let errors = project.run(&["runs", "1999"]).code(2).errors();
    assert!(errors.contains("there is no run `1999`"), "{errors}");
}

#[cfg(unix)]
#[test]
fn a_run_that_was_killed_is_told_of_once_and_stays_in_the_list() {
    use std::io::{BufRead, BufReader};

    let project = Project::small(2).with("latency = \"0s\"", "latency = \"60s\"");
    let mut child = project.command(&["run", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let sent = |line: &String| line.contains("call_started");
    let seen = lines.by_ref().map(Result::unwrap).filter(sent).take(4).count();
    assert_eq!(seen, 4);
    child.kill().unwrap();
    child.wait().unwrap();
    let ran = project.run(&["runs", "--json"]).code(0);
    let errors = ran.errors();
    assert!(
        errors.contains("ended without a word")
            && errors.contains("4 calls were open: possibly billed, at most about $"),
        "{errors}"
    );
    let told = &objects(&ran.stdout)[0];
    assert_eq!(
        (&told["outcome"], &told["possibly_billed"]["calls"]),
        (&"died".into(), &4.into())
    );
    assert_eq!(
        (&told["calls"]["abandoned"], &told["personas"]["pending"]),
        (&4.into(), &2.into())
    );
    let again = project.run(&["runs", "--json"]).code(0);
    assert_eq!((again.errors().as_str(), again.stdout), ("", ran.stdout));
    let node = &objects(&project.run(&["show", "--json", "p00/chunk-1"]).code(0).stdout)[0];
    assert_eq!(
        (&node["status"], &node["attempts"][0]["possibly_billed"]),
        (&"no_answer".into(), &true.into())
    );
}

#[test]
fn rejected_answers_of_a_persona_are_shown_and_one_that_was_removed_is_explained() {
    let project = Project::small(2).with(
        "vars = { title = \"Leaving\" }",
        "vars = { title = \"Leaving\" }\nmodel = { max_output_tokens = 20 }",
    );
    project.json(&[]).code(1);
    let shown = project.run(&["show", "p00", "--rejected"]).code(0).stdout;
    assert!(
        shown.contains("node      p00/chunk-2") && !shown.contains("p00/chunk-1"),
        "{shown}"
    );
    // What was paid for them is no dash.
    let table = project.run(&["show", "p00"]).code(0).stdout;
    let row = table.lines().find(|line| line.starts_with("chunk-2")).unwrap();
    assert!(row.contains("no good answer") && row.contains('$'), "{table}");
    let why = project.run(&["why", "p00"]).code(0).stdout;
    assert!(!why.contains("as written"), "{why}");
    std::fs::remove_dir_all(project.path("personas/p01")).unwrap();
    std::fs::rename(project.path("personas/p00"), project.path("personas/old_lady")).unwrap();
    let refused = project.run(&["show", "p01"]).code(2).stderr;
    assert!(refused.contains("septet cache ls 'p01/*'"), "{refused}");
}
