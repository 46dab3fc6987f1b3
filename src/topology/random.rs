//! Random wirings. They are frozen: a seed means the same tables for ever, on every platform.
//!
//! How the numbers are drawn, from [`Generator`]: stage k has a generator of its own, seeded with number k (from 0) of the
//! stream of `seed`.
//!
//! - A **shuffle** is `Generator::shuffle` (Fisher–Yates from the end) of 0, 1, …, n − 1. The first ⌊n/b⌋·b indices, in this
//!   order, are the table; the others pass through.
//! - **Pairings** are shuffles with b = 2.
//! - A **random table** of g blocks draws g·b different indices (Fisher–Yates from the start): for i = 0, 1, …, g·b − 1, index i of
//!   0, 1, …, n − 1 is exchanged with index i + `below(n − i)`.
//!
//! Random pairings are dense with high probability after log₂ n + log₂ ln n + O(1) stages.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::limits::{check_size, check_stages};
use super::{StageLayout, Topology};
use crate::error::{Error, Result};
use crate::generator::Generator;

/// In each stage a random order of the coordinates, cut into blocks; n mod `block` coordinates pass through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RandomShuffle {
    /// Block size b, from 1 to n.
    pub block: usize,
    /// Number of stages.
    pub stages: usize,
    /// Which random orders.
    pub seed: u64,
}

/// In each stage a random pairing of the coordinates; for odd n one passes through.
///
/// The same tables as [`RandomShuffle`] with blocks of 2. For n = 1 there are no stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RandomPairings {
    /// Number of stages.
    pub stages: usize,
    /// Which random pairings.
    pub seed: u64,
}

/// In each stage `blocks` blocks of random, different coordinates; all others pass through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RandomTables {
    /// Block size b ≥ 1.
    pub block: usize,
    /// Blocks in a stage; `block · blocks` coordinates are at most n.
    pub blocks: usize,
    /// Number of stages.
    pub stages: usize,
    /// Which random tables.
    pub seed: u64,
}

impl Topology for RandomShuffle {
    fn name(&self) -> &'static str {
        "random shuffle"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        check_size("random shuffle", n)?;
        check_blocks("random shuffle", n, self.block, 1)?;
        check_stages("random shuffle", n, Some(self.stages))
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        let mut index: Vec<u32> = (0..n as u32).collect();
        generator(self.seed, k).shuffle(&mut index);
        index.truncate(n / self.block * self.block);
        StageLayout::Table { block: self.block, index: Arc::from(index) }
    }
}

impl Topology for RandomPairings {
    fn name(&self) -> &'static str {
        "random pairings"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        check_stages("random pairings", n, Some(if n == 1 { 0 } else { self.stages }))
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        RandomShuffle { block: 2, stages: self.stages, seed: self.seed }.stage(n, k)
    }
}

impl Topology for RandomTables {
    fn name(&self) -> &'static str {
        "random tables"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        check_size("random tables", n)?;
        check_blocks("random tables", n, self.block, self.blocks.max(1))?;
        check_stages("random tables", n, Some(self.stages))
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        let mut index: Vec<u32> = (0..n as u32).collect();
        let mut generator = generator(self.seed, k);
        for i in 0..self.block * self.blocks {
            index.swap(i, i + generator.below((n - i) as u64) as usize);
        }
        index.truncate(self.block * self.blocks);
        StageLayout::Table { block: self.block, index: Arc::from(index) }
    }
}

/// The generator of stage `k`.
fn generator(seed: u64, k: usize) -> Generator {
    let mut seeds = Generator::new(seed);
    seeds.skip(k as u64);
    Generator::new(seeds.next_u64())
}

fn check_blocks(what: &'static str, n: usize, block: usize, blocks: usize) -> Result<()> {
    if block >= 1 && block.checked_mul(blocks).is_some_and(|all| all <= n) {
        return Ok(());
    }
    let expected = format!("n of at least {blocks} blocks of {}", block.max(1));
    Err(Error::Size { what, expected, got: format!("n = {n}, blocks of {block}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(topology: &dyn Topology, n: usize, k: usize) -> Vec<u32> {
        match topology.stage(n, k) {
            StageLayout::Table { index, .. } => index.to_vec(),
            StageLayout::Strided { .. } => Vec::new(),
        }
    }

    #[test]
    fn streams_are_frozen() {
        // From an independent program.
        let shuffle = RandomShuffle { block: 3, stages: 2, seed: 7 };
        assert_eq!(table(&shuffle, 11, 0), [5, 0, 9, 3, 10, 1, 2, 8, 4]);
        assert_eq!(table(&shuffle, 11, 1), [1, 10, 4, 0, 3, 9, 2, 6, 8]);
        let pairings = RandomPairings { stages: 9, seed: u64::MAX };
        assert_eq!(table(&pairings, 7, 0), [5, 0, 1, 3, 6, 4]);
        assert_eq!(table(&pairings, 7, 8), [1, 5, 0, 4, 3, 6]);
        let tables = RandomTables { block: 2, blocks: 3, stages: 2, seed: 1 };
        assert_eq!(table(&tables, 9, 0), [3, 8, 2, 7, 5, 1]);
        assert_eq!(table(&tables, 9, 1), [4, 1, 2, 6, 5, 8]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let shuffle = |block| RandomShuffle { block, stages: 2, seed: 0 };
        assert!(shuffle(0).num_stages(8).is_err() && shuffle(9).num_stages(8).is_err());
        assert_eq!(shuffle(8).num_stages(8), Ok(2));
        assert_eq!(shuffle(1).num_stages(1), Ok(2));
        let endless = RandomPairings { stages: usize::MAX, seed: 0 };
        assert_eq!(endless.num_stages(1), Ok(0));
        assert!(endless.num_stages(2).is_err());
        let tables = |block, blocks| RandomTables { block, blocks, stages: 1, seed: 0 };
        assert!(tables(3, 3).num_stages(8).is_err() && tables(usize::MAX, 2).num_stages(8).is_err());
        assert!(tables(0, 2).num_stages(8).is_err());
        assert_eq!(tables(4, 2).num_stages(8), Ok(1));
        assert_eq!(tables(4, 0).num_stages(8), Ok(1));
    }
}
