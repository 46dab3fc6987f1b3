//! Cayley with its inverse replaced by a Neumann series: Q = (I − A) Σ_{i<k} (−A)ⁱ, a polynomial in A of degree k.
//!
//! A is skew (skew-Hermitian) with the storage of [`Cayley`](super::Cayley), C(A) = (I − A)(I + A)⁻¹. As the sum is
//! (I − (−A)ᵏ)(I + A)⁻¹,
//!
//!   Q = C(A)(I − (−A)ᵏ) = I − 2A + 2A² − … + (−A)ᵏ,
//!
//! which converges to C(A) for ‖A‖₂ < 1 and is a different matrix beyond. Nothing is inverted: the series is what adapters on
//! accelerators use (OFTv2, arXiv 2506.19847; POET). With X for −A and K = k + 1 ≥ 4 it is PEFT's `use_cayley_neumann` with
//! `num_cayley_neumann_terms` = K: I + 2X + … + 2Xᵏ⁻¹ + Xᵏ. PEFT writes S, its stored upper triangle, for X there: its
//! block at v is this chart's at θ = −v, or this chart's at θ = v transposed. (K = 3 gives k = 3 too, K = 1 and 2 give I and
//! I + 2S, which are not of this kind.) PEFT's default, K = 5, is k = 4.
//!
//! *Defect.* An eigenvalue iω of A becomes C(iω)(1 − (−iω)ᵏ), so QᴴQ − I has the eigenvalue |1 − (−iω)ᵏ|² − 1, with x = |ω|ᵏ
//!
//! | k | eigenvalue | at ω = 0.1 | 0.3 | 0.5 |
//! |---|---|---|---|---|
//! | odd | x² | k = 3: 1.0e−6, k = 5: 1.0e−10 | 7.3e−4, 5.9e−6 | 1.6e−2, 9.8e−4 |
//! | 2, 6, 10, … | 2x + x² | k = 2: 2.0e−2, k = 6: 2.0e−6 | 1.9e−1, 1.5e−3 | 5.6e−1, 3.1e−2 |
//! | 4, 8, 12, … | x² − 2x | k = 4: 2.0e−4 | 1.6e−2 | 1.2e−1 |
//!
//! **Odd orders are far better than even ones**: iᵏ is imaginary there, so that the error changes the length of vectors in second
//! order only. For ‖A‖ < 1 an odd k has a smaller defect than any even one up to 2k: k = 3 beats 4 and even 6, with fewer
//! products.
//!
//! *Pullback.* Horner's H_j = c_j I + X H_{j+1}, H_k = I, with X = −A, Q = H_0, c = 1, 2, …, 2, 1. Backwards from G_0 = G:
//! G_X += G_j H_{j+1}ᴴ, G_{j+1} = Xᴴ G_j; exact for the polynomial, not for Cayley. Forwards: dH_j = dX H_{j+1} + X dH_{j+1}.
//!
//! *Section.* Newton's method on p(X) = B. All iterates are functions of B, so they commute, and the step
//! (p(X) − B) p'(X)⁻¹ is the scalar one, projected onto skew matrices (along the truth its other part is of second order). It
//! starts at Cayley's section. An orthogonal B is reached only where the series has converged to rounding.
//!
//! *Conditioning.* ‖dQ/dA‖ ≤ p'(‖A‖): growing like k‖A‖ᵏ⁻¹ beyond 1, where entries grow like ‖A‖ᵏ and overflow at last.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::{format, vec, vec::Vec};

use num_traits::Float;

use super::{Charts, Parametrization};
use crate::dense::skew::{fill_skew, pull_skew, skew_part, skew_size};
use crate::dense::{self, ORTHOGONAL, product};
use crate::error::{Error, Result, check_length};
use crate::scalar::Wide;

/// The highest order: at ‖A‖ = 0.5 the series is exact to rounding from 27 on.
const MOST: u32 = 64;

