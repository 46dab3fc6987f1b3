//! Bounds for stages of reflectors: what one apply rounds, and how far two products are apart.
//!
//! # Rounding
//! It needs the shape only.
//!
//! In the notation of `plan/reflectors.rs`, a panel of P vectors of norms μ_i takes x, ‖x‖ = 1, to y = x + Σ u_i e_i, where
//! e_i = −τ_i u_iᴴ x_i with ‖x_i‖ = 1, so μ_i|e_i| ≤ 2. Computed are
//!
//! * ŵ_i = u_iᴴx + δ_i with |δ_i| ≤ γ_m·μ_i, m the roundings that a term of the sum meets;
//! * N̂ from sums in double precision (or better) and one rounding: |N̂_ij − N_ij| ≤ ε·τ_i μ_i μ_j = 2ε·μ_j/μ_i. For i = j it is
//!   ρ̂_i − 2, and ρ_i has less to round than N_ii, since |ρ_i| ≤ τ_i unless μ_i² < ½, which no unit vector is rounded to;
//! * ê_i = fl(ρ̂_i ŵ_i − 2ŵ_i + Σ_j N̂_ij ê_j), a chain of multiply-adds; 2ŵ_i is exact.
//!
//! Let Δ_i = ê_i − (N_ii u_iᴴx + Σ_j N_ij ê_j), the error made at i alone. It enters as if x_{i+1} were moved by u_iΔ_i, and the
//! reflections that follow only turn that: x + Σ u_i ê_i = y + Σ_i H_P ··· H_{i+1} u_i Δ_i exactly. Hence errors add up, and do not
//! grow by the substitution: ‖x + Σ u_i ê_i − y‖ ≤ η = Σ μ_i|Δ_i|, and μ_i|ê_i| ≤ 2(1 + η). All terms are free of μ:
//!
//! μ_i|Δ_i| ≤ 2γ_m + (ε + γ_c(1 + ε))·(2(1 + γ_m) + 4(i − 1)(1 + η)),  c the roundings of the chain,
//!
//! and the second pass, a chain of P multiply-adds per coordinate, adds γ_{P+1}·(1 + 2P(1 + η)). Real inner products of
//! complex numbers are twice as long, and both parts err: γ_k becomes √2·γ_{2k}. The panels' bounds compose as stages do.
//!
//! # Distance
//! For û = u/‖u‖ and û' at an angle φ ≤ π/2, ‖H − H'‖₂ = 2‖ûûᴴ − û'û'ᴴ‖₂ = 2 sin φ ≤ 2‖û − û'‖ ≤ 2‖u − u'‖/min(‖u‖, ‖u'‖),
//! for either sign of u'; H − H' has rank 2 and trace 0, so ‖H − H'‖_F ≤ √2·‖H − H'‖₂. Products of as many reflections
//! telescope.

use alloc::vec::Vec;

use num_traits::Float;

use super::outward::{U, down, gamma, inflate, max, min, sqrt_up, up};
use crate::kernel;
use crate::plan::{Factors, Stage};
use crate::scalar::{Real, Scalar};

/// ‖fl(Bx) − Bx‖₂ is at most this times ‖x‖₂ for the product of `count` reflectors of length `b`.
pub(super) fn rounding<T: Scalar>(b: usize, count: usize) -> f64 {
    let u = T::Real::EPS.to_wide() / 2.0;
    let sums = |roundings: usize, u: f64| match T::IS_COMPLEX {
        true => up(gamma(2 * roundings, u) * up(core::f64::consts::SQRT_2)),
        false => gamma(roundings, u),
    };
    let run = kernel::run_length(b);
    let terms = 1 + run.min(b) + b.div_ceil(run);
    let (dot, wide) = (sums(terms, u), sums(terms, U));
    // (1 + g)(1 + U)(1 + u)/(1 − g) − 1 for the quotient of two sums and its rounding.
    let grown = up(up(up(1.0 + wide) * up(1.0 + U)) * up(1.0 + u));
    let coupling = max(up(up(grown / down(1.0 - wide)) - 1.0), 0.0);
    let (mut error, mut worst) = (0.0, 0.0f64);
    for p in 0..kernel::panels(count, b) {
        let (_, width) = kernel::panel(count, b, p);
        let panel = panel(width, dot, coupling, |roundings| sums(roundings, u));
        error = up(error + up(panel * up(1.0 + error)));
        worst = max(worst, panel);
    }
    if error.is_nan() || worst.is_nan() || wide >= 1.0 { f64::INFINITY } else { error }
}

