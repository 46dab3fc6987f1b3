//! Adam (Kingma & Ba, arXiv 1412.6980): steps of one length for every parameter, smoothed over some thousand rounds.
//!
//! > m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², step = −rate·m̂/(√v̂ + ε), with m̂ = m/(1 − β₁ᵏ), v̂ = v/(1 − β₂ᵏ).
//!
//! On a group m and v hold numbers of the algebra: every parameter is a plane of its block, and moments are carried along with
//! the block by left translation. A step turns every plane by about `rate` radians, whatever the scale of the loss.
//!
//! [`Moments`] are all that it remembers.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::model::Problem;
use super::{Course, Schedule, not_finite};
use crate::error::Result;
use crate::fit::Stop;

/// β₁ and β₂.
pub(crate) const BETAS: [f64; 2] = [0.9, 0.999];
/// Beside √v̂; part of the largest one that was seen, so that the scale of a loss does not matter.
const SMALL: f64 = 1e-8;

/// The running means m and v, and how much of them is still their start at zero: β₁ᵏ and β₂ᵏ.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moments {
    pub(crate) mean: Vec<f64>,
    pub(crate) square: Vec<f64>,
    pub(crate) left: [f64; 2],
}

impl Moments {
    /// Nothing seen yet.
    pub(crate) fn new(dim: usize) -> Self {
        Self { mean: vec![0.0; dim], square: vec![0.0; dim], left: [1.0; 2] }
    }

    /// Takes a gradient in and puts the step −rate·m̂/(√v̂ + small) in its place.
    pub(crate) fn advance(&mut self, gradient: &mut [f64], rate: f64, small: f64, [beta, gamma]: [f64; 2]) {
        let left = &mut self.left;
        *left = [left[0] * beta, left[1] * gamma];
        let moments = self.mean.iter_mut().zip(&mut self.square);
        for (g, (m, v)) in gradient.iter_mut().zip(moments) {
            *m = beta * *m + (1.0 - beta) * *g;
            *v = gamma * *v + (1.0 - gamma) * *g * *g;
            let root = Float::sqrt(*v / (1.0 - left[1]));
            *g = -rate * (*m / (1.0 - left[0])) / (root + small);
        }
    }
}

pub(super) fn adam(
    problem: &mut dyn Problem,
    mut point: Vec<f64>,
    (rate, schedule): (f64, Schedule),
    rounds: usize,
    course: &mut Course<'_>,
) -> Result<Stop> {
    let dim = problem.dim();
    let (mut gradient, mut moments, mut largest) = (vec![0.0; dim], Moments::new(dim), 0.0f64);
    for round in 0.. {
        problem.prepare(round)?;
        let loss = problem.evaluate(&point, &mut gradient)?;
        if loss.is_nan() {
            return if round == 0 { Err(not_finite()) } else { Ok(Stop::Diverged) };
        }
        if let Some(stop) = course.visit(&point, loss) {
            return Ok(stop);
        }
        largest = gradient.iter().fold(largest, |largest, g| largest.max(g.abs()));
        if largest == 0.0 {
            return Ok(Stop::Converged);
        }
        let turn = core::f64::consts::PI * round as f64 / rounds.max(1) as f64;
        let rate = match schedule {
            Schedule::Constant => rate,
            Schedule::Cosine => rate * 0.5 * (1.0 + Float::cos(turn)),
        };
        moments.advance(&mut gradient, rate, SMALL * largest, BETAS);
        point = problem.follow(&point, &gradient);
    }
    Ok(Stop::Sweeps)
}
