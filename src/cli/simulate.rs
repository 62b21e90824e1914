//! `septet simulate`: the built-in model as a server on loopback, until Ctrl+C.

use std::process::ExitCode;
use std::time::Duration;

use secrecy::SecretString;

use crate::cli::args::Simulate;
use crate::cli::failure::{CliError, Complaint, with_causes};
use crate::cli::print::{errln, outln};
use crate::cli::server_runtime;
use crate::config::{Simulator, SimulatorFaults};
use crate::provider::serve::{self, Options};
use crate::signals;
use crate::wording::suggest;

/// Serves until it is stopped, then prints what it has seen.
pub fn simulate(args: &Simulate) -> Result<ExitCode, CliError> {
    let options = options(args)?;
    options
        .check()
        .map_err(|error| Complaint::new(with_causes(&error)))?;
    // Before it says where it listens: whoever reads that may stop it at once.
    let mut stops =
        signals::listen().map_err(|error| Complaint::new(format!("cannot listen for Ctrl+C: {error}")))?;
    let counters = server_runtime()?.block_on(async {
        let listener = serve::bind(args.port).await.map_err(|error| {
            Complaint::new(format!("cannot listen on port {}: {error}", args.port))
                .hint("`--port 0` takes a free one")
        })?;
        let address = listener
            .local_addr()
            .map_err(|error| Complaint::new(error.to_string()))?;
        outln!("http://{address}/v1");
        errln!(
            "an OpenAI-compatible server with the built-in model; `base_url = \"http://{address}/v1\"`\n\
             counters: http://{address}/stats · stop it with Ctrl+C"
        );
        let shutdown = async move { _ = stops.recv().await };
        serve::serve(options, listener, shutdown)
            .await
            .map_err(|error| CliError::stopped(Complaint::new(with_causes(&error))))
    })?;
    errln!("\n{counters}");
    Ok(ExitCode::SUCCESS)
}

/// What can go wrong, and where its share is set.
fn slots(faults: &mut SimulatorFaults) -> [(&'static str, &mut f64); 8] {
    [
        ("rate_limited", &mut faults.rate_limited),
        ("server_error", &mut faults.server_error),
        ("connection", &mut faults.connection),
        ("timeout", &mut faults.timeout),
        ("truncated", &mut faults.truncated),
        ("filtered", &mut faults.filtered),
        ("empty", &mut faults.empty),
        ("malformed", &mut faults.malformed),
    ]
}

fn options(args: &Simulate) -> Result<Options, CliError> {
    if !(0.0..=1.0).contains(&args.jitter) {
        return Err(no_share(&format!("--jitter {}", args.jitter)));
    }
    let mut options = Options::new(Simulator {
        latency: time("--latency", &args.latency)?,
        jitter: args.jitter,
        reply_tokens: args.reply_tokens,
        seed: args.seed,
        faults: faults(&args.fault)?,
    });
    options.requests_per_minute = args.rpm;
    options.tokens_per_minute = args.tpm;
    options.concurrency = args.concurrency;
    options.api_key = args.key.clone().map(SecretString::from);
    Ok(options)
}

fn time(option: &str, text: &str) -> Result<Duration, CliError> {
    let wrong = || {
        Complaint::new(format!("`{option} {text}` is no time")).hint("expected such as `400ms`, `2s` or `1m`")
    };
    let time: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(time).map_err(|_| wrong().into())
}

fn no_share(option: &str) -> CliError {
    Complaint::new(format!("`{option}` is no share: expected 0 to 1")).into()
}

/// Reads `KIND=SHARE` pairs.
fn faults(pairs: &[String]) -> Result<SimulatorFaults, CliError> {
    let mut faults = SimulatorFaults::default();
    for pair in pairs {
        let (kind, share) = pair
            .split_once('=')
            .and_then(|(kind, share)| Some((kind, share.parse().ok()?)))
            .ok_or_else(|| {
                Complaint::new(format!("`--fault {pair}` is no fault with its share"))
                    .hint("expected such as `--fault server_error=0.01`")
            })?;
        if !(0.0..=1.0).contains(&share) {
            return Err(no_share(&format!("--fault {pair}")));
        }
        let slots = slots(&mut faults);
        let names = slots.each_ref().map(|(name, _)| *name);
        match slots.into_iter().find(|(name, _)| *name == kind) {
            Some((_, slot)) => *slot = share,
            None => {
                let mut complaint = Complaint::new(format!("there is no fault `{kind}`"));
                complaint.hint = suggest(kind, "there are", names);
                return Err(complaint.into());
            }
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn the_help_names_every_fault() {
        let mut command = Cli::command();
        let simulate = command.find_subcommand_mut("simulate").unwrap();
        let help = simulate.render_long_help().to_string();
        for (name, _) in slots(&mut SimulatorFaults::default()) {
            assert!(help.contains(&format!("`{name}`")), "`{name}` is not in:\n{help}");
        }
    }

    #[test]
    fn a_share_that_is_none_is_told_with_its_option() {
        let wrong = |pair: &str| faults(&[pair.to_owned()]).unwrap_err().in_a_line();
        assert_eq!(
            wrong("server_error=2"),
            "`--fault server_error=2` is no share: expected 0 to 1"
        );
        assert_eq!(
            wrong("empty=NaN"),
            "`--fault empty=NaN` is no share: expected 0 to 1"
        );
    }
}
