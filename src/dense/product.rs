//! Sums of products of small matrices, in tiles of registers.
//!
//! A tile is up to four rows by four registers, so each number that is loaded serves up to four products. The registers of a
//! matrix of packs are its entries; of a matrix of plain real numbers they are neighbouring columns. Every entry is summed over k
//! upwards, whatever the tiling, so its bits depend on nothing else.

// Plain loops over constants keep tiles in registers, and closures may lose the machine's features.
#![allow(clippy::needless_range_loop)]

use super::pack::Number;
use super::register::Register;
use super::triangles::mirror;
use crate::simd::{Job, Lanes, Portable};

/// Which half of a sum is computed, and how it tells the other.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    General,
    Hermitian,
    Skew,
}

/// x·m, or xᴴ·m.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a, T> {
    pub(crate) x: &'a [T],
    pub(crate) adjoint: bool,
    pub(crate) m: &'a [T],
}

/// `out` ← scale·Σ products + Σ f·y + identity·I, in this order, for b×b matrices.
pub(crate) struct Sum<'a, T> {
    pub(crate) b: usize,
    pub(crate) shape: Shape,
    pub(crate) products: &'a [Product<'a, T>],
    pub(crate) scale: f64,
    pub(crate) sums: &'a [(f64, &'a [T])],
    pub(crate) identity: f64,
    pub(crate) out: &'a mut [T],
}

impl<T: Number> Sum<'_, T> {
    /// Computes it on machine `s`.
    #[inline(always)]
    pub(crate) fn on<S: Lanes<f64>>(self, s: S) {
        match self.b {
            4 if T::IS_PACK => s.call(Sized::<T, 4>(self)),
            8 if T::IS_PACK => s.call(Sized::<T, 8>(self)),
            _ => s.call(Sized::<T, 0>(self)),
        }
    }
}

/// As a job its code exists once for b = `B`, where loops have constant bounds, and once for all other sizes (0).
struct Sized<'a, T, const B: usize>(Sum<'a, T>);

impl<T: Number, const B: usize> Job<f64> for Sized<'_, T, B> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, s: S) {
        let b = if B == 0 { self.0.b } else { B };
        let Sum { shape, products, scale, sums, identity, out, .. } = self.0;
        let mut sum = Sum { b, shape, products, scale, sums, identity, out: &mut out[..b * b] };
        by_rows(s, 0..b, &mut sum);
        if shape == Shape::General && identity == 0.0 {
            return;
        }
        if T::IS_PACK {
            sum.finish_diagonal::<T::Register<S>, S>(s);
        } else {
            sum.finish_diagonal::<T, S>(s);
            if T::IN_REGISTERS && shape != Shape::General {
                mirror(s, b, (if shape == Shape::Skew { -1.0 } else { 1.0 }, -0.0), sum.out);
            }
        }
    }
}

impl<T: Number> Sum<'_, T> {
    /// The part of the diagonal that the shape allows, and the identity.
    #[inline(always)]
    fn finish_diagonal<V: Register<S, T>, S: Lanes<f64>>(&mut self, s: S) {
        let (half, identity) = (V::constant(s, 0.5), V::constant(s, self.identity));
        let sign = V::constant(s, if self.shape == Shape::Skew { -1.0 } else { 1.0 });
        for entry in self.out.chunks_mut(self.b + 1) {
            for part in 0..V::PARTS {
                let mut x = V::load(s, entry, part);
                if self.shape != Shape::General {
                    x = half * (x + sign * x.conj());
                }
                if self.identity != 0.0 {
                    x = x + identity;
                }
                x.store(entry, part);
            }
        }
    }
}