/// ‖B − B'‖₂ of blocks `j` of two stages of reflectors on the same layout, from above; the Frobenius norm is at most √2 times
/// the first number and at most 2√b. The second number is at most 2.
pub(super) fn difference<T: Scalar>(
    (stage, factors): (&Stage<T>, &Factors<T>),
    (other, others): (&Stage<T>, &Factors<T>),
    j: usize,
) -> (f64, f64) {
    let (Some(count), b) = (stage.vectors(), stage.layout().block_size()) else { return (0.0, 0.0) };
    if other.vectors() != Some(count) || stage.is_adjoint() != other.is_adjoint() {
        return (f64::INFINITY, 2.0);
    }
    let vector = |stage: &Stage<T>, factors: &Factors<T>, i: usize| -> Vec<f64> {
        let numbers = (0..b).map(|k| factors.entries()[stage.entry(stage.group_of(j), i, k)].to_wide());
        numbers.flat_map(|x| [x.re(), x.im()]).collect()
    };
    let mut sum = 0.0;
    for i in 0..count {
        let (u, v) = (vector(stage, factors, i), vector(other, others, i));
        let square = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
        let shortest = min(square(&u), square(&v)); // to within γ of 2b + 1 roundings
        if shortest == 0.0 {
            let same = square(&u) == square(&v);
            sum = up(sum + if same { 0.0 } else { 2.0 });
            continue;
        }
        let shortest = down(Float::sqrt(down(shortest * down(1.0 - gamma(2 * b + 1, U)))));
        let apart = |sign: f64| {
            let squares = u.iter().zip(&v).map(|(u, v)| (u - sign * v) * (u - sign * v)).sum();
            sqrt_up(inflate(squares, 2 * b + 4))
        };
        sum = up(sum + min(2.0, up(2.0 * up(min(apart(1.0), apart(-1.0)) / shortest))));
    }
    (sum, min(sum, 2.0))
}

fn panel(width: usize, dot: f64, coupling: f64, sums: impl Fn(usize) -> f64) -> f64 {
    let mut eta = 0.0;
    for i in 0..width {
        let local = up(coupling + up(sums(i + 2) * up(1.0 + coupling)));
        let size = up(up(2.0 * up(1.0 + dot)) + up(up(4.0 * i as f64) * up(1.0 + eta)));
        eta = up(eta + up(up(2.0 * dot) + up(local * size)));
    }
    let second = up(1.0 + up(2.0 * width as f64 * up(1.0 + eta)));
    up(eta + up(sums(width + 1) * second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_order_by_hand() {
        // b = 4: terms = 1 + 4 + 1. One vector: 2γ_6 + 2(ε + γ_2) + 3γ_2, ε = 2·6·U + u.
        let u = f64::from(f32::EPSILON) / 2.0;
        let expected = 12.0 + 2.0 * (1.0 + 2.0) + 3.0 * 2.0;
        let found = rounding::<f32>(4, 1) / u;
        assert!((found / expected - 1.0).abs() < 1e-4, "{found}");
        assert_eq!(rounding::<f64>(7, 0), 0.0);
        assert!(rounding::<f32>(4096, 64) < 0.01 && rounding::<f32>(usize::MAX >> 1, 1) == f64::INFINITY);
    }
}
