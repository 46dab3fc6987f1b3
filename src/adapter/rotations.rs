//! What an adapter's rotations are, without the base: how orthogonal, how far from the identity, how much of them a merge
//! into half precision keeps.
//!
//! *Distance.* With d(Q) = ‖Q − I‖_F²/n, the mean of ‖Qe_j − e_j‖², trace(Q)/n = 1 − d/2 for an orthogonal Q. A rotation
//! by φ in every plane has √d = 2·sin(φ/2).
//!
//! *Change of a weight.* For a weight without preferred directions (independent entries of one variance) W' = diag(s)·L·W·Rᵀ
//! has E‖W' − W‖_F² / E‖W‖_F² = mean (s − 1)² + 2·mean s·(1 − (1 − d_L/2)(1 − d_R/2)), taking s to be independent of
//! L's diagonal.
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
use crate::orthogonal::Orthogonal;
use crate::parallel::Parallelism;
use crate::plan::{Op, Plan, Source, Workspace};
use crate::verify::{distance, orthogonality};

/// Flops that the mean distance of one rotation may cost; beyond, an evenly spaced sample of columns is taken.
const EFFORT: usize = 1 << 34;
/// Bits of the significand of bf16, the first one included.
const BF16_BITS: i32 = 8;
/// What a defect may be until it shows: lengths change by half of it, which is then the unit roundoff of bf16.
const SHOWS: f64 = 1.0 / 128.0;

/// What the rotations of one layer are; the product of both where a layer turns inputs and outputs. Numbers beyond the
/// range of doubles are given as the largest one.
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
    /// Rigorous bound on ‖RᵀR − I‖₂, the larger one of two rotations.
    #[serde(serialize_with = "finite")]
    pub defect: f64,
    /// It over n·2⁻⁵².
    #[serde(serialize_with = "finite")]
    pub ratio: f64,
    /// Whether every block is orthogonal but for rounding; not so for truncated series and blocks that were cut off.
    pub exact: bool,
    /// Rigorous bound on ‖R − I‖₂, the sum of two.
    #[serde(serialize_with = "finite")]
    pub distance: f64,
    /// ‖R − I‖_F/√n: how far it moves a coordinate, as a root mean square.
    #[serde(serialize_with = "finite")]
    pub moves: f64,
    /// ‖W' − W‖_F/‖W‖_F for a weight without preferred directions, s included; `None` where only the weight tells.
    pub change: Option<f64>,
    /// The part of that change which rounding to bf16 loses, about; `None` likewise.
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
            change: None,
            lost_in_bf16: None,
        };
        let mut numbers = self.numbers(layer)?;
        if let Some(core) = layer.core(&numbers) {
            let core = core?;
            (report.distance, report.moves) = from_identity(core.rank, &core.rotation);
            // Without its vectors it is a rotation.
            for name in ["vector_a", "vector_b"] {
                numbers.insert(name, vec![1.0; core.rank]);
            }
            if let Some(core) = layer.core(&numbers).transpose()? {
                let dense = orthogonality(core.rank, core.rank, &core.rotation, Parallelism::Rayon)?;
                report.defect = dense.defect;
            }
            report.exact = !report.shows();
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
        self.defect = sides.defect()?;
        self.exact = sides.rotations().all(|q| q.plan().is_exact());
        let (mut gaps, mut kept) = (0.0, 1.0);
        for q in sides.rotations() {
            let gap = mean_gap(q)?;
            self.distance += distance_from_identity(q, self.defect)?;
            // 1 − (1 − d/2)(1 − d'/2) without the cancellation.
            gaps += kept * gap / 2.0;
            kept *= 1.0 - gap / 2.0;
        }
        self.moves = (2.0 * gaps).sqrt();
        let scale = sides.scale.as_deref().unwrap_or(&[1.0]);
        let mean = |of: fn(f64) -> f64| scale.iter().map(|s| of(*s)).sum::<f64>() / scale.len().max(1) as f64;
        let change = (mean(|s| (s - 1.0) * (s - 1.0)) + 2.0 * mean(|s| s) * gaps).max(0.0).sqrt();
        let rounding = 2f64.powi(-BF16_BITS) * (2.0 * core::f64::consts::LN_2 * mean(|s| s * s)).sqrt() / 3.0;
        self.change = Some(change.min(f64::MAX));
        self.lost_in_bf16 = Some(if change > 0.0 { (rounding / change).min(1.0) } else { 0.0 });
        Ok(())
    }
}

/// ‖Q − I‖_F²/n.
fn mean_gap(q: &Orthogonal<f64>) -> Result<f64> {
    let (n, plan) = (q.n(), q.plan());
    let cost: usize = plan.stages().iter().map(|stage| n.saturating_mul(2 * stage.layout().block_size())).sum();
    let columns = (EFFORT / cost.max(1)).clamp(64, n.max(64)).min(n);
    let at = |k: usize| (k as u128 * n as u128 / columns as u128) as usize;
    let panel = ((1 << 18) / n.max(1)).clamp(1, columns.max(1));
    let (mut sum, ws) = (0.0, Workspace::new());
    let mut images = vec![0.0; panel * n];
    for first in (0..columns).step_by(panel) {
        let images = &mut images[..panel.min(columns - first) * n];
        images.fill(0.0);
        images.chunks_exact_mut(n).enumerate().for_each(|(k, image)| image[at(first + k)] = 1.0);
        plan.run(q.factors(), None, &mut BatchMut::rows(images, n)?, Op::None, Parallelism::Rayon, &ws)?;
        for (k, image) in images.chunks_exact_mut(n).enumerate() {
            image[at(first + k)] -= 1.0;
            sum += image.iter().map(|x| x * x).sum::<f64>();
        }
    }
    Ok(sum / columns.max(1) as f64)
}

/// A bound on ‖Q − I‖₂.
fn distance_from_identity(q: &Orthogonal<f64>, defect: f64) -> Result<f64> {
    let most = 1.0 + (1.0 + defect).sqrt();
    if q.plan().stages().iter().any(|stage| stage.vectors().is_some()) {
        return Ok(most); // every reflection is as far as can be
    }
    let still = q.plan().stages().iter().map(|stage| {
        let b = stage.layout().block_size();
        let unit = (0..b * b).map(|at| f64::from(u8::from(at.is_multiple_of(b + 1)))).collect::<Vec<_>>();
        (stage.layout().clone(), Source::Fixed(unit.repeat(stage.layout().num_blocks()).into()))
    });
    let identity = Orthogonal::new::<f64>(Plan::from_stages(q.n(), still.collect::<Vec<_>>())?, [])?;
    let found = distance((q.plan(), q.factors()), (identity.plan(), identity.factors()))?;
    Ok(found.spectral.min(most))
}

/// ‖C − I‖_F, a bound on ‖C − I‖₂, and it over √r.
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
        warnings.push(format!(
            "{} of {} layers are no rotations: they change lengths by more than rounding to bf16 does. The worst is `{}` \
             ({}), by up to {:.1} %. A Cayley–Neumann series is near a rotation only while its parameters are small: train \
             with the exact Cayley transform (PEFT: use_cayley_neumann=False), or with more terms",
            shown.len(),
            reports.len(),
            worst.name,
            worst.method,
            50.0 * worst.defect
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
