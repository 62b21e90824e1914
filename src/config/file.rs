//! `pipeline.toml` as it is written: every key that there is, with its type and its bounds, and
//! nothing resolved. It does not know defaults or how one key bears on another.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use toml::Spanned;
use toml::de::DeTable;

use super::prices;
use super::read::Section;
use super::source::Source;
use super::{Limits, SchemaFile, SimulatorFaults, checks};
use crate::call::{Checks, Money};
use crate::hours::{Hours, Window};
use crate::tariff::Tariff;

/// Calls in flight that one process could hold open; more is a mistake.
const MOST_CONCURRENCY: u64 = 100_000;

/// Calls of one node; more is a mistake.
const MOST_ATTEMPTS: u64 = 1_000;

/// USD, for a million tokens or for a run; more is a mistake, and sums stay far from overflow.
pub(super) const MOST_USD: f64 = 1e6;

/// The highest temperature of any known API (OpenAI, Google: 2; API references of 2026-11).
const MOST_TEMPERATURE: f64 = 2.0;

const TIMER: Duration = Duration::from_millis(1);

/// The whole file.
pub(super) struct File<'a> {
    pub(super) pipeline: Pipeline,
    pub(super) provider: Provider,
    pub(super) simulator: Simulator,
    pub(super) model: Model,
    pub(super) limits: Limits,
    pub(super) retry: Retry,
    pub(super) prefix: Option<Spanned<String>>,
    pub(super) prices: BTreeMap<String, Tariff>,
    pub(super) system: Option<Spanned<String>>,
    pub(super) context: Option<Spanned<String>>,
    pub(super) nodes: Vec<Node<'a>>,
}

/// `[pipeline]`.
#[derive(Default)]
pub(super) struct Pipeline {
    pub(super) personas: Option<Spanned<String>>,
    pub(super) output: Option<Spanned<String>>,
    pub(super) result: Option<Spanned<String>>,
}

/// `[provider]`.
#[derive(Default)]
pub(super) struct Provider {
    pub(super) kind: Option<Spanned<String>>,
    pub(super) name: Option<Spanned<String>>,
    pub(super) base_url: Option<Spanned<String>>,
    pub(super) api_key_env: Option<Spanned<String>>,
    pub(super) output_cap_field: Option<Spanned<String>>,
    pub(super) api: Option<Spanned<String>>,
    pub(super) background: Option<Spanned<bool>>,
    pub(super) prompt_cache: Option<Spanned<String>>,
    pub(super) timeout: Option<Duration>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
}

/// `[simulator]`.
#[derive(Default)]
pub(super) struct Simulator {
    pub(super) latency: Option<Duration>,
    pub(super) jitter: Option<f64>,
    pub(super) reply_tokens: Option<u64>,
    pub(super) seed: Option<u64>,
    pub(super) faults: SimulatorFaults,
}

/// `[model]`, or `model` of a node. An empty text switches a default off.
#[derive(Default)]
pub(super) struct Model {
    pub(super) name: Option<String>,
    pub(super) max_output_tokens: Option<u64>,
    pub(super) temperature: Option<f64>,
    pub(super) reasoning_effort: Option<String>,
    pub(super) service_tier: Option<String>,
    pub(super) extra: BTreeMap<String, Value>,
}

/// `[retry]`.
#[derive(Default)]
pub(super) struct Retry {
    pub(super) attempts: Option<u64>,
    pub(super) base: Option<Spanned<Duration>>,
    pub(super) max: Option<Spanned<Duration>>,
    pub(super) rejected: Option<u64>,
}

/// One `[[node]]` that has an `id`.
pub(super) struct Node<'a> {
    pub(super) id: Spanned<String>,
    /// `None` where it cannot be read: that is an error already.
    pub(super) needs: Option<Vec<Spanned<String>>>,
    pub(super) system: Option<Spanned<String>>,
    pub(super) context: Option<Spanned<String>>,
    pub(super) prompt: Option<Spanned<String>>,
    pub(super) vars: BTreeMap<String, Value>,
    pub(super) model: Model,
    pub(super) variant: Option<String>,
    pub(super) checks: (Checks, Option<SchemaFile>),
    pub(super) section: Section<'a>,
}

