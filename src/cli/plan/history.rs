//! What earlier answers say of the nodes: the accounts of earlier runs, and of nodes of which those
//! know nothing a sample of the cache, so that a large cache costs no more than a small one.

use std::time::Duration;

use crate::cli::cache;
use crate::cli::failure::CliError;
use crate::cli::project::Loaded;
use crate::config::Node;
use crate::events::History as Accounts;
use crate::plan::{Answered, History};
use crate::store::{Entry, LocalStore, Record, Store, StoreError};

/// So many answers are looked at: some 130 for each of eight nodes tell the mean of a node to
/// within three percent.
const SAMPLE: usize = 1_024;

/// Takes the accounts in, and reads the sample if need be.
///
/// # Errors
/// If the store does not work.
pub fn read(project: &Loaded, store: &LocalStore, accounts: &Accounts) -> Result<History, CliError> {
    let nodes = &project.config.nodes;
    let mut history = History::new(nodes.len()).answered_by(&project.models());
    let mut from_accounts = vec![false; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        let model = &node.model.name;
        for other in accounts.of_others(&node.id, model) {
            history.account(index, other, false);
        }
        match accounts.of(&node.id, model) {
            Some(own) if own.output.n > 0 => {
                history.account(index, own, true);
                from_accounts[index] = true;
            }
            Some(own) => history.bad_account(index, own),
            None => {}
        }
    }
    if from_accounts.contains(&false) {
        sample(project, store, &from_accounts, &mut history).map_err(|error| cache::refused(&error))?;
    }
    Ok(history)
}

/// Looks at answers of nodes of which no account tells: new ones under an old name, those that
/// were imported, those of a cache from before accounts were kept.
fn sample(
    project: &Loaded,
    store: &LocalStore,
    told: &[bool],
    history: &mut History,
) -> Result<(), StoreError> {
    let nodes = &project.config.nodes;
    let others: Vec<bool> = (0..nodes.len()).map(|node| history.answers(node) > 0).collect();
    for record in store.sample(SAMPLE)? {
        // Nodes that were renamed or removed say nothing of those that are there.
        let Some(node) = project.config.node(&record.instance.node) else {
            continue;
        };
        let same_model = is_of_model(&record, &nodes[node]);
        if told[node] || (others[node] && !same_model) {
            continue;
        }
        let answered = Answered {
            usage: record.answer.usage,
            estimated: estimated(store, &record)?,
            latency: Duration::from_millis(record.latency_ms),
        };
        history.past(node, &answered, same_model);
    }
    Ok(())
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
    let rest = record.answer.model.strip_prefix(&*node.model.name);
    // `gpt-4o-2024-08-06`, and not `gpt-4o-mini`.
    rest.is_some_and(|rest| {
        rest.chars()
            .all(|letter| letter.is_ascii_digit() || "-:@.".contains(letter))
    })
}
