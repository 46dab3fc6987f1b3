//! The one computation: groups of rows times small blocks. Kernels know indices, block sizes and numbers, nothing else.
//!
//! Every kernel computes output i of a block as Q_i0·x_0, then + Q_ik·x_k for k = 1, 2, … with the machine's
//! multiply-add. So the bits of a result depend neither on the kernel, nor on the other vectors of the batch, nor on
//! threads; and all machines with fused multiply-add agree.

mod ahead;
mod along;
mod backward;
mod choose;
mod compiled;
mod drive;
mod explain;
mod fuse;
mod large;
mod pack;
mod panels;
mod partials;
mod reflect;
mod routed;
mod single;
mod strides;
mod strips;
mod sums;
mod table;
mod tangent;
mod tile;
mod windows;

pub(crate) use along::{Pairs, PairsOf, Passes, are_rotations};
pub use backward::Saved;
pub(crate) use backward::{apply_vjp, apply_vjp_along};
pub(crate) use choose::{by_columns, is_planar, pairs};
pub(crate) use drive::{apply, apply_along};
pub use explain::Kernel;
pub(crate) use explain::what_runs;
pub(crate) use panels::{PANEL, panel, panels, run_length, vector};
pub(crate) use reflect::Reflectors;
pub(crate) use routed::{Anywhere, Route};
pub(crate) use strides::Strides;
pub(crate) use tangent::apply_jvp;

use crate::layout::StageLayout;
use crate::scalar::Scalar;
use crate::simd::Lanes;

/// One stage as a kernel sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a, T> {
    pub(crate) layout: &'a StageLayout,
    /// Block j of `layout`, which may be a window of the stage, is block `first` + j·`stride` of the stage.
    pub(crate) first: usize,
    pub(crate) stride: usize,
    /// The stage's entries, at `strides`.
    pub(crate) entries: &'a [T],
    /// Where `entries` start in the plan's factors; gradients go to the same place.
    pub(crate) offset: usize,
    pub(crate) strides: Strides,
    /// Which stored block each block uses; `None` if each has its own.
    pub(crate) groups: Option<&'a [u32]>,
    /// Entries act conjugated.
    pub(crate) conj: bool,
    /// The blocks are products of reflectors, and `entries` their vectors; `strides` say where a block starts.
    pub(crate) reflectors: Option<Reflectors<'a, T>>,
}

impl<T: Scalar> Step<'_, T> {
    /// The step with every block replaced by its adjoint.
    pub(crate) fn adjoint(self) -> Self {
        let transposed = self.transposed();
        Self { conj: !transposed.conj, ..transposed }
    }

    /// The step with every block transposed.
    pub(crate) fn transposed(mut self) -> Self {
        self.strides = self.strides.transposed();
        if let Some(reflectors) = &mut self.reflectors {
            reflectors.reversed = !reflectors.reversed;
            self.conj = !self.conj; // (I − τ u uᴴ)ᵀ = I − τ ū uᵀ
        }
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
        self.strides.start(self.group(j))
    }

    /// The stored block that block `j` uses.
    #[inline(always)]
    fn group(&self, j: usize) -> usize {
        let j = self.first + j * self.stride;
        match self.groups {
            Some(groups) => groups[j] as usize,
            None => j,
        }
    }
}

/// What belongs to the entries of a plan, and what to its couplings.
pub(crate) type Both<S> = (S, S);

/// Registers of 64 bytes that scratch must hold: a block's inputs, or the coefficients of reflectors.
fn scratch<T: Scalar>(steps: &[Step<'_, T>]) -> usize {
    let rows = |step: &Step<'_, T>| match step.reflectors {
        Some(_) => reflect::scratch(),
        None => {
            let inputs = step.layout.block_size() * choose::WIDEST;
            match large::serves(step) {
                true => inputs.max(large::scratch::<T>(step.layout.block_size()).div_ceil(T::WIDTH)),
                false => inputs,
            }
        }
    };
    steps.iter().map(rows).max().unwrap_or(0)
}

/// tile ← all stages(tile), two in one pass where they fit one.
#[inline(always)]
fn apply_stages<T: Scalar, S: Lanes<T>>(
    s: S,
    mut steps: &[Step<'_, T>],
    tile: &mut [S::V],
    registers: usize,
    scratch: &mut [S::V],
) {
    while let Some(step) = steps.first() {
        let count = match fuse::Pass::of(steps) {
            Some(pass) => {
                pass.apply(s, &steps[..fuse::STAGES], tile, registers);
                fuse::STAGES
            }
            None => {
                apply_stage(s, step, tile, registers, scratch);
                1
            }
        };
        steps = &steps[count..];
    }
}

/// tile ← stage(tile), with `registers` vectors `S::V` in each row and [`scratch`].
#[inline(always)]
fn apply_stage<T: Scalar, S: Lanes<T>>(
    s: S,
    step: &Step<'_, T>,
    tile: &mut [S::V],
    registers: usize,
    scratch: &mut [S::V],
) {
    match &step.reflectors {
        Some(r) => reflect::apply(step, r, tile, registers),
        None if table::apply(s, step, tile, registers) => {}
        None => tile::apply_stage(s, step, tile, registers, scratch),
    }
}
