//! `septet runs`: earlier runs and what they cost, one of them in full, or what they add up to.

mod json;
mod sums;
mod text;

pub use text::table;

use std::path::Path;
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use crate::call::Money;
use crate::cli::args::Runs;
use crate::cli::cache::out::Out;
use crate::cli::cache::{self, Opened};
use crate::cli::failure::{CliError, Complaint};
use crate::cli::print::errln;
use crate::events::{Account, CallCounts, Failures, NodeCounts, PersonaCounts, Saved, TokenCounts};
use crate::names::RunId;
use crate::store::Entry;

/// The word for the newest run.
const LAST: &str = "last";

/// Prints earlier runs.
pub fn runs(directory: Option<&Path>, args: &Runs) -> Result<ExitCode, CliError> {
    let Opened { store, .. } = cache::existing_to_read(directory)?;
    let entries = match &store {
        Some(store) => store.runs().map_err(|error| cache::refused(&error))?,
        None => Vec::new(),
    };
    if let Some(store) = store {
        store.close();
    }
    // In the order in which they ended: a clock may have been set back.
    let all: Vec<Told> = entries.into_iter().filter_map(Told::of).collect();
    let mut out = Out::new();
    match (&args.run, args.by, args.json) {
        (Some(name), _, json) => {
            let told = find(&all, name)?;
            match json {
                true => out.object(&json::run(told))?,
                false => out.line(&text::run(told))?,
            }
        }
        (None, by, true) => json::list(&all, by, &mut out)?,
        (None, _, false) if all.is_empty() => errln!("no run has ended yet"),
        (None, Some(by), false) => out.line(&text::by(&all, by))?,
        (None, None, false) => out.line(&text::list(&all))?,
    }
    out.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// A run as it was told at its end.
struct Told {
    run: RunId,
    /// Its end: Unix time in milliseconds.
    at_ms: u64,
    summary: Summary,
    /// Missing where an older septet ran.
    account: Option<Box<Account>>,
    about: About,
}

/// Its `run_finished` object, as far as it is shown. Words and fields that came later are no
/// reason not to show it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Summary {
    outcome: String,
    failures: Vec<Failures>,
    personas: PersonaCounts,
    nodes: NodeCounts,
    calls: CallCounts,
    tokens: TokenCounts,
    cost_usd: Option<f64>,
    saved_usd: Option<Saved>,
    elapsed_s: f64,
}

/// Its `run_started` object, likewise.
#[derive(Default, Deserialize)]
#[serde(default)]
struct About {
    provider: Option<String>,
    simulated: bool,
    concurrency: Option<u64>,
    requests_per_minute: Option<u64>,
    tokens_per_minute: Option<u64>,
}

impl Told {
    fn of(entry: Entry) -> Option<Self> {
        let Entry::Run {
            run,
            at_ms,
            summary,
            account,
            about,
        } = entry
        else {
            return None;
        };
        let about = match about {
            Value::Null => About::default(),
            about => serde_json::from_value(about).unwrap_or_default(),
        };
        Some(Self {
            run,
            at_ms,
            summary: serde_json::from_value(summary).unwrap_or_default(),
            account,
            about,
        })
    }

    fn started_ms(&self) -> u64 {
        self.at_ms
            .saturating_sub((self.summary.elapsed_s * 1000.0) as u64)
    }

    fn cost(&self) -> Option<Money> {
        self.summary.cost_usd.map(Money::from_usd)
    }
}

/// The run that `name` begins, or the last one.
fn find<'a>(all: &'a [Told], name: &str) -> Result<&'a Told, CliError> {
    let found: Vec<&Told> = match name {
        LAST => all.iter().next_back().into_iter().collect(),
        name => all
            .iter()
            .filter(|told| told.run.as_str().starts_with(name))
            .collect(),
    };
    match &found[..] {
        [one] => Ok(one),
        [] if name == LAST => Err(Complaint::new("no run has ended yet")
            .hint("`septet run` makes one; one that is at work is listed once it has ended")
            .into()),
        [] => Err(Complaint::new(format!("there is no run `{name}`"))
            .hint("`septet runs` lists them")
            .into()),
        [first, .., last] => Err(Complaint::new(format!(
            "`{name}` begins the names of {} runs, from `{}` to `{}`",
            found.len(),
            first.run,
            last.run
        ))
        .hint("write more of the name")
        .into()),
    }
}
