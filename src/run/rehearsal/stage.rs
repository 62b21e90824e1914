//! Where a rehearsal is played: what the driver does for a run is done here for calls that nobody
//! makes, by a clock that jumps from one event to the next.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use crate::budget::{Budget, Limit, Room};
use crate::call::{Counted, Fault, FaultKind, Key, Money, Prefix, Price, Rejection, Usage};
use crate::events::{Failure, NodeStatus, Outcome};
use crate::limit::{ModelLimits, Refusal};
use crate::names::PersonaId;
use crate::run::estimate::Longest;
use crate::run::times::Now;
use crate::schedule::{Action, Handle, Idle, Input, Schedule, SharedPrefix};

use super::chance::{Chance, Draw, End, Fate, Place};
use super::{Holds, Night, OutOfMoney, Played, Rehearsal, Wall, mixed};

pub(super) struct Stage<'a> {
    rehearsal: &'a Rehearsal,
    schedule: Schedule,
    limits: ModelLimits,
    budget: Budget,
    chance: Chance,
    wall: Option<OnTheWall<'a>>,
    /// By node; `None`: no price.
    longest: Vec<Option<Longest>>,
    out_of_money: Option<OutOfMoney>,
    now: Duration,
    /// Nothing is sent from then on.
    until: Duration,
    /// When calls in flight are answered.
    ends: BinaryHeap<Reverse<(Duration, Handle)>>,
    /// By slot and node.
    work: Vec<Work>,
    answered: Vec<bool>,
    /// All of them.
    answers: u32,
    /// The number of the persona in each slot.
    open: Vec<usize>,
    /// By persona.
    shapes: Vec<usize>,
    /// The lanes that the limits hold up, as the scheduler was told.
    held: Vec<usize>,
    /// What holds the next call up.
    holds: Holds,
    keys: u64,
    /// Nodes that were called.
    sent: u64,
    night: Night,
    over: bool,
}

/// What is known of a node of an open persona.
#[derive(Clone, Copy, Default)]
struct Work {
    fate: Fate,
    /// How often it was sent.
    attempts: u32,
    started: Duration,
    reserved: u64,
    set_aside: Money,
    draw: Option<Draw>,
}

impl<'a> Stage<'a> {
    pub fn new(
        rehearsal: &'a Rehearsal,
        personas: &[(Vec<bool>, u64)],
        until: Duration,
        budget: &[Limit],
        chance: Chance,
        wall: Option<&'a Wall>,
    ) -> Self {
        let all: u64 = personas.iter().map(|(_, count)| count).sum();
        let names: Vec<PersonaId> = (0..all).map(|number| number.to_string().into()).collect();
        let limits = ModelLimits::new(
            &rehearsal.models,
            rehearsal.requests_per_minute,
            rehearsal.tokens_per_minute,
        );
        let schedule = Schedule::new(rehearsal.graph.clone(), names, rehearsal.settings.clone());
        Self {
            schedule: schedule.in_lanes(limits.lanes().to_vec()),
            limits,
            budget: Budget::new(budget.to_vec()),
            chance,
            wall: wall.map(OnTheWall::new),
            longest: rehearsal
                .nodes
                .iter()
                .map(|node| Some(node.money?.longest))
                .collect(),
            out_of_money: None,
            rehearsal,
            now: Duration::ZERO,
            until,
            ends: BinaryHeap::new(),
            work: Vec::new(),
            answered: vec![false; rehearsal.graph.len()],
            answers: 0,
            open: Vec::new(),
            shapes: mixed(personas),
            held: Vec::new(),
            holds: Holds::Needs,
            keys: 0,
            sent: 0,
            night: Night::default(),
            over: false,
        }
    }

