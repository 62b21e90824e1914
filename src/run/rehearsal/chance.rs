//! What a call of a rehearsal is like: how long it takes, how long its answer is, and whether it is
//! one. Dealt out evenly, so that one rehearsal tells the middle; or drawn from what earlier calls
//! were like, so that several of them tell how far it strays.

use std::f64::consts::TAU;

use fastrand::Rng;

use crate::events::Spread;

use super::{Rehearsal, Rehearsed};

/// Where the golden ratio cuts: its multiples lie evenly, however many there are.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// So many parts a distribution is looked up by.
const PARTS: usize = 256;

/// What one call is going to be like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Draw {
    /// From sending to its end, in seconds.
    pub seconds: f64,
    /// Output tokens.
    pub output: f64,
    pub end: End,
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Answered,
    /// With a bad answer.
    Rejected,
    /// With the fault of its node that has this number.
    Faulted(usize),
}

/// Which call it is. What is drawn for one does not depend on when it is made, so that rehearsals with
/// other limits meet the same chances.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The number of its persona.
    pub persona: usize,
    pub node: usize,
    /// Counts from 1; 0 for what holds for all of them.
    pub attempt: u32,
}

/// What is to come for a node of an open persona.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fate {
    /// Bad answers that are still to come, where they are dealt out.
    bad: Option<u32>,
    /// Every answer will be bad.
    hopeless: Option<bool>,
}

/// Where what differs from call to call comes from.
pub(super) enum Chance {
    /// Dealt out evenly.
    Even(Even),
    /// Drawn.
    Drawn(Box<Drawn>),
}

/// Everything comes as often as it is likely to, at even distances.
#[derive(Default)]
pub(super) struct Even {
    calls: u64,
    /// By node: bad answers that are still to come, as fractions add up.
    bad: Vec<f64>,
    /// By node and fault, likewise.
    faults: Vec<Vec<f64>>,
}

pub(super) struct Drawn {
    seed: u64,
    nodes: Vec<Node>,
}

/// What is drawn for one node.
struct Node {
    /// Of one attempt to be bad, unless every one is.
    bad: f64,
    output: Option<Quantiles>,
    seconds: Quantiles,
    /// Of each of its faults.
    faults: Vec<Option<Quantiles>>,
}

/// A distribution, by even parts of it.
struct Quantiles(Box<[f64]>);

impl Chance {
    pub fn even(rehearsal: &Rehearsal) -> Self {
        Self::Even(Even {
            calls: 0,
            bad: vec![0.0; rehearsal.nodes.len()],
            faults: rehearsal
                .nodes
                .iter()
                .map(|node| vec![0.0; node.faults.len()])
                .collect(),
        })
    }

    pub fn seeded(rehearsal: &Rehearsal, seed: u64) -> Self {
        let rejected = rehearsal.settings.retry.rejected;
        Self::Drawn(Box::new(Drawn {
            seed,
            nodes: rehearsal
                .nodes
                .iter()
                .map(|node| Node::new(node, rejected))
                .collect(),
        }))
    }

    /// The random number that goes with what came of a call.
    pub fn jitter(&self, place: Place) -> f64 {
        match self {
            Self::Even(_) => 0.5,
            Self::Drawn(drawn) => drawn.generator(place, Purpose::Jitter).f64(),
        }
    }

    /// The next call of a node; `rejected`: so many bad answers fail it at most.
    pub fn draw(&mut self, place: Place, known: &Rehearsed, fate: &mut Fate, rejected: u32) -> Draw {
        match self {
            Self::Even(even) => even.draw(place.node, known, fate, rejected),
            Self::Drawn(drawn) => drawn.draw(place, known, fate),
        }
    }
}

