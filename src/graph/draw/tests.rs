use proptest::prelude::*;

use super::layout::{Layout, lay_out};
use super::*;
use crate::graph::tests::graph;

const SEVEN_AND_ONE: &[&str] = &[
    "chunk-1",
    "chunk-2",
    "chunk-3",
    "chunk-4",
    "chunk-5",
    "chunk-6",
    "chunk-7",
    "combine: chunk-1 chunk-2 chunk-3 chunk-4 chunk-5 chunk-6 chunk-7",
];
const DIAMOND: &[&str] = &["start", "left: start", "right: start", "end: start left right"];

fn pipeline(graph: &Graph) -> Drawing<'_> {
    Drawing { graph, persona: None }
}

fn seen(state: State, note: Option<&str>) -> Seen {
    let note = note.map(str::to_owned);
    Seen { state, note }
}

/// A diamond with a node in each of four states.
fn states() -> Vec<Seen> {
    vec![
        seen(State::Cached, None),
        seen(State::Call, Some("cut off at 20 tokens; the limit is now 50")),
        seen(State::Rejected, Some("the model refused")),
        seen(State::Depends, None),
    ]
}

#[test]
fn as_text() {
    insta::assert_snapshot!(pipeline(&graph(SEVEN_AND_ONE)).text(), @r"
    1  chunk-1
       chunk-2
       chunk-3
       chunk-4
       chunk-5
       chunk-6
       chunk-7
    2  combine  needs chunk-1 to chunk-7; its text is the transcript
    ");
    let diamond = graph(DIAMOND);
    let drawing = Drawing {
        graph: &diamond,
        persona: Some(Persona {
            name: "anna",
            nodes: &states(),
        }),
    };
    insta::assert_snapshot!(drawing.text(), @r"
    anna
     1  ○ start  cached
     2  ▸ left   to be called (cut off at 20 tokens; the limit is now 50); needs start
        ! right  rejected last time, to be called (the model refused); needs start
     3  · end    depends on an answer; needs start, left, right; its text is the transcript
    ");
}

#[test]
fn as_dot() {
    let diamond = graph(DIAMOND);
    insta::assert_snapshot!(pipeline(&diamond).dot(), @r##"
    digraph pipeline {
      rankdir=LR;
      node [shape=box, style="rounded,filled", fontname="sans-serif", fillcolor="#f4f6fb", color="#5b6b8c"];
      "start";
      "left";
      "right";
      "end" [penwidth=2];
      "start" -> "left";
      "start" -> "right";
      "start" -> "end";
      "left" -> "end";
      "right" -> "end";
    }
    "##);
    let drawing = Drawing {
        graph: &diamond,
        persona: Some(Persona {
            name: "anna",
            nodes: &states(),
        }),
    };
    insta::assert_snapshot!(drawing.dot(), @r##"
    digraph pipeline {
      rankdir=LR;
      label="anna";
      labelloc=t;
      node [shape=box, style="rounded,filled", fontname="sans-serif", fillcolor="#f4f6fb", color="#5b6b8c"];
      "start" [label="start\ncached", fillcolor="#dcf3e1", color="#2c8a45", style="rounded,filled"];
      "left" [label="left\nto be called", fillcolor="#d9e8ff", color="#2b63c9", style="rounded,filled", tooltip="cut off at 20 tokens; the limit is now 50"];
      "right" [label="right\nrejected last time, to be called", fillcolor="#ffe8c7", color="#b86a00", style="rounded,filled", tooltip="the model refused"];
      "end" [label="end\ndepends on an answer", fillcolor="#f1f1f4", color="#7a7a88", style="rounded,filled,dashed", penwidth=2];
      "start" -> "left";
      "start" -> "right";
      "start" -> "end";
      "left" -> "end";
      "right" -> "end";
    }
    "##);
}

#[test]
fn as_mermaid() {
    let diamond = graph(DIAMOND);
    insta::assert_snapshot!(pipeline(&diamond).mermaid(), @r##"
    flowchart LR
      n0["start"]
      n1["left"]
      n2["right"]
      n3(["end"])
      n0 --> n1
      n0 --> n2
      n0 --> n3
      n1 --> n3
      n2 --> n3
    "##);
    let drawing = Drawing {
        graph: &diamond,
        persona: Some(Persona {
            name: "anna",
            nodes: &states(),
        }),
    };
    insta::assert_snapshot!(drawing.mermaid(), @r##"
    ---
    title: "anna"
    ---
    flowchart LR
      n0["start<br/>cached"]
      n1["left<br/>to be called"]
      n2["right<br/>rejected last time, to be called"]
      n3(["end<br/>depends on an answer"])
      n0 --> n1
      n0 --> n2
      n0 --> n3
      n1 --> n3
      n2 --> n3
      classDef cached fill:#dcf3e1,stroke:#2c8a45,color:#1d2433
      class n0 cached
      classDef tocall fill:#d9e8ff,stroke:#2b63c9,color:#1d2433
      class n1 tocall
      classDef rejected fill:#ffe8c7,stroke:#b86a00,color:#1d2433
      class n2 rejected
      classDef depends fill:#f1f1f4,stroke:#7a7a88,color:#1d2433,stroke-dasharray:4 3
      class n3 depends
    "##);
}

#[test]
fn as_svg() {
    let graph = graph(&["one", "two: one"]);
    insta::assert_snapshot!(pipeline(&graph).svg(), @r##"
    <svg xmlns="http://www.w3.org/2000/svg" width="232" height="78" viewBox="0 0 232 78" font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="13">
    <title>pipeline</title>
    <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#8a93a8"/></marker></defs>
    <rect width="100%" height="100%" fill="#ffffff"/>
    <g fill="none" stroke="#8a93a8" stroke-width="1.3">
    <path d="M80.0 39.0 C115.0 39.0 115.0 39.0 150.0 39.0" marker-end="url(#arrow)"/>
    </g>
    <g><rect x="24.0" y="24.0" width="56.0" height="30.0" rx="6" fill="#f4f6fb" stroke="#5b6b8c" stroke-width="1.3"/><text x="52.0" y="43.5" text-anchor="middle" fill="#1d2433">one</text></g>
    <g><rect x="152.0" y="24.0" width="56.0" height="30.0" rx="6" fill="#f4f6fb" stroke="#5b6b8c" stroke-width="2.5"/><text x="180.0" y="43.5" text-anchor="middle" fill="#1d2433">two</text></g>
    </svg>
    "##);
    let nodes = [
        seen(State::Cached, None),
        seen(State::Skipped, Some("why <not> & \"so\"")),
    ];
    let drawing = Drawing {
        graph: &graph,
        persona: Some(Persona {
            name: "anna",
            nodes: &nodes,
        }),
    };
    insta::assert_snapshot!(drawing.svg(), @r##"
    <svg xmlns="http://www.w3.org/2000/svg" width="269" height="146" viewBox="0 0 269 146" font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="13">
    <title>anna</title>
    <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#8a93a8"/></marker></defs>
    <rect width="100%" height="100%" fill="#ffffff"/>
    <text x="24" y="36" font-size="16" font-weight="bold" fill="#1d2433">anna</text>
    <g fill="none" stroke="#8a93a8" stroke-width="1.3">
    <path d="M94.8 76.0 C129.8 76.0 129.8 76.0 164.8 76.0" marker-end="url(#arrow)"/>
    </g>
    <g><title>cached</title><rect x="24.0" y="54.0" width="70.8" height="44.0" rx="6" fill="#dcf3e1" stroke="#2c8a45" stroke-width="1.3"/><text x="59.4" y="73.0" text-anchor="middle" fill="#1d2433">one</text><text x="59.4" y="89.0" text-anchor="middle" font-size="11" fill="#2c8a45">cached</text></g>
    <g><title>skipped: why &lt;not&gt; &amp; &quot;so&quot;</title><rect x="166.8" y="54.0" width="78.6" height="44.0" rx="6" fill="#f7f7f8" stroke="#b5b5bd" stroke-width="2.5" stroke-dasharray="4 3"/><text x="206.1" y="73.0" text-anchor="middle" fill="#1d2433">two</text><text x="206.1" y="89.0" text-anchor="middle" font-size="11" fill="#b5b5bd">skipped</text></g>
    <rect x="24.0" y="113.0" width="10" height="10" rx="2" fill="#dcf3e1" stroke="#2c8a45"/><text x="39.0" y="122.0" font-size="11" fill="#1d2433">cached</text>
    <rect x="97.2" y="113.0" width="10" height="10" rx="2" fill="#f7f7f8" stroke="#b5b5bd"/><text x="112.2" y="122.0" font-size="11" fill="#1d2433">skipped</text>
    </svg>
    "##);
}

#[test]
fn names_are_escaped_in_every_format() {
    let graph = graph(&["a\"b<c>&#;`d"]);
    let drawing = Drawing {
        graph: &graph,
        persona: Some(Persona {
            name: "x\"<y>&\\ \u{1}",
            nodes: &[seen(State::Call, None)],
        }),
    };
    insta::assert_snapshot!(drawing.dot(), @r##"
    digraph pipeline {
      rankdir=LR;
      label="x\"<y>&amp;\\ �";
      labelloc=t;
      node [shape=box, style="rounded,filled", fontname="sans-serif", fillcolor="#f4f6fb", color="#5b6b8c"];
      "a\"b<c>&amp;#;`d" [label="a\"b<c>&amp;#;`d\nto be called", fillcolor="#d9e8ff", color="#2b63c9", style="rounded,filled", penwidth=2];
    }
    "##);
    insta::assert_snapshot!(drawing.mermaid(), @r##"
    ---
    title: "x\"<y>&\\ \u0001"
    ---
    flowchart LR
      n0(["a#34;b#60;c#62;#38;#35;#59;#96;d<br/>to be called"])
      classDef tocall fill:#d9e8ff,stroke:#2b63c9,color:#1d2433
      class n0 tocall
    "##);
    let svg = drawing.svg();
    assert!(svg.contains(">a&quot;b&lt;c&gt;&amp;#;`d</text>"), "{svg}");
    assert!(svg.contains(">x&quot;&lt;y&gt;&amp;\\ ␁</text>"), "{svg}");
}

/// Each was parsed by Mermaid 11.17: the label comes back as the name, and nothing else is made of
/// it.
#[test]
fn mermaid_makes_nothing_else_of_odd_names() {
    let cases = [
        ("chunk-1", "chunk-1"),
        ("part one", "part one"),
        ("end", "end"),
        ("graph", "graph"),
        ("n0", "n0"),
        ("größe", "größe"),
        ("第一部分", "第一部分"),
        ("🌊", "#127754;"),
        ("snake_case", "snake#95;case"),
        ("v1.2", "v1#46;2"),
        // Markdown: lists, emphasis, a heading, a link.
        ("1. part", "1#46;#32;part"),
        ("- part", "#45;#32;part"),
        ("--", "#45;#45;"),
        ("_a_", "#95;a#95;"),
        ("# a", "#35;#32;a"),
        ("a@b.c", "a#64;b#46;c"),
        // Mermaid's own: text in brackets, an entity, a directive, a direction, a style, an icon.
        ("a(b)|c|", "a#40;b#41;#124;c#124;"),
        ("#34;", "#35;34#59;"),
        ("%%{init", "#37;#37;#123;init"),
        ("direction LR", "direction#32;LR"),
        ("style:#a;", "style#58;#35;a#59;"),
        ("fa:fa-car", "fa#58;fa-car"),
        ("a\"b`", "a#34;b#96;"),
    ];
    for (name, label) in cases {
        assert_eq!(mermaid::escaped(name), label, "{name}");
    }
}

#[test]
fn mermaid_has_no_words_of_its_own_for_our_classes() {
    // The keywords of its grammar; `call` once broke every picture of a persona.
    const WORDS: [&str; 13] = [
        "call",
        "class",
        "classDef",
        "click",
        "default",
        "end",
        "flowchart",
        "graph",
        "href",
        "interpolate",
        "linkStyle",
        "style",
        "subgraph",
    ];
    for state in State::ALL {
        let class = mermaid::class(state);
        assert!(!WORDS.contains(&class), "{class}");
        assert!(class.bytes().all(|byte| byte.is_ascii_lowercase()), "{class}");
    }
}

#[test]
fn a_title_is_yaml() {
    let cases = [
        ("anna", r#""anna""#),
        ("a: b # c", r#""a: b # c""#),
        ("---", r#""---""#),
        ("a\"b\\", r#""a\"b\\""#),
        ("a\u{7f}\u{85}\n", r#""a\u007f\u0085\u000a""#),
        ("große 海", r#""große 海""#),
    ];
    for (name, title) in cases {
        assert_eq!(mermaid::yaml_quoted(name), title, "{name:?}");
    }
}

/// A row of nodes, wherever they stand in the file, needs no crossing; nor does a ladder.
#[test]
fn what_can_be_drawn_without_crossings_is() {
    for lines in [
        &["a", "b", "c: b", "d: a"][..],
        &["a", "b", "c", "x: c", "y: b", "z: a", "end: x y z"],
        DIAMOND,
        SEVEN_AND_ONE,
    ] {
        let layout = lay_out(&graph(lines));
        assert_eq!(crossings(&layout), 0, "{lines:?}: {layout:?}");
    }
}

#[test]
fn a_node_stands_level_with_the_middle_of_its_needs() {
    let layout = lay_out(&graph(SEVEN_AND_ONE));
    assert_eq!(layout.columns, 2);
    assert!((layout.y[7] - 3.0).abs() < 1e-9, "{layout:?}");
    let chain = lay_out(&graph(&["a", "b: a", "c: b"]));
    assert_eq!((chain.columns, chain.height), (3, 0.0));
}

/// Points of all edges in order of columns: `(column, y)`.
fn points(layout: &Layout) -> Vec<Vec<(usize, f64)>> {
    let edge = |(from, to, lanes): &(usize, usize, Vec<f64>)| {
        let mut points = vec![(layout.column[*from], layout.y[*from])];
        let first = layout.column[*from] + 1;
        points.extend(lanes.iter().zip(first..).map(|(y, column)| (column, *y)));
        points.push((layout.column[*to], layout.y[*to]));
        points
    };
    layout.edges.iter().map(edge).collect()
}

fn crossings(layout: &Layout) -> usize {
    let mut pieces = Vec::new();
    for points in points(layout) {
        pieces.extend(points.windows(2).map(|pair| (pair[0].0, pair[0].1, pair[1].1)));
    }
    let crosses = |a: &(usize, f64, f64), b: &(usize, f64, f64)| {
        a.0 == b.0 && ((a.1 < b.1 && a.2 > b.2) || (a.1 > b.1 && a.2 < b.2))
    };
    let mut count = 0;
    for (i, a) in pieces.iter().enumerate() {
        count += pieces[i + 1..].iter().filter(|b| crosses(a, b)).count();
    }
    count
}

/// Lines of a graph of up to 30 nodes in which each may need any before it.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let needs = |node: usize| prop::collection::btree_set(0..node.max(1), 0..4.min(node + 1));
    (1..30_usize)
        .prop_flat_map(move |count| (0..count).map(needs).collect::<Vec<_>>())
        .prop_map(|all| {
            let line = |(node, needs): (usize, std::collections::BTreeSet<usize>)| {
                let needs: Vec<String> = needs
                    .iter()
                    .filter(|need| **need < node)
                    .map(|need| format!("n{need}"))
                    .collect();
                format!("n{node}: {}", needs.join(" "))
            };
            all.into_iter().enumerate().map(line).collect()
        })
}

proptest! {
    #[test]
    fn nothing_overlaps_and_no_edge_runs_through_a_box(lines in lines()) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let graph = graph(&lines);
        let layout = lay_out(&graph);
        for a in 0..graph.len() {
            for b in 0..a {
                let apart = layout.column[a] != layout.column[b] || (layout.y[a] - layout.y[b]).abs() > 0.999;
                prop_assert!(apart, "n{a} and n{b}: {layout:?}");
            }
        }
        for points in points(&layout) {
            for pair in points.windows(2) {
                prop_assert_eq!(pair[1].0, pair[0].0 + 1, "to the next column");
            }
            for (column, y) in &points[1..points.len() - 1] {
                for node in (0..graph.len()).filter(|&node| layout.column[node] == *column) {
                    prop_assert!((layout.y[node] - y).abs() > 0.599, "an edge through n{node}");
                }
            }
        }
        prop_assert!(layout.y.iter().all(|y| (0.0..=layout.height).contains(y)));
        prop_assert_eq!(lay_out(&graph), layout, "always the same");
    }
}
