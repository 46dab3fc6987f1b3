//! Where a descent moves: along θ of a plan, or from block to block on the group itself.
//!
//! Both are points of real numbers with a gradient and a way to follow a step, so one optimizer serves both.
//!
//! **Blocks.** A point holds the entries of all blocks. Around every block B the chart B·exp(A) is used, at A = 0 only: with the
//! gradient G of the entries, dB = B·dA gives ⟨G, dB⟩ = ⟨BᴴG, dA⟩, so the gradient is the skew part of BᴴG in skew storage
//! (`dense/skew.rs`). A step A leads to B·exp(A), which is the new base. exp is taken of steps only, never of a sum of them: no
//! chart has to hold the way from the start, and so none can saturate or meet its singularity (dynamic trivialisation, Lezcano-Casado,
//! arXiv 1909.09501, with a new base at every step). What steps and gradients at different bases have in common is the algebra
//! itself: vectors are carried along by left translation, an isometry of the group's metric. And since exp(tA) commutes with A, the slope of
//! t ↦ L(B·exp(tA)) is at *every* t the pairing of A with the gradient there: line searches and differences of gradients mean what
//! they mean in flat space.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use bytemuck::{cast_slice, cast_slice_mut};

use super::super::raw::Raw;
use super::Loss;
use crate::batch::{Batch, BatchMut};
use crate::dense::skew::{pull_skew, skew_size};
use crate::dense::{exponentials, polish_with, product};
use crate::error::{Error, Result, check_length};
use crate::layout::StageLayout;
use crate::parallel::Parallelism;
use crate::plan::{Op, Plan, Saved, Source, Workspace};
use crate::scalar::{Scalar, Wide};
use crate::simd::Portable;

/// A function on a manifold, as optimizers see it.
pub(super) trait Problem {
    /// Numbers of a step.
    fn dim(&self) -> usize;
    /// Changes over to the batch of a round.
    fn prepare(&mut self, round: usize) -> Result<()>;
    /// Whether rounds differ.
    fn is_random(&self) -> bool;
    /// The loss at a point; overwrites `gradient`. NaN if either is not finite.
    fn evaluate(&mut self, point: &[f64], gradient: &mut [f64]) -> Result<f64>;
    /// The point that a step leads to.
    fn follow(&mut self, point: &[f64], step: &[f64]) -> Vec<f64>;
}

/// Along θ: the flat space of a plan's parameters.
pub(super) struct Flat<'a, T: Scalar> {
    plan: Plan<T>,
    loss: &'a mut dyn Loss<T>,
    parallelism: Parallelism,
    workspace: Workspace,
    y: Vec<T>,
    gy: Vec<T>,
    d_factors: Vec<T>,
}

impl<'a, T: Scalar> Flat<'a, T> {
    pub(super) fn new(plan: Plan<T>, loss: &'a mut dyn Loss<T>, parallelism: Parallelism) -> Self {
        let d_factors = vec![T::zero(); plan.num_entries()];
        Self { plan, loss, parallelism, workspace: Workspace::new(), y: Vec::new(), gy: Vec::new(), d_factors }
    }
}

impl<T: Scalar> Problem for Flat<'_, T> {
    fn dim(&self) -> usize {
        self.plan.num_params()
    }

    fn prepare(&mut self, round: usize) -> Result<()> {
        self.loss.prepare(round)
    }

    fn is_random(&self) -> bool {
        self.loss.is_random()
    }

    fn evaluate(&mut self, point: &[f64], gradient: &mut [f64]) -> Result<f64> {
        let Self { plan, loss, parallelism, workspace, y, gy, d_factors } = self;
        let (n, x) = (plan.n(), loss.inputs());
        if x.is_empty() {
            let expected = alloc::format!("at least one vector of length {n}");
            return Err(Error::Size { what: "batch of the loss", expected, got: "none".to_string() });
        }
        let input = Batch::rows(x, n)?;
        y.resize(x.len(), T::zero());
        gy.resize(x.len(), T::zero());
        let factors = plan.realize(point)?;
        plan.apply(&factors, input, BatchMut::rows(y, n)?, Op::None, *parallelism, workspace)?;
        let value = loss.evaluate(y, gy);
        d_factors.fill(T::zero());
        let (saved, d) = (Saved::Input(input), Some(&mut d_factors[..]));
        plan.apply_vjp(&factors, saved, Op::None, Batch::rows(gy, n)?, None, d, *parallelism, workspace)?;
        gradient.fill(0.0);
        plan.realize_vjp(point, &factors, d_factors, gradient)?;
        let finite = value.is_finite() && gradient.iter().all(|g| g.is_finite());
        Ok(if finite { value } else { f64::NAN })
    }

    fn follow(&mut self, point: &[f64], step: &[f64]) -> Vec<f64> {
        point.iter().zip(step).map(|(x, s)| x + s).collect()
    }
}

