//! The small world against which the scheduler is played: a store, a provider with a prompt cache,
//! and a clock that only counts. What it does of its own accord is set by its fields.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::call::{Fault, FaultKind, Key, Prefix, Rejection};
use crate::config::Retry;
use crate::events::{NodeStatus, Outcome};
use crate::graph::Graph;
use crate::graph::tests::graph;
use crate::names::PersonaId;
use crate::schedule::{Action, Halt, Handle, Input, Schedule, Settings, SharedPrefix};

pub fn settings(concurrency: usize) -> Settings {
    let retry = Retry {
        attempts: 6,
        base: Duration::from_secs(1),
        max: Duration::from_secs(60),
        rejected: 2,
    };
    Settings {
        concurrency: Some(concurrency),
        most: super::MOST_IN_FLIGHT,
        retry,
        fail_fast: false,
    }
}

pub fn personas(count: usize) -> Vec<PersonaId> {
    (0..count).map(|i| format!("p{i:03}").into()).collect()
}

pub type KeyOf = Box<dyn Fn(&str, usize) -> String>;
pub type PrefixOf = Box<dyn Fn(&str, usize) -> Option<u128>>;
pub type AnswerTo = Box<dyn FnMut(&str, usize, usize) -> Reply>;
pub type LatencyOf = Box<dyn FnMut(&str, usize) -> Duration>;

/// A world in which every persona can be read and calls take a second. What is special about it
/// is set by its fields.
pub struct World {
    pub schedule: Schedule,
    pub graph: Arc<Graph>,
    pub now: Duration,
    pub names: BTreeMap<usize, String>,
    /// Calls that come back at a time.
    pub calls: BTreeSet<(Duration, Handle)>,
    /// What the store holds.
    pub stored: BTreeSet<Key>,
    pub keys: BTreeMap<Handle, Key>,
    /// Gives the key of a node; by default each has its own.
    pub key: KeyOf,
    /// Gives the prefix of a node; by default none.
    pub prefix: PrefixOf,
    pub lifetime: Duration,
    /// Until when the provider keeps a prefix.
    pub kept: BTreeMap<Prefix, Duration>,
    /// The prefix of each rendered node, and when its call was sent.
    pub prefixes: BTreeMap<Handle, (Prefix, Duration)>,
    /// Calls that found their prefix kept.
    pub reads: usize,
    /// How a call ends: persona, node, the how-manieth call of the run.
    pub answer: AnswerTo,
    pub latency: LatencyOf,
    pub log: Vec<String>,
    pub sent: Vec<String>,
    pub waves: Vec<usize>,
    pub finished: BTreeMap<String, NodeStatus>,
    pub most_in_flight: usize,
    pub most_open: usize,
    pub end: Option<Halt>,
}

#[derive(Clone, Debug)]
pub enum Reply {
    Good,
    Bad(Rejection),
    Fault(FaultKind, Option<u64>),
}

impl World {
    pub fn new(lines: &[&str], count: usize, settings: Settings) -> Self {
        let graph = Arc::new(graph(lines));
        Self {
            schedule: Schedule::new(graph.clone(), personas(count), settings),
            graph,
            now: Duration::ZERO,
            names: BTreeMap::new(),
            calls: BTreeSet::new(),
            stored: BTreeSet::new(),
            keys: BTreeMap::new(),
            key: Box::new(|persona, node| format!("{persona}/{node}")),
            prefix: Box::new(|_, _| None),
            lifetime: Duration::from_secs(1_800),
            kept: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            reads: 0,
            answer: Box::new(|_, _, _| Reply::Good),
            latency: Box::new(|_, _| Duration::from_secs(1)),
            log: Vec::new(),
            sent: Vec::new(),
            waves: Vec::new(),
            finished: BTreeMap::new(),
            most_in_flight: 0,
            most_open: 0,
            end: None,
        }
    }

    pub fn name(&self, handle: Handle) -> String {
        format!("{}/{}", self.names[&handle.slot], self.graph.id(handle.node))
    }

