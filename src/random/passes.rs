//! One block of a rotation: signs, sums and differences within units, signs, sums and differences of units.
//!
//! The lanes are neighbouring coordinates of a unit, C registers. R registers are held at a time and go through all stages that
//! mix only them; the other stages of units take 2, 4 or 8 registers at a time. Stages of a unit's registers and of units are
//! the same: sums and differences of registers 1, 2, 4, … apart, with the signs between where the distance is C.
//!
//! Multiplications are by ±1 or, first of all, by ± the block's scale. Those by ±1 are exact, so that a ± b is the same number
//! whether it comes from an addition, a subtraction or a multiply-add, fused or not: all machines agree to the last bit.
//!
//! What must be done at least: with L = 16 lanes and blocks of 256 coordinates, 8 additions for each number of a round. Shuffles
//! (4), the scale (1) and the signs between (½) compete with them for the same two ports: 13½ where 8 are the limit, 1.7 of it.

use bytemuck::{Pod, Zeroable};

use super::wiring::{Shape, UNIT};
use crate::batch::BatchMut;
use crate::scalar::Scalar;
use crate::simd::{Isa, Job, Lanes, dispatch, lanes};

/// The body for every number below a constant, written out, so that arrays indexed by it are registers.
macro_rules! unrolled {
    ($i:ident < $count:ident, $body:block) => { unrolled!(@ $i < $count, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15) };
    (@ $i:ident < $count:ident, $body:block, $($number:literal)*) => {
        $(if const { $number < $count } {
            let $i = $number;
            $body
        })*
    };
}

/// The machine for units of that length where `isa` is wanted, and its lanes. A register must not be longer than a unit, so it may be a
/// narrower one, which every CPU with the wider one has; `None` if there is none.
pub(super) fn machine<T: Scalar>(isa: Isa, unit: usize) -> Option<(Isa, usize)> {
    let candidates: &[Isa] = match isa {
        Isa::Avx512 => &[Isa::Avx512, Isa::Avx2, Isa::Portable],
        Isa::Avx2 => &[Isa::Avx2, Isa::Portable],
        _ => &[isa],
    };
    candidates.iter().map(|isa| (*isa, lanes::<T>(*isa))).find(|(_, lanes)| *lanes <= unit)
}

/// All rounds as numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounds<'a, T> {
    pub(super) shape: Shape,
    /// What [`machine`] says.
    pub(super) machine: Option<(Isa, usize)>,
    /// Where the registers of all blocks start; units, if there is no machine.
    pub(super) starts: &'a [u32],
    /// For every block its scale with the signs before, then the signs between.
    pub(super) signs: &'a [T],
}

/// Vectors of a batch of rows, turned or turned back where they lie.
pub(super) fn run<T: Scalar>(rounds: Rounds<'_, T>, y: &mut BatchMut<'_, T>, back: bool) {
    match rounds.machine {
        Some((isa, _)) => dispatch(isa, Run { rounds, y, back }),
        None => {
            for v in 0..y.batch() {
                let Some(row) = y.row_mut(v) else { return };
                rounds.blocks(back, |starts, before, between| {
                    plainly(rounds.shape.unit, starts, before, between, row, back);
                });
            }
        }
    }
}

impl<T: Scalar> Rounds<'_, T> {
    /// Starts, signs before and between of every block, the last one first if `back`.
    #[inline(always)]
    fn blocks(&self, back: bool, mut block: impl FnMut(&[u32], &[T], &[T])) {
        let numbers = 2 * self.shape.block;
        let count = self.signs.len() / numbers;
        let registers = self.starts.len() / count.max(1);
        for b in 0..count {
            let b = if back { count - 1 - b } else { b };
            let (before, between) = self.signs[b * numbers..][..numbers].split_at(numbers / 2);
            block(&self.starts[b * registers..][..registers], before, between);
        }
    }
}

struct Run<'a, 'b, T> {
    rounds: Rounds<'a, T>,
    y: &'a mut BatchMut<'b, T>,
    back: bool,
}

