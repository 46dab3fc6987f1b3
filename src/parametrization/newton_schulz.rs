//! Rotations without a solve: Newton–Schulz steps from I − A towards its polar factor.
//!
//! X₀ = (I − A)/c with c² = 1 + ½‖A‖_F², X ← X + ½ X(I − XᴴX), a given number of times. A is skew (skew-Hermitian), with the
//! storage of [`Cayley`](super::Cayley). This is what trainers without a solver use (OneTrainer orthogonalises I + Q so, with
//! Chebyshev coefficients in place of Schulz's; CANS, arXiv 2506.10935).
//!
//! *Limit.* I − A is normal, an eigenvalue iω of A gives 1 − iω, and each step multiplies X by a positive function of XᴴX, so the
//! phase stays: the limit (I − A)(I + AᴴA)^(−½) turns by −atan ω, *half* of Cayley's angle, always less than a quarter
//! turn. It is the square root of Cayley's block at the same θ.
//!
//! *Defect.* The eigenvalue e of I − XᴴX becomes e' = e²(3 + e)/4 (`dense/polish.rs`). With h = ½‖A‖_F², X₀ has
//! 1 − (1 + ω²)/(1 + h). As a real A has its eigenvalues in pairs, ω² ≤ h and 0 ≤ e ≤ h/(1 + h), attained on the kernel; complex
//! A have ω² ≤ 2h, |e| ≤ h/(1 + h), and e' of a negative e is below that of |e|. For a single plane (b = 2) e = 0 from the start.
//!
//! *Pullback.* For Y = X + ½XE, E = I − XᴴX, with M = ½XᴴG: G_X = G + ½GE − X(M + Mᴴ); the X are computed again and kept. For
//! X₀, dc/c = ½⟨Â, dA⟩/c with Â = A/c: G_A = −(G₀ + ½⟨G₀, X₀⟩Â)/c. Exact for the finite number of steps.
//!
//! *Section.* B = (I − A)·s with s positive definite and a function of AᴴA, so A = −K H⁻¹ for the skew and Hermitian parts K, H
//! of B. It is the truth if forward leads back to B: always for values of this chart whose ‖A‖ does not swamp H, and for those
//! orthogonal blocks (angles below a quarter turn) from which the steps have converged.
//!
//! *Conditioning.* A tends to a quarter turn as ‖A‖ → ∞, and the derivative vanishes like 1/‖A‖; every finite θ is in range.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::{format, vec, vec::Vec};

use num_traits::Float;

use super::{Charts, Parametrization};
use crate::dense::skew::{fill_skew, pull_skew, skew_part, skew_size};
use crate::dense::{self, ORTHOGONAL, newton_schulz, product, subtract_gram};
use crate::error::{Error, Result, check_length};
use crate::scalar::Wide;

/// The most steps: from ‖A‖_F = 10⁶ no more than 40 are needed.
const MOST: u32 = 64;

/// What comes before the number in the id.
const PREFIX: &str = "Newton-Schulz steps ";

/// The chart of b×b rotations (unitary blocks) by Newton–Schulz steps from I − A: orthogonal only as far as the steps have
/// converged.
///
/// Parameters are those of [`Cayley`](super::Cayley), b(b − 1)/2 real or b² complex ones; angles stay below a quarter turn, half
/// of Cayley's at the same θ. `steps` is from 1 to 64. The defect ‖QᴴQ − I‖₂ depends on θ:
/// [`defect_bound`](Self::defect_bound) knows it beforehand, [`verify::certificate`](crate::verify::certificate) afterwards.
/// Gradients need [`Saved::Input`](crate::Saved::Input).
///
/// ```
/// use papilio::parametrization::NewtonSchulz;
/// // ‖A‖_F up to 1: five steps are exact to rounding; up to 100, that takes eleven more.
/// assert!(NewtonSchulz { steps: 5 }.defect_bound(1.0) < 1e-14);
/// assert!(NewtonSchulz { steps: 5 }.defect_bound(100.0) > 0.9);
/// assert!(NewtonSchulz { steps: 16 }.defect_bound(100.0) < 1e-15);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewtonSchulz {
    /// Number of steps, from 1 to 64.
    pub steps: u32,
}

/// How the chart is known by name.
pub(super) fn register<W: Wide>(charts: &mut Charts<W>) {
    charts.register(NewtonSchulz { steps: 6 });
    charts.register_family(|_, id| {
        let steps = id.strip_prefix(PREFIX)?.parse().ok()?;
        Some(Arc::new(NewtonSchulz { steps }))
    });
}

