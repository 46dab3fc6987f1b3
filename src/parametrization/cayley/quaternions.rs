//! Cayley blocks of SO(3) and SO(4) from two quaternions: no elimination, one division.
//!
//! With the commuting left and right products by imaginary quaternions, A = L(p) + R(q), where
//! 2p = (a₀₁ + a₂₃, a₀₂ − a₁₃, a₀₃ + a₁₂) and 2q = (a₀₁ − a₂₃, a₀₂ + a₁₃, a₀₃ − a₁₂); its eigenvalues are i(±|p| ± |q|). The
//! chart turns a plane by −2 atan ω, so with ω₁ω₂ = |p|² − |q|² = a₀₁a₂₃ − a₀₂a₁₃ + a₀₃a₁₂ = π, the Pfaffian, the sum and the
//! difference of the two angles have rational cosines and sines but for one root, and
//!
//!   Q = L(u) R(v) / D,   u = (1 − π, −2p),   v = (1 + π, −2q),   D = |u|² = |v|² = 1 + Σa² + π².
//!
//! With D the mean of the two computed squares Q is orthogonal to second order in their errors. Entries are sums of four products
//! bounded by 1 in all (Cauchy–Schwarz), so they carry a few u; an error of π is one of A, of relative size u. SO(3) is the
//! case a₀₃ = a₁₃ = a₂₃ = 0.

// Plain loops over constants become straight code.
#![allow(clippy::needless_range_loop)]

use crate::dense::pack::Pack;
use crate::dense::register::Register;
use crate::scalar::Wide;
use crate::simd::Lanes;

/// Whether blocks of this size are made so.
pub(super) fn has_quaternions<W: Wide>(b: usize) -> bool {
    !W::IS_COMPLEX && (b == 3 || b == 4)
}

/// The blocks of a pack of parameters.
#[inline(always)]
pub(super) fn quaternions<W: Wide, T: Pack<W>, S: Lanes<f64>>(s: S, b: usize, theta: &[T], blocks: &mut [T]) {
    if b == 3 {
        rotations::<W, T, S, 3>(s, theta, blocks);
    } else {
        rotations::<W, T, S, 4>(s, theta, blocks);
    }
}

#[inline(always)]
fn rotations<W: Wide, T: Pack<W>, S: Lanes<f64>, const B: usize>(s: S, theta: &[T], blocks: &mut [T]) {
    if T::COUNT == 1 {
        return rotation::<W, T, T, S, B>(s, theta, blocks, 0);
    }
    for part in 0..<T::Register<S> as Register<S, T>>::PARTS {
        rotation::<W, T, T::Register<S>, S, B>(s, theta, blocks, part);
    }
}

#[inline(always)]
fn rotation<W: Wide, T: Pack<W>, V: Register<S, T>, S: Lanes<f64>, const B: usize>(
    s: S,
    theta: &[T],
    blocks: &mut [T],
    part: usize,
) {
    let (theta, blocks) = (&theta[..B * (B - 1) / 2], &mut blocks[..B * B]);
    let (zero, one, minus) = (V::constant(s, 0.0), V::constant(s, 1.0), V::constant(s, -1.0));
    let (a01, a02) = (V::spread(s, &theta[0], part), V::spread(s, &theta[1], part));
    let (mut a03, mut a13, mut a23) = (zero, zero, zero);
    if B == 4 {
        (a03, a13) = (V::spread(s, &theta[2], part), V::spread(s, &theta[4], part));
        a23 = V::spread(s, &theta[5], part);
    }
    let a12 = V::spread(s, &theta[if B == 4 { 3 } else { 2 }], part);
    let pfaffian = a01 * a23 + minus * a02 * a13 + a03 * a12;
    let (mut u, mut v) = ([one; 4], [one; 4]);
    u[0] = one + minus * pfaffian;
    v[0] = one + pfaffian;
    (u[1], u[2], u[3]) = (minus * (a01 + a23), minus * (a02 + minus * a13), minus * (a03 + a12));
    (v[1], v[2], v[3]) = (minus * (a01 + minus * a23), minus * (a02 + a13), minus * (a03 + minus * a12));
    let mut d = zero;
    for x in [u, v] {
        d = d + ((x[0] * x[0] + x[1] * x[1]) + (x[2] * x[2] + x[3] * x[3]));
    }
    let r = (V::constant(s, 0.5) * d).recip();
    let [c, x, y, z] = [r * u[0], r * u[1], r * u[2], r * u[3]];
    let (nx, ny, nz) = (minus * x, minus * y, minus * z);
    let left = [[c, x, y, z], [nx, c, z, ny], [ny, nz, c, x], [nz, y, nx, c]];
    let [c, x, y, z] = v;
    let (nx, ny, nz) = (minus * x, minus * y, minus * z);
    let right = [[c, x, y, z], [nx, c, nz, y], [ny, z, c, nx], [nz, ny, x, c]];
    for i in 0..B {
        let mut row = [zero; 4];
        for k in 0..4 {
            for j in 0..4 {
                row[j] = V::mul_add(s, left[i][k], right[k][j], row[j]);
            }
        }
        for j in 0..B {
            row[j].store(&mut blocks[i * B + j..], part);
        }
    }
}
