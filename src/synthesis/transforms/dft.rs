//! The discrete Fourier transform, unitary.
//!
//! Decimation in time with mixed radices (J. Cooley and J. Tukey, Math. Comp. 19, 1965): with radix r on transforms E⁽ˢ⁾ of
//! size m, X_{k+mq} = r^{−½} Σ_s e^{−2πis(k+mq)/(rm)} E⁽ˢ⁾_k, a strided stage of unitary r×r blocks at distance m, which hold
//! twiddles and the transform of size r together. Digits are reversed before, by swaps: one stage where the radices are a
//! palindrome, as they are for powers of 2, otherwise two.

use alloc::vec::Vec;

use super::angles::cos_sin;
use super::radices::{reversed, symmetric};
use super::swaps;
use crate::error::Result;
use crate::layout::StageLayout;
use crate::plan::{Plan, Source};
use crate::scalar::{Scalar, c64};

/// The unitary discrete Fourier transform y_k = n^{−½} Σ x_j e^{−2πijk/n}; its inverse is the adjoint plan.
///
/// For n = 4ᵏ a stage of swaps and k of blocks of 4: 4k + 2 complex multiply-adds for each number. Without the swaps, in
/// `plan.stages()[1..]`, it takes bit-reversed inputs.
///
/// ```
/// use papilio::{Orthogonal, c64, synthesis};
/// let q = Orthogonal::new(synthesis::dft::<c64>(4)?, [0.0; 0])?;
/// let y = q.apply(&[0.0, 1.0, 0.0, 0.0].map(c64::from))?;
/// assert_eq!(y, [(0.5, 0.0), (0.0, -0.5), (-0.5, 0.0), (0.0, 0.5)].map(|(re, im)| c64 { re, im }));
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Size`](crate::Error::Size) unless 1 ≤ n ≤ 2²⁴ and no prime factor of n is above 31.
pub fn dft<T: Scalar<Wide = c64>>(n: usize) -> Result<Plan<T>> {
    let radices = symmetric("DFT", n)?;
    let to: Vec<u32> = (0..n).map(|i| reversed(&radices, i) as u32).collect();
    let swapped = swaps::stages(&to).into_iter();
    let mut stages: Vec<_> =
        swapped.map(|(layout, blocks)| (layout, Source::Fixed(blocks.into_iter().map(c64::from).collect()))).collect();
    let mut m = 1;
    for r in radices {
        let (size, groups) = (r * m, n / (r * m));
        let scale = 1.0 / num_traits::Float::sqrt(r as f64);
        let mut blocks = Vec::with_capacity(n * r);
        for k in 0..m {
            for f in (0..r).map(|q| k + m * q) {
                blocks.extend((0..r).map(|s| root(-2 * ((s * f) % size) as i64, size as i64) * scale));
            }
        }
        let layout = StageLayout::Strided { unit: 1, radix: r, distance: m, groups };
        stages.push((layout, Source::Fixed(blocks.repeat(groups).into())));
        m = size;
    }
    Plan::from_stages(n, stages)
}

/// e^{πip/q}.
fn root(p: i64, q: i64) -> c64 {
    let (re, im) = cos_sin(p, q);
    c64 { re, im }
}
