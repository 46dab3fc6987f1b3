//! Small linear systems X·M = B with partial pivoting: the growth is at most 2^(b−1), and small in practice (Golub & Van Loan,
//! *Matrix Computations*, 4th ed., §3.4).

use alloc::{format, vec::Vec};

use super::check_block;
use super::pack::recip;
use crate::error::{Error, Result};
use crate::scalar::{Scalar, Wide};

/// Solves X·M = B for X by elimination with partial pivoting (columns are exchanged, since M stands on the right).
///
/// `m` is overwritten, `rhs` holds B (any number of rows of length b) and then X.
///
/// # Errors
/// [`Error::Length`] if `m` is not b×b or `rhs` has no whole rows; [`Error::Domain`] if M is singular or not finite.
pub fn solve<W: Wide>(b: usize, m: &mut [W], rhs: &mut [W]) -> Result<()> {
    check_block("m", b, m.len())?;
    if !rhs.len().is_multiple_of(b) {
        return Err(Error::Length { what: "rhs", expected: rhs.len() / b.max(1) * b, got: rhs.len() });
    }
    let mut columns: Vec<usize> = (0..b).collect();
    for k in 0..b {
        // Column operations on the stacked matrix [M; B]: M becomes the identity with its columns permuted.
        let row = &m[k * b..(k + 1) * b];
        let at = (k..b).max_by(|&i, &j| {
            let size = |c: usize| Scalar::abs(row[columns[c]]);
            size(i).total_cmp(&size(j))
        });
        columns.swap(k, at.unwrap_or(k));
        let pivot = row[columns[k]];
        let size = Scalar::abs(pivot);
        if !(1.0 / size).is_finite() || !size.is_finite() {
            return Err(Error::Domain {
                what: "linear system".into(),
                expected: "a regular, finite matrix",
                got: format!("pivot {size:e} in row {k}"),
            });
        }
        let inverse = recip(pivot);
        let factors: Vec<W> = row.iter().map(|&x| x * inverse).collect();
        for row in m[k * b..].chunks_exact_mut(b).chain(rhs.chunks_exact_mut(b)) {
            let x = row[columns[k]];
            for (j, (entry, &factor)) in row.iter_mut().zip(&factors).enumerate() {
                if j == columns[k] {
                    *entry = x * inverse;
                } else {
                    *entry = *entry - x * factor;
                }
            }
        }
    }
    // Step k made row k of M the unit row at columns[k]: what stands there is coordinate k of the solution.
    for row in rhs.chunks_exact_mut(b.max(1)) {
        let solution: Vec<W> = columns.iter().map(|&c| row[c]).collect();
        row.copy_from_slice(&solution);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_solve() {
        assert!(solve::<f64>(0, &mut [], &mut []).is_ok());
        assert!(matches!(solve(0, &mut [], &mut [1.0]), Err(Error::Length { .. })));
    }

    #[test]
    fn solves_from_the_right() {
        // The zero in the corner makes pivoting necessary.
        let m = [0.0, 2.0, 1.0, 4.0, -1.0, 0.5, 1.0, 3.0, -2.0];
        let x = [1.0, -2.0, 3.0, 0.25, 0.0, -8.0];
        let mut rhs = [0.0; 6];
        for i in 0..2 {
            for j in 0..3 {
                rhs[i * 3 + j] = (0..3).map(|k| x[i * 3 + k] * m[k * 3 + j]).sum();
            }
        }
        solve(3, &mut m.clone(), &mut rhs).unwrap();
        assert!(rhs.iter().zip(x).all(|(r, x)| (r - x).abs() <= 4e-15), "{rhs:?}");
    }

    #[test]
    fn singular_and_not_finite_are_errors() {
        for bad in [0.0, f64::NAN, f64::INFINITY] {
            let result = solve(2, &mut [1.0, 1.0, 1.0, 1.0 + bad], &mut [1.0, 0.0]);
            assert!(matches!(result, Err(Error::Domain { .. })), "{bad}");
        }
        assert!(solve(2, &mut [1.0; 4], &mut [1.0; 3]).is_err());
        assert!(solve(2, &mut [1.0; 3], &mut [1.0; 2]).is_err());
        solve::<f64>(0, &mut [], &mut []).unwrap();
    }
}
