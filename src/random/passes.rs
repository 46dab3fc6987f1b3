//! One block of a rotation: signs, sums and differences across units and within them.
//!
//! The lanes are neighbouring coordinates of a unit, C registers. R registers are held at a time and go through all stages that
//! mix only them; the other stages across units take 2, 4 or 8 registers at a time. Stages of a unit's registers and of units are
//! the same: sums and differences of registers 1, 2, 4, … apart. A block that is the whole vector stays in registers for all rounds.
//!
//! Multiplications are by ±1 or, first of all, by ± the block's scale. Those by ±1 are exact, so that a ± b is the same number
//! whether it comes from an addition, a subtraction or a multiply-add, fused or not: all machines agree to the last bit.
//!
//! What must be done at least: with L = 16 lanes and blocks of 256 coordinates, 8 + 4 + 8 additions for each number. Shuffles
//! (4 + 0 + 4), as many more additions of ±1 times a lane (they are among the 20) and three products with signs compete for the same two
//! ports: 31 instructions where 20 are the limit, 1.55 of it. Signs between stages are factors of multiply-adds and cost nothing.

use core::ops::Range;

use bytemuck::Zeroable;

use super::alone::Alone;
use super::places::{Part, Places};
use super::plain::plainly;
use super::registers::{add, closing, middle, opening, unrolled};
use super::wiring::{Round, Shape, UNIT};
use crate::batch::BatchMut;
use crate::scalar::Scalar;
use crate::simd::{Isa, Job, Lanes, dispatch, lanes, load, store};

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
/// Passed by reference: to copy what has just been written field by field takes as long as a fifth of a short vector.
#[derive(Debug)]
pub(super) struct Rounds<'a, T> {
    pub(super) shape: Shape,
    /// What [`machine`] says.
    pub(super) machine: Option<(Isa, usize)>,
    /// Of all rounds.
    pub(super) blocks: &'a [Place],
    /// Where the registers of all blocks start; units, if there is no machine.
    pub(super) places: &'a Places,
    /// For every block its scale with the signs, then those between as [`factors`] of them.
    pub(super) signs: &'a [T],
}

/// Where the numbers of a block start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) round: Round,
    pub(super) registers: usize,
    pub(super) signs: usize,
    /// Where they end.
    pub(super) end: usize,
}

/// How many numbers the signs of a block are.
pub(super) fn numbers(shape: Shape, round: Round) -> usize {
    let each = if round == Round::Opening { 2 } else { 1 };
    shape.block + each * shape.between(round)
}

/// What stands for a sign between. In opening rounds (a, b) ← (±a + b, a ∓ b), each of the two its own factor times itself.
pub(super) fn factors<T: Scalar>(round: Round, sign: T) -> impl Iterator<Item = T> {
    [sign, -sign].into_iter().take(if round == Round::Opening { 2 } else { 1 })
}

/// Vectors of a batch of rows, turned or turned back where they lie.
pub(super) fn run<T: Scalar>(rounds: &Rounds<'_, T>, y: &mut BatchMut<'_, T>, back: bool) {
    match rounds.machine {
        Some((isa, _)) if back => dispatch(isa, Run::<T, true> { rounds, y }),
        Some((isa, _)) => dispatch(isa, Run::<T, false> { rounds, y }),
        None => {
            for v in 0..y.batch() {
                let Some(row) = y.row_mut(v) else { return };
                for b in 0..rounds.blocks.len() {
                    let block = rounds.block(if back { rounds.blocks.len() - 1 - b } else { b }, rounds.shape.units());
                    plainly(rounds.shape, block, row, back);
                }
            }
        }
    }
}

/// Of one block.
#[derive(Clone, Copy)]
pub(super) struct Block<'a, T> {
    pub(super) round: Round,
    pub(super) places: Part<'a>,
    pub(super) signs: &'a [T],
    pub(super) between: &'a [T],
}

impl<'a, T: Scalar> Rounds<'a, T> {
    /// Block `b` of all rounds, with that many registers.
    #[inline(always)]
    pub(super) fn block(&self, b: usize, registers: usize) -> Block<'a, T> {
        let Place { round, registers: first, signs, end } = self.blocks[b];
        let (signs, between) = self.signs[signs..end].split_at(self.shape.block);
        Block { round, places: self.places.part(first, registers), signs, between }
    }
}