    pub fn play(mut self) -> Played {
        self.turn(Input::Start);
        while !self.over && self.now < self.until {
            let wake = match self.may_send() {
                true => self.send(),
                false => None,
            };
            if self.over {
                break;
            }
            let wake = wake.into_iter().chain(self.wall_changes()).min();
            let end = self.ends.peek().map(|Reverse((at, _))| *at);
            let next = match (end, wake) {
                (Some(end), wake) => wake.map_or(end, |wake| end.min(wake)),
                (None, Some(wake)) => wake,
                // A call that is larger than a minute's tokens would wait for ever.
                (None, None) => break,
            };
            let in_flight = self.schedule.in_flight();
            self.night.course.pass(self.now, next, self.holds, in_flight);
            if self.holds == Holds::Hours {
                self.night.asleep += next.saturating_sub(self.now);
            }
            self.now = next;
            if end == Some(next) {
                self.end_call();
            }
        }
        self.night.took = self.now;
        self.night.out_of_money = self.out_of_money;
        Played {
            took: self.now,
            sent: self.sent,
            out_of_money: self.out_of_money,
            night: self.night,
        }
    }

    /// Looks at the clock on the wall as the driver does.
    fn may_send(&mut self) -> bool {
        let Some(wall) = &mut self.wall else { return true };
        let until = wall.wall.times.until;
        match wall.look(self.now) {
            Now::Open => {
                if std::mem::take(&mut wall.waiting) {
                    self.turn(Input::Reopened);
                }
                return true;
            }
            Now::Over(_) => self.out_of_time(),
            Now::Closed(_) if self.schedule.candidate(self.now).is_none() => self.holds = self.idle(),
            Now::Closed(opens) if until.is_some_and(|until| until <= opens) => {
                self.out_of_time();
            }
            Now::Closed(_) => {
                wall.waiting = true;
                self.holds = Holds::Hours;
            }
        }
        false
    }

    fn wall_changes(&mut self) -> Option<Duration> {
        let next = self.wall.as_ref()?.next?;
        Some(next).filter(|next| *next > self.now)
    }

    /// Sends nothing more; what is in flight is waited for.
    fn out_of_time(&mut self) {
        if self
            .wall
            .as_mut()
            .is_some_and(|wall| !std::mem::replace(&mut wall.over, true))
        {
            let cause = Failure {
                kind: Failure::DEADLINE,
                message: String::new(),
                http_status: None,
            };
            self.turn(Input::Enough {
                outcome: Outcome::Deadline,
                cause,
            });
        }
        self.holds = Holds::Needs;
    }

    /// Sends what may be sent now; returns when to try again though nothing happens.
    fn send(&mut self) -> Option<Duration> {
        // The models whose limits hold their next call up: those of others may go.
        let mut held: Vec<(usize, Duration, Counted)> = Vec::new();
        let earliest = |held: &[(usize, Duration, Counted)]| held.iter().map(|(_, until, _)| *until).min();
        loop {
            let is_held = |lane| held.iter().any(|(other, ..)| *other == lane);
            let Some(handle) = self.schedule.candidate_but(self.now, is_held) else {
                let lanes: Vec<usize> = held.iter().map(|(lane, ..)| *lane).collect();
                if self.held != lanes {
                    self.held.clone_from(&lanes);
                    self.turn(Input::Held { lanes });
                    if self.over {
                        return None;
                    }
                    // Others may have been opened for it.
                    continue;
                }
                self.holds = match held.first() {
                    Some((.., counted)) if self.idle() != Holds::InFlight => (*counted).into(),
                    _ => self.idle(),
                };
                let wake = self.schedule.wake_at(self.now);
                return wake.into_iter().chain(earliest(&held)).min();
            };
            let next = self.next_cost(handle.node);
            match self.budget.room(next) {
                Room::Enough => {}
                Room::Later => {
                    self.holds = Holds::Budget;
                    return earliest(&held);
                }
                Room::Never(used) => {
                    self.out_of_money = Some(OutOfMoney {
                        used,
                        node: handle.node,
                        next,
                        called: self.sent,
                    });
                    self.night.outcome = Outcome::Budget;
                    self.over = true;
                    return None;
                }
            }
            let tokens = self.reserve(handle.node);
            if let Err(hold) = self.limits.take(self.now, handle.node, tokens) {
                if hold.alone {
                    held.push((self.limits.lanes()[handle.node], hold.until, hold.counted));
                    continue;
                }
                self.holds = hold.counted.into();
                return earliest(&held).into_iter().chain([hold.until]).min();
            }
            self.budget.reserve(next);
            let now = self.now;
            let work = self.work(handle);
            (work.set_aside, work.reserved, work.started) = (next, tokens, now);
            self.turn(Input::Granted { handle });
        }
    }

