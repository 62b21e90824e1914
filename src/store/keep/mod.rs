//! Looking after a store: what there is in it, whether it is whole, how it is compacted and moved.
//! It knows the journal and the trees, and not what anybody wants to keep: that is handed in.

mod compact;
mod export;
#[cfg(test)]
mod fuzz;
mod import;
mod line;
mod repair;
mod survey;
mod verify;

pub use compact::Compacted;
pub use export::{ExportError, Exported};
pub use import::{Conflict, ImportError, Imported};
pub use repair::{Repaired, repair};
pub use survey::{Held, Sum, Survey};
pub use verify::{Problem, Verified, Wrong, verify};
