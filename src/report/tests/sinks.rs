//! Sinks that break, and sinks that are slow.

use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep};

use super::{Written, report};
use crate::events::{Event, Outcome, Stamped, Tally};
use crate::report::json::Json;
use crate::report::lines::Lines;
use crate::report::script::Script;
use crate::report::style::Palette;
use crate::report::{Sink, run, spawn};

/// Fails from its third event on.
struct Broken {
    kind: io::ErrorKind,
    seen: Arc<Mutex<usize>>,
}

impl Sink for Broken {
    fn name(&self) -> &'static str {
        "standard output"
    }

    fn event(&mut self, _: &Stamped, _: &Tally) -> io::Result<()> {
        let mut seen = self.seen.lock().unwrap();
        *seen += 1;
        if *seen < 3 { Ok(()) } else { Err(self.kind.into()) }
    }

    fn draw(&mut self, _: Duration, _: &Tally) -> io::Result<()> {
        Ok(())
    }
}

/// Returns what the other sink wrote, and how many events the broken one was handed.
fn beside_a_broken_sink(kind: io::ErrorKind) -> (String, usize, Tally) {
    let seen = Arc::new(Mutex::new(0));
    let out = Written::default();
    let palette = Palette { color: false };
    let sinks: Vec<Box<dyn Sink>> = vec![
        Box::new(Broken {
            kind,
            seen: seen.clone(),
        }),
        Box::new(Lines::new(Box::new(out.clone()), palette, true)),
    ];
    let events = Script::new(1)
        .written("tom")
        .finished(Outcome::Complete, None)
        .events();
    let tally = report(events, sinks);
    let seen = *seen.lock().unwrap();
    (out.text(), seen, tally)
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let (others, seen, tally) = beside_a_broken_sink(io::ErrorKind::BrokenPipe);
    assert_eq!((others.as_str(), seen), ("", 3));
    assert_eq!(tally.nodes.called, 8, "everything is counted all the same");
}

#[test]
fn any_other_error_is_told_once() {
    let (others, seen, tally) = beside_a_broken_sink(io::ErrorKind::StorageFull);
    let expected = "warning: cannot write to standard output: no storage space; the run goes on without it\n";
    assert_eq!((others.as_str(), seen), (expected, 3));
    assert_eq!(tally.outcome, Some(Outcome::Complete));
}

#[test]
fn sinks_that_all_break_harm_nothing() {
    let broken = |kind| -> Box<dyn Sink> {
        Box::new(Broken {
            kind,
            seen: Arc::default(),
        })
    };
    let sinks = vec![broken(io::ErrorKind::StorageFull), broken(io::ErrorKind::Other)];
    let tally = report(
        Script::new(1)
            .written("tom")
            .finished(Outcome::Complete, None)
            .events(),
        sinks,
    );
    assert_eq!(tally.exit_code(), Some(0));
}

/// A real pipe whose reader has gone.
#[test]
fn json_into_a_pipe_without_a_reader() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let sinks: Vec<Box<dyn Sink>> = vec![Box::new(Json::new(Box::new(writer)))];
    let tally = report(
        Script::new(1)
            .written("tom")
            .finished(Outcome::Complete, None)
            .events(),
        sinks,
    );
    assert_eq!(tally.exit_code(), Some(0));
}

/// Remembers when it was drawn.
struct Drawn(Arc<Mutex<Vec<Instant>>>);

