//! The two meshes of neighbouring pairs that reach all of SO(n) exactly, with n(n − 1)/2 angles, as many as it has dimensions.
//!
//! - **Triangle** (Reck, Zeilinger, Bernstein, Bertani, PRL 73, 58 (1994)): 2n − 3 stages. The elimination of a matrix below
//!   its diagonal by rotations of neighbours, as parallel as it can be.
//! - **Brick** (Clements et al., Optica 3, 1460 (2016), arXiv 1603.08788): n stages, (0,1), (2,3), … and (1,2), (3,4), … in
//!   turn. Half the depth, the same count.
//!
//! The angles of a given rotation: [`synthesis::triangle`](crate::synthesis::triangle), [`synthesis::brick`](crate::synthesis::brick).

use super::limits::check_stages;
use super::{StageLayout, Topology};
use crate::error::Result;

/// The rectangular mesh of Clements et al.: n stages (one for n = 2, none for n = 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Brick;

/// The triangular mesh of Reck et al.: 2n − 3 stages (none for n = 1). Stage t has the pairs (i, i + 1) with i ≤ t,
/// i ≤ 2n − 4 − t and i + t even.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Triangle;

impl Topology for Brick {
    fn name(&self) -> &'static str {
        "brick"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        check_stages("brick topology", n, Some(if n < 3 { n.saturating_sub(1) } else { n }))
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        if k.is_multiple_of(2) { StageLayout::contiguous(2, n / 2) } else { neighbours(1, n - 1) }
    }
}

impl Topology for Triangle {
    fn name(&self) -> &'static str {
        "triangle"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        check_stages("triangle topology", n, n.checked_mul(2).map(|twice| twice.saturating_sub(3)))
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        neighbours(k % 2, k.min(2 * n - 4 - k) + 1)
    }
}

/// The pairs (i, i + 1) for i = from, from + 2, … below `end`.
fn neighbours(from: usize, end: usize) -> StageLayout {
    let pairs = (from..end).step_by(2).flat_map(|i| [i as u32, i as u32 + 1]);
    StageLayout::Table { block: 2, index: pairs.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_rotations_as_dimensions() {
        for n in 1..60 {
            for topology in [&Brick as &dyn Topology, &Triangle] {
                let stages = topology.num_stages(n).unwrap();
                let pairs: usize = (0..stages).map(|k| topology.stage(n, k).num_blocks()).sum();
                assert_eq!(pairs, n * (n - 1) / 2, "{topology:?} {n}");
            }
        }
    }

    #[test]
    fn depth_is_as_published() {
        assert_eq!([1, 2, 3, 4, 9].map(|n| Brick.num_stages(n).unwrap()), [0, 1, 3, 4, 9]);
        assert_eq!([1, 2, 3, 4, 9].map(|n| Triangle.num_stages(n).unwrap()), [0, 1, 3, 5, 15]);
        assert!(Brick.num_stages(0).is_err() && Triangle.num_stages(usize::MAX).is_err());
        assert!(Brick.num_stages(1 << 20).is_err(), "2^40 indices");
    }
}
