//! Along the vector: the lanes are neighbouring coordinates, so vectors are served where they lie, without any transpose.
//!
//! `passes.rs` says which stages run together and where their entries are. Pairs of single coordinates are here, their gradients in
//! `backward.rs`; blocks of 4 and 8 in `blocks.rs` and `tall.rs`, over whole batches in `sections.rs`.

use bytemuck::{Pod, Zeroable};

mod backward;
mod blocks;
mod passes;
mod sections;
mod tall;

pub(super) use backward::{Backward, From, window as backward_window};
pub(super) use blocks::{Apply as BlocksApply, Backward as BlocksBackward, TOGETHER};
pub(super) use passes::Pass;
pub(crate) use passes::{Pairs, Passes, are_rotations};
pub(super) use sections::{apply as apply_in_sections, apply_vjp as apply_vjp_in_sections};

use self::passes::Reach;
use crate::batch::{Batch, BatchMut};
use crate::kernel::ahead::Ahead;
use crate::scalar::Scalar;
use crate::simd::{Isa, Job, Lanes, NATURAL, dispatch, lanes, load, store};

/// The pairs of a plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PairsOf<'a, T> {
    pub(crate) passes: &'a [Pass],
    /// All of the plan.
    pub(crate) entries: &'a [T],
    /// Whether every block is a rotation to the last bit, so that half of its entries say all.
    pub(crate) rotations: bool,
}

impl<T> PairsOf<'_, T> {
    /// Whether gradients from the output undo stage after stage by its transpose, if every stage is exact.
    pub(super) fn are_undone(&self) -> bool {
        self.rotations && self.passes.iter().all(|pass| pass.unit() == 1)
    }
}

/// Numbers of scratch that [`run`] needs on `isa` for that many vectors.
pub(super) fn window<T: Scalar>(passes: &[Pass], isa: Isa, batch: usize) -> usize {
    let blocks = || passes.iter().filter(|pass| pass.unit() > 1);
    if blocks().next().is_none() {
        return 0;
    }
    let lanes = lanes::<T>(isa);
    blocks().map(|pass| blocks::forward_window(pass, lanes, batch)).max().unwrap_or(0)
}

/// How often [`run`] goes over numbers while it asks for others: once in a pass, or in each stage of larger blocks.
pub(super) fn times(passes: &[Pass]) -> usize {
    passes.iter().map(|pass| if pass.unit() == 1 { 1 } else { pass.stages.len() }).sum()
}

/// The same backwards, where stages are `undone` or their inputs computed first.
pub(super) fn times_backward(passes: &[Pass], undone: bool) -> usize {
    let stages = passes.iter().map(|pass| pass.stages.len());
    if undone { stages.sum() } else { stages.map(|count| 2 * count - 1).sum() }
}

/// y ← all passes(x), or y ← all passes(y) without `x`; both rows. Each pass is a job of its own: small functions compile faster.
///
/// Views go by reference on the way here and into the jobs: a copy waits until what was written before it has left the core,
/// longer than a small vector takes. There are as many numbers of scratch as [`window`] says. Meanwhile what comes `ahead` is asked
/// for.
pub(super) fn run<T: Scalar>(
    isa: Isa,
    pairs: &PairsOf<'_, T>,
    x: Option<&Batch<'_, T>>,
    y: &mut BatchMut<'_, T>,
    scratch: &mut [T],
    ahead: &mut Ahead,
) {
    if const { T::IS_COMPLEX } {
        return; // has no passes
    }
    let mut x = x;
    for pass in pairs.passes {
        if let Some(x) = x.filter(|x| pass.covered < x.n()) {
            for v in 0..x.batch() {
                if let (Some(x), Some(y)) = (x.row(v), y.row_mut(v)) {
                    y[pass.covered..].copy_from_slice(&x[pass.covered..]);
                }
            }
        }
        let transposed = pass.stages.first().is_some_and(|stage| stage.transposed); // and so are the others
        match (pairs.rotations, transposed) {
            _ if pass.unit() > 1 => {
                let (entries, section, window) = (pairs.entries, 0..pass.covered, &mut *scratch);
                blocks::Apply { pass, entries, section, x, y, window, ahead }.run(isa);
            }
            (true, false) => run_pass(isa, pass, Rotations::<false>, pairs.entries, x, y, ahead),
            (true, true) => run_pass(isa, pass, Rotations::<true>, pairs.entries, x, y, ahead),
            (false, _) => {
                let blocks = General { offsets: if transposed { [1, 2] } else { [2, 1] } };
                run_pass(isa, pass, blocks, pairs.entries, x, y, ahead);
            }
        }
        x = None;
    }
}

