//! The sign of a block's determinant, by elimination with partial pivoting.

use super::pack::recip;
use crate::scalar::{Scalar, Wide};

/// The sign of det B for a real b×b block: 1, −1, or 0 if a pivot vanishes or is not a number. `block` is overwritten.
///
/// Certain for nearly orthogonal blocks: their determinant is near ±1.
pub(crate) fn determinant_sign<W: Wide>(b: usize, block: &mut [W]) -> i8 {
    let mut sign = 1;
    for k in 0..b {
        let size = |i: usize| Scalar::abs(block[i * b + k]);
        let at = (k..b).max_by(|&i, &j| size(i).total_cmp(&size(j))).unwrap_or(k);
        let pivot = block[at * b + k];
        if pivot == W::zero() || Scalar::abs(pivot).is_nan() {
            return 0;
        }
        if at != k {
            sign = -sign;
            for c in 0..b {
                block.swap(at * b + c, k * b + c);
            }
        }
        if pivot.re() < 0.0 {
            sign = -sign;
        }
        for i in k + 1..b {
            let factor = block[i * b + k] * recip(pivot);
            for c in k..b {
                block[i * b + c] = block[i * b + c] - factor * block[k * b + c];
            }
        }
    }
    sign
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_reflections_and_singular_blocks() {
        let sign = |b: usize, block: &[f64]| determinant_sign(b, &mut block.to_vec());
        assert_eq!(sign(1, &[-0.3]), -1);
        assert_eq!(sign(2, &[0.0, 1.0, 1.0, 0.0]), -1);
        assert_eq!(sign(2, &[0.0, -1.0, 1.0, 0.0]), 1);
        assert_eq!(sign(3, &[0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]), 1);
        assert_eq!(sign(2, &[1.0, 2.0, 2.0, 4.0]), 0);
        assert_eq!(sign(2, &[f64::NAN, 0.0, 0.0, 1.0]), 0);
    }
}
