use std::fs;
use std::pin::pin;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Waker};

use proptest::prelude::*;

use super::*;
use crate::store::faulty::{Applies, Fault, FaultyDisk, Operation, copy};
use crate::store::keys;
use crate::store::memory::MemoryStore;
use crate::store::samples;
use crate::store::segment::HEADER;
use crate::store::{checkpoint, generations};

fn open(cache: &Path) -> LocalStore {
    LocalStore::open(cache, |_| {}).unwrap().0
}

fn on(disk: &FaultyDisk) -> Settings {
    Settings {
        disk: Arc::new(disk.clone()),
        ..Settings::default()
    }
}

fn open_on(cache: &Path, disk: &FaultyDisk) -> LocalStore {
    LocalStore::open_with(cache, &on(disk), |_| {}).unwrap().0
}

fn look(store: &impl Store, n: u64) -> Looked {
    store
        .look(&samples::instance(n), &samples::key(n), &samples::bounds(None))
        .unwrap()
}

/// All good answers to request `n`, replaced ones too.
fn answers(store: &impl Store, n: u64) -> Vec<Record> {
    let answers = store.answers(&samples::key(n)).unwrap();
    assert!(answers.is_sorted_by(|a, b| a.seq < b.seq));
    answers.into_iter().map(|answer| answer.what).collect()
}

/// All attempts and faults of instance `n`.
fn calls(store: &impl Store, n: u64) -> Vec<Entry> {
    let calls = store.calls(&samples::instance(n)).unwrap();
    assert!(calls.is_sorted_by(|a, b| a.seq < b.seq));
    calls.into_iter().map(|call| call.what).collect()
}

fn hit(entry: Entry) -> Looked {
    match entry {
        Entry::Answer(record) => Looked::Hit(Box::new(record)),
        _ => panic!("no answer"),
    }
}

/// An answer to request `n` that was cut off under this limit.
fn cut_off(n: u64, limit: Option<u64>) -> Entry {
    let mut record = samples::record(n, "cut o");
    record.max_output_tokens = limit;
    Entry::Rejected {
        record,
        rejection: Rejection::Truncated,
    }
}

/// What is found where only [`samples::rejected`] is stored, under a larger limit.
fn was_cut_off(n: u64) -> Looked {
    let rejected = crate::store::Rejected::new(&samples::record(n, ""), Rejection::Truncated);
    Looked::Miss(Miss::CutOff(rejected))
}

const ABSENT: Looked = Looked::Miss(Miss::Absent);
const REFRESHED: Looked = Looked::Miss(Miss::Refreshed);

/// An answer to request `n` that was paid for by instance `payer`.
fn answer_for(n: u64, payer: u64, text: &str) -> Entry {
    let mut record = samples::record(n, text);
    record.instance = samples::instance(payer);
    Entry::Answer(record)
}

fn journaled(store: &LocalStore) -> Vec<Entry> {
    let lines = store.entries().unwrap();
    lines.map(|line| line.unwrap().unwrap().entry).collect()
}

/// What a store says to everything that the tests ask.
fn all(store: &impl Store) -> Vec<([Looked; 4], Option<TranscriptNote>)> {
    let one = |n| {
        let (instance, key) = (samples::instance(n), samples::key(n));
        let look = |limit| store.look(&instance, &key, &samples::bounds(limit)).unwrap();
        (
            [None, Some(4000), Some(701), Some(400)].map(look),
            store.transcript(&samples::instance(n).persona).unwrap(),
        )
    };
    (0..12).map(one).collect()
}

#[tokio::test]
async fn an_answer_is_found_at_once_and_after_a_restart() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    assert_eq!(look(&store, 1), ABSENT);
    store.keep(samples::answer(1)).await.unwrap();
    assert_eq!(look(&store, 1), hit(samples::answer(1)));
    let other = store
        .look(&samples::instance(99), &samples::key(1), &samples::bounds(None))
        .unwrap();
    assert_eq!(other, hit(samples::answer(1)), "a twin is served too");
    store.close().unwrap();
    assert_eq!(look(&open(cache.path()), 1), hit(samples::answer(1)));
}