impl NewtonSchulz {
    /// Bound of ‖QᴴQ − I‖₂ for blocks with ‖A‖_F ≤ `norm` (real A: √2·‖θ‖), in exact arithmetic: e = h/(1 + h) with h = ½`norm`²,
    /// and e ← e²(3 + e)/4 with every step. Attained by real A with a kernel, so for all odd b.
    pub fn defect_bound(&self, norm: f64) -> f64 {
        let e = 1.0 / (1.0 + 2.0 / (norm * norm));
        (0..self.steps).fold(e, |e, _| 0.25 * e * e * (3.0 + e))
    }
}

/// What the steps start from: Â = A/c and 1/c.
struct Start<W> {
    a: Vec<W>,
    inverse_c: f64,
}

impl<W: Wide> Start<W> {
    /// In terms of A/m, m = max(1, |θ|), so that no square overflows.
    fn new(b: usize, theta: &[f64]) -> Self {
        let m = theta.iter().fold(1.0, |m: f64, t| m.max(t.abs()));
        let mut a = vec![W::zero(); b * b];
        let half = fill_skew::<W, W>(b, &mut a, |at, _| theta[at] / m).re();
        let r = 1.0 / Float::sqrt(1.0 / m / m + half);
        a.iter_mut().for_each(|a| *a = *a * W::from_real(r));
        Self { a, inverse_c: r / m }
    }

    /// X₀ and the iterates, one after the other.
    fn iterates(&self, b: usize, steps: u32) -> Vec<W> {
        let size = b * b;
        let mut all: Vec<W> = self.a.iter().map(|a| W::zero() - *a).collect();
        all.iter_mut().step_by(b + 1).for_each(|d| *d += W::from_real(self.inverse_c));
        let (mut e, mut next) = (vec![W::zero(); size], vec![W::zero(); size]);
        for k in 0..steps as usize {
            all.extend_from_within(k * size..);
            let x = &mut all[(k + 1) * size..];
            subtract_gram(b, x, &mut e);
            newton_schulz(b, x, &mut e, &mut next);
        }
        all
    }
}

/// The adjoint of a block.
fn adjoint<W: Wide>(b: usize, x: &[W]) -> Vec<W> {
    (0..b * b).map(|at| x[at % b * b + at / b].conj()).collect()
}

/// X(M + Mᴴ) for M = scale·XᴴG.
fn along_the_gram<W: Wide>(b: usize, x: &[W], g: &[W], scale: f64) -> Vec<W> {
    let (mut m, mut out) = (vec![W::zero(); b * b], vec![W::zero(); b * b]);
    product(b, &adjoint(b, x), g, &mut m);
    let sum: Vec<W> = m.iter().zip(adjoint(b, &m)).map(|(m, n)| W::from_real(scale) * (*m + n)).collect();
    product(b, x, &sum, &mut out);
    out
}

/// Re tr(XᴴY).
fn pairing<W: Wide>(x: &[W], y: &[W]) -> f64 {
    x.iter().zip(y).map(|(x, y)| (x.conj() * *y).re()).sum()
}

