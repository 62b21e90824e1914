//! What is wrong before anything is called: each mistake by name, as a person reads it. Every one
//! ends with 2, prints nothing on standard output, and leaves no transcript and no cache.

use crate::project::Project;

/// Runs and plans; both refuse with the same words, which are returned.
#[track_caller]
fn refused(project: &Project) -> String {
    let said = refused_with(project, &["run"]);
    assert_eq!(said, refused_with(project, &["plan"]), "`plan` says the same");
    assert_eq!(said, refused_with(project, &["run", "--json"]), "`--json` too");
    said
}

#[track_caller]
fn refused_with(project: &Project, args: &[&str]) -> String {
    let ran = project.run(args).code(2);
    assert_eq!(ran.stdout, "");
    assert_eq!(project.names("transcripts"), [""; 0]);
    assert_eq!(project.names("cache"), [""; 0]);
    ran.errors()
}

/// [`Project::small`] with one change to `pipeline.toml`, refused.
#[track_caller]
fn pipeline(from: &str, to: &str) -> String {
    refused(&Project::small(1).with(from, to))
}

/// [`Project::small`] with another template, refused.
#[track_caller]
fn template(path: &str, text: &str) -> String {
    refused(&Project::small(1).file(path, text))
}

#[test]
fn an_unknown_key() {
    insta::assert_snapshot!(pipeline("concurrency = 16", "concurency = 16"), @r"
    error: unknown key `limits.concurency`
      --> pipeline.toml:16

    hint: did you mean `concurrency`?
    ");
    insta::assert_snapshot!(pipeline("[limits]", "[limit]"), @r"
    error: unknown key `limit`
      --> pipeline.toml:15

    hint: did you mean `limits`?
    ");
    insta::assert_snapshot!(pipeline("id = \"chunk-1\"", "id = \"chunk-1\"\ncolour = 3"), @r#"
    error: unknown key `colour` of node `chunk-1`
      --> pipeline.toml:34

    hint: known keys are `id`, `needs`, `system`, `context`, `prompt`, `vars`, `model`, `variant`, `min_chars`, `max_chars`, `must_match`, `must_not_match` and 1 more
    "#);
}

#[test]
fn a_wrong_type() {
    insta::assert_snapshot!(pipeline("concurrency = 16", "concurrency = \"16\""), @r#"
    error: `limits.concurrency` must be a whole number from 1 to 100000, not `"16"`
      --> pipeline.toml:16

    hint: write it without quotes: `concurrency = 16`
    "#);
    insta::assert_snapshot!(pipeline("needs = [\"chunk-*\"]", "needs = \"chunk-*\""), @r#"
    error: `needs` of node `combine` must be a list of texts, not `"chunk-*"`
      --> pipeline.toml:44

    hint: put it in brackets: `needs = ["chunk-*"]`
    "#);
}

#[test]
fn a_bad_duration() {
    insta::assert_snapshot!(pipeline("base = \"1ms\"", "base = \"1 fortnight\""), @r#"
    error: `retry.base` must be a duration like `"500ms"`, `"10s"`, `"10m"` or `"1h 30m"`, not `"1 fortnight"`
      --> pipeline.toml:19

    hint: units are `ms`, `s`, `m` and `h`
    "#);
    insta::assert_snapshot!(pipeline("base = \"1ms\"", "base = 1"), @r#"
    error: `retry.base` must be a duration like `"500ms"`, `"10s"`, `"10m"` or `"1h 30m"`, not `1`
      --> pipeline.toml:19

    hint: write it with its unit: `base = "1s"`
    "#);
}

#[test]
fn a_bad_number() {
    insta::assert_snapshot!(pipeline("concurrency = 16", "concurrency = 0"), @r"
    error: `limits.concurrency` must be a whole number from 1 to 100000, not `0`
      --> pipeline.toml:16
    ");
    insta::assert_snapshot!(pipeline("input = 0.10", "input = -0.10"), @r"
    error: `prices.gpt-6-luna.input` must be a number from 0 to 1000000, not `-0.10`
      --> pipeline.toml:23
    ");
    insta::assert_snapshot!(pipeline("max_output_tokens = 4000", "max_output_tokens = 4000.5"), @r"
    error: `model.max_output_tokens` must be a whole number from 1 to 4294967295, not `4000.5`
      --> pipeline.toml:13
    ");
}

#[test]
fn no_toml() {
    insta::assert_snapshot!(pipeline("name = \"gpt-6-luna\"", "name = \"gpt-6-luna"), @r#"
    error: not valid TOML in `name = …`: invalid basic string, expected `"`
      --> pipeline.toml:12
    "#);
    insta::assert_snapshot!(pipeline("name = \"gpt-6-luna\"", "name = \"a\"\nname = \"b\""), @r"
    error: not valid TOML in `name = …`: duplicate key
      --> pipeline.toml:13
    ");
}

#[test]
fn a_missing_model() {
    let project = Project::small(1)
        .at("http://127.0.0.1:9/v1")
        .with("name = \"gpt-6-luna\"\n", "");
    insta::assert_snapshot!(refused(&project), @r#"
    error: node `chunk-1` has no model
      --> pipeline.toml:30

    hint: name one for all nodes: `name = "…"` in `[model]`

    error: node `chunk-2` has no model
      --> pipeline.toml:35

    hint: name one for all nodes: `name = "…"` in `[model]`

    error: node `combine` has no model
      --> pipeline.toml:40

    hint: name one for all nodes: `name = "…"` in `[model]`
    "#);
}

#[test]
fn an_unknown_provider() {
    insta::assert_snapshot!(pipeline("kind = \"simulator\"", "kind = \"opnai\""), @r"
    error: `provider.kind` is `opnai`, which does not exist
      --> pipeline.toml:6

    hint: did you mean `openai`?
    ");
    insta::assert_snapshot!(pipeline("kind = \"simulator\"\n", "kind = \"openai\"\nbase_url = \"api.openai.com/v1\"\n"), @r"
    error: `provider.base_url` is not a URL: relative URL without a base
      --> pipeline.toml:7

    hint: write it like `https://api.openai.com/v1`
    ");
}

#[test]
fn a_missing_template() {
    insta::assert_snapshot!(pipeline("prompts/combine.md", "prompts/combin.md"), @r"
    error: the template `prompts/combin.md` does not exist
      --> pipeline.toml:45

    hint: did you mean `prompts/combine.md`?
    ");
    insta::assert_snapshot!(pipeline("prompts/system.md", "prompts/sytem.md"), @r"
    error: the template `prompts/sytem.md` does not exist
      --> pipeline.toml:29

    hint: did you mean `prompts/system.md`?
    ");
}

#[test]
fn a_missing_template_of_several_nodes_is_one_mistake() {
    let project = Project::small(1);
    std::fs::remove_file(project.path("prompts/chunk.md")).unwrap();
    insta::assert_snapshot!(refused(&project), @r"
    error: the template `prompts/chunk.md` does not exist
      --> pipeline.toml:34

    hint: make it, or name another
    ");
}

#[test]
fn a_template_outside_the_project() {
    insta::assert_snapshot!(pipeline("prompts/combine.md", "../combine.md"), @r"
    error: the template `../combine.md` does not exist
      --> pipeline.toml:45

    hint: make it, or name another
    ");
}

#[test]
fn a_circle() {
    insta::assert_snapshot!(pipeline("id = \"chunk-1\"", "id = \"chunk-1\"\nneeds = [\"combine\"]"), @r"
    error: nodes need each other in a circle: `chunk-1 -> combine -> chunk-1`
      --> pipeline.toml:34

    hint: `a -> b` says that `a` needs `b`: take one of them out of a `needs`
    ");
    insta::assert_snapshot!(pipeline("id = \"chunk-1\"", "id = \"chunk-1\"\nneeds = [\"chunk-1\"]"), @r"
    error: nodes need each other in a circle: `chunk-1 -> chunk-1`
      --> pipeline.toml:34

    hint: `a -> b` says that `a` needs `b`: take one of them out of a `needs`
    ");
}

#[test]
fn an_unknown_need() {
    insta::assert_snapshot!(pipeline("[\"chunk-*\"]", "[\"chunk-1\", \"chunk-22\"]"), @r"
    error: node `combine` needs `chunk-22`, which does not exist
      --> pipeline.toml:44

    hint: did you mean `chunk-2`?
    ");
    insta::assert_snapshot!(pipeline("[\"chunk-*\"]", "[\"part-*\"]"), @r"
    error: node `combine` needs `part-*`, which matches no other node
      --> pipeline.toml:44

    hint: the other nodes are `chunk-1`, `chunk-2`
    ");
}

#[test]
fn two_nodes_with_one_id() {
    insta::assert_snapshot!(pipeline("id = \"chunk-2\"", "id = \"chunk-1\""), @r"
    error: two nodes have the id `chunk-1`: the other is in line 33
      --> pipeline.toml:38

    hint: give each node an id of its own
    ");
}

#[test]
fn two_results() {
    insta::assert_snapshot!(pipeline("[\"chunk-*\"]", "[\"chunk-1\"]"), @r#"
    error: the transcript could come from 2 nodes that no other needs: `chunk-2`, `combine`
      --> pipeline.toml:42

    hint: say which: `result = "combine"` in `[pipeline]`
    "#);
    insta::assert_snapshot!(pipeline("[provider]", "result = \"combined\"\n\n[provider]"), @r"
    error: `pipeline.result` names the node `combined`, which does not exist
      --> pipeline.toml:5

    hint: did you mean `combine`?
    ");
}

#[test]
fn no_nodes() {
    let project = Project::small(1);
    let text = project.read("pipeline.toml");
    project.write("pipeline.toml", &text[..text.find("[[node]]").unwrap()]);
    insta::assert_snapshot!(refused(&project), @r"
    error: the pipeline has no node
      --> pipeline.toml:1

    hint: add one: `[[node]]` with `id` and `prompt`
    ");
}

#[test]
fn an_output_that_is_no_place_for_transcripts() {
    insta::assert_snapshot!(pipeline("transcripts/{persona}.md", "../{persona}.md"), @r"
    error: `pipeline.output` leaves the project with `..`: `../{persona}.md`
      --> pipeline.toml:3

    hint: write it like `transcripts/{persona}.md`
    ");
    insta::assert_snapshot!(pipeline("transcripts/{persona}.md", "transcripts/all.md"), @r"
    error: `pipeline.output` has no `{persona}`, so all transcripts would be one file: `transcripts/all.md`
      --> pipeline.toml:3

    hint: write it like `transcripts/{persona}.md`
    ");
}

#[test]
fn several_mistakes_at_once() {
    let project = Project::small(1)
        .with("concurrency = 16", "concurency = 16")
        .with("base = \"1ms\"", "base = \"soon\"")
        .with("[\"chunk-*\"]", "[\"chnk-1\"]");
    insta::assert_snapshot!(refused(&project), @r#"
    error: unknown key `limits.concurency`
      --> pipeline.toml:16

    hint: did you mean `concurrency`?

    error: `retry.base` must be a duration like `"500ms"`, `"10s"`, `"10m"` or `"1h 30m"`, not `"soon"`
      --> pipeline.toml:19

    hint: units are `ms`, `s`, `m` and `h`

    error: node `combine` needs `chnk-1`, which does not exist
      --> pipeline.toml:44

    hint: did you mean `chunk-1`?
    "#);
}

#[test]
fn a_template_that_cannot_be_parsed() {
    insta::assert_snapshot!(template("prompts/combine.md", "Join:\n{% for need in needs %}\n{{ need.text }}\n"), @r"
    error: not a valid template: unexpected end of input, expected end of block
      --> prompts/combine.md:3
    ");
    insta::assert_snapshot!(template("prompts/chunk.md", "a\n{{ vars.title\n"), @r"
    error: not a valid template: unexpected end of input, expected end of variable block
      --> prompts/chunk.md:2
    ");
    insta::assert_snapshot!(template("prompts/chunk.md", "{{ vars.title | uper }}\n"), @r"
    error: node `chunk-1`: there is no filter `uper`
      --> prompts/chunk.md:1

    hint: did you mean `upper`?
    ");
}

#[test]
fn an_undefined_name() {
    insta::assert_snapshot!(template("prompts/chunk.md", "a\n\n{{ person.profile }}\n"), @r"
    error: node `chunk-1`: `person` is not defined
      --> prompts/chunk.md:3

    hint: did you mean `persona`?
    ");
    insta::assert_snapshot!(template("prompts/chunk.md", "{{ zzz }}\n"), @r"
    error: node `chunk-1`: `zzz` is not defined
      --> prompts/chunk.md:1

    hint: a template sees `persona`, `vars` and `needs`
    ");
    insta::assert_snapshot!(template("prompts/combine.md", "{{ needs[\"chunk-3\"].text }}\n"), @r#"
    error: node `combine`: `needs["chunk-3"].text` is not defined
      --> prompts/combine.md:1

    hint: did you mean `needs["chunk-2"]`?
    "#);
    insta::assert_snapshot!(template("prompts/combine.md", "{% for need in needs %}{{ need.txt }}{% endfor %}\n"), @r"
    error: node `combine`: `need.txt` is not defined
      --> prompts/combine.md:1

    hint: did you mean `need.text`?
    ");
}

#[test]
fn an_undefined_name_in_a_shared_template() {
    insta::assert_snapshot!(template("prompts/system.md", "You are {{ persona.nmae }}{{ vars.titel }}.\n"), @r"
    error: node `chunk-1`: `vars.titel` is not defined
      --> prompts/system.md:1

    hint: did you mean `vars.title`?
    ");
}

#[test]
fn unknown_vars() {
    insta::assert_snapshot!(template("prompts/chunk.md", "Write\n{{ vars.titel }}\n"), @r"
    error: node `chunk-1`: `vars.titel` is not defined
      --> prompts/chunk.md:2

    hint: did you mean `vars.title`?
    ");
    insta::assert_snapshot!(template("prompts/combine.md", "Join {{ vars.title }}\n"), @r"
    error: node `combine`: `vars.title` is not defined
      --> prompts/combine.md:1

    hint: `vars` has nothing in it
    ");
}

#[test]
fn a_template_that_is_not_utf_8() {
    let project = Project::small(1);
    project.write("prompts/chunk.md", b"one\ntw\xff\n");
    insta::assert_snapshot!(refused(&project), @r"
    error: the template `prompts/chunk.md` is not UTF-8
      --> pipeline.toml:34

    hint: save it as UTF-8
    ");
}

#[test]
fn several_templates_at_once() {
    let project = Project::small(1)
        .file("prompts/chunk.md", "{{ a }}\n{{ b }}\n")
        .file("prompts/combine.md", "{{ c }}\n");
    insta::assert_snapshot!(refused(&project), @r"
    error: node `chunk-1`: `a` is not defined
      --> prompts/chunk.md:1

    hint: a template sees `persona`, `vars` and `needs`

    error: node `chunk-1`: `b` is not defined
      --> prompts/chunk.md:2

    hint: a template sees `persona`, `vars` and `needs`

    error: node `combine`: `c` is not defined
      --> prompts/combine.md:1

    hint: a template sees `persona`, `vars` and `needs`
    ");
    let project = Project::small(1)
        .with("prompts/system.md", "prompts/sytem.md")
        .with("prompts/combine.md", "prompts/combin.md");
    insta::assert_snapshot!(refused(&project), @r"
    error: the template `prompts/sytem.md` does not exist
      --> pipeline.toml:29

    hint: did you mean `prompts/system.md`?

    error: the template `prompts/combin.md` does not exist
      --> pipeline.toml:45

    hint: did you mean `prompts/combine.md`?
    ");
}

#[test]
fn no_pipeline() {
    insta::assert_snapshot!(refused(&Project::empty()), @r"
    error: there is no `pipeline.toml` in this folder

    hint: `septet init DIR` makes a project, `septet -C DIR …` works in another folder
    ");
    let project = Project::small(1);
    insta::assert_snapshot!(refused_with(&project, &["-C", "nowhere", "run"]), @"error: the folder `nowhere` does not exist");
    insta::assert_snapshot!(refused_with(&project, &["-C", "prompts", "run"]), @r"
    error: there is no `pipeline.toml` in `prompts`

    hint: `septet init DIR` makes a project, `septet -C DIR …` works in another folder
    ");
    insta::assert_snapshot!(refused_with(&project, &["-C", "pipeline.toml", "run"]), @"error: `-C pipeline.toml` is not a folder");
}

#[test]
fn no_personas() {
    insta::assert_snapshot!(refused(&Project::small(0)), @r"
    error: no personas: `personas` does not exist
      --> pipeline.toml:2

    hint: make it, with one folder for each persona, or name another as `personas` in `[pipeline]`
    ");
    insta::assert_snapshot!(refused(&Project::small(0).file("personas/.keep", "")), @r"
    error: `personas` has no personas

    hint: make a folder for each one: `personas/anna/profile.md`
    ");
    insta::assert_snapshot!(refused(&Project::small(0).file("personas", "")), @r"
    error: no personas: `personas` is not a folder
      --> pipeline.toml:2

    hint: `personas` in `[pipeline]` names the folder of the personas
    ");
}

#[test]
fn no_persona_that_matches() {
    let project = Project::small(3);
    insta::assert_snapshot!(refused_with(&project, &["run", "--persona", "p1"]), @r"
    error: no persona matches `--persona p1`

    hint: did you mean `p01`?
    ");
    insta::assert_snapshot!(refused_with(&project, &["run", "--persona", "old*", "--persona", "new*"]), @r"
    error: no persona matches `--persona old*`, `--persona new*`

    hint: `personas` has 3 others, such as `p00`
    ");
    insta::assert_snapshot!(refused_with(&project, &["run", "--persona", ""]), @r"
    error: no persona matches `--persona `

    hint: `personas` has 3 others, such as `p00`
    ");
}

#[test]
fn a_bad_pattern() {
    let project = Project::small(1);
    insta::assert_snapshot!(refused_with(&project, &["run", "--persona", "p[0"]), @"error: `--persona p[0` is no pattern: unclosed character class; missing ']'");
    insta::assert_snapshot!(refused_with(&project, &["run", "--refresh", "{a"]), @"error: `--refresh {a` is no pattern: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)");
}

#[test]
fn a_refresh_that_matches_nothing() {
    let project = Project::small(1);
    insta::assert_snapshot!(refused_with(&project, &["run", "--refresh", "combine"]), @r"
    error: no node matches `--refresh combine`

    hint: a pattern names PERSONA/NODE, such as `*/combine`, or all nodes of a PERSONA
    ");
    insta::assert_snapshot!(refused_with(&project, &["run", "--refresh", "p00/chunk-9", "--refresh", "p07"]), @r"
    error: no node matches `--refresh p00/chunk-9`, `--refresh p07`

    hint: a pattern names PERSONA/NODE, such as `*/combine`, or all nodes of a PERSONA
    ");
}

#[test]
fn a_wrong_command_line() {
    let project = Project::small(1);
    insta::assert_snapshot!(refused_with(&project, &["run", "--wokers", "3"]), @r"
    error: unexpected argument '--wokers' found

      tip: a similar argument exists: '--workers'

    Usage: septet run --workers <N>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused_with(&project, &["run", "--workers", "0"]), @r"
    error: invalid value '0' for '--workers <N>': expected a whole number from 1 to 100000

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused_with(&project, &["run", "--workers", "many"]), @r"
    error: invalid value 'many' for '--workers <N>': expected a whole number from 1 to 100000

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused_with(&project, &["run", "--max", "0"]), @r"
    error: invalid value '0' for '--max <N>': expected a whole number of at least 1

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused_with(&project, &["run", "--max", "-1"]), @r"
    error: invalid value '-1' for '--max <N>': expected a whole number of at least 1

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused_with(&project, &["run", "--budget", "-1"]), @r"
    error: invalid value '-1' for '--budget <USD>': expected an amount in dollars, such as 25 or 0.50

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused_with(&project, &["run", "--rpm", "0"]), @r"
    error: invalid value '0' for '--rpm <N>': expected a whole number of at least 1

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused_with(&project, &["rehearse", "--seeds", "-1"]), @r"
    error: invalid value '-1' for '--seeds <N>': expected a whole number from 1 to 100

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused_with(&project, &["simulate", "--rpm", "-1"]), @r"
    error: invalid value '-1' for '--rpm <N>': expected a whole number of at least 1

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused_with(&project, &["run", "young"]), @r"
    error: unexpected argument 'young' found

    Usage: septet run [OPTIONS]

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused_with(&project, &["rnu"]), @r"
    error: unrecognized subcommand 'rnu'

      tip: a similar subcommand exists: 'runs'

    Usage: septet [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused_with(&project, &["run", "--color", "blue"]), @r"
    error: invalid value 'blue' for '--color <WHEN>'
      [possible values: auto, always, never]

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(refused_with(&project, &["completions", "basch"]), @r"
    error: invalid value 'basch' for '<SHELL>'
      [possible values: bash, elvish, fish, powershell, zsh]

      tip: a similar value exists: 'bash'

    For more information, try '--help'.
    ");
}

#[test]
fn no_command() {
    let ran = Project::empty().run::<&str>(&[]).code(2);
    assert_eq!(ran.stdout, "");
    insta::assert_snapshot!(ran.errors(), @r"
    Turns a folder of personas into a folder of transcripts with a paid LLM API: nothing is paid twice,
    nothing paid is lost

    Usage: septet [OPTIONS] <COMMAND>

    Commands:
      run          Bring every transcript up to date
      plan         Say what `run` would do, with tokens, dollars and minutes; calls nothing
      rehearse     Rehearse a run in virtual time: when it ends, what it costs, which limit holds it up;
                   calls nothing
      graph        Draw the pipeline, or one persona's nodes by their state
      why          Say why a node would be called, or what its answer rests on
      show         Show what was sent for a node, what came back, and every attempt
      runs         List earlier runs and what they cost
      check        Read everything and render every prompt; calls nothing
      cache        Look after what was paid for
      init         Make a new project that runs as it is
      simulate     Serve the built-in model as an OpenAI-compatible server on loopback
      completions  Print shell completions

    Options:
      -C <DIR>            Run as if started in DIR
          --color <WHEN>  When to use colours [default: auto] [possible values: auto, always, never]
      -h, --help          Print help (see more with '--help')
      -V, --version       Print version
    ");
}

#[cfg(target_os = "linux")]
#[test]
fn personas_that_differ_only_in_case() {
    let project = Project::small(1).file("personas/P00/profile.md", "Another.\n");
    insta::assert_snapshot!(refused(&project), @r"
    error: the personas `P00` and `p00` differ only in case
      --> personas

    hint: rename one of the folders: on macOS and Windows they would share one transcript
    ");
    assert_eq!(project.run(&["check"]).code, Some(2));
}