impl Even {
    fn draw(&mut self, node: usize, known: &Rehearsed, fate: &mut Fate, rejected: u32) -> Draw {
        self.calls += 1;
        let (mut end, mut seconds) = (self.end(node, known, fate, rejected), known.seconds);
        let mut stray = known.stray;
        for (number, fault) in known.faults.iter().enumerate() {
            let due = &mut self.faults[node][number];
            *due += fault.share;
            if *due >= 1.0 - 1e-9 && !matches!(end, End::Faulted(_)) {
                *due -= 1.0;
                if end == End::Rejected {
                    // It is still to come.
                    fate.bad = fate.bad.map(|bad| bad + 1);
                }
                end = End::Faulted(number);
                (seconds, stray) = (fault.seconds, 0.0);
            }
        }
        // Evenly between what the deviation says, whose bounds lie a root of three of it off.
        let place = (self.calls as f64 * GOLDEN).fract() * 2.0 - 1.0;
        Draw {
            seconds: seconds + stray * 3.0_f64.sqrt() * place,
            output: known.output,
            end,
        }
    }

    /// Bad ones are dealt out evenly, and none so often that its node fails: what fails takes no
    /// more time than what is good in the end.
    fn end(&mut self, node: usize, known: &Rehearsed, fate: &mut Fate, rejected: u32) -> End {
        let due = &mut self.bad[node];
        let left = fate.bad.get_or_insert_with(|| {
            *due += known.again;
            let bad = (*due + 1e-9).floor().min(f64::from(rejected));
            *due -= bad;
            bad as u32
        });
        if *left == 0 {
            return End::Answered;
        }
        *left -= 1;
        End::Rejected
    }
}

/// What a generator is for: each purpose has its own.
#[derive(Clone, Copy)]
enum Purpose {
    Call,
    Jitter,
}

impl Drawn {
    fn generator(&self, place: Place, purpose: Purpose) -> Rng {
        let of = |a: u64, b: u64| mixed(a ^ mixed(b));
        let node = place.node as u64 * 2 + purpose as u64;
        Rng::with_seed(of(
            of(self.seed, place.persona as u64),
            node << 32 | u64::from(place.attempt),
        ))
    }

    fn draw(&self, place: Place, known: &Rehearsed, fate: &mut Fate) -> Draw {
        let of = &self.nodes[place.node];
        let hopeless = *fate.hopeless.get_or_insert_with(|| {
            let always = Place { attempt: 0, ..place };
            known.lost > 0.0 && self.generator(always, Purpose::Call).f64() < known.lost
        });
        let mut rng = self.generator(place, Purpose::Call);
        let mut chance = rng.f64();
        for (number, fault) in known.faults.iter().enumerate() {
            if chance < fault.share {
                let seconds = of.faults[number].as_ref();
                return Draw {
                    seconds: seconds.map_or(fault.seconds, |seconds| seconds.at(rng.f64())),
                    output: 0.0,
                    end: End::Faulted(number),
                };
            }
            chance -= fault.share;
        }
        let (length, time) = places(&mut rng, known.correlation);
        let end = match hopeless || rng.f64() < of.bad {
            true => End::Rejected,
            false => End::Answered,
        };
        let output = match end {
            End::Rejected => known.bad_output,
            _ => of
                .output
                .as_ref()
                .map_or(known.output, |output| output.at(length)),
        };
        Draw {
            seconds: of.seconds.at(time),
            output: output.min(known.cap.unwrap_or(f64::INFINITY)),
            end,
        }
    }
}

