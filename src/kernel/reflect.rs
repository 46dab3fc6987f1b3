//! Products of reflectors on the tile, a panel of at most eight at a time: two passes over the rows, whatever the panel holds.
//!
//! A panel's vectors u_i and its couplings N take a vector x to x + Σ_i u_i·e_i, where
//!
//! w_i = u_iᴴ x,  e_i = ρ_i·w_i − 2·w_i + Σ_j N_ij·e_j over the j that act before i.
//!
//! ρ_i, which stands where N_ii would, is what −2 lacks of N_ii = −τ_i: tiny, as u_i is a unit vector up to rounding, and known to
//! its last digits where N_ii would be rounded. What makes N the couplings of reflectors stands in `plan/reflectors.rs`. Reversing
//! the order in which vectors act gives the adjoint with the same numbers: for i before j and j before i the same N_ij is used.
//!
//! *Arithmetic.* w_i is summed from zero over runs of [`run_length`] coordinates with the machine's multiply-add, and the
//! runs' sums are added in order; e_i and the new x_k are chains of multiply-adds in the order of acting and of i. Every lane
//! of every machine does this, so results depend on nothing else. An error of a sum grows with the run and the number of runs
//! instead of with the block size.
//!
//! How vectors are cut into panels and stored: `panels.rs`.

use alloc::vec;

use bytemuck::{Pod, Zeroable};

use super::Step;
use super::compiled::{OnScalars, on_scalars};
use super::panels::{PANEL, panel, panels, run_length};
use crate::layout::StageLayout;
use crate::scalar::Scalar;
use crate::simd::{Isa, Job, Lanes, OneLane};

/// Registers of 64 bytes that [`vjp`] needs for the coefficients of one panel: four kinds, in the widest tile.
const SCRATCH: usize = 4 * PANEL * super::choose::WIDEST;

/// What makes a [`Step`] a product of reflectors; its `entries` are their vectors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reflectors<'a, T> {
    pub(crate) count: usize,
    /// N_ij of vector i and vector j of its panel, ρ_i for i = j, at 8·i + (place of j in the panel), group after group.
    pub(crate) couplings: &'a [T],
    /// Where `couplings` start in the plan's.
    pub(crate) offset: usize,
    /// The last vector acts first.
    pub(crate) reversed: bool,
    /// The machine that runs the plan.
    pub(crate) isa: Isa,
}

/// Registers of 64 bytes that a step of reflectors needs as scratch.
pub(super) fn scratch() -> usize {
    SCRATCH
}

/// tile ← stage(tile), for a tile of `V` = `S::V` of the machine that the step names, or of single lanes.
pub(super) fn apply<T: Scalar, V: Pod>(step: &Step<'_, T>, r: &Reflectors<'_, T>, tile: &mut [V], registers: usize) {
    let (lanes, tile) = (size_of::<V>() / size_of::<T>(), bytemuck::cast_slice_mut(tile));
    on_scalars(r.isa, OnScalars::Reflect(Apply { step, r, tile, width: registers * lanes, alone: lanes == 1 }));
}

/// The adjoint of the derivative, from the stage's output: `y` becomes its input, `g` the cotangent of the input.
///
/// With the coefficients e^y and e^g of running backwards from y and g it adds Σ conj(e^g_i)·x_k − conj(e^y_i)·g_k over the
/// tile's vectors to the gradient of entry (i, k), and Σ −conj(e^y_i)·e^g_j to `d_couplings`, for i = j and j acting after i.
pub(super) fn vjp<T: Scalar, V: Pod>(
    step: &Step<'_, T>,
    r: &Reflectors<'_, T>,
    (g, y): (&mut [V], &mut [V]),
    registers: usize,
    scratch: &mut [V],
    (d_entries, d_couplings): (&mut [T], &mut [T]),
) {
    let width = registers * (size_of::<V>() / size_of::<T>());
    let (g, y) = (bytemuck::cast_slice_mut(g), bytemuck::cast_slice_mut(y));
    let (d_entries, d_couplings) = (&mut d_entries[step.offset..], &mut d_couplings[r.offset..]);
    let scratch = bytemuck::cast_slice_mut(scratch);
    on_scalars(r.isa, OnScalars::ReflectVjp(Vjp { step, r, g, y, width, scratch, d_entries, d_couplings }));
}

