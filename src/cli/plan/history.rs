//! What earlier answers in the cache say of the nodes: a sample, so that a large cache costs no
//! more than a small one.

use std::time::Duration;

use crate::cli::cache;
use crate::cli::failure::CliError;
use crate::cli::project::Loaded;
use crate::config::Node;
use crate::plan::{Answered, History};
use crate::store::{Entry, LocalStore, Record, Store, StoreError};

/// So many answers are looked at: some 130 for each of eight nodes tell the mean of a node to
/// within three percent.
const SAMPLE: usize = 1_024;

/// Reads the sample.
///
/// # Errors
/// If the store does not work.
pub fn read(project: &Loaded, store: &LocalStore) -> Result<History, CliError> {
    let mut history = History::new(project.graph.len());
    let records = store.sample(SAMPLE).map_err(|error| cache::refused(&error))?;
    for record in records {
        // Nodes that were renamed or removed say nothing of those that are there.
        let Some(node) = project.config.node(&record.instance.node) else {
            continue;
        };
        let answered = Answered {
            usage: record.answer.usage,
            estimated: estimated(store, &record).map_err(|error| cache::refused(&error))?,
            latency: Duration::from_millis(record.latency_ms),
        };
        history.past(node, &answered, is_of_model(&record, &project.config.nodes[node]));
    }
    Ok(history)
}

/// The input tokens as they were estimated before the call that brought an answer.
fn estimated(store: &LocalStore, record: &Record) -> Result<Option<u64>, StoreError> {
    let calls = store.calls(&record.instance)?;
    Ok(calls.into_iter().rev().find_map(|call| match call.what {
        Entry::Attempt(sent) if sent.run == record.run && sent.attempt == record.attempt => sent.input,
        _ => None,
    }))
}

/// True if the model that answered is the node's: servers name the dated snapshot.
fn is_of_model(record: &Record, node: &Node) -> bool {
    record.answer.model.starts_with(&*node.model.name)
}
