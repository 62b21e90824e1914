//! Two versions of a text as a unified diff. It knows nothing of where they come from.

use std::time::Duration;

use similar::{ChangeTag, TextDiff};

use crate::printable;
use crate::report::style::{Palette, width, wrap};

/// Lines that are shown around a change.
const CONTEXT: usize = 3;
/// After this time the difference is no longer the smallest one.
const LONGEST: Duration = Duration::from_secs(1);

/// Returns the difference as `diff -u` writes it, without a line end at its end; empty where there
/// is none. `name` stands for both versions.
pub fn unified(old: &str, new: &str, name: &str, palette: Palette) -> String {
    unified_within(old, new, name, palette, None)
}

/// The same for a terminal of so many columns: longer lines are broken between words, and what follows
/// of one is indented.
pub fn unified_within(old: &str, new: &str, name: &str, palette: Palette, columns: Option<usize>) -> String {
    let diff = TextDiff::configure().timeout(LONGEST).diff_lines(old, new);
    let mut unified = diff.unified_diff();
    let mut lines = Vec::new();
    for hunk in unified.context_radius(CONTEXT).iter_hunks() {
        if lines.is_empty() {
            lines.push(palette.strong(&format!("--- {}", printable::one_line(name))));
            lines.push(palette.strong(&format!("+++ {}", printable::one_line(name))));
        }
        lines.push(palette.faint(&hunk.header().to_string()));
        for change in hunk.iter_changes() {
            let text = printable::lines(change.value().trim_end_matches(['\n', '\r']));
            // Behind the mark, and what follows behind an indent.
            let room = columns.map_or(usize::MAX, |columns| columns.saturating_sub(3).max(1));
            let parts = match width(&text) < room {
                true => vec![text],
                false => wrap(&text, room),
            };
            for (at, part) in parts.iter().enumerate() {
                let indent = if at == 0 { "" } else { "  " };
                lines.push(match change.tag() {
                    ChangeTag::Delete => palette.bad(&format!("-{indent}{part}")),
                    ChangeTag::Insert => palette.good(&format!("+{indent}{part}")),
                    ChangeTag::Equal => format!(" {indent}{part}"),
                });
            }
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Palette = Palette { color: false };

    #[test]
    fn a_change_is_shown_with_what_is_around_it() {
        let old: String = (1..=20).map(|n| format!("line {n}\n")).collect();
        let new = old
            .replace("line 3\n", "line three\nand more\n")
            .replace("line 18\n", "");
        insta::assert_snapshot!(unified(&old, &new, "transcripts/a.md", PLAIN), @r"
        --- transcripts/a.md
        +++ transcripts/a.md
        @@ -1,6 +1,7 @@
         line 1
         line 2
        -line 3
        +line three
        +and more
         line 4
         line 5
         line 6
        @@ -15,6 +16,5 @@
         line 15
         line 16
         line 17
        -line 18
         line 19
         line 20
        ");
        assert_eq!(unified(&old, &old, "a.md", PLAIN), "");
    }

    #[test]
    fn long_lines_are_broken_between_words_where_there_is_a_width() {
        let (old, new) = ("a line of some words that is long\n", "short\n");
        insta::assert_snapshot!(unified_within(old, new, "a.md", PLAIN, Some(20)), @"
        --- a.md
        +++ a.md
        @@ -1 +1 @@
        -a line of some
        -  words that is
        -  long
        +short
        ");
    }

    #[test]
    fn colours_and_nothing_that_a_terminal_obeys() {
        let color = Palette { color: true };
        let shown = unified("a\x1b[2J\n", "b\n", "x.md", color);
        assert!(shown.contains("\x1b[31m-a␛[2J\x1b[0m"), "{shown:?}");
        assert!(shown.ends_with("\x1b[32m+b\x1b[0m"), "{shown:?}");
    }
}
