//! `septet run`: builds what a run needs, runs it, shows it, and leaves the cache closed.

use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use crate::budget::Limit;
use crate::call::Money;
use crate::cli::args::{Color, Run};
use crate::cli::failure::{CliError, Complaint};
use crate::cli::project::Loaded;
use crate::cli::receipts::{self, Book};
use crate::cli::refresh::Refresh;
use crate::cli::{budget, cache, clock, open_files, provider, runtime, wait, watch};
use crate::config::Limits;
use crate::events::{History, Tally};
use crate::names::{PersonaId, RunId, Stop};
use crate::provider::Provider;
use crate::report;
use crate::report::figures::count;
use crate::run::{Folder, Jobs, Project, Services, Task, Times, UpToDate};
use crate::schedule::{MOST_IN_FLIGHT, Settings};
use crate::signals;
use crate::store::{Entry, LocalStore, Receipts, Sent, Spending, Store, StoreError};

/// A call may be noted, wait for a connection, or be written down so long beyond its timeout.
const BEFORE_SENDING: Duration = Duration::from_secs(60);

/// Brings the chosen personas up to date.
pub fn run(directory: Option<&Path>, args: &Run, color: Color) -> Result<ExitCode, CliError> {
    if args.watch {
        return watch::watch(directory, args, color);
    }
    // Before anything that takes time: a signal is honoured from here on, and told about.
    let mut stops =
        signals::listen().map_err(|error| Complaint::new(format!("cannot listen for Ctrl+C: {error}")))?;
    let mut ready = Ready::read(directory, args, &args.selection.refresh)?;
    if let Some(when) = args.selection.start_at {
        let at = when.after(clock::now(), &TimeZone::system());
        if let Some(stop) = wait::until(at, &mut stops, shown(args, color))? {
            let tally = ready.stopped(args, color, stop)?;
            return Ok(ExitCode::from(tally.exit_code().unwrap_or(3)));
        }
        // What was edited meanwhile is what is run.
        ready = Ready::read(directory, args, &args.selection.refresh)?;
    }
    let folder = Arc::new(ready.project.kept_folder());
    ready.use_receipts(args, &folder);
    let tally = if let Ok(stop) = stops.try_recv() {
        ready.stopped(args, color, stop)?
    } else if ready.personas.is_empty() && !ready.up_to_date.is_empty() {
        ready.nothing_to_do(args, color)?
    } else {
        match open(&ready.project.root, &mut stops)? {
            Ok(opened) => {
                cache::warn_of_network(&ready.project.root);
                let book = Book {
                    project: ready.project.clone(),
                    folder: folder.clone(),
                };
                ready.run(args, color, opened.tell_a_run()?, folder, stops, Some(book))?
            }
            Err(stop) => ready.stopped(args, color, stop)?,
        }
    };
    Ok(ExitCode::from(tally.exit_code().unwrap_or(3)))
}

/// Opens the store, unless somebody asks to stop before it is open: then that is returned, and
/// what is being opened is left as after a crash, which it is made for.
fn open(
    root: &Path,
    stops: &mut UnboundedReceiver<Stop>,
) -> Result<Result<cache::JustOpened, Stop>, CliError> {
    if let Ok(stop) = stops.try_recv() {
        return Ok(Err(stop));
    }
    let opening = cache::Opening::new(root);
    let runtime = runtime()?;
    let opened = runtime.block_on(async {
        let job = opening.clone();
        let opened = tokio::task::spawn_blocking(move || job.open(Duration::ZERO));
        tokio::select! {
            biased;
            Some(stop) = stops.recv() => Ok(Err(stop)),
            opened = opened => opened
                .map_err(|_| Complaint::new("septet has a bug: opening the cache panicked; what was paid is kept"))?
                .map(Ok),
        }
    });
    opening.leave();
    runtime.shutdown_background();
    opened
}

/// A run of which everything is read and nothing called.
pub struct Ready {
    pub project: Arc<Loaded>,
    pub personas: Vec<PersonaId>,
    /// Who else was chosen and is up to date, as receipts say.
    pub up_to_date: Vec<UpToDate>,
    /// What was spent of the budget of one run before: by the session that it is a part of.
    pub spent: Money,
    refresh: Refresh,
    provider: Arc<dyn Provider>,
    limits: Limits,
    /// Receipts are not used.
    looks_at_all: bool,
}

impl Ready {
    /// Reads what a run needs. `refresh` are the patterns of `--refresh` that hold for it.
    pub fn read(directory: Option<&Path>, args: &Run, refresh: &[String]) -> Result<Self, CliError> {
        let project = Arc::new(Loaded::open(directory)?);
        let personas = project.select(&args.selection)?;
        let refresh = Refresh::new(refresh, &project.graph, &personas)?;
        let limits = args.selection.limits(&project.config.limits);
        budget::demand_prices(&project, &limits)?;
        Ok(Self {
            provider: provider::connect(&project.config.provider)?,
            spent: Money::ZERO,
            project,
            personas,
            up_to_date: Vec::new(),
            refresh,
            limits,
            looks_at_all: false,
        })
    }

