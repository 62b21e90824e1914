//! `septet rehearse`: the run that `plan` plans, played in virtual time with chances of its own, as
//! often as is asked for; and what other limits would change.

mod json;
mod picture;
mod rests;
mod text;
mod what_if;

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::budget::Limit;
use crate::call::Money;
use crate::cli::args::Rehearse;
use crate::cli::failed::FailedPersonas;
use crate::cli::failure::{CliError, Complaint};
use crate::cli::plan::{Counted, Foreseen, Lookup, foresee, money, planner, text as plan_text, time};
use crate::cli::print::errln;
use crate::cli::project::Loaded;
use crate::cli::receipts::Known;
use crate::cli::refresh::Refresh;
use crate::cli::{budget, cache, file};
use crate::config::Limits;
use crate::events::History as Accounts;
use crate::plan::{Outlook, Planner};
use crate::printable::one_line;
use crate::run::{Night, Rehearsal, Times, Wall};
use crate::store::LocalStore;
use crate::tariff::PriceRange;

use what_if::WhatIf;

/// Prints how a run would pass.
pub fn rehearse(directory: Option<&Path>, args: &Rehearse) -> Result<ExitCode, CliError> {
    let project = Loaded::open(directory)?;
    let limits = args.selection.limits(&project.config.limits);
    budget::demand_prices(&project, &limits)?;
    let store = cache::open_to_read(&project.root)?;
    let accounts = store.history().map_err(|error| cache::refused(&error))?;
    let mut planner = planner(&project, &store, &accounts)?;
    let counted = look(&project, &store, args, &mut planner)?;
    let foreseen = foresee(&project, &args.selection, &store, &accounts, &planner, counted);
    let by_option = args.selection.budget.is_some();
    let spendable = budget::limits(&limits, by_option, Money::ZERO, store.spending());
    let mut prepared = Prepared::new(&foreseen, &limits, &accounts, &planner, spendable);
    prepared.rehearsal.settings.fail_fast = args.fail_fast;
    let rehearsed = prepared.rehearse(&foreseen, &accounts, args.seeds);
    match args.selection.json {
        true => json::tell(&rehearsed),
        false => text::tell(&rehearsed),
    }
    if let Some(path) = args.svg.as_ref().filter(|_| !rehearsed.nights.is_empty()) {
        draw(&rehearsed, &project.root, path)?;
        if !args.selection.json {
            plan_text::line("drawn", &one_line(&path.display().to_string()));
        }
    }
    store.close();
    Ok(ExitCode::SUCCESS)
}

/// Looks at what there is to do, as `plan` does.
fn look<'a>(
    project: &'a Loaded,
    store: &LocalStore,
    args: &Rehearse,
    planner: &mut Planner<'a>,
) -> Result<Counted, CliError> {
    let personas = project.select(&args.selection)?;
    let refresh = Refresh::new(&args.selection.refresh, &project.graph, &personas)?;
    let folder = project.folder();
    // What is asked for anew is not up to date.
    let known = match args.verify || !refresh.is_empty() {
        true => Known::default(),
        false => Known::read(project, &folder, &personas),
    };
    let lookup = Lookup {
        project,
        folder,
        store,
        refresh: &refresh,
        known,
    };
    let all_hit = Ok(vec![Outlook::Hit; project.graph.len()]);
    let (mut counted, mut failed) = (Counted::default(), FailedPersonas::default());
    lookup.each(&personas, |persona, examined| {
        let Some((examined, _)) = examined else {
            counted.add(&all_hit, true, None);
            return Ok(());
        };
        if let Err(failure) = &examined
            && let Some(line) = failed.line(persona, failure)
        {
            errln!("{line}");
        }
        counted.add(&examined.map(|examined| planner.take(examined)), false, None);
        Ok(())
    })?;
    failed.others().for_each(|line| errln!("{line}"));
    planner.count();
    Ok(counted)
}

/// All that was rehearsed.
struct Rehearsed<'a> {
    foreseen: &'a Foreseen<'a>,
    /// One for each seed, which count from 1.
    nights: Vec<Night>,
    /// What other limits would change.
    others: Vec<WhatIf>,
    /// What was known of faults, by model.
    faults: Vec<(String, time::Faults)>,
    /// When it starts.
    start: Timestamp,
}

/// What is likely, and how far it strays from seed to seed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Middle<T> {
    low: T,
    likely: T,
    high: T,
}

/// A run that is ready to be rehearsed.
struct Prepared {
    rehearsal: Rehearsal,
    wall: Wall,
    /// The limit of one run on what it may spend.
    run_budget: Option<Money>,
}

