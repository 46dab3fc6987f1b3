//! Unitary 2×2 blocks in four phases θ = (φ, α, ψ, χ):
//!
//!   B = [[e^{i(α+ψ)} cos φ, e^{i(α+χ)} sin φ], [−e^{i(α−χ)} sin φ, e^{i(α−ψ)} cos φ]],   det B = e^{2iα}.
//!
//! All of U(2) is reached, and θ = 0 is the identity. (The coordinates of `ButterflyUnitary` in HazyResearch's
//! `torch_butterfly`; a Haar distributed block has sin²φ uniform in [0, 1] and the phases uniform.)
//!
//! *Gauge.* B = e^{iα} diag(e^{iμ}, e^{−iμ}) R diag(e^{iν}, e^{−iν}) with μ = (ψ+χ)/2, ν = (ψ−χ)/2, R = [[cos φ, sin φ],
//! [−sin φ, cos φ]]: two phases go in and two come out, one of them counted twice. In a product of stages the phases that come
//! out of one stage may as well go into the next, one for each coordinate and interface. So L stages on d coordinates, all named
//! in each, have 2Ld parameters but move in (L + 1)d dimensions: (L − 1)d directions change no product, and gradient methods
//! drift along them harmlessly. [`MachZehnder`](super::MachZehnder) has half of the parameters, and no gauge.
//!
//! *Pullback.* With t_ij = Im(conj(G_ij) B_ij): dα = −Σt, dψ = t₁₁ − t₀₀, dχ = t₁₀ − t₀₁; and dφ pairs G with the block in which
//! (cos, sin) is replaced by (−sin, cos).
//!
//! *Section.* φ = atan2 of the moduli, in [0, π/2]; α and ψ from the arguments of the diagonal, or α and χ from those of the
//! other two entries, whichever are larger; the remaining phase with them, 0 where its entries vanish (φ = 0 or π/2). At these
//! two φ the chart is not an immersion: one phase has no effect there.
//!
//! *Conditioning.* Every phase factor is computed by itself and multiplied (never e^{i(α+ψ)} from a rounded sum), so columns stay
//! orthogonal for any θ; an angle of size |θ| carries no more than u|θ| of absolute precision.

use alloc::format;

use num_traits::{Float, Zero};

use super::{Charts, Parametrization, miss};
use crate::dense::{ORTHOGONAL, orthogonality_ratio};
use crate::error::{Error, Result, check_length};
use crate::scalar::{Scalar, Wide, c64};

/// The chart of unitary 2×2 blocks by four phases (φ, α, ψ, χ):
/// `[[e^{i(α+ψ)} cos φ, e^{i(α+χ)} sin φ], [−e^{i(α−χ)} sin φ, e^{i(α−ψ)} cos φ]]`.
///
/// In products of stages half of these numbers are redundant: phases between stages may belong to either. L stages on d
/// coordinates have 2Ld parameters and (L + 1)d dimensions. [`MachZehnder`](super::MachZehnder) is the form without them.
///
/// ```
/// use papilio::{Orthogonal, Plan, c64, parametrization::UnitaryPhases, topology::Butterfly};
/// let plan = Plan::<c64>::new(8, &Butterfly::classic(2), UnitaryPhases)?;
/// assert_eq!(plan.num_params(), 3 * 4 * 4);
/// let q = Orthogonal::new(plan, vec![0.5; 48])?;
/// let x = [c64::new(0.0, 1.0); 8];
/// let y = q.apply(&x)?;
/// assert!((y.iter().map(|y| y.norm_sqr()).sum::<f64>() - 8.0).abs() < 1e-14);
/// # Ok::<(), papilio::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitaryPhases;

/// How the chart is known by name.
pub(super) fn register<W: Wide>(charts: &mut Charts<W>) {
    charts.register_over::<c64>(UnitaryPhases);
}

/// e^{it}.
pub(super) fn phase(t: f64) -> c64 {
    let (im, re) = Float::sin_cos(t);
    c64 { re, im }
}

/// The argument of z, 0 at 0.
pub(super) fn argument(z: c64) -> f64 {
    if z.is_zero() { 0.0 } else { Float::atan2(z.im, z.re) }
}

