use std::fs;
use std::sync::Arc;

use super::*;
use crate::store::faulty::{Fault, FaultyDisk, copy};
use crate::store::notice::Notice;
use crate::store::{Looked, Miss, Store, samples, verify};

const ANSWERS: u64 = 24;

fn small() -> Settings {
    Settings {
        segment_bytes: 8 << 10,
        ..Settings::default()
    }
}

fn on(disk: &FaultyDisk) -> Settings {
    Settings {
        disk: Arc::new(disk.clone()),
        ..small()
    }
}

fn open(cache: &Path) -> (LocalStore, Vec<Notice>) {
    LocalStore::open_with(cache, &small(), |_| {}).unwrap()
}

/// A cache with answers in several files and one of each other kind.
async fn cache() -> tempfile::TempDir {
    let cache = tempfile::tempdir().unwrap();
    let (store, _) = open(cache.path());
    for n in 0..ANSWERS {
        store.keep(samples::attempt(n)).await.unwrap();
        store.keep(samples::refresh(n)).await.unwrap();
        store.keep(samples::answer(n)).await.unwrap();
    }
    store.keep(samples::refresh(6)).await.unwrap();
    for entry in samples::one_of_each() {
        store.keep(entry).await.unwrap();
    }
    store.keep(samples::attempt(99)).await.unwrap();
    store.close().unwrap();
    cache
}

/// The numbers of the entries that are answers to odd requests, but for the newest to request 1.
fn odd(cache: &Path) -> HashSet<u64> {
    let (store, _) = open(cache);
    let survey = store.survey().unwrap();
    let odd = |n: &u64| n % 2 == 1;
    let keys: HashSet<_> = (0..ANSWERS).filter(odd).map(samples::key).collect();
    let wanted = |held: &&crate::store::Held| {
        keys.contains(&held.key) && !(held.served && held.key == samples::key(1))
    };
    let retire = survey
        .answers
        .iter()
        .filter(wanted)
        .map(|held| held.seq)
        .collect();
    store.close().unwrap();
    retire
}

fn look(store: &LocalStore, n: u64) -> Looked {
    store
        .look(&samples::instance(n), &samples::key(n), &samples::bounds(None))
        .unwrap()
}

fn is_served(store: &LocalStore, n: u64) -> bool {
    match (look(store, n), samples::answer(n)) {
        (Looked::Hit(found), Entry::Answer(record)) => {
            assert_eq!(*found, record);
            true
        }
        (Looked::Miss(Miss::Absent), _) => false,
        (other, _) => panic!("{n}: {other:?}"),
    }
}

/// The entries by their numbers, with each retired answer as what it was.
fn entries(store: &LocalStore) -> Vec<(u64, Entry)> {
    let lines = store.entries().unwrap();
    lines
        .map(|line| line.unwrap().unwrap())
        .map(|logged| (logged.seq, logged.entry))
        .collect()
}

/// Checks that a cache has either all or all but the text of the odd answers. Returns which.
#[track_caller]
fn check(cache: &Path, before: &[(u64, Entry)], retire: &HashSet<u64>) -> bool {
    let (store, notices) = open(cache);
    let harmless = |notice: &Notice| matches!(notice, Notice::Rebuilt { kept: false, .. });
    assert!(notices.iter().all(harmless), "{notices:?}");
    let after = entries(&store);
    let numbers = |entries: &[(u64, Entry)]| entries.iter().map(|(seq, _)| *seq).collect::<Vec<_>>();
    assert_eq!(numbers(&after), numbers(before), "each entry once");
    let mut compacted = None;
    for ((seq, before), (_, after)) in before.iter().zip(&after) {
        match (before, after) {
            (
                Entry::Answer(before),
                Entry::Retired {
                    record,
                    why: Retirement::Collected,
                },
            ) if retire.contains(seq) => {
                assert!(*compacted.get_or_insert(true), "a mixture");
                assert_eq!(record.answer.text, "");
                let mut stripped = before.clone();
                stripped.answer.text.clear();
                assert_eq!(*record, stripped);
            }
            _ => {
                assert!(
                    !retire.contains(seq) || !*compacted.get_or_insert(false),
                    "a mixture"
                );
                assert_eq!(before, after);
            }
        }
    }
    let compacted = compacted.unwrap();
    for n in (0..ANSWERS).filter(|n| *n != 6 && *n != 4 && *n != 2) {
        assert_eq!(is_served(&store, n), n == 1 || n % 2 == 0 || !compacted, "{n}");
    }
    for marked in [6, 4] {
        assert_eq!(look(&store, marked), Looked::Miss(Miss::Refreshed));
    }
    assert_eq!(store.unfinished(), [samples::sent(99)]);
    store.close().unwrap();
    let verified = verify(cache, &mut |problem| panic!("{problem}")).unwrap();
    assert_eq!(verified.ahead, 0);
    let leftovers = fs::read_dir(cache.join(JOURNAL)).unwrap();
    let leftovers = leftovers.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(leftovers.filter(|name| name.ends_with(".new")).count(), 0);
    compacted
}

