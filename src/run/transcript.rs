//! Brings one transcript up to date: written whole, only when its text changed, and never over
//! what a person wrote.

use std::sync::Arc;

use crate::events::{Failure, PersonaStatus};
use crate::names::PersonaId;
use crate::run::Services;
use crate::run::attempt::with_causes;
use crate::store::{Entry, TranscriptNote};

/// What became of a transcript, and where the text is.
pub type Written = Result<(PersonaStatus, Option<String>), Failure>;

/// Brings the transcript of `persona` to `text`.
///
/// # Errors
/// If it cannot be read or written, or the store cannot.
pub async fn bring_up_to_date(
    services: &Services,
    persona: &PersonaId,
    text: Arc<str>,
    overwrite: bool,
) -> Written {
    let wanted = transcript(&text);
    let now = {
        let (project, persona) = (services.project.clone(), persona.clone());
        services.jobs.block(move || project.transcript(&persona)).await?
    };
    let store = &services.store;
    let note = store.transcript(persona).map_err(|error| store_failure(&error))?;
    let digest = TranscriptNote::digest(wanted.as_bytes());
    let found = now.as_deref().map(TranscriptNote::digest);
    if found.as_ref() == Some(&digest) {
        if note.is_none_or(|note| note.written != digest) {
            remember(
                services,
                persona,
                TranscriptNote {
                    written: digest,
                    before: None,
                },
            )
            .await?;
        }
        return Ok((PersonaStatus::Unchanged, None));
    }
    let ours = match (&found, &note) {
        (None, _) => true,
        (Some(found), Some(note)) => note.is_ours(found),
        (Some(_), None) => false,
    };
    let beside = !ours && !overwrite;
    if !beside {
        // Before the rename: after a crash in between the older text is still known as ours.
        remember(
            services,
            persona,
            TranscriptNote {
                written: digest,
                before: found.filter(|_| ours),
            },
        )
        .await?;
    }
    let (project, persona) = (services.project.clone(), persona.clone());
    let path = services
        .jobs
        .block(move || project.write(&persona, &wanted, beside))
        .await?;
    let status = if beside {
        PersonaStatus::Kept
    } else {
        PersonaStatus::Written
    };
    Ok((status, Some(path)))
}

/// What a transcript holds: the text of the result, and a line end.
pub fn transcript(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

async fn remember(services: &Services, persona: &PersonaId, note: TranscriptNote) -> Result<(), Failure> {
    let entry = Entry::Transcript {
        persona: persona.clone(),
        note,
    };
    services
        .store
        .keep(entry)
        .await
        .map_err(|error| store_failure(&error))
}

fn store_failure(error: &crate::store::StoreError) -> Failure {
    Failure {
        kind: Failure::STORE,
        message: with_causes(error),
        http_status: None,
    }
}