struct Run<'a, 'b, T, const BACK: bool> {
    rounds: &'a Rounds<'a, T>,
    y: &'a mut BatchMut<'b, T>,
}

impl<T: Scalar, const BACK: bool> Job<T> for Run<'_, '_, T, BACK> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        if const { T::IS_COMPLEX } {
            return; // rotations are real
        }
        let Self { rounds, y } = self;
        let shape = rounds.shape;
        let (c, registers, held) = (shape.unit / S::LANES, shape.block / S::LANES, together::<T, S>());
        // Each in a function of its own: the frames of all together would be too much for a thread, where nothing is optimised.
        macro_rules! whole {
            ($c:literal, $r:literal, $v:literal) => {
                return s.call(Whole::<T, $c, $r, $v, BACK> { rounds, y })
            };
        }
        macro_rules! blocks {
            ($c:literal) => {
                if registers >= held && held == 16 {
                    if const { comes(16, $c, S::LANES, S::REGISTERS) } {
                        return s.call(Blocks::<T, $c, 16, BACK> { rounds, y });
                    }
                } else if const { comes(8, $c, S::LANES, S::REGISTERS) } {
                    return s.call(Blocks::<T, $c, 8, BACK> { rounds, y });
                }
            };
        }
        if shape.blocks == 1 && registers <= held {
            match (c, registers) {
                (1, 8) if const { S::REGISTERS >= 32 } && y.batch() > 1 => whole!(1, 8, 2),
                (1, 8) => whole!(1, 8, 1),
                (1, 16) if const { S::REGISTERS >= 32 && S::LANES == UNIT } => whole!(1, 16, 1),
                (2, 16) if const { S::REGISTERS >= 32 && S::LANES < UNIT } => whole!(2, 16, 1),
                _ => {}
            }
        }
        if const { S::REGISTERS >= 32 && S::LANES == UNIT } {
            let together = together_of::<T>(shape.n);
            match registers {
                8 => return s.call(Alone::<T, 8, 2, BACK> { rounds, y, together }),
                16 => return s.call(Alone::<T, 16, 1, BACK> { rounds, y, together }),
                _ => {}
            }
        }
        match c {
            1 => blocks!(1),
            2 if const { 2 * S::LANES <= UNIT } => blocks!(2),
            4 if const { 4 * S::LANES <= UNIT } => blocks!(4),
            8 if const { 8 * S::LANES <= UNIT } => blocks!(8),
            _ => {}
        }
        unreachable!("units of 1 to 8 registers, in groups of 8 or 16")
    }
}

struct Blocks<'a, 'b, T, const C: usize, const R: usize, const BACK: bool> {
    rounds: &'a Rounds<'a, T>,
    y: &'a mut BatchMut<'b, T>,
}

impl<T: Scalar, const C: usize, const R: usize, const BACK: bool> Job<T> for Blocks<'_, '_, T, C, R, BACK> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        let Self { rounds, y } = self;
        let registers = rounds.shape.block / S::LANES;
        // Block by block over several vectors: one does not wait for another, nor does a core that looks ahead.
        let (batch, together) = (y.batch(), together_of::<T>(rounds.shape.n));
        for first in (0..batch).step_by(together) {
            if BACK {
                fetched(y, first..batch.min(first + together));
            }
            for b in 0..rounds.blocks.len() {
                let block = rounds.block(if BACK { rounds.blocks.len() - 1 - b } else { b }, registers);
                for v in first..batch.min(first + together) {
                    let Some(row) = y.row_mut(v) else { return };
                    groups::<T, S, C, R, BACK>(s, block, row);
                }
            }
        }
    }
}

struct Whole<'a, 'b, T, const C: usize, const R: usize, const V: usize, const BACK: bool> {
    rounds: &'a Rounds<'a, T>,
    y: &'a mut BatchMut<'b, T>,
}

impl<T: Scalar, const C: usize, const R: usize, const V: usize, const BACK: bool> Job<T>
    for Whole<'_, '_, T, C, R, V, BACK>
{
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        whole::<T, S, C, R, V, BACK>(s, self.rounds, self.y);
    }
}

/// Vectors that go through the blocks together: as many as fill a third of the nearest cache, on machines of today; two at least,
/// so that long ones share what is read of the signs.
pub(super) fn together_of<T>(n: usize) -> usize {
    ((1 << 14) / (n * size_of::<T>())).max(2)
}