    fn idle(&self) -> Holds {
        match self.schedule.idle(self.now) {
            Idle::Full => Holds::InFlight,
            Idle::Outage => Holds::Outage,
            Idle::Paused => Holds::Paused,
            Idle::Leaders => Holds::Leaders,
            Idle::Retries => Holds::Retries,
            Idle::Needs => Holds::Needs,
        }
    }

    fn work(&mut self, handle: Handle) -> &mut Work {
        &mut self.work[handle.slot * self.rehearsal.graph.len() + handle.node]
    }

    /// What is set aside for the next call of a node.
    fn next_cost(&mut self, node: usize) -> Money {
        let rehearsed = &self.rehearsal.nodes[node];
        let Some((money, longest)) = rehearsed.money.zip(self.longest[node]) else {
            return Money::ZERO;
        };
        let of_the_hour = self.wall.as_mut().and_then(|wall| wall.dearest(self.now, node));
        let output = longest.careful(rehearsed.cap);
        of_the_hour
            .unwrap_or(money.dearest)
            .at_most(rehearsed.input.ceil() as u64, output)
    }

    /// What an answer of so many tokens costs now; `None`: no price.
    fn cost(&mut self, node: usize, output: f64) -> Option<Money> {
        let rehearsed = &self.rehearsal.nodes[node];
        let money = rehearsed.money?;
        let of_the_hour = self.wall.as_mut().and_then(|wall| wall.price(self.now, node));
        let part = |share: f64| Some((rehearsed.input * share).round() as u64);
        let usage = Usage {
            input: rehearsed.input.round() as u64,
            cached_input: part(money.cached.0),
            cache_write: part(money.cached.1),
            output: output.round() as u64,
            ..Usage::default()
        };
        Some(of_the_hour.unwrap_or(money.price).cost(&usage))
    }

    /// The first of the calls in flight ends.
    fn end_call(&mut self) {
        let Some(Reverse((_, handle))) = self.ends.pop() else {
            return;
        };
        let work = *self.work(handle);
        let draw = work.draw.expect("BUG: a call that nobody sent");
        let input = match draw.end {
            End::Faulted(number) => self.faulted(handle, &work, number),
            End::Answered | End::Rejected => self.paid(handle, &work, draw),
        };
        self.turn(input);
    }

    fn faulted(&mut self, handle: Handle, work: &Work, number: usize) -> Input {
        let fault = &self.rehearsal.nodes[handle.node].faults[number];
        match fault.may_be_billed {
            true => self.budget.settle_unknown(work.set_aside),
            false => self.budget.settle(work.set_aside, Money::ZERO),
        }
        if fault.kind == FaultKind::RateLimited {
            let refusal = Refusal {
                started: work.started,
                tokens: work.reserved,
                limit: None,
                wait: fault.retry_after.unwrap_or_default(),
                reckoned: None,
            };
            self.limits.refused(self.now, handle.node, &refusal);
        } else {
            let node = &self.rehearsal.nodes[handle.node];
            let expected = (node.input + node.output).ceil() as u64;
            let lost = node.reserves.counted(work.reserved, expected.min(work.reserved));
            self.limits
                .settle(self.now, self.now, handle.node, work.started, work.reserved, lost);
        }
        self.night.faulted += 1;
        let mut told = Fault::new(fault.kind, "");
        told.retry_after = fault.retry_after;
        Input::Faulted {
            handle,
            fault: told,
            jitter: self.jitter(handle, work),
        }
    }

