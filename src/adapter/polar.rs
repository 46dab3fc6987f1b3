//! B = Q·P with an orthogonal Q and a symmetric P, from the singular value decomposition B = U·Σ·Vᵀ: Q = U·D·Vᵀ,
//! P = V·D·Σ·Vᵀ. D = I makes P semidefinite and Q the orthogonal matrix nearest to B; with a last entry of det U·det V it is
//! the nearest rotation.

use std::vec::Vec;

use faer::MatRef;

use crate::error::{Error, Result};

/// Both factors, b×b, row-major.
#[derive(Debug, Clone)]
pub(super) struct Polar {
    pub(super) orthogonal: Vec<f64>,
    pub(super) positive: Vec<f64>,
}

/// The polar decomposition of a b×b block.
pub(super) fn polar(b: usize, block: &[f64]) -> Result<Polar> {
    decompose(b, block, false)
}

/// The rotation with the largest inner product with a b×b block.
pub(super) fn nearest_rotation(b: usize, block: &[f64]) -> Result<Vec<f64>> {
    decompose(b, block, true).map(|found| found.orthogonal)
}

fn decompose(b: usize, block: &[f64], is_rotation: bool) -> Result<Polar> {
    let failed = |_| Error::Domain {
        what: "singular value decomposition".into(),
        expected: "a block for which it converges",
        got: "one for which it does not".into(),
    };
    let svd = MatRef::from_row_major_slice(block, b, b).svd().map_err(failed)?;
    let (u, v, sigma) = (svd.U(), svd.V(), svd.S().column_vector());
    let last = if is_rotation { (u.determinant() * v.determinant()).signum() } else { 1.0 };
    let sign = |k: usize| if k + 1 == b { last } else { 1.0 };
    let sum = |of: &dyn Fn(usize, usize, usize) -> f64| {
        (0..b * b).map(|at| (0..b).map(|k| of(at / b, at % b, k)).sum()).collect()
    };
    Ok(Polar {
        orthogonal: sum(&|i, j, k| u[(i, k)] * sign(k) * v[(j, k)]),
        positive: sum(&|i, j, k| v[(i, k)] * sign(k) * sigma[k] * v[(j, k)]),
    })
}
