//! How a rehearsal passes: what held calls up, and how much was done, by stretches of its time that
//! grow with it, so that a minute and a week take the same room.

use std::time::Duration;

/// At most so many stretches; with one more each two of them become one.
const MOST_PARTS: usize = 240;

/// The first stretches are so long.
const SHORTEST: Duration = Duration::from_millis(100);

/// A stretch with less than this part of the whole time is told with its neighbours.
const LEAST_PHASE: f64 = 0.02;

/// What holds calls up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holds {
    /// Requests a minute.
    Requests,
    /// Tokens a minute.
    Tokens,
    /// Calls in flight.
    InFlight,
    /// Calls wait for the first one that begins as they do.
    Leaders,
    /// Calls wait for the answers that they need.
    Needs,
    /// Calls wait for their next try.
    Retries,
    /// A server asked to wait.
    Paused,
    /// The provider does not answer.
    Outage,
    /// The budget, until what is in flight has cost less than it may.
    Budget,
    /// `limits.hours`.
    Hours,
}

impl Holds {
    /// All of them.
    pub const ALL: [Holds; 10] = [
        Holds::Requests,
        Holds::Tokens,
        Holds::InFlight,
        Holds::Leaders,
        Holds::Needs,
        Holds::Retries,
        Holds::Paused,
        Holds::Outage,
        Holds::Budget,
        Holds::Hours,
    ];

    /// The word for it in `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Holds::Requests => "requests_per_minute",
            Holds::Tokens => "tokens_per_minute",
            Holds::InFlight => "concurrency",
            Holds::Leaders => "shared_prefix",
            Holds::Needs => "needs",
            Holds::Retries => "retries",
            Holds::Paused => "paused",
            Holds::Outage => "outage",
            Holds::Budget => "budget",
            Holds::Hours => "hours",
        }
    }
}

/// A stretch of a rehearsal.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Part {
    /// Calls that were sent.
    pub sent: u64,
    /// Nodes that got their answer.
    pub answered: u64,
    /// Seconds for which each of [`Holds::ALL`] held calls up.
    pub held: [f64; Holds::ALL.len()],
    /// Calls in flight, summed up over its seconds.
    pub in_flight: f64,
    /// What answers in it cost, in dollars.
    pub usd: f64,
}

/// The course of a rehearsal.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// How long each stretch is.
    pub length: Duration,
    /// The stretches.
    pub parts: Vec<Part>,
}

/// A time in which one thing held calls up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phase {
    /// From then on.
    pub from: Duration,
    /// Until then.
    pub to: Duration,
    /// What it was most of the time.
    pub by: Holds,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            length: SHORTEST,
            parts: Vec::new(),
        }
    }
}

impl Course {
    /// Time passes from one moment to another, with so many calls in flight.
    pub(super) fn pass(&mut self, from: Duration, to: Duration, by: Holds, in_flight: usize) {
        if to <= from {
            return;
        }
        // The last moment may be where a stretch begins.
        self.at(to);
        let mut at = from;
        while at < to {
            let number = self.number(at);
            let end = self.length.saturating_mul(number as u32 + 1).min(to);
            let seconds = end.saturating_sub(at).as_secs_f64();
            let part = self.at(at);
            part.held[by as usize] += seconds;
            part.in_flight += seconds * in_flight as f64;
            if end <= at {
                return;
            }
            at = end;
        }
    }

    pub(super) fn sent(&mut self, at: Duration) {
        self.at(at).sent += 1;
    }

    pub(super) fn answered(&mut self, at: Duration) {
        self.at(at).answered += 1;
    }

    pub(super) fn paid(&mut self, at: Duration, usd: f64) {
        self.at(at).usd += usd;
    }

    fn number(&self, at: Duration) -> usize {
        (at.as_nanos() / self.length.as_nanos()) as usize
    }

    fn at(&mut self, at: Duration) -> &mut Part {
        while self.number(at) >= MOST_PARTS {
            self.halve();
        }
        let number = self.number(at);
        if self.parts.len() <= number {
            self.parts.resize(number + 1, Part::default());
        }
        &mut self.parts[number]
    }

    fn halve(&mut self) {
        self.length *= 2;
        let pairs = self.parts.chunks(2);
        self.parts = pairs
            .map(|pair| pair.iter().copied().reduce(Part::with).unwrap_or_default())
            .collect();
    }

    /// The share of the time for which each held calls up, the most first; those without a part are
    /// left out.
    pub fn shares(&self) -> Vec<(Holds, f64)> {
        let whole = self.parts.iter().copied().fold(Part::default(), Part::with);
        let all: f64 = whole.held.iter().sum();
        let share = |by: &Holds| (*by, whole.held[*by as usize] / all.max(f64::MIN_POSITIVE));
        let mut shares: Vec<(Holds, f64)> = Holds::ALL.iter().map(share).collect();
        shares.retain(|(_, share)| *share > 0.0);
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        shares
    }

