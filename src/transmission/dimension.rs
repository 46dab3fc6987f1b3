//! The effective dimension: how many directions Q can move in, however many parameters there are.
//!
//! It is the rank of the Jacobian of θ ↦ Q at a generic point; the map is analytic, so almost every point gives the largest
//! rank. Rows of the Jacobian are functionals of dQ, one for each pair (u, v): θ ↦ Re uᴴ dQ v has the gradient that
//! [`Plan::apply_vjp`] and [`Plan::realize_vjp`] compute for the input v and the cotangent u. Nothing n×n is formed.
//!
//! * A few more random pairs than the rank can be: functionals uᴴ·v span all others, so generic ones have the
//!   rank of the Jacobian.
//! * Where that would be more than the skew matrices dQ·Qᴴ have entries (or the latter are few): those entries, one functional
//!   (e_i, Qᴴe_j) for each.
//!
//! The rank is decided in double precision, whatever the plan's scalar, from the pivots of an orthogonal elimination: true ones
//! lie far above 10⁻¹⁰ of the first, those that stand for zero near 10⁻¹⁵. Both sides of the gap are told.

use core::ops::ControlFlow;

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::network::Network;
use crate::batch::{Batch, BatchMut};
use crate::dense;
use crate::error::{Error, Result};
use crate::generator::Generator;
use crate::parallel::Parallelism;
use crate::plan::{Factors, Op, Plan, Saved, Source, Stage, Workspace};
use crate::scalar::{Scalar, Wide};

/// Pivots below this share of the first stand for zero.
const TOLERANCE: f64 = 1e-10;

/// Random functionals beyond the largest rank there can be.
const SLACK: usize = 16;

/// With at most so many entries of dQ·Qᴴ, all of them are taken rather than random functionals.
const ALL_ENTRIES: u64 = 512;

/// How the rank of a Jacobian is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankOptions {
    /// Of the random point and functionals. Equal seeds give equal results.
    pub seed: u64,
    /// The largest square matrix whose rank is decided; others are judged by their cost, rows·columns·min(rows, columns) ≤
    /// `most`³. Ten seconds or so on one core for 3072, eight times as much for twice the size.
    pub most: usize,
}

impl Default for RankOptions {
    fn default() -> Self {
        Self { seed: 1, most: 3072 }
    }
}

/// The rank of a parameter Jacobian at a random point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JacobianRank {
    /// The rank.
    pub rank: usize,
    /// The smallest pivot that counts, relative to the largest (1 for rank 0).
    pub kept: f64,
    /// The largest that does not, relative to the largest of all; 0 if the rank is full.
    pub dropped: f64,
}

impl JacobianRank {
    /// Whether a factor of at least 1000 lies between what counts and what does not.
    pub fn is_clear(&self) -> bool {
        self.kept >= 1e3 * self.dropped.max(f64::EPSILON)
    }
}

