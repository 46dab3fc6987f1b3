//! The friendly owned operator: a plan, its parameters and its realised blocks.

use core::ops::Range;

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use crate::batch::{Batch, BatchMut};
use crate::dense;
use crate::error::{Error, Result};
use crate::parallel::Parallelism;
use crate::plan::{Factors, Op, Plan, Source, Stage, Workspace};
use crate::scalar::{Real, Scalar, Wide};

mod bounds;
mod interpolate;
#[cfg(feature = "rand")]
mod random;
mod rebase;
mod truncate;

pub use bounds::Condition;

/// A structured orthogonal matrix Q that owns its numbers.
///
/// | verb | gives |
/// |---|---|
/// | [`apply`](Self::apply), [`multiply_left`](Self::multiply_left), [`rows`](Self::rows), … | products, parts of Q |
/// | [`then`](Self::then), [`compose`](Self::compose), [`adjoint`](Self::adjoint) | other operators, with the same parameters |
/// | [`interpolate`](Self::interpolate) | Q(t): every block along exp(t·log B), from I to Q |
/// | [`truncate`](Self::truncate) | F_k ··· F_1: factors set to the identity one by one |
/// | [`rebase`](Self::rebase) | the same Q at θ = 0 |
/// | [`condition`](Self::condition), [`distance`](Self::distance) | rigorous bounds |
///
/// # One learning rate for all entries
///
/// Entry (i, j) of Q is a sum over the paths from input j to output i of the products of block entries along the path. In a
/// butterfly every pair (i, j) has the same number of paths: the product of its factors' patterns, all blocks filled with
/// ones, is constant (1 for unit 1 and any radix; unitᵐ⁻¹ for m stages of a larger unit, so (b/2)ᵐ⁻¹ for BOFT(m, b); with
/// fewer stages than make Q dense, where it is not zero). So all entries of Q are sums of equally many products of equally
/// many factors and respond to a step on their factors alike, and one learning rate serves all of them, as it would for a
/// dense Q (Liu et al., arXiv 2311.06243, appendix G.1). Wirings that join some pairs more often than others lack this.
///
/// ```
/// use papilio::{Orthogonal, Plan, parametrization::Cayley, topology::Butterfly};
/// let plan = Plan::<f64>::new(64, &Butterfly::boft(3, 8)?, Cayley)?;
/// let q = Orthogonal::new(plan.clone(), vec![0.3; plan.num_params()])?;
/// let x: Vec<f64> = (0..64).map(f64::from).collect();
/// let y = q.apply(&x)?;
/// let back = q.apply_adjoint(&y)?;
/// assert!(x.iter().zip(&back).all(|(x, b)| (x - b).abs() < 1e-12));
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Debug)]
pub struct Orthogonal<T: Scalar> {
    plan: Plan<T>,
    theta: Vec<f64>,
    factors: Factors<T>,
    workspace: Workspace,
}

impl<T: Scalar> Clone for Orthogonal<T> {
    fn clone(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            theta: self.theta.clone(),
            factors: self.factors.clone(),
            workspace: Workspace::default(),
        }
    }
}

impl<T: Scalar> Orthogonal<T> {
    /// Q at the parameters `theta` (length [`Plan::num_params`]).
    ///
    /// # Errors
    /// As [`Plan::realize`].
    pub fn new<P: Real>(plan: Plan<T>, theta: impl AsRef<[P]>) -> Result<Self> {
        Self::owning(plan, theta.as_ref().iter().map(|p| p.to_wide()).collect())
    }

    /// [`new`](Self::new), without a copy of `theta`.
    pub(crate) fn owning(plan: Plan<T>, theta: Vec<f64>) -> Result<Self> {
        let factors = plan.realize(&theta)?;
        Ok(Self { plan, theta, factors, workspace: Workspace::default() })
    }

    /// θ = 0: the identity, if no stage has fixed blocks.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if θ = 0 is not the identity for one of the charts ([`Signed`](crate::parametrization::Signed)).
    pub fn identity(plan: Plan<T>) -> Result<Self> {
        for stage in plan.stages() {
            if let Source::Chart { chart, .. } = stage.source()
                && !chart.starts_at_identity()
            {
                return Err(Error::Unsupported {
                    what: "identity of a plan",
                    expected: "charts that are the identity at 0",
                    got: chart.id(),
                });
            }
        }
        let theta = vec![0.0; plan.num_params()];
        Self::new(plan, theta)
    }

