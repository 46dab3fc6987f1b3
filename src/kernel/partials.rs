//! Gradients of entries are sums over the batch: partial ones, of pieces of the batch, added in order.

use alloc::vec::Vec;

use num_traits::Zero;

use super::Both;
use crate::batch::{Batch, BatchMut};
use crate::parallel::{self, Parallelism, Pool};
use crate::scalar::{Element, Scalar};

/// Partial gradients that are summed in order at the end: enough for a few cores, few enough to stay small.
const PARTIALS: usize = 8;

/// Vectors of a piece, at least: to begin a partial gradient and to add it costs as much as about 13 vectors.
const AT_LEAST: usize = 32;

/// Numbers of a gradient to which all partial ones are added while they are in a cache.
const ADDED: usize = 4096;

/// Calls `work` with consecutive vectors, from one to before the other and a multiple of `width`, with their part of `gx`, and
/// with gradients to add to. Those are summed in order at the end.
pub(super) fn in_pieces<E: Element>(
    width: usize,
    gy: Batch<'_, E>,
    gx: Option<BatchMut<'_, E>>,
    d_factors: Option<Both<&mut [E::Scalar]>>,
    parallelism: Parallelism,
    pool: &Pool,
    work: impl Fn((usize, usize), Option<BatchMut<'_, E>>, Option<Both<&mut [E::Scalar]>>) + Send + Sync,
) {
    let chunks = gy.batch().div_ceil(width);
    let pieces = gy.batch().div_ceil(width.max(AT_LEAST)).min(PARTIALS);
    let cuts: Vec<usize> = (1..=pieces).map(|p| (p * chunks / pieces * width).min(gy.batch())).collect();
    if pieces == 0 {
        return;
    }
    let mut d_factors = d_factors;
    let (entries, couplings) = d_factors.as_ref().map_or((0, 0), |d| (d.0.len(), d.1.len()));
    let mut gx: Vec<Option<BatchMut<'_, E>>> = match gx {
        Some(gx) => gx.split(cuts.iter().copied()).map(Some).collect(),
        None => cuts.iter().map(|_| None).collect(),
    };
    if let ([end], Some(gx)) = (&cuts[..], gx.pop_if(|_| pieces == 1)) {
        return work((0, *end), gx, d_factors); // no partial sums
    }
    let (wanted, numbers) = (d_factors.is_some(), entries + couplings);
    // One after the other they share a partial gradient, which stays in cache.
    let held = if parallelism == Parallelism::None { 1 } else { pieces };
    pool.with(held * numbers, |partials: &mut [E::Scalar]| {
        let starts = core::iter::once(0).chain(cuts.iter().copied());
        let items = starts.zip(&cuts).zip(gx.drain(..)).map(|((start, end), gx)| (start, *end, gx));
        if held < pieces {
            for (start, end, gx) in items {
                partials.fill(E::Scalar::zero());
                work((start, end), gx, wanted.then(|| partials.split_at_mut(entries)));
                add(partials, &mut d_factors, parallelism);
            }
            return;
        }
        let mut gradients = partials.chunks_mut(numbers.max(1));
        let items = items
            .map(|(start, end, gx)| (start, end, gx, wanted.then(|| gradients.next().unwrap_or_default())))
            .collect();
        parallel::for_each(parallelism, items, |(start, end, gx, mut d)| {
            if let Some(d) = &mut d {
                d.fill(E::Scalar::zero());
            }
            work((start, end), gx, d.map(|d| d.split_at_mut(entries)));
        });
        add(partials, &mut d_factors, parallelism);
    });
}

/// d_factors += all partial gradients, one after the other.
fn add<T: Scalar>(partials: &[T], d_factors: &mut Option<Both<&mut [T]>>, parallelism: Parallelism) {
    let Some((entries, couplings)) = d_factors else { return };
    let numbers = entries.len() + couplings.len();
    let start = entries.len();
    let parts = entries.chunks_mut(ADDED).zip((0..).step_by(ADDED));
    let parts = parts.chain(couplings.chunks_mut(ADDED).zip((start..).step_by(ADDED)));
    parallel::for_each(parallelism, parts.collect(), |(d, start)| {
        for partial in partials.chunks_exact(numbers) {
            d.iter_mut().zip(&partial[start..]).for_each(|(d, p)| *d += *p);
        }
    });
}
