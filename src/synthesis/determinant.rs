//! Constructions of rotations, for all of O(n): a sign takes the determinant away.

use alloc::vec;
use alloc::vec::Vec;

use super::checked;
use super::transforms::signs;
use crate::dense::determinant_sign;
use crate::error::Result;
use crate::plan::Plan;

/// The plan and θ of `construct`, one of the constructions of rotations here, for an orthogonal `q` (row-major n×n) of either
/// determinant: for −1 that of Q·S, S = diag(−1, 1, …, 1), after a fixed stage S.
///
/// ```
/// use papilio::{Orthogonal, synthesis};
/// let reflection = [0.6, 0.8, 0.8, -0.6];
/// assert!(synthesis::brick(2, &reflection).is_err());
/// let (plan, theta) = synthesis::any_determinant(2, &reflection, synthesis::brick)?;
/// let found = Orthogonal::new(plan, &theta)?.to_dense()?;
/// assert!(found.iter().zip(&reflection).all(|(x, y)| (x - y).abs() < 1e-15));
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// Those of `construct`.
pub fn any_determinant(
    n: usize,
    q: &[f64],
    construct: impl FnOnce(usize, &[f64]) -> Result<(Plan<f64>, Vec<f64>)>,
) -> Result<(Plan<f64>, Vec<f64>)> {
    let mut q = checked(n, q, "an orthogonal matrix: orthogonality ratio at most 30")?;
    if determinant_sign(n, &mut q.clone()) >= 0 {
        return construct(n, &q);
    }
    q.iter_mut().step_by(n).for_each(|x| *x = -*x);
    let (plan, theta) = construct(n, &q)?;
    let mut negative = vec![false; n];
    negative[0] = true;
    Ok((signs(&negative)?.then(plan)?, theta))
}
