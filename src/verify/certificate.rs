//! A rigorous bound of ‖QᴴQ − I‖₂ in O(n·b²·m), without forming Q, and an a priori bound of the rounding of one apply.
//!
//! # The defect
//! Q = F_m ··· F_1 is the *exact* product of the stored blocks. Stage k is, up to a permutation, the direct sum of its
//! blocks B_j and of an identity for coordinates that it does not name. Let the eigenvalues of B_jᴴB_j − I, which are
//! also those of B_jB_jᴴ − I, lie in [lo_j, hi_j], and let D be a diagonal matrix, D ⪰ 0. Then for the part D_j of D on the
//! block's coordinates
//!
//! min(D_j)·(1 + lo_j)·I ⪯ B_jᴴ D_j B_j ⪯ max(D_j)·(1 + hi_j)·I,
//!
//! so an interval for every coordinate, starting at 1 and taken through the stages from the last to the first, holds
//! QᴴQ = F_1ᴴ(···(F_mᴴ F_m)···)F_1 between two diagonal matrices. Multiplying along the wires, not over whole stages, keeps
//! blocks that never meet apart. From first to last the same argument holds QQᴴ, which has the same eigenvalues because Q is
//! square; the better of the two is reported, so a plan and its adjoint get the same certificate.
//!
//! *Composition over stages.* With δ_k = max_j max(|lo_j|, |hi_j|) the result is never more than Π(1 + δ_k) − 1: the upper
//! ends are at most Π(1 + δ_k), the lower ones at least Π max(0, 1 − δ_k), and for δ_k ≤ 1 (else the right side is ≥ 1 and
//! trivial) 1 − Π(1 − δ_k) ≤ Σδ_k ≤ Π(1 + δ_k) − 1, both by induction. Hence for every singular value σ of Q
//!
//! |σ² − 1| ≤ max(Π(1 + δ_k) − 1, 1 − Π(1 − δ_k)) = Π(1 + δ_k) − 1.
//!
//! The block intervals come from `gram.rs` (Gram matrix in at least twice the working precision, with a bound of its own
//! error) and `spectrum.rs` (bound of the spectrum); everything is rounded outward (`outward.rs`). The certificate is
//! therefore a theorem about the stored numbers, not an estimate.
//!
//! # Complex blocks
//! A complex b×b block B is the real 2b×2b matrix ρ(B) = [[Re B, −Im B], [Im B, Re B]], acting on (Re x, Im x). The map keeps
//! sums, products and adjoints, ρ(Bᴴ) = ρ(B)ᵀ, and lengths of vectors, so it keeps norms; ρ(B) has the singular values of B,
//! each twice, and the eigenvalues of ρ(B)ᵀρ(B) − I are those of BᴴB − I, each twice. A diagonal D with one real weight for
//! each complex coordinate becomes D ⊕ D. Everything above therefore holds for ρ(B) as it stands, and the entries of ρ(B)
//! are stored numbers, so nothing is rounded on the way. The kernels compute Re and Im of an output as chains of 2b
//! multiply-adds of real numbers: inner products of length 2b with the rows of ρ(B), so the rounding below holds with
//! γ_{2b} and |ρ(B)|.
//!
//! *Tightness.* Errors of many stages average out and the bound does not: on the same few coordinates it exceeds the truth by
//! a factor that grows like √m (8 at m = 1000, 33 at m = 10 000). Butterflies, where m ≤ log₂ n, stay within 3.
//!
//! Stages of reflectors need none of this: the product of the reflections in the stored vectors is unitary, whatever these
//! are. Their interval is [0, 0].
//!
//! # The rounding of apply
//! An inner product of length b, in any order, with or without fused multiply-add, has |fl(Bx) − Bx| ≤ γ_b·|B||x|
//! (Higham, Accuracy and Stability, 2nd ed., (3.5)); so a stage computes F_k x̂ to within ρ_k‖x̂‖, where
//! ρ_k = γ_b·max_j ‖|B_j|‖₂, and γ_b = b·u/(1 − b·u) with the u of the working precision. With φ_k ≥ ‖F_k‖₂ the computed
//! vectors grow like ‖x̂_k‖ ≤ (φ_k + ρ_k)‖x̂_{k−1}‖ and the errors like e_k ≤ φ_k·e_{k−1} + ρ_k·‖x̂_{k−1}‖, hence
//!
//! ‖fl(Qx) − Qx‖₂ ≤ (Π(φ_k + ρ_k) − Π φ_k)·‖x‖₂.
//!
//! Stages of reflectors compute in another way; `reflected.rs` bounds their ρ_k, and φ_k = 1.
//!
//! It holds for every [`Op`](crate::Op) (|Bᴴ| has the norm of |B|) while nothing under- or overflows and vectors are stored
//! in the working precision. It is linear in the number of stages and knows
//! nothing of errors that average out: random vectors see about 1/(2b·√m) of it.

