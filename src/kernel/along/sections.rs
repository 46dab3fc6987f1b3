//! A plan that is one pass of blocks, over whole batches: section by section of the coordinates.
//!
//! Entries are more than a vector. So all vectors go through the blocks of some coordinates, some vectors at a time, before the next
//! coordinates are begun: entries of a section, and their gradients, stay in the inner caches, and so does what is asked for of the
//! vectors that come next.

use alloc::vec::Vec;
use core::ops::Range;

use super::blocks::{self, Backward, TOGETHER};
use super::{PairsOf, Pass, times, times_backward, window};
use crate::batch::{Batch, BatchMut};
use crate::kernel::ahead::Ahead;
use crate::kernel::choose;
use crate::kernel::compiled::{OnScalars, on_scalars};
use crate::kernel::drive::pieces;
use crate::kernel::partials::in_pieces;
use crate::kernel::{Both, Saved};
use crate::parallel::{self, Parallelism, Pool};
use crate::scalar::Scalar;
use crate::simd::{self, Isa};

/// The pass, if there is only one, of blocks.
fn only<'a, T>(pairs: &PairsOf<'a, T>) -> Option<&'a Pass> {
    match pairs.passes {
        [pass] if pass.unit() > 1 => Some(pass),
        _ => None,
    }
}

/// The coordinates of the pass in sections of whole windows, one at least, for `batches` batches and entries that are held so many `times`.
fn sections<T: Scalar>(pass: &Pass, lanes: usize, batches: usize, times: usize) -> Vec<Range<usize>> {
    let entries = times * 2 * pass.unit() * pass.stages.len();
    let len = choose::section::<T>(entries + 2 * TOGETHER * batches, pass.span(lanes));
    (0..pass.covered.max(1)).step_by(len).map(|start| start..pass.covered.min(start + len)).collect()
}

/// What comes when all sections of the vectors from `start` to before `end` are gone over, and those before `now` have been in one.
fn next(all: &Ahead, (start, end): (usize, usize), now: usize, sections: &[Range<usize>], section: usize) -> Ahead {
    let (first, section) = match (now < end, section + 1 < sections.len()) {
        (true, _) => (now, section),
        (false, true) => (start, section + 1),
        (false, false) => (end, 0),
    };
    all.chunk(first, TOGETHER).part(&sections[section])
}

/// y ← pass(x), or y ← pass(y) without `x`; both rows. `false`, and nothing is touched, unless there is one pass, of blocks,
/// and more vectors than go through it together.
pub(in crate::kernel) fn apply<T: Scalar>(
    pairs: &PairsOf<'_, T>,
    x: Option<&Batch<'_, T>>,
    y: &mut BatchMut<'_, T>,
    isa: Isa,
    parallelism: Parallelism,
    pool: &Pool,
) -> bool {
    let Some(pass) = only(pairs).filter(|_| y.batch() > TOGETHER) else { return false };
    let sections = sections::<T>(pass, simd::lanes::<T>(isa), 2, 1);
    let rows = Ahead::of([x.copied(), Some(y.as_batch()), None]).during(times(pairs.passes));
    let window = window::<T>(pairs.passes, isa, TOGETHER);
    let piece = choose::in_sections(y.batch(), TOGETHER, parallelism);
    let pieces = pieces(x.copied(), y.reborrow(), piece).into_iter().enumerate().collect();
    parallel::for_each(parallelism, pieces, |(k, (x, mut y))| {
        let (start, batch) = (k * piece, y.batch());
        pool.with(window, |window: &mut [T]| {
            for (s, section) in sections.iter().enumerate() {
                for first in (0..batch).step_by(TOGETHER) {
                    let count = TOGETHER.min(batch - first);
                    let (x, y) = (x.map(|x| x.chunk(first, count)), &mut y.chunk_mut(first, count));
                    if let (0, Some(x)) = (s, &x) {
                        copy_rest(pass, x, y);
                    }
                    let ahead = &mut next(&rows, (start, start + batch), start + first + count, &sections, s);
                    let (entries, x, section) = (pairs.entries, x.as_ref(), section.clone());
                    let job = blocks::Apply { pass, entries, section, x, y, window: &mut *window, ahead };
                    on_scalars(isa, OnScalars::BlocksApply(job));
                }
            }
        });
    });
    true
}

/// gx ← passᵀ(gy), and `d` += the gradient of the entries; all batches rows. `false`, and nothing is touched, unless there is one pass,
/// of blocks.
#[allow(clippy::too_many_arguments)] // one verb, its two results and who runs it
pub(in crate::kernel) fn apply_vjp<T: Scalar>(
    pairs: &PairsOf<'_, T>,
    saved: Saved<'_, T>,
    gy: Batch<'_, T>,
    gx: Option<BatchMut<'_, T>>,
    d_factors: Both<&mut [T]>,
    isa: Isa,
    parallelism: Parallelism,
    pool: &Pool,
) -> bool {
    let Some(pass) = only(pairs) else { return false };
    let (lanes, (x, reversible)) = (simd::lanes::<T>(isa), saved.parts());
    let sections = sections::<T>(pass, lanes, 3, 2);
    let window = blocks::backward_window(pass, lanes, gy.batch());
    let rows =
        Ahead::of([Some(x), Some(gy), gx.as_ref().map(BatchMut::as_batch)]).during(times_backward(pairs.passes, false));
    in_pieces(TOGETHER, gy, gx, Some(d_factors), parallelism, pool, |(start, end), mut gx, mut d| {
        let Some((d, _)) = &mut d else { return };
        pool.with(window, |window: &mut [T]| {
            for (s, section) in sections.iter().enumerate() {
                for first in (start..end).step_by(TOGETHER) {
                    let count = TOGETHER.min(end - first);
                    let mut gx = gx.as_mut().map(|gx| gx.chunk_mut(first - start, count));
                    let (x, gy) = (x.chunk(first, count), gy.chunk(first, count));
                    let gy = Some(gy).filter(|gy| gx.as_ref().is_none_or(|gx| !gy.is_same(gx)));
                    if let (0, Some(gy), Some(gx)) = (s, &gy, &mut gx) {
                        copy_rest(pass, gy, gx);
                    }
                    let ahead = &mut next(&rows, (start, end), first + count, &sections, s);
                    let (entries, d, window, section) = (pairs.entries, &mut **d, &mut *window, section.clone());
                    let job = Backward { pass, entries, d, section, x, reversible, gy, gx, window, ahead };
                    on_scalars(isa, OnScalars::BlocksBackward(job));
                }
            }
        });
    });
    true
}

/// What the pass does not act on.
fn copy_rest<T: Scalar>(pass: &Pass, x: &Batch<'_, T>, y: &mut BatchMut<'_, T>) {
    for v in 0..x.batch() {
        if let (Some(x), Some(y)) = (x.row(v), y.row_mut(v)) {
            y[pass.covered..].copy_from_slice(&x[pass.covered..]);
        }
    }
}
