//! The money of a run: what a call is thought to cost, whether it fits, what it cost in the end.

use super::Driver;
use crate::budget::Used;
use crate::call::{Money, Price};
use crate::events::{Event, Failure, Outcome};
use crate::run::attempt::{Ended, Paid};
use crate::schedule::{Handle, Input};
use crate::store::Sent;

impl Driver {
    /// The dearest price that a call of a node can meet if it is sent now; `None`: no price.
    pub(super) fn dearest(&self, node: usize) -> Option<Price> {
        let tariff = self.task.prices[node].as_ref()?;
        match tariff.changes() {
            true => Some(tariff.dearest((self.services.unix_ms)(), self.task.longest_call)),
            false => Some(tariff.usual()),
        }
    }

    /// What the next call of a node is thought to cost at most; `None`: no price.
    pub(super) fn likely_cost(&self, handle: Handle) -> Option<Money> {
        let price = self.dearest(handle.node)?;
        let (input, output) = self.estimates.careful(handle.node, self.size(handle));
        Some(price.at_most(input, output))
    }

    /// The job of an earlier attempt that holds the answer of a node's next call, the newest of
    /// several: it is fetched, and nothing is sent.
    pub(super) fn open_job(&self, handle: Handle) -> Option<&Sent> {
        let jobs = self.task.fetchable.get(&self.desk.work(handle).key())?;
        jobs.last().filter(|_| self.services.provider.has_jobs())
    }

    /// Sets money aside for a node's next call. That of an open job is so already.
    pub(super) fn set_aside(&mut self, handle: Handle, cost: Money) {
        let job = self.open_job(handle).cloned();
        match &job {
            None => self.budget.reserve(cost),
            Some(job) if job.run == self.task.run => self.budget.resume(cost),
            Some(job) => self
                .budget
                .take_over(cost, job.reserved.unwrap_or_default(), job.at_ms),
        }
        let key = self.desk.work(handle).key();
        if job.is_some()
            && let Some(jobs) = self.task.fetchable.get_mut(&key)
        {
            jobs.pop();
        }
        self.desk.work_mut(handle).resumes = job;
    }

    pub(super) fn out_of_budget(&mut self, handle: Handle, used: Used, next: Money) {
        let instance = self.desk.instance(handle);
        let cause = Failure {
            kind: Failure::BUDGET,
            message: format!(
                "the next call, of {instance}, may cost {next}, and {} is left of the budget of {} (`{}`)",
                used.left(),
                used.limit.amount,
                used.limit.name
            ),
            http_status: None,
        };
        self.teller.tell(Event::BudgetReached { used, instance, next });
        let outcome = Outcome::Budget;
        self.turn([Input::Enough { outcome, cause }]);
    }

    pub(super) fn warn_of_budget(&mut self) {
        for used in self.budget.warnings() {
            self.teller.tell(Event::BudgetLow(used));
        }
    }

    /// Books the end of a call against the budget.
    pub(super) fn settle(&mut self, handle: Handle, ended: &Ended) {
        let reserved = self.desk.work(handle).set_aside.unwrap_or_default();
        match ended {
            Ended::Answered(paid, _) | Ended::Rejected(paid, ..) => {
                self.budget.settle(reserved, paid.cost.unwrap_or_default());
            }
            // The server works on, whoever waits for it.
            Ended::Unfetched(..) => self.budget.hold(reserved),
            Ended::Faulted(fault) if !fault.may_be_billed() => self.budget.settle(reserved, Money::ZERO),
            Ended::Faulted(_) | Ended::Abandoned | Ended::Broken(_) => self.budget.settle_unknown(reserved),
        }
        self.warn_of_budget();
    }

    /// Books what an answer cost, good or bad, and learns from it.
    pub(super) fn paid(&mut self, handle: Handle, paid: &Paid) {
        self.warn_of_a_stranger(handle, paid.stranger.as_deref());
        let usage = &paid.usage;
        let work = self.desk.work_mut(handle);
        work.paid(paid);
        let used = self.estimates.answered(handle.node, work.reserved, usage);
        let now = self.teller.now();
        let heard = paid.heard.saturating_duration_since(self.teller.start);
        self.limits
            .settle(now, heard, handle.node, work.started, work.reserved, used);
        if let Some(rendered) = &work.rendered {
            self.estimates.learn(handle.node, rendered.size, usage);
        }
    }
}
