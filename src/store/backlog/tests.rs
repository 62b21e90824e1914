use std::thread;

use super::*;
use crate::store::frame;
use crate::store::put::Gist;
use crate::store::record::Entry;
use crate::store::samples;

const SOON: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

fn written(seq: u64, entry: Entry) -> Written {
    let mut bytes = frame::encode(&entry).unwrap();
    frame::stamp(&mut bytes, seq);
    Written::new(Gist::from(&entry), seq, bytes)
}

fn batch(entries: Vec<Written>) -> Batch {
    Batch { entries, end: None }
}

fn seq_of(frame: Option<IVec>) -> Option<u64> {
    frame.map(|frame| frame::parse_whole(&frame).unwrap().seq)
}

fn answer_in(backlog: &Backlog, n: u64) -> Option<u64> {
    seq_of(backlog.get(Shelf::Answers, samples::key(n).as_bytes()))
}

fn taken(backlog: &Backlog) -> Batch {
    match backlog.next(None) {
        Next::Fill(batch) => batch,
        other => panic!("nothing to fill: {other:?}"),
    }
}

#[test]
fn what_is_shown_is_found_until_it_is_filled() {
    let backlog = Backlog::new(false);
    let entries = vec![
        written(1, samples::answer(1)),
        written(2, samples::transcript(5, "aa")),
    ];
    assert_eq!(answer_in(&backlog, 1), None);
    backlog.show(&entries);
    assert_eq!(answer_in(&backlog, 1), Some(1));
    assert_eq!(seq_of(backlog.get(Shelf::Notes, b"persona-5")), Some(2));
    backlog.hand_over(batch(entries), LONG).unwrap();
    let batch = taken(&backlog);
    assert_eq!(answer_in(&backlog, 1), Some(1), "it may not be in the trees yet");
    backlog.filled(&batch);
    assert_eq!(answer_in(&backlog, 1), None);
}

#[test]
fn a_newer_answer_outlives_the_filling_of_an_older_one() {
    let backlog = Backlog::new(false);
    let (older, newer) = (written(1, samples::answer(1)), written(2, samples::answer(1)));
    backlog.show(std::slice::from_ref(&older));
    backlog.hand_over(batch(vec![older]), LONG).unwrap();
    backlog.show(&[newer]);
    let batch = taken(&backlog);
    backlog.filled(&batch);
    assert_eq!(answer_in(&backlog, 1), Some(2));
}

#[test]
fn marks_are_nobodys_concern_before_the_first() {
    let backlog = Backlog::new(false);
    let mark = |n| put_key(n).and_then(|key| backlog.get(Shelf::Marks, &key));
    backlog.show(&[written(1, samples::answer(1))]);
    assert!(!backlog.have_marks());
    assert_eq!(mark(1), None);
    backlog.show(&[written(2, samples::refresh(1)), written(3, samples::answer(1))]);
    assert!(backlog.have_marks());
    assert_eq!(seq_of(mark(1)), Some(3), "its end");
    assert!(frame::parse_whole(&mark(1).unwrap()).unwrap().is_empty());
}

fn put_key(n: u64) -> Option<Vec<u8>> {
    Some(crate::store::put::mark_key(&samples::instance(n)))
}

#[test]
fn a_prefix_finds_its_own_and_nothing_else() {
    let backlog = Backlog::new(false);
    backlog.show(&[
        written(1, samples::rejected(1)),
        written(2, samples::rejected(2)),
        written(3, samples::rejected(1)),
        written(4, samples::answer(1)),
    ]);
    let found = backlog.with_prefix(Shelf::Rejected, samples::key(1).as_bytes());
    let seqs: Vec<_> = found
        .into_iter()
        .map(|(_, frame)| seq_of(Some(frame)).unwrap())
        .collect();
    assert_eq!(seqs, [1, 3]);
}

#[test]
fn whoever_hands_over_too_much_waits() {
    let backlog = Backlog::new(false);
    let full = || {
        batch(
            (0..=ENTRIES as u64)
                .map(|n| written(n, samples::attempt(n)))
                .collect(),
        )
    };
    backlog.hand_over(full(), SOON).unwrap();
    assert_eq!(
        backlog.hand_over(batch(Vec::new()), SOON),
        Err(Stuck),
        "the filler does nothing"
    );
    thread::scope(|scope| {
        let waiting = scope.spawn(|| backlog.hand_over(batch(vec![written(1, samples::answer(1))]), LONG));
        let batch = taken(&backlog);
        backlog.filled(&batch);
        assert_eq!(waiting.join().unwrap(), Ok(()));
    });
    assert_eq!(taken(&backlog).entries.len(), 1);
}

#[test]
fn one_batch_of_any_size_goes_through() {
    let backlog = Backlog::new(false);
    let large = batch(vec![Written {
        frame: vec![0; 3 * BYTES].into(),
        ..written(1, samples::attempt(1))
    }]);
    assert!(large.bytes() > BYTES);
    backlog.hand_over(large, SOON).unwrap();
}

#[test]
fn the_end_comes_after_what_is_queued_or_at_once() {
    for (end, left) in [(End::Drain, 1), (End::Abandon, 0)] {
        let backlog = Backlog::new(false);
        backlog
            .hand_over(batch(vec![written(1, samples::answer(1))]), SOON)
            .unwrap();
        backlog.end(end);
        let mut batches = 0;
        let ended = loop {
            match backlog.next(None) {
                Next::Fill(_) => batches += 1,
                Next::End(end) => break end,
                Next::Wait => panic!("there is no deadline"),
            }
        };
        assert_eq!((ended, batches), (end, left));
        backlog
            .hand_over(batch(vec![written(2, samples::answer(2))]), SOON)
            .unwrap();
        assert!(
            matches!(backlog.next(None), Next::End(_)),
            "what comes later goes nowhere"
        );
    }
}

#[test]
fn the_filler_wakes_up_at_its_deadline() {
    let backlog = Backlog::new(false);
    assert!(matches!(backlog.next(Some(Instant::now() + SOON)), Next::Wait));
}
