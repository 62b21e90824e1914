//! Where nodes lie in a picture: a column for each number of calls that come before (the layers of
//! Sugiyama's method), in each column an order with few crossings, and heights near those of the
//! neighbours. Edges that skip columns get a lane of their own there, so that none runs through a
//! box. It knows neither states nor SVG.

use crate::graph::Graph;

/// How often the order of the columns is looked over; more never changed a picture of 30 nodes.
const SWEEPS: usize = 12;

/// The smallest distance between the centres of two boxes of a column, in the unit of [`Layout::y`].
const BOX: f64 = 1.0;
/// The same next to a lane, which is only a line.
const LANE: f64 = 0.6;

/// The place of everything. Columns are counted from the left; `y` is the height of a centre,
/// where 1 is the least distance of two boxes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    /// The column of each node.
    pub(super) column: Vec<usize>,
    /// The height of each node.
    pub(super) y: Vec<f64>,
    /// Each edge: from, to, and the heights of its lanes in the columns between.
    pub(super) edges: Vec<(usize, usize, Vec<f64>)>,
    /// How many columns there are.
    pub(super) columns: usize,
    /// The largest height; the smallest is 0.
    pub(super) height: f64,
}

/// How many calls, one after the other, come before each node.
pub(super) fn depths(graph: &Graph) -> Vec<usize> {
    let mut depths = vec![0; graph.len()];
    for node in graph.order() {
        let before = graph.needs(node).iter().map(|&need| depths[need] + 1);
        depths[node] = before.max().unwrap_or(0);
    }
    depths
}

/// The columns that a text takes in a font of one width: wide characters take two.
pub(super) fn columns(text: &str) -> usize {
    text.chars()
        .map(|c| if u32::from(c) < 0x1100 { 1 } else { 2 })
        .sum()
}

/// Lays the graph out.
pub(super) fn lay_out(graph: &Graph) -> Layout {
    let column = depths(graph);
    let mut columns = Columns::new(graph, &column);
    columns.reduce_crossings();
    let mut y = columns.heights();
    let lowest = y.iter().copied().fold(f64::INFINITY, f64::min);
    y.iter_mut().for_each(|y| *y -= lowest);
    let edges = columns.lanes.iter().map(|(from, to, lanes)| {
        let lanes = lanes.iter().map(|&lane| y[lane]).collect();
        (*from, *to, lanes)
    });
    Layout {
        edges: edges.collect(),
        columns: columns.order.len(),
        height: y.iter().copied().fold(0.0, f64::max),
        y: y[..graph.len()].to_vec(),
        column,
    }
}

/// Nodes and lanes (numbered after the nodes) in columns; neighbours are one column apart.
struct Columns {
    order: Vec<Vec<usize>>,
    left: Vec<Vec<usize>>,
    right: Vec<Vec<usize>>,
    nodes: usize,
    lanes: Vec<(usize, usize, Vec<usize>)>,
}

impl Columns {
    fn new(graph: &Graph, column: &[usize]) -> Self {
        let nodes = graph.len();
        let mut this = Self {
            order: vec![Vec::new(); column.iter().max().map_or(0, |last| last + 1)],
            left: vec![Vec::new(); nodes],
            right: vec![Vec::new(); nodes],
            nodes,
            lanes: Vec::new(),
        };
        for (node, &at) in column.iter().enumerate() {
            this.order[at].push(node);
        }
        for node in 0..nodes {
            for &need in graph.needs(node) {
                let mut lanes = Vec::new();
                let mut last = need;
                for at in column[need] + 1..column[node] {
                    let lane = this.left.len();
                    this.left.push(Vec::new());
                    this.right.push(Vec::new());
                    this.order[at].push(lane);
                    this.join(last, lane);
                    lanes.push(lane);
                    last = lane;
                }
                this.join(last, node);
                this.lanes.push((need, node, lanes));
            }
        }
        this
    }

    fn join(&mut self, left: usize, right: usize) {
        self.right[left].push(right);
        self.left[right].push(left);
    }

