//! L-BFGS: Newton's method with a Hessian that is learned from the last few steps.
//!
//! The two-loop recursion (Nocedal & Wright, *Numerical Optimization*, 2nd ed., Algorithm 7.4) applies the inverse Hessian of the pairs
//! (s, y), steps and differences of gradients, in 4·memory·dim operations. On a group both lie in the algebra (`model.rs`), carried along
//! by left translation, an isometry that needs no work: Riemannian L-BFGS (Huang, Gallivan & Absil, SIAM J. Optim. 25 (2015) 1660,
//! doi 10.1137/140955483).
//!
//! *Line search* by bisection for the weak Wolfe conditions (Lewis & Overton, Math. Program. 141 (2013) 135), with the minimum of the parabola
//! where that lies well inside:
//!
//! > L(t) ≤ L(0) + 10⁻⁴·t·L'(0) and L'(t) ≥ 0.9·L'(0),
//!
//! the second of which makes ⟨s, y⟩ positive, so the Hessian stays so. A loss that is not finite is a step too long. The
//! first try without a memory turns by a tenth of a radian, and none turns by more than one: nothing depends on the scale of the loss.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::model::Problem;
use super::{Course, not_finite};
use crate::dense::EPS;
use crate::error::Result;
use crate::fit::Stop;

const ARMIJO: f64 = 1e-4;
const CURVATURE: f64 = 0.9;
/// Tries of a line search.
const TRIES: usize = 40;
/// Largest entry of a first try without a memory, and of any try.
const FIRST: f64 = 0.1;
const LONGEST: f64 = 1.0;
/// Steps in a row that win almost nothing.
const PATIENCE: usize = 5;

/// A step, the difference of gradients along it, and 1/⟨s, y⟩.
struct Pair {
    s: Vec<f64>,
    y: Vec<f64>,
    rho: f64,
}

pub(super) fn lbfgs(
    problem: &mut dyn Problem,
    mut point: Vec<f64>,
    memory: usize,
    tolerance: f64,
    course: &mut Course<'_>,
) -> Result<Stop> {
    let mut gradient = vec![0.0; problem.dim()];
    problem.prepare(0)?;
    let mut loss = problem.evaluate(&point, &mut gradient)?;
    let (first, mut idle) = (dot(&gradient, &gradient), 0);
    if loss.is_nan() || !first.is_finite() {
        return Err(not_finite());
    }
    let mut pairs: VecDeque<Pair> = VecDeque::new();
    loop {
        if let Some(stop) = course.visit(&point, loss) {
            return Ok(stop);
        }
        let size = dot(&gradient, &gradient);
        if size <= EPS * EPS * first || idle >= PATIENCE {
            return Ok(Stop::Converged);
        }
        let here = Here { point: &point, loss, gradient: &gradient };
        let mut found = None;
        if !pairs.is_empty() {
            found = search(problem, &here, &direction(&pairs, &gradient), LONGEST)?;
        }
        if found.is_none() {
            // Downhill, without the memory.
            pairs.clear();
            let steepest: Vec<f64> = gradient.iter().map(|g| -g * (FIRST / largest(&gradient))).collect();
            found = search(problem, &here, &steepest, FIRST)?;
        }
        let Some(next) = found else { return Ok(Stop::Converged) };
        idle = if loss - next.loss <= tolerance * loss.abs() { idle + 1 } else { 0 };
        let y: Vec<f64> = next.gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&next.step, &y);
        if curvature > EPS * Float::sqrt(dot(&next.step, &next.step) * dot(&y, &y)) && memory > 0 {
            pairs.truncate(memory - 1);
            pairs.push_front(Pair { s: next.step, y, rho: 1.0 / curvature });
        }
        (point, loss, gradient) = (next.point, next.loss, next.gradient);
    }
}

/// −H·gradient, the newest pair first.
fn direction(pairs: &VecDeque<Pair>, gradient: &[f64]) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let alpha = pair.rho * dot(&pair.s, &q);
        add(&mut q, -alpha, &pair.y);
        alphas.push(alpha);
    }
    if let Some(pair) = pairs.front() {
        let scale = 1.0 / (pair.rho * dot(&pair.y, &pair.y));
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for (pair, alpha) in pairs.iter().zip(alphas).rev() {
        let beta = pair.rho * dot(&pair.y, &q);
        add(&mut q, alpha - beta, &pair.s);
    }
    q
}

struct Here<'a> {
    point: &'a [f64],
    loss: f64,
    gradient: &'a [f64],
}

struct Next {
    step: Vec<f64>,
    point: Vec<f64>,
    loss: f64,
    gradient: Vec<f64>,
}

