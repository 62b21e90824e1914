//! How long a run would take, found out by running it: the same scheduler and the same limits, on
//! answers that are as long and take as long as earlier ones, and a clock that only counts. It
//! makes no call, reads nothing, and knows no prompts.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::budget::{Budget, Limit, Room, Used};
use crate::call::{Key, Money, Prefix, Price, Rejection};
use crate::graph::Graph;
use crate::limit::Limits;
use crate::names::PersonaId;
use crate::run::estimate::Longest;
use crate::schedule::{Action, Handle, Input, Schedule, Settings, SharedPrefix};

/// More calls than this are not rehearsed: from the second half of so many it is plain how the
/// rest goes on.
const MOST_CALLS: u64 = 12_000;

/// Where the golden ratio cuts: its multiples lie evenly, however many there are.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// A run to be rehearsed.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The pipeline's shape.
    pub graph: Arc<Graph>,
    /// How nodes are scheduled.
    pub settings: Settings,
    /// Requests a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute.
    pub tokens_per_minute: Option<u32>,
    /// True where the server reserves the output limit of a call whatever it uses.
    pub reserves_output_cap: bool,
    /// One call of each node.
    pub nodes: Vec<Rehearsed>,
    /// Which nodes are called, and for how many personas.
    pub personas: Vec<(Vec<bool>, u64)>,
    /// What it may spend.
    pub budget: Vec<Limit>,
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rehearsed {
    /// Input tokens.
    pub input: f64,
    /// Output tokens.
    pub output: f64,
    /// What a run takes the output to be before it has seen any.
    pub first_output: f64,
    /// Its limit.
    pub cap: Option<f64>,
    /// How often it is made again because its answer is bad; at most `retry.rejected`.
    pub again: f64,
    /// How long it takes, in seconds.
    pub seconds: f64,
    /// How far that strays, in seconds.
    pub stray: f64,
    /// What it begins with, where calls that begin alike wait for the first of them.
    pub prefix: Option<RehearsedPrefix>,
    /// Its money; `None`: no price.
    pub money: Option<RehearsedMoney>,
}

/// What is set aside for a call, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RehearsedMoney {
    /// The dearest price that it can meet.
    pub dearest: Price,
    /// What earlier runs saw.
    pub longest: Longest,
    /// What it costs in the end.
    pub cost: Money,
}

/// Where a budget ends a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutOfMoney {
    /// How far the budget is used up.
    pub used: Used,
    /// The node whose call does not fit.
    pub node: usize,
    /// What is set aside for such a call.
    pub next: Money,
    /// Nodes that were called.
    pub called: u64,
}

/// What calls begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RehearsedPrefix {
    /// The same for the nodes of a persona that begin alike.
    pub group: usize,
    /// True where all personas begin alike.
    pub of_all: bool,
    /// How long a provider keeps it after its last use.
    pub lifetime: Duration,
}

impl Rehearsal {
    /// From the start to the last answer.
    pub fn duration(&self) -> Duration {
        let all = calls(&self.personas);
        if all <= MOST_CALLS {
            return self.rehearse(&self.personas, Duration::MAX).took;
        }
        let (half, whole) = self.begin();
        let took = whole.took;
        took + took
            .saturating_sub(half.took)
            .mul_f64(rest(all, &whole) / second(&half, &whole))
    }

    /// How many nodes have been called by then, if nothing is sent from that time on.
    pub fn sent_by(&self, time: Duration) -> u64 {
        let all = calls(&self.personas);
        if all <= MOST_CALLS {
            return self.rehearse(&self.personas, time).sent;
        }
        let (half, whole) = self.begin();
        if time <= half.took {
            return self
                .rehearse(&self.part(MOST_CALLS as f64 / all as f64), time)
                .sent;
        }
        let second_took = whole.took.saturating_sub(half.took).as_secs_f64();
        let share = time.saturating_sub(half.took).as_secs_f64() / second_took.max(f64::MIN_POSITIVE);
        let sent = half.sent as f64 + share * second(&half, &whole);
        (sent as u64).min(all)
    }

    /// Where the budget ends it; `None`: it does not, as far as it is rehearsed.
    pub fn out_of_money(&self) -> Option<OutOfMoney> {
        if self.budget.is_empty() {
            return None;
        }
        let share = (MOST_CALLS as f64 / calls(&self.personas).max(1) as f64).min(1.0);
        let stage = |budget: &[Limit]| self.stage(&self.part(share), Duration::MAX, budget);
        stage(&self.budget).play().out_of_money
    }

    /// Where there are more calls than are rehearsed: half of those that are, and all of them.
    fn begin(&self) -> (Played, Played) {
        let share = MOST_CALLS as f64 / calls(&self.personas) as f64;
        let rehearse = |share| self.rehearse(&self.part(share), Duration::MAX);
        (rehearse(share / 2.0), rehearse(share))
    }

