//! Colours, columns and widths of text for people. What is printed here is never more than what is
//! read without colour.

use console::{Style, measure_text_width, pad_str, truncate_str};

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Color {
    /// As the terminal and the environment say: `NO_COLOR`, `CLICOLOR`, `CLICOLOR_FORCE`.
    #[default]
    Auto,
    /// Whatever the output is.
    Always,
    /// None.
    Never,
}

impl Color {
    /// Says whether standard error is coloured.
    pub fn on_stderr(self) -> bool {
        match self {
            Color::Auto => console::colors_enabled_stderr(),
            Color::Always => true,
            Color::Never => false,
        }
    }
}

/// Colours text, or leaves it as it is.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    /// Whether there is colour.
    pub color: bool,
}

impl Palette {
    /// What went well.
    pub fn good(self, text: &str) -> String {
        self.paint(Style::new().green(), text)
    }

    /// What went wrong.
    pub fn bad(self, text: &str) -> String {
        self.paint(Style::new().red(), text)
    }

    /// What a person should look at.
    pub fn warn(self, text: &str) -> String {
        self.paint(Style::new().yellow(), text)
    }

    /// What may be passed over.
    pub fn faint(self, text: &str) -> String {
        self.paint(Style::new().dim(), text)
    }

    /// What leads the eye.
    pub fn strong(self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    fn paint(self, style: Style, text: &str) -> String {
        style.force_styling(self.color).apply_to(text).to_string()
    }
}

/// Returns the columns that text takes on a terminal.
pub fn width(text: &str) -> usize {
    measure_text_width(text)
}

/// Returns the text with spaces after it, `columns` wide. A longer text stays whole.
pub fn pad(text: &str, columns: usize) -> String {
    pad_str(text, columns, console::Alignment::Left, None).into_owned()
}

/// Returns the text with spaces before it, `columns` wide. A longer text stays whole.
pub fn pad_before(text: &str, columns: usize) -> String {
    pad_str(text, columns, console::Alignment::Right, None).into_owned()
}

/// Returns the text cut to `columns`, the cut shown by `…`.
pub fn cut(text: &str, columns: usize) -> String {
    truncate_str(text, columns, "…").into_owned()
}

/// Breaks text between words into lines of at most `columns`; a longer word stays whole.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Joins parts with two spaces. Where they are wider than `columns`, those of the lowest rank are
/// left out first.
pub fn fit(mut parts: Vec<(u8, String)>, columns: Option<usize>) -> String {
    loop {
        let joined = parts
            .iter()
            .map(|(_, part)| part.as_str())
            .collect::<Vec<_>>()
            .join("  ");
        let lowest = parts.iter().enumerate().min_by_key(|(_, (rank, _))| *rank);
        match (lowest, columns) {
            (Some((i, _)), Some(columns)) if parts.len() > 1 && width(&joined) > columns => {
                parts.remove(i);
            }
            _ => return joined,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_between_words_only() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("incomprehensibly long", 5), ["incomprehensibly", "long"]);
        assert_eq!(wrap("国国 国国", 5), ["国国", "国国"]);
    }

    #[test]
    fn the_least_important_parts_go_first() {
        let parts = || {
            [(9, "calls"), (2, "time"), (5, "cost")]
                .map(|(rank, part)| (rank, part.to_owned()))
                .to_vec()
        };
        assert_eq!(fit(parts(), None), "calls  time  cost");
        assert_eq!(fit(parts(), Some(17)), "calls  time  cost");
        assert_eq!(fit(parts(), Some(16)), "calls  cost");
        assert_eq!(fit(parts(), Some(1)), "calls");
    }

    #[test]
    fn colour_is_only_added_where_it_is_wanted() {
        assert_eq!(Palette { color: false }.bad("x"), "x");
        assert_eq!(Palette { color: true }.bad("x"), "\x1b[31mx\x1b[0m");
        assert!(Color::Always.on_stderr() && !Color::Never.on_stderr());
    }
}
