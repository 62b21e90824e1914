//! `provider.prompt_cache` and `schedule.prefix`: how a provider's prompt cache is told what
//! requests share, and in which order they go for its sake. It does not know what they share.

use std::collections::BTreeMap;

use serde_json::Value;
use toml::Spanned;

use super::source::Source;
use super::{PrefixOrder, ProviderKind};
use crate::call::{CacheHint, prompt_cache};
use crate::wording::suggest;

/// What `provider.prompt_cache` can say.
const SETTINGS: [&str; 4] = ["auto", "explicit", "key", "off"];

/// What `schedule.prefix` can say; left out, it is `auto` in all but name.
const ORDERS: [&str; 2] = ["share", "eager"];

/// `provider.prompt_cache` as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// What the host and the model are known to take, and nothing where they are not.
    Auto,
    /// Breakpoints, whoever the server is.
    Explicit,
    /// `prompt_cache_key`, whoever the server is.
    Key,
    /// Nothing.
    Off,
}

/// Reads `provider.prompt_cache`; what is wrong is noted in `source`.
pub(super) fn setting(source: &Source<'_>, written: Option<&Spanned<String>>) -> Setting {
    match word(source, written, "provider.prompt_cache", &SETTINGS) {
        Some("explicit") => Setting::Explicit,
        Some("key") => Setting::Key,
        Some("off") => Setting::Off,
        _ => Setting::Auto,
    }
}

/// Reads `schedule.prefix`; what is wrong is noted in `source`.
pub(super) fn order(source: &Source<'_>, written: Option<&Spanned<String>>) -> PrefixOrder {
    match word(source, written, "schedule.prefix", &ORDERS) {
        Some("share") => PrefixOrder::Share,
        Some("eager") => PrefixOrder::Eager,
        _ => PrefixOrder::Auto,
    }
}

fn word(
    source: &Source<'_>,
    written: Option<&Spanned<String>>,
    key: &str,
    words: &[&'static str],
) -> Option<&'static str> {
    let written = written?;
    let name = written.get_ref();
    let known = words.iter().copied().find(|known| known == name);
    if known.is_none() {
        let message = format!("`{key}` is `{name}`, which does not exist");
        let hint = suggest(name, "it is one of", words.iter().copied());
        source.error(written.span().start, message, hint);
    }
    known
}

/// How a node's provider is told. Whoever speaks of the cache in `[model.extra]` has told it.
pub(super) fn hint(
    setting: Setting,
    kind: &ProviderKind,
    model: &str,
    parameters: &BTreeMap<String, Value>,
) -> CacheHint {
    if prompt_cache::FIELDS
        .iter()
        .any(|field| parameters.contains_key(*field))
    {
        return CacheHint::Nothing;
    }
    match setting {
        Setting::Explicit => CacheHint::Breakpoints,
        Setting::Key => CacheHint::Key,
        Setting::Off => CacheHint::Nothing,
        Setting::Auto => match kind {
            ProviderKind::Simulator(_) if prompt_cache::takes_breakpoints(model) => CacheHint::Breakpoints,
            ProviderKind::Simulator(_) => CacheHint::Nothing,
            // A gateway may know the model's name and not the field.
            ProviderKind::OpenAi { base_url, .. } if !is_openai(base_url) => CacheHint::Nothing,
            // There a key would only split the cache (protocol notes of 2026-11 in
            // `docs/design.md`).
            ProviderKind::OpenAi { .. } if prompt_cache::takes_breakpoints(model) => CacheHint::Breakpoints,
            ProviderKind::OpenAi { .. } => CacheHint::Key,
        },
    }
}

fn is_openai(base_url: &url::Url) -> bool {
    base_url
        .host_str()
        .is_some_and(|host| host == "openai.com" || host.ends_with(".openai.com"))
}
