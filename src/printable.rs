//! Text from outside (answers, names of folders, a server's words) made safe to print: it is data
//! and must not move the cursor, change colours or hide itself.

/// Returns the text as one line: control and invisible characters shown by a sign of their own,
/// each run of white space as one space.
pub fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().map(shown).collect()
}

/// Returns the text with its lines and tabs, and every other control or invisible character
/// shown by a sign of its own.
pub fn lines(text: &str) -> String {
    let shown_but_lines = |c| if matches!(c, '\n' | '\t') { c } else { shown(c) };
    text.replace("\r\n", "\n").chars().map(shown_but_lines).collect()
}

/// Returns the text as it stands in XML, between tags or in quotes: what XML cannot hold, or would turn the
/// direction of what follows, is shown by a sign of its own.
pub fn in_xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(shown(c)),
        }
    }
    escaped
}

/// The sign for a character that a terminal would obey or hide; any other is its own.
fn shown(c: char) -> char {
    match c {
        // Unicode has a picture for each of the first 32, in the same order.
        '\0'..='\x1f' => char::from_u32(0x2400 + c as u32).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\x7f' => '\u{2421}',
        // One-byte escape sequences (C1), and marks that turn the direction of what follows.
        '\u{80}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_lose_their_force() {
        let cases = [
            ("plain, ünïcödé, 国, 🦀", "plain, ünïcödé, 国, 🦀"),
            ("\x1b[2J\x1b]0;title\x07", "␛[2J␛]0;title␇"),
            ("\u{9b}31m", "\u{fffd}31m"),
            ("a\x7fb\0c\u{8}d", "a␡b␀c␈d"),
            ("abc\u{202e}dcba", "abc\u{fffd}dcba"),
            ("two\r\nlines\tand  more", "two lines and more"),
        ];
        for (text, expected) in cases {
            assert_eq!(one_line(text), expected);
        }
    }

    #[test]
    fn what_xml_cannot_hold_is_shown_by_a_sign() {
        let text = "<a & \"b\">\u{1}\n\u{ffff}\u{202e}国";
        assert_eq!(in_xml(text), "&lt;a &amp; &quot;b&quot;&gt;␁␊\u{fffd}\u{fffd}国");
    }

    #[test]
    fn lines_keep_lines_and_tabs_but_no_lone_carriage_return() {
        assert_eq!(lines("a\r\n\tb\rc\x1b[0m"), "a\n\tb␍c␛[0m");
    }
}
