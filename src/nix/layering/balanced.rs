//! Layers balanced by size: the largest paths get layers of their own, together with what only they need.
//!
//! One after another, the largest paths become *primaries*. What a path belongs to is the set of its nearest primaries:
//! those that are it or use it, without those for which another primary stands between. Paths with the same set share a
//! layer, so what two primaries have in common has a layer of its own, and what is used by no primary has one too. The
//! number of primaries is the greatest that keeps to the number of layers.

use super::{by_name, check_layers};
use crate::error::{Error, Result};
use crate::nix::{Closure, StorePath};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// The places of a group's nearest primaries, sorted.
type Nearest = Vec<usize>;

/// Groups of paths, the smallest closure first, so that each stands behind what it needs. All sizes must be known.
pub fn balanced(closure: &Closure, layers: usize) -> Result<Vec<Vec<StorePath>>> {
    check_layers(layers)?;
    let sizes = sizes(closure)?;
    let edges = closure.edges();
    let nearest = nearest(&edges, &sizes, layers);
    let mut groups: BTreeMap<&Nearest, Vec<usize>> = BTreeMap::new();
    for (at, primaries) in nearest.iter().enumerate() {
        groups.entry(primaries).or_default().push(at);
    }
    let mut ordered: Vec<(u128, Vec<StorePath>)> = Vec::with_capacity(groups.len());
    for places in groups.into_values() {
        let all = below(&edges, &places);
        let size = all.iter().zip(&sizes).filter(|(is_below, _)| **is_below);
        let size = size.map(|(_, size)| u128::from(*size)).sum();
        let mut paths: Vec<StorePath> =
            places.iter().map(|at| closure.paths()[*at].path.clone()).collect();
        paths.sort_by_cached_key(by_name);
        ordered.push((size, paths));
    }
    ordered.sort_by_cached_key(|(size, paths)| (*size, paths.first().map(by_name)));
    Ok(ordered.into_iter().map(|(_, paths)| paths).collect())
}

fn sizes(closure: &Closure) -> Result<Vec<u64>> {
    let size = |info: &crate::nix::PathInfo| {
        let absent = || {
            Error::usage(format!("the size of `{}` is not known", info.path))
                .hint("give a graph with sizes, or let the store be looked through")
        };
        info.nar_size.ok_or_else(absent)
    };
    closure.paths().iter().map(size).collect()
}

/// For each path its nearest primaries, with as many primaries as `layers` allows.
fn nearest(edges: &[Vec<usize>], sizes: &[u64], layers: usize) -> Vec<Nearest> {
    if layers >= edges.len() {
        // Every path can be a primary.
        return (0..edges.len()).map(|at| vec![at]).collect();
    }
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); edges.len()];
    for (at, used) in edges.iter().enumerate() {
        for used in used {
            users[*used].push(at);
        }
    }
    let mut largest: Vec<usize> = (0..edges.len()).collect();
    largest.sort_by_key(|at| Reverse((sizes[*at], *at)));
    let mut nearest: Vec<Nearest> = vec![Vec::new(); edges.len()];
    for primary in largest {
        let next =
            with_primary(&nearest, primary, &below(edges, &[primary]), &below(&users, &[primary]));
        if next.iter().collect::<BTreeSet<_>>().len() > layers {
            break;
        }
        nearest = next;
    }
    nearest
}

/// The same with one more primary, which uses `below` and is used by `above`; it is in both.
fn with_primary(
    before: &[Nearest],
    primary: usize,
    below: &[bool],
    above: &[bool],
) -> Vec<Nearest> {
    let mut nearest = before.to_vec();
    for (at, primaries) in nearest.iter_mut().enumerate() {
        if at == primary {
            *primaries = vec![primary];
        } else if below[at] {
            // The new one stands between these and the path.
            primaries.retain(|other| !above[*other]);
            if !primaries.iter().any(|other| below[*other])
                && let Err(place) = primaries.binary_search(&primary)
            {
                primaries.insert(place, primary);
            }
        }
    }
    nearest
}

/// What is reached from some places, these included.
fn below(edges: &[Vec<usize>], places: &[usize]) -> Vec<bool> {
    let mut seen = vec![false; edges.len()];
    let mut todo = places.to_vec();
    while let Some(at) = todo.pop() {
        if !std::mem::replace(&mut seen[at], true) {
            todo.extend(&edges[at]);
        }
    }
    seen
}
