//! A rerun with nothing changed, beside a walk with one `stat` for each file, and beside ninja with
//! as many edges and files. `SEPTET_PERSONAS=125000` is a million nodes.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::child::{median, size, timed};
use crate::project::Project;
use crate::row;

const ROUNDS: usize = 5;

/// Measures and prints.
pub fn unchanged() {
    let personas = size("SEPTET_PERSONAS", 10_000);
    let project = Project::new(personas).simulator("0s");
    project.run(&["--workers", "64"]);
    let before = project.walk().1;
    let ran = project.run(&[]);
    assert_eq!(ran.figure("calls.sent"), 0.0, "nothing is called");
    assert_eq!(project.walk().1, before, "no file is written");
    drop(before);
    // Every node is rendered and looked up: at a million that takes minutes.
    let verifies = personas <= 10_000;
    // In turn, so that other work on the machine meets all alike.
    let rounds: Vec<[f64; 3]> = (0..ROUNDS)
        .map(|_| {
            let walk = timed(|| project.walk()).0;
            let verify = if verifies {
                project.time(&["run", "--verify"])
            } else {
                0.0
            };
            // `--verify` takes receipts back and writes new ones: these are looked at once more.
            project.time(&["run"]);
            [walk, project.time(&["run"]), verify]
        })
        .collect();
    let of = |of: usize| median(rounds.iter().map(|round| round[of]).collect());
    let nodes = personas * 8;
    row(
        &format!("rerun of {nodes} nodes, unchanged, s"),
        of(1),
        of(0),
        "<= 3",
    );
    if verifies {
        row(
            &format!("rerun of {nodes} nodes, unchanged, --verify, s"),
            of(2),
            of(0),
            "-",
        );
    }
    drop(project);
    match ninja(personas) {
        Some(ninja) => row(
            &format!("rerun of {nodes} nodes, beside ninja, s"),
            of(1),
            ninja,
            "<= 0.2",
        ),
        None => println!("ninja is not installed: not compared"),
    }
}

/// How long ninja takes to find that nothing is to be done for as many personas: an input each, seven
/// edges to a chunk, one to a transcript. `None` if there is no ninja.
///
/// Its rule is a generator's, so that it needs no log of earlier commands: it has one file less to read.
fn ninja(personas: usize) -> Option<f64> {
    let build = |folder: &Path| {
        let mut ninja = Command::new("ninja");
        ninja.current_dir(folder).stdin(Stdio::null());
        ninja.stdout(Stdio::null()).stderr(Stdio::null());
        ninja
    };
    build(Path::new(".")).arg("--version").status().ok()?;
    let folder = tempfile::Builder::new()
        .prefix("septet-ninja-")
        .tempdir()
        .unwrap();
    let mut rules = BufWriter::new(File::create(folder.path().join("build.ninja")).unwrap());
    rules
        .write_all(b"rule r\n command = touch $out\n generator = 1\n")
        .unwrap();
    for i in 0..personas {
        let place = format!("p{i:06}");
        fs::create_dir(folder.path().join(&place)).unwrap();
        let touch = |name: &str| drop(File::create(folder.path().join(&place).join(name)).unwrap());
        touch("profile.md");
        let mut edges = String::new();
        let mut chunks = String::new();
        for chunk in 1..=7 {
            touch(&format!("chunk-{chunk}"));
            writeln!(edges, "build {place}/chunk-{chunk}: r {place}/profile.md").unwrap();
            write!(chunks, " {place}/chunk-{chunk}").unwrap();
        }
        touch("transcript.md");
        writeln!(edges, "build {place}/transcript.md: r{chunks}").unwrap();
        rules.write_all(edges.as_bytes()).unwrap();
    }
    drop(rules);
    let times = (0..ROUNDS.min(3)).map(|_| {
        let (seconds, out) = timed(|| build(folder.path()).stdout(Stdio::piped()).output().unwrap());
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(said.contains("no work to do"), "ninja: {said}");
        seconds
    });
    Some(median(times.collect()))
}
