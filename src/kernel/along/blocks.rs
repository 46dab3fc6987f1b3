//! Blocks of 2U = 4 or 8 along the vector, as pairs of runs of U coordinates, forward and backward: lanes are neighbouring blocks.
//!
//! A register of a pass is *tall*: U vectors, one for each coordinate of L neighbouring runs. So it is to runs what a plain register
//! is to single coordinates: stages at distances below a tall register regroup two neighbouring ones
//! ([`Lanes::regroup`](crate::simd::Lanes::regroup), coordinate by coordinate), and entry (i, k) of L blocks is a vector that lies in
//! memory as it is needed. No input is ever spread over lanes; making registers tall, and plain again, is log₂ U rounds of shuffles
//! of two vectors, once in a pass.
//!
//! A window holds some registers of a few vectors of the batch, and all stages of a pass go over it, pair by pair of registers.
//! Going backwards there is a window for the input of every stage, found forward or, from the output, backwards; the gradient of entry
//! (i, k) is the sum of g_i·x_k over the batch, lane by lane.

use core::ops::Range;

use bytemuck::Zeroable;

use super::passes::{Pairs, Pass, Reach};
use super::tall::{load_end, lowered, outputs, raised, regrouped, store_end};
use crate::batch::{Batch, BatchMut};
use crate::kernel::ahead::Ahead;
use crate::scalar::Scalar;
use crate::simd::{Isa, Job, Lanes, NATURAL, dispatch, load, store};

/// Vectors of the batch in a window.
pub(in crate::kernel) const TOGETHER: usize = 16;

/// Plain registers of a window for each of them, at most.
pub(super) const MOST_REGISTERS: usize = 16;

/// Numbers of the window of a pass for that many vectors.
pub(in crate::kernel) fn forward_window(pass: &Pass, lanes: usize, batch: usize) -> usize {
    pass.together(lanes) * pass.unit() * lanes * batch.min(TOGETHER)
}

/// The same backwards: one for the cotangent and one for the input of every stage.
pub(in crate::kernel) fn backward_window(pass: &Pass, lanes: usize, batch: usize) -> usize {
    (1 + pass.stages.len()) * pass.registers * pass.unit() * lanes * batch.min(TOGETHER)
}

/// y ← pass(x), or y ← pass(y) without `x`; both rows.
pub(in crate::kernel) struct Apply<'a, 'b, T> {
    pub(super) pass: &'a Pass,
    pub(super) entries: &'a [T],
    /// The coordinates that it goes over: whole windows, or up to where the pass ends.
    pub(super) section: Range<usize>,
    pub(super) x: Option<&'a Batch<'a, T>>,
    pub(super) y: &'a mut BatchMut<'b, T>,
    pub(super) window: &'a mut [T],
    pub(super) ahead: &'a mut Ahead,
}

impl<T: Scalar> Apply<'_, '_, T> {
    pub(in crate::kernel) fn run(self, isa: Isa) {
        match self.pass.unit() {
            2 => dispatch(isa, ApplyOf::<T, 2>(self)),
            _ => dispatch(isa, ApplyOf::<T, 4>(self)),
        }
    }
}

struct ApplyOf<'a, 'b, T, const U: usize>(Apply<'a, 'b, T>);

