//! Lane-major tiles: coordinate i of several vectors is one SIMD row, so any index table runs at full width.
//!
//! Small blocks have their entries and inputs in registers. Others copy their inputs together, and then compute up to four
//! outputs at a time for as many vectors as leave registers free: k by k, each entry is loaded for all those vectors and each
//! input for all those outputs, so the sums never leave the registers. With one lane the "tile" is a vector where it lies.

use alloc::vec;
use core::ops::Range;

use bytemuck::Zeroable;

use super::Step;
use super::sums::{Corner, Sums};
use crate::layout::StageLayout;
use crate::scalar::Scalar;
use crate::simd::Lanes;

/// Work on one block whose coordinates lie in the tile rows `rows`. A trait rather than a closure, so that the body is
/// certainly inlined into the code compiled for the machine.
pub(super) trait Visit<R> {
    fn block(&mut self, j: usize, rows: &R);
}

/// Visits the blocks of the layout. `rows` is as long as a block.
#[inline(always)]
pub(super) fn visit<R: AsMut<[usize]>>(layout: &StageLayout, mut rows: R, visitor: &mut impl Visit<R>) {
    match layout {
        StageLayout::Strided { unit, radix, distance, groups } => {
            for (i, row) in rows.as_mut().iter_mut().enumerate() {
                *row = (i / unit) * distance + i % unit;
            }
            let mut j = 0;
            for _ in 0..*groups {
                for _ in 0..distance / unit {
                    visitor.block(j, &rows);
                    j += 1;
                    rows.as_mut().iter_mut().for_each(|row| *row += unit);
                }
                rows.as_mut().iter_mut().for_each(|row| *row += (radix - 1) * distance);
            }
        }
        StageLayout::Table { block, index } => {
            for (j, run) in index.chunks_exact(*block).enumerate() {
                for (row, i) in rows.as_mut().iter_mut().zip(run) {
                    *row = *i as usize;
                }
                visitor.block(j, &rows);
            }
        }
    }
}

/// tile ← stage(tile), with `registers` vectors `S::V` in each row. `scratch` holds a block of vectors as wide as
/// [`S::QUARTER`](Lanes::QUARTER).
#[inline(always)]
pub(super) fn apply_stage<T: Scalar, S: Lanes<T>>(
    s: S,
    step: &Step<'_, T>,
    tile: &mut [S::V],
    registers: usize,
    scratch: &mut [S::V],
) {
    match step.layout.block_size() {
        1 => visit(step.layout, [0; 1], &mut Small { s, step, tile, registers }),
        2 => visit(step.layout, [0; 2], &mut Small { s, step, tile, registers }),
        3 => visit(step.layout, [0; 3], &mut Small { s, step, tile, registers }),
        4 => visit(step.layout, [0; 4], &mut Small { s, step, tile, registers }),
        8 if S::LANES == 1 => visit(step.layout, [0; 8], &mut Small { s, step, tile, registers }),
        b => visit(step.layout, vec![0; b], &mut Large { s, step, tile, registers, scratch }),
    }
}

/// Blocks whose entries and inputs fit the registers.
struct Small<'a, T, S: Lanes<T>> {
    s: S,
    step: &'a Step<'a, T>,
    tile: &'a mut [S::V],
    registers: usize,
}

impl<T: Scalar, S: Lanes<T>, const B: usize> Visit<[usize; B]> for Small<'_, T, S> {
    #[inline(always)]
    fn block(&mut self, j: usize, rows: &[usize; B]) {
        let (s, registers) = (self.s, self.registers);
        let strides = self.step.strides;
        let stored = &self.step.entries[self.step.start(j)..];
        let mut entries = [[S::V::zeroed(); B]; B];
        // (With one lane they are neighbours in memory, better loaded together as they are used.)
        if S::LANES > 1 {
            for i in 0..B {
                for k in 0..B {
                    entries[i][k] = s.splat(self.step.acting(stored[strides.at(i, k)]));
                }
            }
        }
        for c in 0..registers {
            let mut x = [S::V::zeroed(); B];
            for k in 0..B {
                x[k] = self.tile[rows[k] * registers + c];
            }
            for i in 0..B {
                let mut y = S::V::zeroed();
                for k in 0..B {
                    let entry = match S::LANES > 1 {
                        true => entries[i][k],
                        false => s.splat(self.step.acting(stored[strides.at(i, k)])),
                    };
                    y = if k == 0 { s.mul(entry, x[0]) } else { s.mul_add(entry, x[k], y) };
                }
                self.tile[rows[i] * registers + c] = y;
            }
        }
    }
}

/// Outputs that are computed together, at most.
const OUTPUTS: usize = 4;

/// Blocks of any size.
struct Large<'a, T, S: Lanes<T>> {
    s: S,
    step: &'a Step<'a, T>,
    tile: &'a mut [S::V],
    registers: usize,
    scratch: &'a mut [S::V],
}