fn run_pass<T: Scalar, B: Blocks>(
    isa: Isa,
    pass: &Pass,
    blocks: B,
    entries: &[T],
    x: Option<&Batch<'_, T>>,
    y: &mut BatchMut<'_, T>,
    ahead: &mut Ahead,
) {
    match (pass.reach, pass.registers) {
        (Reach::Near, 4) => dispatch(isa, Run::<T, B, 4, true> { pass, blocks, entries, x, y, ahead }),
        (Reach::Near, 8) => dispatch(isa, Run::<T, B, 8, true> { pass, blocks, entries, x, y, ahead }),
        (Reach::Near, _) => dispatch(isa, Run::<T, B, 16, true> { pass, blocks, entries, x, y, ahead }),
        (_, 2) => dispatch(isa, Run::<T, B, 2, false> { pass, blocks, entries, x, y, ahead }),
        (_, 4) => dispatch(isa, Run::<T, B, 4, false> { pass, blocks, entries, x, y, ahead }),
        (_, 8) => dispatch(isa, Run::<T, B, 8, false> { pass, blocks, entries, x, y, ahead }),
        (_, _) => dispatch(isa, Run::<T, B, 16, false> { pass, blocks, entries, x, y, ahead }),
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
        rotated::<T, S>(s, [cos, sin], a, b)
    }
}

/// (c, −s; s, c) times (a, b).
#[inline(always)]
fn rotated<T: Scalar, S: Lanes<T>>(s: S, [cos, sin]: [S::V; 2], a: S::V, b: S::V) -> [S::V; 2] {
    [s.negate_mul_add(sin, b, s.mul(cos, a)), s.mul_add(cos, b, s.mul(sin, a))]
}

/// One pass in R registers, which are neighbours if `NEAR`.
struct Run<'a, 'b, T, B, const R: usize, const NEAR: bool> {
    pass: &'a Pass,
    blocks: B,
    entries: &'a [T],
    x: Option<&'a Batch<'a, T>>,
    y: &'a mut BatchMut<'b, T>,
    ahead: &'a mut Ahead,
}

impl<T: Scalar, B: Blocks, const R: usize, const NEAR: bool> Job<T> for Run<'_, '_, T, B, R, NEAR> {
    #[inline(always)]
    fn run<S: Lanes<T>>(mut self, s: S) {
        if const { T::IS_COMPLEX || 2 * R > S::REGISTERS } {
            return; // no such passes are made
        }
        let (d, batch) = (if NEAR { S::LANES } else { self.pass.apart }, self.y.batch());
        let lines = self.ahead.lines(R * S::LANES * size_of::<T>());
        for h in 0..self.pass.spans {
            for q in (0..d).step_by(S::LANES) {
                for v in 0..batch {
                    self.ahead.ask(lines);
                    self.block(s, h * R * d + q, self.pass.first_block(h) + q, v, d);
                }
            }
        }
    }
}

impl<T: Scalar, B: Blocks, const R: usize, const NEAR: bool> Run<'_, '_, T, B, R, NEAR> {
    /// Registers from coordinate `base` on, `distance` apart, of vector `v`; their pairs are blocks from `first` on.
    #[inline(always)]
    fn block<S: Lanes<T>>(&mut self, s: S, base: usize, first: usize, v: usize, distance: usize) {
        let mut x = [S::V::zeroed(); R];
        let row = match self.x {
            Some(x) => x.row(v),
            None => self.y.row(v),
        };
        let Some(row) = row else { return };
        let row = &row[base..][..(R - 1) * distance + S::LANES];
        for (r, x) in x.iter_mut().enumerate() {
            *x = load::<T, S>(&row[r * distance..]);
        }
        let mut registers = Registers::<T, S::V, R, NEAR> { pass: self.pass, entries: self.entries, first, x };
        registers.run(s, self.blocks);
        let Some(row) = self.y.row_mut(v) else { return };
        let row = &mut row[base..][..(R - 1) * distance + S::LANES];
        for (r, x) in registers.x.iter().enumerate() {
            store::<T, S>(&mut row[r * distance..], *x);
        }
    }
}

/// The registers of one block of a pass.
struct Registers<'a, T, V, const R: usize, const NEAR: bool> {
    pass: &'a Pass,
    entries: &'a [T],
    /// Its first block in every stage.
    first: usize,
    x: [V; R],
}

