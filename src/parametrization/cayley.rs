//! The Cayley chart: Q = (I − A)(I + A)⁻¹ = 2(I + A)⁻¹ − I, A skew, θ its strict upper triangle, row-major.
//!
//! Over complex numbers A is skew-Hermitian and Q unitary. θ holds b imaginary diagonal entries of A first, then (re, im) of
//! the strict upper triangle, row-major; b = 1 is a phase (1 − iθ)/(1 + iθ). All that follows holds for both.
//!
//! *Domain.* Every finite θ is mapped to a rotation (a unitary block); those with eigenvalue −1 are not reached, and no
//! real block with determinant −1. An eigenvalue ±iω of A turns a plane by −2 atan ω. (Cayley 1846; used for OFT and BOFT by Liu et al.,
//! arXiv 2311.06243, §3, with the sign of A exchanged.)
//!
//! *Pullback.* With P = I + Q = 2(I + A)⁻¹, dQ = −2(I + A)⁻¹ dA (I + A)⁻¹ = −½ P dA P. So ⟨G, dQ⟩ = ⟨G_A, dA⟩ with
//! G_A = −½ Pᴴ G Pᴴ: two products, no solve. As A[i][j] = θ, A[j][i] = −θ: dθ_ij += (G_A − G_Aᴴ)_ij (`dense/skew.rs`).
//!
//! *Section.* A = 2(I + Q)⁻¹ − I.
//!
//! *Conditioning.* ‖P‖ ≤ 2, so Q never moves by more than 2‖dA‖; but for large A the chart flattens, P ~ 1/‖A‖, and
//! its inverse loses what forward squeezed: dA = −½(I + A) dQ (I + A). The gradient keeps its relative accuracy there
//! for even b; for odd b, where P → 2vvᵀ, A v = 0, it is a difference of numbers ‖A‖ times larger, relative error u‖A‖.
//!
//! *Evaluation.* A pack of blocks is inverted without pivoting, which for I + A grows like 1 + ‖A‖² (see
//! `dense/invert.rs`), and one Newton–Schulz step takes the defect out. Where A is large or the defect before that step
//! shows that more than rounding went wrong, the block is evaluated again by
//! [`skew_resolvent`](crate::dense::skew_resolvent), which is accurate for any A (just short of that limit entries of the two
//! ways were seen to differ by 62 eps at b = 16; both are orthogonal). SO(3) and SO(4) have a formula in quaternions
//! (`cayley/quaternions.rs`). For one plane (b = 2, or b = 1 if complex) there is one, too: t = θ², Q = [[c, −s], [s, c]] or
//! c − is with c = (1 − t)/(1 + t), s = 2θ/(1 + t), and for |θ| > 1 the same in 1/θ.

use alloc::{format, vec};

use super::batches::{self, InPacks};
use super::{Charts, Parametrization, miss};
use crate::dense::pack::{Lanes, Pack, Packed};
use crate::dense::skew::{skew_part, skew_size};
use crate::dense::{ORTHOGONAL, orthogonality_ratio, solve};
use crate::error::{Error, Result, check_length};
use crate::scalar::{Wide, c64};
use crate::simd;

#[cfg(test)]
mod complex_tests;
mod packs;
mod quaternions;
#[cfg(test)]
mod tests;
use packs::{forward_packs, pushforward, vjp_packs};

/// The Cayley chart of b×b rotations with b(b − 1)/2 parameters, or of unitary b×b blocks with b²; b ≥ 1.
///
/// ```
/// use papilio::{Plan, c64, parametrization::Cayley, topology::Butterfly};
/// let real = Plan::<f64>::new(64, &Butterfly::boft(2, 8)?, Cayley)?;
/// let unitary = Plan::<c64>::new(64, &Butterfly::boft(2, 8)?, Cayley)?;
/// assert_eq!((real.num_params(), unitary.num_params()), (2 * 8 * 28, 2 * 8 * 64));
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cayley;

/// How the chart is known by name.
pub(super) fn register<W: Wide>(charts: &mut Charts<W>) {
    charts.register_over::<f64>(Cayley);
    charts.register_over::<c64>(Cayley);
}

