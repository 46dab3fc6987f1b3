//! Inverses without pivoting, of single matrices and of packs.
//!
//! If the symmetric part of M is positive definite, T = (M + Mᵀ)/2, S = (M − Mᵀ)/2, elimination needs no pivoting to exist, and
//! ‖|L||U|‖_F ≤ b(‖T‖₂ + ‖S T⁻¹ S‖₂) (Golub & Van Loan, *Matrix Computations*, 4th ed., §4.2.2). For M = I + A with A skew
//! this is b(1 + ‖A‖²): safe for moderate A, to be checked otherwise.
//!
//! *By halves.* With M = [[E, R], [C, N]], V = −E⁻¹R, W = −CE⁻¹ and F = (N + CV)⁻¹,
//!
//!   M⁻¹ = [[E⁻¹ + V(FW), VF], [FW, F]]:
//!
//! two inverses of half the size and six products, which are tiles of registers as long as they can be. The symmetric parts of
//! E and of N + CV are at least that of M, so ‖E⁻¹‖₂ and ‖F‖₂ ≤ 1 for I + A.

// Plain loops over constants become straight code.
#![allow(clippy::needless_range_loop)]

use core::ops::Mul;

use super::pack::Number;
use super::product::{Blocks, Left, by_rows, load, store, tile};
use super::register::Register;
use crate::simd::{Job, Lanes};

/// Numbers that [`invert_unpivoted`] wants for b×b matrices.
pub(crate) fn room(b: usize) -> usize {
    2 * b * b
}

/// M ← M⁻¹ for the b×b matrix at the beginning of `m`; the rest, [`room`] in all, is scratch. Lanes where it breaks down end up
/// not finite, or wrong.
#[inline(always)]
pub(crate) fn invert_unpivoted<T: Number, S: Lanes<f64>>(s: S, b: usize, m: &mut [T]) {
    let (memory, m, n, free) = (m, View { at: 0, stride: b }, b, b * b);
    match b {
        8 if T::IS_PACK => s.call(Invert::<T, 8> { memory, m, n, free }),
        _ => s.call(Invert::<T, 0> { memory, m, n, free }),
    }
}

/// A matrix in memory that many share: where it begins, and from row to row.
#[derive(Clone, Copy)]
struct View {
    at: usize,
    stride: usize,
}

impl View {
    #[inline(always)]
    fn from(self, i: usize, j: usize) -> Self {
        Self { at: self.at + i * self.stride + j, ..self }
    }
}

/// The inverse of the n×n matrix `m`, with scratch from `free` on. (As a job its code exists once for n = `B`, where loops have
/// constant bounds, and once for all other sizes.)
struct Invert<'a, T, const B: usize> {
    memory: &'a mut [T],
    m: View,
    n: usize,
    free: usize,
}

impl<T: Number, const B: usize> Job<f64> for Invert<'_, T, B> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, s: S) {
        let Self { memory: a, m: e, n, free } = self;
        let n = if B == 0 { n } else { B };
        if n <= 4 {
            return Small { memory: a, m: e, n }.on(s);
        }
        let h = (n / 2).next_multiple_of(4);
        let rest = n - h;
        let (right, below, corner) = (e.from(0, h), e.from(h, 0), e.from(h, h));
        let v = View { at: free, stride: rest };
        let w = View { at: free + h * rest, stride: h };
        let free = free + 2 * h * rest;
        let (negative, plain, added) = (Sign::Negative, Sign::Plain, Sign::Added);
        invert(s, a, e, h, free);
        Multiply { a, x: e, y: right, out: v, rows: h, columns: rest, len: h, sign: negative }.on::<S, B>(s);
        Multiply { a, x: below, y: e, out: w, rows: rest, columns: h, len: h, sign: negative }.on::<S, B>(s);
        Multiply { a, x: below, y: v, out: corner, rows: rest, columns: rest, len: h, sign: added }.on::<S, B>(s);
        invert(s, a, corner, rest, free);
        Multiply { a, x: corner, y: w, out: below, rows: rest, columns: h, len: rest, sign: plain }.on::<S, B>(s);
        Multiply { a, x: v, y: corner, out: right, rows: h, columns: rest, len: rest, sign: plain }.on::<S, B>(s);
        Multiply { a, x: v, y: below, out: e, rows: h, columns: h, len: rest, sign: added }.on::<S, B>(s);
    }
}

#[inline(always)]
fn invert<T: Number, S: Lanes<f64>>(s: S, memory: &mut [T], m: View, n: usize, free: usize) {
    match n {
        0..=4 => Small { memory, m, n }.on(s),
        8 if T::IS_PACK => s.call(Invert::<T, 8> { memory, m, n, free }),
        _ => s.call(Invert::<T, 0> { memory, m, n, free }),
    }
}

