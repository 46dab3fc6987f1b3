//! Plane rotations: θ ↦ [[cos θ, −sin θ], [sin θ, cos θ]], one angle for a 2×2 block.
//!
//! dB/dθ = [[−s, −c], [c, −s]], so the pullback of G is −s(g₀₀ + g₁₁) + c(g₁₀ − g₀₁). The speed |dB/dθ| is the same
//! everywhere, and every rotation is reached; reflections (det = −1) are not. The section is atan2, with values in
//! [−π, π]. (Golub & Van Loan, *Matrix Computations*, 4th ed., §5.1.8.)
//!
//! Over complex numbers the block is the same real rotation, for plans that mix it with unitary blocks; the pullback takes
//! the real part of G, and a block with imaginary parts is not reached. (All of U(2): [`UnitaryPhases`](super::UnitaryPhases).)
//!
//! Conditioning: sine and cosine are computed to an ulp or so for any finite angle, but an angle of size |θ| carries no
//! more than u|θ| of absolute precision.

use alloc::format;

use num_traits::Float;

use super::{Charts, Parametrization};
use crate::dense::{ORTHOGONAL, orthogonality_ratio};
use crate::error::{Error, Result, check_length};
use crate::scalar::Wide;

/// The chart of 2×2 rotations by their angle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Givens;

/// How the chart is known by name.
pub(super) fn register<W: Wide>(charts: &mut Charts<W>) {
    charts.register(Givens);
}

