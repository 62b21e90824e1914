//! Every mistake and the whole text that a person reads about it.

use super::*;

#[test]
fn toml_itself() {
    reads!(errors("[limits\nconcurrency = 1"), @r#"
    not valid TOML in `[limits`: unclosed table, expected `]`
      --> pipeline.toml:1
    "#);
    reads!(errors("[limits]\nconcurrency = 1\nconcurrency = 2\n"), @r#"
    not valid TOML in `concurrency = …`: duplicate key
      --> pipeline.toml:3
    "#);
    reads!(errors("[provider]\napi_key = sk-very-secret\n"), @r#"
    not valid TOML in `api_key = …`: string values must be quoted, expected literal string
      --> pipeline.toml:2
    "#);
    reads!(errors("[model]\nname = \"gpt\n"), @r#"
    not valid TOML in `name = …`: invalid basic string, expected `"`
      --> pipeline.toml:2
    "#);
    reads!(errors(&format!("[model.extra]\nx = {}", "[".repeat(10_000))), @r#"
    not valid TOML in `x = …`: cannot recurse further; max recursion depth met
      --> pipeline.toml:2
    "#);
    // What is closed without having been opened does not count as a way out again.
    let deep = format!("x = {{{}{}", "{}".repeat(10_000), "a={".repeat(10_000));
    reads!(errors(&format!("[model.extra]\n{deep}")), @r#"
    not valid TOML in `x = …`: missing key for inline table element, expected key
      --> pipeline.toml:2
    "#);
}

#[test]
fn unknown_keys() {
    reads!(with_node("[limit]\nconcurrency = 1"), @r#"
    unknown key `limit`
      --> pipeline.toml:1

    hint: did you mean `limits`?
    "#);
    reads!(with_node("[limits]\nconcurency = 1"), @r#"
    unknown key `limits.concurency`
      --> pipeline.toml:2

    hint: did you mean `concurrency`?
    "#);
    reads!(with_node("[pipeline]\nzzz = 1"), @r#"
    unknown key `pipeline.zzz`
      --> pipeline.toml:2

    hint: known keys are `personas`, `output`, `result`
    "#);
    reads!(with_node("[provider]\napi_key = \"sk-very-secret\""), @r#"
    unknown key `provider.api_key`
      --> pipeline.toml:2

    hint: did you mean `api_key_env`?
    "#);
    reads!(with_node("[prices.\"m 1\"]\ninput = 1\noutput = 1\ncached = 1"), @r#"
    unknown key `prices."m 1".cached`
      --> pipeline.toml:4

    hint: did you mean `cached_input`?
    "#);
    reads!(nodes("[[node]]\nid = \"a\"\npromt = \"p.md\""), @r#"
    unknown key `promt` of node `a`
      --> pipeline.toml:4

    hint: did you mean `prompt`?
    "#);
    reads!(nodes("[[node]]\nid = \"a\"\nprompt = \"p.md\"\nmodel = { temprature = 1 }"), @r#"
    unknown key `model.temprature` of node `a`
      --> pipeline.toml:5

    hint: did you mean `temperature`?
    "#);
    reads!(errors("[[nodes]]\nid = \"a\"\n"), @r#"
    unknown key `nodes`
      --> pipeline.toml:1

    hint: did you mean `node`?
    "#);
}

#[test]
fn wrong_types() {
    reads!(with_node("limits = 3"), @r#"
    `limits` must be a table, not `3`
      --> pipeline.toml:1

    hint: write `[limits]` on a line of its own and its keys below
    "#);
    reads!(with_node("[limits]\nconcurrency = \"64\""), @r#"
    `limits.concurrency` must be a whole number from 1 to 100000, not `"64"`
      --> pipeline.toml:2

    hint: write it without quotes: `concurrency = 64`
    "#);
    reads!(with_node("[pipeline]\npersonas = 3"), @r#"
    `pipeline.personas` must be a text in quotes, not `3`
      --> pipeline.toml:2

    hint: put it in quotes: `personas = "3"`
    "#);
    reads!(with_node("[[provider]]\nkind = \"openai\""), @r#"
    `provider` must be one table, not `[[provider]]`
      --> pipeline.toml:1

    hint: write `[provider]` once, in single brackets
    "#);
    reads!(errors("model.name = \"m\"\n[node]\nid = \"a\"\nprompt = \"p.md\"\n"), @r#"
    `node` must be a list of tables, each under `[[node]]`, not `[node]`
      --> pipeline.toml:2

    hint: write `[[node]]` instead of `[node]`
    "#);
    reads!(errors("model.name = \"m\"\nnode = [1]\n"), @r#"
    `node` must be a list of tables, each under `[[node]]`, not `1`
      --> pipeline.toml:2
    "#);
    reads!(nodes("[[node]]\nid = 1\nprompt = \"p.md\""), @r#"
    `node.id` must be a text in quotes, not `1`
      --> pipeline.toml:3

    hint: put it in quotes: `id = "1"`
    "#);
    reads!(nodes("[[node]]\nid = \"a\"\nprompt = \"p.md\"\nneeds = \"b\""), @r#"
    `needs` of node `a` must be a list of texts, not `"b"`
      --> pipeline.toml:5

    hint: put it in brackets: `needs = ["b"]`
    "#);
    reads!(nodes("[[node]]\nid = \"a\"\nprompt = \"p.md\"\nneeds = [1]"), @r#"
    `needs` of node `a` must be a list of texts in quotes, not `1`
      --> pipeline.toml:5
    "#);
    reads!(nodes("[[node]]\nid = \"a\"\nprompt = \"p.md\"\nvars = \"x\""), @r#"
    `vars` of node `a` must be a table, not `"x"`
      --> pipeline.toml:5

    hint: write it like `vars = { name = "value" }`
    "#);
    reads!(nodes("[[node]]\nid = \"a\"\nprompt = \"p.md\"\nvars = { x = nan }"), @r#"
    `vars.x` of node `a` must be a number that JSON has: finite, and 64 bits if whole, not `nan`
      --> pipeline.toml:5
    "#);
    reads!(nodes("[[node]]\nid = \"a\"\nprompt = \"p.md\"\nvariant = 2"), @r#"
    `variant` of node `a` must be a text in quotes, not `2`
      --> pipeline.toml:5

    hint: put it in quotes: `variant = "2"`
    "#);
    reads!(with_node("[provider]\nkind = \"openai\"\napi_key_env = [\"sk-very-secret\"]"), @r#"
    `provider.api_key_env` must be a text in quotes
      --> pipeline.toml:3
    "#);
}

#[test]
fn durations() {
    reads!(with_node("[provider]\ntimeout = 10"), @r#"
    `provider.timeout` must be a duration like `"500ms"`, `"10s"`, `"10m"` or `"1h 30m"`, not `10`
      --> pipeline.toml:2

    hint: write it with its unit: `timeout = "10s"`
    "#);
    reads!(with_node("[provider]\ntimeout = \"10 parsecs\""), @r#"
    `provider.timeout` must be a duration like `"500ms"`, `"10s"`, `"10m"` or `"1h 30m"`, not `"10 parsecs"`
      --> pipeline.toml:2

    hint: units are `ms`, `s`, `m` and `h`
    "#);
    reads!(with_node("[provider]\ntimeout = \"0s\""), @r#"
    `provider.timeout` must be longer than 0, not `"0s"`
      --> pipeline.toml:2
    "#);
    reads!(with_node("[provider]\nidle_timeout = \"-5s\""), @r#"
    `provider.idle_timeout` must be a duration like `"500ms"`, `"10s"`, `"10m"` or `"1h 30m"`, not `"-5s"`
      --> pipeline.toml:2

    hint: units are `ms`, `s`, `m` and `h`
    "#);
    reads!(with_node("[retry]\nmax = \"25h\""), @r#"
    `retry.max` must be at most 24 hours, not `"25h"`
      --> pipeline.toml:2
    "#);
    reads!(with_node("[retry]\nmax = \"500ms\""), @r#"
    `retry.max` (500ms) is shorter than `retry.base` (1s)
      --> pipeline.toml:2

    hint: the pause grows from `base` to `max`
    "#);
    reads!(with_node("[retry]\nbase = \"2m\""), @r#"
    `retry.max` (60s) is shorter than `retry.base` (120s)
      --> pipeline.toml:2

    hint: the pause grows from `base` to `max`
    "#);
    reads!(with_node("[simulator]\nlatency = \"quick\""), @r#"
    `simulator.latency` must be a duration like `"500ms"`, `"10s"`, `"10m"` or `"1h 30m"`, not `"quick"`
      --> pipeline.toml:2

    hint: units are `ms`, `s`, `m` and `h`
    "#);
}

#[test]
fn numbers() {
    reads!(with_node("[limits]\nconcurrency = 0"), @r#"
    `limits.concurrency` must be a whole number from 1 to 100000, not `0`
      --> pipeline.toml:2
    "#);
    reads!(with_node("[limits]\nconcurrency = -1"), @r#"
    `limits.concurrency` must be a whole number from 1 to 100000, not `-1`
      --> pipeline.toml:2
    "#);
    reads!(with_node("[limits]\nconcurrency = 1.5"), @r#"
    `limits.concurrency` must be a whole number from 1 to 100000, not `1.5`
      --> pipeline.toml:2
    "#);
    reads!(with_node("[limits]\nrequests_per_minute = 0"), @r#"
    `limits.requests_per_minute` must be a whole number from 1 to 4294967295, not `0`
      --> pipeline.toml:2
    "#);
    reads!(with_node("[limits]\ntokens_per_minute = 99999999999"), @r#"
    `limits.tokens_per_minute` must be a whole number from 1 to 4294967295, not `99999999999`
      --> pipeline.toml:2
    "#);
    reads!(with_node("[retry]\nattempts = 0"), @r#"
    `retry.attempts` must be a whole number from 1 to 1000, not `0`
      --> pipeline.toml:2
    "#);
    reads!(with_node("[retry]\nrejected = -1"), @r#"
    `retry.rejected` must be a whole number from 0 to 1000, not `-1`
      --> pipeline.toml:2
    "#);
    reads!(with_node("[simulator]\njitter = 1.1"), @r#"
    `simulator.jitter` must be a number from 0 to 1, not `1.1`
      --> pipeline.toml:2
    "#);
    reads!(with_node("[simulator]\nreply_tokens = 0"), @r#"
    `simulator.reply_tokens` must be a whole number from 1 to 1000000, not `0`
      --> pipeline.toml:2
    "#);
    reads!(with_node("[simulator.faults]\ntimeout = 2"), @r#"
    `simulator.faults.timeout` must be a number from 0 to 1, not `2`
      --> pipeline.toml:2
    "#);
    reads!(with_node("[simulator.faults]\ntimeout = 0.6\nempty = 0.5"), @r#"
    the shares in `simulator.faults` add up to 1.1, more than 1
      --> pipeline.toml:1
    "#);
    reads!(with_node("[prices.m]\ninput = -1\noutput = 1"), @r#"
    `prices.m.input` must be a number from 0 to 1000000, not `-1`
      --> pipeline.toml:2
    "#);
    reads!(with_node("[prices.m]\ninput = 1"), @r#"
    `prices.m.output` is missing
      --> pipeline.toml:1

    hint: a price has at least `input` and `output`, in USD per million tokens
    "#);
    reads!(with_node("[prices.m]\ninput = 1\noutput = inf"), @r#"
    `prices.m.output` must be a number from 0 to 1000000, not `inf`
      --> pipeline.toml:3
    "#);
    reads!(with_node("[prices]\nm = 1"), @r#"
    `prices.m` must be a table, not `1`
      --> pipeline.toml:2

    hint: write `[prices.m]` on a line of its own and its keys below
    "#);
    reads!(nodes("model.temperature = 2.1\nmodel.max_output_tokens = 0\n[[node]]\nid = \"a\"\nprompt = \"p\""), @r#"
    `model.temperature` must be a number from 0 to 2, not `2.1`
      --> pipeline.toml:2

    `model.max_output_tokens` must be a whole number from 1 to 4294967295, not `0`
      --> pipeline.toml:3
    "#);
    reads!(nodes("model.temperature = \"0.8\"\n[[node]]\nid = \"a\"\nprompt = \"p\""), @r#"
    `model.temperature` must be a number from 0 to 2, not `"0.8"`
      --> pipeline.toml:2

    hint: write it without quotes: `temperature = 0.8`
    "#);
}

#[test]
fn names_of_nodes() {
    reads!(errors(""), @r#"
    the pipeline has no node
      --> pipeline.toml:1

    hint: add one: `[[node]]` with `id` and `prompt`
    "#);
    reads!(nodes("[[node]]\nprompt = \"p.md\""), @r#"
    a node has no `id`
      --> pipeline.toml:2

    hint: give it one: `id = "chunk-1"`
    "#);
    reads!(nodes("[[node]]\nid = \"\"\nprompt = \"p.md\""), @r#"
    the `id` of a node is empty
      --> pipeline.toml:3

    hint: an id is part of `PERSONA/NODE`: use letters, digits, `-`, `_` and `.`
    "#);
    reads!(nodes("[[node]]\nid = \"a/b\"\nprompt = \"p.md\""), @r#"
    `a/b` cannot be the `id` of a node: it has a slash
      --> pipeline.toml:3

    hint: an id is part of `PERSONA/NODE`: use letters, digits, `-`, `_` and `.`
    "#);
    reads!(nodes("[[node]]\nid = \"..\"\nprompt = \"p.md\""), @r#"
    `..` cannot be the `id` of a node: it means a folder
      --> pipeline.toml:3

    hint: an id is part of `PERSONA/NODE`: use letters, digits, `-`, `_` and `.`
    "#);
    reads!(nodes("[[node]]\nid = \"a\\u001b[31m\"\nprompt = \"p.md\""), @r#"
    `a␛[31m` cannot be the `id` of a node: it has a control character
      --> pipeline.toml:3

    hint: an id is part of `PERSONA/NODE`: use letters, digits, `-`, `_` and `.`
    "#);
    reads!(nodes("[[node]]\nid = \"a*\"\nprompt = \"p.md\""), @r#"
    `a*` cannot be the `id` of a node: it has a wildcard
      --> pipeline.toml:3

    hint: an id is part of `PERSONA/NODE`: use letters, digits, `-`, `_` and `.`
    "#);
    reads!(nodes("[[node]]\nid = \" a\"\nprompt = \"p.md\""), @r#"
    ` a` cannot be the `id` of a node: it begins or ends with a space
      --> pipeline.toml:3

    hint: an id is part of `PERSONA/NODE`: use letters, digits, `-`, `_` and `.`
    "#);
    reads!(
        nodes("[[node]]\nid = \"a\"\nprompt = \"p.md\"\n[[node]]\nid = \"a\"\nprompt = \"q.md\"\n[pipeline]\nresult = \"a\""),
        @r#"
    two nodes have the id `a`: the other is in line 3
      --> pipeline.toml:6

    hint: give each node an id of its own
    "#
    );
}

/// Nodes with these needs: `a: b c` is a node `a` that needs `b` and `c`.
fn graph(lines: &[&str]) -> String {
    let node = |line: &&str| {
        let (id, needs) = line.split_once(':').unwrap();
        let needs: Vec<&str> = needs.split_whitespace().collect();
        format!("[[node]]\nid = {id:?}\nneeds = {needs:?}\nprompt = \"p.md\"\n")
    };
    lines.iter().map(node).collect()
}

#[test]
fn needs() {
    reads!(nodes(&graph(&["chunk-1:", "chunk-7:", "combine: chunk-8 chunk-1"])), @r#"
    node `combine` needs `chunk-8`, which does not exist
      --> pipeline.toml:12

    hint: did you mean `chunk-7`?
    "#);
    reads!(nodes(&graph(&["a:", "combine: chunk-*"])), @r#"
    node `combine` needs `chunk-*`, which matches no other node
      --> pipeline.toml:8

    hint: the other nodes are `a`
    "#);
    reads!(nodes(&graph(&["chunk-all: chunk-*"])), @r#"
    node `chunk-all` needs `chunk-*`, which matches no other node
      --> pipeline.toml:4
    "#);
    reads!(nodes(&graph(&["a:", "b: [z"])), @r#"
    node `b` needs `[z`, which is no pattern: unclosed character class; missing ']'
      --> pipeline.toml:8

    hint: `*` stands for any text, `?` for one character
    "#);
    reads!(nodes(&graph(&["a: b", "b: a"])), @r#"
    nodes need each other in a circle: `a -> b -> a`
      --> pipeline.toml:4

    hint: `a -> b` says that `a` needs `b`: take one of them out of a `needs`
    "#);
    reads!(nodes(&graph(&["a: a"])), @r#"
    nodes need each other in a circle: `a -> a`
      --> pipeline.toml:4

    hint: `a -> b` says that `a` needs `b`: take one of them out of a `needs`
    "#);
    reads!(nodes(&graph(&["x:", "a: x b", "b: c", "c: x a"])), @r#"
    nodes need each other in a circle: `a -> b -> c -> a`
      --> pipeline.toml:8

    hint: `a -> b` says that `a` needs `b`: take one of them out of a `needs`
    "#);
    reads!(nodes(&graph(&["a: *", "b: a"])), @r#"
    nodes need each other in a circle: `a -> b -> a`
      --> pipeline.toml:4

    hint: `a -> b` says that `a` needs `b`: take one of them out of a `needs`
    "#);
}

#[test]
fn the_result() {
    reads!(nodes(&graph(&["a:", "b:", "c: a"])), @r#"
    the transcript could come from 2 nodes that no other needs: `b`, `c`
      --> pipeline.toml:10

    hint: say which: `result = "c"` in `[pipeline]`
    "#);
    reads!(
        nodes(&format!("pipeline.result = \"combin\"\n{}", graph(&["a:", "combine: a"]))),
        @r#"
    `pipeline.result` names the node `combin`, which does not exist
      --> pipeline.toml:2

    hint: did you mean `combine`?
    "#
    );
}

#[test]
fn templates() {
    reads!(nodes("[[node]]\nid = \"a\""), @r#"
    node `a` has no `prompt`
      --> pipeline.toml:2

    hint: name its template: `prompt = "prompts/chunk.md"`
    "#);
    reads!(nodes("[[node]]\nid = \"a\"\nprompt = \"\""), @r#"
    `prompt` of node `a` is empty
      --> pipeline.toml:4
    "#);
    reads!(nodes("[[node]]\nid = \"a\"\nprompt = \"p\\u0000\""), @r#"
    `prompt` of node `a` has a control character: `p␀`
      --> pipeline.toml:4
    "#);
    reads!(nodes("[prompts]\nsystem = \" \"\n[[node]]\nid = \"a\"\nprompt = \"p\""), @r#"
    `prompts.system` is empty
      --> pipeline.toml:3
    "#);
}

#[test]
fn models() {
    reads!(
        errors("[provider]\nkind = \"openai\"\n[[node]]\nid = \"a\"\nprompt = \"p.md\"\n"),
        @r#"
    node `a` has no model
      --> pipeline.toml:3

    hint: name one for all nodes: `name = "…"` in `[model]`
    "#
    );
    reads!(nodes("[model.extra]\nmodel = \"x\"\nmax_tokens = 5\nn = 2\ntemperature = 1\n[[node]]\nid = \"a\"\nprompt = \"p\""), @r#"
    `model.extra.model` is set by septet itself
      --> pipeline.toml:3

    hint: leave it out

    `model.extra.max_tokens` is set by septet itself
      --> pipeline.toml:4

    hint: write `max_output_tokens` in `[model]`

    `model.extra.n` is set by septet itself
      --> pipeline.toml:5

    hint: leave it out

    `model.extra.temperature` is set by septet itself
      --> pipeline.toml:6

    hint: write `temperature` in `[model]`
    "#);
    reads!(nodes("[[node]]\nid = \"a\"\nprompt = \"p\"\nmodel = { extra = { stream = true } }"), @r#"
    `model.extra.stream` of node `a` is set by septet itself
      --> pipeline.toml:5

    hint: leave it out
    "#);
    reads!(nodes("[[node]]\nid = \"a\"\nprompt = \"p\"\nmodel = { name = \"\" }"), @r#"
    `model.name` of node `a` is empty
      --> pipeline.toml:5
    "#);
}

#[test]
fn output() {
    let output = |path: &str| with_node(&format!("[pipeline]\noutput = {path:?}"));
    reads!(output("out.md"), @r#"
    `pipeline.output` has no `{persona}`, so all transcripts would be one file: `out.md`
      --> pipeline.toml:2

    hint: write it like `transcripts/{persona}.md`
    "#);
    reads!(output("../{persona}.md"), @r#"
    `pipeline.output` leaves the project with `..`: `../{persona}.md`
      --> pipeline.toml:2

    hint: write it like `transcripts/{persona}.md`
    "#);
    reads!(output("out/../../{persona}.md"), @r#"
    `pipeline.output` leaves the project with `..`: `out/../../{persona}.md`
      --> pipeline.toml:2

    hint: write it like `transcripts/{persona}.md`
    "#);
    reads!(output("/srv/{persona}.md"), @r#"
    `pipeline.output` is absolute, and transcripts stay in the project: `/srv/{persona}.md`
      --> pipeline.toml:2

    hint: write it like `transcripts/{persona}.md`
    "#);
    reads!(output("C:/out/{persona}.md"), @r#"
    `pipeline.output` is absolute, and transcripts stay in the project: `C:/out/{persona}.md`
      --> pipeline.toml:2

    hint: write it like `transcripts/{persona}.md`
    "#);
    reads!(output("out\\{persona}.md"), @r#"
    `pipeline.output` has a backslash, and `/` parts folders on every system: `out\{persona}.md`
      --> pipeline.toml:2

    hint: write it like `transcripts/{persona}.md`
    "#);
    reads!(output("{persona}/{node}.md"), @r#"
    `pipeline.output` has `{node}`, but `{persona}` is all that is filled in: `{persona}/{node}.md`
      --> pipeline.toml:2

    hint: write it like `transcripts/{persona}.md`
    "#);
    reads!(output("{persona}/{"), @r#"
    `pipeline.output` has `{`, but `{persona}` is all that is filled in: `{persona}/{`
      --> pipeline.toml:2

    hint: write it like `transcripts/{persona}.md`
    "#);
    reads!(output("out/{persona}/"), @r#"
    `pipeline.output` names a folder, not a file: `out/{persona}/`
      --> pipeline.toml:2

    hint: write it like `transcripts/{persona}.md`
    "#);
    reads!(output("personas/{persona}/transcript.md"), @r#"
    `pipeline.output` is among the personas, so a transcript would become an input: `personas/{persona}/transcript.md`
      --> pipeline.toml:2

    hint: write it like `transcripts/{persona}.md`
    "#);
    reads!(output("./Cache/{persona}"), @r#"
    `pipeline.output` is in `cache`, which holds the store: `./Cache/{persona}`
      --> pipeline.toml:2

    hint: write it like `transcripts/{persona}.md`
    "#);
    reads!(output("{persona}.md"), @r#"
    `pipeline.output` could replace `p.md`: `{persona}.md`
      --> pipeline.toml:2

    hint: write it like `transcripts/{persona}.md`
    "#);
    reads!(output("{persona}.toml"), @r#"
    `pipeline.output` could replace `pipeline.toml`: `{persona}.toml`
      --> pipeline.toml:2

    hint: write it like `transcripts/{persona}.md`
    "#);
    reads!(output(""), @r#"
    `pipeline.output` is empty
      --> pipeline.toml:2
    "#);
}

#[test]
fn providers() {
    let openai = |text: &str| with_node(&format!("[provider]\nkind = \"openai\"\n{text}"));
    reads!(with_node("[provider]\nkind = \"openi\""), @r#"
    `provider.kind` is `openi`, which does not exist
      --> pipeline.toml:2

    hint: did you mean `openai`?
    "#);
    reads!(with_node("[provider]\nkind = \"anthropic\""), @r#"
    `provider.kind` is `anthropic`, which does not exist
      --> pipeline.toml:2

    hint: the kinds are `simulator`, `openai`
    "#);
    reads!(with_node("[provider]\nbase_url = \"http://localhost:8000/v1\""), @r#"
    `provider.base_url` says nothing to the simulator, which is the kind of this provider
      --> pipeline.toml:2

    hint: set `kind = "openai"`, or comment this line out
    "#);
    reads!(openai("base_url = \"api.openai.com/v1\""), @r#"
    `provider.base_url` is not a URL: relative URL without a base
      --> pipeline.toml:3

    hint: write it like `https://api.openai.com/v1`
    "#);
    reads!(openai("base_url = \"ftp://host/v1\""), @r#"
    `provider.base_url` begins with neither `https://` nor `http://`
      --> pipeline.toml:3

    hint: write it like `https://api.openai.com/v1`
    "#);
    reads!(openai("base_url = \"https://me:very-secret@host/v1\""), @r#"
    `provider.base_url` holds a user name or password
      --> pipeline.toml:3

    hint: put the key into an environment variable and its name into `api_key_env`
    "#);
    reads!(openai("base_url = \"https://host/v1?key=very-secret\""), @r#"
    `provider.base_url` has a query (`?`) or a fragment (`#`)
      --> pipeline.toml:3

    hint: end it with the path, as in `https://api.openai.com/v1`
    "#);
    reads!(openai("base_url = \"https://host:99999/very-secret\""), @r#"
    `provider.base_url` is not a URL: invalid port number
      --> pipeline.toml:3

    hint: write it like `https://api.openai.com/v1`
    "#);
    reads!(openai("base_url = \"https://host/v1/chat/completions\""), @r#"
    `provider.base_url` ends with `/chat/completions`, which septet adds
      --> pipeline.toml:3

    hint: write it like `https://api.openai.com/v1`
    "#);
    reads!(openai("api_key_env = \"sk-very-secret\""), @r#"
    `provider.api_key_env` is not the name of an environment variable
      --> pipeline.toml:3

    hint: the key itself never stands in this file: write `api_key_env = "OPENAI_API_KEY"` and set that variable
    "#);
    reads!(openai("output_cap_field = \"max_token\""), @r#"
    `provider.output_cap_field` is `max_token`, which no server takes
      --> pipeline.toml:3

    hint: did you mean `max_tokens`?
    "#);
    reads!(openai("name = \"\""), @r#"
    `provider.name` is empty
      --> pipeline.toml:3
    "#);
    reads!(openai("name = \"a\\u0007b\""), @r#"
    `provider.name` has a control character
      --> pipeline.toml:3
    "#);
}

#[test]
fn prompt_caches() {
    reads!(with_node("[provider]\nprompt_cache = \"explicitly\""), @r#"
    `provider.prompt_cache` is `explicitly`, which does not exist
      --> pipeline.toml:2

    hint: did you mean `explicit`?
    "#);
    reads!(with_node("[provider]\nprompt_cache = true"), @r#"
    `provider.prompt_cache` must be a text in quotes, not `true`
      --> pipeline.toml:2

    hint: put it in quotes: `prompt_cache = "true"`
    "#);
    reads!(with_node("[schedule]\nprefix = \"lazy\"\nprefixes = 1"), @r#"
    `schedule.prefix` is `lazy`, which does not exist
      --> pipeline.toml:2

    hint: it is one of `share`, `eager`

    unknown key `schedule.prefixes`
      --> pipeline.toml:3

    hint: did you mean `prefix`?
    "#);
}

/// What stands in a key or a URL by mistake is never repeated: errors end up in logs.
#[test]
fn no_secret_is_shown() {
    for text in [
        "[provider]\napi_key = \"sk-very-secret\"",
        "[provider]\napi_key = sk-very-secret",
        "[provider]\nkind = \"openai\"\napi_key_env = \"sk-very-secret\"",
        "[provider]\nkind = \"openai\"\napi_key_env = [\"sk-very-secret\"]",
        "[provider]\nkind = \"openai\"\nbase_url = \"https://me:very-secret@host/v1\"",
        "[provider]\nkind = \"openai\"\nbase_url = \"https://host/?very-secret\"",
        "[provider]\nkind = \"openai\"\nbase_url = \"very-secret@host:99999\"",
        "[provider]\nkind = \"openai\"\nbase_url = { a = \"very-secret\" }",
    ] {
        let shown = with_node(text);
        assert!(!shown.contains("secret"), "{shown}");
        assert!(shown.contains("--> pipeline.toml:"), "{shown}");
    }
}

/// One run of `check` tells everything.
#[test]
fn all_at_once_and_in_order() {
    reads!(
        errors("[limits]\nconcurrency = 0\n[retry]\nbase = 1\n[[node]]\nid = \"a\"\nneeds = [\"b\"]\n[oops]\n"),
        @r#"
    `limits.concurrency` must be a whole number from 1 to 100000, not `0`
      --> pipeline.toml:2

    `retry.base` must be a duration like `"500ms"`, `"10s"`, `"10m"` or `"1h 30m"`, not `1`
      --> pipeline.toml:4

    hint: write it with its unit: `base = "1s"`

    node `a` has no `prompt`
      --> pipeline.toml:5

    hint: name its template: `prompt = "prompts/chunk.md"`

    node `a` needs `b`, which does not exist
      --> pipeline.toml:7

    unknown key `oops`
      --> pipeline.toml:8

    hint: known keys are `pipeline`, `provider`, `simulator`, `model`, `limits`, `retry`, `schedule`, `prices`, `prompts`, `node`
    "#
    );
}

#[test]
fn hours_and_budgets() {
    reads!(with_node("[limits]\nhours = \"23-7\""), @r"
    `limits.hours` must be hours like `23:00-07:00`, not `23-7`
      --> pipeline.toml:2

    hint: write the times of a 24-hour clock, or a list of such hours
    ");
    reads!(with_node("[limits]\nhours = [\"20:00-24:00\", \"07:00-07:00\"]"), @r"
    `limits.hours` must be hours that begin and end at different times (leave them out for all day), not `07:00-07:00`
      --> pipeline.toml:2

    hint: write the times of a 24-hour clock, or a list of such hours
    ");
    reads!(with_node("[limits]\nhours = 7"), @r#"
    `limits.hours` must be a text in quotes, not `7`
      --> pipeline.toml:2

    hint: put it in quotes: `hours = "7"`
    "#);
    reads!(with_node("[limits]\nbudget_usd = -1"), @r"
    `limits.budget_usd` must be a number from 0 to 1000000, not `-1`
      --> pipeline.toml:2
    ");
    reads!(with_node("[limits]\nbudget_usd_mounth = \"25\""), @r"
    unknown key `limits.budget_usd_mounth`
      --> pipeline.toml:2

    hint: did you mean `budget_usd_month`?
    ");
}

#[test]
fn prices_by_the_hour_that_say_too_little_or_two_things() {
    reads!(with_node("[prices.m]\ninput = 1\noutput = 1\nwhen = [{ hours = \"01:00-04:00\" }]"), @r#"
    `prices.m.when.input` is missing
      --> pipeline.toml:4

    hint: say what differs at these hours: one of `input`, `cached_input`, `cache_write` and `output`
    "#);
    reads!(with_node("[prices.m]\ninput = 1\noutput = 1\nwhen = [{ input = 2 }]"), @r#"
    `prices.m.when.hours` is missing
      --> pipeline.toml:4

    hint: say when these prices hold: `hours = "01:00-04:00"`, `days = "sat-sun"`, or both
    "#);
    reads!(with_node("[prices.m]\ninput = 1\noutput = 1\nwhen = [{ hour = \"01:00-04:00\", outptu = 2 }]"), @r#"
    unknown key `prices.m.when.hour`
      --> pipeline.toml:4

    hint: did you mean `hours`?

    unknown key `prices.m.when.outptu`
      --> pipeline.toml:4

    hint: did you mean `output`?
    "#);
    reads!(with_node("[prices.m]\ninput = 1\noutput = 1\nwhen = [{ hours = \"1-4\", days = \"mo-fr\", input = -1 }]"), @r#"
    `prices.m.when.hours` must be hours like `23:00-07:00`, not `1-4`
      --> pipeline.toml:4

    hint: write the times of a 24-hour clock, or a list of such hours

    `prices.m.when.days` must be days like `mon-fri` or `sat`, by their first three letters, not `mo-fr`
      --> pipeline.toml:4

    `prices.m.when.input` must be a number from 0 to 1000000, not `-1`
      --> pipeline.toml:4
    "#);
    reads!(with_node("[prices.m]\ninput = 1\noutput = 1\nwhen = [{ hours = [], days = \"mon\", input = 2 }]"), @r#"
    `prices.m.when.hours` is empty
      --> pipeline.toml:4
    "#);
    reads!(with_node("[prices.m]\ninput = 1\noutput = 1\nwhen = { hours = \"01:00-04:00\", input = 2 }"), @r#"
    `prices.m.when` must be a list of tables, each under `[[prices.m.when]]`, not `{ hours = "01:00-04:00", input = 2 }`
      --> pipeline.toml:4

    hint: write `[[prices.m.when]]` instead of `[prices.m.when]`
    "#);
    reads!(with_node("[prices.m]\ninput = 1\noutput = 1\nzone = \"UTC\""), @r#"
    `prices.m.zone` is the time zone of `when`, and there is none
      --> pipeline.toml:4

    hint: leave it out, or add hours and their prices under `when`
    "#);
    reads!(with_node("[prices.m]\ninput = 1\noutput = 1\nzone = \"Asia/Shanghia\"\nwhen = [{ days = \"sun\", input = 2 }]"), @r#"
    `prices.m.zone` is `Asia/Shanghia`, which is no time zone that is known
      --> pipeline.toml:4

    hint: did you mean `Asia/Shanghai`?
    "#);
    reads!(with_node("[prices.m]\ninput = 1\noutput = 1\nzone = \"CET+1\"\nwhen = [{ days = \"sun\", input = 2 }]"), @r#"
    `prices.m.zone` is `CET+1`, which is no time zone that is known
      --> pipeline.toml:4

    hint: write `UTC`, or a name like `Asia/Shanghai` or `America/New_York`
    "#);
    reads!(with_node("[prices.m]\ninput = 1\noutput = 1\n[[prices.m.when]]\nhours = [\"23:00-02:00\", \"06:00-10:00\"]\ndays = \"sun-thu\"\ninput = 2\n[[prices.m.when]]\nhours = \"01:00-04:00\"\ndays = \"mon\"\ninput = 3"), @r#"
    `prices.m` has two prices at the same time, mon 01:00: those of `sun-thu 23:00-02:00, 06:00-10:00` (line 4) and of `mon 01:00-04:00`
      --> pipeline.toml:8

    hint: a window ends just before its second time: `01:00-04:00` and `04:00-06:00` do not overlap
    "#);
    reads!(with_node("[prices.m]\ninput = 1\noutput = 1\n[[prices.m.hours]]\nhours = \"01:00-04:00\"\ninput = 2"), @r#"
    unknown key `prices.m.hours`
      --> pipeline.toml:4

    hint: known keys are `input`, `cached_input`, `cache_write`, `output`, `when`, `zone`
    "#);
}

#[test]
fn another_way_to_ask_than_there_is() {
    reads!(with_node("[provider]\nkind = \"openai\"\nbackground = true"), @r#"
    `provider.background` needs the Responses API
      --> pipeline.toml:3

    hint: set `api = "responses"`
    "#);
    reads!(with_node("[provider]\nkind = \"openai\"\napi = \"response\""), @r"
    `provider.api` is `response`, which does not exist
      --> pipeline.toml:3

    hint: did you mean `responses`?
    ");
    reads!(with_node("[provider]\nkind = \"openai\"\napi = \"responses\"\nbackground = 1"), @r"
    `provider.background` must be `true` or `false`, not `1`
      --> pipeline.toml:4
    ");
    reads!(with_node("[provider]\napi = \"responses\"\nbackground = true"), @r#"
    `provider.api` says nothing to the simulator, which is the kind of this provider
      --> pipeline.toml:2

    hint: set `kind = "openai"`, or comment this line out

    `provider.background` says nothing to the simulator, which is the kind of this provider
      --> pipeline.toml:3

    hint: set `kind = "openai"`, or comment this line out
    "#);
}
