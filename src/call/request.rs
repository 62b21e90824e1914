//! All that is sent for one node. What decides the answer stands in [`Request`] itself and is
//! part of its key; what only bounds or delivers the answer stands in [`Delivery`] and is not.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::call::checks::Checks;

/// What an answer is thought to need where nothing is known and no limit is set, in tokens.
pub const UNKNOWN_OUTPUT: f64 = 1_024.0;

/// One LLM call as it is asked for: rendered messages, the model and its parameters.
///
/// If you add a field here that can change a finished answer, add it to the list in
/// [`crate::call::key`] too; if it cannot, it belongs in [`Delivery`].
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Who answers: `provider.name`, by default host and path of `base_url`.
    pub provider: Arc<str>,
    /// The model's name as the provider knows it.
    pub model: Arc<str>,
    /// The messages in order; the system message, where there is one, comes first.
    pub messages: Vec<Message>,
    /// Parameters that can change a finished answer, by the name they are sent under:
    /// `temperature`, `reasoning_effort`, everything of `[model.extra]`, and for the built-in
    /// model what changes its text.
    pub parameters: Arc<BTreeMap<String, Value>>,
    /// `variant` of the node: another sample of the same request.
    pub variant: Option<Arc<str>>,
    /// What bounds or delivers the answer without changing a finished one.
    pub delivery: Delivery,
}

/// The part of a request that is no part of its key (design, rule 1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// The most tokens the answer may have, reasoning included.
    pub max_output_tokens: Option<u64>,
    /// `service_tier`, sent as it is.
    pub service_tier: Option<Arc<str>>,
    /// The ends of the parts that other requests begin with too, in order: the system message,
    /// the context.
    pub shared: Vec<Mark>,
    /// How the provider's prompt cache is told of them.
    pub cache: CacheHint,
    /// What the node asks of its answer.
    pub checks: Arc<Checks>,
}

/// How a provider is told what requests share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheHint {
    /// Not at all: it finds out by itself, or has no cache.
    #[default]
    Nothing,
    /// By `prompt_cache_key`: the same for all requests with one prefix, so that they meet the
    /// same machine.
    Key,
    /// By a breakpoint after each shared part, and none anywhere else.
    Breakpoints,
}

/// The end of a part of a request that other requests begin with too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The index of the message.
    pub message: usize,
    /// Bytes of its content up to the mark; on the border of a character.
    pub bytes: usize,
}

/// One message of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions, the same for every persona.
    System,
    /// Context and prompt.
    User,
}

impl Role {
    /// The role as Chat Completions spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
        }
    }
}

impl Request {
    /// Estimates the tokens of the input: a token for every four characters, as most gateways
    /// do (`docs/design.md`, "Tokens before the call"). Never 0.
    pub fn estimated_input_tokens(&self) -> u64 {
        let characters: usize = self.messages.iter().map(|m| m.content.chars().count()).sum();
        (characters as u64).div_ceil(4).max(1)
    }
}
