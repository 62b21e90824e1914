//! Begins what the scheduler decides: jobs and calls, each of which reports back once.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Driver;
use crate::call::{Prefix, Request, prompt_cache};
use crate::events::{Event, Failure, NodeStatus, PersonaStatus};
use crate::names::PersonaId;
use crate::run::Finished;
use crate::run::attempt::{Attempt, Ended, Inputs};
use crate::run::desk::Rendered;
use crate::run::job::{self, Found, Report};
use crate::run::transcript::{bring_up_to_date, transcript};
use crate::schedule::{Handle, Input, SharedPrefix};
use crate::store::{Done, Safety};

impl Driver {
    pub(super) fn open(&mut self, slot: usize, persona: PersonaId) {
        self.desk.open(slot, persona.clone());
        let (project, graph) = (self.services.project.clone(), self.task.graph.clone());
        self.reporter.work(
            move || Report::Opened {
                slot,
                opened: job::open(&*project, &graph, &persona),
            },
            move |bug| Report::Opened {
                slot,
                opened: Err(bug),
            },
        );
    }

    /// Renders a node whose needs are there; those that need nothing have been rendered already.
    pub(super) fn render(&mut self, handle: Handle, inputs: &mut VecDeque<Input>) {
        if let Some(rendered) = self.desk.work_mut(handle).rendered.take() {
            return inputs.push_back(self.rendered(handle, rendered));
        }
        let requests = self.desk.persona(handle.slot).requests.clone();
        let requests = requests.expect("BUG: rendered before it was read");
        let (graph, texts) = (self.task.graph.clone(), self.desk.needs(handle));
        self.reporter.work(
            move || {
                let rendered = job::render(&*requests, &graph, handle.node, &texts);
                Report::Rendered { handle, rendered }
            },
            move |bug| Report::Rendered {
                handle,
                rendered: Err(bug),
            },
        );
    }

    /// Keeps a request until its node has ended, and says what the scheduler needs of it.
    pub(super) fn rendered(&mut self, handle: Handle, rendered: Rendered) -> Input {
        let (key, prefix) = (rendered.key, self.shared_prefix(&rendered.request));
        let work = self.desk.work_mut(handle);
        work.key = Some(key);
        work.rendered = Some(rendered);
        Input::Rendered { handle, key, prefix }
    }

    /// The prefix of a request, if calls that share it are to wait for the first of them.
    pub(super) fn shared_prefix(&self, request: &Request) -> Option<SharedPrefix> {
        let id = self.task.prefix.shares(request).then(|| Prefix::of(request))??;
        let lifetime = prompt_cache::lifetime(&request.model);
        Some(SharedPrefix { id, lifetime })
    }

    pub(super) fn look(&mut self, handles: Vec<Handle>) {
        let what = |&handle: &Handle| {
            let work = self.desk.work(handle);
            (handle, self.desk.instance(handle), work.key(), work.request())
        };
        let wanted: Vec<_> = handles.iter().map(what).collect();
        let store = self.services.store.clone();
        self.reporter.work(
            move || {
                let look = |(handle, instance, key, request): (_, _, _, Arc<Request>)| {
                    (handle, job::look(&*store, &instance, &key, &request.delivery))
                };
                Report::Looked {
                    looked: wanted.into_iter().map(look).collect(),
                }
            },
            move |bug| {
                let broken = |handle| (handle, Found::Broken(bug.message.clone()));
                Report::Looked {
                    looked: handles.into_iter().map(broken).collect(),
                }
            },
        );
    }

