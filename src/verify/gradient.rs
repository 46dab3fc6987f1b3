//! Are the gradients right? Every one against a fourth-order central difference in double precision:
//!
//! f'(t) = (f(t−2h) − 8f(t−h) + 8f(t+h) − f(t+2h)) / 12h + h⁴·f⁽⁵⁾/30 + O(h⁶).
//!
//! *Step.* Truncation costs h⁴|f⁽⁵⁾|/30, rounding about u·|f|/h; both stay below 1e-12 at h = 2⁻¹¹ where f and its
//! derivatives are of size 1 (the optimum of the two-point formula, u^{1/3}, leaves 1e-11). A power of two makes t ± h
//! exact. A chart that flattens out for large parameters (Cayley: derivative 2/(1 + θ²)) needs h ∝ |θ|, a periodic one
//! (Givens) must not have it; so for |t| > 1 a step scaled to t is tried as well and the better agreement counts: a wrong
//! derivative agrees at no step. This resolves 1e-10.
//!
//! A complex cotangent pairs as ⟨G, dY⟩ = Re tr(Gᴴ dY), so G = ∂L/∂Re + i·∂L/∂Im, and the parts of every coordinate are moved
//! one at a time; vectors and cotangents are genuinely complex.
//!
//! The error is max|g − g_fd| / max|g| over all components: where a component is tiny because the others are large,
//! nobody can see it by differences.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::isometry::larger;
use super::outward::power_of_two_below;
use super::sample::{inner, parts, scalars};
use crate::batch::{Batch, BatchMut};
use crate::error::{Result, check_length};
use crate::generator::Generator;
use crate::parallel::Parallelism;
use crate::parametrization::Parametrization;
use crate::plan::{Op, Plan, Saved, Workspace};
use crate::scalar::Wide;

const STEP: f64 = 1.0 / 2048.0;
const START: f64 = 0.25;

/// Relative error of `chart.vjp` at θ for one block of size `b` and a seeded random cotangent: below 1e-10 if it is right
/// (parameters of size 1).
///
/// ```
/// use papilio::{parametrization::Cayley, verify::chart_gradient};
/// assert!(chart_gradient::<f64>(&Cayley, 3, &[0.3, -1.2, 0.5], 1)? < 1e-10);
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) if `theta` does not have `num_params(b)` numbers; what `num_params` returns.
pub fn chart_gradient<W: Wide>(chart: &dyn Parametrization<W>, b: usize, theta: &[f64], seed: u64) -> Result<f64> {
    check_length("theta", chart.num_params(b)?, theta.len())?;
    let cotangent: Vec<W> = scalars(&mut Generator::new(seed), b * b);
    let forward = |theta: &[f64]| {
        let mut block = vec![W::zero(); b * b];
        chart.forward(b, theta, &mut block);
        block
    };
    let mut gradient = vec![0.0; theta.len()];
    chart.vjp(b, theta, &forward(theta), &cotangent, &mut gradient);
    let mut moved = theta.to_vec();
    Ok(Comparison::over(theta, &gradient, |i, t| {
        moved[i] = t;
        let value = inner(&cotangent, &forward(&moved)).re();
        moved[i] = theta[i];
        Ok(value)
    })?
    .relative())
}

/// Relative errors of a plan's gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct PlanGradient {
    /// Of the gradient with respect to θ, all parameters.
    pub theta: f64,
    /// Of the gradient with respect to the input, all coordinates of all vectors, real and imaginary parts.
    pub x: f64,
}

/// Relative errors of `apply_vjp` followed by `realize_vjp`, for seeded random vectors and cotangents: below 1e-10 if both
/// are right (parameters of size 1).
///
/// From the saved input, and from the saved output too where the plan allows it; the worse counts. Every parameter costs
/// four realisations: for small plans.
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) if `theta` does not fit, and what the four verbs return.
pub fn plan_gradient<W: Wide>(plan: &Plan<W>, theta: &[f64], op: Op, seed: u64) -> Result<PlanGradient> {
    const VECTORS: usize = 3;
    let n = plan.n();
    let mut g = Generator::new(seed);
    let (x, gy): (Vec<W>, Vec<W>) = (scalars(&mut g, VECTORS * n), scalars(&mut g, VECTORS * n));
    let factors = plan.realize(theta)?;
    let mut ws = Workspace::new();
    let mut value = |factors: &_, x: &[W]| -> Result<(f64, Vec<W>)> {
        let mut y = vec![W::zero(); x.len()];
        plan.apply(factors, Batch::rows(x, n)?, BatchMut::rows(&mut y, n)?, op, Parallelism::None, &mut ws)?;
        Ok((inner(&gy, &y).re(), y))
    };
    let y = value(&factors, &x)?.1;
    let mut saved = vec![Saved::Input(Batch::rows(&x, n)?)];
    if plan.is_exact() {
        saved.push(Saved::Output(Batch::rows(&y, n)?));
    }
    let mut worst = PlanGradient { theta: 0.0, x: 0.0 };
    for saved in saved {
        let mut gx = vec![W::from_real(f64::NAN); x.len()];
        // Gradients of parameters are accumulated: they start from something to be found again.
        let (mut d_factors, mut d_theta) = (vec![W::zero(); plan.num_entries()], vec![START; theta.len()]);
        plan.apply_vjp(
            &factors,
            saved,
            op,
            Batch::rows(&gy, n)?,
            Some(BatchMut::rows(&mut gx, n)?),
            Some(&mut d_factors),
            Parallelism::None,
            &mut Workspace::new(),
        )?;
        plan.realize_vjp(theta, &factors, &d_factors, &mut d_theta)?;
        d_theta.iter_mut().for_each(|d| *d -= START);

        let mut moved = theta.to_vec();
        let parameters = Comparison::over(theta, &d_theta, |i, t| {
            moved[i] = t;
            let result = value(&plan.realize(&moved)?, &x)?.0;
            moved[i] = theta[i];
            Ok(result)
        })?;
        let mut moved = x.clone();
        let count = parts::<W>();
        let gx: Vec<f64> = gx.iter().flat_map(|g| [g.re(), g.im()].into_iter().take(count)).collect();
        // f is linear in the parts of x, so each is moved from zero: Re x_i ← t, Im x_i ← t.
        let input = Comparison::over(&vec![0.0; gx.len()], &gx, |at, t| {
            let i = at / count;
            moved[i] = if at % count == 0 { W::from_parts(t, x[i].im()) } else { W::from_parts(x[i].re(), t) };
            let result = value(&factors, &moved)?.0;
            moved[i] = x[i];
            Ok(result)
        })?;
        worst =
            PlanGradient { theta: larger(worst.theta, parameters.relative()), x: larger(worst.x, input.relative()) };
    }
    Ok(worst)
}