/// A point along `direction` with a smaller loss; none if the direction is not downhill, or rounding hides the way.
fn search(problem: &mut dyn Problem, here: &Here<'_>, direction: &[f64], longest: f64) -> Result<Option<Next>> {
    let slope = dot(here.gradient, direction);
    if !(slope < 0.0 && slope.is_finite()) {
        return Ok(None);
    }
    let (mut low, mut high, mut best) = (0.0, f64::INFINITY, None);
    let size = largest(direction);
    let (mut t, most) = ((longest / size).min(1.0), LONGEST / size);
    for _ in 0..TRIES {
        let step: Vec<f64> = direction.iter().map(|d| t * d).collect();
        let point = problem.follow(here.point, &step);
        let mut gradient = vec![0.0; direction.len()];
        let loss = problem.evaluate(&point, &mut gradient)?;
        if loss <= here.loss + ARMIJO * t * slope && loss < here.loss {
            let enough = dot(&gradient, direction) >= CURVATURE * slope;
            best = Some(Next { step, point, loss, gradient });
            if enough {
                break;
            }
            if t >= most {
                break;
            }
            low = t;
            t = if high.is_finite() { 0.5 * (low + high) } else { (2.0 * t).min(most) };
        } else {
            high = t;
            let parabola = -0.5 * slope * t * t / (loss - here.loss - slope * t);
            let inside = parabola > low + 0.1 * (high - low) && parabola < low + 0.9 * (high - low);
            t = if inside { parabola } else { 0.5 * (low + high) };
        }
    }
    Ok(best)
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn add(x: &mut [f64], factor: f64, y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += factor * y);
}

fn largest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |largest, x| largest.max(x.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Generator;

    /// cos x, and the longest step that was tried.
    struct Cosine(f64);

    impl Problem for Cosine {
        fn dim(&self) -> usize {
            1
        }
        fn prepare(&mut self, _: usize) -> Result<()> {
            Ok(())
        }
        fn is_random(&self) -> bool {
            false
        }
        fn evaluate(&mut self, point: &[f64], gradient: &mut [f64]) -> Result<f64> {
            gradient[0] = -Float::sin(point[0]);
            Ok(Float::cos(point[0]))
        }
        fn follow(&mut self, point: &[f64], step: &[f64]) -> Vec<f64> {
            self.0 = self.0.max(step[0].abs());
            vec![point[0] + step[0]]
        }
    }

    /// From the top it becomes steeper and steeper: only the limit ends the search.
    #[test]
    fn no_try_turns_by_more_than_one() {
        let (mut problem, mut gradient) = (Cosine(0.0), [0.0]);
        let loss = problem.evaluate(&[1e-6], &mut gradient).unwrap();
        let here = Here { point: &[1e-6], loss, gradient: &gradient };
        let found = search(&mut problem, &here, &[FIRST], FIRST).unwrap().unwrap();
        assert!((found.step[0] - LONGEST).abs() < 1e-15 && problem.0 <= LONGEST, "{} {}", found.step[0], problem.0);
    }

    /// Against the inverse Hessian written out: from γI, oldest pair first, H ← (I − ρsyᵀ)H(I − ρysᵀ) + ρssᵀ (Nocedal & Wright, 7.16).
    #[test]
    fn the_two_loops_are_the_matrix() {
        let (dim, mut generator) = (5, Generator::new(1));
        let mut random = || -> Vec<f64> { (0..dim).map(|_| generator.uniform() - 0.5).collect() };
        let mut pairs = VecDeque::new();
        for _ in 0..4 {
            let (s, mut y) = (random(), random());
            if dot(&s, &y) < 0.0 {
                y.iter_mut().for_each(|y| *y = -*y);
            }
            let rho = 1.0 / dot(&s, &y);
            pairs.push_front(Pair { s, y, rho });
            let gamma = 1.0 / (pairs[0].rho * dot(&pairs[0].y, &pairs[0].y));
            let mut h: Vec<Vec<f64>> =
                (0..dim).map(|i| (0..dim).map(|j| if i == j { gamma } else { 0.0 }).collect()).collect();
            for Pair { s, y, rho } in pairs.iter().rev() {
                let left = |i: usize, k: usize| f64::from(u8::from(i == k)) - rho * s[i] * y[k];
                let entry = |i: usize, j: usize| {
                    let all = (0..dim).flat_map(|k| (0..dim).map(move |l| (k, l)));
                    all.map(|(k, l)| left(i, k) * h[k][l] * left(j, l)).sum::<f64>() + rho * s[i] * s[j]
                };
                h = (0..dim).map(|i| (0..dim).map(|j| entry(i, j)).collect()).collect();
            }
            let gradient = random();
            let size = h.iter().flatten().fold(0.0, |m: f64, x| m.max(x.abs()));
            for (d, row) in direction(&pairs, &gradient).iter().zip(&h) {
                assert!((d + dot(row, &gradient)).abs() < 1e-13 * size, "{d} {}", dot(row, &gradient));
            }
            assert!(dot(&direction(&pairs, &gradient), &gradient) < 0.0);
        }
    }
}
