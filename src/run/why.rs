//! Why a node would be called: its present request held against what was sent for it before. It
//! reads the store and renders, and shows nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::call::{Key, Rejection, Request};
use crate::config::Config;
use crate::names::{Instance, NodeId};
use crate::persona::{Persona, PersonaFile};
use crate::plan::change::{Change, Inputs, changes};
use crate::prompt::Prompts;
use crate::run::{Lost, Past, PastRequest};
use crate::store::{Entry, LocalStore, Record, Sent, SourceId, Store, StoreError};

/// The project as it is now, and everything that was sent.
pub struct Why<'a> {
    store: &'a LocalStore,
    past: Past<'a>,
    config: Arc<Config>,
    templates: Arc<BTreeMap<String, String>>,
    prompts: Arc<Prompts>,
    /// Present pipelines with one change undone, by the pipeline that has it as it was; `None`: it
    /// cannot be rendered. Each is compiled once, for however many personas.
    undone: HashMap<(SourceId, usize, String), Option<Prompts>>,
}

/// One persona as it is now.
pub struct Present {
    persona: Persona,
    files: Arc<BTreeMap<String, String>>,
}

/// What came of the requests that were sent for a node before.
#[derive(Debug)]
pub enum Origin {
    /// None was.
    New,
    /// This one was, and there is no answer to serve.
    Unanswered(Sent, Unanswered),
    /// Another one was.
    Changed(Box<Changed>),
    /// Another one was, and cannot be shown.
    Lost(Sent, Lost),
}

/// Why a request that was sent has no answer to serve.
#[derive(Debug)]
pub enum Unanswered {
    /// A bad one came.
    Rejected(Box<Record>, Rejection),
    /// None came.
    Faulted {
        /// In words.
        message: String,
        /// True where it may have been billed all the same.
        may_be_billed: bool,
    },
    /// One came, since the end of a run notes all that did not; it was damaged or removed.
    Gone,
}

/// What is said of a call that a run which is at work waits for.
pub const IN_FLIGHT: &str = "it is in flight";

/// The request that was sent last, and what differs.
#[derive(Debug)]
pub struct Changed {
    /// The attempt.
    pub sent: Sent,
    /// What differs and matters, the most telling first.
    pub changes: Vec<Change>,
    /// True where that is one thing, and nothing else differs: no rendering is needed to tell.
    pub is_all_that_differs: bool,
    /// The request.
    pub before: Request,
}

impl Present {
    /// A persona that was read.
    pub fn new(persona: Persona, files: Vec<PersonaFile>) -> Self {
        // A persona that can be used is UTF-8.
        let text = |file: PersonaFile| (file.name, String::from_utf8(file.bytes).unwrap_or_default());
        Self {
            persona,
            files: Arc::new(files.into_iter().map(text).collect()),
        }
    }
}

impl<'a> Why<'a> {
    /// The present pipeline and its templates beside what a store remembers.
    pub fn new(
        store: &'a LocalStore,
        config: Arc<Config>,
        templates: BTreeMap<String, String>,
        prompts: Arc<Prompts>,
    ) -> Self {
        Self {
            store,
            past: Past::new(store),
            config,
            templates: Arc::new(templates),
            prompts,
            undone: HashMap::new(),
        }
    }

    /// Says what came of the requests that were sent for `instance` before. `key` is that of its
    /// present request, which has no answer to serve, and `needs` are the answers that it uses.
    ///
    /// # Errors
    /// If the store does not work.
    pub fn origin(
        &mut self,
        instance: &Instance,
        key: &Key,
        present: &Present,
        needs: Vec<(NodeId, String)>,
    ) -> Result<Origin, StoreError> {
        let calls = self.store.calls(instance)?;
        let sent = calls.iter().rev().filter_map(|call| match &call.what {
            Entry::Attempt(sent) => Some((call.seq, sent)),
            _ => None,
        });
        if let Some((_, sent)) = sent.clone().find(|(_, sent)| sent.key == *key) {
            let what = self.unanswered(sent, calls.iter().map(|call| &call.what))?;
            return Ok(Origin::Unanswered(sent.clone(), what));
        }
        let Some((seq, sent)) = sent.clone().next() else {
            return Ok(Origin::New);
        };
        let past = self.past.request(seq, sent.clone())?;
        let Some(node) = self.config.node(&instance.node) else {
            return Ok(Origin::New);
        };
        let now = Inputs {
            config: self.config.clone(),
            node,
            templates: self.templates.clone(),
            persona_files: present.files.clone(),
            needs,
        };
        Ok(self.changed(past, &now, key, present))
    }

