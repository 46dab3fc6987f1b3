//! The best approximations of rank u of the parts of a split, by orthogonal iteration.
//!
//! M ≈ L·R: rows R start as the u rows of M that pivoted Gram–Schmidt finds; then R ← orth(Lᴴ M), L ← M Rᴴ until the energy ‖L‖²_F has
//! come to rest. Where the rank *is* u, one round is exact to rounding. Rows that are orthogonal to a singular vector would never find it
//! (a transform with two rows exchanged is full of them); so a little of all rows is mixed in at first. In the end both factors get a fair
//! share of the singular values: with LᴴL = VΣ²Vᴴ, L ← L·VΣ^{−½}Vᴴ and R ← VΣ^{½}Vᴴ·R.
//!
//! ‖L‖'s singular values are Ritz values, sums of which are *at most* those of M. From above there are √u·‖M‖_F, which is the sum where all u are
//! equal and no others are left, as in the class; and where that says too little, `ky_fan.rs`.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::ky_fan::ky_fan;
use super::square;
use crate::dense::{EPS, hermitian_eigen};
use crate::scalar::{Scalar, Wide};
use crate::simd::{Isa, Job, Lanes, dispatch};

/// Rounds, at most.
const ROUNDS: usize = 12;
/// Energy that still counts as at rest.
const REST: f64 = 1e-9;
/// How much of the other rows is mixed in.
const MIXED: f64 = 0.05;
/// √u·‖M‖_F is as good as the sum of singular values where it is above the one that is found by this part of it at most.
const TIGHT: f64 = 1e-13;
/// Accumulators of a sum.
const LANES: usize = 8;

/// The parts of one t: row (a, σ) of part J is `a[(a·s + σ)·pitch + J·s..][..s]`.
pub(super) struct Parts<'a, W> {
    pub(super) a: &'a [W],
    pub(super) pitch: usize,
    pub(super) u: usize,
    pub(super) s: usize,
    pub(super) q: usize,
}

impl<W: Wide> Parts<'_, W> {
    /// L of all parts side by side in `x` (qu × qu), R of all parts one below the other in `rows` (u × s each). Adds to `bound`, if there is
    /// one, at least the sum of the parts' u largest singular values.
    pub(super) fn factor(&self, x: &mut [W], rows: &mut [W], bound: Option<&mut f64>) {
        dispatch::<f64, _>(Isa::detect(), Factor { parts: self, x, rows, bound });
    }
}

struct Factor<'a, 'b, W> {
    parts: &'a Parts<'b, W>,
    x: &'a mut [W],
    rows: &'a mut [W],
    bound: Option<&'a mut f64>,
}

impl<W: Wide> Job<f64> for Factor<'_, '_, W> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(mut self, _: S) {
        let Parts { a, pitch, u, s, q } = *self.parts;
        let height = q * u;
        let (mut m, mut l) = (vec![W::zero(); height * s], vec![W::zero(); height * u]);
        for (j, r) in self.rows.chunks_exact_mut(u * s).enumerate() {
            for (i, row) in m.chunks_exact_mut(s).enumerate() {
                row.copy_from_slice(&a[(i / u * s + i % u) * pitch + j * s..][..s]);
            }
            let found = low_rank(u, s, &m, &mut l, r);
            if let Some(bound) = &mut self.bound {
                let most = Float::sqrt(u as f64 * squares(&m));
                let tight = most - found <= TIGHT * most;
                let rounded = most * (1.0 + (m.len() / LANES + LANES) as f64 * EPS);
                **bound += if tight { rounded } else { rounded.min(ky_fan(u, s, &m)) };
            }
            for (x, l) in self.x.chunks_exact_mut(height).zip(l.chunks_exact(u)) {
                x[j * u..(j + 1) * u].copy_from_slice(l);
            }
        }
    }
}

/// M (rows of length s) ≈ L (rows of length u)·R; returns the sum of the singular values of the approximation.
#[inline(always)]
fn low_rank<W: Wide>(u: usize, s: usize, m: &[W], l: &mut [W], r: &mut [W]) -> f64 {
    pivots(u, s, m, r);
    let total: f64 = squares(m);
    let mut energy = left(u, s, m, l, r);
    for round in 0..ROUNDS {
        // R ← orth(Lᴴ M): with orthonormal columns in place of L the rows come in the same order.
        let scale = if energy > 0.0 { 1.0 / Float::sqrt(energy) } else { 0.0 };
        let mixed = if round == 0 { MIXED / Float::sqrt((m.len() / s) as f64) } else { 0.0 };
        r.fill(W::zero());
        for (i, (l, m)) in l.chunks_exact(u).zip(m.chunks_exact(s)).enumerate() {
            for (k, (l, r)) in l.iter().zip(r.chunks_exact_mut(s)).enumerate() {
                let f = Scalar::conj(*l) * W::from_real(scale) + W::from_real(mixed * sign(i, k));
                r.iter_mut().zip(m).for_each(|(r, m)| *r += f * *m);
            }
        }
        orthonormal(s, r);
        let before = energy;
        energy = left(u, s, m, l, r);
        if energy >= (1.0 - REST) * total || round > 0 && energy - before <= REST * total {
            break;
        }
    }
    balance(u, s, l, r, energy)
}

/// L ← M Rᴴ; returns ‖L‖²_F.
#[inline(always)]
fn left<W: Wide>(u: usize, s: usize, m: &[W], l: &mut [W], r: &[W]) -> f64 {
    for (l, m) in l.chunks_exact_mut(u).zip(m.chunks_exact(s)) {
        l.iter_mut().zip(r.chunks_exact(s)).for_each(|(l, r)| *l = dot(m, r));
    }
    squares(l)
}

