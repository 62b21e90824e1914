//! A project on the disk, as a run sees it: personas are read and rendered, transcripts read and
//! written.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::call::Request;
use crate::config::Config;
use crate::events::Failure;
use crate::files::{self, Fingerprint};
use crate::graph::Graph;
use crate::names::{NodeId, PersonaId};
use crate::persona::Persona;
use crate::prompt::{Parts, Prompts};
use crate::run::receipts::{Looking, Notes, Parted, now};
use crate::run::{Finished, Project, Replaced, Requests, Snapshot};
use crate::store::{Basis, Receipts};

/// What is appended to the name of a transcript for a new text beside one edited by hand.
const BESIDE: &str = ".new";
/// What stands for the answers that a node needs while it is only tried whether its prompt can be
/// rendered.
const PLACEHOLDER: &str = "…";

/// The folder of a `pipeline.toml`.
pub struct Folder {
    files: files::Project,
    config: Arc<Config>,
    graph: Arc<Graph>,
    prompts: Arc<Prompts>,
    notes: Notes,
    /// The folder of the cache, where the receipts lie, and what new ones rest on.
    receipts: Option<(PathBuf, Basis)>,
}

impl Folder {
    /// A project whose pipeline and prompts are good.
    pub fn new(files: files::Project, config: Arc<Config>, graph: Arc<Graph>, prompts: Arc<Prompts>) -> Self {
        Self {
            files,
            config,
            graph,
            prompts,
            notes: Notes::default(),
            receipts: None,
        }
    }

    /// The same, for a run: with the folder of the cache that keeps receipts, which are taken back where
    /// they do not hold any more. New ones rest on `basis`.
    pub fn with_receipts(self, cache: PathBuf, basis: Basis) -> Self {
        Self {
            receipts: Some((cache, basis)),
            ..self
        }
    }

    /// Parts personas by their receipts.
    pub fn part(&self, receipts: &Receipts, personas: Vec<PersonaId>) -> Parted {
        match Looking::new(&self.files, &self.config) {
            Some(looking) => looking.part(receipts, personas),
            None => Parted {
                others: personas,
                ..Parted::default()
            },
        }
    }

    /// The receipts of the personas that were brought up to date, and those of others that are in the
    /// cache and still hold; `None` where none holds. Only while the store is open: those that were
    /// read before may have been taken back since.
    pub fn receipts(&self) -> Option<Receipts> {
        let (cache, basis) = self.receipts.as_ref()?;
        let looking = Looking::new(&self.files, &self.config)?;
        let others = Receipts::read_all(cache, basis.clone());
        self.notes.receipts(&looking, basis.clone(), others)
    }

    /// Drops the receipts that rest on an answer that a check refused when it came, durably.
    fn drop_readmitted(&self) -> io::Result<()> {
        let Some((cache, basis)) = &self.receipts else {
            return Ok(());
        };
        let mut receipts = Receipts::read_all(cache, basis.clone());
        match receipts.drop_readmitted() {
            // Where there is no room to write the others: to take all of them back needs none.
            true => receipts.write(cache).or_else(|_| Receipts::remove(cache)),
            false => Ok(()),
        }
    }
}

impl Project for Folder {
    fn open(&self, persona: &PersonaId) -> Result<Box<dyn Requests>, Failure> {
        if self.receipts.is_some() {
            self.notes.open(persona);
        }
        let read = self.files.seen_persona(&self.config, persona, now());
        let (persona, files, seen) = read.map_err(|error| failure(Failure::PERSONA, error.summary()))?;
        let rendered = Rendered {
            persona,
            seen,
            files: Arc::new(Snapshot::persona(files)),
            prompts: self.prompts.clone(),
            parts: Parts::default(),
        };
        for node in 0..self.graph.len() {
            let ids = self.graph.needs(node).iter().map(|&need| self.graph.id(need));
            let needs: Vec<(&NodeId, &str)> = ids.map(|id| (id, PLACEHOLDER)).collect();
            // A node that needs nothing is rendered by the run itself, before its first call too.
            if !needs.is_empty() {
                rendered.request(node, &needs)?;
            }
        }
        Ok(Box::new(rendered))
    }

    fn transcript(&self, persona: &PersonaId) -> Result<Option<Vec<u8>>, Failure> {
        let found = self.files.read(&self.config.transcript(persona));
        found.map_err(|error| failure(Failure::OUTPUT, error.summary()))
    }

    fn write(&self, persona: &PersonaId, text: &str, beside: bool) -> Result<String, Failure> {
        let mut path = self.config.transcript(persona);
        if beside {
            path.push_str(BESIDE);
        }
        let written = self.files.write(&path, text.as_bytes());
        written.map_err(|error| failure(Failure::OUTPUT, error.summary()))?;
        if !beside {
            // What lay beside it is in its place now. A failure leaves it there, and that is all.
            _ = self
                .files
                .remove_same(&format!("{path}{BESIDE}"), text.as_bytes());
        }
        Ok(path)
    }

    fn finished(&self, finished: &Finished<'_>) {
        if let Some(looking) = Looking::new(&self.files, &self.config) {
            self.notes.note(&looking, finished);
        }
    }

    fn answer_replaced(&self, replaced: Replaced) -> Result<(), Failure> {
        let taken_back = match replaced {
            Replaced::Served => {
                self.notes.void();
                let cache = self.receipts.as_ref().map(|(cache, _)| cache);
                cache.map_or(Ok(()), |cache| Receipts::remove(cache))
            }
            Replaced::Refused if self.notes.void_readmitted() => self.drop_readmitted(),
            Replaced::Refused => Ok(()),
        };
        taken_back.map_err(|error| {
            let message = format!("cannot take back the receipts in the cache: {error}");
            failure(Failure::STORE, message)
        })
    }
}

/// A persona and the templates.
struct Rendered {
    persona: Persona,
    seen: Option<Fingerprint>,
    files: Arc<Snapshot>,
    prompts: Arc<Prompts>,
    parts: Parts,
}

impl Requests for Rendered {
    fn request(&self, node: usize, needs: &[(&NodeId, &str)]) -> Result<Request, Failure> {
        let request = self.prompts.next_request(node, &self.persona, needs, &self.parts);
        request.map_err(|error| failure(Failure::TEMPLATE, error.summary()))
    }

    fn files(&self) -> Option<Arc<Snapshot>> {
        Some(self.files.clone())
    }

    fn seen(&self) -> Option<Fingerprint> {
        self.seen
    }
}

fn failure(kind: &'static str, message: String) -> Failure {
    Failure {
        kind,
        message,
        http_status: None,
    }
}
