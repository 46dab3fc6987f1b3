//! Products AᵀB of tall matrices, tile by tile through the SIMD of the machine: the Gram matrices behind what is measured of
//! dense matrices. Columns lie in panels of a few side by side. Sums run in an order that depends on shapes alone.

use alloc::vec;
use alloc::vec::Vec;

use bytemuck::Zeroable;

use crate::simd::{Isa, Job, Lanes, dispatch};

/// Columns of a panel: a multiple of twice the lanes of every machine.
pub(super) const PANEL: usize = 16;
/// Rows that stay in the first cache: 256·16 doubles are 32 KiB.
const ROWS: usize = 256;
/// Panels of a strip, the piece of work of a thread: their rows stay in the second cache.
pub(super) const STRIP: usize = 4;
/// Rows of a register tile, of two SIMD vectors each.
const TILE: usize = 4;

/// Columns in panels of `PANEL`, each panel row by row, the last one filled up with zeros.
pub(super) fn pack(depth: usize, width: usize, at: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut panels = vec![0.0; width.div_ceil(PANEL) * depth * PANEL];
    for (p, panel) in panels.chunks_exact_mut((depth * PANEL).max(1)).enumerate() {
        for (k, row) in panel.chunks_exact_mut(PANEL).enumerate() {
            for (j, x) in (p * PANEL..width).zip(row) {
                *x = at(k, j);
            }
        }
    }
    panels
}

/// Number `k` of column `j`.
pub(super) fn at(panels: &[f64], depth: usize, k: usize, j: usize) -> f64 {
    panels[(j / PANEL * depth + k) * PANEL + j % PANEL]
}

/// aᵀ·b in tiles: those on and above the diagonal in the panels `strip` of b, one row of tiles after the other.
pub(super) fn gram(a: &[f64], b: &[f64], depth: usize, strip: core::ops::Range<usize>) -> Vec<f64> {
    let (size, first, last) = (depth * PANEL, strip.start, strip.end);
    let mut gram = vec![0.0; last * (last - first) * PANEL * PANEL];
    for k in (0..depth).step_by(ROWS) {
        let rows = k * PANEL..depth.min(k + ROWS) * PANEL;
        for p in 0..last {
            for q in first.max(p)..last {
                let at = (p * (last - first) + q - first) * PANEL * PANEL;
                let (a, b) = (&a[p * size..][rows.clone()], &b[q * size..][rows.clone()]);
                dispatch(Isa::detect(), TileProduct { a, b, c: &mut gram[at..][..PANEL * PANEL] });
            }
        }
    }
    gram
}

/// Tile number `at`.
pub(super) fn tile(gram: &[f64], at: usize) -> &[f64] {
    &gram[at * PANEL * PANEL..][..PANEL * PANEL]
}

/// c += aᵀ·b for panels a and b of the same number of rows.
struct TileProduct<'a> {
    a: &'a [f64],
    b: &'a [f64],
    c: &'a mut [f64],
}

impl Job<f64> for TileProduct<'_> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, s: S) {
        let Self { a, b, c } = self;
        let lanes = S::LANES;
        for i in (0..PANEL).step_by(TILE) {
            for j in (0..PANEL).step_by(2 * lanes) {
                let mut sums = [[S::V::zeroed(); 2]; TILE];
                for (a, b) in a.chunks_exact(PANEL).zip(b.chunks_exact(PANEL)) {
                    let b = [load::<S>(&b[j..j + lanes]), load::<S>(&b[j + lanes..j + 2 * lanes])];
                    for (sum, &x) in sums.iter_mut().zip(&a[i..i + TILE]) {
                        let x = s.splat(x);
                        *sum = [s.mul_add(x, b[0], sum[0]), s.mul_add(x, b[1], sum[1])];
                    }
                }
                for (row, sum) in sums.iter().enumerate() {
                    let out = &mut c[(i + row) * PANEL + j..][..2 * lanes];
                    for (o, x) in out.iter_mut().zip(bytemuck::cast_slice::<S::V, f64>(sum)) {
                        *o += x;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn load<S: Lanes<f64>>(x: &[f64]) -> S::V {
    bytemuck::pod_read_unaligned(bytemuck::cast_slice(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_the_products_of_the_columns() {
        let (depth, width) = (261, 70);
        let entry = |k: usize, j: usize| ((k * 7 + j * 13) % 11) as f64 - 5.0;
        let panels = pack(depth, width, entry);
        assert!((0..width).all(|j| at(&panels, depth, 260, j) == entry(260, j)));
        let strip = STRIP..width.div_ceil(PANEL);
        let gram = gram(&panels, &panels, depth, strip.clone());
        for p in 0..strip.end {
            for q in strip.start.max(p)..strip.end {
                let tile = tile(&gram, p * strip.len() + q - strip.start);
                for (i, j) in
                    (p * PANEL..width.min((p + 1) * PANEL)).flat_map(|i| (q * PANEL..width).map(move |j| (i, j)))
                {
                    let truth: f64 = (0..depth).map(|k| entry(k, i) * entry(k, j)).sum();
                    assert_eq!(tile[i % PANEL * PANEL + j % PANEL], truth, "({i}, {j})");
                }
            }
        }
    }
}
