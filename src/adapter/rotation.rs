//! An adapted layer in papilio's own terms, and its action on the weight.
//!
//! W' = diag(s)·W·Rᵀ needs no R: row i of W·Rᵀ is (R wᵢ)ᵀ for the row wᵢ of W, so the rows of W are a batch of vectors
//! and W' = `apply(R)` of that batch, row by row, in any portions. Everything is computed in `f64` and rounded once.

use std::vec::Vec;

use crate::batch::BatchMut;
use crate::error::{Result, check_length};
use crate::parallel::Parallelism;
use crate::plan::{Factors, Op, Plan, Workspace};
use crate::verify::{Certificate, certificate};

/// A rotation of the input space and a scale of the output: (plan, θ, s).
#[derive(Debug, Clone)]
pub struct Rotation {
    plan: Plan<f64>,
    theta: Vec<f64>,
    scale: Vec<f64>,
}

impl Rotation {
    /// From its parts; `scale` has one number for each row of the weight.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) if `theta` does not fit the plan.
    pub fn new(plan: Plan<f64>, theta: Vec<f64>, scale: Vec<f64>) -> Result<Self> {
        check_length("theta", plan.num_params(), theta.len())?;
        Ok(Self { plan, theta, scale })
    }

    /// The structure of R.
    pub fn plan(&self) -> &Plan<f64> {
        &self.plan
    }

    /// The parameters of R.
    pub fn theta(&self) -> &[f64] {
        &self.theta
    }

    /// One factor for each row of the weight.
    pub fn scale(&self) -> &[f64] {
        &self.scale
    }

    /// Computes the blocks of R.
    ///
    /// # Errors
    /// [`Error::Domain`](crate::Error::Domain) if a parameter is NaN or infinite.
    pub fn realize(self) -> Result<RealizedRotation> {
        let factors = self.plan.realize(&self.theta)?;
        Ok(RealizedRotation { plan: self.plan, factors, scale: self.scale })
    }
}

/// A [`Rotation`] with its blocks.
#[derive(Debug, Clone)]
pub struct RealizedRotation {
    plan: Plan<f64>,
    factors: Factors<f64>,
    scale: Vec<f64>,
}

impl RealizedRotation {
    /// The structure of R.
    pub fn plan(&self) -> &Plan<f64> {
        &self.plan
    }

    /// A rigorous bound on ‖RᵀR − I‖₂.
    ///
    /// # Errors
    /// Those of [`certificate`].
    pub fn certificate(&self) -> Result<Certificate> {
        certificate(&self.plan, &self.factors)
    }

    /// Rows `first ..` of W become the same rows of W' = diag(s)·W·Rᵀ; `rows` is row-major `[count, n]`.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) if `rows` is not whole rows or reaches beyond the last scale.
    pub fn rotate_rows(&self, first: usize, rows: &mut [f64], par: Parallelism, ws: &mut Workspace) -> Result<()> {
        self.rotate_with(first, rows, par, ws)
    }

    /// The same with a workspace that several threads share.
    pub(super) fn rotate_with(&self, first: usize, rows: &mut [f64], par: Parallelism, ws: &Workspace) -> Result<()> {
        let n = self.plan.n();
        let mut batch = BatchMut::rows(rows, n)?;
        let count = batch.batch();
        let scale = self.scale.get(first..).and_then(|s| s.get(..count)).unwrap_or_default();
        check_length("scale factors for these rows", count, scale.len())?;
        self.plan.run(&self.factors, None, &mut batch, Op::None, par, ws)?;
        for (row, s) in rows.chunks_exact_mut(n).zip(scale) {
            row.iter_mut().for_each(|w| *w *= s);
        }
        Ok(())
    }
}
