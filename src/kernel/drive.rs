//! Batches through the kernels: cut by shapes, packed, all stages, unpacked; in parallel over pieces.

use alloc::vec::Vec;

use super::along::PairsOf;
use super::compiled::{Compiled, compiled};
use super::{Both, Step, along, apply_stage, apply_stages, choose, pack, reflect, single, tile};
use crate::batch::{Batch, BatchMut};
use crate::parallel::{self, Parallelism, Pool};
use crate::scalar::{Element, Scalar};
use crate::simd::{self, Isa, Job, Lanes, Vectorize, dispatch};

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
    fn chunk(&self, start: usize, len: usize) -> Self {
        match self {
            Saved::Input(x) => Saved::Input(x.chunk(start, len)),
            Saved::Output(y) => Saved::Output(y.chunk(start, len)),
        }
    }
}

/// Partial gradients that are summed in order at the end: enough for a few cores, few enough to stay small.
const PARTIALS: usize = 8;

/// y ← steps(x), or y ← steps(y) without `x`.
pub(crate) fn apply<E: Element>(
    steps: &[Step<'_, E::Scalar>],
    x: Option<Batch<'_, E>>,
    y: BatchMut<'_, E>,
    isa: Isa,
    parallelism: Parallelism,
    pool: &Pool,
) {
    let (n, batch) = (y.n(), y.batch());
    let lanes = simd::lanes::<E::Scalar>(isa);
    let width = choose::tile_width::<E::Scalar>(n, batch, 1);
    let scratch = super::scratch(steps) * E::Scalar::WIDTH;
    parallel::for_each(parallelism, pieces(x, y, width), |(x, mut y)| {
        if choose::one_by_one::<E::Scalar>(y.batch()) && rows_in_place(&x, &mut y) {
            pool.with(scratch, |scratch: &mut [E::Scalar]| {
                for v in 0..y.batch() {
                    if let Some(vector) = y.row_mut(v).and_then(E::as_scalars_mut) {
                        dispatch(isa, OneVector { steps, vector, scratch });
                    }
                }
            });
        } else {
            pool.with(n * width + scratch, |buffer: &mut [E::Scalar]| {
                let (tile, scratch) = buffer.split_at_mut(n * width);
                pack::pack(isa, x.unwrap_or(y.as_batch()), tile, width, lanes);
                dispatch(isa, Forward { steps, tile, scratch, width });
                pack::unpack(isa, tile, width, lanes, y);
            });
        }
    });
}

/// y ← all passes(x), or y ← all passes(y) without `x`. Of rows only: `false` for other batches, of which nothing is touched.
pub(crate) fn apply_along<E: Element>(
    pairs: PairsOf<'_, E::Scalar>,
    x: Option<Batch<'_, E>>,
    mut y: BatchMut<'_, E>,
    isa: Isa,
    parallelism: Parallelism,
    pool: &Pool,
) -> bool {
    if y.row_mut(0).is_none() || x.is_some_and(|x| x.row(0).is_none()) {
        return false;
    }
    let (n, batch) = (y.n(), y.batch());
    let together = choose::together::<E::Scalar>(n);
    let Some(Compiled { along }) = compiled::<E::Scalar>() else { return false };
    let run = |(x, mut y): (Option<Batch<'_, E>>, BatchMut<'_, E>)| {
        if let Some(y) = E::scalar_batch_mut(y.reborrow()) {
            return along(isa, along::Along { pairs, x: x.and_then(E::scalar_batch), y });
        }
        pool.with(y.batch() * n, |rows: &mut [E::Scalar]| {
            for (v, row) in rows.chunks_exact_mut(n).enumerate() {
                if let Some(from) = x.unwrap_or(y.as_batch()).row(v) {
                    row.iter_mut().zip(from).for_each(|(to, from)| *to = from.load());
                }
            }
            if let Ok(y) = BatchMut::rows(rows, n) {
                along(isa, along::Along { pairs, x: None, y });
            }
            for (v, row) in rows.chunks_exact(n).enumerate() {
                if let Some(to) = y.row_mut(v) {
                    to.iter_mut().zip(row).for_each(|(to, from)| *to = E::store(*from));
                }
            }
        });
    };
    if parallelism == Parallelism::None || batch <= together {
        for start in (0..batch).step_by(together) {
            let count = together.min(batch - start);
            run((x.map(|x| x.chunk(start, count)), y.chunk_mut(start, count)));
        }
    } else {
        parallel::for_each(parallelism, pieces(x, y, together), run);
    }
    true
}

/// The batches cut into pieces of `width` vectors.
#[allow(clippy::type_complexity)] // two batches
fn pieces<'a, E: Element>(
    x: Option<Batch<'a, E>>,
    y: BatchMut<'a, E>,
    width: usize,
) -> Vec<(Option<Batch<'a, E>>, BatchMut<'a, E>)> {
    let batch = y.batch();
    let cuts = (1..=batch.div_ceil(width)).map(|c| (c * width).min(batch));
    let mut start = 0;
    let with_x = |y: BatchMut<'a, E>| {
        let from = x.map(|x| x.chunk(start, y.batch()));
        start += y.batch();
        (from, y)
    };
    y.split(cuts).map(with_x).collect()
}

