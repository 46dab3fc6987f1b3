//! Information transmission: what a wiring connects, what that costs, and how many dimensions it gives.
//!
//! A product Q = F_m ··· F_1 of sparse matrices is a network of m + 1 levels (Liu et al. 2024, arXiv 2311.06243, section 3).
//! Below, what input 0 reaches in a Beneš network, and the density of the product after each stage:
//!
#![doc = include_str!("../../docs/transmission/benes-8.svg")]
//!
//! A network should connect every input to every output (*dense connectivity*) with few *free edges*. [`Transmission::of`]
//! reports on a plan:
//!
//! ```
//! use papilio::{Plan, Transmission, parametrization::Cayley, topology::{BlockDiagonal, Butterfly}};
//!
//! // The paper's example, d = 4: 12 free edges for a dense rotation, 8 for the butterfly.
//! let dense = Transmission::of(&Plan::<f64>::new(4, &BlockDiagonal::new(4), Cayley)?)?;
//! let butterfly = Transmission::of(&Plan::<f64>::new(4, &Butterfly::classic(2), Cayley)?)?;
//! assert_eq!((dense.free_edges, butterfly.free_edges), (12, 8));
//! assert_eq!((dense.density(), butterfly.density()), (1.0, 1.0));
//!
//! // BOFT(4, 8) at n = 64: 288 of 896 parameters move nothing that others do not move.
//! let boft = Transmission::of(&Plan::<f64>::new(64, &Butterfly::boft(4, 8)?, Cayley)?)?;
//! assert_eq!((boft.params, boft.dimension.unwrap().value()), (896, 608));
//! # Ok::<(), papilio::Error>(())
//! ```
//!
//! | question | answer | cost |
//! |---|---|---|
//! | which inputs reach which outputs, and after how many stages all? | [`Network::reachability`] | m·n²/64 |
//! | at what depth does a family become dense? | [`smallest_dense_depth`] | that, for each depth |
//! | over how many paths? | [`Network::paths`] | m·n² |
//! | how many free edges? | [`Network::free_edges`] | m |
//! | how many dimensions has {Q}? | [`Network::rotation_dimension`] in closed form, [`jacobian_rank`] numerically | m·n·log n; 4/3·p³ |
//! | what does it look like? | [`Network::picture`] | |
//!
//! A block is taken to be full: reachability is that of generic blocks. Special ones (θ = 0, shared parameters that cancel) may
//! connect less.

use core::ops::ControlFlow;

use alloc::vec::Vec;

mod closed;
mod dimension;
mod network;
mod paths;
mod picture;
mod reach;

pub use dimension::{JacobianRank, RankOptions, jacobian_rank};
pub use network::Network;
pub use paths::Paths;
pub use picture::MOST_DRAWN;
pub use reach::{MOST_REACHABILITY, Reachability, smallest_dense_depth};

use crate::error::Result;
use crate::plan::{Plan, Source};
use crate::scalar::Scalar;

/// What a plan's network transmits, and at what price.
#[derive(Debug, Clone, PartialEq)]
pub struct Transmission {
    /// Length of the vectors.
    pub n: usize,
    /// Density of the product of the first k stages, k = 0, …, m: connected pairs over n².
    pub densities: Vec<f64>,
    /// The least number of first stages whose product is dense.
    pub dense_after: Option<usize>,
    /// Free edges by the accounting of the paper; see [`Network::free_edges`].
    pub free_edges: u64,
    /// Paths between inputs and outputs; `None` where counting takes too long.
    pub paths: Option<Paths>,
    /// Nominal parameters: the length of θ.
    pub params: usize,
    /// What the dimension cannot exceed: the parameters less gauge freedom, where the blocks are all rotations, and the
    /// dimension of all rotations (unitary matrices, matrices) that the connected parts allow.
    pub dimension_bound: u64,
    /// Effective dimension: how many directions Q can move in. `None` where neither a formula is known nor the rank computed.
    pub dimension: Option<Dimension>,
    /// Work and memory traffic of an apply.
    pub cost: Cost,
}

