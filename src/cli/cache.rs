//! Opens and closes the project's cache, and says what is wrong with it.
#![expect(clippy::disallowed_methods, reason = "makes the folder of the cache")]

pub mod args;
mod carry;
mod gc;
mod ls;
pub mod out;
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
use crate::cli::print::{errln, told};
use crate::cli::project;
use crate::files;
use crate::printable::one_line;
use crate::report::figures::dollars;
use crate::signals;
use crate::store::{self, Damage, Died, LocalStore, Notice, Progress, Receipts, StoreError};
use crate::wording::against_the_system;

/// The name of the cache in the folder of a project.
const FOLDER: &str = "cache";

/// What could not be done with that folder.
const MAKE: &str = "make";

/// Between two tries to open what another process holds.
const AGAIN: Duration = Duration::from_millis(100);

/// So many damaged places are named one by one.
const NAMED: usize = 10;

/// The folder's own ignore file: a clone has the folder and never its contents.
const GITIGNORE: &str = "*\n!.gitignore\n";

/// What helps where the journal has lost something.
const REPAIR: &str =
    "`septet cache verify --repair` first: what only the look-up trees still have is saved by it";

/// `septet cache`.
pub fn command(directory: Option<&Path>, command: &args::Cache) -> Result<ExitCode, CliError> {
    match command {
        args::Cache::Stats(args) => stats::stats(directory, args),
        args::Cache::Ls(args) => ls::ls(directory, args),
        args::Cache::Verify(args) => verify::verify(directory, args),
        args::Cache::Gc(args) => gc::gc(directory, args),
        args::Cache::Export(args) => carry::export(directory, args),
        args::Cache::Import(args) => carry::import(directory, args),
    }
}

/// The cache of a folder.
pub struct Opened<S = LocalStore> {
    /// The folder of the project.
    pub root: PathBuf,
    /// `None`: nothing was paid for yet.
    pub store: Option<S>,
}

/// Opens the cache if there is one. What is looked after needs no good `pipeline.toml`.
pub fn existing(directory: Option<&Path>) -> Result<Opened, CliError> {
    existing_by(directory, open)
}

/// The same to read what is in it.
pub fn existing_to_read(directory: Option<&Path>) -> Result<Opened<Reading>, CliError> {
    existing_by(directory, open_to_read)
}

fn existing_by<S>(
    directory: Option<&Path>,
    open: fn(&Path) -> Result<S, CliError>,
) -> Result<Opened<S>, CliError> {
    let root = project::root(directory);
    let store = match has_cache(directory)? {
        true => Some(open(&root)?),
        false => None,
    };
    Ok(Opened { root, store })
}

/// The folder of a project's cache.
pub fn folder(root: &Path) -> PathBuf {
    root.join(FOLDER)
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
pub fn print(text: &str) -> Result<(), CliError> {
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
    Opening::new(root).open(Duration::ZERO)?.tell()
}

/// A store that is only read: the cache's own, or a copy of what another process has written into it
/// until now, which goes when this is closed.
pub struct Reading {
    store: LocalStore,
    copy: Option<tempfile::TempDir>,
}

impl std::ops::Deref for Reading {
    type Target = LocalStore;

    fn deref(&self) -> &LocalStore {
        &self.store
    }
}

impl Reading {
    /// Closes it.
    pub fn close(self) {
        close(Arc::new(self.store));
        drop(self.copy);
    }
}

/// Opens the store to read what is in it. While another process holds it, a run say, that is what was
/// written until now; so it is where the cache cannot be written to.
pub fn open_to_read(root: &Path) -> Result<Reading, CliError> {
    let opening = Opening::new(root);
    let opened = opening.make_folder().and_then(|()| opening.try_open());
    opening.leave();
    let error = match opened {
        Ok((store, notices)) => {
            let folder = opening.folder.clone();
            let just = JustOpened {
                store,
                notices,
                folder,
            };
            let store = just.tell()?;
            return Ok(Reading { store, copy: None });
        }
        Err(error) => error,
    };
    let why = match &error {
        StoreError::Held { holder, .. } => format!(
            "another septet is at work in this cache ({}): this is as far as it has come",
            one_line(holder)
        ),
        error if error.is_read_only() => {
            "this cache cannot be written to: what is in it is read from a copy".to_owned()
        }
        error => return Err(refused(error)),
    };
    let reading = open_copy(&opening.folder, &error)?;
    let note = style("note:").for_stderr().bold();
    told(&format!("{note} {why}"));
    Ok(reading)
}

/// Opens a copy of a cache, for want of the cache itself.
fn open_copy(cache: &Path, error: &StoreError) -> Result<Reading, CliError> {
    let folder = tempfile::Builder::new().prefix("septet-").tempdir();
    let folder =
        folder.map_err(|source| Complaint::new(format!("cannot make a temporary folder: {source}")))?;
    let path = folder.path().to_owned();
    // Where nobody can listen, a Ctrl+C leaves the copy where temporary files are.
    _ = signals::end_with(move || remove_hard(&path));
    // A cache that is being written anew is ready soon, and says so by its lock.
    if cache.is_dir() && !store::copy_journal(cache, folder.path()).map_err(|error| refused(&error))? {
        return Err(refused(error));
    }
    let copy = Opening {
        folder: folder.path().to_owned(),
        bar: indicatif::ProgressBar::hidden(),
    };
    // What is to be mended is told by the one that can mend it.
    let (store, _) = copy.try_open().map_err(|error| refused(&error))?;
    copy.leave();
    Ok(Reading {
        store,
        copy: Some(folder),
    })
}

/// Removes a folder that somebody may still be writing to.
fn remove_hard(folder: &Path) {
    const TRIES: u32 = 20;
    for _ in 0..TRIES {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => std::thread::sleep(AGAIN / 10),
            _ => return,
        }
    }
}

