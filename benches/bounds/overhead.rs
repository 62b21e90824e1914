//! CPU of septet for a call without latency, beside the least that such a call costs: a bare
//! reqwest loop that sends the same bodies, and a bare store that packs, appends, syncs and
//! inserts the same records. All three in this process; the server is another one.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use septet::call::Request;
use septet::config::{self, Config};
use septet::events::Failure;
use septet::graph::Graph;
use septet::names::{NodeId, PersonaId};
use septet::prompt::Prompts;
use septet::provider::OpenAi;
use septet::run::{Folder, Jobs, Project as _, Requests, Services, Task, Times};
use septet::schedule::Settings;
use septet::store::{Entry, LocalStore};
use tokio::sync::mpsc::unbounded_channel;

use crate::project::{Project, Server};
use crate::row;

const PERSONAS: usize = 1_000;
const IN_FLIGHT: usize = 64;
/// The three are measured in turn so many times; the round with the median ratio is shown. Other
/// work on the machine meets the three of a round nearly alike.
const ROUNDS: usize = 15;

/// Measures and prints.
pub fn overhead() {
    let server = Server::start(&[]);
    let project = Project::new(PERSONAS).server(&server.url);
    let loaded = Loaded::new(&project);
    let bodies = Arc::new(loaded.bodies());
    let mut rounds = [(); ROUNDS].map(|()| {
        let cache = tempfile::tempdir().unwrap();
        let septet = cpu(|| loaded.run(cache.path()));
        let bare_http = cpu(|| post(&server.url, bodies.clone()));
        let entries = entries(cache.path());
        let folder = tempfile::tempdir().unwrap();
        let bare_store = cpu(|| keep(&entries, folder.path()));
        [septet, bare_http, bare_store]
    });
    let ratio = |[septet, bare_http, bare_store]: &[f64; 3]| septet / (bare_http + bare_store);
    rounds.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    let [least, most] = [&rounds[0], &rounds[ROUNDS - 1]].map(ratio);
    let [septet, bare_http, bare_store] = rounds[ROUNDS / 2];
    let calls = (PERSONAS * 8) as f64;
    println!(
        "CPU a call, us: septet {:.0}, bare reqwest loop {:.0}, bare store {:.0}",
        septet / calls * 1e6,
        bare_http / calls * 1e6,
        bare_store / calls * 1e6
    );
    println!("of {ROUNDS} rounds the median; least {least:.2}, most {most:.2}");
    row(
        "CPU of 8,000 calls without latency, s",
        septet,
        bare_http + bare_store,
        "<= 2.0",
    );
}

/// The project's folder, but for its transcripts: the bare loop and the bare store write none
/// either, and a file of its own for each persona (create, sync, rename) is the disk's price.
struct InMemory(Arc<Folder>);

impl septet::run::Project for InMemory {
    fn open(&self, persona: &PersonaId) -> Result<Box<dyn Requests>, Failure> {
        self.0.open(persona)
    }

    fn transcript(&self, _: &PersonaId) -> Result<Option<Vec<u8>>, Failure> {
        Ok(None)
    }

    fn write(&self, persona: &PersonaId, _: &str, _: bool) -> Result<String, Failure> {
        Ok(persona.to_string())
    }
}

