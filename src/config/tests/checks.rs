//! What a node asks of its answer.

use super::*;

fn checks(keys: &str) -> Node {
    let text = format!("[[node]]\nid = \"a\"\nprompt = \"p.md\"\n{keys}\n");
    right(&format!("model.name = \"m\"\n{text}")).nodes.remove(0)
}

fn wrong(keys: &str) -> String {
    nodes(&format!("[[node]]\nid = \"a\"\nprompt = \"p.md\"\n{keys}\n"))
}

#[test]
fn a_node_asks_nothing_by_itself() {
    assert_eq!(*checks("").checks, Checks::default());
}

#[test]
fn what_is_asked_is_compiled() {
    let node = checks(
        "min_chars = 200\nmax_chars = 200\nmust_match = '^# \\w+'\nmust_not_match = [\"(?i)as an ai\", \"TODO\"]\n\
         json_schema = { type = \"object\", required = [\"a\"] }",
    );
    let checks = &node.checks;
    assert_eq!((checks.min_chars, checks.max_chars), (Some(200), Some(200)));
    let texts = |patterns: &[regex::Regex]| patterns.iter().map(|p| p.to_string()).collect::<Vec<_>>();
    assert_eq!(texts(&checks.must_match), ["^# \\w+"]);
    assert_eq!(texts(&checks.must_not_match), ["(?i)as an ai", "TODO"]);
    let schema = Schema::compile(json!({"type": "object", "required": ["a"]})).unwrap();
    assert_eq!(checks.json_schema, Some(schema));
    assert_eq!(node.schema_file, None);
}

#[test]
fn a_schema_may_be_a_table_below_its_node_or_the_path_of_a_file() {
    let node = checks("[node.json_schema]\ntype = \"array\"\n[node.json_schema.items]\ntype = \"string\"");
    let schema = Schema::compile(json!({"type": "array", "items": {"type": "string"}})).unwrap();
    assert_eq!(node.checks.json_schema, Some(schema));
    let node = checks("json_schema = \"schemas/a.json\"");
    let (path, line) = ("schemas/a.json".to_owned(), 5);
    assert_eq!(node.schema_file, Some(SchemaFile { path, line }));
    assert_eq!(*node.checks, Checks::default());
}

#[test]
fn lengths_are_whole_numbers_that_an_answer_can_have() {
    reads!(wrong("min_chars = 0"), @r#"
    `min_chars` of node `a` must be a whole number from 1 to 100000000, not `0`
      --> pipeline.toml:5
    "#);
    reads!(wrong("max_chars = \"200\""), @r#"
    `max_chars` of node `a` must be a whole number from 1 to 100000000, not `"200"`
      --> pipeline.toml:5

    hint: write it without quotes: `max_chars = 200`
    "#);
    reads!(wrong("min_chars = 300\nmax_chars = 200"), @r#"
    `min_chars` of node `a` is 300, more than `max_chars` = 200: no answer has so many characters
      --> pipeline.toml:5
    "#);
}

#[test]
fn patterns_are_regular_expressions() {
    reads!(wrong("must_match = \"(\""), @r#"
    `must_match` of node `a` = `(` is not a regular expression: unclosed group
      --> pipeline.toml:5

    hint: in single quotes backslashes are as they are: `'^\d+'`; look-around and back-references do not exist
    "#);
    reads!(wrong("must_match = ['a', '(?<!b)a']"), @r#"
    `must_match` of node `a` = `(?<!b)a` is not a regular expression: look-around, including look-ahead and look-behind, is not supported
      --> pipeline.toml:5

    hint: in single quotes backslashes are as they are: `'^\d+'`; look-around and back-references do not exist
    "#);
    reads!(wrong("must_not_match = \"\""), @r#"
    `must_not_match` of node `a` is empty, which matches everything
      --> pipeline.toml:5
    "#);
    reads!(wrong("must_not_match = 3"), @r#"
    `must_not_match` of node `a` must be a text in quotes, not `3`
      --> pipeline.toml:5

    hint: put it in quotes: `must_not_match = "3"`
    "#);
    reads!(wrong("must_match = \"x{1000}{1000}\""), @r#"
    `must_match` of node `a` = `x{1000}{1000}` is not a regular expression: compiled it is larger than 10 MB
      --> pipeline.toml:5

    hint: in single quotes backslashes are as they are: `'^\d+'`; look-around and back-references do not exist
    "#);
    reads!(wrong("must_match = \"a\"\nmust_not_match = [\"b\", \"a\"]"), @r#"
    `must_match` of node `a` and `must_not_match` are both `a`: no answer fits
      --> pipeline.toml:5
    "#);
}

#[test]
fn a_schema_is_one() {
    reads!(wrong("json_schema = { type = \"objekt\" }"), @r#"
    `json_schema` of node `a` cannot be used: it is no JSON Schema at `/type`: value must be one of 'array', 'boolean', 'integer', 'null', 'number', 'object', 'string', or want array, but got string
      --> pipeline.toml:5
    "#);
    reads!(wrong("json_schema = { \"$ref\" = \"https://example.org/s.json\" }"), @r#"
    `json_schema` of node `a` cannot be used: it refers to `https://example.org/s.json`, and nothing is loaded: put that under `$defs`
      --> pipeline.toml:5
    "#);
    reads!(wrong("json_schema = 3"), @r#"
    `json_schema` of node `a` must be a table, not `3`
      --> pipeline.toml:5

    hint: write it like `json_schema = { name = "value" }`
    "#);
    reads!(wrong("json_schema = \"\""), @r#"
    `json_schema` of node `a` is empty
      --> pipeline.toml:5
    "#);
    reads!(wrong("json_shema = \"s.json\""), @r#"
    unknown key `json_shema` of node `a`
      --> pipeline.toml:5

    hint: did you mean `json_schema`?
    "#);
}
