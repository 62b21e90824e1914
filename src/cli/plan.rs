//! `septet plan`: what `run` would do, by the same path up to the call.

pub(super) mod basis;
pub(super) mod ends;
mod history;
mod json;
pub(super) mod money;
pub(super) mod prices;
mod reasons;
pub(super) mod text;
pub(super) mod time;

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::call::{Delivery, Money};
use crate::cli::args::{Plan, Selection};
use crate::cli::budget;
use crate::cli::failed::FailedPersonas;
use crate::cli::failure::{CliError, Complaint};
use crate::cli::print::outln;
use crate::cli::project::Loaded;
use crate::cli::receipts::Known;
use crate::cli::refresh::Refresh;
use crate::cli::{cache, clock, provider};
use crate::config::Node;
use crate::events::{Failure, History as Accounts};
use crate::names::{Instance, PersonaId};
use crate::plan::{Examined, Forecast, Found, Outlook, Planner, Reason, Stored, Tokenizers, Totals};
use crate::run::{Fate, Folder, Project, with_causes};
use crate::store::{LocalStore, Looked, Miss, Store, StoreError};
use crate::tariff::PriceRange;
use crate::tokenizer::Encoding;

use money::{Passed, Planned};
use prices::Prices;
use reasons::{Looked as Seen, Reasons};
use time::Timing;

/// Prints what a run would do.
pub fn plan(directory: Option<&Path>, args: &Plan) -> Result<ExitCode, CliError> {
    let project = Loaded::open(directory)?;
    let personas = project.select(&args.selection)?;
    let refresh = Refresh::new(&args.selection.refresh, &project.graph, &personas)?;
    budget::demand_prices(&project, &args.selection.limits(&project.config.limits))?;
    let folder = project.folder();
    let store = cache::open_to_read(&project.root)?;
    // What is asked for anew is not up to date.
    let known = match args.verify || !refresh.is_empty() {
        true => Known::default(),
        false => Known::read(&project, &folder, &personas),
    };
    let all_hit = vec![Outlook::Hit; project.graph.len()];
    let lookup = Lookup {
        project: &project,
        folder,
        store: &store,
        refresh: &refresh,
        known,
    };
    let accounts = store.history().map_err(|error| cache::refused(&error))?;
    let mut planner = planner(&project, &store, &accounts)?;
    let mut reasons = Reasons::new(&project, &store);
    let (mut counted, mut failed) = (Counted::default(), FailedPersonas::default());
    let result = project.graph.result();
    let mut tell_failed = |persona: &PersonaId, failure: &Failure| {
        let line = failed.line(persona, failure);
        if let Some(line) = line.filter(|_| !args.selection.json && !args.quiet) {
            outln!("{line}");
        }
    };
    lookup.each(&personas, |persona, examined| {
        let Some(examined) = examined else {
            let outlooks = Ok(all_hit.clone());
            if args.selection.json {
                json::persona(&project, persona, &outlooks);
            }
            counted.add(&outlooks, true, Some(Fate::UpToDate));
            return Ok(());
        };
        let (outlooks, text) = explained(&mut planner, &mut reasons, persona, examined, result)?;
        if args.selection.json {
            json::persona(&project, persona, &outlooks);
        } else if let Err(failure) = &outlooks {
            tell_failed(persona, failure);
        }
        let fate = match &outlooks {
            Ok(_) => match lookup.transcript(persona, text.as_deref())? {
                Ok(fate) => Some(fate),
                // The run calls its nodes, and fails where it would write.
                Err(failure) => {
                    tell_failed(persona, &failure);
                    counted.failed += 1;
                    None
                }
            },
            Err(_) => None,
        };
        counted.add(&outlooks, text.is_some(), fate);
        Ok(())
    })?;
    if !args.selection.json && !args.quiet {
        failed.others().for_each(|line| outln!("{line}"));
    }
    planner.count();
    let foreseen = foresee(&project, &args.selection, &store, &accounts, &planner, counted);
    if args.selection.json {
        json::totals(&foreseen);
    } else {
        text::totals(&foreseen, args);
    }
    // Totals first, names after them: nothing of a persona is kept, so all are gone through again.
    if args.verbose && !args.selection.json {
        let mut planner = planner.again();
        let mut reasons = Reasons::new(&project, &store);
        lookup.each(&personas, |persona, examined| {
            let Some(examined) = examined else {
                text::persona(&project, persona, &all_hit);
                return Ok(());
            };
            let (outlooks, _) = explained(&mut planner, &mut reasons, persona, examined, result)?;
            text::persona(&project, persona, outlooks.as_deref().unwrap_or(&[]));
            Ok(())
        })?;
    }
    drop(reasons);
    store.close();
    Ok(ExitCode::SUCCESS)
}

/// A planner that knows what earlier runs do.
///
/// # Errors
/// If the store does not work.
pub fn planner<'a>(
    project: &'a Loaded,
    store: &LocalStore,
    accounts: &Accounts,
) -> Result<Planner<'a>, CliError> {
    let history = history::read(project, store, accounts)?;
    Ok(Planner::with_history(&project.graph, history)
        .ordered(project.config.schedule.prefix)
        .asking_again(project.config.retry.rejected)
        .counting(tokenizers(project))
        .within(
            project
                .config
                .nodes
                .iter()
                .map(|node| node.model.max_output_tokens),
        ))
}