#[tokio::test]
async fn what_was_never_stored_is_not_asked_of_the_trees_after_a_restart() {
    let cache = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let store = open(cache.path());
        let trees = &store.view.trees;
        let unknown = (1000..1100).filter(|n| trees.denies(Shelf::Answers, samples::key(*n).as_bytes()));
        assert!(unknown.count() > 95, "round {round}");
        assert!(trees.denies(Shelf::Notes, b"nobody"));
        assert!(trees.denies(Shelf::Sources, samples::source_id(1000).as_bytes()));
        for n in 0..round * 20 {
            assert_eq!(look(&store, n), hit(samples::answer(n)));
            assert!(store.has_source(&samples::source_id(n)).unwrap());
        }
        for n in round * 20..round * 20 + 20 {
            assert_eq!(look(&store, n), ABSENT);
            store.keep(samples::answer(n)).await.unwrap();
            store.keep(samples::source(n)).await.unwrap();
            assert_eq!(look(&store, n), hit(samples::answer(n)));
        }
        // After an unclean end they are made anew.
        match round {
            1 => drop(store),
            _ => store.close().unwrap(),
        }
    }
}

#[tokio::test]
async fn the_newer_answer_is_served() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    store.keep(answer_for(1, 1, "old")).await.unwrap();
    store.keep(answer_for(1, 1, "new")).await.unwrap();
    assert_eq!(look(&store, 1), hit(answer_for(1, 1, "new")));
    store.close().unwrap();
    assert_eq!(look(&open(cache.path()), 1), hit(answer_for(1, 1, "new")));
}

#[tokio::test]
async fn a_refresh_lasts_until_its_new_answer() {
    let cache = tempfile::tempdir().unwrap();
    let mut store = open(cache.path());
    store.keep(samples::answer(1)).await.unwrap();
    store.keep(samples::refresh(1)).await.unwrap();
    for restart in [false, true, true] {
        if restart {
            store.close().unwrap();
            store = open(cache.path());
        }
        assert_eq!(look(&store, 1), REFRESHED);
        let other = store
            .look(&samples::instance(2), &samples::key(1), &samples::bounds(None))
            .unwrap();
        assert_eq!(other, hit(samples::answer(1)), "nobody asked for that one again");
    }
    store.keep(samples::fault(1)).await.unwrap();
    assert_eq!(look(&store, 1), REFRESHED, "it is no answer");
    store.keep(answer_for(1, 1, "new")).await.unwrap();
    assert_eq!(look(&store, 1), hit(answer_for(1, 1, "new")));
    store.close().unwrap();
    assert_eq!(look(&open(cache.path()), 1), hit(answer_for(1, 1, "new")));
}

#[tokio::test]
async fn twins_that_are_refreshed_together_pay_once() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    let look = |n| {
        store
            .look(&samples::instance(n), &samples::key(1), &samples::bounds(None))
            .unwrap()
    };
    store.keep(answer_for(1, 1, "old")).await.unwrap();
    store.keep(samples::refresh(1)).await.unwrap();
    store.keep(samples::refresh(2)).await.unwrap();
    assert_eq!((look(1), look(2)), (REFRESHED, REFRESHED));
    store.keep(answer_for(1, 1, "new")).await.unwrap();
    assert_eq!(look(2), hit(answer_for(1, 1, "new")), "newer than its mark");
    store.keep(samples::refresh(2)).await.unwrap();
    assert_eq!(look(2), REFRESHED);
}

#[tokio::test]
async fn a_mark_without_an_answer_is_no_reason_of_its_own() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    store.keep(samples::refresh(1)).await.unwrap();
    assert_eq!(look(&store, 1), ABSENT);
}

#[tokio::test]
async fn rejected_answers_are_evidence() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    for n in [1, 2, 1] {
        store.keep(samples::rejected(n)).await.unwrap();
    }
    assert_eq!(look(&store, 1), was_cut_off(1));
    let expected = vec![(samples::record(1, "cut o"), Rejection::Truncated); 2];
    assert_eq!(store.rejected(&samples::key(1)).unwrap(), expected);
    store.close().unwrap();
    let store = open(cache.path());
    store.keep(samples::rejected(2)).await.unwrap();
    assert_eq!(store.rejected(&samples::key(1)).unwrap(), expected);
    assert_eq!(
        store.rejected(&samples::key(2)).unwrap().len(),
        2,
        "one of them in the backlog"
    );
}

