//! Real projects on a disk are run, edited and run again; what was sent must come back.

use std::fs;
use std::sync::Mutex;

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::sync::mpsc::unbounded_channel;

use super::*;
use crate::call::{Answer, Fault, Finish, Usage};
use crate::events::Outcome;
use crate::files;
use crate::graph::Graph;
use crate::names::{PersonaId, RunId};
use crate::provider::Provider;
use crate::run::{Folder, Jobs, Reserves, Services, Snapshot, Task, Times};
use crate::schedule::Settings;
use crate::store::{LocalStore, MemoryStore};

const PIPELINE: &str = r#"
[provider]
kind = "simulator"
[model]
name = "m"
max_output_tokens = 100
[prompts]
system = "prompts/system.md"
context = "prompts/persona.md"
[[node]]
id = "a"
prompt = "prompts/chunk.md"
vars = { title = "One" }
[[node]]
id = "b"
prompt = "prompts/chunk.md"
vars = { title = "Two" }
[[node]]
id = "z"
needs = ["*"]
prompt = "prompts/combine.md"
"#;

/// A project in a folder, with a store that outlives its edits.
struct Project {
    folder: TempDir,
    store: Arc<MemoryStore>,
    provider: Arc<Counting>,
    runs: u32,
}

/// Answers each call with another text, and keeps what it was asked.
#[derive(Default)]
struct Counting(Mutex<Vec<Request>>);

#[async_trait]
impl Provider for Counting {
    async fn call(&self, request: &Request, _: u32) -> Result<Answer, Fault> {
        let mut asked = self.0.lock().unwrap();
        asked.push(request.clone());
        Ok(Answer {
            text: format!("answer {}", asked.len()),
            finish: Finish::Stop,
            refusal: None,
            model: "m".into(),
            service_tier: None,
            usage: Usage::default(),
            raw_usage: serde_json::Value::Null,
            id: None,
        })
    }
}

impl Project {
    fn new() -> Self {
        let project = Self {
            folder: tempfile::tempdir().unwrap(),
            store: Arc::default(),
            provider: Arc::default(),
            runs: 0,
        };
        project.write("pipeline.toml", PIPELINE);
        project.write("prompts/system.md", "You are {% include \"prompts/who.md\" %}.\n");
        project.write("prompts/who.md", "a writer");
        project.write(
            "prompts/persona.md",
            "# {{ persona.id }}\n\n{{ persona.profile }}\n",
        );
        project.write("prompts/chunk.md", "Write \"{{ vars.title }}\".\r\n");
        project.write(
            "prompts/combine.md",
            "Join:{% for n in needs %}\n{{ n.id }}: {{ n }}{% endfor %}",
        );
        for name in ["anna", "bo"] {
            project.write(
                &format!("personas/{name}/profile.md"),
                &format!("{name} is 40.\n"),
            );
            project.write(&format!("personas/{name}/facts.toml"), "city = \"Bergen\"\n");
        }
        project
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn edit(&self, path: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.folder.path().join(path)).unwrap();
        assert!(text.contains(from));
        self.write(path, &text.replace(from, to));
    }

    /// Brings everything up to date.
    async fn run(&mut self) {
        self.runs += 1;
        let files = files::Project::open(self.folder.path()).unwrap();
        let text = files.text("pipeline.toml").unwrap();
        let config = Arc::new(config::load(&text, "pipeline.toml").unwrap());
        let templates = files.templates(&config).unwrap();
        let prompts = Prompts::compile(&config, &templates).unwrap();
        let graph = Arc::new(Graph::new(&config.nodes, &config.result));
        let personas = files.personas(&config).unwrap();
        let task = Task {
            run: format!("run-{}", self.runs).into(),
            graph: graph.clone(),
            pipeline: Some(Snapshot::pipeline(&text, &templates).into()),
            personas: personas.into_iter().map(|listed| listed.id).collect(),
            settings: Settings {
                concurrency: Some(4),
                most: crate::schedule::MOST_IN_FLIGHT,
                retry: config.retry.clone(),
                fail_fast: false,
            },
            requests_per_minute: None,
            tokens_per_minute: None,
            budget: Vec::new(),
            models: vec!["m".into(); graph.len()],
            history: Default::default(),
            times: Times::default(),
            prices: vec![None; graph.len()],
            longest_call: config.provider.timeout,
            up_to_date: Vec::new(),
            overwrite: false,
            provider: "p".into(),
            simulated: false,
            reserves: Reserves::Expected,
            fetchable: Default::default(),
            prefix: crate::config::PrefixOrder::Auto,
            seed: 1,
        };
        let services = Services {
            provider: self.provider.clone(),
            store: self.store.clone(),
            project: Arc::new(Folder::new(files, config, graph, prompts.into())),
            unix_ms: || 1,
            jobs: Jobs::Inline,
        };
        let (events, _told) = unbounded_channel();
        let (_stop, stops) = unbounded_channel();
        assert_eq!(
            crate::run::run(task, services, events, stops).await,
            Outcome::Complete
        );
    }

