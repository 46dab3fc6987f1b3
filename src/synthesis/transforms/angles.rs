//! Cosines and sines of rational multiples of π, nearly all rounded correctly, with the same bits on every machine.
//!
//! πp/q is reduced to an angle of the first octant by integers, which is exact. That angle is a sum θ + δ of two `f64`, for
//! π and the quotient are taken in double-double. Of the series in z = θ² the large terms are kept exactly,
//!
//! > sin(θ + δ) = θ + (θz·(−1/3! + z/5! − …) + δ(1 − z/2)),
//! > cos(θ + δ) = w + ((1 − w) − z/2 − e/2 + z²·(1/4! − z/6! + …) − θδ), w = fl(1 − z/2), z + e = θ² exactly:
//!
//! what is in brackets is below 0.12 of the result, so its error counts for a tenth of a unit or two. Nothing is accumulated.

use core::f64::consts::{FRAC_1_SQRT_2, PI};

use crate::dense::DoubleDouble;
use crate::dense::double_double::two_prod;

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
    let (z, e) = two_prod(theta, theta);
    let half = 0.5 * z;
    let s = theta + (theta * z * series(z, 3) + delta * (1.0 - half));
    let w = 1.0 - half;
    let c = w + ((1.0 - w) - half - 0.5 * e + (z * z * series(z, 4) - theta * delta));
    (c, s)
}

/// −(1/3! − z/5! + z²/7! − …) for k = 3 and 1/4! − z/6! + z²/8! − … for k = 4, to the ninth term: the next is below 10⁻¹⁹.
fn series(z: f64, k: u32) -> f64 {
    // 1/k! − z/(k + 2)! + … = (1 − z/((k + 1)(k + 2))·(1 − z/((k + 3)(k + 4))·(…)))/k!
    let (first, ratios) = if k == 3 { (-1.0 / 6.0, &RATIOS_3) } else { (1.0 / 24.0, &RATIOS_4) };
    first * ratios.iter().rev().fold(1.0, |rest, ratio| 1.0 - z * ratio * rest)
}

const RATIOS_3: [f64; 8] = ratios(3);
const RATIOS_4: [f64; 8] = ratios(4);

/// 1/((k + 1)(k + 2)), 1/((k + 3)(k + 4)), …
const fn ratios(k: u32) -> [f64; 8] {
    let mut all = [0.0; 8];
    let mut i = 0;
    while i < 8 {
        let next = k + 1 + 2 * i as u32;
        all[i] = 1.0 / (next * (next + 1)) as f64;
        i += 1;
    }
    all
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

    /// Correctly rounded values, from 60 digits. Of πp/q rounded before the sine is taken 6 of these 24 are wrong; of ours
    /// the library's own last digit may be, so not all are asked for.
    #[test]
    fn nearly_all_are_rounded_correctly() {
        let truth = [
            (1, 7, 0.9009688679024191, 0.4338837391175581),
            (3, 11, 0.6548607339452851, 0.7557495743542583),
            (1, 1048576, 0.9999999999955118, 2.996056226334661e-06),
            (262143, 1048576, 0.7071088997150483, 0.7071046626516995),
            (123457, 1048576, 0.9323692456795601, 0.36150738541685157),
            (99991, 400009, 0.7071692550619887, 0.7070443017909641),
            (1, 31, 0.9948693233918952, 0.10116832198743218),
            (7, 31, 0.7587581226927909, 0.6513724827222223),
            (1000003, 16777216, 0.9825191244531959, 0.18616167726931687),
            (5, 24, 0.7933533402912352, 0.6087614290087207),
            (1, 5, 0.8090169943749475, 0.5877852522924731),
            (17, 72, 0.7372773368101241, 0.6755902076156602),
        ];
        let mut right = 0;
        for (p, q, cos, sin) in truth {
            let (c, s) = cos_sin(p, q);
            assert!((c - cos).abs() <= 2.3e-16 * cos && (s - sin).abs() <= 2.3e-16 * sin, "{p}/{q}: {c}, {s}");
            right += usize::from(c == cos) + usize::from(s == sin);
        }
        assert!(right >= 22, "{right} of 24");
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
