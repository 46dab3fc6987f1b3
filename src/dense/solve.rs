//! Small linear systems: X·M = B with partial pivoting, and an inverse without any for packs of blocks.
//!
//! *Without pivoting.* If the symmetric part of M is positive definite, T = (M + Mᵀ)/2, S = (M − Mᵀ)/2, elimination
//! needs no pivoting to exist, and ‖|L||U|‖_F ≤ b(‖T‖₂ + ‖S T⁻¹ S‖₂) (Golub & Van Loan, *Matrix Computations*, 4th ed.,
//! §4.2.2). For M = I + A with A skew this is b(1 + ‖A‖²): safe for moderate A, to be checked otherwise.
//!
//! *With partial pivoting* the growth is at most 2^(b−1) and small in practice (§3.4).

use alloc::{format, vec::Vec};

use super::check_block;
use super::pack::{Pack, recip};
use super::product::{Start, row_times};
use crate::error::{Error, Result};
use crate::scalar::{Scalar, Wide};

/// M ← M⁻¹ by Gauss–Jordan elimination without pivoting, four rows in a step; `panel` is scratch of length 4b. Lanes where it
/// breaks down end up not finite, or wrong.
///
/// With M = [[D, R], [C, N]] a step is [[D⁻¹, D⁻¹R], [−CD⁻¹, N − CD⁻¹R]]. Where the symmetric part of M is at least I, as in
/// I + A, so are those of D and of what is left, and ‖D⁻¹‖₂ ≤ 1.
#[inline(always)]
pub(crate) fn invert_unpivoted<W: Wide, T: Pack<W>>(b: usize, m: &mut [T], panel: &mut [T]) {
    let zero = T::from_f64(0.0);
    for k in (0..b).step_by(4) {
        let size = (b - k).min(4);
        let mut d = [[zero; 4]; 4];
        for (p, d) in d.iter_mut().enumerate().take(size) {
            d[..size].copy_from_slice(&m[(k + p) * b + k..(k + p) * b + k + size]);
        }
        invert_small::<W, T>(size, &mut d);
        let panel = &mut panel[..size * b];
        for (panel, d) in panel.chunks_exact_mut(b).zip(&d) {
            row_times(Start::Zero, (b, 0), |q| d[q], &m[k * b..(k + size) * b], panel);
            panel[k..k + size].copy_from_slice(&d[..size]);
        }
        // C·[D⁻¹, D⁻¹R] is to be subtracted from [0, N].
        for (i, row) in m.chunks_exact_mut(b).enumerate() {
            if (k..k + size).contains(&i) {
                row.copy_from_slice(&panel[(i - k) * b..(i - k + 1) * b]);
                continue;
            }
            let mut factors = [zero; 4];
            for (factor, x) in factors.iter_mut().zip(&mut row[k..k + size]) {
                *factor = -*x;
                *x = zero;
            }
            row_times(Start::Old, (b, 0), |p| factors[p], panel, row);
        }
    }
}

/// Gauss–Jordan elimination of the first `size` rows and columns.
#[inline(always)]
fn invert_small<W: Wide, T: Pack<W>>(size: usize, d: &mut [[T; 4]; 4]) {
    for k in 0..size {
        let pivot = d[k][k].recip();
        d[k][k] = T::from_f64(1.0);
        let row = d[k];
        let row = [row[0] * pivot, row[1] * pivot, row[2] * pivot, row[3] * pivot];
        for (i, d) in d.iter_mut().enumerate().take(size) {
            if i == k {
                *d = row;
                continue;
            }
            let factor = d[k];
            d[k] = T::from_f64(0.0);
            *d = [d[0] - factor * row[0], d[1] - factor * row[1], d[2] - factor * row[2], d[3] - factor * row[3]];
        }
    }
}

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

    #[test]
    fn inverts_without_pivoting() {
        let m = [1.0, 2.0, -3.0, -2.0, 1.0, 0.5, 3.0, -0.5, 1.0];
        let mut inverse = m;
        invert_unpivoted::<f64, f64>(3, &mut inverse, &mut [0.0; 12]);
        for i in 0..3 {
            for j in 0..3 {
                let product: f64 = (0..3).map(|k| inverse[i * 3 + k] * m[k * 3 + j]).sum();
                assert!((product - f64::from(u8::from(i == j))).abs() <= 4e-15);
            }
        }
    }
}