impl<T: Scalar, S: Lanes<T>> Visit<vec::Vec<usize>> for Large<'_, T, S> {
    #[inline(always)]
    fn block(&mut self, j: usize, rows: &vec::Vec<usize>) {
        let mut c = 0;
        while c < self.registers {
            c += match S::QUARTER.min(self.registers - c) {
                4.. => self.columns::<4>(j, rows, c),
                2..4 => self.columns::<2>(j, rows, c),
                _ => self.columns::<1>(j, rows, c),
            };
        }
    }
}

impl<T: Scalar, S: Lanes<T>> Large<'_, T, S> {
    /// Block `j` of the vectors in registers `c .. c + C`; returns C.
    #[inline(always)]
    fn columns<const C: usize>(&mut self, j: usize, rows: &[usize], c: usize) -> usize {
        let (b, step, registers) = (rows.len(), self.step, self.registers);
        let entries = &step.entries[step.start(j)..];
        let (x, _) = self.scratch.as_chunks_mut::<C>();
        let x = &mut x[..b];
        for (x, row) in x.iter_mut().zip(rows) {
            x.copy_from_slice(&self.tile[row * registers + c..][..C]);
        }
        let mut first = 0;
        while first < b {
            // Parts as equal as can be.
            let count = (b - first).div_ceil((b - first).div_ceil(OUTPUTS));
            let outputs = first..first + count;
            match count {
                4 => self::outputs::<T, S, 4, C>(self.s, step, entries, x, self.tile, rows, outputs, registers, c),
                3 => self::outputs::<T, S, 3, C>(self.s, step, entries, x, self.tile, rows, outputs, registers, c),
                2 => self::outputs::<T, S, 2, C>(self.s, step, entries, x, self.tile, rows, outputs, registers, c),
                _ => self::outputs::<T, S, 1, C>(self.s, step, entries, x, self.tile, rows, outputs, registers, c),
            }
            first += count;
        }
        C
    }
}

/// O outputs of a block for the vectors of C registers.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a block and where its outputs go
fn outputs<T: Scalar, S: Lanes<T>, const O: usize, const C: usize>(
    s: S,
    step: &Step<'_, T>,
    entries: &[T],
    x: &[[S::V; C]],
    tile: &mut [S::V],
    rows: &[usize],
    outputs: Range<usize>,
    registers: usize,
    c: usize,
) {
    let entries = &entries[step.strides.at(outputs.start, 0)..];
    let (row, column) = (step.strides.at(1, 0), step.strides.at(0, 1));
    let rows = &rows[outputs];
    let mut y = [[S::V::zeroed(); C]; O];
    for (k, x) in x.iter().enumerate() {
        for o in 0..O {
            let entry = s.splat(step.acting(entries[o * row + k * column]));
            for c in 0..C {
                y[o][c] = if k == 0 { s.mul(entry, x[c]) } else { s.mul_add(entry, x[c], y[o][c]) };
            }
        }
    }
    for o in 0..O {
        tile[rows[o] * registers + c..][..C].copy_from_slice(&y[o]);
    }
}

/// tile += stage(x), on the coordinates that the stage names.
#[inline(always)]
pub(super) fn add_stage<T: Scalar, S: Lanes<T>>(
    s: S,
    step: &Step<'_, T>,
    x: &[S::V],
    tile: &mut [S::V],
    registers: usize,
) {
    visit(step.layout, vec![0; step.layout.block_size()], &mut Add { s, step, x, tile, registers });
}

struct Add<'a, T, S: Lanes<T>> {
    s: S,
    step: &'a Step<'a, T>,
    x: &'a [S::V],
    tile: &'a mut [S::V],
    registers: usize,
}

impl<T: Scalar, S: Lanes<T>> Visit<vec::Vec<usize>> for Add<'_, T, S> {
    #[inline(always)]
    fn block(&mut self, j: usize, rows: &vec::Vec<usize>) {
        let (s, step, registers) = (self.s, self.step, self.registers);
        let entries = &step.entries[step.start(j)..];
        for (i, to) in rows.iter().enumerate() {
            for c in 0..registers {
                let mut sum = self.tile[to * registers + c];
                for (k, from) in rows.iter().enumerate() {
                    let entry = step.acting(entries[step.strides.at(i, k)]);
                    sum = s.mul_add(s.splat(entry), self.x[from * registers + c], sum);
                }
                self.tile[to * registers + c] = sum;
            }
        }
    }
}

/// [`outer_stage`] for a stage of pairs, whose entries and sums fit the registers together, and g ← the adjoint stage(g).
#[inline(always)]
pub(super) fn back_pairs<T: Scalar, S: Lanes<T>>(
    s: S,
    step: &Step<'_, T>,
    g: &mut [S::V],
    x: &[S::V],
    registers: usize,
    d: &mut [T],
) {
    let mut pairs = Pairs { s, step, back: step.adjoint(), g, x, registers, sums: Sums::new(s, d) };
    visit(step.layout, [0; 2], &mut pairs);
    pairs.sums.flush(step);
}

