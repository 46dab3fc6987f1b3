//! Fractions of an operator: every block moves along its one-parameter group.
//!
//! Q(t) = F_m(t) ··· F_1(t), B(t) = exp(t·log B) with the principal logarithm, whose eigenvalues iφ have −π < φ ≤ π. Each
//! B(t) is orthogonal for every real t, hence so is Q(t); B(0) = I, B(1) = B, and B(s)·B(t) = B(s + t). A plane rotation by φ
//! turns by t·φ: the angle of a Givens block is multiplied by t, and a 2×2 Cayley block, φ = 2 atan θ, goes to
//! tan(t·atan θ). Scaling θ itself would do the same for charts that are exponentials and not for others (a Cayley block
//! would slow down on its way), and (1 − t)·I + t·B, which some adapters use, is not orthogonal in between.
//!
//! Q(t) is *not* Qᵗ = exp(t·log Q) for m > 1, since stages do not commute: it is no geodesic from I to Q, and
//! Q(s)·Q(t) ≠ Q(s + t). It costs m small logarithms for each coordinate instead of one large one, and stays in the family:
//! same stages, same sparsity, and θ(t) in the same charts.
//!
//! A real block with determinant −1 has no real logarithm: no path of orthogonal matrices leads from it to I. It is an
//! error that names the block. Blocks that turn a plane by π lie on the cut; which way they turn is a choice made by the
//! logarithm. Extrapolation, t outside [0, 1], is as orthogonal, but a chart need not reach every B(t) (Cayley misses
//! t·φ = π).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::{Orthogonal, identity, start};
use crate::dense;
use crate::error::{Error, Result};
use crate::plan::{Plan, Source, Stage};
use crate::scalar::{Scalar, Wide};

mod reflections;

impl<T: Scalar> Orthogonal<T> {
    /// Q with every block B replaced by exp(t·log B): always orthogonal, the identity at t = 0, Q itself at t = 1 (the
    /// same θ, the same bits), continuous in between and beyond.
    ///
    /// It is *not* Qᵗ where there is more than one stage, since stages do not commute: each *stage* turns at constant speed,
    /// Q does not, and Q(½)² ≠ Q. The logarithm is the principal one: every block takes the short way, whatever multiples of
    /// 2π are in its θ.
    ///
    /// θ(t) belongs to the same charts and shared blocks move once. Fixed blocks move, too, so for t ≠ 1 the plan is
    /// another one where it has fixed stages.
    ///
    /// ```
    /// use papilio::{Orthogonal, Plan, parametrization::Cayley, topology::BlockDiagonal};
    /// let plan = Plan::<f64>::new(2, &BlockDiagonal::new(2), Cayley)?;
    /// let half = Orthogonal::new(plan, [1.0])?.interpolate(0.5)?; // half of a quarter turn
    /// assert!((half.theta()[0] - (std::f64::consts::PI / 8.0).tan()).abs() < 1e-15);
    /// # Ok::<(), papilio::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Domain`] for a t that is not finite, and naming stage and block where a real block has determinant −1,
    /// a fixed block is not orthogonal, or the chart does not reach B(t). [`Error::Unsupported`] for charts whose blocks
    /// are only nearly orthogonal, and for complex [reflectors](Source::Reflectors), whose B(t) are no such products. Real ones
    /// become other vectors with the same span, which are not orthonormal between the ends.
    pub fn interpolate(&self, t: f64) -> Result<Self> {
        if !t.is_finite() {
            let expected = "a finite number, from 0 (the identity) to 1 (this operator)";
            return Err(Error::Domain { what: "t of interpolate".to_string(), expected, got: t.to_string() });
        }
        let mut theta = self.theta.clone();
        let mut parts = self.plan.parts();
        for (k, (stage, part)) in self.plan.stages().iter().zip(&mut parts).enumerate() {
            let b = stage.layout().block_size();
            if let Source::Reflectors { count, sharing, .. } = stage.source() {
                let mut moved = reflecting(k, stage, &self.theta[stage.theta()])?;
                for (group, vectors) in moved.chunks_exact_mut((count * b).max(1)).enumerate() {
                    reflections::advance(b, vectors, t, &|| format!("interpolation of block {group} of stage {k}"))?;
                }
                if t != 1.0 {
                    theta[stage.theta()].copy_from_slice(&moved);
                    part.source = Source::Reflectors { count: *count, orthonormal: false, sharing: sharing.clone() };
                }
                continue;
            }
            let mut blocks = self.factors.wide_blocks(stage);
            let fixed = matches!(stage.source(), Source::Fixed(_));
            if !fixed && !stage.is_exact() {
                return Err(Error::Unsupported {
                    what: "interpolation",
                    expected: "stages whose blocks are orthogonal",
                    got: format!("stage {k} with approximate blocks"),
                });
            }
            let mut mover = Mover::new(b, stage.matrix_len());
            for (group, block) in blocks.chunks_exact_mut(b * b).enumerate() {
                mover.advance(block, t, &|| format!("interpolation of block {group} of stage {k}"))?;
            }
            match stage.source() {
                _ if t == 1.0 => {}
                Source::Fixed(_) => part.source = Source::Fixed(blocks.into()),
                Source::Chart { .. } if t == 0.0 && start(stage).is_none_or(|block| block == identity(b)) => {
                    theta[stage.theta()].fill(0.0);
                }
                Source::Chart { chart, .. } => {
                    let params = stage.theta().len() / stage.num_groups().max(1);
                    let start = stage.theta().start;
                    for (group, block) in blocks.chunks_exact(b * b).enumerate() {
                        let at = start + group * params;
                        chart.inverse(b, block, &mut theta[at..at + params]).map_err(|e| Error::Domain {
                            what: format!("chart {} in block {group} of stage {k} at t = {t}", chart.id()),
                            expected: "a block that the chart reaches",
                            got: e.to_string(),
                        })?;
                    }
                }
                Source::Reflectors { .. } => {} // done
            }
        }
        let plan = if t == 1.0 { self.plan.clone() } else { Plan::assemble(self.n(), parts)? };
        Self::new(plan, theta)
    }
}

