//! Blocks of 4 and 8 along the vector, as pairs of runs of U = 2 or 4 coordinates, forward and backward.
//!
//! A window holds some registers of a few vectors, those of all vectors side by side, and all stages of a pass go over it: pair by
//! pair of registers, whose columns are loaded once for all vectors. Going backwards there is a window for the input of every
//! stage, found forward or, from the output, backwards. What happens in registers is in `columns.rs`.

use super::Lines;
use super::columns::Columns;
use super::passes::{Pairs, Pass, Reach};
use crate::batch::{Batch, BatchMut};
use crate::scalar::Scalar;
use crate::simd::{Isa, Job, Lanes, NATURAL, dispatch, load, store};

/// Vectors of a window.
pub(in crate::kernel) const TOGETHER: usize = 16;

/// Registers of a window for each vector, at most.
pub(super) const MOST_REGISTERS: usize = 16;

/// Registers of a window of a pass forward: neighbouring ones are copied together.
fn registers(pass: &Pass, lanes: usize) -> usize {
    let mut registers = pass.registers;
    while pass.distance == lanes
        && 2 * registers <= MOST_REGISTERS
        && pass.covered.is_multiple_of(2 * registers * lanes)
    {
        registers *= 2;
    }
    registers
}

/// Numbers of the window of a pass for that many vectors.
pub(in crate::kernel) fn forward_window(pass: &Pass, lanes: usize, batch: usize) -> usize {
    registers(pass, lanes) * lanes * batch.min(TOGETHER)
}

/// The same backwards: one for the cotangent and one for the input of every stage.
pub(in crate::kernel) fn backward_window(pass: &Pass, lanes: usize, batch: usize) -> usize {
    (1 + pass.stages.len()) * pass.registers * lanes * batch.min(TOGETHER)
}

/// Runs $body with a constant that names what `level` is: below log₂ L two neighbouring registers are regrouped so that the
/// runs of pairs at distance 2^`level` lie over each other.
macro_rules! at_level {
    ($level:expr, $s:ident, $unit:ident, $run:ident) => {
        match $level {
            1 if const { $s::LANES >> 1 > 1 && $unit <= 2 } => $run!(1),
            2 if const { $s::LANES >> 2 > 1 && $unit <= 4 } => $run!(2),
            3 if const { $s::LANES >> 3 > 1 } => $run!(3),
            _ => $run!(NATURAL),
        }
    };
}

/// y ← pass(x), or y ← pass(y) without `x`; both rows.
pub(super) struct Run<'a, 'b, T, const U: usize> {
    pub(super) pass: &'a Pass,
    pub(super) entries: &'a [T],
    pub(super) x: Option<&'a Batch<'a, T>>,
    pub(super) y: &'a mut BatchMut<'b, T>,
    pub(super) window: &'a mut [T],
}

impl<T: Scalar, const U: usize> Job<T> for Run<'_, '_, T, U> {
    #[inline(always)]
    fn run<S: Lanes<T>>(mut self, s: S) {
        if const { T::IS_COMPLEX || U > S::LANES } {
            return; // no such passes are made
        }
        let (registers, d, batch) = (registers(self.pass, S::LANES), self.pass.apart, self.y.batch());
        for h in 0..self.pass.covered / (registers * d) {
            for q in (0..d).step_by(S::LANES) {
                for v in (0..batch).step_by(TOGETHER) {
                    let count = TOGETHER.min(batch - v);
                    let first = h * (registers / 2) * self.pass.distance + q;
                    self.block(s, h * registers * d + q, v, Block { pass: self.pass, registers, first, count });
                }
            }
        }
    }
}