    /// What came of an attempt that no answer serves.
    fn unanswered<'e>(
        &self,
        sent: &Sent,
        entries: impl Iterator<Item = &'e Entry>,
    ) -> Result<Unanswered, StoreError> {
        if let Some((record, rejection)) = self.store.rejected(&sent.key)?.pop() {
            return Ok(Unanswered::Rejected(Box::new(record), rejection));
        }
        let fault = entries
            .filter_map(|entry| match entry {
                Entry::Fault {
                    run,
                    attempt,
                    kind,
                    message,
                    may_be_billed,
                    ..
                } if *run == sent.run && *attempt == sent.attempt => Some(Unanswered::Faulted {
                    message: message.clone(),
                    may_be_billed: *may_be_billed || kind.is_none(),
                }),
                _ => None,
            })
            .last();
        // Only while the run that sent it is at work: what opens the cache after it notes the end.
        let waiting = || Unanswered::Faulted {
            message: IN_FLIGHT.to_owned(),
            may_be_billed: true,
        };
        let open = self.store.is_unfinished(sent).then(waiting);
        Ok(fault.or(open).unwrap_or(Unanswered::Gone))
    }

    fn changed(&mut self, past: PastRequest, now: &Inputs, key: &Key, present: &Present) -> Origin {
        let lost = |lost: Lost, sent: Sent| Origin::Lost(sent, lost);
        let (before, request) = match inputs(&past) {
            Ok(both) => both,
            Err(why) => return lost(why, past.sent),
        };
        let all = changes(&before, now);
        let (pipeline, one) = (past.sent.pipeline, all.len() == 1);
        let matters: Vec<Change> = all
            .iter()
            .filter(|change| self.matters(change, &before, now, key, present, pipeline))
            .cloned()
            .collect();
        Origin::Changed(Box::new(Changed {
            sent: past.sent,
            // Two that only matter together are both told.
            changes: if matters.is_empty() { all } else { matters },
            is_all_that_differs: one,
            before: request,
        }))
    }

    /// True if the present request would be another one without this change.
    fn matters(
        &mut self,
        change: &Change,
        before: &Inputs,
        now: &Inputs,
        key: &Key,
        present: &Present,
        pipeline: Option<SourceId>,
    ) -> bool {
        let id = &now.config.nodes[now.node].id;
        let undone = now.without(change, before);
        let needs: Vec<(&NodeId, &str)> = undone
            .needs
            .iter()
            .map(|(node, text)| (node, text.as_str()))
            .collect();
        let differs = |prompts: &Prompts, persona: &Persona| {
            let request = prompts.request(now.node, persona, &needs);
            request.map_or(true, |request| Key::of(&request) != *key)
        };
        match change {
            Change::Provider { .. }
            | Change::Model { .. }
            | Change::Parameter { .. }
            | Change::Variant { .. } => true,
            Change::PersonaFile { .. } => {
                let files: Vec<PersonaFile> = undone
                    .persona_files
                    .iter()
                    .map(|(name, text)| PersonaFile {
                        name: name.clone(),
                        bytes: text.clone().into_bytes(),
                    })
                    .collect();
                let persona = Persona::build(present.persona.id(), present.persona.id().as_str(), &files);
                persona.map_or(true, |persona| differs(&self.prompts, &persona))
            }
            Change::Need { .. }
                if now.config.nodes[now.node].needs == undone.config.nodes[now.node].needs =>
            {
                differs(&self.prompts, &present.persona)
            }
            Change::Part { .. } | Change::Template { .. } | Change::Var { .. } | Change::Need { .. } => {
                let compile = || Prompts::compile(&undone.config, &undone.templates).ok();
                let Some(pipeline) = pipeline else {
                    return compile().is_none_or(|prompts| differs(&prompts, &present.persona));
                };
                let node = before.config.node(id).unwrap_or(now.node);
                let place = (pipeline, node, change.to_string());
                let prompts = self.undone.entry(place).or_insert_with(compile);
                prompts
                    .as_ref()
                    .is_none_or(|prompts| differs(prompts, &present.persona))
            }
        }
    }
}

/// What a past request was made of, and itself.
fn inputs(past: &PastRequest) -> Result<(Inputs, Request), Lost> {
    let request = past.request.as_ref().map_err(Lost::clone)?;
    let pipeline = past.pipeline.as_ref().map_err(Lost::clone)?;
    let files = past.persona_files.as_ref().map_err(Lost::clone)?;
    let node = pipeline
        .config
        .node(&past.sent.instance.node)
        .ok_or(Lost::Differs)?;
    let needs = past.needs.iter().map(|need| {
        let id = need.node.clone()?;
        let text = need.answer.as_ref()?.answer.text.clone();
        Some((id, text))
    });
    let inputs = Inputs {
        config: Arc::new(pipeline.config.clone()),
        node,
        templates: Arc::new(pipeline.templates.clone()),
        persona_files: Arc::new(files.clone()),
        needs: needs.collect::<Option<_>>().ok_or(Lost::NotKept)?,
    };
    Ok((inputs, request.clone()))
}