impl<T: Scalar> Job<T> for Run<'_, '_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        if const { T::IS_COMPLEX } {
            return; // rotations are real
        }
        let Self { rounds, y, back } = self;
        let numbers = 2 * rounds.shape.block;
        let count = rounds.signs.len() / numbers;
        let registers = rounds.starts.len() / count.max(1);
        // Block by block over several vectors: one does not wait for another, nor does a core that looks ahead.
        let (batch, together) = (y.batch(), (TOGETHER / rounds.shape.n).max(1));
        for first in (0..batch).step_by(together) {
            for b in 0..count {
                let b = if back { count - 1 - b } else { b };
                let starts = &rounds.starts[b * registers..][..registers];
                let signs = &rounds.signs[b * numbers..][..numbers];
                for v in first..batch.min(first + together) {
                    let Some(row) = y.row_mut(v) else { return };
                    // No closures: they may be compiled without the machine's features.
                    match rounds.shape.unit / S::LANES {
                        1 => block::<T, S, 1>(s, starts, signs, row, back),
                        2 if const { 2 * S::LANES <= UNIT } => block::<T, S, 2>(s, starts, signs, row, back),
                        4 if const { 4 * S::LANES <= UNIT } => block::<T, S, 4>(s, starts, signs, row, back),
                        8 if const { 8 * S::LANES <= UNIT } => block::<T, S, 8>(s, starts, signs, row, back),
                        _ => unreachable!("units of 1 to 8 registers"),
                    }
                }
            }
        }
    }
}

/// Numbers of vectors that go through the blocks together: half of the nearest cache, for `f32`.
const TOGETHER: usize = 1 << 12;

/// One block. Blocks have at least four units, and more only if units are of full length.
#[inline(always)]
fn block<T: Scalar, S: Lanes<T>, const C: usize>(s: S, starts: &[u32], signs: &[T], row: &mut [T], back: bool) {
    let together = (const { if S::REGISTERS / 2 < 16 { S::REGISTERS / 2 } else { 16 } }).min(starts.len());
    if back {
        far::<T, S>(s, starts, together, row, true);
    }
    match together {
        4 if const { comes(4, C, S::LANES, S::REGISTERS) } => near::<T, S, C, 4>(s, starts, signs, row, back),
        8 if const { comes(8, C, S::LANES, S::REGISTERS) } => near::<T, S, C, 8>(s, starts, signs, row, back),
        16 if const { comes(16, C, S::LANES, S::REGISTERS) } => near::<T, S, C, 16>(s, starts, signs, row, back),
        _ => unreachable!("groups of 4, 8 or 16 registers"),
    }
    if !back {
        far::<T, S>(s, starts, together, row, false);
    }
}

/// Whether groups of so many registers can come with units of `c` registers: others are not compiled.
const fn comes(group: usize, c: usize, lanes: usize, registers: usize) -> bool {
    match group {
        4 => c == 1,
        8 => c >= 2 || lanes == UNIT,
        _ => registers >= 32 && (c >= 4 || c * lanes == UNIT),
    }
}

/// Stages of registers `first` and more apart.
#[inline(always)]
fn far<T: Scalar, S: Lanes<T>>(s: S, starts: &[u32], first: usize, row: &mut [T], back: bool) {
    let (mut distance, mut left) = (first, starts.len() / first);
    if back {
        distance = starts.len();
    }
    while left > 1 {
        // The smallest radix is that of the largest distances, either way.
        let radix = match left {
            8.. if !back || left.ilog2().is_multiple_of(3) => 8,
            _ if back => 1 << (left.ilog2() % 3),
            _ => left,
        };
        if back {
            distance /= radix;
        }
        match radix {
            2 => stages::<T, S, 2>(s, starts, distance, row, back),
            4 => stages::<T, S, 4>(s, starts, distance, row, back),
            _ => stages::<T, S, 8>(s, starts, distance, row, back),
        }
        if !back {
            distance *= radix;
        }
        left /= radix;
    }
}

