//! One stage of large blocks over several vectors, forward and backward, block by block.
//!
//! Columns of a block are read once for as many vectors as fit the registers. Rows of larger blocks are first put together, some at a
//! time, and those of transposed blocks made from columns. Blocks of no more rows than are computed together work in place; the inputs of others are copied first.

use alloc::vec;
use alloc::vec::Vec;

use bytemuck::Zeroable;

use super::product::{RUN, Runs, add_outer, times};
use crate::kernel::Step;
use crate::kernel::ahead::Ahead;
use crate::kernel::tile::{Visit, visit};
use crate::layout::StageLayout;
use crate::scalar::Scalar;
use crate::simd::{Lanes, load, store, transposed};

/// Registers of rows that are computed together, if those are no less than a run.
const ROWS: usize = 2;

/// Vectors that are computed together, at most.
const TOGETHER: usize = 12;

/// Lanes of any machine, at most.
const MOST_LANES: usize = 16;

/// Numbers of scratch for a stage over that many vectors.
pub(super) fn scratch<T: Scalar>(b: usize, vectors: usize) -> usize {
    let (inputs, rows) = (b * vectors, ROWS * T::WIDTH);
    inputs + rows * (b + TOGETHER.max(vectors))
}

/// Several vectors, RUN coordinates at a time: first those of all vectors, one vector after the other, then the next.
pub(super) struct Vectors<'a, T> {
    pub(super) numbers: &'a mut [T],
    pub(super) count: usize,
}

impl<T: Copy> Vectors<'_, T> {
    pub(super) fn reborrow(&mut self) -> Vectors<'_, T> {
        Vectors { numbers: self.numbers, count: self.count }
    }

    /// Where coordinate `i` of vector `v` is.
    #[inline(always)]
    fn at(&self, i: usize, v: usize) -> usize {
        (i / RUN * self.count + v) * RUN + i % RUN
    }

    /// Vector v ← row.
    #[inline(always)]
    pub(super) fn put(&mut self, v: usize, row: &[T]) {
        let (runs, rest) = row.as_chunks::<RUN>();
        let to = &mut self.numbers.as_chunks_mut::<RUN>().0[v..];
        for (run, to) in runs.iter().zip(to.iter_mut().step_by(self.count)) {
            *to = *run;
        }
        if let Some(to) = to.get_mut(runs.len() * self.count).filter(|_| !rest.is_empty()) {
            to[..rest.len()].copy_from_slice(rest);
        }
    }

    /// row ← vector v.
    #[inline(always)]
    pub(super) fn get(&self, v: usize, row: &mut [T]) {
        let (runs, rest) = row.as_chunks_mut::<RUN>();
        let from = &self.numbers.as_chunks::<RUN>().0[v..];
        for (run, from) in runs.iter_mut().zip(from.iter().step_by(self.count)) {
            *run = *from;
        }
        if let Some(from) = from.get(runs.len() * self.count).filter(|_| !rest.is_empty()) {
            rest.copy_from_slice(&from[..rest.len()]);
        }
    }
}

/// vectors ← stage(vectors).
#[inline(always)]
pub(super) fn apply<T: Scalar, S: Lanes<T>>(
    s: S,
    step: &Step<'_, T>,
    vectors: Vectors<'_, T>,
    scratch: &mut [T],
    ahead: &mut Ahead,
) {
    visit(step.layout, vec![0; step.layout.block_size()], &mut Apply::new(s, step, vectors, scratch, ahead));
}

/// d += the gradient of the stage's entries, where `x` is its input; g ← stageᵀ(g).
#[inline(always)]
pub(super) fn back<T: Scalar, S: Lanes<T>>(
    s: S,
    step: &Step<'_, T>,
    x: Vectors<'_, T>,
    g: Vectors<'_, T>,
    d: &mut [T],
    scratch: &mut [T],
    ahead: &mut Ahead,
) {
    let back = step.transposed();
    let apply = Apply::new(s, &back, g, scratch, ahead);
    visit(step.layout, vec![0; step.layout.block_size()], &mut Back { apply, step, x, d });
}

/// Neighbouring coordinates of a block.
pub(super) fn run_length(layout: &StageLayout) -> usize {
    match *layout {
        // As windows have blocks of neighbours, too.
        StageLayout::Strided { unit, radix, distance, .. } if distance == unit => radix * unit,
        StageLayout::Strided { unit, .. } => unit,
        StageLayout::Table { .. } => 1,
    }
}

struct Apply<'a, T, S> {
    s: S,
    step: &'a Step<'a, T>,
    vectors: Vectors<'a, T>,
    /// Where the runs of a block are, if its coordinates are whole runs.
    starts: Option<Vec<usize>>,
    /// Where they are copied to.
    copies: Vec<usize>,
    inputs: &'a mut [T],
    /// Some rows of some vectors.
    outputs: &'a mut [T],
    /// Some rows of a block, column by column.
    columns: &'a mut [T],
    ahead: &'a mut Ahead,
}

