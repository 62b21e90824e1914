//! A rate of which not everything is known beforehand: what is configured, what the server says,
//! and what its refusals show. Values only: the time is handed in, and nobody is held up here.

use std::collections::VecDeque;
use std::time::Duration;

use crate::limit::MINUTE;

/// Of what a server took in the time before it refused, so much is asked for afterwards.
const AFTER_A_REFUSAL: f64 = 0.95;
/// Fewer refusals in a minute, or a smaller share of its calls, are no limit: any server refuses a call
/// now and then, and each refusal has its own pause.
const LEAST_REFUSALS: usize = 3;
const LEAST_SHARE: f64 = 0.03;
/// Where the server took nothing at all, so much of the rate is left.
const AFTER_NOTHING: f64 = 0.7;
/// Without refusals for so long it is tried with more. The time doubles with each episode, up to
/// [`LONGEST`], and is halved with each step that was not refused.
const SHORTEST: Duration = Duration::from_secs(15);
const LONGEST: Duration = Duration::from_secs(4 * 60);
/// The first step up; each one after it is twice as large, up to all of the rate.
const STEP: f64 = 0.05;
/// Refusals of calls from the first moments say nothing of a rate that is configured or told: a run, or
/// somebody else, may have used up just before what the server lets through at once. They have their pause, and
/// what they took out of the limit stays out, which brings both in step.
const FIRST_MOMENTS: Duration = Duration::from_secs(2);
/// Less time than this says nothing of a rate.
const LEAST: Duration = Duration::from_secs(1);

/// One rate, in units a minute.
#[derive(Debug)]
pub(super) struct Rate {
    configured: Option<f64>,
    told: Option<f64>,
    found: Option<Found>,
    /// When the first call of all started.
    begun: Option<Duration>,
    /// What started in the last minute and was not refused.
    started: VecDeque<(Duration, u64)>,
    /// When the calls started that were refused since the last cut, those of the last minute.
    refused: VecDeque<Duration>,
    /// One of them has not been looked at yet.
    news: bool,
    /// Calls that started before belong to an episode that has been dealt with.
    cut_at: Option<Duration>,
}

/// What refusals have shown.
#[derive(Clone, Copy, Debug)]
struct Found {
    per_minute: f64,
    /// The share by which it is raised next.
    step: f64,
    /// After so long without a refusal.
    patience: Duration,
    /// Nothing was taken between the cut before and this one.
    blind: bool,
    /// Counted from here.
    since: Duration,
}

impl Rate {
    pub(super) fn new(configured: Option<u32>) -> Self {
        Self {
            configured: configured.map(f64::from),
            told: None,
            found: None,
            begun: None,
            started: VecDeque::new(),
            refused: VecDeque::new(),
            news: false,
            cut_at: None,
        }
    }

    /// What holds now; `None`: nothing is known.
    pub(super) fn per_minute(&self) -> Option<u32> {
        let found = self.found.map(|found| found.per_minute);
        let rates = [self.configured, self.told, found];
        let least = rates.into_iter().flatten().min_by(f64::total_cmp)?;
        Some((least as u32).max(1))
    }

    pub(super) fn configured(&self) -> Option<u64> {
        self.configured.map(|rate| rate as u64)
    }

    /// What is configured or told, whatever refusals have shown.
    fn firm(&self) -> Option<u64> {
        let rates = [self.configured, self.told];
        let least = rates.into_iter().flatten().min_by(f64::total_cmp)?;
        Some(least as u64)
    }

    /// A call with so much of it starts.
    pub(super) fn started(&mut self, now: Duration, amount: u64) {
        let out = |(at, _): &(Duration, u64)| *at + MINUTE <= now;
        while self.started.front().is_some_and(out) {
            self.started.pop_front();
        }
        self.started.push_back((now, amount));
        self.begun.get_or_insert(now);
    }

    /// A call that started then with so much of it used so much in the end.
    pub(super) fn settled(&mut self, started: Duration, amount: u64, used: u64) {
        if let Some(at) = self.started.iter().rposition(|call| *call == (started, amount)) {
            self.started[at].1 = used;
        }
    }

    /// How much of it started later than that.
    pub(super) fn started_after(&self, then: Duration) -> u64 {
        let newest = self.started.iter().rev().take_while(|(at, _)| *at > then);
        newest.map(|(_, amount)| amount).sum()
    }

    /// The server says so. Where that is less than what was asked for, the calls that started before
    /// were too fast for what is known now, and their refusals say nothing of it.
    pub(super) fn told(&mut self, now: Duration, per_minute: u64) {
        let before = self.per_minute();
        self.told = Some(per_minute as f64);
        if before.is_none_or(|before| per_minute < u64::from(before)) {
            self.refused.clear();
            self.cut_at = Some(now);
        }
    }

