use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::names::Instance;
use crate::store::record::TranscriptNote;
use crate::store::{Looked, Miss, Store, samples};

fn open(cache: &Path) -> LocalStore {
    LocalStore::open(cache, |_| {}).unwrap().0
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(work)
}

fn exported(store: &LocalStore) -> String {
    let mut bytes = Vec::new();
    let exported = store.export(&mut bytes).unwrap();
    assert_eq!(exported.damaged, []);
    let text = String::from_utf8(bytes).unwrap();
    assert_eq!(text.lines().count() as u64, exported.entries + 2);
    text
}

async fn keep_all(store: &LocalStore, entries: &[Entry]) {
    for entry in entries {
        store.note(entry.clone()).await.unwrap();
    }
}

/// The lines of a store with these entries.
fn lines_of(entries: &[Entry]) -> String {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    run(keep_all(&store, entries));
    exported(&store)
}

#[track_caller]
fn import(store: &LocalStore, text: &str, conflict: Conflict) -> Imported {
    run(store.import(&mut text.as_bytes(), conflict)).unwrap()
}

/// What a store says to everything that these tests ask.
fn all(store: &LocalStore) -> Vec<(Looked, Option<TranscriptNote>)> {
    let one = |n| {
        let (instance, key) = (samples::instance(n), samples::key(n));
        (
            store.look(&instance, &key, &samples::bounds(None)).unwrap(),
            store.transcript(&instance.persona).unwrap(),
        )
    };
    (0..6).map(one).collect()
}

/// An answer to request `n` of instance `n` at a time.
fn answer(n: u64, text: &str, at_ms: u64) -> Entry {
    let mut record = samples::record(n, text);
    record.at_ms = at_ms;
    Entry::Answer(record)
}

fn served(store: &LocalStore, n: u64) -> Option<String> {
    match store
        .look(&samples::instance(n), &samples::key(n), &samples::bounds(None))
        .unwrap()
    {
        Looked::Hit(record) => Some(record.answer.text),
        _ => None,
    }
}

