//! Cosines and sines of rational multiples of π, as near as `f64` has them.
//!
//! πp/q is reduced to an angle of the first octant by integers, which is exact. That angle is a sum θ + δ of two `f64`, for
//! π and the quotient are taken in double-double, and cos(θ + δ) = cos θ − δ sin θ, sin(θ + δ) = sin θ + δ cos θ to the last
//! digit. So the error is that of the library's sine and cosine on [0, π/4], whatever p and q are, and nothing is accumulated.

use core::f64::consts::{FRAC_1_SQRT_2, PI};

use num_traits::Float;

use crate::dense::DoubleDouble;

/// π − fl(π).
const PI_REST: f64 = 1.224_646_799_147_353_2e-16;

/// (cos πp/q, sin πp/q) for 0 < q < 2⁵⁰.
pub(super) fn cos_sin(p: i64, q: i64) -> (f64, f64) {
    let mut p = p.rem_euclid(2 * q);
    let below = p > q;
    if below {
        p = 2 * q - p;
    }
    let left = 2 * p > q;
    if left {
        p = q - p;
    }
    let (c, s) = match 4 * p {
        octant if octant < q => small(p, q),
        octant if octant == q => (FRAC_1_SQRT_2, FRAC_1_SQRT_2),
        _ => {
            let (s, c) = small(q - 2 * p, 2 * q);
            (c, s)
        }
    };
    (if left { 0.0 - c } else { c }, if below { 0.0 - s } else { s })
}

/// The same for 0 ≤ 4p < q.
fn small(p: i64, q: i64) -> (f64, f64) {
    let pi = DoubleDouble::from(PI) + DoubleDouble::from(PI_REST);
    let angle = pi * (p as f64) / DoubleDouble::from(q as f64);
    let theta = angle.to_f64();
    let delta = (angle - DoubleDouble::from(theta)).to_f64();
    let (s, c) = Float::sin_cos(theta);
    (c - delta * s, s + delta * c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_angles() {
        let half_root = 3f64.sqrt() / 2.0;
        let known = [
            ((0, 7), (1.0, 0.0)),
            ((1, 2), (0.0, 1.0)),
            ((5, 5), (-1.0, 0.0)),
            ((-3, 6), (0.0, -1.0)),
            ((1, 4), (FRAC_1_SQRT_2, FRAC_1_SQRT_2)),
            ((11, 4), (-FRAC_1_SQRT_2, FRAC_1_SQRT_2)),
            ((-1, 4), (FRAC_1_SQRT_2, -FRAC_1_SQRT_2)),
        ];
        for ((p, q), expected) in known {
            assert_eq!(cos_sin(p, q), expected, "{p}/{q}");
        }
        for ((p, q), (c, s)) in [((1, 3), (0.5, half_root)), ((5, 6), (-half_root, 0.5)), ((-7, 3), (0.5, -half_root))]
        {
            let found = cos_sin(p, q);
            assert!((found.0 - c).abs() <= 1.2e-16 && (found.1 - s).abs() <= 1.2e-16, "{p}/{q}: {found:?}");
        }
    }

    /// Angles of which every one is twice another: (2cos² − 1, 2·sin·cos) in double-double, from the half angle's own numbers,
    /// is right to two units of the last digit if these are.
    #[test]
    fn angles_agree_with_their_halves() {
        let q = 1 << 20;
        for p in (0..2 * q).step_by(977) {
            let ((c, s), (half_c, half_s)) = (cos_sin(2 * p, q), cos_sin(p, q));
            let unit = (half_c * half_c - half_s * half_s - c).abs().max((2.0 * half_c * half_s - s).abs());
            assert!(unit <= 4.0 * f64::EPSILON, "{p}: {unit}");
            assert!((c * c + s * s - 1.0).abs() <= 2.0 * f64::EPSILON);
        }
    }
}
