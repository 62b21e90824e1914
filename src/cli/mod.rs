//! The command line: arguments in, exit code out. Everything is built and wired together here.

mod args;
mod budget;
mod cache;
mod check;
mod clock;
mod completions;
mod failed;
mod failure;
mod file;
mod graph;
mod init;
mod open_files;
mod plan;
mod print;
mod project;
mod provider;
mod receipts;
mod refresh;
mod rehearse;
mod run;
mod runs;
mod selection;
mod sharing;
mod show;
mod simulate;
mod target;
mod wait;
mod watch;
mod why;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Command};
use failure::CliError;

/// Does what the command line asks and returns the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    paint(cli.color);
    match dispatch(&cli) {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}

fn dispatch(cli: &Cli) -> Result<ExitCode, CliError> {
    let directory = cli.directory.as_deref();
    match &cli.command {
        Command::Run(args) => run::run(directory, args, cli.color),
        Command::Plan(args) => plan::plan(directory, args),
        Command::Rehearse(args) => rehearse::rehearse(directory, args),
        Command::Graph(args) => graph::graph(directory, args),
        Command::Why(args) => why::why(directory, args),
        Command::Show(args) => show::show(directory, args),
        Command::Runs(args) => runs::runs(directory, args),
        Command::Check(args) => check::check(directory, args),
        Command::Cache(command) => cache::command(directory, command),
        Command::Init(args) => init::init(directory, args),
        Command::Simulate(args) => simulate::simulate(args),
        Command::Completions(args) => completions::completions(args),
    }
}

/// `--help` and `--version` are answers, everything else is a wrong command line.
fn refuse(error: &clap::Error) -> ExitCode {
    _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}

fn paint(color: args::Color) {
    let on = match color {
        args::Color::Auto => return,
        args::Color::Always => true,
        args::Color::Never => false,
    };
    console::set_colors_enabled(on);
    console::set_colors_enabled_stderr(on);
}

/// How many threads render, look up and write files at the most: tokio would start one for each call in
/// flight, and what is allocated on very many threads keeps memory from being given back (17,500 personas on
/// two cores: 228 MB with 75 threads, 197 with 8, in the same time). One of them draws.
const BLOCKING_THREADS: usize = 8;
const BLOCKING_THREADS_A_CORE: usize = 4;

/// A runtime for a command that waits: one thread, beside those for blocking work. What is to be
/// done for a call is so little that handing it from thread to thread would cost more than it.
fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.max_blocking_threads(BLOCKING_THREADS.max(BLOCKING_THREADS_A_CORE * cores));
    started(builder)
}

/// A runtime for a command that serves: a thread for each processor.
fn server_runtime() -> Result<tokio::runtime::Runtime, CliError> {
    started(tokio::runtime::Builder::new_multi_thread())
}

fn started(mut builder: tokio::runtime::Builder) -> Result<tokio::runtime::Runtime, CliError> {
    builder.enable_all().build().map_err(|error| {
        CliError::stopped(failure::Complaint::new(format!(
            "cannot start the runtime: {error}"
        )))
    })
}
