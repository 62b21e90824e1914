//! The pipeline as a picture: text, DOT, Mermaid or SVG, alone or coloured by what is known of one
//! persona's nodes. The same graph always gives the same bytes. It does not know how a state was
//! found out, and prints nothing.

mod layout;
mod mermaid;
mod svg;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use crate::graph::Graph;

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Drawing<'a> {
    /// The pipeline.
    pub graph: &'a Graph,
    /// The persona whose nodes are coloured; `None`: the pipeline itself.
    pub persona: Option<Persona<'a>>,
}

/// One persona's nodes.
#[derive(Clone, Copy, Debug)]
pub struct Persona<'a> {
    /// The name of the persona.
    pub name: &'a str,
    /// What is known of each node, in the order of the pipeline.
    pub nodes: &'a [Seen],
}

/// What is known of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How it stands.
    pub state: State,
    /// Why, where there is more to say.
    pub note: Option<String>,
}

/// How a node stands before a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Its answer is there.
    Cached,
    /// It would be called.
    Call,
    /// It would be called again: its last answer was bad.
    Rejected,
    /// Its request is known once a need has been called.
    Depends,
    /// It would fail.
    Failed,
    /// A node that it needs would fail.
    Skipped,
}

impl State {
    const ALL: [State; 6] = [
        State::Cached,
        State::Call,
        State::Rejected,
        State::Depends,
        State::Failed,
        State::Skipped,
    ];

    /// The state in words.
    pub fn words(self) -> &'static str {
        match self {
            State::Cached => "cached",
            State::Call => "to be called",
            State::Rejected => "rejected last time, to be called",
            State::Depends => "depends on an answer",
            State::Failed => "fails",
            State::Skipped => "skipped",
        }
    }

    /// The mark before a name.
    fn mark(self) -> char {
        match self {
            State::Cached => '○',
            State::Call => '▸',
            State::Rejected => '!',
            State::Depends => '·',
            State::Failed => '✗',
            State::Skipped => '-',
        }
    }

    /// The colours of a box: inside and border.
    fn colors(self) -> (&'static str, &'static str) {
        match self {
            State::Cached => ("#dcf3e1", "#2c8a45"),
            State::Call => ("#d9e8ff", "#2b63c9"),
            State::Rejected => ("#ffe8c7", "#b86a00"),
            State::Depends => ("#f1f1f4", "#7a7a88"),
            State::Failed => ("#ffdcd8", "#c4321f"),
            State::Skipped => ("#f7f7f8", "#b5b5bd"),
        }
    }

    /// True for what is not certain or does not happen: its border is broken, so that a picture
    /// can be read without colours.
    fn is_dashed(self) -> bool {
        matches!(self, State::Depends | State::Skipped)
    }
}

/// The colours of a box of the pipeline itself.
const PLAIN: (&str, &str) = ("#f4f6fb", "#5b6b8c");

