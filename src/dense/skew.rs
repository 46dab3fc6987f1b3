//! How a skew-Hermitian matrix is stored in real numbers, b(b − 1)/2 for a real one and b² for a complex one.
//!
//! Real: the strict upper triangle, row-major; A[i][j] = θ, A[j][i] = −θ. Complex: first the b imaginary diagonal entries,
//! then (re, im) pairs of the strict upper triangle, row-major; A[j][i] = −conj(A[i][j]).

use super::pack::Pack;
use crate::scalar::Wide;

/// Real parameters of a b×b skew-Hermitian matrix.
pub(crate) fn skew_size<W: Wide>(b: usize) -> usize {
    if W::IS_COMPLEX { b * b } else { b * b.saturating_sub(1) / 2 }
}

/// A from its parameters, number `at` of lane `l` being `theta(at, l)`. No zero becomes negative.
#[inline(always)]
pub(crate) fn fill_skew<W: Wide, T: Pack<W>>(b: usize, m: &mut [T], theta: impl Fn(usize, usize) -> f64) {
    let zero = T::from_f64(0.0);
    let mut at = if W::IS_COMPLEX { b } else { 0 };
    for i in 0..b {
        m[i * b + i] = if W::IS_COMPLEX { T::gather(|l| W::from_parts(0.0, theta(i, l))) } else { zero };
        for j in i + 1..b {
            let x = if W::IS_COMPLEX {
                T::gather(|l| W::from_parts(theta(at, l), theta(at + 1, l)))
            } else {
                T::gather(|l| W::from_real(theta(at, l)))
            };
            at += if W::IS_COMPLEX { 2 } else { 1 };
            m[i * b + j] = x;
            m[j * b + i] = zero - x.conj();
        }
    }
}

/// The parameters of the skew-Hermitian matrix with the entries `entry(i·b + j)`, as `put(at, value)`; only entries on and
/// above the diagonal are read.
#[inline(always)]
pub(crate) fn read_skew<W: Wide>(b: usize, entry: impl Fn(usize) -> W, mut put: impl FnMut(usize, f64)) {
    let mut at = if W::IS_COMPLEX { b } else { 0 };
    for i in 0..b {
        if W::IS_COMPLEX {
            put(i, entry(i * b + i).im());
        }
        for j in i + 1..b {
            let x = entry(i * b + j);
            put(at, x.re());
            at += 1;
            if W::IS_COMPLEX {
                put(at, x.im());
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar::{Scalar, c64};
    use alloc::{vec, vec::Vec};

    fn round_trip<W: Wide>(b: usize) {
        let theta: Vec<f64> = (1..=skew_size::<W>(b)).map(|i| i as f64).collect();
        let mut m = vec![W::zero(); b * b];
        fill_skew::<W, W>(b, &mut m, |at, _| theta[at]);
        for (i, j) in (0..b).flat_map(|i| (0..b).map(move |j| (i, j))) {
            assert_eq!(m[i * b + j], -Scalar::conj(m[j * b + i]));
        }
        let mut back = vec![f64::NAN; theta.len()];
        read_skew(b, |at| m[at], |at, x| back[at] = x);
        assert_eq!(back, theta);
    }

    #[test]
    fn order_and_round_trip() {
        for b in 0..6 {
            round_trip::<f64>(b);
            round_trip::<c64>(b);
        }
        let mut m = [c64::new(0.0, 0.0); 4];
        fill_skew::<c64, c64>(2, &mut m, |at, _| at as f64);
        assert_eq!(m, [c64::new(0.0, 0.0), c64::new(2.0, 3.0), c64::new(-2.0, 3.0), c64::new(0.0, 1.0)]);
    }
}
