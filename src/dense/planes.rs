//! The invariant planes of a real skew matrix: K = Σ σ_k (u_k w_kᵀ − w_k u_kᵀ), all u and w orthonormal.
//!
//! Householder reflections make K tridiagonal, T = QᵀKQ. T couples even coordinates with odd ones only, so it is a bidiagonal
//! matrix D of half the size and its negative transpose; the singular value decomposition D = U Σ Wᵀ gives the planes (Ward &
//! Gray, ACM TOMS 4 (1978) 278–285). It is found by one-sided Jacobi rotations (Hestenes 1958), which make the columns of DW
//! orthogonal. Everything is real and orthogonal to rounding, whatever the multiplicities; a plane with σ = 0 is a plane like
//! the others. For odd b one direction of the kernel is left over.

use alloc::{vec, vec::Vec};

use num_traits::Float;

use super::EPS;

const SWEEPS: usize = 40;

/// σ ≥ 0 and the orthonormal pair (u, w).
pub(crate) struct Plane {
    pub(crate) sigma: f64,
    pub(crate) u: Vec<f64>,
    pub(crate) w: Vec<f64>,
}

/// The ⌊b/2⌋ planes of the skew matrix `k`, which is used up.
pub(crate) fn skew_planes(b: usize, k: &mut [f64]) -> Vec<Plane> {
    let largest = k.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    // Near 1, so that squares neither overflow nor vanish; divided twice, as 1/largest may not exist.
    let unit = if largest > 0.0 { Float::sqrt(largest) } else { 1.0 };
    k.iter_mut().for_each(|x| *x = *x / unit / unit);
    let q = tridiagonalise(b, k);
    let (rows, columns) = (b.div_ceil(2), b / 2);
    // D and W by columns.
    let above = |j: usize| 0.5 * (k[j * b + j + 1] - k[(j + 1) * b + j]);
    let mut d: Vec<Vec<f64>> = vec![vec![0.0; rows]; columns];
    for (j, d) in d.iter_mut().enumerate() {
        d[j] = above(2 * j);
        if j + 1 < rows {
            d[j + 1] = -above(2 * j + 1);
        }
    }
    let mut w: Vec<Vec<f64>> = (0..columns).map(|j| unit_vector(columns, j)).collect();
    orthogonalise_columns(&mut d, &mut w);
    let mut order: Vec<usize> = (0..columns).collect();
    order.sort_by(|&i, &j| dot(&d[j], &d[j]).total_cmp(&dot(&d[i], &d[i])));
    let mut found: Vec<Vec<f64>> = Vec::with_capacity(columns);
    let mut planes = Vec::with_capacity(columns);
    for j in order {
        let direction = next_direction(rows, &d[j], &found);
        let sigma = dot(&direction, &d[j]).max(0.0) * unit * unit;
        let spread = |x: &[f64], first: usize| -> Vec<f64> {
            (0..b).map(|i| x.iter().enumerate().map(|(k, x)| q[i * b + 2 * k + first] * x).sum()).collect()
        };
        planes.push(Plane { sigma, u: spread(&direction, 0), w: spread(&w[j], 1) });
        found.push(direction);
    }
    planes
}

/// K ← T = QᵀKQ; returns Q.
fn tridiagonalise(b: usize, k: &mut [f64]) -> Vec<f64> {
    let mut q: Vec<f64> = (0..b).flat_map(|i| unit_vector(b, i)).collect();
    for j in 0..b.saturating_sub(2) {
        let mut v: Vec<f64> = (0..b).map(|i| if i > j { k[i * b + j] } else { 0.0 }).collect();
        let norm = Float::sqrt(dot(&v, &v));
        if norm == 0.0 {
            continue;
        }
        v[j + 1] += if v[j + 1] < 0.0 { -norm } else { norm };
        let beta = 2.0 / dot(&v, &v);
        let mut rows = vec![0.0; b];
        for (row, v) in k.chunks_exact(b).zip(&v) {
            rows.iter_mut().zip(row).for_each(|(sum, k)| *sum += beta * v * k);
        }
        for (row, v) in k.chunks_exact_mut(b).zip(&v) {
            row.iter_mut().zip(&rows).for_each(|(k, r)| *k -= v * r);
        }
        for row in k.chunks_exact_mut(b).chain(q.chunks_exact_mut(b)) {
            let along = beta * dot(row, &v);
            row.iter_mut().zip(&v).for_each(|(k, v)| *k -= along * v);
        }
    }
    q
}

