//! Unitary 2×2 blocks with two phases, as an interferometer has them: θ = (φ, ψ),
//!
//!   B = R(φ) diag(e^{iψ}, 1) = [[e^{iψ} cos φ, −sin φ], [e^{iψ} sin φ, cos φ]],
//!
//! Clements et al. (2016, doi 10.1364/OPTICA.3.001460), eq. 1. θ = 0 is the identity.
//!
//! *What it leaves out.* A block of U(2) has four phases ([`UnitaryPhases`](super::UnitaryPhases)). The two that come out of
//! it can be moved into the next stage, where an overall phase of a block moves on again. After the last stage one phase is left
//! for each coordinate. So a product of full U(2) stages is a product of these, and then one diagonal of phases: L stages on d
//! coordinates and the diagonal have Ld + d parameters, the dimension of the whole, with no gauge. The diagonal is a stage of
//! 1×1 blocks, which [`Cayley`](super::Cayley) gives (all phases but −1).
//!
//! *Pullback.* dB/dψ = i × the first column, so dψ −= Im(conj(G) B) there; dφ pairs G with the block in which (cos, sin) is
//! replaced by (−sin, cos).
//!
//! *Section.* φ = atan2(−Re B₀₁, Re B₁₁), ψ = arg(B₀₀ cos φ + B₁₀ sin φ). There is no singular point. Only blocks with a real
//! second column are reached, of the form above.

use alloc::format;

use num_traits::{Float, Zero};

use super::unitary_phases::{argument, phase};
use super::{Charts, Parametrization, miss};
use crate::dense::{ORTHOGONAL, orthogonality_ratio};
use crate::error::{Error, Result, check_length};
use crate::scalar::{Scalar, Wide, c64};

/// The chart of unitary 2×2 blocks with two phases (φ, ψ): `[[e^{iψ} cos φ, −sin φ], [e^{iψ} sin φ, cos φ]]`.
///
/// A product of such stages, followed by one diagonal of phases, is every product of stages of all unitary 2×2 blocks, with half
/// of the parameters:
///
/// ```
/// use papilio::{Plan, c64, parametrization::{Cayley, MachZehnder}, topology::{BlockDiagonal, Butterfly}};
/// let mesh = Plan::<c64>::new(8, &Butterfly::classic(2), MachZehnder)?;
/// let unitary = mesh.then(Plan::new(8, &BlockDiagonal::new(1), Cayley)?)?;
/// assert_eq!(unitary.num_params(), 3 * 8 + 8);
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachZehnder;

/// How the chart is known by name.
pub(super) fn register<W: Wide>(charts: &mut Charts<W>) {
    charts.register_over::<c64>(MachZehnder);
}

/// The block with c and s in the place of cos φ and sin φ.
fn block_of(c: f64, s: f64, psi: f64) -> [c64; 4] {
    let p = phase(psi);
    [p * c, c64::from_real(0.0 - s), p * s, c64::from_real(c)]
}

