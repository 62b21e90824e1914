use super::*;
use crate::store::{Miss, samples};

fn look(store: &MemoryStore, n: u64) -> Looked {
    store
        .look(&samples::instance(n), &samples::key(n), &samples::bounds(None))
        .unwrap()
}

#[tokio::test]
async fn a_crash_keeps_what_was_synced_and_all_before_it() {
    let store = MemoryStore::new();
    store.note(samples::attempt(1)).await.unwrap();
    store.keep(samples::answer(1)).await.unwrap();
    store.note(samples::attempt(2)).await.unwrap();
    assert_eq!(store.entries().len(), 3);
    let after = store.crashed();
    assert_eq!(after.entries(), [samples::attempt(1), samples::answer(1)]);
    assert_eq!(
        look(&after, 1),
        Looked::Hit(Box::new(samples::record(1, &samples::prose(1, 1500))))
    );
    assert_eq!(after.crashed().entries(), after.entries());
}

#[tokio::test]
async fn a_full_store_fails_and_keeps_what_it_has() {
    let store = MemoryStore::with_room_for(1);
    store.keep(samples::answer(1)).await.unwrap();
    for _ in 0..2 {
        let error = store.keep(samples::answer(2)).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot write memory");
    }
    assert_eq!(look(&store, 2), Looked::Miss(Miss::Absent));
    let after = store.crashed();
    after.keep(samples::answer(2)).await.unwrap();
    assert_eq!(after.entries(), [samples::answer(1), samples::answer(2)]);
}

#[tokio::test]
async fn rejected_answers_are_kept_and_never_served() {
    let store = MemoryStore::new();
    store.keep(samples::rejected(1)).await.unwrap();
    assert!(matches!(look(&store, 1), Looked::Miss(Miss::CutOff(_))));
    let look = |limit| {
        store
            .look(&samples::instance(1), &samples::key(1), &samples::bounds(limit))
            .unwrap()
    };
    assert!(matches!(look(Some(4000)), Looked::CutOff(_)));
    assert_eq!(
        store.rejected(&samples::key(1)),
        [(samples::record(1, "cut o"), Rejection::Truncated)]
    );
}
