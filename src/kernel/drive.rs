//! Batches through the kernels: cut by shapes, packed, all stages, unpacked; in parallel over pieces.

use alloc::vec::Vec;

use super::ahead::Ahead;
use super::along::{self, PairsOf};
use super::compiled::{OnScalars, on_scalars, run_along};
use super::routed::{self, Route, Routed};
use super::windows::Windows;
use super::{Step, apply_stages, choose, large, pack, single, strips};
use crate::batch::{Batch, BatchMut};
use crate::parallel::{self, Parallelism, Pool};
use crate::scalar::{Element, Scalar};
use crate::simd::{self, Isa, Job, Lanes, Vectorize};

/// y ← steps(x), or y ← steps(y) without `x`. If there is a `route` through the same stages, it comes with all entries.
pub(crate) fn apply<E: Element>(
    steps: &[Step<'_, E::Scalar>],
    route: Option<(&Route, &[E::Scalar])>,
    x: Option<Batch<'_, E>>,
    mut y: BatchMut<'_, E>,
    isa: Isa,
    parallelism: Parallelism,
    pool: &Pool,
) {
    if large::apply(steps, x, &mut y, isa, parallelism, pool) {
        return;
    }
    let (n, batch) = (y.n(), y.batch());
    let lanes = simd::lanes::<E::Scalar>(isa);
    let windows = Windows::neighbours(steps, n, choose::window::<E::Scalar>(batch));
    let width = choose::tile_width::<E::Scalar>(windows.len(), batch, 1);
    let scratch = super::scratch(steps) * E::Scalar::WIDTH;
    parallel::for_each(parallelism, pieces(x, y, width), |(x, mut y)| {
        if let Some((route, entries)) = route
            && choose::routes_pay::<E::Scalar>(y.batch())
            && rows_in_place(&x, &mut y)
        {
            pool.with(2 * routed::MOST, |scratch: &mut [E::Scalar]| {
                for v in 0..y.batch() {
                    if let Some(vector) = y.row_mut(v).and_then(E::as_scalars_mut) {
                        on_scalars(isa, OnScalars::Routed(Routed { route, entries, vector, scratch }));
                    }
                }
            });
        } else if choose::one_by_one::<E::Scalar>(y.batch()) && rows_in_place(&x, &mut y) {
            pool.with(scratch, |scratch: &mut [E::Scalar]| {
                for v in 0..y.batch() {
                    if let Some(vector) = y.row_mut(v).and_then(E::as_scalars_mut) {
                        on_scalars(isa, OnScalars::OneVector(OneVector { steps, vector, scratch }));
                    }
                }
            });
        } else {
            pool.with(windows.len() * width + scratch, |buffer: &mut [E::Scalar]| {
                let (tile, scratch) = buffer.split_at_mut(windows.len() * width);
                for window in windows.iter() {
                    let (steps, tile) = (&windows.steps(steps, window), &mut tile[..window.len * width]);
                    pack::pack(isa, x.unwrap_or(y.as_batch()), window.start, tile, width, lanes);
                    on_scalars(isa, OnScalars::Forward(Forward { steps, tile, scratch, width }));
                    pack::unpack(isa, tile, width, lanes, y.reborrow(), window.start);
                }
            });
        }
    });
}

/// y ← all passes(x), or y ← all passes(y) without `x`. `false`, and nothing is touched, unless the batch is rows
/// and it pays.
pub(crate) fn apply_along<E: Element>(
    pairs: &PairsOf<'_, E::Scalar>,
    x: Option<&Batch<'_, E>>,
    y: &mut BatchMut<'_, E>,
    isa: Isa,
    parallelism: Parallelism,
    pool: &Pool,
) -> bool {
    let rows = y.row(0).is_some() && x.is_none_or(|x| x.row(0).is_some());
    if !rows || !choose::along_pays::<E::Scalar>(pairs.passes, y.batch()) {
        return false;
    }
    let x = x.filter(|x| !x.is_same(y)); // then it works in place
    let (n, batch) = (y.n(), y.batch());
    if choose::strips_pay::<E::Scalar>(n)
        && let (Some(x), Some(y)) = (scalar_rows(x), E::scalar_batch_mut(y))
        && strips::apply(pairs, x, y, isa, parallelism, pool)
    {
        return true;
    }
    // What follows costs as much as the arithmetic of a short vector; one or two of singles need none of it.
    if batch <= choose::TOGETHER_AT_LEAST
        && pairs.passes.iter().all(|pass| pass.unit() == 1)
        && let (Some(x), Some(y)) = (scalar_rows(x), E::scalar_batch_mut(y))
    {
        run_along(isa, pairs, x, y, &mut [], &mut Ahead::default());
        return true;
    }
    if let (Some(x), Some(y)) = (scalar_rows(x), E::scalar_batch_mut(y))
        && along::apply_in_sections(pairs, x, y, isa, parallelism, pool)
    {
        return true;
    }
    let together = choose::together::<E::Scalar>(pairs.passes, n);
    let window = along::window::<E::Scalar>(pairs.passes, isa, together.min(batch));
    let rows = Ahead::of([x.copied(), Some(y.as_batch()), None]).during(along::times(pairs.passes));
    // Vectors from `start` on.
    let run = |start: usize, x: Option<&Batch<'_, E>>, y: &mut BatchMut<'_, E>| {
        let ahead = &mut rows.chunk(start + y.batch(), together);
        if let (Some(x), Some(y)) = (scalar_rows(x), E::scalar_batch_mut(y)) {
            return match window {
                0 => run_along(isa, pairs, x, y, &mut [], ahead),
                _ => pool.with(window, |window: &mut [E::Scalar]| run_along(isa, pairs, x, y, window, ahead)),
            };
        }
        pool.with(window + y.batch() * n, |buffer: &mut [E::Scalar]| {
            let (window, rows) = buffer.split_at_mut(window);
            for (v, row) in rows.chunks_exact_mut(n).enumerate() {
                if let Some(from) = x.map_or(y.row(v), |x| x.row(v)) {
                    pack::widen(isa, from, row);
                }
            }
            if let Ok(mut y) = BatchMut::rows(rows, n) {
                run_along(isa, pairs, None, &mut y, window, ahead);
            }
            for (v, row) in rows.chunks_exact(n).enumerate() {
                if let Some(to) = y.row_mut(v) {
                    pack::narrow(isa, row, to);
                }
            }
        });
    };
    if batch <= choose::TOGETHER_AT_LEAST {
        run(0, x, y);
        return true;
    }
    if parallelism == Parallelism::None || batch <= together {
        for start in (0..batch).step_by(together) {
            let count = together.min(batch - start);
            run(start, x.map(|x| x.chunk(start, count)).as_ref(), &mut y.chunk_mut(start, count));
        }
    } else {
        let pieces = pieces(x.copied(), y.reborrow(), together).into_iter().enumerate().collect();
        parallel::for_each(parallelism, pieces, |(k, (x, mut y))| run(k * together, x.as_ref(), &mut y));
    }
    true
}

/// A view of scalars, if there is a view at all; `None` if it is of others.
#[inline(always)]
fn scalar_rows<'a, 'b, E: Element>(x: Option<&'a Batch<'b, E>>) -> Option<Option<&'a Batch<'b, E::Scalar>>> {
    match x {
        Some(x) => E::scalar_batch(x).map(Some),
        None => Some(None),
    }
}

/// The batches cut into pieces of `width` vectors.
#[allow(clippy::type_complexity)] // two batches
pub(super) fn pieces<'a, E: Element>(
    x: Option<Batch<'a, E>>,
    y: BatchMut<'a, E>,
    width: usize,
) -> Vec<(Option<Batch<'a, E>>, BatchMut<'a, E>)> {
    let batch = y.batch();
    let cuts = (1..=batch.div_ceil(width)).map(|c| (c * width).min(batch));
    let mut start = 0;
    let with_x = |y: BatchMut<'a, E>| {
        let from = x.map(|x| x.chunk(start, y.batch()));
        start += y.batch();
        (from, y)
    };
    y.split(cuts).map(with_x).collect()
}

