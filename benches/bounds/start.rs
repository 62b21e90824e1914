//! What it takes to start: `--help` and a run with nothing to do, beside an empty Rust program.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::child::{median, timed};
use crate::project::{BINARY, Project};

/// Starts of each, in turn.
const ROUNDS: usize = 101;

/// Measures and prints.
pub fn start() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("empty.rs");
    std::fs::write(&source, "fn main() {}\n").unwrap();
    let mut rustc = Command::new("rustc");
    rustc.args(["-O", "empty.rs"]).current_dir(folder.path());
    assert!(rustc.status().unwrap().success(), "rustc failed");
    let project = Project::new(8).simulator("0s");
    project.run(&[]);
    // What was just written is read once more, for it may have been written twice.
    std::thread::sleep(std::time::Duration::from_secs(3));
    project.run(&[]);
    let programs: [(&Path, &[&str]); 3] = [
        (&folder.path().join("empty"), &[]),
        (BINARY.as_ref(), &["--help"]),
        (BINARY.as_ref(), &["run"]),
    ];
    let mut took: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (program, took) in programs.iter().zip(&mut took) {
            let mut command = Command::new(program.0);
            command.args(program.1).current_dir(project.path());
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let (seconds, status) = timed(|| command.status().unwrap());
            assert!(status.success());
            took.push(seconds * 1e3);
        }
    }
    let [empty, help, run] = took.map(median);
    for (what, figure) in [
        ("septet --help", help),
        ("septet run, 8 personas up to date", run),
    ] {
        println!(
            "{what:<44} {figure:>9.3}  empty {empty:>9.3}  above {:>6.3}  goal <= 10 (ms, medians of {ROUNDS})",
            figure - empty
        );
    }
}
