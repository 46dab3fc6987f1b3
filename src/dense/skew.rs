//! How a skew block is stored in real numbers θ, and what the gradient of that is.
//!
//! A real skew A (Aᵀ = −A) is its strict upper triangle, row-major: A[i][j] = θ, A[j][i] = −θ. A skew-Hermitian A
//! (Aᴴ = −A) is its imaginary diagonal, b numbers first, and then (re, im) of the strict upper triangle, row-major:
//! A[j][j] = iθ, A[i][j] = x + iy, A[j][i] = −x + iy.
//!
//! *Pullback.* ⟨G, dA⟩ = Re tr(Gᴴ dA), and with Z = G − Gᴴ, twice the skew part of G: dx += Re Z_ij and dy += Im Z_ij for
//! i < j, dθ_j += ½ Im Z_jj. And A itself is ½(A − Aᴴ), so the same function reads θ out of a matrix.

use super::pack::Pack;
use crate::scalar::{Scalar, Wide};

/// Parameters of a b×b skew (skew-Hermitian) block.
pub(crate) fn skew_size<W: Wide>(b: usize) -> usize {
    if W::IS_COMPLEX { b.saturating_mul(b) } else { b * b.saturating_sub(1) / 2 }
}

/// Writes A to `m`, θ number `at` of lane `l` being `theta(at, l)`; returns ½‖A‖_F², which is Σθ² for real A.
#[inline(always)]
pub(crate) fn fill_skew<T: Pack>(b: usize, m: &mut [T], theta: impl Fn(usize, usize) -> f64) -> T {
    let zero = T::from_f64(0.0);
    let real = |at: usize| T::gather(|l| T::Entry::from_real(theta(at, l)));
    let imaginary = |at: usize| T::gather(|l| T::Entry::from_parts(0.0, theta(at, l)));
    let (mut squares, mut at) = (zero, if T::Entry::IS_COMPLEX { b } else { 0 });
    for i in 0..b {
        m[i * b + i] = zero;
        if T::Entry::IS_COMPLEX {
            m[i * b + i] = imaginary(i);
            squares = squares + T::from_f64(0.5) * (real(i) * real(i));
        }
        for j in i + 1..b {
            let mut z = real(at);
            squares = squares + z * z;
            at += 1;
            if T::Entry::IS_COMPLEX {
                squares = squares + real(at) * real(at);
                z = z + imaginary(at);
                at += 1;
            }
            m[i * b + j] = z;
            m[j * b + i] = zero - z.conj();
        }
    }
    squares
}

/// Adds `scale` times the pullback of G to the gradients of θ, one block after the other in `d_theta`.
#[inline(always)]
pub(crate) fn pull_skew<T: Pack>(b: usize, g: &[T], scale: f64, d_theta: &mut [f64]) {
    let params = skew_size::<T::Entry>(b);
    let count = d_theta.len() / params.max(1);
    let mut at = 0;
    if T::Entry::IS_COMPLEX {
        for i in 0..b {
            (0..count).for_each(|l| d_theta[l * params + i] += scale * g[i * b + i].lane(l).im());
        }
        at = b;
    }
    for i in 0..b {
        for j in i + 1..b {
            let z = g[i * b + j] - g[j * b + i].conj();
            (0..count).for_each(|l| d_theta[l * params + at] += scale * z.lane(l).re());
            at += 1;
            if T::Entry::IS_COMPLEX {
                (0..count).for_each(|l| d_theta[l * params + at] += scale * z.lane(l).im());
                at += 1;
            }
        }
    }
}

/// θ of the skew part ½(A − Aᴴ) of one block.
pub(crate) fn read_skew<T: Pack>(b: usize, a: &[T], theta: &mut [f64]) {
    theta.fill(0.0);
    pull_skew(b, a, 0.5, theta);
    if T::Entry::IS_COMPLEX {
        theta[..b].iter_mut().for_each(|t| *t *= 2.0);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::scalar::c64;

    fn storage<T: Wide>(b: usize) {
        let params = skew_size::<T>(b);
        let theta: Vec<f64> = (1..=params).map(|i| (i as f64).sin()).collect();
        let mut a = vec![T::one(); b * b];
        let half = fill_skew(b, &mut a, |at, _| theta[at]);
        for at in 0..b * b {
            assert_eq!(a[at], T::zero() - Scalar::conj(a[at % b * b + at / b]));
        }
        let norm: f64 = a.iter().map(|x| Scalar::abs(*x).powi(2)).sum();
        assert!((half.re() - 0.5 * norm).abs() <= 1e-15 * norm);
        let mut back = vec![f64::NAN; params];
        read_skew(b, &a, &mut back);
        assert_eq!(back, theta);
        // The pullback of G against its definition: ⟨G, dA⟩ for unit dθ, where A is linear in θ.
        let g: Vec<T> = (0..b * b).map(|at| T::from_parts((at as f64).cos(), 0.1 * at as f64)).collect();
        let mut d = vec![0.25; params];
        pull_skew(b, &g, 2.0, &mut d);
        for (i, d) in d.iter().enumerate() {
            fill_skew(b, &mut a, |at, _| f64::from(u8::from(at == i)));
            let pairing: f64 = g.iter().zip(&a).map(|(g, a)| (Scalar::conj(*g) * *a).re()).sum();
            assert!((d - 0.25 - 2.0 * pairing).abs() <= 1e-14 * pairing.abs().max(1.0), "b = {b}, {i}");
        }
    }

    #[test]
    fn storage_is_read_back_and_its_pullback_is_the_definitions() {
        for b in 0..=5 {
            storage::<f64>(b);
            storage::<c64>(b);
        }
        let mut a = [c64::default(); 4];
        fill_skew(2, &mut a, |at, _| [1.0, 2.0, 3.0, 4.0][at]);
        assert_eq!(a, [(0.0, 1.0), (3.0, 4.0), (-3.0, 4.0), (0.0, 2.0)].map(|(re, im)| c64 { re, im }));
    }
}
