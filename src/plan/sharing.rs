//! What a pipeline's prompts leave on the table of a provider's prompt cache: text that all calls
//! of a persona have in common and that stands behind what differs, instructions that are not the
//! same for all personas, and a shared part that is just too short. It is given rendered requests,
//! and judges only what costs tokens.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use crate::call::prompt_cache::{LEAST_TOKENS, RENDERED, shared_tokens};
use crate::call::{Money, Prefix, Price, Request, Role, Usage};

/// Less than this, in the prompt of one call, is nobody's while.
const WORTH_A_WORD: u64 = 128;
/// Shares of the input price where none is known: reading, and writing (OpenAI from gpt-5.6 on,
/// 2026-11).
const USUAL_READ: f64 = 0.1;
const USUAL_WRITE: f64 = 1.25;

/// Something that costs money for nothing, over all personas that were looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The calls of a persona have text in common behind the place where they begin to differ.
    Late {
        /// Calls of one persona.
        calls: usize,
        personas: u64,
        /// The mean of the common text of one call that stands too late.
        tokens: u64,
        cost: Cost,
    },
    /// The system message is not the same for all personas, and without what differs it would be
    /// long enough to be kept for all of them.
    Instructions { personas: u64, tokens: u64, cost: Cost },
    /// What the calls of a persona share is too short to be kept, and longer it would cost less.
    Short {
        calls: usize,
        personas: u64,
        /// The mean of what they share.
        tokens: u64,
        cost: Cost,
    },
}

/// What a run of all these personas pays too much for, if no answer is there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Tokens at the full price that could have been read from the cache.
    pub tokens: u64,
    /// `None`: no price.
    pub money: Option<Money>,
}

/// A sum of what was found in each persona.
#[derive(Clone, Copy, Debug)]
struct Sum {
    personas: u64,
    calls: usize,
    tokens: u64,
    cost: Cost,
}

/// Looks at one persona after the other; keeps sums and the hashes of one system message.
#[derive(Debug)]
pub struct Survey {
    prices: Vec<Option<Price>>,
    hasher: RandomState,
    late: Sum,
    short: Sum,
    personas: u64,
    system: Option<System>,
}

/// What the system messages of the personas so far have in common.
#[derive(Debug)]
struct System {
    first: String,
    /// Bytes of it that all begin with.
    same: usize,
    /// The lines that all have, by their hash.
    lines: HashSet<u64>,
    price: Option<Price>,
}

impl Survey {
    /// Has seen nobody. `prices` are those of the nodes' models.
    pub fn new(prices: Vec<Option<Price>>) -> Self {
        Self {
            prices,
            hasher: RandomState::new(),
            late: Sum::NOTHING,
            short: Sum::NOTHING,
            personas: 0,
            system: None,
        }
    }

    /// Looks at the requests of one persona's nodes, each with its node. Those in `roots` need no
    /// other and are sent side by side; what the others say of answers may be anything.
    pub fn persona(&mut self, roots: &[(usize, Request)], others: &[(usize, Request)]) {
        self.personas += 1;
        let mut alike: BTreeMap<(&str, String), Vec<(usize, &Request)>> = BTreeMap::new();
        for (node, request) in roots {
            let parameters = RENDERED.map(|name| request.parameters.get(name));
            let identity = (&*request.model, format!("{parameters:?}"));
            alike.entry(identity).or_default().push((*node, request));
        }
        for group in alike.values().filter(|group| group.len() > 1) {
            self.late(group);
        }
        let mut prefixes: BTreeMap<Prefix, Vec<(usize, &Request)>> = BTreeMap::new();
        for (node, request) in roots.iter().chain(others) {
            if let Some(prefix) = Prefix::of(request) {
                prefixes.entry(prefix).or_default().push((*node, request));
            }
        }
        for group in prefixes.values().filter(|group| group.len() > 1) {
            self.short(group);
        }
        if let Some((node, request)) = roots.first() {
            self.instructions(*node, request);
        }
    }