    fn part(&self, share: f64) -> Vec<(Vec<bool>, u64)> {
        let some = |count: u64| ((count as f64 * share).round() as u64).max(1);
        let of = |(called, count): &(Vec<bool>, u64)| (called.clone(), some(*count));
        self.personas.iter().map(of).collect()
    }

    /// Plays these personas; nothing is sent at `until` or later.
    fn rehearse(&self, personas: &[(Vec<bool>, u64)], until: Duration) -> Played {
        self.stage(personas, until, &[]).play()
    }

    fn stage(&self, personas: &[(Vec<bool>, u64)], until: Duration, budget: &[Limit]) -> Stage<'_> {
        let all: u64 = personas.iter().map(|(_, count)| count).sum();
        let names: Vec<PersonaId> = (0..all).map(|number| number.to_string().into()).collect();
        Stage {
            budget: Budget::new(budget.to_vec()),
            longest: self.nodes.iter().map(|node| Some(node.money?.longest)).collect(),
            set_aside: HashMap::new(),
            out_of_money: None,
            rehearsal: self,
            schedule: Schedule::new(self.graph.clone(), names, self.settings.clone()),
            limits: Limits::new(self.requests_per_minute, self.tokens_per_minute),
            now: Duration::ZERO,
            until,
            ends: BinaryHeap::new(),
            reserved: HashMap::new(),
            answered: vec![false; self.graph.len()],
            open: Vec::new(),
            shapes: mixed(personas),
            due: vec![0.0; self.graph.len()],
            bad: HashMap::new(),
            keys: 0,
            calls: 0,
            sent: 0,
            over: false,
        }
    }
}

/// What came of it.
struct Played {
    took: Duration,
    sent: u64,
    out_of_money: Option<OutOfMoney>,
}

fn calls(personas: &[(Vec<bool>, u64)]) -> u64 {
    let of = |(called, count): &(Vec<bool>, u64)| called.iter().filter(|c| **c).count() as u64 * count;
    personas.iter().map(of).sum()
}

/// The calls of the second half.
fn second(half: &Played, whole: &Played) -> f64 {
    whole.sent.saturating_sub(half.sent).max(1) as f64
}

/// The calls that are not rehearsed.
fn rest(all: u64, whole: &Played) -> f64 {
    all.saturating_sub(whole.sent) as f64
}

/// Which shape each persona has: evenly mixed, as names mix them.
fn mixed(personas: &[(Vec<bool>, u64)]) -> Vec<usize> {
    let mut places: Vec<(f64, usize)> = Vec::new();
    for (shape, (_, count)) in personas.iter().enumerate() {
        places.extend((0..*count).map(|i| ((i as f64 + 0.5) / *count as f64, shape)));
    }
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    places.into_iter().map(|(_, shape)| shape).collect()
}

struct Stage<'a> {
    rehearsal: &'a Rehearsal,
    schedule: Schedule,
    limits: Limits,
    budget: Budget,
    /// By node; `None`: no price.
    longest: Vec<Option<Longest>>,
    set_aside: HashMap<Handle, Money>,
    out_of_money: Option<OutOfMoney>,
    now: Duration,
    /// Nothing is sent from then on.
    until: Duration,
    /// When calls in flight are answered.
    ends: BinaryHeap<Reverse<(Duration, Handle)>>,
    reserved: HashMap<Handle, u64>,
    answered: Vec<bool>,
    /// The number of the persona in each slot.
    open: Vec<usize>,
    /// By persona.
    shapes: Vec<usize>,
    /// Bad answers of each node that are still to come, as fractions add up.
    due: Vec<f64>,
    /// How many more a call in flight will have.
    bad: HashMap<Handle, u32>,
    keys: u64,
    /// Calls that were made.
    calls: u64,
    /// Nodes that were called.
    sent: u64,
    over: bool,
}

