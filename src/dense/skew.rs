//! How a skew-Hermitian matrix is stored in real numbers, b(b − 1)/2 for a real one and b² for a complex one.
//!
//! Real: the strict upper triangle, row-major; A[i][j] = θ, A[j][i] = −θ. Complex: first the b imaginary diagonal entries,
//! then (re, im) pairs of the strict upper triangle, row-major; A[j][i] = −conj(A[i][j]).
//!
//! *Pullback.* ⟨G, dA⟩ = Re tr(Gᴴ dA), and with Z = G − Gᴴ, twice the skew part of G: for A[i][j] = x + iy above the diagonal
//! dx += Re Z_ij and dy += Im Z_ij, on it dθ_j += ½ Im Z_jj. As A is its own skew part, θ can be read out of a matrix likewise.

use alloc::vec::Vec;

use super::blocks;
use super::pack::Pack;
use super::register::Register;
use super::triangles::{add_differences, mirror};
use crate::scalar::Wide;
use crate::simd::Lanes;

/// Real parameters of a b×b skew-Hermitian matrix.
pub(crate) fn skew_size<W: Wide>(b: usize) -> usize {
    if W::IS_COMPLEX { b.saturating_mul(b) } else { b * b.saturating_sub(1) / 2 }
}

/// Where the entries of a real b×b skew matrix A, row-major, are in [θ, −θ, 0]: for those who look them up, such as
/// tensor libraries.
///
/// ```
/// assert_eq!(papilio::dense::skew_index(2), [2, 0, 1, 2]); // 0, θ, −θ, 0
/// ```
pub fn skew_index(b: usize) -> Vec<usize> {
    let params = skew_size::<f64>(b);
    let mut index = alloc::vec![2 * params; b * b];
    let upper = (0..b).flat_map(|i| (i + 1..b).map(move |j| (i, j)));
    for (at, (i, j)) in upper.enumerate() {
        index[i * b + j] = at;
        index[j * b + i] = params + at;
    }
    index
}

/// A from its parameters, number `at` of lane `l` being `theta(at, l)`; returns ½‖A‖_F², which is Σθ² for real A. No zero
/// becomes negative.
#[inline(always)]
pub(crate) fn fill_skew<W: Wide, T: Pack<W>>(b: usize, m: &mut [T], theta: impl Fn(usize, usize) -> f64) -> T {
    let zero = T::from_f64(0.0);
    let real = |at: usize| T::gather(|l| W::from_real(theta(at, l)));
    let (mut squares, mut at) = (zero, if W::IS_COMPLEX { b } else { 0 });
    for i in 0..b {
        m[i * b + i] = zero;
        if W::IS_COMPLEX {
            m[i * b + i] = T::gather(|l| W::from_parts(0.0, theta(i, l)));
            squares = squares + T::from_f64(0.5) * (real(i) * real(i));
        }
        for j in i + 1..b {
            let mut z = real(at);
            squares = squares + z * z;
            at += 1;
            if W::IS_COMPLEX {
                squares = squares + real(at) * real(at);
                z = T::gather(|l| W::from_parts(theta(at - 1, l), theta(at, l)));
                at += 1;
            }
            m[i * b + j] = z;
            m[j * b + i] = zero - z.conj();
        }
    }
    squares
}

/// A from packs of its parameters, real numbers. No zero becomes negative.
#[inline(always)]
pub(crate) fn fill_skew_packs<W: Wide, T: Pack<W>, S: Lanes<f64>>(s: S, b: usize, m: &mut [T], theta: &[T]) {
    if W::IS_COMPLEX {
        fill_skew(b, m, |at, l| theta[at].lane(l).re());
        return;
    }
    if !T::IS_PACK {
        let mut rest = theta;
        for i in 0..b {
            let (row, next) = rest.split_at(b - 1 - i);
            m[i * b + i] = T::from_f64(0.0);
            m[i * b + i + 1..(i + 1) * b].copy_from_slice(row);
            rest = next;
        }
        return mirror(s, b, (-1.0, 0.0), m);
    }
    for part in 0..<T::Register<S> as Register<S, T>>::PARTS {
        let zero: T::Register<S> = Register::<S, T>::constant(s, 0.0);
        let minus: T::Register<S> = Register::<S, T>::constant(s, -1.0);
        let mut at = 0;
        for i in 0..b {
            zero.store(&mut m[i * b + i..], part);
            for j in i + 1..b {
                let x: T::Register<S> = Register::<S, T>::spread(s, &theta[at], part);
                x.store(&mut m[i * b + j..], part);
                (zero + minus * x).store(&mut m[j * b + i..], part);
                at += 1;
            }
        }
    }
}

/// Adds `scale` times the pullback of G to the gradients of θ, one block after the other in `d_theta`.
#[inline(always)]
pub(crate) fn pull_skew<W: Wide, T: Pack<W>>(b: usize, g: &[T], scale: f64, d_theta: &mut [f64]) {
    let params = skew_size::<W>(b);
    let count = d_theta.len() / params.max(1);
    let mut at = 0;
    if W::IS_COMPLEX {
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
            if W::IS_COMPLEX {
                (0..count).for_each(|l| d_theta[l * params + at] += scale * z.lane(l).im());
                at += 1;
            }
        }
    }
}