    /// The attempts of a run, in order.
    fn attempts(&self, run: &str) -> Vec<(u64, Sent)> {
        let run = RunId::from(run);
        let entries = self.store.entries().into_iter().zip(0..);
        let of_run = entries.filter_map(|(entry, seq)| match entry {
            Entry::Attempt(sent) if sent.run == run => Some((seq, sent)),
            _ => None,
        });
        of_run.collect()
    }

    /// Holds everything that was ever asked against what is rendered again.
    fn check_all(&self) {
        let asked = self.provider.0.lock().unwrap();
        let runs = (1..=self.runs).flat_map(|run| self.attempts(&format!("run-{run}")));
        let attempts: Vec<_> = runs.collect();
        assert_eq!(attempts.len(), asked.len());
        let mut past = Past::new(&*self.store);
        for (seq, sent) in attempts {
            let again = past.request(seq, sent.clone()).unwrap();
            let request = again
                .request
                .unwrap_or_else(|lost| panic!("{}: {lost}", sent.instance));
            assert_eq!(Key::of(&request), sent.key);
            assert!(asked.contains(&request), "{}", sent.instance);
            assert_eq!(
                again.needs.len(),
                if sent.instance.node.as_str() == "z" { 2 } else { 0 }
            );
        }
    }

    fn newest(&self, persona: &str, node: &str) -> PastRequest {
        let instance = Instance::new(persona, node);
        Past::new(&*self.store).newest(&instance).unwrap().unwrap()
    }
}

#[tokio::test]
async fn every_request_is_rendered_again_after_edits_of_each_kind_of_input() {
    let mut project = Project::new();
    project.run().await;
    project.check_all();
    let edits: [(&str, &str, &str); 9] = [
        ("prompts/chunk.md", "Write", "Tell"),
        ("prompts/who.md", "writer", "poet"),
        ("prompts/persona.md", "# ", "## "),
        ("pipeline.toml", "\"Two\"", "\"2\""),
        ("pipeline.toml", "name = \"m\"", "name = \"n\"\ntemperature = 0.5"),
        (
            "pipeline.toml",
            "kind = \"simulator\"",
            "kind = \"simulator\"\nname = \"other\"",
        ),
        ("personas/anna/profile.md", "40", "41"),
        ("personas/bo/facts.toml", "Bergen", "Oslo"),
        (
            "prompts/persona.md",
            "{{ persona.profile }}",
            "{{ persona.profile }} {{ persona.facts.city }}",
        ),
    ];
    for (path, from, to) in edits {
        project.edit(path, from, to);
        project.check_all();
        let before = project.store.entries().len();
        project.run().await;
        // A file that no template uses changes no request.
        assert_eq!(
            project.store.entries().len() > before,
            path != "personas/bo/facts.toml",
            "{path}"
        );
        project.check_all();
    }
    fs::remove_dir_all(project.folder.path().join("personas")).unwrap();
    fs::remove_dir_all(project.folder.path().join("prompts")).unwrap();
    project.check_all();
}

#[tokio::test]
async fn an_unchanged_source_is_kept_once() {
    let mut project = Project::new();
    project.run().await;
    project.edit("prompts/chunk.md", "Write", "Tell");
    project.run().await;
    project.edit("personas/anna/profile.md", "40", "41");
    project.run().await;
    let sources = project.store.entries();
    let sources = sources.iter().filter_map(|entry| match entry {
        Entry::Source {
            source: Source::Pipeline { .. },
            ..
        } => Some("pipeline"),
        Entry::Source {
            source: Source::Persona { .. },
            ..
        } => Some("persona"),
        _ => None,
    });
    let kinds: Vec<_> = sources.collect();
    assert_eq!(kinds, ["pipeline", "persona", "persona", "pipeline", "persona"]);
}

