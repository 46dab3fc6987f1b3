//! Small linear systems: X·M = B with partial pivoting, and an inverse without any for packs of blocks.
//!
//! *Without pivoting.* If the symmetric part of M is positive definite, T = (M + Mᵀ)/2, S = (M − Mᵀ)/2, elimination
//! needs no pivoting to exist, and ‖|L||U|‖_F ≤ b(‖T‖₂ + ‖S T⁻¹ S‖₂) (Golub & Van Loan, *Matrix Computations*, 4th ed.,
//! §4.2.2). For M = I + A with A skew this is b(1 + ‖A‖²): safe for moderate A, to be checked otherwise.
//!
//! *With partial pivoting* the growth is at most 2^(b−1) and small in practice (§3.4).

// Plain loops over constants become straight code.
#![allow(clippy::needless_range_loop)]

use core::marker::PhantomData;
use core::ops::{Add, Mul};

use alloc::{format, vec::Vec};

use super::check_block;
use super::pack::{Number, Pack, recip};
use super::product::{Blocks, Left, by_rows, load, store, tile};
use super::register::Register;
use crate::error::{Error, Result};
use crate::scalar::{Scalar, Wide};
use crate::simd::{Job, Lanes};

/// M ← M⁻¹ by Gauss–Jordan elimination without pivoting, four rows in a step; `panel` is scratch of length 4b. Lanes where it
/// breaks down end up not finite, or wrong.
///
/// With M = [[D, R], [C, N]] a step is [[D⁻¹, D⁻¹R], [−CD⁻¹, N − CD⁻¹R]]. Where the symmetric part of M is at least I, as in
/// I + A, so are those of D and of what is left, and ‖D⁻¹‖₂ ≤ 1.
#[inline(always)]
pub(crate) fn invert_unpivoted<W: Wide, T: Pack<W>, S: Lanes<f64>>(s: S, b: usize, m: &mut [T], panel: &mut [T]) {
    match b {
        8 if T::IS_PACK => s.call(Invert::<W, T, 8> { b, m, panel, field: PhantomData }),
        _ => s.call(Invert::<W, T, 0> { b, m, panel, field: PhantomData }),
    }
}

/// As a job its code exists once for b = `B`, where loops have constant bounds, and once for all other sizes (0).
struct Invert<'a, W, T, const B: usize> {
    b: usize,
    m: &'a mut [T],
    panel: &'a mut [T],
    field: PhantomData<W>,
}

impl<W: Wide, T: Pack<W>, const B: usize> Job<f64> for Invert<'_, W, T, B> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, s: S) {
        let b = if B == 0 { self.b } else { B };
        let (m, panel) = (&mut self.m[..b * b], &mut self.panel[..4 * b]);
        for k in (0..b).step_by(4) {
            let size = (b - k).min(4);
            let mut d = identity();
            for p in 0..size {
                for q in 0..size {
                    d[4 * p + q] = m[(k + p) * b + k + q];
                }
            }
            invert_four::<W, T, S>(s, &mut d);
            by_rows(s, 0..size, &mut Panel { b, d: &d, rows: &m[k * b..(k + size) * b], out: panel });
            for p in 0..size {
                panel[p * b + k..p * b + k + size].copy_from_slice(&d[4 * p..4 * p + size]);
            }
            for rows in [0..k, k + size..b] {
                by_rows(s, rows, &mut Update { b, k, size, c: [T::from_f64(0.0); 16], panel, m });
            }
            m[k * b..(k + size) * b].copy_from_slice(&panel[..size * b]);
        }
    }
}

/// D⁻¹·R.
struct Panel<'a, T> {
    b: usize,
    d: &'a [T; 16],
    rows: &'a [T],
    out: &'a mut [T],
}

impl<T: Number> Blocks<T> for Panel<'_, T> {
    #[inline(always)]
    fn columns(&self) -> usize {
        self.b
    }
    #[inline(always)]
    fn block<V: Register<S, T>, S: Lanes<f64>, const R: usize, const C: usize>(&mut self, s: S, i: usize, j: usize) {
        let (b, left) = (self.b, Left { x: self.d, stride: 4, first: i });
        for part in 0..V::PARTS {
            let sums = [[V::constant(s, 0.0); C]; R];
            let sums = tile::<T, V, S, R, C, false>(s, sums, left, (self.rows, b, j), self.rows.len() / b, part);
            for r in 0..R {
                store(&sums[r], &mut self.out[(i + r) * b..(i + r + 1) * b], j, part);
            }
        }
    }
}

/// From [C, N] to [0, N] − C·[D⁻¹, D⁻¹R].
struct Update<'a, T> {
    b: usize,
    k: usize,
    size: usize,
    /// −C of the rows at hand.
    c: [T; 16],
    panel: &'a [T],
    m: &'a mut [T],
}

