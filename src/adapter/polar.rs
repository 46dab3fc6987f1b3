//! B = Q·P with an orthogonal Q and a symmetric P, from the singular value decomposition B = U·Σ·Vᵀ: Q = U·D·Vᵀ,
//! P = V·D·Σ·Vᵀ. D = I makes P semidefinite and Q the orthogonal matrix nearest to B; with a last entry of det U·det V it is
//! the nearest rotation.

use std::vec::Vec;

use faer::linalg::solvers::Svd;
use faer::{Mat, MatRef};

use crate::error::{Error, Result};

/// Both factors, b×b, row-major.
#[derive(Debug, Clone)]
pub(super) struct Polar {
    pub(super) orthogonal: Vec<f64>,
    pub(super) positive: Vec<f64>,
}

/// The polar decomposition of a b×b block.
pub(super) fn polar(b: usize, block: &[f64]) -> Result<Polar> {
    let svd = decompose(b, block)?;
    let (v, sigma) = (svd.V(), svd.S().column_vector());
    let stretched = Mat::from_fn(b, b, |i, k| v[(i, k)] * sigma[k]);
    Ok(Polar { orthogonal: row_major(&(svd.U() * v.transpose())), positive: row_major(&(stretched * v.transpose())) })
}

/// The rotation with the largest inner product with a b×b block.
pub(super) fn nearest_rotation(b: usize, block: &[f64]) -> Result<Vec<f64>> {
    let svd = decompose(b, block)?;
    let (mut u, v) = (svd.U().to_owned(), svd.V());
    if u.determinant() * v.determinant() < 0.0 {
        (0..b).for_each(|i| u[(i, b - 1)] = -u[(i, b - 1)]);
    }
    Ok(row_major(&(u * v.transpose())))
}

fn decompose(b: usize, block: &[f64]) -> Result<Svd<f64>> {
    MatRef::from_row_major_slice(block, b, b).svd().map_err(|_| Error::Domain {
        what: "singular value decomposition".into(),
        expected: "a block for which it converges",
        got: "one for which it does not".into(),
    })
}

fn row_major(m: &Mat<f64>) -> Vec<f64> {
    (0..m.nrows()).flat_map(|i| (0..m.ncols()).map(move |j| m[(i, j)])).collect()
}
