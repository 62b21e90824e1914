//! Nights drawn from a seed in which the server keeps each call as a job, and nights in which several
//! models share the nodes, each with a limit of its own.
//!
//! `SEPTET_NIGHTS=1000 cargo test --lib nights_of` replays so many of each; `SEPTET_NIGHT=seed` one.

use super::seeded::{disturbances, drawn, keeps_its_rate, world};
use super::*;

/// So many are replayed of each kind where nothing else is said.
const NIGHTS: u64 = 40;

/// The jobs of a server, and whose they are.
#[derive(Default)]
pub struct Kept {
    jobs: Mutex<HashMap<String, Job>>,
}

#[derive(Clone)]
struct Job {
    /// When it has ended, by the time of the night.
    ready: Duration,
    end: Result<Answer, Fault>,
}

impl Kept {
    /// Takes a call, which is paid for from then on, and names it.
    pub async fn begin(&self, world: &World, request: &Request) -> Result<String, Fault> {
        let key = Key::of(request);
        world.sent.lock().unwrap().push(world.start.elapsed());
        *world.called_again.lock().unwrap() += u32::from(world.known.lock().unwrap().contains(&key));
        *world.in_flight.lock().unwrap().entry(key).or_default() += 1;
        let _guard = InFlight(world, key);
        tokio::time::sleep(Duration::from_secs_f64(0.1 + world.draw() * 0.5)).await;
        world.admit(&request.model)?;
        if world.outage.contains(&world.start.elapsed()) {
            return Err(Fault::new(FaultKind::Connection, "no route to host"));
        }
        let takes = 0.2 + world.draw() * 20.0;
        let job = Job {
            ready: world.start.elapsed() + Duration::from_secs_f64(takes),
            end: world.answer(key, takes),
        };
        // The answer to this is lost on its way now and then: nobody knows its name.
        let lost = world.draw() < world.faults / 10.0;
        let mut jobs = self.jobs.lock().unwrap();
        let name = format!("resp_{}", jobs.len());
        jobs.insert(name.clone(), job);
        match lost {
            false => Ok(name),
            true => {
                *world.nameless.lock().unwrap().entry(key).or_default() += 1;
                Err(Fault::new(FaultKind::Timeout, "no answer in time"))
            }
        }
    }