impl Stage<'_> {
    fn play(mut self) -> Played {
        self.turn(Input::Start);
        while !self.over && self.now < self.until {
            let wake = self.send();
            if self.over {
                break;
            }
            let end = self.ends.peek().map(|Reverse((at, _))| *at);
            match (end, wake) {
                (Some(end), wake) if wake.is_none_or(|wake| end <= wake) => self.answer(end),
                (_, Some(wake)) => self.now = wake,
                // A call that is larger than a minute's tokens would wait for ever.
                _ => break,
            }
        }
        Played {
            took: self.now,
            sent: self.sent,
            out_of_money: self.out_of_money,
        }
    }

    /// Sends what may be sent now; returns when to try again though nothing happens.
    fn send(&mut self) -> Option<Duration> {
        loop {
            let Some((handle, tokens)) = self.schedule.candidate(self.now) else {
                return self.schedule.wake_at(self.now);
            };
            let next = self.next_cost(handle.node);
            match self.budget.room(next) {
                Room::Enough => {}
                Room::Later => return None,
                Room::Never(used) => {
                    self.out_of_money = Some(OutOfMoney {
                        used,
                        node: handle.node,
                        next,
                        called: self.sent,
                    });
                    self.over = true;
                    return None;
                }
            }
            let tokens = tokens.min(self.limits.most_tokens().unwrap_or(u64::MAX));
            if let Err(later) = self.limits.take(self.now, tokens) {
                return Some(later);
            }
            self.budget.reserve(next);
            self.set_aside.insert(handle, next);
            self.turn(Input::Granted { handle });
        }
    }

    /// What is set aside for the next call of a node.
    fn next_cost(&self, node: usize) -> Money {
        let rehearsed = &self.rehearsal.nodes[node];
        let price = rehearsed.money.zip(self.longest[node]);
        price.map_or(Money::ZERO, |(money, longest)| {
            let output = longest.careful(rehearsed.cap);
            money.dearest.at_most(rehearsed.input.ceil() as u64, output)
        })
    }

    fn answer(&mut self, at: Duration) {
        self.now = at;
        if let Some(Reverse((_, handle))) = self.ends.pop() {
            // A bad answer's node is not rendered again: the next call reserves the same.
            let reserved = self.reserved.get(&handle).copied().unwrap_or(0);
            let node = &self.rehearsal.nodes[handle.node];
            let set_aside = self.set_aside.remove(&handle).unwrap_or_default();
            self.budget
                .settle(set_aside, node.money.map_or(Money::ZERO, |money| money.cost));
            if let Some(longest) = &mut self.longest[handle.node] {
                longest.add(node.output);
            }
            let used = (node.input + node.output).round() as u64;
            let used = if self.rehearsal.reserves_output_cap {
                used.max(reserved)
            } else {
                used
            };
            self.limits.settle(self.now, self.now, reserved, used);
            self.answered[handle.node] = true;
            let input = match self.is_bad(handle) {
                true => Input::Rejected {
                    handle,
                    misfit: Rejection::Truncated.into(),
                    cut: None,
                    jitter: 0.5,
                },
                false => {
                    self.reserved.remove(&handle);
                    Input::Answered { handle }
                }
            };
            self.turn(input);
        }
    }

    /// Says whether an answer is bad. Bad ones are dealt out evenly, and none so often that its node
    /// fails: what fails takes no more time than what is good in the end.
    fn is_bad(&mut self, handle: Handle) -> bool {
        let due = &mut self.due[handle.node];
        let left = self.bad.entry(handle).or_insert_with(|| {
            *due += self.rehearsal.nodes[handle.node].again;
            let bad = (*due + 1e-9)
                .floor()
                .min(f64::from(self.rehearsal.settings.retry.rejected));
            *due -= bad;
            bad as u32
        });
        if *left == 0 {
            self.bad.remove(&handle);
            return false;
        }
        *left -= 1;
        true
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
                self.open.resize(self.open.len().max(slot + 1), 0);
                self.open[slot] = number;
                inputs.push_back(Input::Opened { slot, result: Ok(()) });
            }
            Action::Render { handle } => {
                self.keys += 1;
                let mut key = [0; 32];
                key[..8].copy_from_slice(&self.keys.to_le_bytes());
                let (key, tokens) = (Key::from(key), self.reserve(handle));
                self.reserved.insert(handle, tokens);
                inputs.push_back(Input::Rendered {
                    handle,
                    key,
                    tokens,
                    prefix: self.prefix(handle),
                });
            }
            Action::Look { handle } => {
                let shape = self.shapes[self.open[handle.slot]];
                let (called, _) = &self.rehearsal.personas[shape];
                let hit = !called[handle.node];
                inputs.push_back(Input::Looked { handle, hit });
            }
            Action::Send { handle, .. } => {
                self.calls += 1;
                self.sent += u64::from(!self.bad.contains_key(&handle));
                let end = self.now + self.takes(handle.node);
                self.ends.push(Reverse((end, handle)));
            }
            Action::Close { slot, .. } => inputs.push_back(Input::Closed { slot, failed: false }),
            Action::End(_) => self.over = true,
            _ => {}
        }
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

    /// As `estimate` does it in a run.
    fn reserve(&self, handle: Handle) -> u64 {
        let node = &self.rehearsal.nodes[handle.node];
        let output = match node.cap {
            Some(cap) if self.rehearsal.reserves_output_cap => cap,
            _ if self.answered[handle.node] => node.output,
            _ => node.first_output,
        };
        (node.input + output).ceil() as u64
    }

    /// How long the next call of a node takes: around the mean, evenly between what its deviation
    /// says (whose bounds lie a root of three of it off).
    fn takes(&mut self, node: usize) -> Duration {
        let node = &self.rehearsal.nodes[node];
        let place = (self.calls as f64 * GOLDEN).fract() * 2.0 - 1.0;
        let seconds = node.seconds + node.stray * 3.0_f64.sqrt() * place;
        Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests;
