//! One of seven chunk prompts is edited: how long until the server sees the first call, and what it
//! takes to decide such a rerun, beside the hashes and look-ups that it cannot do without.
//! `SEPTET_PERSONAS=12500` is 100,000 nodes.

use std::collections::HashSet;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use septet::call::Key;
use septet::call::key::fields;
use septet::names::NodeId;
use septet::run::Project as _;
use septet::store::LocalStore;

use crate::child::{median, size};
use crate::overhead::{Loaded, cpu};
use crate::project::{BINARY, Project, Server};
use crate::row;

const ROUNDS: usize = 5;

/// Until the first call is on the wire.
pub fn edit() {
    let personas = size("SEPTET_PERSONAS", 2_000);
    let server = Server::start(&[]);
    let project = Project::new(personas).prompt_each().server(&server.url);
    project.run(&["--workers", "64"]);
    // A server that takes calls and answers none.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (arrived, arrivals) = mpsc::channel::<(Instant, TcpStream)>();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let arrived = arrived.clone();
            thread::spawn(move || {
                // The first byte of a request, not only its connection.
                if matches!(stream.peek(&mut [0]), Ok(1)) {
                    _ = arrived.send((Instant::now(), stream));
                }
            });
        }
    });
    let project = project.with(&server.url, &format!("http://{address}/v1"));
    let receipts = project.path().join("cache/receipts");
    let kept = fs::read(&receipts).unwrap();
    let took = (0..ROUNDS).map(|round| {
        project.edit(round);
        fs::write(&receipts, &kept).unwrap();
        let started = Instant::now();
        let child = spawn(&project, &["run", "--workers", "64"]);
        let (at, _first) = arrivals
            .recv_timeout(Duration::from_secs(300))
            .expect("no call came");
        end(child);
        while arrivals.try_recv().is_ok() {}
        (at - started).as_secs_f64()
    });
    let took = median(took.collect());
    println!(
        "{:<44} {took:>9.3}  goal <= 1 (median of {ROUNDS})",
        format!("a prompt edited, {personas} personas: first call, s")
    );
}

fn spawn(project: &Project, args: &[&str]) -> Child {
    let mut septet = Command::new(BINARY);
    septet.args(args).current_dir(project.path()).stdin(Stdio::null());
    septet.stdout(Stdio::null()).stderr(Stdio::null());
    septet.spawn().unwrap()
}

/// Ends a run as a person does who is in a hurry: the second Ctrl+C gives up what is in flight.
fn end(mut child: Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    for _ in 0..2 {
        kill(pid, Signal::SIGINT).unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    child.wait().unwrap();
}

/// CPU of deciding all nodes, beside their hashes and look-ups.
pub fn decide() {
    let personas = size("SEPTET_PERSONAS", 2_000);
    let project = Project::new(personas).prompt_each().simulator("0s");
    project.run(&["--workers", "64"]);
    let unchanged = wanted(&project);
    let bound = |wanted: &[(Vec<u8>, Key)], found: usize| {
        median((0..3).map(|_| least(&project, wanted, found)).collect())
    };
    let verify = median((0..3).map(|_| project.run(&["--verify"]).cpu()).collect());
    let nodes = unchanged.len();
    row(
        &format!("CPU to decide {nodes} nodes, unchanged, s"),
        verify,
        bound(&unchanged, nodes),
        "<= 2",
    );
    let before: HashSet<Key> = unchanged.into_iter().map(|(_, key)| key).collect();
    project.edit(0);
    let mut edited = wanted(&project);
    let plan = median((0..3).map(|_| project.json("plan", &[]).cpu()).collect());
    row(
        &format!("CPU to plan {} nodes, one in seven edited, s", edited.len()),
        plan,
        bound(&edited, 6 * personas),
        "<= 2",
    );
    // Only what is new has to be rendered, hashed and looked up.
    edited.retain(|(_, key)| !before.contains(key));
    assert_eq!(edited.len(), personas);
    row(
        &format!("the same beside the {personas} edited alone, s"),
        plan,
        bound(&edited, 0),
        "<= 2",
    );
}

/// What the keys are hashed from, and the keys, of all nodes that can be rendered.
fn wanted(project: &Project) -> Vec<(Vec<u8>, Key)> {
    let loaded = Loaded::new(project);
    let (store, _) = LocalStore::open(&project.path().join("cache"), |_| {}).unwrap();
    let mut wanted = Vec::new();
    for persona in &loaded.personas {
        let requests = loaded.folder.open(persona).unwrap();
        let mut answers: Vec<Option<String>> = Vec::new();
        for node in 0..loaded.graph.len() {
            let needs = loaded.graph.needs(node).iter();
            let needs: Option<Vec<(&NodeId, &str)>> = needs
                .map(|&need| Some((loaded.graph.id(need), answers[need].as_deref()?)))
                .collect();
            let Some(needs) = needs else { continue };
            let request = requests.request(node, &needs).unwrap();
            let key = Key::of(&request);
            let mut bytes = Vec::new();
            fields(&request, |name, value| {
                bytes.extend_from_slice(name.as_bytes());
                bytes.extend_from_slice(value);
            });
            answers.push(store.stored(&key).unwrap().map(|record| record.answer.text));
            wanted.push((bytes, key));
        }
    }
    store.close().unwrap();
    wanted
}

/// CPU seconds of blake3 over the same bytes and sled's `get` of the same keys, with the settings that
/// septet has. So many of them are there.
fn least(project: &Project, wanted: &[(Vec<u8>, Key)], are_there: usize) -> f64 {
    let trees = fs::read_dir(project.path().join("cache/store")).unwrap();
    let newest = trees
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir());
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&newest.max().unwrap(), copy.path());
    let sled = sled::Config::default()
        .path(copy.path())
        .cache_capacity(64 << 20)
        .segment_size(4 << 20)
        .flush_every_ms(None)
        .open()
        .unwrap();
    let answers = sled.open_tree("answers-v1").unwrap();
    let mut found = 0;
    let seconds = cpu(|| {
        for (bytes, key) in wanted {
            std::hint::black_box(blake3::hash(bytes));
            found += usize::from(answers.get(key.as_bytes()).unwrap().is_some());
        }
    });
    assert_eq!(found, are_there, "of {}", wanted.len());
    seconds
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => {
                fs::create_dir_all(&to).unwrap();
                copy_folder(&entry.path(), &to);
            }
            false => _ = fs::copy(entry.path(), to).unwrap(),
        }
    }
}
