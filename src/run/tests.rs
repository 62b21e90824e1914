//! Whole nights replayed: the real driver, scheduler, limits and retries under paused time, in a
//! seeded world of latencies, faults, outages, rate limits, stops and crashes. What must never
//! happen is checked over everything that was sent and told.

mod background;
mod foreseen;
mod hours;
mod jobs;
mod money;
mod seeded;
mod wall;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc::unbounded_channel;

use super::*;
use crate::call::{
    Answer, Delivery, Fault, FaultKind, Finish, Key, Mark, Message, Money, Price, Quota, Quotas, Role, Usage,
};
use crate::config::Retry;
use crate::events::{CallOutcome, NodeStatus, PersonaStatus};
use crate::graph::tests::SEVEN_AND_ONE as NODES;
use crate::graph::tests::graph;
use crate::hours::timestamp;
use crate::names::Instance;
use crate::provider::{Begun, Lost};
use crate::store::{Looked, MemoryStore, Sent};

mod sharing;

const MINUTE: Duration = Duration::from_secs(60);

type Poison = fn(&Request) -> Option<Fault>;

/// The world outside, and the witness of what was really paid.
struct World {
    start: Instant,
    chance: Mutex<fastrand::Rng>,
    faults: f64,
    tariff: Tariff,
    /// How many times as long as usual its answers are.
    stretch: u64,
    /// The output limit of all requests.
    cap: Option<u64>,
    outage: std::ops::Range<Duration>,
    /// What some requests always meet.
    poison: Poison,
    /// What the server lets through in a minute, from these times on; nothing: anything.
    allowed: Vec<(Duration, Option<u32>)>,
    /// True where it says so with every call.
    tells: bool,
    /// The calls that it let through, by its own clock.
    /// By model: each has the limit for itself.
    let_through: Mutex<HashMap<Arc<str>, Vec<Duration>>>,
    /// So many models share the nodes.
    models: usize,
    /// The calls that are kept as jobs, where they are.
    jobs: Option<background::Kept>,
    /// Jobs whose names were lost on their way.
    nameless: Mutex<HashMap<Key, u32>>,
    /// When each call was sent.
    sent: Mutex<Vec<Duration>>,
    /// Good answers that were delivered, by key.
    paid: Mutex<HashMap<Key, u32>>,
    /// What all answers cost, bad ones too.
    billed: Mutex<Money>,
    in_flight: Mutex<HashMap<Key, u32>>,
    /// What earlier runs have answers to, good or cut off: not to be called any more.
    known: Mutex<HashSet<Key>>,
    called_again: Mutex<u32>,
    transcripts: Mutex<BTreeMap<PersonaId, String>>,
    writes: Mutex<u32>,
}

/// Takes a call out of those in flight, also when it is dropped.
struct InFlight<'a>(&'a World, Key);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        *self.0.in_flight.lock().unwrap().get_mut(&self.1).unwrap() -= 1;
    }
}

impl World {
    fn new(seed: u64, faults: f64) -> Self {
        let mut chance = fastrand::Rng::with_seed(seed);
        let begins = Duration::from_secs(chance.u64(1..600));
        let outage = begins..begins + Duration::from_secs(chance.u64(0..7_200));
        Self {
            start: Instant::now(),
            chance: Mutex::new(chance),
            faults,
            tariff: price().into(),
            stretch: 1,
            cap: None,
            outage: if faults > 0.0 {
                outage
            } else {
                Duration::ZERO..Duration::ZERO
            },
            poison: |_| None,
            allowed: Vec::new(),
            tells: false,
            let_through: Mutex::default(),
            models: 1,
            jobs: None,
            nameless: Mutex::default(),
            sent: Mutex::default(),
            paid: Mutex::default(),
            billed: Mutex::default(),
            in_flight: Mutex::default(),
            known: Mutex::default(),
            called_again: Mutex::new(0),
            transcripts: Mutex::default(),
            writes: Mutex::new(0),
        }
    }

    fn draw(&self) -> f64 {
        self.chance.lock().unwrap().f64()
    }