/// Reads a number of every cache line of these vectors, if they are long and the batch is too large for the nearer caches. The last
/// round, where the way back begins, jumps through a vector, and no memory looks ahead of that; in order, it does.
#[inline(always)]
pub(super) fn fetched<T: Scalar>(y: &mut BatchMut<'_, T>, vectors: Range<usize>) {
    let bytes = y.n() * size_of::<T>();
    if bytes >= 6 << 10 && y.batch() * bytes > 1 << 20 {
        for v in vectors {
            let row = y.row_mut(v).unwrap_or_default();
            for x in row.iter().step_by(64 / size_of::<T>()) {
                let _ = core::hint::black_box(*x);
            }
        }
    }
}

/// Registers that are held at a time, at most.
const fn together<T: Scalar, S: Lanes<T>>() -> usize {
    if S::REGISTERS >= 32 { 16 } else { 8 }
}

/// All rounds of vectors of R registers, V at once: one vector alone would wait for itself.
#[inline(always)]
fn whole<T: Scalar, S: Lanes<T>, const C: usize, const R: usize, const V: usize, const BACK: bool>(
    s: S,
    rounds: &Rounds<'_, T>,
    y: &mut BatchMut<'_, T>,
) {
    for first in (0..y.batch()).step_by(V) {
        let mut x = [[S::V::zeroed(); R]; V];
        let vectors = V.min(y.batch() - first);
        for (v, x) in x.iter_mut().enumerate().take(vectors) {
            let Some(row) = y.row_mut(first + v) else { return };
            fetch::<T, S, R>(row, x);
        }
        for b in 0..rounds.blocks.len() {
            let Block { round, signs, between, .. } =
                rounds.block(if BACK { rounds.blocks.len() - 1 - b } else { b }, R);
            match round {
                Round::Opening => unrolled!(v < V, {
                    opening::<T, S, C, R, BACK>(s, &mut x[v], Some(signs), between);
                }),
                Round::Middle => unrolled!(v < V, {
                    middle::<T, S, C, R, BACK>(s, &mut x[v], signs);
                }),
                Round::Closing => unrolled!(v < V, {
                    closing::<T, S, C, R, BACK>(s, &mut x[v], signs, between);
                }),
            }
        }
        for (v, x) in x.iter().enumerate().take(vectors) {
            let Some(row) = y.row_mut(first + v) else { return };
            put::<T, S, R>(row, x);
        }
    }
}

#[inline(always)]
fn fetch<T: Scalar, S: Lanes<T>, const R: usize>(row: &[T], x: &mut [S::V; R]) {
    let row = &row[..R * S::LANES];
    unrolled!(r < R, {
        x[r] = load::<T, S>(&row[r * S::LANES..]);
    });
}

#[inline(always)]
fn put<T: Scalar, S: Lanes<T>, const R: usize>(row: &mut [T], x: &[S::V; R]) {
    let row = &mut row[..R * S::LANES];
    unrolled!(r < R, {
        store::<T, S>(&mut row[r * S::LANES..], x[r]);
    });
}

/// One block, in groups of R registers, which it has at least.
#[inline(always)]
fn groups<T: Scalar, S: Lanes<T>, const C: usize, const R: usize, const BACK: bool>(
    s: S,
    block: Block<'_, T>,
    row: &mut [T],
) {
    // Units that are furthest apart come first in an opening round, last in the others; the other way round on the way back.
    let (down, alone) = ((block.round == Round::Opening) != BACK, block.places.starts().len() == R);
    if down && !alone {
        far::<T, S>(s, block, R, row, true);
    }
    match block.round {
        Round::Opening => near::<T, S, C, R, OPENING, BACK>(s, block, row),
        Round::Middle => near::<T, S, C, R, MIDDLE, BACK>(s, block, row),
        Round::Closing => near::<T, S, C, R, CLOSING, BACK>(s, block, row),
    }
    if !down && !alone {
        far::<T, S>(s, block, R, row, false);
    }
}

pub(super) const OPENING: u8 = Round::Opening as u8;
pub(super) const MIDDLE: u8 = Round::Middle as u8;
pub(super) const CLOSING: u8 = Round::Closing as u8;

/// Whether groups of so many registers can come with units of `c` registers: others are not compiled.
const fn comes(group: usize, c: usize, lanes: usize, registers: usize) -> bool {
    match group {
        8 => registers < 32 || c == 1,
        _ => registers >= 32 && (c >= 2 || lanes == UNIT),
    }
}

