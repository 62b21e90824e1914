//! Takes what jobs and calls report, and says what the scheduler needs of it.

use std::time::Duration;

use super::{Driver, broken};
use crate::call::{Fault, FaultKind, Scope};
use crate::events::{Event, Failure, PersonaStatus, Reckoned};
use crate::limit::Refusal;
use crate::run::attempt::{Attempt, Ended};
use crate::run::job::{Found, Opened, Report};
use crate::run::transcript::Written;
use crate::schedule::{Handle, Input};
use crate::store::{Rejected, StoreError};

impl Driver {
    /// Everything that has been reported is taken before anything is sent.
    pub(super) fn take_reports(&mut self, first: Report) {
        let mut inputs = Vec::new();
        let mut next = Some(first);
        while let Some(report) = next {
            self.take(report, &mut inputs);
            next = self.reports.try_recv().ok();
        }
        self.turn(inputs);
    }

    pub(super) fn take(&mut self, report: Report, inputs: &mut Vec<Input>) {
        match report {
            Report::Opened { slot, opened } => inputs.push(self.opened(slot, opened)),
            Report::Rendered { handle, rendered } => inputs.push(match rendered {
                Ok(rendered) => self.rendered(handle, rendered),
                Err(failure) => Input::Unrenderable { handle, failure },
            }),
            Report::Looked { looked } => {
                for (handle, found) in looked {
                    self.looked(handle, found, inputs);
                }
            }
            Report::Noted { attempts, noted } => self.noted(attempts, noted, inputs),
            Report::Ended { handle, ended } => self.ended(handle, ended, inputs),
            Report::Closed { slot, written } => self.closed(slot, written, inputs),
        }
    }

    pub(super) fn opened(&mut self, slot: usize, opened: Result<Opened, Failure>) -> Input {
        let result = opened.map(|opened| {
            self.desk.persona_mut(slot).requests = Some(opened.requests);
            for (node, rendered) in opened.roots {
                self.desk.work_mut(Handle { slot, node }).rendered = Some(rendered);
            }
        });
        Input::Opened { slot, result }
    }

    pub(super) fn looked(&mut self, handle: Handle, found: Found, inputs: &mut Vec<Input>) {
        if let Found::Miss {
            replaces: Some(replaced),
            ..
        } = &found
            && let Err(failure) = self.services.project.answer_replaced(*replaced)
        {
            return inputs.push(Input::Broken(failure));
        }
        match found {
            Found::Hit {
                text,
                cost,
                readmitted,
            } => {
                let work = self.desk.work_mut(handle);
                work.readmitted = readmitted;
                work.text = Some(text);
                work.served = cost;
                return inputs.push(Input::Looked { handle, hit: true });
            }
            Found::CutOff(rejected) => return inputs.push(self.cut_off(handle, &rejected)),
            Found::Broken(message) => inputs.push(broken(message)),
            Found::Miss {
                damaged: Some(reason),
                ..
            } => {
                let instance = self.desk.instance(handle);
                let message = format!("{instance}: stored answer is damaged ({reason}); calling again");
                self.teller.tell(Event::Warning { message });
            }
            Found::Miss { damaged: None, .. } => {}
        }
        let tokens = self.estimates.reserve(handle.node, self.size(handle));
        inputs.push(match self.limits.most_tokens() {
            Some(most) if tokens > most => self.too_large(handle, tokens, most),
            _ => Input::Looked { handle, hit: false },
        });
    }

    /// What was cut off at this limit in an earlier run is not paid for again.
    pub(super) fn cut_off(&self, handle: Handle, rejected: &Rejected) -> Input {
        let instance = self.desk.instance(handle);
        Input::Unrenderable {
            handle,
            failure: Failure {
                kind: rejected.rejection.as_str(),
                message: rejected.refusal(&instance),
                http_status: None,
            },
        }
    }

    /// Such a call would wait for ever.
    pub(super) fn too_large(&self, handle: Handle, tokens: u64, most: u64) -> Input {
        let message = format!(
            "the call needs about {tokens} tokens and `tokens_per_minute` is {most}; \
             shorten the prompt, lower `max_output_tokens` or raise the limit"
        );
        let fault = Fault::new(FaultKind::RequestTooLarge, message);
        Input::Unrenderable {
            handle,
            failure: Failure::from(&fault),
        }
    }

    pub(super) fn noted(
        &mut self,
        attempts: Vec<(Handle, Attempt)>,
        noted: Result<(), StoreError>,
        inputs: &mut Vec<Input>,
    ) {
        for (handle, attempt) in attempts {
            match &noted {
                Ok(()) => self.make(handle, attempt),
                Err(error) => self.ended(handle, Ended::broken(error), inputs),
            }
        }
    }

