//! Transforms that are known in closed form, as stages of fixed blocks: no parameters, no n×n block, O(n log n).
//!
//! A permutation of coordinates that a fast transform needs comes as at most two stages of swaps (`swaps.rs`). Within a
//! transform it costs nothing, for tables may name any coordinates. Angles are multiples of π/(4n) by integers (`angles.rs`),
//! so blocks are orthogonal to the last digit or two whatever n is, and errors grow like those of log n stages.

use alloc::vec::Vec;

use crate::error::Result;
use crate::layout::StageLayout;
use crate::plan::{Plan, Source};
use crate::scalar::Scalar;

mod angles;
mod dft;
mod kronecker;
mod quarter;
mod radices;
mod real_dft;
mod swaps;
mod wavelet;

pub use dft::dft;
pub use kronecker::{hadamard, kronecker, signs};
pub use quarter::{dct4, dst4};
pub use real_dft::{dct2, dct3, dst2, dst3, hartley, real_dft};
pub use swaps::swaps;
pub use wavelet::{DAUBECHIES_4, DAUBECHIES_6, haar, wavelet};

/// Stages of real blocks, row-major.
type Stages = Vec<(StageLayout, Vec<f64>)>;

/// The plan of these stages, over any scalar.
fn plan<T: Scalar>(n: usize, stages: Stages) -> Result<Plan<T>> {
    let fixed = |blocks: Vec<f64>| Source::Fixed(blocks.into_iter().map(T::Wide::from_real).collect());
    Plan::from_stages(n, stages.into_iter().map(|(layout, blocks)| (layout, fixed(blocks))))
}
