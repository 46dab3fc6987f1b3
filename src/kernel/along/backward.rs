//! A pass backwards: cotangents through its stages in reverse, and the gradients of its entries, whose lanes are blocks side by
//! side just as those of the entries. Nothing is ever summed over lanes.
//!
//! A window holds the input of every stage for a few vectors, in registers grouped as the stage wants them. From the
//! output of rotations none is needed: each stage is undone as cotangents come to it, in two rows for each vector.

use super::passes::{Pairs, Pass};
use super::{Blocks, Rotations, blocks, rotated};
use crate::kernel::ahead::Ahead;
use crate::scalar::Scalar;
use crate::simd::{Job, Lanes, NATURAL, load, store};

/// Vectors of a window. (Entries and their gradients are read once for all of them, which is worth more than a window in the
/// innermost cache.)
const TOGETHER: usize = 16;

/// Where the registers of some vectors are: number r of vector v from `start` + v·`vector` + r·`register` on. Those of a vector
/// span so many numbers.
#[derive(Clone, Copy)]
struct Lines {
    start: usize,
    vector: usize,
    register: usize,
    span: usize,
}

impl Lines {
    /// Where two registers are among those of a vector.
    #[inline(always)]
    fn pair(self, [low, high]: [usize; 2]) -> [usize; 2] {
        [low * self.register, high * self.register]
    }

    #[inline(always)]
    fn load<T: Scalar, S: Lanes<T>>(self, numbers: &[T], v: usize, [low, high]: [usize; 2]) -> [S::V; 2] {
        let vector = &numbers[self.start + v * self.vector..][..self.span];
        [load::<T, S>(&vector[low..]), load::<T, S>(&vector[high..])]
    }

    #[inline(always)]
    fn store<T: Scalar, S: Lanes<T>>(self, numbers: &mut [T], v: usize, [low, high]: [usize; 2], [a, b]: [S::V; 2]) {
        let vector = &mut numbers[self.start + v * self.vector..][..self.span];
        store::<T, S>(&mut vector[low..], a);
        store::<T, S>(&mut vector[high..], b);
    }
}

/// Numbers of the window of a pass for that many vectors.
pub(in crate::kernel) fn window(pass: &Pass, lanes: usize, batch: usize) -> usize {
    if pass.unit() > 1 {
        return blocks::backward_window(pass, lanes, batch);
    }
    pass.stages.len() * pass.registers * lanes * batch.min(TOGETHER)
}

/// What a pass goes backwards from.
pub(in crate::kernel) enum From<'a, T> {
    /// Its inputs, with scratch of [`window`] numbers.
    Input { x: &'a [T], window: &'a mut [T] },
    /// The outputs of rotations, which become the inputs.
    Output(&'a mut [T]),
}

/// g, cotangents of the outputs of a pass, become those of its inputs; d += the gradient of the entries.
pub(in crate::kernel) struct Backward<'a, T> {
    pub(in crate::kernel) pass: &'a Pass,
    /// All of the plan.
    pub(in crate::kernel) entries: &'a [T],
    /// Of all of the plan.
    pub(in crate::kernel) d: &'a mut [T],
    /// Vectors, one every `stride` numbers, as those of `g`.
    pub(in crate::kernel) from: From<'a, T>,
    pub(in crate::kernel) g: &'a mut [T],
    pub(in crate::kernel) stride: usize,
    pub(in crate::kernel) batch: usize,
    pub(in crate::kernel) ahead: &'a mut Ahead,
}

impl<T: Scalar> Job<T> for Backward<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(mut self, s: S) {
        if const { T::IS_COMPLEX } {
            return; // no passes are made
        }
        let (registers, d) = (self.pass.registers, self.pass.distance);
        for h in 0..self.pass.covered / (registers * d) {
            for q in (0..d).step_by(S::LANES) {
                for v in (0..self.batch).step_by(TOGETHER) {
                    let count = TOGETHER.min(self.batch - v);
                    let (start, span) = (v * self.stride + h * registers * d + q, (registers - 1) * d + S::LANES);
                    let lines = Lines { start, vector: self.stride, register: d, span };
                    self.block(s, lines, h * (registers / 2) * d + q, count);
                }
            }
        }
    }
}