#[tokio::test]
async fn what_was_cut_off_is_known_at_once_and_after_a_restart() {
    let cache = tempfile::tempdir().unwrap();
    let mut store = open(cache.path());
    store.keep(cut_off(1, Some(4000))).await.unwrap();
    for restart in [false, true] {
        if restart {
            store.close().unwrap();
            store = open(cache.path());
        }
        let look = |limit| {
            store
                .look(&samples::instance(1), &samples::key(1), &samples::bounds(limit))
                .unwrap()
        };
        assert!(matches!(look(Some(4000)), Looked::CutOff(_)));
        assert_eq!(look(Some(4001)), was_cut_off(1));
        let other = store
            .look(
                &samples::instance(2),
                &samples::key(2),
                &samples::bounds(Some(4000)),
            )
            .unwrap();
        assert_eq!(other, ABSENT, "another request");
    }
    store.keep(samples::refresh(1)).await.unwrap();
    let look = |limit| {
        store
            .look(&samples::instance(1), &samples::key(1), &samples::bounds(limit))
            .unwrap()
    };
    assert_eq!(look(Some(4000)), REFRESHED);
    store.keep(cut_off(1, Some(4000))).await.unwrap();
    assert!(
        matches!(look(Some(4000)), Looked::CutOff(_)),
        "asked again, and paid for once"
    );
}

#[tokio::test]
async fn a_damaged_truncated_answer_is_passed_over_and_built_again() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    store.keep(samples::rejected(1)).await.unwrap();
    store.close().unwrap();
    let store = open(cache.path());
    let (place, value) = store
        .view
        .with_prefix(Shelf::Rejected, &[])
        .unwrap()
        .pop_first()
        .unwrap();
    let frame = Some(flipped(value.to_vec()).into());
    let (shelf, seq) = (Shelf::Rejected, 0);
    store
        .view
        .trees
        .put(&put::Put {
            shelf,
            key: place,
            seq,
            frame,
        })
        .unwrap();
    assert_eq!(look(&store, 1), ABSENT);
    store.close().unwrap();
    assert_eq!(look(&open(cache.path()), 1), was_cut_off(1));
}

#[tokio::test]
async fn runs_and_transcripts_are_found() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    let persona = samples::instance(5).persona;
    assert_eq!(store.transcript(&persona).unwrap(), None);
    for entry in [
        samples::run(2),
        samples::transcript(5, "aa"),
        samples::run(1),
        samples::transcript(5, "bb"),
    ] {
        store.note(entry).await.unwrap();
    }
    let check = |store: &LocalStore| {
        assert_eq!(store.transcript(&persona).unwrap().unwrap().written, "bb");
        // As they ended, whatever the clock said.
        assert_eq!(store.runs().unwrap(), [samples::run(2), samples::run(1)]);
    };
    check(&store);
    store.close().unwrap();
    check(&open(cache.path()));
}

#[tokio::test]
async fn the_journal_is_read_in_order_with_all_that_is_in_it() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    let mut expected = Vec::new();
    for _ in 0..2 {
        for entry in samples::one_of_each() {
            store.note(entry.clone()).await.unwrap();
            expected.push(entry);
        }
        assert_eq!(journaled(&store), expected);
    }
    store.close().unwrap();
    assert_eq!(journaled(&open(cache.path())), expected);
}

#[tokio::test]
async fn stats_count() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    for entry in samples::one_of_each() {
        store.keep(entry).await.unwrap();
    }
    store.keep(samples::answer(1)).await.unwrap();
    store.keep(samples::answer(2)).await.unwrap();
    store.close().unwrap();
    let stats = open(cache.path()).stats().unwrap();
    assert_eq!(
        (
            stats.answers,
            stats.rejected,
            stats.transcripts,
            stats.runs,
            stats.journal_files
        ),
        (2, 1, 1, 1, 1)
    );
    assert!(
        stats.journal_bytes > 3_000 && stats.tree_bytes > 3_000,
        "{stats:?}"
    );
}

#[tokio::test]
async fn calls_without_an_end_are_known_after_any_end() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    for n in 1..=5 {
        store.note(samples::attempt(n)).await.unwrap();
    }
    store.keep(samples::answer(1)).await.unwrap();
    store.keep(samples::rejected(2)).await.unwrap();
    store.note(samples::fault(3)).await.unwrap();
    assert_eq!(store.unfinished(), [], "as of the open");
    store.close().unwrap();
    let left = [samples::sent(4), samples::sent(5)];
    let store = open(cache.path());
    assert_eq!(store.unfinished(), left, "by the checkpoint");
    drop(store);
    fs::remove_dir_all(cache.path().join(STORE)).unwrap();
    let store = open(cache.path());
    assert_eq!(store.unfinished(), left, "by the journal");
    store.note(samples::fault(4)).await.unwrap();
    drop(store);
    assert_eq!(open(cache.path()).unfinished(), [samples::sent(5)]);
}

