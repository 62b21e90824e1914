//! Sets up HTTP: the address, the key's header, TLS, proxies and the pool of connections. Knows
//! nothing of requests and answers.

use std::net::Ipv6Addr;
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Client, ClientBuilder, redirect};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use crate::provider::openai::transport;

/// How long an unused connection is kept. Servers close theirs after 5 s (uvicorn, Node: their
/// documentation); a request sent into a connection that is just being closed is a lost attempt.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// Why a server cannot be called at all. Names variables and settings, never a key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProviderError {
    /// `provider.kind` is not `openai`.
    #[error("`provider.kind` is not `openai`: there is nothing to call over HTTP")]
    OtherKind,
    /// The variable is not in the environment.
    #[error(
        "the environment variable `{variable}` is not set: set it to the API key; \
         `provider.api_key_env` in `pipeline.toml` names the variable"
    )]
    KeyNotSet {
        /// The variable.
        variable: String,
    },
    /// The variable holds nothing, or only spaces.
    #[error("the environment variable `{variable}` is empty: set it to the API key")]
    KeyEmpty {
        /// The variable.
        variable: String,
    },
    /// The variable holds what no key holds.
    #[error(
        "the environment variable `{variable}` holds a space, a line break, a control character or \
         a letter outside ASCII, which cannot be sent as an API key: set it to the key alone"
    )]
    KeyNotHeaderSafe {
        /// The variable.
        variable: String,
    },
    /// Anyone on the way could read the key.
    #[error(
        "the API key would go to `{host}` unencrypted: use `https://` in `provider.base_url` \
         (plain `http://` takes a key to this machine only)"
    )]
    KeyOverPlainHttp {
        /// Host and port of `base_url`.
        host: String,
    },
    /// Neither http nor https, or no host.
    #[error("`provider.base_url` must begin with `https://` or `http://` and name a host: found `{scheme}:`")]
    NotHttp {
        /// What it begins with.
        scheme: String,
    },
    /// A user name or a password stands in `base_url`.
    #[error(
        "`provider.base_url` must not hold a user name or password: put the key into the \
         environment variable that `provider.api_key_env` names"
    )]
    UserInUrl,
    /// No TLS, as a rule for want of certificates.
    #[error(
        "cannot set up HTTPS: {0}; check the certificates of this system (the package \
         `ca-certificates`, or the variable `SSL_CERT_FILE`)"
    )]
    Setup(String),
}

/// Where Chat Completions are, below `base_url`.
pub(super) const CHAT: [&str; 2] = ["chat", "completions"];

/// Returns the address below `base_url` that calls go to; a query (`?api-version=…`) stays.
pub(super) fn endpoint(base_url: &Url, path: &[&str]) -> Result<Url, ProviderError> {
    let mut url = base_url.clone();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(ProviderError::NotHttp {
            scheme: url.scheme().to_owned(),
        });
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ProviderError::UserInUrl);
    }
    url.set_fragment(None);
    url.path_segments_mut()
        .expect("BUG: an http address with a host has a path")
        .pop_if_empty()
        .extend(path);
    Ok(url)
}

/// Returns the key to send, without the spaces and line breaks around it that files and shells
/// leave; `None` where no key is asked for.
pub(super) fn usable_key(
    url: &Url,
    variable: Option<&str>,
    key: Option<SecretString>,
) -> Result<Option<SecretString>, ProviderError> {
    let Some(variable) = variable.map(str::to_owned) else {
        return Ok(None);
    };
    let Some(key) = key else {
        return Err(ProviderError::KeyNotSet { variable });
    };
    let trimmed = key.expose_secret().trim();
    if trimmed.is_empty() {
        return Err(ProviderError::KeyEmpty { variable });
    }
    // Narrower than what a header may hold: no key has a space, and reading one as Latin-1
    // would send another key than the one that was meant.
    if !trimmed.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ProviderError::KeyNotHeaderSafe { variable });
    }
    if url.scheme() == "http" && !is_loopback(url) {
        return Err(ProviderError::KeyOverPlainHttp {
            host: transport::host(url),
        });
    }
    Ok(Some(SecretString::from(trimmed)))
}

/// The `Authorization` header for a key that [`usable_key`] let through.
pub(super) fn bearer(key: &SecretString) -> HeaderValue {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
        .expect("BUG: a usable key is visible ASCII");
    value.set_sensitive(true);
    value
}

