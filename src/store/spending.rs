//! What was paid so far, by month: a running total that is kept with the checkpoint, so that a
//! budget over all runs costs no walk through the journal. It follows the journal entry by entry
//! and is right whenever the trees are.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::call::Money;
use crate::store::attempts::Attempts;
use crate::store::put::{Bill, Gist};
use crate::store::record::Sent;

/// What was paid in a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// For answers, good and bad, served or not any more.
    pub paid: Money,
    /// What was reserved for calls whose end is not known, or that ended in a way that may have
    /// been billed.
    #[serde(default)]
    pub possibly: Money,
    /// Answers whose model had no price: what they cost is not in `paid`.
    #[serde(default)]
    pub unpriced: u64,
}

/// What was paid through a store, by calendar month (`2026-11`) of the machine's local time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Spending {
    months: BTreeMap<String, Spent>,
}

impl Spending {
    /// What was paid altogether.
    pub fn total(&self) -> Spent {
        let mut total = Spent::default();
        self.months.values().for_each(|month| total.add(month));
        total
    }

    /// What was paid in the month that this moment (Unix time in milliseconds) lies in.
    pub fn month(&self, at_ms: u64, zone: &TimeZone) -> Spent {
        let month = self.months.get(&month(at_ms, zone));
        month.copied().unwrap_or_default()
    }

    /// Takes the next entry of the journal into account. `open` are the calls without an end
    /// before it.
    pub(super) fn follow(&mut self, gist: &Gist, open: &Attempts, zone: &TimeZone) {
        match gist {
            Gist::Answer { bill, .. } | Gist::Rejected { bill, .. } | Gist::Retired { bill, .. } => {
                self.at(bill.at_ms, zone).pay(bill);
            }
            Gist::Fault {
                call,
                billed_at_ms: Some(at_ms),
            } => {
                let reserved = open.reserved(call);
                self.at(*at_ms, zone).possibly += reserved.unwrap_or_default();
            }
            _ => {}
        }
    }

    /// Counts the calls without an end: nobody knows whether they were billed.
    pub(super) fn with_unfinished(mut self, unfinished: &[Sent], zone: &TimeZone) -> Self {
        for sent in unfinished {
            self.at(sent.at_ms, zone).possibly += sent.reserved.unwrap_or_default();
        }
        self
    }

    fn at(&mut self, at_ms: u64, zone: &TimeZone) -> &mut Spent {
        self.months.entry(month(at_ms, zone)).or_default()
    }
}

impl Spent {
    /// All of it as a budget counts it: what may have been billed is taken to be.
    pub fn counted(&self) -> Money {
        self.paid + self.possibly
    }

    fn pay(&mut self, bill: &Bill) {
        match bill.cost {
            Some(cost) => self.paid += cost,
            None => self.unpriced += 1,
        }
    }

    fn add(&mut self, other: &Spent) {
        self.paid += other.paid;
        self.possibly += other.possibly;
        self.unpriced += other.unpriced;
    }
}

fn month(at_ms: u64, zone: &TimeZone) -> String {
    let at = i64::try_from(at_ms).ok();
    let at = at.and_then(|at| Timestamp::from_millisecond(at).ok());
    let local = zone.to_datetime(at.unwrap_or(Timestamp::MAX));
    format!("{:04}-{:02}", local.year(), local.month())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::FaultKind;
    use crate::store::samples;
    use crate::store::{Entry, Position, Record};

    /// 2026-11-30 23:30 UTC: already December east of Greenwich.
    const AT_MS: u64 = 1_796_081_400_000;

    fn follow(entries: &[Entry], zone: &TimeZone) -> Spending {
        let (mut spending, mut open) = (Spending::default(), Attempts::default());
        for entry in entries {
            let gist = Gist::from(entry);
            spending.follow(&gist, &open, zone);
            open.follow(&gist, Position::start_of(1));
        }
        spending.with_unfinished(&open.calls(), zone)
    }

    fn answer(usd: Option<f64>) -> Record {
        Record {
            cost: usd.map(Money::from_usd),
            at_ms: AT_MS,
            ..samples::record(1, "text")
        }
    }

    fn attempt(attempt: u32) -> Entry {
        let Entry::Attempt(sent) = samples::attempt(1) else {
            unreachable!("an attempt is one")
        };
        Entry::Attempt(Sent {
            attempt,
            at_ms: AT_MS,
            reserved: Some(Money::from_usd(0.25)),
            ..sent
        })
    }

    fn fault(attempt: u32, kind: Option<FaultKind>, may_be_billed: bool) -> Entry {
        Entry::Fault {
            run: "20261123-223015-4f2a".into(),
            instance: samples::instance(1),
            attempt,
            kind,
            message: String::new(),
            at_ms: AT_MS,
            may_be_billed,
        }
    }

    #[test]
    fn good_and_bad_answers_were_paid_and_some_have_no_price() {
        let rejection = crate::call::Rejection::Truncated;
        let rejected = Entry::Rejected {
            record: answer(Some(0.5)),
            rejection,
        };
        let entries = [
            Entry::Answer(answer(Some(1.0))),
            rejected,
            Entry::Answer(answer(None)),
        ];
        let spending = follow(&entries, &TimeZone::UTC);
        let expected = Spent {
            paid: Money::from_usd(1.5),
            possibly: Money::ZERO,
            unpriced: 1,
        };
        assert_eq!(spending.total(), expected);
    }

    #[test]
    fn what_may_have_been_billed_counts_and_a_plain_fault_does_not() {
        let timeout = Some(FaultKind::Timeout);
        let entries = [
            attempt(1),
            fault(1, timeout, true),
            attempt(2),
            fault(2, None, false),
            attempt(3),
            fault(3, Some(FaultKind::ServerError), false),
            attempt(4),
        ];
        let spent = follow(&entries, &TimeZone::UTC).total();
        assert_eq!(spent.possibly, Money::from_usd(0.75), "the fourth has no end");
        assert_eq!(spent.counted(), Money::from_usd(0.75));
    }

    #[test]
    fn a_month_is_one_of_the_local_calendar() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let entries = [Entry::Answer(answer(Some(1.0)))];
        let hour = 3_600_000;
        let paid = |zone: &TimeZone, at| follow(&entries, zone).month(at, zone).paid.usd();
        assert_eq!((paid(&berlin, AT_MS), paid(&berlin, AT_MS - hour)), (1.0, 0.0));
        assert_eq!(
            (paid(&TimeZone::UTC, AT_MS), paid(&TimeZone::UTC, AT_MS + hour)),
            (1.0, 0.0)
        );
    }
}
