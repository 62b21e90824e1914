//! Which prices a run would meet: those of the hours in which it would go on.

use std::time::Duration;

use jiff::Timestamp;

use crate::cli::plan::time::Timing;
use crate::cli::project::Loaded;
use crate::printable::one_line;
use crate::tariff::{PriceAt, PriceRange, WEEK};

/// The prices of a run.
pub struct Prices {
    /// By node; `None`: no price.
    pub ranges: Vec<Option<PriceRange>>,
    /// Of each model whose price depends on the time.
    pub models: Vec<ModelPrices>,
}

/// The prices of a model, with the share of the time for which each would hold.
pub struct ModelPrices {
    pub model: String,
    pub parts: Vec<(PriceAt, f64)>,
}

/// The prices that hold while a run goes on that is started as it is planned.
pub fn during(project: &Loaded, time: &Timing) -> Prices {
    let (windows, start) = (&time.windows, time.windows.starts());
    let stretches = |length: Duration| match &windows.hours {
        // A run of no length meets a price too.
        Some(hours) => hours.stretches(start, length.clamp(Duration::from_secs(1), WEEK), &windows.zone),
        None => vec![(start, start.checked_add(length).unwrap_or(Timestamp::MAX))],
    };
    // Nothing is sent after the deadline, and what is in flight then ends soon.
    let left = windows.until.map_or(Duration::MAX, |until| {
        Duration::try_from(until.duration_since(start)).unwrap_or_default()
    });
    let (likely, longest) = (stretches(time.likely.min(left)), stretches(time.high.min(left)));
    let ranges = project.tariffs().into_iter().map(|tariff| {
        let tariff = tariff?;
        let (mean, ends) = (tariff.over(&likely), tariff.over(&longest));
        Some(match mean.zip(ends) {
            Some((mean, ends)) => PriceRange {
                likely: mean.likely,
                ..ends
            },
            None => tariff.usual().into(),
        })
    });
    Prices {
        ranges: ranges.collect(),
        models: models(project, &likely),
    }
}

fn models(project: &Loaded, stretches: &[(Timestamp, Timestamp)]) -> Vec<ModelPrices> {
    let config = &project.config;
    let used = |model: &str| config.nodes.iter().any(|node| &*node.model.name == model);
    let changing = config.prices.iter().filter(|(_, tariff)| tariff.changes());
    let prices = changing.filter(|(model, _)| used(model)).map(|(model, tariff)| {
        let parts = tariff.parts(stretches);
        let all: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
        let parts = parts.into_iter().map(|(rate, seconds)| (rate, seconds / all));
        ModelPrices {
            model: model.clone(),
            parts: parts.collect(),
        }
    });
    prices.collect()
}

impl ModelPrices {
    /// In words, for one line.
    pub fn words(&self) -> String {
        let parts: Vec<String> = match &self.parts[..] {
            [(only, _)] => vec![only.in_words()],
            parts => {
                let part =
                    |(rate, share): &(PriceAt, f64)| format!("{} {}", percent(*share), rate.in_words());
                parts.iter().map(part).collect()
            }
        };
        format!("of {}: {}", one_line(&self.model), parts.join(", "))
    }
}

/// Never 0 or 100: each of several has a part.
fn percent(share: f64) -> String {
    format!("{} %", (share * 100.0).round().clamp(1.0, 99.0))
}
