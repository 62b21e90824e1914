//! What `plan` takes for many personas beside a run that has nothing to do: CPU, time and memory,
//! each of a process of its own.

use crate::project::{Project, Ran};
use crate::row;

/// `plan` and `run` are measured in turn so many times and the medians compared: other work on the
/// machine then meets both alike.
const ROUNDS: usize = 5;

/// Measures and prints.
pub fn size() {
    let few = measure(1_000);
    let many = measure(10_000);
    let flat = |what: &str, of: fn(&Sizes) -> f64| {
        row(
            &format!("{what}, 10,000 for 1,000 personas, MB"),
            of(&many),
            of(&few),
            "flat",
        );
    };
    // Without answers there is no cache of the store's to be filled: what is left is the plan's own.
    flat("memory of a first plan", |sizes| sizes.first);
    flat("memory of plan, nothing changed", |sizes| sizes.plan);
    flat("memory of plan, all changed", |sizes| sizes.changed);
    flat("memory of run, nothing changed", |sizes| sizes.run);
}

/// The most memory of each, in MB.
struct Sizes {
    first: f64,
    plan: f64,
    changed: f64,
    run: f64,
}

fn measure(personas: usize) -> Sizes {
    let project = Project::new(personas).simulator("0s");
    let first = project.json("plan", &[]);
    project.run(&["--workers", "64"]);
    let rounds: Vec<(Ran, Ran)> = (0..ROUNDS)
        .map(|_| (project.json("plan", &[]), project.json("run", &["--verify"])))
        .collect();
    for (plan, run) in &rounds {
        assert_eq!(plan.figure("nodes.call"), 0.0, "nothing would be called");
        assert_eq!(run.figure("calls.sent"), 0.0, "nothing is called");
    }
    let plans = |of: fn(&Ran) -> f64| median(rounds.iter().map(|(plan, _)| of(plan)).collect());
    let runs = |of: fn(&Ran) -> f64| median(rounds.iter().map(|(_, run)| of(run)).collect());
    for (what, of) in [("CPU", Ran::cpu as fn(&Ran) -> f64), ("time", Ran::elapsed)] {
        row(
            &format!("{what} of plan for run, {personas} personas, s"),
            plans(of),
            runs(of),
            "<= 1.5",
        );
    }
    // Now everything is to be called, and is explained.
    project.write(
        "prompts/persona.md",
        "## {{ persona.id }}\n\n{{ persona.profile }}\n",
    );
    let changed = project.json("plan", &[]);
    row(
        &format!("CPU of plan, {personas} personas, all changed, s"),
        changed.cpu(),
        runs(Ran::cpu),
        "-",
    );
    Sizes {
        first: first.peak_mb(),
        plan: plans(Ran::peak_mb),
        changed: changed.peak_mb(),
        run: runs(Ran::peak_mb),
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
