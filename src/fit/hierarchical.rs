//! Hierarchical factorization (the butterfly algorithm; Le, Zheng, Riccietti, Gribonval: arXiv 2110.01230, 2411.04506), with a polar
//! projection at every split.
//!
//! Cut the stages of a butterfly between k − 1 and k: R = X·Y. With s = u·r₀···r_{k−1}, coordinates are (a, t, σ) = a·s + t·u + σ, 0 ≤ σ < u. The
//! lower stages Y keep a, the upper ones X keep t: X consists of blocks X_t on (a, σ), Y of blocks Y_J on (t, σ). So the part of R in the rows
//! with this t and the columns with first digit J is
//!
//! > R[(·, t, ·), (J, ·, ·)] = X_t[:, (J, ·)]·Y_J[(t, ·), :],
//!
//! a matrix of rank u; and these parts tile R. Each part of the target is replaced by its best approximation of rank u, its factors become
//! columns of X_t and rows of Y_J, both are projected to the orthogonal group, and are butterflies of fewer stages with the same unit.
//! For a target in the class all singular values are 1 and nothing is lost: the result is exact after one pass, which reads the target
//! once; all later splits together are a √n-th of it.
//!
//! *Bound.* For orthogonal X and Y, Re tr(QᴴR) is a sum of ⟨part, X_t[:, J]·Y_J[t, :]⟩ ≤ Σ_{i≤u} σ_i(part). So every orthogonal product of these
//! layouts has e ≥ 1 − (1/n)·Σ_parts Σ_{i≤u} σ_i: [`Fit::bound`], from the first split, with sums that are bounded from above (`rank.rs`). What the
//! fit is above that is what could be gained at most.

use alloc::vec;
use alloc::vec::Vec;

use super::chain::{Chain, Found, by_windows};
use super::polar::nearest;
use super::rank::Parts;
use super::relax::inner;
use super::{Fit, Options, Target};
use crate::dense::{self, EPS};
use crate::error::Result;
use crate::layout::StageLayout;
use crate::parallel::{Parallelism, for_each};
use crate::scalar::Wide;
use crate::simd::Isa;

/// One pass over layouts that chain: butterflies of any radices, BOFT's block butterflies, upwards or downwards, whole or cut into
/// windows. Exact for targets in the class; [`Fit::bound`] tells how far from the best it may be elsewhere.
///
/// # Errors
/// As [`alternating`](super::alternating); [`Error::Unsupported`](crate::Error::Unsupported) for layouts that do not chain.
pub fn hierarchical<W: Wide>(target: &Target<W>, stages: &[StageLayout], options: &Options) -> Result<Fit<W>> {
    let (blocks, bound) = factors(target, stages, options)?;
    let mut fit = Fit::new(target, stages, blocks, options.parallelism)?;
    fit.bound = Some(bound);
    Ok(fit)
}

/// The blocks of all stages, and the bound.
pub(super) fn factors<W: Wide>(target: &Target<W>, stages: &[StageLayout], options: &Options) -> Result<Found<W>> {
    let find = |chain: &Chain, a: &[W]| Ok(split(a, target.n(), chain.unit, &chain.radices, true, options.parallelism));
    let (blocks, gain) = by_windows(target, stages, options, find)?;
    Ok((blocks, (1.0 - gain / target.n() as f64).max(0.0)))
}

/// The blocks of each stage in the order of its layout, for the leading window of a matrix with rows at a distance of `pitch`, and the
/// gain that no orthogonal product exceeds, if that is wanted.
fn split<W: Wide>(
    a: &[W],
    pitch: usize,
    u: usize,
    radices: &[usize],
    bounded: bool,
    parallelism: Parallelism,
) -> Found<W> {
    if let [radix] = radices {
        let b = u * radix;
        let mut block: Vec<W> = a.chunks(pitch).take(b).flat_map(|row| row[..b].iter().copied()).collect();
        let wanted = block.clone();
        nearest(b, &mut block, &[0], Isa::detect(), Parallelism::None);
        let gain = inner(&wanted, &block); // Σσ, to rounding
        return (vec![block], gain * (1.0 + 16.0 * b as f64 * EPS));
    }
    let k = radices.len() / 2;
    let s = u * radices[..k].iter().product::<usize>();
    let q = radices[k..].iter().product::<usize>();
    let t = s / u;
    // X_t, one after the other, and the rows (t, ·) of all Y_J.
    let (mut x, mut rows) = (vec![W::zero(); t * (q * u) * (q * u)], vec![W::zero(); t * q * u * s]);
    let mut gains = vec![0.0; t];
    let items = x.chunks_exact_mut(q * u * q * u).zip(rows.chunks_exact_mut(q * u * s)).zip(&mut gains).enumerate();
    for_each(parallelism, items.collect(), |(t, ((x, rows), gain))| {
        Parts { a: &a[t * u * pitch..], pitch, u, s, q }.factor(x, rows, bounded.then_some(gain));
    });
    let mut y = vec![W::zero(); q * s * s];
    for (t, rows) in rows.chunks_exact(q * u * s).enumerate() {
        for (j, rows) in rows.chunks_exact(u * s).enumerate() {
            y[(j * s + t * u) * s..][..u * s].copy_from_slice(rows);
        }
    }
    let lower = below(&mut y, s, u, &radices[..k], parallelism);
    let upper = below(&mut x, q * u, u, &radices[k..], parallelism);

    let mut stages: Vec<Vec<W>> =
        (0..k).map(|l| lower.iter().flat_map(|found| found[l].iter().copied()).collect()).collect();
    // Block (g, q') of X_t is block (g, q'·(s/u) + t) of the whole.
    let mut inner = 1; // the distance in units of u
    for (l, radix) in radices[k..].iter().enumerate() {
        let size = (u * radix) * (u * radix);
        let groups = q / (inner * radix);
        let mut stage = Vec::with_capacity(t * upper[0][l].len());
        for block in 0..groups * inner {
            for found in &upper {
                stage.extend_from_slice(&found[l][block * size..(block + 1) * size]);
            }
        }
        stages.push(stage);
        inner *= radix;
    }
    (stages, gains.iter().sum())
}

/// The factors of matrices of size w one after the other, which are replaced by their polar factors first.
fn below<W: Wide>(all: &mut [W], w: usize, u: usize, radices: &[usize], parallelism: Parallelism) -> Vec<Vec<Vec<W>>> {
    if radices.len() > 1 {
        // What rounding has left needs no singular values.
        let mut far = vec![false; all.len() / (w * w)];
        let items: Vec<_> = all.chunks_exact_mut(w * w).zip(&mut far).collect();
        for_each(parallelism, items, |(x, far)| *far = dense::polish(w, x).is_err());
        if far.contains(&true) {
            let parity = vec![0; far.len()];
            nearest(w, all, &parity, Isa::detect(), parallelism);
        }
    }
    let count = all.len() / (w * w).max(1);
    let mut found: Vec<Vec<Vec<W>>> = vec![Vec::new(); count];
    let items: Vec<_> = all.chunks_exact(w * w).zip(&mut found).collect();
    for_each(parallelism, items, |(x, found)| *found = split(x, w, u, radices, false, Parallelism::None).0);
    found
}