/// Vectors whose reflections are the blocks of stage `k`, those that are to be orthonormal made so: the product then is that
/// of any vectors, and in between they leave their family.
fn reflecting<T: Scalar>(k: usize, stage: &Stage<T>, theta: &[f64]) -> Result<Vec<f64>> {
    if T::IS_COMPLEX {
        return Err(Error::Unsupported {
            what: "interpolation of reflections",
            expected: "real vectors; between 0 and 1, others leave their family",
            got: format!("complex reflectors in stage {k}"),
        });
    }
    stage.unit_vectors(theta).map_err(|at| Error::Domain {
        what: format!("vector {at} of the reflectors in stage {k}"),
        expected: "vectors that are independent of those before them",
        got: "one that depends on them".to_string(),
    })
}

/// Scratch for b×b blocks.
struct Mover<W> {
    b: usize,
    a: Vec<W>,
    copy: Vec<W>,
}

impl<W: Wide> Mover<W> {
    fn new(b: usize, size: usize) -> Self {
        Self { b, a: vec![W::zero(); size], copy: vec![W::zero(); size] }
    }

    /// B ← exp(t·log B), exactly I at t = 0 and untouched at t = 1.
    fn advance(&mut self, block: &mut [W], t: f64, what: &dyn Fn() -> String) -> Result<()> {
        let b = self.b;
        let refuse = |expected, got| Err(Error::Domain { what: what(), expected, got });
        self.copy.copy_from_slice(block);
        // Fixed blocks may come from single precision.
        if let Err(e) = dense::polish(b, &mut self.copy) {
            return refuse("an orthogonal block", e.to_string());
        }
        if !W::IS_COMPLEX {
            self.a.copy_from_slice(&self.copy);
            if dense::determinant_sign(b, &mut self.a) < 0 {
                return refuse("a rotation: no orthogonal path leads from a reflection to I", "determinant −1".into());
            }
        }
        if let Err(e) = dense::log_rotation(b, &self.copy, &mut self.a) {
            return refuse("a block with a logarithm", e.to_string());
        }
        if t == 0.0 {
            block.copy_from_slice(&identity(b));
        } else if t != 1.0 {
            self.a.iter_mut().for_each(|x| *x = *x * W::from_real(t));
            dense::exp_skew(b, &self.a, block)?;
        }
        Ok(())
    }
}
