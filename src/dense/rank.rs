//! The rank of a rectangular matrix: Householder reflections with row pivoting.
//!
//! The row with the largest remainder is reflected onto the first free column and the reflection applied to the rows below,
//! until the remainder is negligible: M = P·L·Qᵀ with L lower trapezoidal, |L₀₀| ≥ |L₁₁| ≥ … (Businger & Golub 1965,
//! doi 10.1007/BF01436084, transposed, so that all loops run along rows). |L_kk| bounds the k-th singular value from above
//! up to a factor √(rows − k), and in practice follows it closely; the rank shows as a jump in this sequence. Remainders are
//! downdated and, where the difference cancels, computed again. Cost: 4/3·r³ for a square matrix of rank r.

use core::ops::ControlFlow;

use alloc::vec::Vec;

use num_traits::Float;

/// Where the pivots |L_kk| stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rank {
    /// Number of pivots above the tolerance.
    pub(crate) rank: usize,
    /// The last of them, relative to the first; 1 for rank 0.
    pub(crate) kept: f64,
    /// The next one, relative to the first; 0 if rows or columns were used up.
    pub(crate) dropped: f64,
}

/// The rank of the row-major matrix `rows` with `columns` columns, destroyed on the way; pivots not above `tolerance` times
/// the first count as zero. `None` if `progress`, told how many pivots are done, breaks off.
pub(crate) fn rank(
    columns: usize,
    rows: &mut [f64],
    tolerance: f64,
    mut progress: impl FnMut(usize) -> ControlFlow<()>,
) -> Option<Rank> {
    let count = rows.len().checked_div(columns).unwrap_or(0);
    // Squared norms of the remainders, and what they were when last summed.
    let mut norms: Vec<(f64, f64)> =
        rows.chunks_exact(columns.max(1)).map(|row| dot(row, row)).map(|s| (s, s)).collect();
    let (mut first, mut kept) = (0.0, 1.0);
    for k in 0..count.min(columns) {
        if progress(k).is_break() {
            return None;
        }
        let best = (k..count).fold(k, |best, i| if norms[i].0 > norms[best].0 { i } else { best });
        let (above, below) = rows.split_at_mut((k + 1) * columns);
        let pivot = &mut above[k * columns..];
        if best > k {
            pivot.swap_with_slice(&mut below[(best - k - 1) * columns..(best - k) * columns]);
            norms.swap(k, best);
        }
        let pivot = &mut pivot[k..];
        let norm = Float::sqrt(dot(pivot, pivot));
        if k == 0 {
            first = norm;
        }
        // Also where the first pivot, or everything, is zero or NaN.
        if norm.is_nan() || norm <= tolerance * first {
            return Some(Rank { rank: k, kept, dropped: if first > 0.0 { norm / first } else { 0.0 } });
        }
        kept = norm / first;
        let head = pivot[0];
        let beta = 1.0 / (norm * (norm + Float::abs(head)));
        pivot[0] = head + if head < 0.0 { -norm } else { norm };
        for (row, norm) in below.chunks_exact_mut(columns).zip(&mut norms[k + 1..]) {
            let row = &mut row[k..];
            let factor = beta * dot(pivot, row);
            row.iter_mut().zip(&*pivot).for_each(|(y, v)| *y -= factor * v);
            norm.0 -= row[0] * row[0];
            if norm.0.is_nan() || norm.0 <= 1e-6 * norm.1 {
                let sum = dot(&row[1..], &row[1..]);
                *norm = (sum, sum);
            }
        }
    }
    Some(Rank { rank: count.min(columns), kept, dropped: 0.0 })
}

/// Σ x_i·y_i in eight partial sums.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (xs, ys) = (x.chunks_exact(8), y.chunks_exact(8));
    let rest: f64 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in xs.zip(ys) {
        for (l, sum) in sums.iter_mut().enumerate() {
            *sum += x[l] * y[l];
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::generator::Generator;

    fn random(g: &mut Generator, len: usize) -> Vec<f64> {
        (0..len).map(|_| 2.0 * g.uniform() - 1.0).collect()
    }

    fn run(columns: usize, mut rows: Vec<f64>) -> Rank {
        rank(columns, &mut rows, 1e-10, |_| ControlFlow::Continue(())).unwrap()
    }

    #[test]
    fn finds_the_rank_of_products() {
        let mut g = Generator::new(1);
        for (m, n, r) in [(1, 1, 1), (5, 9, 3), (9, 5, 5), (40, 33, 17), (33, 70, 33), (60, 60, 59)] {
            let (left, right) = (random(&mut g, m * r), random(&mut g, r * n));
            let entry = |at: usize| (0..r).map(|k| left[at / n * r + k] * right[k * n + at % n]).sum::<f64>();
            let found = run(n, (0..m * n).map(entry).collect());
            assert_eq!(found.rank, r, "{m}x{n}");
            assert!(found.kept > 1e-5 && found.dropped < 1e-13, "{found:?}");
            assert_eq!(found.dropped == 0.0, r == m.min(n), "{found:?}");
        }
    }

    #[test]
    fn sees_tiny_directions_and_drops_only_rounding() {
        // Rows a, b, a + 10⁻⁷·c: the remainder of the third is far below what plain downdating resolves.
        let mut g = Generator::new(2);
        let (a, b, c) = (random(&mut g, 30), random(&mut g, 30), random(&mut g, 30));
        let third: Vec<f64> = a.iter().zip(&c).map(|(a, c)| a + 1e-7 * c).collect();
        let found = run(30, [a.clone(), b.clone(), third].concat());
        assert!(found.rank == 3 && (1e-8..1e-6).contains(&found.kept), "{found:?}");
        let sum: Vec<f64> = a.iter().zip(&b).map(|(a, b)| 0.3 * a + 0.7 * b).collect();
        let found = run(30, [a, b, sum].concat());
        assert!(found.rank == 2 && found.kept > 0.1 && found.dropped < 1e-15, "{found:?}");
    }

    #[test]
    fn empty_zero_and_broken_off() {
        assert_eq!(run(3, vec![]), Rank { rank: 0, kept: 1.0, dropped: 0.0 });
        assert_eq!(run(0, vec![]), Rank { rank: 0, kept: 1.0, dropped: 0.0 });
        assert_eq!(run(3, vec![0.0; 12]), Rank { rank: 0, kept: 1.0, dropped: 0.0 });
        assert_eq!(run(2, vec![f64::NAN; 4]).rank, 0);
        let stop = |k| if k == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        assert_eq!(rank(2, &mut [1.0, 0.0, 0.0, 1.0], 1e-10, stop), None);
    }
}
