//! Gradients of batches: cut by shapes, every stage's input computed again, all stages backwards; in tiles, or for pairs along the
//! vector.

use alloc::vec::Vec;

use super::ahead::Ahead;
use super::along::{self, PairsOf};
use super::compiled::{OnScalars, on_scalars, run_along};
use super::drive::Forward;
use super::partials::in_pieces;
use super::windows::Windows;
use super::{Both, Step, choose, large, pack, reflect, tile};
use crate::batch::{Batch, BatchMut};
use crate::parallel::{Parallelism, Pool};
use crate::scalar::{Element, Scalar};
use crate::simd::{self, Isa, Job, Lanes, Vectorize};

/// What is kept of a forward pass for [`Plan::apply_vjp`](crate::Plan::apply_vjp).
#[derive(Debug, Clone, Copy)]
pub enum Saved<'a, E> {
    /// Its input x.
    Input(Batch<'a, E>),
    /// Its output y: stage inputs are found by running backwards, which needs a plan that
    /// [`is_exact`](crate::Plan::is_exact).
    Output(Batch<'a, E>),
}

impl<'a, E: Copy> Saved<'a, E> {
    /// The batch, and whether it is the output.
    pub(super) fn parts(self) -> (Batch<'a, E>, bool) {
        match self {
            Saved::Input(x) => (x, false),
            Saved::Output(y) => (y, true),
        }
    }

    /// The same, if it is of scalars.
    fn of_scalars(&self) -> Option<Saved<'a, E::Scalar>>
    where
        E: Element,
    {
        match self {
            Saved::Input(x) => E::scalar_batch(x).copied().map(Saved::Input),
            Saved::Output(y) => E::scalar_batch(y).copied().map(Saved::Output),
        }
    }

    fn chunk(&self, start: usize, len: usize) -> Self {
        match self {
            Saved::Input(x) => Saved::Input(x.chunk(start, len)),
            Saved::Output(y) => Saved::Output(y.chunk(start, len)),
        }
    }
}

/// gx ← stepsᴴ(gy), and d_factors += the gradient of the entries and what couplings collect (at the steps' offsets).
#[allow(clippy::too_many_arguments)] // one verb, its two optional results and who runs it
pub(crate) fn apply_vjp<E: Element>(
    steps: &[Step<'_, E::Scalar>],
    saved: Saved<'_, E>,
    gy: Batch<'_, E>,
    mut gx: Option<BatchMut<'_, E>>,
    mut d_factors: Option<Both<&mut [E::Scalar]>>,
    isa: Isa,
    parallelism: Parallelism,
    pool: &Pool,
) {
    if large::apply_vjp(steps, saved, gy, &mut gx, &mut d_factors, isa, parallelism, pool) {
        return;
    }
    let (n, batch) = (gy.n(), gy.batch());
    let windows = Windows::neighbours(steps, n, choose::window::<E::Scalar>(batch));
    let runs = if d_factors.is_some() { runs(&windows, steps) } else { Vec::new() };
    // Tiles of a window: the cotangent, and the input of every run or the output alone.
    let tiles = 1 + match saved {
        Saved::Input(_) => runs.len(),
        Saved::Output(_) => runs.len().min(1),
    };
    // Rows of the windows in it: the cotangent, and the input of every stage.
    let inner = runs
        .iter()
        .filter(|run| !run.windows.is_whole())
        .map(|run| run.windows.len() * (1 + run.count))
        .max()
        .unwrap_or(0);
    let lanes = simd::lanes::<E::Scalar>(isa);
    let width = choose::backward_width::<E::Scalar>(windows.len() * tiles + inner, batch);
    let scratch = super::scratch(steps) * E::Scalar::WIDTH;
    let lengths = [windows.len() * width * tiles, inner * width];
    in_pieces(width, gy, gx, d_factors, parallelism, pool, |(start, end), mut gx, mut d| {
        pool.with(lengths[0] + lengths[1] + scratch, |buffer: &mut [E::Scalar]| {
            let (buffer, scratch) = buffer.split_at_mut(lengths[0] + lengths[1]);
            let (buffer, rows) = buffer.split_at_mut(lengths[0]);
            for first in (start..end).step_by(width) {
                let count = width.min(end - first);
                for window in windows.iter() {
                    let (steps, tile) = (&windows.steps(steps, window), window.len * width);
                    let (g, inputs) = buffer[..tile * tiles].split_at_mut(tile);
                    pack::pack(isa, gy.chunk(first, count), window.start, g, width, lanes);
                    let (saved, reversible) = saved.chunk(first, count).parts();
                    if tiles > 1 {
                        pack::pack(isa, saved, window.start, &mut inputs[..tile], width, lanes);
                    }
                    let d = d.as_mut().map(|d| (&mut *d.0, &mut *d.1));
                    let runs = &runs[..];
                    let work = Work { isa, width, scratch: &mut *scratch };
                    Backward { steps, runs, reversible, work, rows: &mut *rows }.run(g, inputs, d);
                    if let Some(gx) = &mut gx {
                        pack::unpack(isa, g, width, lanes, gx.chunk_mut(first - start, count), window.start);
                    }
                }
            }
        });
    });
}

/// The same by passes along the vector, those of the plan as it acts. `false`, and nothing is touched, unless all batches are
/// rows and it pays.
#[allow(clippy::too_many_arguments)] // as above
pub(crate) fn apply_vjp_along<E: Element>(
    pairs: PairsOf<'_, E::Scalar>,
    saved: Saved<'_, E>,
    gy: Batch<'_, E>,
    mut gx: Option<BatchMut<'_, E>>,
    d_factors: &mut Option<Both<&mut [E::Scalar]>>,
    isa: Isa,
    parallelism: Parallelism,
    pool: &Pool,
) -> bool {
    let (n, (kept, reversible)) = (gy.n(), saved.parts());
    let rows = gy.row(0).is_some() && kept.row(0).is_some() && gx.as_mut().is_none_or(|gx| gx.row_mut(0).is_some());
    if !rows || d_factors.is_none() || !choose::along_pays::<E::Scalar>(pairs.passes, gy.batch()) {
        return false;
    }
    let lanes = simd::lanes::<E::Scalar>(isa);
    if let (Some(d), Some(saved), Some(gy)) = (&mut *d_factors, saved.of_scalars(), E::scalar_batch(&gy)) {
        let (d, gx) = ((&mut *d.0, &mut *d.1), gx.as_mut().and_then(|gx| E::scalar_batch_mut(gx)));
        let gx = gx.map(|gx| gx.reborrow());
        if along::apply_vjp_in_sections(&pairs, saved, *gy, gx, d, isa, parallelism, pool) {
            return true;
        }
    }
    // Rows of neighbouring vectors must not meet in the same cache lines' places.
    let stride = n.next_multiple_of(E::Scalar::WIDTH) + E::Scalar::WIDTH;
    let undone = reversible && pairs.are_undone();
    let inputs = if reversible { 1 } else { pairs.passes.len() };
    let numbers = stride * (inputs + 1);
    let together = choose::backward_together::<E::Scalar>(pairs.passes, reversible, numbers, gy.batch());
    let length = together * stride;
    let windows = pairs.passes.iter().map(|pass| along::backward_window(pass, lanes, together));
    let window = windows.filter(|_| !undone).max().unwrap_or(0);
    let window = window.max(along::window::<E::Scalar>(pairs.passes, isa, together));
    // From the output, the input of a pass is found by its transpose, unless its stages are undone one by one.
    let back: Vec<_> = pairs.passes.iter().filter(|_| reversible && !undone).map(along::Pass::transposed).collect();
    let d_factors = d_factors.as_mut().map(|d| (&mut *d.0, &mut *d.1));
    let rows = Ahead::of([Some(kept), Some(gy), gx.as_ref().map(BatchMut::as_batch)]);
    let rows = rows.during(along::times_backward(pairs.passes, undone));
    in_pieces(together, gy, gx, d_factors, parallelism, pool, |(start, end), mut gx, mut d| {
        let Some((d, _)) = &mut d else { return };
        pool.with((1 + inputs) * length + window, |buffer: &mut [E::Scalar]| {
            let (window, buffer) = buffer.split_at_mut(window);
            let (g, x) = buffer.split_at_mut(length);
            for first in (start..end).step_by(together) {
                let count = together.min(end - first);
                let mut ahead = rows.chunk(first + count, count);
                for v in 0..count {
                    for (batch, rows) in [(gy, &mut *g), (kept, &mut *x)] {
                        if let Some(row) = batch.row(first + v) {
                            pack::widen(isa, row, &mut rows[v * stride..][..n]);
                        }
                    }
                }
                if !reversible {
                    for (p, pass) in pairs.passes[..inputs - 1].iter().enumerate() {
                        let (x, y) = x[p * length..].split_at_mut(length);
                        let pairs = PairsOf { passes: core::slice::from_ref(pass), ..pairs };
                        if let (Ok(x), Ok(mut y)) =
                            (Batch::strided(x, count, n, stride, 1), BatchMut::strided(y, count, n, stride, 1))
                        {
                            run_along(isa, &pairs, Some(&x), &mut y, window, &mut Ahead::default());
                        }
                    }
                }
                for (p, pass) in pairs.passes.iter().enumerate().rev() {
                    let x = &mut x[if reversible { 0 } else { p * length }..][..length];
                    if undone {
                        let (entries, from, g, ahead) = (pairs.entries, along::From::Output(x), &mut *g, &mut ahead);
                        let job = along::Backward { pass, entries, d, from, g, stride, batch: count, ahead };
                        on_scalars(isa, OnScalars::AlongBackward(job));
                        continue;
                    }
                    if let (Some(back), Ok(mut y)) = (back.get(p), BatchMut::strided(x, count, n, stride, 1)) {
                        let pairs = PairsOf { passes: core::slice::from_ref(back), ..pairs };
                        run_along(isa, &pairs, None, &mut y, window, &mut Ahead::default());
                    }
                    let (x, g, entries, window, ahead) = (&*x, &mut *g, pairs.entries, &mut *window, &mut ahead);
                    if pass.unit() > 1 {
                        let x = Batch::strided(x, count, n, stride, 1);
                        let gx = BatchMut::strided(g, count, n, stride, 1).ok();
                        if let Ok(x) = x {
                            let (section, reversible, gy) = (0..pass.covered, false, None);
                            let job = along::BlocksBackward {
                                pass,
                                entries,
                                d,
                                section,
                                x,
                                reversible,
                                gy,
                                gx,
                                window,
                                ahead,
                            };
                            on_scalars(isa, OnScalars::BlocksBackward(job));
                        }
                        continue;
                    }
                    let from = along::From::Input { x, window };
                    let job = along::Backward { pass, entries, d, from, g, stride, batch: count, ahead };
                    on_scalars(isa, OnScalars::AlongBackward(job));
                }
                if let Some(gx) = &mut gx {
                    for v in 0..count {
                        if let Some(row) = gx.row_mut(first - start + v) {
                            pack::narrow(isa, &g[v * stride..][..n], row);
                        }
                    }
                }
            }
        });
    });
    true
}

/// Consecutive stages that go backwards together, window by window.
struct Run {
    /// The first of them, and how many.
    first: usize,
    count: usize,
    windows: Windows,
}

/// All stages of a window of neighbouring coordinates.
fn runs<T: Scalar>(windows: &Windows, steps: &[Step<'_, T>]) -> Vec<Run> {
    let steps = windows.iter().next().map_or(Vec::new(), |window| windows.steps(steps, window));
    let (mut runs, mut first) = (Vec::new(), 0);
    while first < steps.len() {
        let (count, windows) = Windows::apart(&steps[first..], windows.len(), choose::BACKWARD_ROWS);
        runs.push(Run { first, count, windows });
        first += count;
    }
    runs
}

/// What runs kernels on tiles of `width` vectors in a row.
struct Work<'a, T> {
    isa: Isa,
    width: usize,
    scratch: &'a mut [T],
}

impl<T: Scalar> Work<'_, T> {
    /// tile ← steps(tile).
    fn apply(&mut self, steps: &[Step<'_, T>], tile: &mut [T]) {
        on_scalars(self.isa, OnScalars::Forward(Forward { steps, tile, scratch: self.scratch, width: self.width }));
    }

    /// One stage backwards, from its input or, if `reversible`, from its output x, which becomes the input.
    fn back(&mut self, step: &Step<'_, T>, g: &mut [T], x: &mut [T], d: &mut [T], reversible: bool) {
        let back = [step.adjoint()];
        if reversible {
            self.apply(&back, x);
        }
        if step.layout.block_size() == 2 {
            return on_scalars(self.isa, OnScalars::Pairs(Pairs { step, g, x, d, width: self.width }));
        }
        on_scalars(self.isa, OnScalars::Outer(Outer { step, g, x, d, width: self.width }));
        self.apply(&back, g);
    }
}

/// Sums of outer products, and for pairs the adjoint stage with them.
pub(super) struct Outer<'a, T> {
    step: &'a Step<'a, T>,
    g: &'a [T],
    x: &'a [T],
    d: &'a mut [T],
    width: usize,
}

impl<T: Scalar> Job<T> for Outer<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        let (g, x, registers) = (bytemuck::cast_slice(self.g), bytemuck::cast_slice(self.x), self.width / S::LANES);
        tile::outer_stage(s, self.step, g, x, registers, &mut self.d[self.step.offset..]);
    }
}

