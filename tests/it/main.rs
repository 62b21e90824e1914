//! The real binary on real files and over real HTTP, and what holds for the source as a whole.
//! One test binary: it links once.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests reach the world and may fail loudly"
)]

mod budget;
mod cache;
mod checks;
mod cut_off;
mod dependencies;
mod faults;
mod graph;
mod hours;
mod http;
mod interrupt;
mod jobs;
mod layers;
mod machine;
mod main_job;
mod matrix;
mod night;
mod outputs;
mod plan;
mod project;
mod prompt_cache;
mod reading;
mod receipts;
mod refused;
mod rehearse;
mod secrets;
mod show;
mod watch;
mod why;
mod why_not;
mod wire;
