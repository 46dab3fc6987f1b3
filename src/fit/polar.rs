//! Nearest orthogonal blocks: the B in U(b), O(b) or a component of O(b) with the largest Re tr(MᴴB).
//!
//! With M = U diag(σ) Vᴴ, σ₁ ≥ … ≥ σ_b ≥ 0, the best of all is the polar factor UVᴴ, and its gain is Σσ. If det B must have the other
//! sign, the best is U diag(1, …, 1, −1) Vᴴ: the direction of the smallest singular value is what it costs least to turn, 2σ_b
//! (Umeyama, IEEE PAMI 13 (1991) 376; orthogonal Procrustes with a determinant).
//!
//! *b = 2 in closed form.* C = [[m̄₁₁, −m̄₁₀], [−m̄₀₁, m̄₀₀]] is conj(det M)·M⁻ᴴ, so (det M/|det M|)·C = U diag(σ₂, σ₁) Vᴴ, and
//!
//! > UVᴴ = (M + (det M/|det M|)·C)/(σ₁ + σ₂),  (σ₁ + σ₂)² = ‖M‖²_F + 2|det M|.
//!
//! M + C is the best rotation and M − C the best reflection, with gains √(‖M‖²_F ± 2 det M): no angle is ever formed.
//!
//! *Larger blocks* by products alone (`block_polar.rs`). Where that settles nothing, and where singular vectors are wanted, by one-sided
//! Jacobi rotations (Hestenes 1958; Demmel & Veselić 1992: columns become orthogonal to working precision *relative to their lengths*,
//! so U is good however small σ is). Eight blocks run side by side, one per lane. Columns that vanish are completed by unit vectors.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::block_polar::{piece, polar};
use super::square;
use crate::dense::{EPS, determinant_sign};
use crate::parallel::{Parallelism, for_each};
use crate::scalar::{Scalar, Wide};
use crate::simd::{Isa, Job, Lanes, dispatch};

/// The sign of a block's determinant, and what the other one would cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sign {
    /// Negative if the determinant is not free and the other one is better.
    pub(super) loss: f64,
    /// The sign of the determinant of a real block.
    pub(super) sign: i8,
}

/// Blocks side by side.
const WIDTH: usize = 8;
type Lane = [f64; WIDTH];
/// More sweeps than ever needed.
const SWEEPS: usize = 40;
/// Columns shorter than this part of the longest have no direction of their own.
const NULL: f64 = 1e-200;

/// Replaces every M of `blocks` (row-major, one after the other) by its nearest block, with determinant `parity[j]` if that is not
/// 0. Where M = 0 it is the identity, or a reflection. Returns the signs of determinants of real blocks.
pub(super) fn nearest<W: Wide>(
    b: usize,
    blocks: &mut [W],
    parity: &[i8],
    isa: Isa,
    parallelism: Parallelism,
) -> Vec<i8> {
    let size = b * b;
    if b <= 2 {
        return exact(b, blocks, parity, isa, parallelism).iter().map(|found| found.sign).collect();
    }
    let (wanted, mut signs) = (blocks.to_vec(), vec![0; parity.len()]);
    let pieces = blocks.chunks_mut(size * piece(b)).zip(signs.chunks_mut(piece(b)));
    for_each(parallelism, pieces.collect(), |(blocks, signs)| polar(b, blocks, signs, isa));
    let other = |(sign, parity): (&i8, &i8)| *sign == 0 || !W::IS_COMPLEX && *parity != 0 && sign != parity;
    let rest: Vec<usize> = (0..parity.len()).filter(|j| other((&signs[*j], &parity[*j]))).collect();
    if !rest.is_empty() {
        let mut left: Vec<W> = rest.iter().flat_map(|j| wanted[j * size..(j + 1) * size].iter().copied()).collect();
        let parity: Vec<i8> = rest.iter().map(|j| parity[*j]).collect();
        let found = exact(b, &mut left, &parity, isa, parallelism);
        for ((j, block), found) in rest.iter().zip(left.chunks_exact(size)).zip(found) {
            blocks[j * size..(j + 1) * size].copy_from_slice(block);
            signs[*j] = found.sign;
        }
    }
    signs
}