/// ±1 without a pattern that a transform could have.
#[inline(always)]
fn sign(i: usize, k: usize) -> f64 {
    let mixed = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (k as u64 + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
    if mixed.wrapping_mul(mixed | 1) >> 63 == 0 { 1.0 } else { -1.0 }
}

/// The u rows of M that stick out most, orthonormal.
#[inline(always)]
fn pivots<W: Wide>(u: usize, s: usize, m: &[W], r: &mut [W]) {
    let mut left: Vec<f64> = m.chunks_exact(s).map(squares).collect();
    for k in 0..u {
        let best = (0..left.len()).max_by(|i, j| left[*i].total_cmp(&left[*j]).then(j.cmp(i))).unwrap_or(0);
        let (above, row) = r.split_at_mut(k * s);
        row[..s].copy_from_slice(&m[best * s..(best + 1) * s]);
        orthonormalise(s, above, &mut row[..s]);
        if k + 1 < u {
            for (left, m) in left.iter_mut().zip(m.chunks_exact(s)) {
                let z = dot(m, &row[..s]);
                *left -= square(z);
            }
            left[best] = f64::NEG_INFINITY;
        }
    }
}

#[inline(always)]
fn orthonormal<W: Wide>(s: usize, r: &mut [W]) {
    for k in 0..r.len() / s {
        let (above, row) = r.split_at_mut(k * s);
        orthonormalise(s, above, &mut row[..s]);
    }
}

/// Takes the rows above out of `row`, twice, and gives it length 1; a row of nothing stays so.
#[inline(always)]
fn orthonormalise<W: Wide>(s: usize, above: &[W], row: &mut [W]) {
    let whole = squares(row);
    for _ in 0..if above.is_empty() { 0 } else { 2 } {
        for other in above.chunks_exact(s) {
            let z = dot(row, other);
            row.iter_mut().zip(other).for_each(|(x, o)| *x = *x - z * *o);
        }
    }
    let left = squares(row);
    let scale = if left > 1e-28 * whole { 1.0 / Float::sqrt(left) } else { 0.0 };
    row.iter_mut().for_each(|x| *x = *x * W::from_real(scale));
}

/// Shares the singular values of L among L and R (rows orthonormal); returns their sum.
#[inline(always)]
fn balance<W: Wide>(u: usize, s: usize, l: &mut [W], r: &mut [W], energy: f64) -> f64 {
    if u == 1 {
        let sigma = Float::sqrt(energy);
        let root = if sigma > 0.0 { Float::sqrt(sigma) } else { 1.0 };
        l.iter_mut().for_each(|x| *x = *x * W::from_real(1.0 / root));
        r.iter_mut().for_each(|x| *x = *x * W::from_real(root));
        return sigma;
    }
    let mut gram = vec![W::zero(); u * u];
    for l in l.chunks_exact(u) {
        for (gram, x) in gram.chunks_exact_mut(u).zip(l) {
            gram.iter_mut().zip(l).for_each(|(g, y)| *g += Scalar::conj(*x) * *y);
        }
    }
    let (lambda, v) = hermitian_eigen(u, &mut gram);
    let sigma: Vec<f64> = lambda.iter().map(|x| Float::sqrt(x.max(0.0))).collect();
    let largest = sigma.iter().fold(0.0, |m: f64, x| m.max(*x));
    // V f(Σ) Vᴴ
    let function = |f: &dyn Fn(f64) -> f64| -> Vec<W> {
        let entry = |i: usize, j: usize| {
            (0..u).fold(W::zero(), |sum, k| sum + v[i * u + k] * W::from_real(f(sigma[k])) * Scalar::conj(v[j * u + k]))
        };
        (0..u * u).map(|at| entry(at / u, at % u)).collect()
    };
    let small = |x: f64| x <= 1e-12 * largest;
    let root = function(&|x| if small(x) { 0.0 } else { Float::sqrt(x) });
    let inverse = function(&|x| if small(x) { 0.0 } else { 1.0 / Float::sqrt(x) });
    let mut row = vec![W::zero(); u];
    for l in l.chunks_exact_mut(u) {
        row.fill(W::zero());
        for (x, inverse) in l.iter().zip(inverse.chunks_exact(u)) {
            row.iter_mut().zip(inverse).for_each(|(to, y)| *to += *x * *y);
        }
        l.copy_from_slice(&row);
    }
    let old = r.to_vec();
    for (r, root) in r.chunks_exact_mut(s).zip(root.chunks_exact(u)) {
        r.fill(W::zero());
        for (x, old) in root.iter().zip(old.chunks_exact(s)) {
            r.iter_mut().zip(old).for_each(|(to, y)| *to += *x * *y);
        }
    }
    sigma.iter().sum()
}

/// x·yᴴ, in a fixed order that fills registers.
#[inline(always)]
pub(super) fn dot<W: Wide>(x: &[W], y: &[W]) -> W {
    let mut sums = [W::zero(); LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest = xs.remainder().iter().zip(ys.remainder());
    let rest = rest.fold(W::zero(), |sum, (x, y)| sum + *x * Scalar::conj(*y));
    for (x, y) in xs.zip(ys) {
        for l in 0..LANES {
            sums[l] += x[l] * Scalar::conj(y[l]);
        }
    }
    sums.iter().fold(rest, |sum, x| sum + *x)
}

#[inline(always)]
pub(super) fn squares<W: Wide>(x: &[W]) -> f64 {
    dot(x, x).re()
}