impl Prepared {
    fn new(
        foreseen: &Foreseen<'_>,
        limits: &Limits,
        accounts: &Accounts,
        planner: &Planner<'_>,
        spendable: Vec<Limit>,
    ) -> Self {
        let (project, calls) = (foreseen.project, planner.calls());
        let mut rehearsal = time::rehearsal(
            project,
            limits,
            accounts,
            planner,
            &calls,
            |range| range.likely,
            true,
        );
        let usual = project.prices().into_iter();
        let prices: Vec<Option<PriceRange>> = usual.map(|price| price.map(PriceRange::from)).collect();
        money::pay(&mut rehearsal, project, &calls, accounts, &prices, |price| {
            price.likely
        });
        rehearsal.budget = spendable;
        let windows = &foreseen.time.windows;
        let tariffs = project.tariffs().into_iter();
        Self {
            rehearsal,
            wall: Wall {
                start: windows.starts(),
                times: Times {
                    until: windows.until,
                    hours: windows.hours.clone(),
                    zone: windows.zone.clone(),
                },
                tariffs: tariffs
                    .map(|tariff| tariff.map(|tariff| (*tariff).clone()))
                    .collect(),
                longest_call: project.config.provider.timeout,
            },
            run_budget: limits.budget_usd,
        }
    }

    fn rehearse<'a>(&self, foreseen: &'a Foreseen<'a>, accounts: &Accounts, seeds: u32) -> Rehearsed<'a> {
        let nights = match foreseen.time.calls {
            0 => Vec::new(),
            _ => {
                let seeds = (1..=u64::from(seeds)).map(|seed| (&self.rehearsal, seed));
                play(&self.wall, &seeds.collect::<Vec<_>>())
            }
        };
        // What would be otherwise is compared with the night that is told.
        let others = middle(&nights).map_or_else(Vec::new, |middle| {
            let asked = what_if::ask(&self.rehearsal, self.run_budget);
            let rehearsals = asked.iter().map(|other| (&other.rehearsal, middle as u64 + 1));
            let played = play(&self.wall, &rehearsals.collect::<Vec<_>>());
            let others = asked.into_iter().zip(played);
            others
                .map(|(asked, night)| asked.answered(&nights[middle], night))
                .collect()
        });
        let config = &foreseen.project.config;
        let mut models: Vec<&str> = config.nodes.iter().map(|node| &*node.model.name).collect();
        models.sort_unstable();
        models.dedup();
        Rehearsed {
            others,
            nights,
            faults: models
                .into_iter()
                .map(|model| (model.to_owned(), time::faults(accounts, model)))
                .collect(),
            start: self.wall.start,
            foreseen,
        }
    }
}

/// Plays all of these on all processors.
fn play(wall: &Wall, all: &[(&Rehearsal, u64)]) -> Vec<Night> {
    let next = AtomicUsize::new(0);
    let played: Vec<Mutex<Option<Night>>> = all.iter().map(|_| Mutex::new(None)).collect();
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let work = || {
        while let Some((at, (rehearsal, seed))) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, all.get(at)?)))
        {
            let night = rehearsal.night(wall, *seed);
            *played[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(night);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.min(all.len()) {
            scope.spawn(work);
        }
    });
    let night = |night: Mutex<Option<Night>>| night.into_inner().unwrap_or_else(PoisonError::into_inner);
    played
        .into_iter()
        .map(|played| night(played).expect("BUG: a night that nobody played"))
        .collect()
}

impl Rehearsed<'_> {
    /// The night whose end is in the middle.
    fn middle(&self) -> &Night {
        &self.nights[middle(&self.nights).expect("BUG: nothing was rehearsed")]
    }

    /// A figure of all nights.
    fn figure<T: Copy + PartialOrd>(&self, of: impl Fn(&Night) -> T) -> Middle<T> {
        let mut all: Vec<T> = self.nights.iter().map(of).collect();
        all.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        Middle {
            low: all[0],
            likely: all[(all.len() - 1) / 2],
            high: all[all.len() - 1],
        }
    }

    /// What it costs; `None`: a model has no price.
    fn cost(&self) -> Option<Middle<Money>> {
        self.nights
            .iter()
            .all(|night| night.cost.is_some())
            .then(|| self.figure(|night| night.cost.unwrap_or_default()))
    }

    /// The moment of the wall clock at which so much of it has passed.
    fn moment(&self, at: Duration) -> Timestamp {
        self.start.checked_add(at).unwrap_or(Timestamp::MAX)
    }

    fn zone(&self) -> &TimeZone {
        &self.foreseen.time.windows.zone
    }
}

/// Which night it is whose end is in the middle; `None`: there is none.
fn middle(nights: &[Night]) -> Option<usize> {
    let mut order: Vec<usize> = (0..nights.len()).collect();
    order.sort_by_key(|&night| nights[night].took);
    order.get(nights.len().saturating_sub(1) / 2).copied()
}

/// Writes the picture; `path` starts in `root`.
fn draw(rehearsed: &Rehearsed<'_>, root: &Path, path: &Path) -> Result<(), CliError> {
    let failed = |error: std::io::Error| {
        let message = format!(
            "cannot write `{}`: {error}",
            one_line(&path.display().to_string())
        );
        CliError::stopped(Complaint::new(message))
    };
    let picture = picture::draw(rehearsed);
    file::write(
        &root.join(path),
        |out| out.write_all(picture.as_bytes()).map_err(failed),
        failed,
    )
}
