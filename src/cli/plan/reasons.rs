//! Why a request has no answer: what differs from the one that was sent last for the same node, by
//! the same code as `septet why`.

use crate::call::Key;
use crate::cli::cache;
use crate::cli::failure::CliError;
use crate::cli::project::Loaded;
use crate::names::{Instance, NodeId, PersonaId};
use crate::plan::{Outlook, Reason};
use crate::run::{Origin, Present, Unanswered, Why};
use crate::store::{LocalStore, Store, StoreError};

/// So many calls are held against what was sent before, which takes about a millisecond each.
const MOST: usize = 5_000;

/// Explains one call after the other.
pub struct Reasons<'a> {
    project: &'a Loaded,
    store: &'a LocalStore,
    why: Why<'a>,
    explained: usize,
}

/// What was learned of a persona's nodes while it was planned.
pub struct Looked {
    /// Keys of the requests that are known.
    pub keys: Vec<Option<Key>>,
    /// Texts of the answers that are there.
    pub answers: Vec<Option<String>>,
}

impl Looked {
    /// Nothing yet of so many nodes.
    pub fn new(nodes: usize) -> Self {
        Self {
            keys: vec![None; nodes],
            answers: vec![None; nodes],
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
        if self.store.calls(instance)?.is_empty() {
            return Ok(Reason::New);
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
                Reason::Changed(changed.changes.iter().map(|c| c.in_short()).collect())
            }
            Origin::Lost(_, lost) => Reason::Lost(lost.to_string()),
        })
    }
}
