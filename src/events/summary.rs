//! The object that `--json` prints last and that the store keeps of each run. Its fields, their
//! names and their order are the contract with other programs (`docs/json.md`).

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::call::Usage;
use crate::events::Outcome;
use crate::names::{NodeId, PersonaId, RunId};
use crate::printable::one_line;

/// The `run_finished` object: how a run ended, with every figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Always `run_finished`.
    pub event: String,
    /// Which run.
    pub run: RunId,
    /// How it ended.
    pub outcome: Outcome,
    /// Personas by how they ended.
    pub personas: PersonaCounts,
    /// Nodes by how they ended.
    pub nodes: NodeCounts,
    /// Calls by how they ended.
    pub calls: CallCounts,
    /// What this run paid for.
    pub tokens: TokenCounts,
    /// What this run paid; `None`: a paid call had no price.
    pub cost_usd: Option<f64>,
    /// What was not paid; `None`: the price of a part of it is not known.
    pub saved_usd: Option<Saved>,
    /// Seconds.
    pub elapsed_s: f64,
    /// What the provider's prompt cache had to do with the input; absent in older records.
    #[serde(default)]
    pub prompt_cache: PromptCache,
    /// What failed, by cause, the most frequent first; absent in older records.
    #[serde(default)]
    pub failures: Vec<Failures>,
}

/// What failed for one cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// The kind: one of those listed in `docs/json.md`.
    pub kind: String,
    /// The HTTP status, where there was one.
    pub http_status: Option<u16>,
    /// Nodes that failed so.
    pub nodes: u64,
    /// Personas that they belong to, or that failed so as a whole.
    pub personas: u64,
    /// One of them, that was paid for if any was.
    pub example: FailureExample,
}

/// A failure that stands for others of its cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureExample {
    /// Whose.
    pub persona: PersonaId,
    /// Its node; `None`: the persona failed as a whole.
    pub node: Option<NodeId>,
    /// What was said there.
    pub message: String,
}

/// Personas by how they ended; `total` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonaCounts {
    /// Chosen for this run.
    pub total: u64,
    /// The transcript was written.
    pub written: u64,
    /// The transcript was up to date.
    pub unchanged: u64,
    /// The transcript was edited by hand: the new text is beside it.
    pub kept: u64,
    /// There is no new transcript.
    pub failed: u64,
    /// Not ended.
    pub pending: u64,
}

/// Nodes by how they ended; `total` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCounts {
    /// Personas times nodes of the pipeline.
    pub total: u64,
    /// An accepted answer was paid for in this run.
    pub called: u64,
    /// Served from the store.
    pub cached: u64,
    /// Given up.
    pub failed: u64,
    /// A node that it needs failed.
    pub skipped: u64,
    /// Not ended.
    pub pending: u64,
}

/// Calls by how they ended; `sent` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallCounts {
    /// Sent and ended.
    pub sent: u64,
    /// Accepted answers.
    pub ok: u64,
    /// Bad answers, paid all the same.
    pub rejected: u64,
    /// No usable answer, retried or not.
    pub faulted: u64,
    /// Given up while waiting (timeout, second Ctrl+C): they may have been billed.
    pub abandoned: u64,
    /// Those of `sent` that an earlier attempt had sent: they only asked for the answer of its job.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fetched: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Tokens by kind. Parts that a server did not report count as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    /// All input.
    pub input: u64,
    /// All output.
    pub output: u64,
    /// The part of `output` that was reasoning.
    pub reasoning: u64,
    /// The part of `input` that was read from the provider's cache.
    pub cached_input: u64,
    /// The part of `input` that was written to the provider's cache.
    pub cache_write: u64,
    /// `input` + `output`.
    pub total: u64,
}

/// What was not paid, in USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// By the provider's prompt cache; negative if writing to it cost more than it saved.
    pub provider_cache: f64,
    /// What the answers that were served from the store had cost.
    pub septet_cache: f64,
}

/// Shares of the input; `None` where there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PromptCache {
    /// Read from the provider's cache.
    pub read_share: Option<f64>,
    /// Written to it.
    pub write_share: Option<f64>,
}

