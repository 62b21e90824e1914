use std::sync::Arc;

use super::*;
use crate::store::faulty::copy;
use crate::store::{Store, checkpoint, samples};

const ANSWERS: u64 = 40;

fn small() -> Settings {
    Settings {
        segment_bytes: 16 << 10,
        ..Settings::default()
    }
}

/// A cache with answers in several files, one of them in parts, and one of each other kind.
async fn cache() -> tempfile::TempDir {
    let cache = tempfile::tempdir().unwrap();
    let (store, _) = LocalStore::open_with(cache.path(), &small(), |_| {}).unwrap();
    for n in 0..ANSWERS {
        store.keep(samples::answer(n)).await.unwrap();
    }
    store.keep(long()).await.unwrap();
    // Each answer once: its place is then its only one.
    for entry in samples::one_of_each().into_iter().skip(1) {
        store.keep(entry).await.unwrap();
    }
    store.close().unwrap();
    cache
}

fn long() -> Entry {
    Entry::Answer(samples::record(50, &samples::prose(1, 400_000)))
}

fn copied(cache: &tempfile::TempDir) -> tempfile::TempDir {
    let other = tempfile::tempdir().unwrap();
    copy(cache.path(), other.path());
    other
}

/// Repairs, and says what was found.
fn mend(cache: &Path) -> (Repaired, Vec<Problem>) {
    let mut found = Vec::new();
    let repaired = repair(cache, &small(), &mut |problem| found.push(problem), |_| {}).unwrap();
    (repaired, found)
}

fn served(cache: &Path) -> BTreeSet<u64> {
    let (store, notices) = LocalStore::open_with(cache, &small(), |_| {}).unwrap();
    assert_eq!(notices, [], "what was repaired opens without a word");
    // Whatever a refresh says: one of the others is a mark.
    let served = (0..ANSWERS).filter(|n| {
        let stored = store.stored(&samples::key(*n)).unwrap();
        stored.is_some_and(|record| Entry::Answer(record) == samples::answer(*n))
    });
    let served = served.collect();
    let (found, _) = (store.stored(&samples::key(50)).unwrap(), store.close().unwrap());
    assert!(found.is_none_or(|record| Entry::Answer(record) == long()));
    served
}

fn entries(cache: &Path) -> Vec<String> {
    let (store, _) = LocalStore::open_with(cache, &small(), |_| {}).unwrap();
    let lines = store.entries().unwrap().map(|line| line.unwrap().unwrap());
    let entries = lines
        .map(|logged| format!("{} {:?}", logged.seq, logged.entry))
        .collect();
    store.close().unwrap();
    entries
}