/// What comes of all that a planner has seen, and that was counted.
pub fn foresee<'a>(
    project: &'a Loaded,
    selection: &Selection,
    store: &LocalStore,
    accounts: &Accounts,
    planner: &Planner<'_>,
    counted: Counted,
) -> Foreseen<'a> {
    let limits = selection.limits(&project.config.limits);
    let windows = time::windows(selection, &limits, clock::now(), TimeZone::system());
    let usual = project
        .prices()
        .into_iter()
        .map(|price| price.map(PriceRange::from));
    let first = planner.forecast(&usual.collect::<Vec<_>>());
    let time = time::timing(
        project,
        &limits,
        accounts,
        planner,
        &counted.totals,
        &first,
        windows,
    );
    let prices = prices::during(project, &time);
    let forecast = planner.forecast(&prices.ranges);
    let by_option = selection.budget.is_some();
    let budget = budget::limits(&limits, by_option, Money::ZERO, store.spending());
    let planned = Planned {
        project,
        limits: &limits,
        planner,
        accounts,
        prices: &prices.ranges,
        calls: time.calls,
        costs: forecast.cost,
        known: forecast.basis.answers > 0,
    };
    let over = planned.passed(&budget);
    Foreseen {
        project,
        time,
        prices,
        over,
        counted,
        forecast,
    }
}

/// What counts the input where no server did. The built-in model counts four characters as one.
fn tokenizers(project: &Loaded) -> Tokenizers<'static> {
    let simulated = provider::is_simulated(&project.config.provider);
    let of = |node: &Node| Encoding::of_model(&node.model.name).filter(|_| !simulated);
    let nodes = project.config.nodes.iter().map(of).collect();
    Tokenizers::new(nodes, Encoding::count)
}

/// All that is foreseen.
pub struct Foreseen<'a> {
    pub project: &'a Loaded,
    pub counted: Counted,
    pub forecast: Forecast,
    pub time: Timing,
    pub prices: Prices,
    /// The budget that it would pass.
    pub over: Option<Passed>,
}

/// Nodes and personas, counted.
#[derive(Default)]
pub struct Counted {
    pub totals: Totals,
    pub personas: usize,
    pub to_do: usize,
    pub failed: usize,
    transcripts: Transcripts,
}

/// What would become of transcripts.
#[derive(Default)]
struct Transcripts {
    /// Their text is in the cache and they are as it is.
    unchanged: u64,
    /// Their text is in the cache, and they are missing or have an older one.
    to_write: u64,
    /// They were edited by hand: another text comes beside them.
    kept: u64,
}

impl Counted {
    /// `there`: the text of the transcript is in the cache.
    pub fn add(&mut self, outlooks: &Outlooks, there: bool, fate: Option<Fate>) {
        self.personas += 1;
        let Ok(outlooks) = outlooks else {
            self.failed += 1;
            return;
        };
        let called = |outlook: &Outlook| matches!(outlook, Outlook::Call(..) | Outlook::Depends(_));
        let called = outlooks.iter().any(called);
        let (files, mut writes) = (&mut self.transcripts, false);
        match fate {
            Some(Fate::UpToDate) => files.unchanged += 1,
            Some(Fate::Missing | Fate::Outdated) => {
                writes = there;
                files.to_write += u64::from(there);
            }
            Some(Fate::Edited) => files.kept += u64::from(there || called),
            None => {}
        }
        self.to_do += usize::from(called || writes);
        for (node, outlook) in outlooks.iter().enumerate() {
            self.totals.add(node, outlook);
        }
    }
}

/// What was found of a persona, or why it would fail; and what was learned of its nodes.
pub type Examination = (Result<Examined, Failure>, Seen);

/// So many personas are looked at by a thread before what was found is taken in: that is kept until then.
const AT_ONCE: usize = 32;
/// A thread for fewer is not worth it.
const LEAST: usize = 4;

/// Of the nodes of a persona, or why it would fail.
pub type Outlooks = Result<Vec<Outlook>, Failure>;

/// Where outlooks are taken from.
pub struct Lookup<'a> {
    pub project: &'a Loaded,
    pub folder: Folder,
    pub store: &'a LocalStore,
    pub refresh: &'a Refresh,
    /// What need not be looked at.
    pub known: Known,
}

