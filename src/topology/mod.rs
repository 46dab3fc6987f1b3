//! Wirings: which coordinates meet in a stage.
//!
//! A wiring is one file with one type implementing [`Topology`]; it may live outside this crate. It only says, for a
//! size `n`, how many stages there are and which coordinates each block of a stage acts on.

use core::fmt::Debug;

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::Result;
pub use crate::layout::{Sharing, StageLayout};

mod any_butterfly;
mod benes;
mod binary_tree;
mod block_diagonal;
mod butterfly;
mod explicit;
mod generalized_boft;
mod group_and_shuffle;
mod kaleidoscope;
mod kronecker;
mod limits;
mod meshes;
mod mixed_radix;
mod monarch;
mod random;
mod repeated;
mod reversed;
mod sequence;
mod shared;

pub use any_butterfly::AnyButterfly;
pub use benes::Benes;
pub use binary_tree::BinaryTree;
pub use block_diagonal::BlockDiagonal;
pub use butterfly::Butterfly;
pub use explicit::Explicit;
pub use generalized_boft::GeneralizedBoft;
pub use group_and_shuffle::GroupAndShuffle;
pub use kaleidoscope::Kaleidoscope;
pub use kronecker::Kronecker;
pub(crate) use limits::check_permutation;
pub use meshes::{Brick, Triangle};
pub use mixed_radix::MixedRadix;
pub use monarch::Monarch;
pub use random::{RandomPairings, RandomShuffle, RandomTables};
pub use repeated::Repeated;
pub use reversed::Reversed;
pub use sequence::Sequence;
pub use shared::Shared;

/// Which coordinates meet in which stage, for every size it supports.
///
/// # Laws
/// Each is a function in [`verify::laws`](crate::verify::laws):
/// 1. For every `n`, `num_stages` gives a number or a typed error that names sizes which fit; it never panics.
/// 2. Every stage's blocks name indices below `n`, and no index twice. Unnamed coordinates pass through.
/// 3. The same arguments give the same layout.
pub trait Topology: Debug + Send + Sync {
    /// The field's name for it, for messages.
    fn name(&self) -> &'static str;

    /// Number of stages for vectors of length `n`.
    ///
    /// # Errors
    /// [`Error::Size`](crate::Error::Size) naming what fits.
    fn num_stages(&self, n: usize) -> Result<usize>;

    /// The layout of stage `k` (stage 0 acts first), for an `n` and `k` that [`num_stages`](Self::num_stages) accepts.
    fn stage(&self, n: usize, k: usize) -> StageLayout;

    /// Which blocks of stage `k` are one and the same block; by default each has its own parameters.
    fn sharing(&self, _n: usize, _k: usize) -> Sharing {
        Sharing::PerBlock
    }
}

impl<T: Topology + ?Sized> Topology for Arc<T> {
    fn name(&self) -> &'static str {
        (**self).name()
    }
    fn num_stages(&self, n: usize) -> Result<usize> {
        (**self).num_stages(n)
    }
    fn stage(&self, n: usize, k: usize) -> StageLayout {
        (**self).stage(n, k)
    }
    fn sharing(&self, n: usize, k: usize) -> Sharing {
        (**self).sharing(n, k)
    }
}

/// The layouts of a topology for one size, validated, with what their blocks share.
pub(crate) fn layouts(n: usize, topology: &dyn Topology) -> Result<Vec<(StageLayout, Sharing)>> {
    let stages = topology.num_stages(n)?;
    (0..stages)
        .map(|k| {
            let layout = topology.stage(n, k);
            layout.validate(n).map(|()| (layout, topology.sharing(n, k)))
        })
        .collect()
}