/// Groups of R registers, `distance` apart.
#[inline(always)]
fn stages<T: Scalar, S: Lanes<T>, const R: usize>(s: S, starts: &[u32], distance: usize, row: &mut [T], back: bool) {
    for group in (0..starts.len()).step_by(R * distance) {
        for q in group..group + distance {
            let mut at = [0; R];
            let mut x = [S::V::zeroed(); R];
            unrolled!(r < R, {
                at[r] = starts[q + r * distance] as usize;
                x[r] = load::<T, S>(&row[at[r]..at[r] + S::LANES]);
            });
            add::<T, S, R>(s, &mut x, 1, R, back);
            unrolled!(r < R, {
                store::<T, S>(&mut row[at[r]..at[r] + S::LANES], x[r]);
            });
        }
    }
}

/// Groups of R neighbouring registers: what happens within units, and the stages of units among them.
#[inline(always)]
fn near<T: Scalar, S: Lanes<T>, const C: usize, const R: usize>(
    s: S,
    starts: &[u32],
    signs: &[T],
    row: &mut [T],
    back: bool,
) {
    let (before, between) = signs.split_at(signs.len() / 2);
    for first in (0..starts.len()).step_by(R) {
        // Slices of constant length, of which no register needs a check.
        let (before, between) = (&before[first * S::LANES..], &between[first * S::LANES..]);
        let (before, between) = (&before[..R * S::LANES], &between[..R * S::LANES]);
        // Copied, so that it is known in the end what has been checked in the beginning.
        let mut at = [0; R];
        let mut x = [S::V::zeroed(); R];
        unrolled!(r < R, {
            at[r] = starts[first + r] as usize;
            x[r] = load::<T, S>(&row[at[r]..at[r] + S::LANES]);
        });
        if back {
            add::<T, S, R>(s, &mut x, C, R, true);
            multiply::<T, S, R>(s, &mut x, between);
            add::<T, S, R>(s, &mut x, 1, C, true);
            within::<T, S, R>(s, &mut x, true);
            multiply::<T, S, R>(s, &mut x, before);
        } else {
            multiply::<T, S, R>(s, &mut x, before);
            within::<T, S, R>(s, &mut x, false);
            add::<T, S, R>(s, &mut x, 1, C, false);
            multiply_and_add::<T, S, C, R>(s, &mut x, between);
            add::<T, S, R>(s, &mut x, 2 * C, R, false);
        }
        unrolled!(r < R, {
            store::<T, S>(&mut row[at[r]..at[r] + S::LANES], x[r]);
        });
    }
}

/// Sums and differences of registers `from`, 2·`from`, … apart, below `to`; the furthest first if `back`.
#[inline(always)]
pub(super) fn add<T: Scalar, S: Lanes<T>, const R: usize>(s: S, x: &mut [S::V; R], from: usize, to: usize, back: bool) {
    // Distances are written out, too: a loop of them might stay one.
    macro_rules! stages {
        ($($distance:literal)*) => {
            $(if const { $distance < R } && from <= $distance && $distance < to {
                stage::<T, S, R, $distance>(s, x);
            })*
        };
    }
    if back {
        stages!(8 4 2 1);
    } else {
        stages!(1 2 4 8);
    }
}

#[inline(always)]
fn stage<T: Scalar, S: Lanes<T>, const R: usize, const DISTANCE: usize>(s: S, x: &mut [S::V; R]) {
    let one = s.splat(T::one());
    unrolled!(r < R, {
        if r & DISTANCE == 0 {
            let (a, b) = (x[r], x[r + DISTANCE]);
            (x[r], x[r + DISTANCE]) = (s.add(a, b), s.negate_mul_add(b, one, a));
        }
    });
}

/// Registers times signs.
#[inline(always)]
fn multiply<T: Scalar, S: Lanes<T>, const R: usize>(s: S, x: &mut [S::V; R], signs: &[T]) {
    unrolled!(r < R, {
        x[r] = s.mul(x[r], load::<T, S>(&signs[r * S::LANES..]));
    });
}

/// The same, and sums and differences of registers C apart.
#[inline(always)]
fn multiply_and_add<T: Scalar, S: Lanes<T>, const C: usize, const R: usize>(s: S, x: &mut [S::V; R], signs: &[T]) {
    if const { C == R } {
        return multiply::<T, S, R>(s, x, signs);
    }
    unrolled!(r < R, {
        if r & C == 0 {
            let a = s.mul(x[r], load::<T, S>(&signs[r * S::LANES..]));
            let (b, sign) = (x[r + C], load::<T, S>(&signs[(r + C) * S::LANES..]));
            (x[r], x[r + C]) = (s.mul_add(b, sign, a), s.negate_mul_add(b, sign, a));
        }
    });
}

