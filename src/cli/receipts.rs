//! The receipts of a project, as commands use them: who is up to date by them, who is after a run,
//! and that none holds any more.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::cli::cache;
use crate::cli::failure::{CliError, Complaint};
use crate::cli::project::Loaded;
use crate::graph::Graph;
use crate::names::{NodeId, PersonaId};
use crate::run::Folder;
use crate::store::{Digest, Receipts, SourceId};

/// What receipts say, to whoever only looks.
#[derive(Default)]
pub struct Known {
    up_to_date: HashSet<PersonaId>,
    receipts: Option<Receipts>,
}

impl Known {
    /// What they say of these personas.
    pub fn read(project: &Loaded, folder: &Folder, personas: &[PersonaId]) -> Self {
        let receipts = Receipts::read_all(&cache::folder(&project.root), project.basis.clone());
        let known = folder.part(&receipts, personas.to_vec()).up_to_date;
        Self {
            up_to_date: known.into_iter().map(|known| known.persona).collect(),
            receipts: Some(receipts),
        }
    }

    /// True for a persona for which a run finds nothing to do without looking any further.
    pub fn is_up_to_date(&self, persona: &PersonaId) -> bool {
        self.up_to_date.contains(persona)
    }

    /// Which nodes of a persona have their answers, since no edit has touched them: of a persona that
    /// is read, in the order of the graph.
    pub fn answered(&self, graph: &Graph, persona: &PersonaId, content: Option<SourceId>) -> Vec<bool> {
        let content = content.map(|content| Digest(*content.as_bytes()));
        let known = self.receipts.as_ref().zip(content);
        let has = |node: &NodeId| {
            known.is_some_and(|(receipts, content)| receipts.has_answer(persona, content, node))
        };
        graph.ids().iter().map(has).collect()
    }
}

/// Takes back what is noted as up to date: the next run looks at every node. Only while the store is
/// open: nobody else writes receipts then.
pub fn take_back(root: &Path) -> Result<(), CliError> {
    Receipts::remove(&cache::folder(root)).map_err(|error| {
        let hint = "it says which personas are up to date, and may always be removed";
        Complaint::new(format!("cannot remove `cache/receipts`: {error}"))
            .hint(hint)
            .into()
    })
}

/// The receipts of the project, which a run brings up to date while it holds the store.
pub struct Book {
    pub project: Arc<Loaded>,
    pub folder: Arc<Folder>,
}

impl Book {
    /// Writes them. Only while the store is open.
    pub fn write(self) {
        let Some(mut receipts) = self.folder.receipts() else {
            return;
        };
        let cache = cache::folder(&self.project.root);
        if !cache.is_dir() {
            // It was deleted or moved meanwhile, which is told where it is closed.
            return;
        }
        if let Ok(there) = self.project.personas() {
            let there: HashSet<PersonaId> = there.into_iter().collect();
            receipts.retain(|persona| there.contains(persona));
        }
        if let Err(error) = receipts.write(&cache) {
            cache::warn(&format!(
                "cannot write `cache/receipts`: {error}; the next run looks at every node"
            ));
        }
    }
}
