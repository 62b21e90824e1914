//! The live display, on a screen in memory.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::TermLike;

use crate::call::{Fault, FaultKind, Usage};
use crate::events::{CallOutcome, Event, Outcome, PersonaStatus, Stamped, Tally};
use crate::hours::Moment;
use crate::names::{PersonaId, Stop};
use crate::report::script::Script;
use crate::report::style::{Palette, width};
use crate::report::terminal::Terminal;
use crate::report::{Sink, bar};

const PLAIN: Palette = Palette { color: false };

/// What a terminal shows: enough of one for what indicatif does.
#[derive(Clone, Debug, Default)]
struct Screen(Arc<Mutex<Cells>>);

#[derive(Debug, Default)]
struct Cells {
    columns: usize,
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Cells {
    fn put(&mut self, c: char) {
        if c == '\r' {
            self.column = 0;
            return;
        }
        if c == '\n' || self.column == self.columns {
            self.row += 1;
            self.column = 0;
        }
        while self.rows.len() <= self.row {
            self.rows.push(Vec::new());
        }
        if c != '\n' {
            let row = &mut self.rows[self.row];
            row.resize(row.len().max(self.column + 1), ' ');
            row[self.column] = c;
            self.column += 1;
        }
    }
}

impl Screen {
    fn new(columns: usize) -> Self {
        let screen = Self::default();
        screen.0.lock().unwrap().columns = columns;
        screen
    }

