//! Products of small matrices, row by row, with four columns of packs in registers.
//!
//! Of a matrix of plain real numbers eight neighbouring columns take the place of a pack. Every entry is summed over k upwards,
//! whatever the blocking, so its bits depend on nothing else.

use core::array::from_fn;

use super::pack::{Number, Span};

/// What a sum of products begins with.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Start {
    Zero,
    /// What stands there already.
    Old,
}

/// `out[j]` ← start + Σ_k x(k)·m[k][j] for `from ≤ j < b`: a row vector times a matrix with rows of length b.
#[inline(always)]
pub(crate) fn row_times<T: Number>(
    start: Start,
    (b, from): (usize, usize),
    x: impl Fn(usize) -> T,
    m: &[T],
    out: &mut [T],
) {
    let mut j = from;
    if T::SPAN > 1 {
        while j + 4 * T::SPAN <= b {
            tile::<T, T::Columns, 4>(start, (b, j), &x, m, out);
            j += 4 * T::SPAN;
        }
        while j + T::SPAN <= b {
            tile::<T, T::Columns, 1>(start, (b, j), &x, m, out);
            j += T::SPAN;
        }
    }
    while j + 4 <= b {
        tile::<T, T, 4>(start, (b, j), &x, m, out);
        j += 4;
    }
    while j < b {
        tile::<T, T, 1>(start, (b, j), &x, m, out);
        j += 1;
    }
}

/// The same for `C` spans of columns, the first of them j.
#[inline(always)]
fn tile<T: Number, V: Span<T>, const C: usize>(
    start: Start,
    (b, j): (usize, usize),
    x: &impl Fn(usize) -> T,
    m: &[T],
    out: &mut [T],
) {
    let columns = j..j + C * V::COLUMNS;
    let load = |row: &[T]| -> [V; C] {
        let row = &row[columns.clone()];
        from_fn(|c| V::load(&row[c * V::COLUMNS..(c + 1) * V::COLUMNS]))
    };
    let mut sums = if start == Start::Old { load(out) } else { [V::spread(T::from_f64(0.0)); C] };
    for (k, m) in m.chunks_exact(b).enumerate() {
        let (factor, m) = (V::spread(x(k)), load(m));
        for (y, m) in sums.iter_mut().zip(m) {
            *y = *y + factor * m;
        }
    }
    for (out, y) in out[columns].chunks_exact_mut(V::COLUMNS).zip(&sums) {
        y.store(out);
    }
}

/// `out[j] = f(out[j], x[j])`, four at a time: a plain loop over packs tempts the compiler to vectorise across them,
/// with shuffles that cost ten times the arithmetic.
#[inline(always)]
pub(crate) fn update<T: Number>(out: &mut [T], x: &[T], f: impl Fn(T, T) -> T) {
    let (mut outs, mut xs) = (out.chunks_exact_mut(4), x.chunks_exact(4));
    for (out, x) in (&mut outs).zip(&mut xs) {
        out.copy_from_slice(&[f(out[0], x[0]), f(out[1], x[1]), f(out[2], x[2]), f(out[3], x[3])]);
    }
    for (out, x) in outs.into_remainder().iter_mut().zip(xs.remainder()) {
        *out = f(*out, *x);
    }
}

/// `out = x·m` for b×b matrices.
#[inline(always)]
pub(crate) fn product<T: Number>(b: usize, x: &[T], m: &[T], out: &mut [T]) {
    product_by(b, |i, k| x[i * b + k], m, out);
}

/// `out = xᴴ·m` for b×b matrices.
#[inline(always)]
pub(crate) fn adjoint_product<T: Number>(b: usize, x: &[T], m: &[T], out: &mut [T]) {
    product_by(b, |i, k| x[k * b + i].conj(), m, out);
}

#[inline(always)]
fn product_by<T: Number>(b: usize, x: impl Fn(usize, usize) -> T, m: &[T], out: &mut [T]) {
    for (i, out) in out.chunks_exact_mut(b.max(1)).enumerate() {
        row_times(Start::Zero, (b, 0), |k| x(i, k), m, out);
    }
}

/// start + Σ_k x(i, k)·m[k][j] for i ≤ j, of a matrix whose one triangle tells the other. Some entries left of the diagonal are
/// written, too, so that columns are whole spans.
#[inline(always)]
pub(crate) fn upper_product<T: Number>(start: Start, b: usize, x: impl Fn(usize, usize) -> T, m: &[T], out: &mut [T]) {
    for (i, out) in out.chunks_exact_mut(b.max(1)).enumerate() {
        let from = b - (b - i).next_multiple_of(T::SPAN).min(b);
        row_times(start, (b, from), |k| x(i, k), m, out);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::dense::pack::{Lanes, Pack};

    #[test]
    fn agrees_with_the_definition_in_every_lane() {
        for b in 1..=9 {
            let entry = |l: usize, at: usize| (at * at % 7) as f64 - (l * at % 5) as f64;
            let m: Vec<Lanes> = (0..b * b).map(|at| Lanes::gather(|l| entry(l, at))).collect();
            let mut out = vec![Lanes::from_f64(f64::NAN); b * b];
            product(b, &m, &m, &mut out);
            for (at, out) in out.iter().enumerate() {
                for l in 0..8 {
                    let truth: f64 = (0..b).map(|k| entry(l, at / b * b + k) * entry(l, k * b + at % b)).sum();
                    assert_eq!(out.lane(l), truth, "b = {b}, entry {at}, lane {l}");
                }
            }
        }
    }
}
