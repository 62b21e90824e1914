//! A part of a row that needs a process of its own: this program again, told what to do. What it
//! prints is one JSON object.

use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

/// What stands before the part's name on the command line.
const MARK: &str = "part";

/// What this process is to do, if it is such a part: the name and its arguments.
pub fn asked() -> Option<(String, Vec<String>)> {
    let mut args = std::env::args().skip(1);
    let name = (args.next()? == MARK).then(|| args.next())??;
    Some((name, args.collect()))
}

/// A part that has not been started.
pub fn command(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(MARK).arg(name).args(args).stdin(Stdio::null());
    command
}

/// Runs a part to its end and returns what it printed.
pub fn run(name: &str, args: &[&str]) -> Value {
    let out = command(name, args).stderr(Stdio::inherit()).output().unwrap();
    assert!(out.status.success(), "{name} ended with {}", out.status);
    serde_json::from_slice(&out.stdout).unwrap()
}

/// A line of `/proc/self/status`, in MB; 0 where there is none.
pub fn memory_mb(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|found| found.strip_prefix(line));
    let kb = found.and_then(|found| found.trim_start_matches(':').split_whitespace().next());
    kb.map_or(0.0, |kb| kb.parse::<f64>().unwrap() / 1e3)
}

/// How long the work took, in seconds, and what it returned.
pub fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let started = Instant::now();
    let done = work();
    (started.elapsed().as_secs_f64(), done)
}

/// The number that an environment variable says, or the usual one.
pub fn size(variable: &str, usual: usize) -> usize {
    match std::env::var(variable) {
        Ok(said) => said
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={said} is no number")),
        Err(_) => usual,
    }
}

/// The middle one of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