    pub fn give(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            assert!(self.end.is_none(), "nothing comes after the end");
            for action in self.schedule.on(self.now, input) {
                self.act(action, &mut inputs);
            }
        }
    }

    fn act(&mut self, action: Action, inputs: &mut VecDeque<Input>) {
        match action {
            Action::Open { slot, persona } => {
                self.names.insert(slot, persona.to_string());
                self.most_open = self.most_open.max(self.names.len());
                inputs.push_back(Input::Opened { slot, result: Ok(()) });
            }
            Action::Render { handle } => {
                let key = (self.key)(&self.names[&handle.slot], handle.node);
                let key = Key::from(*blake3::hash(key.as_bytes()).as_bytes());
                self.keys.insert(handle, key);
                let prefix = (self.prefix)(&self.names[&handle.slot], handle.node).map(|id| SharedPrefix {
                    id: id.into(),
                    lifetime: self.lifetime,
                });
                self.prefixes.remove(&handle);
                self.prefixes
                    .extend(prefix.map(|prefix| (handle, (prefix.id, Duration::ZERO))));
                inputs.push_back(Input::Rendered { handle, key, prefix });
            }
            Action::Look { handle } => {
                let hit = self.stored.contains(&self.keys[&handle]);
                inputs.push_back(Input::Looked { handle, hit });
            }
            Action::Send { handle, .. } => {
                self.sent.push(self.name(handle));
                self.look_at_prefix(handle);
                let latency = (self.latency)(&self.names[&handle.slot], handle.node);
                self.calls.insert((self.now + latency, handle));
                self.most_in_flight = self.most_in_flight.max(self.calls.len());
            }
            Action::Finish { handle, status, .. } => {
                let twice = self.finished.insert(self.name(handle), status);
                assert_eq!(twice, None, "{} ends once", self.name(handle));
            }
            Action::Close { slot, failure } => {
                self.names.remove(&slot);
                inputs.push_back(Input::Closed {
                    slot,
                    failed: failure.is_some(),
                });
            }
            Action::Abandon => {
                for (_, handle) in std::mem::take(&mut self.calls) {
                    inputs.push_back(Input::Abandoned { handle });
                }
            }
            Action::End(halt) => self.end = Some(halt),
            told => self.log.push(format!("{}s {told:?}", self.now.as_secs())),
        }
    }

    /// What must hold of every call that is sent: the provider keeps its prefix, or none that was
    /// sent since it was last kept is on its way.
    fn look_at_prefix(&mut self, handle: Handle) {
        let Some((prefix, at)) = self.prefixes.get_mut(&handle) else {
            return;
        };
        *at = self.now;
        let prefix = *prefix;
        let until = self.kept.get(&prefix).copied().unwrap_or_default();
        if self.now < until {
            self.reads += 1;
            return;
        }
        let beside = |(_, other): &&(Duration, Handle)| {
            let (same, at) = self.prefixes.get(other).copied().unwrap_or((0.into(), until));
            *other != handle && same == prefix && at >= until
        };
        let other = self.calls.iter().find(beside);
        assert_eq!(other, None, "{} is sent beside its leader", self.name(handle));
    }

    /// From now on the provider keeps a prefix.
    fn keep(&mut self, handle: Handle) {
        if let Some((prefix, _)) = self.prefixes.get(&handle) {
            self.kept.insert(*prefix, self.now + self.lifetime);
        }
    }

    pub fn send(&mut self) {
        let mut wave = 0;
        while let Some(handle) = self.schedule.candidate(self.now) {
            self.give(Input::Granted { handle });
            wave += 1;
        }
        self.waves.extend((wave > 0).then_some(wave));
    }

    /// One step: the next call comes back, or the next pause ends.
    pub fn step(&mut self) {
        let wake = self.schedule.wake_at(self.now);
        let back = self.calls.first().map(|&(at, _)| at);
        self.now = match (back, wake) {
            (Some(back), Some(wake)) => back.min(wake),
            (back, wake) => back.or(wake).expect("something goes on"),
        };
        while let Some(&(at, handle)) = self.calls.first().filter(|(at, _)| *at <= self.now) {
            self.calls.remove(&(at, handle));
            let input = self.come_back(handle);
            self.give(input);
            if self.end.is_some() {
                return;
            }
        }
    }

    fn come_back(&mut self, handle: Handle) -> Input {
        let count = self.sent.len();
        let reply = (self.answer)(&self.names[&handle.slot].clone(), handle.node, count);
        if matches!(reply, Reply::Good | Reply::Bad(_)) {
            self.keep(handle);
        }
        match reply {
            Reply::Good => {
                let new = self.stored.insert(self.keys[&handle]);
                assert!(new, "{} was paid twice", self.name(handle));
                Input::Answered { handle }
            }
            Reply::Bad(rejection) => Input::Rejected {
                handle,
                misfit: rejection.into(),
                cut: None,
                jitter: 0.5,
            },
            Reply::Fault(kind, retry_after) => {
                let mut fault = Fault::new(kind, "broken");
                fault.retry_after = retry_after.map(Duration::from_secs);
                Input::Faulted {
                    handle,
                    fault,
                    jitter: 0.5,
                }
            }
        }
    }

    pub fn run(&mut self) -> Outcome {
        self.give(Input::Start);
        let mut steps = 0;
        while self.end.is_none() {
            self.send();
            if self.end.is_none() {
                self.step();
            }
            steps += 1;
            assert!(steps < 1_000_000, "it never ends");
        }
        self.end.as_ref().unwrap().outcome
    }

    pub fn count(&self, status: NodeStatus) -> usize {
        self.finished.values().filter(|&&s| s == status).count()
    }
}
