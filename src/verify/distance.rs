//! How far apart two products are, bounded rigorously from their blocks, without forming either.
//!
//! For Q = F_m ··· F_1 and Q' = F'_m ··· F'_1 with the same layouts,
//!
//! Q − Q' = Σ_k F'_m ··· F'_{k+1} (F_k − F'_k) F_{k−1} ··· F_1,
//!
//! so in either norm ‖Q − Q'‖ ≤ Σ_k (Π_{l>k} φ'_l)·‖F_k − F'_k‖·(Π_{l<k} φ_l), where φ_l ≥ ‖F_l‖₂ and φ'_l ≥ ‖F'_l‖₂ come from
//! the [`certificate`](super::certificate()) and are 1 up to rounding. A stage is, up to a permutation, the direct sum of its
//! blocks: ‖F_k − F'_k‖_F² = Σ_j ‖B_j − B'_j‖_F², ‖F_k − F'_k‖₂ = max_j ‖B_j − B'_j‖₂. The latter is √λ_max(ΔᵀΔ), its
//! spectrum enclosed as in `spectrum.rs` (over by at most b^{1/32} and rounding, `Spectrum::largest`); everything is rounded outward. A complex Δ
//! is taken for the real [[Re, −Im], [Im, Re]], which has each singular value of Δ twice.
//!
//! *Tightness.* The sum is attained when the stages move Q in parallel. Stages that move it in orthogonal directions, as
//! those of a butterfly do near the identity, add like √m, so there the bound is up to √m too large.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use num_traits::{Float, One, Zero};

use super::certificate::{Certificate, certificate};
use super::outward::{U, frobenius_up, gamma, inflate, min, power_of_two_below, row_sum_up, sqrt_up, up};
use super::reflected::difference;
use super::spectrum::Spectrum;
use crate::error::{Error, Result, check_length};
use crate::layout::StageLayout;
use crate::plan::{Factors, Plan, Stage};
use crate::scalar::Scalar;

/// Blocks beyond this size are bounded by ‖Δ‖₂² ≤ ‖Δ‖₁·‖Δ‖_∞, which costs b² instead of b³.
const LARGE: usize = 256;

/// What [`distance`] proves.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Distance {
    /// ‖Q − Q'‖_F is at most this.
    pub frobenius: f64,
    /// ‖Q − Q'‖₂ is at most this.
    pub spectral: f64,
}