use alloc::vec;
use alloc::vec::Vec;

use super::gram::Gram;
use super::outward::{down, frobenius_up, gamma, inflate, max, min, row_sum_up, sqrt_up, up};
use super::reflected::rounding;
use super::sample::parts;
use super::spectrum::{Interval, Spectrum};
use crate::error::Result;
use crate::plan::{Factors, Plan, Stage};
use crate::scalar::{Real, Scalar};

/// What [`certificate`] proves.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Certificate {
    /// ‖QᴴQ − I‖₂ is at most this, for the exact product of the stored blocks. Infinite if a block holds a NaN or an
    /// infinity, or numbers beyond about 1e150.
    pub defect: f64,
    /// ‖fl(Qx) − Qx‖₂ is at most this times ‖x‖₂, for one apply in the working precision.
    pub apply_error: f64,
    /// For each stage, a bound of ‖F_kᴴF_k − I‖₂.
    pub per_stage: Vec<f64>,
}

/// Bounds how far the product of the stored blocks is from orthogonal, and the rounding error of one apply.
///
/// Costs O(n·b²·m) and one block of memory more than the factors; forms nothing of size n×n.
///
/// ```
/// use papilio::{Plan, topology::Butterfly, parametrization::Givens, verify::certificate};
/// let plan = Plan::<f32>::new(1024, &Butterfly::classic(2), Givens)?;
/// let factors = plan.realize(&vec![0.3; plan.num_params()])?;
/// let proof = certificate(&plan, &factors)?;
/// assert!(proof.defect <= 10.0 * f64::from(f32::EPSILON)); // ten stages, each within eps
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Size`](crate::Error::Size) if `factors` belong to another plan.
pub fn certificate<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>) -> Result<Certificate> {
    let u = T::Real::EPS.to_wide() / 2.0;
    let stages: Vec<StageBounds> = plan
        .stages()
        .iter()
        .enumerate()
        .map(|(k, stage)| StageBounds::new(plan, factors, k, stage, u))
        .collect::<Result<_>>()?;
    let per_stage = stages.iter().map(|s| s.groups.iter().fold(0.0, |d, i| max(d, i.magnitude()))).collect();
    let pairs = || plan.stages().iter().zip(&stages);
    let defect = min(along_wires(plan.n(), pairs().rev()), along_wires(plan.n(), pairs()));
    Ok(Certificate { defect, apply_error: apply_error(&stages), per_stage })
}

/// What is known of the blocks of one stage.
struct StageBounds {
    /// Spectrum of BᴴB − I for each stored block.
    groups: Vec<Interval>,
    /// γ_b·‖|B|‖₂ of the worst block, γ_2b·‖|ρ(B)|‖₂ of a complex one.
    rounding: f64,
    /// ‖F_k‖₂ or more.
    norm: f64,
}

impl StageBounds {
    fn new<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>, k: usize, stage: &Stage<T>, u: f64) -> Result<Self> {
        let b = stage.layout().block_size();
        if let Some(count) = stage.vectors() {
            let groups = vec![Interval::ZERO; stage.num_groups()];
            return Ok(Self { groups, rounding: rounding::<T>(b, count), norm: 1.0 });
        }
        let single = !T::IS_WIDE;
        let real = b * parts::<T>(); // size of the block over the real numbers
        let size = stage.matrix_len();
        // Blocks may be large: what is stored as it is certified needs no copy.
        let is_plain = T::IS_WIDE && !T::IS_COMPLEX;
        let mut stored = vec![T::zero(); if is_plain { 0 } else { size }];
        let mut block = vec![0.0; size * parts::<T>().pow(2)];
        let (mut gram, mut spectrum) = (Gram::default(), Spectrum::default());
        let (mut groups, mut absolute, mut highest) = (Vec::with_capacity(stage.num_groups()), 0.0, 0.0);
        for g in 0..stage.num_groups() {
            if is_plain {
                plan.block(factors, k, g, bytemuck::cast_slice_mut(&mut block))?;
            } else {
                plan.block(factors, k, g, &mut stored)?;
                embed(b, &stored, &mut block);
            }
            let error = gram.defect(real, &block, single);
            let found = spectrum.of_gram(real, &mut gram, error);
            // BᴴB ⪰ 0, and NaN means nothing is known.
            let interval = match found.magnitude().is_finite() {
                true => Interval { lo: max(found.lo, -1.0), hi: found.hi },
                false => Interval { lo: -1.0, hi: f64::INFINITY },
            };
            absolute = max(absolute, absolute_norm(real, &block));
            highest = max(highest, interval.hi);
            groups.push(interval);
        }
        Ok(Self { groups, rounding: up(gamma(real, u) * absolute), norm: sqrt_up(up(1.0 + highest)) })
    }
}

/// The block over the real numbers: itself, or ρ(B) of the head of the file.
fn embed<T: Scalar>(b: usize, block: &[T], real: &mut [f64]) {
    let width = b * parts::<T>();
    for (i, row) in block.chunks_exact(b).enumerate() {
        for (k, x) in row.iter().enumerate() {
            let (re, im) = (x.to_wide().re(), x.to_wide().im());
            real[i * width + k] = re;
            if T::IS_COMPLEX {
                real[i * width + b + k] = -im;
                real[(b + i) * width + k] = im;
                real[(b + i) * width + b + k] = re;
            }
        }
    }
}

/// ‖|B|‖₂ or more: the smaller of ‖B‖_F and √(‖B‖₁·‖B‖_∞).
fn absolute_norm(b: usize, block: &[f64]) -> f64 {
    let column = |j: usize| block[j..].iter().step_by(b).map(|x| num_traits::Float::abs(*x)).sum();
    let columns = inflate((0..b).map(column).fold(0.0, max), b);
    min(frobenius_up(block), sqrt_up(up(columns * row_sum_up(block, b))))
}

/// Largest |d| over the intervals that the coordinates hold after the stages, in this order; see the head of the file.
fn along_wires<'a, T: Scalar>(n: usize, stages: impl Iterator<Item = (&'a Stage<T>, &'a StageBounds)>) -> f64 {
    let mut wires = vec![Interval::ZERO; n];
    for (stage, bounds) in stages {
        let layout = stage.layout();
        for j in 0..layout.num_blocks() {
            let meeting = layout.indices(j).map(|i| wires[i]);
            let hull = meeting.fold(Interval { lo: f64::INFINITY, hi: f64::NEG_INFINITY }, |a, w| Interval {
                lo: min(a.lo, w.lo),
                hi: max(a.hi, w.hi),
            });
            let block = bounds.groups[stage.group_of(j)];
            let joined = match block == Interval::ZERO {
                true => hull,
                false => Interval { lo: compose(hull.lo, block.lo, down), hi: compose(hull.hi, block.hi, up) },
            };
            for i in layout.indices(j) {
                wires[i] = joined;
            }
        }
    }
    let worst = wires.iter().fold(0.0, |d, w| max(d, w.magnitude()));
    if worst.is_nan() { f64::INFINITY } else { worst }
}

/// (1 + x)(1 + y) − 1 = x + y·(1 + x) for x, y ≥ −1, every operation rounded by `outward`, and not below −1.
fn compose(x: f64, y: f64, outward: fn(f64) -> f64) -> f64 {
    // y·(1 + x) falls with 1 + x where y < 0, so that factor is rounded towards the result's direction by sign.
    let factor = 1.0 + x;
    let factor = if (y < 0.0) == (outward(0.0) < 0.0) { up(factor) } else { down(factor) };
    max(outward(x + outward(y * factor)), -1.0)
}

/// Π(φ_k + ρ_k) − Π φ_k by the recurrence at the head of the file, which does not cancel.
fn apply_error(stages: &[StageBounds]) -> f64 {
    let (mut error, mut size) = (0.0, 1.0);
    for s in stages {
        error = up(up(s.norm * error) + up(s.rounding * size));
        size = up(up(s.norm + s.rounding) * size);
    }
    if f64::is_nan(error) { f64::INFINITY } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composition_encloses_the_exact_product() {
        use crate::dense::DoubleDouble;
        let exact = |x: f64, y: f64| {
            DoubleDouble::from(x) + DoubleDouble::from(y) + DoubleDouble::from(x) * y // error below 2^-100 relative
        };
        for x in [-1.0, -0.3, -1e-17, 0.0, 3e-16, 0.7, 40.0] {
            for y in [-1.0, -0.9, -2e-16, 0.0, 5e-17, 0.1, 3.0] {
                let (lo, hi) = (compose(x, y, down), compose(x, y, up));
                let below = (exact(x, y) - DoubleDouble::from(lo)).to_f64();
                let above = (DoubleDouble::from(hi) - exact(x, y)).to_f64();
                assert!(below >= 0.0 && above >= 0.0, "{x} {y}: {lo:e} {hi:e}");
                let size = x.abs() + y.abs() + (x * y).abs();
                assert!(hi - lo <= 8.0 * f64::EPSILON * size + 1e-300, "{x} {y}: {lo:e} {hi:e}");
            }
        }
    }

    #[test]
    fn infinite_or_unknown_blocks_stay_infinite() {
        assert_eq!(compose(0.0, f64::INFINITY, up), f64::INFINITY);
        assert_eq!(compose(f64::INFINITY, 1e-9, up), f64::INFINITY);
        let unknown = StageBounds { groups: vec![], rounding: f64::NAN, norm: f64::INFINITY };
        assert_eq!(apply_error(&[unknown]), f64::INFINITY);
    }

    #[test]
    fn the_embedding_keeps_products_and_adjoints() {
        use crate::scalar::c64;
        let (n, z) = (2, |re: i32, im: i32| c64 { re: re.into(), im: im.into() });
        let (x, y) = ([z(1, 2), z(-3, 1), z(0, -1), z(2, 5)], [z(2, 0), z(1, -1), z(4, 3), z(0, 7)]);
        let real = |block: &[c64]| {
            let mut real = vec![f64::NAN; 16];
            embed(n, block, &mut real);
            real
        };
        let product = |m: usize, at: usize| (0..n).fold(z(0, 0), |s, k| s + x[m * n + k] * y[k * n + at]);
        let (rx, ry) = (real(&x), real(&y));
        let of: Vec<f64> = (0..16).map(|at| (0..4).map(|k| rx[at / 4 * 4 + k] * ry[k * 4 + at % 4]).sum()).collect();
        assert_eq!(real(&[product(0, 0), product(0, 1), product(1, 0), product(1, 1)]), of);
        let adjoint = [x[0].conj(), x[2].conj(), x[1].conj(), x[3].conj()];
        assert_eq!(real(&adjoint), (0..16).map(|at| rx[at % 4 * 4 + at / 4]).collect::<Vec<_>>());
    }

    #[test]
    fn absolute_norm_bounds_the_norm_of_absolute_values() {
        // |H| of the 4×4 Hadamard matrix / 2 is the all-halves matrix, of norm 2; of the identity it is 1.
        let h: Vec<f64> =
            (0..16u32).map(|i| if ((i / 4) & (i % 4)).count_ones() % 2 == 0 { 0.5 } else { -0.5 }).collect();
        assert!((2.0..2.0 + 1e-14).contains(&absolute_norm(4, &h)));
        assert!((1.0..1.0 + 1e-14).contains(&absolute_norm(2, &[1.0, 0.0, 0.0, 1.0])));
        assert!(absolute_norm(2, &[1.0, f64::NAN, 0.0, 1.0]).is_nan());
    }
}
