//! The one computation: groups of rows times small blocks. Kernels know indices, block sizes and numbers, nothing else.
//!
//! Every kernel computes output i of a block as Q_i0·x_0, then + Q_ik·x_k for k = 1, 2, … with the machine's
//! multiply-add. So the bits of a result depend neither on the kernel, nor on the other vectors of the batch, nor on
//! threads; and all machines with fused multiply-add agree.

mod along;
mod choose;
mod drive;
mod pack;
mod tangent;
mod tile;

pub(crate) use choose::is_planar;
pub use drive::Saved;
pub(crate) use drive::{apply, apply_vjp};
pub(crate) use tangent::apply_jvp;

use crate::layout::StageLayout;
use crate::scalar::Scalar;

/// How the entries of a stage's blocks lie: entry (i, k) of block g at g·block + i·row + k·column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Strides {
    pub(crate) block: usize,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl Strides {
    /// One row-major block after the other.
    pub(crate) fn row_major(b: usize) -> Self {
        Self { block: b * b, row: b, column: 1 }
    }

    /// Entry (i, k) of all `count` blocks side by side: SIMD lanes are neighbouring blocks.
    pub(crate) fn planar(b: usize, count: usize) -> Self {
        Self { block: 1, row: b * count, column: count }
    }
}

/// One stage as a kernel sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a, T> {
    pub(crate) layout: &'a StageLayout,
    /// The stage's entries, at `strides`.
    pub(crate) entries: &'a [T],
    /// Where `entries` start in the plan's factors; gradients go to the same place.
    pub(crate) offset: usize,
    pub(crate) strides: Strides,
    /// Which stored block each block uses; `None` if each has its own.
    pub(crate) groups: Option<&'a [u32]>,
    pub(crate) planar: bool,
    /// Entries act conjugated.
    pub(crate) conj: bool,
}

impl<T: Scalar> Step<'_, T> {
    /// The step with every block replaced by its adjoint.
    pub(crate) fn adjoint(self) -> Self {
        Self { conj: !self.conj, ..self.transposed() }
    }

    /// The step with every block transposed.
    pub(crate) fn transposed(mut self) -> Self {
        (self.strides.row, self.strides.column) = (self.strides.column, self.strides.row);
        self
    }

    /// An entry as it acts.
    #[inline(always)]
    fn acting(&self, entry: T) -> T {
        if self.conj { entry.conj() } else { entry }
    }

    /// Where block `j` starts in `entries`.
    #[inline(always)]
    fn start(&self, j: usize) -> usize {
        let g = match self.groups {
            Some(groups) => groups[j] as usize,
            None => j,
        };
        g * self.strides.block
    }
}

/// Size of the largest block, which scratch must hold.
fn largest_block<T>(steps: &[Step<'_, T>]) -> usize {
    steps.iter().map(|step| step.layout.block_size()).max().unwrap_or(0)
}
