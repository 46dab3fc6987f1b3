//! Descent by gradients, for losses that are not Frobenius norms and targets that are not matrices.
//!
//! A [`Loss`] is any function of y = Qx with its gradient. What it says about y goes back to all blocks through the plan's own
//! pullback, and [`Method::Lbfgs`] or [`Method::Adam`] follows. A step costs a product with Q and a gradient for the batch, O(batch·n·b·m), and no
//! n×n matrix is ever formed.
//!
//! * [`descend`] moves the blocks themselves, from base to base on the group (`model.rs`), so no chart gets into the way. Blocks stay in
//!   their component: determinants are those of the start.
//! * [`descend_theta`] moves θ of a plan of any kind: charts, shared parameters, fixed stages, reflectors. A chart that is driven far out is
//!   re-based between two descents by [`Orthogonal::rebase`](crate::Orthogonal::rebase).
//!
//! For a Frobenius norm [`alternating`](super::alternating) is faster: every visit of a stage is a maximum.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::alternating::{check, initial};
use super::{Fit, Options, Progress, Start, Stop, Target};
use crate::error::{Error, Result, check_length};
use crate::generator::Generator;
use crate::layout::StageLayout;
use crate::plan::{Plan, Source};
use crate::scalar::{Scalar, Wide};

pub(crate) mod adam;
mod lbfgs;
mod loss;
mod model;

pub use loss::{BlackBox, LeastSquares, Loss};
use model::{Blocks, Flat, Problem};

/// How to follow gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// L-BFGS: fast for a loss that stays the same. It keeps to the batch of round 0, and the loss never grows.
    Lbfgs {
        /// Steps that are remembered; 10 is a good number.
        memory: usize,
    },
    /// Adam: a new batch in every round.
    Adam {
        /// Length of a step for each parameter, for blocks in radians; 0.01 to 0.1 are usual.
        rate: f64,
        /// How the rate changes.
        schedule: Schedule,
    },
}

impl Default for Method {
    fn default() -> Self {
        Self::Lbfgs { memory: 10 }
    }
}

/// How the rate of [`Method::Adam`] changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Schedule {
    /// Half a cosine, from the full rate to nothing at the last of [`Options::sweeps`].
    #[default]
    Cosine,
    /// Not at all.
    Constant,
}

/// Where a descent came to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Descent<T: Scalar> {
    plan: Plan<T>,
    theta: Vec<f64>,
    /// The loss there. Adam on random batches: a mean over the rounds up to there, of points on the way and the latest ones weighing most.
    /// L-BFGS on random batches: that of the batch of round 0.
    pub loss: f64,
    /// The loss before the first step, and after each.
    pub curve: Vec<f64>,
    /// Steps of the run that was best.
    pub steps: usize,
    /// Why it ended.
    pub stop: Stop,
}

impl<T: Scalar> Descent<T> {
    /// The product: fixed blocks after [`descend`], the plan that was given after [`descend_theta`].
    pub fn plan(&self) -> &Plan<T> {
        &self.plan
    }

    /// Parameters of the plan; none if all its blocks are fixed.
    pub fn theta(&self) -> &[f64] {
        &self.theta
    }
}

impl<W: Wide> Descent<W> {
    /// What [`descend`] found, measured against a matrix; curve and reason to stop are those of the descent.
    ///
    /// # Errors
    /// [`Error::Length`] if the sizes differ, [`Error::Unsupported`] for a plan with parameters.
    pub fn into_fit(self, target: &Target<W>, options: &Options) -> Result<Fit<W>> {
        check_length("length n of the target", self.plan.n(), target.n())?;
        let block = |stage: &crate::plan::Stage<W>| match stage.source() {
            Source::Fixed(blocks) => Ok((stage.layout().clone(), blocks.to_vec())),
            _ => Err(Error::Unsupported {
                what: "fit of a descent",
                expected: "fixed blocks, what `descend` finds",
                got: "a plan with parameters".to_string(),
            }),
        };
        let stages = self.plan.stages().iter().map(block).collect::<Result<Vec<_>>>()?;
        let (layouts, blocks): (Vec<_>, Vec<_>) = stages.into_iter().unzip();
        let fit = Fit::new(target, &layouts, blocks, options.parallelism)?;
        Ok(Fit { curve: self.curve, sweeps: self.steps, stop: self.stop, ..fit })
    }
}

