//! Tells which personas are up to date without rendering or looking anything up, and notes for the
//! next run which are. A persona is if its files, its transcript and all that its receipt rests on
//! are as they were when its nodes had their answers; what is not surely so is looked at in full.
#![expect(
    clippy::disallowed_methods,
    reason = "whether a file was just written is told by the clock on the wall"
)]

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::SystemTime;

use crate::call::Money;
use crate::config::Config;
use crate::files::{Fingerprint, Fingerprints, Project};
use crate::names::PersonaId;
use crate::run::{Finished, Snapshot};
use crate::store::{Basis, Digest, Receipt, Receipts};

/// A persona that is up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpToDate {
    /// Which.
    pub persona: PersonaId,
    /// What the answers of its nodes had cost; `None`: not known of one of them.
    pub saved: Option<Money>,
}

/// Personas by whether they are up to date, in their order.
#[derive(Debug, Default)]
pub struct Parted {
    /// Nothing is to be done for them.
    pub up_to_date: Vec<UpToDate>,
    /// They are to be looked at.
    pub others: Vec<PersonaId>,
    /// Receipts of those that look different and are the same.
    pub newer: Vec<(PersonaId, Receipt)>,
}

/// Looks at personas and their receipts.
pub struct Looking<'a> {
    project: &'a Project,
    config: &'a Config,
    fingerprints: Fingerprints<'a>,
}

impl<'a> Looking<'a> {
    /// `None` if there is no folder of personas.
    pub fn new(project: &'a Project, config: &'a Config) -> Option<Self> {
        Some(Self {
            project,
            config,
            fingerprints: project.fingerprints(config)?,
        })
    }

    /// Parts personas by their receipts, on all cores.
    pub fn part(&self, receipts: &Receipts, personas: Vec<PersonaId>) -> Parted {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let each = personas.len().div_ceil(cores).max(1);
        let look = |some: &[PersonaId]| -> Vec<_> {
            let of = |id| self.up_to_date(id, receipts.of(id)?);
            some.iter().map(of).collect()
        };
        let found: Vec<Option<(UpToDate, Option<Receipt>)>> = thread::scope(|scope| {
            let begin = |some| (some, scope.spawn(move || look(some)));
            let jobs: Vec<_> = personas.chunks(each).map(begin).collect();
            // Of whom a look panicked is looked at in full.
            let end = |(some, job): (&[_], thread::ScopedJoinHandle<'_, _>)| {
                job.join().unwrap_or_else(|_| vec![None; some.len()])
            };
            jobs.into_iter().flat_map(end).collect()
        });
        let mut parted = Parted::default();
        for (persona, found) in personas.into_iter().zip(found) {
            match found {
                Some((found, newer)) => {
                    parted.newer.extend(newer.map(|newer| (persona, newer)));
                    parted.up_to_date.push(found);
                }
                None => parted.others.push(persona),
            }
        }
        parted
    }

    /// Looks at one; with a newer receipt where the content had to tell.
    fn up_to_date(&self, persona: &PersonaId, receipt: &Receipt) -> Option<(UpToDate, Option<Receipt>)> {
        let found = UpToDate {
            persona: persona.clone(),
            saved: receipt.saved,
        };
        let looks = [self.files(persona)?, self.transcript(persona)?];
        let same = looks.map(|look| Digest(look.digest())) == [receipt.files, receipt.transcript];
        if same && !receipt.fresh {
            return Some((found, None));
        }
        // What looks different may hold the same, after `touch` or in a copy.
        let same = self.holds(persona, receipt.content) && self.says(persona, receipt.text);
        same.then(|| (found, Some(receipt.looking_like(looks))))
    }

    /// The files of a persona, from outside.
    pub fn files(&self, persona: &PersonaId) -> Option<Fingerprint> {
        self.fingerprints.persona(persona, now())
    }

    fn transcript(&self, persona: &PersonaId) -> Option<Fingerprint> {
        self.fingerprints.transcript(persona, now())
    }

    fn holds(&self, persona: &PersonaId, content: Digest) -> bool {
        let read = self.project.persona(self.config, persona);
        read.is_ok_and(|(_, files)| Digest(*Snapshot::persona(files).id().as_bytes()) == content)
    }

