//! The exponential chart: Q = exp A, A skew (unitary blocks: skew-Hermitian), θ its skew storage.
//!
//! *Domain.* Every rotation is reached (every unitary block), each infinitely often: A and A′ with the same eigenplanes and
//! angles that differ by multiples of 2π. Blocks with determinant −1 are not.
//!
//! *Signs.* A[i][j] = θ for i < j, A[j][i] = −θ, so for b = 2 Q = [[cos θ, sin θ], [−sin θ, cos θ]], which
//! [`Givens`](super::Givens) calls −θ. [`Cayley`](super::Cayley) of the same storage is (I − A)(I + A)⁻¹ = I − 2A + …: it turns
//! the other way and twice as fast, Cayley(tan(θ/2)) = Exponential(−θ) for b = 2, and in general for A of every size with
//! the tangent of a matrix.
//!
//! *Pullback* of the exact exponential. d exp A = dexp_A(dA)·Q = Q·dexp_{−A}(dA), dexp_A(K) = ∫₀¹ e^{tA} K e^{−tA} dt, whose
//! adjoint is dexp_{−A}. So ⟨G, dQ⟩ = ⟨QᴴG, dexp_{−A}(dA)⟩ = ⟨dexp_A(K), dA⟩ with K the skew part of QᴴG. In terms of the
//! eigenvalues iω of A this is the formula of Daleckii and Krein; here no eigenvalues are computed, so clustered and equal
//! ones are as good as others (`dense/exponential/`).
//!
//! *Section.* The principal logarithm, angles in [−π, π] (`dense/logarithm.rs`).
//!
//! *Conditioning.* dexp_A is an average of rotations, so Q never moves by more than ‖dA‖, and a relative change ε of A moves
//! it by at most ε‖A‖: that is the accuracy of angles. The chart is singular only where two eigenvalues of A differ by a
//! multiple of 2π other than zero.

use alloc::{format, vec};

use super::batches::{self, InPacks};
use super::{Charts, Parametrization};
use crate::dense::blocks::load;
use crate::dense::pack::{Number, Pack, Packed};
use crate::dense::register::Memory;
use crate::dense::skew::{fill_skew, pull_skew_packs, read_skew, skew_size};
use crate::dense::{Product, Series, closed_dexp, exponentials, is_closed, log_rotation, product, product_on};
use crate::error::{Error, Result, check_length};
use crate::scalar::{Wide, c64};
use crate::simd::{Lanes, Portable};

#[cfg(test)]
mod tests;

/// The exponential chart of b×b rotations, b ≥ 1: b(b − 1)/2 parameters for real blocks, b² for unitary ones.
///
/// ```
/// use papilio::parametrization::{Exponential, Parametrization};
/// let mut block = [0.0; 4];
/// Exponential.forward(2, &[0.5], &mut block);
/// let mut theta = [0.0];
/// Exponential.inverse(2, &block, &mut theta)?;
/// assert!((theta[0] - 0.5).abs() < 1e-15);
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exponential;

/// How the chart is known by name.
pub(super) fn register<W: Wide>(charts: &mut Charts<W>) {
    charts.register_over::<f64>(Exponential);
    charts.register_over::<c64>(Exponential);
}

macro_rules! chart {
    ($($w:ident),*) => {$(
        impl Parametrization<$w> for Exponential {
            fn name(&self) -> &'static str {
                "Exponential"
            }
            fn num_params(&self, b: usize) -> Result<usize> {
                // b² numbers must be addressable.
                if b >= 1 && b.checked_mul(b).is_some() {
                    return Ok(skew_size::<$w>(b));
                }
                Err(Error::Size { what: "Exponential block", expected: "b ≥ 1".into(), got: format!("b = {b}") })
            }
            fn forward(&self, b: usize, theta: &[f64], block: &mut [$w]) {
                batches::forward::<Self, _>(b, theta, block);
            }
            fn vjp(&self, b: usize, theta: &[f64], block: &[$w], d_block: &[$w], d_theta: &mut [f64]) {
                batches::vjp::<Self, _>(b, theta, block, d_block, d_theta);
            }
            fn jvp(&self, b: usize, theta: &[f64], block: &[$w], d_theta: &[f64], d_block: &mut [$w]) {
                push::<$w>(b, theta, block, d_theta, d_block);
            }
            /// ‖dQ‖_F ≤ ‖dA‖_F ≤ √2·‖dθ‖₂, attained at θ = 0.
            fn lipschitz(&self, _b: usize) -> Option<f64> {
                Some(core::f64::consts::SQRT_2)
            }

            fn inverse(&self, b: usize, block: &[$w], theta: &mut [f64]) -> Result<()> {
                check_length("theta", Parametrization::<$w>::num_params(self, b)?, theta.len())?;
                let mut a = vec![$w::from(0.0); block.len()];
                log_rotation(b, block, &mut a)?;
                read_skew(b, |at| a[at], |at, t| theta[at] = t);
                Ok(())
            }
            fn forward_batch(&self, b: usize, theta: &[f64], blocks: &mut [$w]) {
                batches::forward::<Self, _>(b, theta, blocks);
            }
            fn vjp_batch(&self, b: usize, theta: &[f64], blocks: &[$w], d_blocks: &[$w], d_theta: &mut [f64]) {
                batches::vjp::<Self, _>(b, theta, blocks, d_blocks, d_theta);
            }
        }
    )*};
}
chart!(f64, c64);

