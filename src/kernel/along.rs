//! Along the vector: the lanes are neighbouring coordinates, so vectors are served where they lie, without any transpose.
//!
//! `passes.rs` says which stages run together and where their entries are.

use bytemuck::{Pod, Zeroable};

use super::passes::{Pairs, Pass, Reach};
use super::single::{load, store};
use crate::batch::{Batch, BatchMut};
use crate::scalar::Scalar;
use crate::simd::{Job, Lanes, NATURAL};

/// The pairs of a plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PairsOf<'a, T> {
    pub(crate) passes: &'a [Pass],
    /// All of the plan.
    pub(crate) entries: &'a [T],
    /// Whether every block is a rotation to the last bit, so that half of its entries say all.
    pub(crate) rotations: bool,
}

/// y ← all passes(x), or y ← all passes(y) without `x`; both rows.
pub(super) struct Along<'a, T> {
    pub(super) pairs: PairsOf<'a, T>,
    pub(super) x: Option<Batch<'a, T>>,
    pub(super) y: BatchMut<'a, T>,
}

impl<T: Scalar> Job<T> for Along<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(mut self, s: S) {
        if T::IS_COMPLEX || !S::FUSED {
            return; // has no passes: this keeps the code small
        }
        for pass in self.pairs.passes {
            if let Some(x) = self.x {
                for v in 0..x.batch() {
                    if let (Some(x), Some(y)) = (x.row(v), self.y.row_mut(v)) {
                        y[pass.covered..].copy_from_slice(&x[pass.covered..]);
                    }
                }
            }
            let transposed = pass.stages.iter().any(|stage| stage.transposed);
            match (self.pairs.rotations, transposed) {
                (true, false) => self.pass(s, pass, Rotations::<false>),
                (true, true) => self.pass(s, pass, Rotations::<true>),
                (false, _) => self.pass(s, pass, General { offsets: if transposed { [1, 2] } else { [2, 1] } }),
            }
            self.x = None;
        }
    }
}

/// What blocks of a register are read from their panel, and how they act.
trait Blocks: Copy {
    type Entries<V: Copy>: Copy;
    fn load<T: Scalar, S: Lanes<T>>(self, s: S, panel: &[T]) -> Self::Entries<S::V>;
    fn turn<T: Scalar, S: Lanes<T>>(self, s: S, entries: Self::Entries<S::V>, a: S::V, b: S::V) -> [S::V; 2];
}

/// All entries are read; e₀₁ and e₁₀ from the runs of the panel that are named.
#[derive(Clone, Copy)]
struct General {
    offsets: [usize; 2],
}

impl Blocks for General {
    type Entries<V: Copy> = [V; 4];
    #[inline(always)]
    fn load<T: Scalar, S: Lanes<T>>(self, _: S, panel: &[T]) -> [S::V; 4] {
        let at = |e: usize| &panel[e * T::WIDTH..];
        let [e01, e10] = self.offsets;
        [load::<T, S>(at(0)), load::<T, S>(at(e01)), load::<T, S>(at(e10)), load::<T, S>(at(3))]
    }
    #[inline(always)]
    fn turn<T: Scalar, S: Lanes<T>>(self, s: S, e: [S::V; 4], a: S::V, b: S::V) -> [S::V; 2] {
        [s.mul_add(e[1], b, s.mul(e[0], a)), s.mul_add(e[3], b, s.mul(e[2], a))]
    }
}

/// (c, −s; s, c): two are read. With the rounding of [`General`].
#[derive(Clone, Copy)]
struct Rotations<const TRANSPOSED: bool>;

impl<const TRANSPOSED: bool> Blocks for Rotations<TRANSPOSED> {
    /// c; s, or −s of transposed blocks.
    type Entries<V: Copy> = [V; 2];
    #[inline(always)]
    fn load<T: Scalar, S: Lanes<T>>(self, s: S, panel: &[T]) -> [S::V; 2] {
        let (cos, sin) = (load::<T, S>(panel), load::<T, S>(&panel[T::WIDTH..]));
        [cos, if TRANSPOSED { s.mul(s.splat(-T::one()), sin) } else { sin }]
    }
    #[inline(always)]
    fn turn<T: Scalar, S: Lanes<T>>(self, s: S, [cos, sin]: [S::V; 2], a: S::V, b: S::V) -> [S::V; 2] {
        [s.negate_mul_add(sin, b, s.mul(cos, a)), s.mul_add(cos, b, s.mul(sin, a))]
    }
}

impl<T: Scalar> Along<'_, T> {
    #[inline(always)]
    fn pass<S: Lanes<T>, B: Blocks>(&mut self, s: S, pass: &Pass, b: B) {
        match pass.registers {
            2 => self.blocks::<S, B, 2>(s, pass, b),
            4 => self.blocks::<S, B, 4>(s, pass, b),
            8 => self.blocks::<S, B, 8>(s, pass, b),
            _ if S::REGISTERS >= 32 => self.blocks::<S, B, 16>(s, pass, b),
            _ => {}
        }
    }

    #[inline(always)]
    fn blocks<S: Lanes<T>, B: Blocks, const R: usize>(&mut self, s: S, pass: &Pass, b: B) {
        let (d, batch) = (pass.distance, self.y.batch());
        for h in 0..pass.covered / (R * d) {
            for q in (0..d).step_by(S::LANES) {
                let at = (h * R * d + q, h * (R / 2) * d + q);
                for v in 0..batch {
                    self.block::<S, B, R>(s, pass, b, at, v);
                }
            }
        }
    }

    /// Registers from coordinate `base` on, of vector `v`; their pairs are blocks from `first` on.
    #[inline(always)]
    fn block<S: Lanes<T>, B: Blocks, const R: usize>(
        &mut self,
        s: S,
        pass: &Pass,
        b: B,
        (base, first): (usize, usize),
        v: usize,
    ) {
        let mut x = [S::V::zeroed(); R];
        let row = match self.x {
            Some(x) => x.row(v),
            None => self.y.as_batch().row(v),
        };
        let Some(row) = row else { return };
        for (r, x) in x.iter_mut().enumerate() {
            *x = load::<T, S>(&row[base + r * pass.distance..]);
        }
        let mut registers = Registers { pass, entries: self.pairs.entries, first, x };
        registers.run(s, b);
        let Some(row) = self.y.row_mut(v) else { return };
        for (r, x) in registers.x.iter().enumerate() {
            store::<T, S>(&mut row[base + r * pass.distance..], *x);
        }
    }
}

