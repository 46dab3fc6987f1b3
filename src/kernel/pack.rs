//! Into the tile and out of it. Strides, columns and storage types end here.
//!
//! A tile holds coordinate i of its vectors in row i, `tile[i * width..]`: number v in place v, or, of complex numbers, first
//! the real parts of as many as the machine has lanes, then their imaginary parts, and so on. Vectors that the batch lacks are zero.
//!
//! Rows are transposed in registers, a square of lanes × lanes real numbers at a time. A complex row is a row of twice as many
//! real numbers, re and im in turn, and the tile wants exactly their transpose. Columns are copied; other strides go number by
//! number.

use bytemuck::Zeroable;

use crate::batch::{Batch, BatchMut};
use crate::scalar::{Element, Scalar};
use crate::simd::{Isa, Job, Lanes, Vectorize, dispatch, transposed};

/// Real numbers in a row of a square, at most.
const MOST_LANES: usize = 16;

/// The real numbers that elements stand for.
type RealOf<E> = <<E as Element>::Scalar as Scalar>::Real;

/// Real numbers in one scalar.
const fn parts<T: Scalar>() -> usize {
    if T::IS_COMPLEX { 2 } else { 1 }
}

/// tile ← x, with `width` vectors in a row, as machine `isa` with its `lanes` wants it.
pub(crate) fn pack<E: Element>(isa: Isa, x: Batch<'_, E>, tile: &mut [E::Scalar], width: usize, lanes: usize) {
    if x.row(0).is_some() {
        return dispatch::<RealOf<E>, _>(isa, PackRows { x, tile, width });
    }
    let (count, zero) = (x.batch(), E::store(num_traits::Zero::zero()).load());
    if count < width {
        for row in tile.chunks_exact_mut(width) {
            let kept = if E::Scalar::IS_COMPLEX { 0 } else { count }; // parts of complex numbers lie apart
            row[kept..].fill(zero);
        }
    }
    if x.column(0).is_some() {
        for (i, row) in tile.chunks_exact_mut(width).enumerate() {
            if let Some(column) = x.column(i) {
                if E::Scalar::IS_COMPLEX {
                    for (v, e) in column.iter().enumerate() {
                        E::Scalar::put(row, lanes, v, e.load());
                    }
                } else {
                    row.iter_mut().zip(column).for_each(|(t, e)| *t = e.load());
                }
            }
        }
    } else {
        for (i, row) in tile.chunks_exact_mut(width).enumerate() {
            for v in 0..count {
                if let Some(e) = x.get(v, i) {
                    E::Scalar::put(row, lanes, v, e.load());
                }
            }
        }
    }
}

/// y ← tile, likewise.
pub(crate) fn unpack<E: Element>(isa: Isa, tile: &[E::Scalar], width: usize, lanes: usize, mut y: BatchMut<'_, E>) {
    if y.row_mut(0).is_some() {
        return dispatch::<RealOf<E>, _>(isa, UnpackRows { tile, width, y });
    }
    let count = y.batch();
    if y.column_mut(0).is_some() {
        for (i, row) in tile.chunks_exact(width).enumerate() {
            if let Some(column) = y.column_mut(i) {
                if E::Scalar::IS_COMPLEX {
                    for (v, e) in column.iter_mut().enumerate() {
                        *e = E::store(E::Scalar::get(row, lanes, v));
                    }
                } else {
                    column.iter_mut().zip(row).for_each(|(e, t)| *e = E::store(*t));
                }
            }
        }
    } else {
        for (i, row) in tile.chunks_exact(width).enumerate() {
            for v in 0..count {
                y.set(v, i, E::store(E::Scalar::get(row, lanes, v)));
            }
        }
    }
}

struct PackRows<'a, E: Element> {
    x: Batch<'a, E>,
    tile: &'a mut [E::Scalar],
    width: usize,
}

impl<E: Element> Job<RealOf<E>> for PackRows<'_, E> {
    #[inline(always)]
    fn run<S: Lanes<RealOf<E>>>(self, s: S) {
        let (x, registers, parts) = (self.x, self.width / S::LANES, parts::<E::Scalar>());
        let tile: &mut [S::V] = bytemuck::cast_slice_mut(self.tile);
        let numbers = x.n() * parts;
        for c in 0..registers {
            for start in (0..numbers).step_by(S::LANES) {
                let count = S::LANES.min(numbers - start);
                let mut square = [S::V::zeroed(); MOST_LANES];
                for l in 0..S::LANES {
                    if let Some(row) = x.row(c * S::LANES + l) {
                        let to: &mut [E::Scalar] = bytemuck::cast_slice_mut(&mut square[l..l + 1]);
                        let row = &row[start / parts..];
                        match row.get(..S::LANES / parts) {
                            // The same loop, of a length known when it is compiled.
                            Some(row) => to.iter_mut().zip(row).for_each(|(t, e)| *t = e.load()),
                            None => to.iter_mut().zip(row).for_each(|(t, e)| *t = e.load()),
                        }
                    }
                }
                let square = transposed(s, square);
                for (number, row) in (start..start + count).zip(square) {
                    tile[(number / parts * registers + c) * parts + number % parts] = row;
                }
            }
        }
    }
}

struct UnpackRows<'a, E: Element> {
    tile: &'a [E::Scalar],
    width: usize,
    y: BatchMut<'a, E>,
}

impl<E: Element> Job<RealOf<E>> for UnpackRows<'_, E> {
    #[inline(always)]
    fn run<S: Lanes<RealOf<E>>>(self, s: S) {
        let (mut y, registers, parts) = (self.y, self.width / S::LANES, parts::<E::Scalar>());
        let tile: &[S::V] = bytemuck::cast_slice(self.tile);
        let numbers = y.n() * parts;
        for c in 0..registers.min(y.batch().div_ceil(S::LANES)) {
            for start in (0..numbers).step_by(S::LANES) {
                let count = S::LANES.min(numbers - start);
                let mut square = [S::V::zeroed(); MOST_LANES];
                for (number, row) in (start..start + count).zip(&mut square) {
                    *row = tile[(number / parts * registers + c) * parts + number % parts];
                }
                let square = transposed(s, square);
                for (l, from) in square[..S::LANES].iter().enumerate() {
                    let Some(row) = y.row_mut(c * S::LANES + l) else { break };
                    let from: &[E::Scalar] = bytemuck::cast_slice(core::slice::from_ref(from));
                    let row = &mut row[start / parts..];
                    match row.get_mut(..S::LANES / parts) {
                        Some(row) => row.iter_mut().zip(from).for_each(|(e, t)| *e = E::store(*t)),
                        None => row.iter_mut().zip(from).for_each(|(e, t)| *e = E::store(*t)),
                    }
                }
            }
        }
    }
}
