//! The local store against what only another process can do to it: die at any moment, hold the
//! lock, run out of disk, be watched by strace. The other process is this test binary itself,
//! started again to run the ignored test [`child`].
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests reach the world and may fail loudly"
)]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use septet::call::{Answer, Delivery, Key};
use septet::names::Instance;
use septet::store::{Entry, LocalStore, Looked, Notice, Record, Sent, Settings, Store, StoreError};

const ROLE: &str = "SEPTET_TEST_ROLE";
const CACHE: &str = "SEPTET_TEST_CACHE";
const FIRST: &str = "SEPTET_TEST_FIRST";

/// How many times the process is killed in each of the tests that kill it; more by
/// `SEPTET_TEST_KILLS=250 cargo test --test store -- --nocapture`.
const KILLS: u64 = 30;

fn kills() -> u64 {
    env::var("SEPTET_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap())
}
/// What every other child has stored before it is killed.
const ACKED_BEFORE_A_KILL: usize = 50;

// What is stored.

fn key(n: u64) -> Key {
    Key::from(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn instance(n: u64) -> Instance {
    Instance::new(format!("persona-{n}").as_str(), "chunk-1")
}

/// A few kilobytes that are another text for each number and pack to about a half.
fn text(n: u64) -> String {
    let mut rng = fastrand::Rng::with_seed(n);
    let len = rng.usize(500..8000);
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
        .into_iter()
        .map(|byte| char::from(b'a' + byte % 16))
        .collect()
}

fn record(n: u64) -> Record {
    Record {
        key: key(n),
        instance: instance(n),
        run: "20261123-223015-4f2a".into(),
        attempt: 1,
        at_ms: n,
        latency_ms: 1,
        max_output_tokens: None,
        cost: None,
        answer: Answer {
            text: text(n),
            model: "m".to_owned(),
            ..Answer::default()
        },
    }
}

fn attempt(n: u64) -> Entry {
    Entry::Attempt(Sent {
        run: "20261123-223015-4f2a".into(),
        instance: instance(n),
        key: key(n),
        attempt: 1,
        at_ms: n,
        job: None,
        input: None,
        most_cost: None,
        max_output_tokens: None,
        reserved: None,
        pipeline: None,
        persona_files: None,
        needs: Vec::new(),
        waited_ms: None,
    })
}

fn look(store: &LocalStore, n: u64) -> Result<Looked, StoreError> {
    store.look(&instance(n), &key(n), &Delivery::default())
}

#[track_caller]
fn assert_served(store: &LocalStore, n: u64) {
    assert_eq!(
        look(store, n).unwrap(),
        Looked::Hit(Box::new(record(n))),
        "answer {n}"
    );
}

/// Small files and frequent checkpoints, so that a short life meets both.
fn busy() -> Settings {
    Settings {
        segment_bytes: 256 << 10,
        flush_every: Duration::from_millis(10),
        ..Settings::default()
    }
}

// The other process.

/// Prints one whole line, even where several tasks do.
fn say(line: &str) {
    io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Is what it is told to be; does nothing unless a test below starts it.
#[test]
#[ignore = "started by the other tests as a process of its own"]
fn child() {
    let role = env::var(ROLE).unwrap();
    let cache = env::var_os(CACHE).unwrap();
    let cache = Path::new(&cache);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    match role.as_str() {
        "append" => runtime.block_on(append(cache)),
        "append one by one" => runtime.block_on(append_one_by_one(cache)),
        "compact" => runtime.block_on(compact(cache)),
        "fill" => runtime.block_on(fill(cache)),
        "hold" => hold(cache),
        "meet damage" => meet_damage(cache),
        other => panic!("unknown role `{other}`"),
    }
}

/// Appends numbered records until it is killed, and says of each when it is stored.
async fn append(cache: &Path) {
    let first: u64 = env::var(FIRST).unwrap().parse().unwrap();
    let (store, notices) = LocalStore::open_with(cache, &busy(), |_| {}).unwrap();
    notices
        .iter()
        .for_each(|notice| say(&format!("notice: {notice}")));
    say("open");
    let store = Arc::new(store);
    let next = Arc::new(AtomicU64::new(first));
    let mut producers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        producers.spawn(produce(store.clone(), next.clone()));
    }
    producers.join_all().await;
}

async fn produce(store: Arc<LocalStore>, next: Arc<AtomicU64>) {
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        store.note(attempt(n)).await.unwrap();
        store.keep(Entry::Answer(record(n))).await.unwrap();
        say(&format!("acked {n}"));
    }
}

/// Appends some records and removes the text of every fifth, again and again.
async fn compact(cache: &Path) {
    let mut next: u64 = env::var(FIRST).unwrap().parse().unwrap();
    loop {
        let (store, _) = LocalStore::open_with(cache, &busy(), |_| {}).unwrap();
        for n in next..next + 20 {
            store.keep(Entry::Answer(record(n))).await.unwrap();
            say(&format!("acked {n}"));
        }
        next += 20;
        let answers = store.survey().unwrap().answers;
        let retire = answers.iter().filter(|held| held.at_ms % 5 == 0);
        let retire = retire.map(|held| held.seq).collect();
        say("compacting");
        let (store, _) = store.compact(&retire, &busy(), |_| {}).unwrap();
        store.close().unwrap();
    }
}

async fn append_one_by_one(cache: &Path) {
    let (store, _) = LocalStore::open(cache, |_| {}).unwrap();
    for n in 0..20 {
        store.keep(Entry::Answer(record(n))).await.unwrap();
        say(&format!("acked {n}"));
    }
    store.close().unwrap();
}

/// Appends until something fails, and says what.
async fn fill(cache: &Path) {
    let (store, _) = LocalStore::open_with(cache, &busy_in_one_file(), |_| {}).unwrap();
    for n in 0.. {
        if let Err(error) = store.keep(Entry::Answer(record(n))).await {
            say(&format!("keep failed: {error:?}"));
            break;
        }
        say(&format!("acked {n}"));
    }
    match store.keep(Entry::Answer(record(0))).await {
        Err(StoreError::Stopped) => say("stopped"),
        other => say(&format!("not stopped: {other:?}")),
    }
}

fn busy_in_one_file() -> Settings {
    Settings {
        segment_bytes: 1 << 30,
        ..busy()
    }
}

/// Holds the cache until its standard input ends.
fn hold(cache: &Path) {
    let (store, _) = LocalStore::open(cache, |_| {}).unwrap();
    say("open");
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
    store.close().unwrap();
}

/// Opens copies of a cache with different damage to sled's file, and says what was noticed.
fn meet_damage(cache: &Path) {
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..8 {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(cache, copy.path());
        let db = copy.path().join("store/0001/db");
        let mut bytes = fs::read(&db).unwrap();
        let at = rng.usize(..bytes.len());
        bytes[at] ^= 1 << rng.u32(..8);
        // And a torn page: what a power cut leaves.
        let page = rng.usize(..bytes.len()) / 4096 * 4096;
        let end = bytes.len().min(page + 4096);
        bytes[page..end].fill(0);
        fs::write(&db, bytes).unwrap();
        let (store, notices) = LocalStore::open(copy.path(), |_| {}).unwrap();
        notices
            .iter()
            .for_each(|notice| say(&format!("notice: {notice}")));
        for n in (0..DAMAGED).step_by(7) {
            if let Err(error) = look(&store, n) {
                say(&format!("look failed: {error}"));
                break;
            }
            assert_served(&store, n);
        }
        drop(store);
        let (store, _) = LocalStore::open(copy.path(), |_| {}).unwrap();
        for n in (0..DAMAGED).step_by(50) {
            assert_served(&store, n);
        }
    }
    say("all served");
}

const DAMAGED: u64 = 3000;

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        match file.file_type().unwrap().is_dir() {
            true => copy_folder(&file.path(), &target),
            false => drop(fs::copy(file.path(), target).unwrap()),
        }
    }
}

