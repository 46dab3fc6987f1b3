//! Singular values of a weight: all of them by faer, or the largest by power iteration where that would take too long.
//!
//! *Power iteration* runs on the side of the rows, u ← W(Wᵀu): W Wᵀ is the same matrix before and after a rotation of the
//! rows, W·Rᵀ(W·Rᵀ)ᵀ = W Wᵀ, and so are the iterates from the same start, up to rounding. What it finds, ‖Wᵀu‖ for a unit
//! vector u, never exceeds σ₁. After k steps the expected relative error is below ½·0.871·ln(rows)/(k − 1) whatever the gaps
//! (Kuczyński and Woźniakowski 1992, SIAM J. Matrix Anal. Appl. 13(4), doi 10.1137/0613066; ½ because theirs is of σ²),
//! and falls geometrically where σ₁ stands out.

use std::vec;
use std::vec::Vec;

use crate::generator::Generator;
use crate::parallel::{self, Parallelism};

/// Steps of the power iteration, at most.
const STEPS: usize = 60;

/// Relative growth below which it stops.
const STILL: f64 = 1e-9;

/// Pieces of the sums over rows: enough for a few cores, cut by shapes alone.
const PIECES: usize = 8;

/// All singular values of a row-major matrix, the largest first; `None` if the algorithm fails.
pub(super) fn all(rows: usize, columns: usize, data: &[f64]) -> Option<Vec<f64>> {
    if rows.min(columns) == 0 {
        return Some(Vec::new());
    }
    faer::MatRef::from_row_major_slice(data, rows, columns).singular_values().ok()
}

/// σ₁ by power iteration: a lower bound, from a fixed start.
pub(super) fn largest(rows: usize, columns: usize, data: &[f64], parallelism: Parallelism) -> f64 {
    let unit = data.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    if unit == 0.0 || !unit.is_finite() {
        return unit;
    }
    let mut g = Generator::new(1);
    let mut u: Vec<f64> = (0..rows).map(|_| 2.0 * g.uniform() - 1.0).collect();
    let piece = rows.div_ceil(PIECES);
    let (mut parts, mut found) = (vec![0.0; columns * rows.div_ceil(piece)], 0.0);
    for _ in 0..STEPS {
        let norm = length(&u);
        u.iter_mut().for_each(|u| *u /= norm);
        // Wᵀu, in pieces of rows that are added in order.
        let work = data.chunks(piece * columns).zip(u.chunks(piece)).zip(parts.chunks_mut(columns)).collect();
        parallel::for_each(parallelism, work, |((rows, u), sum): ((&[f64], &[f64]), &mut [f64])| {
            sum.fill(0.0);
            for (row, u) in rows.chunks_exact(columns).zip(u) {
                let u = u / unit;
                sum.iter_mut().zip(row).for_each(|(s, w)| *s += w * u);
            }
        });
        let mut v = vec![0.0; columns];
        for part in parts.chunks_exact(columns) {
            v.iter_mut().zip(part).for_each(|(v, p)| *v += p);
        }
        let grown = length(&v);
        if grown <= found * (1.0 + STILL) {
            return unit * grown.max(found);
        }
        found = grown;
        let work = data.chunks(piece * columns).zip(u.chunks_mut(piece)).collect();
        parallel::for_each(parallelism, work, |(rows, u): (&[f64], &mut [f64])| {
            for (row, u) in rows.chunks_exact(columns).zip(u) {
                *u = row.iter().zip(&v).map(|(w, v)| (w / unit) * v).sum();
            }
        });
    }
    unit * found
}

fn length(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row i is σ_i·e_i, rotated by reflections on both sides: I − 2vvᵀ/(vᵀv).
    fn with_values(sigma: &[f64], columns: usize) -> Vec<f64> {
        let (rows, mut g) = (sigma.len(), Generator::new(3));
        let mut w: Vec<f64> = (0..rows * columns)
            .map(|at| if at / columns == at % columns { sigma[at / columns] } else { 0.0 })
            .collect();
        let v: Vec<f64> = (0..columns).map(|_| g.uniform() - 0.5).collect();
        let vv: f64 = v.iter().map(|x| x * x).sum();
        for row in w.chunks_exact_mut(columns) {
            let along = 2.0 * row.iter().zip(&v).map(|(w, v)| w * v).sum::<f64>() / vv;
            row.iter_mut().zip(&v).for_each(|(w, v)| *w -= along * v);
        }
        let u: Vec<f64> = (0..rows).map(|_| g.uniform() - 0.5).collect();
        let uu: f64 = u.iter().map(|x| x * x).sum();
        for k in 0..columns {
            let along = 2.0 * (0..rows).map(|i| u[i] * w[i * columns + k]).sum::<f64>() / uu;
            (0..rows).for_each(|i| w[i * columns + k] -= along * u[i]);
        }
        w
    }

    #[test]
    fn finds_the_values_that_were_put_in() {
        for scale in [1.0, 1e-100, 1e100] {
            let sigma: Vec<f64> = [3.0, 2.0, 1.5, 0.25, 1e-3].map(|s| s * scale).into();
            let w = with_values(&sigma, 9);
            let found = all(5, 9, &w).unwrap();
            assert!(found.iter().zip(&sigma).all(|(f, s)| (f - s).abs() <= 1e-14 * sigma[0]), "{found:?}");
            for parallelism in [Parallelism::None, Parallelism::Rayon] {
                let found = largest(5, 9, &w, parallelism);
                assert!((found / sigma[0] - 1.0).abs() < 1e-8, "{found}");
            }
            assert_eq!(largest(5, 9, &w, Parallelism::None), largest(5, 9, &w, Parallelism::Rayon));
        }
    }

    #[test]
    fn empty_and_zero_matrices_have_no_length() {
        assert_eq!((all(0, 3, &[]), all(2, 0, &[])), (Some(vec![]), Some(vec![])));
        assert_eq!((largest(0, 3, &[], Parallelism::None), largest(2, 2, &[0.0; 4], Parallelism::None)), (0.0, 0.0));
    }
}
