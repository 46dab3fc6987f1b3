//! One vector through stages of pairs whose coordinates lie anywhere.
//!
//! In the order of a stage the first coordinates of its blocks come first, block by block, then the second ones, then those that it
//! does not name. In this order lanes are neighbouring blocks: of x the stage needs x_j … and x_{p+j} … for p pairs. So a vector goes
//! from the order of one stage to that of the next, number by number, while the stage loads it; the permutations between orders
//! are made with the plan. All else runs in registers.
//!
//! Indices have 16 bits, and numbers are taken from buffers of 2¹⁶: no index can be out of bounds, so none is checked.

use alloc::vec;
use alloc::vec::Vec;

use bytemuck::Zeroable;

use super::Strides;
use crate::layout::StageLayout;
use crate::scalar::Scalar;
use crate::simd::{Job, Lanes, NATURAL, OneLane, load, store};

/// Numbers in a buffer.
pub(super) const MOST: usize = 1 << 16;

/// A stage of pairs, wherever they lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Anywhere<'a> {
    pub(crate) layout: &'a StageLayout,
    pub(crate) strides: Strides,
    /// Where its entries start among all of the plan.
    pub(crate) entries: usize,
    /// Whether blocks act transposed.
    pub(crate) transposed: bool,
}

impl Anywhere<'_> {
    pub(crate) fn transposed(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }
}

/// A stage, and the way to its order from the one before.
#[derive(Debug, Clone)]
struct Hop {
    /// For each place where the number comes from.
    from: Vec<u16>,
    pairs: usize,
    planar: bool,
    entries: usize,
    transposed: bool,
}

/// A plan all of whose stages are pairs, some of them in tables.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    hops: Vec<Hop>,
    /// From the order of the last stage to the natural one.
    back: Vec<u16>,
}

impl Route {
    /// Of stages in the order in which they act, if there is such a route and anything to gain by it.
    pub(crate) fn new<'a>(n: usize, stages: impl Iterator<Item = Option<Anywhere<'a>>>) -> Option<Self> {
        let stages: Vec<_> = Some(stages).filter(|_| n <= MOST)?.collect::<Option<_>>()?;
        if !stages.iter().any(|stage| matches!(stage.layout, StageLayout::Table { .. })) {
            return None;
        }
        // Where each coordinate is.
        let mut places: Vec<u16> = (0..n).map(|c| c as u16).collect();
        let mut hops = Vec::with_capacity(stages.len());
        for stage in stages {
            let pairs = stage.layout.num_blocks();
            let half = |i: usize| (0..pairs).map(move |j| stage.layout.index(j, i));
            let mut order: Vec<usize> = half(0).chain(half(1)).collect();
            let mut named = vec![false; n];
            order.iter().for_each(|c| named[*c] = true);
            order.extend((0..n).filter(|c| !named[*c]));
            let from = order.iter().map(|c| places[*c]).collect();
            for (place, c) in order.into_iter().enumerate() {
                places[c] = place as u16;
            }
            let Anywhere { entries, transposed, strides, .. } = stage;
            hops.push(Hop { from, pairs, planar: strides.is_planar(), entries, transposed });
        }
        Some(Self { hops, back: places })
    }
}

/// vector ← the whole route.
pub(super) struct Routed<'a, T> {
    pub(super) route: &'a Route,
    /// All of the plan.
    pub(super) entries: &'a [T],
    pub(super) vector: &'a mut [T],
    /// Two buffers.
    pub(super) scratch: &'a mut [T],
}

impl<T: Scalar> Job<T> for Routed<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<T>>(self, s: S) {
        if const { T::IS_COMPLEX } {
            return; // no routes are made
        }
        let ([now, next, ..], _) = self.scratch.as_chunks_mut::<MOST>() else { return };
        let (mut now, mut next) = (now, next);
        now[..self.vector.len()].copy_from_slice(self.vector);
        for hop in &self.route.hops {
            hop.run(s, self.entries, now, next);
            (now, next) = (next, now);
        }
        copy::<T, S>(now, &self.route.back, self.vector);
    }
}