// Starting it.

fn as_child(command: &mut Command, role: &str, cache: &Path) {
    command.env(ROLE, role).env(CACHE, cache);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
}

const ARGUMENTS: [&str; 4] = ["child", "--exact", "--ignored", "--nocapture"];

fn start(role: &str, cache: &Path, first: u64) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(ARGUMENTS).env(FIRST, first.to_string());
    as_child(&mut command, role, cache);
    command.spawn().unwrap()
}

/// What a line says, without what the test harness put before it.
fn said<'a>(line: &'a str, what: &str) -> Option<&'a str> {
    line.split_once(what).map(|(_, rest)| rest)
}

/// The numbers in whole lines; the last one may have been cut off by the kill.
fn acked(output: &str) -> BTreeSet<u64> {
    let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let numbers = whole.lines().filter_map(|line| said(line, "acked "));
    numbers.map(|number| number.parse().unwrap()).collect()
}

// The tests.

#[test]
fn whatever_was_acknowledged_survives_a_kill_at_any_moment() {
    let cache = tempfile::tempdir().unwrap();
    let kills = kills();
    let mut rng = fastrand::Rng::new();
    let mut all = BTreeSet::new();
    for round in 0..kills {
        let first = round * 1_000_000;
        let mut child = start("append", cache.path(), first);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (tell, told) = mpsc::channel();
        let reader = thread::spawn(move || {
            let mut text = String::new();
            let mut told = 0;
            while output.read_line(&mut text).unwrap() > 0 {
                _ = said(&text[told..], "acked ").map(|_| tell.send(()));
                told = text.len();
            }
            text
        });
        // Every other time in the middle of its work, else at any moment, also one while it opens.
        if round % 2 == 0 {
            told.iter().take(ACKED_BEFORE_A_KILL).for_each(drop);
        }
        thread::sleep(Duration::from_millis(rng.u64(0..300)));
        child.kill().unwrap();
        child.wait().unwrap();
        let output = reader.join().unwrap();
        all.extend(acked(&output));
        check_after_kill(cache.path(), &all, round);
    }
    let (store, _) = LocalStore::open(cache.path(), |_| {}).unwrap();
    let stats = store.stats().unwrap();
    println!("{kills} kills, {} acknowledged: {stats:?}", all.len());
    assert!(
        all.len() >= kills as usize / 2 * ACKED_BEFORE_A_KILL,
        "{}",
        all.len()
    );
    assert!(stats.journal_files > 1, "{stats:?}");
    assert!(stats.answers >= all.len() as u64);
}

