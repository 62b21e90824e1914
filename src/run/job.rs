//! The work of a run that blocks or waits, away from the driver's loop: reading, rendering,
//! looking up. Each job reports back exactly once, also if it panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::mpsc::UnboundedSender;

use crate::call::{Delivery, Key, Money};
use crate::events::Failure;
use crate::graph::Graph;
use crate::names::{Instance, PersonaId};
use crate::run::attempt::{Attempt, Ended, with_causes};
use crate::run::desk::Rendered;
use crate::run::transcript::Written;
use crate::run::{Jobs, Project, Replaced, Requests};
use crate::schedule::Handle;
use crate::store::{Looked, Miss, Rejected, Store, StoreError};

/// What a job reports back.
pub enum Report {
    Opened {
        slot: usize,
        opened: Result<Opened, Failure>,
    },
    Rendered {
        handle: Handle,
        rendered: Result<Rendered, Failure>,
    },
    Looked {
        looked: Vec<(Handle, Found)>,
    },
    /// These are noted and may be sent.
    Noted {
        attempts: Vec<(Handle, Attempt)>,
        noted: Result<(), StoreError>,
    },
    Ended {
        handle: Handle,
        ended: Ended,
    },
    Closed {
        slot: usize,
        written: Written,
    },
}

/// A persona that was read, with the requests of the nodes that need nothing.
pub struct Opened {
    pub requests: Arc<dyn Requests>,
    pub roots: Vec<(usize, Rendered)>,
}

/// What a look-up found, reduced to what the run needs of it.
pub enum Found {
    Hit {
        text: Arc<str>,
        cost: Option<Money>,
        /// A check refused it when it came.
        readmitted: bool,
    },
    Miss {
        damaged: Option<String>,
        /// What the answer that is asked for may take the place of.
        replaces: Option<Replaced>,
    },
    /// A call would pay for an answer that is cut off again.
    CutOff(Rejected),
    /// The store does not work.
    Broken(String),
}

/// Reads a persona.
pub fn open(project: &dyn Project, graph: &Graph, persona: &PersonaId) -> Result<Opened, Failure> {
    let requests: Arc<dyn Requests> = project.open(persona)?.into();
    let render = |node| Ok((node, Rendered::new(requests.request(node, &[])?)));
    let roots = graph.roots().map(render).collect::<Result<_, Failure>>()?;
    Ok(Opened { requests, roots })
}

/// Renders a node whose needs are there.
pub fn render(
    requests: &dyn Requests,
    graph: &Graph,
    node: usize,
    texts: &[Arc<str>],
) -> Result<Rendered, Failure> {
    let ids = graph.needs(node).iter().map(|&need| graph.id(need));
    let needs: Vec<_> = ids.zip(texts.iter().map(|text| &**text)).collect();
    requests.request(node, &needs).map(Rendered::new)
}

/// Looks one node up, within what bounds its answer.
pub fn look(store: &dyn Store, instance: &Instance, key: &Key, bounds: &Delivery) -> Found {
    let looked = store.look(instance, key, bounds);
    let readmitted = matches!(looked, Ok(Looked::Readmitted(_)));
    match looked {
        Ok(Looked::Hit(record) | Looked::Readmitted(record)) => Found::Hit {
            cost: record.cost,
            text: record.answer.text.into(),
            readmitted,
        },
        Ok(Looked::CutOff(rejected)) => Found::CutOff(rejected),
        Ok(Looked::Miss(Miss::Damaged(reason))) => Found::Miss {
            damaged: Some(reason),
            replaces: Some(Replaced::Served),
        },
        Ok(Looked::Miss(Miss::Refreshed | Miss::TooLong { .. } | Miss::Unfit(_))) => Found::Miss {
            damaged: None,
            replaces: Some(Replaced::Served),
        },
        Ok(Looked::Miss(Miss::CutOff(_) | Miss::Rejected(_))) => match others(store, key) {
            Ok(replaces) => Found::Miss {
                damaged: None,
                replaces,
            },
            Err(error) => Found::Broken(with_causes(&error)),
        },
        Ok(Looked::Miss(Miss::Absent)) => Found::Miss {
            damaged: None,
            replaces: None,
        },
        Err(error) => Found::Broken(with_causes(&error)),
    }
}

/// Which answer there is that serves other nodes, where all that counts for this one was bad. After a
/// `--refresh` in vain it is an accepted one.
fn others(store: &dyn Store, key: &Key) -> Result<Option<Replaced>, StoreError> {
    if !store.answers(key)?.is_empty() {
        return Ok(Some(Replaced::Served));
    }
    let refused = store.refused(key)?;
    Ok((!refused.is_empty()).then_some(Replaced::Refused))
}

/// Starts jobs and brings their reports to the driver.
#[derive(Clone)]
pub struct Reporter {
    pub reports: UnboundedSender<Report>,
    pub jobs: Jobs,
}

impl Reporter {
    /// Does blocking work; `lost` is reported if it panics. The thread that does it reports by
    /// itself: a task that waits for it would be woken only to pass the report on.
    pub fn work(
        &self,
        work: impl FnOnce() -> Report + Send + 'static,
        lost: impl FnOnce(Failure) -> Report + Send + 'static,
    ) {
        let reports = self.reports.clone();
        let work = move || {
            let done = catch_unwind(AssertUnwindSafe(work));
            _ = reports.send(done.unwrap_or_else(|_| lost(bug())));
        };
        match self.jobs {
            Jobs::Inline => work(),
            Jobs::Threads => drop(tokio::task::spawn_blocking(work)),
        }
    }

    /// Waits for what reports back. The scheduler would wait for ever for a task that panicked,
    /// so that is reported too, as the failure of just that task.
    pub fn wait(
        &self,
        task: impl Future<Output = Report> + Send + 'static,
        lost: impl FnOnce(Failure) -> Report + Send + 'static,
    ) {
        let reports = self.reports.clone();
        self.begin(
            async move {
                _ = reports.send(task.await);
            },
            lost,
        );
    }

    /// Starts what sees to its report itself, unless it panics.
    pub fn begin(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
        lost: impl FnOnce(Failure) -> Report + Send + 'static,
    ) {
        let reports = self.reports.clone();
        tokio::spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                _ = reports.send(lost(bug()));
            }
        });
    }
}

fn bug() -> Failure {
    Failure {
        kind: Failure::BUG,
        message: "septet has a bug: this panicked; please report it".to_owned(),
        http_status: None,
    }
}
