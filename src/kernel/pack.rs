//! Into the tile and out of it. Strides, columns and storage types end here.
//!
//! A tile holds coordinate i of its vectors in row i: `tile[i * width + v]`. Vectors that the batch lacks are zero.

use crate::batch::{Batch, BatchMut};
use crate::scalar::Element;

/// Coordinates moved at a time, so that the tile rows being written stay in L1.
const RUN: usize = 16;

pub(crate) fn pack<E: Element>(x: Batch<'_, E>, tile: &mut [E::Scalar], width: usize) {
    let (count, zero) = (x.batch(), E::store(num_traits::Zero::zero()).load());
    if count < width {
        for row in tile.chunks_exact_mut(width) {
            row[count..].fill(zero);
        }
    }
    if x.row(0).is_some() {
        for (run, rows) in tile.chunks_mut(RUN * width).enumerate() {
            for v in 0..count {
                if let Some(row) = x.row(v) {
                    let from = &row[run * RUN..];
                    for (t, e) in rows.chunks_exact_mut(width).zip(from) {
                        t[v] = e.load();
                    }
                }
            }
        }
    } else if x.column(0).is_some() {
        for (i, row) in tile.chunks_exact_mut(width).enumerate() {
            if let Some(column) = x.column(i) {
                for (t, e) in row.iter_mut().zip(column) {
                    *t = e.load();
                }
            }
        }
    } else {
        for (i, row) in tile.chunks_exact_mut(width).enumerate() {
            for (v, t) in row[..count].iter_mut().enumerate() {
                if let Some(e) = x.get(v, i) {
                    *t = e.load();
                }
            }
        }
    }
}

pub(crate) fn unpack<E: Element>(tile: &[E::Scalar], width: usize, mut y: BatchMut<'_, E>) {
    let count = y.batch();
    if y.row_mut(0).is_some() {
        for (run, rows) in tile.chunks(RUN * width).enumerate() {
            for v in 0..count {
                if let Some(row) = y.row_mut(v) {
                    for (e, t) in row[run * RUN..].iter_mut().zip(rows.chunks_exact(width)) {
                        *e = E::store(t[v]);
                    }
                }
            }
        }
    } else if y.column_mut(0).is_some() {
        for (i, row) in tile.chunks_exact(width).enumerate() {
            if let Some(column) = y.column_mut(i) {
                for (e, t) in column.iter_mut().zip(row) {
                    *e = E::store(*t);
                }
            }
        }
    } else {
        for (i, row) in tile.chunks_exact(width).enumerate() {
            for (v, t) in row[..count].iter().enumerate() {
                y.set(v, i, E::store(*t));
            }
        }
    }
}