    fn text(&self) -> String {
        let cells = self.0.lock().unwrap();
        let rows = cells
            .rows
            .iter()
            .map(|row| row.iter().collect::<String>().trim_end().to_owned());
        rows.collect::<Vec<_>>().join("\n").trim_end().to_owned()
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.0.lock().unwrap().columns as u16
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.0.lock().unwrap().row -= n;
        Ok(())
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.0.lock().unwrap().row += n;
        Ok(())
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.0.lock().unwrap().column += n;
        Ok(())
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.0.lock().unwrap().column -= n;
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)?;
        self.write_str("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        let mut cells = self.0.lock().unwrap();
        text.chars().for_each(|c| cells.put(c));
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        let mut cells = self.0.lock().unwrap();
        let row = cells.row;
        if let Some(row) = cells.rows.get_mut(row) {
            row.clear();
        }
        cells.column = 0;
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Plays events to a terminal, drawing after each of them, and returns it undropped.
fn play(screen: &Screen, events: &[Stamped]) -> Terminal<Screen> {
    let mut terminal = Terminal::new(screen.clone(), PLAIN);
    let mut tally = Tally::default();
    for stamped in events {
        tally.apply(stamped);
        terminal.event(stamped, &tally).unwrap();
        terminal.draw(stamped.at, &tally).unwrap();
    }
    terminal
}

fn some() -> Script {
    Script::real(3)
        .written("young_couple_01_daniel_mary")
        .fails(
            "old_man_01_tom",
            Fault::new(FaultKind::BadRequest, "no such thing"),
        )
        .send("farmer_01_bo", "chunk-1", 1)
}

#[test]
fn finished_lines_scroll_above_one_live_bar() {
    let screen = Screen::new(80);
    let _terminal = play(&screen, &some().events());
    insta::assert_snapshot!(screen.text(), @"
    run 20261123-223015-4f2a: 3 personas, 24 nodes, api.openai.com/v1
    ✓ young_couple_01_daniel_mary   8 calls   12,320 tokens  $0.0019   12.0s
    ✗ old_man_01_tom               chunk-3: no such thing
    ███████████████████████░░░░░░░░░░░░  16/24 nodes  2/3 personas  21.0s, ~15s left
    16/500 calls/min  1/64 in flight  21,560 tokens  $0.0033  1 failed
    ");
}

#[test]
fn of_many_that_are_up_to_date_a_terminal_names_some() {
    let screen = Screen::new(80);
    // One more that is as it was, but was called for.
    let first =
        Script::real(43)
            .works("farmer_01_bo", 7)
            .persona("farmer_01_bo", PersonaStatus::Unchanged, None);
    let script = (0..40).fold(first, |script, n| {
        let persona = format!("nurse_{n:02}");
        if n % 2 == 0 {
            script.unchanged(&persona)
        } else {
            let persona = PersonaId::from(persona.as_str());
            script.tell(Event::UpToDate { persona, saved: None })
        }
    });
    let script = script
        .written("old_man_01_tom")
        .works("old_man_02_bo", 7)
        .persona("old_man_02_bo", PersonaStatus::Unchanged, None)
        .finished(Outcome::Complete, None);
    drop(play(&screen, &script.events()));
    let text = screen.text();
    let told: Vec<&str> = text.lines().skip(20).take(9).collect();
    insta::assert_snapshot!(told.join("\n"), @"
    ○ nurse_18                     unchanged
    ○ nurse_19                     unchanged
    ○ more are up to date: the end says how many
    ✓ old_man_01_tom                8 calls   12,320 tokens  $0.0019   12.0s
    ○ old_man_02_bo                unchanged   1 call     1,540 tokens  $0.0002

    personas  43: 1 written, 42 unchanged
    nodes     344: 10 called, 334 cached
    calls     10: 10 ok
    ");
}

#[test]
fn at_the_end_the_bar_is_gone_and_the_summary_is_there() {
    let screen = Screen::new(80);
    let script = some()
        .tell(Event::Stopping(Stop::Drain))
        .wait(5.0)
        .finished(Outcome::Interrupted, None);
    drop(play(&screen, &script.events()));
    insta::assert_snapshot!(screen.text(), @"
    run 20261123-223015-4f2a: 3 personas, 24 nodes, api.openai.com/v1
    ✓ young_couple_01_daniel_mary   8 calls   12,320 tokens  $0.0019   12.0s
    ✗ old_man_01_tom               chunk-3: no such thing

    personas  3: 1 written, 1 failed, 1 left
    nodes     24: 14 called, 1 failed, 1 skipped, 8 left
    calls     16: 14 ok, 1 faulted, 1 abandoned
              abandoned calls may have been billed
    time      26.0s

    tokens    input         16,800
                cached       8,400  50 %
              output         4,760
                reasoning      560
              total         21,560

    cost      $0.0033
    saved     $0.0008 by the provider's cache
              $0.00 by septet's cache

    failures
      1 x bad_request: old_man_01_tom/chunk-3
          no such thing

    interrupted: 1 of 3 personas up to date, 1 failed, 1 left
    hint: `septet run` goes on from here; what was paid for is stored and not paid
    twice
    ");
}

#[test]
fn what_the_providers_cache_cost_is_broken_between_words() {
    let screen = Screen::new(80);
    let usage = Usage {
        input: 20_000_000,
        cache_write: Some(20_000_000),
        output: 1_000,
        ..Usage::default()
    };
    let script = Script::real(1).usage(usage).called("farmer_01_bo", "chunk-1");
    drop(play(
        &screen,
        &script.finished(Outcome::Interrupted, None).events(),
    ));
    let text = screen.text();
    let lines = text.lines().skip_while(|line| !line.starts_with("saved"));
    insta::assert_snapshot!(lines.take(3).collect::<Vec<_>>().join("\n"), @r"
    saved     -$0.5000 by the provider's cache: writing to it cost more than reading
              saved
              $0.00 by septet's cache
    ");
}

#[test]
fn the_echo_of_ctrl_c_tears_no_bar() {
    let screen = Screen::new(80);
    let script = some();
    let mut tally = script.tally();
    let mut terminal = play(&screen, &script.clone().events());
    // The terminal itself writes this where the cursor stands.
    screen.write_str("^C").unwrap();
    let stopped = script
        .tell(Event::Stopping(Stop::Drain))
        .wait(5.0)
        .finished(Outcome::Interrupted, None);
    let events = stopped.events();
    for stamped in &events[events.len() - 2..] {
        tally.apply(stamped);
        terminal.event(stamped, &tally).unwrap();
        terminal.draw(stamped.at, &tally).unwrap();
        screen.write_str("^C").unwrap();
        let bars = screen.text().matches("nodes  2/3 personas").count();
        assert!(bars <= 1, "{}", screen.text());
    }
    assert!(!screen.text().contains("2/3 personas"), "{}", screen.text());
}

#[test]
fn a_report_that_ends_without_an_end_leaves_no_bar() {
    let screen = Screen::new(80);
    drop(play(&screen, &some().events()));
    assert!(!screen.text().contains("calls/min"), "{}", screen.text());
}

fn moment(clock: &str) -> Moment {
    Moment {
        rfc3339: format!("2026-11-26T{clock}:00Z"),
        clock: clock.to_owned(),
    }
}

#[test]
fn what_everyone_waits_for_is_said_below() {
    let paused = Event::Paused {
        pause: Duration::from_secs(20),
        until: moment("23:30"),
        model: None,
        cause: "slow down".to_owned(),
    };
    let long = Event::Paused {
        pause: Duration::from_secs(3_600),
        until: moment("00:30"),
        model: Some("gpt-6-luna".into()),
        cause: "slow down".to_owned(),
    };
    let outage = Event::OutageBegan {
        cause: "connection refused".to_owned(),
    };
    let (drain, abort) = (Event::Stopping(Stop::Drain), Event::Stopping(Stop::Abort));
    let mut script = some();
    let mut seen = String::new();
    for event in [paused, long, outage, drain, abort] {
        script = script.tell(event);
        let tally = script.tally();
        let lines = bar::lines(&tally, tally.at + Duration::from_secs(7), PLAIN, 80);
        seen.push_str(&lines[2]);
        seen.push('\n');
    }
    insta::assert_snapshot!(seen, @"
    the provider asked to wait: 13.0s left
    the provider asked to wait with `gpt-6-luna`: waiting until 00:30 (59m 53s left)
    no answer for 7.0s, waiting and probing: connection refused
    stopping: waiting for 1 call in flight; Ctrl+C again drops it
    stopping now: dropping 1 call in flight, which may be billed
    ");
}

#[test]
fn faults_in_a_row_are_told_before_they_are_an_outage() {
    let refused = || Fault::new(FaultKind::Connection, "cannot connect to `127.0.0.1:8790`");
    let mut script = some();
    let mut seen = String::new();
    let mut look = |script: &Script| {
        let tally = script.tally();
        let lines = bar::lines(&tally, tally.at, PLAIN, 80);
        seen.push_str(lines.get(2).map_or("(nothing)", String::as_str));
        seen.push('\n');
    };
    for attempt in 1..=4 {
        script = script.send("farmer_01_bo", "chunk-2", attempt).wait(2.0).end(
            "farmer_01_bo",
            "chunk-2",
            attempt,
            CallOutcome::Faulted(refused()),
        );
        look(&script);
    }
    let cause = refused().message;
    script = script.wait(4.0).tell(Event::OutageBegan { cause });
    look(&script);
    script = script
        .tell(Event::OutageEnded {
            lasted: Duration::from_secs(1),
        })
        .called("farmer_01_bo", "chunk-2");
    look(&script);
    insta::assert_snapshot!(seen, @"
    (nothing)
    (nothing)
    no answer for 4.0s, trying again: cannot connect to `127.0.0.1:8790`
    no answer for 6.0s, trying again: cannot connect to `127.0.0.1:8790`
    no answer for 10.0s, waiting and probing: cannot connect to `127.0.0.1:8790`
    (nothing)
    ");
}

#[test]
fn the_bar_fits_any_width() {
    let cause = "connection refused by a host with a long name".to_owned();
    let tally = some()
        .unpriced()
        .called("farmer_01_bo", "chunk-2")
        .tell(Event::OutageBegan { cause })
        .tally();
    for columns in 1..200 {
        for line in bar::lines(&tally, tally.at, PLAIN, columns) {
            assert!(width(&line) <= columns, "{columns} columns: {line}");
        }
    }
}

#[test]
fn a_wide_bar_has_room_for_everything() {
    let script = (0..40).fold(Script::new(102), |script, i| {
        script.written(&format!("farmer_{i:02}"))
    });
    let tally = script.tally();
    let lines = bar::lines(&tally, tally.at, PLAIN, 120).join("\n");
    insta::assert_snapshot!(lines, @"
    ███████████████░░░░░░░░░░░░░░░░░░░░░░░░░  320/816 nodes  40/102 personas  8m 00s, ~12m left
    39 calls/min  0/64 in flight  492,800 tokens  $0.0755 (simulated)
    ");
}
