//! The command line of `septet cache`.

use clap::{Args, Subcommand};

/// What is done with the cache.
#[derive(Debug, Subcommand)]
pub enum Cache {
    /// Say how much there is, by model and by age, and what `gc` could free
    Stats(Stats),
    /// List the answers that are served, in the order in which they were paid
    Ls(Ls),
}

#[derive(Debug, Args)]
pub struct Stats {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Ls {
    /// Only answers of PERSONA/NODE, or of all nodes of PERSONA
    #[arg(value_name = "GLOB")]
    pub globs: Vec<String>,

    /// List the rejected answers instead, and why they were
    #[arg(long)]
    pub rejected: bool,

    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}
