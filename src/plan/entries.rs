//! Blocks between charts, which want them one after the other in double precision, and kernels, which want them as
//! [`Stage::entry`] tells; and parameters likewise. Compiled for each instruction set; every number is converted by itself.

use core::ops::Range;
use core::slice::{from_mut, from_ref};

use alloc::vec::Vec;

use bytemuck::Zeroable;
use num_traits::{Float, Zero};

use super::Stage;
use crate::kernel::Strides;
use crate::scalar::{Real, Scalar};
use crate::simd::{Isa, Job, Lanes, MOST, dispatch, transposed};

/// Blocks in the order of the charts, or of the vectors of reflectors: row-major, group after group, in double precision.
pub(super) fn gather<T: Scalar>(stage: &Stage<T>, groups: &Range<usize>, entries: &[T], blocks: &mut Vec<T::Wide>) {
    blocks.resize(groups.len() * stage.numbers(), T::Wide::zero());
    dispatch(Isa::detect(), Gather { stage, groups, entries, blocks });
}

/// Where [`gather`] finds them, rounded.
pub(super) fn scatter<T: Scalar>(stage: &Stage<T>, groups: &Range<usize>, blocks: &[T::Wide], entries: &mut [T]) {
    dispatch(Isa::detect(), Scatter { stage, groups, blocks, entries });
}

/// Parameters in double precision.
pub(super) fn widen<P: Real>(theta: &[P], wide: &mut Vec<f64>) {
    wide.resize(theta.len(), 0.0);
    dispatch(Isa::detect(), Widen { theta, wide });
}

/// Gradients of parameters, added and rounded once.
pub(super) fn accumulate<P: Real>(wide: &[f64], d_theta: &mut [P]) {
    dispatch(Isa::detect(), Accumulate { wide, d_theta });
}

/// Whether all parameters are finite.
pub(super) fn all_finite<P: Real>(theta: &[P]) -> bool {
    let mut finite = true;
    dispatch(Isa::detect(), AllFinite { theta, finite: &mut finite });
    finite
}

/// Where the blocks of these groups lie one after the other, row-major, if they do.
pub(super) fn run<T: Scalar>(stage: &Stage<T>, groups: &Range<usize>) -> Option<Range<usize>> {
    let (b, numbers, strides) = (stage.layout().block_size(), stage.numbers(), stage.strides());
    let start = stage.entries().start;
    (stage.vectors().is_none() && strides == Strides::row_major(b))
        .then(|| start + groups.start * numbers..start + groups.end * numbers)
}

/// Where the blocks of these groups lie one after the other, column by column, if they do.
fn columns<T: Scalar>(stage: &Stage<T>, groups: &Range<usize>) -> Option<Range<usize>> {
    let (b, numbers, start) = (stage.layout().block_size(), stage.numbers(), stage.entries().start);
    let by_columns = stage.vectors().is_none() && numbers > 0 && stage.strides() == Strides::column_major(b);
    by_columns.then(|| start + groups.start * numbers..start + groups.end * numbers)
}

/// `f(at, entry)` for all numbers `at` of the blocks and the places of their entries, neighbouring blocks in turn.
#[inline(always)]
fn walk<T: Scalar>(stage: &Stage<T>, groups: &Range<usize>, mut f: impl FnMut(usize, usize)) {
    let (rows, b) = (stage.rows(), stage.layout().block_size());
    let (panel, distance) = stage.strides().panel();
    let mut start = groups.start;
    while start < groups.end {
        let count = (panel - start % panel).min(groups.end - start);
        for i in 0..rows {
            let (first, step) = stage.row(start, i);
            for k in 0..b {
                let at = ((start - groups.start) * rows + i) * b + k;
                (0..count).for_each(|g| f(at + g * rows * b, first + k * step + g * distance));
            }
        }
        start += count;
    }
}