    /// What was found, the most expensive kind first.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let worth = |sum: &Sum| sum.personas > 0 && sum.cost.money != Some(Money::ZERO);
        let late = Some(self.late).filter(|sum| worth(sum) && sum.mean() >= WORTH_A_WORD);
        findings.extend(late.map(|sum| Finding::Late {
            calls: sum.calls,
            personas: sum.personas,
            tokens: sum.mean(),
            cost: sum.cost,
        }));
        findings.extend(self.varying_instructions());
        findings.extend(Some(self.short).filter(worth).map(|sum| Finding::Short {
            calls: sum.calls,
            personas: sum.personas,
            tokens: sum.mean(),
            cost: sum.cost,
        }));
        findings
    }

    fn late(&mut self, group: &[(usize, &Request)]) {
        let texts: Vec<Vec<&str>> = group.iter().map(|(_, request)| texts(request)).collect();
        let same = texts[1..]
            .iter()
            .map(|other| common_prefix(&texts[0], other))
            .min()
            .unwrap_or_default();
        let mut common: Option<BTreeMap<u64, usize>> = None;
        for text in &texts {
            let lines = self.lines_behind(text, same);
            common = Some(match common {
                None => lines,
                Some(mut common) => {
                    common.retain(|hash, _| lines.contains_key(hash));
                    common
                }
            });
        }
        let late = common.unwrap_or_default().values().sum::<usize>() as u64 / 4;
        let (calls, price) = (group.len(), self.prices[group[0].0]);
        let before = same as u64 / 4;
        let [now, then] = [before, before + late].map(|prefix| Input::of(calls, prefix, before + late));
        if late > 0 {
            self.late.add(calls, late, now.over(then), price);
        }
    }

    fn short(&mut self, group: &[(usize, &Request)]) {
        let (node, request) = group[0];
        let (calls, tokens, price) = (group.len(), shared_tokens(request), self.prices[node]);
        let shares = price.map(|price| price.shares_of_input());
        let (read, write) = shares.unwrap_or((USUAL_READ, USUAL_WRITE));
        // Above this, all calls together pay more for it than for one that is long enough.
        let pays = LEAST_TOKENS as f64 * (read + (write - read) / calls as f64);
        if tokens < LEAST_TOKENS && tokens as f64 > pays {
            let (now, then) = (
                Input::of(calls, tokens, tokens),
                Input::of(calls, LEAST_TOKENS, LEAST_TOKENS),
            );
            self.short.add(calls, tokens, now.over(then), price);
        }
    }

    fn instructions(&mut self, node: usize, request: &Request) {
        let text = request
            .messages
            .first()
            .filter(|message| message.role == Role::System)
            .map_or("", |message| &*message.content);
        let lines = |text: &str| {
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            lines
                .map(|line| self.hasher.hash_one(line))
                .collect::<HashSet<u64>>()
        };
        match &mut self.system {
            None => {
                self.system = Some(System {
                    lines: lines(text),
                    same: text.len(),
                    first: text.to_owned(),
                    price: self.prices[node],
                });
            }
            Some(system) if system.first == text => {}
            Some(system) => {
                system.same = system.same.min(common_prefix(&[&system.first], &[text]));
                let lines = lines(text);
                system.lines.retain(|line| lines.contains(line));
            }
        }
    }

    /// Instructions that are written anew for each persona and could be read.
    fn varying_instructions(&self) -> Option<Finding> {
        let system = self.system.as_ref()?;
        let begin = system.same as u64 / 4;
        let same: usize = system
            .first
            .lines()
            .filter(|line| system.lines.contains(&self.hasher.hash_one(line)))
            .map(|line| line.chars().count() + 1)
            .sum();
        let whole = (same as u64 / 4).max(begin);
        if system.same == system.first.len() || whole < LEAST_TOKENS || begin >= LEAST_TOKENS {
            return None;
        }
        let calls = self.personas as usize;
        let (now, then) = (
            Input::of(1, 0, whole).times(self.personas),
            Input::of(calls, whole, whole),
        );
        let cost = now.over(then).cost(system.price);
        (cost.money != Some(Money::ZERO)).then_some(Finding::Instructions {
            personas: self.personas,
            tokens: whole,
            cost,
        })
    }

    /// The lines of a prompt behind its first bytes, by their hash, with their characters.
    fn lines_behind(&self, texts: &[&str], bytes: usize) -> BTreeMap<u64, usize> {
        let mut skip = bytes;
        let mut found = BTreeMap::new();
        for text in texts {
            let from = skip.min(text.len());
            skip -= from;
            let from = (from..text.len()).find(|&at| text.is_char_boundary(at));
            let rest = from.map_or("", |from| &text[from..]);
            for line in rest.lines().filter(|line| !line.trim().is_empty()) {
                found.insert(self.hasher.hash_one(line), line.chars().count() + 1);
            }
        }
        found
    }
}