pub(super) struct Pairs<'a, T> {
    step: &'a Step<'a, T>,
    g: &'a mut [T],
    x: &'a [T],
    d: &'a mut [T],
    width: usize,
}

impl<T: Scalar> Job<T> for Pairs<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        let (g, x) = (bytemuck::cast_slice_mut(self.g), bytemuck::cast_slice(self.x));
        tile::back_pairs(s, self.step, g, x, self.width / S::LANES, &mut self.d[self.step.offset..]);
    }
}

struct Backward<'a, T> {
    steps: &'a [Step<'a, T>],
    /// The stages in runs; nothing if only the cotangent is wanted.
    runs: &'a [Run],
    /// Whether `inputs` is the output alone; else it has place for the input of every run, and that of the first.
    reversible: bool,
    work: Work<'a, T>,
    /// Tiles of a run's window: the cotangent and the input of every stage.
    rows: &'a mut [T],
}

impl<T: Scalar> Backward<'_, T> {
    /// g, the cotangent of the output, becomes that of the input; d collects gradients of entries and of couplings.
    fn run(mut self, g: &mut [T], inputs: &mut [T], d: Option<Both<&mut [T]>>) {
        let (steps, runs, tile) = (self.steps, self.runs, g.len());
        let Some((d, d_couplings)) = d.filter(|_| !steps.is_empty()) else {
            return steps.iter().rev().for_each(|step| self.work.apply(&[step.adjoint()], g));
        };
        let last = runs.len() - 1;
        if !self.reversible {
            for (r, run) in runs[..last].iter().enumerate() {
                inputs.copy_within(r * tile..(r + 1) * tile, (r + 1) * tile);
                self.forward(run, &mut inputs[(r + 1) * tile..(r + 2) * tile]);
            }
        }
        for (r, run) in runs.iter().enumerate().rev() {
            if let Step { reflectors: Some(reflectors), .. } = &steps[run.first] {
                // From the output: that of the last stage is not there yet, others are the next run's input.
                let given = if self.reversible { 0 } else { (r + 1).min(last) };
                let y = &mut inputs[given * tile..(given + 1) * tile];
                if !self.reversible && given == r {
                    self.work.apply(&steps[run.first..][..1], y);
                }
                let (width, scratch) = (self.work.width, &mut *self.work.scratch);
                reflect::vjp(&steps[run.first], reflectors, (g, y), width, scratch, (d, d_couplings));
                continue;
            }
            let at = if self.reversible { 0 } else { r };
            self.backward(run, g, &mut inputs[at * tile..(at + 1) * tile], d);
        }
    }

    /// x ← the run's stages(x).
    fn forward(&mut self, run: &Run, x: &mut [T]) {
        let steps = &self.steps[run.first..][..run.count];
        if run.windows.is_whole() {
            return self.work.apply(steps, x);
        }
        for window in run.windows.iter() {
            let rows = &mut self.rows[..window.len * self.work.width];
            run.windows.gather(window, x, rows, self.work.width);
            self.work.apply(&run.windows.steps(steps, window), rows);
            run.windows.scatter(window, rows, x, self.work.width);
        }
    }

    /// The run backwards, from its input x, or from its output, which becomes its input.
    fn backward(&mut self, run: &Run, g: &mut [T], x: &mut [T], d: &mut [T]) {
        let (steps, width) = (&self.steps[run.first..][..run.count], self.work.width);
        if run.windows.is_whole() {
            return steps.iter().for_each(|step| self.work.back(step, g, x, d, self.reversible)); // it is one
        }
        for window in run.windows.iter() {
            let tile = window.len * width;
            let (gs, xs) = self.rows.split_at_mut(tile);
            run.windows.gather(window, g, gs, width);
            run.windows.gather(window, x, &mut xs[..tile], width);
            let steps = run.windows.steps(steps, window);
            if !self.reversible {
                for (k, step) in steps.iter().enumerate().take(steps.len().saturating_sub(1)) {
                    xs.copy_within(k * tile..(k + 1) * tile, (k + 1) * tile);
                    self.work.apply(core::slice::from_ref(step), &mut xs[(k + 1) * tile..(k + 2) * tile]);
                }
            }
            for (k, step) in steps.iter().enumerate().rev() {
                let at = if self.reversible { 0 } else { k * tile };
                self.work.back(step, gs, &mut xs[at..at + tile], d, self.reversible);
            }
            run.windows.scatter(window, gs, g, width);
            if self.reversible {
                run.windows.scatter(window, &xs[..tile], x, width);
            }
        }
    }
}