#[tokio::test]
async fn an_answer_that_is_too_large_fails_alone() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    let error = store
        .keep(answer_for(1, 1, &"a".repeat(64 << 20)))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Io { what: "write", .. }), "{error:?}");
    store.keep(samples::answer(2)).await.unwrap();
    store.close().unwrap();
}

#[tokio::test]
async fn large_answers_come_back() {
    let cache = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    let noise: String = (0..3 << 20).map(|_| rng.alphanumeric()).collect();
    let store = open(cache.path());
    store.keep(answer_for(1, 1, &noise)).await.unwrap();
    store.keep(samples::answer(2)).await.unwrap();
    store.close().unwrap();
    let store = open(cache.path());
    assert_eq!(look(&store, 1), hit(answer_for(1, 1, &noise)));
    assert_eq!(look(&store, 2), hit(samples::answer(2)));
}

// Durability.

/// How many syncs of a file there are between the append that holds the answer `n` and now.
fn syncs_after(operations: &[Operation], n: u64) -> usize {
    let key = *samples::key(n).as_bytes();
    let holds = |bytes: &[u8]| bytes.windows(32).any(|window| window == key);
    let written = operations
        .iter()
        .position(|operation| matches!(operation, Operation::Append(_, bytes) if holds(bytes)));
    let at = written.expect("it was appended");
    let Operation::Append(file, _) = &operations[at] else {
        unreachable!("found as one")
    };
    let sync = Operation::Sync(file.clone());
    operations[at..]
        .iter()
        .filter(|operation| **operation == sync)
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn between_the_write_and_the_word_there_is_a_sync() {
    let cache = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let settings = Settings {
        segment_bytes: 32 << 10,
        ..on(&disk)
    };
    let store = Arc::new(LocalStore::open_with(cache.path(), &settings, |_| {}).unwrap().0);
    let producers = (0..16).map(|producer| {
        let (store, disk) = (store.clone(), disk.clone());
        tokio::spawn(async move {
            for n in producer * 20..producer * 20 + 20 {
                store.note(samples::attempt(1000 + n)).await.unwrap();
                store.keep(samples::answer(n)).await.unwrap();
                assert!(syncs_after(&disk.operations(), n) > 0, "answer {n}");
                assert_eq!(look(&*store, n), hit(samples::answer(n)));
            }
        })
    });
    for producer in producers.collect::<Vec<_>>() {
        producer.await.unwrap();
    }
    let operations = disk.operations();
    let syncs = operations
        .iter()
        .filter(|operation| matches!(operation, Operation::Sync(_)));
    let created = operations
        .iter()
        .filter(|operation| matches!(operation, Operation::Create(_)));
    assert!(created.count() > 3, "there were new segments in between");
    assert!(syncs.count() < 320, "many answers share a sync");
}

#[tokio::test]
async fn nobody_is_told_while_the_disk_still_writes() {
    let cache = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let store = open_on(cache.path(), &disk);
    disk.hold_sync();
    let mut keep = pin!(store.keep(samples::answer(1)));
    let mut is_pending = || {
        let mut context = Context::from_waker(Waker::noop());
        keep.as_mut().poll(&mut context).is_pending()
    };
    let before_the_sync = is_pending();
    disk.wait_for_sync();
    let while_it_syncs = (is_pending(), look(&store, 1));
    // Before anything is asserted: a store that is dropped waits for its last sync.
    disk.let_sync();
    assert!(before_the_sync);
    assert_eq!(while_it_syncs, (true, ABSENT), "a power cut could still lose it");
    keep.await.unwrap();
    assert_eq!(look(&store, 1), hit(samples::answer(1)));
}

#[tokio::test]
async fn a_new_segment_is_durable_before_anything_is_in_it() {
    let cache = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let store = open_on(cache.path(), &disk);
    store.keep(samples::answer(1)).await.unwrap();
    let first = segment::path(&cache.path().join(JOURNAL), 1);
    let header = Operation::Append(first.clone(), segment::header().to_vec());
    let sync = Operation::Sync(first.clone());
    let operations = disk.operations();
    assert_eq!(
        operations[..4],
        [
            Operation::Create(first),
            header,
            sync.clone(),
            Operation::SyncFolder
        ]
    );
    let appended = |operation: &&Operation| matches!(operation, Operation::Append(..));
    assert_eq!(operations.iter().filter(appended).count(), 2);
    assert!(matches!(operations[4..], [.., Operation::Append(..), ref last] if *last == sync));
}

#[tokio::test]
async fn notes_need_no_sync_of_their_own_but_get_one() {
    let cache = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let syncs = || {
        let operations = disk.operations();
        operations
            .iter()
            .filter(|operation| matches!(operation, Operation::Sync(_)))
            .count()
    };
    let store = open_on(cache.path(), &disk);
    let before = syncs();
    for n in 0..100 {
        store.note(samples::attempt(n)).await.unwrap();
    }
    assert_eq!(syncs(), before);
    for n in 0..400 {
        store.note(samples::transcript(n, "aa")).await.unwrap();
    }
    assert!(
        syncs() > before,
        "the trees may have them only then, and they must not pile up"
    );
    let before = syncs();
    store.note(samples::attempt(1)).await.unwrap();
    drop(store);
    assert_eq!(syncs(), before + 1);
}

const APPEND: Applies = |operation| matches!(operation, Operation::Append(..));
const SYNC: Applies = |operation| matches!(operation, Operation::Sync(_));
const CREATE: Applies = |operation| matches!(operation, Operation::Create(_));
const SYNC_FOLDER: Applies = |operation| matches!(operation, Operation::SyncFolder);

#[tokio::test]
async fn a_write_that_fails_fails_its_batch_and_loses_nothing_before_it() {
    let faults: [(&str, Fault, Applies); 6] = [
        ("nothing is written", Fault::Refused, APPEND),
        ("half is written", Fault::HalfWay, APPEND),
        ("half is written and cannot be cut off", Fault::Dead, APPEND),
        ("the sync fails", Fault::Refused, SYNC),
        ("the sync fails and nothing works after it", Fault::Dead, SYNC),
        ("the write dies", Fault::Dead, APPEND),
    ];
    for (name, fault, applies) in faults {
        let cache = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::default();
        let store = open_on(cache.path(), &disk);
        store.note(samples::attempt(1)).await.unwrap();
        store.keep(samples::answer(1)).await.unwrap();
        store.note(samples::transcript(3, "aa")).await.unwrap();
        let journal = segment::path(&cache.path().join(JOURNAL), 1);
        let len = || fs::metadata(&journal).unwrap().len();
        let before = len();
        disk.fail(0, fault, applies);
        let error = store.keep(samples::answer(2)).await.unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }), "{name}: {error:?}");
        assert!(fault == Fault::Dead || len() == before, "{name}: cut back");
        for _ in 0..2 {
            let error = store.keep(samples::answer(3)).await.unwrap_err();
            assert!(matches!(error, StoreError::Stopped), "{name}: {error:?}");
        }
        assert_eq!(look(&store, 2), ABSENT, "{name}");
        assert_eq!(look(&store, 1), hit(samples::answer(1)), "{name}: still served");
        assert!(store.close().is_err(), "{name}");
        let store = open(cache.path());
        let before = [
            samples::attempt(1),
            samples::answer(1),
            samples::transcript(3, "aa"),
        ];
        let after = journaled(&store);
        assert_eq!(after[..3], before, "{name}");
        // Where nothing can be cut off any more the write may be there, whole; nobody was told so.
        let left = usize::from(name == "the sync fails and nothing works after it");
        assert!((3..=3 + left).contains(&after.len()), "{name}: {after:?}");
        store.keep(samples::answer(2)).await.unwrap();
        assert_eq!(look(&store, 2), hit(samples::answer(2)), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_who_wait_for_a_write_that_fails_are_told() {
    let cache = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let store = Arc::new(open_on(cache.path(), &disk));
    disk.fail(3, Fault::Refused, SYNC);
    let kept: Vec<_> = (0..200)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { (n, store.keep(samples::answer(n)).await) })
        })
        .collect();
    let (mut told, mut failed, mut stopped) = (Vec::new(), 0, 0);
    for task in kept {
        match task.await.unwrap() {
            (n, Ok(())) => told.push(n),
            (_, Err(StoreError::Io { source, .. })) => {
                assert_eq!(source.kind(), io::ErrorKind::StorageFull);
                failed += 1;
            }
            (_, Err(error)) => {
                assert!(matches!(error, StoreError::Stopped), "{error:?}");
                stopped += 1;
            }
        }
    }
    assert!(failed > 0 && told.len() + failed + stopped == 200);
    drop(Arc::into_inner(store).unwrap());
    let store = open(cache.path());
    for n in 0..200 {
        let expected = if told.contains(&n) {
            hit(samples::answer(n))
        } else {
            ABSENT
        };
        assert_eq!(look(&store, n), expected, "answer {n}");
    }
}

