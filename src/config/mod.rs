//! `pipeline.toml`: as written (`file`) and, checked and resolved, as everything else sees it.
//! After [`load`] nobody sees an `Option` that has a default.

mod cache;
mod check;
mod checks;
mod error;
mod file;
mod needs;
mod paths;
mod prices;
mod provider;
mod read;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use toml::de::DeTable;

use crate::call::{CacheHint, Checks, Money, Request, Schema, prompt_cache};
use crate::hours::Hours;
use crate::names::{NodeId, PersonaId};
use crate::tariff::Tariff;

pub use error::{ConfigError, ConfigErrors};

/// A pipeline that can be run: every name resolved, every default filled in. Paths are as
/// written, relative to the folder of `pipeline.toml`; nothing has been read but that file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file as the user would type it, for errors found later.
    pub file: Arc<str>,
    /// Folder of the personas.
    pub personas: String,
    /// The line that names it; `None`: it is the default.
    pub personas_line: Option<usize>,
    /// Path of a transcript with `{persona}` in it.
    pub output: String,
    /// The node whose text is the transcript.
    pub result: NodeId,
    /// Who is called.
    pub provider: Provider,
    /// Rates, calls in flight.
    pub limits: Limits,
    /// What happens after a fault or a bad answer.
    pub retry: Retry,
    /// The order of calls that share a prefix.
    pub schedule: Schedule,
    /// Prices by model name.
    pub prices: BTreeMap<String, Tariff>,
    /// The line that first names each template, from 1: for errors found later.
    pub template_lines: BTreeMap<String, usize>,
    /// The nodes in the order of the file. `needs` is resolved, the graph has no cycle.
    pub nodes: Vec<Node>,
}

/// One `[[node]]`, with the defaults of `[model]` and `[prompts]` filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// The nodes whose answers its prompt uses, in the order of the file, each once.
    pub needs: Vec<NodeId>,
    /// Template of the system message.
    pub system: Option<String>,
    /// Template of what the nodes of one persona share.
    pub context: Option<String>,
    /// Template of this node's own part.
    pub prompt: String,
    /// `vars` of the node, as its templates see them.
    pub vars: BTreeMap<String, Value>,
    /// What answers it.
    pub model: Model,
    /// Another sample of the same request.
    pub variant: Option<Arc<str>>,
    /// What it asks of its answer.
    pub checks: Arc<Checks>,
    /// Where the `json_schema` stands that is not among `checks` yet: see [`Config::set_schema`].
    pub schema_file: Option<SchemaFile>,
    /// The line of its `[[node]]` in `pipeline.toml`, from 1: for errors found later.
    pub line: usize,
}

/// A JSON Schema in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFile {
    /// The file, relative to the folder of `pipeline.toml`.
    pub path: String,
    /// The line of `pipeline.toml` that names it, from 1.
    pub line: usize,
}

/// The model of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Its name.
    pub name: Arc<str>,
    /// The most tokens of an answer.
    pub max_output_tokens: Option<u64>,
    /// `service_tier`.
    pub service_tier: Option<Arc<str>>,
    /// What can change an answer, by the name it is sent under: see [`crate::call::Request`].
    pub parameters: Arc<BTreeMap<String, Value>>,
    /// How its provider's prompt cache is told what is shared: `provider.prompt_cache`, resolved.
    pub cache: CacheHint,
}

/// `[provider]` and `[simulator]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Part of every key.
    pub name: Arc<str>,
    /// How it is called.
    pub kind: ProviderKind,
    /// One attempt, from sending to the last byte.
    pub timeout: Duration,
    /// Until a connection stands.
    pub connect_timeout: Duration,
    /// Between two bytes of a body that has begun.
    pub idle_timeout: Duration,
}

/// The providers that there are.
#[derive(Clone, Debug, PartialEq)]
pub enum ProviderKind {
    /// The built-in model, in this process.
    Simulator(Simulator),
    /// Any OpenAI-compatible server.
    OpenAi {
        /// Such as `https://api.openai.com/v1`, without a slash at the end.
        base_url: url::Url,
        /// The environment variable that holds the key; `None` where no key is sent.
        api_key_env: Option<String>,
        /// `max_completion_tokens` or `max_tokens`.
        output_cap_field: String,
        /// Which of its two ways to ask is used.
        api: Api,
    },
}