    fn paid(&mut self, handle: Handle, work: &Work, draw: Draw) -> Input {
        let node = &self.rehearsal.nodes[handle.node];
        let cost = self.cost(handle.node, draw.output);
        self.budget.settle(work.set_aside, cost.unwrap_or_default());
        let night = &mut self.night;
        night.cost = night.cost.zip(cost).map(|(sum, cost)| sum + cost);
        night.course.paid(self.now, cost.unwrap_or_default().usd());
        night.input += node.input;
        night.output += draw.output;
        if let Some(longest) = &mut self.longest[handle.node] {
            longest.add(draw.output);
        }
        let used = (node.input + draw.output).round() as u64;
        let used = node.reserves.counted(work.reserved, used);
        self.limits
            .settle(self.now, self.now, handle.node, work.started, work.reserved, used);
        self.answered[handle.node] = true;
        self.answers += 1;
        if draw.end == End::Answered {
            self.night.course.answered(self.now);
            return Input::Answered { handle };
        }
        self.night.rejected += 1;
        Input::Rejected {
            handle,
            misfit: Rejection::Truncated.into(),
            cut: None,
            jitter: self.jitter(handle, work),
        }
    }

    fn jitter(&self, handle: Handle, work: &Work) -> f64 {
        self.chance.jitter(Place {
            persona: self.open[handle.slot],
            node: handle.node,
            attempt: work.attempts,
        })
    }

    fn turn(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for action in self.schedule.on(self.now, input) {
                self.act(action, &mut inputs);
            }
        }
    }

    fn act(&mut self, action: Action, inputs: &mut VecDeque<Input>) {
        match action {
            Action::Open { slot, persona } => {
                let number: usize = persona.as_str().parse().unwrap_or(0);
                let slots = self.open.len().max(slot + 1);
                self.open.resize(slots, 0);
                self.work
                    .resize(slots * self.rehearsal.graph.len(), Work::default());
                self.open[slot] = number;
                inputs.push_back(Input::Opened { slot, result: Ok(()) });
            }
            Action::Render { handle } => {
                self.keys += 1;
                let mut key = [0; 32];
                key[..8].copy_from_slice(&self.keys.to_le_bytes());
                *self.work(handle) = Work::default();
                inputs.push_back(Input::Rendered {
                    handle,
                    key: Key::from(key),
                    prefix: self.prefix(handle),
                });
            }
            Action::Look { handle } => {
                let shape = self.shapes[self.open[handle.slot]];
                let (called, _) = &self.rehearsal.personas[shape];
                let hit = !called[handle.node];
                let tokens = self.reserve(handle.node);
                inputs.push_back(match self.limits.most_tokens() {
                    // A run fails it as well: it would wait for ever.
                    Some(most) if !hit && tokens > most => Input::Unrenderable {
                        handle,
                        failure: Failure::from(&Fault::new(FaultKind::RequestTooLarge, "")),
                    },
                    _ => Input::Looked { handle, hit },
                });
            }
            Action::Send { handle, .. } => self.begin_call(handle),
            Action::Finish { status, .. } => match status {
                NodeStatus::Called => self.night.called += 1,
                NodeStatus::Failed => self.night.failed += 1,
                NodeStatus::Skipped => self.night.skipped += 1,
                NodeStatus::Cached => {}
            },
            Action::Close { slot, failure } => inputs.push_back(Input::Closed {
                slot,
                failed: failure.is_some(),
            }),
            Action::End(halt) => {
                self.night.outcome = halt.outcome;
                self.over = true;
            }
            _ => {}
        }
    }

    fn begin_call(&mut self, handle: Handle) {
        let rehearsal = self.rehearsal;
        let at = handle.slot * rehearsal.graph.len() + handle.node;
        let work = &mut self.work[at];
        self.night.calls += 1;
        self.sent += u64::from(work.attempts == 0);
        work.attempts += 1;
        let place = Place {
            persona: self.open[handle.slot],
            node: handle.node,
            attempt: work.attempts,
        };
        let rejected = rehearsal.settings.retry.rejected;
        let known = &rehearsal.nodes[handle.node];
        let draw = self.chance.draw(place, known, &mut work.fate, rejected);
        work.draw = Some(draw);
        let takes = Duration::try_from_secs_f64(draw.seconds.max(0.0)).unwrap_or(Duration::MAX);
        self.ends.push(Reverse((self.now.saturating_add(takes), handle)));
        self.night.course.sent(self.now);
    }

    fn prefix(&self, handle: Handle) -> Option<SharedPrefix> {
        let prefix = self.rehearsal.nodes[handle.node].prefix?;
        let persona = if prefix.of_all {
            0
        } else {
            self.open[handle.slot] as u128 + 1
        };
        Some(SharedPrefix {
            id: Prefix::from(persona << 64 | prefix.group as u128),
            lifetime: prefix.lifetime,
        })
    }

    fn reserve(&self, node: usize) -> u64 {
        self.rehearsal.nodes[node].reserved(self.answered[node], self.answers)
    }
}

