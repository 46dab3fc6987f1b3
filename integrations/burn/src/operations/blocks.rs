//! Blocks of charts by tensor operations.
//!
//! **Cayley's inverse.** Q = 2(I + A)⁻¹ − I. Gauss–Jordan elimination needs no pivots: with M = I + A and A skew, the symmetric
//! part of every Schur complement is I + CᵀHC with H positive definite, so each pivot is at least 1. But its digits are lost
//! like ‖A‖², and its b steps would all be kept for backward. So it runs outside of the graph, Newton's iteration
//! X ← X(2I − MX) mends what was lost, and its last step is in the graph: with X taken as constant its derivative is
//! −X·dM·X, that of the inverse. At last Q ← ½Q(3I − QᵀQ) makes Q orthogonal to rounding; at an orthogonal Q the derivative of that
//! is the identity for directions that keep it so, hence it is outside of the graph, too.
//!
//! *Domain.* Newton's iteration needs u·‖A‖² well below 1: up to ‖A‖ ≈ 1000 in `F32` and 1e7 in `F64` blocks are
//! orthogonal and right to rounding (rotations by up to π − 0.002 and π − 2e-7; training starts at 0). Beyond, the fused operation on
//! Flex, whose blocks are found in `f64` and polished, is still right; this one is not.
//!
//! Newton–Schulz alone, from Mᵀ/(1 + ‖A‖²), needs about 2·log₂‖A‖ steps, a number that the host would have to ask the device for.

use burn::tensor::{Tensor, TensorData};
use papilio::dense::skew_index;
use papilio::{Error, Result};

/// Newton steps after elimination, besides the one in the graph. At ‖A‖ ≈ 1000 in `F32`, gradients are off by 9e-3 of the largest one
/// without any, by 4e-4 with one, and by 4e-6 with two.
const MENDED: usize = 2;

pub(super) fn unsupported(got: String) -> Error {
    Error::Unsupported {
        what: "blocks by tensor operations",
        expected: "Cayley, its series, Givens or fixed blocks",
        got,
    }
}

/// Blocks `[groups, b, b]` of a chart at θ `[groups, parameters]`.
pub(super) fn of(chart: &str, theta: Tensor<2>, b: usize) -> Result<Tensor<3>> {
    let [groups, parameters] = theta.dims();
    if chart == "Givens" {
        let (c, s) = (theta.clone().cos(), theta.sin());
        return Ok(Tensor::cat(vec![c.clone(), s.clone().neg(), s, c], 1).reshape([groups, 2, 2]));
    }
    if parameters != b * (b - 1) / 2 {
        return Err(unsupported(format!("the chart {chart}"))); // not one of skew matrices
    }
    // Every entry of A is ±θ or 0: looked up, so that no product rounds it.
    let zero = Tensor::zeros([groups, 1], (&theta.device(), theta.dtype()));
    let index = super::indices(skew_index(b), &theta.device());
    let all = Tensor::cat(vec![theta.clone(), theta.neg(), zero], 1);
    of_skew(chart, all.select(1, index).reshape([groups, b, b]))
}

/// Blocks of a chart of skew matrices A.
pub(super) fn of_skew(chart: &str, a: Tensor<3>) -> Result<Tensor<3>> {
    let order = |prefix| chart.strip_prefix(prefix).and_then(|k: &str| k.parse::<u32>().ok());
    if chart == "Cayley" {
        return Ok(cayley(a));
    }
    let one = identity(&a);
    if let Some(order) = order("Cayley-Neumann order ") {
        // (I − A)(I − A(I − A(…)))
        let mut sum = one.clone().expand(a.dims());
        for _ in 1..order {
            sum = one.clone() - a.clone().matmul(sum);
        }
        return Ok((one - a).matmul(sum));
    }
    if let Some(order) = order("Cayley series order ") {
        // I − 2A(I − A(I − …))
        let mut sum = one.clone().expand(a.dims());
        for _ in 1..order {
            sum = one.clone() - a.clone().matmul(sum);
        }
        return Ok(if order == 0 { sum } else { one - a.matmul(sum).mul_scalar(2.0) });
    }
    Err(unsupported(format!("the chart {chart}")))
}

/// (I − A)(I + A)⁻¹.
fn cayley(a: Tensor<3>) -> Tensor<3> {
    let (one, constant) = (identity(&a), a.clone().detach());
    let m = constant + one.clone();
    let mut x = eliminated(m.clone());
    for _ in 0..MENDED {
        x = newton(x, m.clone(), &one);
    }
    let q = newton(x, a + one.clone(), &one).mul_scalar(2.0) - one.clone();
    let rounded = q.clone().detach();
    let gram = rounded.clone().swap_dims(1, 2).matmul(rounded.clone());
    let polished = rounded.clone().matmul(one.mul_scalar(3.0) - gram).mul_scalar(0.5);
    q + (polished - rounded)
}

/// X(2I − MX).
fn newton(x: Tensor<3>, m: Tensor<3>, one: &Tensor<3>) -> Tensor<3> {
    let rest = one.clone().mul_scalar(2.0) - m.matmul(x.clone());
    x.matmul(rest)
}

/// M⁻¹ by Gauss–Jordan elimination without pivots.
fn eliminated(m: Tensor<3>) -> Tensor<3> {
    let [groups, b, _] = m.dims();
    let one = identity(&m);
    let mut both = Tensor::cat(vec![m, one.clone().expand([groups, b, b])], 2);
    for k in 0..b {
        let row = both.clone().narrow(1, k, 1);
        let row = row.clone() / row.narrow(2, k, 1);
        // Row k becomes `row`, in the others column k becomes zero.
        let column = both.clone().narrow(2, k, 1) - one.clone().narrow(2, k, 1);
        both = both - column.matmul(row);
    }
    both.narrow(2, b, b)
}

/// I as `[1, b, b]`, a constant.
fn identity(like: &Tensor<3>) -> Tensor<3> {
    let b = like.dims()[1];
    let numbers: Vec<f32> = (0..b * b).map(|at| if at % b == at / b { 1.0 } else { 0.0 }).collect();
    Tensor::from_data(TensorData::new(numbers, [1, b, b]), (&like.device(), like.dtype()))
}
