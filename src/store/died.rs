//! Runs that ended without a word (killed, or the machine went down): what they came to is put
//! together from what they left in the journal, and their open calls are booked as possibly
//! billed. Once: after that they have an end like any other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};

use crate::call::{FaultKind, Money};
use crate::events::{
    Account, Asked, CallCounts, NodeCounts, Outcome, PersonaCounts, PossiblyBilled, RunSummary, TokenCounts,
};
use crate::names::{Instance, NodeId, PersonaId, RunId};
use crate::store::put::Shelf;
use crate::store::reader::Entries;
use crate::store::record::{Entry, Record, Sent};
use crate::store::segment::Position;
use crate::store::{Done, LocalStore, Safety, Store, StoreError};

/// The word for how such a run ended.
pub const DIED: &str = "died";

/// Where the summary of such a run has what was open when it ended.
const OPEN: &str = "open";

/// What is said of a call that was open.
const WAITING: &str = "septet ended while waiting for the answer";

/// What is said of one that has no end although its run has one.
const DAMAGED: &str = "its answer was stored and cannot be read any more";

/// A run that ended without a word, and is told of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Died {
    /// Which.
    pub run: RunId,
    /// The calls that were open then, those apart whose answers can still be fetched.
    pub open: PossiblyBilled,
    /// How many those are.
    pub fetchable: u64,
}

impl LocalStore {
    /// The newest run, if it ended without a word and nothing ran since: whoever only read the cache may
    /// have been the one that was told.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn died_last(&self) -> Result<Option<Died>, StoreError> {
        let Some(Entry::Run { run, summary, .. }) = self.last_run()? else {
            return Ok(None);
        };
        // Of an older septet it is not known.
        let Ok(open) = serde_json::from_value(summary[OPEN].clone()) else {
            return Ok(None);
        };
        let fetchable = self.unfinished().iter();
        let fetchable = fetchable
            .filter(|sent| sent.run == run && sent.job.is_some())
            .count();
        Ok(Some(Died {
            fetchable: fetchable as u64,
            run,
            open,
        }))
    }

    /// Gives an end to each run, and each call, that an earlier process began and left without
    /// one. Returns the runs that are told of for the first time.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn bury(&self) -> Result<Vec<Died>, StoreError> {
        let mut calls: BTreeMap<RunId, Vec<Sent>> = BTreeMap::new();
        for sent in self.unfinished() {
            calls.entry(sent.run.clone()).or_default().push(sent.clone());
        }
        let begun = self.begun();
        let runs: BTreeSet<RunId> = begun.keys().chain(calls.keys()).cloned().collect();
        let mut died = Vec::new();
        for run in runs {
            let calls = calls.remove(&run).unwrap_or_default();
            let (entries, told) = self.ends(run, begun, &calls)?;
            let (done, written) = Done::wait();
            self.append(&entries, Safety::Durable, done);
            written.await?;
            died.extend(told);
        }
        Ok(died)
    }

    /// The ends that a run lacks, and what there is to tell.
    fn ends(
        &self,
        run: RunId,
        begun: &BTreeMap<RunId, Position>,
        calls: &[Sent],
    ) -> Result<(Vec<Entry>, Option<Died>), StoreError> {
        let mut open = PossiblyBilled::default();
        // Whose answer can be fetched has no end yet: whoever needs it takes it over.
        let (fetchable, lost): (Vec<&Sent>, Vec<&Sent>) = calls.iter().partition(|sent| sent.job.is_some());
        lost.iter().for_each(|sent| open.add(sent.most_cost));
        let newest = calls.iter().map(|sent| sent.at_ms).max().unwrap_or(0);
        // A run that has its end has counted its open calls.
        let has_ended = self.has(Shelf::Runs, run.as_str().as_bytes())?;
        // A run ends all its calls before itself: what is open now was lost to damage of the journal.
        let message = if has_ended { DAMAGED } else { WAITING };
        let left = match has_ended {
            true => None,
            false => Some(self.left_by(&run, begun.get(&run).copied(), calls)?),
        };
        let at_ms = left.as_ref().map_or(newest, |left| left.last_ms.max(newest));
        let mut entries: Vec<Entry> = lost.iter().map(|sent| end_of(sent, at_ms, message)).collect();
        let died = left.map(|left| {
            entries.push(left.end(run.clone(), open, at_ms));
            Died {
                run,
                open,
                fetchable: fetchable.len() as u64,
            }
        });
        Ok((entries, died))
    }

    /// Everything that the journal has of a run, from a place on (or from its start) to its end.
    fn left_by(&self, run: &RunId, from: Option<Position>, open: &[Sent]) -> Result<Left, StoreError> {
        let mut left = Left::new();
        for line in Entries::new(self.reader(from)?) {
            // What cannot be read was told when the store was opened.
            if let Ok(logged) = line? {
                left.take(run, logged.entry);
            }
        }
        for sent in open {
            left.calls.sent += 1;
            left.calls.fetched += u64::from(left.fetches(sent));
            left.calls.abandoned += 1;
            if sent.job.is_none() {
                left.account.possibly_billed.add(sent.most_cost);
            }
        }
        Ok(left)
    }
}

