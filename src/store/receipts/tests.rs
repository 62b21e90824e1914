use super::*;

fn receipt(n: u8) -> Receipt {
    let digest = |m: u8| Digest([n.wrapping_mul(m); 16]);
    Receipt {
        files: digest(1),
        content: digest(3),
        transcript: digest(5),
        text: digest(7),
        fresh: n.is_multiple_of(2),
        readmitted: n == 2,
        saved: Some(Money::ZERO),
    }
}

/// A basis of two nodes, of which `edited` was edited.
fn basis(edited: Option<&str>) -> Basis {
    let digest = |node: &str| Digest([u8::from(edited == Some(node)); 16]);
    Basis {
        whole: format!("basis {edited:?}").replace('"', ""),
        nodes: ["a", "b"].map(|node| (node.into(), digest(node))).into(),
    }
}

fn example() -> Receipts {
    let mut receipts = Receipts::new(basis(None));
    receipts.keep((0..20).map(|n| (format!("anna-{n}").into(), receipt(n))));
    receipts
}

#[test]
fn come_back_as_they_were_and_can_be_taken_back() {
    let cache = tempfile::tempdir().unwrap();
    let read = || Receipts::read(cache.path(), basis(None));
    let none = Receipts::new(basis(None));
    assert_eq!(read(), none);
    example().write(cache.path()).unwrap();
    assert_eq!(read(), example());
    let other = Receipts::read(cache.path(), basis(Some("a")));
    assert_eq!(other, Receipts::new(basis(Some("a"))));
    Receipts::remove(cache.path()).unwrap();
    Receipts::remove(cache.path()).unwrap();
    assert_eq!(read(), none);
}

#[test]
fn any_flipped_bit_and_any_missing_byte_makes_them_none() {
    let cache = tempfile::tempdir().unwrap();
    example().write(cache.path()).unwrap();
    let good = fs::read(path(cache.path())).unwrap();
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        for bad in [&flipped, &good[..at]] {
            fs::write(path(cache.path()), bad).unwrap();
            let read = Receipts::read(cache.path(), basis(None));
            assert_eq!(read, Receipts::new(basis(None)), "byte {at}");
        }
    }
}

#[test]
fn what_is_renewed_replaces_and_does_not_bring_back() {
    let cache = tempfile::tempdir().unwrap();
    let read = || Receipts::read(cache.path(), basis(None));
    let renew = |n: u8| {
        let newer = vec![(format!("anna-{n}").into(), receipt(99))];
        Receipts::renew(cache.path(), basis(None), newer).unwrap();
    };
    renew(1);
    assert!(read().is_empty());
    let mut some = example();
    some.forget(&["anna-2".into()].into());
    some.write(cache.path()).unwrap();
    renew(1);
    renew(2);
    assert_eq!(read().of(&"anna-1".into()), Some(&receipt(99)));
    assert_eq!(read().of(&"anna-2".into()), None);
    let _held = Lock::take(cache.path()).unwrap();
    renew(3);
    assert_eq!(read().of(&"anna-3".into()), Some(&receipt(3)));
}

#[test]
fn after_an_edit_those_of_the_other_nodes_still_hold() {
    let cache = tempfile::tempdir().unwrap();
    example().write(cache.path()).unwrap();
    let now = || Receipts::read_all(cache.path(), basis(Some("b")));
    let has = |persona: &str, content: u8, node: &str| {
        now().has_answer(&persona.into(), Digest([content; 16]), &node.into())
    };
    assert_eq!(now().of(&"anna-1".into()), None, "it is not up to date");
    assert!(has("anna-1", 3, "a"));
    assert!(!has("anna-1", 3, "b"), "it was edited");
    assert!(!has("anna-1", 3, "c"), "it is new");
    assert!(!has("anna-1", 4, "a"), "the persona was edited");
    assert!(!has("ben", 3, "a"), "the persona is new");
    // Some are brought up to date, and the edit is undone.
    let mut some = Receipts::new(basis(Some("b")));
    some.keep([("anna-1".into(), receipt(99))]);
    some.keep_others(now());
    some.write(cache.path()).unwrap();
    let back = Receipts::read(cache.path(), basis(None));
    assert_eq!(back.of(&"anna-2".into()), Some(&receipt(2)));
    assert_eq!(back.of(&"anna-1".into()), None);
    let all = Receipts::read_all(cache.path(), basis(None));
    let content = Digest([99_u8.wrapping_mul(3); 16]);
    assert!(all.has_answer(&"anna-1".into(), content, &"a".into()));
    assert!(!all.has_answer(&"anna-1".into(), content, &"b".into()));
}

#[test]
fn a_node_may_be_named_like_anything_in_the_file() {
    let cache = tempfile::tempdir().unwrap();
    let named = |whole: &str| Basis {
        whole: whole.to_owned(),
        nodes: [("personas".into(), Digest([7; 16]))].into(),
    };
    let mut receipts = Receipts::new(named("before"));
    receipts.keep([("anna".into(), receipt(1))]);
    let mut edited = Receipts::new(named("edited"));
    edited.keep([("ben".into(), receipt(2))]);
    edited.keep_others(receipts);
    edited.write(cache.path()).unwrap();
    let undone = Receipts::read(cache.path(), named("before"));
    assert_eq!(undone.of(&"anna".into()), Some(&receipt(1)));
}

#[test]
fn those_that_rest_on_an_answer_that_a_check_refused_can_be_dropped() {
    let (mut receipts, cache) = (example(), tempfile::tempdir().unwrap());
    assert!(receipts.drop_readmitted());
    assert_eq!(receipts.of(&"anna-2".into()), None);
    assert!(receipts.of(&"anna-3".into()).is_some());
    receipts.write(cache.path()).unwrap();
    assert!(!Receipts::read_all(cache.path(), basis(None)).drop_readmitted());
}

#[test]
fn only_the_newest_bases_are_kept() {
    let mut receipts = Receipts::new(basis(None));
    for n in 0..40 {
        let name = format!("edit {n}");
        let mut newer = Receipts::new(Basis {
            whole: name.clone(),
            ..basis(None)
        });
        newer.keep([(name.as_str().into(), receipt(n))]);
        newer.keep_others(receipts);
        receipts = newer;
    }
    assert_eq!(receipts.bases.len(), MOST_BASES);
    assert_eq!(receipts.personas.len(), MOST_BASES);
    assert!(receipts.place(&"edit 24".into()).is_some());
}

#[test]
fn newer_receipts_stand_before_others() {
    let mut newer = Receipts::new(basis(None));
    newer.keep([("anna-1".into(), receipt(99))]);
    newer.keep_others(example());
    assert_eq!(newer.of(&"anna-1".into()), Some(&receipt(99)));
    assert_eq!(newer.of(&"anna-2".into()), Some(&receipt(2)));
}
