//! Eigenvalues and eigenvectors of a Hermitian block by Jacobi rotations (Jacobi 1846; Golub & Van Loan, *Matrix
//! Computations*, 4th ed., §8.5).
//!
//! For h = H[p][q] = |h|e the plane (p, ē·q) is real; t = sign(τ)/(|τ| + √(1 + τ²)), τ = (H[q][q] − H[p][p])/(2|h|), is the smaller
//! tangent that annihilates h. Sweeps over all pairs converge quadratically, also for clustered eigenvalues, and are
//! backward stable: errors of size u‖H‖.

use alloc::{vec, vec::Vec};

use num_traits::Float;

use super::{EPS, polish_with};
use crate::scalar::{Scalar, Wide};

/// More than ever needed: seven sweeps are usual.
const SWEEPS: usize = 40;

/// H = V diag(λ) Vᴴ: returns λ (in no order) and V, whose columns are eigenvectors. `h` is used up.
pub(crate) fn hermitian_eigen<W: Wide>(b: usize, h: &mut [W]) -> (Vec<f64>, Vec<W>) {
    let mut v = vec![W::zero(); b * b];
    v.iter_mut().step_by(b + 1).for_each(|x| *x = W::one());
    // In units of the largest entry, divided twice: its reciprocal may not exist.
    let largest = h.iter().fold(0.0, |m: f64, x| m.max(Float::abs(x.re())).max(Float::abs(x.im())));
    let mut rotated = largest > 0.0;
    let unit = if rotated { Float::sqrt(largest) } else { 1.0 };
    let inverse = W::from_real(1.0 / unit);
    h.iter_mut().for_each(|x| *x = *x * inverse * inverse);
    let tiny = EPS / b as f64;
    for _ in 0..SWEEPS {
        if !core::mem::take(&mut rotated) {
            break;
        }
        for p in 0..b {
            for q in p + 1..b {
                let size = Scalar::abs(h[p * b + q]);
                if size > tiny {
                    rotate(b, h, &mut v, p, q, size);
                    rotated = true;
                }
            }
        }
    }
    let lambda = (0..b).map(|i| h[i * b + i].re() * unit * unit).collect();
    // What hundreds of rotations have left of rounding errors.
    polish_with(b, &mut v, h, &mut vec![W::zero(); b * b]);
    (lambda, v)
}

/// Cosine and sine of the rotation J = [[c, s], [−s, c]] for which JᵀHJ is diagonal, H = [[p, size], [size, q]], size > 0.
pub(crate) fn annihilating(p: f64, q: f64, size: f64) -> (f64, f64) {
    let tau = (q - p) / size * 0.5;
    let t = if tau < 0.0 { -1.0 } else { 1.0 } / (Float::abs(tau) + Float::hypot(1.0, tau));
    let cosine = 1.0 / Float::hypot(1.0, t);
    (cosine, t * cosine)
}

fn rotate<W: Wide>(b: usize, h: &mut [W], v: &mut [W], p: usize, q: usize, size: f64) {
    let (c, s) = annihilating(h[p * b + p].re(), h[q * b + q].re(), size);
    let (c, s) = (W::from_real(c), W::from_real(s));
    let e = h[p * b + q] * W::from_real(1.0 / size);
    let back = Scalar::conj(e);
    for m in [&mut *h, v] {
        for row in m.chunks_exact_mut(b) {
            let (x, y) = (row[p], row[q] * back);
            (row[p], row[q]) = (c * x - s * y, s * x + c * y);
        }
    }
    for j in 0..b {
        let (x, y) = (h[p * b + j], h[q * b + j] * e);
        (h[p * b + j], h[q * b + j]) = (c * x - s * y, s * x + c * y);
    }
    (h[p * b + q], h[q * b + p]) = (W::zero(), W::zero());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::orthogonality_ratio;
    use crate::generator::Generator;
    use crate::scalar::c64;

    /// Of H − V diag(λ) Vᴴ, the largest entry, for eigenvalues with a cluster and a zero.
    fn residual<W: Wide>(b: usize, scale: f64) -> f64 {
        let mut g = Generator::new(b as u64);
        let mut h = vec![W::zero(); b * b];
        for i in 0..b {
            for j in i..b {
                let x = W::from_parts(g.uniform() - 0.5, if i == j { 0.0 } else { g.uniform() - 0.5 });
                h[i * b + j] = x * W::from_real(scale);
                h[j * b + i] = Scalar::conj(h[i * b + j]);
            }
        }
        let (lambda, v) = hermitian_eigen(b, &mut h.clone());
        assert!(orthogonality_ratio(b, &v).unwrap() <= 1.0);
        let entry = |i: usize, j: usize| {
            (0..b).fold(W::zero(), |sum, k| sum + v[i * b + k] * W::from_real(lambda[k]) * Scalar::conj(v[j * b + k]))
        };
        (0..b * b).fold(0.0, |m: f64, at| m.max(Scalar::abs(h[at] - entry(at / b, at % b)))) / scale
    }

    #[test]
    fn diagonalises() {
        for b in [1, 2, 3, 8, 33] {
            for scale in [1e-300, 1e-8, 1.0, 1e300] {
                let limit = 8.0 * b as f64 * EPS;
                assert!(residual::<f64>(b, scale) <= limit && residual::<c64>(b, scale) <= limit, "b = {b}, {scale:e}");
            }
        }
    }

    #[test]
    fn multiple_eigenvalues() {
        // I − 2vvᵀ/|v|² has the eigenvalues 1, 1, 1, −1.
        let v = [1.0, 2.0, -2.0, 4.0];
        let mut h: Vec<f64> =
            (0..16).map(|at| f64::from(u8::from(at % 5 == 0)) - 2.0 * v[at / 4] * v[at % 4] / 25.0).collect();
        let (mut lambda, _) = hermitian_eigen(4, &mut h);
        lambda.sort_by(f64::total_cmp);
        assert!(lambda.iter().zip([-1.0, 1.0, 1.0, 1.0]).all(|(x, y)| (x - y).abs() <= 4.0 * EPS), "{lambda:?}");
    }
}