    /// What the server lets through in a minute now.
    fn allows(&self) -> Option<u32> {
        let now = self.start.elapsed();
        let begun = self.allowed.iter().rev().find(|(from, _)| *from <= now);
        begun.and_then(|(_, limit)| *limit)
    }

    /// Counts a call that has come, or says that it is one too many.
    fn admit(&self, model: &Arc<str>) -> Result<(), Fault> {
        let Some(limit) = self.allows() else {
            return Ok(());
        };
        let now = self.start.elapsed();
        let mut through = self.let_through.lock().unwrap();
        let through = through.entry(model.clone()).or_default();
        through.retain(|at| *at + MINUTE > now);
        if through.len() < limit as usize {
            through.push(now);
            return Ok(());
        }
        let mut fault = Fault::new(FaultKind::RateLimited, "too many requests");
        fault.retry_after = self.tells.then(|| through[0] + MINUTE - now);
        Err(fault)
    }

    /// What this call meets.
    fn fate(&self) -> Result<Finish, Fault> {
        if self.outage.contains(&self.start.elapsed()) {
            return Err(Fault::new(FaultKind::Connection, "no route to host"));
        }
        let kinds = [
            FaultKind::ServerError,
            FaultKind::Timeout,
            FaultKind::BadResponse,
            FaultKind::BadRequest,
        ];
        match self.draw() / self.faults.max(f64::MIN_POSITIVE) {
            x if x < 0.5 => Err(Fault::new(kinds[(x * 8.0) as usize % 3], "a fault")),
            x if x < 0.8 => {
                let mut fault = Fault::new(FaultKind::RateLimited, "slow down");
                fault.retry_after = (x < 0.65).then(|| Duration::from_secs_f64(self.draw() * 90.0));
                Err(fault)
            }
            x if x < 0.81 => Err(Fault::new(kinds[3], "never")),
            x if x < 1.0 => Ok(Finish::Length),
            _ => Ok(Finish::Stop),
        }
    }
}

#[async_trait]
impl Provider for World {
    fn has_jobs(&self) -> bool {
        self.jobs.is_some()
    }

    async fn begin(&self, request: &Request, attempt: u32) -> Result<Begun, Fault> {
        match &self.jobs {
            Some(kept) => kept.begin(self, request).await.map(Begun::Job),
            None => self
                .call(request, attempt)
                .await
                .map(|answer| Begun::Answered(answer.into())),
        }
    }

    async fn fetch(&self, _: &Request, job: &str) -> Result<Answer, Lost> {
        let kept = self.jobs.as_ref().expect("no job was begun");
        kept.fetch(self, job).await
    }

    async fn call(&self, request: &Request, _: u32) -> Result<Answer, Fault> {
        let key = Key::of(request);
        self.sent.lock().unwrap().push(self.start.elapsed());
        *self.called_again.lock().unwrap() += u32::from(self.known.lock().unwrap().contains(&key));
        *self.in_flight.lock().unwrap().entry(key).or_default() += 1;
        let _guard = InFlight(self, key);
        let latency = 0.2 + self.draw() * 20.0;
        tokio::time::sleep(Duration::from_secs_f64(latency)).await;
        if let Some(fault) = (self.poison)(request) {
            return Err(fault);
        }
        self.admit(&request.model)?;
        self.answer(key, latency)
    }

    fn told(&self, _: &str) -> Quotas {
        let limit = self.allows().filter(|_| self.tells);
        let requests = limit.map(|limit| Quota {
            limit: u64::from(limit),
            remaining: None,
            reset: None,
            window: Some(MINUTE),
        });
        Quotas {
            requests,
            tokens: None,
        }
    }
}

impl World {
    /// What comes of a call that took so many seconds, and is paid for if it is an answer.
    fn answer(&self, key: Key, latency: f64) -> Result<Answer, Fault> {
        let finish = self.fate()?;
        if finish == Finish::Stop {
            *self.paid.lock().unwrap().entry(key).or_default() += 1;
        }
        let text = format!("answer to {}", key.short());
        let usage = Usage {
            input: 900,
            // Longer answers take longer.
            output: (100 + (latency * 25.0) as u64) * self.stretch,
            ..Usage::default()
        };
        let price = self.tariff.at(timestamp(wall::unix_ms())).price;
        *self.billed.lock().unwrap() += price.cost(&usage);
        Ok(Answer {
            text,
            finish,
            refusal: None,
            model: "m".into(),
            service_tier: None,
            usage,
            raw_usage: serde_json::Value::Null,
            id: None,
        })
    }
}