/// tile ← stage(tile), and direction ← the derivative along `direction` and the directions of the entries and couplings.
pub(super) fn jvp<T: Scalar, V: Pod>(
    step: &Step<'_, T>,
    d_step: &Step<'_, T>,
    tile: &mut [V],
    direction: &mut [V],
    registers: usize,
) {
    let (Some(r), Some(d_r)) = (&step.reflectors, &d_step.reflectors) else { return };
    let width = registers * (size_of::<V>() / size_of::<T>());
    let (tile, direction) = (bytemuck::cast_slice_mut(tile), bytemuck::cast_slice_mut(direction));
    on_scalars(r.isa, OnScalars::ReflectJvp(Jvp { at: (step, r), along: (d_step, d_r), tile, direction, width }));
}

// The three as jobs of their own, not inlined into those that run all stages: their code is large, and rarely needed.

pub(super) struct Apply<'a, T> {
    step: &'a Step<'a, T>,
    r: &'a Reflectors<'a, T>,
    tile: &'a mut [T],
    width: usize,
    /// The tile is one vector where it lies.
    alone: bool,
}

impl<T: Scalar> Job<T> for Apply<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        if self.alone {
            run_apply(OneLane::of(s), self.step, self.r, self.tile, 1);
        } else {
            run_apply(s, self.step, self.r, bytemuck::cast_slice_mut(self.tile), self.width / S::LANES);
        }
    }
}

#[inline(always)]
fn run_apply<T: Scalar, S: Lanes<T>>(
    s: S,
    step: &Step<'_, T>,
    r: &Reflectors<'_, T>,
    tile: &mut [S::V],
    registers: usize,
) {
    let (b, mut rows) = start(step.layout);
    for j in 0..step.layout.num_blocks() {
        let base = locate(step.layout, j, &mut rows);
        let tile = &mut tile[base * registers..];
        for at in 0..panels(r.count, b) {
            let p = Panel::new(step, r, j, b, at);
            match p.width {
                8 => apply_panel::<T, S, 8>(s, &p, &rows, tile, registers),
                4 => apply_panel::<T, S, 4>(s, &p, &rows, tile, registers),
                2 => apply_panel::<T, S, 2>(s, &p, &rows, tile, registers),
                _ => apply_panel::<T, S, 1>(s, &p, &rows, tile, registers),
            }
        }
    }
}

pub(super) struct Vjp<'a, T> {
    step: &'a Step<'a, T>,
    r: &'a Reflectors<'a, T>,
    g: &'a mut [T],
    y: &'a mut [T],
    width: usize,
    scratch: &'a mut [T],
    d_entries: &'a mut [T],
    d_couplings: &'a mut [T],
}

impl<T: Scalar> Job<T> for Vjp<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        let (b, mut rows) = start(self.step.layout);
        let back = Reflectors { reversed: !self.r.reversed, ..*self.r };
        let registers = self.width / S::LANES;
        let (all_g, all_y) = (bytemuck::cast_slice_mut(self.g), bytemuck::cast_slice_mut(self.y));
        let scratch = bytemuck::cast_slice_mut(self.scratch);
        for j in 0..self.step.layout.num_blocks() {
            let base = locate(self.step.layout, j, &mut rows);
            let (g, y) = (&mut all_g[base * registers..], &mut all_y[base * registers..]);
            for at in 0..panels(back.count, b) {
                let p = Panel::new(self.step, &back, j, b, at);
                let d = &mut self.d_entries[p.entry..];
                let k = &mut self.d_couplings[p.coupling..];
                match p.width {
                    8 => vjp_panel::<T, S, 8>(s, &p, &rows, g, y, registers, scratch, d, k),
                    4 => vjp_panel::<T, S, 4>(s, &p, &rows, g, y, registers, scratch, d, k),
                    2 => vjp_panel::<T, S, 2>(s, &p, &rows, g, y, registers, scratch, d, k),
                    _ => vjp_panel::<T, S, 1>(s, &p, &rows, g, y, registers, scratch, d, k),
                }
            }
        }
    }
}

