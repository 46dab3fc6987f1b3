//! Generalised BOFT (Liu et al., ICLR 2024, arXiv 2311.06243, section 5):
//!
//! > R_G(m₁, b₁, m₂, b₂, l) = R_{l,1}(m₁, b₁)·R_{l,2}(m₂, b₂)ᵀ ··· R_{1,1}(m₁, b₁)·R_{1,2}(m₂, b₂)ᵀ
//!
//! where every R(m, b) is a matrix of BOFT(m, b): m stages of b×b blocks. So R_{1,2}ᵀ acts first: its stages in reverse
//! order, longest stride first. With (log₂ n, 2, log₂ n, 2, n − 1) the product is all of SO(n), up to closure for charts that
//! leave out single rotations (Theorem 1 of the paper; as a construction: [`reflector_pairs`](crate::synthesis::reflector_pairs)).

use super::limits::check_stages;
use super::{Butterfly, StageLayout, Topology};
use crate::error::Result;

/// R_G(m₁, b₁, m₂, b₂, l): l pairs BOFT(m₁, b₁)·BOFT(m₂, b₂)ᵀ.
///
/// It needs n to be a multiple of b·2ᵐ⁻¹ for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GeneralizedBoft {
    left: Butterfly,
    right: Butterfly,
    pairs: usize,
}

impl GeneralizedBoft {
    /// R_G(m₁, b₁, m₂, b₂, l).
    ///
    /// # Errors
    /// [`Error::Size`](crate::Error::Size) if a block size is odd or zero.
    pub fn new(m1: usize, b1: usize, m2: usize, b2: usize, l: usize) -> Result<Self> {
        Ok(Self { left: Butterfly::boft(m1, b1)?, right: Butterfly::boft(m2, b2)?, pairs: l })
    }
}

impl Topology for GeneralizedBoft {
    fn name(&self) -> &'static str {
        "generalized BOFT"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        let pair = self.left.num_stages(n)? + self.right.num_stages(n)?;
        check_stages("generalized BOFT", n, pair.checked_mul(self.pairs))
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        let (m1, m2) = (self.left.stages.unwrap_or(0), self.right.stages.unwrap_or(0));
        let k = k % (m1 + m2).max(1);
        if k < m2 { self.right.stage(n, m2 - 1 - k) } else { self.left.stage(n, k - m2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transposed_butterfly_acts_first() {
        let rg = GeneralizedBoft::new(2, 8, 3, 4, 2).unwrap();
        let (left, right) = (Butterfly::boft(2, 8).unwrap(), Butterfly::boft(3, 4).unwrap());
        assert_eq!(rg.num_stages(32), Ok(10));
        for pair in 0..2 {
            for k in 0..3 {
                assert_eq!(rg.stage(32, 5 * pair + k), right.stage(32, 2 - k));
            }
            for k in 0..2 {
                assert_eq!(rg.stage(32, 5 * pair + 3 + k), left.stage(32, k));
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        assert!(GeneralizedBoft::new(1, 3, 1, 2, 1).is_err());
        let rg = GeneralizedBoft::new(2, 8, 1, 6, 1).unwrap();
        assert!(rg.num_stages(48).is_ok());
        assert!(rg.num_stages(32).is_err());
        assert!(GeneralizedBoft::new(1, 2, 1, 2, usize::MAX).unwrap().num_stages(8).is_err());
        assert_eq!(GeneralizedBoft::new(0, 2, 0, 2, 9).unwrap().num_stages(8), Ok(0));
    }
}
