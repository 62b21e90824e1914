//! The command line of `septet cache`.

use clap::{Args, Subcommand, ValueHint};

/// What is done with the cache.
#[derive(Debug, Subcommand)]
pub enum Cache {
    /// Say how much there is, by model and by age, and what `gc` could free
    Stats(Stats),
    /// List the answers that are served, in the order in which they were paid
    Ls(Ls),
    /// Check every record of the journal and of the look-up trees, and repair what can be
    Verify(Verify),
    /// Remove the text of answers that nothing of the project leads to; shows them first
    Gc(Gc),
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
    /// Put back what the journal has lost and the look-up trees still have, set aside what is damaged,
    /// and say what was saved
    #[arg(long)]
    pub repair: bool,

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

#[derive(Debug, Args)]
pub struct Gc {
    /// Remove them; without it they are only shown
    #[arg(long)]
    pub yes: bool,

    /// Earlier requests of each node of each persona whose answers are kept: an edit that is taken
    /// back costs nothing
    #[arg(long, value_name = "N", default_value_t = super::gc::EARLIER)]
    pub keep_earlier: usize,

    /// Name every answer that is free
    #[arg(short, long)]
    pub verbose: bool,

    /// Print one JSON object
    #[arg(long, conflicts_with = "verbose")]
    pub json: bool,
}
