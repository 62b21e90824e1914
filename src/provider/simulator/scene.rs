//! Reads a prompt as a person would skim it: who it is about, what is known of them, which part
//! is asked for, or which conversations are to be joined. Finds what is there in any sensible
//! layout and knows nothing of how a reply is worded.

use super::lines::{Kind, Line, last_before, last_paragraph, lines, paragraphs, plain, sentences};

/// The adviser's name in every conversation of the built-in model; by it a conversation is
/// recognised in the prompt of a later node.
pub const ADVISER: &str = "Adviser";

/// As many facts as one reply can need.
const MOST_FACTS: usize = 24;
/// Of one paragraph; its beginning says most.
const MOST_SENTENCES: usize = 3;

/// What a prompt is about. Everything is quoted from the prompt.
#[derive(Debug, Default, PartialEq)]
pub struct Scene<'a> {
    /// The name of the persona.
    pub name: Option<&'a str>,
    /// What else the prompt says about the persona, in its order.
    pub facts: Vec<Fact<'a>>,
    /// The number of the part that is asked for.
    pub number: Option<u32>,
    /// Its title.
    pub title: Option<&'a str>,
    /// What shall happen in it.
    pub brief: Option<&'a str>,
    /// Conversations in the prompt: where there are any, they are to be joined.
    pub parts: Vec<Part<'a>>,
}

/// One thing that is known of a persona.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fact<'a> {
    /// A line of the form `label: value`.
    Entry {
        /// Before the colon.
        label: &'a str,
        /// After it.
        value: &'a str,
    },
    /// A sentence; may have line breaks in it.
    Sentence(&'a str),
}

/// A conversation that was written earlier.
#[derive(Debug, PartialEq)]
pub struct Part<'a> {
    /// The heading above it.
    pub title: Option<&'a str>,
    /// What was said, in order.
    pub speeches: Vec<Speech<'a>>,
}

/// What one person says at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speech<'a> {
    /// Who.
    pub speaker: &'a str,
    /// What.
    pub text: &'a str,
}

impl<'a> Scene<'a> {
    /// Reads the user message of a request.
    pub fn read(text: &'a str) -> Self {
        let lines = lines(text);
        let (parts, talk) = conversations(&lines);
        let mut scene = Scene {
            parts,
            ..Scene::default()
        };
        let mut about = talk;
        if scene.parts.is_empty() {
            about = scene.read_order(text, &lines);
        }
        scene.name = name(text, &lines[..about]).or_else(|| name(text, &lines));
        scene.facts = facts(text, &lines[..about], scene.name);
        scene
    }

    /// Finds the part that is asked for; returns the index of the line where that begins.
    fn read_order(&mut self, text: &'a str, lines: &[Line<'a>]) -> usize {
        let numbered = lines
            .iter()
            .enumerate()
            .rev()
            .find_map(|(i, line)| Some((i, numbered(&text[line.at..line.end])?)));
        let start = match numbered {
            Some((i, (number, tail))) => {
                self.number = Some(number);
                (self.title, self.brief) = title_and_brief(tail);
                i
            }
            None => last_paragraph(lines),
        };
        for line in &lines[start..] {
            self.read_labels(line);
        }
        let untitled = self.number.is_none() && self.title.is_none();
        if let Some(Kind::Heading { text, .. }) = last_before(lines, start).filter(|_| untitled) {
            self.title = Some(text);
        }
        if self.brief.is_none() {
            let after = start + usize::from(numbered.is_some());
            self.brief = first_prose(text, &lines[after.min(lines.len())..]);
        }
        start
    }

    fn read_labels(&mut self, line: &Line<'a>) {
        let Kind::Entry { label, value, .. } = line.kind else {
            return;
        };
        const BRIEF: [&str; 8] = [
            "brief",
            "task",
            "goal",
            "theme",
            "topic",
            "about",
            "scene",
            "what happens",
        ];
        if self.title.is_none() && label.eq_ignore_ascii_case("title") {
            self.title = Some(value);
        } else if self.brief.is_none() && BRIEF.iter().any(|known| label.eq_ignore_ascii_case(known)) {
            self.brief = Some(value);
        } else if self.number.is_none() && label.eq_ignore_ascii_case("part") {
            self.number = value.parse().ok();
        }
    }
}

