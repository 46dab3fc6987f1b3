//! The exponential of skew-Hermitian blocks: closed forms for the small ones, scaling and squaring for the others.

use alloc::{vec, vec::Vec};

use super::blocks::store;
use super::check_block;
use super::pack::Pack;
use super::skew::{read_skew, skew_size};
use crate::error::Result;
use crate::scalar::Wide;
use crate::simd::{Lanes, Portable};

mod closed;
mod series;

pub(crate) use closed::{dexp as closed_dexp, is_closed};
pub(crate) use series::Series;

/// exp A of consecutive blocks given by skew storage, `T::COUNT` at a time where there is no closed form.
#[inline(always)]
pub(crate) fn exponentials<W: Wide, T: Pack<W>, S: Lanes<f64>>(s: S, b: usize, theta: &[f64], blocks: &mut [W]) {
    let (params, size) = (skew_size::<W>(b), b * b);
    if blocks.is_empty() {
        return;
    }
    if is_closed::<W>(b) {
        for (j, block) in blocks.chunks_exact_mut(size).enumerate() {
            closed::exponential(b, &theta[j * params..(j + 1) * params], block);
        }
        return;
    }
    let mut series = Series::<T>::new(b, false);
    for (blocks, theta) in blocks.chunks_mut(size * T::COUNT).zip(theta.chunks(params * T::COUNT)) {
        series.load(s, params, theta);
        store(s, size, series.exponential(s), blocks);
    }
}

/// exp A for a skew (skew-Hermitian) b×b matrix A, written to `q`: a rotation (unitary matrix) to LAPACK ratio ≤ 1,
/// or nearly so: 1.2 was seen for unitary 2×2 blocks.
///
/// Only entries on and above the diagonal are read; the others, and the real parts of the diagonal, are taken to make A
/// skew-Hermitian. The angles are accurate to about u‖A‖, which is the conditioning. Entries that are not finite make the
/// result NaN. Mathematics: closed forms for b ≤ 4 (real) and b ≤ 2 (complex), otherwise scaling and squaring.
///
/// ```
/// let mut q = [0.0; 4];
/// papilio::dense::exp_skew(2, &[0.0, 0.5, -0.5, 0.0], &mut q)?;
/// assert!((q[1] - f64::sin(0.5)).abs() < 1e-15 && (q[0] - f64::cos(0.5)).abs() < 1e-15);
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Length`](crate::Error::Length) unless both slices have length b².
pub fn exp_skew<W: Wide>(b: usize, a: &[W], q: &mut [W]) -> Result<()> {
    check_block("a", b, a.len())?;
    check_block("q", b, q.len())?;
    let mut theta: Vec<f64> = vec![0.0; skew_size::<W>(b)];
    read_skew(b, |at| a[at], |at, t| theta[at] = t);
    exponentials::<W, W, Portable>(Portable, b, &theta, q);
    Ok(())
}