fn end_of(sent: &Sent, at_ms: u64, message: &str) -> Entry {
    Entry::Fault {
        run: sent.run.clone(),
        instance: sent.instance.clone(),
        attempt: sent.attempt,
        kind: None,
        message: message.to_owned(),
        may_be_billed: true,
        at_ms,
    }
}

/// What a run left behind.
struct Left {
    about: Value,
    account: Account,
    calls: CallCounts,
    tokens: TokenCounts,
    cost: Option<Money>,
    /// Attempts that have not ended yet.
    sent: HashMap<(Instance, u32), Sent>,
    /// Those of them that only fetch what an earlier attempt sent: their first note has a job already.
    fetching: HashSet<(Instance, u32)>,
    written: BTreeSet<PersonaId>,
    /// True between the run's start and the next one's: only one at a time has the store.
    running: bool,
    first_ms: Option<u64>,
    last_ms: u64,
}

impl Left {
    fn new() -> Self {
        Self {
            about: Value::Null,
            account: Account::default(),
            calls: CallCounts::default(),
            tokens: TokenCounts::default(),
            cost: Some(Money::ZERO),
            sent: HashMap::new(),
            fetching: HashSet::new(),
            written: BTreeSet::new(),
            running: false,
            first_ms: None,
            last_ms: 0,
        }
    }

    fn take(&mut self, of: &RunId, entry: Entry) {
        match entry {
            Entry::Start { run, at_ms, about } => {
                self.running = run == *of;
                if self.running {
                    self.about = about;
                    self.seen(at_ms);
                }
            }
            Entry::Attempt(sent) if sent.run == *of => {
                self.seen(sent.at_ms);
                let attempt = (sent.instance.clone(), sent.attempt);
                if sent.job.is_some() && !self.sent.contains_key(&attempt) {
                    self.fetching.insert(attempt.clone());
                }
                self.sent.insert(attempt, sent);
            }
            Entry::Answer(record) | Entry::Retired { record, .. } if record.run == *of => {
                let asked = self.ended(&record);
                self.calls.ok += 1;
                let (model, node) = (self.model(&record), &record.instance.node);
                let usage = &record.answer.usage;
                self.account
                    .answered(node, &model, usage, record.cost, asked, Some(record.latency_ms));
            }
            Entry::Rejected { record, rejection } if record.run == *of => {
                let asked = self.ended(&record);
                self.calls.rejected += 1;
                let (model, node) = (self.model(&record), &record.instance.node);
                self.account
                    .rejected(node, &model, rejection, &record.answer.usage, record.cost, asked);
            }
            Entry::Fault {
                run,
                instance,
                attempt,
                kind,
                at_ms,
                may_be_billed,
                ..
            } if run == *of => {
                self.seen(at_ms);
                self.calls.sent += 1;
                let sent = self.take_out(instance, attempt);
                match kind {
                    None | Some(FaultKind::Timeout) => self.calls.abandoned += 1,
                    Some(_) => self.calls.faulted += 1,
                }
                // What another attempt took over has not failed.
                let taken_over = |sent: &&Sent| sent.job.is_some() && kind == Some(FaultKind::Connection);
                if let (Some(kind), Some(sent)) = (kind, sent.as_ref().filter(|sent| !taken_over(sent))) {
                    let model = self
                        .model_of(&sent.instance.node)
                        .unwrap_or_else(|| "unknown".to_owned());
                    let latency_ms = at_ms.saturating_sub(sent.at_ms);
                    self.account
                        .faulted(&model, kind, latency_ms, None, may_be_billed);
                }
                if may_be_billed || kind.is_none() {
                    let most = sent.and_then(|sent| sent.most_cost);
                    self.account.possibly_billed.add(most);
                }
            }
            Entry::Transcript { persona, .. } if self.running => _ = self.written.insert(persona),
            _ => {}
        }
    }

