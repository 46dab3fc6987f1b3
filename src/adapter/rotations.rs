//! What an adapter's rotations are, without the base: how orthogonal, how far from the identity, how much of them a merge
//! into half precision keeps.
//!
//! *Distance.* d(Q) = ‖Q − I‖_F²/n is the mean of ‖Qe_j − e_j‖², N(Q) = ‖Q‖_F²/n that of ‖Qe_j‖², 1 for a rotation. A rotation
//! by φ in every plane has √d = 2·sin(φ/2). Of one stage of blocks they are sums over the blocks; else columns are computed, all
//! of them, or a seeded sample where that would cost more than 2³¹ multiplications.
//!
//! *Change of a weight.* For a weight without preferred directions (independent entries of one variance) and W' = diag(s)·W·Qᵀ or
//! diag(s)·Q·W, E‖W' − W‖_F² / E‖W‖_F² = (N − 1)·mean s(s − 1) + mean (s − 1)² + d·mean s, taking s to be independent of
//! Q's diagonal: mean s²·N − 2·mean s·tr(Q)/n + 1 without its cancellation.
//!
//! *Loss.* Rounding to a type with p bits moves a number x ∈ [1, 2) by an error uniform within ±2⁻ᵖ, so by a root mean
//! square of 2⁻ᵖ/√3; over numbers whose logarithms are uniform E x² = 3/(2 ln 2), so the rounding error of W' is
//! 2⁻ᵖ·√(2 ln 2)/3 of its norm: 0.39·2⁻⁸ for bf16. What a merge loses is that over the change, all of it at most: numbers
//! that move by less than half a unit in a weight of that type stay where they are.

use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use serde::Serialize;

use super::merge::finite;
use super::{Adapter, Layer, Sides};
use crate::batch::BatchMut;
use crate::error::Result;
use crate::generator::Generator;
use crate::orthogonal::Orthogonal;
use crate::parallel::Parallelism;
use crate::plan::{Op, Workspace};
use crate::verify::{certificate, distance_from_identity, orthogonality};

/// Multiplications that the columns of one rotation may cost; beyond, a sample is taken.
const EFFORT: usize = 1 << 31;
/// Bits of the significand of bf16, the first one included.
const BF16_BITS: i32 = 8;
/// What a defect may be until it shows: lengths change by half of it, which is then the unit roundoff of bf16.
const SHOWS: f64 = 1.0 / 128.0;

/// What the rotation of one layer is. Numbers beyond the range of doubles are given as the largest one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RotationReport {
    /// Path of the module.
    pub name: String,
    /// The method, with what changes its meaning.
    pub method: String,
    /// Size of the rotated space.
    pub n: usize,
    /// Block size b.
    pub block: usize,
    /// Stages m.
    pub stages: usize,
    /// Rigorous bound on ‖RᵀR − I‖₂.
    #[serde(serialize_with = "finite")]
    pub defect: f64,
    /// It over n·2⁻⁵².
    #[serde(serialize_with = "finite")]
    pub ratio: f64,
    /// Whether blocks are orthogonal by construction; not so for truncated series, blocks that are stored as they are, and
    /// RoAd's, which also scale. (Blocks of PEFT up to 0.13 that a weight cuts off are whole here, where no weight is known.)
    pub exact: bool,
    /// Rigorous bound on ‖R − I‖₂; for PSOFT ‖R − I‖_F of its core.
    #[serde(serialize_with = "finite")]
    pub distance: f64,
    /// ‖R − I‖_F/√n: how far it moves a coordinate, as a root mean square.
    #[serde(serialize_with = "finite")]
    pub moves: f64,
    /// Whether that is an estimate from some of the columns.
    pub sampled: bool,
    /// ‖W' − W‖_F/‖W‖_F for a weight without preferred directions, s included; `None` where only the weight tells.
    pub change: Option<f64>,
    /// The part of that change which rounding to bf16 loses, about; `None` likewise, and for numbers beyond doubles.
    pub lost_in_bf16: Option<f64>,
}

