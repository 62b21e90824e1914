//! Holds every file to the rows of `src/lib.rs`: it names only modules of lower rows or of its
//! own, and the five lowest rows hold values only. rustc allows circles in a crate, so a test has
//! to refuse them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How many rows, from below, have no I/O, no clock, no chance and nothing async.
const PURE_ROWS: usize = 5;
const IMPURE: &[&str] = &[
    "tokio::",
    "async ",
    "Instant",
    "SystemTime",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "println!",
    "eprintln!",
    "fastrand",
    "Timestamp::now",
    "Zoned::now",
];

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The row of each module, counted from below.
fn rows() -> HashMap<String, usize> {
    let lib = fs::read_to_string(source("src/lib.rs")).unwrap();
    let groups: Vec<Vec<String>> = lib
        .split("\n\n")
        .map(|group| {
            group
                .lines()
                .filter_map(|line| line.strip_prefix("pub mod "))
                .map(module)
                .collect()
        })
        .filter(|group: &Vec<String>| !group.is_empty())
        .collect();
    let numbered = groups.into_iter().rev().enumerate();
    numbered
        .flat_map(|(row, group)| group.into_iter().map(move |name| (name, row)))
        .collect()
}

fn module(line: &str) -> String {
    line.trim_end_matches(';').to_owned()
}

/// Every source file with the module that it belongs to; tests may name what they like.
fn files() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut open = vec![source("src")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                let inside = path.strip_prefix(source("src")).unwrap();
                let top = inside.components().next().unwrap().as_os_str().to_str().unwrap();
                found.push((top.trim_end_matches(".rs").to_owned(), path));
            }
        }
    }
    let is_test = |path: &Path| ["fuzz.rs", "fuzzed.rs"].iter().any(|name| path.ends_with(name));
    found.retain(|(_, path)| !is_test(path));
    found.retain(|(top, path)| {
        top != "lib" && top != "main" && !path.components().any(|c| c.as_os_str() == "tests")
    });
    assert!(found.len() > 20, "the source files were found");
    found
}

/// The code of a file: no comments, and nothing from its tests on.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    lines
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default().to_owned()))
        .collect()
}

#[test]
fn a_file_names_only_modules_of_lower_rows_or_its_own() {
    let rows = rows();
    let mut wrong = Vec::new();
    for (top, path) in files() {
        let own = *rows
            .get(&top)
            .unwrap_or_else(|| panic!("src/lib.rs does not declare `{top}`"));
        for (number, line) in code(&path) {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                let name: String = rest
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let row = rows.get(&name).copied();
                if name != top && row.is_none_or(|row| row >= own) {
                    wrong.push(format!("{}:{number} names crate::{name}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_lowest_rows_hold_values_only() {
    let rows = rows();
    let mut wrong = Vec::new();
    for (top, path) in files() {
        if rows[&top] < PURE_ROWS {
            for (number, line) in code(&path) {
                let found = IMPURE.iter().filter(|word| line.contains(**word));
                wrong.extend(found.map(|word| format!("{}:{number} has {word}", path.display())));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