/// On the group: from block to block.
pub(super) struct Blocks<'a, W: Wide> {
    entries: Flat<'a, W>,
    /// For each stage its block size, its numbers of a point, and those of a step.
    stages: Vec<(usize, Range<usize>, Range<usize>)>,
    d_entries: Vec<f64>,
}

impl<'a, W: Wide> Blocks<'a, W> {
    pub(super) fn new(
        n: usize,
        layouts: &[StageLayout],
        loss: &'a mut dyn Loss<W>,
        parallelism: Parallelism,
    ) -> Result<Self> {
        let plan = Plan::from_stages(n, layouts.iter().map(|layout| (layout.clone(), Source::chart(Raw))))?;
        let mut at = 0;
        let stage = |stage: &crate::plan::Stage<W>| {
            let b = stage.layout().block_size();
            let start = at;
            at += skew_size::<W>(b) * stage.num_groups();
            (b, stage.theta(), start..at)
        };
        let stages = plan.stages().iter().map(stage).collect();
        let d_entries = vec![0.0; plan.num_params()];
        Ok(Self { entries: Flat::new(plan, loss, parallelism), stages, d_entries })
    }

    /// The blocks of a point, stage by stage.
    pub(super) fn blocks(&self, point: &[f64]) -> Vec<Vec<W>> {
        self.stages.iter().map(|(_, at, _)| cast_slice(&point[at.clone()]).to_vec()).collect()
    }

    /// The point of these blocks.
    pub(super) fn point(&self, blocks: &[Vec<W>]) -> Result<Vec<f64>> {
        let point: Vec<f64> = blocks.iter().flat_map(|blocks| cast_slice(blocks)).copied().collect();
        check_length("entries of blocks", self.d_entries.len(), point.len())?;
        Ok(point)
    }
}