/// The same through singular vectors, which know what the other determinant would cost.
pub(super) fn exact<W: Wide>(
    b: usize,
    blocks: &mut [W],
    parity: &[i8],
    isa: Isa,
    parallelism: Parallelism,
) -> Vec<Sign> {
    let size = b * b;
    match b {
        1 => blocks.iter_mut().zip(parity).map(|(m, parity)| phase(m, *parity)).collect(),
        2 => blocks.chunks_exact_mut(4).zip(parity).map(|(m, parity)| pair(m, *parity)).collect(),
        _ => {
            let mut found = vec![Sign::default(); parity.len()];
            let groups = blocks.chunks_mut(size * WIDTH).zip(parity.chunks(WIDTH)).zip(found.chunks_mut(WIDTH));
            for_each(parallelism, groups.collect(), |((blocks, parity), found)| {
                Jacobi::new::<W>(b).run(blocks, parity, found, isa);
            });
            found
        }
    }
}

fn phase<W: Wide>(m: &mut W, parity: i8) -> Sign {
    let size = Scalar::abs(*m);
    if W::IS_COMPLEX {
        *m = if size > f64::MIN_POSITIVE { *m * W::from_real(1.0 / size) } else { W::one() };
        return Sign { loss: 0.0, sign: 0 };
    }
    let best = if m.re() < 0.0 { -1 } else { 1 };
    let sign = if parity == 0 { best } else { parity };
    let gain = m.re() * f64::from(sign);
    *m = W::from_real(f64::from(sign));
    Sign { loss: 2.0 * gain, sign }
}

fn pair<W: Wide>(m: &mut [W], parity: i8) -> Sign {
    let det = m[0] * m[3] - m[1] * m[2];
    let norm = (square(m[0]) + square(m[1])) + (square(m[2]) + square(m[3]));
    let (turn, size, sign) = if W::IS_COMPLEX {
        let size = Scalar::abs(det);
        (if size > f64::MIN_POSITIVE { det * W::from_real(1.0 / size) } else { W::one() }, size, 0)
    } else {
        let best = if det.re() < 0.0 { -1 } else { 1 };
        let sign = if parity == 0 { best } else { parity };
        (W::from_real(f64::from(sign)), det.re() * f64::from(sign), sign)
    };
    let c = [m[3], -m[2], -m[1], m[0]].map(Scalar::conj);
    // The first row; the second follows from it, so that rows are orthogonal to the last bit.
    let (x, y) = (m[0] + turn * c[0], m[1] + turn * c[1]);
    let (length, other) = (Float::sqrt(square(x) + square(y)), Float::sqrt((norm - 2.0 * size).max(0.0)));
    let gain = Float::sqrt((norm + 2.0 * size).max(0.0));
    let scale = Float::sqrt(norm);
    let (x, y) = if length > EPS * EPS * scale && length > 1e-150 {
        let unit = W::from_real(1.0 / length);
        (x * unit, y * unit)
    } else {
        (W::one(), W::zero())
    };
    m[0] = x;
    m[1] = y;
    m[2] = -turn * Scalar::conj(y);
    m[3] = turn * Scalar::conj(x);
    Sign { loss: gain - other, sign }
}

/// Scratch for eight blocks: columns one after the other, real parts and imaginary parts of an entry side by side.
struct Jacobi {
    b: usize,
    /// 2 for complex numbers.
    parts: usize,
    a: Vec<Lane>,
    v: Vec<Lane>,
}

impl Jacobi {
    fn new<W: Wide>(b: usize) -> Self {
        let parts = 1 + usize::from(W::IS_COMPLEX);
        let len = b * b * parts;
        Self { b, parts, a: vec![[0.0; WIDTH]; len], v: vec![[0.0; WIDTH]; len] }
    }