    fn says(&self, persona: &PersonaId, text: Digest) -> bool {
        let read = self.project.read(&self.config.transcript(persona));
        read.is_ok_and(|found| found.is_some_and(|found| digest(&found) == text))
    }
}

/// What a run notes of personas that it has brought up to date.
#[derive(Default)]
pub struct Notes(Mutex<Noted>);

type Note = (PersonaId, [bool; 2], Receipt);

#[derive(Default)]
struct Noted {
    /// Each with whether its files and its transcript had just been written: there may be very many.
    personas: Vec<Note>,
    /// Who was looked at and is not among them: what an earlier receipt says of them need not hold.
    open: HashSet<PersonaId>,
    /// An answer that others may rest on was replaced: nothing that is noted in this run holds.
    void: bool,
    /// Likewise of one that a check refused: nothing holds that rests on such a one.
    refused_void: bool,
}

impl Notes {
    /// Notes that a persona is looked at.
    pub fn open(&self, persona: &PersonaId) {
        self.lock().open.insert(persona.clone());
    }

    /// Notes a persona whose nodes all have their answers and whose transcript holds them.
    pub fn note(&self, looking: &Looking<'_>, finished: &Finished<'_>) {
        let Finished {
            persona,
            requests,
            text,
            saved,
            readmitted,
        } = *finished;
        let transcript = looking.transcript(persona);
        let (Some(files), Some(read), Some(transcript)) = (requests.seen(), requests.files(), transcript)
        else {
            return;
        };
        let receipt = Receipt {
            files: Digest(files.digest()),
            content: Digest(*read.id().as_bytes()),
            transcript: Digest(transcript.digest()),
            text: digest(text),
            fresh: true,
            saved,
            readmitted,
        };
        // Read after it was looked at: what somebody else wrote in between would pass for ours.
        if looking.says(persona, receipt.text) {
            let note = (
                persona.clone(),
                [files.is_fresh(), transcript.is_fresh()],
                receipt,
            );
            let mut noted = self.lock();
            noted.open.remove(persona);
            noted.personas.push(note);
        }
    }

    /// Takes back what was noted, and what will be.
    pub fn void(&self) {
        let mut noted = self.lock();
        noted.personas = Vec::new();
        noted.void = true;
    }

    /// Takes back what was noted of personas that rest on an answer that a check refused, and what will be.
    /// False if that was done before.
    pub fn void_readmitted(&self) -> bool {
        !std::mem::replace(&mut self.lock().refused_void, true)
    }

    /// All that was noted, as receipts, and those of `others` beside them; `None` where nothing holds.
    /// What had just been written when it was noted is looked at once more: most of it has come to rest.
    pub fn receipts(&self, looking: &Looking<'_>, basis: Basis, mut others: Receipts) -> Option<Receipts> {
        let noted = std::mem::take(&mut *self.lock());
        let settled = |(persona, [mut files, mut transcript], mut receipt): Note| {
            if files
                && let Some(now) = looking.files(&persona)
                && looking.holds(&persona, receipt.content)
            {
                (receipt.files, files) = (Digest(now.digest()), now.is_fresh());
            }
            if transcript
                && let Some(now) = looking.transcript(&persona)
                && looking.says(&persona, receipt.text)
            {
                (receipt.transcript, transcript) = (Digest(now.digest()), now.is_fresh());
            }
            receipt.fresh = files || transcript;
            (persona, receipt)
        };
        let mut receipts = Receipts::new(basis);
        let holds = |(.., receipt): &Note| !(noted.refused_void && receipt.readmitted);
        receipts.keep(noted.personas.into_iter().filter(holds).map(settled));
        others.forget(&noted.open);
        receipts.keep_others(others);
        (!noted.void).then_some(receipts)
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receipt {
    /// The same contents, as their files look now.
    fn looking_like(&self, [files, transcript]: [Fingerprint; 2]) -> Self {
        Self {
            files: Digest(files.digest()),
            transcript: Digest(transcript.digest()),
            fresh: files.is_fresh() || transcript.is_fresh(),
            ..self.clone()
        }
    }
}

/// The time by the clock on the wall.
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// The name of a transcript's text.
fn digest(text: &[u8]) -> Digest {
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(text).as_bytes()[..16]);
    Digest(digest)
}
