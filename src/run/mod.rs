//! One run: what the scheduler decides is done here, over services that are handed in. It tells
//! what happened as events and shows nothing.

mod attempt;
mod desk;
mod driver;
mod estimate;
mod folder;
mod job;
mod past;
mod receipts;
mod rehearsal;
mod snapshot;
mod times;
mod transcript;
mod why;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;

use crate::budget;
use crate::call::{Key, Money, Request};
use crate::config::PrefixOrder;
use crate::events::{Event, Failure, History, Outcome, RunStarted, Stamped};
use crate::files::Fingerprint;
use crate::graph::Graph;
use crate::names::{Instance, NodeId, PersonaId, RunId, Stop};
use crate::provider::Provider;
use crate::schedule::Settings;
use crate::store::{Entry, Sent, Store, StoreError};
use crate::tariff::Tariff;

pub use attempt::with_causes;
pub use estimate::{Longest, Reserves};
pub use folder::Folder;
pub use past::{Lost, Past, PastNeed, PastPipeline, PastRequest};
pub use receipts::{Parted, UpToDate};
pub use rehearsal::{
    Course, Holds, Night, OutOfMoney, Part, Phase, Rehearsal, Rehearsed, RehearsedFault, RehearsedMoney,
    RehearsedPrefix, Wall,
};
pub use snapshot::Snapshot;
pub use times::Times;
pub use transcript::Fate;
pub use why::{Changed, IN_FLIGHT, Origin, Present, Unanswered, Why};

/// What a run works with. Each can be replaced, so that a night can be replayed in memory.
#[derive(Clone)]
pub struct Services {
    /// Who answers.
    pub provider: Arc<dyn Provider>,
    /// Where answers are kept.
    pub store: Arc<dyn Store>,
    /// Where personas are read and transcripts written.
    pub project: Arc<dyn Project>,
    /// Wall clock: Unix time in milliseconds. For records, and to keep to [`Times`].
    pub unix_ms: fn() -> u64,
    /// Where blocking work is done.
    pub jobs: Jobs,
}

/// Where blocking work (files, look-ups, rendering) is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jobs {
    /// On tokio's threads for blocking work.
    Threads,
    /// At once, in the order of the actions: for replays.
    Inline,
}

impl Jobs {
    /// Does blocking work.
    ///
    /// # Panics
    /// If the work does.
    async fn block<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match self {
            Jobs::Inline => work(),
            Jobs::Threads => match tokio::task::spawn_blocking(work).await {
                Ok(done) => done,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
        }
    }
}

/// The project's folder, as a run sees it. All of it blocks.
pub trait Project: Send + Sync {
    /// Reads a persona and checks that every prompt can be rendered for it.
    ///
    /// # Errors
    /// Why this persona cannot be worked on; the others can.
    fn open(&self, persona: &PersonaId) -> Result<Box<dyn Requests>, Failure>;

    /// The transcript as it is now.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    fn transcript(&self, persona: &PersonaId) -> Result<Option<Vec<u8>>, Failure>;

    /// Writes the transcript whole or not at all; with `beside`, not over it but beside it.
    /// Returns the path as a person would type it. A file with this content already is left alone.
    ///
    /// # Errors
    /// If it cannot be written.
    fn write(&self, persona: &PersonaId, text: &str, beside: bool) -> Result<String, Failure>;

    /// Hears that a persona is up to date.
    fn finished(&self, _finished: &Finished<'_>) {}

    /// Hears that an answer is about to be asked for in place of one that is there. Requests of others
    /// may be the same: who was up to date by the old one need not be by the new one.
    ///
    /// # Errors
    /// If that cannot be remembered: the answer must not be asked for.
    fn answer_replaced(&self, _replaced: Replaced) -> Result<(), Failure> {
        Ok(())
    }
}

/// What an answer that is asked for takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// An answer that may be served to others now.
    Served,
    /// One that a check refused: it is served only where none, or another, is asked for, by another node or as
    /// before an edit.
    Refused,
}

/// A persona whose nodes all have their answers, and whose transcript holds them.
#[derive(Clone, Copy)]
pub struct Finished<'a> {
    /// Which.
    pub persona: &'a PersonaId,
    /// What its requests were rendered from.
    pub requests: &'a dyn Requests,
    /// What its transcript holds.
    pub text: &'a [u8],
    /// What the answers had cost; `None`: not known of one of them.
    pub saved: Option<Money>,
    /// A check refused one of the answers when it came.
    pub readmitted: bool,
}

/// The requests of one persona.
pub trait Requests: Send + Sync {
    /// Renders the request of a node. `needs` are the answers it uses, in the pipeline's order.
    ///
    /// # Errors
    /// If the prompt cannot be rendered with these answers.
    fn request(&self, node: usize, needs: &[(&NodeId, &str)]) -> Result<Request, Failure>;

    /// The files that they are rendered from; `None` where there are none.
    fn files(&self) -> Option<Arc<Snapshot>> {
        None
    }

    /// How those files looked from outside before they were read; `None` where that was not looked at.
    fn seen(&self) -> Option<Fingerprint> {
        None
    }
}