prop_compose! {
    fn any_entry()(
        kind in 0..9_u8,
        n in 0..5_u64,
        text in "\\PC{0,40}|[\\x00-\\x1f\\x7f-\\u{9f}\"\\\\]{0,8}",
        at_ms in 0..50_u64,
        payer in 0..5_u64,
    ) -> Entry {
        let mut record = samples::record(n, &text);
        record.at_ms = at_ms;
        record.instance = Instance::new(format!("{}{text}", samples::instance(payer).persona), "chunk-1");
        match kind {
            0..3 => Entry::Answer(record),
            3 => Entry::Rejected { record, rejection: crate::call::Rejection::Refused },
            4 => Entry::Retired { record, why: Retirement::Outdated },
            5 => samples::attempt(n),
            6 => samples::refresh(n),
            7 => samples::transcript(n, &text),
            _ => samples::run(n),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_export_is_the_same_after_an_import(
        entries in prop::collection::vec(any_entry(), 0..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = open(first.path());
        run(keep_all(&store, &entries));
        let text = exported(&store);
        prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        let other = open(second.path());
        // Interrupted, and repeated.
        let cut: String = text.lines().take(cut.index(entries.len() + 1)).map(|line| format!("{line}\n")).collect();
        let begun = import(&other, &cut, Conflict::Newest);
        prop_assert!(!begun.complete);
        let imported = import(&other, &text, Conflict::Newest);
        prop_assert_eq!(imported.added + begun.added, entries.len() as u64);
        prop_assert!(imported.complete && imported.known == begun.added);
        prop_assert_eq!(&exported(&other), &text);
        prop_assert_eq!(all(&other), all(&store));
        // Nothing is taken twice, also where the store has them for itself.
        for (store, conflict) in [(&other, Conflict::Existing), (&store, Conflict::Newest)] {
            let again = import(store, &text, conflict);
            prop_assert_eq!((again.added, again.known), (0, entries.len() as u64));
        }
        prop_assert_eq!(&exported(&store), &text);
    }

    #[test]
    fn whatever_two_stores_have_both_is_there_afterwards(
        here in prop::collection::vec(any_entry(), 0..12),
        there in prop::collection::vec(any_entry(), 0..12),
        newest in any::<bool>(),
    ) {
        let cache = tempfile::tempdir().unwrap();
        let store = open(cache.path());
        run(keep_all(&store, &here));
        let conflict = if newest { Conflict::Newest } else { Conflict::Existing };
        let lines = lines_of(&there);
        let imported = import(&store, &lines, conflict);
        prop_assert_eq!(imported.added + imported.known + imported.notes_left, there.len() as u64);
        // Every record that was paid for is in the book.
        let paid = |entry: &Entry| match entry {
            Entry::Answer(record) | Entry::Retired { record, .. } | Entry::Rejected { record, .. } => Some(record.clone()),
            _ => None,
        };
        let book: Vec<_> = store.entries().unwrap().map(|line| line.unwrap().unwrap().entry).collect();
        let booked: Vec<_> = book.iter().filter_map(paid).collect();
        for record in here.iter().chain(&there).filter_map(paid) {
            prop_assert!(booked.contains(&record));
        }
        // And a second time nothing changes.
        let again = import(&store, &lines, conflict);
        prop_assert_eq!(again.added, 0);
    }
}

#[test]
fn of_two_answers_the_newest_is_served_or_the_one_that_is_here() {
    let rows = [
        ("newer", 20, Conflict::Newest, "there", (1, 0)),
        ("older", 5, Conflict::Newest, "here", (0, 1)),
        ("as old", 10, Conflict::Newest, "here", (0, 1)),
        ("newer, and not wanted", 20, Conflict::Existing, "here", (0, 1)),
    ];
    for (name, at_ms, conflict, text, counts) in rows {
        let cache = tempfile::tempdir().unwrap();
        let store = open(cache.path());
        run(keep_all(&store, &[answer(1, "here", 10)]));
        let lines = lines_of(&[answer(1, "there", at_ms)]);
        let imported = import(&store, &lines, conflict);
        assert_eq!((imported.replacing, imported.outdated), counts, "{name}");
        assert_eq!(served(&store, 1).as_deref(), Some(text), "{name}");
        let again = import(&store, &lines, conflict);
        assert_eq!((again.added, again.known), (0, 1), "{name}");
        store.close().unwrap();
        assert_eq!(served(&open(cache.path()), 1).as_deref(), Some(text), "{name}");
    }
}

#[test]
fn a_refresh_that_comes_with_an_answer_ends_with_it() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    run(keep_all(&store, &[answer(1, "here", 10)]));
    let lines = lines_of(&[samples::refresh(1), answer(1, "there", 5)]);
    import(&store, &lines, Conflict::Newest);
    assert_eq!(served(&store, 1).as_deref(), Some("here"), "nobody pays again");
    let open_one = lines_of(&[samples::refresh(1)]);
    let imported = import(&store, &open_one, Conflict::Newest);
    assert_eq!(imported.known, 1, "it was there, and has ended");
    let two = lines_of(&[samples::refresh(1), samples::refresh(1)]);
    import(&store, &two, Conflict::Newest);
    let looked = store
        .look(&samples::instance(1), &samples::key(1), &samples::bounds(None))
        .unwrap();
    assert_eq!(looked, Looked::Miss(Miss::Refreshed));
}

#[test]
fn notes_about_other_transcripts_are_left_out() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    run(keep_all(&store, &[samples::transcript(1, "aa")]));
    let lines = lines_of(&[
        samples::transcript(1, "bb"),
        samples::transcript(2, "cc"),
        samples::transcript(2, "dd"),
    ]);
    let imported = import(&store, &lines, Conflict::Newest);
    assert_eq!((imported.added, imported.notes_left), (2, 1));
    let note = |n| {
        store
            .transcript(&samples::instance(n).persona)
            .unwrap()
            .unwrap()
            .written
    };
    assert_eq!((note(1), note(2)), ("aa".to_owned(), "dd".to_owned()));
}

#[test]
fn a_wrong_line_is_named_and_what_stands_before_it_stays() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    let good = lines_of(&[answer(1, "one", 1), answer(2, "two", 2)]);
    let mut lines: Vec<_> = good.lines().map(str::to_owned).collect();
    lines[2] = lines[2].replace("two", "tow");
    let wrong = lines.join("\n");
    let error = run(store.import(&mut wrong.as_bytes(), Conflict::Newest)).unwrap_err();
    assert_eq!(error.to_string(), "line 3: checksum does not match");
    assert_eq!(
        (served(&store, 1), served(&store, 2)),
        (Some("one".to_owned()), None)
    );
    let cut = &good[..good.len() - 30];
    let error = run(store.import(&mut cut.as_bytes(), Conflict::Newest));
    assert!(error.is_err() || !error.unwrap().complete);
    assert_eq!(import(&store, &good, Conflict::Newest).known, 1);
    let latin = run(store.import(&mut &b"\xff\n"[..], Conflict::Newest)).unwrap_err();
    assert_eq!(latin.to_string(), "line 1: is not UTF-8");
}

#[test]
fn a_line_without_end_is_no_reason_to_take_all_memory() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    let mut endless = io::BufReader::new(io::repeat(b'x'));
    let error = run(store.import(&mut endless, Conflict::Newest)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("line 1: is longer than {LINE_LIMIT} bytes")
    );
}

#[test]
fn what_a_newer_septet_added_to_an_entry_goes_through() {
    let json = serde_json::to_string(&answer(1, "one", 1)).unwrap();
    let json = json.replacen(
        "{\"entry\":\"answer\",",
        "{\"entry\":\"answer\",\"mood\":[1.50,\"\\u00e9\"],",
        1,
    );
    let text = [line::head(), line::entry(&json), line::end(1)]
        .map(|line| line + "\n")
        .concat();
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    import(&store, &text, Conflict::Newest);
    assert_eq!(exported(&store), text);
    assert_eq!(served(&store, 1).as_deref(), Some("one"));
}
