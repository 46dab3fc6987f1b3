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
/// [`Error::Length`](crate::Error::Length) if `factors` belong to another plan.
pub fn adjoint<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>, seed: u64) -> Result<f64> {
    let n = plan.n();
    let mut g = Generator::new(seed);
    let mut ws = Workspace::new();
    let mut image = |x: &[T], op| -> Result<Vec<T::Wide>> {
        let mut y = vec![T::zero(); x.len()];
        plan.apply(factors, Batch::rows(x, n)?, BatchMut::rows(&mut y, n)?, op, Parallelism::None, &mut ws)?;
        Ok(widen(&y))
    };
    let (x, y): (Vec<T>, Vec<T>) = (scalars(&mut g, VECTORS * n), scalars(&mut g, VECTORS * n));
    let (qx, qhy) = (image(&x, Op::None)?, image(&y, Op::Adjoint)?);
    let (x, y) = (widen(&x), widen(&y));
    let unit = plan.num_stages().max(1) as f64 * T::Real::EPS.to_wide();
    let mut worst = 0.0;
    for v in 0..VECTORS {
        let at = v * n..(v + 1) * n;
        let (x, y) = (&x[at.clone()], &y[at.clone()]);
        let difference: T::Wide = inner(&qx[at.clone()], y) - inner(x, &qhy[at]);
        let size = Float::sqrt(inner(x, x).re() * inner(y, y).re());
        if n > 0 {
            worst = larger(worst, difference.abs() / (size * unit));
        }
    }
    Ok(worst)
}
