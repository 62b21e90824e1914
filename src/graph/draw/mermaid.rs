//! A picture in Mermaid's language. What a name may hold and Mermaid reads as something else is
//! written as an entity: quotes and brackets, but also Markdown (`1. a` is a list), `%%{` and a
//! `direction LR` anywhere in a line.

use std::fmt::Write;

use super::{Drawing, State};

/// Draws.
pub(super) fn draw(drawing: &Drawing<'_>) -> String {
    let graph = drawing.graph;
    let mut text = String::new();
    if let Some(persona) = drawing.persona {
        let _ = writeln!(text, "---\ntitle: {}\n---", yaml_quoted(persona.name));
    }
    text += "flowchart LR\n";
    for (node, id) in graph.ids().iter().enumerate() {
        let mut label = escaped(id.as_str());
        if let Some(seen) = drawing.seen(node) {
            let _ = write!(label, "<br/>{}", seen.state.words());
        }
        // The transcript's node has round ends.
        let (open, close) = if node == graph.result() {
            ("([", "])")
        } else {
            ("[", "]")
        };
        let _ = writeln!(text, "  n{node}{open}\"{label}\"{close}");
    }
    for (from, to) in drawing.edges() {
        let _ = writeln!(text, "  n{from} --> n{to}");
    }
    for state in drawing.states() {
        let (fill, line) = state.colors();
        let dashes = if state.is_dashed() {
            ",stroke-dasharray:4 3"
        } else {
            ""
        };
        let class = class(state);
        let nodes =
            (0..graph.len()).filter(|&node| drawing.seen(node).is_some_and(|seen| seen.state == state));
        let nodes: Vec<String> = nodes.map(|node| format!("n{node}")).collect();
        let _ = writeln!(
            text,
            "  classDef {class} fill:{fill},stroke:{line},color:#1d2433{dashes}"
        );
        let _ = writeln!(text, "  class {} {class}", nodes.join(","));
    }
    text
}

/// The name of the class of a state. `call` would be a word of Mermaid's own.
pub(super) fn class(state: State) -> &'static str {
    match state {
        State::Cached => "cached",
        State::Call => "tocall",
        State::Rejected => "rejected",
        State::Depends => "depends",
        State::Failed => "failed",
        State::Skipped => "skipped",
    }
}

/// Text between quotes: letters and digits as they are, and what stands between two of them where
/// it means nothing.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    let mut characters = text.chars().peekable();
    let mut before = None;
    while let Some(character) = characters.next() {
        let after = characters.peek().copied();
        let between = [before, after]
            .into_iter()
            .all(|c| c.is_some_and(char::is_alphanumeric));
        let harmless = match character {
            '-' => between,
            ' ' => between && !escaped.ends_with("direction"),
            _ => character.is_alphanumeric(),
        };
        if harmless {
            escaped.push(character);
        } else {
            let _ = write!(escaped, "#{};", u32::from(character));
        }
        before = Some(character);
    }
    escaped
}

/// A string of YAML, in which only what can be printed may stand.
pub(super) fn yaml_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\u{fffe}' | '\u{ffff}' | '\u{feff}' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            _ if character.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}