    pub(super) fn send(&mut self, handle: Handle, number: u32) {
        let instance = self.desk.instance(handle);
        let requests = self.desk.persona(handle.slot).requests.as_ref();
        let inputs = Inputs {
            pipeline: self.task.pipeline.clone(),
            persona: requests.and_then(|requests| requests.files()),
            needs: self.desk.need_keys(handle),
        };
        let dearest = self.dearest(handle.node);
        let key = self.desk.work(handle).key();
        // Whichever of them is fetched, no other will be.
        let gives_up = self.task.fetchable.remove(&key).unwrap_or_default();
        let work = self.desk.work_mut(handle);
        work.attempts = number;
        let resumes = work.resumes.take();
        if resumes.is_none() && !gives_up.is_empty() {
            let message = format!(
                "{instance}: its answer could still be fetched, but not by `api = \"chat\"`; it may have \
                 been billed and is called again"
            );
            self.teller.tell(Event::Warning { message });
        }
        let work = self.desk.work(handle);
        let rendered = work.rendered.as_ref().expect("BUG: sent unrendered");
        let attempt = Attempt {
            run: self.task.run.clone(),
            instance,
            request: rendered.request.clone(),
            key: rendered.key,
            input: rendered.size.input,
            inputs,
            number,
            tariff: self.task.prices[handle.node].clone(),
            dearest,
            reserved: work.set_aside,
            resumes,
            gives_up,
            abort: self.abort.subscribe(),
        };
        self.sends.push((handle, attempt));
    }

    /// Notes all attempts that are to be sent, as one: they go out once they are written.
    pub(super) fn note_sends(&mut self) {
        let attempts = std::mem::take(&mut self.sends);
        if attempts.is_empty() {
            return;
        }
        let at_ms = (self.services.unix_ms)();
        let mut notes = Vec::with_capacity(attempts.len() + 1);
        for (_, attempt) in &attempts {
            notes.extend(attempt.sources(&*self.services.store, at_ms));
            notes.push(attempt.note(at_ms));
            notes.extend(attempt.ends(at_ms));
        }
        let reports = self.reporter.reports.clone();
        let done = Done::new(move |noted| _ = reports.send(Report::Noted { attempts, noted }));
        self.services.store.append(&notes, Safety::Written, done);
    }

    pub(super) fn make(&mut self, handle: Handle, attempt: Attempt) {
        let reports = self.reporter.reports.clone();
        let tell = move |ended| _ = reports.send(Report::Ended { handle, ended });
        self.reporter.begin(
            attempt.make(self.services.clone(), self.teller.clone(), tell),
            move |bug| Report::Ended {
                handle,
                ended: Ended::Broken(bug.message),
            },
        );
    }

    pub(super) fn finish(&mut self, handle: Handle, status: NodeStatus, failure: Option<Failure>) {
        let finished = self.desk.finish(handle, status, failure);
        self.teller.tell(Event::NodeFinished(Box::new(finished)));
    }

    /// Writes the transcript if the result is there, also when another node failed.
    pub(super) fn close(&mut self, slot: usize, failure: Option<Failure>) {
        let id = self.desk.persona(slot).id.clone();
        let (text, saved) = (self.desk.result(slot), self.desk.served(slot));
        let readmitted = self.desk.has_readmitted(slot);
        let requests = self.desk.persona(slot).requests.clone();
        let (services, overwrite) = (self.services.clone(), self.task.overwrite);
        self.reporter.wait(
            async move {
                let written = match &text {
                    Some(text) => Some(bring_up_to_date(&services, &id, text.clone(), overwrite).await),
                    None => None,
                };
                // What failed before is told, whatever became of the transcript.
                let written = failure.map(Err).or(written);
                if let (Some(Ok((status, _))), Some(text), Some(requests)) = (&written, text, requests)
                    && *status != PersonaStatus::Kept
                {
                    let project = services.project.clone();
                    let finished = move || {
                        project.finished(&Finished {
                            persona: &id,
                            requests: &*requests,
                            text: transcript(&text).as_bytes(),
                            saved,
                            readmitted,
                        });
                    };
                    services.jobs.block(finished).await;
                }
                Report::Closed {
                    slot,
                    written: written.expect("BUG: neither a result nor a failure"),
                }
            },
            move |bug| Report::Closed {
                slot,
                written: Err(bug),
            },
        );
    }
}