/// How an OpenAI-compatible server is asked. The same request has the same key in both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Api {
    /// Chat Completions, which every such server has.
    #[default]
    Chat,
    /// The Responses API.
    Responses {
        /// A call is a job that the server keeps: its answer is fetched, also by a later run.
        background: bool,
    },
}

/// `[simulator]`: the built-in model.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulator {
    /// Mean time of an answer.
    pub latency: Duration,
    /// How far a latency strays from the mean, as a share of it: 0 to 1.
    pub jitter: f64,
    /// Mean length of an answer. Changes the text, so it is part of the key.
    pub reply_tokens: u64,
    /// Chooses other words. Changes the text, so it is part of the key.
    pub seed: u64,
    /// What goes wrong, and how often.
    pub faults: SimulatorFaults,
}

/// Shares of all attempts, each 0 to 1, that end in a fault. None changes an answer's text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SimulatorFaults {
    /// 429 with a `Retry-After` of a second.
    pub rate_limited: f64,
    /// 500.
    pub server_error: f64,
    /// The connection breaks.
    pub connection: f64,
    /// No answer until the timeout.
    pub timeout: f64,
    /// An answer cut off at half its length, finish `length`.
    pub truncated: f64,
    /// An answer withheld by a filter.
    pub filtered: f64,
    /// An answer without text.
    pub empty: f64,
    /// A body that is no JSON.
    pub malformed: f64,
}

/// `[limits]`. `None` is: not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Calls in flight; `None` starts at 4 and grows.
    pub concurrency: Option<usize>,
    /// Requests started in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens in a minute, input and output.
    pub tokens_per_minute: Option<u32>,
    /// When calls are sent, by the local time; `None`: at any time.
    pub hours: Option<Hours>,
    /// What one run may spend.
    pub budget_usd: Option<Money>,
    /// What all runs over this cache may spend in a calendar month of local time.
    pub budget_usd_month: Option<Money>,
    /// What all runs over this cache may spend.
    pub budget_usd_total: Option<Money>,
}

/// `[retry]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Calls of one node that may end in a fault.
    pub attempts: u32,
    /// First pause.
    pub base: Duration,
    /// Longest pause of our own.
    pub max: Duration,
    /// Bad answers thrown away for one node in one run; the next one fails it.
    pub rejected: u32,
}

/// `[schedule]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// What becomes of calls whose prompts begin alike.
    pub prefix: PrefixOrder,
}

/// What becomes of calls whose prompts begin alike, for the sake of the provider's prompt cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrefixOrder {
    /// `Share` where the shared part is long enough to be cached, else `Eager`.
    #[default]
    Auto,
    /// One call goes first; the others wait until it is answered.
    Share,
    /// All go as soon as there is room.
    Eager,
}

impl PrefixOrder {
    /// True if calls that begin like this one wait for the first of them.
    pub fn shares(self, request: &Request) -> bool {
        match self {
            PrefixOrder::Auto => prompt_cache::is_long_enough(request),
            PrefixOrder::Share => true,
            PrefixOrder::Eager => false,
        }
    }
}

impl Config {
    /// Returns the path of a persona's transcript, relative to the folder of `pipeline.toml`.
    pub fn transcript(&self, persona: &PersonaId) -> String {
        self.output.replace(paths::PERSONA, persona.as_str())
    }

    /// Adds the schema that was read from the file that a node names.
    ///
    /// # Panics
    /// If `node` is no index of the nodes.
    pub fn set_schema(&mut self, node: usize, schema: Schema) {
        Arc::make_mut(&mut self.nodes[node].checks).json_schema = Some(schema);
    }

    /// Returns the index of a node.
    pub fn node(&self, id: &NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == *id)
    }
}

/// Reads a pipeline from the text of its file. `file` is that file as the user would type it.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file. After an error of TOML itself
/// nothing more is looked for.
pub fn load(text: &str, file: &str) -> Result<Config, ConfigErrors> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = source::Source::new(text, file);
    let (document, errors) = DeTable::parse_recoverable(text);
    let config = match errors
        .iter()
        .min_by_key(|error| error.span().map_or(0, |span| span.start))
    {
        Some(error) => {
            source.syntax_error(error);
            None
        }
        None => check::check(&source, file::read(&source, document.get_ref())),
    };
    match (ConfigErrors::new(source.into_errors()), config) {
        (None, Some(config)) => Ok(config),
        (Some(errors), _) => Err(errors),
        (None, None) => unreachable!("BUG: a pipeline that cannot be resolved has an error"),
    }
}
