//! The Cayley chart: Q = (I − A)(I + A)⁻¹ = 2(I + A)⁻¹ − I, A skew, θ its strict upper triangle, row-major.
//!
//! *Domain.* Every finite θ is mapped to a rotation; those with eigenvalue −1 are not reached, and no block with
//! determinant −1. An eigenvalue ±iω of A turns a plane by −2 atan ω. (Cayley 1846; used for OFT and BOFT by Liu et al.,
//! arXiv 2311.06243, §3, with the sign of A exchanged.)
//!
//! *Pullback.* With P = I + Q = 2(I + A)⁻¹, dQ = −2(I + A)⁻¹ dA (I + A)⁻¹ = −½ P dA P. So ⟨G, dQ⟩ = ⟨G_A, dA⟩ with
//! G_A = −½ Pᴴ G Pᴴ: two products, no solve. As A[i][j] = θ, A[j][i] = −θ: dθ_ij += (G_A − G_Aᵀ)_ij.
//!
//! *Section.* A = 2(I + Q)⁻¹ − I.
//!
//! *Conditioning.* ‖P‖ ≤ 2, so Q never moves by more than 2‖dA‖; but for large A the chart flattens, P ~ 1/‖A‖, and
//! its inverse loses what forward squeezed: dA = −½(I + A) dQ (I + A). The gradient keeps its relative accuracy there
//! for even b; for odd b, where P → 2vvᵀ, A v = 0, it is a difference of numbers ‖A‖ times larger, relative error u‖A‖.
//!
//! *Evaluation.* A pack of blocks is inverted without pivoting, which for I + A grows like 1 + ‖A‖² (see
//! `dense/solve.rs`), and one Newton–Schulz step takes the defect out. Where A is large or the defect before that step
//! shows that more than rounding went wrong, the block is evaluated again by
//! [`skew_resolvent`](crate::dense::skew_resolvent), which is accurate for any A (just short of that limit entries of the two
//! ways were seen to differ by 62 eps at b = 16; both are orthogonal). For b = 2 there is a formula:
//! t = θ², Q = [[c, −s], [s, c]] with c = (1 − t)/(1 + t), s = 2θ/(1 + t), and for |θ| > 1 the same in 1/θ.

use alloc::{format, vec, vec::Vec};

use super::Parametrization;
use crate::dense::pack::{Lanes, Pack};
use crate::dense::{
    ORTHOGONAL, invert_unpivoted, newton_schulz, orthogonality_ratio, polish_with, product, skew_resolvent_with, solve,
    subtract_gram, update,
};
use crate::error::{Error, Result, check_length};
use crate::simd::{self, Isa, Job, dispatch};

#[cfg(test)]
mod tests;

/// The Cayley chart of b×b rotations, b ≥ 1, with b(b − 1)/2 parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cayley;

/// Largest mean column sum of |I − QᵀQ|, in units of b·eps, that elimination without pivoting may leave. Standard
/// normal parameters leave at most 2 (b ≥ 8) to 6 (b = 3).
const SMALL_DEFECT: f64 = 8.0;
/// Largest Σθ², in units of b², with which it is tried. Beyond, a defect does not tell: for A → ∞ a wrong inverse that
/// is merely small gives Q = −I, which is orthogonal.
const SMALL_SQUARES: f64 = 8.0;
/// I + Q is taken from Q unless its mean column sum is below this: then the sum has cancelled, and 2(I + A)⁻¹ is
/// computed again.
const CANCELLED: f64 = 0.125;

/// Parameters of a b×b skew matrix.
fn skew_size(b: usize) -> usize {
    b * b.saturating_sub(1) / 2
}

