//! A layout as SVG: boxes with names, curves with arrows, and what the colours mean. It stands
//! alone, with a white ground, and needs no fonts of its own.

use std::fmt::Write;

use super::layout::{self, Layout, columns};
use super::{Drawing, PLAIN, State};
use crate::printable::in_xml;

/// The width of a character of the font (0.6 em of 13 px), and the least width of a box.
const CHARACTER: f64 = 7.8;
const NARROWEST: f64 = 56.0;
/// The height of a box with a name, and with a name and a state.
const LOW: f64 = 30.0;
const HIGH: f64 = 44.0;
/// Between two boxes of a column, between two columns, and around it all.
const BETWEEN: f64 = 14.0;
const GAP: f64 = 72.0;
const MARGIN: f64 = 24.0;
const TITLE: f64 = 30.0;
const LEGEND: f64 = 24.0;
const TEXT: &str = "#1d2433";
const EDGE: &str = "#8a93a8";

/// Draws it.
pub(super) fn draw(drawing: &Drawing<'_>) -> String {
    Picture::new(drawing).draw()
}

struct Picture<'a> {
    drawing: &'a Drawing<'a>,
    layout: Layout,
    /// The left edge and the width of each column.
    columns: Vec<(f64, f64)>,
    /// The height of a box.
    tall: f64,
    top: f64,
}

impl<'a> Picture<'a> {
    fn new(drawing: &'a Drawing<'a>) -> Self {
        let layout = layout::lay_out(drawing.graph);
        let mut widths = vec![NARROWEST; layout.columns];
        for (node, id) in drawing.graph.ids().iter().enumerate() {
            let state = drawing.seen(node).map_or(0, |seen| columns(short(seen.state)));
            let text = columns(id.as_str()).max(state) as f64 * CHARACTER + 24.0;
            let width = &mut widths[layout.column[node]];
            *width = width.max(text);
        }
        let mut left = MARGIN;
        let mut edges = Vec::new();
        for width in widths {
            edges.push((left, width));
            left += width + GAP;
        }
        Self {
            columns: edges,
            tall: if drawing.persona.is_some() { HIGH } else { LOW },
            top: MARGIN + if drawing.persona.is_some() { TITLE } else { 0.0 },
            layout,
            drawing,
        }
    }