impl<T: Scalar> Backward<'_, T> {
    /// `count` vectors in a block of registers, which are at `lines` of x, or y, and of g; their pairs are blocks from `first` on.
    #[inline(always)]
    fn block<S: Lanes<T>>(&mut self, s: S, lines: Lines, first: usize, count: usize) {
        let (pass, entries, stages) = (self.pass, self.entries, self.pass.stages.len());
        let size = pass.registers * S::LANES;
        let kept = Lines { start: 0, vector: size, register: S::LANES, span: size };
        let input = |k: usize| Lines { start: k * count * size, ..kept };
        let turned = |k: usize| Turned { stage: &pass.stages[k], bit: pass.place(k, S::LANES).0, first, pass, count };
        let group = |k: usize| pass.place(k, S::LANES).1;
        // The input of the first stage is x, in the natural order; so are cotangents in the end.
        let edge = |k: usize| k == 0 && group(k) != NATURAL;
        let asked = self.ahead.lines(count * size * size_of::<T>());
        let mut now = NATURAL;
        match &mut self.from {
            From::Input { x: inputs, window } => {
                for k in 0..stages - 1 {
                    self.ahead.ask(asked);
                    let (before, after) = window.split_at_mut(input(k + 1).start);
                    let (x, x_lines) = if k == 0 { (*inputs, lines) } else { (&*before, input(k)) };
                    let work = Forward { turned: turned(k), entries, x, x_lines, y: after, y_lines: kept };
                    regrouped(s, group(k), group(k + 1), edge(k), work);
                }
                for k in (0..stages).rev() {
                    self.ahead.ask(asked);
                    let (x, x_lines) = if k == 0 { (*inputs, lines) } else { (&**window, input(k)) };
                    let (g, d) = (&mut *self.g, &mut *self.d);
                    let work = Back { turned: turned(k), entries, x, x_lines, g, lines, d };
                    regrouped(s, now, group(k), edge(k), work);
                    now = group(k);
                }
            }
            From::Output(y) => {
                for k in (0..stages).rev() {
                    self.ahead.ask(asked);
                    let (y, g, d) = (&mut **y, &mut *self.g, &mut *self.d);
                    regrouped(s, now, group(k), edge(k), Undo { turned: turned(k), entries, y, g, lines, d });
                    now = group(k);
                }
            }
        }
    }
}

/// Work on neighbouring registers that go from one grouping to another. At the `EDGE` of a pass what lies outside is in the
/// natural order.
trait Regrouped<T> {
    fn run<S: Lanes<T>, const FROM: u32, const TO: u32, const EDGE: bool>(self, s: S);
}

/// Runs the work with the groupings as constants. Those of a pass come one after the other, or there is one alone.
#[inline(always)]
fn regrouped<T, S: Lanes<T>>(s: S, from: u32, to: u32, edge: bool, work: impl Regrouped<T>) {
    macro_rules! arms {
        ($($low:literal $high:literal),*) => {
            match (from, to, edge) {
                $(($low, $high, false) if const { S::LANES >> $high > 1 } => work.run::<S, $low, $high, false>(s),
                ($high, $low, false) if const { S::LANES >> $high > 1 } => work.run::<S, $high, $low, false>(s),
                ($low, NATURAL, false) if const { S::LANES >> $low == 2 } => work.run::<S, $low, NATURAL, false>(s),
                (NATURAL, $low, false) if const { S::LANES >> $low == 2 } => work.run::<S, NATURAL, $low, false>(s),
                (NATURAL, $low, true) if const { S::LANES >> $low > 1 } => work.run::<S, NATURAL, $low, true>(s),)*
                (NATURAL, 0, false) if const { S::LANES > 2 } => work.run::<S, NATURAL, 0, false>(s),
                (0, 1, true) if const { S::LANES > 2 } => work.run::<S, 0, 1, true>(s),
                (1, 0, true) if const { S::LANES > 2 } => work.run::<S, 1, 0, true>(s),
                (0, NATURAL, true) if const { S::LANES == 2 } => work.run::<S, 0, NATURAL, true>(s),
                _ => {
                    debug_assert_eq!((from, to), (NATURAL, NATURAL));
                    work.run::<S, NATURAL, NATURAL, false>(s);
                }
            }
        };
    }
    arms!(0 1, 1 2, 2 3, 3 4);
}

