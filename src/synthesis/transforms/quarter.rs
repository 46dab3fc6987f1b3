//! Cosine and sine transforms of type IV: basis functions at odd quarters of a period at both ends.
//!
//! Y = y_{2k} − i·y_{n−1−2k} is, for z_j = x_{2j} + i·x_{n−1−2j} and even n,
//!
//! > Y_k = (2/n)^½ Σ_j e^{−iθ} z_j, θ = π(4k + 1)(4j + 1)/(4n) = 2πjk/(n/2) + πj/n + π(4k + 1)/(4n):
//!
//! a complex transform of n/2 numbers between two diagonals of phases (P. Duhamel, Y. Mahieux and J. Petit, A fast algorithm
//! for the implementation of filter banks based on time domain aliasing cancellation, ICASSP 1991). Its stages are those of
//! `dft.rs`, each complex block of r as a real one of 2r; the phases only add to the angles of the first and the last stage.
//! x_{2j} and x_{n−1−2j} start where y_{2k} and y_{n−1−2k} end, k being j with its digits reversed; so they take one stage of
//! swaps where the radices are a palindrome, as they are for powers of 2.
//!
//! DST-IV is J·C·D (rows reversed, odd columns negated), by sin(π(2j + 1)/2 − φ) = (−1)ʲ cos φ. For even n the odd columns are
//! the imaginary parts.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use num_traits::Float;

use super::angles::cos_sin;
use super::radices::{reversed, symmetric};
use super::{Stages, plan, swaps};
use crate::error::{Error, Result};
use crate::layout::StageLayout;
use crate::plan::Plan;
use crate::scalar::Scalar;

/// The discrete cosine transform of type IV, y_k = (2/n)^½ Σ x_j cos(π(2j + 1)(2k + 1)/(4n)), which is its own inverse.
///
/// For n = 2·4ᵏ a stage of swaps and k of blocks of 8: 8k + 2 multiply-adds for each number.
///
/// # Errors
/// [`Error::Size`] unless n is even or 1, at most 2²⁴, and no prime factor of n is above 31.
pub fn dct4<T: Scalar>(n: usize) -> Result<Plan<T>> {
    plan(n, stages("DCT-IV", n, false)?)
}

/// The discrete sine transform of type IV, y_k = (2/n)^½ Σ x_j sin(π(2j + 1)(2k + 1)/(4n)), which is its own inverse.
///
/// The stages are those of [`dct4`].
///
/// # Errors
/// Those of [`dct4`].
pub fn dst4<T: Scalar>(n: usize) -> Result<Plan<T>> {
    plan(n, stages("DST-IV", n, true)?)
}

fn stages(what: &'static str, n: usize, mirrored: bool) -> Result<Stages> {
    let half = n / 2;
    if n == 1 {
        return Ok(Vec::new()); // √2·cos(π/4) = √2·sin(π/4) = 1
    }
    if n % 2 == 1 {
        let expected = "an even n, or 1".to_string();
        return Err(Error::Size { what, expected, got: format!("n = {n}") });
    }
    let mut radices = symmetric(what, n).and_then(|_| symmetric(what, half))?;
    if radices.is_empty() {
        radices.push(1); // nothing but phases
    }
    // Coordinates of real and imaginary part k.
    let of = |k: usize| if mirrored { [n - 1 - 2 * k, 2 * k] } else { [2 * k, n - 1 - 2 * k] };
    let origins: Vec<usize> = {
        let mut origins = vec![0; half];
        (0..half).for_each(|j| origins[reversed(&radices, j)] = j);
        origins
    };
    let mut to = vec![0; n];
    for (place, j) in origins.iter().enumerate() {
        let [re, im] = of(place);
        (to[2 * j], to[n - 1 - 2 * j]) = (re as u32, im as u32);
    }
    let mut stages = swaps::stages(&to);
    let mut m = 1;
    for r in radices {
        let (size, scale) = (r * m, Float::sqrt(1.0 / r as f64));
        let (first, last) = (m == 1, size == half);
        let mut index = Vec::with_capacity(n);
        for base in (0..half).step_by(size) {
            index.extend((0..m).flat_map(|k| (0..r).flat_map(move |s| of(base + k + s * m))).map(|i| i as u32));
        }
        // All transforms of a stage have the same blocks, but for the phases of inputs.
        let distinct = if first { half } else { size };
        let mut blocks = Vec::with_capacity(2 * r * n);
        for base in (0..distinct).step_by(size) {
            for f in (0..m).flat_map(|k| (0..r).map(move |q| k + m * q)) {
                // In units of π/(4n), without the column's part.
                let phase = if last { 4 * f as i64 + 1 } else { 0 };
                let angle = |s: usize| {
                    let column = if first { 4 * origins[base + s] as i64 } else { 0 };
                    cos_sin(phase + column + 16 * (half / size * s * f) as i64, 4 * n as i64)
                };
                let angles: Vec<_> = (0..r).map(angle).collect();
                let minus = if first && mirrored { -scale } else { scale };
                blocks.extend(angles.iter().flat_map(|(c, s)| [scale * c, minus * s]));
                let (cosines, sines) = if last { (0.0 - minus, scale) } else { (minus, 0.0 - scale) };
                blocks.extend(angles.iter().flat_map(|(c, s)| [sines * s, cosines * c]));
            }
        }
        let blocks = blocks.repeat(half / distinct);
        stages.push((StageLayout::Table { block: 2 * r, index: index.into() }, blocks));
        m = size;
    }
    Ok(stages)
}