impl<T: Scalar, const U: usize> Run<'_, '_, T, U> {
    /// Registers from coordinate `base` on of vectors from `v` on.
    #[inline(always)]
    fn block<S: Lanes<T>>(&mut self, s: S, base: usize, v: usize, block: Block<'_>) {
        let (window, lines) = (&mut *self.window, block.window(0, S::LANES));
        for w in 0..block.count {
            let row = match self.x {
                Some(x) => x.row(v + w),
                None => self.y.row(v + w),
            };
            let Some(row) = row else { return };
            block.load::<T, S>(&row[base..], window, lines, w);
        }
        for stage in &block.pass.stages {
            let (entries, numbers) = (self.entries, &mut *window);
            s.call(Forward::<T, U> { block, stage, entries, numbers, from: lines, to: lines });
        }
        for w in 0..block.count {
            let Some(row) = self.y.row_mut(v + w) else { return };
            block.store::<T, S>(window, lines, w, &mut row[base..]);
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
    pub(in crate::kernel) x: Batch<'a, T>,
    /// Whether `x` is the output instead, from which inputs are found backwards.
    pub(in crate::kernel) reversible: bool,
    pub(in crate::kernel) gy: Option<Batch<'a, T>>,
    /// If it is wanted.
    pub(in crate::kernel) gx: Option<BatchMut<'a, T>>,
    pub(in crate::kernel) window: &'a mut [T],
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
        if const { T::IS_COMPLEX || U > S::LANES } {
            return;
        }
        let Self(Backward { pass, entries, d, x, reversible, gy, mut gx, window }) = self;
        let (registers, distance, stages) = (pass.registers, pass.distance, &pass.stages[..]);
        for h in 0..pass.covered / (registers * distance) {
            for q in (0..distance).step_by(S::LANES) {
                let base = h * registers * distance + q;
                // Entries and their gradients stay in the nearest cache for all vectors.
                for v in (0..x.batch()).step_by(TOGETHER) {
                    let count = TOGETHER.min(x.batch() - v);
                    let block = Block { pass, registers, first: h * (registers / 2) * distance + q, count };
                    // The cotangent, then the input of every stage.
                    let g_lines = block.window(0, S::LANES);
                    let input = |k: usize| block.window(if reversible { 1 } else { k + 1 }, S::LANES);
                    for w in 0..count {
                        let g = match gy {
                            Some(gy) => gy.row(v + w),
                            None => gx.as_ref().and_then(|gx| gx.as_batch().row(v + w)),
                        };
                        let (Some(g), Some(x)) = (g, x.row(v + w)) else { return };
                        block.load::<T, S>(&g[base..], window, g_lines, w);
                        block.load::<T, S>(&x[base..], window, input(0), w);
                    }
                    let forward = if reversible { 0 } else { stages.len() - 1 };
                    for (k, stage) in stages[..forward].iter().enumerate() {
                        let (numbers, from, to) = (&mut *window, input(k), input(k + 1));
                        s.call(Forward::<T, U> { block, stage, entries, numbers, from, to });
                    }
                    for (k, stage) in stages.iter().enumerate().rev() {
                        if reversible {
                            let (stage, numbers, at) = (&stage.transposed(), &mut *window, input(k));
                            s.call(Forward::<T, U> { block, stage, entries, numbers, from: at, to: at });
                        }
                        block.backward::<T, S, U>(s, stage, entries, window, (input(k), g_lines), d);
                    }
                    for w in 0..count {
                        if let Some(row) = gx.as_mut().and_then(|gx| gx.row_mut(v + w)) {
                            block.store::<T, S>(window, g_lines, w, &mut row[base..]);
                        }
                    }
                }
            }
        }
    }
}

/// Numbers at `to` ← stage(numbers at `from`), which may be the same. A job of its own, for it is called from several places.
struct Forward<'a, T, const U: usize> {
    block: Block<'a>,
    stage: &'a Pairs,
    entries: &'a [T],
    numbers: &'a mut [T],
    from: Lines,
    to: Lines,
}

impl<T: Scalar, const U: usize> Job<T> for Forward<'_, T, U> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        if const { T::IS_COMPLEX || U > S::LANES } {
            return;
        }
        let Self { block, stage, entries, numbers, from, to } = self;
        let (bit, level) = block.place(stage, S::LANES);
        macro_rules! run {
            ($level:expr) => {
                for p in 0..block.registers / 2 {
                    let (pair, start) = block.pair::<T, U>(stage, bit, p);
                    let columns = Columns::load::<T, S, U>(s, &entries[start..], stage.transposed);
                    for v in 0..block.count {
                        let x = s.regroup::<NATURAL, { $level }>(from.load::<T, S>(numbers, v, pair));
                        let y = s.regroup::<{ $level }, NATURAL>(columns.times::<T, S, U>(s, x));
                        to.store::<T, S>(numbers, v, pair, y);
                    }
                }
            };
        }
        at_level!(level, S, U, run);
    }
}

