//! A permutation as a Beneš network; see `transforms/swaps.rs` for two stages.

use alloc::vec::Vec;

use num_traits::{One, Zero};

use crate::error::Result;
use crate::plan::{Plan, Source};
use crate::scalar::Scalar;
use crate::topology::{Benes, Topology};

/// The plan without parameters that sends coordinate i to coordinate `to[i]`: y\[to\[i\]\] = x\[i\], exactly.
///
/// 2⌈log₂ n⌉ − 1 stages of 2×2 blocks that cross or do not; see [`Benes::route`].
///
/// ```
/// use papilio::{Orthogonal, synthesis};
/// let plan = synthesis::permutation::<f32>(&[2, 0, 1])?;
/// let q = Orthogonal::new(plan, [0.0f32; 0])?;
/// assert_eq!(q.apply(&[10.0, 20.0, 30.0])?, [20.0, 30.0, 10.0]);
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// Those of [`Benes::route`].
pub fn permutation<T: Scalar>(to: &[u32]) -> Result<Plan<T>> {
    let (o, i) = (T::Wide::zero(), T::Wide::one());
    let settings = Benes.route(to)?;
    let mut settings = settings.into_iter();
    let stages: Vec<_> = (0..Benes.num_stages(to.len())?)
        .map(|k| {
            let layout = Benes.stage(to.len(), k);
            let crosses = settings.by_ref().take(layout.num_blocks());
            let blocks = crosses.flat_map(|crosses| if crosses { [o, i, i, o] } else { [i, o, o, i] }).collect();
            (layout, Source::Fixed(blocks))
        })
        .collect();
    Plan::from_stages(to.len(), stages)
}
