//! Fitting: the structured product nearest to a matrix that is given.
//!
//! ‖Q − R‖²_F = 2n − 2 Re tr(QᴴR) over R = F_m ··· F_1 whose blocks are free in SO(b), O(b) or U(b), for any list of layouts. Errors are
//! e = ‖Q − R‖²_F/(2n), always from the difference itself: 0 is exact, 1 is as far as orthogonal directions, and √(2e) is the
//! relative error in the Frobenius norm.
//!
//! | function | what it does |
//! |---|---|
//! | [`fit`] | chooses among the following |
//! | [`alternating`] | sweeps of block polar factors: monotone (but where a wrong determinant is left), for every wiring |
//! | [`hierarchical`] | one pass over butterflies: exact in their class, and a bound of what can be reached |
//! | [`explore`] | tries many wirings: which one? |
//! | [`projection`] | one pass over butterflies of radix 2, by eigenvectors |
//! | [`greedy`] | K blocks on pairs that are chosen freely, one after the other |
//! | [`jacobi`] | K rotations that nearly diagonalise a symmetric matrix: graph Fourier transforms |
//! | [`permuted`] | [`fit`] up to the order of rows, or of rows and columns |
//! | [`descend`] | L-BFGS or Adam over blocks, for any [`Loss`] of y = Qx; the target may be a [`BlackBox`] |
//! | [`descend_theta`] | the same over θ of any plan |
//!
//! A target far from the class of a wiring stays far: no wiring of O(n log n) parameters comes near to a Haar matrix.
//!
//! ```
//! use papilio::fit::{self, Options, Target};
//! use papilio::topology::Butterfly;
//!
//! // The Walsh–Hadamard matrix of 8 is a butterfly: found to the last digit.
//! let h: Vec<f64> = (0..64u32).map(|at| if ((at / 8) & (at % 8)).count_ones() % 2 == 0 { 8f64 } else { -8.0 } / 8f64.powf(1.5)).collect();
//! let found = fit::fit(
//!     &Target::new(8, &h)?,
//!     &fit::layouts(8, &Butterfly::classic(2))?,
//!     &Options::default(),
//!     &mut |_| std::ops::ControlFlow::Continue(()),
//! )?;
//! assert!(found.relative_frobenius < 1e-14);
//! assert_eq!(found.plan().num_stages(), 3);
//! # Ok::<(), papilio::Error>(())
//! ```

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use crate::batch::BatchMut;
use crate::dense::{self, EPS};
use crate::error::{Error, Result};
use crate::layout::{Sharing, StageLayout};
use crate::parallel::Parallelism;
use crate::parametrization::Parametrization;
use crate::plan::{Op, Plan, Source, Stage, Workspace};
use crate::scalar::{Scalar, Wide};
use crate::topology::Topology;

mod alternating;
mod assignment;
mod automatic;
mod block_polar;
mod chain;
mod corner;
mod dense_polar;
pub(crate) mod descent;
mod explore;
mod greedy;
mod hierarchical;
mod jacobi;
mod ky_fan;
mod packing;
mod partners;
mod pass;
mod permuted;
mod polar;
mod products;
mod projection;
mod rank;
mod raw;
mod relax;
mod samples;
mod signs;
mod sweep;
mod target;
mod trap;

pub use alternating::alternating;
pub use automatic::fit;
pub use descent::{BlackBox, Descent, LeastSquares, Loss, Method, Schedule, descend, descend_theta};
pub use explore::{Budget, Candidate, Exploration, Row, Step, candidates, explore, pareto};
pub use greedy::greedy;
pub use hierarchical::hierarchical;
pub use jacobi::{Eigenbasis, Order, jacobi};
pub use permuted::{Permuted, Sides, permuted};
pub use projection::projection;
pub use target::Target;

/// Which blocks are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Group {
    /// All orthogonal blocks O(b); over the complex numbers all unitary blocks U(b).
    #[default]
    Full,
    /// Rotations SO(b), what charts such as [`Cayley`](crate::parametrization::Cayley) reach.
    Special,
}