/// The model of a node, where so many share the nodes.
fn model(node: usize, models: usize) -> Arc<str> {
    match node % models {
        0 => "m".into(),
        n => format!("m{n}").into(),
    }
}

fn price() -> Price {
    Price::per_million(1.0, None, None, 2.0)
}

/// The requests of a persona, with their output limit, by so many models.
struct Names(PersonaId, Option<u64>, usize);

impl Requests for Names {
    fn request(&self, node: usize, needs: &[(&NodeId, &str)]) -> Result<Request, Failure> {
        let needs: Vec<&str> = needs.iter().map(|(_, text)| *text).collect();
        let whose = whose(&self.0, node);
        Ok(Request {
            provider: "world".into(),
            model: model(node, self.2),
            messages: vec![Message {
                role: Role::User,
                content: format!("{whose} {node} {needs:?}"),
            }],
            parameters: Arc::default(),
            variant: None,
            delivery: Delivery {
                shared: vec![Mark {
                    message: 0,
                    bytes: whose.len(),
                }],
                max_output_tokens: self.1,
                ..Delivery::default()
            },
        })
    }
}

/// What the request of a node begins with. The first chunk is the same for every ten personas.
fn whose(persona: &PersonaId, node: usize) -> &str {
    let persona = persona.as_str();
    match node {
        0 => &persona[..persona.len() - 1],
        _ => persona,
    }
}

impl Project for World {
    fn open(&self, persona: &PersonaId) -> Result<Box<dyn Requests>, Failure> {
        match persona.as_str().ends_with("13") {
            true => Err(Failure {
                kind: "persona",
                message: "unlucky".into(),
                http_status: None,
            }),
            false => Ok(Box::new(Names(persona.clone(), self.cap, self.models))),
        }
    }

    fn transcript(&self, persona: &PersonaId) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self
            .transcripts
            .lock()
            .unwrap()
            .get(persona)
            .map(|text| text.clone().into_bytes()))
    }

    fn write(&self, persona: &PersonaId, text: &str, _: bool) -> Result<String, Failure> {
        *self.writes.lock().unwrap() += 1;
        self.transcripts
            .lock()
            .unwrap()
            .insert(persona.clone(), text.to_owned());
        Ok(format!("{persona}.md"))
    }
}

#[derive(Clone)]
struct Night {
    personas: usize,
    concurrency: Option<usize>,
    rpm: Option<u32>,
    tpm: Option<u32>,
    prefix: PrefixOrder,
    seed: u64,
    budget: Vec<budget::Limit>,
    tariff: Tariff,
    history: History,
    times: Times,
    /// Names the run.
    run: u32,
    /// So many models share the nodes.
    models: usize,
    /// What earlier runs left open.
    fetchable: HashMap<Key, Vec<Sent>>,
}

impl Default for Night {
    fn default() -> Self {
        Self {
            personas: 0,
            concurrency: None,
            rpm: None,
            tpm: None,
            prefix: PrefixOrder::Auto,
            seed: 0,
            budget: Vec::new(),
            tariff: price().into(),
            history: History::default(),
            times: Times::default(),
            run: 0,
            models: 1,
            fetchable: HashMap::new(),
        }
    }
}

