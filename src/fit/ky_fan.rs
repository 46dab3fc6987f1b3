//! Sums of the largest singular values (Ky Fan norms), from above.
//!
//! σ₁ + … + σ_u of M (h×s), h ≥ s after a turn: the σ² are the eigenvalues of the Gram matrix G = MᴴM. Householder reflections make it
//! tridiagonal (Golub & Van Loan, *Matrix Computations*, 4th ed., §8.3), T = HᴴGH, of which signs of Sturm's sequence
//!
//! > q₁ = d₁ − x, qᵢ = dᵢ − x − |eᵢ₋₁|²/qᵢ₋₁
//!
//! count the eigenvalues above x (§8.4). Bisection keeps the upper end, and rounding is added: forming G, the reflections and the counts move
//! eigenvalues by some u·(h + 8s)·‖M‖²_F, u = 2⁻⁵³; twice that is what is added to each. What comes out does not
//! depend on whether anything has converged.

use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::rank::{dot, squares};
use crate::dense::EPS;
use crate::scalar::{Scalar, Wide};

/// More than ever needed.
const HALVINGS: usize = 100;

/// At least the sum of the u largest singular values of M, whose rows have length s.
#[inline(always)]
pub(super) fn ky_fan<W: Wide>(u: usize, s: usize, m: &[W]) -> f64 {
    let h = m.len() / s.max(1);
    let (count, mut gram) = (h.min(s), Vec::new());
    if h < s {
        let pairs = (0..h).flat_map(|i| (0..h).map(move |j| (i, j)));
        gram.extend(pairs.map(|(i, j)| dot(&m[j * s..(j + 1) * s], &m[i * s..(i + 1) * s])));
    } else {
        gram.resize(s * s, W::zero());
        for row in m.chunks_exact(s.max(1)) {
            for (x, gram) in row.iter().zip(gram.chunks_exact_mut(s)) {
                let x = Scalar::conj(*x);
                gram.iter_mut().zip(row).for_each(|(g, y)| *g += x * *y);
            }
        }
    }
    let trace = squares(m);
    let error = (h.max(s) + 8 * count) as f64 * EPS * trace;
    let t = Tridiagonal::of(count, &mut gram);
    let (mut sum, mut above) = (0.0, trace + error);
    for i in 0..u.min(count) {
        let mut below = 0.0;
        for _ in 0..HALVINGS {
            if above - below <= error {
                break;
            }
            let middle = 0.5 * (above + below);
            *if t.above(middle) > i { &mut below } else { &mut above } = middle;
        }
        sum += Float::sqrt(above + error);
    }
    sum
}

/// Diagonal, and squares beside it.
struct Tridiagonal {
    diagonal: Vec<f64>,
    squares: Vec<f64>,
}

impl Tridiagonal {
    /// Of a Hermitian n×n matrix, which is used up.
    #[inline(always)]
    fn of<W: Wide>(n: usize, a: &mut [W]) -> Self {
        let (mut diagonal, mut beside) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let (mut v, mut w) = (vec![W::zero(); n], vec![W::zero(); n]);
        for k in 0..n {
            diagonal.push(a[k * n + k].re());
            if k + 1 == n {
                break;
            }
            // Column k below the diagonal is the conjugate of the row; I − 2vvᴴ/‖v‖² makes it a multiple of the first unit vector.
            let rest = n - k - 1;
            let (v, w) = (&mut v[..rest], &mut w[..rest]);
            v.iter_mut().zip(&a[k * n + k + 1..(k + 1) * n]).for_each(|(v, x)| *v = Scalar::conj(*x));
            let square = squares(v);
            beside.push(square);
            let (length, first) = (Float::sqrt(square), Scalar::abs(v[0]));
            let norm = 2.0 * length * (length + first); // ‖v‖², then
            if norm < f64::MIN_POSITIVE / EPS {
                continue; // nothing to be seen beside the rest
            }
            let turn = if first > 0.0 { v[0] * W::from_real(1.0 / first) } else { W::one() };
            v[0] += turn * W::from_real(length);
            // A ← A − vwᴴ − wvᴴ, w = p − v·vᴴp/‖v‖², p = 2Av/‖v‖².
            let scale = W::from_real(2.0 / norm);
            w.fill(W::zero());
            for (x, row) in v.iter().zip(a[(k + 1) * n..].chunks_exact(n)) {
                let x = *x * scale;
                w.iter_mut().zip(&row[k + 1..]).for_each(|(w, a)| *w += x * Scalar::conj(*a));
            }
            let part = dot(w, v) * W::from_real(1.0 / norm);
            w.iter_mut().zip(&*v).for_each(|(w, v)| *w = *w - part * *v);
            for (i, row) in a[(k + 1) * n..].chunks_exact_mut(n).enumerate() {
                let (x, y) = (v[i], w[i]);
                for ((a, v), w) in row[k + 1..].iter_mut().zip(&*v).zip(&*w) {
                    *a = *a - x * Scalar::conj(*w) - y * Scalar::conj(*v);
                }
            }
        }
        Self { diagonal, squares: beside }
    }

