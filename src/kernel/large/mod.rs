//! Large blocks of real numbers, of whole registers of rows: SIMD lanes are neighbouring rows of a block.
//!
//! No vector is transposed: some of them are copied together in runs of 8 coordinates, go through all stages, and back; one vector alone
//! may stay where it is. Stages go over windows of coordinates that they keep among themselves, which stay in the nearest cache.
//! Backwards there is a window for the cotangent and one for the input of every stage, or for the output alone.

mod product;
mod stage;

use alloc::vec::Vec;

use self::product::RUN;
use self::stage::Vectors;
use super::ahead::Ahead;
use super::compiled::{OnScalars, on_scalars};
use super::drive::pieces;
use super::partials::in_pieces;
use super::windows::{Window, Windows};
use super::{Both, Saved, Step, choose, pack};
use crate::batch::{Batch, BatchMut};
use crate::parallel::{self, Parallelism, Pool};
use crate::scalar::{Element, Scalar};
use crate::simd::{Isa, Job, Lanes};

/// Whether the blocks of this step lie in columns of whole registers.
pub(super) fn serves<T: Scalar>(step: &Step<'_, T>) -> bool {
    choose::by_columns::<T>(step.layout.block_size()) && !step.strides.is_planar() && step.reflectors.is_none()
}