impl Lookup<'_> {
    /// The outlook of each node of one persona, or why the persona would fail.
    ///
    /// # Errors
    /// If the store does not work.
    pub fn outlooks(&self, planner: &mut Planner<'_>, persona: &PersonaId) -> Result<Outlooks, CliError> {
        Ok(self.examined(persona)?.0.map(|examined| planner.take(examined)))
    }

    /// Hands what was found of each of these personas to `take`, in their order; nothing of those
    /// that are known to be up to date. They are looked at on all processors.
    ///
    /// # Errors
    /// If the store does not work; those of `take`.
    pub fn each(
        &self,
        personas: &[PersonaId],
        mut take: impl FnMut(&PersonaId, Option<Examination>) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let examine = |some: &[PersonaId]| -> Vec<Result<Option<Examination>, CliError>> {
            let unknown =
                |persona: &PersonaId| (!self.known.is_up_to_date(persona)).then(|| self.examined(persona));
            some.iter().map(|persona| unknown(persona).transpose()).collect()
        };
        for some in personas.chunks(threads * AT_ONCE) {
            let part = some.len().div_ceil(threads).max(LEAST);
            let (own, others) = some.split_at(part.min(some.len()));
            let examined = std::thread::scope(|scope| {
                let others = others.chunks(part);
                let others: Vec<_> = others.map(|part| scope.spawn(move || examine(part))).collect();
                let mut examined = examine(own);
                for other in others {
                    examined.extend(other.join().expect("BUG: looking at a persona panics"));
                }
                examined
            });
            for (persona, examined) in some.iter().zip(examined) {
                take(persona, examined?)?;
            }
        }
        Ok(())
    }

    /// What is in the place of a persona's transcript, beside the text that it is to have.
    ///
    /// # Errors
    /// If the store does not work; within, why that cannot be told.
    fn transcript(&self, persona: &PersonaId, text: Option<&str>) -> Result<Result<Fate, Failure>, CliError> {
        let stopped = |error: StoreError| CliError::stopped(Complaint::new(with_causes(&error)));
        let note = self.store.transcript(persona).map_err(stopped)?;
        let file = self.folder.transcript(persona);
        Ok(file.map(|file| Fate::of(file.as_deref(), note.as_ref(), text)))
    }

    /// Renders and looks up what is known of a persona.
    fn examined(&self, persona: &PersonaId) -> Result<Examination, CliError> {
        let mut seen = Seen::new(self.project.graph.len());
        let requests = match self.folder.open(persona) {
            Ok(requests) => requests,
            Err(failure) => return Ok((Err(failure), seen)),
        };
        // The store's errors end the command, the persona's only its part of it.
        let mut broken = None;
        let graph = &self.project.graph;
        seen.content = requests.files().map(|files| files.id());
        let answered = self.known.answered(graph, persona, seen.content);
        let examined = Examined::new(
            graph,
            self.project.config.schedule.prefix,
            answered,
            |node, needs| requests.request(node, needs),
            |node, key, bounds| {
                let instance = Instance::new(persona.clone(), self.project.graph.id(node).clone());
                seen.keys[node] = Some(*key);
                if self.refresh.wants(&instance) {
                    return Ok(Found::Missing(Reason::Refreshed));
                }
                match self.store.look(&instance, key, bounds) {
                    Ok(looked) => {
                        if let Looked::Hit(record) | Looked::Readmitted(record) = &looked {
                            seen.answers[node] = Some(record.answer.text.clone());
                        }
                        Ok(found(looked, bounds))
                    }
                    Err(error) => {
                        broken = Some(with_causes(&error));
                        Ok(Found::Missing(Reason::New))
                    }
                }
            },
        );
        match broken {
            Some(message) => Err(CliError::stopped(Complaint::new(message))),
            None => Ok((examined, seen)),
        }
    }
}

/// The outlooks of what was found of a persona with what differs from what was sent before, and the
/// text of the result if that is there.
fn explained(
    planner: &mut Planner<'_>,
    reasons: &mut Reasons<'_>,
    persona: &PersonaId,
    (examined, mut seen): Examination,
    result: usize,
) -> Result<(Outlooks, Option<String>), CliError> {
    let mut outlooks = examined.map(|examined| planner.take(examined));
    if let Ok(outlooks) = &mut outlooks {
        reasons.explain(persona, outlooks, &seen)?;
    }
    Ok((outlooks, seen.answers.swap_remove(result)))
}

/// A look-up as the planner takes it; `bounds` is what it was asked with.
pub fn found(looked: Looked, bounds: &Delivery) -> Found {
    let limit = bounds.max_output_tokens;
    let reason = match looked {
        Looked::Hit(record) | Looked::Readmitted(record) => {
            return Found::Stored(Stored {
                usage: record.answer.usage,
                latency: Duration::from_millis(record.latency_ms),
                text: record.answer.text,
            });
        }
        Looked::CutOff(rejected) => return Found::CutOff(rejected.cut),
        Looked::Miss(Miss::Absent) => Reason::New,
        Looked::Miss(Miss::Refreshed) => Reason::Refreshed,
        Looked::Miss(Miss::Damaged(reason)) => Reason::Damaged(reason),
        Looked::Miss(Miss::TooLong { output }) => Reason::TooLong { output, limit },
        Looked::Miss(Miss::Unfit(misfit)) => Reason::Unfit(misfit),
        Looked::Miss(Miss::CutOff(rejected)) => Reason::CutOff {
            cut: rejected.cut,
            limit,
        },
        Looked::Miss(Miss::Rejected(rejected)) => Reason::Rejected(rejected.rejection),
    };
    Found::Missing(reason)
}