/// The rank of θ ↦ Q at a random θ (uniform in ±√3): the effective dimension, almost surely. `None` where it would cost more
/// than [`RankOptions::most`] allows.
///
/// `progress` is told the share of the work that is done, and may stop it.
///
/// ```
/// use core::ops::ControlFlow;
/// use papilio::{Plan, parametrization::Cayley, topology::Butterfly};
/// use papilio::transmission::{RankOptions, jacobian_rank};
///
/// let plan = Plan::<f64>::new(16, &Butterfly::boft(2, 4)?, Cayley)?;
/// let found = jacobian_rank(&plan, &RankOptions::default(), |_| ControlFlow::Continue(()))?.unwrap();
/// assert_eq!((plan.num_params(), found.rank), (48, 40));
/// assert!(found.is_clear());
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Interrupted`] if `progress` stops; [`Error::Size`] if there is no memory for the matrix.
pub fn jacobian_rank<T: Scalar>(
    plan: &Plan<T>,
    options: &RankOptions,
    mut progress: impl FnMut(f64) -> ControlFlow<()>,
) -> Result<Option<JacobianRank>> {
    let bound = bound(plan);
    let params = plan.num_params();
    if params == 0 || bound == 0 {
        return Ok(Some(JacobianRank { rank: 0, kept: 1.0, dropped: 0.0 }));
    }
    let (n, wide) = (plan.n() as u64, params as u64);
    // Functionals that name every entry: of the skew matrix dQ·Qᴴ, or of dQ where Q need not be orthogonal.
    let entries = match (plan.is_exact(), T::IS_COMPLEX) {
        (true, false) => n.saturating_mul(n - 1) / 2,
        (true, true) | (false, false) => n.saturating_mul(n),
        (false, true) => n.saturating_mul(n).saturating_mul(2),
    };
    let random = bound.saturating_add(SLACK as u64);
    let all = entries <= random.max(ALL_ENTRIES);
    let counted = if all { entries } else { random - SLACK as u64 };
    let cost = counted as f64 * params as f64 * counted.min(wide) as f64;
    if cost > Float::powi(options.most as f64, 3) {
        return Ok(None);
    }
    let rows = if all { entries } else { random } as usize;
    let mut jacobian = Jacobian::new(widen(plan)?, options.seed)?;
    let mut matrix = Vec::new();
    let size = rows.checked_mul(params).filter(|&size| matrix.try_reserve_exact(size).is_ok());
    let size = size.ok_or_else(|| Error::Size {
        what: "parameter Jacobian",
        expected: "memory for its rows and columns".to_string(),
        got: format!("{rows} x {params} numbers"),
    })?;
    matrix.resize(size, 0.0);
    let stopped = |done: &str| Error::Interrupted {
        what: "rank of the parameter Jacobian",
        expected: "to be continued",
        got: format!("stopped {done}"),
    };
    for (at, row) in matrix.chunks_exact_mut(params).enumerate() {
        if progress(0.3 * at as f64 / rows as f64).is_break() {
            return Err(stopped("among its rows"));
        }
        if all {
            jacobian.entry(at, plan.is_exact(), row)?;
        } else {
            jacobian.random(row)?;
        }
    }
    let total = rows.min(params) as f64;
    let share = |k: usize| {
        let left = 1.0 - k as f64 / total;
        1.0 - 0.7 * left * left * left
    };
    let found = dense::rank(params, &mut matrix, TOLERANCE, |k| progress(share(k)));
    let dense::Rank { rank, kept, dropped } = found.ok_or_else(|| stopped("in the elimination"))?;
    Ok(Some(JacobianRank { rank, kept, dropped }))
}

/// What the rank cannot exceed: the parameters, less gauge freedom where the blocks are rotations, and the dimension of all
/// matrices that mix only what the blocks connect: rotations (unitary matrices) of each connected part, or any matrices if
/// blocks need not be orthogonal.
pub(super) fn bound<T: Scalar>(plan: &Plan<T>) -> u64 {
    let network = Network::of(plan);
    let ambient = network.sum_over_parts(|c| match (plan.is_exact(), T::IS_COMPLEX) {
        (true, false) => c.saturating_mul(c - 1) / 2,
        (true, true) | (false, false) => c.saturating_mul(c),
        (false, true) => c.saturating_mul(c).saturating_mul(2),
    });
    let gauge = if has_rotations(plan) { network.rotation_bound() } else { None };
    ambient.min(gauge.unwrap_or(plan.num_params()) as u64)
}

/// Whether the blocks of all stages range over SO(b), as far as the numbers tell: real charts with b(b − 1)/2 parameters.
pub(super) fn has_rotations<T: Scalar>(plan: &Plan<T>) -> bool {
    let is_rotation = |stage: &Stage<T>| {
        let b = stage.layout().block_size();
        match stage.source() {
            Source::Chart { chart, .. } => !T::IS_COMPLEX && chart.num_params(b) == Ok(b * (b - 1) / 2),
            _ => false,
        }
    };
    plan.is_exact() && plan.stages().iter().all(is_rotation)
}

/// The same stages in double precision; their parameters in the order of the stages.
fn widen<T: Scalar>(plan: &Plan<T>) -> Result<Plan<T::Wide>> {
    let one = |stage: &Stage<T>| -> Result<Plan<T::Wide>> {
        let source = match stage.source() {
            Source::Chart { chart, sharing } => Source::Chart { chart: chart.clone(), sharing: sharing.clone() },
            Source::Fixed(blocks) => Source::Fixed(blocks.clone()),
            Source::Reflectors { count, orthonormal, sharing } => {
                Source::Reflectors { count: *count, orthonormal: *orthonormal, sharing: sharing.clone() }
            }
        };
        let one = Plan::from_stages(plan.n(), [(stage.layout().clone(), source)])?;
        Ok(if stage.is_adjoint() { one.adjoint() } else { one })
    };
    let mut plans = plan.stages().iter().map(one).collect::<Result<Vec<_>>>()?;
    // Joined two by two: m stages cost m·log m.
    while plans.len() > 1 {
        let (mut joined, mut rest) = (Vec::with_capacity(plans.len().div_ceil(2)), plans.into_iter());
        while let Some(first) = rest.next() {
            joined.push(match rest.next() {
                Some(second) => first.then(second)?,
                None => first,
            });
        }
        plans = joined;
    }
    plans.pop().map_or_else(|| Plan::identity(plan.n()), Ok)
}

/// The Jacobian at a point, row by row.
struct Jacobian<W: Wide> {
    plan: Plan<W>,
    theta: Vec<f64>,
    factors: Factors<W>,
    d_factors: Vec<W>,
    generator: Generator,
    workspace: Workspace,
    u: Vec<W>,
    v: Vec<W>,
}

impl<W: Wide> Jacobian<W> {
    fn new(plan: Plan<W>, seed: u64) -> Result<Self> {
        let mut generator = Generator::new(seed);
        let theta: Vec<f64> = (0..plan.num_params()).map(|_| uniform(&mut generator)).collect();
        let factors = plan.realize(&theta)?;
        let (d_factors, u) = (vec![W::zero(); plan.num_entries()], vec![W::zero(); plan.n()]);
        let (v, workspace) = (u.clone(), Workspace::new());
        Ok(Self { plan, theta, factors, d_factors, generator, workspace, u, v })
    }

    /// The gradient of Re uᴴ Q v.
    fn row(&mut self, row: &mut [f64]) -> Result<()> {
        let n = self.plan.n();
        self.d_factors.fill(W::zero());
        self.plan.apply_vjp(
            &self.factors,
            Saved::Input(Batch::rows(&self.v, n)?),
            Op::None,
            Batch::rows(&self.u, n)?,
            None,
            Some(&mut self.d_factors),
            Parallelism::None,
            &mut self.workspace,
        )?;
        self.plan.realize_vjp(&self.theta, &self.factors, &self.d_factors, row)
    }

    fn random(&mut self, row: &mut [f64]) -> Result<()> {
        let g = &mut self.generator;
        for x in self.u.iter_mut().chain(&mut self.v) {
            *x = W::from_parts(uniform(g), if W::IS_COMPLEX { uniform(g) } else { 0.0 });
        }
        self.row(row)
    }

    /// Row `at` of those that name every entry: entry (i, j) of dQ·Qᴴ, i < j, and for complex numbers also its imaginary
    /// part and those of the diagonal; or all entries of dQ.
    fn entry(&mut self, at: usize, skew: bool, row: &mut [f64]) -> Result<()> {
        let n = self.plan.n();
        let upper = n * (n - 1) / 2;
        let (i, j, imaginary) = match (skew, W::IS_COMPLEX) {
            (true, _) if at < upper => {
                let (i, j) = pair(at);
                (i, j, false)
            }
            (true, _) if at < 2 * upper => {
                let (i, j) = pair(at - upper);
                (i, j, true)
            }
            (true, _) => (at - 2 * upper, at - 2 * upper, true),
            (false, _) => (at / n % n, at % n, at >= n * n),
        };
        self.u.fill(W::zero());
        self.v.fill(W::zero());
        self.u[i] = if imaginary { W::from_parts(0.0, 1.0) } else { W::one() };
        self.v[j] = W::one();
        if skew {
            let v = BatchMut::rows(&mut self.v, n)?;
            let op = Op::Adjoint;
            self.plan.apply_in_place(&self.factors, v, op, Parallelism::None, &mut self.workspace)?;
        }
        self.row(row)
    }
}

/// The pair i < j with number `at` = j(j − 1)/2 + i.
fn pair(at: usize) -> (usize, usize) {
    let mut j = Float::sqrt(2.0 * at as f64) as usize;
    while j * (j + 1) / 2 <= at {
        j += 1;
    }
    while j * (j - 1) / 2 > at {
        j -= 1;
    }
    (at - j * (j - 1) / 2, j)
}

/// Uniform in ±√3: mean 0, variance 1.
fn uniform(g: &mut Generator) -> f64 {
    1.732_050_807_568_877_2 * (2.0 * g.uniform() - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_numbered_without_gaps() {
        let mut at = 0;
        for j in 1..200 {
            for i in 0..j {
                assert_eq!(pair(at), (i, j));
                at += 1;
            }
        }
    }
}
