//! Orthonormal wavelets, periodic: lattices of plane rotations.
//!
//! One level with a low-pass filter h of 2L taps takes x of even length l to
//!
//! > a_j = Σ_t h_t x_{2j+t}, d_j = Σ_t g_t x_{2j+t}, g_t = (−1)ᵗ h_{2L−1−t}, indices mod l,
//!
//! and goes on with a. It is orthogonal if and only if Σ_t h_t h_{t+2s} is 1 for s = 0 and 0 otherwise.
//!
//! **Lattice** (P. Vaidyanathan and P.-Q. Hoang, Lattice structures for optimal design and robust implementation of two-channel
//! perfect-reconstruction QMF banks, IEEE TASSP 36, 1988). Such a level is L stages of rotations, laid like bricks: stage i
//! turns pairs (2j + i, 2j + i + 1), each stage with one angle. For say p and q are the filters of the first and the second of
//! a pair after stage i, of 2(i + 1) taps: then with
//! the rotation [[a, −c], [c, a]] whose (a, c) takes the last two taps from U = ap + cq, V = −cp + aq has lost its first two, by
//! orthogonality: U is the filter of the second of one pair before that stage and V, two taps later, that of the first of the
//! next. A filter of two taps is one orthogonal block; for the pair (h, g) that is a reflection.
//!
//! Haar's is L = 1: [[1, 1], [1, −1]]/√2. In all, n blocks at most for each two taps, O(n) for all levels. As tables may name any
//! coordinates, levels work in place, and outputs are put in order by one permutation of the inputs.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use core::f64::consts::FRAC_1_SQRT_2;

use num_traits::Float;

use super::radices::{check_size, logarithm};
use super::{Stages, plan, swaps};
use crate::dense::{EPS, ORTHOGONAL};
use crate::error::{Error, Result};
use crate::layout::StageLayout;
use crate::plan::Plan;
use crate::scalar::Scalar;

/// Daubechies' filter of 4 taps and two vanishing moments, (1 + √3, 3 + √3, 3 − √3, 1 − √3)/(4√2).
pub const DAUBECHIES_4: [f64; 4] =
    [0.482_962_913_144_534_16, 0.836_516_303_737_807_9, 0.224_143_868_042_013_4, -0.129_409_522_551_260_38];

/// Daubechies' filter of 6 taps and three vanishing moments: with a = √10, b = √(5 + 2a), it is
/// (1 + a + b, 5 + a + 3b, 10 − 2a + 2b, 10 − 2a − 2b, 5 + a − 3b, 1 + a − b)/(16√2).
pub const DAUBECHIES_6: [f64; 6] = [
    0.332_670_552_950_082_6,
    0.806_891_509_311_092_6,
    0.459_877_502_118_491_57,
    -0.135_011_020_010_254_58,
    -0.085_441_273_882_026_66,
    0.035_226_291_885_709_53,
];