/// The finalizer of splitmix64: neighbours have nothing in common.
fn mixed(seed: u64) -> u64 {
    let mut seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

/// Where in their distributions a length and a time lie: each evenly, and together as the
/// correlation says.
fn places(rng: &mut Rng, correlation: f64) -> (f64, f64) {
    if correlation == 0.0 {
        return (rng.f64(), rng.f64());
    }
    // Two independent values of the normal distribution (Box and Muller).
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    let (sin, cos) = (TAU * rng.f64()).sin_cos();
    let (first, other) = (radius * cos, radius * sin);
    let second = correlation * first + (1.0 - correlation * correlation).max(0.0).sqrt() * other;
    (below(first), below(second))
}

impl Node {
    fn new(known: &Rehearsed, rejected: u32) -> Self {
        let output = match &known.lengths {
            Some(seen) => Some(Quantiles::of(seen, known.output)),
            // Nothing is known: as likely short as long.
            None => known.evenly.then(|| {
                let high = known.cap.unwrap_or(f64::INFINITY).min(2.0 * known.output);
                Quantiles::evenly(2.0 * known.output - high, high)
            }),
        };
        let stray = known.stray * 3.0_f64.sqrt();
        let seconds = match &known.latencies {
            Some(seen) => Quantiles::of(seen, known.seconds),
            None => Quantiles::evenly((known.seconds - stray).max(0.0), known.seconds + stray),
        };
        let of_fault = |fault: &super::RehearsedFault| {
            let seen = fault.latencies.as_ref()?;
            Some(Quantiles::of(seen, fault.seconds))
        };
        Self {
            bad: bad(known, rejected),
            output,
            seconds,
            faults: known.faults.iter().map(of_fault).collect(),
        }
    }
}

/// How likely one answer is to be bad, where it is not known of its node that every one is, so that
/// all together are made again as often as is known.
fn bad(known: &Rehearsed, rejected: u32) -> f64 {
    let again = (known.again - known.lost * f64::from(rejected)).max(0.0) / (1.0 - known.lost).max(1e-9);
    let most = f64::from(rejected);
    let times = |bad: f64| (1..=rejected).map(|times| bad.powi(times as i32)).sum::<f64>();
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        match times(middle) < again.min(most) {
            true => low = middle,
            false => high = middle,
        }
    }
    if again > 0.0 { high } else { 0.0 }
}

impl Quantiles {
    /// As it was seen, stretched so that its mean is another one.
    fn of(seen: &Spread, mean: f64) -> Self {
        let ranges: Vec<(f64, f64, u64)> = seen.ranges().collect();
        let all: u64 = ranges.iter().map(|(.., n)| n).sum();
        if all == 0 {
            return Self::evenly(mean, mean);
        }
        let (mut at, mut below) = (0, 0.0);
        let mut value = |place: f64| {
            let wanted = place * all as f64;
            while wanted > below + ranges[at].2 as f64 && at + 1 < ranges.len() {
                below += ranges[at].2 as f64;
                at += 1;
            }
            let (low, high, n) = ranges[at];
            low + (high - low) * ((wanted - below) / n as f64).clamp(0.0, 1.0)
        };
        let mut parts: Vec<f64> = (0..PARTS)
            .map(|part| value((part as f64 + 0.5) / PARTS as f64))
            .collect();
        let now = parts.iter().sum::<f64>() / PARTS as f64;
        if now > 0.0 {
            parts.iter_mut().for_each(|part| *part *= mean / now);
        }
        Self(parts.into())
    }

    fn evenly(low: f64, high: f64) -> Self {
        let part = |part: usize| low + (high - low) * (part as f64 + 0.5) / PARTS as f64;
        Self((0..PARTS).map(part).collect())
    }

    /// The value below which this share lies, 0 to 1.
    fn at(&self, place: f64) -> f64 {
        let part = (place * PARTS as f64) as usize;
        self.0[part.min(PARTS - 1)]
    }
}