    /// The structure.
    pub fn plan(&self) -> &Plan<T> {
        &self.plan
    }

    /// The parameters.
    pub fn theta(&self) -> &[f64] {
        &self.theta
    }

    /// The realised blocks.
    pub fn factors(&self) -> &Factors<T> {
        &self.factors
    }

    /// Size of Q.
    pub fn n(&self) -> usize {
        self.plan.n()
    }

    /// Moves to other parameters.
    ///
    /// # Errors
    /// As [`Plan::realize`]; Q is unchanged then.
    pub fn set_theta<P: Real>(&mut self, theta: impl AsRef<[P]>) -> Result<()> {
        let theta: Vec<f64> = theta.as_ref().iter().map(|p| p.to_wide()).collect();
        self.factors = self.plan.realize(&theta)?;
        self.theta = theta;
        Ok(())
    }

    /// First this, then `next`: Q_next · Q, with the parameters of both, one after the other. As [`Plan::then`].
    ///
    /// # Errors
    /// [`Error::Length`] if the sizes differ.
    pub fn then(&self, next: &Self) -> Result<Self> {
        let theta: Vec<f64> = self.theta.iter().chain(&next.theta).copied().collect();
        Self::new(self.plan.clone().then(next.plan.clone())?, theta)
    }

    /// Composition as functions compose: `a.compose(&b)` is A·B, first B and then A. The same as `b.then(&a)`.
    ///
    /// # Errors
    /// [`Error::Length`] if the sizes differ.
    pub fn compose(&self, first: &Self) -> Result<Self> {
        first.then(self)
    }

    /// Qᴴ, with the same parameters.
    pub fn adjoint(&self) -> Self {
        Self { plan: self.plan.adjoint(), ..self.clone() }
    }

    /// Lets go of θ, where only products are wanted: [`theta`](Self::theta) is empty then.
    #[cfg(feature = "files")]
    pub(crate) fn shed(&mut self) {
        self.theta = Vec::new();
    }

    /// [`adjoint`](Self::adjoint), without a copy.
    pub fn into_adjoint(self) -> Self {
        Self { plan: self.plan.adjoint(), ..self }
    }

    /// Q x for one vector or several, one after the other.
    ///
    /// # Errors
    /// [`Error::Size`] unless the length is a multiple of n.
    pub fn apply(&self, x: &[T]) -> Result<Vec<T>> {
        self.apply_op(x, Op::None)
    }

    /// Qᴴ x for one vector or several, one after the other.
    ///
    /// # Errors
    /// [`Error::Size`] unless the length is a multiple of n.
    pub fn apply_adjoint(&self, x: &[T]) -> Result<Vec<T>> {
        self.apply_op(x, Op::Adjoint)
    }

    fn apply_op(&self, x: &[T], op: Op) -> Result<Vec<T>> {
        let mut y = x.to_vec();
        self.apply_batch_in_place(BatchMut::rows(&mut y, self.n())?, op)?;
        Ok(y)
    }

    /// y ← op(Q) x on views.
    ///
    /// # Errors
    /// As [`Plan::apply`].
    pub fn apply_batch(&self, x: Batch<'_, T>, mut y: BatchMut<'_, T>, op: Op) -> Result<()> {
        self.plan.run(&self.factors, Some(&x), &mut y, op, Parallelism::default(), &self.workspace)
    }

    /// y ← op(Q) y on a view.
    ///
    /// # Errors
    /// As [`Plan::apply_in_place`].
    pub fn apply_batch_in_place(&self, mut y: BatchMut<'_, T>, op: Op) -> Result<()> {
        self.plan.run(&self.factors, None, &mut y, op, Parallelism::default(), &self.workspace)
    }

    /// A ← op(Q) A for a row-major matrix A `[n, k]`.
    ///
    /// # Errors
    /// [`Error::Size`] unless the length is a multiple of n.
    pub fn multiply_left(&self, a: &mut [T], op: Op) -> Result<()> {
        self.apply_batch_in_place(BatchMut::columns(a, self.n())?, op)
    }

