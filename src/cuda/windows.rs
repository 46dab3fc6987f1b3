//! Which coordinates are alone among themselves: parts of the vector that all stages keep apart, and windows that some
//! stages do.

use std::vec::Vec;

use super::schedule::Place;
use crate::plan::Stage;

/// Coordinates of a part at least: a row of it is 128 bytes of half precision.
const LEAST: usize = 64;

/// A stage as every part of the vector sees it.
#[derive(Debug)]
pub(super) struct Split<'a> {
    pub(super) stage: &'a Stage<f32>,
    /// Coordinates of its blocks, from the part's first on.
    pub(super) blocks: Vec<Vec<usize>>,
    /// For every part which blocks of the stage these are.
    pub(super) owners: Vec<Vec<usize>>,
}

/// The shortest equal runs of coordinates that all stages keep apart and treat alike, but no less than [`LEAST`]; the
/// whole vector, if there are none. Blocks of one part are read once for many vectors, more than whole ones would be.
pub(super) fn split<'a>(n: usize, stages: &[&'a Stage<f32>]) -> (usize, Vec<Split<'a>>) {
    let blocks = |stage: &Stage<f32>| -> Vec<Vec<usize>> {
        (0..stage.layout().num_blocks()).map(|j| stage.layout().indices(j).collect()).collect()
    };
    let all: Vec<_> = stages.iter().map(|stage| blocks(stage)).collect();
    // How many blocks reach across the boundary before each coordinate, as differences.
    let mut crossed = std::vec![0i64; n + 1];
    for block in all.iter().flatten() {
        let (low, high) = block.iter().fold((n, 0), |(low, high), c| (low.min(*c), high.max(*c)));
        crossed[low + 1] += 1;
        crossed[high + 1] -= 1;
    }
    (1..=n).for_each(|c| crossed[c] += crossed[c - 1]);
    let lengths = (LEAST.min(n)..n).filter(|d| n.is_multiple_of(*d)).chain([n]);
    for length in lengths {
        if (length..n).step_by(length).any(|c| crossed[c] > 0) {
            continue;
        }
        let splits: Option<Vec<_>> = stages.iter().zip(&all).map(|(stage, all)| alike(n, length, stage, all)).collect();
        if let Some(splits) = splits {
            return (length, splits);
        }
    }
    (n, Vec::new()) // the whole vector is always like itself
}

/// The stage in parts of this length, if they are alike.
fn alike<'a>(n: usize, length: usize, stage: &'a Stage<f32>, all: &[Vec<usize>]) -> Option<Split<'a>> {
    let mut owners = std::vec![Vec::new(); n / length];
    all.iter().enumerate().for_each(|(j, block)| owners[block[0] / length].push(j));
    let local = |j: usize| all[j].iter().map(|c| c % length).collect::<Vec<usize>>();
    let blocks: Vec<_> = owners[0].iter().map(|j| local(*j)).collect();
    let same =
        |these: &Vec<usize>| these.len() == blocks.len() && these.iter().zip(&blocks).all(|(j, b)| local(*j) == *b);
    owners.iter().all(same).then_some(Split { stage, blocks, owners })
}

/// Windows of consecutive stages, sorted, each with its coordinates and the blocks of every stage in it.
pub(super) struct Windows {
    pub(super) coordinates: Vec<Vec<usize>>,
    pub(super) blocks: Vec<Vec<Vec<usize>>>,
}

/// How many stages each pass takes: as few passes as there can be, and of these cuts the one with the fewest windows,
/// whose passes are most alike.
pub(super) fn cut(n: usize, stages: &[Split<'_>], window: usize) -> Vec<usize> {
    // Of the stages from each on: passes, windows, length of the first pass.
    let mut best = std::vec![(0, 0, 0); stages.len() + 1];
    for at in (0..stages.len()).rev() {
        let (passes, windows, _) = best[at + 1];
        best[at] = (passes + 1, windows + stages[at].blocks.len(), 1);
        for length in 2..=stages.len() - at {
            let Some(found) = together(n, &stages[at..at + length], window) else { break };
            let (passes, windows, _) = best[at + length];
            best[at] = best[at].min((passes + 1, windows + found.coordinates.len(), length));
        }
    }
    let mut lengths = Vec::new();
    let mut at = 0;
    while at < stages.len() {
        lengths.push(best[at].2);
        at += best[at].2;
    }
    lengths
}

/// One stage: every block a window, in its own order.
pub(super) fn single(stage: &Split<'_>) -> Windows {
    Windows {
        coordinates: stage.blocks.clone(),
        blocks: [(0..stage.blocks.len()).map(|j| [j].into()).collect()].into(),
    }
}

/// Several stages, if their windows are small and alike.
pub(super) fn together(n: usize, stages: &[Split<'_>], most: usize) -> Option<Windows> {
    let mut parent: Vec<usize> = (0..n).collect();
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    let mut named = std::vec![false; n];
    for stage in stages {
        for block in &stage.blocks {
            for c in block {
                named[*c] = true;
                let (a, b) = (root(&mut parent, block[0]), root(&mut parent, *c));
                parent[a.max(b)] = a.min(b);
            }
        }
    }
    let mut window_of = std::vec![usize::MAX; n];
    let mut coordinates: Vec<Vec<usize>> = Vec::new();
    for c in (0..n).filter(|c| named[*c]) {
        let r = root(&mut parent, c);
        if window_of[r] == usize::MAX {
            window_of[r] = coordinates.len();
            coordinates.push(Vec::new());
        }
        window_of[c] = window_of[r];
        let window = &mut coordinates[window_of[r]];
        window.push(c);
        if window.len() > most {
            return None;
        }
    }
    if coordinates.iter().any(|c| c.len() != coordinates[0].len()) {
        return None;
    }
    let mut blocks = Vec::new();
    for stage in stages {
        let mut of_stage = std::vec![Vec::new(); coordinates.len()];
        for (j, block) in stage.blocks.iter().enumerate() {
            of_stage[window_of[block[0]]].push(j);
        }
        // The same places in every window, in the same order.
        let mut first: Option<Vec<Vec<usize>>> = None;
        for (w, blocks) in of_stage.iter_mut().enumerate() {
            let place = |j: usize| -> Vec<usize> {
                stage.blocks[j].iter().map(|c| coordinates[w].binary_search(c).unwrap_or(0)).collect()
            };
            blocks.sort_by_key(|j| place(*j));
            let places: Vec<_> = blocks.iter().map(|j| place(*j)).collect();
            if *first.get_or_insert_with(|| places.clone()) != places {
                return None;
            }
        }
        blocks.push(of_stage);
    }
    Some(Windows { coordinates, blocks })
}

/// The formula of these coordinates, if there is one.
pub(super) fn formula(coordinates: &[Vec<usize>]) -> Option<Place> {
    let first = |w: usize| coordinates[w][0];
    let (count, zero) = (coordinates.len(), first(0));
    let offsets = coordinates[0].clone();
    let near = if count > 1 { first(1).checked_sub(zero)? } else { 0 };
    let windows = (1..count).find(|w| first(*w) != zero + w * near).unwrap_or(count);
    let far = if windows < count { first(windows).checked_sub(zero)? } else { 0 };
    let fits = coordinates.iter().enumerate().all(|(w, c)| {
        let base = w / windows * far + w % windows * near;
        c.iter().zip(&offsets).all(|(c, offset)| *c == base + offset)
    });
    fits.then_some(Place::Formula { windows, far, near, offsets })
}
