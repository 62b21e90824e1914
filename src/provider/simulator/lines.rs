//! A text as lines that look like something (headings, entries, prose), as paragraphs and as
//! sentences. Knows what lines look like and not what they are about.

/// In bytes; what is longer before a colon is prose.
const LONGEST_LABEL: usize = 32;

/// A line and what it looks like.
pub struct Line<'a> {
    /// What it looks like.
    pub kind: Kind<'a>,
    /// Where its content begins in the text.
    pub at: usize,
    /// Where it ends.
    pub end: usize,
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind<'a> {
    /// Nothing, or only marks.
    Blank,
    /// `# text`.
    Heading {
        /// Without the marks.
        text: &'a str,
        /// The first of the whole document has one `#`.
        level: usize,
    },
    /// `label: value`.
    Entry {
        /// Before the colon.
        label: &'a str,
        /// After it.
        value: &'a str,
        /// `**label:** value`, as speeches are written.
        bold: bool,
    },
    /// Begins an item of a list.
    Item,
    /// Anything else.
    Prose,
}

/// Takes a text apart into lines.
pub fn lines(text: &str) -> Vec<Line<'_>> {
    let mut at = 0;
    text.split_inclusive('\n')
        .map(|line| {
            let content = line.trim();
            let begin = at + line.len() - line.trim_start().len();
            at += line.len();
            Line {
                kind: kind(content),
                at: begin,
                end: begin + content.len(),
            }
        })
        .collect()
}

fn kind(line: &str) -> Kind<'_> {
    if line.is_empty()
        || line
            .chars()
            .all(|c| matches!(c, '-' | '=' | '`' | '{' | '}' | '[' | ']' | ','))
    {
        return Kind::Blank;
    }
    if line.starts_with('#') {
        let text = line.trim_start_matches('#');
        return Kind::Heading {
            text: plain(text.trim_end_matches('#')),
            level: line.len() - text.len(),
        };
    }
    let item = without_bullet(line);
    match entry(item) {
        Some((label, value, bold)) => Kind::Entry { label, value, bold },
        None if item.len() < line.len() => Kind::Item,
        None => Kind::Prose,
    }
}

fn without_bullet(line: &str) -> &str {
    ["- ", "* ", "+ ", "• "]
        .iter()
        .find_map(|bullet| line.strip_prefix(bullet))
        .unwrap_or(line)
        .trim_start()
}

/// Takes `label: value`, `label = "value"`, `"label": "value",` and `**Label:** value` apart.
fn entry(line: &str) -> Option<(&str, &str, bool)> {
    if let Some((label, value)) = line.strip_prefix("**").and_then(|rest| rest.split_once(":**")) {
        return usable(label, value.trim(), true);
    }
    let at = line
        .bytes()
        .take(LONGEST_LABEL + 8)
        .position(|byte| matches!(byte, b':' | b'='))?;
    let (label, value) = (&line[..at], &line[at + 1..]);
    let spaced = value.starts_with(char::is_whitespace) || line.as_bytes()[at] == b'=';
    usable(label, value.trim().trim_end_matches(','), false).filter(|_| spaced)
}

fn usable<'a>(label: &'a str, value: &'a str, bold: bool) -> Option<(&'a str, &'a str, bool)> {
    let label = plain(label);
    let value = if bold { value } else { plain(value) };
    let named = label.starts_with(char::is_alphabetic)
        && label.len() <= LONGEST_LABEL
        && label.split_whitespace().count() <= 3
        && label
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-'));
    let told = value.contains(char::is_alphanumeric) && !value.starts_with(['[', '{', '|', '>']);
    (named && told).then_some((label, value, bold))
}

/// The text without what only marks it up.
pub fn plain(text: &str) -> &str {
    text.trim()
        .trim_matches(['*', '"', '\'', '`', '_', '“', '”'])
        .trim()
}

/// The paragraphs of prose and the items of lists.
pub fn paragraphs<'a>(text: &'a str, lines: &[Line<'a>]) -> impl Iterator<Item = &'a str> {
    let mut i = 0;
    std::iter::from_fn(move || {
        while !matches!(lines.get(i)?.kind, Kind::Item | Kind::Prose) {
            i += 1;
        }
        let first = i;
        i += 1;
        while lines.get(i).is_some_and(|line| line.kind == Kind::Prose) {
            i += 1;
        }
        Some(without_bullet(&text[lines[first].at..lines[i - 1].end]))
    })
}

/// The index of the first line of the last paragraph.
pub fn last_paragraph(lines: &[Line<'_>]) -> usize {
    let last = lines
        .iter()
        .rposition(|line| line.kind != Kind::Blank)
        .unwrap_or(0);
    let breaks = |line: &Line<'_>| matches!(line.kind, Kind::Blank | Kind::Heading { .. });
    lines[..last]
        .iter()
        .rposition(breaks)
        .map_or(0, |blank| blank + 1)
}

/// What stands before a line, blank ones left out.
pub fn last_before<'a>(lines: &[Line<'a>], index: usize) -> Option<Kind<'a>> {
    let kinds = lines[..index].iter().rev().map(|line| line.kind);
    kinds.into_iter().find(|kind| *kind != Kind::Blank)
}

/// Splits a text into its sentences, abbreviations such as `Dr.` left whole.
pub fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text.trim();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (sentence, more) = rest.split_at(sentence_end(rest));
        rest = more.trim_start();
        Some(sentence.trim_end())
    })
}

fn sentence_end(text: &str) -> usize {
    for (i, mark) in text.char_indices() {
        if !matches!(mark, '.' | '!' | '?' | '…') {
            continue;
        }
        let after = text[i + mark.len_utf8()..].trim_start_matches(['”', '"', '’', ')', '»', '*']);
        let ends = after.is_empty() || after.starts_with(char::is_whitespace);
        if ends && !(mark == '.' && abbreviated(&text[..i])) {
            return text.len() - after.len();
        }
    }
    text.len()
}

/// True after `Dr`, `J`, `Mrs` and their like: a full stop there ends no sentence.
fn abbreviated(before: &str) -> bool {
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    let short = word.chars().count() <= 2 && word.starts_with(char::is_uppercase);
    short || matches!(word, "Mrs" | "Prof" | "e.g" | "i.e" | "approx")
}
