//! Floating-point operations rounded outward, so that a bound stays a bound.
//!
//! IEEE 754 operations return the number nearest to the exact result r; r is therefore never beyond the next number in
//! either direction, and [`up`]`(a + b)` ≥ a + b, [`down`]`(a + b)` ≤ a + b, and the same for −, ×, ÷ and √. A NaN
//! stays a NaN; who reports a bound turns it into infinity.

use num_traits::Float;

/// Unit roundoff u = 2⁻⁵³ of `f64`.
pub(crate) const U: f64 = f64::EPSILON / 2.0;

/// An upper bound of the exact result of the operation that gave `x`.
#[inline]
pub(crate) fn up(x: f64) -> f64 {
    x.next_up()
}

/// A lower bound of the exact result of the operation that gave `x`.
#[inline]
pub(crate) fn down(x: f64) -> f64 {
    x.next_down()
}

/// √x or more.
pub(crate) fn sqrt_up(x: f64) -> f64 {
    up(Float::sqrt(x))
}

/// γ_n = n·u / (1 − n·u) or more: the relative error of n roundings (Higham, Accuracy and Stability of Numerical
/// Algorithms, 2nd ed., Lemma 3.1). Infinite where n·u ≥ 1.
pub(crate) fn gamma(n: usize, u: f64) -> f64 {
    let nu = up(n as f64 * u);
    if nu < 1.0 { up(nu / down(1.0 - nu)) } else { f64::INFINITY }
}

/// A bound of the exact value of a sum of products of non-negative numbers in which every term met at most `roundings`
/// roundings: fl(s) ≥ (1 − γ_k)·s, so s ≤ fl(s) / (1 − γ_k). Products that underflowed cost less than 2⁻¹⁰²².
pub(crate) fn inflate(sum: f64, roundings: usize) -> f64 {
    up(up(sum / down(1.0 - gamma(roundings, U))) + f64::MIN_POSITIVE)
}

/// ‖A‖_F or more.
pub(crate) fn frobenius_up(a: &[f64]) -> f64 {
    sqrt_up(inflate(a.iter().map(|x| x * x).sum(), a.len() + 1))
}

/// Largest sum of the absolute values of a row of the n×n matrix `a`, or more: ‖A‖_∞, and ‖A‖₁ of a symmetric matrix.
pub(crate) fn row_sum_up(a: &[f64], n: usize) -> f64 {
    let rows = a.chunks_exact(n.max(1)).map(|row| row.iter().map(|x| Float::abs(*x)).sum());
    inflate(rows.fold(0.0, max), n)
}

/// 2^⌊log₂ x⌋ for a normal x > 0.
pub(crate) fn power_of_two_below(x: f64) -> f64 {
    f64::from_bits(x.to_bits() & (0x7ff << 52))
}

/// The larger of two numbers; NaN if either is (`f64::max` would drop it).
#[inline]
pub(crate) fn max(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}

/// The smaller of two numbers; NaN if either is.
#[inline]
pub(crate) fn min(a: f64, b: f64) -> f64 {
    if a < b || a.is_nan() { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_enclose_exact_results() {
        // 1/3 and √2 in 100-bit integer arithmetic: 3·x ≥ 1, x² ≥ 2 exactly.
        let third = up(1.0 / 3.0);
        assert!((third * f64::from(1 << 30)).fract() != 0.0);
        let bits = |x: f64| (x * (1u64 << 60) as f64) as u128; // exact: x < 8 has its last bit at 2^-52 or 2^-54
        assert!(bits(third) * 3 >= 1 << 60 && bits(down(1.0 / 3.0)) * 3 <= 1 << 60);
        assert!(bits(sqrt_up(2.0)).pow(2) >= 1 << 121);
        assert_eq!(sqrt_up(4.0).to_bits(), 2.0f64.to_bits() + 1);
    }

    #[test]
    fn gamma_is_a_little_more_than_n_u() {
        assert!(gamma(8, U) > 8.0 * U && gamma(8, U) < 8.0 * U * (1.0 + 1e-14));
        assert_eq!(gamma(1 << 25, f64::from(f32::EPSILON) / 2.0), f64::INFINITY);
    }

    #[test]
    fn norms_are_bounds_and_nan_survives() {
        let a = [3.0, -4.0, 1e-300, 0.0];
        assert!(frobenius_up(&a) > 5.0 && frobenius_up(&a) < 5.0 + 1e-14);
        assert!(row_sum_up(&a, 2) > 7.0 && row_sum_up(&a, 2) < 7.0 + 1e-14);
        assert!(frobenius_up(&[f64::NAN]).is_nan() && row_sum_up(&[0.0, f64::NAN, 1.0, 0.0], 2).is_nan());
        assert!(row_sum_up(&[0.0, 1.0, f64::NAN, 0.0], 2).is_nan());
        assert!(max(f64::NAN, 1.0).is_nan() && max(1.0, f64::NAN).is_nan() && min(1.0, f64::NAN).is_nan());
    }
}
