use proptest::prelude::*;

use super::*;

fn key(n: u8) -> Key {
    Key::from([n; 32])
}

fn instance(n: u8) -> Instance {
    Instance::new(format!("p{n}").as_str(), "chunk-1")
}

/// Answers in the order in which they were stored: instance and request.
fn stored(paid: &[(u8, u8)]) -> Vec<(Instance, Key, bool)> {
    let answer = |(at, (who, request)): (usize, &(u8, u8))| {
        let newer = paid[at + 1..].iter().any(|(_, other)| other == request);
        (instance(*who), key(*request), !newer)
    };
    paid.iter().enumerate().map(answer).collect()
}

fn decide(paid: &[(u8, u8)], present: &Present, earlier: usize) -> Vec<Fate> {
    let stored = stored(paid);
    let answers: Vec<_> = stored
        .iter()
        .map(|(instance, key, served)| Paid {
            key: *key,
            instance,
            served: *served,
            uses: &[],
        })
        .collect();
    fates(&answers, present, earlier)
}

fn present(requests: &[(u8, Option<u8>)], answered: bool) -> Present {
    let mut present = Present::default();
    for (who, request) in requests {
        match request {
            Some(request) => present.request(instance(*who), key(*request), answered),
            None => present.unknown(instance(*who)),
        }
    }
    present
}

/// A name, answers, what is asked for, how many earlier requests are kept, and what follows.
type Row<'a> = (&'a str, &'a [(u8, u8)], Present, usize, &'a [Fate]);

#[test]
fn the_rule() {
    use Fate::{Earlier, Gone, Outlived, Present as Now, Replaced};
    let now_3 = || present(&[(1, Some(3))], true);
    let rows: [Row<'_>; 10] = [
        ("in use", &[(1, 3)], now_3(), 0, &[Now]),
        ("paid for by one who is gone", &[(9, 3)], now_3(), 0, &[Now]),
        (
            "one earlier",
            &[(1, 1), (1, 2), (1, 3)],
            now_3(),
            1,
            &[Outlived, Earlier, Now],
        ),
        (
            "none earlier",
            &[(1, 1), (1, 2), (1, 3)],
            now_3(),
            0,
            &[Outlived, Outlived, Now],
        ),
        (
            "all earlier",
            &[(1, 1), (1, 2), (1, 3)],
            now_3(),
            9,
            &[Earlier, Earlier, Now],
        ),
        (
            "an edit that is not paid for yet keeps what the transcript rests on",
            &[(1, 1), (1, 2)],
            present(&[(1, Some(3))], false),
            0,
            &[Outlived, Earlier],
        ),
        (
            "so does a request that is not known",
            &[(1, 1), (1, 2)],
            present(&[(1, None)], false),
            0,
            &[Outlived, Earlier],
        ),
        ("the persona is gone", &[(7, 1), (1, 3)], now_3(), 9, &[Gone, Now]),
        ("replaced", &[(1, 3), (1, 3)], now_3(), 9, &[Replaced, Now]),
        (
            "an earlier request that was asked for twice counts once",
            &[(1, 1), (1, 2), (1, 2), (1, 3)],
            now_3(),
            2,
            &[Earlier, Replaced, Earlier, Now],
        ),
    ];
    for (name, paid, present, earlier, expected) in rows {
        assert_eq!(decide(paid, &present, earlier), expected, "{name}");
    }
}

#[test]
fn what_another_persona_paid_for_and_asks_for_earlier_is_kept() {
    // Both asked for 1; the second paid for it.
    let paid = [(1, 1), (2, 1), (1, 3), (2, 3)];
    let present = present(&[(1, Some(3)), (2, Some(3))], true);
    assert_eq!(
        decide(&paid, &present, 1),
        [Fate::Replaced, Fate::Earlier, Fate::Replaced, Fate::Present]
    );
}

#[test]
fn what_a_kept_request_was_made_with_is_kept_too() {
    // A chunk, replaced; a combine that used the first of them; what that one was made with.
    let stored = stored(&[(9, 7), (1, 1), (1, 1), (2, 2), (9, 8)]);
    let uses: [&[usize]; 5] = [&[], &[0], &[], &[1], &[0]];
    let answers: Vec<_> = stored
        .iter()
        .zip(uses)
        .map(|((instance, key, served), uses)| Paid {
            key: *key,
            instance,
            served: *served,
            uses,
        })
        .collect();
    let present = present(&[(2, Some(2))], true);
    assert_eq!(
        fates(&answers, &present, 1),
        [Fate::Used, Fate::Used, Fate::Gone, Fate::Present, Fate::Gone]
    );
}

proptest! {
    #[test]
    fn what_is_asked_for_is_never_free(
        paid in prop::collection::vec((0..5_u8, 0..8_u8), 0..40),
        asked in prop::collection::vec((0..4_u8, prop::option::of(0..8_u8)), 0..6),
        answered in any::<bool>(),
        earlier in 0..4_usize,
    ) {
        let present = present(&asked, answered);
        let fates = decide(&paid, &present, earlier);
        let stored = stored(&paid);
        for ((_, key, served), fate) in stored.iter().zip(&fates) {
            if *served && present.requests.contains(key) {
                prop_assert_eq!(*fate, Fate::Present);
            }
            prop_assert_eq!(*served, *fate != Fate::Replaced);
        }
        // The answers that an instance paid for last are there, as many as were promised.
        for who in present.instances.keys() {
            let room = present.kept_earlier(who, earlier).unwrap();
            let mut newest: Vec<Key> = Vec::new();
            for (instance, key, _) in stored.iter().rev() {
                if instance == who && !present.requests.contains(key) && !newest.contains(key) {
                    newest.push(*key);
                }
            }
            for key in newest.into_iter().take(room) {
                let kept = stored.iter().zip(&fates).any(|((_, other, _), fate)| *other == key && fate.is_kept());
                prop_assert!(kept, "{} of {}", key, who);
            }
        }
        // More earlier requests never keep less.
        let more = decide(&paid, &present, earlier + 1);
        prop_assert!(fates.iter().zip(&more).all(|(less, more)| !less.is_kept() || more.is_kept()));
    }
}
