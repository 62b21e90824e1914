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

/// What there is in the place of a transcript, beside the text that it is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// That text.
    UpToDate,
    /// Nothing.
    Missing,
    /// What septet wrote.
    Outdated,
    /// What a person wrote: the text comes beside it.
    Edited,
}

impl Fate {
    /// Compares the file, what is noted of it and the text; `None`: the text is not known yet, and
    /// taken to be another.
    pub fn of(file: Option<&[u8]>, note: Option<&TranscriptNote>, text: Option<&str>) -> Self {
        let Some(found) = file.map(TranscriptNote::digest) else {
            return Fate::Missing;
        };
        let is = |text| TranscriptNote::digest(transcript(text).as_bytes()) == found;
        match note {
            _ if text.is_some_and(is) => Fate::UpToDate,
            Some(note) if note.is_ours(&found) => Fate::Outdated,
            _ => Fate::Edited,
        }
    }
}

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
    let now = {
        let (project, persona) = (services.project.clone(), persona.clone());
        services.jobs.block(move || project.transcript(&persona)).await?
    };
    let store = &services.store;
    let note = store.transcript(persona).map_err(|error| store_failure(&error))?;
    let wanted = transcript(&text);
    let digest = TranscriptNote::digest(wanted.as_bytes());
    let found = now.as_deref().map(TranscriptNote::digest);
    let fate = Fate::of(now.as_deref(), note.as_ref(), Some(&text));
    if fate == Fate::UpToDate {
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
    let beside = fate == Fate::Edited && !overwrite;
    let ours = fate == Fate::Outdated;
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
