//! The plan: structure without numbers, and the four verbs on it.
//!
//! `realize` turns parameters θ into blocks, `apply` multiplies, and each has its adjoint: `realize_vjp`, `apply_vjp`.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::{Error, Result};
use crate::kernel;
use crate::layout::StageLayout;
use crate::parametrization::Parametrization;
use crate::scalar::Scalar;
use crate::topology::{Topology, layouts};

mod apply;
mod assemble;
mod digest;
mod entries;
mod explain;
mod factors;
mod lipschitz;
mod reflectors;
mod stage;

pub use crate::kernel::{Kernel, Saved};
pub use apply::{Op, Workspace};
pub(crate) use assemble::Part;
pub use explain::{ExplainedPass, Explanation};
pub use factors::Factors;
pub use lipschitz::Lipschitz;
pub use stage::{Source, Stage};

/// The structure of Q = F_m ··· F_2 F_1: which coordinates meet, and where each stage's blocks come from.
///
/// A plan holds no trainable numbers. θ is one flat real slice, the stages' parameters one after the other and in each
/// stage the parameter groups one after the other. Cheap to clone; `Send + Sync`.
///
/// ```
/// use papilio::{Batch, BatchMut, Op, Parallelism, Plan, Workspace, parametrization::Cayley, topology::Butterfly};
/// let plan = Plan::<f32>::new(1024, &Butterfly::boft(4, 8)?, Cayley)?;
/// let theta = vec![0.1f32; plan.num_params()];
/// let factors = plan.realize(&theta)?;
/// let x = vec![1.0f32; 3 * 1024];
/// let mut y = vec![0.0f32; 3 * 1024];
/// let (input, output) = (Batch::rows(&x, 1024)?, BatchMut::rows(&mut y, 1024)?);
/// plan.apply(&factors, input, output, Op::None, Parallelism::Rayon, &mut Workspace::new())?;
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Plan<T: Scalar> {
    n: usize,
    stages: Arc<[Stage<T>]>,
    num_params: usize,
    num_entries: usize,
    num_couplings: usize,
    digest: u64,
    passes: Arc<kernel::Passes>,
    /// Forward and transposed.
    routes: Arc<[Option<kernel::Route>; 2]>,
}

impl<T: Scalar> Plan<T> {
    /// A plan for vectors of length `n`: one chart for all blocks of a wiring, which also says what blocks share parameters.
    ///
    /// # Errors
    /// [`Error::Size`] if `n` does not fit the topology or a block size the chart; what
    /// [`StageLayout::validate`] finds wrong with a layout.
    pub fn new(n: usize, topology: &dyn Topology, chart: impl Parametrization<T::Wide> + 'static) -> Result<Self> {
        let chart: Arc<dyn Parametrization<T::Wide>> = Arc::new(chart);
        let source = |sharing| Source::Chart { chart: chart.clone(), sharing };
        let stages = layouts(n, topology)?.into_iter().map(|(layout, sharing)| (layout, source(sharing)));
        Self::from_stages(n, stages)
    }

    /// A plan from stages given one by one; the first acts first.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::Length`] for fixed blocks or groups that do not match the layout;
    /// [`Error::Domain`] for fixed blocks that are not finite; [`Error::Size`] for more
    /// orthonormal reflectors than coordinates.
    pub fn from_stages(n: usize, stages: impl IntoIterator<Item = (StageLayout, Source<T>)>) -> Result<Self> {
        let mut plan = Self::identity(n)?;
        let mut built = Vec::new();
        for (layout, source) in stages {
            let starts = (plan.num_params, plan.num_entries, plan.num_couplings);
            let stage = Stage::new(n, layout, source, starts)?;
            (plan.num_params, plan.num_entries) = (stage.theta().end, stage.entries().end);
            plan.num_couplings = stage.couplings().end;
            built.push(stage);
        }
        Ok(plan.with_stages(built))
    }