impl<W: Wide> Parametrization<W> for Givens {
    fn name(&self) -> &'static str {
        "Givens"
    }

    fn num_params(&self, b: usize) -> Result<usize> {
        if b == 2 {
            return Ok(1);
        }
        Err(Error::Size { what: "Givens block", expected: "b = 2".into(), got: format!("b = {b}") })
    }

    fn forward(&self, _b: usize, theta: &[f64], block: &mut [W]) {
        let (s, c) = Float::sin_cos(theta[0]);
        // 0 − s, not −s: no negative zero in the identity.
        block.copy_from_slice(&[c, 0.0 - s, s, c].map(W::from_real));
    }

    fn vjp(&self, _b: usize, _theta: &[f64], block: &[W], g: &[W], d_theta: &mut [f64]) {
        let (c, s) = (block[0].re(), block[2].re());
        d_theta[0] += c * (g[2].re() - g[1].re()) - s * (g[0].re() + g[3].re());
    }

    fn jvp(&self, _b: usize, _theta: &[f64], block: &[W], d_theta: &[f64], d_block: &mut [W]) {
        let (c, s, d) = (block[0].re(), block[2].re(), d_theta[0]);
        d_block.copy_from_slice(&[-s * d, -c * d, c * d, -s * d].map(W::from_real));
    }

    /// The speed |dB/dθ| = √2, everywhere.
    fn lipschitz(&self, _b: usize) -> Option<f64> {
        Some(core::f64::consts::SQRT_2)
    }

    fn inverse(&self, b: usize, block: &[W], theta: &mut [f64]) -> Result<()> {
        check_length("theta", Parametrization::<W>::num_params(self, b)?, theta.len())?;
        let ratio = orthogonality_ratio(b, block)?;
        let [x, y, z, w] = [0, 1, 2, 3].map(|at| block[at].re());
        let det = x * w - y * z;
        let imaginary = block.iter().fold(0.0, |m: f64, x| m.max(x.im().abs()));
        if !(ratio <= ORTHOGONAL && det > 0.0 && imaginary <= ORTHOGONAL * f64::EPSILON) {
            return Err(Error::Domain {
                what: "inverse of Givens".into(),
                expected: "a real rotation: orthogonality ratio at most 30, determinant 1",
                got: format!("ratio {ratio:e}, determinant {det}, imaginary parts up to {imaginary:e}"),
            });
        }
        theta[0] = Float::atan2(0.5 * (z - y), 0.5 * (x + w));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scalar::c64;

    fn forward(theta: f64) -> [f64; 4] {
        let mut block = [f64::NAN; 4];
        Givens.forward(2, &[theta], &mut block);
        block
    }

    #[test]
    fn zero_is_the_identity_to_the_bit() {
        assert_eq!(forward(0.0).map(f64::to_bits), [1.0_f64, 0.0, 0.0, 1.0].map(f64::to_bits));
    }

    #[test]
    fn turns_counterclockwise() {
        let (s, c) = 0.5_f64.sin_cos();
        assert_eq!(forward(0.5), [c, -s, s, c]);
    }

    #[test]
    fn only_two_dimensions() {
        for b in [0, 1, 3, usize::MAX] {
            assert!(matches!(Parametrization::<f64>::num_params(&Givens, b), Err(Error::Size { .. })));
            assert!(matches!(Givens.inverse(b, &[0.0; 0], &mut []), Err(Error::Size { .. })));
        }
        assert_eq!(Parametrization::<f64>::num_params(&Givens, 2), Ok(1));
    }

    #[test]
    fn a_complex_block_is_the_real_one_and_no_other() {
        let mut block = [c64::default(); 4];
        Givens.forward(2, &[0.3], &mut block);
        assert_eq!(block.map(|x| x.re), forward(0.3));
        assert_eq!(block.map(|x| x.im), [0.0; 4]);
        let mut theta = [f64::NAN];
        Givens.inverse(2, &block, &mut theta).unwrap();
        assert!((theta[0] - 0.3).abs() <= 1e-16);
        let turned = block.map(|x| x * c64 { re: 0.6, im: 0.8 });
        assert!(matches!(Givens.inverse(2, &turned, &mut theta), Err(Error::Domain { .. })));
    }

    #[test]
    fn blocks_outside_are_rejected() {
        let (s, c) = 0.5_f64.sin_cos();
        for block in [[c, s, s, -c], [1.0, 0.0, 0.0, -1.0], [2.0, 0.0, 0.0, 0.5], [f64::NAN, 0.0, 0.0, 1.0], [0.0; 4]] {
            assert!(matches!(Givens.inverse(2, &block, &mut [0.0]), Err(Error::Domain { .. })), "{block:?}");
        }
        assert!(matches!(Givens.inverse(2, &[1.0, 0.0, 0.0, 1.0], &mut []), Err(Error::Length { .. })));
    }

    proptest! {
        #[test]
        fn every_block_is_orthogonal(x in -10.0..10.0_f64, exponent in -300..=300_i32) {
            prop_assert!(orthogonality_ratio(2, &forward(x * 10.0_f64.powi(exponent))).unwrap() <= 1.0);
        }

        #[test]
        fn vjp_is_the_adjoint_of_the_derivative(theta in -4.0..4.0_f64, g: [i8; 4]) {
            let g = g.map(|g| f64::from(g) / 16.0);
            let mut d = [3.0];
            Givens.vjp(2, &[theta], &forward(theta), &g, &mut d);
            let at = |h: f64| forward(theta + h).iter().zip(g).map(|(x, g)| x * g).sum::<f64>();
            let h = 1e-3;
            let difference = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
            let size = g.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
            prop_assert!((difference - (d[0] - 3.0)).abs() <= 1e-11 * size);
        }

        #[test]
        fn inverse_is_a_section(theta in -core::f64::consts::PI..core::f64::consts::PI, tiny: bool) {
            let theta = if tiny { theta * 1e-200 } else { theta };
            let mut back = [f64::NAN];
            Givens.inverse(2, &forward(theta), &mut back).unwrap();
            let scale = if tiny { theta.abs() } else { 1.0 };
            prop_assert!((back[0] - theta).abs() <= 2.0 * f64::EPSILON * scale);
            let miss = forward(back[0]).into_iter().zip(forward(theta)).map(|(x, y)| (x - y).abs());
            prop_assert!(miss.fold(0.0, f64::max) <= 2.0 * f64::EPSILON);
        }
    }
}