/// Copies `x` to `y` if both are rows of scalars, so that the rest can happen in `y`; `false` if they are not.
fn rows_in_place<E: Element>(x: &Option<Batch<'_, E>>, y: &mut BatchMut<'_, E>) -> bool {
    if y.row_mut(0).and_then(E::as_scalars_mut).is_none() || x.is_some_and(|x| x.row(0).is_none()) {
        return false;
    }
    if let Some(x) = x.filter(|x| !x.is_same(y)) {
        for v in 0..y.batch() {
            if let (Some(from), Some(to)) = (x.row(v), y.row_mut(v)) {
                to.copy_from_slice(from);
            }
        }
    }
    true
}

struct OneVector<'a, T> {
    steps: &'a [Step<'a, T>],
    vector: &'a mut [T],
    scratch: &'a mut [T],
}

impl<T: Scalar> Job<T> for OneVector<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        single::run(s, self.steps, self.vector, self.scratch);
    }
}

struct Forward<'a, T> {
    steps: &'a [Step<'a, T>],
    tile: &'a mut [T],
    scratch: &'a mut [T],
    width: usize,
}

impl<T: Scalar> Job<T> for Forward<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        let tile: &mut [S::V] = bytemuck::cast_slice_mut(self.tile);
        let scratch: &mut [S::V] = bytemuck::cast_slice_mut(self.scratch);
        apply_stages(s, self.steps, tile, self.width / S::LANES, scratch);
    }
}