#[tokio::test]
async fn a_segment_that_cannot_be_begun_fails_the_batch_alone() {
    for (applies, fault) in [
        (CREATE, Fault::Refused),
        (SYNC_FOLDER, Fault::Refused),
        (SYNC, Fault::Dead),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::default();
        let settings = Settings {
            segment_bytes: 3_000,
            ..on(&disk)
        };
        let store = LocalStore::open_with(cache.path(), &settings, |_| {}).unwrap().0;
        let long = samples::prose(1, 2_500);
        store.keep(answer_for(1, 1, &long)).await.unwrap();
        disk.fail(0, fault, applies);
        let error = store.keep(answer_for(2, 2, &long)).await.unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
        drop(store);
        let store = open(cache.path());
        assert_eq!(look(&store, 1), hit(answer_for(1, 1, &long)));
        assert_eq!(look(&store, 2), ABSENT);
        store.keep(answer_for(2, 2, &long)).await.unwrap();
        drop(store);
        assert_eq!(look(&open(cache.path()), 2), hit(answer_for(2, 2, &long)));
    }
}

#[tokio::test]
async fn a_sync_that_nobody_waits_for_and_fails_is_told_to_the_next() {
    let cache = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let store = open_on(cache.path(), &disk);
    store.note(samples::attempt(1)).await.unwrap();
    disk.fail(0, Fault::Refused, SYNC);
    let error = store.close().unwrap_err();
    assert!(matches!(error, StoreError::Io { what: "sync", .. }), "{error:?}");
}