impl<T: Scalar, const U: usize> Job<T> for ApplyOf<'_, '_, T, U> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        if const { T::IS_COMPLEX } {
            return; // no such passes are made
        }
        let Self(Apply { pass, entries, section, x, y, window, ahead }) = self;
        let (registers, d, batch) = (pass.together(S::LANES), pass.apart, y.batch());
        for h in section.start / (registers * d)..section.end.div_ceil(registers * d) {
            for q in (0..d).step_by(U * S::LANES) {
                let (base, first) = (h * registers * d + q, (h * (registers / 2) * pass.distance + q) / U);
                for v in (0..batch).step_by(TOGETHER) {
                    let block = Block::<U> { pass, registers, first, count: TOGETHER.min(batch - v) };
                    let vectors = talls::<T, S, U>(window).chunks_exact_mut(registers).take(block.count);
                    for (w, vector) in vectors.enumerate() {
                        let row = match x {
                            Some(x) => x.row(v + w),
                            None => y.row(v + w),
                        };
                        let Some(row) = row else { return };
                        block.load::<T, S>(s, &row[base..pass.covered], vector, block.level(0, S::LANES));
                    }
                    for (k, stage) in pass.stages.iter().enumerate() {
                        let (after, window, ahead) = (block.level(k + 1, S::LANES), &mut *window, &mut *ahead);
                        s.call(Forward { block, stage, after, entries, window, from: 0, to: 0, ahead });
                    }
                    let vectors = talls::<T, S, U>(window).chunks_exact(registers).take(block.count);
                    for (w, vector) in vectors.enumerate() {
                        let Some(row) = y.row_mut(v + w) else { return };
                        block.store::<T, S>(s, vector, &mut row[base..pass.covered]);
                    }
                }
            }
        }
    }
}

/// gx ← passᵀ(gy), or of gx without `gy`; d += the gradient of the entries, where `x` is the input of the pass. All batches rows.
pub(in crate::kernel) struct Backward<'a, T> {
    pub(in crate::kernel) pass: &'a Pass,
    /// All of the plan.
    pub(in crate::kernel) entries: &'a [T],
    /// Of all of the plan.
    pub(in crate::kernel) d: &'a mut [T],
    /// The coordinates that it goes over, as forward.
    pub(in crate::kernel) section: Range<usize>,
    pub(in crate::kernel) x: Batch<'a, T>,
    /// Whether `x` is the output instead, from which inputs are found backwards.
    pub(in crate::kernel) reversible: bool,
    pub(in crate::kernel) gy: Option<Batch<'a, T>>,
    pub(in crate::kernel) gx: Option<BatchMut<'a, T>>,
    pub(in crate::kernel) window: &'a mut [T],
    pub(in crate::kernel) ahead: &'a mut Ahead,
}

impl<T: Scalar> Backward<'_, T> {
    pub(in crate::kernel) fn run(self, isa: Isa) {
        match self.pass.unit() {
            2 => dispatch(isa, BackwardOf::<T, 2>(self)),
            _ => dispatch(isa, BackwardOf::<T, 4>(self)),
        }
    }
}

struct BackwardOf<'a, T, const U: usize>(Backward<'a, T>);