/// What blocks over the two fields do differently: the block that is one plane, a rotation by φ.
trait Field: Packed {
    /// Size of that block, which has one parameter.
    const PLANE: usize;
    /// The block at the angle with this cosine and sine.
    fn turned(c: f64, s: f64, block: &mut [Self]);
    /// ⟨G, dQ/dφ⟩.
    fn torque(c: f64, s: f64, g: &[Self]) -> f64;
    /// Cosine and sine of a block.
    fn cosine_and_sine(block: &[Self]) -> (f64, f64);
}

impl Field for f64 {
    const PLANE: usize = 2;
    #[inline(always)]
    fn turned(c: f64, s: f64, block: &mut [Self]) {
        block.copy_from_slice(&[c, 0.0 - s, s, c]);
    }
    #[inline(always)]
    fn torque(c: f64, s: f64, g: &[Self]) -> f64 {
        c * (g[2] - g[1]) - s * (g[0] + g[3])
    }
    fn cosine_and_sine(block: &[Self]) -> (f64, f64) {
        (0.5 * (block[0] + block[3]), 0.5 * (block[2] - block[1]))
    }
}

/// A positive θ turns by a negative phase, e^(−iφ).
impl Field for c64 {
    const PLANE: usize = 1;
    #[inline(always)]
    fn turned(c: f64, s: f64, block: &mut [Self]) {
        block[0] = c64 { re: c, im: 0.0 - s };
    }
    #[inline(always)]
    fn torque(c: f64, s: f64, g: &[Self]) -> f64 {
        0.0 - s * g[0].re - c * g[0].im
    }
    fn cosine_and_sine(block: &[Self]) -> (f64, f64) {
        (block[0].re, -block[0].im)
    }
}

macro_rules! over {
    ($field:ident) => {
        impl Parametrization<$field> for Cayley {
            fn name(&self) -> &'static str {
                "Cayley"
            }

            fn num_params(&self, b: usize) -> Result<usize> {
                // b² numbers must be addressable.
                if b >= 1 && b.checked_mul(b).is_some() {
                    return Ok(skew_size::<$field>(b));
                }
                Err(Error::Size { what: "Cayley block", expected: "b ≥ 1".into(), got: format!("b = {b}") })
            }

            fn forward(&self, b: usize, theta: &[f64], block: &mut [$field]) {
                batches::forward::<Self, _>(b, theta, block);
            }

            fn vjp(&self, b: usize, theta: &[f64], block: &[$field], d_block: &[$field], d_theta: &mut [f64]) {
                batches::vjp::<Self, _>(b, theta, block, d_block, d_theta);
            }

            fn jvp(&self, b: usize, theta: &[f64], block: &[$field], d_theta: &[f64], d_block: &mut [$field]) {
                pushforward(b, theta, block, d_theta, d_block);
            }

            fn forward_batch(&self, b: usize, theta: &[f64], blocks: &mut [$field]) {
                batches::forward::<Self, _>(b, theta, blocks);
            }

            fn vjp_batch(&self, b: usize, theta: &[f64], blocks: &[$field], d_blocks: &[$field], d_theta: &mut [f64]) {
                batches::vjp::<Self, _>(b, theta, blocks, d_blocks, d_theta);
            }

            /// dQ = −½ P dA P with ‖P‖₂ ≤ 2, so ‖dQ‖_F ≤ 2‖dA‖_F ≤ 2√2·‖dθ‖₂, attained at θ = 0.
            fn lipschitz(&self, _b: usize) -> Option<f64> {
                Some(2.0 * core::f64::consts::SQRT_2)
            }

            fn inverse(&self, b: usize, block: &[$field], theta: &mut [f64]) -> Result<()> {
                check_length("theta", Parametrization::<$field>::num_params(self, b)?, theta.len())?;
                inverse(b, block, theta)
            }
        }
    };
}
over!(f64);
over!(c64);

