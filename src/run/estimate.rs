//! Tokens of a call before it is made: characters of the input over the characters a token had so
//! far, and the output that the same node had so far. Before there is experience it is careful.

use crate::call::{Request, Usage};

/// What an answer is thought to need when nothing is known and no limit is set.
const UNKNOWN_OUTPUT: f64 = 1_024.0;
/// Weight of the newest answer in the running means.
const NEWEST: f64 = 0.1;

/// What was learned from the answers of this run, by node.
#[derive(Debug)]
pub struct Estimates {
    /// Server's input tokens for each one of ours.
    input_ratio: f64,
    output: Vec<Option<f64>>,
    reserves_output_cap: bool,
}

impl Estimates {
    /// For so many nodes.
    pub fn new(nodes: usize, reserves_output_cap: bool) -> Self {
        Self {
            input_ratio: 1.0,
            output: vec![None; nodes],
            reserves_output_cap,
        }
    }

    /// The tokens to reserve for a request of this node.
    pub fn reserve(&self, node: usize, request: &Request) -> u64 {
        let input = request.estimated_input_tokens() as f64 * self.input_ratio;
        let cap = request.delivery.max_output_tokens.map(|cap| cap as f64);
        let learned = self.output[node].unwrap_or_else(|| cap.unwrap_or(UNKNOWN_OUTPUT));
        let output = match cap {
            Some(cap) if self.reserves_output_cap => cap,
            Some(cap) => learned.min(cap),
            None => learned,
        };
        (input + output).ceil() as u64
    }

    /// What the server counted of a reservation in the end.
    pub fn used(&self, reserved: u64, usage: &Usage) -> u64 {
        let used = usage.input + usage.output;
        if self.reserves_output_cap {
            used.max(reserved)
        } else {
            used
        }
    }

    /// Learns from an answer.
    pub fn learn(&mut self, node: usize, request: &Request, usage: &Usage) {
        if usage.estimated {
            return;
        }
        let ratio = usage.input as f64 / request.estimated_input_tokens() as f64;
        self.input_ratio += NEWEST * (ratio.clamp(0.1, 10.0) - self.input_ratio);
        let output = usage.output as f64;
        let mean = self.output[node].get_or_insert(output);
        *mean += NEWEST * (output - *mean);
    }
}
