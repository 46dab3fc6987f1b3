//! The nearest matrix of a given rank: D ≈ B·A with r columns in B, truncated singular values (Eckart and Young 1936).
//!
//! Small ones are decomposed as a whole. Of large ones the leading subspace is found by block power iteration from a seeded
//! Gaussian start with some columns to spare (Halko, Martinsson and Tropp 2011, SIAM Rev. 53, alg. 4.4); its error is near the best,
//! and what is told is the error itself, ‖D − B·A‖_F.

use std::vec::Vec;

use faer::{Mat, MatRef};

use crate::error::{Error, Result};
use crate::generator::Generator;

/// Matrices up to this many rows or columns are decomposed as a whole.
const WHOLE: usize = 512;
/// Columns beyond the rank, and rounds.
const SPARE: usize = 8;
const ROUNDS: usize = 6;

/// B `[rows, r]`, A `[r, columns]`, both row-major, and ‖D − B·A‖_F/‖D‖_F (0 for D = 0). Where r is more than the smaller side, the
/// rest is zeros: whoever loads it wants one rank for all layers.
pub(super) fn nearest(rows: usize, columns: usize, d: &[f64], rank: usize) -> Result<(Vec<f64>, Vec<f64>, f64)> {
    let least = rows.min(columns);
    if rank == 0 || least == 0 || rank > 1 << 16 {
        let (what, expected) = ("rank of a low-rank sum", "from 1 to 65536, for a weight that is not empty".into());
        return Err(Error::Size { what, expected, got: std::format!("{rank}") });
    }
    let (asked, rank) = (rank, rank.min(least));
    let d = MatRef::from_row_major_slice(d, rows, columns);
    let failed = || Error::Domain {
        what: "singular value decomposition".into(),
        expected: "a matrix for which it converges",
        got: "one for which it does not".into(),
    };
    // An orthonormal basis of the leading columns; the whole space where it is small.
    let width = (rank + SPARE).min(least);
    let basis = if least <= WHOLE || width == least {
        None
    } else {
        let mut g = Generator::new(1);
        let mut normal = || (0..12).map(|_| g.uniform()).sum::<f64>() - 6.0;
        let start = Mat::from_fn(columns, width, |_, _| normal());
        let mut y = orthonormal(&(d * &start));
        for _ in 0..ROUNDS {
            let z = orthonormal(&(d.transpose() * &y));
            y = orthonormal(&(d * &z));
        }
        Some(y)
    };
    let small = basis.as_ref().map_or_else(|| d.to_owned(), |y| y.transpose() * d);
    let svd = small.thin_svd().map_err(|_| failed())?;
    let (u, s, v) = (svd.U(), svd.S(), svd.V());
    let u = basis.as_ref().map_or_else(|| u.to_owned(), |y| y * u);
    // Both factors get the root of the singular value, as trained ones have about equal size.
    let root = |k: usize| s[k].max(0.0).sqrt();
    let b = Mat::from_fn(rows, asked, |i, k| if k < rank { u[(i, k)] * root(k) } else { 0.0 });
    let a = Mat::from_fn(asked, columns, |k, j| if k < rank { root(k) * v[(j, k)] } else { 0.0 });
    let norm = d.norm_l2();
    let error = if norm == 0.0 { 0.0 } else { (d - &b * &a).norm_l2() / norm };
    let row_major = |m: &Mat<f64>| (0..m.nrows()).flat_map(|i| (0..m.ncols()).map(move |j| m[(i, j)])).collect();
    Ok((row_major(&b), row_major(&a), error))
}

fn orthonormal(m: &Mat<f64>) -> Mat<f64> {
    m.qr().compute_thin_Q()
}