impl Sink for Drawn {
    fn name(&self) -> &'static str {
        "a list"
    }

    fn event(&mut self, _: &Stamped, _: &Tally) -> io::Result<()> {
        Ok(())
    }

    fn draw(&mut self, _: Duration, _: &Tally) -> io::Result<()> {
        self.0.lock().unwrap().push(Instant::now());
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn draws_are_neither_too_many_nor_too_few() {
    let drawn = Arc::new(Mutex::new(Vec::new()));
    let (sender, receiver) = unbounded_channel();
    let began = Instant::now();
    let reporter = tokio::spawn(run(receiver, vec![Box::new(Drawn(drawn.clone()))]));
    // A busy second, an idle one.
    for event in Script::new(100)
        .written("tom")
        .events()
        .into_iter()
        .cycle()
        .take(1000)
    {
        sender.send(event).unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_secs(1)).await;
    drop(sender);
    reporter.await.unwrap();
    let drawn = drawn.lock().unwrap();
    let busy = drawn
        .iter()
        .filter(|at| **at - began <= Duration::from_secs(1))
        .count();
    let idle = drawn.len() - busy;
    assert!((18..=20).contains(&busy), "{busy} draws in a busy second");
    assert!((2..=4).contains(&idle), "{idle} draws in an idle second");
}

#[tokio::test(start_paused = true)]
async fn the_time_that_is_drawn_goes_on_without_events() {
    struct Clock(Arc<Mutex<Duration>>);
    impl Sink for Clock {
        fn name(&self) -> &'static str {
            "a clock"
        }
        fn event(&mut self, _: &Stamped, _: &Tally) -> io::Result<()> {
            Ok(())
        }
        fn draw(&mut self, now: Duration, _: &Tally) -> io::Result<()> {
            *self.0.lock().unwrap() = now;
            Ok(())
        }
    }
    let shown = Arc::new(Mutex::new(Duration::ZERO));
    let (sender, receiver) = unbounded_channel();
    let reporter = tokio::spawn(run(receiver, vec![Box::new(Clock(shown.clone()))]));
    // This event is a second old when it comes.
    let at = Duration::from_secs(3);
    sleep(Duration::from_secs(4)).await;
    let event = Event::Warning {
        message: String::new(),
    };
    sender
        .send(Stamped {
            at,
            event: event.clone(),
        })
        .unwrap();
    sleep(Duration::from_secs(10)).await;
    let late = Duration::from_secs(13) - *shown.lock().unwrap();
    assert!(late <= Duration::from_millis(500), "{late:?} late");
    // This one is not: the run began a second earlier than it seemed.
    let at = Duration::from_secs(15);
    sender.send(Stamped { at, event }).unwrap();
    sleep(Duration::from_secs(2)).await;
    drop(sender);
    reporter.await.unwrap();
    assert_eq!(*shown.lock().unwrap(), Duration::from_secs(17));
}

/// Blocks in its first draw until it is let go, as a terminal does that was stopped by Ctrl+S.
struct Stuck {
    drawing: UnboundedSender<()>,
    gate: mpsc::Receiver<()>,
}

impl Sink for Stuck {
    fn name(&self) -> &'static str {
        "a stopped terminal"
    }

    fn event(&mut self, _: &Stamped, _: &Tally) -> io::Result<()> {
        Ok(())
    }

    fn draw(&mut self, _: Duration, _: &Tally) -> io::Result<()> {
        // An error means that the test is over.
        _ = self.drawing.send(());
        _ = self.gate.recv();
        Ok(())
    }
}

#[tokio::test]
async fn a_display_that_blocks_does_not_hold_up_the_work() {
    let (go, gate) = mpsc::channel();
    let (drawing, mut stuck) = unbounded_channel();
    let (sender, receiver) = unbounded_channel();
    // This runtime has a single thread: were the display on it, nothing below would run.
    let reporter = spawn(receiver, vec![Box::new(Stuck { drawing, gate })]);
    let mut events = Script::new(1).written("tom").events().into_iter();
    sender.send(events.next().unwrap()).unwrap();
    stuck.recv().await.unwrap();
    for event in events {
        sender.send(event).unwrap();
    }
    let work = tokio::spawn(async { "done" });
    assert_eq!(work.await.unwrap(), "done");
    drop(sender);
    drop(go);
    let tally = reporter.await.unwrap();
    assert_eq!(tally.nodes.called, 8);
}
