//! The time of each hot path by itself: `cargo bench --bench hot`, or `cargo bench --bench hot -- store`
//! for some of them. On a busy machine look at the fastest, or count instructions instead:
//! `benches/instructions.rs`.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a benchmark reaches the world and may fail loudly"
)]

#[path = "hot/paths.rs"]
mod paths;

fn main() {
    divan::main();
}

#[divan::bench(args = paths::NAMES)]
fn hot(bencher: divan::Bencher<'_, '_>, name: &str) {
    bencher
        .with_inputs(|| ())
        .bench_local_values(work(paths::ready(name)));
}

fn work(mut work: Box<dyn FnMut()>) -> impl FnMut(()) {
    move |()| work()
}