impl Parametrization<f64> for Cayley {
    fn name(&self) -> &'static str {
        "Cayley"
    }

    fn num_params(&self, b: usize) -> Result<usize> {
        // b² numbers must be addressable.
        if b >= 1 && b.checked_mul(b).is_some() {
            return Ok(skew_size(b));
        }
        Err(Error::Size { what: "Cayley block", expected: "b ≥ 1".into(), got: format!("b = {b}") })
    }

    fn forward(&self, b: usize, theta: &[f64], block: &mut [f64]) {
        forward_packs::<f64>(b, theta, block);
    }

    fn vjp(&self, b: usize, theta: &[f64], block: &[f64], d_block: &[f64], d_theta: &mut [f64]) {
        vjp_packs::<f64>(b, theta, block, d_block, d_theta);
    }

    fn forward_batch(&self, b: usize, theta: &[f64], blocks: &mut [f64]) {
        dispatch(Isa::detect(), ForwardBatch { b, theta, blocks });
    }

    fn vjp_batch(&self, b: usize, theta: &[f64], blocks: &[f64], d_blocks: &[f64], d_theta: &mut [f64]) {
        dispatch(Isa::detect(), VjpBatch { b, theta, blocks, d_blocks, d_theta });
    }

    /// dQ = −½ P dA P with ‖P‖₂ ≤ 2, so ‖dQ‖_F ≤ 2‖dA‖_F = 2√2·‖dθ‖₂, attained at θ = 0.
    fn lipschitz(&self, _b: usize) -> Option<f64> {
        Some(2.0 * core::f64::consts::SQRT_2)
    }

    fn inverse(&self, b: usize, block: &[f64], theta: &mut [f64]) -> Result<()> {
        check_length("theta", self.num_params(b)?, theta.len())?;
        let ratio = orthogonality_ratio(b, block)?;
        let outside = |got| Error::Domain {
            what: "inverse of Cayley".into(),
            expected: "a rotation without eigenvalue −1, orthogonality ratio at most 30",
            got,
        };
        if ratio.is_nan() || ratio > ORTHOGONAL {
            return Err(outside(format!("ratio {ratio:e}")));
        }
        if b == 2 {
            theta[0] = half_angle_tangent(0.5 * (block[0] + block[3]), 0.5 * (block[2] - block[1]));
        } else {
            let mut m = block.to_vec();
            let mut a = vec![0.0; b * b];
            for i in 0..b {
                m[i * b + i] += 1.0;
                a[i * b + i] = 2.0;
            }
            solve(b, &mut m, &mut a).map_err(|_| outside("eigenvalue −1".into()))?;
            let upper = (0..b).flat_map(|i| (i + 1..b).map(move |j| (i, j)));
            for (theta, (i, j)) in theta.iter_mut().zip(upper) {
                *theta = 0.5 * (a[i * b + j] - a[j * b + i]);
            }
        }
        // The section's own law decides about eigenvalues close to −1, and about determinants.
        let mut again = vec![0.0; b * b];
        self.forward(b, theta, &mut again);
        let column = |j: usize| (0..b).map(|i| (again[i * b + j] - block[i * b + j]).abs()).sum::<f64>();
        let miss = (0..b).map(column).fold(0.0, f64::max) / (b as f64 * f64::EPSILON);
        if theta.iter().all(|t| t.is_finite()) && miss <= ORTHOGONAL {
            return Ok(());
        }
        Err(outside(format!(
            "determinant −1 or an eigenvalue too close to −1: θ found gives the block to ratio {miss:e}"
        )))
    }
}

/// How many of the blocks in `numbers` entries go in packs, one block per lane: whole packs, and what is left of them if
/// most lanes are used. From b = 64 on a pack leaves the caches, and a block's own rows fill the lanes as well.
fn packed(b: usize, numbers: usize) -> usize {
    let count = numbers / (b * b).max(1);
    let rest = count % Lanes::COUNT;
    match b {
        0..=32 if rest > Lanes::COUNT / 2 || b < 8 => count,
        0..=63 => count - rest,
        _ => 0,
    }
}

/// `forward_batch`, compiled for each instruction set. Nothing is fused, so all give the same bits.
struct ForwardBatch<'a> {
    b: usize,
    theta: &'a [f64],
    blocks: &'a mut [f64],
}

