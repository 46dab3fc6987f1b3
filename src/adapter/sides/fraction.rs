//! A fraction t of an adapter: nothing at 0, all of it at 1, and as orthogonal in between.
//!
//! Every block moves along exp(t·log B), s along 1 + t(s − 1). Two kinds of blocks are no rotations and have no such path:
//!
//! * Truncated series are taken at t·θ, where they are nearer to a rotation than at θ.
//! * Finished blocks that were rounded when they were stored are B = Q·P with Q = U·Vᵀ and P = V·Σ·Vᵀ from the singular
//!   values of B = U·Σ·Vᵀ. They move along exp(t·log Q)·(I + t(P − I)): P, the rounding, grows with t.

use std::vec::Vec;

use super::Sides;
use crate::adapter::polar::{Polar, polar};
use crate::dense;
use crate::error::{Error, Result};
use crate::orthogonal::Orthogonal;
use crate::plan::{Plan, Source};

impl Sides {
    /// Fraction t of the adapter: blocks move along exp(t·log B) ([`Orthogonal::interpolate`]), s along 1 + t(s − 1). At 0 it
    /// does nothing, at 1 everything, and all between is as orthogonal. Blocks that are truncated series, so only nearly
    /// orthogonal, are taken at t·θ; of finished blocks that were rounded, the rotation moves and the rounding grows.
    ///
    /// # Errors
    /// As [`Orthogonal::interpolate`].
    pub fn interpolate(&self, t: f64) -> Result<Self> {
        if !t.is_finite() {
            let (what, expected) = ("fraction of an adapter".into(), "a finite number");
            return Err(Error::Domain { what, expected, got: std::format!("{t}") });
        }
        if t == 1.0 {
            return Ok(self.clone());
        }
        self.map(|q| moved(q, t)).map(|sides| sides.with_scale(t))
    }

    fn with_scale(mut self, t: f64) -> Self {
        self.scale.iter_mut().flatten().for_each(|s| *s = 1.0 + t * (*s - 1.0));
        self
    }
}

fn moved(q: &Orthogonal<f64>, t: f64) -> Result<Orthogonal<f64>> {
    let is_series = |source: &Source<f64>| matches!(source, Source::Chart { chart, .. } if !chart.is_exact());
    if q.plan().stages().iter().any(|stage| is_series(stage.source())) {
        return Orthogonal::new(q.plan().clone(), q.theta().iter().map(|x| t * x).collect::<Vec<_>>());
    }
    // The rotations of rounded blocks in their place, and the other factors.
    let mut parts = q.plan().parts();
    let mut roundings = Vec::new();
    for (k, part) in parts.iter_mut().enumerate() {
        let (Source::Fixed(stored), b) = (&part.source, part.layout.block_size()) else { continue };
        let is_rotation = |block| dense::orthogonality_ratio(b, block).is_ok_and(|ratio| ratio <= dense::ORTHOGONAL);
        if stored.chunks_exact(b * b).all(is_rotation) {
            continue;
        }
        let split = stored.chunks_exact(b * b).map(|block| polar(b, block)).collect::<Result<Vec<Polar>>>()?;
        part.source =
            Source::Fixed(split.iter().flat_map(|found| &found.orthogonal).copied().collect::<Vec<_>>().into());
        roundings.push((k, split));
    }
    if roundings.is_empty() {
        return q.interpolate(t);
    }
    let rotations = Orthogonal::new(Plan::assemble(q.n(), parts)?, q.theta())?.interpolate(t)?;
    let mut parts = rotations.plan().parts();
    for (k, split) in roundings {
        let (Source::Fixed(turned), b) = (&parts[k].source, parts[k].layout.block_size()) else { continue };
        let blocks = turned.chunks_exact(b * b).zip(&split).flat_map(|(q, found)| {
            let stretch = |i: usize, j: usize| {
                let unit = f64::from(u8::from(i == j));
                unit + t * (found.positive[i * b + j] - unit)
            };
            (0..b * b).map(move |at| (0..b).map(|l| q[at / b * b + l] * stretch(l, at % b)).sum::<f64>())
        });
        parts[k].source = Source::Fixed(blocks.collect::<Vec<_>>().into());
    }
    Orthogonal::new(Plan::assemble(q.n(), parts)?, rotations.theta())
}
