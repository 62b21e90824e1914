//! Opens and closes the project's cache, and says what is wrong with it.
#![expect(clippy::disallowed_methods, reason = "makes the folder of the cache")]

pub mod args;
mod carry;
mod gc;
mod ls;
mod out;
mod reach;
mod stats;
mod verify;
mod words;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use console::style;

use crate::call::Money;
use crate::cli::failure::{CliError, Complaint};
use crate::cli::print::errln;
use crate::cli::project;
use crate::report::figures::dollars;
use crate::report::printable::one_line;
use crate::store::{Damage, Died, LocalStore, StoreError};

/// The name of the cache in the folder of a project.
const FOLDER: &str = "cache";

/// Between two tries to open what another process holds.
const AGAIN: Duration = Duration::from_millis(100);

/// So many damaged places are named one by one.
const NAMED: usize = 10;

/// The folder's own ignore file: a clone has the folder and never its contents.
const GITIGNORE: &str = "*\n!.gitignore\n";

/// `septet cache`.
pub fn command(directory: Option<&Path>, command: &args::Cache) -> Result<ExitCode, CliError> {
    match command {
        args::Cache::Stats(args) => stats::stats(directory, args),
        args::Cache::Ls(args) => ls::ls(directory, args),
        args::Cache::Verify(args) => verify::verify(directory, args),
        args::Cache::Export(args) => carry::export(directory, args),
        args::Cache::Import(args) => carry::import(directory, args),
    }
}

/// The cache of a folder.
struct Opened {
    /// The folder of the project.
    root: PathBuf,
    /// `None`: nothing was paid for yet.
    store: Option<LocalStore>,
}

/// Opens the cache if there is one. What is looked after needs no good `pipeline.toml`.
fn existing(directory: Option<&Path>) -> Result<Opened, CliError> {
    let root = project::root(directory);
    let store = match has_cache(directory)? {
        true => Some(open(&root)?),
        false => None,
    };
    Ok(Opened { root, store })
}

/// True if something was paid for.
fn has_cache(directory: Option<&Path>) -> Result<bool, CliError> {
    let root = project::root(directory);
    match root.join(FOLDER).is_dir() {
        true => Ok(true),
        false if root.join(project::PIPELINE).exists() => Ok(false),
        false => Err(project::no_pipeline(directory).into()),
    }
}

/// Prints a text for people.
fn print(text: &str) -> Result<(), CliError> {
    let mut out = out::Out::new();
    out.line(text)?;
    out.finish()
}

/// Names places that cannot be read.
fn warn_of_damage(damaged: &[Damage]) {
    let warning = style("warning:").for_stderr().yellow().bold();
    for damage in damaged.iter().take(NAMED) {
        errln!("{warning} {}", one_line(&damage.to_string()));
    }
    if let Some(others) = damaged.len().checked_sub(NAMED).filter(|others| *others > 0) {
        errln!("{warning} and {others} other places");
    }
}

/// Opens the store in `cache/`; tells what was mended.
pub fn open(root: &Path) -> Result<LocalStore, CliError> {
    open_within(root, Duration::ZERO)
}

/// The same, waiting so long for another process that holds it.
pub fn open_within(root: &Path, patience: Duration) -> Result<LocalStore, CliError> {
    let folder = root.join(FOLDER);
    if !folder.exists() {
        let made = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join(".gitignore"), GITIGNORE));
        made.map_err(|source| {
            refused(&StoreError::Io {
                what: "make",
                path: folder.clone(),
                source,
            })
        })?;
    }
    let bar = indicatif::ProgressBar::hidden();
    let mut waited = Duration::ZERO;
    let opened = loop {
        let opened = LocalStore::open(&folder, |progress| {
            if bar.is_hidden() {
                bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
                bar.set_style(progress_style(progress.phase));
            }
            bar.set_length(progress.total_bytes);
            bar.set_position(progress.done_bytes);
        });
        match opened {
            Err(StoreError::Held { .. }) if waited < patience => {
                std::thread::sleep(AGAIN);
                waited += AGAIN;
            }
            opened => break opened,
        }
    };
    let (store, notices) = opened.map_err(|error| refused(&error))?;
    bar.finish_and_clear();
    for notice in notices {
        warn(&notice.to_string());
    }
    tell_of_the_dead(&store)?;
    Ok(store)
}

/// Tells what a person should know and what stops nothing.
pub fn warn(message: &str) {
    let word = style("warning:").for_stderr().yellow().bold();
    errln!("{word} {}", one_line(message));
}

/// Closes the books of runs that ended without a word, and says what they may have left unpaid.
fn tell_of_the_dead(store: &LocalStore) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|source| Complaint::new(format!("cannot start the runtime: {source}")))?;
    let died = runtime.block_on(store.bury()).map_err(|error| refused(&error))?;
    for Died { run, open } in died {
        let calls = match open.calls {
            0 => "no call was open".to_owned(),
            1 => format!("1 call was open: possibly billed, {}", most(open.most)),
            n => format!("{n} calls were open: possibly billed, {}", most(open.most)),
        };
        warn(&format!(
            "run {run} ended without a word (killed?); what it paid for is kept, and {calls}"
        ));
    }
    Ok(())
}

fn most(most: Option<Money>) -> String {
    match most {
        Some(most) => format!("at most about {}", dollars(Some(most))),
        None => "at a cost that is not known".to_owned(),
    }
}

/// Closes the store. What was paid for is safe already; a failure here only makes the next open
/// slower.
pub fn close(store: Arc<LocalStore>) -> Result<(), CliError> {
    match Arc::into_inner(store) {
        Some(store) => store.close().map_err(|error| refused(&error)),
        None => Ok(()),
    }
}

/// Why there is no store to work with.
pub fn refused(error: &StoreError) -> CliError {
    let complaint = Complaint::new(crate::cli::failure::with_causes(error));
    match error {
        StoreError::Held { .. } => complaint
            .hint("wait until it has ended, or stop it with Ctrl+C: what it paid is kept")
            .into(),
        StoreError::Newer { .. } => complaint.hint("update septet; nothing was changed").into(),
        _ => {
            CliError::stopped(complaint.hint(
                "look at free space and permissions of `cache/`, then run it again; nothing paid is lost",
            ))
        }
    }
}

fn progress_style(phase: crate::store::Phase) -> indicatif::ProgressStyle {
    let doing = match phase {
        crate::store::Phase::Replay => "reading the end of the journal",
        crate::store::Phase::Rebuild => "rebuilding the look-up trees from the journal",
    };
    indicatif::ProgressStyle::with_template(&format!("{doing} {{bar:30}} {{bytes}} of {{total_bytes}}"))
        .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar())
}
