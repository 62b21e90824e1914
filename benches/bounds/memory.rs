//! Memory of a cold run on the built-in model, beside a store alone that takes the same entries.
//! `SEPTET_PERSONAS=125000` is a million answers, and compared with 10,000 personas.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::process::{ChildStdin, Stdio};

use septet::store::{Entry, LocalStore, Safety, Store as _};
use tokio::task::JoinSet;

use crate::child;
use crate::project::Project;

/// What it is compared with: a tenth, or the 10,000.
const FEWER: usize = 10_000;

/// The most memory of both, in MB.
struct Peaks {
    run: f64,
    store: f64,
}

/// Measures and prints.
pub fn memory() {
    let personas = child::size("SEPTET_PERSONAS", 5_000);
    let few = if personas > FEWER { FEWER } else { personas / 10 };
    let [less, more] = [few, personas].map(measure);
    for (personas, peaks) in [(few, &less), (personas, &more)] {
        println!(
            "{:<44} {:>9.1}  store {:>9.1}  above {:>6.1}  goal <= 64 (MB)",
            format!("memory of a cold run, {personas} personas"),
            peaks.run,
            peaks.store,
            peaks.run - peaks.store
        );
    }
    let growth = (more.run - more.store) - (less.run - less.store);
    println!(
        "{:<44} {:>9.0}  goal <= 100",
        "growth beyond the store, bytes a persona",
        growth * 1e6 / (personas - few) as f64
    );
}

fn measure(personas: usize) -> Peaks {
    let project = Project::new(personas).simulator("0s");
    let run = project.run(&["--workers", "64"]).peak_mb();
    let folder = tempfile::tempdir().unwrap();
    let mut alone = child::command("store-alone", &[folder.path().to_str().unwrap()]);
    let mut alone = alone
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    hand_over(&project, alone.stdin.take().unwrap());
    let out = alone.wait_with_output().unwrap();
    assert!(out.status.success());
    let told: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    Peaks {
        run,
        store: told["peak_mb"].as_f64().unwrap(),
    }
}

/// Every entry that the run stored, a line each.
fn hand_over(project: &Project, stdin: ChildStdin) {
    let (store, _) = LocalStore::open(&project.path().join("cache"), |_| {}).unwrap();
    let mut out = BufWriter::new(stdin);
    for line in store.entries().unwrap() {
        serde_json::to_writer(&mut out, &line.unwrap().unwrap().entry).unwrap();
        out.write_all(b"\n").unwrap();
    }
    out.flush().unwrap();
    store.close().unwrap();
}

/// The store alone, with as many answers under way as the run had calls in flight.
pub fn store_alone(args: &[String]) {
    let (store, _) = LocalStore::open(args[0].as_ref(), |_| {}).unwrap();
    let store = std::sync::Arc::new(store);
    let lines = BufReader::new(std::io::stdin()).lines();
    runtime().block_on(async {
        let mut under_way = JoinSet::new();
        for line in lines {
            let entry: Entry = serde_json::from_str(&line.unwrap()).unwrap();
            let store = store.clone();
            match entry {
                Entry::Answer(_) => drop(under_way.spawn(async move { store.keep(entry).await.unwrap() })),
                entry => store.append(
                    &[entry],
                    Safety::Written,
                    septet::store::Done::new(|done| done.unwrap()),
                ),
            }
            if under_way.len() == 64 {
                under_way.join_next().await.unwrap().unwrap();
            }
        }
        under_way.join_all().await;
    });
    std::sync::Arc::into_inner(store).unwrap().close().unwrap();
    println!("{{\"peak_mb\":{}}}", child::memory_mb("VmHWM"));
}

/// As `septet run` has it.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
