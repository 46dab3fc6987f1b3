//! Double-double arithmetic: about 106 bits from pairs of `f64`, by error-free transformations.
//!
//! - TwoSum (Knuth 1969): s = fl(a + b), e = (a + b) − s exactly, for any a and b.
//! - TwoProd (Dekker 1971, with Veltkamp's splitting): p = fl(a·b), e = a·b − p exactly, without a fused multiply-add,
//!   while nothing underflows and |a|, |b| < 2⁹⁹⁶ (beyond, the splitting overflows and the result is NaN).
//!
//! Sums and products of [`DoubleDouble`] are algorithms 6, 7 and 10 of Joldes, Muller and Popescu, Tight and rigorous error
//! bounds for basic building blocks of double-word arithmetic, ACM TOMS 44(2), 2017, doi 10.1145/3121432, with relative
//! errors of at most 3u² + 13u³, 1.5u² + 4u³ and 7u², u = 2⁻⁵³. Quotients are two steps of long division.

use core::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// An unevaluated sum hi + lo with hi = fl(hi + lo).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct DoubleDouble {
    hi: f64,
    lo: f64,
}

/// (s, e) with s = fl(a + b) and s + e = a + b exactly.
#[inline(always)]
pub(crate) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let t = s - a;
    (s, (a - (s - t)) + (b - t))
}

/// [`two_sum`] for |a| ≥ |b| or a = 0.
#[inline(always)]
fn fast_two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    (s, b - (s - a))
}

/// a = high + low exactly, each of 26 bits.
#[inline(always)]
pub(crate) fn split(a: f64) -> (f64, f64) {
    let c = 134_217_729.0 * a; // 2^27 + 1
    let high = c - (c - a);
    (high, a - high)
}

/// (p, e) with p = fl(a·b) and p + e = a·b exactly.
#[inline(always)]
pub(crate) fn two_prod(a: f64, b: f64) -> (f64, f64) {
    let p = a * b;
    (p, product_error(p, split(a), split(b)))
}

/// a·b − p for numbers that are already split.
#[inline(always)]
pub(crate) fn product_error(p: f64, a: (f64, f64), b: (f64, f64)) -> f64 {
    a.1 * b.1 - (((p - a.0 * b.0) - a.1 * b.0) - a.0 * b.1)
}

impl DoubleDouble {
    /// The nearest `f64`.
    pub(crate) fn to_f64(self) -> f64 {
        self.hi
    }
}

impl From<f64> for DoubleDouble {
    fn from(hi: f64) -> Self {
        Self { hi, lo: 0.0 }
    }
}

impl Add for DoubleDouble {
    type Output = Self;
    #[inline]
    fn add(self, y: Self) -> Self {
        let (s, e) = two_sum(self.hi, y.hi);
        let (t, f) = two_sum(self.lo, y.lo);
        let (v, w) = fast_two_sum(s, e + t);
        let (hi, lo) = fast_two_sum(v, f + w);
        Self { hi, lo }
    }
}

impl AddAssign for DoubleDouble {
    #[inline]
    fn add_assign(&mut self, y: Self) {
        *self = *self + y;
    }
}

impl Neg for DoubleDouble {
    type Output = Self;
    fn neg(self) -> Self {
        Self { hi: -self.hi, lo: -self.lo }
    }
}

impl Sub for DoubleDouble {
    type Output = Self;
    fn sub(self, y: Self) -> Self {
        self + -y
    }
}

impl Mul<f64> for DoubleDouble {
    type Output = Self;
    #[inline]
    fn mul(self, y: f64) -> Self {
        let (c, d) = two_prod(self.hi, y);
        let (t, e) = fast_two_sum(c, self.lo * y);
        let (hi, lo) = fast_two_sum(t, e + d);
        Self { hi, lo }
    }
}

impl Mul for DoubleDouble {
    type Output = Self;
    #[inline]
    fn mul(self, y: Self) -> Self {
        let (c, d) = two_prod(self.hi, y.hi);
        let (hi, lo) = fast_two_sum(c, d + (self.hi * y.lo + self.lo * y.hi));
        Self { hi, lo }
    }
}

impl Div for DoubleDouble {
    type Output = Self;
    fn div(self, y: Self) -> Self {
        let first = Self::from(self.hi / y.hi);
        let second = first + Self::from((self - y * first).hi / y.hi);
        second + Self::from((self - y * second).hi / y.hi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Generator;

    /// A random odd integer below 2^bits, as the integer and as its nearest sum of two `f64`.
    fn integer(g: &mut Generator, bits: u32) -> (i128, DoubleDouble) {
        let n = (i128::from(g.next_u64()) << 64 | i128::from(g.next_u64())) >> (127 - bits) | 1;
        (n, exact(n))
    }

    fn exact(n: i128) -> DoubleDouble {
        let hi = n as f64;
        let lo = (n - hi as i128) as f64;
        assert_eq!(hi as i128 + lo as i128, n, "the test's integers have at most 106 bits");
        DoubleDouble { hi, lo }
    }

    fn value(x: DoubleDouble) -> i128 {
        x.hi as i128 + x.lo as i128
    }

    #[test]
    fn transformations_are_error_free() {
        let mut g = Generator::new(1);
        for _ in 0..2000 {
            let (a, b) = (integer(&mut g, 53).0, integer(&mut g, 40).0);
            let (s, e) = two_sum(a as f64, b as f64);
            assert_eq!(s as i128 + e as i128, a + b);
            let (p, e) = two_prod(a as f64, b as f64);
            assert_eq!(p as i128 + e as i128, a * b);
            assert_eq!(p, a as f64 * b as f64);
        }
    }

    #[test]
    fn relative_errors_stay_below_the_published_bounds() {
        let mut g = Generator::new(2);
        // In units of u² = 2^-106, on integers whose results have at most 124 bits.
        let error = |got: DoubleDouble, want: i128| {
            (value(got) - want).unsigned_abs() as f64 / want.unsigned_abs() as f64 * 2f64.powi(106)
        };
        for _ in 0..2000 {
            let ((a, x), (b, y)) = (integer(&mut g, 104), integer(&mut g, 102));
            assert!(error(x + y, a + b) <= 3.01 && error(x - y, a - b) <= 3.01);
            let ((a, x), (b, y)) = (integer(&mut g, 70), integer(&mut g, 53));
            assert!(error(x * y.hi, a * b) <= 1.51);
            let ((a, x), (b, y)) = (integer(&mut g, 62), integer(&mut g, 61));
            assert!(error(x * y, a * b) <= 7.01);
            assert!(error(exact(a * i128::from(1 << 20)) / exact(1 << 20), a) <= 1.0);
            assert!((exact(3) / y * y - exact(3)).to_f64().abs() <= 3.0 * 2f64.powi(-100));
        }
    }
}