/// A = 2(I + Q)⁻¹ − I, and whether it leads back to Q.
fn inverse<W: Field>(b: usize, block: &[W], theta: &mut [f64]) -> Result<()> {
    let ratio = orthogonality_ratio(b, block)?;
    let outside = |got| Error::Domain {
        what: "inverse of Cayley".into(),
        expected: if W::IS_COMPLEX {
            "a unitary block without eigenvalue −1, orthogonality ratio at most 30"
        } else {
            "a rotation without eigenvalue −1, orthogonality ratio at most 30"
        },
        got,
    };
    if ratio.is_nan() || ratio > ORTHOGONAL {
        return Err(outside(format!("ratio {ratio:e}")));
    }
    if b == W::PLANE {
        let (c, s) = W::cosine_and_sine(block);
        theta[0] = half_angle_tangent(c, s);
    } else {
        let mut m = block.to_vec();
        let mut a = vec![W::zero(); b * b];
        for i in 0..b {
            m[i * b + i] += W::one();
            a[i * b + i] = W::from_real(2.0);
        }
        solve(b, &mut m, &mut a).map_err(|_| outside("eigenvalue −1".into()))?;
        skew_part(b, &a, theta);
    }
    // The section's own law decides about eigenvalues close to −1, and about determinants.
    let mut again = vec![W::zero(); b * b];
    batches::forward::<Cayley, W>(b, theta, &mut again);
    let miss = miss(b, &again, block);
    if theta.iter().all(|t| t.is_finite()) && miss <= ORTHOGONAL {
        return Ok(());
    }
    Err(outside(format!("determinant −1 or an eigenvalue too close to −1: θ found gives the block to ratio {miss:e}")))
}

impl<W: Field> InPacks<W> for Cayley {
    /// Whole packs, and what is left of them if most lanes are used. A pack of larger blocks leaves the nearest cache, and their
    /// own rows fill the registers as well.
    fn packed(b: usize, count: usize) -> usize {
        let rest = count % Lanes::COUNT;
        match b {
            _ if b > if W::IS_COMPLEX { 32 } else { 23 } => 0,
            _ if rest > Lanes::COUNT / 2 || (b < 8 && rest > 1) => count,
            _ => count - rest,
        }
    }
    /// Where a row fills a register, two products take less time than the ways to packs and back.
    fn packed_vjp(b: usize, count: usize, lanes: usize) -> usize {
        if !W::IS_COMPLEX && b == 8 && lanes == b { 0 } else { <Self as InPacks<W>>::packed(b, count) }
    }

    #[inline(always)]
    fn forward<T: Pack<W>, S: simd::Lanes<f64>>(s: S, b: usize, theta: &[f64], blocks: &mut [W]) {
        forward_packs::<W, T, S>(s, b, theta, blocks);
    }

    #[inline(always)]
    fn vjp<T: Pack<W>, S: simd::Lanes<f64>>(
        s: S,
        b: usize,
        theta: &[f64],
        blocks: &[W],
        d_blocks: &[W],
        d_theta: &mut [f64],
    ) {
        if const { !W::IS_COMPLEX && T::COUNT == 1 } && b == 8 {
            return vjp_packs::<W, T, S, 8>(s, b, theta, blocks, d_blocks, d_theta);
        }
        vjp_packs::<W, T, S, 0>(s, b, theta, blocks, d_blocks, d_theta);
    }
}

/// One plane: cosine and sine of φ = 2 atan θ, and dφ/dθ = 2/(1 + θ²). No overflow: beyond 1 in terms of 1/θ.
#[inline(always)]
fn plane(theta: f64) -> (f64, f64, f64) {
    let large = theta.abs() > 1.0;
    let x = if large { 1.0 / theta } else { theta };
    let t = x * x;
    let half = 1.0 / (1.0 + t);
    let (c, s) = ((1.0 - t) * half, 2.0 * x * half);
    // The Newton–Schulz step of this block.
    let polish = 1.0 + 0.5 * ((1.0 - c * c) - s * s);
    let (c, slope) = if large { (-c, 2.0 * half * t) } else { (c, 2.0 * half) };
    (c * polish, s * polish, slope)
}

/// tan φ/2, from whichever of s/(1 + c) and (1 − c)/s does not cancel; infinite at φ = π.
fn half_angle_tangent(c: f64, s: f64) -> f64 {
    if c >= 0.0 { s / (1.0 + c) } else { (1.0 - c) / s }
}
