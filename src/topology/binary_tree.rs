//! The binary tree of GOFT (Ma et al., ICML 2024, arXiv 2404.04316, eq. 3): stage r = 1, 2, … rotates the pairs
//! (2ʳk, 2ʳ⁻¹(2k + 1)).
//!
//! Every coordinate but 0 is the second of exactly one pair, so there are n − 1 angles in ⌈log₂ n⌉ stages, for every n: pairs
//! whose second coordinate would be n or more do not exist. Stage 1 acts first. The tree can rotate any vector to a multiple
//! of e₀, but its matrices have the sparsity of a Haar wavelet: they are not dense, and n − 1 dimensions of SO(n).

use super::limits::{ceil_log, check_stages};
use super::{StageLayout, Topology};
use crate::error::Result;

/// A binary tree of 2×2 blocks: n − 1 of them, for every n ≥ 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BinaryTree;

impl Topology for BinaryTree {
    fn name(&self) -> &'static str {
        "binary tree"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        check_stages("binary tree", n, Some(ceil_log(n.max(1), 2)))
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        let half = 1usize << k;
        let seconds = (half..n).step_by(2 * half);
        StageLayout::Table { block: 2, index: seconds.flat_map(|i| [(i - half) as u32, i as u32]).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn every_coordinate_is_joined_once() {
        for n in 1..100 {
            let stages = BinaryTree.num_stages(n).unwrap();
            let mut seconds: Vec<_> = (0..stages)
                .flat_map(|k| {
                    let layout = BinaryTree.stage(n, k);
                    (0..layout.num_blocks()).map(|j| layout.index(j, 1)).collect::<Vec<_>>()
                })
                .collect();
            seconds.sort_unstable();
            assert_eq!(seconds, (1..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn pairs_are_those_of_the_paper() {
        let pairs = |k| match BinaryTree.stage(8, k) {
            StageLayout::Table { index, .. } => index.to_vec(),
            StageLayout::Strided { .. } => Vec::new(),
        };
        assert_eq!([pairs(0), pairs(1), pairs(2)].concat(), [0, 1, 2, 3, 4, 5, 6, 7, 0, 2, 4, 6, 0, 4]);
    }
}
