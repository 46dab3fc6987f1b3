//! The polar factor of one dense matrix of any size, by products alone; `block_polar.rs` has those of many small blocks.
//!
//! X ← X·p(XᵀX) acts on singular values. The first steps use p(s) = 3.4445 − 4.7750 s + 2.0315 s² (K. Jordan et al., *Muon*, 2024): they
//! multiply small σ by 3.44 and keep all of (0, 1.2] below 1.21, until all are near 1. Then σ ↦ σ(15 − 10σ² + 3σ⁴)/8, which has 1 as a
//! fixed point of order three, converges in a few steps. A complex matrix A + iB is [[A, −B], [B, A]], whose polar factor is of the same
//! form.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::block_polar::NEAR;
use super::chain::adjoint;
use crate::error::{Error, Result};
use crate::parallel::{Parallelism, for_each};
use crate::scalar::Wide;
use crate::simd::{Isa, Job, Lanes, dispatch};

/// Steps that let small singular values grow: to 1 from 1e-7.
const GROWING: usize = 14;
/// Steps that converge, at most.
const CONVERGING: usize = 20;
const GROW: [f64; 3] = [3.4445, -4.7750, 2.0315];

/// Replaces a row-major n×n matrix by its polar factor.
pub(super) fn polar<W: Wide>(n: usize, x: &mut [W]) -> Result<()> {
    let parts = 1 + usize::from(W::IS_COMPLEX);
    let size = n * parts;
    let mut real = vec![0.0; size * size];
    for (at, x) in x.iter().enumerate() {
        let (i, j) = (at / n, at % n);
        real[i * size + j] = x.re();
        if W::IS_COMPLEX {
            real[(i + n) * size + j + n] = x.re();
            (real[i * size + j + n], real[(i + n) * size + j]) = (-x.im(), x.im());
        }
    }
    real_polar(size, &mut real)?;
    for (at, x) in x.iter_mut().enumerate() {
        let at = at / n * size + at % n;
        *x = W::from_parts(real[at], if W::IS_COMPLEX { real[at + n * size] } else { 0.0 });
    }
    Ok(())
}

fn real_polar(n: usize, x: &mut [f64]) -> Result<()> {
    let singular = |got| Error::Domain {
        what: "target".to_string(),
        expected: "a matrix with singular values above 1e-7 of the largest, so that an orthogonal one is nearest",
        got,
    };
    // So that no square overflows or vanishes.
    let largest = x.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    if !(1e-100..1e100).contains(&largest) {
        x.iter_mut().for_each(|x| *x /= largest);
    }
    let mut scratch = [vec![0.0; n * n], vec![0.0; n * n], vec![0.0; n * n]];
    // ‖X‖₂² is at most ‖XᵀX‖_∞.
    let norm = {
        let [gram, ..] = &mut scratch;
        let transposed = adjoint(n, x);
        multiply(n, &transposed, x, gram);
        gram.chunks_exact(n).map(|row| row.iter().map(|g| g.abs()).sum::<f64>()).fold(0.0, f64::max)
    };
    if !(norm > 0.0 && norm.is_finite()) {
        return Err(singular(format!("‖QᵀQ‖ = {norm:e}")));
    }
    let unit = 1.0 / Float::sqrt(norm);
    let near = |gram: &[f64]| {
        let square = |(at, g): (usize, &f64)| {
            let d = g - f64::from(u8::from(at / n == at % n));
            d * d
        };
        Float::sqrt(gram.iter().enumerate().map(square).sum::<f64>())
    };
    if near(&scratch[0]) > 0.5 {
        x.iter_mut().for_each(|x| *x *= unit);
        for _ in 0..GROWING {
            step(n, x, &mut scratch, GROW, near);
        }
    }
    let mut last = f64::INFINITY;
    for _ in 0..CONVERGING {
        let defect = step(n, x, &mut scratch, NEAR, near);
        // One more step has been done than the defect knows of; it is cubed by each.
        if defect <= 1e-6 {
            return Ok(());
        }
        if defect.is_nan() || defect >= 4.0 * last {
            break;
        }
        last = defect;
    }
    Err(singular(format!("a defect of {last:e} after all steps")))
}

/// X ← X(c₀ + c₁G + c₂G²), G = XᵀX; returns what `near` says of G.
fn step(
    n: usize,
    x: &mut [f64],
    [gram, square, next]: &mut [Vec<f64>; 3],
    c: [f64; 3],
    near: impl Fn(&[f64]) -> f64,
) -> f64 {
    let transposed = adjoint(n, x);
    multiply(n, &transposed, x, gram);
    let defect = near(gram);
    multiply(n, gram, gram, square);
    for (at, (square, gram)) in square.iter_mut().zip(&*gram).enumerate() {
        *square = c[2] * *square + c[1] * gram + if at / n == at % n { c[0] } else { 0.0 };
    }
    multiply(n, x, square, next);
    x.copy_from_slice(next);
    defect
}

/// Rows that a thread takes at a time.
const STRIP: usize = 64;
/// Rows of y that are packed together.
const DEPTH: usize = 256;

/// `out` ← x·y for n×n matrices.
fn multiply(n: usize, x: &[f64], y: &[f64], out: &mut [f64]) {
    let isa = Isa::detect();
    let strips: Vec<_> = out.chunks_mut(STRIP * n).zip(x.chunks(STRIP * n)).collect();
    for_each(Parallelism::default(), strips, |(out, x)| dispatch::<f64, _>(isa, Strip { n, x, y, out }));
}

struct Strip<'a> {
    n: usize,
    x: &'a [f64],
    y: &'a [f64],
    out: &'a mut [f64],
}

/// Rows and registers of a tile.
const TILE: (usize, usize) = (4, 4);

impl Job<f64> for Strip<'_> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, s: S) {
        let Self { n, x, y, out } = self;
        let width = TILE.1 * S::LANES;
        let mut packed = vec![0.0; DEPTH * width];
        out.fill(0.0);
        for first in (0..n).step_by(DEPTH) {
            let depth = DEPTH.min(n - first);
            for column in (0..n).step_by(width) {
                let columns = width.min(n - column);
                for (to, k) in packed.chunks_exact_mut(width).zip(first..first + depth) {
                    to[..columns].copy_from_slice(&y[k * n + column..][..columns]);
                }
                for (x, out) in x.chunks(TILE.0 * n).zip(out.chunks_mut(TILE.0 * n)) {
                    let rows = x.len() / n;
                    let part = |r: usize| &x[r.min(rows - 1) * n + first..][..depth];
                    let x = [part(0), part(1), part(2), part(3)];
                    let tile = tile(s, x, &packed[..depth * width]);
                    for (row, sums) in out.chunks_exact_mut(n).zip(&tile) {
                        let sums: &[f64] = bytemuck::cast_slice(sums);
                        row[column..column + columns].iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn tile<S: Lanes<f64>>(s: S, x: [&[f64]; TILE.0], packed: &[f64]) -> [[S::V; TILE.1]; TILE.0] {
    let mut sums = [[s.splat(0.0); TILE.1]; TILE.0];
    for (k, y) in packed.chunks_exact(TILE.1 * S::LANES).enumerate() {
        let y: &[S::V] = bytemuck::cast_slice(y);
        let y = [y[0], y[1], y[2], y[3]];
        for r in 0..TILE.0 {
            let x = s.splat(x[r][k]);
            for c in 0..TILE.1 {
                sums[r][c] = s.mul_add(x, y[c], sums[r][c]);
            }
        }
    }
    sums
}
