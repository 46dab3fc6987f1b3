//! One stage of contiguous blocks: the rotation of OFT (Qiu et al. 2023, arXiv 2306.07280).

use alloc::format;
use alloc::string::ToString;

use super::{StageLayout, Topology};
use crate::error::{Error, Result};

/// R = diag(Q₁, …, Q_{n/b}): one stage of `n / block` contiguous blocks.
///
/// It needs `block` to divide `n`. With `block = n` it is a dense orthogonal matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockDiagonal {
    /// Block size b ≥ 1.
    pub block: usize,
}

impl BlockDiagonal {
    /// Blocks of size `block`.
    pub fn new(block: usize) -> Self {
        Self { block }
    }
}

impl Topology for BlockDiagonal {
    fn name(&self) -> &'static str {
        "block-diagonal"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        if self.block >= 1 && n >= 1 && n.is_multiple_of(self.block) {
            return Ok(1);
        }
        Err(Error::Size {
            what: "block-diagonal topology",
            expected: if self.block == 0 {
                "a block size of at least 1".to_string()
            } else {
                format!("n to be a multiple of the block size {}", self.block)
            },
            got: if self.block == 0 { "0".to_string() } else { format!("n = {n}") },
        })
    }

    fn stage(&self, n: usize, _k: usize) -> StageLayout {
        StageLayout::contiguous(self.block, n / self.block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_every_coordinate_in_order() {
        let layout = BlockDiagonal::new(3).stage(12, 0);
        layout.validate(12).unwrap();
        assert_eq!((layout.num_blocks(), layout.block_size()), (4, 3));
        let all: alloc::vec::Vec<_> = (0..4).flat_map(|j| layout.indices(j).collect::<alloc::vec::Vec<_>>()).collect();
        assert_eq!(all, (0..12).collect::<alloc::vec::Vec<_>>());
    }

    #[test]
    fn layouts_are_valid_beyond_what_plans_take() {
        let n = 1 << 33;
        assert_eq!(BlockDiagonal::new(8).num_stages(n).unwrap(), 1);
        BlockDiagonal::new(8).stage(n, 0).validate(n).unwrap();
    }

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        assert!(BlockDiagonal::new(4).num_stages(10).unwrap_err().to_string().contains("multiple of the block size 4"));
        assert!(BlockDiagonal::new(0).num_stages(10).is_err());
        assert!(BlockDiagonal::new(4).num_stages(0).is_err());
    }
}
