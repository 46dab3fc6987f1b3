//! Adam (Kingma & Ba, arXiv 1412.6980): steps of one length for every parameter, smoothed over some thousand rounds.
//!
//! > m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², step = −rate·m̂/(√v̂ + ε), with m̂ = m/(1 − β₁ᵏ), v̂ = v/(1 − β₂ᵏ).
//!
//! On a group m and v hold numbers of the algebra: every parameter is a plane of its block, and moments are carried along with
//! the block by left translation. A step turns every plane by about `rate` radians, whatever the scale of the loss.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::model::Problem;
use super::{Course, Schedule, not_finite};
use crate::error::Result;
use crate::fit::Stop;

const MEAN: f64 = 0.9;
const SQUARE: f64 = 0.999;
/// Beside √v̂; part of the largest one that was seen, so that the scale of a loss does not matter.
const SMALL: f64 = 1e-8;

pub(super) fn adam(
    problem: &mut dyn Problem,
    mut point: Vec<f64>,
    (rate, schedule): (f64, Schedule),
    rounds: usize,
    course: &mut Course<'_>,
) -> Result<Stop> {
    let dim = problem.dim();
    let (mut gradient, mut mean, mut square) = (vec![0.0; dim], vec![0.0; dim], vec![0.0; dim]);
    let (mut mean_left, mut square_left, mut largest) = (1.0, 1.0, 0.0f64);
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
        (mean_left, square_left) = (mean_left * MEAN, square_left * SQUARE);
        let turn = core::f64::consts::PI * round as f64 / rounds.max(1) as f64;
        let rate = match schedule {
            Schedule::Constant => rate,
            Schedule::Cosine => rate * 0.5 * (1.0 + Float::cos(turn)),
        };
        let moments = mean.iter_mut().zip(&mut square);
        for (g, (m, v)) in gradient.iter_mut().zip(moments) {
            *m = MEAN * *m + (1.0 - MEAN) * *g;
            *v = SQUARE * *v + (1.0 - SQUARE) * *g * *g;
            let root = Float::sqrt(*v / (1.0 - square_left));
            *g = -rate * (*m / (1.0 - mean_left)) / (root + SMALL * largest);
        }
        point = problem.follow(&point, &gradient);
    }
    Ok(Stop::Sweeps)
}
