//! What is certain about an operator: its singular values, and its distance from another one.
//!
//! From the certificate ‖QᴴQ − I‖₂ ≤ δ every singular value obeys |σ² − 1| ≤ δ, so √(1 − δ) ≤ σ ≤ √(1 + δ). Roundings are
//! outward: a bound computed here is a bound.

use num_traits::Float;

use super::Orthogonal;
use crate::error::Result;
use crate::scalar::Scalar;
use crate::verify::{self, Distance};

/// Bounds of the singular values of an operator, for the exact product of its stored blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Condition {
    /// No singular value is smaller. Zero if nothing better is known.
    pub smallest: f64,
    /// No singular value is larger.
    pub largest: f64,
    /// ‖Q‖₂·‖Q⁻¹‖₂ is at most this.
    pub condition: f64,
}

impl<T: Scalar> Orthogonal<T> {
    /// Rigorous bounds of the singular values, 1 up to the rounding of the blocks.
    ///
    /// ```
    /// use papilio::{Orthogonal, Plan, parametrization::Cayley, topology::Butterfly};
    /// let plan = Plan::<f32>::new(512, &Butterfly::boft(5, 4)?, Cayley)?;
    /// let q = Orthogonal::new(plan.clone(), vec![3.0; plan.num_params()])?;
    /// assert!(q.condition()?.condition < 1.0 + 10.0 * f64::from(f32::EPSILON));
    /// # Ok::<(), papilio::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`verify::certificate`].
    pub fn condition(&self) -> Result<Condition> {
        let defect = verify::certificate(self.plan(), self.factors())?.defect;
        // IEEE: the exact result lies between the neighbours of the rounded one.
        let smallest = Float::sqrt(Float::max((1.0 - defect).next_down(), 0.0)).next_down().max(0.0);
        let largest = Float::sqrt((1.0 + defect).next_up()).next_up();
        Ok(Condition { smallest, largest, condition: (largest / smallest).next_up() })
    }

    /// Rigorous bounds of ‖Q − Q'‖_F and ‖Q − Q'‖₂ for another operator with the same layouts: after a step of an
    /// optimiser, or between two checkpoints. See [`verify::distance`]; for a bound
    /// before any θ is known, [`Plan::lipschitz`](crate::Plan::lipschitz).
    ///
    /// # Errors
    /// As [`verify::distance`].
    pub fn distance(&self, other: &Self) -> Result<Distance> {
        verify::distance((self.plan(), self.factors()), (other.plan(), other.factors()))
    }
}
