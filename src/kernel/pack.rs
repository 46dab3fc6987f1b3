//! Into the tile and out of it. Strides, columns and storage types end here.
//!
//! A tile holds coordinate i of its vectors in row i, `tile[i * width..]`: number v in place v, or, of complex numbers, first
//! the real parts of as many as the machine has lanes, then their imaginary parts, and so on. Vectors that the batch lacks are zero.

use crate::batch::{Batch, BatchMut};
use crate::scalar::{Element, Scalar};
use crate::simd::Vectorize;

/// Coordinates moved at a time, so that the tile rows being written stay in L1.
const RUN: usize = 16;

pub(crate) fn pack<E: Element>(x: Batch<'_, E>, tile: &mut [E::Scalar], width: usize, lanes: usize) {
    let (count, zero) = (x.batch(), E::store(num_traits::Zero::zero()).load());
    if count < width {
        for row in tile.chunks_exact_mut(width) {
            let kept = if E::Scalar::IS_COMPLEX { 0 } else { count }; // parts of complex numbers lie apart
            row[kept..].fill(zero);
        }
    }
    if x.row(0).is_some() {
        for (run, rows) in tile.chunks_mut(RUN * width).enumerate() {
            for v in 0..count {
                if let Some(row) = x.row(v) {
                    let from = &row[run * RUN..];
                    for (t, e) in rows.chunks_exact_mut(width).zip(from) {
                        E::Scalar::put(t, lanes, v, e.load());
                    }
                }
            }
        }
    } else if x.column(0).is_some() {
        for (i, row) in tile.chunks_exact_mut(width).enumerate() {
            if let Some(column) = x.column(i) {
                for (v, e) in column[..count].iter().enumerate() {
                    E::Scalar::put(row, lanes, v, e.load());
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
        for (run, rows) in tile.chunks(RUN * width).enumerate() {
            for v in 0..count {
                if let Some(row) = y.row_mut(v) {
                    for (e, t) in row[run * RUN..].iter_mut().zip(rows.chunks_exact(width)) {
                        *e = E::store(E::Scalar::get(t, lanes, v));
                    }
                }
            }
        }
    } else if y.column_mut(0).is_some() {
        for (i, row) in tile.chunks_exact(width).enumerate() {
            if let Some(column) = y.column_mut(i) {
                for (v, e) in column.iter_mut().enumerate() {
                    *e = E::store(E::Scalar::get(row, lanes, v));
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