/// CPU seconds of this process, all threads, that the work took.
pub fn cpu(work: impl FnOnce()) -> f64 {
    let now = || {
        let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
        (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
    };
    let before = now();
    work();
    now() - before
}

/// As `septet run` has it, for septet and for the bare loop alike.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// A project that is read.
pub struct Loaded {
    config: Arc<Config>,
    pub graph: Arc<Graph>,
    pub folder: Arc<Folder>,
    pub personas: Vec<PersonaId>,
}

impl Loaded {
    pub fn new(project: &Project) -> Self {
        let files = septet::files::Project::open(project.path()).unwrap();
        let config = Arc::new(config::load(&files.text("pipeline.toml").unwrap(), "pipeline.toml").unwrap());
        let prompts = Prompts::compile(&config, &files.templates(&config).unwrap()).unwrap();
        let graph = Arc::new(Graph::new(&config.nodes, &config.result));
        let personas = files
            .personas(&config)
            .unwrap()
            .into_iter()
            .map(|listed| listed.id)
            .collect();
        let folder = Folder::new(files, config.clone(), graph.clone(), prompts.into());
        Self {
            config,
            graph,
            folder: folder.into(),
            personas,
        }
    }

    /// The whole job, as `septet run` does it.
    fn run(&self, cache: &Path) {
        let (store, _) = LocalStore::open(cache, |_| {}).unwrap();
        let store = Arc::new(store);
        let services = Services {
            provider: Arc::new(OpenAi::new(&self.config.provider, None).unwrap()),
            store: store.clone(),
            project: Arc::new(InMemory(self.folder.clone())),
            unix_ms: || 0,
            jobs: Jobs::Threads,
        };
        let runtime = runtime();
        runtime.block_on(async {
            let (events, told) = unbounded_channel();
            let (_asks, stops) = unbounded_channel();
            let reporter = septet::report::spawn(told, Vec::new());
            let outcome = tokio::spawn(septet::run::run(self.task(), services, events, stops))
                .await
                .unwrap();
            assert_eq!(outcome, septet::events::Outcome::Complete);
            reporter.await.unwrap();
        });
        drop(runtime);
        Arc::into_inner(store).unwrap().close().unwrap();
    }

    fn task(&self) -> Task {
        Task {
            run: "bench".into(),
            graph: self.graph.clone(),
            pipeline: None,
            models: vec!["m".into(); 8],
            history: Default::default(),
            personas: self.personas.clone(),
            settings: Settings {
                concurrency: Some(IN_FLIGHT),
                most: IN_FLIGHT,
                retry: self.config.retry.clone(),
                fail_fast: false,
            },
            requests_per_minute: None,
            tokens_per_minute: None,
            budget: Vec::new(),
            times: Times::default(),
            prices: vec![None; self.graph.len()],
            longest_call: self.config.provider.timeout,
            up_to_date: Vec::new(),
            overwrite: false,
            provider: self.config.provider.name.clone(),
            simulated: false,
            reserves: septet::run::Reserves::Expected,
            fetchable: Default::default(),
            prefix: self.config.schedule.prefix,
            seed: 1,
        }
    }

    /// The bodies of all calls; the combines with texts as long as real ones.
    fn bodies(&self) -> Vec<Vec<u8>> {
        let answer = "A sentence of an answer that is as long as others are. ".repeat(28);
        let body = |request: Request| {
            let message = |m: &septet::call::Message| serde_json::json!({ "role": m.role.as_str(), "content": m.content });
            let messages: Vec<_> = request.messages.iter().map(message).collect();
            serde_json::to_vec(
                &serde_json::json!({ "model": &*request.model, "messages": messages, "max_tokens": 1000 }),
            )
            .unwrap()
        };
        let mut bodies = Vec::new();
        for persona in &self.personas {
            let requests = self.folder.open(persona).unwrap();
            for node in 0..self.graph.len() {
                let needs = self.graph.needs(node).iter().map(|&need| self.graph.id(need));
                let needs: Vec<(&NodeId, &str)> = needs.map(|id| (id, answer.as_str())).collect();
                bodies.push(body(requests.request(node, &needs).unwrap()));
            }
        }
        bodies
    }
}

/// What a run stored: a note for each call, its answer, and what little there is besides.
fn entries(cache: &Path) -> Vec<Entry> {
    let (store, _) = LocalStore::open(cache, |_| {}).unwrap();
    let entries = store.entries().unwrap();
    let entries: Vec<Entry> = entries.map(|line| line.unwrap().unwrap().entry).collect();
    let count = |is: fn(&Entry) -> bool| entries.iter().filter(|entry| is(entry)).count();
    assert_eq!(count(|entry| matches!(entry, Entry::Answer(_))), PERSONAS * 8);
    assert_eq!(count(|entry| matches!(entry, Entry::Attempt(_))), PERSONAS * 8);
    entries
}

/// The bare loop: so many tasks that post and parse.
fn post(url: &str, bodies: Arc<Vec<Vec<u8>>>) {
    let url = format!("{url}/chat/completions");
    let next = Arc::new(AtomicUsize::new(0));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    runtime().block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let (client, url, bodies, next) = (client.clone(), url.clone(), bodies.clone(), next.clone());
            tasks.spawn(async move {
                while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let request = client.post(&url).header("content-type", "application/json");
                    let answer = request
                        .body(body.clone())
                        .send()
                        .await
                        .unwrap()
                        .bytes()
                        .await
                        .unwrap();
                    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
                    assert!(answer["choices"][0]["message"]["content"].is_string());
                }
            });
        }
        tasks.join_all().await;
    });
}

/// The bare store: packed where that pays, appended with a sync for each 64 calls, inserted in sled.
fn keep(entries: &[Entry], folder: &Path) {
    let mut journal = fs::File::create(folder.join("journal")).unwrap();
    let sled = sled::Config::default()
        .path(folder.join("sled"))
        .flush_every_ms(None)
        .open()
        .unwrap();
    let (answers, others) = (
        sled.open_tree("answers").unwrap(),
        sled.open_tree("others").unwrap(),
    );
    let mut pack = zstd::bulk::Compressor::new(1).unwrap();
    let mut number = 0_u64;
    // A note and an answer for each call.
    for group in entries.chunks(IN_FLIGHT * 2) {
        let mut packed = Vec::new();
        for entry in group {
            let json = serde_json::to_vec(entry).unwrap();
            let bytes = match json.len() {
                ..512 => json,
                _ => pack.compress(&json).unwrap(),
            };
            packed.push((entry, bytes));
        }
        let frames: Vec<u8> = packed
            .iter()
            .flat_map(|(_, bytes)| bytes.iter().copied())
            .collect();
        journal.write_all(&frames).unwrap();
        journal.sync_data().unwrap();
        for (entry, bytes) in packed {
            number += 1;
            match entry {
                Entry::Answer(record) => answers.insert(record.key.as_bytes(), bytes),
                Entry::Attempt(sent) => {
                    let key = format!("{}\0{number:08}", sent.instance);
                    others.insert(key.as_bytes(), bytes)
                }
                _ => others.insert(number.to_be_bytes(), bytes),
            }
            .unwrap();
        }
    }
    sled.flush().unwrap();
}
