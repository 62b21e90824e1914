//! What holds the whole run: a pause that a server asked for, an outage, and the reasons to end.
//! It counts answers and faults; it does not know nodes.

use std::time::Duration;

use crate::call::{Fault, FaultKind};
use crate::events::{Failure, Outcome};
use crate::names::Stop;

/// The longest pause between two probes of an outage (design, rule 7).
const LONGEST_PROBE_PAUSE: Duration = Duration::from_secs(5 * 60);
/// Without any answer in this run: give up when faults have lasted so long (design, rule 7).
const NEVER_ANSWERED: Duration = Duration::from_secs(5 * 60);
/// A run that never had an answer and gets nothing but 429s without a word how long to wait ends
/// after this time: an hour is longer than every window but a day's that limits are counted in, so
/// the account allows nothing at all, and a person has to look.
const NEVER_LET_IN: Duration = Duration::from_secs(60 * 60);
/// After a whole day without an answer the run ends and leaves the rest for the next one. Nothing
/// is failed by that; it only keeps a forgotten run from waiting for ever.
const LONGEST_OUTAGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A pause that ends so much after the one that holds is told.
const MUCH_LONGER: Duration = Duration::from_secs(60);

/// Why nothing more is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Halt {
    pub outcome: Outcome,
    pub cause: Option<Failure>,
}

/// The run as a whole.
#[derive(Debug)]
pub struct Gate {
    first_pause: Duration,
    /// So many outage faults in a row are an outage.
    threshold: usize,
    /// Calls that a server answered, badly or well.
    answered: u64,
    /// Outage faults since the last answer.
    streak: usize,
    /// When the first of them came.
    failing_since: Option<Duration>,
    /// Until when each lane waits because a server asked for it.
    paused_until: Vec<Duration>,
    /// 429s since the last answer.
    refusals: Option<Refusals>,
    outage: Option<Outage>,
    stop: Option<Stop>,
    halt: Option<Halt>,
}

#[derive(Debug)]
struct Outage {
    since: Duration,
    pause: Duration,
    next_probe: Duration,
    /// The number of the call that probes, while it is in flight.
    probe: Option<u64>,
    /// Probing has come to an end without an answer: what is left gets its last try, all at once.
    last_tries: bool,
}

#[derive(Debug)]
struct Refusals {
    since: Duration,
    /// One of them said how long to wait.
    told: bool,
}

/// What a fault or an answer changed for everybody.
#[derive(Clone, Debug, PartialEq)]
pub enum GateChange {
    OutageBegan,
    OutageEnded { lasted: Duration },
    Paused { pause: Duration },
}

impl Gate {
    /// `first_pause` is `retry.base`; `concurrency` sets how many faults in a row are an outage.
    pub fn new(first_pause: Duration, concurrency: usize) -> Self {
        Self {
            first_pause,
            threshold: concurrency.max(8),
            answered: 0,
            streak: 0,
            failing_since: None,
            paused_until: vec![Duration::ZERO],
            refusals: None,
            outage: None,
            stop: None,
            halt: None,
        }
    }

    /// True if a call may be sent now, as far as the run as a whole is concerned.
    pub fn is_open(&self, now: Duration) -> bool {
        !self.is_closing()
            && self
                .outage
                .as_ref()
                .is_none_or(|outage| outage.last_tries || outage.probe.is_none() && now >= outage.next_probe)
    }

    /// True in an outage: the next call is a probe.
    pub fn is_probing(&self) -> bool {
        self.outage.as_ref().is_some_and(|outage| !outage.last_tries)
    }

    /// True once nothing new is to be sent.
    pub fn is_closing(&self) -> bool {
        self.halt.is_some()
    }

    /// When it is worth asking [`Gate::is_open`] again.
    pub fn reopens_at(&self) -> Option<Duration> {
        match &self.outage {
            _ if self.is_closing() => None,
            Some(outage) if outage.last_tries => Some(Duration::ZERO),
            Some(Outage { probe: Some(_), .. }) => None,
            Some(outage) => Some(outage.next_probe),
            None => Some(Duration::ZERO),
        }
    }

    /// Makes so many lanes: a pause that a server asks for holds up one of them.
    pub fn divide(&mut self, lanes: usize) {
        self.paused_until = vec![Duration::ZERO; lanes.max(1)];
    }

    /// Until when a lane waits because a server asked for it.
    pub fn paused_until(&self, lane: usize) -> Duration {
        self.paused_until[lane]
    }

    /// How many calls were answered so far.
    pub fn answered_calls(&self) -> u64 {
        self.answered
    }

