//! Tests of both layerings, some against a literal expansion of the tree.

use super::*;
use crate::error::ErrorKind;
use crate::nix::fixture::{closure, info, names, path};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Instant;

/// Popularity as it is defined: by expanding the tree.
fn contest(edges: &[Vec<usize>], nodes: &[usize]) -> BTreeMap<usize, u128> {
    let mut all = BTreeMap::new();
    for node in nodes {
        *all.entry(*node).or_default() += 1;
        for (below, popularity) in contest(edges, &edges[*node]) {
            *all.entry(below).or_default() += popularity + 1;
        }
    }
    all
}

fn groups(groups: &[Vec<StorePath>]) -> Vec<String> {
    groups.iter().map(|group| names(group).join(" ")).collect()
}

#[test]
fn popularity_of_the_worked_example() {
    let closure = closure(&["A: B G", "B: C E", "C: D E", "D: F", "E: F", "F:", "G:"]);
    let found = popularities(&closure.edges());
    let found = closure
        .paths()
        .iter()
        .zip(found)
        .map(|(info, n)| (names(std::slice::from_ref(&info.path)).remove(0), n));
    let expected = [("A", 1), ("B", 2), ("C", 3), ("D", 4), ("E", 5), ("F", 9), ("G", 2)];
    let expected = expected.map(|(name, n)| (name.to_owned(), n));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), expected.into());
    assert_eq!(names(&popularity(&closure)), ["F", "E", "D", "C", "B", "G", "A"]);
}

#[test]
fn a_path_that_refers_to_itself_is_no_more_popular() {
    let closure = closure(&["A: A B", "B: B"]);
    assert_eq!(names(&popularity(&closure)), ["B", "A"]);
}

#[test]
fn equally_popular_paths_are_in_the_order_of_names_then_hashes() {
    let with_hash = |hash: &str, name: &str| {
        StorePath::from_base(format!("{}-{name}", hash.repeat(32)).as_bytes()).unwrap()
    };
    let paths = [with_hash("2", "a"), with_hash("1", "b"), with_hash("1", "a")];
    let closure =
        Closure::new(paths.iter().cloned().map(crate::nix::PathInfo::new).collect()).unwrap();
    assert_eq!(popularity(&closure), [&paths[2], &paths[0], &paths[1]].map(Clone::clone));
}

#[test]
fn large_graphs_take_a_moment_only() {
    let start = Instant::now();
    let name = |at: usize| format!("p{at:05}");
    // Each path uses the two behind it: a Fibonacci number of ways, far beyond 128 bits.
    let ladder = (0..5000_usize).map(|at| {
        let below: Vec<String> = (at + 1..(at + 3).min(5000)).map(name).collect();
        info(&name(at), 1, &below.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let ladder = Closure::new(ladder.collect()).unwrap();
    let order = popularity(&ladder);
    assert_eq!((order.len(), &order[4999]), (5000, &path(&name(0))));
    assert_eq!(balanced(&ladder, 100).unwrap().len(), 100);
    let taken = start.elapsed();
    eprintln!("5,000 paths in a ladder: {taken:?}");
    assert!(taken.as_secs() < 60, "{taken:?}");
}

#[test]
fn the_first_paths_are_alone_and_the_rest_together() {
    let order: Vec<StorePath> = ["a", "b", "c", "d"].map(path).to_vec();
    let split = |layers| groups(&split(order.clone(), layers).unwrap());
    assert_eq!(split(1), ["a b c d"]);
    assert_eq!(split(3), ["a", "b", "c d"]);
    assert_eq!(split(4), ["a", "b", "c", "d"]);
    assert_eq!(split(5), ["a", "b", "c", "d"]);
    assert_eq!(super::split(Vec::new(), 3).unwrap(), Vec::<Vec<StorePath>>::new());
}

#[test]
fn no_layer_at_all_is_an_error_that_says_how_many_are_needed() {
    for error in
        [split(vec![path("a")], 0).unwrap_err(), balanced(&closure(&["a:"]), 0).unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(error.message(), "no layer is left for store paths: at least 1 is needed");
    }
}

#[test]
fn large_paths_have_layers_with_what_only_they_need() {
    let closure = closure(&[
        "app 1: big large small",
        "big 100: lib own",
        "large 90: lib",
        "lib 20: libc",
        "libc 30:",
        "own 5:",
        "small 2:",
    ]);
    let balanced = |layers| groups(&balanced(&closure, layers).unwrap());
    assert_eq!(balanced(1), ["app big large lib libc own small"]);
    // `big` takes what it uses, but not what `large` uses too, once that is a primary.
    assert_eq!(balanced(2), ["big lib libc own", "app large small"]);
    assert_eq!(balanced(3), balanced(2), "`large` would make four");
    assert_eq!(balanced(4), ["lib libc", "large", "big own", "app small"]);
    assert_eq!(balanced(5), ["libc", "lib", "large", "big own", "app small"]);
    assert_eq!(balanced(6), ["own", "libc", "lib", "large", "big", "app small"]);
    assert_eq!(balanced(7).len(), 7);
    assert_eq!(balanced(8), balanced(7));
}

#[test]
fn sizes_that_are_not_known_are_asked_for() {
    let closure = Closure::new(vec![crate::nix::PathInfo::new(path("a"))]).unwrap();
    let error = balanced(&closure, 3).unwrap_err();
    assert_eq!(error.message(), format!("the size of `{}` is not known", path("a")));
}

/// A graph without circles: each path uses some of those with a greater number.
fn graphs() -> impl Strategy<Value = (Closure, Vec<Vec<usize>>)> {
    let edges =
        proptest::collection::vec((0_u64..50, proptest::collection::vec(any::<bool>(), 9)), 1..9);
    edges.prop_map(|rows| {
        let infos = rows.iter().enumerate().map(|(at, (size, uses))| {
            let used = (at + 1..rows.len()).filter(|other| uses[*other]);
            let used: Vec<String> = used.map(|other| format!("p{other}")).collect();
            info(&format!("p{at}"), *size, &used.iter().map(String::as_str).collect::<Vec<_>>())
        });
        let closure = Closure::new(infos.collect()).unwrap();
        let edges = closure.edges();
        (closure, edges)
    })
}

proptest! {
    #[test]
    fn popularity_is_that_of_the_expanded_tree((_, edges) in graphs()) {
        let used: Vec<usize> = edges.iter().flatten().copied().collect();
        let roots: Vec<usize> = (0..edges.len()).filter(|at| !used.contains(at)).collect();
        let expected: Vec<u128> = contest(&edges, &roots).into_values().collect();
        prop_assert_eq!(popularities(&edges), expected);
    }

    #[test]
    fn every_path_is_in_one_group_and_users_stand_behind((closure, _) in graphs(), layers in 1_usize..12) {
        let balanced = balanced(&closure, layers).unwrap();
        prop_assert!(balanced.len() <= layers);
        let mut all: Vec<StorePath> = balanced.concat();
        all.sort();
        let expected: Vec<StorePath> = closure.paths().iter().map(|info| info.path.clone()).collect();
        prop_assert_eq!(all, expected);
    }
}
