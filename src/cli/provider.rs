//! Builds the provider of a pipeline. The one place that reads a key, straight into a secret.
#![expect(
    clippy::disallowed_methods,
    reason = "reads the environment variable of the key"
)]

use std::env;
use std::sync::Arc;

use secrecy::SecretString;

use crate::cli::failure::{CliError, Complaint};
use crate::config::{self, ProviderKind};
use crate::provider::{OpenAi, Provider, ProviderError, Simulator};
use crate::run::Reserves;

/// Builds who answers, with the key from the environment.
pub fn connect(config: &config::Provider) -> Result<Arc<dyn Provider>, CliError> {
    match &config.kind {
        ProviderKind::Simulator(settings) => Ok(Arc::new(Simulator::new(settings.clone(), config.timeout))),
        ProviderKind::OpenAi { api_key_env, .. } => {
            let key = api_key_env
                .as_deref()
                .and_then(|name| env::var(name).ok())
                .map(SecretString::from);
            let provider = OpenAi::new(config, key).map_err(|error| refused(&error))?;
            Ok(Arc::new(provider))
        }
    }
}

/// True for the built-in model: what it costs is simulated.
pub fn is_simulated(config: &config::Provider) -> bool {
    matches!(config.kind, ProviderKind::Simulator(_))
}

/// What a server is known to take out of its tokens per minute for the output of a call: OpenAI and
/// Azure, the servers that know `max_completion_tokens`, take the limit whatever the call uses
/// (protocol notes of 2026-11-23 in `docs/design.md`).
pub fn reserves(config: &config::Provider) -> Reserves {
    match &config.kind {
        ProviderKind::OpenAi { output_cap_field, .. } if output_cap_field == "max_completion_tokens" => {
            Reserves::Limit
        }
        _ => Reserves::Expected,
    }
}

fn refused(error: &ProviderError) -> CliError {
    Complaint::new(crate::cli::failure::with_causes(error))
        .at("pipeline.toml: `[provider]`")
        .into()
}