    /// Takes out who is up to date as receipts say.
    fn use_receipts(&mut self, args: &Run, folder: &Folder) {
        self.looks_at_all = args.verify || !self.refresh.is_empty();
        if self.looks_at_all {
            return;
        }
        let (cache, basis) = (cache::folder(&self.project.root), self.project.basis.clone());
        let receipts = Receipts::read(&cache, basis.clone());
        let parted = folder.part(&receipts, std::mem::take(&mut self.personas));
        (self.up_to_date, self.personas) = (parted.up_to_date, parted.others);
        if !parted.newer.is_empty() {
            // Only for speed: what cannot be written is looked at again the next time.
            _ = Receipts::renew(&cache, basis, parted.newer);
        }
    }

    /// Shows a run of which all personas are up to date: the store stays closed.
    fn nothing_to_do(self, args: &Run, color: Color) -> Result<Tally, CliError> {
        // What was spent and learned before stands in the store.
        let limits = Limits {
            budget_usd_month: None,
            budget_usd_total: None,
            ..self.limits
        };
        let (by_option, unknown) = (args.selection.budget.is_some(), Spending::default());
        let budget = budget::limits(&limits, by_option, self.spent, &unknown);
        let history = History::default();
        let task = Task {
            up_to_date: self.up_to_date,
            ..task(&self.project, args, Vec::new(), &limits, budget, history)
        };
        runtime()?.block_on(async {
            let (events, told) = unbounded_channel();
            let reporter = report::spawn(told, report::sinks(shown(args, color)));
            crate::run::nothing_to_do(&task, events);
            drop(task);
            tally(reporter).await
        })
    }

    /// True if what it spends is limited.
    pub fn has_budget(&self) -> bool {
        let limits = &self.limits;
        [
            limits.budget_usd,
            limits.budget_usd_month,
            limits.budget_usd_total,
        ]
        .iter()
        .any(Option::is_some)
    }

    /// Shows a run that was stopped before its store was open.
    fn stopped(self, args: &Run, color: Color, stop: Stop) -> Result<Tally, CliError> {
        // What was spent and learned before stands in the store.
        let (budget, history) = (Vec::new(), History::default());
        let task = Task {
            up_to_date: self.up_to_date,
            ..task(&self.project, args, self.personas, &self.limits, budget, history)
        };
        runtime()?.block_on(async {
            let (events, told) = unbounded_channel();
            let reporter = report::spawn(told, report::sinks(shown(args, color)));
            crate::run::stopped_before(&task, stop, events);
            tally(reporter).await
        })
    }

    /// Runs to the end and closes the store.
    pub fn run(
        mut self,
        args: &Run,
        color: Color,
        store: LocalStore,
        folder: Arc<dyn Project>,
        stops: UnboundedReceiver<Stop>,
        book: Option<Book>,
    ) -> Result<Tally, CliError> {
        if self.looks_at_all || !self.refresh.is_empty() {
            // Before anything is marked: what is asked for anew is not up to date from now on. Nor is
            // what a look at every node is interrupted at.
            receipts::take_back(&self.project.root)?;
        }
        let by_option = args.selection.budget.is_some();
        let budget = budget::limits(&self.limits, by_option, self.spent, store.spending());
        if let Some(caveat) = budget::caveat(&self.limits, store.spending()) {
            cache::warn(&caveat);
        }
        let history = store.history().map_err(|error| cache::refused(&error))?;
        let mut fetchable = store.fetchable();
        let given_up = self.refresh.give_up(&mut fetchable);
        if !given_up.is_empty() {
            let calls = count(given_up.len() as u64, "open call");
            cache::warn(&format!(
                "`--refresh` gives up {calls} that could still be fetched and may have been billed"
            ));
        }
        if self.has_budget() {
            // Money is set aside for them: were others first, it could keep everybody out.
            let open = fetchable.values().flatten().map(|sent| &sent.instance.persona);
            let open: HashSet<&PersonaId> = open.collect();
            self.personas.sort_by_key(|persona| !open.contains(persona));
        }
        let mut task = Task {
            up_to_date: self.up_to_date,
            fetchable,
            ..task(&self.project, args, self.personas, &self.limits, budget, history)
        };
        keep_within_open_files(&mut task.settings);
        let store = Arc::new(store);
        let runtime = runtime()?;
        let services = Services {
            provider: self.provider,
            store: store.clone(),
            project: folder,
            unix_ms: clock::unix_ms,
            jobs: Jobs::Threads,
        };
        let tally = runtime.block_on(go(
            task,
            services,
            self.refresh,
            given_up,
            shown(args, color),
            stops,
        ))?;
        // What still holds the store are tasks that have done their work.
        drop(runtime);
        if let Some(book) = book {
            book.write();
        }
        cache::close(store);
        Ok(tally)
    }
}

