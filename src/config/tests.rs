//! What every mistake in a pipeline reads like, and what a right one becomes.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// The pipeline that ships: the start of every other case.
const SHIPPED: &str = include_str!("../../pipeline.toml");

/// A whole pipeline, so that only what a case adds is wrong with it.
const NODE: &str = "[model]\nname = \"m\"\n\n[[node]]\nid = \"a\"\nprompt = \"p.md\"\n";

fn errors(text: &str) -> String {
    match load(text, "pipeline.toml") {
        Ok(config) => format!("no error: {config:?}"),
        Err(errors) => errors.to_string(),
    }
}

/// The errors of a pipeline that begins with `text`.
fn with_node(text: &str) -> String {
    errors(&format!("{text}\n{NODE}"))
}

/// The errors of a pipeline with these nodes.
fn nodes(text: &str) -> String {
    errors(&format!("model.name = \"m\"\n{text}"))
}

fn right(text: &str) -> Config {
    load(text, "pipeline.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

fn right_with_node(text: &str) -> Config {
    right(&format!("{text}\n{NODE}"))
}

macro_rules! reads {
    ($text:expr, @$expected:literal) => {
        insta::assert_snapshot!($text, @$expected);
    };
}

mod accepted;
mod checks;
mod fuzz;
mod mutated;
mod rejected;
