//! What files become, and what every unusable one reads like.

use minijinja::Value;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn files(files: &[(&str, &[u8])]) -> Vec<PersonaFile> {
    let file = |(name, bytes): &(&str, &[u8])| PersonaFile {
        name: (*name).to_owned(),
        bytes: bytes.to_vec(),
    };
    files.iter().map(file).collect()
}

fn build(list: &[(&str, &[u8])]) -> Result<Persona, PersonaError> {
    Persona::build(&"ann".into(), "personas/ann", &files(list))
}

fn error(list: &[(&str, &[u8])]) -> String {
    match build(list) {
        Ok(persona) => format!("no error: {:?}", persona.value()),
        Err(error) => error.to_string(),
    }
}

/// What a template sees of one file.
fn seen(name: &str, text: &str) -> Value {
    let persona = build(&[(name, text.as_bytes())]).unwrap_or_else(|error| panic!("{error}"));
    let stem = name.rsplit_once('.').unwrap().0;
    persona.value().get_item(&Value::from(stem)).unwrap()
}

#[test]
fn texts() {
    for (text, expected) in [
        ("a\r\nb\r\n", "a\nb"),
        ("a\n\n\n", "a"),
        ("\u{feff}a", "a"),
        ("\n a \n b ", "\n a \n b "),
        ("", ""),
        ("a\rb", "a\rb"),
        ("{{ not a template }}", "{{ not a template }}"),
    ] {
        assert_eq!(seen("profile.md", text), Value::from(expected), "{text:?}");
        assert_eq!(seen("profile.TXT", text), Value::from(expected), "{text:?}");
    }
}

#[test]
fn data() {
    let expected = json!({"name": "Ann", "age": 41, "rate": 0.5, "own": true, "born": "1985-03-01", "list": [1, {"a": "x\ny"}]});
    for (name, text) in [
        (
            "f.toml",
            "name = \"Ann\"\r\nage = 41\nrate = 0.5\nown = true\nborn = 1985-03-01\nlist = [1, { a = \"\"\"x\r\ny\"\"\" }]\n",
        ),
        (
            "f.json",
            "\u{feff}{\"name\": \"Ann\", \"age\": 41, \"rate\": 0.5, \"own\": true, \"born\": \"1985-03-01\", \"list\": [1, {\"a\": \"x\\ny\"}]}",
        ),
        (
            "f.yaml",
            "name: Ann\r\nage: 41\nrate: 0.5\nown: true\nborn: 1985-03-01\nlist:\n  - 1\n  - a: |-\n      x\n      y\n",
        ),
    ] {
        assert_eq!(
            serde_json::to_value(seen(name, text)).unwrap(),
            expected,
            "{name}"
        );
    }
}

/// A template that loops over a table says it in the order in which a person wrote it.
#[test]
fn keys_keep_the_order_of_the_file() {
    for (name, text) in [
        ("f.toml", "z = 1\nb = { y = 1, a = 2 }\na = 3\n[t]\n[c]\n"),
        (
            "f.json",
            "{\"z\":1,\"b\":{\"y\":1,\"a\":2},\"a\":3,\"t\":{},\"c\":{}}",
        ),
        ("f.yaml", "z: 1\nb: {y: 1, a: 2}\na: 3\nt: {}\nc: {}\n"),
    ] {
        let shown = seen(name, text).to_string();
        assert_eq!(
            shown, "{'z': 1, 'b': {'y': 1, 'a': 2}, 'a': 3, 't': {}, 'c': {}}",
            "{name}"
        );
    }
}

#[test]
fn yaml_is_read_as_1_2_and_keys_may_be_numbers() {
    let value = seen(
        "f.yaml",
        "country: no\non: yes\n2024: a\nx: 0x10\nnothing: ~\nref: &r [1]\nagain: *r\n",
    );
    assert_eq!(
        value.to_string(),
        "{'country': 'no', 'on': 'yes', 2024: 'a', 'x': 16, 'nothing': None, 'ref': [1], 'again': [1]}"
    );
    assert!(seen("f.yaml", "").is_none());
    assert_eq!(
        seen("f.toml", "x = 1_000\ny = 18446744073709551615").to_string(),
        "{'x': 1000, 'y': 18446744073709551615}"
    );
}

#[test]
fn id_and_odd_names() {
    let persona = build(&[("a-b.c.md", b"x"), ("é x.txt", b"y")]).unwrap();
    assert_eq!(persona.id().as_str(), "ann");
    assert_eq!(
        persona.value().to_string(),
        "{'id': 'ann', 'a-b.c': 'x', 'é x': 'y'}"
    );
}