// Damage.

/// Puts other bytes under the key of an answer, behind the store's back.
async fn spoiled(cache: &Path, n: u64, spoil: impl FnOnce(Vec<u8>) -> Vec<u8>) -> LocalStore {
    let store = open(cache);
    store.keep(samples::answer(n)).await.unwrap();
    store.close().unwrap();
    let folder = cache.join(STORE).join("0001");
    let db = sled::Config::default()
        .path(folder)
        .segment_size(4 << 20)
        .open()
        .unwrap();
    let tree = db.open_tree("answers-v1").unwrap();
    let key = *samples::key(n).as_bytes();
    let value = tree.get(key).unwrap().unwrap().to_vec();
    tree.insert(key, spoil(value)).unwrap();
    db.flush().unwrap();
    drop((tree, db));
    open(cache)
}

fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    bytes
}

fn of_another(_: Vec<u8>) -> Vec<u8> {
    let mut bytes = frame::encode(&samples::answer(77)).unwrap();
    frame::stamp(&mut bytes, 77);
    bytes.to_vec()
}

#[tokio::test]
async fn an_answer_that_the_trees_have_lost_is_found_in_the_journal() {
    for spoil in [flipped, of_another, |_| b"rubbish".to_vec()] {
        let cache = tempfile::tempdir().unwrap();
        let store = spoiled(cache.path(), 1, spoil).await;
        assert_eq!(look(&store, 1), hit(samples::answer(1)));
        assert_eq!(look(&store, 1), hit(samples::answer(1)));
        store.close().unwrap();
        let (store, notices) = LocalStore::open(cache.path(), |_| {}).unwrap();
        assert!(matches!(notices[..], [Notice::Rebuilt { .. }]), "{notices:?}");
        assert_eq!(look(&store, 1), hit(samples::answer(1)));
    }
}

#[tokio::test]
async fn a_damaged_answer_that_nobody_has_is_a_miss_with_a_reason() {
    for (spoil, reason) in [
        (
            flipped as fn(Vec<u8>) -> Vec<u8>,
            "checksum does not match".to_owned(),
        ),
        (
            of_another,
            format!("it is the answer to `{}`", samples::key(77).short()),
        ),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let store = spoiled(cache.path(), 1, spoil).await;
        let journal = segment::path(&cache.path().join(JOURNAL), 1);
        let mut bytes = fs::read(&journal).unwrap();
        bytes[HEADER + 100] ^= 1;
        fs::write(&journal, bytes).unwrap();
        assert_eq!(look(&store, 1), Looked::Miss(Miss::Damaged(reason)));
        store.keep(answer_for(1, 1, "new")).await.unwrap();
        assert_eq!(look(&store, 1), hit(answer_for(1, 1, "new")));
    }
}

