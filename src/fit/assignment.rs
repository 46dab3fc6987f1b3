//! Linear assignment: the permutation with the largest sum of weights, by shortest augmenting paths (Jonker & Volgenant,
//! Computing 38 (1987) 325), O(n³).
//!
//! With prices u, v for which cost[i][j] − uᵢ − vⱼ ≥ 0, and = 0 where j is assigned to i, an assignment of some rows is the cheapest. One more
//! row follows a shortest path of such reduced costs (Dijkstra) to a free column; the prices move by what the path has cost.

use alloc::vec;
use alloc::vec::Vec;

/// For each row its column; `weight` is row-major, n×n, finite.
pub(super) fn assignment(n: usize, weight: &[f64]) -> Vec<usize> {
    const FREE: usize = usize::MAX;
    let (mut u, mut v) = (vec![0.0; n], vec![0.0; n]);
    let mut row_of = vec![FREE; n];
    for start in 0..n {
        let (mut distance, mut before) = (vec![f64::INFINITY; n], vec![FREE; n]);
        let mut done = vec![false; n];
        let (mut row, mut at, mut column) = (start, 0.0, FREE);
        loop {
            let mut next = FREE;
            for j in (0..n).filter(|j| !done[*j]) {
                let there = at - weight[row * n + j] - u[row] - v[j];
                if there < distance[j] {
                    (distance[j], before[j]) = (there, column);
                }
                if next == FREE || distance[j] < distance[next] {
                    next = j;
                }
            }
            (column, at) = (next, distance[next]);
            done[column] = true;
            if row_of[column] == FREE {
                break;
            }
            row = row_of[column];
        }
        u[start] += at;
        for j in (0..n).filter(|j| done[*j] && *j != column) {
            u[row_of[j]] += at - distance[j];
            v[j] -= at - distance[j];
        }
        while column != FREE {
            let previous = before[column];
            row_of[column] = if previous == FREE { start } else { row_of[previous] };
            column = previous;
        }
    }
    let mut columns = vec![0; n];
    row_of.into_iter().enumerate().for_each(|(j, i)| columns[i] = j);
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Generator;

    fn best(n: usize, weight: &[f64], row: usize, taken: usize) -> f64 {
        if row == n {
            return 0.0;
        }
        let columns = (0..n).filter(|j| taken >> j & 1 == 0);
        let each = columns.map(|j| weight[row * n + j] + best(n, weight, row + 1, taken | 1 << j));
        each.fold(f64::NEG_INFINITY, f64::max)
    }

    #[test]
    fn as_good_as_the_best_of_all_permutations() {
        let mut g = Generator::new(1);
        for case in 0..200 {
            let n = case % 8;
            // Every third time with many ties.
            let mut draw = || if case % 3 == 0 { g.below(3) as f64 } else { g.uniform() * 2.0 - 1.0 };
            let weight: Vec<f64> = (0..n * n).map(|_| draw()).collect();
            let columns = assignment(n, &weight);
            let mut sorted = columns.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..n).collect::<Vec<_>>());
            let sum: f64 = columns.iter().enumerate().map(|(i, j)| weight[i * n + j]).sum();
            let most = best(n, &weight, 0, 0);
            assert!((sum - most).abs() <= 1e-14 * n as f64, "{sum} {most}");
        }
    }
}
