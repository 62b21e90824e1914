//! The built-in model: offline, free, and the same for the same request. It makes up a readable
//! conversation from what the prompt says, takes its time, keeps a prompt cache, and fails as
//! often as it was asked to. It knows nothing of HTTP (see `serve`).
//!
//! Everything is drawn from generators that are seeded by the request's key and, for time and
//! faults, by the attempt's number: a night can be replayed. What changes the text besides the
//! messages is read from the request's parameters `reply_tokens` and `seed`; where they lack,
//! the settings stand in, so that a request over HTTP gets the text that it gets in this process.

mod fault;
mod lines;
mod page;
mod phrases;
mod prefix_cache;
mod scene;
mod words;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::call::{Answer, Fault, FaultKind, Finish, Key, Request, Role, Usage};
use crate::config;
use crate::provider::Provider;

pub(super) use fault::{RETRY_AFTER, SERVER_ERROR, Trouble, rate_limited, shares};

use prefix_cache::{PrefixCache, Prefixes};
use scene::Scene;
use words::CHARACTERS_PER_TOKEN;

/// The name that stands for the provider in the seed, whatever `provider.name` says: over HTTP
/// nobody knows it.
pub(super) const PROVIDER: &str = "simulator";
/// The parameters that change the text.
pub(super) const REPLY_TOKENS: &str = "reply_tokens";
/// See [`REPLY_TOKENS`].
pub(super) const SEED: &str = "seed";

/// Fields of Chat Completions that only deliver an answer; a client may send them as parameters.
const DELIVERY: [&str; 10] = [
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "user",
];

/// The longest reply that can be asked for, in tokens: 4 MB of text.
const MOST_REPLY_TOKENS: u64 = 1_000_000;

/// The built-in model.
#[derive(Debug)]
pub struct Simulator {
    settings: config::Simulator,
    timeout: Duration,
    /// Held for look-ups only, never across an await.
    cache: Mutex<PrefixCache>,
}

/// One attempt, with all that was drawn for it.
#[derive(Debug)]
pub(super) struct Call {
    key: Key,
    attempt: u32,
    /// What goes wrong.
    pub(super) trouble: Option<Trouble>,
    /// Until there is an answer, or until it goes wrong.
    delay: Duration,
    prefixes: Prefixes,
    answer: Answer,
}

/// Tokens of a prompt that the cache held, and that it holds once the answer has begun.
#[derive(Clone, Copy)]
struct Cached {
    read: u64,
    written: u64,
}

/// What a generator is for: each purpose has its own.
#[derive(Clone, Copy)]
enum Chance {
    Text,
    Latency,
    Fault,
}

impl Simulator {
    /// A model with these settings; `timeout` is `provider.timeout`, after which an attempt ends
    /// in a fault as it would with a server.
    pub fn new(settings: config::Simulator, timeout: Duration) -> Self {
        Self {
            settings,
            timeout,
            cache: Mutex::new(PrefixCache::new(None)),
        }
    }

    /// Sets how long a cached prefix lives after its last use; `None`: as long as with OpenAI.
    #[must_use]
    pub fn with_cache_lifetime(mut self, lifetime: Option<Duration>) -> Self {
        self.cache = Mutex::new(PrefixCache::new(lifetime));
        self
    }

    /// Draws what one attempt will be like, and looks its prompt up in the cache. The answer is
    /// made up now and delivered later, so that its tokens are known to who counts them.
    pub(super) fn begin(&self, request: &Request, attempt: u32) -> Call {
        let key = self.seed(request);
        let prefixes = Prefixes::of(request);
        let cached = self.with_cache(|cache| cache.read(&prefixes, Instant::now()));
        let cached = Cached {
            read: cached,
            written: prefixes.written(cached),
        };
        let chance = generator(&key, Chance::Fault, attempt).f64();
        let trouble = Trouble::draw(&self.settings.faults, chance);
        Call {
            key,
            attempt,
            trouble,
            delay: self.delay(&key, attempt, trouble),
            prefixes,
            answer: self.answer(request, &key, attempt, trouble, cached),
        }
    }

