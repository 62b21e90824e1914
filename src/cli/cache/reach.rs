//! What the project asks for as it stands: every request of every persona, as a run would send
//! them, through the answers that are stored.

use crate::call::Key;
use crate::cli::cache::refused;
use crate::cli::failure::CliError;
use crate::cli::project::Loaded;
use crate::events::Failure;
use crate::names::{Instance, NodeId, PersonaId};
use crate::plan::reach::{Fate, Paid, Present, fates};
use crate::run::{Project, Requests};
use crate::store::{LocalStore, StoreError, Survey};

/// A persona whose requests cannot be known.
#[derive(Debug)]
pub struct Unreadable {
    pub persona: PersonaId,
    pub failure: Failure,
}

/// The present requests of all personas; or, if any cannot be rendered, which.
pub fn present(project: &Loaded, store: &LocalStore) -> Result<Result<Present, Vec<Unreadable>>, CliError> {
    let folder = project.folder();
    let mut present = Present::default();
    let mut unreadable = Vec::new();
    for persona in project.personas()? {
        let added = folder
            .open(&persona)
            .map(|requests| add(&mut present, project, store, &persona, &*requests));
        match added {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(failure))) | Err(failure) => unreadable.push(Unreadable { persona, failure }),
            Ok(Err(error)) => return Err(refused(&error)),
        }
    }
    Ok(if unreadable.is_empty() {
        Ok(present)
    } else {
        Err(unreadable)
    })
}

/// Adds the nodes of one persona, those that others need first.
fn add(
    present: &mut Present,
    project: &Loaded,
    store: &LocalStore,
    persona: &PersonaId,
    requests: &dyn Requests,
) -> Result<Result<(), Failure>, StoreError> {
    let graph = &project.graph;
    let mut texts: Vec<Option<String>> = vec![None; graph.len()];
    for node in graph.order() {
        let instance = Instance::new(persona.clone(), graph.id(node).clone());
        let text = |need: &usize| Some((graph.id(*need), texts[*need].as_deref()?));
        let needs: Option<Vec<(&NodeId, &str)>> = graph.needs(node).iter().map(text).collect();
        let Some(needs) = needs else {
            present.unknown(instance);
            continue;
        };
        let request = match requests.request(node, &needs) {
            Ok(request) => request,
            Err(failure) => return Ok(Err(failure)),
        };
        let key = Key::of(&request);
        texts[node] = store.stored(&key)?.map(|record| record.answer.text);
        present.request(instance, key, texts[node].is_some());
    }
    Ok(Ok(()))
}

/// What becomes of each answer of a survey.
pub fn fates_of(survey: &Survey, present: &Present, earlier: usize) -> Vec<Fate> {
    let answers: Vec<_> = survey
        .answers
        .iter()
        .map(|held| Paid {
            key: held.key,
            instance: &held.instance,
            served: held.served,
            uses: &held.uses,
        })
        .collect();
    fates(&answers, present, earlier)
}