impl<T: Number> Blocks<T> for Update<'_, T> {
    #[inline(always)]
    fn begin<const R: usize>(&mut self, i: usize) {
        for r in 0..R {
            let start = (i + r) * self.b + self.k;
            for (c, x) in self.c[4 * r..4 * r + 4].iter_mut().zip(&mut self.m[start..start + self.size]) {
                *c = -*x;
                *x = T::from_f64(0.0);
            }
        }
    }
    #[inline(always)]
    fn columns(&self) -> usize {
        self.b
    }
    #[inline(always)]
    fn block<V: Register<S, T>, S: Lanes<f64>, const R: usize, const C: usize>(&mut self, s: S, i: usize, j: usize) {
        let (b, left) = (self.b, Left { x: &self.c, stride: 4, first: 0 });
        for part in 0..V::PARTS {
            let mut sums = [[V::constant(s, 0.0); C]; R];
            for r in 0..R {
                sums[r] = load(s, &self.m[(i + r) * b..(i + r + 1) * b], j, part);
            }
            let sums = tile::<T, V, S, R, C, false>(s, sums, left, (self.panel, b, j), self.size, part);
            for r in 0..R {
                store(&sums[r], &mut self.m[(i + r) * b..(i + r + 1) * b], j, part);
            }
        }
    }
}

fn identity<T: Number>() -> [T; 16] {
    let mut d = [T::from_f64(0.0); 16];
    d.iter_mut().step_by(5).for_each(|d| *d = T::from_f64(1.0));
    d
}

/// D ← D⁻¹ of 4×4 numbers by elimination of 2×2 blocks: with D = [[P, R], [C, N]], V = P⁻¹R, W = CP⁻¹ and S = N − WR,
/// D⁻¹ = [[P⁻¹ + VS⁻¹W, −VS⁻¹], [−S⁻¹W, S⁻¹]]. Two reciprocals; they are what takes the time.
#[inline(always)]
fn invert_four<W: Wide, T: Pack<W>, S: Lanes<f64>>(s: S, d: &mut [T; 16]) {
    if T::COUNT == 1 {
        return invert_in::<W, T, T, S>(s, d, 0);
    }
    for part in 0..<T::Register<S> as Register<S, T>>::PARTS {
        invert_in::<W, T, T::Register<S>, S>(s, d, part);
    }
}

type Two<V> = [V; 4];

#[inline(always)]
fn times<V: Copy + Add<Output = V> + Mul<Output = V>>(x: Two<V>, y: Two<V>) -> Two<V> {
    [x[0] * y[0] + x[1] * y[2], x[0] * y[1] + x[1] * y[3], x[2] * y[0] + x[3] * y[2], x[2] * y[1] + x[3] * y[3]]
}

#[inline(always)]
fn plus<V: Copy + Add<Output = V>>(x: Two<V>, y: Two<V>) -> Two<V> {
    [x[0] + y[0], x[1] + y[1], x[2] + y[2], x[3] + y[3]]
}

#[inline(always)]
fn by<V: Copy + Mul<Output = V>>(f: V, x: Two<V>) -> Two<V> {
    [f * x[0], f * x[1], f * x[2], f * x[3]]
}

// Functions, not closures: those may be compiled without the machine's features.

#[inline(always)]
fn invert_two<W: Wide, T: Pack<W>, V: Register<S, T>, S: Lanes<f64>>(s: S, x: Two<V>, part: usize) -> Two<V> {
    let minus = V::constant(s, -1.0);
    let (b, c) = (minus * x[1], minus * x[2]);
    let mut determinant = [T::from_f64(1.0)];
    (x[0] * x[3] + b * x[2]).store(&mut determinant, part);
    by(V::spread(s, &determinant[0].recip(), part), [x[3], b, c, x[0]])
}

#[inline(always)]
fn corner<T: Number, V: Register<S, T>, S: Lanes<f64>>(s: S, d: &[T; 16], at: usize, part: usize) -> Two<V> {
    let ([a, b], [c, d]): ([V; 2], [V; 2]) = (load(s, d, at, part), load(s, d, at + 4, part));
    [a, b, c, d]
}

#[inline(always)]
fn invert_in<W: Wide, T: Pack<W>, V: Register<S, T>, S: Lanes<f64>>(s: S, d: &mut [T; 16], part: usize) {
    let minus = V::constant(s, -1.0);
    let (r, c): (Two<V>, Two<V>) = (corner(s, d, 2, part), corner(s, d, 8, part));
    let p = invert_two::<W, T, V, S>(s, corner(s, d, 0, part), part);
    let (v, w) = (by(minus, times(p, r)), times(by(minus, c), p));
    let last = invert_two::<W, T, V, S>(s, plus(corner(s, d, 10, part), times(w, r)), part);
    let (above, left) = (times(v, last), times(last, w));
    let first = plus(p, times(above, w));
    for (at, x) in [(0, first), (2, above), (8, left), (10, last)] {
        store(&[x[0], x[1]], d, at, part);
        store(&[x[2], x[3]], d, at + 4, part);
    }
}