/// Reads the document.
pub(super) fn read<'a>(source: &'a Source<'a>, document: &'a DeTable<'a>) -> File<'a> {
    let root = Section::root(source, document).only(&[
        "pipeline",
        "provider",
        "simulator",
        "model",
        "limits",
        "retry",
        "schedule",
        "prices",
        "prompts",
        "node",
    ]);
    let prompts = root
        .table("prompts")
        .map(|section| section.only(&["system", "context"]));
    File {
        pipeline: root.table("pipeline").map(pipeline).unwrap_or_default(),
        provider: root.table("provider").map(provider).unwrap_or_default(),
        simulator: root.table("simulator").map(simulator).unwrap_or_default(),
        model: root.table("model").map(model).unwrap_or_default(),
        limits: root.table("limits").map(limits).unwrap_or_default(),
        retry: root.table("retry").map(retry).unwrap_or_default(),
        prefix: root.table("schedule").and_then(schedule),
        prices: root.table("prices").map(prices::read).unwrap_or_default(),
        system: prompts.as_ref().and_then(|prompts| prompts.text("system")),
        context: prompts.as_ref().and_then(|prompts| prompts.text("context")),
        nodes: root.tables("node").into_iter().filter_map(node).collect(),
    }
}

fn pipeline(section: Section<'_>) -> Pipeline {
    let section = section.only(&["personas", "output", "result"]);
    Pipeline {
        personas: section.filled("personas"),
        output: section.filled("output"),
        result: section.filled("result"),
    }
}

fn provider(section: Section<'_>) -> Provider {
    let section = section.only(&[
        "kind",
        "name",
        "base_url",
        "api_key_env",
        "output_cap_field",
        "api",
        "background",
        "prompt_cache",
        "timeout",
        "connect_timeout",
        "idle_timeout",
    ]);
    let timeout = |key| section.duration(key, TIMER).map(Spanned::into_inner);
    Provider {
        kind: section.text("kind"),
        name: section.filled("name"),
        base_url: section.text("base_url"),
        api_key_env: section.text("api_key_env"),
        output_cap_field: section.text("output_cap_field"),
        api: section.text("api"),
        background: section.yes_or_no("background"),
        prompt_cache: section.text("prompt_cache"),
        timeout: timeout("timeout"),
        connect_timeout: timeout("connect_timeout"),
        idle_timeout: timeout("idle_timeout"),
    }
}

fn simulator(section: Section<'_>) -> Simulator {
    let section = section.only(&["latency", "jitter", "reply_tokens", "seed", "faults"]);
    Simulator {
        latency: section
            .duration("latency", Duration::ZERO)
            .map(Spanned::into_inner),
        jitter: section.number("jitter", 0.0..=1.0),
        reply_tokens: section.whole("reply_tokens", 1..=1_000_000),
        seed: section.whole("seed", 0..=u64::MAX),
        faults: section.table("faults").map(faults).unwrap_or_default(),
    }
}

fn faults(section: Section<'_>) -> SimulatorFaults {
    const SHARES: [&str; 8] = [
        "rate_limited",
        "server_error",
        "connection",
        "timeout",
        "truncated",
        "filtered",
        "empty",
        "malformed",
    ];
    let section = section.only(&SHARES);
    let shares = SHARES.map(|key| section.number(key, 0.0..=1.0).unwrap_or(0.0));
    let sum: f64 = shares.iter().sum();
    // A little more than 1: sums of decimal fractions are not exact.
    if sum > 1.0 + 1e-9 {
        let message = format!("the shares in `simulator.faults` add up to {sum}, more than 1");
        section.error(section.at, message, None);
    }
    let [
        rate_limited,
        server_error,
        connection,
        timeout,
        truncated,
        filtered,
        empty,
        malformed,
    ] = shares;
    SimulatorFaults {
        rate_limited,
        server_error,
        connection,
        timeout,
        truncated,
        filtered,
        empty,
        malformed,
    }
}

fn model(section: Section<'_>) -> Model {
    let section = section.only(&[
        "name",
        "max_output_tokens",
        "temperature",
        "reasoning_effort",
        "service_tier",
        "extra",
    ]);
    Model {
        name: section.filled("name").map(Spanned::into_inner),
        max_output_tokens: section.whole("max_output_tokens", 1..=u64::from(u32::MAX)),
        temperature: section.number("temperature", 0.0..=MOST_TEMPERATURE),
        reasoning_effort: section.text("reasoning_effort").map(Spanned::into_inner),
        service_tier: section.text("service_tier").map(Spanned::into_inner),
        extra: section.table("extra").map(extra).unwrap_or_default(),
    }
}

/// Fields of a request that septet fills in itself and that `[model.extra]` may not replace.
const SET_BY_SEPTET: [&str; 8] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
];

/// Fields of a request that have a key of their own in `[model]`.
const IN_MODEL: [&str; 3] = ["temperature", "reasoning_effort", "service_tier"];