impl Night {
    fn task(&self) -> Task {
        let graph = Arc::new(graph(NODES));
        let retry = Retry {
            attempts: 6,
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
            rejected: 2,
        };
        Task {
            run: format!("night-{}", self.run).into(),
            prices: vec![Some(Arc::new(self.tariff.clone())); graph.len()],
            // Answers of this world take 20 s at most.
            longest_call: Duration::from_secs(30),
            up_to_date: Vec::new(),
            graph,
            pipeline: None,
            models: (0..8).map(|node| model(node, self.models)).collect(),
            history: self.history.clone(),
            personas: (0..self.personas).map(|i| format!("p{i:03}").into()).collect(),
            settings: Settings {
                concurrency: self.concurrency,
                most: crate::schedule::MOST_IN_FLIGHT,
                retry,
                fail_fast: false,
            },
            requests_per_minute: self.rpm,
            tokens_per_minute: self.tpm,
            budget: self.budget.clone(),
            times: self.times.clone(),
            overwrite: false,
            provider: "world".into(),
            simulated: false,
            reserves: Reserves::Expected,
            fetchable: self.fetchable.clone(),
            prefix: self.prefix,
            seed: self.seed,
        }
    }
}

/// How a replayed run ended: `None` if it was killed.
struct Told {
    outcome: Option<Outcome>,
    events: Vec<Stamped>,
}

/// Replays one run; it is killed or stopped at these times, if it lasts so long.
async fn replay(
    night: &Night,
    world: &Arc<World>,
    store: &Arc<MemoryStore>,
    kill: Option<Duration>,
    stops: Vec<(Duration, Stop)>,
) -> Told {
    let kill = kill.map_or(Kill::Never, Kill::After);
    replay_until(night, world, store, kill, stops).await
}

/// When a replayed run is killed.
enum Kill {
    Never,
    After(Duration),
    /// Before its driver does anything for the time that comes after so many others.
    AtStep(u64),
}

/// Ends before its step `left`.
struct Steps<F> {
    run: std::pin::Pin<Box<F>>,
    left: u64,
}

impl<F: Future> Future for Steps<F> {
    type Output = Option<F::Output>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        match self.left.checked_sub(1) {
            None => std::task::Poll::Ready(None),
            Some(left) => {
                self.left = left;
                self.run.as_mut().poll(context).map(Some)
            }
        }
    }
}

async fn replay_until(
    night: &Night,
    world: &Arc<World>,
    store: &Arc<MemoryStore>,
    kill: Kill,
    stops: Vec<(Duration, Stop)>,
) -> Told {
    *world.known.lock().unwrap() = store.entries().iter().filter_map(key_of_answer).collect();
    let (sender, mut receiver) = unbounded_channel();
    let (ask, asked) = unbounded_channel();
    tokio::spawn(async move {
        for (at, stop) in stops {
            tokio::time::sleep(at).await;
            _ = ask.send(stop);
        }
        std::future::pending::<()>().await;
    });
    let services = Services {
        provider: world.clone(),
        store: store.clone(),
        project: world.clone(),
        unix_ms: wall::unix_ms,
        jobs: Jobs::Inline,
    };
    let run = run(night.task(), services, sender, asked);
    let outcome = match kill {
        Kill::After(after) => tokio::time::timeout(after, run).await.ok(),
        Kill::AtStep(left) => {
            let run = Box::pin(run);
            Steps { run, left }.await
        }
        Kill::Never => Some(run.await),
    };
    let mut events = Vec::new();
    while let Ok(event) = receiver.try_recv() {
        events.push(event);
    }
    Told { outcome, events }
}

fn key_of_answer(entry: &Entry) -> Option<Key> {
    match entry {
        Entry::Answer(record) | Entry::Rejected { record, .. } => Some(record.key),
        _ => None,
    }
}

fn paused<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