/// [`small`], in place, or by a call where code that is not optimised would need too much stack.
struct Small<'a, T> {
    memory: &'a mut [T],
    m: View,
    n: usize,
}

impl<T: Number> Small<'_, T> {
    #[inline(always)]
    fn on<S: Lanes<f64>>(self, s: S) {
        if const { cfg!(debug_assertions) } {
            return s.call(self);
        }
        small(s, self.memory, self.m, self.n);
    }
}

impl<T: Number> Job<f64> for Small<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, s: S) {
        small(s, self.memory, self.m, self.n);
    }
}

/// What becomes of a product.
#[derive(Clone, Copy, PartialEq)]
enum Sign {
    Plain,
    Negative,
    /// Added to what is there.
    Added,
}

/// `out` ← ±x·y, or `out` + x·y; rows of x have the length `len`.
struct Multiply<'a, T> {
    a: &'a mut [T],
    x: View,
    y: View,
    out: View,
    rows: usize,
    columns: usize,
    len: usize,
    sign: Sign,
}

impl<T: Number> Multiply<'_, T> {
    /// In place where sizes are constants, by a call otherwise, and where code that is not optimised would need too much stack.
    #[inline(always)]
    fn on<S: Lanes<f64>, const B: usize>(mut self, s: S) {
        if const { B == 0 || cfg!(debug_assertions) } {
            return s.call(self);
        }
        by_rows(s, 0..self.rows, &mut self);
    }
}

impl<T: Number> Job<f64> for Multiply<'_, T> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(mut self, s: S) {
        by_rows(s, 0..self.rows, &mut self);
    }
}

impl<T: Number> Blocks<T> for Multiply<'_, T> {
    #[inline(always)]
    fn columns(&self) -> usize {
        self.columns
    }
    #[inline(always)]
    fn block<V: Register<S, T>, S: Lanes<f64>, const R: usize, const C: usize>(&mut self, s: S, i: usize, j: usize) {
        let Self { x, y, out, columns, .. } = *self;
        for part in 0..V::PARTS {
            let mut sums = [[V::constant(s, 0.0); C]; R];
            if self.sign == Sign::Added {
                for r in 0..R {
                    let start = out.from(i + r, 0).at;
                    sums[r] = load(s, &self.a[start..start + columns], j, part);
                }
            }
            let left = Left { x: &self.a[x.at..], stride: x.stride, first: i };
            let right = (&self.a[y.at..], y.stride, j);
            sums = tile::<T, V, S, R, C, false>(s, sums, left, right, self.len, part);
            if self.sign == Sign::Negative {
                let minus = V::constant(s, -1.0);
                for r in 0..R {
                    for c in 0..C {
                        sums[r][c] = minus * sums[r][c];
                    }
                }
            }
            for r in 0..R {
                let start = out.from(i + r, 0).at;
                store(&sums[r], &mut self.a[start..start + columns], j, part);
            }
        }
    }
}

/// The inverse of up to four rows, beside an identity: the same by halves, in registers. Two reciprocals; they are what takes the
/// time.
#[inline(always)]
fn small<T: Number, S: Lanes<f64>>(s: S, a: &mut [T], m: View, n: usize) {
    if T::IS_PACK {
        small_in::<T, T::Register<S>, S>(s, a, m, n);
    } else {
        small_in::<T, T, S>(s, a, m, n);
    }
}

#[inline(always)]
fn small_in<T: Number, V: Register<S, T>, S: Lanes<f64>>(s: S, a: &mut [T], m: View, n: usize) {
    for part in 0..V::PARTS {
        let mut d = [[V::constant(s, 0.0); 4]; 4];
        for i in 0..4 {
            for j in 0..4 {
                if i < n && j < n {
                    d[i][j] = V::spread(s, &a[m.from(i, j).at], part);
                } else if i == j {
                    d[i][j] = V::constant(s, 1.0);
                }
            }
        }
        let (e, right, below, last) = (corner(&d, 0, 0), corner(&d, 0, 2), corner(&d, 2, 0), corner(&d, 2, 2));
        let minus = V::constant(s, -1.0);
        let e = invert_two(s, e);
        let (v, w) = (times(s, by(minus, e), right), times(s, by(minus, below), e));
        let last = invert_two(s, times_plus(s, below, v, last));
        let (right, below) = (times(s, v, last), times(s, last, w));
        let e = times_plus(s, v, below, e);
        let rows = [[e, right], [below, last]];
        for i in 0..4 {
            for j in 0..4 {
                if i < n && j < n {
                    rows[i / 2][j / 2][i % 2 * 2 + j % 2].store(&mut a[m.from(i, j).at..], part);
                }
            }
        }
    }
}