impl Adapter {
    /// What the rotations of a layer are.
    ///
    /// ```
    /// use papilio::adapter::Adapter;
    /// let adapter = Adapter::open("examples/data/boft_llama/adapter".as_ref())?;
    /// let report = adapter.rotation(&adapter.layers()[0])?;
    /// assert!(report.exact && report.ratio < 30.0 && report.moves <= report.distance);
    /// # Ok::<(), papilio::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`sides`](Self::sides).
    pub fn rotation(&self, layer: &Layer) -> Result<RotationReport> {
        let found = layer.structure();
        let n = found.n.unwrap_or(found.block);
        let mut report = RotationReport {
            name: layer.module.clone(),
            method: found.method,
            n,
            block: found.block,
            stages: found.stages,
            defect: 0.0,
            ratio: 0.0,
            exact: true,
            distance: 0.0,
            moves: 0.0,
            sampled: false,
            change: None,
            lost_in_bf16: None,
        };
        let mut numbers = self.numbers(layer)?;
        if let Some(core) = layer.core(&numbers) {
            let core = core?;
            (report.distance, report.moves) = from_identity(core.rank, &core.rotation);
            report.exact = core.exact;
            // Without its vectors it is a rotation.
            for name in ["vector_a", "vector_b"] {
                numbers.insert(name, vec![1.0; core.rank]);
            }
            if let Some(core) = layer.core(&numbers).transpose()? {
                let dense = orthogonality(core.rank, core.rank, &core.rotation, Parallelism::Rayon)?;
                report.defect = dense.defect;
            }
        } else {
            report.measure(&layer.sides(&numbers, None)?)?;
        }
        report.ratio = report.defect / (n.max(1) as f64 * f64::EPSILON);
        for x in [&mut report.defect, &mut report.ratio, &mut report.distance, &mut report.moves] {
            *x = x.min(f64::MAX);
        }
        Ok(report)
    }
}

impl RotationReport {
    /// Whether the defect changes lengths by more than bf16 rounds.
    pub fn shows(&self) -> bool {
        self.defect > SHOWS
    }

    fn measure(&mut self, sides: &Sides) -> Result<()> {
        let mut columns = Columns { gap: 0.0, norm: 1.0, sampled: false };
        // No dialect has both.
        for q in sides.rotations() {
            let proof = certificate(q.plan(), q.factors())?;
            self.defect = self.defect.max(proof.defect);
            self.exact &= q.plan().is_exact();
            self.distance = distance_from_identity(q.plan(), q.factors(), &proof)?.spectral;
            columns = Columns::of(q)?;
        }
        let Columns { gap, norm, sampled } = columns;
        (self.moves, self.sampled) = (gap.sqrt(), sampled);
        let scale = sides.scale.as_deref().unwrap_or(&[1.0]);
        let mean = |of: fn(f64) -> f64| scale.iter().map(|s| of(*s)).sum::<f64>() / scale.len().max(1) as f64;
        let square = (norm - 1.0) * mean(|s| s * (s - 1.0)) + mean(|s| (s - 1.0) * (s - 1.0)) + gap * mean(|s| s);
        if !square.is_finite() || !norm.is_finite() {
            self.change = Some(f64::MAX);
            return Ok(());
        }
        let change = square.max(0.0).sqrt();
        let rounding = 2f64.powi(-BF16_BITS) * (2.0 * core::f64::consts::LN_2 * norm * mean(|s| s * s)).sqrt() / 3.0;
        self.change = Some(change);
        self.lost_in_bf16 = Some(if change > 0.0 { (rounding / change).min(1.0) } else { 0.0 });
        Ok(())
    }
}

/// Means over columns.
struct Columns {
    /// ‖Qe_j − e_j‖²
    gap: f64,
    /// ‖Qe_j‖²
    norm: f64,
    sampled: bool,
}

impl Columns {
    fn of(q: &Orthogonal<f64>) -> Result<Self> {
        let stages = q.plan().stages();
        let found = match stages {
            [stage] if stage.vectors().is_none() => Self::of_blocks(q)?,
            _ => Self::of_columns(q)?,
        };
        Ok(if q.plan().is_exact() { Self { norm: 1.0, ..found } } else { found })
    }

    /// Of one stage, block by block.
    fn of_blocks(q: &Orthogonal<f64>) -> Result<Self> {
        let (stage, n) = (&q.plan().stages()[0], q.n().max(1) as f64);
        let b = stage.layout().block_size();
        let (mut block, mut last) = (vec![0.0; b * b], None);
        let (mut gap, mut norm) = (0.0, 0.0);
        for j in 0..stage.layout().num_blocks() {
            let group = stage.group_of(j);
            let (own_gap, own_norm) = match last {
                Some((known, sums)) if known == group => sums,
                _ => {
                    q.plan().block(q.factors(), 0, group, &mut block)?;
                    let unit = |at: usize| f64::from(u8::from(at.is_multiple_of(b + 1)));
                    let squares = |of: &dyn Fn(usize) -> f64| (0..b * b).map(|at| of(at) * of(at)).sum::<f64>();
                    (squares(&|at| block[at] - unit(at)), squares(&|at| block[at]))
                }
            };
            last = Some((group, (own_gap, own_norm)));
            (gap, norm) = (gap + own_gap, norm + own_norm);
        }
        let untouched = q.n().saturating_sub(stage.layout().num_blocks() * b) as f64;
        Ok(Self { gap: gap / n, norm: (norm + untouched) / n, sampled: false })
    }

