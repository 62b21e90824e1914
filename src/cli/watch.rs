//! `septet run --watch`: a run, and another one after each saved edit, until somebody ends it. The
//! cache is open during a run only, so that other commands can look at it in between.

mod changes;
mod edits;
mod words;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::cli::args::{Color, Run};
use crate::cli::failure::{CliError, Complaint};
use crate::cli::project::Loaded;
use crate::cli::run::Ready;
use crate::cli::{cache, provider, runtime};
use crate::events::Tally;
use crate::names::Stop;
use crate::signals;

use changes::{AllChanged, Noted};
use edits::Edits;
use words::Session;

/// How long a run waits for another command that holds the cache.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs, watches and runs again. What is wrong at the start ends it, what becomes wrong by an edit
/// does not.
pub fn watch(directory: Option<&Path>, args: &Run, color: Color) -> Result<ExitCode, CliError> {
    // Read once to know what to watch, and once more when it is watched.
    let project = Loaded::open(directory)?;
    let mut edits = Edits::new(&project, &args.selection);
    let ready = Ready::read(directory, args, &args.selection.refresh)?;
    edits.follow(&ready.project);
    let simulated = provider::is_simulated(&project.config.provider);
    let mut watch = Watch {
        directory,
        args,
        color,
        edits,
        session: Session::new(args, simulated),
        code: 0,
    };
    let code = runtime()?.block_on(watch.session(ready))?;
    Ok(ExitCode::from(code))
}

struct Watch<'a> {
    directory: Option<&'a Path>,
    args: &'a Run,
    color: Color,
    edits: Edits<'a>,
    session: Session,
    /// How the last run ended, or the last edit that could not be run.
    code: u8,
}

/// A run that is over.
struct Played {
    ended: Result<Tally, CliError>,
    changed: AllChanged,
    /// The files that were edited meanwhile.
    edited: Vec<String>,
    /// Somebody asked to end.
    stopped: bool,
}

impl Watch<'_> {
    /// Returns the exit code at the end: during a run that of the run, 130 as a rule; in between
    /// that of the last one, since nothing is interrupted.
    async fn session(&mut self, mut ready: Ready) -> Result<u8, CliError> {
        let mut stops = signals::listen()
            .map_err(|error| Complaint::new(format!("cannot listen for Ctrl+C: {error}")))?;
        self.session.warn(&ready);
        cache::warn_of_network(&ready.project.root);
        loop {
            ready.spent = self.session.spent();
            let personas = ready.personas.len();
            let played = self.play(ready, &mut stops).await;
            match played.ended {
                Ok(tally) => {
                    self.session.add(&tally);
                    self.session.changed(&played.changed);
                    self.code = tally.exit_code().unwrap_or(3);
                }
                Err(error) => {
                    _ = error.report();
                    self.code = error.code();
                }
            }
            if played.stopped {
                return Ok(self.code);
            }
            match self.next(played.edited, personas, &mut stops).await {
                Some(next) => ready = next,
                None => return Ok(self.code),
            }
        }
    }

    /// Makes a run. An edit drains it: what is in flight is kept, and the next run goes on from
    /// there with the new state.
    async fn play(&mut self, ready: Ready, stops: &mut UnboundedReceiver<Stop>) -> Played {
        let (ask, asked) = unbounded_channel();
        let noted = Arc::new(Noted::new(ready.project.kept_folder()));
        let (project, args, color) = (noted.clone(), self.args.clone(), self.color);
        // A run has a runtime of its own, at whose end nobody holds the cache any more.
        let mut run = tokio::task::spawn_blocking(move || {
            let store = cache::Opening::new(&ready.project.root)
                .open(PATIENCE)?
                .tell_a_run()?;
            ready.run(&args, color, store, project, asked, None)
        });
        let mut edited = Vec::new();
        let mut stopped = false;
        let ended = loop {
            tokio::select! {
                ended = &mut run => break ended,
                Some(stop) = stops.recv() => {
                    stopped = true;
                    _ = ask.send(stop);
                }
                files = self.edits.next() => {
                    edited.extend(files);
                    _ = ask.send(Stop::Restart);
                }
            }
        };
        let bug = |_| {
            CliError::from(Complaint::new(
                "septet has a bug: the run panicked; what was paid is kept",
            ))
        };
        Played {
            ended: ended.map_err(bug).and_then(|ended| ended),
            changed: noted.take(),
            edited,
            stopped,
        }
    }

    /// Waits until there is something to run again. `None`: somebody ended the session.
    async fn next(
        &mut self,
        mut edited: Vec<String>,
        personas: usize,
        stops: &mut UnboundedReceiver<Stop>,
    ) -> Option<Ready> {
        let mut running = true;
        loop {
            if edited.is_empty() {
                running = false;
                self.session.watching(self.edits.count(), personas);
                tokio::select! {
                    Some(_) = stops.recv() => return None,
                    files = self.edits.next() => edited = files,
                }
            }
            self.session.edited(&edited, running);
            edited.clear();
            match Ready::read(self.directory, self.args, &[]) {
                Ok(ready) => {
                    self.edits.follow(&ready.project);
                    return Some(ready);
                }
                Err(error) => {
                    self.session.refused(&error);
                    self.edits.refuse();
                    self.code = error.code();
                }
            }
        }
    }
}
