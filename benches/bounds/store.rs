//! The store with many answers of 8 KB: how fast they are durable, how long it takes to open, what
//! memory and disk it takes. `SEPTET_RECORDS=1000000` is the size: 10 GB while it runs, and
//! twice that with its compaction.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use septet::call::{Answer, Key, Usage};
use septet::names::Instance;
use septet::store::{Entry, LocalStore, Record, Settings, Store as _};
use serde_json::Value;

use crate::child::{self, memory_mb, size, timed};
use crate::memory::runtime;

const PRODUCERS: usize = 64;
const BYTES: usize = 8_192;
/// So many are stored by the process that is killed.
const KILLED: u64 = 20_000;

/// Measures and prints.
pub fn store() {
    let records = size("SEPTET_RECORDS", 100_000) as u64;
    let folder = tempfile::Builder::new()
        .prefix("septet-store-")
        .tempdir()
        .unwrap();
    let path = folder.path().to_str().unwrap();
    let part = |name: &str, more: &[&str]| child::run(name, &[&[path], more].concat());
    let say = |what: &str, figure: f64, goal: &str| println!("{what:<44} {figure:>9.2}  goal {goal}");
    let figure = |told: &Value, name: &str| told[name].as_f64().unwrap();
    println!("store with {records} answers of {BYTES} bytes");

    let filled = part("store-fill", &["0", &records.to_string()]);
    say(
        "durable answers a second, 64 producers",
        figure(&filled, "per_second"),
        ">= 5,000",
    );
    say("CPU an answer, us", figure(&filled, "cpu_us"), "-");
    let opened = part("store-open", &[]);
    say("open after a bulk load, s", figure(&opened, "seconds"), "<= 2");
    say("memory after it, MB", figure(&opened, "rss_mb"), "<= 100");
    let opened = part("store-open", &[]);
    say("open after a clean end, s", figure(&opened, "seconds"), "<= 2");
    say("memory after it, MB", figure(&opened, "rss_mb"), "<= 100");
    let last = (records + KILLED).to_string();
    let killed = child::command("store-fill", &[path, &records.to_string(), &last, "kill"])
        .output()
        .unwrap();
    assert!(!killed.status.success(), "it was killed");
    let opened = part("store-open", &[]);
    say("open after kill -9, s", figure(&opened, "seconds"), "<= 10");
    say("memory after it, MB", figure(&opened, "rss_mb"), "<= 100");
    assert_eq!(figure(&opened, "answers") as u64, records + KILLED);
    let packed = packed_bytes(records + KILLED);
    let ratio = |bytes: u64| bytes as f64 / packed;
    say("disk for the packed bytes", ratio(bytes_in(folder.path())), "-");
    if std::env::var_os("SEPTET_COMPACT").is_none_or(|said| said != "no") {
        let compacted = part("store-compact", &[]);
        say("compaction, s", figure(&compacted, "seconds"), "-");
        say(
            "disk for the packed bytes after it",
            ratio(bytes_in(folder.path())),
            "<= 3",
        );
    }
}

/// Stores answers by number, durably, with so many under way; is killed at the end if it is told so.
pub fn fill(args: &[String]) {
    let (from, to): (u64, u64) = (args[1].parse().unwrap(), args[2].parse().unwrap());
    let (store, _) = LocalStore::open(args[0].as_ref(), |_| {}).unwrap();
    let store = Arc::new(store);
    let next = Arc::new(AtomicU64::new(from));
    let words = Arc::new(Words::new());
    let mut seconds = 0.0;
    let cpu = crate::overhead::cpu(|| {
        seconds = timed(|| {
            runtime().block_on(async {
                let mut producers = tokio::task::JoinSet::new();
                for _ in 0..PRODUCERS {
                    let (store, next, words) = (store.clone(), next.clone(), words.clone());
                    producers.spawn(async move {
                        loop {
                            let n = next.fetch_add(1, Ordering::Relaxed);
                            if n >= to {
                                return;
                            }
                            store.keep(words.answer(n)).await.unwrap();
                        }
                    });
                }
                producers.join_all().await;
            });
        })
        .0;
    });
    if args.len() > 3 {
        std::process::abort();
    }
    Arc::into_inner(store).unwrap().close().unwrap();
    let count = (to - from) as f64;
    println!(
        "{{\"per_second\":{},\"cpu_us\":{}}}",
        count / seconds,
        cpu / count * 1e6
    );
}

/// Opens, looks and closes.
pub fn open(args: &[String]) {
    let (seconds, (store, _)) = timed(|| LocalStore::open(args[0].as_ref(), |_| {}).unwrap());
    let rss = memory_mb("VmRSS");
    let answers = store.stats().unwrap().answers;
    store.close().unwrap();
    println!("{{\"seconds\":{seconds},\"rss_mb\":{rss},\"answers\":{answers}}}");
}

/// Writes the journal and the trees anew, with all that is in them.
pub fn compact(args: &[String]) {
    let (store, _) = LocalStore::open(args[0].as_ref(), |_| {}).unwrap();
    let (seconds, done) = timed(|| {
        store
            .compact(&HashSet::new(), &Settings::default(), |_| {})
            .unwrap()
    });
    done.0.close().unwrap();
    println!("{{\"seconds\":{seconds}}}");
}

/// What so many answers take packed, as far as a sample tells.
fn packed_bytes(records: u64) -> f64 {
    const SAMPLE: u64 = 1_000;
    let words = Words::new();
    let packed = (0..SAMPLE).map(|n| {
        let json = serde_json::to_vec(&words.answer(n)).unwrap();
        zstd::bulk::compress(&json, 1).unwrap().len() as f64
    });
    packed.sum::<f64>() / SAMPLE as f64 * records as f64
}

fn bytes_in(folder: &Path) -> u64 {
    let size = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => bytes_in(&entry.path()),
            false => entry.metadata().unwrap().len(),
        }
    };
    fs::read_dir(folder).unwrap().map(size).sum()
}

/// Words that texts are made of, which pack to a third as prose does.
struct Words(Vec<String>);

impl Words {
    fn new() -> Self {
        let mut chance = fastrand::Rng::with_seed(7);
        let word = |chance: &mut fastrand::Rng| -> String {
            (0..chance.usize(2..9)).map(|_| chance.lowercase()).collect()
        };
        Self((0..600).map(|_| word(&mut chance)).collect())
    }

    fn answer(&self, n: u64) -> Entry {
        let mut chance = fastrand::Rng::with_seed(n);
        let mut text = String::with_capacity(BYTES + 16);
        while text.len() < BYTES {
            // Some words are much more frequent than others.
            let at = (chance.f64().powi(3) * self.0.len() as f64) as usize;
            text.push_str(&self.0[at]);
            text.push(' ');
        }
        text.truncate(BYTES);
        let key = Key::from(*blake3::hash(&n.to_le_bytes()).as_bytes());
        Entry::Answer(Record {
            key,
            instance: Instance::new(
                format!("p{:06}", n / 8).as_str(),
                format!("chunk-{}", n % 8).as_str(),
            ),
            run: "20261127-000000-0000".into(),
            attempt: 1,
            at_ms: 1_795_473_015_000 + n,
            latency_ms: 12_345,
            max_output_tokens: Some(4_000),
            cost: None,
            answer: Answer {
                text,
                model: "m".to_owned(),
                usage: Usage {
                    input: 2_000,
                    output: 1_600,
                    ..Usage::default()
                },
                ..Answer::default()
            },
        })
    }
}