    /// Books what an answer cost, and says what was known of its call before.
    fn ended(&mut self, record: &Record) -> Asked {
        self.seen(record.at_ms);
        self.calls.sent += 1;
        self.tokens.add(&record.answer.usage);
        self.cost = self.cost.zip(record.cost).map(|(sum, cost)| sum + cost);
        let sent = self.take_out(record.instance.clone(), record.attempt);
        let (input, most) = sent.map_or((None, None), |sent| (sent.input, sent.most_cost));
        Asked {
            input,
            most,
            output_limit: record.max_output_tokens,
            ..Asked::default()
        }
    }

    /// Ends an attempt, and counts it if it only fetched.
    fn take_out(&mut self, instance: Instance, attempt: u32) -> Option<Sent> {
        let attempt = (instance, attempt);
        self.calls.fetched += u64::from(self.fetching.remove(&attempt));
        self.sent.remove(&attempt)
    }

    fn fetches(&self, sent: &Sent) -> bool {
        self.fetching.contains(&(sent.instance.clone(), sent.attempt))
    }

    fn seen(&mut self, at_ms: u64) {
        self.first_ms.get_or_insert(at_ms);
        self.last_ms = self.last_ms.max(at_ms);
    }

    /// The model that was asked; of an older septet's run, the one that answered.
    fn model(&self, record: &Record) -> String {
        let asked = self.model_of(&record.instance.node);
        asked.unwrap_or_else(|| record.answer.model.clone())
    }

    /// The model that a node asks, as the run told at its start.
    fn model_of(&self, node: &NodeId) -> Option<String> {
        let nodes: Vec<NodeId> = serde_json::from_value(self.about["nodes"].clone()).unwrap_or_default();
        let at = nodes.iter().position(|known| known == node)?;
        Some(self.about["models"].get(at)?.as_str()?.to_owned())
    }

    /// Its end, as it would have told it as far as that is known: what had not ended is pending.
    fn end(self, run: RunId, open: PossiblyBilled, at_ms: u64) -> Entry {
        let total = self.about["personas"].as_u64().unwrap_or(0);
        let nodes = self.about["nodes"].as_array().map_or(0, Vec::len) as u64 * total;
        let written = self.written.len() as u64;
        let elapsed_ms = at_ms.saturating_sub(self.first_ms.unwrap_or(at_ms));
        let summary = RunSummary {
            event: "run_finished".to_owned(),
            run: run.clone(),
            outcome: Outcome::Interrupted,
            personas: PersonaCounts {
                total: total.max(written),
                written,
                pending: total.saturating_sub(written),
                ..PersonaCounts::default()
            },
            nodes: NodeCounts {
                total: nodes.max(self.calls.ok),
                called: self.calls.ok,
                pending: nodes.saturating_sub(self.calls.ok),
                ..NodeCounts::default()
            },
            calls: self.calls,
            tokens: self.tokens,
            cost_usd: self.cost.map(Money::usd),
            saved_usd: None,
            elapsed_s: elapsed_ms as f64 / 1000.0,
            prompt_cache: (&self.tokens).into(),
            failures: Vec::new(),
        };
        let mut summary = serde_json::to_value(summary).expect("BUG: names and numbers are JSON");
        summary["outcome"] = json!(DIED);
        summary[OPEN] = json!(open);
        Entry::Run {
            run,
            at_ms,
            summary,
            account: Some(Box::new(self.account)),
            about: self.about,
        }
    }
}

#[cfg(test)]
mod tests;
