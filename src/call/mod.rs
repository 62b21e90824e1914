//! The words for one LLM call: what is sent, its key, what comes back, what can go wrong, and
//! what it costs. Nothing here knows how a call is made.

pub mod answer;
pub mod checks;
pub mod cut;
pub mod fault;
pub mod key;
pub mod model;
pub mod price;
pub mod prompt_cache;
pub mod quota;
pub mod request;
pub mod schema;

pub use answer::{Answer, Finish, Rejection, Usage};
pub use checks::{Checks, Misfit};
pub use cut::Cut;
pub use fault::{Fault, FaultKind, Scope};
pub use key::Key;
pub use price::{Money, Price};
pub use prompt_cache::Prefix;
pub use quota::{Counted, Quota, Quotas, RateCause, RateChange};
pub use request::{CacheHint, Delivery, Mark, Message, Request, Role, UNKNOWN_OUTPUT};
pub use schema::Schema;