impl Sum {
    const NOTHING: Sum = Sum {
        personas: 0,
        calls: 0,
        tokens: 0,
        cost: Cost {
            tokens: 0,
            money: Some(Money::ZERO),
        },
    };

    fn add(&mut self, calls: usize, tokens: u64, waste: Waste, price: Option<Price>) {
        let cost = waste.cost(price);
        if waste.tokens == 0 || cost.money.is_some_and(|money| money <= Money::ZERO) {
            return;
        }
        self.personas += 1;
        self.calls = self.calls.max(calls);
        self.tokens += tokens;
        self.cost.tokens += cost.tokens;
        self.cost.money = self.cost.money.zip(cost.money).map(|(sum, money)| sum + money);
    }

    fn mean(&self) -> u64 {
        self.tokens / self.personas.max(1)
    }
}

/// The input of calls that begin alike.
#[derive(Clone, Copy)]
struct Input {
    all: u64,
    read: u64,
    written: u64,
}

/// What one input costs more than another.
#[derive(Clone, Copy)]
struct Waste {
    now: Input,
    then: Input,
    tokens: u64,
}

impl Input {
    /// So many calls that begin with `prefix` tokens, of `whole` that are looked at.
    fn of(calls: usize, prefix: u64, whole: u64) -> Self {
        let calls = calls as u64;
        let kept = prefix >= LEAST_TOKENS && calls > 1;
        Self {
            all: calls * whole,
            read: if kept { (calls - 1) * prefix } else { 0 },
            written: if kept { prefix } else { 0 },
        }
    }

    fn times(self, times: u64) -> Self {
        Self {
            all: self.all * times,
            read: self.read * times,
            written: self.written * times,
        }
    }

    fn over(self, then: Self) -> Waste {
        Waste {
            now: self,
            then,
            tokens: then.read.saturating_sub(self.read),
        }
    }

    fn cost(self, price: &Price) -> Money {
        price.cost(&Usage {
            input: self.all,
            cached_input: Some(self.read),
            cache_write: Some(self.written),
            ..Usage::default()
        })
    }
}

impl Waste {
    fn cost(self, price: Option<Price>) -> Cost {
        Cost {
            tokens: self.tokens,
            money: price.map(|price| self.now.cost(&price) - self.then.cost(&price)),
        }
    }
}

/// What is said, message after message.
fn texts(request: &Request) -> Vec<&str> {
    request.messages.iter().map(|message| &*message.content).collect()
}

/// Bytes that two prompts begin with.
fn common_prefix(one: &[&str], other: &[&str]) -> usize {
    let mut same = 0;
    for (one, other) in one.iter().zip(other) {
        let bytes = one.bytes().zip(other.bytes());
        let here = bytes.take_while(|(a, b)| a == b).count();
        same += here;
        if here < one.len() || here < other.len() {
            break;
        }
    }
    same
}

#[cfg(test)]
mod tests;
