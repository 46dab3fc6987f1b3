//! Which structure? Fits of many wirings to one target, and which of them are worth their price.
//!
//! The price of a structure is its number of parameters p = Σ dim of the blocks' group; or its *effective* dimension, the directions in
//! which R can move (`transmission`), which is fair to block sizes: large blocks share a gauge freedom with their neighbours. What is
//! not dominated is the Pareto front.
//!
//! What to expect of a target without structure (Haar): e ≈ 1 − c·√(2p)/n, with c from 0.85 (one stage of blocks) to 1.4 (deep products of
//! pairs) and c → 1 as p → n(n − 1)/2. So no structure of O(n log n) parameters comes near, and half of the way (e = ½) takes about an eighth
//! of all n²/2 directions.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::alternating::check;
use super::automatic::fit;
use super::{Fit, Options, Progress, Stop, Target, layouts, num_parameters, rounding};
use crate::error::{Error, Result};
use crate::layout::StageLayout;
use crate::parametrization::Cayley;
use crate::plan::{Plan, Source};
use crate::scalar::{Scalar, Wide, c64};
use crate::transmission::{Cost, Dimension, RankOptions};

mod candidates;
mod pareto;

pub use candidates::{Candidate, candidates};
pub use pareto::pareto;

/// What a structure may cost, and what is good enough. Start from `Budget::default()`, which sets no limit, and set what should be
/// different.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Budget {
    /// Parameters, at most.
    pub parameters: usize,
    /// Effective dimension, at most; where it is not known, its upper bound must keep to it.
    pub dimension: usize,
    /// An error e that is good enough: a family of wirings that reaches it has no larger ones tried.
    pub error: f64,
    /// The largest matrix whose rank is computed for an effective dimension that no formula gives; see [`RankOptions::most`].
    pub rank: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { parameters: usize::MAX, dimension: usize::MAX, error: 0.0, rank: 1024 }
    }
}

/// What the watcher of [`explore`] is told before every sweep. It answers whether to go on.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Step<'a> {
    /// Which candidate, of those that may be tried.
    pub index: usize,
    /// How many these are. Some are left out later: those of families that have reached the error, or beyond the dimension.
    pub count: usize,
    /// What the candidate is.
    pub candidate: &'a Candidate,
    /// How its fit gets on; `None` while its dimension is counted.
    pub fit: Option<Progress>,
}

/// A structure that was tried.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Row<W: Wide> {
    /// Which wiring.
    pub candidate: Candidate,
    /// Size of its largest blocks.
    pub block: usize,
    /// Number of stages.
    pub stages: usize,
    /// [`Fit::num_parameters`]
    pub parameters: usize,
    /// The effective dimension, where it is known: the directions in which the product can move.
    pub dimension: Option<Dimension>,
    /// What it cannot exceed.
    pub dimension_bound: usize,
    /// Real operations for each vector: 2 for a multiplication with addition, 8 for a complex one.
    pub flops: u64,
    /// The product that was found.
    pub fit: Fit<W>,
    /// No other row has fewer parameters and no larger error, or as many and a smaller one.
    pub pareto: bool,
    /// The same with the effective dimension in the place of parameters.
    pub pareto_dimension: bool,
}

impl<W: Wide> Row<W> {
    /// Its error; 0 where that is of rounding.
    fn rated(&self) -> f64 {
        if self.fit.error <= rounding(self.stages) { 0.0 } else { self.fit.error }
    }

    /// The effective dimension, or its bound where it is not known.
    pub fn effective_dimension(&self) -> usize {
        self.dimension.map_or(self.dimension_bound, |found| found.value())
    }
}

/// What [`explore`] has found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Exploration<W: Wide> {
    /// In order of parameters.
    pub rows: Vec<Row<W>>,
    /// The watcher ended it: there may be more to find. The fit that was going on then is the last row that was tried, with
    /// [`Stop::Interrupted`].
    pub interrupted: bool,
}

impl<W: Wide> Exploration<W> {
    /// The row with the fewest parameters among those with an error of at most `error`, or (unless that is negative) of rounding.
    pub fn cheapest(&self, error: f64) -> Option<&Row<W>> {
        self.rows.iter().filter(|row| row.rated() <= error).min_by_key(|row| row.parameters)
    }

    /// The row with the smallest error; of equal ones, that with the fewest parameters. Errors of rounding are equal.
    pub fn best(&self) -> Option<&Row<W>> {
        self.rows.iter().min_by(|a, b| a.rated().total_cmp(&b.rated()).then(a.parameters.cmp(&b.parameters)))
    }
}