    /// Sorts each column by the mean place of the neighbours, from the left and from the right in
    /// turn, and keeps the best. Ties stay as they are: the order of the pipeline.
    fn reduce_crossings(&mut self) {
        let mut best = (self.crossings(), self.order.clone());
        for sweep in 0..SWEEPS {
            let count = self.order.len();
            for step in 1..count {
                let (at, from) = match sweep % 2 {
                    0 => (step, step - 1),
                    _ => (count - 1 - step, count - step),
                };
                self.sort(at, from);
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.order.clone());
            }
        }
        self.order = best.1;
    }

    fn sort(&mut self, at: usize, from: usize) {
        let mut place = vec![0.0; self.left.len()];
        for (index, &other) in self.order[from].iter().enumerate() {
            place[other] = index as f64;
        }
        let neighbours = if from < at { &self.left } else { &self.right };
        let mut keyed: Vec<(f64, usize)> = self.order[at]
            .iter()
            .enumerate()
            .map(|(index, &node)| {
                let theirs: Vec<f64> = neighbours[node].iter().map(|&other| place[other]).collect();
                (mean(&theirs).unwrap_or(index as f64), node)
            })
            .collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.order[at] = keyed.into_iter().map(|(_, node)| node).collect();
    }

    fn crossings(&self) -> usize {
        let mut place = vec![0; self.left.len()];
        for column in &self.order {
            for (index, &node) in column.iter().enumerate() {
                place[node] = index;
            }
        }
        let between = |column: &Vec<usize>| {
            let edges: Vec<(usize, usize)> = column
                .iter()
                .flat_map(|&from| self.right[from].iter().map(move |&to| (from, to)))
                .map(|(from, to)| (place[from], place[to]))
                .collect();
            let mut crossings = 0;
            for (i, a) in edges.iter().enumerate() {
                let crosses = |b: &&(usize, usize)| (a.0 < b.0 && a.1 > b.1) || (a.0 > b.0 && a.1 < b.1);
                crossings += edges[i + 1..].iter().filter(crosses).count();
            }
            crossings
        };
        self.order.iter().map(between).sum()
    }

    /// Heights near the mean of the neighbours', with the distances kept.
    fn heights(&self) -> Vec<f64> {
        let mut y = vec![0.0; self.left.len()];
        for column in &self.order {
            let wanted = vec![0.0; column.len()];
            self.place(column, &wanted, &mut y);
        }
        for sweep in 0..SWEEPS {
            let columns: Box<dyn Iterator<Item = &Vec<usize>>> = match sweep % 2 {
                0 => Box::new(self.order.iter()),
                _ => Box::new(self.order.iter().rev()),
            };
            for column in columns {
                let wanted: Vec<f64> = column
                    .iter()
                    .map(|&node| {
                        let around = self.left[node].iter().chain(&self.right[node]);
                        let around: Vec<f64> = around.map(|&other| y[other]).collect();
                        mean(&around).unwrap_or(y[node])
                    })
                    .collect();
                self.place(column, &wanted, &mut y);
            }
        }
        y
    }

    /// Places a column as near to what is wanted as the distances allow (least squares): with the
    /// distances taken out it is a sequence that may not fall, and blocks that would are merged.
    fn place(&self, column: &[usize], wanted: &[f64], y: &mut [f64]) {
        let mut offset = Vec::with_capacity(column.len());
        let mut reach = 0.0;
        for (index, &node) in column.iter().enumerate() {
            if index > 0 {
                reach += self.distance(column[index - 1], node);
            }
            offset.push(reach);
        }
        let mut blocks: Vec<(f64, usize)> = Vec::new();
        for (wanted, offset) in wanted.iter().zip(&offset) {
            let mut block = (wanted - offset, 1);
            while let Some(&(value, size)) = blocks.last().filter(|(value, _)| *value >= block.0) {
                blocks.pop();
                let both = size + block.1;
                block = (
                    (value * size as f64 + block.0 * block.1 as f64) / both as f64,
                    both,
                );
            }
            blocks.push(block);
        }
        let values = blocks
            .iter()
            .flat_map(|&(value, size)| std::iter::repeat_n(value, size));
        for ((&node, offset), value) in column.iter().zip(offset).zip(values) {
            y[node] = value + offset;
        }
    }

    fn distance(&self, a: usize, b: usize) -> f64 {
        if a < self.nodes && b < self.nodes {
            BOX
        } else {
            LANE
        }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