    /// A call that started then with so much of it was refused. One cut for one episode of many
    /// refusals: it is made when the next call wants to start, since by then most of them are known.
    pub(super) fn refused(&mut self, started: Duration, amount: u64) {
        if let Some(at) = self.started.iter().rposition(|call| *call == (started, amount)) {
            self.started.remove(at);
        }
        let first = self.begun.is_some_and(|begun| started < begun + FIRST_MOMENTS);
        if first && self.firm().is_some() {
            return;
        }
        if self.cut_at.is_none_or(|cut| started >= cut) {
            self.refused.push_back(started);
            self.news = true;
        }
    }

    /// Deals with what happened up to now. True if something was refused.
    pub(super) fn look(&mut self, now: Duration) -> bool {
        if std::mem::take(&mut self.news)
            && let Some(newest) = self.refused.iter().copied().max()
        {
            self.refused.retain(|started| *started + MINUTE > newest);
            let before = newest.saturating_sub(MINUTE);
            let taken = self.started.iter().filter(|(start, _)| *start > before).count();
            let refused = self.refused.len();
            if refused >= LEAST_REFUSALS && refused as f64 >= (refused + taken) as f64 * LEAST_SHARE {
                self.refused.clear();
                self.cut_at = Some(now);
                self.cut(newest, now);
                return true;
            }
        }
        self.recover(now);
        false
    }

    /// Comes down to what the server took in the minute before it refused. The pause that it asked
    /// for came after that, and says nothing.
    fn cut(&mut self, refused: Duration, now: Duration) {
        let from = refused.saturating_sub(MINUTE);
        let taken = self.started.iter().filter(|(start, _)| *start >= from);
        let (first, last, sum) = taken.fold((refused, from, 0), |(first, last, sum), (start, amount)| {
            (first.min(*start), last.max(*start), sum + amount)
        });
        let blind = sum == 0;
        let seconds = last.saturating_sub(first).max(LEAST).as_secs_f64();
        let seen = sum as f64 * 60.0 / seconds * AFTER_A_REFUSAL;
        let current = self.per_minute().map(f64::from);
        let per_minute = match (sum, current) {
            // The first calls of all were refused: somebody else uses the rate up, and the pause
            // that the refusal asks for is all that can be known.
            (0, None) => return,
            // Once: the next refusals without anything in between show nothing new.
            (0, Some(_)) if self.found.is_some_and(|found| found.blind) => return,
            (0, Some(current)) => current * AFTER_NOTHING,
            (_, current) => seen.min(current.unwrap_or(f64::INFINITY)),
        };
        let patience = self.found.map_or(SHORTEST, |found| found.patience * 2);
        self.found = Some(Found {
            per_minute: per_minute.max(1.0),
            step: STEP,
            patience: patience.min(LONGEST),
            blind,
            since: now,
        });
    }

