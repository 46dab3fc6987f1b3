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
//! Pullback and section are those of such polynomials (`polynomial.rs`).
//!
//! *Conditioning.* ‖dQ/dA‖ ≤ p'(‖A‖): growing like k‖A‖ᵏ⁻¹ beyond 1, where entries grow like ‖A‖ᵏ and overflow at last.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use num_traits::Float;

use super::polynomial::{Polynomial, polynomial_chart};
use super::{Charts, Parametrization};
use crate::error::Result;
use crate::scalar::Wide;

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

    fn polynomial(&self) -> Polynomial {
        Polynomial { degree: self.order, last: 1.0 }
    }
}

polynomial_chart!(CayleyNeumann, "Cayley-Neumann");

#[cfg(test)]
mod tests {
    use super::super::polynomial::minus_skew;
    use super::*;
    use crate::dense::product;
    use crate::dense::skew::skew_size;
    use crate::error::Error;
    use crate::parametrization::Cayley;
    use crate::scalar::c64;
    use alloc::{vec, vec::Vec};

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
