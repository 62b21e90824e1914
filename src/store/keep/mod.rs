//! Looking after a store: what there is in it, whether it is whole, how it is compacted and moved.
//! It knows the journal and the trees, and not what anybody wants to keep: that is handed in.

mod survey;

pub use survey::{Held, Sum, Survey};
