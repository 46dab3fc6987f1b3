//! Skew matrices as files have them: whole squares, or their strict upper triangles.

use std::vec;
use std::vec::Vec;

/// The strict upper triangle, row by row.
pub(super) fn upper(b: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..b).flat_map(move |i| (i + 1..b).map(move |j| (i, j)))
}

/// b(b − 1)/2.
pub(super) fn pairs(b: usize) -> usize {
    b.saturating_mul(b.saturating_sub(1)) / 2
}

/// b with `count` = b(b − 1)/2, if there is one above 1.
pub(super) fn block_of(count: usize) -> Option<usize> {
    let b = (1.0 + (1.0 + 8.0 * count as f64).sqrt()) / 2.0;
    Some(b.round() as usize).filter(|&b| b > 1 && pairs(b) == count)
}

/// The upper triangles of c·(M − Mᵀ) for every block M in `stored`, with rows and columns of M taken in the order `order`.
pub(super) fn skew_part(b: usize, stored: &[f64], c: f64, order: impl Fn(usize) -> usize) -> Vec<f64> {
    let mut theta = Vec::with_capacity(stored.len() / (b * b).max(1) * pairs(b));
    for m in stored.chunks_exact((b * b).max(1)) {
        theta.extend(upper(b).map(|(i, j)| {
            let (i, j) = (order(i), order(j));
            c * m[i * b + j] - c * m[j * b + i]
        }));
    }
    theta
}

/// The adjoint of [`skew_part`].
pub(super) fn pull_skew_part(b: usize, d_theta: &[f64], c: f64, order: impl Fn(usize) -> usize) -> Vec<f64> {
    let mut stored = vec![0.0; d_theta.len() / pairs(b).max(1) * b * b];
    let mut gradient = d_theta.iter();
    for block in stored.chunks_exact_mut((b * b).max(1)) {
        for ((i, j), g) in upper(b).zip(&mut gradient) {
            let (i, j) = (order(i), order(j));
            block[i * b + j] += c * g;
            block[j * b + i] -= c * g;
        }
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_triangles() {
        assert_eq!([1, 3, 6, 496].map(block_of), [Some(2), Some(3), Some(4), Some(32)]);
        assert_eq!([0, 2, 7, usize::MAX].map(block_of), [None; 4]);
    }

    /// <skew_part(M), g> = <M, pull_skew_part(g)>, exactly in these small numbers, and symmetric parts are not seen.
    #[test]
    fn the_pullback_is_the_adjoint() {
        let (b, order) = (3, |i: usize| (i + 1) % 3);
        let stored: Vec<f64> = (0..18).map(|i| f64::from(i * i % 7)).collect();
        let theta = skew_part(b, &stored, -2.0, order);
        let shifted: Vec<f64> = (0..18)
            .map(|i| stored[i] + [[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]][i % 9 / 3][i % 3])
            .collect();
        assert_eq!(skew_part(b, &shifted, -2.0, order), theta);
        let g = [1.0, -2.0, 4.0, 8.0, 16.0, -32.0];
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        assert_eq!(dot(&theta, &g), dot(&stored, &pull_skew_part(b, &g, -2.0, order)));
    }
}
