//! Which store paths share a layer: by popularity, or balanced by size.
//!
//! In: a [`Closure`] and a number of layers. Out: groups of paths, each path in exactly one, the same for equal input.
//! How layers are written is not known here.
//!
//! Popularity: the graph is thought of as a tree in which a path stands once for each way that leads to it. The
//! popularity of a path is the number of its places in the tree, plus the number of places of each path that uses it,
//! directly or not. What much is built on comes first, so that images that have it in common share its layer.

mod balanced;

pub use balanced::balanced;

use super::closure::users_first;
use super::{Closure, StorePath};
use crate::error::{Error, Result};
use std::cmp::Reverse;

/// All paths of a closure, the most popular first; of equally popular ones by name, then by hash.
pub fn popularity(closure: &Closure) -> Vec<StorePath> {
    let popularity = popularities(&closure.edges());
    let mut order: Vec<(u128, &StorePath)> =
        popularity.into_iter().zip(closure.paths().iter().map(|info| &info.path)).collect();
    order.sort_by_cached_key(|(popularity, path)| (Reverse(*popularity), by_name(path)));
    order.into_iter().map(|(_, path)| path.clone()).collect()
}

/// Name, then hash.
fn by_name(path: &StorePath) -> (Vec<u8>, Vec<u8>) {
    (path.pname().to_vec(), path.hash_part().to_vec())
}

/// Popularity by place. Numbers of ways grow like powers of two, and stay at the largest number where they reach it.
fn popularities(edges: &[Vec<usize>]) -> Vec<u128> {
    let order = users_first(edges);
    let mut ways = vec![0_u128; edges.len()];
    let mut used = vec![false; edges.len()];
    edges.iter().flatten().for_each(|at| used[*at] = true);
    for at in &order {
        if !used[*at] {
            ways[*at] = 1;
        }
        for below in &edges[*at] {
            ways[*below] = ways[*below].saturating_add(ways[*at]);
        }
    }
    let mut popularity = ways.clone();
    // Who uses whom, for 64 paths at a time, each a bit: the memory does not grow with the square of the paths.
    for first in (0..edges.len()).step_by(64) {
        let bit = |at: usize| match at.checked_sub(first) {
            Some(shift @ 0..64) => 1_u64 << shift,
            _ => 0,
        };
        let mut below = vec![0_u64; edges.len()];
        for at in order.iter().rev() {
            let mut uses = edges[*at].iter().fold(0, |all, next| all | below[*next] | bit(*next));
            below[*at] = uses;
            while uses != 0 {
                let place = &mut popularity[first + uses.trailing_zeros() as usize];
                *place = place.saturating_add(ways[*at]);
                uses &= uses - 1;
            }
        }
    }
    popularity
}

/// The first paths a layer each, the rest together in the last; each its own where there are enough layers.
pub fn split(order: Vec<StorePath>, layers: usize) -> Result<Vec<Vec<StorePath>>> {
    check_layers(layers)?;
    let mut groups: Vec<Vec<StorePath>> = Vec::with_capacity(layers.min(order.len()));
    for path in order {
        let full = groups.len() == layers;
        match groups.last_mut() {
            Some(last) if full => last.push(path),
            _ => groups.push(vec![path]),
        }
    }
    Ok(groups)
}

fn check_layers(layers: usize) -> Result<()> {
    if layers < 1 {
        return Err(Error::usage("no layer is left for store paths: at least 1 is needed")
            .hint("raise the greatest number of layers, or take a base image with fewer"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
