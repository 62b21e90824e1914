//! `--refresh`: which answers are asked for again although they are there.

use std::collections::HashMap;

use crate::call::Key;
use crate::cli::args::Selection;
use crate::cli::failure::{CliError, Complaint};
use crate::graph::Graph;
use crate::names::{Instance, PersonaId};
use crate::store::{Sent, Store, StoreError};

/// The patterns of `--refresh`.
pub struct Refresh(Option<globset::GlobSet>);

impl Refresh {
    /// Reads the patterns; one that matches nothing is a mistake.
    pub fn new(globs: &[String], graph: &Graph, personas: &[PersonaId]) -> Result<Self, CliError> {
        if globs.is_empty() {
            return Ok(Self(None));
        }
        let set = Selection::globs("--refresh", globs)?;
        let refresh = Self(Some(set));
        let names = |persona: &PersonaId| {
            graph
                .ids()
                .iter()
                .map(|node| Instance::new(persona.clone(), node.clone()))
                .collect::<Vec<_>>()
        };
        if !personas
            .iter()
            .any(|persona| names(persona).iter().any(|instance| refresh.wants(instance)))
        {
            return Err(Complaint::new(format!(
                "no node matches `--refresh {}`",
                globs.join("`, `--refresh ")
            ))
            .hint("a pattern names PERSONA/NODE, such as `*/combine`, or all nodes of a PERSONA")
            .into());
        }
        Ok(refresh)
    }

    /// True if nothing is.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// True if this instance is to be called again.
    pub fn wants(&self, instance: &Instance) -> bool {
        let set = self.0.as_ref();
        set.is_some_and(|set| set.is_match(instance.to_string()) || set.is_match(instance.persona.as_str()))
    }

    /// Takes the calls out whose answers could be fetched, but are asked for anew.
    pub fn give_up(&self, fetchable: &mut HashMap<Key, Vec<Sent>>) -> Vec<Sent> {
        let mut given_up = Vec::new();
        fetchable.retain(|_, jobs| {
            given_up.extend(jobs.extract_if(.., |sent| self.wants(&sent.instance)));
            !jobs.is_empty()
        });
        given_up
    }

    /// Marks them, durably.
    pub async fn mark(
        &self,
        store: &dyn Store,
        graph: &Graph,
        personas: &[PersonaId],
    ) -> Result<usize, StoreError> {
        match self.0 {
            None => Ok(0),
            Some(_) => crate::run::refresh(store, graph, personas, |instance| self.wants(instance)).await,
        }
    }
}