/// Blocks of these layouts that make a loss small, from [`Options::start`].
///
/// Of the options a *sweep* is a step: a run ends after [`Options::sweeps`] steps, at a loss of [`Options::goal`] (with 0, the default, of
/// exactly 0: losses have no common unit of rounding, and some become negative), and L-BFGS also when five steps in a row each win
/// less than [`Options::tolerance`] of the loss, when no step lowers it, or the gradient is that of rounding. The watcher is told the loss before every step. What is returned is always
/// the best point so far: the one with the smallest loss, or smallest mean over the last rounds for [random](Loss::is_random) batches.
/// A loss that becomes NaN or infinite is a step too long for L-BFGS and the [end](Stop::Diverged) for Adam.
///
/// ```
/// use papilio::fit::{self, BlackBox, Method, Options};
/// use papilio::topology::Butterfly;
///
/// // A target that can only be applied: the Walsh–Hadamard transform of 8, up to a sign a product of rotations.
/// let hadamard = |x: &[f64], t: &mut [f64]| {
///     for (x, t) in x.chunks(8).zip(t.chunks_mut(8)) {
///         for (i, t) in t.iter_mut().enumerate() {
///             *t = (0..8).map(|k| if (i & k).count_ones() % 2 == 0 { x[k] } else { -x[k] } / 8f64.sqrt()).sum();
///         }
///     }
///     Ok(())
/// };
/// let mut options = Options::default();
/// options.goal = 1e-20;
/// let found = fit::descend(
///     8,
///     &fit::layouts(8, &Butterfly::classic(2))?,
///     &mut BlackBox::new(8, 16, 0, hadamard)?,
///     Method::default(),
///     &options,
///     &mut |_| std::ops::ControlFlow::Continue(()),
/// )?;
/// assert!(found.loss <= 1.0 && found.curve.windows(2).all(|pair| pair[1] < pair[0]));
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// What [`StageLayout::validate`] finds wrong with a layout; [`Error::Unsupported`] for [`Group::Special`](super::Group::Special) over the complex
/// numbers; [`Error::Size`] for a batch that is empty or not one of whole vectors; [`Error::Domain`] for a rate that is not positive, and
/// for a loss that is not finite at the start; errors of the loss.
pub fn descend<W: Wide>(
    n: usize,
    stages: &[StageLayout],
    loss: &mut dyn Loss<W>,
    method: Method,
    options: &Options,
    watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Descent<W>> {
    check(n, stages, options.group, W::IS_COMPLEX)?;
    let mut model = Blocks::new(n, stages, loss, options.parallelism)?;
    let mut best: Option<Found> = None;
    for restart in 0..options.restarts.max(1) {
        let mut generator = Generator::new(options.seed.wrapping_add(restart as u64));
        let start = if restart > 0 { Start::Random } else { options.start };
        let blocks: Vec<Vec<W>> =
            stages.iter().map(|layout| initial(layout, start, options.group, &mut generator)).collect();
        let point = model.point(&blocks)?;
        let found = match run(&mut model, point, method, restart, options, watch) {
            // A start of no use is no reason to lose what there is.
            Err(error) if best.is_some() && error == not_finite() => continue,
            found => found?,
        };
        let stop = found.stop;
        if best.as_ref().is_none_or(|best| found.loss < best.loss) {
            best = Some(found);
        }
        if matches!(stop, Stop::Exact | Stop::Interrupted) {
            if let Some(best) = &mut best {
                best.stop = stop;
            }
            break;
        }
    }
    let Some(found) = best else { return Err(not_finite()) };
    let sources = stages.iter().cloned().zip(model.blocks(&found.point).into_iter().map(|b| Source::Fixed(b.into())));
    Ok(found.into_descent(Plan::from_stages(n, sources)?, Vec::new()))
}

/// Parameters of any plan that make a loss small, from `theta` on. Options as for [`descend`], without group, start and restarts.
///
/// # Errors
/// As [`Plan::realize`] for `theta`; otherwise as [`descend`].
pub fn descend_theta<T: Scalar>(
    plan: &Plan<T>,
    theta: &[f64],
    loss: &mut dyn Loss<T>,
    method: Method,
    options: &Options,
    watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Descent<T>> {
    let mut model = Flat::new(plan.clone(), loss, options.parallelism);
    let mut found = run(&mut model, theta.to_vec(), method, 0, options, watch)?;
    let theta = core::mem::take(&mut found.point);
    Ok(found.into_descent(plan.clone(), theta))
}

/// One run of an optimizer.
struct Found {
    point: Vec<f64>,
    loss: f64,
    curve: Vec<f64>,
    stop: Stop,
}

impl Found {
    fn into_descent<T: Scalar>(self, plan: Plan<T>, theta: Vec<f64>) -> Descent<T> {
        let Self { loss, curve, stop, .. } = self;
        Descent { plan, theta, loss, steps: curve.len() - 1, curve, stop }
    }
}

fn run(
    problem: &mut dyn Problem,
    point: Vec<f64>,
    method: Method,
    restart: usize,
    options: &Options,
    watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Found> {
    // L-BFGS sees one round only, whose loss is a fixed function.
    let varies = problem.is_random() && matches!(method, Method::Adam { .. });
    let keep = if varies { SMOOTH } else { 0.0 };
    let best = (f64::INFINITY, point.clone());
    let mut course = Course { options, watch, restart, curve: Vec::new(), keep, mean: 0.0, weight: 0.0, best };
    let stop = match method {
        Method::Lbfgs { memory } => lbfgs::lbfgs(problem, point, memory, options.tolerance, &mut course)?,
        Method::Adam { rate, .. } if !(rate > 0.0 && rate < f64::INFINITY) => {
            return Err(Error::Domain {
                what: "rate of Adam".to_string(),
                expected: "a positive number",
                got: rate.to_string(),
            });
        }
        Method::Adam { rate, schedule } => adam::adam(problem, point, (rate, schedule), options.sweeps, &mut course)?,
    };
    let (loss, point) = course.best;
    Ok(Found { point, loss, curve: course.curve, stop })
}

/// How much of a mean over random rounds is older than the last one.
const SMOOTH: f64 = 0.9;

/// The way so far and its best point.
struct Course<'a> {
    options: &'a Options,
    watch: &'a mut dyn FnMut(&Progress) -> ControlFlow<()>,
    restart: usize,
    curve: Vec<f64>,
    keep: f64,
    /// Weighted sum of losses, and of weights.
    mean: f64,
    weight: f64,
    best: (f64, Vec<f64>),
}

impl Course<'_> {
    /// Takes down a point, and says whether to stop there.
    fn visit(&mut self, point: &[f64], loss: f64) -> Option<Stop> {
        self.curve.push(loss);
        self.mean = self.keep * self.mean + (1.0 - self.keep) * loss;
        self.weight = self.keep * self.weight + (1.0 - self.keep);
        let mean = self.mean / self.weight;
        if mean < self.best.0 {
            self.best.0 = mean;
            self.best.1.copy_from_slice(point);
        }
        let sweep = self.curve.len() - 1;
        if (self.watch)(&Progress { restart: self.restart, sweep, error: loss }).is_break() {
            return Some(Stop::Interrupted);
        }
        let goal = self.options.goal;
        let reached = if goal == 0.0 { mean == 0.0 } else { mean <= goal };
        if reached {
            return Some(Stop::Exact);
        }
        (sweep >= self.options.sweeps).then_some(Stop::Sweeps)
    }
}

fn not_finite() -> Error {
    Error::Domain {
        what: "loss at the start".to_string(),
        expected: "a finite number with a finite gradient",
        got: "NaN or infinity".to_string(),
    }
}
