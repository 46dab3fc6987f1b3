//! The naive truth: the matrix of a plan by plain loops over its blocks and indices, sharing no code with the kernels.
//!
//! Everything is in double precision and O(n²·b·m) or worse: for tests, not for work.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::{One, Zero};

use super::DoubleDouble;
use crate::error::{Error, Result, check_length};
use crate::plan::{Factors, Op, Plan};
use crate::scalar::Scalar;

/// Number type of a naive computation: a wide scalar, or double-double.
trait Number<B>: Copy + Default + core::ops::AddAssign {
    fn times(self, entry: B) -> Self;
}

impl Number<f64> for f64 {
    fn times(self, entry: f64) -> f64 {
        entry * self
    }
}

impl Number<f64> for DoubleDouble {
    fn times(self, entry: f64) -> Self {
        self * entry
    }
}

/// The blocks of stage `k` as they act, block j at j·b², row-major: stored blocks looked up by group, and the adjoint taken
/// where the stage says so.
///
/// # Errors
/// [`Error::Index`] for a stage that the plan lacks; those of [`Plan::block`].
pub fn blocks<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>, k: usize) -> Result<Vec<T::Wide>> {
    let stage =
        plan.stages().get(k).ok_or(Error::Index { what: "stage", expected: plan.num_stages(), got: k })?;
    let b = stage.layout().block_size();
    let mut stored = vec![T::zero(); b * b];
    let mut all = Vec::with_capacity(stage.layout().num_blocks() * b * b);
    for j in 0..stage.layout().num_blocks() {
        plan.block(factors, k, stage.group_of(j), &mut stored)?;
        for r in 0..b {
            for c in 0..b {
                all.push(if stage.is_adjoint() {
                    stored[c * b + r].to_wide().conj()
                } else {
                    stored[r * b + c].to_wide()
                });
            }
        }
    }
    Ok(all)
}

/// Q = F_m ··· F_1 in double precision, row-major n×n: `matrix[i*n + j]` is Q_ij.
///
/// ```
/// use papilio::{Plan, parametrization::Givens, topology::BlockDiagonal, verify::dense};
/// let plan = Plan::<f64>::new(2, &BlockDiagonal::new(2), Givens)?;
/// let q = dense::matrix(&plan, &plan.realize(&[0.0])?)?;
/// assert_eq!(q, [1.0, 0.0, 0.0, 1.0]);
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Length`] if `factors` belong to another plan; [`Error::Size`] if n² overflows.
pub fn matrix<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>) -> Result<Vec<T::Wide>> {
    let n = plan.n();
    let size = n.checked_mul(n).ok_or_else(|| Error::Size {
        what: "dense matrix",
        expected: alloc::string::String::from("n*n within usize"),
        got: alloc::format!("n = {n}"),
    })?;
    // Row i of `rows` is the image of the unit vector i: Q transposed.
    let mut rows = vec![T::Wide::zero(); size];
    for i in 0..n {
        rows[i * n + i] = T::Wide::one();
    }
    for (k, stage) in plan.stages().iter().enumerate() {
        let (b, blocks) = (stage.layout().block_size(), blocks(plan, factors, k)?);
        for (j, block) in blocks.chunks_exact(b * b).enumerate() {
            let index: Vec<usize> = stage.layout().indices(j).collect();
            for row in rows.chunks_exact_mut(n) {
                let old: Vec<T::Wide> = index.iter().map(|&i| row[i]).collect();
                for (&i, entries) in index.iter().zip(block.chunks_exact(b)) {
                    row[i] = entries.iter().zip(&old).fold(T::Wide::zero(), |sum, (&a, &x)| sum + a * x);
                }
            }
        }
    }
    let mut q = rows.clone();
    for i in 0..n {
        for j in 0..n {
            q[i * n + j] = rows[j * n + i];
        }
    }
    Ok(q)
}

/// y = Op(Q) x for vectors one after the other (`[batch, n]`), by the dense [`matrix`].
///
/// # Errors
/// [`Error::Length`] if `x` is not a whole number of vectors; those of [`matrix`].
pub fn apply<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>, x: &[T::Wide], op: Op) -> Result<Vec<T::Wide>> {
    let n = plan.n();
    check_length("vectors", x.len() / n.max(1) * n, x.len())?;
    let q = matrix(plan, factors)?;
    let entry = |i: usize, j: usize| match op {
        Op::None => q[i * n + j],
        Op::Adjoint => q[j * n + i].conj(),
        Op::Transpose => q[j * n + i],
        Op::Conj => q[i * n + j].conj(),
    };
    let image = |x: &[T::Wide], i: usize| (0..n).fold(T::Wide::zero(), |sum, j| sum + entry(i, j) * x[j]);
    Ok(x.chunks_exact(n.max(1)).flat_map(|x| (0..n).map(move |i| image(x, i))).collect())
}
