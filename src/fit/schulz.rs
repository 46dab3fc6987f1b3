//! Polar factors of blocks that are not far from orthogonal, by Newton–Schulz steps.
//!
//! > X ← X(3 − XᴴX)/2
//!
//! takes every singular value σ to σ(3 − σ²)/2 and leaves the singular vectors alone: from 0 < σ ≤ 1 it rises to 1, quadratically at the
//! end. A step is two products, far less than a singular value decomposition. Eight blocks run side by side, one per lane.

use alloc::vec;
use alloc::vec::Vec;

use super::polar::{Lane, WIDTH};
use crate::parallel::{Parallelism, for_each};
use crate::scalar::Wide;
use crate::simd::{Isa, Job, Lanes, dispatch};

/// From σ = 0.4 it takes seven.
const STEPS: usize = 12;
/// The step from here is the last: a defect d leaves ¾d².
const LAST: f64 = 1e-8;
/// Columns of a product at a time.
const TILE: usize = 4;

/// Replaces every X of `blocks` by its polar factor. Singular values must lie in [0.4, 1].
pub(super) fn schulz<W: Wide>(b: usize, blocks: &mut [W], isa: Isa, parallelism: Parallelism) {
    let groups: Vec<_> = blocks.chunks_mut(b * b * WIDTH).collect();
    for_each(parallelism, groups, |blocks| {
        if W::IS_COMPLEX { group::<W, 2>(b, blocks, isa) } else { group::<W, 1>(b, blocks, isa) }
    });
}

fn group<W: Wide, const PARTS: usize>(b: usize, blocks: &mut [W], isa: Isa) {
    let size = b * b;
    let mut x = vec![[[0.0; WIDTH]; PARTS]; size];
    // Lanes without a block are at rest.
    x.iter_mut().step_by(b + 1).for_each(|x| x[0] = [1.0; WIDTH]);
    for (l, block) in blocks.chunks_exact(size).enumerate() {
        for (x, entry) in x.iter_mut().zip(block) {
            x[0][l] = entry.re();
            if PARTS == 2 {
                x[PARTS - 1][l] = entry.im();
            }
        }
    }
    let (mut gram, mut next) = (x.clone(), x.clone());
    dispatch::<f64, _>(isa, Steps::<PARTS> { b, x: &mut x, gram: &mut gram, next: &mut next });
    for (l, block) in blocks.chunks_exact_mut(size).enumerate() {
        for (x, entry) in x.iter().zip(block) {
            *entry = W::from_parts(x[0][l], if PARTS == 2 { x[PARTS - 1][l] } else { 0.0 });
        }
    }
}

/// Eight numbers.
type Eight<const PARTS: usize> = [Lane; PARTS];

struct Steps<'a, const PARTS: usize> {
    b: usize,
    x: &'a mut [Eight<PARTS>],
    gram: &'a mut [Eight<PARTS>],
    next: &'a mut [Eight<PARTS>],
}

impl<const PARTS: usize> Job<f64> for Steps<'_, PARTS> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, _: S) {
        let Self { b, x, gram, next } = self;
        for _ in 0..STEPS {
            // (3 − XᴴX)/2
            product::<PARTS, true>(b, x, x, gram);
            let mut defect = [0.0f64; WIDTH];
            for (at, entry) in gram.iter_mut().enumerate() {
                let diagonal = f64::from(u8::from(at % (b + 1) == 0));
                for (part, entry) in entry.iter_mut().enumerate() {
                    let unit = if part == 0 { diagonal } else { 0.0 };
                    for l in 0..WIDTH {
                        let d = entry[l] - unit;
                        defect[l] = defect[l].max(d.abs());
                        entry[l] = unit - 0.5 * d;
                    }
                }
            }
            product::<PARTS, false>(b, x, gram, next);
            x.copy_from_slice(next);
            if defect.iter().all(|d| *d <= LAST) {
                break;
            }
        }
    }
}

/// `out` ← x·y, or xᴴ·y.
#[inline(always)]
fn product<const PARTS: usize, const ADJOINT: bool>(
    b: usize,
    x: &[Eight<PARTS>],
    y: &[Eight<PARTS>],
    out: &mut [Eight<PARTS>],
) {
    for i in 0..b {
        for j in (0..b).step_by(TILE) {
            if j + TILE <= b {
                tile::<PARTS, ADJOINT, TILE>(b, i, j, x, y, out);
            } else {
                (j..b).for_each(|j| tile::<PARTS, ADJOINT, 1>(b, i, j, x, y, out));
            }
        }
    }
}

#[inline(always)]
fn tile<const PARTS: usize, const ADJOINT: bool, const COLUMNS: usize>(
    b: usize,
    i: usize,
    j: usize,
    x: &[Eight<PARTS>],
    y: &[Eight<PARTS>],
    out: &mut [Eight<PARTS>],
) {
    let mut sum = [[[0.0; WIDTH]; PARTS]; COLUMNS];
    for k in 0..b {
        let x = if ADJOINT { &x[k * b + i] } else { &x[i * b + k] };
        for (sum, y) in sum.iter_mut().zip(&y[k * b + j..][..COLUMNS]) {
            for l in 0..WIDTH {
                if PARTS == 2 {
                    let im = if ADJOINT { -x[1][l] } else { x[1][l] };
                    sum[0][l] += x[0][l] * y[0][l] - im * y[1][l];
                    sum[1][l] += x[0][l] * y[1][l] + im * y[0][l];
                } else {
                    sum[0][l] += x[0][l] * y[0][l];
                }
            }
        }
    }
    out[i * b + j..][..COLUMNS].copy_from_slice(&sum);
}