fn shown(args: &Run, color: Color) -> report::Options {
    report::Options {
        json: args.selection.json,
        quiet: args.quiet,
        session: args.watch,
        color: color.into(),
    }
}

/// Waits until everything is shown.
async fn tally(reporter: JoinHandle<Tally>) -> Result<Tally, CliError> {
    let tally = reporter.await;
    tally.map_err(|_| Complaint::new("septet has a bug: the display ended early").into())
}

/// Runs, shows, and writes the run into the book.
async fn go(
    task: Task,
    services: Services,
    refresh: Refresh,
    given_up: Vec<Sent>,
    shown: report::Options,
    stops: UnboundedReceiver<Stop>,
) -> Result<Tally, CliError> {
    let store = services.store.clone();
    refresh
        .mark(&*store, &task.graph, &task.personas)
        .await
        .map_err(|error| cache::refused(&error))?;
    for sent in given_up {
        let end = sent.given_up(clock::unix_ms(), "`--refresh`");
        store.note(end).await.map_err(|error| cache::refused(&error))?;
    }
    let run = task.run.clone();
    let start = Entry::Start {
        run: run.clone(),
        at_ms: clock::unix_ms(),
        about: report::json::started(&task.started()),
    };
    store.note(start).await.map_err(|error| cache::refused(&error))?;
    let (events, told) = unbounded_channel();
    let reporter = report::spawn(told, report::sinks(shown));
    let running = tokio::spawn(crate::run::run(task, services, events, stops));
    running
        .await
        .map_err(|_| Complaint::new("septet has a bug: the run panicked; what was paid is kept"))?;
    let tally = tally(reporter).await?;
    // After a store that cannot be written there is nothing to write this to, and it was told.
    _ = remember(&*store, run, &tally).await;
    Ok(tally)
}

/// What was asked, with the command line over the file.
fn task(
    project: &Loaded,
    args: &Run,
    personas: Vec<PersonaId>,
    limits: &Limits,
    budget: Vec<Limit>,
    history: History,
) -> Task {
    let config = &project.config;
    // Where nothing is sent and no time is told, the machine's zone need not be looked up: that is a
    // third of what a run with nothing to do takes.
    let zone = match personas.is_empty() && args.selection.until.is_none() {
        true => TimeZone::UTC,
        false => TimeZone::system(),
    };
    Task {
        run: run_id(),
        graph: project.graph.clone(),
        pipeline: Some(project.snapshot.clone()),
        personas,
        up_to_date: Vec::new(),
        settings: Settings {
            concurrency: limits.concurrency,
            most: MOST_IN_FLIGHT,
            retry: config.retry.clone(),
            fail_fast: args.fail_fast,
        },
        requests_per_minute: limits.requests_per_minute,
        tokens_per_minute: limits.tokens_per_minute,
        budget,
        models: project.models(),
        history,
        times: Times {
            until: args.selection.until.map(|until| until.after(clock::now(), &zone)),
            hours: limits.hours.clone(),
            zone,
        },
        prices: project.tariffs(),
        longest_call: config.provider.timeout + BEFORE_SENDING,
        overwrite: args.overwrite,
        provider: config.provider.name.clone(),
        simulated: provider::is_simulated(&config.provider),
        reserves: provider::reserves(&config.provider),
        fetchable: Default::default(),
        prefix: config.schedule.prefix,
        seed: fastrand::u64(..),
    }
}

/// Lets no more calls be in flight than files may be open.
fn keep_within_open_files(settings: &mut Settings) {
    let wanted = settings.concurrency.unwrap_or(settings.most);
    let (room, caveat) = open_files::make_room(wanted);
    match &mut settings.concurrency {
        Some(concurrency) => *concurrency = room,
        // Nobody asked for so many.
        None => return settings.most = room,
    }
    if let Some(caveat) = caveat {
        cache::warn(&caveat);
    }
}

/// A name that sorts by time and is new: `20261123-223015-4f2a`.
fn run_id() -> RunId {
    let time = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    format!("{time}-{:04x}", fastrand::u16(..)).into()
}

async fn remember(store: &dyn Store, run: RunId, tally: &Tally) -> Result<(), StoreError> {
    let Some(summary) = tally
        .summary()
        .and_then(|summary| serde_json::to_value(summary).ok())
    else {
        return Ok(());
    };
    let entry = Entry::Run {
        run,
        at_ms: clock::unix_ms(),
        summary,
        account: Some(Box::new(tally.account.clone())),
        about: tally
            .started
            .as_ref()
            .map(report::json::started)
            .unwrap_or_default(),
    };
    store.keep(entry).await
}
