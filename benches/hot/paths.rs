//! What a run does for each call or persona, one piece at a time: each can be done again and again,
//! and is as much work each time. Who measures it is another's business.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use septet::call::{Answer, Delivery, Finish, Key, Request, Usage};
use septet::config::{self, Config};
use septet::graph::Graph;
use septet::limit::ModelLimits;
use septet::names::{Instance, NodeId, PersonaId};
use septet::prompt::Prompts;
use septet::run::{Folder, Project as _, Requests};
use septet::schedule::{Action, Input, Schedule, Settings};
use septet::store::{Basis, Done, Entry, LocalStore, Looked, Receipts, Record, Safety, Store as _};

/// Their names.
pub const NAMES: [&str; 9] = [
    "key",
    "render_chunk",
    "render_combine",
    "schedule_100_personas",
    "limiter",
    "store_put",
    "store_get",
    "receipts_read_100",
    "receipts_part_100",
];

/// For the receipts: so many personas are up to date.
const PERSONAS: usize = 100;

/// One of the shipped personas, and its files.
const PERSONA: &str = "blended_family_06_andre_sofia";
const PERSONA_FILES: [&str; 3] = ["facts.yaml", "profile.md", "voice.md"];

/// A piece of work, ready to be done.
pub fn ready(name: &str) -> Box<dyn FnMut()> {
    match name {
        "key" => key(),
        "render_chunk" => render(0),
        "render_combine" => render(7),
        "schedule_100_personas" => schedule(),
        "limiter" => limiter(),
        "store_put" => store_put(),
        "store_get" => store_get(),
        "receipts_read_100" => receipts(false),
        "receipts_part_100" => receipts(true),
        other => panic!("there is no `{other}`: {NAMES:?}"),
    }
}

/// The name of a chunk's request.
fn key() -> Box<dyn FnMut()> {
    let shipped = Shipped::new();
    let request = shipped.request(0);
    Box::new(move || {
        std::hint::black_box(Key::of(std::hint::black_box(&request)));
    })
}

/// A request of the shipped project, beside what its persona's requests share.
fn render(node: usize) -> Box<dyn FnMut()> {
    let shipped = Shipped::new();
    Box::new(move || {
        std::hint::black_box(shipped.request(node));
    })
}

/// The whole run of so many personas in one go, every step of the scheduler and nothing else.
fn schedule() -> Box<dyn FnMut()> {
    let shipped = Shipped::new();
    let personas: Vec<PersonaId> = (0..PERSONAS).map(|n| format!("p{n}").as_str().into()).collect();
    let settings = Settings {
        concurrency: Some(64),
        most: usize::MAX,
        retry: shipped.config.retry.clone(),
        fail_fast: false,
    };
    Box::new(move || {
        let mut schedule = Schedule::new(shipped.graph.clone(), personas.clone(), settings.clone());
        let mut inputs = std::collections::VecDeque::from([Input::Start]);
        let (mut now, mut keys) = (Duration::ZERO, 0_u64);
        loop {
            while let Some(input) = inputs.pop_front() {
                for action in schedule.on(now, input) {
                    match action {
                        Action::Open { slot, .. } => inputs.push_back(Input::Opened { slot, result: Ok(()) }),
                        Action::Render { handle } => {
                            keys += 1;
                            let mut key = [0; 32];
                            key[..8].copy_from_slice(&keys.to_le_bytes());
                            inputs.push_back(Input::Rendered {
                                handle,
                                key: key.into(),
                                prefix: None,
                            });
                        }
                        Action::Look { handle } => inputs.push_back(Input::Looked { handle, hit: false }),
                        Action::Send { handle, .. } => inputs.push_back(Input::Answered { handle }),
                        Action::Close { slot, .. } => inputs.push_back(Input::Closed { slot, failed: false }),
                        Action::End(_) => return,
                        _ => {}
                    }
                }
            }
            now += Duration::from_millis(1);
            let handle = schedule.candidate(now).expect("something is to be sent");
            inputs.push_back(Input::Granted { handle });
        }
    })
}

/// A call that is let start, and its end.
fn limiter() -> Box<dyn FnMut()> {
    let mut limits = ModelLimits::new(&["m".into()], Some(60_000), Some(60_000_000));
    let mut now = Duration::ZERO;
    Box::new(move || {
        // As fast as both limits allow.
        now += Duration::from_millis(1);
        limits.take(now, 0, 1_000).expect("it may start");
        limits.settle(now, now, 0, now, 1_000, 900);
    })
}

/// An answer of 1.5 KB, until it is written.
fn store_put() -> Box<dyn FnMut()> {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = LocalStore::open(folder.path(), |_| {}).unwrap();
    let mut number = 0;
    Box::new(move || {
        _ = &folder;
        number += 1;
        put(&store, number);
    })
}