/// A stage as it turns the registers of a block of its pass.
struct Turned<'a> {
    stage: &'a Pairs,
    /// Pairs are registers that differ in this bit.
    bit: usize,
    pass: &'a Pass,
    /// The block of register 0.
    first: usize,
    /// Vectors.
    count: usize,
}

impl Turned<'_> {
    /// The registers of pair p, and where the entries of their blocks are.
    #[inline(always)]
    fn pair<T: Scalar>(&self, p: usize) -> ([usize; 2], usize) {
        let low = p >> self.bit << (self.bit + 1) | p & ((1 << self.bit) - 1);
        let j = self.first + p * self.pass.distance;
        ([low, low | 1 << self.bit], self.stage.entries + j / T::WIDTH * 4 * T::WIDTH + j % T::WIDTH)
    }

    /// Where the runs of e₀₀, e₀₁, e₁₀ and e₁₁ are in a panel.
    #[inline(always)]
    fn runs<T: Scalar>(&self) -> [usize; 4] {
        let [e01, e10] = if self.stage.transposed { [1, 2] } else { [2, 1] };
        [0, e01 * T::WIDTH, e10 * T::WIDTH, 3 * T::WIDTH]
    }

    #[inline(always)]
    fn entries<T: Scalar, S: Lanes<T>>(&self, entries: &[T], start: usize) -> [S::V; 4] {
        let [e00, e01, e10, e11] = self.runs::<T>();
        let panel = &entries[start..][..3 * T::WIDTH + S::LANES];
        [
            load::<T, S>(&panel[e00..]),
            load::<T, S>(&panel[e01..]),
            load::<T, S>(&panel[e10..]),
            load::<T, S>(&panel[e11..]),
        ]
    }

    /// Cosines and sines of the rotations that undo the stage's, which are [`Rotations`] of the other kind.
    #[inline(always)]
    fn inverse<T: Scalar, S: Lanes<T>>(&self, s: S, entries: &[T], start: usize) -> [S::V; 2] {
        let panel = &entries[start..][..T::WIDTH + S::LANES];
        if self.stage.transposed {
            Rotations::<false>.load::<T, S>(s, panel)
        } else {
            Rotations::<true>.load::<T, S>(s, panel)
        }
    }

    /// Adds gradients to those of the entries from `start` on.
    #[inline(always)]
    fn add<T: Scalar, S: Lanes<T>>(&self, s: S, sums: [S::V; 4], d: &mut [T], start: usize) {
        let panel = &mut d[start..][..3 * T::WIDTH + S::LANES];
        for (run, sum) in self.runs::<T>().into_iter().zip(sums) {
            let sum = s.add(load::<T, S>(&panel[run..]), sum);
            store::<T, S>(&mut panel[run..], sum);
        }
    }
}

/// y ← stage(x), regrouped for the next stage.
struct Forward<'a, T> {
    turned: Turned<'a>,
    entries: &'a [T],
    x: &'a [T],
    x_lines: Lines,
    y: &'a mut [T],
    y_lines: Lines,
}

impl<T: Scalar> Regrouped<T> for Forward<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>, const FROM: u32, const TO: u32, const EDGE: bool>(self, s: S) {
        for p in 0..self.turned.pass.registers / 2 {
            let (pair, start) = self.turned.pair::<T>(p);
            let [e00, e01, e10, e11] = self.turned.entries::<T, S>(self.entries, start);
            let (at, to) = (self.x_lines.pair(pair), self.y_lines.pair(pair));
            for v in 0..self.turned.count {
                let mut x = self.x_lines.load::<T, S>(self.x, v, at);
                if const { EDGE } {
                    x = s.regroup::<NATURAL, FROM>(x);
                }
                let [a, b] = x;
                let y = [s.mul_add(e01, b, s.mul(e00, a)), s.mul_add(e11, b, s.mul(e10, a))];
                self.y_lines.store::<T, S>(self.y, v, to, s.regroup::<FROM, TO>(y));
            }
        }
    }
}

