use serde_json::json;

use super::*;
use crate::call::Finish;

fn answer(text: &str, finish: Finish) -> Answer {
    Answer {
        text: text.to_owned(),
        finish,
        ..Answer::default()
    }
}

/// What is said of a text, or nothing.
fn said(checks: &Checks, text: &str) -> String {
    match checks.judge(&answer(text, Finish::Stop)) {
        Ok(()) => String::new(),
        Err(misfit) => format!("{}: {misfit}", misfit.rejection.as_str()),
    }
}

fn patterns(patterns: &[&str]) -> Vec<Regex> {
    patterns.iter().map(|text| Regex::new(text).unwrap()).collect()
}

fn schema(schema: serde_json::Value) -> Checks {
    Checks {
        json_schema: Some(Schema::compile(schema).unwrap()),
        ..Checks::default()
    }
}

#[test]
fn characters_are_counted_without_the_white_space_around_them() {
    let checks = Checks {
        min_chars: Some(3),
        max_chars: Some(5),
        ..Checks::default()
    };
    for (text, expected) in [
        ("abc", ""),
        ("abcde", ""),
        ("  abcde\n\n\n", ""),
        ("äöü", ""),
        (
            "ab\n\n\n\n",
            "min_chars: the answer has 2 characters, `min_chars` is 3",
        ),
        ("x", "min_chars: the answer has 1 character, `min_chars` is 3"),
        (
            "abcdef",
            "max_chars: the answer has 6 characters, `max_chars` is 5",
        ),
    ] {
        assert_eq!(said(&checks, text), expected, "{text:?}");
    }
}

#[test]
fn patterns_are_looked_for_anywhere_in_the_text() {
    let checks = Checks {
        must_match: patterns(&["(?m)^# ", "[.!?]$"]),
        must_not_match: patterns(&["(?i)as an ai", "\\bTODO\\b"]),
        ..Checks::default()
    };
    for (text, expected) in [
        ("# Ann\nShe is old.", ""),
        ("Well:\n# Ann\nShe is old.", ""),
        (
            "Ann is old.",
            "must_match: the answer has no match for `must_match` = `(?m)^# `",
        ),
        (
            "# Ann\nShe is",
            "must_match: the answer has no match for `must_match` = `[.!?]$`",
        ),
        (
            "# Ann\nAs an AI I am old.",
            "must_not_match: the answer has a match for `must_not_match` = `(?i)as an ai`: `As an AI`",
        ),
        (
            "# Ann\nTODO.",
            r"must_not_match: the answer has a match for `must_not_match` = `\bTODO\b`: `TODO`",
        ),
    ] {
        assert_eq!(said(&checks, text), expected, "{text:?}");
    }
}

#[test]
fn what_was_found_is_shown_in_one_line_and_cut() {
    let checks = Checks {
        must_not_match: patterns(&["(?s)x.*"]),
        ..Checks::default()
    };
    let text = format!("x\n\u{1b}[31m{}", "y".repeat(900));
    let said = said(&checks, &text);
    assert!(said.contains(r"`x\n\u{1b}[31my"), "{said}");
    assert!(said.len() < 200 && said.ends_with("…`"), "{said}");
}

