//! Where the eigenvalues of a small symmetric matrix lie, rigorously and tightly, without computing them.
//!
//! For any real c, the eigenvalues of E lie in c ± ‖E − cI‖₂; c = tr(E)/b centres the interval (for b = 2 rotations E is
//! a multiple of I and the radius vanishes). The norm of A = E − cI comes from repeated squaring: ‖A‖₂² = ‖A²‖₂, so
//!
//! ‖A‖₂ ≤ ‖A^{2^s}‖_F^{1/2^s} ≤ b^{1/2^{s+1}}·‖A‖₂,
//!
//! which for s = 3 overestimates by at most b^{1/16}: 1.04 for b = 2, 1.24 for b = 32, 1.54 for b = 1024. Squaring in
//! floating point gives M' with |M' − M²| ≤ γ_b·|M|² entrywise, hence ‖M‖₂² ≤ ‖M'‖₂ + γ_b·‖M‖_F². Matrices are scaled by
//! a power of two before each squaring, which is exact, so nothing overflows.

use alloc::vec::Vec;

use super::gram::Gram;
use super::outward::{U, down, frobenius_up, gamma, max, power_of_two_below, row_sum_up, sqrt_up, up};

/// Squarings: each takes the square root of the overestimate and costs b³.
const SQUARINGS: usize = 3;

/// A closed interval lo ..= hi.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Interval {
    pub(crate) lo: f64,
    pub(crate) hi: f64,
}

impl Interval {
    /// The interval {0}.
    pub(crate) const ZERO: Self = Self { lo: 0.0, hi: 0.0 };

    /// Largest absolute value; infinite where an end is not a number.
    pub(crate) fn magnitude(self) -> f64 {
        let m = max(-self.lo, self.hi);
        if m.is_nan() { f64::INFINITY } else { m }
    }
}

/// Scratch for [`Spectrum::of`].
#[derive(Debug, Default)]
pub(crate) struct Spectrum {
    a: Vec<f64>,
    square: Vec<f64>,
}

impl Spectrum {
    /// An interval that holds all eigenvalues of every symmetric E with ‖E − Ê‖₂ ≤ `error`, for the b×b matrix Ê.
    pub(crate) fn of(&mut self, b: usize, e: &[f64], error: f64) -> Interval {
        self.a.clear();
        self.a.extend_from_slice(e);
        self.enclose(b, error)
    }

    /// [`of`](Self::of) Ê in `gram`, in the memory of `gram`: Ê is lost.
    pub(crate) fn of_gram(&mut self, b: usize, gram: &mut Gram, error: f64) -> Interval {
        (self.a, self.square) = (core::mem::take(&mut gram.e), core::mem::take(&mut gram.tails));
        let found = self.enclose(b, error);
        (gram.e, gram.tails) = (core::mem::take(&mut self.a), core::mem::take(&mut self.square));
        found
    }

    /// The interval for the matrix in `a`, which it overwrites.
    fn enclose(&mut self, b: usize, error: f64) -> Interval {
        let center = (0..b).map(|i| self.a[i * b + i]).sum::<f64>() / b as f64;
        for i in 0..b {
            self.a[i * b + i] -= center;
        }
        // The subtraction rounds each diagonal entry by at most u·|a_ii|.
        let radius = up(up(self.norm_bound(b) * up(1.0 + 2.0 * U)) + error);
        Interval { lo: down(center - radius), hi: up(center + radius) }
    }

    /// λ_max or more of every symmetric positive semidefinite E with ‖E − Ê‖₂ ≤ `error`: over by at most b^{1/16}, where
    /// the interval around the centre may be twice as high.
    pub(crate) fn largest(&mut self, b: usize, e: &[f64], error: f64) -> f64 {
        let centred = self.of(b, e, error).hi;
        self.a.clear();
        self.a.extend_from_slice(e);
        let norm = up(self.norm_bound(b) + error);
        if norm < centred { norm } else { centred }
    }

    /// ‖A‖₂ or more for the matrix in `a`, which it overwrites.
    fn norm_bound(&mut self, b: usize) -> f64 {
        self.norm_bound_squaring(b, SQUARINGS)
    }

