//! What is found in prompts that are laid out well and badly.

use std::sync::Arc;

use super::*;
use crate::call::{Delivery, Mark, Message};

/// gpt-6-luna, 2026-11.
fn luna() -> Option<Price> {
    Some(Price::per_million(0.10, Some(0.01), Some(0.125), 0.50))
}

/// Lines of 40 characters, 10 tokens each, that say something of their own.
fn text(of: &str, lines: usize) -> String {
    (0..lines).map(|i| format!("{of:<20}{i:>19}\n")).collect()
}

fn request(system: &str, user: &str) -> Request {
    let message = |role, content: &str| Message {
        role,
        content: content.to_owned(),
    };
    Request {
        provider: "p".into(),
        model: "gpt-6-luna".into(),
        messages: vec![message(Role::System, system), message(Role::User, user)],
        parameters: Arc::default(),
        variant: None,
        delivery: Delivery::default(),
    }
}

/// Ten personas with seven chunks, each as `layout` puts it together from persona and part.
fn survey(price: Option<Price>, layout: impl Fn(&str, usize) -> Request) -> Vec<Finding> {
    let mut survey = Survey::new(vec![price; 8]);
    for persona in 0..10 {
        let name = format!("persona {persona}");
        let roots: Vec<_> = (0..7).map(|part| (part, layout(&name, part))).collect();
        survey.persona(&roots, &[(7, layout(&name, 7))]);
    }
    survey.findings()
}

/// With a mark after the context.
fn marked(system: &str, context: &str, own: &str) -> Request {
    let mut request = request(system, &format!("{context}{own}"));
    request.delivery.shared = vec![Mark {
        message: 1,
        bytes: context.len(),
    }];
    request
}

#[test]
fn a_good_layout_gives_no_reason_to_speak() {
    let found = survey(luna(), |persona, part| {
        marked(
            "Be brief.",
            &text(persona, 150),
            &text(&format!("part {part}"), 20),
        )
    });
    assert_eq!(found, []);
}

#[test]
fn a_persona_behind_the_brief_costs_the_whole_saving() {
    let found = survey(luna(), |persona, part| {
        request("Be brief.", &format!("Part {part}\n{}", text(persona, 150)))
    });
    let [
        Finding::Late {
            calls,
            personas,
            tokens,
            cost,
        },
    ] = found[..]
    else {
        panic!("{found:?}")
    };
    assert_eq!((calls, personas), (7, 10));
    assert!((1_500..1_510).contains(&tokens), "{tokens}");
    // Six of seven calls of ten personas could read it.
    assert!((90_000..91_000).contains(&cost.tokens), "{}", cost.tokens);
    // 7 at 0.10 against one at 0.125 and 6 at 0.01 a million, 1,502 tokens, ten times.
    let usd = cost.money.unwrap().usd();
    assert!((0.0077..0.0079).contains(&usd), "{usd}");
}

#[test]
fn a_few_words_in_the_wrong_place_are_nobodys_while() {
    let found = survey(luna(), |persona, part| {
        let own = format!("Part {part}\n{}", text("Write well.", 5));
        marked("Be brief.", &text(persona, 150), &own)
    });
    assert_eq!(found, []);
}

#[test]
fn what_is_too_short_anyway_is_no_loss() {
    let found = survey(luna(), |persona, part| {
        request("Be brief.", &format!("Part {part}\n{}", text(persona, 50)))
    });
    assert_eq!(found, []);
}

#[test]
fn without_a_price_it_is_tokens_and_without_a_discount_it_is_nothing() {
    let late =
        |persona: &str, part: usize| request("Be brief.", &format!("Part {part}\n{}", text(persona, 150)));
    let found = survey(None, late);
    assert!(
        matches!(
            found[..],
            [Finding::Late {
                cost: Cost { money: None, .. },
                ..
            }]
        ),
        "{found:?}"
    );
    let plain = Some(Price::per_million(0.10, None, None, 0.50));
    assert_eq!(survey(plain, late), []);
}

#[test]
fn instructions_with_a_name_in_front_are_written_for_each_persona() {
    let layout = |persona: &str, part: usize| {
        let system = format!("You write for {persona}.\n{}", text("rule", 120));
        marked(&system, &text(persona, 100), &format!("part {part}"))
    };
    let found = survey(luna(), layout);
    let [
        Finding::Instructions {
            personas,
            tokens,
            cost,
        },
    ] = found[..]
    else {
        panic!("{found:?}")
    };
    assert_eq!((personas, tokens, cost.tokens), (10, 1_200, 9 * 1_200));
    assert!(cost.money.unwrap() > Money::ZERO);
    let behind = |persona: &str, part: usize| {
        let system = format!("{}You write for {persona}.\n", text("rule", 120));
        marked(&system, &text(persona, 100), &format!("part {part}"))
    };
    assert_eq!(
        survey(luna(), behind),
        [],
        "with a name behind them they are shared"
    );
    let few = |persona: &str, part: usize| {
        let system = format!("You write for {persona}.\n{}", text("rule", 20));
        marked(&system, &text(persona, 150), &format!("part {part}"))
    };
    assert_eq!(survey(luna(), few), [], "too short to be kept in any case");
}

#[test]
fn just_short_of_the_least_costs_more_than_a_little_longer() {
    let of = |lines: usize| {
        survey(luna(), move |persona, part| {
            marked("", &text(persona, lines), &format!("part {part}"))
        })
    };
    let found = of(100);
    let [
        Finding::Short {
            calls,
            personas,
            tokens,
            cost,
        },
    ] = found[..]
    else {
        panic!("{found:?}")
    };
    assert_eq!((calls, personas, tokens), (8, 10, 1_000));
    // 8,000 at 0.10 against 1,024 at 0.125 and 7,168 at 0.01 a million, ten times.
    let usd = 10.0 * (8_000.0 * 0.10 - 1_024.0 * 0.125 - 7_168.0 * 0.01) / 1e6;
    assert!((cost.money.unwrap().usd() - usd).abs() < 1e-9, "{cost:?}");
    // The border is 1,024 × (0.1 + 1.15 / 8) = 249.6 tokens.
    assert_eq!(of(24), []);
    assert!(matches!(of(26)[..], [Finding::Short { .. }]));
    assert_eq!(of(103), [], "long enough");
}