/// A store that is about to be opened: with a bar, if that takes long.
#[derive(Clone)]
pub struct Opening {
    folder: PathBuf,
    bar: indicatif::ProgressBar,
}

/// A store that is open, and what there is to say about that.
pub struct JustOpened {
    store: LocalStore,
    notices: Vec<Notice>,
    folder: PathBuf,
}

impl Opening {
    /// Nothing is touched yet.
    pub fn new(root: &Path) -> Self {
        Self {
            folder: root.join(FOLDER),
            bar: indicatif::ProgressBar::hidden(),
        }
    }

    /// Opens it. Blocking: mostly some ten milliseconds, minutes where it must be rebuilt, and so
    /// long as `patience` lasts while another process holds it.
    pub fn open(&self, patience: Duration) -> Result<JustOpened, CliError> {
        self.make_folder().map_err(|error| refused(&error))?;
        let mut waited = Duration::ZERO;
        let opened = loop {
            match self.try_open() {
                Err(StoreError::Held { .. }) if waited < patience => {
                    std::thread::sleep(AGAIN);
                    waited += AGAIN;
                }
                opened => break opened,
            }
        };
        self.leave();
        let (store, notices) = opened.map_err(|error| refused(&error))?;
        Ok(JustOpened {
            store,
            notices,
            folder: self.folder.clone(),
        })
    }

    fn try_open(&self) -> Result<(LocalStore, Vec<Notice>), StoreError> {
        let mut shown = false;
        LocalStore::open(&self.folder, |progress| {
            if self.bar.is_finished() {
                return;
            }
            if !std::mem::replace(&mut shown, true) {
                self.bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
                self.bar.set_style(progress_style(progress.phase));
            }
            self.bar.set_length(progress.total_bytes);
            self.bar.set_position(progress.done_bytes);
        })
    }

    /// Takes the bar away for good: whoever opens shows nothing more.
    pub fn leave(&self) {
        self.bar.finish_and_clear();
    }

    fn make_folder(&self) -> Result<(), StoreError> {
        let folder = &self.folder;
        if folder.exists() {
            return Ok(());
        }
        let made = fs::create_dir_all(folder).and_then(|()| fs::write(folder.join(".gitignore"), GITIGNORE));
        made.map_err(|source| StoreError::Io {
            what: MAKE,
            path: folder.clone(),
            source,
        })
    }
}

impl JustOpened {
    /// The same for a run, which has to know what was open when the one before it ended without a word,
    /// also where a command that only reads has told it since.
    pub fn tell_a_run(self) -> Result<LocalStore, CliError> {
        let begun = self.store.has_begun();
        let store = self.tell()?;
        if !begun && let Some(died) = store.died_last().map_err(|error| refused(&error))? {
            warn(&without_a_word(&died));
        }
        Ok(store)
    }

    /// Tells what was mended, and of runs that never told their end.
    pub fn tell(self) -> Result<LocalStore, CliError> {
        let damaged = |notice: &Notice| {
            matches!(
                notice,
                Notice::Damaged(_) | Notice::Missing { .. } | Notice::Short { .. }
            )
        };
        if self.notices.iter().any(damaged) {
            // Answers may be gone: every node is looked at, so that all commands tell the same of them.
            _ = Receipts::remove(&self.folder);
        }
        for notice in self.notices {
            warn(&notice.to_string());
        }
        tell_of_the_dead(&self.store)?;
        Ok(self.store)
    }
}

/// Says what is to be known of a cache on another machine's disk: its locks and syncs are as good as
/// that machine and the way to it.
pub fn warn_of_network(root: &Path) {
    if let Some(kind) = files::network(&folder(root)) {
        warn(&on_network(&kind));
    }
}

