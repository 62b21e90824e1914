//! `septet why`: why a node would be called, or what its answer rests on. It decides what is hit
//! and what is not as `plan` and `run` do.

mod words;

use std::path::Path;
use std::process::ExitCode;

use crate::call::{Key, Request};
use crate::cli::args;
use crate::cli::failure::{CliError, Complaint};
use crate::cli::plan::found;
use crate::cli::project::{Loaded, about_prompt, place};
use crate::cli::{cache, target};
use crate::names::{Instance, NodeId, PersonaId};
use crate::plan::{Found, Outlook, Planner, Reason};
use crate::run::{Origin, Present, Why, with_causes};
use crate::store::{LocalStore, Looked, Record, Store, StoreError, TranscriptNote};

/// Prints why.
pub fn why(directory: Option<&Path>, args: &args::Why) -> Result<ExitCode, CliError> {
    let project = Loaded::open(directory)?;
    let target = target::read(&project, &args.target)?;
    let store = cache::open_to_read(&project.root)?;
    let explained = explain(&project, &store, &target.persona);
    let explained = explained.and_then(|explained| {
        let transcript = transcript(&project, &store, &target.persona)?;
        let shown = words::Shown {
            persona: &target.persona,
            nodes: &explained,
            transcript: &transcript,
            path: &project.config.transcript(&target.persona),
        };
        match (args.json, target.node) {
            (true, node) => shown.json(node),
            (false, None) => shown.persona(),
            (false, Some(node)) => shown.node(node),
        }
    });
    store.close();
    explained.map(|()| ExitCode::SUCCESS)
}

/// All there is to say of one node.
pub struct Explained {
    node: NodeId,
    outlook: Outlook,
    /// What its present request is made of, in words.
    rests_on: Vec<String>,
    /// `None` where it is known only once a need has been called.
    key: Option<Key>,
    request: Option<Request>,
    /// Its answer.
    hit: Option<Box<Record>>,
    /// Where nothing was ever stored under its key: what was sent before.
    origin: Option<Origin>,
    /// The needs that have to be called before its request is known.
    waits_for: Vec<NodeId>,
}

/// What became of a transcript.
pub enum Transcript {
    NotWritten,
    Missing,
    AsWritten,
    Edited,
    /// Why.
    Unreadable(String),
}

fn explain(project: &Loaded, store: &LocalStore, persona: &PersonaId) -> Result<Vec<Explained>, CliError> {
    let graph = &project.graph;
    let read = project.files.persona(&project.config, persona);
    let (built, files) = read.map_err(|error| Complaint {
        place: Some(place(&error.file, error.line)),
        hint: error.hint.clone(),
        ..Complaint::new(error.message.clone())
    })?;
    let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    let present = Present::new(built.clone(), files);
    let mut requests: Vec<Option<Request>> = vec![None; graph.len()];
    let mut answers: Vec<Option<Box<Record>>> = vec![None; graph.len()];
    let instance = |node: usize| Instance::new(persona.clone(), graph.id(node).clone());
    let mut broken = None;
    let outlooks = Planner::new(graph).persona(
        |node, needs| {
            let request = project.prompts.request(node, &built, needs);
            requests[node] = request.as_ref().ok().cloned();
            request.map_err(|error| about_prompt(&error))
        },
        |node, key, bounds| {
            Ok(match store.look(&instance(node), key, bounds) {
                Ok(looked) => {
                    if let Looked::Hit(record) | Looked::Readmitted(record) = &looked {
                        answers[node] = Some(record.clone());
                    }
                    found(looked, bounds)
                }
                Err(error) => {
                    broken = Some(error);
                    Found::Missing(Reason::New)
                }
            })
        },
    )?;
    if let Some(error) = broken {
        return Err(stopped(&error));
    }
    let text = |node: usize| answers[node].as_ref().map(|record| record.answer.text.clone());
    let mut why = Why::new(
        store,
        project.config.clone(),
        project.templates.clone(),
        project.prompts.clone(),
    );
    let mut explained = Vec::new();
    for (node, outlook) in outlooks.into_iter().enumerate() {
        let needs: Option<Vec<(NodeId, String)>> = graph
            .needs(node)
            .iter()
            .map(|&need| Some((graph.id(need).clone(), text(need)?)))
            .collect();
        let request = requests[node].take().filter(|_| needs.is_some());
        let key = request.as_ref().map(Key::of);
        let origin = match (&outlook, &key, needs) {
            (Outlook::Call(_, Reason::New | Reason::Rejected(_)), Some(key), Some(needs)) => {
                let origin = why.origin(&instance(node), key, &present, needs);
                Some(origin.map_err(|error| stopped(&error))?)
            }
            _ => None,
        };
        let waits_for = graph.needs(node).iter().filter(|&&need| answers[need].is_none());
        explained.push(Explained {
            node: graph.id(node).clone(),
            outlook,
            rests_on: words::rests_on(&project.config.nodes[node], &names),
            key,
            request,
            hit: answers[node].clone(),
            origin,
            waits_for: waits_for.map(|&need| graph.id(need).clone()).collect(),
        });
    }
    Ok(explained)
}

fn transcript(project: &Loaded, store: &LocalStore, persona: &PersonaId) -> Result<Transcript, CliError> {
    let note = store.transcript(persona).map_err(|error| stopped(&error))?;
    let file = project.files.read(&project.config.transcript(persona));
    let file = match file {
        Ok(file) => file,
        Err(error) => return Ok(Transcript::Unreadable(error.message)),
    };
    Ok(match (file, note) {
        (None, None) => Transcript::NotWritten,
        (None, Some(_)) => Transcript::Missing,
        (Some(text), Some(note)) if note.is_ours(&TranscriptNote::digest(&text)) => Transcript::AsWritten,
        (Some(_), _) => Transcript::Edited,
    })
}

fn stopped(error: &StoreError) -> CliError {
    CliError::stopped(Complaint::new(with_causes(error)))
}