#[test]
fn json_has_to_fit_the_schema() {
    let checks = schema(json!({
        "type": "object",
        "required": ["title", "chapters"],
        "additionalProperties": false,
        "properties": {
            "title": { "type": "string", "pattern": "^[A-Z]" },
            "chapters": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/chapter" } },
        },
        "$defs": { "chapter": { "anyOf": [{ "type": "string" }, { "type": "integer" }] } },
    }));
    for (text, expected) in [
        (r#"{"title": "Ann", "chapters": ["one", 2]}"#, ""),
        ("\n{\"title\": \"Ann\", \"chapters\": [1]}\n", ""),
        (
            "Ann",
            "json_schema: the answer is no JSON, which `json_schema` asks for: expected value at line 1 column 1",
        ),
        (
            "```json\n{}\n```",
            "json_schema: the answer is no JSON, which `json_schema` asks for: expected value at line 1 column 1; it begins with a code fence",
        ),
        (
            "3",
            "json_schema: the answer does not fit `json_schema`: want object, but got number",
        ),
        (
            r#"{"title": "Ann"}"#,
            "json_schema: the answer does not fit `json_schema`: missing properties 'chapters'",
        ),
        (
            r#"{"title": "ann", "chapters": ["one"]}"#,
            "json_schema: the answer does not fit `json_schema` at `/title`: 'ann' does not match pattern '^[A-Z]'",
        ),
        (
            r#"{"title": "Ann", "chapters": [true]}"#,
            "json_schema: the answer does not fit `json_schema` at `/chapters/0`: want string, but got boolean, or want integer, but got boolean",
        ),
    ] {
        assert_eq!(said(&checks, text), expected, "{text:?}");
    }
}

#[test]
fn a_schema_that_is_none_says_where() {
    let wrong = |schema| Schema::compile(schema).unwrap_err();
    insta::assert_snapshot!(
        wrong(json!({"properties": {"a": {"type": "strin"}}})),
        @"it is no JSON Schema at `/properties/a/type`: value must be one of 'array', 'boolean', 'integer', 'null', 'number', 'object', 'string', or want array, but got string"
    );
    insta::assert_snapshot!(wrong(json!({"pattern": "(?<!a)b"})), @"it is no JSON Schema at `/pattern`: '(?<!a)b' is not valid regex");
    insta::assert_snapshot!(wrong(json!({"$ref": "https://example.org/other.json"})), @"it refers to `https://example.org/other.json`, and nothing is loaded: put that under `$defs`");
    insta::assert_snapshot!(wrong(json!({"$ref": "file:///etc/passwd"})), @"it refers to `file:///etc/passwd`, and nothing is loaded: put that under `$defs`");
    insta::assert_snapshot!(wrong(json!({"$ref": "#/$defs/nothing"})), @"json-pointer in #/$defs/nothing not found");
    insta::assert_snapshot!(wrong(json!({"$schema": "https://example.org/draft"})), @"it refers to `https://example.org/draft`, and nothing is loaded: put that under `$defs`");
}

#[test]
fn a_schema_that_refers_to_itself_ends() {
    let checks = schema(json!({
        "properties": { "next": { "$ref": "#" } },
        "required": ["name"],
    }));
    let text = |name: &str| format!(r#"{{"name": 1, "next": {{"name": 2, "next": {{"{name}": 3}}}}}}"#);
    assert_eq!(said(&checks, &text("name")), "");
    assert!(said(&checks, &text("nam")).contains("at `/next/next`"));
}

#[test]
fn what_did_not_come_whole_is_that_before_anything_else() {
    let checks = Checks {
        min_chars: Some(100),
        ..Checks::default()
    };
    let judged = |text, finish| checks.judge(&answer(text, finish)).unwrap_err().rejection;
    assert_eq!(judged("cut o", Finish::Length), Rejection::Truncated);
    assert_eq!(judged("", Finish::Stop), Rejection::Empty);
    assert_eq!(judged("short", Finish::Stop), Rejection::MinChars);
}

#[test]
fn the_checks_go_in_the_order_of_their_fields() {
    let checks = Checks {
        min_chars: Some(10),
        must_match: patterns(&["a"]),
        must_not_match: patterns(&["b"]),
        ..schema(json!({}))
    };
    let kinds = [
        "bbb",
        "bbbbbbbbbbbb",
        "abbbbbbbbbbb",
        "acccccccccccc",
        "123456789012",
    ];
    let kinds = kinds.map(|text| checks.judge(&answer(text, Finish::Stop)).map_err(|m| m.rejection));
    assert_eq!(
        kinds,
        [
            Err(Rejection::MinChars),
            Err(Rejection::MustMatch),
            Err(Rejection::MustNotMatch),
            Err(Rejection::JsonSchema),
            Err(Rejection::MustMatch),
        ]
    );
}