/// Where sweeps begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Start {
    /// Blocks drawn nearly from the Haar measure of their group.
    #[default]
    Random,
    /// Identity blocks: for targets near the identity.
    Identity,
}

/// How to fit. Start from `Options::default()` and set what should be different.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// Which blocks are allowed.
    pub group: Group,
    /// Where sweeps begin; further runs begin with random blocks.
    pub start: Start,
    /// Of the stream that random starts come from. The same seed gives the same fit, bit by bit, on any number of threads.
    pub seed: u64,
    /// Runs from different starts; the best is kept.
    pub restarts: usize,
    /// Sweeps of a run, at most.
    pub sweeps: usize,
    /// A run has converged when a sweep lowers the error by less than this part of it.
    pub tolerance: f64,
    /// A run ends at this error e.
    pub goal: f64,
    /// Threads.
    pub parallelism: Parallelism,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            group: Group::Full,
            start: Start::Random,
            seed: 0,
            restarts: 1,
            sweeps: 1000,
            tolerance: 1e-6,
            goal: 0.0,
            parallelism: Parallelism::default(),
        }
    }
}

/// What a watcher is told before every sweep. It answers whether to go on.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// The run.
    pub restart: usize,
    /// Sweeps, or steps, of this run that are done.
    pub sweep: usize,
    /// The present error e, or loss.
    pub error: f64,
}

/// Why a fit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stop {
    /// The error is that of rounding, or the goal.
    Exact,
    /// The last sweep changed almost nothing.
    Converged,
    /// As many sweeps as allowed.
    Sweeps,
    /// The watcher said so; the fit is the best so far.
    Interrupted,
    /// The method has no iteration.
    Direct,
    /// The loss of a descent was not finite any more; the result is the best so far.
    Diverged,
}

/// A structured product near a target.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Fit<W: Wide> {
    plan: Plan<W>,
    /// e = ‖Q − R‖²_F/(2n), from the difference of the dense matrices.
    pub error: f64,
    /// ‖Q − R‖_F/‖Q‖_F = √(2e)
    pub relative_frobenius: f64,
    /// The error before the first sweep, and after each. It does not grow, but for a sweep that leads out of a wrong determinant; if that
    /// leads nowhere, `error` is that of the blocks from before.
    pub curve: Vec<f64>,
    /// Sweeps of the run that was best.
    pub sweeps: usize,
    /// Why it ended.
    pub stop: Stop,
    /// No orthogonal product of these layouts has a smaller error, where a method found that out.
    pub bound: Option<f64>,
}

impl<W: Wide> Fit<W> {
    /// Polishes the blocks and measures the product.
    fn new(target: &Target<W>, stages: &[StageLayout], blocks: Vec<Vec<W>>, parallelism: Parallelism) -> Result<Self> {
        let n = target.n();
        let source = |(layout, mut blocks): (&StageLayout, Vec<W>)| {
            let b = layout.block_size();
            for block in blocks.chunks_exact_mut((b * b).max(1)) {
                dense::polish(b, block)?;
            }
            Ok((layout.clone(), Source::Fixed(blocks.into())))
        };
        let stages = stages.iter().zip(blocks).map(source).collect::<Result<Vec<_>>>()?;
        let plan = Plan::from_stages(n, stages)?;
        let images = written_out(&plan, parallelism)?;
        let entries = target.entries();
        let error = target::distance(n, &images, n, |i, j| entries[i * n + j], parallelism);
        let relative_frobenius = Float::sqrt(2.0 * error);
        Ok(Self { plan, error, relative_frobenius, curve: vec![error], sweeps: 0, stop: Stop::Direct, bound: None })
    }

    /// The product R written out, row-major n×n.
    ///
    /// # Errors
    /// Those of [`Plan::apply_in_place`].
    pub fn matrix(&self, parallelism: Parallelism) -> Result<Vec<W>> {
        written_out(&self.plan, parallelism)
    }

    /// The product R, as fixed blocks.
    pub fn plan(&self) -> &Plan<W> {
        &self.plan
    }