#[tokio::test]
async fn a_replaced_answer_is_still_the_one_that_was_used() {
    let mut project = Project::new();
    project.run().await;
    let first = project.newest("anna", "z");
    let texts = |past: &PastRequest| -> Vec<String> {
        let text = |need: &PastNeed| need.answer.clone().unwrap().answer.text;
        past.needs.iter().map(text).collect()
    };
    for _ in 0..3 {
        let instance = Instance::new("anna", "a");
        project.store.keep(Entry::Refresh { instance }).await.unwrap();
        project.run().await;
    }
    project.check_all();
    let now = project.newest("anna", "z");
    assert!(now.seq > first.seq);
    let again = Past::new(&*project.store)
        .request(first.seq, first.sent.clone())
        .unwrap();
    assert_eq!(texts(&again), texts(&first));
    assert_ne!(texts(&now)[0], texts(&first)[0]);
    assert_eq!(texts(&now)[1], texts(&first)[1]);
    assert_eq!(now.needs[0].node, Some("a".into()));
    // Also where an attempt was noted later than its need was replaced.
    let late = Past::new(&*project.store)
        .request(u64::MAX, first.sent.clone())
        .unwrap();
    assert_eq!(texts(&late), texts(&first));
    assert!(late.request.is_ok());
}

#[tokio::test]
async fn a_store_on_disk_remembers_the_same() {
    let mut project = Project::new();
    project.run().await;
    let instance = Instance::new("bo", "b");
    project
        .store
        .keep(Entry::Refresh {
            instance: instance.clone(),
        })
        .await
        .unwrap();
    project.run().await;
    project.edit("prompts/chunk.md", "Write", "Tell");
    project.run().await;
    let cache = tempfile::tempdir().unwrap();
    let open = || LocalStore::open(cache.path(), |_| {}).unwrap().0;
    let check = |local: &LocalStore| {
        let (mut here, mut there) = (Past::new(local), Past::new(&*project.store));
        for persona in ["anna", "bo"].map(PersonaId::from) {
            for node in ["a", "b", "z"].map(NodeId::from) {
                let instance = Instance {
                    persona: persona.clone(),
                    node,
                };
                let one = here.newest(&instance).unwrap().unwrap();
                let other = there.newest(&instance).unwrap().unwrap();
                assert_eq!(one.request, other.request);
                assert!(one.request.is_ok());
                assert_eq!((one.sent, one.needs), (other.sent, other.needs));
                assert_eq!(
                    local.calls(&instance).unwrap().len(),
                    project.store.calls(&instance).unwrap().len()
                );
            }
        }
    };
    let local = open();
    for entry in project.store.entries() {
        local.note(entry).await.unwrap();
    }
    check(&local);
    drop(local);
    let local = open();
    check(&local);
    local.close().unwrap();
    fs::remove_dir_all(cache.path().join("store")).unwrap();
    check(&open());
}

#[tokio::test]
async fn what_is_lost_is_said() {
    let mut project = Project::new();
    project.write(
        "personas/bo/facts.toml",
        &format!("# {}\n", "x".repeat(crate::store::LARGEST_SOURCE)),
    );
    project.run().await;
    assert_eq!(project.newest("bo", "a").request, Err(Lost::NotKept));
    assert_eq!(
        project.newest("bo", "a").persona_files.unwrap_err(),
        Lost::NotKept
    );
    assert!(project.newest("bo", "a").pipeline.is_ok());
    let found = project.newest("anna", "z");
    assert!(found.request.is_ok());
    let request = |change: &dyn Fn(&mut Sent)| {
        let mut sent = found.sent.clone();
        change(&mut sent);
        let past = Past::new(&*project.store).request(found.seq, sent).unwrap();
        past.request.map(drop)
    };
    assert_eq!(request(&|sent| sent.pipeline = None), Err(Lost::NotNoted));
    assert_eq!(request(&|sent| sent.persona_files = None), Err(Lost::NotNoted));
    assert_eq!(
        request(&|sent| sent.pipeline = sent.persona_files),
        Err(Lost::NotKept)
    );
    assert_eq!(request(&|sent| sent.key = Key::from([7; 32])), Err(Lost::Differs));
    assert_eq!(request(&|sent| sent.needs.truncate(1)), Err(Lost::Differs));
    assert_eq!(
        request(&|sent| sent.instance.node = "y".into()),
        Err(Lost::Differs)
    );
    assert_eq!(
        request(&|sent| sent.needs[1] = Key::from([7; 32])),
        Err(Lost::AnswerGone("b".into()))
    );
    let unreadable = Source::Pipeline {
        text: "[pipelin]".into(),
        templates: BTreeMap::new(),
    };
    let id = unreadable.id();
    let entry = Entry::Source {
        id,
        at_ms: 1,
        source: unreadable,
    };
    project.store.keep(entry).await.unwrap();
    assert!(matches!(
        request(&|sent| sent.pipeline = Some(id)),
        Err(Lost::Unreadable(_))
    ));
    assert!(
        Past::new(&*project.store)
            .newest(&Instance::new("anna", "q"))
            .unwrap()
            .is_none()
    );
}
