//! Truth for the tests of this crate: small matrices of double-double numbers, and their inverses. Correct for exponents far
//! from the ends of the range only.

use alloc::vec::Vec;

use super::DoubleDouble;

/// The product of two b×b matrices.
pub(crate) fn product(b: usize, x: &[DoubleDouble], y: &[DoubleDouble]) -> Vec<DoubleDouble> {
    let entry = |i: usize, j: usize| (0..b).fold(DoubleDouble::from(0.0), |acc, k| acc + x[i * b + k] * y[k * b + j]);
    (0..b * b).map(|at| entry(at / b, at % b)).collect()
}

/// The transpose of a b×b matrix.
pub(crate) fn transpose(b: usize, x: &[DoubleDouble]) -> Vec<DoubleDouble> {
    (0..b * b).map(|at| x[at % b * b + at / b]).collect()
}

/// The inverse of a b×b matrix, by Gauss–Jordan elimination with partial pivoting.
pub(crate) fn inverse(b: usize, m: &[DoubleDouble]) -> Vec<DoubleDouble> {
    let mut rows: Vec<Vec<DoubleDouble>> = (0..b)
        .map(|i| {
            let unit = (0..b).map(|j| DoubleDouble::from(f64::from(u8::from(i == j))));
            m[i * b..(i + 1) * b].iter().copied().chain(unit).collect()
        })
        .collect();
    for k in 0..b {
        let at = (k..b).max_by(|&i, &j| rows[i][k].to_f64().abs().total_cmp(&rows[j][k].to_f64().abs())).unwrap();
        rows.swap(k, at);
        let pivot = rows[k][k];
        rows[k].iter_mut().for_each(|x| *x = *x / pivot);
        let row = rows[k].clone();
        for (i, other) in rows.iter_mut().enumerate() {
            if i != k {
                let factor = other[k];
                other.iter_mut().zip(&row).for_each(|(x, &r)| *x = *x - factor * r);
            }
        }
    }
    rows.into_iter().flat_map(|row| row.into_iter().skip(b)).collect()
}

/// The exponential of an n×n matrix: its series at norm ⅛, squared.
pub(crate) fn exponential(n: usize, a: &[DoubleDouble]) -> Vec<DoubleDouble> {
    let norm = a.chunks_exact(n).map(|row| row.iter().map(|x| x.to_f64().abs()).sum()).fold(0.0, f64::max);
    let squarings = if norm > 0.125 { (8.0 * norm).log2().ceil() as i32 } else { 0 };
    let a: Vec<DoubleDouble> = a.iter().map(|&x| x * 0.5f64.powi(squarings)).collect();
    let identity = |at: usize| DoubleDouble::from(f64::from(u8::from(at / n == at % n)));
    let mut x: Vec<DoubleDouble> = (0..n * n).map(identity).collect();
    for k in (1..=21).rev() {
        let next = product(n, &a, &x).into_iter().enumerate();
        x = next.map(|(at, x)| identity(at) + x / DoubleDouble::from(f64::from(k))).collect();
    }
    (0..squarings).for_each(|_| x = product(n, &x, &x));
    x
}

/// (I + A)⁻¹ for the skew A with strict upper triangle `theta`.
pub(crate) fn skew_resolvent(b: usize, theta: &[f64]) -> Vec<DoubleDouble> {
    let mut m: Vec<DoubleDouble> =
        (0..b * b).map(|at| DoubleDouble::from(f64::from(u8::from(at / b == at % b)))).collect();
    let mut upper = theta.iter();
    for i in 0..b {
        for j in i + 1..b {
            let t = *upper.next().unwrap();
            (m[i * b + j], m[j * b + i]) = (t.into(), (-t).into());
        }
    }
    inverse(b, &m)
}
