//! The receipts of a project, as commands use them: who is up to date by them, who is after a run,
//! and that none holds any more.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::cli::cache;
use crate::cli::failure::{CliError, Complaint};
use crate::cli::project::Loaded;
use crate::names::PersonaId;
use crate::run::Folder;
use crate::store::Receipts;

/// The personas for which a run finds nothing to do without looking any further.
pub fn up_to_date(project: &Loaded, folder: &Folder, personas: &[PersonaId]) -> HashSet<PersonaId> {
    let receipts = Receipts::read(&cache::folder(&project.root), project.basis.clone());
    let known = folder.part(&receipts, personas.to_vec()).up_to_date;
    known.into_iter().map(|known| known.persona).collect()
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
    /// Who was looked at.
    pub looked_at: Vec<PersonaId>,
}

impl Book {
    /// Writes them. Only while the store is open.
    pub fn write(self) {
        let Some(mut receipts) = self.folder.receipts(self.project.basis.clone()) else {
            return;
        };
        let cache = cache::folder(&self.project.root);
        if !cache.is_dir() {
            // It was deleted or moved meanwhile, which is told where it is closed.
            return;
        }
        // Not those from before the store was open: they may have been taken back since.
        let mut others = Receipts::read(&cache, self.project.basis.clone());
        others.forget(&self.looked_at);
        receipts.keep_others(others);
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