    fn delay(&self, key: &Key, attempt: u32, trouble: Option<Trouble>) -> Duration {
        let stray = generator(key, Chance::Latency, attempt).f64() * 2.0 - 1.0;
        let share = (1.0 + self.settings.jitter * stray) * trouble.map_or(1.0, Trouble::share_of_latency);
        let seconds = self.settings.latency.as_secs_f64() * share.max(0.0);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Gives the answer away: from now on its prompt is cached.
    pub(super) fn deliver(&self, call: Call) -> Answer {
        self.with_cache(|cache| cache.write(&call.prefixes, Instant::now()));
        call.answer
    }

    /// The tokens that a reply to this request will have, about.
    pub(super) fn reply_tokens(&self, request: &Request) -> u64 {
        let asked = parameter(request, REPLY_TOKENS).unwrap_or(self.settings.reply_tokens);
        asked.clamp(1, MOST_REPLY_TOKENS)
    }

    fn answer(
        &self,
        request: &Request,
        key: &Key,
        attempt: u32,
        trouble: Option<Trouble>,
        cached: Cached,
    ) -> Answer {
        let prompt = prompt(request);
        let rng = generator(key, Chance::Text, 0);
        let text = words::reply(&Scene::read(&prompt), self.reply_tokens(request), rng);
        let (text, finish, output) = spoken(text, trouble, request);
        let input = request.estimated_input_tokens();
        let usage = Usage {
            input,
            cached_input: Some(cached.read.min(input)),
            cache_write: Some(cached.written.min(input.saturating_sub(cached.read))),
            output,
            reasoning: Some(0),
            estimated: false,
        };
        Answer {
            text,
            finish,
            refusal: None,
            model: request.model.to_string(),
            service_tier: tier(request),
            usage,
            raw_usage: usage_object(&usage),
            id: Some(format!("chatcmpl-{}-{attempt}", key.short())),
        }
    }

    /// The key that everything is drawn from: the request's own, with the provider's name made
    /// the same for all, the settings in place of parameters that lack, and none that only
    /// deliver.
    fn seed(&self, request: &Request) -> Key {
        let has = |name: &&str| request.parameters.contains_key(*name);
        if &*request.provider == PROVIDER && [REPLY_TOKENS, SEED].iter().all(has) && !DELIVERY.iter().any(has)
        {
            return Key::of(request);
        }
        let mut request = request.clone();
        request.provider = PROVIDER.into();
        let parameters = Arc::make_mut(&mut request.parameters);
        parameters.retain(|name, _| !DELIVERY.contains(&name.as_str()));
        parameters
            .entry(REPLY_TOKENS.to_owned())
            .or_insert_with(|| self.settings.reply_tokens.into());
        parameters
            .entry(SEED.to_owned())
            .or_insert_with(|| self.settings.seed.into());
        Key::of(&request)
    }

    fn with_cache<T>(&self, work: impl FnOnce(&mut PrefixCache) -> T) -> T {
        work(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn perform(&self, request: &Request, attempt: u32) -> Result<Answer, Fault> {
        let call = self.begin(request, attempt);
        call.wait().await;
        if call.trouble == Some(Trouble::Timeout) {
            std::future::pending::<()>().await;
        }
        match call
            .trouble
            .and_then(|trouble| trouble.fault(&request.model, call.request_id()))
        {
            Some(fault) => {
                // Where an answer had begun, its prompt is cached although nobody has the answer.
                if matches!(call.trouble, Some(Trouble::Connection | Trouble::Malformed)) {
                    self.deliver(call);
                }
                Err(fault)
            }
            None => Ok(self.deliver(call)),
        }
    }
}

#[async_trait]
impl Provider for Simulator {
    async fn call(&self, request: &Request, attempt: u32) -> Result<Answer, Fault> {
        match tokio::time::timeout(self.timeout, self.perform(request, attempt)).await {
            Ok(result) => result,
            Err(_) => Err(Fault::new(
                FaultKind::Timeout,
                format!("no answer within {:?}", self.timeout),
            )),
        }
    }
}

impl Call {
    /// The tokens that a provider bills for it: none for a refusal.
    pub(super) fn billed(&self) -> Usage {
        match self.trouble {
            Some(Trouble::RateLimited | Trouble::ServerError) => Usage::default(),
            _ => self.answer.usage,
        }
    }

    /// How the answer ends, if it arrives.
    pub(super) fn finish(&self) -> &Finish {
        &self.answer.finish
    }

    /// Takes the time that the attempt takes.
    pub(super) async fn wait(&self) {
        // A sleep of nothing would still be one to the next tick of a millisecond.
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
    }

    /// The name under which a server would know the attempt.
    pub(super) fn request_id(&self) -> String {
        format!("req_{}-{}", self.key.short(), self.attempt)
    }
}

/// A generator of its own for each purpose, attempt and key.
fn generator(key: &Key, chance: Chance, attempt: u32) -> Rng {
    let at = 8 * chance as usize;
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&key.as_bytes()[at..at + 8]);
    // The finalizer of splitmix64: neighbouring attempts get seeds that have nothing in common.
    let mut seed = u64::from_le_bytes(bytes) ^ (u64::from(attempt) << 1);
    seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Rng::with_seed(seed ^ (seed >> 31))
}

/// The user's messages; all of them, should there be none.
fn prompt(request: &Request) -> Cow<'_, str> {
    let said = |role| {
        request
            .messages
            .iter()
            .filter(move |m| m.role == role)
            .map(|m| m.content.as_str())
    };
    let mut messages = said(Role::User);
    match (messages.next(), messages.next()) {
        (Some(only), None) => Cow::Borrowed(only),
        (Some(_), Some(_)) => Cow::Owned(said(Role::User).collect::<Vec<_>>().join("\n\n")),
        (None, _) => Cow::Owned(said(Role::System).collect::<Vec<_>>().join("\n\n")),
    }
}

/// A parameter that is a whole number, however it is written.
fn parameter(request: &Request, name: &str) -> Option<u64> {
    let value = request.parameters.get(name)?;
    value
        .as_u64()
        .or_else(|| value.as_f64().map(|x| x.round() as u64))
}

/// What arrives of a text: all of it, or what the output limit or trouble leaves. Returns the
/// tokens that are billed as well.
fn spoken(text: String, trouble: Option<Trouble>, request: &Request) -> (String, Finish, u64) {
    let whole = text.chars().count() as u64;
    let cap = request
        .delivery
        .max_output_tokens
        .map_or(u64::MAX, |cap| cap.saturating_mul(CHARACTERS_PER_TOKEN));
    let tokens = |characters: u64| characters.div_ceil(CHARACTERS_PER_TOKEN);
    match trouble {
        Some(Trouble::Truncated) => cut_off(text, (whole / 2).min(cap)),
        // The model had written it before the filter looked.
        Some(Trouble::Filtered) => (String::new(), Finish::ContentFilter, tokens(whole.min(cap))),
        Some(Trouble::Empty) => (String::new(), Finish::Stop, 0),
        _ if whole > cap => cut_off(text, cap),
        _ => (text, Finish::Stop, tokens(whole)),
    }
}

fn cut_off(mut text: String, characters: u64) -> (String, Finish, u64) {
    if let Some((at, _)) = text.char_indices().nth(characters as usize) {
        text.truncate(at);
    }
    (text, Finish::Length, characters.div_ceil(CHARACTERS_PER_TOKEN))
}

/// The tier that served: the one asked for, `default` where the choice was left to the server.
fn tier(request: &Request) -> Option<String> {
    let asked = request.delivery.service_tier.as_deref()?;
    Some(if asked == "auto" { "default" } else { asked }.to_owned())
}

/// The `usage` object of Chat Completions.
fn usage_object(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_input,
            "cache_write_tokens": usage.cache_write,
        },
        "completion_tokens_details": { "reasoning_tokens": usage.reasoning },
    })
}