impl Job<f64> for ForwardBatch<'_> {
    #[inline(always)]
    fn run<S: simd::Lanes<f64>>(self, _: S) {
        let packed = packed(self.b, self.blocks.len());
        let (theta, rest) = self.theta.split_at(packed * skew_size(self.b));
        let (blocks, others) = self.blocks.split_at_mut(packed * self.b * self.b);
        forward_packs::<Lanes>(self.b, theta, blocks);
        forward_packs::<f64>(self.b, rest, others);
    }
}

/// `vjp_batch`, likewise.
struct VjpBatch<'a> {
    b: usize,
    theta: &'a [f64],
    blocks: &'a [f64],
    d_blocks: &'a [f64],
    d_theta: &'a mut [f64],
}

impl Job<f64> for VjpBatch<'_> {
    #[inline(always)]
    fn run<S: simd::Lanes<f64>>(self, _: S) {
        let packed = packed(self.b, self.blocks.len());
        let (theta, rest) = self.theta.split_at(packed * skew_size(self.b));
        let (blocks, others) = self.blocks.split_at(packed * self.b * self.b);
        let (d_blocks, d_others) = self.d_blocks.split_at(packed * self.b * self.b);
        let (d_theta, d_rest) = self.d_theta.split_at_mut(packed * skew_size(self.b));
        vjp_packs::<Lanes>(self.b, theta, blocks, d_blocks, d_theta);
        vjp_packs::<f64>(self.b, rest, others, d_others, d_rest);
    }
}

/// Blocks of consecutive θ, `T::COUNT` at a time.
#[inline(always)]
fn forward_packs<T: Pack>(b: usize, theta: &[f64], blocks: &mut [f64]) {
    match b {
        0 => return,
        1 => return blocks.fill(1.0),
        2 => {
            for (theta, block) in theta.iter().zip(blocks.chunks_exact_mut(4)) {
                let (c, s, _) = plane(*theta);
                block.copy_from_slice(&[c, 0.0 - s, s, c]);
            }
            return;
        }
        _ => {}
    }
    let (p, size) = (skew_size(b), b * b);
    let zero = T::from_f64(0.0);
    let (mut q, mut e, mut row) = (vec![zero; size], vec![zero; size], vec![zero; b]);
    let mut safe = Safe::default();
    for (blocks, theta) in blocks.chunks_mut(size * T::COUNT).zip(theta.chunks(p * T::COUNT)) {
        let count = blocks.len() / size;
        let squares = shifted_skew(b, &mut q, |at, l| if l < count { theta[l * p + at] } else { 0.0 });
        invert_unpivoted(b, &mut q, &mut row);
        double_minus_identity(b, &mut q, &mut row);
        let defect = subtract_gram(b, &q, &mut e);
        newton_schulz(b, &mut q, &e, &mut row);
        for (l, (block, theta)) in blocks.chunks_exact_mut(size).zip(theta.chunks_exact(p)).enumerate() {
            let small = SMALL_DEFECT * b as f64 * f64::EPSILON;
            if squares.lane(l) <= SMALL_SQUARES * size as f64 && defect.lane(l) <= small {
                block.iter_mut().zip(&q).for_each(|(x, q)| *x = q.lane(l));
            } else {
                safe.block(b, theta, block);
            }
        }
    }
}

