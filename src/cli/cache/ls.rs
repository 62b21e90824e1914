//! `septet cache ls`: the answers that are served, or those that were rejected, one a line, in the
//! order in which they were paid. Holds one at a time.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use globset::GlobSet;
use serde_json::{Value, json};

use crate::call::{Money, Rejection};
use crate::cli::args::Selection;
use crate::cli::cache::args::Ls;
use crate::cli::cache::out::Out;
use crate::cli::cache::words::{age, tokens};
use crate::cli::cache::{self, refused, warn_of_damage};
use crate::cli::clock;
use crate::cli::failure::{CliError, Complaint};
use crate::cli::print::errln;
use crate::names::Instance;
use crate::printable::one_line;
use crate::report::figures::{dollars, number};
use crate::report::style::{pad, pad_before};
use crate::store::{Entry, LocalStore, Logged, Record, StoreError};

/// Lists answers.
pub fn ls(directory: Option<&Path>, args: &Ls) -> Result<ExitCode, CliError> {
    let globs = match args.globs.is_empty() {
        true => None,
        false => Some(Selection::globs("cache ls", &args.globs)?),
    };
    let Some(store) = cache::existing_to_read(directory)?.store else {
        errln!("the cache is empty: nothing was paid for yet");
        return Ok(ExitCode::SUCCESS);
    };
    let mut list = List {
        args,
        globs,
        now_ms: clock::unix_ms(),
        listed: 0,
        out: Out::new(),
    };
    if !args.json && std::io::stdout().is_terminal() {
        list.out.line(&header())?;
    }
    let damaged = list.all(&store)?;
    let List { listed, out, .. } = list;
    out.finish()?;
    warn_of_damage(&damaged);
    store.close();
    match listed {
        0 => none_listed(args),
        _ => Ok(ExitCode::SUCCESS),
    }
}

struct List<'a> {
    args: &'a Ls,
    globs: Option<GlobSet>,
    now_ms: u64,
    listed: u64,
    out: Out,
}

impl List<'_> {
    /// Walks through the journal. Returns what could not be read.
    fn all(&mut self, store: &LocalStore) -> Result<Vec<crate::store::Damage>, CliError> {
        let mut damaged = Vec::new();
        for line in store.entries().map_err(|error| refused(&error))? {
            match line.map_err(|error| refused(&error))? {
                Ok(logged) => self.one(store, &logged)?,
                Err(damage) => damaged.push(damage),
            }
            if !self.out.is_read() {
                break;
            }
        }
        Ok(damaged)
    }

    fn one(&mut self, store: &LocalStore, logged: &Logged) -> Result<(), CliError> {
        let (record, rejection) = match &logged.entry {
            Entry::Answer(record) if !self.args.rejected => (record, None),
            Entry::Rejected { record, rejection } if self.args.rejected => (record, Some(*rejection)),
            _ => return Ok(()),
        };
        if !self.wants(&record.instance) {
            return Ok(());
        }
        let served =
            rejection.is_some() || is_served(store, logged.seq, record).map_err(|error| refused(&error))?;
        if !served {
            return Ok(());
        }
        self.listed += 1;
        match self.args.json {
            true => self.out.object(&object(record, rejection, logged.len)),
            false => {
                let line = text(record, rejection, self.now_ms);
                self.out.line(&line)
            }
        }
    }

    /// As `--refresh` and `--persona` match.
    fn wants(&self, instance: &Instance) -> bool {
        self.globs.as_ref().is_none_or(|globs| {
            globs.is_match(instance.to_string()) || globs.is_match(instance.persona.as_str())
        })
    }
}

/// False where a newer answer to the same request has taken its place.
fn is_served(store: &LocalStore, seq: u64, record: &Record) -> Result<bool, StoreError> {
    Ok(store.newest(&record.key)?.is_none_or(|newest| newest == seq))
}

fn none_listed(args: &Ls) -> Result<ExitCode, CliError> {
    let what = if args.rejected {
        "rejected answer"
    } else {
        "answer"
    };
    if args.globs.is_empty() {
        errln!("there is no {what}");
        return Ok(ExitCode::SUCCESS);
    }
    let globs = args.globs.join("`, `");
    Err(Complaint::new(format!("no {what} matches `{globs}`"))
        .hint("a pattern names PERSONA/NODE, such as `*/combine`, or all nodes of a PERSONA")
        .into())
}

fn object(record: &Record, rejection: Option<Rejection>, bytes: u64) -> Value {
    json!({
        "event": "cache_answer",
        "persona": record.instance.persona,
        "node": record.instance.node,
        "key": record.key,
        "model": record.answer.model,
        "tokens": tokens(&record.answer.usage),
        "cost_usd": record.cost.map(Money::usd),
        "at_ms": record.at_ms,
        "run": record.run,
        "attempt": record.attempt,
        "latency_s": record.latency_ms as f64 / 1000.0,
        "bytes": bytes,
        "rejected": rejection.map(Rejection::as_str),
    })
}

/// What stands above the columns of [`text`].
fn header() -> String {
    format!(
        "{}  {}  {}  {}  {}  {}  persona/node",
        pad("key", 12),
        pad_before("input", 10),
        pad_before("output", 11),
        pad_before("cost", 8),
        pad_before("paid", 11),
        pad("model", 12),
    )
}

/// The names last: what comes next is not known yet, so that they cannot be columns.
fn text(record: &Record, rejection: Option<Rejection>, now_ms: u64) -> String {
    let usage = &record.answer.usage;
    let mut line = format!(
        "{}  {} in  {} out  {}  {} ago  {}  {}",
        record.key.short(),
        pad_before(&number(usage.input), 7),
        pad_before(&number(usage.output), 7),
        pad_before(&dollars(record.cost), 8),
        pad_before(&age(now_ms, record.at_ms), 7),
        pad(&one_line(&record.answer.model), 12),
        one_line(&record.instance.to_string()),
    );
    if let Some(rejection) = rejection {
        line.push_str(&format!("  {rejection}"));
    }
    line
}