/// Rotates the columns of D, and those of W with them, until they are orthogonal to rounding.
fn orthogonalise_columns(d: &mut [Vec<f64>], w: &mut [Vec<f64>]) {
    for _ in 0..SWEEPS {
        let mut rotated = false;
        for p in 0..d.len() {
            for q in p + 1..d.len() {
                let (xx, yy, xy) = (dot(&d[p], &d[p]), dot(&d[q], &d[q]), dot(&d[p], &d[q]));
                if Float::abs(xy) <= EPS * Float::sqrt(xx) * Float::sqrt(yy) {
                    continue;
                }
                rotated = true;
                let tau = (yy - xx) / (2.0 * xy);
                let t = if tau < 0.0 { -1.0 } else { 1.0 } / (Float::abs(tau) + Float::hypot(1.0, tau));
                let c = 1.0 / Float::hypot(1.0, t);
                let s = t * c;
                for m in [&mut *d, &mut *w] {
                    let (head, tail) = m.split_at_mut(q);
                    for (x, y) in head[p].iter_mut().zip(&mut tail[0]) {
                        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
                    }
                }
            }
        }
        if !rotated {
            break;
        }
    }
}

/// The unit vector along `x`, or along any direction if x = 0, orthogonal to those `found`.
fn next_direction(len: usize, x: &[f64], found: &[Vec<f64>]) -> Vec<f64> {
    let candidates = core::iter::once(x.to_vec()).chain((0..len).map(|i| unit_vector(len, i)));
    let mut best = (0.0, vec![0.0; len]);
    for mut v in candidates {
        let before = Float::sqrt(dot(&v, &v));
        for f in found.iter().chain(found) {
            let along = dot(f, &v);
            v.iter_mut().zip(f).for_each(|(v, f)| *v -= along * f);
        }
        let after = Float::sqrt(dot(&v, &v));
        if before > 0.0 && after > best.0 * before {
            v.iter_mut().for_each(|v| *v /= after);
            best = (after / before, v);
        }
        if best.0 > 0.7 {
            break;
        }
    }
    best.1
}

fn unit_vector(len: usize, at: usize) -> Vec<f64> {
    (0..len).map(|i| if i == at { 1.0 } else { 0.0 }).collect()
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::skew::fill_skew;
    use crate::generator::Generator;

    fn check(b: usize, k: &[f64]) {
        let planes = skew_planes(b, &mut k.to_vec());
        assert_eq!(planes.len(), b / 2);
        let largest = k.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        for (at, k) in k.iter().enumerate() {
            let (i, j) = (at / b, at % b);
            let sum: f64 = planes.iter().map(|p| p.sigma * (p.u[i] * p.w[j] - p.w[i] * p.u[j])).sum();
            assert!((sum - k).abs() <= 8.0 * b as f64 * EPS * largest, "b = {b}: {sum} {k}");
        }
        let vectors: Vec<&Vec<f64>> = planes.iter().flat_map(|p| [&p.u, &p.w]).collect();
        for (i, x) in vectors.iter().enumerate() {
            for (j, y) in vectors.iter().enumerate() {
                assert!((dot(x, y) - f64::from(u8::from(i == j))).abs() <= 4.0 * b as f64 * EPS, "b = {b}: {i} {j}");
            }
        }
    }

    #[test]
    fn planes_of_random_and_of_degenerate_matrices() {
        for b in [0, 1, 2, 3, 4, 5, 8, 17, 32] {
            let mut g = Generator::new(b as u64);
            let theta: Vec<f64> = (0..b * b).map(|_| g.uniform() - 0.5).collect();
            let mut k = vec![0.0; b * b];
            for scale in [1e-300, 1.0, 1e300] {
                fill_skew::<f64, f64>(b, &mut k, |at, _| scale * theta[at]);
                check(b, &k);
            }
            // Rank two, one entry, nothing; all planes alike.
            fill_skew::<f64, f64>(b, &mut k, |at, _| f64::from(u8::from(at == b / 2)));
            check(b, &k);
            check(b, &vec![0.0; b * b]);
            let j = |at: usize| match (at / b.max(1), at % b.max(1)) {
                (i, j) if i % 2 == 0 && j == i + 1 => 1.0,
                (i, j) if j % 2 == 0 && i == j + 1 => -1.0,
                _ => 0.0,
            };
            check(b, &(0..b * b).map(j).collect::<Vec<f64>>());
        }
    }
}