    /// The identity on vectors of length `n`: no stages, no parameters.
    ///
    /// # Errors
    /// [`Error::Size`] unless 1 ≤ n < 2³².
    pub fn identity(n: usize) -> Result<Self> {
        if n == 0 || n > u32::MAX as usize {
            return Err(Error::Size { what: "plan", expected: "1 <= n < 2^32".to_string(), got: n.to_string() });
        }
        let plan = Self {
            n,
            stages: Arc::new([]),
            num_params: 0,
            num_entries: 0,
            num_couplings: 0,
            digest: 0,
            passes: Arc::default(),
            routes: Arc::default(),
        };
        Ok(plan.with_stages([]))
    }

    /// First this plan, then `next`: Q = Q_next · Q_self, θ = [θ_self, θ_next].
    ///
    /// # Errors
    /// [`Error::Length`] if the sizes differ.
    pub fn then(self, next: Self) -> Result<Self> {
        crate::error::check_length("next plan", self.n, next.n)?;
        let (theta, entries, couplings) = (self.num_params, self.num_entries, self.num_couplings);
        let sum = |a: usize, b: usize| a.checked_add(b).filter(|sum| *sum <= stage::MOST_NUMBERS);
        let sums = (sum(theta, next.num_params), sum(entries, next.num_entries), sum(couplings, next.num_couplings));
        let (Some(num_params), Some(num_entries), Some(num_couplings)) = sums else {
            return Err(Error::Size {
                what: "composed plan",
                expected: "parameters and entries that fit the memory".to_string(),
                got: format!("{theta} + {} parameters, {entries} + {} entries", next.num_params, next.num_entries),
            });
        };
        let stages: Vec<_> = self
            .stages
            .iter()
            .cloned()
            .chain(next.stages.iter().map(|s| s.shifted(theta, entries, couplings)))
            .collect();
        Ok(Self { num_params, num_entries, num_couplings, ..self }.with_stages(stages))
    }

    /// The digest is a sum over the stages, so that it does not depend on their order: adjoint plans have the same.
    fn with_stages(mut self, stages: impl Into<Arc<[Stage<T>]>>) -> Self {
        self.stages = stages.into();
        let parts = self.stages.iter().map(|stage| stage.digest());
        self.digest = parts.fold(self.n as u64, u64::wrapping_add);
        self.passes = Arc::new(kernel::Passes::new::<T>(self.stages.iter().map(Stage::pairs).collect()));
        let forward = kernel::Route::new(self.n, self.stages.iter().map(Stage::pairs_anywhere));
        let transposed = self.stages.iter().rev().map(|stage| stage.pairs_anywhere().map(kernel::Anywhere::transposed));
        let transposed = kernel::Route::new(self.n, transposed.take(if forward.is_some() { usize::MAX } else { 0 }));
        self.routes = Arc::new([forward, transposed]);
        self
    }

    /// The plan of Qᴴ. It takes the same θ and the same [`Factors`].
    pub fn adjoint(&self) -> Self {
        self.clone().with_stages(self.stages.iter().rev().map(Stage::adjoint).collect::<Vec<_>>())
    }

    /// Length of the vectors.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Length of θ.
    pub fn num_params(&self) -> usize {
        self.num_params
    }

    /// Number of stages.
    pub fn num_stages(&self) -> usize {
        self.stages.len()
    }

    /// The stages; the first acts first.
    pub fn stages(&self) -> &[Stage<T>] {
        &self.stages
    }

    /// Length of a gradient with respect to the factors: the entries of all stored blocks, and zeros that fill up panels of them.
    pub fn num_entries(&self) -> usize {
        self.num_entries
    }

    /// Whether every block is orthogonal up to rounding (fixed ones to a LAPACK ratio of 2), so that stages can be run
    /// backwards.
    pub fn is_exact(&self) -> bool {
        self.stages.iter().all(|stage| stage.is_exact())
    }
}
