//! Any permutation in at most two stages: it is a product of two that are their own inverses.
//!
//! On a cycle c₀ → c₁ → ··· → c_{l−1} → c₀ the permutation is i ↦ i + 1 (mod l), which is the reflection i ↦ −i and after it
//! the reflection i ↦ 1 − i. Each of them swaps disjoint pairs. So all cycles together take two stages of blocks
//! [[0, 1], [1, 0]] where a Beneš network takes 2⌈log₂ n⌉ − 1, and one stage if no cycle is longer than two. But the pairs
//! lie anywhere: a Beneš network of 2ᵏ coordinates is strided, and its settings are what can be learnt.

use alloc::vec;
use alloc::vec::Vec;

use super::{Stages, plan};
use crate::error::Result;
use crate::layout::StageLayout;
use crate::plan::Plan;
use crate::scalar::Scalar;
use crate::topology::check_permutation;

/// The plan without parameters that sends coordinate i to coordinate `to[i]`, y\[to\[i\]\] = x\[i\], exactly, in at most two
/// stages of swaps: none for the identity, one for a permutation that is its own inverse.
///
/// [`permutation`](crate::synthesis::permutation) makes the same as a Beneš network.
///
/// ```
/// use papilio::{Orthogonal, synthesis};
/// let q = Orthogonal::new(synthesis::swaps::<f32>(&[1, 2, 3, 4, 0])?, [0.0f32; 0])?;
/// assert_eq!(q.plan().num_stages(), 2);
/// assert_eq!(q.apply(&[1.0, 2.0, 3.0, 4.0, 5.0])?, [5.0, 1.0, 2.0, 3.0, 4.0]);
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// Those of [`Benes::route`](crate::topology::Benes::route).
pub fn swaps<T: Scalar>(to: &[u32]) -> Result<Plan<T>> {
    check_permutation(to)?;
    plan(to.len(), stages(to))
}

/// The stages of a permutation: those that swap anything.
pub(super) fn stages(to: &[u32]) -> Stages {
    let mut seen = vec![false; to.len()];
    let (mut first, mut second, mut cycle) = (Vec::new(), Vec::new(), Vec::new());
    for start in 0..to.len() {
        let mut at = start;
        while !seen[at] {
            seen[at] = true;
            cycle.push(at as u32);
            at = to[at] as usize;
        }
        let l = cycle.len();
        for i in 0..l {
            for (swapped, with) in [(&mut first, (l - i) % l), (&mut second, (l + 1 - i) % l)] {
                if i < with {
                    swapped.extend([cycle[i], cycle[with]]);
                }
            }
        }
        cycle.clear();
    }
    let swapping = [first, second].into_iter().filter(|pairs| !pairs.is_empty());
    let stage = |pairs: Vec<u32>| {
        let blocks = [0.0, 1.0, 1.0, 0.0].repeat(pairs.len() / 2);
        (StageLayout::Table { block: 2, index: pairs.into() }, blocks)
    };
    swapping.map(stage).collect()
}