    fn recover(&mut self, now: Duration) {
        let firm = self.firm();
        let Some(found) = &mut self.found else { return };
        if now.saturating_sub(found.since) < found.patience {
            return;
        }
        *found = Found {
            per_minute: found.per_minute * (1.0 + found.step),
            step: (found.step * 2.0).min(1.0),
            patience: (found.patience / 2).max(SHORTEST),
            blind: found.blind,
            since: now,
        };
        if firm.is_some_and(|firm| found.per_minute >= firm as f64) {
            self.found = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn the_least_of_what_is_known_holds() {
        let mut rate = Rate::new(Some(1_000));
        assert_eq!(rate.per_minute(), Some(1_000));
        rate.told(seconds(0.0), 5_000);
        assert_eq!(rate.per_minute(), Some(1_000), "somebody else may use the rest");
        rate.told(seconds(0.0), 500);
        assert_eq!(rate.per_minute(), Some(500));
        let mut unknown = Rate::new(None);
        assert_eq!(unknown.per_minute(), None);
        unknown.told(seconds(0.0), 500);
        assert_eq!(unknown.per_minute(), Some(500));
    }

    /// All calls that start before the first answer comes, and each of the refusals tells the limit.
    #[test]
    fn refusals_of_calls_from_before_a_rate_was_told_say_nothing_of_it() {
        let mut rate = Rate::new(None);
        (0..8).for_each(|_| rate.started(seconds(0.0), 1));
        for _ in 0..7 {
            rate.told(seconds(0.1), 300);
            rate.refused(seconds(0.0), 1);
        }
        assert!(!rate.look(seconds(1.0)));
        assert_eq!(rate.per_minute(), Some(300));
        (0..3).for_each(|_| rate.started(seconds(3.0), 1));
        (0..3).for_each(|_| rate.refused(seconds(3.0), 1));
        assert!(rate.look(seconds(3.1)), "these knew it");
    }

    /// A run that starts as the one before it ends: that has left nothing for the burst.
    #[test]
    fn a_server_whose_burst_is_used_up_at_the_start_is_asked_at_its_rate_all_the_same() {
        let mut rate = Rate::new(Some(600));
        (0..9).for_each(|_| rate.started(seconds(5.0), 1));
        (0..7).for_each(|_| rate.refused(seconds(5.0), 1));
        assert!(!rate.look(seconds(5.2)));
        assert_eq!(rate.per_minute(), Some(600));
        let mut now = 5.2;
        while now < 12.0 {
            rate.started(seconds(now), 1);
            if now > 7.0 {
                rate.started(seconds(now), 1);
                rate.refused(seconds(now), 1);
            }
            now += 0.2;
        }
        assert!(rate.look(seconds(now)), "it goes on refusing");
        assert!((250..=320).contains(&rate.per_minute().unwrap()), "{rate:?}");
    }

    #[test]
    fn an_unknown_rate_is_what_the_server_took() {
        let mut rate = Rate::new(None);
        (0..64).for_each(|_| rate.started(seconds(0.0), 1));
        // Ten are taken, the others refused within a moment: one episode.
        (0..54).for_each(|_| rate.refused(seconds(0.0), 1));
        assert!(rate.look(seconds(1.0)));
        assert_eq!(rate.per_minute(), Some(570), "ten in a second, and a little less");
        rate.refused(seconds(0.0), 1);
        assert!(!rate.look(seconds(1.2)), "late, and of the same episode");
        assert_eq!(rate.per_minute(), Some(570));
    }

    #[test]
    fn a_rate_that_is_too_high_comes_down_and_goes_back_near_it() {
        let mut rate = Rate::new(Some(600));
        // The server takes 300 a minute: each second one that is refused.
        let mut now = 0.0;
        for call in 0..60 {
            now = f64::from(call) / 10.0;
            rate.started(seconds(now), 1);
            if call % 2 == 1 {
                rate.refused(seconds(now), 1);
            }
        }
        assert!(rate.look(seconds(now)));
        let cut = rate.per_minute().unwrap();
        assert!((260..=330).contains(&cut), "{cut}");
        let mut before = cut;
        for minute in 1..100 {
            rate.look(seconds(now + 60.0 * f64::from(minute)));
            let rate = rate.per_minute().unwrap();
            assert!(rate >= before);
            before = rate;
        }
        assert_eq!(before, 600, "what is configured is the end of it");
    }

    /// A server that refuses one in a hundred, whatever the rate.
    #[test]
    fn a_refusal_now_and_then_is_no_limit() {
        let mut rate = Rate::new(Some(1_200));
        for call in 0..20_000 {
            let now = seconds(f64::from(call) / 20.0);
            rate.started(now, 1);
            if call % 100 == 99 {
                rate.refused(now, 1);
            }
            assert!(!rate.look(now));
        }
        assert_eq!(rate.per_minute(), Some(1_200));
    }

    #[test]
    fn where_nothing_was_taken_the_pause_has_to_do() {
        let refuse = |rate: &mut Rate| {
            (0..5).for_each(|_| rate.started(seconds(0.0), 1));
            (0..5).for_each(|_| rate.refused(seconds(0.0), 1));
        };
        let mut rate = Rate::new(None);
        refuse(&mut rate);
        assert!(rate.look(seconds(0.2)));
        assert_eq!(rate.per_minute(), None);
        let mut known = Rate::new(Some(100));
        refuse(&mut known);
        assert!(!known.look(seconds(0.2)), "the first moments");
        (0..5).for_each(|_| known.started(seconds(90.0), 1));
        (0..5).for_each(|_| known.refused(seconds(90.0), 1));
        assert!(known.look(seconds(90.2)));
        assert_eq!(known.per_minute(), Some(70));
    }

    #[test]
    fn each_step_up_is_larger_and_each_episode_makes_it_more_patient() {
        let mut rate = Rate::new(None);
        let refuse = |rate: &mut Rate, at: f64| {
            (0..10).for_each(|_| rate.started(seconds(at), 1));
            (0..5).for_each(|_| rate.started(seconds(at), 5));
            (0..5).for_each(|_| rate.refused(seconds(at), 5));
            assert!(rate.look(seconds(at)));
        };
        refuse(&mut rate, 1_000.0);
        let steps: Vec<u32> = (1..=4)
            .map(|step| {
                rate.look(seconds(1_000.0 + 15.0 * f64::from(step)));
                rate.per_minute().unwrap()
            })
            .collect();
        assert_eq!(steps, [598, 658, 790, 1_106], "5, 10, 20 and 40 % more");
        refuse(&mut rate, 2_000.0);
        rate.look(seconds(2_029.0));
        assert_eq!(rate.per_minute(), Some(570));
        rate.look(seconds(2_030.0));
        assert_eq!(rate.per_minute(), Some(598));
    }
}
