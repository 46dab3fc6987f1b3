//! The principal logarithm of a rotation or unitary block: the skew A of smallest norm with exp A = B, angles in [−π, π].
//!
//! *Near the identity* K = (B − I)(B + I)⁻¹ is skew with eigenvalues i·tan(φ/2) where B has e^{iφ}. Its eigenplanes are those
//! of A, and φ = 2 atan. B − I is exact, so A has full relative accuracy however close B is to I. Nothing is lost while no φ
//! is near π.
//!
//! *Elsewhere*, A is ill conditioned (e^{±i(π − ε)} exchange their angles under a perturbation ε), but exp A is not: it is
//! enough that the eigenplanes are orthogonal and invariant to rounding. So B is turned away from −1, orthogonally:
//!
//! - *Real B.* The symmetric part (B + Bᵀ)/2 has the eigenvalues cos φ. Its eigenvectors are cut in two at the widest gap
//!   between −½ and ½ of the cosines, at least 1/(b/2 + 1) wide, so that both spans are invariant to rounding. On the one
//!   |φ| ≤ 120°; on the other this holds for −B, whose angle ψ = φ ± π has the same planes. A half turn is no special case:
//!   ψ = 0, and any plane will do. The second span has odd dimension if and only if det B = −1: then there is no real A.
//! - *Complex B.* Of the b + 1 phases α = 2πj/(b + 1) at least one has no eigenvalue of e^{−iα}B within π/(b + 1) of −1. The
//!   one with the smallest ‖(e^{−iα}B + I)⁻¹‖ gives the eigenvectors v, and vᴴBv the angles.
//!
//! The planes of a real K come from [`skew_planes`](super::planes), the eigenvectors of a complex one from Jacobi rotations.

use alloc::{format, string::String, vec, vec::Vec};
use core::f64::consts::PI;

use num_traits::Float;

use super::jacobi::hermitian_eigen;
use super::planes::skew_planes;
use super::{ORTHOGONAL, check_block, orthogonality_ratio, solve};
use crate::error::{Error, Result};
use crate::scalar::{Scalar, Wide, c64};

