//! `[prices]`: what models cost, and at which hours they cost something else. It does not know
//! which models are used.

use std::collections::BTreeMap;

use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::file::{MOST_USD, windows};
use super::read::Section;
use crate::call::Price;
use crate::hours::{Days, Weekly};
use crate::tariff::Tariff;
use crate::wording::suggest;

/// Where hours are shown if nothing is said: providers publish them so (DeepSeek, 2026-11).
const USUAL_ZONE: &str = "UTC";

/// The parts of a price, in USD per million tokens.
const PARTS: [&str; 4] = ["input", "cached_input", "cache_write", "output"];

/// The parts of a price as they are written.
#[derive(Clone, Copy)]
struct Parts {
    input: Option<f64>,
    cached_input: Option<f64>,
    cache_write: Option<f64>,
    output: Option<f64>,
}

/// Prices that hold at some hours, with the place where they are written.
struct When {
    at: usize,
    times: Weekly,
    price: Price,
}

/// Reads `[prices]`.
pub(super) fn read(section: Section<'_>) -> BTreeMap<String, Tariff> {
    let names = section.keys().map(|key| key.get_ref().to_string());
    names
        .filter_map(|name| {
            let tariff = prices(section.table(&name)?)?;
            Some((name, tariff))
        })
        .collect()
}

fn prices(section: Section<'_>) -> Option<Tariff> {
    let section = section.only(&["input", "cached_input", "cache_write", "output", "when", "zone"]);
    for key in ["input", "output"] {
        if !section.has(key) && !section.misspells(key) {
            let message = format!("{} is missing", section.label(key));
            let hint = "a price has at least `input` and `output`, in USD per million tokens".to_owned();
            section.error(section.at, message, Some(hint));
        }
    }
    let usual = Parts::read(&section);
    let (zone, name) = zone(&section)?;
    let times: Vec<When> = section
        .tables("when")
        .into_iter()
        .filter_map(|times| when(times, usual))
        .collect();
    refuse_overlaps(&section, &times);
    let times = times.into_iter().map(|when| (when.times, when.price));
    Some(Tariff::new(usual.price()?, zone, &name, times.collect()))
}

/// The time zone of `when`, and its name; `None` if it cannot be read.
fn zone(section: &Section<'_>) -> Option<(TimeZone, String)> {
    if !section.has("zone") {
        return Some((TimeZone::UTC, USUAL_ZONE.to_owned()));
    }
    let text = section.filled("zone")?;
    let name = text.get_ref().trim();
    if !section.has("when") {
        let message = format!(
            "{} is the time zone of `when`, and there is none",
            section.label("zone")
        );
        let hint = "leave it out, or add hours and their prices under `when`".to_owned();
        section.error(text.span().start, message, Some(hint));
    }
    // The tables that septet brings along: the machine may have none.
    let known = TimeZoneDatabase::bundled();
    let Ok(zone) = known.get(name) else {
        let message = format!(
            "{} is `{name}`, which is no time zone that is known",
            section.label("zone")
        );
        let names: Vec<String> = known.available().map(|name| name.to_string()).collect();
        let near = crate::wording::nearest(name, names.iter().map(String::as_str));
        let hint = match near {
            Some(_) => suggest(name, "", names.iter().map(String::as_str)),
            None => Some("write `UTC`, or a name like `Asia/Shanghai` or `America/New_York`".to_owned()),
        };
        section.error(text.span().start, message, hint);
        return None;
    };
    let name = zone.iana_name().unwrap_or(name).to_owned();
    Some((zone, name))
}

fn when(section: Section<'_>, usual: Parts) -> Option<When> {
    let section = section.only(&["hours", "days", "input", "cached_input", "cache_write", "output"]);
    let before = section.errors();
    if !["hours", "days"]
        .iter()
        .any(|key| section.has(key) || section.misspells(key))
    {
        let message = format!("{} is missing", section.label("hours"));
        let hint = "say when these prices hold: `hours = \"01:00-04:00\"`, `days = \"sat-sun\"`, or both";
        section.error(section.at, message, Some(hint.to_owned()));
    }
    if !PARTS.iter().any(|key| section.has(key) || section.misspells(key)) {
        let message = format!("{} is missing", section.label("input"));
        let hint =
            "say what differs at these hours: one of `input`, `cached_input`, `cache_write` and `output`";
        section.error(section.at, message, Some(hint.to_owned()));
    }
    let windows = windows(&section, "hours");
    let days = days(&section, "days");
    let own = Parts::read(&section);
    if section.errors() == before {
        for (key, empty) in [
            ("hours", windows.as_ref().is_some_and(Vec::is_empty)),
            ("days", days == Some(None)),
        ] {
            if empty {
                section.error(section.at, format!("{} is empty", section.label(key)), None);
            }
        }
    }
    if section.errors() > before {
        return None;
    }
    Some(When {
        at: section.at,
        times: Weekly::new(days.flatten().unwrap_or(Days::ALL), windows.unwrap_or_default()),
        price: own.or(usual).price()?,
    })
}

/// Days of the week: `"mon-fri"`, or a list, which may be empty.
fn days(section: &Section<'_>, key: &str) -> Option<Option<Days>> {
    let mut all: Option<Days> = None;
    for text in section.text_or_texts(key)? {
        match Days::parse(text.get_ref()) {
            Ok(days) => all = Some(all.map_or(days, |all| all.and(days))),
            Err(expected) => {
                let message = format!(
                    "{} must be {expected}, not `{}`",
                    section.label(key),
                    text.get_ref()
                );
                section.error(text.span().start, message, None);
            }
        }
    }
    Some(all)
}

/// Two prices at the same time would be none.
fn refuse_overlaps(section: &Section<'_>, times: &[When]) {
    for (number, later) in times.iter().enumerate() {
        let overlap = times[..number]
            .iter()
            .find_map(|earlier| Some((earlier, earlier.times.overlap(&later.times)?)));
        if let Some((earlier, moment)) = overlap {
            let message = format!(
                "`{}` has two prices at the same time, {moment}: those of `{}` (line {}) and of `{}`",
                section.name(),
                earlier.times,
                section.line(earlier.at),
                later.times,
            );
            let hint =
                "a window ends just before its second time: `01:00-04:00` and `04:00-06:00` do not overlap";
            section.error(later.at, message, Some(hint.to_owned()));
        }
    }
}

impl Parts {
    fn read(section: &Section<'_>) -> Self {
        let [input, cached_input, cache_write, output] = PARTS.map(|key| section.number(key, 0.0..=MOST_USD));
        Self {
            input,
            cached_input,
            cache_write,
            output,
        }
    }

    /// What is not written is as in `other`.
    fn or(self, other: Self) -> Self {
        Self {
            input: self.input.or(other.input),
            cached_input: self.cached_input.or(other.cached_input),
            cache_write: self.cache_write.or(other.cache_write),
            output: self.output.or(other.output),
        }
    }

    fn price(self) -> Option<Price> {
        Some(Price::per_million(
            self.input?,
            self.cached_input,
            self.cache_write,
            self.output?,
        ))
    }
}