pub(super) struct Jvp<'a, T> {
    at: (&'a Step<'a, T>, &'a Reflectors<'a, T>),
    along: (&'a Step<'a, T>, &'a Reflectors<'a, T>),
    tile: &'a mut [T],
    direction: &'a mut [T],
    width: usize,
}

impl<T: Scalar> Job<T> for Jvp<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        let ((step, r), (d_step, d_r)) = (self.at, self.along);
        let (b, mut rows) = start(step.layout);
        let registers = self.width / S::LANES;
        let (tile, direction) = (bytemuck::cast_slice_mut(self.tile), bytemuck::cast_slice_mut(self.direction));
        for j in 0..step.layout.num_blocks() {
            let base = locate(step.layout, j, &mut rows);
            let (x, dx) = (&mut tile[base * registers..], &mut direction[base * registers..]);
            for at in 0..panels(r.count, b) {
                let (p, d) = (Panel::new(step, r, j, b, at), Panel::new(d_step, d_r, j, b, at));
                match p.width {
                    8 => jvp_panel::<T, S, 8>(s, &p, &d, &rows, x, dx, registers),
                    4 => jvp_panel::<T, S, 4>(s, &p, &d, &rows, x, dx, registers),
                    2 => jvp_panel::<T, S, 2>(s, &p, &d, &rows, x, dx, registers),
                    _ => jvp_panel::<T, S, 1>(s, &p, &d, &rows, x, dx, registers),
                }
            }
        }
    }
}

/// Block size, and the coordinates of block 0: those of any block of a strided layout up to a shift.
#[inline(always)]
fn start(layout: &StageLayout) -> (usize, vec::Vec<usize>) {
    let b = layout.block_size();
    let mut rows = vec![0; b];
    if layout.num_blocks() > 0 {
        for (row, i) in rows.iter_mut().zip(layout.indices(0)) {
            *row = i;
        }
    }
    (b, rows)
}

/// The shift that, added to `rows`, gives the coordinates of block `j`.
#[inline(always)]
fn locate(layout: &StageLayout, j: usize, rows: &mut [usize]) -> usize {
    match layout {
        StageLayout::Strided { .. } => layout.index(j, 0),
        StageLayout::Table { block, index } => {
            for (row, i) in rows.iter_mut().zip(&index[j * block..]) {
                *row = *i as usize;
            }
            0
        }
    }
}

/// One panel of one block as it acts.
struct Panel<'a, T> {
    entries: &'a [T],
    couplings: &'a [T],
    /// Where both start in those of the step.
    entry: usize,
    coupling: usize,
    width: usize,
    /// Coordinates in a run of a sum.
    run: usize,
    reversed: bool,
    conj: bool,
}

impl<'a, T: Scalar> Panel<'a, T> {
    /// The panel that acts at place `at` in block `j`.
    #[inline(always)]
    fn new(step: &Step<'a, T>, r: &Reflectors<'a, T>, j: usize, b: usize, at: usize) -> Self {
        let (first, width) = panel(r.count, b, if r.reversed { panels(r.count, b) - 1 - at } else { at });
        let group = step.group(j);
        let entry = (group * r.count + first) * b;
        let coupling = (group * r.count + first) * PANEL;
        Self {
            entries: &step.entries[entry..entry + width * b],
            couplings: &r.couplings[coupling..coupling + width * PANEL],
            entry,
            coupling,
            width,
            run: run_length(b),
            reversed: r.reversed,
            conj: step.conj,
        }
    }

