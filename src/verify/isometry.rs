//! Does apply keep lengths and angles? A cheap check, for any size, that sees what reaches the output.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::sample::{inner, scalars, widen};
use crate::batch::{Batch, BatchMut};
use crate::error::Result;
use crate::generator::Generator;
use crate::parallel::Parallelism;
use crate::plan::{Factors, Op, Plan, Workspace};
use crate::scalar::{Real, Scalar};

/// Vectors that are tried; every pair of them is.
const VECTORS: usize = 8;

/// Largest violations over seeded random vectors, in units of m·eps (m stages, at least 1; eps = 2u). Below about 1 for
/// an orthogonal plan.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Isometry {
    /// | ‖Qx‖ / ‖x‖ − 1 |.
    pub norm: f64,
    /// | ⟨Qx, Qy⟩ − ⟨x, y⟩ | / (‖x‖·‖y‖).
    pub inner: f64,
}

/// Applies `op` of the plan to seeded random vectors and compares their lengths and inner products before and after.
///
/// # Errors
/// [`Error::Size`](crate::Error::Size) if `factors` belong to another plan.
pub fn isometry<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>, op: Op, seed: u64) -> Result<Isometry> {
    let n = plan.n();
    let x: Vec<T> = scalars(&mut Generator::new(seed), VECTORS * n);
    let mut y = vec![T::zero(); VECTORS * n];
    plan.apply(factors, Batch::rows(&x, n)?, BatchMut::rows(&mut y, n)?, op, Parallelism::None, &mut Workspace::new())?;
    let (x, y) = (widen(&x), widen(&y));
    let unit = plan.num_stages().max(1) as f64 * T::Real::EPS.to_wide();
    let mut worst = Isometry { norm: 0.0, inner: 0.0 };
    for v in 0..VECTORS {
        for w in 0..=v {
            let of = |z: &[T::Wide]| inner(&z[v * n..(v + 1) * n], &z[w * n..(w + 1) * n]);
            if v == w {
                let (before, after) = (Float::sqrt(of(&x).re()), Float::sqrt(of(&y).re()));
                worst.norm = larger(worst.norm, Float::abs(after - before) / (before * unit));
            } else {
                let size = |k: usize| Float::sqrt(inner(&x[k * n..(k + 1) * n], &x[k * n..(k + 1) * n]).re());
                let change: T::Wide = of(&y) - of(&x);
                worst.inner = larger(worst.inner, change.abs() / (size(v) * size(w) * unit));
            }
        }
    }
    Ok(worst)
}

/// The larger one; infinite if a number is none, so that a NaN is never the best result.
pub(crate) fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::INFINITY } else { a.max(b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parametrization::Givens;
    use crate::plan::Source;
    use crate::topology::{BlockDiagonal, Butterfly, Topology};
    use alloc::sync::Arc;

    #[test]
    fn rotations_are_isometries_in_every_op() {
        let plan = Plan::<f32>::new(64, &Butterfly::classic(2), Givens).unwrap();
        let theta: Vec<f64> = (0..plan.num_params()).map(|i| i as f64).collect();
        let factors = plan.realize(&theta).unwrap();
        for op in Op::ALL {
            let found = isometry(&plan, &factors, op, 1).unwrap();
            assert!(found.norm < 0.3 && found.inner < 0.3, "{op:?}: {found:?}");
        }
    }

    #[test]
    fn a_stretch_is_measured_and_nan_is_infinite() {
        let with = |c: f32| {
            let blocks = Source::Fixed(Arc::from([f64::from(c); 5]));
            let plan = Plan::<f32>::from_stages(5, [(BlockDiagonal::new(1).stage(5, 0), blocks)]).unwrap();
            isometry(&plan, &plan.realize::<f32>(&[]).unwrap(), Op::None, 3).unwrap()
        };
        let found = with(1.0 + 256.0 * f32::EPSILON);
        assert!((found.norm - 256.0).abs() < 1.0 && found.inner > 1.0, "{found:?}");
        assert_eq!(with(f32::MAX).norm, f64::INFINITY);
        assert_eq!(with(1.0), Isometry { norm: 0.0, inner: 0.0 });
    }
}
