//! What `rehearse` foresees beside what the run then does: its end and its calls, with each limit
//! that can bind and with faults; and how long it takes to foresee a night of 100,000 personas.

use crate::child::size;
use crate::project::{Project, Server};
use crate::row;

const GOAL: &str = "0.95 to 1.05";

/// 75 personas × 8 calls of half a second, after an edit that calls all of them again. Without refusals among
/// the faults: a few of them make everybody wait, so that how many come decides the end.
pub fn rehearse() {
    let steady: &[&str] = &["--latency", "500ms", "--jitter", "0.25"];
    let faulty = [
        "--fault",
        "server_error=0.03",
        "--fault",
        "connection=0.02",
        "--fault",
        "malformed=0.02",
        "--fault",
        "empty=0.02",
    ];
    let cases: [(&[&str], &[&str]); 4] = [
        (&["--rpm", "1200"], &[]),
        (&["--tpm", "600000"], &[]),
        (&["--workers", "16"], &[]),
        (&["--workers", "16"], &faulty),
    ];
    for (limits, faults) in cases {
        // What is no limit of a server binds it all the same.
        let served = limits.iter().filter(|_| limits[0] != "--workers");
        let args: Vec<&str> = served.chain(steady).chain(faults).copied().collect();
        let server = Server::start(&args);
        let project = Project::new(75).server(&server.url);
        project.run(limits);
        project.write(
            "prompts/chunk.md",
            "Write the part {{ vars.part }} of the conversation.\n",
        );
        let foreseen = project.json("rehearse", limits);
        let ran = project.run(limits);
        let with = match faults {
            [] => limits.join(" "),
            _ => format!("{} and faults", limits.join(" ")),
        };
        row(
            &format!("end rehearsed, {with}, s"),
            foreseen.figure("seconds.likely"),
            ran.figure("elapsed_s"),
            GOAL,
        );
        row(
            "calls rehearsed",
            foreseen.figure("calls.sent.likely"),
            ran.figure("calls.sent"),
            GOAL,
        );
    }
}

/// 100,000 personas of which nothing is known: with five seeds, and three other limits.
pub fn night() {
    let personas = size("SEPTET_PERSONAS", 100_000);
    let project = Project::new(personas).simulator("5s");
    let foreseen = project.json("rehearse", &["--rpm", "2000"]);
    let calls = foreseen.figure("called.likely");
    assert_eq!(calls, 8.0 * personas as f64);
    row(
        &format!("{calls} calls rehearsed 8 times, s"),
        foreseen.elapsed(),
        foreseen.figure("seconds.likely"),
        "seconds",
    );
    row("CPU of it, s", foreseen.cpu(), foreseen.elapsed(), "-");
    row("memory of it, MB", foreseen.peak_mb(), 100.0, "modest");
}