    /// Of any product: columns, or a sample, one of each stretch of equal length.
    fn of_columns(q: &Orthogonal<f64>) -> Result<Self> {
        let (n, plan) = (q.n(), q.plan());
        let each = |stage: &crate::plan::Stage<f64>| 2 * stage.vectors().unwrap_or(stage.layout().block_size());
        let cost: usize =
            plan.stages().iter().map(|stage| n.saturating_mul(each(stage))).fold(0, usize::saturating_add);
        let count = (EFFORT / cost.max(1)).clamp(64, n.max(64)).min(n);
        let mut random = Generator::new(1);
        let place = |k: usize| (k as u128 * n as u128 / count.max(1) as u128) as usize;
        let chosen: Vec<usize> =
            (0..count).map(|k| place(k) + random.below((place(k + 1) - place(k)) as u64) as usize).collect();
        let panel = ((1 << 18) / n.max(1)).clamp(1, count.max(1));
        let (mut gap, mut norm, ws) = (0.0, 0.0, Workspace::new());
        let mut images = vec![0.0; panel * n];
        for chosen in chosen.chunks(panel) {
            let images = &mut images[..chosen.len() * n];
            images.fill(0.0);
            images.chunks_exact_mut(n).zip(chosen).for_each(|(image, j)| image[*j] = 1.0);
            plan.run(q.factors(), None, &mut BatchMut::rows(images, n)?, Op::None, Parallelism::Rayon, &ws)?;
            for (image, j) in images.chunks_exact_mut(n).zip(chosen) {
                norm += image.iter().map(|x| x * x).sum::<f64>();
                image[*j] -= 1.0;
                gap += image.iter().map(|x| x * x).sum::<f64>();
            }
        }
        let count = count.max(1) as f64;
        Ok(Self { gap: gap / count, norm: norm / count, sampled: chosen.len() < n })
    }
}

/// ‖C − I‖_F, which is at least ‖C − I‖₂, and it over √r.
fn from_identity(r: usize, core: &[f64]) -> (f64, f64) {
    let gap = |at: usize, x: f64| x - f64::from(u8::from(at.is_multiple_of(r + 1)));
    let norm = core.iter().enumerate().map(|(at, x)| gap(at, *x).powi(2)).sum::<f64>().sqrt();
    (norm, norm / (r.max(1) as f64).sqrt())
}

/// What a user should know of them.
pub fn rotation_warnings(reports: &[RotationReport]) -> Vec<String> {
    let mut warnings = Vec::new();
    let shown: Vec<_> = reports.iter().filter(|report| report.shows()).collect();
    if let Some(worst) = shown.iter().max_by(|a, b| a.defect.total_cmp(&b.defect)) {
        // Squares of lengths change by a factor of 1 ± defect.
        let most = ((1.0 + worst.defect).sqrt() - 1.0).max(1.0 - (1.0 - worst.defect).max(0.0).sqrt());
        let why = if worst.method.contains("Neumann") {
            "A Cayley–Neumann series is near a rotation only while its parameters are small: train with the exact Cayley \
             transform (PEFT: use_cayley_neumann=False), or with more terms"
        } else {
            "Its blocks are stored or scaled, and they are no rotations as they stand"
        };
        warnings.push(format!(
            "{} of {} layers are no rotations: they change lengths by more than rounding to bf16 does. The worst is `{}` \
             ({}), by factors of up to 1 ± {:.1e}. {why}",
            shown.len(),
            reports.len(),
            worst.name,
            worst.method,
            most.min(f64::MAX)
        ));
    }
    let lost = |report: &&RotationReport| report.lost_in_bf16.is_some_and(|lost| lost > 0.5);
    let faint = reports.iter().filter(lost).count();
    if faint > 0 {
        warnings.push(format!(
            "{faint} of {} layers turn by so little that a merge into bf16 loses more than half of the change: merge in f32 \
             or f16, or keep the adapter apart",
            reports.len()
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plan;
    use crate::layout::StageLayout;
    use crate::parametrization::CayleyNeumann;
    use crate::topology::Explicit;

    /// One stage has two ways: they agree, also where blocks leave coordinates out.
    #[test]
    fn blocks_say_what_columns_do() -> Result<()> {
        let apart = Explicit::from_layouts(11, [StageLayout::contiguous(4, 2)])?;
        let plan = Plan::<f64>::new(11, &apart, CayleyNeumann { order: 5 })?;
        let theta: Vec<f64> = (0..plan.num_params()).map(|i| 0.4 + 0.1 * i as f64).collect();
        let q = Orthogonal::new(plan, theta)?;
        let (blocks, columns) = (Columns::of_blocks(&q)?, Columns::of_columns(&q)?);
        assert!((blocks.norm - 1.0).abs() > 0.1 && !columns.sampled, "{}", blocks.norm);
        assert!((blocks.norm - columns.norm).abs() < 1e-14 * columns.norm, "{} {}", blocks.norm, columns.norm);
        assert!((blocks.gap - columns.gap).abs() < 1e-14 * columns.gap, "{} {}", blocks.gap, columns.gap);
        Ok(())
    }
}