    /// How many eigenvalues are above x.
    fn above(&self, x: f64) -> usize {
        let (mut count, mut q) = (0, 1.0);
        for (i, d) in self.diagonal.iter().enumerate() {
            let before = if i == 0 { 0.0 } else { self.squares[i - 1] / q };
            q = d - x - before;
            if Float::abs(q) < f64::MIN_POSITIVE {
                q = f64::MIN_POSITIVE;
            }
            count += usize::from(q > 0.0);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::hermitian_eigen;
    use crate::generator::Generator;
    use crate::scalar::c64;

    /// Against Jacobi's eigenvalues of a Gram matrix: not below their roots, and hardly above.
    fn check<W: Wide>(h: usize, s: usize, rank: usize, scale: f64, g: &mut Generator) {
        let mut random = |len: usize| -> Vec<W> {
            (0..len)
                .map(|_| W::from_parts(g.uniform() - 0.5, if W::IS_COMPLEX { g.uniform() - 0.5 } else { 0.0 }))
                .collect()
        };
        let (x, y) = (random(h * rank), random(rank * s));
        let entry = |at: usize| {
            let sum = (0..rank).fold(W::zero(), |sum, k| sum + x[at / s * rank + k] * y[k * s + at % s]);
            sum * W::from_real(scale)
        };
        let m: Vec<W> = (0..h * s).map(entry).collect();
        let inner =
            |i: usize, j: usize| (0..h).fold(W::zero(), |sum, k| sum + Scalar::conj(m[k * s + i]) * m[k * s + j]);
        let mut gram: Vec<W> = (0..s * s).map(|at| inner(at / s, at % s)).collect();
        let mut lambda = hermitian_eigen(s, &mut gram).0;
        lambda.sort_by(|a, b| b.total_cmp(a));
        let norm = Float::sqrt(squares(&m));
        for u in 0..=s {
            let expected: f64 = lambda.iter().take(u.min(rank)).map(|l| Float::sqrt(l.max(0.0))).sum();
            let found = ky_fan(u, s, &m);
            assert!(found >= expected - 1e-14 * norm, "{h}×{s}, {u}: {found} below {expected}");
            let added = 3.0 * (h.max(s) + 8 * h.min(s)) as f64 * EPS * norm * norm;
            let most: f64 = lambda.iter().take(u.min(h)).map(|l| Float::sqrt(l.max(0.0) + added)).sum();
            assert!(found <= most, "{h}×{s}, {u}: {found} above {most}");
        }
    }

    #[test]
    fn upper_bounds_of_sums_of_singular_values() {
        let mut g = Generator::new(1);
        for (h, s) in [(1, 1), (2, 2), (1, 5), (5, 1), (4, 9), (9, 4), (16, 16), (33, 20)] {
            for rank in [1, 2.min(h).min(s), h.min(s)] {
                for scale in [1.0, 1e-60, 1e60] {
                    check::<f64>(h, s, rank, scale, &mut g);
                    check::<c64>(h, s, rank, scale, &mut g);
                }
            }
        }
        assert_eq!(ky_fan(2, 3, &[0.0; 9]), 0.0);
    }
}
