//! `septet completions`: what a shell needs to complete septet's command line.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::args::{Cli, Completions};
use crate::cli::failure::CliError;
use crate::cli::print;

/// Prints the completions of a shell.
pub fn completions(args: &Completions) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "septet", &mut script);
    print::whole(&script);
    Ok(ExitCode::SUCCESS)
}