impl Hop {
    #[inline(always)]
    fn run<T: Scalar, S: Lanes<T>>(&self, s: S, entries: &[T], x: &[T; MOST], y: &mut [T; MOST]) {
        let entries = &entries[self.entries..][..4 * self.pairs];
        let (from, others) = self.from.split_at(2 * self.pairs);
        let (first, second) = from.split_at(self.pairs);
        let (y, y_others) = y.split_at_mut(2 * self.pairs);
        let (y_first, y_second) = y.split_at_mut(self.pairs);
        let whole = self.pairs / S::LANES * S::LANES;
        for j in (0..whole).step_by(S::LANES) {
            let [e00, mut e01, mut e10, e11] = if self.planar {
                let panel = &entries[j / T::WIDTH * 4 * T::WIDTH + j % T::WIDTH..][..3 * T::WIDTH + S::LANES];
                let run = |e: usize| load::<T, S>(&panel[e * T::WIDTH..]);
                [run(0), run(2), run(1), run(3)]
            } else {
                apart::<T, S>(s, &entries[4 * j..])
            };
            if self.transposed {
                (e01, e10) = (e10, e01);
            }
            let (a, b) = (gather::<T, S>(x, &first[j..]), gather::<T, S>(x, &second[j..]));
            store::<T, S>(&mut y_first[j..], s.mul_add(e01, b, s.mul(e00, a)));
            store::<T, S>(&mut y_second[j..], s.mul_add(e11, b, s.mul(e10, a)));
        }
        // (Planar stages are whole panels.)
        let one = OneLane::of(s);
        for j in whole..self.pairs {
            let block = &entries[4 * j..][..4];
            let (e01, e10) = if self.transposed { (block[2], block[1]) } else { (block[1], block[2]) };
            let (a, b) = (x[first[j] as usize], x[second[j] as usize]);
            y_first[j] = one.mul_add(e01, b, one.mul(block[0], a));
            y_second[j] = one.mul_add(block[3], b, one.mul(e10, a));
        }
        copy::<T, S>(x, others, &mut y_others[..others.len()]);
    }
}

/// Of as many row-major blocks as there are lanes, each entry of all of them.
#[inline(always)]
fn apart<T: Scalar, S: Lanes<T>>(s: S, blocks: &[T]) -> [S::V; 4] {
    let blocks = &blocks[..4 * S::LANES];
    let at = |r: usize| load::<T, S>(&blocks[r * S::LANES..]);
    // Even numbers are the first column: e₀₀, e₁₀, …; of those in turn even ones are the first row.
    let [first, second] = s.regroup::<NATURAL, 0>([at(0), at(1)]);
    let [third, fourth] = s.regroup::<NATURAL, 0>([at(2), at(3)]);
    let ([e00, e10], [e01, e11]) = (s.regroup::<NATURAL, 0>([first, third]), s.regroup::<NATURAL, 0>([second, fourth]));
    [e00, e01, e10, e11]
}

/// As many numbers as there are lanes.
#[inline(always)]
fn gather<T: Scalar, S: Lanes<T>>(x: &[T; MOST], from: &[u16]) -> S::V {
    let mut numbers = S::V::zeroed();
    let from = &from[..S::LANES];
    let to: &mut [T] = bytemuck::cast_slice_mut(core::slice::from_mut(&mut numbers));
    for l in 0..S::LANES {
        to[l] = x[from[l] as usize];
    }
    numbers
}

/// y ← x at `from`.
#[inline(always)]
fn copy<T: Scalar, S: Lanes<T>>(x: &[T; MOST], from: &[u16], y: &mut [T]) {
    let whole = y.len() / S::LANES * S::LANES;
    for c in (0..whole).step_by(S::LANES) {
        store::<T, S>(&mut y[c..], gather::<T, S>(x, &from[c..]));
    }
    for (y, from) in y[whole..].iter_mut().zip(&from[whole..]) {
        *y = x[*from as usize];
    }
}