impl<W: Wide> Parametrization<W> for NewtonSchulz {
    fn name(&self) -> &'static str {
        "Newton-Schulz"
    }

    fn id(&self) -> String {
        format!("{PREFIX}{}", self.steps)
    }

    fn num_params(&self, b: usize) -> Result<usize> {
        if !(1..=MOST).contains(&self.steps) {
            let expected = format!("from 1 to {MOST} steps");
            return Err(Error::Size { what: "Newton-Schulz chart", expected, got: format!("{} steps", self.steps) });
        }
        if b >= 1 && b.checked_mul(b).is_some() {
            return Ok(skew_size::<W>(b));
        }
        Err(Error::Size { what: "Newton-Schulz block", expected: "b ≥ 1".into(), got: format!("b = {b}") })
    }

    fn forward(&self, b: usize, theta: &[f64], block: &mut [W]) {
        let iterates = Start::new(b, theta).iterates(b, self.steps);
        block.copy_from_slice(&iterates[self.steps as usize * b * b..]);
    }

    fn vjp(&self, b: usize, theta: &[f64], _block: &[W], d_block: &[W], d_theta: &mut [f64]) {
        let size = b * b;
        let start = Start::new(b, theta);
        let iterates = start.iterates(b, self.steps);
        let (mut g, mut e, mut ge) = (d_block.to_vec(), vec![W::zero(); size], vec![W::zero(); size]);
        let half = W::from_real(0.5);
        for x in iterates[..self.steps as usize * size].chunks_exact(size).rev() {
            subtract_gram(b, x, &mut e);
            product(b, &g, &e, &mut ge);
            let inner = along_the_gram(b, x, &g, 0.5);
            for ((g, ge), inner) in g.iter_mut().zip(&ge).zip(inner) {
                *g = *g + half * *ge - inner;
            }
        }
        let along = W::from_real(0.5 * pairing(&g, &iterates[..size]));
        g.iter_mut().zip(&start.a).for_each(|(g, a)| *g += along * *a);
        pull_skew::<W, W>(b, &g, -start.inverse_c, d_theta);
    }

    fn jvp(&self, b: usize, theta: &[f64], _block: &[W], d_theta: &[f64], d_block: &mut [W]) {
        let size = b * b;
        let start = Start::new(b, theta);
        let iterates = start.iterates(b, self.steps);
        // dX₀ = −dA/c − X₀ dc/c
        fill_skew::<W, W>(b, d_block, |at, _| d_theta[at] * start.inverse_c);
        let along = W::from_real(0.5 * pairing(&start.a, d_block));
        d_block.iter_mut().zip(&iterates).for_each(|(d, x)| *d = W::zero() - *d - along * *x);
        let (mut e, mut de) = (vec![W::zero(); size], vec![W::zero(); size]);
        let half = W::from_real(0.5);
        for x in iterates[..self.steps as usize * size].chunks_exact(size) {
            subtract_gram(b, x, &mut e);
            product(b, d_block, &e, &mut de);
            let inner = along_the_gram(b, x, d_block, 0.5);
            for ((d, de), inner) in d_block.iter_mut().zip(&de).zip(inner) {
                *d = *d + half * *de - inner;
            }
        }
    }

    fn inverse(&self, b: usize, block: &[W], theta: &mut [f64]) -> Result<()> {
        check_length("theta", Parametrization::<W>::num_params(self, b)?, theta.len())?;
        check_length("block", b * b, block.len())?;
        let outside = |got| Error::Domain {
            what: "inverse of Newton-Schulz".into(),
            expected: "a value of this chart; of orthogonal blocks those with angles below a quarter turn, if the steps \
                       have converged",
            got,
        };
        let other = adjoint(b, block);
        let part = |sign: f64| -> Vec<W> {
            block.iter().zip(&other).map(|(x, y)| W::from_real(-0.5 * sign) * (*x - W::from_real(sign) * *y)).collect()
        };
        // X·H = −K
        let (mut a, mut h) = (part(1.0), part(-1.0));
        dense::solve(b, &mut h, &mut a).map_err(|_| outside("no symmetric part to divide by".into()))?;
        skew_part(b, &a, theta);
        let mut again = vec![W::zero(); b * b];
        self.forward(b, theta, &mut again);
        let miss = super::miss(b, &again, block);
        if miss <= ORTHOGONAL {
            return Ok(());
        }
        Err(outside(format!("a block missed by ratio {miss:e}")))
    }

    fn is_exact(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parametrization::Cayley;
    use crate::scalar::c64;

    fn forward<W: Wide>(steps: u32, b: usize, theta: &[f64]) -> Vec<W> {
        let mut block = vec![W::from_real(f64::NAN); b * b];
        NewtonSchulz { steps }.forward(b, theta, &mut block);
        block
    }

    fn wave(n: usize, scale: f64) -> Vec<f64> {
        (1..=n).map(|i| scale * (1.7 * (i * i) as f64).sin()).collect()
    }

    #[test]
    fn the_limit_is_the_square_root_of_cayley_and_orthogonal_for_any_theta() {
        fn check<W: Wide>(b: usize)
        where
            Cayley: Parametrization<W>,
        {
            for scale in [0.0, 1e-8, 0.3, 1.0, 30.0] {
                let theta = wave(skew_size::<W>(b), scale);
                let q = forward::<W>(40, b, &theta);
                assert!(dense::orthogonality_ratio(b, &q).unwrap() <= 2.0, "b = {b}, {scale}");
                let (mut truth, mut square) = (vec![W::zero(); b * b], vec![W::zero(); b * b]);
                Cayley.forward(b, &theta, &mut truth);
                product(b, &q, &q, &mut square);
                let miss = square.iter().zip(&truth).fold(0.0, |m: f64, (x, y)| m.max((*x - *y).abs()));
                assert!(miss <= 4e-15 * (1.0 + scale), "b = {b}, {scale}: {miss:e}");
            }
        }
        for b in 1..=9 {
            check::<f64>(b);
            check::<c64>(b);
        }
    }

    #[test]
    fn huge_parameters_stay_finite() {
        for t in [1e17, 1e160, 1e300, f64::MAX] {
            for b in [2, 3, 8] {
                let q = forward::<f64>(6, b, &vec![t; b * (b - 1) / 2]);
                assert!(q.iter().all(|x| x.abs() <= 1.0 + 1e-15), "{t:e}: {q:?}");
                let mut d = vec![0.0; b * (b - 1) / 2];
                NewtonSchulz { steps: 6 }.vjp(b, &vec![t; d.len()], &q, &vec![1.0; b * b], &mut d);
                assert!(d.iter().all(|d| d.is_finite()), "{t:e}: {d:?}");
            }
        }
    }

    /// b = 3 has a kernel, where the bound is attained; complex blocks stay below it.
    #[test]
    fn the_defect_is_what_the_bound_says() {
        for scale in [0.1, 1.0, 3.0, 10.0] {
            for steps in 1..=8 {
                let chart = NewtonSchulz { steps };
                let theta = wave(3, scale);
                let bound = chart.defect_bound(2.0_f64.sqrt() * theta.iter().map(|t| t * t).sum::<f64>().sqrt());
                // On the kernel v ∝ (a₂₃, −a₁₃, a₁₂): vᵀQᵀQv.
                let (q, v) = (forward::<f64>(steps, 3, &theta), [theta[2], -theta[1], theta[0]]);
                let image = |i: usize| (0..3).map(|j| q[3 * i + j] * v[j]).sum::<f64>();
                let stretch = (0..3).map(|i| image(i).powi(2)).sum::<f64>() / v.iter().map(|v| v * v).sum::<f64>();
                assert!(((1.0 - stretch) - bound).abs() <= 4e-15, "{steps} at {scale}: {} {bound}", 1.0 - stretch);
                for theta in [wave(4, scale), vec![scale, 0.0, 0.0, 0.0]] {
                    let mut a = vec![c64::default(); 4];
                    let norm = (2.0 * fill_skew::<c64, c64>(2, &mut a, |at, _| theta[at]).re).sqrt();
                    let q = forward::<c64>(steps, 2, &theta);
                    // ‖E‖₂ ≤ ‖E‖₁ ≤ √2‖E‖₂
                    let defect = dense::defect(2, &q).unwrap() / 2.0_f64.sqrt();
                    assert!(defect <= chart.defect_bound(norm) + 4e-15, "{steps} at {scale}: {defect}");
                }
            }
        }
    }

    #[test]
    fn tiny_defects_are_not_rounded_away() {
        let bound = |norm| NewtonSchulz { steps: 1 }.defect_bound(norm);
        assert!((bound(1e-8) / 1.875e-33 - 1.0).abs() < 4e-15 && bound(0.0) == 0.0 && bound(f64::MAX) == 1.0);
    }

    #[test]
    fn sections_take_values_back_and_refuse_wide_angles() {
        fn check<W: Wide>(b: usize)
        where
            Cayley: Parametrization<W>,
        {
            let theta = wave(skew_size::<W>(b), 0.7);
            let mut found = vec![f64::NAN; theta.len()];
            for steps in [1, 2, 20] {
                NewtonSchulz { steps }.inverse(b, &forward::<W>(steps, b, &theta), &mut found).unwrap();
                let miss = found.iter().zip(&theta).fold(0.0, |m: f64, (x, y)| m.max((x - y).abs()));
                assert!(miss <= 2e-14, "steps {steps}, b = {b}: {miss:e}");
            }
            // Cayley's angles are twice as wide: more than a quarter turn from ω = 1 on.
            let mut block = vec![W::zero(); b * b];
            Cayley.forward(b, &vec![3.0; theta.len()], &mut block);
            let result = NewtonSchulz { steps: 20 }.inverse(b, &block, &mut found);
            assert!(theta.is_empty() || matches!(result, Err(Error::Domain { .. })), "b = {b}: {result:?}");
        }
        for b in 1..=6 {
            check::<f64>(b);
            check::<c64>(b);
        }
    }

    #[test]
    fn steps_outside_are_refused() {
        for steps in [0, 65, u32::MAX] {
            let result = Parametrization::<f64>::num_params(&NewtonSchulz { steps }, 4);
            assert!(matches!(result, Err(Error::Size { .. })), "{steps}: {result:?}");
        }
    }
}