/// The disk takes only so much (another amount each time), so that a write of the journal or of sled
/// is refused or cut in its middle; and half of the processes are killed on top of it.
#[test]
#[cfg(unix)]
fn whatever_was_acknowledged_survives_writes_that_fail_or_are_cut() {
    let mut rng = fastrand::Rng::new();
    let (mut failed, mut killed, mut cut, mut acknowledged) = (0, 0, 0, 0);
    // Each takes seconds: a third as many in a usual run.
    let kills = if kills() == KILLS { KILLS / 3 } else { kills() };
    for round in 0..kills {
        // In one file the journal outgrows sled's file and is cut itself; in many it is sled's that is.
        let cache = tempfile::tempdir().unwrap();
        let role = if round % 2 == 0 { "fill" } else { "append" };
        let bytes = rng.u64(4_300_000..6_000_000);
        // In the blocks of 512 bytes of a POSIX shell.
        let blocks = bytes / 512;
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(script)
            .arg(env::current_exe().unwrap())
            .args(ARGUMENTS)
            .env(FIRST, (round * 1_000_000).to_string());
        as_child(&mut command, role, cache.path());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let reader = thread::spawn(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).unwrap();
            text
        });
        // Where the journal itself is cut the process ends by itself, and some are left the time that
        // it takes, however slow the disk is. Where sled is, the journal goes on until the kill.
        let patience = match round % 4 {
            0 => Duration::from_secs(300),
            _ => Duration::from_millis(rng.u64(50..4000)),
        };
        let begun = std::time::Instant::now();
        while begun.elapsed() < patience && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(5));
        }
        match child.try_wait().unwrap() {
            Some(_) => failed += 1,
            None => killed += 1,
        }
        _ = child.kill();
        child.wait().unwrap();
        let text = reader.join().unwrap();
        let acked = acked(&text);
        acknowledged += acked.len();
        if text.contains("keep failed: Io") {
            cut += 1;
        }
        check_after_kill(cache.path(), &acked, round);
    }
    println!(
        "{kills} processes on a disk that is full: {failed} ended by it ({cut} in a write of the journal), {killed} killed, {acknowledged} acknowledged",
    );
    assert!(failed > 0 && cut > 0 && acknowledged > 0);
}