    /// What held calls up, one after the other; what did so for a moment only is left out.
    pub fn phases(&self, took: Duration) -> Vec<Phase> {
        let mut phases: Vec<Phase> = Vec::new();
        let mut push = |phase: Phase| match phases.last_mut() {
            Some(last) if last.by == phase.by => last.to = phase.to,
            _ => phases.push(phase),
        };
        for (number, part) in self.parts.iter().enumerate() {
            let most = Holds::ALL
                .into_iter()
                .max_by(|a, b| part.held[*a as usize].total_cmp(&part.held[*b as usize]));
            let Some(by) = most.filter(|by| part.held[*by as usize] > 0.0) else {
                continue;
            };
            let from = self.length * number as u32;
            let to = (from + self.length).min(took.max(from));
            push(Phase { from, to, by });
        }
        let least = took.mul_f64(LEAST_PHASE);
        while let Some(short) = shortest(&phases, least) {
            let gone = phases.remove(short);
            match short.checked_sub(1) {
                Some(before) => phases[before].to = gone.to,
                None => phases[0].from = gone.from,
            }
            // Its neighbours may be one now.
            let at = short.saturating_sub(1);
            if phases.get(at + 1).is_some_and(|next| next.by == phases[at].by) {
                phases[at].to = phases.remove(at + 1).to;
            }
        }
        phases
    }
}

/// The shortest of several phases that are shorter than this.
fn shortest(phases: &[Phase], least: Duration) -> Option<usize> {
    let length = |phase: &Phase| phase.to.saturating_sub(phase.from);
    let lengths = phases.iter().map(length).enumerate();
    let (at, shortest) = lengths.min_by_key(|(_, length)| *length)?;
    (phases.len() > 1 && shortest < least).then_some(at)
}

impl Part {
    /// Both together.
    pub fn with(self, other: Part) -> Part {
        let mut held = self.held;
        held.iter_mut()
            .zip(other.held)
            .for_each(|(sum, more)| *sum += more);
        Part {
            sent: self.sent + other.sent,
            answered: self.answered + other.answered,
            held,
            in_flight: self.in_flight + other.in_flight,
            usd: self.usd + other.usd,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn phases_come_one_after_the_other_and_moments_are_left_out() {
        let mut course = Course::default();
        course.pass(seconds(0.0), seconds(10.0), Holds::InFlight, 4);
        course.pass(seconds(10.0), seconds(10.5), Holds::Leaders, 4);
        course.pass(seconds(10.5), seconds(20.0), Holds::InFlight, 4);
        course.pass(seconds(20.0), seconds(60.0), Holds::Requests, 4);
        course.pass(seconds(60.0), seconds(61.0), Holds::Needs, 1);
        let told: Vec<(u64, u64, Holds)> = course
            .phases(seconds(61.0))
            .iter()
            .map(|phase| (phase.from.as_secs(), phase.to.as_secs(), phase.by))
            .collect();
        assert_eq!(told, [(0, 20, Holds::InFlight), (20, 61, Holds::Requests)]);
        let shares = course.shares();
        assert_eq!(shares[0].0, Holds::Requests);
        assert!((shares[0].1 - 40.0 / 61.0).abs() < 1e-9);
    }

    proptest! {
        /// However long it is, nothing of it is lost and it takes the same room.
        #[test]
        fn all_time_is_in_some_part(
            steps in proptest::collection::vec((0.0f64..5_000.0, 0usize..10, 0usize..50), 1..200),
        ) {
            let mut course = Course::default();
            let (mut now, mut in_flight_seconds) = (0.0, 0.0);
            for (step, by, in_flight) in &steps {
                course.pass(seconds(now), seconds(now + step), Holds::ALL[*by], *in_flight);
                course.sent(seconds(now + step));
                now += step;
                in_flight_seconds += step * *in_flight as f64;
            }
            prop_assert!(course.parts.len() <= MOST_PARTS);
            let whole = course.parts.iter().copied().fold(Part::default(), Part::with);
            prop_assert_eq!(whole.sent, steps.len() as u64);
            prop_assert!((whole.held.iter().sum::<f64>() - now).abs() < 1e-3);
            prop_assert!((whole.in_flight - in_flight_seconds).abs() < 0.1);
            let phases = course.phases(seconds(now));
            prop_assert!(phases.windows(2).all(|pair| pair[0].to <= pair[1].from && pair[0].by != pair[1].by));
        }
    }
}