    fn run<W: Wide>(&mut self, blocks: &mut [W], parity: &[i8], found: &mut [Sign], isa: Isa) {
        let (b, parts, size) = (self.b, self.parts, self.b * self.b);
        self.a.fill([0.0; WIDTH]);
        for (l, block) in blocks.chunks_exact(size).enumerate() {
            let largest = block.iter().fold(0.0, |m: f64, x| m.max(x.re().abs()).max(x.im().abs()));
            let scale = if largest > 1e-100 && largest < 1e100 { 1.0 } else { 1.0 / largest.clamp(1e-300, 1e300) };
            for (at, x) in block.iter().enumerate() {
                let to = ((at % b) * b + at / b) * parts;
                self.a[to][l] = x.re() * scale;
                if W::IS_COMPLEX {
                    self.a[to + 1][l] = x.im() * scale;
                }
            }
        }
        self.v.fill([0.0; WIDTH]);
        (0..b).for_each(|i| self.v[(i * b + i) * parts] = [1.0; WIDTH]);
        if W::IS_COMPLEX {
            dispatch::<f64, _>(isa, Sweeps::<2> { b, a: &mut self.a, v: &mut self.v });
        } else {
            dispatch::<f64, _>(isa, Sweeps::<1> { b, a: &mut self.a, v: &mut self.v });
        }
        let (mut u, mut v, mut sigma) = (vec![W::zero(); size], vec![W::zero(); size], vec![0.0; b]);
        for (l, block) in blocks.chunks_exact_mut(size).enumerate() {
            let number = |from: &[Lane], at: usize| {
                W::from_parts(from[at * parts][l], if W::IS_COMPLEX { from[at * parts + 1][l] } else { 0.0 })
            };
            // Columns of U and V as rows.
            for at in 0..size {
                (u[at], v[at]) = (number(&self.a, at), number(&self.v, at));
            }
            for (sigma, u) in sigma.iter_mut().zip(u.chunks_exact_mut(b)) {
                *sigma = Float::sqrt(u.iter().map(|x| square(*x)).sum::<f64>());
            }
            complete(b, &mut u, &mut sigma);
            // In the units of the block, which may have been scaled.
            let least = (0..b).min_by(|i, j| sigma[*i].total_cmp(&sigma[*j])).unwrap_or(0);
            let cost = 2.0 * direction_gain(b, block, &u[least * b..], &v[least * b..]);
            for i in 0..b {
                for j in 0..b {
                    block[i * b + j] = (0..b).fold(W::zero(), |sum, k| sum + u[k * b + i] * Scalar::conj(v[k * b + j]));
                }
            }
            found[l] = Sign { loss: cost, sign: 0 };
            if W::IS_COMPLEX {
                continue;
            }
            let sign = determinant_sign(b, &mut block.to_vec());
            found[l].sign = sign;
            if parity[l] != 0 && parity[l] != sign {
                let (u, v) = (&u[least * b..][..b], &v[least * b..][..b]);
                for (row, u) in block.chunks_exact_mut(b).zip(u) {
                    row.iter_mut().zip(v).for_each(|(x, v)| *x = *x - W::from_real(2.0) * *u * *v);
                }
                found[l] = Sign { loss: -cost, sign: parity[l] };
            }
        }
    }
}

/// Re uᴴMv
fn direction_gain<W: Wide>(b: usize, m: &[W], u: &[W], v: &[W]) -> f64 {
    let row = |row: &[W]| row.iter().zip(v).fold(W::zero(), |sum, (m, v)| sum + *m * *v);
    m.chunks_exact(b).zip(u).map(|(m, u)| (Scalar::conj(*u) * row(m)).re()).sum()
}

/// Makes the rows of `u` unit vectors; those that vanish become unit vectors orthogonal to all others.
fn complete<W: Wide>(b: usize, u: &mut [W], sigma: &mut [f64]) {
    let longest = sigma.iter().fold(0.0, |m: f64, s| m.max(*s));
    for (sigma, u) in sigma.iter_mut().zip(u.chunks_exact_mut(b)) {
        if *sigma > NULL * longest && *sigma > 0.0 {
            let unit = W::from_real(1.0 / *sigma);
            u.iter_mut().for_each(|x| *x = *x * unit);
        } else {
            *sigma = 0.0;
            u.fill(W::zero());
        }
    }
    for k in 0..b {
        if sigma[k] > 0.0 {
            continue;
        }
        // Of the unit vectors, the one that the others leave most of; the k-th if none is better.
        let taken = |i: usize| u.chunks_exact(b).map(|u| square(u[i])).sum::<f64>();
        let best = (0..b).map(|i| (k + i) % b).min_by(|i, j| {
            let (x, y) = (taken(*i), taken(*j));
            if (x - y).abs() < 0.5 / b as f64 { core::cmp::Ordering::Equal } else { x.total_cmp(&y) }
        });
        let mut row = vec![W::zero(); b];
        row[best.unwrap_or(0)] = W::one();
        for _ in 0..2 {
            for other in u.chunks_exact(b) {
                let dot = row.iter().zip(other).fold(W::zero(), |sum, (x, o)| sum + *x * Scalar::conj(*o));
                row.iter_mut().zip(other).for_each(|(x, o)| *x = *x - dot * *o);
            }
            let length = Float::sqrt(row.iter().map(|x| square(*x)).sum::<f64>());
            row.iter_mut().for_each(|x| *x = *x * W::from_real(1.0 / length));
        }
        u[k * b..(k + 1) * b].copy_from_slice(&row);
    }
}