/// What comes before the number in the id.
const PREFIX: &str = "Cayley-Neumann order ";

/// Cayley's chart with a truncated Neumann series instead of the inverse: polynomials of degree `order` in A, orthogonal only
/// as far as the series has converged.
///
/// Parameters are those of [`Cayley`](super::Cayley), b(b − 1)/2 real or b² complex ones. `order` k is from 1 to 64: the terms
/// of the series, and the degree. Take an odd one: the defect ‖QᴴQ − I‖₂ is σ²ᵏ for odd k, but about 2σᵏ for even k, where
/// σ = ‖A‖₂ (see [`defect_bound`](Self::defect_bound)). PEFT's K terms are `order` K − 1, with the sign of θ exchanged; its
/// default K = 5 is the even order 4. What a plan of such blocks amounts to is measured by
/// [`verify::certificate`](crate::verify::certificate); gradients need
/// [`Saved::Input`](crate::Saved::Input), as the blocks cannot be undone by their adjoints.
///
/// It is here to compute what others trained: [`Cayley`](super::Cayley) is exact and, in this crate, not slower.
///
/// ```
/// use papilio::parametrization::{Cayley, CayleyNeumann, Parametrization};
/// let (theta, mut q, mut truth) = ([0.3], [0.0; 4], [0.0; 4]);
/// Cayley.forward(2, &theta, &mut truth);
/// for (order, error) in [(3, 3e-2), (4, 9e-3), (5, 3e-3)] {
///     CayleyNeumann { order }.forward(2, &theta, &mut q);
///     assert!(q.iter().zip(&truth).all(|(x, y)| (x - y).abs() < error));
/// }
/// let defect = |order| CayleyNeumann { order }.defect_bound(0.3);
/// assert!(defect(3) < 8e-4 && defect(4) > 1.6e-2 && defect(5) < 6e-6);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CayleyNeumann {
    /// Terms k of the series, 1 ≤ k ≤ 64; odd is far better than even.
    pub order: u32,
}

/// How the chart is known by name.
pub(super) fn register<W: Wide>(charts: &mut Charts<W>) {
    charts.register(CayleyNeumann { order: 4 }).register(CayleyNeumann { order: 5 });
    charts.register_family(|_, id| {
        let order = id.strip_prefix(PREFIX)?.parse().ok()?;
        Some(Arc::new(CayleyNeumann { order }))
    });
}

impl CayleyNeumann {
    /// Bound of ‖QᴴQ − I‖₂ for blocks with ‖A‖₂ ≤ `norm` (real A: ‖A‖₂ ≤ ‖θ‖; complex A: ‖A‖₂ ≤ ‖A‖_F), in exact
    /// arithmetic: with x = `norm`ᵏ it is x² for odd k, 2x + x² for k = 2, 6, 10, …, and for k = 4, 8, 12, … 2x − x² up to
    /// x = 1, then the larger of 1 and x² − 2x. Attained where ‖A‖₂ = `norm` and x ≤ 1 or k is not a multiple of 4.
    pub fn defect_bound(&self, norm: f64) -> f64 {
        let x = Float::powi(norm, self.order as i32);
        match self.order % 4 {
            1 | 3 => x * x,
            2 => x * (2.0 + x),
            _ if x > 1.0 => Float::max(1.0, x * (x - 2.0)),
            _ => x * (2.0 - x),
        }
    }

    /// c_j of p(X) = Σ c_j Xʲ.
    fn coefficient(&self, j: u32) -> f64 {
        if j == 0 || j == self.order { 1.0 } else { 2.0 }
    }

    /// H_k = I, …, H_1, H_0 = Q, one after the other.
    fn horner<W: Wide>(&self, b: usize, x: &[W]) -> Vec<W> {
        let size = b * b;
        let mut h = vec![W::zero(); size * (self.order as usize + 1)];
        h[..size].iter_mut().step_by(b + 1).for_each(|d| *d = W::one());
        for (step, j) in (0..self.order).rev().enumerate() {
            let (done, rest) = h.split_at_mut((step + 1) * size);
            product(b, x, &done[step * size..], &mut rest[..size]);
            rest[..size].iter_mut().step_by(b + 1).for_each(|d| *d += W::from_real(self.coefficient(j)));
        }
        h
    }
}