fn extra(section: Section<'_>) -> BTreeMap<String, Value> {
    for key in section.keys() {
        let name = key.get_ref().as_ref();
        let hint = if IN_MODEL.contains(&name) {
            format!("write `{name}` in `[model]`")
        } else if name.ends_with("_tokens") && SET_BY_SEPTET.contains(&name) {
            "write `max_output_tokens` in `[model]`".to_owned()
        } else if SET_BY_SEPTET.contains(&name) {
            "leave it out".to_owned()
        } else {
            continue;
        };
        let message = format!("{} is set by septet itself", section.label(name));
        section.error(key.span().start, message, Some(hint));
    }
    plain(section)
}

/// The values of a table without their places.
fn plain(section: Section<'_>) -> BTreeMap<String, Value> {
    let values = section.values().into_iter();
    values.map(|(key, value)| (key.into_inner(), value)).collect()
}

fn limits(section: Section<'_>) -> Limits {
    let section = section.only(&[
        "concurrency",
        "requests_per_minute",
        "tokens_per_minute",
        "hours",
        "budget_usd",
        "budget_usd_month",
        "budget_usd_total",
    ]);
    let usd = |key| section.number(key, 0.0..=MOST_USD).map(Money::from_usd);
    let per_minute = |key| {
        let most = u64::from(u32::MAX);
        section
            .whole(key, 1..=most)
            .and_then(|number| u32::try_from(number).ok())
    };
    Limits {
        concurrency: section
            .whole("concurrency", 1..=MOST_CONCURRENCY)
            .and_then(|number| usize::try_from(number).ok()),
        requests_per_minute: per_minute("requests_per_minute"),
        tokens_per_minute: per_minute("tokens_per_minute"),
        hours: windows(&section, "hours").and_then(Hours::new),
        budget_usd: usd("budget_usd"),
        budget_usd_month: usd("budget_usd_month"),
        budget_usd_total: usd("budget_usd_total"),
    }
}

/// One window of the day or a list of them, which may be empty: `"23:00-07:00"`.
pub(super) fn windows(section: &Section<'_>, key: &str) -> Option<Vec<Window>> {
    let mut windows = Vec::new();
    for text in section.text_or_texts(key)? {
        match Window::parse(text.get_ref()) {
            Ok(window) => windows.push(window),
            Err(expected) => {
                let message = format!(
                    "{} must be {expected}, not `{}`",
                    section.label(key),
                    text.get_ref()
                );
                let hint = "write the times of a 24-hour clock, or a list of such hours".to_owned();
                section.error(text.span().start, message, Some(hint));
            }
        }
    }
    Some(windows)
}

fn retry(section: Section<'_>) -> Retry {
    let section = section.only(&["attempts", "base", "max", "rejected"]);
    let (base, max) = (section.duration("base", TIMER), section.duration("max", TIMER));
    // To compare one with the default of another that cannot be read would be a second error.
    let readable = section.has("base") == base.is_some() && section.has("max") == max.is_some();
    Retry {
        attempts: section.whole("attempts", 1..=MOST_ATTEMPTS),
        base: base.filter(|_| readable),
        max: max.filter(|_| readable),
        rejected: section.whole("rejected", 0..=MOST_ATTEMPTS),
    }
}

fn schedule(section: Section<'_>) -> Option<Spanned<String>> {
    let section = section.only(&["prefix"]);
    section.text("prefix")
}

fn node(section: Section<'_>) -> Option<Node<'_>> {
    if !section.has("id") {
        section.error(
            section.at,
            "a node has no `id`".to_owned(),
            Some("give it one: `id = \"chunk-1\"`".to_owned()),
        );
        return None;
    }
    let id = section.text("id")?;
    let section = section.of(&format!("node `{}`", id.get_ref())).only(&[
        "id",
        "needs",
        "system",
        "context",
        "prompt",
        "vars",
        "model",
        "variant",
        "min_chars",
        "max_chars",
        "must_match",
        "must_not_match",
        "json_schema",
    ]);
    let variant = section.text("variant").map(Spanned::into_inner);
    Some(Node {
        needs: match section.has("needs") {
            true => section.texts("needs"),
            false => Some(Vec::new()),
        },
        system: section.text("system"),
        context: section.text("context"),
        prompt: section.text("prompt"),
        vars: section.table("vars").map(plain).unwrap_or_default(),
        model: section.table("model").map(model).unwrap_or_default(),
        variant: variant.filter(|variant| !variant.is_empty()),
        checks: checks::read(&section),
        id,
        section,
    })
}
