//! Newton–Schulz: X ← X + X(I − XᴴX)/2 takes the rounding errors out of a nearly orthogonal block.
//!
//! With singular values σ of X the step is σ ← σ(3 − σ²)/2, so a defect E = I − XᴴX becomes ¾E² + ¼E³, and the limit
//! is the nearest orthogonal matrix, the polar factor of X (Higham, *Functions of Matrices*, SIAM 2008, §8.3 and
//! Thm 8.4). It has no solve and no division.
//!
//! It is a *polish*, not a projection: only the part of an error that leaves the group is removed, the part along the
//! group stays. A block farther off than [`DOMAIN`] is not the victim of rounding but of a wrong chart; it is left as
//! it is and reported.

use alloc::{format, vec};

use super::gram::one_norm;
use super::pack::Number;
use super::product::{Product, Shape, Sum};
use super::{EPS, check_block, subtract_gram};
use crate::error::{Error, Result};
use crate::scalar::Wide;
use crate::simd::{Lanes, Portable};

/// The largest defect ‖I − XᴴX‖₁ that is taken for rounding. Two steps bring it to 2⁻⁴⁰ and to nothing.
const DOMAIN: f64 = 1.0 / (1 << 20) as f64;

/// One step, with E = I − XᴴX given; `next` is scratch of length b².
pub(crate) fn newton_schulz<T: Number>(b: usize, x: &mut [T], e: &mut [T], next: &mut [T]) {
    let half = T::from_f64(0.5);
    e.iter_mut().for_each(|e| *e = half * *e);
    newton_schulz_on(Portable, b, x, e, next);
    x.copy_from_slice(next);
}

/// One step from X to `next`, with ½E given.
#[inline(always)]
pub(crate) fn newton_schulz_on<T: Number, S: Lanes<f64>>(s: S, b: usize, x: &[T], half: &[T], next: &mut [T]) {
    let (shape, products) = (Shape::General, &[Product { x, adjoint: false, m: half }]);
    Sum { b, shape, products, scale: 1.0, sums: &[(1.0, x)], identity: 0.0, out: next }.on(s);
}

/// [`polish`] with scratch `e` and `next` of length b²; returns the defect that was found, polished away if
/// it is at most `DOMAIN`.
pub(crate) fn polish_with<W: Wide>(b: usize, block: &mut [W], e: &mut [W], next: &mut [W]) -> f64 {
    subtract_gram(b, block, e);
    let found = one_norm(b, e);
    // Below a ratio of ½ the measured defect is mostly the error of measuring it.
    let good = 0.5 * b as f64 * EPS;
    let mut now = found;
    let mut steps = 0;
    while now > good && now <= DOMAIN && steps < 3 {
        newton_schulz(b, block, e, next);
        subtract_gram(b, block, e);
        now = one_norm(b, e);
        steps += 1;
    }
    found
}

/// Makes a nearly orthogonal (unitary) b×b block orthogonal to rounding, LAPACK ratio ≤ 1 or nearly so.
///
/// Domain: ‖I − XᴴX‖₁ ≤ 2⁻²⁰, which covers what single precision or an ill-conditioned evaluation leaves behind. The
/// block is replaced by its polar factor, the nearest orthogonal matrix: it moves by half its defect, not more, so a
/// chart that is wrong stays wrong in its gradient test.
///
/// # Errors
/// [`Error::Length`] unless the slice has length b²; [`Error::Domain`] if the block is not finite or too far from
/// orthogonal, and then it is untouched.
pub fn polish<W: Wide>(b: usize, block: &mut [W]) -> Result<()> {
    check_block("block", b, block.len())?;
    let found = polish_with(b, block, &mut vec![W::zero(); b * b], &mut vec![W::zero(); b * b]);
    if found <= DOMAIN {
        return Ok(());
    }
    Err(Error::Domain {
        what: "Newton–Schulz polish".into(),
        expected: "a block with ‖I − XᴴX‖₁ ≤ 2⁻²⁰",
        got: format!("{found:e}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::orthogonality_ratio;

    fn rotation(defect: f64) -> [f64; 9] {
        // A rational rotation (1, 2, 2)/3 …, scaled off the group.
        [2.0, -1.0, 2.0, 2.0, 2.0, -1.0, -1.0, 2.0, 2.0].map(|x| x / 3.0 * (1.0 + defect))
    }

    #[test]
    fn takes_rounding_out() {
        for defect in [0.0, 1e-15, -1e-12, 1e-9, -4e-7, 4e-7] {
            let mut x = rotation(defect);
            polish(3, &mut x).unwrap();
            assert!(orthogonality_ratio(3, &x).unwrap() <= 1.0, "{defect}");
            let error = x.iter().zip(rotation(0.0)).map(|(x, q)| (x - q).abs()).fold(0.0, f64::max);
            assert!(error <= 2.0 * EPS, "{defect}: {error}");
        }
    }

    #[test]
    fn leaves_the_identity_alone() {
        let mut x = [1.0, 0.0, 0.0, 1.0];
        polish(2, &mut x).unwrap();
        assert_eq!(x, [1.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn refuses_what_is_not_rounding_and_leaves_it() {
        for x in [rotation(1e-3), rotation(-1.0), rotation(f64::NAN), rotation(f64::INFINITY)] {
            let mut y = x;
            assert!(matches!(polish(3, &mut y), Err(Error::Domain { .. })));
            assert!(x.iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits()));
        }
        assert!(matches!(polish(3, &mut [0.0; 4]), Err(Error::Length { .. })));
    }
}
