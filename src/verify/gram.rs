//! The defect E = BᵀB − I of one block, in at least twice the working precision, and a bound of its own error.
//!
//! Two evaluations of e_ij = Σ_k b_ki·b_kj − δ_ij, both starting the sum at −δ_ij so that nothing is lost by cancellation
//! afterwards; the sum has b + 1 terms, and S_ij = Σ_k |b_ki·b_kj| + δ_ij:
//!
//! - *single precision*: products of `f32` are exact in `f64` (48 bits), so |ê − e| ≤ γ_{b+1}·S (u = 2⁻⁵³).
//! - *double precision*: Dot2 of Ogita, Rump and Oishi (Accurate sum and dot product, SIAM J. Sci. Comput. 26(6), 2005,
//!   doi 10.1137/030601818, Prop. 5.5): |ê − e| ≤ u·|e| + γ²_{b+1}·S, plus 5(b+1)·2⁻¹⁰⁷⁴ if products underflow.
//!
//! ‖S‖_F ≤ ‖B‖_F² + √b, since ‖|B|ᵀ|B|‖_F ≤ ‖B‖_F². From |e| ≤ (|ê| + γ²S)/(1 − u) follows for the second case
//! ‖Ê − E‖_F ≤ 2u·‖Ê‖_F + 2γ²·‖S‖_F.

use alloc::vec::Vec;

use super::outward::{U, frobenius_up, gamma, sqrt_up, up};
use crate::dense::double_double::{product_error, split, two_sum};

/// Scratch and result of [`Gram::defect`].
#[derive(Debug, Default)]
pub(crate) struct Gram {
    /// Ê, b×b, symmetric to the last bit.
    pub(crate) e: Vec<f64>,
    /// Room of the same size that is free once Ê is there.
    pub(super) tails: Vec<f64>,
    halves: Vec<(f64, f64)>,
}

impl Gram {
    /// Writes Ê and returns a bound of ‖Ê − E‖_F for the b×b row-major `block`, whose entries are `f32` numbers if
    /// `single`. NaN or infinite entries give NaN or infinity in both.
    pub(crate) fn defect(&mut self, b: usize, block: &[f64], single: bool) -> f64 {
        self.e.clear();
        self.e.resize(b * b, 0.0);
        for i in 0..b {
            self.e[i * b + i] = -1.0;
        }
        let norm = frobenius_up(block);
        let terms = up(up(norm * norm) + sqrt_up(b as f64));
        let error = if single {
            self.plain(b, block);
            up(gamma(b + 1, U) * terms)
        } else {
            self.compensated(b, block);
            let gamma = gamma(b + 1, U);
            let relative = up(2.0 * U * frobenius_up(&self.e));
            up(up(relative + up(2.0 * up(up(gamma * gamma) * terms))) + f64::MIN_POSITIVE)
        };
        for i in 0..b {
            for j in i + 1..b {
                self.e[j * b + i] = self.e[i * b + j];
            }
        }
        error
    }

    fn plain(&mut self, b: usize, block: &[f64]) {
        for row in block.chunks_exact(b) {
            for (i, &a) in row.iter().enumerate() {
                for (e, &c) in self.e[i * b + i..(i + 1) * b].iter_mut().zip(&row[i..]) {
                    *e += a * c;
                }
            }
        }
    }

    /// Dot2, all (i, j ≥ i) side by side: running sums in `e`, their accumulated errors in `tails`.
    fn compensated(&mut self, b: usize, block: &[f64]) {
        self.tails.clear();
        self.tails.resize(b * b, 0.0);
        for row in block.chunks_exact(b) {
            self.halves.clear();
            self.halves.extend(row.iter().map(|&x| split(x)));
            let halves = &self.halves;
            for i in 0..b {
                let (a, a_halves) = (row[i], halves[i]);
                let sums = self.e[i * b + i..(i + 1) * b].iter_mut().zip(&mut self.tails[i * b + i..(i + 1) * b]);
                for ((sum, tail), (&c, &c_halves)) in sums.zip(row[i..].iter().zip(&halves[i..])) {
                    let p = a * c;
                    let r = product_error(p, a_halves, c_halves);
                    let (s, q) = two_sum(*sum, p);
                    *sum = s;
                    *tail += q + r;
                }
            }
        }
        for (sum, tail) in self.e.iter_mut().zip(&self.tails) {
            *sum += tail;
        }
    }
}

