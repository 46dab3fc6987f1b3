//! How far a block is from orthogonal: E = I − XᴴX and LAPACK's ratio ‖E‖₁ / (b·eps), eps = 2⁻⁵².
//!
//! The ratio is RESID of LAPACK's xORT01/xUNT01 (there compared with 30). Entries of E carry an absolute
//! error of at most about b·u, a ratio of ½; on average √b·u.

use alloc::vec;

use super::pack::Number;
use super::product::{Product, Shape, Sum};
use super::{EPS, check_block};
use crate::error::Result;
use crate::scalar::{Scalar, Wide};
use crate::simd::{Lanes, Portable};

/// Writes E = I − XᴴX to `e` and returns its mean column sum Σ|eᵢⱼ|/b, a lower bound of ‖E‖₁ that is NaN if any is.
pub(crate) fn subtract_gram<T: Number>(b: usize, x: &[T], e: &mut [T]) -> T {
    subtract_gram_on(Portable, b, x, 1.0, e);
    mean_column_sum(b, e)
}

/// Writes `scale`·(I − XᴴX) to `e`; scale is a power of two.
#[inline(always)]
pub(crate) fn subtract_gram_on<T: Number, S: Lanes<f64>>(s: S, b: usize, x: &[T], scale: f64, e: &mut [T]) {
    let products = &[Product { x, adjoint: true, m: x }];
    Sum { b, shape: Shape::Hermitian, products, scale: -scale, sums: &[], identity: scale, out: e }.on(s);
}

/// Σ|eᵢⱼ|/b for a Hermitian E, from one triangle.
#[inline(always)]
fn mean_column_sum<T: Number>(b: usize, e: &[T]) -> T {
    let zero = T::from_f64(0.0);
    let mut sum = zero;
    for i in 0..b {
        let mut rest = zero;
        for entry in &e[i * b + i + 1..(i + 1) * b] {
            rest = rest + entry.magnitude();
        }
        sum = sum + e[i * b + i].magnitude() + (rest + rest);
    }
    sum * T::from_f64(1.0 / b as f64)
}

/// ‖E‖₁, the largest column sum; NaN if any entry is.
pub(crate) fn one_norm<W: Wide>(b: usize, e: &[W]) -> f64 {
    let mut norm = 0.0;
    for j in 0..b {
        let sum: f64 = (0..b).map(|i| Scalar::abs(e[i * b + j])).sum();
        if sum > norm || sum.is_nan() {
            norm = sum;
        }
        if norm.is_nan() {
            break;
        }
    }
    norm
}

/// ‖I − XᴴX‖₁ of a b×b block; NaN if the block is not finite.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) unless the slice has length b².
pub fn defect<W: Wide>(b: usize, block: &[W]) -> Result<f64> {
    check_block("block", b, block.len())?;
    let mut e = vec![W::zero(); b * b];
    subtract_gram(b, block, &mut e);
    Ok(one_norm(b, &e))
}

/// LAPACK's ratio ‖I − XᴴX‖₁ / (b·2⁻⁵²) of a b×b block (0 for b = 0); NaN if the block is not finite.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) unless the slice has length b².
pub fn orthogonality_ratio<W: Wide>(b: usize, block: &[W]) -> Result<f64> {
    Ok(defect(b, block)? / (b.max(1) as f64 * EPS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_known_defects() {
        assert_eq!(defect(2, &[0.0, -1.0, 1.0, 0.0]).unwrap(), 0.0);
        // XᵀX = [[1, 1], [1, 2]]: E has column sums 1 and 2.
        assert_eq!(defect(2, &[1.0, 1.0, 0.0, 1.0]).unwrap(), 2.0);
        assert_eq!(orthogonality_ratio(1, &[0.0]).unwrap(), 1.0 / EPS);
        assert_eq!(orthogonality_ratio::<f64>(0, &[]).unwrap(), 0.0);
    }

    #[test]
    fn not_finite_is_nan_wherever_it_stands() {
        for at in 0..9 {
            for bad in [f64::NAN, f64::INFINITY] {
                let mut x = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
                x[at] = bad;
                let d = defect(3, &x).unwrap();
                assert!(d.is_nan() || d == f64::INFINITY, "{at} {bad}: {d}");
            }
        }
    }

    #[test]
    fn wrong_length_is_an_error() {
        assert!(defect(2, &[1.0; 3]).is_err());
        assert!(defect(usize::MAX, &[1.0; 3]).is_err());
    }
}
