//! Calls that the server keeps as jobs, where it is given up at the worst moment: while the name of a
//! job is on its way to the disk.

use tokio::sync::Notify;

use super::*;
use crate::provider::{Begun, Lost, Provider};
use crate::store::{Done, Placed, Record, Safety, Source, SourceId, Store, StoreError, TranscriptNote};

/// A server whose jobs never end.
struct Queues {
    begun: Mutex<u32>,
}

#[async_trait]
impl Provider for Queues {
    async fn call(&self, _: &Request, _: u32) -> Result<Answer, Fault> {
        unreachable!("its calls are jobs")
    }

    fn has_jobs(&self) -> bool {
        true
    }

    async fn begin(&self, _: &Request, _: u32) -> Result<Begun, Fault> {
        let mut begun = self.begun.lock().unwrap();
        *begun += 1;
        Ok(Begun::Job(format!("resp_{begun}")))
    }

    async fn fetch(&self, _: &Request, _: &str) -> Result<Answer, Lost> {
        std::future::pending().await
    }
}

/// A store whose syncs of names of jobs wait until they are let go.
struct Slow {
    inner: MemoryStore,
    waiting: Mutex<Vec<(Vec<Entry>, Done)>>,
    met: Notify,
}

impl Slow {
    fn let_go(&self) {
        for (entries, done) in self.waiting.lock().unwrap().drain(..) {
            self.inner.append(&entries, Safety::Durable, done);
        }
    }
}

#[async_trait]
impl Store for Slow {
    fn look(&self, instance: &Instance, key: &Key, bounds: &Delivery) -> Result<Looked, StoreError> {
        self.inner.look(instance, key, bounds)
    }

    fn transcript(&self, persona: &PersonaId) -> Result<Option<TranscriptNote>, StoreError> {
        self.inner.transcript(persona)
    }

    fn has_source(&self, id: &SourceId) -> Result<bool, StoreError> {
        self.inner.has_source(id)
    }

    fn source(&self, id: &SourceId) -> Result<Option<Source>, StoreError> {
        self.inner.source(id)
    }

    fn calls(&self, instance: &Instance) -> Result<Vec<Placed<Entry>>, StoreError> {
        self.inner.calls(instance)
    }

    fn answers(&self, key: &Key) -> Result<Vec<Placed<Record>>, StoreError> {
        self.inner.answers(key)
    }

    fn refused(&self, key: &Key) -> Result<Vec<Placed<Record>>, StoreError> {
        self.inner.refused(key)
    }

    fn append(&self, entries: &[Entry], safety: Safety, done: Done) {
        let names_a_job = |entry: &Entry| matches!(entry, Entry::Attempt(sent) if sent.job.is_some());
        if !entries.iter().any(names_a_job) {
            return self.inner.append(entries, safety, done);
        }
        self.waiting.lock().unwrap().push((entries.to_vec(), done));
        self.met.notify_one();
    }
}

/// Given up at that moment, its call has no end: the next run finds the name and fetches the answer.
#[test]
fn what_is_given_up_while_the_name_of_its_job_is_written_stays_open() {
    paused(async {
        let world = Arc::new(World::new(1, 0.0));
        let store = Arc::new(Slow {
            inner: MemoryStore::new(),
            waiting: Mutex::default(),
            met: Notify::new(),
        });
        let (sender, mut events) = unbounded_channel();
        let (ask, asked) = unbounded_channel();
        let services = Services {
            provider: Arc::new(Queues { begun: Mutex::new(0) }),
            store: store.clone(),
            project: world.clone(),
            unix_ms: wall::unix_ms,
            jobs: Jobs::Inline,
        };
        let night = Night {
            personas: 1,
            concurrency: Some(1),
            ..Night::default()
        };
        let running = tokio::spawn(run(night.task(), services, sender, asked));
        store.met.notified().await;
        ask.send(Stop::Abort).unwrap();
        assert_eq!(running.await.unwrap(), Outcome::Interrupted);
        let mut ends = 0;
        while let Ok(stamped) = events.try_recv() {
            if let Event::CallEnded { outcome, asked, .. } = stamped.event {
                assert!(
                    matches!(outcome, CallOutcome::Abandoned) && asked.lives,
                    "{outcome:?}"
                );
                ends += 1;
            }
        }
        assert_eq!(ends, 1);
        store.let_go();
        let entries = store.inner.entries();
        let faults = entries
            .iter()
            .filter(|entry| matches!(entry, Entry::Fault { .. }));
        assert_eq!(faults.count(), 0, "nothing says that it has ended");
        let named = entries.iter().filter_map(|entry| match entry {
            Entry::Attempt(sent) => sent.job.as_deref(),
            _ => None,
        });
        assert_eq!(named.collect::<Vec<_>>(), ["resp_1"]);
    });
}