/// Finds conversations: runs of `**Name:** …` with the adviser among the names. Also returns the
/// index of the line where the first begins: what stands before it is about the persona.
fn conversations<'a>(lines: &[Line<'a>]) -> (Vec<Part<'a>>, usize) {
    let mut parts: Vec<Part<'a>> = Vec::new();
    let (mut talk, mut heading) = (lines.len(), None);
    let mut open: Option<Part<'a>> = None;
    let mut begun = 0;
    let mut keep = |part: Option<Part<'a>>, begun: usize| {
        if let Some(part) = part.filter(|p| p.speeches.iter().any(|s| s.speaker == ADVISER)) {
            parts.push(part);
            talk = talk.min(begun);
        }
    };
    for (i, line) in lines.iter().enumerate() {
        match line.kind {
            Kind::Blank => {}
            Kind::Entry { label, value, bold } if bold => {
                let speech = Speech {
                    speaker: label,
                    text: value,
                };
                let part = open.get_or_insert_with(|| {
                    begun = i;
                    Part {
                        title: heading.take(),
                        speeches: Vec::new(),
                    }
                });
                part.speeches.push(speech);
            }
            Kind::Heading { text, .. } => {
                keep(open.take(), begun);
                heading = Some(text);
            }
            _ => {
                keep(open.take(), begun);
                heading = None;
            }
        }
    }
    keep(open.take(), begun);
    (parts, talk)
}

/// Finds `part 3`, `Part 3 of 7`, `chapter 3/7` in a line; returns the number and what follows.
fn numbered(line: &str) -> Option<(u32, &str)> {
    let mut at = 0;
    for word in line.split_inclusive(|c: char| !c.is_alphanumeric()) {
        at += word.len();
        let bare = word.trim_end_matches(|c: char| !c.is_alphanumeric());
        let known = ["part", "chapter", "section", "chunk"];
        if !known.iter().any(|known| bare.eq_ignore_ascii_case(known)) {
            continue;
        }
        if let Some((number, tail)) = leading_number(line[at..].trim_start_matches(['#', ' ', ':'])) {
            return Some((number, after_total(tail)));
        }
    }
    None
}

fn leading_number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end].parse().ok()?;
    (!text[end..].starts_with(char::is_alphanumeric)).then_some((number, &text[end..]))
}

/// Skips ` of 7` and `/7`.
fn after_total(tail: &str) -> &str {
    let rest = tail.trim_start();
    ["of ", "/", "von "]
        .iter()
        .find_map(|word| leading_number(rest.strip_prefix(word)?.trim_start()))
        .map_or(tail, |(_, rest)| rest)
}