/// log B for a b×b rotation (unitary matrix) B, skew (skew-Hermitian), with eigenvalues in [−iπ, iπ], written to `a`.
///
/// `exp_skew(log_rotation(B)) = B` to rounding for every such B, half turns included; near the identity A has full relative
/// accuracy. With [`exp_skew`](super::exp_skew), t ↦ exp(t·log B) is the geodesic from I to B.
///
/// ```
/// let mut a = [0.0; 4];
/// papilio::dense::log_rotation(2, &[-1.0, 0.0, 0.0, -1.0], &mut a)?;
/// assert!((a[1].abs() - core::f64::consts::PI).abs() < 1e-15);
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Length`] unless both slices have length b²; [`Error::Domain`] if the orthogonality ratio of B exceeds 30 or is not
/// a number, or if B is real with determinant −1. `a` is not touched then.
pub fn log_rotation<W: Wide>(b: usize, block: &[W], a: &mut [W]) -> Result<()> {
    check_block("block", b, block.len())?;
    check_block("a", b, a.len())?;
    let ratio = orthogonality_ratio(b, block)?;
    if ratio.is_nan() || ratio > ORTHOGONAL {
        return Err(outside(format!("ratio {ratio:e}")));
    }
    if W::IS_COMPLEX {
        let block: Vec<c64> = block.iter().map(|z| c64::new(z.re(), z.im())).collect();
        let log = log_unitary(b, &block)?;
        a.iter_mut().zip(log).for_each(|(a, z)| *a = W::from_parts(z.re, z.im));
    } else {
        let block: Vec<f64> = block.iter().map(|x| x.re()).collect();
        let log = log_real(b, &block)?;
        a.iter_mut().zip(log).for_each(|(a, x)| *a = W::from_real(x));
    }
    Ok(())
}

fn outside(got: String) -> Error {
    Error::Domain {
        what: "logarithm of a block".into(),
        expected: "a rotation or unitary block: orthogonality ratio at most 30, real determinant 1",
        got,
    }
}

fn log_real(b: usize, block: &[f64]) -> Result<Vec<f64>> {
    let mut symmetric: Vec<f64> = (0..b * b).map(|at| 0.5 * (block[at] + block[at % b * b + at / b])).collect();
    let (cosines, v) = hermitian_eigen(b, &mut symmetric);
    if cosines.iter().all(|&c| c >= -0.5) {
        return log_away(b, block, false);
    }
    let mut a = vec![0.0; b * b];
    let cut = widest_gap(&cosines);
    for far in [false, true] {
        let columns: Vec<usize> = (0..b).filter(|&k| (cosines[k] < cut) == far).collect();
        let d = columns.len();
        if far && d % 2 == 1 {
            return Err(outside("determinant −1".into()));
        }
        let span = |i: usize, k: usize| v[i * b + columns[k]];
        let image: Vec<f64> =
            (0..b * d).map(|at| (0..b).map(|j| block[at / d * b + j] * span(j, at % d)).sum()).collect();
        let part: Vec<f64> =
            (0..d * d).map(|at| (0..b).map(|i| span(i, at / d) * image[i * d + at % d]).sum()).collect();
        let log = log_away(d, &part, far)?;
        let half: Vec<f64> = (0..b * d).map(|at| (0..d).map(|k| span(at / d, k) * log[k * d + at % d]).sum()).collect();
        for i in 0..b {
            for j in i + 1..b {
                let x: f64 = (0..d).map(|k| half[i * d + k] * span(j, k)).sum();
                a[i * b + j] += x;
                a[j * b + i] -= x;
            }
        }
    }
    Ok(a)
}

/// Where to cut: the middle of the widest gap that the cosines leave between −½ and ½.
fn widest_gap(cosines: &[f64]) -> f64 {
    let mut points: Vec<f64> = cosines.iter().copied().filter(|c| c.abs() < 0.5).chain([-0.5, 0.5]).collect();
    points.sort_by(f64::total_cmp);
    let widest = points.windows(2).max_by(|x, y| (x[1] - x[0]).total_cmp(&(y[1] - y[0])));
    widest.map_or(0.0, |gap| 0.5 * (gap[0] + gap[1]))
}

/// log M for a real M without eigenvalues near −1, or for a `far` one without eigenvalues near 1.
fn log_away(d: usize, m: &[f64], far: bool) -> Result<Vec<f64>> {
    let sign = if far { -1.0 } else { 1.0 };
    let (mut below, mut above) = (vec![0.0; d * d], vec![0.0; d * d]);
    for at in 0..d * d {
        let one = f64::from(u8::from(at / d == at % d));
        (above[at], below[at]) = (sign * m[at] - one, sign * m[at] + one);
    }
    solve(d, &mut below, &mut above).map_err(|_| outside("an eigenvalue −1 where there can be none".into()))?;
    let mut k: Vec<f64> = (0..d * d).map(|at| 0.5 * (above[at] - above[at % d * d + at / d])).collect();
    let mut planes = skew_planes(d, &mut k);
    for plane in &mut planes {
        let angle = 2.0 * Float::atan(plane.sigma) - if far { PI } else { 0.0 };
        plane.u.iter_mut().for_each(|u| *u *= angle);
    }
    let mut log = vec![0.0; d * d];
    for i in 0..d {
        for j in i + 1..d {
            log[i * d + j] = planes.iter().map(|p| p.u[i] * p.w[j] - p.w[i] * p.u[j]).sum();
            log[j * d + i] = 0.0 - log[i * d + j];
        }
    }
    Ok(log)
}

fn log_unitary(b: usize, block: &[c64]) -> Result<Vec<c64>> {
    let turned = |j: usize| -> Vec<c64> {
        let alpha = 2.0 * PI * j as f64 / (b + 1) as f64;
        let phase = c64::new(Float::cos(alpha), -Float::sin(alpha));
        block.iter().map(|&z| if j == 0 { z } else { phase * z }).collect()
    };
    let shifted = |m: &[c64], by: f64| -> Vec<c64> {
        let one = |at: usize| if at / b == at % b { by } else { 0.0 };
        m.iter().enumerate().map(|(at, z)| z + one(at)).collect()
    };
    let identity = shifted(&vec![c64::new(0.0, 0.0); b * b], 1.0);
    let mut best = (f64::INFINITY, 0);
    for j in 0..=b {
        let mut inverse = identity.clone();
        if solve(b, &mut shifted(&turned(j), 1.0), &mut inverse).is_err() {
            continue;
        }
        let squares: f64 = inverse.iter().map(c64::norm_sqr).sum();
        if squares < best.0 {
            best = (squares, j);
        }
        // As if all angles were within 120°: good enough.
        if j == 0 && squares <= b as f64 {
            break;
        }
    }
    let m = turned(best.1);
    let mut k = shifted(&m, -1.0);
    solve(b, &mut shifted(&m, 1.0), &mut k).map_err(|_| outside("eigenvalues everywhere".into()))?;
    let rotate = |z: c64| c64::new(z.im, -z.re); // −i z
    let mut h: Vec<c64> = (0..b * b).map(|at| rotate(k[at] - k[at % b * b + at / b].conj()) * 0.5).collect();
    let (tangents, v) = hermitian_eigen(b, &mut h);
    // Large tangents have blurred the small ones: where B was turned, angles are those of the Rayleigh quotients vᴴBv.
    let rayleigh = |k: usize| -> c64 {
        let image = |i: usize| (0..b).map(|j| block[i * b + j] * v[j * b + k]).sum::<c64>();
        (0..b).map(|i| v[i * b + k].conj() * image(i)).sum()
    };
    let angle = |k: usize| {
        let z = rayleigh(k);
        if best.1 == 0 { 2.0 * Float::atan(tangents[k]) } else { Float::atan2(z.im, z.re) }
    };
    let angles: Vec<f64> = (0..b).map(angle).collect();
    let mut a = vec![c64::new(0.0, 0.0); b * b];
    for i in 0..b {
        for j in i..b {
            let z: c64 = (0..b).map(|k| v[i * b + k] * angles[k] * v[j * b + k].conj()).sum();
            a[i * b + j] = if i == j { c64::new(0.0, z.re) } else { c64::new(-z.im, z.re) };
            a[j * b + i] = -a[i * b + j].conj();
        }
    }
    Ok(a)
}

#[cfg(test)]
mod tests;
