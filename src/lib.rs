//! septet turns a folder of personas into a folder of transcripts with a paid LLM API: nothing is
//! paid twice, nothing paid is lost, the allowed rate is used up and never exceeded.
//!
//! # The flow
//! ```text
//! pipeline.toml, personas ─► config, persona ─► graph, prompt ─► plan ─► `septet plan`
//! run/driver ─ Input: opened, rendered, looked, answered, faulted, stop ─► schedule
//! run/driver ◄ Action: open, render, look, send, close, end ────────────── schedule
//!    ├─ budget, limit: may the next call start?
//!    ├─ run/attempt ─► provider ─► store
//!    └─ Event ─► report: tally ─► terminal, lines, json
//! ```
//! A persona is opened when there is room for it. Each of its nodes is rendered to a request; the
//! request's key is looked up in the store; what is not there is called, within the limits, and
//! is durable in the store before anything that needs it goes on. When all nodes have ended, the
//! transcript is written.
//!
//! # The rows
//! A file names only modules of the rows below its own, or of its own folder; `tests/it/layers.rs`
//! reads the groups of `mod` lines here and holds every file to it. The five lowest rows are
//! values only: no I/O, no clock, no chance, nothing async, no printing.
//!
//! # Where to start reading
//! This page, then `cli/run.rs`, `run/driver.rs`, `schedule/mod.rs`, `run/attempt.rs`,
//! `events/mod.rs`. Why it has this shape is in `docs/design.md`.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::print_stderr,
        clippy::unwrap_used,
        reason = "tests reach the world and may fail loudly"
    )
)]

#[cfg(test)]
mod fuzzed;

pub mod cli;

pub mod report;
pub mod run;

pub mod files;
pub mod limit;
pub mod provider;
pub mod signals;
pub mod store;

pub mod plan;
pub mod schedule;

pub mod graph;
pub mod prompt;

pub mod config;
pub mod events;
pub mod persona;

pub mod budget;
pub mod tariff;

pub mod call;
pub mod hours;
pub mod names;
pub mod printable;
pub mod tokenizer;
pub mod wording;