impl<T: Scalar, S: Lanes<T>> Visit<Vec<usize>> for Apply<'_, T, S> {
    #[inline(always)]
    fn block(&mut self, j: usize, rows: &Vec<usize>) {
        let in_place = self.find(rows);
        self.outputs(j, rows, in_place);
    }
}

impl<'a, T: Scalar, S: Lanes<T>> Apply<'a, T, S> {
    #[inline(always)]
    fn new(s: S, step: &'a Step<'a, T>, vectors: Vectors<'a, T>, scratch: &'a mut [T], ahead: &'a mut Ahead) -> Self {
        let b = step.layout.block_size();
        let starts = run_length(step.layout).is_multiple_of(RUN).then(|| vec![0; b / RUN]);
        let copies = (0..b / RUN).map(|p| p * RUN * vectors.count).collect();
        let (inputs, scratch) = scratch.split_at_mut(b * vectors.count);
        let (outputs, columns) = scratch.split_at_mut(ROWS * T::WIDTH * TOGETHER.max(vectors.count));
        Self { s, step, vectors, starts, copies, inputs, outputs, columns, ahead }
    }

    /// Finds the inputs of a block, and copies them unless it works in place.
    #[inline(always)]
    fn find(&mut self, rows: &[usize]) -> bool {
        let count = self.vectors.count;
        let Some(starts) = &mut self.starts else {
            for (rows, inputs) in rows.chunks_exact(RUN).zip(self.inputs.chunks_exact_mut(RUN * count)) {
                for (v, to) in inputs.chunks_exact_mut(RUN).enumerate() {
                    rows.iter().zip(to).for_each(|(row, to)| *to = self.vectors.numbers[self.vectors.at(*row, v)]);
                }
            }
            return false;
        };
        for (start, rows) in starts.iter_mut().zip(rows.chunks_exact(RUN)) {
            *start = rows[0] * count;
        }
        if rows.len() <= ROWS * S::LANES {
            return true;
        }
        for (start, inputs) in starts.iter().zip(self.inputs.chunks_exact_mut(RUN * count)) {
            inputs.copy_from_slice(&self.vectors.numbers[*start..][..RUN * count]);
        }
        false
    }

    /// The outputs of block `j` from its inputs.
    #[inline(always)]
    fn outputs(&mut self, j: usize, rows: &[usize], in_place: bool) {
        let mut row = 0;
        while row < rows.len() {
            row += match rows.len() - row {
                _ if const { ROWS * S::LANES < RUN } => self.registers::<4>(j, rows, row, in_place),
                left if left >= ROWS * S::LANES => self.registers::<ROWS>(j, rows, row, in_place),
                _ => self.registers::<1>(j, rows, row, in_place),
            };
        }
    }

    /// R registers of rows, of all vectors; returns how many rows that are.
    #[inline(always)]
    fn registers<const R: usize>(&mut self, j: usize, rows: &[usize], row: usize, in_place: bool) -> usize {
        let (s, step, b, count) = (self.s, self.step, rows.len(), self.vectors.count);
        let block = &step.entries[step.start(j)..][..b * b];
        let transposed = step.strides.at(1, 0) != 1;
        let columns = if !transposed && b == R * S::LANES {
            block
        } else {
            let columns = &mut self.columns[..b * R * S::LANES];
            match transposed {
                true => turn::<T, S, R>(s, &block[row * b..], b, columns),
                false => copy::<T, S, R>(&block[row..], b, columns),
            }
            columns
        };
        let rows = &rows[row..][..R * S::LANES];
        let mut v = 0;
        while v < count {
            let x = match &self.starts {
                Some(starts) if in_place => Runs { numbers: &*self.vectors.numbers, starts },
                _ => Runs { numbers: &*self.inputs, starts: &self.copies },
            };
            macro_rules! some {
                ($count:literal) => {{
                    times::<T, S, R, $count>(s, columns, x, v, self.outputs);
                    $count
                }};
            }
            // Sums in three quarters of the machine's registers.
            let some = match count - v {
                12.. if const { 4 * 12 * R <= 3 * S::REGISTERS } => some!(12),
                6.. if const { 4 * 6 * R <= 3 * S::REGISTERS } => some!(6),
                4.. if const { 4 * 4 * R <= 3 * S::REGISTERS } => some!(4),
                2.. => some!(2),
                _ => some!(1),
            };
            let outputs = self.outputs.chunks_exact(RUN);
            match &self.starts {
                Some(starts) => {
                    let runs = rows.len() / RUN;
                    for (q, start) in starts[row / RUN..][..runs].iter().enumerate() {
                        let to = self.vectors.numbers[start + v * RUN..].as_chunks_mut::<RUN>().0;
                        for (to, y) in to.iter_mut().zip(outputs.clone().skip(q).step_by(runs)).take(some) {
                            to.copy_from_slice(y);
                        }
                    }
                }
                None => {
                    for (y, v) in self.outputs.chunks_exact(rows.len()).zip(v..v + some) {
                        for (row, y) in rows.iter().zip(y) {
                            let at = self.vectors.at(*row, v);
                            self.vectors.numbers[at] = *y;
                        }
                    }
                }
            }
            v += some;
            self.ahead.ask(self.ahead.lines(some * R * size_of::<S::V>()));
        }
        rows.len()
    }
}