    #[inline(always)]
    fn acting(&self, number: T) -> T {
        if self.conj { number.conj() } else { number }
    }

    /// The vector that acts at place `t`.
    #[inline(always)]
    fn nth<const P: usize>(&self, t: usize) -> usize {
        if self.reversed { P - 1 - t } else { t }
    }

    /// w_i = u_iᴴ x for register column `c`.
    #[inline(always)]
    fn dots<S: Lanes<T>, const P: usize>(
        &self,
        s: S,
        rows: &[usize],
        x: &[S::V],
        registers: usize,
        c: usize,
    ) -> [S::V; P] {
        let mut w = [S::V::zeroed(); P];
        let one = s.splat(T::one());
        for (rows, entries) in rows.chunks(self.run).zip(self.entries.chunks(self.run * P)) {
            let mut sums = [S::V::zeroed(); P];
            for (row, u) in rows.iter().zip(entries.chunks_exact(P)) {
                let x = x[row * registers + c];
                for i in 0..P {
                    sums[i] = s.mul_add(s.splat(self.acting(u[i]).conj()), x, sums[i]);
                }
            }
            for i in 0..P {
                w[i] = s.mul_add(one, sums[i], w[i]);
            }
        }
        w
    }

    /// e of w.
    #[inline(always)]
    fn coefficients<S: Lanes<T>, const P: usize>(&self, s: S, w: &[S::V; P]) -> [S::V; P] {
        let mut e = [S::V::zeroed(); P];
        for t in 0..P {
            let i = self.nth::<P>(t);
            e[i] = self.add_earlier::<S, P>(s, t, &e, self.twice::<S, P>(s, i, w[i]));
        }
        e
    }

    /// −τ_i·w = ρ_i·w − 2w.
    #[inline(always)]
    fn twice<S: Lanes<T>, const P: usize>(&self, s: S, i: usize, w: S::V) -> S::V {
        let minus_two = s.splat(-(T::one() + T::one()));
        s.mul_add(s.splat(self.coupling::<P>(i, i)), w, s.mul(minus_two, w))
    }

    /// sum + Σ_j N_ij·e_j over the vectors that act before the one at place `t`, vector i.
    #[inline(always)]
    fn add_earlier<S: Lanes<T>, const P: usize>(&self, s: S, t: usize, e: &[S::V; P], mut sum: S::V) -> S::V {
        let i = self.nth::<P>(t);
        for before in 0..t {
            let j = self.nth::<P>(before);
            sum = s.mul_add(s.splat(self.coupling::<P>(i, j)), e[j], sum);
        }
        sum
    }

    #[inline(always)]
    fn coupling<const P: usize>(&self, i: usize, j: usize) -> T {
        self.acting(self.couplings[i * PANEL + j])
    }

    /// x + Σ_i u_ik·e_i, for the vectors' entries `u` at coordinate k.
    #[inline(always)]
    fn add<S: Lanes<T>, const P: usize>(&self, s: S, u: &[T], e: &[S::V; P], mut x: S::V) -> S::V {
        for i in 0..P {
            x = s.mul_add(s.splat(self.acting(u[i])), e[i], x);
        }
        x
    }
}