/// Pullbacks of consecutive blocks, `T::COUNT` at a time: `p` holds Pᵀ, `t` PᵀG, and `g` first G and then PᵀGPᵀ.
#[inline(always)]
fn vjp_packs<T: Pack>(b: usize, theta: &[f64], blocks: &[f64], d_blocks: &[f64], d_theta: &mut [f64]) {
    match b {
        0 | 1 => return,
        2 => {
            // Q turns by φ = 2 atan θ, and the pullback is that of Givens times dφ/dθ = 2/(1 + θ²).
            for ((theta, g), d_theta) in theta.iter().zip(d_blocks.chunks_exact(4)).zip(d_theta) {
                let (c, s, speed) = plane(*theta);
                *d_theta += speed * (c * (g[2] - g[1]) - s * (g[0] + g[3]));
            }
            return;
        }
        _ => {}
    }
    let (params, size) = (skew_size(b), b * b);
    let zero = T::from_f64(0.0);
    let (mut p, mut g, mut t) = (vec![zero; size], vec![zero; size], vec![zero; size]);
    let mut safe = Safe::default();
    let chunks = blocks.chunks(size * T::COUNT).zip(d_blocks.chunks(size * T::COUNT));
    let thetas = theta.chunks(params * T::COUNT).zip(d_theta.chunks_mut(params * T::COUNT));
    for ((blocks, d_blocks), (theta, d_theta)) in chunks.zip(thetas) {
        let count = blocks.len() / size;
        let mut sum = zero;
        for at in 0..size {
            let (i, j) = (at / b, at % b);
            g[at] = T::gather(|l| if l < count { d_blocks[l * size + at] } else { 0.0 });
            p[at] = T::gather(|l| if l < count { blocks[l * size + j * b + i] } else { 0.0 });
            if i == j {
                p[at] = p[at] + T::from_f64(1.0);
            }
            sum = sum + p[at].magnitude();
        }
        for (l, theta) in theta.chunks_exact(params).enumerate() {
            if sum.lane(l) < CANCELLED * b as f64 {
                let x = safe.resolvent(b, theta);
                (0..size).for_each(|at| p[at].set_lane(l, 2.0 * x[at % b * b + at / b]));
            }
        }
        product(b, &p, &g, &mut t);
        product(b, &t, &p, &mut g);
        let mut at = 0;
        for i in 0..b {
            for j in i + 1..b {
                let twice = g[i * b + j] - g[j * b + i];
                (0..count).for_each(|l| d_theta[l * params + at] -= 0.5 * twice.lane(l));
                at += 1;
            }
        }
    }
}

/// I + A from its strict upper triangle, θ number `at` of lane `l` being `theta(at, l)`; returns Σθ².
#[inline(always)]
fn shifted_skew<T: Pack>(b: usize, m: &mut [T], theta: impl Fn(usize, usize) -> f64) -> T {
    let mut squares = T::from_f64(0.0);
    let mut at = 0;
    for i in 0..b {
        m[i * b + i] = T::from_f64(1.0);
        for j in i + 1..b {
            let t = T::gather(|l| theta(at, l));
            squares = squares + t * t;
            m[i * b + j] = t;
            m[j * b + i] = T::from_f64(0.0) - t;
            at += 1;
        }
    }
    squares
}

/// Q = 2X − I in place.
#[inline(always)]
fn double_minus_identity<T: Pack>(b: usize, x: &mut [T], row: &mut [T]) {
    for (i, x) in x.chunks_exact_mut(b).enumerate() {
        row.copy_from_slice(x);
        update(x, row, |x, y| x + y);
        x[i] = x[i] - T::from_f64(1.0);
    }
}

/// The path for any A, one block at a time, with scratch that is allocated by the first block that needs it.
#[derive(Default)]
struct Safe {
    x: Vec<f64>,
    row: Vec<f64>,
    scratch: Vec<f64>,
}

impl Safe {
    /// (I + A)⁻¹.
    fn resolvent(&mut self, b: usize, theta: &[f64]) -> &mut [f64] {
        self.x.resize(b * b, 0.0);
        skew_resolvent_with(b, theta, &mut self.x, &mut self.scratch);
        &mut self.x
    }

    /// 2(I + A)⁻¹ − I, polished.
    fn block(&mut self, b: usize, theta: &[f64], block: &mut [f64]) {
        block.copy_from_slice(self.resolvent(b, theta));
        self.row.resize(b, 0.0);
        double_minus_identity(b, block, &mut self.row);
        polish_with(b, block, &mut self.x, &mut self.row);
    }
}

/// b = 2: cosine and sine of φ = 2 atan θ, and dφ/dθ = 2/(1 + θ²). No overflow: beyond 1 in terms of 1/θ.
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

/// b = 2: tan φ/2, from whichever of s/(1 + c) and (1 − c)/s does not cancel; infinite at φ = π.
fn half_angle_tangent(c: f64, s: f64) -> f64 {
    if c >= 0.0 { s / (1.0 + c) } else { (1.0 - c) / s }
}