impl From<Counted> for Holds {
    fn from(counted: Counted) -> Self {
        match counted {
            Counted::Requests => Holds::Requests,
            Counted::Tokens => Holds::Tokens,
        }
    }
}

/// The clock on the wall, with what it shows kept until it shows something else.
struct OnTheWall<'a> {
    wall: &'a Wall,
    shows: Option<Now>,
    /// When it shows something else.
    next: Option<Duration>,
    /// By node: a price that depends on the time, and until when it holds.
    prices: Vec<Option<(Duration, Price)>>,
    /// Calls wait for the hours to open.
    waiting: bool,
    /// Nothing is sent any more.
    over: bool,
}

impl<'a> OnTheWall<'a> {
    fn new(wall: &'a Wall) -> Self {
        Self {
            prices: vec![None; wall.tariffs.len()],
            wall,
            shows: None,
            next: None,
            waiting: false,
            over: false,
        }
    }

    fn at(&self, now: Duration) -> Timestamp {
        self.wall.start.checked_add(now).unwrap_or(Timestamp::MAX)
    }

    fn look(&mut self, now: Duration) -> Now {
        if let Some(shows) = self
            .shows
            .as_ref()
            .filter(|_| self.next.is_none_or(|next| now < next))
        {
            return shows.clone();
        }
        // Whatever part of a millisecond is missing has passed.
        let nanos = self.at(now).as_nanosecond();
        let unix_ms = u64::try_from((nanos + 999_999).div_euclid(1_000_000)).unwrap_or(0);
        let shows = self.wall.times.look(unix_ms);
        self.next = self.wall.times.next_change(unix_ms).map(|wait| now + wait);
        self.shows = Some(shows.clone());
        shows
    }

    /// The price of a node's answer, where it depends on the time.
    fn price(&mut self, now: Duration, node: usize) -> Option<Price> {
        let tariff = self
            .wall
            .tariffs
            .get(node)?
            .as_ref()
            .filter(|tariff| tariff.changes())?;
        if let Some((_, price)) = self.prices[node].filter(|(until, _)| now < *until) {
            return Some(price);
        }
        let at = self.at(now);
        let next = tariff.next(at).map(|(next, _)| at.duration_until(next));
        let until = next.and_then(|wait| Duration::try_from(wait).ok());
        let until = until.map_or(Duration::MAX, |wait| now + wait);
        let price = tariff.at(at).price;
        self.prices[node] = Some((until, price));
        Some(price)
    }

    /// The dearest price that a call which is sent now can meet, likewise.
    fn dearest(&mut self, now: Duration, node: usize) -> Option<Price> {
        let price = self.price(now, node)?;
        let stays = self.prices[node].is_some_and(|(until, _)| now + self.wall.longest_call < until);
        if stays {
            return Some(price);
        }
        let at = u64::try_from(self.at(now).as_millisecond()).unwrap_or(0);
        Some(
            self.wall.tariffs[node]
                .as_ref()?
                .dearest(at, self.wall.longest_call),
        )
    }
}