impl<T: Number> Blocks<T> for Sum<'_, T> {
    #[inline(always)]
    fn columns(&self) -> usize {
        self.b
    }

    #[inline(always)]
    fn first<V: Register<S, T>, S>(&self, i: usize) -> usize {
        match self.shape {
            Shape::General => 0,
            // Some entries left of the diagonal are computed, too, so that columns are whole registers.
            _ => self.b - (self.b - i).next_multiple_of(V::COLUMNS).min(self.b),
        }
    }

    #[inline(always)]
    fn block<V: Register<S, T>, S: Lanes<f64>, const R: usize, const C: usize>(&mut self, s: S, i: usize, j: usize) {
        let b = self.b;
        for part in 0..V::PARTS {
            let mut sums = [[V::constant(s, 0.0); C]; R];
            for product in self.products {
                let (left, m) = (Left { x: &product.x[..b * b], stride: b, first: i }, &product.m[..b * b]);
                sums = if product.adjoint {
                    tile::<T, V, S, R, C, true>(s, sums, left, (m, b, j), b, part)
                } else {
                    tile::<T, V, S, R, C, false>(s, sums, left, (m, b, j), b, part)
                };
            }
            if self.scale != 1.0 {
                let scale = V::constant(s, self.scale);
                for r in 0..R {
                    for c in 0..C {
                        sums[r][c] = scale * sums[r][c];
                    }
                }
            }
            for (factor, y) in self.sums {
                let factor = V::constant(s, *factor);
                for r in 0..R {
                    let row: [V; C] = load(s, &y[(i + r) * b..(i + r + 1) * b], j, part);
                    for c in 0..C {
                        sums[r][c] = V::mul_add(s, factor, row[c], sums[r][c]);
                    }
                }
            }
            for r in 0..R {
                store(&sums[r], &mut self.out[(i + r) * b..(i + r + 1) * b], j, part);
            }
            if self.shape != Shape::General && V::COLUMNS == 1 {
                let sign = V::constant(s, if self.shape == Shape::Skew { -1.0 } else { 1.0 });
                for c in 0..C {
                    let row = &mut self.out[(j + c) * b + i..(j + c) * b + i + R];
                    for r in 0..R {
                        if j + c > i + r {
                            (sign * sums[r][c].conj()).store(&mut row[r..=r], part);
                        }
                    }
                }
            }
        }
    }
}

/// Something that is done to a matrix in blocks of `R` rows and `C` registers.
pub(super) trait Blocks<T> {
    /// The first column of the rows from i on.
    #[inline(always)]
    fn first<V: Register<S, T>, S>(&self, _i: usize) -> usize {
        0
    }
    fn block<V: Register<S, T>, S: Lanes<f64>, const R: usize, const C: usize>(&mut self, s: S, i: usize, j: usize);
    /// Length of the rows.
    fn columns(&self) -> usize;
}

/// All blocks of these rows, as large as the machine has registers for.
#[inline(always)]
pub(super) fn by_rows<T: Number, S: Lanes<f64>, B: Blocks<T>>(s: S, rows: core::ops::Range<usize>, blocks: &mut B) {
    let mut i = rows.start;
    if S::QUARTER >= 4 {
        while i + 4 <= rows.end {
            by_columns::<T, S, B, 4>(s, i, blocks);
            i += 4;
        }
    } else if S::QUARTER >= 2 {
        while i + 2 <= rows.end {
            by_columns::<T, S, B, 2>(s, i, blocks);
            i += 2;
        }
    }
    while i < rows.end {
        by_columns::<T, S, B, 1>(s, i, blocks);
        i += 1;
    }
}

#[inline(always)]
fn by_columns<T: Number, S: Lanes<f64>, B: Blocks<T>, const R: usize>(s: S, i: usize, blocks: &mut B) {
    let (b, span) = (blocks.columns(), <T::Register<S> as Register<S, T>>::COLUMNS);
    let mut j;
    if const { T::IN_REGISTERS } {
        j = blocks.first::<T::Register<S>, S>(i);
        while j + 4 * span <= b {
            blocks.block::<T::Register<S>, S, R, 4>(s, i, j);
            j += 4 * span;
        }
        if const { <T::Register<S> as Register<S, T>>::COLUMNS > 1 } && j + 2 * span <= b {
            blocks.block::<T::Register<S>, S, R, 2>(s, i, j);
            j += 2 * span;
        }
        while j + span <= b {
            blocks.block::<T::Register<S>, S, R, 1>(s, i, j);
            j += span;
        }
        if const { <T::Register<S> as Register<S, T>>::COLUMNS > 2 } && j + span / 2 <= b {
            blocks.block::<T::Half<S>, S, R, 1>(s, i, j);
            j += span / 2;
        }
    } else {
        j = blocks.first::<T, S>(i);
        while j + 4 <= b {
            blocks.block::<T, S, R, 4>(s, i, j);
            j += 4;
        }
    }
    while j < b {
        blocks.block::<T, S, R, 1>(s, i, j);
        j += 1;
    }
}

/// Rows from `first` on of x, or columns of it.
#[derive(Clone, Copy)]
pub(super) struct Left<'a, T> {
    pub(super) x: &'a [T],
    pub(super) stride: usize,
    pub(super) first: usize,
}