    fn norm_bound_squaring(&mut self, b: usize, squarings: usize) -> f64 {
        let frobenius = frobenius_up(&self.a);
        let simple = if frobenius > row_sum_up(&self.a, b) { row_sum_up(&self.a, b) } else { frobenius };
        if squarings == 0 || b == 1 || !(f64::MIN_POSITIVE..1e300).contains(&frobenius) {
            return simple;
        }
        let scale = power_of_two_below(frobenius);
        for x in &mut self.a {
            *x /= scale;
        }
        let frobenius = frobenius_up(&self.a);
        self.square(b);
        core::mem::swap(&mut self.a, &mut self.square);
        let rounding = up(gamma(b, U) * up(frobenius * frobenius));
        // Entries that underflowed, in the division or in products, are below 2⁻¹⁰²² each, b² of them.
        let lost = up((b * b) as f64 * f64::MIN_POSITIVE);
        let of_square = up(up(self.norm_bound_squaring(b, squarings - 1) + rounding) + lost);
        let bound = up(up(sqrt_up(of_square) + lost) * scale);
        if bound < simple { bound } else { simple }
    }

    /// square = a·a for symmetric a.
    fn square(&mut self, b: usize) {
        self.square.clear();
        self.square.resize(b * b, 0.0);
        for (i, out) in self.square.chunks_exact_mut(b).enumerate() {
            for (k, row) in self.a.chunks_exact(b).enumerate() {
                let x = self.a[i * b + k];
                for (o, &y) in out.iter_mut().zip(row) {
                    *o += x * y;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Generator;
    use alloc::vec;

    /// V·diag(λ)·Vᵀ for V = I − 2vvᵀ/(vᵀv): a matrix with known eigenvalues, up to rounding.
    fn with_eigenvalues(lambda: &[f64], g: &mut Generator) -> Vec<f64> {
        let b = lambda.len();
        let v: Vec<f64> = (0..b).map(|_| g.uniform() - 0.5).collect();
        let vv: f64 = v.iter().map(|x| x * x).sum();
        let h = |i: usize, k: usize| f64::from(u8::from(i == k)) - 2.0 * v[i] * v[k] / vv;
        let mut e = vec![0.0; b * b];
        for i in 0..b {
            for j in i..b {
                e[i * b + j] = (0..b).map(|k| h(i, k) * lambda[k] * h(j, k)).sum();
                e[j * b + i] = e[i * b + j];
            }
        }
        e
    }

    #[test]
    fn interval_holds_the_eigenvalues_and_is_tight() {
        let mut g = Generator::new(9);
        let mut spectrum = Spectrum::default();
        for b in [1, 2, 3, 4, 8, 16, 32, 100] {
            for scale in [1e-150, 1e-16, 1.0, 1e100] {
                let lambda: Vec<f64> = (0..b).map(|_| scale * (g.uniform() - 0.5)).collect();
                let (low, high) = lambda.iter().fold((f64::MAX, f64::MIN), |(l, h), &x| (l.min(x), h.max(x)));
                let e = with_eigenvalues(&lambda, &mut g);
                let slack = 1e-13 * scale; // of with_eigenvalues
                let Interval { lo, hi } = spectrum.of(b, &e, slack);
                assert!(lo <= low && high <= hi, "b = {b}: {lo:e} {low:e} {high:e} {hi:e}");
                let center = lambda.iter().sum::<f64>() / b as f64;
                let radius = (high - center).max(center - low);
                assert!(hi - center <= 1.001 * (b as f64).powf(1.0 / 16.0) * radius + 3.0 * slack, "b = {b}");
            }
        }
    }

    #[test]
    fn the_largest_of_a_semidefinite_matrix_is_met_whatever_the_others_are() {
        let mut g = Generator::new(4);
        for b in [2, 3, 8, 32] {
            let mut lambda = vec![1.0; b];
            lambda[b / 2] = 0.0; // far from the centre
            let found = Spectrum::default().largest(b, &with_eigenvalues(&lambda, &mut g), 1e-13);
            assert!((1.0..=1.001 * (b as f64).powf(1.0 / 16.0)).contains(&found), "b = {b}: {found}");
        }
    }

    #[test]
    fn multiples_of_the_identity_have_no_radius() {
        let Interval { lo, hi } = Spectrum::default().of(2, &[-3e-17, 0.0, 0.0, -3e-17], 0.0);
        assert!(lo <= -3e-17 && hi >= -3e-17 && hi - lo < 1e-30);
    }

    #[test]
    fn nan_and_infinity_are_infinite() {
        for bad in [f64::NAN, f64::INFINITY] {
            let e = [bad, 0.0, 0.0, 0.0];
            assert_eq!(Spectrum::default().of(2, &e, 0.0).magnitude(), f64::INFINITY);
            assert_eq!(Spectrum::default().of(2, &[0.0; 4], bad).magnitude(), f64::INFINITY);
        }
        assert_eq!(Interval::ZERO.magnitude(), 0.0);
    }
}
