//! What septet is built from, against the lists in `deny.toml`: no licence and no second version
//! that nobody has looked at. Asks cargo, which reads what is on disk already.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

fn tree(format: &str) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            format,
        ])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| line.trim_end_matches(" (*)").trim());
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn lists() -> toml::Table {
    let text = include_str!("../../deny.toml");
    text.parse().unwrap()
}

#[test]
fn each_licence_is_one_of_those_that_are_allowed() {
    let lists = lists();
    let allowed: BTreeSet<&str> = lists["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|licence| licence.as_str().unwrap())
        .collect();
    // Of `A OR B` one is enough, of `A AND B` it takes both; an old way to write OR is `/`.
    let fits = |expression: &str| {
        let expression = expression.replace(['(', ')'], "").replace('/', " OR ");
        expression
            .split(" AND ")
            .all(|part| part.split(" OR ").any(|licence| allowed.contains(licence.trim())))
    };
    let crates = tree("{p}\t{l}");
    assert!(crates.len() > 100, "{crates:?}");
    for line in crates {
        let (name, licence) = line.split_once('\t').unwrap();
        assert!(
            fits(licence),
            "{name} has the licence {licence:?}, which is not in `deny.toml`"
        );
    }
}

#[test]
fn each_second_version_has_its_reason() {
    let lists = lists();
    let skipped = lists["bans"]["skip"].as_array().unwrap();
    let skipped: Vec<(String, String)> = skipped
        .iter()
        .map(|skip| {
            assert!(skip["reason"].as_str().is_some_and(|reason| reason.len() > 3));
            let (name, version) = skip["crate"].as_str().unwrap().split_once('@').unwrap();
            (name.to_owned(), format!("{version}."))
        })
        .collect();
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in tree("{p}") {
        let mut words = line.split_whitespace();
        let (name, version) = (
            words.next().unwrap(),
            words.next().unwrap().trim_start_matches('v'),
        );
        versions
            .entry(name.to_owned())
            .or_default()
            .insert(version.to_owned());
    }
    let is_skipped = |name: &str, version: &str| {
        let mut fitting = skipped.iter().filter(|(other, _)| other == name);
        fitting.any(|(_, beginning)| version.starts_with(beginning))
    };
    for (name, versions) in &versions {
        let unexplained: Vec<_> = versions
            .iter()
            .filter(|version| !is_skipped(name, version))
            .collect();
        assert!(
            unexplained.len() <= 1,
            "{name} is there as {unexplained:?}: say why in `deny.toml`"
        );
    }
    // What is gone from the tree is gone from the list.
    for (name, beginning) in &skipped {
        let found = versions
            .get(name)
            .is_some_and(|versions| versions.len() > 1 && versions.iter().any(|v| v.starts_with(beginning)));
        assert!(
            found,
            "{name} {beginning} is not there twice any more: take it out of `deny.toml`"
        );
    }
}