    fn draw(&self) -> String {
        let legend = self.legend();
        let right = self.columns.last().map_or(MARGIN, |(left, width)| left + width);
        let title = self.drawing.persona.map_or(0, |persona| columns(persona.name));
        let widest = right
            .max(MARGIN + title as f64 * 10.0)
            .max(legend.as_ref().map_or(0.0, |(width, _)| MARGIN + width));
        let width = widest + MARGIN;
        let height = self.bottom() + MARGIN + legend.as_ref().map_or(0.0, |_| LEGEND);
        let mut svg = String::new();
        let _ = writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"ui-monospace, Menlo, Consolas, \
             'DejaVu Sans Mono', monospace\" font-size=\"13\">"
        );
        let name = self.drawing.persona.map_or("pipeline", |persona| persona.name);
        let _ = writeln!(svg, "<title>{}</title>", in_xml(name));
        let _ = writeln!(
            svg,
            "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" \
             markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0 8 4 0 8z\" fill=\"{EDGE}\"/></marker></defs>"
        );
        let _ = writeln!(svg, "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>");
        if let Some(persona) = self.drawing.persona {
            let _ = writeln!(
                svg,
                "<text x=\"{MARGIN}\" y=\"{:.0}\" font-size=\"16\" font-weight=\"bold\" fill=\"{TEXT}\">{}</text>",
                MARGIN + 12.0,
                in_xml(persona.name)
            );
        }
        self.edges(&mut svg);
        for node in 0..self.drawing.graph.len() {
            self.node(node, &mut svg);
        }
        if let Some((_, legend)) = legend {
            svg += &legend;
        }
        svg + "</svg>\n"
    }

    /// The height of a centre.
    fn y(&self, y: f64) -> f64 {
        self.top + self.tall / 2.0 + y * (self.tall + BETWEEN)
    }

    fn bottom(&self) -> f64 {
        self.y(self.layout.height) + self.tall / 2.0
    }

    fn edges(&self, svg: &mut String) {
        let _ = writeln!(svg, "<g fill=\"none\" stroke=\"{EDGE}\" stroke-width=\"1.3\">");
        for (from, to, lanes) in &self.layout.edges {
            let (left, width) = self.columns[self.layout.column[*from]];
            let (mut x, mut y) = (left + width, self.y(self.layout.y[*from]));
            let mut path = format!("M{x:.1} {y:.1}");
            let first = self.layout.column[*from] + 1;
            for (lane, column) in lanes.iter().zip(first..) {
                let (left, width) = self.columns[column];
                curve(&mut path, (x, y), (left, self.y(*lane)));
                (x, y) = (left + width, self.y(*lane));
                let _ = write!(path, " H{x:.1}");
            }
            let end = (
                self.columns[self.layout.column[*to]].0 - 2.0,
                self.y(self.layout.y[*to]),
            );
            curve(&mut path, (x, y), end);
            let _ = writeln!(svg, "<path d=\"{path}\" marker-end=\"url(#arrow)\"/>");
        }
        svg.push_str("</g>\n");
    }

    fn node(&self, node: usize, svg: &mut String) {
        let id = self.drawing.graph.id(node).as_str();
        let (left, width) = self.columns[self.layout.column[node]];
        let y = self.y(self.layout.y[node]);
        let seen = self.drawing.seen(node);
        let (fill, line) = seen.map_or(PLAIN, |seen| seen.state.colors());
        let dashes = match seen.is_some_and(|seen| seen.state.is_dashed()) {
            true => " stroke-dasharray=\"4 3\"",
            false => "",
        };
        let thick = if node == self.drawing.graph.result() {
            2.5
        } else {
            1.3
        };
        svg.push_str("<g>");
        if let Some(seen) = seen {
            let note = seen
                .note
                .as_ref()
                .map_or_else(String::new, |note| format!(": {note}"));
            let _ = write!(svg, "<title>{}{}</title>", seen.state.words(), in_xml(&note));
        }
        let _ = write!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" rx=\"6\" fill=\"{fill}\" \
             stroke=\"{line}\" stroke-width=\"{thick}\"{dashes}/>",
            y - self.tall / 2.0,
            self.tall
        );
        let middle = left + width / 2.0;
        let up = if seen.is_some() { -3.0 } else { 4.5 };
        let _ = write!(
            svg,
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{TEXT}\">{}</text>",
            y + up,
            in_xml(id)
        );
        if let Some(seen) = seen {
            let _ = write!(
                svg,
                "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\" fill=\"{line}\">{}</text>",
                y + 13.0,
                short(seen.state)
            );
        }
        svg.push_str("</g>\n");
    }

    /// What the colours that occur mean, and how wide that is.
    fn legend(&self) -> Option<(f64, String)> {
        let states = self.drawing.states();
        let y = self.bottom() + LEGEND;
        let mut x = 0.0;
        let mut svg = String::new();
        for state in &states {
            let (fill, line) = state.colors();
            let _ = writeln!(
                svg,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" rx=\"2\" fill=\"{fill}\" stroke=\"{line}\"/>\
                 <text x=\"{:.1}\" y=\"{y:.1}\" font-size=\"11\" fill=\"{TEXT}\">{}</text>",
                MARGIN + x,
                y - 9.0,
                MARGIN + x + 15.0,
                state.words()
            );
            x += 15.0 + columns(state.words()) as f64 * 6.7 + 18.0;
        }
        (!states.is_empty()).then_some((x, svg))
    }
}

/// The state as it fits into a box.
fn short(state: State) -> &'static str {
    match state {
        State::Rejected => "rejected",
        State::Depends => "depends",
        state => state.words(),
    }
}

/// A curve that leaves and arrives level.
fn curve(path: &mut String, from: (f64, f64), to: (f64, f64)) {
    let middle = (from.0 + to.0) / 2.0;
    let _ = write!(
        path,
        " C{middle:.1} {:.1} {middle:.1} {:.1} {:.1} {:.1}",
        from.1, to.1, to.0, to.1
    );
}
