//! Broken HTTP in words: no connection, no certificate, a redirect. Knows nothing of what a
//! server says in a body.

use std::error::Error;
use std::time::Duration;

use jiff::SignedDuration;
use url::Url;

use crate::call::{Fault, FaultKind};

/// A fault for a request that brought no status and headers. The key is not hidden yet.
pub(super) fn unsent(url: &Url, connect_timeout: Duration, error: reqwest::Error) -> Fault {
    let (host, error) = (host(url), error.without_url());
    let arrived = !error.is_connect();
    let message = if arrived {
        format!(
            "the connection to `{host}` broke before an answer came: {}",
            causes(&error)
        )
    } else if error.is_timeout() {
        format!("no connection to `{host}` within {}", in_words(connect_timeout))
    } else {
        format!("cannot connect to `{host}`: {}", causes(&error))
    };
    Fault {
        arrived,
        ..Fault::new(FaultKind::Connection, message)
    }
}

/// Joins what an error and its sources say, the outermost first. Leaves out the layers that only
/// say that something failed, and what repeats.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut rest: Option<&dyn Error> = Some(error);
    while let Some(error) = rest {
        rest = error.source();
        let part = error.to_string();
        if !says_nothing(&part) && !parts.iter().any(|earlier| earlier.contains(&part)) {
            parts.push(part);
        }
    }
    if parts.is_empty() {
        error.to_string()
    } else {
        parts.join(": ")
    }
}

/// True for the outer layers of reqwest and hyper-util, which only wrap the cause.
fn says_nothing(part: &str) -> bool {
    matches!(
        part,
        "builder error"
            | "error sending request"
            | "request or response body error"
            | "error decoding response body"
            | "error reading a body from connection"
    ) || part.starts_with("client error (")
}

/// The fault of a status 3xx. `location` is the header as it came.
pub(super) fn redirect(url: &Url, location: Option<&str>) -> Fault {
    let target = location.and_then(|location| url.join(location).ok());
    let message = match target.as_ref().and_then(address) {
        Some(target) => format!(
            "the server at `{}` redirects to `{target}`: redirects are not followed, so that the key goes \
             nowhere else; set `provider.base_url` to the right address",
            host(url)
        ),
        None => format!(
            "the server at `{}` redirects without saying where to: check `provider.base_url`",
            host(url)
        ),
    };
    Fault::new(FaultKind::Redirect, message)
}

/// Scheme, host, port and path: no user, no query, no fragment, which may hold secrets.
fn address(url: &Url) -> Option<String> {
    url.has_host()
        .then(|| format!("{}://{}{}", url.scheme(), host(url), url.path()))
}

/// Host, and port where it is not the scheme's own.
pub(super) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// A duration as `pipeline.toml` spells it: `10m`, `1m 30s`.
pub(super) fn in_words(duration: Duration) -> String {
    match SignedDuration::try_from(duration) {
        Ok(duration) => format!("{duration:#}"),
        Err(_) => format!("{duration:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|layer| layer as _)
        }
    }

    fn chain(layers: &[&'static str]) -> String {
        let layers = layers
            .iter()
            .rev()
            .fold(None, |inner, text| Some(Box::new(Layer(text, inner))));
        causes(&*layers.unwrap())
    }

    #[test]
    fn causes_leave_out_what_says_nothing() {
        let refused = [
            "error sending request",
            "client error (Connect)",
            "tcp connect error",
            "refused (os error 111)",
        ];
        assert_eq!(chain(&refused), "tcp connect error: refused (os error 111)");
        assert_eq!(
            chain(&["dns error: no such name", "no such name"]),
            "dns error: no such name"
        );
        assert_eq!(chain(&["error sending request"]), "error sending request");
    }

    #[test]
    fn a_redirect_names_the_target_without_its_secrets() {
        let base: Url = "https://api.example.com/v1/chat/completions".parse().unwrap();
        for (rule, location, named) in [
            (
                "another host",
                Some("https://user:pass@other.example:8443/v1?token=s#f"),
                "`https://other.example:8443/v1`",
            ),
            (
                "another path",
                Some("/v2/chat"),
                "`https://api.example.com/v2/chat`",
            ),
            (
                "no scheme",
                Some("//other.example/x"),
                "`https://other.example/x`",
            ),
            (
                "no host",
                Some("mailto:me@example.com"),
                "without saying where to",
            ),
            ("nonsense", Some("http://["), "without saying where to"),
            ("missing", None, "without saying where to"),
        ] {
            let fault = redirect(&base, location);
            assert_eq!(fault.kind, FaultKind::Redirect);
            assert!(fault.message.contains(named), "{rule}: {}", fault.message);
            assert!(
                !fault.message.contains("token") && !fault.message.contains("pass"),
                "{rule}"
            );
        }
    }

    #[test]
    fn durations_read_like_settings() {
        assert_eq!(in_words(Duration::from_secs(600)), "10m");
        assert_eq!(in_words(Duration::from_millis(90_500)), "1m 30s 500ms");
        assert_eq!(in_words(Duration::MAX), "18446744073709551615.999999999s");
    }
}