    /// The same product in another precision.
    ///
    /// # Errors
    /// Those of [`Plan::from_stages`].
    pub fn to<T: Scalar<Wide = W>>(&self) -> Result<Plan<T>> {
        Plan::from_stages(
            self.plan.n(),
            self.fixed().map(|(layout, blocks)| (layout.clone(), Source::Fixed(blocks.clone()))),
        )
    }

    /// The same product with trainable blocks: a plan over `chart`, and its θ.
    ///
    /// # Errors
    /// Those of the chart's [`inverse`](Parametrization::inverse): a rotation's chart, for instance, has no reflections.
    pub fn in_chart<T: Scalar<Wide = W>>(&self, chart: Arc<dyn Parametrization<W>>) -> Result<(Plan<T>, Vec<f64>)> {
        let mut theta = Vec::new();
        let mut stages = Vec::new();
        for (layout, blocks) in self.fixed() {
            let b = layout.block_size();
            let params = chart.num_params(b)?;
            for block in blocks.chunks_exact((b * b).max(1)) {
                let start = theta.len();
                theta.resize(start + params, 0.0);
                chart.inverse(b, block, &mut theta[start..])?;
            }
            stages.push((layout.clone(), Source::Chart { chart: chart.clone(), sharing: Sharing::PerBlock }));
        }
        Ok((Plan::from_stages(self.plan.n(), stages)?, theta))
    }

    /// Dimension of the group that the blocks come from, without regard to what different blocks have in common.
    pub fn num_parameters(&self) -> usize {
        num_parameters::<W>(self.plan.stages().iter().map(Stage::layout))
    }

    /// The blocks of every stage, row-major one after the other.
    fn into_blocks(self) -> Vec<Vec<W>> {
        self.fixed().map(|(_, blocks)| blocks.to_vec()).collect()
    }

    fn fixed(&self) -> impl Iterator<Item = (&StageLayout, &Arc<[W]>)> {
        self.plan.stages().iter().filter_map(|stage| match stage.source() {
            Source::Fixed(blocks) => Some((stage.layout(), blocks)),
            _ => None,
        })
    }
}

/// The matrix of a plan without parameters, row-major.
fn written_out<W: Wide>(plan: &Plan<W>, parallelism: Parallelism) -> Result<Vec<W>> {
    let n = plan.n();
    let mut images = vec![W::zero(); n * n];
    images.iter_mut().step_by(n + 1).for_each(|x| *x = W::one());
    let factors = plan.realize::<f64>(&[])?;
    let columns = BatchMut::columns(&mut images, n)?;
    plan.apply_in_place(&factors, columns, Op::None, parallelism, &mut Workspace::new())?;
    Ok(images)
}

/// The error e that rounding leaves in a product of so many stages. Errors of directions grow like √m·eps, those of lengths, which
/// have the same sign in all blocks, like ½m·eps; some eps more are for blocks and for the target's own.
fn rounding(stages: usize) -> f64 {
    let relative = EPS * (4.0 + stages as f64);
    0.5 * relative * relative
}

/// |z|²
#[inline(always)]
fn square<W: Wide>(z: W) -> f64 {
    z.re() * z.re() + z.im() * z.im()
}

/// Σ dim of the group over all blocks.
fn num_parameters<'a, W: Wide>(stages: impl IntoIterator<Item = &'a StageLayout>) -> usize {
    let each = |b: usize| if W::IS_COMPLEX { b * b } else { b * b.saturating_sub(1) / 2 };
    stages.into_iter().map(|layout| each(layout.block_size()) * layout.num_blocks()).sum()
}

/// The layouts of a wiring on n coordinates, first stage first.
///
/// # Errors
/// Those of the topology; [`Error::Unsupported`] for one whose blocks share parameters.
pub fn layouts(n: usize, topology: &dyn Topology) -> Result<Vec<StageLayout>> {
    let stage = |k: usize| match topology.sharing(n, k) {
        Sharing::PerBlock => Ok(topology.stage(n, k)),
        _ => Err(Error::Unsupported {
            what: "fit",
            expected: "a wiring whose blocks are independent",
            got: topology.name().to_string(),
        }),
    };
    (0..topology.num_stages(n)?).map(stage).collect()
}
