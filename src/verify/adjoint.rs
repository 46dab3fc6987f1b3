//! Is [`Op::Adjoint`] the adjoint? ⟨Qx, y⟩ = ⟨x, Qᴴy⟩ for seeded vectors; it holds for any blocks, orthogonal or not.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::isometry::larger;
use super::sample::{inner, scalars, widen};
use crate::batch::{Batch, BatchMut};
use crate::error::Result;
use crate::generator::Generator;
use crate::parallel::Parallelism;
use crate::plan::{Factors, Op, Plan, Workspace};
use crate::scalar::{Real, Scalar};

/// Pairs of vectors that are tried.
const VECTORS: usize = 8;

/// Largest |⟨Qx, y⟩ − ⟨x, Qᴴy⟩| / (‖x‖·‖y‖) in units of m·eps (m stages, at least 1; eps = 2u): below about 1.
///
/// # Errors
/// [`Error::Size`](crate::Error::Size) if `factors` belong to another plan.
pub fn adjoint<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>, seed: u64) -> Result<f64> {
    let mut g = Generator::new(seed);
    let (x, y) = (scalars::<T>(&mut g, VECTORS * plan.n()), scalars::<T>(&mut g, VECTORS * plan.n()));
    gap(plan, factors, [Op::None, Op::Adjoint], &x, &y)
}

/// Largest |⟨op₀(Q)x, y⟩ − ⟨x, op₁(Q)y⟩| over the vectors of `x` and `y`, in the units of [`adjoint`].
fn gap<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>, ops: [Op; 2], x: &[T], y: &[T]) -> Result<f64> {
    let n = plan.n();
    let mut ws = Workspace::new();
    let mut image = |x: &[T], op| -> Result<Vec<T::Wide>> {
        let mut y = vec![T::zero(); x.len()];
        plan.apply(factors, Batch::rows(x, n)?, BatchMut::rows(&mut y, n)?, op, Parallelism::None, &mut ws)?;
        Ok(widen(&y))
    };
    let (qx, qy) = (image(x, ops[0])?, image(y, ops[1])?);
    let (x, y) = (widen(x), widen(y));
    let unit = plan.num_stages().max(1) as f64 * T::Real::EPS.to_wide();
    let mut worst = 0.0;
    for start in (0..x.len()).step_by(n) {
        let at = start..start + n;
        let (x, y) = (&x[at.clone()], &y[at.clone()]);
        let difference: T::Wide = inner(&qx[at.clone()], y) - inner(x, &qy[at]);
        let size = Float::sqrt(inner(x, x).re() * inner(y, y).re());
        worst = larger(worst, difference.abs() / (size * unit));
    }
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parametrization::Givens;
    use crate::topology::Butterfly;

    #[test]
    fn adjoint_is_the_adjoint_and_another_matrix_is_not() {
        let plan = Plan::<f32>::new(32, &Butterfly::classic(2), Givens).unwrap();
        let factors = plan.realize(&vec![0.3; plan.num_params()]).unwrap();
        assert!(adjoint(&plan, &factors, 1).unwrap() < 0.3);
        assert!(adjoint(&plan.adjoint(), &factors, 1).unwrap() < 0.3);
        let (x, y) = ([1.0f32, 0.0], [0.0f32, 1.0]);
        let quarter = Plan::<f32>::new(2, &Butterfly::classic(2), Givens).unwrap();
        let factors = quarter.realize(&[core::f64::consts::FRAC_PI_2]).unwrap();
        let gap = gap(&quarter, &factors, [Op::None, Op::None], &x, &y).unwrap(); // ⟨Qx, y⟩ = 1, ⟨x, Qy⟩ = −1
        assert!((gap * f64::from(f32::EPSILON) - 2.0).abs() < 1e-6);
    }
}
