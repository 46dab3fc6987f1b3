//! The power series of Cayley's map, cut off: Q = I + 2X + 2X² + … + 2Xᵏ at X = −A, for C(A) = (I − A)(I + A)⁻¹.
//!
//! A is skew (skew-Hermitian) with the storage of [`Cayley`](super::Cayley). The last term counts twice here and once in
//! [`CayleyNeumann`](super::CayleyNeumann), and that is the whole difference: Q = C(A) + 2Xᵏ⁺¹(X − I)⁻¹. So an eigenvalue iω
//! of X becomes one of modulus 1 plus or minus at most 2x, x = |ω|ᵏ⁺¹/√(1 + ω²), where the other series of one degree more has
//! 1 plus or minus |ω|ᵏ⁺¹, and for odd degrees far less.
//!
//! PEFT 0.16 and 0.17 trained OFT adapters by it (`num_cayley_neumann_terms` = K is k = K − 1), with its stored S for X: its
//! block at v is this chart's at θ = −v. PEFT 0.18 and later still have it for K = 2, I + 2S.
//!
//! Pullback and section are those of such polynomials (`polynomial.rs`).

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use super::polynomial::{Polynomial, polynomial_chart};
use super::{Charts, Parametrization};
use crate::error::Result;
use crate::scalar::Wide;

/// What comes before the number in the id.
const PREFIX: &str = "Cayley series order ";

/// Cayley's power series up to the power `order`, I + 2X + … + 2Xᵏ: orthogonal only as far as it has converged.
///
/// Parameters are those of [`Cayley`](super::Cayley), `order` k is from 1 to 64. It is here to compute what others trained;
/// [`Cayley`](super::Cayley) is exact, and [`CayleyNeumann`](super::CayleyNeumann) of the same order nearer to it for
/// ‖A‖ < 1.
///
/// ```
/// use papilio::parametrization::{CayleySeries, Parametrization};
/// let mut q = [0.0; 4];
/// CayleySeries { order: 1 }.forward(2, &[0.25], &mut q);
/// assert_eq!(q, [1.0, -0.5, 0.5, 1.0]); // I − 2A
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CayleySeries {
    /// The highest power k, 1 ≤ k ≤ 64.
    pub order: u32,
}

/// How the chart is known by name.
pub(super) fn register<W: Wide>(charts: &mut Charts<W>) {
    charts.register(CayleySeries { order: 1 }).register(CayleySeries { order: 4 });
    charts.register_family(|_, id| {
        let order = id.strip_prefix(PREFIX)?.parse().ok()?;
        Some(Arc::new(CayleySeries { order }))
    });
}

impl CayleySeries {
    fn polynomial(&self) -> Polynomial {
        Polynomial { degree: self.order, last: 2.0 }
    }
}

polynomial_chart!(CayleySeries, "Cayley series");

#[cfg(test)]
mod tests {
    use super::super::polynomial::minus_skew;
    use super::*;
    use crate::dense::product;
    use alloc::{vec, vec::Vec};

    /// PEFT 0.17, K terms: I + 2(S + … + Sᴷ⁻¹) at the stored S.
    #[test]
    fn it_is_pefts_old_series_with_the_sign_exchanged() {
        let b = 4;
        let v: Vec<f64> = (1..=6).map(|i| 0.4 * (1.7 * f64::from(i * i)).sin()).collect();
        let minus: Vec<f64> = v.iter().map(|v| -v).collect();
        let s: Vec<f64> = minus_skew(b, &minus);
        for order in 1..=5 {
            let (mut truth, mut power, mut next) = (vec![0.0; 16], vec![0.0; 16], vec![0.0; 16]);
            power.iter_mut().step_by(5).for_each(|x| *x = 1.0);
            for j in 0..=order {
                let c = if j == 0 { 1.0 } else { 2.0 };
                truth.iter_mut().zip(&power).for_each(|(t, p)| *t += c * p);
                product(b, &s, &power, &mut next);
                power.copy_from_slice(&next);
            }
            let mut q = vec![f64::NAN; 16];
            CayleySeries { order }.forward(b, &minus, &mut q);
            assert!(q.iter().zip(&truth).all(|(q, t)| (q - t).abs() <= 4e-16), "order {order}");
        }
    }
}
