//! Which of the limits holds a run up, as it is told: not each time that it does, but when it is
//! another one than before. The driver says what held up its newest call.

use std::time::Duration;

use super::Driver;
use crate::call::Counted;
use crate::events::Event;

/// Two limits that take turns are not told more often than this.
const LEAST: Duration = Duration::from_secs(1);
/// Nothing holds the run up once nothing has for so long: between two calls that are paced there
/// is always a moment in which nobody waits.
const QUIET: Duration = Duration::from_secs(5);

/// What was told last.
#[derive(Debug, Default)]
pub struct Binding {
    told: Option<Counted>,
    told_at: Option<Duration>,
    seen_at: Duration,
}

impl Binding {
    /// Takes what holds the newest call up; true if that is to be told.
    fn note(&mut self, now: Duration, limit: Option<Counted>) -> bool {
        if limit.is_some() {
            self.seen_at = now;
        }
        let news = limit != self.told
            && match limit {
                Some(_) => self.told_at.is_none_or(|at| now.saturating_sub(at) >= LEAST),
                None => now.saturating_sub(self.seen_at) >= QUIET,
            };
        if news {
            (self.told, self.told_at) = (limit, Some(now));
        }
        news
    }
}

impl Driver {
    /// Says which limit holds calls up, if it is another one now.
    pub(super) fn note_binding(&mut self, now: Duration, limit: Option<Counted>) {
        if self.binding.note(now, limit) {
            self.teller.tell(Event::LimitBinds(limit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_told_when_it_begins_to_hold_up_and_when_it_does_not_any_more() {
        let seconds = Duration::from_secs_f64;
        let mut binding = Binding::default();
        assert!(!binding.note(seconds(0.0), None));
        assert!(binding.note(seconds(0.1), Some(Counted::Requests)));
        for at in 1..100 {
            let now = seconds(0.1 + f64::from(at) * 0.05);
            let limit = (at % 2 == 0).then_some(Counted::Requests);
            assert!(!binding.note(now, limit), "paced: nothing new");
        }
        assert!(!binding.note(seconds(9.0), None));
        assert!(
            binding.note(seconds(11.0), None),
            "nobody waited for five seconds"
        );
        assert!(binding.note(seconds(12.5), Some(Counted::Tokens)));
        assert!(
            !binding.note(seconds(12.6), Some(Counted::Requests)),
            "they take turns"
        );
        assert!(binding.note(seconds(13.6), Some(Counted::Requests)));
    }
}