fn files(cache: &Path) -> Vec<Segment> {
    segment::list(&cache.join(JOURNAL)).unwrap()
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn all() -> BTreeSet<u64> {
    (0..ANSWERS).collect()
}

#[tokio::test]
async fn what_is_whole_is_left_alone() {
    let cache = cache().await;
    let before = (files(cache.path()), entries(cache.path()));
    let (repaired, found) = mend(cache.path());
    assert!(found.is_empty() && repaired.aside.is_none());
    assert_eq!(before, (files(cache.path()), entries(cache.path())));
    assert!(!cache.path().join(ASIDE).exists());
}

#[tokio::test]
async fn what_the_journal_lost_is_put_back_from_the_trees_in_its_place() {
    let whole = cache().await;
    let before = entries(whole.path());
    type Damage = fn(&Path);
    let rows: [(&str, Damage); 6] = [
        ("a flipped bit", |cache| {
            change(&files(cache)[1].path, |bytes| bytes[5000] ^= 1);
        }),
        ("many flipped bits", |cache| {
            for file in files(cache) {
                change(&file.path, |bytes| {
                    bytes.iter_mut().step_by(2999).for_each(|byte| *byte ^= 8)
                });
            }
        }),
        ("a file that is gone", |cache| {
            fs::remove_file(&files(cache)[1].path).unwrap()
        }),
        ("the last file is gone", |cache| {
            fs::remove_file(&files(cache).last().unwrap().path).unwrap();
        }),
        ("a file that was cut short", |cache| {
            change(&files(cache)[2].path, |bytes| bytes.truncate(3000));
        }),
        ("no journal at all", |cache| {
            fs::remove_dir_all(cache.join(JOURNAL)).unwrap()
        }),
    ];
    for (name, damage) in rows {
        let cache = copied(&whole);
        damage(cache.path());
        let (repaired, found) = mend(cache.path());
        assert!(!found.is_empty(), "{name}");
        assert_eq!(repaired.after.problems, 0, "{name}");
        assert!(repaired.saved > 0, "{name}");
        assert_eq!(repaired.lost_answers, [], "{name}");
        assert_eq!(served(cache.path()), all(), "{name}");
        // All but what the trees never hold: starts of runs, retired answers, marks that have ended.
        let after = entries(cache.path());
        let absent: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
        assert!(
            absent
                .iter()
                .all(|line| ["Start", "Retired", "Refresh", "Transcript"]
                    .iter()
                    .any(|kind| line.contains(kind))),
            "{name}: {absent:?}"
        );
        assert!(after.iter().all(|line| before.contains(line)), "{name}");
        let numbers: Vec<u64> = after
            .iter()
            .map(|line| line.split_once(' ').unwrap().0.parse().unwrap())
            .collect();
        assert!(numbers.is_sorted(), "{name}: {numbers:?}");
        assert_eq!(mend(cache.path()).1.len(), 0, "{name}: once is enough");
    }
}

/// Where each answer stands, by its number.
fn place_of(cache: &Path, n: u64) -> (PathBuf, u64, u64) {
    let begin = Position {
        segment: 0,
        offset: 0,
    };
    let mut reader = Reader::new(files(cache), begin, None);
    while let Some(place) = reader.next().unwrap() {
        if let Found::Frame { frame, .. } = place.found
            && frame.entry().ok().and_then(answer_of) == Some(samples::key(n))
        {
            return (
                place.path.to_owned(),
                place.at.offset,
                place.end.offset - place.at.offset,
            );
        }
    }
    panic!("no answer {n}");
}

#[tokio::test]
async fn an_answer_that_is_damaged_on_both_sides_is_named_and_set_aside() {
    let cache = cache().await;
    let (path, offset, _) = place_of(cache.path(), 7);
    change(&path, |bytes| bytes[offset as usize + frame::HEADER + 9] ^= 4);
    // The trees are gone, and with them the only other copy.
    let trees = generations::current(&cache.path().join(STORE)).unwrap().unwrap();
    change(&trees.join("db"), |bytes| bytes.truncate(100));
    checkpoint::remove(&trees);
    let (repaired, found) = mend(cache.path());
    assert_eq!(repaired.lost_answers, [samples::key(7)]);
    let named = found.iter().any(|problem| {
        matches!(problem, Problem::Journal(damage)
            if damage.path == path && damage.offset == offset && damage.key == Some(samples::key(7)))
    });
    assert!(named, "{found:?}");
    assert_eq!(repaired.after.problems, 0);
    let mut rest = all();
    rest.remove(&7);
    assert_eq!(served(cache.path()), rest);
    let aside = repaired.aside.unwrap();
    assert_eq!(aside, cache.path().join("damaged/0001"));
    let kept = aside.join(JOURNAL).join(path.file_name().unwrap());
    assert!(kept.is_file() && aside.join("store/0001/db").is_file());
    let list = fs::read_to_string(aside.join("found.txt")).unwrap();
    assert!(list.contains(&samples::key(7).short().to_string()), "{list}");
}

/// The model: an entry is readable if its frame is intact in the journal or in the trees. Whatever
/// is done to the files, all of those are served afterwards, also after the trees were built anew.
#[tokio::test]
async fn whatever_is_damaged_everything_readable_is_there_after_a_repair() {
    let whole = cache().await;
    for seed in 0..20 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let cache = copied(&whole);
        let mut in_journal = all();
        let mut files_gone = false;
        for _ in 0..chance.usize(1..4) {
            match chance.u8(0..10) {
                0..5 => {
                    let hit = chance.u64(0..ANSWERS);
                    if in_journal.remove(&hit) {
                        let (path, offset, len) = place_of(cache.path(), hit);
                        let at = (offset + chance.u64(0..len)) as usize;
                        change(&path, |bytes| bytes[at] ^= 1 << chance.u32(0..8));
                    }
                }
                5..8 => {
                    let list = files(cache.path());
                    let file = &list[chance.usize(0..list.len())];
                    let len = chance.u64(0..file.len);
                    in_journal.retain(|n| {
                        let (path, offset, long) = place_of(cache.path(), *n);
                        path != file.path || offset + long <= len
                    });
                    change(&file.path, |bytes| bytes.truncate(len as usize));
                }
                _ => {
                    let list = files(cache.path());
                    let file = &list[chance.usize(0..list.len())];
                    in_journal.retain(|n| place_of(cache.path(), *n).0 != file.path);
                    fs::remove_file(&file.path).unwrap();
                    files_gone = files(cache.path()).is_empty();
                }
            }
            if files_gone {
                break;
            }
        }
        let trees_gone = chance.u8(0..3) == 0;
        if trees_gone {
            fs::remove_dir_all(cache.path().join(STORE)).unwrap();
        }
        let (repaired, _) = mend(cache.path());
        let mut left = Vec::new();
        verify_locked(cache.path(), &mut |problem| left.push(problem.to_string())).unwrap();
        assert_eq!((repaired.after.problems, left), (0, vec![]), "seed {seed}");
        let expected = match trees_gone {
            true => in_journal.clone(),
            false => all(),
        };
        assert_eq!(served(cache.path()), expected, "seed {seed}");
        fs::remove_dir_all(cache.path().join(STORE)).unwrap();
        let (store, _) = LocalStore::open_with(cache.path(), &small(), |_| {}).unwrap();
        store.close().unwrap();
        assert_eq!(
            served(cache.path()),
            expected,
            "seed {seed}, from the journal alone"
        );
    }
}

/// A repair that is killed anywhere leaves a store that the next one repairs.
#[tokio::test]
async fn a_repair_whose_writes_fail_can_be_begun_again() {
    use crate::store::faulty::{Fault, FaultyDisk};
    let whole = cache().await;
    change(&files(whole.path())[1].path, |bytes| bytes[5000] ^= 1);
    let mut failed = 0;
    for step in 0.. {
        let cache = copied(&whole);
        let disk = FaultyDisk::default();
        disk.fail(step, Fault::Dead, |_| true);
        let settings = Settings {
            disk: Arc::new(disk.clone()),
            ..small()
        };
        let ended = repair(cache.path(), &settings, &mut |_| {}, |_| {});
        if disk.operations().len() <= step {
            ended.unwrap();
            break;
        }
        failed += 1;
        mend(cache.path());
        // Killed behind the change of the journals, what is left to do is done by any open.
        drop(LocalStore::open_with(cache.path(), &small(), |_| {}).unwrap());
        assert_eq!(served(cache.path()), all(), "step {step}");
    }
    assert!(failed > 5, "{failed}");
}