#[inline(always)]
fn apply_panel<T: Scalar, S: Lanes<T>, const P: usize>(
    s: S,
    p: &Panel<'_, T>,
    rows: &[usize],
    tile: &mut [S::V],
    registers: usize,
) {
    for c in 0..registers {
        let e = p.coefficients::<S, P>(s, &p.dots::<S, P>(s, rows, tile, registers, c));
        for (row, u) in rows.iter().zip(p.entries.chunks_exact(P)) {
            let x = &mut tile[row * registers + c];
            *x = p.add::<S, P>(s, u, &e, *x);
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)] // as `vjp`
fn vjp_panel<T: Scalar, S: Lanes<T>, const P: usize>(
    s: S,
    p: &Panel<'_, T>,
    rows: &[usize],
    g: &mut [S::V],
    y: &mut [S::V],
    registers: usize,
    scratch: &mut [S::V],
    d_entries: &mut [T],
    d_couplings: &mut [T],
) {
    let minus = s.splat(-T::one());
    let (kept, _) = scratch.split_at_mut(4 * P * registers);
    for (c, kept) in kept.chunks_exact_mut(4 * P).enumerate() {
        let ey = p.coefficients::<S, P>(s, &p.dots::<S, P>(s, rows, y, registers, c));
        let eg = p.coefficients::<S, P>(s, &p.dots::<S, P>(s, rows, g, registers, c));
        for i in 0..P {
            (kept[i], kept[P + i]) = (ey[i], eg[i]);
            (kept[2 * P + i], kept[3 * P + i]) = (s.mul(minus, s.conj(ey[i])), s.conj(eg[i]));
        }
    }
    // `p` runs backwards: its first vector acted last, and what comes before a vector here acted after it.
    for t in 0..P {
        let i = p.nth::<P>(t);
        for before in 0..=t {
            let j = p.nth::<P>(before);
            let mut sum = S::V::zeroed();
            for kept in kept.chunks_exact(4 * P) {
                sum = s.mul_add(kept[2 * P + i], kept[P + j], sum);
            }
            d_couplings[i * PANEL + j] += p.acting(s.sum(sum));
        }
    }
    for ((row, u), d) in rows.iter().zip(p.entries.chunks_exact(P)).zip(d_entries.chunks_exact_mut(P)) {
        let mut sums = [S::V::zeroed(); P];
        for (c, kept) in kept.chunks_exact(4 * P).enumerate() {
            let (mut ey, mut eg) = ([S::V::zeroed(); P], [S::V::zeroed(); P]);
            ey.copy_from_slice(&kept[..P]);
            eg.copy_from_slice(&kept[P..2 * P]);
            let (x, g) = (&mut y[row * registers + c], &mut g[row * registers + c]);
            *x = p.add::<S, P>(s, u, &ey, *x);
            for i in 0..P {
                sums[i] = s.mul_add(kept[2 * P + i], *g, s.mul_add(kept[3 * P + i], *x, sums[i]));
            }
            *g = p.add::<S, P>(s, u, &eg, *g);
        }
        for i in 0..P {
            d[i] += p.acting(s.sum(sums[i]));
        }
    }
}

#[inline(always)]
fn jvp_panel<T: Scalar, S: Lanes<T>, const P: usize>(
    s: S,
    p: &Panel<'_, T>,
    d: &Panel<'_, T>,
    rows: &[usize],
    x: &mut [S::V],
    dx: &mut [S::V],
    registers: usize,
) {
    let one = s.splat(T::one());
    for c in 0..registers {
        let w = p.dots::<S, P>(s, rows, x, registers, c);
        let e = p.coefficients::<S, P>(s, &w);
        let (moved, turned) = (p.dots::<S, P>(s, rows, dx, registers, c), d.dots::<S, P>(s, rows, x, registers, c));
        let mut de = [S::V::zeroed(); P];
        for t in 0..P {
            let i = p.nth::<P>(t);
            let dw = s.mul_add(one, moved[i], turned[i]);
            let own = s.mul_add(s.splat(d.coupling::<P>(i, i)), w[i], p.twice::<S, P>(s, i, dw));
            de[i] = p.add_earlier::<S, P>(s, t, &de, d.add_earlier::<S, P>(s, t, &e, own));
        }
        for ((row, u), du) in rows.iter().zip(p.entries.chunks_exact(P)).zip(d.entries.chunks_exact(P)) {
            let (x, dx) = (&mut x[row * registers + c], &mut dx[row * registers + c]);
            *dx = d.add::<S, P>(s, du, &e, p.add::<S, P>(s, u, &de, *dx));
            *x = p.add::<S, P>(s, u, &e, *x);
        }
    }
}