/// Whether neighbouring blocks keep equal numbers side by side, so that squares of as many blocks and numbers are transposed in
/// registers.
#[inline(always)]
fn in_squares<T: Scalar, S: Lanes<f64>>(stage: &Stage<T>) -> bool {
    let side_by_side = stage.strides().is_planar() && stage.strides().panel().1 == 1 && stage.vectors().is_none();
    !T::IS_COMPLEX && (2..=MOST).contains(&S::LANES) && side_by_side && stage.numbers().is_multiple_of(S::LANES)
}

/// Where numbers `at` and so on of block `start` have their entries, `S::LANES` of them.
#[inline(always)]
fn places<T: Scalar, S: Lanes<f64>>(stage: &Stage<T>, start: usize, at: usize) -> [usize; MOST] {
    let (b, mut places) = (stage.layout().block_size(), [0; MOST]);
    let (mut i, mut k) = (at / b, at % b);
    let (mut first, mut step) = stage.row(start, i);
    for place in &mut places[..S::LANES] {
        if k == b {
            (i, k) = (i + 1, 0);
            (first, step) = stage.row(start, i);
        }
        *place = first + k * step;
        k += 1;
    }
    places
}

/// [`Gather`] in squares.
#[inline(always)]
fn gather_squares<T: Scalar, S: Lanes<f64>>(
    s: S,
    stage: &Stage<T>,
    groups: &Range<usize>,
    entries: &[T],
    blocks: &mut [T::Wide],
) {
    let (lanes, numbers, panel) = (S::LANES, stage.numbers(), stage.strides().panel().0);
    let mut start = groups.start;
    while start < groups.end {
        let count = (panel - start % panel).min(groups.end - start);
        let blocks = &mut blocks[(start - groups.start) * numbers..][..count * numbers];
        for at in (0..numbers).step_by(lanes) {
            let places = places::<T, S>(stage, start, at);
            for g in (0..count / lanes * lanes).step_by(lanes) {
                let mut square = [S::V::zeroed(); MOST];
                for (row, place) in square.iter_mut().zip(places).take(lanes) {
                    let row: &mut [T::Wide] = bytemuck::cast_slice_mut(from_mut(row));
                    row.iter_mut()
                        .zip(&entries[place + g..place + g + lanes])
                        .for_each(|(wide, x)| *wide = x.to_wide());
                }
                let square = transposed::<f64, S, MOST>(s, square);
                for (l, row) in square.iter().enumerate().take(lanes) {
                    let to = (g + l) * numbers + at;
                    blocks[to..to + lanes].copy_from_slice(bytemuck::cast_slice(from_ref(row)));
                }
            }
            for g in count / lanes * lanes..count {
                for (r, place) in places.iter().enumerate().take(lanes) {
                    blocks[g * numbers + at + r] = entries[place + g].to_wide();
                }
            }
        }
        start += count;
    }
}

/// [`Scatter`] in squares.
#[inline(always)]
fn scatter_squares<T: Scalar, S: Lanes<f64>>(
    s: S,
    stage: &Stage<T>,
    groups: &Range<usize>,
    blocks: &[T::Wide],
    entries: &mut [T],
) {
    let (lanes, numbers, panel) = (S::LANES, stage.numbers(), stage.strides().panel().0);
    let mut start = groups.start;
    while start < groups.end {
        let count = (panel - start % panel).min(groups.end - start);
        let blocks = &blocks[(start - groups.start) * numbers..][..count * numbers];
        for at in (0..numbers).step_by(lanes) {
            let places = places::<T, S>(stage, start, at);
            for g in (0..count / lanes * lanes).step_by(lanes) {
                let mut square = [S::V::zeroed(); MOST];
                for (l, row) in square.iter_mut().enumerate().take(lanes) {
                    let from = (g + l) * numbers + at;
                    bytemuck::cast_slice_mut(from_mut(row)).copy_from_slice(&blocks[from..from + lanes]);
                }
                let square = transposed::<f64, S, MOST>(s, square);
                for (row, place) in square.iter().zip(places).take(lanes) {
                    let row: &[T::Wide] = bytemuck::cast_slice(from_ref(row));
                    let to = &mut entries[place + g..place + g + lanes];
                    to.iter_mut().zip(row).for_each(|(x, wide)| *x = T::from_wide(*wide));
                }
            }
            for g in count / lanes * lanes..count {
                for (r, place) in places.iter().enumerate().take(lanes) {
                    entries[place + g] = T::from_wide(blocks[g * numbers + at + r]);
                }
            }
        }
        start += count;
    }
}