/// All that was ever acknowledged is there, in the trees and in the journal.
#[track_caller]
fn check_after_kill(cache: &Path, all: &BTreeSet<u64>, round: u64) {
    let (store, notices) = LocalStore::open_with(cache, &busy(), |_| {}).unwrap();
    for notice in &notices {
        assert!(
            matches!(notice, Notice::Torn { .. } | Notice::Rebuilt { kept: false, .. }),
            "round {round}: {notice}"
        );
    }
    all.iter().for_each(|n| assert_served(&store, *n));
    let lines = store.entries().unwrap().map(|line| line.unwrap().unwrap());
    let journaled: BTreeSet<_> = lines
        .filter_map(|logged| match logged.entry {
            Entry::Answer(record) => Some(record.at_ms),
            _ => None,
        })
        .collect();
    assert!(journaled.is_superset(all), "round {round}");
    // Half of the lives before begin after a clean end, half after another crash.
    if round.is_multiple_of(2) {
        store.close().unwrap();
    }
}

#[test]
fn a_kill_in_the_middle_of_a_compaction_loses_nothing_that_was_to_be_kept() {
    let cache = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::new();
    let mut all = BTreeSet::new();
    let kills = kills() / 2;
    for round in 0..kills {
        let mut child = start("compact", cache.path(), round * 1_000_000);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        let mut told = 0;
        while output.read_line(&mut text).unwrap() > 0 {
            if said(&text[told..], "compacting").is_some() {
                break;
            }
            told = text.len();
        }
        thread::sleep(Duration::from_millis(rng.u64(0..120)));
        child.kill().unwrap();
        output.read_to_string(&mut text).unwrap();
        child.wait().unwrap();
        all.extend(acked(&text));
        check_after_compaction(cache.path(), &all, round);
    }
    println!("{kills} kills in compactions, {} acknowledged", all.len());
    assert!(all.len() as u64 >= kills * 20);
}

/// Every record is in the journal once, with its text unless it is a fifth, and served if so.
#[track_caller]
fn check_after_compaction(cache: &Path, all: &BTreeSet<u64>, round: u64) {
    let (store, notices) = LocalStore::open_with(cache, &busy(), |_| {}).unwrap();
    for notice in &notices {
        assert!(
            matches!(notice, Notice::Torn { .. } | Notice::Rebuilt { kept: false, .. }),
            "round {round}: {notice}"
        );
    }
    let mut journaled = Vec::new();
    for line in store.entries().unwrap() {
        match line.unwrap().unwrap().entry {
            Entry::Answer(record) => journaled.push(record.at_ms),
            Entry::Retired { record, .. } => {
                assert_eq!(record.at_ms % 5, 0);
                journaled.push(record.at_ms);
            }
            other => panic!("{other:?}"),
        }
    }
    let once: BTreeSet<_> = journaled.iter().copied().collect();
    assert_eq!(
        once.len(),
        journaled.len(),
        "round {round}: no entry is there twice"
    );
    assert!(once.is_superset(all), "round {round}");
    let kept = all.iter().filter(|n| *n % 5 != 0);
    kept.for_each(|n| assert_served(&store, *n));
    store.close().unwrap();
    let verified = septet::store::verify(cache, &mut |problem| panic!("round {round}: {problem}"));
    assert_eq!(verified.unwrap().answers + retired(cache), once.len() as u64);
}

fn retired(cache: &Path) -> u64 {
    let (store, _) = LocalStore::open_with(cache, &busy(), |_| {}).unwrap();
    store.survey().unwrap().retired.answers
}

#[test]
fn a_second_process_is_told_the_pid_of_the_first() {
    let cache = tempfile::tempdir().unwrap();
    let mut child = start("hold", cache.path(), 0);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("open")));
    let Err(StoreError::Held { path, holder }) = LocalStore::open(cache.path(), |_| {}) else {
        panic!("it is held");
    };
    assert_eq!(path, cache.path());
    if !cfg!(windows) {
        assert!(
            holder.starts_with(&format!("pid {}, since ", child.id())),
            "{holder}"
        );
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    LocalStore::open(cache.path(), |_| {}).unwrap();
}

