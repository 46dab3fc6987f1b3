//! Random rotations of one block: the Q of Gaussian matrices.
//!
//! G = R Q with Q orthogonal and R lower triangular with a positive diagonal is unique, so Q inherits the invariance of
//! G and is Haar distributed (Mezzadri 2007, arXiv math-ph/0609050, which fixes LAPACK's signs to the same end).

use num_traits::Float;

use super::pack::recip;
use crate::scalar::{Scalar, Wide};

/// Rows orthonormalised in order by Gram–Schmidt, twice (Giraud et al. 2005, doi 10.1007/s00211-005-0615-4: enough for
/// orthogonality to rounding unless G is nearly singular). A real Q with determinant −1 has its last row reversed, which
/// leaves the Haar measure of the rotations.
pub(crate) fn haar_rotation<W: Wide>(b: usize, block: &mut [W]) {
    for i in 0..b {
        let (above, row) = block.split_at_mut(i * b);
        let row = &mut row[..b];
        for _ in 0..2 {
            for other in above.chunks_exact(b) {
                let dot = row.iter().zip(other).fold(W::zero(), |sum, (x, o)| sum + *x * Scalar::conj(*o));
                for (x, o) in row.iter_mut().zip(other) {
                    *x = *x - dot * *o;
                }
            }
            let norm = row.iter().map(|x| Scalar::abs(*x) * Scalar::abs(*x)).sum::<f64>();
            let inverse = recip(W::from_real(Float::sqrt(norm)));
            row.iter_mut().for_each(|x| *x = *x * inverse);
        }
    }
    if !W::IS_COMPLEX && super::determinant_sign(b, &mut block.to_vec()) < 0 {
        block[(b - 1) * b..].iter_mut().for_each(|x| *x = -*x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Generator;
    use alloc::vec::Vec;

    #[test]
    fn rows_are_orthonormal_and_traces_average_zero() {
        let mut g = Generator::new(5);
        for b in [1, 2, 3, 8, 17] {
            let (mut trace, draws) = (0.0, 200);
            for _ in 0..draws {
                let normal = |g: &mut Generator| (0..12).map(|_| g.uniform()).sum::<f64>() - 6.0;
                let mut block: Vec<f64> = (0..b * b).map(|_| normal(&mut g)).collect();
                haar_rotation(b, &mut block);
                assert!(crate::dense::orthogonality_ratio(b, &block).unwrap() <= 2.0, "b = {b}");
                assert_eq!(crate::dense::determinant_sign(b, &mut block.clone()), 1);
                trace += (0..b).map(|i| block[i * b + i]).sum::<f64>();
            }
            // E tr Q = 0 and E (tr Q)² <= 2 for SO(b), b >= 2; b = 1 is always 1.
            let mean = trace / f64::from(draws);
            assert!(if b == 1 { mean == 1.0 } else { mean.abs() < 5.0 * (2.0 / f64::from(draws)).sqrt() }, "b = {b}");
        }
    }
}
