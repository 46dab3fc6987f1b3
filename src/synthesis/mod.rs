//! Constructions: the parameters of a plan for a matrix that is given.
//!
//! | function | matrix | plan |
//! |---|---|---|
//! | [`triangle`] | any rotation | Reck's mesh, n(n − 1)/2 angles |
//! | [`brick`] | any rotation | Clements' mesh, n(n − 1)/2 angles |
//! | [`reflector_pairs`] | any rotation | n − 1 pairs B·Bᵀ of a wiring (BOFT's Theorem 1) |
//! | [`permutation`] | any permutation | a Beneš network of fixed blocks |
//!
//! All are exact up to rounding, and O(n³) (`permutation`: O(n log n)). They need no search: each is an elimination.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use num_traits::Float;

use crate::dense::{ORTHOGONAL, orthogonality_ratio};
use crate::error::{Error, Result, check_length};

mod meshes;
mod permutation;
mod reflectors;

pub use meshes::{brick, triangle};
pub use permutation::permutation;
pub use reflectors::reflector_pairs;
pub(crate) use reflectors::{reflect, reflector};

/// A copy of a row-major n×n matrix that is orthogonal to a ratio of 30, for 1 ≤ n < 2³².
fn orthogonal(n: usize, q: &[f64]) -> Result<Vec<f64>> {
    if n == 0 || u32::try_from(n).is_err() {
        let expected = "1 <= n < 2^32".to_string();
        return Err(Error::Size { what: "matrix", expected, got: format!("n = {n}") });
    }
    check_length("matrix", n.saturating_mul(n), q.len())?;
    let ratio = orthogonality_ratio(n, q)?;
    if ratio <= ORTHOGONAL {
        return Ok(q.to_vec());
    }
    Err(Error::Domain {
        what: "matrix".to_string(),
        expected: "a rotation: orthogonality ratio at most 30, determinant 1",
        got: format!("ratio {ratio:e}"),
    })
}

/// `Err` for a determinant of −1.
fn check_determinant(determinant: f64) -> Result<()> {
    if determinant > 0.0 {
        return Ok(());
    }
    Err(Error::Domain {
        what: "matrix".to_string(),
        expected: "a rotation: orthogonality ratio at most 30, determinant 1",
        got: "determinant -1".to_string(),
    })
}

/// The angle φ for which G(φ)ᵀ takes (x, y) to (0, r) or, if `first`, to (r, 0), with r ≥ 0, where
/// G(φ) = [[cos φ, −sin φ], [sin φ, cos φ]].
fn eliminating(x: f64, y: f64, first: bool) -> f64 {
    match (x == 0.0 && y == 0.0, first) {
        (true, _) => 0.0,
        (_, true) => Float::atan2(y, x),
        (_, false) => Float::atan2(0.0 - x, y),
    }
}