/// Some registers of some vectors in a pass.
#[derive(Clone, Copy)]
struct Block<'a> {
    pass: &'a Pass,
    registers: usize,
    /// The first lane of its blocks in every stage.
    first: usize,
    /// Vectors.
    count: usize,
}

impl Block<'_> {
    /// Number k of windows one after the other: registers of all vectors side by side.
    #[inline(always)]
    fn window(&self, k: usize, lanes: usize) -> Lines {
        let register = self.count * lanes;
        Lines { start: k * self.registers * register, vector: lanes, register }
    }

    /// Vector v of a window ← its registers in a row.
    #[inline(always)]
    fn load<T: Scalar, S: Lanes<T>>(&self, row: &[T], window: &mut [T], lines: Lines, v: usize) {
        for r in 0..self.registers {
            store::<T, S>(&mut window[lines.at(v, r)..], load::<T, S>(&row[r * self.pass.apart..]));
        }
    }

    #[inline(always)]
    fn store<T: Scalar, S: Lanes<T>>(&self, window: &[T], lines: Lines, v: usize, row: &mut [T]) {
        for r in 0..self.registers {
            store::<T, S>(&mut row[r * self.pass.apart..], load::<T, S>(&window[lines.at(v, r)..]));
        }
    }

    /// Pairs of a stage are registers that differ in this bit, regrouped at this level.
    #[inline(always)]
    fn place(&self, stage: &Pairs, lanes: usize) -> (u32, u32) {
        match self.pass.reach {
            Reach::Near if stage.distance < lanes => (0, stage.distance.trailing_zeros()),
            _ => ((stage.distance / self.pass.distance).trailing_zeros(), NATURAL),
        }
    }

    /// The registers of pair p, and where the panel of their blocks starts.
    #[inline(always)]
    fn pair<T: Scalar, const U: usize>(&self, stage: &Pairs, bit: u32, p: usize) -> ([usize; 2], usize) {
        let low = p >> bit << (bit + 1) | p & ((1 << bit) - 1);
        let lane = self.first + p * self.pass.distance;
        ([low, low | 1 << bit], stage.entries + lane / T::WIDTH * 4 * U * T::WIDTH + lane % T::WIDTH)
    }

    /// Of numbers, g ← stageᵀ(g); d += the gradient of the entries, from x, the stage's input.
    #[inline(always)]
    fn backward<T: Scalar, S: Lanes<T>, const U: usize>(
        &self,
        s: S,
        stage: &Pairs,
        entries: &[T],
        numbers: &mut [T],
        (x_lines, g_lines): (Lines, Lines),
        d: &mut [T],
    ) {
        let ((bit, level), transposed) = (self.place(stage, S::LANES), stage.transposed);
        macro_rules! run {
            ($level:expr) => {
                for p in 0..self.registers / 2 {
                    let (pair, start) = self.pair::<T, U>(stage, bit, p);
                    let mut sums = Columns::zero();
                    for v in 0..self.count {
                        let x = s.regroup::<NATURAL, { $level }>(x_lines.load::<T, S>(numbers, v, pair));
                        let g = s.regroup::<NATURAL, { $level }>(g_lines.load::<T, S>(numbers, v, pair));
                        let (rows, inputs) = if transposed { (x, g) } else { (g, x) };
                        sums.add_outer::<T, S, U>(s, rows, inputs);
                    }
                    sums.add_to::<T, S, U>(s, &mut d[start..]);
                    let columns = Columns::load::<T, S, U>(s, &entries[start..], !transposed);
                    for v in 0..self.count {
                        let old = s.regroup::<NATURAL, { $level }>(g_lines.load::<T, S>(numbers, v, pair));
                        let new = s.regroup::<{ $level }, NATURAL>(columns.times::<T, S, U>(s, old));
                        g_lines.store::<T, S>(numbers, v, pair, new);
                    }
                }
            };
        }
        at_level!(level, S, U, run);
    }
}