    pub(super) fn ended(&mut self, handle: Handle, ended: Ended, inputs: &mut Vec<Input>) {
        let jitter = self.chance.f64();
        self.settle(handle, &ended);
        let now = self.teller.now();
        let quotas = self.services.provider.told(&self.task.models[handle.node]);
        self.limits.told(now, handle.node, &quotas);
        let input = match ended {
            Ended::Answered(paid, text) => {
                self.paid(handle, &paid);
                let work = self.desk.work_mut(handle);
                (work.text, work.served) = (Some(text), paid.cost);
                Input::Answered { handle }
            }
            Ended::Rejected(paid, misfit, cut) => {
                self.paid(handle, &paid);
                let rendered = self.desk.work(handle).rendered.as_ref();
                let limit = rendered.and_then(|rendered| rendered.request.delivery.max_output_tokens);
                match cut.filter(|cut| !cut.holds_at(limit)) {
                    // A job of an earlier run, begun with a lower limit: that of today is not met yet.
                    Some(cut) => Input::Faulted {
                        handle,
                        fault: Fault::new(FaultKind::BadResponse, cut.to_string()),
                        jitter,
                    },
                    None => Input::Rejected {
                        handle,
                        misfit,
                        cut,
                        jitter,
                    },
                }
            }
            Ended::Faulted(fault) => {
                self.warn_of_a_refused_hint(&fault);
                self.warn_of_a_job_that_is_gone(handle, &fault);
                self.give_back(now, handle, &fault);
                Input::Faulted {
                    handle,
                    fault,
                    jitter,
                }
            }
            Ended::Unfetched(fault, sent) => {
                // For whoever needs that request next, be it another node.
                self.task.fetchable.entry(sent.key).or_default().push(*sent);
                Input::Faulted {
                    handle,
                    fault,
                    jitter,
                }
            }
            Ended::Abandoned => Input::Abandoned { handle },
            Ended::Broken(message) => {
                inputs.push(broken(message));
                Input::Abandoned { handle }
            }
        };
        inputs.push(input);
    }

    /// Books the end of a call that brought nothing with the limits.
    fn give_back(&mut self, now: Duration, handle: Handle, fault: &Fault) {
        let (node, size, work) = (handle.node, self.size(handle), self.desk.work(handle));
        if fault.kind != FaultKind::RateLimited {
            let lost = self.estimates.lost(node, size, work.reserved);
            return self
                .limits
                .settle(now, now, node, work.started, work.reserved, lost);
        }
        let mistook = |reckoned: &u64| self.estimates.mistook(node, size, work.reserved, *reckoned);
        let refusal = Refusal {
            started: work.started,
            tokens: work.reserved,
            limit: fault.limit,
            wait: fault.retry_after.unwrap_or_default(),
            reckoned: fault.reckoned.filter(mistook),
        };
        self.limits.refused(now, node, &refusal);
        if let Some(reckoned) = fault.reckoned
            && self.estimates.shows_limits(node, size, reckoned)
            && self.estimates.reserve_limits(node)
        {
            self.teller.tell(Event::OutputLimitReserved {
                model: self.task.models[node].clone(),
                seen: Some(Reckoned {
                    instance: self.desk.instance(handle),
                    by_server: reckoned,
                    by_septet: refusal.tokens,
                }),
            });
        }
    }

    /// A parameter that one attempt was refused for, and no other will be, was only a hint: once
    /// is enough to know.
    pub(super) fn warn_of_a_refused_hint(&mut self, fault: &Fault) {
        let hint = fault.kind == FaultKind::BadParameter && fault.scope == Scope::Attempt;
        if hint && !std::mem::replace(&mut self.unhinted, true) {
            let message = format!("{fault}; `prompt_cache = \"off\"` in `[provider]` never sends it");
            self.teller.tell(Event::Warning { message });
        }
    }

    /// What was paid perhaps and cannot be fetched any more is told: it is paid again.
    pub(super) fn warn_of_a_job_that_is_gone(&mut self, handle: Handle, fault: &Fault) {
        let gone = fault.kind == FaultKind::BadResponse && matches!(fault.http_status, Some(400 | 404 | 410));
        if gone {
            let message = format!("{}: {}", self.desk.instance(handle), fault.message);
            self.teller.tell(Event::Warning { message });
        }
    }

    /// What another model answered is kept and counts: it was paid, and names are the server's own.
    pub(super) fn warn_of_a_stranger(&mut self, handle: Handle, stranger: Option<&str>) {
        let Some(stranger) = stranger else { return };
        let asked = self.task.models[handle.node].clone();
        if self.strangers.insert((asked.clone(), stranger.to_owned())) {
            let message = format!(
                "`{asked}` was asked and `{stranger}` answers; its answers are kept and paid at the \
                 price of `{asked}`; nothing is wrong if the server calls it so"
            );
            self.teller.tell(Event::Warning { message });
        }
    }

    pub(super) fn closed(&mut self, slot: usize, written: Written, inputs: &mut Vec<Input>) {
        let persona = self.desk.close(slot).id;
        let (status, error, path) = match written {
            Ok((status, path)) => (status, None, path),
            Err(failure) => (PersonaStatus::Failed, Some(failure), None),
        };
        let failed = error.is_some();
        let store_broke = error.clone().filter(|failure| failure.kind == Failure::STORE);
        self.teller.tell(Event::PersonaFinished {
            persona,
            status,
            error,
            path,
        });
        // Before the persona is closed, which may be the end of the run.
        inputs.extend(store_broke.map(Input::Broken));
        inputs.push(Input::Closed { slot, failed });
    }
}