/// Takes what follows a part's number apart: `: Arriving`, `, “Arriving”: they meet`.
fn title_and_brief(tail: &str) -> (Option<&str>, Option<&str>) {
    let mut rest = tail.trim_start_matches([':', '-', '–', '—', ',', '.', ')', ']', ' ', '*', '_']);
    if rest.starts_with("of ") {
        let Some(at) = rest.find([':', '“', '"', '«']) else {
            return (None, None);
        };
        rest = rest[at..].trim_start_matches([':', ' ']);
    }
    for word in ["is called ", "called ", "titled ", "entitled ", "named "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let (title, brief) = split_title(rest);
    let brief = Some(plain(
        brief.trim_start_matches([':', '-', '–', '—', ',', '.', ' ', '*', ')']),
    ))
    .filter(|b| b.split_whitespace().count() >= 2);
    match plain(plain(title).trim_end_matches(['.', ':', ','])) {
        "" => (None, brief),
        long if long.split_whitespace().count() > 10 => (None, brief.or(Some(plain(title)))),
        title => (Some(title), brief),
    }
}

fn split_title(rest: &str) -> (&str, &str) {
    for (open, close) in [
        ("“", "”"),
        ("\"", "\""),
        ("«", "»"),
        ("'", "'"),
        ("`", "`"),
        ("(", ")"),
    ] {
        if let Some(quoted) = rest.strip_prefix(open).and_then(|inner| inner.split_once(close)) {
            return quoted;
        }
    }
    [": ", " – ", " — ", " - ", ". ", " ("]
        .iter()
        .filter_map(|mark| Some((rest.find(mark)?, mark.len())))
        .min()
        .map_or((rest, ""), |(at, length)| (&rest[..at], &rest[at + length..]))
}

fn first_prose<'a>(text: &'a str, lines: &[Line<'a>]) -> Option<&'a str> {
    paragraphs(text, lines).find_map(|paragraph| sentences(paragraph).next())
}

fn facts<'a>(text: &'a str, lines: &[Line<'a>], name: Option<&str>) -> Vec<Fact<'a>> {
    let entries = lines.iter().filter_map(|line| match line.kind {
        Kind::Entry { label, value, .. } if tells(label, value, name) => Some(Fact::Entry { label, value }),
        _ => None,
    });
    let told = paragraphs(text, lines)
        .flat_map(|paragraph| sentences(paragraph).take(MOST_SENTENCES))
        .filter(|sentence| sentence.len() >= 15 && sentence.contains(' '))
        .map(Fact::Sentence);
    let mut facts: Vec<Fact<'a>> = entries.take(MOST_FACTS / 2).collect();
    facts.extend(told.take(MOST_FACTS - facts.len()));
    facts
}

fn tells(label: &str, value: &str, name: Option<&str>) -> bool {
    Some(value) != name
        && !["id", "name", "persona"]
            .iter()
            .any(|known| label.eq_ignore_ascii_case(known))
}

/// Looks for a name: an entry that says so, a heading that is one, the subject of the first
/// sentence.
fn name<'a>(text: &'a str, lines: &[Line<'a>]) -> Option<&'a str> {
    let labelled = |wanted: &[&str]| {
        lines.iter().find_map(|line| match line.kind {
            Kind::Entry { label, value, .. } if wanted.iter().any(|w| label.eq_ignore_ascii_case(w)) => {
                Some(value).filter(|value| value.chars().count() <= 40)
            }
            _ => None,
        })
    };
    let headings = || {
        lines.iter().filter_map(|line| match line.kind {
            Kind::Heading { text, level } => name_in_heading(text, level),
            _ => None,
        })
    };
    labelled(&["name", "full name", "full_name"])
        .or_else(|| headings().next())
        .or_else(|| labelled(&["persona", "client"]))
        .or_else(|| paragraphs(text, lines).find_map(subject))
}

/// A name stands in the first heading of a document, or behind a word that announces it.
fn name_in_heading(heading: &str, level: usize) -> Option<&str> {
    const BEFORE: [&str; 7] = [
        "Persona",
        "Profile of",
        "Profile",
        "About",
        "Client",
        "Meet",
        "Name",
    ];
    const NOT: [&str; 12] = [
        "background",
        "context",
        "facts",
        "notes",
        "details",
        "biography",
        "life",
        "the",
        "your",
        "task",
        "instructions",
        "who",
    ];
    let announced = BEFORE
        .iter()
        .find_map(|word| heading.strip_prefix(word))
        .map(|rest| plain(rest.trim_start_matches([' ', ':', '-', '–', '—'])));
    let name = announced.unwrap_or(heading);
    let words = name.split_whitespace().count();
    let first = name.split_whitespace().next()?;
    let general = NOT.iter().any(|known| first.eq_ignore_ascii_case(known));
    let named = name.split_whitespace().all(is_of_a_name) && first.starts_with(char::is_uppercase);
    (named && !general && words <= 4 && (level == 1 || announced.is_some())).then_some(name)
}

fn is_of_a_name(word: &str) -> bool {
    let letters = word
        .chars()
        .all(|c| c.is_alphabetic() || matches!(c, '.' | '-' | '\'' | '’'));
    letters
        && (word.starts_with(char::is_uppercase)
            || matches!(word, "von" | "van" | "de" | "der" | "la" | "du"))
}

/// `Ada Whitfield` of `Ada Whitfield is …`.
fn subject(paragraph: &str) -> Option<&str> {
    const OTHERS: [&str; 14] = [
        "I", "You", "He", "She", "It", "We", "They", "The", "A", "An", "This", "Write", "In", "My",
    ];
    let mut end = 0;
    for word in paragraph.split_inclusive(' ').take(4) {
        let bare = word.trim_end_matches([' ', ',']);
        if !is_of_a_name(bare) || OTHERS.contains(&bare) {
            break;
        }
        end += word.len();
        if word.contains(',') {
            break;
        }
    }
    let name = paragraph[..end].trim_end_matches([' ', ',']);
    // `Ada` of `Ada's bakery is …`.
    let owner = name.strip_suffix("'s").or_else(|| name.strip_suffix("’s"));
    let name = owner.unwrap_or(name);
    let follows = paragraph[end..].starts_with(char::is_lowercase) || paragraph[..end].contains(',');
    (follows && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(label: &'a str, value: &'a str) -> Fact<'a> {
        Fact::Entry { label, value }
    }

    #[test]
    fn the_name_is_found_wherever_a_person_would_look_for_it() {
        let cases = [
            ("# Ada Whitfield\n\nShe bakes.", Some("Ada Whitfield")),
            ("# Persona: Ada Whitfield\n\nShe bakes.", Some("Ada Whitfield")),
            ("## About Ada\n\nShe bakes.", Some("Ada")),
            (
                "# Persona\n\nname: Ada Whitfield\n\nShe bakes.",
                Some("Ada Whitfield"),
            ),
            ("name = \"Ada Whitfield\"\nage = 41", Some("Ada Whitfield")),
            (
                "{\n  \"name\": \"Ada Whitfield\",\n  \"age\": 41\n}",
                Some("Ada Whitfield"),
            ),
            ("- **Name:** Ada Whitfield\n- **Age:** 41", Some("Ada Whitfield")),
            ("* **Full name**: Ada Whitfield", Some("Ada Whitfield")),
            (
                "Persona: ada-01\n\n## Daily Routine\n\nUp at four.",
                Some("ada-01"),
            ),
            ("Ada Whitfield is a baker.", Some("Ada Whitfield")),
            ("Ada Whitfield, 41, bakes.", Some("Ada Whitfield")),
            ("Ludwig van Beek lives in Ghent.", Some("Ludwig van Beek")),
            ("Ada's bakery is small.", Some("Ada")),
            ("Ada Whitfield’s bakery is small.", Some("Ada Whitfield")),
            ("Sean O'Neill's bakery is small.", Some("Sean O'Neill")),
            ("# Background\n\nThe bakery is small.", None),
            ("She bakes.", None),
            ("", None),
        ];
        for (context, expected) in cases {
            let prompt = format!("{context}\n\nPart 1: Arriving\n\nThey meet.");
            assert_eq!(Scene::read(&prompt).name, expected, "{context}");
        }
    }

    #[test]
    fn the_part_is_found_in_any_sensible_layout() {
        let cases = [
            ("Part 3: Money", Some(3), Some("Money"), None),
            (
                "# Part 3 of 7: Money\n\nThey count. No more.",
                Some(3),
                Some("Money"),
                Some("They count."),
            ),
            (
                "Write part 3 of 7, “Money”: they count the days.",
                Some(3),
                Some("Money"),
                Some("they count the days."),
            ),
            (
                "Write part 3/7 (Money). They count.",
                Some(3),
                Some("Money"),
                Some("They count."),
            ),
            (
                "Write part 3 – Money – they count.",
                Some(3),
                Some("Money"),
                Some("they count."),
            ),
            (
                "Write part 3 of the conversation: **Money**.\n\nThey count.",
                Some(3),
                Some("Money"),
                Some("They count."),
            ),
            (
                "Part 3 is called \"What if?\"\n\nBrief: They dream.",
                Some(3),
                Some("What if?"),
                Some("They dream."),
            ),
            (
                "Part: 3\nTitle: Money\nBrief: They count.",
                Some(3),
                Some("Money"),
                Some("They count."),
            ),
            (
                "## Chapter 3 - Money\n\n- Task: They count.",
                Some(3),
                Some("Money"),
                Some("They count."),
            ),
            (
                "Title: Money\nWhat happens: They count.",
                None,
                Some("Money"),
                Some("They count."),
            ),
            ("# Money\n\nThey count.", None, Some("Money"), Some("They count.")),
            ("Let them count. Then stop.", None, None, Some("Let them count.")),
        ];
        for (prompt, number, title, brief) in cases {
            let text =
                format!("# Ada Whitfield\n\nage: 41\n\nAda has taken part in many things.\n\n{prompt}\n");
            let scene = Scene::read(&text);
            assert_eq!(
                (scene.number, scene.title, scene.brief),
                (number, title, brief),
                "{prompt}"
            );
            assert_eq!(scene.facts.first(), Some(&entry("age", "41")), "{prompt}");
            let told = Fact::Sentence("Ada has taken part in many things.");
            assert_eq!(scene.facts.last(), Some(&told), "the prompt is no fact: {prompt}");
        }
    }

    #[test]
    fn facts_are_entries_and_first_sentences() {
        let text = "\
# Ada

- **Home town:** Leeds
- daily_rhythm = \"up at four\"
- see https://example.org: it is private
id: p-001
list: [1, 2]

Ada met Dr. Hall in May; they talk about the
oven. She trusts him! Do you? Nobody asked. Too late to count.

* Has a dog, which she walks at noon.

Part 1: Arriving";
        let expected = [
            entry("Home town", "Leeds"),
            entry("daily_rhythm", "up at four"),
            Fact::Sentence("see https://example.org: it is private"),
            Fact::Sentence("Ada met Dr. Hall in May; they talk about the\noven."),
            Fact::Sentence("She trusts him!"),
            Fact::Sentence("Has a dog, which she walks at noon."),
        ];
        assert_eq!(Scene::read(text).facts, expected);
    }

    #[test]
    fn conversations_are_told_from_entries() {
        let text = "\
# Ada Whitfield

**Age:** 41

Join these.

## chunk-1

## Part 1: Arriving

**Adviser:** Welcome. Sit down.

**Ada:** Thank you.

---

**Adviser:** And now?
**Ada:** Now we wait.

The end.

**Adviser:** One more thing.";
        let scene = Scene::read(text);
        assert_eq!(scene.name, Some("Ada Whitfield"));
        assert_eq!(scene.facts[0], entry("Age", "41"));
        let found: Vec<_> = scene
            .parts
            .iter()
            .map(|part| (part.title, part.speeches.len()))
            .collect();
        assert_eq!(found, [(Some("Part 1: Arriving"), 4), (None, 1)]);
        let last = scene.parts[0].speeches[3];
        assert_eq!((last.speaker, last.text), ("Ada", "Now we wait."));
    }

    #[test]
    fn sentences_end_where_a_reader_would_stop() {
        let text = "Mrs. Hall came at 4.30 p.m. sharp. “Why now?” she said… Then, e.g. on J. Doe's day, nothing! End";
        let found: Vec<_> = sentences(text).collect();
        assert_eq!(
            found,
            [
                "Mrs. Hall came at 4.30 p.m.",
                "sharp.",
                "“Why now?”",
                "she said…",
                "Then, e.g. on J. Doe's day, nothing!",
                "End",
            ]
        );
    }
}
