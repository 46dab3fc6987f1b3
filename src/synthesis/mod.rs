//! Constructions: plans, and their parameters, for matrices that are known.
//!
//! **A matrix that is given**, as parameters of a wiring. Exact up to rounding, O(n³), without search: each is an elimination.
//!
//! | function | matrix | plan |
//! |---|---|---|
//! | [`triangle`] | any rotation | Reck's mesh, n(n − 1)/2 angles |
//! | [`brick`] | any rotation | Clements' mesh, n(n − 1)/2 angles |
//! | [`reflector_pairs`] | any rotation | n − 1 pairs B·Bᵀ of a wiring (BOFT's Theorem 1) |
//! | [`any_determinant`] | any orthogonal | one of these, and a sign before it for determinant −1 |
//! | [`householder`] | any orthogonal | n Householder reflections |
//! | [`unitary_triangle`], [`unitary_brick`] | any unitary | the meshes with U(2) blocks and a diagonal of phases: n² parameters |
//! | [`unitary_householder`] | any unitary | a diagonal of phases and n − 1 Householder reflections |
//!
//! **A transform that is known**, as stages of fixed blocks, without parameters: O(n log n) numbers and operations, and no
//! dense block. All are orthonormal, y = Q x, and their inverses are [`Plan::adjoint`](crate::Plan::adjoint).
//!
//! | function | matrix | n | stages |
//! |---|---|---|---|
//! | [`hadamard`] | Sylvester's ±n^{−½}, Paley's times it | m·2ᵏ, m = 1, 12, 20, 28, 36, 44, 60 | k of pairs, one of m |
//! | [`dft`] | n^{−½} e^{−2πijk/n}, complex | without primes above 31 | k of blocks of 4 for 4ᵏ, 1 of swaps |
//! | [`real_dft`] | cosines and sines of 2πjk/n | as the DFT | k − 1 of blocks of 8 and one of 4 for 4ᵏ, 1 of swaps |
//! | [`hartley`] | cosine + sine of 2πjk/n | as the DFT | as the real DFT |
//! | [`dct2`], [`dct3`], [`dst2`], [`dst3`] | cosines, sines of π(2j + 1)k/(2n) | as the DFT | as the real DFT, 2 of swaps |
//! | [`dct4`], [`dst4`] | of π(2j + 1)(2k + 1)/(4n) | the same, even | k of blocks of 8 for 2·4ᵏ, 1 of swaps |
//! | [`haar`], [`wavelet`] | Haar's, any orthonormal filter's | 2ᵏ, j·2ᵏ for k levels | one of pairs for each 2 taps and level, 2 of swaps |
//! | [`kronecker`] | A₁ ⊗ A₂ ⊗ ··· | product of the sizes | one for each factor |
//! | [`signs`] | diagonal of ±1 | any | one |
//! | [`permutation`] | any permutation | any | a Beneš network, 2⌈log₂ n⌉ − 1 of pairs |
//! | [`swaps`] | any permutation | any | at most 2 of pairs anywhere |

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use num_traits::Float;

use crate::dense::{ORTHOGONAL, orthogonality_ratio};
use crate::error::{Error, Result, check_length};
use crate::scalar::Wide;

mod determinant;
mod householder;
mod meshes;
mod permutation;
mod reflectors;
mod transforms;
mod unitary;

pub use determinant::any_determinant;
pub use householder::{householder, unitary_householder};
pub use meshes::{brick, triangle};
pub use permutation::permutation;
pub use reflectors::reflector_pairs;
pub(crate) use reflectors::{reflect, reflector};
pub use transforms::{DAUBECHIES_4, DAUBECHIES_6, dct2, dct3, dct4, dft, dst2, dst3, dst4, haar, hadamard, hartley};
pub use transforms::{kronecker, real_dft, signs, swaps, wavelet};
pub use unitary::{unitary_brick, unitary_triangle};

/// A copy of a row-major n×n matrix that is orthogonal to a ratio of 30, for 1 ≤ n < 2³².
fn orthogonal(n: usize, q: &[f64]) -> Result<Vec<f64>> {
    checked(n, q, ROTATION)
}

const ROTATION: &str = "a rotation: orthogonality ratio at most 30, determinant 1";

/// The same for the entries of either field; `expected` is what errors say.
fn checked<W: Wide>(n: usize, q: &[W], expected: &'static str) -> Result<Vec<W>> {
    if n == 0 || u32::try_from(n).is_err() {
        let expected = "1 <= n < 2^32".to_string();
        return Err(Error::Size { what: "matrix", expected, got: format!("n = {n}") });
    }
    check_length("matrix", n.saturating_mul(n), q.len())?;
    let ratio = orthogonality_ratio(n, q)?;
    if ratio <= ORTHOGONAL {
        return Ok(q.to_vec());
    }
    Err(Error::Domain { what: "matrix".to_string(), expected, got: format!("ratio {ratio:e}") })
}

/// `Err` for a determinant of −1.
fn check_determinant(determinant: f64) -> Result<()> {
    if determinant > 0.0 {
        return Ok(());
    }
    Err(Error::Domain { what: "matrix".to_string(), expected: ROTATION, got: "determinant -1".to_string() })
}

/// The angle φ for which G(φ)ᵀ takes (x, y) to (0, r) or, if `first`, to (r, 0), with r ≥ 0, where
/// G(φ) = [[cos φ, −sin φ], [sin φ, cos φ]].
fn eliminating(x: f64, y: f64, first: bool) -> f64 {
    match (x == 0.0 && y == 0.0, first) {
        (true, _) => 0.0,
        (_, true) => Float::atan2(y, x),
        (_, false) => Float::atan2(0.0 - x, y),
    }
}
