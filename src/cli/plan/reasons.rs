//! Why a request has no answer: what differs from the one that was sent last for the same node, by
//! the same code as `septet why`.

use std::collections::HashMap;

use crate::call::Key;
use crate::cli::cache;
use crate::cli::failure::CliError;
use crate::cli::project::Loaded;
use crate::names::{Instance, NodeId, PersonaId};
use crate::plan::{Outlook, Reason};
use crate::run::{Origin, Present, Unanswered, Why};
use crate::store::{Entry, LocalStore, Sent, SourceId, Store, StoreError};

/// So many calls are held against what was sent before, which takes about a millisecond each.
const MOST: usize = 5_000;

/// Explains one call after the other.
pub struct Reasons<'a> {
    project: &'a Loaded,
    store: &'a LocalStore,
    why: Why<'a>,
    explained: usize,
    /// The one thing of the pipeline that differs for a node from an earlier pipeline: the same for all
    /// personas that are what they were.
    edits: HashMap<(SourceId, usize), Reason>,
}

/// What was learned of a persona's nodes while it was planned.
pub struct Looked {
    /// Keys of the requests that are known.
    pub keys: Vec<Option<Key>>,
    /// Texts of the answers that are there.
    pub answers: Vec<Option<String>>,
    /// The name of what is in the persona's files.
    pub content: Option<SourceId>,
}

impl Looked {
    /// Nothing yet of so many nodes.
    pub fn new(nodes: usize) -> Self {
        Self {
            keys: vec![None; nodes],
            answers: vec![None; nodes],
            content: None,
        }
    }
}

impl<'a> Reasons<'a> {
    /// For the project as it is now.
    pub fn new(project: &'a Loaded, store: &'a LocalStore) -> Self {
        let why = Why::new(
            store,
            project.config.clone(),
            project.templates.clone(),
            project.prompts.clone(),
        );
        Self {
            project,
            store,
            why,
            explained: 0,
            edits: HashMap::new(),
        }
    }

    /// Puts what differs in place of every `new` that is not.
    ///
    /// # Errors
    /// If the store does not work.
    pub fn explain(
        &mut self,
        persona: &PersonaId,
        outlooks: &mut [Outlook],
        looked: &Looked,
    ) -> Result<(), CliError> {
        let mut present = None;
        for (node, outlook) in outlooks.iter_mut().enumerate() {
            let (Outlook::Call(_, reason @ Reason::New), Some(key)) = (outlook, looked.keys[node]) else {
                continue;
            };
            let instance = Instance::new(persona.clone(), self.project.graph.id(node).clone());
            let explained = self.reason(&instance, &key, node, looked, &mut present);
            *reason = explained.map_err(|error| cache::refused(&error))?;
        }
        Ok(())
    }

    fn reason(
        &mut self,
        instance: &Instance,
        key: &Key,
        node: usize,
        looked: &Looked,
        present: &mut Option<Present>,
    ) -> Result<Reason, StoreError> {
        let calls = self.store.calls(instance)?;
        let sent = || {
            calls.iter().filter_map(|call| match &call.what {
                Entry::Attempt(sent) => Some(sent),
                _ => None,
            })
        };
        let Some(newest) = sent().next_back() else {
            return Ok(Reason::New);
        };
        let edit = match sent().all(|sent| sent.key != *key) {
            true => self.only_the_pipeline(newest, node, looked),
            false => None,
        };
        if let Some(reason) = edit.and_then(|edit| self.edits.get(&edit)) {
            return Ok(reason.clone());
        }
        if self.explained == MOST {
            return Ok(Reason::Unexplained);
        }
        self.explained += 1;
        let present = match present {
            Some(present) => present,
            None => match self
                .project
                .files
                .persona(&self.project.config, &instance.persona)
            {
                Ok((persona, files)) => present.insert(Present::new(persona, files)),
                // It could be read a moment ago.
                Err(_) => return Ok(Reason::Unexplained),
            },
        };
        let graph = &self.project.graph;
        let needs = graph.needs(node).iter().filter_map(|&need| {
            let text = looked.answers[need].clone()?;
            Some((graph.id(need).clone(), text))
        });
        let needs: Vec<(NodeId, String)> = needs.collect();
        Ok(match self.why.origin(instance, key, present, needs)? {
            Origin::New => Reason::New,
            Origin::Unanswered(_, Unanswered::Rejected(_, rejection)) => Reason::Rejected(rejection),
            Origin::Unanswered(_, Unanswered::Faulted { message, .. }) => Reason::Unanswered(message),
            Origin::Unanswered(_, Unanswered::Gone) => {
                Reason::Damaged("it is not in the store any more".to_owned())
            }
            Origin::Changed(changed) => {
                let reason = Reason::Changed(changed.changes.iter().map(|c| c.in_short()).collect());
                if let Some(edit) = edit.filter(|_| changed.is_all_that_differs) {
                    self.edits.insert(edit, reason.clone());
                }
                reason
            }
            Origin::Lost(_, lost) => Reason::Lost(lost.to_string()),
        })
    }

    /// The pipeline that a request was sent with and its node, where nothing else can differ: the persona
    /// is the same, and there are no answers that it needs.
    fn only_the_pipeline(&self, sent: &Sent, node: usize, looked: &Looked) -> Option<(SourceId, usize)> {
        let same = sent.persona_files.is_some() && sent.persona_files == looked.content;
        let alone = sent.needs.is_empty() && self.project.graph.needs(node).is_empty();
        (same && alone).then_some((sent.pipeline?, node))
    }
}
