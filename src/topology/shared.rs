//! Butterflies with shared angles: Trogdon's and Peca-Medlin's orthogonal butterflies (BOFT, arXiv 2311.06243, appendix G).
//!
//! OB(N) = [[c·A₁, −s·A₂], [s·A₁, c·A₂]] with c² + s² = 1 and A₁, A₂ of the same kind and half the size. With numbers c, s the
//! butterfly is *scalar*; with A₁ = A₂ it is *simple*.
//!
//! - **simple scalar**: one angle for each stage, N = 2ᵐ, and Q = G(θ_{m−1}) ⊗ ··· ⊗ G(θ₀), a commutative group of m
//!   dimensions. ([`Shared::by_stage`])
//! - **scalar**: one angle for each copy of OB in the recursion, that is for each group of a strided stage: N − 1 in all.
//!   ([`Shared::by_group`])
//!
//! Without sharing, with an angle for each block, the butterfly is *diagonal*: c and s become diagonal matrices.

use alloc::format;
use alloc::string::ToString;

use super::limits::check_stages;
use super::{Sharing, StageLayout, Topology};
use crate::error::{Error, Result};

/// A wiring whose stages, or groups of them, use one block for all places. It replaces what `inner` shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shared<T> {
    /// The wiring.
    pub inner: T,
    /// One block for each group of a strided stage, or one for the whole stage.
    pub by_group: bool,
}

impl<T: Topology> Shared<T> {
    /// One block for each stage: with a classic butterfly, the simple scalar one.
    pub fn by_stage(inner: T) -> Self {
        Self { inner, by_group: false }
    }

    /// One block for each group of a stage: with a classic butterfly, the scalar one. Only for strided stages.
    pub fn by_group(inner: T) -> Self {
        Self { inner, by_group: true }
    }
}

impl<T: Topology> Topology for Shared<T> {
    fn name(&self) -> &'static str {
        "shared blocks"
    }

    fn num_stages(&self, n: usize) -> Result<usize> {
        let stages = self.inner.num_stages(n)?;
        if self.by_group {
            check_stages("blocks shared by groups", n, Some(stages))?; // a table of groups for each
        }
        let strided = |k: usize| matches!(self.inner.stage(n, k), StageLayout::Strided { .. });
        match (0..stages).find(|k| self.by_group && !strided(*k)) {
            None => Ok(stages),
            Some(k) => Err(Error::Size {
                what: "blocks shared by groups",
                expected: "n for which all stages are strided".to_string(),
                got: format!("n = {n}, where stage {k} is a table"),
            }),
        }
    }

    fn stage(&self, n: usize, k: usize) -> StageLayout {
        self.inner.stage(n, k)
    }

    fn sharing(&self, n: usize, k: usize) -> Sharing {
        match self.inner.stage(n, k) {
            StageLayout::Strided { unit, distance, groups, .. } if self.by_group => {
                let each = distance / unit;
                Sharing::Groups((0..groups * each).map(|j| (j / each) as u32).collect())
            }
            _ => Sharing::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Butterfly, RandomPairings};

    #[test]
    fn angles_are_counted() {
        let count = |topology: &dyn Topology, n: usize| -> usize {
            let groups = |k| match topology.sharing(n, k) {
                Sharing::PerBlock => topology.stage(n, k).num_blocks(),
                Sharing::All => 1,
                Sharing::Groups(groups) => *groups.iter().max().unwrap() as usize + 1,
            };
            (0..topology.num_stages(n).unwrap()).map(groups).sum()
        };
        for m in 1..9 {
            let (n, butterfly) = (1 << m, Butterfly::classic(2));
            assert_eq!(count(&Shared::by_stage(butterfly), n), m);
            assert_eq!(count(&Shared::by_group(butterfly), n), n - 1);
            assert_eq!(count(&butterfly, n), n / 2 * m);
        }
    }

    #[test]
    fn tables_of_groups_are_limited() {
        for n in [1 << 31, 1 << 60] {
            assert!(Shared::by_group(Butterfly::classic(2)).num_stages(n).is_err());
        }
        assert_eq!(Shared::by_group(Butterfly::classic(2)).num_stages(1 << 20), Ok(20));
        assert_eq!(Shared::by_stage(Butterfly::classic(2)).num_stages(1 << 31), Ok(31));
    }

    #[test]
    fn tables_have_no_groups() {
        let pairings = RandomPairings { stages: 2, seed: 0 };
        assert!(Shared::by_group(pairings).num_stages(8).unwrap_err().to_string().contains("strided"));
        assert_eq!(Shared::by_stage(pairings).num_stages(8), Ok(2));
        assert_eq!(Shared::by_stage(pairings).sharing(8, 1), Sharing::All);
    }
}