/// Returns what makes a client for `url`, any number of times.
pub(super) fn blueprint(
    url: &Url,
    connect_timeout: Duration,
) -> impl Fn() -> ClientBuilder + Send + Sync + use<> {
    let (local, plain) = (is_loopback(url), url.scheme() == "http");
    move || {
        install_ring();
        let mut builder = Client::builder()
            .user_agent(concat!("septet/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(POOL_IDLE);
        if local {
            // What goes to this machine must not go through a proxy: it would not arrive, and a
            // key that may go unencrypted here would cross the network. Go's net/http does the same.
            builder = builder.no_proxy();
        }
        if local && plain {
            // No TLS anywhere on the way: works on a machine without certificates, too.
            builder = builder.tls_certs_only([]);
        }
        builder
    }
}

/// Makes a client.
pub(super) fn build(builder: ClientBuilder) -> Result<Client, ProviderError> {
    builder
        .build()
        .map_err(|error| ProviderError::Setup(transport::causes(&error.without_url())))
}

/// Chooses ring for the cryptography of TLS: reqwest brings none along. Whoever chose before
/// in this process stays chosen.
pub(super) fn install_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// True where what is sent never leaves this machine.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // Not `*.localhost`: not every resolver keeps those on this machine.
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => {
            address == Ipv6Addr::LOCALHOST || address.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn the_endpoint_is_below_base_url() {
        for (base_url, endpoint_url) in [
            (
                "https://api.openai.com/v1",
                "https://api.openai.com/v1/chat/completions",
            ),
            (
                "https://api.openai.com/v1/",
                "https://api.openai.com/v1/chat/completions",
            ),
            (
                "http://127.0.0.1:11434",
                "http://127.0.0.1:11434/chat/completions",
            ),
            (
                "https://x.azure.com/openai/d?api-version=1#f",
                "https://x.azure.com/openai/d/chat/completions?api-version=1",
            ),
        ] {
            assert_eq!(endpoint(&url(base_url), &CHAT).unwrap().as_str(), endpoint_url);
        }
    }

    #[test]
    fn an_address_that_cannot_be_called_is_refused() {
        let scheme = |scheme: &str| ProviderError::NotHttp {
            scheme: scheme.to_owned(),
        };
        for (base_url, error) in [
            ("ftp://example.com/v1", scheme("ftp")),
            ("localhost:8080", scheme("localhost")),
            ("file:///tmp", scheme("file")),
            ("https://key@example.com/v1", ProviderError::UserInUrl),
            ("https://user:key@example.com/v1", ProviderError::UserInUrl),
        ] {
            assert_eq!(endpoint(&url(base_url), &CHAT).unwrap_err(), error, "{base_url}");
        }
    }

    fn check(base_url: &str, variable: Option<&str>, key: Option<&str>) -> Result<Option<String>, String> {
        usable_key(&url(base_url), variable, key.map(SecretString::from))
            .map(|key| key.map(|key| key.expose_secret().to_owned()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_is_checked() {
        let https = "https://api.example.com/v1";
        let variable = Some("API_KEY");
        assert_eq!(
            check(https, variable, Some("sk-secret")),
            Ok(Some("sk-secret".to_owned()))
        );
        assert_eq!(
            check(https, variable, Some(" sk-secret\r\n")),
            Ok(Some("sk-secret".to_owned()))
        );
        assert_eq!(check(https, None, None), Ok(None));
        assert_eq!(
            check(https, None, Some("sk-secret")),
            Ok(None),
            "none is asked for"
        );
        insta::assert_snapshot!(check(https, variable, None).unwrap_err(), @"the environment variable `API_KEY` is not set: set it to the API key; `provider.api_key_env` in `pipeline.toml` names the variable");
        insta::assert_snapshot!(check(https, variable, Some(" \n")).unwrap_err(), @"the environment variable `API_KEY` is empty: set it to the API key");
        for unsafe_key in ["sk secret", "sk-\u{e9}secret", "sk-\nsecret", "sk-\u{7f}secret"] {
            let error = check(https, variable, Some(unsafe_key)).unwrap_err();
            assert!(
                error.contains("`API_KEY`") && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_key_never_crosses_a_network_unencrypted() {
        for base_url in [
            "http://127.0.0.1:80/v1",
            "http://127.9.9.9",
            "http://[::1]:8000",
            "http://localhost:8000/v1",
            "http://LOCALHOST",
        ] {
            assert!(
                check(base_url, Some("K"), Some("sk-secret")).is_ok(),
                "{base_url}"
            );
        }
        for base_url in [
            "http://api.example.com/v1",
            "http://192.168.1.5:8000",
            "http://localhost.example.com",
            "http://me.localhost",
            "http://0.0.0.0:8000",
            "http://[::ffff:10.0.0.1]",
        ] {
            assert!(
                check(base_url, None, None).is_ok(),
                "{base_url}: no key, no danger"
            );
            let error = check(base_url, Some("K"), Some("sk-secret")).unwrap_err();
            assert!(
                error.contains("unencrypted") && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_header_of_the_key_is_not_printed() {
        let header = bearer(&SecretString::from("sk-secret"));
        assert_eq!(header.to_str().unwrap(), "Bearer sk-secret");
        assert_eq!(format!("{header:?}"), "Sensitive");
    }
}
