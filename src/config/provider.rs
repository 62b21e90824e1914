//! `[provider]`: which kind, where, under which name. It does not know how a provider is called,
//! and never shows what stands in `base_url` or `api_key_env`, where a secret may have slipped in.

use std::time::Duration;

use toml::Spanned;
use url::Url;

use super::file;
use super::source::Source;
use super::{Api, Provider, ProviderKind, Simulator};
use crate::wording::suggest;

const KINDS: [&str; 2] = ["simulator", "openai"];

/// The values of `api`.
const APIS: [&str; 2] = ["chat", "responses"];

const CAP_FIELDS: [&str; 2] = ["max_completion_tokens", "max_tokens"];

/// Hosts, and ends of hosts, whose models want `max_completion_tokens` (OpenAI's API reference,
/// "max_tokens: deprecated"; Azure OpenAI's, "reasoning models"; both 2026-11).
const COMPLETION_CAP_HOSTS: [&str; 4] = [
    "openai.com",
    "openai.azure.com",
    "cognitiveservices.azure.com",
    "services.ai.azure.com",
];

/// Resolves `[provider]`; what is wrong is noted in `source`.
pub(super) fn check(source: &Source<'_>, written: &file::Provider, simulator: Simulator) -> Option<Provider> {
    let (kind, default_name) = match kind(source, written)? {
        "simulator" => {
            only_openai(source, written);
            (ProviderKind::Simulator(simulator), "simulator".to_owned())
        }
        _ => openai(source, written)?,
    };
    let name = match &written.name {
        Some(name) if name.get_ref().chars().any(char::is_control) => {
            let message = "`provider.name` has a control character".to_owned();
            source.error(name.span().start, message, None);
            return None;
        }
        Some(name) => name.get_ref().clone(),
        None => default_name,
    };
    Some(Provider {
        name: name.into(),
        kind,
        timeout: written.timeout.unwrap_or(Duration::from_secs(600)),
        connect_timeout: written.connect_timeout.unwrap_or(Duration::from_secs(10)),
        idle_timeout: written.idle_timeout.unwrap_or(Duration::from_secs(60)),
    })
}

fn kind(source: &Source<'_>, written: &file::Provider) -> Option<&'static str> {
    let Some(kind) = &written.kind else {
        return Some(KINDS[0]);
    };
    let known = KINDS.into_iter().find(|known| known == kind.get_ref());
    if known.is_none() {
        let name = kind.get_ref();
        let message = format!("`provider.kind` is `{}`, which does not exist", name);
        source.error(kind.span().start, message, suggest(name, "the kinds are", KINDS));
    }
    known
}

/// Notes the keys that say nothing to the simulator: a `kind` was forgotten, or they belong in
/// comments.
fn only_openai(source: &Source<'_>, written: &file::Provider) {
    let keys = [
        ("base_url", &written.base_url),
        ("api_key_env", &written.api_key_env),
        ("output_cap_field", &written.output_cap_field),
    ];
    for (key, value) in keys {
        if let Some(value) = value {
            let message =
                format!("`provider.{key}` says nothing to the simulator, which is the kind of this provider");
            let hint = "set `kind = \"openai\"`, or comment this line out".to_owned();
            source.error(value.span().start, message, Some(hint));
        }
    }
    let api = written.api.as_ref().map(|api| ("api", api.span().start));
    let background = written
        .background
        .as_ref()
        .map(|yes| ("background", yes.span().start));
    for (key, at) in api.into_iter().chain(background) {
        let message =
            format!("`provider.{key}` says nothing to the simulator, which is the kind of this provider");
        let hint = "set `kind = \"openai\"`, or comment this line out".to_owned();
        source.error(at, message, Some(hint));
    }
}

/// Chat Completions or the Responses API, and whether a call is a job there.
fn api(source: &Source<'_>, written: &file::Provider) -> Option<Api> {
    let api = match &written.api {
        None => APIS[0],
        Some(api) => {
            let known = APIS.into_iter().find(|known| known == api.get_ref());
            if known.is_none() {
                let message = format!("`provider.api` is `{}`, which does not exist", api.get_ref());
                let hint = suggest(api.get_ref(), "there are", APIS);
                source.error(api.span().start, message, hint);
            }
            known?
        }
    };
    let background = written.background.as_ref().is_some_and(|yes| *yes.get_ref());
    if api == "responses" {
        return Some(Api::Responses { background });
    }
    if let Some(written) = written.background.as_ref().filter(|_| background) {
        let message = "`provider.background` needs the Responses API".to_owned();
        let hint = "set `api = \"responses\"`".to_owned();
        source.error(written.span().start, message, Some(hint));
        return None;
    }
    Some(Api::Chat)
}

fn openai(source: &Source<'_>, written: &file::Provider) -> Option<(ProviderKind, String)> {
    let base_url = match &written.base_url {
        Some(text) => base_url(source, text),
        None => Url::parse("https://api.openai.com/v1").ok(),
    };
    let api_key_env = match &written.api_key_env {
        Some(name) => Some(api_key_env(source, name)?),
        None => None,
    };
    let cap_field = match &written.output_cap_field {
        Some(field) => Some(cap_field(source, field)?),
        None => None,
    };
    let api = api(source, written)?;
    let base_url = base_url?;
    let host = base_url.host_str().unwrap_or_default();
    let kind = ProviderKind::OpenAi {
        api_key_env: api_key_env.unwrap_or_else(|| default_key(host)),
        output_cap_field: cap_field.unwrap_or_else(|| default_cap_field(host)).to_owned(),
        base_url: base_url.clone(),
        api,
    };
    Some((kind, default_name(&base_url)))
}

/// Lower-case host, port if it is not the scheme's own, path.
fn default_name(base_url: &Url) -> String {
    let host = base_url.host_str().unwrap_or_default().to_lowercase();
    let port = base_url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{host}{port}{}", base_url.path().trim_end_matches('/'))
}

fn default_cap_field(host: &str) -> &'static str {
    let within = |end: &str| host == end || host.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'));
    if COMPLETION_CAP_HOSTS.iter().any(|end| within(end)) {
        CAP_FIELDS[0]
    } else {
        CAP_FIELDS[1]
    }
}