/// The effective dimension, and how it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Dimension {
    /// By a theorem on the wiring; see [`Network::rotation_dimension`].
    ClosedForm(usize),
    /// As the rank of the parameter Jacobian at a random point, with a clear gap.
    Rank(JacobianRank),
}

impl Dimension {
    /// That of a plan as [`Transmission::with`] has it, without reachability, and what it cannot exceed.
    pub(crate) fn of<T: Scalar>(
        plan: &Plan<T>,
        options: &RankOptions,
        progress: impl FnMut(f64) -> ControlFlow<()>,
    ) -> Result<(Option<Self>, u64)> {
        let network = Network::of(plan);
        let closed = if dimension::has_rotations(plan) { network.rotation_dimension() } else { None };
        let dimension = match closed {
            Some(value) => Some(Self::ClosedForm(value)),
            None => jacobian_rank(plan, options, progress)?.filter(JacobianRank::is_clear).map(Self::Rank),
        };
        Ok((dimension, dimension::bound(plan)))
    }

    /// The number.
    pub fn value(&self) -> usize {
        match self {
            Dimension::ClosedForm(value) => *value,
            Dimension::Rank(found) => found.rank,
        }
    }
}

/// Work and memory traffic of [`Plan::apply`]. All stages run while a vector is in cache, so it moves in once and out once; the
/// entries are read once for a batch that fits a tile, and from cache again for each further tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Multiplications with addition for each vector, in the plan's scalar: b² for each block, 2b for each reflection of a product
    /// of Householder reflections (which is never formed). One is two flops for real numbers.
    pub multiply_adds: u64,
    /// Bytes of the stored blocks and of what fills up panels of them; shared ones count once.
    pub entry_bytes: u64,
    /// Bytes of a vector, in and out.
    pub vector_bytes: u64,
}

impl Transmission {
    /// All figures, with the default [`RankOptions`].
    ///
    /// # Errors
    /// Those of [`Network::reachability`].
    pub fn of<T: Scalar>(plan: &Plan<T>) -> Result<Self> {
        Self::with(plan, &RankOptions::default(), |_| ControlFlow::Continue(()))
    }

    /// All figures. The effective dimension comes from a closed form if there is one for the wiring and every block is a rotation
    /// of its own: a chart over real numbers with b(b − 1)/2 parameters, which then are coordinates of SO(b). Otherwise it is
    /// the rank of the Jacobian, if that is affordable and clear. `progress` is told the share of the reachability that is done,
    /// then that of the rank, and may stop both.
    ///
    /// # Errors
    /// Those of [`Network::reachability`] and [`jacobian_rank`].
    pub fn with<T: Scalar>(
        plan: &Plan<T>,
        options: &RankOptions,
        mut progress: impl FnMut(f64) -> ControlFlow<()>,
    ) -> Result<Self> {
        let network = Network::of(plan);
        let reach = network.reachability_with(&mut progress)?;
        let (dimension, dimension_bound) = Dimension::of(plan, options, progress)?;
        Ok(Self {
            n: plan.n(),
            densities: reach.densities().collect(),
            dense_after: reach.dense_after(),
            free_edges: network.free_edges(),
            paths: network.paths(),
            params: plan.num_params(),
            dimension_bound,
            dimension,
            cost: Cost::of(plan),
        })
    }

    /// Number of stages.
    pub fn num_stages(&self) -> usize {
        self.densities.len().saturating_sub(1)
    }

    /// Density of the whole product.
    pub fn density(&self) -> f64 {
        self.densities.last().copied().unwrap_or(0.0)
    }
}

impl Cost {
    /// Of one plan.
    pub fn of<T: Scalar>(plan: &Plan<T>) -> Self {
        let size = size_of::<T>() as u64;
        let work = plan.stages().iter().map(|stage| {
            let b = stage.layout().block_size() as u64;
            let row = match stage.source() {
                Source::Reflectors { count, .. } => (*count as u64).saturating_mul(2),
                _ => b,
            };
            row.saturating_mul(b).saturating_mul(stage.layout().num_blocks() as u64)
        });
        Self {
            multiply_adds: work.fold(0, u64::saturating_add),
            entry_bytes: size.saturating_mul(plan.num_entries() as u64),
            vector_bytes: 2 * size * plan.n() as u64,
        }
    }
}