/// Copies `x` to `y`, if there is one, so that the rest can happen in `y`; `false` unless both are rows of scalars.
fn rows_in_place<E: Element>(x: &Option<Batch<'_, E>>, y: &mut BatchMut<'_, E>) -> bool {
    match x {
        Some(x) if !x.is_same(y) => copy_rows(x, y),
        _ => y.row_mut(0).and_then(E::as_scalars_mut).is_some(),
    }
}

/// y ← x if both are rows of scalars; `false` if they are not.
fn copy_rows<E: Element>(x: &Batch<'_, E>, y: &mut BatchMut<'_, E>) -> bool {
    if y.row_mut(0).and_then(E::as_scalars_mut).is_none() || x.row(0).is_none() {
        return false;
    }
    for v in 0..y.batch() {
        if let (Some(from), Some(to)) = (x.row(v), y.row_mut(v)) {
            to.copy_from_slice(from);
        }
    }
    true
}

pub(super) struct OneVector<'a, T> {
    steps: &'a [Step<'a, T>],
    vector: &'a mut [T],
    scratch: &'a mut [T],
}

impl<T: Scalar> Job<T> for OneVector<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        single::run(s, self.steps, self.vector, self.scratch);
    }
}

/// tile ← steps(tile), with `width` vectors in a row.
pub(super) struct Forward<'a, T> {
    pub(super) steps: &'a [Step<'a, T>],
    pub(super) tile: &'a mut [T],
    pub(super) scratch: &'a mut [T],
    pub(super) width: usize,
}

impl<T: Scalar> Job<T> for Forward<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        let tile: &mut [S::V] = bytemuck::cast_slice_mut(self.tile);
        let scratch: &mut [S::V] = bytemuck::cast_slice_mut(self.scratch);
        apply_stages(s, self.steps, tile, self.width / S::LANES, scratch);
    }
}