/// The block with c and s in the place of cos φ and sin φ.
fn block_of(c: f64, s: f64, theta: &[f64]) -> [c64; 4] {
    let (a, p, x) = (phase(theta[1]), phase(theta[2]), phase(theta[3]));
    [a * p * c, a * x * s, a * x.conj() * (0.0 - s), a * p.conj() * c]
}

impl Parametrization<c64> for UnitaryPhases {
    fn name(&self) -> &'static str {
        "unitary phases"
    }

    fn num_params(&self, b: usize) -> Result<usize> {
        if b == 2 {
            return Ok(4);
        }
        Err(Error::Size { what: "block of unitary phases", expected: "b = 2".into(), got: format!("b = {b}") })
    }

    fn forward(&self, _b: usize, theta: &[f64], block: &mut [c64]) {
        let (s, c) = Float::sin_cos(theta[0]);
        block.copy_from_slice(&block_of(c, s, theta));
    }

    fn vjp(&self, _b: usize, theta: &[f64], block: &[c64], g: &[c64], d_theta: &mut [f64]) {
        let t = [0, 1, 2, 3].map(|at| (Scalar::conj(g[at]) * block[at]).im);
        let (s, c) = Float::sin_cos(theta[0]);
        let turned = block_of(-s, c, theta);
        d_theta[0] += g.iter().zip(turned).map(|(g, q)| g.re * q.re + g.im * q.im).sum::<f64>();
        d_theta[1] -= t[0] + t[1] + t[2] + t[3];
        d_theta[2] += t[3] - t[0];
        d_theta[3] += t[2] - t[1];
    }

    fn jvp(&self, _b: usize, theta: &[f64], block: &[c64], d_theta: &[f64], d_block: &mut [c64]) {
        let (s, c) = Float::sin_cos(theta[0]);
        let turned = block_of(-s, c, theta);
        let [phi, alpha, psi, chi] = [d_theta[0], d_theta[1], d_theta[2], d_theta[3]];
        for (at, speed) in [alpha + psi, alpha + chi, alpha - chi, alpha - psi].into_iter().enumerate() {
            d_block[at] = turned[at] * phi + block[at] * c64 { re: 0.0, im: speed };
        }
    }

    /// ‖dB‖_F² = 2dφ² + 2dα² + 2cos²φ dψ² + 2sin²φ dχ².
    fn lipschitz(&self, _b: usize) -> Option<f64> {
        Some(core::f64::consts::SQRT_2)
    }

    fn inverse(&self, b: usize, block: &[c64], theta: &mut [f64]) -> Result<()> {
        check_length("theta", self.num_params(b)?, theta.len())?;
        let ratio = orthogonality_ratio(b, block)?;
        let outside = |got| Error::Domain {
            what: "inverse of unitary phases".into(),
            expected: "a unitary block: orthogonality ratio at most 30",
            got,
        };
        if ratio.is_nan() || ratio > ORTHOGONAL {
            return Err(outside(format!("ratio {ratio:e}")));
        }
        let [x, y, z, w] = [block[0], block[1], -block[2], block[3]];
        let (c, s) = (Scalar::abs(x) + Scalar::abs(w), Scalar::abs(y) + Scalar::abs(z));
        // The other phase, from two entries that are e^{i(α ± it)}r.
        let rest = |alpha: f64, plus: c64, minus: c64| {
            let back = phase(-alpha);
            argument(plus * back + (minus * back).conj())
        };
        let (of_c, of_s) = ((argument(x), argument(w)), (argument(y), argument(z)));
        theta[0] = Float::atan2(s, c);
        if c >= s {
            theta[1] = 0.5 * (of_c.0 + of_c.1);
            theta[2] = 0.5 * (of_c.0 - of_c.1);
            theta[3] = rest(theta[1], y, z);
        } else {
            theta[1] = 0.5 * (of_s.0 + of_s.1);
            theta[3] = 0.5 * (of_s.0 - of_s.1);
            theta[2] = rest(theta[1], x, w);
        }
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
    use core::f64::consts::{FRAC_PI_2, PI};

    use super::*;

    fn forward(theta: [f64; 4]) -> [c64; 4] {
        let mut block = [c64 { re: f64::NAN, im: f64::NAN }; 4];
        UnitaryPhases.forward(2, &theta, &mut block);
        block
    }

    #[test]
    fn entries_are_those_of_the_formula() {
        let (phi, alpha, psi, chi) = (0.4, 0.3, -1.1, 2.0);
        let polar = |r: f64, t: f64| c64 { re: r * t.cos(), im: r * t.sin() };
        let truth = [
            polar(phi.cos(), alpha + psi),
            polar(phi.sin(), alpha + chi),
            polar(-phi.sin(), alpha - chi),
            polar(phi.cos(), alpha - psi),
        ];
        let block = forward([phi, alpha, psi, chi]);
        assert!(block.iter().zip(truth).all(|(x, y)| Scalar::abs(*x - y) <= 4e-16), "{block:?}");
        let det = block[0] * block[3] - block[1] * block[2];
        assert!(Scalar::abs(det - phase(2.0 * alpha)) <= 4e-16);
    }

    /// φ at and beside 0 and π/2, phases all around.
    #[test]
    fn every_unitary_block_is_reached() {
        let phis = [0.0, 5e-324, 1e-300, 1e-9, 0.3, 0.785, 0.786, 1.2, FRAC_PI_2 - 1e-9, FRAC_PI_2, 2.0, PI, -1.0];
        for phi in phis {
            for (k, alpha) in [0.0, 1.0, 3.1, -2.0].into_iter().enumerate() {
                for (l, psi) in [0.0, 0.5, -3.0, 1.6].into_iter().enumerate() {
                    let block = forward([phi, alpha, psi, 0.7 * k as f64 - 0.9 * l as f64]);
                    let mut theta = [f64::NAN; 4];
                    UnitaryPhases.inverse(2, &block, &mut theta).unwrap();
                    assert!((0.0..=FRAC_PI_2).contains(&theta[0]));
                    assert!(miss(2, &forward(theta), &block) <= 4.0, "{phi} {alpha} {psi}");
                }
            }
        }
    }

    /// Phases between two stages may belong to either: the gauge of the module's text.
    #[test]
    fn phases_commute_through() {
        // B₂·B₁ with the phases (δ, ε) taken out of B₁'s rows and put into B₂'s columns.
        let (first, second) = ([0.4, 0.3, -1.1, 2.0], [1.1, -0.2, 0.6, 0.1]);
        let (delta, epsilon) = (0.9, -0.5);
        // Rows of B₁ times e^{−iδ}, e^{−iε}: α −= (δ+ε)/2, ψ and χ −= (δ−ε)/2; columns of B₂: α +, ψ +, χ −.
        let (mean, half) = (0.5 * (delta + epsilon), 0.5 * (delta - epsilon));
        let moved_first = [first[0], first[1] - mean, first[2] - half, first[3] - half];
        let moved_second = [second[0], second[1] + mean, second[2] + half, second[3] - half];
        let product = |x: [c64; 4], y: [c64; 4]| {
            [0, 1, 2, 3].map(|at| x[at / 2 * 2] * y[at % 2] + x[at / 2 * 2 + 1] * y[2 + at % 2])
        };
        let one = product(forward(second), forward(first));
        let other = product(forward(moved_second), forward(moved_first));
        assert!(one.iter().zip(other).all(|(x, y)| Scalar::abs(*x - y) <= 8e-16), "{one:?} {other:?}");
    }

    #[test]
    fn only_unitary_two_by_two_blocks() {
        assert!(matches!(UnitaryPhases.num_params(3), Err(Error::Size { .. })));
        let block = forward([0.3; 4]).map(|x| x * 1.1);
        assert!(matches!(UnitaryPhases.inverse(2, &block, &mut [0.0; 4]), Err(Error::Domain { .. })));
        assert!(matches!(UnitaryPhases.inverse(2, &block, &mut [0.0; 3]), Err(Error::Length { .. })));
        assert!(matches!(UnitaryPhases.inverse(2, &block[..3], &mut [0.0; 4]), Err(Error::Length { .. })));
    }
}
