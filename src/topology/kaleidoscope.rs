//! B·B′ᵀ: a wiring there and back, the unit of kaleidoscope products (Dao et al., ICLR 2020, arXiv 2012.14966).
//!
//! The reversed stages act first, then the stages in order: m − 1, …, 1, 0, 0, 1, …, m − 1. A butterfly B can rotate any
//! vector to a multiple of e₀ and back, so B·D·Bᵀ with D = diag(−1, 1, …) is any Householder reflection; from this
//! follows that n − 1 such pairs give all of SO(n) (BOFT, arXiv 2311.06243, Theorem 1).
//!
//! The two stages in the middle have the same layout, so their product is one stage: a free choice of both has redundant
//! parameters. `merged` keeps one of them; the result is the wiring of a Beneš network, of 2m − 1 stages.

use super::limits::check_stages;
use super::{Sharing, StageLayout, Topology};
use crate::error::Result;

/// B·B′ᵀ for a wiring B: its stages reversed, then its stages in order. The blocks of both have parameters of their own.
///
/// For B′ᵀ·B take `Kaleidoscope` of [`Reversed`](super::Reversed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kaleidoscope<T> {
    /// The wiring of B.
    pub inner: T,
    /// Whether the two equal stages in the middle are one.
    pub merged: bool,
}

impl<T: Topology> Kaleidoscope<T> {
    /// B·B′ᵀ with all 2m stages.
    pub fn new(inner: T) -> Self {
        Self { inner, merged: false }
    }

    /// B·B′ᵀ with the two middle stages merged: 2m − 1 stages.
    pub fn merged(inner: T) -> Self {
        Self { inner, merged: true }
    }

    fn inner_stage(&self, n: usize, k: usize) -> usize {
        let stages = self.inner.num_stages(n).unwrap_or(0);
        if k < stages { stages - 1 - k } else { k - stages + usize::from(self.merged) }
    }
}

impl<T: Topology> Topology for Kaleidoscope<T> {
    fn name(&self) -> &'static str {
        "kaleidoscope"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        let stages = self.inner.num_stages(n)?;
        let merged = usize::from(self.merged && stages > 0);
        check_stages("kaleidoscope topology", n, stages.checked_mul(2).map(|stages| stages - merged))
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        self.inner.stage(n, self.inner_stage(n, k))
    }

    fn sharing(&self, n: usize, k: usize) -> Sharing {
        self.inner.sharing(n, self.inner_stage(n, k))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Butterfly;
    use alloc::vec::Vec;

    fn distances(pair: Kaleidoscope<Butterfly>, n: usize) -> Vec<usize> {
        let distance = |k| match pair.stage(n, k) {
            StageLayout::Strided { distance, .. } => distance,
            StageLayout::Table { .. } => 0,
        };
        (0..pair.num_stages(n).unwrap()).map(distance).collect()
    }

    #[test]
    fn strides_decrease_and_increase() {
        let b = Butterfly::classic(2);
        assert_eq!(distances(Kaleidoscope::new(b), 8), [4, 2, 1, 1, 2, 4]);
        assert_eq!(distances(Kaleidoscope::merged(b), 8), [4, 2, 1, 2, 4]);
        assert_eq!(distances(Kaleidoscope::merged(b), 2), [1]);
        assert!(distances(Kaleidoscope::merged(b), 1).is_empty());
        assert!(Kaleidoscope::new(b).num_stages(9).is_err());
    }
}
