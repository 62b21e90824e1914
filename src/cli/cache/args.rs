//! The command line of `septet cache`.

use clap::{Args, Subcommand, ValueHint};

/// What is done with the cache.
#[derive(Debug, Subcommand)]
pub enum Cache {
    /// Say how much there is, by model and by age, and what `gc` could free
    Stats(Stats),
    /// List the answers that are served, in the order in which they were paid
    Ls(Ls),
    /// Check every record of the journal and of the look-up trees
    Verify(Verify),
    /// Write all of it as lines of JSON, to move, share or keep it
    Export(Export),
    /// Take an export in; what is here already is passed over
    Import(Import),
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

#[derive(Debug, Args)]
pub struct Verify {
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Export {
    /// Where to; `-` is standard output
    #[arg(value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub file: String,
}

#[derive(Debug, Args)]
pub struct Import {
    /// Where from; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-", value_hint = ValueHint::FilePath)]
    pub file: String,

    /// Where an answer to the same request is here, keep serving it, also if it is older
    #[arg(long)]
    pub keep_existing: bool,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