/// The orthonormal Haar transform of n = 2ᵏ coordinates: of all levels the differences (x_{2j} − x_{2j+1})/√2, sums going on to the
/// next; y = (sum of all, difference of the last level, 2 of the one before, …, n/2 of the first). Its inverse is the adjoint
/// plan.
///
/// ```
/// use papilio::{Orthogonal, synthesis};
/// let q = Orthogonal::new(synthesis::haar::<f64>(4)?, [0.0; 0])?;
/// let y = q.apply(&[4.0, 2.0, 5.0, 5.0])?;
/// let expected = [8.0, -2.0, 2f64.sqrt(), 0.0];
/// assert!(y.iter().zip(expected).all(|(y, e)| (y - e).abs() < 1e-14));
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Size`] unless n is a power of 2, at most 2²⁴.
pub fn haar<T: Scalar>(n: usize) -> Result<Plan<T>> {
    let levels = logarithm("Haar transform", n)?;
    wavelet(n, levels, &[FRAC_1_SQRT_2; 2])
}

/// `levels` levels of the periodic orthonormal wavelet transform with the low-pass filter h, which has 2L taps:
/// a_j = Σ_t h_t x_{2j+t}, d_j = Σ_t (−1)ᵗ h_{2L−1−t} x_{2j+t}, then the same of a. y = (a of the last level, d of the last, …, d of the
/// first). Its inverse is the adjoint plan.
///
/// L stages of 2×2 rotations for each level, and at most two of swaps.
///
/// ```
/// use papilio::{Orthogonal, synthesis};
/// let q = Orthogonal::new(synthesis::wavelet::<f64>(96, 5, &synthesis::DAUBECHIES_6)?, [0.0; 0])?;
/// let y = q.apply(&[1.0; 96])?; // constants have no details
/// assert!(y[3..].iter().all(|d| d.abs() < 1e-13));
/// # Ok::<(), papilio::Error>(())
/// ```
///
/// # Errors
/// [`Error::Size`] unless n is a multiple of 2 to the number of levels, at most 2²⁴, and the number of taps even and positive;
/// [`Error::Domain`] for a filter that is not orthonormal to 30 units of the last digit.
pub fn wavelet<T: Scalar>(n: usize, levels: usize, filter: &[f64]) -> Result<Plan<T>> {
    check_size("wavelet transform", n)?;
    if levels > n.trailing_zeros() as usize {
        let expected = format!("at most {} levels for n = {n}", n.trailing_zeros());
        return Err(Error::Size { what: "wavelet transform", expected, got: levels.to_string() });
    }
    let lattice = lattice(filter)?;
    // Slots keep their place; `current` are those that hold the inputs of a level, in order.
    let mut current: Vec<usize> = (0..n).collect();
    let (mut tables, mut to) = (Vec::new(), alloc::vec![0; n]);
    for _ in 0..levels {
        let half = current.len() / 2;
        let at = |i: usize| current[i % current.len()];
        for (i, block) in lattice.iter().enumerate() {
            let pairs: Vec<usize> = (0..half).flat_map(|j| [at(2 * j + i), at(2 * j + i + 1)]).collect();
            tables.push((pairs, block));
        }
        let last = lattice.len() - 1;
        (0..half).for_each(|j| to[at(2 * j + last + 1)] = (half + j) as u32);
        current = (0..half).map(|j| at(2 * j + last)).collect();
    }
    (0..).zip(&current).for_each(|(place, slot)| to[*slot] = place);
    let mut stages: Stages = swaps::stages(&to);
    stages.extend(tables.into_iter().map(|(pairs, block)| {
        let index = pairs.iter().map(|slot| to[*slot]).collect();
        (StageLayout::Table { block: 2, index }, block.repeat(pairs.len() / 2))
    }));
    plan(n, stages)
}

/// The blocks of the stages of a level.
fn lattice(h: &[f64]) -> Result<Vec<[f64; 4]>> {
    if h.is_empty() || h.len() % 2 == 1 {
        let expected = "an even number of taps".to_string();
        return Err(Error::Size { what: "wavelet filter", expected, got: h.len().to_string() });
    }
    for shift in (0..h.len()).step_by(2) {
        let sum: f64 = h.iter().zip(&h[shift..]).map(|(x, y)| x * y).sum();
        let ratio = Float::abs(sum - if shift == 0 { 1.0 } else { 0.0 }) / EPS;
        if ratio.is_nan() || ratio > ORTHOGONAL {
            return Err(Error::Domain {
                what: "wavelet filter".to_string(),
                expected: "taps orthonormal to their even shifts, to 30 units of the last digit",
                got: format!("{sum} at shift {shift}"),
            });
        }
    }
    let mut p = h.to_vec();
    let signed = |(t, h): (usize, &f64)| if t % 2 == 0 { *h } else { -h };
    let mut q: Vec<f64> = h.iter().rev().enumerate().map(signed).collect();
    let mut blocks = Vec::new();
    while let l @ 4.. = p.len() {
        // (a, c) from the pair of taps that says most: last ones of U, or first ones of V.
        let candidates = [(q[l - 2], -p[l - 2]), (q[l - 1], -p[l - 1]), (p[0], q[0]), (p[1], q[1])];
        let norm = |(a, c): (f64, f64)| Float::hypot(a, c);
        let (a, c) = candidates.into_iter().max_by(|x, y| norm(*x).total_cmp(&norm(*y))).unwrap_or((1.0, 0.0));
        let length = norm((a, c));
        let (a, c) = if length > 0.0 { (a / length, c / length) } else { (1.0, 0.0) };
        blocks.push([a, -c, c, a]);
        let both = || p.iter().zip(&q);
        let u: Vec<f64> = both().map(|(p, q)| a * p + c * q).take(l - 2).collect();
        let v: Vec<f64> = both().map(|(p, q)| a * q - c * p).skip(2).collect();
        (p, q) = (v, u);
    }
    blocks.push([p[0], p[1], q[0], q[1]]);
    blocks.reverse();
    Ok(blocks)
}