    /// Waits for the end of a job, not for ever.
    pub async fn fetch(&self, world: &World, job: &str) -> Result<Answer, Lost> {
        let begun = world.start.elapsed();
        let alive = |kind, words: &str| {
            Err(Lost {
                fault: Fault::new(kind, words),
                lives: true,
            })
        };
        loop {
            if world.outage.contains(&world.start.elapsed()) || world.draw() < world.faults / 4.0 {
                return alive(FaultKind::ServerError, "a fault while it was asked for");
            }
            let job = self.jobs.lock().unwrap()[job].clone();
            if job.ready <= world.start.elapsed() {
                return job.end.map_err(|fault| Lost { fault, lives: false });
            }
            if begun + Duration::from_secs(15) < world.start.elapsed() {
                return alive(FaultKind::Unfinished, "it has not ended yet");
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
}

/// The calls of which the store has the name of a job and no end.
fn open(store: &MemoryStore) -> HashMap<Key, Vec<Sent>> {
    let mut open: BTreeMap<(RunId, Instance, u32), Sent> = BTreeMap::new();
    for entry in store.entries() {
        match entry {
            Entry::Attempt(sent) => {
                _ = open.insert((sent.run.clone(), sent.instance.clone(), sent.attempt), sent);
            }
            Entry::Answer(record) | Entry::Rejected { record, .. } => {
                _ = open.remove(&(record.run, record.instance, record.attempt));
            }
            Entry::Fault {
                run,
                instance,
                attempt,
                ..
            } => _ = open.remove(&(run, instance, attempt)),
            _ => {}
        }
    }
    let mut fetchable: HashMap<Key, Vec<Sent>> = HashMap::new();
    for sent in open.into_values().filter(|sent| sent.job.is_some()) {
        fetchable.entry(sent.key).or_default().push(sent);
    }
    fetchable
}

/// What a run says that it sent is what the server got.
fn counts_what_it_sent(told: &Told, sent: usize) {
    let mut tally = crate::events::Tally::default();
    told.events.iter().for_each(|stamped| tally.apply(stamped));
    if told.outcome.is_some() {
        assert_eq!(tally.calls.sent - tally.calls.fetched, sent as u64, "sent");
    }
}

/// No key was paid oftener than its calls were lost before their names were known.
fn paid_once(world: &World, lost: &HashMap<Key, u32>) {
    for (key, paid) in world.paid.lock().unwrap().iter() {
        let nameless = world.nameless.lock().unwrap().get(key).copied().unwrap_or(0);
        let excuse = nameless + lost.get(key).copied().unwrap_or(0);
        assert!(*paid <= 1 + excuse, "{} was paid {paid} times", key.short());
    }
    assert_eq!(
        *world.called_again.lock().unwrap(),
        0,
        "what is known is not asked for again"
    );
}

/// Jobs that are killed, stopped and given up between their name and their answer are paid once.
fn night_of_jobs(seed: u64) {
    wall::by_the_clock("2026-11-26T21:30:00Z", async {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut night = drawn(&mut chance, seed);
        night.personas = night.personas.min(20);
        let mut server = world(&mut chance, seed);
        server.jobs = Some(Kept::default());
        let world = Arc::new(server);
        let mut store = Arc::new(MemoryStore::new());
        let mut lost: HashMap<Key, u32> = HashMap::new();
        let most = 2 + chance.u32(0..4);
        for number in 0.. {
            night.run = number;
            night.fetchable = open(&store);
            let disturbed = number < most;
            let at = Duration::from_secs_f64(chance.f64() * 120.0);
            let kill = match chance.u8(0..3) {
                0 if disturbed => Kill::AtStep(chance.u64(0..2_000)),
                1 if disturbed => Kill::After(at),
                _ => Kill::Never,
            };
            let stops = match chance.u8(0..2) {
                0 if disturbed => vec![
                    (at, Stop::Drain),
                    (Duration::from_secs(chance.u64(0..10)), Stop::Abort),
                ],
                _ => vec![],
            };
            let before = world.sent.lock().unwrap().len();
            let told = replay_until(&night, &world, &store, kill, stops).await;
            let sent = world.sent.lock().unwrap()[before..].to_vec();
            keeps_its_rate(&night, &sent);
            counts_what_it_sent(&told, sent.len());
            // Given up, or killed, before the name was there.
            for (key, count) in world.in_flight.lock().unwrap().iter().filter(|(_, n)| **n > 0) {
                *lost.entry(*key).or_default() += count;
            }
            if told.outcome.is_none() {
                store = Arc::new(store.crashed());
            }
            tokio::time::sleep(Duration::from_secs(4 * 3_600)).await;
            paid_once(&world, &lost);
            if !disturbed && matches!(told.outcome, Some(Outcome::Complete | Outcome::Partial)) {
                break;
            }
            assert!(number < most + 10, "it never comes to an end: {:?}", told.outcome);
        }
        night.run += 1;
        night.fetchable = open(&store);
        finished_again_costs_nothing(&night, &world, &store).await;
    });
}

/// Limits that the server has for each model by itself are kept and used, whatever is asked of others.
fn night_of_models(seed: u64) {
    wall::by_the_clock("2026-11-26T21:30:00Z", async {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut night = drawn(&mut chance, seed);
        let mut server = world(&mut chance, seed);
        night.models = chance.usize(2..5);
        server.models = night.models;
        let world = Arc::new(server);
        let store = Arc::new(MemoryStore::new());
        for number in 0..12 {
            night.run = number;
            let slept = disturbances(&mut chance);
            let before = world.sent.lock().unwrap().len();
            let told = replay_until(&night, &world, &store, Kill::Never, vec![]).await;
            keeps_its_rate(&night, &world.sent.lock().unwrap()[before..]);
            super::seeded::agree(&told, &store, slept);
            check_events(&night, &told);
            tokio::time::sleep(Duration::from_secs(4 * 3_600)).await;
            super::seeded::nothing_is_lost_or_paid_twice(&world, &store, &HashMap::new());
            if matches!(told.outcome, Some(Outcome::Complete | Outcome::Partial)) {
                night.run += 1;
                return finished_again_costs_nothing(&night, &world, &store).await;
            }
        }
        panic!("it never comes to an end");
    });
}

fn nights_of(kind: &str, night: fn(u64)) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("SEPTET_NIGHT") {
        return night(seed);
    }
    let nights = number("SEPTET_NIGHTS").unwrap_or(NIGHTS);
    let failed: Vec<u64> = (0..nights)
        .filter(|seed| std::panic::catch_unwind(|| night(*seed)).is_err())
        .collect();
    for seed in &failed {
        println!("replay it: SEPTET_NIGHT={seed} cargo test --lib nights_of_{kind}");
    }
    assert!(
        failed.is_empty(),
        "{} of {nights} nights: {failed:?}",
        failed.len()
    );
}

#[test]
fn nights_of_jobs() {
    nights_of("jobs", night_of_jobs);
}

#[test]
fn nights_of_models() {
    nights_of("models", night_of_models);
}