/// Stages of registers `first` and more apart. In opening rounds the block's signs come before them, or behind them on the way back.
#[inline(always)]
fn far<T: Scalar, S: Lanes<T>>(s: S, block: Block<'_, T>, first: usize, row: &mut [T], down: bool) {
    let starts = block.places.starts();
    let (mut distance, mut left) = (first, starts.len() / first);
    if down {
        distance = starts.len();
    }
    while left > 1 {
        // The smallest radix is that of the largest distances, either way.
        let radix = match left {
            8.. if !down || left.ilog2().is_multiple_of(3) => 8,
            _ if down => 1 << (left.ilog2() % 3),
            _ => left,
        };
        if down {
            distance /= radix;
        }
        let furthest =
            if block.round == Round::Opening && radix * distance == starts.len() { block.signs } else { &[] };
        match radix {
            2 => stages::<T, S, 2>(s, starts, distance, furthest, row, down),
            4 => stages::<T, S, 4>(s, starts, distance, furthest, row, down),
            _ => stages::<T, S, 8>(s, starts, distance, furthest, row, down),
        }
        if !down {
            distance *= radix;
        }
        left /= radix;
    }
}

/// Groups of R registers, `distance` apart, and their signs if there are any.
#[inline(always)]
fn stages<T: Scalar, S: Lanes<T>, const R: usize>(
    s: S,
    starts: &[u32],
    distance: usize,
    signs: &[T],
    row: &mut [T],
    down: bool,
) {
    for group in (0..starts.len()).step_by(R * distance) {
        for q in group..group + distance {
            let mut at = [0; R];
            let mut x = [S::V::zeroed(); R];
            unrolled!(r < R, {
                at[r] = starts[q + r * distance] as usize;
                x[r] = load::<T, S>(&row[at[r]..at[r] + S::LANES]);
            });
            if down && !signs.is_empty() {
                unrolled!(r < R, {
                    x[r] = s.mul(x[r], load::<T, S>(&signs[(q + r * distance) * S::LANES..]));
                });
            }
            add::<T, S, R>(s, &mut x, 1, R, down);
            if !down && !signs.is_empty() {
                unrolled!(r < R, {
                    x[r] = s.mul(x[r], load::<T, S>(&signs[(q + r * distance) * S::LANES..]));
                });
            }
            unrolled!(r < R, {
                store::<T, S>(&mut row[at[r]..at[r] + S::LANES], x[r]);
            });
        }
    }
}

/// Groups of R neighbouring registers: what happens within units, and the stages of units among them.
#[inline(always)]
fn near<T: Scalar, S: Lanes<T>, const C: usize, const R: usize, const ROUND: u8, const BACK: bool>(
    s: S,
    block: Block<'_, T>,
    row: &mut [T],
) {
    let Block { places, signs, between, .. } = block;
    let registers = places.starts().len();
    for group in 0..registers / R {
        let first = group * R;
        // A slice of constant length, of which no register needs a check.
        let signs = &signs[first * S::LANES..][..R * S::LANES];
        let places = places.group::<R>(group);
        let mut x = places.load::<T, S>(row);
        if const { ROUND == OPENING } {
            let signs = if registers == R { Some(signs) } else { None };
            opening::<T, S, C, R, BACK>(s, &mut x, signs, &between[first * S::LANES..]);
        } else if const { ROUND == MIDDLE } {
            middle::<T, S, C, R, BACK>(s, &mut x, signs);
        } else if const { C == R } {
            let odd = if group % 2 == 1 { &between[group / 2 * R * S::LANES..] } else { &[] };
            closing::<T, S, C, R, BACK>(s, &mut x, signs, odd);
        } else {
            closing::<T, S, C, R, BACK>(s, &mut x, signs, &between[first / 2 * S::LANES..]);
        }
        places.store::<T, S>(row, &x);
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
                    let together = (if registers >= 32 { 16 } else { 8 }).min(shape.block / lanes);
                    let c = shape.unit / lanes;
                    assert!(
                        [8, 16].contains(&together) && [1, 2, 4, 8].contains(&c),
                        "{lanes}, {registers}: {shape:?}"
                    );
                    assert!(comes(together, c, lanes, registers), "{lanes}, {registers}: {shape:?}");
                }
            }
        }
    }
}
