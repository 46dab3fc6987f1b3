//! Truncation: the weight interpolation of BOFT.
//!
//! Liu et al. (arXiv 2311.06243, §5 and Fig. 10) walk from a trained R = B_m ··· B_1 back to I by setting butterfly
//! components to the identity one by one, *left to right*: the leftmost first, which acts last and has the longest stride.
//! So k components remain as B_k ··· B_1, the k stages that act first. Every step is orthogonal, for free and without
//! retraining. (Fractions of a component: [`interpolate`](super::Orthogonal::interpolate).)

use alloc::vec::Vec;

use super::Orthogonal;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::scalar::Scalar;

impl<T: Scalar> Orthogonal<T> {
    /// F_k ··· F_1, the k stages that act first, with their parameters: Q for k = m, the identity for k = 0. The stages
    /// that are left out were set to the identity from the left, as in BOFT's weight interpolation.
    ///
    /// Of an [`adjoint`](Self::adjoint), whose leftmost stage is F_1ᴴ, the stages that act first are those of F_m, F_{m−1}, …
    /// Fixed stages count like others; where they are permutations or signs that belong to their neighbours, choose k
    /// accordingly.
    ///
    /// ```
    /// use papilio::{Orthogonal, Plan, parametrization::Givens, topology::Butterfly};
    /// let plan = Plan::<f64>::new(8, &Butterfly::classic(2), Givens)?;
    /// let q = Orthogonal::new(plan.clone(), vec![0.5; plan.num_params()])?;
    /// let path: Vec<_> = (0..=3).map(|k| q.truncate(k)).collect::<Result<_, _>>()?; // I, F_1, F_2 F_1, Q
    /// assert_eq!(path[3].to_dense()?, q.to_dense()?);
    /// assert_eq!(path[1].theta(), &q.theta()[..4]);
    /// # Ok::<(), papilio::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Index`] if there are fewer than k stages.
    pub fn truncate(&self, k: usize) -> Result<Self> {
        let stages = self.plan.num_stages();
        if k > stages {
            return Err(Error::Index { what: "number of stages to keep", expected: stages + 1, got: k });
        }
        let mut parts = self.plan.parts();
        parts.truncate(k);
        let mut ranked: Vec<_> = parts.iter().zip(self.plan.stages()).collect();
        ranked.sort_by_key(|(part, _)| part.rank);
        let theta: Vec<f64> = ranked.iter().flat_map(|(_, stage)| &self.theta[stage.theta()]).copied().collect();
        Self::new(Plan::assemble(self.n(), parts)?, theta)
    }
}
