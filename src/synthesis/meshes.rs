//! Any rotation as a mesh of neighbouring pairs, exactly: the eliminations of Reck and of Clements.
//!
//! **Triangle.** Rotations of rows (0,1), (1,2), …, (n−2, n−1) move column n − 1 into its last entry, r ≥ 0; as the columns are
//! orthonormal it becomes e_{n−1}. The same on (0,1), …, (n−3, n−2) for column n − 2, and so on: in the end all columns are unit
//! vectors, but for the sign of the first, which is the determinant. Rotation i of column n − 1 − c can be done at time i + 2c. Q is
//! the product of the inverses, so that one is stage 2n − 4 − i − 2c.
//!
//! **Brick** (Clements et al., Optica 3, 1460 (2016)). The anti-diagonals below the diagonal are eliminated from the corner, in
//! turn by rotations of columns from the right and of rows from the left: L_b ··· L₁ Q R₁ ··· R_a = D, a diagonal matrix, and
//! Q = L₁ᵀ ··· L_bᵀ D R_aᵀ ··· R₁ᵀ. The last anti-diagonal is the subdiagonal. Every rotation there leaves a length r ≥ 0 in one
//! diagonal entry, another one each time, and no later one touches it: so n − 1 entries of D are 1, and the last is the
//! determinant. Each rotation goes to the first stage in which its two coordinates are free; the brick is full then.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::{check_determinant, eliminating, orthogonal};
use crate::error::Result;
use crate::parametrization::Givens;
use crate::plan::Plan;
use crate::topology::{Brick, Triangle};

/// The plan of [`Triangle`] with [`Givens`] and its angles θ for a rotation `q` (row-major n×n).
///
/// ```
/// use papilio::{Orthogonal, synthesis};
/// let q = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
/// let (plan, theta) = synthesis::triangle(3, &q)?;
/// assert_eq!(theta.len(), 3);
/// let found = Orthogonal::new(plan, &theta)?.to_dense()?;
/// assert!(found.iter().zip(&q).all(|(x, y)| (x - y).abs() < 1e-15));
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Size`](crate::Error::Size) for a size of zero or beyond what [`Triangle`] takes,
/// [`Error::Length`](crate::Error::Length) for another number of entries, [`Error::Domain`](crate::Error::Domain) if q is not
/// orthogonal to a ratio of 30 or its determinant is −1.
pub fn triangle(n: usize, q: &[f64]) -> Result<(Plan<f64>, Vec<f64>)> {
    let mut a = Rows { n, entries: orthogonal(n, q)? };
    let plan = Plan::new(n, &Triangle, Givens)?;
    let mut theta = vec![0.0; plan.num_params()];
    for c in 0..n.saturating_sub(1) {
        for i in 0..n - 1 - c {
            let angle = a.eliminate_in_rows(i, n - 1 - c, false);
            let stage = 2 * n - 4 - i - 2 * c;
            theta[plan.stages()[stage].theta().start + i / 2] = angle;
        }
    }
    check_determinant(a.entries[0])?;
    Ok((plan, theta))
}

/// The plan of [`Brick`] with [`Givens`] and its angles θ for a rotation `q` (row-major n×n): half the stages of [`triangle`].
///
/// # Errors
/// Those of [`triangle`].
pub fn brick(n: usize, q: &[f64]) -> Result<(Plan<f64>, Vec<f64>)> {
    let mut a = Rows { n, entries: orthogonal(n, q)? };
    let plan = Plan::new(n, &Brick, Givens)?;
    let (mut right, mut left) = (Vec::new(), Vec::new());
    for elimination in brick_order(n) {
        match elimination {
            Elimination::Columns { i, row } => right.push((i, a.eliminate_in_columns(i, row))),
            Elimination::Rows { i, column } => left.push((i, a.eliminate_in_rows(i, column, true))),
        }
    }
    // One of the two ends has the sign of the determinant; the other and all between are positive.
    check_determinant(a.entries[0].min(a.entries[n * n - 1]))?;

    let mut theta = vec![0.0; plan.num_params()];
    let mut free = vec![0; n]; // the first stage in which a coordinate has not been rotated yet
    for (i, angle) in right.into_iter().chain(left.into_iter().rev()) {
        let stage = Ord::max(free[i], free[i + 1]);
        (free[i], free[i + 1]) = (stage + 1, stage + 1);
        theta[plan.stages()[stage].theta().start + i / 2] = angle;
    }
    Ok((plan, theta))
}

/// One entry less: by mixing columns i and i + 1, or rows.
pub(super) enum Elimination {
    Columns { i: usize, row: usize },
    Rows { i: usize, column: usize },
}

/// The eliminations of the brick: anti-diagonal by anti-diagonal from the corner, in turn by columns and by rows.
pub(super) fn brick_order(n: usize) -> impl Iterator<Item = Elimination> {
    let all = (0..n.saturating_sub(1)).flat_map(|diagonal| (0..=diagonal).map(move |j| (diagonal, j)));
    all.map(move |(diagonal, j)| match diagonal % 2 {
        0 => Elimination::Columns { i: diagonal - j, row: n - 1 - j },
        _ => Elimination::Rows { i: n - 2 - diagonal + j, column: j },
    })
}

/// A matrix whose rows or columns are rotated in pairs.
struct Rows {
    n: usize,
    entries: Vec<f64>,
}

impl Rows {
    /// Rotates rows i and i + 1 so that `column` keeps the first of the two entries (or the second) and loses the other. Returns the
    /// angle of the inverse rotation.
    fn eliminate_in_rows(&mut self, i: usize, column: usize, first: bool) -> f64 {
        let (above, below) = self.entries.split_at_mut((i + 1) * self.n);
        let (x, y) = (&mut above[i * self.n..], &mut below[..self.n]);
        let angle = eliminating(x[column], y[column], first);
        let (s, c) = Float::sin_cos(angle);
        for (x, y) in x.iter_mut().zip(y) {
            (*x, *y) = (c * *x + s * *y, c * *y - s * *x);
        }
        angle
    }

    /// Rotates columns i and i + 1, Q ← Q·G(φ)ᵀ, so that `row` loses entry i. Returns φ.
    fn eliminate_in_columns(&mut self, i: usize, row: usize) -> f64 {
        let at = row * self.n + i;
        let angle = -eliminating(self.entries[at], self.entries[at + 1], false);
        let (s, c) = Float::sin_cos(angle);
        for row in self.entries.chunks_exact_mut(self.n) {
            (row[i], row[i + 1]) = (c * row[i] - s * row[i + 1], s * row[i] + c * row[i + 1]);
        }
        angle
    }
}