/// Fits candidates within the budget to a target, in order of parameters, each as [`fit`](super::fit()) does; those of
/// [`candidates`], or any others.
///
/// Times are not measured here; whoever has a clock can time `row.fit.plan()` and mark a front with [`pareto`].
///
/// ```
/// use papilio::fit::{self, Budget, Options, Target};
///
/// // The Walsh–Hadamard matrix of 16: which structure has it?
/// let h: Vec<f64> = (0..256u32).map(|at| if ((at / 16) & (at % 16)).count_ones() % 2 == 0 { 0.25 } else { -0.25 }).collect();
/// let target = Target::new(16, &h)?;
/// let mut budget = Budget::default();
/// budget.parameters = 64;
/// let all = fit::candidates(&target, &budget, 0);
/// let go_on = &mut |_: &fit::Step| std::ops::ControlFlow::Continue(());
/// let found = fit::explore(&target, &all, &budget, &Options::default(), go_on)?;
/// let cheapest = found.cheapest(1e-28).expect("a butterfly has it");
/// assert_eq!((cheapest.candidate.name.as_str(), cheapest.parameters, cheapest.pareto), ("BOFT(4, 2)", 32, true));
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// Those of [`fit`](super::fit()); of candidates that do not fit the target's size; and [`Error::Size`] without memory for a Jacobian.
pub fn explore<W: Wide>(
    target: &Target<W>,
    candidates: &[Candidate],
    budget: &Budget,
    options: &Options,
    watch: &mut dyn FnMut(&Step<'_>) -> ControlFlow<()>,
) -> Result<Exploration<W>> {
    let n = target.n();
    let mut all = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let stages = layouts(n, &*candidate.topology)?;
        check(n, &stages, options.group, W::IS_COMPLEX)?;
        let parameters = num_parameters::<W>(&stages);
        if parameters <= budget.parameters {
            all.push((parameters, candidate));
        }
    }
    all.sort_by_key(|(parameters, _)| *parameters);
    let options = &Options { goal: options.goal.max(budget.error), ..options.clone() };
    let (mut rows, mut reached): (Vec<Row<W>>, Vec<&str>) = (Vec::new(), Vec::new());
    let mut interrupted = false;
    for (index, (_, candidate)) in all.iter().enumerate() {
        if reached.contains(&candidate.family.as_str()) {
            continue;
        }
        let mut tell = |fit| watch(&Step { index, count: all.len(), candidate, fit });
        let stages = layouts(n, &*candidate.topology)?;
        let (dimension, bound, cost) = match report::<W>(n, &stages, budget.rank, &mut || tell(None)) {
            Err(Error::Interrupted { .. }) => {
                interrupted = true;
                break;
            }
            report => report?,
        };
        let dimension_bound = usize::try_from(bound).unwrap_or(usize::MAX);
        if dimension.map_or(dimension_bound, |found| found.value()) > budget.dimension {
            continue;
        }
        let fit = fit(target, &stages, options, &mut |progress| tell(Some(*progress)))?;
        interrupted = fit.stop == Stop::Interrupted;
        if fit.error <= budget.error.max(rounding(stages.len())) {
            reached.push(&candidate.family);
        }
        rows.push(Row {
            candidate: (*candidate).clone(),
            block: stages.iter().map(StageLayout::block_size).max().unwrap_or(0),
            stages: stages.len(),
            parameters: num_parameters::<W>(&stages),
            dimension,
            dimension_bound,
            flops: cost.multiply_adds.saturating_mul(if W::IS_COMPLEX { 8 } else { 2 }),
            fit,
            pareto: false,
            pareto_dimension: false,
        });
        if interrupted {
            break;
        }
    }
    mark(&mut rows, options.goal);
    Ok(Exploration { rows, interrupted })
}

/// Marks both fronts. Errors below the goal are as good as the goal, and those of rounding as good as none.
fn mark<W: Wide>(rows: &mut [Row<W>], goal: f64) {
    let front = |price: fn(&Row<W>) -> usize| {
        let points = rows.iter().map(|row| (price(row) as f64, row.rated().max(goal)));
        pareto(&points.collect::<Vec<_>>())
    };
    let (by_parameters, by_dimension) = (front(|row| row.parameters), front(Row::effective_dimension));
    for ((row, by_parameters), by_dimension) in rows.iter_mut().zip(by_parameters).zip(by_dimension) {
        (row.pareto, row.pareto_dimension) = (by_parameters, by_dimension);
    }
}

type Report = (Option<Dimension>, u64, Cost);

/// Dimension and what it cannot exceed, and the cost, which depend on the wiring alone.
fn report<W: Wide>(
    n: usize,
    stages: &[StageLayout],
    most: usize,
    watch: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Report> {
    fn of<T: Scalar>(plan: &Plan<T>, most: usize, watch: &mut dyn FnMut() -> ControlFlow<()>) -> Result<Report> {
        let (dimension, bound) = Dimension::of(plan, &RankOptions { most, ..RankOptions::default() }, |_| watch())?;
        Ok((dimension, bound, Cost::of(plan)))
    }
    if W::IS_COMPLEX {
        let stages = stages.iter().map(|layout| (layout.clone(), Source::chart(Cayley)));
        of(&Plan::<c64>::from_stages(n, stages)?, most, watch)
    } else {
        let stages = stages.iter().map(|layout| (layout.clone(), Source::chart(Cayley)));
        of(&Plan::<f64>::from_stages(n, stages)?, most, watch)
    }
}