struct Pairs<'a, T: Scalar, S: Lanes<T>> {
    s: S,
    step: &'a Step<'a, T>,
    /// Its adjoint.
    back: Step<'a, T>,
    g: &'a mut [S::V],
    x: &'a [S::V],
    registers: usize,
    sums: Sums<'a, T, S>,
}

impl<T: Scalar, S: Lanes<T>> Visit<[usize; 2]> for Pairs<'_, T, S> {
    #[inline(always)]
    fn block(&mut self, j: usize, rows: &[usize; 2]) {
        let (s, registers, start) = (self.s, self.registers, self.step.start(j));
        let [a, b] = rows.map(|row| row * registers);
        let at = |step: &Step<'_, T>, i: usize, k: usize| start + step.strides.at(i, k);
        let (mut entries, mut sums) = ([[S::V::zeroed(); 2]; 2], [[S::V::zeroed(); 2]; 2]);
        for (i, row) in entries.iter_mut().enumerate() {
            for (k, entry) in row.iter_mut().enumerate() {
                *entry = s.splat(self.back.acting(self.back.entries[at(&self.back, i, k)]));
            }
        }
        for c in 0..registers {
            let (g, x) = ([self.g[a + c], self.g[b + c]], [s.conj(self.x[a + c]), s.conj(self.x[b + c])]);
            for i in 0..2 {
                for k in 0..2 {
                    sums[i][k] = s.mul_add(x[k], g[i], sums[i][k]);
                }
            }
            self.g[a + c] = s.mul_add(entries[0][1], g[1], s.mul(entries[0][0], g[0]));
            self.g[b + c] = s.mul_add(entries[1][1], g[1], s.mul(entries[1][0], g[0]));
        }
        self.sums.push_block(self.step, &sums, Corner { start, i: 0, k: 0 });
    }
}

/// Adds Σ over the tile's vectors of g_i·x̄_k (its conjugate where the step conjugates) to entry (i, k) of each block's
/// gradient, at the step's strides.
#[inline(always)]
pub(super) fn outer_stage<T, S>(s: S, step: &Step<'_, T>, g: &[S::V], x: &[S::V], registers: usize, d: &mut [T])
where
    T: Scalar,
    S: Lanes<T>,
{
    let mut outer = Outer { s, step, g, x, registers, sums: Sums::new(s, d) };
    visit(step.layout, vec![0; step.layout.block_size()], &mut outer);
    outer.sums.flush(step);
}

struct Outer<'a, T: Scalar, S: Lanes<T>> {
    s: S,
    step: &'a Step<'a, T>,
    g: &'a [S::V],
    x: &'a [S::V],
    registers: usize,
    sums: Sums<'a, T, S>,
}

impl<T: Scalar, S: Lanes<T>> Visit<vec::Vec<usize>> for Outer<'_, T, S> {
    #[inline(always)]
    fn block(&mut self, j: usize, rows: &vec::Vec<usize>) {
        let start = self.step.start(j);
        for i in (0..rows.len()).step_by(S::QUARTER) {
            for k in (0..rows.len()).step_by(OUTPUTS) {
                let (gs, xs) = (&rows[i..(i + S::QUARTER).min(rows.len())], &rows[k..(k + OUTPUTS).min(rows.len())]);
                let at = Corner { start, i, k };
                match gs.len() {
                    4.. => self.widths::<4>(gs, xs, at),
                    3 => self.widths::<3>(gs, xs, at),
                    2 => self.widths::<2>(gs, xs, at),
                    _ => self.widths::<1>(gs, xs, at),
                }
            }
        }
    }
}

impl<T: Scalar, S: Lanes<T>> Outer<'_, T, S> {
    #[inline(always)]
    fn widths<const I: usize>(&mut self, g: &[usize], x: &[usize], at: Corner) {
        match x.len() {
            4.. => self.products::<I, 4>(g, x, at),
            3 => self.products::<I, 3>(g, x, at),
            2 => self.products::<I, 2>(g, x, at),
            _ => self.products::<I, 1>(g, x, at),
        }
    }

    /// I × K entries of a block, from `at` on.
    #[inline(always)]
    fn products<const I: usize, const K: usize>(&mut self, g: &[usize], x: &[usize], at: Corner) {
        let (s, registers) = (self.s, self.registers);
        let mut sums = [[S::V::zeroed(); K]; I];
        for c in 0..registers {
            let mut xs = [S::V::zeroed(); K];
            for k in 0..K {
                xs[k] = s.conj(self.x[x[k] * registers + c]);
            }
            for i in 0..I {
                let g = self.g[g[i] * registers + c];
                for k in 0..K {
                    sums[i][k] = s.mul_add(xs[k], g, sums[i][k]);
                }
            }
        }
        self.sums.push_block(self.step, &sums, at);
    }
}