/// An answer of 1.5 KB that is looked up, one of 2,000 in turn.
fn store_get() -> Box<dyn FnMut()> {
    const ANSWERS: u64 = 2_000;
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = LocalStore::open(folder.path(), |_| {}).unwrap();
    (0..ANSWERS).for_each(|number| put(&store, number));
    store.close().unwrap();
    let (store, _) = LocalStore::open(folder.path(), |_| {}).unwrap();
    let instance = Instance::new("p", "chunk-1");
    let (bounds, mut number) = (Delivery::default(), 0);
    Box::new(move || {
        _ = &folder;
        number = (number + 997) % ANSWERS;
        let found = store.look(&instance, &key_of(number), &bounds).unwrap();
        assert!(matches!(found, Looked::Hit(_)));
    })
}

/// The receipts of so many personas, read; or their files looked at and compared.
fn receipts(part: bool) -> Box<dyn FnMut()> {
    let mut shipped = Shipped::new();
    for n in 0..PERSONAS {
        for (name, text) in shipped.persona_files() {
            shipped.write(&format!("personas/x{n:03}/{name}"), &text);
        }
        shipped.write(&format!("transcripts/x{n:03}.md"), "Hello.\n");
    }
    let personas: Vec<PersonaId> = (0..PERSONAS)
        .map(|n| format!("x{n:03}").as_str().into())
        .collect();
    for id in &personas {
        let requests = shipped.folder.open(id).unwrap();
        shipped.folder.finished(&septet::run::Finished {
            persona: id,
            requests: &*requests,
            text: b"Hello.\n",
            saved: None,
            readmitted: false,
        });
    }
    let cache = shipped.root.path().join("cache");
    std::fs::create_dir_all(&cache).unwrap();
    // What was just written has to come to rest: looks tell nothing before.
    std::thread::sleep(Duration::from_millis(2_100));
    let basis = Basis {
        whole: "basis".to_owned(),
        nodes: Default::default(),
    };
    shipped.folder = shipped.folder.with_receipts(cache.clone(), basis.clone());
    shipped.folder.receipts().unwrap().write(&cache).unwrap();
    let read = move || Receipts::read(&cache, basis.clone());
    let known = read();
    Box::new(move || {
        // All of it, or the folder would be gone.
        _ = &shipped;
        if part {
            let parted = shipped.folder.part(&known, personas.clone());
            assert_eq!((parted.up_to_date.len(), parted.newer.len()), (PERSONAS, 0));
        } else {
            assert!(!read().is_empty());
        }
    })
}

fn key_of(number: u64) -> Key {
    Key::from(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn put(store: &LocalStore, number: u64) {
    let text = format!("Answer {number}: a sentence that is as long as others are. ").repeat(27);
    let entry = Entry::Answer(Record {
        key: key_of(number),
        instance: Instance::new("p", "chunk-1"),
        run: "20261127-000000-0000".into(),
        attempt: 1,
        at_ms: 1_795_473_015_000 + number,
        latency_ms: 12_345,
        max_output_tokens: None,
        cost: None,
        answer: Answer {
            text,
            finish: Finish::Stop,
            refusal: None,
            model: "m".to_owned(),
            service_tier: None,
            usage: Usage::default(),
            raw_usage: serde_json::Value::Null,
            id: None,
        },
    });
    let (written, told) = mpsc::channel();
    store.append(
        &[entry],
        Safety::Written,
        Done::new(move |done| _ = written.send(done.is_ok())),
    );
    assert!(told.recv().unwrap());
}

/// The shipped pipeline and its templates in a folder of their own, with one persona.
struct Shipped {
    root: tempfile::TempDir,
    config: Arc<Config>,
    graph: Arc<Graph>,
    folder: Folder,
    requests: Box<dyn Requests>,
}

impl Shipped {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR"));
        let copy = |path: &str| {
            let to = root.path().join(path);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(shipped.join(path), to).unwrap();
        };
        copy("pipeline.toml");
        for name in ["system", "persona", "chunk", "combine"] {
            copy(&format!("prompts/{name}.md"));
        }
        for name in PERSONA_FILES {
            copy(&format!("personas/{PERSONA}/{name}"));
        }
        let files = septet::files::Project::open(root.path()).unwrap();
        let config = Arc::new(config::load(&files.text("pipeline.toml").unwrap(), "pipeline.toml").unwrap());
        let prompts = Prompts::compile(&config, &files.templates(&config).unwrap()).unwrap();
        let graph = Arc::new(Graph::new(&config.nodes, &config.result));
        let folder = Folder::new(files, config.clone(), graph.clone(), prompts.into());
        let requests = folder.open(&PERSONA.into()).unwrap();
        Self {
            root,
            config,
            graph,
            folder,
            requests,
        }
    }

    fn persona_files(&self) -> impl Iterator<Item = (&'static str, String)> {
        let folder = self.root.path().join("personas").join(PERSONA);
        let read = move |name| (name, std::fs::read_to_string(folder.join(name)).unwrap());
        PERSONA_FILES.into_iter().map(read)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn request(&self, node: usize) -> Request {
        let answer = "A sentence of an answer that is as long as others are. ".repeat(28);
        let needs = self.graph.needs(node).iter().map(|&need| self.graph.id(need));
        let needs: Vec<(&NodeId, &str)> = needs.map(|id| (id, answer.as_str())).collect();
        self.requests.request(node, &needs).unwrap()
    }
}
