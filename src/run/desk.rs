//! What lies on the desk during a run: the open personas with the requests and answers of their
//! nodes, by slot. Whatever is no longer needed is dropped, so that memory does not grow with the
//! number of personas.

use std::sync::Arc;
use std::time::Duration;

use crate::call::{Key, Money, Request, Usage};
use crate::events::{Failure, NodeFinished, NodeStatus};
use crate::graph::Graph;
use crate::names::{Instance, PersonaId};
use crate::run::Requests;
use crate::run::attempt::Paid;
use crate::run::estimate::Size;
use crate::schedule::Handle;
use crate::store::Sent;

/// All open personas.
pub struct Desk {
    graph: Arc<Graph>,
    slots: Vec<Option<Persona>>,
}

/// One open persona.
pub struct Persona {
    pub id: PersonaId,
    /// There once its files are read.
    pub requests: Option<Arc<dyn Requests>>,
    nodes: Vec<Work>,
}

/// One node of an open persona.
pub struct Work {
    pub rendered: Option<Rendered>,
    /// There once it is rendered, and stays for those that need its answer.
    pub key: Option<Key>,
    /// Its answer, for those that need it.
    pub text: Option<Arc<str>>,
    pub attempts: u32,
    /// The job whose answer its next attempt fetches.
    pub resumes: Option<Sent>,
    /// Tokens taken out of the limits for its call.
    pub reserved: u64,
    /// When its call was let start.
    pub started: Duration,
    /// Money set aside for its call; `None`: no price.
    pub set_aside: Option<Money>,
    /// What this run paid for it, bad answers included; the cost is `None` once a call had no
    /// price.
    pub spent: Usage,
    pub cost: Option<Money>,
    /// What the answer that serves it cost, in this run or an earlier one.
    pub served: Option<Money>,
    /// A check refused that answer when it came.
    pub readmitted: bool,
}

/// A request and its key.
pub struct Rendered {
    pub request: Arc<Request>,
    pub key: Key,
    pub size: Size,
}

impl Rendered {
    pub fn new(request: Request) -> Self {
        Self {
            key: Key::of(&request),
            size: Size::of(&request),
            request: Arc::new(request),
        }
    }
}

impl Desk {
    pub fn new(graph: Arc<Graph>) -> Self {
        Self {
            graph,
            slots: Vec::new(),
        }
    }

    pub fn open(&mut self, slot: usize, id: PersonaId) {
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        let nodes = std::iter::repeat_with(Work::new).take(self.graph.len()).collect();
        self.slots[slot] = Some(Persona {
            id,
            requests: None,
            nodes,
        });
    }

    pub fn close(&mut self, slot: usize) -> Persona {
        self.slots[slot]
            .take()
            .expect("BUG: a closed slot was closed again")
    }

    pub fn persona(&self, slot: usize) -> &Persona {
        self.slots[slot]
            .as_ref()
            .expect("BUG: an action for a closed slot")
    }

    pub fn persona_mut(&mut self, slot: usize) -> &mut Persona {
        self.slots[slot]
            .as_mut()
            .expect("BUG: an action for a closed slot")
    }

    pub fn work(&self, handle: Handle) -> &Work {
        &self.persona(handle.slot).nodes[handle.node]
    }

    pub fn work_mut(&mut self, handle: Handle) -> &mut Work {
        &mut self.persona_mut(handle.slot).nodes[handle.node]
    }

    pub fn instance(&self, handle: Handle) -> Instance {
        let persona = self.persona(handle.slot).id.clone();
        Instance {
            persona,
            node: self.graph.id(handle.node).clone(),
        }
    }

    /// The answers that a node uses, in the order of the pipeline.
    pub fn needs(&self, handle: Handle) -> Vec<Arc<str>> {
        let text = |&node: &usize| self.work(Handle { node, ..handle }).text.clone();
        let needs = self.graph.needs(handle.node).iter();
        needs
            .map(|need| text(need).expect("BUG: a need that is done has its text"))
            .collect()
    }

    /// The keys of those answers.
    pub fn need_keys(&self, handle: Handle) -> Vec<Key> {
        let key = |&node: &usize| self.work(Handle { node, ..handle }).key;
        let needs = self.graph.needs(handle.node).iter();
        needs
            .map(|need| key(need).expect("BUG: a need that is done was rendered"))
            .collect()
    }

    /// The text of the transcript, if the result is there.
    pub fn result(&self, slot: usize) -> Option<Arc<str>> {
        self.work(Handle {
            slot,
            node: self.graph.result(),
        })
        .text
        .clone()
    }

    /// What the answers of a persona's nodes had cost; `None`: not known of one of them.
    pub fn served(&self, slot: usize) -> Option<Money> {
        let nodes = self.persona(slot).nodes.iter();
        nodes
            .map(|work| work.served)
            .try_fold(Money::ZERO, |sum, cost| Some(sum + cost?))
    }

    /// True if a check refused one of those answers when it came.
    pub fn has_readmitted(&self, slot: usize) -> bool {
        self.persona(slot).nodes.iter().any(|work| work.readmitted)
    }

    /// Drops the request of a node that has ended, and sums it up.
    pub fn finish(&mut self, handle: Handle, status: NodeStatus, error: Option<Failure>) -> NodeFinished {
        let instance = self.instance(handle);
        let work = self.work_mut(handle);
        work.rendered = None;
        NodeFinished {
            instance,
            status,
            attempts: work.attempts,
            tokens: work.spent,
            cost: work.cost,
            saved: work.served.filter(|_| status == NodeStatus::Cached),
            error,
        }
    }
}

impl Work {
    fn new() -> Self {
        Self {
            rendered: None,
            key: None,
            text: None,
            attempts: 0,
            resumes: None,
            reserved: 0,
            started: Duration::ZERO,
            set_aside: None,
            spent: Usage::default(),
            cost: Some(Money::ZERO),
            served: None,
            readmitted: false,
        }
    }

    /// Books an answer, good or bad.
    pub fn paid(&mut self, paid: &Paid) {
        self.spent += &paid.usage;
        self.cost = self.cost.zip(paid.cost).map(|(sum, cost)| sum + cost);
    }

    pub fn key(&self) -> Key {
        self.key.expect("BUG: the key of what is not rendered")
    }

    /// What is sent for it.
    pub fn request(&self) -> Arc<Request> {
        let rendered = self.rendered.as_ref();
        let rendered = rendered.expect("BUG: asked for the request of what is not rendered");
        rendered.request.clone()
    }
}
