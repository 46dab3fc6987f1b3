//! The coordinates of a stage: the one thing that wirings, plans and kernels share.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::error::{Error, Result};

/// The coordinates of one stage's blocks. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StageLayout {
    /// Runs of `unit` neighbouring coordinates at a regular `distance`.
    ///
    /// `groups` consecutive groups of `radix · distance` coordinates; inside group g, block q (of `distance / unit`)
    /// holds `radix` runs of `unit` coordinates: coordinate t·unit + s of the block is
    /// g·radix·distance + t·distance + q·unit + s. Blocks are numbered g·(distance / unit) + q.
    Strided {
        /// Neighbouring coordinates in a run.
        unit: usize,
        /// Runs in a block.
        radix: usize,
        /// Distance of the runs; a multiple of `unit`.
        distance: usize,
        /// Number of groups.
        groups: usize,
    },
    /// Block j acts on the coordinates `index[j·block .. (j+1)·block]`, in this order.
    Table {
        /// Block size.
        block: usize,
        /// `block` indices for each block, one block after the other.
        index: Arc<[u32]>,
    },
}

/// Which parameters a block uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Each block has its own.
    #[default]
    PerBlock,
    /// All blocks of the stage are one block (PEFT's `block_share`).
    All,
    /// Block j uses parameter group `groups[j]`; the groups are numbered from 0 without gaps.
    Groups(Arc<[u32]>),
}

impl StageLayout {
    /// Contiguous blocks of size `block`, `count` of them.
    pub fn contiguous(block: usize, count: usize) -> Self {
        StageLayout::Strided { unit: block, radix: 1, distance: block, groups: count }
    }

    /// Size b of the blocks.
    pub fn block_size(&self) -> usize {
        match self {
            StageLayout::Strided { unit, radix, .. } => unit * radix,
            StageLayout::Table { block, .. } => *block,
        }
    }

    /// Number of blocks.
    pub fn num_blocks(&self) -> usize {
        match self {
            StageLayout::Strided { unit, distance, groups, .. } => groups * distance.checked_div(*unit).unwrap_or(0),
            StageLayout::Table { block, index } => index.len().checked_div(*block).unwrap_or(0),
        }
    }

    /// Coordinate `i` of block `j`, for a [valid](Self::validate) layout.
    ///
    /// # Panics
    /// A table panics for a block or coordinate that it lacks.
    #[inline]
    pub fn index(&self, j: usize, i: usize) -> usize {
        match self {
            StageLayout::Strided { unit, radix, distance, .. } => {
                let per_group = distance / unit;
                let (g, q) = (j / per_group, j % per_group);
                let (t, s) = (i / unit, i % unit);
                g * radix * distance + t * distance + q * unit + s
            }
            StageLayout::Table { block, index } => index[j * block + i] as usize,
        }
    }

    /// The coordinates of block `j`, in the block's order; as [`index`](Self::index).
    pub fn indices(&self, j: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.block_size()).map(move |i| self.index(j, i))
    }

    /// For vectors of length `n`, all coordinates, those of the blocks first, block after block, then the others, rising; and
    /// the inverse of this permutation. For a [valid](Self::validate) layout: whoever computes by gathers needs these two.
    ///
    /// ```
    /// use papilio::StageLayout;
    /// let layout = StageLayout::Table { block: 2, index: [3, 1].into() };
    /// assert_eq!(layout.order(4), (vec![3, 1, 0, 2], vec![2, 1, 3, 0]));
    /// ```
    ///
    /// # Panics
    /// If a coordinate is not below `n`.
    pub fn order(&self, n: usize) -> (Vec<usize>, Vec<usize>) {
        let mut order: Vec<usize> = (0..self.num_blocks()).flat_map(|j| self.indices(j)).collect();
        let mut is_named = vec![false; n];
        order.iter().for_each(|i| is_named[*i] = true);
        order.extend((0..n).filter(|i| !is_named[*i]));
        let mut back = vec![0; n];
        order.iter().enumerate().for_each(|(at, i)| back[*i] = at);
        (order, back)
    }

    /// Checks that the blocks name indices below `n` and no index twice, for vectors of length `n`.
    ///
    /// # Errors
    /// [`Error::Size`] for an empty block, a distance that is not a multiple of the unit, a table of ragged length or a
    /// product beyond `usize`; [`Error::Index`] for an index not below `n`; [`Error::Overlap`] for one named twice.
    pub fn validate(&self, n: usize) -> Result<()> {
        let size =
            |expected: &str, got: String| Error::Size { what: "stage layout", expected: expected.to_string(), got };
        match self {
            StageLayout::Strided { unit, radix, distance, groups } => {
                if *unit == 0 || *radix == 0 || *distance == 0 {
                    return Err(size("unit, radix and distance at least 1", format!("{self:?}")));
                }
                if !distance.is_multiple_of(*unit) {
                    return Err(size("a distance that is a multiple of the unit", format!("{self:?}")));
                }
                let block = unit.checked_mul(*radix).filter(|b| *b <= n && b.checked_mul(*b).is_some());
                let covered = radix.checked_mul(*distance).and_then(|g| g.checked_mul(*groups));
                match (block, covered) {
                    (Some(_), Some(covered)) if covered <= n => Ok(()),
                    (Some(_), Some(covered)) => {
                        Err(Error::Index { what: "stage layout", expected: n, got: covered - 1 })
                    }
                    _ => Err(size(&format!("blocks of at most n = {n} coordinates"), format!("{self:?}"))),
                }
            }
            StageLayout::Table { block, index } => {
                if *block == 0 || *block > n || block.checked_mul(*block).is_none() {
                    return Err(size(&format!("blocks of 1 to n = {n} coordinates"), block.to_string()));
                }
                if index.len() % block != 0 {
                    return Err(size(
                        &format!("a table length that is a multiple of {block}"),
                        index.len().to_string(),
                    ));
                }
                if index.len() > n {
                    return Err(size(&format!("a table of at most n = {n} indices"), index.len().to_string()));
                }
                if let Some(&i) = index.iter().find(|i| **i as usize >= n) {
                    return Err(Error::Index { what: "stage table", expected: n, got: i as usize });
                }
                // n may be any number: nothing of its length is made for a short table.
                let twice = if index.len() < n / 64 {
                    let mut sorted = index.to_vec();
                    sorted.sort_unstable();
                    sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
                } else {
                    let mut seen = vec![false; n];
                    index.iter().copied().find(|i| core::mem::replace(&mut seen[*i as usize], true))
                };
                twice.map_or(Ok(()), |i| {
                    let (expected, got) = ("every index at most once", format!("index {i} twice"));
                    Err(Error::Overlap { what: "stage table", expected, got })
                })
            }
        }
    }
}