/// The most calls that were sent in any 60 seconds.
fn busiest_minute(sent: &[Duration]) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in sent.iter().enumerate() {
        while sent[first] + MINUTE <= *at {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most
}

/// Watches that, while no call with a prefix has been answered, no two are on their way.
struct Leaders {
    share: bool,
    models: usize,
    on_their_way: HashMap<String, usize>,
    answered: HashSet<String>,
}

impl Leaders {
    fn new(night: &Night) -> Self {
        Self {
            share: night.prefix == PrefixOrder::Share,
            models: night.models,
            on_their_way: HashMap::new(),
            answered: HashSet::new(),
        }
    }

    fn prefix(&self, instance: &Instance) -> String {
        let node = NODES
            .iter()
            .position(|line| line.split(':').next() == Some(instance.node.as_str()));
        let node = node.unwrap();
        // Each model has a cache of its own.
        format!("{} {}", model(node, self.models), whose(&instance.persona, node))
    }

    fn started(&mut self, instance: &Instance) {
        let prefix = self.prefix(instance);
        let count = self.on_their_way.entry(prefix.clone()).or_default();
        *count += 1;
        assert!(
            !self.share || *count == 1 || self.answered.contains(&prefix),
            "{instance} is sent beside its leader"
        );
    }

    fn ended(&mut self, instance: &Instance, outcome: &CallOutcome) {
        let prefix = self.prefix(instance);
        *self.on_their_way.get_mut(&prefix).unwrap() -= 1;
        if matches!(outcome, CallOutcome::Ok { .. } | CallOutcome::Rejected { .. }) {
            self.answered.insert(prefix);
        }
    }
}

/// What must hold of the events of one run that came to its end.
fn check_events(night: &Night, told: &Told) {
    let mut in_flight = 0_usize;
    let mut nodes: HashMap<Instance, NodeStatus> = HashMap::new();
    let mut personas: HashMap<PersonaId, PersonaStatus> = HashMap::new();
    let mut last = Duration::ZERO;
    let mut leaders = Leaders::new(night);
    for (i, stamped) in told.events.iter().enumerate() {
        assert!(stamped.at >= last, "time goes on");
        last = stamped.at;
        match &stamped.event {
            Event::RunStarted(_) => assert_eq!(i, 0),
            Event::RunFinished { .. } => assert_eq!(i, told.events.len() - 1),
            Event::CallStarted { instance, .. } => {
                leaders.started(instance);
                in_flight += 1;
                assert!(
                    night.concurrency.is_none_or(|most| in_flight <= most),
                    "{in_flight} in flight"
                );
            }
            Event::CallEnded {
                instance, outcome, ..
            } => {
                leaders.ended(instance, outcome);
                in_flight -= 1;
            }
            Event::NodeFinished(node) => {
                let twice = nodes.insert(node.instance.clone(), node.status);
                assert_eq!(twice, None, "{} ended twice", node.instance);
            }
            Event::PersonaFinished { persona, status, .. } => {
                let twice = personas.insert(persona.clone(), *status);
                assert_eq!(twice, None, "{persona} ended twice");
            }
            _ => {}
        }
    }
    assert_eq!(in_flight, 0, "what was sent has ended");
    if matches!(told.outcome, Some(Outcome::Complete | Outcome::Partial)) {
        assert_eq!(
            (nodes.len(), personas.len()),
            (night.personas * NODES.len(), night.personas)
        );
        let failed = personas.values().any(|status| *status == PersonaStatus::Failed);
        assert_eq!(
            told.outcome,
            Some(if failed {
                Outcome::Partial
            } else {
                Outcome::Complete
            })
        );
    }
}

/// A night with a crash, a stop and a second go; then what must hold over all of it.
fn night(seed: u64) {
    paused(async {
        let mut chance = fastrand::Rng::with_seed(seed);
        let night = Night {
            personas: 200,
            concurrency: [None, Some(1), Some(16), Some(64), Some(200)][chance.usize(0..5)],
            rpm: [None, Some(60), Some(500), Some(2_000)][chance.usize(0..4)],
            tpm: [None, Some(200_000), Some(2_000_000)][chance.usize(0..3)],
            prefix: [PrefixOrder::Share, PrefixOrder::Eager][seed as usize % 2],
            seed,
            ..Night::default()
        };
        let world = Arc::new(World::new(seed, chance.f64() * 0.3));
        let mut store = Arc::new(MemoryStore::new());
        let mut lost: HashMap<Key, u32> = HashMap::new();
        for _ in 0..chance.u8(0..4) {
            let at = Duration::from_secs_f64(chance.f64() * 900.0);
            if chance.bool() {
                let told = replay(&night, &world, &store, Some(at), vec![]).await;
                if told.outcome.is_none() {
                    // Killed: what was in flight, or not yet durable, may be paid again.
                    for (key, count) in world.in_flight.lock().unwrap().iter().filter(|(_, n)| **n > 0) {
                        *lost.entry(*key).or_default() += count;
                    }
                    store = Arc::new(store.crashed());
                }
            } else {
                let second = at + Duration::from_secs_f64(chance.f64() * 10.0);
                let told = replay(
                    &night,
                    &world,
                    &store,
                    None,
                    vec![(at, Stop::Drain), (second - at, Stop::Abort)],
                )
                .await;
                check_events(&night, &told);
            }
            // Tasks of a killed run must not live on in the next one.
            tokio::time::sleep(Duration::from_secs(3_600)).await;
        }
        let mut told = replay(&night, &world, &store, None, vec![]).await;
        check_events(&night, &told);
        if told.outcome == Some(Outcome::Fatal) {
            // The outage began before anything had succeeded: the next run goes on.
            told = replay(&night, &world, &store, None, vec![]).await;
            check_events(&night, &told);
        }
        for (key, paid) in world.paid.lock().unwrap().iter() {
            let excuse = lost.get(key).copied().unwrap_or(0);
            assert!(*paid <= 1 + excuse, "{} was paid {paid} times", key.short());
            let looked = store
                .look(&Instance::new("any", "any"), key, &Delivery::default())
                .unwrap();
            assert!(
                matches!(looked, Looked::Hit(_)),
                "{} was paid and is lost",
                key.short()
            );
        }
        assert_eq!(
            *world.called_again.lock().unwrap(),
            0,
            "what is known is not asked for again"
        );
        if let Some(rpm) = night.rpm {
            // Each run begins with a burst of its own.
            let burst = (rpm / 600).max(1) as usize * 5;
            let most = busiest_minute(&world.sent.lock().unwrap());
            assert!(
                most <= rpm as usize + burst,
                "{most} calls in a minute, {rpm} are allowed"
            );
        }
        finished_again_costs_nothing(&night, &world, &store).await;
    });
}

/// A rerun calls only what failed, and writes nothing that was written.
async fn finished_again_costs_nothing(night: &Night, world: &Arc<World>, store: &Arc<MemoryStore>) {
    let before = (world.paid.lock().unwrap().clone(), *world.writes.lock().unwrap());
    let written = world.transcripts.lock().unwrap().len();
    let told = replay(night, world, store, None, vec![]).await;
    check_events(night, &told);
    for (key, paid) in &before.0 {
        assert_eq!(
            world.paid.lock().unwrap()[key],
            *paid,
            "{} was there",
            key.short()
        );
    }
    let new = world.transcripts.lock().unwrap().len() - written;
    assert_eq!(
        *world.writes.lock().unwrap() - before.1,
        new as u32,
        "only new transcripts are written"
    );
}

#[test]
fn nights_with_faults_outages_stops_and_crashes() {
    (0..12).for_each(night);
}

#[test]
fn a_quiet_night_takes_as_long_as_its_limit_says() {
    paused(async {
        let night = Night {
            personas: 30,
            concurrency: Some(500),
            rpm: Some(600),
            tpm: None,
            prefix: PrefixOrder::Eager,
            seed: 1,
            ..Night::default()
        };
        let world = Arc::new(World::new(1, 0.0));
        let told = replay(&night, &world, &Arc::new(MemoryStore::new()), None, vec![]).await;
        check_events(&night, &told);
        let calls = world.sent.lock().unwrap().len();
        let last = *world.sent.lock().unwrap().last().unwrap();
        assert_eq!(
            calls,
            29 * 7 + 3,
            "three first chunks for all, and one persona cannot be read"
        );
        assert!(
            last.as_secs_f64() < calls as f64 / 10.0 + 21.0,
            "{calls} calls took {last:?}"
        );
    });
}

/// Replays a night of ten personas in a world where some requests always meet the same.
async fn poisoned(poison: Poison) -> (Told, Duration) {
    let night = Night {
        personas: 10,
        concurrency: Some(16),
        rpm: None,
        tpm: None,
        prefix: PrefixOrder::Share,
        seed: 1,
        ..Night::default()
    };
    let world = Arc::new(World {
        poison,
        ..World::new(1, 0.0)
    });
    let told = replay(&night, &world, &Arc::new(MemoryStore::new()), None, vec![]).await;
    check_events(&night, &told);
    (told, world.start.elapsed())
}

#[test]
fn a_request_that_always_meets_a_500_is_given_up_when_nothing_else_is_left() {
    paused(async {
        let (told, took) = poisoned(|request| {
            let poisoned = request.messages[0].content.starts_with("p009 7");
            poisoned.then(|| Fault::new(FaultKind::ServerError, "internal error"))
        })
        .await;
        assert_eq!(told.outcome, Some(Outcome::Partial));
        let failures: Vec<_> = told
            .events
            .iter()
            .filter_map(|stamped| match &stamped.event {
                Event::NodeFinished(node) => Some((node.instance.to_string(), node.error.clone()?)),
                _ => None,
            })
            .collect();
        let [(name, failure)] = failures.as_slice() else {
            panic!("{failures:?}")
        };
        assert_eq!((name.as_str(), failure.kind), ("p009/combine", "server_error"));
        // It had failed before, while others were answered.
        assert_eq!(
            failure.message,
            "internal error, for 30 minutes, and nothing else was left to try"
        );
        assert!(took < Duration::from_secs(45 * 60), "{took:?}");
    });
}

#[test]
fn who_asked_to_stop_before_the_start_gets_nothing_begun() {
    paused(async {
        let night = Night {
            personas: 3,
            concurrency: Some(2),
            ..Night::default()
        };
        let world = Arc::new(World::new(1, 0.0));
        let services = Services {
            provider: world.clone(),
            store: Arc::new(MemoryStore::new()),
            project: world.clone(),
            unix_ms: || 0,
            jobs: Jobs::Inline,
        };
        let (events, mut told) = unbounded_channel();
        let (ask, asked) = unbounded_channel();
        ask.send(Stop::Drain).unwrap();
        assert_eq!(
            run(night.task(), services, events, asked).await,
            Outcome::Interrupted
        );
        assert!(world.sent.lock().unwrap().is_empty());
        let mut seen = Vec::new();
        while let Ok(stamped) = told.try_recv() {
            seen.push(stamped.event);
        }
        let [
            Event::RunStarted(_),
            Event::Stopping(Stop::Drain),
            Event::RunFinished { .. },
        ] = seen.as_slice()
        else {
            panic!("{seen:?}")
        };
    });
}

#[test]
fn a_run_that_is_never_let_in_ends_with_a_word_about_it() {
    paused(async {
        let (told, took) = poisoned(|_| Some(Fault::new(FaultKind::RateLimited, "slow down"))).await;
        assert_eq!(told.outcome, Some(Outcome::Fatal));
        let Some(Event::RunFinished {
            cause: Some(cause), ..
        }) = told.events.last().map(|last| &last.event)
        else {
            panic!("{:?}", told.events.last())
        };
        assert_eq!(cause.kind, "rate_limited");
        assert!(
            cause.message.contains("no word how long to wait"),
            "{}",
            cause.message
        );
        assert!(took < Duration::from_secs(65 * 60), "{took:?}");
    });
}

#[test]
fn equal_requests_are_paid_once_and_told_as_cached() {
    paused(async {
        let night = Night {
            personas: 10,
            concurrency: Some(64),
            rpm: None,
            tpm: None,
            prefix: PrefixOrder::Eager,
            seed: 1,
            ..Night::default()
        };
        let world = Arc::new(World::new(1, 0.0));
        let told = replay(&night, &world, &Arc::new(MemoryStore::new()), None, vec![]).await;
        let status = |wanted| {
            let is =
                |stamped: &&Stamped| matches!(&stamped.event, Event::NodeFinished(n) if n.status == wanted);
            told.events.iter().filter(is).count()
        };
        assert_eq!((status(NodeStatus::Called), status(NodeStatus::Cached)), (71, 9));
        let ok = |s: &&Stamped| {
            matches!(
                &s.event,
                Event::CallEnded {
                    outcome: CallOutcome::Ok { .. },
                    ..
                }
            )
        };
        assert_eq!(told.events.iter().filter(ok).count(), 71);
    });
}