/// `sums[r][c]` + Σ_k x[i + r][k]·m[k][j + c] for k < `len`, in register c; of xᴴ if `ADJOINT`. Rows of m have length b.
#[inline(always)]
pub(super) fn tile<T: Number, V: Register<S, T>, S: Lanes<f64>, const R: usize, const C: usize, const ADJOINT: bool>(
    s: S,
    mut sums: [[V; C]; R],
    Left { x, stride, first }: Left<'_, T>,
    (m, b, j): (&[T], usize, usize),
    len: usize,
    part: usize,
) -> [[V; C]; R] {
    let mut rows: [&[T]; R] = [&[]; R];
    if !ADJOINT {
        for r in 0..R {
            rows[r] = &x[(first + r) * stride..(first + r) * stride + len];
        }
    }
    for k in 0..len {
        let right: [V; C] = load(s, &m[k * b..(k + 1) * b], j, part);
        let column = if ADJOINT { &x[k * stride + first..k * stride + first + R] } else { &[] };
        for r in 0..R {
            let left = if ADJOINT { V::spread(s, &column[r], part).conj() } else { V::spread(s, &rows[r][k], part) };
            for c in 0..C {
                sums[r][c] = V::mul_add(s, left, right[c], sums[r][c]);
            }
        }
    }
    sums
}

/// Registers of a row from column j on.
#[inline(always)]
pub(super) fn load<T, V: Register<S, T>, S: Copy, const C: usize>(s: S, row: &[T], j: usize, part: usize) -> [V; C] {
    let row = &row[j..j + C * V::COLUMNS];
    let mut x = [V::constant(s, 0.0); C];
    for c in 0..C {
        x[c] = V::load(s, &row[c * V::COLUMNS..(c + 1) * V::COLUMNS], part);
    }
    x
}

#[inline(always)]
pub(super) fn store<T, V: Register<S, T>, S, const C: usize>(x: &[V; C], row: &mut [T], j: usize, part: usize) {
    let row = &mut row[j..j + C * V::COLUMNS];
    for c in 0..C {
        x[c].store(&mut row[c * V::COLUMNS..(c + 1) * V::COLUMNS], part);
    }
}

/// m ← factor·m, lane by lane.
#[inline(always)]
pub(crate) fn scale<T: Number, S: Lanes<f64>>(s: S, factor: &T, m: &mut [T]) {
    if T::IS_PACK {
        scale_in::<T, T::Register<S>, S>(s, factor, m);
    } else {
        scale_in::<T, T, S>(s, factor, m);
    }
}

#[inline(always)]
fn scale_in<T: Number, V: Register<S, T>, S: Lanes<f64>>(s: S, factor: &T, m: &mut [T]) {
    for part in 0..V::PARTS {
        let factor = V::spread(s, factor, part);
        for x in m.chunks_exact_mut(1) {
            (factor * V::load(s, x, part)).store(x, part);
        }
    }
}

