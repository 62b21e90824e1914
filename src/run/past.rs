//! Requests of an earlier day: rendered again from what was kept of them, and held against the key
//! under which they were sent. It compares nothing with the present.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::call::{Key, Request};
use crate::config::{self, Config};
use crate::names::{Instance, NodeId};
use crate::persona::{Persona, PersonaFile};
use crate::prompt::Prompts;
use crate::store::{Entry, Placed, Record, Sent, Source, SourceId, Store, StoreError};

/// How many combinations of answers are tried where some were replaced since.
const COMBINATIONS: usize = 256;

/// Everything that was sent, as far as a store remembers it. Compiles each old pipeline once.
pub struct Past<'a> {
    store: &'a dyn Store,
    pipelines: HashMap<SourceId, Result<Arc<PastPipeline>, Lost>>,
}

/// A pipeline of an earlier day.
#[derive(Debug)]
pub struct PastPipeline {
    /// `pipeline.toml` as it was.
    pub text: String,
    /// The templates as they were, by path.
    pub templates: BTreeMap<String, String>,
    /// What they said.
    pub config: Config,
    /// The same, to render with.
    pub prompts: Prompts,
}

/// A request that was sent, and what it was made of.
#[derive(Debug)]
pub struct PastRequest {
    /// Where the attempt stands in the order of all entries.
    pub seq: u64,
    /// The attempt.
    pub sent: Sent,
    /// The pipeline.
    pub pipeline: Result<Arc<PastPipeline>, Lost>,
    /// The persona's files by name.
    pub persona_files: Result<BTreeMap<String, String>, Lost>,
    /// The answers that it used, in the order of the node's needs.
    pub needs: Vec<PastNeed>,
    /// The request itself. Its key is that of the attempt.
    pub request: Result<Request, Lost>,
}

/// An answer that a request used.
#[derive(Clone, Debug, PartialEq)]
pub struct PastNeed {
    /// The node that it answered; `None` where the pipeline of that day is lost.
    pub node: Option<NodeId>,
    /// The request that it answered.
    pub key: Key,
    /// The answer; `None` where it is lost.
    pub answer: Option<Record>,
}

/// Why a request, or a part of it, cannot be shown as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// A septet that did not keep it yet sent it.
    NotNoted,
    /// Too large to be kept, or no longer there.
    NotKept,
    /// This septet cannot read it: why not.
    Unreadable(String),
    /// The answer of this node, which it used, is no longer there.
    AnswerGone(NodeId),
    /// What was kept renders to another request than was sent: another septet rendered it.
    Differs,
}

impl<'a> Past<'a> {
    /// What this store remembers.
    pub fn new(store: &'a dyn Store) -> Self {
        Self {
            store,
            pipelines: HashMap::new(),
        }
    }

    /// The newest attempt of an instance; `None` if it was never sent.
    ///
    /// # Errors
    /// If the store does not work.
    pub fn newest(&mut self, instance: &Instance) -> Result<Option<PastRequest>, StoreError> {
        let calls = self.store.calls(instance)?;
        let newest = calls.into_iter().rev().find_map(|call| match call.what {
            Entry::Attempt(sent) => Some((call.seq, sent)),
            _ => None,
        });
        newest.map(|(seq, sent)| self.request(seq, sent)).transpose()
    }

    /// Renders again what was sent with an attempt. `seq` is its place in the order of all entries.
    ///
    /// # Errors
    /// If the store does not work.
    pub fn request(&mut self, seq: u64, sent: Sent) -> Result<PastRequest, StoreError> {
        let pipeline = self.pipeline(sent.pipeline)?;
        let persona_files = self.persona_files(sent.persona_files)?;
        let node = pipeline
            .as_ref()
            .ok()
            .and_then(|pipeline| pipeline.config.node(&sent.instance.node));
        let names = node
            .zip(pipeline.as_ref().ok())
            .map(|(node, pipeline)| &pipeline.config.nodes[node].needs);
        let mut needs = Vec::new();
        let mut versions = Vec::new();
        for (i, key) in sent.needs.iter().enumerate() {
            let mut answers = self.store.answers(key)?;
            // One that a check of another day refused may have been served since.
            answers.extend(self.store.refused(key)?);
            answers.sort_by_key(|answer| answer.seq);
            needs.push(PastNeed {
                node: names.and_then(|names| names.get(i)).cloned(),
                key: *key,
                answer: None,
            });
            versions.push(likely_first(answers, seq));
        }
        let request = match (&pipeline, &persona_files, node) {
            (Err(lost), ..) | (_, Err(lost), _) => Err(lost.clone()),
            (Ok(_), Ok(_), None) => Err(Lost::Differs),
            (Ok(pipeline), Ok(files), Some(node)) => {
                render(pipeline, node, &sent, files, &mut needs, &versions)
            }
        };
        for (need, versions) in needs.iter_mut().zip(&mut versions) {
            if need.answer.is_none() && !versions.is_empty() {
                need.answer = Some(versions.swap_remove(0));
            }
        }
        Ok(PastRequest {
            seq,
            sent,
            pipeline,
            persona_files,
            needs,
            request,
        })
    }