/// The registers of one block of a pass.
struct Registers<'a, T, V, const R: usize> {
    pass: &'a Pass,
    entries: &'a [T],
    /// Its first block in every stage.
    first: usize,
    x: [V; R],
}

impl<T: Scalar, V: Pod, const R: usize> Registers<'_, T, V, R> {
    /// All stages, level by level. The levels are written out, so that registers are named when this is compiled.
    #[inline(always)]
    fn run<S: Lanes<T, V = V>, B: Blocks>(&mut self, s: S, b: B) {
        let mut stages = self.pass.stages.iter();
        // Levels below log₂ L are distances within registers.
        macro_rules! near {
            ($($level:literal after $before:literal),*) => {{
                $(if (S::LANES * R) >> $level >= 2 && let Some(stage) = stages.next() {
                    if (S::LANES * R) >> $before >= 2 && $level != $before {
                        self.regroup::<S, $before, $level>(s);
                    } else {
                        self.regroup::<S, NATURAL, $level>(s);
                    }
                    let bit = usize::saturating_sub($level, S::LANES.trailing_zeros() as usize);
                    self.turn(s, b, stage, bit, S::LANES);
                })*
            }};
        }
        macro_rules! one {
            ($at:ident, $($level:literal),*) => {{
                $(if $at == $level && let Some(stage) = stages.next() {
                    self.regroup::<S, NATURAL, $level>(s);
                    self.turn(s, b, stage, 0, S::LANES);
                    self.regroup::<S, $level, NATURAL>(s);
                })*
            }};
        }
        macro_rules! far {
            ($($level:literal),*) => {{
                $(if R >> $level >= 2 && let Some(stage) = stages.next() {
                    self.turn(s, b, stage, $level, self.pass.distance);
                })*
            }};
        }
        match (self.pass.reach, self.pass.ascending) {
            (Reach::Near, true) if R >= 4 => {
                near!(0 after 0, 1 after 0, 2 after 1, 3 after 2, 4 after 3, 5 after 4, 6 after 5, 7 after 6);
            }
            (Reach::Near, false) if R >= 4 => {
                near!(7 after 7, 6 after 7, 5 after 6, 4 after 5, 3 after 4, 2 after 3, 1 after 2, 0 after 1);
                self.regroup::<S, 0, NATURAL>(s);
            }
            (Reach::One(level), _) if R == 2 => one!(level, 0, 1, 2, 3, 4),
            (_, true) => far!(0, 1, 2, 3),
            (_, false) => far!(3, 2, 1, 0),
        }
    }

    /// Turns the registers, `distance` apart, that differ in `bit` by their blocks of the stage.
    #[inline(always)]
    fn turn<S: Lanes<T, V = V>, B: Blocks>(&mut self, s: S, b: B, stage: &Pairs, bit: usize, distance: usize) {
        // Written out, since arrays indexed in loops may end up in memory.
        macro_rules! turn {
            ($($p:literal)*) => {
                $(if $p < R / 2 {
                    match bit {
                        0 => self.turn_pair::<S, B, $p, 0>(s, b, stage, distance),
                        1 => self.turn_pair::<S, B, $p, 1>(s, b, stage, distance),
                        2 => self.turn_pair::<S, B, $p, 2>(s, b, stage, distance),
                        _ => self.turn_pair::<S, B, $p, 3>(s, b, stage, distance),
                    }
                })*
            };
        }
        turn!(0 1 2 3 4 5 6 7);
    }

    #[inline(always)]
    fn turn_pair<S: Lanes<T, V = V>, B: Blocks, const P: usize, const BIT: usize>(
        &mut self,
        s: S,
        b: B,
        stage: &Pairs,
        distance: usize,
    ) {
        let low = (P >> BIT << (BIT + 1) | P & ((1 << BIT) - 1)).min(R - 1);
        let high = (low | 1 << BIT).min(R - 1);
        let j = self.first + P * distance;
        let start = stage.entries + j / T::WIDTH * 4 * T::WIDTH + j % T::WIDTH;
        let entries = b.load(s, &self.entries[start..][..3 * T::WIDTH + S::LANES]);
        [self.x[low], self.x[high]] = b.turn(s, entries, self.x[low], self.x[high]);
    }

    /// [`Lanes::regroup`] of neighbouring registers.
    #[inline(always)]
    fn regroup<S: Lanes<T, V = V>, const FROM: u32, const TO: u32>(&mut self, s: S) {
        for r in (0..R).step_by(2) {
            [self.x[r], self.x[r + 1]] = s.regroup::<FROM, TO>([self.x[r], self.x[r + 1]]);
        }
    }
}