/// [`pull_skew`] of a whole pack; `scratch` holds as many numbers as `g`.
#[inline(always)]
pub(crate) fn pull_skew_packs<W: Wide, T: Pack<W>, S: Lanes<f64>>(
    s: S,
    b: usize,
    g: &[T],
    scale: f64,
    scratch: &mut [T],
    d_theta: &mut [f64],
) {
    let params = skew_size::<W>(b);
    if let (Some(g), Some(scratch), false) = (T::plain(g), T::plain_mut(scratch), W::IS_COMPLEX) {
        return add_differences(s, b, scale, g, scratch, d_theta);
    }
    if W::IS_COMPLEX || T::COUNT == 1 || d_theta.len() != params * T::COUNT {
        return pull_skew::<W, T>(b, g, scale, d_theta);
    }
    for part in 0..<T::Register<S> as Register<S, T>>::PARTS {
        let (scale, minus): (T::Register<S>, T::Register<S>) =
            (Register::<S, T>::constant(s, scale), Register::<S, T>::constant(s, -1.0));
        let mut at = 0;
        for i in 0..b {
            for j in i + 1..b {
                let (above, below): (T::Register<S>, T::Register<S>) = (
                    Register::<S, T>::spread(s, &g[i * b + j], part),
                    Register::<S, T>::spread(s, &g[j * b + i], part),
                );
                (scale * (above + minus * below)).store(&mut scratch[at..], part);
                at += 1;
            }
        }
    }
    blocks::add(s, params, &scratch[..params], bytemuck::cast_slice_mut::<f64, W>(d_theta));
}

/// θ of the skew part ½(A − Aᴴ) of one block.
pub(crate) fn skew_part<W: Wide>(b: usize, a: &[W], theta: &mut [f64]) {
    theta.fill(0.0);
    pull_skew::<W, W>(b, a, 0.5, theta);
    if W::IS_COMPLEX {
        theta[..b].iter_mut().for_each(|t| *t *= 2.0);
    }
}

/// The parameters of the skew-Hermitian matrix with the entries `entry(i·b + j)`, as `put(at, value)`; only entries on and
/// above the diagonal are read.
#[inline(always)]
pub(crate) fn read_skew<W: Wide>(b: usize, entry: impl Fn(usize) -> W, mut put: impl FnMut(usize, f64)) {
    let mut at = if W::IS_COMPLEX { b } else { 0 };
    for i in 0..b {
        if W::IS_COMPLEX {
            put(i, entry(i * b + i).im());
        }
        for j in i + 1..b {
            let x = entry(i * b + j);
            put(at, x.re());
            at += 1;
            if W::IS_COMPLEX {
                put(at, x.im());
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar::{Scalar, c64};
    use alloc::vec;

    fn round_trip<W: Wide>(b: usize) {
        let theta: Vec<f64> = (1..=skew_size::<W>(b)).map(|i| i as f64).collect();
        let mut m = vec![W::zero(); b * b];
        let half = fill_skew::<W, W>(b, &mut m, |at, _| theta[at]);
        let norm: f64 = m.iter().map(|x| Scalar::abs(*x).powi(2)).sum();
        assert!((half.re() - 0.5 * norm).abs() <= 1e-15 * norm);
        for (i, j) in (0..b).flat_map(|i| (0..b).map(move |j| (i, j))) {
            assert_eq!(m[i * b + j], -Scalar::conj(m[j * b + i]));
        }
        if !W::IS_COMPLEX {
            let all: Vec<f64> = theta.iter().copied().chain(theta.iter().map(|t| -t)).chain([0.0]).collect();
            assert!(skew_index(b).iter().zip(&m).all(|(at, x)| all[*at] == x.re()));
        }
        let mut back = vec![f64::NAN; theta.len()];
        read_skew(b, |at| m[at], |at, x| back[at] = x);
        assert_eq!(back, theta);
        back.fill(f64::NAN);
        skew_part(b, &m, &mut back);
        assert_eq!(back, theta);
        // The pullback of G against its definition: ⟨G, dA⟩ for unit dθ, as A is linear in θ.
        let g: Vec<W> = (0..b * b).map(|at| W::from_parts((at as f64).cos(), 0.1 * at as f64)).collect();
        let mut d = vec![0.25; theta.len()];
        pull_skew::<W, W>(b, &g, 2.0, &mut d);
        for (i, d) in d.iter().enumerate() {
            fill_skew::<W, W>(b, &mut m, |at, _| f64::from(u8::from(at == i)));
            let pairing: f64 = g.iter().zip(&m).map(|(g, a)| (Scalar::conj(*g) * *a).re()).sum();
            assert!((d - 0.25 - 2.0 * pairing).abs() <= 1e-14 * pairing.abs().max(1.0), "b = {b}, {i}");
        }
    }

    #[test]
    fn order_and_round_trip() {
        for b in 0..6 {
            round_trip::<f64>(b);
            round_trip::<c64>(b);
        }
        let mut m = [c64::new(0.0, 0.0); 4];
        fill_skew::<c64, c64>(2, &mut m, |at, _| at as f64);
        assert_eq!(m, [c64::new(0.0, 0.0), c64::new(2.0, 3.0), c64::new(-2.0, 3.0), c64::new(0.0, 1.0)]);
    }
}