struct Gather<'a, T: Scalar> {
    stage: &'a Stage<T>,
    groups: &'a Range<usize>,
    entries: &'a [T],
    blocks: &'a mut [T::Wide],
}

impl<T: Scalar> Job<f64> for Gather<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, s: S) {
        let (blocks, entries, b) = (self.blocks, self.entries, self.stage.layout().block_size());
        if in_squares::<T, S>(self.stage) {
            return gather_squares(s, self.stage, self.groups, entries, blocks);
        }
        if let Some(run) = run(self.stage, self.groups) {
            return blocks.iter_mut().zip(&entries[run]).for_each(|(wide, x)| *wide = x.to_wide());
        }
        let Some(run) = columns(self.stage, self.groups) else {
            return walk(self.stage, self.groups, |at, entry| blocks[at] = entries[entry].to_wide());
        };
        for (block, entries) in blocks.chunks_exact_mut(b * b).zip(entries[run].chunks_exact(b * b)) {
            for (k, column) in entries.chunks_exact(b).enumerate() {
                block.chunks_exact_mut(b).zip(column).for_each(|(row, x)| row[k] = x.to_wide());
            }
        }
    }
}

struct Scatter<'a, T: Scalar> {
    stage: &'a Stage<T>,
    groups: &'a Range<usize>,
    blocks: &'a [T::Wide],
    entries: &'a mut [T],
}

impl<T: Scalar> Job<f64> for Scatter<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, s: S) {
        let (blocks, entries, b) = (self.blocks, self.entries, self.stage.layout().block_size());
        if in_squares::<T, S>(self.stage) {
            return scatter_squares(s, self.stage, self.groups, blocks, entries);
        }
        if let Some(run) = run(self.stage, self.groups) {
            return entries[run].iter_mut().zip(blocks).for_each(|(x, wide)| *x = T::from_wide(*wide));
        }
        let Some(run) = columns(self.stage, self.groups) else {
            return walk(self.stage, self.groups, |at, entry| entries[entry] = T::from_wide(blocks[at]));
        };
        for (entries, block) in entries[run].chunks_exact_mut(b * b).zip(blocks.chunks_exact(b * b)) {
            for (k, column) in entries.chunks_exact_mut(b).enumerate() {
                column.iter_mut().zip(block.chunks_exact(b)).for_each(|(x, row)| *x = T::from_wide(row[k]));
            }
        }
    }
}

struct Widen<'a, P> {
    theta: &'a [P],
    wide: &'a mut [f64],
}

impl<P: Real> Job<f64> for Widen<'_, P> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, _: S) {
        self.wide.iter_mut().zip(self.theta).for_each(|(wide, p)| *wide = p.to_wide());
    }
}

struct Accumulate<'a, P> {
    wide: &'a [f64],
    d_theta: &'a mut [P],
}

impl<P: Real> Job<f64> for Accumulate<'_, P> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, _: S) {
        self.d_theta.iter_mut().zip(self.wide).for_each(|(d, wide)| *d = P::from_wide(d.to_wide() + wide));
    }
}

struct AllFinite<'a, P> {
    theta: &'a [P],
    finite: &'a mut bool,
}

impl<P: Real> Job<f64> for AllFinite<'_, P> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, _: S) {
        // No early exit, so that it runs in vectors.
        *self.finite = self.theta.iter().fold(true, |finite, p| finite & Float::is_finite(*p));
    }
}