#[test]
fn what_is_no_file_of_a_persona_is_passed_over() {
    for name in [
        ".hidden.md",
        ".md",
        "photo.jpg",
        "notes",
        "notes.md~",
        "a.yml",
        "Thumbs.db",
        "id.png",
    ] {
        assert!(!is_persona_file(name), "{name}");
        assert_eq!(
            build(&[(name, b"\xff")]).unwrap().value().to_string(),
            "{'id': 'ann'}",
            "{name}"
        );
    }
}

#[test]
fn the_order_of_the_files_changes_nothing() {
    let one = build(&[("a.md", b"1"), ("b.md", b"2")]).unwrap();
    let other = build(&[("b.md", b"2"), ("a.md", b"1")]).unwrap();
    assert_eq!(one.value().to_string(), other.value().to_string());
}

#[test]
fn names_that_clash() {
    insta::assert_snapshot!(error(&[("facts.toml", b""), ("facts.yaml", b"")]), @r#"
    persona `ann`: `facts.toml` has the same stem: both would be `persona.facts`
      --> personas/ann/facts.yaml

    hint: rename one of them
    "#);
    insta::assert_snapshot!(error(&[("id.md", b"")]), @r#"
    persona `ann`: a file with the stem `id` would hide `persona.id`, the persona's name
      --> personas/ann/id.md

    hint: rename it
    "#);
    insta::assert_snapshot!(error(&[("a\u{7}.md", b"")]), @r#"
    persona `ann`: the file's name has a control character
      --> personas/ann/a␇.md

    hint: rename it
    "#);
}

#[test]
fn texts_that_cannot_be_read() {
    insta::assert_snapshot!(error(&[("profile.md", b"one\ntw\xff\n")]), @r#"
    persona `ann`: not UTF-8
      --> personas/ann/profile.md:2

    hint: save it as UTF-8
    "#);
    insta::assert_snapshot!(error(&[("a.md", &vec![b'a'; LARGEST]), ("b.md", b"b")]), @r#"
    persona `ann`: the files of one persona may have 64 MB together
      --> personas/ann
    "#);
}

/// Each of twenty lists holds the one before nine times.
fn alias_bomb() -> String {
    let list = |i: u8| {
        let before = vec![format!("*{}", char::from(b'a' + i)); 9].join(", ");
        format!("{0}: &{0} [{before}]\n", char::from(b'b' + i))
    };
    format!("a: &a [x]\n{}", (0..20).map(list).collect::<String>())
}

#[test]
fn data_that_cannot_be_read() {
    insta::assert_snapshot!(error(&[("facts.toml", b"a = 1\nb = \n")]), @r#"
    persona `ann`: not valid TOML: string values must be quoted, expected literal string
      --> personas/ann/facts.toml:2
    "#);
    insta::assert_snapshot!(error(&[("facts.toml", b"a = 1\na = 2\n")]), @r#"
    persona `ann`: not valid TOML: duplicate key
      --> personas/ann/facts.toml:2
    "#);
    insta::assert_snapshot!(error(&[("facts.toml", b"a = 1\nb = [nan]\n")]), @r#"
    persona `ann`: `nan` is no finite number
      --> personas/ann/facts.toml:2
    "#);
    insta::assert_snapshot!(error(&[("facts.toml", b"a = 99999999999999999999\n")]), @r#"
    persona `ann`: `99999999999999999999` is too large a number
      --> personas/ann/facts.toml:1
    "#);
    insta::assert_snapshot!(error(&[("facts.json", b"{\"a\": 1,\n \"b\": }")]), @r#"
    persona `ann`: not valid JSON: expected value
      --> personas/ann/facts.json:2
    "#);
    insta::assert_snapshot!(error(&[("facts.json", b"{\"a\": 1,\n \"a\": 2}")]), @r#"
    persona `ann`: not valid JSON: the key `a` comes twice
      --> personas/ann/facts.json:2
    "#);
    insta::assert_snapshot!(error(&[("facts.json", b"")]), @r#"
    persona `ann`: not valid JSON: EOF while parsing a value
      --> personas/ann/facts.json:1
    "#);
    insta::assert_snapshot!(error(&[("facts.json", "[".repeat(100_000).as_bytes())]), @r#"
    persona `ann`: not valid JSON: recursion limit exceeded
      --> personas/ann/facts.json:1
    "#);
    insta::assert_snapshot!(error(&[("facts.yaml", b"a: 1\nb: [1\n")]), @r#"
    persona `ann`: not valid YAML: unclosed bracket '['
      --> personas/ann/facts.yaml:2
    "#);
    insta::assert_snapshot!(error(&[("facts.yaml", b"a: 1\nb: 2\na: 3\n")]), @r#"
    persona `ann`: not valid YAML: duplicate mapping key `a` is not allowed here
      --> personas/ann/facts.yaml:3
    "#);
    insta::assert_snapshot!(error(&[("facts.yaml", b"a: 1\n---\nb: 2\n")]), @r#"
    persona `ann`: not valid YAML: only single YAML document expected but multiple found
      --> personas/ann/facts.yaml:3
    "#);
    insta::assert_snapshot!(error(&[("facts.yaml", b"? [a, b]\n: 1\n")]), @r#"
    persona `ann`: not valid YAML: a key must be a text or a number, not a list or a map
      --> personas/ann/facts.yaml
    "#);
    insta::assert_snapshot!(error(&[("facts.yaml", b"a: .inf\n")]), @r#"
    persona `ann`: not valid YAML: value `.inf` is not a finite number
      --> personas/ann/facts.yaml:1
    "#);
    insta::assert_snapshot!(error(&[("facts.yaml", b"a:\tb\n\tc: d\n")]), @r#"
    persona `ann`: not valid YAML: while scanning a plain scalar, found a tab
      --> personas/ann/facts.yaml:1
    "#);
    insta::assert_snapshot!(error(&[("facts.yaml", alias_bomb().as_bytes())]), @r#"
    persona `ann`: not valid YAML: YAML document too large or too complex: limits breached: Nodes { nodes: 250001 }
      --> personas/ann/facts.yaml:7
    "#);
}

/// Thousands of levels end in an error, not at the end of the stack.
#[test]
fn data_that_is_too_deep() {
    for (name, text) in [
        ("a.toml", format!("{} = 1", ["a"; 100_000].join("."))),
        ("a.toml", format!("[{}]", ["a"; 100_000].join("."))),
        ("a.toml", format!("a = {}", "[".repeat(100_000))),
        // What is closed without having been opened does not count as a way out again.
        (
            "a.toml",
            format!("a = {{{}{}", "{}".repeat(100_000), "a={".repeat(100_000)),
        ),
        ("a.json", "{\"a\":".repeat(100_000)),
        ("a.yaml", "[".repeat(100_000)),
        ("a.yaml", "- ".repeat(100_000)),
        (
            "a.yaml",
            (0..10_000).map(|i| format!("{}a:\n", " ".repeat(i))).collect(),
        ),
    ] {
        assert!(
            build(&[(name, text.as_bytes())]).is_err(),
            "{name} {}",
            &text[..20]
        );
    }
}

#[test]
fn the_summary_is_one_line() {
    let error = build(&[("facts.toml", b"a = 1\nb = \n")]).unwrap_err();
    insta::assert_snapshot!(error.summary(), @"not valid TOML: string values must be quoted, expected literal string (personas/ann/facts.toml:2)");
}

/// The eight that ship can be read, and what the shipped context names is there.
#[test]
fn the_shipped_facts_have_one_shape() {
    let facts = |name: &str, text: &str| {
        let facts = seen(name, text);
        assert!(facts.get_attr("people").unwrap().len() > Some(0), "{text}");
        assert!(facts.get_attr("figures").unwrap().len() >= Some(4), "{text}");
    };
    facts(
        "facts.toml",
        include_str!("../../personas/young_couple_01_daniel_mary/facts.toml"),
    );
    facts(
        "facts.yaml",
        include_str!("../../personas/single_parent_02_priya/facts.yaml"),
    );
    facts(
        "facts.toml",
        include_str!("../../personas/retiring_couple_03_walter_ines/facts.toml"),
    );
    facts(
        "facts.json",
        include_str!("../../personas/freelancer_04_tomasz/facts.json"),
    );
    facts(
        "facts.toml",
        include_str!("../../personas/widow_05_margaret/facts.toml"),
    );
    facts(
        "facts.yaml",
        include_str!("../../personas/blended_family_06_andre_sofia/facts.yaml"),
    );
    facts(
        "facts.toml",
        include_str!("../../personas/early_stop_07_hannah/facts.toml"),
    );
    facts(
        "facts.yaml",
        include_str!("../../personas/sandwich_08_grace_chidi/facts.yaml"),
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        name in prop::sample::select(&["a.md", "a.toml", "a.json", "a.yaml"][..]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        text in "[-\\[\\]{}:=,\"'|>&*!#\n a1.]{0,60}",
    ) {
        let _ = build(&[(name, &bytes)]);
        if let Err(error) = build(&[(name, text.as_bytes())]) {
            prop_assert!(!error.message.contains('\n'));
            prop_assert!(error.line.is_none_or(|line| (1..=text.lines().count() + 1).contains(&line)), "{error}");
        }
    }
}
