//! Householder's elimination: any orthogonal or unitary matrix as a product of at most n reflections.
//!
//! H_{n−1} ··· H₁ Q = D with H = I − 2uuᴴ, one for each column x of what is left, from the first to the last: u ∝ x − t‖x‖e_c
//! takes it to t‖x‖e_c, where |t| = 1 and x_c·t̄ must be real. With p = x_c·t̄ the c-th entry of x − t‖x‖e_c is t(p − ‖x‖), or
//! −tσ/(p + ‖x‖), σ = Σ_{i≠c} |x_i|², without cancellation, for p > 0. As columns are orthonormal, D is diagonal.
//! - Real: t = 1, so D = I, but for a −1 in the last place if det Q = −1, which is the reflection of e_{n−1}.
//! - Complex: t = x_c/|x_c|. D are phases, a stage of their own, which acts first.
//!
//! Q = H₁ ··· H_{n−1} D, so H₁ acts last. No sign of the determinant is refused.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::checked;
use super::reflectors::{reflect, reflector};
use crate::error::Result;
use crate::layout::StageLayout;
use crate::parametrization::Exponential;
use crate::plan::{Plan, Source};
use crate::scalar::{Wide, c64};

/// The plan of n Householder reflections in one stage, and its vectors θ for an orthogonal `q` (row-major n×n), whatever its
/// determinant. Reflections that are not needed are zero vectors.
///
/// ```
/// use papilio::{Orthogonal, synthesis};
/// let q = [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]; // a swap, one reflection
/// let (plan, theta) = synthesis::householder(3, &q)?;
/// let found = Orthogonal::new(plan, &theta)?.to_dense()?;
/// assert!(found.iter().zip(&q).all(|(x, y)| (x - y).abs() < 1e-15));
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Size`](crate::Error::Size) for a size of zero, [`Error::Length`](crate::Error::Length) for another number of entries,
/// [`Error::Domain`](crate::Error::Domain) if q is not orthogonal to a ratio of 30.
pub fn householder(n: usize, q: &[f64]) -> Result<(Plan<f64>, Vec<f64>)> {
    let mut a = checked(n, q, "an orthogonal matrix: orthogonality ratio at most 30")?;
    let mut vectors = eliminate(n, &mut a);
    let mut last = vec![0.0; n];
    last[n - 1] = if a[n * n - 1] < 0.0 { 1.0 } else { 0.0 };
    vectors.push(last);
    let theta = vectors.into_iter().rev().flatten().collect();
    Ok((Plan::from_stages(n, [(StageLayout::contiguous(n, 1), Source::reflectors(n))])?, theta))
}

/// The plan of a diagonal of phases and then n − 1 Householder reflections in one stage, and its θ for a unitary `q` (row-major
/// n×n).
///
/// # Errors
/// Those of [`householder`].
pub fn unitary_householder(n: usize, q: &[c64]) -> Result<(Plan<c64>, Vec<f64>)> {
    let mut a = checked(n, q, "a unitary matrix: orthogonality ratio at most 30")?;
    let vectors = eliminate(n, &mut a);
    let mut theta: Vec<f64> = a.iter().step_by(n + 1).map(|x| Float::atan2(x.im, x.re)).collect();
    theta.extend(vectors.into_iter().rev().flatten().flat_map(|x| [x.re, x.im]));
    let phases = (StageLayout::contiguous(1, n), Source::chart(Exponential));
    let reflections = (StageLayout::contiguous(n, 1), Source::reflectors(n - 1));
    Ok((Plan::from_stages(n, [phases, reflections])?, theta))
}

/// The n − 1 vectors, in the order of columns; zero for columns that are done. What is left in `a` is D.
fn eliminate<W: Wide>(n: usize, a: &mut [W]) -> Vec<Vec<W>> {
    let order: Vec<usize> = (0..n).collect();
    let each = |done: usize| match reflector(n, a, &order[done..]) {
        Some(u) => {
            reflect(n, a, &u);
            u
        }
        None => vec![W::zero(); n],
    };
    (0..n - 1).map(each).collect()
}
