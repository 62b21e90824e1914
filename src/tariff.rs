//! What a model costs, and when: the price that usually holds, and those of hours that have their
//! own. What the time is now is handed in; which moment of a call counts is its caller's to say.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::call::Price;
use crate::hours::{Weekly, timestamp};
use crate::printable::one_line;

/// Prices repeat after so long, so nothing is learned from looking farther.
pub(crate) const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The prices of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Tariff {
    usual: Price,
    /// No two of them hold at the same time.
    hours: Vec<HourPrice>,
    /// Where a clock on the wall shows them.
    zone: TimeZone,
}

#[derive(Clone, Debug, PartialEq)]
struct HourPrice {
    times: Weekly,
    /// As people are told: `mon-fri 01:00-04:00 UTC`.
    name: Arc<str>,
    price: Price,
}

/// A price, and the hours at which it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct PriceAt {
    /// The price.
    pub price: Price,
    /// Its hours; `None`: it holds where no others do.
    pub hours: Option<Arc<str>>,
}

impl PriceAt {
    /// Which of the prices of its model it is, in words.
    pub fn in_words(&self) -> String {
        match &self.hours {
            Some(hours) => format!("those of {}", one_line(hours)),
            None => "the usual ones".to_owned(),
        }
    }
}

/// Prices over some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriceRange {
    /// The lowest of each part.
    pub low: Price,
    /// The mean, by time.
    pub likely: Price,
    /// The highest of each part.
    pub high: Price,
}

impl Tariff {
    /// The usual price and those that hold at hours of their own, which must not overlap. `zone`
    /// is where a clock shows these hours, and `name` what it is called.
    pub fn new(usual: Price, zone: TimeZone, name: &str, hours: Vec<(Weekly, Price)>) -> Self {
        let hours = hours.into_iter().map(|(times, price)| HourPrice {
            name: format!("{times} {name}").into(),
            times,
            price,
        });
        Self {
            usual,
            hours: hours.collect(),
            zone,
        }
    }

    /// The price that holds where no hours have their own.
    pub fn usual(&self) -> Price {
        self.usual
    }

    /// True if it depends on the time.
    pub fn changes(&self) -> bool {
        !self.hours.is_empty()
    }

    /// The price at a moment.
    pub fn at(&self, at: Timestamp) -> PriceAt {
        let hours = self
            .hours
            .iter()
            .find(|hours| hours.times.is_open(at, &self.zone));
        match hours {
            Some(hours) => PriceAt {
                price: hours.price,
                hours: Some(hours.name.clone()),
            },
            None => PriceAt {
                price: self.usual,
                hours: None,
            },
        }
    }

    /// The most that each part of the price is from a moment, in milliseconds of Unix time, until
    /// `within` later, both included.
    pub fn dearest(&self, from_ms: u64, within: Duration) -> Price {
        if !self.changes() {
            return self.usual;
        }
        let from = timestamp(from_ms);
        let to = from.checked_add(within).unwrap_or(Timestamp::MAX);
        let rates = self.rates(from, to).into_iter().map(|(_, rate)| rate.price);
        rates.reduce(Price::max).unwrap_or(self.usual)
    }

    /// When the price is next another one, and what it is then; `None`: it stays.
    pub fn next(&self, at: Timestamp) -> Option<(Timestamp, PriceAt)> {
        let to = at.checked_add(WEEK).unwrap_or(Timestamp::MAX);
        self.rates(at, to).into_iter().nth(1)
    }

    /// The prices that hold in some stretches of time; `None` if there are none.
    pub fn over(&self, stretches: &[(Timestamp, Timestamp)]) -> Option<PriceRange> {
        let parts = self.parts(stretches);
        let prices = || parts.iter().map(|(rate, _)| rate.price);
        let all: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
        let shares = parts.iter().map(|(rate, seconds)| (rate.price, seconds / all));
        Some(PriceRange {
            low: prices().reduce(Price::min)?,
            likely: Price::mean(shares),
            high: prices().reduce(Price::max)?,
        })
    }

    /// The prices that hold in some stretches of time, each once and in the order of the first
    /// use, with the seconds for which it does.
    pub fn parts(&self, stretches: &[(Timestamp, Timestamp)]) -> Vec<(PriceAt, f64)> {
        let mut parts: Vec<(PriceAt, f64)> = Vec::new();
        for &(from, to) in stretches {
            let to = to.min(from.checked_add(WEEK).unwrap_or(Timestamp::MAX));
            let rates = self.rates(from, to);
            let ends = rates.iter().skip(1).map(|(at, _)| *at).chain([to]);
            for ((begins, rate), ends) in rates.iter().zip(ends) {
                // What only begins at the end is no part of it, unless there is nothing else.
                let seconds = begins.duration_until(ends).as_secs_f64();
                if seconds <= 0.0 && from < to {
                    continue;
                }
                let seconds = seconds.max(1e-3);
                match parts.iter_mut().find(|(known, _)| known == rate) {
                    Some((_, sum)) => *sum += seconds,
                    None => parts.push((rate.clone(), seconds)),
                }
            }
        }
        parts
    }