/// All entries of BᵀB − I in double-double, for tests of this file's bound.
#[cfg(test)]
fn reference(b: usize, block: &[f64]) -> Vec<crate::dense::DoubleDouble> {
    use crate::dense::DoubleDouble;
    let mut e = alloc::vec![DoubleDouble::default(); b * b];
    for i in 0..b {
        for j in 0..b {
            e[i * b + j] = DoubleDouble::from(if i == j { -1.0 } else { 0.0 });
            for k in 0..b {
                e[i * b + j] += DoubleDouble::from(block[k * b + i]) * block[k * b + j];
            }
        }
    }
    e
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::DoubleDouble;
    use crate::generator::Generator;

    fn error_against_reference(b: usize, block: &[f64], gram: &Gram) -> f64 {
        let difference: Vec<f64> =
            reference(b, block).iter().zip(&gram.e).map(|(r, &e)| (*r - DoubleDouble::from(e)).to_f64()).collect();
        frobenius_up(&difference)
    }

    /// I − 2vvᵀ/(vᵀv), orthogonal up to rounding.
    fn reflection(b: usize, g: &mut Generator) -> Vec<f64> {
        let v: Vec<f64> = (0..b).map(|_| g.uniform() - 0.5).collect();
        let vv: f64 = v.iter().map(|x| x * x).sum();
        let entry = |at: usize| f64::from(u8::from(at / b == at % b)) - 2.0 * v[at / b] * v[at % b] / vv;
        (0..b * b).map(entry).collect()
    }

    #[test]
    fn evaluation_error_is_bounded_for_any_matrix() {
        let mut g = Generator::new(5);
        let mut gram = Gram::default();
        for b in [1, 2, 3, 8, 33] {
            let mut cases: Vec<Vec<f64>> =
                [1e-200, 1e-3, 1.0, 1e6].map(|scale| (0..b * b).map(|_| scale * (g.uniform() - 0.5)).collect()).into();
            cases.push(reflection(b, &mut g));
            for (case, wide) in cases.iter().enumerate() {
                let single: Vec<f64> = wide.iter().map(|&x| f64::from(x as f32)).collect();
                let bound = gram.defect(b, wide, false);
                assert!(error_against_reference(b, wide, &gram) <= bound, "f64 b = {b}, case {case}");
                let bound = gram.defect(b, &single, true);
                assert!(error_against_reference(b, &single, &gram) <= bound, "f32 b = {b}, case {case}");
            }
        }
    }

    #[test]
    fn defect_of_a_rotation_is_resolved_far_below_eps() {
        // 3/5, 4/5 rounded: c² + s² − 1 is exactly computable, about −4e-17, invisible in plain f64.
        let (c, s) = (0.6f64, 0.8f64);
        let mut gram = Gram::default();
        let bound = gram.defect(2, &[c, -s, s, c], false);
        let truth = (DoubleDouble::from(c) * c + DoubleDouble::from(s) * s - DoubleDouble::from(1.0)).to_f64();
        assert!(truth != 0.0 && (gram.e[0] - truth).abs() <= 1e-15 * truth.abs());
        assert!(bound < 1e-30, "{bound:e}");
    }

    #[test]
    fn numbers_beyond_the_range_are_not_silently_finite() {
        let mut gram = Gram::default();
        for bad in [f64::NAN, f64::INFINITY, 1e300, 1e305] {
            assert!(!gram.defect(2, &[bad, 0.0, 0.0, 1.0], false).is_finite());
        }
    }
}
