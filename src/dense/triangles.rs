//! One triangle of a matrix and the other: registers in squares where numbers are plain and real, one by one elsewhere.

use core::slice::{from_mut, from_ref};

use bytemuck::Zeroable;

use super::pack::Number;
use crate::simd::{Lanes, MOST, transposed};

/// Columns, and rows, that squares of registers fill.
#[inline(always)]
fn whole<S: Lanes<f64>>(b: usize) -> usize {
    if (2..=MOST).contains(&S::LANES) { b / S::LANES * S::LANES } else { 0 }
}

/// The square with this corner, transposed.
#[inline(always)]
fn square<S: Lanes<f64>>(s: S, b: usize, m: &[f64], (i, j): (usize, usize)) -> [S::V; MOST] {
    let mut square = [S::V::zeroed(); MOST];
    for (r, row) in square.iter_mut().enumerate().take(S::LANES) {
        let start = (i + r) * b + j;
        bytemuck::cast_slice_mut(from_mut(row)).copy_from_slice(&m[start..start + S::LANES]);
    }
    transposed::<f64, S, MOST>(s, square)
}

/// Writes the triangle below the diagonal: `factor` times the conjugate of the other plus `zero`, which is 0, or −0 where negative
/// zeros may stay.
#[inline(always)]
pub(super) fn mirror<T: Number, S: Lanes<f64>>(s: S, b: usize, (factor, zero): (f64, f64), m: &mut [T]) {
    if let Some(m) = T::plain_mut(m) {
        let (factor, zero) = (s.splat(factor), s.splat(zero));
        for i in (0..whole::<S>(b)).step_by(S::LANES) {
            for j in (i + S::LANES..whole::<S>(b)).step_by(S::LANES) {
                let square = square(s, b, m, (i, j));
                for (r, row) in square.iter().enumerate().take(S::LANES) {
                    let (row, start) = (s.mul_add(factor, *row, zero), (j + r) * b + i);
                    m[start..start + S::LANES].copy_from_slice(bytemuck::cast_slice(from_ref(&row)));
                }
            }
        }
    }
    let (factor, zero, whole) =
        (T::from_f64(factor), T::from_f64(zero), if T::plain(m).is_some() { whole::<S>(b) } else { 0 });
    for i in 0..b {
        let squares = if i < whole { i / S::LANES * S::LANES + S::LANES..whole } else { b..b };
        for columns in [i + 1..squares.start, squares.end..b] {
            for j in columns {
                m[j * b + i] = factor * m[i * b + j].conj() + zero;
            }
        }
    }
}

/// Adds `scale`·(above − below) of every pair of entries that mirror each other to `out`, where the strict upper triangle lies row
/// by row. They are put into `scratch` first, of at least b² numbers.
#[inline(always)]
pub(super) fn add_differences<S: Lanes<f64>>(
    s: S,
    b: usize,
    scale: f64,
    m: &[f64],
    scratch: &mut [f64],
    out: &mut [f64],
) {
    let (span, whole) = (S::LANES, whole::<S>(b));
    // Where column 0 of row i would lie, behind one number.
    let start = |i: usize| i * b - i * (i + 1) / 2 - i;
    let (factor, minus) = (s.splat(scale), s.splat(-1.0));
    for i in (whole..b).rev() {
        for j in i + 1..b {
            scratch[start(i) + j] = scale * (m[i * b + j] - m[j * b + i]);
        }
    }
    for i in (0..whole).step_by(span).rev() {
        for j in (i..whole).step_by(span) {
            let below = square(s, b, m, (j, i));
            for r in (0..span).rev() {
                let (mut above, from, to) = (S::V::zeroed(), (i + r) * b + j, start(i + r) + j);
                bytemuck::cast_slice_mut(from_mut(&mut above)).copy_from_slice(&m[from..from + span]);
                let difference = s.mul(factor, s.add(above, s.mul(minus, below[r])));
                // On the diagonal this writes over the end of the row above, which comes later.
                scratch[to..to + span].copy_from_slice(bytemuck::cast_slice(from_ref(&difference)));
            }
        }
        for r in i..i + span {
            for j in whole..b {
                scratch[start(r) + j] = scale * (m[r * b + j] - m[j * b + r]);
            }
        }
    }
    out.iter_mut().zip(&scratch[1..]).for_each(|(out, x)| *out += x);
}