fn cap_field(source: &Source<'_>, field: &Spanned<String>) -> Option<&'static str> {
    let known = CAP_FIELDS.into_iter().find(|known| known == field.get_ref());
    if known.is_none() {
        let name = field.get_ref();
        let message = format!("`provider.output_cap_field` is `{}`, which no server takes", name);
        source.error(
            field.span().start,
            message,
            suggest(name, "it is one of", CAP_FIELDS),
        );
    }
    known
}

/// The URL without a slash at its end.
fn base_url(source: &Source<'_>, text: &Spanned<String>) -> Option<Url> {
    let wrong = |what: &str, hint: &str| {
        source.error(
            text.span().start,
            format!("`provider.base_url` {what}"),
            Some(hint.to_owned()),
        );
        None
    };
    const EXAMPLE: &str = "write it like `https://api.openai.com/v1`";
    let mut url = match Url::parse(text.get_ref()) {
        Ok(url) => url,
        Err(error) => return wrong(&format!("is not a URL: {error}"), EXAMPLE),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return wrong(
            "holds a user name or password",
            "put the key into an environment variable and its name into `api_key_env`",
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong(
            "has a query (`?`) or a fragment (`#`)",
            "end it with the path, as in `https://api.openai.com/v1`",
        );
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return wrong("begins with neither `https://` nor `http://`", EXAMPLE);
    }
    if url.path().ends_with("/chat/completions") {
        return wrong("ends with `/chat/completions`, which septet adds", EXAMPLE);
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Some(url)
}

/// OpenAI's key goes to OpenAI only; whoever else wants one has to be given its variable's name.
fn default_key(host: &str) -> Option<String> {
    let openai = host == "openai.com" || host.ends_with(".openai.com");
    openai.then(|| "OPENAI_API_KEY".to_owned())
}

/// The variable's name; `Some(None)` where no key is sent.
fn api_key_env(source: &Source<'_>, written: &Spanned<String>) -> Option<Option<String>> {
    let name = written.get_ref();
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !plain || name.starts_with(|c: char| c.is_ascii_digit()) {
        let message = "`provider.api_key_env` is not the name of an environment variable".to_owned();
        let hint = "the key itself never stands in this file: write `api_key_env = \"OPENAI_API_KEY\"` and set that variable";
        source.error(written.span().start, message, Some(hint.to_owned()));
        return None;
    }
    Some((!name.is_empty()).then(|| name.clone()))
}