impl<W: Packed> InPacks<W> for Exponential {
    /// Whole packs, and what is left of them if most lanes are used. A pack of larger blocks leaves the nearest cache, and their
    /// own rows fill the registers as well.
    fn packed(b: usize, count: usize) -> usize {
        let rest = count % 8;
        match b {
            _ if b > if W::IS_COMPLEX { 63 } else { 15 } => 0,
            _ if rest > 4 => count,
            _ => count - rest,
        }
    }

    #[inline(always)]
    fn forward<T: Pack<W>, S: Lanes<f64>>(s: S, b: usize, theta: &[f64], blocks: &mut [W]) {
        exponentials::<W, T, S>(s, b, theta, blocks);
    }

    #[inline(always)]
    fn vjp<T: Pack<W>, S: Lanes<f64>>(
        s: S,
        b: usize,
        theta: &[f64],
        blocks: &[W],
        d_blocks: &[W],
        d_theta: &mut [f64],
    ) {
        pull::<W, T, S>(s, b, theta, blocks, d_blocks, d_theta);
    }
}

/// Pullbacks of consecutive blocks, `T::COUNT` at a time where there is no closed form.
#[inline(always)]
fn pull<W: Wide, T: Pack<W>, S: Lanes<f64>>(
    s: S,
    b: usize,
    theta: &[f64],
    blocks: &[W],
    d_blocks: &[W],
    d_theta: &mut [f64],
) {
    if is_closed::<W>(b) {
        return pull_closed(b, theta, blocks, d_blocks, d_theta);
    }
    if blocks.is_empty() {
        return;
    }
    let (params, size) = (skew_size::<W>(b), b * b);
    let (mut q, mut g, mut t) = (Memory::zeros(size), Memory::zeros(size), Memory::zeros(size));
    let mut series = Series::<T>::new(b, true);
    let chunks = blocks.chunks(size * T::COUNT).zip(d_blocks.chunks(size * T::COUNT));
    let thetas = theta.chunks(params * T::COUNT).zip(d_theta.chunks_mut(params * T::COUNT));
    for ((blocks, d_blocks), (theta, d_theta)) in chunks.zip(thetas) {
        load(s, size, d_blocks, &mut g);
        load(s, size, blocks, &mut q);
        product_on(s, b, Product { x: &q, adjoint: true, m: &g }, &mut t);
        double_skew_part(b, &t, series.direction());
        series.load(s, params, theta);
        let k = series.dexp(s);
        pull_skew_packs(s, b, k, 0.5, &mut t, d_theta);
    }
}

/// [`pull`] for blocks with a closed form.
fn pull_closed<W: Wide>(b: usize, theta: &[f64], blocks: &[W], d_blocks: &[W], d_theta: &mut [f64]) {
    let (params, size) = (skew_size::<W>(b), b * b);
    if params == 0 {
        return;
    }
    let (mut q, mut t, mut k) = ([W::zero(); 16], [W::zero(); 16], [0.0; 6]);
    let mut d = [0.0; 6];
    let chunks = blocks.chunks_exact(size).zip(d_blocks.chunks_exact(size));
    let thetas = theta.chunks_exact(params).zip(d_theta.chunks_exact_mut(params));
    for ((block, g), (theta, d_theta)) in chunks.zip(thetas) {
        // Too small for the general products.
        for (at, t) in t.iter_mut().enumerate().take(size) {
            *t = (0..b).fold(W::zero(), |sum, k| sum + Number::conj(block[k * b + at / b]) * g[k * b + at % b]);
        }
        double_skew_part(b, &t[..size], &mut q[..size]);
        read_skew(b, |at| q[at], |at, x| k[at] = x);
        closed_dexp::<W>(b, theta, &k[..params], &mut d[..params]);
        d_theta.iter_mut().enumerate().for_each(|(at, x)| *x += weight::<W>(b, at) * d[at]);
    }
}

/// dQ = dexp_A(dA)·Q.
fn push<W: Wide>(b: usize, theta: &[f64], block: &[W], d_theta: &[f64], d_block: &mut [W]) {
    let params = skew_size::<W>(b);
    if is_closed::<W>(b) {
        let (mut d, mut k) = ([0.0; 6], [W::zero(); 16]);
        closed_dexp::<W>(b, theta, d_theta, &mut d[..params]);
        fill_skew(b, &mut k[..b * b], |at, _| d[at]);
        return product(b, &k[..b * b], block, d_block);
    }
    let mut series = Series::<W>::new(b, true);
    fill_skew(b, series.direction(), |at, _| d_theta[at]);
    series.load(Portable, params, theta);
    product(b, series.dexp(Portable), block, d_block);
}

/// `k` ← M − Mᴴ.
#[inline(always)]
fn double_skew_part<T: Number>(b: usize, m: &[T], k: &mut [T]) {
    for i in 0..b {
        for j in i..b {
            k[i * b + j] = m[i * b + j] - m[j * b + i].conj();
            k[j * b + i] = -k[i * b + j].conj();
        }
    }
}

/// What parameter `at` weighs in ½⟨K, dA⟩ for a skew K: entries off the diagonal occur twice.
#[inline(always)]
fn weight<W: Wide>(b: usize, at: usize) -> f64 {
    if W::IS_COMPLEX && at < b { 0.5 } else { 1.0 }
}