/// Largest difference, and the size of what is compared.
struct Comparison {
    difference: f64,
    size: f64,
}

impl Comparison {
    /// Compares `gradient` with differences of `f(i, t)`: f with component i at t and the others at `point`.
    fn over(point: &[f64], gradient: &[f64], mut f: impl FnMut(usize, f64) -> Result<f64>) -> Result<Self> {
        let mut worst = Self { difference: 0.0, size: 0.0 };
        for (i, (&t, &g)) in point.iter().zip(gradient).enumerate() {
            let mut slope = central_difference(t, STEP, |t| f(i, t))?;
            if Float::abs(t) > 1.0 {
                let scaled = central_difference(t, STEP * power_of_two_below(Float::abs(t)), |t| f(i, t))?;
                if Float::abs(scaled - g) < Float::abs(slope - g) {
                    slope = scaled;
                }
            }
            worst.difference = larger(worst.difference, Float::abs(g - slope));
            worst.size = larger(worst.size, Float::abs(g).max(Float::abs(slope)));
        }
        Ok(worst)
    }

    fn relative(&self) -> f64 {
        match self.difference / self.size {
            _ if self.difference == 0.0 => 0.0,
            ratio if ratio.is_nan() => f64::INFINITY,
            ratio => ratio,
        }
    }
}

fn central_difference(t: f64, h: f64, mut f: impl FnMut(f64) -> Result<f64>) -> Result<f64> {
    let (near, far) = (f(t + h)? - f(t - h)?, f(t + 2.0 * h)? - f(t - 2.0 * h)?);
    Ok((8.0 * near - far) / (12.0 * h))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::parametrization::{Cayley, Givens};
    use crate::topology::Butterfly;
    use crate::verify::sample::reals;

    /// Givens, its pullback multiplied by a factor.
    #[derive(Debug)]
    struct Wrong(f64);
    impl Parametrization<f64> for Wrong {
        fn name(&self) -> &'static str {
            "wrong"
        }
        fn num_params(&self, b: usize) -> Result<usize> {
            Parametrization::<f64>::num_params(&Givens, b)
        }
        fn forward(&self, b: usize, theta: &[f64], block: &mut [f64]) {
            Givens.forward(b, theta, block);
        }
        fn vjp(&self, b: usize, theta: &[f64], block: &[f64], d_block: &[f64], d_theta: &mut [f64]) {
            let mut d = [0.0];
            Givens.vjp(b, theta, block, d_block, &mut d);
            d_theta[0] += self.0 * d[0];
        }
        fn inverse(&self, b: usize, block: &[f64], theta: &mut [f64]) -> Result<()> {
            Givens.inverse(b, block, theta)
        }
    }

    #[test]
    fn right_gradients_are_resolved_and_wrong_ones_seen() {
        assert!(chart_gradient::<f64>(&Givens, 2, &[0.7], 1).unwrap() < 1e-11);
        for (factor, error) in [(-1.0, 2.0), (1.0 + 1e-8, 1e-8), (0.0, 1.0)] {
            let found = chart_gradient::<f64>(&Wrong(factor), 2, &[0.7], 1).unwrap();
            assert!((found / error - 1.0).abs() < 0.1, "{factor}: {found:e}");
        }
        let plan = |factor| Plan::<f64>::new(8, &Butterfly::classic(2), Wrong(factor)).unwrap();
        let theta = reals(&mut Generator::new(2), 12, 1.0);
        for op in Op::ALL {
            let right = plan_gradient(&plan(1.0), &theta, op, 3).unwrap();
            assert!(right.theta < 1e-10 && right.x < 1e-10, "{op:?}: {right:?}");
            assert!(plan_gradient(&plan(-1.0), &theta, op, 3).unwrap().theta > 1.0);
        }
    }

    #[test]
    fn large_parameters_are_resolved_too() {
        for scale in [1e-3, 30.0, 1e3] {
            let theta = reals(&mut Generator::new(4), 6, scale);
            let cayley = chart_gradient::<f64>(&Cayley, 4, &theta, 5).unwrap();
            let givens = chart_gradient::<f64>(&Givens, 2, &theta[..1], 5).unwrap();
            assert!(cayley < 1e-7 && givens < 1e-9, "{scale}: {cayley:e} {givens:e}");
        }
    }

    #[test]
    fn nan_is_no_agreement() {
        assert_eq!(Comparison::over(&[0.0], &[f64::NAN], |_, t| Ok(t)).unwrap().relative(), f64::INFINITY);
        let short = chart_gradient::<f64>(&Givens, 2, &[], 0);
        assert!(matches!(short, Err(Error::Length { expected: 1, got: 0, .. })));
    }
}
