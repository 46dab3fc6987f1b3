//! How fast Q can move with θ, before any θ is known.
//!
//! Let ‖B(θ) − B(θ')‖_F ≤ L_k‖θ − θ'‖₂ for one block of stage k
//! ([`Parametrization::lipschitz`](crate::Parametrization::lipschitz)), let e_k be the stage's part of θ − θ', and let at
//! most s_k of its blocks share one group of parameters. Orthogonal factors keep both norms, so by telescoping
//!
//! ‖Q(θ) − Q(θ')‖ ≤ Σ_k ‖F_k − F'_k‖,
//! ‖F_k − F'_k‖_F² = Σ_j ‖B_j − B'_j‖_F² ≤ L_k²·s_k·‖e_k‖₂², ‖F_k − F'_k‖₂ = max_j ‖B_j − B'_j‖₂,
//!
//! and Cauchy–Schwarz over the stages gives the two constants √(Σ L_k²s_k) and c·√(Σ L_k²). Here c = 1/√2 for real blocks:
//! ‖B − B'‖₂ is the norm of I − BᵀB', which is normal, and a rotation BᵀB' has its eigenvalues ≠ ±1 in conjugate pairs and
//! its −1s in an even number; so every non-zero singular value of B − B' comes twice, and 2‖B − B'‖₂² ≤ ‖B − B'‖_F². (θ
//! moves without jumps, so B and B' have the same determinant.) For complex blocks c = 1.
//!
//! For a b = 2 butterfly of L stages of angles, L_k = √2, this is ‖Q − Q'‖_F ≤ √(2L)·‖θ − θ'‖₂. Stages on the same blocks
//! with parallel steps attain it; where every stage meets other pairs, as in a butterfly, steps from θ = 0 are orthogonal to
//! each other and √2·‖θ − θ'‖₂ is nearer the truth. (For the one-angle-per-level scalar butterflies, which share all of a
//! stage's angles, BOFT's appendix G.4 has √N·‖e‖₁; here s_k = N/2 gives √N·‖e_k‖₂ for each stage, the same.)

use alloc::vec;

use num_traits::Float;

use super::{Plan, Source, Stage};
use crate::scalar::Scalar;

/// Bounds of how fast Q moves, for exact arithmetic: see [`Plan::lipschitz`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Lipschitz {
    /// ‖Q(θ) − Q(θ')‖_F is at most this times ‖θ − θ'‖₂.
    pub frobenius: f64,
    /// ‖Q(θ) − Q(θ')‖₂ is at most this times ‖θ − θ'‖₂.
    pub spectral: f64,
}

impl<T: Scalar> Plan<T> {
    /// Lipschitz constants of θ ↦ Q over all of parameter space, if every chart knows its own
    /// ([`Parametrization::lipschitz`](crate::Parametrization::lipschitz)) and every block is orthogonal
    /// ([`is_exact`](Plan::is_exact)). `None` with reflectors that depend on θ: their vectors have directions, which turn as fast
    /// as one likes near zero. They bound a step before it is taken; for two operators at hand,
    /// [`Orthogonal::distance`](crate::Orthogonal::distance) knows more.
    ///
    /// ```
    /// use papilio::{Plan, parametrization::Givens, topology::Butterfly};
    /// let plan = Plan::<f64>::new(256, &Butterfly::classic(2), Givens)?;
    /// let speed = plan.lipschitz().unwrap();
    /// assert!((speed.frobenius - (2.0 * 8.0f64).sqrt()).abs() < 1e-12); // √(2L) for L = 8 stages of angles
    /// # Ok::<(), papilio::Error>(())
    /// ```
    pub fn lipschitz(&self) -> Option<Lipschitz> {
        let (mut frobenius, mut spectral) = (0.0, 0.0);
        for stage in self.stages().iter() {
            let speed = match stage.source() {
                _ if !stage.is_exact() => return None,
                Source::Fixed(_) => 0.0,
                Source::Chart { .. } if stage.num_groups() == 0 => 0.0,
                Source::Chart { chart, .. } => chart.lipschitz(stage.layout().block_size())?,
                Source::Reflectors { .. } => return None,
            };
            frobenius += speed * speed * most_shared(stage) as f64;
            spectral += speed * speed;
        }
        if !T::IS_COMPLEX {
            spectral *= 0.5;
        }
        Some(Lipschitz { frobenius: Float::sqrt(frobenius), spectral: Float::sqrt(spectral) })
    }
}

/// The largest number of blocks that are one and the same.
fn most_shared<T: Scalar>(stage: &Stage<T>) -> usize {
    let Some(groups) = stage.groups() else { return 1 };
    let mut uses = vec![0usize; stage.num_groups()];
    for g in groups {
        uses[*g as usize] += 1;
    }
    uses.into_iter().max().unwrap_or(0)
}
