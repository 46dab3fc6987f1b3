//! Algebra of small dense blocks, in double precision: what a chart needs, and what a chart of your own may call.
//!
//! Blocks are b×b, row-major, in one slice of length b². The public functions work on one block of `f64` (or of any
//! [`Wide`](crate::Wide) number); inside the crate the same code runs over packs of blocks, one block per lane.
//!
//! * [`defect`], [`orthogonality_ratio`]: how far a block is from orthogonal.
//! * [`polish`]: Newton–Schulz steps that take rounding errors out of a nearly orthogonal block.
//! * [`solve`]: X·M = B with partial pivoting.
//! * [`exp_skew`]: the exponential of a skew (skew-Hermitian) block.
//! * [`log_rotation`]: the principal logarithm of a rotation or unitary block.
//! * [`skew_index`]: where the entries of a skew block are among its parameters.
//! * [`skew_resolvent`]: (I + A)⁻¹ for a skew (skew-Hermitian) A of any size, structure preserved.

pub(crate) mod blocks;
mod determinant;
pub(crate) mod double_double;
mod exponential;
#[cfg(test)]
pub(crate) mod extended;
mod gram;
mod haar;
mod invert;
mod jacobi;
mod logarithm;
pub(crate) mod pack;
mod planes;
mod polish;
mod product;
mod rank;
pub(crate) mod register;
mod resolvent;
pub(crate) mod skew;
mod solve;
mod triangles;

pub(crate) use determinant::determinant_sign;
pub(crate) use double_double::DoubleDouble;
pub use exponential::exp_skew;
pub(crate) use exponential::{Series, closed_dexp, exponentials, is_closed};
pub use gram::{defect, orthogonality_ratio};
pub(crate) use gram::{one_norm, subtract_gram, subtract_gram_on};
pub(crate) use haar::haar_rotation;
pub(crate) use invert::{invert_unpivoted, room};
pub(crate) use jacobi::{annihilating, hermitian_eigen};
pub use logarithm::log_rotation;
pub use polish::polish;
pub(crate) use polish::{newton_schulz, newton_schulz_on, polish_with};
pub(crate) use product::{Product, Shape, Sum, product, product_here, product_on, scale, squares};
pub(crate) use rank::{Rank, rank};
pub use resolvent::skew_resolvent;
pub(crate) use resolvent::skew_resolvent_with;
pub use skew::skew_index;
pub use solve::solve;

use crate::error::{Error, Result};

/// Machine epsilon 2u = 2⁻⁵², the unit of every ratio here.
pub(crate) const EPS: f64 = f64::EPSILON;

/// The ratio up to which a block counts as orthogonal where one is taken from outside: LAPACK's own test threshold.
pub(crate) const ORTHOGONAL: f64 = 30.0;

/// `Err` unless a slice holds one b×b block.
fn check_block(what: &'static str, b: usize, got: usize) -> Result<()> {
    let expected = b.saturating_mul(b);
    if got == expected { Ok(()) } else { Err(Error::Length { what, expected, got }) }
}