impl<T: Scalar, const U: usize> Job<T> for BackwardOf<'_, T, U> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        if const { T::IS_COMPLEX } {
            return;
        }
        let Self(Backward { pass, entries, d, section, x, reversible, gy, mut gx, window, ahead }) = self;
        let (registers, distance, stages) = (pass.registers, pass.distance, &pass.stages[..]);
        let last = stages.len() - 1;
        for h in section.start / (registers * distance)..section.end.div_ceil(registers * distance) {
            for q in (0..distance).step_by(U * S::LANES) {
                let (base, first) = (h * registers * distance + q, (h * (registers / 2) * distance + q) / U);
                // Entries and their gradients stay in the nearest cache for all vectors.
                for v in (0..x.batch()).step_by(TOGETHER) {
                    let count = TOGETHER.min(x.batch() - v);
                    let block = Block::<U> { pass, registers, first, count };
                    let level = |k: usize| block.level(k, S::LANES);
                    // The cotangent, then the input of every stage.
                    let input = |k: usize| (if reversible { 1 } else { k + 1 }) * count * registers;
                    for w in 0..count {
                        let g = match gy {
                            Some(gy) => gy.row(v + w),
                            None => gx.as_ref().and_then(|gx| gx.as_batch().row(v + w)),
                        };
                        let (Some(g), Some(x)) = (g, x.row(v + w)) else { return };
                        let (window, x_level) = (talls::<T, S, U>(window), level(if reversible { last } else { 0 }));
                        block.load::<T, S>(s, &g[base..pass.covered], &mut window[w * registers..], level(last));
                        block.load::<T, S>(s, &x[base..pass.covered], &mut window[input(0) + w * registers..], x_level);
                    }
                    for (k, stage) in stages[..if reversible { 0 } else { last }].iter().enumerate() {
                        let (window, from, to, after) = (&mut *window, input(k), input(k + 1), level(k + 1));
                        let ahead = &mut *ahead;
                        s.call(Forward { block, stage, after, entries, window, from, to, ahead });
                    }
                    for (k, stage) in stages.iter().enumerate().rev() {
                        let (back, x) = (&stage.transposed(), input(k));
                        let before = if k == 0 { NATURAL } else { level(k - 1) };
                        if reversible {
                            let (stage, after, window, ahead) = (back, level(k), &mut *window, &mut *ahead);
                            s.call(Forward { block, stage, after, entries, window, from: x, to: x, ahead });
                        }
                        block.outer::<T, S>(s, stage, talls::<T, S, U>(window), x, d);
                        if reversible && k > 0 {
                            block.regroup::<T, S>(s, &mut talls::<T, S, U>(window)[x..], level(k), before);
                        }
                        let (stage, after, window, ahead) = (back, before, &mut *window, &mut *ahead);
                        s.call(Forward { block, stage, after, entries, window, from: 0, to: 0, ahead });
                    }
                    for w in 0..count {
                        if let Some(row) = gx.as_mut().and_then(|gx| gx.row_mut(v + w)) {
                            let window = &talls::<T, S, U>(window)[w * registers..];
                            block.store::<T, S>(s, window, &mut row[base..pass.covered]);
                        }
                    }
                }
            }
        }
    }
}

/// A window as tall registers.
#[inline(always)]
fn talls<T: Scalar, S: Lanes<T>, const U: usize>(window: &mut [T]) -> &mut [[S::V; U]] {
    bytemuck::cast_slice_mut(window).as_chunks_mut().0
}

/// The window at `to` ← stage(that at `from`), which may be the same, grouped as the stage `after` wants it. A job of its own, for it is
/// called from several places.
struct Forward<'a, T, const U: usize> {
    block: Block<'a, U>,
    stage: &'a Pairs,
    after: u32,
    entries: &'a [T],
    window: &'a mut [T],
    from: usize,
    to: usize,
    ahead: &'a mut Ahead,
}

impl<T: Scalar, const U: usize> Job<T> for Forward<'_, T, U> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        if const { T::IS_COMPLEX } {
            return;
        }
        match self.stage.transposed {
            true => self.turn::<S, true>(s),
            false => self.turn::<S, false>(s),
        }
    }
}

impl<T: Scalar, const U: usize> Forward<'_, T, U> {
    #[inline(always)]
    fn turn<S: Lanes<T>, const TRANSPOSED: bool>(self, s: S) {
        let Self { block, stage, after: last, entries, window, from, to, ahead } = self;
        let (window, size) = (talls::<T, S, U>(window), block.registers);
        let (bit, level) = block.place(stage, S::LANES);
        let lines = ahead.lines(2 * U * size_of::<S::V>());
        // Those that are regrouped are neighbours.
        let after = if bit == 0 { last } else { NATURAL };
        for p in 0..block.registers / 2 {
            let (pair, start) = block.pair::<T>(stage, bit, p);
            let panel = &entries[start..][..(4 * U * U - 1) * T::WIDTH + S::LANES];
            let mut v = 0;
            macro_rules! vectors {
                ($count:literal) => {
                    while block.count - v >= $count {
                        let at = |start: usize| pair.map(|r| start + v * size + r);
                        let (from, to, levels) = (at(from), at(to), (level, after));
                        vectors::<T, S, U, $count, TRANSPOSED>(s, panel, window, from, to, size, levels);
                        v += $count;
                        ahead.ask($count * lines);
                    }
                };
            }
            match const { (U, S::REGISTERS >= 32) } {
                (2, true) => vectors!(4),
                (4, false) => {} // no registers are left
                _ => vectors!(2),
            }
            vectors!(1);
        }
        if last != after {
            block.regroup::<T, S>(s, &mut window[to..][..block.count * size], after, last);
        }
    }
}

