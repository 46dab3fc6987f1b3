//! Into the tile and out of it. Strides, columns and storage types end here.
//!
//! A tile holds coordinate i of its vectors in row i, `tile[i * width..]`: number v in place v, or, of complex numbers, first
//! the real parts of as many as the machine has lanes, then their imaginary parts, and so on. Vectors that the batch lacks are zero.

use crate::batch::{Batch, BatchMut};
use crate::scalar::{Element, Scalar};
use crate::simd::Vectorize;

/// Coordinates moved at a time, so that the tile rows being written stay in L1.
const RUN: usize = 16;

/// Calls a function compiled for the width, which saves it the arithmetic of addresses.
macro_rules! by_width {
    ($width:ident, $f:ident($($argument:expr),*)) => {
        match $width {
            8 => $f::<_, 8>($($argument),*),
            16 => $f::<_, 16>($($argument),*),
            _ => $f::<_, 0>($($argument),*),
        }
    };
}

/// `W` is the width, or 0 for any.
fn pack_rows<E: Element, const W: usize>(x: Batch<'_, E>, tile: &mut [E::Scalar], width: usize, lanes: usize) {
    let width = if W == 0 { width } else { W };
    for (run, rows) in tile.chunks_mut(RUN * width).enumerate() {
        for v in 0..x.batch().min(width) {
            if let Some(row) = x.row(v) {
                for (t, e) in rows.chunks_exact_mut(width).zip(&row[run * RUN..]) {
                    E::Scalar::put(t, lanes, v, e.load());
                }
            }
        }
    }
}

/// `W` is the width, or 0 for any.
fn unpack_rows<E: Element, const W: usize>(tile: &[E::Scalar], width: usize, lanes: usize, mut y: BatchMut<'_, E>) {
    let width = if W == 0 { width } else { W };
    for (run, rows) in tile.chunks(RUN * width).enumerate() {
        for v in 0..y.batch().min(width) {
            if let Some(row) = y.row_mut(v) {
                for (e, t) in row[run * RUN..].iter_mut().zip(rows.chunks_exact(width)) {
                    *e = E::store(E::Scalar::get(t, lanes, v));
                }
            }
        }
    }
}

pub(crate) fn pack<E: Element>(x: Batch<'_, E>, tile: &mut [E::Scalar], width: usize, lanes: usize) {
    let (count, zero) = (x.batch(), E::store(num_traits::Zero::zero()).load());
    if count < width {
        for row in tile.chunks_exact_mut(width) {
            let kept = if E::Scalar::IS_COMPLEX { 0 } else { count }; // parts of complex numbers lie apart
            row[kept..].fill(zero);
        }
    }
    if x.row(0).is_some() {
        by_width!(width, pack_rows(x, tile, width, lanes));
    } else if x.column(0).is_some() {
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

pub(crate) fn unpack<E: Element>(tile: &[E::Scalar], width: usize, lanes: usize, mut y: BatchMut<'_, E>) {
    let count = y.batch();
    if y.row_mut(0).is_some() {
        by_width!(width, unpack_rows(tile, width, lanes, y));
    } else if y.column_mut(0).is_some() {
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