/// Sweeps of rotations over all pairs of columns, until every pair is orthogonal in every lane.
struct Sweeps<'a, const PARTS: usize> {
    b: usize,
    a: &'a mut [Lane],
    v: &'a mut [Lane],
}

impl<const PARTS: usize> Job<f64> for Sweeps<'_, PARTS> {
    #[inline(always)]
    fn run<S: Lanes<f64>>(self, _: S) {
        let (column, tolerance) = (self.b * PARTS, EPS * Float::sqrt(self.b as f64));
        for _ in 0..SWEEPS {
            let mut rotated = false;
            for p in 0..self.b {
                for q in p + 1..self.b {
                    let (left, right) = self.a.split_at_mut(q * column);
                    let (x, y) = (&mut left[p * column..(p + 1) * column], &mut right[..column]);
                    let Some(plane) = Plane::of::<PARTS>(x, y, tolerance) else { continue };
                    rotated = true;
                    plane.turn::<PARTS>(x, y);
                    let (left, right) = self.v.split_at_mut(q * column);
                    plane.turn::<PARTS>(&mut left[p * column..(p + 1) * column], &mut right[..column]);
                }
            }
            if !rotated {
                break;
            }
        }
    }
}

/// A rotation (x, y) ← (c·x − s·e·y, s·x + c·e·y) in each lane.
struct Plane {
    c: Lane,
    s: Lane,
    e: [Lane; 2],
}

impl Plane {
    /// The one that makes two columns orthogonal; `None` if they are in every lane.
    #[inline(always)]
    fn of<const PARTS: usize>(x: &[Lane], y: &[Lane], tolerance: f64) -> Option<Self> {
        let [mut xx, mut yy, mut re, mut im] = [[0.0; WIDTH]; 4];
        for (x, y) in x.chunks_exact(PARTS).zip(y.chunks_exact(PARTS)) {
            for part in 0..PARTS {
                for l in 0..WIDTH {
                    xx[l] += x[part][l] * x[part][l];
                    yy[l] += y[part][l] * y[part][l];
                    re[l] += x[part][l] * y[part][l];
                }
            }
            if PARTS == 2 {
                for l in 0..WIDTH {
                    im[l] += x[0][l] * y[1][l] - x[1][l] * y[0][l];
                }
            }
        }
        let (mut c, mut s, mut e) = ([1.0; WIDTH], [0.0; WIDTH], [[1.0; WIDTH], [0.0; WIDTH]]);
        let mut any = false;
        for l in 0..WIDTH {
            let size = if PARTS == 2 { Float::sqrt(re[l] * re[l] + im[l] * im[l]) } else { re[l].abs() };
            let turns = size > tolerance * Float::sqrt(xx[l] * yy[l]);
            any |= turns;
            let size = if turns { size } else { 1.0 };
            let zeta = (yy[l] - xx[l]) / (2.0 * size);
            let sign = if zeta < 0.0 { -1.0 } else { 1.0 };
            let t = sign / (zeta.abs() + Float::sqrt(1.0 + zeta * zeta));
            let cosine = 1.0 / Float::sqrt(1.0 + t * t);
            c[l] = if turns { cosine } else { 1.0 };
            s[l] = if turns { t * cosine } else { 0.0 };
            // y is turned by the conjugate of the phase of xᴴy.
            e[0][l] = if turns { re[l] / size } else { 1.0 };
            e[1][l] = if turns { -im[l] / size } else { 0.0 };
        }
        any.then_some(Self { c, s, e })
    }

    #[inline(always)]
    fn turn<const PARTS: usize>(&self, x: &mut [Lane], y: &mut [Lane]) {
        let Self { c, s, e } = self;
        for (x, y) in x.chunks_exact_mut(PARTS).zip(y.chunks_exact_mut(PARTS)) {
            let mut z = [[0.0; WIDTH]; 2];
            for l in 0..WIDTH {
                if PARTS == 2 {
                    z[0][l] = y[0][l] * e[0][l] - y[1][l] * e[1][l];
                    z[1][l] = y[0][l] * e[1][l] + y[1][l] * e[0][l];
                } else {
                    z[0][l] = y[0][l] * e[0][l];
                }
            }
            for part in 0..PARTS {
                for l in 0..WIDTH {
                    let (a, b) = (x[part][l], z[part][l]);
                    x[part][l] = c[l] * a - s[l] * b;
                    y[part][l] = s[l] * a + c[l] * b;
                }
            }
        }
    }
}