/// A pair of registers of V vectors of `size` registers each, from its places in a window to others.
#[inline(always)]
fn vectors<T: Scalar, S: Lanes<T>, const U: usize, const V: usize, const TRANSPOSED: bool>(
    s: S,
    panel: &[T],
    window: &mut [[S::V; U]],
    from: [usize; 2],
    to: [usize; 2],
    size: usize,
    (level, after): (u32, u32),
) {
    let mut y = [[[S::V::zeroed(); U]; 2]; V];
    {
        let mut x = [[&window[from[0]]; 2]; V];
        for v in 0..V {
            x[v] = from.map(|from| &window[from + v * size]);
        }
        outputs::<T, S, U, V, TRANSPOSED>(s, panel, &x, &mut y);
    }
    regrouped::<T, S, U, V>(s, &mut y, level, after);
    for v in 0..V {
        for half in 0..2 {
            window[to[half] + v * size] = y[v][half];
        }
    }
}

/// Some registers of some vectors in a pass. A window has vector after vector.
#[derive(Clone, Copy)]
struct Block<'a, const U: usize> {
    pass: &'a Pass,
    registers: usize,
    /// The first of its blocks in every stage.
    first: usize,
    /// Vectors.
    count: usize,
}

impl<const U: usize> Block<'_, U> {
    /// A vector of a window ← its registers in a row, tall and grouped. A row that ends before them goes on with zeros.
    #[inline(always)]
    fn load<T: Scalar, S: Lanes<T>>(&self, s: S, row: &[T], window: &mut [[S::V; U]], level: u32) {
        if row.len() >= 2 * U * S::LANES {
            self.load_as::<T, S, true>(s, row, window, level);
        } else {
            self.load_as::<T, S, false>(s, row, window, level);
        }
    }

    #[inline(always)]
    fn load_as<T: Scalar, S: Lanes<T>, const WHOLE: bool>(
        &self,
        s: S,
        row: &[T],
        window: &mut [[S::V; U]],
        level: u32,
    ) {
        for (r, pair) in window[..self.registers].chunks_exact_mut(2).enumerate() {
            let mut x = [[[S::V::zeroed(); U]; 2]];
            for (half, x) in x[0].iter_mut().enumerate() {
                let at = (2 * r + half) * self.pass.apart;
                let row = if WHOLE { &row[at..][..U * S::LANES] } else { row.get(at..).unwrap_or_default() };
                for t in 0..U {
                    x[t] = match WHOLE {
                        true => load::<T, S>(&row[t * S::LANES..]),
                        false => load_end::<T, S>(row, t * S::LANES),
                    };
                }
                *x = raised::<T, S, U>(s, *x);
            }
            regrouped::<T, S, U, 1>(s, &mut x, NATURAL, level);
            pair.copy_from_slice(&x[0]);
        }
    }

    /// And back.
    #[inline(always)]
    fn store<T: Scalar, S: Lanes<T>>(&self, s: S, window: &[[S::V; U]], row: &mut [T]) {
        if row.len() >= 2 * U * S::LANES {
            self.store_as::<T, S, true>(s, window, row);
        } else {
            self.store_as::<T, S, false>(s, window, row);
        }
    }

    #[inline(always)]
    fn store_as<T: Scalar, S: Lanes<T>, const WHOLE: bool>(&self, s: S, window: &[[S::V; U]], row: &mut [T]) {
        for (r, x) in window[..self.registers].iter().enumerate() {
            let at = r * self.pass.apart;
            let x = lowered::<T, S, U>(s, *x);
            let row = if WHOLE { &mut row[at..][..U * S::LANES] } else { row.get_mut(at..).unwrap_or_default() };
            for t in 0..U {
                match WHOLE {
                    true => store::<T, S>(&mut row[t * S::LANES..], x[t]),
                    false => store_end::<T, S>(row, t * S::LANES, x[t]),
                }
            }
        }
    }

    /// Neighbouring registers of vectors from one grouping to another.
    #[inline(always)]
    fn regroup<T: Scalar, S: Lanes<T>>(&self, s: S, window: &mut [[S::V; U]], from: u32, to: u32) {
        for pair in window.chunks_exact_mut(2) {
            let mut x = [[pair[0], pair[1]]];
            regrouped::<T, S, U, 1>(s, &mut x, from, to);
            pair.copy_from_slice(&x[0]);
        }
    }

    /// Pairs of a stage are registers that differ in this bit, grouped at this level.
    #[inline(always)]
    fn place(&self, stage: &Pairs, lanes: usize) -> (u32, u32) {
        match self.pass.reach {
            Reach::Near if stage.distance < U * lanes => (0, (stage.distance / U).trailing_zeros()),
            _ => ((stage.distance / self.pass.distance).trailing_zeros(), NATURAL),
        }
    }

    /// How stage k wants registers grouped; they leave a pass in the natural order.
    #[inline(always)]
    fn level(&self, k: usize, lanes: usize) -> u32 {
        self.pass.stages.get(k).map_or(NATURAL, |stage| self.place(stage, lanes).1)
    }

    /// The registers of pair p, and where the entries of their blocks start.
    #[inline(always)]
    fn pair<T: Scalar>(&self, stage: &Pairs, bit: u32, p: usize) -> ([usize; 2], usize) {
        let low = p >> bit << (bit + 1) | p & ((1 << bit) - 1);
        let block = self.first + p * self.pass.distance / U;
        ([low, low | 1 << bit], stage.entries + block / T::WIDTH * (4 * U * U * T::WIDTH) + block % T::WIDTH)
    }

    /// d += the gradient of the entries of a stage, from its input at `x` and the cotangent of its output at the beginning.
    #[inline(always)]
    fn outer<T: Scalar, S: Lanes<T>>(&self, s: S, stage: &Pairs, window: &[[S::V; U]], x: usize, d: &mut [T]) {
        let (row, column) = match stage.transposed {
            true => (2 * U * T::WIDTH, T::WIDTH),
            false => (T::WIDTH, 2 * U * T::WIDTH),
        };
        let (bit, _) = self.place(stage, S::LANES);
        for p in 0..self.registers / 2 {
            let (pair, start) = self.pair::<T>(stage, bit, p);
            let d = &mut d[start..][..(4 * U * U - 1) * T::WIDTH + S::LANES];
            // Four rows of some columns at a time.
            macro_rules! sums {
                ($columns:literal: $($i:literal $k:literal),*) => {
                    $(if const { ($i | $k) < 2 * U } {
                        let mut sums = [[S::V::zeroed(); 4]; $columns];
                        for v in 0..self.count {
                            let at = v * self.registers;
                            let g = pair.map(|r| &window[at + r]);
                            let x = pair.map(|r| &window[x + at + r]);
                            for k in 0..$columns {
                                for i in 0..4 {
                                    let (g, x) = (g[($i + i) / U][($i + i) % U], x[($k + k) / U][($k + k) % U]);
                                    sums[k][i] = s.mul_add(g, x, sums[k][i]);
                                }
                            }
                        }
                        for k in 0..$columns {
                            for i in 0..4 {
                                let d = &mut d[($i + i) * row + ($k + k) * column..];
                                let sum = s.add(load::<T, S>(d), sums[k][i]);
                                store::<T, S>(d, sum);
                            }
                        }
                    })*
                };
            }
            if const { S::REGISTERS >= 32 } {
                sums!(4: 0 0, 0 4, 4 0, 4 4);
            } else {
                sums!(2: 0 0, 0 2, 0 4, 0 6, 4 0, 4 2, 4 4, 4 6);
            }
        }
    }
}