#[tokio::test]
async fn too_many_damaged_answers_are_left_to_the_next_open() {
    let cache = tempfile::tempdir().unwrap();
    let count = crate::store::mend::LIMIT as u64 + 1;
    for n in 0..count {
        drop(spoiled(cache.path(), n, flipped).await);
    }
    let store = open(cache.path());
    for n in 0..count - 1 {
        assert_eq!(look(&store, n), hit(samples::answer(n)));
    }
    let look_up = |n| store.look(&samples::instance(n), &samples::key(n), &samples::bounds(None));
    assert!(matches!(look_up(count - 1), Err(StoreError::Tree { .. })));
    assert!(
        matches!(look_up(0), Err(StoreError::Tree { .. })),
        "for the rest of the run"
    );
    drop(store);
    let store = open(cache.path());
    for n in 0..count {
        assert_eq!(look(&store, n), hit(samples::answer(n)));
    }
}

#[tokio::test]
async fn when_the_trees_fail_the_journal_goes_on() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    store.keep(samples::answer(1)).await.unwrap();
    drop(store.view.trees.give_up("page 7 is gone".to_owned()));
    store.keep(samples::answer(2)).await.unwrap();
    let error = store
        .look(&samples::instance(2), &samples::key(2), &samples::bounds(None))
        .unwrap_err();
    assert!(matches!(error, StoreError::Tree { .. }), "{error:?}");
    for n in 3..600 {
        store.keep(samples::answer(n)).await.unwrap();
    }
    assert!(matches!(store.close(), Err(StoreError::Tree { .. })));
    let (store, notices) = LocalStore::open(cache.path(), |_| {}).unwrap();
    assert!(
        matches!(notices[..], [Notice::Rebuilt { entries: 599, .. }]),
        "{notices:?}"
    );
    for n in 1..600 {
        assert_eq!(look(&store, n), hit(samples::answer(n)));
    }
}

#[tokio::test]
async fn the_checkpoint_moves_while_the_store_runs() {
    let cache = tempfile::tempdir().unwrap();
    let settings = Settings {
        flush_every: Duration::ZERO,
        ..Settings::default()
    };
    let store = LocalStore::open_with(cache.path(), &settings, |_| {}).unwrap().0;
    let folder = cache.path().join(STORE).join("0001");
    let mut n = 0;
    loop {
        let checkpoint::Found::Good(found) = checkpoint::read(&folder).unwrap() else {
            panic!("it is there from the start");
        };
        assert!(!found.clean);
        if found.records["answers-v1"] > 20 {
            break;
        }
        n += 1;
        store.keep(samples::answer(n)).await.unwrap();
    }
}

// Random histories.

#[derive(Clone, Debug)]
enum Step {
    Keep(Entry),
    Note(Entry),
    /// The process is closed, dropped or killed and started again.
    Close,
    Drop,
    Kill,
    /// The power fails: of what was not synced, so many parts of 256 are there.
    PowerCut(u8),
    LoseTrees,
    /// It is closed, and the filter of keys of some earlier end put back; `forgotten`: by a septet that
    /// knows nothing of filters.
    OldFilter {
        which: prop::sample::Index,
        forgotten: bool,
    },
}

fn entry() -> impl Strategy<Value = Entry> {
    static TEXT: AtomicU64 = AtomicU64::new(0);
    let n = 0..12_u64;
    prop_oneof![
        4 => (n.clone(), n.clone(), 0..4000_usize).prop_map(|(request, payer, len)| {
            let text = format!("{} {}", TEXT.fetch_add(1, Relaxed), samples::prose(request, len));
            answer_for(request, payer, &text)
        }),
        2 => (n.clone(), prop::option::of(1..6_u64)).prop_map(|(n, limit)| cut_off(n, limit.map(|n| n * 350))),
        2 => n.clone().prop_map(samples::refresh),
        1 => n.clone().prop_map(samples::attempt),
        1 => n.clone().prop_map(samples::fault),
        1 => (n.clone(), "[a-f]{4}").prop_map(|(n, text)| samples::transcript(n, &text)),
        1 => n.clone().prop_map(samples::source),
        1 => n.prop_map(samples::run),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => entry().prop_map(Step::Keep),
        6 => entry().prop_map(Step::Note),
        1 => Just(Step::Close),
        1 => Just(Step::Drop),
        1 => Just(Step::Kill),
        1 => any::<u8>().prop_map(Step::PowerCut),
        1 => Just(Step::LoseTrees),
        2 => (any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(which, forgotten)| Step::OldFilter { which, forgotten }),
    ]
}

/// A store on a disk beside the model of it.
struct Pair {
    folder: tempfile::TempDir,
    disk: FaultyDisk,
    store: LocalStore,
    model: MemoryStore,
    /// The filters of keys of all clean ends.
    filters: Vec<Vec<u8>>,
}