    /// For how long nothing but outage faults has come; none since the last answer: nothing.
    pub fn failing_for(&self, now: Duration) -> Duration {
        self.failing_since
            .map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// Ends the probing of an outage without an answer: what is left may be sent all at once.
    pub fn let_last_tries_go(&mut self) {
        if let Some(outage) = &mut self.outage {
            outage.last_tries = true;
        }
    }

    /// Why nothing more is sent, once that is so.
    pub fn halt(&self) -> Option<Halt> {
        self.halt.clone()
    }

    /// The call with this number is sent. In an outage it is the probe.
    pub fn sent(&mut self, call: u64) {
        if let Some(outage) = &mut self.outage {
            outage.probe = Some(call);
        }
    }

    /// A server answered, badly or well: it works.
    pub fn answered(&mut self, now: Duration) -> Option<GateChange> {
        self.answered += 1;
        self.streak = 0;
        self.failing_since = None;
        self.refusals = None;
        let outage = self.outage.take()?;
        Some(GateChange::OutageEnded {
            lasted: now.saturating_sub(outage.since),
        })
    }

    /// Nobody tried for a while: that says nothing about the provider, so patience begins anew.
    pub fn reopened(&mut self, now: Duration) {
        self.failing_since = None;
        self.refusals = None;
        if let Some(outage) = &mut self.outage {
            outage.since = now;
        }
    }

    /// The call with this number failed in a way that may pass, while so many others are in flight.
    pub fn faulted(
        &mut self,
        now: Duration,
        call: u64,
        lane: usize,
        fault: &Fault,
        others: usize,
    ) -> Option<GateChange> {
        self.probe_failed(now, call, fault);
        if fault.kind == FaultKind::RateLimited {
            self.refused(now, fault);
            return self.pause(now, lane, fault.retry_after?);
        }
        if !fault.kind.is_outage() {
            return None;
        }
        self.streak += 1;
        self.failing_since.get_or_insert(now);
        self.give_up_if_hopeless(now, fault, others);
        if self.outage.is_some() || self.streak < self.threshold {
            return None;
        }
        let pause = self
            .first_pause
            .min(LONGEST_PROBE_PAUSE)
            .max(fault.retry_after.unwrap_or_default());
        self.outage = Some(Outage {
            since: now,
            pause,
            next_probe: now + pause,
            probe: None,
            last_tries: false,
        });
        Some(GateChange::OutageBegan)
    }

    /// The next probe comes after a longer pause. What was in flight when the outage began and
    /// fails during it says nothing new.
    fn probe_failed(&mut self, now: Duration, call: u64, fault: &Fault) {
        let Some(outage) = self.outage.as_mut().filter(|outage| outage.probe == Some(call)) else {
            return;
        };
        outage.probe = None;
        outage.pause = (outage.pause * 2).min(LONGEST_PROBE_PAUSE);
        let mut next = now + outage.pause;
        // The probe after which a run without an answer is given up is not slept past.
        if let (0, Some(since)) = (self.answered, self.failing_since)
            && now < since + NEVER_ANSWERED
        {
            next = next.min(since + NEVER_ANSWERED);
        }
        outage.next_probe = next.max(now + fault.retry_after.unwrap_or_default());
    }

    /// A 429 is waited out for as long as the server says, and without a word for a day; only a run
    /// that was never let in and never told how long to wait ends sooner.
    fn refused(&mut self, now: Duration, fault: &Fault) {
        let refusals = self.refusals.get_or_insert(Refusals {
            since: now,
            told: false,
        });
        refusals.told |= fault.retry_after.is_some_and(|pause| !pause.is_zero());
        let (patience, wordless) = match self.answered == 0 && !refusals.told {
            true => (NEVER_LET_IN, ", and no word how long to wait"),
            false => (LONGEST_OUTAGE, ""),
        };
        let lasted = now.saturating_sub(refusals.since);
        if lasted >= patience {
            let mut cause = Failure::from(fault);
            let lasted = in_words(lasted);
            cause.message = format!("nothing but refusals for {lasted}{wordless}: {}", fault.message);
            self.end(Outcome::Fatal, Some(cause));
        }
    }

    /// Everyone in the lane waits for what one was told, once: a shorter pause inside it changes nothing, and
    /// one that is not much longer is no news.
    fn pause(&mut self, now: Duration, lane: usize, pause: Duration) -> Option<GateChange> {
        let until = now + pause;
        let paused_until = &mut self.paused_until[lane];
        let news = *paused_until <= now || until >= *paused_until + MUCH_LONGER;
        *paused_until = until.max(*paused_until);
        (news && !pause.is_zero()).then_some(GateChange::Paused { pause })
    }

    /// Slow calls that have not answered yet are no silence: while any is in flight, a run that has
    /// no answer yet is not given up. The provider's timeout bounds that.
    fn give_up_if_hopeless(&mut self, now: Duration, fault: &Fault, others: usize) {
        let (since, patience) = match (&self.outage, self.failing_since) {
            (_, Some(since)) if self.answered == 0 && others == 0 => (since, NEVER_ANSWERED),
            (Some(outage), _) => (outage.since, LONGEST_OUTAGE),
            _ => return,
        };
        if now.saturating_sub(since) >= patience {
            self.end(Outcome::Fatal, Some(Failure::from(fault)));
        }
    }

    /// Stops sending for good. Only a stronger outcome replaces a weaker one.
    pub fn end(&mut self, outcome: Outcome, cause: Option<Failure>) {
        if self.halt.as_ref().is_none_or(|halt| halt.outcome < outcome) {
            self.halt = Some(Halt { outcome, cause });
        }
    }

    /// A person asked to stop. Returns false if they had already asked as strongly.
    pub fn stop(&mut self, stop: Stop) -> bool {
        let news = self.stop.is_none_or(|level| level < stop);
        if news {
            self.stop = Some(stop);
            self.end(Outcome::Interrupted, None);
        }
        news
    }
}

/// A long time, as a message tells it: `61 minutes`, `3 hours`.
pub fn in_words(time: Duration) -> String {
    match time.as_secs() / 60 {
        minutes @ 0..120 => format!("{minutes} minutes"),
        minutes => format!("{} hours", minutes / 60),
    }
}