    /// The prices from a moment to another, both included, each with the moment from which on it
    /// holds.
    fn rates(&self, from: Timestamp, to: Timestamp) -> Vec<(Timestamp, PriceAt)> {
        let edges = self
            .hours
            .iter()
            .flat_map(|hours| hours.times.edges(from, to, &self.zone));
        let mut moments: Vec<Timestamp> = edges.chain([from]).collect();
        moments.sort_unstable();
        let mut rates: Vec<(Timestamp, PriceAt)> = Vec::new();
        for at in moments {
            let rate = self.at(at);
            if rates.last().is_none_or(|(_, last)| *last != rate) {
                rates.push((at, rate));
            }
        }
        rates
    }
}

impl From<Price> for Tariff {
    /// A price that always holds.
    fn from(usual: Price) -> Self {
        Self {
            usual,
            hours: Vec::new(),
            zone: TimeZone::UTC,
        }
    }
}

impl From<Price> for PriceRange {
    /// A price that always holds.
    fn from(price: Price) -> Self {
        Self {
            low: price,
            likely: price,
            high: price,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Money;
    use crate::hours::{Days, Window};
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn ms(text: &str) -> u64 {
        u64::try_from(at(text).as_millisecond()).unwrap()
    }

    fn dollars(input: f64) -> Price {
        Price::per_million(input, None, None, 2.0 * input)
    }

    fn tariff(zone: &str, hours: &[(&str, &[&str], f64)]) -> Tariff {
        let hours = hours.iter().map(|(days, windows, input)| {
            let windows = windows.iter().map(|text| Window::parse(text).unwrap());
            let times = Weekly::new(Days::parse(days).unwrap(), windows.collect());
            (times, dollars(*input))
        });
        let named = TimeZone::get(zone).unwrap();
        Tariff::new(dollars(1.0), named, zone, hours.collect())
    }

    /// DeepSeek's, as of 2026-11: twice as much at the peak of Chinese working days.
    fn deepseek() -> Tariff {
        tariff("UTC", &[("mon-fri", &["01:00-04:00", "06:00-10:00"], 2.0)])
    }

    fn input(tariff: &Tariff, moment: &str) -> f64 {
        (tariff.at(at(moment)).price.input.usd() * 1e6).round()
    }

    /// 2026-11-27 is a Friday.
    #[test]
    fn a_price_holds_from_the_first_moment_of_its_hours_until_just_before_their_end() {
        let rows = [
            ("2026-11-27T00:59:59.999Z", 1.0),
            ("2026-11-27T01:00:00Z", 2.0),
            ("2026-11-27T03:59:59.999Z", 2.0),
            ("2026-11-27T04:00:00Z", 1.0),
            ("2026-11-27T09:59:59Z", 2.0),
            ("2026-11-28T02:00:00Z", 1.0),
            ("2026-11-30T02:00:00Z", 2.0),
        ];
        for (moment, expected) in rows {
            assert_eq!(input(&deepseek(), moment), expected, "{moment}");
        }
        let rate = deepseek().at(at("2026-11-27T02:00:00Z"));
        assert_eq!(
            rate.hours.as_deref(),
            Some("mon-fri 01:00-04:00, 06:00-10:00 UTC")
        );
    }

    #[test]
    fn over_midnight_and_at_hours_of_another_zone() {
        let night = tariff("UTC", &[("mon-sun", &["16:30-00:30"], 0.5)]);
        for (moment, expected) in [
            ("2026-11-27T16:29:59Z", 1.0),
            ("2026-11-27T16:30:00Z", 0.5),
            ("2026-11-28T00:29:59Z", 0.5),
            ("2026-11-28T00:30:00Z", 1.0),
        ] {
            let expected = expected * 10.0;
            let seen = (night.at(at(moment)).price.input.usd() * 1e7).round();
            assert_eq!(seen, expected, "{moment}");
        }
        let beijing = tariff(
            "Asia/Shanghai",
            &[("mon-fri", &["09:00-12:00", "14:00-18:00"], 2.0)],
        );
        for hour in 0..24 * 7 {
            let moment = at("2026-11-23T00:30:00Z").checked_add(HOUR * hour).unwrap();
            assert_eq!(beijing.at(moment).price, deepseek().at(moment).price, "{moment}");
        }
    }

    /// Berlin goes from 02:00 to 03:00 on 2026-03-29 and from 03:00 back to 02:00 on 2026-10-25.
    #[test]
    fn hours_go_by_the_clock_through_the_change_to_summer_time_and_back() {
        let tariff = tariff("Europe/Berlin", &[("mon-sun", &["01:00-02:30"], 2.0)]);
        let changes = |from: &str| {
            let mut moment = at(from);
            let next = || {
                let (at, rate) = tariff.next(moment)?;
                moment = at;
                Some((at.strftime("%H:%M").to_string(), rate.hours.is_some()))
            };
            std::iter::from_fn(next).take(4).collect::<Vec<_>>()
        };
        let seen = changes("2026-03-28T12:00:00Z");
        let seen: Vec<_> = seen.iter().map(|(at, dear)| (at.as_str(), *dear)).collect();
        assert_eq!(
            seen,
            [
                ("00:00", true),
                ("01:00", false),
                ("23:00", true),
                ("00:30", false)
            ],
            "the clock jumps out of it"
        );
        let seen = changes("2026-10-24T12:00:00Z");
        let seen: Vec<_> = seen.iter().map(|(at, dear)| (at.as_str(), *dear)).collect();
        assert_eq!(
            seen,
            [
                ("23:00", true),
                ("00:30", false),
                ("01:00", true),
                ("01:30", false)
            ],
            "it is shown twice"
        );
    }

    #[test]
    fn the_dearest_price_that_a_call_can_meet() {
        let cheap_input = Price {
            input: Money::ZERO,
            ..dollars(3.0)
        };
        let times = Weekly::new(Days::ALL, vec![Window::parse("01:00-04:00").unwrap()]);
        let mixed = Tariff::new(dollars(1.0), TimeZone::UTC, "UTC", vec![(times, cheap_input)]);
        let within = Duration::from_secs(600);
        let rows = [
            (deepseek(), "2026-11-27T00:49:59.999Z", dollars(1.0)),
            (deepseek(), "2026-11-27T00:50:00Z", dollars(2.0)),
            (deepseek(), "2026-11-27T03:59:59Z", dollars(2.0)),
            (deepseek(), "2026-11-27T04:00:00Z", dollars(1.0)),
            (deepseek(), "2026-11-28T00:55:00Z", dollars(1.0)),
            (dollars(1.0).into(), "2026-11-27T00:55:00Z", dollars(1.0)),
            (
                mixed,
                "2026-11-27T00:55:00Z",
                Price {
                    input: dollars(1.0).input,
                    ..cheap_input
                }
                .max(dollars(1.0)),
            ),
        ];
        for (tariff, from, expected) in rows {
            assert_eq!(tariff.dearest(ms(from), within), expected, "{from}");
        }
    }

    #[test]
    fn prices_over_a_night() {
        // 23:00 to 07:00: three hours and one of eight are dearer.
        let range = deepseek().over(&[(at("2026-11-26T23:00:00Z"), at("2026-11-27T07:00:00Z"))]);
        let range = range.unwrap();
        assert_eq!((range.low, range.high), (dollars(1.0), dollars(2.0)));
        assert_eq!(range.likely, dollars(1.5));
        let parts = deepseek().parts(&[
            (at("2026-11-26T23:00:00Z"), at("2026-11-27T01:00:00Z")),
            (at("2026-11-27T23:00:00Z"), at("2026-11-28T07:00:00Z")),
        ]);
        assert_eq!(parts.len(), 1, "what begins at its end is no part of it");
        assert_eq!(parts[0].1, 10.0 * 3600.0);
        let now = at("2026-11-27T02:00:00Z");
        assert_eq!(
            deepseek().over(&[(now, now)]),
            Some(dollars(2.0).into()),
            "a moment has a price too"
        );
        assert_eq!(deepseek().over(&[]), None);
    }

    #[test]
    fn a_price_that_does_not_change_has_no_next() {
        assert_eq!(Tariff::from(dollars(1.0)).next(at("2026-11-27T02:00:00Z")), None);
        let (next, rate) = deepseek().next(at("2026-11-27T10:00:00Z")).unwrap();
        assert_eq!(
            (next, rate.hours.is_some()),
            (at("2026-11-30T01:00:00Z"), true),
            "after the weekend"
        );
    }

    proptest! {
        /// Whenever the call ends, it cost no more than was taken for the most.
        #[test]
        fn no_moment_is_dearer_than_the_dearest(
            windows in proptest::collection::vec((0u32..48, 0u32..48, 0u32..100), 0..4),
            start in 0u64..7 * 24 * 3600,
            within in 0u64..100_000,
            later in 0.0..=1.0_f64,
        ) {
            let clock = |n: u32| format!("{:02}:{:02}", n / 2, n % 2 * 30);
            let mut hours: Vec<(Weekly, Price)> = Vec::new();
            for (from, to, input) in windows {
                if let Ok(window) = Window::parse(&format!("{}-{}", clock(from), clock(to))) {
                    let times = Weekly::new(Days::parse("tue-sat").unwrap(), vec![window]);
                    if hours.iter().all(|(other, _)| other.overlap(&times).is_none()) {
                        hours.push((times, dollars(f64::from(input))));
                    }
                }
            }
            let zone = TimeZone::get("Europe/Berlin").unwrap();
            let tariff = Tariff::new(dollars(50.0), zone, "Europe/Berlin", hours);
            // The week in which the clocks are set back.
            let start = ms("2026-10-20T00:00:00Z") + start * 1000;
            let dearest = tariff.dearest(start, Duration::from_secs(within));
            let ended = start + (within as f64 * 1000.0 * later) as u64;
            let price = tariff.at(timestamp(ended)).price;
            prop_assert!(price.input <= dearest.input && price.output <= dearest.output);
        }
    }
}
