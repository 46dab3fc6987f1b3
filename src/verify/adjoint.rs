//! Do the four [`Op`]s belong together? For seeded vectors ⟨Qx, y⟩ = ⟨x, Qᴴy⟩, ⟨Q̄x, y⟩ = ⟨x, Qᵀy⟩, and Q̄x is the conjugate of
//! Qx̄; it holds for any blocks, orthogonal or not. With ⟨x, y⟩ = Σ x̄ᵢyᵢ.

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

/// Largest violation of the three equations that tie the four [`Op`]s together, |⟨Qx, y⟩ − ⟨x, Qᴴy⟩| / (‖x‖·‖y‖),
/// |⟨Q̄x, y⟩ − ⟨x, Qᵀy⟩| / (‖x‖·‖y‖) and ‖Q̄x − conj(Qx̄)‖ / ‖x‖, in units of m·eps (m stages, at least 1; eps = 2u): below
/// about 1.
///
/// # Errors
/// [`Error::Size`](crate::Error::Size) if `factors` belong to another plan.
pub fn adjoint<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>, seed: u64) -> Result<f64> {
    let mut g = Generator::new(seed);
    let (x, y) = (scalars::<T>(&mut g, VECTORS * plan.n()), scalars::<T>(&mut g, VECTORS * plan.n()));
    let adjoint = gap(plan, factors, [Op::None, Op::Adjoint], &x, &y)?;
    let transpose = gap(plan, factors, [Op::Conj, Op::Transpose], &x, &y)?;
    Ok(larger(larger(adjoint, transpose), conjugates(plan, factors, [Op::Conj, Op::None], &x)?))
}

/// What the errors are measured in.
fn unit<T: Scalar>(plan: &Plan<T>) -> f64 {
    plan.num_stages().max(1) as f64 * T::Real::EPS.to_wide()
}

/// op(Q) x for the vectors of `x`.
fn image<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>, op: Op, x: &[T]) -> Result<Vec<T::Wide>> {
    let (n, mut y) = (plan.n(), vec![T::zero(); x.len()]);
    let mut ws = Workspace::new();
    plan.apply(factors, Batch::rows(x, n)?, BatchMut::rows(&mut y, n)?, op, Parallelism::None, &mut ws)?;
    Ok(widen(&y))
}

/// Largest ‖op₀(Q)x − conj(op₁(Q)x̄)‖ / ‖x‖ over the vectors of `x`, in the units of [`adjoint`].
fn conjugates<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>, ops: [Op; 2], x: &[T]) -> Result<f64> {
    let turned: Vec<T> = x.iter().map(|x| x.conj()).collect();
    let mut difference = image(plan, factors, ops[0], x)?;
    for (d, y) in difference.iter_mut().zip(image(plan, factors, ops[1], &turned)?) {
        *d = *d - y.conj();
    }
    let (n, x) = (plan.n(), widen(x));
    let norm = |x: &[T::Wide]| Float::sqrt(inner(x, x).re());
    let vectors = difference.chunks_exact(n).zip(x.chunks_exact(n));
    Ok(vectors.fold(0.0, |worst, (d, x)| larger(worst, norm(d) / (norm(x) * unit(plan)))))
}

/// Largest |⟨op₀(Q)x, y⟩ − ⟨x, op₁(Q)y⟩| over the vectors of `x` and `y`, in the units of [`adjoint`].
fn gap<T: Scalar>(plan: &Plan<T>, factors: &Factors<T>, ops: [Op; 2], x: &[T], y: &[T]) -> Result<f64> {
    let n = plan.n();
    let (qx, qy) = (image(plan, factors, ops[0], x)?, image(plan, factors, ops[1], y)?);
    let (x, y) = (widen(x), widen(y));
    let unit = unit(plan);
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

    #[test]
    fn each_op_is_told_from_the_others() {
        use crate::layout::StageLayout;
        use crate::plan::Source;
        use crate::scalar::c64;
        // Not unitary: the equations hold for any block.
        let blocks: Vec<c64> = scalars(&mut Generator::new(4), 18);
        let plan =
            Plan::<c64>::from_stages(6, [(StageLayout::contiguous(3, 2), Source::Fixed(blocks.into()))]).unwrap();
        let factors = plan.realize::<f64>(&[]).unwrap();
        for plan in [plan.clone(), plan.adjoint()] {
            let found = adjoint(&plan, &factors, 1).unwrap();
            assert!(found < 4.0, "{found}");
        }
        let mut g = Generator::new(5);
        let (x, y) = (scalars::<c64>(&mut g, 48), scalars::<c64>(&mut g, 48));
        for ops in [[Op::None, Op::Transpose], [Op::None, Op::Conj], [Op::Conj, Op::Adjoint]] {
            assert!(gap(&plan, &factors, ops, &x, &y).unwrap() * f64::EPSILON > 1e-2, "{ops:?}");
        }
        for ops in [[Op::None, Op::None], [Op::Conj, Op::Transpose]] {
            assert!(conjugates(&plan, &factors, ops, &x).unwrap() * f64::EPSILON > 1e-2, "{ops:?}");
        }
        assert!(conjugates(&plan, &factors, [Op::Transpose, Op::Adjoint], &x).unwrap() < 4.0);
    }
}
