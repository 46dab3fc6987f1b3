//! Plane rotations: θ ↦ [[cos θ, −sin θ], [sin θ, cos θ]], one angle for a 2×2 block.
//!
//! dB/dθ = [[−s, −c], [c, −s]], so the pullback of G is −s(g₀₀ + g₁₁) + c(g₁₀ − g₀₁). The speed |dB/dθ| is the same
//! everywhere, and every rotation is reached; reflections (det = −1) are not. The section is atan2, with values in
//! [−π, π]. (Golub & Van Loan, *Matrix Computations*, 4th ed., §5.1.8.)
//!
//! Conditioning: sine and cosine are computed to an ulp or so for any finite angle, but an angle of size |θ| carries no
//! more than u|θ| of absolute precision.

use alloc::format;

use num_traits::Float;

use super::Parametrization;
use crate::dense::orthogonality_ratio;
use crate::error::{Error, Result};

/// The chart of 2×2 rotations by their angle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Givens;

/// The largest orthogonality ratio of a block that `inverse` accepts: LAPACK's own threshold.
const ORTHOGONAL: f64 = 30.0;

impl Parametrization<f64> for Givens {
    fn name(&self) -> &'static str {
        "Givens"
    }

    fn num_params(&self, b: usize) -> Result<usize> {
        if b == 2 {
            return Ok(1);
        }
        Err(Error::Size { what: "Givens block", expected: "b = 2".into(), got: format!("b = {b}") })
    }

    fn forward(&self, _b: usize, theta: &[f64], block: &mut [f64]) {
        let (s, c) = Float::sin_cos(theta[0]);
        // 0 − s, not −s: no negative zero in the identity.
        block.copy_from_slice(&[c, 0.0 - s, s, c]);
    }

    fn vjp(&self, _b: usize, _theta: &[f64], block: &[f64], g: &[f64], d_theta: &mut [f64]) {
        let (c, s) = (block[0], block[2]);
        d_theta[0] += c * (g[2] - g[1]) - s * (g[0] + g[3]);
    }

    fn inverse(&self, b: usize, block: &[f64], theta: &mut [f64]) -> Result<()> {
        self.num_params(b)?;
        let ratio = orthogonality_ratio(b, block)?;
        let det = block[0] * block[3] - block[1] * block[2];
        if !(ratio <= ORTHOGONAL && det > 0.0) {
            return Err(Error::Domain {
                what: "inverse of Givens".into(),
                expected: "a rotation: orthogonality ratio at most 30, determinant 1",
                got: format!("ratio {ratio:e}, determinant {det}"),
            });
        }
        theta[0] = Float::atan2(0.5 * (block[2] - block[1]), 0.5 * (block[0] + block[3]));
        Ok(())
    }
}
