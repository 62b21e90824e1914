//! No text makes `load` panic, and every error points into it.

use super::*;

/// Bits that mean something somewhere: cut and spliced they get deeper than random bytes.
const PIECES: [&str; 24] = [
    "[[node]]\n",
    "[node]\n",
    "[",
    "]",
    "{",
    "}",
    "=",
    "\"",
    "'",
    "\n",
    "nan",
    "-1",
    "1e999",
    "99999999999999999999",
    "0x",
    "{persona}",
    "needs = [\"*\"]\n",
    "id = \"a\"\n",
    "\u{0}",
    "\u{feff}",
    "é",
    "..",
    "\r",
    "2026-11-23T07:00:00Z",
];

fn holds(text: &str) -> Result<(), TestCaseError> {
    let lines = text.split('\n').count();
    if let Err(errors) = load(text, "pipeline.toml") {
        prop_assert!(errors.iter().next().is_some());
        for error in errors.iter() {
            prop_assert!((1..=lines).contains(&error.line), "{error}");
            prop_assert!(
                !error.message.is_empty() && !error.message.contains('\n'),
                "{error}"
            );
        }
    }
    Ok(())
}

/// Thousands of levels end in an error, not at the end of the stack.
#[test]
fn deep_tables() {
    let deep = ["a"; 100_000].join(".");
    for text in [
        format!("{deep} = 1"),
        format!("[{deep}]\n"),
        format!("[[{deep}]]\n"),
        format!("[model.extra]\n{deep} = 1"),
        format!("a = {{ {deep} = 1 }}"),
        format!("a = {}", "{ a = ".repeat(100_000)),
    ] {
        assert!(load(&text, "pipeline.toml").is_err());
    }
}

proptest! {
    #[test]
    fn any_text(text in ".{0,200}") {
        holds(&text)?;
    }

    #[test]
    fn pieces(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..30)) {
        holds(&pieces.concat())?;
    }

    #[test]
    fn a_changed_line(line in 0usize..140, piece in prop::sample::select(&PIECES[..]), at in 0usize..80) {
        let text: Vec<String> = SHIPPED
            .lines()
            .enumerate()
            .map(|(i, text)| {
                let mut text = text.trim_start_matches("# ").to_owned();
                if i == line {
                    let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                    text.insert_str(at, piece);
                }
                text
            })
            .collect();
        holds(&text.join("\n"))?;
    }

    #[test]
    fn a_cut_file(from in 0usize..8000, length in 0usize..400) {
        let cut: String = SHIPPED.chars().take(from).chain(SHIPPED.chars().skip(from + length)).collect();
        holds(&cut)?;
    }
}
