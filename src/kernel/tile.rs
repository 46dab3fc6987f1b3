//! Lane-major tiles: coordinate i of several vectors is one SIMD row, so any index table runs at full width.
//!
//! Blocks of common sizes are compiled with their inputs in registers; any other size goes through a scratch copy of its
//! inputs, four outputs at a time. With one lane the "tile" is a vector where it lies.

use alloc::vec;

use bytemuck::Zeroable;

use super::Step;
use crate::layout::StageLayout;
use crate::scalar::Scalar;
use crate::simd::Lanes;

/// Work on one block whose coordinates lie in the tile rows `rows`. A trait rather than a closure, so that the body is
/// certainly inlined into the code compiled for the machine.
trait Visit<const B: usize> {
    fn block(&mut self, j: usize, rows: [usize; B]);
}

#[inline(always)]
fn visit<const B: usize>(layout: &StageLayout, visitor: &mut impl Visit<B>) {
    match layout {
        StageLayout::Strided { unit, radix, distance, groups } => {
            let mut offsets = [0; B];
            for (i, offset) in offsets.iter_mut().enumerate() {
                *offset = (i / unit) * distance + i % unit;
            }
            let mut j = 0;
            for g in 0..*groups {
                for q in 0..distance / unit {
                    let mut rows = offsets;
                    for row in &mut rows {
                        *row += g * radix * distance + q * unit;
                    }
                    visitor.block(j, rows);
                    j += 1;
                }
            }
        }
        StageLayout::Table { index, .. } => {
            for (j, run) in index.chunks_exact(B).enumerate() {
                let mut rows = [0; B];
                for (row, i) in rows.iter_mut().zip(run) {
                    *row = *i as usize;
                }
                visitor.block(j, rows);
            }
        }
    }
}

/// tile ← stage(tile), with `registers` vectors `S::V` in each row. `scratch` holds at least a block size of vectors.
#[inline(always)]
pub(super) fn apply_stage<T: Scalar, S: Lanes<T>>(
    s: S,
    step: &Step<'_, T>,
    tile: &mut [S::V],
    registers: usize,
    scratch: &mut [S::V],
) {
    match step.layout.block_size() {
        1 => visit::<1>(step.layout, &mut Apply { s, step, tile, registers }),
        2 => visit::<2>(step.layout, &mut Apply { s, step, tile, registers }),
        3 => visit::<3>(step.layout, &mut Apply { s, step, tile, registers }),
        4 => visit::<4>(step.layout, &mut Apply { s, step, tile, registers }),
        6 => visit::<6>(step.layout, &mut Apply { s, step, tile, registers }),
        8 => visit::<8>(step.layout, &mut Apply { s, step, tile, registers }),
        16 => visit::<16>(step.layout, &mut Apply { s, step, tile, registers }),
        b => apply_any(s, step, tile, registers, &mut scratch[..b], &mut vec![0; b]),
    }
}

/// Largest blocks whose entries are kept in registers. (With one lane they are neighbours in memory, better loaded together.)
const MOST_KEPT: usize = 4;

struct Apply<'a, T, S: Lanes<T>> {
    s: S,
    step: &'a Step<'a, T>,
    tile: &'a mut [S::V],
    registers: usize,
}

impl<T: Scalar, S: Lanes<T>, const B: usize> Visit<B> for Apply<'_, T, S> {
    #[inline(always)]
    fn block(&mut self, j: usize, rows: [usize; B]) {
        let (s, registers) = (self.s, self.registers);
        let (row, column) = (self.step.strides.row, self.step.strides.column);
        let stored = &self.step.entries[self.step.start(j)..];
        // Entries of small blocks stay in registers, those of large ones come from memory as they are used.
        let mut kept = [[S::V::zeroed(); B]; B];
        if B <= MOST_KEPT && S::LANES > 1 {
            for i in 0..B {
                for k in 0..B {
                    kept[i][k] = s.splat(self.step.acting(stored[i * row + k * column]));
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
                    let entry = match B <= MOST_KEPT && S::LANES > 1 {
                        true => kept[i][k],
                        false => s.splat(self.step.acting(stored[i * row + k * column])),
                    };
                    y = if k == 0 { s.mul(entry, x[0]) } else { s.mul_add(entry, x[k], y) };
                }
                self.tile[rows[i] * registers + c] = y;
            }
        }
    }
}

