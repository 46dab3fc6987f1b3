//! Truth for the tests of this crate: double-double numbers (106 bits; Dekker, Numer. Math. 18 (1971) 224–242) and the
//! inverse of a matrix in them. Correct for exponents far from the ends of the range only.

use alloc::vec::Vec;
use core::ops::{Add, Div, Mul, Neg, Sub};

/// The unevaluated sum of two numbers, the second at most half an ulp of the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Double(pub(crate) f64, pub(crate) f64);

fn two_sum(a: f64, b: f64) -> Double {
    let s = a + b;
    let t = s - a;
    Double(s, (a - (s - t)) + (b - t))
}

impl From<f64> for Double {
    fn from(x: f64) -> Self {
        Self(x, 0.0)
    }
}
impl Add for Double {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        let (high, low) = (two_sum(self.0, o.0), two_sum(self.1, o.1));
        let high = two_sum(high.0, high.1 + low.0);
        two_sum(high.0, high.1 + low.1)
    }
}
impl Neg for Double {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0, -self.1)
    }
}
impl Sub for Double {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        self + -o
    }
}
impl Mul for Double {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        let p = self.0 * o.0;
        two_sum(p, self.0.mul_add(o.0, -p) + (self.0 * o.1 + self.1 * o.0))
    }
}
impl Div for Double {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        let q = Self::from(self.0 / o.0);
        let q = q + Self::from((self - q * o).0 / o.0);
        q + Self::from((self - q * o).0 / o.0)
    }
}

/// The product of two b×b matrices.
pub(crate) fn product(b: usize, x: &[Double], y: &[Double]) -> Vec<Double> {
    let entry = |i: usize, j: usize| (0..b).fold(Double::from(0.0), |acc, k| acc + x[i * b + k] * y[k * b + j]);
    (0..b * b).map(|at| entry(at / b, at % b)).collect()
}

/// The transpose of a b×b matrix.
pub(crate) fn transpose(b: usize, x: &[Double]) -> Vec<Double> {
    (0..b * b).map(|at| x[at % b * b + at / b]).collect()
}

/// The inverse of a b×b matrix, by Gauss–Jordan elimination with partial pivoting.
pub(crate) fn inverse(b: usize, m: &[Double]) -> Vec<Double> {
    let mut rows: Vec<Vec<Double>> = (0..b)
        .map(|i| {
            let unit = (0..b).map(|j| Double::from(f64::from(u8::from(i == j))));
            m[i * b..(i + 1) * b].iter().copied().chain(unit).collect()
        })
        .collect();
    for k in 0..b {
        let at = (k..b).max_by(|&i, &j| rows[i][k].0.abs().total_cmp(&rows[j][k].0.abs())).unwrap();
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

/// (I + A)⁻¹ for the skew A with strict upper triangle `theta`.
pub(crate) fn skew_resolvent(b: usize, theta: &[f64]) -> Vec<Double> {
    let mut m: Vec<Double> = (0..b * b).map(|at| Double::from(f64::from(u8::from(at / b == at % b)))).collect();
    let mut upper = theta.iter();
    for i in 0..b {
        for j in i + 1..b {
            let t = *upper.next().unwrap();
            (m[i * b + j], m[j * b + i]) = (t.into(), (-t).into());
        }
    }
    inverse(b, &m)
}