impl<W: Wide> Problem for Blocks<'_, W> {
    fn dim(&self) -> usize {
        self.stages.last().map_or(0, |(_, _, step)| step.end)
    }

    fn prepare(&mut self, round: usize) -> Result<()> {
        self.entries.prepare(round)
    }

    fn is_random(&self) -> bool {
        self.entries.is_random()
    }

    fn evaluate(&mut self, point: &[f64], gradient: &mut [f64]) -> Result<f64> {
        let value = self.entries.evaluate(point, &mut self.d_entries)?;
        gradient.fill(0.0);
        for (b, entries, step) in &self.stages {
            let (size, params) = (b * b, skew_size::<W>(*b));
            let blocks: &[W] = cast_slice(&point[entries.clone()]);
            let d_blocks: &[W] = cast_slice(&self.d_entries[entries.clone()]);
            let (mut adjoint, mut turned) = (vec![W::zero(); size], vec![W::zero(); size]);
            // A real 1×1 block has no parameter.
            let d = gradient[step.clone()].chunks_exact_mut(params.max(1));
            for ((block, d_block), d) in blocks.chunks_exact(size).zip(d_blocks.chunks_exact(size)).zip(d) {
                (0..size).for_each(|at| adjoint[at] = Scalar::conj(block[at % b * b + at / b]));
                product(*b, &adjoint, d_block, &mut turned);
                pull_skew::<W, W>(*b, &turned, 1.0, d);
            }
        }
        Ok(value)
    }

    fn follow(&mut self, point: &[f64], step: &[f64]) -> Vec<f64> {
        let mut next = point.to_vec();
        for (b, entries, at) in &self.stages {
            let size = b * b;
            if at.is_empty() {
                continue; // nothing that turns
            }
            let mut turns = vec![W::zero(); entries.len() * size_of::<f64>() / size_of::<W>()];
            exponentials::<W, W, _>(Portable, *b, &step[at.clone()], &mut turns);
            let old: &[W] = cast_slice(&point[entries.clone()]);
            let new: &mut [W] = cast_slice_mut(&mut next[entries.clone()]);
            let (mut e, mut scratch) = (vec![W::zero(); size], vec![W::zero(); size]);
            let blocks = new.chunks_exact_mut(size).zip(old.chunks_exact(size)).zip(turns.chunks_exact(size));
            for ((new, old), turn) in blocks {
                product(*b, old, turn, new);
                polish_with(*b, new, &mut e, &mut scratch);
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::c64;
    use crate::fit::alternating::initial;
    use crate::fit::{BlackBox, Group, Start};
    use crate::generator::Generator;
    use crate::parametrization::Cayley;
    use crate::topology::{AnyButterfly, BlockDiagonal, Topology};

    /// Slopes of the loss along random steps, by fourth-order differences, against gradients: worst relative difference.
    fn gap(problem: &mut dyn Problem, point: &[f64], seed: u64) -> f64 {
        let (dim, mut generator, mut worst) = (problem.dim(), Generator::new(seed), 0.0f64);
        problem.prepare(0).unwrap();
        let mut gradient = vec![f64::NAN; dim];
        problem.evaluate(point, &mut gradient).unwrap();
        for _ in 0..5 {
            let step: Vec<f64> = (0..dim).map(|_| generator.uniform() - 0.5).collect();
            let mut at = |t: f64| {
                let scaled: Vec<f64> = step.iter().map(|s| t * s).collect();
                let point = problem.follow(point, &scaled);
                problem.evaluate(&point, &mut vec![f64::NAN; dim]).unwrap()
            };
            let h = 1e-3;
            let slope = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
            let (mut sum, mut size) = (0.0, 0.0);
            gradient.iter().zip(&step).for_each(|(g, s)| (sum, size) = (sum + g * s, size + (g * s).abs()));
            worst = worst.max((slope - sum).abs() / size.max(f64::MIN_POSITIVE));
        }
        worst
    }

    fn check<W: Wide>(n: usize, b: usize) {
        // The images turn the inputs by one place; signs and sizes are no symmetry of any block.
        let apply = |x: &[W], t: &mut [W]| {
            for (x, t) in x.chunks(n).zip(t.chunks_mut(n)) {
                (0..n).for_each(|i| t[i] = x[(i + 1) % n] * W::from_parts(1.0, 0.1 * i as f64));
            }
            Ok(())
        };
        let mut loss = BlackBox::new(n, 3, 5, apply).unwrap();
        let topology = AnyButterfly::new(b);
        let layouts = crate::fit::layouts(n, &topology).unwrap();
        let mut generator = Generator::new(7);
        let start: Vec<Vec<W>> =
            layouts.iter().map(|layout| initial(layout, Start::Random, Group::Full, &mut generator)).collect();
        let mut model = Blocks::new(n, &layouts, &mut loss, Parallelism::None).unwrap();
        let point = model.point(&start).unwrap();
        let found = gap(&mut model, &point, 3);
        assert!(found <= 1e-10, "n = {n}, b = {b}: {found:e}");
    }

    #[test]
    fn gradients_on_the_group_are_slopes() {
        for (n, b) in [(1, 2), (2, 2), (9, 2), (12, 3), (20, 5)] {
            check::<f64>(n, b);
            check::<c64>(n, b);
        }
    }

    #[test]
    fn gradients_along_theta_are_slopes() {
        let n = 12;
        let source = |sharing| Source::<f64>::Chart { chart: alloc::sync::Arc::new(Cayley), sharing };
        let layout = |b: usize| BlockDiagonal::new(b).stage(n, 0);
        let stages = [
            (layout(3), source(crate::layout::Sharing::All)),
            (layout(n), Source::reflectors(2)),
            (layout(4), source(crate::layout::Sharing::PerBlock)),
        ];
        let plan = Plan::from_stages(n, stages).unwrap().adjoint();
        let mut generator = Generator::new(1);
        let theta: Vec<f64> = (0..plan.num_params()).map(|_| generator.uniform() - 0.3).collect();
        let rotate = |x: &[f64], t: &mut [f64]| {
            (0..x.len()).for_each(|i| t[i] = x[i / n * n + (i + 1) % n]);
            Ok(())
        };
        let mut loss = BlackBox::new(n, 3, 5, rotate).unwrap();
        let found = gap(&mut Flat::new(plan, &mut loss, Parallelism::None), &theta, 3);
        assert!(found <= 1e-10, "{found:e}");
    }
}
