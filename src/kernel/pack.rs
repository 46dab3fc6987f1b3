//! Into the tile and out of it. Strides, columns and storage types end here.
//!
//! A tile holds coordinate i of its vectors in row i, `tile[i * width..]`: number v in place v, or, of complex numbers, first
//! the real parts of as many as the machine has lanes, then their imaginary parts, and so on. Vectors that the batch lacks are zero.
//!
//! Rows are transposed in registers, a square of lanes × lanes real numbers at a time. A complex row is a row of twice as many
//! real numbers, re and im in turn, and the tile wants exactly their transpose. Columns are copied; other strides go number by
//! number.

use alloc::vec;
use alloc::vec::Vec;

use bytemuck::Zeroable;

use super::compiled::{OnRows, on_rows};
use crate::batch::{Batch, BatchMut};
use crate::scalar::{Element, Scalar};
use crate::simd::{Isa, Job, Lanes, Vectorize, transposed};

/// Real numbers in a row of a square, at most.
const MOST_LANES: usize = 16;

/// The real numbers that elements stand for.
type RealOf<E> = <<E as Element>::Scalar as Scalar>::Real;

/// Real numbers in one scalar.
const fn parts<T: Scalar>() -> usize {
    if T::IS_COMPLEX { 2 } else { 1 }
}

/// tile ← coordinates `first ..` of x, with `width` vectors in a row, as machine `isa` with its `lanes` wants it.
pub(crate) fn pack<E: Element>(
    isa: Isa,
    x: Batch<'_, E>,
    first: usize,
    tile: &mut [E::Scalar],
    width: usize,
    lanes: usize,
) {
    if x.row(0).is_some() {
        return on_rows(isa, OnRows::Pack(PackRows { x, first, tile, width }));
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
            if let Some(column) = x.column(first + i) {
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
                if let Some(e) = x.get(v, first + i) {
                    E::Scalar::put(row, lanes, v, e.load());
                }
            }
        }
    }
}

/// Coordinates `first ..` of y ← tile, likewise.
pub(crate) fn unpack<E: Element>(
    isa: Isa,
    tile: &[E::Scalar],
    width: usize,
    lanes: usize,
    mut y: BatchMut<'_, E>,
    first: usize,
) {
    if y.row_mut(0).is_some() {
        return on_rows(isa, OnRows::Unpack(UnpackRows { tile, width, y, first }));
    }
    let count = y.batch();
    if y.column_mut(0).is_some() {
        for (i, row) in tile.chunks_exact(width).enumerate() {
            if let Some(column) = y.column_mut(first + i) {
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
                y.set(v, first + i, E::store(E::Scalar::get(row, lanes, v)));
            }
        }
    }
}

/// to ← from, widened.
pub(crate) fn widen<E: Element>(isa: Isa, from: &[E], to: &mut [E::Scalar]) {
    on_rows(isa, OnRows::Widen(Widen { from, to }));
}

/// to ← from, rounded.
pub(crate) fn narrow<E: Element>(isa: Isa, from: &[E::Scalar], to: &mut [E]) {
    on_rows(isa, OnRows::Narrow(Narrow { from, to }));
}

pub(super) struct Widen<'a, E: Element> {
    from: &'a [E],
    to: &'a mut [E::Scalar],
}

impl<E: Element> Job<RealOf<E>> for Widen<'_, E> {
    #[inline(always)]
    fn run<S: Lanes<RealOf<E>>>(self, _: S) {
        self.to.iter_mut().zip(self.from).for_each(|(to, from)| *to = from.load());
    }
}

pub(super) struct Narrow<'a, E: Element> {
    from: &'a [E::Scalar],
    to: &'a mut [E],
}

impl<E: Element> Job<RealOf<E>> for Narrow<'_, E> {
    #[inline(always)]
    fn run<S: Lanes<RealOf<E>>>(self, _: S) {
        self.to.iter_mut().zip(self.from).for_each(|(to, from)| *to = E::store(*from));
    }
}

pub(super) struct PackRows<'a, E: Element> {
    x: Batch<'a, E>,
    first: usize,
    tile: &'a mut [E::Scalar],
    width: usize,
}

impl<E: Element> Job<RealOf<E>> for PackRows<'_, E> {
    #[inline(always)]
    fn run<S: Lanes<RealOf<E>>>(self, s: S) {
        let (x, first, registers, parts) = (self.x, self.first, self.width / S::LANES, parts::<E::Scalar>());
        let tile: &mut [S::V] = bytemuck::cast_slice_mut(self.tile);
        let numbers = tile.len() / registers;
        // Vectors that the batch lacks.
        let zeros = match x.batch() < self.width {
            true => vec![E::store(num_traits::Zero::zero()); numbers / parts],
            false => Vec::new(),
        };
        for c in 0..registers {
            let mut rows: [&[E]; MOST_LANES] = [&[]; MOST_LANES];
            for (l, row) in rows[..S::LANES].iter_mut().enumerate() {
                let there = x.row(c * S::LANES + l).map(|row| &row[first..first + numbers / parts]);
                *row = there.unwrap_or(&zeros);
            }
            let (whole, rest) = (numbers / S::LANES * S::LANES, numbers % S::LANES);
            for start in (0..whole).step_by(S::LANES) {
                // Lengths that are known when it is compiled keep the square in registers.
                pack_square::<E, S>(s, &rows, tile, registers, c, start, S::LANES);
            }
            if rest > 0 {
                pack_square::<E, S>(s, &rows, tile, registers, c, whole, rest);
            }
        }
    }
}