fn on_network(kind: &str) -> String {
    format!(
        "`cache/` lies on a network file system ({kind}), where a power cut or a lost connection can take what was \
         paid for, and two machines may not see each other's locks: let only one run at a time, or keep the project \
         on a disk of this machine"
    )
}

/// Closes the store. What was paid for is safe already, so a failure changes no exit code: it only
/// makes the next open slower, and is told.
pub fn close(store: Arc<LocalStore>) {
    let (missing, disturbed) = (store.missing(), store.is_disturbed());
    match Arc::into_inner(store).map(LocalStore::close) {
        // What stopped it was told.
        None | Some(Ok(()) | Err(StoreError::Stopped)) => {}
        Some(Err(_)) if missing.is_some() => {}
        Some(Err(error)) => {
            let cause = crate::cli::failure::with_causes(&error);
            warn(&format!(
                "the cache could not be closed: {cause}; what was paid for is in its journal, which the next run reads"
            ));
        }
    }
    if disturbed && missing.is_none() {
        warn(
            "the journal of the cache was changed by somebody else while septet was at work; what it lost is still \
             served, and `septet cache verify --repair` puts it back",
        );
    }
    if let Some(path) = missing {
        warn(&format!(
            "`{}` was moved or deleted while septet was at work: put it back before the next run, which pays for \
             everything again without it",
            path.display()
        ));
    }
}

/// Closes the books of runs that ended without a word, and says what they may have left unpaid.
fn tell_of_the_dead(store: &LocalStore) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|source| Complaint::new(format!("cannot start the runtime: {source}")))?;
    let died = runtime.block_on(store.bury()).map_err(|error| refused(&error))?;
    for died in died {
        warn(&without_a_word(&died));
    }
    Ok(())
}

fn without_a_word(Died { run, open, fetchable }: &Died) -> String {
    let calls = match open.calls {
        0 => "no call was open".to_owned(),
        1 => format!("1 call was open: possibly billed, {}", most(open.most)),
        n => format!("{n} calls were open: possibly billed, {}", most(open.most)),
    };
    let calls = match (fetchable, open.calls) {
        (0, _) => calls,
        (1, 0) => "1 call was open, whose answer can still be fetched from the provider".to_owned(),
        (n, 0) => format!("{n} calls were open, whose answers can still be fetched from the provider"),
        (n, _) => format!("{calls}; {n} more can still be fetched from the provider"),
    };
    format!("run {run} ended without a word (killed?); what it paid for is kept, and {calls}")
}

fn most(most: Option<Money>) -> String {
    match most {
        Some(most) => format!("at most about {}", dollars(Some(most))),
        None => "at a cost that is not known".to_owned(),
    }
}

/// Tells what a person should know and what stops nothing.
pub fn warn(text: &str) {
    let warning = style("warning:").for_stderr().yellow().bold();
    told(&format!("{warning} {}", one_line(text)));
}

/// Why there is no store to work with.
pub fn refused(error: &StoreError) -> CliError {
    let message = crate::cli::failure::with_causes(error);
    let place = match error {
        // The folder of the cache itself.
        StoreError::Io { what: MAKE, .. } => "the folder of `pipeline.toml`",
        _ => "`cache/`",
    };
    let mend = against_the_system(&message, place)
        .unwrap_or_else(|| "look at free space and permissions of `cache/`".to_owned());
    let complaint = Complaint::new(message);
    match error {
        StoreError::Held { .. } => complaint
            .hint("wait until it has ended, or stop it with Ctrl+C: what it paid is kept")
            .into(),
        StoreError::Lost { .. } => complaint.hint(REPAIR).into(),
        StoreError::Newer { .. } => complaint.hint("update septet; nothing was changed").into(),
        _ => CliError::stopped(complaint.hint(format!("{mend}, then run it again; nothing paid is lost"))),
    }
}

/// Shows how far a long opening is, once there is something to tell.
struct Bar(indicatif::ProgressBar);

fn bar() -> Bar {
    Bar(indicatif::ProgressBar::hidden())
}

impl Bar {
    fn tell(&self, progress: Progress) {
        if self.0.is_hidden() {
            self.0.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            self.0.set_style(progress_style(progress.phase));
        }
        self.0.set_length(progress.total_bytes);
        self.0.set_position(progress.done_bytes);
    }

    fn clear(&self) {
        self.0.finish_and_clear();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_on_a_network_is_told_with_what_to_do() {
        insta::assert_snapshot!(on_network("nfs4"), @"`cache/` lies on a network file system (nfs4), where a power cut or a lost connection can take what was paid for, and two machines may not see each other's locks: let only one run at a time, or keep the project on a disk of this machine");
    }
}