impl Pair {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::default();
        let store = Self::open(folder.path(), &disk);
        Self {
            folder,
            disk,
            store,
            model: MemoryStore::new(),
            filters: Vec::new(),
        }
    }

    fn open(cache: &Path, disk: &FaultyDisk) -> LocalStore {
        let settings = Settings {
            segment_bytes: 8 << 10,
            flush_every: Duration::from_millis(3),
            ..on(disk)
        };
        let (store, notices) = LocalStore::open_with(cache, &settings, |_| {}).unwrap();
        let harmless = |notice: &Notice| match notice {
            Notice::Torn { .. } => true,
            Notice::Rebuilt { kept, .. } => !kept,
            _ => false,
        };
        assert!(notices.iter().all(harmless), "{notices:?}");
        store
    }

    async fn take(self, step: Step) -> Self {
        match step {
            Step::Keep(entry) => {
                self.store.keep(entry.clone()).await.unwrap();
                self.model.keep(entry).await.unwrap();
                self
            }
            Step::Note(entry) => {
                self.store.note(entry.clone()).await.unwrap();
                self.model.note(entry).await.unwrap();
                self
            }
            Step::Close => {
                self.store.close().unwrap();
                let mut filters = self.filters;
                filters.extend(fs::read(keys::path(&trees_in(self.folder.path()))));
                Self::restarted(self.folder, self.model, filters)
            }
            Step::OldFilter { which, forgotten } => {
                self.store.close().unwrap();
                let (trees, mut filters) = (trees_in(self.folder.path()), self.filters);
                filters.extend(fs::read(keys::path(&trees)));
                if forgotten && let checkpoint::Found::Good(mut last) = checkpoint::read(&trees).unwrap() {
                    last.keys = None;
                    last.write(&trees).unwrap();
                }
                if !filters.is_empty() {
                    fs::write(keys::path(&trees), which.get(&filters)).unwrap();
                }
                Self::restarted(self.folder, self.model, filters)
            }
            Step::Drop => {
                drop(self.store);
                Self::restarted(self.folder, self.model, self.filters)
            }
            Step::LoseTrees => {
                drop(self.store);
                fs::remove_dir_all(self.folder.path().join(STORE)).unwrap();
                Self::restarted(self.folder, self.model, self.filters)
            }
            Step::Kill => self.copied(|from, to, _| copy(from, to)),
            Step::PowerCut(keep) => self.copied(|from, to, disk| disk.copy_after_power_cut(from, to, keep)),
        }
    }

    fn restarted(folder: tempfile::TempDir, model: MemoryStore, filters: Vec<Vec<u8>>) -> Self {
        let disk = FaultyDisk::default();
        let store = Self::open(folder.path(), &disk);
        Self {
            folder,
            disk,
            store,
            model,
            filters,
        }
    }

    /// Goes on in a copy of the folder that is made while the store runs: sled's files come as
    /// they are at some moment, not all at the same.
    fn copied(self, copy: impl FnOnce(&Path, &Path, &FaultyDisk)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(self.folder.path(), folder.path(), &self.disk);
        let store = Self::open(folder.path(), &FaultyDisk::default());
        let there = journaled(&store);
        let before = self.model.entries();
        assert_eq!(
            there[..],
            before[..there.len()],
            "a beginning of what was written"
        );
        assert!(
            there.len() >= self.model.crashed().entries().len(),
            "with all that was kept"
        );
        drop(store);
        Self::restarted(folder, there.into_iter().collect(), self.filters)
    }
}

/// The folder of the trees that are in force.
fn trees_in(cache: &Path) -> PathBuf {
    generations::current(&cache.join(STORE)).unwrap().unwrap()
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: 24,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_history_with_any_crashes_is_that_of_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::new();
            for step in steps {
                pair = pair.take(step).await;
                assert_eq!(all(&pair.store), all(&pair.model));
            }
            assert_eq!(journaled(&pair.store), pair.model.entries());
            for n in 0..12 {
                let rejected = pair.store.rejected(&samples::key(n)).unwrap();
                assert_eq!(rejected, pair.model.rejected(&samples::key(n)));
                assert_eq!(answers(&pair.store, n), answers(&pair.model, n));
                assert_eq!(calls(&pair.store, n), calls(&pair.model, n));
                let id = samples::source_id(n);
                assert_eq!(pair.store.source(&id).unwrap(), pair.model.source(&id).unwrap());
                assert_eq!(pair.store.has_source(&id).unwrap(), pair.model.has_source(&id).unwrap());
            }
        });
    }
}