/// What is asked of one run.
#[derive(Clone)]
pub struct Task {
    /// The name of the run.
    pub run: RunId,
    /// The pipeline's shape.
    pub graph: Arc<Graph>,
    /// What the pipeline was read from; `None` where it was not read.
    pub pipeline: Option<Arc<Snapshot>>,
    /// Who is brought up to date, in this order.
    pub personas: Vec<PersonaId>,
    /// Who else was chosen and is up to date, as is known already.
    pub up_to_date: Vec<UpToDate>,
    /// How nodes are scheduled.
    pub settings: Settings,
    /// Requests a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute.
    pub tokens_per_minute: Option<u32>,
    /// When calls may be sent.
    pub times: Times,
    /// What may be spent. With one, every node's model has a price.
    pub budget: Vec<budget::Limit>,
    /// The models of the nodes.
    pub models: Vec<Arc<str>>,
    /// What their answers were like in earlier runs.
    pub history: History,
    /// Prices of the nodes' models; `None`: unknown.
    pub prices: Vec<Option<Arc<Tariff>>>,
    /// The longest time from sending a call to its end: money is set aside for the dearest price
    /// within it.
    pub longest_call: Duration,
    /// Write over transcripts that were edited by hand.
    pub overwrite: bool,
    /// The provider's name, for display.
    pub provider: Arc<str>,
    /// True for the built-in model.
    pub simulated: bool,
    /// What the server reserves for the output of calls, as far as that is known of it; earlier runs
    /// may know more of a model.
    pub reserves: Reserves,
    /// Calls whose answers can still be fetched, by the key of their request, the newest last: of
    /// earlier runs, and of this one where nobody waits for them.
    pub fetchable: HashMap<Key, Vec<Sent>>,
    /// What becomes of calls whose prompts begin alike.
    pub prefix: PrefixOrder,
    /// Seeds the jitter of pauses.
    pub seed: u64,
}

impl Task {
    /// What the server reserves for the output of a call to a model.
    pub fn reserves(&self, model: &str) -> Reserves {
        self.reserves.or_learned(&self.history, &self.provider, model)
    }

    /// What it sets out to do, for those who are told.
    pub fn started(&self) -> RunStarted {
        let up_to_date = self.up_to_date.iter().map(|known| &known.persona);
        let names = self.personas.iter().chain(up_to_date);
        RunStarted {
            run: self.run.clone(),
            personas: self.personas.len() + self.up_to_date.len(),
            longest_persona: names.map(|p| p.as_str().chars().count()).max().unwrap_or(0),
            nodes: self.graph.ids().to_vec(),
            models: self.models.clone(),
            concurrency: self.settings.concurrency,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            budget: budget::tightest(&self.budget).map(budget::Limit::left),
            until: self.times.told_until(),
            provider: self.provider.clone(),
            simulated: self.simulated,
        }
    }
}

/// Marks the instances that `wanted` names to be called again, durably, before the first call: an
/// interrupted refresh goes on with the next run. Returns how many there are.
///
/// # Errors
/// If the store cannot be written.
pub async fn refresh(
    store: &dyn Store,
    graph: &Graph,
    personas: &[PersonaId],
    wanted: impl Fn(&Instance) -> bool,
) -> Result<usize, StoreError> {
    let instance = |persona: &PersonaId, node: &NodeId| Instance {
        persona: persona.clone(),
        node: node.clone(),
    };
    let all = personas
        .iter()
        .flat_map(|persona| graph.ids().iter().map(|node| instance(persona, node)));
    let mut marks = all
        .filter(|instance| wanted(instance))
        .map(|instance| Entry::Refresh { instance })
        .peekable();
    let mut count = 0;
    while let Some(mark) = marks.next() {
        count += 1;
        // Entries keep their order: when the last one is durable, all are.
        if marks.peek().is_some() {
            store.note(mark).await?
        } else {
            store.keep(mark).await?
        }
    }
    Ok(count)
}

/// Brings the personas up to date and returns how it ended. Events go to `events`, the last of
/// them is `RunFinished`; the sender is dropped at the end. `stops` brings what a person asks.
pub async fn run(
    task: Task,
    services: Services,
    events: UnboundedSender<Stamped>,
    stops: UnboundedReceiver<Stop>,
) -> Outcome {
    let teller = Teller {
        start: Instant::now(),
        events,
    };
    driver::Driver::new(task, services, teller).run(stops).await
}

/// Tells of a run that a person stopped before it could begin: nothing was looked at or called.
pub fn stopped_before(task: &Task, stop: Stop, events: UnboundedSender<Stamped>) {
    let teller = Teller {
        start: Instant::now(),
        events,
    };
    teller.tell(Event::RunStarted(Box::new(task.started())));
    teller.tell(Event::Stopping(stop));
    teller.tell(Event::RunFinished {
        outcome: Outcome::Interrupted,
        cause: None,
    });
}

/// Tells of a run for which there is nothing to do: all who were chosen are up to date, and no
/// service is needed to see that.
pub fn nothing_to_do(task: &Task, events: UnboundedSender<Stamped>) {
    let teller = Teller {
        start: Instant::now(),
        events,
    };
    teller.tell(Event::RunStarted(Box::new(task.started())));
    teller.tell_up_to_date(&task.up_to_date);
    teller.tell(Event::RunFinished {
        outcome: Outcome::Complete,
        cause: None,
    });
}

/// Stamps events with the time and hands them on. Nobody listening is no reason to stop.
#[derive(Clone, Debug)]
struct Teller {
    start: Instant,
    events: UnboundedSender<Stamped>,
}

impl Teller {
    /// Since the start of the run.
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn tell_up_to_date(&self, up_to_date: &[UpToDate]) {
        for UpToDate { persona, saved } in up_to_date.iter().cloned() {
            self.tell(Event::UpToDate { persona, saved });
        }
    }

    fn tell(&self, event: Event) {
        _ = self.events.send(Stamped {
            at: self.now(),
            event,
        });
    }
}

#[cfg(test)]
mod tests;