/// Numbers `start .. start + count` of the vectors in register `c`.
#[inline(always)]
fn pack_square<E: Element, S: Lanes<RealOf<E>>>(
    s: S,
    rows: &[&[E]; MOST_LANES],
    tile: &mut [S::V],
    registers: usize,
    c: usize,
    start: usize,
    count: usize,
) {
    let parts = parts::<E::Scalar>();
    let mut square = [S::V::zeroed(); MOST_LANES];
    for l in 0..S::LANES {
        square[l] = load::<E, S>(&rows[l][start / parts..][..count / parts]);
    }
    let square = transposed(s, square);
    for i in 0..count {
        tile[((start + i) / parts * registers + c) * parts + (start + i) % parts] = square[i];
    }
}

pub(super) struct UnpackRows<'a, E: Element> {
    tile: &'a [E::Scalar],
    width: usize,
    y: BatchMut<'a, E>,
    first: usize,
}

impl<E: Element> Job<RealOf<E>> for UnpackRows<'_, E> {
    #[inline(always)]
    fn run<S: Lanes<RealOf<E>>>(self, s: S) {
        let (batch, first, registers, parts) =
            (self.y.batch(), self.first, self.width / S::LANES, parts::<E::Scalar>());
        let tile: &[S::V] = bytemuck::cast_slice(self.tile);
        let numbers = tile.len() / registers;
        let mut vectors = self.y.split(1..=batch);
        for c in 0..registers.min(batch.div_ceil(S::LANES)) {
            let mut rows: [&mut [E]; MOST_LANES] = core::array::from_fn(|_| Default::default());
            let there = S::LANES.min(batch - c * S::LANES);
            for row in &mut rows[..there] {
                let vector = vectors.next().and_then(BatchMut::into_row);
                *row = &mut vector.unwrap_or_default()[first..first + numbers / parts];
            }
            let (whole, rest) = (numbers / S::LANES * S::LANES, numbers % S::LANES);
            for start in (0..whole).step_by(S::LANES) {
                unpack_square::<E, S>(s, tile, &mut rows, there, registers, c, start, S::LANES);
            }
            if rest > 0 {
                unpack_square::<E, S>(s, tile, &mut rows, there, registers, c, whole, rest);
            }
        }
    }
}

/// Likewise, of the first `there` vectors.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a place in the tile and one in the rows
fn unpack_square<E: Element, S: Lanes<RealOf<E>>>(
    s: S,
    tile: &[S::V],
    rows: &mut [&mut [E]; MOST_LANES],
    there: usize,
    registers: usize,
    c: usize,
    start: usize,
    count: usize,
) {
    let parts = parts::<E::Scalar>();
    let mut square = [S::V::zeroed(); MOST_LANES];
    for i in 0..count {
        square[i] = tile[((start + i) / parts * registers + c) * parts + (start + i) % parts];
    }
    let square = transposed(s, square);
    for l in 0..S::LANES {
        if l < there {
            store::<E, S>(square[l], &mut rows[l][start / parts..][..count / parts]);
        }
    }
}

/// The numbers of a run of elements, at most a vector of them; zeros after them.
#[inline(always)]
fn load<E: Element, S: Lanes<RealOf<E>>>(from: &[E]) -> S::V {
    if let Some(numbers) = E::as_scalars(from).filter(|_| from.len() * parts::<E::Scalar>() == S::LANES) {
        return bytemuck::pod_read_unaligned(bytemuck::cast_slice(numbers));
    }
    let mut vector = S::V::zeroed();
    let numbers: &mut [E::Scalar] = bytemuck::cast_slice_mut(core::slice::from_mut(&mut vector));
    numbers.iter_mut().zip(from).for_each(|(t, e)| *t = e.load());
    vector
}

/// A run of elements ← the numbers.
#[inline(always)]
fn store<E: Element, S: Lanes<RealOf<E>>>(vector: S::V, to: &mut [E]) {
    let numbers: &[E::Scalar] = bytemuck::cast_slice(core::slice::from_ref(&vector));
    match E::as_scalars_mut(to) {
        Some(to) => to.copy_from_slice(&numbers[..to.len()]),
        None => to.iter_mut().zip(numbers).for_each(|(e, t)| *e = E::store(*t)),
    }
}
