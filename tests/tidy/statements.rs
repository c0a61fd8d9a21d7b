//! Rule about dockerfile.md §6: each statement is a test that is named after what it says, with its number.

use super::{expect_none, files, read};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

const ALL: RangeInclusive<u32> = 1..=95;

/// So many numbers may one test have.
const TOGETHER: u32 = 8;

#[test]
fn every_statement_about_dockerfiles_has_its_test() {
    let mut found = Vec::new();
    let mut tested = BTreeSet::new();
    for path in files("src", ".rs").into_iter().chain(files("tests/it", ".rs")) {
        for name in test_names(&read(&path)) {
            let Some(numbers) = numbers(&name) else {
                if name.starts_with("statement") {
                    found.push(format!("{}: `{name}` has no numbers", path.display()));
                }
                continue;
            };
            if numbers.is_empty() || !numbers.iter().all(|number| ALL.contains(number)) {
                found.push(format!("{}: `{name}` is about no statement", path.display()));
            } else if numbers.len() > TOGETHER as usize {
                found.push(format!("{}: `{name}` is about too many", path.display()));
            }
            tested.extend(numbers);
        }
    }
    for number in ALL {
        if !tested.contains(&number) {
            found.push(format!("no test is named `statement_{number}_…`"));
        }
    }
    expect_none(&found);
}

/// Names of the functions right behind `#[test]`.
fn test_names(source: &str) -> Vec<String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let tests = lines.windows(2).filter(|pair| pair[0] == "#[test]");
    tests
        .filter_map(|pair| Some(pair[1].strip_prefix("fn ")?.split_once('(')?.0.to_owned()))
        .collect()
}

/// Numbers in `statement_N_…`, `statements_A_to_B_…` and `statements_A_and_B_…`.
fn numbers(name: &str) -> Option<Vec<u32>> {
    if let Some(rest) = name.strip_prefix("statement_") {
        return Some(vec![rest.split_once('_')?.0.parse().ok()?]);
    }
    let mut words = name.strip_prefix("statements_")?.splitn(4, '_');
    let first = words.next()?.parse().ok()?;
    let joined = words.next()?;
    let last = words.next()?.parse().ok()?;
    words.next()?;
    match joined {
        "to" => Some((first..=last).collect()),
        "and" => Some(vec![first, last]),
        _ => None,
    }
}

#[test]
fn numbers_are_read_out_of_names() {
    assert_eq!(numbers("statement_9_is_so"), Some(vec![9]));
    assert_eq!(numbers("statements_1_to_3_are_so"), Some(vec![1, 2, 3]));
    assert_eq!(numbers("statements_13_and_14_are_so"), Some(vec![13, 14]));
    assert_eq!(numbers("statements_3_to_1_are_so"), Some(vec![]));
    for name in ["statement_9", "statement_x_y", "statements_1_to_3", "statements_1_or_2_x", "so"] {
        assert_eq!(numbers(name), None, "{name}");
    }
    assert_eq!(test_names("#[test]\nfn a_b() {\n}\nfn c() {}\n"), ["a_b"]);
}
