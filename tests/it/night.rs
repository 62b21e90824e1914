//! Deadlines, hours and a later start through the real binary. The times are chosen relative to now,
//! and hours apart, so that no machine is too slow for them.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::project::{Project, Server};

/// The time of day in UTC, so many hours from now, as `limits.hours` has it.
fn clock(hours: i64) -> String {
    let at = Timestamp::now().checked_add(hours.hours()).unwrap();
    let time: Time = TimeZone::UTC.to_datetime(at).time();
    time.strftime("%H:%M").to_string()
}

fn hours(from: i64, to: i64) -> String {
    format!("[limits]\nhours = \"{}-{}\"", clock(from), clock(to))
}

fn in_utc(project: Project) -> Project {
    project.variable("TZ", "UTC")
}

#[test]
fn a_deadline_drains_and_the_next_run_pays_exactly_the_rest() {
    let server = Server::start(&["--latency", "300ms", "--jitter", "0"]);
    let project = in_utc(Project::small(20).at(&server.url));
    let run = project.json(&["--workers", "1", "--until", "2s"]).code(3);
    assert_eq!(run.summary()["outcome"], "deadline");
    assert_eq!(run.named("deadline_reached").len(), 1);
    assert_eq!(run.named("run_stopped")[0]["error"]["kind"], "deadline");
    assert!(
        run.named("run_started")[0]["until"]
            .as_str()
            .unwrap()
            .ends_with("+00:00")
    );
    let (sent, abandoned) = (run.figure("calls.sent"), run.figure("calls.abandoned"));
    assert!((1..60).contains(&sent) && abandoned == 0, "{}", run.summary());
    assert!(run.figure("personas.pending") > 0);
    let rest = project.json(&[]).code(0);
    assert_eq!(sent + rest.figure("calls.sent"), 60);
    assert_eq!(server.stats()["bodies"]["paid_twice"], 0);
}

#[test]
fn outside_its_hours_a_run_that_has_no_time_left_ends_at_once() {
    let project = in_utc(Project::small(3).with("[limits]", &hours(3, 4)));
    let run = project.json(&["--until", "2h"]).code(3);
    assert_eq!(
        (&run.summary()["outcome"], run.figure("calls.sent")),
        (&"deadline".into(), 0)
    );
    project.edit("pipeline.toml", &hours(3, 4), &hours(-1, 1));
    project.json(&["--until", "2h"]).code(0);
    project.edit("pipeline.toml", &hours(-1, 1), &hours(3, 4));
    let done = project.json(&[]).code(0);
    assert!(done.named("waiting").is_empty(), "nothing has to be called");
}

#[test]
fn a_later_start_is_waited_for() {
    let project = in_utc(Project::small(2));
    let run = project.json(&["--start-at", "1s"]).code(0);
    assert_eq!(run.all[0]["event"], "waiting");
    assert_eq!(run.all[0]["cause"], "start_at");
    assert_eq!(run.all[1]["event"], "run_started");
    let told = project.run(&["run", "--start-at", "0.5s"]).code(0);
    assert!(told.stderr.starts_with("waiting until "), "{}", told.stderr);
}

#[test]
fn what_is_no_time_is_refused() {
    let project = Project::small(1);
    for (option, time) in [("--until", "noon"), ("--start-at", "25:00"), ("--until", "0s")] {
        for command in ["run", "plan"] {
            let told = project.run(&[command, option, time]).code(2);
            assert!(
                told.stderr.contains("a time like 07:00 or a duration like 8h"),
                "{}",
                told.stderr
            );
        }
    }
    project
        .run(&["plan", "--until", "07:00", "--start-at", "23:00"])
        .code(0);
}
