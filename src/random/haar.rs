//! Exactly uniform (Haar distributed) orthogonal matrices: what fast rotations imitate. O(n²) numbers, O(n³) to draw.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::rotation::check_range;
use crate::dense;
use crate::error::Result;
use crate::generator::Normal;
use crate::layout::StageLayout;
use crate::plan::{Plan, Source};
use crate::synthesis;

/// Largest n of a dense matrix here: 2 GiB.
const MOST: usize = 1 << 14;

/// A uniform rotation (determinant 1), row-major n×n: the Q of a Gaussian matrix with the signs of Mezzadri (arXiv
/// math-ph/0609050).
///
/// # Errors
/// [`Error::Size`](crate::Error::Size) unless 1 ≤ n ≤ 2¹⁴.
pub fn rotation(n: usize, seed: u64) -> Result<Vec<f64>> {
    check_range("size of a Haar matrix", n, MOST)?;
    let mut normal = Normal::new(seed);
    let mut q: Vec<f64> = (0..n * n).map(|_| normal.next()).collect();
    dense::haar_rotation(n, &mut q);
    Ok(q)
}

/// Stewart's n reflectors (1980, doi 10.1137/0717034) for a uniform orthogonal matrix of either determinant: Gaussian vectors of n,
/// n − 1, …, 1 coordinates, each of whose reflections takes it to its first axis, and random signs. As a plan of one stage
/// of reflectors after one of signs, and its θ: O(n²) to draw and to apply.
///
/// ```
/// let (plan, theta) = papilio::random::haar::reflectors(50, 1)?;
/// let q = papilio::Orthogonal::new(plan, theta)?.to_dense()?;
/// assert!(papilio::dense::orthogonality_ratio(50, &q)? < 1.0);
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// As [`rotation`].
pub fn reflectors(n: usize, seed: u64) -> Result<(Plan<f64>, Vec<f64>)> {
    check_range("size of a Haar matrix", n, MOST)?;
    let mut normal = Normal::new(seed);
    let mut vectors = vec![0.0; n * n];
    let mut signs = vec![1.0; n];
    for i in 0..n {
        let vector = &mut vectors[i * n + i..(i + 1) * n];
        vector.iter_mut().for_each(|x| *x = normal.next());
        // x takes the axis to x/‖x‖ or its negative; adding ‖x‖ with the sign of x₁ loses no digits. The sign is made up for:
        // R has a positive diagonal, as for `rotation`.
        let norm = Float::sqrt(vector.iter().map(|x| x * x).sum::<f64>());
        signs[i] = if vector[0] < 0.0 { 1.0 } else { -1.0 };
        vector[0] += if vector[0] < 0.0 { -norm } else { norm };
    }
    // In one dimension the uniform orthogonal matrix is a random sign.
    signs[n - 1] = normal.sign();
    vectors[n * n - 1] = 0.0;
    // Q = H₁ H₂ ··· H_{n−1} D: D acts first, then the shortest vector.
    let theta = vectors.chunks_exact(n).rev().flatten().copied().collect();
    let signs = (StageLayout::contiguous(1, n), Source::Fixed(signs.into()));
    let reflections = (StageLayout::contiguous(n, 1), Source::reflectors(n));
    Ok((Plan::from_stages(n, [signs, reflections])?, theta))
}

/// A uniform rotation as Clements' mesh: the plan of neighbouring pairs and its n(n − 1)/2 angles
/// ([`synthesis::brick`] of [`rotation`], so exactly Haar distributed).
///
/// # Errors
/// As [`rotation`].
pub fn mesh(n: usize, seed: u64) -> Result<(Plan<f64>, Vec<f64>)> {
    synthesis::brick(n, &rotation(n, seed)?)
}