/// The share of the normal distribution that lies below a value (Abramowitz and Stegun, 26.2.17).
fn below(value: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * value.abs());
    let tail = (-value * value / 2.0).exp() / TAU.sqrt()
        * t
        * (0.319_381_530
            + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    if value < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_is_what_tables_say() {
        for (value, share) in [(0.0, 0.5), (1.0, 0.841_345), (-1.0, 0.158_655), (1.96, 0.975_002)] {
            assert!((below(value) - share).abs() < 1e-5, "{value}: {}", below(value));
        }
    }

    #[test]
    fn what_is_drawn_is_as_what_was_seen_with_the_mean_that_is_wanted() {
        let mut seen = Spread::default();
        (0..900).for_each(|i| seen.add(100 + i % 100));
        (0..100).for_each(|i| seen.add(2_000 + i));
        let mean = seen.mean().unwrap();
        let same = Quantiles::of(&seen, mean);
        assert!((same.at(0.5) / 155.0 - 1.0).abs() < 0.1, "{}", same.at(0.5));
        assert!((same.at(0.95) / 2_050.0 - 1.0).abs() < 0.1, "{}", same.at(0.95));
        let twice = Quantiles::of(&seen, 2.0 * mean);
        assert!((twice.0.iter().sum::<f64>() / 256.0 / mean - 2.0).abs() < 1e-9);
        assert!((twice.at(0.5) / same.at(0.5) - 2.0).abs() < 1e-9 + 0.05);
    }

    /// What is drawn for so many calls of a node.
    fn draws(known: &Rehearsed, rejected: u32, calls: usize) -> Vec<Draw> {
        let drawn = Drawn {
            seed: 3,
            nodes: vec![Node::new(known, rejected)],
        };
        let draw = |persona| {
            let place = Place {
                persona,
                node: 0,
                attempt: 1,
            };
            drawn.draw(place, known, &mut Fate::default())
        };
        (0..calls).map(draw).collect()
    }

    #[test]
    fn what_is_drawn_comes_as_often_as_it_did() {
        let fault = |share: f64| super::super::RehearsedFault {
            kind: crate::call::FaultKind::ServerError,
            share,
            seconds: 0.5,
            latencies: None,
            retry_after: None,
            may_be_billed: false,
        };
        let known = Rehearsed {
            output: 100.0,
            bad_output: 400.0,
            again: 0.11,
            seconds: 2.0,
            faults: vec![fault(0.02), fault(0.05)],
            ..Rehearsed::default()
        };
        let draws = draws(&known, 2, 50_000);
        let share = |end: End| draws.iter().filter(|draw| draw.end == end).count() as f64 / 50_000.0;
        assert!((share(End::Faulted(0)) - 0.02).abs() < 0.003);
        assert!((share(End::Faulted(1)) - 0.05).abs() < 0.004);
        // A tenth of the answers, and a hundredth of the nodes twice.
        let bad = share(End::Rejected) / (share(End::Rejected) + share(End::Answered));
        assert!((bad - 0.1).abs() < 0.006, "{bad}");
        assert_eq!(
            draws,
            super::tests::draws(&known, 2, 50_000),
            "a seed draws the same again"
        );
    }

    #[test]
    fn nodes_whose_answers_are_all_bad_are_bad_each_time() {
        let known = Rehearsed {
            lost: 0.25,
            again: 0.5,
            ..Rehearsed::default()
        };
        let drawn = Drawn {
            seed: 1,
            nodes: vec![Node::new(&known, 2)],
        };
        let mut bad = 0;
        for persona in 0..4_000 {
            let mut fate = Fate::default();
            let ends = [1, 2, 3].map(|attempt| {
                let place = Place {
                    persona,
                    node: 0,
                    attempt,
                };
                drawn.draw(place, &known, &mut fate).end
            });
            assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
            bad += usize::from(ends[0] == End::Rejected);
        }
        assert!((900..1_100).contains(&bad), "{bad}");
    }

    #[test]
    fn lengths_and_times_go_together_as_far_as_they_did() {
        for correlation in [0.0, 0.6, 0.95] {
            let mut rng = Rng::with_seed(7);
            let pairs: Vec<(f64, f64)> = (0..20_000).map(|_| places(&mut rng, correlation)).collect();
            let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / 20_000.0;
            assert!((mean(|pair| pair.0) - 0.5).abs() < 0.01 && (mean(|pair| pair.1) - 0.5).abs() < 0.01);
            let both = mean(|pair| (pair.0 - 0.5) * (pair.1 - 0.5)) * 12.0;
            assert!((both - correlation).abs() < 0.04, "{both} for {correlation}");
        }
    }
}
