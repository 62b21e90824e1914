//! Tells which personas are up to date without rendering or looking anything up, and notes for the
//! next run which are. A persona is if its files, its transcript and all that their receipt rests on
//! are as they were when its nodes had their answers; what is not surely so is looked at in full.

use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::call::Money;
use crate::config::Config;
use crate::files::{Project, Stamp, Stamps};
use crate::names::PersonaId;
use crate::run::{Finished, Snapshot};
use crate::store::{Digest, Receipt, Receipts};

/// A persona that is up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpToDate {
    /// Which.
    pub persona: PersonaId,
    /// What the answers of its nodes had cost; `None`: not known of one of them.
    pub saved: Option<Money>,
}

/// What a run notes while it goes on.
pub struct Noted {
    noted: Mutex<Vec<(PersonaId, [Stamp; 2], Receipt)>>,
}

/// Parts the personas into those that are up to date and the others, both in their order.
pub fn part(
    project: &Project,
    config: &Config,
    receipts: &Receipts,
    personas: Vec<PersonaId>,
) -> (Vec<UpToDate>, Vec<PersonaId>) {
    let Some(stamps) = project.stamps(config) else {
        return (Vec::new(), personas);
    };
    let looking = Looking {
        project,
        config,
        receipts,
        stamps,
    };
    // A look is a handful of system calls: one core is busy with them.
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let each = personas.len().div_ceil(cores).max(1);
    let found: Vec<Option<UpToDate>> = thread::scope(|scope| {
        let look = |some: &[PersonaId]| some.iter().map(|id| looking.up_to_date(id)).collect::<Vec<_>>();
        let jobs: Vec<_> = personas
            .chunks(each)
            .map(|some| (some, scope.spawn(move || look(some))))
            .collect();
        let done = jobs
            .into_iter()
            .map(|(some, job)| job.join().unwrap_or_else(|_| vec![None; some.len()]));
        done.flatten().collect()
    });
    let mut others = Vec::new();
    let mut up_to_date = Vec::new();
    for (persona, found) in personas.into_iter().zip(found) {
        match found {
            Some(found) => up_to_date.push(found),
            None => others.push(persona),
        }
    }
    (up_to_date, others)
}

struct Looking<'a> {
    project: &'a Project,
    config: &'a Config,
    receipts: &'a Receipts,
    stamps: Stamps<'a>,
}

impl Looking<'_> {
    fn up_to_date(&self, persona: &PersonaId) -> Option<UpToDate> {
        let Receipt(files, content, transcript, text, fresh, saved) = self.receipts.of(persona)?;
        let looks = [self.stamps.persona(persona)?, self.stamps.transcript(persona)?];
        let same = looks.map(|stamp| Digest(stamp.digest())) == [*files, *transcript];
        // What looks different may hold the same, after `touch` or a copy.
        let same = (same && !fresh) || (self.holds(persona, content) && self.says(persona, text));
        same.then(|| UpToDate {
            persona: persona.clone(),
            saved: *saved,
        })
    }

    fn holds(&self, persona: &PersonaId, content: &Digest) -> bool {
        let read = self.project.persona(self.config, persona);
        read.is_ok_and(|(_, files)| Digest(*Snapshot::persona(files).id().as_bytes()) == *content)
    }

    fn says(&self, persona: &PersonaId, text: &Digest) -> bool {
        let read = self.project.read(&self.config.transcript(persona));
        read.is_ok_and(|found| found.is_some_and(|found| digest(&found) == *text))
    }
}

impl Noted {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            noted: Mutex::default(),
        }
    }

    /// Notes a persona whose nodes all have their answers and whose transcript holds them.
    pub fn note(&self, project: &Project, config: &Config, finished: &Finished<'_>) {
        let Finished {
            persona,
            requests,
            text,
            saved,
        } = *finished;
        let (Some(seen), Some(files)) = (requests.seen(), requests.files()) else {
            return;
        };
        let Some(transcript) = project
            .stamps(config)
            .and_then(|stamps| stamps.transcript(persona))
        else {
            return;
        };
        // Read after it was looked at: whoever wrote it in between would pass for us.
        let holds_it = |found: Option<Vec<u8>>| found.is_some_and(|found| found == text);
        if !project.read(&config.transcript(persona)).is_ok_and(holds_it) {
            return;
        }
        let receipt = Receipt(
            Digest(seen.digest()),
            Digest(*files.id().as_bytes()),
            Digest(transcript.digest()),
            digest(text),
            true,
            saved,
        );
        self.lock().push((persona.clone(), [seen, transcript], receipt));
    }

    /// All that was noted, as receipts; `now` is in nanoseconds since 1970.
    pub fn receipts(&self, basis: String, now: u64) -> Receipts {
        let mut receipts = Receipts::new(basis);
        for (persona, stamps, mut receipt) in std::mem::take(&mut *self.lock()) {
            receipt.4 = stamps.iter().any(|stamp| stamp.is_fresh(now));
            receipts.keep(persona, receipt);
        }
        receipts
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(PersonaId, [Stamp; 2], Receipt)>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of a transcript's text.
fn digest(text: &[u8]) -> Digest {
    let mut digest = [0; 16];
    let whole = blake3::hash(text);
    digest.copy_from_slice(&whole.as_bytes()[..16]);
    Digest(digest)
}