    fn pipeline(&mut self, id: Option<SourceId>) -> Result<Result<Arc<PastPipeline>, Lost>, StoreError> {
        let Some(id) = id else {
            return Ok(Err(Lost::NotNoted));
        };
        if let Some(pipeline) = self.pipelines.get(&id) {
            return Ok(pipeline.clone());
        }
        let pipeline = match self.store.source(&id)? {
            Some(Source::Pipeline { text, templates }) => PastPipeline::new(text, templates).map(Arc::new),
            _ => Err(Lost::NotKept),
        };
        self.pipelines.insert(id, pipeline.clone());
        Ok(pipeline)
    }

    fn persona_files(
        &self,
        id: Option<SourceId>,
    ) -> Result<Result<BTreeMap<String, String>, Lost>, StoreError> {
        let Some(id) = id else {
            return Ok(Err(Lost::NotNoted));
        };
        Ok(match self.store.source(&id)? {
            Some(Source::Persona { files }) => Ok(files),
            _ => Err(Lost::NotKept),
        })
    }
}

impl PastPipeline {
    fn new(text: String, templates: BTreeMap<String, String>) -> Result<Self, Lost> {
        let unreadable = |message: &str| Lost::Unreadable(message.to_owned());
        let config = config::load(&text, "pipeline.toml").map_err(|errors| {
            let first = errors.iter().next();
            first.map_or_else(|| unreadable("it has errors"), |error| unreadable(&error.message))
        })?;
        let prompts = Prompts::compile(&config, &templates).map_err(|errors| {
            let first = errors.first();
            first.map_or_else(|| unreadable("it has errors"), |error| unreadable(&error.message))
        })?;
        Ok(Self {
            text,
            templates,
            config,
            prompts,
        })
    }
}

/// The answers to a request, the one first that was served at `seq`.
fn likely_first(answers: Vec<Placed<Record>>, seq: u64) -> Vec<Record> {
    let before = answers.iter().filter(|answer| answer.seq < seq).count();
    let mut records: Vec<Record> = answers.into_iter().map(|answer| answer.what).collect();
    records[..before].reverse();
    records
}

/// Renders with one answer after the other, until the key is the one that was sent.
fn render(
    pipeline: &PastPipeline,
    node: usize,
    sent: &Sent,
    files: &BTreeMap<String, String>,
    needs: &mut [PastNeed],
    versions: &[Vec<Record>],
) -> Result<Request, Lost> {
    let names = &pipeline.config.nodes[node].needs;
    if names.len() != needs.len() {
        return Err(Lost::Differs);
    }
    if let Some(gone) = versions.iter().position(Vec::is_empty) {
        return Err(Lost::AnswerGone(names[gone].clone()));
    }
    let persona = persona(sent, files)?;
    let combinations = versions.iter().map(Vec::len).fold(1, usize::saturating_mul);
    for combination in 0..combinations.min(COMBINATIONS) {
        let chosen = choose(combination, versions);
        let texts = chosen.iter().map(|record| record.answer.text.as_str());
        let answers: Vec<(&NodeId, &str)> = names.iter().zip(texts).collect();
        let request = pipeline.prompts.request(node, &persona, &answers);
        if let Ok(request) = request
            && Key::of(&request) == sent.key
        {
            for (need, record) in needs.iter_mut().zip(chosen) {
                need.answer = Some(record.clone());
            }
            return Ok(request);
        }
    }
    Err(Lost::Differs)
}

fn persona(sent: &Sent, files: &BTreeMap<String, String>) -> Result<Persona, Lost> {
    let id = &sent.instance.persona;
    let file = |(name, text): (&String, &String)| PersonaFile {
        name: name.clone(),
        bytes: text.clone().into_bytes(),
    };
    let files: Vec<PersonaFile> = files.iter().map(file).collect();
    Persona::build(id, id.as_str(), &files).map_err(|error| Lost::Unreadable(error.message))
}

/// One of each. The first combination is the first of each.
fn choose(mut combination: usize, versions: &[Vec<Record>]) -> Vec<&Record> {
    let choose = |versions: &'_ Vec<Record>| {
        let chosen = combination % versions.len();
        combination /= versions.len();
        chosen
    };
    let chosen: Vec<usize> = versions.iter().map(choose).collect();
    versions
        .iter()
        .zip(chosen)
        .map(|(versions, chosen)| &versions[chosen])
        .collect()
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::NotNoted => f.write_str("an older septet sent it and did not keep what it was made of"),
            Lost::NotKept => {
                let most = crate::store::LARGEST_SOURCE >> 20;
                write!(
                    f,
                    "what it was made of is not in the store; over {most} MB is not kept"
                )
            }
            Lost::Unreadable(message) => {
                write!(f, "this septet cannot read what it was made of: {message}")
            }
            Lost::AnswerGone(node) => write!(f, "the answer of `{node}` that it used is not in the store"),
            Lost::Differs => f.write_str("another septet rendered it, in another way than this one"),
        }
    }
}

#[cfg(test)]
mod tests;