fn history(cache: &Path) -> Vec<(u64, Entry)> {
    let (store, _) = open(cache);
    let entries = entries(&store);
    store.close().unwrap();
    entries
}

#[tokio::test]
async fn a_compaction_removes_the_text_of_what_it_is_told_and_nothing_else() {
    let cache = cache().await;
    let (retire, before) = (odd(cache.path()), history(cache.path()));
    let (store, _) = open(cache.path());
    let spent = store.spending().clone();
    let (store, compacted) = store.compact(&retire, &small(), |_| {}).unwrap();
    assert_eq!(*store.spending(), spent, "it was paid all the same");
    assert_eq!(compacted.retired, retire.len() as u64);
    assert!(compacted.after.journal_bytes < compacted.before.journal_bytes);
    assert_eq!(
        compacted.after.answers + retire.len() as u64 - 1,
        compacted.before.answers,
        "one was replaced"
    );
    // It goes on to be a store.
    store.keep(samples::answer(500)).await.unwrap();
    let next = entries(&store).pop().unwrap().0;
    assert!(before.iter().all(|(seq, _)| *seq < next));
    store.close().unwrap();
    let (store, notices) = open(cache.path());
    assert_eq!(notices, []);
    assert!(is_served(&store, 500));
    store.close().unwrap();
    let mut before = before;
    let Entry::Answer(_) = samples::answer(500) else {
        panic!("an answer")
    };
    before.push((next, samples::answer(500)));
    assert!(check(cache.path(), &before, &retire));
    // Once more, with nothing to remove.
    let (store, _) = open(cache.path());
    let (store, again) = store.compact(&retire, &small(), |_| {}).unwrap();
    assert_eq!(again.retired, 0);
    store.close().unwrap();
    assert!(check(cache.path(), &before, &retire));
}

#[tokio::test]
async fn whatever_fails_the_old_or_the_new_is_in_force() {
    let whole = cache().await;
    let (retire, before) = (odd(whole.path()), history(whole.path()));
    for fault in [Fault::Dead, Fault::HalfWay] {
        let mut outcomes = Vec::new();
        for n in 0.. {
            let copied = tempfile::tempdir().unwrap();
            copy(whole.path(), copied.path());
            let disk = FaultyDisk::default();
            let (store, _) = LocalStore::open_with(copied.path(), &on(&disk), |_| {}).unwrap();
            disk.fail(n, fault, |_| true);
            let ended = match store.compact(&retire, &on(&disk), |_| {}) {
                Ok((store, _)) => store.close().is_ok(),
                Err(_) => false,
            };
            outcomes.push(check(copied.path(), &before, &retire));
            if ended && outcomes.last() == Some(&true) && n > 3 {
                break;
            }
        }
        assert!(outcomes.len() > 15, "{fault:?}: {outcomes:?}");
        assert!(
            outcomes.contains(&false) && outcomes.contains(&true),
            "{outcomes:?}"
        );
    }
}