/// g ← stageᵀ(g) after it is grouped as x is, the input of the stage; d += the gradient of the entries.
struct Back<'a, T> {
    turned: Turned<'a>,
    entries: &'a [T],
    x: &'a [T],
    x_lines: Lines,
    g: &'a mut [T],
    lines: Lines,
    d: &'a mut [T],
}

impl<T: Scalar> Regrouped<T> for Back<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>, const FROM: u32, const TO: u32, const EDGE: bool>(self, s: S) {
        for p in 0..self.turned.pass.registers / 2 {
            let (pair, start) = self.turned.pair::<T>(p);
            let [e00, e01, e10, e11] = self.turned.entries::<T, S>(self.entries, start);
            let mut sums = [s.splat(T::zero()); 4];
            let (x_at, at) = (self.x_lines.pair(pair), self.lines.pair(pair));
            for v in 0..self.turned.count {
                let mut x = self.x_lines.load::<T, S>(self.x, v, x_at);
                if const { EDGE } {
                    x = s.regroup::<NATURAL, TO>(x);
                }
                let [a, b] = x;
                let [p, q] = s.regroup::<FROM, TO>(self.lines.load::<T, S>(self.g, v, at));
                sums = outer(s, [p, q], [a, b], sums);
                let mut g = [s.mul_add(e10, q, s.mul(e00, p)), s.mul_add(e11, q, s.mul(e01, p))];
                if const { EDGE } {
                    g = s.regroup::<TO, NATURAL>(g);
                }
                self.lines.store::<T, S>(self.g, v, at, g);
            }
            self.turned.add(s, sums, self.d, start);
        }
    }
}

/// y, outputs of a stage of rotations, and g, their cotangents, ← stageᵀ of both, after both are grouped as the stage wants
/// them; d += the gradient of the entries.
struct Undo<'a, T> {
    turned: Turned<'a>,
    entries: &'a [T],
    y: &'a mut [T],
    g: &'a mut [T],
    lines: Lines,
    d: &'a mut [T],
}

impl<T: Scalar> Regrouped<T> for Undo<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>, const FROM: u32, const TO: u32, const EDGE: bool>(self, s: S) {
        for p in 0..self.turned.pass.registers / 2 {
            let (pair, start) = self.turned.pair::<T>(p);
            let rotation = self.turned.inverse::<T, S>(s, self.entries, start);
            let mut sums = [s.splat(T::zero()); 4];
            let at = self.lines.pair(pair);
            for v in 0..self.turned.count {
                let [y, z] = s.regroup::<FROM, TO>(self.lines.load::<T, S>(self.y, v, at));
                let [p, q] = s.regroup::<FROM, TO>(self.lines.load::<T, S>(self.g, v, at));
                let mut x = rotated::<T, S>(s, rotation, y, z);
                let mut g = rotated::<T, S>(s, rotation, p, q);
                sums = outer(s, [p, q], x, sums);
                if const { EDGE } {
                    (x, g) = (s.regroup::<TO, NATURAL>(x), s.regroup::<TO, NATURAL>(g));
                }
                self.lines.store::<T, S>(self.y, v, at, x);
                self.lines.store::<T, S>(self.g, v, at, g);
            }
            self.turned.add(s, sums, self.d, start);
        }
    }
}

/// d + g·xᵀ
#[inline(always)]
fn outer<T: Scalar, S: Lanes<T>>(s: S, [p, q]: [S::V; 2], [a, b]: [S::V; 2], d: [S::V; 4]) -> [S::V; 4] {
    [s.mul_add(p, a, d[0]), s.mul_add(p, b, d[1]), s.mul_add(q, a, d[2]), s.mul_add(q, b, d[3])]
}