/// gx ← stepsᴴ(gy), and d_factors += the gradient of the entries and what couplings collect (at the steps' offsets).
#[allow(clippy::too_many_arguments)] // one verb, its two optional results and who runs it
pub(crate) fn apply_vjp<E: Element>(
    steps: &[Step<'_, E::Scalar>],
    saved: Saved<'_, E>,
    gy: Batch<'_, E>,
    gx: Option<BatchMut<'_, E>>,
    d_factors: Option<Both<&mut [E::Scalar]>>,
    isa: Isa,
    parallelism: Parallelism,
    pool: &Pool,
) {
    let (n, batch) = (gy.n(), gy.batch());
    let stored = match (&d_factors, &saved) {
        (None, _) => 0,
        (Some(_), Saved::Input(_)) => steps.len(),
        (Some(_), Saved::Output(_)) => 1,
    };
    let lanes = simd::lanes::<E::Scalar>(isa);
    let width = choose::tile_width::<E::Scalar>(n, batch, stored + 1);
    let scratch = super::scratch(steps) * E::Scalar::WIDTH;
    let chunks = batch.div_ceil(width);
    let pieces = chunks.min(PARTIALS);
    let cuts: Vec<usize> = (1..=pieces).map(|p| (p * chunks / pieces * width).min(batch)).collect();
    let (entries, couplings) = d_factors.as_ref().map_or((0, 0), |d| (d.0.len(), d.1.len()));
    let numbers = entries + couplings;
    pool.with(pieces * numbers, |partials: &mut [E::Scalar]| {
        partials.fill(num_traits::Zero::zero());
        let mut gx: Vec<Option<BatchMut<'_, E>>> = match gx {
            Some(gx) => gx.split(cuts.iter().copied()).map(Some).collect(),
            None => cuts.iter().map(|_| None).collect(),
        };
        let mut gradients = partials.chunks_mut(numbers.max(1));
        let mut work = Vec::with_capacity(pieces);
        let mut start = 0;
        for (end, gx) in cuts.iter().zip(gx.drain(..)) {
            work.push((start, *end, gx, gradients.next().filter(|_| d_factors.is_some())));
            start = *end;
        }
        parallel::for_each(parallelism, work, |(start, end, mut gx, mut gradient)| {
            pool.with(n * width * (stored + 1) + scratch, |buffer: &mut [E::Scalar]| {
                let (g, rest) = buffer.split_at_mut(n * width);
                let (inputs, scratch) = rest.split_at_mut(n * width * stored);
                for first in (start..end).step_by(width) {
                    let count = width.min(end - first);
                    pack::pack(isa, gy.chunk(first, count), g, width, lanes);
                    let reversible = match saved.chunk(first, count) {
                        _ if stored == 0 => false,
                        Saved::Input(x) => {
                            pack::pack(isa, x, &mut inputs[..n * width], width, lanes);
                            false
                        }
                        Saved::Output(y) => {
                            pack::pack(isa, y, inputs, width, lanes);
                            true
                        }
                    };
                    let d = gradient.as_deref_mut().map(|d| d.split_at_mut(entries));
                    dispatch(isa, Backward { steps, g, inputs, scratch, d, width, reversible });
                    if let Some(gx) = &mut gx {
                        pack::unpack(isa, g, width, lanes, gx.chunk_mut(first - start, count));
                    }
                }
            });
        });
        if let Some((d_entries, d_couplings)) = d_factors {
            for partial in partials.chunks(numbers.max(1)) {
                for (d, p) in d_entries.iter_mut().chain(&mut *d_couplings).zip(partial) {
                    *d += *p;
                }
            }
        }
    });
}

struct Backward<'a, T> {
    steps: &'a [Step<'a, T>],
    /// Cotangent of the output on entry, of the input on exit.
    g: &'a mut [T],
    /// The input of every stage (the first one given), or the output alone if `reversible`.
    inputs: &'a mut [T],
    scratch: &'a mut [T],
    /// Gradients of entries and of couplings.
    d: Option<Both<&'a mut [T]>>,
    width: usize,
    reversible: bool,
}

impl<T: Scalar> Job<T> for Backward<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        let (tile, registers) = (self.g.len() / S::LANES, self.width / S::LANES);
        let g: &mut [S::V] = bytemuck::cast_slice_mut(self.g);
        let inputs: &mut [S::V] = bytemuck::cast_slice_mut(self.inputs);
        let scratch: &mut [S::V] = bytemuck::cast_slice_mut(self.scratch);
        let Some((d, d_couplings)) = self.d else {
            for step in self.steps.iter().rev() {
                apply_stage(s, &step.adjoint(), g, registers, scratch);
            }
            return;
        };
        if !self.reversible {
            for (k, step) in self.steps.iter().enumerate().take(self.steps.len().saturating_sub(1)) {
                inputs.copy_within(k * tile..(k + 1) * tile, (k + 1) * tile);
                apply_stage(s, step, &mut inputs[(k + 1) * tile..(k + 2) * tile], registers, scratch);
            }
        }
        for (k, step) in self.steps.iter().enumerate().rev() {
            let back = step.adjoint();
            if let Some(r) = &step.reflectors {
                // From the output: that of the last stage is not there yet, others are the next stage's input.
                let given = if self.reversible { 0 } else { (k + 1).min(self.steps.len() - 1) };
                let y = &mut inputs[given * tile..(given + 1) * tile];
                if !self.reversible && given == k {
                    reflect::apply(step, r, y, registers);
                }
                reflect::vjp(step, r, (g, y), registers, scratch, (d, d_couplings));
                continue;
            }
            let x = if self.reversible {
                apply_stage(s, &back, inputs, registers, scratch);
                &inputs[..]
            } else {
                &inputs[k * tile..(k + 1) * tile]
            };
            tile::outer_stage(s, step, g, x, registers, &mut d[step.offset..]);
            apply_stage(s, &back, g, registers, scratch);
        }
    }
}