impl Parametrization<c64> for MachZehnder {
    fn name(&self) -> &'static str {
        "Mach-Zehnder"
    }

    fn num_params(&self, b: usize) -> Result<usize> {
        if b == 2 {
            return Ok(2);
        }
        Err(Error::Size { what: "Mach-Zehnder block", expected: "b = 2".into(), got: format!("b = {b}") })
    }

    fn forward(&self, _b: usize, theta: &[f64], block: &mut [c64]) {
        let (s, c) = Float::sin_cos(theta[0]);
        block.copy_from_slice(&block_of(c, s, theta[1]));
    }

    fn vjp(&self, _b: usize, theta: &[f64], block: &[c64], g: &[c64], d_theta: &mut [f64]) {
        let (s, c) = Float::sin_cos(theta[0]);
        let turned = block_of(-s, c, theta[1]);
        d_theta[0] += g.iter().zip(turned).map(|(g, q)| g.re * q.re + g.im * q.im).sum::<f64>();
        d_theta[1] -= (Scalar::conj(g[0]) * block[0] + Scalar::conj(g[2]) * block[2]).im;
    }

    fn jvp(&self, _b: usize, theta: &[f64], block: &[c64], d_theta: &[f64], d_block: &mut [c64]) {
        let (s, c) = Float::sin_cos(theta[0]);
        let turned = block_of(-s, c, theta[1]);
        for (at, d) in d_block.iter_mut().enumerate() {
            let speed = if at % 2 == 0 { d_theta[1] } else { 0.0 };
            *d = turned[at] * d_theta[0] + block[at] * c64 { re: 0.0, im: speed };
        }
    }

    /// ‖dB‖_F² = 2dφ² + dψ².
    fn lipschitz(&self, _b: usize) -> Option<f64> {
        Some(core::f64::consts::SQRT_2)
    }

    fn inverse(&self, b: usize, block: &[c64], theta: &mut [f64]) -> Result<()> {
        check_length("theta", self.num_params(b)?, theta.len())?;
        let ratio = orthogonality_ratio(b, block)?;
        let outside = |got| Error::Domain {
            what: "inverse of Mach-Zehnder".into(),
            expected: "a unitary block with a real second column (−s, c) and first column in direction (c, s)",
            got,
        };
        if ratio.is_nan() || ratio > ORTHOGONAL {
            return Err(outside(format!("ratio {ratio:e}")));
        }
        theta[0] = Float::atan2(0.0 - block[1].re, block[3].re);
        let (s, c) = Float::sin_cos(theta[0]);
        theta[1] = argument(block[0] * c + block[2] * s);
        let mut again = [c64::zero(); 4];
        self.forward(b, theta, &mut again);
        match miss(b, &again, block) {
            miss if miss <= ORTHOGONAL => Ok(()),
            miss => Err(outside(format!("a block missed by ratio {miss:e}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parametrization::UnitaryPhases;

    fn forward(theta: [f64; 2]) -> [c64; 4] {
        let mut block = [c64 { re: f64::NAN, im: f64::NAN }; 4];
        MachZehnder.forward(2, &theta, &mut block);
        block
    }

    /// Every unitary block is a diagonal of phases times one of these.
    #[test]
    fn a_diagonal_completes_it() {
        let (phi, alpha, psi, chi) = (0.8, 0.3, -1.1, 2.0);
        let mut full = [c64::zero(); 4];
        UnitaryPhases.forward(2, &[phi, alpha, psi, chi], &mut full);
        // Rows turned so that the second column is (−s, c): then −e^{iψ'} is the first column's phase.
        let rows = [-phase(-(alpha + chi)), phase(-(alpha - psi))];
        let reduced = [0, 1, 2, 3].map(|at: usize| rows[at / 2] * full[at]);
        let mut theta = [f64::NAN; 2];
        MachZehnder.inverse(2, &reduced, &mut theta).unwrap();
        assert!((theta[0] - phi).abs() <= 4e-16);
        assert!(miss(2, &forward(theta), &reduced) <= 4.0);
    }

    #[test]
    fn sections_at_every_angle() {
        for phi in [0.0, 1e-300, 1e-9, 1.0, core::f64::consts::FRAC_PI_2, 3.0, -0.5, -3.1] {
            for psi in [0.0, 1e-12, 1.0, 3.1, -2.0] {
                let mut theta = [f64::NAN; 2];
                MachZehnder.inverse(2, &forward([phi, psi]), &mut theta).unwrap();
                assert!((theta[0] - phi).abs() <= 1e-15 && (theta[1] - psi).abs() <= 1e-15, "{phi} {psi}: {theta:?}");
            }
        }
    }

    #[test]
    fn other_unitary_blocks_are_refused() {
        let block = forward([0.4, 0.2]).map(|x| x * phase(0.1));
        assert!(matches!(MachZehnder.inverse(2, &block, &mut [0.0; 2]), Err(Error::Domain { .. })));
        assert!(matches!(MachZehnder.num_params(4), Err(Error::Size { .. })));
    }
}
