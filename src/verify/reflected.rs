//! What one apply of a stage of reflectors rounds: a bound that needs the shape only.
//!
//! In the notation of `plan/reflectors.rs`, a panel of P vectors of norms μ_i takes x, ‖x‖ = 1, to y = x + Σ u_i e_i, where
//! e_i = −τ_i u_iᴴ x_i with ‖x_i‖ = 1, so μ_i|e_i| ≤ 2. Computed are
//!
//! * ŵ_i = u_iᴴx + δ_i with |δ_i| ≤ γ_m·μ_i, m the roundings that a term of the sum meets;
//! * N̂ from sums in double precision and one rounding: |N̂_ij − N_ij| ≤ ε·τ_i μ_i μ_j = 2ε·μ_j/μ_i;
//! * ê_i = fl(N̂_ii ŵ_i + Σ_j N̂_ij ê_j), a chain of multiply-adds.
//!
//! Let Δ_i = ê_i − (N_ii u_iᴴx + Σ_j N_ij ê_j), the error made at i alone. It enters as if x_{i+1} were moved by u_iΔ_i, and the
//! reflections that follow only turn that: x + Σ u_i ê_i = y + Σ_i H_P ··· H_{i+1} u_i Δ_i exactly. Hence errors add up, and do not
//! grow by the substitution: ‖x + Σ u_i ê_i − y‖ ≤ η = Σ μ_i|Δ_i|, and μ_i|ê_i| ≤ 2(1 + η). All terms are free of μ:
//!
//! μ_i|Δ_i| ≤ 2γ_m + (ε + γ_c(1 + ε))·(2(1 + γ_m) + 4(i − 1)(1 + η)),  c the roundings of the chain,
//!
//! and the second pass, a chain of P multiply-adds per coordinate, adds γ_{P+1}·(1 + 2P(1 + η)). Real inner products of
//! complex numbers are twice as long, and both parts err: γ_k becomes √2·γ_{2k}. The panels' bounds compose as stages do.

use super::outward::{U, down, gamma, max, up};
use crate::kernel;
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
    for p in 0..kernel::panels(count) {
        let (_, width) = kernel::panel(count, p);
        let panel = panel(width, dot, coupling, |roundings| sums(roundings, u));
        error = up(error + up(panel * up(1.0 + error)));
        worst = max(worst, panel);
    }
    if error.is_nan() || worst.is_nan() || wide >= 1.0 { f64::INFINITY } else { error }
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
        assert!(rounding::<f32>(4096, 64) < 0.01 && rounding::<f32>(usize::MAX >> 20, 1) == f64::INFINITY);
    }
}
