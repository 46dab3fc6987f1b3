//! Batches through the kernels: cut by shapes, packed, all stages, unpacked; in parallel over pieces.

use alloc::vec::Vec;

use super::windows::Windows;
use super::{Step, along, apply_stages, choose, pack};
use crate::batch::{Batch, BatchMut};
use crate::parallel::{self, Parallelism, Pool};
use crate::scalar::{Element, Scalar};
use crate::simd::{self, Isa, Job, Lanes, Vectorize, dispatch};

/// y ← steps(x), or y ← steps(y) without `x`.
pub(crate) fn apply<E: Element>(
    steps: &[Step<'_, E::Scalar>],
    x: Option<Batch<'_, E>>,
    y: BatchMut<'_, E>,
    isa: Isa,
    parallelism: Parallelism,
    pool: &Pool,
) {
    let (n, batch) = (y.n(), y.batch());
    let lanes = simd::lanes::<E::Scalar>(isa);
    let windows = Windows::neighbours(steps, n, choose::window::<E::Scalar>(batch));
    let width = choose::tile_width::<E::Scalar>(windows.len(), batch, 1);
    let scratch = super::scratch(steps) * E::Scalar::WIDTH;
    let cuts = (1..=batch.div_ceil(width)).map(|c| (c * width).min(batch));
    let pieces: Vec<_> = y
        .split(cuts)
        .scan(0, |start, piece| {
            let from = x.map(|x| x.chunk(*start, piece.batch()));
            *start += piece.batch();
            Some((from, piece))
        })
        .collect();
    parallel::for_each(parallelism, pieces, |(x, mut y)| {
        if choose::one_by_one::<E::Scalar>(y.batch()) && rows_in_place(&x, &mut y) {
            pool.with(scratch, |scratch: &mut [E::Scalar]| {
                for v in 0..y.batch() {
                    if let Some(vector) = y.row_mut(v).and_then(E::as_scalars_mut) {
                        dispatch(isa, OneVector { steps, vector, scratch });
                    }
                }
            });
        } else {
            pool.with(windows.len() * width + scratch, |buffer: &mut [E::Scalar]| {
                let (tile, scratch) = buffer.split_at_mut(windows.len() * width);
                for window in windows.iter() {
                    let (steps, tile) = (&windows.steps(steps, window), &mut tile[..window.len * width]);
                    pack::pack(isa, x.unwrap_or(y.as_batch()), window.start, tile, width, lanes);
                    dispatch(isa, Forward { steps, tile, scratch, width });
                    pack::unpack(isa, tile, width, lanes, y.reborrow(), window.start);
                }
            });
        }
    });
}

/// Copies `x` to `y` if both are rows of scalars, so that the rest can happen in `y`; `false` if they are not.
fn rows_in_place<E: Element>(x: &Option<Batch<'_, E>>, y: &mut BatchMut<'_, E>) -> bool {
    if y.row_mut(0).and_then(E::as_scalars_mut).is_none() || x.is_some_and(|x| x.row(0).is_none()) {
        return false;
    }
    if let Some(x) = x.filter(|x| !x.is_same(y)) {
        for v in 0..y.batch() {
            if let (Some(from), Some(to)) = (x.row(v), y.row_mut(v)) {
                to.copy_from_slice(from);
            }
        }
    }
    true
}

struct OneVector<'a, T> {
    steps: &'a [Step<'a, T>],
    vector: &'a mut [T],
    scratch: &'a mut [T],
}

impl<T: Scalar> Job<T> for OneVector<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        along::run(s, self.steps, self.vector, self.scratch);
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