/// Stages within registers, the nearest lanes first; the other way round if `back`.
#[inline(always)]
pub(super) fn within<T: Scalar, S: Lanes<T>, const R: usize>(s: S, x: &mut [S::V; R], back: bool) {
    macro_rules! lanes {
        ($($bit:literal)*) => {
            $(if const { S::LANES >> $bit > 1 } {
                lane::<T, S, R, $bit>(s, x);
            })*
        };
    }
    if back {
        lanes!(3 2 1 0);
    } else {
        lanes!(0 1 2 3);
    }
}

/// Sums and differences of lanes that differ in bit `BIT` of their number.
#[inline(always)]
fn lane<T: Scalar, S: Lanes<T>, const R: usize, const BIT: u32>(s: S, x: &mut [S::V; R]) {
    let mut signs = S::V::zeroed();
    for (l, sign) in bytemuck::cast_slice_mut::<S::V, T>(core::slice::from_mut(&mut signs)).iter_mut().enumerate() {
        *sign = if l >> BIT & 1 == 0 { T::one() } else { -T::one() };
    }
    unrolled!(r < R, {
        x[r] = s.mul_add(x[r], signs, s.swap::<BIT>(x[r]));
    });
}

#[inline(always)]
pub(super) fn load<T: Pod, S: Lanes<T>>(from: &[T]) -> S::V {
    bytemuck::pod_read_unaligned(bytemuck::cast_slice(&from[..S::LANES]))
}

#[inline(always)]
pub(super) fn store<T: Pod, S: Lanes<T>>(to: &mut [T], x: S::V) {
    to[..S::LANES].copy_from_slice(bytemuck::cast_slice(core::slice::from_ref(&x)));
}

/// One block, one number after the other, for units shorter than any register.
fn plainly<T: Scalar>(unit: usize, starts: &[u32], before: &[T], between: &[T], row: &mut [T], back: bool) {
    let block = before.len();
    let place = |i: usize| starts[i / unit] as usize + i % unit;
    let multiply = |row: &mut [T], by: &[T]| (0..block).for_each(|i| row[place(i)] = row[place(i)] * by[i]);
    let add = |row: &mut [T], distance: usize| {
        for i in (0..block).filter(|i| i & distance == 0) {
            let (a, b) = (row[place(i)], row[place(i + distance)]);
            (row[place(i)], row[place(i + distance)]) = (a + b, a - b);
        }
    };
    let distances = |from: usize, to: usize| (from.ilog2()..to.ilog2()).map(|bit| 1 << bit);
    if back {
        distances(unit, block).rev().for_each(|distance| add(row, distance));
        multiply(row, between);
        distances(1, unit).rev().for_each(|distance| add(row, distance));
        multiply(row, before);
    } else {
        multiply(row, before);
        distances(1, unit).for_each(|distance| add(row, distance));
        multiply(row, between);
        distances(unit, block).for_each(|distance| add(row, distance));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On every machine that there is, also those that this one is not.
    #[test]
    fn every_group_is_compiled() {
        for (lanes, registers) in [(2, 16), (4, 16), (8, 16), (2, 32), (4, 32), (8, 32), (16, 32)] {
            for n in (1..5000).chain([1 << 14, 1 << 17, (1 << 20) + 1, 1 << 26]) {
                let shape = Shape::of(n);
                if lanes <= shape.unit {
                    let together = (registers / 2).min(16).min(shape.block / lanes);
                    let c = shape.unit / lanes;
                    assert!(
                        [4, 8, 16].contains(&together) && [1, 2, 4, 8].contains(&c),
                        "{lanes}, {registers}: {shape:?}"
                    );
                    assert!(comes(together, c, lanes, registers), "{lanes}, {registers}: {shape:?}");
                }
            }
        }
    }
}