    /// A ← A op(Q) for a row-major matrix A `[k, n]`.
    ///
    /// # Errors
    /// [`Error::Size`] unless the length is a multiple of n.
    pub fn multiply_right(&self, a: &mut [T], op: Op) -> Result<()> {
        // Row a of A becomes a·op(Q) = (op(Q)ᵀ aᵀ)ᵀ.
        let transposed = match op {
            Op::None => Op::Transpose,
            Op::Transpose => Op::None,
            Op::Adjoint => Op::Conj,
            Op::Conj => Op::Adjoint,
        };
        self.apply_batch_in_place(BatchMut::rows(a, self.n())?, transposed)
    }

    /// Rows of Q as a row-major matrix `[rows.len(), n]`, without forming the others.
    ///
    /// # Errors
    /// [`Error::Index`] for rows beyond n; [`Error::Size`] if there is no memory for the result.
    pub fn rows(&self, rows: Range<usize>) -> Result<Vec<T>> {
        let n = self.n();
        if rows.end > n || rows.start > n {
            return Err(Error::Index { what: "rows", expected: n + 1, got: rows.end.max(rows.start) });
        }
        let len = rows.len().saturating_mul(n);
        let mut dense = Vec::new();
        if dense.try_reserve_exact(len).is_err() {
            let expected = "memory for fewer rows at a time".to_string();
            return Err(Error::Size { what: "rows", expected, got: format!("{} of {n}", rows.len()) });
        }
        dense.resize(len, T::zero());
        for (at, row) in rows.clone().enumerate() {
            dense[at * n + row] = T::one();
        }
        self.multiply_right(&mut dense, Op::None)?; // e_i ↦ e_i Q
        Ok(dense)
    }

    /// Q as a row-major n×n matrix.
    ///
    /// # Errors
    /// [`Error::Size`] if there is no memory for n² numbers.
    pub fn to_dense(&self) -> Result<Vec<T>> {
        self.rows(0..self.n())
    }

    /// det Q = ±1 of a real Q: the product of the blocks' determinants; −1 for each
    /// reflection.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for complex Q, whose determinant is a phase; [`Error::Domain`] for a singular block, which
    /// only fixed stages can have.
    pub fn determinant_sign(&self) -> Result<i8> {
        if T::IS_COMPLEX {
            return Err(Error::Unsupported {
                what: "sign of the determinant",
                expected: "a real matrix",
                got: "a complex one".to_string(),
            });
        }
        let mut sign = 1;
        for (k, stage) in self.plan.stages().iter().enumerate() {
            let b = stage.layout().block_size();
            let mut block = vec![T::zero(); if stage.vectors().is_some() { 0 } else { stage.matrix_len() }];
            let mut signs = Vec::with_capacity(stage.num_groups());
            for group in 0..stage.num_groups() {
                if let Some(count) = stage.vectors() {
                    let entry = |i, k| self.factors.entries()[stage.entry(group, i, k)];
                    let reflects = |i: &usize| (0..b).any(|k| entry(*i, k) != T::zero());
                    signs.push(if (0..count).filter(reflects).count() % 2 == 0 { 1 } else { -1 });
                    continue;
                }
                self.plan.block(&self.factors, k, group, &mut block)?;
                let mut wide: Vec<T::Wide> = block.iter().map(|x| x.to_wide()).collect();
                let block_sign = dense::determinant_sign(b, &mut wide);
                if block_sign == 0 {
                    return Err(Error::Domain {
                        what: format!("determinant of block {group} of stage {k}"),
                        expected: "an invertible block",
                        got: "a singular one".to_string(),
                    });
                }
                signs.push(block_sign);
            }
            for j in 0..stage.layout().num_blocks() {
                sign *= signs[stage.group_of(j)];
            }
        }
        Ok(sign)
    }
}

/// The block at θ = 0 of a stage with a chart and with blocks.
fn start<T: Scalar>(stage: &Stage<T>) -> Option<Vec<T::Wide>> {
    let (Source::Chart { chart, .. }, true) = (stage.source(), stage.num_groups() > 0) else { return None };
    let b = stage.layout().block_size();
    let mut block = identity(b);
    chart.forward(b, &vec![0.0; stage.theta().len() / stage.num_groups()], &mut block);
    Some(block)
}

/// The b×b identity.
fn identity<W: Wide>(b: usize) -> Vec<W> {
    (0..b * b).map(|at| if at % (b + 1) == 0 { W::one() } else { W::zero() }).collect()
}