impl From<&TokenCounts> for PromptCache {
    fn from(tokens: &TokenCounts) -> Self {
        let share = |part: u64| {
            let share = part as f64 / tokens.input as f64;
            (tokens.input > 0).then_some((share * 1e4).round() / 1e4)
        };
        Self {
            read_share: share(tokens.cached_input),
            write_share: share(tokens.cache_write),
        }
    }
}

impl Failures {
    /// In words: how many of what, and the place of the example.
    pub fn words(&self) -> String {
        let status = self
            .http_status
            .map_or_else(String::new, |status| format!(" (HTTP {status})"));
        let personas = match (self.nodes, self.personas) {
            (0 | 1, _) | (_, 0) => String::new(),
            (_, 1) => " in 1 persona".to_owned(),
            (_, personas) => format!(" in {personas} personas"),
        };
        let such_as = if self.nodes.max(self.personas) > 1 {
            "such as "
        } else {
            ""
        };
        format!("{status}{personas}: {such_as}{}", one_line(&self.example.place()))
    }
}

impl FailureExample {
    /// `PERSONA/NODE` or `PERSONA`.
    pub fn place(&self) -> String {
        match &self.node {
            Some(node) => format!("{}/{node}", self.persona),
            None => self.persona.to_string(),
        }
    }
}

impl PersonaCounts {
    /// What `total` is the sum of, in words.
    pub fn parts(&self) -> [(u64, &'static str); 5] {
        [
            (self.written, "written"),
            (self.unchanged, "unchanged"),
            (self.kept, "kept"),
            (self.failed, "failed"),
            (self.pending, "left"),
        ]
    }

    /// Returns how many personas have ended.
    pub fn ended(&self) -> u64 {
        self.total - self.pending
    }

    /// Returns how many personas need nothing more: their transcript is there and new.
    pub fn up_to_date(&self) -> u64 {
        self.written + self.unchanged
    }
}

impl NodeCounts {
    /// What `total` is the sum of, in words.
    pub fn parts(&self) -> [(u64, &'static str); 5] {
        [
            (self.called, "called"),
            (self.cached, "cached"),
            (self.failed, "failed"),
            (self.skipped, "skipped"),
            (self.pending, "left"),
        ]
    }

    /// Returns how many nodes have ended.
    pub fn ended(&self) -> u64 {
        self.total - self.pending
    }
}

impl CallCounts {
    /// What is to be said behind those parts; nothing where no answer was fetched.
    pub fn fetched_words(&self) -> String {
        match self.fetched {
            0 => String::new(),
            1 => ", of which 1 was fetched".to_owned(),
            n => format!(", of which {n} were fetched"),
        }
    }

    /// What `sent` is the sum of, in words.
    pub fn parts(&self) -> [(u64, &'static str); 4] {
        [
            (self.ok, "ok"),
            (self.rejected, "rejected"),
            (self.faulted, "faulted"),
            (self.abandoned, "abandoned"),
        ]
    }
}

impl TokenCounts {
    /// Adds the tokens of one answer.
    pub fn add(&mut self, usage: &Usage) {
        let add = |sum: &mut u64, part: u64| *sum = sum.saturating_add(part);
        add(&mut self.input, usage.input);
        add(&mut self.output, usage.output);
        add(&mut self.reasoning, usage.reasoning.unwrap_or(0));
        add(&mut self.cached_input, usage.cached_input.unwrap_or(0));
        add(&mut self.cache_write, usage.cache_write.unwrap_or(0));
        self.total = self.input.saturating_add(self.output);
    }
}

impl AddAssign for TokenCounts {
    fn add_assign(&mut self, other: Self) {
        let Self {
            input,
            output,
            reasoning,
            cached_input,
            cache_write,
            total,
        } = other;
        self.input += input;
        self.output += output;
        self.reasoning += reasoning;
        self.cached_input += cached_input;
        self.cache_write += cache_write;
        self.total += total;
    }
}

impl AddAssign for CallCounts {
    fn add_assign(&mut self, other: Self) {
        let Self {
            sent,
            ok,
            rejected,
            faulted,
            abandoned,
            fetched,
        } = other;
        self.sent += sent;
        self.ok += ok;
        self.rejected += rejected;
        self.faulted += faulted;
        self.abandoned += abandoned;
        self.fetched += fetched;
    }
}

impl From<&Usage> for TokenCounts {
    fn from(usage: &Usage) -> Self {
        let mut counts = Self::default();
        counts.add(usage);
        counts
    }
}