impl Drawing<'_> {
    /// For a terminal: the nodes by the number of calls that come before them, with what they
    /// need.
    pub fn text(&self) -> String {
        let graph = self.graph;
        let depth = layout::depths(graph);
        let waves = depth.iter().max().map_or(0, |deepest| deepest + 1);
        let width = graph
            .ids()
            .iter()
            .map(|id| layout::columns(id.as_str()))
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        if let Some(persona) = self.persona {
            text = format!("{}\n", persona.name);
        }
        for wave in 0..waves {
            let nodes = (0..graph.len()).filter(|&node| depth[node] == wave);
            for (at, node) in nodes.enumerate() {
                let number = if at == 0 {
                    (wave + 1).to_string()
                } else {
                    String::new()
                };
                let id = graph.id(node).as_str();
                let mut line = format!("{number:>2}  {}{id}", self.mark(node));
                let told = self.told(node);
                if !told.is_empty() {
                    line += &" ".repeat(width - layout::columns(id) + 2);
                    line += &told.join("; ");
                }
                text += line.trim_end();
                text.push('\n');
            }
        }
        text
    }

    fn mark(&self, node: usize) -> String {
        self.seen(node)
            .map_or_else(String::new, |seen| format!("{} ", seen.state.mark()))
    }

    /// What the text says beside a name.
    fn told(&self, node: usize) -> Vec<String> {
        let mut told = Vec::new();
        if let Some(seen) = self.seen(node) {
            let note = seen
                .note
                .as_ref()
                .map_or_else(String::new, |note| format!(" ({note})"));
            told.push(format!("{}{note}", seen.state.words()));
        }
        if !self.graph.needs(node).is_empty() {
            told.push(format!("needs {}", self.names(self.graph.needs(node))));
        }
        if node == self.graph.result() {
            told.push("its text is the transcript".to_owned());
        }
        told
    }

    /// Names, where four or more that follow each other in the pipeline are one range.
    fn names(&self, nodes: &[usize]) -> String {
        let mut names: Vec<String> = Vec::new();
        for run in nodes.chunk_by(|a, b| a + 1 == *b) {
            match run {
                [first, .., last] if run.len() > 3 => {
                    names.push(format!("{} to {}", self.graph.id(*first), self.graph.id(*last)));
                }
                few => names.extend(few.iter().map(|&node| self.graph.id(node).to_string())),
            }
        }
        names.join(", ")
    }

    /// For Graphviz.
    pub fn dot(&self) -> String {
        let mut text = String::from("digraph pipeline {\n  rankdir=LR;\n");
        if let Some(persona) = self.persona {
            let _ = writeln!(text, "  label={};\n  labelloc=t;", dot_quoted(persona.name));
        }
        let (fill, line) = PLAIN;
        let _ = writeln!(
            text,
            "  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\", fillcolor=\"{fill}\", color=\"{line}\"];"
        );
        for (node, id) in self.graph.ids().iter().enumerate() {
            let mut attributes = Vec::new();
            if let Some(seen) = self.seen(node) {
                let (fill, line) = seen.state.colors();
                let style = if seen.state.is_dashed() {
                    "rounded,filled,dashed"
                } else {
                    "rounded,filled"
                };
                let label = dot_quoted(&format!("{id}\n{}", seen.state.words()));
                attributes.push(format!(
                    "label={label}, fillcolor=\"{fill}\", color=\"{line}\", style=\"{style}\""
                ));
                attributes.extend(
                    seen.note
                        .as_ref()
                        .map(|note| format!("tooltip={}", dot_quoted(note))),
                );
            }
            if node == self.graph.result() {
                attributes.push("penwidth=2".to_owned());
            }
            let _ = match attributes.is_empty() {
                true => writeln!(text, "  {};", dot_quoted(id.as_str())),
                false => writeln!(text, "  {} [{}];", dot_quoted(id.as_str()), attributes.join(", ")),
            };
        }
        for (from, to) in self.edges() {
            let name = |node: usize| dot_quoted(self.graph.id(node).as_str());
            let _ = writeln!(text, "  {} -> {};", name(from), name(to));
        }
        text + "}\n"
    }

    /// For Mermaid, as Markdown files on GitHub and GitLab have it.
    pub fn mermaid(&self) -> String {
        mermaid::draw(self)
    }

    /// For a browser or an image viewer: a picture that stands alone.
    pub fn svg(&self) -> String {
        svg::draw(self)
    }

    fn seen(&self, node: usize) -> Option<&Seen> {
        self.persona.map(|persona| &persona.nodes[node])
    }

    /// The states that occur.
    fn states(&self) -> Vec<State> {
        let occurs = |state: &State| {
            let nodes = self.persona.map_or(&[][..], |persona| persona.nodes);
            nodes.iter().any(|seen| seen.state == *state)
        };
        State::ALL.into_iter().filter(occurs).collect()
    }

    /// From a need to the node that uses it, in the order of the pipeline.
    fn edges(&self) -> Vec<(usize, usize)> {
        let edges = |node| self.graph.needs(node).iter().map(move |&need| (need, node));
        (0..self.graph.len()).flat_map(edges).collect()
    }
}

/// A string of DOT. Graphviz reads entities in it, so `&` is one.
fn dot_quoted(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('&', "&amp;")
        .replace('\n', "\\n")
        .replace(char::is_control, "\u{fffd}");
    format!("\"{escaped}\"")
}