/// Whether these steps are better served here than in tiles, for any number of vectors: their coordinates lie in whole runs.
pub(super) fn pays<T: Scalar>(steps: &[Step<'_, T>]) -> bool {
    !steps.is_empty() && steps.iter().all(|step| serves(step) && stage::run_length(step.layout).is_multiple_of(RUN))
}

/// Numbers of scratch for one vector in place.
pub(super) fn scratch<T: Scalar>(b: usize) -> usize {
    stage::scratch::<T>(b, 1)
}

/// vector ← stage(vector).
#[inline(always)]
pub(super) fn apply_one<T: Scalar, S: Lanes<T>>(s: S, step: &Step<'_, T>, vector: &mut [T], scratch: &mut [T]) {
    stage::apply(s, step, Vectors { numbers: vector, count: 1 }, scratch, &mut Ahead::default());
}

/// Numbers of scratch for stages over that many vectors.
fn scratch_of<T: Scalar>(steps: &[Step<'_, T>], vectors: usize) -> usize {
    stage::scratch::<T>(steps.iter().map(|step| step.layout.block_size()).max().unwrap_or(0), vectors)
}

/// Windows of the stages, how many of them, which are neighbours, are copied together, and of how many vectors.
pub(super) fn forward<T: Scalar>(steps: &[Step<'_, T>], n: usize, batch: usize) -> (Windows, usize, usize) {
    let most = choose::large_together::<T>(0, batch, 1);
    let windows = Windows::neighbours(steps, n, choose::large_window::<T>(most));
    let len = windows.len().max(1);
    let side = (choose::large_copied::<T>(most) / len).clamp(1, n.div_ceil(len).max(1));
    let together = choose::large_together::<T>(side * len, batch, 1);
    (windows, side, together)
}

/// y ← steps(x), or y ← steps(y) without `x`. `false`, and nothing is touched, unless the batches are rows and it pays.
pub(super) fn apply<E: Element>(
    steps: &[Step<'_, E::Scalar>],
    x: Option<Batch<'_, E>>,
    y: &mut BatchMut<'_, E>,
    isa: Isa,
    parallelism: Parallelism,
    pool: &Pool,
) -> bool {
    if !pays(steps) || y.row(0).is_none() || x.is_some_and(|x| x.row(0).is_none()) {
        return false;
    }
    let (windows, side, together) = forward(steps, y.n(), y.batch());
    let (all, len): (Vec<Window>, _) = (windows.iter().collect(), side * windows.len());
    let (length, scratch) = (together * len.next_multiple_of(RUN), scratch_of(steps, together));
    let rows = Ahead::of([x, Some(y.as_batch()), None]).during(steps.len());
    let pieces = pieces(x, y.reborrow(), together).into_iter().enumerate().collect();
    parallel::for_each(parallelism, pieces, |(k, (x, mut y))| {
        let mut ahead = rows.chunk(k * together + y.batch(), together);
        pool.with(length + len + scratch, |buffer: &mut [E::Scalar]| {
            let (numbers, scratch) = buffer.split_at_mut(length);
            let (row, scratch) = scratch.split_at_mut(len);
            let count = y.batch();
            let mut vectors = Vectors { numbers, count };
            for part in all.chunks(side) {
                let start = part[0].start;
                let row = &mut row[..part.iter().map(|window| window.len).sum()];
                read(isa, x.unwrap_or(y.as_batch()), start, row, &mut vectors);
                for window in part.iter().filter(|window| window.covered) {
                    let steps = &windows.steps(steps, *window);
                    let numbers = &mut vectors.numbers[(window.start - start) * count..];
                    let vectors = Vectors { numbers, count };
                    let job = Forward { steps, vectors, scratch: &mut *scratch, ahead: &mut ahead };
                    on_scalars(isa, OnScalars::Large(job));
                }
                write(isa, &mut vectors, start, row, &mut y);
            }
        });
    });
    true
}

/// gx ← stepsᵀ(gy), and d_factors += the gradient of the entries. `false`, and nothing is touched, unless the batches are rows and
/// it pays.
#[allow(clippy::too_many_arguments)] // one verb, its two optional results and who runs it
pub(super) fn apply_vjp<E: Element>(
    steps: &[Step<'_, E::Scalar>],
    saved: Saved<'_, E>,
    gy: Batch<'_, E>,
    gx: &mut Option<BatchMut<'_, E>>,
    d_factors: &mut Option<Both<&mut [E::Scalar]>>,
    isa: Isa,
    parallelism: Parallelism,
    pool: &Pool,
) -> bool {
    let (kept, reversible) = saved.parts();
    let rows = gy.row(0).is_some() && kept.row(0).is_some() && gx.as_ref().is_none_or(|gx| gx.row(0).is_some());
    if !pays(steps) || !rows {
        return false;
    }
    let (n, batch) = (gy.n(), gy.batch());
    let inputs = if reversible { 1 } else { steps.len() };
    let most = choose::large_together::<E::Scalar>(0, batch, 0);
    let windows = Windows::neighbours(steps, n, choose::large_backward_window::<E::Scalar>(most, 1 + inputs));
    let together = choose::large_together::<E::Scalar>(windows.len(), batch, 1 + inputs);
    let (length, scratch) = (together * windows.len().next_multiple_of(RUN), scratch_of(steps, together));
    let rows = Ahead::of([Some(kept), Some(gy), gx.as_ref().map(BatchMut::as_batch)]).during(2 * steps.len() - 1);
    let gx = gx.as_mut().map(|gx| gx.reborrow());
    let d_factors = d_factors.as_mut().map(|d| (&mut *d.0, &mut *d.1));
    in_pieces(together, gy, gx, d_factors, parallelism, pool, |(start, end), mut gx, mut d| {
        pool.with((1 + inputs) * length + windows.len() + scratch, |buffer: &mut [E::Scalar]| {
            let (numbers, scratch) = buffer.split_at_mut((1 + inputs) * length);
            let (row, scratch) = scratch.split_at_mut(windows.len());
            let (g, x) = numbers.split_at_mut(length);
            for first in (start..end).step_by(together) {
                let count = together.min(end - first);
                let mut ahead = rows.chunk(first + count, together);
                for window in windows.iter() {
                    let row = &mut row[..window.len];
                    let mut g = Vectors { numbers: &mut *g, count };
                    read(isa, gy.chunk(first, count), window.start, row, &mut g);
                    if d.is_some() {
                        let mut x = Vectors { numbers: &mut *x, count };
                        read(isa, kept.chunk(first, count), window.start, row, &mut x);
                    }
                    let (steps, scratch, ahead) = (&windows.steps(steps, window), &mut *scratch, &mut ahead);
                    let (d, vectors) = (d.as_mut().map(|d| &mut *d.0), g.reborrow());
                    let job = Backward { steps, reversible, g: vectors, x: &mut *x, d, scratch, ahead };
                    on_scalars(isa, OnScalars::LargeBackward(job));
                    if let Some(gx) = &mut gx {
                        write(isa, &mut g, window.start, row, &mut gx.chunk_mut(first - start, count));
                    }
                }
            }
        });
    });
    true
}

/// vectors ← coordinates of the rows from `start` on, as many as `row` has place for, widened.
fn read<E: Element>(
    isa: Isa,
    x: Batch<'_, E>,
    start: usize,
    row: &mut [E::Scalar],
    vectors: &mut Vectors<'_, E::Scalar>,
) {
    if let Some(x) = E::scalar_batch(&x) {
        let job = Read { x, start, len: row.len(), vectors: vectors.reborrow() };
        return on_scalars(isa, OnScalars::LargeRead(job));
    }
    for v in 0..vectors.count {
        if let Some(from) = x.row(v) {
            pack::widen(isa, &from[start..][..row.len()], row);
            vectors.put(v, row);
        }
    }
}

/// Those coordinates of the rows ← vectors, rounded.
fn write<E: Element>(
    isa: Isa,
    vectors: &mut Vectors<'_, E::Scalar>,
    start: usize,
    row: &mut [E::Scalar],
    y: &mut BatchMut<'_, E>,
) {
    if let Some(y) = E::scalar_batch_mut(y) {
        let job = Write { y: y.reborrow(), start, len: row.len(), vectors: vectors.reborrow() };
        return on_scalars(isa, OnScalars::LargeWrite(job));
    }
    for v in 0..vectors.count {
        if let Some(to) = y.row_mut(v) {
            vectors.get(v, row);
            pack::narrow(isa, row, &mut to[start..][..row.len()]);
        }
    }
}

/// [`read`] of rows of scalars, compiled for the machine.
pub(super) struct Read<'a, T> {
    x: &'a Batch<'a, T>,
    start: usize,
    len: usize,
    vectors: Vectors<'a, T>,
}

impl<T: Scalar> Job<T> for Read<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(mut self, _: S) {
        for v in 0..self.vectors.count {
            if let Some(row) = self.x.row(v) {
                self.vectors.put(v, &row[self.start..][..self.len]);
            }
        }
    }
}

/// [`write`] of rows of scalars.
pub(super) struct Write<'a, T> {
    y: BatchMut<'a, T>,
    start: usize,
    len: usize,
    vectors: Vectors<'a, T>,
}

impl<T: Scalar> Job<T> for Write<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(mut self, _: S) {
        for v in 0..self.vectors.count {
            if let Some(row) = self.y.row_mut(v) {
                self.vectors.get(v, &mut row[self.start..][..self.len]);
            }
        }
    }
}

/// vectors ← steps(vectors).
pub(super) struct Forward<'a, T> {
    steps: &'a [Step<'a, T>],
    vectors: Vectors<'a, T>,
    scratch: &'a mut [T],
    ahead: &'a mut Ahead,
}

