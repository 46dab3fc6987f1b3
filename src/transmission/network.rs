//! The network of a product of sparse matrices, and what follows from its links alone.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use num_traits::Zero;

use crate::error::{Error, Result};
use crate::layout::{Sharing, StageLayout};
use crate::plan::{Plan, Source};
use crate::scalar::Scalar;
use crate::topology::Topology;

/// The graph of Q = F_m ··· F_1: m + 1 levels of n nodes, and a link from node j of level k to node i of level k + 1 for
/// every entry (i, j) of F_{k+1} that is not zero by structure.
///
/// A trainable block links all its coordinates with each other, a fixed block those where its entry is not zero; a coordinate
/// that no block of a stage names is linked to itself. Entry (i, j) of Q can be different from zero only if some path leads
/// from j to i, and for generic blocks without shared parameters it is (Liu et al. 2024, arXiv 2311.06243, section 3).
#[derive(Debug, Clone)]
pub struct Network {
    pub(super) n: usize,
    pub(super) levels: Vec<Level>,
}

/// The links of one stage.
#[derive(Debug, Clone)]
pub(super) struct Level {
    pub(super) layout: StageLayout,
    pub(super) links: Links,
}

/// Which entries of a stage's blocks are links.
#[derive(Debug, Clone)]
pub(super) enum Links {
    /// All, of trainable blocks; and whether some of them share parameters.
    Free { shared: bool },
    /// Those of fixed blocks that are not zero: block after block, row-major.
    Fixed(Vec<bool>),
}

impl Network {
    /// The network of a topology for vectors of length `n`, all blocks trainable.
    ///
    /// # Errors
    /// [`Error::Size`] unless 1 ≤ n < 2³², or if `n` does not fit the topology; what [`StageLayout::validate`] finds wrong
    /// with a layout.
    pub fn new(n: usize, topology: &dyn Topology) -> Result<Self> {
        if n == 0 || n > u32::MAX as usize {
            return Err(Error::Size { what: "network", expected: "1 <= n < 2^32".to_string(), got: n.to_string() });
        }
        let level = |(layout, sharing): (StageLayout, Sharing)| {
            let shared = is_shared(&sharing, layout.num_blocks());
            Level { layout, links: Links::Free { shared } }
        };
        Ok(Self { n, levels: crate::topology::layouts(n, topology)?.into_iter().map(level).collect() })
    }

    /// The network of a plan.
    pub fn of<T: Scalar>(plan: &Plan<T>) -> Self {
        let levels = plan.stages().iter().map(|stage| {
            let layout = stage.layout().clone();
            let b = layout.block_size();
            let links = match stage.source() {
                Source::Fixed(blocks) => Links::Fixed(
                    (0..blocks.len())
                        .map(|at| {
                            let (i, k) = (at / b % b, at % b);
                            let at = if stage.is_adjoint() { at - i * b - k + k * b + i } else { at };
                            !blocks[at].is_zero()
                        })
                        .collect(),
                ),
                _ => Links::Free { shared: stage.num_groups() < layout.num_blocks() },
            };
            Level { layout, links }
        });
        Self { n: plan.n(), levels: levels.collect() }
    }

    /// Nodes of a level.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Number of stages; there is one level more.
    pub fn num_stages(&self) -> usize {
        self.levels.len()
    }

    /// The network of the first `stages` stages (of all, if there are fewer).
    pub fn first(&self, stages: usize) -> Self {
        Self { n: self.n, levels: self.levels[..stages.min(self.levels.len())].to_vec() }
    }

    /// The links from level k to level k + 1 as (from, to), block after block, then the coordinates that pass through.
    ///
    /// # Errors
    /// [`Error::Index`] for a stage that the network lacks.
    pub fn links(&self, k: usize) -> Result<Vec<(usize, usize)>> {
        let level = self.levels.get(k).ok_or(Error::Index { what: "stage", expected: self.num_stages(), got: k })?;
        let (layout, b) = (&level.layout, level.layout.block_size());
        let (mut links, mut passes) = (Vec::new(), vec![true; self.n]);
        for j in 0..layout.num_blocks() {
            for i in 0..b {
                let to = layout.index(j, i);
                passes[to] = false;
                let present = (0..b).filter(|&k| level.links.has(b, j, i, k));
                links.extend(present.map(|k| (layout.index(j, k), to)));
            }
        }
        links.extend((0..self.n).filter(|&i| passes[i]).map(|i| (i, i)));
        Ok(links)
    }

    /// Free edges by the accounting of Liu et al. 2024 (section 3): the links of trainable blocks, less one for each
    /// coordinate, because a matrix of full rank needs n links that form a bijection, and with these alone its entries could
    /// only be ±1. A b×b block has b² − b of them. Links that share a parameter count one by one; those of fixed blocks are
    /// not free.
    pub fn free_edges(&self) -> u64 {
        let free = |level: &Level| match level.links {
            Links::Free { .. } => {
                let b = level.layout.block_size() as u64;
                (level.layout.num_blocks() as u64).saturating_mul(b.saturating_mul(b - 1))
            }
            Links::Fixed(_) => 0,
        };
        self.levels.iter().map(free).fold(0, u64::saturating_add)
    }
}

impl Links {
    /// Whether coordinate `k` of block `j` is linked to coordinate `i` of the next level.
    pub(super) fn has(&self, b: usize, j: usize, i: usize, k: usize) -> bool {
        match self {
            Links::Free { .. } => true,
            Links::Fixed(pattern) => pattern[(j * b + i) * b + k],
        }
    }
}

fn is_shared(sharing: &Sharing, blocks: usize) -> bool {
    match sharing {
        Sharing::PerBlock => false,
        Sharing::All => blocks > 1,
        Sharing::Groups(groups) => groups.iter().max().is_some_and(|max| (*max as usize) + 1 < blocks),
    }
}

/// `Err` naming what a computation can take.
pub(super) fn too_large(what: &'static str, expected: &str, got: usize) -> Error {
    Error::Size { what, expected: expected.to_string(), got: format!("n = {got}") }
}