#[test]
fn a_panic_of_sled_is_met_without_a_word_on_the_terminal() {
    let cache = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (store, _) = LocalStore::open(cache.path(), |_| {}).unwrap();
    runtime.block_on(async {
        for n in 0..DAMAGED {
            store.note(Entry::Answer(record(n))).await.unwrap();
        }
    });
    store.close().unwrap();
    let child = start("meet damage", cache.path(), 0);
    let output = child.wait_with_output().unwrap();
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success() && text.contains("all served"),
        "{text}{errors}"
    );
    assert!(text.contains("could not be used (panic: "), "{text}");
    assert_eq!(errors, "");
}

/// Bytes that a file may have, in this test: 6 MiB, in the blocks of 512 bytes of a POSIX shell.
#[cfg(unix)]
const FILE_LIMIT_BLOCKS: u32 = 12 << 10;

#[test]
#[cfg(unix)]
fn a_disk_without_room_ends_the_run_and_loses_nothing() {
    let cache = tempfile::tempdir().unwrap();
    // A limit on the size of files takes the place of a full disk: it needs no rights. With its
    // signal ignored, a write beyond it fails half way.
    let script = format!("trap '' XFSZ; ulimit -f {FILE_LIMIT_BLOCKS}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(script)
        .arg(env::current_exe().unwrap())
        .args(ARGUMENTS);
    as_child(&mut command, "fill", cache.path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("keep failed: Io { what: \"write\""), "{text}");
    assert!(text.contains("\nstopped\n"), "{text}");
    let acked = acked(&text);
    assert!(acked.len() > 100, "{text}");
    // There is room again.
    let (store, notices) = LocalStore::open_with(cache.path(), &busy_in_one_file(), |_| {}).unwrap();
    assert!(
        !notices.iter().any(|notice| matches!(notice, Notice::Damaged(_))),
        "{notices:?}"
    );
    acked.iter().for_each(|n| assert_served(&store, *n));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime
        .block_on(store.keep(Entry::Answer(record(999_999))))
        .unwrap();
    store.close().unwrap();
    let (store, notices) = LocalStore::open(cache.path(), |_| {}).unwrap();
    assert_eq!(notices, []);
    assert_served(&store, 999_999);
}

#[test]
#[cfg(target_os = "linux")]
fn the_kernel_is_asked_to_sync_before_anything_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, trace) = (folder.path().join("cache"), folder.path().join("trace"));
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-y",
        "-s",
        "40",
        "-e",
        "trace=write,pwrite64,fdatasync,fsync",
        "-o",
    ]);
    command
        .arg(&trace)
        .arg(env::current_exe().unwrap())
        .args(ARGUMENTS);
    as_child(&mut command, "append one by one", &cache);
    let output = match command.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && env::var_os("CI").is_none() => {
            println!("not tested: there is no strace");
            return;
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{output:?}");
    let acknowledged = check_order(&fs::read_to_string(trace).unwrap());
    assert_eq!(acknowledged, 20);
}

/// Walks through what strace saw. Returns how many acknowledgements there were.
#[cfg(target_os = "linux")]
fn check_order(trace: &str) -> usize {
    let (mut acknowledged, mut unsynced) = (0, false);
    let mut syncing = None;
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        let of_journal = call.contains("/journal/");
        if call.starts_with("write(") && of_journal {
            unsynced = true;
        } else if call.starts_with("fdatasync(") && of_journal {
            match call.contains("unfinished") {
                true => syncing = Some(thread),
                false => unsynced = !call.ends_with("= 0"),
            }
        } else if call.starts_with("<... fdatasync resumed>") && syncing == Some(thread) {
            unsynced = !call.ends_with("= 0");
            syncing = None;
        } else if call.starts_with("write(1<") && call.contains("acked ") {
            assert!(!unsynced, "{line}");
            acknowledged += 1;
        }
    }
    acknowledged
}