#[tokio::test]
async fn a_power_cut_leaves_the_old_or_the_new() {
    let whole = cache().await;
    let (retire, before) = (odd(whole.path()), history(whole.path()));
    for n in 0..60 {
        for keep in [0, 100] {
            let (copied, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            copy(whole.path(), copied.path());
            let disk = FaultyDisk::default();
            let (store, _) = LocalStore::open_with(copied.path(), &on(&disk), |_| {}).unwrap();
            disk.fail(n, Fault::Dead, |_| true);
            let done = store.compact(&retire, &on(&disk), |_| {}).is_ok();
            disk.copy_after_power_cut(copied.path(), cut.path(), keep);
            let compacted = check(cut.path(), &before, &retire);
            if done {
                assert!(compacted);
                return;
            }
        }
    }
    panic!("it never ended");
}

#[tokio::test]
async fn an_entry_of_a_kind_that_is_not_known_stays_as_it_is() {
    let cache = cache().await;
    let retire = odd(cache.path());
    let mut known = frame::encode(&samples::run(1)).unwrap();
    frame::stamp(&mut known, 1);
    let (whole, _) = frame::parse(&known).unwrap();
    let json = whole.json().unwrap().replacen("\"run\"", "\"prophecy\"", 1);
    let mut strange = frame::encode_json(&samples::run(1), json.as_bytes()).unwrap();
    frame::stamp(&mut strange, 9_999);
    let last = segment::list(&cache.path().join(JOURNAL)).unwrap().pop().unwrap();
    let mut bytes = fs::read(&last.path).unwrap();
    bytes.extend_from_slice(&strange);
    fs::write(&last.path, bytes).unwrap();
    let (store, _) = open(cache.path());
    let (store, compacted) = store.compact(&retire, &small(), |_| {}).unwrap();
    assert!(compacted.retired > 0);
    drop(store);
    let last = segment::list(&cache.path().join(JOURNAL)).unwrap().pop().unwrap();
    assert!(fs::read(last.path).unwrap().ends_with(&strange));
}

#[tokio::test]
async fn a_damaged_journal_is_left_as_it_is() {
    let cache = cache().await;
    let retire = odd(cache.path());
    let first = segment::path(&cache.path().join(JOURNAL), 1);
    let mut bytes = fs::read(&first).unwrap();
    bytes[segment::HEADER + frame::HEADER + 3] ^= 1;
    fs::write(&first, &bytes).unwrap();
    let (store, _) = open(cache.path());
    let Err(error) = store.compact(&retire, &small(), |_| {}) else {
        panic!("it is damaged");
    };
    assert!(matches!(error, StoreError::Lost { .. }), "{error}");
    assert_eq!(fs::read(&first).unwrap(), bytes);
    assert!(is_served(&open(cache.path()).0, 3));
}

#[tokio::test]
async fn what_only_the_trees_have_is_not_compacted_away() {
    let whole = cache().await;
    let retire = odd(whole.path());
    type Loss = fn(&Path);
    let rows: [(&str, Loss); 3] = [
        ("a file that is gone", |cache| {
            fs::remove_file(segment::path(&cache.join(JOURNAL), 2)).unwrap();
        }),
        ("a file that is gone, and trees that were built again", |cache| {
            fs::remove_file(segment::path(&cache.join(JOURNAL), 2)).unwrap();
            checkpoint::remove(&generations::current(&cache.join(STORE)).unwrap().unwrap());
        }),
        ("a file that ends between two entries", |cache| {
            cut_between_entries(cache, 2);
        }),
    ];
    for (name, loss) in rows {
        let cache = tempfile::tempdir().unwrap();
        copy(whole.path(), cache.path());
        let all = hits(&open(cache.path()).0);
        loss(cache.path());
        let (store, _) = open(cache.path());
        let Err(error) = store.compact(&retire, &small(), |_| {}) else {
            panic!("{name}: removed what cannot be saved then");
        };
        assert!(matches!(error, StoreError::Lost { .. }), "{name}: {error}");
        let repaired = crate::store::repair(cache.path(), &small(), &mut |_| {}, |_| {}).unwrap();
        assert!(repaired.saved > 0, "{name}");
        let (store, _) = open(cache.path());
        assert_eq!(hits(&store), all, "{name}");
        let (store, _) = store.compact(&retire, &small(), |_| {}).unwrap();
        store.close().unwrap();
    }
}

/// The requests that are served. Some are to be asked again.
fn hits(store: &LocalStore) -> Vec<u64> {
    (0..ANSWERS)
        .filter(|n| matches!(look(store, *n), Looked::Hit(_)))
        .collect()
}

/// Cuts a file of the journal where its last answer begins.
fn cut_between_entries(cache: &Path, number: u32) {
    let path = segment::path(&cache.join(JOURNAL), number);
    let begin = Position::start_of(number);
    let mut reader = Reader::new(segment::list(&cache.join(JOURNAL)).unwrap(), begin, None);
    let mut last = None;
    while let Some(place) = reader.next().unwrap() {
        if let Found::Frame { frame, .. } = &place.found
            && place.at.segment == number
            && matches!(frame.entry(), Ok(Entry::Answer(_)))
        {
            last = Some(place.at.offset);
        }
    }
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(last.unwrap()).unwrap();
}
