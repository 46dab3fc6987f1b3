//! Products of small matrices, row by row, with four columns in registers.
//!
//! Every entry is summed over k upwards, whatever the blocking, so its bits depend on nothing else.

use super::pack::Number;

/// `out[j] += Σ_k x(k)·m[k][j]` for `from ≤ j < b`: a row vector times a b×b matrix.
#[inline(always)]
pub(crate) fn add_row_times<T: Number>(b: usize, from: usize, x: impl Fn(usize) -> T, m: &[T], out: &mut [T]) {
    let mut chunks = out[from..b].chunks_exact_mut(4);
    let mut j = from;
    for out in &mut chunks {
        let mut sums = [out[0], out[1], out[2], out[3]];
        for (k, m) in m.chunks_exact(b).enumerate() {
            let factor = x(k);
            for (sum, m) in sums.iter_mut().zip(&m[j..j + 4]) {
                *sum = *sum + factor * *m;
            }
        }
        out.copy_from_slice(&sums);
        j += 4;
    }
    for out in chunks.into_remainder() {
        for (k, m) in m.chunks_exact(b).enumerate() {
            *out = *out + x(k) * m[j];
        }
        j += 1;
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
    out.fill(T::from_f64(0.0));
    for (x, out) in x.chunks_exact(b).zip(out.chunks_exact_mut(b)) {
        add_row_times(b, 0, |k| x[k], m, out);
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
