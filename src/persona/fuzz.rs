//! Any bytes as a persona's file: a value that can be walked through, or an error with its place.

use super::*;
use crate::fuzzed;

const EXAMPLES: [&[u8]; 5] = [
    "Ann is old.\n\u{feff}é\r\n".as_bytes(),
    b"name = \"Ann\"\nage = 81\nlist = [1, 2.5, inf, 2026-11-23]\n[deep.er]\n\"a b\" = 'x'\n[[many]]\n[[many]]\n",
    b"{\"name\": \"Ann\", \"list\": [1, -2.5e10, null, true, {\"a\": {}}], \"\\u00e9\": \"\\ud83d\\ude00\"}",
    b"name: Ann\nlist:\n  - 1\n  - {a: b}\ntext: |\n  two\n  lines\nanchor: &a [1]\nagain: *a\n<<: {x: 1}\n? [k]\n: v\n",
    b"%YAML 1.2\n---\n!!str a: !!int 1\nb: 'it''s'\n\"c\": >-\n folded\n...\n",
];

/// As deep as a template that prints everything goes.
fn walk(value: &Value) -> usize {
    match value.kind() {
        minijinja::value::ValueKind::Map | minijinja::value::ValueKind::Seq => {
            let items = value.try_iter().expect("BUG: a list or a map");
            let of = |item: Value| match value.get_item(&item) {
                Ok(inner) if !inner.is_undefined() => walk(&inner),
                _ => walk(&item),
            };
            1 + items.map(of).sum::<usize>()
        }
        _ => value.to_string().len(),
    }
}

#[test]
fn persona_files_fuzz() {
    bolero::check!(name = "persona_files_fuzz").for_each(|bytes: &[u8]| {
        let (name, bytes) = match bytes.split_first() {
            Some((first, rest)) => {
                let extension = ["md", "txt", "toml", "json", "yaml"][usize::from(*first) % 5];
                (format!("profile.{extension}"), rest)
            }
            None => ("profile.md".to_owned(), bytes),
        };
        let bytes = fuzzed::input(bytes, &EXAMPLES);
        let lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).count();
        let file = PersonaFile { name, bytes };
        match Persona::build(&"ann".into(), "personas/ann", &[file]) {
            Ok(persona) => {
                walk(persona.value());
            }
            Err(error) => {
                assert!(
                    error.line.is_none_or(|line| (1..=lines + 1).contains(&line)),
                    "{error}"
                );
                assert!(!error.message.is_empty(), "{error}");
            }
        }
    });
}