/// X = −A.
fn minus_skew<W: Wide>(b: usize, theta: &[f64]) -> Vec<W> {
    let mut x = vec![W::zero(); b * b];
    fill_skew::<W, W>(b, &mut x, |at, _| 0.0 - theta[at]);
    x
}

impl<W: Wide> Parametrization<W> for CayleyNeumann {
    fn name(&self) -> &'static str {
        "Cayley-Neumann"
    }

    fn id(&self) -> String {
        format!("{PREFIX}{}", self.order)
    }

    fn num_params(&self, b: usize) -> Result<usize> {
        if !(1..=MOST).contains(&self.order) {
            let expected = format!("an order from 1 to {MOST}, best an odd one");
            return Err(Error::Size { what: "Cayley-Neumann series", expected, got: format!("order {}", self.order) });
        }
        if b >= 1 && b.checked_mul(b).is_some() {
            return Ok(skew_size::<W>(b));
        }
        Err(Error::Size { what: "Cayley-Neumann block", expected: "b ≥ 1".into(), got: format!("b = {b}") })
    }

    fn forward(&self, b: usize, theta: &[f64], block: &mut [W]) {
        let h = self.horner(b, &minus_skew::<W>(b, theta));
        block.copy_from_slice(&h[self.order as usize * b * b..]);
    }

    fn vjp(&self, b: usize, theta: &[f64], _block: &[W], d_block: &[W], d_theta: &mut [f64]) {
        let size = b * b;
        let x = minus_skew::<W>(b, theta);
        let h = self.horner(b, &x);
        let (mut g, mut next, mut d_x) = (d_block.to_vec(), vec![W::zero(); size], vec![W::zero(); size]);
        let mut adjoint = vec![W::zero(); size];
        for h in h[..self.order as usize * size].chunks_exact(size).rev() {
            (0..size).for_each(|at| adjoint[at] = h[at % b * b + at / b].conj());
            product(b, &g, &adjoint, &mut next);
            d_x.iter_mut().zip(&next).for_each(|(d, n)| *d += *n);
            // Xᴴ = −X
            product(b, &x, &g, &mut next);
            g.iter_mut().zip(&next).for_each(|(g, n)| *g = -*n);
        }
        pull_skew::<W, W>(b, &d_x, -1.0, d_theta);
    }

    fn jvp(&self, b: usize, theta: &[f64], _block: &[W], d_theta: &[f64], d_block: &mut [W]) {
        let size = b * b;
        let (x, d_x) = (minus_skew::<W>(b, theta), minus_skew::<W>(b, d_theta));
        let h = self.horner(b, &x);
        let (mut rise, mut old) = (vec![W::zero(); size], vec![W::zero(); size]);
        d_block.fill(W::zero());
        for h in h[..self.order as usize * size].chunks_exact(size) {
            old.copy_from_slice(d_block);
            product(b, &x, &old, d_block);
            product(b, &d_x, h, &mut rise);
            d_block.iter_mut().zip(&rise).for_each(|(d, r)| *d += *r);
        }
    }

    fn inverse(&self, b: usize, block: &[W], theta: &mut [f64]) -> Result<()> {
        check_length("theta", Parametrization::<W>::num_params(self, b)?, theta.len())?;
        let outside = |got| Error::Domain {
            what: "inverse of Cayley-Neumann".into(),
            expected: "a value of this polynomial; of orthogonal blocks only those where its series has converged",
            got,
        };
        let defect = dense::defect(b, block)?;
        if defect.is_nan() || defect >= 1.0 {
            return Err(outside(format!("‖I − BᴴB‖₁ = {defect:e}")));
        }
        let singular = |_| outside("a singular equation".into());
        // Cayley's section: 2(I + B)⁻¹ − I.
        let (mut m, mut a) = (block.to_vec(), vec![W::zero(); b * b]);
        for i in 0..b {
            m[i * b + i] += W::one();
            a[i * b + i] = W::from_real(2.0);
        }
        dense::solve(b, &mut m, &mut a).map_err(singular)?;
        skew_part(b, &a, theta);
        let mut scratch = vec![W::zero(); b * b];
        let mut last = f64::INFINITY;
        for _ in 0..32 {
            let x = minus_skew::<W>(b, theta);
            let h = self.horner(b, &x);
            // p' by Horner as well: D_j = H_{j+1} + X D_{j+1}.
            let mut slope = vec![W::zero(); b * b];
            for h in h[..self.order as usize * b * b].chunks_exact(b * b) {
                product(b, &x, &slope, &mut scratch);
                slope.iter_mut().zip(&scratch).zip(h).for_each(|((s, x), h)| *s = *x + *h);
            }
            let mut step: Vec<W> =
                h[self.order as usize * b * b..].iter().zip(block).map(|(h, block)| *h - *block).collect();
            dense::solve(b, &mut slope, &mut step).map_err(singular)?;
            let size = step.iter().fold(0.0, |m: f64, s| m.max(s.abs()));
            // Quadratic until rounding: then steps stop shrinking.
            if size >= 0.5 * last && size <= 1e-8 {
                break;
            }
            last = size;
            let next: Vec<W> = x.iter().zip(&step).map(|(x, s)| *s - *x).collect();
            skew_part(b, &next, theta);
        }
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

    fn forward<W: Wide>(order: u32, b: usize, theta: &[f64]) -> Vec<W> {
        let mut block = vec![W::from_real(f64::NAN); b * b];
        CayleyNeumann { order }.forward(b, theta, &mut block);
        block
    }

    fn wave(n: usize, scale: f64) -> Vec<f64> {
        (1..=n).map(|i| scale * (1.7 * (i * i) as f64).sin()).collect()
    }

    /// A plane with eigenvalues ±iω has QᵀQ = (1 + defect)·I, and a phase likewise.
    #[test]
    fn the_defect_is_what_the_bound_says_and_odd_orders_win() {
        for omega in [0.01, 0.1, 0.3, 0.5, 0.9, 1.0, 1.3] {
            for order in 1..=9 {
                let bound = CayleyNeumann { order }.defect_bound(omega);
                let q = forward::<f64>(order, 2, &[omega]);
                let found = (q[0] * q[0] + q[2] * q[2] - 1.0).abs();
                assert!(found <= bound + 4e-15 * (1.0 + bound), "{order} at {omega}: {found:e} > {bound:e}");
                let met = omega <= 1.0 || order % 4 != 0;
                assert!(!met || found >= bound - 4e-15 * (1.0 + bound), "{order} at {omega}: {found:e} < {bound:e}");
                let phase = forward::<c64>(order, 1, &[omega]);
                assert!((phase[0].norm_sqr() - 1.0).abs() <= bound + 4e-15 * (1.0 + bound));
            }
        }
        assert!((1..=4).all(|order| CayleyNeumann { order }.defect_bound(f64::NAN).is_nan()));
        // The table of the module, to its two digits.
        let table = [(3, 0.3, 7.3e-4), (5, 0.3, 5.9e-6), (3, 0.5, 1.6e-2), (5, 0.5, 9.8e-4), (4, 0.3, 1.6e-2)];
        for (order, omega, shown) in table {
            assert!((CayleyNeumann { order }.defect_bound(omega) / shown - 1.0).abs() < 0.03, "{order}, {omega}");
        }
        // An odd order has a smaller defect than any even one up to its double.
        for omega in [0.01, 0.1, 0.5, 0.9] {
            let bound = |order| CayleyNeumann { order }.defect_bound(omega);
            for odd in [1, 3, 5, 7] {
                assert!((2..=2 * odd).step_by(2).all(|even| bound(odd) < bound(even)), "{odd} at {omega}");
            }
        }
    }

    /// PEFT: K = 5 is I + 2S + 2S² + 2S³ + S⁴ at the stored S.
    #[test]
    fn it_is_pefts_series_with_the_sign_exchanged() {
        let (b, v) = (4, wave(6, 0.4));
        let s: Vec<f64> = minus_skew(b, &v.iter().map(|v| -v).collect::<Vec<_>>());
        let (mut truth, mut power, mut next) = (vec![0.0; 16], vec![0.0; 16], vec![0.0; 16]);
        power.iter_mut().step_by(5).for_each(|x| *x = 1.0);
        for c in [1.0, 2.0, 2.0, 2.0, 1.0] {
            truth.iter_mut().zip(&power).for_each(|(t, p)| *t += c * p);
            product(b, &s, &power, &mut next);
            power.copy_from_slice(&next);
        }
        let q = forward::<f64>(4, b, &v.iter().map(|v| -v).collect::<Vec<_>>());
        let transposed = forward::<f64>(4, b, &v);
        for at in 0..16 {
            assert!((q[at] - truth[at]).abs() <= 4e-16 && (transposed[at % 4 * 4 + at / 4] - truth[at]).abs() <= 4e-16);
        }
    }

    #[test]
    fn it_converges_to_cayley() {
        fn compare<W: Wide>(b: usize)
        where
            Cayley: Parametrization<W>,
        {
            let theta = wave(skew_size::<W>(b), 0.4 / b as f64);
            let mut truth = vec![W::zero(); b * b];
            Cayley.forward(b, &theta, &mut truth);
            let worst = |order| {
                forward::<W>(order, b, &theta).iter().zip(&truth).fold(0.0, |m: f64, (x, y)| m.max((*x - *y).abs()))
            };
            assert!(worst(64) <= 2e-15 && worst(5) < 0.06 && worst(9) < 0.1 * worst(5).max(1e-15), "b = {b}");
        }
        for b in 1..=6 {
            compare::<f64>(b);
            compare::<c64>(b);
        }
    }

    /// Any value of the polynomial below ‖A‖ = 1 or so is taken back; orthogonal blocks only after convergence.
    #[test]
    fn sections_are_of_the_polynomial_not_of_cayley() {
        fn check<W: Wide>(b: usize)
        where
            Cayley: Parametrization<W>,
        {
            let theta = wave(skew_size::<W>(b), 0.5 / b as f64);
            for order in [2, 3, 4, 5, 9, 64] {
                let chart = CayleyNeumann { order };
                let mut found = vec![f64::NAN; theta.len()];
                chart.inverse(b, &forward::<W>(order, b, &theta), &mut found).unwrap();
                let miss = found.iter().zip(&theta).fold(0.0, |m: f64, (x, y)| m.max((x - y).abs()));
                assert!(miss <= 1e-14, "order {order}, b = {b}: {miss:e}");
                let mut rotation = vec![W::zero(); b * b];
                Cayley.forward(b, &theta, &mut rotation);
                let result = chart.inverse(b, &rotation, &mut found);
                assert_eq!(result.is_ok(), order == 64 || theta.is_empty(), "order {order}, b = {b}: {result:?}");
            }
        }
        for b in 1..=6 {
            check::<f64>(b);
            check::<c64>(b);
        }
    }

    #[test]
    fn orders_outside_are_refused() {
        for order in [0, 65, u32::MAX] {
            let result = Parametrization::<f64>::num_params(&CayleyNeumann { order }, 4);
            assert!(matches!(result, Err(Error::Size { .. })), "{order}: {result:?}");
        }
        assert_eq!(Parametrization::<c64>::num_params(&CayleyNeumann { order: 5 }, 4), Ok(16));
    }
}