/// Σ|x|² as a number of the same kind, in eight chains.
#[inline(always)]
pub(crate) fn squares<T: Number, S: Lanes<f64>>(s: S, m: &[T]) -> T {
    let mut sums = [T::from_f64(0.0); CHAINS];
    let (most, rest) = m.split_at(m.len() / CHAINS * CHAINS);
    if T::IN_REGISTERS {
        squares_in::<T, T::Register<S>, S>(s, most, &mut sums);
    } else {
        squares_in::<T, T, S>(s, most, &mut sums);
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum = T::mul_add(s, *x, x.conj(), *sum);
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

const CHAINS: usize = 8;

#[inline(always)]
fn squares_in<T: Number, V: Register<S, T>, S: Lanes<f64>>(s: S, m: &[T], out: &mut [T; CHAINS]) {
    let count = CHAINS / V::COLUMNS;
    for part in 0..V::PARTS {
        let mut sums = [V::constant(s, 0.0); CHAINS];
        for chunk in m.chunks_exact(CHAINS) {
            for c in 0..count {
                let x = V::load(s, &chunk[c * V::COLUMNS..(c + 1) * V::COLUMNS], part);
                sums[c] = V::mul_add(s, x, x.conj(), sums[c]);
            }
        }
        for c in 0..count {
            sums[c].store(&mut out[c * V::COLUMNS..(c + 1) * V::COLUMNS], part);
        }
    }
}

/// `out = x·m` for b×b matrices.
pub(crate) fn product<T: Number>(b: usize, x: &[T], m: &[T], out: &mut [T]) {
    product_on(Portable, b, Product { x, adjoint: false, m }, out);
}

/// The same for b = `B` and in place of a call: for small matrices that costs as much.
#[inline(always)]
pub(crate) fn product_here<T: Number, S: Lanes<f64>, const B: usize>(s: S, product: Product<'_, T>, out: &mut [T]) {
    let products = &[product];
    let out = &mut out[..B * B];
    let mut sum = Sum { b: B, shape: Shape::General, products, scale: 1.0, sums: &[], identity: 0.0, out };
    by_rows(s, 0..B, &mut sum);
}

/// `out` = a product of b×b matrices.
#[inline(always)]
pub(crate) fn product_on<T: Number, S: Lanes<f64>>(s: S, b: usize, product: Product<'_, T>, out: &mut [T]) {
    Sum { b, shape: Shape::General, products: &[product], scale: 1.0, sums: &[], identity: 0.0, out }.on(s);
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::dense::pack::{Lanes, Pack};

    #[test]
    fn agrees_with_the_definition_in_every_lane() {
        for b in 1..=9 {
            let entry = |l: usize, at: usize| (at * at % 7) as f64 - (l * at % 5) as f64;
            let m: Vec<Lanes> = (0..b * b).map(|at| Lanes::gather(|l| entry(l, at))).collect();
            let mut out = vec![Lanes::from_f64(f64::NAN); b * b];
            product(b, &m, &m, &mut out);
            for (at, out) in out.iter().enumerate() {
                for l in 0..8 {
                    let truth: f64 = (0..b).map(|k| entry(l, at / b * b + k) * entry(l, k * b + at % b)).sum();
                    assert_eq!(out.lane(l), truth, "b = {b}, entry {at}, lane {l}");
                }
            }
        }
    }

    /// Every shape, factor and layout against the definition, in packs and in plain numbers; small integers, so sums are exact.
    #[test]
    fn sums_of_every_shape_agree_with_the_definition() {
        for b in (1..=9).chain([12, 17, 33]) {
            for shape in [Shape::General, Shape::Hermitian, Shape::Skew] {
                // XᵀX is symmetric, and XᵀKX is skew for a skew K.
                let x = |i: usize, j: usize| ((i * 5 + j * 3) % 7) as f64 - 3.0;
                let k = |i: usize, j: usize| match shape {
                    Shape::Skew => ((i * j) % 5) as f64 * (i as f64 - j as f64).signum() * f64::from(u8::from(i != j)),
                    _ => f64::from(u8::from(i == j)),
                };
                let kx = |i: usize, j: usize| (0..b).map(|l| k(i, l) * x(l, j)).sum::<f64>();
                let entries =
                    |f: &dyn Fn(usize, usize) -> f64| (0..b * b).map(|at| f(at / b, at % b)).collect::<Vec<f64>>();
                let (left, right) = (entries(&x), entries(&kx));
                let identity = if shape == Shape::Skew { 0.0 } else { 3.0 };
                let y = entries(&|i, j| match shape {
                    Shape::Skew if i >= j => -f64::from(u8::from(i > j)) * x(j, i),
                    _ => x(i.min(j), i.max(j)),
                });
                let truth = entries(&|i, j| {
                    let product: f64 = (0..b).map(|l| left[l * b + i] * right[l * b + j]).sum();
                    0.5 * product + 2.0 * y[i * b + j] + identity * f64::from(u8::from(i == j))
                });
                check(b, shape, identity, [&left, &right, &y], &truth);
                let packs = |m: &[f64]| m.iter().map(|x| Lanes::from_f64(*x)).collect::<Vec<Lanes>>();
                check(b, shape, identity, [&packs(&left), &packs(&right), &packs(&y)], &packs(&truth));
            }
        }
    }

    fn check<T: Number + PartialEq>(b: usize, shape: Shape, identity: f64, [x, m, y]: [&[T]; 3], truth: &[T]) {
        for isa in crate::simd::Isa::available() {
            let mut out = vec![T::from_f64(f64::NAN); b * b];
            let products = &[Product { x, adjoint: true, m }];
            let sum = Sum { b, shape, products, scale: 0.5, sums: &[(2.0, y)], identity, out: &mut out };
            crate::simd::dispatch(isa, On(sum));
            assert!(out == truth, "b = {b}, {isa:?}, pack: {}", T::IS_PACK);
        }
    }

    struct On<'a, T>(Sum<'a, T>);
    impl<T: Number> Job<f64> for On<'_, T> {
        fn run<S: crate::simd::Lanes<f64>>(self, s: S) {
            self.0.on(s);
        }
    }
}