/// Bounds the distance of two products of the same layouts, for the exact products of their stored blocks.
///
/// The plans may differ in everything else: charts, sharing, fixed blocks, adjoint stages. Costs O(n·b²·m).
///
/// ```
/// use papilio::{Plan, parametrization::Givens, topology::Butterfly, verify::distance};
/// let plan = Plan::<f64>::new(64, &Butterfly::classic(2), Givens)?;
/// let (a, b) = (plan.realize(&vec![0.3; plan.num_params()])?, plan.realize(&vec![0.3001; plan.num_params()])?);
/// let bound = distance((&plan, &a), (&plan, &b))?;
/// assert!(bound.spectral < 6.0001e-4); // six stages, each turned by 1e-4
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Unsupported`] for [reflectors](crate::Source::Reflectors) in a stage of one plan only,
/// [`Error::Length`] for another n or number of stages, [`Error::Size`] for other layouts or factors that do not belong to
/// their plan; what [`certificate`] refuses.
pub fn distance<T: Scalar>(
    (plan, factors): (&Plan<T>, &Factors<T>),
    (other, others): (&Plan<T>, &Factors<T>),
) -> Result<Distance> {
    check_length("n of the other plan", plan.n(), other.n())?;
    check_length("stages of the other plan", plan.num_stages(), other.num_stages())?;
    for (k, (stage, with)) in plan.stages().iter().zip(other.stages()).enumerate() {
        if stage.layout() != with.layout() {
            let expected = format!("the same layout as in the first plan, {:?}", stage.layout());
            let got = format!("{:?} in stage {k}", with.layout());
            return Err(Error::Size { what: "layout of the other plan", expected, got });
        }
    }
    let norms = |plan, factors| -> Result<Vec<f64>> {
        let proof = certificate(plan, factors)?;
        Ok(proof.per_stage.iter().map(|defect| sqrt_up(up(1.0 + defect))).collect())
    };
    let (before, after) = (norms(plan, factors)?, norms(other, others)?);
    let mut differences = Vec::with_capacity(plan.num_stages());
    for k in 0..plan.num_stages() {
        differences.push(stage_difference((plan, factors), (other, others), k)?);
    }
    // Horner's way: the sum over the first k stages is multiplied by φ'_{k+1} when stage k + 1 joins it.
    let mut sum = Distance { frobenius: 0.0, spectral: 0.0 };
    let (mut first, mut second) = (1.0, 1.0);
    for ((step, phi), phi_after) in differences.iter().zip(before).zip(after) {
        let add = |sum: f64, step: f64| up(up(phi_after * sum) + up(step * first));
        sum = Distance { frobenius: add(sum.frobenius, step.frobenius), spectral: add(sum.spectral, step.spectral) };
        (first, second) = (up(first * phi), up(second * phi_after));
    }
    let spectral = min(min(sum.spectral, sum.frobenius), up(first + second));
    let frobenius = min(sum.frobenius, up(sqrt_up(plan.n() as f64) * spectral));
    let known = |x: f64| if x.is_nan() { f64::INFINITY } else { x };
    Ok(Distance { frobenius: known(frobenius), spectral: known(spectral) })
}

/// Bounds ‖Q − I‖ likewise, with the [`certificate`](super::certificate()) of Q at hand: Σ_k ‖F_k − I‖·Π_{l<k} φ_l. Stages of
/// reflectors count as 2, for each of them is as far from I as can be. Costs O(n·b²·m), O(n·b·m) for blocks beyond 256.
///
/// ```
/// use papilio::{Plan, parametrization::Cayley, topology::Butterfly, verify};
/// let plan = Plan::<f64>::new(64, &Butterfly::boft(3, 4)?, Cayley)?;
/// let factors = plan.realize(&vec![1e-3; plan.num_params()])?;
/// let proof = verify::certificate(&plan, &factors)?;
/// assert!(verify::distance_from_identity(&plan, &factors, &proof)?.spectral < 0.02);
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Size`] if `factors` belong to another plan.
pub fn distance_from_identity<T: Scalar>(
    plan: &Plan<T>,
    factors: &Factors<T>,
    proof: &Certificate,
) -> Result<Distance> {
    let (mut sum, mut first) = (Distance { frobenius: 0.0, spectral: 0.0 }, 1.0);
    for (k, stage) in plan.stages().iter().enumerate() {
        let b = stage.layout().block_size();
        let step = if stage.vectors().is_some() {
            // A reflection is as far from I as can be.
            Distance { frobenius: up(2.0 * sqrt_up(plan.n() as f64)), spectral: 2.0 }
        } else {
            let (mut block, mut norms) = (vec![T::zero(); b * b], Norms::new(if T::IS_COMPLEX { 2 * b } else { b }));
            over_blocks(
                stage.layout(),
                |j| stage.group_of(j),
                |group| {
                    plan.block(factors, k, group, &mut block)?;
                    norms.load(b, |i, l| {
                        let unit = if i == l { T::Wide::one() } else { T::Wide::zero() };
                        acting(stage, &block, i * b + l, l * b + i) - unit
                    });
                    Ok(norms.of::<T>())
                },
            )?
        };
        let add = |sum: f64, step: f64| up(sum + up(step * first));
        sum = Distance { frobenius: add(sum.frobenius, step.frobenius), spectral: add(sum.spectral, step.spectral) };
        first = up(first * sqrt_up(up(1.0 + proof.per_stage.get(k).copied().unwrap_or(f64::INFINITY))));
    }
    let spectral = min(min(sum.spectral, sum.frobenius), up(1.0 + sqrt_up(up(1.0 + proof.defect))));
    let frobenius = min(sum.frobenius, up(sqrt_up(plan.n() as f64) * spectral));
    let known = |x: f64| if x.is_nan() { f64::INFINITY } else { x };
    Ok(Distance { frobenius: known(frobenius), spectral: known(spectral) })
}

/// The norms of a direct sum of blocks, of which neighbours that are `same` are computed once.
fn over_blocks<G: PartialEq + Copy>(
    layout: &StageLayout,
    same: impl Fn(usize) -> G,
    mut norms: impl FnMut(G) -> Result<Distance>,
) -> Result<Distance> {
    let (mut squares, mut largest, mut last) = (0.0, 0.0, None);
    for j in 0..layout.num_blocks() {
        let group = same(j);
        let found = match last {
            Some((known, found)) if known == group => found,
            _ => norms(group)?,
        };
        last = Some((group, found));
        squares = up(squares + up(found.frobenius * found.frobenius));
        largest = super::outward::max(largest, found.spectral);
    }
    Ok(Distance { frobenius: sqrt_up(squares), spectral: largest })
}

/// ‖F_k − F'_k‖_F and ‖F_k − F'_k‖₂, from above.
fn stage_difference<T: Scalar>(
    (plan, factors): (&Plan<T>, &Factors<T>),
    (other, others): (&Plan<T>, &Factors<T>),
    k: usize,
) -> Result<Distance> {
    let (stage, with) = (&plan.stages()[k], &other.stages()[k]);
    let b = stage.layout().block_size();
    if stage.num_groups() == 0 {
        return Ok(Distance { frobenius: 0.0, spectral: 0.0 });
    }
    if stage.vectors().is_some() || with.vectors().is_some() {
        return reflected_difference((stage, factors), (with, others), k);
    }
    let (mut one, mut two) = (vec![T::zero(); b * b], vec![T::zero(); b * b]);
    let mut norms = Norms::new(if T::IS_COMPLEX { 2 * b } else { b });
    over_blocks(
        stage.layout(),
        |j| (stage.group_of(j), with.group_of(j)),
        |(group, other_group)| {
            plan.block(factors, k, group, &mut one)?;
            other.block(others, k, other_group, &mut two)?;
            norms.load(b, |i, l| acting(stage, &one, i * b + l, l * b + i) - acting(with, &two, i * b + l, l * b + i));
            Ok(norms.of::<T>())
        },
    )
}

/// [`stage_difference`] of products of reflectors, which have no stored blocks.
fn reflected_difference<T: Scalar>(
    (stage, factors): (&Stage<T>, &Factors<T>),
    (other, others): (&Stage<T>, &Factors<T>),
    k: usize,
) -> Result<Distance> {
    if stage.vectors().is_some() != other.vectors().is_some() {
        return Err(Error::Unsupported {
            what: "distance of stages",
            expected: "reflectors in both plans, or in none",
            got: format!("reflectors in stage {k} of one"),
        });
    }
    let most = up(2.0 * sqrt_up(stage.layout().block_size() as f64));
    let (mut squares, mut largest) = (0.0, 0.0);
    for j in 0..stage.layout().num_blocks() {
        let (sum, spectral) = difference((stage, factors), (other, others), j);
        let frobenius = min(most, up(up(core::f64::consts::SQRT_2) * sum));
        squares = up(squares + up(frobenius * frobenius));
        largest = super::outward::max(largest, spectral);
    }
    Ok(Distance { frobenius: sqrt_up(squares), spectral: largest })
}

/// An entry of the block as it acts: of the block itself, or of its adjoint.
fn acting<T: Scalar>(stage: &Stage<T>, block: &[T], at: usize, transposed: usize) -> T::Wide {
    if stage.is_adjoint() { block[transposed].conj().to_wide() } else { block[at].to_wide() }
}

/// Norms of one real matrix.
struct Norms {
    size: usize,
    delta: Vec<f64>,
    gram: Vec<f64>,
    spectrum: Spectrum,
}

impl Norms {
    fn new(size: usize) -> Self {
        Self { size, delta: vec![0.0; size * size], gram: vec![0.0; size * size], spectrum: Spectrum::default() }
    }

    /// Takes a b×b matrix in, real or as [[Re, −Im], [Im, Re]].
    fn load<W: Scalar<Real = f64>>(&mut self, b: usize, entry: impl Fn(usize, usize) -> W) {
        for (i, l) in (0..b).flat_map(|i| (0..b).map(move |l| (i, l))) {
            let x = entry(i, l);
            self.delta[i * self.size + l] = x.re();
            if self.size > b {
                self.delta[(b + i) * self.size + b + l] = x.re();
                self.delta[i * self.size + b + l] = -x.im();
                self.delta[(b + i) * self.size + l] = x.im();
            }
        }
    }

    /// Of the exact difference, of which every entry was rounded once: off by at most 2u‖Δ‖_F together.
    fn of<T: Scalar>(&mut self) -> Distance {
        if self.delta.iter().all(|x| *x == 0.0) {
            return Distance { frobenius: 0.0, spectral: 0.0 };
        }
        let frobenius = up(frobenius_up(&self.delta) * up(1.0 + 2.0 * U));
        let spectral = min(frobenius, up(self.spectral() + up(2.0 * U * frobenius)));
        let twice = if T::IS_COMPLEX { core::f64::consts::FRAC_1_SQRT_2.next_up() } else { 1.0 };
        Distance { frobenius: up(frobenius * twice), spectral }
    }

    /// ‖Δ‖₁ or more.
    fn column_sum(&self) -> f64 {
        let mut sums = vec![0.0; self.size];
        for row in self.delta.chunks_exact(self.size) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += Float::abs(*x));
        }
        sums.into_iter().fold(0.0, |most, sum| super::outward::max(most, inflate(sum, self.size)))
    }

    /// ‖Δ‖₂ or more, of the entries as they are. Δ is scaled to norm 1 or 2 first.
    fn spectral(&mut self) -> f64 {
        let (size, frobenius) = (self.size, frobenius_up(&self.delta));
        if size > LARGE {
            return min(frobenius, sqrt_up(up(row_sum_up(&self.delta, size) * self.column_sum())));
        }
        if size == 1 || !(f64::MIN_POSITIVE..1e300).contains(&frobenius) {
            return frobenius;
        }
        let scale = power_of_two_below(frobenius);
        self.delta.iter_mut().for_each(|x| *x /= scale);
        self.gram.fill(0.0);
        for row in self.delta.chunks_exact(size) {
            for (i, x) in row.iter().enumerate() {
                for (sum, y) in self.gram[i * size..].iter_mut().zip(row) {
                    *sum += x * y;
                }
            }
        }
        // |Δ|ᵀ|Δ| has Frobenius norm at most ‖Δ‖_F² ≤ 4; what underflowed is below 2⁻¹⁰²² an entry, before or after.
        let lost = up((size * size) as f64 * f64::MIN_POSITIVE);
        let error = up(up(gamma(size, U) * 4.0) + up(8.0 * lost));
        let found = self.spectrum.largest(size, &self.gram, error);
        up(sqrt_up(Float::max(found, f64::zero())) * scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Generator;

    fn norms(size: usize, delta: &[f64]) -> Distance {
        let mut norms = Norms::new(size);
        norms.load(size, |i, l| delta[i * size + l]);
        norms.of::<f64>()
    }

    #[test]
    fn norms_of_matrices_with_known_singular_values() {
        let mut g = Generator::new(3);
        for b in [1, 2, 3, 8, 16] {
            for scale in [1e-200, 1e-9, 1.0] {
                // diag(σ) between two reflections I − 2vvᵀ/(vᵀv).
                let sigma: Vec<f64> = (0..b).map(|_| scale * g.uniform()).collect();
                let mut reflect = || {
                    let v: Vec<f64> = (0..b).map(|_| g.uniform() - 0.5).collect();
                    let vv: f64 = v.iter().map(|x| x * x).sum();
                    move |i: usize, k: usize| f64::from(u8::from(i == k)) - 2.0 * v[i] * v[k] / vv
                };
                let (left, right) = (reflect(), reflect());
                let entry = |at: usize| (0..b).map(|k| left(at / b, k) * sigma[k] * right(k, at % b)).sum::<f64>();
                let delta: Vec<f64> = (0..b * b).map(entry).collect();
                let largest = sigma.iter().fold(0.0f64, |m, s| m.max(*s));
                let frobenius = scale * sigma.iter().map(|s| (s / scale).powi(2)).sum::<f64>().sqrt();
                let found = norms(b, &delta);
                // Of the entries; and squares below 2⁻¹⁰²² are rounded up to that.
                let slack = 1e-14 * frobenius;
                assert!(found.frobenius >= frobenius - slack && found.frobenius <= frobenius + 20.0 * slack + 1e-153);
                assert!(found.spectral >= largest - slack && found.spectral <= 1.12 * largest + 20.0 * slack + 1e-153);
            }
        }
    }

    #[test]
    fn large_blocks_are_bounded_by_their_sums() {
        let size = LARGE + 3;
        let mut delta = vec![0.0; size * size];
        (0..size).for_each(|i| delta[i * size + (i + 1) % size] = -0.25); // a permutation
        let found = norms(size, &delta);
        assert!(found.spectral >= 0.25 && found.spectral <= 0.25 * (1.0 + 1e-12), "{found:?}");
    }

    #[test]
    fn differences_of_plane_rotations_are_met_to_rounding() {
        let found = norms(2, &[-0.003, 0.004, -0.004, -0.003]);
        assert!(found.spectral >= 0.005 && found.spectral <= 0.005 * (1.0 + 1e-14), "{found:?}");
        assert!(found.frobenius >= 0.005 * 2f64.sqrt() && found.frobenius <= 0.005 * 2f64.sqrt() * (1.0 + 1e-14));
        assert!(
            norms(2, &[f64::NAN, 0.0, 0.0, 1.0]).spectral.is_nan()
                || norms(2, &[f64::NAN, 0.0, 0.0, 1.0]).spectral == f64::INFINITY
        );
    }
}
