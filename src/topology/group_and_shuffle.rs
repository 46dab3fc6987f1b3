//! Group and shuffle (GSOFT: Gorbunov et al., NeurIPS 2024, arXiv 2406.10019) of any order m:
//!
//! > Q = P^{1−m} · L_m · P ··· P · L₂ · P · L₁,
//!
//! with block-diagonal L's of r blocks of b, n = b·r, and the perfect shuffle (P x)_i = x_{σ(i)},
//! σ(i) = (i mod b)·r + ⌊i/b⌋ (the paper's P_(b,n)). For m = 2 it is GSOFT's Pᵀ L P R. At the end every coordinate is back at its
//! place, so stage t (from 0) acts on the coordinates σᵗ(b·j), …, σᵗ(b·j + b − 1).
//!
//! **Density.** What is at place c moves to place b·(c mod r) + ⌊c/r⌋: from block g, place g·b + a, to block (g·b + a) mod r. This is
//! the generalised de Bruijn graph (Imase, Itoh 1981): after m − 1 shuffles a coordinate of block g is in the blocks
//! g·bᵐ⁻¹ + {0, …, bᵐ⁻¹ − 1} mod r, hence in all if bᵐ⁻¹ ≥ r. So 1 + ⌈log_b r⌉ stages are dense, and no fewer can be (the paper's
//! Theorem 2). This needs no power: any r does.

use alloc::format;
use alloc::string::ToString;

use super::limits::{ceil_log, check_size, check_stages};
use super::mixed_radix::check_block;
use super::{StageLayout, Topology};
use crate::error::{Error, Result};

/// Group and shuffle with blocks of b, for every multiple n of b.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupAndShuffle {
    /// Block size b ≥ 2.
    pub block: usize,
    /// Number of stages; `None` for as many as make the product dense, 1 + ⌈log_b(n/b)⌉.
    pub stages: Option<usize>,
}

impl GroupAndShuffle {
    /// As many stages of blocks of `block` as make the product dense.
    pub fn new(block: usize) -> Self {
        Self { block, stages: None }
    }

    /// The same with `stages` stages: 2 for GSOFT.
    pub fn with_stages(self, stages: usize) -> Self {
        Self { stages: Some(stages), ..self }
    }
}

impl Topology for GroupAndShuffle {
    fn name(&self) -> &'static str {
        "group and shuffle"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        const WHAT: &str = "group and shuffle";
        check_size(WHAT, n)?;
        check_block(WHAT, self.block)?;
        if !n.is_multiple_of(self.block) {
            let near = [n / self.block * self.block, (n / self.block + 1).saturating_mul(self.block)];
            let near = if near[0] == 0 { near[1].to_string() } else { format!("{} or {}", near[0], near[1]) };
            let expected = format!("n to be a multiple of the block size {}, as {near}", self.block);
            return Err(Error::Size { what: WHAT, expected, got: format!("n = {n}") });
        }
        check_stages(WHAT, n, Some(self.stages.unwrap_or_else(|| ceil_log(n, self.block))))
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        let r = (n / self.block) as u64;
        match k {
            0 => StageLayout::contiguous(self.block, n / self.block),
            1 => StageLayout::Strided { unit: 1, radix: self.block, distance: n / self.block, groups: 1 },
            _ => {
                // σ(i) = i·r mod (n − 1) below n − 1, so σᵏ multiplies by rᵏ.
                let last = n as u64 - 1;
                let factor = (0..k).fold(1 % last.max(1), |power, _| power * r % last.max(1));
                let sigma = |i: u64| if i == last { last } else { i * factor % last };
                let index = (0..n as u64).map(|i| sigma(i) as u32).collect();
                StageLayout::Table { block: self.block, index }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn stages_are_powers_of_the_shuffle() {
        for (b, r) in [(2, 1), (2, 2), (3, 5), (4, 4), (5, 3), (2, 37), (8, 30)] {
            let n = b * r;
            let gs = GroupAndShuffle::new(b).with_stages(7);
            let mut sigma: Vec<usize> = (0..n).collect();
            for k in 0..7 {
                let layout = gs.stage(n, k);
                let found: Vec<_> = (0..r).flat_map(|j| layout.indices(j).collect::<Vec<_>>()).collect();
                assert_eq!(found, sigma, "b = {b}, r = {r}, stage {k}");
                sigma = sigma.iter().map(|i| (i % b) * r + i / b).collect();
            }
        }
    }

    #[test]
    fn depth_is_the_papers() {
        // Theorem 2: r blocks of b need 1 + ⌈log_b r⌉ factors. Its example: d = 1024, b = 32: two, where BOFT needs six.
        assert_eq!(GroupAndShuffle::new(32).num_stages(1024), Ok(2));
        for (b, r) in [(2, 1), (2, 3), (3, 9), (3, 10), (8, 100)] {
            assert_eq!(GroupAndShuffle::new(b).num_stages(b * r), Ok(1 + ceil_log(r, b)));
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        let message = GroupAndShuffle::new(8).num_stages(30).unwrap_err().to_string();
        assert!(message.contains("multiple of the block size 8, as 24 or 32"), "{message}");
        assert!(GroupAndShuffle::new(8).num_stages(3).unwrap_err().to_string().contains("as 8,"));
        assert!(GroupAndShuffle::new(1).num_stages(3).is_err());
        assert!(GroupAndShuffle::new(usize::MAX).num_stages(3).is_err());
        assert!(GroupAndShuffle::new(2).with_stages(usize::MAX).num_stages(4).is_err());
    }
}