/// Solves X·M = B for X by elimination with partial pivoting (columns are exchanged, since M stands on the right).
///
/// `m` is overwritten, `rhs` holds B (any number of rows of length b) and then X.
///
/// # Errors
/// [`Error::Length`] if `m` is not b×b or `rhs` has no whole rows; [`Error::Domain`] if M is singular or not finite.
pub fn solve<W: Wide>(b: usize, m: &mut [W], rhs: &mut [W]) -> Result<()> {
    check_block("m", b, m.len())?;
    if !rhs.len().is_multiple_of(b) {
        return Err(Error::Length { what: "rhs", expected: rhs.len() / b.max(1) * b, got: rhs.len() });
    }
    let mut columns: Vec<usize> = (0..b).collect();
    for k in 0..b {
        // Column operations on the stacked matrix [M; B]: M becomes the identity with its columns permuted.
        let row = &m[k * b..(k + 1) * b];
        let at = (k..b).max_by(|&i, &j| {
            let size = |c: usize| Scalar::abs(row[columns[c]]);
            size(i).total_cmp(&size(j))
        });
        columns.swap(k, at.unwrap_or(k));
        let pivot = row[columns[k]];
        let size = Scalar::abs(pivot);
        if !(1.0 / size).is_finite() || !size.is_finite() {
            return Err(Error::Domain {
                what: "linear system".into(),
                expected: "a regular, finite matrix",
                got: format!("pivot {size:e} in row {k}"),
            });
        }
        let inverse = recip(pivot);
        let factors: Vec<W> = row.iter().map(|&x| x * inverse).collect();
        for row in m[k * b..].chunks_exact_mut(b).chain(rhs.chunks_exact_mut(b)) {
            let x = row[columns[k]];
            for (j, (entry, &factor)) in row.iter_mut().zip(&factors).enumerate() {
                if j == columns[k] {
                    *entry = x * inverse;
                } else {
                    *entry = *entry - x * factor;
                }
            }
        }
    }
    // Step k made row k of M the unit row at columns[k]: what stands there is coordinate k of the solution.
    for row in rhs.chunks_exact_mut(b.max(1)) {
        let solution: Vec<W> = columns.iter().map(|&c| row[c]).collect();
        row.copy_from_slice(&solution);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Portable;

    #[test]
    fn nothing_to_solve() {
        assert!(solve::<f64>(0, &mut [], &mut []).is_ok());
        assert!(matches!(solve(0, &mut [], &mut [1.0]), Err(Error::Length { .. })));
    }

    #[test]
    fn solves_from_the_right() {
        // The zero in the corner makes pivoting necessary.
        let m = [0.0, 2.0, 1.0, 4.0, -1.0, 0.5, 1.0, 3.0, -2.0];
        let x = [1.0, -2.0, 3.0, 0.25, 0.0, -8.0];
        let mut rhs = [0.0; 6];
        for i in 0..2 {
            for j in 0..3 {
                rhs[i * 3 + j] = (0..3).map(|k| x[i * 3 + k] * m[k * 3 + j]).sum();
            }
        }
        solve(3, &mut m.clone(), &mut rhs).unwrap();
        assert!(rhs.iter().zip(x).all(|(r, x)| (r - x).abs() <= 4e-15), "{rhs:?}");
    }

    #[test]
    fn singular_and_not_finite_are_errors() {
        for bad in [0.0, f64::NAN, f64::INFINITY] {
            let result = solve(2, &mut [1.0, 1.0, 1.0, 1.0 + bad], &mut [1.0, 0.0]);
            assert!(matches!(result, Err(Error::Domain { .. })), "{bad}");
        }
        assert!(solve(2, &mut [1.0; 4], &mut [1.0; 3]).is_err());
        assert!(solve(2, &mut [1.0; 3], &mut [1.0; 2]).is_err());
        solve::<f64>(0, &mut [], &mut []).unwrap();
    }

    #[test]
    fn inverts_without_pivoting() {
        let m = [1.0, 2.0, -3.0, -2.0, 1.0, 0.5, 3.0, -0.5, 1.0];
        let mut inverse = m;
        invert_unpivoted::<f64, f64, _>(Portable, 3, &mut inverse, &mut [0.0; 12]);
        for i in 0..3 {
            for j in 0..3 {
                let product: f64 = (0..3).map(|k| inverse[i * 3 + k] * m[k * 3 + j]).sum();
                assert!((product - f64::from(u8::from(i == j))).abs() <= 4e-15);
            }
        }
    }
}