#[inline(always)]
fn apply_any<T: Scalar, S: Lanes<T>>(
    s: S,
    step: &Step<'_, T>,
    tile: &mut [S::V],
    registers: usize,
    x: &mut [S::V],
    rows: &mut [usize],
) {
    const OUTPUTS: usize = 4;
    let b = x.len();
    let (row, column) = (step.strides.row, step.strides.column);
    for j in 0..step.layout.num_blocks() {
        let entries = &step.entries[step.start(j)..];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = step.layout.index(j, i) * registers;
        }
        for c in 0..registers {
            for (x, row) in x.iter_mut().zip(&*rows) {
                *x = tile[row + c];
            }
            for i in (0..b).step_by(OUTPUTS) {
                // The last round repeats output b − 1 where b is not a multiple: same inputs, same bits.
                let mut starts = [0; OUTPUTS];
                for (o, start) in starts.iter_mut().enumerate() {
                    *start = (i + o).min(b - 1) * row;
                }
                let mut y = [S::V::zeroed(); OUTPUTS];
                for o in 0..OUTPUTS {
                    y[o] = s.mul(s.splat(step.acting(entries[starts[o]])), x[0]);
                }
                for (k, x) in x.iter().enumerate().skip(1) {
                    for o in 0..OUTPUTS {
                        y[o] = s.mul_add(s.splat(step.acting(entries[starts[o] + k * column])), *x, y[o]);
                    }
                }
                for (y, row) in y.iter().zip(&rows[i..]) {
                    tile[row + c] = *y;
                }
            }
        }
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
    let b = step.layout.block_size();
    let (row, column) = (step.strides.row, step.strides.column);
    let mut rows = vec![0; b];
    for j in 0..step.layout.num_blocks() {
        let entries = &step.entries[step.start(j)..];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = step.layout.index(j, i) * registers;
        }
        for (i, &to) in rows.iter().enumerate() {
            for c in 0..registers {
                let mut sum = tile[to + c];
                for (k, &from) in rows.iter().enumerate() {
                    sum = s.mul_add(s.splat(step.acting(entries[i * row + k * column])), x[from + c], sum);
                }
                tile[to + c] = sum;
            }
        }
    }
}

/// Adds Σ over the tile's vectors of g_i·x̄_k (its conjugate where the step conjugates) to entry (i, k) of each block's gradient, at the step's strides.
#[inline(always)]
pub(super) fn outer_stage<T, S>(s: S, step: &Step<'_, T>, g: &[S::V], x: &[S::V], registers: usize, d: &mut [T])
where
    T: Scalar,
    S: Lanes<T>,
{
    match step.layout.block_size() {
        1 => visit::<1>(step.layout, &mut Outer { s, step, g, x, registers, d }),
        2 => visit::<2>(step.layout, &mut Outer { s, step, g, x, registers, d }),
        3 => visit::<3>(step.layout, &mut Outer { s, step, g, x, registers, d }),
        4 => visit::<4>(step.layout, &mut Outer { s, step, g, x, registers, d }),
        6 => visit::<6>(step.layout, &mut Outer { s, step, g, x, registers, d }),
        8 => visit::<8>(step.layout, &mut Outer { s, step, g, x, registers, d }),
        b => outer_any(s, step, g, x, registers, d, &mut vec![0; b]),
    }
}

#[inline(always)]
fn outer_any<T, S>(s: S, step: &Step<'_, T>, g: &[S::V], x: &[S::V], registers: usize, d: &mut [T], rows: &mut [usize])
where
    T: Scalar,
    S: Lanes<T>,
{
    for j in 0..step.layout.num_blocks() {
        for (i, row) in rows.iter_mut().enumerate() {
            *row = step.layout.index(j, i) * registers;
        }
        let d = &mut d[step.start(j)..];
        for (i, &gi) in rows.iter().enumerate() {
            for (k, &xk) in rows.iter().enumerate() {
                let mut sum = s.mul(s.conj(x[xk]), g[gi]);
                for c in 1..registers {
                    sum = s.mul_add(s.conj(x[xk + c]), g[gi + c], sum);
                }
                d[i * step.strides.row + k * step.strides.column] += step.acting(s.sum(sum));
            }
        }
    }
}

struct Outer<'a, T, S: Lanes<T>> {
    s: S,
    step: &'a Step<'a, T>,
    g: &'a [S::V],
    x: &'a [S::V],
    registers: usize,
    d: &'a mut [T],
}

impl<T: Scalar, S: Lanes<T>, const B: usize> Visit<B> for Outer<'_, T, S> {
    #[inline(always)]
    fn block(&mut self, j: usize, rows: [usize; B]) {
        let (s, registers) = (self.s, self.registers);
        let d = &mut self.d[self.step.start(j)..];
        for i in 0..B {
            let mut sums = [S::V::zeroed(); B];
            for c in 0..registers {
                let g = self.g[rows[i] * registers + c];
                for k in 0..B {
                    sums[k] = s.mul_add(s.conj(self.x[rows[k] * registers + c]), g, sums[k]);
                }
            }
            for k in 0..B {
                d[i * self.step.strides.row + k * self.step.strides.column] += self.step.acting(s.sum(sums[k]));
            }
        }
    }
}