/// A 2×2 matrix, row-major.
type Two<V> = [V; 4];

// Functions, not closures: those may be compiled without the machine's features.

#[inline(always)]
fn corner<V: Copy>(d: &[[V; 4]; 4], i: usize, j: usize) -> Two<V> {
    [d[i][j], d[i][j + 1], d[i + 1][j], d[i + 1][j + 1]]
}

#[inline(always)]
fn times<T, V: Register<S, T>, S: Copy>(s: S, x: Two<V>, y: Two<V>) -> Two<V> {
    second(s, x, y, [x[0] * y[0], x[0] * y[1], x[2] * y[0], x[2] * y[1]])
}

/// x·y + z
#[inline(always)]
fn times_plus<T, V: Register<S, T>, S: Copy>(s: S, x: Two<V>, y: Two<V>, z: Two<V>) -> Two<V> {
    let first = [
        V::mul_add(s, x[0], y[0], z[0]),
        V::mul_add(s, x[0], y[1], z[1]),
        V::mul_add(s, x[2], y[0], z[2]),
        V::mul_add(s, x[2], y[1], z[3]),
    ];
    second(s, x, y, first)
}

/// The second term of a product.
#[inline(always)]
fn second<T, V: Register<S, T>, S: Copy>(s: S, x: Two<V>, y: Two<V>, z: Two<V>) -> Two<V> {
    [
        V::mul_add(s, x[1], y[2], z[0]),
        V::mul_add(s, x[1], y[3], z[1]),
        V::mul_add(s, x[3], y[2], z[2]),
        V::mul_add(s, x[3], y[3], z[3]),
    ]
}

#[inline(always)]
fn by<V: Copy + Mul<Output = V>>(f: V, x: Two<V>) -> Two<V> {
    [f * x[0], f * x[1], f * x[2], f * x[3]]
}

#[inline(always)]
fn invert_two<T, V: Register<S, T>, S: Copy>(s: S, x: Two<V>) -> Two<V> {
    let minus = V::constant(s, -1.0);
    let (b, c) = (minus * x[1], minus * x[2]);
    let determinant = V::mul_add(s, x[0], x[3], b * x[2]);
    by(determinant.recip(), [x[3], b, c, x[0]])
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::dense::pack::{ComplexLanes, Lanes, Pack};
    use crate::scalar::{Wide, c64};
    use crate::simd::{Isa, dispatch};

    struct Whole<'a, T> {
        b: usize,
        m: &'a mut [T],
    }

    impl<T: Number> Job<f64> for Whole<'_, T> {
        #[inline(always)]
        fn run<S: crate::simd::Lanes<f64>>(self, s: S) {
            invert_unpivoted(s, self.b, self.m);
        }
    }

    /// I + A with A skew in every lane, times its inverse.
    fn check<W: Wide, T: Pack<W>>() {
        for isa in Isa::available() {
            for b in (1..=9).chain([12, 15, 16, 17, 23, 31, 32, 33, 40]) {
                let entry = |l: usize, i: usize, j: usize| {
                    let (low, high) = (i.min(j), i.max(j));
                    let x = ((low * 5 + high * 3 + l) % 11) as f64 / 11.0 - 0.45;
                    let im = if W::IS_COMPLEX { 0.3 - ((low * 3 + high * 7 + l) % 5) as f64 / 7.0 } else { 0.0 };
                    match i.cmp(&j) {
                        core::cmp::Ordering::Less => W::from_parts(x, im),
                        core::cmp::Ordering::Equal => W::from_parts(1.0, im),
                        core::cmp::Ordering::Greater => W::from_parts(-x, im),
                    }
                };
                let mut m: Vec<T> = vec![T::from_f64(f64::NAN); room(b)];
                for at in 0..b * b {
                    m[at] = T::gather(|l| entry(l, at / b, at % b));
                }
                dispatch(isa, Whole { b, m: &mut m });
                for l in 0..T::COUNT {
                    for i in 0..b {
                        for j in 0..b {
                            let product = (0..b).fold(W::zero(), |sum, k| sum + m[i * b + k].lane(l) * entry(l, k, j));
                            let error = product - W::from_real(f64::from(u8::from(i == j)));
                            let bound = 4.0 * b as f64 * f64::EPSILON;
                            assert!(
                                crate::scalar::Scalar::abs(error) <= bound,
                                "{isa:?}, b = {b}, lane {l}, ({i}, {j}): {error:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn products_with_the_inverse_are_the_identity() {
        check::<f64, f64>();
        check::<f64, Lanes>();
        check::<c64, c64>();
        check::<c64, ComplexLanes>();
    }
}
