//! What will run, told beforehand: the decisions of [`drive`](super::drive), by the functions that make them there.

use alloc::vec::Vec;
use core::fmt;

use super::along::Pass;
use super::routed::Route;
use super::windows::Windows;
use super::{Step, choose, fuse, large, strips};
use crate::scalar::Scalar;

/// What runs a stage, or several in one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// One stage over a lane-major tile: several vectors, transposed, block by block.
    Tile,
    /// Two stages of pairs in one pass over a lane-major tile.
    TilePairs,
    /// Stages that mix few registers, in one pass over vectors where they lie; SIMD lanes are neighbouring coordinates, or blocks.
    AlongTheVector,
    /// One stage of large blocks over vectors that are not transposed; SIMD lanes are neighbouring rows of a block.
    LargeBlocks,
    /// One stage over one vector where it lies, block by block without SIMD.
    OneLane,
    /// One stage of pairs over one vector, whose numbers are brought into the order of its blocks; SIMD lanes are neighbouring blocks.
    Routed,
    /// A product of Householder reflections, in panels.
    Reflectors,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kernel::Tile => "tile",
            Kernel::TilePairs => "tile, two stages of pairs",
            Kernel::AlongTheVector => "along the vector",
            Kernel::LargeBlocks => "large blocks",
            Kernel::OneLane => "one lane",
            Kernel::Routed => "routed",
            Kernel::Reflectors => "reflectors",
        })
    }
}

/// What runs for `batch` vectors of length `n` in rows: how many vectors at a time, and kernels with the number of stages that
/// each takes.
pub(crate) fn what_runs<T: Scalar>(
    passes: Option<&[Pass]>,
    route: Option<&Route>,
    steps: &[Step<'_, T>],
    n: usize,
    batch: usize,
) -> (usize, Vec<(Kernel, usize)>) {
    if let Some(passes) = passes.filter(|passes| choose::along_pays::<T>(passes, batch)) {
        let runs = passes.iter().map(|pass| (Kernel::AlongTheVector, pass.stages.len()));
        let together = if choose::strips_pay::<T>(n) { strips::TOGETHER } else { choose::together::<T>(passes, n) };
        return (together.min(batch), runs.collect());
    }
    if large::pays(steps) {
        let (.., together) = large::forward(steps, n, batch);
        return (together.min(batch), steps.iter().map(|_| (Kernel::LargeBlocks, 1)).collect());
    }
    let windows = Windows::neighbours(steps, n, choose::window::<T>(batch));
    let width = choose::tile_width::<T>(windows.len(), batch, 1);
    let mut runs = Vec::new();
    if route.is_some() && choose::routes_pay::<T>(batch.min(width)) {
        runs.extend(steps.iter().map(|_| (Kernel::Routed, 1)));
        return (1, runs);
    }
    if choose::one_by_one::<T>(batch.min(width)) {
        runs.extend(steps.iter().map(|step| match step.strides.is_planar() {
            _ if step.reflectors.is_some() => (Kernel::Reflectors, 1),
            _ if large::serves(step) => (Kernel::LargeBlocks, 1),
            true => (Kernel::AlongTheVector, 1),
            false => (Kernel::OneLane, 1),
        }));
        return (1, runs);
    }
    let mut rest = steps;
    while let Some(step) = rest.first() {
        let run = match fuse::Pass::of(rest) {
            Some(_) => (Kernel::TilePairs, fuse::STAGES),
            None if step.reflectors.is_some() => (Kernel::Reflectors, 1),
            None => (Kernel::Tile, 1),
        };
        runs.push(run);
        rest = &rest[run.1..];
    }
    (width, runs)
}
