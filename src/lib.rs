//! septet turns a folder of personas into a folder of transcripts with a paid LLM API.

pub mod report;
pub mod run;

pub mod files;
pub mod provider;
pub mod store;

pub mod plan;
pub mod schedule;

pub mod graph;
pub mod prompt;

pub mod config;
pub mod events;
pub mod persona;

pub mod call;
pub mod names;
pub mod wording;
