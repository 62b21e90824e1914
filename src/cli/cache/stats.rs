//! `septet cache stats`: how much there is, by model and by age, and what `gc` could free.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::call::Money;
use crate::cli::cache::args::Stats;
use crate::cli::cache::gc::{EARLIER, Freed, foresee};
use crate::cli::cache::out::Out;
use crate::cli::cache::words::{AGES, age_group, tokens};
use crate::cli::cache::{self, Opened, refused, warn_of_damage};
use crate::cli::clock;
use crate::cli::failure::CliError;
use crate::printable::one_line;
use crate::report::figures::{bytes, count, dollars, number};
use crate::report::style::{pad, pad_before, width};
use crate::store::{self, Sum, Survey};

/// Prints what there is.
pub fn stats(directory: Option<&Path>, args: &Stats) -> Result<ExitCode, CliError> {
    let Opened { root, store } = cache::existing_to_read(directory)?;
    let Some(store) = store else {
        return nothing(args);
    };
    let survey = store.survey().map_err(|error| refused(&error))?;
    warn_of_damage(&survey.damaged);
    let figures = Figures {
        stats: store.stats().map_err(|error| refused(&error))?,
        groups: Groups::of(&survey, clock::unix_ms()),
        freed: foresee(&root, &store, &survey, EARLIER),
        survey: &survey,
    };
    match args.json {
        true => {
            let mut out = Out::new();
            out.object(&figures.json())?;
            out.finish()?;
        }
        false => cache::print(&figures.text())?,
    }
    store.close();
    Ok(ExitCode::SUCCESS)
}

/// There is no cache yet.
fn nothing(args: &Stats) -> Result<ExitCode, CliError> {
    match args.json {
        true => {
            let figures = Figures {
                stats: store::Stats::default(),
                groups: Groups::default(),
                freed: Ok(Freed::default()),
                survey: &Survey::default(),
            };
            let mut out = Out::new();
            out.object(&figures.json())?;
            out.finish()?;
        }
        false => cache::print("the cache is empty: nothing was paid for yet")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Answers that are served, by what they have in common.
#[derive(Default)]
struct Groups {
    all: Sum,
    models: BTreeMap<String, Sum>,
    ages: [Sum; AGES.len()],
    replaced: Sum,
}

impl Groups {
    fn of(survey: &Survey, now_ms: u64) -> Self {
        let mut groups = Self::default();
        for held in &survey.answers {
            let add = |sum: &mut Sum| sum.add(held.bytes, &held.usage, held.cost);
            if !held.served {
                add(&mut groups.replaced);
                continue;
            }
            add(&mut groups.all);
            add(groups.models.entry(held.model.to_string()).or_default());
            add(&mut groups.ages[age_group(now_ms, held.at_ms)]);
        }
        groups
    }
}

struct Figures<'a> {
    stats: store::Stats,
    groups: Groups,
    /// Or why that cannot be told.
    freed: Result<Freed, String>,
    survey: &'a Survey,
}

impl Figures<'_> {
    fn json(&self) -> Value {
        let Self {
            stats,
            groups,
            survey,
            ..
        } = self;
        let models = groups.models.iter().map(|(model, sum)| with(sum, "model", model));
        let ages = AGES.iter().zip(&groups.ages);
        let ages = ages.map(|((_, name, _), sum)| with(sum, "age", name));
        json!({
            "event": "cache_stats",
            "answers": sum_json(&groups.all),
            "replaced": sum_json(&groups.replaced),
            "rejected": sum_json(&survey.rejected),
            "retired": sum_json(&survey.retired),
            "models": models.collect::<Vec<_>>(),
            "ages": ages.collect::<Vec<_>>(),
            "transcripts": stats.transcripts,
            "runs": stats.runs,
            "entries": survey.entries,
            "damaged": survey.damaged.len(),
            "journal": { "files": stats.journal_files, "bytes": stats.journal_bytes },
            "trees": { "bytes": stats.tree_bytes },
            "gc": self.freed.as_ref().ok().map(Freed::json),
        })
    }

    fn text(&self) -> String {
        let Self {
            stats,
            groups,
            survey,
            ..
        } = self;
        let mut lines = vec![
            format!(
                "answers     {}, {}",
                number(groups.all.answers),
                tokens_and_cost(&groups.all)
            ),
            format!(
                "beside      {} rejected, {} replaced by a newer one, {} without their text",
                number(survey.rejected.answers),
                number(groups.replaced.answers),
                number(survey.retired.answers)
            ),
            format!(
                "on disk     journal {} in {}, look-up trees {}",
                bytes(stats.journal_bytes),
                count(stats.journal_files, "file"),
                bytes(stats.tree_bytes)
            ),
            format!(
                "gc          {}",
                match &self.freed {
                    Ok(freed) => freed.words(),
                    Err(reason) => format!("what it could free is not known: {}", one_line(reason)),
                }
            ),
        ];
        if groups.all.answers > 0 {
            let models = groups.models.iter().map(|(model, sum)| (one_line(model), sum));
            lines.extend(table("model", models.collect()));
            let ages = AGES.iter().zip(&groups.ages);
            let ages = ages.filter(|(_, sum)| sum.answers > 0);
            lines.extend(table(
                "age",
                ages.map(|((name, ..), sum)| ((*name).to_owned(), sum)).collect(),
            ));
        }
        lines.join("\n")
    }
}

fn tokens_and_cost(sum: &Sum) -> String {
    format!(
        "{} input and {} output tokens, {}",
        number(sum.usage.input),
        number(sum.usage.output),
        dollars(sum.cost)
    )
}

/// One row for each group, under a heading.
fn table(heading: &str, rows: Vec<(String, &Sum)>) -> Vec<String> {
    let names = rows.iter().map(|(name, _)| width(name));
    let names = names.max().unwrap_or(0).max(heading.len());
    let row = |name: &str, cells: [&str; 4]| {
        let [answers, tokens, cost, size] = cells;
        format!(
            "{}  {}  {}  {}  {}",
            pad(name, names),
            pad_before(answers, 9),
            pad_before(tokens, 14),
            pad_before(cost, 11),
            pad_before(size, 9)
        )
    };
    let mut lines = vec![
        String::new(),
        row(heading, ["answers", "tokens", "cost", "journal"]),
    ];
    lines.extend(rows.iter().map(|(name, sum)| {
        let tokens = number(sum.usage.input + sum.usage.output);
        row(
            name,
            [
                &number(sum.answers),
                &tokens,
                &dollars(sum.cost),
                &bytes(sum.bytes),
            ],
        )
    }));
    lines
}

fn sum_json(sum: &Sum) -> Value {
    json!({
        "answers": sum.answers,
        "tokens": tokens(&sum.usage),
        "cost_usd": sum.cost.map(Money::usd),
        "bytes": sum.bytes,
    })
}

fn with(sum: &Sum, field: &str, name: &str) -> Value {
    let mut object = sum_json(sum);
    object[field] = name.into();
    object
}