impl<T: Scalar, V: Pod, const R: usize, const NEAR: bool> Registers<'_, T, V, R, NEAR> {
    /// All stages, level by level. Levels and pairs are written out and chosen by constants, so that registers are named when
    /// this is compiled, and what a machine has no use for is not compiled at all.
    #[inline(always)]
    fn run<S: Lanes<T, V = V>, B: Blocks>(&mut self, s: S, b: B) {
        let mut stages = self.pass.stages.iter();
        // Levels below log₂ L are distances within registers.
        macro_rules! near {
            ($($level:literal after $before:literal),*) => {
                $(if const { (S::LANES * R) >> $level >= 2 }
                    && let Some(stage) = stages.next()
                {
                    if const { (S::LANES * R) >> $before >= 2 && $level != $before } {
                        self.regroup::<S, $before, $level>(s);
                    } else {
                        self.regroup::<S, NATURAL, $level>(s);
                    }
                    match const { usize::saturating_sub($level, S::LANES.trailing_zeros() as usize) } {
                        0 => self.turn::<S, B, 0>(s, b, stage, S::LANES),
                        1 => self.turn::<S, B, 1>(s, b, stage, S::LANES),
                        2 => self.turn::<S, B, 2>(s, b, stage, S::LANES),
                        _ => self.turn::<S, B, 3>(s, b, stage, S::LANES),
                    }
                })*
            };
        }
        macro_rules! one {
            ($at:ident, $($level:literal),*) => {
                $(if const { S::LANES >> $level >= 1 }
                    && $at == $level
                    && let Some(stage) = stages.next()
                {
                    self.regroup::<S, NATURAL, $level>(s);
                    self.turn::<S, B, 0>(s, b, stage, S::LANES);
                    self.regroup::<S, $level, NATURAL>(s);
                })*
            };
        }
        macro_rules! far {
            ($($level:literal),*) => {
                $(if const { R >> $level >= 2 }
                    && let Some(stage) = stages.next()
                {
                    self.turn::<S, B, $level>(s, b, stage, self.pass.distance);
                })*
            };
        }
        if const { NEAR } {
            if self.pass.ascending {
                near!(0 after 0, 1 after 0, 2 after 1, 3 after 2, 4 after 3, 5 after 4, 6 after 5, 7 after 6);
            } else {
                near!(7 after 7, 6 after 7, 5 after 6, 4 after 5, 3 after 4, 2 after 3, 1 after 2, 0 after 1);
                self.regroup::<S, 0, NATURAL>(s);
            }
        } else if let Reach::One(level) = self.pass.reach {
            if const { R == 2 } {
                one!(level, 0, 1, 2, 3, 4);
            }
        } else if self.pass.ascending {
            far!(0, 1, 2, 3);
        } else {
            far!(3, 2, 1, 0);
        }
    }

    /// Turns the registers, `distance` apart, that differ in bit `BIT` by their blocks of the stage.
    #[inline(always)]
    fn turn<S: Lanes<T, V = V>, B: Blocks, const BIT: usize>(&mut self, s: S, b: B, stage: &Pairs, distance: usize) {
        // Of neighbours it is known beforehand how their blocks lie in whole panels: one check serves all.
        let (panels, first) = if const { NEAR && (R / 2 * S::LANES).is_multiple_of(T::WIDTH) } {
            (&self.entries[stage.entries + 4 * self.first..][..2 * R * S::LANES], 0)
        } else {
            (&self.entries[stage.entries..], self.first)
        };
        macro_rules! turn {
            ($($p:literal)*) => {
                $(if const { $p < R / 2 } {
                    self.x = turned::<T, S, B, R, $p, BIT>(s, b, panels, first + $p * distance, self.x);
                })*
            };
        }
        turn!(0 1 2 3 4 5 6 7);
    }

    /// [`Lanes::regroup`] of neighbouring registers.
    #[inline(always)]
    fn regroup<S: Lanes<T, V = V>, const FROM: u32, const TO: u32>(&mut self, s: S) {
        for r in (0..R).step_by(2) {
            [self.x[r], self.x[r + 1]] = s.regroup::<FROM, TO>([self.x[r], self.x[r + 1]]);
        }
    }
}

/// Pair number P of the registers that differ in bit `BIT`, turned by blocks from number `j` of the panels on.
#[inline(always)]
fn turned<T: Scalar, S: Lanes<T>, B: Blocks, const R: usize, const P: usize, const BIT: usize>(
    s: S,
    b: B,
    panels: &[T],
    j: usize,
    mut x: [S::V; R],
) -> [S::V; R] {
    let low = const { (P >> BIT << (BIT + 1)) | (P & ((1 << BIT) - 1)) };
    let high = low | (1 << BIT);
    let start = j / T::WIDTH * 4 * T::WIDTH + j % T::WIDTH;
    let entries = b.load(s, &panels[start..][..3 * T::WIDTH + S::LANES]);
    [x[low], x[high]] = b.turn(s, entries, x[low], x[high]);
    x
}
