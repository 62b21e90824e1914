//! Instructions of each hot path, counted by valgrind's callgrind, so that a regression shows on any
//! machine, however busy: `cargo bench --bench instructions`. What they are compared with stands in
//! `benches/instructions.tsv`; `-- --save` writes it anew. More than 5 % above it fails.
//!
//! Each is done so many times and twice as often, in a process of its own each: what is between the
//! two is the work itself, without what prepares it.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark reaches the world and may fail loudly"
)]

#[path = "hot/paths.rs"]
mod paths;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// What stands before a path's name and a number on the command line of a process that is counted.
const COUNTED: &str = "counted";
/// So much more than before is a regression.
const TOLERANCE: f64 = 1.05;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [mark, name, times] = &args[..]
        && mark == COUNTED
    {
        let mut work = paths::ready(name);
        (0..times.parse::<u64>().unwrap()).for_each(|_| work());
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("valgrind is not installed: nothing is counted");
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let chosen =
        |name: &&str| wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted.as_str()));
    let mut known = read();
    let (before, mut worse) = (known.clone(), false);
    println!(
        "{:<24} {:>12} {:>12} {:>7}",
        "instructions", "now", "before", "ratio"
    );
    for name in paths::NAMES.into_iter().filter(chosen) {
        let count = count(name);
        known.insert(name.to_owned(), count);
        match before.get(name) {
            Some(&before) => {
                let ratio = count as f64 / before as f64;
                worse |= ratio > TOLERANCE;
                println!("{name:<24} {count:>12} {before:>12} {ratio:>7.3}");
            }
            None => println!("{name:<24} {count:>12}"),
        }
    }
    if args.iter().any(|arg| arg == "--save") {
        let line = |(name, count): (&String, &u64)| format!("{name}\t{count}\n");
        fs::write(table(), known.iter().map(line).collect::<String>()).unwrap();
        return ExitCode::SUCCESS;
    }
    match worse {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// Instructions of doing it once.
fn count(name: &str) -> u64 {
    let times = match name {
        "schedule_100_personas" | "receipts_read_100" | "receipts_part_100" => 5,
        _ => 200,
    };
    let [once, twice] = [times, 2 * times].map(|times| total(name, times));
    twice.saturating_sub(once) / times
}

/// Instructions of a whole process that does it so many times.
fn total(name: &str, times: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    // sled spins until another thread has begun, which valgrind may otherwise never let run.
    let counted = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--fair-sched=yes"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().unwrap())
        .args([COUNTED, name, &times.to_string()])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(counted.success(), "{name} ended with {counted}");
    let text = fs::read_to_string(out).unwrap();
    let total = text.lines().find_map(|line| {
        line.strip_prefix("totals:")
            .or_else(|| line.strip_prefix("summary:"))
    });
    total.unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

fn table() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.tsv")
}

fn read() -> BTreeMap<String, u64> {
    let text = fs::read_to_string(table()).unwrap_or_default();
    let entry = |line: &str| {
        let (name, count) = line.split_once('\t')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    text.lines().filter_map(entry).collect()
}
