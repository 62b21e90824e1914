//! Runs written by hand, for the tests of what is shown.

use std::sync::Arc;
use std::time::Duration;

use crate::call::{Fault, Money, Price, Usage};
use crate::events::{
    Asked, CallOutcome, Event, Failure, NodeFinished, NodeStatus, Outcome, PersonaStatus, RunStarted,
    Stamped, Tally,
};
use crate::names::{Instance, NodeId, RunId};

/// Events in their order, each at its time.
#[derive(Clone)]
pub struct Script {
    at: Duration,
    start: RunStarted,
    price: Option<Price>,
    /// The hours whose price it is.
    hours: Option<Arc<str>>,
    usage: Usage,
    events: Vec<Stamped>,
}

const NODES: [&str; 8] = [
    "chunk-1", "chunk-2", "chunk-3", "chunk-4", "chunk-5", "chunk-6", "chunk-7", "combine",
];

impl Script {
    /// A run over so many personas, each with eight nodes, by the built-in model.
    pub fn new(personas: usize) -> Self {
        Self {
            at: Duration::ZERO,
            start: RunStarted {
                run: RunId::from("20261123-223015-4f2a"),
                personas,
                longest_persona: 27,
                nodes: NODES.map(NodeId::from).to_vec(),
                models: NODES.map(|_| "gpt-6-luna".into()).to_vec(),
                concurrency: Some(64),
                requests_per_minute: None,
                tokens_per_minute: None,
                budget: None,
                until: None,
                provider: "simulator".into(),
                simulated: true,
            },
            price: Some(Price::per_million(0.10, Some(0.01), Some(0.125), 0.50)),
            hours: None,
            usage: Usage {
                input: 1200,
                cached_input: Some(600),
                output: 340,
                reasoning: Some(40),
                ..Usage::default()
            },
            events: Vec::new(),
        }
        .tell_start()
    }

    /// The same by a real provider, with a limit.
    pub fn real(personas: usize) -> Self {
        let mut script = Self::new(personas);
        script.start.provider = "api.openai.com/v1".into();
        script.start.simulated = false;
        script.start.requests_per_minute = Some(500);
        script.events.clear();
        script.tell_start()
    }

    fn tell_start(self) -> Self {
        let start = Event::RunStarted(Box::new(self.start.clone()));
        self.tell(start)
    }

    /// From here on the price is that of these hours.
    pub fn at_hours(mut self, hours: &str) -> Self {
        self.hours = Some(hours.into());
        self
    }

    /// From here on there is no price.
    pub fn unpriced(mut self) -> Self {
        self.price = None;
        self
    }

    /// From here on every call uses these tokens.
    pub fn usage(mut self, usage: Usage) -> Self {
        self.usage = usage;
        self
    }

    /// Time passes.
    pub fn wait(mut self, seconds: f64) -> Self {
        self.at += Duration::from_secs_f64(seconds);
        self
    }

    /// Something happens.
    pub fn tell(mut self, event: Event) -> Self {
        let at = self.at;
        self.events.push(Stamped { at, event });
        self
    }

    /// A call begins.
    pub fn send(self, persona: &str, node: &str, attempt: u32) -> Self {
        let instance = Instance::new(persona, node);
        self.tell(Event::CallStarted { instance, attempt })
    }

    /// A call ends.
    pub fn end(self, persona: &str, node: &str, attempt: u32, outcome: CallOutcome) -> Self {
        let instance = Instance::new(persona, node);
        let latency = Duration::from_millis(1500);
        self.tell(Event::CallEnded {
            instance,
            attempt,
            asked: Asked::default(),
            latency,
            outcome,
        })
    }

    /// What an accepted answer looks like here.
    pub fn ok(&self) -> CallOutcome {
        CallOutcome::Ok {
            usage: self.usage,
            cost: self.price.map(|price| price.cost(&self.usage)),
            saved: self.price.map(|price| price.saved_by_provider_cache(&self.usage)),
            hours: self.hours.clone(),
        }
    }

    /// A node ends.
    pub fn node(self, persona: &str, node: &str, status: NodeStatus, error: Option<Failure>) -> Self {
        let called = status == NodeStatus::Called;
        let price = self.price;
        let usage = if called { self.usage } else { Usage::default() };
        self.tell(Event::NodeFinished(Box::new(NodeFinished {
            instance: Instance::new(persona, node),
            status,
            attempts: u32::from(called),
            tokens: usage,
            cost: price.map(|price| price.cost(&usage)),
            saved: (status == NodeStatus::Cached).then(|| Money::from_usd(0.0002)),
            error,
        })))
    }

    /// A persona ends.
    pub fn persona(self, persona: &str, status: PersonaStatus, error: Option<Failure>) -> Self {
        let path = match status {
            PersonaStatus::Kept => Some(format!("transcripts/{persona}.new.md")),
            _ => Some(format!("transcripts/{persona}.md")),
        };
        self.tell(Event::PersonaFinished {
            persona: persona.into(),
            status,
            error,
            path,
        })
    }

    /// A node is called, in a second and a half.
    pub fn called(self, persona: &str, node: &str) -> Self {
        let this = self.send(persona, node, 1).wait(1.5);
        let ok = this.ok();
        this.end(persona, node, 1, ok)
            .node(persona, node, NodeStatus::Called, None)
    }

    /// All eight nodes are called, `cached` of them are not.
    pub fn works(self, persona: &str, cached: usize) -> Self {
        NODES.into_iter().enumerate().fold(self, |script, (i, node)| {
            if i < cached {
                script.node(persona, node, NodeStatus::Cached, None)
            } else {
                script.called(persona, node)
            }
        })
    }

    /// A persona goes well.
    pub fn written(self, persona: &str) -> Self {
        self.works(persona, 0)
            .persona(persona, PersonaStatus::Written, None)
    }

    /// A persona was up to date.
    pub fn unchanged(self, persona: &str) -> Self {
        self.works(persona, 8)
            .persona(persona, PersonaStatus::Unchanged, None)
    }

    /// A persona fails at `chunk-3`, after one call that meets the fault.
    pub fn fails(self, persona: &str, fault: Fault) -> Self {
        let failure = Failure::from(&fault);
        let script = ["chunk-1", "chunk-2"]
            .into_iter()
            .fold(self, |script, node| script.called(persona, node));
        script
            .send(persona, "chunk-3", 1)
            .end(persona, "chunk-3", 1, CallOutcome::Faulted(fault))
            .node(persona, "chunk-3", NodeStatus::Failed, Some(failure.clone()))
            .called(persona, "chunk-4")
            .called(persona, "chunk-5")
            .called(persona, "chunk-6")
            .called(persona, "chunk-7")
            .node(persona, "combine", NodeStatus::Skipped, None)
            .persona(persona, PersonaStatus::Failed, Some(failure))
    }

    /// A persona cannot be read.
    pub fn unreadable(self, persona: &str, failure: Failure) -> Self {
        let failed = NODES[..7].iter().fold(self, |script, node| {
            script.node(persona, node, NodeStatus::Failed, Some(failure.clone()))
        });
        failed
            .node(persona, "combine", NodeStatus::Skipped, None)
            .persona(persona, PersonaStatus::Failed, Some(failure))
    }

    /// The run ends.
    pub fn finished(self, outcome: Outcome, cause: Option<Failure>) -> Self {
        self.tell(Event::RunFinished { outcome, cause })
    }

    /// Its events.
    pub fn events(self) -> Vec<Stamped> {
        self.events
    }

    /// What the events add up to.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.events.iter().for_each(|stamped| tally.apply(stamped));
        tally
    }
}