/// R registers of rows, column by column; they begin here, columns one every `b` numbers.
#[inline(always)]
fn copy<T: Scalar, S: Lanes<T>, const R: usize>(block: &[T], b: usize, columns: &mut [T]) {
    for (column, to) in block.chunks(b).zip(columns.chunks_exact_mut(R * S::LANES)) {
        for r in 0..R {
            store::<T, S>(&mut to[r * S::LANES..], load::<T, S>(&column[r * S::LANES..]));
        }
    }
}

/// R registers of rows of the transposed block, whose columns begin here, column by column.
#[inline(always)]
fn turn<T: Scalar, S: Lanes<T>, const R: usize>(s: S, block: &[T], b: usize, columns: &mut [T]) {
    for k in (0..b).step_by(S::LANES) {
        for r in 0..R {
            let mut square = [S::V::zeroed(); MOST_LANES];
            for l in 0..S::LANES {
                square[l] = load::<T, S>(&block[(r * S::LANES + l) * b + k..]);
            }
            let square = transposed(s, square);
            for l in 0..S::LANES {
                store::<T, S>(&mut columns[((k + l) * R + r) * S::LANES..], square[l]);
            }
        }
    }
}

struct Back<'a, T, S> {
    /// The transposed stage over the cotangents.
    apply: Apply<'a, T, S>,
    step: &'a Step<'a, T>,
    x: Vectors<'a, T>,
    d: &'a mut [T],
}

impl<T: Scalar, S: Lanes<T>> Visit<Vec<usize>> for Back<'_, T, S> {
    #[inline(always)]
    fn block(&mut self, j: usize, rows: &Vec<usize>) {
        let b = rows.len();
        let in_place = self.apply.find(rows);
        let d = &mut self.d[self.step.start(j)..][..b * b];
        // Of a block that acts transposed, rows of the stored one are inputs.
        let (left, right) = match self.step.strides.at(1, 0) == 1 {
            true => (&*self.apply.vectors.numbers, &*self.x.numbers),
            false => (&*self.x.numbers, &*self.apply.vectors.numbers),
        };
        match &self.apply.starts {
            Some(starts) => {
                let (left, right) = (Runs { numbers: left, starts }, Runs { numbers: right, starts });
                outer(self.apply.s, left, right, self.x.count, self.apply.outputs, d);
            }
            // Stages of single coordinates go backwards in tiles: what would be left out here must not be left out silently.
            None => {
                for (column, k) in d.chunks_exact_mut(b).zip(rows) {
                    for (d, i) in column.iter_mut().zip(rows) {
                        for v in 0..self.x.count {
                            *d += left[self.x.at(*i, v)] * right[self.x.at(*k, v)];
                        }
                    }
                }
            }
        }
        self.apply.outputs(j, rows, in_place);
    }
}

/// d, columns of a block, += Σ g xᵀ; `rows` has place for those of all vectors that are added together.
#[inline(always)]
fn outer<T: Scalar, S: Lanes<T>>(s: S, g: Runs<'_, T>, x: Runs<'_, T>, count: usize, rows: &mut [T], d: &mut [T]) {
    let b = x.starts.len() * RUN;
    let mut row = 0;
    while row < b {
        let registers = match b - row {
            _ if const { ROWS * S::LANES < RUN } => 4,
            left if left >= ROWS * S::LANES => ROWS,
            _ => 1,
        };
        let len = registers * S::LANES;
        let rows = &mut rows[..len * count];
        for (q, start) in g.starts[row / RUN..][..len / RUN].iter().enumerate() {
            let (runs, _) = g.numbers[*start..][..count * RUN].as_chunks::<RUN>();
            for (g, to) in runs.iter().zip(rows.chunks_exact_mut(len)) {
                to[q * RUN..][..RUN].copy_from_slice(g);
            }
        }
        for (p, start) in x.starts.iter().enumerate() {
            let (run, _) = x.numbers[*start..][..count * RUN].as_chunks::<RUN>();
            macro_rules! add {
                ($together:literal) => {
                    for k in (0..RUN).step_by($together) {
                        let d = &mut d[(p * RUN + k) * b + row..];
                        match registers {
                            4 if const { ROWS * S::LANES < RUN } => {
                                add_outer::<T, S, 4, $together>(s, rows, run, k, d, b)
                            }
                            ROWS => add_outer::<T, S, ROWS, $together>(s, rows, run, k, d, b),
                            _ => add_outer::<T, S, 1, $together>(s, rows, run, k, d, b),
                        }
                    }
                };
            }
            // As many columns as leave registers for rows and numbers.
            if const { S::REGISTERS >= 32 } {
                add!(8);
            } else {
                add!(4);
            }
        }
        row += len;
    }
}