impl<T: Scalar> Job<T> for Forward<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(mut self, s: S) {
        for step in self.steps {
            stage::apply(s, step, self.vectors.reborrow(), self.scratch, self.ahead);
        }
    }
}

/// g, the cotangent of the output, becomes that of the input; d += the gradient of the entries.
pub(super) struct Backward<'a, T> {
    steps: &'a [Step<'a, T>],
    /// Whether `x` is the output alone; else it has place for the input of every stage, and that of the first.
    reversible: bool,
    g: Vectors<'a, T>,
    x: &'a mut [T],
    /// If it is wanted.
    d: Option<&'a mut [T]>,
    scratch: &'a mut [T],
    ahead: &'a mut Ahead,
}

impl<T: Scalar> Job<T> for Backward<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(mut self, s: S) {
        // Jobs of their own: each is compiled once.
        let one = core::slice::from_ref::<Step<'_, T>>;
        let Some(d) = self.d else {
            for step in self.steps.iter().rev() {
                let (steps, vectors, scratch) = (&[step.transposed()][..], self.g.reborrow(), &mut *self.scratch);
                s.call(Forward { steps, vectors, scratch, ahead: &mut *self.ahead });
            }
            return;
        };
        let (length, count) = (self.g.numbers.len(), self.g.count);
        if !self.reversible {
            for (k, step) in self.steps.iter().enumerate().take(self.steps.len().saturating_sub(1)) {
                self.x.copy_within(k * length..(k + 1) * length, (k + 1) * length);
                let vectors = Vectors { numbers: &mut self.x[(k + 1) * length..(k + 2) * length], count };
                let (scratch, ahead) = (&mut *self.scratch, &mut *self.ahead);
                s.call(Forward { steps: one(step), vectors, scratch, ahead });
            }
        }
        for (k, step) in self.steps.iter().enumerate().rev() {
            let at = if self.reversible { 0 } else { k * length };
            let mut x = Vectors { numbers: &mut self.x[at..at + length], count };
            if self.reversible {
                let (steps, scratch) = (&[step.transposed()][..], &mut *self.scratch);
                s.call(Forward { steps, vectors: x.reborrow(), scratch, ahead: &mut *self.ahead });
            }
            let d = &mut d[step.offset..];
            stage::back(s, step, x, self.g.reborrow(), d, self.scratch, self.ahead);
        }
    }
}
